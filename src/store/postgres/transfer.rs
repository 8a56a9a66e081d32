//! The state from a file into the database, and back. Nobody may have either open, and nothing may be there already.

use super::connection::{Link, QueryFailure};
use super::rows::{self, PAGE};
use super::target::{Target, name_of};
use super::{PATIENCE, REALM, tables};
use crate::store::backup;
use crate::store::dump::{examine_file, write_lines};
use crate::store::dump_request::Secrets;
use crate::store::open::{self, drop_quietly};
use crate::store::schema::{SCHEMA_VERSION, Table, VERSION_KEY};
use crate::store::{FileError, OpenError, Row};
use std::io::{self, BufReader, ErrorKind, Seek as _, Write as _};
use std::path::Path;

const LOCKED: &str =
    "select coalesce(owner, ''), expires > clock_timestamp() from lanrage.realm where name = $1 for update";
const HAS_ROWS: &str = "select exists (select 1 from lanrage.rows where realm = $1)";
const INSERT: &str = "insert into lanrage.rows (realm, tbl, key, value) \
                      select $1, tbl, key, value from unnest($2::text[], $3::text[], $4::text[]) put(tbl, key, value)";
/// Who follows finds no entry for it, and reads everything.
const MOVE_ON: &str = "update lanrage.realm set seq = seq + 1 where name = $1";

/// Copies the rows of the state file `path`, which is not changed, into an empty realm. Returns how many.
pub fn import(path: &Path, target: &Target) -> Result<usize, OpenError> {
    let (_locked, mut examined) = examine_file(path)?;
    let (version, rows) = (examined.version, examined.take_rows());
    drop_quietly(examined.database);
    if version != Some(SCHEMA_VERSION) {
        let why = format!(
            "its rows have not schema version {SCHEMA_VERSION}: start lanrage with it once, and stop it"
        );
        return Err(FileError::Io(io::Error::other(why)).at(path));
    }
    let version = SCHEMA_VERSION.to_string().into_bytes();
    let count = rows.len() + 1;
    let version = Row { table: Table::Meta, key: VERSION_KEY.to_owned(), value: Some(version) };
    let rows: Vec<Row> = rows.into_iter().chain([version]).collect();
    smol::block_on(fill(target, &rows))
        .map_err(|failure| failure.into_fault().at(Path::new(&target.shown())))?;
    Ok(count)
}

async fn fill(target: &Target, rows: &[Row]) -> Result<(), QueryFailure> {
    let realm = target.realm();
    let mut link = Link::open(target).await?;
    tables::prepare(&mut link).await?;
    link.run(PATIENCE, async |client| client.execute(REALM, &[&realm]).await).await?;
    link.run(PATIENCE, async |client| client.batch_execute("begin").await).await?;
    refuse_if_held(&mut link, realm).await?;
    let row = link.run(PATIENCE, async |client| client.query_one(HAS_ROWS, &[&realm]).await).await?;
    if row.try_get(0)? {
        return Err(QueryFailure::refused(format_args!(
            "realm \"{realm}\" is not empty: choose another --realm, or delete it"
        )));
    }
    for page in rows.chunks(PAGE) {
        let tables: Vec<&str> = page.iter().map(|row| row.table.name()).collect();
        let keys: Vec<&str> = page.iter().map(|row| row.key.as_str()).collect();
        let text = |row: &Row| String::from_utf8_lossy(row.value.as_deref().unwrap_or_default()).into_owned();
        let values: Vec<String> = page.iter().map(text).collect();
        let work = async |client: &tokio_postgres::Client| {
            client.execute(INSERT, &[&realm, &tables, &keys, &values]).await
        };
        link.run(rows::PATIENCE, work).await?;
    }
    let work = async |client: &tokio_postgres::Client| {
        client.execute(MOVE_ON, &[&realm]).await?;
        client.batch_execute("commit").await
    };
    link.run(PATIENCE, work).await
}

/// Nobody gets the lease until this transaction ends.
async fn refuse_if_held(link: &mut Link, realm: &str) -> Result<(), QueryFailure> {
    let row = link.run(PATIENCE, async |client| client.query_opt(LOCKED, &[&realm]).await).await?;
    let Some(row) = row else {
        return Err(QueryFailure::refused(format_args!("there is no realm \"{realm}\"")));
    };
    let (owner, held): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
    if held {
        return Err(QueryFailure::refused(format_args!(
            "realm \"{realm}\" is served by {}: stop it first",
            name_of(&owner)
        )));
    }
    Ok(())
}

/// Copies the rows of a realm, which is not changed, into a new state file. Returns how many.
pub fn export(target: &Target, path: &Path) -> Result<u64, OpenError> {
    if path.symlink_metadata().is_ok() {
        return Err(FileError::Io(ErrorKind::AlreadyExists.into()).at(path));
    }
    let shown = target.shown();
    let here = Path::new(&shown);
    let realm = target.realm();
    // Held until the end, so that nobody starts meanwhile.
    let _held = smol::block_on(async {
        let mut link = Link::open(target).await?;
        tables::prepare(&mut link).await?;
        let begin = "set idle_in_transaction_session_timeout = 0; begin";
        link.run(PATIENCE, async |client| client.batch_execute(begin).await).await?;
        refuse_if_held(&mut link, realm).await?;
        match rows::version(&mut link, realm).await? {
            Some(_) => Ok(link),
            None => Err(QueryFailure::refused(format_args!("realm \"{realm}\" is empty"))),
        }
    })
    .map_err(|failure| failure.into_fault().at(here))?;
    // Lines on the way, in a file without a name beside the new one, as they hold secrets.
    let io = |error| FileError::Io(error).at(path);
    let mut lines = unnamed(path).map_err(io)?;
    let mut out = io::BufWriter::new(&mut lines);
    let emit = |line: &[u8]| out.write_all(line).map_err(redb::Error::Io);
    write_lines(|visit| rows::each_row(target, visit), Secrets::Include, emit)
        .map_err(|error| FileError::Io(io::Error::other(error.to_string())).at(here))?;
    out.flush().map_err(io)?;
    drop(out);
    lines.rewind().map_err(io)?;
    backup::restore(&mut BufReader::new(lines), path).map_err(|error| FileError::from(error).at(path))
}

/// A new file that nobody else can open.
fn unnamed(beside: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut name = beside.file_name().unwrap_or_default().to_owned();
    name.push(format!(".lines-{}", std::process::id()));
    let path = open::directory_of(beside).join(name);
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
