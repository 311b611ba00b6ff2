//! `status` and `history`: the store in the terminal and for programs, also while the collector runs.

use std::process::Output;

use serde_json::Value;

use super::FILE_SINK;
use crate::support::process::{Scene, lines};

fn said(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_is_shown_while_a_collector_runs() {
    let scene = Scene::new().await;
    scene.simulator.with(|world| world.scenario = Some("forbidden"));
    scene.write(FILE_SINK);
    let none = scene.command(&["status", "collector.toml"]).output().unwrap();
    assert_eq!(none.status.code(), Some(1));
    assert!(said(&none).1.contains("no scope was collected yet"), "{none:?}");
    let mut process = scene.run(&[]);
    lines(&scene.folder.path().join("out/tenant-2.ndjson"), 15);
    process.hears("forbidden");

    let output = scene.command(&["status", "-c", "collector.toml"]).output().unwrap();
    let (shown, people) = said(&output);
    assert_eq!(output.status.code(), Some(3), "{shown}{people}");
    for part in [
        "tenant-1 · tenant-1-scores · ",
        "forbidden",
        "  fix: az role assignment create",
        "collected",
        "sink lake: 0 events",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(shown.find("needs a person") < shown.find("tenant / scope"), "{shown}");
    let only = scene.command(&["status", "-c", "collector.toml", "--tenant", "tenant-2"]).output().unwrap();
    assert!(!said(&only).0.split("tenant / scope").nth(1).unwrap().contains("tenant-1"), "{only:?}");

    let output = scene.command(&["status", "-c", "collector.toml", "--json"]).output().unwrap();
    let objects: Vec<Value> = said(&output).0.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 3, "two tenants and a sink: {objects:?}");
    assert_eq!(objects[0]["scopes"][0]["state"], "needs-person");
    assert_eq!(objects[0]["percent"], Value::Null);
    let scope = &objects[1]["scopes"][0];
    assert_eq!((&scope["state"], &scope["code"]), (&"collected".into(), &Value::Null));
    assert!(scope["score"]["percent"].as_f64().unwrap() > 0.0 && !scope["failing"].as_array().unwrap().is_empty());
    assert_eq!((&objects[2]["sink"], &objects[2]["waiting_events"]), (&"lake".into(), &0.into()));

    let id = scope["scope"].as_str().unwrap();
    let output = scene.command(&["history", "-c", "collector.toml", "--scope", id]).output().unwrap();
    let shown = said(&output).0;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(shown.contains("controls by points at stake") && shown.matches(" % |").count() == 12, "{shown}");
    assert!(!shown.contains('\u{1b}'), "no escape code goes to a pipe: {shown}");
    process.signal("TERM");
    assert!(process.end().success());
    let now = scene.command(&["status", "-c", "collector.toml", "--tenant", "tenant-2"]).output().unwrap();
    assert_eq!(now.status.code(), Some(0), "{now:?}");
    let state = rusqlite::Connection::open(scene.folder.path().join("collector.db")).unwrap();
    state.execute("UPDATE scope SET standing = json_set(standing, '$.due', 1700000000000)", []).unwrap();
    drop(state);
    let late = scene.command(&["status", "-c", "collector.toml", "--tenant", "tenant-2"]).output().unwrap();
    assert_eq!(late.status.code(), Some(3), "{late:?}");
    let words = "tenant-2 · tenant-2-scores: 1 scope not polled, though due since 2023-11-14T22:13:20Z: ";
    assert!(said(&late).0.contains(words), "{late:?}");
    let after = scene.command(&["status", "-c", "collector.toml"]).output().unwrap();
    assert_eq!(after.status.code(), Some(3), "{after:?}");
    // A broken configuration is told, and the state is shown nevertheless.
    let text = scene.text(FILE_SINK) + "\n[collectorx]\n";
    std::fs::write(scene.folder.path().join("collector.toml"), text).unwrap();
    let broken = scene.command(&["status", "-c", "collector.toml"]).output().unwrap();
    assert_eq!(broken.status.code(), Some(2));
    assert!(said(&broken).1.contains("collectorx"), "{broken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_tells_of_credentials_that_end_and_of_sinks_that_take_nothing() {
    let scene = Scene::new().await;
    // Nobody listens at the reserved port 1.
    let sink = "[[sink]]\nid = \"siem\"\ntype = \"http\"\nurl = \"http://127.0.0.1:1/\"\nmax_outbox_bytes = 9000\n";
    let day = time::OffsetDateTime::now_utc().date() + time::Duration::days(6);
    let date = format!("{}-{:02}-{:02}", day.year(), u8::from(day.month()), day.day());
    let write = |sink: &str| {
        let text = scene.text(sink);
        let secret = "client_secret = ";
        assert_eq!(text.matches(secret).count(), 2, "{text}");
        let text = text.replacen(secret, &format!("client_secret_expires = {date:?}\n{secret}"), 1);
        std::fs::write(scene.folder.path().join("collector.toml"), text).unwrap();
    };
    write(sink);
    let polled = scene.command(&["poll", "-c", "collector.toml", "--state", "collector.db"]).output().unwrap();
    assert_eq!(polled.status.code(), Some(3), "{polled:?}");

    let shown = |more: &[&str]| {
        let output = scene.command(&[&["status", "-c", "collector.toml"], more].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        said(&output).0
    };
    let text = shown(&[]);
    for part in [
        &*format!(
            "tenant-1 · tenant-1-scores: credential-expires: `client_secret` expires in 5 days, on {date}\n  fix: create"
        ),
        "sink siem · tenant-1: outbox full: 15 events, ",
        "sink siem · tenant-2: outbox full: 15 events, ",
        "sink siem: 30 events, ",
        "; a tenant's outbox is full from 9000 bytes",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("tenant-2-scores: credential-expires"), "{text}");
    let text = shown(&["--json"]);
    let all: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |key: &str| all.iter().find(|object| object.get(key).is_some()).unwrap();
    assert_eq!((&of("expires")["expires"], &of("expires")["setting"]), (&(*date).into(), &"client_secret".into()));
    let siem = of("sink");
    assert_eq!((&siem["configured"], &siem["waiting_events"]), (&true.into(), &30.into()), "{siem}");
    assert_eq!((&siem["max_outbox_bytes"], &siem["outboxes"][1]["full"]), (&9_000.into(), &true.into()), "{siem}");
    let other = shown(&["--tenant", "tenant-2"]);
    assert!(!other.contains("credential-expires") && other.contains("sink siem: 15 events, "), "{other}");

    write(&sink.replace("siem", "other"));
    let text = shown(&["--tenant", "tenant-2"]);
    assert!(text.contains("sink siem: not configured: 15 events, "), "{text}");
    assert!(text.contains("sink other: 0 events, 0 bytes wait"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_names_the_controls_that_moved_the_score() {
    let scene = Scene::new().await;
    scene.write("[collector]\nstate = \"collector.db\"\n");
    let poll = || scene.command(&["poll", "-c", "collector.toml", "--state", "collector.db"]).output().unwrap();
    assert_eq!(poll().status.code(), Some(0));
    scene.simulator.with(|world| world.estate.tenants[0].subscriptions[0].controls[0].unhealthy += 50);
    assert_eq!(poll().status.code(), Some(0));
    let history = |scope: &str, more: &[&str]| {
        let arguments = ["history", "-c", "collector.toml", "--scope", scope];
        scene.command(&[&arguments, more].concat()).output().unwrap()
    };
    let several = history("-", &[]);
    assert_eq!(several.status.code(), Some(2), "{several:?}");
    assert!(said(&several).1.contains("found 2 scopes"), "{several:?}");
    assert_eq!(history("nothing like it", &[]).status.code(), Some(2));
    let output = history("-", &["--feed", "tenant-1-scores", "--json"]);
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    let output = scene.command(&["status", "-c", "collector.toml", "--json"]).output().unwrap();
    let first: Value = serde_json::from_slice(output.stdout.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    assert_eq!(object["score"], first["scopes"][0]["score"], "one figure has one form");
    let change = &object["changes"][0];
    assert!(change["before"]["value"].as_f64() > change["after"]["value"].as_f64(), "{object}");
    assert_eq!(change["controls"].as_array().unwrap().len(), 1, "{object}");
    assert!(object["days"].as_array().is_some_and(|days| days.len() == 1), "{object}");
    let shown = said(&history("-", &["--feed", "tenant-1-scores"])).0;
    let moved = change["controls"][0]["title"].as_str().unwrap();
    assert!(shown.matches('*').count() > 2, "the first day is drawn by the clock: {shown}");
    assert!(shown.contains("last changes") && shown.contains(&format!("    {moved}: ")), "{shown}");
}
