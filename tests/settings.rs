//! Messages about settings before anything is sent.

use std::path::Path;
use std::time::Duration;

use azure_secure_score::contract::Problem;
use azure_secure_score::prepare;
use azure_secure_score::settings as plugin_settings;
use host_harness::config;
use host_harness::config::admission;
use serde_json::{Value, json};
use source_host::credentials::settings::schema::validator;

use crate::support::{feed, host, noon};

/// Returns the messages about a feed with one part of its configuration replaced.
async fn told(part: &str, other: &str) -> Vec<String> {
    const GOOD: &str = "[[feed]]\nid = \"prod\"\ntenant = \"contoso\"\n[feed.settings]\n\
                        client_key = \"11111111-2222-3333-4444-555555555555\"\nclient_secret = { env = \"SECRET\" }\n\
                        token_url = \"contoso.example\"\nsubscription_id = \"*\"\n";
    assert!(GOOD.contains(part));
    let text = GOOD.replacen(part, other, 1);
    let environment = |name: &str| (name == "SECRET").then(|| "a-secret-of-tests".to_owned());
    let config = config::parse(Path::new("c.toml"), &text, None, &environment);
    match admission::check(&host(), config, None, &noon()).await {
        Ok(_) => Vec::new(),
        Err(config::StartError::Configuration(problems)) => problems.iter().map(ToString::to_string).collect(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_setting_that_is_none_is_told_once_with_where_it_belongs() {
    for (part, other, expected) in NO_SETTINGS {
        // A line is added after the last one.
        let other = if *part == END { format!("{END}{other}\n") } else { (*other).to_owned() };
        let told = told(part, &other).await;
        assert!(told.len() == 1 && told[0].contains(expected), "{expected}\nin {told:#?}");
        assert!(!told[0].contains("31337"), "{told:?}");
    }
}

const END: &str = "subscription_id = \"*\"\n";
const SECRET: &str = "{ env = \"SECRET\" }";

/// A part of the configuration, its replacement, and the message about it.
const NO_SETTINGS: &[(&str, &str, &str)] = &[
    (
        END,
        "interval = \"1h\"",
        "c.toml:9: feed prod: settings.interval: belongs to [[feed]]: move it above [feed.settings]",
    ),
    (END, "sinks = [\"lake\"]", "settings.sinks: belongs to [[feed]]: move it above [feed.settings]"),
    (END, "contact = { name = \"x\" }", "settings.contact: belongs to [[feed]]: move it above"),
    (END, "plugin = \"x.wasm\"", "settings.plugin: belongs to [[feed]]: move it above"),
    (END, "proxy = \"http://p\"", "settings.proxy: unknown setting; it belongs to [network]"),
    (END, "rotate_bytes = 1", "settings.rotate_bytes: unknown setting; it belongs to a [[sink]] of type \"file\""),
    (END, "resource_group = \"x\"", "settings.resource_group: found an unknown setting, expected a known setting"),
    (
        "subscription_id",
        "subscription_ids",
        "settings.subscription_ids: found an unknown setting, expected a known setting; the nearest is `subscription_id`",
    ),
    (
        "client_secret",
        "client_secert",
        "settings.client_secert: found an unknown setting, expected a known setting; the nearest is `client_secret`",
    ),
    (
        SECRET,
        "{ evn = \"SECRET\" }",
        "settings.client_secret: found the unknown key `evn`; the nearest is `env`: { env = \"…\" }",
    ),
    (
        SECRET,
        "{ Path = \"s\" }",
        "settings.client_secret: found the unknown key `Path`; the nearest is `file`: { file = \"…\" }",
    ),
    (
        SECRET,
        "{ secret = \"s\" }",
        "settings.client_secret: found a table, expected a string, { env = \"…\" } or { file = \"…\" }",
    ),
    (SECRET, "31337", "settings.client_secret: found a number, expected a string, { env = \"…\" } or { file = \"…\" }"),
    ("\"contoso.example\"", "{ evn = \"T\" }", "settings.token_url: found the unknown key `evn`; the nearest is `env`"),
    (
        END,
        "client_certificate = \"x\"",
        "settings.client_certificate: found `client_secret` as well, expected only one credential",
    ),
];

#[tokio::test]
async fn what_is_odd_about_a_credential_is_told_by_name_and_never_by_value() {
    for (value, words) in [
        (" s~ecret ", "white space around it was removed"),
        ("\"s~ecret\"", "is written in quotes"),
        ("s~ecret in two", "has white space inside"),
        ("s~ecre7", "fewer than 8 characters"),
        ("11111111-2222-3333-4444-555555555555", "is a GUID"),
        ("eyJhbGciOi.eyJpc3Mi.c2lnbmVk", "is a token, which the host fetches by itself"),
        ("\u{feff}s~ecret8\r\n", "a byte order mark at its beginning and white space at its end were removed"),
        ("s~ecret8\u{200b}\0", "a zero-width space and a NUL at its end were removed"),
        ("“s~ecret”", "has a typographic quotation mark as characters 1, 9"),
        ("s~ec\0ret8", "has a NUL as character 5"),
        ("s~ecret8\nof-two", "has 2 lines"),
        ("${CONTOSO_SECRET}", "looks like a reference"),
        ("export CONTOSO_SECRET=s~ecret8", "looks like `NAME=value`"),
        ("Bearer s~ecret8", "begins as a header of HTTP does"),
        ("{\"password\": \"s~ecret8\"}", "looks like JSON"),
        ("OHl+OFF+YXp1cmUtc2VjcmV0LXZhbHVl", "looks like base64"),
        ("8y%7E8Q%7Eazure-secret", "looks percent-encoded"),
        ("/run/secrets/contoso", "looks like the path of a file"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", "looks like PEM"),
        ("<client secret>", "looks like a placeholder"),
    ] {
        let oddities = feed(json!({ "client_secret": value })).await.oddities();
        let told =
            oddities.iter().any(|odd| odd.setting.as_deref() == Some("client_secret") && odd.words.contains(words));
        assert!(told, "expected {words:?} in {oddities:?}");
        let alone = oddities.len() == 1 || value.trim().len() < 8;
        assert!(alone, "what follows from another is told, too: {oddities:?}");
        assert!(oddities.iter().all(|odd| !odd.words.contains(value.trim())), "{oddities:?}");
    }
    assert_eq!(feed(json!({ "client_secret": "s~ecret8" })).await.oddities(), []);
}

#[tokio::test]
async fn the_declared_requests_are_one_post_and_gets() {
    let shapes = feed(json!({})).await.plan().shapes.clone();
    let methods: Vec<_> = shapes.iter().map(|shape| shape.method.as_str()).collect();
    assert_eq!(methods.iter().filter(|method| **method == "POST").count(), 1);
    assert!(methods.iter().all(|method| ["GET", "POST"].contains(method)));
}

/// Reads `snapshot_every` in the way of the plugin, and checks that the plugin's schema agrees.
fn snapshot_seconds(value: &Value) -> Result<u64, Vec<Problem>> {
    let settings = json!({
        "client_key": "11111111-2222-3333-4444-555555555555",
        "client_secret": "a-secret-of-tests",
        "token_url": "contoso.example",
        "subscription_id": "*",
        "snapshot_every": value,
    });
    let schema = serde_json::from_str(&prepare::description().settings_schema).unwrap();
    let fits = validator(&schema).unwrap().is_valid(&settings);
    let read = plugin_settings::read(&settings.to_string()).map(|(settings, ..)| settings.snapshot_seconds);
    assert_eq!(read.is_ok(), fits, "the schema and the plugin disagree about {value}");
    read
}

#[test]
fn plugin_schema_and_collector_have_one_grammar_of_durations() {
    for (text, seconds) in [
        ("1s", 1),
        ("5s", 5),
        ("90m", 5_400),
        ("24h", 86_400),
        ("7d", 604_800),
        ("10s", 10),
        ("999999999s", 999_999_999),
        ("999999999d", 86_399_999_913_600),
    ] {
        assert_eq!(config::duration(text), Some(Duration::from_secs(seconds)), "{text}");
        assert_eq!(snapshot_seconds(&json!(text)), Ok(seconds), "{text}");
    }
    for text in NO_DURATIONS {
        assert_eq!(config::duration(text), None, "{text}");
        let problems = snapshot_seconds(&json!(text)).expect_err(text);
        let [problem] = problems.as_slice() else { panic!("{text}: {problems:?}") };
        assert_eq!(problem.setting, "/snapshot_every");
        assert_eq!(problem.found, format!("`{}`", text.escape_debug()));
        let expected = "whole seconds from 1 to 999999999, or a duration such as `30m`, `24h` or `7d`";
        assert!(problem.expected.starts_with(expected), "{text}: {problem:?}");
    }
}

/// Texts that are durations for neither the plugin nor the collector.
const NO_DURATIONS: &[&str] = &[
    "",
    "s",
    "5",
    "90",
    "0",
    "0s",
    "00s",
    "05s",
    "0d",
    "+5s",
    "-5s",
    "+s",
    " 5s",
    "5s ",
    "5 s",
    "5s\n",
    "\n5s",
    "5S",
    "5M",
    "5H",
    "5D",
    "5w",
    "5ms",
    "1h30m",
    "1.5h",
    "5.0s",
    "5,0s",
    "1_000s",
    "1e3s",
    "0x5s",
    "PT5S",
    "5sec",
    "5 seconds",
    "1h ",
    "\u{665}s",
    "\u{ff15}s",
    "5\u{17f}",
    "5\u{e9}",
    "5s\u{a0}",
    "5s\0",
    "s5",
    "1000000000s",
    "1000000000d",
    "18446744073709551615s",
    "18446744073709551616s",
    "213503982334602d",
    "99999999999999999999d",
];

#[test]
fn the_plugin_takes_whole_seconds_as_a_number_too() {
    for (number, seconds) in [("1", 1), ("90", 90), ("90.0", 90), ("1e3", 1_000), ("999999999", 999_999_999)] {
        assert_eq!(snapshot_seconds(&number.parse().unwrap()), Ok(seconds), "{number}");
    }
    for number in [
        "0",
        "-1",
        "0.5",
        "1.5",
        "-0.0",
        "1000000000",
        "9223372036854775807",
        "18446744073709551616",
        "1e300",
        "true",
        "null",
        "[5]",
        "{}",
    ] {
        let problems = snapshot_seconds(&number.parse().unwrap()).expect_err(number);
        assert_eq!(problems.len(), 1, "{number}: {problems:?}");
    }
}
