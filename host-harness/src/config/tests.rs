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
    let environment = |name: &str| (name != "NOBODY" && !is_proxy(name)).then(|| format!("value of {name}"));
    told(parse(Path::new("c.toml"), text, only, &environment))
}

fn is_proxy(name: &str) -> bool {
    name.to_ascii_uppercase().ends_with("_PROXY")
}

/// The configuration, unless something is wrong with it, or a feed would be left out.
fn told(config: Config) -> Result<Config, Vec<String>> {
    let unreadable = config.feeds.iter().flat_map(|feed| feed.unreadable.iter().map(|(_, problem)| problem));
    let told: Vec<String> = config.problems.iter().chain(unreadable).map(Problem::to_string).collect();
    if told.is_empty() { Ok(config) } else { Err(told) }
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
proxy = "socks5://proxy:1080"
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
        "c.toml:6: network.proxy: found something else, expected the address of an HTTP proxy",
        "c.toml:9: sink[0].type: found \"nats\", expected \"stdout\", \"file\" or \"http\"",
        "c.toml:11: feed[0].id: found \"One\", expected [a-z0-9]",
        "c.toml:12: feed[0].tenant: found an integer, expected",
        "c.toml:13: feed[0].interval: found \"0s\", expected a duration",
        "c.toml:14: feed[0].sinks[0]: found \"none\", expected the id of a [[sink]]",
        "c.toml:20: feed a: settings.client_secret: found no variable NOBODY",
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

const SINKS: &str = r#"
[[sink]]
id = "lake"
type = "file"
path = "out/{tenant}.ndjson"
[[sink]]
id = "hec"
type = "http"
url = "https://splunk.example/services/collector/event"
preset = "splunk-hec"
token = { env = "HEC" }
headers = { "x-tenant" = "{tenant}" }
"#;

/// A feed with these lines of its own.
fn feed(id: &str, lines: &str) -> String {
    format!("[[feed]]\nid = \"{id}\"\ntenant = \"t\"\n{lines}\n[feed.settings]\nclient_key = \"k\"\n")
}

#[test]
fn a_feed_goes_to_the_sinks_that_it_names_or_to_all() {
    let text = format!("{SINKS}{}{}", feed("a", "sinks = [\"hec\"]"), feed("b", ""));
    let config = read(&text, None).unwrap();
    assert_eq!(config.feeds[0].sinks, ["hec"]);
    assert_eq!(config.feeds[1].sinks, ["lake", "hec"]);
    assert_eq!(read(&feed("a", ""), None).unwrap().feeds[0].sinks, ["stdout"]);
}

#[test]
fn sinks_and_feeds_that_miss_each_other_are_found() {
    let text = format!("{SINKS}{}{}", feed("a", "sinks = [\"hec\"]"), feed("b", "sinks = []"));
    let problems = read(&text, None).unwrap_err();
    let expected = ["feed[1].sinks: found an empty list", "sink[0]: no feed names the sink \"lake\""];
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.contains(expected), "{problem}");
    }
    assert_eq!(problems.len(), 2, "{problems:#?}");
}

#[test]
fn what_is_wrong_with_a_sink_names_its_key() {
    for (lines, expected) in [
        ("type = \"file\"", "sink[0].path: is missing"),
        ("type = \"file\"\npath = \"{scope}\"", "sink[0].path: found \"{scope}\", expected {tenant} or {feed}"),
        ("type = \"file\"\npath = \"a\"\nurl = \"b\"", "sink[0].url: unknown key"),
        (
            "type = \"file\"\npath = \"a\"\nrotate_bytes = 0",
            "sink[0].rotate_bytes: found an integer, expected a number",
        ),
        ("type = \"file\"\npath = \"a\"\nmax_outbox_bytes = \"1\"", "sink[0].max_outbox_bytes: found a text"),
        ("type = \"http\"\nurl = \"host.example\"", "sink[0].url: found \"host.example\", expected an address"),
        ("type = \"http\"\nurl = \"https://h\"\ntoken = \"abc\"", "sink[0].token: found the value itself"),
        (
            "type = \"http\"\nurl = \"https://h\"\ntoken = { env = \"NOBODY\" }",
            "sink[0].token: found no variable NOBODY",
        ),
        ("type = \"http\"\nurl = \"https://h\"\npreset = \"kafka\"", "sink[0].preset: found \"kafka\", expected"),
        ("type = \"http\"\nurl = \"https://h\"\nheaders = { \"a b\" = \"c\" }", "sink[0].headers.a b: found"),
        ("type = \"http\"\nurl = \"https://h\"\ngzip = 1", "sink[0].gzip: found an integer, expected true or false"),
    ] {
        let problems =
            read(&format!("[[sink]]\nid = \"s\"\n{lines}\n{}", feed("a", "sinks = [\"s\"]")), None).unwrap_err();
        assert!(problems[0].contains(expected), "{expected} in {problems:?}");
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
}

#[test]
fn two_ways_into_one_file_are_found() {
    let sink = |id: &str, path: &str| format!("[[sink]]\nid = \"{id}\"\ntype = \"file\"\npath = \"{path}\"\n");
    let clash = |first: &str, second: &str| {
        let text = format!("{}{}{}{}", sink("a", first), sink("b", second), feed("x-y", ""), feed("x", ""));
        read(&text, None).err().map(|problems| problems.join("\n")).unwrap_or_default()
    };
    assert!(clash("one", "one").contains("goes where the sink \"a\" goes"));
    let too = "its events go to one, where those of the feed \"x-y\" for the sink \"a\" go too";
    assert!(clash("./one", "one").contains(too));
    assert!(clash("x/../one", "one").contains(too));
    let absolute = std::path::absolute("one").unwrap();
    assert!(clash(absolute.to_str().unwrap(), "one").contains(too));
    // Some file systems do not tell them apart.
    assert!(clash("One", "one").contains(too));
    assert!(clash("{tenant}-y", "{feed}-z").is_empty());
    let dead =
        format!("{SINKS}[[sink]]\nid = \"s\"\ntype = \"stdout\"\ndead_letters = \"collector.db\"\n{}", feed("a", ""));
    assert!(read(&dead, None).unwrap_err()[0].contains("sink[2]: its dead letters go to collector.db"));
    for path in ["collector.db", "./collector.db-wal", "c.toml", "dead-letters-a.ndjson"] {
        assert!(clash(path, "two").contains("expected a file of their own"), "{path}");
    }
    assert!(clash("t-y", "{tenant}-y").contains("where those of the feed \"x-y\" for the sink \"a\" go too"));
    for (path, expected) in [
        ("collector.db", "which is the state"),
        ("collector.db/x", "which lies below the state"),
        ("c.toml", "which is a file of the configuration"),
        ("dead-letters-a.ndjson", "which is the file of dead letters of the sink \"a\""),
    ] {
        assert!(clash(path, "two").contains(&format!("its events go to {path}, {expected}")), "{path}");
    }
}

#[test]
fn two_tenants_never_share_a_file() {
    let clash = |paths: &[&str], feeds: &[(&str, &str)]| {
        let sinks = paths.iter().enumerate().map(|(index, path)| {
            format!("[[sink]]\nid = \"s{index}\"\ntype = \"file\"\npath = \"{path}\"\ndead_letters = \"d{index}.1\"\n")
        });
        let feeds = feeds.iter().map(|(tenant, id)| feed(id, "").replace("\"t\"", &format!("{tenant:?}")));
        let text = sinks.chain(feeds).collect::<String>();
        read(&text, None).err().map(|problems| problems.join("\n")).unwrap_or_default()
    };
    let tenants = [("acme", "a"), ("acme.1", "b"), ("acme.2", "c")];
    // Names of files that are put aside: nobody else can have them.
    for path in ["{tenant}", "{tenant}/{feed}", "{tenant}.ndjson", "{tenant}-{feed}", "{feed}.{tenant}", "x.{tenant}"] {
        assert_eq!(clash(&[path], &tenants), "", "{path}");
    }
    for (paths, feeds, expected) in [
        (&["{tenant}-{feed}"][..], &[("a-b", "c"), ("a", "b-c")][..], "where those of the feed \"c\" for"),
        (&["{tenant}{feed}"], &[("a", "bc"), ("ab", "c")], "where those of the feed \"bc\" for"),
        (&["one", "one.1"], &[("a", "b")], "its events go to one.1, a name that the file of those of the feed \"b\""),
        (&["{tenant}", "{tenant}.1~"], &[("a", "b")], "its events go to a.1~, a name that the file of"),
        (&["one", "one.{feed}"], &[("a", "7")], "its events go to one.7, a name that the file of"),
        (&["{tenant}", "{tenant}/x"], &[("a", "b")], "its events go to a, the folder in which those of"),
        (&["d"], &[("a", "b")], ""),
        (&["d0"], &[("a", "b")], ""),
        (&["D0.1"], &[("a", "b")], "which is the file of dead letters of the sink \"s0\""),
    ] {
        let found = clash(paths, feeds);
        assert!(if expected.is_empty() { found.is_empty() } else { found.contains(expected) }, "{expected} in {found}");
    }
    // Where the live file ends in a text, so that its number has no mark.
    let dead =
        "[[sink]]\nid = \"s\"\ntype = \"file\"\npath = \"d\"\ndead_letters = \"d.3\"\n".to_owned() + &feed("a", "");
    let problems = read(&dead, None).unwrap_err();
    assert!(
        problems[0].contains("its events go to d, which may get the name of the file of dead letters"),
        "{problems:?}"
    );
}

#[test]
fn the_collector_listens_to_others_only_with_a_token() {
    let collector = |lines: &str| read(&format!("[collector]\n{lines}\n{}", feed("a", "")), None);
    assert_eq!(collector("listen = \"127.0.0.1:9464\"").unwrap().collector.listen.unwrap().port(), 9464);
    assert!(
        collector("listen = \"0.0.0.0:9464\"").unwrap_err()[0].contains("expected a loopback address, or a `token`")
    );
    assert!(collector("listen = \"0.0.0.0:9464\"\ntoken = { env = \"T\" }").unwrap().collector.token.is_some());
    assert!(collector("listen = \"9464\"").unwrap_err()[0].contains("expected an address and a port"));
    assert!(collector("max_polls = 0").unwrap_err()[0].contains("expected a number of polls from 1"));
    assert_eq!(collector("state = \"x/y.db\"").unwrap().collector.state, Path::new("x/y.db"));
}

#[test]
fn intervals_have_bounds() {
    for (interval, good) in [("1s", true), ("31d", true), ("32d", false), ("0s", false), ("1", false), ("1h30m", false)]
    {
        let read = read(&feed("a", &format!("interval = \"{interval}\"")), None);
        assert_eq!(read.is_ok(), good, "{interval}");
    }
}

/// Reads a folder with these files.
fn read_folder(files: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    told(load(folder.path(), None, &|name| (!is_proxy(name)).then(|| "value".to_owned())))
}

#[test]
fn a_folder_is_one_configuration() {
    let defaults = "[feed_defaults]\ninterval = \"2h\"\n[collector]\nstate = \"here.db\"\n";
    let config = read_folder(&[
        ("a.toml", &feed("a", "")),
        ("main.toml", &format!("{defaults}{SINKS}")),
        ("notes.txt", "no TOML"),
        (".hidden.toml", "no TOML"),
    ]);
    let config = config.unwrap();
    assert_eq!(config.feeds[0].interval, Some(Duration::from_secs(7_200)));
    assert_eq!(config.sinks.len(), 2);
    assert!(config.collector.state.ends_with("here.db"));
}

#[test]
fn one_bad_file_of_a_folder_is_named_and_hides_nothing() {
    let problems = read_folder(&[
        ("a.toml", &feed("a", "sinks = [\"lake\"]\nintervall = \"1h\"")),
        ("b.toml", "[[sink]\n"),
        ("c.toml", &feed("a", "interval = 5")),
    ])
    .unwrap_err();
    for (problem, expected) in problems.iter().zip([
        "b.toml:1: is no TOML",
        "a.toml:5: feed[0].intervall: unknown key; the nearest is `interval`",
        "a.toml:2, expected ids that differ",
        "c.toml:4: feed[0].interval: found an integer, expected a duration",
    ]) {
        assert!(problem.contains(expected), "{expected} in {problem}");
    }
    assert_eq!(problems.len(), 4, "{problems:#?}");
}

#[test]
fn a_table_of_the_whole_stands_in_one_file() {
    let problems = read_folder(&[
        ("a.toml", &format!("[collector]\nstate = \"a.db\"\n{}", feed("a", ""))),
        ("b.toml", "[collector]\nstate = \"b.db\"\n"),
    ])
    .unwrap_err();
    assert!(
        problems[0].contains("b.toml:1: collector: stands at ") && problems[0].contains("a.toml:1 too"),
        "{problems:?}"
    );
    assert!(read_folder(&[]).unwrap_err()[0].contains("found no file *.toml"));
}

#[test]
fn a_file_in_another_encoding_is_named_with_the_command_that_converts_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = |text: &[u8]| {
        let file = folder.path().join("c.toml");
        std::fs::write(&file, text).unwrap();
        told(load(&file, None, &|_| None)).map_err(|problems| problems.join("\n"))
    };
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let text = feed("a", "").replace("client_key = \"k\"", "client_secret = { file = \"secret\" }");
    std::fs::write(folder.path().join("secret"), "\u{feff}a-secret-of-tests\r\n").unwrap();
    let read = config(format!("\u{feff}{text}").as_bytes()).unwrap();
    assert_eq!(read.feeds[0].settings.secrets().next().unwrap().expose(), "a-secret-of-tests");
    let problems = config(&utf16(&format!("\u{feff}{text}"))).unwrap_err();
    assert!(problems.contains("c.toml: is UTF-16, expected UTF-8: iconv -f UTF-16 -t UTF-8 "), "{problems}");
    let problems = config(b"# Schl\xfcssel\n").unwrap_err();
    assert!(
        problems.contains("is no UTF-8 from line 1 on") && problems.contains("iconv -f WINDOWS-1252"),
        "{problems}"
    );
    std::fs::write(folder.path().join("secret"), utf16("a-secret-of-tests")).unwrap();
    let problems = config(text.as_bytes()).unwrap_err();
    assert!(problems.contains("secret is UTF-16LE, expected UTF-8: iconv -f UTF-16LE"), "{problems}");
    assert!(!problems.contains("a-secret"), "{problems}");
}

#[test]
fn a_variable_that_is_no_utf8_is_named_with_the_command_that_converts_it() {
    let text = feed("a", "").replace("client_key = \"k\"", "client_secret = { env = \"SECRET\" }");
    let read = |value: &str| {
        told(parse(Path::new("c.toml"), &text, None, &|name| (name == "SECRET").then(|| value.to_owned())))
    };
    let told = read("hunter2-\u{fffd}").unwrap_err();
    let command = "export SECRET=\"$(printf %s \"$SECRET\" | iconv -f WINDOWS-1252 -t UTF-8)\"";
    assert!(
        told[0].contains("found a value that is no UTF-8 in the variable SECRET") && told[0].ends_with(command),
        "{told:?}"
    );
    assert!(told.len() == 1 && !told[0].contains("hunter2"), "{told:?}");
    assert_eq!(read("\u{feff}hunter2").unwrap().feeds[0].settings.secrets().next().unwrap().expose(), "hunter2");
}

#[test]
fn what_cannot_be_read_is_named() {
    let problems = read(&format!("[network]\nca_file = \"no-such.pem\"\n{}", feed("a", "")), None).unwrap_err();
    assert!(problems[0].starts_with("c.toml:2: network.ca_file: cannot read no-such.pem"), "{problems:?}");
    let folder = "[[sink]]\nid = \"s\"\ntype = \"file\"\npath = \"x\"\n".to_owned()
        + &feed("a", "client_secret = { file = \".\" }");
    let folder =
        folder.replace("client_secret", "settings.client_secret").replace("[feed.settings]\nclient_key = \"k\"\n", "");
    let problems = read(&folder, None).unwrap_err();
    assert!(problems[0].contains("client_secret: cannot read .: Is a directory"), "{problems:?}");
    assert_eq!(problems.len(), 1, "{problems:?}");
    let missing = told(load(Path::new("no-such.toml"), None, &|_| None)).unwrap_err();
    assert!(missing[0].starts_with("no-such.toml: cannot be read"), "{missing:?}");
}

/// The proxy of a configuration with this line in `[network]`, while these are set.
fn proxied(line: &str, variables: &[(&str, &str)]) -> Result<String, String> {
    let environment =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
    let text = format!("[network]\n{line}\n{}", feed("a", ""));
    let config = told(parse(Path::new("c.toml"), &text, None, &environment)).map_err(|problems| problems.join("\n"))?;
    let direct = url::Url::parse("https://inside.example").unwrap();
    assert!(config.network.proxy.address_for(&direct).is_none());
    let plain = url::Url::parse("http://outside.example").unwrap();
    let plain = if config.network.proxy.address_for(&plain).is_some() { "all" } else { "https" };
    Ok(format!("{plain} {}", config.network.proxy.name()))
}

#[test]
fn a_proxy_is_named_here_or_in_the_environment() {
    let inside = ("NO_PROXY", "inside.example");
    let of_environment = ("HTTPS_PROXY", "http://u:hunter2@outer:1");
    for (line, variables, expected) in [
        ("proxy = \"http://proxy:3128\"", &[of_environment, inside][..], "all http://proxy:3128"),
        ("proxy = { env = \"P\" }", &[("P", "http://u:hunter2@proxy:3128"), inside], "all http://proxy:3128"),
        ("", &[of_environment, inside], "https http://outer:1"),
        ("", &[("https_proxy", "outer:1"), ("no_proxy", ".example")], "https http://outer:1"),
        ("", &[("HTTPS_PROXY", ""), inside], "https "),
        ("", &[("HTTPS_PROXY", ""), ("https_proxy", "outer:1"), inside], "https http://outer:1"),
        ("", &[("HTTPS_PROXY", " \t"), ("https_proxy", "outer:1"), inside], "https http://outer:1"),
        ("", &[("HTTPS_PROXY", "outer:1"), ("https_proxy", ""), inside], "https http://outer:1"),
        ("", &[of_environment, ("NO_PROXY", " "), ("no_proxy", "inside.example")], "https http://outer:1"),
        ("", &[("https_proxy", "outer:1"), ("NO_PROXY", ""), ("no_proxy", "inside.example")], "https http://outer:1"),
    ] {
        assert_eq!(proxied(line, variables).as_deref(), Ok(expected), "{line} {variables:?}");
    }
}

#[test]
fn what_is_wrong_with_a_proxy_is_told_without_its_password() {
    for (line, variables, expected) in [
        ("proxy = \"http://u:hunter2@proxy:3128\"", &[][..], "c.toml:2: network.proxy: found a password in the open"),
        ("proxy = \"http://u:hunter2@proxy/x\"", &[], "c.toml:2: network.proxy: found something else, expected"),
        ("proxy = { env = \"P\" }", &[("P", "ftp://u:hunter2@h")], "c.toml:2: network.proxy: found something else"),
        ("proxy = { env = \"P\" }", &[], "c.toml:2: network.proxy: found no variable P"),
        ("proxy = 1", &[], "c.toml:2: network.proxy: found an integer, expected the address of a proxy"),
        (
            "",
            &[("HTTPS_PROXY", "socks5://u:hunter2@h")],
            "c.toml: HTTPS_PROXY in the environment: found something else",
        ),
        (
            "",
            &[("HTTPS_PROXY", ""), ("https_proxy", "socks5://u:hunter2@h")],
            "c.toml: https_proxy in the environment: found something else",
        ),
        (
            "",
            &[("HTTPS_PROXY", "http://u:hunter2\u{fffd}@h")],
            "c.toml: HTTPS_PROXY in the environment: found a value that is no UTF-8",
        ),
        (
            "",
            &[("https_proxy", "h"), ("no_proxy", "\u{fffd}")],
            "c.toml: no_proxy in the environment: found a value that is no",
        ),
    ] {
        let problems = proxied(line, variables).unwrap_err();
        assert!(problems.starts_with(expected) && !problems.contains("hunter2"), "{expected} in {problems}");
    }
}
