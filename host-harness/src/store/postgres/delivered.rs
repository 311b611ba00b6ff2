//! Delivered events of sinks that keep them, and their way back into the outbox.

use tokio_postgres::Row;

use super::moving::{LIVING, refuse_living};
use super::{PostgresStore, columns};
use crate::limits;
use crate::store::moving::MoveFault;
use crate::store::shards::Lease;
use crate::store::{DeliveredCount, DeliveredQuery, Keep, Queued, StoreErrorKind, StoreResult};
use source_host::limits::milliseconds;

/// Moves events whose leases hold out of the outbox. Returns the sinks and tenants of the events.
const KEEP: &str = "
    WITH held AS (
        SELECT shard.shard FROM shard JOIN unnest($1::smallint[], $2::bigint[]) AS lease (shard, epoch) USING (shard)
        WHERE shard.epoch = lease.epoch AND shard.holder IS NOT NULL ORDER BY shard.shard FOR SHARE OF shard
    ), gone AS (
        DELETE FROM outbox USING held WHERE outbox.number = ANY ($3) AND outbox.shard = held.shard RETURNING outbox.*
    ), kept AS (
        INSERT INTO delivered (number, shard, sink, tenant, feed, scope, uid, time, body, delivered, until)
        SELECT number, shard, sink, tenant, feed, scope, uid, time, body, $4, $5 FROM gone
        ON CONFLICT (number) DO NOTHING RETURNING sink, tenant, octet_length(body) AS bytes
    )
    INSERT INTO delivered_bytes (sink, tenant, bytes) SELECT sink, tenant, sum(bytes)::bigint FROM kept GROUP BY sink, tenant
    ON CONFLICT (sink, tenant) DO UPDATE SET bytes = delivered_bytes.bytes + excluded.bytes
    RETURNING sink, tenant";

/// Forgets some events of a tenant that were kept for long enough. Returns the bytes of the others, and how many went.
const FORGET_OLD: &str = "
    WITH old AS (
        SELECT number FROM delivered WHERE sink = $1 AND tenant = $2 AND until <= $3 ORDER BY until, number LIMIT $4
    ), gone AS (
        DELETE FROM delivered USING old WHERE delivered.number = old.number RETURNING octet_length(body) AS bytes
    )
    UPDATE delivered_bytes SET bytes = bytes - (SELECT coalesce(sum(gone.bytes), 0) FROM gone)
    WHERE sink = $1 AND tenant = $2 RETURNING bytes, (SELECT count(*) FROM gone)";

/// Forgets the first events of a tenant, of so many bytes or a little more. Returns the same.
const FORGET_BYTES: &str = "
    WITH first AS (
        SELECT number, octet_length(body) AS bytes, sum(octet_length(body)) OVER (ORDER BY until, number) AS size FROM (
            SELECT number, until, body FROM delivered WHERE sink = $1 AND tenant = $2 ORDER BY until, number LIMIT $4
        ) AS event
    ), gone AS (
        DELETE FROM delivered USING first WHERE delivered.number = first.number AND first.size - first.bytes < $3
        RETURNING octet_length(body) AS bytes
    )
    UPDATE delivered_bytes SET bytes = bytes - (SELECT coalesce(sum(gone.bytes), 0) FROM gone)
    WHERE sink = $1 AND tenant = $2 RETURNING bytes, (SELECT count(*) FROM gone)";

const COUNT: &str = "
    SELECT tenant, feed, count(*), sum(octet_length(body))::bigint FROM delivered
    WHERE sink = $1 AND delivered >= $2 AND delivered < $3 AND ($4::text IS NULL OR tenant = $4)
        AND ($5::text IS NULL OR feed = $5)
    GROUP BY tenant, feed ORDER BY tenant, feed";

const REDELIVER: &str = "
    WITH alone AS MATERIALIZED (
        SELECT pg_try_advisory_xact_lock(hashtext('host_harness'), hashtext('move')) AND NOT EXISTS (
            SELECT FROM collector WHERE heartbeat > clock_timestamp() - $7 * interval '1 millisecond'
        ) AS is_alone
    ), chosen AS (
        SELECT number FROM delivered
        WHERE (SELECT is_alone FROM alone) AND number > $8 AND sink = $1 AND delivered >= $2 AND delivered < $3
            AND ($4::text IS NULL OR tenant = $4) AND ($5::text IS NULL OR feed = $5)
        ORDER BY number LIMIT $6
    ), gone AS (
        DELETE FROM delivered USING chosen WHERE delivered.number = chosen.number RETURNING delivered.*
    ), back AS (
        INSERT INTO outbox (number, shard, sink, tenant, feed, scope, uid, time, body) OVERRIDING SYSTEM VALUE
        SELECT number, shard, sink, tenant, feed, scope, uid, time, body FROM gone ON CONFLICT (number) DO NOTHING
    ), sums AS (
        SELECT sink, tenant, sum(octet_length(body))::bigint AS bytes FROM gone GROUP BY sink, tenant
    ), less AS (
        UPDATE delivered_bytes SET bytes = delivered_bytes.bytes - sums.bytes FROM sums
        WHERE delivered_bytes.sink = sums.sink AND delivered_bytes.tenant = sums.tenant
    )
    SELECT (SELECT count(*) FROM gone), is_alone, (SELECT max(number) FROM gone) FROM alone";

impl PostgresStore {
    /// Moves delivered events out of the outbox, and forgets those that were kept for long enough or have no room. Events
    /// whose lease is over stay in the outbox.
    pub(super) async fn move_delivered(&self, events: &[Queued], keep: Keep) -> StoreResult<()> {
        let leases: std::collections::BTreeSet<Lease> = events.iter().map(|event| event.lease).collect();
        let (shards, epochs) = columns(&leases.into_iter().collect::<Vec<_>>());
        let numbers: Vec<i64> = events.iter().map(|event| event.number).collect();
        let (now, until) = (keep.now as i64, keep.until() as i64);
        let moved = self.rows(KEEP, &[&shards, &epochs, &numbers, &now, &until]).await?;
        for row in moved {
            let (sink, tenant): (String, String) = (row.get(0), row.get(1));
            let (mut bytes, _) = self.forget(FORGET_OLD, &sink, &tenant, now).await?;
            let most = i64::try_from(keep.bytes).unwrap_or(i64::MAX);
            while bytes > most {
                let (left, gone) = self.forget(FORGET_BYTES, &sink, &tenant, bytes - most).await?;
                if gone == 0 {
                    break;
                }
                bytes = left;
            }
        }
        Ok(())
    }

    async fn forget(&self, text: &'static str, sink: &str, tenant: &str, what: i64) -> StoreResult<(i64, i64)> {
        let some = limits::REDELIVERED_AT_ONCE as i64;
        let rows = self.rows(text, &[&sink, &tenant, &what, &some]).await?;
        Ok(rows.first().map_or((0, 0), |row| (row.get(0), row.get(1))))
    }

    /// Forgets events of all sinks that were kept for long enough.
    pub(super) async fn forget_delivered(&self, now: u64) -> StoreResult<()> {
        let sums = self.rows("SELECT sink, tenant FROM delivered_bytes", &[]).await?;
        for row in sums {
            let (sink, tenant): (String, String) = (row.get(0), row.get(1));
            while self.forget(FORGET_OLD, &sink, &tenant, now as i64).await?.1 > 0 {}
        }
        self.rows("DELETE FROM delivered_bytes WHERE bytes = 0", &[]).await.map(drop)
    }

    /// Refuses while a collector uses the store.
    pub async fn unused(&self) -> StoreResult<()> {
        let living = self.rows(LIVING, &[&(milliseconds(limits::LEASE) as f64)]).await?;
        refuse_living(&living).map_err(|what| self.fault(what))
    }

    /// Counts the kept events that a query chooses, by tenant and feed.
    pub async fn count_delivered(&self, query: &DeliveredQuery) -> StoreResult<Vec<DeliveredCount>> {
        let DeliveredQuery { sink, since, until, tenant, feed } = query;
        let rows = self.rows(COUNT, &[sink, &(*since as i64), &(*until as i64), tenant, feed]).await?;
        let count = |row: &Row| DeliveredCount {
            tenant: row.get(0),
            feed: row.get(1),
            events: row.get::<_, i64>(2) as u64,
            bytes: row.get::<_, i64>(3) as u64,
        };
        Ok(rows.iter().map(count).collect())
    }

    /// Puts the next kept events that a query chooses, of those after a number, back into the outbox, under the numbers that
    /// they had: before all that wait, and in their old order. Returns how many these are, with the number of the last one;
    /// `None` if there are no more. Refuses while a collector or a move uses the store.
    pub async fn redeliver(&self, query: &DeliveredQuery, after: i64) -> StoreResult<Option<(usize, i64)>> {
        let DeliveredQuery { sink, since, until, tenant, feed } = query;
        let some = limits::REDELIVERED_AT_ONCE as i64;
        let lease = milliseconds(limits::LEASE) as f64;
        let (since, until) = (*since as i64, *until as i64);
        let rows = self.rows(REDELIVER, &[sink, &since, &until, tenant, feed, &some, &lease, &after]).await?;
        match rows.first().map(|row| (row.get::<_, i64>(0), row.get(1), row.get::<_, Option<i64>>(2))) {
            Some((_, false, _)) => {
                self.unused().await?;
                Err(self.fault(StoreErrorKind::Move(MoveFault::Busy)))
            }
            moved => Ok(moved.and_then(|(moved, _, last)| Some((moved as usize, last?)))),
        }
    }
}
