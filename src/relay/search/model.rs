//! A relay with two players and an attacker around it. The network takes no time, unless the search lets the attacker
//! act while something is on its way to a player; datagrams arrive in their order and none is lost.

use super::actions::{Action, Attacker, Forgery, Promise, Second, Setup};
use super::fingerprint::Fingerprint;
use super::honest::Honest;
use super::messages::{Made, MessageLog, Who, is_symbolic, sender_index};
use crate::crypto::x25519::PublicKey;
use crate::datagram::Path;
use crate::figures::Traffic;
use crate::ids::{PartyId, PeerId};
use crate::relay::blind::Blind;
use crate::relay::limits::{PENDING_LIFETIME, RelayLimits, SWEEP_INTERVAL};
use crate::relay::state::RelayState;
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

    fn places(&self) -> [SocketAddr; 2] {
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
        for place in 0..2 {
            let mut add = |forgery| all.push(Action::Attack(place, forgery));
            keys.iter().for_each(|&to| add(Forgery::Initiation(to)));
            if place == 0 {
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
            Action::Attack(place, forgery) => self.attack(place, forgery),
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
        if is_forwarded && bytes[0] > 2 && self.places().contains(&from) {
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

    /// The first promise.
    fn check_amplification(&mut self, to: SocketAddr, bytes: &[u8]) {
        let account = self.accounts.entry(to).or_default();
        account.to += bytes.len() as u64;
        let is_over = account.to > account.from + account.probes * INITIATION;
        if is_over && bytes[0] == 1 && account.probes < account.data && !is_symbolic(bytes) {
            account.probes += 1;
        }
        let AddressTraffic { from, to: given, probes, answered, .. } = *account;
        if !answered && given > from + probes * INITIATION {
            self.breaks(Promise::AntiAmplification, |world| {
                format!("{} got {given} bytes for {from} and never answered", world.name(to))
            });
        }
    }

    /// The second promise.
    fn check_privacy(&mut self, to: SocketAddr, bytes: &[u8]) {
        let Some((content, made)) = self.messages.made(bytes).filter(|_| is_symbolic(bytes)) else { return };
        let initiation = match made {
            Made::Initiation { .. } => content,
            Made::Response { initiation, .. } | Made::Data { initiation, .. } => initiation,
            Made::Forgery => return,
        };
        let Some((by, whom)) = self.messages.parties_of(initiation) else { return };
        if by == Who::Attacker || whom == Who::Attacker {
            return;
        }
        let is_evident = to.ip() == home(whom).ip();
        let is_mate = self.setup.attacker != Attacker::Stranger && !self.has_left;
        let may_lie = is_mate || self.setup.second == Second::Neighbour;
        let is_guess = initiation == content && (is_evident || may_lie && !self.setup.hub);
        if is_guess {
            self.shared.push((initiation, self.now));
        }
        let is_late =
            |&(shared, at): &(usize, Instant)| shared == initiation && self.now.since(at) >= PENDING_LIFETIME;
        if !is_guess && !self.shared.iter().any(is_late) {
            self.breaks(Promise::Privacy, |world| format!("{} got {}", world.name(to), world.read(bytes)));
        }
    }

    fn learn(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        if bytes[0] > 2 || !is_symbolic(&bytes) {
            return;
        }
        let index = sender_index(&bytes);
        self.told.push((to, index));
        if !self.indices.contains(&index) {
            self.indices.push(index);
        }
        if bytes[0] == 1 {
            self.got.push(bytes);
        }
    }

    fn attack(&mut self, place: usize, forgery: Forgery) {
        let from = self.places()[place];
        let newest = |all: usize, number: usize| all - 1 - number;
        let is_member = self.setup.attacker != Attacker::Stranger;
        let bytes = match forgery {
            Forgery::Initiation(to) => {
                self.knocks.push((place, forgery, self.now));
                let index = self.messages.index();
                if is_member {
                    self.indices.push(index);
                }
                let is_genuine = is_member && place == 0 && to != Who::Attacker;
                self.messages.initiation(Who::Attacker, to, index, is_genuine).1
            }
            Forgery::ForeignInitiation => {
                let index = self.messages.index();
                let mut bytes = self.messages.initiation(Who::Attacker, Who::Attacker, index, false).1;
                bytes[120] ^= 1;
                bytes
            }
            Forgery::Response(number, to) => {
                let echo = sender_index(&self.got[newest(self.got.len(), number)]);
                let index = self.messages.index();
                self.indices.push(index);
                let made = match self.messages.initiation_with(echo, Who::Attacker) {
                    Some((initiation, by)) if by == to => {
                        Made::Response { by: Who::Attacker, to, initiation, index }
                    }
                    _ => Made::Forgery,
                };
                self.messages.response(made, to, echo, index)
            }
            Forgery::ForeignResponse(number) => {
                let echo = sender_index(&self.got[newest(self.got.len(), number)]);
                let index = self.messages.index();
                let mut bytes = self.messages.response(Made::Forgery, Who::Attacker, echo, index);
                bytes[64] ^= 1;
                bytes
            }
            Forgery::CookieReply(number) => {
                MessageLog::cookie_reply(self.indices[newest(self.indices.len(), number)])
            }
            Forgery::Data(number) => {
                let index = self.indices[newest(self.indices.len(), number)];
                let made = match self.messages.session_of(Who::Attacker, index) {
                    Some(initiation) => Made::Data { by: Who::Attacker, initiation },
                    None => Made::Forgery,
                };
                self.messages.data(made, index)
            }
            Forgery::Replay(number) => self.got[newest(self.got.len(), number)].clone(),
        };
        let before = self.sent();
        if self.is_attackers(from) {
            self.leave_host(from, bytes);
        } else {
            self.arrive_at_relay(from, bytes);
        }
        let is_foreign = matches!(forgery, Forgery::ForeignInitiation | Forgery::ForeignResponse(_));
        if is_foreign && self.sent() != before {
            self.breaks(Promise::Names, |_| "a handshake message for nobody went somewhere".to_owned());
        }
    }

    fn sent(&self) -> u64 {
        self.relay.state.stats.traffic(Traffic::Sent).packets
    }

    pub fn describe(&self) -> Fingerprint {
        let mut to = Fingerprint::new(self.now);
        let RelayState { roster, sources, .. } = &self.relay.state;
        for (id, member) in roster.iter() {
            to.number(id.slot().into());
            if let Some(presence) = member.state.presence() {
                presence.endpoints.describe(to.age(presence.heard));
            }
        }
        let Blind { flows, pending, pacer } = &self.relay.blind;
        flows.describe(&mut to);
        pending.describe(&mut to);
        pacer.describe(&mut to);
        sources.describe(&mut to);
        to.left(self.relay.swept + SWEEP_INTERVAL);
        self.players.iter().for_each(|player| player.describe(&mut to));
        to.number(self.on_its_way.len() as u64);
        for (there, bytes) in &self.on_its_way {
            to.address(*there).number(bytes[0].into()).index(sender_index(bytes));
        }
        to.number(self.has_left.into()).number(self.playing_since.is_some().into());
        for bytes in self.got.iter().rev().take(REMEMBERED) {
            to.index(sender_index(bytes));
        }
        to.number(55);
        for &index in self.indices.iter().rev().take(2 * REMEMBERED) {
            to.index(index);
            to.number(
                self.places().iter().filter(|&&place| self.told.contains(&(place, index))).count() as u64
            );
        }
        for &(place, forgery, at) in &self.knocks {
            if self.now.since(at) < 3 * SECOND {
                let Forgery::Initiation(whom) = forgery else { continue };
                to.number(place as u64).number(whom as u64).age(at);
            }
        }
        let spoofed = self.accounts.get(&self.second()).copied().unwrap_or_default();
        if self.setup.second == Second::Spoofed {
            to.number(spoofed.from.saturating_sub(spoofed.to));
        }
        to
    }

    /// Notes that a promise is broken, if nothing was before.
    pub fn breaks(&mut self, promise: Promise, what: impl Fn(&Model) -> String) {
        if self.broken.is_none() && self.promise.is_none_or(|wanted| wanted == promise) {
            self.broken = Some(what(self));
        }
    }

    fn tell(&mut self, what: impl Fn(&Model) -> String) {
        if self.story.is_some() {
            let line = what(self);
            self.story.iter_mut().for_each(|story| story.push(line.clone()));
        }
    }

    /// A message in words.
    fn read(&self, bytes: &[u8]) -> String {
        let index = sender_index(bytes);
        let made = self.messages.made(bytes).filter(|_| is_symbolic(bytes)).map(|(_, made)| made);
        let whose = match made {
            None if bytes[0] == 3 => "a".to_owned(),
            None => "the hub's session's".to_owned(),
            Some(Made::Forgery) => "a forged".to_owned(),
            Some(Made::Initiation { by, .. } | Made::Response { by, .. } | Made::Data { by, .. }) => {
                format!("{by:?}'s")
            }
        };
        let whom = self.messages.bears(bytes).map_or(String::new(), |to| format!(" for {to:?}"));
        match bytes[0] {
            1 => format!("{whose} initiation{whom} (index {index})"),
            2 => {
                let echo = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
                format!("{whose} response{whom} to index {echo} (index {index})")
            }
            3 => format!("{whose} cookie reply to index {index}"),
            _ => format!("{whose} data for index {index}"),
        }
    }

    fn name(&self, address: SocketAddr) -> &'static str {
        if address == home(Who::Anna) {
            "Anna"
        } else if address == home(Who::Bert) {
            "Bert"
        } else if address == self.places()[0] {
            "the attacker"
        } else if address == self.second() {
            match self.setup.second {
                Second::Elsewhere => "the attacker's second address",
                Second::Neighbour => "the attacker behind Bert's address",
                Second::Spoofed => "somebody behind Bert's address",
            }
        } else {
            "Anna's new address"
        }
    }
}
