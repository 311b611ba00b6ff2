//! Values in the form of the tables' columns, and the statements of a transaction that writes them.

use std::collections::HashSet;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use source_host::contract::Scope;
use source_host::digest::ShortDigest;

use crate::store::budget::StoredBytes;
use crate::store::{Backlog, Points, PollRecord, ScopeRow, Standing, Throttle};

fn unreadable(column: usize, error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

/// A digest in the form of a column.
pub(super) struct Stored(pub ShortDigest);

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

pub(super) fn scope_row(row: &Row<'_>) -> rusqlite::Result<ScopeRow> {
    let discovered: String = row.get(2)?;
    let standing: String = row.get(3)?;
    Ok(ScopeRow {
        feed: row.get(0)?,
        tenant: row.get(1)?,
        scope: serde_json::from_str::<Scope>(&discovered).map_err(|error| unreadable(2, error))?,
        standing: serde_json::from_str::<Standing>(&standing).map_err(|error| unreadable(3, error))?,
    })
}

/// Writes a scope and returns its number. `figure` is the subject of the figure that stands for the whole scope; `None`
/// keeps the stored one. If the scope belonged to another tenant, all data of that tenant is removed.
pub(super) fn keep_scope(connection: &Connection, row: &ScopeRow, figure: Option<&str>) -> rusqlite::Result<i64> {
    let known: Option<(i64, bool)> = connection
        .prepare_cached("SELECT number, tenant = ?3 FROM scope WHERE feed = ?1 AND scope = ?2")?
        .query_row(params![row.feed, row.scope.id, row.tenant], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((number, false)) = known {
        connection.execute("DELETE FROM state WHERE scope = ?1", [number])?;
        connection.execute("DELETE FROM history WHERE scope = ?1", [number])?;
        connection.execute("UPDATE scope SET figure = NULL WHERE number = ?1", [number])?;
    }
    let text = |value: Result<String, serde_json::Error>| {
        value.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
    };
    let (discovered, standing) =
        (text(serde_json::to_string(&row.scope))?, text(serde_json::to_string(&row.standing))?);
    if let Some((number, _)) = known {
        connection
            .prepare_cached(
                "UPDATE scope SET tenant = ?2, discovered = ?3, standing = ?4, figure = coalesce(?5, figure)
                 WHERE number = ?1",
            )?
            .execute(params![number, row.tenant, discovered, standing, figure])?;
        return Ok(number);
    }
    connection
        .prepare_cached(
            "INSERT INTO scope (feed, scope, tenant, discovered, standing, figure) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .insert(params![row.feed, row.scope.id, row.tenant, discovered, standing, figure])
}

/// Writes the figures that differ from the previous ones. A plugin may return numbers that are not finite; they are
/// skipped and do not fail the poll.
pub(super) fn keep_figures(connection: &Connection, scope: i64, poll: &PollRecord) -> rusqlite::Result<()> {
    let mut last = connection.prepare_cached(
        "SELECT value = :value AND maximum = :maximum AND weight = :weight FROM history
         WHERE scope = :scope AND subject = :subject ORDER BY time DESC LIMIT 1",
    )?;
    let mut insert = connection.prepare_cached(
        // `OR REPLACE` would remove a row without its trigger.
        "INSERT INTO history (scope, subject, time, kind, title, value, maximum, weight)
         VALUES (:scope, :subject, :time, :kind, :title, :value, :maximum, :weight)
         ON CONFLICT (scope, subject, time) DO UPDATE SET
             kind = excluded.kind, title = excluded.title, value = excluded.value,
             maximum = excluded.maximum, weight = excluded.weight",
    )?;
    for measure in poll.measures.iter().filter(|measure| Points::of(measure).is_some()) {
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
    for (subject, kind, title) in gone(connection, scope, poll)? {
        insert.execute(named_params! {
            ":scope": scope, ":subject": subject, ":time": poll.time as i64, ":kind": kind, ":title": title,
            ":value": 0.0, ":maximum": 0.0, ":weight": 0.0,
        })?;
    }
    Ok(())
}

/// Returns subject, kind and title of the stored figures whose kind the poll has, but whose subject it lacks: the service
/// does not measure them any more. Figures whose largest value is 0 already are left out.
fn gone(connection: &Connection, scope: i64, poll: &PollRecord) -> rusqlite::Result<Vec<(String, String, String)>> {
    let kinds: HashSet<&str> = poll.measures.iter().map(|measure| measure.kind.as_str()).collect();
    if kinds.is_empty() {
        return Ok(Vec::new());
    }
    let present: HashSet<&str> = poll.measures.iter().map(|measure| measure.subject.as_str()).collect();
    // One seek in the index for each subject: a scan would read the whole history.
    let mut known = connection.prepare_cached(
        "WITH RECURSIVE known (subject) AS (
             SELECT min(subject) FROM history WHERE scope = ?1
             UNION ALL
             SELECT (SELECT min(subject) FROM history WHERE scope = ?1 AND subject > known.subject) FROM known
             WHERE known.subject IS NOT NULL
         )
         SELECT known.subject, kind, title FROM known JOIN history
         ON scope = ?1 AND history.subject = known.subject
             AND time = (SELECT max(time) FROM history WHERE scope = ?1 AND subject = known.subject)
         WHERE maximum <> 0",
    )?;
    let rows = known.query_map([scope], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let is_gone =
        |(subject, kind, _): &(String, String, String)| !present.contains(&**subject) && kinds.contains(&**kind);
    rows.filter(|row| row.as_ref().map_or(true, is_gone)).collect()
}

pub(super) fn queue(connection: &Connection, poll: &PollRecord) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
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

/// Returns the events that wait for each sink.
pub(super) fn backlog(connection: &Connection) -> rusqlite::Result<Vec<Backlog>> {
    let mut select = connection.prepare(
        "SELECT sink, tenant, feed, count(*), sum(length(body)), min(time) FROM outbox GROUP BY sink, tenant, feed",
    )?;
    let rows = select.query_map([], |row| {
        Ok(Backlog {
            sink: row.get(0)?,
            tenant: row.get(1)?,
            feed: row.get(2)?,
            events: row.get::<_, i64>(3)? as u64,
            bytes: row.get::<_, i64>(4)? as u64,
            oldest: row.get::<_, i64>(5)? as u64,
        })
    })?;
    rows.collect()
}

/// Returns the bytes of a feed's events that wait for the poll's sinks.
pub(super) fn waiting(connection: &Connection, poll: &PollRecord) -> rusqlite::Result<u64> {
    let mut select = connection.prepare_cached(
        "SELECT coalesce(sum(length(body)), 0) FROM outbox WHERE sink = ?1 AND feed = ?2 AND tenant = ?3",
    )?;
    let row = &poll.row;
    let mut sum = 0;
    for sink in &poll.sinks {
        sum += select.query_row(params![sink, row.feed, row.tenant], |row| row.get::<_, i64>(0))? as u64;
    }
    Ok(sum)
}

/// Returns the number of feeds with stored data.
pub(super) fn keeping_feeds(connection: &Connection) -> rusqlite::Result<u64> {
    let mut select = connection.prepare_cached("SELECT count(*) FROM kept WHERE bytes > 0")?;
    select.query_row([], |row| row.get::<_, i64>(0)).map(|count| count as u64)
}

/// Returns the bytes of free pages within the file.
pub(super) fn reusable(connection: &Connection) -> rusqlite::Result<u64> {
    let told = |pragma: &str| connection.prepare_cached(pragma)?.query_row([], |row| row.get::<_, i64>(0));
    Ok(told("PRAGMA freelist_count")? as u64 * told("PRAGMA page_size")? as u64)
}

/// Returns the bytes that are kept of a scope's feed, and of all feeds of its tenant.
pub(super) fn kept(connection: &Connection, row: &ScopeRow) -> rusqlite::Result<StoredBytes> {
    let bytes = |row: &Row<'_>, column: usize| row.get::<_, i64>(column).map(|bytes| bytes as u64);
    connection
        .prepare_cached(
            "SELECT coalesce(sum(bytes) FILTER (WHERE feed = ?2), 0), coalesce(sum(bytes), 0) FROM kept WHERE tenant = ?1",
        )?
        .query_row(params![row.tenant, row.feed], |row| Ok(StoredBytes { feed: bytes(row, 0)?, tenant: bytes(row, 1)? }))
}

pub(super) fn keep_throttle(connection: &Connection, throttle: &Throttle) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO throttle (credential, origin, until) VALUES (?1, ?2, ?3)
             ON CONFLICT (credential, origin) DO UPDATE SET until = max(until, excluded.until)",
        )?
        .execute(params![Stored(throttle.credential), throttle.origin, throttle.until as i64])
        .map(drop)
}
