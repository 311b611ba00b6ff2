//! Feeds whose plugin is ready late, or fails.

use std::fs;
use std::path::PathBuf;
#[cfg(debug_assertions)]
use std::time::{Duration, Instant};

use super::FILE_SINK;
use crate::support::hostile::hostile_bytes;
#[cfg(debug_assertions)]
use crate::support::process::PATIENCE;
use crate::support::process::{Process, Scene, get, lines};

/// Returns a feed whose plugin is standard input: it is ready when the test writes the plugin.
fn piped(id: &str, mode: &str) -> String {
    format!(
        "[[feed]]\nid = \"{id}\"\ntenant = \"mallory\"\nplugin = \"/dev/stdin\"\n\
         [feed.settings]\nmode = \"{mode}\"\nkey = \"the-key-of-mallory\"\n"
    )
}

/// Starts the program with a pipe as its standard input.
fn run(scene: &Scene, arguments: &[&str]) -> (PathBuf, Process) {
    let (pipe, input) = scene.piped_input();
    let mut command = scene.command(arguments);
    command.stdin(input);
    (pipe, Process::start(command))
}

/// Checks that the metrics contain these lines.
async fn counts(address: &str, lines: &[&str]) {
    let metrics = get(&format!("{address}/metrics?by=feed"), None).await.1;
    for line in lines {
        assert!(metrics.lines().any(|known| known == *line), "{line} in {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn feeds_whose_plugin_is_not_ready_come_later_and_keep_nobody() {
    let scene = Scene::new().await;
    let served = format!("[collector]\nlisten = \"127.0.0.1:0\"\n{FILE_SINK}");
    scene.write(&format!("{served}{}{}", piped("slow", ""), piped("wrong", "no such mode")));
    let (pipe, mut process) = run(&scene, &["run", "-c", "collector.toml"]);
    let address = process.address();
    process.hears("still checking 2 feeds");
    lines(&scene.folder.path().join("out/tenant-2.ndjson"), 15);
    for path in ["healthz", "readyz"] {
        assert_eq!(get(&format!("{address}/{path}"), None).await.0, 200, "nobody waits for one plugin");
    }
    let page = get(&address, None).await.1;
    assert!(page.contains("Feeds that are being checked") && page.contains("it is not collected yet"), "{page}");
    counts(&address, &["collector_feeds 2", "collector_feeds_being_checked 2", "collector_feeds_left_out 0"]).await;
    fs::write(&pipe, hostile_bytes()).unwrap();
    let told = process.hears("a feed is left out");
    assert!(told.contains("feed wrong: settings.mode: found") && told.contains("settings-invalid"), "{told}");
    process.hears("added 1 feed");
    counts(&address, &["collector_feeds 3", "collector_feeds_being_checked 0", "collector_feeds_left_out 1"]).await;
    // A running feed continues while its plugin is checked again, and a configuration without the feed does not wait
    // for that.
    scene.write(&format!("{served}{}", piped("slow", "")));
    process.hears("still checking 1 feed");
    assert!(get(&address, None).await.1.contains("it keeps its previous configuration"));
    counts(&address, &["collector_feeds 3", "collector_feeds_being_checked 1", "collector_feeds_left_out 0"]).await;
    scene.write(&served);
    process.hears("loaded the configuration of 2 feeds");
    counts(&address, &["collector_feeds 2", "collector_feeds_being_checked 0"]).await;
    process.signal("TERM");
    assert_eq!(process.end().code(), Some(0), "what is still being read keeps nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_any_feed_ends_once_that_is_known() {
    let scene = Scene::new().await;
    fs::write(scene.folder.path().join("only.toml"), piped("slow", "")).unwrap();
    for (arguments, told) in [(&[][..], Some("still checking 1 feed")), (&["--strict"], None)] {
        let (pipe, mut process) = run(&scene, &[&["run", "-c", "only.toml"], arguments].concat());
        told.map(|told| process.hears(told));
        fs::write(&pipe, "no plugin\n".repeat(10_000)).unwrap();
        process.hears("error: only.toml:1: feed slow: plugin: /dev/stdin: not a WebAssembly component");
        assert_eq!(process.end().code(), Some(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_breaks_down_at_once_leaves_its_own_feeds_out() {
    let scene = Scene::new().await;
    fs::write(scene.folder.path().join("hostile.wasm"), hostile_bytes()).unwrap();
    let hostile = "[[feed]]\nid = \"items\"\ntenant = \"mallory\"\nplugin = \"hostile.wasm\"\n\
                   [feed.settings]\nmode = \"shapes\"\namount = 100000\nkey = \"the-key-of-mallory\"\n";
    scene.write(&format!("[collector]\nlisten = \"127.0.0.1:0\"\n{FILE_SINK}{hostile}"));
    let output = scene.command(&["poll", "-c", "collector.toml"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "a person is there, who can mend it");
    let mut process = scene.run(&[]);
    let address = process.address();
    let told = process.hears("a feed is left out");
    assert!(
        told.contains("feed items: plugin: the plugin exceeded its limit on ") && told.contains("fault=\"plugin\"")
    );
    lines(&scene.folder.path().join("out/tenant-2.ndjson"), 15);
    assert!(get(&address, None).await.1.contains("the feed is left out"));
    let metrics = get(&format!("{address}/metrics?by=feed"), None).await.1;
    assert!(metrics.lines().any(|line| line == "collector_feeds_left_out 1"), "{metrics}");
    // A running feed continues, because its new configuration is unknown.
    let text = fs::read_to_string(scene.folder.path().join("collector.toml")).unwrap();
    let (before, after) = text.split_once("id = \"tenant-2-scores\"\n").unwrap();
    let other = format!("{before}id = \"tenant-2-scores\"\nplugin = \"collector.toml\"\n{after}");
    fs::write(scene.folder.path().join("collector.toml"), other).unwrap();
    process.hears("a feed keeps its previous configuration");
    process.hears("loaded the configuration of 1 feed");
    let metrics = get(&format!("{address}/metrics?by=feed"), None).await.1;
    for line in ["collector_feeds_left_out 1", "collector_scopes{tenant=\"tenant-2\",feed=\"tenant-2-scores\"} 1"] {
        assert!(metrics.lines().any(|known| known == line), "{line} in {metrics}");
    }
    let only = scene.folder.path().join("only.toml");
    // Its state is its own: the first collector still runs, and on a busy machine the state is opened before the plugin fails.
    fs::write(only, format!("[collector]\nstate = \"only.db\"\n{hostile}")).unwrap();
    let output = scene.command(&["run", "-c", "only.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "nothing would be collected");
}

// Builds without debug assertions have no faster time for tests.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn a_feed_whose_plugin_could_not_be_compiled_is_tried_again_without_a_change() {
    use std::os::unix::fs::PermissionsExt;

    use source_host::failpoint;
    let scene = Scene::new().await;
    // A program that nobody may start cannot start itself as a compiler.
    let program = scene.folder.path().join("host-harness");
    fs::copy(crate::support::command().get_program(), &program).unwrap();
    let may_start = |mode| fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
    let served = format!("[collector]\nlisten = \"127.0.0.1:0\"\n{FILE_SINK}");
    scene.write(&served);
    let as_is = scene.command(&["run", "-c", "collector.toml"]);
    let mut command = std::process::Command::new(&program);
    command.args(as_is.get_args()).current_dir(scene.folder.path());
    command.envs(as_is.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // A cache of its own, which lacks the plugin.
    command.env("XDG_CACHE_HOME", scene.folder.path().join("cache"));
    command.env(failpoint::VARIABLE, format!("{}:4000000000:hang:10", failpoint::LOOP));
    let mut process = Process::start(command);
    let address = process.address();
    lines(&scene.folder.path().join("out/tenant-2.ndjson"), 15);
    may_start(0o644);
    fs::write(scene.folder.path().join("hostile.wasm"), hostile_bytes()).unwrap();
    let late = "[[feed]]\nid = \"late\"\ntenant = \"mallory\"\nplugin = \"hostile.wasm\"\n\
                [feed.settings]\nmode = \"\"\nkey = \"the-key-of-mallory\"\n";
    scene.write(&format!("{served}{late}"));
    let told = process.hears("a feed is left out");
    assert!(told.contains("the compiler cannot be started") && told.contains("compiler-unavailable"), "{told}");
    assert!(told.contains("fault=\"harness\"") || told.contains("fault=harness"), "{told}");
    may_start(0o755);
    let begun = Instant::now();
    while !get(&format!("{address}/metrics"), None).await.1.contains("collector_feeds 3\n") {
        assert!(begun.elapsed() < PATIENCE, "{}", process.all_said());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    counts(&address, &["collector_feeds_left_out 0"]).await;
}
