//! One poll of each scope, now: opens every feed of a configuration, finds its scopes, and writes their events.

use std::future::Future;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use source_host::clock::Clock;
use source_host::contract::{Discovery, Failure, Measure, Notice, Reaction, Scope};
use source_host::credentials::expiry;
use source_host::credentials::redact;
use source_host::feed::admitted::AdmittedFeed;
use source_host::feed::tenants::Tenants;
use source_host::feed::{Feed, Polled};
use source_host::limits;
use source_host::progress::Doing;
use source_host::text;

use crate::collector::schedule::Schedule;
use crate::collector::work::{Done, Finding, NotKept, Pipeline, Task, findings};
use crate::config::Problem;
use crate::config::admission::{CheckError, Checked};
use crate::sink;
use crate::store::{FeedRow, ScopeRow, Standing, StoreError, Throttle, Watch};

/// Why there was no poll at all.
#[derive(Debug, thiserror::Error)]
pub enum OnceError {
    /// The configuration is wrong.
    #[error("the configuration has {} problems", .0.len())]
    Configuration(Vec<Problem>),
    /// The plugin that is to take the place of what the feeds name cannot be used.
    #[error("{0}")]
    Plugin(String),
    /// Something of the host failed.
    #[error("{0}")]
    Host(String),
    /// The state cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The output cannot be written.
    #[error("failed to write the events")]
    Output(#[from] std::io::Error),
}

impl From<CheckError> for OnceError {
    fn from(error: CheckError) -> OnceError {
        match error {
            CheckError::Configuration(problems) => OnceError::Configuration(problems),
            CheckError::Plugin(error) => OnceError::Plugin(error),
            CheckError::Host(error) => OnceError::Host(error),
        }
    }
}

/// What came of a poll of everything.
#[derive(Debug, Default)]
pub struct Report {
    /// Scopes that were collected, or have nothing to collect.
    pub good: usize,
    /// Feeds and scopes that failed.
    pub failed: usize,
    /// Events written.
    pub events: usize,
    /// Figures of the scopes.
    pub rows: Vec<Figure>,
}

/// A figure and whose it is.
#[derive(Debug)]
pub struct Figure {
    /// Id of the feed.
    pub feed: String,
    /// Name of the scope; its id where it has none.
    pub scope: String,
    /// The figure.
    pub measure: Measure,
}

impl Report {
    /// What came of it, on one line.
    pub fn outcome(&self, time: Duration) -> String {
        let Report { events, good, failed, .. } = self;
        format!("polled in {:.1} s: {events} events; scopes: {good} good, {failed} failed", time.as_secs_f64())
    }

    /// The exit status: 0 done, 1 nothing collected, 3 partly done.
    pub fn status(&self) -> u8 {
        match (self.good, self.failed) {
            (_, 0) => 0,
            (0, _) => 1,
            _ => 3,
        }
    }
}

/// Where events go, and where words for people go.
pub struct Output<'a> {
    /// One event a line, and nothing else.
    pub events: &'a mut (dyn Write + Send),
    /// Sentences.
    pub people: &'a mut (dyn Write + Send),
}

/// A feed that is open.
pub struct Ready {
    /// What it was opened from.
    pub admitted: Arc<AdmittedFeed>,
    /// The feed.
    pub feed: Feed,
}

/// Opens feeds that were found good.
pub async fn open(checked: &Checked, clock: &Clock) -> Result<Vec<Ready>, OnceError> {
    let tenants = Tenants::live(checked.network.clone());
    let mut ready = Vec::new();
    for admitted in &checked.feeds {
        let feed = admitted.open(&tenants, clock).await.map_err(|error| OnceError::Host(error.to_string()))?;
        ready.push(Ready { admitted: Arc::clone(admitted), feed });
    }
    Ok(ready)
}

/// Polls every scope of every feed once. Scopes are read at the same time and written in their order.
pub async fn poll(feeds: &[Ready], clock: &Clock, output: Output<'_>) -> Result<Report, OnceError> {
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
            (scope, patiently(work, clock, || ready.feed.poll(scope, clock(), None)).await)
        });
        // Collected first: the compiler takes a stream that borrows from the scopes for one that stays on its thread.
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

/// Polls every scope of every feed once, with the state that a store keeps; the events go to the feeds' sinks.
pub async fn tick(feeds: &[Ready], pipeline: &Pipeline, output: Output<'_>) -> Result<Report, OnceError> {
    let mut reporter = Reporter { output, report: Report::default() };
    let tick = Tick::begin(pipeline).await?;
    for ready in feeds {
        reporter.warn_of_expiry(ready, (pipeline.clock)());
        tick.feed(ready, &mut reporter).await?;
    }
    Ok(reporter.report)
}

/// What the store held when a tick began, and the waits that the services asked for until now.
struct Tick<'a> {
    pipeline: &'a Pipeline,
    feeds: Vec<FeedRow>,
    scopes: Vec<ScopeRow>,
    throttles: Mutex<Vec<Throttle>>,
}

/// What became of one scope.
enum Performed {
    /// Its settings do not ask for it any more.
    Unasked,
    /// It was not polled, since a wait is not over or an outbox is full.
    Held(Failure),
    /// It was polled, or told of as lost.
    Done(Done),
}

impl<'a> Tick<'a> {
    async fn begin(pipeline: &'a Pipeline) -> Result<Tick<'a>, StoreError> {
        let now = (pipeline.clock)();
        let read = pipeline.store.ask(move |store| Ok((store.feeds()?, store.scopes()?, store.throttles(now)?)));
        let (feeds, scopes, throttles) = read.await?;
        Ok(Tick { pipeline, feeds, scopes, throttles: Mutex::new(throttles) })
    }

    /// Searches for the scopes of a feed and polls each of them.
    async fn feed(&self, ready: &Ready, reporter: &mut Reporter<'_>) -> Result<(), OnceError> {
        let admitted = &ready.admitted;
        let known = self.known(admitted);
        let found = self.search(ready, reporter).await;
        let searched_with = admitted.settings_digest();
        let earlier = self.feeds.iter().find(|row| row.feed == *admitted.id);
        let findings = findings(&known, &found, earlier.is_some_and(|row| row.searched_with == searched_with));
        // What was told by an earlier tick is still so.
        for (scope, standing) in known.iter().filter(|(_, standing)| standing.watch == Watch::Lost) {
            let told = findings.iter().any(|(other, _)| other.id == scope.id);
            if let Some(outcome) = standing.outcome.as_deref().filter(|_| found.is_ok() && !told) {
                reporter.tell(ready, Some(scope), outcome);
            }
        }
        let polls = findings.into_iter().map(|(scope, finding)| self.perform(ready, scope, &known, finding));
        let mut polls = stream::iter(polls).buffered(limits::POLLS_IN_FLIGHT);
        while let Some((task, performed)) = polls.next().await {
            match performed? {
                Performed::Unasked => {}
                Performed::Held(failure) => reporter.tell(ready, Some(&task.scope), &failure),
                Performed::Done(Done { standing, events, failure, notices, measures, .. }) => {
                    let outcome = failure.or(standing.outcome.map(|outcome| *outcome));
                    reporter.settle(ready, &task.scope, outcome, notices, measures);
                    reporter.report.events += events;
                }
            }
        }
        if found.is_ok() {
            let configured_as = admitted.fingerprint(&self.pipeline.salt);
            let row = FeedRow { feed: admitted.id.to_string(), searched_with, configured_as };
            self.pipeline.store.ask(move |store| store.keep_feed(&row)).await?;
        }
        Ok(())
    }

    /// The scopes of a feed that were found before.
    fn known(&self, admitted: &AdmittedFeed) -> Vec<(Scope, Standing)> {
        let own = |row: &&ScopeRow| row.feed == *admitted.id && row.tenant == *admitted.tenant;
        self.scopes.iter().filter(own).map(ScopeRow::pair).collect()
    }

    /// Searches for the scopes of a feed, says what came of it, and keeps a wait that the service asked for.
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
                let next =
                    Schedule::new(&admitted.id, "", admitted.interval).after(0, Some(failure), (pipeline.clock)());
                if let Some(throttle) = pipeline.throttle(admitted, &ready.feed, next.throttled_until) {
                    self.throttles.lock().push(throttle.clone());
                    if let Err(error) = pipeline.store.ask(move |store| store.keep_throttle(&throttle)).await {
                        // A wait that is not kept costs one request next time.
                        reporter.warn(ready, None, &error.to_string());
                    }
                }
                reporter.tell(ready, None, failure);
            }
        }
        found
    }

    /// Does what the search found to be done with a scope.
    async fn perform(
        &self,
        ready: &Ready,
        scope: Scope,
        known: &[(Scope, Standing)],
        finding: Finding,
    ) -> (Task, Result<Performed, StoreError>) {
        let (pipeline, admitted) = (self.pipeline, &ready.admitted);
        let standing = known.iter().find(|(other, _)| other.id == scope.id).map(|(_, standing)| standing.clone());
        let standing = Standing { due: (pipeline.clock)(), watch: Watch::Polled, ..standing.unwrap_or_default() };
        let schedule = Schedule::new(&admitted.id, &scope.id, admitted.interval);
        let mut task = Task { admitted: Arc::clone(admitted), schedule, scope, standing, given_up: None };
        match finding {
            Finding::Polled => {}
            Finding::Lost(why) => task.given_up = Some(why),
            Finding::GivenUp => {
                task.standing.watch = Watch::Unasked;
                let row = task.row();
                let kept = pipeline.store.ask(move |store| store.keep_scopes(&[row])).await;
                return (task, kept.map(|()| Performed::Unasked));
            }
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
        let polled = patiently(WorkLabel::of(ready, Some(&task.scope), "reading"), &pipeline.clock, attempt).await;
        let done = pipeline.conclude(&ready.feed, task, state.is_some(), polled).await;
        let done = done.map_err(|NotKept { error, .. }| error)?;
        self.throttles.lock().extend(done.throttle.clone());
        Ok(Performed::Done(done))
    }
}

/// Where everything is written and counted.
struct Reporter<'a> {
    output: Output<'a>,
    report: Report,
}

impl Reporter<'_> {
    fn warn_of_expiry(&mut self, ready: &Ready, now: u64) {
        for (setting, end) in &ready.admitted.expiries {
            if expiry::nearness(*end, now).is_some() {
                self.warn(ready, None, &expiry::warning(setting, *end, now));
            }
        }
    }

    async fn scopes(&mut self, ready: &Ready, clock: &Clock) -> Result<Vec<Scope>, Failure> {
        let discovery = search(ready, clock).await?;
        let skipped: Vec<_> = discovery.skipped.iter().map(|skipped| (&skipped.scope, &skipped.reason)).collect();
        self.found(ready, &discovery.notices, &skipped);
        Ok(discovery.scopes)
    }

    fn found(&mut self, ready: &Ready, notices: &[Notice], skipped: &[(&Scope, &Failure)]) {
        for notice in notices {
            self.warn(ready, None, &notice.message);
        }
        for (scope, why) in skipped {
            self.tell(ready, Some(scope), why);
        }
    }

    /// Says what came of a scope, and counts it.
    fn settle(
        &mut self,
        ready: &Ready,
        scope: &Scope,
        outcome: Option<Failure>,
        notices: impl IntoIterator<Item = Notice>,
        measures: Vec<Measure>,
    ) {
        for notice in notices {
            self.warn(ready, Some(scope), &notice.message);
        }
        match outcome {
            Some(failure) if failure.reaction != Reaction::NoData => {
                self.tell(ready, Some(scope), &failure);
                return;
            }
            Some(outcome) => self.no_data(ready, scope, &outcome),
            None => {}
        }
        self.report.good += 1;
        let row = |measure| Figure {
            feed: ready.admitted.id.to_string(),
            scope: scope.name.clone().unwrap_or_else(|| scope.id.clone()),
            measure,
        };
        self.report.rows.extend(measures.into_iter().map(row));
    }

    /// Nothing to collect and nobody at fault.
    fn no_data(&mut self, ready: &Ready, scope: &Scope, outcome: &Failure) {
        let fix = outcome.fix.as_deref().unwrap_or("nothing needs to be done");
        self.warn(ready, Some(scope), &format!("{} ({}); {fix}", outcome.cause, outcome.code));
    }

    /// Says that something failed, whose fault it is, and what mends it.
    fn tell(&mut self, ready: &Ready, scope: Option<&Scope>, failure: &Failure) {
        self.report.failed += 1;
        let (cause, code, whose) = (&failure.cause, &failure.code, failure.blame());
        let mut text = format!("error: {}: {cause} ({code}, {whose})", who(ready, scope));
        let details = [
            ("status", failure.status.map(|status| status.to_string())),
            ("code", failure.service_code.clone()),
            ("request id", failure.request_id.clone()),
        ];
        for (name, value) in details {
            if let Some(value) = value {
                text += &format!("; {name} {value}");
            }
        }
        text += &format!("\n  fix: {}", failure.fix.as_deref().unwrap_or_else(|| usual_fix(failure)));
        self.say(ready, &text);
    }

    fn warn(&mut self, ready: &Ready, scope: Option<&Scope>, message: &str) {
        self.say(ready, &format!("warning: {}: {message}", who(ready, scope)));
    }

    /// Nobody may be listening; the events matter more.
    fn say(&mut self, ready: &Ready, text: &str) {
        // A terminal would obey what a plugin hides in its words.
        let text = redact::redact(text, ready.admitted.secrets());
        let _ = writeln!(self.output.people, "{}", text::plain_lines(&text));
    }
}

/// What to do where the failure does not say.
pub fn usual_fix(failure: &Failure) -> &'static str {
    match failure.reaction {
        Reaction::Wait => "poll again after that time; look for others that use this credential",
        Reaction::TryLater | Reaction::Restart => {
            "poll again later; if it lasts, give the request id to the service's support"
        }
        Reaction::FixPlugin => {
            "nothing of the answer was used: keep it, and report it to the service or the plugin's authors"
        }
        Reaction::StateUnusable => "restore the state from a backup, or remove it to begin anew",
        _ => "see the cause",
    }
}

fn who(ready: &Ready, scope: Option<&Scope>) -> String {
    let scope = scope.map(|scope| format!(", {}", scope.called())).unwrap_or_default();
    format!("tenant {}, feed {}{scope}", ready.admitted.tenant, ready.admitted.id)
}

/// Signs in, and finds the scopes.
async fn search(ready: &Ready, clock: &Clock) -> Result<Discovery, Failure> {
    patient(&WorkLabel::of(ready, None, "signing in"), clock, || ready.feed.sign_in()).await?;
    patient(&WorkLabel::of(ready, None, "looking for scopes"), clock, || ready.feed.discover()).await
}

/// What is being done for a feed or a scope, for whoever waits for it.
struct WorkLabel {
    doing: Doing,
    who: String,
    words: &'static str,
}

impl WorkLabel {
    fn of(ready: &Ready, scope: Option<&Scope>, words: &'static str) -> WorkLabel {
        let who = redact::redact(&who(ready, scope), ready.admitted.secrets());
        let doing = ready.admitted.plugin.host().progress().begin(format!("{who}: {words}"));
        WorkLabel { doing, who, words }
    }

    /// Notes a wait, and what goes on after it.
    async fn wait(&self, wait: Duration, asked: bool, attempt: usize) {
        let why = if asked { " as the service asks (Retry-After)" } else { "" };
        let of = limits::POLL_RETRIES + 1;
        self.doing.says(format!("{}: waiting {} s{why} before attempt {attempt} of {of}", self.who, wait.as_secs()));
        tokio::time::sleep(wait).await;
        self.doing.says(format!("{}: {}, attempt {attempt} of {of}", self.who, self.words));
    }
}

/// Tries again what may pass by itself, within the patience of a person at a terminal.
async fn patient<T, F: Future<Output = Result<T, Failure>>>(
    work: &WorkLabel,
    clock: &Clock,
    attempt: impl Fn() -> F,
) -> Result<T, Failure> {
    let mut patience = RetryBudget::default();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(failure) => patience.after(work, clock, failure).await?,
        }
    }
}

/// The same for a poll.
async fn patiently<F: Future<Output = Polled>>(work: WorkLabel, clock: &Clock, attempt: impl Fn() -> F) -> Polled {
    let mut patience = RetryBudget::default();
    loop {
        let polled = attempt().await;
        let Some(failure) = polled.failure.clone() else { return polled };
        if let Err(failure) = patience.after(&work, clock, failure).await {
            return Polled { failure: Some(failure), ..polled };
        }
    }
}

/// What is left of it.
#[derive(Default)]
struct RetryBudget {
    retries: usize,
    waited: Duration,
}

impl RetryBudget {
    /// Waits until another attempt is of use; or gives the failure back.
    async fn after(&mut self, work: &WorkLabel, clock: &Clock, mut failure: Failure) -> Result<(), Failure> {
        let Some(wait) = pause(&failure, self.retries) else { return Err(failure) };
        if self.waited + wait > limits::POLL_WAIT {
            let until = UNIX_EPOCH + Duration::from_millis(clock()) + wait;
            failure.cause +=
                &format!("; it asks to wait {} s, until {}", wait.as_secs(), httpdate::fmt_http_date(until));
            return Err(failure);
        }
        if self.retries >= limits::POLL_RETRIES {
            return Err(failure);
        }
        work.wait(wait, failure.wait_seconds.is_some(), self.retries + 2).await;
        self.waited += wait;
        self.retries += 1;
        Ok(())
    }
}

/// How long to wait before another attempt; none if that would be of no use.
fn pause(failure: &Failure, retry: usize) -> Option<Duration> {
    match failure.reaction {
        Reaction::Wait | Reaction::TryLater => {
            let backoff = 1 << retry.min(4);
            Some(Duration::from_secs(failure.wait_seconds.map_or(backoff, u64::from)))
        }
        _ => None,
    }
}

/// The scores of two polls as a table for people: those of the later one, and those that the earlier one alone has.
pub fn table(before: &Report, after: &Report, kind: &str) -> String {
    fn of_kind<'a>(report: &'a Report, kind: &str) -> impl Iterator<Item = &'a Figure> {
        report.rows.iter().filter(move |row| row.measure.kind == kind)
    }
    let same =
        |one: &Figure, other: &Figure| (&one.feed, &one.measure.subject) == (&other.feed, &other.measure.subject);
    let earlier = |row: &Figure| of_kind(before, kind).find(|known| same(known, row));
    let later = |row: &Figure| of_kind(after, kind).find(|known| same(known, row));
    let mut pairs: Vec<(Option<&Figure>, Option<&Figure>)> =
        of_kind(before, kind).map(|row| (Some(row), later(row))).collect();
    pairs.extend(of_kind(after, kind).filter(|row| earlier(row).is_none()).map(|row| (None, Some(row))));
    // A new scope stands with its feed.
    let feeds: Vec<&str> = pairs.iter().filter_map(|(before, after)| Some(after.or(*before)?.feed.as_str())).collect();
    let place = |row: Option<&Figure>| feeds.iter().position(|feed| row.is_some_and(|row| row.feed == *feed));
    pairs.sort_by_key(|(before, after)| place(after.or(*before)));
    let none = || "-".to_owned();
    let points = |row: &Figure| format!("{:.2} / {}", row.measure.value, row.measure.maximum);
    let percent = |row: &Figure| match row.measure.maximum {
        maximum if maximum > 0.0 => format!("{:.1} %", row.measure.value / maximum * 100.0),
        _ => none(),
    };
    let cells = |(before, after): (Option<&Figure>, Option<&Figure>)| {
        let row = after.or(before)?;
        let change = before.zip(after).map(|(before, after)| after.measure.value - before.measure.value);
        Some([
            row.feed.clone(),
            row.scope.clone(),
            row.measure.title.clone(),
            before.map_or_else(none, points),
            after.map_or_else(none, points),
            after.map_or_else(none, percent),
            change.map_or_else(none, |change| format!("{change:+.2}")),
        ])
    };
    let mut rows: Vec<[String; 7]> = pairs.into_iter().filter_map(cells).collect();
    rows.insert(0, ["feed", "scope", "score", "before", "after", "", "change"].map(str::to_owned));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An embedder may let a task of its own poll and tick.
    #[expect(dead_code, reason = "that this compiles is the test")]
    fn futures_can_go_to_another_thread(feeds: &[Ready], clock: &Clock, pipeline: &Pipeline, outputs: [Output<'_>; 2]) {
        fn is_send(_: impl Send) {}
        let [first, second] = outputs;
        is_send(poll(feeds, clock, first));
        is_send(tick(feeds, pipeline, second));
    }
}
