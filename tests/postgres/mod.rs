//! The store in PostgreSQL, on a real server: its tables, its operations beside those of SQLite's store, and its faults.

mod commands;
mod delivered;
// Release builds have no failpoints.
#[cfg(debug_assertions)]
mod moves;
mod operations;
mod outages;
mod plans;
mod tables;

use std::sync::Arc;

use host_harness::store::budget::Budgets;
use host_harness::store::fleet::{FleetMember, FleetStore, MemberId};
use host_harness::store::postgres::PostgresStore;
use host_harness::store::postgres::address;
use host_harness::store::shards::{Lease, shard_of};
use host_harness::store::{NewEvent, Partition, PollRecord, ScopeRow, Standing, Store, StoreError};
use source_host::contract::Scope;
use source_host::digest::ShortDigest;

use crate::support::postgres::Server;

/// A store in a database of its own, and the leases of all its shards.
pub struct Shared {
    pub store: Arc<PostgresStore>,
    pub leases: Vec<Lease>,
    url: String,
    database: String,
}

async fn open(url: &str) -> Result<PostgresStore, StoreError> {
    PostgresStore::open(address::parse(url).unwrap()).await
}

/// Opens a store in a new database of a server, and takes all shards.
pub async fn new_on(server: &Server) -> Shared {
    let database = server.database().await;
    let url = server.url(&database, &database);
    let store = Arc::new(open(&url).await.unwrap());
    let leases = all(&store, "one").await;
    Shared { store, leases, url, database }
}

fn member(id: &str) -> FleetMember {
    let configuration = ShortDigest::of("configuration");
    let (id, name) = (MemberId(id.to_owned()), format!("machine of {id}"));
    FleetMember { id, name, version: "1.0.0".to_owned(), configuration, listen: None, work: Vec::new() }
}

/// Lets a collector take all shards that it can.
async fn all(store: &PostgresStore, id: &str) -> Vec<Lease> {
    store.renew(&member(id)).await.unwrap();
    let shards: Vec<u16> = (0..FleetStore::shards(store)).collect();
    store.take(&MemberId(id.to_owned()), &shards).await.unwrap()
}

impl Shared {
    fn lease(&self, tenant: &str) -> Lease {
        let shard = shard_of(tenant, FleetStore::shards(&*self.store));
        *self.leases.iter().find(|lease| lease.shard == shard).unwrap()
    }

    async fn waiting(&self, sink: &str, tenant: Option<&str>, feed: Option<&str>) -> Vec<String> {
        let partition =
            Partition { sink: sink.to_owned(), tenant: tenant.map(str::to_owned), feed: feed.map(str::to_owned) };
        let queued = self.store.queued(&self.leases, &partition, Vec::new(), 1_000, 1 << 20).await.unwrap();
        queued.into_iter().map(|event| event.uid).collect()
    }
}

/// Makes the result of a scope's poll, with an event for each uid.
fn poll(lease: Lease, tenant: &str, feed: &str, scope: &str, uids: &[&str]) -> PollRecord {
    let scope = Scope { id: scope.to_owned(), name: None, owner: None, plugin_data: String::new() };
    let event = |uid: &&str| NewEvent { uid: (*uid).to_owned(), time: 1_500, body: format!("{{{uid}}}").into_bytes() };
    PollRecord {
        lease,
        row: ScopeRow { feed: feed.to_owned(), tenant: tenant.to_owned(), scope, standing: Standing::default() },
        state: Some(b"state".to_vec()),
        time: 1_000,
        measures: Vec::new(),
        events: uids.iter().map(event).collect(),
        sinks: vec!["lake".to_owned()],
        throttle: None,
        budgets: Budgets::default(),
    }
}
