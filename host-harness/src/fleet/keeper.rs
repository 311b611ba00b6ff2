//! Renews the row of this collector in a store that several share, takes shards and gives them back, and keeps the
//! leases that the other parts of the collector look at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use source_host::blame::Blame;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::plan::{Moves, moves};
use crate::limits;
use crate::store::fleet::{Fleet, FleetMember, MemberId};
use crate::store::shards::{Lease, Shards, SteadyClock};
use crate::store::{SharedStore, StoreError, StoreErrorKind};

/// The fleet as this collector last saw it. Cheap to clone.
#[derive(Clone)]
pub struct FleetWatch(watch::Receiver<Arc<FleetState>>);

/// The fleet at one moment.
#[derive(Debug, Clone, Default)]
pub struct FleetState {
    /// The rows of the store at the last renewal.
    pub fleet: Fleet,
    /// The leases that this collector holds.
    pub held: Vec<Lease>,
    /// Why the last renewal failed.
    pub trouble: Option<StoreError>,
}

impl FleetWatch {
    /// Returns the state now.
    pub fn state(&self) -> Arc<FleetState> {
        Arc::clone(&self.0.borrow())
    }

    /// Returns when the state may have changed; waits for ever if the keeper has ended.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// Keeps the leases of one collector.
pub struct Keeper {
    store: SharedStore,
    shards: Shards,
    clock: SteadyClock,
    /// This collector. Its work changes with the configuration and with the shards that it holds.
    member: Arc<Mutex<FleetMember>>,
    /// The shards that this collector has yet to take, once; `None` if it shares the work with others.
    once: Option<BTreeSet<u16>>,
    /// Shards that will be given back, and when.
    giving: BTreeMap<Lease, Instant>,
    /// Shards that nobody holds, and since when.
    free: BTreeMap<u16, Instant>,
    /// The start of the last renewal that the store answered.
    renewed: Option<Instant>,
    news: watch::Sender<Arc<FleetState>>,
}

impl Keeper {
    /// Makes the keeper of a collector that holds nothing yet.
    pub fn new(
        store: SharedStore,
        shards: Shards,
        clock: SteadyClock,
        member: Arc<Mutex<FleetMember>>,
    ) -> (Keeper, FleetWatch) {
        let (news, watched) = watch::channel(Arc::default());
        let keeper = Keeper {
            store,
            shards,
            clock,
            member,
            once: None,
            giving: BTreeMap::new(),
            free: BTreeMap::new(),
            renewed: None,
            news,
        };
        (keeper, FleetWatch(watched))
    }

    /// Has the keeper take those of these shards that nobody holds, at its first renewal and no others: for a collector
    /// that polls once, and tells of no work.
    pub fn of_one_poll(self, shards: BTreeSet<u16>) -> Keeper {
        Keeper { once: Some(shards), ..self }
    }

    /// Renews the leases until the other end of `stop` is dropped, and then gives them back.
    pub async fn keep(mut self, mut stop: oneshot::Receiver<()>) {
        let mut pause = self.pause();
        while timeout(pause, &mut stop).await.is_err() {
            let begun = (self.clock)();
            self.turn().await;
            // The time of a renewal that failed slowly is a part of the pause: four fit into a lease.
            pause = self.pause().saturating_sub((self.clock)().saturating_duration_since(begun));
        }
        self.leave().await;
    }

    /// Returns the time until the next renewal: a silent collector's shards are taken as soon as its lease is over.
    fn pause(&self) -> Duration {
        pause(&self.news.borrow().fleet)
    }

    /// Renews once, takes shards that nobody holds, and gives shards back.
    pub async fn turn(&mut self) {
        let begun = (self.clock)();
        let had_trouble = self.news.borrow().trouble.is_some();
        match self.renew(begun).await {
            Ok((fleet, silence)) => {
                if silence >= limits::LEASE_TRUSTED {
                    tracing::warn!(
                        fault = Blame::Operator.word(),
                        "this collector did not reach the store for {} s, longer than its leases last: polls that it began \
                         before are done again, by it or by others",
                        silence.as_secs()
                    );
                } else if had_trouble {
                    tracing::info!("the leases are renewed again");
                }
                self.publish(Some(fleet), None);
            }
            Err(error) => {
                if !had_trouble {
                    tracing::warn!(
                        fault = error.blame().word(),
                        "the leases of {} shards could not be renewed; others take them over if that lasts: {error}",
                        self.shards.held().len()
                    );
                }
                self.publish(None, Some(error));
            }
        }
    }

    /// Gives all leases back: others need not wait until they are over.
    pub async fn leave(&self) {
        let Some(store) = self.store.fleet() else { return };
        let id = self.member.lock().id.clone();
        self.shards.replace([], (self.clock)());
        match timeout(limits::RENEWAL_PATIENCE, store.leave(&id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the leases end by themselves"),
            Err(_) => tracing::debug!("the leases end by themselves: the store does not answer"),
        }
    }

    async fn renew(&mut self, begun: Instant) -> Result<(Fleet, Duration), StoreError> {
        let store = Arc::clone(&self.store);
        let Some(store) = store.fleet() else { return Ok(Default::default()) };
        let member = self.member.lock().clone();
        let mut fleet = self.answered(store.renew(&member)).await?;
        // At the answer: until then, the leases may have been distrusted for a moment.
        let now = (self.clock)();
        let silence = self.renewed.map_or(Duration::ZERO, |before| now.saturating_duration_since(before));
        let own = |fleet: &Fleet| -> Vec<Lease> {
            let own = fleet.shards.iter().filter(|shard| shard.holder.as_ref() == Some(&member.id));
            own.map(|shard| shard.lease).collect()
        };
        // Leases that were distrusted for a time are taken again: their feeds were dropped, or will be.
        if silence >= limits::LEASE_TRUSTED {
            let late = own(&fleet);
            self.answered(store.give_back(&member.id, &late)).await?;
            fleet.shards.iter_mut().filter(|shard| late.contains(&shard.lease)).for_each(|shard| shard.holder = None);
        }
        let held = own(&fleet);
        self.giving.retain(|lease, _| held.contains(lease));
        // Whatever follows must not cost the leases that there are. The store counts from the arrival of the renewal,
        // which was after its start.
        let until = begun + limits::LEASE_TRUSTED;
        self.shards.replace(held.iter().copied().filter(|lease| !self.giving.contains_key(lease)), until);
        self.renewed = Some(begun);
        let due: Vec<Lease> = self.giving.iter().filter(|(_, at)| **at <= begun).map(|(lease, _)| *lease).collect();
        if !due.is_empty() {
            self.answered(store.give_back(&member.id, &due)).await?;
            self.giving.retain(|lease, _| !due.contains(lease));
            fleet.shards.iter_mut().filter(|shard| due.contains(&shard.lease)).for_each(|shard| shard.holder = None);
        }
        let mut held: Vec<Lease> = held.into_iter().filter(|lease| !due.contains(lease)).collect();
        let Moves { take, give } = match &self.once {
            // All were silent if the store was away: the others have a renewal's time to show that they live.
            _ if silence >= limits::LEASE_TRUSTED => Moves::default(),
            // The store leaves out those that others hold.
            Some(needed) => Moves { take: needed.iter().copied().collect(), give: Vec::new() },
            None => self.share(&member.id, &fleet, begun),
        };
        if !take.is_empty() {
            let taken = self.answered(store.take(&member.id, &take)).await?;
            self.tell_taken(&fleet, &taken);
            held.extend(taken);
            if let Some(needed) = &mut self.once {
                needed.clear();
            }
        }
        let at = begun + limits::GIVING;
        self.giving.extend(held.iter().filter(|lease| give.contains(&lease.shard)).map(|lease| (*lease, at)));
        if !give.is_empty() {
            tracing::info!("gives {} of {} shards to other collectors", give.len(), held.len());
        }
        let kept = held.iter().copied().filter(|lease| !self.giving.contains_key(lease));
        self.shards.replace(kept, until);
        Ok((fleet, silence))
    }

    /// Decides about the shards of a collector that shares the work with others.
    fn share(&mut self, me: &MemberId, fleet: &Fleet, now: Instant) -> Moves {
        let mut moves = moves(me, fleet);
        if !self.giving.is_empty() {
            // One after the other: the shards that are being given back still count as this collector's work.
            moves.give.clear();
        }
        let left_over = self.left_over(fleet, &moves.take, now);
        moves.take.extend(left_over);
        moves
    }

    /// Returns the shards that nobody has taken for some renewals: the collector that should have them may have died since.
    fn left_over(&mut self, fleet: &Fleet, take: &[u16], now: Instant) -> Vec<u16> {
        let living = |id: &MemberId| fleet.members.iter().any(|seen| seen.member.id == *id && seen.is_alive());
        let free = fleet.shards.iter().filter(|shard| !shard.holder.as_ref().is_some_and(living));
        let free: BTreeSet<u16> = free.map(|shard| shard.lease.shard).collect();
        self.free.retain(|shard, _| free.contains(shard));
        for shard in &free {
            self.free.entry(*shard).or_insert(now);
        }
        let is_old = |since: &Instant| now.saturating_duration_since(*since) >= limits::LEFT_OVER;
        let old = self.free.iter().filter(|(shard, since)| is_old(since) && !take.contains(shard));
        old.map(|(shard, _)| *shard).collect()
    }

    /// Waits for an answer of the store, within a time.
    async fn answered<T>(&self, answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let late =
            || StoreError { place: self.store.place().clone(), what: StoreErrorKind::Silent(limits::RENEWAL_PATIENCE) };
        timeout(limits::RENEWAL_PATIENCE, answer).await.unwrap_or_else(|_| Err(late()))
    }

    fn tell_taken(&self, fleet: &Fleet, taken: &[Lease]) {
        if taken.is_empty() {
            return;
        }
        let mut dead: Vec<&str> = Vec::new();
        for lease in taken {
            let before = fleet.shards.iter().find(|shard| shard.lease.shard == lease.shard);
            let holder = before.and_then(|shard| shard.holder.as_ref());
            let name = holder.and_then(|id| fleet.members.iter().find(|seen| seen.member.id == *id));
            dead.extend(name.map(|seen| seen.member.name.as_str()));
        }
        dead.sort_unstable();
        dead.dedup();
        match dead.is_empty() {
            true => tracing::info!("took {} shards", taken.len()),
            false => {
                let are = if dead.len() == 1 { "is" } else { "are" };
                tracing::warn!(
                    "took {} shards, among them those of {}, which {are} silent",
                    taken.len(),
                    dead.join(", ")
                )
            }
        }
    }

    fn publish(&self, fleet: Option<Fleet>, trouble: Option<StoreError>) {
        let held = self.shards.held();
        self.news.send_modify(|state| {
            let fleet = fleet.unwrap_or_else(|| state.fleet.clone());
            *state = Arc::new(FleetState { fleet, held, trouble });
        });
    }
}

/// Returns the time until the next renewal after one that found this fleet.
fn pause(fleet: &Fleet) -> Duration {
    let left = |silent| limits::LEASE.saturating_sub(silent) + limits::STORE_TICK;
    let living = fleet.members.iter().filter(|seen| seen.is_alive());
    living.map(|seen| left(seen.silent)).fold(limits::RENEWAL, Duration::min)
}

#[cfg(test)]
mod tests {
    use source_host::digest::ShortDigest;

    use super::*;
    use crate::store::fleet::SeenMember;

    #[test]
    fn the_shards_of_a_silent_collector_are_taken_when_its_lease_is_over() {
        let seen = |silent| {
            let (id, configuration) = (MemberId("a".to_owned()), ShortDigest::of("same"));
            let (name, version) = ("a".to_owned(), "1".to_owned());
            let member = FleetMember { id, name, version, configuration, listen: None, work: Vec::new() };
            SeenMember { member, started: 0, silent: Duration::from_millis(silent) }
        };
        let pause = |silences: &[u64]| {
            let members = silences.iter().map(|silent| seen(*silent)).collect();
            pause(&Fleet { members, ..Fleet::default() })
        };
        assert_eq!(pause(&[]), limits::RENEWAL);
        assert_eq!(pause(&[0, 3_000, 11_000]), limits::RENEWAL);
        assert_eq!(pause(&[0, 13_500]), Duration::from_millis(1_501));
        assert_eq!(pause(&[0, 15_000]), limits::RENEWAL, "it is dead already");
    }
}
