//! What happens, in words.

use super::{Model, home};
use crate::relay::search::actions::Second;
use crate::relay::search::messages::{Made, Who, is_symbolic, sender_index};
use std::net::SocketAddr;

impl Model {
    pub(super) fn tell(&mut self, what: impl Fn(&Model) -> String) {
        if self.story.is_some() {
            let line = what(self);
            self.story.iter_mut().for_each(|story| story.push(line.clone()));
        }
    }

    /// A message in words.
    pub(super) fn read(&self, bytes: &[u8]) -> String {
        let index = sender_index(bytes);
        let made = self.messages.made(bytes).filter(|_| is_symbolic(bytes)).map(|(_, made)| made);
        let whose = match made {
            None if bytes[0] == 3 => "a".to_owned(),
            None => "the hub's session's".to_owned(),
            Some(Made::Forgery) => "a forged".to_owned(),
            Some(Made::Initiation { by, .. } | Made::Response { by, .. } | Made::Data { by, .. }) => {
                format!("{by:?}'s")
            }
        };
        let whom = self.messages.bears(bytes).map_or(String::new(), |to| format!(" for {to:?}"));
        match bytes[0] {
            1 => format!("{whose} initiation{whom} (index {index})"),
            2 => {
                let echo = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
                format!("{whose} response{whom} to index {echo} (index {index})")
            }
            3 => format!("{whose} cookie reply to index {index}"),
            _ => format!("{whose} data for index {index}"),
        }
    }

    pub(super) fn name(&self, address: SocketAddr) -> &'static str {
        if address == home(Who::Anna) {
            "Anna"
        } else if address == home(Who::Bert) {
            "Bert"
        } else if address == self.sources()[0] {
            "the attacker"
        } else if address == self.second() {
            match self.setup.second {
                Second::Elsewhere => "the attacker's second address",
                Second::Neighbour => "the attacker behind Bert's address",
                Second::Spoofed => "somebody behind Bert's address",
            }
        } else {
            "Anna's new address"
        }
    }
}
