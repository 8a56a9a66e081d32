//! What owners do with parties besides playing.

use super::fields::{ObjectFields, Problems, Text};
use super::{Api, Call, Handling, ok};
use crate::control::expiry::Expiry;
use crate::control::ownership::PartyWish;
use crate::control::party::Party;
use crate::time::{Now, UnixTime};
use crate::wire::json::{JsonWriter, object};

/// The latest second that a date can have: the end of the year 9999.
const LAST_SECOND: i64 = 253_402_300_799;

const ACCESS: &str = "'open', 'password', 'invite' or 'public'";

impl Api {
    /// A party that belongs to this machine.
    pub(super) fn create_own_party(
        &mut self,
        body: &ObjectFields<'_>,
        mut problems: Problems,
        call: &Call<'_>,
    ) -> Handling {
        let name = body.text("name", Text::NAME, &mut problems);
        let relay = body.optional_text("relay", Text::ID, &mut problems);
        let wish = PartyWish { name, relay, ..wish(body, call.now, &mut problems) };
        problems.check()?;
        let id = self.control.create_own_party(&wish, call.now)?;
        self.party_answer(id.as_str(), Some(id.as_str()), call)
    }

    pub(super) fn change_party(&mut self, call: &Call<'_>) -> Handling {
        let actor = call.actor()?;
        let mut problems = Problems::default();
        let body = ObjectFields::of_body(call.body.as_ref(), &mut problems);
        let wish = wish(&body, call.now, &mut problems);
        problems.check()?;
        let id = &call.parameters[0];
        self.control.change_party(actor, id, &wish)?;
        let party = self.control.party(id)?;
        ok(object(|json| {
            json.key("status").string("ok");
            json.key("name").string(&party.name);
            write_access(json, party, call.now);
        }))
    }

    pub(super) fn list_public(&mut self, _: &Call<'_>) -> Handling {
        let limit = self.control.settings().limits.peers_per_party as u64;
        let mut parties: Vec<&Party> = self.control.public_parties().collect();
        parties.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        ok(object(|json| {
            json.key("parties").array(|json| {
                for party in parties {
                    json.object(|json| {
                        json.key("party_id").string(party.id.as_str());
                        json.key("name").string(&party.name);
                        json.key("players").int(party.members.len() as u64);
                        json.key("limit").int(limit);
                    });
                }
            });
        }))
    }
}

/// Who may come into a party, and for how long.
pub fn write_access(json: &mut JsonWriter, party: &Party, now: Now) {
    json.key("access").string(party.access.as_str());
    json.key("permanent").bool(party.permanent);
    date(json.key("ends_at"), party.ends.map(|end| end.date(now)));
}

/// A date in seconds, or null.
pub fn date(json: &mut JsonWriter, date: Option<UnixTime>) {
    json.or_null(date, |json, date| json.int(date.as_secs()));
}

/// What a body wants of a party.
fn wish<'a>(body: &ObjectFields<'a>, now: Now, problems: &mut Problems) -> PartyWish<'a> {
    let is_access = |text: &str| ["open", "password", "invite", "public"].contains(&text).then_some(());
    // The name itself is what counts.
    body.optional_word("access", is_access, ACCESS, problems);
    let ends = match body.given("ends_at") {
        Some(crate::wire::json::Value::Null) => Some(None),
        Some(_) => {
            let at = body.optional_number("ends_at", 0, LAST_SECOND, problems);
            at.map(|at| Some(Expiry::at(UnixTime::from_micros(at * 1_000_000), now)))
        }
        None => None,
    };
    PartyWish {
        name: body.optional_text("name", Text::NAME, problems),
        access: body.optional("access").and_then(|access| access.as_str()),
        password: body.optional_text("password", Text::PASSWORD, problems),
        permanent: body.optional_bool("permanent", problems),
        ends,
        relay: None,
    }
}
