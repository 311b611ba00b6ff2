//! The route to an origin, one step after the other: its name, a connection, TLS; directly, or through the proxy.
//! Nothing is sent except what the proxy needs, because requests and credentials belong to the plugin.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustls::CertificateError;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use source_host::blame::Blame;
use source_host::limits::CONNECT_TIMEOUT;
use source_host::network::address::{may_serve, prohibited};
use source_host::network::client::{self, Network, is_loopback_name};
use source_host::text;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;
use url::{Host, Url};

use crate::limits::{PROBED_ADDRESSES, PROXY_ANSWER_BYTES, PROXY_HEADERS};

/// A part of the route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeStep {
    /// The name has an address that may be dialled.
    Name,
    /// A server listens at the address.
    Connect,
    /// The server is the intended one.
    Tls,
}

/// A fault on the route.
#[derive(Debug)]
pub struct ProbeFault {
    /// The step that fails.
    pub step: ProbeStep,
    /// Kebab-case code.
    pub code: &'static str,
    /// The party that can mend the fault.
    pub blame: Blame,
    /// The cause in one sentence without a full stop.
    pub cause: &'static str,
    /// The fix. `{host}` and `{port}` are replaced by those of the origin, `{address}` by the dialled address,
    /// `{proxy}` by the proxy.
    pub fix: &'static str,
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $step:ident, $code:literal, $blame:ident, $cause:literal, $fix:literal;)*) => {
        $($(#[$doc])* const $name: ProbeFault = ProbeFault {
            step: ProbeStep::$step, code: $code, blame: Blame::$blame, cause: $cause, fix: $fix,
        };)*
        /// The whole table, by step.
        pub const FAULTS: &[ProbeFault] = &[$($name),*];
    };
}

faults! {
    /// The name has no address.
    NAME_NOT_RESOLVED = Name, "name-not-resolved", Operator, "the name does not resolve",
        "check the spelling in the settings, and the DNS of this machine: nslookup {host}";
    /// The address may not be dialled.
    ADDRESS_PROHIBITED = Name, "address-prohibited", Operator, "the name resolves to an address that the host does not connect to",
        "if the service is meant to have this address, write `{allow}` in [network]; else find out where the answer comes from: nslookup {host}";
    /// No server listens, or a firewall refuses.
    CONNECTION_REFUSED = Connect, "connection-refused", Service, "the connection is refused",
        "allow this machine to reach {host}, port {port}, or name the proxy that it has to use: `proxy = \"http://PROXY:3128\"` in [network]";
    /// No answer arrives.
    CONNECTION_TIMEOUT = Connect, "connection-timeout", Service, "nothing answers",
        "allow this machine to reach {host}, port {port}, through the firewall, or name the proxy that it has to use: `proxy = \"http://PROXY:3128\"` in [network]";
    /// There is no route or no network.
    UNREACHABLE = Connect, "unreachable", Operator, "there is no route to the address",
        "check this machine's network: ip route get {address}";
    /// The proxy is unreachable.
    PROXY_UNREACHABLE = Connect, "proxy-unreachable", Operator, "the proxy cannot be reached",
        "check `proxy` in [network], or HTTPS_PROXY, and that {proxy} runs; list destinations that need no proxy in NO_PROXY";
    /// The proxy answers 407, or 401 as some do.
    PROXY_USER = Connect, "proxy-user", Operator, "the proxy asks for a user and a password",
        "put them into its address, http://USER:PASSWORD@HOST:PORT, in a variable, and write `proxy = { env = \"PROXY_ADDRESS\" }` in [network]";
    /// The proxy answers 407 or 401 although the request carries a user and a password.
    PROXY_USER_REFUSED = Connect, "proxy-user-refused", Operator, "the proxy does not accept its user and password",
        "correct the user and the password in the proxy's address; characters such as @ are written as %40";
    /// The proxy answers 407 and accepts only Negotiate, NTLM, Digest or others.
    PROXY_SIGN_IN = Connect, "proxy-sign-in", Operator, "the proxy accepts none of the sign-ins that this program supports, which is Basic only",
        "have whoever runs {proxy} let this machine through to {host}, port {port}, without a sign-in, or run a local proxy that signs in for it, such as px or cntlm, and name that one: `proxy = \"http://127.0.0.1:3128\"` in [network]; a user and a password in the address would not help";
    /// The proxy does not connect to the service.
    PROXY_REFUSED = Connect, "proxy-refused", Operator, "the proxy does not connect to the service",
        "allow {host}, port {port}, at {proxy}, or repair the proxy's own connection";
    /// A server that is not a proxy answers.
    NOT_A_PROXY = Connect, "not-a-proxy", Operator, "the answer is not from a proxy",
        "check host and port of `proxy` in [network], or of HTTPS_PROXY: {proxy} does not understand CONNECT";
    /// The CA is unknown to this machine.
    CA_UNKNOWN = Tls, "ca-unknown", Operator, "the certificate is signed by a CA that this machine does not know",
        "if your company inspects TLS on the way, ask those who do so for their CA as PEM, and write `ca_file = \"corporate-ca.pem\"` in [network]; do not take the CA from the connection itself, which shows only who signed: openssl s_client -connect {host}:{port} -showcerts";
    /// The certificate is valid at another time.
    CERTIFICATE_TIME = Tls, "certificate-time", Operator, "the certificate is not valid at this machine's time",
        "set the clock: timedatectl set-ntp true; if the clock is right, the certificate is the service's to renew";
    /// The certificate is for another name.
    CERTIFICATE_NAME = Tls, "certificate-name", Operator, "the certificate is for another name",
        "something answers in place of {host}: check the address in the settings, the DNS, and any proxy or gateway between";
    /// The certificate is unusable for another reason.
    CERTIFICATE_UNUSABLE = Tls, "certificate-unusable", Operator, "the certificate cannot be trusted",
        "see who answers: openssl s_client -connect {host}:{port} -showcerts";
    /// The answer is not TLS.
    NO_TLS = Tls, "no-tls", Operator, "the other side does not speak TLS",
        "something answers in place of {host}: a proxy or a portal in the way? Name the proxy: `proxy = \"http://PROXY:3128\"` in [network]";
    /// The server refuses TLS.
    TLS_REFUSED = Tls, "tls-refused", Service, "the other side refuses TLS",
        "see its answer: openssl s_client -connect {host}:{port}";
    /// The connection ends when the client names the server.
    TLS_BROKEN = Tls, "tls-broken", Operator, "the connection ends during TLS",
        "a firewall on the way may cut connections to {host}: let them through";
    /// The TLS handshake does not end.
    TLS_TIMEOUT = Tls, "tls-timeout", Operator, "the TLS handshake does not end in time",
        "a firewall on the way may hold back connections to {host}: let them through";
}

/// The result of a step.
#[derive(Debug)]
pub struct Probed {
    /// The step.
    pub step: ProbeStep,
    /// Duration of the step.
    pub time: Duration,
    /// The result in a few words, or the fault.
    pub found: Result<Option<String>, ProbeTrouble>,
}

/// A fault in one case.
#[derive(Debug)]
pub struct ProbeTrouble {
    /// The row of the table.
    pub fault: &'static ProbeFault,
    /// The observation and its place.
    pub detail: String,
    /// The fix, with the values of this origin.
    pub fix: String,
}

impl fmt::Display for ProbeTrouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.fault.cause, self.detail)
    }
}

/// Tests the route as far as possible: the last step is the one that failed, or TLS. `now` is Unix time in
/// milliseconds. Each step is sent as soon as its result is known.
pub async fn probe(network: &Network, origin: &Url, now: u64, tell: UnboundedSender<Probed>) {
    let proxy = network.proxy();
    let through = proxy.address_for(origin).cloned().zip(proxy.name()).map(|(address, name)| Through {
        authorization: proxy.authorization(),
        name,
        address,
    });
    // Every step was sent, wherever the test ended.
    let _ = ProbeRun { origin, through, tell }.all(network, now).await;
}

/// The proxy on the route.
struct Through {
    address: Url,
    /// The proxy's address without user and password.
    name: String,
    authorization: Option<http::HeaderValue>,
}

/// A proxy's answer to a request for a connection.
#[derive(Debug, PartialEq, Eq)]
struct ProxyHead {
    /// Status; `None` if the answer is not HTTP.
    status: Option<u16>,
    /// The first line, for people.
    line: String,
    /// The names of the sign-ins that the proxy accepts, as it spells them.
    sign_ins: Vec<String>,
}

impl ProxyHead {
    fn read(answer: &[u8]) -> ProxyHead {
        let first = answer.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = text::plain(String::from_utf8_lossy(first).trim_end()).chars().take(80).collect();
        let mut headers = [httparse::EMPTY_HEADER; PROXY_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        // A head that is damaged further down still has a status.
        let _ = response.parse(answer);
        let challenges =
            response.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("proxy-authenticate"));
        let sign_ins = challenges.flat_map(|header| schemes(&String::from_utf8_lossy(header.value))).collect();
        ProxyHead { status: response.code, line, sign_ins }
    }

    /// Says whether the proxy accepts a user and a password; a proxy that does not name its sign-ins is assumed to.
    fn takes_basic(&self) -> bool {
        self.sign_ins.is_empty() || self.sign_ins.iter().any(|name| name.eq_ignore_ascii_case("basic"))
    }
}

impl fmt::Display for ProxyHead {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line.trim() {
            "" => write!(formatter, "nothing")?,
            line => write!(formatter, "\"{line}\"")?,
        }
        match self.sign_ins.as_slice() {
            [] => Ok(()),
            names => write!(formatter, ", and takes {}", names.join(", ")),
        }
    }
}

/// Returns the names of the schemes in a list of challenges (RFC 9110 §11.6.1): a challenge begins with a name without
/// `=`.
fn schemes(challenges: &str) -> Vec<String> {
    let mut quoted = false;
    let parts = challenges.split(|one: char| {
        quoted ^= one == '"';
        one == ',' && !quoted
    });
    let first = parts.filter_map(|part| part.split_whitespace().next());
    let names = first.filter(|word| word.chars().all(|one| one.is_ascii_alphanumeric() || "-_.".contains(one)));
    names.map(str::to_owned).collect()
}

/// A connection over any transport.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

struct ProbeRun<'a> {
    origin: &'a Url,
    through: Option<Through>,
    tell: UnboundedSender<Probed>,
}

impl ProbeRun<'_> {
    /// Runs all steps; stops at the step that failed, after sending it.
    async fn all(&mut self, network: &Network, now: u64) -> ControlFlow<()> {
        let begun = Instant::now();
        let (socket, begun) = if let Some(through) = &self.through {
            let judged = self.judge_unresolved(network).map(|()| format!("left to the proxy {}", through.name));
            self.note(ProbeStep::Name, begun, judged, |words| Some(words.clone()))?;
            let begun = Instant::now();
            let connected = self.connect_through(network, now).await;
            let name = self.through.as_ref().map(|through| format!("through the proxy {}", through.name));
            let socket = self.note(ProbeStep::Connect, begun, connected, |_| name.clone())?;
            (socket, Instant::now())
        } else {
            let addresses = self.resolve(network).await;
            let words = |found: &Vec<SocketAddr>| match found.as_slice() {
                [] => None,
                [one] => Some(one.ip().to_string()),
                [first, others @ ..] => Some(format!("{} and {} more", first.ip(), others.len())),
            };
            let addresses = self.note(ProbeStep::Name, begun, addresses, words)?;
            let begun = Instant::now();
            let connected = self.connect(&addresses).await;
            let socket =
                self.note(ProbeStep::Connect, begun, connected, |socket| Some(socket.peer_addr().ok()?.to_string()))?;
            (Box::new(socket) as Box<dyn Wire>, Instant::now())
        };
        let spoken = if self.origin.scheme() == "http" {
            Ok(Some("none".to_owned()))
        } else {
            self.speak_tls(network, socket, now).await
        };
        self.note(ProbeStep::Tls, begun, spoken, Option::clone)?;
        ControlFlow::Continue(())
    }

    /// Sends the result of a step, and returns its value if it succeeded.
    fn note<T>(
        &mut self,
        step: ProbeStep,
        begun: Instant,
        result: Result<T, ProbeTrouble>,
        words: impl Fn(&T) -> Option<String>,
    ) -> ControlFlow<(), T> {
        let (found, value) = match result {
            Ok(value) => (Ok(words(&value)), ControlFlow::Continue(value)),
            Err(trouble) => (Err(trouble), ControlFlow::Break(())),
        };
        // A closed channel means that nobody waits for the step.
        let _ = self.tell.send(Probed { step, time: begun.elapsed(), found });
        value
    }

    fn host(&self) -> &str {
        self.origin.host_str().unwrap_or_default()
    }

    fn port(&self) -> u16 {
        self.origin.port_or_known_default().unwrap_or(443)
    }

    fn trouble(&self, fault: &'static ProbeFault, detail: impl fmt::Display, address: Option<IpAddr>) -> ProbeTrouble {
        let address = address.map_or_else(|| self.host().to_owned(), |address| address.to_string());
        let fix = fault.fix.replace("{host}", self.host()).replace("{port}", &self.port().to_string());
        let proxy = self.through.as_ref().map_or("", |through| &through.name);
        let fix = fix.replace("{address}", &address).replace("{proxy}", proxy);
        ProbeTrouble { fault, detail: detail.to_string(), fix }
    }

    fn prohibited(&self, network: &Network, detail: String, address: IpAddr) -> ProbeTrouble {
        let trouble = self.trouble(&ADDRESS_PROHIBITED, detail, Some(address));
        let line = client::line_with(network.allowed(), &address.to_string());
        let fix = match may_serve(address) {
            true => trouble.fix.replace("{allow}", &line),
            false => format!(
                "no service has such an address: find out where the answer comes from: nslookup {}",
                self.host()
            ),
        };
        ProbeTrouble { fix, ..trouble }
    }

    async fn resolve(&self, network: &Network) -> Result<Vec<SocketAddr>, ProbeTrouble> {
        let port = self.port();
        let found: Vec<SocketAddr> = match self.origin.host() {
            Some(Host::Ipv4(address)) => vec![(address, port).into()],
            Some(Host::Ipv6(address)) => vec![(address, port).into()],
            _ => match timeout(CONNECT_TIMEOUT, lookup_host((self.host(), port))).await {
                Ok(Ok(found)) => found.collect(),
                Ok(Err(error)) => {
                    return Err(self.trouble(&NAME_NOT_RESOLVED, format!("{}: {error}", self.host()), None));
                }
                Err(_) => {
                    let detail = format!("{}: no answer within {} s", self.host(), CONNECT_TIMEOUT.as_secs());
                    return Err(self.trouble(&NAME_NOT_RESOLVED, detail, None));
                }
            },
        };
        let why = |address: &SocketAddr| prohibited(address.ip(), network.allowed());
        // One prohibited address condemns all of them, as for a request.
        match found.iter().find(|address| why(address).is_some()) {
            Some(address) => {
                let detail = format!("{} is at {}, {}", self.host(), address.ip(), why(address).unwrap_or_default());
                Err(self.prohibited(network, detail, address.ip()))
            }
            None if !found.is_empty() => Ok(found),
            None => Err(self.trouble(&NAME_NOT_RESOLVED, format!("{}: no address", self.host()), None)),
        }
    }

    /// Connects to the first address that accepts.
    async fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, ProbeTrouble> {
        let mut trouble = None;
        let tried = &addresses[..addresses.len().min(PROBED_ADDRESSES)];
        // All attempts together take no longer than a request would wait.
        let time_limit = CONNECT_TIMEOUT / u32::try_from(tried.len().max(1)).unwrap_or(1);
        for address in tried {
            let error = match timeout(time_limit, TcpStream::connect(address)).await {
                Ok(Ok(socket)) => return Ok(socket),
                Ok(Err(error)) => error,
                Err(_) => {
                    let words = format!("no answer within {} ms", time_limit.as_millis());
                    io::Error::new(io::ErrorKind::TimedOut, words)
                }
            };
            let fault = match error.kind() {
                io::ErrorKind::ConnectionRefused => &CONNECTION_REFUSED,
                io::ErrorKind::TimedOut => &CONNECTION_TIMEOUT,
                _ => &UNREACHABLE,
            };
            trouble = Some(self.trouble(fault, format!("{address}: {error}"), Some(address.ip())));
        }
        Err(trouble.unwrap_or_else(|| self.trouble(&UNREACHABLE, "no address", None)))
    }

    /// Judges addresses that are known before the proxy is asked.
    fn judge_unresolved(&self, network: &Network) -> Result<(), ProbeTrouble> {
        let address = match self.origin.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(name)) if is_loopback_name(name) => Ipv4Addr::LOCALHOST.into(),
            _ => return Ok(()),
        };
        match prohibited(address, network.allowed()) {
            None => Ok(()),
            Some(why) => Err(self.prohibited(network, format!("{} is {why}", self.host()), address)),
        }
    }

    /// Connects through the proxy.
    async fn connect_through(&self, network: &Network, now: u64) -> Result<Box<dyn Wire>, ProbeTrouble> {
        let Some(through) = &self.through else { return Err(self.trouble(&UNREACHABLE, "no proxy", None)) };
        let unreachable =
            |why: &dyn fmt::Display| Err(self.trouble(&PROXY_UNREACHABLE, format!("{}: {why}", through.name), None));
        let late = || format!("no answer within {} s", CONNECT_TIMEOUT.as_secs());
        let host = through.address.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let port = through.address.port_or_known_default().unwrap_or(80);
        let socket = match timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => return unreachable(&error),
            Err(_) => return unreachable(&late()),
        };
        let mut wire: Box<dyn Wire> = Box::new(socket);
        if through.address.scheme() == "https" {
            match timeout(CONNECT_TIMEOUT, tls(network, host, wire, now)).await {
                Ok(Ok(stream)) => wire = Box::new(stream),
                Ok(Err(error)) => return unreachable(&format!("TLS: {error}")),
                Err(_) => return unreachable(&format!("TLS: {}", late())),
            }
        }
        if self.origin.scheme() == "http" {
            return Ok(wire);
        }
        let said = match timeout(CONNECT_TIMEOUT, self.ask(through, &mut wire)).await {
            Ok(Ok(said)) => said,
            Ok(Err(error)) => return Err(self.trouble(&NOT_A_PROXY, format!("{}: {error}", through.name), None)),
            Err(_) => return Err(self.trouble(&NOT_A_PROXY, format!("{}: {}", through.name, late()), None)),
        };
        let fault = match said.status {
            Some(200..=299) => return Ok(wire),
            Some(401 | 407) if !said.takes_basic() => &PROXY_SIGN_IN,
            Some(401 | 407) if through.authorization.is_some() => &PROXY_USER_REFUSED,
            Some(401 | 407) => &PROXY_USER,
            Some(403 | 451 | 500 | 502..=599) => &PROXY_REFUSED,
            _ => &NOT_A_PROXY,
        };
        Err(self.trouble(fault, format!("{} says {said}", through.name), None))
    }

    /// Asks the proxy for a connection, and returns the head of its answer.
    async fn ask(&self, through: &Through, wire: &mut Box<dyn Wire>) -> io::Result<ProxyHead> {
        let to = format!("{}:{}", self.host(), self.port());
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n").into_bytes();
        if let Some(authorization) = &through.authorization {
            request.extend_from_slice(b"proxy-authorization: ");
            request.extend_from_slice(authorization.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        wire.write_all(&request).await?;
        let mut answer = Vec::new();
        let mut byte = [0];
        // Reads up to the end of the head: the bytes after it belong to the service.
        while !answer.ends_with(b"\r\n\r\n") && answer.len() < PROXY_ANSWER_BYTES && wire.read(&mut byte).await? > 0 {
            answer.push(byte[0]);
        }
        Ok(ProxyHead::read(&answer))
    }

    /// Gives the version that was agreed on.
    async fn speak_tls(
        &self,
        network: &Network,
        wire: Box<dyn Wire>,
        now: u64,
    ) -> Result<Option<String>, ProbeTrouble> {
        // A URL has brackets around an IPv6 address, a certificate has none.
        let name = self.host().trim_matches(['[', ']']);
        let error = match timeout(CONNECT_TIMEOUT, tls(network, name, wire, now)).await {
            Ok(Ok(stream)) => {
                let version = stream.get_ref().1.protocol_version();
                return Ok(version.map(|version| format!("{version:?}").replace('_', ".")));
            }
            Ok(Err(error)) => error,
            Err(_) => {
                let detail = format!("no end within {} s", CONNECT_TIMEOUT.as_secs());
                return Err(self.trouble(&TLS_TIMEOUT, detail, None));
            }
        };
        let Some(of_tls) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) else {
            return Err(self.trouble(&TLS_BROKEN, error, None));
        };
        let (fault, mut detail) = (tls_fault(of_tls), of_tls.to_string());
        if fault.code == CERTIFICATE_TIME.code {
            let here = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(now));
            detail = format!("here it is {here}; {detail}");
        }
        Err(self.trouble(fault, detail, None))
    }
}

/// Performs the TLS handshake, with certificates judged at this time.
async fn tls(
    network: &Network,
    name: &str,
    wire: Box<dyn Wire>,
    now: u64,
) -> io::Result<tokio_rustls::client::TlsStream<Box<dyn Wire>>> {
    let mut config = network.tls();
    config.time_provider = Arc::new(At(UnixTime::since_unix_epoch(Duration::from_millis(now))));
    let name = ServerName::try_from(name.to_owned()).map_err(|error| io::Error::other(error.to_string()))?;
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, wire).await
}

/// Classifies a TLS error.
fn tls_fault(error: &rustls::Error) -> &'static ProbeFault {
    use CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext,
        UnknownIssuer,
    };
    match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            UnknownIssuer => &CA_UNKNOWN,
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. } => &CERTIFICATE_TIME,
            NotValidForName | NotValidForNameContext { .. } => &CERTIFICATE_NAME,
            _ => &CERTIFICATE_UNUSABLE,
        },
        rustls::Error::InvalidMessage(_) => &NO_TLS,
        _ => &TLS_REFUSED,
    }
}

/// A clock that always shows the same time.
#[derive(Debug)]
struct At(UnixTime);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_ins_that_a_proxy_takes_are_read_from_all_its_challenges() {
        let read = |headers: &str| ProxyHead::read(format!("HTTP/1.1 407 Who?\r\n{headers}\r\n\r\n").as_bytes());
        let cases: [(&str, &[&str], bool); 6] = [
            ("server: squid", &[], true),
            ("Proxy-Authenticate: Negotiate\r\nproxy-authenticate: NTLM", &["Negotiate", "NTLM"], false),
            (
                "Proxy-Authenticate: Negotiate, basic realm=\"a, Digest b\", charset=\"UTF-8\"",
                &["Negotiate", "basic"],
                true,
            ),
            ("Proxy-Authenticate: Digest realm=\"x\", qop=\"auth, NTLM\", nonce=\"n\"", &["Digest"], false),
            ("Proxy-Authenticate: Kerberos", &["Kerberos"], false),
            ("Proxy-Authenticate: NTLM TlRMTVNTUAAC==", &["NTLM"], false),
        ];
        for (headers, sign_ins, takes_basic) in cases {
            let head = read(headers);
            assert_eq!(
                (head.status, head.sign_ins.as_slice()),
                (Some(407), &sign_ins.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()[..]),
                "{headers}"
            );
            assert_eq!(head.takes_basic(), takes_basic, "{headers}");
        }
        assert_eq!(ProxyHead::read(b"SSH-2.0-OpenSSH_9\r\n").status, None);
        assert_eq!(ProxyHead::read(b"").to_string(), "nothing");
    }

    #[test]
    fn every_fault_has_a_code_of_its_own_and_a_fix() {
        let mut codes: Vec<_> = FAULTS.iter().map(|fault| fault.code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), FAULTS.len());
        assert!(FAULTS.iter().all(|fault| !fault.fix.is_empty()));
    }
}
