//! Credentials that cannot be read, or have white space around them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::FILE_SINK;
use crate::support::process::{Scene, get, lines};

/// The line of the first feed's credential in the configuration of [`Scene`].
const SECRET: &str = "client_secret = { env = \"TENANT_1_SECRET\" }";

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_cannot_be_read_leaves_its_own_feed_out() {
    let mut scene = Scene::new().await;
    scene.secrets.push(("BLANK".to_owned(), " \n".to_owned()));
    for (name, text) in [("blank.txt", "\u{feff}\r\n"), ("plain.pem", "no PEM"), ("token", "no token")] {
        let file = scene.folder.path().join(name);
        fs::write(&file, text).unwrap();
        // A file that others may read also causes a warning.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::create_dir(scene.folder.path().join("folder")).unwrap();
    for (credential, told) in [
        ("client_secret = { env = \"NOBODY\" }", "settings.client_secret: found no variable NOBODY"),
        ("client_secret = { env = \"BLANK\" }", "settings.client_secret: found nothing in the variable BLANK"),
        ("client_secret = { env = \"ODD\" }", "settings.client_secret: "),
        ("client_secret = { file = \"none.txt\" }", "settings.client_secret: cannot read none.txt"),
        ("client_secret = { file = \"folder\" }", "settings.client_secret: cannot read folder"),
        ("client_secret = { file = \"blank.txt\" }", "settings.client_secret: found nothing in blank.txt"),
        ("client_certificate = { file = \"plain.pem\" }", "settings.client_certificate: found no PEM"),
        ("federated_token_file = \"none\"", "settings.federated_token_file: found a file that cannot be read"),
        ("federated_token_file = \"token\"", "settings.federated_token_file: found a file without a signed token"),
    ] {
        let text = scene.text("").replace(SECRET, credential);
        fs::write(scene.folder.path().join("collector.toml"), &text).unwrap();
        let mut command = scene.command(&["poll", "-c", "collector.toml"]);
        let output = command.env("ODD", OsStr::from_bytes(b"\xff\xfe")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let events = output.stdout.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!((output.status.code(), events), (Some(3), 15), "{credential}: {said}");
        let told = format!("feed tenant-1-scores: {told}");
        assert!(
            said.contains("error: a feed is left out: collector.toml:") && said.contains(&told),
            "{told} in {said}"
        );
        let told = said.lines().filter(|line| !line.starts_with("polled in ")).count();
        assert_eq!(told, 1, "{said}");
    }
    let poll = |arguments: &[&str]| {
        let output = scene.command(&[&["poll", "-c", "collector.toml"], arguments].concat()).output().unwrap();
        (output.status.code(), output.stdout.len())
    };
    assert_eq!(poll(&["--strict"]), (Some(2), 0));
    assert_eq!(poll(&["--feed", "tenant-1-scores"]), (Some(2), 0), "nothing would be collected");
    assert_eq!(poll(&["--feed", "tenant-2-scores"]).0, Some(0));
    let output = scene.command(&["inspect", "-c", "collector.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    // A problem of the configuration itself stops everything, whatever else cannot be read.
    let text =
        scene.text("").replace(SECRET, "client_secret = { env = \"NOBODY\" }").replace("_key = \"0", "_key = \"x");
    fs::write(scene.folder.path().join("collector.toml"), &text).unwrap();
    let output = scene.command(&["poll", "-c", "collector.toml"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{said}");
    for told in
        ["tenant-1-scores: settings.client_key", "found no variable NOBODY", "tenant-2-scores: settings.client_k"]
    {
        assert!(said.contains(told), "{told} in {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_is_left_out_comes_back_when_its_file_does() {
    let scene = Scene::new().await;
    let path = |name: &str| scene.folder.path().join(name);
    let (token, secret) = ("federated_token_file = \"token\"", "client_secret = { file = \"secret.txt\" }");
    let listen = format!("[collector]\nlisten = \"127.0.0.1:0\"\n{FILE_SINK}");
    let write = |credential: &str| {
        fs::write(path("collector.toml"), scene.text(&listen).replace(SECRET, credential)).unwrap();
    };
    write(secret);
    let mut strict = scene.run(&["--strict"]);
    strict.hears("settings.client_secret: cannot read secret.txt");
    assert_eq!(strict.end().code(), Some(2));
    let mut process = scene.run(&[]);
    let address = process.address();
    let told = process.hears("a feed is left out");
    assert!(
        told.contains("feed tenant-1-scores: settings.client_secret") && told.contains("fault=\"operator\""),
        "{told}"
    );
    lines(&path("out/tenant-2.ndjson"), 15);
    let page = get(&address, None).await.1;
    assert!(page.contains("the feed is left out") && page.contains("cannot read secret.txt"), "{page}");
    let metric = async |value: u8| {
        let metrics = get(&format!("{address}/metrics?by=feed"), None).await.1;
        let line = format!("collector_feeds_left_out {value}");
        assert!(metrics.lines().any(|known| known == line), "{line} in {metrics}");
    };
    metric(1).await;
    fs::write(path("secret.txt"), &scene.secrets[0].1).unwrap();
    process.hears("loaded the configuration of 2 feeds");
    lines(&path("out/tenant-1.ndjson"), 15);
    metric(0).await;
    // A running feed continues with its present credential.
    fs::remove_file(path("secret.txt")).unwrap();
    process.hears("a feed keeps its previous configuration");
    process.hears("loaded the configuration of 1 feed");
    metric(0).await;
    // A file that a setting of the plugin names is watched, too.
    write(token);
    process.hears("feed tenant-1-scores: settings.federated_token_file: found a file that cannot be read");
    process.hears("loaded the configuration of 1 feed");
    fs::write(path("token"), crate::credentials::FEDERATED).unwrap();
    process.hears("loaded the configuration of 2 feeds");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_surrounds_a_secret_is_removed_and_the_rest_is_sent_as_it_stands() {
    let mut scene = Scene::new().await;
    let secret = "“8y~8Q\0 s~ecret”";
    scene.simulator.with(|world| world.estate.tenants[0].client_secret = secret.to_owned());
    scene.secrets.push(("PADDED".to_owned(), format!("\u{a0}{}\u{200b}\n", secret.replace('\0', ""))));
    fs::write(scene.folder.path().join("secret.txt"), format!("\u{feff}{secret}\r\n")).unwrap();
    let told = |credential: &str, command: &[&str]| {
        let text = scene.text("").replace(SECRET, credential);
        fs::write(scene.folder.path().join("collector.toml"), text).unwrap();
        let output = scene.command(&[command, &["-c", "collector.toml"]].concat()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains("s~ecret") && !said.contains("8y~8Q"), "{said}");
        (output.status.code(), said)
    };
    let file = "client_secret = { file = \"secret.txt\" }";
    for command in ["poll", "check"] {
        let (status, said) = told(file, &[command]);
        assert_eq!(status, Some(0), "{said}");
        for words in [
            "feed tenant-1-scores: settings.client_secret: a byte order mark at its beginning was removed",
            "feed tenant-1-scores: settings.client_secret: has a typographic quotation mark as characters 1, 16, where",
            "feed tenant-1-scores: settings.client_secret: has a NUL as character 7, where",
        ] {
            assert_eq!(said.matches(words).count(), 1, "{words} in {said}");
        }
    }
    scene.simulator.with(|world| world.estate.tenants[0].client_secret = secret.replace('\0', ""));
    let (status, said) = told("client_secret = { env = \"PADDED\" }", &["poll"]);
    assert_eq!(status, Some(0), "{said}");
    let words = "white space at its beginning and a zero-width space and white space at its end were removed";
    assert!(said.contains(words), "{said}");
    // If a user puts a secret in the place of a name, no message shows it.
    for credential in ["{ env = \"8y~8Q~s~ecretAbcDef.1\" }", "{ file = \"8y~8Q~s~ecretAbcDef.1\" }"] {
        let (status, said) = told(&format!("client_secret = {credential}"), &["poll"]);
        assert_eq!(status, Some(3));
        assert!(said.contains("a secret itself does not belong there"), "{said}");
    }
    let (status, said) = told("client_secret = { env = \"${NOBODY}\" }", &["poll"]);
    assert!(status == Some(3) && said.contains("expected the name alone, NOBODY"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_climbs_with_the_others_where_one_credential_cannot_be_read() {
    let scene = Scene::new().await;
    let text = scene.text("").replace(SECRET, "client_secret = { env = \"NOBODY\" }");
    fs::write(scene.folder.path().join("collector.toml"), text).unwrap();
    let check = |arguments: &[&str]| {
        let output =
            scene.command(&[&["check", "-c", "collector.toml", "--json"], arguments].concat()).output().unwrap();
        let reports = output.stdout.split_inclusive(|byte| *byte == b'\n');
        let reports: Vec<Value> = reports.map(|line| serde_json::from_slice(line).unwrap()).collect();
        (output.status.code(), reports)
    };
    let (status, reports) = check(&[]);
    let feeds: Vec<_> = reports.iter().map(|report| (report["feed"].as_str(), report["ok"].as_bool())).collect();
    assert_eq!(status, Some(3));
    assert_eq!(feeds, [(Some("tenant-1-scores"), Some(false)), (Some("tenant-2-scores"), Some(true))]);
    let step = &reports[0]["steps"][0];
    assert_eq!((step["status"].as_str(), step["code"].as_str()), (Some("failed"), Some("credential-unreadable")));
    assert!(step["cause"].as_str().unwrap().contains("found no variable NOBODY"), "{step}");
    assert!(step["fix"].as_str().unwrap().contains("collector.toml:"), "{step}");
    assert_eq!(reports[0]["steps"][1]["status"], "not-reached");
    let (status, reports) = check(&["--strict"]);
    assert_eq!((status, reports[1]["steps"][1]["status"].as_str()), (Some(2), Some("not-reached")));
}
