//! Keys and values that are misspelt or stand in the wrong place.

use super::*;

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
    for (part, other, expected) in KEYS {
        check_broken(part, other, expected);
    }
}

#[test]
fn a_value_is_shown_with_the_right_spelling_of_what_was_meant() {
    for (given, shown, meant) in [
        ("60", "60", "60s"),
        ("\"60\"", "\"60\"", "60s"),
        ("\"1 hour\"", "\"1 hour\"", "1h"),
        ("\"1h30m\"", "\"1h30m\"", "90m"),
        ("\"1H\"", "\"1H\"", "1h"),
        ("\"PT15M\"", "\"PT15M\"", "15m"),
        ("-5", "-5", ""),
        ("1.5", "1.5", ""),
        ("\"999999d\"", "\"999999d\"", ""),
        ("true", "true", ""),
        ("[]", "a list", ""),
    ] {
        let meant = if meant.is_empty() { String::new() } else { format!("; write {meant:?}") };
        let expected = "expected a duration from \"1s\" to \"31d\", such as \"1h\"";
        let told = format!("feed_defaults.interval: found {shown}, {expected}{meant}");
        check_broken(INTERVAL, &format!("interval = {given}"), &[&told]);
    }
    let listen = "collector.listen: found ";
    for (part, other, expected) in VALUES {
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
        check_broken(STATE, &format!("listen = {given}"), &[&expected]);
    }
    check_broken(
        STATE,
        "listen = \"127.0.0.1:99999\"",
        &[&format!("{listen}\"127.0.0.1:99999\", expected an address and a port")],
    );
}

// Parts of the good configuration.
const TENANT: &str = "tenant = \"contoso\"";
const PATH_KEY: &str = "path = ";
const FILE: &str = "type = \"file\"\npath = \"out/{tenant}.ndjson\"";
const SETTINGS: &str = "[feed.settings]";
const INTERVAL: &str = "interval = \"1h\"";
const STATE: &str = "state = \"c.db\"";

/// A part of the good configuration, its replacement with a wrong key, and the messages.
const KEYS: &[(&str, &str, &[&str])] = &[
    ("[[feed]]", "[feed]", &["feed: found the table [feed], expected [[feed]]"]),
    ("[[sink]]", "[sink]", &["sink: found the table [sink], expected [[sink]]"]),
    ("[[feed]]", "[[feeds]]", &["feeds: unknown key; the nearest is [[feed]]"]),
    (SETTINGS, "[feeds.settings]", &["feeds: found [feeds.settings], expected [feed.settings]"]),
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
        &["sink.a: found [sink.a], expected [[sink]] with `id = \"a\"` below it, and the same for each of the others"],
    ),
    (
        "[[feed]]",
        "[[sink]]\nid = \"lake\"\ntype = \"file\"\npath = \"out/{tenant}.ndjson\"\n[[feed]]",
        &["sink[1].id: found \"lake\" a second time"],
    ),
    (PATH_KEY, "location = ", &["sink lake: location: unknown key; the nearest is `path`"]),
    (PATH_KEY, "pht = ", &["sink lake: pht: unknown key; the nearest is `path`"]),
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
    ("[network]", "[feed_defaults.network]", &["feed_defaults.network: unknown key; it belongs to the top: [network]"]),
    (
        "[collector]",
        "collector = 1\n[network.collector]",
        &[
            "collector: found a whole number, expected the table [collector]",
            "network.collector: unknown key; it belongs to the top: [collector]",
        ],
    ),
    (SETTINGS, "[settings]", &["settings: unknown key; it belongs to a feed: [feed.settings] below its [[feed]]"]),
    (SETTINGS, "[feed.setting]", &["feed prod: setting: unknown key; the nearest is `settings`"]),
    (SETTINGS, "[[feed.settings]]", &["feed prod: settings: found a list, expected the table [feed.settings]"]),
    (TENANT, "tennant = \"contoso\"", &["feed prod: tennant: unknown key; the nearest is `tenant`"]),
    (
        TENANT,
        "tenant_id = \"contoso\"",
        &[
            "feed prod: tenant_id: unknown key; the nearest is `tenant`; known keys here: id, tenant, \
             plugin, plugin_sha256, plan_sha256, interval, \
             sinks, contact, settings; the settings of the plugin belong to [feed.settings]",
            "feed prod: tenant: is missing",
        ],
    ),
    (TENANT, "tenant = \"contoso\"\nstate = \"c.db\"", &["feed prod: state: unknown key; it belongs to [collector]"]),
    (TENANT, "tenant = \"contoso\"\nproxy = \"http://p\"", &["feed prod: proxy: unknown key; it belongs to [network]"]),
    (
        TENANT,
        "tenant = \"contoso\"\nurl = \"http://p\"",
        &[
            "feed prod: url: unknown key; it belongs to a [[sink]] of type \"http\" or a [[sink]] of type \"otlp\" or a [[sink]] of type \"nats\"",
        ],
    ),
    (
        TENANT,
        "tenant = \"contoso\"\nsink = \"lake\"",
        &[
            "feed prod: sink: unknown key; the nearest is `sinks`",
            "feed prod: sink: found \"lake\", expected a list; write [\"lake\"]",
        ],
    ),
    (
        PATH_KEY,
        "interval = \"1h\"\npath = ",
        &["sink lake: interval: unknown key; it belongs to [[feed]] or [feed_defaults]"],
    ),
    (
        PATH_KEY,
        "url = \"https://x\"\npath = ",
        &[
            "sink lake: url: unknown key; it belongs to a [[sink]] of type \"http\" or a [[sink]] of type \"otlp\" or a [[sink]] of type \"nats\"",
        ],
    ),
    (PATH_KEY, "Path = ", &["sink lake: Path: unknown key; the nearest is `path`"]),
    ("type = ", "kind = ", &["sink lake: kind: unknown key; the nearest is `type`"]),
    ("type = ", "typ = ", &["sink lake: typ: unknown key; the nearest is `type`"]),
    (
        INTERVAL,
        "Interval = \"1x\"",
        &["feed_defaults.Interval: unknown key; the nearest is `interval`", "feed_defaults.Interval: found \"1x\""],
    ),
    (INTERVAL, "listen = \"127.0.0.1:1\"", &["feed_defaults.listen: unknown key; it belongs to [collector]"]),
    (INTERVAL, "id = \"x\"", &["feed_defaults.id: an id belongs to one feed"]),
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
];

/// A part of the good configuration, its replacement with a wrong value, and the message.
const VALUES: &[(&str, &str, &str)] = &[
    (
        "id = \"prod\"",
        "id = \"Contoso Prod\"",
        "feed Contoso Prod: id: found \"Contoso Prod\", expected [a-z0-9][a-z0-9._-]{0,63}, such as \"contoso-prod\"",
    ),
    ("id = \"prod\"", "id = 7", "feed[0].id: found 7, expected an id; write a string in quotes: \"7\""),
    (
        "id = \"lake\"",
        "id = \"Lake\"",
        "sink Lake: id: found \"Lake\", expected [a-z0-9][a-z0-9._-]{0,63}, such as \"lake\"",
    ),
    (TENANT, "tenant = true", "feed prod: tenant: found a boolean, expected an id"),
    (
        TENANT,
        "tenant = \"contoso\"\nsinks = \"lake\"",
        "feed prod: sinks: found \"lake\", expected a list; write [\"lake\"]",
    ),
    (
        TENANT,
        "tenant = \"contoso\"\nsinks = \"lake, x\"",
        "feed prod: sinks: found \"lake, x\", expected a list; write [\"lake\", \"x\"]",
    ),
    (
        TENANT,
        "tenant = \"contoso\"\nsinks = [\"Lake\"]",
        "feed prod: sinks[0]: found \"Lake\", expected the id of a [[sink]]; write \"lake\"",
    ),
    (TENANT, "tenant = \"contoso\"\nsinks = [7]", "feed prod: sinks[0]: found 7, expected the id of a sink"),
    (
        TENANT,
        "tenant = \"contoso\"\ncontact = \"x\"",
        "feed prod: contact: found a string, expected a table: { name = ",
    ),
    (
        TENANT,
        "tenant = \"contoso\"\nplugin = \"C:\\new.wasm\"",
        "feed prod: plugin: found a path with a tab, a line break",
    ),
    (
        FILE,
        "type = \"jetstream\"",
        "sink lake: type: found \"jetstream\", expected \"stdout\", \"file\", \"http\", \"otlp\" or \"nats\"; write \"nats\"",
    ),
    (
        FILE,
        "type = \"kafka\"",
        "sink lake: type: found \"kafka\", expected \"stdout\", \"file\", \"http\", \"otlp\" or \"nats\"; events get to other systems through Vector",
    ),
    (
        FILE,
        "type = \"File\"\npath = \"x\"",
        "sink lake: type: found \"File\", expected \"stdout\", \"file\", \"http\", \"otlp\" or \"nats\"; write \"file\"",
    ),
    (
        FILE,
        "type = \"files\"\npath = \"x\"",
        "sink lake: type: found \"files\", expected \"stdout\", \"file\", \"http\", \"otlp\" or \"nats\"; write \"file\"",
    ),
    (
        FILE,
        "type = \"splunk_hec\"\nurl = \"x\"",
        "sink lake: type: found \"splunk_hec\", expected \"stdout\", \"file\", \"http\", \"otlp\" or \"nats\"; write \"http\", with preset = \"splunk-hec\"",
    ),
    (
        FILE,
        "type = \"console\"",
        "sink lake: type: found \"console\", expected \"stdout\", \"file\", \"http\", \"otlp\" or \"nats\"; write \"stdout\"",
    ),
    (
        FILE,
        "type = \"http\"\nurl = \"https://x\"\npreset = \"fluentbit\"",
        "sink lake: preset: found \"fluentbit\", expected \"vector\", \"fluent-bit\" or \"splunk-hec\"; write \"fluent-bit\"",
    ),
    (
        FILE,
        "type = \"http\"\nurl = \"https://x\"\npreset = \"splunk\"",
        "sink lake: preset: found \"splunk\", expected \"vector\", \"fluent-bit\" or \"splunk-hec\"; write \"splunk-hec\"",
    ),
    (
        FILE,
        "type = \"http\"\nurl = \"https://x\"\ngzip = \"true\"",
        "sink lake: gzip: found \"true\", expected true or false, without quotes",
    ),
    // The value may be a secret.
    (
        FILE,
        "type = \"http\"\nurl = \"https://x\"\nheaders = \"authorization: hunter2\"",
        "sink lake: headers: found a string, expected a table: { \"x-name\" = \"value\" }",
    ),
    (
        FILE,
        "type = \"http\"\nurl = \"https://x\"\nheaders = { x-key = 31337 }",
        "sink lake: headers.x-key: found a whole number, expected a string",
    ),
    (
        FILE,
        "type = \"http\"\nurl = \"https://x\"\ntoken = { evn = \"T\" }",
        "sink lake: token.evn: unknown key; the nearest is `env`",
    ),
    (
        FILE,
        "type = \"file\"\npath = \"x\"\nrotate_bytes = \"256MB\"",
        "sink lake: rotate_bytes: found \"256MB\", expected a number of bytes from 1; write 256000000",
    ),
    (
        FILE,
        "type = \"file\"\npath = \"x\"\nrotate_bytes = \"1 GiB\"",
        "sink lake: rotate_bytes: found \"1 GiB\", expected a number of bytes from 1; write 1073741824",
    ),
    (
        FILE,
        "type = \"file\"\npath = \"x\"\nkeep_files = 1.5",
        "sink lake: keep_files: found 1.5, expected a number of files from 1",
    ),
    (
        FILE,
        "type = \"file\"\npath = \"x\"\nrotate_bytes = 99999999999999999999",
        "sink lake: rotate_bytes: found 99999999999999999999, expected a number",
    ),
    (FILE, "type = \"file\"\npath = \"\"", "sink lake: path: found nothing, expected the path of a file"),
    (FILE, "type = \"file\"\npath = \"~/x\"", "sink lake: path: found a path that only a shell expands"),
    (
        FILE,
        "type = \"file\"\npath = \"x\"\ndead_letters = \".\"",
        "sink lake: dead_letters: found \".\", which is a folder",
    ),
    (STATE, "state = \"\"", "collector.state: found nothing, expected the path of a file"),
    (STATE, "state = \".\"", "collector.state: found \".\", which is a folder, expected the path of a file"),
    (
        STATE,
        "state = \"no-such/\"",
        "collector.state: found \"no-such/\", which is a folder, expected the path of a file",
    ),
    (
        STATE,
        "state = \"postgres://u:hunter2@h\"",
        "collector.state: found an address without a database, expected one such as postgres://",
    ),
    (
        STATE,
        "state_password = { env = \"SECRET\" }",
        "collector.state_password: found beside a `state` that is a file, expected the address of a server",
    ),
    (STATE, "max_polls = \"64\"", "collector.max_polls: found \"64\", expected a number of polls from 1; write 64"),
    (
        STATE,
        "max_state_bytes_per_tenant = \"1\"",
        "collector.max_state_bytes_per_tenant: found \"1\", expected a number of bytes from 1; write 1",
    ),
    (STATE, "max_polls = -1", "collector.max_polls: found -1, expected a number of polls from 1"),
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
];
