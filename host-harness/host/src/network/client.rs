//! The transport over the network: one client for each tenant, so that no tenant's connections and TLS sessions serve
//! another. This file alone judges addresses, before it connects to them.

use std::error::Error as StdError;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use http::HeaderValue;
use http::header::InvalidHeaderValue;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::client::{Resumption, WantsClientCert};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

use crate::cause::Cause;
use crate::credentials::certificates::{self, Authorities, UnusableAuthorities};
use crate::credentials::client_certificate::ClientCertificate;
use crate::limits::{self, Limits};
use crate::network::address::{self, Cidr, prohibited};
use crate::network::encoding::{self, Body};
use crate::network::proxy::Proxy;
use crate::network::{IncomingResponse, OutgoingRequest, Transport, TransportError, TransportFuture};

// Error texts of the HTTP client, which has no type for them.
// `a_proxy_that_asks_who_is_there_is_no_service_with_or_without_tls` and
// `a_proxy_that_makes_no_connection_is_named_as_the_fault` in `tests/proxy.rs` provoke both.

/// The proxy does not connect to the service.
const TUNNEL_ERROR: &str = "tunnel error: ";

/// The proxy asks for a sign-in.
const PROXY_LOGIN: &str = "proxy authorization required";

/// The network settings that all tenants share: trusted authorities, allowed addresses, and the proxy.
#[derive(Debug, Clone)]
pub struct Network {
    roots: Arc<RootCertStore>,
    tls: ClientConfig,
    allowed: Arc<[Cidr]>,
    proxy: Proxy,
    timeouts: Timeouts,
    product: HeaderValue,
}

/// The product that requests name in `user-agent` if the embedder gives none.
const PRODUCT: &str = concat!("source-host/", env!("CARGO_PKG_VERSION"));

/// The reason why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The trusted authorities cannot be read.
    #[error(transparent)]
    Authorities(#[from] UnusableAuthorities),
    /// TLS cannot be configured with the authorities.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// The product is not a valid value of a header.
    #[error("the product for the header `user-agent` has characters that no header may have")]
    Product(#[from] InvalidHeaderValue),
}

/// Timeouts of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Time to connect, including TLS.
    pub connect: Duration,
    /// Time for one whole exchange.
    pub exchange: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts { connect: limits::CONNECT_TIMEOUT, exchange: limits::EXCHANGE_TIMEOUT }
    }
}

/// Begins a TLS configuration with these trusted roots.
fn trusting(roots: &Arc<RootCertStore>) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let begun = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(begun.with_root_certificates(Arc::clone(roots)))
}

impl Network {
    /// Makes a network that trusts the system's roots and those of `ca_pem`, and that dials public addresses and
    /// `allowed` ones.
    pub fn new(ca_pem: Option<&[u8]>, allowed: Vec<Cidr>) -> Result<Network, NetworkError> {
        let authorities = ca_pem.map(|pem| certificates::authorities(pem, Path::new("ca.pem"))).transpose()?;
        Network::trusting(&authorities.unwrap_or_default(), allowed)
    }

    /// Makes a network that trusts the system's roots and these, and that dials public addresses and `allowed` ones.
    pub fn trusting(authorities: &Authorities, allowed: Vec<Cidr>) -> Result<Network, NetworkError> {
        let mut roots = RootCertStore::empty();
        // A machine without system roots is fine if there are other roots to trust.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for root in &authorities.roots {
            roots.add(root.der.clone())?;
        }
        let roots = Arc::new(roots);
        let tls = trusting(&roots)?.with_no_client_auth();
        let (proxy, timeouts) = (Proxy::default(), Timeouts::default());
        Ok(Network { roots, tls, allowed: allowed.into(), proxy, timeouts, product: HeaderValue::from_static(PRODUCT) })
    }

    /// The same network with another product in the header `user-agent` of each request, such as `collector/2.1.0`. By
    /// default, a request names this crate.
    pub fn with_product(self, product: &str) -> Result<Network, NetworkError> {
        Ok(Network { product: HeaderValue::from_str(product)?, ..self })
    }

    /// The same network through a proxy.
    pub fn through(self, proxy: Proxy) -> Network {
        Network { proxy, ..self }
    }

    /// The same network with other timeouts.
    pub fn with_timeouts(self, timeouts: Timeouts) -> Network {
        Network { timeouts, ..self }
    }

    /// The TLS configuration, for clients of the host's own.
    pub fn tls(&self) -> rustls::ClientConfig {
        self.tls.clone()
    }

    /// The same for a client that also trusts these authorities, and shows this certificate to a server that asks for
    /// one.
    pub fn tls_with(
        &self,
        authorities: &Authorities,
        identity: Option<&ClientCertificate>,
    ) -> Result<rustls::ClientConfig, NetworkError> {
        if authorities.roots.is_empty() && identity.is_none() {
            return Ok(self.tls());
        }
        let mut roots = RootCertStore::clone(&self.roots);
        for root in &authorities.roots {
            roots.add(root.der.clone())?;
        }
        let trusting = trusting(&Arc::new(roots))?;
        Ok(match identity {
            Some(identity) => trusting.with_client_cert_resolver(identity.resolver()),
            None => trusting.with_no_client_auth(),
        })
    }

    /// The addresses that may be dialled although they are not public.
    pub fn allowed(&self) -> &[Cidr] {
        &self.allowed
    }

    /// The proxy, for clients of the host's own.
    pub fn proxy(&self) -> Proxy {
        self.proxy.clone()
    }

    /// Makes a transport for one tenant.
    pub fn transport(&self, limits: &Limits) -> Result<LiveTransport, TransportError> {
        let (allowed, proxy) = (Arc::clone(&self.allowed), self.proxy.clone());
        let direct = self.client(Resolver { allowed: Some(Arc::clone(&allowed)) }, &Proxy::default())?;
        // The operator chose the proxy, so that its address is dialled wherever it is.
        let through = proxy.is_some().then(|| self.client(Resolver { allowed: None }, &proxy)).transpose()?;
        Ok(LiveTransport { direct, through, proxy, allowed, limits: limits.clone(), timeouts: self.timeouts })
    }

    fn client(&self, resolver: Resolver, proxy: &Proxy) -> Result<reqwest::Client, TransportError> {
        let mut tls = self.tls.clone();
        tls.resumption = Resumption::in_memory_sessions(limits::TLS_SESSIONS);
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(resolver)
            .connect_timeout(self.timeouts.connect)
            .timeout(self.timeouts.exchange)
            .pool_idle_timeout(limits::IDLE_CONNECTION)
            .user_agent(self.product.clone());
        proxy.applied(client).build().map_err(TransportError::other)
    }
}

/// Sends the requests of one tenant over the network. Follows no redirect.
#[derive(Debug)]
pub struct LiveTransport {
    direct: reqwest::Client,
    through: Option<reqwest::Client>,
    proxy: Proxy,
    allowed: Arc<[Cidr]>,
    limits: Limits,
    timeouts: Timeouts,
}

impl Transport for LiveTransport {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        Box::pin(self.exchange(request))
    }
}

impl LiveTransport {
    async fn exchange(&self, request: OutgoingRequest) -> Result<IncomingResponse, TransportError> {
        self.judge_host(&request)?;
        let proxied = self.through.as_ref().filter(|_| self.proxy.address_for(&request.url).is_some());
        let classified = |error: reqwest::Error| {
            let connecting = error.is_connect();
            let met = classify(error, self.timeouts);
            if proxied.is_some() { self.proxy.named(met, connecting) } else { met }
        };
        let is_plain = request.url.scheme() == "http";
        let method = reqwest::Method::from_bytes(request.method.as_bytes()).map_err(TransportError::other)?;
        let only_reads = method.is_safe();
        let mut builder = proxied.unwrap_or(&self.direct).request(method, request.url).body(request.body);
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        builder = builder.header("accept-encoding", encoding::ACCEPTED);
        let again = only_reads.then(|| builder.try_clone()).flatten();
        let mut sent = builder.send().await;
        // A service may close an idle connection while a request is on its way, which says nothing about the request
        // (RFC 9112, section 9.3.1). A request that only reads is sent once more.
        if let (Err(error), Some(again)) = (&sent, again)
            && !error.is_connect()
            && matches!(kind(error, self.timeouts), Ok(TransportError::Broken))
        {
            sent = again.send().await;
        }
        let response = sent.map_err(classified)?;
        let status = response.status().as_u16();
        // Without TLS, the proxy answers in the service's place.
        if proxied.is_some() && is_plain && status == 407 {
            return Err(self.proxy.named(TransportError::other(PROXY_LOGIN), false));
        }
        let mut headers: Vec<_> = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let header_bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if header_bytes > self.limits.response_header_bytes || headers.len() > self.limits.response_headers {
            return Err(TransportError::HeadersTooLarge(self.limits.response_header_bytes));
        }
        // No reader decodes a body that stays encoded, and a search of it finds no secrets.
        let mut body = Body::new(&headers, self.limits.response_body_bytes)?;
        headers.retain(|(name, _)| name != "content-encoding" && name != "content-length");
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(classified)?;
            body = match body {
                // A few bytes may become megabytes.
                Body::Gzip(_) => tokio::task::spawn_blocking(move || body.taking(&chunk)).await.map_err(broken)??,
                Body::Plain(_) => body.taking(&chunk)?,
            };
        }
        Ok(IncomingResponse { status, headers, body: body.end()? })
    }

    /// Judges hosts whose address is known without the resolver: literal addresses, and names that mean this machine. A
    /// proxy would otherwise resolve them unjudged.
    fn judge_host(&self, request: &OutgoingRequest) -> Result<(), TransportError> {
        let address = match request.url.host() {
            Some(url::Host::Ipv4(address)) => IpAddr::V4(address),
            Some(url::Host::Ipv6(address)) => IpAddr::V6(address),
            Some(url::Host::Domain(name)) if is_loopback_name(name) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            _ => return Ok(()),
        };
        judge(request.url.host_str().unwrap_or_default(), address, &self.allowed)
    }
}

/// The error of a task that panicked while it read an answer.
fn broken(error: tokio::task::JoinError) -> TransportError {
    TransportError::other(error)
}

impl Proxy {
    /// The same error with the proxy named, if the proxy failed.
    pub fn named(&self, error: TransportError, connecting: bool) -> TransportError {
        let Some(proxy) = self.name() else { return error };
        let why = match &error {
            TransportError::NameNotResolved(_) => "cannot be reached: its name does not resolve".to_owned(),
            TransportError::Refused => "cannot be reached: the connection was refused".to_owned(),
            TransportError::Timeout(seconds) if connecting => format!("did not connect within {seconds} s"),
            TransportError::Other(cause) if cause.to_string().ends_with(PROXY_LOGIN) => {
                // The client does not reveal the challenge; `check` reads it.
                let met =
                    if self.has_credentials() { "does not accept its user and password" } else { "asks for a sign-in" };
                format!("{met} (407): `check` names the sign-ins that it takes")
            }
            // The client reveals no status but 407, and some proxies answer a wrong password with another status.
            TransportError::Other(cause) if cause.to_string().starts_with(TUNNEL_ERROR) => {
                let met = if self.has_credentials() { "does not accept its user and password, " } else { "" };
                format!("does not connect: it refuses to, {met}or cannot reach the service")
            }
            _ => return error,
        };
        TransportError::Proxy { proxy, why }
    }
}

/// The line of configuration that also allows this address.
pub fn line_with(allowed: &[Cidr], address: &str) -> String {
    let all = allowed.iter().map(Cidr::to_string).chain([address.to_owned()]).map(|one| format!("{one:?}"));
    format!("allow_addresses = [{}]", all.collect::<Vec<_>>().join(", "))
}

fn judge(host: &str, address: IpAddr, allowed: &[Cidr]) -> Result<(), TransportError> {
    match prohibited(address, allowed) {
        None => Ok(()),
        Some(why) => {
            let remedy = match address::may_serve(address) {
                true => format!("to allow it, write `{}` in [network]", line_with(allowed, &address.to_string())),
                false => "no service is at such an address: find out who answers so".to_owned(),
            };
            Err(TransportError::AddressProhibited { host: host.to_owned(), address, why, remedy })
        }
    }
}

/// Says whether a name always means this machine (RFC 6761).
pub fn is_loopback_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Resolves a name once and judges every address, so that the judged addresses are the dialled ones.
pub struct Resolver {
    /// The addresses that may be dialled beyond public ones; without a list, no address is judged.
    pub allowed: Option<Arc<[Cidr]>>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.allowed.clone();
        Box::pin(async move {
            let name = name.as_str();
            let found = tokio::net::lookup_host((name, 0)).await;
            let found: Vec<SocketAddr> = found.map(Iterator::collect).unwrap_or_default();
            match all_good(name, found, allowed.as_deref()) {
                Ok(good) => Ok(Box::new(good.into_iter()) as Addrs),
                Err(error) => Err(Box::new(error) as Box<dyn StdError + Send + Sync>),
            }
        })
    }
}

/// Returns the addresses of a name, if all of them may be dialled. One prohibited address condemns the others: a server
/// that mixes an internal address into the answer for an external name is lying, and hopes that the host connects to
/// the others without notice. The result also does not depend on the order of the answer.
fn all_good(name: &str, found: Vec<SocketAddr>, allowed: Option<&[Cidr]>) -> Result<Vec<SocketAddr>, TransportError> {
    if found.is_empty() {
        return Err(TransportError::NameNotResolved(name.to_owned()));
    }
    if let Some(allowed) = allowed {
        found.iter().try_for_each(|address| judge(name, address.ip(), allowed))?;
    }
    Ok(found)
}

/// Classifies an error of the client.
pub fn classify(error: reqwest::Error, timeouts: Timeouts) -> TransportError {
    kind(&error, timeouts)
        .unwrap_or_else(|Worded { of, words }| of(Cause::new(ClientFault { words, error: error.without_url() })))
}

/// A kind that keeps the client's error, and the words that messages show of the error.
struct Worded {
    of: fn(Cause) -> TransportError,
    words: String,
}

/// The kind of a client's error. For an error of no known kind, the words are those of its first cause.
fn kind(error: &reqwest::Error, timeouts: Timeouts) -> Result<TransportError, Worded> {
    let mut words = String::new();
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(known) = known(current) {
            return Ok(known);
        }
        if current.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return Err(Worded { of: TransportError::Malformed, words: current.to_string() });
        }
        words = current.to_string();
        // An `io::Error` that wraps another error does not return it as its source.
        let inner = current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = inner.map(|inner| inner as &(dyn StdError + 'static)).or_else(|| current.source());
    }
    if error.is_timeout() {
        let bound = if error.is_connect() { timeouts.connect } else { timeouts.exchange };
        return Ok(TransportError::Timeout(bound.as_secs()));
    }
    Err(Worded { of: TransportError::Other, words })
}

/// A client's error with the words of the one cause that says what happened; the other causes only name places in the
/// client.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
struct ClientFault {
    words: String,
    /// Kept for debugging output.
    error: reqwest::Error,
}

fn known(error: &(dyn StdError + 'static)) -> Option<TransportError> {
    if let Some(error) = error.downcast_ref::<TransportError>() {
        return Some(error.clone());
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(TransportError::Untrusted(Cause::new(error.clone())));
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        if error.is_incomplete_message() || error.is_body_write_aborted() {
            return Some(TransportError::Broken);
        }
        if error.is_parse_too_large() {
            return Some(TransportError::HeadersTooLarge(limits::HEADER_BUFFER_BYTES));
        }
    }
    match error.downcast_ref::<std::io::Error>()?.kind() {
        std::io::ErrorKind::ConnectionRefused => Some(TransportError::Refused),
        std::io::ErrorKind::ConnectionReset
        | std::io::ErrorKind::ConnectionAborted
        | std::io::ErrorKind::BrokenPipe
        | std::io::ErrorKind::UnexpectedEof => Some(TransportError::Broken),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_a_name_leads_to_is_judged_when_it_is_dialled() {
        let tried = |allowed: Vec<Cidr>| async {
            let transport = Network::new(None, allowed).unwrap().transport(&Limits::default()).unwrap();
            // The request bypasses the judgement of the name itself.
            classify(transport.direct.get("http://localhost:1/").send().await.unwrap_err(), transport.timeouts)
        };
        assert!(matches!(tried(Vec::new()).await, TransportError::AddressProhibited { .. }));
        let loopback = ["127.0.0.0/8", "::1/128"].map(|range| range.parse().unwrap());
        assert_eq!(tried(loopback.to_vec()).await, TransportError::Refused);
    }

    /// A service that answers its first connection once and closes it when the next request arrives.
    async fn closes_idle_connections() -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for answers in [1, usize::MAX] {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                for _ in 0..answers {
                    if socket.read(&mut request).await.unwrap() == 0 {
                        return;
                    }
                    socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                }
                assert!(socket.read(&mut request).await.unwrap() > 0);
            }
        });
        address
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_while_idle_fails_no_request_that_only_reads() {
        for (method, end) in [("GET", Ok(200)), ("POST", Err(TransportError::Broken))] {
            let network = Network::new(None, vec!["127.0.0.0/8".parse().unwrap()]).unwrap();
            let transport = network.transport(&Limits::default()).unwrap();
            let url: url::Url = format!("http://{}/", closes_idle_connections().await).parse().unwrap();
            let request = |method: &str| OutgoingRequest {
                method: method.to_owned(),
                url: url.clone(),
                headers: Vec::new(),
                body: Vec::new(),
            };
            assert_eq!(transport.send(request("GET")).await.map(|response| response.status), Ok(200));
            assert_eq!(transport.send(request(method)).await.map(|response| response.status), end, "{method}");
        }
    }

    #[test]
    fn one_address_that_may_not_be_dialled_condemns_the_others() {
        let allowed = ["127.0.0.0/8".parse().unwrap()];
        let judged = |addresses: &[&str]| {
            let found = addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect();
            all_good("api.example", found, Some(&allowed)).map(|good| good.len()).map_err(|error| error.to_string())
        };
        assert_eq!(judged(&["20.190.128.1", "127.0.0.1", "2603:1030::1"]), Ok(3));
        let metadata = ["169.254.169.254", "64:ff9b::a9fe:a9fe", "fd00:ec2::254"];
        for bad in ["10.0.0.1", "::1", "::ffff:10.0.0.1", "2002:a00:1::"].into_iter().chain(metadata) {
            for addresses in [[bad, "20.190.128.1"], ["20.190.128.1", bad]] {
                let told = judged(&addresses).unwrap_err();
                let line = format!("write `allow_addresses = [\"127.0.0.0/8\", \"{bad}\"]` in [network]");
                assert!(told.starts_with("api.example is at "), "{told}");
                // The message must not advise to allow the metadata address, which holds a machine's keys.
                assert_eq!(told.ends_with(&line), !metadata.contains(&bad), "{told}");
            }
        }
        assert_eq!(judged(&[]), Err("the name api.example does not resolve".to_owned()));
    }
}
