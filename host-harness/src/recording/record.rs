//! Records one live poll of a feed as a cassette that replays. The cassette does not reveal whose data it is: secrets,
//! tokens, tenants and applications are replaced by placeholders, and on request subscriptions, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use source_host::clock::Clock;
use source_host::contract::{Credential, Description, Failure, Identifier, IdentifierKind, Place, Reaction, Shape};
use source_host::credentials::redact::{PIECE, Pieces, redact};
use source_host::credentials::secret::Secret;
use source_host::feed::FeedError;
use source_host::limits::Limits;
use source_host::network::charset;
use source_host::network::client::Network;
use source_host::network::tokens;
use source_host::network::{IncomingResponse, OutgoingRequest, Transport, TransportError, TransportFuture, egress};
use source_host::plugin::KnownPlugin;
use source_host::plugin::seal::{self, Sealing};
use source_host::text::guids;

use crate::admitted::AdmittedFeed;
use crate::admitted::tenants::Tenants;
use crate::recording::cassette::{
    Cassette, CassetteError, RecordedContext, RecordedExchange, RecordedOutcome, RecordedRequest, RecordedResponse,
    VERSION,
};
use crate::recording::replay;
use crate::recording::stand_ins::{StandInKind, StandIns};

/// Length from which an opaque part of a link is replaced, because it may hold ids in another spelling; a shorter one
/// is a plain number.
const SHORTEST_LINK_TOKEN: usize = 8;

/// The result of recording.
#[derive(Debug)]
pub struct Recorded {
    /// The recording.
    pub cassette: Cassette,
    /// Number of scopes that were collected.
    pub good: usize,
    /// The failures, each with its scope, if it concerns one.
    pub failures: Vec<(Option<String>, Failure)>,
    /// Number of events that the recording gives when it is replayed.
    pub events: usize,
}

/// The reason why there is no recording.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The feed cannot be opened.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// A request got no answer, and a recording holds answers only.
    #[error("{method} {url} got no answer: {error}; `check` says more")]
    NoAnswer {
        /// Method of the request.
        method: String,
        /// Its address.
        url: String,
        /// The reason why there is no answer.
        error: TransportError,
    },
    /// The plugin sent no request to the service.
    #[error("nothing was sent{}", .0.as_ref().map_or(String::new(), |failure| format!(": {}", failure.cause)))]
    NothingSent(Option<Box<Failure>>),
    /// An answer is not text, and a cassette holds text only.
    #[error("the answer of {method} {url} is not UTF-8, which a recording cannot hold")]
    NoText {
        /// Method of the request.
        method: String,
        /// Its address.
        url: String,
    },
    /// An answer still contains a part of a secret.
    #[error(
        "an answer holds {PIECE} bytes or more of a credential or a token, for which there is no placeholder; find out why the service, or a machine before it, echoes requests"
    )]
    Echoed,
    /// The recording does not replay.
    #[error("the recording does not replay")]
    NoReplay(#[from] CassetteError),
}

/// Polls every scope of a feed once, one after the other, and records requests and answers. With `without_scopes`, ids
/// and names of scopes are replaced by placeholders, too.
pub async fn record(
    admitted: &AdmittedFeed,
    network: &Network,
    clock: &Clock,
    without_scopes: bool,
) -> Result<Recorded, RecordError> {
    let transport = network.transport(&Limits::default()).map_err(FeedError::from)?;
    record_over(admitted, Arc::new(transport), clock, without_scopes).await
}

/// Records in the same way, with answers from this transport.
pub async fn record_over(
    admitted: &AdmittedFeed,
    inner: Arc<dyn Transport>,
    clock: &Clock,
    without_scopes: bool,
) -> Result<Recorded, RecordError> {
    let capture = Arc::new(Capture::default());
    let capturing = Arc::new(CapturingTransport { inner, capture: Arc::clone(&capture) });
    let tenants = Tenants::new(move |_| Ok(Arc::clone(&capturing) as Arc<dyn Transport>));
    let feed = admitted.open(&tenants, clock).await?;
    let time_milliseconds = clock();
    let (mut good, mut failures, mut seen) = (0, Vec::new(), Identified::default());
    let progress = admitted.plugin.host().progress();
    let doing = progress.begin(format!("feed {}: signing in and looking for scopes", admitted.id));
    match feed.discover().await {
        Err(failure) => failures.push((None, failure)),
        Ok(discovery) => {
            let skipped = discovery.skipped.iter().map(|skipped| &skipped.scope);
            for scope in discovery.scopes.iter().chain(skipped) {
                seen.scopes.insert(scope.id.to_ascii_lowercase());
                seen.names.extend(scope.name.clone());
                let of_tenants = scope.owner.iter().chain([&scope.plugin_data]);
                seen.identities.extend(of_tenants.flat_map(|text| guids(text)).map(str::to_ascii_lowercase));
            }
            for scope in &discovery.scopes {
                let words = format!("feed {}, {}: recording", admitted.id, scope.called());
                doing.says(redact(&words, admitted.secrets()));
                let polled = feed.poll(scope, time_milliseconds, None).await;
                let outcome = polled.batch.and_then(|batch| batch.outcome);
                match polled.failure.or(outcome).filter(|failure| failure.reaction != Reaction::NoData) {
                    Some(failure) => failures.push((Some(scope.called()), failure)),
                    None => good += 1,
                }
            }
            let told = discovery.skipped.into_iter().map(|skipped| (Some(skipped.scope.called()), skipped.reason));
            failures.extend(told);
        }
    }
    let captured = capture.take()?;
    if captured.is_empty() {
        let failure = failures.into_iter().next().map(|(_, failure)| Box::new(failure));
        return Err(RecordError::NothingSent(failure));
    }
    let context = RecordedContext {
        feed: admitted.id.to_string(),
        tenant: admitted.tenant.to_string(),
        time_milliseconds,
        states: BTreeMap::new(),
    };
    let Description { identifiers, response_headers, .. } = feed.description();
    let (shapes, known) = (feed.plan().shapes.as_slice(), admitted.plugin.known());
    let rules = RecordingRules { shapes, known: &known, identifiers, response_headers, without_scopes };
    let cassette = cassette(admitted, rules, captured, seen, context)?;
    let replayed = replay::play(&admitted.plugin, &cassette).await?;
    Ok(Recorded { cassette, good, failures, events: replayed.events.len() })
}

/// The identities, scopes and names in the answers; GUIDs in lower case.
#[derive(Default)]
struct Identified {
    identities: BTreeSet<String>,
    scopes: BTreeSet<String>,
    names: BTreeSet<String>,
}

impl Identified {
    /// Finds stand-ins for the identities in the answers and, if scopes are not to be shown, for scopes, too.
    fn have_stand_ins(&self, stand_ins: &mut StandIns, without_scopes: bool) {
        for id in self.identities.iter().filter(|id| !self.scopes.contains(*id)) {
            stand_ins.of(StandInKind::Identity, id);
        }
        if without_scopes {
            self.scopes.iter().for_each(|id| drop(stand_ins.of(StandInKind::Scope, id)));
            self.names.iter().for_each(|name| drop(stand_ins.of(StandInKind::Name, name)));
        }
    }
}

/// The rules by which exchanges are recorded.
#[derive(Clone, Copy)]
struct RecordingRules<'a> {
    /// The shapes of the plugin's requests.
    shapes: &'a [Shape],
    /// The parts of token answers that the plugin sees, in addition to those of the standard.
    known: &'a KnownPlugin,
    /// The members of the service's answers that identify whose data they are.
    identifiers: &'a [Identifier],
    /// Response headers that are kept.
    response_headers: &'a [String],
    /// Whether ids and names of scopes are replaced, too.
    without_scopes: bool,
}

impl RecordingRules<'_> {
    /// The kind of identifier that a member or a parameter holds.
    fn identifies(&self, name: &str) -> Option<IdentifierKind> {
        self.identifiers.iter().find(|one| one.name.eq_ignore_ascii_case(name)).map(|one| one.kind)
    }

    fn names_scope(&self, members: &Map<String, Value>) -> bool {
        members.keys().any(|name| self.identifies(name) == Some(IdentifierKind::Scope))
    }

    fn reads(&self, header: &str) -> bool {
        self.response_headers.iter().any(|name| name.eq_ignore_ascii_case(header))
    }
}

fn cassette(
    admitted: &AdmittedFeed,
    rules: RecordingRules<'_>,
    mut captured: Vec<CapturedExchange>,
    mut seen: Identified,
    context: RecordedContext,
) -> Result<Cassette, RecordError> {
    let RecordingRules { shapes, identifiers, without_scopes, .. } = rules;
    let names = identifiers.iter().filter(|one| one.kind == IdentifierKind::ScopeName);
    let mut stand_ins = StandIns::naming(names.map(|one| one.name.as_str()));
    let mut settings = admitted.settings.plain();
    let plain = Value::Object(settings.clone()).to_string();
    // Replaced in the order of the settings, so that the same configuration gets the same placeholders.
    let own = guids(&plain).map(str::to_ascii_lowercase).filter(|id| !seen.scopes.contains(id));
    for id in own.collect::<Vec<_>>() {
        stand_ins.of(StandInKind::Identity, &id);
    }
    let named = admitted.settings.named_secrets();
    let mut private: Vec<Secret> = named.map(|(_, secret)| secret.clone()).collect();
    for one in &mut captured {
        let shape = shapes.iter().find(|shape| one.has(shape));
        private.extend(one.seal(&mut stand_ins, shape.and_then(|shape| shape.captures.as_deref()), rules.known));
        if let Some(shape) = shape.filter(|shape| shape.captures.is_some()) {
            assertions(&mut stand_ins, shape, one);
            tenant_domains(&mut stand_ins, one, &settings);
        }
        for token in one.link_tokens(rules) {
            stand_ins.of(StandInKind::Token, &token);
        }
        one.look(rules, &mut seen);
    }
    seen.have_stand_ins(&mut stand_ins, without_scopes);
    let mut secrets = Map::new();
    for (setting, secret) in admitted.settings.named_secrets() {
        if !secret.expose().is_empty() {
            secrets.insert(setting.to_owned(), Value::from(stand_ins.of(StandInKind::Secret, secret.expose())));
        }
    }
    for value in settings.values_mut() {
        put(&stand_ins, value);
    }
    settings.extend(secrets);
    let exchanges: Vec<RecordedExchange> = captured.iter().map(|one| one.exchange(&stand_ins, rules)).collect();
    refuse_echoes(&exchanges, &private)?;
    let docs = format!("One poll of the feed {}, recorded live.", context.feed);
    Ok(Cassette { docs, version: VERSION, settings, context, exchanges })
}

/// The host withholds an answer with a part of a secret from the plugin, and the recording has it from the transport.
fn refuse_echoes(exchanges: &[RecordedExchange], private: &[Secret]) -> Result<(), RecordError> {
    let pieces = Pieces::of(private);
    for exchange in exchanges {
        let text = serde_json::to_vec(exchange).map_err(CassetteError::NoDocument)?;
        if pieces.are_in(&text) {
            return Err(RecordError::Echoed);
        }
    }
    Ok(())
}

/// Makes placeholders for assertions.
fn assertions(stand_ins: &mut StandIns, shape: &Shape, captured: &CapturedExchange) {
    for (field, value) in captured.form() {
        if assertion(shape, &field) {
            stand_ins.of(StandInKind::Token, &value);
        }
    }
}

/// Says whether a field of a form carries an assertion.
fn assertion(shape: &Shape, field: &str) -> bool {
    shape.credentials.iter().any(|used| {
        matches!(used.credential, Credential::Assertion(_))
            && matches!(&used.place, Place::FormField(known) if known == field)
    })
}

/// Makes a placeholder for a domain that is both in the settings and in the token's address, because it names the
/// tenant.
fn tenant_domains(stand_ins: &mut StandIns, captured: &CapturedExchange, settings: &Map<String, Value>) {
    let segments = captured.request.url.path_segments().into_iter().flatten();
    for domain in segments.filter(|segment| segment.contains('.')) {
        let known = |value: &Value| value.as_str().is_some_and(|text| text.to_ascii_lowercase().contains(domain));
        if settings.values().any(known) {
            stand_ins.of(StandInKind::Identity, domain);
        }
    }
}

/// Replaces values by placeholders in every text of a value.
fn put(stand_ins: &StandIns, value: &mut Value) {
    match value {
        Value::String(text) => *text = stand_ins.put(text),
        Value::Array(values) => values.iter_mut().for_each(|value| put(stand_ins, value)),
        Value::Object(values) => values.values_mut().for_each(|value| put(stand_ins, value)),
        _ => {}
    }
}

/// An exchange as it was, including credentials.
struct CapturedExchange {
    request: OutgoingRequest,
    response: IncomingResponse,
    /// The body, which is text.
    text: String,
}

impl CapturedExchange {
    /// Keeps only the parts of a token answer that the plugin sees, with a placeholder for the token. `key` is the
    /// declared member, if one is declared. Returns the tokens in the answer.
    fn seal(&mut self, stand_ins: &mut StandIns, key: Option<&str>, plugin: &KnownPlugin) -> Vec<Secret> {
        let undeclared = || seal::holds_token(&self.response).then_some(tokens::TOKEN);
        let Some(key) = key.or_else(undeclared) else { return Vec::new() };
        let Sealing { token, secrets } = seal::sealed(&mut self.response, key, plugin);
        for secret in secrets.iter().filter(|secret| !secret.expose().is_empty()) {
            stand_ins.of(StandInKind::Token, secret.expose());
        }
        self.text = String::from_utf8_lossy(&self.response.body).into_owned();
        if let Some((placeholder, token)) = token {
            self.text = self.text.replace(&placeholder, &stand_ins.of(StandInKind::Token, token.expose()));
        }
        secrets
    }

    fn has(&self, shape: &Shape) -> bool {
        let fits = egress::fits(&shape.path, self.request.url.path());
        let origin = self.request.url.origin().ascii_serialization();
        fits && shape.method == self.request.method && egress::canonical(&shape.origin).is_some_and(|one| one == origin)
    }

    fn form(&self) -> Vec<(String, String)> {
        let form = self
            .request
            .headers
            .iter()
            .any(|(name, value)| name == "content-type" && value.starts_with("application/x-www-form-urlencoded"));
        if form { form_urlencoded::parse(&self.request.body).into_owned().collect() } else { Vec::new() }
    }

    /// Returns the opaque parts of the request's link.
    fn link_tokens(&self, rules: RecordingRules<'_>) -> Vec<String> {
        let parts = self.request.url.query().unwrap_or_default().split('&').filter_map(|part| part.split_once('='));
        let opaque = |(name, value): &(&str, &str)| {
            let name = form_urlencoded::parse(name.as_bytes()).next().map(|(name, _)| name).unwrap_or_default();
            rules.identifies(&name) == Some(IdentifierKind::LinkParameter) && value.len() >= SHORTEST_LINK_TOKEN
        };
        // The link is written in another way in the answer that had it, and the search finds every spelling of the plain value.
        let plain = |value: &str| {
            let value_alone = value.replace('+', "%2B");
            let decoded =
                form_urlencoded::parse(value_alone.as_bytes()).next().map(|(decoded, _)| decoded.into_owned());
            decoded.filter(|decoded| !decoded.contains(char::REPLACEMENT_CHARACTER)).unwrap_or_else(|| value.to_owned())
        };
        parts.filter(opaque).map(|(_, value)| plain(value)).collect()
    }

    /// Collects the identities, scopes and names in the answer.
    fn look(&self, rules: RecordingRules<'_>, seen: &mut Identified) {
        // The text of a refusal names tenants, applications and principals.
        if !(200..300).contains(&self.response.status) {
            let headers = self.response.headers.iter().filter(|(name, _)| name == "www-authenticate");
            let texts = headers.map(|(_, value)| value.as_str()).chain([self.text.as_str()]);
            seen.identities.extend(texts.flat_map(guids).map(str::to_ascii_lowercase));
        }
        if let Ok(body) = serde_json::from_str::<Value>(&self.text) {
            look(&body, rules, seen);
        }
    }

    fn exchange(&self, stand_ins: &StandIns, rules: RecordingRules<'_>) -> RecordedExchange {
        let RecordingRules { shapes, without_scopes, .. } = rules;
        let put = |text: &str| stand_ins.put(text);
        let authorization = self.request.headers.iter().find(|(name, _)| name == "authorization");
        let form = self.form();
        // Each assertion is signed anew and differs from all others.
        let signed = |shape: &&Shape| self.has(shape) && form.iter().any(|(field, _)| assertion(shape, field));
        let comparable = !form.is_empty() && !shapes.iter().any(|shape| signed(&shape));
        let field = |(name, value): (String, String)| {
            // A whole value is recognised as a secret, however short it is.
            let value = stand_ins.known(&value).map_or_else(|| put(&value), str::to_owned);
            (name, Value::from(value))
        };
        let headers = self.response.headers.iter().filter(|(name, _)| rules.reads(name));
        let bare = if without_scopes { without_annotations(&self.text, rules) } else { None };
        let body = put(bare.as_deref().unwrap_or(&self.text));
        let json = RawValue::from_string(body.clone()).ok();
        RecordedExchange {
            request: RecordedRequest {
                method: self.request.method.clone(),
                url: put(self.request.url.as_str()),
                authorization: authorization.map(|(_, value)| {
                    let known = value.strip_prefix("Bearer ").and_then(|token| stand_ins.known(token));
                    known.map_or_else(|| put(value), |known| format!("Bearer {known}"))
                }),
                form: comparable.then(|| form.into_iter().map(field).collect()),
            },
            response: RecordedOutcome::Answer(RecordedResponse {
                status: self.response.status,
                headers: headers.map(|(name, value)| (name.clone(), Value::from(put(value)))).collect(),
                text: (json.is_none() && !body.is_empty()).then_some(body),
                json,
            }),
        }
    }
}

/// Removes the annotations of scopes, which identify whose they are, from a body; `None` if there are none.
fn without_annotations(text: &str, rules: RecordingRules<'_>) -> Option<String> {
    fn strip(value: &mut Value, rules: RecordingRules<'_>) -> bool {
        match value {
            Value::Array(values) => values.iter_mut().fold(false, |found, value| strip(value, rules) | found),
            Value::Object(members) => {
                let before = members.len();
                if rules.names_scope(members) {
                    members.retain(|name, _| rules.identifies(name) != Some(IdentifierKind::ScopeAnnotation));
                }
                let is_bare = members.len() < before;
                members.values_mut().fold(is_bare, |found, value| strip(value, rules) | found)
            }
            _ => false,
        }
    }
    let mut body = serde_json::from_str(text).ok()?;
    strip(&mut body, rules).then(|| body.to_string())
}

fn look(value: &Value, rules: RecordingRules<'_>, seen: &mut Identified) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| look(value, rules, seen)),
        Value::Object(members) => {
            let is_scope = rules.names_scope(members);
            for (name, value) in members {
                let ids = value.as_str().into_iter().flat_map(guids).map(str::to_ascii_lowercase);
                match rules.identifies(name) {
                    Some(IdentifierKind::Principal) => seen.identities.extend(ids),
                    Some(IdentifierKind::Scope) => seen.scopes.extend(ids),
                    Some(IdentifierKind::ScopeName) if is_scope => seen.names.extend(value.as_str().map(str::to_owned)),
                    _ => {}
                }
                look(value, rules, seen);
            }
        }
        _ => {}
    }
}

/// The exchanges in order, or the reasons why they cannot be recorded.
#[derive(Default)]
struct Capture {
    captured: Mutex<Vec<Result<CapturedExchange, RecordError>>>,
}

impl Capture {
    fn add(&self, one: Result<CapturedExchange, RecordError>) {
        self.captured.lock().push(one);
    }

    fn take(&self) -> Result<Vec<CapturedExchange>, RecordError> {
        std::mem::take(&mut *self.captured.lock()).into_iter().collect()
    }
}

/// A transport whose exchanges are captured.
struct CapturingTransport {
    inner: Arc<dyn Transport>,
    capture: Arc<Capture>,
}

impl Transport for CapturingTransport {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        Box::pin(async move {
            let (method, url) = (request.method.clone(), request.url.to_string());
            let answer = self.inner.send(request.clone()).await;
            self.capture.add(match &answer {
                Err(error) => Err(RecordError::NoAnswer { method, url, error: error.clone() }),
                Ok(response) => {
                    // The recording holds the decoded text that the plugin gets, because secrets are searched for in
                    // UTF-8.
                    let mut response = response.clone();
                    let decoded = charset::decode(&mut response).ok();
                    match decoded.and_then(|()| String::from_utf8(response.body.clone()).ok()) {
                        None => Err(RecordError::NoText { method, url }),
                        Some(text) => Ok(CapturedExchange { request, response, text }),
                    }
                }
            });
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_of_an_answer_is_recorded_however_it_was_declared() {
        const TOKEN: &str = "a-real-token-of-tests";
        for (key, body, kept) in [
            (Some("access_token"), format!(r#"{{"access_token":"{TOKEN}","expires_in":60}}"#), "expires_in"),
            (Some("access_token"), format!(r#"{{"access_token":"x","refresh_token":"{TOKEN}"}}"#), "access_token"),
            (Some("access_token"), format!(r#"{{"token":{{"access_token":"{TOKEN}"}}}}"#), "{}"),
            (Some("access_token"), format!("access_token={TOKEN}&expires_in=60"), "withheld"),
            (Some("key"), format!(r#"{{"key":"{TOKEN}"}}"#), "key"),
            (None, format!(r#"{{"access_token":"{TOKEN}","expires_in":60}}"#), "expires_in"),
        ] {
            let url = url::Url::parse("https://login.example/token").unwrap();
            let request = OutgoingRequest { method: "POST".to_owned(), url, headers: Vec::new(), body: Vec::new() };
            let response = IncomingResponse { status: 200, headers: Vec::new(), body: body.clone().into_bytes() };
            let mut captured = CapturedExchange { request, response, text: body };
            let mut stand_ins = StandIns::default();
            captured.seal(&mut stand_ins, key, &KnownPlugin::UNKNOWN);
            let rules = RecordingRules {
                shapes: &[],
                known: &KnownPlugin::UNKNOWN,
                identifiers: &[],
                response_headers: &[],
                without_scopes: false,
            };
            let recorded = serde_json::to_string(&captured.exchange(&stand_ins, rules)).unwrap();
            assert!(!recorded.contains(TOKEN) && recorded.contains(kept), "{key:?}: {recorded}");
        }
    }
}
