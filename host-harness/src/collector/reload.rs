//! Feeds that come, change and go. Unchanged feeds continue as before; work in flight ends with the settings it began
//! with.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use source_host::blame::Blame;
use source_host::digest::ShortDigest;
use source_host::failures;

use crate::admitted::AdmittedFeed;
use crate::collector::agenda::Job;
use crate::collector::log::log_failure;
use crate::collector::schedule::{Schedule, first};
use crate::collector::shared::FeedElsewhere;
use crate::collector::{Collector, FeedDigests, FeedEntry, ScopeEntry, UnconfiguredFeed};
use crate::store::{Polling, ScopeRow};

impl FeedEntry {
    /// Returns the feed in the form in which it continues. If nothing changed but the plugin declares another plan,
    /// that is a failure, and the admitted plan stays in force, because somebody may have signed it.
    fn holding_its_plan(&mut self, admitted: Arc<AdmittedFeed>) -> Arc<AdmittedFeed> {
        let before = &self.admitted;
        if admitted.plan == before.plan {
            self.plan_changed = None;
            return admitted;
        }
        let (now, was) = (admitted.plan_digest().unwrap_or_default(), before.plan_digest().unwrap_or_default());
        let failure = failures::PLAN_CHANGED.because(format!(
            "the plugin declares a plan with the SHA-256 {now} for the settings for which {was} was admitted"
        ));
        log_failure(before, None, &failure, self.plan_changed.take().as_ref().map(|told| told.code.as_str()));
        self.plan_changed = Some(Box::new(failure));
        Arc::new(admitted.with_plan_of(before))
    }
}

impl Collector {
    /// Adds a feed, with the state that is left from before.
    pub(super) fn add(&mut self, admitted: Arc<AdmittedFeed>, now: u64, rank: u64) {
        let Some(lease) = self.lease_of(&admitted.tenant) else {
            self.left.remove(&admitted.id);
            let configured_as = admitted.fingerprint(&self.pipeline.salt);
            self.elsewhere.insert(Arc::clone(&admitted.id), FeedElsewhere { admitted, configured_as });
            return;
        };
        let UnconfiguredFeed { digests, kept, mut stored } = self.left.remove(&admitted.id).unwrap_or_default();
        let before = stored.len();
        stored.retain(|_, row| *row.tenant == *admitted.tenant);
        if stored.len() < before {
            tracing::warn!(
                tenant = %admitted.tenant, feed = %admitted.id, fault = Blame::Operator.word(),
                "the feed belongs to another tenant now: {} scopes start afresh", before - stored.len()
            );
        }
        let salt = &self.pipeline.salt;
        let number = self.numbers.next();
        let tenants = self.tenant_numbers.len() as u32;
        let tenant = *self.tenant_numbers.entry(Arc::clone(&admitted.tenant)).or_insert(tenants);
        let configured_as = admitted.fingerprint(salt);
        let changed = digests.is_some_and(|digests| digests.configured_as != configured_as);
        let digests = FeedDigests { configured_as, ..digests.unwrap_or_default() };
        // After a short stop, ten thousand feeds must not search at once: each search comes when the feed's first scope
        // is due. The scope keeps that time: planned once more by the search, it could be put off a second time. Those that
        // are not polled keep their age.
        for row in stored.values_mut().filter(|row| row.standing.watch == Polling::Polled) {
            Schedule::new(&admitted.id, &row.scope.id, admitted.interval).resume(&mut row.standing, now, rank);
        }
        let polled = stored.values().filter(|row| row.standing.watch == Polling::Polled);
        let due = match polled.map(|row| row.standing.due).min() {
            Some(due) if !changed => due,
            _ => first(now, rank),
        };
        let expiries = admitted.expiries.clone();
        self.pipeline.metrics.feed(&admitted.tenant, &admitted.id, |counts| counts.credentials_expire = expiries);
        self.by_id.insert(Arc::clone(&admitted.id), number);
        self.agenda.plan(Job::Search(number), tenant, due);
        let entry = FeedEntry {
            admitted,
            lease,
            tenant,
            open: Weak::new(),
            scopes: Vec::new(),
            stored,
            digests,
            is_kept: kept == Some(digests),
            failures: 0,
            failure: None,
            plan_changed: None,
            notices: Box::default(),
            blocked: false,
            changed,
            expiry_seen: None,
        };
        self.feeds.insert(number, Box::new(entry));
        self.note(number);
    }

    /// Replaces the feeds. Unchanged feeds continue as before; work in flight ends. Feeds in `broken`, whose new
    /// configuration cannot be read, keep running. With `impatient`, scopes that wait for a person are tried at once,
    /// even if nothing changed.
    pub fn reload(
        &mut self,
        feeds: Vec<Arc<AdmittedFeed>>,
        broken: &[&str],
        polls: usize,
        polls_of_tenant: usize,
        impatient: bool,
    ) {
        self.agenda.limit(polls, polls_of_tenant);
        // The network may have changed, too. A job in flight keeps its open feed, and the next one opens another.
        self.left_open.clear();
        self.feeds.values_mut().for_each(|entry| entry.open = Weak::new());
        let now = (self.clock)();
        let goes_on =
            broken.iter().filter_map(|feed| self.feeds.get(self.by_id.get(*feed)?)).map(|entry| &entry.admitted);
        let own = feeds.iter().chain(goes_on).filter(|admitted| self.lease_of(&admitted.tenant).is_some());
        self.pipeline.metrics.configure(own.map(|admitted| admitted.counted_as()));
        let kept: HashSet<&str> = broken.iter().copied().collect();
        self.elsewhere.retain(|feed, _| kept.contains(&**feed));
        let mut rank = 0;
        let mut gone: HashMap<Arc<str>, u32> = std::mem::take(&mut self.by_id);
        for admitted in feeds {
            let known = gone.remove(&admitted.id);
            rank += u64::from(self.settle(known, admitted, now, rank, impatient));
        }
        for feed in broken {
            self.by_id.extend(gone.remove_entry(*feed));
        }
        for number in gone.into_values() {
            self.remove(number);
        }
    }

    /// Replaces the feed that was `known` before; returns whether the feed starts afresh.
    fn settle(
        &mut self,
        known: Option<u32>,
        admitted: Arc<AdmittedFeed>,
        now: u64,
        rank: u64,
        impatient: bool,
    ) -> bool {
        let configured_as = admitted.fingerprint(&self.pipeline.salt);
        let is_same =
            |number: &u32| self.feeds.get(number).is_some_and(|entry| entry.digests.configured_as == configured_as);
        match known {
            Some(number) if is_same(&number) => {
                self.keep(number, admitted, now, impatient);
                return false;
            }
            Some(number) => self.change(number, admitted, now, rank),
            None => self.add(admitted, now, rank),
        }
        true
    }

    /// Adds one feed after the others of its configuration. `rank` is the number of feeds that started afresh before
    /// it.
    pub fn reload_one(&mut self, admitted: Arc<AdmittedFeed>, rank: u64, impatient: bool) -> bool {
        let now = (self.clock)();
        let known = self.by_id.remove(&admitted.id);
        let before = known.and_then(|number| self.feeds.get(&number)).map(|entry| Arc::clone(&entry.admitted));
        self.elsewhere.remove(&admitted.id);
        if self.lease_of(&admitted.tenant).is_some() {
            self.pipeline.metrics.take_up(before.as_deref().map(AdmittedFeed::counted), admitted.counted_as());
        }
        self.settle(known, admitted, now, rank, impatient)
    }

    /// Ends a feed that may not continue.
    pub fn leave_out(&mut self, feed: &str) {
        self.elsewhere.remove(feed);
        if let Some(number) = self.by_id.remove(feed) {
            if let Some(entry) = self.feeds.get(&number) {
                let (tenant, feed, _) = entry.admitted.counted();
                self.pipeline.metrics.forget(tenant, feed);
            }
            self.remove(number);
        }
    }

    /// Keeps a feed whose settings are unchanged; its interval, sinks or contact may have changed. Scopes that wait for
    /// a person are then tried at once, and also if the reload is `impatient`.
    pub(super) fn keep(&mut self, number: u32, admitted: Arc<AdmittedFeed>, now: u64, impatient: bool) {
        self.by_id.insert(Arc::clone(&admitted.id), number);
        let Some(entry) = self.feeds.get_mut(&number) else { return };
        let admitted = entry.holding_its_plan(admitted);
        let differs = admitted.differs_in_use(&entry.admitted);
        let impatient = impatient || differs;
        // Until its first search, the scopes of a feed are among the stored rows.
        let unsearched = entry.scopes.is_empty() && entry.stored.values().any(|row| row.standing.waits_for_person);
        entry.changed |= impatient && unsearched;
        let waits = entry.failure.is_some() || entry.blocked || unsearched;
        if differs {
            if admitted.interval != entry.admitted.interval {
                let schedule = Schedule::of_search(&admitted.id, admitted.interval);
                let (item, due) = (Job::Search(number), schedule.next_place(now));
                let due = self.agenda.due(item).map_or(due, |planned| planned.min(due));
                self.agenda.plan(item, entry.tenant, due);
            }
            let expiries = admitted.expiries.clone();
            self.pipeline.metrics.feed(&admitted.tenant, &admitted.id, |counts| counts.credentials_expire = expiries);
            entry.admitted = admitted;
            // The open feed has the previous one's share of the log.
            self.left_open.remove(&number);
            entry.open = Weak::new();
            for scope in entry.scopes.clone() {
                let Some(scope_entry) = self.scopes.get_mut(&scope) else { continue };
                let schedule = entry.schedule_of(&scope_entry.scope.id);
                schedule.resume(&mut scope_entry.standing, now, 0);
                self.agenda.plan(Job::Poll(scope), entry.tenant, scope_entry.standing.due);
            }
        }
        if impatient {
            if waits {
                self.agenda.plan(Job::Search(number), entry.tenant, now);
            }
            self.try_at_once(number, now);
        }
    }

    /// Polls scopes that wait for a person now.
    pub(super) fn try_at_once(&mut self, number: u32, now: u64) {
        let Some(entry) = self.feeds.get(&number) else { return };
        for scope in &entry.scopes {
            if let Some(scope_entry) = self.scopes.get_mut(scope).filter(|scope| scope.standing.waits_for_person) {
                scope_entry.standing.due = now;
                self.agenda.plan(Job::Poll(*scope), entry.tenant, now);
            }
        }
    }

    /// Replaces a feed whose settings changed: it is searched at once, and work in flight ends with the old settings.
    pub(super) fn change(&mut self, number: u32, admitted: Arc<AdmittedFeed>, now: u64, rank: u64) {
        self.remove(number);
        self.add(admitted, now, rank);
    }

    /// Removes a feed, and keeps its state in case it comes back.
    pub(super) fn remove(&mut self, number: u32) {
        let Some(mut entry) = self.feeds.remove(&number) else { return };
        self.left_open.remove(&number);
        self.agenda.remove(Job::Search(number));
        for scope in std::mem::take(&mut entry.scopes) {
            if let Some(ScopeEntry { scope, standing, .. }) = self.unwatch(scope) {
                let (feed, tenant) = (entry.admitted.id.to_string(), entry.admitted.tenant.to_string());
                let id = scope.id.as_str().into();
                entry.stored.insert(id, Box::new(ScopeRow { feed, tenant, scope, standing }));
            }
        }
        for (number, (_, task)) in self.pending.extract_if(|_, (feed, _)| *feed == number) {
            self.agenda.remove(Job::GiveUp(number));
            // The report was not made yet.
            entry
                .stored
                .get_mut(task.scope.id.as_str())
                .into_iter()
                .for_each(|row| row.standing.watch = Polling::Polled);
        }
        // The next configuration is compared with the one that the feed had.
        let kept = entry.is_kept.then_some(entry.digests);
        let left = UnconfiguredFeed { digests: Some(entry.digests), kept, stored: entry.stored };
        self.left.insert(Arc::clone(&entry.admitted.id), left);
    }

    /// Removes a scope from the agenda.
    pub(super) fn unwatch(&mut self, number: u32) -> Option<ScopeEntry> {
        let scope = self.scopes.remove(&number)?;
        self.agenda.remove(Job::Poll(number));
        self.paused.remove(&number);
        if self.polled_by.get(&ShortDigest::of(&scope.scope.id)) == Some(&scope.feed) {
            self.polled_by.remove(&ShortDigest::of(&scope.scope.id));
        }
        Some(*scope)
    }
}
