//! Test Connection over real sockets: the effect of each failure of the service on the report, and the output for
//! programs.

use std::collections::BTreeSet;
use std::net::TcpListener as StdListener;
use std::path::Path;

use azure_secure_score::diagnoses::{ARM_CODES, ENTRA_CODES};
use futures_util::{StreamExt, stream};
use host_harness::check::probe::{FAULTS, ProbeStep};
use host_harness::check::{self, CheckReport, Question, REMARKS, Step, StepStatus};
use host_harness::collector::once::Output;
use host_harness::config;
use serde_json::Value;
use source_host::failures::FAILURES;
use source_simulator::{gateways, scenario};

use crate::documents;
use crate::support::test_connection::Set;
use crate::support::{command, host, plugin};

fn steps(report: &CheckReport, question: Question) -> Vec<&Step> {
    report.steps.iter().filter(|step| step.question == question).collect()
}

/// Scenarios that do not fail a check.
const HARMLESS: &[&str] = &[
    "token-strings",
    "scores-empty",
    "controls-empty",
    "expand-refused",
    "byte-order-mark",
    "link-odd",
    "search-link-odd",
    "search-past-due",
    "search-delegated",
    "item-twice",
    "item-large",
    "sum-off",
    "gzip-upper",
    "gzip-x",
    "gzip-identity",
    "gzip-members",
    "encoding-empty",
    "encoding-identity",
    "echo",
    "echo-lines",
    "echo-utf16",
    "echo-utf16-bare",
    "echo-utf32",
];

/// Scenarios that stop the report at either of two steps.
const ON_TWO_RUNGS: &[&str] = &["reset-at-once"];

#[tokio::test]
async fn every_scenario_shows_the_step_the_cause_and_the_fix() {
    let reports = scenario::names().map(|name| async move {
        let (report, words) = Set::new(Some(name)).await.check().await;
        (name, report, words)
    });
    let reports: Vec<_> = stream::iter(reports).buffered(4).collect().await;
    let mut codes = BTreeSet::new();
    let mut rows = Vec::new();
    for (name, report, words) in &reports {
        let Some(step) = report.stopped() else {
            assert!(HARMLESS.contains(name), "{name}: {words}");
            assert!(report.ok() && report.sample.is_some(), "{name}: {words}");
            // A harmless scenario gives at most a warning.
            rows.extend(report.steps.iter().filter(|step| step.trouble.is_some()).map(|step| (*name, step.clone())));
            continue;
        };
        assert!(!HARMLESS.contains(name), "{name}: {words}");
        let trouble = step.trouble.as_ref().unwrap();
        assert!(!trouble.cause.is_empty() && trouble.fix.len() > 10 && !trouble.fix.contains('{'), "{name}: {words}");
        assert!(words.contains(&trouble.cause) && words.contains(&trouble.fix), "{name}: {words}");
        // Before that step, scopes are not distinguished.
        let of_all = step.question <= Question::Scopes;
        for (later, status) in report.steps.iter().map(|step| (step.question, step.status)) {
            let expected = if of_all && later > step.question { StepStatus::NotReached } else { status };
            assert_eq!(status, expected, "{name}: {words}");
        }
        // The other subscription is not affected.
        assert_eq!(report.good, usize::from(!of_all), "{name}: {words}");
        assert_eq!(check::status([report]), if of_all { 1 } else { 3 }, "{name}");
        codes.extend(trouble.service_code.clone());
        rows.push((*name, step.clone()));
    }
    for case in gateways::TABLE {
        let (_, step) = rows.iter().find(|(name, _)| *name == case.name).unwrap();
        assert_eq!(step.status, StepStatus::Unknown, "{}: nobody knows what the service says", case.name);
    }
    for (number, _) in ENTRA_CODES {
        assert!(codes.contains(&format!("AADSTS{number}")), "no scenario of AADSTS{number}");
    }
    let lower: BTreeSet<String> = codes.iter().map(|code| code.to_ascii_lowercase()).collect();
    for (code, _) in ARM_CODES {
        assert!(lower.contains(*code), "no scenario of {code}");
    }
    document(rows).await;
}

/// Checks the document of the report: its rows are the host's remarks, and the results of the scenarios, in the words
/// of the two tables.
async fn document(shown: Vec<(&str, Step)>) {
    let description = plugin().description().await.unwrap();
    let row = |question: Question, cells: [&str; 6]| {
        let [words @ .., scenario] = cells;
        (question, format!("| {} | {} |", question.name(), words.join(" | ")), scenario.to_owned())
    };
    let code = |code: &str| format!("`{code}`");
    let faults = FAULTS.iter().map(|fault| {
        let question = match fault.step {
            ProbeStep::Name => Question::Name,
            ProbeStep::Connect => Question::Connect,
            ProbeStep::Tls => Question::Tls,
        };
        row(question, [StepStatus::Failed.name(), &code(fault.code), "", fault.cause, fault.fix, ""])
    });
    let remarks = REMARKS.iter().map(|remark| {
        row(remark.question, [remark.status.name(), &code(remark.code), "", remark.cause, remark.fix, ""])
    });
    let told = shown.iter().filter(|(scenario, _)| !ON_TWO_RUNGS.contains(scenario));
    let shown = told.map(|(scenario, step)| {
        let trouble = step.trouble.as_ref().unwrap();
        let known = description.diagnoses.iter().find(|row| row.code == trouble.code);
        // A cause that the plugin's table leaves to the host has the host's words.
        let own = trouble.cause.split(": ").next().unwrap();
        let fault = FAULTS.iter().find(|fault| fault.code == trouble.code);
        let words = known.map(|row| (row.cause.as_str(), row.fix.as_str()));
        let of_host = FAILURES.iter().find(|row| row.code == trouble.code).map(|row| (row.cause, row.fix));
        let words = words.or(fault.map(|fault| (fault.cause, fault.fix))).or(of_host);
        let (cause, fix) = words.unwrap_or((own, ""));
        let fix = if fix.is_empty() { &trouble.fix } else { fix };
        let service_code = trouble.service_code.as_deref().unwrap_or_default();
        row(step.question, [step.status.name(), &code(&trouble.code), service_code, cause, fix, &code(scenario)])
    });
    let mut rows: Vec<(Question, String, Vec<String>)> = Vec::new();
    for (question, words, scenario) in faults.chain(remarks).chain(shown) {
        // Scenarios with the same result share a row.
        match rows.iter_mut().find(|row| row.1 == words) {
            Some(row) => row.2.push(scenario),
            None => rows.push((question, words, vec![scenario])),
        }
    }
    rows.sort_by_key(|row| row.0);
    for (_, _, scenarios) in &mut rows {
        // The rows that the host can say anyway name none.
        scenarios.retain(|scenario| !scenario.is_empty());
    }
    let rows: String =
        rows.iter().map(|(_, words, scenarios)| format!("{words} {} |\n", scenarios.join(", "))).collect();
    documents::check("docs/check.md", &(DOCUMENT.to_owned() + &rows));
}

const DOCUMENT: &str = "# The connection test

`host-harness check -c FILE [--feed ID] [--json] [--strict]` tests the feeds one after the other, and each feed step by step:

| step | question |
|---|---|
| settings | Are the settings valid, as far as the host can tell without asking the service? |
| name | Does the name of each origin that the feed sends to resolve to an address that may be dialled? |
| connect | Does a server listen at the address? `check` connects through the proxy, if there is one. |
| tls | Is the other side the service, by a certificate that is trusted now? |
| credential | Does the service accept the credential? |
| scopes | Are there subscriptions? |
| permission | May the application read each of them? |
| score | Does each of them have a score? |
| sample | Do the answers give an event? `check` prints the event on standard output. |

| status of a step | meaning |
|---|---|
| `ok` | The answer is yes. A cause beside it is a warning, for example of a credential that expires within 30 days. |
| `failed` | The answer is no. |
| `not-reached` | An earlier step failed. |
| `unknown` | The service did not say, for a reason of its own. |

`check` does not retry. For a failure that may be temporary it shows the wait that the service asked for; run `check` again
afterwards.

`--json` prints one object for each feed: `{\"feed\", \"ok\", \"steps\": [{\"step\", \"status\", \"milliseconds\", \"code\",
\"request_id\", \"cause\", \"fix\"}]}`. `code` is the service's own code if the service gave one. If a fault of the configuration
belongs to no single feed, one more object comes first, with an empty `feed`.

Exit status: 0 all subscriptions are ok, 1 none is, 2 the configuration is wrong, 3 some are ok.

## All causes and fixes

A test generates this table: it runs `check` against each scenario of `host-harness simulate --scenario NAME`, and adds the
causes that the host knows of the network and the settings. `{client}`, `{subscription}` and the like stand for the values of
the feed.

| step | status | code | service's code | cause | fix | scenarios |
|---|---|---|---|---|---|---|
";

#[tokio::test]
async fn a_good_connection_is_ok_at_every_step_and_shows_an_event() {
    let (report, words) = Set::new(None).await.check().await;
    assert!(report.ok(), "{words}");
    assert_eq!(check::status([&report]), 0);
    let asked: Vec<Question> = report.steps.iter().map(|step| step.question).collect();
    let each = |question: Question| asked.iter().filter(|asked| **asked == question).count();
    assert_eq!(Question::ALL.map(each), [1, 1, 1, 1, 1, 1, 2, 2, 1]);
    assert!(asked.is_sorted());
    let sample: Value = serde_json::from_slice(report.sample.as_ref().unwrap()).unwrap();
    assert_eq!(sample["class_uid"], 99_402_001);
}

#[tokio::test]
async fn programs_read_one_object_a_feed_of_a_fixed_shape() {
    let set = Set::new(Some("secret-expired")).await;
    let environment =
        |name: &str| set.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let config = config::parse(Path::new("azure.toml"), &set.text, None, &environment);
    let (mut events, mut people) = (Vec::new(), Vec::new());
    let output = Output { events: &mut events, people: &mut people };
    assert_eq!(check::tell(&host(), config, None, &set.clock, true, output).await.unwrap(), 1);
    assert!(people.is_empty());
    let lines: Vec<Value> =
        events.split_inclusive(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect();
    assert_eq!(lines.len(), 1);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&lines[0]), ["feed", "ok", "steps"]);
    assert_eq!((lines[0]["feed"].as_str(), lines[0]["ok"].as_bool()), (Some("contoso-scores"), Some(false)));
    for step in lines[0]["steps"].as_array().unwrap() {
        assert_eq!(keys(step), ["cause", "code", "fix", "milliseconds", "request_id", "status", "step"]);
    }
    let failed = &lines[0]["steps"][4];
    assert_eq!((failed["step"].as_str(), failed["status"].as_str()), (Some("credential"), Some("failed")));
    assert_eq!(failed["code"], "AADSTS7000222");
    assert!(failed["request_id"].is_string() && failed["cause"].is_string());
    let client = "00000001-a991-4c3f-8d27-000000000001";
    assert!(failed["fix"].as_str().unwrap().contains(&format!("az ad app credential reset --id {client}")));
    assert_eq!(lines[0]["steps"][5]["status"], "not-reached");
}

#[tokio::test]
async fn a_broken_configuration_is_a_ladder_too() {
    let mut set = Set::new(None).await;
    set.edit("client_key", "client_key = \"not-a-guid\"");
    let (report, words) = set.check().await;
    assert_eq!((report.feed.as_deref(), check::status([&report])), (Some("contoso-scores"), 2));
    assert_eq!(report.stopped().unwrap().question, Question::Settings);
    assert!(report.steps[1..].iter().all(|step| step.status == StepStatus::NotReached), "{words}");
    assert!(words.contains("settings.client_key: found `not-a-guid`"), "{words}");

    set.text = "[[feed]\nid = ".to_owned();
    let (report, words) = set.check().await;
    assert_eq!(report.stopped().unwrap().question, Question::Settings, "{words}");
    assert!(words.contains("azure.toml:1"), "{words}");
}

#[tokio::test]
async fn a_credential_that_runs_out_soon_is_told_with_the_way_to_another() {
    let mut set = Set::new(None).await;
    let day = |days: i64| {
        let date = (time::OffsetDateTime::now_utc() + time::Duration::days(days)).date();
        format!("client_secret_expires = \"{}-{:02}-{:02}\"\n", date.year(), u8::from(date.month()), date.day())
    };
    let plain = set.text.clone();
    for (days, code) in [(40, None), (20, Some("credential-expires")), (5, Some("credential-expires-soon"))] {
        set.text = plain.replace("client_key", &format!("{}client_key", day(days)));
        let (report, words) = set.check().await;
        let step = steps(&report, Question::Credential)[0];
        assert_eq!(step.trouble.as_ref().map(|trouble| trouble.code.as_str()), code, "{words}");
        assert!(report.ok() && step.status == StepStatus::Ok, "{words}");
        if let Some(trouble) = &step.trouble {
            assert!(trouble.fix.contains("--id 00000001-a991-4c3f-8d27-000000000001"), "{words}");
        }
    }
}

#[tokio::test]
async fn a_subscription_that_is_not_enabled_is_told_beside_the_others() {
    let mut set = Set::new(None).await;
    set.simulator.with(|world| world.estate.tenants[0].subscriptions[1].state = "Disabled");
    set.edit("subscription_id", "subscription_id = \"*\"");
    let (report, words) = set.check().await;
    let permissions = steps(&report, Question::Permission);
    assert_eq!(
        permissions.iter().map(|step| step.status).collect::<Vec<_>>(),
        [StepStatus::Ok, StepStatus::Failed],
        "{words}"
    );
    assert!(permissions[1].about.as_ref().is_some_and(|about| about.contains("contoso development")), "{words}");
    assert_eq!(check::status([&report]), 3);
}

#[tokio::test]
async fn an_origin_that_is_not_allowed_is_not_even_resolved() {
    let mut set = Set::new(None).await;
    let url = set.simulator.url().to_owned();
    set.edit("allow = ", "");
    let (report, words) = set.check().await;
    let step = report.stopped().unwrap();
    assert_eq!(step.question, Question::Settings, "{words}");
    assert!(step.trouble.as_ref().unwrap().fix.contains(&format!("allow = [\"{url}\"]")), "{words}");
    assert_eq!(steps(&report, Question::Name)[0].status, StepStatus::NotReached);
}

#[tokio::test]
async fn no_subscription_at_all_shows_at_the_scopes() {
    let mut set = Set::new(None).await;
    set.simulator.with(|world| world.estate.tenants[0].subscriptions.clear());
    set.edit("subscription_id", "subscription_id = \"*\"");
    let (report, words) = set.check().await;
    let step = report.stopped().unwrap();
    assert_eq!((step.question, check::status([&report])), (Question::Scopes, 1), "{words}");
    let fix = "az role assignment create --assignee 00000001-a991-4c3f-8d27-000000000001 --role Reader";
    assert!(step.trouble.as_ref().unwrap().fix.contains(fix), "{words}");
}

#[tokio::test]
async fn the_command_prints_the_ladder_for_people_and_the_sample_where_events_go() {
    let set = Set::new(Some("not-onboarded")).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("azure.toml");
    std::fs::write(&file, &set.text).unwrap();
    let run = |more: &[&str]| {
        let mut command = command();
        command.arg("check").arg("-c").arg(&file).args(more).envs(set.variables.clone());
        command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("xdg"));
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let output = run(&[]).await.unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{words}");
    assert!(
        words.contains("\n  failed       score") && words.contains("\n      fix: open Microsoft Defender"),
        "{words}"
    );
    let sample: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(sample["metadata"]["tenant_uid"], "00000001-7e4a-4b1d-9c55-000000000001");

    let output = run(&["--json", "--feed", "contoso-scores"]).await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), report["ok"].as_bool()), (Some(3), Some(false)));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));

    std::fs::write(&file, set.text.replace("client_key", "client_keey")).unwrap();
    let output = run(&["--json"]).await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), report["steps"][0]["status"].as_str()), (Some(2), Some("failed")));
    assert!(report["steps"][0]["cause"].as_str().unwrap().contains("azure.toml:"), "{report}");
    assert_eq!(run(&["--feed", "nobody"]).await.unwrap().status.code(), Some(2));

    // A fault of the whole file is reported once, and each feed reports only its own faults.
    let (head, feed) = set.text.split_at(set.text.find("[[feed]]").unwrap());
    let (head, bad) = (head.replace("allow =", "colour = 1\nallow ="), feed.replace("client_key", "client_keey"));
    std::fs::write(&file, format!("{head}{bad}\n{}", feed.replace("contoso-scores", "second"))).unwrap();
    let output = run(&["--json"]).await.unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), told.matches("network.colour: unknown key; known").count()), (Some(2), 1));
    let reports: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ends = reports.iter().map(|report| {
        let step = &report["steps"][0];
        assert_eq!((report["ok"].as_bool(), report["steps"][1]["status"].as_str()), (Some(false), Some("not-reached")));
        (report["feed"].as_str().unwrap(), step["status"].as_str().unwrap(), step["cause"].as_str().unwrap_or_default())
    });
    let ends: Vec<_> = ends.collect();
    assert_eq!((ends[0].0, ends[0].1), ("", "failed"));
    assert!(ends[1].2.contains("client_keey") && !ends[1].2.contains("colour"), "{}", ends[1].2);
    assert_eq!(ends[2..], [("second", "ok", "")]);
}

/// Returns the fault at which the route to an origin ends. The origin replaces the service's address.
async fn fault(origin: &str) -> (Question, String, String) {
    let mut set = Set::new(None).await;
    let url = set.simulator.url().to_owned();
    set.text = set.text.replace(&url, origin);
    let (report, words) = set.check().await;
    assert!(steps(&report, Question::Credential)[0].status == StepStatus::NotReached, "{words}");
    let step = report.stopped().unwrap();
    let trouble = step.trouble.clone().unwrap();
    (step.question, trouble.code, format!("{}\n{}", trouble.cause, trouble.fix))
}

#[tokio::test]
async fn a_name_that_does_not_resolve() {
    let (question, code, words) = fault("https://nowhere.invalid").await;
    assert_eq!((question, code.as_str()), (Question::Name, "name-not-resolved"));
    assert!(words.contains("nslookup nowhere.invalid"), "{words}");
}

#[tokio::test]
async fn an_address_that_is_not_dialled() {
    let (question, code, words) = fault("https://10.1.2.3:8443").await;
    assert_eq!((question, code.as_str()), (Question::Name, "address-prohibited"));
    assert!(words.contains(r#"allow_addresses = ["127.0.0.0/8", "::1", "10.1.2.3"]"#), "{words}");
}

#[tokio::test]
async fn a_port_where_nobody_listens() {
    // The port was bound and freed, so that nothing listens there now.
    let address = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (question, code, words) = fault(&format!("https://{address}")).await;
    assert_eq!((question, code.as_str()), (Question::Connect, "connection-refused"));
    assert!(words.contains(&format!("reach 127.0.0.1, port {}", address.port())), "{words}");
}

/// Starts a server that sends these bytes to every client, whatever the client sends.
async fn says(words: &'static [u8]) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut heard = [0; 1_024];
            let _ = socket.read(&mut heard).await;
            let _ = socket.write_all(words).await;
            let _ = socket.shutdown().await;
        }
    });
    format!("https://{address}")
}

#[tokio::test]
async fn something_that_speaks_no_tls() {
    let (question, code, words) = fault(&says(b"HTTP/1.1 302 Found\r\nlocation: http://portal/\r\n\r\n").await).await;
    assert_eq!((question, code.as_str()), (Question::Tls, "no-tls"));
    assert!(words.contains("proxy = \"http://"), "{words}");
}

#[tokio::test]
async fn credentials_over_http_go_to_this_machine_or_where_a_line_says_so() {
    // The origin is not allowed, allowed, and allowed with credentials.
    for (origin, network, question, code) in [
        ("http://login.invalid", "", Question::Settings, "credentials-in-clear"),
        ("http://login.invalid", "allow = [\"http://login.invalid\"]", Question::Settings, "credentials-in-clear"),
        (
            "http://login.invalid",
            "allow_credentials_over_http = [\"http://login.invalid\"]",
            Question::Name,
            "name-not-resolved",
        ),
        ("http://127.0.0.1:9", "", Question::Settings, "origin-not-allowed"),
    ] {
        let mut set = Set::new(None).await;
        set.edit("allow = ", network);
        set.text = set.text.replace(set.simulator.url(), origin);
        let (report, words) = set.check().await;
        let step = report.stopped().unwrap();
        let trouble = step.trouble.clone().unwrap();
        assert_eq!((step.question, trouble.code.as_str()), (question, code), "{words}");
        if code == "credentials-in-clear" {
            let line = format!("`allow_credentials_over_http = [\"{origin}\"]`");
            assert!(trouble.fix.starts_with("write https://") && trouble.fix.contains(&line), "{words}");
            assert!(!words.contains("`allow = ["), "{words}");
        }
    }
    // Any server may answer at the address.
    let origin = says(b"HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n").await.replace("https", "http");
    let mut set = Set::new(None).await;
    set.text = set.text.replace(set.simulator.url(), &origin);
    let (report, words) = set.check().await;
    let step = steps(&report, Question::Tls)[0];
    let code = step.trouble.as_ref().map(|trouble| trouble.code.as_str());
    assert_eq!((step.status, code), (StepStatus::Ok, Some("no-tls-at-all")), "{words}");
    assert!(words.contains("\n  warning      tls ") && !words.contains("ok           tls"), "{words}");
    assert_eq!(report.stopped().unwrap().question, Question::Credential, "{words}");
}

#[tokio::test]
async fn a_secret_in_the_configuration_itself_is_taken_with_a_warning() {
    let mut set = Set::new(None).await;
    let secret = set.variables[0].1.clone();
    let better = "better: `client_secret = { env = \"CONTOSO_SCORES_CLIENT_SECRET\" }`";
    for (line, told) in [
        (format!("client_secret = {secret:?}"), better),
        (format!("client_secret = \" {secret}\\u200b\""), "a zero-width space at its end were removed"),
        (
            format!("client_secret = {{ env = {:?}, plain = true }}", set.variables[0].0),
            "has `plain = true`, which has no effect",
        ),
    ] {
        set.edit("client_secret", &line);
        let (report, words) = set.check().await;
        assert!(report.ok() && words.contains(told), "{told} in {words}");
        assert_eq!(words.contains(better), !line.contains("plain"), "{words}");
    }
    set.edit("client_secret", "client_secret = \"${CONTOSO_SECRET}\"");
    let (_, words) = set.check().await;
    assert!(words.contains("looks like a reference") && !words.contains(better), "{words}");
}

#[tokio::test]
async fn a_firewall_that_ends_the_connection() {
    let (question, code, _) = fault(&says(b"").await).await;
    assert_eq!((question, code.as_str()), (Question::Tls, "tls-broken"));
}

#[tokio::test]
async fn a_certificate_for_another_name() {
    let mut set = Set::new(None).await;
    let url = set.simulator.url().to_owned();
    // The certificate does not name this loopback address.
    let other = url.replace("127.0.0.1", "127.0.0.2");
    set.text = set.text.replace(&url, &other);
    let listener = tokio::net::TcpListener::bind(other.trim_start_matches("https://")).await.unwrap();
    let there = url.trim_start_matches("https://").to_owned();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut service = tokio::net::TcpStream::connect(&there).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut socket, &mut service).await;
        }
    });
    let (report, words) = set.check().await;
    let trouble = report.stopped().unwrap().trouble.clone().unwrap();
    assert_eq!(trouble.code, "certificate-name", "{words}");
}

#[tokio::test]
async fn a_clock_that_is_somewhat_off_is_a_warning() {
    let mut set = Set::new(None).await;
    let right = set.clock.clone();
    set.clock = std::sync::Arc::new(move || right() - 600_000);
    let (report, words) = set.check().await;
    assert!(report.ok(), "{words}");
    let trouble = steps(&report, Question::Sample)[0].trouble.clone().unwrap();
    assert_eq!(trouble.code, "clock-off");
    assert!(trouble.cause.contains(" s behind the service's"), "{words}");
}
