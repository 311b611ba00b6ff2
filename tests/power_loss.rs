//! A loss of power at every operation on the disk, while polls are committed and delivered to a file: the polls that the
//! store acknowledged are there, each poll is there whole or not at all, and the file has all their events in the end.
//! A store and a sink that sync too little are found out.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use forgetful_disk::{Fate, Operation, Platter, Recording};
use host_harness::environment;
use host_harness::limits;
use host_harness::sink::disk::RealDisk;
use host_harness::sink::{FileConfig, SinkConfig, SinkKind, Template};
use host_harness::store::shards::Lease;
use host_harness::store::sqlite::{SqliteHandle, SqliteStore, for_tests};
use host_harness::store::{PollRecord, SharedStore};
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use source_host::contract::Measure;

use crate::support::Dice;
use crate::support::deliveries::{bodies, deliveries, record};

#[test]
fn a_loss_of_power_at_any_moment_loses_no_poll_and_no_event() {
    let life = Life::recorded(Care::Whole);
    let cuts = [Fate::Gone, Fate::There];
    assert_eq!(life.faults(|_| cuts.to_vec(), |_| true), Vec::<String>::new());
}

/// `POWER_LOSS_SEEDS=50` tears the bytes and names of each moment in as many ways.
#[test]
fn bytes_and_names_that_are_torn_lose_no_poll_and_no_event() {
    let life = Life::recorded(Care::Whole);
    let seeds = environment::text("POWER_LOSS_SEEDS").map_or(1, |seeds| seeds.parse().unwrap());
    let torn = |operation: usize| (0..seeds).map(|seed| Fate::Torn((operation as u64) << 32 | seed)).collect();
    assert_eq!(life.faults(torn, |_| true), Vec::<String>::new());
}

#[test]
fn a_second_loss_of_power_soon_after_the_first_loses_no_poll_and_no_event() {
    let life = Life::recorded(Care::Whole);
    let mut dice = Dice::new(5);
    let mut platter = life.begin.clone();
    for (number, operation) in life.operations.iter().enumerate() {
        platter.apply(operation);
        if dice.roll(12) > 0 {
            continue;
        }
        let fate = Fate::Torn(number as u64);
        let again = life.restarted(&platter, fate);
        let again = again.unwrap_or_else(|fault| panic!("power lost after {} operations: {fault}", number + 1));
        let cut = dice.roll(again.operations.len() as u64) as usize;
        let mut platter = again.begin.clone();
        again.operations[..cut].iter().for_each(|operation| platter.apply(operation));
        let acknowledged = life.acknowledged(number + 1).max(again.acknowledged(cut));
        let fault = again.fault(&platter, Fate::Torn(cut as u64), acknowledged);
        assert_eq!(fault, None, "power lost after {} operations, and then after {cut}", number + 1);
    }
}

#[test]
fn a_store_without_syncs_is_found_out() {
    let life = Life::recorded(Care::NoSyncOfStore);
    check_found_out(&life, |_| true, "were acknowledged");
}

#[test]
fn a_poll_that_is_acknowledged_before_its_commit_is_found_out() {
    let life = Life::recorded(Care::EarlyAcknowledgement);
    check_found_out(&life, |_| true, "were acknowledged");
}

#[test]
fn a_disk_that_only_says_that_it_synced_the_events_is_found_out() {
    let life = Life::recorded(Care::Whole);
    let events: Vec<usize> = life
        .operations
        .iter()
        .filter_map(|operation| match operation {
            Operation::Make(path, number) if path.ends_with(EVENTS) => Some(*number),
            _ => None,
        })
        .collect();
    let is_done = |operation: &Operation| !matches!(operation, Operation::Sync(file) if events.contains(file));
    check_found_out(&life, is_done, "where 0 should be");
}

#[test]
fn a_missing_sync_of_a_folder_is_found_out() {
    let life = Life::recorded(Care::Whole);
    for (folder, expected) in [("", "were acknowledged"), ("out", "where 0 should be")] {
        let folder =
            Operation::SyncFolder(life.folder.path().components().chain(Path::new(folder).components()).collect());
        check_found_out(&life, |operation| *operation != folder, expected);
    }
}

/// Checks that a loss of power is seen with this fault, if some operations are only said to be done.
fn check_found_out(life: &Life, is_done: impl Fn(&Operation) -> bool, expected: &str) {
    let faults = life.faults(|_| vec![Fate::Gone], is_done);
    assert!(faults.iter().any(|fault| fault.contains(expected)), "{faults:?}");
}

/// How much a collector cares for the data.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Care {
    /// As the one that ships.
    Whole,
    NoSyncOfStore,
    /// Counts a poll as acknowledged when it begins to commit it.
    EarlyAcknowledgement,
}

const EVENTS: &str = "out/findings.ndjson";
const SCOPES: [&str; 3] = ["one", "two", "three"];
const POLLS: usize = 9;
const EVENTS_OF_POLL: usize = 4;

/// A life of a collector, recorded.
struct Life {
    folder: tempfile::TempDir,
    begin: Platter,
    operations: Vec<Operation>,
    /// The numbers of operations until which 1, 2, … polls were acknowledged.
    acknowledged: Vec<usize>,
}

impl Life {
    /// Records a life in an empty folder.
    fn recorded(care: Care) -> Life {
        let life = Life::on(tempfile::tempdir().unwrap(), care).unwrap();
        assert_eq!(life.acknowledged.len(), POLLS);
        assert!(life.operations.len() > 250, "only {} operations: the test sees too little", life.operations.len());
        life
    }

    /// Records a life in a folder, in which the collector commits the polls that are missing, and delivers all events.
    fn on(folder: tempfile::TempDir, care: Care) -> Result<Life, String> {
        let recording = Recording::begin(folder.path()).unwrap();
        let begin = recording.at_begin();
        let acknowledged = live(folder.path(), &recording, care)?;
        let operations = recording.operations();
        drop(recording);
        Ok(Life { folder, begin, operations, acknowledged })
    }

    /// The number of polls that were acknowledged when so many operations were done.
    fn acknowledged(&self, operations: usize) -> usize {
        self.acknowledged.iter().filter(|at| **at <= operations).count()
    }

    /// Returns the faults after a loss of power at each operation, with these fates of all that was not synced.
    /// Operations that are not done are only said to be done.
    fn faults(&self, fates: impl Fn(usize) -> Vec<Fate>, is_done: impl Fn(&Operation) -> bool) -> Vec<String> {
        let (mut platter, mut faults) = (self.begin.clone(), Vec::new());
        let is_sync = |place: usize| {
            let operation = self.operations.get(place);
            operation.is_none_or(|operation| matches!(operation, Operation::Sync(_) | Operation::SyncFolder(_)))
        };
        for done in 0..=self.operations.len() {
            if let Some(operation) = done.checked_sub(1).map(|last| &self.operations[last]).filter(|last| is_done(last))
            {
                platter.apply(operation);
            }
            // Only a sync changes the safe content, and no sync changes the written one: other cases would be the same again.
            let is_new = |fate: &Fate| match fate {
                Fate::Gone => is_sync(done),
                Fate::Torn(_) => true,
                Fate::There => done == 0 || !is_sync(done - 1),
            };
            for fate in fates(done).into_iter().filter(is_new) {
                let fault = self.fault(&platter, fate, self.acknowledged(done));
                faults.extend(fault.map(|fault| format!("{fate:?}, power lost after {done} operations: {fault}")));
            }
            // The others would be many.
            if faults.len() > 3 {
                break;
            }
        }
        faults
    }

    /// Loses power, and starts a collector on what is left.
    fn restarted(&self, platter: &Platter, fate: Fate) -> Result<Life, String> {
        let folder = tempfile::tempdir().unwrap();
        platter.lose_power(fate, self.folder.path(), folder.path()).unwrap();
        Life::on(folder, Care::Whole)
    }

    /// Loses power, and returns what is then wrong.
    fn fault(&self, platter: &Platter, fate: Fate, acknowledged: usize) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        platter.lose_power(fate, self.folder.path(), folder.path()).unwrap();
        let found = checked(folder.path(), acknowledged);
        found.and_then(|()| Life::on(folder, Care::Whole)).and_then(|life| events(life.folder.path())).err()
    }
}

/// A collector commits the polls that are missing, two at a time, delivers them, and ends. Returns the number of operations
/// after which each poll was acknowledged; those of earlier lives were at the beginning.
fn live(folder: &Path, recording: &Recording, care: Care) -> Result<Vec<usize>, String> {
    let mut store = SqliteStore::open(&folder.join("collector.db")).map_err(|error| error.to_string())?;
    if care == Care::NoSyncOfStore {
        store = for_tests::without_syncs(store).unwrap();
    }
    let store: SharedStore = Arc::new(SqliteHandle::start(store).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut acknowledged = vec![0; committed(&store).await?];
        let (deliveries, _) = deliveries(&store, Arc::new(RealDisk), Arc::new(Mutex::new(io::sink())));
        deliveries.replace(&[lake(folder)]).unwrap();
        deliveries.resume().await.map_err(|error| error.to_string())?;
        while acknowledged.len() < POLLS {
            let next = acknowledged.len();
            let polls: Vec<PollRecord> = (next..POLLS.min(next + 2)).map(poll).collect();
            if care == Care::EarlyAcknowledgement {
                acknowledged.extend(polls.iter().map(|_| recording.len()));
            }
            let commits = polls.iter().map(|poll| store.commit(Arc::new(poll.clone())));
            for result in futures_util::future::join_all(commits).await {
                result.map_err(|error| error.to_string())?;
            }
            if care != Care::EarlyAcknowledgement {
                acknowledged.extend(polls.iter().map(|_| recording.len()));
            }
            for poll in &polls {
                deliveries.queued(&poll.sinks, "contoso", "prod", &poll.events);
            }
            deliveries.rest().await;
        }
        deliveries.rest().await;
        store.close().await.map_err(|error| error.to_string())?;
        Ok(acknowledged)
    })
}

fn lake(folder: &Path) -> SinkConfig {
    let path = Template::new(EVENTS).unwrap().under(folder);
    SinkConfig {
        id: "lake".to_owned(),
        kind: SinkKind::File(FileConfig { path, rotate_bytes: 700, rotate_every: None, keep_files: None }),
        max_outbox_bytes: limits::OUTBOX_BYTES,
        dead_letters: folder.join("dead.ndjson"),
        min_free_bytes: None,
        keep_delivered: None,
    }
}

/// Returns a poll, of each scope in turn. Its number is in each part of it.
fn poll(number: usize) -> PollRecord {
    let (scope, turn) = (SCOPES[number % SCOPES.len()], number / SCOPES.len());
    let bodies = bodies(scope, turn * EVENTS_OF_POLL..(turn + 1) * EVENTS_OF_POLL);
    let (kind, subject, title) = ("score".to_owned(), "score".to_owned(), "Score".to_owned());
    let measure = Measure { kind, subject, title, value: number as f64, maximum: 100.0, weight: 1.0 };
    let mut record = record("contoso", "prod", scope, &["lake"], &bodies);
    record.row.standing.due = number as u64;
    PollRecord { state: Some(vec![number as u8; 3_000]), time: number as u64, measures: vec![measure], ..record }
}

/// Returns the number of polls that the store has.
async fn committed(store: &SharedStore) -> Result<usize, String> {
    let rows = store.scopes(&[Lease::SOLE]).await.map_err(|error| error.to_string())?;
    Ok(rows.iter().map(|row| row.standing.due as usize + 1).max().unwrap_or_default())
}

/// Opens the store as a collector does, and checks that it has the acknowledged polls, and each poll whole or not at all.
fn checked(folder: &Path, acknowledged: usize) -> Result<(), String> {
    let file = folder.join("collector.db");
    let mut store = SqliteStore::open(&file).map_err(|error| error.to_string())?;
    let rows = store.scopes().map_err(|error| error.to_string())?;
    let dues: HashMap<&str, usize> =
        rows.iter().map(|row| (row.scope.id.as_str(), row.standing.due as usize)).collect();
    let polls = dues.values().max().map_or(0, |last| last + 1);
    if polls < acknowledged {
        return Err(format!("{polls} polls, {acknowledged} were acknowledged"));
    }
    for (place, scope) in SCOPES.iter().enumerate() {
        let last = (0..polls).rfind(|number| number % SCOPES.len() == place);
        let state = store.state("contoso", "prod", scope).map_err(|error| error.to_string())?;
        if dues.get(scope).copied() != last || state != last.and_then(|last| poll(last).state) {
            return Err(format!("{scope} is not as poll {last:?} of {polls} left it"));
        }
    }
    let reader = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let text = |sql: &str| reader.query_row(sql, [], |row| row.get::<_, String>(0)).map_err(|error| error.to_string());
    let integrity = text("PRAGMA integrity_check")?;
    let figures = text("SELECT group_concat(CAST(value AS INTEGER)) FROM (SELECT value FROM history ORDER BY time)");
    let expected = (0..polls).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    if integrity != "ok" || figures.unwrap_or_default() != expected {
        return Err(format!("integrity: {integrity}, expected the figures {expected}"));
    }
    let sums = "SELECT CAST(total(bytes) AS TEXT) FROM";
    let rows = "(SELECT bytes FROM scope UNION ALL SELECT bytes FROM state UNION ALL SELECT bytes FROM history)";
    let (kept, counted) = (text(&format!("{sums} kept"))?, text(&format!("{sums} {rows}"))?);
    if kept != counted {
        return Err(format!("{kept} bytes are kept by the sums, {counted} by the rows"));
    }
    let mut waiting = reader.prepare("SELECT body FROM outbox ORDER BY number").unwrap();
    let waiting = waiting.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let polls: Vec<PollRecord> = (0..polls).map(poll).collect();
    let queued: Vec<&Vec<u8>> = polls.iter().flat_map(|poll| poll.events.iter().map(|event| &event.body)).collect();
    let waiting: Vec<Vec<u8>> = waiting.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    // Events leave the outbox from its beginning.
    match queued.ends_with(&waiting.iter().collect::<Vec<_>>()) {
        true => Ok(()),
        false => Err("the outbox is not the end of the committed events".to_owned()),
    }
}

/// Returns the fault of the files in the end: a missing, reordered or changed event, or an incomplete line. A second
/// identical line is a repetition, because the line contains the uid.
fn events(folder: &Path) -> Result<(), String> {
    let number = |path: &Path| path.extension().and_then(|end| end.to_str()?.parse().ok()).unwrap_or(u64::MAX);
    let mut files: Vec<_> = fs::read_dir(folder.join("out")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort_unstable_by_key(|path| number(path));
    let text: Vec<u8> = files.iter().flat_map(|file| fs::read(file).unwrap()).collect();
    if text.last().is_some_and(|last| *last != b'\n') {
        return Err("a half line at the end".to_owned());
    }
    let expected = POLLS / SCOPES.len() * EVENTS_OF_POLL;
    let lines = |scope| bodies(scope, 0..expected).into_iter().enumerate();
    let placed: HashMap<String, (&str, usize)> =
        SCOPES.into_iter().flat_map(|scope| lines(scope).map(move |(index, line)| (line, (scope, index)))).collect();
    let mut found: HashMap<&str, usize> = HashMap::new();
    for line in String::from_utf8_lossy(&text).lines() {
        let (scope, index) = placed.get(line).ok_or_else(|| format!("not an event: {line:?}"))?;
        let next = found.entry(scope).or_default();
        if index > next {
            return Err(format!("number {index} of {scope} where {next} should be"));
        }
        *next = (*next).max(index + 1);
    }
    let missing = SCOPES.into_iter().find(|scope| found.get(scope) != Some(&expected));
    missing.map_or(Ok(()), |scope| Err(format!("{:?} of {expected} events of {scope}", found.get(scope))))
}
