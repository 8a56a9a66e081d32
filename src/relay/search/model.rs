//! A relay with two players and an attacker around it. The network takes no time, unless the search lets the attacker
//! act while something is on its way to a player; datagrams arrive in their order and none is lost.

mod attack;
mod description;
mod promises;
mod story;

use super::actions::{Action, Attacker, Forgery, Promise, Second, Setup};
use super::honest::Honest;
use super::messages::{MessageLog, Who, is_symbolic, sender_index};
use crate::crypto::x25519::PublicKey;
use crate::datagram::Path;
use crate::figures::Traffic;
use crate::ids::{PartyId, PeerId};
use crate::relay::limits::RelayLimits;
use crate::relay::{Arrival, Output, Port, Relay, RelaySettings};
use crate::subnet::Subnet;
use crate::time::{Instant, Now, UnixTime};
use crate::wireguard::device::{Device, DeviceSettings};
use crate::wireguard::peer::{PeerIndex, PeerSettings};
use crate::wireguard::verdict::SendOutcome;
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// How often the relay is asked whether something is due while nothing else happens.
const POLL: Duration = Duration::from_millis(100);
/// Bytes of an initiation.
const INITIATION: u64 = 148;
/// Keys that the attacker keeps trying: the newest that it has learned.
const REMEMBERED: usize = 2;

/// What came to an address and went there.
#[derive(Clone, Copy, Default)]
struct AddressTraffic {
    from: u64,
    to: u64,
    /// Datagrams of data from there, and initiations of the hub's that went there for them.
    data: u64,
    probes: u64,
    reached: bool,
    answered: bool,
}

pub struct Model {
    setup: Setup,
    pub now: Instant,
    relay: Relay,
    keys: [PublicKey; 3],
    messages: MessageLog,
    players: [Honest; 2],
    /// The real WireGuard of the players, for their sessions with the hub.
    devices: Vec<(Device, PeerIndex)>,
    on_its_way: VecDeque<(SocketAddr, Vec<u8>)>,
    accounts: BTreeMap<SocketAddr, AddressTraffic>,
    /// Initiations that the attacker got.
    got: Vec<Vec<u8>>,
    /// Initiations of one player's for the other that the attacker was allowed to get, and when.
    shared: Vec<(usize, Instant)>,
    /// Indices that the attacker knows: of others' handshake messages, and its own.
    indices: Vec<u32>,
    /// Indices that were told to one of the attacker's addresses by a handshake message.
    told: Vec<(SocketAddr, u32)>,
    /// When the attacker sent initiations to whom, of late: what its share of them is left.
    knocks: Vec<(usize, Forgery, Instant)>,
    has_left: bool,
    /// Since when both players have heard each other.
    pub playing_since: Option<Instant>,
    /// The promise that is looked at, or all.
    pub promise: Option<Promise>,
    /// How the first promise was broken.
    pub broken: Option<String>,
    /// What happened, if somebody wants to read it.
    pub story: Option<Vec<String>>,
}

fn at(ip: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::from((ip, port))
}

fn home(who: Who) -> SocketAddr {
    match who {
        Who::Anna => at([192, 0, 2, 1], 1000),
        Who::Bert => at([198, 51, 100, 1], 1000),
        Who::Attacker => at([203, 0, 113, 1], 1000),
    }
}

fn party() -> PartyId {
    PartyId::new("p").expect("an id")
}

fn peer_id(who: Who) -> PeerId {
    PeerId::new(&format!("{who:?}")).expect("an id")
}

/// What the relay sends at once.
#[derive(Default)]
struct Sends(Vec<(SocketAddr, Vec<u8>)>);

impl Output for Sends {
    fn forward(&mut self, to: Path, received: &[u8], segment: usize) {
        received.chunks(segment).for_each(|datagram| self.0.push((to.remote, datagram.to_vec())));
    }

    fn send(&mut self, to: Path, _: Port, datagram: &[u8]) {
        self.0.push((to.remote, datagram.to_vec()));
    }
}

impl Model {
    /// `keys` are everybody's, which are not cheap to make.
    pub fn new(setup: Setup, keys: [PublicKey; 3]) -> Self {
        let now = Instant::ZERO + 1000 * SECOND;
        let settings = RelaySettings {
            hub_key: crate::crypto::x25519::PrivateKey::from_bytes([9; 32]),
            subnet: Subnet::DEFAULT,
            mtu: 1420,
            stamp_mark: 0,
            seed: 1,
            // No handshake waits for its turn: that takes a millisecond, and here nothing takes any time.
            limits: RelayLimits { x25519: Duration::from_nanos(1), ..RelayLimits::default() },
        };
        let mut relay = Relay::new(settings, now);
        let is_member = setup.attacker != Attacker::Stranger;
        let (alone, both) = (&[Who::Attacker][..], &[Who::Anna, Who::Bert][..]);
        for &who in both.iter().chain(alone.iter().filter(|_| is_member)) {
            let key = keys[who as usize];
            let ip = Ipv4Addr::new(10, 66, 0, who as u8 + 2);
            relay.join(&party(), &peer_id(who), key, ip, now).expect("room");
            relay.set_origin(&key, Some(home(who).ip()));
        }
        let player = |who: Who, other: Who| {
            let with = if is_member { vec![other, Who::Attacker] } else { vec![other] };
            Honest::new(who, home(who), &with)
        };
        let mut world = Model {
            setup,
            now,
            relay,
            keys,
            messages: MessageLog::new(keys),
            players: [player(Who::Anna, Who::Bert), player(Who::Bert, Who::Anna)],
            devices: Vec::new(),
            on_its_way: VecDeque::new(),
            accounts: BTreeMap::new(),
            got: Vec::new(),
            indices: Vec::new(),
            told: Vec::new(),
            knocks: Vec::new(),
            has_left: false,
            shared: Vec::new(),
            playing_since: None,
            promise: None,
            broken: None,
            story: None,
        };
        if setup.hub {
            world.use_hub();
        }
        world
    }

    fn use_hub(&mut self) {
        let now = self.clock();
        for who in [Who::Anna, Who::Bert] {
            let settings = DeviceSettings {
                private_key: who.private_key(),
                mtu: 1420,
                stamp_mark: 0,
                jitter_seed: 1,
                x25519: RelayLimits::default().x25519,
            };
            let mut device = Device::new(settings, now.instant);
            let hub = PeerSettings {
                endpoint: Some(at([192, 88, 99, 1], 1)),
                ..PeerSettings::new(*self.relay.hub_key())
            };
            let hub = device.add_peer(hub, now.instant).expect("a peer");
            device.connect(hub, now);
            self.devices.push((device, hub));
        }
        self.flush();
        self.initiate_to_hub();
        self.flush();
    }

    fn clock(&self) -> Now {
        let micros = 1_800_000_000_000_000 + (self.now.as_nanos() / 1000) as i64;
        Now { instant: self.now, unix: UnixTime::from_micros(micros) }
    }

    fn second(&self) -> SocketAddr {
        match self.setup.second {
            Second::Elsewhere => at([203, 0, 113, 2], 1000),
            Second::Neighbour | Second::Spoofed => SocketAddr::new(home(Who::Bert).ip(), 9),
        }
    }

    fn sources(&self) -> [SocketAddr; 2] {
        [home(Who::Attacker), self.second()]
    }

    fn is_attackers(&self, address: SocketAddr) -> bool {
        address == home(Who::Attacker) || address == self.second() && self.setup.second != Second::Spoofed
    }

    /// What may happen next.
    pub fn actions(&self) -> Vec<Action> {
        let mut all = Vec::new();
        let is_member = self.setup.attacker != Attacker::Stranger;
        if !self.on_its_way.is_empty() {
            all.push(Action::Arrive);
        }
        for player in self.players.iter().filter(|player| !player.is_on) {
            all.push(Action::Start(player.who));
        }
        if self.players[0].is_on {
            if is_member {
                all.push(Action::Stop);
            }
            if self.players[0].address == home(Who::Anna) {
                all.push(Action::Roam);
            }
        }
        if self.setup.attacker == Attacker::Former && !self.has_left {
            all.push(Action::Leave);
        }
        let waits: &[u8] = match (self.setup.hub, is_member) {
            (true, _) => &[1, 5, 12],
            (false, true) => &[1, 5, 12, 130],
            (false, false) => &[1, 5, 12, 65],
        };
        all.extend(waits.iter().map(|&wait| Action::Wait(wait)));
        let keys = if is_member { &Who::ALL[..] } else { &Who::ALL[..2] };
        for source in 0..2 {
            let mut add = |forgery| all.push(Action::Attack(source, forgery));
            keys.iter().for_each(|&to| add(Forgery::Initiation(to)));
            if source == 0 {
                add(Forgery::ForeignInitiation);
            }
            for number in 0..self.got.len().min(REMEMBERED) {
                keys.iter().for_each(|&to| add(Forgery::Response(number, to)));
                add(Forgery::ForeignResponse(number));
                add(Forgery::Replay(number));
            }
            for number in 0..self.indices.len().min(2 * REMEMBERED) {
                add(Forgery::Data(number));
                if number < REMEMBERED {
                    add(Forgery::CookieReply(number));
                }
            }
        }
        all
    }

    /// Lets it happen.
    pub fn act(&mut self, action: Action) {
        match action {
            Action::Start(who) => {
                self.tell(|_| format!("{who:?}'s app goes on"));
                self.start(who);
            }
            Action::Stop => {
                self.tell(|_| "Anna's app goes off".to_owned());
                self.players[0].is_on = false;
                self.forget_playing();
            }
            Action::Roam => {
                let address = at([192, 0, 2, 2], 1000);
                self.players[0].address = address;
                self.relay.set_origin(&self.keys[Who::Anna as usize], Some(address.ip()));
                self.forget_playing();
                self.tell(|_| "Anna has another address".to_owned());
                self.initiate_to_hub();
                self.let_say(0);
            }
            Action::Leave => {
                self.tell(|_| "the attacker leaves the party".to_owned());
                self.relay.leave(&party(), &peer_id(Who::Attacker), self.now);
                self.has_left = true;
            }
            Action::Arrive => self.arrive_one(),
            Action::Wait(seconds) => {
                self.advance(Duration::from_secs(seconds.into()));
                self.tell(|_| format!("{seconds} s have passed"));
            }
            Action::Attack(source, forgery) => self.attack(source, forgery),
        }
    }

    fn start(&mut self, who: Who) {
        self.players[who as usize].is_on = true;
        self.let_try(who as usize);
        self.let_say(who as usize);
    }

    /// How long it takes from now on until both players hear each other, if the attacker does nothing any more.
    pub fn time_to_play(&mut self, limit: Duration) -> Option<Duration> {
        let began = self.now;
        self.forget_playing();
        for who in [Who::Anna, Who::Bert] {
            self.start(who);
        }
        self.flush();
        while self.playing_since.is_none() && self.now.since(began) < limit {
            self.step(self.now + SECOND);
        }
        self.playing_since.map(|since| since.since(began))
    }

    /// Whether the relay keeps nothing of anybody who has been silent for long.
    pub fn forgets(&mut self) -> bool {
        self.on_its_way.clear();
        for _ in 0..27 {
            self.now += 10 * SECOND;
            self.poll();
            self.on_its_way.clear();
        }
        self.relay.blind.is_empty() && self.relay.state.sources.is_empty()
    }

    fn forget_playing(&mut self) {
        self.players.iter_mut().for_each(|player| player.correspondents[0].heard = None);
        self.playing_since = None;
    }

    fn advance(&mut self, span: Duration) {
        let end = self.now + span;
        let beat = if span > 12 * SECOND { 10 * SECOND } else { SECOND };
        self.flush();
        while self.now < end {
            self.step((self.now + beat).min(end));
        }
    }

    /// Lets everything happen until `end`, when the players say something.
    fn step(&mut self, end: Instant) {
        let mut polled = self.now;
        loop {
            let relay = self.relay.poll_timeout().map(|due| due.max(polled + POLL));
            let tries = self.players.iter().filter_map(|player| player.next_try(self.now)).min();
            let Some(next) = [relay, tries].into_iter().flatten().min().filter(|&next| next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if relay.is_some_and(|due| due <= self.now) {
                polled = self.now;
                self.poll();
            }
            self.let_try(0);
            self.let_try(1);
            self.flush();
        }
        self.now = end;
        self.initiate_to_hub();
        self.let_say(0);
        self.let_say(1);
        self.flush();
    }

    fn let_try(&mut self, player: usize) {
        let mut out = Vec::new();
        self.players[player].tries(&mut self.messages, self.now, &mut out);
        self.player_sends(player, out);
    }

    fn let_say(&mut self, player: usize) {
        let mut out = Vec::new();
        self.players[player].says(&mut self.messages, self.now, &mut out);
        self.player_sends(player, out);
    }

    fn player_sends(&mut self, player: usize, out: Vec<Vec<u8>>) {
        let from = self.players[player].address;
        out.into_iter().for_each(|bytes| self.leave_host(from, bytes));
    }

    /// The players tell the hub that they are there.
    fn initiate_to_hub(&mut self) {
        let now = self.clock();
        for player in 0..self.devices.len() {
            let mut buffer = [0; 256];
            let (device, hub) = &mut self.devices[player];
            if let SendOutcome::Sealed { length, .. } = device.send(*hub, &mut buffer, 0, now) {
                self.leave_host(self.players[player].address, buffer[..length].to_vec());
            }
            self.pump(player);
        }
    }

    fn pump(&mut self, player: usize) {
        let (now, mut buffer) = (self.clock(), [0; 256]);
        while let Some(outgoing) = self.devices[player].0.poll(now, &mut buffer) {
            self.leave_host(self.players[player].address, buffer[..outgoing.length].to_vec());
        }
    }

    fn flush(&mut self) {
        (0..self.devices.len()).for_each(|player| self.pump(player));
        while !self.on_its_way.is_empty() {
            self.arrive_one();
        }
    }

    fn arrive_one(&mut self) {
        let Some((to, mut bytes)) = self.on_its_way.pop_front() else { return };
        let Some(player) = self.players.iter().position(|player| player.address == to) else { return };
        let is_symbolic = is_symbolic(&bytes);
        if is_symbolic && !self.players[player].is_on {
            return;
        }
        self.accounts.entry(to).or_default().reached = true;
        if is_symbolic {
            let mut out = Vec::new();
            self.players[player].takes(&mut self.messages, &bytes, self.now, &mut out);
            self.player_sends(player, out);
        } else if player < self.devices.len() {
            let now = self.clock();
            self.devices[player].0.receive(&mut bytes, at([192, 88, 99, 1], 1), now);
            self.pump(player);
        }
        let hears = |player: &Honest| player.correspondents[0].heard.is_some();
        if self.playing_since.is_none() && self.players.iter().all(|player| player.is_on && hears(player)) {
            self.playing_since = Some(self.now);
        }
    }

    /// Somebody who is at `from` sends something to the relay.
    fn leave_host(&mut self, from: SocketAddr, bytes: Vec<u8>) {
        let account = self.accounts.entry(from).or_default();
        account.answered |= account.reached;
        self.arrive_at_relay(from, bytes);
    }

    fn arrive_at_relay(&mut self, from: SocketAddr, bytes: Vec<u8>) {
        let account = self.accounts.entry(from).or_default();
        account.from += bytes.len() as u64;
        account.data += u64::from(bytes[0] == 4);
        self.tell(|world| format!("{} sends {}", world.name(from), world.read(&bytes)));
        let (mut buffer, mut out, now) = (bytes.clone(), Sends::default(), self.clock());
        let _ = self.relay.receive(&mut buffer, Arrival::new(from, Port::Main, now), &mut out);
        let is_forwarded = out.0.iter().any(|(_, sent)| *sent == bytes);
        if is_forwarded && bytes[0] > 2 && self.sources().contains(&from) {
            // Rules 5 and 6.
            let index = sender_index(&bytes);
            if !self.told.contains(&(from, index)) {
                self.breaks(Promise::Ways, |world| {
                    format!(
                        "{} was forwarded from {}, which no session goes to",
                        world.read(&bytes),
                        world.name(from)
                    )
                });
            }
        }
        self.leave_relay(out);
        self.poll();
    }

    fn poll(&mut self) {
        let (mut out, now) = (Sends::default(), self.clock());
        self.relay.poll(now, &mut out);
        self.leave_relay(out);
    }

    fn leave_relay(&mut self, out: Sends) {
        for (to, bytes) in out.0 {
            self.tell(|world| format!("    the relay sends {} to {}", world.read(&bytes), world.name(to)));
            self.check_amplification(to, &bytes);
            if self.is_attackers(to) {
                self.check_privacy(to, &bytes);
                self.accounts.entry(to).or_default().reached = true;
                self.learn(to, bytes);
            } else {
                self.on_its_way.push_back((to, bytes));
            }
        }
    }

    fn sent(&self) -> u64 {
        self.relay.state.stats.traffic(Traffic::Sent).packets
    }
}
