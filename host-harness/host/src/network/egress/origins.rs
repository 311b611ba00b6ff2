//! The origins to which requests may go, and who allowed each of them.

use std::collections::BTreeSet;

use url::Url;

use crate::limits;
use crate::network::address;

/// The origins to which requests may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    operators: BTreeSet<String>,
    own: BTreeSet<String>,
    /// Origins over http that are this machine itself.
    near: BTreeSet<String>,
    /// Origins over http to which the operator lets credentials go.
    in_clear: BTreeSet<String>,
}

/// The text is not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found {0:?}, expected an origin such as \"https://host.example:8443\", without a path")]
pub struct NotAnOrigin(pub String);

impl Origins {
    /// Allows these origins, such as `https://host.example:8443`, as the operator's.
    ///
    /// ```
    /// use source_host::Origins;
    ///
    /// assert!(Origins::new(["https://login.example", "https://api.example:8443"]).is_ok());
    /// assert!(Origins::new(["https://api.example/v1"]).is_err(), "an origin has no path");
    /// ```
    pub fn new(origins: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Origins, NotAnOrigin> {
        let not = |origin: &str| NotAnOrigin(origin.to_owned());
        let exact = origins.into_iter().map(|one| canonical(one.as_ref()).ok_or_else(|| not(one.as_ref())));
        let operators: BTreeSet<String> = exact.collect::<Result<_, _>>()?;
        let near = operators.iter().filter(|origin| is_near(origin)).cloned().collect();
        Ok(Origins { operators, near, ..Origins::default() })
    }

    /// The same origins where requests to some addresses do not go `directly` but through a proxy: credentials for this
    /// machine would then cross the network.
    pub fn going(mut self, directly: impl Fn(&Url) -> bool) -> Origins {
        self.near.retain(|origin| Url::parse(origin).is_ok_and(|url| directly(&url)));
        self
    }

    /// The same origins, and these over http, to which credentials may also go.
    pub fn with_credentials_over_http(
        mut self,
        origins: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Origins, NotAnOrigin> {
        self.in_clear = Origins::new(origins)?.operators;
        self.operators.extend(self.in_clear.iter().cloned());
        Ok(self)
    }

    /// These origins, and others that are allowed without the operator.
    pub fn and(&self, own: &Origins) -> Origins {
        Origins { own: &self.own | &own.operators, ..self.clone() }
    }

    /// Says whether a request with credentials may go to an allowed origin: everybody on the route can read requests
    /// over http.
    pub fn takes_credentials(&self, origin: &str) -> bool {
        origin.starts_with("https://") || self.near.contains(origin) || self.in_clear.contains(origin)
    }

    /// Says who allowed requests to an origin; `None` if they are not allowed.
    pub fn leave(&self, origin: &str) -> Option<Leave> {
        match (self.operators.contains(origin), self.own.contains(origin)) {
            (true, _) => Some(Leave::Operator),
            (false, true) => Some(Leave::BuiltIn),
            (false, false) => None,
        }
    }

    /// Says whether others on the route could read credentials for an origin, whether it is allowed or not.
    pub fn exposes(&self, origin: &str) -> bool {
        let is_near = self.leave(origin).is_none() && is_near(origin);
        !self.takes_credentials(origin) && origin.starts_with("http://") && !is_near
    }

    /// The line of configuration that also allows these origins.
    pub fn line_with<'a>(&'a self, more: impl IntoIterator<Item = &'a str>) -> String {
        let operators = self.operators.iter().filter(|origin| !self.in_clear.contains(*origin));
        line("allow", operators.map(String::as_str).chain(more))
    }

    /// The line of configuration that also lets credentials go to these origins over http.
    pub fn line_in_clear<'a>(&'a self, more: impl IntoIterator<Item = &'a str>) -> String {
        line("allow_credentials_over_http", self.in_clear.iter().map(String::as_str).chain(more))
    }

    /// The line of configuration that allows a request to an origin. The line's key says so where others could read the
    /// credentials.
    pub fn line_for(&self, origin: &str, carries_credentials: bool) -> String {
        match carries_credentials && origin.starts_with("http://") && !is_near(origin) {
            true => self.line_in_clear([origin]),
            false => self.line_with([origin]),
        }
    }
}

fn line<'a>(key: &str, origins: impl Iterator<Item = &'a str>) -> String {
    format!("{key} = [{}]", origins.map(|origin| format!("{origin:?}")).collect::<Vec<_>>().join(", "))
}

/// Says whether an origin is plain http to this machine itself.
fn is_near(origin: &str) -> bool {
    let url = Url::parse(origin).ok().filter(|url| url.scheme() == "http");
    url.is_some_and(|url| url.host().is_some_and(|host| address::is_loopback(&host)))
}

/// The party that allowed an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leave {
    /// The operator, in the configuration.
    Operator,
    /// The host, because it trusts the plugin and knows its origins.
    BuiltIn,
}

/// Says whether the length of the host in an address, and those of its labels, are within DNS's limits; true without a
/// host. Parsing a longer host takes milliseconds, and its author decides how many.
pub fn has_fitting_name(address: &str) -> bool {
    let Some((_, rest)) = address.split_once(':') else { return true };
    let host = rest.trim_start_matches(['/', '\\']).split(['/', '\\', '?', '#']).next().unwrap_or_default();
    // The port is not part of the name. A label in another script is not shorter in ASCII.
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let dots = ['.', '\u{3002}', '\u{ff0e}', '\u{ff61}'];
    // A character has at most four bytes.
    host.len() <= limits::ORIGIN_BYTES
        && name.trim_end_matches(dots).chars().count() <= limits::HOST_NAME
        && name.split(dots).all(|label| label.chars().count() <= limits::HOST_LABEL)
}

/// Returns an origin as `url` writes it; `None` for anything that is more or less than an origin.
pub fn canonical(origin: &str) -> Option<String> {
    if !has_fitting_name(origin) {
        return None;
    }
    let url = Url::parse(origin).ok()?;
    let bare = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    let known = matches!(url.scheme(), "https" | "http")
        && url.host_str().is_some_and(|host| !host.contains('*'))
        && !origin.ends_with('/')
        && !origin.contains('@');
    (bare && known).then(|| url.origin().ascii_serialization())
}
