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
