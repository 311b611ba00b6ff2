//! What may leave the sandbox: requests of the shapes that the plugin declared, to origins that the operator allows,
//! with each credential at its one declared place. Everything here is decided before anything is resolved or dialled.

mod origins;
mod placement;
mod spelling;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

pub use self::origins::{Leave, NotAnOrigin, Origins, canonical, has_fitting_name};
use self::placement::{Placed, carries, refuse_own_credentials};
use self::spelling::{refuse_odd_spelling, refuse_other_meaning};
use crate::contract::{Credential, Path, Plan, Shape};
use crate::credentials::sealed::{Sealed, name};
use crate::limits;
use crate::network::OutgoingRequest;

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
    /// The origins of its shapes as they are compared, each read once.
    origins: Arc<OnceLock<Vec<Option<Arc<str>>>>>,
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
        Egress { plan: plan.into(), origins: Arc::default(), allowed, news: Arc::default() }
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
        let shape = self.allowed_shape(&request, &origin)?;
        let Placed { places, carried, missing, signed } = Placed::on(&mut request, shape, sealed)?;
        if let Some(credential) = carried.first()
            && !self.allowed.takes_credentials(&origin)
        {
            let reason =
                format!("{} would go to {origin} without TLS, for everybody on the way to read", name(credential));
            return Err(Denial { reason, remedy: Some(self.allowed.line_in_clear([origin.as_str()])) });
        }
        if request.headers.iter().any(|(name, _)| name == "authorization") && !places.contains("authorization") {
            let reason = "its `authorization` carries no credential of this call: the plugin wrote it itself";
            return Err(denial(reason.to_owned()));
        }
        if let Some(stray) = sealed.iter().find(|sealed| carries(&request, &sealed.placeholder)) {
            return Err(denial(format!("{} stands where it was not declared", name(&stray.credential))));
        }
        refuse_own_credentials(&request, shape, &places)?;
        let is_by_host = !places.is_empty();
        Ok(Judged { request, shape, carried, missing, signed, is_by_host })
    }

    /// The declared shape of a request to an origin that is allowed.
    fn allowed_shape(&self, request: &OutgoingRequest, origin: &str) -> Result<&Shape, Denial> {
        let is_of = |(shape, declared): &(&Shape, &Option<Arc<str>>)| {
            shape.method == request.method
                && fits(&shape.path, request.url.path())
                && declared.as_deref().is_some_and(|declared| declared == origin)
        };
        let origins = self.origins.get_or_init(|| in_one_spelling(&self.plan.shapes));
        let shape = self.plan.shapes.iter().zip(origins).find(is_of).map(|(shape, _)| shape).ok_or_else(|| {
            denial(format!("no declared shape has {} {origin}{}", request.method, request.url.path()))
        })?;
        if self.allowed.leave(origin).is_none() {
            let remedy = Some(self.allowed.line_for(origin, !shape.credentials.is_empty()));
            return Err(Denial { reason: format!("the origin {origin} is not allowed"), remedy });
        }
        Ok(shape)
    }
}

/// The origins of shapes, each different one read once.
fn in_one_spelling(shapes: &[Shape]) -> Vec<Option<Arc<str>>> {
    let mut known: HashMap<&str, Option<Arc<str>>> = HashMap::new();
    let read = |shape: &Shape| canonical(&shape.origin).map(Arc::from);
    shapes.iter().map(|shape| known.entry(&shape.origin).or_insert_with(|| read(shape)).clone()).collect()
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
    /// Whether it carries credentials. The host put them there: a request with one that the plugin wrote itself stays.
    pub is_by_host: bool,
}

fn denial(reason: String) -> Denial {
    Denial { reason, remedy: None }
}

/// Whether a path is one that a shape of request declares.
pub fn fits(path: &Path, actual: &str) -> bool {
    match path {
        Path::Exact(exact) => actual == exact,
        Path::Prefix(prefix) => prefix.ends_with('/') && actual.starts_with(prefix) && actual.len() > prefix.len(),
    }
}

#[cfg(test)]
mod tests;
