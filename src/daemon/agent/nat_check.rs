//! What NAT this machine is behind, without an agent that runs.

use super::answers::NatReport;
use super::forwarding::{Forwarding, find_gateway};
use super::membership::find_relays;
use super::surroundings::local_addresses;
use super::{AgentError, AgentFiles, ControlClient, Duration, ServerUrl, SocketAddr, now};
use crate::agent::AgentOutput;
use crate::agent::nat_check::NatCheck;
use crate::agent::network::{ListedRelay, RelayAddress};
use crate::agent::session::ApiRequest;
use crate::crypto::x25519::PublicKey;
use crate::crypto::{hex, random};
use crate::datagram::Path as Ends;
use crate::net::extra_socket::ExtraSocket;
use crate::wire::control::{read_detail, read_relays, read_token};
use crate::wire::endpoint;
use smol::Timer;
use smol::future::{FutureExt, pending};
use std::path::Path;

/// A router that has not answered by then does not forward.
const ROUTER_TIME: Duration = Duration::from_secs(12);

/// Finds out what NAT this machine is behind, by the relay of `server`; without one, of the party of before. The answer
/// is as a running agent's.
pub fn check_nat(server: Option<ServerUrl>, state_dir: &Path) -> Result<String, AgentError> {
    let kept = AgentFiles::new(state_dir).and_then(|files| files.read()).ok().flatten();
    // That of the agent, where it stays the same.
    let port = kept.as_ref().map_or(0, |kept| kept.port);
    let of_before = || ServerUrl::parse(&kept?.membership?.server).ok();
    let server = server.or_else(of_before).ok_or_else(|| {
        AgentError::Owner(
            "this machine takes part in no party: say the server to ask, `lanrage nat URL`".into(),
        )
    })?;
    smol::block_on(check(ControlClient::new(server), port)).map_err(AgentError::Owner)
}

async fn ask(
    client: &ControlClient,
    method: &'static str,
    path: &str,
    token: Option<String>,
) -> Result<Vec<u8>, String> {
    let request = ApiRequest { method, path: path.to_owned(), token, body: String::new() };
    let reply = client.ask(&request).await?;
    match reply.status {
        200 => Ok(reply.body),
        status => {
            let detail = read_detail(&reply.body).unwrap_or_else(|| format!("status {status}"));
            Err(format!("{}: {detail}", client.url()))
        }
    }
}

/// The relays that the server lists, and which of them is its own, where that can be told.
async fn list_relays(client: &ControlClient) -> Result<(SocketAddr, PublicKey, Vec<ListedRelay>), String> {
    let id = format!("nat-check-{}", hex::encode(&random::bytes::<6>()));
    let token = read_token(&ask(client, "POST", &format!("/auth/register?peer_id={id}"), None).await?)?;
    let listed = read_relays(&ask(client, "GET", "/relays", Some(token)).await?)?;
    let listed = find_relays(&listed, true).await;
    let with_hub = listed.iter().filter_map(|relay| Some((relay.endpoint, relay.key?)));
    let found: Vec<_> = with_hub.filter(|(address, _)| address.is_ipv4()).collect();
    let server = client.reached().map(|(server, _)| server.ip());
    let own = found.iter().find(|(address, _)| Some(address.ip()) == server).or(found.first());
    let Some(&(address, key)) = own else {
        return Err(format!(
            "{} lists no relay of lanrage's with an IPv4 address, so there is nobody to ask",
            client.url()
        ));
    };
    Ok((address, key, listed))
}

/// Sends from the one socket of a check.
struct FromHere<'a>(&'a ExtraSocket);

impl AgentOutput for FromHere<'_> {
    fn send(&mut self, to: Ends, datagram: &[u8]) {
        self.0.send(to.remote, datagram);
    }

    fn deliver(&mut self, _packet: &[u8]) {}
}

async fn check(client: ControlClient, own_port: u16) -> Result<String, String> {
    let (relay, key, listed) = list_relays(&client).await?;
    let socket = ExtraSocket::open().map_err(|error| error.to_string())?;
    let port = socket.port();
    let links = local_addresses(port, "").map_err(|errno| errno.to_string())?;
    let relay = RelayAddress { endpoint: relay, stun_port: relay.port().checked_add(1), key };
    let probe = async {
        let mut check = NatCheck::new(relay, &listed, links.clone(), now().instant);
        let mut buffer = [0; 512];
        while let Some(due) = check.next(now().instant) {
            check.poll(now().instant, &mut FromHere(&socket));
            let wait = async {
                Timer::after(due.since(now().instant)).await;
                None
            };
            let came = async { socket.receive(&mut buffer).await.ok() };
            if let Some((length, from)) = came.or(wait).await {
                check.receive(&buffer[..length], from, now().instant);
            }
        }
        check
    };
    let forwarding = Forwarding::new(now);
    let gateway = find_gateway();
    forwarding.set_gateway(gateway, port);
    let (sender, settled) = smol::channel::bounded::<()>(1);
    let told = || {
        if forwarding.is_settled() {
            // Once is enough.
            let _ = sender.try_send(());
        }
    };
    let router = async {
        let Some(gateway) = gateway else { return };
        let asking = async {
            if forwarding.ask(gateway, &told).await.is_err() {
                told();
                pending::<()>().await;
            }
        };
        let enough = async {
            let _ = settled.recv().await;
        };
        let late = async {
            Timer::after(ROUTER_TIME).await;
        };
        asking.or(enough).or(late).await;
    };
    let (check, ()) = smol::future::zip(probe, router).await;
    let mut nat = check.view();
    nat.mapped = forwarding.mapping();
    let router = forwarding.outside();
    forwarding.release().await;
    let name = endpoint::text(&relay.endpoint.ip().to_string(), relay.endpoint.port());
    let relays: Vec<_> = check.relays().collect();
    Ok(NatReport { nat, router, relay: &name, links: &links, relays: &relays }.text(own_port))
}
