//! `lanrage db check`: what state a file or a backup is in, without changing it.

use super::backup::{self, RestoreError};
use super::dump::examine_file;
use super::open;
use super::schema::Table;
use super::{FileError, OpenError};
use crate::wire::json;
use redb::{Error, ReadableDatabase};
use std::io::BufRead;
use std::path::Path;

/// How many bad rows a report names.
const MAX_NAMED: usize = 100;

/// What was found in a file whose every checksum is right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The schema version; `None` in a file that was never written to.
    pub schema_version: Option<u32>,
    /// How many rows each table has.
    pub rows: Vec<(Table, u64)>,
    /// The first 100 rows whose value is not JSON.
    pub bad_rows: Vec<(Table, String)>,
    /// The length of the file in bytes.
    pub file_length: u64,
    /// The process that wrote it last did not close it. That does no harm.
    pub unclean: bool,
    /// It was closed, and yet is whole only after a repair, which the next start does.
    pub needs_repair: bool,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.bad_rows.is_empty() && !self.needs_repair
    }
}

/// Verifies the file at `path`, which no daemon may have open and which is not changed. A damaged one is
/// [`FileError::Corrupt`].
pub fn check(path: &Path) -> Result<Report, OpenError> {
    if let Some(mut lines) = backup::open(path).map_err(|error| FileError::Io(error).at(path))? {
        let length = lines.get_ref().metadata().map_or(0, |metadata| metadata.len());
        return check_backup(&mut lines, length).map_err(|error| FileError::from(error).at(path));
    }
    let (file, examined) = examine_file(path)?;
    let file_length = file.metadata().map_err(|error| FileError::Io(error).at(path))?.len();
    let mut rows: Vec<(Table, u64)> = Table::ALL.into_iter().map(|table| (table, 0)).collect();
    let mut bad_rows = Vec::new();
    open::guarded(|| {
        let snapshot = examined.database.begin_read().map_err(Error::from)?;
        open::each_row(&snapshot, |table, key, value| {
            if let Some((_, count)) = rows.iter_mut().find(|(counted, _)| *counted == table) {
                *count += 1;
            }
            if json::check(value).is_err() && bad_rows.len() < MAX_NAMED {
                bad_rows.push((table, key.to_owned()));
            }
            Ok(())
        })?;
        Ok(())
    })
    .map_err(|error| error.at(path))?;
    let report = Report {
        schema_version: examined.version,
        rows,
        bad_rows,
        file_length,
        unclean: examined.unclean,
        needs_repair: examined.repaired,
    };
    open::drop_quietly(examined.database);
    Ok(report)
}

fn check_backup(lines: &mut dyn BufRead, file_length: u64) -> Result<Report, RestoreError> {
    let mut report = Report {
        schema_version: None,
        rows: Table::ALL.into_iter().map(|table| (table, 0)).collect(),
        bad_rows: Vec::new(),
        file_length,
        unclean: false,
        needs_repair: false,
    };
    backup::read(lines, &mut |row| {
        if let Some((_, count)) = report.rows.iter_mut().find(|(counted, _)| *counted == row.table) {
            *count += 1;
        }
        report.schema_version = report.schema_version.or(row.version());
        Ok(())
    })?;
    Ok(report)
}
