//! What there is to ask for, and how.

use crate::wire::percent;
use std::borrow::Cow;
use tiny_http::Method;

/// Something with a path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Place {
    /// What this is.
    Root,
    /// Getting a token.
    Register,
    /// Getting a nonce to prove a key with.
    Nonce,
    /// All parties.
    Parties,
    /// One party.
    Party,
    /// Joining it.
    Join,
    /// Its peers.
    Peers,
    /// One of them.
    Peer,
    /// Its signs of life.
    Heartbeat,
    /// Sending signals.
    Signals,
    /// Receiving them.
    PeerSignals,
    /// Who must not come back.
    Bans,
    /// All relays.
    Relays,
    /// Those of a region.
    RelaysIn,
    /// Figures for Prometheus.
    Metrics,
    /// This list, for machines.
    OpenApi,
    /// Figures for the owner.
    Status,
    /// A copy of the store.
    Backup,
}

const GET: &[Method] = &[Method::Get];
const POST: &[Method] = &[Method::Post];

/// Every place, its path and its methods.
const ROUTES: [(Place, &str, &[Method]); 18] = [
    (Place::Root, "/", GET),
    (Place::Register, "/auth/register", POST),
    (Place::Nonce, "/auth/nonce", GET),
    (Place::Parties, "/parties", &[Method::Get, Method::Post]),
    (Place::Party, "/parties/{party_id}", &[Method::Get, Method::Delete]),
    (Place::Join, "/parties/{party_id}/join", POST),
    (Place::Peers, "/parties/{party_id}/peers", GET),
    (Place::Peer, "/parties/{party_id}/peers/{peer_id}", &[Method::Get, Method::Delete]),
    (Place::Heartbeat, "/parties/{party_id}/peers/{peer_id}/heartbeat", POST),
    (Place::Signals, "/parties/{party_id}/signals", POST),
    (Place::PeerSignals, "/parties/{party_id}/peers/{peer_id}/signals", GET),
    (Place::Bans, "/parties/{party_id}/bans", &[Method::Get, Method::Post, Method::Delete]),
    (Place::Relays, "/relays", &[Method::Get, Method::Post]),
    (Place::RelaysIn, "/relays/{region}", GET),
    (Place::Metrics, "/metrics", GET),
    (Place::OpenApi, "/openapi.json", GET),
    (Place::Status, "/status", GET),
    (Place::Backup, "/backup", GET),
];

impl Place {
    /// Every place, its path and its methods.
    pub fn all() -> impl Iterator<Item = (Place, &'static str, &'static [Method])> {
        ROUTES.into_iter()
    }

    /// Its path, with names in braces for what varies.
    pub fn path(self) -> &'static str {
        ROUTES[self as usize].1
    }

    /// The methods that it takes.
    pub fn methods(self) -> &'static [Method] {
        ROUTES[self as usize].2
    }

    /// Whether asking for it in this way changes what is kept on disk.
    pub fn changes_state(self, method: &Method) -> bool {
        !matches!(method, Method::Get | Method::Head | Method::Options)
            && !matches!(self, Place::Heartbeat | Place::Signals)
    }

    /// Whether only the owner of the daemon may ask for it in this way, or whoever is on this machine.
    pub fn is_owners(self, method: &Method) -> bool {
        match self {
            Place::Metrics | Place::Status | Place::Backup => true,
            Place::Parties => matches!(method, Method::Get | Method::Head),
            _ => false,
        }
    }

    /// Whether a body is read when it is asked for in this way; any other is ignored.
    pub fn takes_body(self, method: &Method) -> bool {
        *method == Method::Post && !matches!(self, Place::Heartbeat)
    }

    /// Whether asking for it in this way makes something that others have to live with.
    pub fn creates(self, method: &Method) -> bool {
        *method == Method::Post && matches!(self, Place::Register | Place::Parties)
    }
}

/// What varies in a path, decoded: at most two parts.
pub type Parameters<'a> = [Cow<'a, str>; 2];

/// The place that a path means.
pub fn find(path: &str) -> Option<(Place, Parameters<'_>)> {
    ROUTES.iter().find_map(|(place, pattern, _)| Some((*place, parameters(pattern, path)?)))
}

fn parameters<'a>(pattern: &str, path: &'a str) -> Option<Parameters<'a>> {
    let mut found = Parameters::default();
    let mut next = found.iter_mut();
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(found),
            (Some(name), Some(part)) if name.starts_with('{') && !part.is_empty() => {
                *next.next()? = percent::decode(part)?;
            }
            (Some(name), Some(part)) if name == part => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_places() {
        for (index, (place, path, _)) in Place::all().enumerate() {
            assert_eq!(place as usize, index);
            let example = path.replace(['{', '}'], "");
            assert_eq!(find(&example).unwrap().0, place, "{example}");
        }
    }

    #[test]
    fn finds_parameters_and_refuses_everything_else() {
        let (place, [party, peer]) = find("/parties/a%20b/peers/c/heartbeat").unwrap();
        assert_eq!((place, &*party, &*peer), (Place::Heartbeat, "a b", "c"));
        for path in
            ["", "//", "/parties/", "/parties//join", "/parties/a/", "/nope", "/parties/%zz", "/relays/a/b"]
        {
            assert_eq!(find(path), None, "{path:?}");
        }
    }
}
