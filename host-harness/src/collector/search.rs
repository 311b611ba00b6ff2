//! The search for the scopes of a feed, and its result: scopes that are polled from now on, and scopes that are not
//! polled any more.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use source_host::blame::Blame;
use source_host::contract::{Discovery, Failure, Reaction, Scope};
use source_host::credentials::expiry;
use source_host::digest::ShortDigest;
use source_host::limits::milliseconds;

use crate::admitted::AdmittedFeed;
use crate::collector::agenda::Job;
use crate::collector::log::{log_failure, log_notices};
use crate::collector::schedule::first;
use crate::collector::verdict::{ScopeVerdict, says_of_scopes, verdicts};
use crate::collector::work::{Done, SearchWait, Task};
use crate::collector::{Collector, FeedDigests, JobFuture, JobResult, PollFault, ScopeEntry, ScopeKey, failure_of};
use crate::limits;
use crate::store::{FeedRow, Polling, ScopeRow, Standing, StoreError};

/// The result of a search while it is being applied.
pub(super) struct SearchUpdate {
    feed: u32,
    /// The scopes; `None` if the search failed.
    found: Option<Discovery>,
    verdicts: std::vec::IntoIter<(Scope, ScopeVerdict)>,
    /// Numbers of the scopes that are polled, by id.
    live: HashMap<String, u32>,
    /// Whether this is the first successful search since the feed's configuration changed.
    changed: bool,
    was_blocked: bool,
    searched_with: ShortDigest,
    /// When the next search is due.
    due: u64,
    /// Number of scopes so far that are polled for the first time.
    rank: u64,
    /// Whether a scope was left for another search.
    skipped: bool,
    lost: LogGroup<(Scope, Failure)>,
    given_up: LogGroup<Scope>,
    shared: LogGroup<(Scope, Arc<AdmittedFeed>)>,
}

/// The first of several items that share one line of the log, and their number.
struct LogGroup<T> {
    first: Option<T>,
    count: usize,
}

impl<T> Default for LogGroup<T> {
    fn default() -> LogGroup<T> {
        LogGroup { first: None, count: 0 }
    }
}

impl<T> LogGroup<T> {
    fn note(&mut self, one: T) {
        self.first.get_or_insert(one);
        self.count += 1;
    }

    /// Text about the items beside the first.
    fn others(&self) -> String {
        match self.count {
            0 | 1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        }
    }
}

impl SearchUpdate {
    /// Logs which scopes are not polled any more, and which are polled twice: one line for each kind.
    fn log(&self, admitted: &AdmittedFeed) {
        if let Some((scope, why)) = &self.lost.first {
            let cause = format!("{}{}", why.cause, self.lost.others());
            log_failure(admitted, Some(scope), &Failure { cause, ..why.clone() }, None);
        }
        let (tenant, feed, fault) = (&admitted.tenant, &admitted.id, Blame::Operator.word());
        if let Some(scope) = &self.given_up.first {
            tracing::warn!(
                %tenant, %feed, scope = scope.id, fault,
                "the settings do not ask for this scope any more: it is not polled, and its state is kept{}",
                self.given_up.others()
            );
        }
        if let Some((scope, other)) = &self.shared.first
            && admitted.log().takes(scope.id.len())
        {
            tracing::warn!(
                %tenant, %feed, scope = scope.id, fault,
                "the feed {} of tenant {} polls this scope too: its findings are reported twice{}",
                other.id, other.tenant, self.shared.others()
            );
        }
    }
}

impl Collector {
    pub(super) fn search(&mut self, number: u32, now: u64) -> Option<JobFuture> {
        let entry = self.feeds.get(&number)?;
        let (tenant, schedule, failures) = (entry.tenant, entry.schedule(), entry.failures);
        if !self.may_work(entry) {
            self.agenda.plan(Job::Search(number), tenant, now + milliseconds(limits::RENEWAL));
            return None;
        }
        if let Some(until) = self.throttled(entry, now) {
            self.agenda.plan(Job::Search(number), tenant, schedule.after_throttle(until));
            return None;
        }
        // A token from before lacks a permission that was granted meanwhile.
        let fresh = entry.blocked || entry.changed || entry.failure.is_some();
        let (admitted, cell) = self.opened(number)?;
        let (tenants, clock, pipeline) = (Arc::clone(&self.tenants), Arc::clone(&self.clock), self.pipeline.clone());
        Some(Box::pin(async move {
            let open = || async { admitted.open(&tenants, &clock).await.map(Box::new) };
            let feed = match cell.get_or_try_init(open).await {
                Ok(feed) => feed,
                Err(error) => {
                    let wait = SearchWait::default();
                    return JobResult::Searched { feed: number, found: Err(failure_of(&error)), wait };
                }
            };
            if fresh {
                feed.forget_tokens(clock().saturating_sub(1));
            }
            let found = feed.discover().await;
            let usage = feed.take_usage();
            let wait = pipeline.search_wait(&admitted, feed, failures, found.as_ref().err()).await;
            pipeline.metrics.feed(&admitted.tenant, &admitted.id, |counts| counts.used(&usage));
            JobResult::Searched { feed: number, found, wait }
        }))
    }

    pub(super) fn searched(&mut self, number: u32, found: Result<Discovery, Failure>) {
        let now = (self.clock)();
        let Some(entry) = self.feeds.get_mut(&number) else { return self.agenda.done(Job::Search(number)) };
        let admitted = Arc::clone(&entry.admitted);
        let next = entry.schedule().after(entry.failures, found.as_ref().err(), now);
        entry.failures = next.failures;
        self.pipeline.metrics.feed(&admitted.tenant, &admitted.id, |counts| counts.searched(found.as_ref().err()));
        let was_blocked = entry.blocked;
        let before = entry.failure.take().map(|failure| failure.code);
        entry.failure = found.as_ref().err().cloned().map(Box::new);
        entry.blocked = found.as_ref().is_err_and(|failure| failure.reaction == Reaction::FixFeed);
        let changed = entry.changed && found.is_ok();
        entry.changed &= found.is_err();
        match &found {
            Ok(discovery) => {
                entry.notices = log_notices(&admitted, None, &discovery.notices, &entry.notices);
                if before.is_some() {
                    tracing::info!(tenant = %admitted.tenant, feed = %admitted.id, "its scopes are found again");
                }
            }
            Err(failure) => log_failure(&admitted, None, failure, before.as_deref()),
        }
        let searched_with = admitted.settings_digest();
        let same_settings = entry.digests.searched_with == searched_with;
        self.warn_of_expiry(number, now);
        let (known, live) = if says_of_scopes(&found) { self.known(number) } else { Default::default() };
        let verdicts = verdicts(&known, &found, same_settings).into_iter();
        let update = SearchUpdate {
            feed: number,
            found: found.ok(),
            verdicts,
            live,
            changed,
            was_blocked,
            searched_with,
            due: next.due,
            rank: 0,
            skipped: false,
            lost: LogGroup::default(),
            given_up: LogGroup::default(),
            shared: LogGroup::default(),
        };
        self.apply(update);
    }

    /// Applies a part of a search's result, and ends the search after the last part. Other work is done in between.
    pub(super) fn apply(&mut self, mut update: SearchUpdate) {
        let (now, number) = ((self.clock)(), update.feed);
        let Some(admitted) = self.feeds.get(&number).map(|entry| Arc::clone(&entry.admitted)) else {
            self.agenda.done(Job::Search(number));
            return;
        };
        for _ in 0..limits::FINDINGS_AT_ONCE {
            let Some((scope, verdict)) = update.verdicts.next() else {
                return self.finish_search(&admitted, &update, now);
            };
            self.take_up(&admitted, &mut update, scope, verdict, now);
        }
        self.updates.push_back(update);
    }

    /// Applies a search's verdict on one scope.
    fn take_up(
        &mut self,
        admitted: &Arc<AdmittedFeed>,
        update: &mut SearchUpdate,
        scope: Scope,
        verdict: ScopeVerdict,
        now: u64,
    ) {
        let number = update.feed;
        let live = update.live.get(&scope.id).copied();
        let of_live = live.and_then(|live| self.scopes.get(&live)).map(|known| &known.standing);
        let stored =
            || self.feeds.get(&number).and_then(|entry| entry.stored.get(scope.id.as_str())).map(|row| &row.standing);
        let earlier = of_live.or_else(stored).cloned();
        let anew = earlier.as_ref().is_none_or(|standing| standing.watch != Polling::Polled);
        let earlier = earlier.unwrap_or_default();
        let due = match &verdict {
            ScopeVerdict::Polled if anew || (update.changed && earlier.waits_for_person) => {
                update.rank += 1;
                first(now, update.rank - 1)
            }
            ScopeVerdict::Polled => earlier.due,
            ScopeVerdict::Lost(_) | ScopeVerdict::GivenUp => now,
        };
        let Some(lease) = self.feeds.get(&number).map(|entry| entry.lease) else { return };
        let task = verdict.task(admitted, lease, scope, earlier, due);
        match task.standing.watch {
            Polling::Polled => {
                if let Some(other) = self.watch(number, task, live, now) {
                    update.shared.note(other);
                }
                return;
            }
            // A poll in flight ends first.
            _ if self.busy.contains(&(admitted.id.clone(), task.scope.id.clone())) => {
                update.skipped = true;
                return;
            }
            Polling::Lost | Polling::Unasked => {}
        }
        match &task.given_up {
            Some(why) => update.lost.note((task.scope.clone(), why.clone())),
            None => update.given_up.note(task.scope.clone()),
        }
        self.give_up(number, task, live, now);
    }

    /// Ends a search after its whole result is applied.
    fn finish_search(&mut self, admitted: &AdmittedFeed, update: &SearchUpdate, now: u64) {
        let number = update.feed;
        self.agenda.done(Job::Search(number));
        update.log(admitted);
        if let Some(discovery) = &update.found {
            // This comes before the search is kept, which writes the rows of scopes that are not asked for any more.
            self.forget_unpolled(number, discovery, now);
        }
        let is_done = update.found.is_some() && !update.skipped;
        if is_done {
            // Only now: until everything is done, a search that finds less counts as the first with these settings.
            if let Some(entry) = self.feeds.get_mut(&number) {
                let before = std::mem::replace(&mut entry.digests.searched_with, update.searched_with);
                entry.is_kept &= before == update.searched_with;
            }
            self.keep_search(number);
        }
        self.note_now(number);
        let due = if update.skipped { now + milliseconds(limits::SEARCH_PAUSE) } else { update.due };
        self.plan_search(number, due, is_done, now);
        self.release(number, update.was_blocked, now);
    }

    /// Returns all known scopes of a feed, and the numbers of those that are polled.
    fn known(&self, number: u32) -> (Vec<(&Scope, &Standing)>, HashMap<String, u32>) {
        let Some(entry) = self.feeds.get(&number) else { return Default::default() };
        let mut known: BTreeMap<&str, (&Scope, &Standing)> =
            entry.stored.values().map(|row| (row.scope.id.as_str(), (&row.scope, &row.standing))).collect();
        let mut live = HashMap::new();
        for (number, scope) in entry.scopes.iter().filter_map(|number| Some((*number, self.scopes.get(number)?))) {
            known.insert(&scope.scope.id, (&scope.scope, &scope.standing));
            live.insert(scope.scope.id.clone(), number);
        }
        (known.into_values().collect(), live)
    }

    /// Writes the scopes that were given up, and then the settings of the search. A crash in between repeats the
    /// search.
    pub(super) fn keep_search(&mut self, number: u32) {
        let Some(entry) = self.feeds.get(&number) else { return };
        let digests = entry.digests;
        if entry.is_kept {
            return;
        }
        let unasked = entry.stored.values().filter(|row| row.standing.watch == Polling::Unasked);
        let rows: Vec<ScopeRow> = unasked.map(|row| (**row).clone()).collect();
        let FeedDigests { searched_with, configured_as } = digests;
        let row = FeedRow { feed: entry.admitted.id.to_string(), searched_with, configured_as };
        let (store, lease) = (Arc::clone(&self.pipeline.store), entry.lease);
        let job = async move {
            let keep = async {
                store.keep_scopes(lease, rows).await?;
                store.keep_feed(lease, row).await
            };
            JobResult::Kept { feed: number, digests, kept: keep.await }
        };
        self.start(None, None, Box::pin(job));
    }

    pub(super) fn kept(&mut self, number: u32, digests: FeedDigests, kept: Result<(), StoreError>) {
        match kept {
            Ok(()) => {
                if let Some(entry) = self.feeds.get_mut(&number) {
                    entry.is_kept = entry.digests == digests;
                }
            }
            Err(error) => {
                // The next search writes the row again.
                self.tell_unkept(&error);
            }
        }
    }

    /// Polls a scope from now on, or continues to if it has a number. Returns the scope and the other feed that polls
    /// it, if that was not reported yet.
    fn watch(&mut self, feed: u32, task: Task, live: Option<u32>, now: u64) -> Option<(Scope, Arc<AdmittedFeed>)> {
        let Task { admitted, schedule, scope, mut standing, .. } = task;
        let entry = self.feeds.get_mut(&feed)?;
        let was_stored = entry.stored.remove(scope.id.as_str()).is_some();
        if let Some(number) = live {
            if let Some(known) = self.scopes.get_mut(&number) {
                known.scope = scope;
            }
            return None;
        }
        if was_stored {
            schedule.resume(&mut standing, now, 0);
        }
        let number = self.numbers.next();
        entry.scopes.push(number);
        self.agenda.plan(Job::Poll(number), entry.tenant, standing.due);
        let shared = self.shared(feed, &admitted, &scope).map(|other| (scope.clone(), other));
        self.scopes.insert(
            number,
            Box::new(ScopeEntry { feed, scope, standing, held_since: None, trouble: None, notices: Box::default() }),
        );
        shared
    }

    /// Returns the other feed that polls a scope, if that was not reported yet.
    fn shared(&mut self, feed: u32, admitted: &AdmittedFeed, scope: &Scope) -> Option<Arc<AdmittedFeed>> {
        let other = *self.polled_by.entry(ShortDigest::of(&scope.id)).or_insert(feed);
        let other = self.feeds.get(&other).filter(|_| other != feed).map(|other| &other.admitted)?;
        if other.plugin_digest() != admitted.plugin_digest() {
            return None;
        }
        // Two feeds of a plugin that finds other scopes at each search share those scopes, too, so that the set is
        // bounded.
        if self.shared_scopes.len() >= limits::UNPOLLED_SCOPES {
            self.shared_scopes.clear();
        }
        self.shared_scopes.insert(scope.id.clone()).then(|| Arc::clone(other))
    }

    /// Stops polling a scope; if it was lost, one event reports that.
    fn give_up(&mut self, feed: u32, task: Task, live: Option<u32>, now: u64) {
        if let Some(number) = live {
            self.unwatch(number);
        }
        let Some(entry) = self.feeds.get_mut(&feed) else { return };
        if let Some(place) = live.and_then(|live| entry.scopes.binary_search(&live).ok()) {
            entry.scopes.remove(place);
        }
        entry.stored.insert(task.scope.id.as_str().into(), Box::new(task.row()));
        if task.given_up.is_some() {
            let tenant = entry.tenant;
            let number = self.numbers.next();
            self.pending.insert(number, (feed, task));
            self.agenda.plan(Job::GiveUp(number), tenant, now);
        }
    }

    /// Reports that a scope is not polled any more.
    pub(super) fn give_up_job(&mut self, number: u32, now: u64) -> Option<(ScopeKey, JobFuture)> {
        let (feed, task) = self.pending.get(&number)?;
        let (feed, key) = (*feed, (task.admitted.id.clone(), task.scope.id.clone()));
        let entry = self.feeds.get(&feed)?;
        if self.busy.contains(&key) || !self.may_work(entry) {
            let tenant = entry.tenant;
            self.agenda.plan(Job::GiveUp(number), tenant, now + milliseconds(limits::BUSY_PAUSE));
            return None;
        }
        let (_, task) = self.pending.remove(&number)?;
        let (_, cell) = self.opened(feed)?;
        let scope = task.scope.id.clone();
        let done = self.performed(task, cell);
        Some((key, Box::pin(async move { JobResult::GivenUp { feed, scope, done: done.await } })))
    }

    pub(super) fn gave_up(&mut self, feed: u32, scope: &str, done: Result<Done, PollFault>) {
        let Some(entry) = self.feeds.get_mut(&feed) else { return };
        let Some(row) = entry.stored.get_mut(scope) else { return };
        match done {
            Ok(done) => row.standing = done.standing,
            Err(fault) => {
                // The next search finds the scope lost again.
                row.standing.watch = Polling::Polled;
                let (admitted, scope) = (Arc::clone(&entry.admitted), row.scope.clone());
                self.failed(feed, &admitted, &scope, fault, None);
            }
        }
    }

    /// Plans the next search with the feed's next poll, so that both use one token.
    pub(super) fn plan_search(&mut self, number: u32, due: u64, good: bool, now: u64) {
        let Some(entry) = self.feeds.get(&number) else { return };
        let interval = milliseconds(entry.admitted.interval);
        let polls = entry.scopes.iter().filter_map(|scope| self.scopes.get(scope));
        // A scope that is polled now comes again at its place.
        let polls = polls.map(|scope| match scope.standing.due {
            due if due > now => due,
            _ => entry.schedule_of(&scope.scope.id).next_place(now),
        });
        let soon = |due: &u64| (now + interval / 2..=now + interval * 3 / 2).contains(due);
        let due = polls.filter(soon).min().filter(|_| good).unwrap_or(due);
        self.agenda.plan(Job::Search(number), entry.tenant, due);
    }

    /// Polls the scopes that waited for the search, unless the search found the feed blocked.
    pub(super) fn release(&mut self, number: u32, was_blocked: bool, now: u64) {
        let Some(entry) = self.feeds.get(&number).filter(|entry| !entry.blocked) else { return };
        for scope in &entry.scopes {
            let held = self.scopes.get_mut(scope).and_then(|scope| scope.held_since.as_mut());
            let Some(since) = held else { continue };
            if was_blocked {
                // The scope waited for a person, and is not late.
                *since = now;
            }
            self.agenda.plan(Job::Poll(*scope), entry.tenant, now);
        }
    }

    pub(super) fn warn_of_expiry(&mut self, number: u32, now: u64) {
        let Some(entry) = self.feeds.get_mut(&number) else { return };
        for (setting, end) in &entry.admitted.expiries {
            let nearness_seen = entry.expiry_seen.and_then(|seen| expiry::nearness(*end, seen));
            if expiry::nearness(*end, now) > nearness_seen {
                let words = expiry::warning(setting, *end, now);
                tracing::warn!(
                    tenant = %entry.admitted.tenant, feed = %entry.admitted.id, fault = Blame::Tenant.word(), "{words}"
                );
            }
        }
        entry.expiry_seen = Some(now);
    }
}
