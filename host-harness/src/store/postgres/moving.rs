//! A database as one side of a move. The role needs the rights of the owner of the tables.

use std::collections::HashSet;
use std::error::Error;
use std::time::Instant;

use async_trait::async_trait;
use bytes::BytesMut;
use source_host::cause::Cause;
use source_host::limits::milliseconds;
use tokio::time::sleep;
use tokio_postgres::Row;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::address::ServerAddress;
use super::connection::{Connection, LinkPurpose, Parameters, Primary, SentStatement, connect};
use super::schema;
use crate::limits;
use crate::store::moving::{Cell, Chunk, Mark, Movable, MoveFault, MovedKey, MovedPart, MovedRow, Role, key};
use crate::store::shards::shard_of;
use crate::store::{StoreError, StoreErrorKind, StorePlace, StoreResult};

/// A database whose rows are moved.
pub struct PostgresMovable {
    place: StorePlace,
    connection: Connection,
    /// Number of shards.
    shards: u16,
    /// Scopes that a feed has under an earlier tenant, too: a file has no place for them.
    stale: Option<HashSet<i64>>,
}

impl PostgresMovable {
    /// Connects. Makes or updates the tables; those of a source must be there.
    pub async fn open(address: &ServerAddress, is_target: bool) -> StoreResult<PostgresMovable> {
        let place = StorePlace::Server(address.to_string());
        let opened = async {
            let connection =
                connect(address, LinkPurpose::Writing, &Primary::default()).await.map_err(StoreErrorKind::Server)?;
            // Of the session: it is gone with this connection.
            let begun = Instant::now();
            while !connection.row(LOCK, &[]).await?.is_some_and(|row| row.get(0)) {
                if begun.elapsed() >= limits::MOVE_PATIENCE {
                    return Err(StoreErrorKind::Move(MoveFault::Busy));
                }
                sleep(limits::MOVE_PAUSE).await;
            }
            if !is_target && schema::step(&connection).await? == 0 {
                return Err(StoreErrorKind::Move(MoveFault::Nothing));
            }
            schema::prepare(&connection).await?;
            let owned = connection.row(OWNED, &[]).await?;
            if !owned.and_then(|row| row.get::<_, Option<bool>>(0)).unwrap_or(true) {
                return Err(StoreErrorKind::Move(MoveFault::NotOwner));
            }
            // Counting takes as long as it takes.
            connection.run("SET statement_timeout = 0").await?;
            let row = connection.row("SELECT count(*) FROM shard", &[]).await?;
            Ok((row.map_or(0, |row| row.get::<_, i64>(0)) as u16, connection))
        };
        match opened.await {
            Ok((shards, connection)) => Ok(PostgresMovable { place, connection, shards, stale: None }),
            Err(what) => Err(StoreError { place, what }),
        }
    }

    fn fault(&self, what: StoreErrorKind) -> StoreError {
        StoreError { place: self.place.clone(), what }
    }

    async fn rows(&self, text: &'static str, parameters: Parameters<'_>) -> StoreResult<Vec<Row>> {
        self.connection.rows(text, parameters).await.map_err(|what| self.fault(what))
    }

    /// Sends the statements of a transaction, and commits it if the server has done all of them.
    async fn transaction(&self, steps: &[SentStatement<'_>]) -> StoreResult<()> {
        let mut all: Vec<SentStatement<'_>> = vec![("BEGIN", vec![])];
        all.extend_from_slice(steps);
        let done = match self.connection.pipeline(&all).await {
            Ok(_) => self.connection.run("COMMIT").await,
            Err(error) => {
                self.connection.roll_back().await;
                Err(error)
            }
        };
        done.map_err(|what| self.fault(what))
    }

    /// Reads the scopes that are left out, once.
    async fn stale(&mut self) -> StoreResult<&HashSet<i64>> {
        if self.stale.is_none() {
            let rows = self.rows(STALE, &[]).await?;
            self.stale = Some(rows.iter().map(|row| row.get(0)).collect());
        }
        Ok(self.stale.get_or_insert_default())
    }
}

/// One move at a time, and no `redeliver` beside it.
const LOCK: &str = "SELECT pg_try_advisory_lock(hashtext('host_harness'), hashtext('move'))";

/// Whether the role may do with the tables as their owner.
const OWNED: &str = "
    SELECT bool_and(pg_has_role(relowner, 'USAGE')) FROM pg_class
    WHERE relnamespace = 'host_harness'::regnamespace AND relkind IN ('r', 'p', 'S')";

pub(super) const LIVING: &str = "
    SELECT name FROM collector WHERE heartbeat > clock_timestamp() - $1 * interval '1 millisecond' ORDER BY name";

/// Refuses a store that the collectors of these rows use.
pub(super) fn refuse_living(living: &[Row]) -> Result<(), StoreErrorKind> {
    let names: Vec<String> = living.iter().map(|row| row.get(0)).collect();
    match names.is_empty() {
        true => Ok(()),
        false => Err(StoreErrorKind::Move(MoveFault::in_use(&names))),
    }
}

const STALE: &str = "
    SELECT number FROM (
        SELECT number, row_number() OVER (PARTITION BY feed, scope ORDER BY written DESC, number DESC) AS place FROM scope
    ) AS every WHERE place > 1";

const PUT: &str = "INSERT INTO move (id, role, other, progress) VALUES ($1, $2, $3, $4)";

/// Writes of earlier leases are refused from now on.
const END_LEASES: &str = "UPDATE shard SET holder = NULL, epoch = epoch + 1, since = clock_timestamp()";

const EMPTY: &str = "
    TRUNCATE feed, scope, state, figure, history, outbox, kept, throttle, delivered, delivered_bytes, writer";

const LEAVE: &str = "
    UPDATE move SET role = 'left' WHERE id = $1 AND NOT EXISTS (SELECT FROM shard WHERE holder IS NOT NULL) RETURNING id";

const LAST_EVENT: &str = "
    SELECT greatest(
        coalesce(pg_sequence_last_value(pg_get_serial_sequence('outbox', 'number')::regclass), 0),
        (SELECT coalesce(max(number), 0) FROM outbox)
    )";

/// The next numbers follow those that were moved.
const CONTINUE: &str = "
    SELECT setval(pg_get_serial_sequence('outbox', 'number')::regclass, greatest($1::bigint, 1)),
        setval(pg_get_serial_sequence('scope', 'number')::regclass, (SELECT greatest(coalesce(max(number), 0), 1) FROM scope))";

const SUM_DELIVERED: &str = "
    INSERT INTO delivered_bytes SELECT sink, tenant, sum(octet_length(body))::bigint FROM delivered GROUP BY sink, tenant";

/// Returns the mark of a move.
pub(super) async fn mark(connection: &Connection) -> Result<Option<Mark>, StoreErrorKind> {
    let row = connection.row("SELECT id, role, other, progress FROM move", &[]).await?;
    // A role of a later version is refused as a target is.
    let mark = |row: Row| Mark {
        id: row.get(0),
        role: Role::of(row.get(1)).unwrap_or(Role::Target),
        other: row.get(2),
        progress: row.get(3),
    };
    Ok(row.map(mark))
}

/// Lets a collector use the database, unless a move keeps it from that. A move from the database then begins anew.
pub(super) async fn settle(connection: &Connection) -> Result<(), StoreErrorKind> {
    let Some(mark) = mark(connection).await? else { return Ok(()) };
    match mark.refusal() {
        Some(fault) => Err(StoreErrorKind::Move(fault)),
        None => connection.rows("DELETE FROM move WHERE role = 'source'", &[]).await.map(drop),
    }
}

/// The way to read a part: the first key, a statement that reads rows after a key, and the places of the key in a row.
/// `None` if the rows follow from those of other parts.
fn reading(part: MovedPart) -> Option<(Vec<MovedKey>, &'static str, &'static [usize])> {
    let (number, text) = (|| MovedKey::Number(i64::MIN), || MovedKey::Text(String::new()));
    Some(match part {
        // A file has one row for a feed: that of the shard of its tenant.
        MovedPart::Feeds => (
            vec![text()],
            "SELECT DISTINCT ON (feed.feed) NULL::text, feed.feed, searched_with, configured_as FROM feed
             LEFT JOIN LATERAL (
                 SELECT shard FROM scope WHERE scope.feed = feed.feed ORDER BY written DESC, number DESC LIMIT 1
             ) AS own ON true
             WHERE feed.feed > $1 ORDER BY feed.feed, feed.shard IS DISTINCT FROM own.shard LIMIT $2",
            &[1],
        ),
        MovedPart::Scopes => (
            vec![text(), text(), text()],
            "SELECT number, feed, scope, tenant, discovered, standing, figure FROM scope
             WHERE (feed, scope, tenant) > ($1, $2, $3) ORDER BY feed, scope, tenant LIMIT $4",
            &[1, 2, 3],
        ),
        MovedPart::States => {
            (vec![number()], "SELECT scope, value FROM state WHERE scope > $1 ORDER BY scope LIMIT $2", &[0])
        }
        MovedPart::Figures => (
            vec![MovedKey::Number(-1), number(), text(), number()],
            "SELECT shard, scope, subject, time, kind, title, value, maximum, weight FROM history
             WHERE (shard, scope, subject, time) > ($1, $2, $3, $4) ORDER BY shard, scope, subject, time LIMIT $5",
            &[0, 1, 2, 3],
        ),
        MovedPart::Sums => return None,
        MovedPart::Events => (
            vec![number()],
            "SELECT number, sink, tenant, feed, scope, uid, time, body FROM outbox WHERE number > $1
             ORDER BY number LIMIT $2",
            &[0],
        ),
        MovedPart::Delivered => (
            vec![number()],
            "SELECT number, sink, tenant, feed, scope, uid, time, body, delivered, until FROM delivered
             WHERE number > $1 ORDER BY number LIMIT $2",
            &[0],
        ),
        MovedPart::Waits => (
            vec![text(), text()],
            "SELECT credential, origin, until FROM throttle WHERE (credential, origin) > ($1, $2)
             ORDER BY credential, origin LIMIT $3",
            &[0, 1],
        ),
    })
}

/// The kind of a column.
#[derive(Clone, Copy)]
enum ColumnKind {
    /// The shard of a tenant.
    Shard,
    Text,
    Number,
    Real,
    Bytes,
}

/// The way to write a part: the kinds of the columns, the first of which may be a tenant whose shard is written, and
/// the statements.
fn writing(part: MovedPart) -> (&'static [ColumnKind], &'static [&'static str]) {
    use ColumnKind::{Bytes, Number, Real, Shard, Text};
    match part {
        MovedPart::Feeds => (
            &[Shard, Text, Text, Text],
            &["INSERT INTO feed (shard, feed, searched_with, configured_as)
               SELECT * FROM unnest($1::smallint[], $2::text[], $3::text[], $4::text[])"],
        ),
        MovedPart::Scopes => (
            &[Number, Text, Text, Text, Text, Text, Text, Shard],
            &["INSERT INTO scope (number, feed, scope, tenant, discovered, standing, figure, shard, written)
               OVERRIDING SYSTEM VALUE SELECT *, 0 FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[],
                   $6::text[], $7::text[], $8::smallint[])"],
        ),
        MovedPart::States => (
            &[Number, Bytes],
            &["INSERT INTO state (scope, value) SELECT * FROM unnest($1::bigint[], $2::bytea[])"],
        ),
        MovedPart::Figures => (
            &[Shard, Number, Text, Number, Text, Text, Real, Real, Real],
            &[
                "INSERT INTO history (shard, scope, subject, time, kind, title, value, maximum, weight)
                 SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::text[],
                     $7::float8[], $8::float8[], $9::float8[])",
                "INSERT INTO figure (scope, subject, time, kind, title, value, maximum, weight)
                 SELECT DISTINCT ON (scope, subject) scope, subject, time, kind, title, value, maximum, weight
                 FROM unnest($1::smallint[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::text[],
                     $7::float8[], $8::float8[], $9::float8[])
                     AS new (shard, scope, subject, time, kind, title, value, maximum, weight)
                 ORDER BY scope, subject, time DESC
                 ON CONFLICT (scope, subject) DO UPDATE SET
                     time = excluded.time, kind = excluded.kind, title = excluded.title, value = excluded.value,
                     maximum = excluded.maximum, weight = excluded.weight
                 WHERE figure.time <= excluded.time",
            ],
        ),
        MovedPart::Sums => (
            &[Text, Text, Number, Shard],
            &["INSERT INTO kept (tenant, feed, bytes, shard)
               SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::smallint[])"],
        ),
        MovedPart::Events => (
            &[Number, Text, Text, Text, Text, Text, Number, Bytes, Shard],
            &["INSERT INTO outbox (number, sink, tenant, feed, scope, uid, time, body, shard) OVERRIDING SYSTEM VALUE
               SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
                   $8::bytea[], $9::smallint[])"],
        ),
        MovedPart::Delivered => (
            &[Number, Text, Text, Text, Text, Text, Number, Bytes, Number, Number, Shard],
            &["INSERT INTO delivered (number, sink, tenant, feed, scope, uid, time, body, delivered, until, shard)
               SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
                   $8::bytea[], $9::bigint[], $10::bigint[], $11::smallint[])"],
        ),
        MovedPart::Waits => (
            &[Text, Text, Number],
            &["INSERT INTO throttle (credential, origin, until)
               SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])"],
        ),
    }
}

/// The place of the tenant in the rows of a part, whose shard is written.
fn tenant(part: MovedPart) -> usize {
    match part {
        MovedPart::Feeds | MovedPart::Figures | MovedPart::Sums => 0,
        MovedPart::Events | MovedPart::Delivered => 2,
        MovedPart::Scopes => 3,
        MovedPart::States | MovedPart::Waits => usize::MAX,
    }
}

fn counting(part: MovedPart) -> &'static str {
    match part {
        MovedPart::Feeds => "SELECT count(*) FROM feed",
        MovedPart::Scopes => "SELECT count(*) FROM scope",
        MovedPart::States => "SELECT count(*) FROM state",
        MovedPart::Figures => "SELECT count(*) FROM history",
        MovedPart::Sums => "SELECT count(*) FROM kept",
        MovedPart::Events => "SELECT count(*) FROM outbox",
        MovedPart::Delivered => "SELECT count(*) FROM delivered",
        MovedPart::Waits => "SELECT count(*) FROM throttle",
    }
}

/// A part of a key as a parameter, whatever the width of the column.
#[derive(Debug)]
struct KeyParameter<'a>(&'a MovedKey);

impl ToSql for KeyParameter<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match (self.0, kind) {
            (MovedKey::Number(number), &Type::INT2) => i16::try_from(*number)?.to_sql(kind, out),
            (MovedKey::Number(number), _) => number.to_sql(kind, out),
            (MovedKey::Text(text), _) => text.to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Reads the cell of a column.
fn cell(row: &Row, column: usize) -> Result<Cell, StoreErrorKind> {
    let unread = |error: tokio_postgres::Error| StoreErrorKind::Damaged(Cause::new(error));
    Ok(match row.columns().get(column).map(tokio_postgres::Column::type_) {
        Some(&Type::INT2) => Cell::Integer(row.try_get::<_, i16>(column).map_err(unread)?.into()),
        Some(&Type::INT8) => Cell::Integer(row.try_get(column).map_err(unread)?),
        Some(&Type::FLOAT8) => Cell::Real(row.try_get(column).map_err(unread)?),
        Some(&Type::BYTEA) => Cell::Blob(row.try_get(column).map_err(unread)?),
        _ => row.try_get::<_, Option<String>>(column).map_err(unread)?.map_or(Cell::Null, Cell::Text),
    })
}

/// Returns the column of some rows as a parameter.
fn column(rows: &[MovedRow], kind: ColumnKind, place: usize, shards: u16) -> Box<dyn ToSql + Sync + Send + '_> {
    let cells = rows.iter().map(move |row| row.get(place).unwrap_or(&Cell::Null));
    let number = |cell: &Cell| match cell {
        Cell::Integer(number) => *number,
        _ => 0,
    };
    fn text(cell: &Cell) -> Option<&str> {
        match cell {
            Cell::Text(text) => Some(text),
            _ => None,
        }
    }
    match kind {
        ColumnKind::Shard => {
            Box::new(cells.map(|cell| shard_of(text(cell).unwrap_or_default(), shards) as i16).collect::<Vec<_>>())
        }
        ColumnKind::Text => Box::new(cells.map(text).collect::<Vec<_>>()),
        ColumnKind::Number => Box::new(cells.map(number).collect::<Vec<_>>()),
        ColumnKind::Real => {
            let real = |cell: &Cell| match cell {
                Cell::Real(real) => *real,
                other => number(other) as f64,
            };
            Box::new(cells.map(real).collect::<Vec<f64>>())
        }
        ColumnKind::Bytes => {
            let bytes = |cell: &Cell| match cell {
                Cell::Blob(bytes) => bytes.clone(),
                _ => Vec::new(),
            };
            Box::new(cells.map(bytes).collect::<Vec<Vec<u8>>>())
        }
    }
}

#[async_trait]
impl Movable for PostgresMovable {
    fn place(&self) -> &StorePlace {
        &self.place
    }

    async fn mark(&mut self) -> StoreResult<Option<Mark>> {
        mark(&self.connection).await.map_err(|what| self.fault(what))
    }

    async fn salt(&mut self) -> StoreResult<String> {
        let rows = self.rows("SELECT value FROM salt", &[]).await?;
        let row = rows.first().ok_or_else(|| self.fault(StoreErrorKind::Damaged(Cause::new("it has no salt"))))?;
        Ok(row.get(0))
    }

    async fn count(&mut self, part: MovedPart) -> StoreResult<u64> {
        let rows = self.rows(counting(part), &[]).await?;
        Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0) as u64))
    }

    async fn unused(&mut self) -> StoreResult<()> {
        let living = self.rows(LIVING, &[&(milliseconds(limits::LEASE) as f64)]).await?;
        refuse_living(&living).map_err(|what| self.fault(what))
    }

    async fn begin_source(&mut self, id: &str, other: &str) -> StoreResult<()> {
        self.unused().await?;
        let steps: [SentStatement<'_>; 3] =
            [("DELETE FROM move", vec![]), (PUT, vec![&id, &"source", &other, &""]), (END_LEASES, vec![])];
        self.transaction(&steps).await
    }

    async fn read(&mut self, part: MovedPart, after: &[MovedKey]) -> StoreResult<Chunk> {
        let Some((start, text, places)) = reading(part) else { return Ok(Chunk::default()) };
        let mut after = if after.is_empty() { start } else { after.to_vec() };
        let of_scope = match part {
            MovedPart::Scopes | MovedPart::States => Some(0),
            MovedPart::Figures => Some(1),
            _ => None,
        };
        loop {
            // The server sends all rows of an answer, however long they are.
            let most = match part {
                MovedPart::States | MovedPart::Events | MovedPart::Delivered => limits::MOVED_LONG_AT_ONCE,
                _ => limits::MOVED_AT_ONCE,
            };
            let keys: Vec<KeyParameter<'_>> = after.iter().map(KeyParameter).collect();
            let mut parameters: Vec<&(dyn ToSql + Sync)> = keys.iter().map(|key| key as &(dyn ToSql + Sync)).collect();
            parameters.push(&most);
            let found = self.rows(text, &parameters).await?;
            let cells = |row: &Row| (0..row.len()).map(|column| cell(row, column)).collect::<Result<MovedRow, _>>();
            let mut rows: Vec<MovedRow> =
                found.iter().map(cells).collect::<Result<_, _>>().map_err(|what| self.fault(what))?;
            let Some(last) = rows.last().map(|row| key(row, places)) else { return Ok(Chunk::default()) };
            if let Some(place) = of_scope {
                let stale = self.stale().await?;
                rows.retain(|row| !matches!(row[place], Cell::Integer(scope) if stale.contains(&scope)));
            }
            if !rows.is_empty() {
                return Ok(Chunk { rows, last });
            }
            after = last;
        }
    }

    async fn last_event(&mut self) -> StoreResult<i64> {
        let rows = self.rows(LAST_EVENT, &[]).await?;
        Ok(rows.first().map_or(0, |row| row.get(0)))
    }

    async fn leave(&mut self, id: &str) -> StoreResult<()> {
        match self.rows(LEAVE, &[&id]).await?.is_empty() {
            true => Err(self.fault(StoreErrorKind::Move(MoveFault::Disturbed))),
            false => Ok(()),
        }
    }

    async fn begin_target(&mut self, id: &str, other: &str, salt: &str) -> StoreResult<()> {
        self.unused().await?;
        let steps: [SentStatement<'_>; 5] = [
            ("DELETE FROM move", vec![]),
            (PUT, vec![&id, &"target", &other, &"{}"]),
            (END_LEASES, vec![]),
            (EMPTY, vec![]),
            ("UPDATE salt SET value = $1", vec![&salt]),
        ];
        self.transaction(&steps).await
    }

    fn holds_nul(&self) -> bool {
        false
    }

    async fn write(&mut self, id: &str, part: MovedPart, rows: Vec<MovedRow>, progress: &str) -> StoreResult<()> {
        let (kinds, texts) = writing(part);
        let place = |place, kind| if matches!(kind, ColumnKind::Shard) { tenant(part) } else { place };
        let columns: Vec<_> = kinds
            .iter()
            .enumerate()
            .map(|(index, kind)| column(&rows, *kind, place(index, *kind), self.shards))
            .collect();
        let parameters: Vec<&(dyn ToSql + Sync)> =
            columns.iter().map(|column| &**column as &(dyn ToSql + Sync)).collect();
        let mut steps: Vec<SentStatement<'_>> = texts.iter().map(|text| (*text, parameters.clone())).collect();
        steps.push(("UPDATE move SET progress = $2 WHERE id = $1", vec![&id, &progress]));
        self.transaction(&steps).await
    }

    async fn arrive(&mut self, id: &str, last_event: i64) -> StoreResult<()> {
        let steps: [SentStatement<'_>; 4] = [
            ("DELETE FROM delivered_bytes", vec![]),
            (SUM_DELIVERED, vec![]),
            (CONTINUE, vec![&last_event]),
            ("DELETE FROM move WHERE id = $1", vec![&id]),
        ];
        self.transaction(&steps).await?;
        // The tables were empty when the server last looked.
        let tables = "feed, scope, state, figure, history, outbox, kept, throttle, delivered";
        let analysed = self.connection.run(&format!("ANALYZE {tables}")).await;
        analysed.map_err(|what| self.fault(what))
    }

    async fn close(&mut self) -> StoreResult<()> {
        Ok(())
    }
}
