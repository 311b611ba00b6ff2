//! Drives the feeds of a configuration day after day: starts what is due, takes what came of it, and plans what comes
//! next. Time is an argument: whoever drives it decides when `now` is.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use crate::agenda::{Agenda, Item};
use crate::contract::{Discovery, Failure, Notice, Reaction, Scope};
use crate::feed::{Clock, Feed, FeedError};
use crate::feeds::{Parked, Tenants};
use crate::limits;
use crate::redact;
use crate::schedule::{Rhythm, first};
use crate::store::{FeedRow, ScopeRow, Standing, StoreError, Throttle, Watch};
use crate::work::{Done, Finding, Keeper, Task, findings};

/// The collector.
pub struct Collector {
    keeper: Keeper,
    tenants: Arc<Tenants>,
    clock: Clock,
    agenda: Agenda,
    feeds: HashMap<u32, FeedEntry>,
    scopes: HashMap<u32, ScopeEntry>,
    by_id: HashMap<String, u32>,
    /// Tenants as the agenda knows them.
    tenant_numbers: HashMap<String, u32>,
    next_number: u32,
    jobs: JoinSet<Ended>,
    running: HashMap<tokio::task::Id, Running>,
    /// Feed and scope of what is being polled or told: never twice at the same time, whatever the configuration does.
    busy: HashSet<(String, String)>,
    throttles: HashMap<(String, String), u64>,
    /// Scopes whose outbox is full.
    paused: BTreeSet<u32>,
    /// The first feed that polls each scope.
    polled_by: HashMap<String, u32>,
    /// Scopes that more than one feed polls, so that it is said once.
    shared_scopes: BTreeSet<String>,
    /// Scopes of which it is still to be told that they are not polled any more, with their feed.
    pending: HashMap<u32, (u32, Task)>,
    /// What is known of feeds that are not configured now: they may come back.
    left: HashMap<String, Left>,
    /// What the store said last, where it did not take something.
    store_trouble: Option<StoreError>,
    swept: u64,
    pruned: u64,
}

/// What is known of a feed that is not configured: as it was last used, as the store has it, and its scopes.
#[derive(Default)]
struct Left {
    row: Option<FeedRow>,
    kept: Option<FeedRow>,
    stored: Vec<ScopeRow>,
}

type Job = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// What a job is at.
struct Running {
    item: Option<Item>,
    key: Option<(String, String)>,
}

struct FeedEntry {
    parked: Arc<Parked>,
    tenant: u32,
    rhythm: Rhythm,
    /// Open while somebody works with it.
    open: Weak<OnceCell<Feed>>,
    scopes: Vec<u32>,
    /// What the store knows of it beyond that: all until the first search, and afterwards what is not polled any more.
    stored: Vec<ScopeRow>,
    /// The feed as it is to be kept, and as it is.
    row: FeedRow,
    kept: Option<FeedRow>,
    credential: Arc<str>,
    failures: u32,
    failure: Option<Box<Failure>>,
    /// Only a person can mend the whole feed: its scopes wait until a search succeeds.
    blocked: bool,
    /// Not searched since its configuration changed: what waits for a person is then tried at once.
    changed: bool,
    /// Of its credentials, the fewest days before the end that were warned of.
    warned_days: u64,
}

struct ScopeEntry {
    feed: u32,
    scope: Scope,
    rhythm: Rhythm,
    standing: Standing,
    /// Since when it waits for a search of its feed, which may find it gone, or the feed blocked.
    held_since: Option<u64>,
    /// Value and maximum of its first figure.
    figure: Option<(f64, f64)>,
}

/// What a job came to.
enum Ended {
    Searched { feed: u32, found: Result<Discovery, Failure>, throttle: Option<Throttle> },
    Polled { scope: u32, done: Result<Done, Fault> },
    GivenUp { feed: u32, scope: String, done: Result<Done, Fault> },
    Kept { feed: u32, row: FeedRow, kept: Result<(), StoreError> },
}

/// Why a job has no answer.
enum Fault {
    Open(FeedError),
    Store(StoreError),
}

impl Collector {
    /// Takes up these feeds, and what the store knows of them.
    pub async fn new(
        keeper: Keeper,
        tenants: Arc<Tenants>,
        feeds: Vec<Arc<Parked>>,
        polls: usize,
        polls_of_tenant: usize,
    ) -> Result<Collector, StoreError> {
        let clock = Arc::clone(&keeper.clock);
        let now = clock();
        let (feed_rows, scope_rows, throttles) = keeper
            .store
            .ask(move |store| {
                store.prune(history_begins(now), now)?;
                Ok((store.feeds()?, store.scopes()?, store.throttles(now)?))
            })
            .await?;
        // A wait of more than a day was meant by a clock that was wrong.
        let latest = now + milliseconds(limits::LONGEST_WAIT);
        let mut collector = Collector {
            keeper,
            tenants,
            clock,
            agenda: Agenda::new(polls, polls_of_tenant),
            feeds: HashMap::new(),
            scopes: HashMap::new(),
            by_id: HashMap::new(),
            tenant_numbers: HashMap::new(),
            next_number: 0,
            jobs: JoinSet::new(),
            running: HashMap::new(),
            busy: HashSet::new(),
            throttles: throttles.into_iter().map(|row| ((row.credential, row.origin), row.until.min(latest))).collect(),
            paused: BTreeSet::new(),
            polled_by: HashMap::new(),
            shared_scopes: BTreeSet::new(),
            pending: HashMap::new(),
            left: HashMap::new(),
            store_trouble: None,
            swept: now,
            pruned: now,
        };
        for row in feed_rows {
            let left = collector.left.entry(row.feed.clone()).or_default();
            (left.row, left.kept) = (Some(row.clone()), Some(row));
        }
        for row in scope_rows {
            collector.left.entry(row.feed.clone()).or_default().stored.push(row);
        }
        for (rank, parked) in feeds.into_iter().enumerate() {
            collector.add(parked, now, rank as u64);
        }
        Ok(collector)
    }

    /// Takes up a feed, with what is left of it from before.
    fn add(&mut self, parked: Arc<Parked>, now: u64, rank: u64) {
        let Left { row, kept, stored } = self.left.remove(&parked.id).unwrap_or_default();
        let salt = &self.keeper.salt;
        let number = self.next_number;
        self.next_number += 1;
        let tenants = self.tenant_numbers.len() as u32;
        let tenant = *self.tenant_numbers.entry(parked.tenant.clone()).or_insert(tenants);
        let configured_as = parked.fingerprint(salt);
        let changed = row.as_ref().is_some_and(|row| row.configured_as != configured_as);
        let searched_with = row.as_ref().map(|row| row.searched_with.clone()).unwrap_or_default();
        let row = FeedRow { feed: parked.id.clone(), searched_with, configured_as };
        // An hour of rest is no reason for ten thousand searches at once: each comes when its first scope is due.
        let rhythm = Rhythm::new(&parked.id, "", parked.interval);
        let earliest = stored.iter().filter(|row| row.standing.watch == Watch::Polled).map(|row| row.standing.due).min();
        let due = match earliest {
            Some(due) if !changed => rhythm.resumed(due, true, now, rank),
            _ => first(now, rank),
        };
        let expiries = parked.expiries.to_vec();
        let last_good = stored.iter().filter_map(|row| row.standing.last_good).max();
        let scopes = stored.iter().filter(|row| row.standing.watch == Watch::Polled).count() as u64;
        self.keeper.metrics.feed(&parked.tenant, &parked.id, |counts| {
            counts.credentials_expire = expiries;
            counts.last_collected = last_good.or(counts.last_collected);
            counts.scopes = scopes;
        });
        let credential = parked.credential_id(salt).into();
        self.by_id.insert(parked.id.clone(), number);
        self.agenda.plan(Item::Search(number), tenant, due);
        let entry = FeedEntry {
            parked,
            tenant,
            rhythm,
            open: Weak::new(),
            scopes: Vec::new(),
            stored,
            row,
            kept,
            credential,
            failures: 0,
            failure: None,
            blocked: false,
            changed,
            warned_days: u64::MAX,
        };
        self.feeds.insert(number, entry);
    }

    /// Takes these feeds in place of the ones before. What did not change goes on as it was; what is in flight ends.
    /// `impatient`: what waits for a person is tried at once, also where nothing changed.
    pub fn reload(&mut self, feeds: Vec<Arc<Parked>>, polls: usize, polls_of_tenant: usize, impatient: bool) {
        self.agenda.limit(polls, polls_of_tenant);
        let now = (self.clock)();
        let mut rank = 0;
        let mut gone: HashMap<String, u32> = std::mem::take(&mut self.by_id);
        for parked in feeds {
            let known = gone.remove(&parked.id);
            let configured_as = parked.fingerprint(&self.keeper.salt);
            let same = known
                .filter(|number| self.feeds.get(number).is_some_and(|entry| entry.row.configured_as == configured_as));
            match (same, known) {
                (Some(number), _) => self.keep(number, parked, now, impatient),
                (None, Some(number)) => {
                    self.change(number, parked, now, rank);
                    rank += 1;
                }
                (None, None) => {
                    self.add(parked, now, rank);
                    rank += 1;
                }
            }
        }
        for number in gone.into_values() {
            self.remove(number);
        }
        let known: HashSet<(&str, &str)> =
            self.feeds.values().map(|entry| (entry.parked.tenant.as_str(), entry.parked.id.as_str())).collect();
        self.keeper.metrics.keep(|tenant, feed| known.contains(&(tenant, feed)));
    }

    /// A feed whose settings are as they were; when and where to may have changed.
    fn keep(&mut self, number: u32, parked: Arc<Parked>, now: u64, impatient: bool) {
        self.by_id.insert(parked.id.clone(), number);
        let Some(entry) = self.feeds.get_mut(&number) else { return };
        let waits = entry.failure.is_some() || entry.blocked;
        if parked.differs_in_use(&entry.parked) {
            entry.rhythm = Rhythm::new(&parked.id, "", parked.interval);
            self.agenda.plan(Item::Search(number), entry.tenant, entry.rhythm.next_place(now));
            let expiries = parked.expiries.to_vec();
            self.keeper.metrics.feed(&parked.tenant, &parked.id, |counts| counts.credentials_expire = expiries);
            entry.parked = parked;
            for scope in entry.scopes.clone() {
                let Some(scope_entry) = self.scopes.get_mut(&scope) else { continue };
                scope_entry.rhythm = Rhythm::new(&entry.parked.id, &scope_entry.scope.id, entry.parked.interval);
                let due =
                    scope_entry.rhythm.resumed(scope_entry.standing.due, scope_entry.standing.failures > 0, now, 0);
                scope_entry.standing.due = due;
                self.agenda.plan(Item::Poll(scope), entry.tenant, due);
            }
        }
        if impatient {
            if waits {
                self.agenda.plan(Item::Search(number), entry.tenant, now);
            }
            self.try_at_once(number, now);
        }
    }

    /// What waits for a person is polled now.
    fn try_at_once(&mut self, number: u32, now: u64) {
        let Some(entry) = self.feeds.get(&number) else { return };
        for scope in &entry.scopes {
            if let Some(scope_entry) = self.scopes.get_mut(scope).filter(|scope| scope.standing.waits_for_person) {
                scope_entry.standing.due = now;
                self.agenda.plan(Item::Poll(*scope), entry.tenant, now);
            }
        }
    }

    /// A feed whose settings changed: it is searched at once, and what is in flight ends with the old ones.
    fn change(&mut self, number: u32, parked: Arc<Parked>, now: u64, rank: u64) {
        self.remove(number);
        self.add(parked, now, rank);
    }

    /// Takes a feed out, and leaves what is known of it for when it comes back.
    fn remove(&mut self, number: u32) {
        let Some(mut entry) = self.feeds.remove(&number) else { return };
        self.agenda.remove(Item::Search(number));
        for scope in std::mem::take(&mut entry.scopes) {
            if let Some(ScopeEntry { scope, standing, .. }) = self.unwatch(scope) {
                let (feed, tenant) = (entry.parked.id.clone(), entry.parked.tenant.clone());
                entry.stored.push(ScopeRow { feed, tenant, scope, standing });
            }
        }
        for (number, (_, task)) in self.pending.extract_if(|_, (feed, _)| *feed == number) {
            self.agenda.remove(Item::GiveUp(number));
            // It was not told yet.
            entry
                .stored
                .iter_mut()
                .filter(|row| row.scope.id == task.scope.id)
                .for_each(|row| row.standing.watch = Watch::Polled);
        }
        // What the feed was configured as is what the next configuration is compared with.
        let left = Left { row: Some(entry.row), kept: entry.kept, stored: entry.stored };
        self.left.insert(entry.parked.id.clone(), left);
    }

    /// Takes a scope off the agenda.
    fn unwatch(&mut self, number: u32) -> Option<ScopeEntry> {
        let scope = self.scopes.remove(&number)?;
        self.agenda.remove(Item::Poll(number));
        self.paused.remove(&number);
        if self.polled_by.get(&scope.scope.id) == Some(&scope.feed) {
            self.polled_by.remove(&scope.scope.id);
        }
        Some(scope)
    }

    /// Starts everything that is due and may begin.
    pub fn start_due(&mut self) {
        let now = (self.clock)();
        while let Some((item, due)) = self.agenda.take(now) {
            let job = match item {
                Item::Search(feed) => self.search(feed, now).map(|job| (None, job)),
                Item::Poll(scope) => self.poll(scope, due, now).map(|(key, job)| (Some(key), job)),
                Item::GiveUp(number) => self.tell(number, now).map(|(key, job)| (Some(key), job)),
            };
            match job {
                Some((key, job)) => self.start(Some(item), key, job),
                None => self.agenda.done(item),
            }
        }
    }

    fn start(&mut self, item: Option<Item>, key: Option<(String, String)>, job: Job) {
        if let Some(key) = &key {
            self.busy.insert(key.clone());
        }
        let id = self.jobs.spawn(job).id();
        self.running.insert(id, Running { item, key });
    }

    fn search(&mut self, number: u32, now: u64) -> Option<Job> {
        let entry = self.feeds.get(&number)?;
        let (tenant, rhythm, failures) = (entry.tenant, entry.rhythm, entry.failures);
        if let Some(until) = self.throttled(entry, now) {
            self.agenda.plan(Item::Search(number), tenant, rhythm.after_throttle(until));
            return None;
        }
        // A permission that was granted meanwhile is not in a token from before.
        let fresh = entry.blocked || entry.changed || entry.failure.is_some();
        let (parked, cell) = self.opened(number)?;
        let (tenants, clock, keeper) = (Arc::clone(&self.tenants), Arc::clone(&self.clock), self.keeper.clone());
        Some(Box::pin(async move {
            let open = || async { parked.open(&tenants, &clock).await };
            let feed = match cell.get_or_try_init(open).await {
                Ok(feed) => feed,
                Err(error) => {
                    return Ended::Searched { feed: number, found: Err(failure_of(&error)), throttle: None };
                }
            };
            if fresh {
                feed.forget_tokens(clock());
            }
            let found = feed.discover().await;
            let usage = feed.take_usage();
            let next = rhythm.after(failures, found.as_ref().err(), clock());
            let throttle = keeper.throttle(&parked, feed, next.throttled_until);
            keeper.metrics.feed(&parked.tenant, &parked.id, |counts| counts.used(&usage));
            if let Some(throttle) = throttle.clone()
                && let Err(error) = keeper.store.ask(move |store| store.keep_throttle(&throttle)).await
            {
                // A wait that is not kept costs one request after a restart.
                tracing::error!(fault = "harness", "{error}");
            }
            Ended::Searched { feed: number, found, throttle }
        }))
    }

    fn poll(&mut self, number: u32, due: u64, now: u64) -> Option<((String, String), Job)> {
        let scope = self.scopes.get(&number)?;
        let entry = self.feeds.get(&scope.feed)?;
        let (feed, tenant) = (scope.feed, entry.tenant);
        let parked = Arc::clone(&entry.parked);
        if entry.blocked || self.agenda.is_in_flight(Item::Search(feed)) {
            self.scopes.get_mut(&number)?.held_since.get_or_insert(due);
            return None;
        }
        let due = scope.held_since.unwrap_or(due);
        if let Some(until) = self.throttled(entry, now) {
            let due = scope.rhythm.after_throttle(until);
            self.agenda.plan(Item::Poll(number), tenant, due);
            return None;
        }
        let key = (parked.id.clone(), scope.scope.id.clone());
        if self.busy.contains(&key) {
            self.agenda.plan(Item::Poll(number), tenant, now + milliseconds(limits::BUSY_PAUSE));
            return None;
        }
        if let Some((sink, waiting)) = self.keeper.deliveries.full(&parked.sinks, &parked.tenant) {
            if self.paused.insert(number) {
                tracing::warn!(
                    tenant = %parked.tenant, feed = %parked.id, scope = %scope.scope.id, fault = "harness",
                    "paused: {} bytes in {} events wait for the sink {sink}; goes on when it takes them",
                    waiting.bytes, waiting.events
                );
            }
            self.agenda.plan(Item::Poll(number), tenant, now + milliseconds(limits::OUTBOX_PAUSE));
            return None;
        }
        if self.paused.remove(&number) {
            tracing::info!(tenant = %parked.tenant, feed = %parked.id, scope = %scope.scope.id, "goes on after a pause");
        } else {
            self.keeper.metrics.late(&parked.tenant, &parked.id, Duration::from_millis(now.saturating_sub(due)));
        }
        let (rhythm, standing) = (scope.rhythm, Standing { due, ..scope.standing.clone() });
        let scope = scope.scope.clone();
        self.scopes.get_mut(&number)?.held_since = None;
        let (parked, cell) = self.opened(feed)?;
        let task = Task { parked, rhythm, scope, standing, given_up: None };
        let done = self.performed(task, cell);
        Some((key, Box::pin(async move { Ended::Polled { scope: number, done: done.await } })))
    }

    fn performed(
        &self,
        task: Task,
        cell: Arc<OnceCell<Feed>>,
    ) -> impl Future<Output = Result<Done, Fault>> + Send + 'static {
        let (tenants, clock, keeper) = (Arc::clone(&self.tenants), Arc::clone(&self.clock), self.keeper.clone());
        async move {
            let open = || async { task.parked.open(&tenants, &clock).await };
            let feed = cell.get_or_try_init(open).await.map_err(Fault::Open)?;
            keeper.perform(feed, &task).await.map_err(Fault::Store)
        }
    }

    /// The cell in which a feed is open as long as somebody works with it.
    fn opened(&mut self, feed: u32) -> Option<(Arc<Parked>, Arc<OnceCell<Feed>>)> {
        let entry = self.feeds.get_mut(&feed)?;
        let cell = entry.open.upgrade().unwrap_or_else(|| {
            let cell = Arc::new(OnceCell::new());
            entry.open = Arc::downgrade(&cell);
            cell
        });
        Some((Arc::clone(&entry.parked), cell))
    }

    fn throttled(&self, entry: &FeedEntry, now: u64) -> Option<u64> {
        if self.throttles.is_empty() {
            return None;
        }
        let until = |origin: &String| self.throttles.get(&(entry.credential.to_string(), origin.clone())).copied();
        entry.parked.origins.iter().filter_map(until).filter(|until| *until > now).max()
    }

    /// Waits for one job to end and takes what came of it; waits for ever while none is in flight. May be dropped at any
    /// time without losing anything.
    pub async fn ended(&mut self) {
        let Some(joined) = self.jobs.join_next_with_id().await else { return std::future::pending().await };
        let id = joined.as_ref().map_or_else(tokio::task::JoinError::id, |(id, _)| *id);
        let running = self.running.remove(&id).unwrap_or(Running { item: None, key: None });
        if let Some(item) = running.item {
            self.agenda.done(item);
        }
        if let Some(key) = &running.key {
            self.busy.remove(key);
        }
        match joined.map(|(_, ended)| ended) {
            Ok(Ended::Searched { feed, found, throttle }) => {
                self.share(throttle);
                self.searched(feed, found);
            }
            Ok(Ended::Polled { scope, done }) => match running.key {
                Some(key) if !self.scopes.contains_key(&scope) => self.polled_for_another(&key, done),
                _ => self.polled(scope, done),
            },
            Ok(Ended::GivenUp { feed, scope, done }) => self.gave_up(feed, &scope, done),
            Ok(Ended::Kept { feed, row, kept }) => self.kept(feed, row, kept),
            Err(error) => self.broke(running, &error),
        }
    }

    /// A job panicked: a fault of this program, which is told and does not end the collector.
    fn broke(&mut self, running: Running, error: &tokio::task::JoinError) {
        tracing::error!(fault = "harness", "a job broke down: {error}");
        let due = (self.clock)() + milliseconds(limits::ALARM_BACKOFF);
        let feed = match running.item {
            Some(Item::Search(feed)) => Some(feed),
            Some(Item::Poll(scope)) => self.scopes.get(&scope).map(|scope| scope.feed),
            Some(Item::GiveUp(_)) => {
                let row = running.key.and_then(|(feed, scope)| self.stored(&feed, &scope));
                // The next search finds it lost again.
                row.into_iter().for_each(|row| row.standing.watch = Watch::Polled);
                None
            }
            None => None,
        };
        if let (Some(item), Some(entry)) = (running.item, feed.and_then(|feed| self.feeds.get(&feed))) {
            self.agenda.plan(item, entry.tenant, due);
        }
    }

    fn stored(&mut self, feed: &str, scope: &str) -> Option<&mut ScopeRow> {
        let rows = match self.by_id.get(feed) {
            Some(number) => &mut self.feeds.get_mut(number)?.stored,
            None => &mut self.left.get_mut(feed)?.stored,
        };
        rows.iter_mut().find(|row| row.scope.id == scope)
    }

    /// A poll ended whose feed was configured anew meanwhile: how the scope stands is taken over.
    fn polled_for_another(&mut self, (feed, scope): &(String, String), done: Result<Done, Fault>) {
        let Ok(Done { standing, throttle, .. }) = done else { return };
        self.share(throttle);
        if let Some(row) = self.stored(feed, scope) {
            row.standing = Standing { watch: row.standing.watch, ..standing };
            return;
        }
        let Some(entry) = self.by_id.get(feed).and_then(|number| self.feeds.get(number)) else { return };
        let number = entry
            .scopes
            .iter()
            .copied()
            .find(|number| self.scopes.get(number).is_some_and(|known| known.scope.id == *scope));
        if let Some(known) = number.and_then(|number| self.scopes.get_mut(&number)) {
            known.standing = Standing { due: known.standing.due, ..standing };
        }
    }

    /// Others with the credential wait too.
    fn share(&mut self, throttle: Option<Throttle>) {
        if let Some(Throttle { credential, origin, until }) = throttle {
            let known = self.throttles.entry((credential, origin)).or_default();
            *known = until.max(*known);
        }
    }

    fn searched(&mut self, number: u32, found: Result<Discovery, Failure>) {
        let now = (self.clock)();
        let Some(entry) = self.feeds.get_mut(&number) else { return };
        let parked = Arc::clone(&entry.parked);
        let next = entry.rhythm.after(entry.failures, found.as_ref().err(), now);
        entry.failures = next.failures;
        let was_blocked = entry.blocked;
        let before = entry.failure.take().map(|failure| failure.code);
        entry.failure = found.as_ref().err().cloned().map(Box::new);
        entry.blocked = found.as_ref().is_err_and(|failure| failure.reaction == Reaction::MendFeed);
        let changed = entry.changed && found.is_ok();
        entry.changed &= found.is_err();
        match &found {
            Ok(discovery) => {
                for notice in &discovery.notices {
                    log_notice(&parked, "", notice);
                }
                if before.is_some() {
                    tracing::info!(tenant = %parked.tenant, feed = %parked.id, "its scopes are found again");
                }
            }
            Err(failure) => log_failure(&parked, None, failure, before.as_deref()),
        }
        let searched_with = parked.settings_digest();
        let same_settings = entry.row.searched_with == searched_with;
        self.warn_of_expiry(number, now);
        let known = self.known(number);
        let pairs: Vec<(Scope, Standing)> =
            known.values().map(|(scope, standing, _)| (scope.clone(), standing.clone())).collect();
        let (mut rank, mut given_up, mut skipped) = (0, Vec::new(), false);
        for (scope, finding) in findings(&pairs, &found, same_settings) {
            let earlier = known.get(&scope.id);
            let mut standing = earlier.map(|(_, standing, _)| standing.clone()).unwrap_or_default();
            let live = earlier.and_then(|(_, _, number)| *number);
            match finding {
                Finding::Polled => {
                    let anew = earlier.is_none() || std::mem::take(&mut standing.watch) != Watch::Polled;
                    if anew || (changed && standing.waits_for_person) {
                        standing.due = first(now, rank);
                        rank += 1;
                    }
                    self.watch(number, scope, standing, live, now);
                }
                // The poll of one that is in flight ends first.
                _ if self.busy.contains(&(parked.id.clone(), scope.id.clone())) => skipped = true,
                Finding::Lost(why) => self.give_up(number, scope, standing, live, Some(why), now),
                Finding::GivenUp => {
                    self.give_up(number, scope.clone(), standing, live, None, now);
                    given_up.push(scope.id);
                }
            }
        }
        if found.is_ok() && !skipped {
            // Only now: until everything is done, a search that finds less is the first with these settings.
            if let Some(entry) = self.feeds.get_mut(&number) {
                entry.row.searched_with = searched_with;
            }
            self.keep_search(number, &given_up);
        }
        let due = if skipped { now + milliseconds(limits::BUSY_PAUSE) } else { next.due };
        self.plan_search(number, due, found.is_ok() && !skipped, now);
        self.release(number, was_blocked, now);
    }

    /// All scopes of a feed that are known, those that are polled with their number.
    fn known(&self, number: u32) -> BTreeMap<String, (Scope, Standing, Option<u32>)> {
        let Some(entry) = self.feeds.get(&number) else { return BTreeMap::new() };
        let stored =
            entry.stored.iter().map(|row| (row.scope.id.clone(), (row.scope.clone(), row.standing.clone(), None)));
        let live = entry.scopes.iter().filter_map(|number| {
            let ScopeEntry { scope, standing, .. } = self.scopes.get(number)?;
            Some((scope.id.clone(), (scope.clone(), standing.clone(), Some(*number))))
        });
        stored.chain(live).collect()
    }

    /// Writes which scopes were given up, and then with which settings the feed was searched: a crash in between makes
    /// the search anew.
    fn keep_search(&mut self, number: u32, given_up: &[String]) {
        let Some(entry) = self.feeds.get(&number) else { return };
        let rows: Vec<ScopeRow> = entry.stored.iter().filter(|row| given_up.contains(&row.scope.id)).cloned().collect();
        let row = entry.row.clone();
        if rows.is_empty() && entry.kept.as_ref() == Some(&row) {
            return;
        }
        let store = self.keeper.store.clone();
        let job = async move {
            let written = row.clone();
            let keep = store.ask(move |store| {
                store.keep_scopes(&rows)?;
                store.keep_feed(&written)
            });
            Ended::Kept { feed: number, row, kept: keep.await }
        };
        self.start(None, None, Box::pin(job));
    }

    fn kept(&mut self, number: u32, row: FeedRow, kept: Result<(), StoreError>) {
        match kept {
            Ok(()) => {
                if let Some(entry) = self.feeds.get_mut(&number) {
                    entry.kept = Some(row);
                }
            }
            Err(error) => {
                // The next search writes it again.
                self.keeper.metrics.store_failed();
                tracing::error!(fault = "harness", "{error}");
            }
        }
    }

    /// Polls a scope from now on, or goes on to, where it has a number.
    fn watch(&mut self, feed: u32, scope: Scope, standing: Standing, live: Option<u32>, now: u64) {
        let Some(entry) = self.feeds.get_mut(&feed) else { return };
        let stored = entry.stored.iter().position(|row| row.scope.id == scope.id);
        let was_stored = stored.map(|at| entry.stored.swap_remove(at)).is_some();
        if let Some(number) = live {
            if let Some(known) = self.scopes.get_mut(&number) {
                known.scope = scope;
            }
            return;
        }
        let parked = Arc::clone(&entry.parked);
        let rhythm = Rhythm::new(&parked.id, &scope.id, parked.interval);
        let due = match was_stored {
            true => rhythm.resumed(standing.due, standing.failures > 0, now, 0),
            false => standing.due,
        };
        let number = self.next_number;
        self.next_number += 1;
        entry.scopes.push(number);
        self.agenda.plan(Item::Poll(number), entry.tenant, due);
        let scopes = entry.scopes.len() as u64;
        self.keeper.metrics.feed(&parked.tenant, &parked.id, |counts| counts.scopes = scopes);
        self.tell_of_sharing(feed, &parked, &scope);
        let standing = Standing { due, ..standing };
        self.scopes.insert(number, ScopeEntry { feed, scope, rhythm, standing, held_since: None, figure: None });
    }

    /// Says once that two feeds poll one scope.
    fn tell_of_sharing(&mut self, feed: u32, parked: &Parked, scope: &Scope) {
        let other = *self.polled_by.entry(scope.id.clone()).or_insert(feed);
        let Some(other) = self.feeds.get(&other).filter(|_| other != feed).map(|other| &other.parked) else { return };
        if other.plugin_digest() == parked.plugin_digest() && self.shared_scopes.insert(scope.id.clone()) {
            tracing::warn!(
                tenant = %parked.tenant, feed = %parked.id, scope = %scope.id, fault = "tenant",
                "the feed {} of tenant {} polls this scope too: its findings are told twice", other.id, other.tenant
            );
        }
    }

    /// Polls a scope no more; where it was lost, one event says so.
    fn give_up(
        &mut self,
        feed: u32,
        scope: Scope,
        standing: Standing,
        live: Option<u32>,
        lost: Option<Failure>,
        now: u64,
    ) {
        let Some(parked) = self.feeds.get(&feed).map(|entry| Arc::clone(&entry.parked)) else { return };
        if let Some(number) = live {
            self.unwatch(number);
        }
        let rhythm = Rhythm::new(&parked.id, &scope.id, parked.interval);
        let watch = if lost.is_some() { Watch::Lost } else { Watch::Unasked };
        let standing = Standing { due: now, watch, ..standing };
        let task = Task { parked: Arc::clone(&parked), rhythm, scope, standing, given_up: lost };
        let Some(entry) = self.feeds.get_mut(&feed) else { return };
        entry.scopes.retain(|known| Some(*known) != live);
        let scopes = entry.scopes.len() as u64;
        entry.stored.retain(|row| row.scope.id != task.scope.id);
        entry.stored.push(task.row());
        self.keeper.metrics.feed(&parked.tenant, &parked.id, |counts| counts.scopes = scopes);
        match &task.given_up {
            Some(failure) => log_failure(&parked, Some(&task.scope), failure, None),
            None => tracing::warn!(
                tenant = %parked.tenant, feed = %parked.id, scope = %task.scope.id, fault = "tenant",
                "the settings do not ask for this scope any more: it is not polled, and its state is kept"
            ),
        }
        if task.given_up.is_some() {
            let tenant = entry.tenant;
            let number = self.next_number;
            self.next_number += 1;
            self.pending.insert(number, (feed, task));
            self.agenda.plan(Item::GiveUp(number), tenant, now);
        }
    }

    /// Tells of a scope that it is not polled any more.
    fn tell(&mut self, number: u32, now: u64) -> Option<((String, String), Job)> {
        let (feed, task) = self.pending.get(&number)?;
        let (feed, key) = (*feed, (task.parked.id.clone(), task.scope.id.clone()));
        if self.busy.contains(&key) {
            let tenant = self.feeds.get(&feed)?.tenant;
            self.agenda.plan(Item::GiveUp(number), tenant, now + milliseconds(limits::BUSY_PAUSE));
            return None;
        }
        let (_, task) = self.pending.remove(&number)?;
        let (_, cell) = self.opened(feed)?;
        let scope = task.scope.id.clone();
        let done = self.performed(task, cell);
        Some((key, Box::pin(async move { Ended::GivenUp { feed, scope, done: done.await } })))
    }

    fn gave_up(&mut self, feed: u32, scope: &str, done: Result<Done, Fault>) {
        let Some(entry) = self.feeds.get_mut(&feed) else { return };
        let Some(row) = entry.stored.iter_mut().find(|row| row.scope.id == scope) else { return };
        match done {
            Ok(done) => row.standing = done.standing,
            Err(fault) => {
                // The next search finds it lost again.
                row.standing.watch = Watch::Polled;
                let (parked, scope) = (Arc::clone(&entry.parked), row.scope.clone());
                self.failed(&parked, &scope, fault);
            }
        }
    }

    /// Tells why a job has no answer, as a failure of the scope.
    fn failed(&mut self, parked: &Parked, scope: &Scope, fault: Fault) -> Failure {
        match fault {
            Fault::Open(error) => {
                let failure = failure_of(&error);
                log_failure(parked, Some(scope), &failure, None);
                failure
            }
            Fault::Store(error) => {
                tracing::error!(tenant = %parked.tenant, feed = %parked.id, scope = %scope.id, fault = "harness", "{error}");
                let failure = Failure::of_host(Reaction::TryLater, "store-failed", error.to_string());
                self.keeper.metrics.store_failed();
                self.store_trouble = Some(error);
                failure
            }
        }
    }

    /// The next search goes with the feed's next poll, so that both use one token.
    fn plan_search(&mut self, number: u32, due: u64, good: bool, now: u64) {
        let Some(entry) = self.feeds.get(&number) else { return };
        let interval = milliseconds(entry.parked.interval);
        let polls = entry.scopes.iter().filter_map(|scope| self.scopes.get(scope));
        // What is polled now comes again at its place.
        let polls = polls.map(|scope| match scope.standing.due {
            due if due > now => due,
            _ => scope.rhythm.next_place(now),
        });
        let soon = |due: &u64| (now + interval / 2..=now + interval * 3 / 2).contains(due);
        let due = polls.filter(soon).min().filter(|_| good).unwrap_or(due);
        self.agenda.plan(Item::Search(number), entry.tenant, due);
    }

    /// Scopes that waited for the search are polled now, unless it found the feed blocked.
    fn release(&mut self, number: u32, was_blocked: bool, now: u64) {
        let Some(entry) = self.feeds.get(&number).filter(|entry| !entry.blocked) else { return };
        for scope in &entry.scopes {
            let held = self.scopes.get_mut(scope).and_then(|scope| scope.held_since.as_mut());
            let Some(since) = held else { continue };
            if was_blocked {
                // It waited for a person, and is not late.
                *since = now;
            }
            self.agenda.plan(Item::Poll(*scope), entry.tenant, now);
        }
    }

    fn warn_of_expiry(&mut self, number: u32, now: u64) {
        let Some(entry) = self.feeds.get_mut(&number) else { return };
        for (setting, end) in &entry.parked.expiries {
            let days = end.saturating_sub(now) / 86_400_000;
            let Some(threshold) = [7, 30].into_iter().find(|threshold| days < *threshold) else { continue };
            if threshold < entry.warned_days {
                entry.warned_days = threshold;
                tracing::warn!(
                    tenant = %entry.parked.tenant, feed = %entry.parked.id, fault = "tenant",
                    "`{setting}` runs out in {days} days: make a new one"
                );
            }
        }
    }

    fn polled(&mut self, number: u32, done: Result<Done, Fault>) {
        let now = (self.clock)();
        let Some(scope) = self.scopes.get(&number) else { return };
        let (feed, rhythm, before) = (scope.feed, scope.rhythm, scope.standing.clone());
        let Some(entry) = self.feeds.get(&feed) else { return };
        let (parked, tenant, scope_id) = (Arc::clone(&entry.parked), entry.tenant, scope.scope.clone());
        let Done { standing, failure, notices, measures, throttle, .. } = match done {
            Ok(done) => done,
            Err(fault) => {
                let failure = self.failed(&parked, &scope_id, fault);
                let next = rhythm.after(before.failures, Some(&failure), now);
                if let Some(scope) = self.scopes.get_mut(&number) {
                    scope.standing.failures = next.failures;
                }
                self.agenda.plan(Item::Poll(number), tenant, next.due);
                return;
            }
        };
        self.store_trouble = None;
        for notice in &notices {
            log_notice(&parked, &scope_id.id, notice);
        }
        let code_before = before.outcome.as_ref().map(|outcome| outcome.code.as_str());
        match &standing.outcome {
            Some(outcome) => log_failure(&parked, Some(&scope_id), outcome, code_before),
            None if code_before.is_some() => tracing::info!(
                tenant = %parked.tenant, feed = %parked.id, scope = %scope_id.id, "collects again"
            ),
            None => {}
        }
        self.share(throttle);
        let Some(scope) = self.scopes.get_mut(&number) else { return };
        if let Some(measure) = measures.first() {
            scope.figure = Some((measure.value, measure.maximum));
        }
        scope.standing = standing;
        let due = scope.standing.due;
        if failure.is_some_and(|failure| failure.reaction == Reaction::MendFeed) {
            scope.held_since = Some(due);
            let outcome = scope.standing.outcome.clone();
            let Some(entry) = self.feeds.get_mut(&feed) else { return };
            if !entry.blocked {
                (entry.blocked, entry.failures, entry.failure) = (true, entry.failures.max(1), outcome);
                self.agenda.plan(Item::Search(feed), tenant, due);
            }
        } else {
            self.agenda.plan(Item::Poll(number), tenant, due);
        }
    }

    /// Scopes that were paused look again whether their sinks take events.
    pub fn resume_paused(&mut self) {
        let now = (self.clock)();
        for number in self.paused.iter().copied().collect::<Vec<_>>() {
            let Some(scope) = self.scopes.get(&number) else { continue };
            let Some(entry) = self.feeds.get(&scope.feed) else { continue };
            if self.keeper.deliveries.full(&entry.parked.sinks, &entry.parked.tenant).is_none() {
                self.agenda.plan(Item::Poll(number), entry.tenant, now);
            }
        }
    }

    /// When something becomes due next.
    pub fn next_due(&self) -> Option<u64> {
        self.agenda.next_due()
    }

    /// Whether nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Where polls end up.
    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// The way out of each tenant.
    pub fn tenants(&self) -> &Arc<Tenants> {
        &self.tenants
    }

    /// Forgets waits that are over, drops what was not used for a while, and plans anew where the clock was set back.
    pub fn sweep(&mut self) {
        let now = (self.clock)();
        if now + milliseconds(limits::CLOCK_STEP) < self.swept {
            tracing::warn!(
                fault = "harness",
                "the clock went back by {} s: everything is planned anew",
                (self.swept - now) / 1_000
            );
            self.plan_anew(now);
        }
        self.swept = now;
        self.throttles.retain(|_, until| *until > now);
        self.tenants.sweep(now);
        if now >= self.pruned + milliseconds(limits::PRUNE) {
            self.pruned = now;
            let store = self.keeper.store.clone();
            tokio::spawn(async move {
                if let Err(error) = store.ask(move |store| store.prune(history_begins(now), now)).await {
                    tracing::error!(fault = "harness", "{error}");
                }
            });
        }
    }

    fn plan_anew(&mut self, now: u64) {
        self.throttles.values_mut().for_each(|until| *until = (*until).min(now + milliseconds(limits::LONGEST_WAIT)));
        for (number, entry) in &self.feeds {
            self.agenda.plan(Item::Search(*number), entry.tenant, entry.rhythm.next_place(now));
        }
        for (number, scope) in &mut self.scopes {
            let Some(entry) = self.feeds.get(&scope.feed) else { continue };
            scope.standing.due = scope.rhythm.resumed(scope.standing.due, scope.standing.failures > 0, now, 0);
            self.agenda.plan(Item::Poll(*number), entry.tenant, scope.standing.due);
        }
    }

    /// Lets what is in flight end, and gives the rest up when the time is over: an abandoned poll is kept whole or not at
    /// all.
    pub async fn stop(mut self, within: Duration) {
        let end = async {
            while !self.jobs.is_empty() {
                self.ended().await;
            }
        };
        if tokio::time::timeout(within, end).await.is_err() {
            tracing::warn!(fault = "harness", "{} polls were abandoned", self.jobs.len());
        }
        self.jobs.shutdown().await;
    }

    /// How everything stands, what needs somebody first.
    pub fn board(&self, most: usize) -> Board {
        let mut rows: Vec<BoardRow> = Vec::new();
        for entry in self.feeds.values() {
            if let Some(failure) = &entry.failure {
                rows.push(BoardRow::of_feed(&entry.parked, Some(failure)));
            }
            for scope in entry.scopes.iter().filter_map(|scope| self.scopes.get(scope)) {
                rows.push(BoardRow::of_scope(&entry.parked, scope));
            }
            for row in &entry.stored {
                rows.push(BoardRow::of_stored(&entry.parked, row));
            }
        }
        let total = rows.len();
        let failing = rows.iter().filter(|row| row.failure.is_some()).count();
        let key = |row: &BoardRow| (row.failure.is_none(), row.tenant.clone(), row.feed.clone(), row.scope.clone());
        rows.sort_by_cached_key(key);
        rows.truncate(most);
        Board { feeds: self.feeds.len(), in_flight: self.agenda.in_flight(), total, failing, rows }
    }

    /// What does not work, if anything.
    pub fn health(&self) -> Result<(), String> {
        match &self.store_trouble {
            None => Ok(()),
            Some(trouble) => Err(trouble.to_string()),
        }
    }
}

/// How everything stands at one moment.
#[derive(Debug, Clone, Default)]
pub struct Board {
    /// Number of feeds.
    pub feeds: usize,
    /// Polls and searches in flight.
    pub in_flight: usize,
    /// Number of rows there are.
    pub total: usize,
    /// Of those, the ones with a failure.
    pub failing: usize,
    /// Those that need somebody first.
    pub rows: Vec<BoardRow>,
}

/// How one scope, or a whole feed, stands.
#[derive(Debug, Clone)]
pub struct BoardRow {
    /// Id of the tenant.
    pub tenant: String,
    /// Id of the feed.
    pub feed: String,
    /// The scope as people call it; none for the feed itself.
    pub scope: Option<String>,
    /// Whom to ask.
    pub contact: Option<String>,
    /// Why there is no data.
    pub failure: Option<Failure>,
    /// When it is polled next, in Unix milliseconds.
    pub due: Option<u64>,
    /// When data was last collected, in Unix milliseconds.
    pub last_good: Option<u64>,
    /// Value and maximum of its first figure.
    pub figure: Option<(f64, f64)>,
}

impl BoardRow {
    fn of_feed(parked: &Parked, failure: Option<&Failure>) -> BoardRow {
        BoardRow {
            tenant: parked.tenant.clone(),
            feed: parked.id.clone(),
            scope: None,
            contact: parked.contact.clone(),
            failure: failure.map(|failure| redacted(parked, failure)),
            due: None,
            last_good: None,
            figure: None,
        }
    }

    fn of_scope(parked: &Parked, entry: &ScopeEntry) -> BoardRow {
        let ScopeEntry { scope, standing, figure, .. } = entry;
        BoardRow {
            scope: Some(called(scope)),
            due: Some(standing.due),
            last_good: standing.last_good,
            figure: *figure,
            ..BoardRow::of_feed(parked, standing.outcome.as_deref())
        }
    }

    fn of_stored(parked: &Parked, row: &ScopeRow) -> BoardRow {
        let ScopeRow { scope, standing, .. } = row;
        BoardRow {
            scope: Some(called(scope)),
            due: (standing.watch == Watch::Polled).then_some(standing.due),
            last_good: standing.last_good,
            ..BoardRow::of_feed(parked, standing.outcome.as_deref())
        }
    }
}

fn called(scope: &Scope) -> String {
    match &scope.name {
        Some(name) => format!("{name} ({})", scope.id),
        None => scope.id.clone(),
    }
}

/// A feed that was found good does not open: the plugin broke down, or the host.
fn failure_of(error: &FeedError) -> Failure {
    match error {
        FeedError::Call(error) => error.failure(),
        FeedError::Settings(_) => {
            let cause = "the plugin refuses settings that it accepted before".to_owned();
            Failure::of_host(Reaction::MendPlugin, "settings-refused", cause)
        }
        FeedError::Host(error) => Failure::of_host(Reaction::TryLater, "host-failed", error.clone()),
    }
}

fn redacted(parked: &Parked, failure: &Failure) -> Failure {
    let clean = |text: &str| redact::redact(text, parked.secrets());
    let clean_some = |text: &Option<String>| text.as_deref().map(clean);
    Failure {
        code: clean(&failure.code),
        cause: clean(&failure.cause),
        fix: clean_some(&failure.fix),
        service_code: clean_some(&failure.service_code),
        request_id: clean_some(&failure.request_id),
        ..failure.clone()
    }
}

/// One line where a failure is handled; the same failure again is for those who debug.
fn log_failure(parked: &Parked, scope: Option<&Scope>, failure: &Failure, before: Option<&str>) {
    let Failure { cause, fix, code, status, service_code, request_id, .. } = redacted(parked, failure);
    let (tenant, feed, scope) = (&parked.tenant, &parked.id, scope.map_or("", |scope| scope.id.as_str()));
    let (fault, fix) = (failure.whose(), fix.unwrap_or_default());
    let (service_code, request_id) = (service_code.unwrap_or_default(), request_id.unwrap_or_default());
    let status = status.unwrap_or_default();
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(%tenant, %feed, scope, code, %fault, status, service_code, request_id, fix, "{cause}")
        };
    }
    match failure.reaction {
        _ if before == Some(code.as_str()) => line!(debug),
        Reaction::MendPlugin | Reaction::StateUnusable => line!(error),
        _ => line!(warn),
    }
}

fn log_notice(parked: &Parked, scope: &str, notice: &Notice) {
    let message = redact::redact(&notice.message, parked.secrets());
    tracing::info!(tenant = %parked.tenant, feed = %parked.id, scope, code = %notice.code, "{message}");
}

fn history_begins(now: u64) -> u64 {
    now.saturating_sub(milliseconds(limits::HISTORY))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
