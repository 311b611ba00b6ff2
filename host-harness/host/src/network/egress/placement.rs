//! Credentials on a request: each at its one declared place.

use std::collections::BTreeSet;

use super::{Denial, denial};
use crate::contract::{Credential, Place, Shape};
use crate::credentials::sealed::Sealed;
use crate::credentials::spelling;
use crate::network::OutgoingRequest;

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

/// Parameters of an address that services take for credentials.
const CREDENTIAL_PARAMETERS: &[&str] = &[
    "access_token",
    "api-key",
    "api_key",
    "apikey",
    "auth",
    "auth_token",
    "authorization",
    "client_secret",
    "password",
    "secret",
    "sig",
    "signature",
    "subscription-key",
    "token",
    "x-amz-credential",
    "x-amz-signature",
    "x-api-key",
    "x-goog-signature",
];

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
    let is_known = |name: &str| CREDENTIAL_PARAMETERS.contains(&name.to_ascii_lowercase().as_str());
    match request.url.query_pairs().find(|(name, value)| is_known(name) && !value.is_empty()) {
        Some((name, _)) if !shape.credentials.is_empty() => {
            Err(denial(format!("its parameter `{name}` looks like a credential beside the declared one")))
        }
        _ => Ok(()),
    }
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
