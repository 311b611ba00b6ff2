//! What can go wrong, by name. Scenarios of the token endpoint, of the search for subscriptions and of the tenant's domain
//! strike the first tenant, those of the API the last subscription of the first tenant; everything else goes on as usual.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::answer::{Answer, EndpointKind, Request, arm_error, controls_path, entra_error};
use super::{gateways, hostile};

/// What a scenario may know.
pub struct Strike<'a> {
    /// The scenario that the service plays.
    pub scenario: Option<&'static str>,
    /// How often something went wrong so far.
    pub strikes: usize,
    /// Origin of the service.
    pub url: &'a str,
    /// Whose list it is; empty where it is no subscription's.
    pub subscription: &'a str,
    /// The application.
    pub client: &'a str,
    /// The service's own id of the request.
    pub request_id: &'a str,
    /// The secret that the token endpoint was shown; empty elsewhere.
    pub secret: &'a str,
}

/// The object id that the service tells of the first tenant's application.
pub const OBJECT_ID: &str = "0b5e9c7a-63d1-4c0e-9f18-7a2d4e6b8c01";

/// The beginning of AADSTS7000215.
pub const SECRET_INVALID: &str = "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app";

/// Refusals of the token endpoint: scenario, status, `error`, AADSTS code, text.
const ENTRA: &[(&str, u16, &str, u32, &str)] = &[
    ("secret-invalid", 401, "invalid_client", 7_000_215, SECRET_INVALID),
    ("secret-expired", 401, "invalid_client", 7_000_222, "The provided client secret keys for app are expired."),
    (
        "credential-missing",
        401,
        "invalid_client",
        7_000_218,
        "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
    ),
    (
        "application-not-found",
        400,
        "unauthorized_client",
        700_016,
        "Application with identifier was not found in the directory.",
    ),
    (
        "service-principal-missing",
        401,
        "invalid_client",
        7_000_229,
        "The client application is missing service principal in the tenant.",
    ),
    ("application-disabled", 400, "unauthorized_client", 7_000_112, "Application is disabled."),
    ("tenant-not-found", 400, "invalid_request", 90_002, "Tenant not found."),
    (
        "tenant-invalid",
        400,
        "invalid_request",
        900_023,
        "Specified tenant identifier is neither a valid DNS name, nor a valid external domain.",
    ),
    (
        "credential-none",
        401,
        "invalid_client",
        7_000_216,
        "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.",
    ),
    ("application-unknown", 400, "unauthorized_client", 700_011, "Application was not found in the directory."),
    ("application-off", 400, "unauthorized_client", 70_001, "The application is disabled."),
    (
        "application-public",
        401,
        "invalid_client",
        700_025,
        "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.",
    ),
    ("tenant-restricted", 400, "access_denied", 500_021, "Access to tenant is denied."),
    ("tenant-restricted-proxy", 400, "access_denied", 500_022, "Access to tenant is denied."),
    (
        "tenant-not-allowed",
        400,
        "access_denied",
        50_002,
        "Sign-in failed because of a restricted proxy access on the tenant.",
    ),
    ("tenant-empty", 400, "invalid_request", 900_021, "Requested tenant identifier is not valid."),
    ("tenant-unnamed", 400, "invalid_request", 50_059, "No tenant-identifying information found."),
    ("tenant-common", 400, "invalid_request", 50_194, "Application is not configured as a multi-tenant application."),
    ("tenant-realm", 400, "invalid_request", 90_019, "No tenant-identifying information found in the request."),
    (
        "tenant-grant",
        400,
        "invalid_request",
        9_001_023,
        "The grant type is not supported over the /common or /consumers endpoints.",
    ),
    ("audience-legacy", 400, "invalid_resource", 50_001, "The resource principal was not found in the tenant."),
    (
        "audience-missing",
        400,
        "invalid_client",
        650_052,
        "The app needs access to a service that is not subscribed to.",
    ),
    ("consent-of-administrator", 400, "invalid_grant", 90_094, "The grant requires the administrator's permission."),
    ("consent-asked-for", 400, "invalid_grant", 90_095, "The grant requires the administrator's approval."),
    ("scope-several", 400, "invalid_scope", 700_022, "The scope names more than one resource."),
    ("assertion-late", 400, "invalid_grant", 500_133, "Assertion is not within its valid time range."),
    ("assertion-key", 401, "invalid_client", 5_000_811, "Unable to verify token signature."),
    ("certificate-untrusted", 401, "invalid_client", 50_012, "The signing certificate is not authorized."),
    (
        "federation-policy",
        400,
        "invalid_request",
        700_238,
        "Tokens issued by the issuer may not be used for federated identity credential flows in this tenant.",
    ),
    (
        "federation-tenant",
        400,
        "invalid_request",
        700_236,
        "Entra ID tokens of the issuer may not be used for federated identity credential flows in this tenant.",
    ),
    (
        "federation-claim",
        400,
        "invalid_request",
        7_002_381,
        "Federated identity credentials of the issuer must contain the enterprise claim in this tenant.",
    ),
    ("cloud-national", 400, "invalid_request", 90_051, "The national cloud is not valid."),
    (
        "cloud-government",
        400,
        "invalid_request",
        900_439,
        "A client of US Government is not supported on the public endpoint.",
    ),
    ("assertion-signature", 401, "invalid_client", 7_000_274, "Client assertion contains an invalid signature."),
    ("assertion-malformed", 400, "invalid_request", 50_027, "JWT token is invalid or malformed."),
    (
        "federation-of-entra",
        400,
        "invalid_request",
        700_222,
        "Tokens issued by Entra ID may not be used for federated identity credential flows.",
    ),
    ("consent-missing", 400, "invalid_grant", 65_001, "No administrator has consented to use the application."),
    ("resource-disabled", 400, "invalid_resource", 500_014, "The service principal for the resource is disabled."),
    (
        "assignment-missing",
        400,
        "invalid_client",
        501_051,
        "The application is not assigned to a role for the resource.",
    ),
    ("policy-device", 400, "invalid_grant", 53_000, "Device is not in required device state: compliant."),
    ("policy-domain", 400, "invalid_grant", 53_001, "Device is not in required device state: domain_joined."),
    (
        "policy-app",
        400,
        "invalid_grant",
        53_002,
        "Application used is not an approved application for Conditional Access.",
    ),
    ("policy-risk", 400, "invalid_grant", 53_011, "Blocked due to risk on home tenant."),
    (
        "policy-delegated",
        400,
        "invalid_grant",
        530_034,
        "A delegated administrator was blocked due to suspicious activity.",
    ),
    ("policy-defaults", 400, "invalid_grant", 530_035, "Access has been blocked by security defaults."),
    // Not in the plugin's table: policies get new numbers.
    ("policy-other", 400, "invalid_grant", 530_031, "Access policy does not allow token issuance."),
    ("conditional-access", 400, "invalid_grant", 53_003, "Access has been blocked by Conditional Access policies."),
    ("audience-unknown", 400, "invalid_resource", 500_011, "The resource principal was not found in the tenant."),
    ("scope-invalid", 400, "invalid_scope", 1_002_012, "The provided value for scope is not valid."),
    ("scope-missing", 400, "invalid_scope", 70_011, "The provided request must include a 'scope' input parameter."),
    ("scope-and-resource", 400, "invalid_request", 901_002, "The 'resource' request parameter is not supported."),
    ("cloud-mismatch", 400, "invalid_request", 900_432, "Confidential Client is not supported in Cross Cloud request."),
    ("cloud-cross", 400, "invalid_request", 900_382, "Confidential Client is not supported in Cross Cloud request."),
    (
        "cloud-other",
        400,
        "invalid_request",
        90_038,
        "The tenant belongs to another national cloud than the one that was asked.",
    ),
    ("assertion-time", 401, "invalid_client", 700_024, "Client assertion is not within its valid time range."),
    (
        "assertion-client",
        401,
        "invalid_client",
        700_021,
        "Client assertion application identifier doesn't match 'client_id' parameter.",
    ),
    (
        "assertion-audience",
        401,
        "invalid_client",
        700_023,
        "Client assertion audience claim does not match Realm issuer.",
    ),
    (
        "certificate-expired",
        401,
        "invalid_client",
        1_000_502,
        "The provided certificate is not within its specified validity window.",
    ),
    ("certificate-revoked", 401, "invalid_client", 7_000_214, "Certificate has been revoked."),
    ("certificate-withdrawn", 401, "invalid_client", 7_000_277, "Certificate was revoked."),
    (
        "certificate-not-authorized",
        401,
        "invalid_client",
        700_030,
        "Invalid certificate - subject name in certificate is not authorized.",
    ),
    ("assertion-unregistered", 401, "invalid_client", 700_027, "Client assertion failed signature validation."),
    ("assertion-thumbprint", 401, "invalid_client", 5_002_723, "Invalid JWT token. No certificate thumbprint."),
    ("assertion-algorithm", 401, "invalid_client", 5_002_738, "Invalid JWT token. Unsupported algorithm."),
    (
        "federation-mismatch",
        401,
        "invalid_client",
        700_213,
        "No matching federated identity record found for presented assertion subject.",
    ),
    (
        "federation-none",
        400,
        "invalid_request",
        70_021,
        "No matching federated identity record found for presented assertion.",
    ),
    ("federation-unset", 401, "invalid_client", 70_025, "The client has no configured federated identity credentials."),
    (
        "federation-issuer",
        401,
        "invalid_client",
        700_211,
        "No matching federated identity record found for presented assertion issuer.",
    ),
    (
        "federation-audience",
        401,
        "invalid_client",
        700_212,
        "No matching federated identity record found for presented assertion audience.",
    ),
    (
        "token-loop",
        400,
        "invalid_grant",
        50_196,
        "The server terminated an operation because it encountered a loop while processing a request.",
    ),
    ("token-throttled", 429, "temporarily_unavailable", 90_055, "There are too many incoming requests."),
    ("token-unavailable", 503, "temporarily_unavailable", 90_033, "The service is temporarily unavailable."),
    ("token-unanswered", 503, "temporarily_unavailable", 90_006, "External server timeout."),
    ("token-timeout", 503, "temporarily_unavailable", 90_024, "Request budget exceeded, transient error."),
    ("token-request-timeout", 503, "temporarily_unavailable", 90_012, "The request has timed out."),
    ("token-graph", 503, "server_error", 90_091, "The directory cannot be reached."),
    ("token-retryable", 503, "server_error", 50_033, "A transient error has occurred."),
    ("token-transient", 503, "server_error", 90_090, "The service met a transient error, please retry."),
    // Not in the plugin's table: what Entra adds to its codes is told, too.
    ("token-other", 400, "invalid_request", 165_000, "The request cannot be processed."),
];

/// Refusals of the API: scenario, status, code, text.
const ARM: &[(&str, u16, &str, &str)] = &[
    (
        "token-expired",
        401,
        "ExpiredAuthenticationToken",
        "The access token expiry UTC time is earlier than current UTC time.",
    ),
    ("token-refused", 401, "InvalidAuthenticationToken", "The access token is invalid."),
    (
        "token-outdated",
        401,
        "TokenCreatedWithOutdatedPolicies",
        "Continuous access evaluation resulted in a challenge.",
    ),
    ("token-missing", 401, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."),
    ("wrong-tenant", 401, "InvalidAuthenticationTokenTenant", "The access token is from the wrong issuer."),
    (
        "subscription-invalid",
        400,
        "InvalidSubscriptionId",
        "The provided subscription identifier is malformed or invalid.",
    ),
    ("not-found", 404, "SubscriptionNotFound", "The subscription could not be found."),
    (
        "api-retired",
        404,
        "InvalidResourceType",
        "The resource type could not be found in the namespace for api version '2020-01-01'.",
    ),
    (
        "not-registered",
        409,
        "MissingSubscriptionRegistration",
        "The subscription is not registered to use namespace 'Microsoft.Security'.",
    ),
    ("disabled", 403, "DisabledSubscription", "The subscription is disabled and cannot be used."),
    (
        "disabled-read-only",
        409,
        "ReadOnlyDisabledSubscription",
        "The subscription is disabled and therefore marked as read only.",
    ),
    ("api-unknown", 400, "InvalidApiVersionParameter", "The api-version '2020-01-01' is invalid."),
    ("api-unregistered", 400, "NoRegisteredProviderFound", "No registered resource provider found."),
    ("refused", 400, "BadRequest", "The request is not valid."),
    ("internal-error", 500, "InternalServerError", "Encountered internal server error."),
    ("throttled-service", 429, "TooManyRequests", "The request is throttled."),
    ("throttled-rate", 429, "RateLimiting", "Please provide below info when asking for support."),
    ("unavailable", 503, "ServiceUnavailable", "The service is unavailable."),
    ("server-timeout", 503, "ServerTimeout", "The request timed out."),
    (
        "gateway-timeout",
        504,
        "GatewayTimeout",
        "The gateway did not receive a response within the specified time period.",
    ),
];

/// Answers of the token endpoint that are not built from a table: name and what happens.
const TOKENS: &[(&str, &str)] = &[
    ("token-html", "a proxy's page in place of the token"),
    ("token-error-200", "200 with the service's own refusal, AADSTS7000222"),
    ("token-unusable", "a token that holds a line break"),
    ("token-expired-at-once", "a token that is good for 0 s"),
    ("token-of-proof", "a token of the type `pop`"),
    ("token-echo", "a refusal of the token that holds the secret and a token, in many spellings"),
    ("token-strings", "a token whose numbers are texts, as of version 1; it works"),
];

/// Answers of the API that are not built from a table: name and what happens.
const OTHERS: &[(&str, &str)] = &[
    ("forbidden", "403 that names the application and its object id"),
    ("claims-challenge", "401 that asks for a token with further claims, again and again"),
    ("not-onboarded", "both lists are empty"),
    ("not-onboarded-404", "404 with a body in PascalCase"),
    ("scores-empty", "no score, though there are controls"),
    ("controls-empty", "no controls, though there is a score"),
    ("throttled", "429 with Retry-After of 17 s"),
    ("throttled-backend", "429 that names its seconds only in the text"),
    ("throttled-day", "429 with a day to wait"),
    ("throttled-bare", "429 without the `error` wrapper"),
    ("throttled-once", "429 with Retry-After of 1 s, once; then all is well"),
    ("expand-refused", "400 for `$expand`; the poll goes on without"),
    ("page-cut", "the JSON ends in its middle"),
    ("connection-cut", "the connection ends in the middle of the answer"),
    ("html", "a page for people"),
    ("empty-body", "200 with nothing"),
    ("deep-nesting", "JSON of 100,000 levels"),
    ("invalid-utf8", "bytes that are no UTF-8"),
    ("item-incomplete", "an item without `properties`"),
    ("item-without-id", "an item without `id`"),
    ("value-missing", "an object without `value`"),
    ("number-as-text", "`max` as a text"),
    ("number-huge", "`max` beyond the range of double precision"),
    ("number-huge-unknown", "the same in a property that nobody knows"),
    ("item-foreign", "an item of another subscription among the others"),
    ("error-200", "200 with the service's own refusal, AuthorizationFailed"),
    ("item-other-list", "a secure score among the controls"),
    ("byte-order-mark", "a byte order mark before every body; it works"),
    ("byte-order-mark-error", "a byte order mark before a refusal"),
    ("byte-order-marks", "two byte order marks before a list"),
    ("utf-16", "a list in UTF-16"),
    ("link-odd", "`nextLink` with spaces, quotes and brackets in its query; it is followed"),
    ("link-fragment", "`nextLink` with `#`"),
    ("link-backslash", "`nextLink` with a backslash in its query"),
    ("search-link-odd", "the same spaces, quotes and brackets in the search's `nextLink`; it is followed"),
    ("search-link-foreign", "the search's `nextLink` to another port"),
    ("search-past-due", "the search gives the states PastDue and warned; both are polled"),
];

/// The call that a scenario is about, where it is made for some settings alone: of a tenant that is given by its domain, or
/// with a search for subscriptions.
pub fn asks_for(name: &str) -> Option<EndpointKind> {
    let of = |begin: &str, place: EndpointKind| name.starts_with(begin).then_some(place);
    of("search-", EndpointKind::Search).or_else(|| of("domain-", EndpointKind::Domain))
}

/// Scenarios that have something in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The token endpoint.
    Token,
    /// The API.
    Api,
    /// Somebody in between.
    Foreign,
    /// A service that means harm.
    Hostile,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Token, Kind::Api, Kind::Foreign, Kind::Hostile];

    /// As programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Token => "token",
            Kind::Api => "api",
            Kind::Foreign => "foreign",
            Kind::Hostile => "hostile",
        }
    }

    /// What the scenarios have in common, for people.
    pub fn words(self) -> &'static str {
        match self {
            Kind::Token => "Entra ID refuses the token, or gives an odd one, to the first tenant",
            Kind::Api => {
                "Azure Resource Manager refuses, or answers oddly, for the last subscription of the first tenant"
            }
            Kind::Foreign => "somebody on the way answers in place of the service",
            Kind::Hostile => "the service means harm, or is broken",
        }
    }
}

/// What there is to know of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScenarioInfo {
    /// Its name.
    pub name: &'static str,
    /// What it has in common with others.
    pub kind: Kind,
    /// What it does, on one line.
    pub what: String,
}

/// All scenarios, by kind.
pub fn all() -> impl Iterator<Item = ScenarioInfo> {
    let about = |kind: Kind| move |(name, what): (&'static str, String)| ScenarioInfo { name, kind, what };
    let first = |text: &str| text.split(". ").next().unwrap_or_default().trim_end_matches('.').to_owned();
    let entra = ENTRA.iter().map(move |(name, status, error, code, text)| {
        (*name, format!("{status} {error}, AADSTS{code}: {}", first(text)))
    });
    let arm = ARM.iter().map(move |(name, status, code, text)| (*name, format!("{status} {code}: {}", first(text))));
    let told = |(name, what): &(&'static str, &str)| (*name, (*what).to_owned());
    let gateways = gateways::TABLE.iter().map(|case| (case.name, case.what.to_owned()));
    let hostile = hostile::TABLE.iter().map(|case| (case.name, case.what.to_owned()));
    let of_service = entra.chain(TOKENS.iter().map(told)).map(about(Kind::Token));
    let of_service = of_service.chain(arm.chain(OTHERS.iter().map(told)).map(about(Kind::Api)));
    of_service.chain(gateways.map(about(Kind::Foreign))).chain(hostile.map(about(Kind::Hostile)))
}

/// The names of all scenarios.
pub fn names() -> impl Iterator<Item = &'static str> {
    all().map(|about| about.name)
}

/// The names that are most like this one.
pub fn similar(name: &str) -> Vec<&'static str> {
    let distance = |known: &str| strsim::osa_distance(known, name);
    let words = |text: &str| text.split('-').map(str::to_owned).collect::<Vec<_>>();
    let (written, most) = (words(name), name.chars().count() / 3);
    let has_words = |known: &str| written.iter().all(|word| word.len() > 2 && words(known).contains(word));
    let begins = |known: &str| name.len() > 3 && known.get(..name.len()).is_some_and(|begin| distance(begin) <= most);
    let near = |known: &&str| distance(known) <= most || has_words(known) || begins(known);
    let mut names: Vec<&str> = names().filter(near).collect();
    names.sort_by_key(|known| distance(known));
    names.truncate(SIMILAR);
    names
}

/// So many names are offered in place of an unknown one.
const SIMILAR: usize = 3;

/// The scenario of a name.
pub fn named(name: &str) -> Option<&'static str> {
    names().find(|known| *known == name)
}

/// What a scenario makes of a request; none if it lets it pass. `good` is the answer that it would have had.
pub fn strike(strike: &Strike<'_>, place: EndpointKind, good: Option<(&Value, &Request)>) -> Option<Answer> {
    let name = strike.scenario?;
    if let Some(case) = gateways::named(name) {
        // A firewall that objects to `$expand` lets the same list pass without.
        let spared =
            name == "expand-blocked" && good.is_some_and(|(_, request)| !request.query.contains_key("$expand"));
        return (case.place == place && !spared).then(|| case.answer());
    }
    match (place, good) {
        (EndpointKind::Token, _) => token(strike, name),
        (EndpointKind::Scores, Some((good, _))) => refused(strike, name).or_else(|| scores(strike, name, good)),
        (EndpointKind::Controls, Some((good, request))) => {
            refused(strike, name).or_else(|| controls(strike, name, good, request))
        }
        (EndpointKind::Search, Some((good, request))) => search(strike, name, good, request),
        _ => None,
    }
}

fn token(strike: &Strike<'_>, name: &str) -> Option<Answer> {
    if let Some((_, status, error, code, text)) = ENTRA.iter().find(|row| row.0 == name) {
        let text = if *code == 7_000_215 { format!("{text} '{}'.", strike.client) } else { (*text).to_owned() };
        let answer = entra_error(*status, error, *code, &text, strike.request_id);
        return Some(if *status == 429 { answer.with("retry-after", "600") } else { answer });
    }
    match name {
        "token-echo" => Some(token_echo(strike.secret)),
        "token-error-200" => {
            let text = "The provided client secret keys for app are expired.";
            Some(Answer { status: 200, ..entra_error(401, "invalid_client", 7_000_222, text, strike.request_id) })
        }
        "token-unusable" => Some(token_of("ey.first\nsecond", 3_599, "Bearer")),
        "token-expired-at-once" => Some(token_of("ey.first", 0, "Bearer")),
        "token-of-proof" => Some(token_of("ey.first", 3_599, "pop")),
        "token-html" => Some(Answer::text(200, "text/html", "<!DOCTYPE html><title>Sign in to the network</title>")),
        _ => None,
    }
}

fn token_of(token: &str, seconds: u32, kind: &str) -> Answer {
    Answer::json(200, &json!({ "token_type": kind, "expires_in": seconds, "access_token": token }))
}

fn refused(strike: &Strike<'_>, name: &str) -> Option<Answer> {
    if name == "forbidden" {
        let Strike { client, subscription, .. } = strike;
        let text = format!(
            "The client '{client}' with object id '{OBJECT_ID}' does not have authorization to perform action \
             'Microsoft.Security/secureScores/read' over scope '/subscriptions/{subscription}' or the scope is invalid. If \
             access was recently granted, please refresh your credentials."
        );
        return Some(arm_error(403, "AuthorizationFailed", &text));
    }
    if name == "claims-challenge" {
        // {"access_token":{"nbf":{"essential":true,"value":"1790000000"}}}
        let claims = "eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsdWUiOiIxNzkwMDAwMDAwIn19fQ==";
        let challenge = format!("Bearer realm=\"\", error=\"insufficient_claims\", claims=\"{claims}\"");
        let text = "Continuous access evaluation resulted in a challenge.";
        return Some(arm_error(401, "InvalidAuthenticationToken", text).with("www-authenticate", &challenge));
    }
    if name == "byte-order-mark-error" {
        let refusal = arm_error(404, "SubscriptionNotFound", "The subscription could not be found.");
        return Some(refusal.marked());
    }
    ARM.iter().find(|row| row.0 == name).map(|(_, status, code, text)| arm_error(*status, code, text))
}

/// What strikes both lists, or the first one alone.
fn scores(strike: &Strike<'_>, name: &str, good: &Value) -> Option<Answer> {
    let json = |text: String| Answer::text(200, "application/json; charset=utf-8", text);
    let throttled = "Number of 'read' requests exceeded.";
    Some(match name {
        "not-onboarded" | "scores-empty" => Answer::json(200, &json!({ "value": [] })),
        "not-onboarded-404" => {
            let text = format!("Secure score 'ascScore' does not exist in scope '{}'", strike.subscription);
            Answer::json(404, &json!({ "Error": { "Code": "ResourceNotFound", "Message": text } }))
        }
        "throttled" => arm_error(429, "SubscriptionRequestsThrottled", throttled).with("retry-after", "17"),
        "throttled-day" => arm_error(429, "SubscriptionRequestsThrottled", throttled).with("retry-after", "86400"),
        "throttled-once" if strike.strikes == 0 => {
            arm_error(429, "SubscriptionRequestsThrottled", throttled).with("retry-after", "1")
        }
        "throttled-backend" => {
            let text = "Number of requests exceeded the backend storage limit. Please try again after '16' seconds.";
            arm_error(429, "SubscriptionRequestsThrottled", text)
        }
        "throttled-bare" => {
            Answer::json(429, &json!({ "Code": "429", "Message": throttled })).with("retry-after", "17")
        }
        "html" => Answer::text(200, "text/html", "<!DOCTYPE html><html><title>Blocked by policy</title></html>"),
        "empty-body" => json(String::new()),
        "deep-nesting" => json(format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))),
        "oversized" => json(format!("{{\"value\":[],\"filler\":\"{}\"}}", "x".repeat(9 << 20))),
        "invalid-utf8" => Answer::text(200, "application/json", b"{\"value\":[],\"x\":\"\xff\xfe\"}".to_vec()),
        "byte-order-marks" => Answer::json(200, good).marked().marked(),
        "utf-16" => Answer::text(
            200,
            "application/json",
            good.to_string().encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>(),
        ),
        "error-200" => {
            Answer { status: 200, ..arm_error(403, "AuthorizationFailed", "The client has no authorization.") }
        }
        "value-missing" => Answer::json(200, &json!({ "items": good["value"] })),
        "redirect-metadata" => Answer::text(307, "text/plain", "")
            .with("location", "http://169.254.169.254/metadata/identity/oauth2/token"),
        "redirect" => Answer::text(302, "text/plain", "").with("location", "https://elsewhere.example/login"),
        _ => return None,
    })
}

/// What strikes the second list alone, and thereby a poll that read good pages before.
fn controls(strike: &Strike<'_>, name: &str, good: &Value, request: &Request) -> Option<Answer> {
    let page = |link: String| Some(Answer::json(200, &json!({ "value": good["value"], "nextLink": link })));
    let here = |skip: &str| format!("{}{}&$skiptoken={skip}", strike.url, controls_path(strike.subscription));
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut edited = good.clone();
        edit(&mut edited["value"][0]);
        Some(Answer::json(200, &edited))
    };
    let skip = request.query.get("$skiptoken").map(String::as_str);
    match name {
        "not-onboarded" | "controls-empty" => Some(Answer::json(200, &json!({ "value": [] }))),
        "expand-refused" if request.query.contains_key("$expand") => {
            Some(arm_error(400, "BadRequest", "The query parameter '$expand' is not supported."))
        }
        "page-cut" => {
            let text = good.to_string();
            Some(Answer::text(200, "application/json; charset=utf-8", &text.as_bytes()[..text.len() / 2]))
        }
        "connection-cut" => Some(Answer { cut: true, ..Answer::json(200, good) }),
        "link-lookalike" => page(here("1").replacen("/subscriptions", ".evil.example/subscriptions", 1)),
        "link-userinfo" => page(here("1").replacen("/subscriptions", "@evil.example/subscriptions", 1)),
        "link-private" => page("https://10.0.0.1/subscriptions".to_owned()),
        "link-metadata" => page("http://2852039166/metadata/instance".to_owned()),
        "link-other-list" => page(here("1").replacen("secureScoreControls", "secureScores", 1)),
        "link-climbing" => page(here("1").replacen("secureScoreControls", "../../../tenants", 1)),
        "link-odd" if skip.is_none() => page(here(ODD)),
        "link-fragment" => page(here("1#2")),
        "link-backslash" => page(here("1\\2")),
        "type-wrong" => Some(Answer::text(200, "image/png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec())),
        "echo" => request.bearer.as_deref().map(|bearer| echo(good, bearer)),
        "echo-lines" => request.bearer.as_deref().map(|bearer| echo_in_lines(good, bearer)),
        "echo-utf16" | "echo-utf16-bare" | "echo-utf32" | "echo-utf7" => {
            request.bearer.as_deref().map(|bearer| echo_in_charset(good, bearer, name))
        }
        "link-foreign" => page("https://evil.example/subscriptions".to_owned()),
        "link-http" => page(here("1").replacen("https:", "http:", 1)),
        "link-self" => page(here(skip.unwrap_or("self"))),
        "link-loop" => page(here(if skip == Some("a") { "b" } else { "a" })),
        "link-endless" => page(here(&format!("{}", skip.and_then(|skip| skip.parse().ok()).unwrap_or(0) + 1))),
        "item-incomplete" => edited(&|item| drop(item.as_object_mut().and_then(|item| item.remove("properties")))),
        "item-without-id" => edited(&|item| drop(item.as_object_mut().and_then(|item| item.remove("id")))),
        "number-as-text" => edited(&|item| item["properties"]["score"]["max"] = Value::from("10")),
        "number-huge" | "number-huge-unknown" => {
            let known = name == "number-huge";
            let mut edited = good.clone();
            let properties = &mut edited["value"][0]["properties"];
            *if known { &mut properties["score"]["max"] } else { &mut properties["novel"] } = Value::from("HUGE");
            // A value of this kind has no room for it.
            Some(Answer::text(200, "application/json", edited.to_string().replacen("\"HUGE\"", "1e400", 1)))
        }
        "item-foreign" => edited(&|item| {
            let id = item["id"].as_str().unwrap_or_default();
            item["id"] = Value::from(id.replacen(strike.subscription, "00000000-0000-4f6b-b1d0-000000000000", 1));
        }),
        "item-other-list" => edited(&|item| {
            let id = item["id"].as_str().unwrap_or_default();
            let score = id.split("/secureScoreControls").next().unwrap_or_default();
            item["id"] = Value::from(score);
            item["type"] = Value::from("Microsoft.Security/secureScores");
        }),
        _ if hostile::named(name).is_some_and(hostile::ScriptedService::is_scripted) => {
            Some(Answer { raw: true, ..Answer::json(200, good) })
        }
        _ => None,
    }
}

/// A part of a query with what services forget to encode.
const ODD: &str = "2 \"b\" [c]&filter=<d> {e}|^`";

/// What strikes the search for subscriptions.
fn search(strike: &Strike<'_>, name: &str, good: &Value, request: &Request) -> Option<Answer> {
    let skip = request.query.get("$skiptoken");
    let (first, rest) = good["value"].as_array()?.split_first()?;
    let page = |link: String| Some(Answer::json(200, &json!({ "value": [first], "nextLink": link })));
    let here = |origin: &str, skip: &str| format!("{origin}/subscriptions?api-version=2022-12-01&$skiptoken={skip}");
    match (name, skip) {
        ("search-link-odd", None) => page(here(strike.url, ODD)),
        ("search-link-odd", Some(_)) => Some(Answer::json(200, &json!({ "value": rest }))),
        ("search-link-foreign", _) => page(here("https://127.0.0.1:1", "2")),
        ("search-past-due", _) => {
            let mut edited = good.clone();
            edited["value"][0]["state"] = Value::from("warned");
            edited["value"][1]["state"] = Value::from("PastDue");
            Some(Answer::json(200, &edited))
        }
        _ => None,
    }
}

/// A refusal with everything in it that a plugin must not see.
fn token_echo(secret: &str) -> Answer {
    let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let body = json!({
        "error": format!("no {secret}"),
        "error_description": format!("AADSTS7000215: '{percent}' is not {secret}"),
        "error_codes": [7_000_215, secret],
        "trace_id": secret,
        "access_token": secret,
        "innererror": { "body": secret },
    });
    Answer::json(401, &body).with("location", secret).with("x-ms-request-id", secret).with("set-cookie", secret)
}

/// The good page with the token in it, broken into pieces.
fn echo_in_lines(good: &Value, bearer: &str) -> Answer {
    let broken = |text: &str, columns: usize, filling: &str| {
        let characters: Vec<char> = text.chars().collect();
        characters.chunks(columns).map(String::from_iter).collect::<Vec<_>>().join(filling)
    };
    let base64 = BASE64_STANDARD.encode(format!("Bearer {bearer}"));
    let mut page = good.clone();
    page["value"][0]["properties"]["displayName"] = Value::from(format!("control of {}", broken(bearer, 1, "\0")));
    page["value"][0]["echo"] = Value::from(broken(bearer, 8, "\r\n"));
    page["echo"] = json!([broken(&base64, 64, "\n"), broken(&base64, 76, "\r\n")]);
    Answer::json(200, &page)
}

/// The good page with the token in it, in the charset of a scenario.
fn echo_in_charset(good: &Value, bearer: &str, scenario: &str) -> Answer {
    let mut page = good.clone();
    page["value"][0]["properties"]["displayName"] = Value::from(format!("control of {bearer}"));
    let text = page.to_string();
    let utf16 = || text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (charset, body): (_, Vec<u8>) = match scenario {
        "echo-utf16" => ("; charset=utf-16", utf16()),
        "echo-utf16-bare" => ("", utf16()),
        "echo-utf32" => ("; charset=utf-32", text.chars().flat_map(|one| u32::from(one).to_be_bytes()).collect()),
        _ => ("; charset=utf-7", text.replace('+', "+-").replace('~', "+AH4-").into_bytes()),
    };
    Answer::text(200, &format!("application/json{charset}"), body)
}

/// The good page with the token in it, wherever a service could put it.
fn echo(good: &Value, bearer: &str) -> Answer {
    let percent: String = bearer.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let unicode: String = bearer.bytes().map(|byte| format!("\\u{:04x}", u32::from(byte))).collect();
    let hex: String = bearer.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut page = good.clone();
    page["echo"] = json!({ "plain": bearer, "percent": percent, "hex": hex, bearer: true });
    page["value"][0]["properties"]["displayName"] = Value::from(format!("control of {bearer}"));
    page["value"][0]["echo"] = Value::from(format!("Bearer {bearer}"));
    let text = page.to_string().replacen("\"echo\":", &format!("\"unicode\":\"{unicode}\",\"echo\":"), 1);
    Answer::text(200, "application/json", text).with("x-echo", bearer).with(&format!("x-{bearer}"), "1")
}
