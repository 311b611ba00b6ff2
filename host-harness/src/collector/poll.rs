//! The poll of a scope: whether it may begin, and how its result is handled.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use source_host::blame::Blame;
use source_host::contract::{Failure, Reaction, Scope};
use source_host::failures;
use source_host::limits::milliseconds;
use tokio::sync::OnceCell;

use crate::admitted::AdmittedFeed;
use crate::collector::agenda::Job;
use crate::collector::log::{log_failure, log_notices, log_outcome, redacted};
use crate::collector::work::{Done, NotKept, Task};
use crate::collector::{
    Collector, FeedEntry, JobFuture, JobResult, OpenedFeed, PollFault, ScopeEntry, ScopeKey, failure_of, may_stay_open,
};
use crate::limits;
use crate::overview::counted;
use crate::overview::figures::Average;
use crate::store::{Polling, ScopeRow, Standing, StoreError, Throttle};

/// Key of the store's repeated errors.
const STORE: &str = "store";

impl Collector {
    pub(super) fn poll(&mut self, number: u32, due: u64, now: u64) -> Option<(ScopeKey, JobFuture)> {
        let scope = self.scopes.get(&number)?;
        let entry = self.feeds.get(&scope.feed)?;
        let (feed, tenant, lease) = (scope.feed, entry.tenant, entry.lease);
        let admitted = Arc::clone(&entry.admitted);
        if !self.may_work(entry) {
            self.agenda.plan(Job::Poll(number), tenant, now + milliseconds(limits::RENEWAL));
            return None;
        }
        if entry.blocked || self.agenda.is_in_flight(Job::Search(feed)) {
            self.scopes.get_mut(&number)?.held_since.get_or_insert(due);
            return None;
        }
        let due = scope.held_since.unwrap_or(due);
        if let Some(until) = self.throttled(entry, now) {
            let due = entry.schedule_of(&scope.scope.id).after_throttle(until);
            self.agenda.plan(Job::Poll(number), tenant, due);
            return None;
        }
        let key = (admitted.id.clone(), scope.scope.id.clone());
        if self.busy.contains(&key) {
            self.agenda.plan(Job::Poll(number), tenant, now + milliseconds(limits::BUSY_PAUSE));
            return None;
        }
        if let Some((sink, waiting)) = self.pipeline.deliveries.full(&admitted.sinks, &admitted.tenant) {
            if self.paused.insert(number) {
                // The full outbox is logged once elsewhere, for all its scopes.
                tracing::debug!(
                    tenant = %admitted.tenant, feed = %admitted.id, scope = scope.scope.id,
                    "paused: {} bytes in {} events wait for the sink {sink}; continues when the sink takes them",
                    waiting.bytes, waiting.events
                );
            }
            self.agenda.plan(Job::Poll(number), tenant, now + milliseconds(limits::OUTBOX_PAUSE));
            return None;
        }
        if self.paused.remove(&number) {
            tracing::debug!(tenant = %admitted.tenant, feed = %admitted.id, scope = scope.scope.id, "continues after a pause");
        } else {
            self.pipeline.metrics.late(&admitted.tenant, &admitted.id, Duration::from_millis(now.saturating_sub(due)));
        }
        let (schedule, standing) = (entry.schedule_of(&scope.scope.id), Standing { due, ..scope.standing.clone() });
        let scope = scope.scope.clone();
        self.scopes.get_mut(&number)?.held_since = None;
        let (admitted, cell) = self.opened(feed)?;
        let owner = Arc::clone(&admitted.tenant);
        let task = Task { admitted, lease, schedule, scope, standing, given_up: None };
        let done = self.performed(task, cell);
        Some((key, Box::pin(async move { JobResult::Polled { scope: number, tenant: owner, done: done.await } })))
    }

    pub(super) fn performed(
        &self,
        task: Task,
        cell: Arc<OpenedFeed>,
    ) -> impl Future<Output = Result<Done, PollFault>> + Send + 'static {
        let (tenants, clock, pipeline) = (Arc::clone(&self.tenants), Arc::clone(&self.clock), self.pipeline.clone());
        async move {
            let open = || async { task.admitted.open(&tenants, &clock).await.map(Box::new) };
            let feed = cell.get_or_try_init(open).await.map_err(PollFault::Open)?;
            pipeline.perform(feed, &task).await.map_err(PollFault::Store)
        }
    }

    /// Returns the cell in which a feed stays open: while a job works with it, and a little longer, if few feeds are open.
    pub(super) fn opened(&mut self, feed: u32) -> Option<(Arc<AdmittedFeed>, Arc<OpenedFeed>)> {
        let (entry, now) = (self.feeds.get_mut(&feed)?, (self.clock)());
        if self.left_open.get(&feed).is_some_and(|(_, since)| !may_stay_open(*since, now)) {
            self.left_open.remove(&feed);
        }
        let cell = entry.open.upgrade().unwrap_or_else(|| {
            let cell = Arc::new(OnceCell::new());
            entry.open = Arc::downgrade(&cell);
            cell
        });
        // Another poll of a feed with one scope comes after the feed's interval only.
        let profits = entry.scopes.len() > 1 || entry.admitted.interval < limits::OPEN_FEED;
        if profits && self.left_open.len() >= limits::OPEN_FEEDS {
            self.left_open.retain(|_, (_, since)| may_stay_open(*since, now));
        }
        if profits && self.left_open.len() < limits::OPEN_FEEDS {
            self.left_open.entry(feed).or_insert_with(|| (Arc::clone(&cell), now));
        }
        Some((Arc::clone(&entry.admitted), cell))
    }

    pub(super) fn throttled(&self, entry: &FeedEntry, now: u64) -> Option<u64> {
        if self.throttles.is_empty() {
            return None;
        }
        let credential = entry.admitted.credential_id(&self.pipeline.salt);
        let until = |origin: &String| self.throttles.get(&(credential, origin.clone())).copied();
        entry.admitted.origins.iter().filter_map(until).filter(|until| *until > now).max()
    }

    pub(super) fn stored(&mut self, feed: &str, scope: &str) -> Option<&mut ScopeRow> {
        let rows = match self.by_id.get(feed) {
            Some(number) => &mut self.feeds.get_mut(number)?.stored,
            None => &mut self.left.get_mut(feed)?.stored,
        };
        rows.get_mut(scope).map(|row| &mut **row)
    }

    /// Handles a poll whose feed was reconfigured meanwhile: the scope's standing is kept.
    pub(super) fn polled_for_another(&mut self, (feed, scope): &ScopeKey, tenant: &str, done: Result<Done, PollFault>) {
        let Done { lease, standing, throttle, .. } = match done {
            Ok(done) => done,
            Err(fault) => return self.lost(feed, scope, tenant, fault),
        };
        self.share(throttle);
        let now_of = self.by_id.get(feed).and_then(|number| self.feeds.get(number));
        if now_of.is_some_and(|entry| *entry.admitted.tenant != *tenant || entry.lease != lease) {
            return;
        }
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
        if let Some(number) = self.by_id.get(feed) {
            self.note(*number);
        }
    }

    /// Logs why a job of a feed that was reconfigured meanwhile has no result.
    fn lost(&mut self, feed: &str, scope: &str, tenant: &str, fault: PollFault) {
        let (words, blame) = match fault {
            PollFault::Open(error) => (error.to_string(), failure_of(&error).blame()),
            PollFault::Store(not_kept) if not_kept.is_of_lease() => {
                tracing::debug!(tenant, feed, scope, "another collector does the poll again");
                return self.share(not_kept.throttle);
            }
            PollFault::Store(not_kept) if !not_kept.is_of_feed() => {
                self.share(not_kept.throttle);
                return self.tell_unkept(&not_kept.error);
            }
            PollFault::Store(not_kept) => {
                let failure = not_kept.failure();
                self.share(not_kept.throttle);
                (failure.cause.clone(), failure.blame())
            }
        };
        tracing::error!(tenant, feed, scope, fault = blame.word(), words, "a poll has no answer");
    }

    /// Shares a wait with other feeds that use the credential.
    pub(super) fn share(&mut self, throttle: Option<Throttle>) {
        if let Some(Throttle { credential, origin, until }) = throttle {
            let known = self.throttles.entry((credential, origin)).or_default();
            *known = until.max(*known);
        }
    }

    /// Logs why a job has no result, as a failure of the scope.
    pub(super) fn failed(
        &mut self,
        feed: u32,
        admitted: &AdmittedFeed,
        scope: &Scope,
        fault: PollFault,
        before: Option<&str>,
    ) -> Failure {
        match fault {
            PollFault::Store(not_kept) if not_kept.is_of_lease() => {
                tracing::debug!(
                    tenant = %admitted.tenant, feed = %admitted.id, scope = scope.id, "another collector does the poll again"
                );
                let failure = not_kept.failure();
                self.share(not_kept.throttle);
                failure
            }
            PollFault::Open(error) => {
                let failure = failure_of(&error);
                log_failure(admitted, Some(scope), &failure, before);
                failure
            }
            PollFault::Store(not_kept) if not_kept.is_of_feed() => {
                let failure = not_kept.failure();
                self.share(not_kept.throttle);
                log_failure(admitted, Some(scope), &failure, before);
                failure
            }
            PollFault::Store(NotKept { error, throttle }) => {
                self.share(throttle);
                let (words, blame) = (error.to_string(), error.blame());
                let fault = blame.word();
                macro_rules! line {
                    ($level:ident) => {
                        tracing::$level!(tenant = %admitted.tenant, feed = %admitted.id, scope = scope.id, fault, words, "the result of a poll was not stored")
                    };
                }
                match self.repeats.met(STORE, &words, blame, &words, (self.clock)()) {
                    true => line!(error),
                    false => line!(debug),
                }
                if let Some((_, before)) = self.store_trouble.take().filter(|(_, before)| before.to_string() != words) {
                    self.repeats.over(STORE, &before.to_string());
                }
                let failure = failures::STORE_FAILED.because(words);
                self.pipeline.metrics.store_failed();
                self.store_trouble = Some((feed, error));
                failure
            }
        }
    }

    /// Logs that the store did not keep data on which no poll depends.
    pub(super) fn tell_unkept(&mut self, error: &StoreError) {
        if error.is_of_lease() {
            return tracing::debug!("{error}");
        }
        self.pipeline.metrics.store_failed();
        let (words, blame) = (error.to_string(), error.blame());
        let fault = blame.word();
        match self.repeats.met_once(STORE, &words, blame, &words, (self.clock)()) {
            true => tracing::error!(fault, "{words}"),
            false => tracing::debug!(fault, "{words}"),
        }
    }

    /// Counts the state of a feed and its scopes: at once, or with the next sweep if counting after each poll would be
    /// slow.
    pub(super) fn note(&mut self, feed: u32) {
        let scopes = self.feeds.get(&feed).map_or(0, |entry| entry.scopes.len() + entry.stored.len());
        if scopes > limits::NOTED_AT_ONCE {
            self.unnoted.insert(feed);
        } else {
            self.note_now(feed);
        }
    }

    /// Counts the state of a feed and its scopes.
    pub(super) fn note_now(&self, feed: u32) {
        let Some(entry) = self.feeds.get(&feed) else { return };
        let live = entry.scopes.iter().filter_map(|scope| self.scopes.get(scope));
        let live = live.map(|scope| (&scope.standing, scope.failure()));
        let stored = entry.stored.values().map(|row| (&row.standing, row.standing.outcome.as_deref()));
        let polled: Vec<(&Standing, Option<&Failure>)> =
            live.chain(stored.clone().filter(|(standing, _)| standing.watch == Polling::Polled)).collect();
        let mut failing = [0; Blame::ALL.len()];
        // A lost scope needs a person as one that is refused.
        let lost = stored.clone().filter(|(standing, _)| standing.watch == Polling::Lost);
        let failures = polled.iter().copied().chain(lost.clone()).filter_map(|(_, failure)| failure);
        for failure in failures {
            failing[entry.admitted.plugin.blame(failure) as usize] += u32::from(failure.reaction != Reaction::NoData);
        }
        // A scope with nothing to collect was never collected, and raises no alarm while other scopes are collected.
        let is_empty = |failure: &Option<&Failure>| failure.is_some_and(|failure| failure.reaction == Reaction::NoData);
        let collected = polled.iter().filter(|(standing, failure)| standing.last_good.is_some() || !is_empty(failure));
        let oldest = collected.map(|(standing, _)| standing.last_good).min();
        // If every scope is lost, the last collection was that of a lost scope.
        let lost = lost.map(|(standing, _)| standing.last_good).max().filter(|_| polled.is_empty());
        let mut score = Average::default();
        for (standing, failure) in &polled {
            counted(standing.figure, *failure).into_iter().for_each(|figure| score.add(figure));
        }
        let search_fault = entry.failure.as_ref().map(|failure| entry.admitted.plugin.blame(failure));
        let scopes = polled.len() as u32;
        self.pipeline.metrics.feed(&entry.admitted.tenant, &entry.admitted.id, |counts| {
            (counts.last_collected, counts.score) = (oldest.or(lost).flatten().and_then(NonZeroU64::new), score);
            (counts.scopes, counts.failing, counts.search_fault) = (scopes, failing.into(), search_fault);
        });
    }

    pub(super) fn polled(&mut self, number: u32, done: Result<Done, PollFault>) {
        match done {
            Ok(done) => self.kept_poll(number, done),
            Err(fault) => self.lost_poll(number, fault),
        }
    }

    /// Handles a poll of which nothing was kept, not even its scope's standing.
    fn lost_poll(&mut self, number: u32, fault: PollFault) {
        let now = (self.clock)();
        let Some(ScopeEntry { feed, scope, trouble, .. }) = self.scopes.get(&number).map(|scope| &**scope) else {
            return;
        };
        let (feed, id, code_before) = (*feed, scope.clone(), trouble.as_ref().map(|trouble| trouble.code.clone()));
        let Some(entry) = self.feeds.get(&feed) else { return };
        let (admitted, tenant, schedule) = (Arc::clone(&entry.admitted), entry.tenant, entry.schedule_of(&id.id));
        let is_of_store = matches!(&fault, PollFault::Store(not_kept) if !not_kept.is_of_feed());
        let failure = self.failed(feed, &admitted, &id, fault, code_before.as_deref());
        self.tally.polled(0, Some(&failure.code));
        let Some(scope) = self.scopes.get_mut(&number) else { return };
        let failures = scope.standing.failures;
        let next = match is_of_store {
            true => schedule.after_lost_result(failures, now),
            false => schedule.after(failures, Some(&failure), now),
        };
        (scope.standing.failures, scope.standing.waits_for_person) = (next.failures, next.waits_for_person);
        scope.trouble = Some(Box::new(failure));
        self.note(feed);
        self.agenda.plan(Job::Poll(number), tenant, next.due);
    }

    /// Handles a poll whose result is in the store.
    fn kept_poll(&mut self, number: u32, done: Done) {
        let Some(scope) = self.scopes.get_mut(&number) else { return };
        let Some(entry) = self.feeds.get(&scope.feed) else { return };
        let (feed, admitted, tenant) = (scope.feed, Arc::clone(&entry.admitted), entry.tenant);
        let Done { standing, events, failure, notices, throttle, .. } = done;
        let outcome = standing.outcome.as_deref();
        let code = outcome.map(|outcome| redacted(&admitted, outcome).code);
        let failed = outcome.is_some_and(|outcome| outcome.reaction != Reaction::NoData);
        self.tally.polled(events, code.as_deref().filter(|_| failed));
        tracing::debug!(
            tenant = %admitted.tenant, feed = %admitted.id, scope = scope.scope.id, events,
            outcome = code.as_deref().unwrap_or("collected"), "polled"
        );
        if let Some((_, trouble)) = self.store_trouble.take()
            && self.repeats.over(STORE, &trouble.to_string())
        {
            tracing::info!("the store accepts polls again");
        }
        scope.notices = log_notices(&admitted, Some(&scope.scope), &notices, &scope.notices);
        log_outcome(&admitted, &scope.scope, outcome, scope.standing.outcome.as_deref());
        let due = standing.due;
        (scope.standing, scope.trouble) = (standing, None);
        self.share(throttle);
        self.note(feed);
        match failure.is_some_and(|failure| failure.reaction == Reaction::FixFeed) {
            true => self.hold(number, feed, due),
            false => self.agenda.plan(Job::Poll(number), tenant, due),
        }
    }

    /// Holds a scope whose failure blocks its whole feed: the scope waits for a search, which is due then.
    fn hold(&mut self, number: u32, feed: u32, due: u64) {
        let (Some(scope), Some(entry)) = (self.scopes.get_mut(&number), self.feeds.get_mut(&feed)) else { return };
        scope.held_since = Some(due);
        if !entry.blocked {
            (entry.blocked, entry.failures) = (true, entry.failures.max(1));
            entry.failure.clone_from(&scope.standing.outcome);
            self.agenda.plan(Job::Search(feed), entry.tenant, due);
        }
    }

    /// Lets paused scopes check again whether their sinks take events.
    pub fn resume_paused(&mut self) {
        let now = (self.clock)();
        let mut free: HashMap<u32, bool> = HashMap::new();
        for number in &self.paused {
            // A scope that already waits for its turn keeps its place.
            let is_planned = self.agenda.due(Job::Poll(*number)).is_some_and(|due| due > now);
            let Some(scope) = self.scopes.get(number).filter(|_| is_planned) else { continue };
            let Some(entry) = self.feeds.get(&scope.feed) else { continue };
            let (tenant, _, sinks) = entry.admitted.counted();
            let deliveries = &self.pipeline.deliveries;
            if *free.entry(scope.feed).or_insert_with(|| deliveries.full(sinks, tenant).is_none()) {
                self.agenda.plan(Job::Poll(*number), entry.tenant, now);
            }
        }
    }
}
