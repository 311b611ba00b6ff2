//! The names of all scenarios, with one line about each.

use crate::answer::EndpointKind;
use crate::{gateways, hostile};

/// The object id of the first tenant's application in the service's answers.
pub const OBJECT_ID: &str = "0b5e9c7a-63d1-4c0e-9f18-7a2d4e6b8c01";

/// The first sentences of AADSTS7000215.
pub const SECRET_INVALID: &str = "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app";

/// Refusals of the token endpoint: scenario, status, `error`, AADSTS code, text.
pub(super) const ENTRA: &[(&str, u16, &str, u32, &str)] = &[
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
    // This code is not in the plugin's table: policies get new codes.
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
    // This code is not in the plugin's table: the plugin also reports the text that Entra ID adds to its codes.
    ("token-other", 400, "invalid_request", 165_000, "The request cannot be processed."),
];

/// Refusals of the API: scenario, status, code, text.
pub(super) const ARM: &[(&str, u16, &str, &str)] = &[
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

/// Answers of the token endpoint that are not built from a table: name and description.
const TOKENS: &[(&str, &str)] = &[
    ("token-html", "a proxy's page in place of the token"),
    ("token-error-200", "200 with the service's own refusal, AADSTS7000222"),
    ("token-unusable", "a token that holds a line break"),
    ("token-expired-at-once", "a token that is good for 0 s"),
    ("token-of-proof", "a token of the type `pop`"),
    ("token-echo", "a refusal of the token that holds the secret and a token, in many spellings"),
    ("token-strings", "a token whose numbers are texts, as of version 1; it works"),
];

/// Answers of the API that are not built from a table: name and description.
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
    ("expand-refused", "400 for `$expand`; the poll continues without it"),
    ("page-cut", "JSON that ends in its middle"),
    ("connection-cut", "the connection ends in the middle of the answer"),
    ("html", "a page for people"),
    ("empty-body", "200 with nothing"),
    ("deep-nesting", "JSON of 100,000 levels"),
    ("invalid-utf8", "bytes that are not UTF-8"),
    ("item-incomplete", "an item without `properties`"),
    ("item-without-id", "an item without `id`"),
    ("value-missing", "an object without `value`"),
    ("number-as-text", "`max` as a text"),
    ("number-huge", "`max` beyond the range of double precision"),
    ("number-huge-unknown", "the same in a property that nobody knows"),
    ("item-foreign", "an item of another subscription among the others"),
    ("error-200", "200 with the service's own refusal, AuthorizationFailed"),
    ("item-other-list", "a secure score among the controls"),
    ("item-twice", "an item appears twice"),
    ("item-large", "a property that nobody knows, too long for an event"),
    ("sum-off", "the controls have fewer points than the score; it works"),
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
    ("search-refused", "403 AuthorizationFailed for the search"),
    ("search-delegated", "the search gives a subscription of another tenant, too"),
];

/// Returns the call that a scenario affects, if only some settings cause the call: a tenant given by its domain, or a
/// search for subscriptions.
pub fn asks_for(name: &str) -> Option<EndpointKind> {
    let of = |begin: &str, place: EndpointKind| name.starts_with(begin).then_some(place);
    of("search-", EndpointKind::Search).or_else(|| of("domain-", EndpointKind::Domain))
}

/// The group of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Scenarios of the token endpoint.
    Token,
    /// Scenarios of the API.
    Api,
    /// Scenarios of machines in between.
    Foreign,
    /// Scenarios of a malicious service.
    Hostile,
}

impl Kind {
    /// All groups.
    pub const ALL: [Kind; 4] = [Kind::Token, Kind::Api, Kind::Foreign, Kind::Hostile];

    /// The name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Token => "token",
            Kind::Api => "api",
            Kind::Foreign => "foreign",
            Kind::Hostile => "hostile",
        }
    }

    /// The common property of the group's scenarios, for people.
    pub fn heading(self) -> &'static str {
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

/// Facts about a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScenarioInfo {
    /// Name of the scenario.
    pub name: &'static str,
    /// Group of the scenario.
    pub kind: Kind,
    /// The behaviour, on one line.
    pub what: String,
}

/// Returns all scenarios, by group.
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

/// Returns the names of all scenarios.
pub fn names() -> impl Iterator<Item = &'static str> {
    all().map(|about| about.name)
}

/// Finds the scenario with a name.
pub fn named(name: &str) -> Option<&'static str> {
    names().find(|known| *known == name)
}
