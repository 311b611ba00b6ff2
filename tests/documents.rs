//! Documents that are made from the code: `UPDATE_EXPECT=1` rewrites them. And examples in documents, which must work.

use std::fmt::Write;
use std::path::Path;

use host_harness::config;
use host_harness::metrics::Metrics;

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
                     codes. The host has a few of its own, which say all that they mean, such as `page-limit` and `plugin-trapped`.\n\n| code | cause | fix |\n|---|---|---|\n"
            .to_owned();
    for row in &description.diagnoses {
        writeln!(table, "| `{}` | {} | {} |", row.code, row.cause, row.fix.replace('|', "\\|")).unwrap();
    }
    check("docs/failures.md", &table);
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
