//! Documents that are made from the code, which `UPDATE_EXPECT=1` rewrites.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use azure_secure_score::diagnoses::TABLE;
use host_harness::built_in;
use host_harness::environment;
use host_harness::metrics::{Metrics, MetricsLevel};
use host_harness::store::Outboxes;
use host_harness::store::fleet::Fleet;
use serde_json::Value;
use similar::TextDiff;
use source_host::blame::Blame;
use source_host::contract::Failure;
use source_host::failures::{FAILURES, NOTICES};

use crate::support::{plugin, root};

/// Compares a document with its generated text, or rewrites it, and prints the difference.
pub fn check(document: &str, text: &str) {
    let file = root().join(document);
    let before = std::fs::read_to_string(&file).unwrap_or_default();
    if before == text {
        return;
    }
    show(document, &before, text);
    assert!(
        environment::variable("UPDATE_EXPECT").is_some(),
        "{document} differs from its source: UPDATE_EXPECT=1 rewrites it"
    );
    std::fs::write(&file, text).unwrap();
}

/// Prints the difference between a file and its generated text.
pub fn show(file: &str, before: &str, text: &str) {
    eprint!("{}", TextDiff::from_lines(before, text).unified_diff().header(file, file));
}

#[tokio::test]
async fn the_table_of_failures_is_the_plugins_own() {
    let plugin = plugin();
    let description = plugin.description().await.unwrap();
    let mut table =
        "# Failures and notices\n\nEach failure and each notice carries one of the codes below. The log, the status page, `poll` and `check` use the \
                     same words. A test generates this page from two tables: that of the plugin, and that of the host for failures that the host meets itself.\n\n\
                     The fault says who can mend a failure. A notice needs nobody.\n\n| fault | who can mend it |\n|---|---|\n"
            .to_owned();
    for blame in Blame::ALL {
        writeln!(table, "| {blame} | {} |", blame.who()).unwrap();
    }
    const HEAD: &str = "| code | fault | cause | fix |\n|---|---|---|---|\n";
    table += "\n## Of the plugin\n\n";
    table += HEAD;
    let reaction = |code: &str| TABLE.iter().find(|row| row.code == code).unwrap().reaction;
    for row in &description.diagnoses {
        let failure = reaction(&row.code).map(|reaction| {
            let word = format!("{reaction:?}").replace("Reaction::", "");
            let reaction = serde_json::from_value(word.into()).unwrap();
            Failure::new(reaction, &row.code, String::new())
        });
        let blame = failure.map(|failure| plugin.blame(&failure).to_string()).unwrap_or_default();
        let fix = row.fix.replace('|', "\\|");
        writeln!(table, "| `{}` | {blame} | {} | {fix} |", row.code, row.cause).unwrap();
    }
    table += "\n## Of the host\n\n";
    table += HEAD;
    for row in FAILURES {
        writeln!(table, "| `{}` | {} | {} | {} |", row.code, row.because("").blame(), row.cause, row.fix).unwrap();
    }
    for row in NOTICES {
        writeln!(table, "| `{}` |  | {} | {} |", row.code, row.cause, row.fix).unwrap();
    }
    check("docs/failures.md", &table);
}

/// Writes a value of a setting as in a configuration.
fn toml_value(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(toml_value).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// Returns the examples of a setting: those of the schema, its choices, or the ways to give a credential.
fn setting_examples(name: &str, setting: &Value) -> Vec<String> {
    if setting["writeOnly"] == true {
        return vec![format!("{{ env = \"{}\" }}", name.to_uppercase()), format!("{{ file = \"{name}.txt\" }}")];
    }
    let given = setting["examples"].as_array().or_else(|| setting["enum"].as_array()).cloned();
    given.unwrap_or_else(|| setting.get("default").cloned().into_iter().collect()).iter().map(toml_value).collect()
}

async fn settings_schema() -> Value {
    serde_json::from_str(&plugin().describe().await.0.unwrap().settings_schema).unwrap()
}

#[tokio::test]
async fn the_page_of_settings_is_made_of_the_plugins_schema() {
    let schema = settings_schema().await;
    let mut page = "# Settings of the plugin\n\nThe settings of a feed are in `[feed.settings]`, and settings that feeds share are in \
                    `[feed_defaults.settings]`: [collector.md](collector.md#configuration). A credential is given as `{ env = \"NAME\" }`, a variable of \
                    the environment, or as `{ file = \"PATH\" }`; the plugin never gets its value: [sign-in.md](sign-in.md).\n\nA test generates this \
                    page from the JSON Schema of the plugin, which `host-harness inspect --json` prints.\n\n| setting | meaning | default | examples | name in DataBee |\n|---|---|---|---|---|\n"
        .to_owned();
    for (name, setting) in in_order_of_text(&schema) {
        let text = |key: &str| setting[key].as_str().unwrap_or_default();
        let default = setting.get("default").map(|value| format!("`{}`", toml_value(value))).unwrap_or_default();
        let credential = if setting["writeOnly"] == true { " A credential." } else { "" };
        let examples: Vec<_> = setting_examples(name, setting).iter().map(|value| format!("`{value}`")).collect();
        assert!(!examples.is_empty(), "{name} has no example");
        let (meaning, title, examples) = (text("description"), text("title").replace('<', "\\<"), examples.join(", "));
        writeln!(page, "| `{name}` | {meaning}{credential} | {default} | {examples} | {title} |").unwrap();
    }
    check("docs/settings.md", &page);
}

/// Returns the settings in the order of the schema's text.
fn in_order_of_text(schema: &Value) -> Vec<(&String, &Value)> {
    let text = include_str!("../guest/src/settings.schema.json");
    let mut settings: Vec<_> = schema["properties"].as_object().unwrap().iter().collect();
    settings.sort_by_key(|(name, _)| text.find(&format!("\n    \"{name}\": {{")));
    settings
}

#[tokio::test]
async fn examples_and_defaults_of_settings_fit_the_schema() {
    let schema = settings_schema().await;
    for (name, setting) in schema["properties"].as_object().unwrap() {
        let mut alone = setting.clone();
        alone["$defs"] = schema["$defs"].clone();
        for value in setting["examples"].as_array().into_iter().flatten().chain(setting.get("default")) {
            assert!(jsonschema::is_valid(&alone, value), "{name} = {value}");
        }
    }
}

#[test]
fn each_failure_of_the_host_has_a_code_of_its_own_a_cause_and_a_fix() {
    let failures = FAILURES.iter().map(|row| (row.code, row.cause, row.fix));
    let rows: Vec<_> = failures.chain(NOTICES.iter().map(|row| (row.code, row.cause, row.fix))).collect();
    let codes: BTreeSet<&str> = rows.iter().map(|row| row.0).collect();
    assert_eq!(codes.len(), rows.len());
    for (code, cause, fix) in rows {
        assert!(!cause.is_empty() && !fix.is_empty() && !format!("{cause}{fix}").contains(['|', '\n']), "{code}");
    }
    for row in FAILURES {
        assert_eq!(row.because("").fix.as_deref(), Some(row.fix));
    }
}

/// The files that make failures with codes of the plugin; all others use the host's table.
const CODES_OF_THE_PLUGIN: [&str; 3] = [
    "host-harness/host/src/failures.rs",
    "host-harness/host/src/feed/mod.rs",
    "host-harness/src/audit/conformance/polled.rs",
];

#[test]
fn the_host_makes_no_failure_and_no_notice_beside_its_table() {
    let made = |text: &str| {
        let literal = |name: &str| {
            let bodies = text.split(name).skip(1).map(|rest| rest.split('}').next().unwrap_or_default());
            bodies.flat_map(str::lines).any(|line| line.contains("code: \"") || line.contains("code: format!"))
        };
        text.contains("Failure::new(") || literal("Failure {") || literal("Notice {")
    };
    assert!(made("Failure::new(Reaction::Wait, \"a\", cause)"));
    assert!(made("Notice { code: \"a\".to_owned(), message }"));
    assert!(made("Failure {\n    code: \"a\".to_owned(),\n    ..failure\n}"));
    let mut making = BTreeSet::new();
    for folder in ["host-harness/host/src", "host-harness/src"] {
        for (file, text) in sources(&root().join(folder)) {
            // Tests are at the end of a file, or in a file of their own.
            let text = text.split("\n#[cfg(test)]\n").next().unwrap_or_default();
            if !file.ends_with("tests.rs") && made(text) {
                making.insert(file.strip_prefix(root()).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    assert_eq!(making.iter().map(String::as_str).collect::<Vec<_>>(), CODES_OF_THE_PLUGIN);
}

/// Returns the source files below a folder, with their text.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let files = files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let texts = files.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()));
    texts.chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

#[test]
fn no_comment_begins_with_what() {
    let begins_with_what = |line: &str| {
        let words = line.trim_start().strip_prefix("//").map(|rest| rest.trim_start_matches(['/', '!']).trim_start());
        words.is_some_and(|words| words.starts_with("What ") || words.starts_with("What's "))
    };
    assert!(["/// What it holds.", "    //! What's kept.", "// What left."].into_iter().all(begins_with_what));
    assert!(!["/// The content.", "let text = 1; // What", "/// Says what fails."].into_iter().any(begins_with_what));
    let folders = ["guest", "host-harness", "fuzz/src", "fuzz/fuzz_targets", "tests", "xtask"];
    let mut texts: Vec<_> = folders.iter().flat_map(|folder| sources(&root().join(folder))).collect();
    let contract = root().join("wit/source.wit");
    texts.push((contract.clone(), std::fs::read_to_string(contract).unwrap()));
    let mut found = Vec::new();
    for (file, text) in &texts {
        let lines = text.lines().enumerate().filter(|(_, line)| begins_with_what(line));
        found.extend(lines.map(|(number, line)| format!("{}:{}: {}", file.display(), number + 1, line.trim())));
    }
    assert!(texts.len() > 250, "only {} files were read", texts.len());
    assert!(found.is_empty(), "a comment names the thing that it describes, and not \"What …\":\n{}", found.join("\n"));
}

#[tokio::test]
async fn every_code_that_the_program_knows_is_one_of_the_plugins_and_says_more_than_its_reaction() {
    let description = plugin().describe().await.0.unwrap();
    assert_eq!(description.name, built_in::KNOWN.name);
    let of_plugin: BTreeSet<&str> = description.diagnoses.iter().map(|row| row.code.as_str()).collect();
    let codes: Vec<&str> = built_in::KNOWN.blames.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes.iter().filter(|code| !of_plugin.contains(*code)).collect::<Vec<_>>(), Vec::<&&str>::new());
    assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len());
}

#[test]
fn the_table_of_metrics_is_what_is_served() {
    let mut table = METRICS.to_owned();
    let text = served();
    let helps = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    for ((name, help), (same, kind)) in helps.zip(types) {
        assert_eq!(name, same);
        writeln!(table, "| `{name}` | {kind} | {help} |").unwrap();
    }
    check("docs/metrics.md", &table);
}

#[test]
fn alerts_and_dashboard_name_metrics_that_there_are() {
    let text = served();
    for file in ["alerts.yml", "dashboard.json"] {
        let rules = std::fs::read_to_string(root().join("deploy/prometheus").join(file)).unwrap();
        let words = rules.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        let names: BTreeSet<&str> = words.filter(|word| word.starts_with("collector_")).collect();
        for name in &names {
            let family = name.trim_end_matches("_bucket").trim_end_matches("_count").trim_end_matches("_sum");
            assert!(text.contains(&format!("# TYPE {family} ")), "{file}: {name}");
        }
        assert!(names.len() > 8, "{file}: {names:?}");
    }
}

/// The metrics of a collector that shares its state.
fn served() -> String {
    let metrics = Metrics::default();
    metrics.share(&Fleet::default(), 0);
    metrics.text(Outboxes::default(), MetricsLevel::Tenant)
}

const METRICS: &str = "# Metrics

A test generates this page from the answer of `/metrics`. The labels are `tenant` and `sink`, and the words of outcomes, statuses, settings,
codes, reasons and faults. No label grows with the data of a tenant.

`/metrics` has the counts of each tenant; `/metrics?by=feed` has those of each feed, with the label `feed` beside `tenant`, which are forty
samples a feed. A tenant's counter is the sum of its feeds, with those that were removed while the tenant has another one. Of its gauges,
`collector_scopes` and `collector_state_bytes` are sums, and `collector_score_percent` is the average of all its scopes. The others are those of
the feed that needs somebody first: the earliest end, the oldest collection, the largest lateness and memory.

Everything that is configured appears from the start, with 0 for what never happened, and disappears when it is taken out of the
configuration. Counters begin at 0 with each start of the collector, as `rate` and `increase` expect. Times are Unix seconds, 0 for never.
The answer is compressed for a reader that accepts `gzip`.

[deploy/prometheus](../deploy/prometheus/README.md) has thirteen tested alerts, and a dashboard for Grafana.

`collector_last_collected_timestamp_seconds` of a feed with several scopes is the time of the scope that was collected the longest time ago.
A scope that has nothing to collect, such as a subscription without Defender for Cloud, does not count as long as others are collected.

`collector_shards` and the metrics that begin with `collector_fleet` are there if several collectors share the state: [scale.md](scale.md).

| metric | type | meaning |
|---|---|---|
";

#[test]
fn the_tables_of_what_is_tested_are_the_tests_own() {
    let document = std::fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let line = "<!-- Below this line everything is made from the tests. -->\n";
    let written = document.split_once(line).unwrap().0;
    check("SECURITY.md", &format!("{written}{line}{}", crate::security::text()));
}

/// A test that was once seen to fail says nothing when nobody runs it any more.
#[test]
fn every_test_that_was_seen_to_fail_without_its_mend_is_there() {
    let page = std::fs::read_to_string(root().join("docs/testing.md")).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with("Tests that were seen to fail\n")).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| without"));
    let tests: Vec<&str> = rows.filter_map(|row| row.split('`').rfind(|word| word.contains("::"))).collect();
    let texts: Vec<_> = ["host-harness", "tests"].iter().flat_map(|folder| sources(&root().join(folder))).collect();
    let is_there = |test: &&str| {
        let named = format!("fn {}(", test.rsplit("::").next().unwrap_or_default());
        texts.iter().any(|(_, text)| text.contains(&named))
    };
    let (there, missing): (Vec<&str>, Vec<&str>) = tests.iter().partition(|test| is_there(test));
    assert!(there.len() >= 30 && missing.is_empty(), "{there:?}, missing: {missing:?}");
}

#[test]
fn no_build_of_the_commands_that_set_everything_up_is_silent() {
    let sources = std::fs::read_dir(root().join("xtask/src")).unwrap().map(|entry| entry.unwrap().path());
    for file in sources.chain([root().join(".cargo/config.toml")]) {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains("--quiet") && !text.contains("\"-q\""), "{}", file.display());
    }
}
