//! The proxy: which requests go through it, and which go directly by the rules of `NO_PROXY`. The proxy's credentials
//! are in its address and are never shown.

use std::fmt;
use std::sync::Arc;

use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

/// The route of requests: directly, or through a proxy. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxy(Option<Arc<ProxyRules>>);

struct ProxyRules {
    /// The address, with user and password where it has them.
    address: Url,
    https_only: bool,
    listed: String,
    exceptions: Vec<Exception>,
}

/// One entry of `NO_PROXY`.
struct Exception {
    hosts: Hosts,
    port: Option<u16>,
}

enum Hosts {
    All,
    /// The hosts that this matcher does not intercept.
    Some(Box<Matcher>),
}

/// The text is not the address of a proxy. The error does not quote the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected the address of an HTTP proxy, such as http://proxy.example:3128, with user:password@ before the name if the proxy asks for them"
)]
pub struct NotAProxy;

impl Proxy {
    /// Makes a route through the proxy at this address, except for requests to `exceptions`, which are written as in
    /// `NO_PROXY`: names with all names below them, addresses, ranges, `*`, each with a port or without.
    pub fn new(address: &str, exceptions: &str) -> Result<Proxy, NotAProxy> {
        Proxy::read(address, exceptions, false)
    }

    /// The same for https only, as for `HTTPS_PROXY`.
    pub fn of_https(address: &str, exceptions: &str) -> Result<Proxy, NotAProxy> {
        Proxy::read(address, exceptions, true)
    }

    fn read(address: &str, exceptions: &str, https_only: bool) -> Result<Proxy, NotAProxy> {
        let text = address.trim();
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let address = Url::parse(&text).map_err(|_| NotAProxy)?;
        let bare = address.path() == "/" && address.query().is_none() && address.fragment().is_none();
        if !bare || !matches!(address.scheme(), "http" | "https") {
            return Err(NotAProxy);
        }
        let entries = exceptions.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let rules = ProxyRules {
            address,
            https_only,
            listed: exceptions.to_owned(),
            exceptions: entries.map(Exception::read).collect(),
        };
        Ok(Proxy(Some(Arc::new(rules))))
    }

    /// Says whether there is a proxy.
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// The proxy for requests to this address, with its user and password; `None` if they go directly.
    pub fn address_for(&self, url: &Url) -> Option<&Url> {
        let rules = self.0.as_deref()?;
        let direct = rules.https_only && url.scheme() != "https";
        let direct = direct || rules.exceptions.iter().any(|exception| exception.covers(url));
        (!direct).then_some(&rules.address)
    }

    /// The proxy's address without user and password; `None` without a proxy.
    pub fn name(&self) -> Option<String> {
        self.0.as_deref().map(|rules| rules.address.origin().ascii_serialization())
    }

    /// Says whether the proxy's address has a user or a password.
    pub fn has_credentials(&self) -> bool {
        let address = self.0.as_deref().map(|rules| &rules.address);
        address.is_some_and(|address| !address.username().is_empty() || address.password().is_some())
    }

    /// Says whether the proxy's address has a password.
    pub fn has_password(&self) -> bool {
        self.0.as_deref().is_some_and(|rules| rules.address.password().is_some())
    }

    /// The header with the proxy's credentials, where its address has them.
    pub fn authorization(&self) -> Option<http::HeaderValue> {
        let address = self.0.as_deref().map(|rules| &rules.address)?;
        let matcher = Matcher::builder().all(address.as_str()).build();
        matcher.intercept(&http::Uri::from_static("http://service/"))?.basic_auth().cloned()
    }

    /// Configures a client to use this proxy, and never the one of the environment.
    pub fn applied(&self, client: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
        let client = client.no_proxy();
        if !self.is_some() {
            return client;
        }
        let proxy = self.clone();
        client.proxy(reqwest::Proxy::custom(move |url| proxy.address_for(url).cloned()))
    }
}

impl PartialEq for ProxyRules {
    fn eq(&self, other: &ProxyRules) -> bool {
        (&self.address, self.https_only, &self.listed) == (&other.address, other.https_only, &other.listed)
    }
}

impl Eq for ProxyRules {}

impl fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Proxy({})", self.name().unwrap_or_default())
    }
}

impl Exception {
    fn read(entry: &str) -> Exception {
        let (host, port) = match entry.rsplit_once(':') {
            // More than one colon means an IPv6 address, unless it is in brackets.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_) => (entry, None),
            },
            _ => (entry, None),
        };
        if host == "*" {
            return Exception { hosts: Hosts::All, port };
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        let matcher = Matcher::builder().all("http://proxy").no(host).build();
        Exception { hosts: Hosts::Some(Box::new(matcher)), port }
    }

    fn covers(&self, url: &Url) -> bool {
        if self.port.is_some() && self.port != url.port_or_known_default() {
            return false;
        }
        match &self.hosts {
            Hosts::All => true,
            Hosts::Some(matcher) => {
                let host = url.host_str().unwrap_or_default().trim_end_matches('.');
                let uri = format!("http://{host}/").parse::<http::Uri>();
                uri.is_ok_and(|uri| matcher.intercept(&uri).is_none())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks which requests go directly and which through the proxy.
    fn check_direct(exceptions: &str, direct: &[&str], through: &[&str]) {
        let proxy = Proxy::new("http://proxy:3128", exceptions).unwrap();
        for (urls, expected) in [(direct, true), (through, false)] {
            for url in urls {
                let url = Url::parse(url).unwrap();
                assert_eq!(proxy.address_for(&url).is_none(), expected, "{url} with {exceptions:?}");
            }
        }
    }

    #[test]
    fn a_name_excepts_itself_and_all_below_it() {
        for entry in ["corp.example", ".corp.example", "*.corp.example", " x.example , CORP.example. "] {
            check_direct(
                entry,
                &["https://corp.example/", "https://a.b.corp.example:8443/", "http://Corp.Example./"],
                &["https://notcorp.example/", "https://corp.example.evil/", "https://10.0.0.1/"],
            );
        }
    }

    #[test]
    fn an_asterisk_excepts_everything() {
        check_direct("*", &["https://a.example", "http://10.0.0.1", "https://[::1]"], &[]);
        check_direct("", &[], &["https://a.example", "http://10.0.0.1"]);
    }

    #[test]
    fn addresses_and_ranges_except_literals_in_them() {
        let list = "10.0.0.0/8,192.0.2.7,fd00::/8,[2001:db8::1]";
        check_direct(
            list,
            &["https://10.1.2.3/", "https://192.0.2.7:1/", "https://[fd00::7]/", "https://[2001:db8::1]:8443/"],
            &["https://11.0.0.1/", "https://192.0.2.8/", "https://[2001:db8::2]/", "https://10.example/"],
        );
    }

    #[test]
    fn a_port_narrows_an_exception() {
        check_direct("a.example:8443", &["https://a.example:8443/"], &["https://a.example/"]);
        check_direct("a.example:443", &["https://a.example/"], &["http://a.example/"]);
        check_direct(
            "10.0.0.0/8:8088, [::1]:8443, *:9000",
            &["http://10.0.0.1:8088", "https://[::1]:8443", "https://x.example:9000"],
            &["http://10.0.0.1:80", "https://[::1]/", "https://x.example/"],
        );
    }

    #[test]
    fn the_proxy_of_https_is_for_https() {
        let proxy = Proxy::of_https("proxy:3128", "").unwrap();
        assert!(proxy.address_for(&Url::parse("https://a.example").unwrap()).is_some());
        assert!(proxy.address_for(&Url::parse("http://a.example").unwrap()).is_none());
    }

    #[test]
    fn its_password_is_never_shown() {
        let proxy = Proxy::new("http://us%40er:hunter2@proxy.example:3128", "").unwrap();
        assert!(proxy.has_credentials());
        assert_eq!(format!("{proxy:?} {:?}", proxy.name()).matches("hunter2").count(), 0);
        assert_eq!(proxy.name().as_deref(), Some("http://proxy.example:3128"));
        assert_ne!(proxy, Proxy::new("http://us%40er:hunter3@proxy.example:3128", "").unwrap());
    }

    #[test]
    fn what_is_no_http_proxy_is_refused() {
        for address in
            ["", "socks5://proxy:1080", "http://", "http://proxy/path", "a b", "http://proxy?x", "proxy:port"]
        {
            assert_eq!(Proxy::new(address, "").err(), Some(NotAProxy), "{address}");
        }
    }
}
