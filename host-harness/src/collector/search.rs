//! The search for the scopes of a feed, and what it finds: scopes that are polled from now on, and scopes that are not
//! any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use source_host::blame::Blame;
use source_host::contract::{Discovery, Failure, Reaction, Scope};
use source_host::credentials::expiry;
use source_host::digest::ShortDigest;
use source_host::feed::admitted::AdmittedFeed;
use source_host::limits::{self, milliseconds};

use crate::collector::agenda::Item;
use crate::collector::log::{log_failure, log_notices};
use crate::collector::schedule::{Schedule, first};
use crate::collector::work::{Done, Finding, Task, findings};
use crate::collector::{Collector, Ended, FeedDigests, JobFuture, PollFault, ScopeEntry, ScopeKey, failure_of};
use crate::store::{FeedRow, ScopeRow, Standing, StoreError, Watch};

impl Collector {
    pub(super) fn search(&mut self, number: u32, now: u64) -> Option<JobFuture> {
        let entry = self.feeds.get(&number)?;
        let (tenant, schedule, failures) = (entry.tenant, entry.schedule, entry.failures);
        if let Some(until) = self.throttled(entry, now) {
            self.agenda.plan(Item::Search(number), tenant, schedule.after_throttle(until));
            return None;
        }
        // A permission that was granted meanwhile is not in a token from before.
        let fresh = entry.blocked || entry.changed || entry.failure.is_some();
        let (admitted, cell) = self.opened(number)?;
        let (tenants, clock, pipeline) = (Arc::clone(&self.tenants), Arc::clone(&self.clock), self.pipeline.clone());
        Some(Box::pin(async move {
            let open = || async { admitted.open(&tenants, &clock).await.map(Box::new) };
            let feed = match cell.get_or_try_init(open).await {
                Ok(feed) => feed,
                Err(error) => {
                    return Ended::Searched {
                        feed: number,
                        found: Err(failure_of(&error)),
                        throttle: None,
                        unkept: None,
                    };
                }
            };
            if fresh {
                feed.forget_tokens(clock().saturating_sub(1));
            }
            let found = feed.discover().await;
            let usage = feed.take_usage();
            let next = schedule.after(failures, found.as_ref().err(), clock());
            let throttle = pipeline.throttle(&admitted, feed, next.throttled_until);
            pipeline.metrics.feed(&admitted.tenant, &admitted.id, |counts| counts.used(&usage));
            // A wait that is not kept costs one request after a restart.
            let unkept = match throttle.clone() {
                Some(throttle) => pipeline.store.ask(move |store| store.keep_throttle(&throttle)).await.err(),
                None => None,
            };
            Ended::Searched { feed: number, found, throttle, unkept }
        }))
    }

    pub(super) fn searched(&mut self, number: u32, found: Result<Discovery, Failure>) {
        let now = (self.clock)();
        let Some(entry) = self.feeds.get_mut(&number) else { return };
        let admitted = Arc::clone(&entry.admitted);
        let next = entry.schedule.after(entry.failures, found.as_ref().err(), now);
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
                entry.notices = log_notices(&admitted, "", &discovery.notices, &entry.notices);
                if before.is_some() {
                    tracing::info!(tenant = %admitted.tenant, feed = %admitted.id, "its scopes are found again");
                }
            }
            Err(failure) => log_failure(&admitted, None, failure, before.as_deref()),
        }
        let searched_with = admitted.settings_digest();
        let same_settings = entry.marks.searched_with == searched_with;
        self.warn_of_expiry(number, now);
        let known = self.known(number);
        let pairs: Vec<(Scope, Standing)> =
            known.values().map(|(scope, standing, _)| (scope.clone(), standing.clone())).collect();
        let (mut rank, mut skipped) = (0, false);
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
                _ if self.busy.contains(&(admitted.id.clone(), scope.id.clone())) => skipped = true,
                Finding::Lost(why) => self.give_up(number, scope, standing, live, Some(why), now),
                Finding::GivenUp => self.give_up(number, scope, standing, live, None, now),
            }
        }
        if let Ok(discovery) = &found {
            // Before the search is kept, which writes what nobody asks for any more.
            self.forget_unpolled(number, discovery, now);
        }
        if found.is_ok() && !skipped {
            // Only now: until everything is done, a search that finds less is the first with these settings.
            if let Some(entry) = self.feeds.get_mut(&number) {
                entry.marks.searched_with = searched_with;
            }
            self.keep_search(number);
        }
        self.note(number);
        let due = if skipped { now + milliseconds(limits::SEARCH_PAUSE) } else { next.due };
        self.plan_search(number, due, found.is_ok() && !skipped, now);
        self.release(number, was_blocked, now);
    }

    /// All scopes of a feed that are known, those that are polled with their number.
    pub(super) fn known(&self, number: u32) -> BTreeMap<String, (Scope, Standing, Option<u32>)> {
        let Some(entry) = self.feeds.get(&number) else { return BTreeMap::new() };
        let stored =
            entry.stored.iter().map(|row| (row.scope.id.clone(), (row.scope.clone(), row.standing.clone(), None)));
        let live = entry.scopes.iter().filter_map(|number| {
            let ScopeEntry { scope, standing, .. } = &**self.scopes.get(number)?;
            Some((scope.id.clone(), (scope.clone(), standing.clone(), Some(*number))))
        });
        stored.chain(live).collect()
    }

    /// Writes which scopes were given up, and then with which settings the feed was searched: a crash in between makes
    /// the search anew.
    pub(super) fn keep_search(&mut self, number: u32) {
        let Some(entry) = self.feeds.get(&number) else { return };
        let marks = entry.marks;
        if entry.kept == Some(marks) {
            return;
        }
        let unasked = entry.stored.iter().filter(|row| row.standing.watch == Watch::Unasked);
        let rows: Vec<ScopeRow> = unasked.cloned().collect();
        let FeedDigests { searched_with, configured_as } = marks;
        let row = FeedRow { feed: entry.admitted.id.to_string(), searched_with, configured_as };
        let store = self.pipeline.store.clone();
        let job = async move {
            let keep = store.ask(move |store| {
                store.keep_scopes(&rows)?;
                store.keep_feed(&row)
            });
            Ended::Kept { feed: number, marks, kept: keep.await }
        };
        self.start(None, None, Box::pin(job));
    }

    pub(super) fn kept(&mut self, number: u32, marks: FeedDigests, kept: Result<(), StoreError>) {
        match kept {
            Ok(()) => {
                if let Some(entry) = self.feeds.get_mut(&number) {
                    entry.kept = Some(marks);
                }
            }
            Err(error) => {
                // The next search writes it again.
                self.tell_unkept(&error);
            }
        }
    }

    /// Polls a scope from now on, or goes on to, where it has a number.
    pub(super) fn watch(&mut self, feed: u32, scope: Scope, standing: Standing, live: Option<u32>, now: u64) {
        let Some(entry) = self.feeds.get_mut(&feed) else { return };
        let stored = entry.stored.iter().position(|row| row.scope.id == scope.id);
        let was_stored = stored.map(|at| entry.stored.swap_remove(at)).is_some();
        if let Some(number) = live {
            if let Some(known) = self.scopes.get_mut(&number) {
                known.scope = scope;
            }
            return;
        }
        let admitted = Arc::clone(&entry.admitted);
        let schedule = Schedule::new(&admitted.id, &scope.id, admitted.interval);
        let due = match was_stored {
            true => schedule.resumed(standing.due, standing.failures > 0, now, 0),
            false => standing.due,
        };
        let number = self.numbers.next();
        entry.scopes.push(number);
        self.agenda.plan(Item::Poll(number), entry.tenant, due);
        self.tell_of_sharing(feed, &admitted, &scope);
        let standing = Standing { due, ..standing };
        self.scopes.insert(
            number,
            Box::new(ScopeEntry {
                feed,
                scope,
                schedule,
                standing,
                held_since: None,
                figure: None,
                trouble: None,
                notices: Box::default(),
            }),
        );
    }

    /// Says once that two feeds poll one scope.
    pub(super) fn tell_of_sharing(&mut self, feed: u32, admitted: &AdmittedFeed, scope: &Scope) {
        let other = *self.polled_by.entry(ShortDigest::of(&scope.id)).or_insert(feed);
        let Some(other) = self.feeds.get(&other).filter(|_| other != feed).map(|other| &other.admitted) else { return };
        if other.plugin_digest() != admitted.plugin_digest() {
            return;
        }
        // Two feeds of a plugin that finds other scopes at each search share those, too.
        if self.shared_scopes.len() >= limits::UNPOLLED_SCOPES {
            self.shared_scopes.clear();
        }
        if self.shared_scopes.insert(scope.id.clone()) && admitted.log.takes(scope.id.len()) {
            tracing::warn!(
                tenant = %admitted.tenant, feed = %admitted.id, scope = scope.id, fault = Blame::Operator.word(),
                "the feed {} of tenant {} polls this scope too: its findings are told twice", other.id, other.tenant
            );
        }
    }

    /// Polls a scope no more; where it was lost, one event says so.
    pub(super) fn give_up(
        &mut self,
        feed: u32,
        scope: Scope,
        standing: Standing,
        live: Option<u32>,
        lost: Option<Failure>,
        now: u64,
    ) {
        let Some(admitted) = self.feeds.get(&feed).map(|entry| Arc::clone(&entry.admitted)) else { return };
        if let Some(number) = live {
            self.unwatch(number);
        }
        let schedule = Schedule::new(&admitted.id, &scope.id, admitted.interval);
        let watch = if lost.is_some() { Watch::Lost } else { Watch::Unasked };
        let standing = Standing { due: now, watch, ..standing };
        let task = Task { admitted: Arc::clone(&admitted), schedule, scope, standing, given_up: lost };
        let Some(entry) = self.feeds.get_mut(&feed) else { return };
        entry.scopes.retain(|known| Some(*known) != live);
        entry.stored.retain(|row| row.scope.id != task.scope.id);
        entry.stored.push(task.row());
        match &task.given_up {
            Some(failure) => log_failure(&admitted, Some(&task.scope), failure, None),
            None => tracing::warn!(
                tenant = %admitted.tenant, feed = %admitted.id, scope = task.scope.id, fault = Blame::Operator.word(),
                "the settings do not ask for this scope any more: it is not polled, and its state is kept"
            ),
        }
        if task.given_up.is_some() {
            let tenant = entry.tenant;
            let number = self.numbers.next();
            self.pending.insert(number, (feed, task));
            self.agenda.plan(Item::GiveUp(number), tenant, now);
        }
    }

    /// Tells of a scope that it is not polled any more.
    pub(super) fn tell(&mut self, number: u32, now: u64) -> Option<(ScopeKey, JobFuture)> {
        let (feed, task) = self.pending.get(&number)?;
        let (feed, key) = (*feed, (task.admitted.id.clone(), task.scope.id.clone()));
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

    pub(super) fn gave_up(&mut self, feed: u32, scope: &str, done: Result<Done, PollFault>) {
        let Some(entry) = self.feeds.get_mut(&feed) else { return };
        let Some(row) = entry.stored.iter_mut().find(|row| row.scope.id == scope) else { return };
        match done {
            Ok(done) => row.standing = done.standing,
            Err(fault) => {
                // The next search finds it lost again.
                row.standing.watch = Watch::Polled;
                let (admitted, scope) = (Arc::clone(&entry.admitted), row.scope.clone());
                self.failed(&admitted, &scope, fault, None);
            }
        }
    }

    /// The next search goes with the feed's next poll, so that both use one token.
    pub(super) fn plan_search(&mut self, number: u32, due: u64, good: bool, now: u64) {
        let Some(entry) = self.feeds.get(&number) else { return };
        let interval = milliseconds(entry.admitted.interval);
        let polls = entry.scopes.iter().filter_map(|scope| self.scopes.get(scope));
        // What is polled now comes again at its place.
        let polls = polls.map(|scope| match scope.standing.due {
            due if due > now => due,
            _ => scope.schedule.next_place(now),
        });
        let soon = |due: &u64| (now + interval / 2..=now + interval * 3 / 2).contains(due);
        let due = polls.filter(soon).min().filter(|_| good).unwrap_or(due);
        self.agenda.plan(Item::Search(number), entry.tenant, due);
    }

    /// Scopes that waited for the search are polled now, unless it found the feed blocked.
    pub(super) fn release(&mut self, number: u32, was_blocked: bool, now: u64) {
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

    pub(super) fn warn_of_expiry(&mut self, number: u32, now: u64) {
        let Some(entry) = self.feeds.get_mut(&number) else { return };
        for (setting, end) in &entry.admitted.expiries {
            if expiry::nearness(*end, now) > expiry::nearness(*end, entry.expiry_seen) {
                let words = expiry::warning(setting, *end, now);
                tracing::warn!(
                    tenant = %entry.admitted.tenant, feed = %entry.admitted.id, fault = Blame::Tenant.word(), "{words}"
                );
            }
        }
        entry.expiry_seen = now;
    }
}
