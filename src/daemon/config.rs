//! Every setting of the daemon: one table, three sources (file, environment, flags).

use crate::api::admission::Rates;
use crate::control;
use crate::control::subnet::Subnet;
use crate::net::http::Limits as DoorLimits;
use crate::sys::interface;
use crate::token_bucket::Rate;
use crate::wire::toml::{self, Entry};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the owner of a daemon has chosen.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where state is kept.
    pub state_dir: PathBuf,
    /// Where flows wait for the next daemon: in memory, not on flash.
    pub runtime_dir: PathBuf,
    /// Whether the relay hands the kernel runs of datagrams as one (GSO).
    pub gso: bool,
    /// Whether this machine itself is in the virtual LAN.
    pub tun: bool,
    /// The interface by which it is.
    pub interface: String,
    /// Where the control API listens.
    pub http: SocketAddr,
    /// Where the relay listens.
    pub relay: SocketAddr,
    /// Where clients reach the relay, if that is not where they reach the API.
    pub public_endpoint: Option<(String, u16)>,
    /// Where this machine is.
    pub region: String,
    /// How many clients the relay takes.
    pub max_clients: u32,
    /// A token that makes its bearer an admin.
    pub admin_token: Option<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// How much is logged.
    pub log: log::LevelFilter,
    /// What the control plane allows.
    pub control: control::Settings,
    /// What the HTTP door allows.
    pub door: DoorLimits,
    /// What one source may do.
    pub rates: Rates,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            state_dir: default_state_dir(),
            runtime_dir: default_runtime_dir(),
            gso: true,
            tun: false,
            interface: "lanrage0".to_owned(),
            http: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8667)),
            relay: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 51820)),
            public_endpoint: None,
            region: "unknown".to_owned(),
            max_clients: 100,
            admin_token: None,
            trusted_proxies: Vec::new(),
            log: log::LevelFilter::Info,
            control: control::Settings::default(),
            door: DoorLimits::default(),
            rates: Rates::default(),
        }
    }
}

/// What systemd gives a service, `/var/lib/lanrage` for root, else `~/.lanrage`.
fn default_state_dir() -> PathBuf {
    let given = std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
    given.unwrap_or_else(|| match std::env::var_os("HOME") {
        Some(home) if !rustix::process::geteuid().is_root() => Path::new(&home).join(".lanrage"),
        _ => PathBuf::from("/var/lib/lanrage"),
    })
}

/// What systemd gives a service, `/var/run/lanrage` for root, else the user's own.
fn default_runtime_dir() -> PathBuf {
    let given = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
    given.unwrap_or_else(|| match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(own) if !rustix::process::geteuid().is_root() => Path::new(&own).join("lanrage"),
        _ => PathBuf::from("/var/run/lanrage"),
    })
}

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
    set: fn(&mut Config, &str) -> Option<()>,
    show: fn(&Config) -> String,
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

    /// Its value in `config`, as it would be written.
    pub fn show(&self, config: &Config) -> String {
        (self.show)(config)
    }

    fn is_same(&self, one: &Config, other: &Config) -> bool {
        // Whatever a secret is, it is shown in the same way.
        let same_secret = self.key != "admin_token" || one.admin_token == other.admin_token;
        same_secret && self.show(one) == self.show(other)
    }
}

/// What came of reading the settings once more.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Reloaded {
    /// Keys of the settings that have new values.
    pub changed: Vec<&'static str>,
    /// Keys of those that were given new values, which only a restart brings in.
    pub at_restart: Vec<&'static str>,
}

macro_rules! count {
    ($key:literal, $field:ident $(. $rest:ident)*, $min:literal, $help:literal) => {
        Setting {
            key: $key,
            expected: concat!("a whole number, at least ", $min),
            help: $help,
            reloads: true,
            set: |config, text| {
                config.$field $(. $rest)* = text.parse().ok().filter(|count| *count >= $min)?;
                Some(())
            },
            show: |config| config.$field $(. $rest)*.to_string(),
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
            set: |config, text| {
                config.$field $(. $rest)* = parse_seconds(text)?;
                Some(())
            },
            show: |config| config.$field $(. $rest)*.as_secs_f64().to_string(),
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
            set: |config, text| {
                config.rates.$field = parse_rate(text, Duration::from_secs($per))?;
                Some(())
            },
            show: |config| show_rate(config.rates.$field, Duration::from_secs($per)),
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
        set: |config, text| {
            config.state_dir = Some(text).filter(|text| !text.is_empty()).map(PathBuf::from)?;
            Some(())
        },
        show: |config| config.state_dir.display().to_string(),
    },
    Setting {
        key: "http",
        expected: "an address and port, such as 0.0.0.0:8667 (port 0: any free one)",
        help: "where the control API listens; 0.0.0.0 means IPv6 too",
        reloads: false,
        set: |config, text| {
            config.http = text.parse().ok()?;
            Some(())
        },
        show: |config| config.http.to_string(),
    },
    Setting {
        key: "relay",
        expected: "an address and port, such as 0.0.0.0:51820 (port 0: any free one)",
        help: "where the relay listens (UDP); 0.0.0.0 means IPv6 too",
        reloads: false,
        set: |config, text| {
            config.relay = text.parse().ok()?;
            Some(())
        },
        show: |config| config.relay.to_string(),
    },
    Setting {
        key: "public_endpoint",
        expected: "HOST:PORT, such as home.example.org:51820",
        help: "where clients reach the relay from outside",
        reloads: true,
        set: |config, text| {
            config.public_endpoint = if text.is_empty() { None } else { Some(parse_endpoint(text)?) };
            Some(())
        },
        show: |config| {
            let endpoint = config.public_endpoint.as_ref();
            endpoint.map_or_else(String::new, |(host, port)| show_endpoint(host, *port))
        },
    },
    Setting {
        key: "subnet",
        expected: "an IPv4 subnet of /8 to /30, such as 10.66.0.0/16",
        help: "the virtual LAN",
        reloads: false,
        set: |config, text| {
            config.control.subnet = Subnet::parse(text)?;
            Some(())
        },
        show: |config| config.control.subnet.to_string(),
    },
    Setting {
        key: "region",
        expected: "a name of 1 to 64 characters",
        help: "where this relay is, for clients to choose by",
        reloads: true,
        set: |config, text| {
            let fits = (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control);
            config.region = fits.then(|| text.to_owned())?;
            Some(())
        },
        show: |config| config.region.clone(),
    },
    Setting {
        key: "log",
        expected: "off, error, warn, info, debug or trace",
        help: "how much is logged",
        reloads: true,
        set: |config, text| {
            config.log = text.parse().ok()?;
            Some(())
        },
        show: |config| config.log.to_string().to_lowercase(),
    },
    Setting {
        key: "runtime_dir",
        expected: "a directory in memory",
        help: "where connections wait for a restarted daemon",
        reloads: false,
        set: |config, text| {
            config.runtime_dir = Some(text).filter(|text| !text.is_empty()).map(PathBuf::from)?;
            Some(())
        },
        show: |config| config.runtime_dir.display().to_string(),
    },
    Setting {
        key: "gso",
        expected: "true or false",
        help: "whether datagrams are sent in runs; try false if games stutter over PPPoE",
        reloads: false,
        set: |config, text| {
            config.gso = text.parse().ok()?;
            Some(())
        },
        show: |config| config.gso.to_string(),
    },
    Setting {
        key: "tun",
        expected: "yes or no",
        help: "whether games on this machine itself can be played, at the subnet's first address (10.66.0.1)",
        reloads: false,
        set: |config, text| {
            config.tun = match text {
                "yes" | "true" => true,
                "no" | "false" => false,
                _ => return None,
            };
            Some(())
        },
        show: |config| if config.tun { "yes" } else { "no" }.to_owned(),
    },
    Setting {
        key: "interface",
        expected: "a name of 1 to 15 letters, digits and . _ -",
        help: "the network interface that tun makes",
        reloads: false,
        set: |config, text| {
            config.interface = is_interface(text).then(|| text.to_owned())?;
            Some(())
        },
        show: |config| config.interface.clone(),
    },
    count!("max_clients", max_clients, 1, "how many clients the relay says it takes"),
    Setting {
        key: "admin_token",
        expected: "at least 16 characters without spaces (keep it secret), or nothing",
        help: "a Bearer token that makes an admin; empty: only the control socket does",
        reloads: true,
        set: |config, text| {
            let fits = text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_graphic());
            config.admin_token = if text.is_empty() { None } else { Some(fits.then(|| text.to_owned())?) };
            Some(())
        },
        show: |config| config.admin_token.as_ref().map_or_else(String::new, |_| "(set)".to_owned()),
    },
    Setting {
        key: "trusted_proxies",
        expected: "IP addresses with commas between them, such as 127.0.0.1,::1",
        help: "proxies whose X-Forwarded-For is believed",
        reloads: true,
        set: |config, text| {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            config.trusted_proxies =
                parts.map(|part| Some(part.parse::<IpAddr>().ok()?.to_canonical())).collect::<Option<_>>()?;
            Some(())
        },
        show: |config| config.trusted_proxies.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(","),
    },
    count!("limits.parties", control.limits.parties, 1, "parties in all"),
    count!("limits.parties_hosted", control.limits.parties_hosted, 1, "parties that one peer may host"),
    count!("limits.parties_joined", control.limits.parties_joined, 1, "parties that one peer may be in"),
    count!(
        "limits.peers_per_party",
        control.limits.peers_per_party,
        1,
        "peers in one party, about 1 KiB each"
    ),
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
    count!("limits.signals_per_peer", control.limits.signals_per_peer, 1, "signals that wait for one peer"),
    count!("limits.signal_size", control.limits.signal_size, 1, "bytes of one signal"),
    count!("limits.signals_size", control.limits.signals_size, 1, "bytes of all waiting signals"),
    count!(
        "limits.addresses_remembered",
        control.limits.addresses_remembered,
        1,
        "virtual addresses kept for keys that are in no party, about 300 bytes each"
    ),
    count!("limits.connections", door.connections, 1, "HTTP connections, about 3 KB each"),
    count!(
        "limits.connections_per_source",
        door.connections_per_source,
        1,
        "HTTP connections of one IPv4 address or IPv6 /64"
    ),
    count!("limits.sessions", door.sessions, 1, "WebSocket sessions, about 5 KB each"),
    count!(
        "limits.sessions_per_source",
        door.sessions_per_source,
        1,
        "WebSocket sessions of one IPv4 address or IPv6 /64"
    ),
    count!("limits.sources", rates.sources, 1, "sources whose rates are told apart, about 100 bytes each"),
    rate!("rates.requests", requests, 1, "requests per second of one source, and burst"),
    rate!("rates.creations", creations, 60, "registrations and creates per minute of one source, and burst"),
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

/// What a kernel takes for the name of an interface, of plain signs; another sign may ask it for a number.
fn is_interface(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=interface::NAME_LENGTH).contains(&text.len())
        && text.bytes().all(fits)
        && text != "."
        && text != ".."
}

fn parse_seconds(text: &str) -> Option<Duration> {
    let span = Duration::try_from_secs_f64(text.parse().ok()?).ok()?;
    (span > Duration::ZERO && span <= Duration::from_secs(10 * 365 * 86_400)).then_some(span)
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

/// `HOST:PORT`; an IPv6 host is in brackets, and given without them.
fn parse_endpoint(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|host| host.parse::<std::net::Ipv6Addr>().is_ok())?,
        None => Some(host).filter(|host| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            (1..=253).contains(&host.len()) && host.bytes().all(plain)
        })?,
    };
    Some((host.to_owned(), port))
}

fn show_endpoint(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A value that cannot be used, or a key that does not exist.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Sets one key. `place` says where the value was found, for the error.
    pub fn set(&mut self, key: &str, value: &str, place: &str) -> Result<(), ConfigError> {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
            return Err(ConfigError(format!("{place}: there is no setting \"{key}\"{}", suggestion(key))));
        };
        (setting.set)(self, value).ok_or_else(|| {
            let value = if key == "admin_token" { "(not shown)".to_owned() } else { format!("\"{value}\"") };
            ConfigError(format!("{place}: {key} = {value} can't be used: expected {}", setting.expected))
        })
    }

    /// Takes settings from the text of a TOML file called `path`.
    pub fn read_file(&mut self, text: &str, path: &str) -> Result<(), ConfigError> {
        let entries = toml::parse(text)
            .map_err(|error| ConfigError(format!("{path}, line {}: no valid TOML: {error}", error.line)))?;
        for Entry { line, key, value } in entries {
            let place = format!("{path}, line {line}");
            let value = value.ok_or_else(|| {
                ConfigError(format!("{place}: {key} has a value of a kind that is not understood here"))
            })?;
            self.set(&key, &value, &place)?;
        }
        Ok(())
    }

    /// Takes from `new` what can change while the daemon runs; the rest stays as it is.
    pub fn reload(&mut self, mut new: Config) -> Reloaded {
        let mut reloaded = Reloaded::default();
        for setting in SETTINGS {
            if setting.is_same(self, &new) {
                continue;
            }
            if setting.reloads {
                reloaded.changed.push(setting.key);
            } else {
                reloaded.at_restart.push(setting.key);
                (setting.set)(&mut new, &setting.show(self)).expect("a value that is shown can be read");
            }
        }
        *self = new;
        reloaded
    }

    /// Takes settings from environment variables; those that do not begin with `LANRAGE_` are ignored.
    /// `LANRAGE_CONFIG` is not a setting, but the name of the file.
    pub fn read_environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (name, value) in
            variables.filter(|(name, _)| name.starts_with("LANRAGE_") && name != CONFIG_VARIABLE)
        {
            let setting = SETTINGS.iter().find(|setting| setting.variable() == name);
            let key = setting.map_or(name.as_str(), |setting| setting.key);
            self.set(key, &value, &format!("environment variable {name}"))?;
        }
        Ok(())
    }
}

/// Names the configuration file in the environment.
pub const CONFIG_VARIABLE: &str = "LANRAGE_CONFIG";

/// The key that may have been meant.
fn suggestion(key: &str) -> String {
    let last = |key: &str| key.rsplit(['.', '_']).next().unwrap_or_default().to_lowercase();
    let near = SETTINGS.iter().find(|setting| {
        setting.key.eq_ignore_ascii_case(key) || setting.variable() == key || last(setting.key) == last(key)
    });
    match near {
        Some(setting) => format!("; did you mean \"{}\"?", setting.key),
        None => "; `lanrage serve --help` lists them".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Config, String> {
        let mut config = Config::default();
        config.read_file(text, "lanrage.toml").map(|()| config).map_err(|error| error.to_string())
    }

    #[test]
    fn every_setting_reads_what_it_shows_and_has_names_of_its_own() {
        let default = Config::default();
        for setting in SETTINGS {
            let mut config = Config::default();
            let shown = setting.show(&default);
            config.set(setting.key, &shown, "test").unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(setting.show(&config), shown);
            let same =
                |other: &&Setting| other.flag() == setting.flag() || other.variable() == setting.variable();
            assert_eq!(SETTINGS.iter().filter(same).count(), 1, "{}", setting.key);
            assert!(config.set(setting.key, "\u{1}!", "test").is_err() || setting.key.ends_with("_dir"));
        }
    }

    #[test]
    fn a_file_sets_what_it_names() {
        let config = file(
            "http = \"127.0.0.1:0\"\nregion = \"eu\"\ntrusted_proxies = [\"127.0.0.1\", \"::1\"]\n\
             [limits]\nparties = 5_000\n[rates]\nrequests = \"10/20\"\n[timeouts]\npeer = 2.5\n",
        )
        .unwrap();
        assert_eq!(config.http.to_string(), "127.0.0.1:0");
        assert_eq!(config.trusted_proxies.len(), 2);
        assert_eq!(config.control.limits.parties, 5000);
        assert_eq!(config.rates.requests, Rate::new(10, Duration::from_secs(1), 20));
        assert_eq!(config.control.lifetimes.peer, Duration::from_millis(2500));
    }

    #[test]
    fn errors_name_the_place_the_key_the_value_and_what_is_expected() {
        assert_eq!(
            file("\nhttp = 8667").unwrap_err(),
            "lanrage.toml, line 2: http = \"8667\" can't be used: expected an address and port, such as \
             0.0.0.0:8667 (port 0: any free one)"
        );
        assert_eq!(
            file("htttp = 1\n").unwrap_err(),
            "lanrage.toml, line 1: there is no setting \"htttp\"; `lanrage serve --help` lists them"
        );
        assert_eq!(
            file("[limit]\nparties = 1\n").unwrap_err(),
            "lanrage.toml, line 2: there is no setting \"limit.parties\"; did you mean \"limits.parties\"?"
        );
        assert!(file("http = ").unwrap_err().starts_with("lanrage.toml, line 1: no valid TOML: "));
        assert!(file("http = 2020-01-01").unwrap_err().contains("kind"));
        let secret = file("admin_token = \"short\"").unwrap_err();
        assert!(!secret.contains("short"), "{secret}");
    }

    #[test]
    fn the_environment_sets_what_it_names() {
        let mut config = Config::default();
        let variables = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
        };
        let good = [
            ("LANRAGE_REGION", "eu"),
            ("LANRAGE_LIMITS_PEERS_PER_PARTY", "3"),
            ("HOME", "/x"),
            ("LANRAGE_CONFIG", "f"),
        ];
        config.read_environment(variables(&good).into_iter()).unwrap();
        assert_eq!((config.region.as_str(), config.control.limits.peers_per_party), ("eu", 3));
        let error = config.read_environment(variables(&[("LANRAGE_SUBNET", "10.66.0.1/16")]).into_iter());
        assert_eq!(
            error.unwrap_err().to_string(),
            "environment variable LANRAGE_SUBNET: subnet = \"10.66.0.1/16\" can't be used: expected an IPv4 subnet \
             of /8 to /30, such as 10.66.0.0/16"
        );
        assert!(config.read_environment(variables(&[("LANRAGE_TYPO", "1")]).into_iter()).is_err());
    }

    #[test]
    fn a_reload_takes_what_can_change_and_names_the_rest() {
        let read = |text| file(text).unwrap();
        let mut running =
            read("state_dir = \"/a\"\nadmin_token = \"correct-horse-battery\"\n[limits]\nparties = 7\n");
        assert_eq!(running.reload(running.clone()), Reloaded::default());
        let new = "http = \"127.0.0.1:1\"\nstate_dir = \"/b\"\nsubnet = \"10.0.0.0/8\"\nregion = \"eu\"\n\
                   admin_token = \"another-horse-battery\"\n[rates]\nrequests = \"1/2\"\n";
        let reloaded = running.reload(read(new));
        assert_eq!(reloaded.changed, ["region", "admin_token", "limits.parties", "rates.requests"]);
        assert_eq!(reloaded.at_restart, ["state_dir", "http", "subnet"]);
        let same = |key: &str, other: &Config| {
            let setting = SETTINGS.iter().find(|setting| setting.key == key).unwrap();
            setting.is_same(&running, other)
        };
        assert!(["state_dir"].iter().all(|key| same(key, &read("state_dir = \"/a\""))));
        assert!(["http", "subnet", "limits.parties"].iter().all(|key| same(key, &Config::default())));
        assert!(["region", "rates.requests", "admin_token"].iter().all(|key| same(key, &read(new))));
        assert_eq!(running.clone().reload(read(new)).at_restart, reloaded.at_restart);
    }

    #[test]
    fn the_interface_has_a_name_that_kernels_take() {
        let mut config = Config::default();
        assert_eq!((config.tun, config.interface.as_str()), (false, "lanrage0"));
        for good in ["l", "lanrage0", "fifteen-letters", "a.b_c-1", "..."] {
            config.set("interface", good, "test").unwrap();
            assert_eq!(config.interface, good);
        }
        for bad in ["", ".", "..", "sixteen-letters0", "a/b", "a b", "a\tb", "a:1", "lan%d", "Z\u{fc}rich"] {
            assert!(config.set("interface", bad, "test").is_err(), "{bad}");
        }
        assert!(file("tun = true").unwrap().tun && file("tun = \"yes\"").unwrap().tun);
        assert!(!file("tun = false").unwrap().tun && file("tun = 1").is_err());
        assert_eq!(
            file("tun = true\ninterface = \"x\"").unwrap().reload(Config::default()).at_restart.len(),
            2
        );
    }

    #[test]
    fn endpoints() {
        assert_eq!(parse_endpoint("[2001:db8::1]:51820"), Some(("2001:db8::1".into(), 51820)));
        assert_eq!(parse_endpoint("home.example.org:1"), Some(("home.example.org".into(), 1)));
        for bad in ["host", "host:0", ":1", "2001:db8::1:5", "[::1]", "a b:1", "host:65536", "[x]:1"] {
            assert_eq!(parse_endpoint(bad), None, "{bad}");
        }
    }
}
