//! Documents as a reader uses them. Links have a target, configurations are accepted, commands exist, and quoted output
//! is the program's own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use host_harness::config;
use serde_json::Value;
use source_simulator::Simulator;
use source_simulator::estate::Estate;
use url::Url;

use crate::commands::demo;
use crate::support::{PROXY_VARIABLES, command, root};

/// The path of a document from the root, and its text.
struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    fn read(path: &str) -> Document {
        Document { path: path.into(), text: std::fs::read_to_string(root().join(path)).unwrap() }
    }

    /// Returns the lines outside fences, each with its number.
    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut fenced = false;
        self.text.lines().enumerate().filter_map(move |(number, line)| {
            let fence = line.starts_with("```");
            fenced ^= fence;
            (!fenced && !fence).then_some((number + 1, line))
        })
    }

    /// Returns the fenced blocks of a language.
    fn blocks(&self, language: &str) -> Vec<&str> {
        let begins = self.text.split(&format!("\n```{language}\n")).skip(1).collect::<Vec<_>>();
        begins.into_iter().map(|rest| rest.split("\n```").next().unwrap()).collect()
    }

    /// Returns the parts of the prose that stand in backticks.
    fn code(&self) -> impl Iterator<Item = String> {
        let prose = self.prose().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
        prose.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect::<Vec<_>>().into_iter()
    }

    /// Returns the targets of links in prose.
    fn links(&self) -> Vec<(usize, String)> {
        let lines = self.prose().map(|(number, line)| (number, without_code(line)));
        let targets = lines.flat_map(|(number, line)| {
            let ends = line.split("](").skip(1).map(|rest| rest.split(')').next().unwrap().to_owned());
            ends.map(move |target| (number, target)).collect::<Vec<_>>()
        });
        targets.collect()
    }

    /// Returns the anchors of the headings, as GitHub and GitLab spell them.
    fn anchors(&self) -> BTreeSet<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let headings = self
            .prose()
            .filter_map(|(_, line)| line.trim_start_matches('#').strip_prefix(' ').map(|text| (line, text)));
        let headings = headings.filter(|(line, _)| line.starts_with('#')).map(|(_, text)| anchor(text));
        let numbered = headings.map(|name| {
            let count = seen.entry(name.clone()).or_default();
            *count += 1;
            if *count == 1 { name } else { format!("{name}-{}", *count - 1) }
        });
        numbered.collect()
    }
}

fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// Returns the anchor of a heading: lower case, no punctuation, and hyphens for spaces.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|one| one.is_alphanumeric() || matches!(one, ' ' | '-' | '_'));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

/// Returns every document of the repository.
fn documents() -> Vec<Document> {
    let (mut found, mut folders) = (Vec::new(), vec![root()]);
    while let Some(next) = folders.pop() {
        for path in std::fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir()
                && !path.is_symlink()
                && !name.starts_with('.')
                && name != "target"
                && name != "node_modules"
            {
                folders.push(path);
            } else if name.ends_with(".md") {
                found.push(Document::read(path.strip_prefix(root()).unwrap().to_str().unwrap()));
            }
        }
    }
    assert!(found.len() > 10, "{} documents", found.len());
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

#[test]
fn anchors_are_spelled_as_forges_spell_them() {
    let text =
        "# One `code`, two\n\n## The token of an equal credential\n\n```console\n# none\n```\n\n## Same\n\n## Same\n";
    let document = Document { path: "a.md".into(), text: text.to_owned() };
    let anchors: Vec<_> = document.anchors().into_iter().collect();
    assert_eq!(anchors, ["one-code-two", "same", "same-1", "the-token-of-an-equal-credential"]);
}

/// Returns the reason why a link has no target, or nothing. Links to other hosts are not followed.
fn dead(document: &Document, target: &str) -> Option<&'static str> {
    if target.contains("://") {
        let good = Url::parse(target).is_ok_and(|url| url.scheme() == "https" && url.host_str().is_some());
        return (!good).then_some("no address with https");
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if path.is_empty() { document.path.clone() } else { document.path.with_file_name(path) };
    if !root().join(&file).exists() {
        return Some("no such file");
    }
    let known =
        || Document { text: std::fs::read_to_string(root().join(&file)).unwrap(), path: file.clone() }.anchors();
    (!anchor.is_empty() && !known().contains(anchor)).then_some("no such heading")
}

#[test]
fn every_link_leads_somewhere() {
    let readme = Document::read("README.md");
    assert_eq!(dead(&readme, "docs/no-such.md"), Some("no such file"));
    assert_eq!(dead(&readme, "SECURITY.md#no-such"), Some("no such heading"));
    assert_eq!(dead(&readme, "http://example.com"), Some("no address with https"));
    let documents = documents();
    let links = documents.iter().flat_map(|document| document.links().into_iter().map(move |link| (document, link)));
    let faults = links.filter_map(|(document, (line, target))| {
        dead(document, &target).map(|fault| format!("{}:{line}: {target}: {fault}", document.path.display()))
    });
    assert_eq!(faults.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn the_readme_and_the_index_lead_to_every_document() {
    let from = |index: &str, folder: &str| {
        let targets = Document::read(index).links().into_iter().map(|(_, target)| target);
        let folder = folder.to_owned();
        targets.map(move |target| {
            let path = target.split('#').next().unwrap();
            PathBuf::from(path.strip_prefix("../").map_or_else(|| format!("{folder}{path}"), str::to_owned))
        })
    };
    let links: BTreeSet<PathBuf> = from("README.md", "").chain(from("docs/README.md", "docs/")).collect();
    let documents = documents().into_iter().map(|document| document.path);
    let left_out: Vec<_> = documents.filter(|path| !path.ends_with("README.md") && !links.contains(path)).collect();
    assert_eq!(left_out, Vec::<PathBuf>::new());
}

/// A feed for configurations that show only other tables.
const FEED: &str = "
[[feed]]
id     = \"contoso-prod\"
tenant = \"contoso\"
[feed.settings]
client_key      = \"11111111-2222-3333-4444-555555555555\"
client_secret   = { env = \"CONTOSO_SECRET\" }
token_url       = \"aaaabbbb-0000-cccc-1111-dddd2222eeee\"
subscription_id = \"20ff7fc3-e762-44dd-bd96-b71116dcdc23\"
";

#[tokio::test]
async fn every_configuration_in_a_document_is_good() {
    // The directory of the configurations also contains the one file that they name and that a reader has to supply.
    let folder = tempfile::tempdir().unwrap();
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into(), Estate::default(), None).await.unwrap();
    std::fs::write(folder.path().join("corporate-ca.pem"), simulator.ca_pem()).unwrap();
    let secret = |name: &str| (!PROXY_VARIABLES.contains(&name)).then(|| "a-secret-of-tests".to_owned());
    let mut seen = 0;
    for document in documents() {
        for block in document.blocks("toml") {
            let text = if block.contains("[[feed]]") { format!("{block}\n") } else { format!("{block}\n{FEED}") };
            let config = config::parse(&folder.path().join("azure.toml"), &text, None, &secret);
            assert_eq!(config.problems, [], "{}: {block}", document.path.display());
            seen += 1;
        }
    }
    assert!(seen >= 7, "{seen} configurations");
}

#[test]
fn the_reference_of_the_configuration_has_every_key_and_all_that_feeds_share() {
    let document = Document::read("docs/collector.md");
    let rows = document.text.split("\n## Configuration\n").nth(1).unwrap().split("\n### ").next().unwrap();
    let told = |row: &str| {
        let keys = row.split(" | ").nth(1).unwrap_or_default();
        keys.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let all: BTreeSet<String> = rows.lines().flat_map(told).collect();
    let left_out: Vec<_> =
        config::TABLES.iter().flat_map(|(_, keys)| keys.iter()).filter(|key| !all.contains(**key)).collect();
    assert_eq!(left_out, Vec::<&&str>::new());
    let shared = rows.lines().find(|row| row.starts_with("| `[feed_defaults]` ")).unwrap();
    let (_, keys) = config::TABLES.iter().find(|(table, _)| *table == "[[feed]] or [feed_defaults]").unwrap();
    assert_eq!(told(shared), keys.iter().map(|key| (*key).to_owned()).collect());
}

/// Returns the options of a command, as its help lists them, or nothing if the command does not exist.
fn options(subcommand: &str) -> Option<BTreeSet<String>> {
    let output = command().args([subcommand, "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let words = help.split(|one: char| one.is_whitespace() || matches!(one, ',' | '[' | '<' | '='));
    let options = words.filter(|word| word.starts_with('-')).map(str::to_owned);
    output.status.success().then(|| options.collect())
}

/// The commands and options that documents may use. The program is asked for them once.
#[derive(Default)]
struct Known(BTreeMap<String, Option<BTreeSet<String>>>);

impl Known {
    /// Returns the reason why the words after the program's name are not a command, or nothing.
    fn fault(&mut self, words: &[&str]) -> Option<String> {
        let mut words = words.iter().copied();
        let subcommand = words.next()?;
        // The program itself has options, such as `--version`, and some words are placeholders for a command.
        if subcommand == "--version" || subcommand == "COMMAND" {
            return None;
        }
        let known = self.0.entry(subcommand.to_owned()).or_insert_with(|| options(subcommand));
        let Some(known) = known else { return Some(format!("no command {subcommand}")) };
        let written = words.filter(|word| word.starts_with('-')).map(|word| word.split('=').next().unwrap());
        written
            .into_iter()
            .find(|option| !known.contains(*option))
            .map(|option| format!("{subcommand} has no {option}"))
    }
}

/// Splits a shell line into its simple commands.
fn simple_commands(line: &str) -> Vec<Vec<String>> {
    let line = line.split(" #").next().unwrap();
    let parts = line.split(['|', ';', '>']).flat_map(|part| part.split("&&"));
    parts.map(|part| part.split_whitespace().map(str::to_owned).collect()).collect()
}

/// Returns the reason why a simple command of this repository cannot be run, or nothing.
fn fault(known: &mut Known, words: &[String]) -> Option<String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["host-harness", ..] => known.fault(&words[1..]),
        ["cargo", "run", "--", ..] => known.fault(&words[3..]),
        ["cargo", "xtask", task, ..] => {
            let usage = std::fs::read_to_string(root().join("xtask/src/main.rs")).unwrap();
            (!usage.contains(&format!("\ncargo xtask {task} "))).then(|| format!("no command {task} of xtask"))
        }
        _ => None,
    }
}

#[test]
fn every_command_in_a_document_exists() {
    let mut known = Known::default();
    let words = |line: &str| simple_commands(line).remove(0);
    assert!(fault(&mut known, &words("cargo run -- sing -c azure.toml")).is_some());
    assert!(fault(&mut known, &words("host-harness poll --loud")).is_some());
    assert!(fault(&mut known, &words("cargo xtask sing")).is_some());
    let mut faults = Vec::new();
    let mut seen = 0;
    for document in documents() {
        let lines =
            document.blocks("console").into_iter().flat_map(str::lines).filter_map(|line| line.strip_prefix("$ "));
        // An earlier version may have had other commands.
        let spans = document.code().filter(|_| !document.path.ends_with("CHANGELOG.md"));
        for line in lines.map(str::to_owned).chain(spans) {
            // These are the parts of a synopsis such as `check -c FILE [--feed ID]`.
            let line = line.replace(['[', ']', '…'], " ").replace("\\|", " ");
            seen += usize::from(line.starts_with("host-harness "));
            for words in simple_commands(&line) {
                faults.extend(
                    fault(&mut known, &words).map(|fault| format!("{}: {line}: {fault}", document.path.display())),
                );
            }
        }
    }
    assert!(seen > 20, "{seen} commands");
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn the_commands_of_their_page_are_all_that_there_are_with_options_that_they_have() {
    let page = Document::read("docs/commands.md");
    let rows = page.text.split("\n\n").nth(1).unwrap();
    let forms = rows.lines().skip(2).flat_map(|row| row.split(" | ").next().unwrap().split('`').skip(1).step_by(2));
    let forms: Vec<String> = forms.map(|form| form.replace(['[', ']'], " ").replace("\\|", " ")).collect();
    let mut known = Known::default();
    let faults: Vec<_> =
        forms.iter().filter_map(|form| known.fault(&form.split_whitespace().collect::<Vec<_>>())).collect();
    assert_eq!(faults, Vec::<String>::new());
    let help = String::from_utf8(command().arg("--help").output().unwrap().stdout).unwrap();
    let listed = help.split("\nCommands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let listed = listed.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let told: BTreeSet<&str> = forms.iter().filter_map(|form| form.split_whitespace().next()).collect();
    assert_eq!(told, listed.collect());
}

/// Returns whether a value contains every member of another value at the same place.
fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, value)| whole.get(key).is_some_and(|other| holds(other, value)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| holds(whole, part))
        }
        _ => whole == part,
    }
}

#[test]
fn the_event_and_the_scores_of_the_readme_are_the_demos() {
    let readme = Document::read("README.md");
    let lines = demo().stdout.split_inclusive(|byte| *byte == b'\n');
    let events: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
    let [shown] = readme.blocks("json")[..] else { panic!("one event") };
    let shown: Value = serde_json::from_str(shown).unwrap();
    assert_eq!(events.iter().filter(|event| holds(event, &shown)).count(), 1);
    assert!(readme.text.contains(&format!("all {} events", events.len())));
    let scores = readme.blocks("text").into_iter().find(|block| block.starts_with("feed    ")).unwrap();
    let told = String::from_utf8_lossy(&demo().stderr);
    assert!(scores.lines().all(|line| told.lines().any(|known| known == line)), "{scores}");
}

#[test]
fn a_picture_stands_on_its_own_in_light_and_in_dark() {
    let picture = std::fs::read_to_string(root().join("docs/flow.svg")).unwrap();
    let light = picture.split("@media (prefers-color-scheme: dark)").next().unwrap();
    assert!(picture.len() > light.len(), "no colours for dark");
    // GitHub and GitLab show an SVG picture as an image, which loads and runs nothing.
    for refused in ["<script", "href=", "url(http", "<foreignObject"] {
        assert!(!picture.contains(refused), "{refused}");
    }
}

#[test]
fn the_documents_of_this_project_speak_of_paths_that_exist() {
    let tops = ["tests/", "docs/", "fuzz/", "guest/", "host-harness/", "xtask/", "deploy/", "wit/"];
    let mut faults = Vec::new();
    for document in documents().into_iter().filter(|document| !document.path.ends_with("CHANGELOG.md")) {
        for span in document.code() {
            let is_path = tops.iter().any(|top| span.starts_with(top)) && !span.contains([' ', '*', '{', '<']);
            let stands_for_another = span.contains("NAME") || span.starts_with("fuzz/artifacts");
            if is_path && !stands_for_another && !root().join(Path::new(&span)).exists() {
                faults.push(format!("{}: {span}", document.path.display()));
            }
        }
    }
    assert_eq!(faults, Vec::<String>::new());
}
