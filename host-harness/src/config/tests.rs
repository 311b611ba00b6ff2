use super::*;
use crate::store::budget::Budgets;

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

/// Returns the configuration, unless it has a problem or a feed would be left out.
fn told(config: Config) -> Result<Config, Vec<String>> {
    let unreadable = config.feeds.iter().flat_map(|feed| feed.unreadable.iter().map(|(_, problem)| problem));
    let told: Vec<String> = config.problems.iter().chain(unreadable).map(ConfigProblem::to_string).collect();
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
        "c.toml:9: sink lake: type: found \"nats\", which is not there yet, expected \"stdout\", \"file\" or \"http\"",
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
fn what_is_no_toml_names_its_line() {
    let problems = read("a = \n", None).unwrap_err();
    assert!(problems[0].starts_with("c.toml:1: is no TOML"), "{problems:?}");
}

#[test]
fn an_unknown_feed_names_the_known_ones() {
    assert_eq!(
        read(GOOD, Some("tow")).unwrap_err(),
        ["c.toml: found no feed \"tow\", expected one of: one, two; write \"two\""]
    );
}

#[test]
fn files_of_another_program_in_a_folder_are_told_of_once() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    for name in ["a.toml", "b.toml", "c.toml"] {
        write(name, "[package]\nname = \"x\"\n[dependencies]\n");
    }
    let told =
        || load(folder.path(), None, &|_| None).problems.iter().map(ConfigProblem::to_string).collect::<Vec<_>>();
    let expected = format!(
        "{}: has no table of a configuration, nor have b.toml, c.toml, ",
        folder.path().join("a.toml").display()
    );
    assert!(matches!(&told()[..], [one] if one.starts_with(&expected)), "{:?}", told());
    write("feeds.toml", &feed("a", ""));
    assert!(matches!(&told()[..], [one] if one.starts_with(&expected)), "{:?}", told());
}

#[test]
fn one_file_under_two_names_is_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("real")).unwrap();
    std::os::unix::fs::symlink(at("real"), at("folder")).unwrap();
    std::fs::write(at("a.ndjson"), "").unwrap();
    std::fs::hard_link(at("a.ndjson"), at("hard.ndjson")).unwrap();
    std::os::unix::fs::symlink(at("a.ndjson"), at("soft.ndjson")).unwrap();
    std::os::unix::fs::symlink("later.ndjson", at("early.ndjson")).unwrap();
    std::os::unix::fs::symlink("round.ndjson", at("round.ndjson")).unwrap();
    let sink = |id: &str, path: &str, more: &str| {
        format!("[[sink]]\nid = \"{id}\"\ntype = \"file\"\npath = \"{}\"\n{more}\n", at(path).display())
    };
    for (one, other, is_refused) in [
        ("a.ndjson", "hard.ndjson", true),
        ("a.ndjson", "soft.ndjson", true),
        ("later.ndjson", "early.ndjson", true),
        ("later.ndjson", "round.ndjson", false),
        ("real/x.ndjson", "folder/x.ndjson", true),
        ("real/x.ndjson", "folder/y.ndjson", false),
    ] {
        let text = format!("{}{}{}", sink("one", one, ""), sink("two", other, ""), feed("a", ""));
        let problems = read(&text, None).err().unwrap_or_default();
        let is_told = problems.len() == 1 && problems[0].contains("expected a file of their own");
        assert_eq!(is_told, is_refused, "{one} {other}: {problems:?}");
        let letters = format!("dead_letters = \"{}\"", at(other).display());
        let problems =
            read(&format!("{}{}", sink("one", one, &letters), feed("a", "")), None).err().unwrap_or_default();
        // A link with that name is refused, whatever its target.
        let is_link = std::fs::symlink_metadata(at(other)).is_ok_and(|met| met.is_symlink());
        let expected = if is_link { "a symbolic link to " } else { "expected a file of their own" };
        let is_told = problems.len() == 1 && problems[0].contains(expected);
        assert_eq!(is_told, is_refused || is_link, "{one} {other}: {problems:?}");
    }
}

#[test]
fn a_secrets_file_that_others_may_read_or_write_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "a-secret-of-tests").unwrap();
    let reference = format!("{{ file = {:?} }}", file.display().to_string());
    let secret = feed("a", "").replace("client_key = \"k\"", &format!("client_secret = {reference}"));
    let sink = format!("[[sink]]\nid = \"s\"\ntype = \"http\"\nurl = \"https://a.example\"\ntoken = {reference}\n");
    let plain = secret.replace(" }\n", ", plain = true }\n");
    for (text, mode, told) in [
        (&secret, 0o666, Some("client_secret: ")),
        (&secret, 0o600, None),
        (&plain, 0o666, None),
        (&format!("{sink}{}", feed("a", "")), 0o664, Some("token: ")),
    ] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let config = read(text, None).unwrap();
        let warnings: Vec<String> = config.warnings.iter().map(ConfigProblem::to_string).collect();
        assert_eq!(warnings.len(), usize::from(told.is_some()), "{warnings:?}");
        let words = format!("{} has the mode {mode:04o}, which lets ", file.display());
        assert!(told.is_none_or(|key| warnings[0].contains(&format!("{key}{words}"))), "{warnings:?}");
    }
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

/// Makes a feed with these lines of its own.
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
    // The sink that a feed without names means is unknown: the second problem is reported after the first is mended.
    for (sinks, expected) in [
        ("sinks = []", "feed b: sinks: found an empty list"),
        ("sinks = [\"hec\"]", "sink lake: no feed names the sink \"lake\""),
    ] {
        let text = format!("{SINKS}{}{}", feed("a", "sinks = [\"hec\"]"), feed("b", sinks));
        let problems = read(&text, None).unwrap_err();
        assert!(problems[0].contains(expected), "{problems:?}");
        assert_eq!(problems.len(), 1, "{problems:#?}");
    }
}

#[test]
fn what_is_wrong_with_a_sink_names_its_key() {
    for (lines, expected) in [
        ("type = \"file\"", "sink s: path: is missing"),
        ("type = \"file\"\npath = \"{scope}\"", "sink s: path: found \"{scope}\", expected {tenant} or {feed}"),
        (
            "type = \"file\"\npath = \"${tenant}/a\"",
            "sink s: path: found \"${tenant}\", expected {tenant} or {feed} between braces; write \"{tenant}\"",
        ),
        ("type = \"file\"\npath = \"a/{{ feed }}\"", "sink s: path: found \"{{ feed }}\", expected {tenant} or {feed}"),
        ("type = \"file\"\npath = \"{Tenant}\"", "sink s: path: found \"{Tenant}\", expected {tenant} or {feed}"),
        ("type = \"http\"\nurl = \"https://h/$tenant\"", "sink s: url: found \"$tenant\", expected {tenant} or {feed}"),
        ("type = \"\"", "sink s: type: found nothing, expected \"stdout\", \"file\" or \"http\""),
        (
            "type = \"file\"\npath = \"file:///x\"",
            "sink s: path: found an address (file:), expected the path of a file; write \"/x\"",
        ),
        ("type = \"file\"\npath = \"a\"\nurl = \"b\"", "sink s: url: unknown key"),
        ("type = \"file\"\npath = \"a\"\nrotate_bytes = 0", "sink s: rotate_bytes: found 0, expected a number"),
        (
            "type = \"file\"\npath = \"a\"\nmax_outbox_bytes = \"1\"",
            "sink s: max_outbox_bytes: found \"1\", expected a number of bytes from 1; write 1",
        ),
        ("type = \"http\"\nurl = \"host.example\"", "sink s: url: found \"host.example\", expected an address"),
        ("type = \"http\"\nurl = \"https://h\"\ntoken = \"abc\"", "sink s: token: found the value itself"),
        (
            "type = \"http\"\nurl = \"https://h\"\ntoken = { env = \"NOBODY\" }",
            "sink s: token: found no variable NOBODY",
        ),
        ("type = \"http\"\nurl = \"https://h\"\npreset = \"kafka\"", "sink s: preset: found \"kafka\", expected"),
        ("type = \"http\"\nurl = \"https://h\"\nheaders = { \"a b\" = \"c\" }", "sink s: headers.a b: found"),
        ("type = \"http\"\nurl = \"https://h\"\ngzip = 1", "sink s: gzip: found 1, expected true or false"),
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
    // Some file systems do not distinguish case.
    assert!(clash("One", "one").contains(too));
    assert!(clash("{tenant}-y", "{feed}-z").is_empty());
    let dead =
        format!("{SINKS}[[sink]]\nid = \"s\"\ntype = \"stdout\"\ndead_letters = \"collector.db\"\n{}", feed("a", ""));
    assert!(read(&dead, None).unwrap_err()[0].contains("sink s: its dead letters go to collector.db"));
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
    // Names of rotated files, which no other partition can have.
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
    // If the live file ends in a text, its number has no mark.
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
    assert!(collector("max_state_bytes_per_feed = 0").unwrap_err()[0].contains("expected a number of bytes from 1"));
    assert!(collector("min_free_bytes = 0").unwrap_err()[0].contains("expected a number of bytes from 1"));
    assert_eq!(collector("min_free_bytes = 9").unwrap().collector.budgets.min_free_bytes, Some(9));
    let budgets = collector("max_state_bytes_per_feed = 5\nmax_state_bytes_per_tenant = 7").unwrap().collector.budgets;
    assert_eq!((budgets.feed_bytes, budgets.tenant_bytes), (5, 7));
    assert_eq!(collector("").unwrap().collector.budgets, Budgets::default());
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
fn pins_are_digests_and_stand_where_they_hold() {
    let digest = "0123456789abcdef".repeat(4);
    let (pin, other) = (format!("\"{digest}\""), format!("\"{}\"", digest.replace('0', "F")));
    let defaults = format!("[feed_defaults]\nplugin_sha256 = {pin}\n");
    let own = format!("plugin_sha256 = {other}\nplan_sha256 = {pin}");
    let config = read(&format!("{defaults}{}{}", feed("a", ""), feed("b", &own)), None).unwrap();
    let pins = |index: usize| {
        let Pins { plugin, plan } = &config.feeds[index].pins;
        [plugin, plan].map(|pin| pin.as_ref().map(|pin| (pin.sha256.clone(), pin.place.line)))
    };
    assert_eq!(pins(0), [Some((digest.clone(), 2)), None]);
    assert_eq!(pins(1), [Some((digest.replace('0', "f"), 12)), Some((digest.clone(), 13))]);

    let expected = "expected the 64 hexadecimal digits that `inspect -c` prints";
    for (written, found, meant) in [
        ("7".to_owned(), "7", "; a text stands in quotes: \"7\"".to_owned()),
        ("true".to_owned(), "a boolean", String::new()),
        ("\"\"".to_owned(), "\"\"", String::new()),
        (format!("\"{}\"", &digest[1..]), "63 digits", String::new()),
        (format!("\"{digest}0\""), "65 digits", String::new()),
        (format!("\"sha256:{digest}\""), "\"sha256:01", format!("; write {pin}")),
        (format!("\" {digest}\""), "\" 01", format!("; write {pin}")),
        (format!("\"{}\"", digest.replace('0', "g")), "\"g12", String::new()),
    ] {
        for key in ["plugin_sha256", "plan_sha256"] {
            let told = read(&feed("a", &format!("{key} = {written}")), None).unwrap_err();
            let is_told = |told: &str| {
                let rest = told.strip_prefix(&format!("c.toml:4: feed a: {key}: found {found}"));
                rest.is_some_and(|rest| rest.ends_with(&format!("{expected}{meant}")))
            };
            assert!(matches!(&told[..], [one] if is_told(one)), "{written}: {told:?}");
        }
    }

    for (text, told) in [
        (
            format!("[feed_defaults]\nplan_sha256 = {pin}\n{}", feed("a", "")),
            "feed_defaults.plan_sha256: a plan follows",
        ),
        (
            format!("[feed_defaults.settings]\nplugin_sha256 = {pin}\n{}", feed("a", "")),
            "feed_defaults.settings.plugin_sha256: belongs to [[feed]]",
        ),
        (format!("{}plan_sha256 = {pin}\n", feed("a", "")), "feed a: settings.plan_sha256: belongs to [[feed]]"),
        (
            format!("{}plugin_sha256 = {pin}\n", feed("a", &format!("plugin_sha256 = {pin}"))),
            "feed a: settings.plugin_sha256: belongs to [[feed]]",
        ),
    ] {
        let problems = read(&text, None).unwrap_err();
        assert!(matches!(&problems[..], [one] if one.contains(told)), "{told} in {problems:?}");
    }
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
    assert_eq!(config.feeds[0].interval.as_ref().map(|interval| interval.time), Some(Duration::from_secs(7_200)));
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
        "a.toml:5: feed a: intervall: unknown key; the nearest is `interval`",
        "a.toml:2, expected ids that differ",
        "c.toml:4: feed[0].interval: found 5, expected a duration",
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

/// Returns the proxy of a configuration with this line in `[network]` and with these variables.
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
        (
            "proxy = \"http://user@proxy:3128\"",
            &[],
            "c.toml:2: network.proxy: found a user name without a password, expected",
        ),
        (
            "proxy = \"None\"",
            &[],
            "c.toml:2: network.proxy: found \"None\", expected the address of a proxy; to go without",
        ),
        ("proxy = false", &[], "c.toml:2: network.proxy: found false, expected the address of a proxy; to go without"),
        ("proxy = 1", &[], "c.toml:2: network.proxy: found 1, expected the address of a proxy"),
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

/// Reads the good configuration with one part replaced: its problems must begin with the expected texts, and there must
/// be no others.
fn check_broken(part: &str, other: &str, expected: &[&str]) {
    const GOOD: &str = "[collector]\nstate = \"c.db\"\n[network]\nallow = []\n[feed_defaults]\ninterval = \"1h\"\n\
                        [[sink]]\nid = \"lake\"\ntype = \"file\"\npath = \"out/{tenant}.ndjson\"\n\
                        [[feed]]\nid = \"prod\"\ntenant = \"contoso\"\n\
                        [feed.settings]\nclient_key = \"k\"\nclient_secret = { env = \"SECRET\" }\n";
    assert!(GOOD.contains(part), "{part}");
    let text = GOOD.replacen(part, other, 1);
    let problems = read(&text, None).err().unwrap_or_default();
    let told = problems.iter().map(|problem| problem.split_once(": ").unwrap().1);
    let fits = told.clone().zip(expected).all(|(told, expected)| told.starts_with(expected));
    assert!(fits && problems.len() == expected.len(), "{other}\nexpected {expected:#?}\n   found {problems:#?}");
}

#[test]
fn a_key_that_is_misspelt_or_misplaced_is_told_once_and_nothing_that_follows_from_it() {
    let (feed, sink, settings, defaults) = ("tenant = \"contoso\"", "path = ", "[feed.settings]", "interval = \"1h\"");
    for (part, other, expected) in [
        ("[[feed]]", "[feed]", &["feed: found the table [feed], expected [[feed]]"][..]),
        ("[[sink]]", "[sink]", &["sink: found the table [sink], expected [[sink]]"]),
        ("[[feed]]", "[[feeds]]", &["feeds: unknown key; the nearest is [[feed]]"]),
        (settings, "[feeds.settings]", &["feeds: found [feeds.settings], expected [feed.settings]"]),
        (
            "[[feed]]\nid = \"prod\"\ntenant = \"contoso\"\n[feed.settings]",
            "[feed.prod]\ntenant = \"contoso\"\n[feed.prod.settings]",
            &["feed.prod: found [feed.prod], expected [[feed]] with `id = \"prod\"` below it"],
        ),
        (
            "[[feed]]\nid = \"prod\"\ntenant = \"contoso\"\n[feed.settings]",
            "[[feed.prod]]\ntenant = \"contoso\"\n[feed.prod.settings]",
            &["feed.prod: found [[feed.prod]], expected [[feed]] with `id = \"prod\"` below it"],
        ),
        (
            "[[sink]]\nid = \"lake\"",
            "[sink.a]\ntype = \"stdout\"\n[sink.lake]",
            &["sink.a: found [sink.a], expected [[sink]] with `id = \"a\"` below it, and so with each other of them"],
        ),
        (
            "[[feed]]",
            "[[sink]]\nid = \"lake\"\ntype = \"file\"\npath = \"out/{tenant}.ndjson\"\n[[feed]]",
            &["sink[1].id: found \"lake\" a second time"],
        ),
        (sink, "location = ", &["sink lake: location: unknown key; the nearest is `path`"]),
        (sink, "pht = ", &["sink lake: pht: unknown key; the nearest is `path`"]),
        (
            "{ env = \"SECRET\" }\n",
            "{ env = \"SECRET\" }\n[collector.token]\nname = \"X\"\n",
            &["collector.token.name: unknown key"],
        ),
        (
            "[[feed]]\nid = \"prod\"\ntenant = \"contoso\"\n",
            "",
            &["feed: found [feed.settings] without its [[feed]] above it"],
        ),
        ("[[sink]]", "[[sinks]]", &["sinks: unknown key; the nearest is [[sink]]"]),
        ("[[sink]]", "[sinks]", &["sinks: unknown key; the nearest is [[sink]]"]),
        ("[[sink]]", "[[Sink]]", &["Sink: unknown key; the nearest is [[sink]]"]),
        ("[network]", "[[network]]", &["network: found [[network]], expected [network]"]),
        ("[network]", "[networks]", &["networks: unknown key; the nearest is `network`"]),
        (
            "[network]",
            "[feed_defaults.network]",
            &["feed_defaults.network: unknown key; it belongs to the top: [network]"],
        ),
        (
            "[collector]",
            "collector = 1\n[network.collector]",
            &[
                "collector: found a whole number, expected the table [collector]",
                "network.collector: unknown key; it belongs to the top: [collector]",
            ],
        ),
        (settings, "[settings]", &["settings: unknown key; it belongs to a feed: [feed.settings] below its [[feed]]"]),
        (settings, "[feed.setting]", &["feed prod: setting: unknown key; the nearest is `settings`"]),
        (settings, "[[feed.settings]]", &["feed prod: settings: found a list, expected the table [feed.settings]"]),
        (feed, "tennant = \"contoso\"", &["feed prod: tennant: unknown key; the nearest is `tenant`"]),
        (
            feed,
            "tenant_id = \"contoso\"",
            &[
                "feed prod: tenant_id: unknown key; the nearest is `tenant`, all that can stand here: id, tenant, \
                 plugin, plugin_sha256, plan_sha256, interval, \
                 sinks, contact, settings; the settings of the plugin belong to [feed.settings]",
                "feed prod: tenant: is missing",
            ],
        ),
        (feed, "tenant = \"contoso\"\nstate = \"c.db\"", &["feed prod: state: unknown key; it belongs to [collector]"]),
        (
            feed,
            "tenant = \"contoso\"\nproxy = \"http://p\"",
            &["feed prod: proxy: unknown key; it belongs to [network]"],
        ),
        (
            feed,
            "tenant = \"contoso\"\nurl = \"http://p\"",
            &["feed prod: url: unknown key; it belongs to a [[sink]] of type \"http\""],
        ),
        (
            feed,
            "tenant = \"contoso\"\nsink = \"lake\"",
            &[
                "feed prod: sink: unknown key; the nearest is `sinks`",
                "feed prod: sink: found \"lake\", expected a list; write [\"lake\"]",
            ],
        ),
        (
            sink,
            "interval = \"1h\"\npath = ",
            &["sink lake: interval: unknown key; it belongs to [[feed]] or [feed_defaults]"],
        ),
        (
            sink,
            "url = \"https://x\"\npath = ",
            &["sink lake: url: unknown key; it belongs to a [[sink]] of type \"http\""],
        ),
        (sink, "Path = ", &["sink lake: Path: unknown key; the nearest is `path`"]),
        ("type = ", "kind = ", &["sink lake: kind: unknown key; the nearest is `type`"]),
        ("type = ", "typ = ", &["sink lake: typ: unknown key; the nearest is `type`"]),
        (
            defaults,
            "Interval = \"1x\"",
            &["feed_defaults.Interval: unknown key; the nearest is `interval`", "feed_defaults.Interval: found \"1x\""],
        ),
        (defaults, "listen = \"127.0.0.1:1\"", &["feed_defaults.listen: unknown key; it belongs to [collector]"]),
        (defaults, "id = \"x\"", &["feed_defaults.id: an id belongs to one feed"]),
        (
            "[collector]",
            "interval = \"1h\"\n[collector]",
            &["interval: unknown key; it belongs to [[feed]] or [feed_defaults]"],
        ),
        (
            "[collector]",
            "tenant = \"contoso\"\n[collector]",
            &["tenant: unknown key; it belongs to [[feed]] or [feed_defaults]"],
        ),
        (
            "allow = []",
            "ca-file = \"x\"",
            &["network.ca-file: unknown key; the nearest is `ca_file`", "network.ca-file: cannot read x"],
        ),
        ("client_secret = {", "tenant = \"t\"\nclient_secret = {", &[]),
        (
            "tenant = \"contoso\"\n[feed.settings]",
            "[feed.settings]\ntenant = \"contoso\"",
            &["feed prod: settings.tenant: belongs to [[feed]]: move it above [feed.settings]"],
        ),
        (
            "id = \"prod\"\ntenant = \"contoso\"\n[feed.settings]",
            "[feed.settings]\nid = \"prod\"\ntenant = \"contoso\"",
            &[
                "feed[0].settings.id: belongs to [[feed]]: move it above",
                "feed[0].settings.tenant: belongs to [[feed]]: move it above",
            ],
        ),
    ] {
        check_broken(part, other, expected);
    }
}

#[test]
fn a_value_is_shown_with_the_right_spelling_of_what_was_meant() {
    let (feed, sink, state) =
        ("tenant = \"contoso\"", "type = \"file\"\npath = \"out/{tenant}.ndjson\"", "state = \"c.db\"");
    let interval = |given: &str, shown: &str, meant: &str| {
        let meant = if meant.is_empty() { String::new() } else { format!("; write {meant:?}") };
        let expected = "expected a duration from \"1s\" to \"31d\", such as \"1h\"";
        let told = format!("feed_defaults.interval: found {shown}, {expected}{meant}");
        check_broken("interval = \"1h\"", &format!("interval = {given}"), &[&told]);
    };
    interval("60", "60", "60s");
    interval("\"60\"", "\"60\"", "60s");
    interval("\"1 hour\"", "\"1 hour\"", "1h");
    interval("\"1h30m\"", "\"1h30m\"", "90m");
    interval("\"1H\"", "\"1H\"", "1h");
    interval("\"PT15M\"", "\"PT15M\"", "15m");
    interval("-5", "-5", "");
    interval("1.5", "1.5", "");
    interval("\"999999d\"", "\"999999d\"", "");
    interval("true", "true", "");
    interval("[]", "a list", "");
    let listen = "collector.listen: found ";
    let a_type = "expected \"stdout\", \"file\" or \"http\"";
    let (nats, kafka) = (
        format!(
            "sink lake: type: found \"nats\", which is not there yet, {a_type}; until then events get there through Vector"
        ),
        format!("sink lake: type: found \"kafka\", {a_type}; events get to other systems through Vector"),
    );
    let such = |found: &str, meant: &str| format!("sink lake: type: found \"{found}\", {a_type}; write {meant}");
    let (upper, files, splunk, console) = (
        such("File", "\"file\""),
        such("files", "\"file\""),
        such("splunk_hec", "\"http\", with preset = \"splunk-hec\""),
        such("console", "\"stdout\""),
    );
    for (part, other, expected) in [
        (
            "id = \"prod\"",
            "id = \"Contoso Prod\"",
            "feed Contoso Prod: id: found \"Contoso Prod\", expected [a-z0-9][a-z0-9._-]{0,63}, such as \"contoso-prod\"",
        ),
        ("id = \"prod\"", "id = 7", "feed[0].id: found 7, expected an id; a text stands in quotes: \"7\""),
        (
            "id = \"lake\"",
            "id = \"Lake\"",
            "sink Lake: id: found \"Lake\", expected [a-z0-9][a-z0-9._-]{0,63}, such as \"lake\"",
        ),
        (feed, "tenant = true", "feed prod: tenant: found a boolean, expected an id"),
        (
            feed,
            "tenant = \"contoso\"\nsinks = \"lake\"",
            "feed prod: sinks: found \"lake\", expected a list; write [\"lake\"]",
        ),
        (
            feed,
            "tenant = \"contoso\"\nsinks = \"lake, x\"",
            "feed prod: sinks: found \"lake, x\", expected a list; write [\"lake\", \"x\"]",
        ),
        (
            feed,
            "tenant = \"contoso\"\nsinks = [\"Lake\"]",
            "feed prod: sinks[0]: found \"Lake\", expected the id of a [[sink]]; write \"lake\"",
        ),
        (feed, "tenant = \"contoso\"\nsinks = [7]", "feed prod: sinks[0]: found 7, expected the id of a sink"),
        (
            feed,
            "tenant = \"contoso\"\ncontact = \"x\"",
            "feed prod: contact: found a text, expected a table: { name = ",
        ),
        (
            feed,
            "tenant = \"contoso\"\nplugin = \"C:\\new.wasm\"",
            "feed prod: plugin: found a path with a tab, a line break",
        ),
        (sink, "type = \"nats\"", &nats),
        (sink, "type = \"kafka\"", &kafka),
        (sink, "type = \"File\"\npath = \"x\"", &upper),
        (sink, "type = \"files\"\npath = \"x\"", &files),
        (sink, "type = \"splunk_hec\"\nurl = \"x\"", &splunk),
        (sink, "type = \"console\"", &console),
        (
            sink,
            "type = \"http\"\nurl = \"https://x\"\npreset = \"fluentbit\"",
            "sink lake: preset: found \"fluentbit\", expected \"vector\", \"fluent-bit\" or \"splunk-hec\"; write \"fluent-bit\"",
        ),
        (
            sink,
            "type = \"http\"\nurl = \"https://x\"\npreset = \"splunk\"",
            "sink lake: preset: found \"splunk\", expected \"vector\", \"fluent-bit\" or \"splunk-hec\"; write \"splunk-hec\"",
        ),
        (
            sink,
            "type = \"http\"\nurl = \"https://x\"\ngzip = \"true\"",
            "sink lake: gzip: found \"true\", expected true or false, without quotes",
        ),
        // The value may be a secret.
        (
            sink,
            "type = \"http\"\nurl = \"https://x\"\nheaders = \"authorization: hunter2\"",
            "sink lake: headers: found a text, expected a table: { \"x-name\" = \"value\" }",
        ),
        (
            sink,
            "type = \"http\"\nurl = \"https://x\"\nheaders = { x-key = 31337 }",
            "sink lake: headers.x-key: found a whole number, expected a text",
        ),
        (
            sink,
            "type = \"http\"\nurl = \"https://x\"\ntoken = { evn = \"T\" }",
            "sink lake: token.evn: unknown key; the nearest is `env`",
        ),
        (
            sink,
            "type = \"file\"\npath = \"x\"\nrotate_bytes = \"256MB\"",
            "sink lake: rotate_bytes: found \"256MB\", expected a number of bytes from 1; write 256000000",
        ),
        (
            sink,
            "type = \"file\"\npath = \"x\"\nrotate_bytes = \"1 GiB\"",
            "sink lake: rotate_bytes: found \"1 GiB\", expected a number of bytes from 1; write 1073741824",
        ),
        (
            sink,
            "type = \"file\"\npath = \"x\"\nkeep_files = 1.5",
            "sink lake: keep_files: found 1.5, expected a number of files from 1",
        ),
        (
            sink,
            "type = \"file\"\npath = \"x\"\nrotate_bytes = 99999999999999999999",
            "sink lake: rotate_bytes: found 99999999999999999999, expected a number",
        ),
        (sink, "type = \"file\"\npath = \"\"", "sink lake: path: found nothing, expected the path of a file"),
        (
            sink,
            "type = \"file\"\npath = \"~/x\"",
            "sink lake: path: found a path that a shell would expand, and nobody else does",
        ),
        (
            sink,
            "type = \"file\"\npath = \"x\"\ndead_letters = \".\"",
            "sink lake: dead_letters: found \".\", which is a folder",
        ),
        (state, "state = \"\"", "collector.state: found nothing, expected the path of a file"),
        (state, "state = \".\"", "collector.state: found \".\", which is a folder, expected the path of a file"),
        (
            state,
            "state = \"no-such/\"",
            "collector.state: found \"no-such/\", which is a folder, expected the path of a file",
        ),
        (
            state,
            "state = \"postgres://u:hunter2@h/db\"",
            "collector.state: found the address of a database server, which is not there yet, expected the path of a file",
        ),
        (state, "max_polls = \"64\"", "collector.max_polls: found \"64\", expected a number of polls from 1; write 64"),
        (
            state,
            "max_state_bytes_per_tenant = \"1\"",
            "collector.max_state_bytes_per_tenant: found \"1\", expected a number of bytes from 1; write 1",
        ),
        (state, "max_polls = -1", "collector.max_polls: found -1, expected a number of polls from 1"),
        (
            "allow = []",
            "allow = \"https://a.example\"",
            "network.allow: found \"https://a.example\", expected a list; write [\"https://a.example\"]",
        ),
        ("allow = []", "allow = 1", "network.allow: found 1, expected a list"),
        (
            "allow = []",
            "allow_addresses = \"10.0.0.0/8\"",
            "network.allow_addresses: found \"10.0.0.0/8\", expected a list; write [\"10.0.0.0/8\"]",
        ),
    ] {
        check_broken(part, other, &[expected]);
        assert!(!expected.contains("hunter2"));
    }
    for (given, shown, meant) in [
        ("\":9464\"", "\":9464\"", "127.0.0.1:9464"),
        ("\"localhost:9464\"", "\"localhost:9464\"", "127.0.0.1:9464"),
        ("\"http://127.0.0.1:9464/\"", "\"http://127.0.0.1:9464/\"", "127.0.0.1:9464"),
        ("\"*:9464\"", "\"*:9464\"", "0.0.0.0:9464"),
        ("\"127.0.0.1\"", "\"127.0.0.1\"", "127.0.0.1:9464"),
        ("\"::1\"", "\"::1\"", "[::1]:9464"),
        ("9464", "9464", "127.0.0.1:9464"),
    ] {
        let expected =
            format!("{listen}{shown}, expected an address and a port such as \"127.0.0.1:9464\"; write {meant:?}");
        check_broken(state, &format!("listen = {given}"), &[&expected]);
    }
    check_broken(
        state,
        "listen = \"127.0.0.1:99999\"",
        &[&format!("{listen}\"127.0.0.1:99999\", expected an address and a port")],
    );
}

/// Makes a sink with these lines, to which all feeds go.
fn posting(network: &str, lines: &str) -> Config {
    let environment = |name: &str| (name == "KEY").then(|| " s~ecret8\n".to_owned());
    let text = format!("[network]\n{network}\n[[sink]]\nid = \"s\"\ntype = \"http\"\n{lines}\n{}", feed("a", ""));
    parse(Path::new("c.toml"), &text, None, &environment)
}

#[test]
fn a_credential_in_a_header_or_an_address_of_a_sink_is_taken_with_a_warning() {
    const URL: &str = "url = \"https://h.example/events\"";
    for (lines, told, secrets) in [
        (
            format!("{URL}\nheaders = {{ authorization = \"Bearer s~ecret8\" }}"),
            Some("`authorization = { env = \"AUTHORIZATION\" }`"),
            2,
        ),
        (format!("{URL}\nheaders = {{ X-Api-Key = \"s~ecret8\" }}"), Some("`x-api-key = { env = \"X_API_KEY\" }`"), 1),
        (
            format!("{URL}\nheaders = {{ dd-api-key = \"{{tenant}}-s~ecret8\" }}"),
            Some("`dd-api-key = { env = \"DD_API_KEY\" }`"),
            1,
        ),
        (
            format!("{URL}\nheaders = {{ x-api-key = {{ env = \"KEY\" }} }}"),
            Some("white space around it was removed"),
            1,
        ),
        (format!("{URL}\nheaders = {{ x-tenant = \"{{tenant}}\" }}"), None, 0),
        (
            "url = \"https://h.example/e?token=s~ecret8\"".to_owned(),
            Some("its query has `token`: found the secret itself"),
            1,
        ),
        ("url = \"https://h.example/e?index=main\"".to_owned(), None, 0),
    ] {
        let config = posting("", &lines);
        assert_eq!(config.problems, [], "{lines}");
        let warnings: Vec<String> = config.warnings.iter().map(ConfigProblem::to_string).collect();
        assert_eq!(warnings.len(), usize::from(told.is_some()), "{warnings:?}");
        assert!(told.is_none_or(|told| warnings[0].contains(told)), "{warnings:?}");
        assert!(warnings.iter().all(|warning| !warning.contains("s~ecret8")), "{warnings:?}");
        let crate::sink::SinkKind::Http(sink) = &config.sinks[0].kind else { panic!("no sink over http") };
        let found = sink.secrets("t", "f");
        assert_eq!(found.len(), secrets, "{lines}");
        assert!(found.iter().all(|secret| secret.expose().contains("s~ecret8")), "{lines}");
    }
}

#[test]
fn credentials_of_a_sink_go_over_http_to_this_machine_alone_unless_a_line_says_so() {
    let token = "token = { env = \"KEY\" }";
    let problems = |network: &str, url: &str, more: &str| {
        let config = posting(network, &format!("url = {url:?}\n{more}"));
        config.problems.iter().map(ConfigProblem::to_string).collect::<Vec<_>>().join("\n")
    };
    for more in [token, "headers = { x-api-key = \"s~ecret8\" }", "headers = { a = { env = \"KEY\" } }"] {
        let told = problems("", "http://h.example:8080/e", more);
        let line = "`allow_credentials_over_http = [\"http://h.example:8080\"]`";
        assert!(told.contains("its credentials would go over http") && told.contains(line), "{told}");
        assert_eq!(problems(line.trim_matches('`'), "http://h.example:8080/e", more), "");
        assert_eq!(problems("", "http://127.0.0.1:8080/e", more), "");
        assert!(!problems("proxy = \"http://proxy:3128\"", "http://127.0.0.1:8080/e", more).is_empty());
    }
    assert_eq!(problems("", "http://h.example/e", ""), "", "nothing is given away");
    let query = problems("", "http://h.example/e?sig=s~ecret8", "");
    assert!(query.contains("over http") && !query.contains("s~ecret8"), "{query}");
    for (url, told) in [
        ("https://u:s~ecret8@h.example/e", "found a user name or a password in the address"),
        ("h.example/e?token=s~ecret8", "found something else, expected an address"),
        ("https://h.example/{x}?token=s~ecret8", "found braces with something else"),
    ] {
        let told_of = problems("", url, "");
        assert!(told_of.contains(told) && !told_of.contains("s~ecret8"), "{told_of}");
    }
    let told = problems("allow_credentials_over_http = [\"https://h.example\"]", "https://h.example/e", "");
    assert!(told.contains("one over https belongs into `allow`"), "{told}");
}

#[test]
fn a_state_is_a_regular_file() {
    for (state, found) in [
        (":memory:", "a database in memory, which loses everything"),
        ("file:x?mode=memory&cache=shared", "a database in memory"),
        ("file::memory:?mode=memory", "a database in memory"),
        ("sqlite://x.db", "an address (URL)"),
        ("SQLite:x.db", "an address (URL)"),
        ("file:x.db", "an address (URL)"),
        ("mysql://root:hunter2@db/x", "an address (URL), expected the path of a file"),
        ("redis://db", "an address (URL)"),
        ("Postgres://u:hunter2@db/x", "the address of a database server, which is not there yet"),
        ("/dev/null", "\"/dev/null\", which is a device"),
    ] {
        let text = format!("[collector]\nstate = {state:?}\n{}", feed("a", ""));
        let problems = read(&text, None).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(&format!("c.toml:2: collector.state: found {found}")), "{problems:?}");
        assert!(!problems[0].contains("hunter2"), "{problems:?}");
    }
    let sink = "[[sink]]\nid = \"a\"\ntype = \"stdout\"\ndead_letters = \"/dev/full\"\n";
    let problems = read(&format!("{sink}{}", feed("a", "")), None).unwrap_err();
    assert!(problems[0].contains("dead_letters: found \"/dev/full\", which is a device"), "{problems:?}");
}

#[test]
fn an_address_of_ipv6_with_a_port_is_meant_in_brackets() {
    for (listen, meant) in [("::1:9464", "[::1]:9464"), ("::1", "[::1]:9464")] {
        let problems = read(&format!("[collector]\nlisten = {listen:?}\n{}", feed("a", "")), None).unwrap_err();
        assert!(problems[0].ends_with(&format!("; write {meant:?}")), "{problems:?}");
    }
    for kind in ["otel", "OpenTelemetry", "otlp"] {
        let sink = format!("[[sink]]\nid = \"a\"\ntype = {kind:?}\n{}", feed("a", ""));
        let problems = read(&sink, None).unwrap_err();
        assert!(problems[0].contains("which is not there yet"), "{problems:?}");
    }
}
