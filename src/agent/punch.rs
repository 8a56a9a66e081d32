//! Two NATs that don't fit: one gives each destination another port, at random, and the other lets nobody in who was not
//! addressed exactly. The first one sends from many sockets to the second's one address, so has many ports open for it; the
//! second one sends to so many of the first's ports at random that one of them is nearly surely one of those. That costs
//! 1300 datagrams, so it is done for one member at a time, seldom, and only if there is traffic.

use crate::agent::ends::Ends;
use crate::agent::network::SocketWish;
use crate::agent::pair::Pair;
use crate::agent::spray::{PATIENCE, Spray, SpraySide};
use crate::agent::turn::AgentTurn;
use crate::agent::view::NatView;
use crate::datagram::Path;
use crate::time::Instant;
use crate::wire::nat_type::NatType;
use crate::wire::probe::{CandidateKind, PING_LENGTH, Probe};
use std::net::SocketAddr;
use std::time::Duration;

/// Sockets on the side whose NAT chooses ports at random.
const SOCKETS: u16 = 256;
/// Ports tried by the other side: none of them fits in 2 of 100 cases.
const PORTS: u16 = 988;
/// Below are ports that no NAT gives.
const FIRST_PORT: u64 = 1024;
/// How often some datagrams are sent, and how many.
const INTERVAL: Duration = Duration::from_millis(8);
const SOCKETS_AT_ONCE: u16 = 2;
const PORTS_AT_ONCE: u16 = 2;
/// What pays for the datagrams that the member sends.
const PUNCHES: u16 = 44;
const ANSWERING_PUNCHES: u16 = 12;
const PUNCH_LENGTH: usize = 1420;
/// Only after a round has come so far.
const TICKS_BEFORE: u32 = 5;
/// It is not begun again before this.
const REST: Duration = Duration::from_secs(600);

impl Pair {
    /// The member's address as a server sees it.
    fn public_address(&self) -> Option<SocketAddr> {
        let offer = self.offer?;
        let mut candidates = offer.candidates.iter().flatten();
        candidates.find(|one| one.kind == CandidateKind::Public).map(|one| one.address)
    }

    /// Begins, goes on, or ends.
    pub(super) fn run_spray(&mut self, turn: &mut AgentTurn<'_>) {
        let now = turn.now.instant;
        if self.spray.is_none() {
            self.begin_spray(turn);
        }
        let Some(mut spray) = self.spray.take() else { return };
        if self.active.is_some() || spray.is_over(now) {
            return;
        }
        if spray.next <= now {
            spray.next = now + INTERVAL;
            match &mut spray.side {
                SpraySide::Sockets { to, sent, punches } => self.send_from_sockets(turn, *to, sent, punches),
                SpraySide::Ports { of, sent, punches } => self.send_to_ports(turn, *of, sent, punches),
            }
        }
        self.spray = Some(spray);
    }

    fn begin_spray(&mut self, turn: &mut AgentTurn<'_>) {
        let now = turn.now.instant;
        let NatView { kind: own, port_step, .. } = turn.locality.judgement.view;
        let other = self.offer.map_or(NatType::Unknown, |offer| offer.nat);
        let is_time = match self.round {
            Some(round) => round.tick >= TICKS_BEFORE && port_step.is_none(),
            None => true,
        };
        let has_rested = |last: Option<Instant>, rest| last.is_none_or(|last| now.since(last) >= rest);
        if self.active.is_some()
            || own != NatType::Symmetric
            || other != NatType::PortRestrictedCone
            || !is_time
            || !self.is_busy(now)
            || !has_rested(self.sprayed, REST)
            || !has_rested(turn.locality.sprayed, PATIENCE)
            || turn.locality.kept_socket.is_some()
        {
            return;
        }
        let Some(to) = self.public_address().filter(|&to| turn.locality.accepts(to)) else { return };
        (self.sprayed, turn.locality.sprayed) = (Some(now), Some(now));
        turn.locality.wish = Some(SocketWish::Extra { count: SOCKETS.into() });
        let side = SpraySide::Sockets { to, sent: 0, punches: 0 };
        self.spray = Some(Box::new(Spray { began: now, next: now, side }));
    }

    /// Whether additional sockets are open, or asked for, on behalf of this member.
    pub(super) fn needs_sockets(&self) -> bool {
        self.spray.as_ref().is_some_and(|spray| matches!(spray.side, SpraySide::Sockets { .. }))
    }

    /// The additional socket that the path in use leads through.
    pub(super) fn used_socket(&self) -> Option<u16> {
        self.active.map(|index| self.straight[index].socket).filter(|&socket| socket != 0)
    }

    /// All additional sockets but `kept` are gone, and with them the paths through them.
    pub(super) fn forget_sockets(&mut self, kept: Option<u16>) {
        let active = self.active.map(|index| self.straight[index].ends());
        self.straight.retain(|path| path.socket == 0 || Some(path.socket) == kept);
        self.active = active.and_then(|ends| self.straight.iter().position(|path| path.ends() == ends));
    }

    fn send_from_sockets(
        &mut self,
        turn: &mut AgentTurn<'_>,
        to: SocketAddr,
        sent: &mut u16,
        punches: &mut u16,
    ) {
        if turn.locality.extra_sockets == 0 {
            return;
        }
        self.send_punch(turn, punches, PUNCHES);
        for _ in 0..SOCKETS_AT_ONCE {
            if *sent < turn.locality.extra_sockets.min(SOCKETS) {
                *sent += 1;
                self.send_ping(turn, Ends { path: Path::to(to), socket: *sent });
            }
        }
    }

    /// Says what goes on, and pays for what the member is to send.
    fn send_punch(&self, turn: &mut AgentTurn<'_>, punches: &mut u16, most: u16) {
        let Some(relay) = self.relay_path(turn.locality).filter(|_| *punches < most) else { return };
        let probe = Probe::Punch { id: turn.random.next_u64() as u32, ports: SOCKETS, around: 0 };
        turn.send_probe(self.peer, relay.into(), &probe, PUNCH_LENGTH);
        *punches += 1;
    }

    fn send_to_ports(&mut self, turn: &mut AgentTurn<'_>, of: SocketAddr, sent: &mut u16, punches: &mut u16) {
        self.send_punch(turn, punches, ANSWERING_PUNCHES);
        for _ in 0..PORTS_AT_ONCE {
            if *sent < PORTS {
                let port = FIRST_PORT + turn.random.below(65_536 - FIRST_PORT);
                let to = SocketAddr::new(of.ip(), port as u16);
                *sent += u16::from(turn.locality.accepts(to) && self.send_ping(turn, Path::to(to).into()));
            }
        }
    }

    /// A question whose answer nobody waits for: that it comes through is what is wanted.
    fn send_ping(&mut self, turn: &mut AgentTurn<'_>, to: Ends) -> bool {
        let cost = turn.device.sealed_length(PING_LENGTH);
        if self.allowance < cost {
            return false;
        }
        self.allowance -= cost;
        let id = turn.random.next_u64() as u32;
        turn.send_probe(self.peer, to, &Probe::Ping { id }, 0)
    }

    /// The member sends from many sockets.
    pub(super) fn on_punch(&mut self, turn: &mut AgentTurn<'_>, relay: Option<Path>) {
        let now = turn.now.instant;
        let is_rested = self.sprayed.is_none_or(|last| now.since(last) >= REST);
        let is_free = turn.locality.sprayed.is_none_or(|last| now.since(last) >= PATIENCE);
        if self.active.is_some() || self.spray.is_some() || relay.is_none() || !is_rested || !is_free {
            return;
        }
        let Some(of) = self.public_address() else { return };
        (self.sprayed, turn.locality.sprayed) = (Some(now), Some(now));
        self.spray = Some(Box::new(Spray {
            began: now,
            next: now,
            side: SpraySide::Ports { of, sent: 0, punches: 0 },
        }));
    }
}
