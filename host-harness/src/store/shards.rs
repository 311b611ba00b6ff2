//! The shards of a store: tenants fall into shards by their names, and a collector works on the tenants of those shards
//! that it has leased.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::RwLock;
use sha2::{Digest, Sha256};

/// The right to write the data of a shard's tenants, until another collector takes the shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    /// Number of the shard.
    pub shard: u16,
    /// How often the shard was taken before.
    pub epoch: u32,
}

impl Lease {
    /// The lease of everything, in a store that no other collector can use.
    pub const SOLE: Lease = Lease { shard: 0, epoch: 0 };
}

/// Returns the shard of a tenant, of so many shards. Never changes: all collectors and versions agree about it.
pub fn shard_of(tenant: &str, shards: u16) -> u16 {
    let digest = Sha256::digest(tenant);
    let number = digest.iter().take(8).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    (number % u64::from(shards.max(1))) as u16
}

/// A clock that never goes back, and goes on while the process is stopped.
pub type SteadyClock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// The leases that this process holds. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Shards(Arc<Holding>);

enum Holding {
    Sole,
    Leased { shards: u16, clock: SteadyClock, held: RwLock<HeldLeases> },
}

impl fmt::Debug for Shards {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.held()).finish()
    }
}

#[derive(Debug, Default)]
struct HeldLeases {
    /// Epochs, by the numbers of the shards.
    epochs: BTreeMap<u16, u32>,
    /// The end of the trust in all of them.
    until: Option<Instant>,
}

impl HeldLeases {
    /// Returns the epochs; `None` if they may be over.
    fn trusted(&self, clock: &SteadyClock) -> Option<&BTreeMap<u16, u32>> {
        self.until.is_some_and(|until| clock() < until).then_some(&self.epochs)
    }
}

impl Shards {
    /// All tenants, in a store that no other collector can use.
    pub fn sole() -> Shards {
        Shards(Arc::new(Holding::Sole))
    }

    /// No lease yet, in a store with so many shards.
    pub fn none_of(shards: u16, clock: SteadyClock) -> Shards {
        Shards(Arc::new(Holding::Leased { shards, clock, held: RwLock::default() }))
    }

    /// Returns the lease of a tenant's shard; `None` if another collector may work on the tenant.
    pub fn lease_of(&self, tenant: &str) -> Option<Lease> {
        match &*self.0 {
            Holding::Sole => Some(Lease::SOLE),
            Holding::Leased { shards, clock, held } => {
                let (shard, held) = (shard_of(tenant, *shards), held.read());
                held.trusted(clock)?.get(&shard).map(|epoch| Lease { shard, epoch: *epoch })
            }
        }
    }

    /// Says whether a lease is held now.
    pub fn holds(&self, lease: Lease) -> bool {
        match &*self.0 {
            Holding::Sole => true,
            Holding::Leased { clock, held, .. } => {
                held.read().trusted(clock).is_some_and(|epochs| epochs.get(&lease.shard) == Some(&lease.epoch))
            }
        }
    }

    /// Says whether no other collector can use the store.
    pub fn is_sole(&self) -> bool {
        matches!(&*self.0, Holding::Sole)
    }

    /// Returns all leases, in the order of their shards.
    pub fn held(&self) -> Vec<Lease> {
        match &*self.0 {
            Holding::Sole => vec![Lease::SOLE],
            Holding::Leased { clock, held, .. } => {
                let held = held.read();
                let epochs = held.trusted(clock).into_iter().flatten();
                epochs.map(|(shard, epoch)| Lease { shard: *shard, epoch: *epoch }).collect()
            }
        }
    }

    /// Replaces the leases, which are trusted until a time. Of no effect in a store that no other collector can use.
    pub fn replace(&self, leases: impl IntoIterator<Item = Lease>, until: Instant) {
        if let Holding::Leased { held, .. } = &*self.0 {
            let epochs = leases.into_iter().map(|lease| (lease.shard, lease.epoch)).collect();
            *held.write() = HeldLeases { epochs, until: Some(until) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_tenants_shard_never_changes() {
        // SHA-256 of `contoso` begins with 11f0b04eda61baeb.
        let known = ["contoso", "fabrikam", "a", "tenant-1"].map(|tenant| shard_of(tenant, 256));
        assert_eq!(known, [235, 78, 202, 14]);
        assert_eq!(shard_of("contoso", 0), 0);
    }

    #[test]
    fn tenants_spread_over_all_shards() {
        let mut counts = vec![0; 256];
        for tenant in 0..25_600 {
            counts[usize::from(shard_of(&format!("tenant-{tenant}"), 256))] += 1;
        }
        assert!(counts.iter().all(|count| (50..200).contains(count)), "{counts:?}");
    }

    #[test]
    fn leases_are_over_when_they_were_not_renewed() {
        let (begun, seconds) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let passed = Arc::clone(&seconds);
        let clock: SteadyClock = Arc::new(move || begun + Duration::from_secs(passed.load(Ordering::SeqCst)));
        let shards = Shards::none_of(1, clock);
        assert_eq!((shards.lease_of("contoso"), shards.held()), (None, Vec::new()));
        let lease = Lease { shard: 0, epoch: 7 };
        shards.replace([lease], begun + Duration::from_secs(13));
        assert_eq!((shards.lease_of("contoso"), shards.held()), (Some(lease), vec![lease]));
        assert!(shards.holds(lease) && !shards.holds(Lease { epoch: 6, ..lease }));
        seconds.store(13, Ordering::SeqCst);
        assert_eq!((shards.lease_of("contoso"), shards.held(), shards.holds(lease)), (None, Vec::new(), false));
        shards.replace([lease], begun + Duration::from_secs(26));
        assert!(shards.holds(lease), "it was renewed");
    }
}
