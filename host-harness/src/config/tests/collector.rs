//! `[collector]`: where the collector listens, and its state.

use super::*;
use source_host::credentials::secret::Secret;

use crate::store::budget::Budgets;

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
    assert_eq!(collector("state = \"x/y.db\"").unwrap().collector.state.file(), Some(Path::new("x/y.db")));
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
        (
            "mysql://root:hunter2@db/x",
            "an address (URL), expected the path of a file, such as \"collector.db\", or an address such as postgres://",
        ),
        ("redis://db", "an address (URL)"),
        ("Postgres://u:hunter2@db/x?sslmode=require", "another sslmode, expected sslmode=verify-full"),
        ("postgres:hunter2", "an address that cannot be read, expected one such as postgres://"),
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
    for kind in ["otel", "OpenTelemetry", "OTLP"] {
        let sink = format!("[[sink]]\nid = \"a\"\ntype = {kind:?}\n{}", feed("a", ""));
        let problems = read(&sink, None).unwrap_err();
        assert!(problems[0].contains("; write \"otlp\""), "{problems:?}");
    }
}

#[test]
fn a_state_on_a_server_has_its_password_and_certificates_beside_it() {
    let server = |lines: &str| {
        let config = parse(
            Path::new("conf/c.toml"),
            &format!("[collector]\n{lines}\n[[sink]]\nid = \"s\"\ntype = \"stdout\"\n{}", feed("a", "")),
            None,
            &|name| (name == "PASSWORD").then(|| " hunter2\n".to_owned()),
        );
        let told: Vec<String> = config.warnings.iter().chain(&config.problems).map(ConfigProblem::to_string).collect();
        assert!(!format!("{config:?}{told:?}").contains("hunter2"));
        (config, told)
    };
    let address = |config: &Config| match &config.collector.state {
        StateConfig::Server(address) => (**address).clone(),
        StateConfig::File(file) => panic!("{}", file.display()),
    };
    let (config, told) = server("state = \"postgres://me@db1,db2/state\"\nstate_password = { env = \"PASSWORD\" }");
    assert_eq!(
        told.iter().filter(|line| line.contains("state")).count(),
        1,
        "only the space around the secret: {told:?}"
    );
    let passwords = address(&config).hosts.into_iter().map(|host| host.password.unwrap().expose().to_owned());
    assert_eq!(passwords.collect::<Vec<_>>(), ["hunter2", "hunter2"]);
    assert_eq!(config.sinks[0].dead_letters, Path::new("conf/dead-letters-s.ndjson"));
    let (_, told) = server("state = \"postgres://me:hunter2@db1/state?sslmode=disable\"");
    assert!(
        told[0].contains("collector.state: has a password in plain text; write state_password = { env"),
        "{told:?}"
    );
    assert!(told[1].contains("collector.state: connections to db1 are not encrypted"), "{told:?}");
    let (_, told) = server("state = \"postgres://me@db1/state\"\nstate_password = \"hunter2\"");
    assert!(told[0].contains("collector.state_password: found the value itself"), "{told:?}");
    let (_, told) = server("state = \"postgres://me@db1/state\"\nstate_ca_file = \"none.pem\"");
    assert!(told[0].contains("collector.state_ca_file: cannot read"), "{told:?}");
}

#[test]
fn the_password_file_of_postgresql_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passwords");
    std::fs::write(&file, "db1:*:*:*:one\n*:5433:state:me:two\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let text = format!("[collector]\nstate = \"postgres://me@db1,db2:5433,db3/state\"\n{}", feed("a", ""));
    let path = file.to_string_lossy().into_owned();
    let config = parse(Path::new("c.toml"), &text, None, &|name| (name == "PGPASSFILE").then(|| path.clone()));
    let StateConfig::Server(address) = &config.collector.state else { panic!("no server") };
    let passwords: Vec<_> = address.hosts.iter().map(|host| host.password.as_ref().map(Secret::expose)).collect();
    assert_eq!(passwords, [Some("one"), Some("two"), None]);
    assert!(config.files.iter().any(|seen| seen.path == file), "a change of the file is seen");
}
