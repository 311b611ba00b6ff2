//! The rules on a plugin's work with a recording: one poll of its scopes, faults of the service, and events.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde_json::Value;
use source_host::contract::{Batch, Context, Description, Failure, Notice, Plan, PollResult, Reaction, Scope};
use source_host::credentials::secret::Secret;
use source_host::credentials::settings::Settings;
use source_host::failures;
use source_host::feed::{PollPages, poll_id};
use source_host::limits::Limits;
use source_host::network::Transport;
use source_host::network::egress::Egress;
use source_host::network::tokens::Freshness;
use source_host::plugin::Plugin;
use source_host::plugin::call::{CallNetwork, Caller, KeptSearches};
use source_host::text;

use super::bookkeeping::Examination;
use super::faults::FAULTS;
use crate::limits::CONFORMANCE_SCOPES;
use crate::recording::cassette::{Cassette, origins};
use crate::recording::replay::ReplayTransport;

/// One recording, opened with a plugin.
struct PollFixture<'a> {
    plugin: &'a Plugin,
    description: &'a Description,
    cassette: &'a Cassette,
    settings: Settings,
    plan: Plan,
}

impl PollFixture<'_> {
    fn caller(&self, limits: &Limits, transport: Arc<dyn Transport>) -> Caller {
        let time = self.cassette.context.time_milliseconds;
        let network = CallNetwork {
            egress: Arc::new(Egress::new(self.plan.clone(), Arc::new(origins(self.cassette).0))),
            transport,
            tokens: Arc::default(),
            freshness: Freshness::Any,
            clock: Arc::new(move || time),
            searches: KeptSearches::default(),
        };
        Caller {
            tenant: self.cassette.context.tenant.clone(),
            feed: self.cassette.context.feed.clone(),
            limits: limits.clone(),
            log: None,
            network: Some(network),
        }
    }

    fn lists(&self, code: &str) -> bool {
        self.description.diagnoses.iter().any(|row| row.code == code)
    }

    fn has_kind(&self, kind: &str) -> bool {
        self.description.events.iter().any(|known| known.name == kind)
    }
}

impl Examination {
    pub(super) async fn cassette(&mut self, plugin: &Plugin, description: &Description, cassette: &Cassette) {
        let settings = Settings::new(cassette.settings.clone(), Default::default()).sealing(description);
        let without = Caller { limits: self.limits.clone(), ..Caller::default() };
        let plan = match self.answer(plugin.prepare(&without, &settings).await) {
            ControlFlow::Continue(Ok(plan)) => plan,
            ControlFlow::Continue(Err(problems)) => {
                let named: Vec<_> = problems.into_iter().map(|problem| problem.setting).collect();
                return self.fail("settings", format!("it refuses those of the cassette: {}", named.join(", ")));
            }
            ControlFlow::Break(()) => return,
        };
        self.shapes(description, &plan);
        if self.plans(plugin, &without, &settings, &plan).await.is_break() {
            return;
        }
        let fixture = PollFixture { plugin, description, cassette, settings, plan };
        let replay = Arc::new(ReplayTransport::new(cassette));
        let caller = fixture.caller(&self.limits, Arc::clone(&replay) as Arc<dyn Transport>);
        let whole = self.whole(&fixture, &caller).await;
        self.begin("poll");
        // If there are many scopes, only some are tried, and unused exchanges mean nothing.
        let mismatches = replay.mismatches();
        if matches!(whole, ControlFlow::Continue(scopes) if scopes <= CONFORMANCE_SCOPES) && !mismatches.is_empty() {
            self.fail("poll", mismatches.join("; "));
        }
    }

    /// Polls every scope once, up to a number of scopes. Returns the number of scopes, or breaks off after a call that
    /// gave no answer.
    async fn whole(&mut self, fixture: &PollFixture<'_>, caller: &Caller) -> ControlFlow<(), usize> {
        let PollFixture { plugin, settings, .. } = fixture;
        let fetched = self.answer(plugin.fetch_token(caller, settings).await)?;
        let token = match fetched {
            Ok(token) => token.map(|token| token.value),
            Err(failure) => {
                self.failure(fixture, "fetch-token", &failure);
                return ControlFlow::Continue(0);
            }
        };
        let found = self.answer(plugin.discover(caller, settings, token.as_ref()).await)?;
        let scopes = match found {
            Ok(discovery) => {
                self.notices("poll", fixture, &discovery.notices);
                discovery.scopes
            }
            Err(failure) => {
                self.failure(fixture, "discover", &failure);
                return ControlFlow::Continue(0);
            }
        };
        for (index, scope) in scopes.iter().take(CONFORMANCE_SCOPES).enumerate() {
            let poll_result = self.pages(fixture, caller, token.as_ref(), scope).await?;
            if let PollResult::Failure(failure) = &poll_result {
                self.failure(fixture, "poll", failure);
            }
            if index == 0 {
                self.faults(fixture, token.as_ref(), scope).await?;
            }
            self.normalize(fixture, scope, &poll_result).await?;
        }
        ControlFlow::Continue(scopes.len())
    }

    /// Checks a failure on recorded answers: the recording may show this failure, but its code must be listed.
    fn failure(&mut self, fixture: &PollFixture<'_>, call: &str, failure: &Failure) {
        self.check("failures", fixture.lists(&failure.code), || {
            format!("{call}: the code {} is not listed", failure.code)
        });
    }

    async fn pages(
        &mut self,
        fixture: &PollFixture<'_>,
        caller: &Caller,
        token: Option<&Secret>,
        scope: &Scope,
    ) -> ControlFlow<(), PollResult> {
        let (mut gathered, mut cursor) = (PollPages::default(), None::<String>);
        self.begin("cursors");
        loop {
            let answer = fixture.plugin.poll(caller, &fixture.settings, token, scope, cursor.as_deref()).await;
            let step = match self.answer(answer)? {
                Ok(step) => step,
                Err(failure) => return ControlFlow::Continue(PollResult::Failure(failure)),
            };
            for kind in step.pages.iter().map(|page| &page.kind) {
                self.check("poll", fixture.has_kind(kind), || format!("the kind {kind:?} of a page is not declared"));
            }
            self.notices("poll", fixture, &step.notices);
            cursor = match gathered.add(step, &self.limits) {
                Ok(None) => return ControlFlow::Continue(PollResult::Pages(gathered.pages)),
                Ok(next) => next,
                Err(broken) => {
                    let endless = [failures::CURSOR_REPEATED.code, failures::PAGE_LIMIT.code];
                    let endless = endless.contains(&broken.code.as_str());
                    self.fail(if endless { "cursors" } else { "limits" }, broken.cause);
                    return ControlFlow::Break(());
                }
            };
        }
    }

    fn notices(&mut self, rule: &'static str, fixture: &PollFixture<'_>, notices: &[Notice]) {
        for Notice { code, .. } in notices {
            self.check(rule, fixture.lists(code), || format!("the code {code} of a notice is not listed"));
        }
    }

    /// Answers the request for the first page with each fault.
    async fn faults(&mut self, fixture: &PollFixture<'_>, token: Option<&Secret>, scope: &Scope) -> ControlFlow<()> {
        const RULE: &str = "failures";
        for fault in FAULTS {
            let caller = fixture.caller(&self.limits, Arc::new(*fault));
            let answer = fixture.plugin.poll(&caller, &fixture.settings, token, scope, None).await;
            if answer.1.exchanges.is_empty() {
                continue;
            }
            let Err(failure) = self.answer(answer)? else {
                self.fail(RULE, format!("{} was taken for an answer", fault.what));
                continue;
            };
            self.check(RULE, fault.fits.contains(&failure.reaction), || {
                format!("{}: found {:?}, expected one of {:?}", fault.what, failure.reaction, fault.fits)
            });
            let waits = fault.retry_after.is_none_or(|seconds| failure.wait_seconds >= Some(seconds));
            self.check(RULE, waits, || {
                format!("{}: found a wait of {:?} s, expected what was asked", fault.what, failure.wait_seconds)
            });
            self.failure(fixture, fault.what, &failure);
        }
        ControlFlow::Continue(())
    }

    async fn normalize(
        &mut self,
        fixture: &PollFixture<'_>,
        scope: &Scope,
        poll_result: &PollResult,
    ) -> ControlFlow<()> {
        let first = self.batch(fixture, scope, poll_result, None).await?;
        let again = self.batch(fixture, scope, poll_result, None).await?;
        self.check("purity", first == again, || {
            "two fresh instances give different results for the same arguments".to_owned()
        });
        let batch = match (first, poll_result) {
            (Ok(batch), _) => batch,
            // Without data and an earlier state, there is nothing to report.
            (Err(failure), PollResult::Failure(_)) => {
                self.failure(fixture, "normalize", &failure);
                return ControlFlow::Continue(());
            }
            (Err(failure), PollResult::Pages(_)) => {
                self.fail("normalize", format!("it fails on its own pages: {}", failure.cause));
                return ControlFlow::Continue(());
            }
        };
        self.made(fixture, &batch);
        let later = self.batch(fixture, scope, poll_result, Some(&batch.state)).await?;
        let again = self.batch(fixture, scope, poll_result, Some(&batch.state)).await?;
        self.check("purity", later == again, || {
            "two fresh instances give different results for the same state".to_owned()
        });
        if let Err(failure) = later {
            self.fail("state", format!("it refuses its own state: {}", failure.cause));
        }
        let foreign = self.batch(fixture, scope, poll_result, Some(b"\xff\x00 the state of another plugin")).await?;
        let unusable = foreign.is_err_and(|failure| failure.reaction == Reaction::StateUnusable);
        self.check("state", unusable, || "a foreign state is not answered with state-unusable".to_owned());
        let lost = PollResult::Failure(Failure::new(Reaction::TryLater, "transport", "it was not reached".to_owned()));
        if let Err(failure) = self.batch(fixture, scope, &lost, Some(&batch.state)).await? {
            self.fail("normalize", format!("it fails on a failure: {}", failure.cause));
        }
        ControlFlow::Continue(())
    }

    async fn batch(
        &mut self,
        fixture: &PollFixture<'_>,
        scope: &Scope,
        poll_result: &PollResult,
        state: Option<&[u8]>,
    ) -> ControlFlow<(), Result<Batch, Failure>> {
        let recorded = &fixture.cassette.context;
        let context = Context {
            feed: recorded.feed.clone(),
            tenant: recorded.tenant.clone(),
            scope: scope.clone(),
            poll_id: poll_id(&recorded.feed, &scope.id, recorded.time_milliseconds).to_string(),
            collected_at_milliseconds: recorded.time_milliseconds,
        };
        let caller = Caller { limits: self.limits.clone(), ..Caller::default() };
        let answer = fixture.plugin.normalize(&caller, &fixture.settings, &context, poll_result, state).await;
        self.answer(answer)
    }

    fn made(&mut self, fixture: &PollFixture<'_>, batch: &Batch) {
        const RULE: &str = "normalize";
        self.begin(RULE);
        let classes: HashSet<u64> =
            fixture.description.events.iter().flat_map(|kind| kind.class_uids.clone()).collect();
        for event in &batch.events {
            let body: Value = serde_json::from_slice(&event.body).unwrap_or_default();
            let class = body["class_uid"].as_u64();
            self.check(RULE, class.is_some_and(|class| classes.contains(&class)), || {
                format!("event {}: the class {class:?} is not declared", text::cut(&event.uid, 64))
            });
        }
        for measure in &batch.measures {
            let kind = &measure.kind;
            self.check(RULE, fixture.has_kind(kind), || format!("the kind {kind:?} of a figure is not declared"));
        }
        self.notices(RULE, fixture, &batch.notices);
        if let Some(Failure { code, .. }) = &batch.outcome {
            self.check(RULE, fixture.lists(code), || format!("the code {code} of the outcome is not listed"));
        }
    }
}
