//! Credentials on a request: each at its one declared place.

use std::collections::BTreeSet;

use super::{Denial, denial};
use crate::contract::{Credential, Place, Shape};
use crate::credentials::sealed::Sealed;
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

pub(super) fn is_form(request: &OutgoingRequest) -> bool {
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

pub(super) fn place_name(place: &Place) -> String {
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
