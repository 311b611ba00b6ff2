//! The content of a store, its access rights, and its messages about a file that it cannot use.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host_harness::limits;
use host_harness::store::budget::{Budgets, StoredBytes};
use host_harness::store::shards::{Lease, shard_of};
use host_harness::store::sqlite::{SqliteHandle, SqliteStore, for_tests};
use host_harness::store::{
    Backlog, NewEvent, Partition, PollRecord, Queued, ScopeRow, SharedStore, Standing, Store, StoreErrorKind,
    StoreResult, Throttle,
};
use rusqlite::{Connection, OpenFlags};
use source_host::contract::{Measure, Scope};
use source_host::digest::ShortDigest;
use tempfile::TempDir;

use crate::postgres::new_on;
use crate::support::postgres::Server;

/// Makes the result of a scope's poll for these sinks, with an event for each body.
fn poll(tenant: &str, feed: &str, scope: &str, sinks: &[&str], events: &[(&str, &str)]) -> PollRecord {
    let scope = Scope { id: scope.to_owned(), name: None, owner: None, plugin_data: String::new() };
    let event =
        |(uid, body): &(&str, &str)| NewEvent { uid: (*uid).to_owned(), time: 1_500, body: body.as_bytes().to_vec() };
    PollRecord {
        lease: Lease::SOLE,
        row: ScopeRow { feed: feed.to_owned(), tenant: tenant.to_owned(), scope, standing: Standing::default() },
        state: Some(b"state".to_vec()),
        time: 1_000,
        measures: Vec::new(),
        events: events.iter().map(event).collect(),
        sinks: sinks.iter().map(|sink| (*sink).to_owned()).collect(),
        throttle: None,
        budgets: Budgets::default(),
    }
}

fn partition(sink: &str, tenant: Option<&str>, feed: Option<&str>) -> Partition {
    Partition { sink: sink.to_owned(), tenant: tenant.map(str::to_owned), feed: feed.map(str::to_owned) }
}

/// A store of either kind, and the leases of all its shards.
struct Either {
    store: SharedStore,
    leases: Vec<Lease>,
}

/// Makes an empty store of each kind.
async fn both() -> [Either; 2] {
    let sqlite: SharedStore = Arc::new(SqliteHandle::start(for_tests::in_memory().unwrap()).unwrap());
    let postgres = new_on(Server::shared()).await;
    [Either { store: sqlite, leases: vec![Lease::SOLE] }, Either { store: postgres.store, leases: postgres.leases }]
}

impl Either {
    async fn commit(&self, record: &PollRecord) -> StoreResult<StoredBytes> {
        let shard = shard_of(&record.row.tenant, self.leases.len() as u16);
        let lease = *self.leases.iter().find(|lease| lease.shard == shard).unwrap();
        self.store.commit(Arc::new(PollRecord { lease, ..record.clone() })).await
    }

    async fn queued(
        &self,
        partition: &Partition,
        without: &[String],
        events: usize,
        bytes: usize,
    ) -> StoreResult<Vec<Queued>> {
        self.store.queued(&self.leases, partition, without.to_vec(), events, bytes).await
    }

    /// Returns the uids of the events that wait in a partition.
    async fn waiting(&self, partition: &Partition) -> Vec<String> {
        let queued = self.queued(partition, &[], limits::BATCH_EVENTS, limits::BATCH_BYTES).await.unwrap();
        queued.into_iter().map(|event| event.uid).collect()
    }
}

/// Returns the uids of the events that wait in a partition.
fn waiting(store: &mut SqliteStore, partition: &Partition) -> Vec<String> {
    let queued = store.queued(partition, &[], limits::BATCH_EVENTS, limits::BATCH_BYTES).unwrap();
    queued.into_iter().map(|event| event.uid).collect()
}

/// Returns a folder and the path of a store in it.
fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("collector.db");
    (folder, file)
}

/// Makes a store of three hundred events, and closes it.
fn filled(file: &Path) {
    let mut store = SqliteStore::open(file).unwrap();
    let body = "x".repeat(1_000);
    let uids: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    let events: Vec<(&str, &str)> = uids.iter().map(|uid| (uid.as_str(), body.as_str())).collect();
    store.commit(&poll("contoso", "prod", "one", &["lake"], &events)).unwrap();
}

/// Returns the reason why a file cannot be opened, and the message for the operator.
fn refused(file: &Path) -> (StoreErrorKind, String) {
    match SqliteStore::open(file) {
        Ok(_) => panic!("{} was opened", file.display()),
        Err(error) => (error.what.clone(), error.to_string()),
    }
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let (_folder, file) = place();
    let record = poll("contoso", "prod", "one", &["lake", "siem"], &[("a", "{1}"), ("b", "{2}")]);
    let salt = {
        let mut store = SqliteStore::open(&file).unwrap();
        store.commit(&record).unwrap();
        store.salt().unwrap()
    };
    let mut store = SqliteStore::open(&file).unwrap();
    assert_eq!(store.salt().unwrap(), salt);
    assert_eq!(store.scopes().unwrap(), [record.row]);
    assert_eq!(store.state("contoso", "prod", "one").unwrap().as_deref(), Some(&b"state"[..]));
    for sink in ["lake", "siem"] {
        assert_eq!(waiting(&mut store, &partition(sink, None, None)), ["a", "b"]);
    }
    let row = |sink: &str| Backlog {
        sink: sink.to_owned(),
        tenant: "contoso".to_owned(),
        feed: "prod".to_owned(),
        events: 2,
        bytes: 6,
        oldest: 1_500,
    };
    assert_eq!(store.backlog().unwrap(), [row("lake"), row("siem")]);
}

#[tokio::test]
async fn a_store_that_was_closed_is_free_at_once_whoever_still_holds_it() {
    let (_folder, file) = place();
    for _ in 0..20 {
        let held = Arc::new(SqliteHandle::start(SqliteStore::open(&file).unwrap()).unwrap());
        let other = Arc::clone(&held);
        held.commit(Arc::new(poll("contoso", "prod", "one", &["lake"], &[]))).await.unwrap();
        held.close().await.unwrap();
        assert!(!file.with_extension("db-wal").exists());
        assert_eq!(other.salt().await.unwrap_err().what, StoreErrorKind::Stopped);
    }
}

#[tokio::test]
async fn a_poll_without_a_state_keeps_the_one_that_there_is() {
    for store in both().await {
        store.commit(&poll("contoso", "prod", "one", &[], &[])).await.unwrap();
        let without = PollRecord { state: None, ..poll("contoso", "prod", "one", &[], &[]) };
        store.commit(&without).await.unwrap();
        assert_eq!(store.store.state("contoso", "prod", "one").await.unwrap().as_deref(), Some(&b"state"[..]));
        assert_eq!(store.store.state("contoso", "prod", "two").await.unwrap(), None);
    }
}

#[test]
fn a_second_collector_is_kept_out_and_told_by_whom() {
    let (_folder, file) = place();
    let store = SqliteStore::open(&file).unwrap();
    let (fault, text) = refused(&file);
    assert!(matches!(fault, StoreErrorKind::Locked { .. }), "{fault:?}");
    let process = format!("(process {})", std::process::id());
    assert!(text.contains(&process) && text.contains(&*file.to_string_lossy()), "{text}");
    assert!(text.ends_with("stop that collector or wait until the command has ended, or use another file"), "{text}");
    drop(store);
    assert!(SqliteStore::open(&file).is_ok());
}

#[test]
fn readers_are_never_kept_out_and_keep_nobody_out() {
    let (_folder, file) = place();
    let mut store = SqliteStore::open(&file).unwrap();
    store.commit(&poll("contoso", "prod", "one", &["lake"], &[("a", "{}")])).unwrap();
    let reader = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let count = || reader.query_row("SELECT count(*) FROM outbox", [], |row| row.get::<_, u32>(0)).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(count(), 1);
    store.commit(&poll("contoso", "prod", "two", &["lake"], &[("b", "{}")])).unwrap();
    assert_eq!(count(), 1, "a reader sees the moment at which it began");
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(count(), 2);
}

#[test]
fn a_file_that_was_overwritten_in_the_middle_is_damaged() {
    let (_folder, file) = place();
    filled(&file);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 16_384].fill(0xA5);
    fs::write(&file, bytes).unwrap();
    damaged(&file);
}

#[test]
fn a_file_without_its_beginning_is_damaged() {
    let (_folder, file) = place();
    filled(&file);
    let mut bytes = fs::read(&file).unwrap();
    bytes[..100].fill(b'?');
    fs::write(&file, bytes).unwrap();
    damaged(&file);
}

#[test]
fn a_file_without_its_end_is_damaged() {
    let (_folder, file) = place();
    filled(&file);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    damaged(&file);
}

#[test]
fn a_text_is_no_store() {
    let (_folder, file) = place();
    fs::write(&file, "[collector]\n").unwrap();
    damaged(&file);
}

/// Checks that a damaged file is left unchanged and that the message says what to do.
fn damaged(file: &Path) {
    let before = fs::read(file).unwrap();
    let (fault, text) = refused(file);
    assert!(matches!(fault, StoreErrorKind::Damaged(_)), "{fault:?}");
    assert!(text.contains(&*file.to_string_lossy()) && text.contains("restore it from a backup"), "{text}");
    assert_eq!(fs::read(file).unwrap(), before);
}

#[test]
fn a_database_of_something_else_is_left_alone() {
    let (_folder, file) = place();
    Connection::open(&file).unwrap().execute_batch("CREATE TABLE address (name TEXT)").unwrap();
    let before = fs::read(&file).unwrap();
    let (fault, text) = refused(&file);
    assert_eq!(fault, StoreErrorKind::Foreign);
    assert!(text.contains(&*file.to_string_lossy()) && text.contains("a file of its own"), "{text}");
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn a_schema_of_a_later_version_is_left_alone() {
    let (_folder, file) = place();
    filled(&file);
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let (fault, text) = refused(&file);
    assert!(matches!(fault, StoreErrorKind::Newer { found: 99, .. }), "{fault:?}");
    assert!(text.contains("found schema 99") && text.ends_with("use that version"), "{text}");
}

#[test]
fn an_empty_file_becomes_a_store() {
    let (_folder, file) = place();
    fs::write(&file, "").unwrap();
    assert!(SqliteStore::open(&file).unwrap().backlog().unwrap().is_empty());
}

#[test]
fn a_folder_that_is_missing_is_named() {
    let (folder, _) = place();
    let (fault, text) = refused(&folder.path().join("none/collector.db"));
    assert!(matches!(fault, StoreErrorKind::Unopened(_)), "{fault:?}");
    assert!(
        text.contains("none/collector.db") && text.contains("/none is not there; expected in `state` a path"),
        "{text}"
    );
}

#[test]
fn only_the_owner_reads_a_new_store() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, file) = place();
    let mut store = SqliteStore::open(&file).unwrap();
    store.commit(&poll("contoso", "prod", "one", &["lake"], &[("a", "{}")])).unwrap();
    let mode = |file: &Path| fs::metadata(file).unwrap().permissions().mode() & 0o777;
    for name in ["collector.db", "collector.db-wal", "collector.db-shm"] {
        assert_eq!(mode(&folder.path().join(name)), 0o600, "{name}");
    }
}

#[cfg(unix)]
#[test]
fn the_lock_is_its_owners_alone_and_takes_the_place_of_no_other_file() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (folder, file) = place();
    let (lock, victim) = (folder.path().join("collector.db.lock"), folder.path().join("victim"));
    fs::write(&lock, "4711").unwrap();
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o644)).unwrap();
    drop(SqliteStore::open(&file).unwrap());
    assert_eq!(fs::metadata(&lock).unwrap().permissions().mode() & 0o777, 0o600, "one of an earlier version");
    fs::write(&lock, [0; 4]).unwrap();
    drop(SqliteStore::open(&file).expect("a lock whose number was lost with the power"));
    fs::write(&victim, "precious").unwrap();
    fs::remove_file(&lock).unwrap();
    symlink(&victim, &lock).unwrap();
    let (_, text) = refused(&file);
    assert!(text.contains("collector.db.lock: found a symbolic link to "), "{text}");
    fs::remove_file(&lock).unwrap();
    fs::rename(&victim, &lock).unwrap();
    let (_, text) = refused(&file);
    assert!(text.contains("collector.db.lock: found a file that holds something else"), "{text}");
    assert_eq!(fs::read(&lock).unwrap(), b"precious");
    fs::remove_file(&lock).unwrap();
    drop(SqliteStore::open(&file).unwrap());
    assert_eq!(fs::metadata(&lock).unwrap().permissions().mode() & 0o777, 0o600);
}

#[cfg(unix)]
#[test]
fn a_state_is_no_link_though_its_folder_may_be_one() {
    use std::os::unix::fs::symlink;
    let (folder, file) = place();
    let at = |name: &str| folder.path().join(name);
    drop(SqliteStore::open(&file).unwrap());
    symlink(folder.path(), at("folder")).unwrap();
    drop(SqliteStore::open(&at("folder/collector.db")).unwrap());
    for target in ["collector.db", "none.db"] {
        symlink(target, at("link.db")).unwrap();
        let (_, text) = refused(&at("link.db"));
        assert!(text.contains("link.db") && text.contains("found a symbolic link to "), "{text}");
        fs::remove_file(at("link.db")).unwrap();
    }
    assert!(!at("none.db").exists());
}

#[tokio::test]
async fn events_wait_in_the_order_of_their_commits_each_in_its_lane() {
    // PostgreSQL's store gives the events of one shard after those of another.
    for store in both().await.into_iter().take(1) {
        for (tenant, feed, sinks, uids) in [
            ("contoso", "prod", &["lake", "siem"][..], [("1", "{}"), ("2", "{}")]),
            ("fabrikam", "main", &["lake"][..], [("3", "{}"), ("4", "{}")]),
            ("contoso", "test", &["lake"][..], [("5", "{}"), ("6", "{}")]),
            ("contoso", "prod", &["siem", "lake"][..], [("7", "{}"), ("8", "{}")]),
            // The feed was given to another tenant.
            ("fabrikam", "prod", &["lake"][..], [("9", "{}"), ("10", "{}")]),
        ] {
            store.commit(&poll(tenant, feed, "one", sinks, &uids)).await.unwrap();
        }
        for (partition, expected) in [
            (partition("lake", None, None), "1 2 3 4 5 6 7 8 9 10"),
            (partition("siem", None, None), "1 2 7 8"),
            (partition("lake", Some("contoso"), None), "1 2 5 6 7 8"),
            (partition("lake", None, Some("prod")), "1 2 7 8 9 10"),
            (partition("lake", Some("contoso"), Some("prod")), "1 2 7 8"),
            (partition("lake", Some("fabrikam"), Some("prod")), "9 10"),
            (partition("siem", Some("fabrikam"), None), ""),
            (partition("none", None, None), ""),
        ] {
            assert_eq!(store.waiting(&partition).await.join(" "), expected, "{partition:?}");
        }
    }
}

#[tokio::test]
async fn a_batch_has_as_many_events_and_bytes_as_asked_for_and_at_least_one_event() {
    for store in both().await {
        store
            .commit(&poll("contoso", "prod", "one", &["lake"], &[("1", "12345"), ("2", "123"), ("3", "12")]))
            .await
            .unwrap();
        for (events, bytes, expected) in
            [(3, 10, "1 2 3"), (2, 10, "1 2"), (3, 9, "1 2"), (3, 8, "1 2"), (3, 7, "1"), (3, 5, "1"), (3, 1, "1")]
        {
            let queued = store.queued(&partition("lake", None, None), &[], events, bytes).await.unwrap();
            let uids: Vec<&str> = queued.iter().map(|event| event.uid.as_str()).collect();
            assert_eq!(uids.join(" "), expected, "{events} events and {bytes} bytes");
        }
    }
}

#[tokio::test]
async fn a_batch_may_leave_out_any_number_of_tenants() {
    for store in both().await {
        store.commit(&poll("contoso", "prod", "one", &["lake"], &[("1", "{}")])).await.unwrap();
        store.commit(&poll("fabrikam", "prod", "one", &["lake"], &[("2", "{}")])).await.unwrap();
        for others in [0, 1, 2_000] {
            let mut without: Vec<String> = (0..others).map(|number| format!("other-{number}")).collect();
            without.push("contoso".to_owned());
            let queued = store.queued(&partition("lake", None, None), &without, 3, 100).await.unwrap();
            let uids: Vec<&str> = queued.iter().map(|event| event.uid.as_str()).collect();
            assert_eq!(uids, ["2"], "without {} tenants", without.len());
        }
    }
}

#[tokio::test]
async fn only_what_is_acknowledged_leaves_the_outbox() {
    for store in both().await {
        store
            .commit(&poll("contoso", "prod", "one", &["lake", "siem"], &[("1", "{}"), ("2", "{}"), ("3", "{}")]))
            .await
            .unwrap();
        let queued = store.queued(&partition("lake", None, None), &[], 3, 100).await.unwrap();
        store.store.acknowledge(&[queued[0].clone(), queued[2].clone()]).await.unwrap();
        store.store.acknowledge(&[queued[0].clone(), Queued { number: i64::MAX, ..queued[2].clone() }]).await.unwrap();
        assert_eq!(store.waiting(&partition("lake", None, None)).await, ["2"]);
        assert_eq!(store.waiting(&partition("siem", None, None)).await, ["1", "2", "3"]);
    }
}

#[tokio::test]
async fn a_number_is_never_used_again() {
    for store in both().await {
        let mut numbers = Vec::new();
        for _ in 0..2 {
            store.commit(&poll("contoso", "prod", "one", &["lake"], &[("1", "{}")])).await.unwrap();
            let queued = store.queued(&partition("lake", None, None), &[], 1, 100).await.unwrap();
            store.store.acknowledge(&queued).await.unwrap();
            numbers.push(queued[0].number);
        }
        assert!(numbers[1] > numbers[0], "{numbers:?}");
    }
}

#[tokio::test]
async fn a_throttle_is_over_when_its_time_is_there() {
    for store in both().await {
        let throttle = |credential: &str, until: u64| Throttle {
            credential: ShortDigest::of(credential),
            origin: "https://management.azure.com".to_owned(),
            until,
        };
        let record = PollRecord { throttle: Some(throttle("a", 50)), ..poll("contoso", "prod", "one", &[], &[]) };
        store.commit(&record).await.unwrap();
        store.store.keep_throttle(throttle("b", 60)).await.unwrap();
        store.store.keep_throttle(throttle("a", 100)).await.unwrap();
        let throttles = store.store.throttles(59).await.unwrap();
        assert!(
            throttles.len() == 2 && throttles.contains(&throttle("a", 100)) && throttles.contains(&throttle("b", 60))
        );
        assert_eq!(store.store.throttles(60).await.unwrap(), [throttle("a", 100)]);
        assert_eq!(store.store.throttles(100).await.unwrap(), []);
        store.store.prune(0, 60).await.unwrap();
        assert_eq!(store.store.throttles(0).await.unwrap(), [throttle("a", 100)]);
    }
}

/// Returns the times and values in the history of an open store.
fn history(file: &Path) -> Vec<(u64, f64)> {
    let reader = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut select = reader.prepare("SELECT time, value FROM history ORDER BY time").unwrap();
    let rows = select.query_map([], |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn measured(time: u64, value: f64, maximum: f64) -> PollRecord {
    let text = |text: &str| text.to_owned();
    let (kind, subject, title) = (text("secure-scores"), text("ascScore"), text("Score"));
    let measure = Measure { kind, subject, title, value, maximum, weight: 1.0 };
    PollRecord { time, measures: vec![measure], ..poll("contoso", "prod", "one", &[], &[]) }
}

#[test]
fn a_figure_is_written_when_it_differs_from_the_last_one() {
    let (_folder, file) = place();
    let mut store = SqliteStore::open(&file).unwrap();
    for (time, value, maximum) in [(1, 5.0, 9.0), (2, 5.0, 9.0), (3, 6.0, 9.0), (4, 5.0, 9.0), (5, 5.0, 8.0)] {
        store.commit(&measured(time, value, maximum)).unwrap();
    }
    assert_eq!(history(&file), [(1, 5.0), (3, 6.0), (4, 5.0), (5, 5.0)]);
    store.prune(2, 0).unwrap();
    assert_eq!(history(&file), [(1, 5.0), (3, 6.0), (4, 5.0), (5, 5.0)], "the first one holds until the time 3");
    store.prune(4, 0).unwrap();
    assert_eq!(history(&file), [(4, 5.0), (5, 5.0)]);
}

#[test]
fn a_figure_that_is_no_number_does_not_hold_its_poll_up() {
    let (_folder, file) = place();
    let mut store = SqliteStore::open(&file).unwrap();
    let mut record = measured(1, f64::NAN, 9.0);
    record.measures.extend(measured(1, 5.0, f64::INFINITY).measures);
    record.measures.extend(measured(1, 7.0, 9.0).measures);
    store.commit(&record).unwrap();
    assert_eq!(history(&file), [(1, 7.0)]);
    assert!(store.state("contoso", "prod", "one").unwrap().is_some());
}
