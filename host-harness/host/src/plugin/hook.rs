//! The requests of one call: each is judged, given its credentials and sent, and its answer is sealed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use tokio::sync::Semaphore;
use url::Url;
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody, WasiHttpHooks};

use super::bound::{Bound, LimitAmount};
use super::journal::{CallNetwork, Denied, Exchange, Journal, KeptSearches, NoAnswer, SealedToken, Shared, WaitAsked};
use super::known::KnownPlugin;
use super::meter::{self, Spent};
use super::seal;
use super::tap::Tap;
use crate::cause;
use crate::contract::CredentialUse;
use crate::credentials::redact::{self, PIECE, Search};
use crate::credentials::sealed::{self, Sealed};
use crate::credentials::secret::Secret;
use crate::failpoint;
use crate::limits::{ADDRESS_BYTES, BODY_CHUNK_BYTES, Limits, NAME_BYTES, REQUESTS_AT_ONCE, milliseconds};
use crate::network::charset;
use crate::network::egress::{Denial, Egress, Judged, has_fitting_name};
use crate::network::tokens::{self, Sent, TokenRequest};
use crate::network::{self, IncomingResponse, OutgoingRequest, TransportError};
use crate::text;

/// The data that a call's requests need, shared with the tasks that carry them.
pub(crate) struct Hook {
    call: &'static str,
    pub(super) network: Option<CallNetwork>,
    pub(super) sealed: Arc<Vec<Sealed>>,
    pub(super) limits: Limits,
    pub(super) journal: Shared<Journal>,
    requests: usize,
    /// Limits the number of answers in memory, because each is read whole before the guest sees it.
    under_way: Arc<Semaphore>,
    asker: Arc<Asker>,
    pub(super) tap: Option<Tap>,
}

/// The sender of a request.
pub(super) struct Asker {
    /// Tenant and feed, for logs.
    pub who: Arc<str>,
    pub tenant: Arc<str>,
    /// Digest of the plugin.
    pub plugin: Arc<str>,
    /// The embedder's knowledge of the plugin.
    pub known: KnownPlugin,
    /// The CPU time of the call.
    pub spent: Arc<Spent>,
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

    fn carrier(&self) -> Carrier {
        Carrier {
            call: self.call,
            network: self.network.clone(),
            sealed: Arc::clone(&self.sealed),
            limits: self.limits.clone(),
            journal: Arc::clone(&self.journal),
            asker: Arc::clone(&self.asker),
        }
    }

    /// Counts a request. Beyond the limit, the call ends with this request, and the journal records nothing more.
    fn counts_one_more(&mut self, carrier: &Carrier) -> bool {
        self.requests += 1;
        let fits = self.requests <= self.limits.requests;
        if !fits {
            carrier.exceed(Bound::Requests, LimitAmount::count(self.limits.requests));
        }
        fits
    }

    /// Refuses a request of a call without HTTP.
    pub(super) fn refuse(&mut self, method: &str, address: &str) {
        let carrier = self.carrier();
        if !self.counts_one_more(&carrier) {
            return;
        }
        let why = NoAnswer::Denied(WITHOUT_HTTP.to_owned());
        let url = text::cut(address, ADDRESS_BYTES).to_owned();
        carrier.note_denial(method, &url, &why);
        let (method, time) = (method.to_owned(), Duration::ZERO);
        let exchange = Exchange { method, url, result: Err(why), bytes: 0, time, is_kept: false, asks_to_wait: None };
        self.journal.lock().exchanges.push(exchange);
    }
}

const WITHOUT_HTTP: &str = "this call runs without HTTP";

/// An answer as the guest sees it.
struct Carried {
    response: IncomingResponse,
    /// Whether the answer was kept by the host, so that no request was sent.
    is_kept: bool,
}

/// A request and the secrets on it, to search its answer for parts of them.
struct Echo {
    /// Method and address.
    asked: String,
    /// The secrets with their names.
    carried: Vec<(String, Secret)>,
    searches: KeptSearches,
}

impl Echo {
    /// Says that an answer holds neither a token nor any spelling of the known secrets or of a piece of those on the
    /// request. This is quick, and most answers are such.
    fn is_excluded(&self, response: &IncomingResponse, known: &[Secret]) -> bool {
        let carried: Vec<Secret> = self.carried.iter().map(|(_, secret)| secret.clone()).collect();
        let watch = self.searches.watch_for(known, &carried);
        !seal::may_hold_token(response)
            && charset::unannounced(response).is_none()
            && watch.excludes(&response.body)
            && texts_of_headers(response).iter().all(|text| watch.excludes(text.as_bytes()))
    }

    /// Names the secret of which a part is in an answer, among those on the request and the tokens that the answer
    /// `gave`.
    fn held_by(self, response: &IncomingResponse, gave: &[Secret]) -> Option<String> {
        let gave = gave.iter().map(|secret| ("a token that it gives".to_owned(), secret.clone()));
        let (name, _) = self.carried.into_iter().chain(gave).find(|(_, secret)| {
            let pieces = self.searches.pieces_of(secret);
            let is_in = |response: &IncomingResponse| pieces.are_in(&response.body);
            is_in(response)
                || charset::unannounced(response).as_ref().is_some_and(is_in)
                || texts_of_headers(response).iter().any(|text| pieces.are_in(text.as_bytes()))
        })?;
        Some(format!("the answer to {} holds {PIECE} bytes or more of {name}", self.asked))
    }
}

/// The headers as texts: a piece may go on in the next line, or in the value of its name.
fn texts_of_headers(response: &IncomingResponse) -> [String; 3] {
    let (names, values): (Vec<&str>, Vec<&str>) =
        response.headers.iter().map(|(name, value)| (&**name, &**value)).unzip();
    let lines: Vec<String> = response.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    [names.join("\n"), values.join("\n"), lines.join("\n")]
}

type ConnectionTask = Pin<Box<dyn Future<Output = Result<(), HttpError>> + Send>>;

impl WasiHttpHooks for Hook {
    /// The bytes of a body that are written but not sent stay in the host's memory.
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
        let carrier = self.carrier();
        if !self.counts_one_more(&carrier) {
            return Box::new(async { Err(HttpError::HttpRequestDenied) });
        }
        let (under_way, tap) = (Arc::clone(&self.under_way), self.tap.clone());
        Box::new(async move {
            let _turn = under_way.acquire().await;
            let started = Instant::now();
            let (method, url) = (request.method().to_string(), request.uri().to_string());
            let url = text::cut(&url, ADDRESS_BYTES).to_owned();
            let (result, seen, bytes, is_kept, asks_to_wait) = match carrier.carry(request).await {
                Ok(Carried { response, is_kept }) => {
                    if let Some(tap) = &tap {
                        show(&response, tap);
                    }
                    let asks_to_wait = carrier.asks_to_wait(&url, &response).filter(|_| !is_kept);
                    let (status, bytes) = (response.status, response.body.len());
                    (wasi_response(response), Ok(status), bytes, is_kept, asks_to_wait)
                }
                Err(Refused { code, cause }) => (Err(code), Err(cause), 0, false, None),
            };
            if let (Some(tap), Err(error)) = (&tap, &result) {
                tap("error", format!("{error:?}").as_bytes());
            }
            if let (Err(HttpError::HttpRequestDenied | HttpError::DestinationIpProhibited), Err(why)) = (&result, &seen)
            {
                carrier.note_denial(&method, &url, why);
            }
            let time = started.elapsed();
            let exchange = Exchange { method, url, result: seen, bytes, time, is_kept, asks_to_wait };
            carrier.journal.lock().exchanges.push(exchange);
            let nothing: ConnectionTask = Box::pin(async { Ok(()) });
            result.map(|response| (response, Box::new(nothing) as Box<dyn Future<Output = _> + Send>))
        })
    }
}

fn show(response: &IncomingResponse, tap: &Tap) {
    tap("status", response.status.to_string().as_bytes());
    for (name, value) in &response.headers {
        tap("header", format!("{name}: {value}").as_bytes());
    }
    tap("body", &response.body);
}

/// The reason why the guest gets no answer.
#[derive(Debug)]
struct Refused {
    /// The code by which the guest distinguishes refusals.
    code: HttpError,
    /// The reason for the operator.
    cause: NoAnswer,
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Refused {
        Refused { code: HttpError::HttpRequestDenied, cause: NoAnswer::Denied(denial.to_string()) }
    }
}

impl Refused {
    /// A denial that no line of configuration can lift.
    fn denied(reason: impl Into<String>) -> Refused {
        Denial { reason: reason.into(), remedy: None }.into()
    }
}

/// A request as the plugin wrote it.
struct Received {
    /// The address as written, because two readers of an address may differ.
    address: String,
    request: OutgoingRequest,
}

/// The answer of the transport, or a kept answer of a token endpoint.
struct Arrived {
    response: Result<IncomingResponse, TransportError>,
    /// When the host would fetch another token, in Unix milliseconds.
    renew_at: Option<u64>,
    /// Whether the answer was kept by the host, so that no request was sent.
    is_kept: bool,
}

impl Arrived {
    fn sent(response: Result<IncomingResponse, TransportError>) -> Arrived {
        Arrived { response, renew_at: None, is_kept: false }
    }
}

/// Carries one request of a call: the request is received, judged and sent, and its answer is sealed.
struct Carrier {
    call: &'static str,
    network: Option<CallNetwork>,
    sealed: Arc<Vec<Sealed>>,
    limits: Limits,
    journal: Shared<Journal>,
    asker: Arc<Asker>,
}

impl Carrier {
    async fn carry(&self, request: http::Request<WasiBody>) -> Result<Carried, Refused> {
        let (parts, body) = request.into_parts();
        let body = self.received(body).await?;
        let Some(network) = &self.network else { return Err(Refused::denied(WITHOUT_HTTP)) };
        let received = self.read(&parts, body)?;
        let judged = self.judged(&network.egress, &received)?;
        let captures = judged.shape.captures.clone();
        let is_private = captures.is_some() || !judged.carried.is_empty();
        let is_on_it = |sealed: &&Sealed| judged.carried.contains(&&sealed.credential);
        let carried =
            self.sealed.iter().filter(is_on_it).map(|one| (sealed::name(&one.credential), one.secret.clone()));
        let address = text::cut(received.address.split('?').next().unwrap_or_default(), NAME_BYTES);
        let asked = format!("{} {}", received.request.method, text::plain(address));
        let echo = Echo { asked, carried: carried.collect(), searches: network.searches.clone() };
        failpoint::pass("poll-request-send");
        let arrived = self.sent(network, received, judged).await?;
        self.sealed(arrived, captures, is_private, echo).await
    }

    /// Reads the body, even if the request is refused: a guest whose body is not read does not learn the reason.
    async fn received(&self, body: WasiBody) -> Result<Bytes, Refused> {
        let most = self.limits.request_body_bytes;
        let body = Limited::new(body, most).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                self.exceed(Bound::BodyOfRequest, LimitAmount::bytes(most));
            }
            Refused {
                code: HttpError::HttpRequestBodySize(None),
                cause: NoAnswer::Denied(format!("its body is too long or incomplete: {error}")),
            }
        })?;
        Ok(body.to_bytes())
    }

    /// Reads the address and the headers.
    fn read(&self, parts: &http::request::Parts, body: Bytes) -> Result<Received, Refused> {
        let address = parts.uri.to_string();
        if address.len() > ADDRESS_BYTES {
            self.exceed(Bound::AddressOfRequest, LimitAmount::bytes(ADDRESS_BYTES));
            return Err(Refused::denied("its address is too long"));
        }
        if !has_fitting_name(&address) {
            return Err(Refused::denied("its host is no name: it is too long, or one of its labels"));
        }
        let url =
            Url::parse(&address).map_err(|error| Refused::denied(format!("its address cannot be read: {error}")))?;
        // The host itself states the length of a body and the encodings that it reads, because it inspects the answer.
        // The connection is the host's, too: `te` would ask for another encoding of the body on its way.
        let own = [
            http::header::HOST,
            http::header::CONTENT_LENGTH,
            http::header::EXPECT,
            http::header::TE,
            http::header::TRAILER,
            http::header::ACCEPT_ENCODING,
            http::header::ACCEPT_CHARSET,
        ];
        let headers = parts.headers.iter().filter(|(name, _)| !own.contains(name)).map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let is_accept = name == http::header::ACCEPT;
            (name.as_str().to_owned(), if is_accept { charset::without_charset(&value) } else { value })
        });
        let (method, headers) = (parts.method.to_string(), headers.collect());
        Ok(Received { address, request: OutgoingRequest { method, url, headers, body: body.to_vec() } })
    }

    /// Says whether the request may leave, and puts its credentials on it.
    fn judged<'a>(&self, egress: &'a Egress, received: &Received) -> Result<Judged<'a>, Refused> {
        let judged = egress.judge(&received.address, received.request.clone(), &self.sealed)?;
        // A call that has read a tenant's data could send that data to the token endpoint.
        if judged.shape.captures.is_some() && self.call != "fetch-token" {
            return Err(Refused::denied("a request for a token leaves from fetch-token alone"));
        }
        let mut journal = self.journal.lock();
        // On a request without a credential, a plugin could write one of its own that nobody recognises.
        if judged.carried.is_empty() && self.knows_data(egress, &journal) {
            return Err(Refused::denied("it carries no credential, and this call may know the tenant's data"));
        }
        journal.carried.extend(judged.carried.iter().copied().cloned());
        if let Some(credential) = judged.missing.first()
            && !std::mem::replace(&mut journal.bare, true)
        {
            let (method, origin, name) = (&judged.shape.method, &judged.shape.origin, sealed::name(credential));
            let words = format!("a {method} to {origin} was sent without {name}, which was declared for it");
            if egress.news().is_news(&words) {
                tracing::warn!(target: "egress", who = %self.asker.who, words, "a request lacks its credential");
            }
        }
        Ok(judged)
    }

    /// Says whether the call may know what a service told for one of the feed's credentials. A poll gets its scope from
    /// the search for scopes.
    fn knows_data(&self, egress: &Egress, journal: &Journal) -> bool {
        let is_configured =
            |used: &CredentialUse| self.sealed.iter().any(|sealed| sealed.credential == used.credential);
        let mut uses = egress.shapes().iter().flat_map(|shape| &shape.credentials);
        !journal.carried.is_empty() || self.call == "poll" && uses.any(is_configured)
    }

    /// Sends the request, and counts the bytes of the answer. A request for a token may get the kept answer of an equal
    /// one.
    async fn sent(&self, network: &CallNetwork, received: Received, judged: Judged<'_>) -> Result<Arrived, Refused> {
        let arrived = match &judged.shape.captures {
            None => Arrived::sent(network.transport.send(judged.request).await),
            Some(captures) => match self.fetched(network, received, judged, captures).await? {
                Ok(Sent::Answer { response, renew_at, is_kept }) => {
                    Arrived { response: Ok(response), renew_at, is_kept }
                }
                Ok(Sent::TooOften { response, why }) => {
                    self.journal.lock().asked_too_often = Some(why);
                    Arrived { response: Ok(response), renew_at: None, is_kept: true }
                }
                Err(error) => Arrived::sent(Err(error)),
            },
        };
        let bytes = match &arrived.response {
            Ok(response) => response.body.len(),
            Err(TransportError::TooLarge(most)) => *most,
            Err(_) => 0,
        };
        let mut journal = self.journal.lock();
        journal.received_bytes += bytes;
        let in_all = journal.received_bytes;
        drop(journal);
        if in_all > self.limits.response_bytes {
            self.exceed(Bound::BodiesOfAllAnswers, LimitAmount::bytes(self.limits.response_bytes));
            return Err(Refused {
                code: HttpError::HttpResponseBodySize(None),
                cause: NoAnswer::Failed("the answers to the call are too long".to_owned()),
            });
        }
        Ok(arrived)
    }

    /// Sends a request for a token, or takes the answer of an equal one.
    async fn fetched(
        &self,
        network: &CallNetwork,
        Received { address, request }: Received,
        judged: Judged<'_>,
        captures: &str,
    ) -> Result<Result<Sent, TransportError>, Denial> {
        // A signed assertion differs each time; the identity of its signer takes its place.
        let named: Vec<Sealed> = self.sealed.iter().map(Sealed::named).collect();
        let asked = TokenRequest {
            likeness: network.egress.judge(&address, request, &named)?.request,
            signed: judged.signed,
            is_shared: judged.is_by_host,
            plugin: Arc::clone(&self.asker.plugin),
            tenant: Arc::clone(&self.asker.tenant),
            captures: captures.to_owned(),
            freshness: network.freshness.clone(),
            now: (network.clock)(),
        };
        // A later recipient of the answer has another assertion, and would not recognise this one as a secret.
        let signed = self.sealed.iter().filter(|sealed| sealed.identity.is_some());
        let signed: Vec<Secret> = signed.map(|sealed| sealed.secret.clone()).collect();
        let clean = move |answer: &mut IncomingResponse| seal::scrub_wholly(answer, &signed);
        Ok(network.tokens.send(&network.transport, judged.request, &asked, clean).await)
    }

    /// Removes from the answer the secrets that the guest must not see: a token that it `captures`, and every
    /// credential that it echoes. An answer to a private request must be text in a charset that the host knows, and
    /// must not contain a part of a credential that the request carried; otherwise it is refused.
    async fn sealed(
        &self,
        arrived: Arrived,
        captures: Option<String>,
        is_private: bool,
        echo: Echo,
    ) -> Result<Carried, Refused> {
        let Arrived { response, renew_at, is_kept } = arrived;
        let mut response = response.map_err(|error| {
            let cause = redact::redact(&cause::chain(&error), self.sealed.iter().map(|sealed| &sealed.secret));
            Refused { code: typed(&error, &cause), cause: NoAnswer::Failed(cause) }
        })?;
        let bytes = response.body.len() + response.header_bytes();
        let mut known: Vec<Secret> = self.sealed.iter().map(|sealed| sealed.secret.clone()).collect();
        known.extend(self.journal.lock().tokens.iter().map(|held| held.token.clone()));
        let plugin = self.asker.known;
        let decode = move |response: &mut IncomingResponse| {
            let undecoded = charset::decode(response).err().filter(|_| is_private);
            undecoded.map_or(Ok(()), |error| {
                let words = error.to_string();
                Err(Refused { code: typed(&error, &words), cause: NoAnswer::Failed(words) })
            })
        };
        let mut is_decoded = false;
        if captures.is_none() && bytes <= redact::LONG_LOOK {
            let is_excluded = meter::charged(&self.asker.spent, || {
                decode(&mut response).map(|()| echo.is_excluded(&response, &known))
            });
            if is_excluded? {
                seal::drop_cookies(&mut response);
                return Ok(Carried { response, is_kept });
            }
            is_decoded = true;
        }
        let scrub = move || {
            if !is_decoded && let Err(refused) = decode(&mut response) {
                return Ok(Err(refused));
            }
            // Without a declared charset, the plugin gets the bytes unchanged, unless they contain a secret.
            if captures.is_none()
                && let Some(text) = charset::unannounced(&response)
                && (seal::holds_token(&text) || Search::new(&known).is_in(&text.body))
            {
                response = text;
            }
            let answered = match &captures {
                Some(key) => seal::sealed(&mut response, key, &plugin),
                None if seal::holds_token(&response) => seal::sealed(&mut response, tokens::TOKEN, &plugin),
                None => seal::Sealing::default(),
            };
            seal::scrub(&mut response, &Search::new(known.iter().chain(&answered.secrets)));
            match echo.held_by(&response, &answered.secrets) {
                Some(cause) => Err(cause),
                None => Ok(Ok((response, answered.token))),
            }
        };
        let searched = meter::beside(&self.asker.spent, bytes > redact::LONG, scrub).await;
        let searched = searched.ok_or_else(|| Refused::denied("it could not be searched"))?;
        let (response, token) = searched.unwrap_or_else(|cause| {
            self.journal.lock().echoed.get_or_insert_with(|| cause.clone());
            Err(Refused { code: HttpError::HttpProtocolError, cause: NoAnswer::Failed(cause) })
        })?;
        let token = token.map(|(placeholder, token)| SealedToken { placeholder, token, renew_at });
        self.journal.lock().tokens.extend(token);
        Ok(Carried { response, is_kept })
    }

    /// The origin that asks to wait with this answer, and until when.
    fn asks_to_wait(&self, url: &str, response: &IncomingResponse) -> Option<WaitAsked> {
        let now = (self.network.as_ref()?.clock)();
        let wait = network::asked_wait(response, now)?;
        let origin = Url::parse(url).ok()?.origin().ascii_serialization();
        Some(WaitAsked { origin, until: now.saturating_add(milliseconds(wait)) })
    }

    fn exceed(&self, limit: Bound, value: LimitAmount) {
        self.journal.lock().exceeded.get_or_insert((limit, value));
    }

    /// Records the first denial of a call, which the feed reports; a plugin may try without end. A denial in `describe`
    /// belongs to no feed, and is logged at once.
    fn note_denial(&self, method: &str, url: &str, why: &NoAnswer) {
        let mut journal = self.journal.lock();
        journal.denied += 1;
        // A `discover` without a network is the host's own: it asks for the scopes of the settings alone. The log need
        // not mention that the plugin tried to ask the service.
        let is_real = self.network.is_some() || self.call != "discover";
        if journal.denied > 1 || !is_real {
            return;
        }
        let address = url.split('?').next().unwrap_or_default();
        let address = text::cut(address, ADDRESS_BYTES).escape_default();
        let request = format!("{method} {address}");
        match self.call {
            "describe" => tracing::warn!(target: "egress", who = %self.asker.who, "{request} is not allowed: {why}"),
            _ => journal.first_denied = Some(Denied { request, why: why.to_string() }),
        }
    }
}

/// Converts the answer to `wasi:http`'s response type.
fn wasi_response(response: IncomingResponse) -> Result<http::Response<WasiBody>, HttpError> {
    let mut builder = http::Response::builder().status(response.status);
    // By now the body is complete and decoded, whatever the headers said about the transfer.
    let changed = ["content-length", "content-encoding", "transfer-encoding"];
    for (name, value) in response.headers.iter().filter(|(name, _)| !changed.contains(&name.as_str())) {
        builder = builder.header(name, value);
    }
    let body = Full::new(Bytes::from(response.body)).map_err(|never| match never {}).boxed_unsync();
    builder.body(body).map_err(|_| HttpError::HttpProtocolError)
}

/// Converts an error to the code of `wasi:http` by which the guest distinguishes errors.
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
        TransportError::Encoded(_) | TransportError::Charset(_) => HttpError::HttpResponseContentCoding(None),
        TransportError::Undecodable(_) | TransportError::Other(_) => HttpError::InternalError(Some(text.to_owned())),
    }
}
