//! Which database, whose state in it, and as whom.

use super::timeline::Timeline;
use crate::crypto::{hex, random};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// What works instead of TLS.
const NO_TLS: &str = "this lanrage speaks to PostgreSQL without TLS: leave out sslmode, and use a Unix socket, a private \
                      network, or a tunnel (WireGuard, stunnel)";

/// A realm in a database, and an instance of it.
#[derive(Clone)]
pub struct Target {
    config: Config,
    realm: String,
    /// The instance's name, and a mark that no other process has.
    owner: String,
    /// Where other instances reach this one.
    url: Option<String>,
    reached: Arc<Mutex<Reached>>,
}

/// What this process was connected to, whichever copy of the target it was by.
#[derive(Default)]
struct Reached {
    last: Option<Timeline>,
    /// It was said that only databases answer that were left for that one.
    is_said: bool,
}

/// The name of the instance that is called so as an owner.
pub fn name_of(owner: &str) -> &str {
    owner.rsplit_once(' ').map_or(owner, |(name, _)| name)
}

impl Target {
    /// By the URL of the database, the realm, the instance's name, and where others reach it.
    pub fn new(store: &str, realm: &str, instance: &str, url: Option<&str>) -> Result<Self, String> {
        // The parser has no word for these.
        if ["sslmode=verify-ca", "sslmode=verify-full", "sslrootcert="].iter().any(|tls| store.contains(tls))
        {
            return Err(NO_TLS.to_owned());
        }
        let mut config: Config = store.parse().map_err(|error: tokio_postgres::Error| {
            let why =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), |why| why.to_string());
            format!("the URL of the database can't be used: {why}")
        })?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(NO_TLS.to_owned());
        }
        if config.get_hosts().is_empty() {
            let example = "postgres://lanrage@db.lan/lanrage, or postgres:///lanrage?host=/run/postgresql";
            return Err(format!("the URL of the database names no host: write it as in {example}"));
        }
        let ports = config.get_ports().len();
        if ports > 1 && ports != config.get_hosts().len() {
            return Err("the URL of the database has not as many ports as hosts".to_owned());
        }
        config.ssl_mode(SslMode::Disable).application_name(format!("lanrage {instance}"));
        let owner = format!("{instance} {}", hex::encode(&random::bytes::<8>()));
        let (realm, url) = (realm.to_owned(), url.map(str::to_owned));
        Ok(Target { config, realm, owner, url, reached: Arc::default() })
    }

    fn known(&self) -> MutexGuard<'_, Reached> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a database was left for one that was reached before.
    pub(super) fn has_left(&self, timeline: Timeline) -> bool {
        self.known().last.is_some_and(|last| timeline.was_left_for(last))
    }

    /// A database was reached that can be written to. Whether it may be: [it was not left](Target::has_left).
    pub(super) fn reach(&self, timeline: Timeline) -> bool {
        let has_left = self.has_left(timeline);
        if !has_left {
            *self.known() = Reached { last: Some(timeline), is_said: false };
        }
        !has_left
    }

    /// Only databases answer that were left. Whether that was not said yet.
    pub(super) fn is_first_refusal(&self) -> bool {
        !std::mem::replace(&mut self.known().is_said, true)
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// The realm.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// This process among the instances: its name, and a mark that no other process has.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    pub(super) fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// The database for people: no secret is in it.
    pub fn shown(&self) -> String {
        let config = &self.config;
        let mut out = String::from("postgres://");
        if let Some(user) = config.get_user() {
            let _ = write!(out, "{user}@");
        }
        for (index, host) in config.get_hosts().iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let _ = match host {
                Host::Tcp(name) => write!(out, "{comma}{name}"),
                Host::Unix(path) => write!(out, "{comma}{}", path.display()),
            };
            let ports = config.get_ports();
            if let Some(port) = ports.get(index).or(ports.last()) {
                let _ = write!(out, ":{port}");
            }
        }
        let _ = write!(out, "/{}", config.get_dbname().unwrap_or_default());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(store: &str) -> String {
        Target::new(store, "default", "a", None).err().unwrap_or_else(|| panic!("{store} was taken"))
    }

    #[test]
    fn tls_is_refused_with_what_works() {
        for mode in ["require", "verify-ca", "verify-full"] {
            let said = refused(&format!("postgres://a@db/b?sslmode={mode}"));
            assert!(said.contains("Unix socket") && said.contains("tunnel"), "{said}");
        }
        for mode in ["disable", "prefer"] {
            assert!(Target::new(&format!("postgres://a@db/b?sslmode={mode}"), "d", "a", None).is_ok());
        }
    }

    #[test]
    fn what_is_shown_has_no_secret() {
        let url = "postgres://me:s3cret@one:1,two:2/b?target_session_attrs=read-write&password=s3cret";
        let target = Target::new(url, "d", "a", None).unwrap();
        assert_eq!(target.shown(), "postgres://me@one:1,two:2/b");
        let target = Target::new("postgres:///b?host=/run/postgresql&user=me", "d", "a", None).unwrap();
        assert_eq!(target.shown(), "postgres://me@/run/postgresql/b");
        for bad in ["postgres://me:s3cret@h:x/b", "postgres://me:s3cret@h/b?s3cret=1", "postgres:///b"] {
            assert!(!refused(bad).contains("s3cret@"), "{}", refused(bad));
        }
    }

    #[test]
    fn no_two_processes_are_the_same_owner() {
        let target = || Target::new("postgres://h/b", "d", "a", None).unwrap();
        assert_ne!(target().owner(), target().owner());
    }
}
