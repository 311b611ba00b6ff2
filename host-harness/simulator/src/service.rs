//! The answers of the simulated service: Entra ID's token endpoint and Azure Resource Manager, as far as a reader of
//! secure scores uses them. The answers depend only on the request and on the tokens that the service gave before.

use std::collections::{BTreeMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::{Answer, EndpointKind, Request, arm_error, controls_path, entra_error};
use super::assertion::{self, Registered};
use super::estate::{Estate, Subscription, Tenant};
use super::scenario::{self, SignInAttempt, Strike};

/// Value of a tag on every subscription.
pub const COST_CENTER: &str = "cost-center-4711";

/// Number of controls on one page, unless the world has another.
const PAGE: usize = 10;

/// Number of requests for tokens that the service remembers.
const SIGN_INS: usize = 64;

/// The service and its memory.
#[derive(Debug, Clone)]
pub struct World {
    /// The tenants, which may change at any time.
    pub estate: Estate,
    /// Whether there will be further subscriptions, so that a configuration should ask for all.
    pub more_to_come: bool,
    /// The scenario that the service plays.
    pub scenario: Option<&'static str>,
    /// Origin of both services.
    pub url: String,
    /// The origin of Entra ID, if it is not `url`.
    pub authority: Option<String>,
    /// The audience of tokens, if it is not `url`.
    pub audience: Option<String>,
    /// Number of controls on one page.
    pub page: usize,
    /// Certificates that are registered with every application.
    pub certificates: Vec<Registered>,
    /// Tokens of another identity provider that every application trusts.
    pub federated: Vec<String>,
    /// Unix time in seconds at which assertions are judged; without it, the machine's time.
    pub now: Option<u64>,
    sign_ins: VecDeque<Value>,
    tokens: BTreeMap<String, String>,
    strikes: usize,
    requests: usize,
    visits: Option<Vec<Visit>>,
}

/// Begins every token.
const TOKEN_PREFIX: &str = "eySimulated.";

/// A token of a tenant, which only the knowledge of the tenant's secret can make.
fn token_of(tenant: &Tenant, nonce: Uuid) -> String {
    let proof = Uuid::new_v5(&nonce, format!("{}\n{}", tenant.id, tenant.client_secret).as_bytes());
    format!("{TOKEN_PREFIX}{}{}", nonce.simple(), proof.simple())
}

/// The machine's Unix time in seconds.
fn machine_time() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the one place of the simulator that asks the machine for the time")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0, |since_epoch| since_epoch.as_secs())
}

/// A request and its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// Number of the connection, counted from 1.
    pub connection: usize,
    /// Whether the TLS session resumes an earlier one.
    pub resumed: bool,
    /// Id of the tenant that the request is for.
    pub tenant: String,
}

impl World {
    /// Makes a world with an estate and a scenario.
    pub fn new(estate: Estate, scenario: Option<&'static str>) -> World {
        World {
            estate,
            more_to_come: false,
            scenario,
            url: String::new(),
            authority: None,
            audience: None,
            page: PAGE,
            certificates: Vec::new(),
            federated: Vec::new(),
            now: None,
            sign_ins: VecDeque::new(),
            tokens: BTreeMap::new(),
            strikes: 0,
            requests: 0,
            visits: None,
        }
    }

    /// Records from now on which connection serves which tenant.
    pub fn watch(&mut self) {
        self.visits = Some(Vec::new());
    }

    /// The recorded requests.
    pub fn visits(&self) -> &[Visit] {
        self.visits.as_deref().unwrap_or_default()
    }

    /// All tokens that the service gave.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.tokens.keys().map(String::as_str)
    }

    pub(super) fn note(&mut self, visit: Visit) {
        if let Some(visits) = &mut self.visits {
            visits.push(visit);
        }
    }

    /// The tenant that a request is for, by its token or by the path of the token endpoint.
    pub(super) fn tenant_of(&self, request: &Request) -> Option<String> {
        match &request.bearer {
            Some(bearer) => self.tenant_of_token(bearer),
            None => request.path.split('/').nth(1).and_then(|id| self.tenant(id)).map(|tenant| tenant.id.clone()),
        }
    }

    /// The origin of Entra ID.
    fn authority(&self) -> &str {
        self.authority.as_ref().unwrap_or(&self.url)
    }

    /// The audience of tokens.
    pub fn audience(&self) -> String {
        self.audience.clone().unwrap_or_else(|| self.url.clone())
    }

    /// Answers a request.
    pub fn answer(&mut self, request: &Request) -> Answer {
        self.requests += 1;
        let id = format!("{:08x}-51c0-4e0a-9d3e-{:012x}", self.requests, self.requests);
        let segments: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        let answer = match (request.method.as_str(), segments.as_slice()) {
            ("GET", [tenant, "v2.0", ".well-known", "openid-configuration"]) => self.openid(tenant),
            ("POST", [tenant, "oauth2", "v2.0", "token"]) => self.token(tenant, request, &id),
            ("GET", ["simulator", "sign-ins"]) => Answer::json(200, &json!(self.sign_ins)),
            ("GET", ["subscriptions"]) => self.subscriptions(request),
            ("GET", ["subscriptions", id, "providers", provider, collection])
                if provider.eq_ignore_ascii_case("Microsoft.Security") =>
            {
                self.collection(id, collection, request)
            }
            _ => arm_error(404, "InvalidResourceType", "The resource type could not be found in the namespace."),
        };
        let answer = if self.scenario == Some("byte-order-mark") { answer.marked() } else { answer };
        if answer.foreign {
            return answer;
        }
        answer.with("x-ms-request-id", &id).with("x-ms-correlation-request-id", &id)
    }

    fn tenant(&self, id: &str) -> Option<&Tenant> {
        let same = |tenant: &&Tenant| {
            tenant.id.eq_ignore_ascii_case(id) || id.eq_ignore_ascii_case(&format!("{}.example", tenant.name))
        };
        self.estate.tenants.iter().find(same)
    }

    fn openid(&self, tenant: &str) -> Answer {
        let Some(tenant) = self.tenant(tenant) else {
            return entra_error(400, "invalid_tenant", 90_002, &format!("Tenant '{tenant}' not found."), "");
        };
        if let Some(answer) = self.strike_tenant(tenant, EndpointKind::Domain, None) {
            return answer;
        }
        let base = format!("{}/{}", self.authority(), tenant.id);
        Answer::json(
            200,
            &json!({
                "token_endpoint": format!("{base}/oauth2/v2.0/token"),
                "token_endpoint_auth_methods_supported": ["client_secret_post"],
                "jwks_uri": format!("{base}/discovery/v2.0/keys"),
                "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
                "issuer": format!("{base}/v2.0"),
                "tenant_region_scope": "EU",
            }),
        )
    }

    fn token(&mut self, id: &str, request: &Request, request_id: &str) -> Answer {
        let refuse = |status, error: &str, code, text: &str| entra_error(status, error, code, text, request_id);
        let audience = self.audience();
        let Some(tenant) = self.tenant(id).cloned() else {
            return refuse(400, "invalid_request", 90_002, &format!("Tenant '{id}' not found."));
        };
        let field = |name: &str| request.form.get(name).map_or("", String::as_str);
        self.remember(&tenant.id, &request.form);
        if self.scenario.is_some() && tenant.id == self.estate.tenants[0].id {
            let strike = Strike {
                scenario: self.scenario,
                strikes: self.strikes,
                url: &self.url,
                subscription: None,
                client: &tenant.client_id,
                sign_in: Some(SignInAttempt { request_id, secret: field("client_secret") }),
            };
            if let Some(answer) = scenario::strike(&strike, EndpointKind::Token, None) {
                return answer;
            }
        }
        if field("grant_type") != "client_credentials" {
            return refuse(400, "unsupported_grant_type", 70_003, "The app requested an unsupported grant type.");
        }
        let client = field("client_id");
        if !client.eq_ignore_ascii_case(&tenant.client_id) {
            let text = format!("Application with identifier '{client}' was not found in the directory '{id}'.");
            return refuse(400, "unauthorized_client", 700_016, &text);
        }
        if !field("client_assertion").is_empty() && field("client_secret").is_empty() {
            if let Some(answer) = self.assertion_refused(&tenant, id, request, request_id) {
                return answer;
            }
        } else if field("client_secret").is_empty() {
            let text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
            return refuse(401, "invalid_client", 7_000_218, text);
        } else if field("client_secret") != tenant.client_secret {
            let text = format!("{} '{client}'.", scenario::SECRET_INVALID);
            return refuse(401, "invalid_client", 7_000_215, &text);
        }
        if field("scope") != format!("{audience}/.default") {
            let text = format!(
                "The resource principal named {} was not found in the tenant named {}.",
                field("scope").trim_end_matches("/.default"),
                tenant.name
            );
            return refuse(400, "invalid_resource", 500_011, &text);
        }
        let token = token_of(&tenant, Uuid::new_v4());
        self.tokens.insert(token.clone(), tenant.id);
        let life = if self.scenario == Some("token-strings") { json!("3599") } else { json!(3599) };
        Answer::json(
            200,
            &json!({ "token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": token }),
        )
    }

    /// Returns the refusal if an assertion does not prove the client's identity.
    fn assertion_refused(&self, tenant: &Tenant, id: &str, request: &Request, request_id: &str) -> Option<Answer> {
        let field = |name: &str| request.form.get(name).map_or("", String::as_str);
        if field("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
            let text = "The request body must contain the following parameter: 'client_assertion_type'.";
            return Some(entra_error(400, "invalid_request", 900_144, text, request_id));
        }
        let assertion = field("client_assertion");
        if self.federated.iter().any(|known| known == assertion) {
            return None;
        }
        let issuer = assertion::parts(assertion).map(|(_, claims)| claims["iss"].clone());
        if issuer.as_ref().and_then(Value::as_str).is_some_and(|issuer| issuer.starts_with("https://")) {
            let text = "No matching federated identity record found for presented assertion.";
            return Some(entra_error(401, "invalid_client", 700_213, text, request_id));
        }
        let audiences = [id, &tenant.id].map(|tenant| format!("{}/{tenant}/oauth2/v2.0/token", self.authority()));
        let now = self.now.unwrap_or_else(machine_time);
        let refusal = assertion::refusal(assertion, &tenant.client_id, &audiences, &self.certificates, now);
        refusal.map(|(code, text)| entra_error(401, "invalid_client", code, text, request_id))
    }

    /// Remembers the parameters of a request for a token, without secrets, to compare clients.
    fn remember(&mut self, tenant: &str, form: &BTreeMap<String, String>) {
        let shown = form.iter().map(|(name, value)| match name.as_str() {
            "client_secret" | "client_assertion" => (name.clone(), Value::Null),
            _ => (name.clone(), Value::from(value.clone())),
        });
        let mut sign_in = json!({ "tenant": tenant, "form": Value::Object(shown.collect()) });
        if let Some((header, claims)) = form.get("client_assertion").and_then(|token| assertion::parts(token)) {
            sign_in["header"] = header;
            sign_in["claims"] = claims;
        }
        self.sign_ins.push_back(sign_in);
        if self.sign_ins.len() > SIGN_INS {
            self.sign_ins.pop_front();
        }
    }

    /// The parameters of requests for tokens, the latest last; the service also shows them at `/simulator/sign-ins`.
    pub fn sign_ins(&self) -> impl DoubleEndedIterator<Item = &Value> {
        self.sign_ins.iter()
    }

    /// Id of the tenant that got a token. As those of Entra ID, a token is good until it expires, also at a service that
    /// was started again.
    pub fn tenant_of_token(&self, token: &str) -> Option<String> {
        let of_another_run = || {
            let nonce = token.strip_prefix(TOKEN_PREFIX)?.get(..32).and_then(|nonce| Uuid::parse_str(nonce).ok())?;
            self.estate.tenants.iter().find(|tenant| token_of(tenant, nonce) == token).map(|tenant| tenant.id.clone())
        };
        self.tokens.get(token).cloned().or_else(of_another_run)
    }

    /// The tenant of a request's token.
    fn signed_in(&self, request: &Request) -> Result<&Tenant, Answer> {
        let Some(bearer) = &request.bearer else {
            let text = "Authentication failed. The 'Authorization' header is missing.";
            return Err(arm_error(401, "AuthenticationFailed", text));
        };
        let tenant = self.tenant_of_token(bearer).and_then(|id| self.tenant(&id));
        tenant.ok_or_else(|| arm_error(401, "InvalidAuthenticationToken", "The access token is invalid."))
    }

    /// Returns a scenario's answer to a request that concerns a whole tenant and carries no secret.
    fn strike_tenant(&self, tenant: &Tenant, place: EndpointKind, good: Option<(&Value, &Request)>) -> Option<Answer> {
        let is_first = self.estate.tenants.first().is_some_and(|first| first.id == tenant.id);
        let strike = Strike {
            scenario: self.scenario,
            strikes: self.strikes,
            url: &self.url,
            subscription: None,
            client: &tenant.client_id,
            sign_in: None,
        };
        is_first.then(|| scenario::strike(&strike, place, good)).flatten()
    }

    fn subscriptions(&self, request: &Request) -> Answer {
        let tenant = match self.signed_in(request) {
            Ok(tenant) => tenant,
            Err(answer) => return answer,
        };
        let items = tenant.subscriptions.iter().map(|subscription| {
            json!({
                "id": format!("/subscriptions/{}", subscription.id),
                "authorizationSource": "RoleBased",
                "managedByTenants": [],
                "subscriptionId": subscription.id,
                "tenantId": tenant.id,
                "displayName": subscription.name,
                "state": subscription.state,
                "tags": { "costCenter": COST_CENTER },
            })
        });
        let items: Vec<Value> = items.collect();
        let good = json!({ "value": items, "count": { "type": "Total", "value": items.len() } });
        let struck = self.strike_tenant(tenant, EndpointKind::Search, Some((&good, request)));
        struck.unwrap_or_else(|| Answer::json(200, &good))
    }

    fn collection(&mut self, id: &str, collection: &str, request: &Request) -> Answer {
        let found = self.signed_in(request).map(|tenant| {
            let own = tenant.subscriptions.iter().find(|subscription| subscription.id.eq_ignore_ascii_case(id));
            (tenant.client_id.clone(), own.cloned())
        });
        let (client, own) = match found {
            Ok(found) => found,
            Err(answer) => return answer,
        };
        let Some(subscription) = own else {
            let text = format!("The subscription '{id}' could not be found.");
            return arm_error(404, "SubscriptionNotFound", &text);
        };
        if request.query.get("api-version").map(String::as_str) != Some("2020-01-01") {
            return arm_error(404, "InvalidResourceType", "The supported api-versions are '2020-01-01'.");
        }
        let scores = collection.eq_ignore_ascii_case("secureScores");
        if !scores && !collection.eq_ignore_ascii_case("secureScoreControls") {
            return arm_error(404, "InvalidResourceType", "The supported api-versions are '2020-01-01'.");
        }
        let good = if scores { list(subscription.scores(), None) } else { self.controls(&subscription, request) };
        if self.scenario.is_none() || !self.struck(&subscription.id) {
            return Answer::json(200, &good);
        }
        let place = if scores { EndpointKind::Scores } else { EndpointKind::Controls };
        let strike = Strike {
            scenario: self.scenario,
            strikes: self.strikes,
            url: &self.url,
            subscription: Some(&subscription.id),
            client: &client,
            sign_in: None,
        };
        let answer = scenario::strike(&strike, place, Some((&good, request)));
        self.strikes += usize::from(answer.is_some());
        answer.unwrap_or_else(|| Answer::json(200, &good))
    }

    /// The number of failures so far.
    pub fn strikes(&self) -> usize {
        self.strikes
    }

    fn struck(&self, subscription: &str) -> bool {
        let first = self.estate.tenants.first().and_then(|tenant| tenant.subscriptions.last());
        first.is_some_and(|struck| struck.id == subscription)
    }

    fn controls(&self, subscription: &Subscription, request: &Request) -> Value {
        let expand = request.query.get("$expand").map(String::as_str) == Some("definition");
        let items = subscription.control_items(expand);
        let skip = request.query.get("$skiptoken").and_then(|skip| skip.parse().ok()).unwrap_or(0);
        let page: Vec<Value> = items.iter().skip(skip).take(self.page).cloned().collect();
        let next = (skip + self.page < items.len()).then(|| self.link(subscription, expand, skip + self.page));
        list(page, next)
    }

    fn link(&self, subscription: &Subscription, expand: bool, skip: usize) -> String {
        let expand = if expand { "&$expand=definition" } else { "" };
        format!("{}{}&$skiptoken={skip}", self.url, controls_path(&subscription.id)) + expand
    }
}

fn list(items: Vec<Value>, next: Option<String>) -> Value {
    let mut list = json!({ "value": items });
    if let Some(next) = next {
        list["nextLink"] = Value::from(next);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_was_started_again_knows_its_tokens_and_no_others() {
        let world = || World::new(Estate::sized(2, 1), None);
        let tenant = world().estate.tenants[1].clone();
        let token = token_of(&tenant, Uuid::new_v4());
        assert_eq!(world().tenant_of_token(&token), Some(tenant.id.clone()));
        let of_another_secret = token_of(&Tenant { client_secret: "another".to_owned(), ..tenant }, Uuid::new_v4());
        for bad in
            [&of_another_secret, &token[..token.len() - 1], &format!("{token}0"), "eySimulated.", "", "eySimulated.é"]
        {
            assert_eq!(world().tenant_of_token(bad), None, "{bad}");
        }
    }
}
