//! What kind of NAT we are behind, by STUN from the one socket: by which address the relay's two ports see us, and whether
//! an answer from the second port comes through before anything was sent there.

use crate::agent::AgentOutput;
use crate::agent::mappings::{DestinationNumber, SeenAs};
use crate::agent::network::RelayAddress;
use crate::crypto::random;
use crate::datagram::Path;
use crate::time::Instant;
use crate::wire::stun;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a request is, in bytes: no shorter than its answer.
const REQUEST_LENGTH: usize = 64;
/// When requests are sent, from the beginning on.
const TRIES: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(250), Duration::from_millis(750), Duration::from_secs(2)];
/// The second port is asked after this, or soon after the first has answered: what it lets through is known by then.
const FILTER_WAIT: Duration = Duration::from_millis(300);
const FILTER_GRACE: Duration = Duration::from_millis(20);
/// After so long it is probed anew.
const INTERVAL: Duration = Duration::from_secs(300);
/// Whether our address is still the same is asked at most this often.
const REST: Duration = Duration::from_secs(10);

/// What is asked.
const MAIN: usize = 0;
const CHANGED: usize = 1;
const SECOND: usize = 2;

/// The answers so far, and the places of those that were asked among our destinations.
#[derive(Clone, Copy, Default, Debug)]
struct Mappings {
    seen: [Option<SocketAddr>; 3],
    numbers: [Option<DestinationNumber>; 3],
}

/// The question whether our address is still the same.
#[derive(Default)]
struct Recheck {
    began: Option<Instant>,
    transaction: [u8; 12],
    tries: usize,
}

/// The questions to a relay's two ports.
#[derive(Default)]
pub struct NatProbing {
    began: Option<Instant>,
    transactions: [[u8; 12]; 3],
    tries: [usize; 3],
    answered: Option<Instant>,
    current: Mappings,
    /// The answers of the time before, while there are no newer ones.
    known: Mappings,
    recheck: Recheck,
    has_moved: bool,
}

impl NatProbing {
    /// Begins anew; what is known from `now` on is of this network.
    pub fn begin(&mut self, is_new_network: bool, now: Instant) {
        if is_new_network {
            (self.known, self.recheck) = (Mappings::default(), Recheck::default());
        } else {
            self.known = self.answers();
        }
        self.answered = None;
        let numbers = self.known.numbers;
        (self.began, self.tries) = (Some(now), [0; 3]);
        self.current = Mappings { numbers, ..Mappings::default() };
        if self.known.seen[SECOND].is_some() {
            // A NAT lets through what it did before, and more now, if it has not forgotten yet that we spoke to the second port.
            (self.current.seen[CHANGED], self.tries[CHANGED]) = (self.known.seen[CHANGED], TRIES.len());
        }
        // No stranger can guess them.
        self.transactions.iter_mut().for_each(|id| random::fill(id));
    }

    /// Perhaps the router has another address by now, or has forgotten us: that is asked for soon. What it lets through is not
    /// asked anew, as it would let through what it did before.
    pub fn doubt(&mut self, now: Instant) {
        if self.recheck_due().is_some() || self.public().is_none() {
            return;
        }
        let began = self.recheck.began.map_or(now, |last| now.max(last + REST));
        self.recheck = Recheck { began: Some(began), ..Recheck::default() };
        random::fill(&mut self.recheck.transaction);
    }

    fn recheck_due(&self) -> Option<Instant> {
        Some(self.recheck.began? + *TRIES.get(self.recheck.tries)?)
    }

    /// Whether our address there is another one, since last asked.
    pub fn take_move(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }

    fn note_address(&mut self, address: SocketAddr) {
        self.has_moved |= self.public().is_some_and(|known| known != address);
    }

    /// Whether all that can come has come.
    pub fn is_settled(&self, now: Instant) -> bool {
        let Some(began) = self.began else { return true };
        self.is_answered() || now.since(began) >= Duration::from_secs(1)
    }

    fn answers(&self) -> Mappings {
        if self.current.seen[MAIN].is_some() { self.current } else { self.known }
    }

    /// As whom the relay sees us.
    pub fn public(&self) -> Option<SocketAddr> {
        self.answers().seen[MAIN]
    }

    /// The place of the relay's first port among our destinations.
    pub(super) fn number_main(&mut self, number: Option<DestinationNumber>) {
        self.current.numbers[MAIN] = number;
    }

    /// That of its second port, which gets another mapping perhaps.
    pub(super) fn number_second(&mut self, number: Option<DestinationNumber>) {
        self.current.numbers[SECOND] = number;
    }

    /// As whom the two ports of a relay see us.
    pub(super) fn seen(&self, relay: Option<SocketAddr>, second_port: Option<u16>) -> [Option<SeenAs>; 2] {
        let Mappings { seen, numbers } = self.answers();
        [(MAIN, relay.map(|relay| relay.port())), (SECOND, second_port)].map(|(what, port)| {
            let asked = SocketAddr::new(relay?.ip(), port?);
            // Whatever the second one says, without the first one nothing can be made of it.
            seen[MAIN]?;
            Some(SeenAs { asked, address: seen[what]?, number: numbers[what] })
        })
    }

    /// Whether both ports have answered.
    pub(super) fn is_answered(&self) -> bool {
        self.current.seen[MAIN].is_some() && self.current.seen[SECOND].is_some()
    }

    /// Whether an answer came from where nothing was sent to.
    pub(super) fn lets_through(&self) -> bool {
        self.answers().seen[CHANGED].is_some()
    }

    /// Takes an answer; whether it told something.
    pub fn receive(&mut self, datagram: &[u8], from: SocketAddr, relay: &RelayAddress, now: Instant) -> bool {
        if from.ip() != relay.endpoint.ip() {
            return false;
        }
        if self.recheck.tries > 0
            && let Some(mapped) = stun::mapped_address(datagram, &self.recheck.transaction)
        {
            self.recheck.tries = TRIES.len();
            self.note_address(mapped);
            return true;
        }
        for (what, transaction) in self.transactions.iter().enumerate() {
            if self.tries[what] > 0
                && self.current.seen[what].is_none()
                && let Some(mapped) = stun::mapped_address(datagram, transaction)
            {
                self.current.seen[what] = Some(mapped);
                self.answered.get_or_insert(now);
                return true;
            }
        }
        false
    }

    /// Sends what is due; where the second port is, if that was asked for the first time.
    pub fn poll(
        &mut self,
        relay: &RelayAddress,
        now: Instant,
        out: &mut dyn AgentOutput,
    ) -> Option<SocketAddr> {
        let before = self.tries[SECOND];
        if self.began.is_some_and(|began| now.since(began) >= INTERVAL) {
            self.begin(false, now);
        }
        for what in [MAIN, CHANGED, SECOND] {
            if self.due(what).is_none_or(|due| due > now) {
                continue;
            }
            self.tries[what] += 1;
            let to = match (what, relay.stun_port) {
                (SECOND, Some(port)) => SocketAddr::new(relay.endpoint.ip(), port),
                (SECOND | CHANGED, None) => continue,
                _ => relay.endpoint,
            };
            ask(&self.transactions[what], what == CHANGED, to, out);
        }
        if self.recheck_due().is_some_and(|due| due <= now) {
            self.recheck.tries += 1;
            ask(&self.recheck.transaction, false, relay.endpoint, out);
        }
        let is_first = before == 0 && self.tries[SECOND] > 0;
        Some(SocketAddr::new(relay.endpoint.ip(), relay.stun_port.filter(|_| is_first)?))
    }

    fn due(&self, what: usize) -> Option<Instant> {
        let began = self.began.filter(|_| self.current.seen[what].is_none())?;
        // Once something was sent to the second port, that it gets through says nothing.
        if what == CHANGED && self.tries[SECOND] > 0 {
            return None;
        }
        let due = began + *TRIES.get(self.tries[what])?;
        let first_are_there = self.current.seen[..SECOND].iter().all(Option::is_some);
        let soon = self.answered.map_or(began + FILTER_WAIT, |at| at + FILTER_GRACE);
        Some(if what == SECOND && !first_are_there { due.max(soon) } else { due })
    }

    /// When something is due.
    pub fn next(&self) -> Option<Instant> {
        let dues = [MAIN, CHANGED, SECOND].into_iter().filter_map(|what| self.due(what));
        dues.chain(self.began.map(|began| began + INTERVAL)).chain(self.recheck_due()).min()
    }
}

/// Asks by STUN, or has the second port answer.
pub(super) fn ask(transaction: &[u8; 12], from_second_port: bool, to: SocketAddr, out: &mut dyn AgentOutput) {
    let mut buffer = [0; REQUEST_LENGTH + 16];
    if let Some(length) = stun::request(transaction, from_second_port, REQUEST_LENGTH, &mut buffer) {
        out.send(Path::to(to), &buffer[..length]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::x25519::PrivateKey;
    use crate::wire::stun::{BindingRequest, MAX_ANSWER_LENGTH};

    #[derive(Default)]
    struct Asked(Vec<Vec<u8>>);

    impl AgentOutput for Asked {
        fn send(&mut self, _to: Path, datagram: &[u8]) {
            self.0.push(datagram.to_vec());
        }

        fn deliver(&mut self, _packet: &[u8]) {}
    }

    #[test]
    fn a_doubt_is_cleared_up_once_in_ten_seconds_and_another_address_is_a_move() {
        let endpoint: SocketAddr = "198.51.100.1:51820".parse().unwrap();
        let relay =
            RelayAddress { endpoint, stun_port: Some(51821), key: PrivateKey::generate().public_key() };
        let start = Instant::ZERO + Duration::from_secs(100);
        let mut probing = NatProbing::default();
        // How many questions there are after so many milliseconds, which are answered so.
        let ask = |probing: &mut NatProbing, after: u64, source: &str| {
            let (now, mut asked) = (start + Duration::from_millis(after), Asked::default());
            probing.poll(&relay, now, &mut asked);
            for question in &asked.0 {
                let mut answer = [0; MAX_ANSWER_LENGTH];
                let request = BindingRequest::parse(question).unwrap();
                let length = request.answer(source.parse().unwrap(), &mut answer);
                probing.receive(&answer[..length], endpoint, &relay, now);
            }
            asked.0.len()
        };
        let [before, after] = ["192.0.2.7:4000", "192.0.2.7:4001"];
        probing.doubt(start);
        assert_eq!(probing.next(), None, "there is nothing yet to doubt");
        probing.begin(true, start);
        assert_eq!([0, 100, 200].map(|at| ask(&mut probing, at, before)), [2, 1, 0]);

        let doubt = |probing: &mut NatProbing, at| probing.doubt(start + Duration::from_millis(at));
        doubt(&mut probing, 1000);
        doubt(&mut probing, 1000);
        assert_eq!([1000, 4000].map(|at| ask(&mut probing, at, before)), [1, 0]);
        assert!(!probing.take_move(), "it has the same address");
        doubt(&mut probing, 5000);
        assert_eq!(probing.next(), Some(start + Duration::from_secs(11)));
        assert_eq!([5000, 11_000].map(|at| ask(&mut probing, at, after)), [0, 1]);
        assert!(probing.take_move() && !probing.take_move());
    }
}
