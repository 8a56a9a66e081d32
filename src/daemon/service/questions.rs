//! Requests and messages that go from an instance that follows to the one that writes, at both ends.

use super::instances::{AWAY, Instances, WriterAway};
use super::{Service, ServiceReply};
use crate::api::admission::Client;
use crate::api::instances::{is_doubtful, is_for_writer, is_kept};
use crate::api::messages::MessageReply;
use crate::api::{errors, routes, unavailable};
use crate::cluster::exchange::{self, InstanceQuestion, MessageOutcome, QuestionKind, Reply};
use crate::control::following::Digest;
use crate::control::signals::Signal;
use crate::control::standing::Identity;
use crate::crypto::envelope::{self, Asking};
use crate::ids::{PartyId, SessionId};
use crate::wire::http::{Answer, INSTANCES, Request};
use smol::Timer;
use smol::future::FutureExt;
use std::rc::Rc;
use std::time::Duration;
use tiny_http::Method;

/// How long an instance that asks for signals is kept waiting.
const SIGNALS: Duration = Duration::from_secs(3);
/// Between two looks at signals that nobody took.
const LOOK: Duration = Duration::from_millis(500);

impl Service {
    /// Answers what several instances answer together; gives a request back that is answered here.
    pub(super) async fn answer_together(self: &Rc<Self>, request: Request) -> Result<ServiceReply, Request> {
        let Some(instances) = &self.instances else { return Err(request) };
        if request.path == INSTANCES && request.method == Method::Post {
            return Ok(self.take_question(instances, &request).await.into());
        }
        if !instances.follows() {
            return Err(request);
        }
        if is_for_writer(&request) {
            return Ok(self.by_writer(instances, &request).await.into());
        }
        let reply = self.answer_here(request.clone()).await;
        if !is_doubtful(&request, reply.answer.status) {
            return Ok(reply);
        }
        match self.asked_by_writer(instances, &request).await {
            Ok(answer) => Ok(answer.into()),
            // Who is new may not be known here.
            Err(WriterAway) => Ok(unavailable(AWAY).into()),
        }
    }

    async fn by_writer(&self, instances: &Instances, request: &Request) -> Answer {
        let now = (self.clock)();
        let path = routes::find(&request.path).map(|found| found.path);
        let answer = match self.asked_by_writer(instances, request).await {
            Ok(answer) => answer,
            Err(WriterAway) => unavailable(AWAY),
        };
        let took = (self.clock)().instant.since(now.instant);
        self.api.borrow_mut().finished(path, answer.status, took);
        answer
    }

    /// The answer of the one that writes, once what it speaks of is known here.
    async fn asked_by_writer(&self, instances: &Instances, request: &Request) -> Result<Answer, WriterAway> {
        let admitted = self.api.borrow_mut().admit_question(request, (self.clock)().instant);
        let client = match admitted {
            Ok(client) => client,
            Err(answer) => return Ok(answer),
        };
        let asked = Request {
            source: client.source,
            is_forwarded: !client.is_local,
            forwarded_for: None,
            ..request.clone()
        };
        match instances.ask(QuestionKind::Request(Box::new(asked))).await? {
            (seq, Reply::Answered(answer)) => {
                // Nothing that is not kept has to be known here, and without the database nothing comes to be known.
                if answer.status < 400 && is_kept(request) && !self.is_cut_off() {
                    instances.reached(seq).await;
                }
                Ok(answer)
            }
            _ => Err(WriterAway),
        }
    }

    /// Whether this instance has lost the database.
    pub(super) fn is_cut_off(&self) -> bool {
        self.store.borrow().as_ref().is_none_or(|store| store.health().is_err())
    }

    /// A question of another instance.
    async fn take_question(self: &Rc<Self>, instances: &Instances, request: &Request) -> Answer {
        let Some((asking, text)) = envelope::take(&instances.key, &request.body) else {
            // Whoever tries has the same allowance as for anything else.
            let admitted = self.api.borrow_mut().admit_question(request, (self.clock)().instant);
            return admitted
                .err()
                .unwrap_or_else(|| errors::detail(403, "Only instances of this realm may ask here"));
        };
        let seal = |asking: &Asking, reply: &Reply| {
            let seq = self.store.borrow().as_ref().and_then(|store| store.position());
            let text = exchange::write_reply(seq.map_or(0, |position| position.seq), reply);
            let sealed = asking.answer(&instances.key, text.as_bytes());
            Answer { content_type: "application/octet-stream", ..Answer::json(200, sealed) }
        };
        let Some(InstanceQuestion { to, from, stream, number, ask }) = exchange::read_question(&text) else {
            return errors::detail(400, "This question makes no sense here: is it another version?");
        };
        if to != instances.owner() || instances.follows() {
            return seal(&asking, &Reply::NotAsked);
        }
        if !instances.seen.borrow_mut().is_new(stream, number) {
            log::warn!("instance {from} asked the same twice");
            return seal(&asking, &Reply::Again);
        }
        let reply = match ask {
            QuestionKind::Request(request) => Reply::Answered(self.answer_for(*request).await),
            QuestionKind::Message { who, source, is_local, text } => {
                self.message_for(Client { source, is_local }, who, &text).await
            }
            QuestionKind::Position => Reply::Done,
            QuestionKind::Digest(digest) => self.hear_digest(&digest),
            QuestionKind::Signals { heard, unheard } => {
                self.signals_for(instances, stream, &heard, &unheard).await
            }
        };
        seal(&asking, &reply)
    }

    async fn answer_for(self: &Rc<Self>, request: Request) -> Answer {
        let reply = self.answer_here(request).await;
        match (&reply.stream, &reply.upload) {
            (None, None) => reply.answer,
            _ => errors::detail(409, "Ask the server that keeps the state itself for that, or the database"),
        }
    }

    async fn message_for(&self, client: Client, who: Option<Identity>, text: &str) -> Reply {
        let session = SessionId(self.next_session.replace(self.next_session.get() + 1));
        self.api.borrow_mut().open_for(session, client, who, (self.clock)());
        let reply = self.message_here(session, text);
        let (who, names) = self.api.borrow_mut().close_for(session);
        // What was refused, or has nothing to say, waits for nothing.
        let durable = match reply {
            MessageReply::Error(_) | MessageReply::None => Ok(()),
            _ => self.durable(self.ticket()).await,
        };
        let said = match (durable, reply) {
            (_, MessageReply::Error(text)) => MessageOutcome::Error(text),
            (Err(error), MessageReply::Entered(entry)) => {
                self.undo(Some(&entry));
                MessageOutcome::Error(error.detail().to_owned())
            }
            (Err(error), MessageReply::Parties) => MessageOutcome::Error(error.detail().to_owned()),
            (Ok(()), MessageReply::Parties | MessageReply::Entered(_)) => MessageOutcome::Parties,
            (_, MessageReply::None) => MessageOutcome::Nothing,
        };
        Reply::Heard { said, who, names }
    }

    fn hear_digest(&self, digest: &Digest) -> Reply {
        let now = (self.clock)();
        self.api.borrow_mut().control_mut().hear(digest, now);
        self.settle_after(None, now);
        Reply::Done
    }

    /// Signals for another instance, as soon as there are some.
    async fn signals_for(&self, instances: &Instances, stream: u64, heard: &[u64], unheard: &[u64]) -> Reply {
        let outcome = instances.posts.borrow_mut().hear(stream, heard, unheard, (self.clock)().instant);
        self.queue_signals(outcome.refused);
        for (party, signal) in outcome.taken {
            self.api.borrow_mut().control_mut().withdraw_signal(&party, &signal);
        }
        self.api.borrow_mut().set_others(true);
        let bell = instances.posts.borrow().bell(stream);
        if let Some(bell) = bell
            && !instances.posts.borrow().is_waiting(stream)
        {
            let late = async {
                Timer::after(SIGNALS).await;
            };
            bell.rung().or(late).await;
        }
        Reply::Signals(instances.posts.borrow_mut().take(stream))
    }

    /// Offers signals to other instances.
    pub(super) fn offer_signals(&self, signals: Vec<(PartyId, Signal)>) {
        let Some(instances) = &self.instances else { return self.queue_signals(signals) };
        let now = (self.clock)().instant;
        let mut posts = instances.posts.borrow_mut();
        let unwanted: Vec<_> =
            signals.into_iter().filter_map(|(party, signal)| posts.offer(party, signal, now)).collect();
        drop(posts);
        self.queue_signals(unwanted);
    }

    fn queue_signals(&self, signals: Vec<(PartyId, Signal)>) {
        let mut api = self.api.borrow_mut();
        for (party, signal) in signals {
            api.control_mut().queue_signal(&party, signal);
        }
    }

    /// Looks after signals that no instance takes, for ever.
    pub async fn keep_signals(self: Rc<Self>) {
        let Some(instances) = &self.instances else { return };
        loop {
            Timer::after(LOOK).await;
            let late = instances.posts.borrow_mut().sweep((self.clock)().instant);
            self.queue_signals(late);
            let has_any = instances.posts.borrow().has_any();
            self.api.borrow_mut().set_others(has_any);
        }
    }
}
