//! Drives the feeds of a configuration day after day: starts what is due, takes what came of it, and plans what comes
//! next. Time is an argument: whoever drives it decides when `now` is.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use source_host::blame::Blame;
use source_host::clock::Clock;
use source_host::contract::{Discovery, Failure, Scope};
use source_host::digest::ShortDigest;
use source_host::failures;
use source_host::feed::admitted::AdmittedFeed;
use source_host::feed::tenants::Tenants;
use source_host::feed::{Feed, FeedError};
use source_host::limits::{CLOCK_STEP, milliseconds};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use crate::collector::agenda::{Agenda, Job};
use crate::collector::schedule::Schedule;
use crate::collector::search::SearchUpdate;
use crate::collector::work::{Done, NotKept, Pipeline, SearchWait, Task};
use crate::limits;
use crate::sink::repeats::{Repeats, Summary};
use crate::store::{FeedRow, Polling, ScopeRow, Standing, StoreError};

pub mod agenda;
mod forget;
mod log;
pub mod once;
mod poll;
mod reload;
pub mod schedule;
mod search;
mod status;
mod tally;
mod verdict;
pub mod work;

use status::RowSource;
pub use status::{LeftOutRow, NextAttempt, SnapshotRow, StatusDraft, StatusSnapshot, WaitingRow};

/// The collector.
pub struct Collector {
    pipeline: Pipeline,
    tenants: Arc<Tenants>,
    clock: Clock,
    agenda: Agenda,
    feeds: HashMap<u32, Box<FeedEntry>>,
    scopes: HashMap<u32, Box<ScopeEntry>>,
    by_id: HashMap<Arc<str>, u32>,
    /// Tenants as the agenda knows them.
    tenant_numbers: HashMap<Arc<str>, u32>,
    numbers: NumberSequence,
    jobs: JoinSet<JobResult>,
    /// Searches whose findings are being taken up.
    updates: VecDeque<SearchUpdate>,
    running: HashMap<tokio::task::Id, RunningJob>,
    /// Feed and scope of what is being polled or told: never twice at the same time, whatever the configuration does.
    busy: HashSet<ScopeKey>,
    throttles: HashMap<(ShortDigest, String), u64>,
    /// Scopes whose outbox is full.
    paused: BTreeSet<u32>,
    /// Feeds with many scopes that are still to be counted.
    unnoted: BTreeSet<u32>,
    /// The first feed that polls each scope, by the digest of the scope.
    polled_by: HashMap<ShortDigest, u32>,
    /// Scopes that more than one feed polls, so that it is said once.
    shared_scopes: BTreeSet<String>,
    /// Scopes of which it is still to be told that they are not polled any more, with their feed.
    pending: HashMap<u32, (u32, Task)>,
    /// What is known of feeds that are not configured now: they may come back.
    left: HashMap<Arc<str>, UnconfiguredFeed>,
    /// What the store said last, where it did not take something.
    store_trouble: Option<StoreError>,
    /// What the store said that is not said each time.
    repeats: Repeats,
    swept: u64,
    tally: tally::Tally,
    pruned: u64,
}

/// Numbers for feeds, scopes and what is to be told: none is given twice.
#[derive(Default)]
struct NumberSequence(u32);

impl NumberSequence {
    fn next(&mut self) -> u32 {
        self.0 += 1;
        self.0
    }
}

/// With which settings a feed was searched, and as what it was configured.
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

/// What is known of a feed that is not configured: as it was last used, as the store has it, and its scopes.
#[derive(Default)]
struct UnconfiguredFeed {
    digests: Option<FeedDigests>,
    kept: Option<FeedDigests>,
    stored: StoredScopes,
}

/// Scopes as the store has them, by their ids.
type StoredScopes = BTreeMap<String, ScopeRow>;

/// A feed, once somebody opened it.
type OpenedFeed = OnceCell<Box<Feed>>;

/// Id of a feed, and of a scope.
type ScopeKey = (Arc<str>, String);

type JobFuture = Pin<Box<dyn Future<Output = JobResult> + Send>>;

/// What a job is at.
struct RunningJob {
    item: Option<Job>,
    key: Option<ScopeKey>,
}

struct FeedEntry {
    admitted: Arc<AdmittedFeed>,
    tenant: u32,
    schedule: Schedule,
    /// Open while somebody works with it. Boxed, since a weak reference keeps the room of what it led to.
    open: Weak<OpenedFeed>,
    /// In the order in which they were found.
    scopes: BTreeSet<u32>,
    /// What the store knows of it beyond that: all until the first search, and afterwards what is not polled any more.
    stored: StoredScopes,
    /// The feed as it is to be kept, and as it is.
    digests: FeedDigests,
    kept: Option<FeedDigests>,
    credential: ShortDigest,
    failures: u32,
    failure: Option<Box<Failure>>,
    /// That its plugin declares another plan now than the one that was admitted, which goes on to be enforced.
    plan_changed: Option<Box<Failure>>,
    /// Codes of the warnings of its last search.
    notices: Box<[String]>,
    /// Only a person can mend the whole feed: its scopes wait until a search succeeds.
    blocked: bool,
    /// Not searched since its configuration changed: what waits for a person is then tried at once.
    changed: bool,
    /// When its credentials were last looked at for one that ends; none before the first time.
    expiry_seen: Option<u64>,
}

struct ScopeEntry {
    feed: u32,
    scope: Scope,
    schedule: Schedule,
    standing: Standing,
    /// Since when it waits for a search of its feed, which may find it gone, or the feed blocked.
    held_since: Option<u64>,
    /// Value and maximum of its first figure.
    figure: Option<(f64, f64)>,
    /// Why its last poll left nothing at all, not even how it stands.
    trouble: Option<Box<Failure>>,
    /// Codes of the warnings of its last poll.
    notices: Box<[String]>,
}

impl ScopeEntry {
    /// Why there is no data at the moment.
    fn failure(&self) -> Option<&Failure> {
        self.trouble.as_deref().or(self.standing.outcome.as_deref())
    }
}

/// What a job came to.
enum JobResult {
    Searched { feed: u32, found: Result<Discovery, Failure>, wait: SearchWait },
    Polled { scope: u32, tenant: Arc<str>, done: Result<Done, PollFault> },
    GivenUp { feed: u32, scope: String, done: Result<Done, PollFault> },
    Forgotten(Result<(), StoreError>),
    Kept { feed: u32, digests: FeedDigests, kept: Result<(), StoreError> },
}

/// Why a job has no answer.
enum PollFault {
    Open(FeedError),
    Store(NotKept),
}

impl Collector {
    /// Takes up these feeds, and what the store knows of them.
    pub async fn new(
        pipeline: Pipeline,
        tenants: Arc<Tenants>,
        feeds: Vec<Arc<AdmittedFeed>>,
        polls: usize,
        polls_of_tenant: usize,
    ) -> Result<Collector, StoreError> {
        let clock = Arc::clone(&pipeline.clock);
        let now = clock();
        let (feed_rows, scope_rows, throttles) = pipeline
            .store
            .ask(move |store| {
                store.prune(history_begins(now), now)?;
                Ok((store.feeds()?, store.scopes()?, store.throttles(now)?))
            })
            .await?;
        let kept = pipeline.store.ask(|store| store.kept()).await?;
        let tally = tally::Tally::new(now, pipeline.metrics.delivered());
        let mut collector = Collector {
            pipeline,
            tenants,
            clock,
            agenda: Agenda::new(polls, polls_of_tenant),
            feeds: HashMap::new(),
            scopes: HashMap::new(),
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
            store_trouble: None,
            repeats: Repeats::default(),
            swept: now,
            tally,
            pruned: now,
        };
        for row in feed_rows {
            let left = collector.left.entry(row.feed.as_str().into()).or_default();
            (left.digests, left.kept) = (Some(FeedDigests::of(&row)), Some(FeedDigests::of(&row)));
        }
        for row in scope_rows {
            collector.left.entry(row.feed.as_str().into()).or_default().stored.insert(row.scope.id.clone(), row);
        }
        collector.pipeline.metrics.configure(feeds.iter().map(|admitted| admitted.counted()));
        for (rank, admitted) in feeds.into_iter().enumerate() {
            collector.add(admitted, now, rank as u64);
        }
        for row in kept {
            collector.pipeline.metrics.feed(&row.tenant, &row.feed, |counts| counts.state_bytes = row.bytes);
        }
        Ok(collector)
    }

    /// Starts everything that is due and may begin.
    pub fn start_due(&mut self) {
        let now = (self.clock)();
        while let Some((item, due)) = self.agenda.take(now) {
            let job = match item {
                Job::Search(feed) => self.search(feed, now).map(|job| (None, job)),
                Job::Poll(scope) => self.poll(scope, due, now).map(|(key, job)| (Some(key), job)),
                Job::GiveUp(number) => self.give_up_job(number, now).map(|(key, job)| (Some(key), job)),
            };
            match job {
                Some((key, job)) => self.start(Some(item), key, job),
                None => self.agenda.done(item),
            }
        }
    }

    fn start(&mut self, item: Option<Job>, key: Option<ScopeKey>, job: JobFuture) {
        if let Some(key) = &key {
            self.busy.insert(key.clone());
        }
        let id = self.jobs.spawn(job).id();
        self.running.insert(id, RunningJob { item, key });
    }

    /// Waits for one job to end and takes what came of it, or takes up a part of what a search found; waits for ever while
    /// nothing is in flight. May be dropped at any time without losing anything.
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
            Ok(JobResult::Kept { feed, digests, kept }) => self.kept(feed, digests, kept),
            Err(error) => self.broke(running, &error),
        }
    }

    /// A job panicked: a fault of this program, which is told and does not end the collector.
    fn broke(&mut self, running: RunningJob, error: &tokio::task::JoinError) {
        tracing::error!(fault = Blame::Harness.word(), "a job broke down: {error}");
        let due = (self.clock)() + milliseconds(limits::ALARM_BACKOFF);
        let feed = match running.item {
            Some(Job::Search(feed)) => Some(feed),
            Some(Job::Poll(scope)) => self.scopes.get(&scope).map(|scope| scope.feed),
            Some(Job::GiveUp(_)) => {
                let row = running.key.and_then(|(feed, scope)| self.stored(&feed, &scope));
                // The next search finds it lost again.
                row.into_iter().for_each(|row| row.standing.watch = Polling::Polled);
                None
            }
            None => None,
        };
        if let (Some(item), Some(entry)) = (running.item, feed.and_then(|feed| self.feeds.get(&feed))) {
            self.agenda.plan(item, entry.tenant, due);
        }
    }

    /// When something becomes due next.
    pub fn next_due(&self) -> Option<u64> {
        self.agenda.next_due()
    }

    /// The feed of this id, as it is collected.
    pub fn admitted(&self, feed: &str) -> Option<&AdmittedFeed> {
        self.feeds.get(self.by_id.get(feed)?).map(|entry| &*entry.admitted)
    }

    /// Whether a feed of this id is collected.
    pub fn collects(&self, feed: &str) -> bool {
        self.by_id.contains_key(feed)
    }

    /// Whether there is no feed.
    pub fn is_without_feeds(&self) -> bool {
        self.feeds.is_empty()
    }

    /// Whether nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.updates.is_empty()
    }

    /// Where polls end up.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The way out of each tenant.
    pub fn tenants(&self) -> &Arc<Tenants> {
        &self.tenants
    }

    /// Forgets waits that are over, drops what was not used for a while, and plans anew where the clock was set back.
    pub fn sweep(&mut self) {
        let now = (self.clock)();
        if now + milliseconds(CLOCK_STEP) < self.swept {
            tracing::warn!(
                fault = Blame::Operator.word(),
                "the clock went back by {} s: everything is planned anew",
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
                "the same again, {count} times in {minutes} min"
            );
        }
        self.pruned = self.pruned.min(now);
        for entry in self.feeds.values() {
            let AdmittedFeed { tenant, id, log, .. } = &*entry.admitted;
            log.tell_dropped(tenant, id);
            let lines = log.take_uncounted();
            if lines > 0 {
                self.pipeline.metrics.feed(tenant, id, |counts| counts.log_lines_dropped += lines);
            }
        }
        self.throttles.retain(|_, until| *until > now);
        self.tenants.sweep(now);
        if now >= self.pruned + milliseconds(limits::PRUNE) {
            self.pruned = now;
            let store = self.pipeline.store.clone();
            tokio::spawn(async move {
                if let Err(error) = store.ask(move |store| store.prune(history_begins(now), now)).await {
                    tracing::error!(fault = error.blame().word(), "{error}");
                }
            });
        }
    }

    /// What was done in the last hour, where one is over since this was last asked.
    pub fn summary(&mut self) -> Option<String> {
        self.tally.summary((self.clock)(), self.pipeline.metrics.delivered())
    }

    fn plan_anew(&mut self, now: u64) {
        self.throttles.values_mut().for_each(|until| *until = (*until).min(now + milliseconds(limits::LONGEST_WAIT)));
        for (number, entry) in &self.feeds {
            self.agenda.plan(Job::Search(*number), entry.tenant, entry.schedule.next_place(now));
        }
        for (number, scope) in &mut self.scopes {
            let Some(entry) = self.feeds.get(&scope.feed) else { continue };
            scope.standing.due = scope.schedule.resumed(scope.standing.due, scope.standing.failures > 0, now, 0);
            self.agenda.plan(Job::Poll(*number), entry.tenant, scope.standing.due);
        }
    }

    /// Lets what is in flight end, and gives the rest up when the time is over: an abandoned poll is kept whole or not at
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

    /// How everything stands, what needs somebody first.
    pub fn snapshot(&self, most: usize) -> StatusSnapshot {
        self.draft(most).cleaned()
    }

    /// The same, from which secrets are still to be taken out.
    pub fn draft(&self, most: usize) -> StatusDraft {
        let mut rows: Vec<(&FeedEntry, RowSource)> = Vec::new();
        for (number, entry) in &self.feeds {
            let of_feed = entry.plan_changed.iter().map(|failure| RowSource::Feed(failure, None));
            let search = Some(Job::Search(*number));
            let of_search = entry.failure.iter().map(|failure| RowSource::Feed(failure, search));
            let scopes = entry.scopes.iter().filter_map(|number| self.scopes.get_key_value(number));
            let of_scopes = scopes.map(|(number, scope)| RowSource::Scope(*number, scope));
            // What nobody asks for any more needs nobody.
            let stored = entry.stored.values().filter(|row| row.standing.watch != Polling::Unasked);
            let all = of_feed.chain(of_search).chain(of_scopes).chain(stored.map(RowSource::Stored));
            rows.extend(all.map(|source| (&**entry, source)));
        }
        let (feeds, in_flight, total) = (self.feeds.len(), self.agenda.in_flight(), rows.len());
        let failing_feeds = rows.iter().filter(|(_, source)| matches!(source, RowSource::Feed(..))).count();
        let scopes = total - failing_feeds;
        let failing_scopes = rows.iter().filter(|(_, source)| source.fails()).count() - failing_feeds;
        rows.sort_by_cached_key(|(entry, source)| {
            (!source.fails(), &*entry.admitted.tenant, &*entry.admitted.id, source.scope())
        });
        // A row may have kilobytes of words: it is made for those that are shown alone.
        rows.truncate(most);
        let of_feeds = rows.iter().map(|(entry, _)| Arc::clone(&entry.admitted)).collect();
        let rows = rows.into_iter().map(|(entry, source)| self.row(entry, source)).collect();
        let (sinks, mut notes) = (self.pipeline.deliveries.rows(), self.pipeline.deliveries.troubles());
        if let Some(low) = self.pipeline.space.low() {
            notes.push(format!("{low}: feeds that keep more than their share of it keep nothing new"));
        }
        let (left_out, waiting) = (Vec::new(), Vec::new());
        let snapshot = StatusSnapshot {
            feeds,
            failing_feeds,
            scopes,
            failing_scopes,
            in_flight,
            total,
            rows,
            left_out,
            waiting,
            sinks,
            notes,
        };
        StatusDraft { snapshot, feeds: of_feeds }
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

    /// When a scope is tried next.
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

    /// What does not work, if anything.
    pub fn health(&self) -> Result<(), &StoreError> {
        self.store_trouble.as_ref().map_or(Ok(()), Err)
    }
}

/// A feed that was found good does not open: the plugin broke down, or the host.
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
