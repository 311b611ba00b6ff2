//! The way to an origin, rung by rung: its name, a connection, TLS. Nothing is sent on it: what a request would carry is
//! the affair of the plugin and its credentials.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustls::CertificateError;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use url::{Host, Url};

use crate::address::prohibited;
use crate::limits::CONNECT_TIMEOUT;
use crate::live::Network;

/// A part of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// The name has an address that may be dialled.
    Name,
    /// Somebody listens there.
    Connect,
    /// It is the one that was meant.
    Tls,
}

/// What can be wrong with the way.
#[derive(Debug)]
pub struct Fault {
    /// Where it shows.
    pub rung: Rung,
    /// Kebab-case.
    pub code: &'static str,
    /// Why, in one sentence without a full stop.
    pub cause: &'static str,
    /// What mends it. `{host}` and `{port}` stand for those of the origin, `{address}` for what was dialled.
    pub fix: &'static str,
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $rung:ident, $code:literal, $cause:literal, $fix:literal;)*) => {
        $($(#[$doc])* const $name: Fault = Fault { rung: Rung::$rung, code: $code, cause: $cause, fix: $fix };)*
        /// The whole table, by rung.
        pub const FAULTS: &[Fault] = &[$($name),*];
    };
}

faults! {
    /// No address for the name.
    NAME_NOT_RESOLVED = Name, "name-not-resolved", "the name does not resolve",
        "check the spelling in the settings, and the DNS of this machine: nslookup {host}";
    /// An address that is not dialled.
    ADDRESS_PROHIBITED = Name, "address-prohibited", "the name leads to an address that is not dialled",
        "if the service is meant to be there, write `allow_addresses = [\"{address}\"]` in [network]; else find out who answers so: nslookup {host}";
    /// Nobody listens, or a firewall says so.
    CONNECTION_REFUSED = Connect, "connection-refused", "the connection is refused",
        "let this machine out to {host}, port {port}, or name the proxy that it has to use: `proxy = \"http://PROXY:3128\"` in [network]";
    /// Nothing comes back.
    CONNECTION_TIMEOUT = Connect, "connection-timeout", "nobody answers",
        "let this machine out to {host}, port {port}, through the firewall, or name the proxy that it has to use: `proxy = \"http://PROXY:3128\"` in [network]";
    /// No route, no network.
    UNREACHABLE = Connect, "unreachable", "there is no way to the address",
        "check this machine's network: ip route get {address}";
    /// The CA is not known here.
    CA_UNKNOWN = Tls, "ca-unknown", "the certificate is signed by a CA that this machine does not know",
        "if something inspects TLS on the way, save its CA as PEM and write `ca_file = \"corporate-ca.pem\"` in [network]; who signed, tells: openssl s_client -connect {host}:{port} -showcerts";
    /// Valid at another time.
    CERTIFICATE_TIME = Tls, "certificate-time", "the certificate is not valid at this machine's time",
        "set the clock: timedatectl set-ntp true; if the clock is right, the certificate is the service's to renew";
    /// Somebody else's certificate.
    CERTIFICATE_NAME = Tls, "certificate-name", "the certificate is for another name",
        "something answers in place of {host}: check the address in the settings, the DNS, and what stands between";
    /// Not good for another reason.
    CERTIFICATE_UNUSABLE = Tls, "certificate-unusable", "the certificate cannot be trusted",
        "see who answers: openssl s_client -connect {host}:{port} -showcerts";
    /// Something else than TLS comes back.
    NO_TLS = Tls, "no-tls", "what answers speaks no TLS",
        "something answers in place of {host}: a proxy or a portal in the way? Name the proxy: `proxy = \"http://PROXY:3128\"` in [network]";
    /// The other side does not want to.
    TLS_REFUSED = Tls, "tls-refused", "the other side refuses TLS",
        "see what it says: openssl s_client -connect {host}:{port}";
    /// The connection ends when the name is told.
    TLS_BROKEN = Tls, "tls-broken", "the connection ends during TLS",
        "a firewall on the way may end what goes to {host}: let it through";
    /// TLS does not end.
    TLS_TIMEOUT = Tls, "tls-timeout", "TLS does not come about in time",
        "a firewall on the way may hold back what goes to {host}: let it through";
}

/// What came of a rung.
#[derive(Debug)]
pub struct Probed {
    /// Which one.
    pub rung: Rung,
    /// How long it took.
    pub time: Duration,
    /// What was found, in a few words; or what is wrong.
    pub found: Result<String, Trouble>,
}

/// A fault that was met.
#[derive(Debug)]
pub struct Trouble {
    /// Which one.
    pub fault: &'static Fault,
    /// What was met and where.
    pub detail: String,
    /// What mends it, with the values of this origin.
    pub fix: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.fault.cause, self.detail)
    }
}

/// Climbs as far as it goes: the last rung is the one that failed, or TLS. `now` is Unix time in milliseconds.
pub async fn probe(network: &Network, origin: &Url, now: u64) -> Vec<Probed> {
    let mut climb = Climb { origin, probed: Vec::new() };
    climb.all(network, now).await;
    climb.probed
}

struct Climb<'a> {
    origin: &'a Url,
    probed: Vec<Probed>,
}

impl Climb<'_> {
    async fn all(&mut self, network: &Network, now: u64) -> Option<()> {
        let begun = Instant::now();
        let addresses = self.resolve(network).await;
        let words = |found: &Vec<SocketAddr>| match found.as_slice() {
            [] => String::new(),
            [one] => one.ip().to_string(),
            [first, others @ ..] => format!("{} and {} more", first.ip(), others.len()),
        };
        let addresses = self.note(Rung::Name, begun, addresses, words)?;
        let begun = Instant::now();
        let connected = self.connect(&addresses).await;
        let socket = self.note(Rung::Connect, begun, connected, |socket| {
            socket.peer_addr().map(|address| address.to_string()).unwrap_or_default()
        })?;
        let begun = Instant::now();
        let spoken = if self.origin.scheme() == "http" {
            Ok("plain http, without TLS".to_owned())
        } else {
            self.speak_tls(network, socket, now).await
        };
        self.note(Rung::Tls, begun, spoken, String::clone).map(drop)
    }

    /// Notes what came of a rung, and gives it if it was good.
    fn note<T>(
        &mut self,
        rung: Rung,
        begun: Instant,
        result: Result<T, Trouble>,
        words: impl Fn(&T) -> String,
    ) -> Option<T> {
        let (found, value) = match result {
            Ok(value) => (Ok(words(&value)), Some(value)),
            Err(trouble) => (Err(trouble), None),
        };
        self.probed.push(Probed { rung, time: begun.elapsed(), found });
        value
    }

    fn host(&self) -> &str {
        self.origin.host_str().unwrap_or_default()
    }

    fn port(&self) -> u16 {
        self.origin.port_or_known_default().unwrap_or(443)
    }

    fn trouble(&self, fault: &'static Fault, detail: impl fmt::Display, address: Option<IpAddr>) -> Trouble {
        let address = address.map_or_else(|| self.host().to_owned(), |address| address.to_string());
        let fix = fault.fix.replace("{host}", self.host()).replace("{port}", &self.port().to_string());
        Trouble { fault, detail: detail.to_string(), fix: fix.replace("{address}", &address) }
    }

    async fn resolve(&self, network: &Network) -> Result<Vec<SocketAddr>, Trouble> {
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
        let (bad, good): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| why(address).is_some());
        match (good.is_empty(), bad.first()) {
            (false, _) => Ok(good),
            (true, Some(address)) => {
                let detail = format!("{} is at {}, {}", self.host(), address.ip(), why(address).unwrap_or_default());
                Err(self.trouble(&ADDRESS_PROHIBITED, detail, Some(address.ip())))
            }
            (true, None) => Err(self.trouble(&NAME_NOT_RESOLVED, format!("{}: no address", self.host()), None)),
        }
    }

    /// A connection to the first address that takes one.
    async fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, Trouble> {
        let mut trouble = None;
        for address in addresses {
            let error = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(socket)) => return Ok(socket),
                Ok(Err(error)) => error,
                Err(_) => {
                    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))
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

    async fn speak_tls(&self, network: &Network, socket: TcpStream, now: u64) -> Result<String, Trouble> {
        let mut config = network.tls();
        config.time_provider = Arc::new(At(UnixTime::since_unix_epoch(Duration::from_millis(now))));
        // A URL has brackets around an IPv6 address, a certificate has none.
        let name = self.host().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name).map_err(|error| self.trouble(&CERTIFICATE_NAME, error, None))?;
        let connecting = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket);
        let error = match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(stream)) => {
                let version = stream.get_ref().1.protocol_version();
                return Ok(version.map(|version| format!("{version:?}").replace('_', ".")).unwrap_or_default());
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

/// What a TLS error is about.
fn tls_fault(error: &rustls::Error) -> &'static Fault {
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

/// A clock that stands.
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
    fn every_fault_has_a_code_of_its_own_and_a_fix() {
        let mut codes: Vec<_> = FAULTS.iter().map(|fault| fault.code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), FAULTS.len());
        assert!(FAULTS.iter().all(|fault| !fault.fix.is_empty()));
    }
}
