//! What is wrong with this machine as a place where friends meet, as far as it shows from here: one list for the page,
//! `/status` and the command line.

use super::{Api, Call};
use crate::figures::{Figure, Readings};
use crate::wire::endpoint;
use crate::wire::json::JsonWriter;

/// A clock that was set back by more than this is told, in microseconds.
const SET_BACK: i64 = 60 * 1_000_000;
/// Less free space than this, in bytes, is soon none.
const LITTLE_SPACE: u64 = 512 * 1024;

/// Something that the owner had better see to.
struct Trouble {
    what: &'static str,
    text: String,
    advice: &'static str,
}

impl Api {
    fn troubles(&self, call: &Call<'_>, readings: &Readings) -> Vec<Trouble> {
        let mut found = Vec::new();
        let mut find = |what, text: String, advice| found.push(Trouble { what, text, advice });
        match self.endpoint() {
            None => find(
                "endpoint_unset",
                "It is not known at which address friends reach this machine from outside.".to_owned(),
                "Enter your public address or DNS name; files and links have it in them.",
            ),
            Some((host, _)) if endpoint::is_private(&host) => find(
                "endpoint_private",
                format!("{host} can't be reached from the internet."),
                "Enter the address that the internet sees, and forward the relay's UDP port to this machine.",
            ),
            Some(_) if self.reached.is_none() => find(
                "not_reached",
                "Nobody from the internet has reached this machine since it was started.".to_owned(),
                "If friends can't connect, look whether the relay's UDP port is open and forwarded.",
            ),
            Some(_) => {}
        }
        let up = i64::try_from(call.now.instant.since(self.started.instant).as_micros()).unwrap_or(i64::MAX);
        if !call.now.unix.is_plausible() {
            find(
                "clock_unset",
                "The clock of this machine is not set.".to_owned(),
                "See to NTP: until then, dates are wrong and invites last as long as the machine is on.",
            );
        // Forward it jumps on every machine without a battery, once NTP has answered.
        } else if up - call.now.unix.micros_since(self.started.unix) > SET_BACK {
            find(
                "clock_set_back",
                "The clock of this machine was set back while lanrage was running.".to_owned(),
                "See to NTP. Who can't connect any more switches the tunnel off and on.",
            );
        }
        if let Some(failure) = call.around.store_failure {
            find(
                "storage",
                format!("Nothing can be kept: {}.", failure.detail()),
                "Free some space, or see to the disk; running games are not affected.",
            );
        } else if (1..LITTLE_SPACE).contains(&readings.stats.values.of(Figure::StoreFree)) {
            find(
                "space_low",
                "There is hardly any free space where the state is kept.".to_owned(),
                "Free some space: without any, nobody new can join.",
            );
        }
        found
    }

    pub(super) fn write_troubles(&self, json: &mut JsonWriter, call: &Call<'_>, readings: &Readings) {
        json.array(|json| {
            for trouble in self.troubles(call, readings) {
                json.object(|json| {
                    json.key("what").string(trouble.what);
                    json.key("text").string(&trouble.text);
                    json.key("do").string(trouble.advice);
                });
            }
        });
    }
}
