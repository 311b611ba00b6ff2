//! The rows by which collectors share the store. All times are of the server's clock.

use std::time::Duration;

use async_trait::async_trait;
use source_host::limits::milliseconds;
use tokio_postgres::Row;

use super::connection::Parameters;
use super::{PostgresStore, columns, digest};
use crate::limits;
use crate::store::fleet::{Fleet, FleetMember, FleetStore, MemberId, SeenMember, SeenShard, ShardWork};
use crate::store::moving::{MoveFault, Role};
use crate::store::shards::Lease;
use crate::store::{StoreErrorKind, StoreResult};

const RENEW: &str = "
    INSERT INTO collector (id, name, version, configuration, listen, feeds, polls, known)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (id) DO UPDATE SET
        heartbeat = clock_timestamp(), name = excluded.name, version = excluded.version,
        configuration = excluded.configuration, listen = excluded.listen,
        feeds = CASE WHEN collector.feeds = excluded.feeds THEN collector.feeds ELSE excluded.feeds END,
        polls = CASE WHEN collector.polls = excluded.polls THEN collector.polls ELSE excluded.polls END,
        known = CASE WHEN collector.known = excluded.known THEN collector.known ELSE excluded.known END";

/// A dead collector stays for a while, and as long as it has shards that nobody took.
const REMOVE_DEAD: &str = "
    DELETE FROM collector WHERE heartbeat < clock_timestamp() - $1 * interval '1 millisecond'
    AND NOT EXISTS (SELECT FROM shard WHERE holder = collector.id)";

pub(super) const MEMBERS: &str = "
    SELECT id, name, version, configuration, listen, feeds, polls, (extract(epoch FROM started) * 1000)::bigint,
        (extract(epoch FROM clock_timestamp() - heartbeat) * 1000)::bigint, known
    FROM collector ORDER BY started, id";

pub(super) const SHARDS: &str = "
    SELECT shard, epoch, holder, (extract(epoch FROM since) * 1000)::bigint,
        (extract(epoch FROM clock_timestamp()) * 1000)::bigint
    FROM shard ORDER BY shard";

/// In the order of the shards, as those who write under leases: nobody waits in a circle. Who waited for a row finds its
/// new epoch, but no mark that was made meanwhile: a move raises the epochs with the mark.
const TAKE: &str = "
    WITH free AS (
        SELECT shard FROM shard JOIN shard AS seen USING (shard) WHERE shard = ANY ($2) AND (
            shard.holder IS NULL OR shard.holder = $1 OR NOT EXISTS (
                SELECT FROM collector
                WHERE id = shard.holder AND heartbeat > clock_timestamp() - $3 * interval '1 millisecond'
            )
        ) AND NOT EXISTS (SELECT FROM move) AND shard.epoch = seen.epoch ORDER BY shard FOR UPDATE OF shard
    )
    UPDATE shard SET holder = $1, epoch = epoch + 1, since = clock_timestamp() FROM free WHERE shard.shard = free.shard
    RETURNING shard.shard, shard.epoch";

const GIVE_BACK: &str = "
    WITH own AS (
        SELECT shard.shard FROM shard JOIN unnest($2::smallint[], $3::bigint[]) AS lease (shard, epoch) USING (shard)
        WHERE shard.epoch = lease.epoch AND shard.holder = $1 ORDER BY shard.shard FOR UPDATE OF shard
    )
    UPDATE shard SET holder = NULL, since = clock_timestamp() FROM own WHERE shard.shard = own.shard";

const LEAVE: &str = "
    WITH own AS (SELECT shard FROM shard WHERE holder = $1 ORDER BY shard FOR UPDATE), given AS (
        UPDATE shard SET holder = NULL, since = clock_timestamp() FROM own WHERE shard.shard = own.shard
    )
    DELETE FROM collector WHERE id = $1";

impl PostgresStore {
    /// Asks by the connection of the fleet's rows. An answer after the end of a lease is of no use.
    async fn fleet_rows(&self, text: &'static str, parameters: Parameters<'_>) -> StoreResult<Vec<Row>> {
        // A server that refuses is named with its reason before the time is over.
        let rows = self.renewals.rows(text, parameters, &self.closing, limits::RENEWAL / 2);
        match tokio::time::timeout(limits::RENEWAL, rows).await {
            Ok(rows) => {
                let rows = rows.map_err(|what| self.fault(what))?;
                self.renewals.tell_primary().await;
                Ok(rows)
            }
            Err(_) => {
                // Later questions would wait behind this one.
                self.renewals.end().await;
                Err(self.fault(StoreErrorKind::Silent(limits::RENEWAL)))
            }
        }
    }
}

#[async_trait]
impl FleetStore for PostgresStore {
    fn shards(&self) -> u16 {
        self.shards
    }

    async fn renew(&self, member: &FleetMember) -> StoreResult<Fleet> {
        // Who was frozen while the state was moved away is no member any more.
        if let Some(row) = self.fleet_rows("SELECT role, other FROM move WHERE role <> 'source'", &[]).await?.first() {
            let other = row.get(1);
            let is_left = row.get::<_, String>(0) == Role::Left.word();
            let fault = if is_left { MoveFault::Left { other } } else { MoveFault::Half { other } };
            return Err(self.fault(StoreErrorKind::Move(fault)));
        }
        let configuration = member.configuration.to_string();
        let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let feeds: Vec<i32> = member.work.iter().map(|work| number(work.feeds)).collect();
        let polls: Vec<i32> = member.work.iter().map(|work| number(work.polls)).collect();
        let known: Vec<i64> = member.work.iter().map(|work| work.known as i64).collect();
        let FleetMember { id: MemberId(id), name, version, listen, .. } = member;
        self.fleet_rows(RENEW, &[id, name, version, &configuration, listen, &feeds, &polls, &known]).await?;
        let kept = milliseconds(limits::MEMBER_KEPT) as f64;
        self.fleet_rows(REMOVE_DEAD, &[&kept]).await?;
        let members = self.fleet_rows(MEMBERS, &[]).await?;
        let shards = self.fleet_rows(SHARDS, &[]).await?;
        fleet(&members, &shards).map_err(|what| self.fault(what))
    }

    async fn take(&self, MemberId(me): &MemberId, shards: &[u16]) -> StoreResult<Vec<Lease>> {
        let shards: Vec<i16> = shards.iter().map(|shard| *shard as i16).collect();
        let rows = self.fleet_rows(TAKE, &[me, &shards, &(milliseconds(limits::LEASE) as f64)]).await?;
        Ok(rows.iter().map(lease).collect())
    }

    async fn give_back(&self, MemberId(me): &MemberId, leases: &[Lease]) -> StoreResult<()> {
        let (shards, epochs) = columns(leases);
        self.fleet_rows(GIVE_BACK, &[me, &shards, &epochs]).await.map(drop)
    }

    async fn leave(&self, MemberId(me): &MemberId) -> StoreResult<()> {
        self.fleet_rows(LEAVE, &[me]).await.map(drop)
    }
}

/// Reads the collectors and the shards.
pub(super) fn fleet(members: &[Row], shards: &[Row]) -> Result<Fleet, StoreErrorKind> {
    let members = members.iter().map(|row| {
        let (feeds, polls, known): (Vec<i32>, Vec<i32>, Vec<i64>) = (row.get(5), row.get(6), row.get(9));
        let work = feeds.iter().zip(&polls).zip(&known).map(|((feeds, polls), known)| ShardWork {
            feeds: *feeds as u32,
            polls: *polls as u32,
            known: *known as u64,
        });
        let member = FleetMember {
            id: MemberId(row.get(0)),
            name: row.get(1),
            version: row.get(2),
            configuration: digest(row, 3)?,
            listen: row.get(4),
            work: work.collect(),
        };
        let silent = Duration::from_millis(row.get::<_, i64>(8).max(0) as u64);
        Ok(SeenMember { member, started: row.get::<_, i64>(7) as u64, silent })
    });
    let seen = |row: &Row| SeenShard {
        lease: lease(row),
        holder: row.get::<_, Option<String>>(2).map(MemberId),
        since: row.get::<_, Option<i64>>(3).unwrap_or(0) as u64,
    };
    let now = shards.last().map_or(0, |row| row.get::<_, i64>(4) as u64);
    let members = members.collect::<Result<_, StoreErrorKind>>()?;
    Ok(Fleet { now, members, shards: shards.iter().map(seen).collect() })
}

/// Reads a lease from the first two columns.
fn lease(row: &Row) -> Lease {
    Lease { shard: row.get::<_, i16>(0) as u16, epoch: row.get::<_, i64>(1) as u32 }
}
