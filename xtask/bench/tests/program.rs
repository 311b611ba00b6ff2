//! The benchmark as `cargo xtask bench` runs it: which rows it prints, and that jq maps the poll to the plugin's events.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn benchmark(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_benchmark")).args(arguments).output();
    output.unwrap_or_else(|error| panic!("the benchmark does not start: {error}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_program_reads_the_figures_of_the_native_rows() {
    let output = benchmark(&["--json", "--only", "native", "--pairs", "7"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&str> = rows.iter().filter_map(|row| row["row"].as_str()).collect();
    assert_eq!(names, ["native-unchanged", "native-snapshot", "native-first", "native-poll"]);
    for row in &rows {
        let number = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name} in {row}"));
        let [ours, other, ratio] = ["ours", "other", "ratio"].map(number);
        assert!(ours > 0.0 && other > 0.0 && ratio > 0.0, "{row}");
        let spread: [f64; 2] = serde_json::from_value(row["spread"].clone()).unwrap();
        assert!(spread[0] <= ratio && ratio <= spread[1], "{row}");
        assert_eq!(row["unit"], "µs");
        assert!(number("records_per_second") > 0.0 && row["what"].is_string() && row["beside"].is_string(), "{row}");
    }
    assert_eq!(rows[2]["goals"][0]["goal"], "≥ 0.50 ×");
    assert!(rows[2]["goals"][0]["reached"].is_boolean());
}

/// The places of forty scopes in the day do not change, and about half of them come in the day's second half.
#[test]
fn a_day_has_a_first_poll_of_each_scope_and_planned_ones_after_half_the_interval() {
    let output = benchmark(&["--json", "--only", "day", "--scopes", "40"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let figure = |name: &str| {
        let row = rows.iter().find(|row| row["row"] == name).unwrap_or_else(|| panic!("{name} in {rows:?}"));
        row["ours"].as_f64().unwrap()
    };
    assert_eq!(rows.len(), 13);
    assert_eq!(rows[0]["what"], "resident memory while all scopes wait, 40 scopes");
    assert!((45.0..=75.0).contains(&figure("day-polls")), "{rows:?}");
    assert!(figure("day-peak") >= figure("day-memory") && figure("day-memory") > 1.0, "{rows:?}");
    for (most_polls, longest) in [("day-first", "day-first-longest"), ("day-lateness", "day-lateness-longest")] {
        let (most_polls, longest) = (figure(most_polls), figure(longest));
        assert!(most_polls <= longest && longest < 3_600.0, "{rows:?}");
    }
    let positive = ["day-poll", "day-store", "day-elapsed", "day-restart", "day-page"];
    assert!(positive.iter().all(|name| figure(name) > 0.0), "{rows:?}");
}

#[test]
fn a_row_that_needs_something_absent_is_left_out_with_the_reason() {
    let output = benchmark(&["--json", "--only", "mapping-vrl"]);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), "[]\n");
    assert!(text(&output.stderr).starts_with("left out: mapping-vrl: there is no program that runs VRL"));
}

#[test]
fn a_row_that_does_not_exist_is_an_error_that_names_all_rows() {
    let output = benchmark(&["--only", "native", "--only", "vrl"]);
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(
        error.starts_with("error: found no row vrl, expected the beginning of one of: native-unchanged, "),
        "{error}"
    );
}

#[test]
fn figures_are_read_from_a_file() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/performance.json");
    let output = benchmark(&["--from", &file.to_string_lossy()]);
    let table = text(&output.stdout);
    assert!(output.status.success() && table.contains("\n| native-unchanged | `normalize`, "), "{table}");
    let output = benchmark(&["--from", "no/such/file.json"]);
    assert!(text(&output.stderr).starts_with("error: no/such/file.json: "), "{}", text(&output.stderr));
}

#[test]
fn jq_maps_the_poll_to_the_events_of_the_plugin() {
    let output = benchmark(&["--compare", "--jq", &jq()]);
    let told = text(&output.stdout);
    assert!(output.status.success() && told.contains("jq gives the plugin's events\n"), "{told}");
}

/// Returns jq: of the system, or unpacked by `cargo xtask test`.
fn jq() -> String {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/jq/usr/bin/jq");
    if unpacked.is_file() { unpacked.to_string_lossy().into_owned() } else { "jq".to_owned() }
}
