//! What is read is what was written, and nothing else is.

use super::*;
use crate::control::standing::{Lineage, Standing};

fn peer(id: &str) -> PeerId {
    PeerId::new(id).unwrap()
}

fn party() -> PartyId {
    PartyId::new("club").unwrap()
}

fn who() -> Identity {
    Identity { peer: peer("ann"), standing: Standing::Token(Lineage(u64::MAX)) }
}

fn request() -> Request {
    Request {
        method: "POST".parse().unwrap(),
        path: "/parties/a%20b/join".into(),
        query: "x=\"1\"".into(),
        authorization: Some("Bearer t\u{e9}".into()),
        host: Some("play.example.org".into()),
        origin: None,
        if_none_match: Some("\"1\"".into()),
        forwarded_for: None,
        is_forwarded: true,
        body: vec![0xff, 0, b'{'],
        source: Source::Ip("2001:db8::1".parse().unwrap()),
        local: Some("[::1]:8667".parse().unwrap()),
    }
}

fn asks() -> Vec<QuestionKind> {
    let message = |who, source| QuestionKind::Message {
        who,
        source,
        is_local: true,
        text: "{\"type\":\"auth\"}".into(),
    };
    let address = Identity { peer: peer("bob"), standing: Standing::Address("192.0.2.7".parse().unwrap()) };
    let beats = vec![(party(), peer("ann"), Some("192.0.2.1".parse().unwrap()))];
    vec![
        QuestionKind::Request(Box::new(request())),
        QuestionKind::Request(Box::new(Request {
            source: Source::Unix,
            local: None,
            host: None,
            ..request()
        })),
        message(Some(who()), Source::Unix),
        message(Some(address), Source::Ip("192.0.2.7".parse().unwrap())),
        message(None, Source::Unix),
        QuestionKind::Position,
        QuestionKind::Digest(Digest { beats, ..Digest::default() }),
        QuestionKind::Digest(Digest::default()),
        QuestionKind::Signals { heard: vec![], unheard: vec![] },
        QuestionKind::Signals { heard: vec![2], unheard: vec![1, u64::MAX] },
    ]
}

#[test]
fn a_question_is_read_as_it_was_written() {
    for ask in asks() {
        let question =
            InstanceQuestion { to: "one 1234".into(), from: "two".into(), stream: u64::MAX, number: 7, ask };
        let text = write_question(&question);
        let read = read_question(text.as_bytes()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{question:?}"));
        for end in 0..text.len() {
            assert!(read_question(&text.as_bytes()[..end]).is_none(), "{}", &text[..end]);
        }
    }
}

#[test]
fn a_reply_is_read_as_it_was_written() {
    let answer = Answer {
        status: 429,
        content_type: "application/json",
        headers: vec![("Retry-After", "7".into())],
        body: b"{}".to_vec(),
    };
    let heard =
        |said| Reply::Heard { said, who: Some(who()), names: vec![(party(), "Friday \"LAN\"".into())] };
    let signal = Signal {
        from: peer("ann"),
        to: peer("bob"),
        data: "{\"sdp\":1}".into(),
        sent_at: UnixTime::from_micros(-1),
        payer: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    for reply in [
        Reply::NotAsked,
        Reply::Again,
        Reply::Answered(answer),
        heard(MessageOutcome::Parties),
        heard(MessageOutcome::Error("no".into())),
        Reply::Heard { said: MessageOutcome::Nothing, who: None, names: vec![] },
        Reply::Done,
        Reply::Signals(vec![]),
        Reply::Signals(vec![(3, party(), signal)]),
    ] {
        let text = write_reply(9, &reply);
        assert_eq!(read_reply(text.as_bytes()), Some((9, reply)));
        for end in 0..text.len() {
            assert_eq!(read_reply(&text.as_bytes()[..end]), None);
        }
    }
}

#[test]
fn header_lines_that_are_not_known_are_left_out() {
    let answer = Answer { headers: vec![("X-Other", "1".into())], ..Answer::json(200, "") };
    let text = write_reply(1, &Reply::Answered(answer.clone()));
    let expected = Answer { headers: vec![], ..answer };
    assert_eq!(read_reply(text.as_bytes()), Some((1, Reply::Answered(expected))));
}
