//! The table of settings: their names, and how a value is read and shown.

use super::Settings;
#[cfg(feature = "cluster")]
use super::cluster::{is_database, without_password};
use crate::api::browsers::is_origin;
#[cfg(feature = "cluster")]
use crate::ids::is_valid_id;
use crate::subnet::Subnet;
use crate::sys::interface;
use crate::token_bucket::Rate;
use crate::wire::decimal::Decimal;
use crate::wire::endpoint;
use crate::wire::roster::is_region;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// One setting. Its key is its name in the file; `a.b_c` is `--a-b-c` as a flag and `LANRAGE_A_B_C` in the
/// environment.
pub struct Setting {
    /// Its key.
    pub key: &'static str,
    /// What a value looks like, for errors: "expected ...".
    pub expected: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// Whether SIGHUP brings in a new value. Otherwise a restart does.
    pub reloads: bool,
    pub(super) set: fn(&mut Settings, &str) -> Option<()>,
    show: fn(&Settings) -> String,
}

impl Setting {
    /// Its flag.
    pub fn flag(&self) -> String {
        format!("--{}", self.key.replace(['.', '_'], "-"))
    }

    /// Its variable.
    pub fn variable(&self) -> String {
        format!("LANRAGE_{}", self.key.replace('.', "_").to_uppercase())
    }

    /// Its value in `settings`, as it would be written.
    pub fn show(&self, settings: &Settings) -> String {
        (self.show)(settings)
    }

    pub(super) fn is_same(&self, one: &Settings, other: &Settings) -> bool {
        // Whatever a secret is, it is shown in the same way.
        let same_secret = self.key != "admin_token" || one.admin_token == other.admin_token;
        same_secret && self.show(one) == self.show(other)
    }
}

macro_rules! count {
    ($key:literal, $field:ident $(. $rest:ident)*, $min:literal, $help:literal) => {
        Setting {
            key: $key,
            expected: concat!("a whole number, at least ", $min),
            help: $help,
            reloads: true,
            set: |settings, text| {
                settings.$field $(. $rest)* = text.parse().ok().filter(|count| *count >= $min)?;
                Some(())
            },
            show: |settings| settings.$field $(. $rest)*.to_string(),
        }
    };
}

macro_rules! seconds {
    ($key:literal, $field:ident $(. $rest:ident)*, $help:literal) => {
        Setting {
            key: $key,
            expected: "a number of seconds, more than 0",
            help: $help,
            reloads: true,
            set: |settings, text| {
                settings.$field $(. $rest)* = parse_seconds(text)?;
                Some(())
            },
            show: |settings| show_seconds(settings.$field $(. $rest)*),
        }
    };
}

macro_rules! rate {
    ($key:literal, $field:ident, $per:literal, $help:literal) => {
        Setting {
            key: $key,
            expected: concat!("COUNT/BURST: how many per ", $per, " s and how many at once, such as 50/200"),
            help: $help,
            reloads: true,
            set: |settings, text| {
                settings.rates.$field = parse_rate(text, Duration::from_secs($per))?;
                Some(())
            },
            show: |settings| show_rate(settings.rates.$field, Duration::from_secs($per)),
        }
    };
}

/// Every setting, the ones most often wanted first.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "state_dir",
        expected: "a directory",
        help: "where state and the control socket are kept",
        reloads: false,
        set: |settings, text| {
            settings.state_dir = Some(text).filter(|text| !text.is_empty()).map(PathBuf::from)?;
            Some(())
        },
        show: |settings| settings.state_dir.display().to_string(),
    },
    #[cfg(feature = "cluster")]
    Setting {
        key: "store",
        expected: "postgres://USER@HOST/DATABASE, or nothing for a file in state_dir",
        help: "the database that the state is kept in (a password in it is not shown)",
        reloads: false,
        set: |settings, text| {
            settings.cluster.store =
                if text.is_empty() { None } else { Some(is_database(text).then(|| text.to_owned())?) };
            Some(())
        },
        show: |settings| settings.cluster.store.as_deref().map_or_else(String::new, without_password),
    },
    #[cfg(feature = "cluster")]
    Setting {
        key: "realm",
        expected: "1 to 64 letters, digits and . _ -",
        help: "whose state it is, where several share a database",
        reloads: false,
        set: |settings, text| {
            settings.cluster.realm = is_valid_id(text).then(|| text.to_owned())?;
            Some(())
        },
        show: |settings| settings.cluster.realm.clone(),
    },
    #[cfg(feature = "cluster")]
    Setting {
        key: "instance",
        expected: "1 to 64 letters, digits and . _ -, or nothing for the machine's name",
        help: "what this instance is called among those of its realm",
        reloads: false,
        set: |settings, text| {
            settings.cluster.instance =
                if text.is_empty() { None } else { Some(is_valid_id(text).then(|| text.to_owned())?) };
            Some(())
        },
        show: |settings| settings.cluster.instance.clone().unwrap_or_default(),
    },
    #[cfg(feature = "cluster")]
    Setting {
        key: "instance_url",
        expected: "a URL, such as http://10.0.0.1:8667",
        help: "where other instances reach this one",
        reloads: false,
        set: |settings, text| {
            settings.cluster.url =
                if text.is_empty() { None } else { Some(is_origin(text).then(|| text.to_owned())?) };
            Some(())
        },
        show: |settings| settings.cluster.url.clone().unwrap_or_default(),
    },
    Setting {
        key: "http",
        expected: "an address and port, such as 0.0.0.0:8667 (port 0: any free one)",
        help: "where the control API listens; 0.0.0.0 means IPv6 too",
        reloads: false,
        set: |settings, text| {
            settings.http = text.parse().ok()?;
            Some(())
        },
        show: |settings| settings.http.to_string(),
    },
    Setting {
        key: "relay",
        expected: "an address and port, such as 0.0.0.0:51820 (port 0: any free one)",
        help: "where the relay listens (UDP); 0.0.0.0 means IPv6 too",
        reloads: false,
        set: |settings, text| {
            settings.relay = text.parse().ok()?;
            Some(())
        },
        show: |settings| settings.relay.to_string(),
    },
    Setting {
        key: "public_endpoint",
        expected: "HOST:PORT, such as home.example.org:51820",
        help: "where clients reach the relay from outside",
        reloads: true,
        set: |settings, text| {
            settings.public_endpoint = if text.is_empty() { None } else { Some(endpoint::parse(text)?) };
            Some(())
        },
        show: |settings| {
            let chosen = settings.public_endpoint.as_ref();
            chosen.map_or_else(String::new, |(host, port)| endpoint::text(host, port))
        },
    },
    Setting {
        key: "public_url",
        expected: "http:// or https:// with a name, and a port if need be, such as https://play.example.org",
        help: "where browsers and clients outside reach the control API, if that is by a proxy; links lead there",
        reloads: true,
        set: |settings, text| {
            let is_web = text.starts_with("https://") || text.starts_with("http://");
            settings.public_url = if text.is_empty() { None } else { Some(text.to_owned()) };
            (text.is_empty() || is_web && is_origin(text)).then_some(())
        },
        show: |settings| settings.public_url.clone().unwrap_or_default(),
    },
    Setting {
        key: "subnet",
        expected: "an IPv4 subnet of /8 to /30, such as 10.66.0.0/16",
        help: "the virtual LAN",
        reloads: false,
        set: |settings, text| {
            settings.control.subnet = Subnet::parse(text)?;
            Some(())
        },
        show: |settings| settings.control.subnet.to_string(),
    },
    Setting {
        key: "region",
        expected: "a name of 1 to 64 characters",
        help: "where this relay is, for clients to choose by",
        reloads: true,
        set: |settings, text| {
            settings.region = is_region(text).then(|| text.to_owned())?;
            Some(())
        },
        show: |settings| settings.region.clone(),
    },
    Setting {
        key: "log",
        expected: "off, error, warn, info, debug or trace",
        help: "how much is logged",
        reloads: true,
        set: |settings, text| {
            settings.log = text.parse().ok()?;
            Some(())
        },
        show: |settings| settings.log.to_string().to_lowercase(),
    },
    Setting {
        key: "runtime_dir",
        expected: "a directory in memory",
        help: "where connections wait for a restarted daemon",
        reloads: false,
        set: |settings, text| {
            settings.runtime_dir = Some(text).filter(|text| !text.is_empty()).map(PathBuf::from)?;
            Some(())
        },
        show: |settings| settings.runtime_dir.display().to_string(),
    },
    Setting {
        key: "gso",
        expected: "yes or no",
        help: "whether datagrams are sent in runs; try no if games stutter over PPPoE",
        reloads: false,
        set: |settings, text| {
            settings.gso = parse_yes(text)?;
            Some(())
        },
        show: |settings| show_yes(settings.gso),
    },
    Setting {
        key: "tun",
        expected: "yes or no",
        help: "whether games on this machine itself can be played, at the subnet's first address (10.66.0.1)",
        reloads: false,
        set: |settings, text| {
            settings.tun = parse_yes(text)?;
            Some(())
        },
        show: |settings| show_yes(settings.tun),
    },
    Setting {
        key: "interface",
        expected: "a name of 1 to 15 letters, digits and . _ -",
        help: "the network interface that tun makes",
        reloads: false,
        set: |settings, text| {
            settings.interface = is_interface(text).then(|| text.to_owned())?;
            Some(())
        },
        show: |settings| settings.interface.clone(),
    },
    count!("max_clients", max_clients, 1, "how many clients the relay says it takes"),
    Setting {
        key: "admin_token",
        expected: "at least 16 characters without spaces (keep it secret), or nothing",
        help: "a Bearer token that makes an admin; empty: only the control socket does",
        reloads: true,
        set: |settings, text| {
            let fits = text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_graphic());
            settings.admin_token = if text.is_empty() { None } else { Some(fits.then(|| text.to_owned())?) };
            Some(())
        },
        show: |settings| settings.admin_token.as_ref().map_or_else(String::new, |_| "(set)".to_owned()),
    },
    Setting {
        key: "trusted_proxies",
        expected: "IP addresses with commas between them, such as 127.0.0.1,::1",
        help: "proxies that are believed for whom they ask (X-Forwarded-For, or the PROXY protocol, version 2)",
        reloads: true,
        set: |settings, text| {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            settings.trusted_proxies =
                parts.map(|part| Some(part.parse::<IpAddr>().ok()?.to_canonical())).collect::<Option<_>>()?;
            Some(())
        },
        show: |settings| settings.trusted_proxies.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(","),
    },
    Setting {
        key: "allowed_hosts",
        expected: "names with commas between them, such as router.lan",
        help: "names of this machine, beside that of public_endpoint, by which browsers may reach the owner's pages",
        reloads: true,
        set: |settings, text| {
            settings.browsers.hosts = list(text, endpoint::is_name)?;
            Some(())
        },
        show: |settings| settings.browsers.hosts.join(","),
    },
    Setting {
        key: "allowed_origins",
        expected: "origins with commas between them, such as https://play.example.org",
        help: "other sites whose pages may use the API from a browser (CORS)",
        reloads: true,
        set: |settings, text| {
            settings.browsers.origins = list(text, is_origin)?;
            Some(())
        },
        show: |settings| settings.browsers.origins.join(","),
    },
    Setting {
        key: "memory",
        expected: "auto, or a number of MiB, at least 16",
        help: "the memory that totals are sized for, of which some 3/8 are used at most; auto: what there is",
        reloads: true,
        set: |settings, text| {
            settings.memory = match text {
                "auto" => None,
                text => Some(text.parse().ok().filter(|mebibytes| *mebibytes >= 16)?),
            };
            Some(())
        },
        show: |settings| settings.memory.map_or_else(|| "auto".to_owned(), |mebibytes| mebibytes.to_string()),
    },
    count!("limits.parties", control.limits.parties, 1, "parties in all"),
    count!("limits.parties_hosted", control.limits.parties_hosted, 1, "parties that one peer may host"),
    count!("limits.parties_joined", control.limits.parties_joined, 1, "parties that one peer may be in"),
    count!("limits.peers_per_party", control.limits.peers_per_party, 1, "peers in one party, 1 to 3 kB each"),
    count!("limits.tokens", control.limits.tokens, 1, "tokens in all, about 250 bytes each"),
    count!("limits.tokens_per_peer", control.limits.tokens_per_peer, 1, "tokens of one peer"),
    count!("limits.relays", control.limits.relays, 1, "registered relays in all"),
    count!(
        "limits.relays_per_owner",
        control.limits.relays_per_owner,
        1,
        "relays that one registration may own"
    ),
    count!("limits.bans_per_party", control.limits.bans_per_party, 1, "bans in one party"),
    count!("limits.invites_per_party", control.limits.invites_per_party, 1, "invites to one party"),
    count!("limits.invites", control.limits.invites, 1, "invites in all"),
    count!("limits.signals_per_peer", control.limits.signals_per_peer, 1, "signals that wait for one peer"),
    count!("limits.signal_size", control.limits.signal_size, 1, "bytes of one signal"),
    count!("limits.signals_size", control.limits.signals_size, 1, "bytes of all waiting signals"),
    count!(
        "limits.addresses_remembered",
        control.limits.addresses_remembered,
        1,
        "virtual addresses kept for keys that are in no party, about 300 bytes each"
    ),
    count!(
        "limits.connections",
        door.connections,
        1,
        "HTTP connections, about 3 kB each; fewer with little memory"
    ),
    count!(
        "limits.connections_per_source",
        door.connections_per_source,
        1,
        "HTTP connections of one IPv4 address or IPv6 /64"
    ),
    count!(
        "limits.sessions",
        door.sessions,
        1,
        "WebSocket sessions, about 5 kB each; fewer with little memory"
    ),
    count!(
        "limits.sessions_per_source",
        door.sessions_per_source,
        1,
        "WebSocket sessions of one IPv4 address or IPv6 /64"
    ),
    rate!("rates.requests", requests, 1, "requests per second of one source, and burst"),
    rate!("rates.creations", creations, 60, "registrations and creates per minute of one source, and burst"),
    rate!(
        "rates.changes",
        changes,
        86_400,
        "changes on disk per day of one network (IPv4 /24, IPv6 /48), 33 kB each, and burst"
    ),
    seconds!("timeouts.token", control.lifetimes.token, "life of an unused token"),
    seconds!("timeouts.peer", control.lifetimes.peer, "a peer without heartbeat leaves after this"),
    seconds!(
        "timeouts.relay",
        control.lifetimes.relay,
        "a relay not registered again is forgotten after this"
    ),
    seconds!("timeouts.sweep", control.lifetimes.sweep, "how often expiry is looked at"),
    seconds!("timeouts.head", door.head_timeout, "for the head of a request"),
    seconds!("timeouts.body", door.body_timeout, "for the body of a request"),
    seconds!("timeouts.idle", door.idle_timeout, "for a connection without requests"),
    seconds!("timeouts.write", door.write_timeout, "for an answer to be read"),
];

/// Texts with commas between them, each of which has to fit.
fn list(text: &str, fits: impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| fits(part).then(|| part.to_owned())).collect()
}

/// What a kernel takes for the name of an interface, of plain signs; `%d` would ask it for a number (`dev_alloc_name`
/// in <https://github.com/torvalds/linux/blob/v6.12/net/core/dev.c>).
fn is_interface(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=interface::NAME_LENGTH).contains(&text.len())
        && text.bytes().all(fits)
        && text != "."
        && text != ".."
}

/// A yes or a no; TOML's own words for them, too.
fn parse_yes(text: &str) -> Option<bool> {
    match text {
        "yes" | "true" => Some(true),
        "no" | "false" => Some(false),
        _ => None,
    }
}

fn show_yes(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.to_owned()
}

fn parse_seconds(text: &str) -> Option<Duration> {
    let span = Duration::from_micros(Decimal::parse(text, 6)?.units);
    (span > Duration::ZERO && span <= Duration::from_secs(10 * 365 * 86_400)).then_some(span)
}

fn show_seconds(span: Duration) -> String {
    Decimal::seconds(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)).to_string()
}

fn parse_rate(text: &str, per: Duration) -> Option<Rate> {
    let (count, burst) = text.split_once('/')?;
    let (count, burst) = (count.trim().parse().ok()?, burst.trim().parse().ok()?);
    (1..=1_000_000).contains(&count).then_some(())?;
    (1..=1_000_000).contains(&burst).then(|| Rate::new(count, per, burst))
}

fn show_rate(rate: Rate, per: Duration) -> String {
    format!("{}/{}", per.as_nanos() / rate.interval.as_nanos().max(1), rate.burst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_origins() {
        let mut settings = Settings::default();
        for (key, good, bad) in [
            ("allowed_hosts", "router.lan, my-router", "router.lan:8667"),
            ("allowed_hosts", "", "http://router.lan"),
            ("allowed_origins", "https://a.example,http://b.example:3000", "https://a.example/"),
            ("allowed_origins", "", "*"),
            ("public_url", "https://play.example.org:8443", "https://play.example.org/"),
            ("public_url", "", "play.example.org"),
        ] {
            settings.set(key, good, "test").unwrap();
            let setting = SETTINGS.iter().find(|setting| setting.key == key).unwrap();
            assert_eq!(setting.show(&settings), good.replace(", ", ","));
            assert!(settings.set(key, bad, "test").is_err(), "{bad}");
        }
    }
}
