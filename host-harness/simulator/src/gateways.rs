//! Machines that answer in the service's place: proxies, firewalls, gateways and login pages. One table has their
//! answers, and the calls that get these answers.

use super::answer::{Answer, EndpointKind};

/// An answer that does not come from the service.
#[derive(Debug)]
pub struct GatewayAnswer {
    /// Name of the scenario.
    pub name: &'static str,
    /// The call that gets the answer.
    pub place: EndpointKind,
    /// The answer in words for people.
    pub what: &'static str,
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
}

/// The page of Azure Front Door's firewall.
const BLOCKED: &str = "<!DOCTYPE html PUBLIC '-//W3C//DTD XHTML 1.0 Transitional//EN'><html><head><title></title></head>\
    <body id='blocked'><h2>The request is blocked.</h2></body></html>";

const PORTAL: &str = "<!DOCTYPE html><html><title>Sign in to the network</title><form method=post></form></html>";

const GATEWAY: &str = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>";

const DENIED: &str = "<!DOCTYPE html><html><title>407</title><body>Access denied: sign in to the proxy.</body></html>";

const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");
const JSON: (&str, &str) = ("content-type", "application/json");
const TEXT: (&str, &str) = ("content-type", "text/plain");

const fn row(
    (name, place): (&'static str, EndpointKind),
    (status, headers): (u16, &'static [(&'static str, &'static str)]),
    body: &'static str,
    what: &'static str,
) -> GatewayAnswer {
    GatewayAnswer { name, place, what, status, headers, body }
}

/// All such answers.
pub const TABLE: &[GatewayAnswer] = &[
    row(
        ("blocked", EndpointKind::Scores),
        (403, &[HTML, ("x-azure-ref", "0AbC")]),
        BLOCKED,
        "403 with a firewall's page",
    ),
    row(("blocked-controls", EndpointKind::Controls), (403, &[HTML]), BLOCKED, "the same for the second list alone"),
    row(("blocked-empty", EndpointKind::Scores), (403, &[("server", "gate/2.1")]), "", "403 with nothing"),
    row(
        ("blocked-json", EndpointKind::Scores),
        (403, &[JSON, ("via", "1.1 gate.example")]),
        r#"{"message":"Forbidden"}"#,
        "403 of an API gateway, in JSON of its own",
    ),
    row(
        ("blocked-json-text", EndpointKind::Scores),
        (403, &[JSON]),
        r#"{"error":"Forbidden","path":"/subscriptions"}"#,
        "403 with an `error` that is a text",
    ),
    row(("blocked-json-list", EndpointKind::Scores), (403, &[JSON]), r#"["Forbidden"]"#, "403 with a list in JSON"),
    row(
        ("blocked-json-cut", EndpointKind::Scores),
        (403, &[JSON]),
        r#"{"error":{"code":"AuthorizationFailed","mess"#,
        "403 whose JSON ends in its middle",
    ),
    row(
        ("expand-blocked", EndpointKind::Controls),
        (400, &[HTML]),
        BLOCKED,
        "400 of a firewall for `$expand`, with a page",
    ),
    row(("login-page", EndpointKind::Scores), (401, &[HTML]), PORTAL, "401 with a page, which challenges for nothing"),
    row(
        ("login-challenge", EndpointKind::Scores),
        (401, &[HTML, ("www-authenticate", "Negotiate"), ("www-authenticate", "bearer realm=\"gate\"")]),
        PORTAL,
        "401 with a page, which challenges for a token",
    ),
    row(
        ("proxy-login", EndpointKind::Scores),
        (407, &[HTML, ("proxy-authenticate", "Basic realm=\"proxy\"")]),
        DENIED,
        "407 of a proxy that nobody configured",
    ),
    row(("gateway-404", EndpointKind::Scores), (404, &[TEXT]), "no such host", "404 of a gateway, in plain text"),
    row(
        ("gateway-502", EndpointKind::Scores),
        (502, &[HTML, ("server", "nginx")]),
        GATEWAY,
        "502 of a gateway, with a page",
    ),
    row(
        ("gateway-503", EndpointKind::Scores),
        (503, &[HTML, ("retry-after", "17")]),
        GATEWAY,
        "503 of a gateway with Retry-After of 17 s, and a page",
    ),
    row(
        ("gateway-429", EndpointKind::Scores),
        (429, &[HTML, ("retry-after", "17")]),
        GATEWAY,
        "429 of a gateway with Retry-After of 17 s, and a page",
    ),
    row(
        ("captive", EndpointKind::Scores),
        (200, &[("content-type", "application/captive+json")]),
        r#"{"captive":true,"user-portal-url":"https://portal.example/"}"#,
        "200 with a captive portal's JSON",
    ),
    row(("captive-text", EndpointKind::Scores), (200, &[]), "Sign in first", "200 with a text of no stated type"),
    row(
        ("token-captive", EndpointKind::Token),
        (200, &[("content-type", "application/captive+json")]),
        r#"{"captive":true,"user-portal-url":"https://portal.example/"}"#,
        "200 with a captive portal's JSON in place of the token",
    ),
    row(("accepted", EndpointKind::Scores), (202, &[JSON]), "", "202 with nothing"),
    row(("no-content", EndpointKind::Scores), (204, &[]), "", "204, which has no body"),
    row(("partial", EndpointKind::Scores), (206, &[JSON]), r#"{"value":[]}"#, "206 with an empty list"),
    row(
        ("token-blocked", EndpointKind::Token),
        (403, &[HTML]),
        BLOCKED,
        "403 with a firewall's page in place of the token",
    ),
    row(("token-login-page", EndpointKind::Token), (401, &[HTML]), PORTAL, "401 with a page in place of the token"),
    row(("token-proxy-login", EndpointKind::Token), (407, &[HTML]), DENIED, "407 in place of the token"),
    row(
        ("token-gateway", EndpointKind::Token),
        (502, &[HTML, ("server", "nginx")]),
        GATEWAY,
        "502 with a page in place of the token",
    ),
    row(
        ("token-blocked-json", EndpointKind::Token),
        (400, &[JSON]),
        r#"{"error":"Forbidden"}"#,
        "400 with an `error` that is none of Entra ID's",
    ),
    row(
        ("token-redirect", EndpointKind::Token),
        (302, &[("location", "https://portal.example/login")]),
        "",
        "302 to a login page in place of the token",
    ),
    row(("token-no-content", EndpointKind::Token), (204, &[]), "", "204 in place of the token"),
    row(("search-blocked", EndpointKind::Search), (403, &[HTML]), BLOCKED, "403 with a firewall's page for the search"),
    row(("search-page", EndpointKind::Search), (200, &[HTML]), PORTAL, "a login page in place of the search's answer"),
    row(("search-gateway", EndpointKind::Search), (404, &[TEXT]), "no such host", "404 of a gateway for the search"),
    row(
        ("domain-blocked", EndpointKind::Domain),
        (403, &[HTML]),
        BLOCKED,
        "403 with a firewall's page for the tenant's domain",
    ),
];

/// Finds the answer of a scenario.
pub fn named(name: &str) -> Option<&'static GatewayAnswer> {
    TABLE.iter().find(|case| case.name == name)
}

impl GatewayAnswer {
    pub(super) fn answer(&self) -> Answer {
        let headers = self.headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let headers = headers.collect();
        Answer { status: self.status, headers, body: self.body.into(), cut: false, raw: false, foreign: true }
    }
}
