//! Delivered events of sinks that keep them: both stores do the same.

use std::sync::Arc;
use std::time::Duration;

use host_harness::store::fleet::FleetStore;
use host_harness::store::shards::Lease;
use host_harness::store::sqlite::SqliteStore;
use host_harness::store::{DeliveredCount, DeliveredQuery, Keep, Partition, Store};

use super::{new_on, open, poll};
use crate::support::command;
use crate::support::postgres::Server;

fn every(since: u64) -> DeliveredQuery {
    DeliveredQuery { sink: "lake".to_owned(), since, until: u64::MAX >> 1, tenant: None, feed: None }
}

fn keep(now: u64, bytes: u64) -> Keep {
    Keep { now, span: Duration::from_secs(60), bytes }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivered_events_are_kept_within_bounds_and_come_again_before_those_that_wait() {
    let shared = new_on(Server::shared()).await;
    let folder = tempfile::tempdir().unwrap();
    let mut sqlite = SqliteStore::open(&folder.path().join("collector.db")).unwrap();
    let partition = Partition { sink: "lake".to_owned(), tenant: Some("contoso".to_owned()), feed: None };
    let count = |counts: Vec<DeliveredCount>| -> Vec<(String, u64, u64)> {
        counts.into_iter().map(|count| (count.feed, count.events, count.bytes)).collect()
    };
    // Bodies of 4 bytes. At the third time, the first ones are too old; at the fourth, there is no room for most.
    for (round, (now, bytes)) in [(1_000, 1_000), (31_000, 1_000), (61_000, 1_000), (62_000, 9)].into_iter().enumerate()
    {
        for (feed, scope) in [("prod", "one"), ("test", "two")] {
            let uids = [format!("{round}a"), format!("{round}b")];
            let uids: Vec<&str> = uids.iter().map(String::as_str).collect();
            sqlite.commit(&poll(Lease::SOLE, "contoso", feed, scope, &uids)).unwrap();
            let record = poll(shared.lease("contoso"), "contoso", feed, scope, &uids);
            shared.store.commit(Arc::new(record)).await.unwrap();
        }
        let here = sqlite.queued(&partition, &[], 3, 1_000).unwrap();
        let there = shared.store.queued(&shared.leases, &partition, Vec::new(), 3, 1_000).await.unwrap();
        let numbers: Vec<i64> = here.iter().map(|event| event.number).collect();
        sqlite.keep_delivered(&numbers, keep(now, bytes)).unwrap();
        shared.store.keep_delivered(&there, keep(now, bytes)).await.unwrap();
        let (here, there) =
            (sqlite.count_delivered(&every(0)).unwrap(), shared.store.count_delivered(&every(0)).await.unwrap());
        assert_eq!(count(there), count(here), "round {round}");
    }
    let kept = shared.store.count_delivered(&every(0)).await.unwrap();
    assert_eq!(kept.iter().map(|count| count.bytes).sum::<u64>(), 8);
    assert_eq!(shared.store.count_delivered(&every(62_001)).await.unwrap(), []);
    let waiting = shared.waiting("lake", Some("contoso"), None).await;
    // Not beside a collector, nor beside a move.
    let refused = shared.store.redeliver(&every(0), 0).await.unwrap_err().to_string();
    assert!(refused.contains("in use by machine of one"), "{refused}");
    let other = Server::shared().superuser(&shared.database).await;
    other
        .batch_execute(
            "UPDATE host_harness.collector SET heartbeat = heartbeat - interval '1 minute';
             SELECT pg_advisory_lock(hashtext('host_harness'), hashtext('move'))",
        )
        .await
        .unwrap();
    let refused = shared.store.redeliver(&every(0), 0).await.unwrap_err().to_string();
    assert!(refused.contains("another `migrate` or `redeliver` uses it"), "{refused}");
    other.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    let other = DeliveredQuery { feed: Some("other".to_owned()), ..every(0) };
    assert_eq!(shared.store.redeliver(&other, 0).await.unwrap(), None);
    let (events, last) = shared.store.redeliver(&every(0), 0).await.unwrap().unwrap();
    assert_eq!((sqlite.redeliver(&every(0), 0).unwrap().unwrap().0, events), (2, 2));
    assert_eq!(shared.store.redeliver(&every(0), last).await.unwrap(), None);
    let here: Vec<String> =
        sqlite.queued(&partition, &[], 99, 9_999).unwrap().into_iter().map(|event| event.uid).collect();
    let there = shared.waiting("lake", Some("contoso"), None).await;
    assert_eq!(there, here);
    assert_eq!(there[2..], waiting[..], "they come before those that wait");
    // Whose lease is over keeps nothing, and the pruning forgets all.
    let queued = shared.store.queued(&shared.leases, &partition, Vec::new(), 99, 9_999).await.unwrap();
    shared.store.keep_delivered(&queued[..1], keep(63_000, 1_000)).await.unwrap();
    FleetStore::give_back(&*shared.store, &super::member("one").id, &shared.leases).await.unwrap();
    shared.store.keep_delivered(&queued[1..], keep(63_000, 1_000)).await.unwrap();
    assert_eq!(shared.store.count_delivered(&every(0)).await.unwrap()[0].events, 1);
    shared.store.prune(0, 200_000).await.unwrap();
    assert_eq!(shared.store.count_delivered(&every(0)).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redeliver_puts_events_back_into_a_database_that_no_collector_uses() {
    let shared = new_on(Server::shared()).await;
    let lease = shared.lease("contoso");
    shared.store.commit(Arc::new(poll(lease, "contoso", "prod", "one", &["a", "b", "c"]))).await.unwrap();
    let partition = Partition { sink: "lake".to_owned(), tenant: None, feed: None };
    let queued = shared.store.queued(&shared.leases, &partition, Vec::new(), 2, 999).await.unwrap();
    let now = crate::support::now()();
    shared.store.keep_delivered(&queued, keep(now, 999)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("collector.toml");
    let text = format!(
        "[collector]\nstate = \"{}\"\n[[sink]]\nid = \"lake\"\ntype = \"file\"\npath = \"out.ndjson\"\n\
         [[feed]]\nid = \"prod\"\ntenant = \"contoso\"\nplugin = \"azure-secure-score\"\n[feed.settings]\n",
        shared.url
    );
    std::fs::write(&config, text).unwrap();
    let redeliver = || {
        let output = command()
            .args(["redeliver", config.to_str().unwrap(), "--sink", "lake", "--since", "1h"])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, said) = redeliver();
    assert_eq!(status, Some(1));
    assert!(said.contains("stop `run`") && said.contains("in use by machine of one"), "{said}");
    FleetStore::leave(&*shared.store, &super::member("one").id).await.unwrap();
    let (status, said) = redeliver();
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("2 events of 6 bytes wait for the sink lake"), "{said}");
    assert_eq!(redeliver().0, Some(1), "there are no more");
    let store = open(&shared.url).await.unwrap();
    let leases = super::all(&store, "two").await;
    let uids: Vec<String> = store
        .queued(&leases, &partition, Vec::new(), 9, 999)
        .await
        .unwrap()
        .into_iter()
        .map(|event| event.uid)
        .collect();
    assert_eq!(uids, ["a", "b", "c"]);
}
