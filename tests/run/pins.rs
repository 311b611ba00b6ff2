//! Feeds with a pinned digest of their plugin or plan.

use std::fs;

use serde_json::Value;

use super::FILE_SINK;
use crate::support::hostile::hostile_bytes;
use crate::support::process::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_whose_plugin_or_plan_is_not_the_one_that_is_pinned_is_left_out() {
    let scene = Scene::new().await;
    let write = |lines: &str| {
        let text = scene.text("").replace("tenant = \"tenant-1\"\n", &format!("tenant = \"tenant-1\"\n{lines}\n"));
        fs::write(scene.folder.path().join("collector.toml"), text).unwrap();
    };
    let run = |arguments: &[&str]| {
        let output = scene.command(&[arguments, &["-c", "collector.toml"]].concat()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), said)
    };
    write("");
    let inspected: Value = serde_json::from_str(&run(&["inspect", "--json"]).1).unwrap();
    let feeds = inspected["feeds"].as_array().unwrap();
    let digest = |feed: usize, key: &str| feeds[feed][key].as_str().unwrap().to_owned();
    let (plugin, plan) = (digest(0, "plugin_sha256"), digest(0, "plan_sha256"));
    assert_eq!((&plugin, plan.len()), (&inspected["sha256"].as_str().unwrap().to_owned(), 64));
    assert_ne!(plan, digest(1, "plan_sha256"), "of other subscriptions");
    // A reader of the page can compute its digest.
    let shapes = feeds[0]["shapes"].as_array().unwrap().iter().map(|shape| {
        let keys = ["method", "origin", "path", "credentials", "captures"];
        format!("{{{}}}", keys.map(|key| format!("{key:?}:{}", shape[key])).join(","))
    });
    let shapes = format!("[{}]", shapes.collect::<Vec<_>>().join(","));
    assert_eq!(source_host::digest::digest(shapes.as_bytes()), plan);

    write(&format!("plugin_sha256 = \"{plugin}\"\nplan_sha256 = \"{}\"", plan.to_uppercase()));
    assert_eq!(run(&["poll"]).0, Some(0));
    let page = run(&["inspect"]);
    assert!(page.0 == Some(0) && page.1.contains(&format!("plan_sha256 = \"{plan}\"")), "{}", page.1);

    let wrong = "0".repeat(64);
    for (key, found, what) in [("plugin_sha256", &plugin, "a plugin"), ("plan_sha256", &plan, "a plan")] {
        write(&format!("{key} = \"{wrong}\""));
        let told = format!("{key}: found {what} with the SHA-256 {found}, expected {wrong}; see with `inspect -c`");
        let (status, events, said) = run(&["poll"]);
        assert_eq!((status, events.lines().count()), (Some(3), 15), "{said}");
        assert!(
            said.contains("error: a feed is left out: collector.toml:") && said.contains(&told),
            "{told} in {said}"
        );
        let (status, _, said) = run(&["poll", "--strict"]);
        assert!(status == Some(2) && said.contains(&told), "{said}");
        let (status, page, said) = run(&["inspect"]);
        assert!(status == Some(3) && said.contains(&told), "{said}");
        assert!(page.contains("feed tenant-1-scores of tenant tenant-1"), "it is there to be reviewed: {page}");
        let (status, reports, _) = run(&["check", "--json"]);
        let report: Value = serde_json::from_str(reports.lines().next().unwrap()).unwrap();
        let step = &report["steps"][0];
        assert_eq!((status, &step["code"]), (Some(3), &"pin-differs".into()), "{step}");
        assert!(step["cause"].as_str().unwrap().contains(&told), "{step}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_runs_of_a_plugin_that_is_not_the_one_that_is_pinned() {
    let scene = Scene::new().await;
    fs::write(scene.folder.path().join("hostile.wasm"), hostile_bytes()).unwrap();
    let hostile = |pin: &str| {
        format!(
            "[[feed]]\nid = \"items\"\ntenant = \"mallory\"\nplugin = \"hostile.wasm\"\n{pin}\n\
             [feed.settings]\nmode = \"shapes\"\namount = 100000\nkey = \"the-key-of-mallory\"\n"
        )
    };
    let poll = |pin: &str| {
        scene.write(&hostile(pin));
        let output = scene.command(&["poll", "-c", "collector.toml"]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, said) = poll("");
    assert!(status == Some(2) && said.contains("exceeded its limit on shapes of requests in prepare"), "{said}");
    let (status, said) = poll(&format!("plugin_sha256 = \"{}\"", "0".repeat(64)));
    assert!(status == Some(3) && said.contains("feed items: plugin_sha256: found a plugin with"), "{said}");
    assert!(!said.contains("prepare"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_runs_goes_on_within_its_pins_and_not_against_them() {
    let scene = Scene::new().await;
    let (first, second) = ("id = \"tenant-1-scores\"\n", "id = \"tenant-2-scores\"\n");
    let write = |one: &str, two: &str| {
        let text =
            scene.text(FILE_SINK).replace(first, &format!("{first}{one}")).replace(second, &format!("{second}{two}"));
        fs::write(scene.folder.path().join("collector.toml"), text).unwrap();
    };
    write("", "");
    let output = scene.command(&["inspect", "-c", "collector.toml", "--json"]).output().unwrap();
    let inspected: Value = serde_json::from_slice(&output.stdout).unwrap();
    let pin = format!("plugin_sha256 = \"{}\"\n", inspected["sha256"].as_str().unwrap());
    fs::write(scene.folder.path().join("hostile.wasm"), hostile_bytes()).unwrap();
    let mut process = scene.run(&[]);
    process.hears("collecting 2 feeds");
    write("", &format!("plugin = \"hostile.wasm\"\n{pin}"));
    let told = process.hears("a feed keeps its previous configuration");
    assert!(
        told.contains("tenant-2-scores: plugin_sha256: found a plugin with") && told.contains("pin-differs"),
        "{told}"
    );
    process.hears("loaded the configuration of 1 feed");
    write("", &format!("plan_sha256 = \"{}\"\n", "0".repeat(64)));
    let told = process.hears("a feed is left out");
    assert!(told.contains("tenant-2-scores: plan_sha256: found a plan with"), "{told}");
    process.hears("loaded the configuration of 1 feed");
    write("", &pin);
    process.hears("loaded the configuration of 2 feeds");
}
