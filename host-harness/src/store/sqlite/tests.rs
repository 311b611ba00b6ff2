use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use source_host::contract::{Measure, Scope};
use source_host::digest::ShortDigest;

use super::reading::SqliteReader;
use super::schema::{APPLICATION_ID, MIGRATIONS};
use super::*;
use crate::store::budget::Budgets;
use crate::store::reading::{Series, StoreReader};
use crate::store::space::Room;
use crate::store::{DeliveredCount, DeliveredQuery, Keep, NewEvent, Polling, Standing, Store};

fn record(scope: &str, state: &str, events: usize) -> PollRecord {
    let text = |text: &str| text.to_owned();
    let event = |number| NewEvent { uid: format!("{scope}-{number}"), time: 1, body: vec![b'x'; 10_000] };
    let measure = Measure {
        kind: text("kind"),
        subject: text("subject"),
        title: text("title"),
        value: events as f64,
        maximum: 1.0,
        weight: 1.0,
    };
    let (credential, origin) = (ShortDigest::of(state), text("https://service.example"));
    PollRecord {
        lease: Lease::SOLE,
        row: ScopeRow {
            feed: text("prod"),
            tenant: text("contoso"),
            scope: Scope { id: text(scope), name: None, owner: None, plugin_data: String::new() },
            standing: Standing { due: events as u64, ..Standing::default() },
        },
        state: Some(state.as_bytes().to_vec()),
        time: events as u64,
        measures: vec![measure],
        events: (0..events).map(event).collect(),
        sinks: vec![text("lake")],
        throttle: Some(Throttle { credential, origin, until: 9 }),
        budgets: Budgets::default(),
    }
}

/// Returns everything that a commit writes, as text.
fn content(store: &mut SqliteStore) -> String {
    let figures = store.run(|connection| {
        let mut select = connection.prepare("SELECT scope, time, value FROM history ORDER BY scope, time")?;
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        rows.collect::<rusqlite::Result<Vec<(i64, i64, f64)>>>()
    });
    let scopes = store.scopes().unwrap();
    let states: Vec<_> = scopes.iter().map(|row| store.state(&row.tenant, &row.feed, &row.scope.id).unwrap()).collect();
    let (backlog, throttles) = (store.backlog().unwrap(), store.throttles(0).unwrap());
    format!("{scopes:?} {states:?} {backlog:?} {throttles:?} {:?}", figures.unwrap())
}

fn limit(store: &mut SqliteStore, pages: u32) {
    store.run(|connection| connection.pragma_update(None, "max_page_count", pages)).unwrap();
}

#[test]
fn a_commit_that_finds_the_disk_full_leaves_everything_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(&folder.path().join("collector.db")).unwrap();
    store.commit(&record("one", "before", 3)).unwrap();
    let before = content(&mut store);
    limit(&mut store, 40);
    for scope in ["one", "two"] {
        let error = store.commit(&record(scope, "after", 50)).unwrap_err();
        assert_eq!(error.what, StoreErrorKind::Full);
        assert!(error.to_string().contains("collector.db: the disk is full"), "{error}");
        assert_eq!(content(&mut store), before);
    }
    limit(&mut store, 4_000);
    store.commit(&record("one", "after", 50)).unwrap();
    assert_eq!(store.state("contoso", "prod", "one").unwrap().unwrap(), b"after");
    assert_eq!(store.backlog().unwrap()[0].events, 53);
}

/// Counts the transactions in the log beside a file: the last page of each one has the size of the database in its header.
fn transactions(file: &Path) -> usize {
    let log = fs::read(format!("{}-wal", file.display())).unwrap();
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap()) as usize;
    let (page, salt) = (number(&log[8..12]), &log[16..24]);
    // Frames of an earlier round have another salt.
    let frames = log[32..].chunks(24 + page).filter(|frame| &frame[8..16] == salt);
    frames.filter(|frame| number(&frame[4..8]) > 0).count()
}

#[test]
fn polls_that_end_together_are_one_transaction_and_each_is_kept_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("collector.db");
    let mut store = SqliteStore::open(&file).unwrap();
    let before = transactions(&file);
    let polls = [record("one", "state", 2), record("two", "state", 2), record("three", "state", 2)];
    let [one, two, three] = &polls;
    let budgets = Budgets { feed_bytes: 1, ..Budgets::default() };
    let greedy = PollRecord { budgets, ..two.clone() };
    let kept = store.commit_all(&[one, &greedy, three]);
    assert!(kept[0].is_ok() && kept[2].is_ok());
    assert!(matches!(kept[1], Err(StoreError { what: StoreErrorKind::OverBudget(_), .. })));
    assert_eq!(transactions(&file), before + 1);
    let scopes: Vec<String> = store.scopes().unwrap().into_iter().map(|row| row.scope.id).collect();
    assert_eq!((scopes, store.backlog().unwrap()[0].events), (vec!["one".to_owned(), "three".to_owned()], 4));
    check_sums(&mut store);
}

#[test]
fn a_poll_that_does_not_fit_on_the_disk_keeps_no_smaller_one_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(&folder.path().join("collector.db")).unwrap();
    store.commit(&record("one", "before", 3)).unwrap();
    limit(&mut store, 40);
    let (large, small) = (record("one", "after", 200), record("two", "after", 1));
    let kept = store.commit_all(&[&large, &small]);
    assert_eq!(kept[0].as_ref().unwrap_err().what, StoreErrorKind::Full);
    assert!(kept[1].is_ok());
    assert_eq!(store.state("contoso", "prod", "one").unwrap().unwrap(), b"before");
    assert_eq!(store.state("contoso", "prod", "two").unwrap().unwrap(), b"after");
    assert_eq!(store.backlog().unwrap()[0].events, 4);
}

#[tokio::test]
async fn polls_that_wait_for_the_store_are_committed_together() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("collector.db");
    let handle = SqliteHandle::start(SqliteStore::open(&file).unwrap()).unwrap();
    let before = transactions(&file);
    let (open, shut) = std::sync::mpsc::channel::<()>();
    let busy = handle.ask(move |_| Ok(shut.recv()));
    let polls = ["one", "two", "three"].map(|scope| Arc::new(record(scope, "state", 1)));
    let commits = polls.map(|poll| handle.commit(poll));
    let state = handle.state("contoso", "prod", "one");
    let forgotten = handle.ask(SqliteStore::scopes);
    let release = async {
        tokio::task::yield_now().await;
        open.send(()).unwrap();
    };
    let [one, two, three] = commits;
    let (_, one, two, three, state, scopes, ()) = tokio::join!(busy, one, two, three, state, forgotten, release);
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    assert_eq!(state.unwrap(), None, "it was asked before the answer");
    assert_eq!(scopes.unwrap().len(), 3, "it waits for what came before it");
    assert_eq!(transactions(&file), before + 1);
}

fn version(store: &mut SqliteStore) -> u32 {
    store.run(|connection| connection.pragma_query_value(None, "user_version", |row| row.get(0))).unwrap()
}

#[test]
fn an_empty_file_goes_through_all_steps_and_one_that_is_up_to_date_through_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("collector.db");
    assert_eq!(version(&mut SqliteStore::open(&file).unwrap()), MIGRATIONS.len() as u32);
    let before = fs::read(&file).unwrap();
    assert_eq!(version(&mut SqliteStore::open(&file).unwrap()), MIGRATIONS.len() as u32);
    assert_eq!(fs::read(&file).unwrap(), before);
}

/// Returns the bytes that are kept of each feed, summed from its rows.
fn sums(store: &mut SqliteStore) -> Vec<KeptRow> {
    let sums = store.run(|connection| {
        let mut select = connection.prepare(
            "SELECT tenant, feed, sum(64 + octet_length(discovered) + octet_length(standing)
                 + coalesce((SELECT 64 + octet_length(value) FROM state WHERE state.scope = number), 0)
                 + coalesce((
                     SELECT sum(64 + octet_length(subject) + octet_length(kind) + octet_length(title))
                     FROM history WHERE history.scope = number
                 ), 0))
             FROM scope GROUP BY tenant, feed",
        )?;
        let rows = select.query_map([], |row| {
            Ok(KeptRow { tenant: row.get(0)?, feed: row.get(1)?, bytes: row.get::<_, i64>(2)? as u64 })
        })?;
        rows.collect()
    });
    sums.unwrap()
}

fn check_sums(store: &mut SqliteStore) {
    let kept: Vec<KeptRow> = store.kept().unwrap().into_iter().filter(|row| row.bytes > 0).collect();
    assert_eq!(kept, sums(store));
}

#[test]
fn what_is_kept_of_a_feed_follows_whatever_writes() {
    let mut store = for_tests::in_memory().unwrap();
    let text = |text: &str| text.to_owned();
    let of = |tenant: &str, feed: &str, poll: PollRecord| {
        let row = ScopeRow { tenant: text(tenant), feed: text(feed), ..poll.row.clone() };
        PollRecord { row, ..poll }
    };
    let subject = |subject: &str, mut poll: PollRecord| {
        poll.measures[0].subject = text(subject);
        poll.measures[0].title = text("Gerätschaften");
        poll
    };
    let polls = [
        record("one", "state", 1),
        record("one", "a longer state", 2),
        record("one", "s", 2),
        subject("other", record("one", "s", 2)),
        subject("other", record("one", "s", 3)),
        PollRecord { state: None, ..record("two", "", 4) },
        of("contoso", "test", record("one", "state", 1)),
        of("fabrikam", "test", record("one", "another", 2)),
        of("fabrikam", "test", record("two", "another", 2)),
    ];
    for poll in polls {
        let kept = store.commit(&poll).unwrap();
        check_sums(&mut store);
        let rows = store.kept().unwrap();
        let of_tenant = rows.iter().filter(|row| row.tenant == poll.row.tenant);
        let feed = of_tenant.clone().find(|row| row.feed == poll.row.feed).unwrap().bytes;
        assert_eq!(kept, StoredBytes { feed, tenant: of_tenant.map(|row| row.bytes).sum() });
    }
    let row = record("one", "", 0).row;
    store.keep_scopes(&[ScopeRow { standing: Standing { failures: 12_345, ..Standing::default() }, ..row }]).unwrap();
    check_sums(&mut store);
    store.prune(100, 100).unwrap();
    check_sums(&mut store);
    let row = record("one", "", 0).row;
    store.forget_scopes("prod", &[text("one"), text("absent")]).unwrap();
    assert_eq!(store.scopes().unwrap().len(), 4, "it is polled");
    let lost = Standing { watch: Polling::Lost, ..Standing::default() };
    store.keep_scopes(&[ScopeRow { standing: lost, ..row }]).unwrap();
    store.forget_scopes("prod", &[text("one")]).unwrap();
    assert_eq!(store.scopes().unwrap().len(), 3);
    check_sums(&mut store);
}

#[test]
fn a_poll_that_passes_a_budget_leaves_everything_as_it_was() {
    let mut store = for_tests::in_memory().unwrap();
    store.commit(&record("one", "before", 3)).unwrap();
    let (before, bytes) = (content(&mut store), store.kept().unwrap()[0].bytes);
    for (feed_bytes, tenant_bytes, who) in [(bytes, u64::MAX, "the feed"), (u64::MAX, bytes, "the feeds of the tenant")]
    {
        let budgets = Budgets { feed_bytes, tenant_bytes, ..Budgets::default() };
        let error = store.commit(&PollRecord { budgets, ..record("two", "after", 3) }).unwrap_err();
        assert!(error.to_string().contains(&format!("{who} would keep")), "{error}");
        assert_eq!(content(&mut store), before);
        store.commit(&PollRecord { budgets, events: Vec::new(), ..record("one", "before", 3) }).unwrap();
    }
}

#[test]
fn with_little_room_a_feed_beyond_its_share_keeps_nothing_more_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let reading = Arc::clone(&free);
    let space = FreeSpace::new(move || Some(Room { free: reading.load(Ordering::SeqCst), total: u64::MAX }));
    let store = SqliteStore::open(&folder.path().join("collector.db")).unwrap();
    let mut store = for_tests::with_space(store, space);
    let budgets = Budgets { min_free_bytes: Some(100_000), ..Budgets::default() };
    let of = |feed: &str, state: &str, events: usize| {
        let poll = record("one", state, events);
        PollRecord { row: ScopeRow { feed: feed.to_owned(), ..poll.row.clone() }, budgets, ..poll }
    };
    let (small, large) = ("s".repeat(1_000), "l".repeat(60_000));
    store.commit(&of("large", &large, 1)).unwrap();
    store.commit(&of("small", &small, 1)).unwrap();
    free.store(0, Ordering::SeqCst);
    let before = content(&mut store);
    for (state, events) in [(format!("{large}l"), 1), (large.clone(), 2)] {
        let error = store.commit(&PollRecord { measures: Vec::new(), ..of("large", &state, events) }).unwrap_err();
        let told = error.to_string();
        assert!(told.contains("room for 0 more bytes on its disk, less than 100000 (min_free_bytes)"), "{told}");
        assert!(told.contains("more than its share of 50000 bytes"), "{told}");
        assert_eq!(content(&mut store), before);
    }
    // A poll is accepted if it keeps no more than before; and within the feed's share, until waiting events fill it.
    let same = || PollRecord { measures: Vec::new(), events: Vec::new(), ..of("large", &large, 1) };
    store.commit(&same()).unwrap();
    store.commit(&of("small", &small, 2)).unwrap();
    assert!(store.commit(&of("small", &small, 2)).is_err());
    store.commit(&PollRecord { measures: Vec::new(), ..of("large", &small, 2) }).unwrap();
    // Delivered events free space within the file.
    store.commit(&same()).unwrap_err();
    let partition = Partition { sink: "lake".to_owned(), tenant: None, feed: None };
    let numbers: Vec<i64> =
        store.queued(&partition, &[], 100, usize::MAX).unwrap().iter().map(|row| row.number).collect();
    store.acknowledge(&numbers).unwrap();
    store.commit(&of("small", &small, 2)).unwrap();
    free.store(100_000, Ordering::SeqCst);
    store.commit(&of("large", &large, 3)).unwrap();
}

#[test]
fn a_file_from_before_budgets_has_its_sums_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("collector.db");
    {
        let connection = Connection::open(&file).unwrap();
        connection.execute_batch(MIGRATIONS[0]).unwrap();
        connection.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        let rows = "INSERT INTO scope VALUES (7, 'prod', 'one', 'contoso', '{\"id\":\"ä\"}', '{}');
                    INSERT INTO scope VALUES (8, 'prod', 'two', 'contoso', '{\"id\":\"b\"}', '{}');
                    INSERT INTO state VALUES (7, x'0102');
                    INSERT INTO history VALUES (8, 'subject', 1, 'kind', 'title', 1.0, 1.0, 1.0);
                    INSERT INTO history VALUES (8, 'subject', 2, 'kind', 'title', 2.0, 1.0, 1.0);";
        connection.execute_batch(rows).unwrap();
    }
    let mut store = SqliteStore::open(&file).unwrap();
    assert_eq!(sums(&mut store).len(), 1);
    check_sums(&mut store);
}

#[test]
fn a_step_that_a_crash_interrupted_is_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("collector.db");
    {
        let mut connection = Connection::open(&file).unwrap();
        let transaction = connection.transaction().unwrap();
        transaction.execute_batch(MIGRATIONS[0]).unwrap();
    }
    SqliteStore::open(&file).unwrap().commit(&record("one", "state", 1)).unwrap();
}

#[test]
fn every_transaction_is_synced() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(&folder.path().join("collector.db")).unwrap();
    let found = store.run(|connection| {
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        let synchronous: u32 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
        Ok((mode, synchronous))
    });
    assert_eq!(found.unwrap(), ("wal".to_owned(), 2));
}

#[test]
fn a_reader_sees_each_commit_beside_the_writer_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("collector.db");
    let mut store = SqliteStore::open(&file).unwrap();
    let part = |number: u32, value: f64| Measure {
        kind: "parts".to_owned(),
        subject: format!("part-{number}"),
        title: format!("Part {number}"),
        value,
        maximum: 5.0,
        weight: 1.0,
    };
    let mut poll = record("one", "state", 1);
    poll.measures.extend([part(1, 5.0), part(2, 1.0)]);
    store.commit(&poll).unwrap();
    let reader = SqliteReader::open(&file).unwrap();
    assert_eq!(reader.scopes().unwrap().len(), 1);
    (poll.time, poll.measures[0].value, poll.measures[2].value) = (9, 0.5, 0.5);
    store.commit(&poll).unwrap();
    // A standing that is written without a poll keeps the subject of the figure.
    store.keep_scopes(&[poll.row.clone()]).unwrap();
    let figure = |since: u64| reader.figure("prod", "one", since).unwrap().unwrap();
    let times = |series: &Series| series.samples.iter().map(|sample| sample.time).collect::<Vec<_>>();
    assert_eq!(
        (figure(0).subject.as_str(), times(&figure(0)), times(&figure(5)), times(&figure(9))),
        ("subject", vec![1, 9], vec![1, 9], vec![9])
    );
    let parts = reader.parts("prod", "one", 0).unwrap();
    let told: Vec<_> = parts.iter().map(|part| (part.title.as_str(), times(part))).collect();
    assert_eq!(told, [("Part 1", vec![1]), ("Part 2", vec![1, 9])]);
    assert!(reader.figure("prod", "two", 0).unwrap().is_none() && reader.parts("prod", "two", 0).unwrap().is_empty());
    assert_eq!(reader.backlog().unwrap()[0].events, 2);
    // A part that the service does not measure any more is written once with nothing to reach.
    let gone = poll.measures.pop();
    for time in [10, 11] {
        poll.time = time;
        store.commit(&poll).unwrap();
    }
    let last = |reader: &dyn StoreReader| reader.parts("prod", "one", 0).unwrap()[1].samples.clone();
    let samples = last(&reader);
    assert_eq!(samples.iter().map(|sample| sample.time).collect::<Vec<_>>(), [1, 9, 10]);
    assert_eq!(samples[2].points, crate::store::Points { value: 0.0, maximum: 0.0, weight: 0.0 });
    assert_eq!(times(&figure(0)), [1, 9], "the kind of the whole figure is another one");
    poll.measures.extend(gone);
    poll.time = 12;
    store.commit(&poll).unwrap();
    assert_eq!(last(&reader).last().unwrap().points.maximum, 5.0);
    // The scope of another tenant has no figure yet.
    poll.row.tenant = "fabrikam".to_owned();
    store.keep_scopes(&[poll.row]).unwrap();
    assert!(reader.figure("prod", "one", 0).unwrap().is_none());
}

#[test]
fn a_file_of_an_earlier_version_is_read_once_a_collector_opened_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("collector.db");
    {
        let connection = Connection::open(&file).unwrap();
        connection.execute_batch(&MIGRATIONS[..2].concat()).unwrap();
        connection.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        connection.pragma_update(None, "user_version", 2).unwrap();
    }
    let error = SqliteReader::open(&file).map(drop).unwrap_err();
    assert_eq!(error.what, StoreErrorKind::Older { found: 2, known: MIGRATIONS.len() as u32 });
    drop(SqliteStore::open(&file).unwrap());
    assert!(SqliteReader::open(&file).unwrap().scopes().unwrap().is_empty());
}

#[test]
fn delivered_events_are_kept_within_their_time_and_bytes_and_go_back_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(&folder.path().join("c.db")).unwrap();
    let partition = Partition { sink: "lake".to_owned(), tenant: None, feed: None };
    let queued = |store: &mut SqliteStore| store.queued(&partition, &[], 100, usize::MAX).unwrap();
    let numbers = |events: &[Queued]| events.iter().map(|event| event.number).collect::<Vec<_>>();
    let all = DeliveredQuery { sink: "lake".to_owned(), since: 0, until: u64::MAX >> 1, tenant: None, feed: None };
    let kept = |store: &mut SqliteStore, query: &DeliveredQuery| {
        store.count_delivered(query).unwrap().iter().map(|count| count.events).sum::<u64>()
    };
    let keep = |now: u64| Keep { now, span: Duration::from_secs(60), bytes: 45_000 };

    store.commit(&record("one", "a", 3)).unwrap();
    let first = queued(&mut store);
    store.keep_delivered(&numbers(&first), keep(1_000)).unwrap();
    store.commit(&record("two", "b", 2)).unwrap();
    let second = queued(&mut store);
    store.keep_delivered(&numbers(&second), keep(2_000)).unwrap();
    // A repeated acknowledgement keeps nothing twice; five bodies of 10,000 bytes have no room.
    store.keep_delivered(&numbers(&second), keep(3_000)).unwrap();
    assert_eq!(store.backlog().unwrap(), Vec::new());
    let count = DeliveredCount { tenant: "contoso".to_owned(), feed: "prod".to_owned(), events: 4, bytes: 40_000 };
    assert_eq!(store.count_delivered(&all).unwrap(), [count]);
    for (query, expected) in [
        (DeliveredQuery { since: 1_001, ..all.clone() }, 2),
        (DeliveredQuery { until: 2_000, ..all.clone() }, 2),
        (DeliveredQuery { tenant: Some("fabrikam".to_owned()), ..all.clone() }, 0),
        (DeliveredQuery { feed: Some("prod".to_owned()), ..all.clone() }, 4),
        (DeliveredQuery { sink: "other".to_owned(), ..all.clone() }, 0),
    ] {
        assert_eq!(kept(&mut store, &query), expected, "{query:?}");
    }

    // Events that go back come before those that wait, and are gone from the kept ones.
    store.commit(&record("three", "c", 1)).unwrap();
    assert_eq!(store.redeliver(&all, 3).unwrap(), Some((2, 5)));
    assert_eq!(store.redeliver(&all, 0).unwrap(), Some((2, 3)));
    assert_eq!(store.redeliver(&all, 0).unwrap(), None);
    let again = queued(&mut store);
    let expected = [&first[1..], &second[..]].concat();
    assert_eq!((&again[..4], again.len()), (&expected[..], 5));

    // Time passes for a sink that delivers, and for one that does not.
    store.keep_delivered(&numbers(&again[..2]), keep(10_000)).unwrap();
    store.keep_delivered(&numbers(&again[2..]), keep(70_000)).unwrap();
    assert_eq!(kept(&mut store, &all), 3);
    store.prune(0, 130_000).unwrap();
    assert_eq!(kept(&mut store, &all), 0);
}
