//! The command line: the output for programs, and the exit status.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use host_harness::environment;
use host_harness::recording::bundled::{self, RECORDINGS};
use serde_json::{Value, json};
use source_host::plugin::ALLOWED_IMPORTS;

use crate::support::process::Process;
use crate::support::{PATIENCE, command, leave_for_the_judge, root};

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

#[test]
fn compiled_code_is_kept_where_somebody_says_or_its_absence_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let inspected = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = command();
        command.arg("inspect").args(arguments).current_dir(folder.path());
        command.env_remove("XDG_CACHE_HOME").env_remove("CACHE_DIRECTORY").env("HOME", "");
        said(&command.envs(variables.iter().copied()).output().unwrap())
    };
    let nowhere = inspected(&[], &[("XDG_CACHE_HOME", "relative"), ("CACHE_DIRECTORY", "")]);
    assert!(nowhere.contains("so each start compiles them again; name a folder with `--cache DIR`"), "{nowhere}");
    assert_eq!(nowhere.matches("compiling").count(), 1, "{nowhere}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left where the program was started");
    for (arguments, variables) in [(&["--cache", "here"][..], &[][..]), (&[], &[("CACHE_DIRECTORY", "/there")])] {
        let there = folder.path().join("there");
        let variables: Vec<_> = variables.iter().map(|(name, _)| (*name, there.to_str().unwrap())).collect();
        let said = inspected(arguments, &variables);
        let kept = folder.path().join(if variables.is_empty() { "here" } else { "there" });
        assert!(said.contains("once: its code is kept in"), "{said}");
        assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 1, "{}", kept.display());
        assert_eq!(inspected(arguments, &variables), "", "found compiled");
    }
}

#[test]
fn a_damaged_file_of_compiled_code_draws_one_warning_and_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let inspected = || {
        let output = command().args(["inspect", "--cache"]).arg(folder.path()).output().unwrap();
        assert!(output.status.success(), "{:?}: {}", output.status, said(&output));
        said(&output)
    };
    inspected();
    let kept = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let mut code = std::fs::read(&kept).unwrap();
    let middle = code.len() / 4..code.len() * 3 / 4;
    code[middle].fill(0);
    std::fs::write(&kept, code).unwrap();
    let told = inspected();
    let warning = format!("{} is damaged: ", kept.display());
    assert_eq!((told.matches("WARN").count(), told.matches(&warning).count()), (1, 1), "{told}");
    assert_eq!(inspected(), "", "found compiled");
}

/// The output of the demo, which runs once.
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
    // Six scores with fourteen controls each, one of which appears later; then a whole subscription, and the changes.
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
    // Scopes of one feed are polled at the same time.
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
fn a_service_without_tls_is_polled_as_its_configuration_says() {
    let mut simulate = command().args(["simulate", "--http"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(simulate.stdout.take().unwrap()).lines().map_while(Result::ok);
    let (mut configuration, mut variables) = (String::new(), Vec::new());
    while variables.len() < 4 {
        let line = lines.next().unwrap();
        match line.strip_prefix("# export ").and_then(|line| line.split_once('=')) {
            Some((name, value)) => variables.push((name.to_owned(), value.to_owned())),
            None => configuration += &(line + "\n"),
        }
    }
    assert!(
        configuration.contains("allow = [\"http://127.0.0.1:") && !configuration.contains("ca_file"),
        "{configuration}"
    );
    let folder = tempfile::tempdir().unwrap();
    let polled = |configuration: &str| {
        let file = folder.path().join("azure.toml");
        fs::write(&file, configuration).unwrap();
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("xdg");
        let mut poll = command();
        poll.args(["poll", "-c"]).arg(file).envs(variables.iter().cloned()).env("XDG_CACHE_HOME", cache);
        poll.output().unwrap()
    };
    let output = polled(&configuration);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(String::from_utf8(output.stdout).unwrap().lines().count() > 10);
    // The operator has to allow the origin, as any other.
    let unasked = polled(&configuration.replace("allow = [", "# allow = ["));
    assert!(unasked.status.code() != Some(0) && unasked.stdout.is_empty(), "{}", said(&unasked));
    simulate.kill().unwrap();
    simulate.wait().unwrap();
    let mut simulate = command().args(["simulate", "--http", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let line = BufReader::new(simulate.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    simulate.kill().unwrap();
    simulate.wait().unwrap();
    let about: Value = serde_json::from_str(&line).unwrap();
    assert!(about["url"].as_str().unwrap().starts_with("http://127.0.0.1:") && about["ca_file"].is_null(), "{about}");
}

/// The events that the repository says of a recording.
fn events_of(name: &str) -> usize {
    let document: Value = serde_json::from_str(bundled::named(name).unwrap().expected).unwrap();
    document["events"].as_array().unwrap().len()
}

/// Makes a folder with copies of two recordings.
fn recordings() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["two-pages", "forbidden"] {
        for file in [format!("{name}.json"), format!("{name}.expected.json")] {
            fs::copy(root().join("tests/cassettes").join(&file), folder.path().join(&file)).unwrap();
        }
    }
    folder
}

/// Runs `replay` in a folder.
fn replay(folder: &Path, arguments: &[&str]) -> Output {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("xdg");
    command().arg("replay").args(arguments).env("XDG_CACHE_HOME", cache).current_dir(folder).output().unwrap()
}

#[test]
fn a_replay_prints_the_events_of_its_cassette_and_everything_else_for_people() {
    let folder = recordings();
    let output = replay(folder.path(), &["two-pages.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(!said(&output).contains("two-pages.json: "), "{}", said(&output));
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), events_of("two-pages"));
    let output = replay(folder.path(), &["forbidden.json"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
    for words in ["error: forbidden.json: bbbbbbbb-", "(forbidden, tenant)\n  fix: az role assignment create "] {
        assert!(said(&output).contains(words), "{}", said(&output));
    }
    for (recording, words) in [
        (
            "all-subscriptions",
            "warning: all-subscriptions.json: bbbbbbbb-0000-4000-8000-000000000003: the subscription is not",
        ),
        ("item-repeated", "warning: item-repeated.json: the service sent an item twice"),
        ("empty", "(not-onboarded)"),
    ] {
        let known = bundled::named(recording).unwrap();
        let file = format!("{recording}.json");
        fs::write(folder.path().join(&file), known.cassette).unwrap();
        let output = replay(folder.path(), &[&file]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert!(said(&output).contains(words), "{}", said(&output));
    }
}

#[test]
fn a_replay_of_which_a_part_was_collected_is_status_3() {
    let folder = recordings();
    let mut cassette: Value = serde_json::from_str(bundled::named("all-subscriptions").unwrap().cassette).unwrap();
    let exchanges = cassette["exchanges"].as_array_mut().unwrap();
    exchanges.pop();
    exchanges.last_mut().unwrap()["response"] = json!({ "no_answer": "connection-refused" });
    fs::write(folder.path().join("part.json"), cassette.to_string()).unwrap();
    let output = replay(folder.path(), &["part.json"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(!output.stdout.is_empty() && said(&output).contains("(connection-refused, service)"), "{}", said(&output));
}

#[test]
fn a_replay_names_every_fault_of_every_file_and_plays_the_others() {
    let folder = recordings();
    let edited = |from: &str, to: &str, edits: &[(&str, &str)]| {
        let mut text = fs::read_to_string(root().join("tests/cassettes").join(from)).unwrap();
        for (old, new) in edits {
            assert!(text.contains(old), "{old}");
            text = text.replacen(old, new, 1);
        }
        fs::write(folder.path().join(to), text).unwrap();
    };
    let state = "\"states\": { \"other\": { \"text\": \"\" } }, \"time_milliseconds\"";
    edited("two-pages.json", "other.json", &[("\"GET\"", "\"PUT\""), ("\"time_milliseconds\"", state)]);
    edited(
        "two-pages.json",
        "settings.json",
        &[("\"client_key\": \"", "\"key\": \""), ("\"url\": \"https", "\"url\": \"what")],
    );
    edited("two-pages.json", "version.json", &[("\"version\": 1", "\"version\": 2"), ("\"docs\"", "\"text\"")]);
    fs::write(folder.path().join("settings.expected.json"), "{").unwrap();
    let files = ["none.json", "version.json", "other.json", "settings.json", "forbidden.json", "two-pages.json"];
    let output = replay(folder.path(), &files);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), events_of("two-pages"));
    let lines = [
        "error: none.json: ",
        "error: version.json: version: found 2, expected 1",
        "error: other.json: context.states: found a state of other, expected of scopes that are polled: bbbbbbbb-",
        "error: other.json: exchanges[1].request.method: expected PUT, found GET",
        "error: other.json: exchanges[2]: no request was sent for GET ",
        "error: settings.json: exchanges[0].request.url: found \"what://",
        "error: settings.json: settings.key: ",
        "error: settings.json: settings.client_key: ",
        "  these settings were read by the built-in plugin: ",
        "error: forbidden.json: bbbbbbbb-",
    ];
    for line in lines {
        assert!(said(&output).lines().any(|said| said.starts_with(line)), "expected {line} in {}", said(&output));
    }
    let output = replay(folder.path(), &["--expect", "settings.json", "forbidden.json"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    for line in
        ["error: settings.json: settings.key: ", "error: settings.expected.json: is not JSON: ", "1 of 2 recordings"]
    {
        assert!(said(&output).lines().any(|said| said.starts_with(line)), "expected {line} in {}", said(&output));
    }
}

#[test]
fn a_replay_compares_with_the_document_beside_the_cassette_and_renews_it() {
    let folder = recordings();
    let document = folder.path().join("two-pages.expected.json");
    let output = replay(folder.path(), &["--expect", "two-pages.json", "forbidden.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).ends_with("2 of 2 recordings give what is expected\n"), "{}", said(&output));
    let good = fs::read_to_string(&document).unwrap();
    let bad =
        good.replacen("\"severity_id\": ", "\"severity_id\": 9", 1).replacen("\"codes\": []", "\"codes\": null", 1);
    fs::write(&document, &bad).unwrap();
    let output = replay(folder.path(), &["--expect", "two-pages.json", "forbidden.json"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    for words in [
        "error: two-pages.expected.json: /events/0/severity_id: expected 9",
        "error: two-pages.expected.json: /codes: expected null, found []",
        "1 of 2 recordings give what is expected",
    ] {
        assert!(said(&output).contains(words), "expected {words} in {}", said(&output));
    }
    for (state, words) in [(Some(0), "written, with "), (Some(0), "unchanged, with ")] {
        let output = replay(folder.path(), &["--update", "two-pages.json"]);
        assert_eq!(output.status.code(), state, "{}", said(&output));
        let words = format!("two-pages.expected.json: {words}{} events", events_of("two-pages"));
        assert!(said(&output).contains(&words), "expected {words} in {}", said(&output));
    }
    assert_eq!(fs::read_to_string(&document).unwrap(), good);
    // A pattern of a shell names the documents, too.
    let all = ["--expect", "two-pages.expected.json", "two-pages.json", "forbidden.expected.json", "forbidden.json"];
    let output = replay(folder.path(), &all);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).ends_with("2 of 2 recordings give what is expected\n"), "{}", said(&output));
    let output = replay(folder.path(), &["two-pages.expected.json"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let words = "two-pages.expected.json: is the document beside a recording: name two-pages.json";
    assert!(said(&output).contains(words), "{}", said(&output));
    fs::remove_file(&document).unwrap();
    let output = replay(folder.path(), &["--expect", "two-pages.json"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("two-pages.expected.json: "), "{}", said(&output));
}

#[test]
fn a_replay_without_a_file_plays_every_recording_wherever_the_program_is_run() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("xdg");
        command().arg("replay").args(arguments).env("XDG_CACHE_HOME", cache).current_dir(&folder).output().unwrap()
    };
    let count = RECORDINGS.len();
    let output = run(&[]);
    let table = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{table}{}", said(&output));
    assert_eq!(table.lines().count(), count + 1);
    let forbidden = table.lines().find(|line| line.starts_with("forbidden ")).unwrap();
    let words: Vec<&str> = forbidden.split_whitespace().take(4).collect();
    assert_eq!(words, ["forbidden", "ok", "0", "forbidden"]);
    assert!(said(&output).contains(&format!("{count} of {count} recordings give what is expected")));

    let output = run(&["--json"]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let objects: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((output.status.code(), objects.len()), (Some(0), count));
    let two_pages = objects.iter().find(|object| object["recording"] == "two-pages").unwrap();
    let keys: Vec<&str> = two_pages.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["differences", "docs", "events", "ok", "outcome", "recording", "sha256"]);
    assert_eq!((&two_pages["outcome"], &two_pages["events"]), (&json!(["collected"]), &json!(events_of("two-pages"))));

    for arguments in [&["--update"][..], &["--json", "two-pages.json"]] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
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
    assert!(report["ok"] == true && rules.len() == host_harness::audit::conformance::RULES.len());
    assert!(rules.iter().all(|row| row["status"] == "passed"), "{report}");
    let text = root().join("tests/commands.rs");
    let output = run(&["conformance", text.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("component   FAILED "));
    assert_eq!(run(&["conformance", "no-such-file.wasm"]).status.code(), Some(2));
}

/// tests/duties.py has hosts that keep the duties, and hosts that break them.
#[test]
fn a_host_that_polls_nothing_keeps_no_duty_and_a_command_that_is_none_is_named() {
    let output = run(&["conformance", "--host", "--json", "--", "sh", "-c", "echo no wasm here; echo $PROBE_ORIGIN"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], false, "{report}");
    let rows = report["duties"].as_array().unwrap();
    assert_eq!(rows.len(), host_harness::audit::duties::DUTIES.len());
    assert!(rows.iter().all(|row| row["status"] == "not-seen"), "{report}");
    let printed = report["printed"].as_str().unwrap();
    assert!(printed.contains("no wasm here") && printed.contains("http://127.0.0.1:"), "{printed}");
    for (arguments, words) in [
        (&["conformance", "--host"][..], "<COMMAND>"),
        (&["conformance", "--host", "--", "no-such-program"], "\"no-such-program\" cannot be started"),
        (&["conformance", "--wait", "1"], "--host"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said(&output).contains(words), "{}", said(&output));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probe.wasm");
    assert_eq!(run(&["conformance", "--probe", file.to_str().unwrap()]).status.code(), Some(0));
    assert_eq!(std::fs::read(file).unwrap(), host_harness::audit::duties::PROBE);
}

/// A command for `--host` that never ends, and writes the numbers of its process and of its child to this file.
fn endless(folder: &Path) -> String {
    format!("sleep 600 & echo $$ $! > {0}/new && mv {0}/new {0}/started; wait", folder.display())
}

/// Waits until no process of the endless command runs. A process that nobody waits for any more is over.
fn none_runs(folder: &Path) -> bool {
    let numbers = fs::read_to_string(folder.join("started")).unwrap();
    let is_over = |number: &str| {
        let state = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        state.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.trim_start().starts_with('Z'))
    };
    assert_eq!(numbers.split_whitespace().count(), 2, "{numbers}");
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if numbers.split_whitespace().all(is_over) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

#[test]
fn a_host_that_does_not_end_is_killed_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&["conformance", "--host", "--wait", "1", "--", "sh", "-c", &endless(folder.path())]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(none_runs(folder.path()));
    let none = run(&["conformance", "--host", "--wait", "0", "--", "true"]);
    assert!(none.status.code() == Some(2) && said(&none).contains("0 is not in 1.."), "{}", said(&none));
}

#[test]
fn a_signal_ends_the_trial_of_a_host_with_the_host_and_its_children() {
    for (name, status) in [("HUP", 129), ("INT", 130), ("TERM", 143)] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = command();
        command.args(["conformance", "--host", "--", "sh", "-c", &endless(folder.path())]);
        let mut process = Process::start(command);
        let begun = Instant::now();
        while !folder.path().join("started").exists() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        process.signal(name);
        assert_eq!(process.end().code(), Some(status), "{name}");
        assert!(none_runs(folder.path()), "{name}");
    }
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
    // A build may be given another name.
    if let (Some(head), None) = (head, environment::variable("HOST_HARNESS_COMMIT")) {
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

#[test]
fn a_first_start_says_that_it_compiles_the_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("junk.wasm");
    // The beginning of a component: other files do not reach the compiler.
    std::fs::write(&file, b"\0asm\x0d\0\x01\0junk").unwrap();
    let output = command().arg("inspect").arg(&file).env("XDG_CACHE_HOME", folder.path()).output().unwrap();
    let words = format!("compiling a plugin, once: its code is kept in {}", folder.path().display());
    assert_eq!(said(&output).matches(&words).count(), 1, "{}", said(&output));
}

#[test]
fn no_message_is_told_twice() {
    let folder = refused();
    let mut wrong = Vec::new();
    for (line, words) in REFUSALS {
        let (status, text) = shown(line, folder.path());
        let good = !status.success() && text.contains(words) && text.matches("os error").count() <= 1;
        if !good || !repeated(&text).is_empty() {
            wrong.push(format!("{line}: twice: {:?}, expected {words:?}: {text}", repeated(&text)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Commands that fail, and words of their messages.
const REFUSALS: &[(&str, &str)] = &[
    ("demo --plugin none.wasm", "none.wasm: cannot be read: No such file or directory (os error 2)"),
    ("demo --plugin junk.wasm", "junk.wasm: not a WebAssembly component"),
    ("demo > /dev/full", "No space left on device (os error 28)"),
    ("check good.toml --plugin none.wasm", "none.wasm: cannot be read: No such file or directory (os error 2)"),
    ("poll good.toml --plugin none.wasm", "none.wasm: cannot be read: No such file or directory (os error 2)"),
    ("run good.toml --plugin none.wasm", "none.wasm: cannot be read: No such file or directory (os error 2)"),
    ("run good.toml --plugin junk.wasm", "junk.wasm: not a WebAssembly component"),
    ("poll plugin.toml", "feed c: plugin: the same as at plugin.toml:1"),
    ("check plugin.toml", "feed c: plugin: the same as at plugin.toml:1"),
    ("inspect -c plugin.toml", "feed c: plugin: the same as at plugin.toml:1"),
    ("run plugin.toml", "feed c: plugin: the same as at plugin.toml:1"),
    ("poll junk.toml", "feed c: plugin: the same as at junk.toml:1"),
    ("poll secret.toml", "none.txt"),
    ("check secret.toml", "none.txt"),
    ("record secret.toml --feed a -o x.json", "none.txt"),
    ("poll ca.toml", "none.pem"),
    ("check ca.toml", "none.pem"),
    ("run state.toml", "none/x.db"),
    ("poll none.toml", "none.toml: cannot be read"),
    ("check none.toml", "none.toml: cannot be read"),
    ("record good.toml --feed none -o x.json", "found no feed \"none\""),
    ("replay none.json", "none.json"),
    ("replay CASSETTE --plugin none.wasm", "none.wasm: cannot be read: No such file or directory (os error 2)"),
    ("replay CASSETTE > /dev/full", "No space left on device (os error 28)"),
    ("inspect none.wasm", "none.wasm: cannot be read: No such file or directory (os error 2)"),
    ("inspect > /dev/full", "No space left on device (os error 28)"),
    ("conformance none.wasm", "No such file or directory (os error 2)"),
    ("conformance junk.wasm", "not run: an earlier rule failed"),
    ("simulate --certificate none.pem", "No such file or directory (os error 2)"),
    ("simulate --listen 192.0.2.1:0", "failed to listen on 192.0.2.1:0"),
    (
        "simulate --http --listen 0.0.0.0:0",
        "found the address 0.0.0.0:0, expected one of this machine alone without TLS",
    ),
    ("simulate --http --scenario link-http", "found --http with the scenario \"link-http\", expected TLS"),
    ("simulate --list > /dev/full", "failed to write to standard output: No space left on device (os error 28)"),
    ("simulate --scenario nope", "simulate --list"),
    ("man > /dev/full", "No space left on device (os error 28)"),
    ("sing", "unrecognized subcommand 'sing'"),
];

/// Makes a folder of configurations, most of them with the same problem in all feeds.
fn refused() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let feed = |id: &str, more: &str| {
        format!(
            "[[feed]]\nid = \"{id}\"\ntenant = \"t\"\n{more}\n[feed.settings]\n\
             client_key = \"11111111-2222-3333-4444-555555555555\"\nclient_secret = {{ env = \"SECRET\" }}\n\
             token_url = \"aaaabbbb-0000-cccc-1111-dddd2222eeee\"\n\
             subscription_id = \"20ff7fc3-e762-44dd-bd96-b71116dcdc23\"\n"
        )
    };
    let feeds = |more: &str| ["a", "b", "c"].map(|id| feed(id, more)).concat();
    write("good.toml", &feeds(""));
    write("plugin.toml", &feeds("plugin = \"none.wasm\""));
    write("junk.toml", &feeds("plugin = \"junk.wasm\""));
    write("secret.toml", &feeds("").replace("{ env = \"SECRET\" }", "{ file = \"none.txt\" }"));
    write("ca.toml", &("[network]\nca_file = \"none.pem\"\n".to_owned() + &feeds("")));
    write("junk.wasm", "junk");
    write("state.toml", &("[collector]\nstate = \"none/x.db\"\n".to_owned() + &feeds("")));
    folder
}

/// Runs a command. Returns its status and all its output.
fn shown(line: &str, folder: &Path) -> (std::process::ExitStatus, String) {
    let cassette = root().join("tests/cassettes/two-pages.json").display().to_string();
    let command = format!("'{}' {line}", env!("CARGO_BIN_EXE_host-harness")).replace("CASSETTE", &cassette);
    // The order matters: only standard output goes to a full device.
    let command = match command.strip_suffix(" > /dev/full") {
        Some(command) => format!("{command} 2>&1 >/dev/full"),
        None => format!("{command} 2>&1"),
    };
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("xdg");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &command]).current_dir(folder).env("XDG_CACHE_HOME", cache).env_remove("RUST_LOG");
    let output = shell.env("SECRET", "a-secret-of-tests").output().unwrap();
    (output.status, String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns sentences, and parts of sentences, that a text contains twice.
fn repeated(text: &str) -> Vec<&str> {
    let mut seen = std::collections::BTreeSet::new();
    // Rows of steps that were not reached repeat each other.
    let lines = text.lines().filter(|line| !line.starts_with("  not reached"));
    let parts = lines.flat_map(|line| line.split(": ")).flat_map(|part| part.split("; ")).map(str::trim);
    let parts = parts.filter(|part| !part.starts_with("the same as at "));
    parts.filter(|part| part.split_whitespace().count() >= 5 && !seen.insert(*part)).collect()
}

#[test]
fn an_unknown_scenario_names_the_nearest_and_the_list_says_what_each_does() {
    let output = run(&["simulate", "--scenario", "throtled"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("the nearest are throttled, ") && said(&output).len() < 300, "{}", said(&output));
    let table = String::from_utf8(run(&["simulate", "--list"]).stdout).unwrap();
    let is_row = |line: &str| line.starts_with("  throttled-day ") && line.ends_with(" 429 with a day to wait");
    assert!(table.lines().any(is_row) && table.split("\n\n").count() == 4, "{table}");
    let lines = String::from_utf8(run(&["simulate", "--list", "--json"]).stdout).unwrap();
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), source_simulator::scenario::names().count());
    for row in rows {
        assert!(table.contains(&format!("  {} ", row["name"].as_str().unwrap())), "{row}");
        assert!(table.contains(row["what"].as_str().unwrap()) && row["kind"].is_string(), "{row}");
    }
}
