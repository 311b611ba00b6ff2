//! Drives the feeds of a configuration day after day: starts due jobs, handles finished ones, and plans the next ones.
//! Time is an argument: the driver decides what `now` is.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use source_host::blame::Blame;
use source_host::clock::Clock;
use source_host::contract::{Discovery, Failure, Scope};
use source_host::credentials::expiry;
use source_host::digest::ShortDigest;
use source_host::failures;
use source_host::feed::{Feed, FeedError};
use source_host::limits::{CLOCK_STEP, milliseconds};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use crate::admitted::AdmittedFeed;
use crate::admitted::tenants::Tenants;
use crate::collector::agenda::{Agenda, Job};
use crate::collector::schedule::Schedule;
use crate::collector::search::SearchUpdate;
use crate::collector::shared::{FeedElsewhere, SharedRows};
use crate::collector::work::{Done, NotKept, Pipeline, SearchWait, Task};
use crate::limits;
use crate::overview::{Extent, ListedScope, Query, choose};
use crate::sink::repeats::{Repeats, Summary};
use crate::store::shards::Lease;
use crate::store::{FeedRow, Polling, ScopeRow, Standing, StoreError};

pub mod agenda;
mod forget;
mod log;
pub mod once;
mod poll;
mod reload;
pub mod schedule;
mod search;
mod shared;
mod status;
mod tally;
mod verdict;
pub mod work;

pub use log::cleaned;
pub use shared::expected_work;
use status::RowSource;
pub use status::{
    ExpiringRow, FeedsOfRows, LeftOutRow, NextAttempt, SnapshotRow, StatusDraft, StatusSnapshot, WaitingRow,
};

/// The collector.
pub struct Collector {
    pipeline: Pipeline,
    tenants: Arc<Tenants>,
    clock: Clock,
    agenda: Agenda,
    feeds: HashMap<u32, Box<FeedEntry>>,
    scopes: HashMap<u32, Box<ScopeEntry>>,
    /// Feeds that stay open between two jobs, and since when.
    left_open: HashMap<u32, (Arc<OpenedFeed>, u64)>,
    by_id: HashMap<Arc<str>, u32>,
    /// The agenda's numbers of tenants.
    tenant_numbers: HashMap<Arc<str>, u32>,
    numbers: NumberSequence,
    jobs: JoinSet<JobResult>,
    /// Searches whose results are being applied.
    updates: VecDeque<SearchUpdate>,
    running: HashMap<tokio::task::Id, RunningJob>,
    /// Feed and scope of polls and reports in progress: never twice at the same time, whatever the configuration does.
    busy: HashSet<ScopeKey>,
    throttles: HashMap<(ShortDigest, String), u64>,
    /// Scopes whose outbox is full.
    paused: BTreeSet<u32>,
    /// Feeds with many scopes that are still to be counted.
    unnoted: BTreeSet<u32>,
    /// The first feed that polls each scope, by the digest of the scope.
    polled_by: HashMap<ShortDigest, u32>,
    /// Scopes that more than one feed polls, so that this is logged once.
    shared_scopes: BTreeSet<String>,
    /// Scopes for which the report that they are not polled any more is pending, with their feed.
    pending: HashMap<u32, (u32, Task)>,
    /// The state of feeds that are not configured now but may come back.
    left: HashMap<Arc<str>, UnconfiguredFeed>,
    /// Configured feeds of tenants on which other collectors may work.
    elsewhere: HashMap<Arc<str>, FeedElsewhere>,
    /// The leases whose rows were read.
    loaded: HashSet<Lease>,
    /// The last job that reads rows.
    loading: Option<tokio::task::Id>,
    /// The feed whose poll the store did not take last, and the reason.
    store_trouble: Option<(u32, StoreError)>,
    /// The store's errors, of which repetitions are not logged.
    repeats: Repeats,
    swept: u64,
    tally: tally::Tally,
    pruned: u64,
}

/// Numbers for feeds, scopes and pending reports; each number is used once.
#[derive(Default)]
struct NumberSequence(u32);

impl NumberSequence {
    fn next(&mut self) -> u32 {
        self.0 += 1;
        self.0
    }
}

/// The settings of a feed's last search, and its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct FeedDigests {
    searched_with: ShortDigest,
    configured_as: ShortDigest,
}

impl FeedDigests {
    fn of(row: &FeedRow) -> FeedDigests {
        FeedDigests { searched_with: row.searched_with, configured_as: row.configured_as }
    }
}

/// The state of a feed that is not configured: as last used, as stored, and its scopes.
#[derive(Default)]
struct UnconfiguredFeed {
    digests: Option<FeedDigests>,
    kept: Option<FeedDigests>,
    stored: StoredScopes,
}

/// Stored rows of scopes, by id. Boxed, because the nodes of the map are mostly empty: most feeds have one scope.
type StoredScopes = BTreeMap<Box<str>, Box<ScopeRow>>;

/// A feed, once a job opened it.
type OpenedFeed = OnceCell<Box<Feed>>;

/// Ids of a feed and of a scope.
type ScopeKey = (Arc<str>, String);

type JobFuture = Pin<Box<dyn Future<Output = JobResult> + Send>>;

/// The work of a job.
struct RunningJob {
    item: Option<Job>,
    key: Option<ScopeKey>,
}

struct FeedEntry {
    admitted: Arc<AdmittedFeed>,
    /// The lease under which its data was read.
    lease: Lease,
    tenant: u32,
    /// Open while a job works with it, or while it is among those left open. Boxed, because a weak reference keeps the
    /// memory of its target allocated.
    open: Weak<OpenedFeed>,
    /// Scopes, in the order in which they were found, which is the order of their numbers.
    scopes: Vec<u32>,
    /// Stored rows of other scopes: all rows until the first search, then those of scopes that are not polled any more.
    stored: StoredScopes,
    /// The digests that the store should have, and whether the store has them.
    digests: FeedDigests,
    is_kept: bool,
    failures: u32,
    failure: Option<Box<Failure>>,
    /// The failure that the plugin now declares another plan than the admitted one, which stays enforced.
    plan_changed: Option<Box<Failure>>,
    /// Codes of the warnings of its last search.
    notices: Box<[String]>,
    /// Whether only a person can mend the whole feed: its scopes wait until a search succeeds.
    blocked: bool,
    /// Whether the feed was not searched since its configuration changed: scopes that wait for a person are then tried
    /// at once.
    changed: bool,
    /// When the feed's credentials were last checked for expiry; `None` before the first check.
    expiry_seen: Option<u64>,
}

struct ScopeEntry {
    feed: u32,
    scope: Scope,
    standing: Standing,
    /// Since when the scope waits for a search of its feed, which may find the scope gone or the feed blocked.
    held_since: Option<u64>,
    /// The failure of the last poll, if the store kept nothing of the poll.
    trouble: Option<Box<Failure>>,
    /// Codes of the warnings of its last poll.
    notices: Box<[String]>,
}

impl FeedEntry {
    /// The schedule of the search for scopes. It follows from names, so that no feed keeps it.
    fn schedule(&self) -> Schedule {
        Schedule::of_search(&self.admitted.id, self.admitted.interval)
    }

    /// The schedule of one of the feed's scopes.
    fn schedule_of(&self, scope: &str) -> Schedule {
        Schedule::new(&self.admitted.id, scope, self.admitted.interval)
    }
}

impl ScopeEntry {
    /// The reason why there is no data at the moment.
    fn failure(&self) -> Option<&Failure> {
        self.trouble.as_deref().or(self.standing.outcome.as_deref())
    }
}

/// Says whether a feed may stay open between two jobs.
fn may_stay_open(since: u64, now: u64) -> bool {
    now.abs_diff(since) < milliseconds(limits::OPEN_FEED)
}

/// The result of a job.
enum JobResult {
    Searched { feed: u32, found: Result<Discovery, Failure>, wait: SearchWait },
    Polled { scope: u32, tenant: Arc<str>, done: Result<Done, PollFault> },
    GivenUp { feed: u32, scope: String, done: Result<Done, PollFault> },
    Forgotten(Result<(), StoreError>),
    Loaded(Result<SharedRows, StoreError>),
    Kept { feed: u32, digests: FeedDigests, kept: Result<(), StoreError> },
}

/// The reason why a job has no result.
enum PollFault {
    Open(FeedError),
    Store(NotKept),
}

impl Collector {
    /// Makes a collector of these feeds, with their state from the store.
    pub async fn new(
        pipeline: Pipeline,
        tenants: Arc<Tenants>,
        feeds: Vec<Arc<AdmittedFeed>>,
        polls: usize,
        polls_of_tenant: usize,
    ) -> Result<Collector, StoreError> {
        let clock = Arc::clone(&pipeline.clock);
        let now = clock();
        // Shards that the keeper took since the deliveries began are loaded later, together with their waiting events.
        let (store, shards) = (&pipeline.store, pipeline.deliveries.counted());
        // A store of several collectors is pruned later, beside the work.
        let is_shared = store.fleet().is_some();
        if !is_shared {
            store.prune(history_begins(now), now).await?;
        }
        let (feed_rows, scope_rows) = (store.feeds(&shards).await?, store.scopes(&shards).await?);
        let (throttles, kept) = (store.throttles(now).await?, store.kept(&shards).await?);
        let tally = tally::Tally::new(now, pipeline.metrics.delivered());
        let mut collector = Collector {
            pipeline,
            tenants,
            clock,
            agenda: Agenda::new(polls, polls_of_tenant),
            feeds: HashMap::new(),
            scopes: HashMap::new(),
            left_open: HashMap::new(),
            by_id: HashMap::new(),
            tenant_numbers: HashMap::new(),
            numbers: NumberSequence::default(),
            jobs: JoinSet::new(),
            updates: VecDeque::new(),
            running: HashMap::new(),
            busy: HashSet::new(),
            throttles: throttles.into_iter().map(|row| ((row.credential, row.origin), row.until)).collect(),
            paused: BTreeSet::new(),
            unnoted: BTreeSet::new(),
            polled_by: HashMap::new(),
            shared_scopes: BTreeSet::new(),
            pending: HashMap::new(),
            left: HashMap::new(),
            elsewhere: HashMap::new(),
            loaded: shards.into_iter().collect(),
            loading: None,
            store_trouble: None,
            repeats: Repeats::default(),
            swept: now,
            tally,
            pruned: if is_shared { 0 } else { now },
        };
        collector.remember(feed_rows, scope_rows);
        let own = feeds.iter().filter(|admitted| collector.lease_of(&admitted.tenant).is_some());
        collector.pipeline.metrics.configure(own.map(|admitted| admitted.counted_as()));
        for (rank, admitted) in feeds.into_iter().enumerate() {
            collector.add(admitted, now, rank as u64);
        }
        // The rows of all feeds were in it.
        collector.left.shrink_to_fit();
        for row in kept {
            collector.pipeline.metrics.feed(&row.tenant, &row.feed, |counts| counts.state_bytes = row.bytes);
        }
        Ok(collector)
    }

    /// Takes up the rows of the store, for feeds that are to come.
    fn remember(&mut self, feeds: Vec<FeedRow>, scopes: Vec<ScopeRow>) {
        for row in feeds {
            let left = self.left.entry(row.feed.as_str().into()).or_default();
            (left.digests, left.kept) = (Some(FeedDigests::of(&row)), Some(FeedDigests::of(&row)));
        }
        for row in scopes {
            self.left
                .entry(row.feed.as_str().into())
                .or_default()
                .stored
                .insert(row.scope.id.as_str().into(), Box::new(row));
        }
    }

    /// Starts all jobs that are due and may begin.
    pub fn start_due(&mut self) {
        let now = (self.clock)();
        while let Some((item, due)) = self.agenda.take(now) {
            let job = match item {
                Job::Search(feed) => self.search(feed, now).map(|job| (None, job)),
                Job::Poll(scope) => self.poll(scope, due, now).map(|(key, job)| (Some(key), job)),
                Job::GiveUp(number) => self.give_up_job(number, now).map(|(key, job)| (Some(key), job)),
            };
            match job {
                Some((key, job)) => {
                    self.start(Some(item), key, job);
                }
                None => self.agenda.done(item),
            }
        }
    }

    fn start(&mut self, item: Option<Job>, key: Option<ScopeKey>, job: JobFuture) -> tokio::task::Id {
        if let Some(key) = &key {
            self.busy.insert(key.clone());
        }
        let id = self.jobs.spawn(job).id();
        self.running.insert(id, RunningJob { item, key });
        id
    }

    /// Waits for one job to end and handles its result, or applies a part of a search's result. Waits for ever while
    /// nothing is in flight. The future may be dropped at any time without loss.
    pub async fn ended(&mut self) {
        if let Some(update) = self.updates.pop_front() {
            return self.apply(update);
        }
        let Some(joined) = self.jobs.join_next_with_id().await else { return std::future::pending().await };
        let id = joined.as_ref().map_or_else(tokio::task::JoinError::id, |(id, _)| *id);
        let running = self.running.remove(&id).unwrap_or(RunningJob { item: None, key: None });
        let is_found = matches!(&joined, Ok((_, JobResult::Searched { .. })));
        if let Some(item) = running.item.filter(|_| !is_found) {
            self.agenda.done(item);
        }
        if let Some(key) = &running.key {
            self.busy.remove(key);
        }
        match joined.map(|(_, ended)| ended) {
            Ok(JobResult::Searched { feed, found, wait }) => {
                self.share(wait.throttle);
                if let Some(error) = wait.unkept {
                    self.tell_unkept(&error);
                }
                self.searched(feed, found);
            }
            Ok(JobResult::Polled { scope, tenant, done }) => match running.key {
                Some(key) if !self.scopes.contains_key(&scope) => self.polled_for_another(&key, &tenant, done),
                _ => self.polled(scope, done),
            },
            Ok(JobResult::GivenUp { feed, scope, done }) => self.gave_up(feed, &scope, done),
            Ok(JobResult::Forgotten(forgotten)) => self.forgot(forgotten),
            Ok(JobResult::Loaded(loaded)) => self.loaded(loaded),
            Ok(JobResult::Kept { feed, digests, kept }) => self.kept(feed, digests, kept),
            Err(error) => self.broke(running, &error),
        }
    }

    /// Handles a panic of a job: a fault of this program, which is logged and does not end the collector.
    fn broke(&mut self, running: RunningJob, error: &tokio::task::JoinError) {
        tracing::error!(fault = Blame::Harness.word(), "a job panicked: {error}");
        let due = (self.clock)() + milliseconds(limits::ALARM_BACKOFF);
        let feed = match running.item {
            Some(Job::Search(feed)) => Some(feed),
            Some(Job::Poll(scope)) => self.scopes.get(&scope).map(|scope| scope.feed),
            Some(Job::GiveUp(_)) => {
                let row = running.key.and_then(|(feed, scope)| self.stored(&feed, &scope));
                // The next search finds the scope lost again.
                row.into_iter().for_each(|row| row.standing.watch = Polling::Polled);
                None
            }
            None => None,
        };
        if let (Some(item), Some(entry)) = (running.item, feed.and_then(|feed| self.feeds.get(&feed))) {
            self.agenda.plan(item, entry.tenant, due);
        }
    }

    /// Returns when the next job becomes due.
    pub fn next_due(&self) -> Option<u64> {
        self.agenda.next_due()
    }

    /// The feed with this id, in its present configuration.
    pub fn admitted(&self, feed: &str) -> Option<&AdmittedFeed> {
        let entry = self.by_id.get(feed).and_then(|number| self.feeds.get(number));
        entry
            .map(|entry| &entry.admitted)
            .or_else(|| self.elsewhere.get(feed).map(|feed| &feed.admitted))
            .map(|admitted| &**admitted)
    }

    /// Says whether a feed with this id is collected, by this collector or another one with the same configuration.
    pub fn collects(&self, feed: &str) -> bool {
        self.by_id.contains_key(feed) || self.elsewhere.contains_key(feed)
    }

    /// Says whether there is no feed.
    pub fn is_without_feeds(&self) -> bool {
        self.feeds.is_empty() && self.elsewhere.is_empty()
    }

    /// Says whether nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.updates.is_empty()
    }

    /// The store, sinks and metrics that polls write to.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The transport of each tenant.
    pub fn tenants(&self) -> &Arc<Tenants> {
        &self.tenants
    }

    /// Forgets waits that are over, drops idle connections, and plans again if the clock was set back.
    pub fn sweep(&mut self) {
        let now = (self.clock)();
        if now + milliseconds(CLOCK_STEP) < self.swept {
            tracing::warn!(
                fault = Blame::Operator.word(),
                "the clock went back by {} s: everything is scheduled again",
                (self.swept - now) / 1_000
            );
            self.plan_anew(now);
        }
        self.swept = now;
        for feed in std::mem::take(&mut self.unnoted) {
            self.note_now(feed);
        }
        self.pipeline.deliveries.tell_repeats();
        if let Some(summary) = self.summary() {
            tracing::info!("{summary}");
        }
        for Summary { blame, count, minutes, last, .. } in self.repeats.summaries(now) {
            let fault = blame.word();
            tracing::warn!(
                code = failures::STORE_FAILED.code,
                fault,
                count,
                last,
                "repeated {count} times in {minutes} min"
            );
        }
        self.pruned = self.pruned.min(now);
        for entry in self.feeds.values() {
            let Some(log) = entry.admitted.used_log() else { continue };
            let (tenant, id, _) = entry.admitted.counted();
            log.tell_dropped(tenant, id);
            let lines = log.take_uncounted();
            if lines > 0 {
                self.pipeline.metrics.feed(tenant, id, |counts| counts.log_lines_dropped += lines);
            }
            drop(log);
            entry.admitted.hush();
        }
        self.throttles.retain(|_, until| *until > now);
        self.left_open.retain(|_, (_, since)| may_stay_open(*since, now));
        self.tenants.sweep(now);
        if now >= self.pruned + milliseconds(limits::PRUNE) {
            self.pruned = now;
            let store = Arc::clone(&self.pipeline.store);
            tokio::spawn(async move {
                if let Err(error) = store.prune(history_begins(now), now).await {
                    tracing::error!(fault = error.blame().word(), "{error}");
                }
            });
        }
    }

    /// Returns the summary of the last hour, once after each hour.
    pub fn summary(&mut self) -> Option<String> {
        self.tally.summary((self.clock)(), self.pipeline.metrics.delivered())
    }

    fn plan_anew(&mut self, now: u64) {
        self.throttles.values_mut().for_each(|until| *until = (*until).min(now + milliseconds(limits::LONGEST_WAIT)));
        for (number, entry) in &self.feeds {
            self.agenda.plan(Job::Search(*number), entry.tenant, entry.schedule().next_place(now));
        }
        for (number, scope) in &mut self.scopes {
            let Some(entry) = self.feeds.get(&scope.feed) else { continue };
            let schedule = entry.schedule_of(&scope.scope.id);
            schedule.resume(&mut scope.standing, now, 0);
            self.agenda.plan(Job::Poll(*number), entry.tenant, scope.standing.due);
        }
    }

    /// Lets jobs in flight end, and abandons the others after this time: an abandoned poll is kept completely or not at
    /// all.
    pub async fn stop(mut self, within: Duration) {
        let end = async {
            while !self.is_idle() {
                self.ended().await;
            }
        };
        if tokio::time::timeout(within, end).await.is_err() {
            tracing::warn!("{} polls were abandoned", self.jobs.len());
        }
        self.jobs.shutdown().await;
    }

    /// Returns a snapshot of all scopes, with at most so many rows, those that need attention first.
    pub fn snapshot(&self, most: usize) -> StatusSnapshot {
        self.draft(&Query { view: Extent::Rows(most), ..Query::default() }).cleaned()
    }

    /// Answers a question about all scopes, before secrets are removed. Copies only what the answer shows.
    pub fn draft(&self, query: &Query) -> StatusDraft {
        let mut rows: Vec<(&FeedEntry, RowSource)> = Vec::new();
        for (number, entry) in &self.feeds {
            let of_feed = entry.plan_changed.iter().map(|failure| RowSource::Feed(failure, None));
            let search = Some(Job::Search(*number));
            let of_search = entry.failure.iter().map(|failure| RowSource::Feed(failure, search));
            let scopes = entry.scopes.iter().filter_map(|number| self.scopes.get_key_value(number));
            let of_scopes = scopes.map(|(number, scope)| RowSource::Scope(*number, scope));
            // Scopes that were removed from the settings need no attention.
            let stored = entry.stored.values().filter(|row| row.standing.watch != Polling::Unasked);
            let all = of_feed.chain(of_search).chain(of_scopes).chain(stored.map(|row| RowSource::Stored(row)));
            rows.extend(all.map(|source| (&**entry, source)));
        }
        let (feeds, in_flight, total) = (self.feeds.len(), self.agenda.in_flight(), rows.len());
        let failing_feeds = rows.iter().filter(|(_, source)| matches!(source, RowSource::Feed(..))).count();
        let scopes = total - failing_feeds;
        let failing_scopes = rows.iter().filter(|(_, source)| source.fails()).count() - failing_feeds;
        let candidates: Vec<_> = rows.iter().map(|(entry, source)| source.candidate(&entry.admitted)).collect();
        let choice = choose(&candidates, query);
        let member = |number: &usize| {
            let ListedScope { feed, scope, .. } = candidates[*number];
            (feed.to_owned(), scope.unwrap_or_default().to_owned())
        };
        let members = choice.tenants.iter().map(|tenant| tenant.members.iter().map(member).collect()).collect();
        // A row may have kilobytes of text, so that only the shown rows are made.
        let shown = || choice.rows.iter().map(|number| rows[*number]);
        let of_feeds = shown().map(|(entry, _)| Arc::clone(&entry.admitted)).collect();
        let rows = shown().map(|(entry, source)| self.row(entry, source)).collect();
        let (expiring, expiring_total) = self.expiring(query);
        let (sinks, mut notes) = (self.pipeline.deliveries.rows(), Vec::new());
        if let Some(low) = self.pipeline.store.space().low() {
            notes.push(format!("{low}: feeds that keep more than their share of it keep nothing new"));
        }
        if let Err(error) = self.health() {
            notes.push(format!("results of polls are not stored: {error}"));
        }
        let snapshot = StatusSnapshot {
            feeds,
            failing_feeds,
            scopes,
            failing_scopes,
            in_flight,
            total,
            rows,
            choice,
            members,
            expiring,
            expiring_total,
            sinks,
            notes,
            ..StatusSnapshot::default()
        };
        StatusDraft { snapshot, feeds: of_feeds }
    }

    /// Returns the credentials that end first among those that end soon, and the number of those.
    fn expiring(&self, query: &Query) -> (Vec<ExpiringRow>, usize) {
        let now = (self.clock)();
        let is_asked = |admitted: &AdmittedFeed| match &query.view {
            Extent::Tenants => true,
            Extent::Tenant(tenant) => *admitted.tenant == **tenant,
            Extent::Scope(feed, _) => *admitted.id == **feed,
            Extent::Rows(_) => false,
        };
        let feeds = self.feeds.values().map(|entry| &*entry.admitted).filter(|admitted| is_asked(admitted));
        let ends =
            feeds.flat_map(|admitted| admitted.expiries.iter().map(move |(setting, end)| (*end, setting, admitted)));
        let mut soon: Vec<_> = ends.filter(|(end, ..)| expiry::nearness(*end, now).is_some()).collect();
        let total = soon.len();
        soon.sort_by_key(|(end, _, admitted)| (*end, Arc::clone(&admitted.id)));
        soon.truncate(limits::STATUS_ROWS);
        let row = |(end, setting, admitted): (u64, &String, &AdmittedFeed)| ExpiringRow {
            tenant: admitted.tenant.to_string(),
            feed: admitted.id.to_string(),
            contact: admitted.contact.clone(),
            setting: setting.clone(),
            end,
        };
        (soon.into_iter().map(row).collect(), total)
    }

    fn row(&self, FeedEntry { admitted, .. }: &FeedEntry, source: RowSource) -> SnapshotRow {
        match source {
            RowSource::Feed(failure, item) => {
                let in_flight = item.filter(|item| self.agenda.is_in_flight(*item)).map(|_| NextAttempt::InFlight);
                let next = in_flight.or_else(|| self.agenda.due(item?).map(NextAttempt::At));
                SnapshotRow { next, ..SnapshotRow::of_feed(admitted, Some(failure)) }
            }
            RowSource::Scope(number, scope) => {
                SnapshotRow::of_scope(admitted, scope, self.next(number, scope, admitted))
            }
            RowSource::Stored(row) => SnapshotRow::of_stored(admitted, row),
        }
    }

    /// Returns when a scope is tried next.
    fn next(&self, number: u32, scope: &ScopeEntry, admitted: &AdmittedFeed) -> NextAttempt {
        let item = Job::Poll(number);
        if self.agenda.is_in_flight(item) {
            return NextAttempt::InFlight;
        }
        if self.paused.contains(&number)
            && let Some((sink, _)) = self.pipeline.deliveries.full(&admitted.sinks, &admitted.tenant)
        {
            return NextAttempt::WhenThereIsRoom(sink);
        }
        match self.agenda.due(item) {
            Some(due) => NextAttempt::At(due),
            None if scope.held_since.is_some() => NextAttempt::AfterSearch,
            None => NextAttempt::At(scope.standing.due),
        }
    }

    /// The store's last error, if there is one.
    pub fn health(&self) -> Result<(), &StoreError> {
        // A feed that went to another collector has no poll here that could show that the store works again.
        let trouble = self.store_trouble.as_ref().filter(|(feed, _)| self.feeds.contains_key(feed));
        trouble.map_or(Ok(()), |(_, error)| Err(error))
    }
}

/// The failure of an admitted feed that does not open: the plugin or the host failed.
fn failure_of(error: &FeedError) -> Failure {
    match error {
        FeedError::Call(error) => error.failure(),
        FeedError::Settings(_) => failures::SETTINGS_REFUSED.because(failures::SETTINGS_REFUSED.cause),
        FeedError::Host(error) => failures::HOST_FAILED.because(error),
    }
}

fn history_begins(now: u64) -> u64 {
    now.saturating_sub(milliseconds(limits::HISTORY))
}
