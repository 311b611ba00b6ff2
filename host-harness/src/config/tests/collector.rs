//! `[collector]`: where the collector listens, and its state.

use super::*;
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
    assert_eq!(collector("state = \"x/y.db\"").unwrap().collector.state, Path::new("x/y.db"));
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
        ("Postgres://u:hunter2@db/x", "the address of a database server, which is not supported yet"),
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
