//! The transactions that commit polls: several polls in one, fenced by their leases, and written once however often the
//! connection is lost.
//!
//! A transaction takes two exchanges with the server, whatever the number of its polls: one reads everything that the
//! decisions need, and one writes everything and commits. No two transactions of a collector run at the same time, and
//! only the holder of a shard writes its rows, so that no row is waited for.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use source_host::cause::Cause;
use source_host::contract::Measure;
use source_host::failpoint;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::connection::{Connection, Parameters, SentStatement};
use crate::store::budget::{Budgets, StoredBytes};
use crate::store::shards::Lease;
use crate::store::{Points, PollRecord, ScopeRow, StoreErrorKind, of_whole};

/// One row of a scope to write, with everything else that its poll leaves.
pub(super) struct ScopeWrite<'a> {
    pub lease: Lease,
    pub row: &'a ScopeRow,
    /// The poll; `None` if only the row is written.
    pub poll: Option<&'a PollRecord>,
}

impl<'a> ScopeWrite<'a> {
    pub fn of_poll(poll: &'a PollRecord) -> ScopeWrite<'a> {
        ScopeWrite { lease: poll.lease, row: &poll.row, poll: Some(poll) }
    }

    fn measures(&self) -> &'a [Measure] {
        self.poll.map_or(&[], |poll| &poll.measures)
    }
}

/// The results of a transaction, in the order of its entries.
pub(super) type Results = Vec<Result<StoredBytes, StoreErrorKind>>;

/// A transaction that was not answered.
pub(super) struct FailedWrite {
    pub error: StoreErrorKind,
    /// Its results if the server has it; `None` if the server was not told to commit.
    pub results: Option<Results>,
    /// Whether the server said that no earlier attempt was committed.
    pub began: bool,
}

impl From<StoreErrorKind> for FailedWrite {
    fn from(error: StoreErrorKind) -> FailedWrite {
        FailedWrite { error, results: None, began: false }
    }
}

/// Bytes that stand for the numbers and the keys of a row, as in SQLite's store.
const ROW_BYTES: u64 = 64;

const MARK: &str = "
    INSERT INTO writer (collector, commits) VALUES ($1, $2)
    ON CONFLICT (collector) DO UPDATE SET commits = excluded.commits, used = excluded.used
    WHERE writer.commits < excluded.commits RETURNING commits";

const FENCE: &str = "
    SELECT shard, epoch FROM shard WHERE shard = ANY ($1) AND holder IS NOT NULL ORDER BY shard FOR SHARE";

const KNOWN: &str = "
    SELECT asked.place, scope.number, octet_length(discovered) + octet_length(standing), octet_length(state.value)
    FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS asked (feed, scope, tenant, place)
    JOIN scope USING (feed, scope, tenant) LEFT JOIN state ON state.scope = scope.number";

const FIGURES: &str = "
    SELECT asked.place, figure.subject, figure.time, figure.kind, figure.title, figure.value, figure.maximum, figure.weight
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bool[]) WITH ORDINALITY AS asked (feed, scope, tenant, measures, place)
    JOIN scope USING (feed, scope, tenant) JOIN figure ON figure.scope = scope.number WHERE asked.measures";

const KEPT: &str = "SELECT tenant, feed, bytes FROM kept WHERE tenant = ANY ($1)";

const REPLACED: &str = "
    SELECT octet_length(subject) + octet_length(kind) + octet_length(title) FROM history
    WHERE shard = $1 AND scope = $2 AND subject = $3 AND time = $4";

const ADD_SCOPES: &str = "
    INSERT INTO scope (feed, scope, tenant, shard, discovered, standing, figure, written)
    SELECT feed, scope, tenant, shard, discovered, standing, figure, written
    FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[], $5::text[], $6::text[], $7::text[], $8::bigint[])
        WITH ORDINALITY AS new (feed, scope, tenant, shard, discovered, standing, figure, written, place)
    ORDER BY place RETURNING number, feed, scope, tenant";

const CHANGE_SCOPES: &str = "
    UPDATE scope SET discovered = new.discovered, standing = new.standing, figure = coalesce(new.figure, scope.figure),
        written = new.written
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[])
        AS new (feed, scope, tenant, discovered, standing, figure, written)
    WHERE scope.feed = new.feed AND scope.scope = new.scope AND scope.tenant = new.tenant";

const KEEP_STATES: &str = "
    INSERT INTO state (scope, value) SELECT * FROM unnest($1::bigint[], $2::bytea[])
    ON CONFLICT (scope) DO UPDATE SET value = excluded.value";

const KEEP_FIGURES: &str = "
    INSERT INTO figure (scope, subject, time, kind, title, value, maximum, weight)
    SELECT scope, subject, time, kind, title, value, maximum, weight
    FROM unnest($1::smallint[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::float8[], $8::float8[],
        $9::float8[]) AS new (shard, scope, subject, time, kind, title, value, maximum, weight)
    ON CONFLICT (scope, subject) DO UPDATE SET
        time = excluded.time, kind = excluded.kind, title = excluded.title, value = excluded.value,
        maximum = excluded.maximum, weight = excluded.weight
    WHERE figure.time <= excluded.time";

const KEEP_HISTORY: &str = "
    INSERT INTO history (shard, scope, subject, time, kind, title, value, maximum, weight)
    SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::float8[],
        $8::float8[], $9::float8[])
    ON CONFLICT (shard, scope, subject, time) DO UPDATE SET
        kind = excluded.kind, title = excluded.title, value = excluded.value, maximum = excluded.maximum,
        weight = excluded.weight";

const QUEUE: &str = "
    INSERT INTO outbox (shard, sink, tenant, feed, scope, uid, time, body)
    SELECT shard, sink, tenant, feed, scope, uid, time, body
    FROM unnest($1::smallint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bytea[])
        WITH ORDINALITY AS event (shard, tenant, feed, scope, uid, time, body, place)
    JOIN unnest($8::bigint[], $9::text[]) WITH ORDINALITY AS copy (place, sink, turn) USING (place)
    ORDER BY turn";

const KEEP_SUMS: &str = "
    INSERT INTO kept (tenant, feed, shard, bytes) SELECT * FROM unnest($1::text[], $2::text[], $3::smallint[], $4::bigint[])
    ON CONFLICT (tenant, feed) DO UPDATE SET bytes = kept.bytes + excluded.bytes";

/// A wait that is known already takes no lock: collectors meet the same wait at the same time.
pub(super) const KEEP_THROTTLES: &str = "
    INSERT INTO throttle (credential, origin, until)
    SELECT credential, origin, until FROM unnest($1::text[], $2::text[], $3::bigint[]) AS new (credential, origin, until)
    WHERE NOT EXISTS (
        SELECT FROM throttle AS known
        WHERE known.credential = new.credential AND known.origin = new.origin AND known.until >= new.until
    ) ORDER BY credential, origin
    ON CONFLICT (credential, origin) DO UPDATE SET until = greatest(throttle.until, excluded.until)";

/// Everything that a transaction read before it decides.
struct ReadRows {
    /// The leases that hold.
    held: HashSet<Lease>,
    /// By place among the entries: number, bytes of the row, bytes of the state.
    known: HashMap<usize, (i64, u64, u64)>,
    figures: HashMap<usize, BTreeMap<String, LastFigure>>,
    kept: HashMap<String, HashMap<String, u64>>,
}

/// The last figure of a subject.
#[derive(Clone)]
struct LastFigure {
    time: i64,
    kind: String,
    title: String,
    points: Points,
}

/// Writes entries in one transaction, the `number`th of this collector. No two are of one scope.
pub(super) async fn write(
    connection: &Connection,
    me: &str,
    number: i64,
    entries: &[ScopeWrite<'_>],
) -> Result<Option<Results>, FailedWrite> {
    failpoint::pass("commit-begin");
    let begun = begin(connection, me, number, entries).await;
    let began = matches!(begun, Ok(Some(_)));
    let decided = match begun {
        // An earlier attempt, whose answer was lost, has committed.
        Ok(None) => return connection.run("ROLLBACK").await.map(|()| None).map_err(FailedWrite::from),
        Ok(Some(read)) => decide(connection, entries, read).await,
        Err(error) => Err(error),
    };
    let (plan, results) = match decided {
        Ok(decided) => decided,
        Err(error) => {
            connection.roll_back().await;
            return Err(FailedWrite { error, results: None, began });
        }
    };
    match finish(connection, &plan).await {
        Ok(()) => {
            failpoint::pass("commit-durable");
            Ok(Some(results))
        }
        Err(error) => Err(FailedWrite { error, results: connection.is_closed().then_some(results), began }),
    }
}

/// Begins a transaction and reads. Returns `None` if the transaction of this number was committed before.
async fn begin(
    connection: &Connection,
    me: &str,
    number: i64,
    entries: &[ScopeWrite<'_>],
) -> Result<Option<ReadRows>, StoreErrorKind> {
    let shards: BTreeSet<i16> = entries.iter().map(|entry| entry.lease.shard as i16).collect();
    let shards: Vec<i16> = shards.into_iter().collect();
    let feeds: Vec<&str> = entries.iter().map(|entry| entry.row.feed.as_str()).collect();
    let scopes: Vec<&str> = entries.iter().map(|entry| entry.row.scope.id.as_str()).collect();
    let tenants: Vec<&str> = entries.iter().map(|entry| entry.row.tenant.as_str()).collect();
    let measures: Vec<bool> = entries.iter().map(|entry| !entry.measures().is_empty()).collect();
    let steps: [SentStatement<'_>; 6] = [
        ("BEGIN", vec![]),
        (MARK, vec![&me, &number]),
        (FENCE, vec![&shards]),
        (KNOWN, vec![&feeds, &scopes, &tenants]),
        (FIGURES, vec![&feeds, &scopes, &tenants, &measures]),
        (KEPT, vec![&tenants]),
    ];
    let answers = connection.pipeline(&steps).await?;
    let [_, marked, held, known, figures, kept] = &answers[..] else {
        return Err(StoreErrorKind::Other(Cause::new("the server left answers out")));
    };
    if marked.is_empty() {
        return Ok(None);
    }
    let place = |row: &Row| row.get::<_, i64>(0) as usize - 1;
    let bytes =
        |row: &Row, column: usize| row.get::<_, Option<i32>>(column).map_or(0, |bytes| bytes as u64 + ROW_BYTES);
    let known = known.iter().map(|row| (place(row), (row.get(1), bytes(row, 2), bytes(row, 3)))).collect();
    let (mut by_place, mut by_tenant) = (HashMap::new(), HashMap::new());
    for row in figures {
        let points = Points { value: row.get(5), maximum: row.get(6), weight: row.get(7) };
        let figure = LastFigure { time: row.get(2), kind: row.get(3), title: row.get(4), points };
        by_place.entry(place(row)).or_insert_with(BTreeMap::new).insert(row.get(1), figure);
    }
    for row in kept {
        by_tenant.entry(row.get(0)).or_insert_with(HashMap::new).insert(row.get(1), row.get::<_, i64>(2) as u64);
    }
    let lease = |row: &Row| Lease { shard: row.get::<_, i16>(0) as u16, epoch: row.get::<_, i64>(1) as u32 };
    let held = match failpoint::lacks("fence") {
        true => entries.iter().map(|entry| entry.lease).collect(),
        false => held.iter().map(lease).collect(),
    };
    Ok(Some(ReadRows { held, known, figures: by_place, kept: by_tenant }))
}

/// The rows that a transaction writes, by column.
#[derive(Default)]
struct WritePlan<'a> {
    scopes: Vec<ScopeColumns<'a>>,
    states: (Vec<i64>, Vec<&'a [u8]>),
    figures: Vec<FigureColumns>,
    events: Vec<(&'a ScopeWrite<'a>, usize)>,
    copies: (Vec<i64>, Vec<&'a str>),
    sums: BTreeMap<(&'a str, &'a str), (u16, i64)>,
    throttles: BTreeMap<(String, &'a str), u64>,
}

struct ScopeColumns<'a> {
    row: &'a ScopeRow,
    discovered: String,
    standing: String,
    figure: Option<&'a str>,
    written: i64,
}

struct FigureColumns {
    shard: u16,
    scope: i64,
    subject: String,
    figure: LastFigure,
}

/// Decides which entries are written, adds the scopes that are new, and plans the rest.
async fn decide<'a>(
    connection: &Connection,
    entries: &'a [ScopeWrite<'a>],
    mut read: ReadRows,
) -> Result<(WritePlan<'a>, Results), StoreErrorKind> {
    let (mut plan, mut results, mut new) = (WritePlan::default(), Vec::new(), Vec::new());
    let mut accepted = Vec::new();
    for (place, entry) in entries.iter().enumerate() {
        if !read.held.contains(&entry.lease) {
            results.push(Err(StoreErrorKind::Fenced { shard: entry.lease.shard }));
            continue;
        }
        let columns = columns(entry)?;
        let known = read.known.get(&place).copied();
        let figures = changed(entry, read.figures.remove(&place).unwrap_or_default());
        let mut growth = (ROW_BYTES as usize + columns.discovered.len() + columns.standing.len()) as i64;
        growth -= known.map_or(0, |(_, row, _)| row as i64);
        if let Some(state) = entry.poll.and_then(|poll| poll.state.as_ref()) {
            growth += (ROW_BYTES as usize + state.len()) as i64 - known.map_or(0, |(_, _, state)| state as i64);
        }
        for (subject, figure, replaced) in &figures {
            growth += size(subject, figure);
            growth -= match (replaced, known) {
                (Replaced::Nothing, _) | (_, None) => 0,
                (Replaced::Bytes(bytes), _) => *bytes,
                (Replaced::Unknown, Some((scope, ..))) => {
                    let row =
                        connection.row(REPLACED, &[&(entry.lease.shard as i16), &scope, subject, &figure.time]).await?;
                    row.map_or(0, |row| i64::from(row.get::<_, i32>(0)) + ROW_BYTES as i64)
                }
            };
        }
        let sums = read.kept.entry(entry.row.tenant.clone()).or_default();
        let sum = |sums: &HashMap<String, u64>| StoredBytes {
            feed: sums.get(&entry.row.feed).copied().unwrap_or(0),
            tenant: sums.values().sum(),
        };
        let before = sum(sums);
        let feed = before.feed.saturating_add_signed(growth);
        let after = StoredBytes { feed, tenant: (before.tenant - before.feed).saturating_add(feed) };
        let budgets: Option<&Budgets> = entry.poll.map(|poll| &poll.budgets);
        if let Some(excess) = budgets.and_then(|budgets| budgets.passed(before, after)) {
            results.push(Err(StoreErrorKind::OverBudget(excess)));
            continue;
        }
        sums.insert(entry.row.feed.clone(), feed);
        plan.sums.entry((&entry.row.tenant, &entry.row.feed)).or_insert((entry.lease.shard, 0)).1 += growth;
        match known {
            Some(_) => plan.scopes.push(columns),
            None => new.push((entry.lease.shard, columns)),
        }
        plan.queue(entry);
        accepted.push((entry, known.map(|(number, ..)| number), figures));
        results.push(Ok(after));
    }
    let added = add(connection, &new).await?;
    for (entry, number, figures) in accepted {
        let row = entry.row;
        let number =
            number.or_else(|| added.get(&(row.feed.clone(), row.scope.id.clone(), row.tenant.clone())).copied());
        let Some(number) = number else {
            return Err(StoreErrorKind::Other(Cause::new("the server returned no number for a new scope")));
        };
        if let Some(state) = entry.poll.and_then(|poll| poll.state.as_ref()) {
            plan.states.0.push(number);
            plan.states.1.push(state);
        }
        let shard = entry.lease.shard;
        let figures = figures.into_iter();
        plan.figures.extend(figures.map(|(subject, figure, _)| FigureColumns {
            shard,
            scope: number,
            subject,
            figure,
        }));
    }
    Ok((plan, results))
}

impl<'a> WritePlan<'a> {
    /// Plans the events and the wait of a poll.
    fn queue(&mut self, entry: &'a ScopeWrite<'a>) {
        let Some(poll) = entry.poll else { return };
        for index in 0..poll.events.len() {
            self.events.push((entry, index));
            for sink in &poll.sinks {
                self.copies.0.push(self.events.len() as i64);
                self.copies.1.push(sink);
            }
        }
        if let Some(throttle) = &poll.throttle {
            let until = self.throttles.entry((throttle.credential.to_string(), &throttle.origin)).or_default();
            *until = throttle.until.max(*until);
        }
    }
}

/// Returns a scope's row as texts.
fn columns<'a>(entry: &ScopeWrite<'a>) -> Result<ScopeColumns<'a>, StoreErrorKind> {
    let unwritable = |error| StoreErrorKind::Other(Cause::new(error));
    let row = entry.row;
    Ok(ScopeColumns {
        row,
        discovered: serde_json::to_string(&row.scope).map_err(unwritable)?,
        standing: serde_json::to_string(&row.standing).map_err(unwritable)?,
        figure: of_whole(entry.measures()).map(|measure| measure.subject.as_str()),
        written: entry.poll.map_or(row.standing.due, |poll| poll.time) as i64,
    })
}

/// The row of the history that a figure replaces.
enum Replaced {
    Nothing,
    Bytes(i64),
    /// The figure is older than the last one.
    Unknown,
}

fn size(subject: &str, figure: &LastFigure) -> i64 {
    (ROW_BYTES as usize + subject.len() + figure.kind.len() + figure.title.len()) as i64
}

/// Returns the figures of a poll that differ from the `last` ones. A figure of a measured kind that the service does not
/// measure any more becomes 0. Numbers that are not finite are skipped.
fn changed(entry: &ScopeWrite<'_>, last: BTreeMap<String, LastFigure>) -> Vec<(String, LastFigure, Replaced)> {
    let Some(poll) = entry.poll else { return Vec::new() };
    let time = poll.time as i64;
    let mut changed: BTreeMap<&str, LastFigure> = BTreeMap::new();
    for measure in &poll.measures {
        let Some(points) = Points::of(measure) else { continue };
        let subject = measure.subject.as_str();
        if changed.get(subject).or(last.get(subject)).is_none_or(|last| last.points != points) {
            let (kind, title) = (measure.kind.clone(), measure.title.clone());
            changed.insert(subject, LastFigure { time, kind, title, points });
        }
    }
    let kinds: HashSet<&str> = poll.measures.iter().map(|measure| measure.kind.as_str()).collect();
    let present: HashSet<&str> = poll.measures.iter().map(|measure| measure.subject.as_str()).collect();
    for (subject, figure) in &last {
        if !present.contains(subject.as_str()) && kinds.contains(figure.kind.as_str()) && figure.points.maximum != 0.0 {
            let points = Points { value: 0.0, maximum: 0.0, weight: 0.0 };
            changed.insert(subject, LastFigure { time, points, ..figure.clone() });
        }
    }
    let replaced = |subject: &str| match last.get(subject) {
        None => Replaced::Nothing,
        Some(last) if last.time < time => Replaced::Nothing,
        Some(last) if last.time == time => Replaced::Bytes(size(subject, last)),
        Some(_) => Replaced::Unknown,
    };
    changed.into_iter().map(|(subject, figure)| (subject.to_owned(), figure, replaced(subject))).collect()
}

/// Adds new scopes, and returns their numbers by feed, scope and tenant.
async fn add(
    connection: &Connection,
    new: &[(u16, ScopeColumns<'_>)],
) -> Result<HashMap<(String, String, String), i64>, StoreErrorKind> {
    if new.is_empty() {
        return Ok(HashMap::new());
    }
    let texts = |of: fn(&ScopeRow) -> &str| new.iter().map(|(_, columns)| of(columns.row)).collect::<Vec<_>>();
    let shards: Vec<i16> = new.iter().map(|(shard, _)| *shard as i16).collect();
    let discovered: Vec<&str> = new.iter().map(|(_, columns)| columns.discovered.as_str()).collect();
    let standings: Vec<&str> = new.iter().map(|(_, columns)| columns.standing.as_str()).collect();
    let figures: Vec<Option<&str>> = new.iter().map(|(_, columns)| columns.figure).collect();
    let written: Vec<i64> = new.iter().map(|(_, columns)| columns.written).collect();
    let (feeds, tenants) = (texts(|row| &row.feed), texts(|row| &row.tenant));
    let scopes = texts(|row| &row.scope.id);
    let rows = connection
        .rows(ADD_SCOPES, &[&feeds, &scopes, &tenants, &shards, &discovered, &standings, &figures, &written])
        .await?;
    Ok(rows.iter().map(|row| ((row.get(1), row.get(2), row.get(3)), row.get(0))).collect())
}

/// Writes a plan and commits it.
async fn finish(connection: &Connection, plan: &WritePlan<'_>) -> Result<(), StoreErrorKind> {
    let of_scopes = |of: fn(&ScopeRow) -> &str| plan.scopes.iter().map(|columns| of(columns.row)).collect::<Vec<_>>();
    let (feeds, scopes, tenants) =
        (of_scopes(|row| &row.feed), of_scopes(|row| &row.scope.id), of_scopes(|row| &row.tenant));
    let discovered: Vec<&str> = plan.scopes.iter().map(|columns| columns.discovered.as_str()).collect();
    let standings: Vec<&str> = plan.scopes.iter().map(|columns| columns.standing.as_str()).collect();
    let figures: Vec<Option<&str>> = plan.scopes.iter().map(|columns| columns.figure).collect();
    let written: Vec<i64> = plan.scopes.iter().map(|columns| columns.written).collect();
    let of_rows: Parameters<'_> = &[&feeds, &scopes, &tenants, &discovered, &standings, &figures, &written];

    let figure_shards: Vec<i16> = plan.figures.iter().map(|row| row.shard as i16).collect();
    let figure_scopes: Vec<i64> = plan.figures.iter().map(|row| row.scope).collect();
    let subjects: Vec<&str> = plan.figures.iter().map(|row| row.subject.as_str()).collect();
    let times: Vec<i64> = plan.figures.iter().map(|row| row.figure.time).collect();
    let kinds: Vec<&str> = plan.figures.iter().map(|row| row.figure.kind.as_str()).collect();
    let titles: Vec<&str> = plan.figures.iter().map(|row| row.figure.title.as_str()).collect();
    let points = |of: fn(&Points) -> f64| plan.figures.iter().map(|row| of(&row.figure.points)).collect::<Vec<_>>();
    let (values, maxima, weights) =
        (points(|points| points.value), points(|points| points.maximum), points(|points| points.weight));
    let of_figures: Parameters<'_> =
        &[&figure_shards, &figure_scopes, &subjects, &times, &kinds, &titles, &values, &maxima, &weights];

    let events = plan.events.iter().filter_map(|(entry, index)| Some((entry, &entry.poll?.events[*index])));
    let events: Vec<_> = events.collect();
    let event_shards: Vec<i16> = events.iter().map(|(entry, _)| entry.lease.shard as i16).collect();
    let event_tenants: Vec<&str> = events.iter().map(|(entry, _)| entry.row.tenant.as_str()).collect();
    let event_feeds: Vec<&str> = events.iter().map(|(entry, _)| entry.row.feed.as_str()).collect();
    let event_scopes: Vec<&str> = events.iter().map(|(entry, _)| entry.row.scope.id.as_str()).collect();
    let uids: Vec<&str> = events.iter().map(|(_, event)| event.uid.as_str()).collect();
    let event_times: Vec<i64> = events.iter().map(|(_, event)| event.time as i64).collect();
    let bodies: Vec<&[u8]> = events.iter().map(|(_, event)| event.body.as_slice()).collect();

    let sum_tenants: Vec<&str> = plan.sums.keys().map(|(tenant, _)| *tenant).collect();
    let sum_feeds: Vec<&str> = plan.sums.keys().map(|(_, feed)| *feed).collect();
    let sum_shards: Vec<i16> = plan.sums.values().map(|(shard, _)| *shard as i16).collect();
    let sums: Vec<i64> = plan.sums.values().map(|(_, bytes)| *bytes).collect();

    let credentials: Vec<&str> = plan.throttles.keys().map(|(credential, _)| credential.as_str()).collect();
    let origins: Vec<&str> = plan.throttles.keys().map(|(_, origin)| *origin).collect();
    let ends: Vec<i64> = plan.throttles.values().map(|until| *until as i64).collect();

    let (state_scopes, states) = &plan.states;
    let (copies, sinks) = &plan.copies;
    let mut steps: Vec<SentStatement<'_>> = Vec::new();
    if !feeds.is_empty() {
        steps.push((CHANGE_SCOPES, of_rows.to_vec()));
    }
    if !states.is_empty() {
        steps.push((KEEP_STATES, vec![state_scopes, states]));
    }
    if !subjects.is_empty() {
        steps.push((KEEP_FIGURES, of_figures.to_vec()));
        steps.push((KEEP_HISTORY, of_figures.to_vec()));
    }
    if !copies.is_empty() {
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&event_shards, &event_tenants, &event_feeds, &event_scopes];
        parameters.extend::<[&(dyn ToSql + Sync); 5]>([&uids, &event_times, &bodies, copies, sinks]);
        steps.push((QUEUE, parameters));
    }
    if !sums.is_empty() {
        steps.push((KEEP_SUMS, vec![&sum_tenants, &sum_feeds, &sum_shards, &sums]));
    }
    if !ends.is_empty() {
        steps.push((KEEP_THROTTLES, vec![&credentials, &origins, &ends]));
    }
    steps.push(("COMMIT", vec![]));
    failpoint::pass("commit-end");
    connection.pipeline(&steps).await.map(drop)
}
