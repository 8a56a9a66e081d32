//! What the attacker learns and sends.

use super::Model;
use crate::relay::search::actions::{Attacker, Forgery, Promise};
use crate::relay::search::messages::{Made, MessageLog, Who, is_symbolic, sender_index};
use std::net::SocketAddr;

impl Model {
    pub(super) fn learn(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        if bytes[0] > 2 || !is_symbolic(&bytes) {
            return;
        }
        let index = sender_index(&bytes);
        self.told.push((to, index));
        if !self.indices.contains(&index) {
            self.indices.push(index);
        }
        if bytes[0] == 1 {
            self.got.push(bytes);
        }
    }

    pub(super) fn attack(&mut self, source: usize, forgery: Forgery) {
        let from = self.sources()[source];
        let newest = |all: usize, number: usize| all - 1 - number;
        let is_member = self.setup.attacker != Attacker::Stranger;
        let bytes = match forgery {
            Forgery::Initiation(to) => {
                self.knocks.push((source, forgery, self.now));
                let index = self.messages.index();
                if is_member {
                    self.indices.push(index);
                }
                let is_genuine = is_member && source == 0 && to != Who::Attacker;
                self.messages.initiation(Who::Attacker, to, index, is_genuine).1
            }
            Forgery::ForeignInitiation => {
                let index = self.messages.index();
                let mut bytes = self.messages.initiation(Who::Attacker, Who::Attacker, index, false).1;
                bytes[120] ^= 1;
                bytes
            }
            Forgery::Response(number, to) => {
                let echo = sender_index(&self.got[newest(self.got.len(), number)]);
                let index = self.messages.index();
                self.indices.push(index);
                let made = match self.messages.initiation_with(echo, Who::Attacker) {
                    Some((initiation, by)) if by == to => {
                        Made::Response { by: Who::Attacker, to, initiation, index }
                    }
                    _ => Made::Forgery,
                };
                self.messages.response(made, to, echo, index)
            }
            Forgery::ForeignResponse(number) => {
                let echo = sender_index(&self.got[newest(self.got.len(), number)]);
                let index = self.messages.index();
                let mut bytes = self.messages.response(Made::Forgery, Who::Attacker, echo, index);
                bytes[64] ^= 1;
                bytes
            }
            Forgery::CookieReply(number) => {
                MessageLog::cookie_reply(self.indices[newest(self.indices.len(), number)])
            }
            Forgery::Data(number) => {
                let index = self.indices[newest(self.indices.len(), number)];
                let made = match self.messages.session_of(Who::Attacker, index) {
                    Some(initiation) => Made::Data { by: Who::Attacker, initiation },
                    None => Made::Forgery,
                };
                self.messages.data(made, index)
            }
            Forgery::Replay(number) => self.got[newest(self.got.len(), number)].clone(),
        };
        let before = self.sent();
        if self.is_attackers(from) {
            self.leave_host(from, bytes);
        } else {
            self.arrive_at_relay(from, bytes);
        }
        let is_foreign = matches!(forgery, Forgery::ForeignInitiation | Forgery::ForeignResponse(_));
        if is_foreign && self.sent() != before {
            self.breaks(Promise::Names, |_| "a handshake message for nobody went somewhere".to_owned());
        }
    }
}
