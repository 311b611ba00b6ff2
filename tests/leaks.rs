//! Searches everything that the programs write for every secret that they used, while the service echoes the secrets.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use source_host::credentials::redact::Search;
use source_host::credentials::secret::Secret;
use source_simulator::Simulator;

use crate::support::process::{self, until};
use crate::support::root;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_written_holds_a_secret() {
    let scene = Scene::new().await;
    for (name, scenario, format) in
        [("echo", "echo", "text"), ("echo-json", "echo", "json"), ("token-echo", "token-echo", "text")]
    {
        scene.simulator.with(|world| world.scenario = Some(scenario));
        fs::remove_dir_all(scene.folder.path().join("out")).ok();
        for entry in ["collector.db", "collector.db-wal", "collector.db-shm"] {
            fs::remove_file(scene.folder.path().join(entry)).ok();
        }
        scene.run(name, format).await;
        let (state, recording) = (format!("{name}.db"), format!("{name}.json"));
        for arguments in [
            &["poll", "-c", "all.toml"][..],
            &["poll", "-c", "all.toml", "--state", &state],
            &["inspect", "-c", "all.toml"],
            &["inspect", "-c", "all.toml", "--json"],
            &["check", "-c", "all.toml"],
            &["check", "-c", "all.toml", "--json"],
            &["record", "-c", "all.toml", "--feed", "tenant-2-scores", "-o", &recording],
        ] {
            let name = format!("{name}-{}", arguments.join("-").replace(['/', '.'], "-"));
            let status = scene.command(&name, arguments).status().unwrap();
            assert_ne!(status.code(), Some(2), "{name}: {}", scene.said(&format!("{name}.err")));
        }
        assert!(scene.said(&recording).contains("TOKEN-1"), "{name}");
    }
    let folder = scene.folder.path();
    let written = files(&[folder, &root().join("tests/cassettes")]);
    for end in ["out", "err", "ndjson", "db", "metrics", "status", "json"] {
        let some = written.iter().any(|file| file.extension().is_some_and(|extension| extension == end));
        assert!(some, "no file *.{end} among {written:?}");
    }
    assert!(scene.said("echo.err").contains("TRACE") && scene.said("echo-json.err").contains("\"TRACE\""));
    assert_eq!(leaks(&written, &scene.used()), Vec::<String>::new());

    // The search must find these if they are planted.
    for secret in scene.used() {
        let percent: String = secret.expose().bytes().map(|byte| format!("%{byte:02x}")).collect();
        let json = serde_json::Value::from(serde_json::Value::from(secret.expose()).to_string()).to_string();
        for planted in [secret.expose().to_owned(), percent, json] {
            let file = folder.join("planted");
            fs::write(&file, [scene.said("echo.err").as_bytes(), planted.as_bytes()].concat()).unwrap();
            let found = leaks(&[file], std::slice::from_ref(&secret));
            assert_eq!(found.len(), 1, "{planted}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_not_let_out_is_told_once_with_the_line_that_would_allow_it() {
    let scene = Scene::new().await;
    let file = scene.folder.path().join("all.toml");
    let text = fs::read_to_string(&file).unwrap();
    let url = scene.simulator.url().to_owned();
    let other = format!("allow = [{:?}]", "https://other.example");
    fs::write(&file, text.replace(&format!("allow = [{url:?}]"), &other)).unwrap();
    let mut command = scene.command("denied", &["poll", "-c", "all.toml"]);
    assert_eq!(command.env("RUST_LOG", "warn").status().unwrap().code(), Some(1));
    let said = scene.said("denied.err");
    let denied: Vec<&str> = said.lines().filter(|line| line.contains("to allow it, write")).collect();
    // Each feed's failure mentions the denial, and nothing else does.
    let [first, second] = denied.as_slice() else { panic!("{said}") };
    assert!(first.contains("tenant-1-scores") && second.contains("tenant-2-scores"), "{said}");
    let whole = format!("to allow it, write `allow = [{url:?}, \"https://other.example\"]` in [network]");
    let sorted = format!("to allow it, write `allow = [\"https://other.example\", {url:?}]` in [network]");
    for line in denied {
        assert!(line.contains("the host does not allow the request"), "{line}");
        assert!(line.contains(&whole) || line.contains(&sorted), "{line}");
    }
    assert!(!said.contains("WARN"), "{said}");
}

/// Everything except the compiler's messages about code.
const EVERYTHING: &str = "trace,wasmtime=info,cranelift=info,cranelift_codegen=info,regalloc2=info";

struct Scene {
    simulator: Simulator,
    folder: tempfile::TempDir,
    secrets: Vec<(String, String)>,
}

impl Scene {
    async fn new() -> Scene {
        let process::Scene { simulator, folder, mut secrets } = process::Scene::new().await;
        let (text, _) = simulator.configuration("ca.pem");
        secrets.push(("READERS".to_owned(), "let-~me-/in+?".to_owned()));
        let more = "[collector]\nlisten = \"127.0.0.1:0\"\ntoken = { env = \"READERS\" }\n\
                    [[sink]]\nid = \"lake\"\ntype = \"file\"\npath = \"out/{tenant}.ndjson\"\n";
        fs::write(folder.path().join("all.toml"), format!("{more}{text}")).unwrap();
        Scene { simulator, folder, secrets }
    }

    /// Makes a command whose output goes into files with this name.
    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let file = |end: &str| File::create(self.folder.path().join(format!("{name}.{end}"))).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_host-harness"));
        command.current_dir(self.folder.path()).args(arguments).envs(self.secrets.iter().cloned());
        command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("xdg")).env("RUST_LOG", EVERYTHING);
        command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        command
    }

    fn said(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// Runs the collector until it has polled both tenants, and saves the pages that it serves.
    async fn run(&self, name: &str, format: &str) {
        let mut child =
            Running(self.command(name, &["run", "-c", "all.toml", "--log-format", format]).spawn().unwrap());
        let error = format!("{name}.err");
        until(|| self.said(&error).contains("serving /metrics"));
        let said = self.said(&error);
        let address = said[said.find("http://127.0.0.1:").unwrap()..].split(['/', '"', ' ', '\x1b']).nth(2).unwrap();
        until(|| {
            // One tenant had a finding, the other a failure.
            let told = |tenant: &str| !self.said(&format!("out/{tenant}.ndjson")).is_empty();
            told("tenant-2") && (told("tenant-1") || self.said(&error).contains("secret-invalid"))
        });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        for (page, file) in [("metrics", "metrics"), ("", "status"), ("healthz", "health")] {
            let request = client.get(format!("http://{address}/{page}")).bearer_auth(&self.secrets.last().unwrap().1);
            let text = request.send().await.unwrap().text().await.unwrap();
            assert!(!text.is_empty());
            fs::write(self.folder.path().join(format!("{name}.{file}")), text).unwrap();
        }
        Command::new("kill").args(["-s", "TERM", &child.0.id().to_string()]).status().unwrap();
        until(|| child.0.try_wait().unwrap().is_some());
    }

    /// Returns the secrets and tokens that were used so far.
    fn used(&self) -> Vec<Secret> {
        let tokens: Vec<String> = self.simulator.with(|world| world.tokens().map(str::to_owned).collect());
        self.secrets.iter().map(|(_, secret)| secret.clone()).chain(tokens).map(Secret::new).collect()
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns all files below these folders.
fn files(folders: &[&Path]) -> Vec<PathBuf> {
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| folder.to_path_buf()).collect();
    let mut files = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files.push(path);
        }
    }
    files
}

/// Returns files that contain a secret, with the text around it: found by the redaction itself, and by a plain search.
fn leaks(files: &[PathBuf], secrets: &[Secret]) -> Vec<String> {
    let search = Search::new(secrets);
    let spelled: Vec<String> = secrets.iter().flat_map(|secret| spellings(secret.expose())).collect();
    let leak = |file: &PathBuf| {
        let bytes = fs::read(file).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let by_eye = spelled.iter().find_map(|spelled| text.find(spelled.as_str()));
        let place = search.find(&bytes).map(|place| place.start).or(by_eye)?;
        let around = &bytes[place.saturating_sub(200).min(bytes.len())..bytes.len().min(place + 100)];
        Some(format!("{}: {}", file.display(), String::from_utf8_lossy(around)))
    };
    files.iter().filter_map(leak).collect()
}

/// Returns a secret unchanged, as in a form, as in JSON within JSON, and in hexadecimal.
fn spellings(secret: &str) -> [String; 4] {
    let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let json = serde_json::Value::from(serde_json::Value::from(secret).to_string()).to_string();
    let json = json.trim_matches(['"', '\\']).to_owned();
    let hexadecimal: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    [secret.to_owned(), form, json, hexadecimal]
}
