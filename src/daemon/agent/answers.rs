//! What the owner is told who asks over the socket.

use super::{AgentLoop, IpAddr, Ipv4Addr, LocalAddress, SocketAddr};
use crate::agent::view::{MeasuredRelay, MemberView, NatView};
use crate::net::owner_socket::OwnerReply;
use crate::time::Instant;
use crate::wire::endpoint;
use crate::wire::json::{JsonWriter, object};
use std::fmt::Write as _;
use std::time::Duration;

const JSON: &str = "application/json";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A figure's name, what it means, and where it comes from.
type MemberFigure = (&'static str, &'static str, fn(&MemberView<'_>) -> u64);

fn json(body: String) -> OwnerReply {
    OwnerReply { status: 200, content_type: JSON, body }
}

impl AgentLoop {
    /// Answers a request of the owner's.
    pub(super) fn answer(&self, method: &str, path: &str) -> OwnerReply {
        match (method, path) {
            ("GET", "/peers") => json(self.peers()),
            ("GET", "/nat") => json(self.nat()),
            ("GET", "/metrics") => OwnerReply { status: 200, content_type: METRICS, body: self.metrics() },
            ("POST", "/leave") => {
                self.leave();
                json(r#"{"status":"leaving"}"#.to_owned())
            }
            _ => OwnerReply {
                status: 404,
                content_type: JSON,
                body: r#"{"detail":"the agent does not know this: is it another version?"}"#.to_owned(),
            },
        }
    }

    fn peers(&self) -> String {
        let now = (self.clock)();
        let party = self.party.borrow();
        object(|json| {
            json.key("version").string(env!("CARGO_PKG_VERSION"));
            json.key("server").string(&self.client.url().to_string());
            json.key("party_id").string(&self.party_id().unwrap_or_default());
            json.key("party").string(party.as_ref().map_or("", |party| &party.party.head.name));
            json.key("name").string(&self.state.borrow().name);
            json.key("peer_id").string(self.state.borrow().peer_id.as_str());
            let ip = party.as_ref().and_then(|party| party.network.as_ref()?.virtual_ip);
            json.key("ip").or_null(ip, |json, ip| json.string(&ip.to_string()));
            json.key("interface").string(&self.interface);
            json.key("local").bool(self.session.borrow().is_local());
            json.key("member").bool(self.session.borrow().is_member());
            json.key("members").array(|json| {
                for member in self.agent.borrow().members(now) {
                    write_member(json, &member, now.instant);
                }
            });
        })
    }

    fn nat(&self) -> String {
        let nat = self.agent.borrow().nat();
        let relay =
            self.party.borrow().as_ref().and_then(|party| Some(party.network.as_ref()?.relay.clone()));
        let relay = relay.map_or_else(String::new, |(host, port)| endpoint::text(&host, port));
        let (agent, links) = (self.agent.borrow(), self.links.borrow());
        let told = NatReport {
            nat,
            router: self.forwarding.outside(),
            relay: &relay,
            links: &links,
            relays: &agent.relays().collect::<Vec<_>>(),
        };
        told.text(self.state.borrow().port)
    }

    fn metrics(&self) -> String {
        let now = (self.clock)();
        let mut out = String::new();
        let mut gauge = |name: &str, help: &str, value: u64| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        };
        gauge("lanrage_agent_uptime_seconds", "How long it runs.", now.instant.since(self.started).as_secs());
        gauge("lanrage_agent_member", "Whether it is a member.", self.session.borrow().is_member().into());
        gauge("lanrage_agent_local", "Whether the server is away.", self.session.borrow().is_local().into());
        let agent = self.agent.borrow();
        let kinds: [MemberFigure; 2] = [
            ("lanrage_agent_received_bytes_total", "Bytes of packets from a member.", |member| {
                member.received
            }),
            ("lanrage_agent_sent_bytes_total", "Bytes of packets to a member.", |member| member.sent),
        ];
        for (name, help, value) in kinds {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
            for member in agent.members(now) {
                let _ = writeln!(
                    out,
                    "{name}{{ip=\"{}\",path=\"{}\",state=\"{}\"}} {}",
                    member.ip,
                    member.path,
                    member.state.as_str(),
                    value(&member)
                );
            }
        }
        out
    }
}

fn write_relay(json: &mut JsonWriter, relay: &MeasuredRelay<'_>) {
    json.object(|json| {
        json.key("relay_id").string(relay.id.as_str());
        json.key("address").string(&relay.endpoint.to_string());
        write_round_trip(json, relay.round_trip);
        json.key("members").int(relay.members as u64);
    });
}

fn write_round_trip(json: &mut JsonWriter, round_trip: Option<Duration>) {
    json.key("rtt_us")
        .or_null(round_trip, |json, trip| json.int(u64::try_from(trip.as_micros()).unwrap_or(u64::MAX)));
}

/// What `lanrage nat` shows.
pub(super) struct NatReport<'a> {
    pub nat: NatView,
    /// The router's address outside, as it says.
    pub router: Option<Ipv4Addr>,
    /// Who was asked.
    pub relay: &'a str,
    pub links: &'a [LocalAddress],
    /// Relays that are measured.
    pub relays: &'a [MeasuredRelay<'a>],
}

impl NatReport<'_> {
    /// As JSON, for a socket on this port.
    pub fn text(&self, port: u16) -> String {
        let NatReport { nat, router, relay, links, relays } = self;
        let address = |json: &mut JsonWriter, address: SocketAddr| json.string(&address.to_string());
        object(|json| {
            json.key("nat_type").string(nat.kind.as_str());
            json.key("public").or_null(nat.public, address);
            json.key("also_public").array(|json| {
                nat.others.iter().flatten().for_each(|&other| address(json, other));
            });
            json.key("mapping").string(nat.mapping.as_str());
            json.key("mapped").or_null(nat.mapped, address);
            json.key("router_outside").or_null(*router, |json, ip| json.string(&ip.to_string()));
            json.key("relay").string(relay);
            json.key("port_step").or_null(nat.port_step, |json, step| json.int(step));
            json.key("port").int(port);
            json.key("local").array(|json| {
                links.iter().for_each(|link| json.string(&link.address.ip().to_string()));
            });
            json.key("relays").array(|json| {
                relays.iter().for_each(|relay| write_relay(json, relay));
            });
            let is_ipv6 = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.octets()[0] & 0xe0 == 0x20);
            json.key("ipv6").bool(links.iter().any(|link| is_ipv6(link.address.ip())));
        })
    }
}

fn write_member(json: &mut JsonWriter, member: &MemberView<'_>, now: Instant) {
    json.object(|json| {
        json.key("name").string(member.name);
        json.key("ip").string(&member.ip.to_string());
        json.key("state").string(member.state.as_str());
        json.key("path").string(&member.path.to_string());
        json.key("address").or_null(member.address, |json, address| json.string(&address.to_string()));
        for (name, relay) in [("relay", member.relay), ("standby", member.standby)] {
            json.key(name).or_null(relay, |json, id| json.string(id.as_str()));
        }
        write_round_trip(json, member.round_trip);
        json.key("loss_per_mille").int(member.loss);
        json.key("received").int(member.received);
        json.key("sent").int(member.sent);
        json.key("handshake_seconds")
            .or_null(member.last_handshake, |json, at| json.int(now.since(at).as_secs()));
        json.key("why_not_direct").or_null(member.why_not_direct.as_deref(), |json, why| json.string(why));
    });
}
