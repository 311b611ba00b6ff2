//! The plans by which a server runs the statements of the store.

use std::sync::Arc;
use std::time::Duration;

use host_harness::store::{Keep, Partition, Polling, SharedStore};
use source_host::contract::Measure;

use super::{new_on, poll};
use crate::support::postgres::Server;

/// The plans of every statement, as the server ran them over many rows, read no table from end to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_scans_a_table_that_grows() {
    let scanned = scans("").await;
    assert!(scanned.is_empty(), "{scanned:?}");
}

/// The test above can tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_indexes_the_tables_are_scanned() {
    let scanned = scans("DROP INDEX scope_shard, outbox_shard, kept_shard, delivered_until").await;
    for table in ["scope", "outbox", "kept", "delivered"] {
        let scan = format!("Seq Scan on {table} ");
        assert!(scanned.iter().any(|line| line.contains(&scan)), "{table}: {scanned:?}");
    }
}

/// Does every operation over many rows, after a statement. Returns the lines of the server's plans in which a table that
/// grows is read from end to end.
async fn scans(before: &str) -> Vec<String> {
    let server = Server::start(
        "fsync = off\nsession_preload_libraries = 'auto_explain'\nauto_explain.log_min_duration = 0\nautovacuum = off\n",
    );
    let shared = new_on(&server).await;
    let superuser = server.superuser(&shared.database).await;
    let scope = serde_json::to_string(&poll(shared.leases[0], "t", "f", "s", &[]).row.scope).unwrap();
    superuser
        .batch_execute(
            &"SET search_path = host_harness; SET auto_explain.log_min_duration = -1;
             INSERT INTO scope (feed, scope, tenant, shard, discovered, standing, written)
                 SELECT 'feed' || n % 500, 's' || n, 't' || n % 500, n % 256, '{scope}', '{}', 1 FROM generate_series(1, 50000) n;
             INSERT INTO state SELECT number, 'state' FROM scope;
             INSERT INTO figure SELECT number, 'subject' || n, 1, 'kind', 'title', 1, 1, 1 FROM scope, generate_series(1, 3) n;
             INSERT INTO history SELECT shard, number, 'subject' || n, t, 'kind', 'title', 1, 1, 1
                 FROM scope, generate_series(1, 3) n, generate_series(1, 2) t;
             INSERT INTO outbox (shard, sink, tenant, feed, scope, uid, time, body)
                 SELECT n % 256, 'sink' || n % 3, 't' || n % 500, 'feed' || n % 500, 's', 'u', 1, 'body'
                 FROM generate_series(1, 50000) n;
             INSERT INTO delivered (number, shard, sink, tenant, feed, scope, uid, time, body, delivered, until)
                 SELECT -n, n % 256, 'sink' || n % 3, 't' || n % 500, 'feed' || n % 500, 's', 'u', 1, 'body', 1, 1 << 30
                 FROM generate_series(1, 50000) n;
             INSERT INTO delivered_bytes SELECT sink, tenant, sum(length(body)) FROM delivered GROUP BY sink, tenant;
             INSERT INTO kept SELECT 't' || n, 'feed' || n, n % 256, 1 FROM generate_series(1, 5000) n;
             INSERT INTO feed SELECT n % 256, 'feed' || n, repeat('0', 32), repeat('0', 32) FROM generate_series(1, 5000) n;
             INSERT INTO throttle SELECT 'c' || n, 'o', 1 FROM generate_series(1, 5000) n;
             ANALYZE; {before}"
                .replace("{scope}", &scope)
                .replace("{before}", before),
        )
        .await
        .unwrap();
    let begin = std::fs::read_to_string(server.folder.join("log")).unwrap().len();
    let store: SharedStore = shared.store.clone();
    // Often enough for the plans that serve any parameters.
    for number in 0..8 {
        for tenant in ["contoso", "fabrikam", "adatum"] {
            let lease = shared.lease(tenant);
            let mut record = poll(lease, tenant, tenant, &format!("scope-{}", number / 2), &["a", "b"]);
            record.measures = vec![Measure {
                kind: "kind".to_owned(),
                subject: "subject".to_owned(),
                title: String::new(),
                value: f64::from(number),
                maximum: 1.0,
                weight: 1.0,
            }];
            record.time = 1_000 - number as u64;
            store.commit(Arc::new(record.clone())).await.unwrap();
            store.state(tenant, tenant, "scope-0").await.unwrap();
            let mut row = record.row;
            row.standing.watch = Polling::Lost;
            store.keep_scopes(lease, vec![row]).await.unwrap();
            store.forget_scopes(lease, tenant, vec!["scope-0".to_owned()]).await.unwrap();
            for (tenant, feed) in
                [(None, None), (Some(tenant), None), (None, Some(tenant)), (Some(tenant), Some(tenant))]
            {
                let partition = Partition {
                    sink: "lake".to_owned(),
                    tenant: tenant.map(str::to_owned),
                    feed: feed.map(str::to_owned),
                };
                let queued = store.queued(&shared.leases[..80], &partition, Vec::new(), 3, 1 << 20).await.unwrap();
                let (first, rest) = queued.split_at(queued.len().min(1));
                store.acknowledge(first).await.unwrap();
                let keep = Keep { now: 1_000, span: Duration::from_secs(60), bytes: 6 };
                store.keep_delivered(rest, keep).await.unwrap();
            }
            store.kept(&shared.leases[..3]).await.unwrap();
            store.scopes(&shared.leases[..3]).await.unwrap();
            store.backlog(&shared.leases[..3]).await.unwrap();
            store.feeds(&shared.leases[..3]).await.unwrap();
        }
    }
    tokio::task::block_in_place(|| {
        let reader = store.reader().unwrap();
        reader.figure("adatum", "scope-1", 0).unwrap();
        reader.parts("adatum", "scope-1", 0).unwrap();
    });
    let log = std::fs::read_to_string(server.folder.join("log")).unwrap().split_off(begin);
    let growing = ["scope", "state", "figure", "history", "outbox", "kept", "feed", "delivered"];
    let scans = |line: &&str| {
        let table = line.split_once("Seq Scan on ").map(|(_, rest)| rest.split_whitespace().next().unwrap_or_default());
        table.is_some_and(|table| growing.iter().any(|growing| table.starts_with(growing)))
    };
    assert!(log.matches("Query Text").count() > 200, "the server tells its plans");
    log.lines().filter(scans).map(str::to_owned).collect()
}
