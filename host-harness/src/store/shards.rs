//! The shards of a store: tenants fall into shards by their names, and a collector works on the tenants of those shards
//! that it has leased.

use std::sync::Arc;

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

/// The leases that this process holds. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shards(Arc<[Lease]>);

impl Shards {
    /// All tenants, in a store that no other collector can use.
    pub fn sole() -> Shards {
        Shards([Lease::SOLE].into())
    }

    /// Returns the lease of a tenant's shard; `None` if another collector may work on the tenant.
    pub fn lease_of(&self, _tenant: &str) -> Option<Lease> {
        self.0.first().copied()
    }

    /// Returns all leases.
    pub fn held(&self) -> Vec<Lease> {
        self.0.to_vec()
    }
}
