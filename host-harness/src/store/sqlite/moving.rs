//! A file of SQLite as one side of a move.

use std::path::Path;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::SqliteStore;
use crate::limits;
use crate::store::moving::{Cell, Chunk, Mark, Movable, MoveFault, MovedKey, MovedPart, MovedRow, Role, key};
use crate::store::{StoreError, StoreErrorKind, StorePlace, StoreResult};

/// A locked file whose rows are moved. Each question blocks the thread.
pub struct SqliteMovable {
    store: SqliteStore,
    place: StorePlace,
}

impl SqliteMovable {
    /// Opens a file; one that is not there is only made as a target.
    pub fn open(file: &Path, is_target: bool) -> StoreResult<SqliteMovable> {
        // An empty file is an empty database.
        if !is_target && file.metadata().map_or(true, |met| met.len() == 0) {
            return Err(StoreError::of_file(file, StoreErrorKind::Move(MoveFault::Nothing)));
        }
        Ok(SqliteMovable { store: SqliteStore::open_moved(file)?, place: StorePlace::File(file.to_owned()) })
    }
}

/// Returns the mark of a move.
pub(super) fn mark(connection: &Connection) -> rusqlite::Result<Option<Mark>> {
    let read = |row: &Row<'_>| {
        let (id, word, other, progress) = (row.get(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?);
        // A role of a later version is refused as a target is.
        Ok(Mark { id, role: Role::of(&word).unwrap_or(Role::Target), other, progress })
    };
    connection.query_row("SELECT id, role, other, progress FROM move", [], read).optional()
}

/// Lets a collector use the file, unless a move keeps it from that. A move from the file then begins anew.
pub(super) fn settle(connection: &mut Connection) -> rusqlite::Result<Result<(), MoveFault>> {
    let Some(mark) = mark(connection)? else { return Ok(Ok(())) };
    match mark.refusal() {
        Some(fault) => Ok(Err(fault)),
        None => connection.execute("DELETE FROM move", []).map(|_| Ok(())),
    }
}

/// The way to read a part: the first key, a statement that reads rows after a key, and the places of the key in a row.
fn reading(part: MovedPart) -> (Vec<Cell>, &'static str, &'static [usize]) {
    let (number, text) = (|| Cell::Integer(i64::MIN), || Cell::Text(String::new()));
    match part {
        // A feed without a tenant has collected nothing.
        MovedPart::Feeds => (
            vec![text()],
            "SELECT tenant, feed, searched_with, configured_as FROM (
                 SELECT feed, searched_with, configured_as, coalesce(
                     (SELECT tenant FROM scope WHERE scope.feed = feed.feed LIMIT 1),
                     (SELECT tenant FROM kept WHERE kept.feed = feed.feed LIMIT 1)
                 ) AS tenant FROM feed WHERE feed > ?1
             ) WHERE tenant IS NOT NULL ORDER BY feed LIMIT ?",
            &[1],
        ),
        MovedPart::Scopes => (
            vec![number()],
            "SELECT number, feed, scope, tenant, discovered, standing, figure FROM scope WHERE number > ?1
             ORDER BY number LIMIT ?",
            &[0],
        ),
        MovedPart::States => {
            (vec![number()], "SELECT scope, value FROM state WHERE scope > ?1 ORDER BY scope LIMIT ?", &[0])
        }
        MovedPart::Figures => (
            vec![number(), text(), number()],
            "SELECT tenant, history.scope, subject, time, kind, title, value, maximum, weight
             FROM history JOIN scope ON number = history.scope WHERE (history.scope, subject, time) > (?1, ?2, ?3)
             ORDER BY history.scope, subject, time LIMIT ?",
            &[1, 2, 3],
        ),
        MovedPart::Sums => (
            vec![text(), text()],
            "SELECT tenant, feed, bytes FROM kept WHERE (tenant, feed) > (?1, ?2) AND bytes <> 0
             ORDER BY tenant, feed LIMIT ?",
            &[0, 1],
        ),
        MovedPart::Events => (
            vec![number()],
            "SELECT number, sink, tenant, feed, scope, uid, time, body FROM outbox WHERE number > ?1
             ORDER BY number LIMIT ?",
            &[0],
        ),
        MovedPart::Delivered => (
            vec![number()],
            "SELECT number, sink, tenant, feed, scope, uid, time, body, delivered, until FROM delivered WHERE number > ?1
             ORDER BY number LIMIT ?",
            &[0],
        ),
        MovedPart::Waits => (
            vec![text(), text()],
            "SELECT credential, origin, until FROM throttle WHERE (credential, origin) > (?1, ?2)
             ORDER BY credential, origin LIMIT ?",
            &[0, 1],
        ),
    }
}

/// The statement that writes a row of a part; `None` if triggers write the rows.
fn writing(part: MovedPart) -> Option<&'static str> {
    Some(match part {
        MovedPart::Feeds => {
            "INSERT INTO feed (feed, searched_with, configured_as) SELECT ?2, ?3, ?4 WHERE ?1 IS NOT ''"
        }
        MovedPart::Scopes => {
            "INSERT INTO scope (number, feed, scope, tenant, discovered, standing, figure) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
        }
        MovedPart::States => "INSERT INTO state (scope, value) VALUES (?1, ?2)",
        MovedPart::Figures => {
            "INSERT INTO history (scope, subject, time, kind, title, value, maximum, weight)
             SELECT ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 WHERE ?1 IS NOT ''"
        }
        MovedPart::Sums => return None,
        MovedPart::Events => {
            "INSERT INTO outbox (number, sink, tenant, feed, scope, uid, time, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
        }
        MovedPart::Delivered => {
            "INSERT INTO delivered (number, sink, tenant, feed, scope, uid, time, body, delivered, until)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
        }
        MovedPart::Waits => "INSERT INTO throttle (credential, origin, until) VALUES (?1, ?2, ?3)",
    })
}

fn put(connection: &Connection, mark: &Mark) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM move", [])?;
    let Mark { id, role, other, progress } = mark;
    connection.execute("INSERT INTO move VALUES (?1, ?2, ?3, ?4)", [id, role.word(), other, progress]).map(drop)
}

#[async_trait]
impl Movable for SqliteMovable {
    fn place(&self) -> &StorePlace {
        &self.place
    }

    async fn mark(&mut self) -> StoreResult<Option<Mark>> {
        self.store.run(|connection| mark(connection))
    }

    async fn salt(&mut self) -> StoreResult<String> {
        self.store.salt()
    }

    async fn count(&mut self, part: MovedPart) -> StoreResult<u64> {
        self.store.run(|connection| {
            let count = connection.query_row(&format!("SELECT count(*) FROM {}", part.table()), [], |row| row.get(0));
            count.map(|count: i64| count as u64)
        })
    }

    async fn unused(&mut self) -> StoreResult<()> {
        // The lock keeps collectors out.
        Ok(())
    }

    async fn begin_source(&mut self, id: &str, other: &str) -> StoreResult<()> {
        let mark = Mark { id: id.to_owned(), role: Role::Source, other: other.to_owned(), progress: String::new() };
        self.store.run(|connection| {
            let transaction = connection.transaction()?;
            put(&transaction, &mark)?;
            transaction.commit()
        })
    }

    async fn read(&mut self, part: MovedPart, after: &[MovedKey]) -> StoreResult<Chunk> {
        let (mut start, text, places) = reading(part);
        if !after.is_empty() {
            start = after.iter().map(MovedKey::cell).collect();
        }
        start.push(Cell::Integer(limits::MOVED_AT_ONCE));
        self.store.run(|connection| {
            let mut select = connection.prepare_cached(text)?;
            let columns = select.column_count();
            let mut found = select.query(params_from_iter(start))?;
            let (mut rows, mut bytes) = (Vec::<MovedRow>::new(), 0);
            while bytes < limits::MOVED_BYTES
                && let Some(row) = found.next()?
            {
                let row = (0..columns).map(|column| row.get(column)).collect::<rusqlite::Result<MovedRow>>()?;
                bytes += row.iter().map(size).sum::<usize>();
                rows.push(row);
            }
            let last = rows.last().map(|row| key(row, places)).unwrap_or_default();
            Ok(Chunk { rows, last })
        })
    }

    async fn last_event(&mut self) -> StoreResult<i64> {
        self.store.run(|connection| {
            let last =
                connection.query_row("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'", [], |row| row.get(0));
            Ok(last.optional()?.unwrap_or(0))
        })
    }

    async fn leave(&mut self, id: &str) -> StoreResult<()> {
        // The lock kept collectors out.
        self.store.run(|connection| {
            connection.execute("UPDATE move SET role = ?2 WHERE id = ?1", [id, Role::Left.word()]).map(drop)
        })
    }

    async fn begin_target(&mut self, id: &str, other: &str, salt: &str) -> StoreResult<()> {
        let mark = Mark { id: id.to_owned(), role: Role::Target, other: other.to_owned(), progress: "{}".to_owned() };
        self.store.run(|connection| {
            let transaction = connection.transaction()?;
            for part in MovedPart::ALL.into_iter().rev() {
                transaction.execute(&format!("DELETE FROM {}", part.table()), [])?;
            }
            transaction.execute("DELETE FROM delivered_bytes", [])?;
            transaction.execute("DELETE FROM sqlite_sequence", [])?;
            transaction.execute("UPDATE salt SET value = ?1", [salt])?;
            put(&transaction, &mark)?;
            transaction.commit()
        })
    }

    fn holds_nul(&self) -> bool {
        true
    }

    async fn write(&mut self, id: &str, part: MovedPart, rows: Vec<MovedRow>, progress: &str) -> StoreResult<()> {
        self.store.run(|connection| {
            let transaction = connection.transaction()?;
            if let Some(text) = writing(part) {
                let mut insert = transaction.prepare_cached(text)?;
                for row in rows {
                    insert.execute(params_from_iter(row))?;
                }
            }
            transaction.execute("UPDATE move SET progress = ?2 WHERE id = ?1", [id, progress])?;
            transaction.commit()
        })
    }

    async fn arrive(&mut self, id: &str, last_event: i64) -> StoreResult<()> {
        self.store.run(|connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM sqlite_sequence WHERE name = 'outbox'", [])?;
            transaction
                .execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('outbox', ?1)", params![last_event])?;
            transaction.execute("DELETE FROM move WHERE id = ?1", [id])?;
            transaction.commit()
        })
    }

    async fn close(&mut self) -> StoreResult<()> {
        self.store.close()
    }
}

/// Bytes of a cell, roughly.
fn size(cell: &Cell) -> usize {
    match cell {
        Cell::Text(text) => text.len(),
        Cell::Blob(bytes) => bytes.len(),
        _ => 8,
    }
}
