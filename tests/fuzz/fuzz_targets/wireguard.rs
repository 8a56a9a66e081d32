//! A WireGuard device that is told everything: noise, noise with a mac1 that fits, and what a real peer says, as it
//! is or changed.

#![no_main]

#[path = "../../requests/input.rs"]
mod input;

use input::Input;
use lanrage::crypto::blake2s::{hash, mac};
use lanrage::crypto::x25519::PrivateKey;
use lanrage::time::{Instant, Now, UnixTime};
use lanrage::wireguard::allowed_ips::AllowedIp;
use lanrage::wireguard::constants::X25519_TYPICAL;
use lanrage::wireguard::device::{Device, DeviceSettings, POLL_BUFFER_LENGTH};
use lanrage::wireguard::message::{INITIATION_LENGTH, Message, RESPONSE_LENGTH};
use lanrage::wireguard::peer::{PeerSettings, PeerIndex};
use lanrage::wireguard::verdict::{Content, SendOutcome, Verdict};
use libfuzzer_sys::fuzz_target;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

fn address(number: u8) -> SocketAddr {
    (Ipv4Addr::new(192, 0, 2, number), 51820).into()
}

fn device(own: u8, other: u8, now: Instant) -> (Device, PeerIndex) {
    let key = |number| PrivateKey::from_bytes([number; 32]);
    let config = DeviceSettings {
        private_key: key(own),
        mtu: 1420,
        stamp_mark: 0,
        jitter_seed: 1,
        x25519: X25519_TYPICAL,
    };
    let mut device = Device::new(config, now);
    let mut peer = PeerSettings::new(key(other).public_key());
    peer.endpoint = Some(address(other));
    peer.allowed_ips = vec![AllowedIp::host(IpAddr::V4(Ipv4Addr::new(10, 66, 0, other)))];
    let index = device.add_peer(peer, now).expect("a good key");
    (device, index)
}

/// Makes mac1 fit, so that what is behind it is reached.
fn sign(message: &mut [u8], device: &Device) {
    let length = match message.first() {
        Some(1) => INITIATION_LENGTH,
        Some(2) => RESPONSE_LENGTH,
        _ => return,
    };
    if message.len() == length {
        let key = hash(&[b"mac1----", device.public_key().as_bytes()]);
        let (body, macs) = message.split_at_mut(length - 32);
        macs[..16].copy_from_slice(&mac(&key, &[body]));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let mut now = Now { instant: Instant::from_nanos(1 << 40), unix: UnixTime::from_micros(1 << 51) };
    let (one, one_peer) = device(2, 3, now.instant);
    let (other, other_peer) = device(3, 2, now.instant);
    let mut devices = [(one, one_peer, address(2)), (other, other_peer, address(3))];
    let mut wire: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut buffer = vec![0; 4096];
    for _ in 0..100 {
        if input.is_empty() {
            break;
        }
        let at = input.below(2);
        match input.below(6) {
            0 => {
                let mut datagram = input.bytes(2000).to_vec();
                let source = address(input.byte());
                sign(&mut datagram, &devices[at].0);
                let _ = Message::parse(&datagram);
                devices[at].0.receive(&mut datagram, source, now);
            }
            1 => {
                let packet = input.bytes(1500);
                buffer[16..][..packet.len()].copy_from_slice(packet);
                let (device, peer, _) = &mut devices[at];
                if let SendOutcome::Sealed { length, .. } = device.send(*peer, &mut buffer, packet.len(), now)
                {
                    wire.push((1 - at, buffer[..length].to_vec()));
                }
            }
            2 if !wire.is_empty() => {
                let (to, datagram) = wire[input.below(wire.len())].clone();
                let mut datagram = datagram;
                input.mutate(&mut datagram);
                if input.below(2) == 0 {
                    sign(&mut datagram, &devices[to].0);
                }
                let source = if input.below(4) == 0 { address(input.byte()) } else { devices[1 - to].2 };
                let length = datagram.len();
                if let Verdict::Accepted(accepted) = devices[to].0.receive(&mut datagram, source, now)
                    && let Content::Packet { range, inner } = accepted.content
                {
                    assert!(range.end <= length && range.len() == inner.length);
                }
            }
            3 => {
                let span = Duration::from_millis(u64::from(input.byte()).pow(2));
                now = Now { instant: now.instant + span, unix: now.unix + span };
            }
            4 => {
                let (device, peer, _) = &mut devices[at];
                device.connect(*peer, now);
            }
            _ => now.unix = now.unix.shifted(i64::from(input.byte() as i8) << 24),
        }
        for (at, (device, ..)) in devices.iter_mut().enumerate() {
            for _ in 0..8 {
                let Some(outgoing) = device.poll(now, &mut buffer) else { break };
                assert!(outgoing.length <= POLL_BUFFER_LENGTH.max(buffer.len()));
                wire.push((1 - at, buffer[..outgoing.length].to_vec()));
            }
        }
        let surplus = wire.len().saturating_sub(32);
        wire.drain(..surplus);
    }
});
