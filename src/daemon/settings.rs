//! Every setting of the daemon: one table, three sources (file, environment, flags).

#[cfg(feature = "cluster")]
mod cluster;
mod table;
mod toml;

use crate::api::admission::Rates;
use crate::api::browsers::Browsers;
use crate::control;
use crate::net::http::HttpLimits;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use toml::TomlEntry;

#[cfg(feature = "cluster")]
pub use cluster::ClusterSettings;
pub use table::{SETTINGS, Setting};

/// Settings of builds that can keep their state in PostgreSQL. Whoever has set them means it: a state in a file would be
/// another one.
#[cfg(not(feature = "cluster"))]
const OF_CLUSTERS: [&str; 4] = ["store", "realm", "instance", "instance_url"];

/// What the owner of a daemon has chosen.
#[derive(Clone, Debug)]
pub struct Settings {
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
    /// Where others reach the control API, if that is not where it listens.
    pub public_url: Option<String>,
    /// Where this machine is.
    pub region: String,
    /// How many clients the relay takes.
    pub max_clients: u32,
    /// A token that makes its bearer an admin.
    pub admin_token: Option<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// What browsers may do for the pages in them.
    pub browsers: Browsers,
    /// MiB of memory that totals are sized for, if not what this machine has.
    pub memory: Option<usize>,
    /// How much is logged.
    pub log: log::LevelFilter,
    /// What the control plane allows.
    pub control: control::ControlSettings,
    /// What the HTTP door allows.
    pub door: HttpLimits,
    /// What one source may do.
    pub rates: Rates,
    /// Where the state is, if not in a file, and as whom.
    #[cfg(feature = "cluster")]
    pub cluster: ClusterSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            state_dir: default_state_dir(),
            runtime_dir: default_runtime_dir(),
            gso: true,
            tun: false,
            interface: "lanrage0".to_owned(),
            http: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8667)),
            relay: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 51820)),
            public_endpoint: None,
            public_url: None,
            region: "unknown".to_owned(),
            max_clients: 100,
            admin_token: None,
            trusted_proxies: Vec::new(),
            browsers: Browsers::default(),
            memory: None,
            log: log::LevelFilter::Info,
            control: control::ControlSettings::default(),
            door: HttpLimits::default(),
            rates: Rates::default(),
            #[cfg(feature = "cluster")]
            cluster: ClusterSettings::default(),
        }
    }
}

/// What systemd gives a service, `/var/lib/lanrage` for root, else `~/.lanrage`.
fn default_state_dir() -> PathBuf {
    state_dir_of(variable, rustix::process::geteuid().is_root())
}

fn state_dir_of(variable: impl Fn(&str) -> Option<OsString>, is_root: bool) -> PathBuf {
    let given = variable("STATE_DIRECTORY").and_then(|list| first_of(&list));
    given.unwrap_or_else(|| match variable("HOME") {
        Some(home) if !is_root => Path::new(&home).join(".lanrage"),
        _ => PathBuf::from("/var/lib/lanrage"),
    })
}

/// What systemd gives a service, `/var/run/lanrage` for root, else the user's own.
fn default_runtime_dir() -> PathBuf {
    runtime_dir_of(variable, rustix::process::geteuid().is_root())
}

fn runtime_dir_of(variable: impl Fn(&str) -> Option<OsString>, is_root: bool) -> PathBuf {
    let given = variable("RUNTIME_DIRECTORY").and_then(|list| first_of(&list));
    given.unwrap_or_else(|| match variable("XDG_RUNTIME_DIR") {
        Some(own) if !is_root => Path::new(&own).join("lanrage"),
        _ => PathBuf::from("/var/run/lanrage"),
    })
}

/// A variable of the environment; an empty one counts as none.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The first of several directories, which systemd separates by colons.
fn first_of(list: &OsStr) -> Option<PathBuf> {
    let first = list.as_bytes().split(|byte| *byte == b':').find(|part| !part.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(first)))
}

/// What came of reading the settings once more.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Reloaded {
    /// Keys of the settings that have new values.
    pub changed: Vec<&'static str>,
    /// Keys of those that were given new values, which only a restart brings in.
    pub at_restart: Vec<&'static str>,
}

/// A value that cannot be used, or a key that does not exist.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SettingsError(String);

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    /// Sets one key. `origin` says where the value was found, for the error.
    pub fn set(&mut self, key: &str, value: &str, origin: &str) -> Result<(), SettingsError> {
        #[cfg(not(feature = "cluster"))]
        if OF_CLUSTERS.contains(&key) {
            return Err(SettingsError(format!(
                "{origin}: {key} needs a lanrage that was built with `--features cluster`; this one has no PostgreSQL \
                 and keeps its state in a file"
            )));
        }
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
            return Err(SettingsError(format!("{origin}: there is no setting \"{key}\"{}", suggestion(key))));
        };
        (setting.set)(self, value).ok_or_else(|| {
            let is_secret = key == "admin_token" || key == "store";
            let value = if is_secret { "(not shown)".to_owned() } else { format!("\"{value}\"") };
            SettingsError(format!("{origin}: {key} = {value} can't be used: expected {}", setting.expected))
        })
    }

    /// Takes settings from the text of a TOML file called `path`.
    pub fn read_file(&mut self, text: &str, path: &str) -> Result<(), SettingsError> {
        let entries = toml::parse(text)
            .map_err(|error| SettingsError(format!("{path}, line {}: no valid TOML: {error}", error.line)))?;
        for TomlEntry { line, key, value } in entries {
            let origin = format!("{path}, line {line}");
            let value = value.ok_or_else(|| {
                SettingsError(format!("{origin}: {key} has a value of a kind that is not understood here"))
            })?;
            self.set(&key, &value, &origin)?;
        }
        Ok(())
    }

    /// Takes from `new` what can change while the daemon runs; the rest stays as it is.
    pub fn reload(&mut self, mut new: Settings) -> Reloaded {
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
    ///
    /// Returns a warning if others begin so. They need not be a mistake: of a service called "lanrage",
    /// Kubernetes makes `LANRAGE_PORT=tcp://10.0.0.1:8667`, `LANRAGE_SERVICE_HOST` and more.
    pub fn read_environment(
        &mut self,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Option<String>, SettingsError> {
        let mut foreign = Vec::new();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with("LANRAGE_")) else { continue };
            if name == CONFIG_VARIABLE {
                continue;
            }
            #[cfg(not(feature = "cluster"))]
            if name == "LANRAGE_STORE" {
                self.set("store", "", "environment variable LANRAGE_STORE")?;
            }
            let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == name) else {
                let meant = near(name).map(|setting| format!(" (did you mean {}?)", setting.variable()));
                foreign.push(format!("{name}{}", meant.unwrap_or_default()));
                continue;
            };
            let origin = format!("environment variable {name}");
            let Some(value) = value.to_str() else {
                return Err(SettingsError(format!("{origin} is not UTF-8: set it to plain text")));
            };
            let result = self.set(setting.key, value, &origin);
            // The address of some container, by a name that happens to be ours.
            if result.is_err() && ["tcp://", "udp://", "sctp://"].iter().any(|start| value.starts_with(start))
            {
                foreign.push(name.to_owned());
                continue;
            }
            result?;
        }
        foreign.sort();
        let warning =
            || format!("ignored in the environment, as no settings of lanrage: {}", foreign.join(", "));
        Ok((!foreign.is_empty()).then(warning))
    }
}

/// Names the configuration file in the environment.
pub const CONFIG_VARIABLE: &str = "LANRAGE_CONFIG";

/// The setting that may have been meant by a key or variable.
fn near(key: &str) -> Option<&'static Setting> {
    let last = |key: &str| key.rsplit(['.', '_']).next().unwrap_or_default().to_lowercase();
    SETTINGS.iter().find(|setting| {
        setting.key.eq_ignore_ascii_case(key) || setting.variable() == key || last(setting.key) == last(key)
    })
}

/// The key that may have been meant.
fn suggestion(key: &str) -> String {
    match near(key) {
        Some(setting) => format!("; did you mean \"{}\"?", setting.key),
        None => "; `lanrage serve --help` lists them".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token_bucket::Rate;
    use std::time::Duration;

    fn file(text: &str) -> Result<Settings, String> {
        let mut settings = Settings::default();
        settings.read_file(text, "lanrage.toml").map(|()| settings).map_err(|error| error.to_string())
    }

    #[test]
    fn every_setting_reads_what_it_shows_and_has_names_of_its_own() {
        let default = Settings::default();
        for setting in SETTINGS {
            let mut settings = Settings::default();
            let shown = setting.show(&default);
            settings.set(setting.key, &shown, "test").unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(setting.show(&settings), shown);
            let same =
                |other: &&Setting| other.flag() == setting.flag() || other.variable() == setting.variable();
            assert_eq!(SETTINGS.iter().filter(same).count(), 1, "{}", setting.key);
            assert!(settings.set(setting.key, "\u{1}!", "test").is_err() || setting.key.ends_with("_dir"));
        }
    }

    #[test]
    fn a_file_sets_what_it_names() {
        let settings = file(
            "http = \"127.0.0.1:0\"\nregion = \"eu\"\ntrusted_proxies = [\"127.0.0.1\", \"::1\"]\n\
             [limits]\nparties = 5_000\n[rates]\nrequests = \"10/20\"\n[timeouts]\npeer = 2.5\n",
        )
        .unwrap();
        assert_eq!(settings.http.to_string(), "127.0.0.1:0");
        assert_eq!(settings.trusted_proxies.len(), 2);
        assert_eq!(settings.control.limits.parties, 5000);
        assert_eq!(settings.rates.requests, Rate::new(10, Duration::from_secs(1), 20));
        assert_eq!(settings.control.lifetimes.peer, Duration::from_millis(2500));
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
        let mut settings = Settings::default();
        let variables = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect::<Vec<_>>()
        };
        let good = [
            ("LANRAGE_REGION", "eu"),
            ("LANRAGE_LIMITS_PEERS_PER_PARTY", "3"),
            ("HOME", "/x"),
            ("LANRAGE_CONFIG", "f"),
        ];
        assert_eq!(settings.read_environment(variables(&good).into_iter()).unwrap(), None);
        assert_eq!((settings.region.as_str(), settings.control.limits.peers_per_party), ("eu", 3));
        let error = settings.read_environment(variables(&[("LANRAGE_SUBNET", "10.66.0.1/16")]).into_iter());
        assert_eq!(
            error.unwrap_err().to_string(),
            "environment variable LANRAGE_SUBNET: subnet = \"10.66.0.1/16\" can't be used: expected an IPv4 subnet \
             of /8 to /30, such as 10.66.0.0/16"
        );
        assert!(settings.read_environment(variables(&[("LANRAGE_RELAY", "udp:1")]).into_iter()).is_err());
        let odd = [(OsString::from("LANRAGE_REGION"), OsStr::from_bytes(b"\xff").to_owned())];
        let error = settings.read_environment(odd.into_iter()).unwrap_err().to_string();
        assert_eq!(error, "environment variable LANRAGE_REGION is not UTF-8: set it to plain text");
    }

    #[cfg(not(feature = "cluster"))]
    #[test]
    fn a_database_needs_a_build_that_has_it() {
        let error = file("store = \"postgres://me:s3cret@db/lanrage\"").unwrap_err();
        assert!(error.contains("--features cluster") && !error.contains("s3cret"), "{error}");
        let variable = ("LANRAGE_STORE".into(), "postgres://me:s3cret@db/lanrage".into());
        let error = Settings::default().read_environment([variable].into_iter()).unwrap_err().to_string();
        assert!(error.contains("LANRAGE_STORE") && error.contains("--features cluster"), "{error}");
    }

    #[test]
    fn foreign_variables_are_named_and_change_nothing() {
        let before: Vec<_> = SETTINGS.iter().map(|setting| setting.show(&Settings::default())).collect();
        let mut settings = Settings::default();
        let foreign = [
            ("LANRAGE_PORT", "tcp://10.0.0.1:8667"),
            ("LANRAGE_SERVICE_HOST", "10.0.0.1"),
            ("LANRAGE_LIMITS_PARTYS_HOSTED", "s3cret"),
            ("LANRAGE_HTTP", "tcp://10.0.0.1:8667"),
            ("LANRAGE_MAX_CLIENTS", "udp://10.0.0.1:51820"),
        ];
        let foreign = foreign.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let odd = (OsString::from("LANRAGE_ODD"), OsStr::from_bytes(b"\xff").to_owned());
        let warning = settings.read_environment(foreign.chain([odd])).unwrap();
        assert_eq!(
            warning.as_deref(),
            Some(
                "ignored in the environment, as no settings of lanrage: LANRAGE_HTTP, LANRAGE_LIMITS_PARTYS_HOSTED \
                 (did you mean LANRAGE_LIMITS_PARTIES_HOSTED?), LANRAGE_MAX_CLIENTS, LANRAGE_ODD, LANRAGE_PORT, \
                 LANRAGE_SERVICE_HOST"
            )
        );
        let after: Vec<_> = SETTINGS.iter().map(|setting| setting.show(&settings)).collect();
        assert_eq!(before, after);
    }

    #[test]
    fn directories_of_the_environment() {
        let state = |pairs: &'static [(&str, &str)], is_root| {
            let value =
                |name: &str| pairs.iter().find(|(found, _)| *found == name).map(|(_, value)| value.into());
            state_dir_of(value, is_root).display().to_string()
        };
        assert_eq!(state(&[("STATE_DIRECTORY", "/a"), ("HOME", "/h")], false), "/a");
        // Several, as of StateDirectory=a b.
        assert_eq!(state(&[("STATE_DIRECTORY", "/a:/b")], false), "/a");
        assert_eq!(state(&[("STATE_DIRECTORY", ":/b")], true), "/b");
        assert_eq!(state(&[("STATE_DIRECTORY", ":"), ("HOME", "/h")], false), "/h/.lanrage");
        assert_eq!(state(&[("HOME", "/h")], false), "/h/.lanrage");
        assert_eq!(state(&[("HOME", "/h")], true), "/var/lib/lanrage");
        assert_eq!(state(&[], false), "/var/lib/lanrage");
        let runtime = |name: &str| (name == "RUNTIME_DIRECTORY").then(|| "/run/a:/run/b".into());
        assert_eq!(runtime_dir_of(runtime, false), Path::new("/run/a"));
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
        let same = |key: &str, other: &Settings| {
            let setting = SETTINGS.iter().find(|setting| setting.key == key).unwrap();
            setting.is_same(&running, other)
        };
        assert!(["state_dir"].iter().all(|key| same(key, &read("state_dir = \"/a\""))));
        assert!(["http", "subnet", "limits.parties"].iter().all(|key| same(key, &Settings::default())));
        assert!(["region", "rates.requests", "admin_token"].iter().all(|key| same(key, &read(new))));
        assert_eq!(running.clone().reload(read(new)).at_restart, reloaded.at_restart);
    }

    #[test]
    fn the_interface_has_a_name_that_kernels_take() {
        let mut settings = Settings::default();
        assert_eq!((settings.tun, settings.interface.as_str()), (false, "lanrage0"));
        for good in ["l", "lanrage0", "fifteen-letters", "a.b_c-1", "..."] {
            settings.set("interface", good, "test").unwrap();
            assert_eq!(settings.interface, good);
        }
        for bad in ["", ".", "..", "sixteen-letters0", "a/b", "a b", "a\tb", "a:1", "lan%d", "Z\u{fc}rich"] {
            assert!(settings.set("interface", bad, "test").is_err(), "{bad}");
        }
        assert!(file("tun = true").unwrap().tun && file("tun = \"yes\"").unwrap().tun);
        assert!(!file("tun = false").unwrap().tun && file("tun = 1").is_err());
        assert_eq!(
            file("tun = true\ninterface = \"x\"").unwrap().reload(Settings::default()).at_restart.len(),
            2
        );
    }
}
