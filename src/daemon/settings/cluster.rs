//! Where the state is, if not in a file, and which of several instances this one is.

use crate::store::postgres::Target;
use std::net::SocketAddr;

/// What the owner of several instances has chosen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterSettings {
    /// The database's URL; without one the state is in a file.
    pub store: Option<String>,
    /// Whose state it is, of several in one database.
    pub realm: String,
    /// This instance's name; none means the machine's.
    pub instance: Option<String>,
    /// Where other instances reach this one.
    pub url: Option<String>,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        ClusterSettings { store: None, realm: "default".to_owned(), instance: None, url: None }
    }
}

impl ClusterSettings {
    /// The database, if the state is in one, for an instance whose HTTP is at `http`. The error says what is wrong with
    /// its URL.
    pub fn target(&self, http: SocketAddr) -> Result<Option<Target>, String> {
        let Some(store) = &self.store else { return Ok(None) };
        let machine = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        let instance = self.instance.clone().unwrap_or_else(machine);
        let own = (!http.ip().is_unspecified() && http.port() != 0).then(|| format!("http://{http}"));
        let url = self.url.clone().or(own);
        Target::new(store, &self.realm, &instance, url.as_deref()).map(Some)
    }
}

/// Whether this can be the URL of a database.
pub(super) fn is_database(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

/// The URL of a database without a password.
pub(super) fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    // Whatever is in a password that should have been escaped: it ends before the last of these.
    let rest = match rest.rsplit_once('@') {
        Some((user, rest)) => format!("{}@{rest}", user.split(':').next().unwrap_or_default()),
        None => rest.to_owned(),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((&rest, ""));
    let kept: Vec<&str> =
        query.split('&').filter(|part| !part.is_empty() && !part.starts_with("password=")).collect();
    let mark = if kept.is_empty() { "" } else { "?" };
    format!("{scheme}://{rest}{mark}{}", kept.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::settings::{SETTINGS, Settings};

    #[test]
    fn no_password_is_shown() {
        for (url, shown) in [
            ("postgres://me:s3cret@db:1/b?a=b", "postgres://me@db:1/b?a=b"),
            ("postgres://me:s3/cr@et?x@db/b", "postgres://me@db/b"),
            ("postgres://db/b?a=b&password=s3cret&c=d", "postgres://db/b?a=b&c=d"),
            ("postgres://me@one:1,two:2/b", "postgres://me@one:1,two:2/b"),
            ("postgres:///b?host=/run/postgresql", "postgres:///b?host=/run/postgresql"),
        ] {
            assert_eq!(without_password(url), shown);
            let mut settings = Settings::default();
            settings.set("store", url, "test").unwrap();
            for setting in SETTINGS {
                assert!(!setting.show(&settings).contains("s3c"), "{}", setting.key);
            }
        }
        let error = Settings::default().set("store", "mysql://me:s3cret@db", "test").unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }

    #[test]
    fn a_target_is_named_by_the_machine_unless_it_has_a_name() {
        let mut settings = Settings::default();
        assert!(settings.cluster.target(settings.http).unwrap().is_none());
        settings.set("store", "postgres://db/b?sslmode=require", "test").unwrap();
        assert!(settings.cluster.target(settings.http).err().is_some_and(|error| error.contains("tunnel")));
        settings.set("store", "postgres://db/b", "test").unwrap();
        assert!(settings.cluster.target(settings.http).unwrap().is_some());
        assert!(settings.set("realm", "a realm", "test").is_err());
        assert!(settings.set("instance_url", "db:8667", "test").is_err());
    }
}
