//! `[[feed]]` and `[feed_defaults]`.

use super::*;

const GOOD: &str = r#"
[network]
allow = ["https://127.0.0.1:8443"]
allow_addresses = ["127.0.0.0/8"]

[feed_defaults]
tenant = "contoso"
[feed_defaults.settings]
client_secret = { env = "SECRET" }

[[feed]]
id = "one"
[feed.settings]
client_key = "k"
subscription_id = ["a"]

[[feed]]
id = "two"
tenant = "fabrikam"
[feed.settings]
client_secret = { env = "OTHER", plain = true }
"#;

#[test]
fn a_feed_has_its_own_values_over_the_defaults() {
    let config = read(GOOD, None).unwrap();
    assert_eq!(config.feeds[0].tenant, "contoso");
    assert_eq!(config.feeds[0].sealed, ["client_secret"]);
    assert_eq!(config.feeds[1].tenant, "fabrikam");
    assert!(config.feeds[1].sealed.is_empty());
    assert_eq!(read(GOOD, Some("two")).unwrap().feeds.len(), 1);
}

#[test]
fn an_unknown_feed_names_the_known_ones() {
    assert_eq!(
        read(GOOD, Some("tow")).unwrap_err(),
        ["c.toml: found no feed \"tow\", expected one of: one, two; write \"two\""]
    );
}

#[test]
fn all_problems_come_at_once_with_line_key_and_what_was_expected() {
    let text = r#"
[netwrk]
[network]
allow = ["https://host.example/path"]
allow_addresses = ["10/8"]
proxy = "socks5://proxy:1080"
[[sink]]
id = "lake"
type = "kafka"
[[feed]]
id = "One"
tenant = 7
interval = "0s"
sinks = ["none"]
[feed.settings]
[[feed]]
id = "a"
tenant = "t"
[feed.settings]
client_secret = { env = "NOBODY" }
[[feed]]
id = "a"
tenant = "t"
"#;
    let problems = read(text, None).unwrap_err();
    for expected in [
        "c.toml:2: netwrk: unknown key; the nearest is `network`",
        "c.toml:4: network.allow[0]: found \"https://host.example/path\", expected an origin",
        "c.toml:5: network.allow_addresses[0]: found \"10/8\", expected",
        "c.toml:6: network.proxy: found something else, expected the address of an HTTP proxy",
        "c.toml:9: sink lake: type: found \"kafka\", expected \"stdout\", \"file\", \"http\", \"otlp\" or \"nats\"",
        "c.toml:11: feed One: id: found \"One\", expected [a-z0-9]",
        "c.toml:12: feed One: tenant: found 7, expected",
        "c.toml:13: feed One: interval: found \"0s\", expected a duration",
        "c.toml:14: feed One: sinks[0]: found \"none\", expected the id of a [[sink]]",
        "c.toml:20: feed a: settings.client_secret: found no variable NOBODY",
        "c.toml:22: feed[2].id: found \"a\" a second time",
        "feed[2].settings: is missing",
    ] {
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected} in {problems:#?}");
    }
    assert_eq!(problems.len(), 12, "{problems:#?}");
}

#[test]
fn an_interval_far_below_the_services_own_is_a_warning() {
    let oddity = |written: &str, hours: u64| {
        let config = read(&GOOD.replace("id = \"one\"", &format!("id = \"one\"\ninterval = \"{written}\"")), None);
        let interval = config.unwrap().feeds.remove(0).interval.unwrap();
        interval.oddity(Duration::from_secs(hours * 3_600)).map(|problem| problem.to_string())
    };
    let told = oddity("30s", 8).unwrap();
    assert!(told.ends_with("feed one: interval: 30s is short: the service has new data every 8 h"), "{told}");
    assert_eq!((oddity("15m", 8), oddity("1m", 0)), (None, None));
}

#[test]
fn intervals_have_bounds() {
    for (interval, good) in [("1s", true), ("31d", true), ("32d", false), ("0s", false), ("1", false), ("1h30m", false)]
    {
        let read = read(&feed("a", &format!("interval = \"{interval}\"")), None);
        assert_eq!(read.is_ok(), good, "{interval}");
    }
}
