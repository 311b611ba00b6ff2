//! One poll of each scope, now: opens every feed of a configuration, searches for its scopes, and writes their events.

mod report;
mod reporter;
mod retry;

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use source_host::clock::Clock;
use source_host::contract::{Discovery, Failure, Scope};
use source_host::failures;
use source_host::feed::{Feed, Polled};

pub use self::report::{Figure, Report, table};
use self::reporter::Reporter;
pub use self::reporter::usual_fix;
use self::retry::{WorkLabel, poll_with_retries, with_retries};
use crate::admitted::AdmittedFeed;
use crate::admitted::tenants::Tenants;
use crate::collector::forget;
use crate::collector::verdict::{ScopeVerdict, verdicts};
use crate::collector::work::{Done, NotKept, Pipeline, Task};
use crate::config::StartError;
use crate::config::admission::Checked;
use crate::limits;
use crate::sink;
use crate::store::shards::Lease;
use crate::store::{FeedRow, Polling, ScopeRow, Standing, StoreError, Throttle};

/// The outputs for events and for people.
pub struct Output<'a> {
    /// Output of events, one on a line.
    pub events: &'a mut (dyn Write + Send),
    /// Output of sentences for people.
    pub people: &'a mut (dyn Write + Send),
}

/// A feed that is open.
pub struct Ready {
    /// The admitted feed.
    pub admitted: Arc<AdmittedFeed>,
    /// The open feed.
    pub feed: Feed,
}

/// Opens the admitted feeds.
pub async fn open(checked: &Checked, clock: &Clock) -> Result<Vec<Ready>, StartError> {
    let tenants = Tenants::live(checked.network.clone());
    let mut ready = Vec::new();
    for admitted in &checked.feeds {
        let feed = admitted.open(&tenants, clock).await.map_err(StartError::of_host)?;
        ready.push(Ready { admitted: Arc::clone(admitted), feed });
    }
    Ok(ready)
}

/// Polls every scope of every feed once. Scopes are polled at the same time and written in their order.
pub async fn poll(feeds: &[Ready], clock: &Clock, output: Output<'_>) -> Result<Report, StartError> {
    let mut reporter = Reporter { output, report: Report::default() };
    for ready in feeds {
        reporter.warn_of_expiry(ready, clock());
        let scopes = match reporter.scopes(ready, clock).await {
            Ok(scopes) => scopes,
            Err(failure) => {
                reporter.tell(ready, None, &failure);
                continue;
            }
        };
        let polls = scopes.iter().map(|scope| async move {
            let work = WorkLabel::of(ready, Some(scope), "reading");
            (scope, poll_with_retries(work, clock, || ready.feed.poll(scope, clock(), None)).await)
        });
        // Collected first: the compiler takes a stream that borrows from the scopes for one that cannot move between
        // threads.
        let polls: Vec<_> = polls.collect();
        let mut polls = stream::iter(polls).buffered(limits::POLLS_IN_FLIGHT);
        while let Some((scope, polled)) = polls.next().await {
            let Polled { batch, failure, notices } = polled;
            let (events, outcome, more, measures) = match batch {
                Some(batch) => (batch.events, batch.outcome, batch.notices, batch.measures),
                None => Default::default(),
            };
            reporter.settle(ready, scope, failure.or(outcome.clone()), notices.into_iter().chain(more), measures);
            reporter.output.events.write_all(&sink::lines(events.iter().map(|event| &event.body)))?;
            reporter.output.events.flush()?;
            reporter.report.events += events.len();
        }
    }
    Ok(reporter.report)
}

/// Polls every scope of every feed once, with the state in a store; the events go to the feeds' sinks.
pub async fn tick(feeds: &[Ready], pipeline: &Pipeline, output: Output<'_>) -> Result<Report, StartError> {
    let mut reporter = Reporter { output, report: Report::default() };
    let tick = Tick::begin(pipeline).await?;
    for ready in feeds {
        reporter.warn_of_expiry(ready, (pipeline.clock)());
        tick.feed(ready, &mut reporter).await?;
    }
    Ok(reporter.report)
}

/// The content of the store at the beginning of a tick, and the waits that services have asked for.
struct Tick<'a> {
    pipeline: &'a Pipeline,
    /// The rows of feeds, by feed.
    feeds: HashMap<String, FeedRow>,
    /// The rows of scopes, by feed.
    scopes: HashMap<String, Vec<ScopeRow>>,
    throttles: Mutex<Vec<Throttle>>,
}

/// The result of the work on one scope.
enum Performed {
    /// The settings do not ask for the scope any more.
    Unasked,
    /// The scope was not polled, because a wait is not over or an outbox is full; or its poll was not kept, because a
    /// budget is used up.
    Held(Failure),
    /// The scope was polled, or reported as lost.
    Done(Box<Done>),
}

impl<'a> Tick<'a> {
    async fn begin(pipeline: &'a Pipeline) -> Result<Tick<'a>, StoreError> {
        let now = (pipeline.clock)();
        let (store, shards) = (&pipeline.store, pipeline.shards.held());
        let feeds = store.feeds(&shards).await?.into_iter().map(|row| (row.feed.clone(), row)).collect();
        let mut scopes: HashMap<String, Vec<ScopeRow>> = HashMap::new();
        for row in store.scopes(&shards).await? {
            scopes.entry(row.feed.clone()).or_default().push(row);
        }
        let throttles = store.throttles(now).await?;
        Ok(Tick { pipeline, feeds, scopes, throttles: Mutex::new(throttles) })
    }

    /// Searches for the scopes of a feed and polls each of them.
    async fn feed(&self, ready: &Ready, reporter: &mut Reporter<'_>) -> Result<(), StartError> {
        let admitted = &ready.admitted;
        let Some(lease) = self.pipeline.shards.lease_of(&admitted.tenant) else {
            reporter.tell(ready, None, &failures::HELD_ELSEWHERE.because(failures::HELD_ELSEWHERE.cause));
            return Ok(());
        };
        let known: Vec<(&Scope, &Standing)> = self.rows(admitted).map(|row| (&row.scope, &row.standing)).collect();
        let standings: HashMap<&str, &Standing> =
            known.iter().map(|(scope, standing)| (scope.id.as_str(), *standing)).collect();
        let found = self.search(ready, reporter).await;
        let searched_with = admitted.settings_digest();
        let earlier = self.feeds.get(&*admitted.id);
        let verdicts = verdicts(&known, &found, earlier.is_some_and(|row| row.searched_with == searched_with));
        if found.is_ok() {
            // Scopes that an earlier tick reported as lost are still lost.
            for (scope, outcome) in still_lost(&known, &verdicts) {
                reporter.tell(ready, Some(scope), outcome);
            }
        }
        let polls = verdicts.into_iter().map(|(scope, verdict)| {
            let earlier = standings.get(scope.id.as_str()).map_or_else(Standing::default, |known| (*known).clone());
            self.perform(ready, lease, scope, earlier, verdict)
        });
        let mut polls = stream::iter(polls).buffered(limits::POLLS_IN_FLIGHT);
        while let Some((task, performed)) = polls.next().await {
            match performed? {
                Performed::Unasked => {}
                Performed::Held(failure) => reporter.tell(ready, Some(&task.scope), &failure),
                Performed::Done(done) => {
                    let Done { standing, events, failure, notices, measures, .. } = *done;
                    let outcome = failure.or(standing.outcome.map(|outcome| *outcome));
                    reporter.settle(ready, &task.scope, outcome, notices, measures);
                    reporter.report.events += events;
                }
            }
        }
        if let Ok(discovery) = &found {
            self.keep_search(admitted, lease, discovery).await?;
        }
        Ok(())
    }

    /// Forgets scopes that are not polled any more, and then writes the settings of the search.
    async fn keep_search(
        &self,
        admitted: &AdmittedFeed,
        lease: Lease,
        discovery: &Discovery,
    ) -> Result<(), StoreError> {
        let pipeline = self.pipeline;
        let named = forget::named(discovery);
        let gone = forget::forgotten(self.rows(admitted), |id| named.contains(id), (pipeline.clock)());
        if !gone.is_empty() {
            pipeline.store.forget_scopes(lease, &admitted.id, gone.into_iter().collect()).await?;
        }
        let (searched_with, configured_as) = (admitted.settings_digest(), admitted.fingerprint(&pipeline.salt));
        let row = FeedRow { feed: admitted.id.to_string(), searched_with, configured_as };
        pipeline.store.keep_feed(lease, row).await
    }

    /// The rows of a feed's scopes that were found before.
    fn rows<'b>(&'b self, admitted: &'b AdmittedFeed) -> impl Iterator<Item = &'b ScopeRow> {
        self.scopes.get(&*admitted.id).into_iter().flatten().filter(|row| row.tenant == *admitted.tenant)
    }

    /// Searches for the scopes of a feed, reports the result, and keeps a wait that the service asked for.
    async fn search(&self, ready: &Ready, reporter: &mut Reporter<'_>) -> Result<Discovery, Failure> {
        let (pipeline, admitted) = (self.pipeline, &ready.admitted);
        let throttled = pipeline.throttled(admitted, &self.throttles.lock());
        let found = match throttled {
            Some(failure) => Err(failure),
            None => search(ready, &pipeline.clock).await,
        };
        match &found {
            Ok(discovery) => reporter.found(ready, &discovery.notices, &[]),
            Err(failure) => {
                let wait = pipeline.search_wait(admitted, &ready.feed, 0, Some(failure)).await;
                self.throttles.lock().extend(wait.throttle);
                if let Some(error) = wait.unkept {
                    reporter.warn(ready, None, &error.to_string());
                }
                reporter.tell(ready, None, failure);
            }
        }
        found
    }

    /// Performs the search's verdict on a scope with this `earlier` standing.
    async fn perform(
        &self,
        ready: &Ready,
        lease: Lease,
        scope: Scope,
        earlier: Standing,
        verdict: ScopeVerdict,
    ) -> (Task, Result<Performed, StoreError>) {
        let (pipeline, admitted) = (self.pipeline, &ready.admitted);
        let task = verdict.task(admitted, lease, scope, earlier, (pipeline.clock)());
        if task.standing.watch == Polling::Unasked {
            let kept = pipeline.store.keep_scopes(task.lease, vec![task.row()]).await;
            return (task, kept.map(|()| Performed::Unasked));
        }
        let performed = self.poll(ready, &task).await;
        (task, performed)
    }

    async fn poll(&self, ready: &Ready, task: &Task) -> Result<Performed, StoreError> {
        let pipeline = self.pipeline;
        let held = pipeline.waits(task, &self.throttles.lock());
        if let Some(failure) = held {
            return Ok(Performed::Held(failure));
        }
        let state = pipeline.state(task).await?;
        let attempt = || pipeline.attempt(&ready.feed, task, state.as_deref());
        let polled =
            poll_with_retries(WorkLabel::of(ready, Some(&task.scope), "reading"), &pipeline.clock, attempt).await;
        let done = pipeline.conclude(&ready.feed, task, state.is_some(), polled).await;
        let done = match done {
            Err(not_kept) if not_kept.is_of_feed() => return Ok(Performed::Held(not_kept.failure())),
            done => done.map_err(|NotKept { error, .. }| error)?,
        };
        self.throttles.lock().extend(done.throttle.clone());
        Ok(Performed::Done(Box::new(done)))
    }
}

/// Returns the scopes that were lost before and have no new verdict, with the reasons.
fn still_lost<'a>(
    known: &[(&'a Scope, &'a Standing)],
    verdicts: &[(Scope, ScopeVerdict)],
) -> impl Iterator<Item = (&'a Scope, &'a Failure)> {
    let new: HashSet<&str> = verdicts.iter().map(|(scope, _)| scope.id.as_str()).collect();
    let lost = known
        .iter()
        .filter(move |(scope, standing)| standing.watch == Polling::Lost && !new.contains(scope.id.as_str()));
    lost.filter_map(|(scope, standing)| Some((*scope, standing.outcome.as_deref()?)))
}

/// Signs in and searches for the scopes.
async fn search(ready: &Ready, clock: &Clock) -> Result<Discovery, Failure> {
    with_retries(&WorkLabel::of(ready, None, "signing in"), clock, || ready.feed.sign_in()).await?;
    with_retries(&WorkLabel::of(ready, None, "looking for scopes"), clock, || ready.feed.discover()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An embedder may poll and tick in a separate task.
    #[expect(dead_code, reason = "that this compiles is the test")]
    fn futures_can_go_to_another_thread(feeds: &[Ready], clock: &Clock, pipeline: &Pipeline, outputs: [Output<'_>; 2]) {
        fn is_send(_: impl Send) {}
        let [first, second] = outputs;
        is_send(poll(feeds, clock, first));
        is_send(tick(feeds, pipeline, second));
    }
}
