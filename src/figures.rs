//! Floor 1: every number that this program tells about itself, one row each.
//!
//! A row says what a number is called and where it is told; whatever tells numbers goes through the rows: `/metrics`
//! ([`prometheus`]), `/status` and its description in `/openapi.json` ([`status`]), and `lanrage status`. So a new
//! number takes its row here and the line that counts it, and so does a new reason to drop a packet, a new kind of
//! traffic, or a new table that is bounded.
//!
//! What counts has a [`Values`], or a [`RelayStats`] if it forwards packets, which are plain numbers by row. When
//! somebody asks, everything that counts writes into one [`Readings`].

pub mod prometheus;
mod readings;
pub mod status;

#[cfg(test)]
mod tests;

#[cfg(feature = "cluster")]
pub use readings::InstanceReading;
pub use readings::{Drops, MemberStats, Meter, Readings, RelayStats, SeenMember, Usage, Values, Volume};

use prometheus::Samples;

/// How a number changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetricKind {
    /// It only grows while the program runs.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It is a distribution.
    Histogram,
}

/// What a number means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// A number of things, or of seconds.
    Number,
    /// Not 0: yes.
    Bool,
    /// Microseconds, which are told as seconds.
    Micros,
}

/// What there is to know of a figure.
#[derive(Clone, Copy, Debug)]
pub struct FigureRow {
    /// Its name in `/metrics`.
    pub metric: &'static str,
    /// How it changes.
    pub kind: MetricKind,
    /// What its number means.
    pub unit: Unit,
    /// Where it is in `/status`: a key, or an object and a key in it.
    pub status: &'static str,
    /// Its name in the text of `lanrage status`, if it has a line of its own there.
    pub line: Option<&'static str>,
    /// What it is.
    pub help: &'static str,
}

impl FigureRow {
    /// The object of `/status` that it is in (empty: the outermost), and its key there.
    pub fn path(&self) -> (&'static str, &'static str) {
        self.status.split_once('.').unwrap_or(("", self.status))
    }
}

macro_rules! figures {
    ($($name:ident $kind:ident $unit:ident $metric:literal $status:literal $line:expr, $help:literal;)*) => {
        /// What is one number.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub enum Figure { $(#[doc = $help] $name,)* }

        impl Figure {
            /// All of them.
            pub const ALL: [Figure; [$($metric),*].len()] = [$(Figure::$name),*];

            /// All rows, in the same order.
            const ROWS: [FigureRow; Self::ALL.len()] = [$(FigureRow {
                metric: $metric,
                kind: MetricKind::$kind,
                unit: Unit::$unit,
                status: $status,
                line: $line,
                help: $help,
            }),*];

            /// Its row.
            pub fn row(self) -> &'static FigureRow {
                &Self::ROWS[self as usize]
            }
        }
    };
}

macro_rules! words {
    ($(#[$about:meta])* $rows:ident: $($name:ident $word:literal, $help:literal;)*) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(usize)]
        pub enum $rows { $(#[doc = $help] $name,)* }

        impl $rows {
            /// All of them.
            pub const ALL: [$rows; [$($word),*].len()] = [$($rows::$name),*];

            /// How it is called.
            pub fn word(self) -> &'static str {
                const WORDS: [&str; $rows::ALL.len()] = [$($word),*];
                WORDS[self as usize]
            }

            /// What it is.
            pub fn help(self) -> &'static str {
                const HELP: [&str; $rows::ALL.len()] = [$($help),*];
                HELP[self as usize]
            }
        }
    };
}

macro_rules! words_with_lines {
    ($(#[$about:meta])* $rows:ident: $($name:ident $word:literal $line:expr, $help:literal;)*) => {
        words! { $(#[$about])* $rows: $($name $word, $help;)* }

        impl $rows {
            /// Its name in the text of `lanrage status`, if it has a line of its own there.
            pub fn line(self) -> Option<&'static str> {
                const LINES: [Option<&str>; $rows::ALL.len()] = [$($line),*];
                LINES[self as usize]
            }
        }
    };
}

figures! {
    Uptime Gauge Number "lanrage_uptime_seconds" "uptime_seconds" None, "Time since the start.";
    Parties Gauge Number "lanrage_parties" "parties" Some("parties"), "Parties.";
    Peers Gauge Number "lanrage_peers" "peers" Some("peers"), "Different peers in parties.";
    Sessions Gauge Number "lanrage_websocket_sessions" "websocket_sessions" Some("sessions"), "Open WebSockets.";
    Tokens Gauge Number "lanrage_tokens" "tokens" Some("tokens"), "Tokens.";
    Relays Gauge Number "lanrage_relays" "relays" Some("other relays"), "Registered relays, without this one.";
    Messages Counter Number "lanrage_websocket_messages_total" "websocket_messages" None,
        "WebSocket messages received.";
    Deliveries Counter Number "lanrage_websocket_deliveries_total" "websocket_deliveries" None,
        "WebSocket messages sent.";
    LogLinesLost Counter Number "lanrage_log_lines_lost_total" "log_lines_lost" None,
        "Lines of the log that were lost because nobody read them.";
    StoreCommits Counter Number "lanrage_store_commits_total" "store.commits" None, "Commits that reached the disk.";
    StoreErrors Counter Number "lanrage_store_errors_total" "store.errors" None, "Commits that failed.";
    StoreRows Counter Number "lanrage_store_rows_total" "store.rows" None, "Rows written or deleted.";
    StoreLastCommit Gauge Micros "lanrage_store_last_commit_seconds" "store.last_commit_seconds" None,
        "How long the last commit took.";
    StoreSize Gauge Number "lanrage_store_size_bytes" "store.bytes" None, "Size of the store's file.";
    StoreFree Gauge Number "lanrage_store_free_bytes" "store.free_bytes" None,
        "Free space where the store's file is; 0 also if that is not known.";
    StoreFailing Gauge Bool "lanrage_store_failing" "store.failing" None, "Whether the store cannot write now.";
    StoreRecoveries Counter Number "lanrage_store_recoveries_total" "store.recoveries" None,
        "Damaged stores that were set aside at the start.";
    Flows Gauge Number "lanrage_relay_flows" "traffic.flows" Some("flows"),
        "Sessions between members that are forwarded unread.";
    Handshakes Counter Number "lanrage_relay_handshakes_total" "traffic.handshakes" None,
        "Sessions between members that were set up.";
    Gso Gauge Bool "lanrage_relay_gso" "traffic.gso" None,
        "Whether runs of datagrams are sent as one (GSO): not if that is switched off, or has failed.";
}

words_with_lines! {
    /// What the relay counts datagrams and their bytes by.
    Traffic:
    Received "received" None, "All that came.";
    Sent "sent" None, "All that went.";
    Blind "blind" Some("blind"), "Of what went: data of sessions between members, which the relay cannot read.";
    Hub "hub" Some("hub"), "Of what went: data of sessions with the hub, broadcasts included.";
    Broadcast "broadcast" Some("broadcast"), "Of what went: copies of broadcasts.";
    Stun "stun" None, "Of what went: STUN answers.";
    Local "local" Some("to this machine"), "Packets that this machine itself took.";
}

macro_rules! drop_reasons {
    ($($name:ident $word:literal, $help:literal, $german:literal;)*) => {
        words! {
            /// Why a datagram, or a packet within one, went nowhere.
            DropReason:
            $($name $word, $help;)*
        }
    };
}

include!("figures/drop_reasons.rs");

words! {
    /// How a member is reached.
    Reach:
    None "none", "Not yet, or not any more.";
    Blind "blind", "By sessions with others that the relay forwards unread.";
    Hub "hub", "By a session with the hub, and by such sessions perhaps.";
}

words! {
    /// What there is only so much of, and what everybody has a share of.
    Resource:
    Parties "parties", "Memory for parties, peers, invites and bans, in bytes.";
    Signals "signals", "Memory for signals that wait to be fetched, in bytes.";
    Tokens "tokens", "Tokens.";
    Relays "relays", "Registered relays.";
    Connections "connections", "Connections to the control API.";
    Sessions "sessions", "Open WebSockets.";
    Buffers "buffers", "Memory for what is received and not yet answered, or sent and not yet taken, in bytes.";
    RelaySources "relay_sources", "Addresses that the relay has heard from.";
    RelayPending "relay_pending", "Handshakes that the relay has forwarded and that are not answered.";
    RelayPaced "relay_paced", "Handshakes that wait until their recipient's kernel takes another.";
    RelayFlows "relay_flows", "Directions of sessions that are forwarded unread.";
}

/// What is one number for each value of its labels, and how to read them.
pub struct Family {
    /// Its name in `/metrics`.
    pub metric: &'static str,
    /// How its numbers change.
    pub kind: MetricKind,
    /// What they are.
    pub help: &'static str,
    /// Hands out each, with its labels.
    samples: fn(&Readings, &mut Samples<'_>),
}

/// A number of an instance of a realm, if it is one.
#[cfg(feature = "cluster")]
fn of_instance(readings: &Readings, out: &mut Samples<'_>, value: impl FnOnce(&InstanceReading) -> u64) {
    if let Some(instance) = &readings.instance {
        out.plain(value(instance));
    }
}

/// All of them.
pub const FAMILIES: &[Family] = &[
    #[cfg(feature = "cluster")]
    Family {
        metric: "lanrage_instance_writes",
        kind: MetricKind::Gauge,
        help: "Whether this instance of the realm is the one that writes.",
        samples: |readings, out| of_instance(readings, out, |instance| instance.follows.is_none().into()),
    },
    #[cfg(feature = "cluster")]
    Family {
        metric: "lanrage_realm_epoch",
        kind: MetricKind::Gauge,
        help: "How often the lease of the realm was taken, as far as this instance knows.",
        samples: |readings, out| of_instance(readings, out, |instance| instance.epoch),
    },
    #[cfg(feature = "cluster")]
    Family {
        metric: "lanrage_realm_commits",
        kind: MetricKind::Gauge,
        help: "The number of the last commit of the realm that this instance has.",
        samples: |readings, out| of_instance(readings, out, |instance| instance.commits),
    },
    #[cfg(feature = "cluster")]
    Family {
        metric: "lanrage_follower_lag_seconds",
        kind: MetricKind::Gauge,
        help: "For how long there may have been commits that this instance has not.",
        samples: |readings, out| {
            if let Some(instance) = &readings.instance {
                out.seconds(instance.lag);
            }
        },
    },
    #[cfg(feature = "cluster")]
    Family {
        metric: "lanrage_forwarded_total",
        kind: MetricKind::Counter,
        help: "What the instance that writes was asked and has answered.",
        samples: |readings, out| of_instance(readings, out, |instance| instance.asked),
    },
    #[cfg(feature = "cluster")]
    Family {
        metric: "lanrage_forward_failures_total",
        kind: MetricKind::Counter,
        help: "What the instance that writes was asked and has not answered.",
        samples: |readings, out| of_instance(readings, out, |instance| instance.unanswered),
    },
    #[cfg(feature = "cluster")]
    Family {
        metric: "lanrage_fenced_total",
        kind: MetricKind::Counter,
        help: "How often this instance found out that another one writes in its place.",
        samples: |readings, out| of_instance(readings, out, |instance| instance.fenced),
    },
    Family {
        metric: "lanrage_build_info",
        kind: MetricKind::Gauge,
        help: "The version of this program.",
        samples: |_, out| out.one(format_args!("version=\"{}\"", env!("CARGO_PKG_VERSION")), 1),
    },
    Family {
        metric: "lanrage_table_used",
        kind: MetricKind::Gauge,
        help: "What is held of everything that is bounded.",
        samples: |readings, out| each_table(readings, out, |table| table.held),
    },
    Family {
        metric: "lanrage_table_limit",
        kind: MetricKind::Gauge,
        help: "How much of it there may be.",
        samples: |readings, out| each_table(readings, out, |table| table.limit),
    },
    Family {
        metric: "lanrage_table_largest",
        kind: MetricKind::Gauge,
        help: "What the network holds that holds most of it.",
        samples: |readings, out| {
            for table in &readings.tables {
                if let Some((network, held)) = table.largest {
                    let table = table.resource.word();
                    out.one(format_args!("table=\"{table}\",network=\"{network}\""), held as u64);
                }
            }
        },
    },
    Family {
        metric: "lanrage_http_requests_total",
        kind: MetricKind::Counter,
        help: "Answered requests by route and status.",
        samples: |readings, out| {
            for ((route, status), count) in &readings.requests {
                out.one(format_args!("route=\"{route}\",status=\"{status}\""), *count);
            }
        },
    },
    Family {
        metric: "lanrage_http_request_seconds",
        kind: MetricKind::Histogram,
        help: "Time from a whole request to its answer.",
        samples: |readings, out| out.histogram(&readings.latency),
    },
    Family {
        metric: "lanrage_relay_packets_total",
        kind: MetricKind::Counter,
        help: "Datagrams at the relay, by what became of them.",
        samples: |readings, out| each_kind(readings, out, |volume| volume.packets),
    },
    Family {
        metric: "lanrage_relay_bytes_total",
        kind: MetricKind::Counter,
        help: "Bytes at the relay, by what became of them.",
        samples: |readings, out| each_kind(readings, out, |volume| volume.bytes),
    },
    Family {
        metric: "lanrage_relay_drops_total",
        kind: MetricKind::Counter,
        help: "What went nowhere, by reason.",
        samples: |readings, out| {
            for (reason, count) in readings.stats.drops().iter() {
                out.one(format_args!("reason=\"{}\"", reason.word()), count);
            }
        },
    },
    Family {
        metric: "lanrage_relay_member_path",
        kind: MetricKind::Gauge,
        help: "How a member is reached.",
        samples: |readings, out| {
            for SeenMember { peer, stats, .. } in &readings.members {
                out.one(format_args!("peer=\"{peer}\",path=\"{}\"", stats.reach.word()), 1);
            }
        },
    },
    Family {
        metric: "lanrage_relay_member_bytes_total",
        kind: MetricKind::Counter,
        help: "Data of a member, by direction.",
        samples: |readings, out| each_direction(readings, out, |count| count.bytes),
    },
    Family {
        metric: "lanrage_relay_member_packets_total",
        kind: MetricKind::Counter,
        help: "Packets of a member, by direction.",
        samples: |readings, out| each_direction(readings, out, |count| count.packets),
    },
    Family {
        metric: "lanrage_relay_member_drops_total",
        kind: MetricKind::Counter,
        help: "What came from a member's address and went nowhere, by reason.",
        samples: |readings, out| {
            for SeenMember { peer, drops, .. } in &readings.members {
                for (reason, count) in drops.iter().filter(|&(_, count)| count > 0) {
                    out.one(format_args!("peer=\"{peer}\",reason=\"{}\"", reason.word()), count);
                }
            }
        },
    },
    Family {
        metric: "lanrage_relay_member_handshake_age_seconds",
        kind: MetricKind::Gauge,
        help: "Since a member's last handshake.",
        samples: |readings, out| {
            for SeenMember { peer, handshake_age, .. } in &readings.members {
                out.one(format_args!("peer=\"{peer}\""), handshake_age.as_secs());
            }
        },
    },
];

fn each_table(readings: &Readings, out: &mut Samples<'_>, number: fn(&Usage) -> usize) {
    for table in &readings.tables {
        out.one(format_args!("table=\"{}\"", table.resource.word()), number(table) as u64);
    }
}

fn each_kind(readings: &Readings, out: &mut Samples<'_>, number: fn(Volume) -> u64) {
    for kind in Traffic::ALL {
        out.one(format_args!("kind=\"{}\"", kind.word()), number(readings.stats.traffic(kind)));
    }
}

fn each_direction(readings: &Readings, out: &mut Samples<'_>, number: fn(Volume) -> u64) {
    for SeenMember { peer, stats, .. } in &readings.members {
        for (direction, count) in stats.directions() {
            out.one(format_args!("peer=\"{peer}\",direction=\"{direction}\""), number(count));
        }
    }
}
