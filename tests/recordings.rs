//! The recordings of the repository, made anew from the simulated service: the same bytes on every machine and every day.
//! `cargo xtask recordings` writes them and shows what differs; with `--check`, as a plain test does, it fails where something
//! differs.

mod recipes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use azure_secure_score::clouds::CLOUDS;
use azure_secure_score::diagnoses::TABLE;
use host_harness::admitted::AdmittedFeed;
use host_harness::environment;
use host_harness::recording::bundled::{self, BundledRecording};
use host_harness::recording::cassette::{Cassette, RecordedOutcome, RecordedState};
use host_harness::recording::{record, replay};
use parking_lot::Mutex;
use serde_json::{Value, json};
use similar::TextDiff;
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
use crate::documents;
use crate::support::{NOON, SUBSCRIPTION, asked, leave_for_the_judge, plugin, root, unadmitted};

/// Recordings of a live service, by name; no command makes them anew.
const LIVE: &[&str] = &[];

/// The time from one poll to the next: the service counts anew every 8 hours.
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

/// The simulated service, without sockets before it.
struct Simulated(Mutex<World>);

impl Transport for Simulated {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let answer = self.0.lock().answer(&asked(&request));
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
    let recorded = record::record_over(&feed, Arc::new(Simulated(Mutex::new(world))), &clock, true).await;
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
    let mut made: BTreeMap<String, Option<&str>> = BTreeMap::new();
    for taken in taken().await {
        let name = taken.recipe.name;
        assert!(
            made.insert(format!("{name}.json"), Some(&taken.text)).is_none(),
            "two recordings have the name {name}"
        );
        made.insert(format!("{name}.expected.json"), Some(&taken.expected));
        leave_for_the_judge(&format!("cassette-{name}"), taken.events.iter().map(Vec::as_slice));
    }
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !LIVE.iter().any(|live| [format!("{live}.json"), format!("{live}.expected.json")].contains(&name)) {
            made.entry(name).or_default();
        }
    }
    let rewrites = environment::variable("UPDATE_EXPECT").is_some();
    let mut different = Vec::new();
    for (name, text) in made {
        let file = folder.join(&name);
        let before = std::fs::read_to_string(&file).unwrap_or_default();
        if before == text.unwrap_or_default() {
            continue;
        }
        let place = format!("tests/cassettes/{name}");
        let diff = TextDiff::from_lines(before.as_str(), text.unwrap_or_default());
        eprint!("{}", diff.unified_diff().header(&place, &place));
        match text {
            Some(text) if rewrites => std::fs::write(&file, text).unwrap(),
            None if rewrites => std::fs::remove_file(&file).unwrap(),
            _ => different.push(name),
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

#[tokio::test]
async fn a_recording_that_gives_something_else_or_does_not_play_is_told_with_the_first_difference() {
    let known = bundled::named("two-pages").unwrap();
    let edited = |text: &'static str, from: &str, to: &str| text.replacen(from, to, 1).leak() as &'static str;
    let other = BundledRecording { expected: edited(known.expected, "\"codes\": []", "\"codes\": [\"x\"]"), ..*known };
    let broken = BundledRecording { cassette: edited(known.cassette, "\"GET\"", "\"PUT\""), ..*known };
    let (known, other, broken) = (
        known.play(&plugin()).await.unwrap(),
        other.play(&plugin()).await.unwrap(),
        broken.play(&plugin()).await.unwrap(),
    );
    assert!(known.ok && known.difference.is_none() && known.events == 4);
    assert_eq!((other.ok, other.events), (false, 4));
    assert_eq!(other.difference.as_deref(), Some("/codes: expected [\"x\"], found []"));
    let words = "exchanges[1].request.method: expected PUT, found GET";
    assert_eq!((broken.ok, broken.difference.as_deref()), (false, Some(words)));
    let table = bundled::table(&[known, other, broken]);
    let columns = table.lines().map(|line| line.split_whitespace().skip(1).take(4).collect::<Vec<_>>().join(" "));
    assert_eq!(
        columns.collect::<Vec<_>>(),
        ["outcome events as expected", "collected 4 ok One", "collected 4 no One", "does not play 0"]
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
        write!(
            page,
            "\n## {heading}\n\n{lesson}\n\n| recording | what it shows | outcome | events |\n|---|---|---|---|\n"
        )
        .unwrap();
        for Taken { recipe, outcome, events, .. } in taken.iter().filter(|taken| taken.recipe.chapter == chapter) {
            let (name, docs, outcome) = (recipe.name, recipe.docs.replace('|', "\\|"), outcome.join(", "));
            writeln!(page, "| [{name}](../tests/cassettes/{name}.json) | {docs} | {outcome} | {} |", events.len())
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

const PAGE: &str = "# Recordings

This page is made from the recordings in `tests/cassettes`. There is one for each kind of answer that the plugin meets. `host-harness replay` plays them all,
without a network: the program carries them.

```console
$ host-harness replay                                   # a table: what came of each, and whether that is what is expected
$ host-harness replay tests/cassettes/two-pages.json    # the events of one
$ jq . tests/cassettes/two-pages.json                   # the requests and the answers, a member a line
```

A recording is a JSON object, the *cassette*. Beside `NAME.json` lies `NAME.expected.json`: the failure, the codes and the events that the
plugin makes of it.

| key | holds |
|---|---|
| `docs` | what the recording shows |
| `version` | the version of the format, 1 |
| `settings` | the settings of the plugin; stand-ins stand for credentials and ids |
| `context` | `feed`, `tenant` and `time_milliseconds`, the Unix time of the poll, which is when it was due and when its last page came |
| `context.states` | optional: the state that an earlier poll left, by the id of its subscription, as `{ \"json\": … }` or `{ \"text\": … }` |
| `exchanges` | in order: `request` with `method` and `url`, and `authorization` and `form` where they are compared; and `response` |
| `response` | `status`, `headers`, and the body as `json` or as `text`; or `no_answer` alone, which says why there was none |

`no_answer` is one of `\"name-not-resolved\"`, `\"connection-refused\"`, `\"connection-broken\"`, `{ \"address-prohibited\": ADDRESS }`,
`{ \"proxy-failed\": PROXY }`, `{ \"tls-untrusted\": REASON }`, `{ \"timeout\": SECONDS }`, `{ \"too-large\": BYTES }` and
`{ \"malformed\": REASON }`.

These recordings are made from the simulated service, and `cargo xtask recordings` makes them anew. `host-harness record` records a
service that is real. An outcome is `collected`, or the codes of the failure, of what is no data, and of notices; [docs/failures.md](failures.md) has
their causes and fixes.
";
