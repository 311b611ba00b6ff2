//! The order of rooms. A folder or a file directly below a crate's `src` is a room; a room imports only rooms of
//! earlier floors, and no two files import each other in a circle. No two types have the same name. ARCHITECTURE.md
//! describes every room.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::root;

/// The rooms of one crate, from the ground up. Rooms on one floor do not import each other.
struct House {
    sources: &'static str,
    /// The crates of this workspace that the crate may import.
    crates: &'static [&'static str],
    floors: &'static [&'static [&'static str]],
}

const HOUSES: &[House] = &[
    House {
        sources: "host-harness/host/src",
        crates: &[],
        floors: &[
            &["cause", "contract", "digest", "failpoint", "limits", "privileges", "progress"],
            &["blame", "clock", "text"],
            &["failures"],
            &["credentials"],
            &["network"],
            &["plugin"],
            &["feed"],
            &["lib"],
        ],
    },
    House {
        sources: "host-harness/simulator/src",
        crates: &[],
        floors: &[
            &["answer", "assertion", "certificates", "estate"],
            &["day", "gateways", "hostile"],
            &["scenario"],
            &["service"],
            &["lib"],
        ],
    },
    House {
        sources: "host-harness/src",
        crates: &["source_host", "source_simulator", "host_harness"],
        floors: &[
            &["admitted", "files", "limits", "terminal"],
            &["built_in", "environment", "recording", "store"],
            &["fleet", "overview"],
            &["metrics"],
            &["sink"],
            &["config"],
            &["collector"],
            &["audit", "check", "run"],
            &["lib"],
            &["cli"],
            &["main"],
        ],
    },
    House {
        sources: "guest/src",
        crates: &["azure_secure_score"],
        floors: &[
            &["clouds", "diagnoses", "memory", "number"],
            &["json"],
            &["api", "http"],
            &["challenge", "link", "settings"],
            &["service_error"],
            &["discover", "normalize", "pages", "token"],
            &["prepare"],
            &["lib"],
        ],
    },
];

/// Returns the names of the crates of this workspace, as code spells them.
fn workspace() -> BTreeSet<String> {
    let manifest = |folder: &str| {
        let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        toml::from_str::<toml::Table>(&text).unwrap()
    };
    let members = manifest("")["workspace"]["members"].clone();
    let names =
        members.as_array().unwrap().iter().map(|member| manifest(member.as_str().unwrap())["package"]["name"].clone());
    names.map(|name| name.as_str().unwrap().replace('-', "_")).collect()
}

/// One source file: its module path, and the module paths that it names.
struct Source {
    module: Vec<String>,
    names: BTreeSet<Vec<String>>,
    crates: BTreeSet<String>,
}

/// Reads the sources below a folder. Tests may import any room, whether they are in a file of their own or at the end
/// of a file.
fn read(folder: &Path) -> Vec<Source> {
    let workspace = workspace();
    files(folder).iter().map(|path| source(path, folder, &workspace)).collect()
}

fn source(path: &Path, folder: &Path, workspace: &BTreeSet<String>) -> Source {
    let place = path.strip_prefix(folder).unwrap().with_extension("");
    let mut module: Vec<String> = place.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.len() > 1 && module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    let text = code(path);
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices("crate::").filter(|(at, _)| !text[..*at].ends_with(char::is_alphanumeric)) {
        names.extend(paths(&text[at + "crate::".len()..]));
    }
    let is_first = |at: usize| !text[..at].ends_with(|one: char| one.is_alphanumeric() || matches!(one, ':' | '_'));
    for (at, _) in text.match_indices("super::").filter(|(at, _)| is_first(*at)) {
        let rest = text[at..].trim_start_matches("super::");
        let up = (text.len() - at - rest.len()) / "super::".len();
        let above = &module[..module.len() - up];
        names.extend(paths(rest).into_iter().map(|path| [above, &path].concat()));
    }
    let named = |name: &&String| text.contains(&format!("{name}::"));
    Source { module, names, crates: workspace.iter().filter(named).cloned().collect() }
}

/// Returns the code of a file without comments. The tests at its end are left out, because they may import any room.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let tests = ["mod", "pub(super) mod", "pub(crate) mod"].map(|kind| format!("\n#[cfg(test)]\n{kind} tests {{"));
    let end = tests.iter().filter_map(|begin| text.find(begin.as_str())).min().unwrap_or(text.len());
    let lines = text[..end].lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns every source file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for path in fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// Whether a source holds only tests: it is in a file or a folder with that name.
fn is_test(path: &Path) -> bool {
    let within = path.strip_prefix(root()).unwrap();
    within.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")))
}

/// Returns the paths at the beginning of a text: one, or those of a list in braces.
fn paths(text: &str) -> Vec<Vec<String>> {
    let end = text.find(|one: char| !(one.is_alphanumeric() || matches!(one, '_' | ':'))).unwrap_or(text.len());
    let first: Vec<String> = text[..end].split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
    if !text[end..].starts_with('{') {
        return vec![first];
    }
    let list = text[end + 1..].split('}').next().unwrap_or_default();
    assert!(!list.contains('{'), "a list within a list of imports is not read: {list}");
    let rest = list.split(',').map(|one| one.trim().split("::").map(str::to_owned).collect::<Vec<_>>());
    rest.map(|rest| [first.clone(), rest].concat()).collect()
}

/// Returns the file of a path: the longest module that is its prefix.
fn target<'a>(sources: &'a [Source], path: &[String]) -> Option<&'a Source> {
    let leads = sources.iter().filter(|source| path.starts_with(&source.module));
    leads.max_by_key(|source| source.module.len())
}

#[test]
fn no_import_climbs() {
    let mut faults = Vec::new();
    for House { sources, crates, floors } in HOUSES {
        let files = read(&root().join(sources));
        let floor = |room: &str| floors.iter().position(|rooms| rooms.contains(&room));
        for file in &files {
            let room = file.module[0].as_str();
            let Some(own) = floor(room) else {
                faults.push(format!("{sources}: the room {room} has no floor"));
                continue;
            };
            for path in &file.names {
                let other = path[0].as_str();
                if other != room && floor(other).is_some_and(|floor| floor >= own) {
                    faults.push(format!("{sources}: {} climbs to {}", file.module.join("/"), path.join("::")));
                }
            }
            faults.extend(
                file.crates
                    .iter()
                    .filter(|name| !crates.contains(&name.as_str()))
                    .map(|name| format!("{sources}: {} imports the crate {name}", file.module.join("/"))),
            );
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_page_on_architecture_describes_every_room() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for House { sources, floors, .. } in HOUSES {
        let title = format!("\n### `{}`", sources.strip_suffix("/src").unwrap());
        let section = page.split(&title).nth(1).unwrap().split("\n### ").next().unwrap();
        let told = |room: &str| section.contains(&format!("`{room}`")) || section.contains(&format!("`{room}/`"));
        let rooms = floors.iter().flat_map(|rooms| rooms.iter());
        let left_out: Vec<_> = rooms.filter(|room| !matches!(**room, "lib" | "main") && !told(room)).collect();
        assert_eq!(left_out, Vec::<&&str>::new(), "{sources}");
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for House { sources, .. } in HOUSES {
        let files = read(&root().join(sources));
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for file in &files {
            let targets = file.names.iter().filter_map(|path| target(&files, path));
            // A module may import its own parts, and they may import the module.
            let apart =
                targets.filter(|to| !file.module.starts_with(&to.module) && !to.module.starts_with(&file.module));
            edges.entry(file.module.join("/")).or_default().extend(apart.map(|to| to.module.join("/")));
        }
        // Files without imports are removed again and again; a circle remains.
        while let Some(done) = edges.iter().find(|(_, targets)| targets.is_empty()).map(|(name, _)| name.clone()) {
            edges.remove(&done);
            for targets in edges.values_mut() {
                targets.remove(&done);
            }
        }
        assert!(edges.is_empty(), "{sources}: a circle within {edges:?}");
    }
}

/// Largest number of packages that an embedder builds, including those of build scripts.
const EMBEDDED: usize = 215;

#[test]
fn an_embedder_gets_few_packages_no_database_and_no_command_line() {
    let cargo = |arguments: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        let output = cargo.current_dir(root()).args(arguments).args(["--locked", "--offline"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let tree = cargo(&["tree", "-p", "source-host", "-e", "normal,build", "--prefix", "none"]);
    let packages: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    assert!(packages.len() <= EMBEDDED, "{} packages, at most {EMBEDDED}", packages.len());
    for refused in ["clap", "jsonschema", "rcgen", "rusqlite", "toml"] {
        assert!(!packages.iter().any(|package| package.split(' ').next() == Some(refused)), "{refused}");
    }
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let host =
        metadata["packages"].as_array().unwrap().iter().find(|package| package["name"] == "source-host").unwrap();
    let targets = host["targets"].as_array().unwrap();
    assert!(targets.iter().all(|target| target["kind"] != serde_json::json!(["custom-build"])), "a build script");
}

#[test]
fn the_crates_of_the_workspace_are_read() {
    let crates = workspace();
    for known in ["azure_secure_score", "benchmark", "component_builder", "host_harness", "source_host", "xtask"] {
        assert!(crates.contains(known), "{known} is not in {crates:?}");
    }
}

#[test]
fn the_reader_of_imports_sees_them() {
    let list = paths("a::{self, b::C, D};");
    assert_eq!(list.iter().map(|path| path.join("::")).collect::<Vec<_>>(), ["a::self", "a::b::C", "a::D"]);
    assert_eq!(paths("a::B;"), [["a", "B"]]);
}

/// Names of services in the code of the host that hold for every plugin: each says so where it stands.
const NAMES_OF_SERVICES: &[(&str, &str)] = &[
    ("credentials/spelling/mod.rs", "microsoft"),
    ("credentials/spelling/mod.rs", "splunk"),
    ("network/address.rs", "azure"),
    ("network/egress/own.rs", "subscription"),
];

#[test]
fn the_host_knows_nothing_of_the_service() {
    let folder = root().join("host-harness/host/src");
    let words = ["azure", "entra id", "microsoft", "splunk", "subscription", "tenant_id"];
    let mut found = BTreeSet::new();
    for path in files(&folder).iter().filter(|path| !path.ends_with("tests.rs")) {
        let (place, text) = (path.strip_prefix(&folder).unwrap().to_str().unwrap(), code(path).to_lowercase());
        found.extend(words.iter().filter(|word| text.contains(**word)).map(|word| (place.to_owned(), *word)));
    }
    let known = NAMES_OF_SERVICES.iter().map(|(place, word)| ((*place).to_owned(), *word));
    assert_eq!(found, known.collect());
}

#[test]
fn one_file_of_the_guest_names_its_http_client() {
    let folder = root().join("guest/src");
    let named = files(&folder).into_iter().filter(|path| code(path).contains("waki"));
    assert_eq!(named.collect::<Vec<_>>(), [folder.join("http.rs")]);
}

#[test]
fn the_plugin_and_the_collector_find_near_names_in_the_same_way() {
    let [guest, host] = ["guest/src/settings/near.rs", "host-harness/src/config/near.rs"]
        .map(|file| fs::read_to_string(root().join(file)).unwrap());
    assert!(guest == host, "the files differ");
}

#[test]
fn every_duration_of_the_host_and_the_collector_stands_among_the_limits() {
    let folders = ["host-harness/host/src", "host-harness/src"].map(|folder| files(&root().join(folder)));
    let others = folders.iter().flatten().filter(|path| !path.ends_with("limits.rs") && !is_test(path));
    let mut faults = Vec::new();
    for path in others {
        let text = code(path);
        let begins = text.match_indices("Duration::from_").map(|(at, begin)| &text[at + begin.len()..]);
        let numbers =
            begins.filter(|rest| rest.split_once('(').is_some_and(|(_, number)| number.starts_with(char::is_numeric)));
        faults.extend(numbers.map(|rest| format!("{}: {}", path.display(), rest.lines().next().unwrap())));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Names that two types share, with the reasons.
const HOMONYMS: &[(&str, &str)] = &[
    ("Credential", "the plugin's setting becomes the credential of the contract"),
    ("Diagnosis", "the plugin's table becomes the diagnoses of the contract"),
    ("Event", "the plugin's event is the body of the event of the contract"),
    ("EventKind", "the plugin's kinds are those of the contract"),
    ("Page", "the plugin reads pages of the contract"),
    ("Plugin", "the component itself in the plugin, and what the host has of it"),
    ("Reaction", "the simulator, which imports nothing of the host, says which reaction of the contract it asks for"),
    ("Request", "of HTTP, in the plugin and in the simulator, which never meet"),
    ("Settings", "of one feed, in the plugin and in the host"),
    ("Subscription", "of Azure, in the plugin and in the simulator, which never meet"),
];

/// Returns the types that a file defines outside of its tests.
fn types(path: &Path) -> Vec<String> {
    let text = code(path);
    let names = text.lines().filter_map(|line| {
        let mut words = line.trim_start().split(' ').skip_while(|word| word.starts_with("pub"));
        let kind = words.next()?;
        // A `type` within an `impl` belongs to a trait.
        let is_type = matches!(kind, "struct" | "enum" | "trait") || kind == "type" && !line.starts_with(' ');
        let name = words.next().filter(|_| is_type)?;
        Some(name.split(|one: char| !one.is_alphanumeric()).next().unwrap_or_default().to_owned())
    });
    // The name in a macro that declares types is none.
    names.filter(|name| !name.is_empty()).collect()
}

/// Returns the types of the contract with their names in Rust.
fn types_of_contract() -> Vec<String> {
    let text = fs::read_to_string(root().join("wit/source.wit")).unwrap();
    let names = text.lines().filter_map(|line| match line.trim().split(' ').collect::<Vec<_>>()[..] {
        ["record" | "variant" | "enum", name, "{"] => {
            Some(name.split('-').map(|word| word[..1].to_uppercase() + &word[1..]).collect())
        }
        _ => None,
    });
    names.collect()
}

#[test]
fn one_name_is_one_type() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in HOUSES.iter().flat_map(|house| files(&root().join(house.sources))) {
        let within = path.strip_prefix(root()).unwrap();
        for name in types(&path).into_iter().filter(|_| !is_test(&path)) {
            places.entry(name).or_default().push(within.display().to_string());
        }
    }
    for name in types_of_contract() {
        places.entry(name).or_default().push("the contract".to_owned());
    }
    assert!(["Collector", "PollStep"].iter().all(|name| places.contains_key(*name)), "the sources are read");
    let twice = places.iter().filter(|(_, places)| places.len() > 1);
    let allowed = |name: &str| HOMONYMS.iter().any(|(allowed, _)| *allowed == name);
    let new: Vec<_> = twice.clone().filter(|(name, _)| !allowed(name)).collect();
    assert!(new.is_empty(), "two types have one name: {new:?}");
    let gone: Vec<_> = HOMONYMS.iter().filter(|(name, _)| !twice.clone().any(|(twice, _)| twice == name)).collect();
    assert!(gone.is_empty(), "no two types have these names any more: {gone:?}");
}
