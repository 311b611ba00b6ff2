//! The schema of the file, step by step.

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use source_host::cause::Cause;

use crate::limits;
use crate::store::StoreErrorKind;

/// Marks a file as ours: "HHSC".
pub(super) const APPLICATION_ID: i32 = 0x4848_5343;

/// The steps of the schema, in order; the file's `user_version` is the number of its last step. A released step never
/// changes.
pub(super) const MIGRATIONS: &[&str] = &[
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
    // Triggers update the sum of a feed in the same transaction as any write. 64 bytes stand for the numbers and the
    // keys of a row.
    "
    ALTER TABLE scope ADD COLUMN bytes INTEGER AS (
        64 + length(CAST(discovered AS BLOB)) + length(CAST(standing AS BLOB))
    );
    ALTER TABLE state ADD COLUMN bytes INTEGER AS (64 + length(value));
    ALTER TABLE history ADD COLUMN bytes INTEGER AS (
        64 + length(CAST(subject AS BLOB)) + length(CAST(kind AS BLOB)) + length(CAST(title AS BLOB))
    );
    CREATE TABLE kept (
        tenant TEXT NOT NULL,
        feed TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (tenant, feed)
    ) WITHOUT ROWID;
    INSERT INTO kept SELECT tenant, feed, sum(bytes) FROM (
        SELECT tenant, feed, bytes FROM scope
        UNION ALL SELECT tenant, feed, state.bytes FROM state JOIN scope ON number = state.scope
        UNION ALL SELECT tenant, feed, history.bytes FROM history JOIN scope ON number = history.scope
    ) GROUP BY tenant, feed;
    CREATE TRIGGER scope_added AFTER INSERT ON scope BEGIN
        INSERT INTO kept VALUES (new.tenant, new.feed, new.bytes)
        ON CONFLICT (tenant, feed) DO UPDATE SET bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER scope_removed AFTER DELETE ON scope BEGIN
        UPDATE kept SET bytes = bytes - old.bytes WHERE tenant = old.tenant AND feed = old.feed;
    END;
    CREATE TRIGGER scope_changed AFTER UPDATE ON scope BEGIN
        UPDATE kept SET bytes = bytes - old.bytes WHERE tenant = old.tenant AND feed = old.feed;
        INSERT INTO kept VALUES (new.tenant, new.feed, new.bytes)
        ON CONFLICT (tenant, feed) DO UPDATE SET bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER state_added AFTER INSERT ON state BEGIN
        UPDATE kept SET bytes = bytes + new.bytes
        WHERE (tenant, feed) = (SELECT tenant, feed FROM scope WHERE number = new.scope);
    END;
    CREATE TRIGGER state_removed AFTER DELETE ON state BEGIN
        UPDATE kept SET bytes = bytes - old.bytes
        WHERE (tenant, feed) = (SELECT tenant, feed FROM scope WHERE number = old.scope);
    END;
    CREATE TRIGGER state_changed AFTER UPDATE ON state BEGIN
        UPDATE kept SET bytes = bytes + new.bytes - old.bytes
        WHERE (tenant, feed) = (SELECT tenant, feed FROM scope WHERE number = new.scope);
    END;
    CREATE TRIGGER figure_added AFTER INSERT ON history BEGIN
        UPDATE kept SET bytes = bytes + new.bytes
        WHERE (tenant, feed) = (SELECT tenant, feed FROM scope WHERE number = new.scope);
    END;
    CREATE TRIGGER figure_removed AFTER DELETE ON history BEGIN
        UPDATE kept SET bytes = bytes - old.bytes
        WHERE (tenant, feed) = (SELECT tenant, feed FROM scope WHERE number = old.scope);
    END;
    CREATE TRIGGER figure_changed AFTER UPDATE ON history BEGIN
        UPDATE kept SET bytes = bytes + new.bytes - old.bytes
        WHERE (tenant, feed) = (SELECT tenant, feed FROM scope WHERE number = new.scope);
    END;
",
    // The subject of the figure that stands for the whole scope.
    "
    ALTER TABLE scope ADD COLUMN figure TEXT;
",
    // Delivered events of sinks that keep them, with the numbers that they had in the outbox, and the sums of their
    // bytes.
    "
    CREATE TABLE delivered (
        number INTEGER PRIMARY KEY,
        sink TEXT NOT NULL,
        tenant TEXT NOT NULL,
        feed TEXT NOT NULL,
        scope TEXT NOT NULL,
        uid TEXT NOT NULL,
        time INTEGER NOT NULL,
        body BLOB NOT NULL,
        delivered INTEGER NOT NULL,
        until INTEGER NOT NULL
    );
    CREATE INDEX delivered_until ON delivered (sink, tenant, until);
    CREATE TABLE delivered_bytes (
        sink TEXT NOT NULL,
        tenant TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (sink, tenant)
    ) WITHOUT ROWID;
    CREATE TRIGGER delivered_added AFTER INSERT ON delivered BEGIN
        INSERT INTO delivered_bytes VALUES (new.sink, new.tenant, length(new.body))
        ON CONFLICT (sink, tenant) DO UPDATE SET bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER delivered_removed AFTER DELETE ON delivered BEGIN
        UPDATE delivered_bytes SET bytes = bytes - length(old.body) WHERE sink = old.sink AND tenant = old.tenant;
    END;
",
    // The mark of a move from or to another place: at most one row.
    "
    CREATE TABLE move (id TEXT PRIMARY KEY, role TEXT NOT NULL, other TEXT NOT NULL, progress TEXT NOT NULL) WITHOUT ROWID;
",
];

/// Configures a connection; returns the fault that makes the file unusable.
pub(super) fn prepare(connection: &mut Connection) -> rusqlite::Result<Option<StoreErrorKind>> {
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
        return Ok(Some(StoreErrorKind::Damaged(Cause::new(verdict))));
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // A negative number means KiB.
    connection.pragma_update(None, "cache_size", -limits::STORE_CACHE_KIB)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Otherwise, SQLite prepares a statement anew each time that a value is compared with a range.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    for (version, migration) in (found + 1..=known).zip(MIGRATIONS.iter().skip(found as usize)) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(None)
}
