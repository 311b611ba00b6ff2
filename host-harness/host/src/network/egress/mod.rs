//! What may leave the sandbox: requests of the shapes that the plugin declared, to origins that the operator allows,
//! with each credential at its one declared place. Everything here is decided before anything is resolved or dialled.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use url::Url;

use crate::contract::{Credential, CredentialUse, Path, Place, Plan, Shape};
use crate::credentials::sealed::{Sealed, name};
use crate::limits;
use crate::network::OutgoingRequest;
use crate::network::address;

/// The origins that requests may go to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    operators: BTreeSet<String>,
    own: BTreeSet<String>,
    /// Origins over http that lead to this machine itself.
    near: BTreeSet<String>,
    /// Origins over http that the operator lets credentials go to.
    in_clear: BTreeSet<String>,
}

/// What is given as an origin is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found {0:?}, expected an origin such as \"https://host.example:8443\", without a path")]
pub struct NotAnOrigin(pub String);

impl Origins {
    /// Allows these origins, such as `https://host.example:8443`, as the operator's.
    pub fn new(origins: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Origins, NotAnOrigin> {
        let not = |origin: &str| NotAnOrigin(origin.to_owned());
        let exact = origins.into_iter().map(|one| canonical(one.as_ref()).ok_or_else(|| not(one.as_ref())));
        let operators: BTreeSet<String> = exact.collect::<Result<_, _>>()?;
        let near = operators.iter().filter(|origin| is_near(origin)).cloned().collect();
        Ok(Origins { operators, near, ..Origins::default() })
    }

    /// The same where requests to some addresses do not go there `directly`, but through a proxy: credentials would pass
    /// the network on the way to this machine.
    pub fn going(mut self, directly: impl Fn(&Url) -> bool) -> Origins {
        self.near.retain(|origin| Url::parse(origin).is_ok_and(|url| directly(&url)));
        self
    }

    /// The same, and these origins over http, to which credentials may go as well.
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

    /// Whether a request with credentials may go to an origin that is allowed: what goes over http is read by everybody on
    /// the way.
    pub fn takes_credentials(&self, origin: &str) -> bool {
        origin.starts_with("https://") || self.near.contains(origin) || self.in_clear.contains(origin)
    }

    /// By whose leave requests may go to an origin; none if they may not.
    pub fn leave(&self, origin: &str) -> Option<Leave> {
        match (self.operators.contains(origin), self.own.contains(origin)) {
            (true, _) => Some(Leave::Operator),
            (false, true) => Some(Leave::BuiltIn),
            (false, false) => None,
        }
    }

    /// Whether credentials for an origin would be read on the way, whether it is allowed or not.
    pub fn exposes(&self, origin: &str) -> bool {
        let is_near = self.leave(origin).is_none() && is_near(origin);
        !self.takes_credentials(origin) && origin.starts_with("http://") && !is_near
    }

    /// The line of configuration that allows these origins, too.
    pub fn line_with<'a>(&'a self, more: impl IntoIterator<Item = &'a str>) -> String {
        let operators = self.operators.iter().filter(|origin| !self.in_clear.contains(*origin));
        line("allow", operators.map(String::as_str).chain(more))
    }

    /// The line of configuration that lets credentials go to these origins over http, too.
    pub fn line_in_clear<'a>(&'a self, more: impl IntoIterator<Item = &'a str>) -> String {
        line("allow_credentials_over_http", self.in_clear.iter().map(String::as_str).chain(more))
    }

    /// The line of configuration that lets a request go to an origin, which says what it does where credentials would be
    /// read on the way.
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

/// Whether an origin is plain http to this machine itself.
fn is_near(origin: &str) -> bool {
    let url = Url::parse(origin).ok().filter(|url| url.scheme() == "http");
    url.is_some_and(|url| url.host().is_some_and(|host| address::is_loopback(&host)))
}

/// Why an origin is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leave {
    /// It is in the configuration.
    Operator,
    /// The plugin is the built-in one, and knows it.
    BuiltIn,
}

/// An origin as `url` spells it; none for anything that is more or less than an origin.
pub fn canonical(origin: &str) -> Option<String> {
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

/// Why a request does not leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// One sentence without secrets.
    pub reason: String,
    /// The line of configuration that would allow it, where there is one.
    pub remedy: Option<String>,
}

impl fmt::Display for Denial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason)?;
        match &self.remedy {
            Some(remedy) => write!(formatter, "; to allow it, write `{remedy}` in [network]"),
            None => Ok(()),
        }
    }
}

/// The rules for one feed.
#[derive(Debug, Clone)]
pub struct Egress {
    plan: Arc<Plan>,
    allowed: Arc<Origins>,
    news: Arc<News>,
}

/// What was told of a feed's requests. Whoever opens a feed again and again keeps it in between.
#[derive(Debug, Default)]
pub struct News(Mutex<BTreeSet<String>>);

impl News {
    /// Whether something is to be told: each is told once, and no more than a few.
    pub(crate) fn is_news(&self, words: &str) -> bool {
        let mut told = self.0.lock();
        told.len() < limits::DENIALS_TOLD && told.insert(words.to_owned())
    }
}

impl Egress {
    /// Lets the shapes of a plan out, as far as their origins are allowed.
    pub fn new(plan: impl Into<Arc<Plan>>, allowed: Arc<Origins>) -> Egress {
        Egress { plan: plan.into(), allowed, news: Arc::default() }
    }

    /// The same, where some of it was told before.
    pub fn knowing(self, news: Arc<News>) -> Egress {
        Egress { news, ..self }
    }

    /// What was told of this feed's requests.
    pub(crate) fn news(&self) -> &News {
        &self.news
    }

    /// What may leave, as it was declared.
    pub fn shapes(&self) -> &[Shape] {
        &self.plan.shapes
    }

    /// The request with its credentials in place, and the shape that it has; or why it stays.
    pub fn judge(&self, url: &str, mut request: OutgoingRequest, sealed: &[Sealed]) -> Result<Judged<'_>, Denial> {
        refuse_odd_spelling(url, &request.url)?;
        refuse_other_meaning(&request)?;
        let origin = request.url.origin().ascii_serialization();
        let is_of = |shape: &&Shape| {
            shape.method == request.method
                && fits(&shape.path, request.url.path())
                && canonical(&shape.origin).is_some_and(|declared| declared == origin)
        };
        let shape = self.plan.shapes.iter().find(is_of).ok_or_else(|| {
            denial(format!("no declared shape has {} {origin}{}", request.method, request.url.path()))
        })?;
        if self.allowed.leave(&origin).is_none() {
            let remedy = Some(self.allowed.line_for(&origin, !shape.credentials.is_empty()));
            return Err(Denial { reason: format!("the origin {origin} is not allowed"), remedy });
        }
        let (mut placed, mut missing, mut carried) = (BTreeSet::new(), Vec::new(), Vec::new());
        let mut signed = Vec::new();
        for used in &shape.credentials {
            let (mut configured, mut is_placed) = (false, false);
            for sealed in sealed.iter().filter(|sealed| sealed.credential == used.credential) {
                configured = true;
                if place(&mut request, &used.place, sealed)? {
                    is_placed = true;
                    placed.insert(place_name(&used.place));
                    signed.extend(sealed.identity.is_some().then(|| place_name(&used.place)));
                }
            }
            match (configured, is_placed) {
                (_, true) => carried.push(&used.credential),
                (true, false) => missing.push(&used.credential),
                (false, false) => {}
            }
        }
        if let Some(credential) = carried.first()
            && !self.allowed.takes_credentials(&origin)
        {
            let reason =
                format!("{} would go to {origin} without TLS, for everybody on the way to read", name(credential));
            return Err(Denial { reason, remedy: Some(self.allowed.line_in_clear([origin.as_str()])) });
        }
        if request.headers.iter().any(|(name, _)| name == "authorization") && !placed.contains("authorization") {
            return Err(denial("its `authorization` carries no credential of this call".to_owned()));
        }
        if let Some(stray) = sealed.iter().find(|sealed| carries(&request, &sealed.placeholder)) {
            return Err(denial(format!("{} stands where it was not declared", name(&stray.credential))));
        }
        let is_by_host =
            |used: &CredentialUse| placed.contains(&place_name(&used.place)) || is_empty(&request, &used.place);
        let is_by_host = !placed.is_empty() && shape.credentials.iter().all(is_by_host);
        Ok(Judged { request, shape, carried, missing, signed, is_by_host })
    }
}

/// A request that may leave.
#[derive(Debug)]
pub struct Judged<'a> {
    /// With its real credentials.
    pub request: OutgoingRequest,
    /// What it was declared as.
    pub shape: &'a Shape,
    /// The credentials on it.
    pub carried: Vec<&'a Credential>,
    /// Credentials that were declared for it, and are not on it though there are such.
    pub missing: Vec<&'a Credential>,
    /// The places on it that were signed.
    pub signed: Vec<String>,
    /// Whether it carries credentials, and the plugin wrote none of them itself.
    pub is_by_host: bool,
}

fn denial(reason: String) -> Denial {
    Denial { reason, remedy: None }
}

/// What parsers read in different ways is refused, whatever it means.
fn refuse_odd_spelling(raw: &str, url: &Url) -> Result<(), Denial> {
    let odd = |what: &str| Err(denial(format!("its address has {what}")));
    let raw = raw.to_ascii_lowercase();
    let before_query = raw.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = match before_query.split_once("://").map(|(_, rest)| rest) {
        Some(rest) => rest.split_at(rest.find(['/', '\\']).unwrap_or(rest.len())),
        None => return odd("no scheme"),
    };
    if !url.username().is_empty() || url.password().is_some() || authority.contains('@') {
        return odd("a user name");
    }
    if url.fragment().is_some() {
        return odd("a fragment");
    }
    // Numbers in other bases, IPv4 inside IPv6, dots at the end, other scripts: a host has one spelling.
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    if authority != format!("{host}:{port}") && (authority != host || url.port().is_some()) {
        return odd(&format!("a host that is not spelled as it is read, {host}:{port}"));
    }
    if ["\\", "%2f", "%5c"].iter().any(|slash| path.contains(slash)) {
        return odd("an encoded slash");
    }
    if path.contains("%25") || path.as_bytes().windows(3).any(|three| matches!(three, [b'%', b'0' | b'1', _])) {
        return odd("an encoded percent or control character");
    }
    let path = path.replace("%2e", ".").replace("%3b", ";");
    // Some servers cut parameters off a segment before they look at it.
    if path.split('/').any(|segment| matches!(segment.split(';').next(), Some("." | ".."))) {
        return odd("a dot segment");
    }
    Ok(())
}

/// Headers by which some servers take a request for another one than its first line says: another method, another host,
/// another path. Cookies are credentials, and none of those that were declared.
const OTHER_MEANING: &[&str] = &[
    "cookie",
    "forwarded",
    "if-range",
    "range",
    "x-forwarded",
    "x-host",
    "x-http-host",
    "x-http-method",
    "x-method-override",
    "x-original",
    "x-override",
    "x-rewrite",
];

fn refuse_other_meaning(request: &OutgoingRequest) -> Result<(), Denial> {
    let odd = |name: &str| OTHER_MEANING.iter().any(|begin| name.starts_with(begin));
    match request.headers.iter().find(|(name, _)| odd(name)) {
        Some((name, _)) => Err(denial(format!("its header `{name}` may change what it means"))),
        None => Ok(()),
    }
}

/// Whether a path is one that a shape of request declares.
pub fn fits(path: &Path, actual: &str) -> bool {
    match path {
        Path::Exact(exact) => actual == exact,
        Path::Prefix(prefix) => prefix.ends_with('/') && actual.starts_with(prefix) && actual.len() > prefix.len(),
    }
}

/// Puts a credential in its place, if its placeholder stands there.
fn place(request: &mut OutgoingRequest, place: &Place, sealed: &Sealed) -> Result<bool, Denial> {
    match place {
        Place::Bearer => Ok(replace_header(
            request,
            "authorization",
            &format!("Bearer {}", sealed.placeholder),
            format!("Bearer {}", sealed.secret.expose()),
        )),
        Place::Header(header) => Ok(replace_header(
            request,
            &header.to_ascii_lowercase(),
            &sealed.placeholder,
            sealed.secret.expose().to_owned(),
        )),
        Place::FormField(field) => {
            if !is_form(request) {
                return Ok(false);
            }
            let mut pairs: Vec<(String, String)> = form_urlencoded::parse(&request.body).into_owned().collect();
            let mut fields = pairs.iter_mut().filter(|(name, _)| name == field);
            let (first, second) = (fields.next(), fields.next());
            if second.is_some() {
                return Err(denial(format!("its form has the field {field} twice")));
            }
            let Some((_, value)) = first.filter(|(_, value)| *value == sealed.placeholder) else { return Ok(false) };
            sealed.secret.expose().clone_into(value);
            request.body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish().into_bytes();
            Ok(true)
        }
    }
}

/// Whether nothing stands in the place of a credential. What is no form may have it anywhere.
fn is_empty(request: &OutgoingRequest, place: &Place) -> bool {
    let has_no = |header: &str| request.headers.iter().all(|(name, _)| name != header);
    match place {
        Place::Bearer => has_no("authorization"),
        Place::Header(header) => has_no(&header.to_ascii_lowercase()),
        Place::FormField(_) if !is_form(request) => request.body.is_empty(),
        Place::FormField(field) => form_urlencoded::parse(&request.body).all(|(name, _)| name != *field),
    }
}

fn is_form(request: &OutgoingRequest) -> bool {
    let is_form = |value: &str| value.starts_with("application/x-www-form-urlencoded");
    request.headers.iter().any(|(name, value)| name == "content-type" && is_form(value))
}

fn replace_header(request: &mut OutgoingRequest, header: &str, placeholder: &str, value: String) -> bool {
    let mut values = request.headers.iter_mut().filter(|(name, _)| name == header);
    match (values.next(), values.next()) {
        (Some((_, found)), None) if found == placeholder => {
            *found = value;
            true
        }
        _ => false,
    }
}

fn place_name(place: &Place) -> String {
    match place {
        Place::Bearer => "authorization".to_owned(),
        Place::Header(header) => header.to_ascii_lowercase(),
        Place::FormField(field) => format!("form field {field}"),
    }
}

fn carries(request: &OutgoingRequest, placeholder: &str) -> bool {
    request.url.as_str().contains(placeholder)
        || request.headers.iter().any(|(name, value)| name.contains(placeholder) || value.contains(placeholder))
        || request.body.windows(placeholder.len()).any(|window| window == placeholder.as_bytes())
}

#[cfg(test)]
mod tests;
