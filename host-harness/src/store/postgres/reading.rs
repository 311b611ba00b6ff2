//! Reads the database beside the collectors that write it: for the status page, and for the commands `status` and
//! `history`. A standby will do.

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::Row;

use super::address::ServerAddress;
use super::connection::{Connection, LinkPurpose, Parameters, Primary, connect};
use super::{backlog, members, moving, schema, scope_row};
use crate::limits;
use crate::store::fleet::Fleet;
use crate::store::reading::{Sample, Series, StoreReader};
use crate::store::{Backlog, Points, ScopeRow, StoreError, StoreErrorKind, StorePlace, StoreResult};

/// A store that is only read, with a connection of its own.
pub struct PostgresReader {
    connection: Connection,
    /// `None` only while the reader ends.
    runtime: Option<Runtime>,
    place: StorePlace,
}

const NUMBER: &str = "
    SELECT number, shard, figure FROM scope WHERE feed = $1 AND scope = $2 ORDER BY written DESC LIMIT 1";

const SERIES: &str = "
    SELECT time, value, maximum, weight, title FROM history
    WHERE shard = $1 AND scope = $2 AND subject = $3 AND time >= coalesce((
        SELECT max(time) FROM history WHERE shard = $1 AND scope = $2 AND subject = $3 AND time <= $4
    ), 0) ORDER BY time DESC LIMIT $5";

const SUBJECTS: &str = "SELECT subject FROM figure WHERE scope = $1 ORDER BY subject LIMIT $2";

impl Drop for PostgresReader {
    fn drop(&mut self) {
        // A runtime that ends by itself waits, and does not do that among asynchronous tasks.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl PostgresReader {
    /// Connects. Blocks the thread.
    pub fn open(address: ServerAddress) -> StoreResult<PostgresReader> {
        let place = StorePlace::Server(address.to_string());
        let fault = |what| StoreError { place: place.clone(), what };
        let other = |error: std::io::Error| fault(StoreErrorKind::Other(source_host::cause::Cause::new(error)));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(other)?;
        let connected = runtime.block_on(async {
            let connection =
                connect(&address, LinkPurpose::Reading, &Primary::default()).await.map_err(StoreErrorKind::Server)?;
            schema::check(&connection).await?;
            let refusal = moving::mark(&connection).await?.and_then(|mark| mark.refusal());
            refusal.map_or(Ok(connection), |fault| Err(StoreErrorKind::Move(fault)))
        });
        Ok(PostgresReader { connection: connected.map_err(fault)?, runtime: Some(runtime), place })
    }

    fn rows(&self, text: &'static str, parameters: Parameters<'_>) -> StoreResult<Vec<Row>> {
        let fault = |what| StoreError { place: self.place.clone(), what };
        let runtime = self.runtime.as_ref().ok_or_else(|| fault(StoreErrorKind::Stopped))?;
        runtime.block_on(self.connection.rows(text, parameters)).map_err(fault)
    }

    /// Returns the number of a scope, its shard, and the subject of its figure. Of two tenants with the scope, the one
    /// that was written last counts.
    fn number(&self, feed: &str, scope: &str) -> StoreResult<Option<(i64, i16, Option<String>)>> {
        let rows = self.rows(NUMBER, &[&feed, &scope])?;
        Ok(rows.first().map(|row| (row.get(0), row.get(1), row.get(2))))
    }

    /// Returns the figures of a subject since a time, and the one before it; of more figures, the last `most` ones.
    fn series(&self, scope: i64, shard: i16, subject: String, since: u64, most: u32) -> StoreResult<Option<Series>> {
        let rows = self.rows(SERIES, &[&shard, &scope, &subject, &(since as i64), &i64::from(most)])?;
        let Some(first) = rows.first() else { return Ok(None) };
        let title = first.get(4);
        let sample = |row: &Row| {
            let points = Points { value: row.get(1), maximum: row.get(2), weight: row.get(3) };
            Sample { time: row.get::<_, i64>(0) as u64, points }
        };
        Ok(Some(Series { subject, title, samples: rows.iter().rev().map(sample).collect() }))
    }
}

impl StoreReader for PostgresReader {
    fn scopes(&self) -> StoreResult<Vec<ScopeRow>> {
        let rows = self.rows("SELECT feed, tenant, discovered, standing FROM scope ORDER BY number", &[])?;
        let scopes = rows.iter().map(scope_row).collect::<Result<_, _>>();
        scopes.map_err(|what| StoreError { place: self.place.clone(), what })
    }

    fn backlog(&self) -> StoreResult<Vec<Backlog>> {
        let rows = self.rows(
            "SELECT sink, tenant, feed, count(*), sum(octet_length(body))::bigint, min(time) FROM outbox
             GROUP BY sink, tenant, feed ORDER BY sink, tenant, feed",
            &[],
        )?;
        Ok(rows.iter().map(backlog).collect())
    }

    fn fleet(&self) -> StoreResult<Option<Fleet>> {
        let (members, shards) = (self.rows(members::MEMBERS, &[])?, self.rows(members::SHARDS, &[])?);
        let fleet = members::fleet(&members, &shards);
        fleet.map(Some).map_err(|what| StoreError { place: self.place.clone(), what })
    }

    fn figure(&self, feed: &str, scope: &str, since: u64) -> StoreResult<Option<Series>> {
        let Some((number, shard, Some(subject))) = self.number(feed, scope)? else { return Ok(None) };
        self.series(number, shard, subject, since, limits::SAMPLES_READ)
    }

    fn parts(&self, feed: &str, scope: &str, since: u64) -> StoreResult<Vec<Series>> {
        let Some((number, shard, figure)) = self.number(feed, scope)? else { return Ok(Vec::new()) };
        let subjects = self.rows(SUBJECTS, &[&number, &(limits::PARTS_READ as i64)])?;
        let subjects = subjects.iter().map(|row| row.get::<_, String>(0));
        let parts = subjects.filter(|subject| figure.as_ref() != Some(subject));
        let parts = parts.map(|subject| self.series(number, shard, subject, since, limits::PART_SAMPLES_READ));
        parts.filter_map(Result::transpose).collect()
    }
}
