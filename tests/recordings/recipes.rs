//! The recordings of the repository: what each shows, and how the simulated service is brought to it. One for each failure
//! and notice of the plugin, named by its code, and one for each other kind of answer.

use azure_secure_score::clouds::CLOUDS;
use host_harness::recording::cassette::MissingAnswer;
use serde_json::{Value, json};
use source_simulator::estate::Control;
use source_simulator::scenario;
use source_simulator::service::World;

/// How the application signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignIn {
    Secret,
    Certificate,
    FederatedToken,
}

/// The chapter of the page that a recording belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chapter {
    Polls,
    OverTime,
    Searches,
    SignIns,
    Refusals,
    OddAnswers,
    Notices,
    NoAnswers,
}

impl Chapter {
    pub const ALL: [Chapter; 8] = [
        Chapter::Polls,
        Chapter::OverTime,
        Chapter::Searches,
        Chapter::SignIns,
        Chapter::Refusals,
        Chapter::OddAnswers,
        Chapter::Notices,
        Chapter::NoAnswers,
    ];

    /// Its heading, and what a reader learns there of the service.
    pub fn heading(self) -> (&'static str, &'static str) {
        match self {
            Chapter::Polls => (
                "Polls",
                "A poll signs in once, reads the list of secure scores and then the list of controls, page after page.",
            ),
            Chapter::OverTime => (
                "A poll after another",
                "Each of these holds the state that an earlier recording left, under `context.states`, and plays eight hours \
                 after that one: the service counts anew every eight hours.",
            ),
            Chapter::Searches => (
                "Tenants and their subscriptions",
                "A domain is resolved to the tenant's id, and `\"*\"` asks for the list of subscriptions, before the first poll.",
            ),
            Chapter::SignIns => (
                "Entra ID refuses the sign-in",
                "Entra ID answers with an `error` of OAuth 2.0, and `error_codes` has the number of the cause, which the text spells \
                 with `AADSTS` before it. Nothing is asked of Azure Resource Manager then.",
            ),
            Chapter::Refusals => (
                "Azure Resource Manager refuses",
                "The service's own error has a `code`, which decides. The status alone says less: 404 may mean that there is no \
                 such subscription, no score yet, or no such interface.",
            ),
            Chapter::OddAnswers => (
                "Answers that are none",
                "Proxies, firewalls and login pages answer in place of the service, and a list may be cut or hold something else \
                 than it should. Nothing of such a list is used.",
            ),
            Chapter::Notices => ("Notices", "The poll succeeds, and something about it is worth a warning."),
            Chapter::NoAnswers => (
                "No answer at all",
                "The host knows better than the plugin why a request did not come through. These recordings say so in \
                 `no_answer`, in place of an answer.",
            ),
        }
    }
}

/// One recording, and how it is made.
pub struct Recipe {
    pub name: &'static str,
    pub chapter: Chapter,
    /// A description for readers.
    pub docs: String,
    /// The scenario of the simulated service.
    pub scenario: Option<&'static str>,
    pub sign_in: SignIn,
    /// Settings beside those of every recording.
    pub settings: Value,
    /// Changes the simulated service.
    pub world: fn(&mut World),
    /// The recording whose state this one begins with.
    pub after: Option<&'static str>,
    /// A state in place of one that the plugin left.
    pub state: Option<&'static str>,
    /// Why there is no answer to the first request after the sign-in.
    pub no_answer: Option<MissingAnswer>,
    /// Whether the host lets no request out to Azure Resource Manager.
    pub denies: bool,
}

impl Recipe {
    fn new(chapter: Chapter, name: &'static str, docs: impl Into<String>) -> Recipe {
        Recipe {
            name,
            chapter,
            docs: docs.into(),
            scenario: None,
            sign_in: SignIn::Secret,
            settings: json!({}),
            world: |_| {},
            after: None,
            state: None,
            no_answer: None,
            denies: false,
        }
    }

    fn with(self, settings: Value) -> Recipe {
        Recipe { settings, ..self }
    }

    fn changing(self, world: fn(&mut World)) -> Recipe {
        Recipe { world, ..self }
    }

    fn struck_by(self, scenario: &'static str) -> Recipe {
        Recipe { scenario: Some(scenario::named(scenario).unwrap()), ..self }
    }

    fn after(self, name: &'static str) -> Recipe {
        Recipe { after: Some(name), ..self }
    }

    fn signing_in_by(self, sign_in: SignIn) -> Recipe {
        Recipe { sign_in, ..self }
    }
}

/// Rows of the plugin's table that no answer of the service provokes, and why.
pub const WITHOUT: &[(&str, &str)] = &[
    ("credential-expires", "the host gives it, from a date in the settings, and asks nobody"),
    ("no-longer-discovered", "the host gives it, where a search no longer finds what an earlier one found"),
    ("assertion-unavailable", "nothing is signed in a replay, and the host reads no certificate and no token file"),
    ("settings-invalid", "`prepare` refuses such settings, so that no request is made"),
    ("argument-invalid", "a host would have to give back a scope or a cursor that the plugin did not give"),
];

/// Refusals of the token endpoint: code of the plugin, scenario, how the application signs in.
const SIGN_INS: &[(&str, &str, SignIn)] = &[
    ("secret-invalid", "secret-invalid", SignIn::Secret),
    ("secret-expired", "secret-expired", SignIn::Secret),
    ("credential-missing", "credential-missing", SignIn::Secret),
    ("application-not-found", "application-not-found", SignIn::Secret),
    ("service-principal-missing", "service-principal-missing", SignIn::Secret),
    ("application-disabled", "application-disabled", SignIn::Secret),
    ("application-public", "application-public", SignIn::Secret),
    ("tenant-not-found", "tenant-not-found", SignIn::Secret),
    ("tenant-invalid", "tenant-invalid", SignIn::Secret),
    ("tenant-restricted", "tenant-restricted", SignIn::Secret),
    ("conditional-access", "conditional-access", SignIn::Secret),
    ("policy-of-devices", "policy-device", SignIn::Secret),
    ("policy-of-risk", "policy-risk", SignIn::Secret),
    ("security-defaults", "policy-defaults", SignIn::Secret),
    ("audience-unknown", "audience-unknown", SignIn::Secret),
    ("scope-invalid", "scope-invalid", SignIn::Secret),
    ("consent-missing", "consent-missing", SignIn::Secret),
    ("resource-disabled", "resource-disabled", SignIn::Secret),
    ("assignment-missing", "assignment-missing", SignIn::Secret),
    ("cloud-mismatch", "cloud-mismatch", SignIn::Secret),
    ("assertion-time", "assertion-time", SignIn::Certificate),
    ("assertion-client", "assertion-client", SignIn::Certificate),
    ("assertion-audience", "assertion-audience", SignIn::Certificate),
    ("assertion-unregistered", "assertion-unregistered", SignIn::Certificate),
    ("assertion-signature", "assertion-signature", SignIn::Certificate),
    ("assertion-thumbprint", "assertion-thumbprint", SignIn::Certificate),
    ("assertion-algorithm", "assertion-algorithm", SignIn::Certificate),
    ("certificate-not-valid", "certificate-expired", SignIn::Certificate),
    ("certificate-revoked", "certificate-revoked", SignIn::Certificate),
    ("certificate-not-authorized", "certificate-not-authorized", SignIn::Certificate),
    ("assertion-malformed", "assertion-malformed", SignIn::FederatedToken),
    ("federation-mismatch", "federation-mismatch", SignIn::FederatedToken),
    ("federation-issuer", "federation-policy", SignIn::FederatedToken),
    ("token-loop", "token-loop", SignIn::Secret),
    ("token-throttled", "token-throttled", SignIn::Secret),
    ("token-unavailable", "token-unavailable", SignIn::Secret),
    ("token-unusable", "token-unusable", SignIn::Secret),
    ("token-refused", "token-other", SignIn::Secret),
];

/// Refusals of the API: code of the plugin, scenario, and what there is to learn beyond the answer.
const REFUSALS: &[(&str, &str, &str)] = &[
    ("forbidden", "forbidden", "The text names the missing action, too."),
    ("wrong-tenant", "wrong-tenant", "Another token of the same tenant would not help."),
    ("not-found", "not-found", "The id is well formed, and no subscription of this cloud has it."),
    ("subscription-invalid", "subscription-invalid", "The request went to the id as the settings have it."),
    ("disabled", "disabled", "The subscription is there, and not enabled."),
    ("not-registered", "not-registered", "Defender for Cloud is not set up in the subscription."),
    ("not-onboarded", "not-onboarded-404", "Defender for Cloud itself spells its errors so: `Error.Code`."),
    ("api-retired", "api-retired", "The interface is gone, and the subscription may be well."),
    ("token-expired", "token-expired", "Another token is fetched once, and is refused, too."),
    ("claims-challenge", "claims-challenge", "The claims stand in `www-authenticate`."),
    ("throttled", "throttled", "The header `retry-after` has the seconds."),
    ("service-unavailable", "unavailable", "It is a fault of the service that passes."),
    ("refused", "refused", "The plugin has no row for this code, and tells it with the request id."),
];

/// Answers that are none: code of the plugin, scenario, and what there is to learn.
const ODD_ANSWERS: &[(&str, &str, &str)] = &[
    ("not-the-service", "blocked", "A page of a firewall is no refusal of the service, whatever its status."),
    ("token-challenged", "login-challenge", "There is no error of the service beside the challenge."),
    ("redirected", "redirect", "The service never redirects, and no redirect is followed."),
    ("status-unexpected", "accepted", "A success without a list is no empty list."),
    ("answer-not-json", "page-cut", "It is the second list, and nothing of the first one leaves either."),
    ("answer-incomplete", "value-missing", "A list without `value` is no empty list."),
    ("answer-wrong-type", "number-as-text", "A number that is a text is not read as a number."),
    ("answer-foreign", "item-foreign", "Nothing of the whole list is used."),
    ("link-refused", "link-foreign", "A link to another origin is not followed."),
];

/// All of them, in the order of the page; one that begins with a state comes after the one that leaves it.
pub fn all() -> Vec<Recipe> {
    let about = |scenario: &str| scenario::all().find(|about| about.name == scenario).unwrap().what;
    let mut all = polls();
    all.extend(over_time());
    all.extend(searches());
    all.extend(SIGN_INS.iter().map(|(code, scenario, sign_in)| {
        let docs = format!("Entra ID answers with {}.", about(scenario));
        Recipe::new(Chapter::SignIns, code, docs).struck_by(scenario).signing_in_by(*sign_in)
    }));
    let named = |chapter: Chapter, (code, scenario, lesson): &(&'static str, &'static str, &str)| {
        let first =
            if chapter == Chapter::Refusals { "Azure Resource Manager answers with " } else { "The answer is " };
        Recipe::new(chapter, code, format!("{first}{}. {lesson}", about(scenario))).struck_by(scenario)
    };
    all.extend(REFUSALS.iter().map(|row| named(Chapter::Refusals, row)));
    all.extend(ODD_ANSWERS.iter().map(|row| named(Chapter::OddAnswers, row)));
    all.extend(notices());
    all.extend(no_answers());
    all
}

fn polls() -> Vec<Recipe> {
    let poll = |name, docs: &str| Recipe::new(Chapter::Polls, name, docs);
    let mut all = vec![
        poll("two-pages", "One subscription: its score, and its controls on two pages. `nextLink` leads to the second one.")
            .changing(|world| {
                controls(world).push(control("76763537-9feb-42d3-b4f4-78c01117be80", 7, 0, 2));
                world.page = 2;
            }),
        poll(
            "definitions-none",
            "With `definitions = \"none\"` the controls are asked for without `$expand`, and have no definition.",
        )
        .with(json!({ "definitions": "none" })),
        poll(
            "definitions-summary",
            "With `definitions = \"summary\"`, the default, each control has its definition: its maximum, and its assessments, \
             which the events leave out.",
        )
        .with(json!({ "definitions": "summary" })),
        poll(
            "definitions-full",
            "With `definitions = \"full\"` the same answers give events with the assessments of each control, in \
             `compliance.checks`.",
        )
        .with(json!({ "definitions": "full" })),
        poll("class-assessment-finding", "The class of the events is Assessment Finding, 99402001, the default.")
            .with(json!({ "class": "assessment-finding" })),
        poll("class-compliance-finding", "The same answers as events of the class Compliance Finding, 2003.")
            .with(json!({ "class": "compliance-finding" })),
        poll("events-scores", "With the event `secure-scores` alone, the list of controls is not asked for.")
            .with(json!({ "events": ["secure-scores"] })),
        poll("events-controls", "With the event `secure-score-controls` alone, the list of scores is not asked for.")
            .with(json!({ "events": ["secure-score-controls"] })),
        poll("empty", "Both lists are empty: Defender for Cloud was never set up for the subscription.")
            .struck_by("not-onboarded"),
        poll(
            "nothing-assessed",
            "The score has the maximum 0: Defender for Cloud is set up, and found no resource to assess.",
        )
        .changing(|world| {
            for control in controls(world) {
                (control.healthy, control.unhealthy) = (0, 0);
            }
        }),
    ];
    for cloud in CLOUDS {
        let name = CLOUD_RECORDINGS.iter().find(|name| name.strip_prefix("cloud-") == Some(cloud.name)).unwrap();
        let docs = format!(
            "The cloud `{}`: the sign-in is at {}, the lists at {}, and the token is for {}.",
            cloud.name, cloud.authority, cloud.endpoint, cloud.audience
        );
        all.push(poll(name, &docs).with(json!({ "cloud": cloud.name })));
    }
    all.extend([
        poll("cloud-by-addresses", "Another cloud, by the settings `authority`, `endpoint` and `audience`.").with(json!({
            "authority": "https://login.cloud.example",
            "endpoint": "https://management.cloud.example",
            "audience": "https://management.cloud.example",
        })),
        poll(
            "certificate",
            "The application signs in with a certificate. The assertion is signed anew each time, and is not in the recording.",
        )
        .signing_in_by(SignIn::Certificate),
        poll("federated-token", "The application signs in with a token of another identity provider, for example of Kubernetes.")
            .signing_in_by(SignIn::FederatedToken),
    ]);
    all
}

/// The recordings of the presets of clouds.
const CLOUD_RECORDINGS: &[&str] = &["cloud-public", "cloud-us-government"];

fn over_time() -> Vec<Recipe> {
    let poll = |name, docs: &str, after: &'static str| Recipe::new(Chapter::OverTime, name, docs).after(after);
    vec![
        poll("unchanged", "Nothing changed: there is no event.", "definitions-summary"),
        poll(
            "change",
            "Two resources lost MFA. The events have the difference, the reason and the previous values; that of the score names \
             the control that moved it.",
            "definitions-summary",
        )
        .changing(|world| {
            let mfa = &mut controls(world)[0];
            (mfa.healthy, mfa.unhealthy) = (mfa.healthy - 2, mfa.unhealthy + 2);
        }),
        poll("control-added", "The service counts a control that it did not count before.", "definitions-summary")
            .changing(|world| controls(world).push(control("05daab2e-f074-4601-ac10-aadf5c9c50f6", 3, 1, 0))),
        poll("control-absent", "A control is absent for the first time: its finding is not closed yet.", "definitions-summary")
            .changing(|world| controls(world).truncate(1)),
        poll("control-gone", "The control is absent for the second time in a row: its finding is closed.", "control-absent")
            .changing(|world| controls(world).truncate(1)),
        poll(
            "silent",
            "The application lost its role after a poll that gave data: one event says that the subscription fell silent.",
            "definitions-summary",
        )
        .struck_by("forbidden"),
        poll("silent-still", "The subscription is still silent, for the same reason: nothing is told again.", "silent")
            .struck_by("forbidden"),
        poll("back", "The application has its role again: one event says that there is data again.", "silent"),
        Recipe {
            state: Some(r#"{"format":99}"#),
            ..Recipe::new(
                Chapter::OverTime,
                "state-unreadable",
                "The state is that of a later version of the plugin: it is left as it is, and nothing is told.",
            )
        },
    ]
}

fn searches() -> Vec<Recipe> {
    let search = |name, docs: &str| Recipe::new(Chapter::Searches, name, docs).with(json!({ "subscription_id": "*" }));
    vec![
        search(
            "all-subscriptions",
            "`\"*\"` finds three subscriptions. Two are polled; the third is skipped, since its `state` is `Disabled`.",
        )
        .changing(|world| {
            let subscriptions = &mut world.estate.tenants[0].subscriptions;
            for number in 2..=3 {
                let mut more = subscriptions[0].clone();
                more.id = format!("00000001-000{number}-4f6b-b1d0-000000000001");
                more.name = format!("contoso {}", ["staging", "retired"][number - 2]);
                more.controls.truncate(1);
                more.state = ["Enabled", "Disabled"][number - 2];
                subscriptions.push(more);
            }
        }),
        search("tenant-by-domain", "The tenant is given by a domain: `issuer` of its OpenID configuration has the tenant's id.")
            .with(json!({ "token_url": "contoso.example" })),
        search("no-subscriptions", "`\"*\"` finds nothing: an application without any role gets an empty list, and no refusal.")
            .changing(|world| world.estate.tenants[0].subscriptions.clear()),
        search("all-excluded", "`exclude_subscriptions` leaves out every subscription that the list has.").with(json!({
            "subscription_id": "*",
            "exclude_subscriptions": ["00000001-0000-4f6b-b1d0-000000000001"],
        })),
        search("list-refused", "The list of subscriptions itself is refused: what was found before is not given up.")
            .struck_by("search-refused"),
        search(
            "delegated-left-out",
            "A subscription of another tenant, which delegated it, has that tenant's id in `tenantId`. Without `delegated = true` \
             it is left out.",
        )
        .struck_by("search-delegated")
        .changing(|world| {
            let subscriptions = &mut world.estate.tenants[0].subscriptions;
            let mut other = subscriptions[0].clone();
            other.id = "00000001-0002-4f6b-b1d0-000000000001".to_owned();
            subscriptions.insert(0, other);
        }),
        search("exclusion-unused", "`exclude_subscriptions` names a subscription that the list does not have.").with(json!({
            "subscription_id": "*",
            "exclude_subscriptions": ["00000001-0009-4f6b-b1d0-000000000001"],
        })),
    ]
}

fn notices() -> Vec<Recipe> {
    let notice = |name, docs: &str| Recipe::new(Chapter::Notices, name, docs);
    vec![
        notice("expansion-refused", "400 for `$expand=definition`: the list is asked for again without it.")
            .struck_by("expand-refused"),
        notice("list-empty", "There is a score, and the list of controls is empty.").struck_by("controls-empty"),
        notice("item-repeated", "A control stands twice in its list: the first one counts.").struck_by("item-twice"),
        notice("sum-mismatch", "The controls have fewer points than the score. Neither number is changed.")
            .struck_by("sum-off"),
        notice(
            "event-truncated",
            "A property that the plugin does not know makes an event larger than 32 KiB: `raw_data` is left out of it.",
        )
        .struck_by("item-large"),
    ]
}

fn no_answers() -> Vec<Recipe> {
    let of = |name, docs: &str, why| Recipe { no_answer: Some(why), ..Recipe::new(Chapter::NoAnswers, name, docs) };
    vec![
        Recipe {
            denies: true,
            ..Recipe::new(
                Chapter::NoAnswers,
                "request-denied",
                "The sign-in succeeds, and the host lets no request out to the origin of the lists.",
            )
        },
        of("name-not-resolved", "The name does not resolve.", MissingAnswer::NameNotResolved),
        of(
            "address-prohibited",
            "The name leads to a private address, which the host does not dial.",
            MissingAnswer::AddressProhibited([10, 1, 2, 3].into()),
        ),
        of(
            "proxy-failed",
            "The proxy makes no connection to the service.",
            MissingAnswer::ProxyFailed("http://proxy.example:3128".to_owned()),
        ),
        of("connection-refused", "Nobody listens there.", MissingAnswer::ConnectionRefused),
        of(
            "tls-untrusted",
            "The certificate is of an authority that the host does not trust.",
            MissingAnswer::TlsUntrusted("invalid peer certificate: UnknownIssuer".to_owned()),
        ),
        of("timeout", "There is no answer within 30 seconds.", MissingAnswer::Timeout(30)),
        of("connection-broken", "The connection ends before the answer does.", MissingAnswer::ConnectionBroken),
        of("answer-too-large", "The answer is larger than the host takes.", MissingAnswer::TooLarge(8 << 20)),
        of("transport", "The answer is no HTTP.", MissingAnswer::Malformed("invalid HTTP version parsed".to_owned())),
    ]
}

/// The controls of the one subscription: two, of which the first is "Enable MFA".
fn controls(world: &mut World) -> &mut Vec<Control> {
    &mut world.estate.tenants[0].subscriptions[0].controls
}

/// A control of the simulated service with these counts.
pub fn control(id: &str, healthy: u32, unhealthy: u32, not_applicable: u32) -> Control {
    let estate = source_simulator::estate::Estate::default();
    let known = estate.tenants[0].subscriptions[0].controls.iter().find(|control| control.id == id).unwrap();
    Control { healthy, unhealthy, not_applicable, ..known.clone() }
}
