//! The parts of the nine rules of [blind forwarding](super::blind) that the search takes out, one at a time, to show
//! that it would notice.

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// 1: an initiation that bears no member's mac1 goes nowhere.
    MembersOnly,
    /// 2: a response bears its initiator's mac1.
    NamesInitiator,
    /// 3: a response is an offer until the initiator's data confirms it.
    DataConfirms,
    /// 4: guesses go only to where the member speaks to the control plane from.
    Evidence,
    /// 4: candidates take turns.
    Turns,
    /// 4: the hub session's address comes first.
    HubFirst,
    /// 5: data goes by its source address, too.
    SourceAddress,
    /// 6: a cookie reply comes from where the message that it answers went.
    CookieSource,
    /// 8: who is not validated gets no more than he gave.
    AntiAmplification,
    /// 9: what is silent is forgotten.
    Expiry,
}

impl Rule {
    /// Whether it is kept: always, but where the search tries what would be without it.
    #[cfg(not(test))]
    pub const fn holds(self) -> bool {
        true
    }

    /// Whether it is kept: by this thread, see [`without`].
    #[cfg(test)]
    pub fn holds(self) -> bool {
        WITHOUT.get() != Some(self)
    }
}

#[cfg(test)]
thread_local! {
    static WITHOUT: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

/// From now on this thread does without that rule.
#[cfg(test)]
pub fn without(rule: Option<Rule>) {
    WITHOUT.set(rule);
}
