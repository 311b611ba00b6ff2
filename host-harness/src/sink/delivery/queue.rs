//! The waiting events of each sink, the busy partitions, and the problems that keep events from their sinks.

use std::collections::BTreeMap;
use std::sync::Arc;

use source_host::blame::Blame;

use super::worker::{HeldTenants, of_tenant};
use super::{Count, Inner, OpenSink, SinkRow, Work};
use crate::sink::SinkTrouble;
use crate::store::{Backlog, Partition, Waiting};

impl Inner {
    pub(super) fn is_flushed(&self) -> bool {
        let rests = |(partition, work): (_, &Work)| work.is_held || self.ledger.failing().contains_key(partition);
        self.closed.is_some() || self.busy.iter().all(rests)
    }

    /// Says whether this is still the current version of the sink.
    pub(super) fn leads(&self, sink: &Arc<OpenSink>) -> bool {
        self.sinks.get(&sink.config.id).is_some_and(|current| Arc::ptr_eq(current, sink))
    }

    /// Marks the end of a partition's worker, which holds events of these tenants. Returns true if it was the last with
    /// the sink's old configuration.
    pub(super) fn end(&mut self, partition: &Partition, held: &HeldTenants) -> bool {
        self.ledger.delivers(partition);
        for tenant in held.keys() {
            self.ledger.delivers(&of_tenant(partition, tenant));
        }
        let Some(work) = self.busy.remove(partition) else { return false };
        if self.leads(&work.sink) {
            return false;
        }
        let left = self.leaving.get_mut(&partition.sink).map(|partitions| {
            *partitions -= 1;
            *partitions
        });
        left == Some(0) && self.leaving.remove(&partition.sink).is_some()
    }

    /// Returns the number of events that wait for sinks outside the configuration.
    pub(super) fn lost(&self, backlog: &[Backlog]) -> BTreeMap<String, u64> {
        let mut lost = BTreeMap::new();
        for row in backlog.iter().filter(|row| !self.sinks.contains_key(&row.sink)) {
            *lost.entry(row.sink.clone()).or_default() += row.events;
        }
        lost
    }

    /// Logs once how many events wait for sinks outside the configuration, by the backlog of all held shards.
    pub(super) fn tell_all_lost(&mut self, lost: &BTreeMap<String, u64>) {
        self.told_lost.retain(|sink| lost.contains_key(sink));
        self.tell_lost(lost);
    }

    /// The same, by the backlog of newly leased shards.
    pub(super) fn tell_lost(&mut self, lost: &BTreeMap<String, u64>) {
        for (sink, events) in lost.iter().filter(|(sink, _)| !self.told_lost.contains(*sink)) {
            tracing::warn!(
                sink,
                fault = Blame::Operator.word(),
                "{events} events wait for the sink {sink}, which is not configured any more; they stay until it is"
            );
        }
        self.told_lost.extend(lost.keys().cloned());
    }

    /// Returns the reason why a tenant's events do not reach a sink.
    pub(super) fn trouble(&self, sink: &str, tenant: &str) -> Option<&SinkTrouble> {
        let of = |partition: &Partition| {
            partition.sink == sink && partition.tenant.as_deref().is_none_or(|other| other == tenant)
        };
        let (_, failing) = self.ledger.failing().iter().find(|(partition, _)| of(partition))?;
        Some(&failing.trouble)
    }

    pub(super) fn rows(&self) -> Vec<SinkRow> {
        let mut rows: BTreeMap<(&str, Option<&str>), SinkRow> = BTreeMap::new();
        let new = |sink: &str, tenant: Option<&str>| SinkRow {
            sink: sink.to_owned(),
            tenant: tenant.map(str::to_owned),
            waiting: self.waits(sink, tenant),
            failing: None,
            full_since: None,
            dead_letters: None,
            is_configured: self.sinks.contains_key(sink),
        };
        for (partition, failing) in self.ledger.failing() {
            let tenant = partition.tenant.as_deref();
            let row = rows.entry((&partition.sink, tenant)).or_insert_with(|| new(&partition.sink, tenant));
            // The partitions of several feeds share one row.
            row.failing.get_or_insert_with(|| failing.clone());
        }
        for ((sink, tenant), since) in self.ledger.full() {
            rows.entry((sink, Some(tenant))).or_insert_with(|| new(sink, Some(tenant))).full_since = Some(*since);
        }
        for ((sink, tenant), letters) in self.ledger.dead_letters() {
            let Some(open) = self.sinks.get(sink) else { continue };
            let row = rows.entry((sink, Some(tenant))).or_insert_with(|| new(sink, Some(tenant)));
            row.dead_letters = Some((letters.clone(), open.config.dead_letters.clone()));
        }
        for ((sink, tenant), count) in &self.waiting {
            if count.events > 0 && !self.sinks.contains_key(sink) {
                rows.entry((sink, Some(tenant))).or_insert_with(|| new(sink, Some(tenant)));
            }
        }
        rows.into_values().collect()
    }

    /// Says whether events of other tenants than the held ones wait for a partition, as far as the counts tell, which do
    /// not separate feeds. A query would pass over each event of the held tenants.
    pub(super) fn waits_beside(&self, partition: &Partition, held: &HeldTenants) -> bool {
        if let Some(tenant) = &partition.tenant {
            return !held.contains_key(tenant) && self.waits(&partition.sink, Some(tenant)).events > 0;
        }
        let waits = |((sink, tenant), count): (&(String, String), &Count)| {
            *sink == partition.sink && count.events > 0 && !held.contains_key(tenant)
        };
        self.waiting.iter().any(waits)
    }

    /// Returns the events of one tenant, or of all, that wait for a sink.
    pub(super) fn waits(&self, sink: &str, tenant: Option<&str>) -> Waiting {
        if let Some(tenant) = tenant {
            let count = self.waiting.get(&(sink.to_owned(), tenant.to_owned()));
            return count.map(Count::waiting).unwrap_or_default();
        }
        let counts = self.waiting.iter().filter(|((other, _), _)| other == sink).map(|(_, count)| count.waiting());
        counts.fold(Waiting::default(), |sum, more| Waiting {
            events: sum.events + more.events,
            bytes: sum.bytes + more.bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::worker::HeldEvent;
    use super::*;

    #[test]
    fn only_waiting_events_of_other_tenants_of_the_partition_are_looked_for() {
        let mut inner = Inner::default();
        for (sink, tenant, events) in [("lake", "held", 9), ("lake", "done", 0), ("siem", "other", 9)] {
            inner.waiting.entry((sink.to_owned(), tenant.to_owned())).or_default().add(events, events);
        }
        let held = HeldTenants::from([("held".to_owned(), HeldEvent { path: PathBuf::new(), bytes: 1 })]);
        let of =
            |tenant: Option<&str>| Partition { sink: "lake".to_owned(), tenant: tenant.map(str::to_owned), feed: None };
        assert!(!inner.waits_beside(&of(None), &held));
        inner.waiting.entry(("lake".to_owned(), "little".to_owned())).or_default().add(1, 1);
        assert!(inner.waits_beside(&of(None), &held));
        assert!(!inner.waits_beside(&of(Some("held")), &held));
        assert!(inner.waits_beside(&of(Some("little")), &held));
        assert!(!inner.waits_beside(&of(Some("done")), &held));
        assert!(!inner.waits_beside(&of(Some("other")), &held), "they wait for another sink");
    }
}
