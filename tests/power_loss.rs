//! A power cut at every step of a delivery to a file: everything that was committed is in the file in the end, and a
//! disk that only claims to sync is detected.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use host_harness::limits;
use host_harness::sink::delivery::Deliveries;
use host_harness::sink::{FileConfig, SinkConfig, SinkKind, Template};
use host_harness::store::SharedStore;
use parking_lot::Mutex;

use crate::support::deliveries::{bodies, deliveries, record, store};
use crate::support::forgetful_disk::{Mounted, Platter, Rest, Sync};

#[test]
fn a_loss_of_power_at_any_moment_loses_no_event() {
    for rest in [Rest::Nothing, Rest::Torn, Rest::All] {
        assert_eq!(faults(Sync::Honest, rest, None), Vec::<String>::new());
    }
}

#[test]
fn a_second_loss_of_power_while_a_half_line_is_cut_loses_no_event() {
    for again in [4, 5] {
        assert_eq!(faults(Sync::Honest, Rest::Torn, Some(again)), Vec::<String>::new());
    }
}

#[test]
fn a_disk_that_only_says_that_it_synced_is_found_out() {
    let faults = faults(Sync::Nothing, Rest::Nothing, None);
    assert!(!faults.is_empty());
}

/// Returns the faults after a power cut at each operation, followed by another one soon after the restart, if given.
fn faults(sync: Sync, rest: Rest, again: Option<usize>) -> Vec<String> {
    let mut faults = Vec::new();
    for operations in 0.. {
        let losses: Vec<usize> = [operations].into_iter().chain(again).collect();
        let (fault, was_lost) = lives(sync, rest, &losses);
        if !was_lost {
            assert!(operations > 100, "only {operations} operations: the test sees too little");
            break;
        }
        faults.extend(fault.map(|fault| format!("{rest:?}, power lost after {losses:?}: {fault}")));
    }
    faults
}

/// Cuts the power after each of these numbers of operations in turn. Returns the fault in the end, and whether the
/// power was ever cut.
fn lives(sync: Sync, rest: Rest, operations: &[usize]) -> (Option<String>, bool) {
    let (store, platter) = (store(), Arc::new(Mutex::new(Platter::new(sync))));
    let (mut next, mut was_lost) = (0, false);
    for operations in operations.iter().copied().chain([usize::MAX]) {
        let disk = Mounted::new(&platter, operations);
        if live(&store, &disk, &mut next) {
            break;
        }
        was_lost = true;
        platter.lock().lose_power(rest);
    }
    let fault = fault(&platter.lock());
    (fault, was_lost)
}

const PATH: &str = "/lake/findings.ndjson";
const SCOPES: [&str; 3] = ["one", "two", "three"];
const POLLS: usize = 24;
const EVENTS_OF_POLL: usize = 10;

/// One life of a collector: it delivers the remaining events, commits polls from `next` on, and delivers them in pairs.
/// Returns whether everything was done before the power cut.
fn live(store: &SharedStore, disk: &Mounted, next: &mut usize) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The runtime ends with this function, and all work in progress with it.
    runtime.block_on(async {
        let life = async {
            let (deliveries, _) = deliveries(store, Arc::new(disk.clone()), Arc::new(Mutex::new(io::sink())));
            let path = Template::new(PATH).unwrap();
            let file = FileConfig { path, rotate_bytes: 1_200, rotate_every: None, keep_files: None };
            let lake = SinkConfig {
                id: "lake".to_owned(),
                kind: SinkKind::File(file),
                max_outbox_bytes: limits::OUTBOX_BYTES,
                dead_letters: "/dead.ndjson".into(),
                min_free_bytes: None,
                keep_delivered: None,
            };
            deliveries.replace(&[lake]).unwrap();
            deliveries.resume().await.unwrap();
            while *next < POLLS {
                for _ in 0..(POLLS - *next).min(2) {
                    commit(store, &deliveries, *next).await;
                    *next += 1;
                }
                deliveries.rest().await;
            }
            deliveries.rest().await;
        };
        tokio::select! {
            biased;
            () = disk.went_off.notified() => false,
            () = life => true,
        }
    })
}

async fn commit(store: &SharedStore, deliveries: &Deliveries, number: usize) {
    let (scope, bodies) = poll(number);
    let record = record("contoso", "prod", scope, &["lake"], &bodies);
    let written = record.clone();
    store.commit(Arc::new(written)).await.unwrap();
    deliveries.queued(&record.sinks, "contoso", "prod", &record.events);
}

/// Returns the scope of a poll, each in turn, and its bodies.
fn poll(number: usize) -> (&'static str, Vec<String>) {
    let (scope, turn) = (SCOPES[number % SCOPES.len()], number / SCOPES.len());
    (scope, bodies(scope, turn * EVENTS_OF_POLL..(turn + 1) * EVENTS_OF_POLL))
}

/// Returns the fault of the files: a missing, reordered or changed event, or an incomplete line. A second identical
/// line is a repetition, because the line contains the uid.
fn fault(platter: &Platter) -> Option<String> {
    let number = |path: &Path| path.extension()?.to_str()?.parse::<u64>().ok();
    let mut files: Vec<(u64, usize)> =
        platter.names.iter().map(|(path, file)| (number(path).unwrap_or(u64::MAX), *file)).collect();
    files.sort_unstable();
    let text: Vec<u8> = files.iter().flat_map(|(_, file)| platter.files[*file].bytes.clone()).collect();
    if text.last().is_some_and(|last| *last != b'\n') {
        return Some("a half line at the end".to_owned());
    }
    let mut found: HashMap<&str, usize> = HashMap::new();
    for line in String::from_utf8(text).unwrap().lines() {
        let Some((scope, index)) = committed().get(line) else { return Some(format!("not an event: {line}")) };
        let next = found.entry(scope).or_default();
        if *index > *next {
            return Some(format!("number {index} of {scope} where {next} should be"));
        }
        *next = (*next).max(index + 1);
    }
    let expected = POLLS / SCOPES.len() * EVENTS_OF_POLL;
    let missing = |scope: &&str| found.get(scope).copied().unwrap_or_default() != expected;
    SCOPES.into_iter().find(missing).map(|scope| format!("{:?} of {expected} events of {scope}", found.get(scope)))
}

/// Returns every event by its line, with its scope and its place there.
fn committed() -> &'static HashMap<String, (&'static str, usize)> {
    static COMMITTED: OnceLock<HashMap<String, (&'static str, usize)>> = OnceLock::new();
    let lines = |scope| bodies(scope, 0..POLLS / SCOPES.len() * EVENTS_OF_POLL).into_iter().enumerate();
    let placed = |scope| lines(scope).map(move |(index, line)| (line, (scope, index)));
    COMMITTED.get_or_init(|| SCOPES.into_iter().flat_map(placed).collect())
}
