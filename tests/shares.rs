//! Resources that one plugin takes from others over many polls, each within the limits of a call: a collector runs a
//! hostile feed and a good one beside it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use host_harness::limits::UNPOLLED_SCOPES;
use host_harness::overview::{Extent, Query};
use host_harness::store::shards::Lease;
use host_harness::store::sqlite::SqliteStore;
use host_harness::store::{Polling, ScopeRow, Standing};
use source_host::contract::{Failure, Scope};
use source_host::credentials::redact::take_steps;
use source_host::failures;
use source_host::limits::Limits;
use source_host::network::Transport;
use tempfile::TempDir;

use crate::mode::Mode;
use crate::security::Table;
use crate::support::NOON;
use crate::support::hostile::{Service, Silent, attempt, hostile_bytes, polled};
use crate::support::stage::{Secrets, Stage};

const HOUR: u64 = 3_600_000;

/// A mode, the resource that it takes, and the end of the attempt.
struct Share {
    /// The mode; `None` if every mode takes the resource.
    mode: Option<Mode>,
    tries: &'static str,
    ends: &'static str,
}

/// Every mode that takes a share of a resource; each has its test below.
const SHARES: &[Share] = &[
    Share {
        mode: Some(Mode::FiguresFresh),
        tries: "gives figures of other subjects at each poll",
        ends: "failure `state-full`; the state keeps nothing of the poll",
    },
    Share {
        mode: Some(Mode::FiguresFresh),
        tries: "keeps more and more while the disk of the state is nearly full",
        ends: "failure `space-low` beyond its share of `min_free_bytes`; other feeds continue",
    },
    Share {
        mode: Some(Mode::ScopesFresh),
        tries: "finds other scopes at each search",
        ends: "the state keeps the last 1000 of the lost scopes, for 90 days",
    },
    Share {
        mode: Some(Mode::PagesSlow),
        tries: "reads page after page, and waits at each as long as it may",
        ends: "failure `poll-time-limit`; the place is free for other polls",
    },
    Share {
        mode: Some(Mode::LogLines),
        tries: "writes as many lines to the log as a call may, again and again",
        ends: "lines beyond `max_log_bytes_per_minute` are dropped and counted; one line a minute says how many",
    },
    Share {
        mode: Some(Mode::NoticesEscapes),
        tries: "warns a thousand times a poll, in words that take long to search for secrets",
        ends: "words beyond `max_log_bytes_per_minute` are dropped unread; the others are searched beside the loop",
    },
    Share {
        mode: Some(Mode::ScopesFailing),
        tries: "has many scopes, and a failure of long words for each",
        ends: "the status page searches only the words that it shows, beside the loop",
    },
    Share {
        mode: None,
        tries: "proposes an interval of a second",
        ends: "it is polled once a minute, unless the operator's own `interval` is shorter",
    },
];

/// Returns the modes that are tried here.
pub fn modes() -> impl Iterator<Item = Mode> {
    SHARES.iter().filter_map(|share| share.mode)
}

/// The table in SECURITY.md.
pub fn table() -> Table {
    let row = |Share { mode, tries, ends }: &Share| {
        let mode = mode.map_or_else(|| "any".to_owned(), |mode| mode.to_string());
        vec![mode, (*tries).to_owned(), (*ends).to_owned()]
    };
    Table {
        title: "A plugin that takes the share of others",
        how: "`tests/shares.rs` runs modes of `tests/hostile/` that keep the limits of a call. A collector polls each again and again, with a good feed of another tenant beside it.",
        columns: &["mode", "the plugin", "result"],
        rows: SHARES.iter().map(row).collect(),
    }
}

#[tokio::test]
async fn what_a_feed_leaves_has_a_budget_and_nothing_of_a_poll_that_passes_it_is_kept() {
    let scene = Scene::new();
    for (key, who) in
        [("max_state_bytes_per_feed", "the feed"), ("max_state_bytes_per_tenant", "the feeds of the tenant")]
    {
        let budget = |bytes: u64| {
            let collector = format!("state = \"{key}.db\"\n{key} = {bytes}");
            configuration(&collector, Mode::FiguresFresh, 1_000, "interval = \"1h\"")
        };
        let mut stage = scene.start(&budget(500_000)).await;
        stage.run_until(scene.later(8)).await;
        let failed = failure(&stage, "mallory-items").unwrap();
        assert_eq!(failed.code, failures::STATE_FULL.code);
        assert!(failed.cause.starts_with(&format!("{who} would keep ")), "{}", failed.cause);
        assert!(failed.cause.contains(&format!("the limit of 500000 bytes ({key})")), "{}", failed.cause);
        let kept = of_feed(&stage, "collector_state_bytes", "mallory");
        assert!((300_000.0..=500_000.0).contains(&kept), "{kept}");
        assert!(failure(&stage, "alice-items").is_none() && stage.collector.health().is_ok());
        let polls = stage.metric("collector_polls_total{tenant=\"alice\",feed=\"alice-items\",outcome=\"collected\"}");
        assert!(polls.unwrap() >= 7.0, "{polls:?}");
        let refused = "collector_polls_total{tenant=\"mallory\",feed=\"mallory-items\",outcome=\"state-unusable\"}";
        assert!(stage.metric(refused).unwrap() >= 2.0, "others count its failures");

        stage.told().await;
        // After a start, the figure exists at once; with more space, the feed continues.
        stage.end().await;
        let mut stage = scene.start(&budget(500_000)).await;
        assert_eq!(of_feed(&stage, "collector_state_bytes", "mallory"), kept);
        stage.run_until(scene.later(2)).await;
        assert_eq!(of_feed(&stage, "collector_state_bytes", "mallory"), kept);
        stage.reload(&scene.file(), &budget(50_000_000), &secrets(), true).await;
        stage.run_until(scene.later(0) + 60_000).await;
        assert!(failure(&stage, "mallory-items").is_none());
        assert!(of_feed(&stage, "collector_state_bytes", "mallory") > kept);
    }
}

#[tokio::test]
async fn while_the_disk_is_nearly_full_a_feed_that_keeps_much_keeps_no_more_and_others_go_on() {
    let scene = Scene::new();
    let text = configuration("min_free_bytes = 500000", Mode::FiguresFresh, 1_000, "interval = \"1h\"");
    let mut stage = scene.start(&text).await;
    stage.run_until(scene.later(4)).await;
    assert!(failure(&stage, "mallory-items").is_none() && stage.collector.snapshot(9).notes.is_empty());
    let kept = of_feed(&stage, "collector_state_bytes", "mallory");
    assert!(kept > 250_000.0, "{kept}");
    let polls = "collector_polls_total{tenant=\"alice\",feed=\"alice-items\",outcome=\"collected\"}";
    let before = stage.metric(polls).unwrap();

    stage.free.store(400_000, Ordering::SeqCst);
    stage.run_until(scene.later(4)).await;
    let failed = failure(&stage, "mallory-items").unwrap();
    assert_eq!((&*failed.code, failed.blame().word()), (failures::SPACE_LOW.code, "operator"));
    assert!(failed.cause.contains("more than its share of 250000 bytes"), "{}", failed.cause);
    assert_eq!(of_feed(&stage, "collector_state_bytes", "mallory"), kept);
    assert!(failure(&stage, "alice-items").is_none() && stage.collector.health().is_ok());
    assert!(stage.metric(polls).unwrap() >= before + 3.0);
    assert_eq!(stage.metric("collector_state_free_bytes").map(|bytes| bytes < 500_000.0), Some(true));
    let notes = stage.collector.snapshot(9).notes;
    assert!(notes[0].contains("less than 500000 (min_free_bytes)"), "{notes:?}");

    stage.free.store(1 << 40, Ordering::SeqCst);
    stage.run_until(scene.later(12)).await;
    assert!(failure(&stage, "mallory-items").is_none() && stage.collector.snapshot(9).notes.is_empty());
    assert!(of_feed(&stage, "collector_state_bytes", "mallory") > kept);
}

#[tokio::test]
async fn a_poll_and_a_search_have_a_time_in_all() {
    let limits = Limits { poll_time: Duration::from_secs(1), ..Limits::default() };
    // Each step waits for a tenth of a second, and a poll may have a hundred steps.
    let words = polled(Mode::PagesSlow, 100, limits.clone(), 0).await.0.unwrap_err();
    assert!(words.contains("the poll takes longer than the limit of 1 s (poll-time-limit, service)"), "{words}");
    let words = attempt(Mode::Good, 0, limits, Arc::new(Silent)).await.unwrap_err();
    assert!(words.contains("the search for scopes takes longer than the limit of 1 s (poll-time-limit"), "{words}");
}

#[tokio::test]
async fn a_plugin_proposes_no_shorter_interval_than_a_minute_and_an_operator_may_write_one() {
    for (interval, polls) in [("", 6.0), ("interval = \"10s\"", 36.0)] {
        let scene = Scene::new();
        let mut stage = scene.start(&configuration("", Mode::Good, 0, interval)).await;
        stage.run_until(NOON + HOUR / 10).await;
        let series = "collector_polls_total{tenant=\"mallory\",feed=\"mallory-items\",outcome=\"collected\"}";
        let counted = stage.metric(series).unwrap();
        assert!((polls - 1.0..=polls + 1.0).contains(&counted), "{interval:?}: {counted}");
    }
}

#[tokio::test]
async fn what_a_feed_writes_to_the_log_has_a_budget_a_minute_and_one_line_says_what_is_missing() {
    let scene = Scene::new();
    let text = configuration("max_log_bytes_per_minute = 5000", Mode::LogLines, 90, "interval = \"10s\"");
    let log = tempfile::NamedTempFile::new().unwrap();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(Arc::new(log.reopen().unwrap())).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut stage = scene.start(&text).await;
    // The first minute began before noon.
    for minute in 0..5 {
        stage.run_until(NOON.next_multiple_of(60_000) + minute * 60_000).await;
        stage.collector.sweep();
    }
    let log = fs::read_to_string(log.path()).unwrap();
    let written = log.lines().filter(|line| line.contains("words=\"line ")).count();
    assert!((5 * 40..=5 * 50).contains(&written), "{written} of 5000 bytes a minute: {log}");
    let told: Vec<&str> = log.lines().filter(|line| line.contains("log lines beyond 5000 bytes a minute")).collect();
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(told.iter().all(|line| line.contains("mallory-items") && line.contains("WARN")), "{told:?}");
    let dropped = of_feed(&stage, "collector_log_lines_dropped_total", "mallory");
    let polls = "collector_polls_total{tenant=\"mallory\",feed=\"mallory-items\",outcome=\"collected\"}";
    // A poll has two steps.
    assert_eq!(dropped, stage.metric(polls).unwrap() * 2.0 * 90.0 - written as f64);
    assert_eq!(of_feed(&stage, "collector_log_lines_dropped_total", "alice"), 0.0);
}

/// Steps of the search in a warning of [`Mode::NoticesEscapes`], at least: each of its 4,000 bytes can be read in three
/// ways, and the second and third take several steps.
const NOTICE_STEPS: usize = 40_000;

#[tokio::test]
async fn warnings_beyond_the_budget_of_the_log_are_not_read() {
    let scene = Scene::new();
    let text = configuration("max_log_bytes_per_minute = 20000", Mode::NoticesEscapes, 1_000, "interval = \"1h\"");
    let mut stage = scene.start(&text).await;
    take_steps();
    stage.run_until(scene.later(1)).await;
    // The loop runs on this thread, and one of the warnings takes more steps.
    let steps = take_steps();
    assert!(steps < NOTICE_STEPS, "the loop searches warnings itself, {steps} steps");
    stage.collector.sweep();
    assert!(failure(&stage, "mallory-items").is_none(), "warnings keep no data back");
    let dropped = of_feed(&stage, "collector_log_lines_dropped_total", "mallory");
    // A poll logs four lines of 4,000 bytes; an hourly poll may follow the first one within its minute.
    assert!((995.0..=2_000.0).contains(&dropped), "{dropped}");
}

#[tokio::test]
async fn a_status_shows_as_many_scopes_as_it_may_and_counts_all() {
    let scene = Scene::new();
    let mut stage = scene.start(&configuration("", Mode::ScopesFailing, 30, "interval = \"1h\"")).await;
    stage.run_until(scene.later(2)).await;
    take_steps();
    let draft = stage.collector.draft(&Query { view: Extent::Rows(20), ..Query::default() });
    assert_eq!(take_steps(), 0, "the loop searches words itself");
    let snapshot = draft.cleaned();
    assert_eq!((snapshot.feeds, snapshot.scopes, snapshot.failing_scopes, snapshot.total), (2, 31, 30, 31));
    assert_eq!(snapshot.rows.len(), 20);
    assert!(snapshot.rows.iter().all(|row| row.tenant == "mallory" && row.failure.is_some()), "what fails comes first");
    let good = stage.collector.snapshot(100).rows;
    assert_eq!(good.last().map(|row| (row.tenant.as_str(), row.failure.is_none())), Some(("alice", true)));
}

#[tokio::test]
async fn scopes_that_are_gone_are_forgotten_beyond_a_number() {
    let scene = Scene::new();
    let state = scene.folder.path().join("collector.db");
    let rows = (0..UNPOLLED_SCOPES as u64 + 500).map(|index| {
        let scope = Scope { id: format!("earlier-{index}"), name: None, owner: None, plugin_data: String::new() };
        let standing =
            Standing { due: NOON - 10_000_000 + index, since: 1, watch: Polling::Lost, ..Standing::default() };
        ScopeRow { feed: "mallory-items".to_owned(), tenant: "mallory".to_owned(), scope, standing }
    });
    SqliteStore::open(&state).unwrap().keep_scopes(&rows.collect::<Vec<_>>()).unwrap();
    const FRESH: usize = 10;
    let mut stage = scene.start(&configuration("", Mode::ScopesFresh, FRESH as u32, "interval = \"1h\"")).await;
    stage.run_until(NOON + 5 * HOUR).await;
    assert!(failure(&stage, "alice-items").is_none());
    let stored = stage.pipeline.store.scopes(&[Lease::SOLE]).await.unwrap();
    let stored = stored.iter().filter(|row| row.feed == "mallory-items").count();
    // The scopes of the last search are polled; those of the search before were just reported.
    assert!((UNPOLLED_SCOPES..=UNPOLLED_SCOPES + 3 * FRESH).contains(&stored), "{stored}");
}

#[tokio::test]
async fn scopes_that_are_gone_keep_their_age_over_a_start() {
    let scene = Scene::new();
    let state = scene.folder.path().join("collector.db");
    let row = |days: u64| {
        let scope = Scope { id: format!("earlier-{days}"), name: None, owner: None, plugin_data: String::new() };
        let standing =
            Standing { due: NOON - days * 24 * HOUR, since: 1, watch: Polling::Unasked, ..Standing::default() };
        ScopeRow { feed: "mallory-items".to_owned(), tenant: "mallory".to_owned(), scope, standing }
    };
    SqliteStore::open(&state).unwrap().keep_scopes(&[row(80), row(100)]).unwrap();
    let mut stage = scene.start(&configuration("", Mode::ScopesFresh, 1, "interval = \"1h\"")).await;
    stage.run_until(NOON + 2 * HOUR).await;
    let stored = stage.pipeline.store.scopes(&[Lease::SOLE]).await.unwrap();
    let is_there = |id: &str| stored.iter().any(|row| row.scope.id == id);
    assert_eq!((is_there("earlier-80"), is_there("earlier-100")), (true, false));
}

/// A folder with the hostile plugin, and a clock that begins at noon.
pub struct Scene {
    folder: TempDir,
    now: Arc<AtomicU64>,
}

impl Scene {
    pub fn new() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("hostile.wasm"), hostile_bytes()).unwrap();
        Scene { folder, now: Arc::new(AtomicU64::new(NOON)) }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("collector.toml")
    }

    fn later(&self, hours: u64) -> u64 {
        self.now.load(Ordering::SeqCst) + hours * HOUR
    }

    pub async fn start(&self, text: &str) -> Stage {
        let transport = Arc::new(Service::default()) as Arc<dyn Transport>;
        Stage::start(&self.file(), text, &secrets(), &self.now, transport).await
    }
}

fn secrets() -> Secrets {
    [("KEY".to_owned(), "the-key-of-this-tenant".to_owned())].into()
}

/// Returns a configuration with a feed in this mode, and a good one.
pub fn configuration(collector: &str, mode: Mode, amount: u32, of_feed: &str) -> String {
    let feed = |tenant: &str, mode: Mode, more: &str| {
        format!(
            "[[feed]]\nid = \"{tenant}-items\"\ntenant = \"{tenant}\"\nplugin = \"hostile.wasm\"\n{more}\n\
             [feed.settings]\nmode = \"{mode}\"\namount = {amount}\nkey = {{ env = \"KEY\" }}\n"
        )
    };
    let (mallory, alice) = (feed("mallory", mode, of_feed), feed("alice", Mode::Good, "interval = \"1h\""));
    format!("[collector]\n{collector}\n[network]\nallow = [\"https://api.example\"]\n{mallory}{alice}")
}

/// Returns the reason why a feed has no data now.
fn failure(stage: &Stage, feed: &str) -> Option<Failure> {
    stage.collector.snapshot(100).rows.into_iter().find(|row| row.feed == feed)?.failure
}

fn of_feed(stage: &Stage, family: &str, tenant: &str) -> f64 {
    stage.metric(&format!("{family}{{tenant=\"{tenant}\",feed=\"{tenant}-items\"}}")).unwrap()
}
