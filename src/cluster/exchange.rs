//! What an instance that follows asks the one that writes, as JSON, and what that says. It passes sealed with a key that is
//! made of the hub's: see [`crate::crypto::envelope`].

use super::digest;
use super::entry::{ReadIdentity, write_identity};
use crate::control::following::Digest;
use crate::control::signals::Signal;
use crate::control::standing::Identity;
use crate::ids::{PartyId, PeerId};
use crate::time::UnixTime;
use crate::wire::http::{Answer, Request, Source};
use crate::wire::json::{self, FromPart, JsonWriter, Part, members};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::{IpAddr, Ipv4Addr};

/// A question with who asks whom.
#[derive(Clone, Debug)]
pub struct InstanceQuestion {
    /// The process that is asked, as it calls itself in the database: no other one takes it.
    pub to: String,
    /// The name of the instance that asks.
    pub from: String,
    /// Names the process that asks, and the question among its own: each is taken once.
    pub stream: u64,
    /// The number of the question, from 1 on.
    pub number: u64,
    /// What is asked.
    pub ask: QuestionKind,
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum QuestionKind {
    /// To answer a client's request. Its source is who asks, whatever proxies are between.
    Request(Box<Request>),
    /// To take a client's message.
    Message {
        /// Who is behind the session, as far as that is known.
        who: Option<Identity>,
        /// Where the client is.
        source: Source,
        /// Whether that is on the machine of the instance.
        is_local: bool,
        /// The message.
        text: String,
    },
    /// Which commit is the last one.
    Position,
    /// To take in what was heard of members.
    Digest(Digest),
    /// For signals, as soon as there are some.
    Signals {
        /// Those of the last answer that a session took.
        heard: Vec<u64>,
        /// Those whose recipients have no session.
        unheard: Vec<u64>,
    },
}

/// What comes of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MessageOutcome {
    /// The session is told its parties.
    Parties,
    /// What went wrong.
    Error(String),
    /// Nothing.
    Nothing,
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// It is not the one that is asked.
    NotAsked,
    /// The same was asked before. What came of that is not known here.
    Again,
    /// The answer to a request.
    Answered(Answer),
    /// What came of a message.
    Heard {
        /// For the session.
        said: MessageOutcome,
        /// Who is behind the session now.
        who: Option<Identity>,
        /// What that peer calls its parties.
        names: Vec<(PartyId, Box<str>)>,
    },
    /// Nothing but the number of the last commit.
    Done,
    /// Signals, each with a number.
    Signals(Vec<(u64, PartyId, Signal)>),
}

/// Header lines that an answer may have, and media types: those of the API.
const HEADERS: [&str; 14] = [
    "Access-Control-Allow-Headers",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Origin",
    "Access-Control-Max-Age",
    "Allow",
    "Cache-Control",
    "Content-Security-Policy",
    "Cross-Origin-Opener-Policy",
    "ETag",
    "Referrer-Policy",
    "Retry-After",
    "Vary",
    "WWW-Authenticate",
    "X-Content-Type-Options",
];
const MEDIA: [&str; 4] =
    ["", "application/json", "text/html; charset=utf-8", "text/plain; version=0.0.4; charset=utf-8"];

fn source(source: Source) -> String {
    match source {
        Source::Unix => "unix".to_owned(),
        Source::Ip(address) => address.to_string(),
    }
}

fn read_source(text: &str) -> Option<Source> {
    if text == "unix" { Some(Source::Unix) } else { text.parse().ok().map(Source::Ip) }
}

/// A question as text.
pub fn write_question(question: &InstanceQuestion) -> String {
    json::object(|json| {
        json.key("to").string(&question.to);
        json.key("from").string(&question.from);
        json.key("stream").int(question.stream);
        json.key("number").int(question.number);
        match &question.ask {
            QuestionKind::Request(request) => json.key("request").object(|json| write_request(json, request)),
            QuestionKind::Message { who, source: from, is_local, text } => {
                json.key("message").object(|json| {
                    if let Some(who) = who {
                        json.key("who").object(|json| write_identity(json, who));
                    }
                    json.key("source").string(&source(*from));
                    json.key("local").bool(*is_local);
                    json.key("text").string(text);
                })
            }
            QuestionKind::Position => {}
            QuestionKind::Digest(digest) => json.key("digest").raw(&digest::write(digest)),
            QuestionKind::Signals { heard, unheard } => {
                json.key("heard").array(|json| heard.iter().for_each(|number| json.int(*number)));
                json.key("unheard").array(|json| unheard.iter().for_each(|number| json.int(*number)));
            }
        }
    })
}

fn write_request(json: &mut JsonWriter, request: &Request) {
    json.key("method").string(request.method.as_str());
    json.key("path").string(&request.path);
    json.key("query").string(&request.query);
    let lines = [
        ("authorization", &request.authorization),
        ("host", &request.host),
        ("origin", &request.origin),
        ("if_none_match", &request.if_none_match),
        ("forwarded_for", &request.forwarded_for),
    ];
    for (name, line) in lines {
        if let Some(line) = line {
            json.key(name).string(line);
        }
    }
    json.key("is_forwarded").bool(request.is_forwarded);
    json.key("body").string(&STANDARD.encode(&request.body));
    json.key("source").string(&source(request.source));
    if let Some(local) = request.local {
        json.key("local").string(&local.to_string());
    }
}

/// The question that is written so, if it is one.
pub fn read_question(text: &[u8]) -> Option<InstanceQuestion> {
    let [to, from, stream, number] = members(text, ["to", "from", "stream", "number"]).ok()?;
    let [signals] = members(text, ["heard"]).ok()?;
    let asked = ["request", "message", "digest", "unheard"];
    let [request, message, digest, unheard] = members(text, asked).ok()?;
    let ask = match (request, message, digest, unheard) {
        (Part::Nested(request), ..) => QuestionKind::Request(Box::new(read_request(request.as_bytes())?)),
        (_, Part::Nested(message), ..) => read_message(message.as_bytes())?,
        (_, _, Part::Nested(digest), _) => QuestionKind::Digest(digest::read(digest.as_bytes())?),
        (.., unheard @ Part::Nested(_)) => {
            QuestionKind::Signals { heard: signals.read()?, unheard: unheard.read()? }
        }
        (Part::Absent, Part::Absent, Part::Absent, Part::Absent) => QuestionKind::Position,
        _ => return None,
    };
    Some(InstanceQuestion {
        to: to.read()?,
        from: from.read()?,
        stream: stream.read()?,
        number: number.read()?,
        ask,
    })
}

fn read_request(text: &[u8]) -> Option<Request> {
    let [method, path, query, body] = members(text, ["method", "path", "query", "body"]).ok()?;
    let [authorization, host, origin] = members(text, ["authorization", "host", "origin"]).ok()?;
    let [if_none_match, forwarded_for] = members(text, ["if_none_match", "forwarded_for"]).ok()?;
    let [is_forwarded, source, local] = members(text, ["is_forwarded", "source", "local"]).ok()?;
    let (method, body): (String, String) = (method.read()?, body.read()?);
    Some(Request {
        method: method.parse().ok()?,
        path: path.read()?,
        query: query.read()?,
        authorization: authorization.read()?,
        host: host.read()?,
        origin: origin.read()?,
        if_none_match: if_none_match.read()?,
        forwarded_for: forwarded_for.read()?,
        is_forwarded: is_forwarded.read()?,
        body: STANDARD.decode(body).ok()?,
        source: read_source(&source.read::<String>()?)?,
        local: match local.read::<Option<String>>()? {
            Some(local) => Some(local.parse().ok()?),
            None => None,
        },
    })
}

fn read_message(text: &[u8]) -> Option<QuestionKind> {
    let [who, source, is_local, text] = members(text, ["who", "source", "local", "text"]).ok()?;
    Some(QuestionKind::Message {
        who: who.read::<Option<ReadIdentity>>()?.map(|who| who.0),
        source: read_source(&source.read::<String>()?)?,
        is_local: is_local.read()?,
        text: text.read()?,
    })
}

/// A reply as text, with the number of the last commit: who has it, has what the reply speaks of.
pub fn write_reply(seq: u64, reply: &Reply) -> String {
    json::object(|json| {
        json.key("seq").int(seq);
        match reply {
            Reply::NotAsked => json.key("refused").string("to"),
            Reply::Again => json.key("refused").string("again"),
            Reply::Answered(answer) => json.key("answer").object(|json| write_answer(json, answer)),
            Reply::Heard { said, who, names } => json.key("heard").object(|json| {
                match said {
                    MessageOutcome::Parties => json.key("parties").bool(true),
                    MessageOutcome::Error(text) => json.key("error").string(text),
                    MessageOutcome::Nothing => {}
                }
                if let Some(who) = who {
                    json.key("who").object(|json| write_identity(json, who));
                }
                json.key("names").array(|json| {
                    for (party, name) in names {
                        json.array(|json| {
                            json.string(party.as_str());
                            json.string(name);
                        });
                    }
                });
            }),
            Reply::Done => {}
            Reply::Signals(signals) => json.key("signals").array(|json| {
                for (number, party, signal) in signals {
                    json.object(|json| write_signal(json, *number, party, signal));
                }
            }),
        }
    })
}

fn write_answer(json: &mut JsonWriter, answer: &Answer) {
    json.key("status").int(answer.status);
    json.key("type").string(answer.content_type);
    json.key("headers").array(|json| {
        for (name, value) in &answer.headers {
            json.array(|json| {
                json.string(name);
                json.string(value);
            });
        }
    });
    json.key("body").string(&STANDARD.encode(&answer.body));
}

fn write_signal(json: &mut JsonWriter, number: u64, party: &PartyId, signal: &Signal) {
    json.key("n").int(number);
    json.key("party").string(party.as_str());
    json.key("from").string(signal.from.as_str());
    json.key("to").string(signal.to.as_str());
    json.key("data").string(&signal.data);
    json.key("at").int(signal.sent_at.as_micros());
}

/// The reply that is written so, if it is one, and the number of the last commit.
pub fn read_reply(text: &[u8]) -> Option<(u64, Reply)> {
    let [seq, refused, answer, heard, signals] =
        members(text, ["seq", "refused", "answer", "heard", "signals"]).ok()?;
    let reply = match (refused, answer, heard, signals) {
        (Part::String(why), ..) if why == "to" => Reply::NotAsked,
        (Part::String(why), ..) if why == "again" => Reply::Again,
        (_, Part::Nested(answer), ..) => Reply::Answered(read_answer(answer.as_bytes())?),
        (_, _, Part::Nested(heard), _) => read_heard(heard.as_bytes())?,
        (.., signals @ Part::Nested(_)) => {
            Reply::Signals(signals.read::<Vec<ReadSignal>>()?.into_iter().map(|signal| signal.0).collect())
        }
        (Part::Absent, Part::Absent, Part::Absent, Part::Absent) => Reply::Done,
        _ => return None,
    };
    Some((seq.read()?, reply))
}

fn read_answer(text: &[u8]) -> Option<Answer> {
    let [status, media, headers, body] = members(text, ["status", "type", "headers", "body"]).ok()?;
    let media: String = media.read()?;
    let headers = headers.read::<Vec<Vec<String>>>()?.into_iter().filter_map(|line| {
        let [name, value] = line.try_into().ok()?;
        // What is not known here is not needed by who asks.
        let name = HEADERS.into_iter().find(|known| *known == name)?;
        Some((name, value))
    });
    Some(Answer {
        status: status.read()?,
        content_type: MEDIA.into_iter().find(|known| *known == media).unwrap_or("application/octet-stream"),
        headers: headers.collect(),
        body: STANDARD.decode(body.read::<String>()?).ok()?,
    })
}

fn read_heard(text: &[u8]) -> Option<Reply> {
    let [parties, error, who, names] = members(text, ["parties", "error", "who", "names"]).ok()?;
    let said = match (parties, error.read::<Option<String>>()?) {
        (Part::Bool(true), None) => MessageOutcome::Parties,
        (_, Some(error)) => MessageOutcome::Error(error),
        _ => MessageOutcome::Nothing,
    };
    let names = names.read::<Vec<Vec<String>>>()?.into_iter().map(|pair| {
        let [party, name] = pair.try_into().ok()?;
        Some((PartyId::stored(&party)?, name.into()))
    });
    Some(Reply::Heard {
        said,
        who: who.read::<Option<ReadIdentity>>()?.map(|who| who.0),
        names: names.collect::<Option<_>>()?,
    })
}

struct ReadSignal((u64, PartyId, Signal));

impl FromPart for ReadSignal {
    fn from_part(part: Part<'_>) -> Option<Self> {
        let Part::Nested(text) = part else { return None };
        let [number, party, from] = members(text.as_bytes(), ["n", "party", "from"]).ok()?;
        let [to, data, at] = members(text.as_bytes(), ["to", "data", "at"]).ok()?;
        let signal = Signal {
            from: PeerId::stored(&from.read::<String>()?)?,
            to: PeerId::stored(&to.read::<String>()?)?,
            data: data.read()?,
            sent_at: UnixTime::from_micros(at.read()?),
            // It is handed on at once, and waits nowhere.
            payer: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        Some(ReadSignal((number.read()?, PartyId::stored(&party.read::<String>()?)?, signal)))
    }
}

#[cfg(test)]
mod tests;
