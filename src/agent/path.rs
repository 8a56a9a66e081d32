//! One path to a member, by the relay or straight: what was asked and answered on it, how long that takes, and how much of
//! what is sent arrives. That something came on it says nothing of what we send on it; only an answer does.

use crate::agent::ends::Ends;
use crate::agent::mappings::DestinationNumber;
use crate::agent::turn::AgentTurn;
use crate::datagram::Path;
use crate::time::Instant;
use crate::wire::probe::{CandidateKind, MAX_PROBE_LENGTH, Probe};
use crate::wireguard::message::TRANSPORT_HEADER_LENGTH;
use crate::wireguard::peer::PeerIndex;
use std::net::SocketAddr;
use std::time::Duration;

/// After so long without an answer a path is in doubt, and data goes by both.
pub(super) const DOUBT_TIME: Duration = Duration::from_millis(600);
/// A path is dead after this, at least, and four round trips.
const DEATH_TIME: Duration = Duration::from_millis(900);
/// When what is silent is asked, from the beginning of the silence on.
const QUESTIONS: [Duration; 4] = [
    Duration::from_millis(300),
    Duration::from_millis(600),
    Duration::from_millis(750),
    Duration::from_millis(900),
];
/// Questions whose answers are waited for.
const WAITING: usize = 8;
/// Lengths of inner packets, one of which must be carried before a path is used.
pub(super) const LENGTHS: [usize; 4] = [1420, 1372, 1280, 1200];
/// How often each is tried.
const TRIES_PER_LENGTH: u8 = 2;
/// Loss is judged by at least so many datagrams.
const LOSS_SAMPLE: u32 = 40;
/// What of a thousand may get lost, before another path is better.
const BAD_LOSS: u32 = 50;

#[derive(Clone, Copy)]
struct Question {
    id: u32,
    at: Instant,
    length: usize,
    sent: u32,
}

/// What is known of a path.
pub(super) struct PathState {
    pub path: Path,
    pub socket: u16,
    pub kind: CandidateKind,
    /// Its number among the destinations that a NAT makes mappings for.
    pub number: Option<DestinationNumber>,
    questions: [Option<Question>; WAITING],
    next_question: usize,
    /// Questions answered since it is tried.
    pub answers: u32,
    /// The longest inner packet known to be carried; 0 if none is.
    pub mtu: usize,
    long_tries: u8,
    pub round_trip: Option<Duration>,
    /// When something authentic last came on it.
    pub heard: Option<Instant>,
    /// When it was last asked.
    pub asked: Option<Instant>,
    /// When it was first asked since the last answer.
    unanswered: Option<Instant>,
    /// When data was first sent on it since something came.
    waiting: Option<Instant>,
    reminders: usize,
    /// As whom the member sees us on it.
    pub seen_as: Option<SocketAddr>,
    /// Times in a row that it was better than the one in use.
    pub wins: u8,
    sent: u32,
    pub received: u32,
    window: Option<(u32, u32)>,
    /// What of a thousand datagrams gets lost.
    pub loss: u32,
    lossy_since: Option<Instant>,
}

impl PathState {
    pub fn new(path: Path, kind: CandidateKind) -> Self {
        PathState {
            path,
            socket: 0,
            kind,
            number: None,
            questions: [None; WAITING],
            next_question: 0,
            answers: 0,
            mtu: 0,
            long_tries: 0,
            round_trip: None,
            heard: None,
            asked: None,
            unanswered: None,
            waiting: None,
            reminders: 0,
            seen_as: None,
            wins: 0,
            sent: 0,
            received: 0,
            window: None,
            loss: 0,
            lossy_since: None,
        }
    }

    pub fn ends(&self) -> Ends {
        Ends { path: self.path, socket: self.socket }
    }

    /// Whether two answers have come, one of them to a long question.
    pub fn is_proven(&self) -> bool {
        self.answers >= 2 && self.mtu > 0
    }

    /// How long the next question is to be: as short as can be until one was answered.
    pub fn question_length(&self) -> Option<usize> {
        if self.answers == 0 {
            return Some(0);
        }
        let index = usize::from(self.long_tries / TRIES_PER_LENGTH);
        if self.mtu > 0 { Some(0) } else { LENGTHS.get(index).copied() }
    }

    /// Asks; the datagram's length, 0 if there is no session.
    pub fn ask(&mut self, turn: &mut AgentTurn<'_>, peer: PeerIndex, length: usize) -> usize {
        let (now, id) = (turn.now.instant, turn.random.next_u64() as u32);
        let room = TRANSPORT_HEADER_LENGTH + length.max(MAX_PROBE_LENGTH);
        turn.scratch[TRANSPORT_HEADER_LENGTH..room].fill(0);
        let length = Probe::Ping { id }.write(&mut turn.scratch[TRANSPORT_HEADER_LENGTH..]).max(length);
        let Some(sealed) = turn.device.seal_probe(peer, turn.scratch, length, turn.now) else { return 0 };
        self.ends().send(&turn.scratch[..sealed], turn.out);
        if length >= LENGTHS[LENGTHS.len() - 1] {
            self.long_tries += 1;
        }
        self.questions[self.next_question] = Some(Question { id, at: now, length, sent: self.sent });
        self.next_question = (self.next_question + 1) % WAITING;
        self.asked = Some(now);
        self.unanswered.get_or_insert(now);
        sealed
    }

    /// Takes an answer to one of our questions.
    pub fn on_answer(&mut self, id: u32, received: u32, now: Instant) -> Option<()> {
        let question = self.questions.iter_mut().find(|known| known.is_some_and(|known| known.id == id))?;
        let Question { at, length, sent, .. } = question.take()?;
        let sample = now.since(at);
        self.round_trip = Some(match self.round_trip {
            Some(known) => (known * 7 + sample) / 8,
            None => sample,
        });
        self.answers += 1;
        if length >= LENGTHS[LENGTHS.len() - 1] {
            self.mtu = self.mtu.max(length);
        }
        (self.unanswered, self.reminders) = (None, 0);
        self.judge_loss(sent, received, now);
        Some(())
    }

    fn judge_loss(&mut self, sent: u32, received: u32, now: Instant) {
        let Some((before, arrived)) = self.window else {
            self.window = Some((sent, received));
            return;
        };
        let count = sent.wrapping_sub(before);
        if !(LOSS_SAMPLE..1 << 24).contains(&count) {
            return;
        }
        let lost = count.saturating_sub(received.wrapping_sub(arrived));
        self.loss = lost.saturating_mul(1000) / count;
        self.window = Some((sent, received));
        match self.loss {
            BAD_LOSS.. => _ = self.lossy_since.get_or_insert(now),
            _ => self.lossy_since = None,
        }
    }

    /// Whether too much has got lost for as long as that.
    pub fn is_lossy(&self, span: Duration, now: Instant) -> bool {
        self.lossy_since.is_some_and(|since| now.since(since) >= span)
    }

    /// Whether it is still to be found out what it carries.
    pub fn seeks_mtu(&self) -> bool {
        self.question_length().is_some_and(|length| length > 0)
    }

    /// The longest packet known to be carried; as long as none is, any.
    pub fn known_mtu(&self) -> usize {
        if self.mtu == 0 { usize::MAX } else { self.mtu }
    }

    /// Something authentic came on it.
    pub fn on_heard(&mut self, is_data: bool, now: Instant) {
        self.heard = Some(now);
        self.waiting = None;
        self.received = self.received.wrapping_add(is_data.into());
    }

    /// Data is sent on it.
    pub fn on_sent(&mut self, now: Instant) {
        self.sent = self.sent.wrapping_add(1);
        self.waiting.get_or_insert(now);
    }

    /// Since when something has been missing.
    pub fn silent_since(&self) -> Option<Instant> {
        [self.unanswered, self.waiting].into_iter().flatten().min()
    }

    /// Whether it may be dead: data goes by both.
    pub fn is_doubtful(&self, now: Instant) -> bool {
        self.silent_since().is_some_and(|since| now.since(since) >= DOUBT_TIME)
    }

    /// Whether nothing came on it for too long, though we said something.
    pub fn is_missed(&self, now: Instant) -> bool {
        self.waiting.is_some_and(|since| now.since(since) >= DOUBT_TIME)
    }

    /// Whether it is: there was no answer, though it was asked more than once.
    pub fn is_dead(&self, now: Instant) -> bool {
        let patience = DEATH_TIME.max(self.round_trip.unwrap_or_default() * 4);
        self.reminders >= 2 && self.silent_since().is_some_and(|since| now.since(since) >= patience)
    }

    /// Asks again, if it is silent and that is due.
    pub fn remind(&mut self, turn: &mut AgentTurn<'_>, peer: PeerIndex) {
        let now = turn.now.instant;
        if self.reminder().is_some_and(|due| due <= now) {
            self.reminders += 1;
            self.ask(turn, peer, 0);
        }
    }

    /// When the next reminder is due.
    fn reminder(&self) -> Option<Instant> {
        Some(self.silent_since()? + *QUESTIONS.get(self.reminders)?)
    }

    /// When there is something to do or to judge because of silence.
    pub fn next(&self) -> Option<Instant> {
        let patience = DEATH_TIME.max(self.round_trip.unwrap_or_default() * 4);
        let death = self.silent_since().map(|since| since + patience);
        [self.reminder(), death].into_iter().flatten().min()
    }

    /// There is a reason to doubt it from now on.
    pub fn doubt(&mut self, now: Instant) {
        self.unanswered.get_or_insert(now - DOUBT_TIME);
    }

    /// Nothing is missing any more, whatever was.
    pub fn forgive(&mut self) {
        (self.unanswered, self.waiting, self.reminders) = (None, None, 0);
        self.questions = [None; WAITING];
    }

    /// It is another one from now on, though it looks the same.
    pub fn renew(&mut self) {
        let PathState { path, socket, kind, number, .. } = *self;
        *self = PathState { socket, number, ..PathState::new(path, kind) };
    }
}
