//! A bounded exhaustive search for a way to break the relay's promises.
//!
//! Two players, with or without the hub as one more peer, want to play; one attacker sends whatever it can form from
//! what it knows and has got, from two addresses. Breadth first, every state of all of them is looked at once: see
//! `model` for what may happen, `honest` for the players, `fingerprint` for what makes two states the same. A state is
//! reached by doing again what led to it.
//!
//! It is here and not among the scenarios outside, because it tells states apart by what is inside the relay, and
//! [takes rules out](super::rules).
//!
//! What is promised, in every state:
//!
//! 1. Credit (rule 8). To an address where nobody has got something and sent something afterwards, the relay sends at
//!    most as many bytes as came from there; but for each datagram of data from there, one initiation of the hub's.
//! 2. Privacy (rules 3, 4 and 8). Nothing that one player made for the other goes to an address of the attacker's.
//!    There are two exceptions, both for initiations alone, which say no more than that somebody who knows the
//!    recipient's public key looks for it:
//!    - to an address from whose IP address the recipient speaks to the control plane: there it may be (rule 4);
//!    - to a member of their party, while they have no hub sessions: it can tell the relay, by a session of
//!      its own from one of its addresses to the other, or by data with the index of a session that a silent player has
//!      with it, that this one is there. That gets its turn, and no more.
//! 3. Liveness. If the attacker stops, both hear each other at most one retry of WireGuard's later than if it had never
//!    been there; and while it goes on, too. Who sends, or says that he sends, from a player's own IP address can cost
//!    one retry more, as a guess may go there first.
//! 4. Ways (rules 5 and 6). Data and cookie replies from the attacker's addresses are forwarded only if a handshake
//!    message told that index to that address.
//! 5. An initiation with the mac1 of nobody goes nowhere (rule 1).
//! 6. What is silent is forgotten (rule 9).

mod books;
pub(in crate::relay) mod fingerprint;
mod honest;
mod model;

use books::Who;
use crate::relay::rules::{Rule, without};
use crate::time::Instant;
use model::{Action, Attacker, Second, Setup, World};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// A retry of WireGuard's, with the most that is added to it by chance.
const RETRY: Duration = Duration::from_millis(5400);
/// A pair that does not hear each other within this never does.
const NEVER: Duration = Duration::from_secs(60);
/// So deep, what is silent must be forgotten. It takes the longest to try, and hardly depends on what was before.
const FORGETS_DEPTH: usize = 2;

/// How far to go.
#[derive(Clone, Copy)]
struct Bounds {
    depth: usize,
    states: usize,
    time: Duration,
}

/// How far it went, and what it found.
struct Outcome {
    depth: usize,
    states: usize,
    tried: usize,
    found: Option<(String, Vec<String>)>,
}

/// What would be if the attacker did not exist.
#[derive(Clone, Copy)]
struct Peace {
    fingerprint: u128,
    playing_since: Option<Instant>,
    time_to_play: Option<Duration>,
}

struct Search {
    setup: Setup,
    keys: [crate::crypto::x25519::PublicKey; 3],
    /// By what the players do.
    peace: HashMap<Vec<Action>, Peace>,
}

impl Search {
    fn new(setup: Setup) -> Self {
        Search { setup, keys: Who::ALL.map(|who| who.private_key().public_key()), peace: HashMap::new() }
    }

    /// How much longer than without the attacker it may take.
    fn patience(&self) -> Duration {
        if self.setup.second == Second::Elsewhere { RETRY } else { 2 * RETRY }
    }

    fn world(&self, path: &[Action]) -> World {
        let mut world = World::new(self.setup, self.keys);
        path.iter().for_each(|&action| world.act(action));
        world
    }

    fn peace(&mut self, path: &[Action]) -> Peace {
        let path: Vec<_> = path.iter().copied().filter(|action| !action.is_attack()).collect();
        if let Some(&known) = self.peace.get(&path) {
            return known;
        }
        let mut world = self.world(&path);
        let (fingerprint, playing_since) = (world.describe().finish(), world.playing_since);
        let peace = Peace { fingerprint, playing_since, time_to_play: world.time_to_play(NEVER) };
        self.peace.insert(path, peace);
        peace
    }

    /// What is broken after `path`, or if not: the state, and what may happen next.
    fn look(&mut self, path: &[Action]) -> (World, u128, Option<String>) {
        let peace = self.peace(path);
        let world = self.world(path);
        let mut fingerprint = world.describe();
        fingerprint.number(peace.fingerprint as u64).number((peace.fingerprint >> 64) as u64);
        let apart = peace.playing_since.filter(|&since| {
            world.playing_since.is_none() && world.now.since(since) > self.patience()
        });
        let broken = world.broken.clone().or_else(|| {
            Some(format!("the players have been kept apart for {:?}", world.now.since(apart?)))
        });
        (world, fingerprint.finish(), broken)
    }

    /// What is broken if the attacker stops in a state that is new.
    fn look_ahead(&mut self, path: &[Action], mut world: World) -> Option<String> {
        let peace = self.peace(path).time_to_play;
        let time = world.time_to_play(NEVER);
        let late = match (time, peace) {
            (Some(time), Some(peace)) => time > peace + self.patience(),
            (None, peace) => peace.is_some(),
            _ => false,
        };
        if late {
            return Some(format!("the players hear each other after {time:?} instead of {peace:?}"));
        }
        if path.len() <= FORGETS_DEPTH && !self.setup.hub && !world.forgets() {
            return Some("the relay still keeps something of who was silent for long".to_owned());
        }
        world.broken
    }

    fn run(&mut self, bounds: Bounds) -> Outcome {
        let began = std::time::Instant::now();
        let mut seen = HashSet::new();
        let mut level: Vec<(Vec<Action>, Vec<Action>)> = vec![(Vec::new(), self.world(&[]).actions())];
        let mut outcome = Outcome { depth: 0, states: 0, tried: 0, found: None };
        while !level.is_empty() && outcome.depth < bounds.depth {
            let mut next = Vec::new();
            for (path, actions) in level {
                for action in actions {
                    if outcome.states >= bounds.states || began.elapsed() > bounds.time {
                        return outcome;
                    }
                    let path: Vec<_> = path.iter().copied().chain([action]).collect();
                    outcome.tried += 1;
                    let (world, fingerprint, mut broken) = self.look(&path);
                    if broken.is_none() {
                        if !seen.insert(fingerprint) {
                            continue;
                        }
                        outcome.states += 1;
                        let actions = world.actions();
                        broken = self.look_ahead(&path, world);
                        next.push((path.clone(), actions));
                    }
                    if let Some(broken) = broken {
                        outcome.found = Some((broken, self.tell(&path)));
                        return outcome;
                    }
                }
            }
            outcome.depth += 1;
            level = next;
        }
        outcome
    }

    /// What happens on `path`, and afterwards.
    fn tell(&self, path: &[Action]) -> Vec<String> {
        let mut world = World::new(self.setup, self.keys);
        world.story = Some(Vec::new());
        path.iter().for_each(|&action| world.act(action));
        if world.broken.is_none() {
            world.story.iter_mut().for_each(|story| story.push("then, without the attacker:".to_owned()));
            let _ = world.time_to_play(Duration::from_secs(6));
        }
        world.story.take().unwrap_or_default()
    }
}

fn search(setup: Setup, rule: Option<Rule>, bounds: Bounds) -> Outcome {
    without(rule);
    let outcome = Search::new(setup).run(bounds);
    without(None);
    outcome
}

fn setups() -> Vec<Setup> {
    let mut all = Vec::new();
    for hub in [false, true] {
        for second in [Second::Elsewhere, Second::Neighbour, Second::Spoofed] {
            all.push(Setup { attacker: Attacker::Stranger, second, hub });
        }
        all.push(Setup { attacker: Attacker::Mate, second: Second::Elsewhere, hub });
        all.push(Setup { attacker: Attacker::Former, second: Second::Elsewhere, hub });
    }
    all
}

fn report(setup: Setup, outcome: &Outcome, time: Duration) -> bool {
    let Outcome { depth, states, tried, found } = outcome;
    println!("{setup:?}: {states} states of {tried} tried, all within {depth} steps, in {time:?}");
    if let Some((broken, story)) = found {
        println!("BROKEN: {broken}");
        story.iter().for_each(|line| println!("  {line}"));
    }
    found.is_none()
}

#[test]
fn nothing_near_breaks_a_promise() {
    let bounds = Bounds { depth: 4, states: 600, time: Duration::from_secs(20) };
    let mut all_hold = true;
    for setup in setups() {
        let began = std::time::Instant::now();
        let outcome = search(setup, None, bounds);
        all_hold &= report(setup, &outcome, began.elapsed());
    }
    assert!(all_hold);
}
