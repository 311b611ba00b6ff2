//! The accepted values of each part of a configuration, and the messages about others.

mod collector;
mod feeds;
mod files;
mod network;
mod pins;
mod secrets;
mod sinks;
mod spelling;

use super::*;

const SINKS: &str = r#"
[[sink]]
id = "lake"
type = "file"
path = "out/{tenant}.ndjson"
[[sink]]
id = "hec"
type = "http"
url = "https://splunk.example/services/collector/event"
preset = "splunk-hec"
token = { env = "HEC" }
headers = { "x-tenant" = "{tenant}" }
"#;

fn read(text: &str, only: Option<&str>) -> Result<Config, Vec<String>> {
    let environment = |name: &str| (name != "NOBODY" && !is_proxy(name)).then(|| format!("value of {name}"));
    told(parse(Path::new("c.toml"), text, only, &environment))
}

fn is_proxy(name: &str) -> bool {
    name.to_ascii_uppercase().ends_with("_PROXY")
}

/// Returns the configuration, unless it has a problem or a feed would be left out.
fn told(config: Config) -> Result<Config, Vec<String>> {
    let unreadable = config.feeds.iter().flat_map(|feed| feed.unreadable.iter().map(|(_, problem)| problem));
    let told: Vec<String> = config.problems.iter().chain(unreadable).map(ConfigProblem::to_string).collect();
    if told.is_empty() { Ok(config) } else { Err(told) }
}

/// Makes a feed with these lines of its own.
fn feed(id: &str, lines: &str) -> String {
    format!("[[feed]]\nid = \"{id}\"\ntenant = \"t\"\n{lines}\n[feed.settings]\nclient_key = \"k\"\n")
}

/// Reads a folder with these files.
fn read_folder(files: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    told(load(folder.path(), None, &|name| (!is_proxy(name)).then(|| "value".to_owned())))
}
