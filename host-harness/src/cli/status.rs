//! `status`: the state of all scopes, read from the store, also while `run` writes it.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use host_harness::collector::{ExpiringRow, NextAttempt, SnapshotRow, cleaned};
use host_harness::config::{Config, FeedConfig, StateConfig};
use host_harness::environment;
use host_harness::overview::figures::{Average, percent, trend};
use host_harness::overview::history::{self, Course, RowHistory};
use host_harness::overview::{Choice, Condition, Extent, Query, choose, counted};
use host_harness::run::page::words::{NEW_CREDENTIAL, ago, day, difference, moment, next, next_time, number, points};
use host_harness::store::postgres::reading::PostgresReader;
use host_harness::store::reading::StoreReader;
use host_harness::store::sqlite::reading::SqliteReader;
use host_harness::store::{Points, Polling, ScopeRow, StoreError, StoreErrorKind};
use host_harness::{limits, terminal};
use serde_json::{Value, json};
use source_host::credentials::expiry;
use source_host::credentials::redact::Search;
use source_host::limits::milliseconds;
use source_host::text;

use super::outboxes::{StoredSink, sinks};
use super::{STDOUT, UsageError, collectors, problems_of};

/// Number of days of the trends.
pub const DAYS: [usize; 2] = [30, 90];

/// Width of the table in a file or a pipe.
const PLAIN_WIDTH: usize = 160;

/// The rows of the store that belong to a configuration.
pub struct StoredRows<'a> {
    /// The store.
    pub reader: Box<dyn StoreReader>,
    /// The rows, in the order of tenant, feed and name.
    pub rows: Vec<SnapshotRow>,
    /// Feeds without a row: tenant and id.
    pub unseen: Vec<(String, String)>,
    feeds: HashMap<&'a str, &'a FeedConfig>,
}

impl<'a> StoredRows<'a> {
    /// Reads the rows of the configured feeds, without their secrets. `None` if no collector has made the store yet.
    pub fn read(config: &'a Config) -> anyhow::Result<Option<StoredRows<'a>>> {
        let reader: Box<dyn StoreReader> = match &config.collector.state {
            StateConfig::File(file) if !file.exists() => return Ok(None),
            StateConfig::File(file) => Box::new(SqliteReader::open(file)?),
            StateConfig::Server(address) => match PostgresReader::open((**address).clone()) {
                Ok(reader) => Box::new(reader),
                Err(StoreError { what: StoreErrorKind::Older { found: 0, .. }, .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            },
        };
        let feeds: HashMap<&str, &FeedConfig> = config.feeds.iter().map(|feed| (feed.id.as_str(), feed)).collect();
        let mut rows = Vec::new();
        for row in reader.scopes()? {
            let Some(feed) = feeds.get(row.feed.as_str()).filter(|feed| feed.tenant == row.tenant) else { continue };
            if row.standing.watch != Polling::Unasked {
                rows.push(shown(row, feed));
            }
        }
        rows.sort_by(|one, other| {
            (&one.tenant, &one.feed, &one.scope).cmp(&(&other.tenant, &other.feed, &other.scope))
        });
        for rows in rows.chunk_by_mut(|one, other| one.feed == other.feed) {
            let search = search(feeds.get(rows[0].feed.as_str()));
            for row in rows {
                row.failure = row.failure.as_ref().map(|failure| cleaned(&search, failure));
                row.scope = row.scope.as_ref().map(|name| search.words(name));
            }
        }
        let seen: HashSet<&str> = rows.iter().map(|row| row.feed.as_str()).collect();
        let unseen = config.feeds.iter().filter(|feed| !seen.contains(feed.id.as_str()));
        let unseen = unseen.map(|feed| (feed.tenant.clone(), feed.id.clone())).collect();
        Ok(Some(StoredRows { reader, rows, unseen, feeds }))
    }

    /// Returns a search for the secrets of a feed: the titles in the store may contain them.
    pub fn search(&self, feed: &str) -> Search {
        search(self.feeds.get(feed))
    }
}

fn search(feed: Option<&&FeedConfig>) -> Search {
    Search::new(feed.into_iter().flat_map(|feed| feed.settings.secrets()))
}

fn shown(row: ScopeRow, feed: &FeedConfig) -> SnapshotRow {
    let ScopeRow { feed: id, tenant, scope, standing } = row;
    let failure = standing.outcome.map(|failure| *failure);
    SnapshotRow {
        tenant,
        feed: id,
        scope: Some(scope.called()),
        id: Some(scope.id),
        contact: feed.contact.clone(),
        blame: failure.as_ref().map(source_host::contract::Failure::blame),
        since: failure.is_some().then_some(standing.since),
        failure,
        next: (standing.watch == Polling::Polled).then_some(NextAttempt::At(standing.due)),
        interval: feed.interval.as_ref().map_or(limits::ASSUMED_INTERVAL, |interval| interval.time),
        last_good: standing.last_good,
        figure: standing.figure,
    }
}

/// Prints the state of all scopes, or of those that the question asks for. Returns the exit status.
pub fn status(config: &Config, query: &Query, json: bool, now: u64) -> anyhow::Result<u8> {
    let is_wrong = problems_of(config);
    let only = match &query.view {
        Extent::Tenant(tenant) => Some(tenant.as_str()),
        _ => None,
    };
    if let Some(tenant) = only.filter(|only| config.feeds.iter().all(|feed| feed.tenant != *only)) {
        return Err(UsageError(format!("--tenant: the configuration has no feed of a tenant {tenant:?}")).into());
    }
    let Some(mut stored) = StoredRows::read(config)? else {
        say!(
            "no scope was collected yet: there is no state in {}\n  fix: start `run` or `poll --state` with this configuration",
            config.collector.state
        );
        return Ok(if is_wrong { 2 } else { 1 });
    };
    stored.rows.retain(|row| only.is_none_or(|only| row.tenant == only));
    stored.unseen.retain(|(tenant, _)| only.is_none_or(|only| tenant == only));
    let problems =
        Problems { expiring: expiring(config, only, now), sinks: sinks(config, stored.reader.backlog()?, only) };
    let fleet = stored.reader.fleet()?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    match json {
        true => write_json(&mut out, &stored, &problems, now)?,
        false => write_text(&mut out, &stored, &problems, query, now)?,
    }
    if let Some(fleet) = &fleet {
        let text = if json { collectors::objects(fleet) } else { collectors::table(fleet, only) };
        out.write_all(text.as_bytes()).context(STDOUT)?;
    }
    out.flush().context(STDOUT)?;
    let StoredRows { rows, unseen, .. } = &stored;
    let needs = rows.iter().any(|row| Condition::of(row.failure.as_ref()) == Condition::Person)
        || !unseen.is_empty()
        || !problems.expiring.is_empty()
        || problems.sinks.iter().any(|sink| !sink.problems(now).is_empty())
        || rows.iter().any(|row| overdue_since(row, now).is_some());
    let collected = rows.iter().any(|row| Condition::of(row.failure.as_ref()) == Condition::Collected);
    Ok(match (is_wrong, collected, needs) {
        (true, ..) => 2,
        (_, false, _) => 1,
        (_, _, true) => 3,
        _ => 0,
    })
}

/// Everything beside the scopes that may need a person.
struct Problems {
    /// Credentials that end soon, the first ones first.
    expiring: Vec<ExpiringRow>,
    sinks: Vec<StoredSink>,
}

/// Returns the credentials that end soon, of all tenants or of one.
fn expiring(config: &Config, only: Option<&str>, now: u64) -> Vec<ExpiringRow> {
    let feeds = config.feeds.iter().filter(|feed| only.is_none_or(|only| feed.tenant == only));
    let mut rows: Vec<ExpiringRow> = feeds
        .flat_map(|feed| {
            let row = |(setting, end): (String, u64)| ExpiringRow {
                tenant: feed.tenant.clone(),
                feed: feed.id.clone(),
                contact: feed.contact.clone(),
                setting,
                end,
            };
            feed.settings.ends().into_iter().map(row)
        })
        .filter(|row| expiry::nearness(row.end, now).is_some())
        .collect();
    rows.sort_by(|one, other| (one.end, &one.feed).cmp(&(other.end, &other.feed)));
    rows
}

fn write_text(
    out: &mut impl Write,
    stored: &StoredRows<'_>,
    problems: &Problems,
    query: &Query,
    now: u64,
) -> anyhow::Result<()> {
    let StoredRows { reader, rows, .. } = stored;
    let listed: Vec<_> = rows.iter().map(SnapshotRow::listed).collect();
    let choice = choose(&listed, query);
    let row = |number: &usize| &rows[*number];
    let width = terminal::width(environment::variable("COLUMNS")).unwrap_or(PLAIN_WIDTH);
    let attention: Vec<_> = choice.rows[..choice.attention].iter().map(row).collect();
    write_attention(out, &attention, choice.attention_total, stored, problems, now)?;

    let keys: Vec<_> = choice
        .rows
        .iter()
        .enumerate()
        .map(|(place, number)| rows[*number].key().filter(|_| place >= choice.attention))
        .collect();
    let member = |number: &usize| {
        let (feed, scope) = rows[*number].key().unwrap_or_default();
        (feed.to_owned(), scope.to_owned())
    };
    let members: Vec<Vec<_>> =
        choice.tenants.iter().map(|tenant| tenant.members.iter().map(member).collect()).collect();
    let mut history = history::read(&**reader, &keys, &members, DAYS[1], now)?;
    for (number, history) in choice.rows.iter().zip(&mut history.rows) {
        history.failing.truncate(1);
        if !history.failing.is_empty() {
            let search = stored.search(&rows[*number].feed);
            history.clean(|title| search.words(title));
        }
    }
    let mut table = vec![
        ["tenant / scope", "score", "points", "30 d", "90 d", "failing most", "good", "next", "outcome"]
            .map(str::to_owned),
    ];
    for (place, tenant) in choice.tenants.iter().enumerate() {
        let course = history.tenants.get(place).map_or(&[][..], Vec::as_slice);
        let [month, quarter] = match tenant.members.is_empty() && tenant.score.is_some() {
            // The history of so many scopes is not read.
            true => ["not read", "not read"].map(str::to_owned),
            false => trends(course),
        };
        let score = tenant.score.map_or_else(|| "-".to_owned(), |score| format!("{score:.1} %"));
        let all: usize = tenant.counts.iter().sum();
        let none = String::new;
        table.push([
            tenant.tenant.clone(),
            score,
            none(),
            month,
            quarter,
            none(),
            none(),
            none(),
            number(all, "scope"),
        ]);
        for place in tenant.shown.clone() {
            table.push(cells(row(&choice.rows[place]), &history.rows[place], now));
        }
        let more = tenant.matching - tenant.shown.len();
        if more > 0 {
            let mut cells: [String; 9] = std::array::from_fn(|_| String::new());
            cells[0] = match &query.view {
                Extent::Tenants => format!("  … {more} more: --tenant {}", tenant.tenant),
                _ => format!("  … {more} more on other pages"),
            };
            table.push(cells);
        }
    }
    out.write_all(terminal::table(&table, width).as_bytes()).context(STDOUT)?;
    write_foot(out, &choice, &problems.sinks)
}

fn write_foot(out: &mut impl Write, choice: &Choice, sinks: &[StoredSink]) -> anyhow::Result<()> {
    let (page, pages) = choice.page;
    if pages > 1 {
        writeln!(out, "page {} of {pages}; --page shows another one", page + 1).context(STDOUT)?;
    }
    for sink in sinks {
        writeln!(out, "{}", sink.summary()).context(STDOUT)?;
    }
    Ok(())
}

fn write_attention(
    out: &mut impl Write,
    rows: &[&SnapshotRow],
    total: usize,
    stored: &StoredRows<'_>,
    problems: &Problems,
    now: u64,
) -> anyhow::Result<()> {
    let unseen = &stored.unseen;
    let mut lines = Vec::new();
    for row in rows {
        let Some(failure) = &row.failure else { continue };
        let state = Condition::of(Some(failure)).title();
        let since = row.since.map(|since| format!(" since {}", moment(since))).unwrap_or_default();
        let scope = row.scope.as_deref().unwrap_or("the whole feed");
        // Each text is made plain by itself: a line break in a name must not begin a line.
        let [tenant, feed, scope, code, cause] =
            [&row.tenant, &row.feed, scope, &failure.code, &failure.cause].map(text::plain);
        lines.push(format!("{tenant} · {feed} · {scope}: {state}: {code}{since}: {cause}"));
        let fix = failure.fix.as_ref().map(|fix| text::plain_lines(fix).replace('\n', "\n       "));
        lines.extend(fix.map(|fix| format!("  fix: {fix}")));
        lines.extend(row.contact.as_ref().map(|contact| format!("  contact: {}", text::plain(contact))));
        let next = next(row, now);
        if !next.is_empty() {
            lines.push(format!("  tried again {next}"));
        }
    }
    if rows.len() < total {
        lines.push(format!("… and {} more that fail", total - rows.len()));
    }
    let feeds = stored.rows.chunk_by(|one, other| one.feed == other.feed);
    let overdue: Vec<_> = feeds.filter_map(|rows| Overdue::of(rows, now)).collect();
    lines.extend(overdue.iter().take(limits::STATUS_ROWS).map(Overdue::words));
    if overdue.len() > limits::STATUS_ROWS {
        lines.push(format!("… and {} more feeds that are not polled", overdue.len() - limits::STATUS_ROWS));
    }
    for (tenant, feed) in unseen.iter().take(limits::STATUS_ROWS) {
        let [tenant, feed] = [tenant, feed].map(|name| text::plain(name));
        lines.push(format!("{tenant} · {feed}: no scope was collected yet; the log of the collector says why"));
    }
    if unseen.len() > limits::STATUS_ROWS {
        lines.push(format!("… and {} more feeds without a scope", unseen.len() - limits::STATUS_ROWS));
    }
    for ExpiringRow { tenant, feed, contact, setting, end } in problems.expiring.iter().take(limits::STATUS_ROWS) {
        let [tenant, feed] = [tenant, feed].map(|name| text::plain(name));
        lines.push(format!("{tenant} · {feed}: credential-expires: {}", expiry::message(setting, *end, now)));
        lines.push(format!("  fix: {NEW_CREDENTIAL}"));
        lines.extend(contact.as_ref().map(|contact| format!("  contact: {}", text::plain(contact))));
    }
    if problems.expiring.len() > limits::STATUS_ROWS {
        lines.push(format!("… and {} more credentials that end soon", problems.expiring.len() - limits::STATUS_ROWS));
    }
    lines.extend(problems.sinks.iter().flat_map(|sink| sink.problems(now)));
    match lines.is_empty() {
        true => writeln!(out, "nothing in the state needs a person\n"),
        false => writeln!(out, "{}\n", lines.join("\n")),
    }
    .context(STDOUT)
}

/// Scopes of a feed that are not polled although they were due. The state does not have the reason.
struct Overdue<'a> {
    row: &'a SnapshotRow,
    scopes: usize,
    since: u64,
}

impl Overdue<'_> {
    /// Returns the overdue scopes among the rows of a feed; `None` if there is none.
    fn of(rows: &[SnapshotRow], now: u64) -> Option<Overdue<'_>> {
        let overdue = || rows.iter().filter_map(|row| overdue_since(row, now));
        overdue().min().map(|since| Overdue { row: &rows[0], scopes: overdue().count(), since })
    }

    fn words(&self) -> String {
        let [tenant, feed] = [&self.row.tenant, &self.row.feed].map(|name| text::plain(name));
        format!(
            "{tenant} · {feed}: {} not polled, though due since {}: no collector runs, an outbox is full, or the search \
             for scopes fails; the page and the log of the collector say why",
            number(self.scopes, "scope"),
            moment(self.since)
        )
    }
}

/// Returns when a scope was due that was not polled for an interval since then.
fn overdue_since(row: &SnapshotRow, now: u64) -> Option<u64> {
    let late = milliseconds(row.interval.max(limits::LATE_DELIVERY));
    due(row).filter(|due| due.saturating_add(late) < now)
}

fn due(row: &SnapshotRow) -> Option<u64> {
    match row.next {
        Some(NextAttempt::At(due)) => Some(due),
        _ => None,
    }
}

fn cells(row: &SnapshotRow, history: &RowHistory, now: u64) -> [String; 9] {
    let none = || "-".to_owned();
    let [month, quarter] = trends(&history.course);
    let failing = history.failing.first();
    [
        format!("  {}", row.own_name()),
        row.figure.and_then(percent).map_or_else(none, |percent| format!("{percent:.1} %")),
        row.figure.map_or_else(none, points),
        month,
        quarter,
        failing.map_or_else(none, |part| format!("{:.2} {}", part.at_stake(), part.title)),
        row.last_good.map_or_else(|| "never".to_owned(), |time| ago(time, now)),
        // The interval has no room in the table.
        next_time(row, now),
        row.failure.as_ref().map_or_else(|| "collected".to_owned(), |failure| failure.code.clone()),
    ]
}

/// How much a course of 90 days changed in its last 30 days, and in all.
pub fn trends(course: &[Option<f64>]) -> [String; 2] {
    DAYS.map(|days| {
        let recent = &course[course.len().saturating_sub(days + 1)..];
        trend(recent).map_or_else(|| "-".to_owned(), difference)
    })
}

/// Writes one object for each tenant with all its scopes, one for each feed without a scope, one for each credential that
/// ends soon, and one for each sink.
fn write_json(out: &mut impl Write, stored: &StoredRows<'_>, problems: &Problems, now: u64) -> anyhow::Result<()> {
    let StoredRows { reader, rows, unseen, .. } = stored;
    for rows in rows.chunk_by(|one, other| one.tenant == other.tenant) {
        let mut average = Average::default();
        let mut scopes = Vec::new();
        for row in rows {
            let failure = row.failure.as_ref();
            let state = Condition::of(failure);
            if let Some(figure) = counted(row.figure, failure) {
                average.add(figure);
            }
            let mut history = history::read(&**reader, &[row.key()], &[], DAYS[1], now)?.rows.pop().unwrap_or_default();
            if !history.failing.is_empty() {
                let search = stored.search(&row.feed);
                history.clean(|title| search.words(title));
            }
            scopes.push(json!({
                "feed": row.feed,
                "scope": row.id,
                "name": row.scope,
                "state": state.word(),
                "score": row.figure.map(figure_object),
                "trend": trend_of(&history.course),
                "failing": history.failing.iter().map(|part| json!({
                    "title": part.title, "value": part.points.value, "maximum": part.points.maximum,
                    "at_stake": part.at_stake(),
                })).collect::<Vec<_>>(),
                "failing_total": history.failing_total,
                "last_good": row.last_good.map(moment),
                "next": due(row).map(moment),
                "overdue": overdue_since(row, now).is_some(),
                "since": row.since.map(moment),
                "code": failure.map(|failure| &failure.code),
                "cause": failure.map(|failure| &failure.cause),
                "fix": failure.and_then(|failure| failure.fix.as_ref()),
                "contact": row.contact,
            }));
        }
        let tenant = json!({ "tenant": rows[0].tenant, "percent": average.percent(), "scopes": scopes });
        writeln!(out, "{tenant}").context(STDOUT)?;
    }
    for (tenant, feed) in unseen {
        let row = json!({ "tenant": tenant, "feed": feed, "scopes": [], "cause": "no scope was collected yet" });
        writeln!(out, "{row}").context(STDOUT)?;
    }
    for ExpiringRow { tenant, feed, contact, setting, end } in &problems.expiring {
        let row = json!({
            "tenant": tenant, "feed": feed, "setting": setting, "expires": day(*end), "code": "credential-expires",
            "cause": expiry::message(setting, *end, now), "fix": NEW_CREDENTIAL, "contact": contact,
        });
        writeln!(out, "{row}").context(STDOUT)?;
    }
    for sink in &problems.sinks {
        writeln!(out, "{}", sink.object(now)).context(STDOUT)?;
    }
    Ok(())
}

/// A figure for programs.
pub fn figure_object(figure: Points) -> Value {
    let Points { value, maximum, weight } = figure;
    json!({ "value": value, "maximum": maximum, "weight": weight, "percent": percent(figure) })
}

fn trend_of(course: &Course) -> Value {
    let change = |days: usize| trend(&course[course.len().saturating_sub(days + 1)..]);
    json!({ "days_30": change(DAYS[0]), "days_90": change(DAYS[1]) })
}

/// The question of the command line.
pub fn query(
    tenant: Option<String>,
    state: Option<Condition>,
    order: host_harness::overview::Order,
    page: usize,
) -> Query {
    let extent = tenant.map_or(Extent::Tenants, Extent::Tenant);
    Query { view: extent, state, order, page: page.saturating_sub(1), ..Query::default() }
}

/// Reads the configuration of a store that is only shown.
pub fn load(file: &Path) -> Config {
    super::load(file, None)
}
