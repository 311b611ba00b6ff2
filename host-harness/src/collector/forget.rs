//! Forgetting scopes that are not polled any more, after a time and beyond a number: a plugin may find other scopes at
//! each search, and each start loads the rows of all scopes.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use source_host::contract::Discovery;
use source_host::limits::{DAY, milliseconds};

use crate::collector::{Collector, JobResult};
use crate::limits;
use crate::store::{Polling, ScopeRow, StoreError};

/// Returns the ids of the unpolled scopes that are forgotten at `now`, in Unix milliseconds. Scopes that the last
/// search still names are kept.
pub(super) fn forgotten<'a>(
    rows: impl Iterator<Item = &'a ScopeRow>,
    is_named: impl Fn(&str) -> bool,
    now: u64,
) -> BTreeSet<String> {
    let mut unpolled: Vec<&ScopeRow> =
        rows.filter(|row| row.standing.watch != Polling::Polled && !is_named(&row.scope.id)).collect();
    // The time at which an unpolled scope was last due does not change any more.
    unpolled.sort_by_key(|row| Reverse(row.standing.due));
    let is_old = |row: &ScopeRow| row.standing.due.saturating_add(milliseconds(limits::UNPOLLED_KEPT)) <= now;
    let beyond = unpolled.iter().enumerate().filter(|(place, row)| *place >= limits::UNPOLLED_SCOPES || is_old(row));
    beyond.map(|(_, row)| row.scope.id.clone()).collect()
}

/// Ids of all scopes that a search names, including skipped ones.
pub(super) fn named(found: &Discovery) -> BTreeSet<&str> {
    let skipped = found.skipped.iter().map(|skipped| skipped.scope.id.as_str());
    found.scopes.iter().map(|scope| scope.id.as_str()).chain(skipped).collect()
}

impl Collector {
    /// Forgets scopes of a feed, in memory and in the store, after a search with this result.
    pub(super) fn forget_unpolled(&mut self, number: u32, found: &Discovery, now: u64) {
        let Some(entry) = self.feeds.get_mut(&number) else { return };
        let named = named(found);
        // A scope is kept while a report about it is pending.
        let pending: BTreeSet<&str> =
            self.pending.values().filter(|(feed, _)| *feed == number).map(|(_, task)| task.scope.id.as_str()).collect();
        let busy = |id: &str| self.busy.contains(&(entry.admitted.id.clone(), id.to_owned()));
        let gone = forgotten(
            entry.stored.values().map(|row| &**row),
            |id| named.contains(id) || pending.contains(id) || busy(id),
            now,
        );
        if gone.is_empty() {
            return;
        }
        entry.stored.retain(|_, row| !gone.contains(&row.scope.id));
        let (tenant, feed, lease) = (entry.admitted.tenant.to_string(), entry.admitted.id.to_string(), entry.lease);
        tracing::info!(
            tenant,
            feed,
            "forgot {} scopes that are no longer polled, with their states; {} of the last {} days are kept",
            gone.len(),
            limits::UNPOLLED_SCOPES,
            limits::UNPOLLED_KEPT.as_secs() / DAY.as_secs()
        );
        let store = Arc::clone(&self.pipeline.store);
        let gone: Vec<String> = gone.into_iter().collect();
        let job = async move { JobResult::Forgotten(store.forget_scopes(lease, &feed, gone).await) };
        self.start(None, None, Box::pin(job));
    }

    /// Handles the store's answer. After an error, the next start loads the rows again, and the search after it forgets
    /// them.
    pub(super) fn forgot(&mut self, forgotten: Result<(), StoreError>) {
        if let Err(error) = forgotten {
            self.tell_unkept(&error);
        }
    }
}

#[cfg(test)]
mod tests {
    use source_host::contract::Scope;

    use super::*;
    use crate::store::Standing;

    fn row(id: String, watch: Polling, due: u64) -> ScopeRow {
        let scope = Scope { id, name: None, owner: None, plugin_data: String::new() };
        let (feed, tenant) = ("prod".to_owned(), "contoso".to_owned());
        ScopeRow { feed, tenant, scope, standing: Standing { due, watch, ..Standing::default() } }
    }

    #[test]
    fn what_is_not_polled_is_forgotten_after_its_time() {
        let kept = milliseconds(limits::UNPOLLED_KEPT);
        let rows =
            [Polling::Lost, Polling::Unasked, Polling::Polled].map(|watch| row(format!("{watch:?}"), watch, 1_000));
        let gone =
            |now: u64, named: &str| forgotten(rows.iter(), |id| id == named, now).into_iter().collect::<Vec<_>>();
        assert!(gone(999 + kept, "").is_empty());
        assert_eq!(gone(1_000 + kept, ""), ["Lost", "Unasked"]);
        assert_eq!(gone(1_000 + kept, "Lost"), ["Unasked"], "the search still names it");
        assert!(gone(0, "").is_empty(), "a clock that went back forgets nothing");
    }

    #[test]
    fn what_is_not_polled_is_forgotten_beyond_a_number_the_oldest_first() {
        let most = limits::UNPOLLED_SCOPES as u64;
        let mut rows: Vec<ScopeRow> = (0..most).map(|due| row(format!("{due:05}"), Polling::Lost, due)).collect();
        assert!(forgotten(rows.iter(), |_| false, 0).is_empty());
        rows.extend([row("new".to_owned(), Polling::Unasked, most), row("newer".to_owned(), Polling::Lost, most)]);
        rows.extend((0..most).map(|due| row(format!("polled {due}"), Polling::Polled, due)));
        let gone: Vec<String> = forgotten(rows.iter(), |_| false, 0).into_iter().collect();
        assert_eq!(gone, ["00000", "00001"]);
    }
}
