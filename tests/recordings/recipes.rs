//! The recordings of the repository: what each shows, and how the simulated service is brought to it. One for each failure
//! and notice of the plugin, named by its code, and one for each other kind of answer.

use azure_secure_score::clouds::CLOUDS;
use host_harness::recording::cassette::MissingAnswer;
use serde_json::{Value, json};
use source_host::limits::{EXCHANGE_TIMEOUT, Limits};
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

    /// Says whether the page has the last answer of each recording.
    pub fn shows_answers(self) -> bool {
        matches!(self, Chapter::SignIns | Chapter::Refusals | Chapter::OddAnswers)
    }

    /// Its heading, and what a reader learns there of the service.
    pub fn heading(self) -> (&'static str, &'static str) {
        match self {
            Chapter::Polls => (
                "Polls",
                "A poll signs in once, reads the list of secure scores and then the list of controls, page after \
                 page.",
            ),
            Chapter::OverTime => (
                "A poll after another",
                "Each of these holds the state that an earlier recording left, under `context.states`, and plays eight hours \
                 after that one, because the service computes the score anew every eight hours.",
            ),
            Chapter::Searches => (
                "Tenants and their subscriptions",
                "Before the first poll, the plugin finds the id behind a tenant's domain, and the subscriptions \
                 behind `\"*\"`.",
            ),
            Chapter::SignIns => (
                "Entra ID refuses the sign-in",
                "Entra ID answers with an `error` of OAuth 2.0, and `error_codes` has the number of the cause, which the text spells \
                 with `AADSTS` before it. The plugin then sends nothing to Azure Resource Manager.",
            ),
            Chapter::Refusals => (
                "Azure Resource Manager refuses",
                "The service's own error has a `code`, which decides. The status alone says less: 404 may mean that there is no \
                 such subscription, no score yet, or no such interface.",
            ),
            Chapter::OddAnswers => (
                "Answers that the plugin cannot use",
                "Proxies, firewalls and login pages answer in place of the service, and a list may be cut or hold something else \
                 than it should. The plugin uses no part of such a list.",
            ),
            Chapter::Notices => {
                ("Notices", "The poll succeeds, and the plugin warns of something that it met on the way.")
            }
            Chapter::NoAnswers => (
                "No answer at all",
                "The host knows better than the plugin why a request got no answer. These recordings have the reason in `no_answer`, in \
                 place of an answer.",
            ),
        }
    }
}

/// One recording, and how it is made.
pub struct Recipe {
    pub name: &'static str,
    pub chapter: Chapter,
    /// A person's words for readers, which say what the recording shows of the service; a review holds them against cassette and
    /// events. Status and codes of answers are not among them: the page takes these from the cassette.
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
    /// Parts of the service's answers, and other text in their place.
    pub spellings: &'static [(&'static str, &'static str)],
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
            spellings: &[],
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
    ("credential-expires", "the host makes it from a date in the settings, without a request"),
    ("no-longer-discovered", "the host makes it, where a search no longer finds what an earlier search found"),
    ("assertion-unavailable", "a replay signs nothing, and reads no certificate and no token file"),
    ("settings-invalid", "`prepare` refuses such settings, before any request"),
    ("argument-invalid", "a host would have to give back a scope or a cursor that the plugin did not give"),
];

/// Refusals of the token endpoint: code of the plugin, scenario, how the application signs in, and what the answer means.
const SIGN_INS: &[(&str, &str, SignIn, &str)] = &[
    (
        "secret-invalid",
        "secret-invalid",
        SignIn::Secret,
        "The secret is none of the application's. The text of Entra ID says what people confuse: the id of a secret \
         with its value.",
    ),
    ("secret-expired", "secret-expired", SignIn::Secret, "The secret is one of the application's, and has expired."),
    (
        "credential-missing",
        "credential-missing",
        SignIn::Secret,
        "Entra ID finds neither a secret nor an assertion in the request.",
    ),
    (
        "application-not-found",
        "application-not-found",
        SignIn::Secret,
        "The tenant has no application with this id. The id of the tenant may be the wrong one, too.",
    ),
    (
        "service-principal-missing",
        "service-principal-missing",
        SignIn::Secret,
        "The tenant has no service principal of the application, which an administrator creates there.",
    ),
    (
        "application-disabled",
        "application-disabled",
        SignIn::Secret,
        "An administrator of the tenant disabled the application.",
    ),
    (
        "application-public",
        "application-public",
        SignIn::Secret,
        "The application is registered as a public client, which may send no credential.",
    ),
    ("tenant-not-found", "tenant-not-found", SignIn::Secret, "This cloud has no tenant with this id."),
    (
        "tenant-invalid",
        "tenant-invalid",
        SignIn::Secret,
        "The name of the tenant is neither an id nor a domain that Entra ID knows.",
    ),
    (
        "tenant-restricted",
        "tenant-restricted",
        SignIn::Secret,
        "A proxy of the collector's network lists the tenants that may be signed in to, and this tenant is not on \
         the list.",
    ),
    (
        "conditional-access",
        "conditional-access",
        SignIn::Secret,
        "A Conditional Access policy of the tenant blocks the application. The answer does not name the policy.",
    ),
    (
        "policy-of-devices",
        "policy-device",
        SignIn::Secret,
        "A policy that is meant for people demands a managed device, which an application never has.",
    ),
    (
        "policy-of-risk",
        "policy-risk",
        SignIn::Secret,
        "Entra ID considers the application at risk, for example after a leak of its secret.",
    ),
    ("security-defaults", "policy-defaults", SignIn::Secret, "The security defaults of the tenant block the sign-in."),
    (
        "audience-unknown",
        "audience-unknown",
        SignIn::Secret,
        "The tenant does not know the service that the token is for: that service may belong to another cloud.",
    ),
    (
        "scope-invalid",
        "scope-invalid",
        SignIn::Secret,
        "Entra ID does not accept the scope, which is the address of the service with `/.default` behind it.",
    ),
    (
        "consent-missing",
        "consent-missing",
        SignIn::Secret,
        "No administrator of the tenant consented to the application.",
    ),
    (
        "resource-disabled",
        "resource-disabled",
        SignIn::Secret,
        "The tenant disabled the service that the token is for, which is Azure Resource Manager.",
    ),
    (
        "assignment-missing",
        "assignment-missing",
        SignIn::Secret,
        "The service that the token is for admits assigned applications alone, and this one is not assigned.",
    ),
    (
        "cloud-mismatch",
        "cloud-mismatch",
        SignIn::Secret,
        "The tenant belongs to another cloud than the address of the sign-in.",
    ),
    (
        "assertion-time",
        "assertion-time",
        SignIn::Certificate,
        "The assertion has expired, or is not valid yet: the collector's clock may be wrong.",
    ),
    (
        "assertion-client",
        "assertion-client",
        SignIn::Certificate,
        "The assertion names another application than the request does.",
    ),
    (
        "assertion-audience",
        "assertion-audience",
        SignIn::Certificate,
        "The assertion was made for another token endpoint.",
    ),
    (
        "assertion-unregistered",
        "assertion-unregistered",
        SignIn::Certificate,
        "The certificate that signed the assertion is not registered with the application.",
    ),
    (
        "assertion-signature",
        "assertion-signature",
        SignIn::Certificate,
        "The assertion names a registered certificate, and another key signed it.",
    ),
    (
        "assertion-thumbprint",
        "assertion-thumbprint",
        SignIn::Certificate,
        "The header of the assertion does not name the certificate that signed it.",
    ),
    (
        "assertion-algorithm",
        "assertion-algorithm",
        SignIn::Certificate,
        "Entra ID does not accept the algorithm that signed the assertion.",
    ),
    (
        "certificate-not-valid",
        "certificate-expired",
        SignIn::Certificate,
        "The certificate that signed the assertion has expired, or is not valid yet.",
    ),
    (
        "certificate-revoked",
        "certificate-revoked",
        SignIn::Certificate,
        "An authority revoked the certificate that signed the assertion.",
    ),
    (
        "certificate-not-authorized",
        "certificate-not-authorized",
        SignIn::Certificate,
        "The application trusts certificates by their subject and issuer, and this certificate has others.",
    ),
    (
        "assertion-malformed",
        "assertion-malformed",
        SignIn::FederatedToken,
        "The file of the federated token holds something that is not a JSON Web Token.",
    ),
    (
        "federation-mismatch",
        "federation-mismatch",
        SignIn::FederatedToken,
        "No federated credential of the application has the issuer, subject and audience of the token.",
    ),
    (
        "federation-issuer",
        "federation-policy",
        SignIn::FederatedToken,
        "The tenant accepts no federated credential of this issuer.",
    ),
    ("token-loop", "token-loop", SignIn::Secret, "Entra ID refuses a client that repeats the same request too often."),
    (
        "token-throttled",
        "token-throttled",
        SignIn::Secret,
        "Entra ID receives too many requests. The header `retry-after` has the seconds to wait.",
    ),
    ("token-unavailable", "token-unavailable", SignIn::Secret, "Entra ID has a fault that passes."),
    (
        "token-unusable",
        "token-unusable",
        SignIn::Secret,
        "The token holds a line break, so that no header can carry the token.",
    ),
    (
        "token-refused",
        "token-other",
        SignIn::Secret,
        "The plugin has no row for this number, and reports the number with the text of Entra ID.",
    ),
];

/// Refusals of the API: code of the plugin, scenario, and what the answer means.
const REFUSALS: &[(&str, &str, &str)] = &[
    ("forbidden", "forbidden", "The application has no role on the subscription. The text names the missing action."),
    (
        "wrong-tenant",
        "wrong-tenant",
        "The subscription belongs to another tenant. A new token of the same tenant would not help.",
    ),
    ("not-found", "not-found", "The id is well formed, and no subscription of this cloud has it."),
    (
        "subscription-invalid",
        "subscription-invalid",
        "The service does not accept the id of the subscription as an id.",
    ),
    ("disabled", "disabled", "The subscription exists, and is disabled."),
    (
        "not-registered",
        "not-registered",
        "The subscription is not registered for Microsoft.Security: Defender for Cloud is not set up there.",
    ),
    (
        "not-onboarded",
        "not-onboarded-404",
        "Defender for Cloud has no score of the subscription yet. Its own errors are spelled in another way: \
         `Error.Code`.",
    ),
    (
        "api-retired",
        "api-retired",
        "The service no longer has this version of the interface. The subscription may be well.",
    ),
    (
        "token-expired",
        "token-expired",
        "The service does not accept the token. The host fetches another token once, and the service refuses that \
         one, too.",
    ),
    (
        "claims-challenge",
        "claims-challenge",
        "The service demands a token that satisfies a policy. The header `www-authenticate` has the claims.",
    ),
    (
        "throttled",
        "throttled",
        "The subscription gets too many requests. The header `retry-after` has the seconds to wait.",
    ),
    ("service-unavailable", "unavailable", "The service has a fault that passes."),
    ("refused", "refused", "The plugin has no row for this code, and reports the code with the request id."),
];

/// Answers that the plugin cannot use: code of the plugin, scenario, and what there is to learn.
const ODD_ANSWERS: &[(&str, &str, &str)] = &[
    (
        "not-the-service",
        "blocked",
        "A firewall answers with a page. The page is no refusal of the service, whatever its status.",
    ),
    (
        "token-challenged",
        "login-challenge",
        "A login page asks for a token. The challenge alone does not say that the service refuses the token.",
    ),
    (
        "redirected",
        "redirect",
        "The answer leads to another host. The service never redirects, and the host does not follow.",
    ),
    ("status-unexpected", "accepted", "The answer is a success without a body, which is no empty list."),
    (
        "answer-not-json",
        "page-cut",
        "The second list ends in its middle. No event of the first list leaves either, though that list was whole.",
    ),
    ("answer-incomplete", "value-missing", "The answer is an object without `value`, which is no empty list."),
    (
        "answer-wrong-type",
        "number-as-text",
        "A text is in the place of the number `max`. The plugin makes no number of the text.",
    ),
    (
        "answer-foreign",
        "item-foreign",
        "One item belongs to another subscription. The plugin uses no item of the whole list.",
    ),
    ("link-refused", "link-foreign", "`nextLink` leads to another host. The plugin does not follow the link."),
];

/// All of them, in the order of the page; one that begins with a state comes after the one that leaves it.
pub fn all() -> Vec<Recipe> {
    let mut all = polls();
    all.extend(over_time());
    all.extend(searches());
    all.extend(SIGN_INS.iter().map(|(code, scenario, sign_in, lesson)| {
        Recipe::new(Chapter::SignIns, code, *lesson).struck_by(scenario).signing_in_by(*sign_in)
    }));
    let of = |chapter: Chapter| {
        move |(code, scenario, lesson): &(&'static str, &'static str, &str)| {
            Recipe::new(chapter, code, *lesson).struck_by(scenario)
        }
    };
    all.extend(REFUSALS.iter().map(of(Chapter::Refusals)));
    all.extend(ODD_ANSWERS.iter().map(of(Chapter::OddAnswers)));
    all.extend(notices());
    all.extend(no_answers());
    all
}

fn polls() -> Vec<Recipe> {
    let poll = |name, docs: &str| Recipe::new(Chapter::Polls, name, docs);
    let mut all = vec![
        poll("two-pages", "The controls of a subscription come on two pages. `nextLink` of the first one leads to the second one.")
            .changing(|world| {
                controls(world).push(control("76763537-9feb-42d3-b4f4-78c01117be80", 7, 0, 2));
                world.page = 2;
            }),
        poll(
            "definitions-none",
            "With `definitions = \"none\"` the request for the controls has no `$expand`, and the answer has no \
             definitions.",
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
        Recipe {
            spellings: SPELLINGS,
            ..poll(
                "to-the-letter",
                "JSON has several spellings of a number, a text and a key. The events have each number as the service \
                 spells it, and `raw_data` has the whole item to the letter.",
            )
            .with(json!({ "definitions": "none" }))
            .changing(|world| controls(world).push(control("05daab2e-f074-4601-ac10-aadf5c9c50f6", 0, 2, 0)))
        },
        poll("class-assessment-finding", "The class of the events is Assessment Finding, 99402001, the default.")
            .with(json!({ "class": "assessment-finding" })),
        poll("class-compliance-finding", "The same answers as events of the class Compliance Finding, 2003.")
            .with(json!({ "class": "compliance-finding" })),
        poll(
            "class-detection-finding",
            "The same answers as events of the class Detection Finding, 2004. The class has no attribute `compliance`, \
             which is under `unmapped`.",
        )
        .with(json!({ "class": "detection-finding" })),
        poll(
            "ocsf-1.1.0",
            "The answers of `definitions-full` as events of OCSF 1.1.0, the oldest version. The attributes that began later \
             are under `unmapped`.",
        )
        .with(json!({ "definitions": "full", "ocsf_version": "1.1.0" })),
        poll("events-scores", "With the event `secure-scores` alone, the plugin does not request the list of controls.")
            .with(json!({ "events": ["secure-scores"] })),
        poll("events-controls", "With the event `secure-score-controls` alone, the plugin does not request the list of scores.")
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
        let name = format!("cloud-{}", cloud.name).leak();
        let docs = format!(
            "The cloud `{}`: the sign-in is at {}, the lists at {}, and the token is for {}.",
            cloud.name, cloud.authority, cloud.endpoint, cloud.audience
        );
        all.push(poll(name, &docs).with(json!({ "cloud": cloud.name })));
    }
    all.extend([
        poll(
            "cloud-by-addresses",
            "The settings `authority`, `endpoint` and `audience` describe a cloud that has no preset.",
        )
        .with(json!({
            "authority": "https://login.cloud.example",
            "endpoint": "https://management.cloud.example",
            "audience": "https://management.cloud.example",
        })),
        poll(
            "certificate",
            "The application signs in with a certificate. The host signs a new assertion each time, and the \
             recording has none.",
        )
        .signing_in_by(SignIn::Certificate),
        poll(
            "federated-token",
            "The application signs in with a token of another identity provider, for example of Kubernetes.",
        )
        .signing_in_by(SignIn::FederatedToken),
    ]);
    all
}

/// Numbers, texts and keys of the list of controls, and how other writers of JSON spell them.
const SPELLINGS: &[(&str, &str)] = &[
    (r#""current":7.5,"max":10,"#, r#""current":75E-1,"max":1e1,"#),
    (r#""unhealthyResourceCount":1,"weight":4"#, r#""unhealthyResourceCount":1,"weight":1E+2"#),
    (
        r#""displayName":"Enable MFA","#,
        r#""displayName":"Enable MFA \ud83d\ude00 😀 \/ /","\u0061bc":1e-7,"twice":1,"twice":2,"long":[12345678901234567890,1234567890123456789012345],"#,
    ),
    (r#""current":0.0,"#, r#""current":-0,"#),
    (r#""percentage":0.0"#, r#""percentage":-0.0"#),
];

/// The points of a control and of its score, and as they are once the service raised them by two.
const MORE_POINTS: &[(&str, &str)] = &[(r#""max":14,"#, r#""max":16,"#), (r#""max":4,"#, r#""max":6,"#)];

fn over_time() -> Vec<Recipe> {
    let poll = |name, docs: &str, after: &'static str| Recipe::new(Chapter::OverTime, name, docs).after(after);
    vec![
        poll("unchanged", "Nothing changed since the poll before: there is no event.", "definitions-summary"),
        poll(
            "change",
            "Two accounts lost MFA. The events have the difference, the reason and the previous values, and the event of the score \
             names the control that moved the score.",
            "definitions-summary",
        )
        .changing(|world| {
            let mfa = &mut controls(world)[0];
            (mfa.healthy, mfa.unhealthy) = (mfa.healthy - 2, mfa.unhealthy + 2);
        }),
        poll("control-passes", "The last account got MFA: the control has its full score.", "definitions-summary").changing(
            |world| {
                let mfa = &mut controls(world)[0];
                (mfa.healthy, mfa.unhealthy) = (mfa.healthy + mfa.unhealthy, 0);
            },
        ),
        poll(
            "control-grows",
            "Another account has MFA: only the counts of the control change, and it keeps its full score.",
            "control-passes",
        )
        .changing(|world| {
            let mfa = &mut controls(world)[0];
            (mfa.healthy, mfa.unhealthy) = (mfa.healthy + mfa.unhealthy + 1, 0);
        }),
        poll("control-fails-again", "An account lost MFA again: the control lost its full score.", "control-passes"),
        Recipe {
            spellings: MORE_POINTS,
            ..poll(
                "maximum",
                "The service gives a control more points than before. The score has another maximum, and no resource changed.",
                "definitions-summary",
            )
        },
        poll(
            "control-added",
            "The service lists a control that it did not list before. The event of the score names this control as \
             the reason.",
            "definitions-summary",
        )
        .changing(|world| controls(world).push(control("05daab2e-f074-4601-ac10-aadf5c9c50f6", 3, 1, 0))),
        poll("control-absent", "A control is absent for the first time: the plugin does not close its finding yet.", "definitions-summary")
            .changing(|world| controls(world).truncate(1)),
        poll("control-gone", "The control is absent for the second time in a row: an event closes its finding.", "control-absent")
            .changing(|world| controls(world).truncate(1)),
        poll(
            "silent",
            "The application lost its role after a poll that gave data: one event says that the subscription fell \
             silent.",
            "definitions-summary",
        )
        .struck_by("forbidden"),
        poll("silent-still", "The subscription is still silent, for the same reason: no event repeats that.", "silent")
            .struck_by("forbidden"),
        poll("back", "The application has its role again: one event says that there is data again.", "silent"),
        Recipe {
            state: Some(r#"{"format":99}"#),
            ..Recipe::new(
                Chapter::OverTime,
                "state-unreadable",
                "A later version of the plugin wrote the state. The plugin makes no event, so that the state stays \
                 as it is.",
            )
        },
    ]
}

fn searches() -> Vec<Recipe> {
    let search = |name, docs: &str| Recipe::new(Chapter::Searches, name, docs).with(json!({ "subscription_id": "*" }));
    vec![
        search(
            "all-subscriptions",
            "`\"*\"` finds three subscriptions. Two are polled; the third is skipped, since its `state` is \
             `Disabled`.",
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
        search("tenant-by-domain", "The settings name the tenant by a domain. `issuer` of the domain's OpenID configuration has the tenant's id.")
            .with(json!({ "token_url": "contoso.example" })),
        search("no-subscriptions", "`\"*\"` finds nothing: an application without any role gets an empty list, and no refusal.")
            .changing(|world| world.estate.tenants[0].subscriptions.clear()),
        search("all-excluded", "`exclude_subscriptions` leaves out every subscription that the list has.").with(json!({
            "subscription_id": "*",
            "exclude_subscriptions": ["00000001-0000-4f6b-b1d0-000000000001"],
        })),
        search("list-refused", "The service refuses the list of subscriptions. A collector keeps the subscriptions that it found before.")
            .struck_by("search-refused"),
        search(
            "delegated-left-out",
            "A subscription that another tenant delegated has that tenant's id in `tenantId`. Without `delegated = true` the plugin \
             leaves the subscription out.",
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
        notice(
            "expansion-refused",
            "The service refuses `$expand=definition`. The plugin requests the list once more, without definitions.",
        )
        .struck_by("expand-refused"),
        notice("list-empty", "There is a score, and the list of controls is empty.").struck_by("controls-empty"),
        notice("item-repeated", "The list has a control twice: the first one counts.").struck_by("item-twice"),
        notice("sum-mismatch", "The controls have fewer points than the score. Neither number is changed.")
            .struck_by("sum-off"),
        notice(
            "event-truncated",
            "A property that the plugin does not know makes an event larger than 32 KiB: `raw_data` is left out of \
             it.",
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
                "The sign-in succeeds, and the host allows no request to the origin of the lists.",
            )
        },
        of("name-not-resolved", "The name of Azure Resource Manager does not resolve.", MissingAnswer::NameNotResolved),
        of(
            "address-prohibited",
            "The name leads to a private address, to which the host does not connect.",
            MissingAnswer::AddressProhibited([10, 1, 2, 3].into()),
        ),
        of(
            "proxy-failed",
            "The proxy does not connect to the service.",
            MissingAnswer::ProxyFailed("http://proxy.example:3128".to_owned()),
        ),
        of(
            "connection-refused",
            "Nobody listens at the address of Azure Resource Manager.",
            MissingAnswer::ConnectionRefused,
        ),
        of(
            "tls-untrusted",
            "The certificate comes from an authority that the host does not trust: a proxy that inspects TLS has \
             such a certificate.",
            MissingAnswer::TlsUntrusted("invalid peer certificate: UnknownIssuer".to_owned()),
        ),
        of(
            "timeout",
            "There is no answer within the time that the host waits for one.",
            MissingAnswer::Timeout(EXCHANGE_TIMEOUT.as_secs()),
        ),
        of("connection-broken", "The connection ends before the answer does.", MissingAnswer::ConnectionBroken),
        of(
            "answer-too-large",
            "The answer is larger than the host accepts.",
            MissingAnswer::TooLarge(Limits::default().response_body_bytes),
        ),
        of("transport", "The answer is not HTTP.", MissingAnswer::Malformed("invalid HTTP version parsed".to_owned())),
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
