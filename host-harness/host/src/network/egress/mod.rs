//! The rules for requests that leave the sandbox: requests of the shapes that the plugin declared, to origins that the
//! operator allows, with each credential at its one declared place. Every decision is made before the host resolves a
//! name or opens a connection.

mod origins;
mod own;
mod placement;
mod spelling;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

pub use self::origins::{Leave, NotAnOrigin, Origins, canonical, has_fitting_name};
use self::own::refuse_own_credentials;
use self::placement::{Placed, carries};
use self::spelling::{refuse_odd_spelling, refuse_other_meaning};
use crate::contract::{Credential, Path, Plan, Shape};
use crate::credentials::sealed::{Sealed, name};
use crate::limits;
use crate::network::OutgoingRequest;

/// The reason why a request is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The reason in one sentence, without secrets.
    pub reason: String,
    /// The line of configuration that would allow the request, where there is one.
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
    /// The canonical origins of the shapes, each parsed once.
    origins: Arc<OnceLock<Vec<Option<Arc<str>>>>>,
    allowed: Arc<Origins>,
    news: Arc<News>,
}

/// The remarks about a feed's requests and credentials that were already reported. They survive while a feed is opened again and again.
#[derive(Debug, Default)]
pub struct News(Mutex<BTreeSet<String>>);

impl News {
    /// Says whether no remark was reported yet.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Says whether to report a remark: each remark once, and a few in total.
    pub(crate) fn is_news(&self, words: &str) -> bool {
        let mut told = self.0.lock();
        told.len() < limits::DENIALS_TOLD && told.insert(words.to_owned())
    }
}

impl Egress {
    /// Allows the shapes of a plan, as far as their origins are allowed.
    pub fn new(plan: impl Into<Arc<Plan>>, allowed: Arc<Origins>) -> Egress {
        Egress { plan: plan.into(), origins: Arc::default(), allowed, news: Arc::default() }
    }

    /// The same rules, with remarks that were already reported.
    pub fn knowing(self, news: Arc<News>) -> Egress {
        Egress { news, ..self }
    }

    /// The remarks about this feed's requests that were already reported.
    pub(crate) fn news(&self) -> &News {
        &self.news
    }

    /// The declared shapes.
    pub fn shapes(&self) -> &[Shape] {
        &self.plan.shapes
    }

    /// Returns the request with its credentials in place and its shape, or the reason why the request is denied.
    pub fn judge(&self, url: &str, mut request: OutgoingRequest, sealed: &[Sealed]) -> Result<Judged<'_>, Denial> {
        refuse_odd_spelling(url, &request.url)?;
        refuse_other_meaning(&request)?;
        let origin = request.url.origin().ascii_serialization();
        let shape = self.allowed_shape(&request, &origin)?;
        let Placed { places, carried, missing, signed } = Placed::on(&mut request, shape, sealed)?;
        if let Some(credential) = carried.first()
            && !self.allowed.takes_credentials(&origin)
        {
            let reason = format!(
                "{} would be sent to {origin} without TLS, where anyone on the way can read it",
                name(credential)
            );
            return Err(Denial { reason, remedy: Some(self.allowed.line_in_clear([origin.as_str()])) });
        }
        if request.headers.iter().any(|(name, _)| name == "authorization") && !places.contains("authorization") {
            let reason = "its `authorization` carries no credential of this call: the plugin wrote it itself";
            return Err(denial(reason.to_owned()));
        }
        if let Some(stray) = sealed.iter().find(|sealed| carries(&request, &sealed.placeholder)) {
            return Err(denial(format!("{} is in a place for which it was not declared", name(&stray.credential))));
        }
        refuse_own_credentials(&request, shape, &places)?;
        let is_by_host = !places.is_empty();
        Ok(Judged { request, shape, carried, missing, signed, is_by_host })
    }

    /// Finds the declared shape of a request, if its origin is allowed.
    fn allowed_shape(&self, request: &OutgoingRequest, origin: &str) -> Result<&Shape, Denial> {
        let is_of = |(shape, declared): &(&Shape, &Option<Arc<str>>)| {
            shape.method == request.method
                && fits(&shape.path, request.url.path())
                && declared.as_deref().is_some_and(|declared| declared == origin)
        };
        let origins = self.origins.get_or_init(|| in_one_spelling(&self.plan.shapes));
        let shape = self.plan.shapes.iter().zip(origins).find(is_of).map(|(shape, _)| shape).ok_or_else(|| {
            denial(format!("no declared request matches {} {origin}{}", request.method, request.url.path()))
        })?;
        if self.allowed.leave(origin).is_none() {
            let remedy = Some(self.allowed.line_for(origin, !shape.credentials.is_empty()));
            return Err(Denial { reason: format!("the origin {origin} is not allowed"), remedy });
        }
        Ok(shape)
    }
}

/// Returns the canonical origins of shapes, and parses each different one once.
fn in_one_spelling(shapes: &[Shape]) -> Vec<Option<Arc<str>>> {
    let mut known: HashMap<&str, Option<Arc<str>>> = HashMap::new();
    let read = |shape: &Shape| canonical(&shape.origin).map(Arc::from);
    shapes.iter().map(|shape| known.entry(&shape.origin).or_insert_with(|| read(shape)).clone()).collect()
}

/// A request that may leave.
#[derive(Debug)]
pub struct Judged<'a> {
    /// The request with its real credentials.
    pub request: OutgoingRequest,
    /// The shape that declared the request.
    pub shape: &'a Shape,
    /// The credentials that the request carries.
    pub carried: Vec<&'a Credential>,
    /// Credentials that were declared for the request and are configured, but are not on it.
    pub missing: Vec<&'a Credential>,
    /// The places of signed assertions on the request.
    pub signed: Vec<String>,
    /// Whether the request carries credentials. The host put them there: a request with a credential that the plugin
    /// wrote itself is denied.
    pub is_by_host: bool,
}

fn denial(reason: String) -> Denial {
    Denial { reason, remedy: None }
}

/// Says whether a path fits the path of a shape.
pub fn fits(path: &Path, actual: &str) -> bool {
    match path {
        Path::Exact(exact) => actual == exact,
        Path::Prefix(prefix) => prefix.ends_with('/') && actual.starts_with(prefix) && actual.len() > prefix.len(),
    }
}

#[cfg(test)]
mod tests;
