//! Documents that are made from the code: `UPDATE_EXPECT=1` rewrites them. And examples in documents, which must work.

use std::fmt::Write;
use std::path::Path;

use azure_secure_score::diagnoses::TABLE;
use host_harness::blame::{self, Blame};
use host_harness::check::REMARKS;
use host_harness::config;
use host_harness::contract::Failure;
use host_harness::metrics::Metrics;
use host_harness::probe::FAULTS;

use crate::support::{PROXY_VARIABLES, plugin, root};

/// Compares a document with what it is made of, or rewrites it.
pub fn check(document: &str, text: &str) {
    let file = root().join(document);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "UPDATE_EXPECT=1 rewrites {}", file.display());
}

#[tokio::test]
async fn the_table_of_failures_is_the_plugins_own() {
    let description = plugin().describe().await.0.unwrap();
    let mut table =
        "# Failures and notices\n\nMade from the plugin's own table; its failures and notices carry one of these \
                     codes. The host has a few of its own, which say all that they mean, such as `page-limit` and `plugin-trapped`.\n\n\
                     The fault says who can mend it; a notice needs nobody. The log, `poll` and `check` use the same words.\n\n| fault | who |\n|---|---|\n"
            .to_owned();
    for blame in Blame::ALL {
        writeln!(table, "| {blame} | {} |", blame.who()).unwrap();
    }
    table += "\n| code | fault | cause | fix |\n|---|---|---|---|\n";
    let reaction = |code: &str| TABLE.iter().find(|row| row.code == code).unwrap().reaction;
    for row in &description.diagnoses {
        let failure = reaction(&row.code).map(|reaction| {
            let word = format!("{reaction:?}").replace("Reaction::", "");
            let reaction = serde_json::from_value(word.into()).unwrap();
            Failure::of_host(reaction, &row.code, String::new())
        });
        let blame = failure.map(|failure| failure.whose().to_string()).unwrap_or_default();
        let fix = row.fix.replace('|', "\\|");
        writeln!(table, "| `{}` | {blame} | {} | {fix} |", row.code, row.cause).unwrap();
    }
    check("docs/failures.md", &table);
}

#[tokio::test]
async fn every_code_that_says_who_can_mend_it_is_said_somewhere() {
    let description = plugin().describe().await.0.unwrap();
    let of_plugin = description.diagnoses.iter().map(|row| row.code.as_str());
    let of_check = FAULTS.iter().map(|fault| fault.code).chain(REMARKS.iter().map(|remark| remark.code));
    let of_host = [blame::STORE_FAILED, blame::OUTBOX_FULL, blame::HOST_FAILED, "token-requests-limited"];
    let known: Vec<&str> = of_plugin.chain(of_check).chain(of_host).collect();
    let codes = blame::CODES.iter().flat_map(|(_, codes)| *codes);
    assert_eq!(codes.filter(|code| !known.contains(code)).collect::<Vec<_>>(), Vec::<&&str>::new());
}

#[test]
fn the_table_of_metrics_is_what_is_served() {
    let mut table = "# Metrics\n\nMade from what `/metrics` serves. Labels are `tenant` and `feed`, the words of \
                     outcomes, statuses, settings and codes, and for the outbox `sink`; nothing is labelled by what a \
                     tenant has.\n\n| metric | type | what |\n|---|---|---|\n"
        .to_owned();
    let text = Metrics::default().text(&[], 0);
    let helps = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    for ((name, help), (same, kind)) in helps.zip(types) {
        assert_eq!(name, same);
        writeln!(table, "| `{name}` | {kind} | {help} |").unwrap();
    }
    check("docs/metrics.md", &table);
}

#[test]
fn the_tables_of_what_is_tested_are_the_tests_own() {
    let document = std::fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let line = "<!-- Below this line everything is made from the tests. -->\n";
    let written = document.split_once(line).unwrap().0;
    check("SECURITY.md", &format!("{written}{line}{}", crate::security::text()));
}

/// Configurations of a document that begin with a comment that names a file.
fn configurations(document: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    let blocks = text.split("```toml\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned());
    blocks.filter(|block| block.starts_with("# ")).collect()
}

#[test]
fn configurations_in_documents_are_good() {
    let mut seen = 0;
    let documents = ["README.md", "docs/collector.md", "docs/network.md", "docs/sign-in.md", "docs/azure-setup.md"];
    for document in documents {
        for text in configurations(document) {
            let secret = |name: &str| (!PROXY_VARIABLES.contains(&name)).then(|| "a-secret-of-tests".to_owned());
            let config = config::parse(Path::new(document), &text, None, &secret);
            assert_eq!(config.problems, [], "{document}");
            seen += 1;
        }
    }
    assert!(seen >= 4);
}

#[test]
fn no_build_of_the_commands_that_set_everything_up_is_silent() {
    let sources = std::fs::read_dir(root().join("xtask/src")).unwrap().map(|entry| entry.unwrap().path());
    for file in sources.chain([root().join(".cargo/config.toml")]) {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains("--quiet") && !text.contains("\"-q\""), "{}", file.display());
    }
}
