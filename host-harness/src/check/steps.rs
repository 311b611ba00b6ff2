//! The steps of one feed, in the order of the contract's calls, with the way to each origin before them.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, future, stream};
use source_host::clock::Clock;
use source_host::contract::{Discovery, Event, Failure, Notice, Page, PollResult, Reaction, Scope};
use source_host::credentials::redact;
use source_host::feed::Feed;
use source_host::network::client::Network;
use source_host::progress::Doing;
use tokio::sync::mpsc::{self, UnboundedSender};
use url::Url;

use crate::admitted::AdmittedFeed;
use crate::admitted::tenants::Tenants;
use crate::check::probe::{ProbeStep, ProbeTrouble, probe};
use crate::check::remarks::{
    CREDENTIALS_IN_CLEAR, EXPIRES, NO_EVENT, NO_TLS, ORIGIN_NOT_ALLOWED, SETTINGS_INVALID, SETTINGS_ODD, expiring, list,
};
use crate::check::report::{CheckReport, Question, StepTrouble};
use crate::check::run::{CheckRun, Heard, Listener, redacted};
use crate::check::skew::{Skew, clocks};
use crate::config::ConfigProblem;
use crate::limits;

/// A feed that is being checked.
pub(super) struct FeedCheck<'a> {
    pub(super) admitted: &'a Arc<AdmittedFeed>,
    pub(super) network: &'a Network,
    pub(super) tenants: &'a Tenants,
    pub(super) clock: &'a Clock,
    pub(super) skew: Skew,
}

impl FeedCheck<'_> {
    pub(super) async fn report(&self, odd: &[&ConfigProblem], tell: Option<UnboundedSender<Heard>>) -> CheckReport {
        let mut run = CheckRun::new(Some(&self.admitted.id), Some(&self.admitted.tenant));
        run.plugin = Some(self.admitted.plugin.clone());
        run.listener = tell.map(|tell| Listener { tell, admitted: Arc::clone(self.admitted) });
        // Wherever the check stops, the report lists the other steps as not reached.
        let _ = self.steps(&mut run, odd).await;
        if let Some((remark, words)) = clocks(&self.skew.seen(self.admitted)) {
            run.warn(remark.trouble_of(&words));
        }
        let mut report = run.ended();
        report.steps = report.steps.into_iter().map(|step| redacted(step, self.admitted)).collect();
        report
    }

    /// Notes the work in progress, for people who wait for it.
    fn doing(&self, words: &str) -> Doing {
        let words = redact::redact(&format!("feed {}: {words}", self.admitted.id), self.admitted.secrets());
        self.admitted.plugin.host().progress().begin(words)
    }

    /// Runs the steps; stops after a step that failed.
    async fn steps(&self, run: &mut CheckRun, odd: &[&ConfigProblem]) -> ControlFlow<()> {
        let feed = self.settings(run, odd).await?;
        self.way(run).await?;
        self.credential(run, &feed).await?;
        let found = self.scopes(run, &feed).await?;
        let readable = self.permission(run, &feed, &found).await;
        self.scores(run, &feed, readable).await;
        ControlFlow::Continue(())
    }

    async fn settings(&self, run: &mut CheckRun, odd: &[&ConfigProblem]) -> ControlFlow<(), Feed> {
        let begun = Instant::now();
        let feed = match self.admitted.open(self.tenants, self.clock).await {
            Ok(feed) => feed,
            Err(error) => {
                let trouble = SETTINGS_INVALID.trouble_at(&error.to_string(), &format!("feed {}", self.admitted.id));
                run.bad(Question::Settings, None, begun.elapsed(), trouble);
                return ControlFlow::Break(());
            }
        };
        let mut troubles = self.origin_troubles().into_iter();
        if let Some(trouble) = troubles.next() {
            run.bad(Question::Settings, None, begun.elapsed(), trouble);
            troubles.for_each(|trouble| run.warn(trouble));
            return ControlFlow::Break(());
        }
        run.good(Question::Settings, None, begun.elapsed(), None);
        if !odd.is_empty() {
            let words: Vec<String> = odd.iter().map(|problem| problem.to_string()).collect();
            let places = list(odd.iter().map(|one| one.place.at.to_string()).collect());
            run.warn(SETTINGS_ODD.trouble_at(&words.join("\n"), &places));
        }
        ControlFlow::Continue(feed)
    }

    /// Returns the origins of the plan to which requests may not go, or not with credentials.
    fn origin_troubles(&self) -> Vec<StepTrouble> {
        let (forbidden, exposed) = (self.admitted.forbidden_origins(), self.admitted.exposed_origins());
        let allowed = &self.admitted.allowed;
        let troubles = [
            (&exposed, CREDENTIALS_IN_CLEAR, allowed.line_in_clear(exposed.iter().copied())),
            (&forbidden, ORIGIN_NOT_ALLOWED, allowed.line_with(forbidden.iter().copied())),
        ];
        let troubles = troubles.iter().filter(|(origins, ..)| !origins.is_empty());
        troubles.map(|(origins, remark, line)| remark.trouble_at(&origins.join(" and "), line)).collect()
    }

    /// Tests the route to each origin that the plan declares.
    async fn way(&self, run: &mut CheckRun) -> ControlFlow<()> {
        let now = (self.clock)();
        let (mut probes, mut told) = (Vec::new(), Vec::new());
        for origin in self.admitted.origins.iter() {
            let Ok(url) = Url::parse(origin) else { continue };
            let (tell, heard) = mpsc::unbounded_channel();
            probes.push(async move { probe(self.network, &url, now, tell).await });
            told.push((origin, heard));
        }
        let mut free = true;
        let listen = async {
            for (origin, mut heard) in told {
                let _doing = self.doing(&format!("connecting to {origin}"));
                run.tell();
                while let Some(step) = heard.recv().await {
                    free &= step.found.is_ok();
                    let is_clear = step.step == ProbeStep::Tls && origin.starts_with("http://");
                    match step.found {
                        Ok(found) => run.good(question(step.step), Some(origin), step.time, found),
                        Err(trouble) => run.bad(question(step.step), Some(origin), step.time, way_trouble(trouble)),
                    }
                    if is_clear {
                        run.warn(NO_TLS.trouble());
                    }
                    run.tell();
                }
                run.not_reached_of(origin, &[Question::Name, Question::Connect, Question::Tls]);
            }
        };
        future::join(future::join_all(probes), listen).await;
        if free { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    async fn credential(&self, run: &mut CheckRun, feed: &Feed) -> ControlFlow<()> {
        run.tell();
        let _doing = self.doing("signing in");
        let begun = Instant::now();
        if let Err(failure) = feed.sign_in().await {
            run.failure(Question::Credential, None, begun.elapsed(), failure);
            return ControlFlow::Break(());
        }
        run.good(Question::Credential, None, begun.elapsed(), None);
        if let Some((remark, detail)) = expiring(&self.admitted.expiries, (self.clock)()) {
            let trouble = remark.trouble_of(&detail);
            // The plugin may know a better fix for making another credential.
            let fix = feed.fix(EXPIRES.code).await.unwrap_or_else(|| trouble.fix.clone());
            run.warn(StepTrouble { fix, ..trouble });
        }
        ControlFlow::Continue(())
    }

    async fn scopes(&self, run: &mut CheckRun, feed: &Feed) -> ControlFlow<(), Discovery> {
        run.tell();
        let _doing = self.doing("looking for scopes");
        let begun = Instant::now();
        let found = match feed.discover().await {
            Ok(found) => found,
            Err(failure) => {
                run.failure(Question::Scopes, None, begun.elapsed(), failure);
                return ControlFlow::Break(());
            }
        };
        let words = match found.scopes.as_slice() {
            [one] => one.called(),
            scopes => format!("{} scopes", scopes.len()),
        };
        run.good(Question::Scopes, None, begun.elapsed(), Some(words));
        run.notices(&found.notices, None);
        ControlFlow::Continue(found)
    }

    /// Reads each scope; returns those that may be read, with their pages or failure.
    async fn permission<'a>(
        &self,
        run: &mut CheckRun,
        feed: &Feed,
        found: &'a Discovery,
    ) -> Vec<(&'a Scope, ReadScope)> {
        let reads = found.scopes.iter().map(|scope| async move {
            let begun = Instant::now();
            let _doing = self.doing(&format!("reading {}", scope.called()));
            let answer = feed.pages(scope).await;
            (scope, begun.elapsed(), answer)
        });
        let mut reads = stream::iter(reads).buffered(limits::POLLS_IN_FLIGHT);
        let mut readable = Vec::new();
        run.tell();
        while let Some((scope, time, answer)) = reads.next().await {
            match answer {
                Err(failure) if !was_let_in(&failure) => {
                    run.failure(Question::Permission, Some(&scope.called()), time, failure);
                }
                answer => {
                    run.good(Question::Permission, Some(&scope.called()), time, None);
                    readable.push((scope, answer));
                }
            }
            run.tell();
        }
        for skipped in &found.skipped {
            run.failure(Question::Permission, Some(&skipped.scope.called()), Duration::ZERO, skipped.reason.clone());
        }
        readable
    }

    /// Looks for data to collect in each scope, and for a sample of it.
    async fn scores(&self, run: &mut CheckRun, feed: &Feed, readable: Vec<(&Scope, ReadScope)>) {
        let mut sample = None;
        for (scope, gathered) in readable {
            run.tell();
            let event = self.score(run, feed, scope, gathered).await;
            sample = sample.or(event.map(|event| (scope.called(), event)));
        }
        if let Some((about, event)) = sample {
            run.good(Question::Sample, Some(&about), Duration::ZERO, Some(event.uid));
            run.report.sample = Some(event.body);
        } else if run.report.good > 0 {
            run.bad(Question::Sample, None, Duration::ZERO, NO_EVENT.trouble());
        }
    }

    /// Makes events of a scope's pages, and returns the first event.
    async fn score(&self, run: &mut CheckRun, feed: &Feed, scope: &Scope, gathered: ReadScope) -> Option<Event> {
        let (begun, about) = (Instant::now(), scope.called());
        let made = match gathered {
            Ok((pages, notices)) => {
                let batch = feed.normalize(scope, (self.clock)(), &PollResult::Pages(pages), None).await;
                batch.map(|batch| (batch, notices))
            }
            Err(failure) => Err(failure),
        };
        let (batch, notices) = match made {
            Ok(made) => made,
            Err(failure) => {
                run.failure(Question::Score, Some(&about), begun.elapsed(), failure);
                return None;
            }
        };
        match batch.outcome {
            // Nothing counts yet, but there are events.
            Some(outcome) if !batch.events.is_empty() => {
                run.good(Question::Score, Some(&about), begun.elapsed(), None);
                run.warn(run.trouble(outcome));
            }
            Some(outcome) => {
                run.failure(Question::Score, Some(&about), begun.elapsed(), outcome);
                return None;
            }
            None => run.good(Question::Score, Some(&about), begun.elapsed(), Some(count(batch.events.len()))),
        }
        run.notices(&notices, Some(&about));
        run.notices(&batch.notices, Some(&about));
        run.report.good += 1;
        batch.events.into_iter().next()
    }
}

/// The result of reading a scope: its pages and notices, or a failure.
type ReadScope = Result<(Vec<Page>, Vec<Notice>), Failure>;

fn count(events: usize) -> String {
    if events == 1 { "1 event".to_owned() } else { format!("{events} events") }
}

/// Converts a fault on the route to an origin to the problem of a step.
fn way_trouble(trouble: ProbeTrouble) -> StepTrouble {
    let cause = trouble.to_string();
    StepTrouble { blame: Some(trouble.fault.blame), ..StepTrouble::of(trouble.fault.code, cause, trouble.fix) }
}

fn question(step: ProbeStep) -> Question {
    match step {
        ProbeStep::Name => Question::Name,
        ProbeStep::Connect => Question::Connect,
        ProbeStep::Tls => Question::Tls,
    }
}

/// Says whether a failure concerns the content that was read, and not the permission to read it.
fn was_let_in(failure: &Failure) -> bool {
    match failure.reaction {
        Reaction::NoData => true,
        Reaction::FixPlugin => failure.status.is_none_or(|status| (200..300).contains(&status)),
        _ => false,
    }
}
