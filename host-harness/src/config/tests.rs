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

fn read(text: &str, only: Option<&str>) -> Result<Config, Vec<String>> {
    let environment = |name: &str| (name != "NOBODY").then(|| format!("value of {name}"));
    parse(Path::new("c.toml"), text, only, &environment)
        .map_err(|problems| problems.iter().map(Problem::to_string).collect())
}

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
fn all_problems_come_at_once_with_line_key_and_what_was_expected() {
    let text = r#"
[netwrk]
[network]
allow = ["https://host.example/path"]
allow_addresses = ["10/8"]
proxy = "http://proxy:3128"
[[sink]]
id = "lake"
type = "nats"
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
        "c.toml:6: network.proxy: this version",
        "c.toml:9: sink[0].type: found \"nats\", expected \"stdout\", \"file\" or \"http\"",
        "c.toml:11: feed[0].id: found \"One\", expected [a-z0-9]",
        "c.toml:12: feed[0].tenant: found an integer, expected",
        "c.toml:13: feed[0].interval: found \"0s\", expected a duration",
        "c.toml:14: feed[0].sinks[0]: found \"none\", expected the id of a [[sink]]",
        "c.toml:20: feed[1].settings.client_secret: found no variable NOBODY",
        "c.toml:22: feed[2].id: found \"a\" a second time",
        "feed[2].settings: is missing",
    ] {
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected} in {problems:#?}");
    }
    assert_eq!(problems.len(), 12, "{problems:#?}");
}

#[test]
fn what_is_no_toml_names_its_line() {
    let problems = read("a = \n", None).unwrap_err();
    assert!(problems[0].starts_with("c.toml:1: is no TOML"), "{problems:?}");
}

#[test]
fn an_unknown_feed_names_the_known_ones() {
    assert_eq!(read(GOOD, Some("tow")).unwrap_err(), ["c.toml: found no feed \"tow\", expected one of: one, two"]);
}

#[test]
fn a_short_interval_is_a_warning() {
    let config = read(&GOOD.replace("id = \"one\"", "id = \"one\"\ninterval = \"30s\""), None).unwrap();
    assert!(config.warnings[0].to_string().contains("feed[0].interval"));
}
