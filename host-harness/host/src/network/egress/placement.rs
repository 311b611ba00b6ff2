//! Credentials on a request: each at its one declared place.

use super::{Denial, denial};
use crate::contract::Place;
use crate::credentials::sealed::Sealed;
use crate::network::OutgoingRequest;

/// Puts a credential in its place, if its placeholder stands there.
pub(super) fn place(request: &mut OutgoingRequest, place: &Place, sealed: &Sealed) -> Result<bool, Denial> {
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
pub(super) fn is_empty(request: &OutgoingRequest, place: &Place) -> bool {
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
