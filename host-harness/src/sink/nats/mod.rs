//! Publishes events to a stream of NATS JetStream. Every event has its acknowledgement before it counts as delivered.
//! Events of different scopes are in flight together; those of one scope follow each other, so that a message that is
//! lost on the way never arrives behind its successor.

mod link;
mod stream;
mod subject;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::HeaderMap;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::future;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use source_host::blame::Blame;
use source_host::credentials::certificates::Authorities;
use source_host::credentials::client_certificate::ClientCertificate;
use source_host::credentials::secret::Secret;
use time::OffsetDateTime;
use tokio::time::Instant;
use url::Url;

pub use self::stream::{NatsStream, StreamSettings};
pub use self::subject::{NatsSubject, SubjectError, takes};

use self::link::{NatsLink, Unreplied};
use super::{Apart, DeliveryError, DeliveryFuture, SinkTrouble, Stall, Writer};
use crate::limits;
use crate::store::{Partition, Queued};

/// The port of servers whose address has none.
const PORT: u16 = 4_222;

/// A sink that publishes to a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct NatsConfig {
    /// The addresses of the servers, of which one is enough.
    pub servers: Vec<String>,
    /// The subjects of the events.
    pub subject: NatsSubject,
    /// The stream that takes the subjects.
    pub stream: NatsStream,
    /// The collector's user.
    pub auth: NatsAuth,
    /// Trusted authorities of the sink's own, in addition to all others.
    pub authorities: Authorities,
    /// The certificate that a server may ask for.
    pub identity: Option<ClientCertificate>,
}

/// The way in which the collector says who it is.
#[derive(Debug, Clone, PartialEq)]
pub enum NatsAuth {
    /// Not at all, or by its certificate.
    None,
    /// The content of a file of credentials: a JWT and the seed of its key.
    Credentials(Secret),
    /// The seed of a key.
    Nkey(Secret),
    /// A token.
    Token(Secret),
    /// A user and a password.
    Password {
        /// Name of the user.
        user: String,
        /// The password.
        password: Secret,
    },
}

impl NatsAuth {
    /// Returns when the JWT of credentials ends, if it does.
    pub fn end(&self) -> Option<OffsetDateTime> {
        let NatsAuth::Credentials(file) = self else { return None };
        let claims = |line: &str| {
            let claims = BASE64_URL_SAFE_NO_PAD.decode(line.trim().split('.').nth(1)?).ok()?;
            serde_json::from_slice::<Value>(&claims).ok()
        };
        let end = file.expose().lines().find_map(claims)?["exp"].as_i64()?;
        OffsetDateTime::from_unix_timestamp(end).ok()
    }
}

impl NatsConfig {
    /// Says whether two sinks publish to one stream, as far as their tables tell: users may have streams of one name in
    /// different accounts.
    pub fn shares_stream(&self, other: &NatsConfig) -> bool {
        let place = |server: &String| {
            let url = Url::parse(server).ok()?;
            Some((url.host_str()?.to_lowercase(), url.port().unwrap_or(PORT)))
        };
        let is_same_user = (&self.auth, &self.identity) == (&other.auth, &other.identity);
        let theirs: BTreeSet<_> = other.servers.iter().filter_map(place).collect();
        let is_near = self.servers.iter().filter_map(place).any(|server| theirs.contains(&server));
        self.stream.name == other.stream.name && is_same_user && is_near
    }

    /// Returns the values that must not be shown.
    fn secrets(&self) -> Vec<Secret> {
        match &self.auth {
            NatsAuth::None => Vec::new(),
            NatsAuth::Credentials(secret) | NatsAuth::Nkey(secret) | NatsAuth::Token(secret) => {
                // A file of credentials has lines, and an answer may contain one of them.
                let lines = secret.expose().lines().filter(|line| line.len() >= 16).map(Secret::new);
                std::iter::once(secret.clone()).chain(lines).collect()
            }
            NatsAuth::Password { password, .. } => vec![password.clone()],
        }
    }
}

/// The connection of one sink, or of one partition of a sink that separates tenants. Cheap to clone.
#[derive(Clone)]
pub struct NatsClient {
    tls: Arc<rustls::ClientConfig>,
    link: Arc<Mutex<Option<NatsLink>>>,
    /// Whether the stream acknowledged an event of the sink, by any of its connections.
    has_delivered: Arc<AtomicBool>,
}

impl NatsClient {
    /// Makes a client that is not connected yet.
    pub fn new(tls: rustls::ClientConfig) -> NatsClient {
        NatsClient { tls: Arc::new(tls), link: Arc::default(), has_delivered: Arc::default() }
    }

    /// Returns a client with a connection of its own.
    pub fn apart(&self) -> NatsClient {
        NatsClient { link: Arc::default(), ..self.clone() }
    }
}

/// The writer of a partition to a subject.
pub struct NatsWriter {
    client: NatsClient,
    config: NatsConfig,
    subject: String,
    /// A warning about the servers or the stream, until it is told.
    warning: Option<SinkTrouble>,
}

/// A refusal of the server.
#[derive(Debug, Default, Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

impl ApiError {
    fn code(&self) -> String {
        format!("nats-{}", self.err_code)
    }
}

/// The answer to a published message.
#[derive(Deserialize)]
struct PublishAnswer {
    error: Option<ApiError>,
    stream: Option<String>,
    seq: Option<u64>,
    /// Whether the stream knew the message's id, and did not store the message.
    #[serde(default)]
    duplicate: bool,
}

/// A message that the stream acknowledged.
#[derive(Debug, PartialEq)]
struct Acknowledged {
    is_repeat: bool,
}

/// The reason why a stream did not take an event.
#[derive(Debug, PartialEq)]
enum Unpublished {
    /// It will never take this event.
    Refused(SinkTrouble),
    /// It takes no events now.
    Stalled(SinkTrouble),
    /// The connection is of no use any more.
    Ended(SinkTrouble),
}

impl NatsWriter {
    /// Makes a writer that publishes a partition's events through this client.
    pub fn new(client: NatsClient, config: &NatsConfig, partition: &Partition, tenant: &str) -> NatsWriter {
        let subject = config.subject.filled(tenant, partition.feed.as_deref().unwrap_or_default());
        NatsWriter { client, config: config.clone(), subject, warning: None }
    }

    async fn publish(&mut self, batch: &[Queued]) -> Result<Option<SinkTrouble>, DeliveryError> {
        let link = self.linked().await.map_err(Stall::from)?;
        let mut scopes: BTreeMap<(&str, &str, &str), Vec<&Queued>> = BTreeMap::new();
        for event in batch {
            scopes.entry((&event.tenant, &event.feed, &event.scope)).or_default().push(event);
        }
        let (stops, end) = (AtomicBool::new(false), Instant::now() + limits::NATS_BATCH);
        let goes_on = || !stops.load(Ordering::Relaxed) && Instant::now() < end;
        let (writer, link, stops) = (&*self, &link, &stops);
        let publish = |event| async move {
            let result = writer.publish_event(link, event).await;
            let is_stalled = !matches!(result, Ok(_) | Err(Unpublished::Refused(_)));
            stops.fetch_or(is_stalled, Ordering::Relaxed);
            result
        };
        let publishing = scopes.into_values().map(|events| in_order(events, goes_on, publish));
        let results = future::join_all(publishing).await.into_iter().flatten();
        let mut apart = Apart::default();
        let (mut ended, mut repeats) = (false, 0);
        for (number, result) in results {
            match result {
                Ok(Acknowledged { is_repeat }) => {
                    repeats += usize::from(is_repeat);
                    apart.taken.insert(number);
                }
                Err(Unpublished::Refused(trouble)) => _ = apart.refused.insert(number, trouble),
                Err(Unpublished::Stalled(trouble)) => apart.stall = Some(apart.stall.unwrap_or(trouble.into())),
                Err(Unpublished::Ended(trouble)) => {
                    ended = true;
                    apart.stall = Some(apart.stall.unwrap_or(trouble.into()));
                }
            }
        }
        if ended {
            *self.client.link.lock() = None;
        }
        if !apart.taken.is_empty() {
            self.client.has_delivered.store(true, Ordering::Relaxed);
            apart.warning = match repeats {
                0 => self.warning.take(),
                // The other warning waits for the next batch.
                repeats => Some(link.trouble("stream-knew-events", Blame::Receiver, self.knew(repeats))),
            };
        }
        if apart.taken.len() == batch.len() {
            return Ok(apart.warning);
        }
        Err(DeliveryError::Apart(Box::new(apart)))
    }

    /// Returns the warning about events that the stream did not store, since it knew their ids.
    fn knew(&self, repeats: usize) -> String {
        format!(
            "the stream {} knew {repeats} of the events by their ids, and did not store them again: usual after an \
             interruption; fix, if the stream does not have them any more: `redeliver` once its duplicate_window has passed",
            self.config.stream.name
        )
    }

    async fn publish_event(&self, link: &NatsLink, event: &Queued) -> Result<Acknowledged, Unpublished> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", message_id(event));
        headers.insert("Nats-Expected-Stream", self.config.stream.name.as_str());
        let answer = link.request(&self.subject, headers, event.body.clone().into()).await;
        let answer = answer.map_err(|error| match error {
            Unreplied::Ended(trouble) => Unpublished::Ended(trouble),
            Unreplied::TooLarge(why) => {
                let why = format!("{why}; fix: raise `max_payload` of the servers");
                Unpublished::Refused(link.trouble("nats-too-large", Blame::Receiver, why))
            }
            Unreplied::NoResponders => {
                let why = format!("nobody takes the subject {}: the stream has no leader, or is gone", self.subject);
                // The next connection looks for the stream.
                Unpublished::Ended(link.trouble("nats-no-responders", Blame::Receiver, why))
            }
        })?;
        let answer: Result<PublishAnswer, _> = serde_json::from_slice(&answer);
        match answer {
            Ok(PublishAnswer { error: Some(error), .. }) => Err(self.refusal(link, &error)),
            Ok(PublishAnswer { error: None, stream: Some(stream), seq: Some(_), duplicate })
                if stream == self.config.stream.name =>
            {
                Ok(Acknowledged { is_repeat: duplicate })
            }
            _ => {
                let why = format!("the answer to a message for {} is no acknowledgement of its stream", self.subject);
                Err(Unpublished::Stalled(link.trouble("answer-unknown", Blame::Receiver, why)))
            }
        }
    }

    /// Returns the consequence of a stream's refusal.
    fn refusal(&self, link: &NatsLink, error: &ApiError) -> Unpublished {
        let name = &self.config.stream.name;
        let said = link.shown(&error.description);
        let why = format!("the stream {name} refused an event: {said}{}", fix(error.err_code));
        let trouble = link.trouble(&error.code(), trouble_of(error.err_code), why);
        match is_for_good(error.err_code) {
            true => Unpublished::Refused(trouble),
            false => Unpublished::Stalled(trouble),
        }
    }

    /// Returns an open connection to servers that have the stream.
    async fn linked(&mut self) -> Result<NatsLink, SinkTrouble> {
        let open = self.client.link.lock().clone().filter(NatsLink::is_open);
        if let Some(link) = open {
            return Ok(link);
        }
        let (link, refusal) = NatsLink::connected(&self.config, &self.client.tls).await?;
        let NatsConfig { subject, stream, .. } = &self.config;
        let had_events = &self.client.has_delivered;
        self.warning = stream.checked(&link, &self.subject, &subject.pattern(), had_events).await?.or(refusal);
        *self.client.link.lock() = Some(link.clone());
        Ok(link)
    }
}

impl Writer for NatsWriter {
    fn take<'a>(&'a mut self, batch: &'a [Queued]) -> DeliveryFuture<'a> {
        Box::pin(self.publish(batch))
    }
}

/// Publishes the events of one scope in order, up to the first without an answer, and the first in any case. An event that
/// the stream refuses for good does not hold up the others.
async fn in_order<'a, F: Future<Output = Result<Acknowledged, Unpublished>>>(
    events: Vec<&'a Queued>,
    goes_on: impl Fn() -> bool,
    publish: impl Fn(&'a Queued) -> F,
) -> Vec<(i64, Result<Acknowledged, Unpublished>)> {
    let mut results = Vec::with_capacity(events.len());
    for event in events {
        results.push((event.number, publish(event).await));
        if !goes_on() {
            break;
        }
    }
    results
}

/// Returns the id by which the stream recognises a repeated event. A uid alone would let tenants suppress each other's
/// events.
fn message_id(event: &Queued) -> String {
    let mut id = format!("{}/{}/", event.tenant, event.feed);
    for byte in event.uid.bytes() {
        match byte {
            b'!'..=b'~' if byte != b'%' => id.push(char::from(byte)),
            // A uid is the plugin's, and a header has one line.
            _ => id.push_str(&format!("%{byte:02X}")),
        }
    }
    id
}

/// Says whether a code of the server concerns the event itself: the stream accepts no message of its size.
fn is_for_good(code: u64) -> bool {
    code == 10054
}

/// Returns the party that a code of the server blames: the operator, if `subject` or `stream` of the sink mends it.
fn trouble_of(code: u64) -> Blame {
    match code {
        // Settings that no stream has; another stream has the name, takes the subject or some of the subjects; there is no
        // cluster for replicas; the account wants `max_bytes`, or less.
        10052 | 10058 | 10060 | 10065 | 10074 | 10113 | 10122 => Blame::Operator,
        _ => Blame::Receiver,
    }
}

/// Returns the fix for a refusal.
fn fix(code: u64) -> &'static str {
    match code {
        10054 => "; fix: raise `max_msg_size` of the stream",
        10060 => "; fix: check `subject` and `stream` of the sink: another stream takes the subject",
        10077 => "; fix: raise the limits of the stream, or remove messages that were read; until then events wait",
        10002 | 10023 | 10028 | 10047 => "; fix: give JetStream more room on the servers or in the account",
        10005 => "; fix: start as many servers as the stream has replicas, with room for it",
        10027 => "; fix: raise the number of streams that the account may have, or name a stream that exists",
        10074 => "; fix: write `replicas = 1` in `stream` of the sink, or make a cluster of the servers",
        10113 | 10122 => "; fix: check `max_bytes` in `stream` of the sink",
        10052 | 10058 | 10065 => "; fix: check `stream` of the sink",
        10039 | 10076 => "; fix: switch JetStream on in the servers and for the account",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::store::shards::Lease;

    fn event(tenant: &str, uid: &str) -> Queued {
        Queued {
            number: 1,
            lease: Lease::SOLE,
            tenant: tenant.to_owned(),
            feed: "prod".to_owned(),
            scope: "one".to_owned(),
            uid: uid.to_owned(),
            time: 0,
            body: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_late_batch_begins_no_further_event_and_each_scope_gets_one_in() {
        let events: Vec<Queued> = (1..=5).map(|number| Queued { number, ..event("contoso", "x") }).collect();
        for (most, expected) in [(0, vec![1]), (3, vec![1, 2, 3]), (9, vec![1, 2, 3, 4, 5])] {
            let published = AtomicUsize::new(0);
            let publish = |_: &Queued| {
                published.fetch_add(1, Ordering::Relaxed);
                future::ready(Ok(Acknowledged { is_repeat: false }))
            };
            let goes_on = || published.load(Ordering::Relaxed) < most;
            let results = in_order(events.iter().collect(), goes_on, publish).await;
            let numbers: Vec<i64> = results.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers, expected, "{most}");
        }
    }

    #[test]
    fn a_message_has_the_id_of_its_tenant_feed_and_uid() {
        assert_eq!(message_id(&event("contoso", "0f1e-2d")), "contoso/prod/0f1e-2d");
        assert_ne!(message_id(&event("contoso", "x")), message_id(&event("fabrikam", "x")));
        assert_eq!(message_id(&event("t", "a b\r\nNats-Rollup: all")), "t/prod/a%20b%0D%0ANats-Rollup:%20all");
        assert_ne!(message_id(&event("t", "%20")), message_id(&event("t", " ")));
    }

    #[test]
    fn only_the_size_of_an_event_is_for_good() {
        for (code, for_good, blame) in [
            (10054, true, Blame::Receiver),
            (10077, false, Blame::Receiver),
            (10047, false, Blame::Receiver),
            (10060, false, Blame::Operator),
            (10027, false, Blame::Receiver),
            (10074, false, Blame::Operator),
            (10008, false, Blame::Receiver),
            (0, false, Blame::Receiver),
        ] {
            assert_eq!((is_for_good(code), trouble_of(code)), (for_good, blame), "{code}");
        }
    }

    #[test]
    fn credentials_say_when_their_jwt_ends() {
        let file = |claims: &str| {
            let claims = BASE64_URL_SAFE_NO_PAD.encode(claims);
            let file =
                format!("-----BEGIN NATS USER JWT-----\neyJ0.{claims}.c2ln\n------END NATS USER JWT------\nSU\n");
            NatsAuth::Credentials(Secret::new(file))
        };
        let end = file(r#"{"exp":1000000000}"#).end().map(OffsetDateTime::unix_timestamp);
        assert_eq!(end, Some(1_000_000_000));
        assert_eq!((file("{}").end(), NatsAuth::None.end()), (None, None));
    }

    #[test]
    fn secrets_are_known_whole_and_by_line() {
        let auth = NatsAuth::Credentials(Secret::new("-----BEGIN-----\neyJhbGciOiJlZDI1NTE5\n------END------\n"));
        let config = NatsConfig {
            servers: Vec::new(),
            subject: NatsSubject::new("a").unwrap(),
            stream: NatsStream { name: "A".to_owned(), made: None },
            auth,
            authorities: Authorities::default(),
            identity: None,
        };
        assert!(config.secrets().iter().any(|secret| secret.expose() == "eyJhbGciOiJlZDI1NTE5"));
        assert!(!format!("{config:?}").contains("eyJhbGci"));
    }
}
