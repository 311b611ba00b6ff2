//! Reads the file beside the collector that writes it: a connection of its own, which writes nothing and waits for nobody.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use super::rows::{backlog, scope_row};
use super::schema::{APPLICATION_ID, MIGRATIONS};
use super::{StoreResult, classify};
use crate::files;
use crate::limits;
use crate::store::reading::{Sample, Series, StoreReader};
use crate::store::{Backlog, Points, ScopeRow, StoreError, StoreErrorKind};

/// A store that is only read.
pub struct SqliteReader {
    connection: Connection,
    file: PathBuf,
}

impl SqliteReader {
    /// Opens the file of a store.
    pub fn open(file: &Path) -> StoreResult<SqliteReader> {
        let folder = files::folder(file);
        let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let file = file.file_name().map_or_else(|| file.to_owned(), |name| folder.join(name));
        let flags =
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let opened = Connection::open_with_flags(&file, flags).and_then(|connection| {
            connection.busy_timeout(limits::READER_PATIENCE)?;
            let told = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            Ok((told("application_id")?, told("user_version")?, connection))
        });
        let fault = |what| StoreError::of_file(&file, what);
        let (application, found, connection) = opened.map_err(|error| fault(classify(error)))?;
        let (found, known) = (found as u32, MIGRATIONS.len() as u32);
        match found.cmp(&known) {
            _ if application != i64::from(APPLICATION_ID) => Err(fault(StoreErrorKind::Foreign)),
            std::cmp::Ordering::Greater => Err(fault(StoreErrorKind::Newer { found, known })),
            std::cmp::Ordering::Less => Err(fault(StoreErrorKind::Older { found, known })),
            std::cmp::Ordering::Equal => {
                let refusal = super::moving::mark(&connection).map_err(|error| fault(classify(error)))?;
                match refusal.and_then(|mark| mark.refusal()) {
                    Some(refusal) => Err(fault(StoreErrorKind::Move(refusal))),
                    None => Ok(SqliteReader { connection, file }),
                }
            }
        }
    }

    fn run<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> StoreResult<T> {
        work(&self.connection).map_err(|error| StoreError::of_file(&self.file, classify(error)))
    }
}

impl StoreReader for SqliteReader {
    fn scopes(&self) -> StoreResult<Vec<ScopeRow>> {
        self.run(|connection| {
            let mut select =
                connection.prepare("SELECT feed, tenant, discovered, standing FROM scope ORDER BY number")?;
            let rows = select.query_map([], scope_row)?;
            rows.collect()
        })
    }

    fn backlog(&self) -> StoreResult<Vec<Backlog>> {
        self.run(backlog)
    }

    fn figure(&self, feed: &str, scope: &str, since: u64) -> StoreResult<Option<Series>> {
        self.run(|connection| {
            let Some((number, Some(subject))) = self::number(connection, feed, scope)? else { return Ok(None) };
            series(connection, number, subject, since, limits::SAMPLES_READ)
        })
    }

    fn parts(&self, feed: &str, scope: &str, since: u64) -> StoreResult<Vec<Series>> {
        self.run(|connection| {
            let Some((number, figure)) = self::number(connection, feed, scope)? else { return Ok(Vec::new()) };
            // One seek in the index for each subject: a scan would read the whole history.
            let mut next = connection.prepare_cached(
                "SELECT subject FROM history WHERE scope = ?1 AND subject > ?2 ORDER BY subject LIMIT 1",
            )?;
            let (mut parts, mut last) = (Vec::new(), String::new());
            while parts.len() < limits::PARTS_READ {
                let found = next.query_row(params![number, last], |row| row.get::<_, String>(0)).optional()?;
                let Some(subject) = found else { break };
                last.clone_from(&subject);
                if figure.as_ref() != Some(&subject) {
                    parts.extend(series(connection, number, subject, since, limits::PART_SAMPLES_READ)?);
                }
            }
            Ok(parts)
        })
    }
}

/// Returns the number of a scope, and the subject of its figure.
fn number(connection: &Connection, feed: &str, scope: &str) -> rusqlite::Result<Option<(i64, Option<String>)>> {
    let mut select = connection.prepare_cached("SELECT number, figure FROM scope WHERE feed = ?1 AND scope = ?2")?;
    select.query_row([feed, scope], |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

/// Returns the figures of a subject since a time, and the one before it; of more figures, the last `most` ones.
fn series(
    connection: &Connection,
    scope: i64,
    subject: String,
    since: u64,
    most: u32,
) -> rusqlite::Result<Option<Series>> {
    let mut select = connection.prepare_cached(
        "SELECT time, value, maximum, weight, title FROM history WHERE scope = ?1 AND subject = ?2 AND time >= coalesce(
             (SELECT max(time) FROM history WHERE scope = ?1 AND subject = ?2 AND time <= ?3), 0
         ) ORDER BY time DESC LIMIT ?4",
    )?;
    let read = |row: &Row<'_>| {
        let points = Points { value: row.get(1)?, maximum: row.get(2)?, weight: row.get(3)? };
        Ok((Sample { time: row.get::<_, i64>(0)? as u64, points }, row.get::<_, String>(4)?))
    };
    let rows = select.query_map(params![scope, subject, since as i64, most], read)?;
    let rows: Vec<(Sample, String)> = rows.collect::<Result<_, _>>()?;
    let Some((_, title)) = rows.first() else { return Ok(None) };
    let title = title.clone();
    Ok(Some(Series { subject, title, samples: rows.into_iter().rev().map(|(sample, _)| sample).collect() }))
}
