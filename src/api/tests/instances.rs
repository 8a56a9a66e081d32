//! What sessions at one instance hear of what another one decides.

use super::*;
use crate::control::adopt::{Commit, Gone};
use crate::control::standing::Actor;

/// All that `control` keeps.
fn all(control: &Control, now: Now) -> Records {
    let mut records = Records::default();
    for party in control.parties() {
        let record = control.party_record(&party.id, now).unwrap();
        records.parties.push((party.id.to_string(), record));
        for (peer, member) in &party.members {
            let record = control.member_record(&party.id, peer, now).unwrap();
            records.members.push((party.id.to_string(), peer.to_string(), record));
            let name = member.address_name.to_string();
            let record = control.address_record(&name).unwrap();
            records.addresses.push((name, record));
        }
    }
    for (hash, _) in control.tokens().iter() {
        records.tokens.push((hash, control.token_record(&hash, now).unwrap()));
    }
    records
}

fn follower_of(writer: &TestApi) -> TestApi {
    let mut follower = TestApi::new();
    let now = writer.now;
    follower.now = now;
    let control = follower.api.control_mut();
    control.follow(now);
    control.catch_up(all(writer.api.control(), now), now).unwrap();
    follower.settle(None);
    follower
}

#[test]
fn a_kick_at_the_writer_ends_sessions_at_a_follower() {
    let mut writer = TestApi::new();
    let alice = writer.token("alice");
    let party = writer.create("alice", &alice);
    let join = join_party(&party, "carol");
    writer.open(3, "198.51.100.3");
    writer.say(3, &join);
    let mut follower = follower_of(&writer);
    let durable = follower.durable;
    follower.open(7, "198.51.100.3");
    follower.say(7, &join);
    assert_eq!(follower.durable, durable, "it is a member already");
    follower.heard(7);

    let control = writer.api.control_mut();
    control.remove_peer(&Actor::Admin, &party, "carol").unwrap();
    let changes = control.drain_changes();
    let gone = Gone { members: vec![(party, "carol".into())], ..Gone::default() };
    let commit = Commit { records: Records::default(), gone, changes };
    let now = follower.now;
    follower.api.control_mut().adopt(commit, now).unwrap();
    follower.settle(None);
    assert_eq!(follower.heard(7), ["peer_left carol", "error"]);
    assert_eq!(follower.closed, [7]);
}

#[test]
fn a_signal_whose_recipient_has_no_session_here_is_for_other_instances_if_there_are_any() {
    let mut writer = TestApi::new();
    let (alice, bob) = (writer.token("alice"), writer.token("bob"));
    let party = writer.create("alice", &alice);
    writer.join("bob", &party, &bob);
    let queue = format!("/parties/{party}/peers/bob/signals");
    for (has_others, offered, queued) in [(true, 1, 0), (false, 0, 1)] {
        writer.api.set_others(has_others);
        let now = writer.now;
        let by = writer.api.control_mut().authenticate(&alice, now).unwrap();
        writer.api.control_mut().signal(&by, &party, "bob", "{}".into(), now).unwrap();
        let effects = writer.api.drain(None, now);
        assert_eq!((effects.signals.len(), effects.changes.len()), (offered, 0));
        let (_, waiting) = writer.ask(Method::Get, &queue, Some(&bob), "");
        let Some(Value::Array(waiting)) = waiting.get("signals") else { panic!("{waiting:?}") };
        assert_eq!(waiting.len(), queued);
    }
}

#[test]
fn a_message_of_another_instance_makes_its_session_known_there() {
    let mut writer = TestApi::new();
    let alice = writer.token("alice");
    let party = writer.create("alice", &alice);
    let mut follower = follower_of(&writer);
    // Who comes by an address alone is known by what the writer makes of it.
    let client = Client { source: Source::Ip([198, 51, 100, 3].into()), is_local: false };
    let (session, now) = (SessionId(99), writer.now);
    writer.api.open_for(session, client, None, now);
    let text = join_party(&party, "carol");
    assert_eq!(writer.api.message(session, &text, &Surroundings::default(), now), MessageReply::Parties);
    let (who, names) = writer.api.close_for(session);
    let who = who.unwrap();
    assert_eq!(who.peer.as_str(), "carol");
    assert!(writer.api.session(session).is_none());
    // Their instance has the commit by then.
    let records = all(writer.api.control(), now);
    follower.api.control_mut().catch_up(records, now).unwrap();
    follower.settle(None);
    follower.open(7, "198.51.100.3");
    follower.api.learn(SessionId(7), who.clone(), names);
    assert_eq!(follower.api.session(SessionId(7)), Some((client, Some(who))));
    let told = follower.api.reply(SessionId(7), MessageReply::Parties, now);
    assert_eq!(told.len(), 1);
    // The next one needs nobody to say who it is.
    let beat = format!(r#"{{"type":"heartbeat","party_id":"{party}","peer_id":"carol"}}"#);
    assert_eq!(follower.api.message(SessionId(7), &beat, &Surroundings::default(), now), MessageReply::None);
}

#[test]
fn messages_for_another_instance_are_no_more_than_others() {
    let mut follower = TestApi::new();
    follower.open(7, "198.51.100.3");
    let now = follower.now.instant;
    let admitted = (0..300).filter(|_| follower.api.admit_message(SessionId(7), now)).count();
    assert_eq!(admitted, 200);
    assert!(!follower.api.admit_message(SessionId(8), now), "nobody is there");
}
