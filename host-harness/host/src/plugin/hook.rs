//! The requests of one call: judged, given their credentials, carried, and what comes back sealed again.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use url::Url;
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody, WasiHttpHooks};

use super::journal::{CallNetwork, Exchange, Journal, SealedToken, Shared};
use super::seal;
use super::tap::Tap;
use crate::credentials::redact::{self, Search};
use crate::credentials::sealed::{self, Sealed};
use crate::credentials::secret::Secret;
use crate::failpoint;
use crate::limits::{ADDRESS_BYTES, BODY_CHUNK_BYTES, Limits, REQUESTS_AT_ONCE};
use crate::network::egress::{Denial, Judged};
use crate::network::tokens::{self, Asked, Sent};
use crate::network::{IncomingResponse, OutgoingRequest, TransportError};
use crate::text;

/// Everything that a call's requests need, shared with the tasks that carry them.
pub(crate) struct Hook {
    call: &'static str,
    pub(super) network: Option<CallNetwork>,
    pub(super) sealed: Arc<Vec<Sealed>>,
    pub(super) limits: Limits,
    pub(super) journal: Shared<Journal>,
    requests: usize,
    /// Answers are read whole before the guest sees them: only so many at the same time.
    under_way: Arc<Semaphore>,
    asker: Arc<Asker>,
    pub(super) tap: Option<Tap>,
}

/// Who makes a request.
pub(super) struct Asker {
    /// Tenant and feed, for logs.
    pub who: Arc<str>,
    pub tenant: Arc<str>,
    /// Digest of the plugin.
    pub plugin: Arc<str>,
}

impl Hook {
    pub(super) fn new(
        call: &'static str,
        network: Option<CallNetwork>,
        sealed: Vec<Sealed>,
        limits: Limits,
        journal: Shared<Journal>,
        asker: Asker,
        tap: Option<Tap>,
    ) -> Hook {
        let under_way = Arc::new(Semaphore::new(REQUESTS_AT_ONCE));
        let (sealed, asker) = (Arc::new(sealed), Arc::new(asker));
        Hook { call, network, sealed, limits, journal, requests: 0, under_way, asker, tap }
    }
}

/// An answer as the guest gets to see it.
struct Carried {
    response: IncomingResponse,
    /// Whether the host had it, and sent nothing.
    is_kept: bool,
}

type ConnectionTask = Pin<Box<dyn Future<Output = Result<(), HttpError>> + Send>>;

impl WasiHttpHooks for Hook {
    /// What is written to a body and not sent yet stays in the host's memory.
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<
        dyn Future<
                Output = Result<
                    (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), HttpError>> + Send>),
                    HttpError,
                >,
            > + Send,
    > {
        let (network, sealed) = (self.network.clone(), Arc::clone(&self.sealed));
        let (limits, journal) = (self.limits.clone(), Arc::clone(&self.journal));
        let (call, under_way) = (self.call, Arc::clone(&self.under_way));
        self.requests += 1;
        if self.requests > limits.requests {
            // The call ends with this; until it does, nothing more is written down.
            exceed(&journal, "requests", limits.requests.to_string());
            return Box::new(async { Err(HttpError::HttpRequestDenied) });
        }
        let (asker, tap) = (Arc::clone(&self.asker), self.tap.clone());
        // A search without a network is the host's own: it asks what the settings say alone, and that the plugin would
        // rather ask the service is no news.
        let is_real = network.is_some() || call != "discover";
        Box::new(async move {
            let _turn = under_way.acquire().await;
            let started = Instant::now();
            let (method, url) = (request.method().to_string(), request.uri().to_string());
            let url = text::cut(&url, ADDRESS_BYTES).to_owned();
            let result = carry(call, request, network, &sealed, &limits, &journal, &asker).await;
            let (result, seen, bytes, is_kept) = match result {
                Ok(Carried { response, is_kept }) => {
                    if let Some(tap) = &tap {
                        show(&response, tap);
                    }
                    let (status, bytes) = (response.status, response.body.len());
                    (handed(response), Ok(status), bytes, is_kept)
                }
                Err((error, cause)) => (Err(error), Err(cause), 0, false),
            };
            if let (Some(tap), Err(error)) = (&tap, &result) {
                tap("error", format!("{error:?}").as_bytes());
            }
            if let (Err(HttpError::HttpRequestDenied | HttpError::DestinationIpProhibited), Err(why)) = (&result, &seen)
            {
                if is_real {
                    note_denial(&journal, call, &asker.who, (&method, &url), why);
                } else {
                    journal.lock().denied += 1;
                }
            }
            let exchange = Exchange { method, url, result: seen, bytes, time: started.elapsed(), is_kept };
            journal.lock().exchanges.push(exchange);
            let nothing: ConnectionTask = Box::pin(async { Ok(()) });
            result.map(|response| (response, Box::new(nothing) as Box<dyn Future<Output = _> + Send>))
        })
    }
}

fn exceed(journal: &Mutex<Journal>, limit: &'static str, value: String) {
    journal.lock().exceeded.get_or_insert((limit, value));
}

/// Notes the first denial of a call, for the feed to tell; a plugin may try without end. A description is nobody's, and
/// the denial is told at once.
fn note_denial(journal: &Mutex<Journal>, call: &str, who: &str, (method, url): (&str, &str), why: &str) {
    let mut journal = journal.lock();
    journal.denied += 1;
    if journal.denied > 1 {
        return;
    }
    let address = url.split('?').next().unwrap_or_default();
    let address = text::cut(address, ADDRESS_BYTES).escape_default();
    let request = format!("{method} {address}");
    match call {
        "describe" => tracing::warn!(target: "egress", %who, "{request} is not let out: {why}"),
        _ => journal.denial = Some((request, why.to_owned())),
    }
}

fn show(response: &IncomingResponse, tap: &Tap) {
    tap("status", response.status.to_string().as_bytes());
    for (name, value) in &response.headers {
        tap("header", format!("{name}: {value}").as_bytes());
    }
    tap("body", &response.body);
}

/// Judges and sends one request. The body is read first, whatever becomes of the request: a guest whose body is not
/// read does not learn why.
async fn carry(
    call: &'static str,
    request: http::Request<WasiBody>,
    network: Option<CallNetwork>,
    sealed: &[Sealed],
    limits: &Limits,
    journal: &Mutex<Journal>,
    asker: &Asker,
) -> Result<Carried, (HttpError, String)> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, limits.request_body_bytes).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            exceed(journal, "the body of a request", format!("{} bytes", limits.request_body_bytes));
        }
        (HttpError::HttpRequestBodySize(None), format!("its body is too long or broke: {error}"))
    })?;
    let denied = |denial: Denial| (HttpError::HttpRequestDenied, denial.to_string());
    let plainly = |reason: &str| denied(Denial { reason: reason.to_owned(), remedy: None });
    let Some(network) = network else {
        return Err(plainly("this call runs without HTTP"));
    };
    let raw = parts.uri.to_string();
    if raw.len() > ADDRESS_BYTES {
        exceed(journal, "the address of a request", format!("{ADDRESS_BYTES} bytes"));
        return Err(plainly("its address is too long"));
    }
    let url = Url::parse(&raw).map_err(|error| plainly(&format!("its address cannot be read: {error}")))?;
    // The host says how long a body is and in which encodings it reads one: it looks into what comes back.
    let own = [http::header::HOST, http::header::CONTENT_LENGTH, http::header::ACCEPT_ENCODING];
    let headers = parts.headers.iter().filter(|(name, _)| !own.contains(name));
    let headers =
        headers.map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let request = OutgoingRequest {
        method: parts.method.to_string(),
        url,
        headers: headers.collect(),
        body: body.to_bytes().to_vec(),
    };
    let judged = network.egress.judge(&raw, request.clone(), sealed).map_err(denied)?;
    let shape = judged.shape;
    // A call that has read a tenant's data could tell it there.
    if shape.captures.is_some() && call != "fetch-token" {
        return Err(plainly("a request for a token leaves from fetch-token alone"));
    }
    journal.lock().carried.extend(judged.carried.iter().copied().cloned());
    if let Some(credential) = judged.missing.first()
        && !std::mem::replace(&mut journal.lock().bare, true)
    {
        let (method, origin, name) = (&shape.method, &shape.origin, sealed::name(credential));
        let words = format!("a {method} to {origin} leaves without {name}, which was declared for it");
        if network.egress.news().is_news(&words) {
            tracing::warn!(target: "egress", who = %asker.who, "{words}");
        }
    }
    failpoint::pass("poll-request-send");
    let (response, renew_at, is_kept) = match &shape.captures {
        None => (network.transport.send(judged.request).await, None, false),
        Some(captures) => {
            match fetch(&network, (&raw, request), judged, captures, sealed, asker).await.map_err(denied)? {
                Ok(Sent::Answer { response, renew_at, is_kept }) => (Ok(response), renew_at, is_kept),
                Ok(Sent::TooOften { response, why }) => {
                    journal.lock().asked_too_often = Some(why);
                    (Ok(response), None, true)
                }
                Err(error) => (Err(error), None, false),
            }
        }
    };
    let received = match &response {
        Ok(response) => response.body.len(),
        Err(TransportError::TooLarge(most)) => *most,
        Err(_) => 0,
    };
    let received = {
        let mut journal = journal.lock();
        journal.received_bytes += received;
        journal.received_bytes
    };
    if received > limits.response_bytes {
        exceed(journal, "the bodies of all answers", format!("{} bytes", limits.response_bytes));
        return Err((HttpError::HttpResponseBodySize(None), "the answers to the call are too long".to_owned()));
    }
    let mut response = response.map_err(|error| {
        let text = redact::redact(&error.to_string(), sealed.iter().map(|sealed| &sealed.secret));
        (typed(&error, &text), text)
    })?;
    let bytes = response.body.len();
    let (captures, mut known) =
        (shape.captures.clone(), sealed.iter().map(|sealed| sealed.secret.clone()).collect::<Vec<_>>());
    known.extend(journal.lock().tokens.iter().map(|held| held.token.clone()));
    let scrub = move || {
        let answered = match &captures {
            Some(key) => seal::sealed(&mut response, key),
            None if seal::holds_token(&response) => seal::sealed(&mut response, tokens::TOKEN),
            None => seal::Sealing::default(),
        };
        seal::scrub(&mut response, &Search::new(known.iter().chain(&answered.secrets)));
        (response, answered.token)
    };
    let (response, token) = redact::aside(bytes, scrub).await.ok_or_else(|| plainly("it could not be searched"))?;
    journal.lock().tokens.extend(token.map(|(placeholder, token)| SealedToken { placeholder, token, renew_at }));
    Ok(Carried { response, is_kept })
}

/// Sends a request for a token as it was judged, or takes what an equal one brought. `plain` is the request as the plugin
/// wrote it, and its address.
async fn fetch(
    network: &CallNetwork,
    plain: (&str, OutgoingRequest),
    judged: Judged<'_>,
    captures: &str,
    sealed: &[Sealed],
    asker: &Asker,
) -> Result<Result<Sent, TransportError>, Denial> {
    // What is signed is another each time: in its place stands what it is made of.
    let named: Vec<Sealed> = sealed.iter().map(Sealed::named).collect();
    let asked = Asked {
        likeness: network.egress.judge(plain.0, plain.1, &named)?.request,
        signed: judged.signed,
        is_shared: judged.is_by_host,
        plugin: Arc::clone(&asker.plugin),
        tenant: Arc::clone(&asker.tenant),
        captures: captures.to_owned(),
        freshness: network.freshness.clone(),
        now: (network.clock)(),
    };
    // Who gets the answer later signs another, and does not know this one for a secret.
    let signed = sealed.iter().filter(|sealed| sealed.identity.is_some());
    let signed: Vec<Secret> = signed.map(|sealed| sealed.secret.clone()).collect();
    let clean = move |answer: &mut IncomingResponse| seal::scrub(answer, &Search::new(&signed));
    Ok(network.tokens.send(&network.transport, judged.request, &asked, clean).await)
}

/// The answer in the engine's words.
fn handed(response: IncomingResponse) -> Result<http::Response<WasiBody>, HttpError> {
    let mut builder = http::Response::builder().status(response.status);
    // The body is whole and plain by now, whatever the headers said of its way.
    let changed = ["content-length", "content-encoding", "transfer-encoding"];
    for (name, value) in response.headers.iter().filter(|(name, _)| !changed.contains(&name.as_str())) {
        builder = builder.header(name, value);
    }
    let body = Full::new(Bytes::from(response.body)).map_err(|never| match never {}).boxed_unsync();
    builder.body(body).map_err(|_| HttpError::HttpProtocolError)
}

/// The word of `wasi:http` for an error, by which the guest tells them apart.
fn typed(error: &TransportError, text: &str) -> HttpError {
    match error {
        TransportError::NameNotResolved(_) => HttpError::DnsError { rcode: None, info_code: None },
        TransportError::AddressProhibited { .. } => HttpError::DestinationIpProhibited,
        TransportError::Proxy { .. } => HttpError::ConfigurationError,
        TransportError::Refused => HttpError::ConnectionRefused,
        TransportError::Timeout(_) => HttpError::HttpResponseTimeout,
        TransportError::Untrusted(_) => HttpError::TlsCertificateError,
        TransportError::Broken => HttpError::HttpResponseIncomplete,
        TransportError::TooLarge(bytes) => HttpError::HttpResponseBodySize(Some(*bytes as u64)),
        TransportError::HeadersTooLarge(bytes) => HttpError::HttpResponseHeaderSectionSize(u32::try_from(*bytes).ok()),
        TransportError::Malformed(_) => HttpError::HttpProtocolError,
        TransportError::Encoded(_) => HttpError::HttpResponseContentCoding(None),
        TransportError::Undecodable(_) | TransportError::Other(_) => HttpError::InternalError(Some(text.to_owned())),
    }
}
