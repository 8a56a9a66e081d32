use super::*;
use crate::control::adopt::Gone;

fn party(id: &str) -> PartyId {
    PartyId::new(id).unwrap()
}

fn peer(id: &str) -> PeerId {
    PeerId::new(id).unwrap()
}

/// One of every kind.
fn changes() -> Vec<Change> {
    let who = Identity { peer: peer("eve"), standing: Standing::Token(Lineage(u64::MAX)) };
    let other = Identity { peer: peer("bob"), standing: Standing::Address("2001:db8::1".parse().unwrap()) };
    let left = |why, key| Change::MemberLeft {
        party: party("p"),
        who: who.clone(),
        name: "Eve \"E\"\n".into(),
        is_device: true,
        key,
        why,
    };
    let key = PublicKey::decode("UKYUCbHd0DJemxa3AOcZ6XcsBwALG9d4bpB8ZT0gSV0=").unwrap();
    vec![
        Change::PartyCreated(party("p")),
        Change::PartyChanged(party("p")),
        Change::EntryChanged(party("p")),
        Change::InviteUsed(party("p"), peer("eve"), InviteId::decode(&"0a".repeat(16)).unwrap()),
        Change::PartyRenamed { from: party("o"), party: party("p"), members: vec![peer("eve"), peer("bob")] },
        Change::PartyDeleted {
            party: party("p"),
            name: "LAN".into(),
            created_at: UnixTime::from_micros(-7),
            host: Some(peer("eve")),
            members: vec![who.clone(), other],
        },
        Change::PartyDeleted {
            party: party("p"),
            name: String::new(),
            created_at: UnixTime::default(),
            host: None,
            members: Vec::new(),
        },
        Change::MemberJoined(party("p"), peer("eve")),
        Change::MemberChanged(party("p"), peer("eve")),
        Change::MemberMoved(party("p"), peer("eve")),
        left(Departure::Left, None),
        left(Departure::Kicked, Some(key)),
        left(Departure::Banned, None),
        left(Departure::Expired, None),
        left(Departure::Stale, None),
        left(Departure::PartyDeleted, None),
        Change::EndpointChanged,
        Change::TokenIssued([1; 32]),
        Change::TokenExtended([2; 32]),
        Change::TokenRevoked([3; 32]),
        Change::RelayChanged(RelayId::new("r").unwrap()),
        Change::RelayHeard { relay: RelayId::new("r").unwrap(), load: u32::MAX, left_out: 7 },
        Change::RelayExpired(RelayId::new("r").unwrap()),
        Change::AddressAssigned("key#eve".into()),
        Change::AddressForgotten("key".into()),
    ]
}

const ROWS: [EntryRow<'static>; 8] = [
    ("parties", "p", Some(br#"{"name":"LAN","created_at":1,"joins":2,"bans":[]}"#)),
    ("parties", "o", None),
    ("members", "p/eve", None),
    ("tokens", "0101010101010101010101010101010101010101010101010101010101010101", None),
    ("relays", "r", None),
    ("addresses", "key#eve", Some(br#"{"address":"10.66.0.2","order":3}"#)),
    ("meta", "public_endpoint", Some(br#"{"host":"there","port":7}"#)),
    ("meta", "tai64n_mark", Some(b"12")),
];

#[test]
fn an_entry_is_read_as_it_was_written() {
    let text = write(ROWS.into_iter(), &changes());
    let commit = read(text.as_bytes()).unwrap();
    assert_eq!(commit.changes, changes());
    let gone = Gone {
        parties: vec!["o".into()],
        members: vec![("p".into(), "eve".into())],
        tokens: vec![[1; 32]],
        relays: vec!["r".into()],
        addresses: Vec::new(),
    };
    assert_eq!(commit.gone, gone);
    assert_eq!(commit.records.parties[0].1.name, "LAN");
    assert_eq!(commit.records.addresses[0].1.address, "10.66.0.2");
    assert_eq!(commit.records.endpoint, Some(("there".into(), 7)));
}

#[test]
fn what_is_no_entry_says_nothing_and_what_is_not_known_is_passed_over() {
    let text = write(ROWS.into_iter(), &changes());
    for end in 0..text.len() {
        assert!(read(&text.as_bytes()[..end]).is_none(), "{end}");
    }
    let known = |text: &str| read(text.as_bytes()).map(|commit| commit.changes.len());
    assert_eq!(
        known(r#"{"rows":[],"changes":[{"c":"later"},{"c":"endpoint_changed","more":1}],"x":0}"#),
        Some(1)
    );
    assert_eq!(known(r#"{"rows":[{"t":"later","k":"k","v":1}],"changes":[]}"#), Some(0));
    for bad in [
        "{}",
        r#"{"rows":[]}"#,
        r#"{"rows":[1],"changes":[]}"#,
        r#"{"rows":[{"t":"parties","k":"p","v":{}}],"changes":[]}"#,
        r#"{"rows":[{"t":"parties","k":"p","v":1}],"changes":[]}"#,
        r#"{"rows":[{"t":"members","k":"p"}],"changes":[]}"#,
        r#"{"rows":[{"t":"relays","k":"p"},{"t":"relays","k":"p"}],"changes":[]}"#,
        r#"{"rows":[],"changes":[{"c":"party_created"}]}"#,
        r#"{"rows":[],"changes":[{"c":"party_created","party":"../x"}]}"#,
        r#"{"rows":[],"changes":[{"c":"token_issued","name":"00"}]}"#,
    ] {
        assert_eq!(known(bad), None, "{bad}");
    }
    let long = "x".repeat(LONGEST_ENTRY);
    assert_eq!(write([("relays", long.as_str(), None)].into_iter(), &[]), NOTHING_SAID);
    assert_eq!(write([("relays", "r", Some(&b"\xff"[..]))].into_iter(), &[]), NOTHING_SAID);
}
