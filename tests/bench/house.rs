//! Parties full of peers, made through the API.

use super::client::{Client, request, text_member};
use super::harness::client::key_of;
use std::net::SocketAddr;

/// Connections that ask at the same time while a house is filled, so that they share commits.
const AT_ONCE: usize = 256;

/// A peer with a token.
pub struct Peer {
    pub id: String,
    pub token: String,
    /// The party that it is in, once it is.
    pub party: String,
}

impl Peer {
    pub fn heartbeat(&self) -> Vec<u8> {
        let path = format!("/parties/{}/peers/{}/heartbeat", self.party, self.id);
        request("POST", &path, Some(&self.token), "")
    }

    pub fn read_peers(&self) -> Vec<u8> {
        request("GET", &format!("/parties/{}/peers", self.party), Some(&self.token), "")
    }

    pub fn create(&self) -> Vec<u8> {
        let body = format!("{{\"name\":\"Friday night\",\"host_peer_info\":{}}}", self.info());
        request("POST", "/parties", Some(&self.token), &body)
    }

    pub fn join(&self, party: &str) -> Vec<u8> {
        let body = format!("{{\"party_id\":\"{party}\",\"peer_info\":{}}}", self.info());
        request("POST", &format!("/parties/{party}/join"), Some(&self.token), &body)
    }

    pub fn leave(&self) -> Vec<u8> {
        request("DELETE", &format!("/parties/{}/peers/{}", self.party, self.id), Some(&self.token), "")
    }

    /// What a stock client says of itself.
    fn info(&self) -> String {
        format!(
            "{{\"peer_id\":\"{}\",\"name\":\"Player {}\",\"public_key\":\"{}\",\"nat_type\":\"port_restricted_cone\",\
             \"public_ip\":\"203.0.113.77\",\"public_port\":51820,\"local_ip\":\"192.168.178.123\",\
             \"local_port\":51820,\"last_seen\":\"2026-11-01T20:15:00.123456\"}}",
            self.id,
            self.id,
            key_of(&self.id)
        )
    }
}

/// Sends every request over one of a few connections, all of these at the same time; `take` gets the answers
/// in the order of the requests.
pub fn ask_all(clients: &mut [Client], requests: &[Vec<u8>], mut take: impl FnMut(usize, &[u8])) {
    for (round, chunk) in requests.chunks(clients.len()).enumerate() {
        for (client, request) in clients.iter_mut().zip(chunk) {
            client.send(request);
        }
        for index in 0..chunk.len() {
            take(round * clients.len() + index, clients[index].receive());
        }
    }
}

pub fn clients(address: SocketAddr, count: usize) -> Vec<Client> {
    (0..count).map(|_| Client::connect(address)).collect()
}

/// Registers `count` peers whose names begin with `prefix`.
pub fn register(clients: &mut [Client], prefix: &str, count: usize) -> Vec<Peer> {
    let ids: Vec<String> = (0..count).map(|index| format!("{prefix}-{index:05}")).collect();
    let path = |id: &String| request("POST", &format!("/auth/register?peer_id={id}"), None, "");
    let requests: Vec<Vec<u8>> = ids.iter().map(path).collect();
    let mut peers = Vec::with_capacity(count);
    ask_all(clients, &requests, |index, body| {
        let token = text_member(body, "token");
        peers.push(Peer { id: ids[index].clone(), token, party: String::new() });
    });
    peers
}

/// Has `parties` parties of `size` peers, and gives all of them, party by party.
pub fn fill(address: SocketAddr, prefix: &str, parties: usize, size: usize) -> Vec<Peer> {
    let mut clients = clients(address, AT_ONCE.min(parties * size));
    let mut peers = register(&mut clients, prefix, parties * size);
    let creates: Vec<Vec<u8>> = peers.iter().step_by(size).map(Peer::create).collect();
    let mut ids = Vec::with_capacity(parties);
    ask_all(&mut clients, &creates, |_, body| ids.push(text_member(body, "party_id")));
    for (index, peer) in peers.iter_mut().enumerate() {
        peer.party = ids[index / size].clone();
    }
    let guests = peers.iter().enumerate().filter(|(index, _)| index % size != 0);
    let joins: Vec<Vec<u8>> = guests.map(|(_, peer)| peer.join(&peer.party)).collect();
    ask_all(&mut clients, &joins, |_, _| {});
    peers
}
