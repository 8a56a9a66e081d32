//! Seeded noise for `Relay::receive`: nothing panics, nothing is amplified, and members do not notice.

use crate::world::{MILLISECOND, SECOND, World};
use std::net::SocketAddr;

/// Two parties, one blind and one with the hub, and all that passed the relay while they came up.
fn busy_world(seed: u64) -> (World, Vec<usize>) {
    let mut world = World::new(seed);
    world.capture.start();
    let mut members = world.blind_party("p", 3);
    members.extend(world.hub_party("q", 2));
    world.run(12 * SECOND);
    assert!(world.talk(members[0], members[1]) && world.talk(members[3], members[4]));
    (world, members)
}

fn check(world: &mut World, members: &[usize]) {
    world.run(20 * SECOND);
    for (one, other) in [(0, 1), (1, 2), (3, 4)] {
        assert!(world.talk(members[one], members[other]));
    }
}

#[test]
fn random_bytes_of_all_lengths() {
    let (mut world, members) = busy_world(90);
    let homes: Vec<_> = world.clients.iter().filter_map(|client| client.seen_as).collect();
    let mut noise = vec![0; 65_536];
    world.random.fill(&mut noise);
    for length in (0..2000).chain((2000..65_536).step_by(97)).chain([65_535]) {
        for kind in 0..6u8 {
            let start = world.random.below((noise.len() - length) as u64 + 1) as usize;
            let mut bytes = noise[start..start + length].to_vec();
            match (kind, bytes.first_chunk_mut::<8>()) {
                (1..5, Some(head)) => head[..4].copy_from_slice(&[kind, 0, 0, 0]),
                (5, Some(head)) => {
                    let stated = (length as u16).saturating_sub(20).to_be_bytes();
                    *head = [0, 1, stated[0], stated[1], 0x21, 0x12, 0xa4, 0x42];
                }
                _ => (),
            }
            let source = homes[world.random.below(homes.len() as u64) as usize];
            let _ = world.inject(source, &bytes);
        }
    }
    check(&mut world, &members);
}

#[test]
fn mutations_of_what_passed() {
    let (mut world, members) = busy_world(91);
    let homes: Vec<_> = world.clients.iter().filter_map(|client| client.seen_as).collect();
    let seen = world.capture.stop();
    for round in 0..30_000u32 {
        let record = &seen[world.random.below(seen.len() as u64) as usize];
        let mut bytes = record.bytes.clone();
        for _ in 0..world.random.below(4) {
            let place = world.random.below(bytes.len() as u64) as usize;
            bytes[place] ^= 1 << world.random.below(8);
        }
        match world.random.below(10) {
            0 => bytes.truncate(world.random.below(bytes.len() as u64 + 1) as usize),
            1 => bytes.resize(bytes.len() + world.random.below(100) as usize, 0),
            // Another message's indices.
            2 if bytes.len() > 12 => {
                let other = &seen[world.random.below(seen.len() as u64) as usize].bytes;
                bytes[4..12].copy_from_slice(&other[4..12]);
            }
            _ => (),
        }
        let source = match world.random.below(3) {
            0 => record.remote,
            1 => homes[world.random.below(homes.len() as u64) as usize],
            _ => SocketAddr::from(([192, 0, 2, 200], round as u16)),
        };
        let _ = world.inject(source, &bytes);
        if round % 64 == 0 {
            world.run(10 * MILLISECOND);
        }
    }
    check(&mut world, &members);
}
