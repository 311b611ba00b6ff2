//! The collectors that share a store: each has a row, which it renews, and leases shards.

use std::time::Duration;

use async_trait::async_trait;
use source_host::digest::ShortDigest;

use super::StoreResult;
use super::shards::Lease;
use crate::limits;

/// Identifies a collector from its start to its end. Random.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(pub String);

/// A collector, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetMember {
    /// Its id.
    pub id: MemberId,
    /// Its name for people: of its machine, or a configured one.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Digest of its configuration, which is the same for all if all have the same configuration.
    pub configuration: ShortDigest,
    /// Address of its status page, if it has one.
    pub listen: Option<String>,
    /// The work that it knows of in each shard; empty if it polls once, and takes no part of the work of the others.
    pub work: Vec<ShardWork>,
}

impl FleetMember {
    /// Says whether the collector shares the work with others.
    pub fn shares(&self) -> bool {
        !self.work.is_empty()
    }

    /// Digest of the configuration of a collector that shares the work; `None` until the collector has told it.
    pub fn told_configuration(&self) -> Option<ShortDigest> {
        (self.shares() && self.configuration != ShortDigest::default()).then_some(self.configuration)
    }
}

/// The work in a shard, as far as one collector knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardWork {
    /// Number of configured feeds of its tenants.
    pub feeds: u32,
    /// Polls an hour.
    pub polls: u32,
    /// Digest of the ids of these feeds, which is the same for collectors that know the same; 0 without feeds.
    pub known: u64,
}

/// A collector, as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenMember {
    /// Its description.
    pub member: FleetMember,
    /// When it began, in Unix milliseconds of the store's clock.
    pub started: u64,
    /// The time since its last renewal, by the store's clock.
    pub silent: Duration,
}

impl SeenMember {
    /// Says whether the collector may hold leases.
    pub fn is_alive(&self) -> bool {
        self.silent < limits::LEASE
    }
}

/// A shard and its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenShard {
    /// The number of the shard, and how often it was taken.
    pub lease: Lease,
    /// The collector that took it last; `None` if that gave it back.
    pub holder: Option<MemberId>,
    /// When it was taken or given back, in Unix milliseconds of the store's clock.
    pub since: u64,
}

/// The collectors that share a store, and its shards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fleet {
    /// The time of the store's clock, in Unix milliseconds.
    pub now: u64,
    /// All collectors that did not leave; a dead one stays until it was silent for [`limits::MEMBER_KEPT`].
    pub members: Vec<SeenMember>,
    /// All shards, in the order of their numbers.
    pub shards: Vec<SeenShard>,
}

/// The rows of a store by which its collectors share the work. All times are of the store's clock, so that the clocks of
/// collectors may differ. A collector is alive if it was silent for less than [`limits::LEASE`].
#[async_trait]
pub trait FleetStore: Send + Sync {
    /// The number of shards, which never changes.
    fn shards(&self) -> u16;
    /// Renews the row of a collector, or makes it, and returns the fleet afterwards.
    async fn renew(&self, member: &FleetMember) -> StoreResult<Fleet>;
    /// Takes those of these shards that no other living collector holds, each with its next epoch. Waits for
    /// transactions that write under earlier leases of the shards.
    async fn take(&self, member: &MemberId, shards: &[u16]) -> StoreResult<Vec<Lease>>;
    /// Gives back those of these leases that the collector still holds.
    async fn give_back(&self, member: &MemberId, leases: &[Lease]) -> StoreResult<()>;
    /// Gives back all leases of a collector, and removes its row.
    async fn leave(&self, member: &MemberId) -> StoreResult<()>;
}
