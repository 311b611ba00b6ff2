//! One connection to NATS servers. It lasts until its first interruption: the client would connect again and send what
//! it has kept, behind the back of the deliveries, which decide themselves what is sent again.

use std::future::Future;

use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, HeaderMap, Request, RequestErrorKind};
use async_nats::{ServerAddr, ServerError};
use bytes::Bytes;
use rustls::client::Resumption;
use serde::de::DeserializeOwned;
use source_host::blame::Blame;
use source_host::cause;
use source_host::credentials::redact;
use source_host::credentials::secret::Secret;
use source_host::limits::{CONNECT_TIMEOUT, TLS_SESSIONS};
use source_host::text;
use tokio::sync::watch;

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
    servers: String,
    secrets: Vec<Secret>,
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
        let why = text::cut(&why, limits::REFUSAL_TOLD_BYTES);
        SinkTrouble::new(code, blame, format!("{}: {why}", self.servers))
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
        if small.contains("permissions violation") {
            let fix = "fix: allow the user to publish there, and to subscribe to _INBOX.>";
            return self.trouble("nats-forbidden", Blame::Operator, format!("{said}; {fix}"));
        }
        match small.contains("authenti") || small.contains("authorization") {
            true => self.unauthorized(said),
            false => self.trouble("nats-error", Blame::Receiver, said),
        }
    }

    fn unauthorized(&self, said: &str) -> SinkTrouble {
        let fix = "fix: check `credentials`, `nkey`, `token`, or `user` and `password` of the sink";
        self.trouble("nats-unauthorized", Blame::Operator, format!("{said}; {fix}"))
    }

    /// Returns the reason why there is no connection.
    fn unconnected(&self, error: &ConnectError) -> SinkTrouble {
        let said = error.to_string();
        let unreached = |code, blame, fix| self.trouble(code, blame, format!("cannot be reached: {said}{fix}"));
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation => self.unauthorized("authorization violation"),
            ConnectErrorKind::Authentication => self.unauthorized(&said),
            ConnectErrorKind::Dns => unreached("name-not-resolved", Blame::Receiver, ""),
            ConnectErrorKind::TimedOut => unreached("timeout", Blame::Receiver, ""),
            _ if said.contains("certificate required") || said.contains("CertificateRequired") => {
                unreached("tls-untrusted", Blame::Operator, "; fix: add `client_certificate` to the sink")
            }
            _ if said.contains("certificate") => {
                unreached("tls-untrusted", Blame::Operator, "; fix: add the authority of the servers with `ca_file`")
            }
            _ if said.contains("refused") => unreached("connection-refused", Blame::Receiver, ""),
            _ if said.to_lowercase().contains("authenti") => self.unauthorized(&said),
            _ => unreached("transport", Blame::Receiver, ""),
        }
    }
}

impl NatsLink {
    /// Connects to one of the servers, with these TLS settings.
    pub(super) async fn connected(config: &NatsConfig, tls: &rustls::ClientConfig) -> Result<NatsLink, SinkTrouble> {
        let teller = Teller { servers: config.servers.join(", "), secrets: config.secrets() };
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
            .max_reconnects(config.servers.len())
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
        let servers = config.servers.iter().map(|server| server.parse::<ServerAddr>()).collect::<Result<Vec<_>, _>>();
        let servers = servers.map_err(|error| teller.trouble("transport", Blame::Operator, error.to_string()))?;
        match tokio::time::timeout(limits::DELIVERY_TIMEOUT, options.connect(servers)).await {
            Ok(Ok(client)) => Ok(NatsLink { client, ended, teller }),
            Ok(Err(error)) => Err(teller.unconnected(&error)),
            Err(_) => Err(teller.trouble("timeout", Blame::Receiver, "no server let the collector in in time")),
        }
    }

    /// Makes a problem of this receiver.
    pub(super) fn trouble(&self, code: &str, blame: Blame, why: impl AsRef<str>) -> SinkTrouble {
        self.teller.trouble(code, blame, why)
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
            RequestErrorKind::MaxPayloadExceeded => Unreplied::TooLarge(cause::chain(&error)),
            _ => Unreplied::Ended(self.trouble("transport", Blame::Receiver, cause::chain(&error))),
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
        Teller { servers: "nats://h:4222".to_owned(), secrets: vec![Secret::new("hunter2hunter2")] }
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
}
