//! What several instances do after something happened: the one that writes tells nobody before the commit, since another one
//! may go on without it; one that follows tells what is committed, and writes nothing.

use super::{Effects, Service};
use crate::cluster::entry;
use crate::durability::WriteError;
use crate::store::Ticket;
use crate::time::Now;
use smol::Timer;
use smol::channel::{Receiver, Sender};
use std::rc::Rc;
use std::time::Duration;

/// Between two looks at a database that is away.
const PAUSE: Duration = Duration::from_millis(100);

/// What is told in turn, each after its commit.
pub(super) struct HeldEffects {
    put: Sender<(Effects, Ticket)>,
    take: Receiver<(Effects, Ticket)>,
}

impl Default for HeldEffects {
    fn default() -> Self {
        let (put, take) = smol::channel::unbounded();
        HeldEffects { put, take }
    }
}

impl Service {
    /// Keeps what has happened, and tells of it in time.
    pub(super) fn carry_out_together(&self, mut effects: Effects, now: Now) {
        self.offer_signals(std::mem::take(&mut effects.signals));
        if self.api.borrow().control().is_following() {
            return self.tell(effects, now);
        }
        let (rows, lazy) = self.rows_of(&effects.changes, true, now);
        let told = |is_durable: bool| {
            entry::tell(effects.changes.iter().filter(|change| change.is_durable() == is_durable))
        };
        let ticket = match &*self.store.borrow() {
            Some(store) => {
                if !lazy.is_empty() {
                    store.lazily_told(lazy, &told(false));
                }
                (!rows.is_empty()).then(|| store.submit_told(rows, &told(true)))
            }
            None => None,
        };
        match ticket {
            // It never fails: the other end is here.
            Some(ticket) => {
                drop(self.held.put.try_send((effects, ticket)));
                // Nothing of what relays are answered waits.
                self.tell(Effects::default(), now);
            }
            None => self.tell(effects, now),
        }
    }

    /// With what relays in other places are told by now.
    pub(super) fn with_relays(&self, mut effects: Effects) -> Effects {
        if self.instances.is_some() {
            self.api.borrow_mut().tell_relays(&mut effects);
        }
        effects
    }

    /// Tells what has happened, each when it is committed.
    pub async fn tell_in_turn(self: Rc<Self>) {
        while let Ok((effects, ticket)) = self.held.take.recv().await {
            loop {
                match self.durable(Some(ticket)).await {
                    Ok(()) => {
                        self.tell(effects, (self.clock)());
                        break;
                    }
                    // Another instance goes on, without it perhaps.
                    Err(WriteError::Fenced) => return,
                    // It is tried again, and so are those who wait for it.
                    Err(_) => drop(Timer::after(PAUSE).await),
                }
            }
        }
    }
}
