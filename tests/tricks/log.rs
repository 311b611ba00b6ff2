//! A malicious plugin's words in the log and on the status page.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use host_harness::admitted::tenants::Tenants;
use host_harness::overview::Query;
use host_harness::run::page::Page;
use serde_json::{Value, json};
use source_host::credentials::settings::Settings;
use source_host::network::Transport;
use source_host::network::egress::Origins;
use tracing::instrument::WithSubscriber;

use crate::mode::Mode;
use crate::support::hostile::{KEY, Service, hostile, hostile_bytes};
use crate::support::stage::{Secrets, Stage};
use crate::support::{NOON, noon, unadmitted};

#[tokio::test]
async fn a_denial_that_a_plugin_hides_is_told_once_however_often_its_feed_is_opened() {
    let log = logged(Mode::RequestsDenied, 3).await;
    assert_eq!(
        log.matches("GET https://evil.example/ is not allowed: no declared request matches").count(),
        1,
        "{log}"
    );
    assert!(log.contains("WARN") && log.contains("mallory/mallory-items"), "{log}");
    let log = logged(Mode::HostDenied, 3).await;
    assert!(!log.contains("is not allowed"), "the failure says it: {log}");
}

#[tokio::test]
async fn words_of_a_plugin_are_no_fields_and_no_lines_of_the_log() {
    let said = logged(Mode::WordsForged, 1).await;
    let (told, page) = collected(Mode::WordsForged, false).await;
    for (log, origin) in
        [(&said, "the plugin says"), (&told, "a warning about the data"), (&told, "a scope is not collected")]
    {
        assert!(log.lines().any(|line| line.contains(origin)), "{origin}: {log}");
        for line in log.lines() {
            assert!(line.starts_with("20") && !line.contains(UNSEEN), "{line:?}");
            assert!(!unquoted(line).contains("=other") && !unquoted(line).contains("feed=x"), "{line}");
        }
    }
    assert!(page.contains("tenant=other") && !page.contains(UNSEEN), "{page:?}");
    let (told, _) = collected(Mode::WordsForged, true).await;
    let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_feed = lines.iter().filter(|line| line["scope"].is_string());
    assert!(of_feed.clone().count() >= 2, "{told}");
    for line in of_feed {
        assert_eq!((&line["tenant"], &line["feed"]), (&"mallory".into(), &"items".into()), "{line}");
    }
    assert!(!told.contains(UNSEEN), "{told:?}");
}

/// Opens a feed in the way of a collector, poll after poll, and returns the log.
async fn logged(mode: Mode, polls: usize) -> String {
    let settings = json!({ "mode": mode.word(), "amount": 3, "key": KEY });
    let settings = Settings::new(settings.as_object().unwrap().clone(), Default::default());
    let allowed = Origins::new(["https://api.example"]).unwrap();
    let mut admitted = unadmitted("mallory", hostile(), settings, allowed).await;
    let tenants = Tenants::new(|_| Ok(Arc::new(Service::default()) as Arc<dyn Transport>));
    let log = tempfile::NamedTempFile::new().unwrap();
    let subscriber = tracing_subscriber::fmt().with_writer(Arc::new(log.reopen().unwrap())).with_ansi(false).finish();
    let poll = async {
        for _ in 0..polls {
            let feed = admitted.open(&tenants, &noon()).await.unwrap();
            admitted.keep_plan(&feed.plan().shapes);
            let found = feed.discover().await.unwrap();
            feed.poll(&found.scopes[0], NOON, None).await;
        }
    };
    poll.with_subscriber(subscriber).await;
    std::fs::read_to_string(log.path()).unwrap()
}

/// Returns the log of a collector with one feed of the hostile plugin, and its status page.
async fn collected(mode: Mode, is_json: bool) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hostile.wasm"), hostile_bytes()).unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    let writer = Arc::new(log.reopen().unwrap());
    let format = tracing_subscriber::fmt().with_writer(writer).with_ansi(false);
    let subscriber: tracing::Dispatch = match is_json {
        true => format.json().flatten_event(true).finish().into(),
        false => format.finish().into(),
    };
    let text = format!(
        "[network]\nallow = [\"https://api.example\"]\n[[feed]]\nid = \"items\"\ntenant = \"mallory\"\n\
         plugin = \"hostile.wasm\"\n\
         [feed.settings]\nmode = \"{mode}\"\nkey = \"{KEY}\"\n"
    );
    let collect = async {
        let (file, now) = (folder.path().join("collector.toml"), Arc::new(AtomicU64::new(NOON)));
        let service = Arc::new(Service::default());
        let mut stage = Stage::start(&file, &text, &Secrets::new(), &now, service).await;
        stage.run_until(NOON + 3_600_000).await;
        let summary = stage.collector.summary().unwrap();
        assert!(!unquoted(&summary).contains("tenant="), "{summary}");
        let snapshot = stage.collector.draft(&Query::default()).cleaned();
        Page { snapshot, now: NOON + 3_600_000, ..Page::default() }.text()
    };
    let page = collect.with_subscriber(subscriber).await;
    (std::fs::read_to_string(log.path()).unwrap(), page)
}

/// Removes the quoted strings from a line.
fn unquoted(line: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let is_outside = |one: &char| {
        let was_in_string = in_string;
        in_string ^= *one == '"' && !escaped;
        escaped = was_in_string && *one == '\\' && !escaped;
        !was_in_string
    };
    line.chars().filter(is_outside).collect()
}

const UNSEEN: [char; 4] = ['\u{202e}', '\u{200f}', '\u{200b}', '\r'];
