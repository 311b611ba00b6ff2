//! Delivered events of sinks that keep them, and their way back into the outbox.

use rusqlite::{Connection, Transaction, params};

use super::SqliteStore;
use crate::limits;
use crate::store::{DeliveredCount, DeliveredQuery, Keep, StoreResult};

/// Conditions of a query, with its values as parameters.
const CHOSEN: &str = "sink = ?1 AND delivered >= ?2 AND delivered < ?3 AND (?4 IS NULL OR tenant = ?4) \
                      AND (?5 IS NULL OR feed = ?5)";

impl SqliteStore {
    /// Moves delivered events out of the outbox, and forgets those that were kept for long enough or have no room.
    pub fn keep_delivered(&mut self, numbers: &[i64], keep: Keep) -> StoreResult<()> {
        self.run(|connection| {
            let transaction = connection.transaction()?;
            for number in numbers {
                transaction
                    .prepare_cached(
                        "INSERT OR IGNORE INTO delivered
                         SELECT number, sink, tenant, feed, scope, uid, time, body, ?2, ?3 FROM outbox WHERE number = ?1",
                    )?
                    .execute(params![number, keep.now as i64, keep.until() as i64])?;
                transaction.prepare_cached("DELETE FROM outbox WHERE number = ?1")?.execute([number])?;
            }
            let mut partitions: Vec<(String, String)> = transaction
                .prepare_cached("SELECT DISTINCT sink, tenant FROM delivered WHERE number IN (SELECT value FROM json_each(?1))")?
                .query_map([serde_json::json!(numbers).to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()?;
            partitions.dedup();
            for (sink, tenant) in &partitions {
                bound(&transaction, sink, tenant, keep)?;
            }
            transaction.commit()
        })
    }

    /// Counts the kept events that a query chooses, by tenant and feed.
    pub fn count_delivered(&mut self, query: &DeliveredQuery) -> StoreResult<Vec<DeliveredCount>> {
        self.run(|connection| {
            let mut select = connection.prepare(&format!(
                "SELECT tenant, feed, count(*), sum(length(body)) FROM delivered WHERE {CHOSEN}
                 GROUP BY tenant, feed ORDER BY tenant, feed"
            ))?;
            let DeliveredQuery { sink, since, until, tenant, feed } = query;
            let rows = select.query_map(params![sink, *since as i64, *until as i64, tenant, feed], |row| {
                let (events, bytes) = (row.get::<_, i64>(2)? as u64, row.get::<_, i64>(3)? as u64);
                Ok(DeliveredCount { tenant: row.get(0)?, feed: row.get(1)?, events, bytes })
            })?;
            rows.collect()
        })
    }

    /// Puts the next kept events that a query chooses, of those after a number, back into the outbox, under the numbers that
    /// they had: before all that wait, and in their old order. Returns how many these are, with the number of the last one;
    /// `None` if there are no more.
    pub fn redeliver(&mut self, query: &DeliveredQuery, after: i64) -> StoreResult<Option<(usize, i64)>> {
        self.run(|connection| {
            let transaction = connection.transaction()?;
            let DeliveredQuery { sink, since, until, tenant, feed } = query;
            let numbers: Vec<i64> = transaction
                // In the order of the numbers: an index would give all events of the sink, to be sorted, each time.
                .prepare_cached(&format!(
                    "SELECT number FROM delivered NOT INDEXED WHERE number > ?7 AND {CHOSEN} ORDER BY number LIMIT ?6"
                ))?
                .query_map(
                    params![
                        sink,
                        *since as i64,
                        *until as i64,
                        tenant,
                        feed,
                        limits::REDELIVERED_AT_ONCE as i64,
                        after
                    ],
                    |row| row.get(0),
                )?
                .collect::<rusqlite::Result<_>>()?;
            for number in &numbers {
                transaction
                    .prepare_cached(
                        "INSERT OR IGNORE INTO outbox
                         SELECT number, sink, tenant, feed, scope, uid, time, body FROM delivered WHERE number = ?1",
                    )?
                    .execute([number])?;
                transaction.prepare_cached("DELETE FROM delivered WHERE number = ?1")?.execute([number])?;
            }
            transaction.commit()?;
            Ok(numbers.last().map(|last| (numbers.len(), *last)))
        })
    }
}

/// Forgets events of all sinks that were kept for long enough.
pub(super) fn forget(connection: &Connection, now: u64) -> rusqlite::Result<()> {
    let sums = connection
        .prepare("SELECT sink, tenant FROM delivered_bytes")?
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    for (sink, tenant) in sums {
        connection
            .prepare_cached("DELETE FROM delivered WHERE sink = ?1 AND tenant = ?2 AND until <= ?3")?
            .execute(params![sink, tenant, now as i64])?;
    }
    connection.execute("DELETE FROM delivered_bytes WHERE bytes = 0", []).map(drop)
}

/// Forgets the oldest events of one tenant and sink: some that were kept for long enough, and all that have no room.
fn bound(transaction: &Transaction<'_>, sink: &str, tenant: &str, keep: Keep) -> rusqlite::Result<()> {
    // More at once than one delivery adds.
    let some = limits::REDELIVERED_AT_ONCE as i64;
    transaction
        .prepare_cached(
            "DELETE FROM delivered WHERE number IN (
                 SELECT number FROM delivered WHERE sink = ?1 AND tenant = ?2 AND until <= ?3 LIMIT ?4
             )",
        )?
        .execute(params![sink, tenant, keep.now as i64, some])?;
    loop {
        let bytes: i64 = transaction
            .prepare_cached("SELECT bytes FROM delivered_bytes WHERE sink = ?1 AND tenant = ?2")?
            .query_row(params![sink, tenant], |row| row.get(0))?;
        if bytes as u64 <= keep.bytes {
            return Ok(());
        }
        let forgotten = transaction
            .prepare_cached(
                "DELETE FROM delivered WHERE number = (
                     SELECT number FROM delivered WHERE sink = ?1 AND tenant = ?2 ORDER BY until, number LIMIT 1
                 )",
            )?
            .execute(params![sink, tenant])?;
        if forgotten == 0 {
            return Ok(());
        }
    }
}
