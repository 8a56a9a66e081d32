//! `/openapi.json`: what the table of routes says, for machines. Bodies are given as shapes:
//!
//! | shape | meaning |
//! |---|---|
//! | `{name: Name, note?: string}` | an object; what has a `?` may be left out |
//! | `exactly {..}` | the same, and nothing else may be in it |
//! | `{Id: Peer}` | an object with any number of members: names of the first shape, values of the second |
//! | `[Peer]` | an array |
//! | `"left" \| "kicked"` | one of these texts |
//! | `Name \| null` | one of these shapes |
//! | `A & B` | both |
//! | `Peer` | what is shared under this name |
//! | `string`, `integer`, `boolean`, `any` | a type |
//! | `{"..` | a JSON Schema as it stands |

use super::route::{Access, Body, Route};
use super::routes::ROUTES;
use crate::figures::status;
use crate::wire::json::{JsonWriter, object};

const ABOUT: &str = "Parties, peers and relays of a lanrage daemon. HEAD is answered as GET without a body, OPTIONS \
    for browsers. `GET /ws` is a WebSocket and not described here. Integers may be sent as texts. Any request can \
    meet 400 (malformed), 408 (too slow), 413 (body over 64 KiB), 429 (too many), 431 (head over 8 KiB) and 503 \
    (full, or unable to keep changes); one that is framed in ways not spoken here, 411, 417 or 505; and 500 is a \
    defect.";

/// Shapes with a name, one a line; a line with `#` describes the one before it.
const SHARED: &str = r##"
Id = {"type":"string","minLength":1,"maxLength":64,"pattern":"^[A-Za-z0-9][A-Za-z0-9._-]*$"}
Name = {"type":"string","minLength":1,"maxLength":100,"pattern":"^[^\\x00-\\x1f\\x7f-\\x9f]*$"}
Text = {"type":"string","minLength":1}
Token = {"type":"string","pattern":"^[A-Za-z0-9_-]{43}$"}
Key = {"type":"string","maxLength":128,"pattern":"^[^\\x00-\\x1f\\x7f-\\x9f]*$"}
# A public key. Only one of WireGuard's (Base64 of 32 bytes) gets relay service.
OptionalKey = {"type":["string","null"],"maxLength":128,"pattern":"^[^\\x00-\\x1f\\x7f-\\x9f]*$"}
WireGuardKey = {"type":"string","pattern":"^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$"}
Word = {"type":"string","minLength":1,"maxLength":64,"pattern":"^[^\\x00-\\x1f\\x7f-\\x9f]*$"}
OptionalWord = {"type":["string","null"],"minLength":1,"maxLength":64,"pattern":"^[^\\x00-\\x1f\\x7f-\\x9f]*$"}
Count = {"type":"integer","minimum":0}
PortNumber = {"type":"integer","minimum":0,"maximum":65535}
OptionalPort = {"type":["integer","string","null"],"minimum":0,"maximum":65535,"pattern":"^0*([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$"}
# 0 if not known.
RelayPort = {"type":["integer","string"],"minimum":1,"maximum":65535,"pattern":"^0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$"}
OptionalAmount = {"type":["integer","string","null"],"minimum":0,"maximum":1000000,"pattern":"^0*([0-9]{1,6}|1000000)$"}
Nat = "unknown" | "open" | "full_cone" | "restricted_cone" | "port_restricted_cone" | "symmetric"
OptionalNat = {"enum":["unknown","open","full_cone","restricted_cone","port_restricted_cone","symmetric",null]}
Time = {"type":"string","pattern":"^[1-9][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{6})?$"}
# Naive: without a zone.
UtcTime = {"type":"string","format":"date-time"}
OptionalTime = {"type":["string","null"],"pattern":"^[1-9][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))[T ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])?$"}
# ISO 8601; without a zone it is the sender's local time. (29 February is taken in leap years.)
HostId = {"type":"string","pattern":"^(_machine|[A-Za-z0-9][A-Za-z0-9._-]*)$"}
# `_machine`: the party belongs to the server.
Access = "open" | "password" | "invite" | "public"
Password = {"type":"string","minLength":1,"maxLength":128,"pattern":"^[^\\x00-\\x1f\\x7f-\\x9f]*$"}
Date = {"type":"integer"}
# Seconds since 1970.
NullableDate = {"type":["integer","null"]}
OptionalDate = {"type":["integer","null"],"minimum":0,"maximum":253402300799}
Span = {"type":"integer","minimum":1,"maximum":316224000}
# Seconds.
Flag = {"enum":["0","1","false","true"]}
UsableKey = {"type":"string","pattern":"^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$"}
# A WireGuard key; not one of the few that are no use.
InviteSecret = {"type":"object","properties":{"code":{"$ref":"#/components/schemas/OptionalWord"}},"anyOf":[{"required":["token"],"properties":{"token":{"$ref":"#/components/schemas/Word"},"code":{"type":"null"}}},{"required":["code"],"properties":{"code":{"type":"string"}}}]}
InviteWish = {"type":"object","properties":{"uses":{"type":["integer","null"],"minimum":1,"maximum":64},"expires_in":{"type":["integer","null"],"minimum":1,"maximum":31622400},"code":{"type":["boolean","null"]}},"anyOf":[{"properties":{"code":{"enum":[false,null]}}},{"properties":{"expires_in":{"maximum":86400}}}]}
Drops = [{reason: string, text: string, packets: Count}]
OverviewMember = {peer_id: Id, name: Name, kind: "client" | "device" | "agent", virtual_ip: VirtualIp, is_online: boolean, path: any, rtt_ms: NullableDate, last_handshake: NullableDate, received: Count, sent: Count, invite_id: any, drops: Drops}
Trouble = {what: string, text: string, do: string}
OverviewParty = {party_id: Id, name: Name, host_id: any, access: Access, permanent: boolean, ends_at: NullableDate, created_at: Date, members: [OverviewMember], invites: [Invite], bans: [any]}
Event = {number: Count, at: Date, kind: string, party_id?: Id, party?: string, peer_id?: Id, name?: string, invite_id?: string, address?: any, from?: string, text: string}
PageSecret = {"type":"object","properties":{"admin_token":{"type":["string","null"],"minLength":1}},"anyOf":[{"required":["setup"],"properties":{"setup":{"$ref":"#/components/schemas/Text"},"admin_token":{"type":"null"}}},{"required":["admin_token"],"properties":{"admin_token":{"type":"string"}}}]}
Invite = {invite_id: string, kind: "link" | "code", uses: Count, uses_left: Count, expires_at: Date, created_at: Date}
DeviceAnswer = {peer_id: Id, name: Name, virtual_ip: VirtualIp, config: {address: string, peer: {public_key: WireGuardKey, endpoint: string, allowed_ips: [string], persistent_keepalive: Count}}, text: string, warnings?: [string]}
VirtualIp = {"type":"string","format":"ipv4"}
PeerInfo = {peer_id: Id, name: Name, public_key: Key, nat_type?: OptionalNat, public_ip?: OptionalWord, public_port?: OptionalPort, local_ip?: OptionalWord, local_port?: OptionalPort, last_seen?: OptionalTime}
# What a peer says of itself: `peer_id` is the token's. Addresses are `unknown` if not known. Other keys are ignored.
Peer = exactly {peer_id: Id, name: Name, public_key: Key, nat_type: Nat, public_ip: string, public_port: PortNumber, local_ip: string, local_port: PortNumber, last_seen: Time}
# `last_seen` is in the reader's own local time, as far as it is known.
Peers = {Id: Peer}
Party = exactly {party_id: Id, name: Name, host_id: HostId, created_at: Time, peers: Peers}
PartyAnswer = {party: Party, network?: Network, warnings?: [string]}
Network = {subnet: string, virtual_ip?: VirtualIp, peers: {Id: VirtualIp}, relay: {endpoint: string, public_key: WireGuardKey}}
# For members: their own virtual address, the others', and the relay.
Proof = {"anyOf":[{"properties":{"nonce":{"type":"null"},"proof":{"type":"null"}}},{"type":"object","required":["nonce","proof"],"properties":{"nonce":{"$ref":"#/components/schemas/Word"},"proof":{"$ref":"#/components/schemas/Word"}}}]}
# Both or none. The proof is the URL-safe Base64 of a BLAKE2s MAC, keyed with the X25519 secret of the peer's WireGuard key and the hub's.
Signal = {type: "signal", party_id: Id, from_peer_id: Id, to_peer_id: Id, signal_data: any, sent_at: Time}
Ban = {"type":"object","properties":{"peer_id":{"type":["string","null"],"minLength":1,"maxLength":64,"pattern":"^[A-Za-z0-9][A-Za-z0-9._-]*$"},"public_key":{"type":["string","null"],"pattern":"^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$"}},"anyOf":[{"required":["peer_id"],"properties":{"peer_id":{"type":"string"}}},{"required":["public_key"],"properties":{"public_key":{"type":"string"}}}]}
RelayAddress = {"type":"string","maxLength":64,"anyOf":[{"pattern":"^([1-9][0-9]?|1[0-9]{2}|2[01][0-9]|22[0-3])(\\.(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}$"},{"format":"ipv6","not":{"pattern":"^(:|0|64:|2002:|[Ff]{2})"}}]}
# A literal address that others can send to: not unspecified, multicast or broadcast, nor an IPv6 spelling of such an IPv4 address.
RelayInfo = {relay_id: Id, public_ip: RelayAddress, port: RelayPort, region?: OptionalWord, capacity?: OptionalAmount, public_key?: OptionalKey, load?: OptionalAmount}
# What is left out is taken as `unknown`, a capacity of 100 and a load of 0.
Relay = {relay_id: Id, public_ip: string, port: PortNumber, region: string, capacity: Count, registered_at: Time, public_key: OptionalKey, load: Count, serves?: boolean}
Traffic = {packets: Count, bytes: Count}
OwnRelay = {relay_id: Id, address: string, endpoint?: string, port: PortNumber, region: string, public_key: WireGuardKey}
Error = {detail: string}
Invalid = {"type":"object","required":["detail"],"properties":{"detail":{"type":"array","minItems":1,"items":{"type":"object","required":["type","loc","msg","input"],"properties":{"type":{"type":"string"},"loc":{"type":"array","items":{"type":["string","integer"]}},"msg":{"type":"string"},"input":{},"ctx":{"type":"object"}}}}}}
"##;

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

const BEARER: &str = r#"{"bearer":{"type":"http","scheme":"bearer","description":"From POST /auth/register, or the admin token of the server's settings."}}"#;

/// Answers that many routes give: name, description, header lines, shape.
const ANSWERS: [(&str, &str, &str, &str); 4] = [
    ("Error", "No, and why.", "", "Error"),
    (
        "Unauthorized",
        "A token is missing, unknown or expired.",
        r#"{"WWW-Authenticate":{"required":true,"schema":{"const":"Bearer"}}}"#,
        "Error",
    ),
    ("Invalid", "What is wrong, field by field.", "", "Invalid"),
    (
        "Later",
        "Not now.",
        r#"{"Retry-After":{"required":true,"description":"Seconds.","schema":{"type":"integer","minimum":1}}}"#,
        "Error",
    ),
];

/// The document.
pub fn document() -> String {
    object(|json| {
        json.key("openapi").string("3.1.0");
        json.key("info").object(|json| {
            json.key("title").string("LANrage Control Plane");
            json.key("version").string(env!("CARGO_PKG_VERSION"));
            json.key("license").raw(r#"{"name":"MIT","identifier":"MIT"}"#);
            json.key("description").string(ABOUT);
        });
        json.key("security").raw(r#"[{"bearer":[]}]"#);
        json.key("paths").object(|json| {
            for (at, first) in ROUTES.iter().enumerate() {
                if ROUTES[..at].iter().all(|earlier| earlier.path != first.path) {
                    path(json, first.path);
                }
            }
        });
        json.key("components").object(|json| {
            json.key("securitySchemes").raw(BEARER);
            json.key("responses").object(|json| {
                for (name, description, headers, shape) in ANSWERS {
                    json.key(name).object(|json| {
                        json.key("description").string(description);
                        if !headers.is_empty() {
                            json.key("headers").raw(headers);
                        }
                        content(json, JSON, shape);
                    });
                }
            });
            json.key("schemas").object(|json| {
                json.key("Status").raw(&status_schema());
                let mut lines = SHARED.lines().peekable();
                while let Some(line) = lines.next() {
                    let Some((name, shape)) = line.split_once(" = ") else { continue };
                    json.key(name).object(|json| {
                        if let Some(description) = lines.peek().and_then(|next| next.strip_prefix("# ")) {
                            json.key("description").string(description);
                        }
                        members(json, shape);
                    });
                }
            });
        });
    })
}

/// What `/openapi.json` says of what `/status` answers: of the members that `Api::status` writes.
fn status_schema() -> String {
    let text = |help: &str| {
        object(|json| {
            json.key("type").string("string");
            json.key("description").string(help);
        })
    };
    status::schema(
        "",
        &[
            ("version", text("The version of this program.")),
            ("http", text("The address of the control API.")),
            ("state_dir", text("Where the state is kept.")),
            ("subnet", text("The addresses of the virtual LAN.")),
            ("relay", r##"{"$ref":"#/components/schemas/OwnRelay"}"##.to_owned()),
            ("trouble", r##"{"type":"array","items":{"$ref":"#/components/schemas/Trouble"}}"##.to_owned()),
            ("traffic", status::traffic_schema()),
            ("members", status::members_schema()),
            ("tables", status::tables_schema()),
            ("store", status::schema("store", &[("status", text("`ok`, or what is wrong."))])),
        ],
    )
}

fn path(json: &mut JsonWriter, path: &str) {
    // That the last part takes all that follows can't be said.
    json.key(&path.replace("...}", "}")).object(|json| {
        json.key("parameters").array(|json| {
            for part in path.split('/').filter(|part| part.starts_with('{')) {
                let name = part.trim_matches(['{', '.', '}']);
                parameter(json, "path", (name, true, if name.ends_with("_id") { "Id" } else { "Text" }));
            }
        });
        for route in ROUTES.iter().filter(|route| route.path == path) {
            json.key(&route.method.to_ascii_lowercase()).object(|json| operation(json, route));
        }
    });
}

/// The line of a route's `docs` that begins with this word.
pub(super) fn line(route: &Route, word: &str) -> Option<&'static str> {
    route.docs.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))
}

fn operation(json: &mut JsonWriter, route: &Route) {
    let (id, summary) = route.docs.lines().next().and_then(|line| line.split_once(": ")).unwrap_or_default();
    json.key("operationId").string(id);
    json.key("summary").string(summary);
    if let Some(note) = line(route, "note") {
        json.key("description").string(note);
    }
    let reads_body = route.body != Body::None;
    // What follows neither from the path nor from who may ask.
    let also =
        |status: &str| line(route, "also").is_some_and(|also| also.split(' ').any(|one| one == status));
    match route.access {
        open if open.is_open() && !reads_body => json.key("security").raw("[]"),
        Access::Anyone | Access::KnownHost | Access::LocalOrAdmin => {
            json.key("security").raw(r#"[{},{"bearer":[]}]"#)
        }
        Access::Peer | Access::Device | Access::Admin => {}
    }
    let query = line(route, "query").map(fields).unwrap_or_default();
    let reads_query = !query.is_empty();
    json.key("parameters").array(|json| {
        for field in query {
            parameter(json, "query", field);
        }
    });
    if let Some(shape) = route.body.shape() {
        json.key("requestBody").object(|json| {
            json.key("required").bool(!matches!(route.body, Body::Optional(_)));
            content(json, if matches!(route.body, Body::Form(_)) { FORM } else { JSON }, shape);
        });
    }
    json.key("responses").object(|json| {
        json.key("200").object(|json| {
            json.key("description").string(line(route, "means").unwrap_or_default());
            let shape = line(route, "answer").unwrap_or_default();
            content(json, line(route, "media").unwrap_or(JSON), shape);
        });
        for (status, answer, can_be) in [
            ("400", "Error", true),
            ("401", "Unauthorized", !route.access.is_open() || route.path == "/ui/sessions"),
            (
                "403",
                "Error",
                also("403")
                    || route.access.wants_known_host()
                    || reads_body
                    || route.path.contains("{party_id}"),
            ),
            ("404", "Error", also("404") || route.path.contains('{')),
            ("408", "Error", true),
            ("409", "Error", reads_body || route.path.contains("/devices/{")),
            ("410", "Error", route.path.starts_with("/invites/") || route.path.ends_with("/join")),
            ("413", "Error", true),
            ("422", "Invalid", reads_body || reads_query),
            ("429", "Later", true),
            ("431", "Error", true),
            ("503", "Later", true),
        ] {
            if can_be {
                json.key(status).object(|json| reference(json, "responses", answer));
            }
        }
    });
}

fn reference(json: &mut JsonWriter, kind: &str, name: &str) {
    json.key("$ref").string(&format!("#/components/{kind}/{name}"));
}

fn parameter(json: &mut JsonWriter, place: &str, (name, required, text): Field<'_>) {
    json.object(|json| {
        json.key("name").string(name);
        json.key("in").string(place);
        json.key("required").bool(required);
        shape(json.key("schema"), text);
    });
}

fn content(json: &mut JsonWriter, media: &str, text: &str) {
    json.key("content").object(|json| {
        json.key(media).object(|json| shape(json.key("schema"), text));
    });
}

/// Writes the JSON Schema of a shape.
pub(super) fn shape(json: &mut JsonWriter, text: &str) {
    json.object(|json| members(json, text));
}

fn members(json: &mut JsonWriter, text: &str) {
    let (alternatives, all) = (parts(text, b'|'), parts(text, b'&'));
    if let Some(schema) = text.strip_prefix('{').filter(|schema| schema.starts_with('"')) {
        json.raw(&schema[..schema.len() - 1]);
    } else if all.len() > 1 {
        json.key("allOf").array(|json| all.iter().for_each(|text| shape(json, text)));
    } else if let Some(text) = text.strip_prefix("exactly ") {
        members(json, text);
        json.key("additionalProperties").bool(false);
    } else if text.starts_with('{') {
        object_members(json, &fields(text));
    } else if let Some(item) = text.strip_prefix('[') {
        json.key("type").string("array");
        shape(json.key("items"), item.strip_suffix(']').unwrap_or(item));
    } else if alternatives.len() > 1 && !alternatives.iter().all(|text| text.starts_with('"')) {
        json.key("anyOf").array(|json| alternatives.iter().for_each(|text| shape(json, text)));
    } else if alternatives.len() > 1 {
        json.key("enum").array(|json| alternatives.iter().for_each(|text| json.raw(text)));
    } else if text.starts_with('"') {
        json.key("const").raw(text);
    } else if text.starts_with(|first: char| first.is_ascii_uppercase()) {
        reference(json, "schemas", text);
    } else if text != "any" {
        json.key("type").string(text);
    }
}

fn object_members(json: &mut JsonWriter, fields: &[Field<'_>]) {
    json.key("type").string("object");
    if let [(name, _, text)] = fields
        && name.starts_with(|first: char| first.is_ascii_uppercase())
    {
        shape(json.key("propertyNames"), name);
        shape(json.key("additionalProperties"), text);
        return;
    }
    json.key("required").array(|json| {
        for (name, _, _) in fields.iter().filter(|(_, required, _)| *required) {
            json.string(name);
        }
    });
    json.key("properties").object(|json| {
        for (name, _, text) in fields {
            shape(json.key(name), text);
        }
    });
}

/// A member of an object: its name, whether it has to be there, and its shape.
type Field<'a> = (&'a str, bool, &'a str);

fn fields(text: &str) -> Vec<Field<'_>> {
    let inside = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or_default();
    let mut fields = Vec::new();
    for part in parts(inside, b',') {
        if let Some((name, text)) = part.split_once(':') {
            let optional = name.strip_suffix('?');
            fields.push((optional.unwrap_or(name), optional.is_none(), text.trim()));
        }
    }
    fields
}

/// What stands between separators that are in no braces or brackets.
fn parts(text: &str, separator: u8) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ if depth == 0 && byte == separator => {
                found.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(text[start..].trim());
    found
}
