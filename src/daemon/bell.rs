//! Waking the loop's tasks: at once, or when something is due.

use crate::time::{Instant, Now};
use smol::Timer;
use smol::channel::{Receiver, Sender};
use smol::future::FutureExt;
use std::cell::Cell;

/// Wakes who waits for it. Rings that nobody has answered yet are one.
#[derive(Clone, Debug)]
pub struct Bell(Sender<()>, Receiver<()>);

impl Default for Bell {
    fn default() -> Self {
        let (sender, receiver) = smol::channel::bounded(1);
        Bell(sender, receiver)
    }
}

impl Bell {
    /// Wakes who waits, or who is going to.
    pub fn ring(&self) {
        // A full channel is a ring that will be answered.
        let _ = self.0.try_send(());
    }

    /// Waits until it is rung.
    pub(super) async fn rung(&self) {
        // It fails only if nobody could ring.
        let _ = self.1.recv().await;
    }
}

/// Wakes one task when something is due.
#[derive(Default)]
pub(super) struct Alarm {
    bell: Bell,
    /// When the task wakes up by itself.
    set_for: Cell<Option<Instant>>,
}

impl Alarm {
    /// Waits until `due`, or for ever if that is `None`; less long if the alarm [is moved](Alarm::advance) or
    /// [rung](Alarm::ring) meanwhile.
    pub async fn wait(&self, due: Option<Instant>, now: Now) {
        self.set_for.set(due);
        match due {
            None => self.bell.rung().await,
            Some(due) => {
                let slept = async {
                    Timer::after(due.since(now.instant)).await;
                };
                slept.or(self.bell.rung()).await;
            }
        }
    }

    /// Something is due then: sees to it that the task does not wait longer.
    pub fn advance(&self, due: Option<Instant>) {
        let earlier = match (due, self.set_for.get()) {
            (Some(due), Some(set_for)) => due < set_for,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if earlier {
            self.bell.ring();
        }
    }

    /// Whether the task waits for nothing but a ring.
    pub fn is_idle(&self) -> bool {
        self.set_for.get().is_none()
    }

    /// What is due may be due at another time.
    pub fn ring(&self) {
        self.bell.ring();
    }
}
