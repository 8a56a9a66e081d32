//! What a control server says, which may be anybody's: parties, relays, events, signals, and an agent that believes them.

#![no_main]

use lanrage::agent::network::{ListedRelay, Network, NetworkMember, RelayAddress};
use lanrage::agent::{Agent, AgentOutput, AgentSettings};
use lanrage::control::invites::Spelled;
use lanrage::crypto::x25519::PrivateKey;
use lanrage::datagram::Path;
use lanrage::ids::PeerId;
use lanrage::subnet::Subnet;
use lanrage::time::{Instant, Now, UnixTime};
use lanrage::wire::control::{
    PartyAnswer, ServerEvent, read_detail, read_nonce, read_relays, read_signals, read_token,
};
use lanrage::wireguard::constants::X25519_TYPICAL;
use libfuzzer_sys::fuzz_target;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

fuzz_target!(|bytes: &[u8]| {
    let now = Now { instant: Instant::from_nanos(1 << 40), unix: UnixTime::from_micros(1 << 51) };
    let settings =
        AgentSettings { key: PrivateKey::from_bytes([7; 32]), stamp_mark: 0, mtu: 1420, seed: 1, x25519: X25519_TYPICAL };
    let mut agent = Agent::new(settings, now.instant);
    let [own, bob] = ["alice", "bob"].map(|id| PeerId::new(id).expect("a good id"));
    let key = PrivateKey::from_bytes([8; 32]).public_key();
    let member = NetworkMember {
        peer_id: bob.clone(),
        name: "Bob".into(),
        key,
        ip: Ipv4Addr::new(10, 66, 0, 3),
        is_device: false,
    };
    let relay = RelayAddress { endpoint: relay_address(), stun_port: Some(51821), key };
    let known = Network {
        own_ip: Ipv4Addr::new(10, 66, 0, 2),
        subnet: Subnet::DEFAULT,
        relay: Some(relay),
        members: vec![member],
    };
    agent.set_network(known, now);
    agent.signal(&bob, &format!("{{\"lanrage_offer\":\"{}\"}}", base64(bytes)), now);
    agent.poll(now, &mut Nowhere);
    if let Ok(answer) = PartyAnswer::read(bytes) {
        if let Ok(again) = PartyAnswer::read(answer.text().as_bytes()) {
            assert_eq!((&again.party, &again.network), (&answer.party, &answer.network));
        }
        if let Some(network) = Network::told(&answer, &own, Some(relay_address())) {
            agent.set_network(network, now);
        }
    }
    if let Ok(relays) = read_relays(bytes) {
        let listed: Vec<_> = relays.iter().filter_map(|body| ListedRelay::told(body, relay_address())).collect();
        agent.set_relays(&listed, now);
    }
    for signal in read_signals(bytes).unwrap_or_default() {
        agent.signal(&signal.from, &signal.data, now);
    }
    if let Ok(token) = read_token(bytes) {
        assert!(token.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    let _ = (read_nonce(bytes), read_detail(bytes));
    if let Ok(text) = str::from_utf8(bytes) {
        let _ = (ServerEvent::read(text), Spelled::read(text));
        agent.signal(&bob, text, now);
    }
    let later = Now { instant: now.instant + Duration::from_secs(1), ..now };
    agent.poll(later, &mut Nowhere);
});

fn relay_address() -> SocketAddr {
    (Ipv4Addr::new(192, 0, 2, 1), 51820).into()
}

/// The offer of a member, as the control plane carries it.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = |three: &[u8; 3]| {
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        [18, 12, 6, 0].map(|shift| char::from(LETTERS[(bits >> shift) as usize & 63]))
    };
    let (whole, _) = bytes.as_chunks::<3>();
    whole.iter().flat_map(letters).collect()
}

struct Nowhere;

impl AgentOutput for Nowhere {
    fn send(&mut self, to: Path, _datagram: &[u8]) {
        let is_odd = to.remote.ip().is_multicast() || to.remote.ip().is_loopback() || to.remote.port() == 0;
        assert!(!is_odd, "{to:?}");
    }

    fn deliver(&mut self, _packet: &[u8]) {}
}
