//! The contract's rules on the project's own plugin, which follows them, and on the hostile plugin, each of whose modes
//! is detected by the rule in its row.

use host_harness::audit::conformance::{ConformanceReport, RULES, Verdict, examine};
use host_harness::audit::duties::{DUTIES, PROBE};
use host_harness::built_in;
use host_harness::recording::cassette::{self, Cassette};
use host_harness::recording::replay;
use serde_json::{Value, json};
use source_host::limits::Limits;
use source_host::plugin::Plugin;

use crate::mode::Mode;
use crate::support::hostile::{hostile_bytes, limits_for, short};
use crate::support::{NOON, host, root};
use crate::tricks::cases::CASES;

#[test]
fn the_duties_of_a_host_are_those_of_the_page_on_embedding() {
    let page = std::fs::read_to_string(root().join("docs/embedding.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("`: ")).map(|(name, _)| name);
    let duties: Vec<&str> = DUTIES.iter().map(|duty| duty.name).collect();
    assert_eq!(rows.collect::<Vec<_>>(), duties);
}

#[tokio::test]
async fn the_probe_is_a_plugin_that_this_host_takes() {
    let probe = Plugin::from_bytes(&host(), PROBE).unwrap();
    assert_eq!(probe.description().await.unwrap().name, "conformance-probe");
    assert!(PROBE.len() < 512 << 10, "{} bytes", PROBE.len());
}

fn recorded(name: &str) -> Cassette {
    replay::read(&root().join(format!("tests/cassettes/{name}.json"))).unwrap()
}

/// Makes a recording for the hostile plugin in one of its modes.
fn cassette(mode: Mode, amount: u32) -> Cassette {
    let exchange = |method: &str, path: &str, body: Value| {
        let url = format!("https://api.example{path}");
        json!({ "request": { "method": method, "url": url }, "response": { "status": 200, "json": body } })
    };
    let cassette = json!({
        "docs": "Two pages.",
        "version": cassette::VERSION,
        "settings": { "mode": mode.word(), "amount": amount, "key": "KEY-OF-TESTS" },
        "context": { "feed": "items", "tenant": "mallory", "time_milliseconds": NOON },
        "exchanges": [
            exchange("POST", "/token", json!({ "access_token": "TOKEN-OF-TESTS", "expires_in": 3_600 })),
            exchange("GET", "/data/1", json!({ "page": 1 })),
            exchange("GET", "/data/2", json!({ "page": 2 })),
        ],
    });
    // Raw JSON is read from text only.
    serde_json::from_str(&cassette.to_string()).unwrap()
}

async fn own(cassettes: &[Cassette]) -> ConformanceReport {
    examine(&host(), built_in::COMPONENT, cassettes, &Limits::default()).await
}

#[tokio::test]
async fn the_projects_own_plugin_keeps_every_rule() {
    for name in ["two-pages", "forbidden"] {
        let report = own(&[recorded(name)]).await;
        assert!(report.ok, "{name}:\n{}", report.table());
    }
    let report = own(&[recorded("two-pages")]).await;
    assert!(report.rules.iter().all(|row| row.status == Verdict::Passed), "{}", report.table());
}

#[tokio::test]
async fn without_a_cassette_what_needs_one_is_not_run() {
    let report = own(&[]).await;
    let not_run = report.rules.iter().filter(|row| row.status == Verdict::NotRun).map(|row| row.rule);
    assert_eq!(
        not_run.collect::<Vec<_>>(),
        ["shapes", "poll", "cursors", "failures", "normalize", "purity", "state"],
        "{}",
        report.table()
    );
    assert!(report.ok && report.table().contains("it needs a cassette"));
}

#[tokio::test]
async fn every_mode_of_the_hostile_plugin_is_found_out_by_its_rule() {
    let mut otherwise = Vec::new();
    let good = examine(&host(), hostile_bytes(), &[cassette(Mode::Good, 0)], &short()).await;
    assert!(good.ok && good.rules.iter().all(|row| row.status == Verdict::Passed), "{}", good.table());
    for case in CASES {
        let report =
            examine(&host(), hostile_bytes(), &[cassette(case.mode, case.amount)], &limits_for(case.mode)).await;
        let failed = report.failed();
        let as_told = case.rule.map_or(failed.is_empty(), |rule| failed.contains(&rule));
        assert_eq!(report.ok, failed.is_empty());
        if !as_told {
            otherwise.push(format!("{}: expected {:?}, found {failed:?}", case.mode, case.rule));
        }
    }
    assert!(otherwise.is_empty(), "{otherwise:#?}");
    let rules: Vec<_> = CASES.iter().filter_map(|case| case.rule).collect();
    let never: Vec<_> = RULES.iter().filter(|(rule, _)| !rules.contains(rule)).map(|(rule, _)| *rule).collect();
    // Two rules need another component; the third cannot be broken here, where a pure call has neither clock nor
    // randomness.
    assert_eq!(never, ["component", "describe", "purity"]);
}

#[tokio::test]
async fn a_foreign_component_fails_and_nothing_else_is_run() {
    let bytes = wat::parse_str("(component (import \"wasi:sockets/tcp@0.2.0\" (instance)))").unwrap();
    let report = examine(&host(), &bytes, &[cassette(Mode::Good, 0)], &short()).await;
    assert_eq!(report.failed(), ["component"]);
    assert!(report.rules[1..].iter().all(|row| row.status == Verdict::NotRun));
    assert!(report.table().contains("which is not among the allowed imports"), "{}", report.table());
}
