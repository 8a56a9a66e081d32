//! This instance among those of its realm: whether it writes, and if not, how it follows who does.

use super::Service;
use super::posts::Posts;
use crate::cluster::exchange::{self, InstanceQuestion, QuestionKind, Reply};
use crate::cluster::follower::Follower;
use crate::cluster::seen::SeenQuestions;
use crate::crypto::{envelope, random};
use crate::daemon::bell::Alarm;
use crate::figures::{InstanceReading, Readings};
use crate::ids::SessionId;
use crate::net::client::KeptClient;
use crate::store::Store;
use crate::store::postgres::{RealmHead, RealmWriter, Replica, Target, name_of};
use crate::sys;
use crate::time::Clock;
use crate::wire::http::INSTANCES;
use crate::wire::server_url::ServerUrl;
use smol::channel::{Receiver, Sender};
use smol::future::FutureExt;
use smol::{LocalExecutor, Timer};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long an answer of the one that writes is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a client waits at most until its own instance knows what the other one has told it.
const CATCH_UP: Duration = Duration::from_secs(1);

/// What is known of the other instances, and what passes between them.
pub struct Instances {
    /// With which all is sealed.
    pub(super) key: Zeroizing<[u8; 32]>,
    target: Target,
    /// Names this process to those that are asked.
    stream: u64,
    asked: Cell<u64>,
    pub(super) replica: Option<Replica>,
    pub(super) role: RefCell<Role>,
    pub(super) way: RefCell<Option<WriterConnection>>,
    /// Who waits until a commit is taken over here.
    waiting: RefCell<Vec<(u64, Sender<Infallible>)>>,
    /// Sessions whose messages wait for the one that writes, with those that came after.
    pub(super) busy: RefCell<BTreeMap<SessionId, VecDeque<String>>>,
    /// What this process was asked already.
    pub(super) seen: RefCell<SeenQuestions>,
    pub(super) posts: RefCell<Posts>,
    pub(super) executor: Rc<LocalExecutor<'static>>,
    clock: Clock,
    /// The mark for TAI64N of this instance's hub, which it can't store.
    pub(super) mark: Cell<Option<u64>>,
    /// Wakes what follows the log, and what tells of it.
    pub(super) follow_alarm: Alarm,
    pub(super) digest_alarm: Alarm,
    /// Questions that were answered, and those that were not.
    asked_well: Cell<u64>,
    asked_in_vain: Cell<u64>,
}

/// The way to the one that writes.
pub(super) struct WriterConnection {
    client: Rc<KeptClient>,
    /// Closes with this, when another one writes.
    gone: Receiver<Infallible>,
    _open: Sender<Infallible>,
}

/// What an instance is in its realm.
pub(super) enum Role {
    /// It writes.
    Writer,
    /// It follows, and this one writes, if any.
    Follower(Box<Follower>, Option<RealmWriter>),
}

/// The one that writes does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct WriterAway;

/// What clients are told then.
pub(super) const AWAY: &str = "the server that keeps the state does not answer; try again in a few seconds";

impl Instances {
    /// As `target` says; with a replica it follows.
    pub fn new(
        key: Zeroizing<[u8; 32]>,
        target: Target,
        replica: Option<Replica>,
        executor: Rc<LocalExecutor<'static>>,
        clock: Clock,
    ) -> Self {
        let role = match &replica {
            None => Role::Writer,
            Some(replica) => {
                let RealmHead { position, writer } = replica.loaded.clone();
                Role::Follower(Box::new(Follower::loaded(position, clock().instant)), writer)
            }
        };
        let own = Instances {
            key,
            target,
            stream: u64::from_le_bytes(random::bytes()),
            asked: Cell::new(0),
            replica,
            role: RefCell::new(role),
            way: RefCell::default(),
            waiting: RefCell::default(),
            busy: RefCell::default(),
            seen: RefCell::default(),
            posts: RefCell::default(),
            executor,
            clock,
            mark: Cell::new(None),
            follow_alarm: Alarm::default(),
            digest_alarm: Alarm::default(),
            asked_well: Cell::new(0),
            asked_in_vain: Cell::new(0),
        };
        own.posts.borrow_mut().open(clock().instant);
        own.say_whom();
        own
    }

    /// Whether this instance follows.
    pub fn follows(&self) -> bool {
        matches!(*self.role.borrow(), Role::Follower(..))
    }

    /// This process, as others ask it.
    pub(super) fn owner(&self) -> &str {
        self.target.owner()
    }

    /// The process that writes, if it is not this one.
    pub(super) fn writer(&self) -> Option<String> {
        match &*self.role.borrow() {
            Role::Follower(_, Some(writer)) => Some(writer.owner.clone()),
            _ => None,
        }
    }

    /// Who writes, in words, if it is not this one.
    pub(super) fn writer_in_words(&self) -> Option<String> {
        let Role::Follower(_, writer) = &*self.role.borrow() else { return None };
        Some(match writer {
            Some(RealmWriter { owner, url: Some(url) }) => format!("{} at {url}", name_of(owner)),
            Some(writer) => format!("{} (which does not say where it is reached)", writer.name()),
            None => "nobody at the moment".to_owned(),
        })
    }

    fn say_whom(&self) {
        if let Some(writer) = self.writer_in_words() {
            log::info!("following: realm \"{}\" is written by {writer}", self.target.realm());
        }
    }

    /// The realm is as `head` says. Whether another one writes than before.
    pub(super) fn meet(&self, head: &RealmHead) -> bool {
        let mut role = self.role.borrow_mut();
        let Role::Follower(follower, writer) = &mut *role else { return false };
        let is_news = *writer != head.writer;
        if is_news {
            follower.another_writes();
            writer.clone_from(&head.writer);
            drop(role);
            self.way.replace(None);
            self.say_whom();
        }
        is_news
    }

    /// Asks the one that writes. Gives the number of the last commit that the reply may speak of.
    pub(super) async fn ask(&self, ask: QuestionKind) -> Result<(u64, Reply), WriterAway> {
        let asked = self.ask_once(ask).await;
        let counter = if asked.is_ok() { &self.asked_well } else { &self.asked_in_vain };
        counter.set(counter.get() + 1);
        asked.map_err(|why| {
            log::debug!("the instance that writes does not answer: {why}");
            WriterAway
        })
    }

    async fn ask_once(&self, ask: QuestionKind) -> Result<(u64, Reply), String> {
        let to = match &*self.role.borrow() {
            Role::Follower(_, Some(writer)) => writer.clone(),
            _ => return Err("there is none".to_owned()),
        };
        let url = to.url.ok_or("it does not say where it is reached")?;
        let (client, gone) = self.way_to(&url)?;
        let number = self.asked.get() + 1;
        self.asked.set(number);
        let from = name_of(self.target.owner()).to_owned();
        let question = InstanceQuestion { to: to.owner, from, stream: self.stream, number, ask };
        let (asking, sealed) = envelope::ask(&self.key, exchange::write_question(&question).as_bytes());
        let answer = async {
            client.post(INSTANCES, &sealed, (self.clock)().instant).await.map_err(|error| error.to_string())
        };
        let late = async {
            Timer::after(PATIENCE).await;
            Err("its answer did not come in time".to_owned())
        };
        let replaced = async {
            // It only closes.
            let _ = gone.recv().await;
            Err("another one writes by now".to_owned())
        };
        let answer = answer.or(replaced).or(late).await?;
        if answer.status != 200 {
            return Err(format!("{url} answers with status {}", answer.status));
        }
        let text =
            asking.answered(&self.key, &answer.body).ok_or("its answer is not sealed as it should be")?;
        match exchange::read_reply(&text).ok_or("its answer makes no sense here: is it another version?")? {
            (_, Reply::NotAsked) => Err("another one writes by now".to_owned()),
            (_, Reply::Again) => Err("it was asked before, and the answer is lost".to_owned()),
            (seq, reply) => {
                self.with_follower(|follower| follower.tell(seq));
                Ok((seq, reply))
            }
        }
    }

    /// The way to the one that writes, and what closes when another one does.
    fn way_to(&self, url: &str) -> Result<(Rc<KeptClient>, Receiver<Infallible>), String> {
        let mut known = self.way.borrow_mut();
        let way = match &mut *known {
            Some(way) => way,
            none => {
                let url = ServerUrl::parse(url).map_err(|error| error.to_string())?;
                let (_open, gone) = smol::channel::bounded(1);
                none.insert(WriterConnection { client: Rc::new(KeptClient::new(url)), gone, _open })
            }
        };
        Ok((way.client.clone(), way.gone.clone()))
    }

    /// Waits until the commit with this number is taken over here, or for long enough.
    pub(super) async fn reached(&self, seq: u64) {
        let (sender, reached) = smol::channel::bounded::<Infallible>(1);
        match &*self.role.borrow() {
            Role::Follower(follower, _) if follower.position().seq < seq => {}
            _ => return,
        }
        self.waiting.borrow_mut().push((seq, sender));
        self.follow_alarm.ring();
        let wait = async {
            // The channel closes.
            let _ = reached.recv().await;
        };
        let late = async {
            Timer::after(CATCH_UP).await;
        };
        wait.or(late).await;
    }

    pub(super) fn with_follower(&self, act: impl FnOnce(&mut Follower)) {
        if let Role::Follower(follower, _) = &mut *self.role.borrow_mut() {
            act(follower);
        }
    }

    pub(super) fn wake_waiting(&self) {
        let at = match &*self.role.borrow() {
            Role::Follower(follower, _) => follower.position().seq,
            Role::Writer => u64::MAX,
        };
        self.waiting.borrow_mut().retain(|(seq, sender)| *seq > at && !sender.is_closed());
    }
}

impl Service {
    /// Keeps a mark for TAI64N for when this instance writes. Whether it does not yet.
    pub(super) fn holds_mark(&self, mark: u64) -> bool {
        let follows = self.instances.as_ref().filter(|instances| instances.follows());
        follows.inspect(|instances| instances.mark.set(Some(mark))).is_some()
    }

    /// Stops following, if it does.
    pub(super) fn leave(&self) {
        if let Some(replica) = self.instances.as_ref().and_then(|instances| instances.replica.as_ref()) {
            replica.end();
        }
    }

    /// What this instance is in its realm, for the summary.
    pub(super) fn role_in_words(&self) -> String {
        let writer = self.instances.as_ref().and_then(Instances::writer_in_words);
        writer.map_or_else(String::new, |writer| format!("follows {writer}; "))
    }

    /// Tells how this instance does.
    pub(super) fn report_instance(&self, out: &mut Readings) {
        let Some(instances) = &self.instances else { return };
        let (position, lag) = match &*instances.role.borrow() {
            Role::Follower(follower, _) => (follower.position(), follower.lag((self.clock)().instant)),
            Role::Writer => {
                let position = self.store.borrow().as_ref().and_then(Store::position);
                (position.unwrap_or_default(), Duration::ZERO)
            }
        };
        out.instance = Some(InstanceReading {
            follows: instances.writer_in_words(),
            epoch: position.epoch,
            commits: position.seq,
            lag,
            asked: instances.asked_well.get(),
            unanswered: instances.asked_in_vain.get(),
            fenced: sys::times_fenced(),
        });
    }
}
