//! What a million members cost the control plane: bytes for each, and the longest that any single call takes, as nothing
//! else happens meanwhile. `cargo bench --bench million`, with another number of members if it is given: `-- 100000`.
//!
//! Calls are measured by the CPU time of the thread: what else the machine does is no stall of ours. Memory is the
//! process's as the kernel counts it. All of it is in this process, in virtual time and without a disk.

#[allow(dead_code, reason = "shared with the other benchmarks")]
mod table;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lanrage::control::keys::KeyClaim;
use lanrage::control::limits::ControlLimits;
use lanrage::control::party::PeerInfo;
use lanrage::control::record::Records;
use lanrage::control::registration::Credentials;
use lanrage::control::standing::Identity;
use lanrage::control::{Control, ControlSettings};
use lanrage::crypto::random::Seeded;
use lanrage::crypto::x25519::PrivateKey;
use lanrage::figures::Readings;
use lanrage::ids::{PartyId, PeerId};
use lanrage::subnet::Subnet;
use lanrage::time::{Instant, Now, UnixTime};
use lanrage::wire::nat_type::NatType;
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use table::Table;

const MEMBERS: u32 = 1_000_000;
const PER_PARTY: u32 = 4;
/// No call may take longer.
const STALL_MS: f64 = 5.0;

/// How long calls of one kind took.
#[derive(Default)]
struct Calls {
    count: usize,
    total: Duration,
    longest: Duration,
    /// How many took longer than they may.
    stalls: usize,
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl Calls {
    fn time<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let begun = cpu();
        let result = call();
        let took = cpu() - begun;
        self.count += 1;
        self.total += took;
        self.longest = self.longest.max(took);
        self.stalls += usize::from(took.as_secs_f64() * 1000.0 > STALL_MS);
        result
    }

    fn tell(&self, what: &str, table: &mut Table) {
        let longest = self.longest.as_secs_f64() * 1000.0;
        let mean = self.total.as_secs_f64() * 1e6 / self.count.max(1) as f64;
        let stalls = match self.stalls {
            0 => String::new(),
            stalls => format!("; {stalls} longer than {STALL_MS} ms"),
        };
        let text = format!("{longest:.3} ms; mean {mean:.2} us of {}{stalls}", self.count);
        table.budget(&format!("longest {what}"), text, longest, STALL_MS, " ms");
    }
}

/// Bytes that the process has in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is there");
    let kilobytes = line.trim().trim_end_matches(" kB").parse::<usize>();
    kilobytes.expect("a number") * 1024
}

struct World {
    control: Control,
    now: Now,
    random: Seeded,
    members: Vec<(PartyId, PeerId)>,
}

impl World {
    fn wait(&mut self, span: Duration) {
        self.now = Now { instant: self.now.instant + span, unix: self.now.unix + span };
    }

    fn info(&mut self, peer: &PeerId) -> PeerInfo {
        let mut key = [0; 32];
        self.random.fill(&mut key);
        key[31] &= 0x7f;
        PeerInfo {
            peer_id: peer.clone(),
            name: "Somebody".into(),
            public_key: STANDARD.encode(key).into(),
            nat_type: NatType::default(),
            public_ip: "198.51.100.7".into(),
            public_port: 51820,
            local_ip: "192.168.1.23".into(),
            local_port: 51820,
            last_seen: None,
        }
    }

    /// A new player with a token, each at an address of its own.
    fn register(&mut self, number: u32, calls: &mut Calls) -> (Identity, KeyClaim<'static>) {
        let from = IpAddr::V4(Ipv4Addr::from_bits(0x4000_0000 + number * 7));
        let peer = PeerId::new(&format!("player-{number:08}-x")).expect("an id");
        let (control, now) = (&mut self.control, self.now);
        let by = calls.time(|| {
            let shown = Credentials { payer: Some(from), ..Credentials::default() };
            let issued = control.register(&peer, shown, now).expect("a token");
            control.authenticate(&issued.token, now).expect("it is good")
        });
        (by, KeyClaim { origin: Some(from), proof: None })
    }

    fn create(&mut self, number: u32, registers: &mut Calls, calls: &mut Calls) -> PartyId {
        let (by, claim) = self.register(number, registers);
        let info = self.info(&by.peer);
        let (control, now) = (&mut self.control, self.now);
        let party = calls.time(|| {
            let party = control.create_party(&by, None, "Friday night", info, claim, now);
            control.drain_changes();
            party.expect("a party")
        });
        self.members.push((party.clone(), by.peer));
        party
    }

    fn join(&mut self, party: &PartyId, number: u32, registers: &mut Calls, calls: &mut Calls) {
        let (by, claim) = self.register(number, registers);
        let info = self.info(&by.peer);
        let (control, now) = (&mut self.control, self.now);
        calls.time(|| {
            control.enter_party(&by, party.as_str(), info, claim, None, now).expect("it may come in");
            control.drain_changes();
        });
        self.members.push((party.clone(), by.peer));
    }

    /// Lets a round of sweeping pass. Gives how many slices it took.
    fn round(&mut self, noting: &mut Calls, sweeps: &mut Calls, timeouts: &mut Calls) -> usize {
        for slices in 1.. {
            let (control, now) = (&mut self.control, self.now);
            noting.time(|| {
                control.note_handshakes(|key| black_box(*key).is_low_order().then_some(now.instant), now)
            });
            sweeps.time(|| {
                control.sweep(now);
                control.drain_changes();
            });
            let due = timeouts.time(|| black_box(&*control).poll_timeout());
            if due.is_none_or(|due| due > now.instant + Duration::from_secs(1)) {
                return slices;
            }
            self.wait(Duration::from_millis(100));
        }
        unreachable!("it is counted for ever");
    }
}

fn main() {
    let wanted = std::env::args().skip(1).find_map(|text| text.parse().ok());
    let count: u32 = wanted.unwrap_or(MEMBERS);
    let many = count as usize * 2;
    let limits = ControlLimits {
        parties: many,
        memory: usize::MAX / 4,
        tokens: 8 * many,
        addresses_remembered: count as usize,
        ..ControlLimits::default()
    };
    let subnet = Subnet::parse("10.64.0.0/10").expect("a subnet");
    let settings = ControlSettings { subnet, limits, ..ControlSettings::default() };
    let now = Now { instant: Instant::ZERO, unix: UnixTime::from_micros(1_795_176_000_000_000) };
    let control = Control::new(settings, PrivateKey::from_bytes([7; 32]), Records::default(), now);
    let members = Vec::with_capacity(many);
    let mut world = World { control, now, random: Seeded::new(1), members };
    let mut table = Table::default();

    let before = resident();
    let (mut registers, mut creates, mut joins) = (Calls::default(), Calls::default(), Calls::default());
    for first in (0..count).step_by(PER_PARTY as usize) {
        let party = world.create(first, &mut registers, &mut creates);
        (1..PER_PARTY).for_each(|next| world.join(&party, first + next, &mut registers, &mut joins));
    }
    let own = size_of_val(world.members.as_slice());
    let bytes = (resident() - before).saturating_sub(own) / count as usize;
    table.note(&format!("memory, {count} members in parties of {PER_PARTY}"), format!("{bytes} B each"));
    registers.tell("registration, while they come", &mut table);
    creates.tell("create, while they come", &mut table);
    joins.tell("join, while they come", &mut table);

    let mut beats = Calls::default();
    for _ in 0..count {
        let number = world.random.below(world.members.len() as u64) as usize;
        let (party, peer) = &world.members[number];
        let control = &mut world.control;
        beats.time(|| control.heartbeat(party.as_str(), peer, None, world.now)).expect("it is a member");
        control.drain_changes();
    }
    beats.tell("heartbeat", &mut table);

    // Everybody has been silent for long enough to be asked about at the relay, and not to go.
    world.wait(Duration::from_secs(200));
    let (mut noting, mut sweeps, mut timeouts) = Default::default();
    let slices = world.round(&mut noting, &mut sweeps, &mut timeouts);
    table.note("a round in which nobody goes", format!("{slices} slices"));
    noting.tell("slice of handshakes", &mut table);
    sweeps.tell("slice of sweeping, nobody goes", &mut table);
    timeouts.tell("look at when time is up", &mut table);

    // Every token is a member's, and there may be no more.
    let settings = world.control.settings().clone();
    let tokens = world.control.tokens().len();
    let limits = ControlLimits { tokens, ..settings.limits.clone() };
    world.control.reconfigure(ControlSettings { limits, ..settings.clone() });
    let mut refused = Calls::default();
    for number in 0..200 {
        let peer = PeerId::new(&format!("late-{number}")).expect("an id");
        let shown = Credentials { payer: Some(Ipv4Addr::new(192, 0, 2, 1).into()), ..Credentials::default() };
        let (control, now) = (&mut world.control, world.now);
        assert!(refused.time(|| control.register(&peer, shown, now)).is_err(), "there is no room");
    }
    world.control.reconfigure(settings);
    refused.tell("registration without room", &mut table);

    let mut once = |what: &str, call: &mut dyn FnMut(&mut World)| {
        let mut calls = Calls::default();
        calls.time(|| call(&mut world));
        table.note(what, format!("{:.1} ms", calls.longest.as_secs_f64() * 1000.0));
    };
    once("once: the list of public parties, of which there are none", &mut |world| {
        black_box(world.control.public_parties().count());
    });
    once("once: what /metrics reads here", &mut |world| world.control.report(&mut Readings::default()));
    once("once: a follower becomes the writer", &mut |world| world.control.lead(world.now));

    // Nobody is heard of any more.
    world.wait(Duration::from_secs(400));
    let (mut noting, mut sweeps, mut timeouts) = Default::default();
    let (mut slices, begun) = (0, cpu());
    while world.control.peer_count() > 0 && slices < 20_000 {
        slices += world.round(&mut noting, &mut sweeps, &mut timeouts);
        world.wait(Duration::from_secs(60));
    }
    let took = (cpu() - begun).as_secs_f64();
    table.note("rounds until all are gone", format!("{slices} slices, {took:.1} s of CPU"));
    sweeps.tell("slice of sweeping, all go", &mut table);

    // As many names are remembered as may be: each one more is at the cost of another.
    let (mut registers, mut creates) = (Calls::default(), Calls::default());
    (count..count + count / 50).for_each(|number| drop(world.create(number, &mut registers, &mut creates)));
    creates.tell("create, as names are forgotten", &mut table);
    table.print();
}
