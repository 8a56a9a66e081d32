//! What has been counted, as text for Prometheus.

use crate::crypto::x25519::PublicKey;
use crate::ids::PeerId;
use crate::metrics::{Exposition, Histogram};
use crate::owners::Usage;
use crate::time::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// Datagrams, or packets within them, and their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// How many.
    pub packets: u64,
    /// How long together.
    pub bytes: u64,
}

/// What the relay has counted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RelayFigures {
    /// All that came.
    pub received: Traffic,
    /// All that went.
    pub sent: Traffic,
    /// Of what went: data of sessions between members, which the relay cannot read.
    pub blind: Traffic,
    /// Of what went: data of sessions with the hub.
    pub hub: Traffic,
    /// Of what went: copies of broadcasts.
    pub broadcast: Traffic,
    /// Of what went: STUN answers.
    pub stun: Traffic,
    /// Packets that this machine itself took.
    pub local: Traffic,
    /// Sessions between members now.
    pub flows: u64,
    /// What went nowhere, by reason.
    pub drops: Vec<(&'static str, u64)>,
    /// Whether the kernel is given runs of datagrams as one (GSO).
    pub gso: bool,
}

/// What the relay knows of one member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberFigures {
    /// How it is reached: `none`, `blind` or `hub`.
    pub path: &'static str,
    /// When a session of its last came up.
    pub last_handshake: Option<Instant>,
    /// Data from it.
    pub from: Traffic,
    /// Data to it.
    pub to: Traffic,
    /// What came from its address and went nowhere, by reason, as far as any did.
    pub drops: Vec<(&'static str, u64)>,
}

/// The relay, as far as the API tells of it.
pub trait RelayView {
    /// What it has counted.
    fn figures(&self) -> RelayFigures;
    /// What it knows of the member with this key.
    fn member(&self, key: &PublicKey) -> Option<MemberFigures>;
    /// How many members it reaches.
    fn load(&self) -> u32;
    /// How full its tables are.
    fn usage(&self) -> [Usage; 4];
}

/// What the loop knows and the API tells: figures of the store, the relay and the process.
#[derive(Clone, Copy, Default)]
pub struct Surroundings<'a> {
    /// The relay, if there is one.
    pub relay: Option<&'a dyn RelayView>,
    /// Why nothing can be kept on disk just now, if so.
    pub store_failure: Option<StoreFailure>,
    /// Commits that reached the disk.
    pub commits: u64,
    /// Commits that did not.
    pub store_errors: u64,
    /// How long the last commit took, in microseconds.
    pub last_commit_micros: u64,
    /// Bytes of the store's file.
    pub store_bytes: u64,
    /// How often a damaged store was set aside at start: 0 or 1.
    pub store_recoveries: u64,
    /// How full the tables of connections are.
    pub door: Option<[Usage; 3]>,
    /// Lines of the log that nobody read in time.
    pub log_lines_lost: u64,
    /// Since the start.
    pub uptime: Duration,
}

/// What keeps the store from writing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreFailure {
    /// There is no room.
    Full,
    /// Anything else.
    Failing,
}

impl StoreFailure {
    /// The detail of the 503.
    pub fn detail(self) -> &'static str {
        match self {
            StoreFailure::Full => {
                "storage full: nothing can be changed until there is room on the server's disk"
            }
            StoreFailure::Failing => {
                "storage failing: nothing can be changed until the server's disk works again"
            }
        }
    }
}

/// What the API counts by itself.
#[derive(Default)]
pub struct Counters {
    requests: BTreeMap<(&'static str, u16), u64>,
    latency: Histogram,
    /// WebSocket messages that came in.
    pub messages: u64,
    /// Deliveries to sessions.
    pub deliveries: u64,
}

/// The label of requests that never became one, or that asked for nothing there is.
const NO_ROUTE: &str = "none";

impl Counters {
    /// Counts an answered request.
    pub fn request(&mut self, path: Option<&'static str>, status: u16, took: Duration) {
        *self.requests.entry((path.unwrap_or(NO_ROUTE), status)).or_default() += 1;
        self.latency.observe(took);
    }

    /// Counts what the door refused.
    pub fn refused(&mut self, status: u16) {
        *self.requests.entry((NO_ROUTE, status)).or_default() += 1;
    }
}

/// What there is of each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    /// Parties.
    pub parties: usize,
    /// Different peers in parties.
    pub peers: usize,
    /// Registered relays, without our own.
    pub relays: usize,
    /// Tokens.
    pub tokens: usize,
    /// Open WebSockets.
    pub sessions: usize,
}

/// The text for `/metrics`.
pub fn text(
    counters: &Counters,
    sizes: Sizes,
    usage: &[Usage],
    around: &Surroundings<'_>,
    members: &[Seen<'_>],
) -> String {
    let mut text = Exposition::default();
    text.metric("lanrage_build_info", "gauge", "The version of this program.");
    text.sample("lanrage_build_info", format_args!("version=\"{}\"", env!("CARGO_PKG_VERSION")), 1);
    text.single("lanrage_uptime_seconds", "gauge", "Time since the start.", around.uptime.as_secs());
    text.single("lanrage_parties", "gauge", "Parties.", sizes.parties);
    text.single("lanrage_peers", "gauge", "Different peers in parties.", sizes.peers);
    text.single("lanrage_relays", "gauge", "Registered relays, without this one.", sizes.relays);
    text.single("lanrage_tokens", "gauge", "Tokens.", sizes.tokens);
    text.single("lanrage_websocket_sessions", "gauge", "Open WebSockets.", sizes.sessions);
    text.single(
        "lanrage_websocket_messages_total",
        "counter",
        "WebSocket messages received.",
        counters.messages,
    );
    text.single(
        "lanrage_websocket_deliveries_total",
        "counter",
        "WebSocket messages sent.",
        counters.deliveries,
    );
    usage_text(&mut text, usage);
    text.metric("lanrage_http_requests_total", "counter", "Answered requests by route and status.");
    for ((route, status), count) in &counters.requests {
        text.sample(
            "lanrage_http_requests_total",
            format_args!("route=\"{route}\",status=\"{status}\""),
            count,
        );
    }
    text.histogram(
        "lanrage_http_request_seconds",
        "Time from a whole request to its answer.",
        &counters.latency,
    );
    text.single("lanrage_store_commits_total", "counter", "Commits that reached the disk.", around.commits);
    text.single("lanrage_store_errors_total", "counter", "Commits that failed.", around.store_errors);
    text.single(
        "lanrage_store_last_commit_seconds",
        "gauge",
        "How long the last commit took.",
        around.last_commit_micros as f64 / 1e6,
    );
    text.single("lanrage_store_size_bytes", "gauge", "Size of the store's file.", around.store_bytes);
    let failing = u8::from(around.store_failure.is_some());
    text.single("lanrage_store_failing", "gauge", "Whether the store cannot write now.", failing);
    text.single(
        "lanrage_store_recoveries_total",
        "counter",
        "Damaged stores that were set aside at the start.",
        around.store_recoveries,
    );
    text.single(
        "lanrage_log_lines_lost_total",
        "counter",
        "Lines of the log that were lost because nobody read them.",
        around.log_lines_lost,
    );
    if let Some(relay) = around.relay {
        relay_text(&mut text, &relay.figures(), members);
    }
    text.finish()
}

fn usage_text(text: &mut Exposition, usage: &[Usage]) {
    text.metric("lanrage_table_used", "gauge", "What is held of everything that is bounded.");
    for table in usage {
        text.sample("lanrage_table_used", format_args!("table=\"{}\"", table.resource), table.held);
    }
    text.metric("lanrage_table_limit", "gauge", "How much of it there may be.");
    for table in usage {
        text.sample("lanrage_table_limit", format_args!("table=\"{}\"", table.resource), table.limit);
    }
    text.metric("lanrage_table_largest", "gauge", "What the network holds that holds most of it.");
    for table in usage {
        if let Some((network, held)) = table.largest {
            let labels = format_args!("table=\"{}\",network=\"{network}\"", table.resource);
            text.sample("lanrage_table_largest", labels, held);
        }
    }
}

/// A member that the relay has seen.
pub struct Seen<'a> {
    /// Its id.
    pub peer: &'a PeerId,
    /// What the relay knows of it.
    pub figures: MemberFigures,
    /// How long ago its last session came up.
    pub handshake_age: Option<Duration>,
}

fn relay_text(text: &mut Exposition, relay: &RelayFigures, members: &[Seen<'_>]) {
    let kinds = [
        ("received", relay.received),
        ("sent", relay.sent),
        ("blind", relay.blind),
        ("hub", relay.hub),
        ("broadcast", relay.broadcast),
        ("stun", relay.stun),
        ("local", relay.local),
    ];
    text.metric("lanrage_relay_packets_total", "counter", "Datagrams at the relay, by what became of them.");
    for (kind, traffic) in kinds {
        text.sample("lanrage_relay_packets_total", format_args!("kind=\"{kind}\""), traffic.packets);
    }
    text.metric("lanrage_relay_bytes_total", "counter", "Bytes at the relay, by what became of them.");
    for (kind, traffic) in kinds {
        text.sample("lanrage_relay_bytes_total", format_args!("kind=\"{kind}\""), traffic.bytes);
    }
    text.single(
        "lanrage_relay_flows",
        "gauge",
        "Sessions between members that are forwarded unread.",
        relay.flows,
    );
    text.single(
        "lanrage_relay_gso",
        "gauge",
        "Whether runs of datagrams are sent as one (GSO): not if that is switched off, or has failed.",
        u8::from(relay.gso),
    );
    text.metric("lanrage_relay_drops_total", "counter", "What went nowhere, by reason.");
    for (reason, count) in &relay.drops {
        text.sample("lanrage_relay_drops_total", format_args!("reason=\"{reason}\""), count);
    }
    text.metric("lanrage_relay_member_path", "gauge", "How a member is reached.");
    for Seen { peer, figures, .. } in members {
        text.sample(
            "lanrage_relay_member_path",
            format_args!("peer=\"{peer}\",path=\"{}\"", figures.path),
            1,
        );
    }
    text.metric("lanrage_relay_member_bytes_total", "counter", "Data of a member, by direction.");
    for Seen { peer, figures, .. } in members {
        for (direction, traffic) in [("from", figures.from), ("to", figures.to)] {
            let labels = format_args!("peer=\"{peer}\",direction=\"{direction}\"");
            text.sample("lanrage_relay_member_bytes_total", labels, traffic.bytes);
        }
    }
    text.metric("lanrage_relay_member_packets_total", "counter", "Packets of a member, by direction.");
    for Seen { peer, figures, .. } in members {
        for (direction, traffic) in [("from", figures.from), ("to", figures.to)] {
            let labels = format_args!("peer=\"{peer}\",direction=\"{direction}\"");
            text.sample("lanrage_relay_member_packets_total", labels, traffic.packets);
        }
    }
    let help = "What came from a member's address and went nowhere, by reason.";
    text.metric("lanrage_relay_member_drops_total", "counter", help);
    for Seen { peer, figures, .. } in members {
        for (reason, count) in &figures.drops {
            let labels = format_args!("peer=\"{peer}\",reason=\"{reason}\"");
            text.sample("lanrage_relay_member_drops_total", labels, count);
        }
    }
    text.metric("lanrage_relay_member_handshake_age_seconds", "gauge", "Since a member's last handshake.");
    for Seen { peer, handshake_age, .. } in members {
        if let Some(age) = handshake_age {
            let labels = format_args!("peer=\"{peer}\"");
            text.sample("lanrage_relay_member_handshake_age_seconds", labels, age.as_secs());
        }
    }
}
