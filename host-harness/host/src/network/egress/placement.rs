//! Credentials on a request: each at its one declared place.

use std::collections::BTreeSet;

use super::{Denial, denial};
use crate::contract::{Credential, Place, Shape};
use crate::credentials::sealed::Sealed;
use crate::credentials::spelling;
use crate::network::OutgoingRequest;
use crate::text;

/// The result of placing the credentials that a shape declares.
#[derive(Default)]
pub(super) struct Placed<'a> {
    /// The places with a credential.
    pub(super) places: BTreeSet<String>,
    /// The credentials that are on the request.
    pub(super) carried: Vec<&'a Credential>,
    /// The credentials that are configured but are not on the request.
    pub(super) missing: Vec<&'a Credential>,
    /// The places of signed assertions.
    pub(super) signed: Vec<String>,
}

impl<'a> Placed<'a> {
    /// Replaces the placeholder of each credential in its declared place on a request.
    pub(super) fn on(request: &mut OutgoingRequest, shape: &'a Shape, sealed: &[Sealed]) -> Result<Placed<'a>, Denial> {
        let mut placed = Placed::default();
        for used in &shape.credentials {
            let (mut is_configured, mut is_placed) = (false, false);
            for sealed in sealed.iter().filter(|sealed| sealed.credential == used.credential) {
                is_configured = true;
                if place(request, &used.place, sealed)? {
                    is_placed = true;
                    placed.places.insert(place_name(&used.place));
                    placed.signed.extend(sealed.identity.is_some().then(|| place_name(&used.place)));
                }
            }
            match (is_configured, is_placed) {
                (_, true) => placed.carried.push(&used.credential),
                (true, false) => placed.missing.push(&used.credential),
                (false, false) => {}
            }
        }
        Ok(placed)
    }
}

/// Puts a credential in its place, if its placeholder is there.
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

/// How the names of parameters by which services know who asks end, of their letters and digits alone.
const CREDENTIAL_ENDINGS: &[&str] = &[
    "accesskey",
    "accesskeyid",
    "accesstoken",
    "accountkey",
    "actortoken",
    "apikey",
    "apitoken",
    "appkey",
    "assertion",
    "authkey",
    "authorizationcode",
    "authorization",
    "authtoken",
    "bearer",
    "credential",
    "credentials",
    "devicecode",
    "functionskey",
    "googleaccessid",
    "idtoken",
    "jobtoken",
    "jwt",
    "oauthtoken",
    "passwd",
    "password",
    "privatetoken",
    "pwd",
    "refreshtoken",
    "secret",
    "secretkey",
    "securitytoken",
    "sessid",
    "sessionid",
    "sessiontoken",
    "sharedkey",
    "signature",
    "subjecttoken",
    "subscriptionkey",
    "userkey",
];

/// The same names where these are all of it: other parameters end so, too.
const CREDENTIAL_NAMES: &[&str] = &["auth", "hmac", "sig", "token"];

/// Denies a request whose credential the plugin wrote itself: with a credential of another account, a tenant's data
/// would go into that account.
pub(super) fn refuse_own_credentials(
    request: &OutgoingRequest,
    shape: &Shape,
    places: &BTreeSet<String>,
) -> Result<(), Denial> {
    let is_own = |place: &&Place| !places.contains(&place_name(place)) && !is_empty(request, place);
    if let Some(place) = shape.credentials.iter().map(|used| &used.place).find(is_own) {
        let where_to = match place {
            Place::FormField(field) if !is_form(request) => format!("its body is not a form with the field {field}"),
            place => format!("its {} has a value that the plugin wrote itself", place_words(place)),
        };
        return Err(denial(format!("{where_to}, where a credential was declared")));
    }
    let is_written = |name: &str| spelling::names_credential(name) && !places.contains(name);
    if let Some((name, _)) = request.headers.iter().find(|(name, value)| is_written(name) && !value.trim().is_empty()) {
        return Err(denial(format!(
            "its header `{name}` looks like a credential that the plugin wrote itself: one has to be declared for it"
        )));
    }
    match own_parameter(request, places) {
        Some(name) if !shape.credentials.is_empty() => {
            let name = text::plain(&name);
            Err(denial(format!("its parameter `{name}` looks like a credential beside the declared one")))
        }
        _ => Ok(()),
    }
}

/// The name of a parameter of the address or of a form that looks like a credential, and that the host did not put there.
/// Some servers read a `;` like a `&`, and parameters of a segment of the path like those of the query.
fn own_parameter(request: &OutgoingRequest, places: &BTreeSet<String>) -> Option<String> {
    let query = request.url.query().unwrap_or_default().split(['&', ';']);
    let of_segments = request.url.path().split('/').flat_map(|segment| segment.split(';').skip(1));
    let in_address = query.chain(of_segments).flat_map(|one| form_urlencoded::parse(one.as_bytes()));
    let in_form = is_form(request).then(|| form_urlencoded::parse(&request.body)).into_iter().flatten();
    let is_declared = |name: &str| places.contains(&place_name(&Place::FormField(name.to_owned())));
    let in_form = in_form.filter(|(name, _)| !is_declared(name));
    let mut parameters = in_address.chain(in_form);
    parameters.find(|(name, value)| names_own(name) && !value.is_empty()).map(|(name, _)| name.into_owned())
}

fn names_own(name: &str) -> bool {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).map(|one| one.to_ascii_lowercase()).collect();
    CREDENTIAL_NAMES.contains(&&*name) || CREDENTIAL_ENDINGS.iter().any(|end| name.ends_with(end))
}

fn place_words(place: &Place) -> String {
    match place {
        Place::Bearer | Place::Header(_) => format!("header `{}`", place_name(place)),
        Place::FormField(_) => place_name(place),
    }
}

/// Says whether the place of a credential is empty. A body that is not a form counts as occupied, because a credential
/// may be anywhere in it.
fn is_empty(request: &OutgoingRequest, place: &Place) -> bool {
    let has_no = |header: &str| request.headers.iter().all(|(name, value)| name != header || value.trim().is_empty());
    match place {
        Place::Bearer => has_no("authorization"),
        Place::Header(header) => has_no(&header.to_ascii_lowercase()),
        Place::FormField(_) if !is_form(request) => request.body.is_empty(),
        Place::FormField(field) => {
            form_urlencoded::parse(&request.body).all(|(name, value)| name != *field || value.is_empty())
        }
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

pub(super) fn carries(request: &OutgoingRequest, placeholder: &str) -> bool {
    request.url.as_str().contains(placeholder)
        || request.headers.iter().any(|(name, value)| name.contains(placeholder) || value.contains(placeholder))
        || request.body.windows(placeholder.len()).any(|window| window == placeholder.as_bytes())
}
