//! An instance that follows: it takes over what another one has committed, tells it what it hears of members, and writes
//! when it is its turn.

use super::Service;
use super::instances::{Instances, Role, WriterAway};
use crate::cluster::digest::MOST_HEARD;
use crate::cluster::exchange::{QuestionKind, Reply};
use crate::cluster::follower::Follower;
use crate::cluster::lease::Position;
use crate::control::following::Digest;
use crate::store::postgres::{RealmHead, Replica, ReplicaNews};
use crate::store::records;
use smol::Timer;
use smol::future::FutureExt;
use std::rc::Rc;
use std::time::Duration;

/// Between two attempts at one that does not answer.
const PAUSE: Duration = Duration::from_millis(500);

impl Service {
    /// Follows who writes, until this instance does.
    pub async fn follow(self: Rc<Self>) {
        let Some(instances) = &self.instances else { return };
        let Some(replica) = &instances.replica else { return };
        let mut leads = None;
        loop {
            let now = (self.clock)();
            let due = match &mut *instances.role.borrow_mut() {
                Role::Follower(follower, _) => {
                    if leads.is_some_and(|position: Position| follower.has(position)) {
                        break;
                    }
                    if let Some(question) = follower.poll(now.instant) {
                        replica.ask(question);
                    }
                    follower.poll_timeout()
                }
                Role::Writer => return,
            };
            let news = async { Some(replica.news().await) };
            let due = async {
                instances.follow_alarm.wait(due, now).await;
                None
            };
            match news.or(due).await {
                Some(ReplicaNews::Leads(position)) => {
                    leads = Some(position);
                    instances.with_follower(Follower::hurry);
                }
                Some(news) => self.take_news(instances, replica, news),
                None => {}
            }
        }
        self.lead(instances, replica);
    }

    fn take_news(&self, instances: &Instances, replica: &Replica, news: ReplicaNews) {
        let now = (self.clock)();
        match news {
            ReplicaNews::Hint(seq) => instances.with_follower(|follower| follower.hint(seq)),
            ReplicaNews::Log { head, log } => {
                let (mut commits, mut was_elsewhere, mut is_elsewhere) = (Vec::new(), false, false);
                instances.with_follower(|follower| {
                    was_elsewhere = follower.is_elsewhere();
                    commits = follower.take(head.position, log);
                    is_elsewhere = follower.is_elsewhere();
                });
                match (was_elsewhere, is_elsewhere) {
                    (false, true) => log::warn!(
                        "the database lacks what was committed: it is not the one of who writes, which is looked for"
                    ),
                    (true, false) => log::info!("the database is that of who writes"),
                    _ => {}
                }
                if is_elsewhere {
                    replica.connect_again();
                }
                for commit in commits {
                    let adopted = self.api.borrow_mut().control_mut().adopt(commit, now);
                    self.settle_after(None, now);
                    if adopted.is_err() {
                        log::warn!("a commit makes no sense here: everything is loaded again");
                        instances.with_follower(Follower::diverged);
                        break;
                    }
                }
                self.meet(instances, &head);
            }
            ReplicaNews::Everything { head, rows } => {
                let mut before = head.position;
                instances.with_follower(|follower| before = follower.position());
                let now_at = head.position;
                if now_at.seq < before.seq || now_at.epoch < before.epoch {
                    log::error!(
                        "the database went back from commit {} of epoch {} to commit {} of epoch {}: another one answers, or \
                         it lost what it had confirmed",
                        before.seq,
                        before.epoch,
                        now_at.seq,
                        now_at.epoch
                    );
                }
                let records = records::load(rows).records;
                let caught_up = self.api.borrow_mut().control_mut().catch_up(records, now);
                if caught_up.is_err() {
                    log::error!("the rows of the realm contradict each other: some are left out");
                }
                instances.with_follower(|follower| follower.reloaded(head.position));
                self.settle_after(None, now);
                self.meet(instances, &head);
            }
            ReplicaNews::Failed | ReplicaNews::Leads(_) => instances.with_follower(Follower::failed),
        }
        instances.wake_waiting();
        instances.digest_alarm.ring();
    }

    fn meet(&self, instances: &Instances, head: &RealmHead) {
        if instances.meet(head) {
            self.api.borrow_mut().tell_of_relays();
        }
    }

    /// All is known that there is, and the lease is ours.
    fn lead(&self, instances: &Instances, replica: &Replica) {
        let now = (self.clock)();
        instances.role.replace(Role::Writer);
        instances.way.replace(None);
        instances.posts.borrow_mut().open(now.instant);
        let mut api = self.api.borrow_mut();
        api.set_others(true);
        api.control_mut().lead(now);
        drop(api);
        replica.write();
        if let Some(store) = &*self.store.borrow() {
            // From here on the dates of tokens are not what the store says they are: see `TokenRecord`.
            let mark = instances.mark.take().map(records::stamp_mark);
            store.submit([records::stopped(None)].into_iter().chain(mark).collect());
        }
        instances.wake_waiting();
        self.settle_after(None, now);
        self.alarm.ring();
        log::info!("this instance writes from now on");
    }

    /// Tells who writes what was heard of members.
    pub async fn keep_digests(self: Rc<Self>) {
        let Some(instances) = &self.instances else { return };
        let mut unsent = Digest::default();
        while instances.follows() {
            let now = (self.clock)();
            let is_urgent = self.api.borrow().control().is_digest_urgent();
            let due = match &*instances.role.borrow() {
                Role::Follower(follower, _) => follower.digest_at(is_urgent),
                Role::Writer => return,
            };
            if due > now.instant && unsent.is_empty() {
                instances.digest_alarm.wait(Some(due), now).await;
                continue;
            }
            if unsent.is_empty() {
                unsent = self.api.borrow_mut().control_mut().take_digest(MOST_HEARD, now);
                if unsent.len() < MOST_HEARD {
                    instances.with_follower(|follower| follower.digested(now.instant));
                }
            }
            if !unsent.is_empty() {
                match instances.ask(QuestionKind::Digest(unsent.clone())).await {
                    Ok(_) => unsent = Digest::default(),
                    Err(WriterAway) => drop(Timer::after(PAUSE).await),
                }
            }
        }
        // It is this one that has to know now.
        let now = (self.clock)();
        self.api.borrow_mut().control_mut().hear(&unsent, now);
        self.settle_after(None, now);
    }

    /// Takes signals for sessions here from who writes.
    pub async fn hear_signals(self: Rc<Self>) {
        let Some(instances) = &self.instances else { return };
        let (mut heard, mut unheard, mut by) = (Vec::new(), Vec::new(), None);
        while instances.follows() {
            // Another one has numbers of its own.
            let writer = instances.writer();
            if writer != by {
                (heard, unheard, by) = (Vec::new(), Vec::new(), writer);
            }
            let ask = QuestionKind::Signals { heard: heard.clone(), unheard: unheard.clone() };
            let Ok((_, Reply::Signals(signals))) = instances.ask(ask).await else {
                Timer::after(PAUSE).await;
                continue;
            };
            (heard, unheard) = (Vec::new(), Vec::new());
            for (number, party, signal) in signals {
                let taken = self.api.borrow().take_signal(&party, &signal);
                match taken {
                    Some(deliveries) => {
                        self.deliver(deliveries);
                        heard.push(number);
                    }
                    None => unheard.push(number),
                }
            }
        }
    }
}
