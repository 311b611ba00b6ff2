//! Shares that one plugin takes from the others over many polls, each within the limits of a call: a collector runs a
//! hostile feed and a good one beside it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use source_host::contract::Failure;
use source_host::failures;
use source_host::network::Transport;
use tempfile::TempDir;

use crate::hostile::{Service, hostile_bytes};
use crate::mode::Mode;
use crate::security::Table;
use crate::stage::{Secrets, Stage};
use crate::support::NOON;

const HOUR: u64 = 3_600_000;

/// What a mode takes, and how that ends.
struct Share {
    mode: Mode,
    tries: &'static str,
    ends: &'static str,
}

/// Every mode that takes a share; each has its test below.
const SHARES: &[Share] = &[Share {
    mode: Mode::FiguresFresh,
    tries: "gives figures of other subjects at each poll",
    ends: "failure `state-full`, nothing of the poll is kept",
}];

/// The modes that are tried here.
pub fn modes() -> impl Iterator<Item = Mode> {
    SHARES.iter().map(|share| share.mode)
}

/// For SECURITY.md.
pub fn table() -> Table {
    let row = |Share { mode, tries, ends }: &Share| vec![mode.to_string(), (*tries).to_owned(), (*ends).to_owned()];
    Table {
        title: "Shares that a plugin takes from others",
        how: "`tests/shares.rs`: each is a mode of `tests/hostile/` that keeps the limits of a call; a collector polls it again and again, and a good feed of another tenant beside it.",
        columns: &["mode", "it tries", "how that ends"],
        rows: SHARES.iter().map(row).collect(),
    }
}

/// A folder with the hostile plugin in it, whose clock begins at noon.
struct Scene {
    folder: TempDir,
    now: Arc<AtomicU64>,
}

impl Scene {
    fn new() -> Scene {
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

    async fn start(&self, text: &str) -> Stage {
        let transport = Arc::new(Service::default()) as Arc<dyn Transport>;
        Stage::start(&self.file(), text, &secrets(), &self.now, transport).await
    }
}

fn secrets() -> Secrets {
    [("KEY".to_owned(), "the-key-of-this-tenant".to_owned())].into()
}

/// A configuration with a feed in this mode, and a good one.
fn configuration(collector: &str, mode: Mode, amount: u32, of_feed: &str) -> String {
    let feed = |tenant: &str, mode: Mode, more: &str| {
        format!(
            "[[feed]]\nid = \"{tenant}-items\"\ntenant = \"{tenant}\"\nplugin = \"hostile.wasm\"\n{more}\n\
             [feed.settings]\nmode = \"{mode}\"\namount = {amount}\nkey = {{ env = \"KEY\" }}\n"
        )
    };
    let (mallory, alice) = (feed("mallory", mode, of_feed), feed("alice", Mode::Good, "interval = \"1h\""));
    format!("[collector]\n{collector}\n[network]\nallow = [\"https://api.example\"]\n{mallory}{alice}")
}

/// Why a feed has no data now.
fn failure(stage: &Stage, feed: &str) -> Option<Failure> {
    stage.collector.snapshot(100).rows.into_iter().find(|row| row.feed == feed)?.failure
}

fn of_feed(stage: &Stage, family: &str, tenant: &str) -> f64 {
    stage.metric(&format!("{family}{{tenant=\"{tenant}\",feed=\"{tenant}-items\"}}")).unwrap()
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
        // After a start the figure is there at once; and with more room the feed goes on.
        drop(stage);
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
