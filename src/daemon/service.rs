//! Moves requests, messages and time into the API, and what comes of them to the store and the sessions.

#[cfg(feature = "cluster")]
mod after_commit;
#[cfg(feature = "cluster")]
mod following;
#[cfg(feature = "cluster")]
mod instances;
#[cfg(feature = "cluster")]
mod passed_on;
#[cfg(feature = "cluster")]
mod posts;
#[cfg(feature = "cluster")]
mod questions;

#[cfg(feature = "cluster")]
pub use instances::Instances;

use super::bell::{Alarm, Bell};
use super::log_output;
use super::relay_loop::RelayLoop;
use crate::api::messages::MessageReply;
use crate::api::metrics::{RelayView, Surroundings};
use crate::api::sessions::Delivery;
use crate::api::{self, Api, Effects, Handled, Outcome, errors, routes, unavailable};
use crate::control;
use crate::control::change::Change;
use crate::control::entry::Entry;
use crate::crypto::x25519::PublicKey;
use crate::durability::WriteError;
use crate::figures::{Figure, Meter, Readings};
use crate::ids::SessionId;
use crate::net::http::{HttpService, ServiceReply, SessionOutbox, SharedText, Upload};
use crate::net::way_out;
use crate::store::dump::Secrets;
use crate::store::restore::{IncomingBackup, StagedState};
use crate::store::{FileError, Row, Store, Ticket, is_full, records};
use crate::time::{Clock, Instant, Now};
use crate::wire::http::{Answer, RejectedRequest, Request, Source};
use smol::Timer;
use smol::future::FutureExt;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// The wall clock has been set if it moved by more than this against the monotonic one.
const CLOCK_SET: i64 = 60 * 1_000_000;
/// Policy violation (RFC 6455, section 7.4.1).
const CLOSE_POLICY: u16 = 1008;

/// Between two looks at the way to the internet.
const LOOK_OUT: Duration = Duration::from_secs(30);

/// Replies that may wait for the disk, in all sessions together.
const MAX_PENDING_REPLIES: usize = 4096;

type DoorReporter = Box<dyn Fn(&mut Readings)>;
type PendingReply = (SessionId, MessageReply, Option<Ticket>);

/// The daemon as its doors see it.
pub struct Service {
    api: RefCell<Api>,
    store: RefCell<Option<Store>>,
    outboxes: RefCell<HashMap<SessionId, Rc<SessionOutbox>>>,
    next_session: Cell<u64>,
    clock: Clock,
    started: Now,
    alarm: Alarm,
    /// Replies to messages, in turn, each after what it speaks of is durable.
    replies: (smol::channel::Sender<PendingReply>, smol::channel::Receiver<PendingReply>),
    relay: Rc<RelayLoop>,
    /// Tells how full the door is.
    door: OnceCell<DoorReporter>,
    /// How many wait until something is durable. A connection that ends does not end the waiting.
    waiting: Cell<usize>,
    /// A state that is to take the place of this one, and who sent it.
    successor: RefCell<Option<(StagedState, Source)>>,
    /// Rung when there is one.
    succeeded: Bell,
    /// Other instances of the realm, if the state is in a database.
    #[cfg(feature = "cluster")]
    instances: Option<Instances>,
    /// What is told when its commit is made.
    #[cfg(feature = "cluster")]
    held: after_commit::HeldEffects,
}

impl Service {
    pub fn new(api: Api, store: Store, relay: Rc<RelayLoop>, clock: Clock) -> Self {
        Service {
            api: RefCell::new(api),
            store: RefCell::new(Some(store)),
            outboxes: RefCell::default(),
            next_session: Cell::new(1),
            clock,
            started: clock(),
            alarm: Alarm::default(),
            replies: smol::channel::bounded(MAX_PENDING_REPLIES),
            relay,
            door: OnceCell::new(),
            waiting: Cell::new(0),
            successor: RefCell::default(),
            succeeded: Bell::default(),
            #[cfg(feature = "cluster")]
            instances: None,
            #[cfg(feature = "cluster")]
            held: after_commit::HeldEffects::default(),
        }
    }

    /// As one of several instances.
    #[cfg(feature = "cluster")]
    pub fn among(mut self, instances: Instances) -> Self {
        let api = self.api.get_mut();
        api.tell_relays_later();
        api.set_others(true);
        Service { instances: Some(instances), ..self }
    }

    /// Has `door` tell how full it is.
    pub fn watch(&self, door: impl Fn(&mut Readings) + 'static) {
        // There is one door.
        let _ = self.door.set(Box::new(door));
    }

    /// Has these settings count from now on; those of the API as made for the hub's key.
    pub fn reconfigure(
        &self,
        settings: impl FnOnce(&PublicKey) -> api::ApiSettings,
        control: control::ControlSettings,
    ) {
        let mut api = self.api.borrow_mut();
        let settings = settings(&api.control().hub());
        api.reconfigure(settings, control);
        self.alarm.ring();
    }

    fn surroundings(&self) -> Surroundings<'_> {
        let store = self.store.borrow();
        let Some(store) = &*store else { return Surroundings::default() };
        Surroundings { relay: Some(&*self.relay), store_failure: store.health().err(), figures: Some(self) }
    }

    /// How things are, in a line for who looks after the service.
    pub fn summary(&self) -> String {
        let failure = self.surroundings().store_failure;
        let trouble = failure.map_or_else(String::new, |failure| format!("{}; ", failure.detail()));
        let api = self.api.borrow();
        #[cfg(feature = "cluster")]
        let trouble = trouble + &self.role_in_words();
        format!(
            "{trouble}parties: {}, members: {}, at the relay: {}; lanrage {}",
            api.control().party_count(),
            api.control().peer_count(),
            self.relay.load(),
            env!("CARGO_PKG_VERSION")
        )
    }

    /// Does what is to be done after something happened in the API.
    fn settle_after(&self, origin: Option<SessionId>, now: Now) {
        let effects = self.api.borrow_mut().drain(origin, now);
        self.carry_out(effects, now, true);
        // What is due for all is looked at only if nothing was before: it asks every party.
        let api = self.api.borrow();
        let due = if self.alarm.is_idle() { api.poll_timeout() } else { api.update_timeout() };
        self.alarm.advance(due);
    }

    fn carry_out(&self, effects: Effects, now: Now, is_durable: bool) {
        #[cfg(feature = "cluster")]
        if self.instances.is_some() {
            return self.carry_out_together(effects, now);
        }
        let (rows, lazy) = self.rows_of(&effects.changes, is_durable, now);
        self.tell(effects, now);
        let store = self.store.borrow();
        let Some(store) = &*store else { return };
        if !lazy.is_empty() {
            store.lazily(lazy);
        }
        if !rows.is_empty() {
            store.submit(rows);
        }
    }

    /// The rows of what has happened: those that want a commit, and those that can wait for another's.
    fn rows_of(&self, changes: &[Change], is_durable: bool, now: Now) -> (Vec<Row>, Vec<Row>) {
        let (mut rows, mut lazy) = (Vec::new(), Vec::new());
        let api = self.api.borrow();
        for change in changes {
            let out = if is_durable && change.is_durable() { &mut rows } else { &mut lazy };
            records::rows(api.control(), change, now, out);
        }
        (rows, lazy)
    }

    /// Tells sessions and the relay of what has happened.
    fn tell(&self, effects: Effects, now: Now) {
        #[cfg(feature = "cluster")]
        let effects = self.with_relays(effects);
        self.deliver(effects.deliveries);
        for (session, reason) in effects.closures {
            self.close_session(session, reason);
        }
        let api = self.api.borrow();
        for change in &effects.changes {
            self.relay.follow(api.control(), change, now.instant);
        }
        self.relay.arm();
    }

    /// Stands for everything that is submitted by now.
    fn ticket(&self) -> Option<Ticket> {
        self.store.borrow().as_ref().map(|store| store.submit(Vec::new()))
    }

    fn deliver(&self, deliveries: Vec<Delivery>) {
        let outboxes = self.outboxes.borrow();
        for Delivery { to, text } in deliveries {
            let text = SharedText::from(text);
            if let [session] = to[..] {
                // Nobody else has it: it counts for this session at once.
                outboxes.get(&session).map(|outbox| outbox.push(text));
                continue;
            }
            for session in to {
                if let Some(outbox) = outboxes.get(&session) {
                    outbox.push(text.clone());
                }
            }
        }
    }

    fn close_session(&self, session: SessionId, reason: &str) {
        if let Some(outbox) = self.outboxes.borrow().get(&session) {
            outbox.close(CLOSE_POLICY, reason);
        }
    }

    /// Stores the hub's marks for TAI64N.
    pub async fn keep_marks(self: Rc<Self>) {
        loop {
            let mark = self.relay.stamp_mark().await;
            #[cfg(feature = "cluster")]
            if self.holds_mark(mark) {
                continue;
            }
            if let Some(store) = &*self.store.borrow() {
                store.submit(vec![records::stamp_mark(mark)]);
            }
        }
    }

    /// Tells the API of handshakes at the hub.
    pub async fn keep_handshakes(self: Rc<Self>) {
        while let Some((key, from)) = self.relay.handshake().await {
            let now = (self.clock)();
            self.api.borrow_mut().handshake(&key, from, now);
            self.settle_after(None, now);
        }
    }

    /// Tells the API by which address this machine goes to the internet, for ever.
    pub async fn keep_way_out(self: Rc<Self>) {
        loop {
            let address = way_out::addresses().next();
            self.api.borrow_mut().goes_out_by(address, (self.clock)());
            Timer::after(LOOK_OUT).await;
        }
    }

    /// Answers messages whose changes have become durable.
    pub async fn answer_messages(self: Rc<Self>) {
        while let Ok((session, reply, ticket)) = self.replies.1.recv().await {
            let reply = match self.durable(ticket).await {
                Ok(()) => reply,
                Err(error) if reply == MessageReply::Parties => {
                    MessageReply::Error(error.detail().to_owned())
                }
                Err(error) if let MessageReply::Entered(entry) = &reply => {
                    self.undo(Some(entry));
                    MessageReply::Error(error.detail().to_owned())
                }
                Err(_) => reply,
            };
            let deliveries = self.api.borrow_mut().reply(session, reply, (self.clock)());
            self.deliver(deliveries);
            // Who reads takes it now, and has nothing waiting when the next ones are told.
            smol::future::yield_now().await;
        }
    }

    /// Undoes an entry that could not be kept.
    fn undo(&self, entry: Option<&Entry>) {
        if let Some(entry) = entry {
            self.api.borrow_mut().undo(entry);
            self.settle_after(None, (self.clock)());
        }
    }

    async fn durable(&self, ticket: Option<Ticket>) -> Result<(), WriteError> {
        let waiting = match (&*self.store.borrow(), ticket) {
            (Some(store), Some(ticket)) => store.durable(ticket),
            _ => return Err(WriteError::Failing),
        };
        self.waiting.set(self.waiting.get() + 1);
        let result = waiting.await;
        self.waiting.set(self.waiting.get() - 1);
        result
    }

    /// Does what is to be done after the state was loaded.
    pub fn settle(&self) {
        let now = (self.clock)();
        self.relay.admit_all(self.api.borrow().control(), now.instant);
        self.settle_after(None, now);
    }

    /// Lets time pass in the API: sleeps while nothing is due.
    pub async fn keep_time(self: Rc<Self>) {
        loop {
            let now = (self.clock)();
            let due = self.api.borrow().poll_timeout();
            if due.is_some_and(|due| due <= now.instant) {
                let effects = self.api.borrow_mut().poll(Some(&*self.relay), now);
                // Who falls silent would do so again after a crash: that is worth no commit of its own, of which
                // strangers could cause many.
                self.carry_out(effects, now, false);
                // Something due at once again would be a mistake; it must not become a busy loop.
                Timer::after(Duration::from_millis(100)).await;
            } else {
                self.alarm.wait(due, now).await;
            }
        }
    }

    /// Whether somebody who asked for a change waits until it is durable.
    pub fn waits_for_disk(&self) -> bool {
        self.waiting.get() > 0
    }

    /// Resolves when another instance has taken over.
    #[cfg(feature = "cluster")]
    pub fn fenced(&self) -> impl Future<Output = ()> + use<> {
        let fenced = self.store.borrow().as_ref().map(Store::fenced);
        async move {
            match fenced {
                Some(fenced) => fenced.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Writes what is not written yet, and that this stop was in good order; takes at most so long.
    pub fn close(&self, patience: Duration) -> Result<(), WriteError> {
        let now = (self.clock)();
        let Some(store) = self.store.borrow_mut().take() else { return Ok(()) };
        #[cfg(feature = "cluster")]
        if self.api.borrow().control().is_following() {
            self.leave();
            // There is nothing to write: what its thread is at does not matter.
            let _ = store.close_within(patience);
            return Ok(());
        }
        if self.clock_was_set(now) {
            store.lazily(records::all_tokens(self.api.borrow().control(), now));
        }
        store.lazily(vec![records::stopped(Some(now.unix))]);
        store.close_within(patience)
    }

    fn clock_was_set(&self, now: Now) -> bool {
        let micros = |instant: Instant| i64::try_from(instant.as_nanos() / 1000).unwrap_or(i64::MAX);
        let (then, now) = (self.started, now);
        let moved = now.unix.micros_since(then.unix) - (micros(now.instant) - micros(then.instant));
        moved.abs() > CLOCK_SET
    }

    /// Takes a backup and, if it is whole, has the daemon start anew with it.
    fn restore(self: &Rc<Self>, from: Source) -> Result<Upload, Answer> {
        let incoming = match &*self.store.borrow() {
            Some(store) => store.receive((self.clock)().unix),
            None => Err("the server is stopping".to_owned()),
        };
        let IncomingBackup { pieces, outcome } = incoming.map_err(|why| unavailable(&why))?;
        let service = self.clone();
        let outcome = async move {
            match outcome.recv().await {
                Ok(Ok(staged)) => {
                    let rows = staged.rows();
                    service.successor.replace(Some((staged, from)));
                    service.succeeded.ring();
                    Answer::json(200, format!(r#"{{"status":"restarting","rows":{rows}}}"#))
                }
                Ok(Err(error)) => {
                    log::info!("a backup from {from} is not gone back to: {error}");
                    refuse_backup(&error.error)
                }
                Err(_) => unavailable("the server is stopping"),
            }
        };
        Ok(Upload { pieces, outcome: outcome.boxed_local() })
    }

    /// Waits until there is a state that takes the place of this one.
    pub async fn is_succeeded(&self) {
        self.succeeded.rung().await;
    }

    /// That state, and who sent it.
    pub fn take_successor(&self) -> Option<(StagedState, Source)> {
        self.successor.take()
    }

    /// Answers a request as the only instance there is, or the one that writes.
    async fn answer_here(self: &Rc<Self>, request: Request) -> ServiceReply {
        let now = (self.clock)();
        let around = self.surroundings();
        let Handled { path, outcome, awaits_commit, entry } =
            self.api.borrow_mut().handle(&request, &around, now);
        // It is not to be kept while the disk is waited for.
        drop(request);
        self.settle_after(None, now);
        let reply = match outcome {
            Outcome::Backup { redacted } => {
                match self.backup(if redacted { Secrets::Redact } else { Secrets::Include }) {
                    Ok(stream) => ServiceReply { stream: Some(stream), ..lines_of_json().into() },
                    Err(answer) => answer.into(),
                }
            }
            Outcome::Restore { from } => match self.restore(from) {
                Ok(upload) => ServiceReply { upload: Some(upload), ..Answer::json(200, Vec::new()).into() },
                Err(answer) => answer.into(),
            },
            Outcome::Answer(answer) if awaits_commit => match self.durable(self.ticket()).await {
                Ok(()) => answer.into(),
                Err(error) => {
                    self.undo(entry.as_ref());
                    unavailable(error.detail()).into()
                }
            },
            Outcome::Answer(answer) => answer.into(),
        };
        let took = (self.clock)().instant.since(now.instant);
        self.api.borrow_mut().finished(path, reply.answer.status, took);
        reply
    }

    /// Takes a message of a session.
    fn message_here(&self, session: SessionId, text: &str) -> MessageReply {
        let now = (self.clock)();
        let around = self.surroundings();
        let reply = self.api.borrow_mut().message(session, text, &around, now);
        self.settle_after(Some(session), now);
        reply
    }

    /// Replies to a session once what is submitted by now is durable.
    fn reply_to(&self, session: SessionId, reply: MessageReply) {
        if reply != MessageReply::None && self.replies.0.try_send((session, reply, self.ticket())).is_err() {
            self.close_session(session, "the server is overloaded");
        }
    }

    fn backup(&self, secrets: Secrets) -> Result<smol::channel::Receiver<Vec<u8>>, Answer> {
        let pieces = match &*self.store.borrow() {
            Some(store) => store.dump(secrets),
            None => return Err(unavailable("the server is stopping")),
        };
        pieces.map_err(|busy| unavailable(&busy.to_string()))
    }
}

impl Meter for Service {
    fn report(&self, out: &mut Readings) {
        self.relay.report(out);
        if let Some(store) = &*self.store.borrow() {
            store.report(out);
        }
        if let Some(door) = self.door.get() {
            door(out);
        }
        out.set(Figure::LogLinesLost, log_output::lines_lost());
        #[cfg(feature = "cluster")]
        self.report_instance(out);
    }
}

impl HttpService for Service {
    const WEBSOCKET: &'static str = routes::WEBSOCKET;

    async fn call(self: Rc<Self>, request: Request) -> ServiceReply {
        #[cfg(feature = "cluster")]
        let request = match self.answer_together(request).await {
            Ok(reply) => return reply,
            Err(request) => request,
        };
        self.answer_here(request).await
    }

    fn payer(&self, request: &Request) -> Option<IpAddr> {
        self.api.borrow().payer(request)
    }

    fn is_member(&self, session: SessionId) -> bool {
        self.api.borrow().is_member(session)
    }

    fn refused(&self, status: u16) {
        self.api.borrow_mut().counters().refused(status);
    }

    fn open_session(
        &self,
        request: &Request,
        outbox: Rc<SessionOutbox>,
    ) -> Result<SessionId, RejectedRequest> {
        let session = SessionId(self.next_session.replace(self.next_session.get() + 1));
        self.api.borrow_mut().open_session(session, request, (self.clock)())?;
        self.outboxes.borrow_mut().insert(session, outbox);
        Ok(session)
    }

    fn message(self: Rc<Self>, session: SessionId, text: &str) {
        #[cfg(feature = "cluster")]
        if self.pass_on(session, text) {
            return;
        }
        let reply = self.message_here(session, text);
        self.reply_to(session, reply);
    }

    fn closed(&self, session: SessionId) {
        self.outboxes.borrow_mut().remove(&session);
        self.api.borrow_mut().close_session(session);
        #[cfg(feature = "cluster")]
        self.forget_messages(session);
    }
}

/// The head of a dump, which has a JSON value on every line.
fn lines_of_json() -> Answer {
    let headers = vec![
        ("Content-Disposition", "attachment; filename=\"lanrage.backup\"".to_owned()),
        ("Cache-Control", "no-store".to_owned()),
        ("X-Content-Type-Options", "nosniff".to_owned()),
    ];
    Answer { content_type: "application/x-ndjson", headers, ..Answer::json(200, Vec::new()) }
}

/// Why a backup can't be gone back to, for who sent it.
fn refuse_backup(error: &FileError) -> Answer {
    match error {
        FileError::Io(error) if is_full(error) => unavailable("storage full"),
        FileError::Io(error) => unavailable(&error.to_string()),
        FileError::NewerSchema { .. } => {
            errors::detail(400, &format!("This backup can't be used: {error}; use a newer lanrage"))
        }
        error => errors::detail(400, &format!("This backup can't be used: {error}")),
    }
}
