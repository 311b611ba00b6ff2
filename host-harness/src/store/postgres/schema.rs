//! The schema of the database, step by step. Whoever may make the tables takes the steps, one collector at a time; a role
//! without that right is told what the owner runs.

use super::connection::Connection;
use super::fault::{SCHEMA, ServerFault, identifier};
use crate::limits;
use crate::store::StoreErrorKind;

/// Keeps two collectors from taking steps at the same time: "HHSC".
const ADVISORY_LOCK: i64 = 0x4848_5343;

/// The steps of the schema, in order. A released step never changes, and each is one that the version before it can work
/// with: collectors of both versions run side by side while they are upgraded one by one.
///
/// No foreign keys: each insert would lock the row that it refers to, and only the holder of a shard writes its rows.
/// Free space in the pages of tables whose rows change (`fillfactor`) lets the server change a row beside its old version,
/// without touching an index; no index has a column that changes.
const STEPS: &[&str] = &["
    CREATE TABLE salt (value text NOT NULL);
    INSERT INTO salt VALUES (replace(gen_random_uuid()::text, '-', ''));

    -- A row for each process. Its heartbeats change a row every few seconds: vacuum by number, not by share.
    CREATE TABLE collector (
        id text PRIMARY KEY,
        name text NOT NULL,
        version text NOT NULL,
        configuration text NOT NULL,
        listen text,
        feeds integer[] NOT NULL,
        polls integer[] NOT NULL,
        known bigint[] NOT NULL,
        started timestamptz NOT NULL DEFAULT clock_timestamp(),
        heartbeat timestamptz NOT NULL DEFAULT clock_timestamp()
    ) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

    CREATE TABLE shard (
        shard smallint PRIMARY KEY,
        holder text,
        epoch bigint NOT NULL DEFAULT 0,
        since timestamptz
    ) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);
    INSERT INTO shard (shard) SELECT generate_series(0, {last_shard});

    -- The number of the last transaction of each process: after a lost connection it tells whether the transaction is there.
    CREATE TABLE writer (
        collector text PRIMARY KEY,
        commits bigint NOT NULL,
        used timestamptz NOT NULL DEFAULT clock_timestamp()
    ) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

    CREATE TABLE feed (
        shard smallint NOT NULL,
        feed text NOT NULL,
        searched_with text NOT NULL,
        configured_as text NOT NULL,
        PRIMARY KEY (shard, feed)
    );

    CREATE TABLE scope (
        feed text NOT NULL,
        scope text NOT NULL,
        tenant text NOT NULL,
        shard smallint NOT NULL,
        number bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
        discovered text NOT NULL,
        standing text NOT NULL,
        figure text,
        written bigint NOT NULL,
        PRIMARY KEY (feed, scope, tenant)
    ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
    CREATE INDEX scope_shard ON scope (shard, number);

    CREATE TABLE state (
        scope bigint PRIMARY KEY,
        value bytea NOT NULL
    ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

    -- The last figure of each subject, so that a poll compares without reading the history.
    CREATE TABLE figure (
        scope bigint NOT NULL,
        subject text NOT NULL,
        time bigint NOT NULL,
        kind text NOT NULL,
        title text NOT NULL,
        value double precision NOT NULL,
        maximum double precision NOT NULL,
        weight double precision NOT NULL,
        PRIMARY KEY (scope, subject)
    ) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

    -- The one table that grows for 400 days. Its partitions are vacuumed, frozen and reindexed each by itself.
    CREATE TABLE history (
        shard smallint NOT NULL,
        scope bigint NOT NULL,
        subject text NOT NULL,
        time bigint NOT NULL,
        kind text NOT NULL,
        title text NOT NULL,
        value double precision NOT NULL,
        maximum double precision NOT NULL,
        weight double precision NOT NULL,
        PRIMARY KEY (shard, scope, subject, time)
    ) PARTITION BY RANGE (shard);
    CREATE INDEX history_time ON history (shard, time);
    {partitions}

    -- In one piece: rows are few and short-lived, and reading in order needs each index but once. Rows leave as fast as they
    -- come: vacuum before a hundredth is dead, so that readers do not step over removed rows.
    CREATE TABLE outbox (
        number bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
        shard smallint NOT NULL,
        sink text NOT NULL,
        tenant text NOT NULL,
        feed text NOT NULL,
        scope text NOT NULL,
        uid text NOT NULL,
        time bigint NOT NULL,
        body bytea NOT NULL
    ) WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0.01);
    CREATE INDEX outbox_shard ON outbox (shard, sink, number);
    CREATE INDEX outbox_tenant ON outbox (sink, tenant, number);
    CREATE INDEX outbox_feed ON outbox (sink, feed, number);

    -- The bytes that each feed keeps. One transaction changes a row once, and only the holder of the tenant's shard does.
    CREATE TABLE kept (
        tenant text NOT NULL,
        feed text NOT NULL,
        shard smallint NOT NULL,
        bytes bigint NOT NULL,
        PRIMARY KEY (tenant, feed)
    ) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0.05);
    CREATE INDEX kept_shard ON kept (shard);

    CREATE TABLE throttle (
        credential text NOT NULL,
        origin text NOT NULL,
        until bigint NOT NULL,
        PRIMARY KEY (credential, origin)
    ) WITH (fillfactor = 70);
", "
    -- The mark of a move from or to another place: at most one row. While it is there, nobody takes a shard.
    CREATE TABLE move (id text PRIMARY KEY, role text NOT NULL, other text NOT NULL, progress text NOT NULL);

    -- Delivered events of sinks that keep them, with the numbers that they had in the outbox, and the sums of their bytes.
    CREATE TABLE delivered (
        number bigint PRIMARY KEY,
        shard smallint NOT NULL,
        sink text NOT NULL,
        tenant text NOT NULL,
        feed text NOT NULL,
        scope text NOT NULL,
        uid text NOT NULL,
        time bigint NOT NULL,
        body bytea NOT NULL,
        delivered bigint NOT NULL,
        until bigint NOT NULL
    ) WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0.01);
    CREATE INDEX delivered_until ON delivered (sink, tenant, until, number);
    CREATE TABLE delivered_bytes (
        sink text NOT NULL,
        tenant text NOT NULL,
        bytes bigint NOT NULL,
        PRIMARY KEY (sink, tenant)
    ) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0.05);
"];

/// Number of partitions of the history.
const PARTITIONS: u16 = 8;

/// The last step that this version knows.
pub const KNOWN: u32 = STEPS.len() as u32;

/// Tables that a collector only reads.
const READ_ONLY: &str = "salt, schema_step";

/// Tables whose rows are there from the beginning, and change.
const FIXED: &str = "shard";

/// Tables of a collector's own rows.
const WRITTEN: &str = "collector, writer, feed, scope, state, figure, history, outbox, kept, throttle, move, \
                       delivered, delivered_bytes";

/// Returns the statements that make or update the schema, in one transaction. They do nothing where all is there.
pub fn script() -> String {
    let mut script = format!(
        "BEGIN;
SELECT pg_advisory_xact_lock({ADVISORY_LOCK});
DO $make$ BEGIN
    IF to_regnamespace('{SCHEMA}') IS NULL THEN EXECUTE 'CREATE SCHEMA {SCHEMA}'; END IF;
    IF to_regclass('{SCHEMA}.schema_step') IS NULL THEN
        EXECUTE 'CREATE TABLE {SCHEMA}.schema_step (step integer PRIMARY KEY, taken timestamptz NOT NULL DEFAULT now())';
    END IF;
END $make$;
SET LOCAL search_path = {SCHEMA};
"
    );
    let partitions: String = (0..PARTITIONS)
        .map(|index| {
            let width = limits::SHARDS / PARTITIONS;
            let (from, to) = (index * width, (index + 1) * width);
            format!("CREATE TABLE history_{index} PARTITION OF history FOR VALUES FROM ({from}) TO ({to});\n    ")
        })
        .collect();
    for (step, text) in (1..).zip(STEPS) {
        let text = text
            .replace("{last_shard}", &(limits::SHARDS - 1).to_string())
            .replace("{partitions}", partitions.trim_end());
        script += &format!(
            "DO $step$ BEGIN
IF NOT EXISTS (SELECT FROM schema_step WHERE step >= {step}) THEN EXECUTE $sql${text}
    INSERT INTO schema_step (step) VALUES ({step});
$sql$; END IF; END $step$;
"
        );
    }
    script + "COMMIT;\n"
}

/// Returns the statements that give a role the rights that a collector needs, and no others: it makes and drops nothing.
pub fn grants(role: &str) -> String {
    let role = identifier(role);
    format!(
        "SET search_path = {SCHEMA};
GRANT USAGE ON SCHEMA {SCHEMA} TO {role};
GRANT SELECT ON {READ_ONLY} TO {role};
GRANT SELECT, UPDATE ON {FIXED} TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON {WRITTEN} TO {role};
"
    )
}

/// Checks the schema of a database, and updates it if need be.
pub(super) async fn prepare(connection: &Connection) -> Result<(), StoreErrorKind> {
    if step(connection).await? < KNOWN {
        if let Err(error) = connection.run(&script()).await {
            // The transaction is still open after an error.
            connection.run("ROLLBACK").await?;
            return Err(error);
        }
        step(connection).await?;
    }
    // The table has no key: a backup that was restored over it has added a row.
    let row = connection.row("SELECT count(*) FROM host_harness.salt", &[]).await?;
    match row.map_or(0, |row| row.get(0)) {
        1 => Ok(()),
        salts => Err(StoreErrorKind::Server(ServerFault::Mixed { salts })),
    }
}

/// Checks the schema of a database that is only read.
pub(super) async fn check(connection: &Connection) -> Result<(), StoreErrorKind> {
    match step(connection).await? {
        found if found < KNOWN => Err(StoreErrorKind::Older { found, known: KNOWN }),
        _ => Ok(()),
    }
}

/// Returns the last step that was taken; 0 if no collector used the database so far.
pub(super) async fn step(connection: &Connection) -> Result<u32, StoreErrorKind> {
    let row = connection.row(
        "SELECT count(*) > 0, coalesce(bool_or(relname = 'schema_step'), false) FROM pg_class
         JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = $1",
        &[&SCHEMA],
    );
    let row = row.await?;
    let told = |column: usize| row.as_ref().is_some_and(|row| row.get::<_, bool>(column));
    let (has_tables, has_steps) = (told(0), told(1));
    if !has_tables {
        return Ok(0);
    }
    if !has_steps {
        return Err(StoreErrorKind::Server(ServerFault::Foreign { host: connection.host().to_owned() }));
    }
    let row = connection.row("SELECT coalesce(max(step), 0) FROM host_harness.schema_step", &[]).await?;
    let found = row.map_or(0, |row| row.get::<_, i32>(0)) as u32;
    // The next step is made for this version too.
    match found > KNOWN + 1 {
        true => Err(StoreErrorKind::Newer { found, known: KNOWN + 1 }),
        false => Ok(found),
    }
}
