//! Messages of sessions at an instance that follows: some it takes itself, others it passes on to the one that writes, and
//! all of one session have their turn in the order in which they came.

use super::Service;
use super::instances::{AWAY, Instances, WriterAway};
use crate::api::admission::Client;
use crate::api::instances::{MessagePlace, place_of};
use crate::api::messages::MessageReply;
use crate::cluster::exchange::{MessageOutcome, QuestionKind, Reply};
use crate::ids::SessionId;
use std::collections::VecDeque;
use std::rc::Rc;

/// Messages of a session that may wait for one before them, and their bytes: the longest message has as many.
const MESSAGES_WAITING: usize = 64;
const BYTES_WAITING: usize = 64 * 1024;

impl Service {
    /// A session is gone, and what it has still to say with it.
    pub(super) fn forget_messages(&self, session: SessionId) {
        if let Some(instances) = &self.instances {
            instances.busy.borrow_mut().remove(&session);
        }
    }

    /// Takes a message of a session, as an instance that follows does. Whether it did.
    pub(super) fn pass_on(self: &Rc<Self>, session: SessionId, text: &str) -> bool {
        let Some(instances) = self.instances.as_ref().filter(|instances| instances.follows()) else {
            return false;
        };
        let is_busy = instances.busy.borrow().contains_key(&session);
        // What is taken here at once pays there.
        if !is_busy && place_of(text) != MessagePlace::Writer {
            return self.start_message(instances, session, text);
        }
        if !self.api.borrow_mut().admit_message(session, (self.clock)().instant) {
            self.close_session(session, "too many messages");
            return true;
        }
        if !is_busy {
            return self.start_message(instances, session, text);
        }
        if let Some(waiting) = instances.busy.borrow_mut().get_mut(&session) {
            let bytes: usize = waiting.iter().map(String::len).sum();
            if waiting.len() < MESSAGES_WAITING && bytes + text.len() <= BYTES_WAITING {
                waiting.push_back(text.to_owned());
            } else {
                self.close_session(session, "the server is overloaded");
            }
        }
        true
    }

    fn start_message(self: &Rc<Self>, instances: &Instances, session: SessionId, text: &str) -> bool {
        let failed = match place_of(text) {
            MessagePlace::Here => return false,
            MessagePlace::HereTwice => match self.message_here(session, text) {
                MessageReply::Error(_) => true,
                reply => {
                    self.reply_to(session, reply);
                    return true;
                }
            },
            MessagePlace::Writer => false,
        };
        instances.busy.borrow_mut().insert(session, VecDeque::new());
        let (service, text) = (self.clone(), text.to_owned());
        let work = async move { service.carry_messages(session, text, failed).await };
        instances.executor.spawn(work).detach();
        true
    }

    /// Carries a message to who writes, or tries one that has `failed` once more, and then those that came after it.
    async fn carry_messages(self: Rc<Self>, session: SessionId, mut text: String, mut failed: bool) {
        let Some(instances) = &self.instances else { return };
        loop {
            match (place_of(&text), std::mem::take(&mut failed)) {
                (MessagePlace::HereTwice, true) => self.try_again(instances, session, &text).await,
                (MessagePlace::Writer, _) if instances.follows() => {
                    self.message_by_writer(instances, session, text).await;
                }
                (place, _) => match self.message_here(session, &text) {
                    MessageReply::Error(_) if place == MessagePlace::HereTwice => {
                        self.try_again(instances, session, &text).await;
                    }
                    reply => self.reply_to(session, reply),
                },
            }
            let next = instances.busy.borrow_mut().get_mut(&session).and_then(VecDeque::pop_front);
            match next {
                Some(next) => text = next,
                None => break,
            }
        }
        instances.busy.borrow_mut().remove(&session);
    }

    /// Who is new may be known by now.
    async fn try_again(self: &Rc<Self>, instances: &Instances, session: SessionId, text: &str) {
        match instances.ask(QuestionKind::Position).await {
            Ok((seq, _)) => instances.reached(seq).await,
            Err(WriterAway) if instances.follows() => {
                return self.reply_to(session, MessageReply::Error(AWAY.to_owned()));
            }
            // It is this one by now.
            Err(WriterAway) => {}
        }
        let reply = self.message_here(session, text);
        self.reply_to(session, reply);
    }

    /// A session's message, by the one that writes.
    pub(super) async fn message_by_writer(&self, instances: &Instances, session: SessionId, text: String) {
        let found = self.api.borrow().session(session);
        let Some((Client { source, is_local }, who)) = found else { return };
        let asked = instances.ask(QuestionKind::Message { who, source, is_local, text }).await;
        let Ok((seq, Reply::Heard { said, who, names })) = asked else {
            return self.reply_to(session, MessageReply::Error(AWAY.to_owned()));
        };
        if !self.is_cut_off() {
            instances.reached(seq).await;
        }
        if let Some(who) = who {
            self.api.borrow_mut().learn(session, who, names);
            self.settle_after(None, (self.clock)());
        }
        let reply = match said {
            MessageOutcome::Parties => MessageReply::Parties,
            MessageOutcome::Error(text) => MessageReply::Error(text),
            MessageOutcome::Nothing => return,
        };
        self.reply_to(session, reply);
    }
}
