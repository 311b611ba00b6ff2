//! `migrate`: a state moves from a file into a database and back, wherever the command is killed.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use host_harness::store::fleet::{FleetStore, MemberId};
use host_harness::store::sqlite::reading::SqliteReader;
use host_harness::store::sqlite::{SqliteHandle, SqliteStore};
use host_harness::store::{FeedRow, Keep, Partition, Store, StoreErrorKind, Throttle, moving::MoveFault};
use rusqlite::Connection;
use serde_json::Value;
use source_host::contract::Measure;
use source_host::digest::ShortDigest;
use source_host::failpoint;
use source_simulator::estate::Estate;

use super::{all, open, poll};
use crate::crash::events::{by_scope, check_chain, uid};
use crate::crash::move_scores;
use crate::support::postgres::Server;
use crate::support::process::{PATIENCE, Scene};
use crate::support::{Dice, command};

/// Makes a state of three tenants with everything that a state can have. Its outbox has gaps.
async fn made(file: &Path) {
    let store = SqliteHandle::start(SqliteStore::open(file).unwrap()).unwrap();
    let lease = host_harness::store::shards::Lease::SOLE;
    let mut dice = Dice::new(3);
    for step in 0..60_u64 {
        let tenant = dice.roll(3);
        let (tenant, feed) = (format!("tenant-{tenant}"), format!("feed-{tenant}"));
        let scope = format!("scope-{}", dice.roll(4));
        let uids: Vec<String> = (0..dice.roll(12)).map(|number| format!("{step}-{number}")).collect();
        let uids: Vec<&str> = uids.iter().map(String::as_str).collect();
        let mut record = poll(lease, &tenant, &feed, &scope, &uids);
        record.time = 1_000 + step;
        record.row.standing.due = dice.roll(1 << 40);
        record.state = Some(vec![step as u8; dice.roll(2_000) as usize]);
        record.sinks.push("siem".to_owned());
        let measure = |number: u64| Measure {
            kind: "control".to_owned(),
            subject: format!("subject-{number}"),
            title: "A title".to_owned(),
            value: number as f64 + step as f64 / 7.0,
            maximum: 60.0,
            weight: 1.0,
        };
        record.measures = (0..dice.roll(6)).map(measure).collect();
        store.commit(Arc::new(record)).await.unwrap();
        let digest = ShortDigest::of(&feed);
        store.keep_feed(lease, FeedRow { feed, searched_with: digest, configured_as: digest }).await.unwrap();
    }
    // A feed that collected nothing has nothing to move.
    let partition = Partition { sink: "lake".to_owned(), tenant: None, feed: None };
    let first = store.queued(&[lease], &partition, Vec::new(), 20, 1 << 20).await.unwrap();
    store.acknowledge(&first[3..9]).await.unwrap();
    let keep = Keep { now: 5_000, span: Duration::from_secs(3_600), bytes: 1 << 20 };
    store.keep_delivered(&first[9..], keep).await.unwrap();
    // The last number is used, and its event is gone.
    let siem = Partition { sink: "siem".to_owned(), ..partition };
    let every = store.queued(&[lease], &siem, Vec::new(), 10_000, 1 << 30).await.unwrap();
    store.acknowledge(&every[every.len() - 1..]).await.unwrap();
    let until = u64::MAX >> 2;
    let throttle = Throttle { credential: ShortDigest::of("c"), origin: "https://o.example".to_owned(), until };
    store.keep_throttle(throttle).await.unwrap();
    store.close().await.unwrap();
}

/// All rows of a file, as text.
fn told(file: &Path) -> String {
    let connection = Connection::open(file).unwrap();
    let mut text = String::new();
    for question in [
        "SELECT * FROM salt",
        "SELECT * FROM feed ORDER BY 1",
        "SELECT * FROM scope ORDER BY 1",
        "SELECT * FROM state ORDER BY 1",
        "SELECT * FROM history ORDER BY 1, 2, 3",
        "SELECT * FROM kept WHERE bytes > 0 ORDER BY 1, 2",
        "SELECT * FROM outbox ORDER BY 1",
        "SELECT * FROM delivered ORDER BY 1",
        "SELECT * FROM delivered_bytes WHERE bytes > 0 ORDER BY 1, 2",
        "SELECT * FROM throttle ORDER BY 1, 2",
        "SELECT * FROM sqlite_sequence ORDER BY 1",
    ] {
        let mut select = connection.prepare(question).unwrap();
        let columns = select.column_count();
        let mut rows = select.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let cells = (0..columns).map(|column| row.get::<_, rusqlite::types::Value>(column).unwrap());
            text += &format!("{question}: {:?}\n", cells.collect::<Vec<_>>());
        }
    }
    text
}

/// Compares the rows of two files, and tells the first ones that differ.
fn check_same(file: &Path, expected: &str) {
    let found = told(file);
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}

/// Runs `migrate`, which aborts at this place.
fn migrated(from: &str, to: &str, crash_at: Option<&str>) -> Output {
    let mut command = command();
    command.args(["migrate", "--from", from, "--to", to, "--json"]).env_remove(failpoint::VARIABLE);
    if let Some(place) = crash_at {
        command.env(failpoint::VARIABLE, place);
    }
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Moves a state by a command that is killed again and again: after each chunk, and in each step between two stores.
fn moved_bit_by_bit(from: &str, to: &str) -> Value {
    let mut crashes = 0;
    assert_eq!(migrated(from, to, Some("move-begun:1")).status.signal(), Some(6));
    while migrated(from, to, Some("move-chunk:1")).status.signal() == Some(6) {
        crashes += 1;
        assert!(crashes < 30);
    }
    assert!(crashes > 7, "{crashes} chunks");
    let output = migrated(from, to, None);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_moved_to_a_database_and_back_is_the_same_wherever_the_move_was_killed() {
    let server = Server::shared();
    let database = server.database().await;
    let url = server.url(&database, &database);
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("one.db"), folder.path().join("two.db"));
    made(&first).await;
    let before = told(&first);
    let file = first.to_str().unwrap();
    // Half of it: nobody collects there, and the old place can be collected.
    assert_eq!(migrated(file, &url, Some("move-chunk:3")).status.signal(), Some(6));
    let half = open(&url).await.map(drop).unwrap_err().what;
    assert_eq!(half, StoreErrorKind::Move(MoveFault::Half { other: file.to_owned() }));
    let read = command().args(["migrate", "--from", &url, "--to", second.to_str().unwrap()]).output().unwrap();
    assert!(said(&read).contains("only a part of"), "{}", said(&read));
    while migrated(file, &url, Some("move-chunk:1")).status.signal() == Some(6) {}
    let last = migrated(file, &url, None);
    let answer: Value = serde_json::from_slice(&last.stdout).unwrap();
    assert_eq!((answer["already_moved"].as_bool(), last.status.code()), (Some(true), Some(0)), "{}", said(&last));
    let left = SqliteStore::open(&first).map(drop).unwrap_err().what;
    assert!(matches!(left, StoreErrorKind::Move(MoveFault::Left { .. })), "{left:?}");
    assert!(SqliteReader::open(&first).is_err());

    // The events wait in their order, with their uids, for whoever takes the shards.
    let store = open(&url).await.unwrap();
    let leases = all(&store, "one").await;
    let sqlite = Connection::open(&first).unwrap();
    for (sink, tenant) in [("lake", "tenant-0"), ("siem", "tenant-2")] {
        let partition = Partition { sink: sink.to_owned(), tenant: Some(tenant.to_owned()), feed: None };
        let queued = store.queued(&leases, &partition, Vec::new(), 10_000, 1 << 30).await.unwrap();
        let queued: Vec<(i64, String)> = queued.into_iter().map(|event| (event.number, event.uid)).collect();
        let mut select =
            sqlite.prepare("SELECT number, uid FROM outbox WHERE sink = ?1 AND tenant = ?2 ORDER BY number").unwrap();
        let rows = select.query_map([sink, tenant], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(queued, rows.collect::<Result<Vec<(i64, String)>, _>>().unwrap());
        assert!(queued.len() > 20);
    }
    let output = migrated(&url, second.to_str().unwrap(), None);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("in use by machine of one; stop these collectors"), "{}", said(&output));
    FleetStore::leave(&store, &super::member("one").id).await.unwrap();

    let answer = moved_bit_by_bit(&url, second.to_str().unwrap());
    assert_eq!(answer["already_moved"], true);
    check_same(&second, &before);
    // A collector that was frozen meanwhile learns where its state is.
    let frozen = store.renew(&super::member("one")).await.unwrap_err().what;
    assert!(matches!(frozen, StoreErrorKind::Move(MoveFault::Left { .. })), "{frozen:?}");
    // An old copy of the state is not the place that it was moved to.
    let copy = folder.path().join("copy.db");
    fs::copy(&second, &copy).unwrap();
    let output = migrated(&url, copy.to_str().unwrap(), None);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("it was moved to"), "{}", said(&output));
    let gone = open(&url).await.map(drop).unwrap_err().what;
    assert!(matches!(gone, StoreErrorKind::Move(MoveFault::Left { .. })), "{gone:?}");
    // Back to the database, which has an old copy of the same state, and to the first file.
    let there = migrated(second.to_str().unwrap(), &url, Some("move-left:1"));
    assert_eq!(there.status.signal(), Some(6), "{}", said(&there));
    assert!(SqliteStore::open(&second).is_err() && open(&url).await.is_err(), "nobody can collect twice");
    let there = migrated(second.to_str().unwrap(), &url, None);
    let answer: Value = serde_json::from_slice(&there.stdout).unwrap();
    assert_eq!((answer["went_on"].as_bool(), there.status.code()), (Some(true), Some(0)), "{}", said(&there));
    assert_eq!(migrated(&url, file, None).status.code(), Some(0));
    check_same(&first, &before);
    let mut store = SqliteStore::open(&first).unwrap();
    store.commit(&poll(host_harness::store::shards::Lease::SOLE, "tenant-0", "feed-0", "scope-0", &["new"])).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_from_a_state_that_was_collected_meanwhile_begins_anew() {
    let server = Server::shared();
    let database = server.database().await;
    let url = server.url(&database, &database);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.db");
    made(&file).await;
    let path = file.to_str().unwrap();
    assert_eq!(migrated(path, &url, Some("move-chunk:5")).status.signal(), Some(6));
    let mut store = SqliteStore::open(&file).unwrap();
    store.commit(&poll(host_harness::store::shards::Lease::SOLE, "later", "feed-later", "one", &["x", "y"])).unwrap();
    let locked = migrated(path, &url, None);
    assert_eq!(locked.status.code(), Some(1));
    assert!(said(&locked).contains("another collector uses it (process "), "{}", said(&locked));
    assert!(said(&locked).contains("or a command such as `migrate`; stop that collector or wait"), "{}", said(&locked));
    store.close().unwrap();
    drop(store);
    let before = told(&file);
    let moved = migrated(path, &url, None);
    assert_eq!(moved.status.code(), Some(0), "{}", said(&moved));
    let answer: Value = serde_json::from_slice(&moved.stdout).unwrap();
    assert_eq!((answer["went_on"].as_bool(), moved.status.code()), (Some(false), Some(0)), "{}", said(&moved));
    let back = folder.path().join("two.db");
    assert_eq!(migrated(&url, back.to_str().unwrap(), None).status.code(), Some(0));
    check_same(&back, &before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_is_refused_where_it_would_lose_something() {
    let server = Server::shared();
    let database = server.database().await;
    let url = server.url(&database, &database);
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("one.db"), folder.path().join("other.db"));
    let (file, other) = (file.to_str().unwrap(), other.to_str().unwrap());
    let refused = |from: &str, to: &str, status: i32, words: &str| {
        let output = migrated(from, to, None);
        assert_eq!(output.status.code(), Some(status), "{}", said(&output));
        assert!(said(&output).contains(words), "{}", said(&output));
    };
    refused(file, &url, 1, "there is no state; see that `--from` names");
    assert!(!Path::new(file).exists(), "nothing was made");
    refused(&url, file, 1, "there is no state; see that `--from` names");
    made(Path::new(file)).await;
    made(Path::new(other)).await;
    fs::write(folder.path().join("empty.db"), "").unwrap();
    refused(folder.path().join("empty.db").to_str().unwrap(), &url, 1, "there is no state");
    let superuser = server.superuser(&database).await;
    superuser.batch_execute("SELECT pg_advisory_lock(hashtext('host_harness'), hashtext('move'))").await.unwrap();
    refused(file, &url, 1, "another `migrate` or `redeliver` uses it");
    drop(superuser);
    refused(file, other, 2, "expected a file and the address of a database; copy the file");
    refused(&url, &url, 2, "use pg_dump and pg_restore");
    refused(file, "postgres://me:hunter2@db", 2, "--to: found an address without a database");
    refused(file, "mysql://me@db/x", 2, "--to: found an address (URL), expected the path of a file, or");
    let moved = migrated(file, &url, None);
    assert_eq!(moved.status.code(), Some(0), "{}", said(&moved));
    refused(other, &url, 1, "it holds another state (");
    refused(&url, other, 1, "it holds another state (");
    // The half of another state is not replaced either.
    let third = server.database().await;
    let third = server.url(&third, &third);
    assert_eq!(migrated(other, &third, Some("move-chunk:4")).status.signal(), Some(6));
    refused(&url, &third, 2, "use pg_dump");
    let config = folder.path().join("collector.toml");
    let feed = "[[feed]]\nid = \"prod\"\ntenant = \"contoso\"\nplugin = \"azure-secure-score\"\n[feed.settings]\n";
    fs::write(&config, format!("[collector]\nstate = \"other.db\"\n{feed}")).unwrap();
    let run = |arguments: &[&str]| command().arg("migrate").args(arguments).output().unwrap();
    let too_many = run(&["-c", config.to_str().unwrap(), "--from", file, "--to", &third]);
    assert_eq!(too_many.status.code(), Some(2));
    assert!(said(&too_many).contains("expected two of the three"), "{}", said(&too_many));
    assert_eq!(run(&["-c", config.to_str().unwrap()]).status.code(), Some(2));
    let too_few = run(&["--from", file]);
    assert_eq!(too_few.status.code(), Some(2));
    let words = "found --from, expected two of the three `--config`, `--from` and `--to`";
    assert!(said(&too_few).contains(words), "{}", said(&too_few));
    let moved = run(&["-c", config.to_str().unwrap(), "--to", &third]);
    assert_eq!(moved.status.code(), Some(0), "{}", said(&moved));
    let rows = String::from_utf8_lossy(&moved.stdout).into_owned();
    assert!(rows.contains("scopes                     12"), "{rows}");
    assert!(said(&moved).contains("which no collector uses"), "{}", said(&moved));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_cannot_begin_makes_no_file_and_a_place_is_remembered_with_its_whole_path() {
    let server = Server::shared();
    let database = server.database().await;
    let url = server.url(&database, &database);
    let store = open(&url).await.unwrap();
    all(&store, "one").await;
    let folder = tempfile::tempdir().unwrap();
    let run = |to: &str| {
        let mut command = command();
        command.current_dir(folder.path()).args(["migrate", "--from", &url, "--to", to]).output().unwrap()
    };
    let refused = |to: &str, words: &str| {
        let output = run(to);
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains(words), "{}", said(&output));
        assert!(!folder.path().join(to).exists() && !folder.path().join(format!("{to}.lock")).exists());
    };
    refused("new.db", "in use by machine of one");
    FleetStore::leave(&store, &MemberId("one".to_owned())).await.unwrap();
    store.close().await.unwrap();
    let moved = run("new.db");
    assert_eq!(moved.status.code(), Some(0), "{}", said(&moved));
    let whole = folder.path().join("new.db");
    assert!(said(&moved).contains(&format!("the state is in {} now", whole.display())), "{}", said(&moved));
    let error = open(&url).await.err().unwrap().to_string();
    assert!(error.contains(&format!("it was moved to {}", whole.display())), "{error}");
    refused("other.db", &format!("it was moved to {}", whole.display()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_with_a_character_that_postgresql_cannot_store_is_named_with_the_statement_that_mends_it() {
    let server = Server::shared();
    let database = server.database().await;
    let url = server.url(&database, &database);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.db");
    made(&file).await;
    let connection = Connection::open(&file).unwrap();
    let harm = |statement: &str| assert_eq!(connection.execute(statement, []).unwrap(), 1, "{statement}");
    harm(
        "UPDATE scope SET tenant = 'tenant-0' || char(0) || 'x'
         WHERE number = (SELECT min(number) FROM scope WHERE tenant = 'tenant-0')",
    );
    harm("UPDATE outbox SET uid = 'uid' || char(0) || uid WHERE number = (SELECT max(number) FROM outbox)");
    harm(
        "UPDATE history SET title = 'A title' || char(0) WHERE (scope, subject, time) IN (
             SELECT scope, subject, time FROM history WHERE subject = 'subject-1' ORDER BY scope, time LIMIT 1)",
    );
    // A file holds such texts.
    let (number, scope, feed): (i64, String, String) = connection
        .query_row("SELECT number, scope, feed FROM scope WHERE instr(tenant, char(0))", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    let path = file.to_str().unwrap();
    let mended = |table: &str, column: &str, row: &str| {
        let output = migrated(path, &url, None);
        assert_eq!(output.status.code(), Some(1));
        let (told, shown) = (said(&output), file.display());
        let found = format!(
            "the state in {shown}: found the character NUL (U+0000) in the column {column} of the table {table}, in the row \
             with {row}"
        );
        assert!(told.contains(&found), "{told}\nexpected: {found}");
        let statement = told.split_once("the statement ").and_then(|(_, rest)| rest.split_once(" in `sqlite3`"));
        assert!(connection.execute(statement.unwrap().0, []).unwrap() > 0, "{told}");
    };
    mended("scope", "tenant", &format!("tenant \"tenant-0\\0x\", feed {feed:?}"));
    let title = "UPDATE scope SET discovered = discovered || char(0) WHERE number = ?1";
    connection.execute(title, [number]).unwrap();
    mended("scope", "discovered", &format!("tenant \"tenant-0\", feed {feed:?}, scope {scope:?}, number {number}"));
    mended("history", "title", "tenant \"tenant-");
    mended("outbox", "uid", "tenant \"tenant-");
    drop(connection);
    let before = told(&file);
    let output = migrated(path, &url, None);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["went_on"], true);
    let back = folder.path().join("two.db");
    assert_eq!(migrated(&url, back.to_str().unwrap(), None).status.code(), Some(0));
    check_same(&back, &before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_whose_rows_changed_during_the_move_is_not_completed_and_the_move_can_begin_anew() {
    let server = Server::shared();
    let database = server.database().await;
    let url = server.url(&database, &database);
    let superuser = server.superuser(&database).await;
    let folder = tempfile::tempdir().unwrap();
    let (file, back, new) = (folder.path().join("one.db"), folder.path().join("two.db"), folder.path().join("new.db"));
    made(&file).await;
    let (before, path) = (told(&file), file.to_str().unwrap());
    let changed = |from: &str, to: &str, fix: &str| {
        let output = migrated(from, to, None);
        assert_eq!(output.status.code(), Some(1));
        let told = said(&output);
        let expected = format!("the state in {to}: found 2 feeds, expected the 3 that the move wrote: something else");
        let whole = format!("{fix}. The state in {from} has all of its rows");
        assert!(told.contains(&expected) && told.contains(&whole) && !told.contains("damaged"), "{told}");
    };
    let moved = |from: &str, to: &str| {
        let output = migrated(from, to, None);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["went_on"], false);
    };
    assert_eq!(migrated(path, &url, Some("move-chunk:3")).status.signal(), Some(6));
    let harm = "DELETE FROM host_harness.feed WHERE feed = 'feed-1'";
    assert_eq!(superuser.execute(harm, &[]).await.unwrap(), 1);
    changed(
        path,
        &url,
        "run DROP SCHEMA host_harness CASCADE there, and then the same command again, which begins anew",
    );
    superuser.batch_execute("DROP SCHEMA host_harness CASCADE").await.unwrap();
    moved(path, &url);
    let second = back.to_str().unwrap();
    assert_eq!(migrated(&url, second, Some("move-chunk:3")).status.signal(), Some(6));
    let harmed = Connection::open(&back).unwrap().execute("DELETE FROM feed WHERE feed = 'feed-1'", []);
    assert_eq!(harmed.unwrap(), 1);
    changed(&url, second, "move to a new file");
    moved(&url, new.to_str().unwrap());
    check_same(&new, &before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_full_disk_or_a_lost_connection_the_same_command_goes_on_and_the_error_says_so() {
    let server = Server::shared();
    let database = server.database().await;
    let url = server.url(&database, &database);
    let superuser = server.superuser(&database).await;
    let folder = tempfile::tempdir().unwrap();
    let (file, back) = (folder.path().join("one.db"), folder.path().join("two.db"));
    made(&file).await;
    let (before, path) = (told(&file), file.to_str().unwrap());
    // The server fails as it does when its disk is full, or when somebody ends its sessions.
    let interrupted = async |table: &str, fault: &str, words: &str| {
        let trigger = format!(
            "SET search_path = host_harness;
             CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN {fault}; RETURN NEW; END $$;
             CREATE TRIGGER fails BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fails()"
        );
        superuser.batch_execute(&trigger).await.unwrap();
        let output = migrated(path, &url, None);
        assert_eq!(output.status.code(), Some(1));
        let told = said(&output);
        assert!(told.contains(&format!("error: the state in {url}: {words}")), "{told}");
        assert!(!told.contains("poll") && !told.contains("collector"), "{told}");
        superuser.batch_execute("DROP FUNCTION fails CASCADE").await.unwrap();
        let rest = told.split_once(" rows of the state are moved; the same command goes on with the others");
        let (moved, all) = rest.unwrap().0.rsplit_once("; ").unwrap().1.split_once(" of ").unwrap();
        (moved.parse::<u64>().unwrap(), all.parse::<u64>().unwrap())
    };
    // The tables are there.
    assert_eq!(migrated(path, &url, Some("move-begun:1")).status.signal(), Some(6));
    let full = "RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'";
    let first = interrupted("state", full, "the disk is full, expected room for the state; make room there; ").await;
    let end = "PERFORM pg_terminate_backend(pg_backend_pid())";
    let lost = format!("the connection to 127.0.0.1:{} was lost (", server.port);
    let second = interrupted("outbox", end, &lost).await;
    assert_eq!(first.1, second.1);
    // Three feeds and twelve scopes.
    assert!(first.0 == 15 && second.0 > first.0 + 12 && second.0 < second.1, "{first:?} {second:?}");
    let output = migrated(path, &url, None);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["went_on"], true);
    assert_eq!(migrated(&url, back.to_str().unwrap(), None).status.code(), Some(0));
    check_same(&back, &before);
    // Where nothing has begun.
    let nowhere = migrated(&format!("postgres://{database}@127.0.0.1:1/{database}"), path, None);
    assert!(
        said(&nowhere).contains("nothing was moved by this attempt; run the same command again"),
        "{}",
        said(&nowhere)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_is_told_and_done_though_nobody_reads_its_rows() {
    let server = Server::shared();
    let database = server.database().await;
    let url = server.url(&database, &database);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.db");
    made(&file).await;
    let moved = |stdout: Stdio| {
        let mut command = command();
        command.arg("migrate").arg("--from").arg(&file).args(["--to", &url]).stdout(stdout);
        command.output().unwrap()
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = moved(writer.into());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains(&format!("the state is in {url} now; ")), "{}", said(&output));
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = moved(full.into());
    assert_eq!(output.status.code(), Some(1));
    let told = said(&output);
    assert!(told.contains(&format!("the state is in {url} already")), "{told}");
    assert!(told.contains("failed to write to standard output: No space left"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_takes_a_shard_that_a_move_closed_while_it_waited() {
    let server = Server::shared();
    let database = server.database().await;
    let store = Arc::new(open(&server.url(&database, &database)).await.unwrap());
    store.renew(&super::member("one")).await.unwrap();
    // As a move does in one transaction, which stays open until the collector waits for the rows.
    let mover = server.superuser(&database).await;
    let closing = "SET search_path = host_harness; BEGIN; INSERT INTO move VALUES ('id', 'target', 'elsewhere', '{}');
         UPDATE shard SET holder = NULL, epoch = epoch + 1";
    mover.batch_execute(closing).await.unwrap();
    let taking = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.take(&MemberId("one".to_owned()), &[0, 1, 2]).await }
    });
    let watching = server.superuser(&database).await;
    let waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let begun = Instant::now();
    while watching.query(waits, &[]).await.unwrap().is_empty() {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    mover.batch_execute("COMMIT").await.unwrap();
    assert_eq!(taking.await.unwrap().unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_does_not_own_the_tables_moves_nothing() {
    let server = Server::shared();
    let database = server.database().await;
    drop(open(&server.url(&database, &database)).await.unwrap());
    let superuser = server.superuser(&database).await;
    let role = format!("{database}_least");
    let grants = format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA host_harness TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA host_harness TO {role}"
    );
    superuser.batch_execute(&grants).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.db");
    made(&file).await;
    let before = told(&file);
    let output = migrated(file.to_str().unwrap(), &server.url(&role, &database), None);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("run it as their owner"), "{}", said(&output));
    check_same(&file, &before);
}

/// The events that a sink wrote into a folder.
fn lines(scene: &Scene, folder: &str) -> Vec<Value> {
    let text = fs::read_to_string(scene.folder.path().join(folder).join("events.ndjson")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs the collector while scores move, until a sink has so many events more, and ends it.
fn collected(scene: &Scene, more: usize, dice: &mut Dice) {
    let before = lines(scene, "out").len();
    let mut process = scene.run(&[]);
    let begun = Instant::now();
    while lines(scene, "out").len() < before + more {
        assert!(begun.elapsed() < PATIENCE, "{}", process.all_said());
        move_scores(&scene.simulator, dice);
        std::thread::sleep(Duration::from_millis(50));
    }
    process.signal("TERM");
    assert_eq!(process.end().code(), Some(0), "{}", process.all_said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_goes_on_at_the_other_side_and_no_event_is_lost_or_comes_twice() {
    let server = Server::shared();
    let database = server.database().await;
    let url = server.url(&database, &database);
    let scene = Scene::of(Estate::sized(2, 2)).await;
    let configure = |state: &str, late: &str| {
        scene.write(&format!(
            "[collector]\nstate = \"{state}\"\n[feed_defaults]\ninterval = \"1s\"\n\
             [[sink]]\nid = \"file\"\ntype = \"file\"\npath = \"out/events.ndjson\"\n\
             [[sink]]\nid = \"late\"\n{late}\n"
        ))
    };
    let (away, back) =
        ("type = \"http\"\nurl = \"http://127.0.0.1:1/\"", "type = \"file\"\npath = \"late/events.ndjson\"");
    let mut dice = Dice::new(5);
    let moved = |arguments: &[&str], crash_at: &str| {
        let run = |crash_at: Option<&str>| {
            let mut command = scene.command(&[&["migrate", "-c", "collector.toml"], arguments].concat());
            command.envs(crash_at.map(|place| (failpoint::VARIABLE, place)));
            command.output().unwrap()
        };
        assert_eq!(run(Some(crash_at)).status.signal(), Some(6));
        let output = run(None);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    };
    configure("one.db", away);
    collected(&scene, 60, &mut dice);
    moved(&["--to", &url], "move-chunk:3");
    // The events of the sink that was away wait in the database.
    configure(&url, away);
    collected(&scene, 60, &mut dice);
    moved(&["--to", "two.db"], "move-chunk:4");
    configure("two.db", back);
    collected(&scene, 60, &mut dice);
    let outbox = Connection::open(scene.folder.path().join("two.db")).unwrap();
    let waiting = || outbox.query_row("SELECT count(*) FROM outbox", [], |row| row.get::<_, i64>(0)).unwrap();
    let mut process = scene.run(&[]);
    process.hears("collecting 2 feeds");
    let begun = Instant::now();
    while waiting() > 0 {
        assert!(begun.elapsed() < PATIENCE, "{}", process.all_said());
        std::thread::sleep(Duration::from_millis(50));
    }
    process.signal("TERM");
    assert_eq!(process.end().code(), Some(0));
    let (filed, late) = (lines(&scene, "out"), lines(&scene, "late"));
    let uids = |events: &[&Value]| events.iter().map(|event| uid(event)).collect::<Vec<_>>();
    let (filed, late) = (filed.iter().collect::<Vec<_>>(), late.iter().collect::<Vec<_>>());
    let (filed, late) = (by_scope(&filed), by_scope(&late));
    assert_eq!(filed.len(), 4);
    for (scope, events) in &filed {
        // A repeat, or a gap, would break the chain of changes.
        check_chain(events);
        assert_eq!(uids(&late[scope]), uids(events), "{scope}");
    }
}
