//! The recordings of the repository, made anew from the simulated service: the same bytes on every machine and every day.
//! `cargo xtask recordings` writes them and shows what differs; with `--check`, as a plain test does, it fails where something
//! differs.

mod recipes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use azure_secure_score::clouds::CLOUDS;
use azure_secure_score::diagnoses::TABLE;
use azure_secure_score::settings::{Class, Version};
use host_harness::admitted::AdmittedFeed;
use host_harness::environment;
use host_harness::recording::bundled::{self, BundledRecording};
use host_harness::recording::cassette::{Cassette, RecordedOutcome, RecordedState};
use host_harness::recording::{record, replay};
use parking_lot::Mutex;
use serde_json::{Value, json};
use source_host::clock::Clock;
use source_host::credentials::secret::Secret;
use source_host::credentials::settings::Settings;
use source_host::network::egress::Origins;
use source_host::network::{IncomingResponse, OutgoingRequest, Transport, TransportFuture};
use source_simulator::assertion::Registered;
use source_simulator::estate::Estate;
use source_simulator::scenario::OBJECT_ID;
use source_simulator::service::{COST_CENTER, World};
use tokio::sync::OnceCell;

use self::recipes::{Chapter, Recipe, SignIn, WITHOUT, control};
use crate::credentials::{FEDERATED, RSA, certificate};
use crate::support::{NOON, SUBSCRIPTION, asked, leave_for_the_judge, plugin, root, unadmitted};
use crate::{documents, events};

/// Recordings of a live service, by name; no command makes them anew.
const LIVE: &[&str] = &[];

/// The time from one poll to the next: the service recomputes its data every 8 hours.
const STEP: u64 = 8 * 3_600_000;

/// A recording as it was just made, and what it gives.
struct Taken {
    recipe: Recipe,
    cassette: Cassette,
    text: String,
    expected: String,
    outcome: Vec<String>,
    events: Vec<Vec<u8>>,
    states: BTreeMap<String, Vec<u8>>,
}

/// The simulated service, without sockets before it, and other text for parts of its answers.
struct Simulated(Mutex<World>, &'static [(&'static str, &'static str)]);

impl Transport for Simulated {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let mut answer = self.0.lock().answer(&asked(&request));
        for (from, to) in self.1 {
            answer.body = String::from_utf8(answer.body).unwrap().replace(from, to).into_bytes();
        }
        let response = IncomingResponse { status: answer.status, headers: answer.headers, body: answer.body };
        Box::pin(std::future::ready(Ok(response)))
    }
}

/// A service with one tenant and one subscription, at the addresses that the settings say.
fn world(recipe: &Recipe, time: u64, certificate: &str) -> World {
    let mut estate = Estate::default();
    estate.tenants.truncate(1);
    estate.tenants[0].subscriptions.truncate(1);
    estate.tenants[0].subscriptions[0].controls = vec![
        control("34a42fb3-e6db-409c-b56b-7b1db6b8aee0", 3, 1, 0),
        control("0e55495e-034f-4abc-8293-767229250176", 5, 3, 1),
    ];
    let mut world = World::new(estate, recipe.scenario);
    let settings = &recipe.settings;
    let preset = CLOUDS.iter().find(|cloud| settings["cloud"] == cloud.name).unwrap_or(&CLOUDS[0]);
    let own = |name: &str, preset: &str| settings[name].as_str().unwrap_or(preset).to_owned();
    world.url = own("endpoint", preset.endpoint);
    world.authority = Some(own("authority", preset.authority));
    world.audience = Some(own("audience", preset.audience));
    world.now = Some(time / 1_000);
    world.certificates.push(Registered::read(certificate).unwrap());
    world.federated.push(FEDERATED.to_owned());
    (recipe.world)(&mut world);
    world
}

async fn take(recipe: Recipe, earlier: &[Taken]) -> Taken {
    let before = recipe.after.map(|name| earlier.iter().find(|taken| taken.recipe.name == name).unwrap());
    let time = before.map_or(NOON, |before| before.cassette.context.time_milliseconds + STEP);
    let certificate = certificate(365);
    let world = world(&recipe, time, &certificate);
    let tenant = world.estate.tenants[0].clone();
    let allowed = [world.authority.clone().unwrap(), world.url.clone()];
    let allowed = Origins::new(&allowed[..if recipe.denies { 1 } else { 2 }]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, FEDERATED).unwrap();
    let (setting, secret) = match recipe.sign_in {
        SignIn::Secret => ("client_secret", tenant.client_secret.clone()),
        SignIn::Certificate => ("client_certificate", certificate + RSA),
        SignIn::FederatedToken => ("federated_token_file", token_file.to_str().unwrap().to_owned()),
    };
    let mut settings = json!({
        "client_key": tenant.client_id,
        "token_url": tenant.id,
        "subscription_id": SUBSCRIPTION,
    });
    settings.as_object_mut().unwrap().extend(recipe.settings.as_object().unwrap().clone());
    let settings = Settings::new(
        settings.as_object().unwrap().clone(),
        BTreeMap::from([(setting.to_owned(), Secret::new(secret))]),
    );
    let feed = AdmittedFeed { id: "contoso-scores".into(), ..unadmitted("contoso", plugin(), settings, allowed).await };
    let clock: Clock = Arc::new(move || time);
    let recorded =
        record::record_over(&feed, Arc::new(Simulated(Mutex::new(world), recipe.spellings)), &clock, true).await;
    let mut cassette = recorded.unwrap_or_else(|error| panic!("{}: {error}", recipe.name)).cassette;
    cassette.docs = recipe.docs.clone();
    if let Some(before) = before {
        let states = before.states.iter();
        cassette.context.states =
            states.map(|(scope, state)| (scope.clone(), RecordedState::of(state).unwrap())).collect();
    }
    if let Some(state) = recipe.state {
        let scope = cassette.settings["subscription_id"].as_str().unwrap().to_owned();
        cassette.context.states.insert(scope, RecordedState::of(state.as_bytes()).unwrap());
    }
    if let Some(no_answer) = recipe.no_answer.clone() {
        cassette.exchanges.truncate(2);
        cassette.exchanges[1].response = RecordedOutcome::NoAnswer { no_answer };
    }
    let text = serde_json::to_string_pretty(&cassette).unwrap() + "\n";
    for (_, spelling) in recipe.spellings {
        assert!(text.contains(spelling), "{}: no answer has {spelling}", recipe.name);
    }
    let read = Cassette::read(&text).unwrap_or_else(|error| panic!("{}: {error}", recipe.name));
    let played = replay::play(&plugin(), &read).await.unwrap_or_else(|error| panic!("{}: {error}", recipe.name));
    Taken {
        recipe,
        cassette,
        text,
        expected: played.expected(),
        outcome: bundled::outcome(&played),
        events: played.events,
        states: played.states,
    }
}

/// All of them.
async fn taken() -> &'static [Taken] {
    static TAKEN: OnceCell<Vec<Taken>> = OnceCell::const_new();
    let take_all = async {
        let mut all = Vec::new();
        for recipe in recipes::all() {
            let one = take(recipe, &all).await;
            all.push(one);
        }
        all
    };
    TAKEN.get_or_init(|| take_all).await
}

#[tokio::test]
async fn the_recordings_are_those_that_the_simulated_service_gives() {
    let folder = root().join("tests/cassettes");
    let mut made: BTreeMap<String, &str> = BTreeMap::new();
    for taken in taken().await {
        let name = taken.recipe.name;
        assert!(made.insert(format!("{name}.json"), &taken.text).is_none(), "two recordings have the name {name}");
        made.insert(format!("{name}.expected.json"), &taken.expected);
        leave_for_the_judge(&format!("cassette-{name}"), taken.events.iter().map(Vec::as_slice));
    }
    let mut astray = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_live = LIVE.iter().any(|live| [format!("{live}.json"), format!("{live}.expected.json")].contains(&name));
        if !is_live && !made.contains_key(&name) {
            astray.push(name);
        }
    }
    let rewrites = environment::variable("UPDATE_EXPECT").is_some();
    let mut different = Vec::new();
    for (name, text) in made {
        let file = folder.join(&name);
        let before = std::fs::read_to_string(&file).unwrap_or_default();
        if before == text {
            continue;
        }
        documents::show(&format!("tests/cassettes/{name}"), &before, text);
        if rewrites {
            std::fs::write(&file, text).unwrap();
        } else {
            different.push(name);
        }
    }
    for name in LIVE {
        let file = folder.join(format!("{name}.json"));
        let played = replay::replay(&plugin(), &file).await.unwrap();
        if rewrites {
            played.write_expected(&file).unwrap();
        }
        played.compare(&file).unwrap();
        leave_for_the_judge(&format!("cassette-{name}"), played.events.iter().map(Vec::as_slice));
    }
    assert!(
        different.is_empty(),
        "{different:?} are not what the simulated service gives; `cargo xtask recordings` rewrites them"
    );
    // A live recording cannot be made anew: this test deletes no file.
    assert_eq!(
        astray,
        Vec::<String>::new(),
        "no recipe makes these files of tests/cassettes, and `LIVE` in tests/recordings.rs does not name them: name them there if \
         they are of a live service, and delete them if their recipe is gone"
    );
}

#[tokio::test]
async fn an_event_has_every_member_in_each_version_and_class() {
    let is_newest = |taken: &&Taken| {
        !taken.events.is_empty()
            && !["class", "ocsf_version"].iter().any(|name| taken.cassette.settings.contains_key(*name))
    };
    let of_newest: Vec<_> = taken().await.iter().filter(is_newest).collect();
    for (class, version) in Class::ALL.into_iter().flat_map(|class| Version::ALL.map(|version| (class, version))) {
        let schema = format!("{}-{}", class.name(), version.name());
        let mut events = Vec::new();
        for taken in &of_newest {
            let mut cassette = taken.cassette.clone();
            cassette.settings.insert("class".to_owned(), class.name().into());
            cassette.settings.insert("ocsf_version".to_owned(), version.name().into());
            let played = replay::play(&plugin(), &cassette).await.unwrap().events;
            let place = format!("{} as {schema}", taken.recipe.name);
            assert_eq!(played.len(), taken.events.len(), "{place}");
            for (event, newest) in played.iter().zip(&taken.events) {
                let [event, newest] = [event, newest].map(|event| serde_json::from_slice(event).unwrap());
                events::check_schema(&event, &newest, version, class, &place);
            }
            events.extend(played);
        }
        leave_for_the_judge(&format!("schema-{schema}"), events.iter().map(Vec::as_slice));
    }
}

#[tokio::test]
async fn every_failure_and_notice_of_the_plugin_has_a_recording_or_a_reason() {
    let taken = taken().await;
    for row in TABLE {
        let recorded = taken.iter().find(|taken| taken.recipe.name == row.code);
        let reason = WITHOUT.iter().find(|(code, _)| *code == row.code);
        match (recorded, reason) {
            (Some(taken), None) => {
                let codes = &taken.outcome;
                assert!(codes.iter().any(|code| code == row.code), "the recording {} gives {codes:?}", row.code);
            }
            (None, Some(_)) => {}
            (None, None) => panic!(
                "the plugin's {} has no recording: add one of this name to tests/recordings/recipes.rs, or the reason why no \
                 answer provokes it to the list there",
                row.code
            ),
            (Some(_), Some((_, reason))) => panic!("{} has a recording, and a reason to have none: {reason}", row.code),
        }
    }
    let unknown = WITHOUT.iter().filter(|(code, _)| !TABLE.iter().any(|row| row.code == *code));
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&(&str, &str)>::new());
}

/// Returns the recording with this name, as the program carries it after the next build.
async fn made(name: &str) -> BundledRecording {
    let taken = taken().await.iter().find(|taken| taken.recipe.name == name).unwrap();
    BundledRecording { name: taken.recipe.name, cassette: &taken.text, expected: &taken.expected }
}

fn edited(text: &str, edits: &[(&str, &str)]) -> &'static str {
    let mut text = text.to_owned();
    for (from, to) in edits {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    text.leak()
}

#[tokio::test]
async fn a_recording_that_gives_something_else_or_does_not_play_is_told_with_every_difference() {
    // Made just now, so that the same run writes the recordings anew and passes.
    let known = made("two-pages").await;
    let other = [("\"codes\": []", "\"codes\": [\"x\"]"), ("\"severity\": \"Medium\"", "\"severity\": null")];
    let other = BundledRecording { expected: edited(known.expected, &other), ..known };
    let broken = [("\"GET\"", "\"PUT\""), ("\"authorization\": \"Bearer TOKEN-1\"", "\"authorization\": \"x\"")];
    let broken = BundledRecording { cassette: edited(known.cassette, &broken), ..known };
    let none = BundledRecording { cassette: "{}", ..known };
    let (known, other) = (known.play(&plugin()).await, other.play(&plugin()).await);
    let (broken, none) = (broken.play(&plugin()).await, none.play(&plugin()).await);
    assert!(known.ok && known.differences.is_empty() && known.events > 0);
    assert_eq!((other.ok, other.events), (false, known.events));
    assert_eq!(other.differences.len(), 2);
    assert_eq!(other.differences[0], "/codes: expected a list of 1, found one of 0");
    assert!(other.differences[1].ends_with("/severity: expected null, found \"Medium\""), "{:?}", other.differences);
    let words = [
        "exchanges[1].request.method: expected PUT, found GET",
        "exchanges[1].request.authorization: expected x, found Bearer TOKEN-1",
        "exchanges[2]: no request was sent for GET https://",
        "exchanges[3]: no request was sent for GET https://",
    ];
    assert_eq!((broken.ok, broken.differences.len()), (false, words.len()), "{:?}", broken.differences);
    for (found, words) in broken.differences.iter().zip(words) {
        assert!(found.starts_with(words), "{found}");
    }
    assert_eq!(none.differences, ["is not a cassette: line 1, the whole: missing field `docs`"]);
    let events = known.events.to_string();
    let table = bundled::table(&[known, other, broken, none], usize::MAX);
    let columns = table.lines().map(|line| line.split_whitespace().skip(1).take(4).collect::<Vec<_>>().join(" "));
    let row = |ok: &str| format!("{ok} {events} collected The");
    assert_eq!(
        columns.collect::<Vec<_>>(),
        ["as expected events outcome", &row("ok"), &row("no"), "no 0 does not", "no 0 does not"]
    );
}

#[tokio::test]
async fn bytes_are_compared_where_values_are_equal() {
    let known = made("to-the-letter").await;
    let spelled = |from: &str, to: &str| BundledRecording { expected: edited(known.expected, &[(from, to)]), ..known };
    let played = known.play(&plugin()).await;
    assert_eq!(played.differences, Vec::<String>::new());
    // The document shows the events as the plugin spells them, and the digest is of the same bytes.
    assert!(known.expected.contains(&format!("\"events\": \"{}\"", played.sha256)), "{}", known.expected);
    for (event, other) in [("1E+2", "100.0"), ("75E-1", "7.5"), ("1e-7", "1E-7")] {
        assert!(known.expected.contains(event), "{event}");
        let other = BundledRecording { cassette: edited(known.cassette, &[(event, other)]), ..known };
        let differences = other.play(&plugin()).await.differences;
        assert!(!differences.is_empty(), "{event}");
    }
    let without = |key: &str| {
        let mut document: Value = serde_json::from_str(known.expected).unwrap();
        document["sha256"].as_object_mut().unwrap().remove(key).unwrap();
        BundledRecording { expected: document.to_string().leak(), ..known }
    };
    for key in ["events", "states"] {
        let differences = without(key).play(&plugin()).await.differences;
        let words = format!("/sha256/{key}: expected no such key, found ");
        assert!(matches!(&differences[..], [one] if one.starts_with(&words)), "{differences:?}");
    }
    let digests = known.expected.lines().filter(|line| line.trim_start().starts_with("\"bbbbbbbb-"));
    let digest = digests.clone().next().and_then(|line| line.rsplit('"').nth(1)).unwrap();
    assert_eq!(digests.count(), 1);
    let differences =
        spelled(digest, &digest.replace(|letter: char| letter.is_ascii_hexdigit(), "0")).play(&plugin()).await;
    assert!(
        matches!(&differences.differences[..], [one] if one.starts_with("/sha256/states/bbbbbbbb-") && one.contains(digest)),
        "{differences:?}"
    );
}

#[tokio::test]
async fn every_kind_of_answer_has_a_recording() {
    let taken = taken().await;
    let schema: Value = serde_json::from_str(&plugin().describe().await.0.unwrap().settings_schema).unwrap();
    let chosen: BTreeSet<(String, String)> = taken
        .iter()
        .flat_map(|taken| &taken.cassette.settings)
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    // The choices of these settings change the requests or the events.
    for setting in ["cloud", "class", "definitions"] {
        for value in schema["properties"][setting]["enum"].as_array().unwrap() {
            let value = value.as_str().unwrap().to_owned();
            assert!(chosen.contains(&(setting.to_owned(), value.clone())), "no recording of {setting} = {value}");
        }
    }
    for setting in ["client_secret", "client_certificate", "federated_token_file"] {
        assert!(chosen.iter().any(|(name, _)| name == setting), "no recording of {setting}");
    }
    assert!(taken.iter().any(|taken| taken.expected.contains("\"skipped\"")), "no recording of a skipped subscription");
}

#[tokio::test]
async fn nothing_in_the_recordings_is_of_the_simulated_tenants() {
    for taken in taken().await {
        let estate = Estate::default();
        let tenant = &estate.tenants[0];
        let mut private = vec![tenant.client_secret.as_str(), &tenant.id, &tenant.client_id, "eysimulated"];
        private.extend([OBJECT_ID, COST_CENTER, FEDERATED, "-----BEGIN", "client_assertion\""]);
        private.extend(tenant.subscriptions.iter().flat_map(|one| [one.id.as_str(), one.name.as_str()]));
        private.extend(["127.0.0.1", "localhost", "/tmp/"]);
        for text in [&taken.text, &taken.expected] {
            let lower = text.to_lowercase();
            let found = private.iter().find(|value| lower.contains(&value.to_lowercase()));
            assert_eq!(found, None, "{}", taken.recipe.name);
        }
    }
}

#[tokio::test]
async fn the_page_of_recordings_is_made_of_them() {
    let mut page = PAGE.to_owned();
    let taken = taken().await;
    for chapter in Chapter::ALL {
        let (heading, lesson) = chapter.heading();
        let (answers, line) = if chapter.shows_answers() { (" last answer |", "---|") } else { ("", "") };
        writeln!(page, "\n## {heading}\n\n{lesson}\n").unwrap();
        writeln!(page, "| recording | it shows |{answers} outcome | events |\n|---|---|{line}---|---|").unwrap();
        for Taken { recipe, cassette, outcome, events, .. } in
            taken.iter().filter(|taken| taken.recipe.chapter == chapter)
        {
            let (name, docs, outcome) = (recipe.name, recipe.docs.replace('|', "\\|"), outcome.join(", "));
            let answer = if chapter.shows_answers() { format!(" {} |", last_answer(cassette)) } else { String::new() };
            writeln!(
                page,
                "| [{name}](../tests/cassettes/{name}.json) | {docs} |{answer} {outcome} | {} |",
                events.len()
            )
            .unwrap();
        }
    }
    page +=
        "\n## Codes without a recording\n\nNo answer of the service provokes these.\n\n| code | reason |\n|---|---|\n";
    for (code, reason) in WITHOUT {
        writeln!(page, "| `{code}` | {reason} |").unwrap();
    }
    documents::check("docs/recordings.md", &page);
}

/// Returns the status of a recording's last answer, with the service's code or the kind of content.
fn last_answer(cassette: &Cassette) -> String {
    let Some(RecordedOutcome::Answer(answer)) = cassette.exchanges.last().map(|last| &last.response) else {
        return "none".to_owned();
    };
    let body: Value = answer.json.as_ref().map(|json| serde_json::from_str(json.get()).unwrap()).unwrap_or_default();
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    let entra = body["error_codes"][0].as_u64().zip(text("/error"));
    let entra = entra.map(|(number, error)| format!("`{error}`, AADSTS{number}"));
    let arm = text("/error/code").or(text("/Error/Code")).map(|code| format!("`{code}`"));
    let content = answer.headers.get("content-type").and_then(Value::as_str);
    let words = entra.or(arm).or(content.map(|content| format!("`{content}`"))).unwrap_or_default();
    format!("{} {words}", answer.status).trim_end().to_owned()
}

const PAGE: &str = "# Recordings

A recording holds one poll of the plugin: each request, and the answer of the service. There is one for each kind of answer that the
plugin meets, so that a reader learns the service from them. This page is made from the recordings in `tests/cassettes`.
`host-harness replay` plays them without a network. The program carries all of them.

```console
$ host-harness replay                                   # a table: the outcome of each, and whether it is the expected one
$ host-harness replay tests/cassettes/two-pages.json    # the events of one
$ jq . tests/cassettes/two-pages.json                   # the requests and the answers, a member on a line
```

A recording is a JSON object, the *cassette*:

| key | holds |
|---|---|
| `docs` | the purpose of the recording, for readers |
| `version` | the version of the format, 1 |
| `settings` | the settings of the plugin; stand-ins replace credentials and ids |
| `context` | `feed`, `tenant` and `time_milliseconds`, the Unix time of the poll: the poll was due then, and its last page came then |
| `context.states` | optional: the state that an earlier poll left, by the id of its subscription, as `{ \"json\": … }` or `{ \"text\": … }` |
| `exchanges` | in order: `request` with `method` and `url`, and `authorization` and `form` where they are compared; and `response` |
| `response` | `status`, `headers`, and the body as `json` or as `text`; or `no_answer` alone, with the reason why there was no answer |

`no_answer` is one of `\"name-not-resolved\"`, `\"connection-refused\"`, `\"connection-broken\"`, `{ \"address-prohibited\": ADDRESS }`,
`{ \"proxy-failed\": PROXY }`, `{ \"tls-untrusted\": REASON }`, `{ \"timeout\": SECONDS }`, `{ \"too-large\": BYTES }` and
`{ \"malformed\": REASON }`.

Beside `NAME.json` lies `NAME.expected.json`, which has everything that the plugin makes of the recording. `replay --expect` compares both,
and `replay --update` writes the document anew:

| key | holds |
|---|---|
| `failures` | each failure, with the id of its subscription as `scope`; `null` if the failure concerns no single subscription |
| `skipped` | optional: subscriptions that were found and not polled, each with the reason |
| `codes` | the codes of notices, and of subscriptions without data |
| `sha256.events` | the SHA-256 of the events as NDJSON, so that the spelling of each number counts |
| `sha256.states` | the SHA-256 of each state that the poll leaves, by the id of its subscription |
| `events` | the events, with a member on a line and every value as the plugin spells it |

These recordings are made from the simulated service, and `cargo xtask recordings` records them again. `host-harness record` records a
real service. In the tables below, an outcome is `collected` where there was data, and the codes of failures, of missing data and of
notices; [docs/failures.md](failures.md) has their causes and fixes.
";
