//! The store in one SQLite file, with a write-ahead log that is synced with every transaction, and a lock file that
//! keeps a second collector out while readers stay possible.

mod delivered;
pub mod for_tests;
mod handle;
mod lock;
pub mod moving;
pub mod reading;
mod rows;
mod schema;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, ToSql, Transaction, params};
use source_host::cause::Cause;
use source_host::failpoint;
use source_host::limits::milliseconds;

pub use self::handle::SqliteHandle;
use self::lock::{Lock, lock, private};
use self::rows::{
    Stored, backlog, keep_figures, keep_scope, keep_throttle, keeping_feeds, kept, queue, reusable, scope_row, waiting,
};
use self::schema::prepare;
use super::budget::{Excess, StoredBytes};
use super::shards::Lease;
use super::space::FreeSpace;
use super::{
    Backlog, FeedRow, KeptRow, Partition, PollRecord, Queued, ScopeRow, StoreError, StoreErrorKind, StoreResult,
    Throttle, of_whole,
};
use crate::files;
use crate::limits;

/// An open store, locked against other collectors. A collector uses it through a [`SqliteHandle`], since each question
/// blocks the thread.
pub struct SqliteStore {
    connection: Connection,
    file: PathBuf,
    space: FreeSpace,
    _lock: Option<Lock>,
}

impl SqliteStore {
    /// Opens or makes a file, updates its schema, and checks it. A file that was moved, or is only a part of what is moved
    /// to it, is refused.
    pub fn open(file: &Path) -> StoreResult<SqliteStore> {
        let mut store = SqliteStore::open_moved(file)?;
        store.run(moving::settle)?.map_err(|fault| StoreError::of_file(&store.file, StoreErrorKind::Move(fault)))?;
        Ok(store)
    }

    /// Opens or makes a file, also one that takes part in a move.
    fn open_moved(file: &Path) -> StoreResult<SqliteStore> {
        let folder = files::folder(file);
        if !folder.is_dir() {
            let found = if folder.exists() { "is no folder" } else { "is not there" };
            let words = format!(
                "its folder {} {found}; expected in `state` a path in a folder that is there",
                folder.display()
            );
            return Err(StoreError::of_file(file, StoreErrorKind::Unopened(Cause::new(words))));
        }
        if let Some(link) = files::link(file) {
            return Err(StoreError::of_file(file, StoreErrorKind::Unopened(Cause::new(format!("found {link}")))));
        }
        // SQLite refuses a symbolic link in any part of the path.
        let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let file = &file.file_name().map_or_else(|| file.to_owned(), |name| folder.join(name));
        let lock = lock(file).map_err(|what| StoreError::of_file(file, what))?;
        private(file).map_err(|error| StoreError::of_file(file, StoreErrorKind::Other(Cause::new(error))))?;
        let flags = OpenFlags::default() | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let opened = Connection::open_with_flags(file, flags)
            .and_then(|mut connection| Ok((prepare(&mut connection)?, connection)));
        let (problem, connection) = opened.map_err(|error| StoreError::of_file(file, classify(error)))?;
        match problem {
            None => {
                let space = FreeSpace::of(file);
                Ok(SqliteStore { connection, file: file.to_owned(), space, _lock: Some(lock) })
            }
            Some(what) => Err(StoreError::of_file(file, what)),
        }
    }

    fn run<T>(&mut self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> StoreResult<T> {
        work(&mut self.connection).map_err(|error| StoreError::of_file(&self.file, classify(error)))
    }
}

fn classify(error: rusqlite::Error) -> StoreErrorKind {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreErrorKind::Full,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreErrorKind::Busy,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => StoreErrorKind::ReadOnly(Cause::new(error)),
        Some(ErrorCode::CannotOpen) => StoreErrorKind::Unopened(Cause::new(error)),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreErrorKind::Damaged(Cause::new(error)),
        _ => StoreErrorKind::Other(Cause::new(error)),
    }
}

/// Writes all data that a poll leaves, or nothing. Returns the bytes that are then kept of the feed and its tenant.
fn keep(
    transaction: &mut Transaction<'_>,
    poll: &PollRecord,
    space: &FreeSpace,
) -> rusqlite::Result<Result<StoredBytes, Excess>> {
    let low = space.look(reusable(transaction)?, poll.budgets.min_free_bytes);
    let transaction = transaction.savepoint()?;
    let before = kept(&transaction, &poll.row)?;
    let figure = of_whole(&poll.measures).map(|measure| measure.subject.as_str());
    let scope = keep_scope(&transaction, &poll.row, figure)?;
    if let Some(state) = &poll.state {
        transaction
            .prepare_cached(
                "INSERT INTO state (scope, value) VALUES (?1, ?2)
                 ON CONFLICT (scope) DO UPDATE SET value = excluded.value",
            )?
            .execute(params![scope, state])?;
    }
    failpoint::pass("commit-state-written");
    keep_figures(&transaction, scope, poll)?;
    failpoint::pass("commit-history-written");
    let after = kept(&transaction, &poll.row)?;
    if let Some(excess) = poll.budgets.passed(before, after) {
        return Ok(Err(excess));
    }
    if let Some(low) = low {
        let waiting = waiting(&transaction, poll)?;
        let events: u64 = poll.events.iter().map(|event| event.body.len() as u64).sum();
        let (before, bytes) = (before.feed + waiting, after.feed + waiting + events * poll.sinks.len() as u64);
        let most = low.share(keeping_feeds(&transaction)?);
        // A poll that keeps no more than before needs no space, and is accepted.
        if bytes > before && bytes > most {
            return Ok(Err(Excess::Share { bytes, most, low }));
        }
    }
    queue(&transaction, poll)?;
    failpoint::pass("commit-events-queued");
    if let Some(throttle) = &poll.throttle {
        keep_throttle(&transaction, throttle)?;
    }
    transaction.commit()?;
    Ok(Ok(after))
}

impl SqliteStore {
    /// Returns a random text of this store, which salts digests of secrets.
    pub fn salt(&mut self) -> StoreResult<String> {
        self.run(|connection| connection.query_row("SELECT value FROM salt", [], |row| row.get(0)))
    }

    /// Returns all feeds that were ever collected.
    pub fn feeds(&mut self) -> StoreResult<Vec<FeedRow>> {
        self.run(|connection| {
            let mut select = connection.prepare("SELECT feed, searched_with, configured_as FROM feed")?;
            let rows = select.query_map([], |row| {
                let (Stored(searched_with), Stored(configured_as)) = (row.get(1)?, row.get(2)?);
                Ok(FeedRow { feed: row.get(0)?, searched_with, configured_as })
            })?;
            rows.collect()
        })
    }

    /// Writes a feed.
    pub fn keep_feed(&mut self, row: &FeedRow) -> StoreResult<()> {
        self.run(|connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO feed (feed, searched_with, configured_as) VALUES (?1, ?2, ?3)")?
                .execute(params![row.feed, Stored(row.searched_with), Stored(row.configured_as)])
                .map(drop)
        })
    }

    /// Returns all scopes that were ever discovered.
    pub fn scopes(&mut self) -> StoreResult<Vec<ScopeRow>> {
        self.run(|connection| {
            let mut select =
                connection.prepare("SELECT feed, tenant, discovered, standing FROM scope ORDER BY number")?;
            let rows = select.query_map([], scope_row)?;
            rows.collect()
        })
    }

    /// Returns the plugin's state of a scope; `None` if the state is another tenant's.
    pub fn state(&mut self, tenant: &str, feed: &str, scope: &str) -> StoreResult<Option<Vec<u8>>> {
        self.run(|connection| {
            connection
                .prepare_cached(
                    "SELECT value FROM state JOIN scope ON scope.number = state.scope
                     WHERE feed = ?1 AND scope.scope = ?2 AND tenant = ?3",
                )?
                .query_row(params![feed, scope, tenant], |row| row.get(0))
                .optional()
        })
    }

    /// Writes all data that a poll leaves, or nothing. Returns the bytes that are then kept of the feed and its tenant.
    pub fn commit(&mut self, poll: &PollRecord) -> StoreResult<StoredBytes> {
        self.commit_all(&[poll]).remove(0)
    }

    /// Commits several polls at once; of each one, all data is written or nothing. The results are in the order of the
    /// polls.
    pub fn commit_all(&mut self, polls: &[&PollRecord]) -> Vec<StoreResult<StoredBytes>> {
        failpoint::pass("commit-begin");
        let space = self.space.clone();
        let committed = self.run(|connection| {
            let mut transaction = connection.transaction()?;
            let kept = polls.iter().map(|poll| keep(&mut transaction, poll, &space));
            let kept = kept.collect::<rusqlite::Result<Vec<_>>>()?;
            failpoint::pass("commit-end");
            transaction.commit()?;
            Ok(kept)
        });
        match committed {
            Ok(kept) => {
                failpoint::pass("commit-durable");
                let over = |excess| StoreError::of_file(&self.file, StoreErrorKind::OverBudget(excess));
                kept.into_iter().map(|kept| kept.map_err(over)).collect()
            }
            Err(error) if polls.len() <= 1 => vec![Err(error)],
            // Each poll by itself: one that does not fit on the disk, or whose data SQLite refuses, does not keep others
            // from it.
            Err(StoreError { what: StoreErrorKind::Full | StoreErrorKind::Other(_), .. }) => {
                polls.iter().map(|poll| self.commit(poll)).collect()
            }
            // No poll would be written; while another program writes, each attempt would wait for it.
            Err(error) => vec![Err(error); polls.len()],
        }
    }

    /// Returns the bytes that are kept of each feed, without the outbox.
    pub fn kept(&mut self) -> StoreResult<Vec<KeptRow>> {
        self.run(|connection| {
            let mut select = connection.prepare("SELECT tenant, feed, bytes FROM kept")?;
            let rows = select.query_map([], |row| {
                Ok(KeptRow { tenant: row.get(0)?, feed: row.get(1)?, bytes: row.get::<_, i64>(2)? as u64 })
            })?;
            rows.collect()
        })
    }

    /// Writes the standing of scopes, without a poll.
    pub fn keep_scopes(&mut self, rows: &[ScopeRow]) -> StoreResult<()> {
        self.run(|connection| {
            let transaction = connection.transaction()?;
            for row in rows {
                keep_scope(&transaction, row, None)?;
            }
            transaction.commit()
        })
    }

    /// Forgets these scopes of a feed, with their states and figures, except for scopes that are polled.
    pub fn forget_scopes(&mut self, feed: &str, scopes: &[String]) -> StoreResult<()> {
        self.run(|connection| {
            let transaction = connection.transaction()?;
            for scope in scopes {
                let number: Option<i64> = transaction
                    .prepare_cached(
                        "SELECT number FROM scope
                         WHERE feed = ?1 AND scope = ?2 AND json_extract(standing, '$.watch') <> 'polled'",
                    )?
                    .query_row(params![feed, scope], |row| row.get(0))
                    .optional()?;
                let Some(number) = number else { continue };
                for table in ["state WHERE scope", "history WHERE scope", "scope WHERE number"] {
                    transaction.prepare_cached(&format!("DELETE FROM {table} = ?1"))?.execute([number])?;
                }
            }
            transaction.commit()
        })
    }

    /// Writes a wait that did not come with a poll.
    pub fn keep_throttle(&mut self, throttle: &Throttle) -> StoreResult<()> {
        self.run(|connection| keep_throttle(connection, throttle))
    }

    /// Returns the waits that are not over. A wait of more than a day was written while the clock was wrong, and ends
    /// in a day.
    pub fn throttles(&mut self, now: u64) -> StoreResult<Vec<Throttle>> {
        let latest = now.saturating_add(milliseconds(limits::LONGEST_WAIT));
        self.run(|connection| {
            let mut select = connection.prepare("SELECT credential, origin, until FROM throttle WHERE until > ?1")?;
            let rows = select.query_map([now as i64], |row| {
                let until = row.get::<_, i64>(2)? as u64;
                let Stored(credential) = row.get(0)?;
                Ok(Throttle { credential, origin: row.get(1)?, until: until.min(latest) })
            })?;
            rows.collect()
        })
    }

    /// Returns the events that wait for each sink.
    pub fn backlog(&mut self) -> StoreResult<Vec<Backlog>> {
        self.run(|connection| backlog(connection))
    }

    /// Returns the first events of a partition, at least one if there are any, but none of the tenants `without`.
    pub fn queued(
        &mut self,
        partition: &Partition,
        without: &[String],
        events: usize,
        bytes: usize,
    ) -> StoreResult<Vec<Queued>> {
        let mut conditions = "sink = ?1".to_owned();
        let mut values: Vec<&dyn ToSql> = vec![&partition.sink];
        for (column, value) in [("tenant", &partition.tenant), ("feed", &partition.feed)] {
            if let Some(value) = value {
                values.push(value);
                conditions += &format!(" AND {column} = ?{}", values.len());
            }
        }
        // One condition for any number of tenants: SQLite limits the depth of an expression.
        let without = (!without.is_empty()).then(|| serde_json::json!(without).to_string());
        if let Some(without) = &without {
            values.push(without);
            conditions += &format!(" AND tenant NOT IN (SELECT value FROM json_each(?{}))", values.len());
        }
        let read = |row: &Row<'_>| -> rusqlite::Result<Queued> {
            Ok(Queued {
                lease: Lease::SOLE,
                number: row.get(0)?,
                tenant: row.get(1)?,
                feed: row.get(2)?,
                scope: row.get(3)?,
                uid: row.get(4)?,
                time: row.get::<_, i64>(5)? as u64,
                body: row.get(6)?,
            })
        };
        self.run(|connection| {
            let mut select = connection.prepare_cached(&format!(
                "SELECT number, tenant, feed, scope, uid, time, body FROM outbox
                 WHERE {conditions} ORDER BY number LIMIT {}",
                i64::try_from(events).unwrap_or(i64::MAX)
            ))?;
            let mut rows = select.query(values.as_slice())?;
            let (mut queued, mut size) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let event = read(row)?;
                size += event.body.len();
                if size > bytes && !queued.is_empty() {
                    break;
                }
                queued.push(event);
            }
            Ok(queued)
        })
    }

    /// Removes delivered events.
    pub fn acknowledge(&mut self, numbers: &[i64]) -> StoreResult<()> {
        self.run(|connection| {
            let transaction = connection.transaction()?;
            {
                let mut delete = transaction.prepare_cached("DELETE FROM outbox WHERE number = ?1")?;
                for number in numbers {
                    delete.execute([number])?;
                }
            }
            transaction.commit()
        })
    }

    /// Completes the file, so that it needs no log beside it. The store is not used after this call.
    pub fn close(&mut self) -> StoreResult<()> {
        self.run(|connection| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())))
    }

    /// Forgets older history and waits.
    pub fn prune(&mut self, before: u64, now: u64) -> StoreResult<()> {
        self.run(|connection| {
            // One transaction: each one waits for the disk, and there are as many statements as tenants.
            let transaction = connection.transaction()?;
            // A figure holds until the next one: that of the oldest time that is kept stays.
            transaction.execute(
                "DELETE FROM history WHERE time < ?1 AND EXISTS (
                     SELECT 1 FROM history AS newer
                     WHERE newer.scope = history.scope AND newer.subject = history.subject
                         AND newer.time > history.time AND newer.time <= ?1
                 )",
                [before as i64],
            )?;
            delivered::forget(&transaction, now)?;
            transaction.execute("DELETE FROM throttle WHERE until <= ?1", [now as i64])?;
            transaction.commit()
        })
    }

    /// Returns the check of the store's free space.
    pub fn space(&self) -> FreeSpace {
        self.space.clone()
    }
}
