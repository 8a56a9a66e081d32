//! What is in the file: tables, the version of their contents, and the steps from one version to the next.

use redb::{Error, ReadTransaction, TableDefinition, TableHandle, WriteTransaction};

/// The version of the rows' meaning that this program reads and writes.
pub const SCHEMA_VERSION: u32 = 2;

/// Keys in [`Table::Meta`] whose values never leave the machine in a dump made for people.
pub const SECRET_KEYS: [&str; 1] = ["hub_private_key"];

/// The row of [`Table::Meta`] that holds the version; the store's own, never handed out or taken in.
pub(super) const VERSION_KEY: &str = "schema_version";

/// The tables. Keys are text, values are JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Table {
    /// Single values: the hub's key, high-water marks.
    Meta,
    /// Parties by id.
    Parties,
    /// Members by party and peer.
    Members,
    /// Tokens by their hash.
    Tokens,
    /// Relays by id.
    Relays,
    /// Virtual addresses by public key.
    Addresses,
}

impl Table {
    /// Every table, in the order in which they are loaded and dumped.
    pub const ALL: [Table; 6] =
        [Table::Meta, Table::Parties, Table::Members, Table::Tokens, Table::Relays, Table::Addresses];

    /// The table's name in the file and in dumps.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Parties => "parties",
            Table::Members => "members",
            Table::Tokens => "tokens",
            Table::Relays => "relays",
            Table::Addresses => "addresses",
        }
    }

    /// The table called `name`.
    pub fn from_name(name: &str) -> Option<Table> {
        Table::ALL.into_iter().find(|table| table.name() == name)
    }

    pub(super) const fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

/// Whether this row holds a secret: see [`SECRET_KEYS`].
pub fn is_secret(table: Table, key: &str) -> bool {
    table == Table::Meta && SECRET_KEYS.contains(&key)
}

/// Whether this row holds the version: see [`VERSION_KEY`].
pub(super) fn is_version(table: Table, key: &str) -> bool {
    table == Table::Meta && key == VERSION_KEY
}

/// Rewrites rows of one version as rows of the next.
pub(super) type Migration = fn(&WriteTransaction) -> Result<(), Error>;

/// A version and the way to it.
pub(super) struct Schema {
    /// The version to end at.
    pub version: u32,
    /// `migrations[n - 1]` goes from version `n` to `n + 1`.
    pub migrations: &'static [Migration],
}

/// What this program runs.
pub(super) const CURRENT: Schema = Schema { version: SCHEMA_VERSION, migrations: &[KEEP_ROWS] };

/// From 1 to 2: parties say who may come in, and members whether they are devices. What old rows do not say is what
/// was meant then; but a program that knows version 1 alone would let everybody into every party.
pub(super) const KEEP_ROWS: Migration = |_| Ok(());

const _: () = assert!(CURRENT.migrations.len() + 1 == CURRENT.version as usize);

/// The version found in a file; `None` in one that was never written to.
pub(super) fn stored_version(transaction: &ReadTransaction) -> Result<Option<u32>, Error> {
    let tables: Vec<String> = transaction.list_tables()?.map(|table| table.name().to_owned()).collect();
    if tables.is_empty() && transaction.list_multimap_tables()?.next().is_none() {
        return Ok(None);
    }
    if !tables.iter().any(|name| name == Table::Meta.name()) {
        return Err(Error::Corrupted("this is a database of another program".into()));
    }
    let meta = transaction.open_table(Table::Meta.definition())?;
    let stored = meta.get(VERSION_KEY)?;
    let version = stored.as_ref().and_then(|value| parse_version(value.value()));
    version.map(Some).ok_or_else(|| Error::Corrupted("the schema version is missing or unreadable".into()))
}

/// Brings the rows from version `found` (`None`: a new file) to `schema.version`, within `transaction`.
pub(super) fn migrate(
    transaction: &WriteTransaction,
    found: Option<u32>,
    schema: &Schema,
) -> Result<(), Error> {
    // Opening a table for writing creates it.
    for table in Table::ALL {
        transaction.open_table(table.definition())?;
    }
    let first = found.unwrap_or(schema.version);
    for migration in schema.migrations.iter().skip(first.saturating_sub(1) as usize) {
        migration(transaction)?;
    }
    let mut meta = transaction.open_table(Table::Meta.definition())?;
    meta.insert(VERSION_KEY, schema.version.to_string().as_bytes())?;
    Ok(())
}

/// A version as it is stored: a JSON number from 1.
pub(super) fn parse_version(value: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(value).ok()?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    is_plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_lead_back() {
        for table in Table::ALL {
            assert_eq!(Table::from_name(table.name()), Some(table));
        }
        assert_eq!(Table::from_name("Meta"), None);
    }

    #[test]
    fn versions_are_plain_numbers_from_one() {
        assert_eq!(parse_version(b"1"), Some(1));
        assert_eq!(parse_version(b"4294967295"), Some(u32::MAX));
        for bad in [&b""[..], b"0", b"01", b"+1", b"-1", b"1.0", b"\"1\"", b"4294967296", b"\xff"] {
            assert_eq!(parse_version(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_the_named_meta_rows_are_secret() {
        assert!(is_secret(Table::Meta, "hub_private_key"));
        assert!(!is_secret(Table::Meta, "tai64n"));
        assert!(!is_secret(Table::Tokens, "hub_private_key"));
    }
}
