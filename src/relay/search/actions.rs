//! What is searched: who the attacker is, what may happen, what it can send, and what must hold.

use super::messages::Who;

/// Who the attacker is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attacker {
    /// In no party, but knows both public keys.
    Stranger,
    /// A member of the players' party, whom their apps have as a peer.
    Mate,
    /// As [`Attacker::Mate`], and may leave the party. The apps keep his key.
    Former,
}

/// What its second address is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Second {
    /// Somewhere else.
    Elsewhere,
    /// Behind the same public address as Bert: there a guess may go (rule 4).
    Neighbour,
    /// The same, but the attacker only writes it on what it sends.
    Spoofed,
}

/// What must hold: see the [search](super).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promise {
    AntiAmplification,
    Privacy,
    Liveness,
    Ways,
    Names,
    Forgetting,
}

/// What is searched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setup {
    pub attacker: Attacker,
    pub second: Second,
    /// Whether the players have the hub as one more peer.
    pub hub: bool,
}

/// One thing that may happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// A player's app goes on.
    Start(Who),
    /// Anna's app goes off, or her machine sleeps.
    Stop,
    /// Anna's network gives her another address, from which her client speaks to the control plane, too.
    Roam,
    /// The attacker leaves the party.
    Leave,
    /// What is longest on its way to a player arrives.
    Arrive,
    /// So many seconds pass, in which the players do what their timers say.
    Wait(u8),
    /// The attacker sends something from its first or second address.
    Attack(usize, Forgery),
}

/// What an attacker can send. The numbers count what it knows from the newest on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Forgery {
    /// An initiation with the mac1 for somebody. From a mate's first address it is his own, and genuine.
    Initiation(Who),
    /// An initiation for a key that is no member's.
    ForeignInitiation,
    /// A response to an initiation that it got, with the mac1 for somebody.
    Response(usize, Who),
    /// The same, with the mac1 for a key that is no member's.
    ForeignResponse(usize),
    /// A cookie reply for an index that it knows.
    CookieReply(usize),
    /// Data for an index that it knows.
    Data(usize),
    /// An initiation that it got, once more.
    Replay(usize),
}

impl Action {
    pub fn is_attack(self) -> bool {
        matches!(self, Action::Attack(..))
    }
}
