//! Posts batches of events: NDJSON for Vector and most others, an array for Fluent Bit, envelopes for Splunk, and
//! requests of OTLP/HTTP, which `otlp` writes and whose answers it reads.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::StatusCode;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER,
};
use rustls::client::Resumption;
use serde_json::json;
use source_host::blame::Blame;
use source_host::cause;
use source_host::clock::Clock;
use source_host::credentials::redact;
use source_host::credentials::secret::Secret;
use source_host::failpoint;
use source_host::limits::{CONNECT_TIMEOUT, IDLE_CONNECTION, TLS_SESSIONS};
use source_host::network;
use source_host::network::client::{self, Resolver, Timeouts};
use source_host::network::proxy::Proxy;
use source_host::text;
use url::Url;

#[cfg(feature = "otlp")]
use super::otlp::{self, PartialSuccess};
use super::{
    DeliveryError, DeliveryFuture, HttpConfig, Preset, SinkError, SinkTrouble, Stall, Template, Writer, bodies, lines,
};
use crate::environment::PRODUCT;
use crate::limits;
use crate::store::{Partition, Queued};

/// A client for sinks, with its proxy. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    inner: reqwest::Client,
    proxy: Proxy,
}

impl Client {
    /// Begins a request that posts to an address.
    pub fn post(&self, url: &str) -> reqwest::RequestBuilder {
        self.inner.post(url)
    }
}

/// The writer of a partition to an address.
pub struct HttpWriter {
    client: Client,
    clock: Clock,
    url: String,
    /// The part of the address that messages have.
    shown: String,
    preset: Preset,
    /// The members of Splunk's envelope before the event, as JSON, each with a comma at its end.
    envelope: String,
    headers: HeaderMap,
    gzip: bool,
    /// Values that messages must not show.
    secrets: Vec<Secret>,
}

impl HttpWriter {
    /// Makes a writer that posts a partition's events with this client. The error names a value that is not valid in a
    /// header.
    pub fn new(
        (client, clock): (Client, Clock),
        config: &HttpConfig,
        partition: &Partition,
        tenant: &str,
    ) -> Result<HttpWriter, SinkError> {
        let feed = partition.feed.as_deref().unwrap_or_default();
        let mut headers = HeaderMap::new();
        // The text of a refusal is read without decoding.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, value) in &config.headers {
            let value = HeaderValue::from_str(&value.filled(tenant, feed));
            let value = value.map_err(|error| SinkError::Header { name: name.clone(), error })?;
            headers.insert(name.clone(), value);
        }
        for (name, value) in &config.credentials {
            // The error does not show the value.
            let value = HeaderValue::from_str(value.expose());
            let mut value = value.map_err(|_| SinkError::SecretHeader(name.clone()))?;
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        if let Some(token) = &config.token {
            let scheme = if config.preset == Preset::SplunkHec { "Splunk" } else { "Bearer" };
            let mut value =
                HeaderValue::from_str(&format!("{scheme} {}", token.expose())).map_err(|_| SinkError::Token)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let media = match config.preset {
            Preset::Vector => "application/x-ndjson",
            Preset::FluentBit | Preset::SplunkHec => "application/json",
            #[cfg(feature = "otlp")]
            Preset::Otlp(encoding) => encoding.media_type(),
        };
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(media));
        if config.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let (url, secrets) = (config.url.filled(tenant, feed), config.secrets(tenant, feed));
        let member = |(name, value): &(&str, Template)| format!("{name:?}:{},", json!(value.filled(tenant, feed)));
        let envelope = config.envelope.iter().map(member).collect();
        let shown = match Url::parse(&url) {
            Ok(parsed) if config.is_url_secret => parsed.origin().ascii_serialization(),
            _ => url.split('?').next().unwrap_or_default().to_owned(),
        };
        Ok(HttpWriter {
            client,
            clock,
            url,
            shown,
            preset: config.preset,
            envelope,
            headers,
            gzip: config.gzip,
            secrets,
        })
    }

    async fn post(&self, batch: &[Queued]) -> Result<Option<SinkTrouble>, DeliveryError> {
        let body = body(self.preset, &self.envelope, batch, (self.clock)());
        let failed = |error| Stall::from(SinkTrouble::of_host(error));
        let body = if self.gzip { compressed(&body).map_err(failed)? } else { body };
        failpoint::pass("http-send");
        let request = self.client.post(&self.url).headers(self.headers.clone()).body(body);
        let response = request.send().await.map_err(|error| Stall::from(self.unreached(error)))?;
        failpoint::pass("http-answered");
        let status = response.status();
        if status.is_success() {
            return self.accepted(response, batch.len()).await;
        }
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let location = header(LOCATION);
        let wait = header(RETRY_AFTER).and_then(|value| network::retry_after(&value, (self.clock)()));
        let said = answer_text(self.preset, &answer(response).await);
        let told = self.shown(&said);
        let told = if told.is_empty() { told } else { format!(": {told}") };
        let fix = fix(status, &self.url, location.as_deref());
        let why = self.with_address(&format!("answered {status}{told}{}", redact::redact(&fix, &self.secrets)));
        Err(refusal(status, &said, self.preset, wait, why))
    }

    /// Reads the answer to a batch that was accepted, of which OTLP may except some events.
    async fn accepted(&self, response: reqwest::Response, events: usize) -> Result<Option<SinkTrouble>, DeliveryError> {
        #[cfg(feature = "otlp")]
        if let Preset::Otlp(encoding) = self.preset {
            let trouble = |code, what: String| SinkTrouble::new(code, Blame::Receiver, self.with_address(&what));
            let answer = match whole_answer(response).await {
                Ok(answer) => answer,
                // Nobody knows what became of the records; a repeat has the same uids.
                Err(error) => return Err(Stall::Later { wait: None, trouble: self.unreached(error) }.into()),
            };
            let Some(answer) = answer else {
                let what = format!("accepted {events} events with more words than {} bytes", limits::ACCEPTANCE_BYTES);
                return Ok(Some(trouble("receiver-warned", what)));
            };
            let Some(PartialSuccess { rejected, message }) = otlp::partial_success(encoding, &answer) else {
                return Ok(None);
            };
            let told = self.shown(&message);
            if rejected == 0 {
                return Ok(Some(trouble("receiver-warned", format!("took {events} events with a warning: {told}"))));
            }
            let why = format!("rejected {rejected} of {events} events without saying which: {told}");
            return Err(DeliveryError::Partly(trouble("partly-rejected", why)));
        }
        #[cfg(not(feature = "otlp"))]
        let _ = (response, events);
        Ok(None)
    }

    /// The beginning of a receiver's words, without secrets.
    fn shown(&self, said: &str) -> String {
        text::cut(redact::redact(said, &self.secrets).trim(), limits::REFUSAL_TOLD_BYTES).to_owned()
    }

    /// Returns the reason why there is no answer.
    fn unreached(&self, error: reqwest::Error) -> SinkTrouble {
        let Client { proxy, .. } = &self.client;
        let timeouts = Timeouts { connect: CONNECT_TIMEOUT, exchange: limits::DELIVERY_TIMEOUT };
        let is_proxied = Url::parse(&self.url).is_ok_and(|url| proxy.address_for(&url).is_some());
        let connecting = error.is_connect();
        let met = client::classify(error, timeouts);
        let met = if is_proxied { proxy.named(met, connecting) } else { met };
        SinkTrouble::unreached(&met, self.with_address(&format!("cannot be reached: {}", cause::chain(&met))))
    }

    fn with_address(&self, what: &str) -> String {
        format!("{} {what}", self.shown)
    }
}

impl Writer for HttpWriter {
    fn take<'a>(&'a mut self, batch: &'a [Queued]) -> DeliveryFuture<'a> {
        Box::pin(self.post(batch))
    }
}

/// Returns the fix for a refusal that the configuration causes.
fn fix(status: StatusCode, url: &str, location: Option<&str>) -> String {
    match status.as_u16() {
        300..=399 => match location.and_then(|location| leads(url, location)) {
            None => {
                "; fix: check the `url` of the sink: the answer is a redirect that does not say where to".to_owned()
            }
            Some((there, true)) => format!("; fix: put the address of the redirect into `url`: {there}"),
            // Another machine may answer in the receiver's place.
            Some((there, false)) => format!(
                "; fix: check who answers there: the answer redirects to {there}, and whoever listens there would get \
                 events and credentials"
            ),
        },
        401 | 403 => "; fix: check the `token` of the sink".to_owned(),
        404 | 405 => "; fix: check the `url` of the sink".to_owned(),
        _ => String::new(),
    }
}

/// Returns the address of a redirect without its query, which may hold anything, and whether it has the same host and
/// is at least as secure.
fn leads(url: &str, location: &str) -> Option<(String, bool)> {
    let url = Url::parse(url).ok()?;
    let mut there = url.join(location).ok()?;
    let is_same = there.host() == url.host() && (there.scheme() == "https" || there.scheme() == url.scheme());
    let _ = (there.set_username(""), there.set_password(None));
    there.set_query(None);
    there.set_fragment(None);
    Some((text::cut(there.as_str(), limits::REFUSAL_TOLD_BYTES).to_owned(), is_same))
}

/// Returns the text for people in a receiver's refusal.
fn answer_text(preset: Preset, answer: &[u8]) -> String {
    match preset {
        Preset::Vector | Preset::FluentBit | Preset::SplunkHec => String::from_utf8_lossy(answer).into_owned(),
        #[cfg(feature = "otlp")]
        Preset::Otlp(encoding) => otlp::refusal_text(encoding, answer),
    }
}

/// Reads the whole answer of a receiver that accepted a batch; `None` if the answer is longer than any that it needs.
#[cfg(feature = "otlp")]
async fn whole_answer(mut response: reqwest::Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut said = Vec::new();
    while let Some(bytes) = response.chunk().await? {
        said.extend_from_slice(&bytes);
        if said.len() > limits::ACCEPTANCE_BYTES {
            return Ok(None);
        }
    }
    Ok(Some(said))
}

/// Reads a receiver's answer, as far as it arrives.
async fn answer(mut response: reqwest::Response) -> Vec<u8> {
    let mut said = Vec::new();
    while said.len() < limits::REFUSAL_BYTES
        && let Ok(Some(bytes)) = response.chunk().await
    {
        said.extend_from_slice(&bytes);
    }
    said.truncate(limits::REFUSAL_BYTES);
    said
}

/// Returns the consequence of a status for the batch. A status that may be the fault of this configuration or of the
/// receiver is retried; one that concerns the events themselves is permanent.
fn refusal(status: StatusCode, said: &str, preset: Preset, wait: Option<Duration>, why: String) -> DeliveryError {
    let splunk = || serde_json::from_str::<serde_json::Value>(said).ok()?["code"].as_u64();
    let answered = |why| SinkTrouble::new(&format!("answered-{}", status.as_u16()), blame_of_status(status), why);
    let later = |trouble| Stall::Later { wait, trouble }.into();
    match (status, preset) {
        (StatusCode::PAYLOAD_TOO_LARGE, _) => DeliveryError::TooLarge(answered(why)),
        (StatusCode::BAD_REQUEST, Preset::SplunkHec) => match splunk() {
            Some(code) if SPLUNK_OF_EVENTS.contains(&code) => DeliveryError::Never(answered(why)),
            Some(code) => later(SinkTrouble::new(&format!("splunk-{code}"), blame_of_splunk(code), why)),
            None => later(answered(why)),
        },
        (StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY, _) => DeliveryError::Never(answered(why)),
        _ => later(answered(why)),
    }
}

/// Returns the party that a status blames: the operator, if the `url`, `token`, `headers` or `preset` of the sink mends
/// it.
fn blame_of_status(status: StatusCode) -> Blame {
    match status.as_u16() {
        301 | 302 | 303 | 307 | 308 | 401 | 403 | 404 | 405 | 407 | 410 | 415 => Blame::Operator,
        _ => Blame::Receiver,
    }
}

/// Splunk's codes that concern events: 6 is "Invalid data format", 12, 13 and 15 are about fields of an event. Splunk
/// also answers 400 to a wrong index or channel.
const SPLUNK_OF_EVENTS: [u64; 4] = [6, 12, 13, 15];

/// Returns the party that a code of Splunk blames: the operator, if the token lacks the index or the channel.
fn blame_of_splunk(code: u64) -> Blame {
    if matches!(code, 7 | 10 | 11 | 14) { Blame::Operator } else { Blame::Receiver }
}

fn body(preset: Preset, envelope: &str, batch: &[Queued], now: u64) -> Vec<u8> {
    #[cfg(not(feature = "otlp"))]
    let _ = now;
    match preset {
        #[cfg(feature = "otlp")]
        Preset::Otlp(encoding) => otlp::body(encoding, batch, now),
        Preset::Vector => lines(bodies(batch)),
        Preset::FluentBit => {
            let mut body = vec![b'['];
            for (index, event) in batch.iter().enumerate() {
                if index > 0 {
                    body.push(b',');
                }
                body.extend_from_slice(&event.body);
            }
            body.push(b']');
            body
        }
        Preset::SplunkHec => {
            let mut body = Vec::new();
            for event in batch {
                let (seconds, milliseconds) = (event.time / 1_000, event.time % 1_000);
                let begin = format!(r#"{{"time":{seconds}.{milliseconds:03},{envelope}"event":"#);
                body.extend_from_slice(begin.as_bytes());
                body.extend_from_slice(&event.body);
                body.extend_from_slice(b"}\n");
            }
            body
        }
    }
}

fn compressed(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

/// Makes a client for sinks. The operator chooses the addresses, so that any address may be dialled. The client has its
/// own TLS sessions: a clone of the configuration would share those of all others.
pub fn client(mut tls: rustls::ClientConfig, proxy: &Proxy) -> reqwest::Result<Client> {
    tls.resumption = Resumption::in_memory_sessions(TLS_SESSIONS);
    let inner = proxy
        .applied(reqwest::Client::builder().tls_backend_preconfigured(tls))
        .dns_resolver(Resolver { allowed: None })
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(limits::DELIVERY_TIMEOUT)
        .pool_idle_timeout(IDLE_CONNECTION)
        .user_agent(PRODUCT)
        .build()?;
    Ok(Client { inner, proxy: proxy.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::shards::Lease;

    fn event(time: u64, body: &str) -> Queued {
        let none = String::new;
        Queued {
            lease: Lease::SOLE,
            number: 1,
            tenant: none(),
            feed: none(),
            scope: none(),
            uid: none(),
            time,
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn each_preset_has_its_shape() {
        let batch = [event(1_500, r#"{"a":1}"#), event(2_007, r#"{"a":2}"#)];
        let text = |preset| String::from_utf8(body(preset, "", &batch, 0)).unwrap();
        assert_eq!(text(Preset::Vector), "{\"a\":1}\n{\"a\":2}\n");
        assert_eq!(text(Preset::FluentBit), r#"[{"a":1},{"a":2}]"#);
        assert_eq!(
            text(Preset::SplunkHec),
            "{\"time\":1.500,\"event\":{\"a\":1}}\n{\"time\":2.007,\"event\":{\"a\":2}}\n"
        );
    }

    #[test]
    fn a_redirect_is_advised_where_it_stays_with_the_receiver() {
        for (location, told) in [
            ("/v2/events?token=abc", "put the address of the redirect into `url`: https://h.example/v2/events"),
            ("https://h.example:8443/e", "put the address of the redirect into `url`: https://h.example:8443/e"),
            ("http://h.example/e", "check who answers there: the answer redirects to http://h.example/e"),
            ("https://u:p@evil.example/e", "check who answers there: the answer redirects to https://evil.example/e"),
        ] {
            let fix = fix(StatusCode::FOUND, "https://h.example/events", Some(location));
            assert!(fix.contains(told) && !fix.contains("abc"), "{fix}");
        }
        assert!(fix(StatusCode::FOUND, "https://h.example/events", None).contains("does not say where"));
    }

    #[test]
    fn only_what_is_said_of_the_events_is_for_good_and_each_answer_has_its_code() {
        let what = |status: u16, said: &str, preset| {
            let status = StatusCode::from_u16(status).unwrap();
            refusal(status, said, preset, None, String::new())
        };
        let later = |code: &str, blame| DeliveryError::from(Stall::from(SinkTrouble::new(code, blame, "")));
        let never = |code: &str| DeliveryError::Never(SinkTrouble::new(code, Blame::Receiver, ""));
        let too_large = DeliveryError::TooLarge(SinkTrouble::new("answered-413", Blame::Receiver, ""));
        for (status, said, preset, expected) in [
            (413, "", Preset::Vector, too_large),
            (400, "", Preset::Vector, never("answered-400")),
            (422, "", Preset::FluentBit, never("answered-422")),
            (400, r#"{"text":"Invalid data format","code":6}"#, Preset::SplunkHec, never("answered-400")),
            (400, r#"{"text":"Incorrect index","code":7}"#, Preset::SplunkHec, later("splunk-7", Blame::Operator)),
            (400, r#"{"text":"ACK is disabled","code":14}"#, Preset::SplunkHec, later("splunk-14", Blame::Operator)),
            (400, "<html>", Preset::SplunkHec, later("answered-400", Blame::Receiver)),
            (401, "", Preset::Vector, later("answered-401", Blame::Operator)),
            (403, "", Preset::SplunkHec, later("answered-403", Blame::Operator)),
            (404, "", Preset::Vector, later("answered-404", Blame::Operator)),
            (429, "", Preset::Vector, later("answered-429", Blame::Receiver)),
            (503, "", Preset::Vector, later("answered-503", Blame::Receiver)),
            (308, "", Preset::Vector, later("answered-308", Blame::Operator)),
            (400, r#"{"text":"Server is busy","code":9}"#, Preset::SplunkHec, later("splunk-9", Blame::Receiver)),
        ] {
            assert_eq!(what(status, said, preset), expected, "{status} {said}");
        }
    }
}
