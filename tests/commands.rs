//! The command line: what programs read, and the exit status.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::OnceLock;

use host_harness::plugin::ALLOWED_IMPORTS;
use serde_json::Value;

use crate::support::{command, leave_for_the_judge, root};

fn run(arguments: &[&str]) -> Output {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("xdg");
    command().args(arguments).env("XDG_CACHE_HOME", cache).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn inspect_tells_programs_what_the_component_is() {
    let output = run(&["inspect", "--json"]);
    let about: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(about["name"], "azure-secure-score");
    assert_eq!(about["sha256"].as_str().unwrap().len(), 64);
    assert!(about["bytes"].as_u64().unwrap() > 0 && about["version"].is_string() && about["exports"].is_array());
    for import in about["imports"].as_array().unwrap() {
        assert!(ALLOWED_IMPORTS.contains(&import.as_str().unwrap().split('@').next().unwrap()), "{import}");
    }
}

/// What the demo says, run once.
pub fn demo() -> &'static Output {
    static DEMO: OnceLock<Output> = OnceLock::new();
    DEMO.get_or_init(|| run(&["demo"]))
}

#[test]
fn the_demo_prints_events_alone_on_standard_output_and_a_table_on_standard_error() {
    let output = demo();
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    let lines: Vec<&[u8]> = output.stdout.split_inclusive(|byte| *byte == b'\n').collect();
    let events: Vec<Value> = lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
    assert!(events.iter().all(|event| event["class_uid"] == 99_402_001));
    leave_for_the_judge("demo", lines.iter().map(|line| line.trim_ascii_end()));
    // Six scores with fourteen controls each, one of which comes later; then a whole subscription, and what changed.
    let of = |activity: u64| events.iter().filter(|event| event["activity_id"] == activity).count();
    assert_eq!((of(1), of(2), of(3), events.len()), (89 + 15 + 2, 9, 1, 116));
    let said = said(output);
    for line in [
        "morning: 89 events of 6 subscriptions",
        "noon: 24 events of 7 subscriptions",
        "evening: 3 events of 7 subscriptions",
        "feed              scope                 score      before      after               change",
        "contoso-scores    contoso production    ASC score  39.48 / 58  29.80 / 58  51.4 %  -9.68",
        "contoso-scores    contoso development   ASC score  35.35 / 58  43.92 / 58  75.7 %  +8.57",
        "fabrikam-scores   fabrikam production   ASC score  43.12 / 58  42.40 / 58  73.1 %  -0.72",
        "fabrikam-scores   fabrikam development  ASC score  39.15 / 55  41.32 / 58  71.2 %  +2.17",
        "northwind-scores  northwind production  ASC score  40.42 / 58  38.64 / 56  69.0 %  -1.78",
        "adatum-scores     adatum production     ASC score  37.66 / 58  -           -       -",
        "adatum-scores     adatum staging        ASC score  -           37.64 / 58  64.9 %  -",
    ] {
        assert!(said.lines().any(|known| known == line), "{line} in\n{said}");
    }
}

#[test]
fn the_demo_shows_previous_values_the_difference_and_the_controls_that_moved_a_score() {
    let events = demo().stdout.split_inclusive(|byte| *byte == b'\n');
    let events = events.map(|line| serde_json::from_slice::<Value>(line).unwrap());
    let moved =
        events.filter(|event| event["activity_id"] == 2 && event["finding_info"]["types"][0] == "Secure Scores");
    let told = moved.map(|event| {
        let change = &event["unmapped"]["change"];
        let previous = &change["previous"];
        let hours = (event["time"].as_u64().unwrap() - previous["time"].as_u64().unwrap()) / 3_600_000;
        let drivers = change["drivers"].as_array().unwrap().iter();
        let drivers = drivers.map(|driver| format!("{} {}", driver["title"].as_str().unwrap(), driver["current"]));
        format!(
            "{}: {} of {} {hours} hours ago, {} since: {}",
            event["cloud"]["account"]["name"].as_str().unwrap(),
            previous["current"],
            previous["max"],
            change["delta"]["current"],
            drivers.collect::<Vec<_>>().join(", ")
        )
    });
    let mut told: Vec<String> = told.collect();
    // Scopes of one feed are polled beside each other.
    told.sort();
    assert_eq!(
        told,
        [
            "contoso development: 35.35 of 58 8 hours ago, 8.57 since: Enable MFA 8.57",
            "contoso production: 39.48 of 58 8 hours ago, -9.68 since: Remediate vulnerabilities -5.68, \
             Secure management ports -4",
            "fabrikam development: 39.15 of 55 8 hours ago, 2.17 since: Apply adaptive application control 2.17",
            "fabrikam production: 43.12 of 58 8 hours ago, -0.72 since: Enable MFA -0.72",
            "northwind production: 40.42 of 58 8 hours ago, -1.78 since: Protect applications against DDoS attacks \
             -1.78",
        ]
    );
}

#[test]
fn a_simulated_day_passes_and_its_configuration_asks_for_the_subscriptions_to_come() {
    let mut simulate = command();
    let mut simulate =
        simulate.args(["simulate", "--day", "1s"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(simulate.stderr.take().unwrap()).lines().map_while(Result::ok);
    let moments = said.filter_map(|line| line.strip_prefix("# it is ").map(str::to_owned));
    assert_eq!(moments.take(3).collect::<Vec<_>>(), ["morning", "noon", "evening"]);
    simulate.kill().unwrap();
    let configuration = String::from_utf8(simulate.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(configuration.matches("\nsubscription_id = \"*\"\n").count(), 4, "{configuration}");
    let output = run(&["simulate", "--day", "soon"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(self::said(&output).contains("expected a whole number and a unit"), "{}", self::said(&output));
}

#[test]
fn a_replay_prints_the_events_of_its_cassette() {
    let cassette = root().join("tests/cassettes/two-pages.json");
    let output = run(&["replay", cassette.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 4);
    assert_eq!(run(&["replay", "--expect", cassette.to_str().unwrap()]).status.code(), Some(0));
    let refused = root().join("tests/cassettes/forbidden.json");
    assert_eq!(run(&["replay", refused.to_str().unwrap()]).status.code(), Some(1));
    assert_eq!(run(&["replay", "no-such-file.json"]).status.code(), Some(2));
}

#[test]
fn usage_and_configuration_are_status_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    let text = "[[feed]]\nid = \"a\"\ntenant = \"t\"\n[feed.settings]\nclient_key = \"x\"\nclient_secrett = \"y\"\n";
    std::fs::write(&file, text).unwrap();
    let output = run(&["poll", "-c", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    for expected in ["bad.toml:5: feed a: settings.client_key: found `x`", "bad.toml:6: ", "settings.client_secret"] {
        assert!(said(&output).contains(expected), "expected {expected:?} in {}", said(&output));
    }
    for arguments in [&["poll"][..], &["poll", "-c", "none.toml"], &["simulate", "--scenario", "none"], &["sing"]] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_file_that_is_no_component_is_named() {
    let file = root().join("tests/commands.rs");
    let output = run(&["inspect", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("commands.rs"), "{}", said(&output));
}

#[test]
fn conformance_prints_a_row_for_each_rule_and_its_status_is_the_verdict() {
    let output = run(&["conformance", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rules = report["rules"].as_array().unwrap();
    assert!(report["ok"] == true && rules.len() == host_harness::conformance::RULES.len());
    assert!(rules.iter().all(|row| row["status"] == "passed"), "{report}");
    let text = root().join("tests/commands.rs");
    let output = run(&["conformance", text.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("component   FAILED "));
    assert_eq!(run(&["conformance", "no-such-file.wasm"]).status.code(), Some(2));
}

/// The names of all commands, as the program lists them.
fn names() -> Vec<String> {
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !name.is_empty() && *name != "help").map(str::to_owned).collect()
}

#[test]
fn the_help_of_each_command_has_an_example_and_the_manual_a_page() {
    let names = names();
    assert!(names.len() >= 11, "{names:?}");
    for name in &names {
        let help = String::from_utf8(run(&[name, "--help"]).stdout).unwrap();
        let examples = help.split("Example").nth(1).unwrap_or_default();
        assert!(examples.contains(&format!("  host-harness {name}")), "{help}");
        let page = run(&["man", name]);
        let text = String::from_utf8(page.stdout).unwrap();
        assert!(page.status.success() && text.contains(&format!(".TH host-harness-{name} 1")), "{name}: {text}");
    }
    let page = String::from_utf8(run(&["man"]).stdout).unwrap();
    assert!(page.contains(".TH host-harness 1") && names.iter().all(|name| page.contains(name.as_str())), "{page}");
    let unknown = run(&["man", "sing"]);
    assert!(unknown.status.code() == Some(2) && said(&unknown).contains("simulate"), "{}", said(&unknown));
}

#[test]
fn shells_complete_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = String::from_utf8(run(&["completions", shell]).stdout).unwrap();
        assert!(names().iter().all(|name| script.contains(name.as_str())) && script.contains("redact-subscriptions"));
    }
    assert_eq!(run(&["completions", "tcsh"]).status.code(), Some(2));
}

#[test]
fn the_version_names_the_commit_and_the_plugin() {
    let version = String::from_utf8(run(&["--version"]).stdout).unwrap();
    let about: Value = serde_json::from_slice(&run(&["inspect", "--json"]).stdout).unwrap();
    let digest = about["sha256"].as_str().unwrap();
    let expected = format!(
        "host-harness {}\ncommit {}\nplugin sha256:{digest}\n",
        env!("CARGO_PKG_VERSION"),
        host_harness::COMMIT
    );
    assert_eq!(version, expected);
    let git = std::process::Command::new("git").args(["rev-parse", "HEAD"]).current_dir(root()).output();
    let head = git.ok().filter(|output| output.status.success() && root().join(".git").exists());
    // A build may be told another name.
    if let (Some(head), None) = (head, std::env::var_os("HOST_HARNESS_COMMIT")) {
        let head = String::from_utf8(head.stdout).unwrap();
        assert!(head.starts_with(host_harness::COMMIT), "{head} {}", host_harness::COMMIT);
    }
}

#[test]
fn a_configuration_is_taken_with_and_without_its_option() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.toml");
    std::fs::write(&file, "[network]\nprxy = 1\n").unwrap();
    let file = file.to_str().unwrap();
    let recording = folder.path().join("recording.json");
    let more = ["--feed", "a", "--output", recording.to_str().unwrap()];
    for (command, more) in [("check", &[][..]), ("poll", &[]), ("run", &[]), ("record", &more)] {
        for config in [&[file][..], &["-c", file], &["--config", file]] {
            let output = run(&[&[command], config, more].concat());
            assert_eq!(output.status.code(), Some(2), "{command} {config:?}");
            assert!(said(&output).contains("broken.toml:2: network.prxy"), "{command} {config:?}: {}", said(&output));
        }
        for none_or_two in [&[][..], &[file, "-c", file]] {
            let output = run(&[&[command], none_or_two, more].concat());
            assert_eq!(output.status.code(), Some(2), "{command}");
            assert!(said(&output).contains("--config <FILE>"), "{command}: {}", said(&output));
        }
    }
    let output = run(&["inspect", file]);
    assert!(output.status.code() == Some(2) && said(&output).contains("behind -c"), "{}", said(&output));
    let output = run(&["inspect", "--config", file]);
    assert!(said(&output).contains("broken.toml:2: network.prxy"), "{}", said(&output));
}
