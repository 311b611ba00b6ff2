//! The operations of the store: each is done on SQLite's store too, and both say the same.

use std::sync::Arc;

use host_harness::limits;
use host_harness::store::budget::Budgets;
use host_harness::store::fleet::{FleetStore, MemberId};
use host_harness::store::reading::StoreReader;
use host_harness::store::shards::Lease;
use host_harness::store::sqlite::reading::SqliteReader;
use host_harness::store::sqlite::{SqliteHandle, SqliteStore};
use host_harness::store::{FeedRow, Partition, PollRecord, Polling, SharedStore, Store, StoreErrorKind, Throttle};
use source_host::contract::Measure;
use source_host::digest::ShortDigest;
use source_host::limits::milliseconds;

use super::{Shared, all, new_on, open, poll};
use crate::support::Dice;
use crate::support::postgres::Server;

const TENANTS: [&str; 3] = ["contoso", "fabrikam", "adatum"];

fn measure(subject: &str, kind: &str, value: f64) -> Measure {
    let (kind, subject, title) = (kind.to_owned(), subject.to_owned(), format!("Title of {subject}"));
    Measure { kind, subject, title, value, maximum: 10.0, weight: 1.0 }
}

/// Does each operation once.
pub async fn everything(shared: &Shared) {
    let (store, lease) = (&shared.store, shared.lease("contoso"));
    let mut record = poll(lease, "contoso", "prod", "one", &["a", "b"]);
    record.measures = vec![measure("whole", "score", 5.0), measure("part", "control", 1.0)];
    let throttle = Throttle { credential: ShortDigest::of("c"), origin: "https://o.example".to_owned(), until: 9_000 };
    record.throttle = Some(throttle.clone());
    store.commit(Arc::new(record.clone())).await.unwrap();
    store.keep_throttle(throttle.clone()).await.unwrap();
    assert_eq!(store.throttles(8_999).await.unwrap(), [throttle]);
    assert_eq!(store.throttles(9_000).await.unwrap(), []);
    let feed =
        FeedRow { feed: "prod".to_owned(), searched_with: ShortDigest::of("s"), configured_as: ShortDigest::of("c") };
    store.keep_feed(lease, feed.clone()).await.unwrap();
    store.keep_feed(lease, feed.clone()).await.unwrap();
    assert_eq!(store.feeds(&shared.leases).await.unwrap(), [feed]);
    assert_eq!(store.scopes(&shared.leases).await.unwrap(), [record.row.clone()]);
    assert_eq!(store.state("contoso", "prod", "one").await.unwrap().as_deref(), Some(&b"state"[..]));
    assert_eq!(store.state("fabrikam", "prod", "one").await.unwrap(), None);
    assert_eq!(shared.waiting("lake", None, None).await, ["a", "b"]);
    let partition = Partition { sink: "lake".to_owned(), tenant: None, feed: None };
    let first = store.queued(&shared.leases, &partition, Vec::new(), 1, 1).await.unwrap();
    store.acknowledge(&first).await.unwrap();
    assert_eq!(shared.waiting("lake", Some("contoso"), None).await, ["b"]);
    assert_eq!(shared.waiting("lake", None, Some("prod")).await, ["b"]);
    assert_eq!(shared.waiting("lake", Some("contoso"), Some("prod")).await, ["b"]);
    assert_eq!(store.backlog(&shared.leases).await.unwrap()[0].events, 1);
    let kept = store.kept(&shared.leases).await.unwrap();
    assert!(kept[0].bytes > 100 && kept.len() == 1, "{kept:?}");
    store.prune(2_000, 9_001).await.unwrap();
    record.row.standing.watch = Polling::Unasked;
    store.keep_scopes(lease, vec![record.row]).await.unwrap();
    store.forget_scopes(lease, "prod", vec!["one".to_owned()]).await.unwrap();
    assert_eq!(store.scopes(&shared.leases).await.unwrap(), []);
    assert_eq!(store.kept(&shared.leases).await.unwrap()[0].bytes, 0);
    let fleet = store.renew(&super::member("two")).await.unwrap();
    assert_eq!((fleet.members.len(), fleet.shards.len()), (2, 256));
    store.give_back(&MemberId("one".to_owned()), &shared.leases[..1]).await.unwrap();
    store.leave(&MemberId("two".to_owned())).await.unwrap();
}

#[tokio::test]
async fn everything_that_a_store_does_works() {
    everything(&new_on(Server::shared()).await).await;
}

#[tokio::test]
async fn a_collector_whose_clock_is_ahead_prunes_nothing_that_is_young() {
    let shared = new_on(Server::shared()).await;
    let (store, now) = (&shared.store, crate::support::now()());
    let mut record = poll(shared.lease("contoso"), "contoso", "prod", "one", &["a"]);
    for (time, value) in [(now - 2_000, 5.0), (now - 1_000, 6.0)] {
        (record.time, record.measures) = (time, vec![measure("whole", "score", value)]);
        store.commit(Arc::new(record.clone())).await.unwrap();
    }
    let origin = "https://o.example".to_owned();
    store.keep_throttle(Throttle { credential: ShortDigest::of("c"), origin, until: now + 600_000 }).await.unwrap();
    let before = store.kept(&shared.leases).await.unwrap();
    let (history, ahead) = (milliseconds(limits::HISTORY), now + 2 * milliseconds(limits::HISTORY));
    store.prune(ahead - history, ahead).await.unwrap();
    assert_eq!(store.kept(&shared.leases).await.unwrap(), before);
    assert_eq!(store.throttles(now).await.unwrap().len(), 1);
    store.prune(now - 500, now).await.unwrap();
    assert_ne!(store.kept(&shared.leases).await.unwrap(), before);
}

/// Everything that a store tells, as text. Times of the store's own and numbers are left out.
async fn told(store: &SharedStore, leases: &[Lease], reader: &dyn StoreReader) -> String {
    let mut text = String::new();
    let mut scopes = store.scopes(leases).await.unwrap();
    scopes.sort_by(|one, other| (&one.feed, &one.scope.id).cmp(&(&other.feed, &other.scope.id)));
    for row in &scopes {
        let state = store.state(&row.tenant, &row.feed, &row.scope.id).await.unwrap();
        let (figure, parts) = tokio::task::block_in_place(|| {
            let (feed, scope) = (&row.feed, &row.scope.id);
            (reader.figure(feed, scope, 3_000).unwrap(), reader.parts(feed, scope, 0).unwrap())
        });
        text += &format!("{row:?}\n  {state:?}\n  {figure:?}\n  {parts:?}\n");
    }
    let kept = store.kept(leases).await.unwrap();
    let kept = kept.iter().filter(|kept| kept.bytes > 0).collect::<Vec<_>>();
    text += &format!("{kept:?}\n{:?}\n", store.backlog(leases).await.unwrap());
    for (tenant, feed) in
        [(None, None), (Some("contoso"), None), (None, Some("feed-1")), (Some("adatum"), Some("feed-2"))]
    {
        let partition =
            Partition { sink: "lake".to_owned(), tenant: tenant.map(str::to_owned), feed: feed.map(str::to_owned) };
        let without = vec!["fabrikam".to_owned()];
        let queued = store.queued(leases, &partition, without, 7, 300).await.unwrap();
        // The order of different tenants' events is not promised.
        let mut uids: Vec<_> =
            queued.iter().map(|event| (&event.tenant, event.number, &event.uid, &event.body)).collect();
        uids.sort();
        if tenant.is_some() || feed.is_some() {
            text +=
                &format!("{:?}\n", uids.iter().map(|(tenant, _, uid, body)| (tenant, uid, body)).collect::<Vec<_>>());
        }
    }
    text
}

/// Random operations, the same on both stores.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_stores_say_the_same_after_any_operations() {
    let shared = new_on(Server::shared()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("collector.db");
    let sqlite: SharedStore = Arc::new(SqliteHandle::start(SqliteStore::open(&file).unwrap()).unwrap());
    let postgres: SharedStore = shared.store.clone();
    let sqlite_reader = SqliteReader::open(&file).unwrap();
    let postgres_reader = tokio::task::block_in_place(|| postgres.reader().unwrap());
    let seed = 7;
    let mut dice = Dice::new(seed);
    for step in 0..150_u64 {
        let tenant = dice.roll(3) as usize;
        let (tenant, feed) = (TENANTS[tenant], format!("feed-{tenant}"));
        let scope = format!("scope-{}", dice.roll(3));
        let kind = dice.roll(10);
        let lease = shared.lease(tenant);
        let uids: Vec<String> = (0..dice.roll(4)).map(|number| format!("{step}-{number}")).collect();
        let uids: Vec<&str> = uids.iter().map(String::as_str).collect();
        let mut record = poll(lease, tenant, &feed, &scope, &uids);
        record.row.standing.due = dice.roll(1 << 40);
        // Now and then the clock stands still, or goes back.
        record.time = 1_000 + step * 100 - dice.roll(3) * 100 * dice.roll(2);
        record.state = (dice.roll(2) == 0).then(|| vec![step as u8; dice.roll(3_000) as usize]);
        record.measures = vec![measure("whole", "score", dice.roll(3) as f64)];
        record
            .measures
            .extend((0..dice.roll(4)).map(|number| measure(&format!("part-{number}"), "control", dice.roll(3) as f64)));
        if dice.roll(8) == 0 {
            record.measures.push(measure("part-0", "control", f64::NAN));
            record.measures.push(measure("part-1", "control", 7.0));
        }
        if dice.roll(6) == 0 {
            record.sinks.push("siem".to_owned());
        }
        record.budgets = Budgets { feed_bytes: 9_000, tenant_bytes: 20_000, ..Budgets::default() };
        let mut answers = Vec::new();
        for (store, lease) in [(&sqlite, Lease::SOLE), (&postgres, lease)] {
            let record = PollRecord { lease, ..record.clone() };
            answers.push(match kind {
                0 => {
                    let mut row = record.row;
                    row.standing.watch = Polling::Lost;
                    format!("{:?}", store.keep_scopes(lease, vec![row]).await)
                }
                1 => format!("{:?}", store.forget_scopes(lease, &feed, vec![scope.clone(), "none".to_owned()]).await),
                2 => format!("{:?}", store.prune(record.time.saturating_sub(2_000), record.time).await),
                3 => {
                    let leases = if lease == Lease::SOLE { vec![lease] } else { shared.leases.clone() };
                    let partition = Partition { sink: "lake".to_owned(), tenant: Some(tenant.to_owned()), feed: None };
                    let queued = store.queued(&leases, &partition, Vec::new(), 3, 1_000).await.unwrap();
                    store.acknowledge(&queued).await.unwrap();
                    format!("{:?}", queued.iter().map(|event| (&event.uid, &event.body)).collect::<Vec<_>>())
                }
                _ => match store.commit(Arc::new(record)).await {
                    Ok(bytes) => format!("{bytes:?}"),
                    Err(error) => format!("{:?}", error.what),
                },
            });
        }
        assert_eq!(answers[0], answers[1], "step {step} of seed {seed}");
        if step % 10 == 9 {
            let (one, other) = (
                told(&sqlite, &[Lease::SOLE], &sqlite_reader).await,
                told(&postgres, &shared.leases, &*postgres_reader).await,
            );
            similar_asserts(&one, &other, step);
        }
    }
}

fn similar_asserts(one: &str, other: &str, step: u64) {
    for (one, other) in one.lines().zip(other.lines()) {
        assert_eq!(one, other, "step {step}: SQLite's store and PostgreSQL's");
    }
    assert_eq!(one, other);
}

#[tokio::test]
async fn a_write_under_a_lease_that_is_over_writes_nothing() {
    let shared = new_on(Server::shared()).await;
    let lease = shared.lease("contoso");
    shared.store.commit(Arc::new(poll(lease, "contoso", "prod", "one", &["a"]))).await.unwrap();
    let other = open(&shared.url).await.unwrap();
    assert_eq!(all(&other, "two").await, [], "a living collector holds them");
    let later = all(&other, "one").await;
    assert_eq!(later.len(), 256);
    let after = later.iter().find(|later| later.shard == lease.shard).unwrap();
    assert_eq!(after.epoch, lease.epoch + 1);
    let store = &shared.store;
    let fenced = Err(StoreErrorKind::Fenced { shard: lease.shard });
    let kind = |result: Result<(), host_harness::store::StoreError>| result.map_err(|error| error.what);
    let row = poll(lease, "contoso", "prod", "two", &[]).row;
    let feed = FeedRow { feed: "prod".to_owned(), ..FeedRow::default() };
    assert_eq!(kind(store.commit(Arc::new(poll(lease, "contoso", "prod", "one", &["b"]))).await.map(drop)), fenced);
    assert_eq!(kind(store.keep_scopes(lease, vec![row]).await), fenced);
    assert_eq!(kind(store.forget_scopes(lease, "prod", vec!["one".to_owned()]).await), fenced);
    assert_eq!(kind(store.keep_feed(lease, feed).await), fenced);
    let partition = Partition { sink: "lake".to_owned(), tenant: None, feed: None };
    let queued = store.queued(&shared.leases, &partition, Vec::new(), 9, 999).await.unwrap();
    store.acknowledge(&queued).await.unwrap();
    assert_eq!(shared.waiting("lake", None, None).await, ["a"], "the new holder delivers it");
    assert_eq!(other.scopes(&later).await.unwrap().len(), 1);
    other.give_back(&MemberId("one".to_owned()), &later).await.unwrap();
    let given = other.commit(Arc::new(poll(*after, "contoso", "prod", "one", &["b"]))).await;
    assert_eq!(kind(given.map(drop)), fenced, "it was given back");
}

#[tokio::test]
async fn polls_that_end_together_are_committed_together_each_by_its_own_lease() {
    let shared = new_on(Server::shared()).await;
    let old = Lease { epoch: 99, ..shared.lease("contoso") };
    let commits = (0..40).map(|number| {
        let (tenant, scope) = (TENANTS[number % 3], format!("scope-{}", number / 2));
        let lease = if number == 6 { old } else { shared.lease(tenant) };
        shared.store.commit(Arc::new(poll(lease, tenant, tenant, &scope, &[&number.to_string()])))
    });
    let results = futures_util::future::join_all(commits).await;
    let failed: Vec<usize> = (0..40).filter(|number| results[*number].is_err()).collect();
    assert_eq!(failed, [6]);
    let superuser = Server::shared().superuser(&shared.database).await;
    let row = superuser.query_one("SELECT commits FROM host_harness.writer", &[]).await.unwrap();
    assert!(row.get::<_, i64>(0) < 10, "{} transactions", row.get::<_, i64>(0));
    assert_eq!(shared.waiting("lake", Some("contoso"), None).await.len(), 13);
}

#[tokio::test]
async fn a_poll_that_the_server_refuses_keeps_no_other_from_it() {
    let shared = new_on(Server::shared()).await;
    let lease = shared.lease("contoso");
    let mut bad = poll(lease, "contoso", "prod", "bad", &["bad"]);
    bad.measures = vec![measure("a\0b", "score", 1.0)];
    let good = |scope: &str| shared.store.commit(Arc::new(poll(lease, "contoso", "prod", scope, &[scope])));
    let results = tokio::join!(good("one"), shared.store.commit(Arc::new(bad)), good("two"));
    assert!(results.0.is_ok() && results.2.is_ok());
    assert!(matches!(results.1.unwrap_err().what, StoreErrorKind::Other(_)));
    assert_eq!(shared.waiting("lake", None, None).await, ["one", "two"]);
}
