//! `[[sink]]`, which feeds go there, and the credentials of a sink.

use super::*;

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
        ("type = \"\"", "sink s: type: found nothing, expected \"stdout\", \"file\", \"http\", \"otlp\" or \"nats\""),
        (
            "type = \"file\"\npath = \"file:///x\"",
            "sink s: path: found an address (file:), expected the path of a file; write \"/x\"",
        ),
        ("type = \"file\"\npath = \"a\"\nurl = \"b\"", "sink s: url: unknown key"),
        ("type = \"file\"\npath = \"a\"\nrotate_bytes = 0", "sink s: rotate_bytes: found 0, expected a number"),
        (
            "type = \"file\"\npath = \"a\"\nrotate_every = \"1 day\"",
            "sink s: rotate_every: found \"1 day\", expected a duration from \"1m\" to \"31d\", such as \"1d\"",
        ),
        (
            "type = \"file\"\npath = \"a\"\nrotate_every = \"59s\"",
            "sink s: rotate_every: found \"59s\", expected a duration from \"1m\" to \"31d\"",
        ),
        (
            "type = \"stdout\"\nkeep_delivered = \"a day\"",
            "sink s: keep_delivered: found \"a day\", expected a duration from \"1m\" to \"31d\", such as \"24h\"",
        ),
        (
            "type = \"stdout\"\nmax_delivered_bytes = 9",
            "sink s: max_delivered_bytes: found without `keep_delivered`, expected it beside that",
        ),
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
        (
            "type = \"http\"\nurl = \"https://h\"\nindex = \"main\"",
            "sink s: index: found without preset = \"splunk-hec\", expected it with this preset alone",
        ),
        (
            "type = \"http\"\nurl = \"https://h\"\npreset = \"splunk-hec\"\nsourcetype = \"a-{x}\"",
            "sink s: sourcetype: found \"{x}\", expected {tenant} or {feed}",
        ),
        (
            "type = \"http\"\nurl = \"https://h\"\npreset = \"splunk-hec\"\nsource_type = \"a\"",
            "sink s: source_type: unknown key; the nearest is `sourcetype`",
        ),
        (
            "type = \"http\"\nurl = \"https://h\"\nca_file = \"none.pem\"",
            "sink s: ca_file: cannot read none.pem: No such",
        ),
        (
            "type = \"http\"\nurl = \"https://h\"\nclient_certificate = \"own.pem\"",
            "sink s: client_certificate: found the value itself, expected { env = \"…\" } or { file = \"…\" }",
        ),
        ("type = \"file\"\npath = \"a\"\nca_file = \"b\"", "sink s: ca_file: unknown key"),
        ("type = \"otlp\"", "sink s: url: is missing"),
        ("type = \"otlp\"\nurl = \"https://h/v1/logs\"\npreset = \"vector\"", "sink s: preset: unknown key"),
        (
            "type = \"otlp\"\nurl = \"https://h/v1/logs\"\nencoding = \"Proto buf\"",
            "sink s: encoding: found \"Proto buf\", expected \"protobuf\" or \"json\"; write \"protobuf\"",
        ),
    ] {
        let problems =
            read(&format!("[[sink]]\nid = \"s\"\n{lines}\n{}", feed("a", "sinks = [\"s\"]")), None).unwrap_err();
        assert!(problems[0].contains(expected), "{expected} in {problems:?}");
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
}

#[cfg(feature = "nats")]
const BUS: &str = "type = \"nats\"\nurl = \"nats://h:4222\"\nsubject = \"f.{tenant}\"\n";

#[cfg(feature = "nats")]
fn bus(lines: &str) -> Result<Config, Vec<String>> {
    let environment = |name: &str| match name {
        "SEED" => Some("SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY".to_owned()),
        // The last letter of the checksum differs.
        "ODD_SEED" => Some("SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VA".to_owned()),
        "SECRET" => Some("a-long-secret-of-somebody".to_owned()),
        _ => None,
    };
    let text = format!("[[sink]]\nid = \"s\"\n{lines}\n{}", feed("a", "sinks = [\"s\"]"));
    told(parse(Path::new("c.toml"), &text, None, &environment))
}

#[cfg(feature = "nats")]
#[test]
fn a_sink_of_type_nats_has_servers_a_subject_a_stream_and_one_user() {
    use crate::sink::nats::NatsAuth;
    let config = bus(&format!(
        "{BUS}nkey = {{ env = \"SEED\" }}\nstream = {{ name = \"F\", replicas = 3, duplicate_window = \"10m\", storage = \"memory\" }}"
    ));
    let config = config.unwrap();
    let crate::sink::SinkKind::Nats(sink) = &config.sinks[0].kind else { panic!("no sink of type nats") };
    assert_eq!(
        (sink.servers.as_slice(), sink.subject.filled("t", "a").as_str()),
        (["nats://h:4222".to_owned()].as_slice(), "f.t")
    );
    assert!(matches!(sink.auth, NatsAuth::Nkey(_)));
    let made = sink.stream.made.as_ref().unwrap();
    assert_eq!((made.replicas, made.in_memory, made.duplicate_window.unwrap().as_secs()), (Some(3), Some(true), 600));
    assert_eq!(config.sinks[0].partition("t", "a").tenant.as_deref(), Some("t"));
    let list = "type = \"nats\"\nurl = [\"tls://a:1\", \"tls://b\"]\nsubject = \"f\"\nstream = \"F\"\nuser = \"u\"\npassword = { env = \"SECRET\" }";
    let config = bus(list).unwrap();
    let crate::sink::SinkKind::Nats(sink) = &config.sinks[0].kind else { panic!("no sink of type nats") };
    assert_eq!((sink.servers.len(), sink.stream.made.is_none()), (2, true));
    assert!(!format!("{sink:?}").contains("a-long-secret"), "{sink:?}");
    // Nobody else reads what stays on this machine.
    for near in ["nats://127.0.0.1:4222", "nats://[::1]:4222", "nats://localhost:4222"] {
        bus(&list.replace("[\"tls://a:1\", \"tls://b\"]", &format!("{near:?}"))).unwrap();
    }
}

#[cfg(feature = "nats")]
#[test]
fn what_is_wrong_with_a_sink_of_type_nats_names_its_key() {
    let url = |url: &str| format!("type = \"nats\"\nurl = {url}\nsubject = \"f\"\nstream = \"F\"");
    let more = |more: &str| format!("{BUS}stream = \"F\"\n{more}");
    let stream = |stream: &str| format!("{BUS}stream = {stream}");
    for (lines, expected) in [
        ("type = \"nats\"\nsubject = \"f\"\nstream = \"F\"".to_owned(), "sink s: url: is missing"),
        ("type = \"nats\"\nurl = \"tls://h\"\nstream = \"F\"".to_owned(), "sink s: subject: is missing"),
        (BUS.to_owned(), "sink s: stream: is missing, expected the name of a stream"),
        (
            url("\"https://h\""),
            "sink s: url: found \"https://h\", expected an address such as \"tls://host.example:4222\"",
        ),
        (url("\"h:4222\""), "sink s: url: found \"h:4222\", expected an address"),
        (url("[]"), "sink s: url: found an empty list, expected an address"),
        (url("[\"tls://h\", \"wss://h\"]"), "sink s: url[1]: found \"wss://h\" over WebSocket"),
        (url("\"tls://u:pass@h\""), "sink s: url: found a user or a password in the address"),
        (
            "type = \"nats\"\nurl = \"tls://h\"\nsubject = \"f.{tenant}-{feed}\"\nstream = \"F\"".to_owned(),
            "sink s: subject: found \"{tenant}-{feed}\", expected one of {tenant} and {feed} in a token",
        ),
        (
            "type = \"nats\"\nurl = \"tls://h\"\nsubject = \"f.$tenant\"\nstream = \"F\"".to_owned(),
            "sink s: subject: found \"$tenant\", expected {tenant} or {feed}",
        ),
        (more("token = { env = \"SECRET\" }"), "sink s: url: its credentials would be sent over nats://"),
        (more("token = \"abc\""), "sink s: token: found the value itself"),
        (more("nkey = { env = \"SECRET\" }"), "sink s: nkey: found something else, expected the seed of a user's key"),
        (
            more("nkey = { env = \"ODD_SEED\" }"),
            "sink s: nkey: found something else, expected the seed of a user's key",
        ),
        (
            stream("{ name = \"F\", subjects = [\"ff.>\", \"g\"] }"),
            "sink s: stream.subjects: found [\"ff.>\", \"g\"], expected one that takes f.*, the `subject`",
        ),
        (url("\" tls://h\""), "sink s: url: found \" tls://h\", expected an address"),
        (
            more("credentials = { env = \"SECRET\" }"),
            "sink s: credentials: found something else, expected a file of credentials",
        ),
        (
            more("nkey = { env = \"SEED\" }\nuser = \"u\""),
            "sink s: user: found beside `nkey`, expected one of `credentials`, `nkey`, `token`, or `user` with `password`",
        ),
        (more("user = \"u\""), "sink s: password: is missing"),
        (more("password = { env = \"SECRET\" }"), "sink s: user: is missing"),
        (url("\"tls://h\"") + "\nca_file = \"none.pem\"", "sink s: ca_file: cannot read none.pem"),
        (more("preset = \"vector\""), "sink s: preset: unknown key"),
        (stream("\"A.B\""), "sink s: stream: found \"A.B\", expected a name without"),
        (stream("{ replicas = 3 }"), "sink s: stream.name: is missing"),
        (
            stream("{ name = \"F\", replicas = 6 }"),
            "sink s: stream.replicas: found 6, expected a number of replicas from 1 to 5",
        ),
        (
            stream("{ name = \"F\", storage = \"disk\" }"),
            "sink s: stream.storage: found \"disk\", expected \"file\" or \"memory\"",
        ),
        (
            stream("{ name = \"F\", max_age = \"1 day\" }"),
            "sink s: stream.max_age: found \"1 day\", expected a duration",
        ),
        (
            stream("{ name = \"F\", subjects = [\"a..b\"] }"),
            "sink s: stream.subjects[0]: found \"a..b\", expected a subject",
        ),
        (stream("{ name = \"F\", replica = 3 }"), "sink s: stream.replica: unknown key; the nearest is `replicas`"),
    ] {
        let problems = bus(&lines).unwrap_err();
        assert!(problems[0].contains(expected), "{expected} in {problems:?}");
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
    bus(&stream("{ name = \"F\", subjects = [\"f.a\", \"f.b\"] }")).unwrap();
    let problems = bus(&more("ca_file = \"none.pem\"")).unwrap_err();
    assert!(problems[1].contains("sink s: ca_file: found beside a `url` with nats://"), "{problems:?}");
    let problems = bus(&more("ca_file = \"none.pem\"").replace("nats:", "NATS:")).unwrap_err();
    assert!(problems[1].contains("sink s: ca_file: found beside a `url` with nats://"), "{problems:?}");
    bus(&(url("\"TLS://h\"") + "\ntoken = { env = \"SECRET\" }")).unwrap();
}

#[cfg(feature = "nats")]
#[test]
fn a_feed_goes_to_a_stream_by_one_sink() {
    let sinks = |left: &str, right: &str| {
        let sink = |id: &str, lines: &str| format!("[[sink]]\nid = \"{id}\"\ntype = \"nats\"\n{lines}\n");
        sink("one", left) + &sink("two", right)
    };
    let one = "url = \"nats://h\"\nsubject = \"a.{tenant}\"\nstream = \"F\"";
    let near = "url = [\"nats://g\", \"tls://H:4222\"]\nsubject = \"b\"\nstream = \"F\"";
    let problems = read(&(sinks(one, near) + &feed("a", "")), None).unwrap_err();
    let expected = "sink two: events of the feed \"a\" go to its stream by the sink \"one\", too";
    assert!(problems.len() == 1 && problems[0].contains(expected), "{problems:?}");
    let apart = feed("a", "sinks = [\"one\"]") + &feed("b", "sinks = [\"two\"]");
    read(&(sinks(one, near) + &apart), None).unwrap();
    for other in [
        near.replace("\"F\"", "\"G\""),
        near.replace("H:4222", "h:4223"),
        // The users may belong to different accounts.
        near.replace("nats://g", "tls://g") + "\nuser = \"u\"\npassword = { env = \"SECRET\" }",
    ] {
        read(&(sinks(one, &other) + &feed("a", "")), None).unwrap();
    }
}

#[test]
fn a_state_that_the_command_line_names_is_no_file_of_events_either() {
    let sink = "[[sink]]\nid = \"s\"\ntype = \"file\"\npath = \"{tenant}.db\"\ndead_letters = \"x.db.lock\"\n";
    for (state, expected) in [
        ("other.db", None),
        ("t.db", Some("its events go to t.db, which is the state")),
        ("./T.DB", Some("its events go to t.db, which is the state")),
        ("x.db", Some("its dead letters go to x.db.lock, which is the state")),
    ] {
        let mut config = read(&format!("{sink}{}", feed("a", "")), None).unwrap();
        event_files::keep_off_state(&mut config, Path::new(state));
        let problems: Vec<String> = config.problems.iter().map(ConfigProblem::to_string).collect();
        assert_eq!(problems.len(), usize::from(expected.is_some()), "{problems:?}");
        assert!(expected.is_none_or(|expected| problems[0].contains(expected)), "{problems:?}");
    }
}

#[test]
fn two_ways_into_one_file_are_found() {
    let sink = |id: &str, path: &str| format!("[[sink]]\nid = \"{id}\"\ntype = \"file\"\npath = \"{path}\"\n");
    let clash = |first: &str, second: &str| {
        let text = format!("{}{}{}{}", sink("a", first), sink("b", second), feed("x-y", ""), feed("x", ""));
        read(&text, None).err().map(|problems| problems.join("\n")).unwrap_or_default()
    };
    assert!(clash("one", "one").contains("has the destination of the sink \"a\""));
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
fn no_two_files_of_an_accepted_configuration_get_one_name() {
    let ids = ["acme", "acme.", "acme.1", "acme..1", "acme.ndjson", "acme.ndjson.1", "acme-1"];
    let templates = [
        "{tenant}",
        "{tenant}.ndjson",
        "{feed}",
        "{tenant}.1",
        "{tenant}.",
        "x.{tenant}",
        "{tenant}/{feed}",
        "acme.ndjson",
    ];
    let sink =
        |(index, path): (usize, &&str)| format!("[[sink]]\nid = \"s{index}\"\ntype = \"file\"\npath = \"{path}\"\n");
    let pairs = |length: usize| (0..length).flat_map(move |left| (left + 1..length).map(move |right| [left, right]));
    let mut accepted = 0;
    for paths in pairs(templates.len()).map(|pair| pair.map(|index| templates[index])) {
        for ids in pairs(ids.len()).map(|pair| pair.map(|index| ids[index])) {
            let feeds = ids.map(|id| feed(id, "").replace("\"t\"", &format!("{id:?}")));
            let Ok(config) = read(&(paths.iter().enumerate().map(sink).chain(feeds).collect::<String>()), None) else {
                continue;
            };
            accepted += 1;
            let mut names = std::collections::BTreeMap::new();
            for (sink, feed) in config.sinks.iter().flat_map(|sink| config.feeds.iter().map(move |feed| (sink, feed))) {
                let crate::sink::SinkKind::File(file) = &sink.kind else { panic!("a file") };
                let live = file.path.filled(&feed.tenant, &feed.id);
                let mark = if file.path.aside() == crate::sink::file::Aside::Marked { "~" } else { "" };
                let aside = (1..12).map(|number| format!("{live}.{number}{mark}"));
                for name in std::iter::once(live.clone()).chain(aside) {
                    let partition = sink.partition(&feed.tenant, &feed.id);
                    // Windows takes dots at the end of a name away.
                    let name = name.trim_end_matches('.').to_owned();
                    let before = names.insert(name.clone(), partition.clone());
                    assert!(before.is_none_or(|before| before == partition), "{name} of {paths:?} and {ids:?}");
                }
            }
        }
    }
    assert!(accepted > 100, "{accepted}");
}

#[test]
fn an_address_that_no_receiver_of_otlp_usually_has_draws_a_warning() {
    for (url, expected) in [
        ("http://127.0.0.1:4318/v1/logs", None),
        ("http://127.0.0.1:4318", Some("has no path: receivers usually take logs at /v1/logs")),
        ("http://127.0.0.1:4317/v1/logs", Some("has the port of OTLP/gRPC")),
    ] {
        let text = format!("[[sink]]\nid = \"s\"\ntype = \"otlp\"\nurl = {url:?}\n{}", feed("a", ""));
        let config = parse(Path::new("c.toml"), &text, None, &|_| None);
        assert_eq!(config.problems, []);
        let warnings: Vec<String> = config.warnings.iter().map(ConfigProblem::to_string).collect();
        assert_eq!(warnings.len(), usize::from(expected.is_some()), "{warnings:?}");
        assert!(expected.is_none_or(|expected| warnings[0].contains(expected)), "{warnings:?}");
    }
}

#[test]
fn certificates_of_a_sink_are_read_when_the_configuration_is() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "collector");
    let certificate = params.self_signed(&key).unwrap().pem();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (whole, half) =
        (file("whole.pem", &(certificate.clone() + &key.serialize_pem())), file("half.pem", &certificate));
    let lines =
        |url: &str, pem: &str| format!("url = {url:?}\nca_file = {half:?}\nclient_certificate = {{ file = {pem:?} }}");
    let config = posting("", &lines("https://h.example/e", &whole));
    assert_eq!(config.problems, []);
    let crate::sink::SinkKind::Http(sink) = &config.sinks[0].kind else { panic!("no sink over http") };
    assert_eq!(sink.authorities.roots.len(), 1);
    assert!(format!("{:?}", sink.identity).contains("collector"));
    let keys: Vec<_> = config.certificates.iter().map(|file| file.place.key.as_deref().unwrap()).collect();
    assert_eq!(keys, ["sink s: ca_file", "sink s: client_certificate"]);
    let told = |lines: &str| posting("", lines).problems.iter().map(ConfigProblem::to_string).collect::<Vec<_>>();
    let broken = told(&lines("https://h.example/e", &half));
    let expected = format!(
        "sink s: client_certificate: found no private key among its parts in {half}, expected PEM of a private key, \
         without a passphrase, and its certificate"
    );
    assert!(broken.len() == 1 && broken[0].ends_with(&expected), "{broken:?}");
    let open = told(&lines("http://h.example/e", &whole));
    assert!(open.len() == 2 && open[0].contains("ca_file: found beside a `url` over http"), "{open:?}");
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
        assert!(told.contains("its credentials would be sent over http") && told.contains(line), "{told}");
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
