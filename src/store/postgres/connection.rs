//! A connection to PostgreSQL, and what becomes of what is asked on it.

use super::stream::DatabaseStream;
use super::target::Target;
use super::timeline::Timeline;
use crate::store::FileError;
use smol::Timer;
use smol::future::FutureExt;
use smol::net::TcpStream;
use smol::net::unix::UnixStream;
use std::error::Error as _;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::task::Poll;
use std::time::Duration;
use tokio_postgres::config::Host;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{AsyncMessage, Client, Connection, Error, NoTls, Statement};

/// How long a host may take to be connected to and logged in at, unless the URL says otherwise.
const CONNECT: Duration = Duration::from_secs(2);
const DEFAULT_PORT: u16 = 5432;
const OLD_PRIMARY: &str = "an old primary answers, and the new one does not; if the old one is meant to be the primary again, \
                           restart lanrage";
/// How long other hosts may take to answer when one has.
const SOON: Duration = Duration::from_millis(300);
/// Which database it is, and the file that it writes what is new to, whose name begins with its timeline.
const TIMELINE: &str =
    "select system_identifier, pg_walfile_name(pg_current_wal_lsn()) from pg_control_system()";
/// What holds for a connection. A transaction that stands still would keep others from the lease, and what waits for a
/// lock that a lost connection still has is asked again. PostgreSQL never times out a commit, and that is right: one
/// that waits for its standby has been made already. Who turns off the waiting for the disk loses what was confirmed.
const SESSION: &str = "set statement_timeout = '5s'; set lock_timeout = '1s'; \
                       set idle_in_transaction_session_timeout = '2s'; \
                       select set_config('synchronous_commit', 'on', false) \
                       where current_setting('synchronous_commit') = 'off'";

/// Why something that was asked has no answer.
#[derive(Debug)]
pub(super) enum QueryFailure {
    /// The database says that it did not do it.
    Undone(FileError),
    /// Nobody knows whether it was done.
    Lost(String),
    /// It never will do, or not before somebody changes something.
    Refused(FileError),
}

impl QueryFailure {
    pub fn into_fault(self) -> FileError {
        match self {
            QueryFailure::Undone(fault) | QueryFailure::Refused(fault) => fault,
            QueryFailure::Lost(why) => FileError::Io(io::Error::other(why)),
        }
    }

    /// Something that this program can't use.
    pub fn refused(why: impl fmt::Display) -> Self {
        QueryFailure::Refused(FileError::Io(io::Error::other(why.to_string())))
    }
}

impl fmt::Display for QueryFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueryFailure::Undone(fault) | QueryFailure::Refused(fault) => fault.fmt(f),
            QueryFailure::Lost(why) => f.write_str(why),
        }
    }
}

impl From<Error> for QueryFailure {
    fn from(error: Error) -> Self {
        let Some(said) = error.as_db_error() else {
            let why = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
            return QueryFailure::Lost(why);
        };
        let (code, text) = (said.code(), said.message().to_owned());
        let class = code.code().get(..2).unwrap_or_default();
        // Whoever is told that the connection ends may have had a commit made before.
        if !matches!(said.parsed_severity(), None | Some(Severity::Error)) {
            return match class {
                // No such user, password, database, or no right to connect.
                "28" | "3D" | "42" => QueryFailure::refused(text),
                _ => QueryFailure::Lost(text),
            };
        }
        match *code {
            SqlState::DISK_FULL => {
                QueryFailure::Undone(FileError::Io(io::Error::new(ErrorKind::StorageFull, text)))
            }
            SqlState::INSUFFICIENT_PRIVILEGE => QueryFailure::refused(text),
            _ => QueryFailure::Undone(FileError::Io(io::Error::other(text))),
        }
    }
}

/// A connection, which moves only while something is asked on it, or listened to.
pub(super) struct Link {
    client: Client,
    connection: Connection<DatabaseStream, NoTlsStream>,
    /// What was notified of last, and was not taken yet.
    notified: Option<String>,
    /// What is asked again and again: its text, and as the database has read it.
    repeated: Option<(&'static str, Statement)>,
}

impl Link {
    /// To the host that can be written to. Where there are several it is the one that was promoted last, among those that
    /// answer soon: an old primary that came back takes changes, too, until somebody ends it.
    pub async fn open(target: &Target) -> Result<Self, QueryFailure> {
        let config = target.config();
        let ports = config.get_ports();
        let patience = config.get_connect_timeout().copied().unwrap_or(CONNECT);
        let mut attempts: Vec<_> = config
            .get_hosts()
            .iter()
            .enumerate()
            .map(|(index, host)| {
                let port = ports.get(index).or(ports.last()).copied().unwrap_or(DEFAULT_PORT);
                let late = async move {
                    Timer::after(patience).await;
                    Err(QueryFailure::Lost(format!("{} does not answer", shown(host, port))))
                };
                Some(Box::pin(Self::open_at(target, host, port).or(late)))
            })
            .collect();
        let mut best: Option<(usize, Self, Option<Timeline>)> = None;
        let (mut failures, mut is_old) = (Vec::new(), false);
        let mut soon = None;
        poll_fn(|context| {
            for (index, attempt) in attempts.iter_mut().enumerate() {
                let Some(Poll::Ready(opened)) = attempt.as_mut().map(|attempt| attempt.poll(context)) else {
                    continue;
                };
                *attempt = None;
                match opened {
                    // One that was left before does not make the others hurry.
                    Ok((_, Some(timeline))) if target.has_left(timeline) => {
                        failures.push((index, QueryFailure::Lost(OLD_PRIMARY.to_owned())));
                        is_old = true;
                    }
                    Ok((link, timeline)) => {
                        let is_better = best.as_ref().is_none_or(|(first, _, known)| {
                            was_left_for(*known, timeline)
                                || !was_left_for(timeline, *known) && index < *first
                        });
                        if is_better {
                            best = Some((index, link, timeline));
                        }
                    }
                    Err(failure) => failures.push((index, failure)),
                }
            }
            if attempts.iter().all(Option::is_none) {
                return Poll::Ready(());
            }
            if best.is_none() {
                return Poll::Pending;
            }
            soon.get_or_insert_with(|| Timer::after(SOON)).poll(context).map(|_| ())
        })
        .await;
        match best {
            Some((_, link, timeline)) if timeline.is_none_or(|timeline| target.reach(timeline)) => Ok(link),
            // Another connection has reached a later one meanwhile.
            Some(_) => Err(QueryFailure::Lost(OLD_PRIMARY.to_owned())),
            None => {
                // Said by itself, because somebody has to do something.
                if is_old && target.is_first_refusal() {
                    log::warn!("{OLD_PRIMARY}");
                }
                Err(the_failure(failures))
            }
        }
    }

    async fn open_at(
        target: &Target,
        host: &Host,
        port: u16,
    ) -> Result<(Self, Option<Timeline>), QueryFailure> {
        let lost = |error: io::Error| QueryFailure::Lost(format!("{}: {error}", shown(host, port)));
        let stream = match host {
            Host::Tcp(name) => {
                let stream = TcpStream::connect((name.as_str(), port)).await.map_err(lost)?;
                stream.set_nodelay(true).map_err(lost)?;
                DatabaseStream::Tcp(stream)
            }
            Host::Unix(directory) => {
                let path = directory.join(format!(".s.PGSQL.{port}"));
                DatabaseStream::Unix(UnixStream::connect(path).await.map_err(lost)?)
            }
        };
        let (client, connection) = target.config().connect_raw(stream, NoTls).await?;
        let mut link = Link { client, connection, notified: None, repeated: None };
        link.run(CONNECT, async |client| client.batch_execute(SESSION).await).await?;
        let is_standby = "select pg_is_in_recovery() or current_setting('transaction_read_only')::boolean";
        let row = link.run(CONNECT, async |client| client.query_one(is_standby, &[]).await).await?;
        if row.try_get(0)? {
            return Err(QueryFailure::Lost(format!("{} can only be read", shown(host, port))));
        }
        // What speaks like PostgreSQL, and is something else, has none.
        let timeline = match link.run(CONNECT, async |client| client.query_opt(TIMELINE, &[]).await).await {
            Ok(row) => row.and_then(|row| Timeline::new(row.try_get(0).ok()?, row.try_get(1).ok()?)),
            Err(QueryFailure::Undone(_) | QueryFailure::Refused(_)) => None,
            Err(failure) => return Err(failure),
        };
        Ok((link, timeline))
    }

    /// Asks something. After [`QueryFailure::Lost`] the connection is of no use any more.
    pub async fn run<T>(
        &mut self,
        patience: Duration,
        work: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, QueryFailure> {
        let Link { client, connection, notified, .. } = self;
        let work = async { work(client).await.map_err(QueryFailure::from) };
        let moving = async {
            loop {
                *notified = Some(next_notice(connection).await?);
            }
        };
        let late = async {
            Timer::after(patience).await;
            Err(QueryFailure::Lost("the database does not answer".to_owned()))
        };
        work.or(moving).or(late).await
    }

    /// A statement as the database has read it. To read it takes longer than to answer it, and one more message each way.
    pub async fn repeated(
        &mut self,
        patience: Duration,
        text: &'static str,
    ) -> Result<Statement, QueryFailure> {
        if let Some((known, statement)) = &self.repeated
            && *known == text
        {
            return Ok(statement.clone());
        }
        let statement = self.run(patience, async |client| client.prepare(text).await).await?;
        self.repeated = Some((text, statement.clone()));
        Ok(statement)
    }

    /// The payload of the next notification, or of the last one that came while something was asked.
    pub async fn notice(&mut self) -> Result<String, QueryFailure> {
        match self.notified.take() {
            Some(payload) => Ok(payload),
            None => next_notice(&mut self.connection).await,
        }
    }
}

/// The payload of the next notification.
async fn next_notice(
    connection: &mut Connection<DatabaseStream, NoTlsStream>,
) -> Result<String, QueryFailure> {
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(notification))) => {
                return Ok(notification.payload().to_owned());
            }
            Some(Ok(_)) => {}
            None => return Err(QueryFailure::Lost("the connection was closed".to_owned())),
            Some(Err(error)) => {
                return Err(match QueryFailure::from(error) {
                    QueryFailure::Undone(fault) => QueryFailure::Lost(fault.to_string()),
                    failure => failure,
                });
            }
        }
    }
}

fn was_left_for(one: Option<Timeline>, other: Option<Timeline>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one.was_left_for(other))
}

/// What is said when no host will do: of the first one in the URL, and rather of one that may be better by and by.
fn the_failure(failures: Vec<(usize, QueryFailure)>) -> QueryFailure {
    let first = failures.into_iter().min_by_key(|(index, failure)| {
        let is_final = matches!(failure, QueryFailure::Refused(_));
        (is_final, *index)
    });
    first.map_or_else(|| QueryFailure::refused("the URL names no host"), |(_, failure)| failure)
}

fn shown(host: &Host, port: u16) -> String {
    match host {
        Host::Tcp(name) => format!("{name}:{port}"),
        Host::Unix(directory) => directory.display().to_string(),
    }
}
