//! The requests of one call: judged, given their credentials, carried, and what comes back sealed again.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use url::Url;
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody, WasiHttpHooks};

use crate::egress::{Denial, Sealed, placeholder};
use crate::failpoint;
use crate::limits::{ADDRESS_BYTES, BODY_CHUNK_BYTES, Limits, REQUESTS_AT_ONCE};
use crate::redact;
use crate::secret::Secret;
use crate::tokens::{self, Sent};
use crate::transport::{IncomingResponse, OutgoingRequest, TransportError};

use super::{Exchange, Journal, Network, Shared, lock};

/// Everything that a call's requests need, shared with the tasks that carry them.
pub(crate) struct Hook {
    call: &'static str,
    pub(super) network: Option<Network>,
    pub(super) sealed: Arc<Vec<Sealed>>,
    pub(super) limits: Limits,
    pub(super) journal: Shared<Journal>,
    requests: usize,
    /// Answers are read whole before the guest sees them: only so many at the same time.
    under_way: Arc<Semaphore>,
}

impl Hook {
    pub(super) fn new(
        call: &'static str,
        network: Option<Network>,
        sealed: Vec<Sealed>,
        limits: Limits,
        journal: Shared<Journal>,
    ) -> Hook {
        let under_way = Arc::new(Semaphore::new(REQUESTS_AT_ONCE));
        Hook { call, network, sealed: Arc::new(sealed), limits, journal, requests: 0, under_way }
    }
}

type Carried = Pin<Box<dyn Future<Output = Result<(), HttpError>> + Send>>;

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
        Box::new(async move {
            let _turn = under_way.acquire().await;
            let started = Instant::now();
            let (method, url) = (request.method().to_string(), request.uri().to_string());
            let url = redact::cut(&url, ADDRESS_BYTES).to_owned();
            let result = carry(call, request, network, &sealed, &limits, &journal).await;
            let (result, seen, bytes) = match result {
                Ok(response) => {
                    let (status, bytes) = (response.status, response.body.len());
                    (answer(response), Ok(status), bytes)
                }
                Err((error, cause)) => (Err(error), Err(cause), 0),
            };
            lock(&journal).exchanges.push(Exchange { method, url, result: seen, bytes, time: started.elapsed() });
            let nothing: Carried = Box::pin(async { Ok(()) });
            result.map(|response| (response, Box::new(nothing) as Box<dyn Future<Output = _> + Send>))
        })
    }
}

fn exceed(journal: &Mutex<Journal>, limit: &'static str, value: String) {
    lock(journal).exceeded.get_or_insert((limit, value));
}

/// Judges and sends one request. The body is read first, whatever becomes of the request: a guest whose body is not
/// read does not learn why.
async fn carry(
    call: &'static str,
    request: http::Request<WasiBody>,
    network: Option<Network>,
    sealed: &[Sealed],
    limits: &Limits,
    journal: &Mutex<Journal>,
) -> Result<IncomingResponse, (HttpError, String)> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, limits.request_body_bytes).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            exceed(journal, "the body of a request", format!("{} bytes", limits.request_body_bytes));
        }
        (HttpError::HttpRequestBodySize(None), format!("its body is too long or broke: {error}"))
    })?;
    let denied = |denial: Denial| (HttpError::HttpRequestDenied, denial.to_string());
    let plainly = |reason: &str| denied(Denial { reason: reason.to_owned(), remedy: None });
    let Some(Network { egress, transport, tokens: kept, tokens_after, clock }) = network else {
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
    // A signed assertion is another each time: its answer is kept under the credential behind it.
    let signed = sealed.iter().any(|sealed| sealed.identity.is_some());
    let named: Option<Vec<Sealed>> = signed.then(|| sealed.iter().map(Sealed::named).collect());
    let named = named.map(|named| egress.judge(&raw, request.clone(), &named)).transpose().map_err(denied)?;
    let named = named.map(|(request, _)| tokens::digest(&request));
    let (request, shape) = egress.judge(&raw, request, sealed).map_err(denied)?;
    // A call that has read a tenant's data could tell it there.
    if shape.seals.is_some() && call != "fetch-token" {
        return Err(plainly("a request for a token leaves from fetch-token alone"));
    }
    failpoint::pass("poll-request-send");
    let response = match shape.seals {
        Some(_) => {
            let named = named.unwrap_or_else(|| tokens::digest(&request));
            kept.send_as(named, &*transport, request, tokens_after, clock()).await.map(|sent| {
                lock(journal).asked_too_often |= matches!(sent, Sent::TooOften(_));
                sent.response()
            })
        }
        None => transport.send(request).await,
    };
    let response = response.map_err(|error| (typed(&error), error.to_string()))?;
    let read: usize = lock(journal).exchanges.iter().map(|exchange| exchange.bytes).sum();
    if read + response.body.len() > limits.response_bytes {
        exceed(journal, "the bodies of all answers", format!("{} bytes", limits.response_bytes));
        return Err((HttpError::HttpResponseBodySize(None), "the answers to the call are too long".to_owned()));
    }
    let mut response = scrubbed(response, sealed);
    if let Some(key) = shape.seals.as_deref().filter(|_| response.status == 200)
        && let Some((body, token)) = sealed_answer(&response.body, key)
    {
        response.body = body;
        lock(journal).tokens.push(token);
    }
    Ok(response)
}

/// Members of a token's answer that a plugin gets to see, besides the sealed one.
const TOKEN_MEMBERS: &[&str] = &["token_type", "expires_in", "ext_expires_in", "expires_on", "refresh_in"];

/// An answer whose sealed member is a placeholder, and the pair of placeholder and value.
fn sealed_answer(body: &[u8], key: &str) -> Option<(Vec<u8>, (String, Secret))> {
    let Ok(Value::Object(answer)) = serde_json::from_slice::<Value>(body) else { return None };
    let token = Secret::new(answer.get(key)?.as_str()?);
    let placeholder = placeholder();
    let mut sealed: Map<String, Value> =
        answer.into_iter().filter(|(name, _)| TOKEN_MEMBERS.contains(&name.as_str())).collect();
    sealed.insert(key.to_owned(), Value::from(placeholder.clone()));
    Some((Value::Object(sealed).to_string().into_bytes(), (placeholder, token)))
}

/// A service that echoes a credential does not thereby tell it to the plugin.
fn scrubbed(mut response: IncomingResponse, sealed: &[Sealed]) -> IncomingResponse {
    let spellings: Vec<String> = sealed.iter().flat_map(|sealed| redact::spellings(sealed.secret.expose())).collect();
    let echoes = |text: &[u8]| {
        spellings.iter().any(|spelling| text.windows(spelling.len()).any(|window| window == spelling.as_bytes()))
    };
    let secrets = || sealed.iter().map(|sealed| &sealed.secret);
    for (_, value) in &mut response.headers {
        if echoes(value.as_bytes()) {
            *value = redact::redact(value, secrets());
        }
    }
    if echoes(&response.body) {
        response.body = redact::redact(&String::from_utf8_lossy(&response.body), secrets()).into_bytes();
    }
    response
}

fn answer(response: IncomingResponse) -> Result<http::Response<WasiBody>, HttpError> {
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
fn typed(error: &TransportError) -> HttpError {
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
        TransportError::Other(text) => HttpError::InternalError(Some(text.clone())),
    }
}
