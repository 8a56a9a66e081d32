//! Parties, peers and relays as the wire has them. The key sets are exact: a stock client dies of one key
//! too many or too few (REFERENCE 1).

use crate::control::Control;
use crate::control::change::Change;
use crate::control::keys::KeyTrouble;
use crate::control::party::{Member, Party, PeerInfo, host_id};
use crate::control::signals::Signal;
use crate::control::viewer::LocalClock;
use crate::ids::PeerId;
use crate::time::Now;
use crate::wire::control::{PartyHead, PeerBody};
use crate::wire::datetime::Naive;
use crate::wire::json::{JsonWriter, object};

/// For whom something is written, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct View {
    /// The reader's clock.
    pub clock: LocalClock,
    /// Now.
    pub now: Now,
}

impl View {
    /// As `peer` sees it; its clock is known if it is in a party.
    pub fn of(control: &Control, peer: Option<&PeerId>, now: Now) -> Self {
        let clock = peer.and_then(|peer| {
            let party = control.parties_of(peer).first()?;
            Some(control.party(party.as_str()).ok()?.members.get(peer)?.clock)
        });
        View { clock: clock.unwrap_or(LocalClock::Ours), now }
    }
}

/// A peer: 9 keys.
pub fn peer(json: &mut JsonWriter, member: &Member, view: View) {
    let PeerInfo {
        peer_id,
        name,
        public_key,
        nat_type,
        public_ip,
        public_port,
        local_ip,
        local_port,
        last_seen: _,
    } = &member.info;
    let body = PeerBody {
        peer_id: peer_id.clone(),
        name: (&**name).into(),
        public_key: (&**public_key).into(),
        nat_type: *nat_type,
        public_ip: (&**public_ip).into(),
        public_port: *public_port,
        local_ip: (&**local_ip).into(),
        local_port: *local_port,
        last_seen: view.clock.show(member.seen, view.now),
    };
    body.write(json);
}

/// Peers by id.
pub fn peers(json: &mut JsonWriter, party: &Party, view: View) {
    json.object(|json| members(json, party, view));
}

fn members(json: &mut JsonWriter, party: &Party, view: View) {
    for (id, member) in &party.members {
        peer(json.key(id.as_str()), member, view);
    }
}

/// A party: 5 keys.
pub fn party(json: &mut JsonWriter, party: &Party, view: View) {
    let head = PartyHead {
        party_id: party.id.clone(),
        name: (&*party.name).into(),
        host_id: party.host_id().into(),
        created_at: party.created_at,
    };
    head.write(json, |json| members(json, party, view));
}

/// A message for open sessions: `{"type": ..}` and what `members` writes.
fn message(kind: &str, members: impl FnOnce(&mut JsonWriter)) -> String {
    object(|json| {
        json.key("type").string(kind);
        members(json);
    })
}

/// `party_update`: replaces what the client knows of the party.
pub fn party_update(found: &Party, view: View) -> String {
    message("party_update", |json| party(json.key("party"), found, view))
}

/// `party_update` for one of its members, with what it has to be warned of beside the party.
pub fn own_party_update(control: &Control, found: &Party, member: &Member, view: View) -> String {
    message("party_update", |json| {
        party(json.key("party"), found, view);
        warnings(json, control, member);
    })
}

/// `warnings`: why a member gets no relay service and what it can do, if it gets none.
pub fn warnings(json: &mut JsonWriter, control: &Control, member: &Member) {
    let Some(trouble) = control.key_trouble(member) else { return };
    let whose = match trouble {
        KeyTrouble::Unusable => {
            let warning =
                "public_key is not a WireGuard key (Base64 of 32 bytes): this peer gets no relay service";
            json.key("warnings").array(|json| json.string(warning));
            return;
        }
        KeyTrouble::Held => "another peer is in a party with this public_key",
        KeyTrouble::Owned => "another peer has proven that this public_key is its own",
    };
    let warning = format!(
        "{whose}: until this peer proves that it has the private key, it gets no relay service, and another \
         virtual_ip than the key's. Switch on the WireGuard app that has the key, with the hub as a peer, in the \
         network that this peer asks from; or join again with a nonce and a proof; or make a new key pair"
    );
    json.key("warnings").array(|json| json.string(&warning));
}

/// `party_update` for a party that ended: nobody is in it. `None` for any other change.
pub fn party_ended(change: &Change) -> Option<String> {
    let Change::PartyDeleted { party, name, created_at, host, .. } = change else { return None };
    let head = PartyHead {
        party_id: party.clone(),
        name: (&**name).into(),
        host_id: host_id(host.as_ref()).into(),
        created_at: *created_at,
    };
    Some(message("party_update", |json| head.write(json.key("party"), |_| {})))
}

/// `peer_joined`: somebody is new, or somebody's data are.
pub fn peer_joined(party: &Party, member: &Member, view: View) -> String {
    message("peer_joined", |json| {
        json.key("party_id").string(party.id.as_str());
        peer(json.key("peer"), member, view);
    })
}

/// `peer_left`.
pub fn peer_left(party: &str, peer: &str) -> String {
    message("peer_left", |json| {
        json.key("party_id").string(party);
        json.key("peer_id").string(peer);
    })
}

/// `error`.
pub fn error(text: &str) -> String {
    message("error", |json| json.key("message").string(text))
}

/// What a signal says, over either transport.
pub fn signal(json: &mut JsonWriter, party: &str, signal: &Signal) {
    json.object(|json| {
        json.key("type").string("signal");
        json.key("party_id").string(party);
        json.key("from_peer_id").string(signal.from.as_str());
        json.key("to_peer_id").string(signal.to.as_str());
        json.key("signal_data").raw(&signal.data);
        json.key("sent_at").string(&Naive(signal.sent_at).to_string());
    });
}
