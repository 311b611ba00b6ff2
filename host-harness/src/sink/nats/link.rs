//! One connection to NATS servers. It lasts until its first interruption: the client would connect again and send what
//! it has kept, behind the back of the deliveries, which decide themselves what is sent again.

use std::future::Future;

use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, HeaderMap, Request, RequestErrorKind};
use async_nats::{ServerAddr, ServerError};
use bytes::Bytes;
use rustls::client::Resumption;
use serde::de::DeserializeOwned;
use source_host::blame::Blame;
use source_host::credentials::redact;
use source_host::credentials::secret::Secret;
use source_host::limits::{CONNECT_TIMEOUT, TLS_SESSIONS};
use source_host::text;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::super::SinkTrouble;
use super::{NatsAuth, NatsConfig};
use crate::limits;

/// A connection. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct NatsLink {
    client: Client,
    /// The reason why the connection takes nothing any more.
    ended: watch::Receiver<Option<SinkTrouble>>,
    teller: Teller,
}

/// Makes problems of one receiver, without its secrets.
#[derive(Debug, Clone)]
struct Teller {
    server: String,
    secrets: Vec<Secret>,
    /// When the JWT of the credentials ends.
    end: Option<OffsetDateTime>,
}

/// The reason why a request has no answer.
pub(super) enum Unreplied {
    /// The message is larger than the servers accept, with the reason.
    TooLarge(String),
    /// The connection is of no use any more.
    Ended(SinkTrouble),
    /// Nobody takes the subject at the moment.
    NoResponders,
}

impl Teller {
    fn trouble(&self, code: &str, blame: Blame, why: impl AsRef<str>) -> SinkTrouble {
        let why = redact::redact(why.as_ref(), &self.secrets);
        SinkTrouble::new(code, blame, format!("{}: {why}", self.server))
    }

    /// The beginning of a server's words, without secrets.
    fn shown(&self, said: &str) -> String {
        text::cut(redact::redact(said, &self.secrets).trim(), limits::REFUSAL_TOLD_BYTES).to_owned()
    }

    /// Returns the problem that an event of the connection means, if it ends the connection.
    fn problem(&self, event: &Event) -> Option<SinkTrouble> {
        Some(match event {
            Event::Disconnected | Event::Closed => {
                self.trouble("connection-broken", Blame::Receiver, "the connection broke off")
            }
            Event::ServerError(ServerError::SlowConsumer(_)) => return None,
            Event::ServerError(ServerError::AuthorizationViolation) => self.unauthorized("authorization violation"),
            Event::ServerError(ServerError::Other(said)) => self.refusal(said),
            _ => return None,
        })
    }

    /// Returns the problem that a server's words mean.
    fn refusal(&self, said: &str) -> SinkTrouble {
        let small = said.to_lowercase();
        let said = self.shown(said);
        if small.contains("permissions violation") {
            let fix = "fix: allow the user to publish there, and to subscribe to _INBOX.>";
            return self.trouble("nats-forbidden", Blame::Operator, format!("{said}; {fix}"));
        }
        if small.contains("maximum control line") {
            let fix = "fix: shorten `subject` of the sink, or raise `max_control_line` of the servers";
            return self.trouble("nats-error", Blame::Operator, format!("{said}; {fix}"));
        }
        match small.contains("authenti") || small.contains("authorization") {
            true => self.unauthorized(&said),
            false => self.trouble("nats-error", Blame::Receiver, said),
        }
    }

    /// Returns the problem of a refused user, with the words that are [shown](Teller::shown).
    fn unauthorized(&self, shown: &str) -> SinkTrouble {
        let end = self.end.and_then(|end| end.format(&Rfc3339).ok());
        let end = end.map(|end| format!(", whose JWT ends at {end}")).unwrap_or_default();
        let fix = match self.end {
            Some(_) => "fix: check `credentials` of the sink",
            None => "fix: check `credentials`, `nkey`, `token`, or `user` and `password` of the sink",
        };
        self.trouble("nats-unauthorized", Blame::Operator, format!("{shown}; {fix}{end}"))
    }

    /// Returns the reason why there is no connection.
    fn unconnected(&self, error: &ConnectError) -> SinkTrouble {
        let said = error.to_string();
        let shown = self.shown(&said);
        let unreached = |code, blame, fix| self.trouble(code, blame, format!("cannot be reached: {shown}{fix}"));
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation => self.unauthorized("authorization violation"),
            ConnectErrorKind::Authentication => self.unauthorized(&shown),
            ConnectErrorKind::Dns => unreached("name-not-resolved", Blame::Receiver, ""),
            ConnectErrorKind::TimedOut => unreached("timeout", Blame::Receiver, ""),
            _ if said.to_lowercase().contains("connection refused") => {
                unreached("connection-refused", Blame::Receiver, "")
            }
            _ => match handshake(&said) {
                Some((code, blame, fix)) => unreached(code, blame, fix),
                None if said.to_lowercase().contains("authenti") => self.unauthorized(&shown),
                None => unreached("transport", Blame::Receiver, ""),
            },
        }
    }
}

/// Returns the code, the party and the fix for a handshake that failed with these words.
fn handshake(said: &str) -> Option<(&'static str, Blame, &'static str)> {
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    Some(if says(&["CertificateRequired", "certificate required"]) {
        ("tls-untrusted", Blame::Operator, "; fix: add `client_certificate` to the sink")
    } else if says(&["fatal alert: "]) && says(&["Certificate", "UnknownCA", "AccessDenied"]) {
        let fix = "; fix: give the sink a `client_certificate` that the server trusts and that has not expired";
        ("tls-untrusted", Blame::Operator, fix)
    } else if says(&["certificate expired", "Expired"]) {
        ("tls-untrusted", Blame::Receiver, "; fix: renew the certificate of the server")
    } else if says(&["not valid for name", "NotValidForName"]) {
        let fix = "; fix: write a name that the certificate of the server has into `url`, or renew the certificate";
        ("tls-untrusted", Blame::Operator, fix)
    } else if says(&["certificate"]) {
        ("tls-untrusted", Blame::Operator, "; fix: add the authority of the servers with `ca_file`")
    } else if says(&["InvalidContentType"]) {
        ("transport", Blame::Operator, "; fix: switch TLS on in the server, or write nats:// in `url`")
    } else if says(&["expected INFO"]) {
        let fix = "; fix: check the port in `url`; where the server has `handshake_first: true`, write `auto`";
        ("transport", Blame::Receiver, fix)
    } else {
        return None;
    })
}

impl NatsLink {
    /// Connects to one of the servers, with these TLS settings. Also returns the reason why another one refused the user.
    pub(super) async fn connected(
        config: &NatsConfig,
        tls: &rustls::ClientConfig,
    ) -> Result<(NatsLink, Option<SinkTrouble>), SinkTrouble> {
        let end = Instant::now() + limits::DELIVERY_TIMEOUT;
        // Connections of many tenants do not all go to the first server.
        let first = Uuid::new_v4().as_u128() % (config.servers.len() as u128).max(1);
        let (after, before) = config.servers.split_at(usize::try_from(first).unwrap_or_default());
        let mut failures: Vec<SinkTrouble> = Vec::new();
        for server in before.iter().chain(after) {
            // The client itself asks no further server after one that refuses the user.
            match tokio::time::timeout_at(end, NatsLink::to_server(server, config, tls)).await {
                Ok(Ok(link)) => {
                    return Ok((link, failures.into_iter().find(|failure| failure.blame == Blame::Operator)));
                }
                Ok(Err(failure)) => failures.push(failure),
                Err(_) => {
                    let why = format!("{server}: did not let the collector in in time");
                    failures.push(SinkTrouble::new("timeout", Blame::Receiver, why));
                    break;
                }
            }
        }
        failures.sort_by_key(|failure| failure.blame != Blame::Operator);
        let why = failures.iter().map(|failure| failure.why.as_str()).collect::<Vec<_>>().join("; ");
        let first = failures.into_iter().next();
        Err(first.map_or_else(|| SinkTrouble::of_host("no server"), |first| SinkTrouble { why, ..first }))
    }

    /// Connects to a server.
    async fn to_server(server: &str, config: &NatsConfig, tls: &rustls::ClientConfig) -> Result<NatsLink, SinkTrouble> {
        let teller = Teller { server: server.to_owned(), secrets: config.secrets(), end: config.auth.end() };
        let mut tls = tls.clone();
        // A clone would share the sessions of other tenants.
        tls.resumption = Resumption::in_memory_sessions(TLS_SESSIONS);
        let (ending, ended) = watch::channel(None);
        let events = teller.clone();
        let options = ConnectOptions::new()
            .name("host-harness")
            .connection_timeout(CONNECT_TIMEOUT)
            .request_timeout(Some(limits::NATS_ACK_TIMEOUT))
            // Whoever answers may name further servers, and the operator did not choose those.
            .ignore_discovered_servers()
            .max_reconnects(1)
            .tls_client_config(tls)
            .event_callback(move |event| {
                if let Some(trouble) = events.problem(&event) {
                    // The first reason says more than that the connection broke off afterwards.
                    ending.send_if_modified(|ended| {
                        let is_first = ended.is_none();
                        ended.get_or_insert(trouble);
                        is_first
                    });
                }
                std::future::ready(())
            });
        let options = match &config.auth {
            NatsAuth::None => options,
            NatsAuth::Credentials(file) => options.credentials(file.expose()).map_err(|error| {
                let why = format!("`credentials` of the sink: {error}");
                teller.trouble("nats-unauthorized", Blame::Operator, why)
            })?,
            NatsAuth::Nkey(seed) => options.nkey(seed.expose().to_owned()),
            NatsAuth::Token(token) => options.token(token.expose().to_owned()),
            NatsAuth::Password { user, password } => {
                options.user_and_password(user.clone(), password.expose().to_owned())
            }
        };
        let address: Result<ServerAddr, _> = server.parse();
        let address = address.map_err(|error| teller.trouble("transport", Blame::Operator, error.to_string()))?;
        match options.connect(address).await {
            Ok(client) => Ok(NatsLink { client, ended, teller }),
            Err(error) => Err(teller.unconnected(&error)),
        }
    }

    /// Makes a problem of this receiver.
    pub(super) fn trouble(&self, code: &str, blame: Blame, why: impl AsRef<str>) -> SinkTrouble {
        self.teller.trouble(code, blame, why)
    }

    /// The beginning of a server's words, without secrets.
    pub(super) fn shown(&self, said: &str) -> String {
        self.teller.shown(said)
    }

    /// Says whether the connection still takes requests.
    pub(super) fn is_open(&self) -> bool {
        self.ended.borrow().is_none()
    }

    /// Sends a message to a subject, and returns the answer.
    pub(super) async fn request(&self, subject: &str, headers: HeaderMap, payload: Bytes) -> Result<Bytes, Unreplied> {
        let request = Request::new().headers(headers).payload(payload).timeout(Some(limits::NATS_ACK_TIMEOUT));
        let sent = self.client.send_request(subject.to_owned(), request);
        let late = || {
            let why = format!("did not answer within {} s", limits::NATS_ACK_TIMEOUT.as_secs());
            Unreplied::Ended(self.trouble("timeout", Blame::Receiver, why))
        };
        let answer = tokio::select! {
            biased;
            // The client waits without a limit of its own for a place among the waiting requests.
            answer = tokio::time::timeout(limits::NATS_ACK_TIMEOUT, sent) => answer.map_err(|_| late())?,
            trouble = self.end() => return Err(Unreplied::Ended(trouble)),
        };
        answer.map(|message| message.payload).map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => Unreplied::NoResponders,
            RequestErrorKind::TimedOut => late(),
            RequestErrorKind::MaxPayloadExceeded => Unreplied::TooLarge(error.to_string()),
            _ => Unreplied::Ended(self.trouble("transport", Blame::Receiver, self.shown(&error.to_string()))),
        })
    }

    /// Asks the API of JetStream.
    pub(super) async fn ask<T: DeserializeOwned>(&self, subject: &str, payload: Vec<u8>) -> Result<T, SinkTrouble> {
        let answer = self.request(subject, HeaderMap::new(), payload.into()).await.map_err(|error| match error {
            Unreplied::Ended(trouble) => trouble,
            Unreplied::TooLarge(why) => self.trouble("transport", Blame::Receiver, why),
            Unreplied::NoResponders => {
                let fix = "fix: switch JetStream on in the servers and for the account";
                self.trouble("nats-no-jetstream", Blame::Receiver, format!("JetStream does not answer; {fix}"))
            }
        })?;
        serde_json::from_slice(&answer).map_err(|_| {
            self.trouble("answer-unknown", Blame::Receiver, "answered something that JetStream does not say")
        })
    }

    /// Returns the reason when the connection ends.
    fn end(&self) -> impl Future<Output = SinkTrouble> {
        let (mut ended, lost) = (self.ended.clone(), self.trouble("connection-broken", Blame::Receiver, "closed"));
        async move { ended.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone()).unwrap_or(lost) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn teller() -> Teller {
        let secrets = vec![Secret::new("hunter2hunter2")];
        Teller { server: "nats://h:4222".to_owned(), secrets, end: None }
    }

    #[test]
    fn an_event_that_ends_the_connection_says_who_can_mend_it() {
        let other = |said: &str| Event::ServerError(ServerError::Other(said.to_owned()));
        for (event, expected) in [
            (Event::Connected, None),
            (Event::LameDuckMode, None),
            (Event::Disconnected, Some(("connection-broken", Blame::Receiver))),
            (Event::ServerError(ServerError::AuthorizationViolation), Some(("nats-unauthorized", Blame::Operator))),
            (other("Permissions Violation for Publish to \"a.b\""), Some(("nats-forbidden", Blame::Operator))),
            (other("User Authentication Expired"), Some(("nats-unauthorized", Blame::Operator))),
            (other("maximum connections exceeded"), Some(("nats-error", Blame::Receiver))),
            (other("maximum control line exceeded"), Some(("nats-error", Blame::Operator))),
        ] {
            let trouble = teller().problem(&event);
            assert_eq!(trouble.as_ref().map(|trouble| (trouble.code.as_str(), trouble.blame)), expected, "{event}");
        }
    }

    #[test]
    fn a_problem_names_the_servers_and_no_secret() {
        let trouble = teller().refusal("odd hunter2hunter2");
        assert!(trouble.why.starts_with("nats://h:4222: odd") && !trouble.why.contains("hunter2"), "{trouble}");
    }

    #[test]
    fn the_fix_follows_however_much_a_server_says() {
        let long = format!("authorization {}", "x".repeat(1_000));
        let refused = ConnectError::with_source(ConnectErrorKind::Authentication, long.clone());
        for trouble in [teller().refusal(&long), teller().unconnected(&refused)] {
            assert!(trouble.why.contains("fix: check `credentials`") && trouble.why.len() < 400, "{trouble}");
        }
    }

    #[test]
    fn the_end_of_a_jwt_is_told_with_its_refusal() {
        let teller = Teller { end: OffsetDateTime::from_unix_timestamp(1_000_000_000).ok(), ..teller() };
        let trouble = teller.unconnected(&ConnectError::new(ConnectErrorKind::AuthorizationViolation));
        assert!(
            trouble.why.ends_with("`credentials` of the sink, whose JWT ends at 2001-09-09T01:46:40Z"),
            "{trouble}"
        );
    }

    #[test]
    fn a_failure_to_connect_has_its_code() {
        for (kind, said, code, blame) in [
            (ConnectErrorKind::AuthorizationViolation, "", "nats-unauthorized", Blame::Operator),
            (ConnectErrorKind::Authentication, "", "nats-unauthorized", Blame::Operator),
            (ConnectErrorKind::Dns, "", "name-not-resolved", Blame::Receiver),
            (ConnectErrorKind::Io, "Connection refused (os error 111)", "connection-refused", Blame::Receiver),
            (ConnectErrorKind::Io, "invalid peer certificate: UnknownIssuer", "tls-untrusted", Blame::Operator),
            (ConnectErrorKind::Io, "broken pipe", "transport", Blame::Receiver),
        ] {
            let trouble = teller().unconnected(&ConnectError::with_source(kind, said));
            assert_eq!((trouble.code.as_str(), trouble.blame), (code, blame), "{trouble}");
        }
    }

    #[test]
    fn a_failed_handshake_says_whose_certificate_or_setting_it_is() {
        for (said, blame, fix) in [
            ("received fatal alert: CertificateRequired", Blame::Operator, "add `client_certificate`"),
            ("received fatal alert: UnknownCA", Blame::Operator, "a `client_certificate` that the server trusts"),
            (
                "received fatal alert: CertificateExpired",
                Blame::Operator,
                "a `client_certificate` that the server trusts",
            ),
            ("invalid peer certificate: certificate expired: 1 s ago", Blame::Receiver, "renew the certificate"),
            ("invalid peer certificate: certificate not valid for name \"h\"", Blame::Operator, "write a name that"),
            ("invalid peer certificate: UnknownIssuer", Blame::Operator, "`ca_file`"),
            ("received corrupt message of type InvalidContentType", Blame::Operator, "write nats:// in `url`"),
            ("expected INFO, got nothing", Blame::Receiver, "`handshake_first: true`, write `auto`"),
        ] {
            let trouble = teller().unconnected(&ConnectError::with_source(ConnectErrorKind::Io, said));
            assert!(trouble.blame == blame && trouble.why.contains(fix), "{trouble} ({})", trouble.blame);
        }
    }
}
