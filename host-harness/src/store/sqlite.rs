//! The store in one SQLite file: a write-ahead log that is synced with every transaction, and a lock file that keeps a
//! second collector out while readers stay welcome.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction, named_params, params};
use source_host::contract::{Measure, Scope};
use source_host::digest::ShortDigest;
use source_host::failpoint;
use source_host::limits::milliseconds;

use super::budget::StoredBytes;
use super::{
    Backlog, FeedRow, KeptRow, Partition, PollRecord, Queued, ScopeRow, Standing, Store, StoreError, StoreErrorKind,
    StoreResult, Throttle,
};
use crate::files;
use crate::limits;

/// Marks a file as ours: "HHSC".
const APPLICATION_ID: i32 = 0x4848_5343;

/// Each step of the schema, in order; a file is at the step that its `user_version` says. A step is never edited once
/// it was released.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE salt (value TEXT NOT NULL);
    INSERT INTO salt VALUES (lower(hex(randomblob(16))));
    CREATE TABLE feed (
        feed TEXT PRIMARY KEY,
        searched_with TEXT NOT NULL,
        configured_as TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE scope (
        number INTEGER PRIMARY KEY,
        feed TEXT NOT NULL,
        scope TEXT NOT NULL,
        tenant TEXT NOT NULL,
        discovered TEXT NOT NULL,
        standing TEXT NOT NULL,
        UNIQUE (feed, scope)
    );
    CREATE TABLE state (scope INTEGER PRIMARY KEY REFERENCES scope (number), value BLOB NOT NULL);
    CREATE TABLE history (
        scope INTEGER NOT NULL REFERENCES scope (number),
        subject TEXT NOT NULL,
        time INTEGER NOT NULL,
        kind TEXT NOT NULL,
        title TEXT NOT NULL,
        value REAL NOT NULL,
        maximum REAL NOT NULL,
        weight REAL NOT NULL,
        PRIMARY KEY (scope, subject, time)
    ) WITHOUT ROWID;
    CREATE INDEX history_time ON history (time);
    CREATE TABLE outbox (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        sink TEXT NOT NULL,
        tenant TEXT NOT NULL,
        feed TEXT NOT NULL,
        scope TEXT NOT NULL,
        uid TEXT NOT NULL,
        time INTEGER NOT NULL,
        body BLOB NOT NULL
    );
    CREATE INDEX outbox_sink ON outbox (sink, number);
    CREATE INDEX outbox_tenant ON outbox (sink, tenant, number);
    CREATE INDEX outbox_feed ON outbox (sink, feed, number);
    CREATE TABLE throttle (
        credential TEXT NOT NULL,
        origin TEXT NOT NULL,
        until INTEGER NOT NULL,
        PRIMARY KEY (credential, origin)
    ) WITHOUT ROWID;
",
    // Whatever writes, the sum of a feed follows in the same transaction. 64 bytes are the numbers and the keys of a row.
    "
    CREATE TABLE kept (
        tenant TEXT NOT NULL,
        feed TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (tenant, feed)
    ) WITHOUT ROWID;
    INSERT INTO kept SELECT tenant, feed, sum(
        64 + length(CAST(discovered AS BLOB)) + length(CAST(standing AS BLOB))
        + coalesce((SELECT 64 + length(value) FROM state WHERE state.scope = number), 0)
        + coalesce((
            SELECT sum(64 + length(CAST(subject AS BLOB)) + length(CAST(kind AS BLOB)) + length(CAST(title AS BLOB)))
            FROM history WHERE history.scope = number
        ), 0)
    ) FROM scope GROUP BY tenant, feed;
    CREATE TRIGGER scope_added AFTER INSERT ON scope BEGIN
        INSERT INTO kept VALUES (
            new.tenant, new.feed,
            64 + length(CAST(new.discovered AS BLOB)) + length(CAST(new.standing AS BLOB))
        ) ON CONFLICT (tenant, feed) DO UPDATE SET bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER scope_removed AFTER DELETE ON scope BEGIN
        UPDATE kept SET bytes = bytes - (
            64 + length(CAST(old.discovered AS BLOB)) + length(CAST(old.standing AS BLOB))
        ) WHERE tenant = old.tenant AND feed = old.feed;
    END;
    CREATE TRIGGER scope_changed AFTER UPDATE ON scope BEGIN
        UPDATE kept SET bytes = bytes - (
            64 + length(CAST(old.discovered AS BLOB)) + length(CAST(old.standing AS BLOB))
        ) WHERE tenant = old.tenant AND feed = old.feed;
        INSERT INTO kept VALUES (
            new.tenant, new.feed,
            64 + length(CAST(new.discovered AS BLOB)) + length(CAST(new.standing AS BLOB))
        ) ON CONFLICT (tenant, feed) DO UPDATE SET bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER state_added AFTER INSERT ON state BEGIN
        UPDATE kept SET bytes = bytes + 64 + length(new.value)
        WHERE (tenant, feed) = (SELECT tenant, feed FROM scope WHERE number = new.scope);
    END;
    CREATE TRIGGER state_removed AFTER DELETE ON state BEGIN
        UPDATE kept SET bytes = bytes - 64 - length(old.value)
        WHERE (tenant, feed) = (SELECT tenant, feed FROM scope WHERE number = old.scope);
    END;
    CREATE TRIGGER state_changed AFTER UPDATE ON state BEGIN
        UPDATE kept SET bytes = bytes + length(new.value) - length(old.value)
        WHERE (tenant, feed) = (SELECT tenant, feed FROM scope WHERE number = new.scope);
    END;
    CREATE TRIGGER figure_added AFTER INSERT ON history BEGIN
        UPDATE kept SET bytes = bytes + 64 + length(CAST(new.subject AS BLOB)) + length(CAST(new.kind AS BLOB))
            + length(CAST(new.title AS BLOB))
        WHERE (tenant, feed) = (SELECT tenant, feed FROM scope WHERE number = new.scope);
    END;
    CREATE TRIGGER figure_removed AFTER DELETE ON history BEGIN
        UPDATE kept SET bytes = bytes - 64 - length(CAST(old.subject AS BLOB)) - length(CAST(old.kind AS BLOB))
            - length(CAST(old.title AS BLOB))
        WHERE (tenant, feed) = (SELECT tenant, feed FROM scope WHERE number = old.scope);
    END;
    CREATE TRIGGER figure_changed AFTER UPDATE ON history BEGIN
        UPDATE kept SET bytes = bytes + length(CAST(new.kind AS BLOB)) + length(CAST(new.title AS BLOB))
            - length(CAST(old.kind AS BLOB)) - length(CAST(old.title AS BLOB))
        WHERE (tenant, feed) = (SELECT tenant, feed FROM scope WHERE number = new.scope);
    END;
",
];

/// A store that is open, and locked for others.
pub struct SqliteStore {
    connection: Connection,
    file: PathBuf,
    _lock: Option<Lock>,
}

impl SqliteStore {
    /// Opens a file or makes a new one, brings its schema up to date, and checks it.
    pub fn open(file: &Path) -> StoreResult<SqliteStore> {
        let folder = files::folder(file);
        if !folder.is_dir() {
            let found = if folder.exists() { "is no folder" } else { "is not there" };
            let words = format!(
                "its folder {} {found}; expected in `state` a path in a folder that is there",
                folder.display()
            );
            return Err(StoreError { file: file.to_owned(), what: StoreErrorKind::Unopened(words) });
        }
        if let Some(link) = files::link(file) {
            return Err(StoreError { file: file.to_owned(), what: StoreErrorKind::Unopened(format!("found {link}")) });
        }
        // SQLite looks at each part of the path.
        let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let file = &file.file_name().map_or_else(|| file.to_owned(), |name| folder.join(name));
        let lock = lock(file).map_err(|what| StoreError { file: file.to_owned(), what })?;
        private(file)
            .map_err(|error| StoreError { file: file.to_owned(), what: StoreErrorKind::Other(error.to_string()) })?;
        let flags = OpenFlags::default() | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let opened = Connection::open_with_flags(file, flags)
            .and_then(|mut connection| Ok((prepare(&mut connection)?, connection)));
        let (problem, connection) =
            opened.map_err(|error| StoreError { file: file.to_owned(), what: classify(&error) })?;
        match problem {
            None => Ok(SqliteStore { connection, file: file.to_owned(), _lock: Some(lock) }),
            Some(what) => Err(StoreError { file: file.to_owned(), what }),
        }
    }

    /// A store that ends with the process.
    pub fn in_memory() -> StoreResult<SqliteStore> {
        let file = PathBuf::from("memory");
        let opened = Connection::open_in_memory().and_then(|mut connection| {
            prepare(&mut connection)?;
            Ok(connection)
        });
        let connection = opened.map_err(|error| StoreError { file: file.clone(), what: classify(&error) })?;
        Ok(SqliteStore { connection, file, _lock: None })
    }

    fn run<T>(&mut self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> StoreResult<T> {
        work(&mut self.connection).map_err(|error| StoreError { file: self.file.clone(), what: classify(&error) })
    }
}

/// The lock file beside the database, locked.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that is just being started has a copy of the handle until it
        // runs its program, and would hold the lock until then.
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "the lock of the state ends with the process");
        }
    }
}

/// Takes the lock file beside the database.
fn lock(file: &Path) -> Result<Lock, StoreErrorKind> {
    let mut path = file.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let failed = |error: std::io::Error| StoreErrorKind::Unopened(format!("{}: {error}", path.display()));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut lock = files::open(&mut options, &path, files::OF_OWNER).map_err(failed)?;
    if !holds_a_lock(&mut lock).map_err(failed)? {
        let found = "found a file that holds something else, expected a lock with the number of a process";
        return Err(StoreErrorKind::Unopened(format!("{}: {found}", path.display())));
    }
    // Whoever may open the file may hold the lock.
    if lock.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
        lock.set_permissions(fs::Permissions::from_mode(files::OF_OWNER)).map_err(failed)?;
    }
    match lock.try_lock() {
        Ok(()) => {
            let written =
                lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| write!(lock, "{}", std::process::id()));
            // The number helps a person; the lock holds without it.
            if let Err(error) = written {
                tracing::debug!(%error, "the lock file does not tell the process");
            }
            Ok(Lock(lock))
        }
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            let told = lock.read_to_string(&mut process).is_ok() && !process.is_empty();
            Err(StoreErrorKind::Locked(if told { format!(" (process {process})") } else { String::new() }))
        }
        Err(TryLockError::Error(error)) => {
            Err(StoreErrorKind::Other(format!("cannot lock {}: {error}", path.display())))
        }
    }
}

/// Whether a file is a lock or empty: the number of a process is written into no file of somebody else.
fn holds_a_lock(file: &mut File) -> std::io::Result<bool> {
    let mut found = Vec::new();
    file.take(u64::from(u8::MAX)).read_to_end(&mut found)?;
    file.rewind()?;
    Ok(found.len() <= 10 && found.iter().all(u8::is_ascii_digit))
}

/// A new file is for its owner alone: events and states are the tenants' data.
fn private(file: &Path) -> std::io::Result<()> {
    if fs::symlink_metadata(file).is_ok() {
        return Ok(());
    }
    files::open(OpenOptions::new().write(true).create_new(true), file, files::OF_OWNER)?.sync_all()?;
    File::open(files::folder(file))?.sync_all()
}

/// Sets a connection up; gives what makes the file unusable.
fn prepare(connection: &mut Connection) -> rusqlite::Result<Option<StoreErrorKind>> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: u32 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables > 0 && application != APPLICATION_ID {
        return Ok(Some(StoreErrorKind::Foreign));
    }
    let known = MIGRATIONS.len() as u32;
    if found > known {
        return Ok(Some(StoreErrorKind::Newer { found, known }));
    }
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Ok(Some(StoreErrorKind::Damaged(verdict)));
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // A negative number is one of KiB.
    connection.pragma_update(None, "cache_size", -limits::STORE_CACHE_KIB)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    for (version, migration) in (found + 1..=known).zip(MIGRATIONS.iter().skip(found as usize)) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(None)
}

fn classify(error: &rusqlite::Error) -> StoreErrorKind {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreErrorKind::Full,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreErrorKind::Busy,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => StoreErrorKind::ReadOnly(error.to_string()),
        Some(ErrorCode::CannotOpen) => StoreErrorKind::Unopened(error.to_string()),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreErrorKind::Damaged(error.to_string()),
        _ => StoreErrorKind::Other(error.to_string()),
    }
}

fn unreadable(column: usize, error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

/// A mark as a column holds it.
struct Stored(ShortDigest);

impl ToSql for Stored {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.to_string().into())
    }
}

impl FromSql for Stored {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Stored> {
        value.as_str()?.parse().map(Stored).map_err(FromSqlError::other)
    }
}

fn scope_row(row: &Row<'_>) -> rusqlite::Result<ScopeRow> {
    let discovered: String = row.get(2)?;
    let standing: String = row.get(3)?;
    Ok(ScopeRow {
        feed: row.get(0)?,
        tenant: row.get(1)?,
        scope: serde_json::from_str::<Scope>(&discovered).map_err(|error| unreadable(2, error))?,
        standing: serde_json::from_str::<Standing>(&standing).map_err(|error| unreadable(3, error))?,
    })
}

/// Writes a scope and gives its number. Of one that belonged to another tenant, nothing of that one's data stays.
fn keep_scope(transaction: &Transaction<'_>, row: &ScopeRow) -> rusqlite::Result<i64> {
    let of_another: Option<i64> = transaction
        .prepare_cached("SELECT number FROM scope WHERE feed = ?1 AND scope = ?2 AND tenant <> ?3")?
        .query_row(params![row.feed, row.scope.id, row.tenant], |row| row.get(0))
        .optional()?;
    if let Some(number) = of_another {
        transaction.execute("DELETE FROM state WHERE scope = ?1", [number])?;
        transaction.execute("DELETE FROM history WHERE scope = ?1", [number])?;
    }
    let text = |value: Result<String, serde_json::Error>| {
        value.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
    };
    transaction
        .prepare_cached(
            "INSERT INTO scope (feed, scope, tenant, discovered, standing)
             VALUES (:feed, :scope, :tenant, :discovered, :standing)
             ON CONFLICT (feed, scope) DO UPDATE SET
                 tenant = excluded.tenant, discovered = excluded.discovered, standing = excluded.standing
             RETURNING number",
        )?
        .query_row(
            named_params! {
                ":feed": row.feed,
                ":scope": row.scope.id,
                ":tenant": row.tenant,
                ":discovered": text(serde_json::to_string(&row.scope))?,
                ":standing": text(serde_json::to_string(&row.standing))?,
            },
            |row| row.get(0),
        )
}

/// Writes the figures that differ from the last ones. What is no number, which a plugin may give, has no place among
/// them and does not hold the poll up.
fn keep_figures(transaction: &Transaction<'_>, scope: i64, poll: &PollRecord) -> rusqlite::Result<()> {
    let mut last = transaction.prepare_cached(
        "SELECT value = :value AND maximum = :maximum AND weight = :weight FROM history
         WHERE scope = :scope AND subject = :subject ORDER BY time DESC LIMIT 1",
    )?;
    let mut insert = transaction.prepare_cached(
        // `OR REPLACE` would take a row away without its trigger.
        "INSERT INTO history (scope, subject, time, kind, title, value, maximum, weight)
         VALUES (:scope, :subject, :time, :kind, :title, :value, :maximum, :weight)
         ON CONFLICT (scope, subject, time) DO UPDATE SET
             kind = excluded.kind, title = excluded.title, value = excluded.value,
             maximum = excluded.maximum, weight = excluded.weight",
    )?;
    let is_number =
        |measure: &&Measure| [measure.value, measure.maximum, measure.weight].iter().all(|one| one.is_finite());
    for measure in poll.measures.iter().filter(is_number) {
        let same = last
            .query_row(
                named_params! {
                    ":scope": scope, ":subject": measure.subject, ":value": measure.value,
                    ":maximum": measure.maximum, ":weight": measure.weight,
                },
                |row| row.get::<_, bool>(0),
            )
            .optional()?;
        if same != Some(true) {
            insert.execute(named_params! {
                ":scope": scope, ":subject": measure.subject, ":time": poll.time as i64, ":kind": measure.kind,
                ":title": measure.title, ":value": measure.value, ":maximum": measure.maximum,
                ":weight": measure.weight,
            })?;
        }
    }
    Ok(())
}

fn queue(transaction: &Transaction<'_>, poll: &PollRecord) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO outbox (sink, tenant, feed, scope, uid, time, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let row = &poll.row;
    for event in &poll.events {
        for sink in &poll.sinks {
            insert.execute(params![
                sink,
                row.tenant,
                row.feed,
                row.scope.id,
                event.uid,
                event.time as i64,
                event.body
            ])?;
        }
    }
    Ok(())
}

/// What is kept of a scope's feed, and of all feeds of its tenant.
fn kept(transaction: &Transaction<'_>, row: &ScopeRow) -> rusqlite::Result<StoredBytes> {
    let bytes = |row: &Row<'_>, column: usize| row.get::<_, i64>(column).map(|bytes| bytes as u64);
    transaction
        .prepare_cached(
            "SELECT coalesce(sum(bytes) FILTER (WHERE feed = ?2), 0), coalesce(sum(bytes), 0) FROM kept WHERE tenant = ?1",
        )?
        .query_row(params![row.tenant, row.feed], |row| Ok(StoredBytes { feed: bytes(row, 0)?, tenant: bytes(row, 1)? }))
}

fn keep_throttle(connection: &Connection, throttle: &Throttle) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO throttle (credential, origin, until) VALUES (?1, ?2, ?3)
             ON CONFLICT (credential, origin) DO UPDATE SET until = max(until, excluded.until)",
        )?
        .execute(params![Stored(throttle.credential), throttle.origin, throttle.until as i64])
        .map(drop)
}

impl Store for SqliteStore {
    fn salt(&mut self) -> StoreResult<String> {
        self.run(|connection| connection.query_row("SELECT value FROM salt", [], |row| row.get(0)))
    }

    fn feeds(&mut self) -> StoreResult<Vec<FeedRow>> {
        self.run(|connection| {
            let mut select = connection.prepare("SELECT feed, searched_with, configured_as FROM feed")?;
            let rows = select.query_map([], |row| {
                let (Stored(searched_with), Stored(configured_as)) = (row.get(1)?, row.get(2)?);
                Ok(FeedRow { feed: row.get(0)?, searched_with, configured_as })
            })?;
            rows.collect()
        })
    }

    fn keep_feed(&mut self, row: &FeedRow) -> StoreResult<()> {
        self.run(|connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO feed (feed, searched_with, configured_as) VALUES (?1, ?2, ?3)")?
                .execute(params![row.feed, Stored(row.searched_with), Stored(row.configured_as)])
                .map(drop)
        })
    }

    fn scopes(&mut self) -> StoreResult<Vec<ScopeRow>> {
        self.run(|connection| {
            let mut select =
                connection.prepare("SELECT feed, tenant, discovered, standing FROM scope ORDER BY number")?;
            let rows = select.query_map([], scope_row)?;
            rows.collect()
        })
    }

    fn state(&mut self, tenant: &str, feed: &str, scope: &str) -> StoreResult<Option<Vec<u8>>> {
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

    fn commit(&mut self, poll: &PollRecord) -> StoreResult<StoredBytes> {
        failpoint::pass("commit-begin");
        let committed = self.run(|connection| {
            let transaction = connection.transaction()?;
            let before = kept(&transaction, &poll.row)?;
            let scope = keep_scope(&transaction, &poll.row)?;
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
            queue(&transaction, poll)?;
            failpoint::pass("commit-events-queued");
            if let Some(throttle) = &poll.throttle {
                keep_throttle(&transaction, throttle)?;
            }
            failpoint::pass("commit-end");
            transaction.commit()?;
            Ok(Ok(after))
        })?;
        failpoint::pass("commit-durable");
        committed.map_err(|excess| StoreError { file: self.file.clone(), what: StoreErrorKind::OverBudget(excess) })
    }

    fn kept(&mut self) -> StoreResult<Vec<KeptRow>> {
        self.run(|connection| {
            let mut select = connection.prepare("SELECT tenant, feed, bytes FROM kept")?;
            let rows = select.query_map([], |row| {
                Ok(KeptRow { tenant: row.get(0)?, feed: row.get(1)?, bytes: row.get::<_, i64>(2)? as u64 })
            })?;
            rows.collect()
        })
    }

    fn keep_scopes(&mut self, rows: &[ScopeRow]) -> StoreResult<()> {
        self.run(|connection| {
            let transaction = connection.transaction()?;
            for row in rows {
                keep_scope(&transaction, row)?;
            }
            transaction.commit()
        })
    }

    fn forget_scopes(&mut self, feed: &str, scopes: &[String]) -> StoreResult<()> {
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

    fn keep_throttle(&mut self, throttle: &Throttle) -> StoreResult<()> {
        self.run(|connection| keep_throttle(connection, throttle))
    }

    fn throttles(&mut self, now: u64) -> StoreResult<Vec<Throttle>> {
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

    fn backlog(&mut self) -> StoreResult<Vec<Backlog>> {
        self.run(|connection| {
            let mut select = connection.prepare(
                "SELECT sink, tenant, feed, count(*), sum(length(body)) FROM outbox GROUP BY sink, tenant, feed",
            )?;
            let rows = select.query_map([], |row| {
                Ok(Backlog {
                    sink: row.get(0)?,
                    tenant: row.get(1)?,
                    feed: row.get(2)?,
                    events: row.get::<_, i64>(3)? as u64,
                    bytes: row.get::<_, i64>(4)? as u64,
                })
            })?;
            rows.collect()
        })
    }

    fn queued(&mut self, partition: &Partition, events: usize, bytes: usize) -> StoreResult<Vec<Queued>> {
        let mut conditions = "sink = ?1".to_owned();
        let mut values: Vec<&dyn ToSql> = vec![&partition.sink];
        for (column, value) in [("tenant", &partition.tenant), ("feed", &partition.feed)] {
            if let Some(value) = value {
                values.push(value);
                conditions += &format!(" AND {column} = ?{}", values.len());
            }
        }
        let read = |row: &Row<'_>| -> rusqlite::Result<Queued> {
            Ok(Queued {
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

    fn acknowledge(&mut self, numbers: &[i64]) -> StoreResult<()> {
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

    fn close(&mut self) -> StoreResult<()> {
        self.run(|connection| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())))
    }

    fn prune(&mut self, before: u64, now: u64) -> StoreResult<()> {
        self.run(|connection| {
            // The last figure of a subject stays: the next one is compared with it.
            connection.execute(
                "DELETE FROM history WHERE time < ?1 AND EXISTS (
                     SELECT 1 FROM history AS newer
                     WHERE newer.scope = history.scope AND newer.subject = history.subject AND newer.time > history.time
                 )",
                [before as i64],
            )?;
            connection.execute("DELETE FROM throttle WHERE until <= ?1", [now as i64]).map(drop)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::budget::Budgets;
    use crate::store::{NewEvent, Polling};

    fn record(scope: &str, state: &str, events: usize) -> PollRecord {
        let text = |text: &str| text.to_owned();
        let event = |number| NewEvent { uid: format!("{scope}-{number}"), time: 1, body: vec![b'x'; 10_000] };
        let measure = Measure {
            kind: text("kind"),
            subject: text("subject"),
            title: text("title"),
            value: events as f64,
            maximum: 1.0,
            weight: 1.0,
        };
        let (credential, origin) = (ShortDigest::of(state), text("https://service.example"));
        PollRecord {
            row: ScopeRow {
                feed: text("prod"),
                tenant: text("contoso"),
                scope: Scope { id: text(scope), name: None, owner: None, plugin_data: String::new() },
                standing: Standing { due: events as u64, ..Standing::default() },
            },
            state: Some(state.as_bytes().to_vec()),
            time: events as u64,
            measures: vec![measure],
            events: (0..events).map(event).collect(),
            sinks: vec![text("lake")],
            throttle: Some(Throttle { credential, origin, until: 9 }),
            budgets: Budgets::default(),
        }
    }

    /// Everything that a commit writes, as text.
    fn content(store: &mut SqliteStore) -> String {
        let figures = store.run(|connection| {
            let mut select = connection.prepare("SELECT scope, time, value FROM history ORDER BY scope, time")?;
            let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect::<rusqlite::Result<Vec<(i64, i64, f64)>>>()
        });
        let scopes = store.scopes().unwrap();
        let states: Vec<_> =
            scopes.iter().map(|row| store.state(&row.tenant, &row.feed, &row.scope.id).unwrap()).collect();
        let (backlog, throttles) = (store.backlog().unwrap(), store.throttles(0).unwrap());
        format!("{scopes:?} {states:?} {backlog:?} {throttles:?} {:?}", figures.unwrap())
    }

    fn limit(store: &mut SqliteStore, pages: u32) {
        store.run(|connection| connection.pragma_update(None, "max_page_count", pages)).unwrap();
    }

    #[test]
    fn a_commit_that_finds_the_disk_full_leaves_everything_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(&folder.path().join("collector.db")).unwrap();
        store.commit(&record("one", "before", 3)).unwrap();
        let before = content(&mut store);
        limit(&mut store, 40);
        for scope in ["one", "two"] {
            let error = store.commit(&record(scope, "after", 50)).unwrap_err();
            assert_eq!(error.what, StoreErrorKind::Full);
            assert!(error.to_string().contains("collector.db: the disk is full"), "{error}");
            assert_eq!(content(&mut store), before);
        }
        limit(&mut store, 4_000);
        store.commit(&record("one", "after", 50)).unwrap();
        assert_eq!(store.state("contoso", "prod", "one").unwrap().unwrap(), b"after");
        assert_eq!(store.backlog().unwrap()[0].events, 53);
    }

    fn version(store: &mut SqliteStore) -> u32 {
        store.run(|connection| connection.pragma_query_value(None, "user_version", |row| row.get(0))).unwrap()
    }

    #[test]
    fn an_empty_file_goes_through_all_steps_and_one_that_is_up_to_date_through_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("collector.db");
        assert_eq!(version(&mut SqliteStore::open(&file).unwrap()), MIGRATIONS.len() as u32);
        let before = fs::read(&file).unwrap();
        assert_eq!(version(&mut SqliteStore::open(&file).unwrap()), MIGRATIONS.len() as u32);
        assert_eq!(fs::read(&file).unwrap(), before);
    }

    /// What is kept of each feed, added up from its rows.
    fn sums(store: &mut SqliteStore) -> Vec<KeptRow> {
        let sums = store.run(|connection| {
            let mut select = connection.prepare(
                "SELECT tenant, feed, sum(64 + octet_length(discovered) + octet_length(standing)
                     + coalesce((SELECT 64 + octet_length(value) FROM state WHERE state.scope = number), 0)
                     + coalesce((
                         SELECT sum(64 + octet_length(subject) + octet_length(kind) + octet_length(title))
                         FROM history WHERE history.scope = number
                     ), 0))
                 FROM scope GROUP BY tenant, feed",
            )?;
            let rows = select.query_map([], |row| {
                Ok(KeptRow { tenant: row.get(0)?, feed: row.get(1)?, bytes: row.get::<_, i64>(2)? as u64 })
            })?;
            rows.collect()
        });
        sums.unwrap()
    }

    fn check_sums(store: &mut SqliteStore) {
        let kept: Vec<KeptRow> = store.kept().unwrap().into_iter().filter(|row| row.bytes > 0).collect();
        assert_eq!(kept, sums(store));
    }

    #[test]
    fn what_is_kept_of_a_feed_follows_whatever_writes() {
        let mut store = SqliteStore::in_memory().unwrap();
        let text = |text: &str| text.to_owned();
        let of = |tenant: &str, feed: &str, poll: PollRecord| {
            let row = ScopeRow { tenant: text(tenant), feed: text(feed), ..poll.row.clone() };
            PollRecord { row, ..poll }
        };
        let subject = |subject: &str, mut poll: PollRecord| {
            poll.measures[0].subject = text(subject);
            poll.measures[0].title = text("Gerätschaften");
            poll
        };
        let polls = [
            record("one", "state", 1),
            record("one", "a longer state", 2),
            record("one", "s", 2),
            subject("other", record("one", "s", 2)),
            subject("other", record("one", "s", 3)),
            PollRecord { state: None, ..record("two", "", 4) },
            of("contoso", "test", record("one", "state", 1)),
            of("fabrikam", "test", record("one", "another", 2)),
            of("fabrikam", "test", record("two", "another", 2)),
        ];
        for poll in polls {
            let kept = store.commit(&poll).unwrap();
            check_sums(&mut store);
            let rows = store.kept().unwrap();
            let of_tenant = rows.iter().filter(|row| row.tenant == poll.row.tenant);
            let feed = of_tenant.clone().find(|row| row.feed == poll.row.feed).unwrap().bytes;
            assert_eq!(kept, StoredBytes { feed, tenant: of_tenant.map(|row| row.bytes).sum() });
        }
        let row = record("one", "", 0).row;
        store
            .keep_scopes(&[ScopeRow { standing: Standing { failures: 12_345, ..Standing::default() }, ..row }])
            .unwrap();
        check_sums(&mut store);
        store.prune(100, 100).unwrap();
        check_sums(&mut store);
        let row = record("one", "", 0).row;
        store.forget_scopes("prod", &[text("one"), text("absent")]).unwrap();
        assert_eq!(store.scopes().unwrap().len(), 4, "it is polled");
        let lost = Standing { watch: Polling::Lost, ..Standing::default() };
        store.keep_scopes(&[ScopeRow { standing: lost, ..row }]).unwrap();
        store.forget_scopes("prod", &[text("one")]).unwrap();
        assert_eq!(store.scopes().unwrap().len(), 3);
        check_sums(&mut store);
    }

    #[test]
    fn a_poll_that_passes_a_budget_leaves_everything_as_it_was() {
        let mut store = SqliteStore::in_memory().unwrap();
        store.commit(&record("one", "before", 3)).unwrap();
        let (before, bytes) = (content(&mut store), store.kept().unwrap()[0].bytes);
        for (feed_bytes, tenant_bytes, who) in
            [(bytes, u64::MAX, "the feed"), (u64::MAX, bytes, "the feeds of the tenant")]
        {
            let budgets = Budgets { feed_bytes, tenant_bytes };
            let error = store.commit(&PollRecord { budgets, ..record("two", "after", 3) }).unwrap_err();
            assert!(error.to_string().contains(&format!("{who} would keep")), "{error}");
            assert_eq!(content(&mut store), before);
            store.commit(&PollRecord { budgets, events: Vec::new(), ..record("one", "before", 3) }).unwrap();
        }
    }

    #[test]
    fn a_file_from_before_budgets_has_its_sums_when_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("collector.db");
        {
            let connection = Connection::open(&file).unwrap();
            connection.execute_batch(MIGRATIONS[0]).unwrap();
            connection.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
            connection.pragma_update(None, "user_version", 1).unwrap();
            let rows = "INSERT INTO scope VALUES (7, 'prod', 'one', 'contoso', '{\"id\":\"ä\"}', '{}');
                        INSERT INTO scope VALUES (8, 'prod', 'two', 'contoso', '{\"id\":\"b\"}', '{}');
                        INSERT INTO state VALUES (7, x'0102');
                        INSERT INTO history VALUES (8, 'subject', 1, 'kind', 'title', 1.0, 1.0, 1.0);
                        INSERT INTO history VALUES (8, 'subject', 2, 'kind', 'title', 2.0, 1.0, 1.0);";
            connection.execute_batch(rows).unwrap();
        }
        let mut store = SqliteStore::open(&file).unwrap();
        assert_eq!(sums(&mut store).len(), 1);
        check_sums(&mut store);
    }

    #[test]
    fn a_step_that_a_crash_interrupted_is_done_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("collector.db");
        {
            let mut connection = Connection::open(&file).unwrap();
            let transaction = connection.transaction().unwrap();
            transaction.execute_batch(MIGRATIONS[0]).unwrap();
        }
        SqliteStore::open(&file).unwrap().commit(&record("one", "state", 1)).unwrap();
    }

    #[test]
    fn every_transaction_is_synced() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(&folder.path().join("collector.db")).unwrap();
        let found = store.run(|connection| {
            let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
            let synchronous: u32 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
            Ok((mode, synchronous))
        });
        assert_eq!(found.unwrap(), ("wal".to_owned(), 2));
    }
}
