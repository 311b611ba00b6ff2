//! The admission of feeds: a slow or broken plugin delays and harms only its own feeds.

use std::fs;
use std::sync::Arc;

use host_harness::config;
use host_harness::config::admission::{Admission, Checked, Faults, Late};
use tempfile::TempDir;

use crate::security::Table;
use crate::support::hostile::{hostile, hostile_bytes};
use crate::support::{host, noon};

/// A plugin that is slow or broken before its feeds run.
struct Debt {
    /// The behaviour of `describe`, as a text in the component.
    describes: &'static str,
    mode: &'static str,
    tries: &'static str,
    /// Words of the refusal.
    ends: &'static str,
    /// The message that the plugin logs with each attempt.
    says: &'static str,
}

/// Those that end at once; `tests/tricks/cases.rs` has those that take their time.
const DEBTS: &[Debt] = &[
    Debt {
        describes: "describes after a timer.......",
        mode: "",
        tries: "waits in `describe`",
        ends: "the plugin crashed in describe: it set a timer",
        says: "describes",
    },
    Debt {
        describes: GOOD,
        mode: "timer-in-prepare",
        tries: "waits in `prepare`",
        ends: "the plugin crashed in prepare: it set a timer",
        says: "prepares",
    },
];

/// The text in the component as built.
const GOOD: &str = "describes as good plugins do..";

/// The table in SECURITY.md.
pub fn table() -> Table {
    let others = [
        ["loops in `describe` or `prepare`, or waits there", "failure: … its limit on … time … after 5 s at most"],
        ["takes a minute to compile", "its own feeds join later; a start or a reload waits for them 2 s at most"],
    ];
    let row = |debt: &Debt| [debt.tries.to_owned(), format!("failure: … {} …", debt.ends)].into();
    Table {
        title: "A plugin that is slow or broken before its feeds run",
        how: "`tests/admission.rs` and `tests/run/plugins.rs` configure eight feeds of the plugin. They cost one try for each component and settings, and a reload costs none. The feeds of other plugins are collected meanwhile.",
        columns: &["the plugin", "result"],
        rows: DEBTS.iter().map(row).chain(others.map(|row| row.map(str::to_owned).into())).collect(),
    }
}

#[tokio::test]
async fn eight_feeds_of_one_bad_plugin_cost_one_try_and_a_reload_none() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let writer = Arc::new(log.reopen().unwrap());
    let subscriber = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).finish();
    // Feeds are judged on the test's thread.
    let _guard = tracing::subscriber::set_default(subscriber);
    for debt in DEBTS {
        let tries = || {
            let said = fs::read_to_string(log.path()).unwrap();
            said.matches(&format!("words=\"{}\"", debt.says)).count()
        };
        let scene = Scene::new(debt.mode);
        scene.write(&describing(debt.describes));
        for _ in 0..2 {
            let checked = scene.begin().await.all().await.unwrap();
            assert_eq!(checked.feeds.iter().map(|feed| &*feed.id).collect::<Vec<_>>(), ["good"]);
            let told = left_out(&checked);
            assert!(told.len() == 8 && told.iter().all(|words| words.contains(debt.ends)), "{told:#?}");
            assert_eq!(tries(), 1, "{}", debt.tries);
        }
        // The same plugin with other bytes is tried again.
        let changed = describing(debt.describes).into_iter().chain(*b"\0\x03\x01x!").collect::<Vec<u8>>();
        scene.write(&changed);
        assert_eq!(left_out(&scene.begin().await.all().await.unwrap()).len(), 8);
        assert_eq!(tries(), 2, "{}", debt.tries);
        scene.write(hostile_bytes());
        let good = scene.begin().await.all().await.unwrap().feeds.len();
        assert_eq!(good, if debt.mode.is_empty() { 9 } else { 1 }, "{}", debt.tries);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_feed_is_there_before_a_plugin_that_loops_is_given_up() {
    // A plugin that was compiled before is ready at once.
    let (_, scene) = (hostile(), Scene::new(""));
    scene.write(&describing("describes without an end......"));
    let mut admission = scene.begin().await;
    let checked = admission.first(true).await.unwrap();
    assert_eq!((checked.feeds.len(), checked.left_out.len()), (1, 0));
    assert_eq!(admission.waiting().count(), 8);
    let mut count = 0;
    while let Some(late) = admission.late().await {
        let Late::Out(out) = late else { panic!("it was taken") };
        let words = out.messages().collect::<String>();
        assert!(
            words.contains("the plugin exceeded its limit on ") && words.contains(" time in describe, "),
            "{words}"
        );
        assert!(out.files.iter().any(|file| file.path.extension().is_some_and(|end| end == "wasm")), "it may change");
        count += 1;
    }
    assert_eq!((count, admission.waiting().count()), (8, 0));
}

/// Returns the hostile plugin with another `describe`.
fn describing(words: &str) -> Vec<u8> {
    let mut bytes = hostile_bytes().to_vec();
    let at = bytes.windows(GOOD.len()).position(|part| part == GOOD.as_bytes()).unwrap();
    bytes[at..at + words.len()].copy_from_slice(words.as_bytes());
    bytes
}

/// A folder with a configuration: a good feed, and eight feeds of a bad plugin, which is in two files.
struct Scene {
    folder: TempDir,
    faults: Faults,
}

impl Scene {
    fn new(mode: &str) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("good.wasm"), hostile_bytes()).unwrap();
        let feed = |id: &str, plugin: &str, mode: &str| {
            format!(
                "[[feed]]\nid = \"{id}\"\ntenant = \"{id}\"\nplugin = \"{plugin}.wasm\"\n\
                 [feed.settings]\nmode = \"{mode}\"\nkey = {{ file = \"{id}.key\" }}\n"
            )
        };
        let mut text = String::new();
        for index in 0..8 {
            let id = format!("bad-{index}");
            fs::write(folder.path().join(format!("{id}.key")), format!("the-key-of-{id}")).unwrap();
            text += &feed(&id, if index % 2 == 0 { "bad" } else { "worse" }, mode);
        }
        fs::write(folder.path().join("good.key"), "the-key-of-good").unwrap();
        fs::write(folder.path().join("collector.toml"), text + &feed("good", "good", "")).unwrap();
        Scene { folder, faults: Faults::default() }
    }

    fn write(&self, bytes: &[u8]) {
        for name in ["bad.wasm", "worse.wasm"] {
            fs::write(self.folder.path().join(name), bytes).unwrap();
        }
    }

    async fn begin(&self) -> Admission {
        let config = config::load(&self.folder.path().join("collector.toml"), None, &|_| None);
        Admission::begin(&host(), config, None, &noon(), &self.faults).await.unwrap()
    }
}

/// Returns the feeds that are left out, with their reasons.
fn left_out(checked: &Checked) -> Vec<String> {
    checked.left_out.iter().map(|out| out.problems[0].to_string()).collect()
}
