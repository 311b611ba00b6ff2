//! The work on one scope, from its stored state to committed events; the same for the collector and for a single poll
//! with a state.

use std::sync::Arc;

use parking_lot::Mutex;
use source_host::clock::Clock;
use source_host::contract::{Batch, Failure, Measure, Notice, PollResult, Reaction, Scope};
use source_host::failpoint;
use source_host::failures;
use source_host::feed::{self, Feed, Polled};

use crate::admitted::AdmittedFeed;
use crate::collector::schedule::{NextPoll, Schedule};
use crate::metrics::Metrics;
use crate::sink::delivery::Deliveries;
use crate::store::budget::{Budgets, Excess};
use crate::store::shards::{Lease, Shards};
use crate::store::{
    NewEvent, Points, PollRecord, Polling, ScopeRow, SharedStore, Standing, StoreError, StoreErrorKind, Throttle,
    of_whole,
};

/// The store, sinks and metrics that polls write to.
#[derive(Clone)]
pub struct Pipeline {
    /// The store of states and events.
    pub store: SharedStore,
    /// The shards of the store on which this process works.
    pub shards: Shards,
    /// The deliveries of events to their sinks.
    pub deliveries: Deliveries,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The clock.
    pub clock: Clock,
    /// Random text of the store, which salts ids of credentials and polls.
    pub salt: Arc<str>,
    /// The limits of the data that the store keeps of each feed and tenant; they change with the configuration.
    pub budgets: Arc<Mutex<Budgets>>,
}

/// A task on one scope.
#[derive(Clone)]
pub struct Task {
    /// The scope's feed.
    pub admitted: Arc<AdmittedFeed>,
    /// The lease under which the feed's data was read.
    pub lease: Lease,
    /// The scope's schedule.
    pub schedule: Schedule,
    /// The scope.
    pub scope: Scope,
    /// The scope's standing.
    pub standing: Standing,
    /// If set, this failure is reported instead of polling: the scope is not polled any more.
    pub given_up: Option<Failure>,
}

/// The wait that a service asked of a search.
#[derive(Debug, Default)]
pub struct SearchWait {
    /// The wait, which others share.
    pub throttle: Option<Throttle>,
    /// The store's error, if it did not keep the wait. The wait then costs one request after the next start.
    pub unkept: Option<StoreError>,
}

/// The result of a task.
#[derive(Debug)]
pub struct Done {
    /// The lease under which the result was written.
    pub lease: Lease,
    /// The scope's new standing.
    pub standing: Standing,
    /// Number of events that were committed.
    pub events: usize,
    /// The failure of the poll.
    pub failure: Option<Failure>,
    /// Warnings.
    pub notices: Vec<Notice>,
    /// Figures.
    pub measures: Vec<Measure>,
    /// A wait that others share.
    pub throttle: Option<Throttle>,
}

/// The store failed to return or keep data that a poll needs; nothing of the poll was kept.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct NotKept {
    /// The store's error.
    pub error: StoreError,
    /// A wait that others share nevertheless.
    pub throttle: Option<Throttle>,
}

impl NotKept {
    /// The error as a failure of the scope.
    pub fn failure(&self) -> Failure {
        match &self.error.what {
            StoreErrorKind::OverBudget(excess @ Excess::Share { .. }) => failures::SPACE_LOW.because(excess),
            StoreErrorKind::OverBudget(excess) => failures::STATE_FULL.because(excess),
            _ => failures::STORE_FAILED.because(&self.error),
        }
    }

    /// Says whether another collector took the shard, and does the work again.
    pub fn is_of_lease(&self) -> bool {
        self.error.is_of_lease()
    }

    /// Says whether the error concerns this feed only.
    pub fn is_of_feed(&self) -> bool {
        matches!(self.error.what, StoreErrorKind::OverBudget(_))
    }
}

impl From<StoreError> for NotKept {
    fn from(error: StoreError) -> NotKept {
        NotKept { error, throttle: None }
    }
}

impl Task {
    /// The scope's row in the store.
    pub fn row(&self) -> ScopeRow {
        ScopeRow {
            feed: self.admitted.id.to_string(),
            tenant: self.admitted.tenant.to_string(),
            scope: self.scope.clone(),
            standing: self.standing.clone(),
        }
    }

    /// Returns the scope's standing after a poll that ended now with this outcome.
    fn stands(
        &self,
        outcome: Option<Failure>,
        measures: &[Measure],
        next: &NextPoll,
        watch: Polling,
        now: u64,
    ) -> Standing {
        let code = |outcome: Option<&Failure>| outcome.map(|outcome| outcome.code.clone());
        let is_same = code(outcome.as_ref()) == code(self.standing.outcome.as_deref());
        let is_refused = outcome.as_ref().is_some_and(|outcome| outcome.reaction == Reaction::FixScope);
        Standing {
            due: next.due,
            id_time: self.standing.next_id_time(),
            ended: now,
            failures: next.failures,
            waits_for_person: next.waits_for_person,
            since: if is_same { self.standing.since.min(now) } else { now },
            refused: is_refused.then_some(now),
            last_good: if outcome.is_none() { Some(now) } else { self.standing.last_good },
            outcome: outcome.map(Box::new),
            watch,
            // A poll with other figures says that the scope has none of its own any more.
            figure: of_whole(measures)
                .and_then(Points::of)
                .or_else(|| self.standing.figure.filter(|_| measures.is_empty())),
        }
    }
}

impl Pipeline {
    /// Reads the state of a scope, polls it, and commits the result.
    pub async fn perform(&self, feed: &Feed, task: &Task) -> Result<Done, NotKept> {
        failpoint::pass("poll-begin");
        let state = self.state(task).await?;
        let polled = self.attempt(feed, task, state.as_deref()).await;
        self.conclude(feed, task, state.is_some(), polled).await
    }

    /// Closes the store, so that its file is complete by itself. If that fails, the next start completes the file.
    pub async fn close(&self) {
        if let Err(error) = self.store.close().await {
            tracing::debug!(%error, "the store's log stays beside it");
        }
    }

    /// Returns why this feed must not send requests now: a wait that a service asked of another feed with the same
    /// credential.
    pub fn throttled(&self, admitted: &AdmittedFeed, throttles: &[Throttle]) -> Option<Failure> {
        let (credential, now) = (admitted.credential_id(&self.salt), (self.clock)());
        let of_feed = |row: &&Throttle| row.credential == credential && admitted.origins.contains(&row.origin);
        let last = throttles.iter().filter(of_feed).max_by_key(|row| row.until).filter(|row| row.until > now);
        let Throttle { origin, until, .. } = last?;
        let cause = format!("{origin} asked to wait; the wait is over in {} s", (until - now).div_ceil(1_000));
        Some(failures::THROTTLED.because(cause))
    }

    /// Returns why a scope must not be polled now: a wait of its feed, or an outbox that is full.
    pub fn waits(&self, task: &Task, throttles: &[Throttle]) -> Option<Failure> {
        let (tenant, _, sinks) = task.admitted.counted();
        if let Some(failure) = self.throttled(&task.admitted, throttles) {
            return Some(failure);
        }
        let (sink, waiting) = self.deliveries.full(sinks, tenant)?;
        let cause = format!("{} bytes in {} events wait for the sink {sink}", waiting.bytes, waiting.events);
        let fix = format!("find out why {sink} takes no events; polls continue when it does");
        Some(Failure { fix: Some(fix), ..failures::OUTBOX_FULL.because(cause) })
    }

    /// Reads the state of the scope.
    pub async fn state(&self, task: &Task) -> Result<Option<Vec<u8>>, StoreError> {
        let Task { admitted, scope, .. } = task;
        let state = self.store.state(&admitted.tenant, &admitted.id, &scope.id).await?;
        failpoint::pass("poll-state-read");
        Ok(state)
    }

    /// Polls the scope, or reports why it is not polled any more.
    pub async fn attempt(&self, feed: &Feed, task: &Task, state: Option<&[u8]>) -> Polled {
        let poll_id = feed::keyed_poll_id(&self.salt, &task.admitted.id, &task.scope.id, task.standing.next_id_time());
        match &task.given_up {
            Some(failure) => feed.tell(&task.scope, poll_id, PollResult::Failure(failure.clone()), state).await,
            None => {
                if let Some(refused) = task.standing.refused {
                    // A token from before lacks a permission that was granted since. A time in the future was written
                    // while the clock was wrong.
                    feed.forget_tokens(refused.min((self.clock)()));
                }
                feed.poll_as(&task.scope, poll_id, state).await
            }
        }
    }

    /// Returns the wait that all feeds with this credential share at an origin, for as long as the origin asks. A
    /// longer wait that the plugin asks for applies to its own scope only.
    pub fn throttle(&self, admitted: &AdmittedFeed, feed: &Feed, until: Option<u64>) -> Option<Throttle> {
        let (until, asked) = until.zip(feed.throttled())?;
        let (credential, until) = (admitted.credential_id(&self.salt), until.min(asked.until));
        Some(Throttle { credential, origin: asked.origin, until })
    }

    /// Keeps the wait of a search that ended now, after `failures` failed ones.
    pub async fn search_wait(
        &self,
        admitted: &AdmittedFeed,
        feed: &Feed,
        failures: u32,
        failure: Option<&Failure>,
    ) -> SearchWait {
        let next = Schedule::of_search(&admitted.id, admitted.interval).after(failures, failure, (self.clock)());
        let throttle = self.throttle(admitted, feed, next.throttled_until);
        let unkept = match throttle.clone() {
            Some(throttle) => self.store.keep_throttle(throttle).await.err(),
            None => None,
        };
        SearchWait { throttle, unkept }
    }

    /// Commits the result of a poll, and counts it. `had_state` says whether the scope had a state.
    pub async fn conclude(&self, feed: &Feed, task: &Task, had_state: bool, polled: Polled) -> Result<Done, NotKept> {
        let now = (self.clock)();
        let Polled { batch, failure, mut notices } = polled;
        let has_batch = batch.is_some();
        let empty =
            Batch { events: Vec::new(), state: Vec::new(), outcome: None, notices: Vec::new(), measures: Vec::new() };
        let Batch { events, state, outcome, notices: more, measures } = batch.unwrap_or(empty);
        notices.extend(more);
        // The plugin's outcome names the scope in its fix; the failure of the poll does not.
        let outcome = outcome.or_else(|| failure.clone());
        let usage = feed.take_usage();
        let next = task.schedule.after(task.standing.failures, outcome.as_ref(), now);
        let throttle = self.throttle(&task.admitted, feed, next.throttled_until);
        // If the plugin could not report the loss, the next search finds the scope lost again.
        let watch = match task.given_up {
            Some(_) if has_batch || !had_state => Polling::Lost,
            _ => Polling::Polled,
        };
        let standing = task.stands(outcome, &measures, &next, watch, now);
        let (tenant, id, sinks) = task.admitted.counted();
        let new = |event: source_host::contract::Event| NewEvent {
            uid: event.uid,
            time: event.time_milliseconds,
            body: event.body,
        };
        let record = PollRecord {
            lease: task.lease,
            row: ScopeRow { standing: standing.clone(), ..task.row() },
            state: has_batch.then_some(state),
            time: now,
            measures: measures.clone(),
            events: events.into_iter().map(new).collect(),
            sinks: sinks.to_vec(),
            throttle: throttle.clone(),
            budgets: *self.budgets.lock(),
        };
        let record = Arc::new(record);
        let committed = self.store.commit(Arc::clone(&record)).await;
        self.metrics.feed(tenant, id, |counts| counts.used(&usage));
        let kept = match committed {
            Ok(kept) => kept,
            Err(error) => {
                // The wait holds for whoever has the shard now, too.
                if let Some(throttle) = throttle.clone().filter(|_| error.is_of_lease())
                    && let Err(error) = self.store.keep_throttle(throttle).await
                {
                    tracing::debug!(%error, "others do not know of a wait");
                }
                let not_kept = NotKept { error, throttle };
                if not_kept.is_of_feed() {
                    self.metrics.feed(tenant, id, |counts| counts.polled(Some(&not_kept.failure()), 0, &notices));
                }
                return Err(not_kept);
            }
        };
        // A poll may end while its shard is being given back: the next holder counts its events.
        if self.shards.holds(task.lease) {
            self.deliveries.queued(sinks, tenant, id, &record.events);
        }
        let events = record.events.len();
        self.metrics.feed(tenant, id, |counts| {
            counts.polled(standing.outcome.as_deref(), events, &notices);
            counts.state_bytes = kept.feed;
        });
        Ok(Done { lease: task.lease, standing, events, failure, notices, measures, throttle })
    }
}
