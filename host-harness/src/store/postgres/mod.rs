//! The store in a PostgreSQL database that several collectors share. Commits of polls go through one connection, one
//! transaction after the other; questions share a second connection, and the rows of the fleet have a third, so that a
//! long answer delays no renewal.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use source_host::cause::Cause;
use source_host::contract::Scope;
use source_host::digest::ShortDigest;
use source_host::limits::milliseconds;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_postgres::Row;

pub mod address;
mod connection;
mod delivered;
pub mod fault;
mod members;
pub mod moving;
pub mod reading;
pub mod schema;
mod tls;
mod writer;
mod writing;

use self::address::ServerAddress;
use self::connection::{Link, LinkPurpose, Parameters, Primary};
use self::reading::PostgresReader;
use self::writer::Write;
use super::budget::StoredBytes;
use super::fleet::FleetStore;
use super::reading::StoreReader;
use super::shards::Lease;
use super::space::FreeSpace;
use super::{
    Backlog, FeedRow, Keep, KeptRow, Partition, PollRecord, Queued, ScopeRow, Standing, Store, StoreError,
    StoreErrorKind, StorePlace, StoreResult, Throttle,
};
use crate::limits;

/// A connected store.
pub struct PostgresStore {
    place: StorePlace,
    space: FreeSpace,
    address: Arc<ServerAddress>,
    shards: u16,
    questions: Link,
    renewals: Link,
    writes: mpsc::UnboundedSender<Write>,
    closing: Arc<Closing>,
    /// The shard whose events are read first: the next one after each delivery, so that no shard waits for another one.
    turn: AtomicUsize,
}

/// Tells everybody who waits for a server that the store closes.
#[derive(Default)]
struct Closing {
    is_closed: AtomicBool,
    told: Notify,
}

impl Closing {
    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Waits for a while; returns false if the store closes meanwhile.
    async fn pause(&self, time: std::time::Duration) -> bool {
        let told = self.told.notified();
        tokio::pin!(told);
        told.as_mut().enable();
        if self.is_closed() {
            return false;
        }
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            () = told => false,
        }
    }
}

impl PostgresStore {
    /// Connects to a database, and makes or updates its tables. A state that was moved, or is only a part of what is moved
    /// to it, is refused.
    pub async fn open(address: ServerAddress) -> StoreResult<PostgresStore> {
        let place = StorePlace::Server(address.to_string());
        let fault = |what| StoreError { place: place.clone(), what };
        let address = Arc::new(address);
        let primary = Primary::default();
        let link = |purpose| Link::new(Arc::clone(&address), purpose, primary.clone());
        let questions = link(LinkPurpose::Writing);
        let connection = questions.connection().await.map_err(fault)?;
        schema::prepare(&connection).await.map_err(fault)?;
        moving::settle(&connection).await.map_err(fault)?;
        let row = connection.row("SELECT count(*), replace(gen_random_uuid()::text, '-', '') FROM shard", &[]).await;
        let row = row.map_err(fault)?.ok_or_else(|| fault(StoreErrorKind::Other(Cause::new("no answer"))))?;
        let (shards, me): (i64, String) = (row.get(0), row.get(1));
        let closing = Arc::<Closing>::default();
        let writes = writer::start(link(LinkPurpose::Writing), place.clone(), me, Arc::clone(&closing));
        Ok(PostgresStore {
            place: place.clone(),
            space: FreeSpace::new(|| None),
            shards: shards as u16,
            questions,
            renewals: link(LinkPurpose::Writing),
            address: Arc::clone(&address),
            writes,
            closing,
            turn: AtomicUsize::new(0),
        })
    }

    fn fault(&self, what: StoreErrorKind) -> StoreError {
        StoreError { place: self.place.clone(), what }
    }

    /// Asks a question that may be repeated.
    async fn rows(&self, text: &'static str, parameters: Parameters<'_>) -> StoreResult<Vec<Row>> {
        let rows = self.questions.rows(text, parameters, &self.closing, limits::STORE_PATIENCE).await;
        rows.map_err(|what| self.fault(what))
    }

    async fn write<T>(&self, make: impl FnOnce(oneshot::Sender<Result<T, StoreErrorKind>>) -> Write) -> StoreResult<T> {
        let (answer, waiting) = oneshot::channel();
        self.writes.send(make(answer)).map_err(|_| self.fault(StoreErrorKind::Stopped))?;
        waiting.await.unwrap_or(Err(StoreErrorKind::Stopped)).map_err(|what| self.fault(what))
    }
}

/// The numbers of leases, and their epochs.
fn columns(leases: &[Lease]) -> (Vec<i16>, Vec<i64>) {
    (
        leases.iter().map(|lease| lease.shard as i16).collect(),
        leases.iter().map(|lease| i64::from(lease.epoch)).collect(),
    )
}

fn digest(row: &Row, column: usize) -> Result<ShortDigest, StoreErrorKind> {
    let text: &str = row.get(column);
    text.parse().map_err(|error| StoreErrorKind::Damaged(Cause::new(format!("the digest {text:?}: {error}"))))
}

fn scope_row(row: &Row) -> Result<ScopeRow, StoreErrorKind> {
    let unreadable = |error: serde_json::Error| StoreErrorKind::Damaged(Cause::new(error));
    Ok(ScopeRow {
        feed: row.get(0),
        tenant: row.get(1),
        scope: serde_json::from_str::<Scope>(row.get(2)).map_err(unreadable)?,
        standing: serde_json::from_str::<Standing>(row.get(3)).map_err(unreadable)?,
    })
}

fn backlog(row: &Row) -> Backlog {
    let number = |column: usize| row.get::<_, i64>(column) as u64;
    let (sink, tenant, feed) = (row.get(0), row.get(1), row.get(2));
    Backlog { sink, tenant, feed, events: number(3), bytes: number(4), oldest: number(5) }
}

const KEEP_FEED: &str = "
    WITH held AS (SELECT shard FROM shard WHERE shard = $1 AND epoch = $2 AND holder IS NOT NULL FOR SHARE)
    INSERT INTO feed (shard, feed, searched_with, configured_as) SELECT shard, $3, $4, $5 FROM held
    ON CONFLICT (shard, feed) DO UPDATE SET
        searched_with = excluded.searched_with, configured_as = excluded.configured_as
    RETURNING shard";

const STATE: &str = "
    SELECT value FROM scope JOIN state ON state.scope = scope.number
    WHERE feed = $1 AND scope.scope = $2 AND tenant = $3";

const BACKLOG: &str = "
    SELECT sink, tenant, feed, count(*), sum(octet_length(body))::bigint, min(time) FROM outbox
    WHERE shard = ANY ($1) GROUP BY sink, tenant, feed ORDER BY sink, tenant, feed";

const ACKNOWLEDGE: &str = "
    WITH held AS (
        SELECT shard.shard FROM shard JOIN unnest($1::smallint[], $2::bigint[]) AS lease (shard, epoch) USING (shard)
        WHERE shard.epoch = lease.epoch AND shard.holder IS NOT NULL ORDER BY shard.shard FOR SHARE OF shard
    )
    DELETE FROM outbox USING held WHERE outbox.number = ANY ($3) AND outbox.shard = held.shard";

/// Returns a statement that reads the first events of a partition. `within` chooses the events, by the index that has
/// them in order; the sum of the bytes decides where to end before a body is read.
macro_rules! queued {
    ($within:literal) => {
        concat!(
            "SELECT number, shard, tenant, feed, scope, uid, time, body FROM (
                SELECT *, sum(octet_length(body)) OVER (ORDER BY turn, number) AS size,
                    row_number() OVER (ORDER BY turn, number) AS place
                FROM (",
            $within,
            ") AS event
            ) AS event WHERE size <= $4 OR place = 1 ORDER BY turn, number"
        )
    };
}

/// One shard after the other, so that events of other collectors' shards are not read.
const QUEUED: &str = queued!(
    "SELECT event.*, held.turn FROM unnest($1::smallint[]) WITH ORDINALITY AS held (shard, turn), LATERAL (
        SELECT * FROM outbox WHERE outbox.shard = held.shard AND sink = $2 AND tenant <> ALL ($5) ORDER BY number LIMIT $3
    ) AS event LIMIT $3"
);

const QUEUED_OF_TENANT: &str = queued!(
    "SELECT *, 0 AS turn FROM outbox WHERE sink = $2 AND tenant = $6 AND shard = ANY ($1) AND tenant <> ALL ($5)
    ORDER BY number LIMIT $3"
);

const QUEUED_OF_FEED: &str = queued!(
    "SELECT *, 0 AS turn FROM outbox WHERE sink = $2 AND feed = $6 AND shard = ANY ($1) AND tenant <> ALL ($5)
    ORDER BY number LIMIT $3"
);

const QUEUED_OF_BOTH: &str = queued!(
    "SELECT *, 0 AS turn FROM outbox
    WHERE sink = $2 AND feed = $6 AND tenant = $7 AND shard = ANY ($1) AND tenant <> ALL ($5) ORDER BY number LIMIT $3"
);

/// Rows of the history that a transaction removes at once. A figure holds until the next one: that of the oldest time
/// that is kept stays.
const PRUNE_HISTORY: &str = "
    WITH old AS (
        SELECT scope, subject, time FROM history
        WHERE shard = $1 AND time < $2 AND EXISTS (
            SELECT 1 FROM history AS newer
            WHERE newer.shard = $1 AND newer.scope = history.scope AND newer.subject = history.subject
                AND newer.time > history.time AND newer.time <= $2
        ) LIMIT $3
    ), gone AS (
        DELETE FROM history USING old
        WHERE history.shard = $1 AND history.scope = old.scope AND history.subject = old.subject AND history.time = old.time
        RETURNING history.scope,
            64 + octet_length(history.subject) + octet_length(history.kind) + octet_length(history.title) AS bytes
    ), sums AS (
        SELECT tenant, feed, sum(bytes)::bigint AS bytes FROM gone JOIN scope ON scope.shard = $1 AND scope.number = gone.scope
        GROUP BY tenant, feed
    ), less AS (
        UPDATE kept SET bytes = kept.bytes - sums.bytes FROM sums
        WHERE kept.tenant = sums.tenant AND kept.feed = sums.feed
    )
    SELECT count(*) FROM gone";

#[async_trait]
impl Store for PostgresStore {
    async fn salt(&self) -> StoreResult<String> {
        let rows = self.rows("SELECT value FROM salt", &[]).await?;
        let row = rows.first().ok_or_else(|| self.fault(StoreErrorKind::Damaged(Cause::new("it has no salt"))))?;
        Ok(row.get(0))
    }

    async fn feeds(&self, shards: &[Lease]) -> StoreResult<Vec<FeedRow>> {
        let (shards, _) = columns(shards);
        let rows =
            self.rows("SELECT feed, searched_with, configured_as FROM feed WHERE shard = ANY ($1)", &[&shards]).await?;
        let feed = |row: &Row| {
            Ok(FeedRow { feed: row.get(0), searched_with: digest(row, 1)?, configured_as: digest(row, 2)? })
        };
        rows.iter().map(feed).collect::<Result<_, _>>().map_err(|what| self.fault(what))
    }

    async fn keep_feed(&self, lease: Lease, row: FeedRow) -> StoreResult<()> {
        let (shard, epoch) = (lease.shard as i16, i64::from(lease.epoch));
        let (searched_with, configured_as) = (row.searched_with.to_string(), row.configured_as.to_string());
        let written = self.rows(KEEP_FEED, &[&shard, &epoch, &row.feed, &searched_with, &configured_as]).await?;
        match written.is_empty() {
            true => Err(self.fault(StoreErrorKind::Fenced { shard: lease.shard })),
            false => Ok(()),
        }
    }

    async fn scopes(&self, shards: &[Lease]) -> StoreResult<Vec<ScopeRow>> {
        let (shards, _) = columns(shards);
        let text = "SELECT feed, tenant, discovered, standing FROM scope WHERE shard = ANY ($1) ORDER BY number";
        let rows = self.rows(text, &[&shards]).await?;
        rows.iter().map(scope_row).collect::<Result<_, _>>().map_err(|what| self.fault(what))
    }

    async fn state(&self, tenant: &str, feed: &str, scope: &str) -> StoreResult<Option<Vec<u8>>> {
        let rows = self.rows(STATE, &[&feed, &scope, &tenant]).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    async fn commit(&self, poll: Arc<PollRecord>) -> StoreResult<StoredBytes> {
        self.write(|answer| Write::Commit { poll, answer }).await
    }

    async fn kept(&self, shards: &[Lease]) -> StoreResult<Vec<KeptRow>> {
        let (shards, _) = columns(shards);
        let text = "SELECT tenant, feed, bytes FROM kept WHERE shard = ANY ($1) ORDER BY tenant, feed";
        let rows = self.rows(text, &[&shards]).await?;
        let kept = |row: &Row| KeptRow { tenant: row.get(0), feed: row.get(1), bytes: row.get::<_, i64>(2) as u64 };
        Ok(rows.iter().map(kept).collect())
    }

    async fn keep_scopes(&self, lease: Lease, rows: Vec<ScopeRow>) -> StoreResult<()> {
        self.write(|answer| Write::Scopes { lease, rows, answer }).await
    }

    async fn forget_scopes(&self, lease: Lease, feed: &str, scopes: Vec<String>) -> StoreResult<()> {
        self.write(|answer| Write::Forget { lease, feed: feed.to_owned(), scopes, answer }).await
    }

    async fn keep_throttle(&self, throttle: Throttle) -> StoreResult<()> {
        let (credentials, until) = (vec![throttle.credential.to_string()], vec![throttle.until as i64]);
        let origins = vec![throttle.origin];
        self.rows(writing::KEEP_THROTTLES, &[&credentials, &origins, &until]).await.map(drop)
    }

    async fn throttles(&self, now: u64) -> StoreResult<Vec<Throttle>> {
        let latest = now.saturating_add(milliseconds(limits::LONGEST_WAIT));
        let text = "SELECT credential, origin, until FROM throttle WHERE until > $1";
        let rows = self.rows(text, &[&(now as i64)]).await?;
        let throttle = |row: &Row| {
            let until = (row.get::<_, i64>(2) as u64).min(latest);
            Ok(Throttle { credential: digest(row, 0)?, origin: row.get(1), until })
        };
        rows.iter().map(throttle).collect::<Result<_, _>>().map_err(|what| self.fault(what))
    }

    async fn backlog(&self, shards: &[Lease]) -> StoreResult<Vec<Backlog>> {
        let (shards, _) = columns(shards);
        Ok(self.rows(BACKLOG, &[&shards]).await?.iter().map(backlog).collect())
    }

    async fn queued(
        &self,
        shards: &[Lease],
        partition: &Partition,
        without: Vec<String>,
        events: usize,
        bytes: usize,
    ) -> StoreResult<Vec<Queued>> {
        let leases: HashMap<u16, Lease> = shards.iter().map(|lease| (lease.shard, *lease)).collect();
        let (mut shards, _) = columns(shards);
        let turn = self.turn.load(Ordering::Relaxed) % shards.len().max(1);
        shards.rotate_left(turn);
        let (events, bytes) = (i64::try_from(events).unwrap_or(i64::MAX), i64::try_from(bytes).unwrap_or(i64::MAX));
        let sink = &partition.sink;
        let rows = match (&partition.tenant, &partition.feed) {
            (None, None) => self.rows(QUEUED, &[&shards, sink, &events, &bytes, &without]).await?,
            (Some(tenant), None) => {
                self.rows(QUEUED_OF_TENANT, &[&shards, sink, &events, &bytes, &without, tenant]).await?
            }
            (None, Some(feed)) => self.rows(QUEUED_OF_FEED, &[&shards, sink, &events, &bytes, &without, feed]).await?,
            (Some(tenant), Some(feed)) => {
                self.rows(QUEUED_OF_BOTH, &[&shards, sink, &events, &bytes, &without, feed, tenant]).await?
            }
        };
        let queued = |row: &Row| {
            Some(Queued {
                lease: *leases.get(&(row.get::<_, i16>(1) as u16))?,
                number: row.get(0),
                tenant: row.get(2),
                feed: row.get(3),
                scope: row.get(4),
                uid: row.get(5),
                time: row.get::<_, i64>(6) as u64,
                body: row.get(7),
            })
        };
        Ok(rows.iter().filter_map(queued).collect())
    }

    async fn acknowledge(&self, events: &[Queued]) -> StoreResult<()> {
        let leases: HashMap<u16, Lease> = events.iter().map(|event| (event.lease.shard, event.lease)).collect();
        let (shards, epochs) = columns(&leases.into_values().collect::<Vec<_>>());
        let numbers: Vec<i64> = events.iter().map(|event| event.number).collect();
        self.rows(ACKNOWLEDGE, &[&shards, &epochs, &numbers]).await?;
        self.turn.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn keep_delivered(&self, events: &[Queued], keep: Keep) -> StoreResult<()> {
        self.move_delivered(events, keep).await?;
        self.turn.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn close(&self) -> StoreResult<()> {
        self.closing.is_closed.store(true, Ordering::SeqCst);
        self.closing.told.notify_waiters();
        // Polls that wait to be written are written; a server that cannot be reached is not waited for.
        let closed = self.write(|answer| Write::Close { answer }).await;
        self.questions.end().await;
        self.renewals.end().await;
        match closed {
            Err(StoreError { what: StoreErrorKind::Stopped, .. }) => Ok(()),
            other => other,
        }
    }

    async fn prune(&self, before: u64, now: u64) -> StoreResult<()> {
        let server: i64 =
            self.rows("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint", &[]).await?[0].get(0);
        // The rows are those of all collectors: one whose clock is ahead removes nothing that is young by the server's.
        let ahead = now.saturating_sub(server as u64);
        let (before, now) = (before.saturating_sub(ahead), now - ahead);
        // Whoever prunes does it for all: the rows of a dead collector's shards get old, too.
        for shard in 0..self.shards {
            loop {
                let most = limits::PRUNED_AT_ONCE;
                let rows = self.rows(PRUNE_HISTORY, &[&(shard as i16), &(before as i64), &most]).await?;
                if rows.first().is_none_or(|row| row.get::<_, i64>(0) < most) {
                    break;
                }
            }
        }
        self.forget_delivered(now).await?;
        self.rows("DELETE FROM throttle WHERE until <= $1", &[&(now as i64)]).await?;
        self.rows("DELETE FROM writer WHERE used < clock_timestamp() - interval '1 day'", &[]).await.map(drop)
    }

    fn reader(&self) -> StoreResult<Box<dyn StoreReader>> {
        Ok(Box::new(PostgresReader::open((*self.address).clone())?))
    }

    fn space(&self) -> &FreeSpace {
        &self.space
    }

    fn place(&self) -> &StorePlace {
        &self.place
    }

    fn fleet(&self) -> Option<&dyn FleetStore> {
        Some(self)
    }
}
