//! Credentials of the plugin's own choosing: with one of another account, a tenant's data would go into that account.
//! Only what the host put on a request signs it. No list of names is complete, so that the rules go by the parts of a
//! request first: a header is one that is known to carry no credential, or is declared; a body goes only with a
//! credential of the host, and is a form or JSON, whose names the host reads.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::placement::{is_form, place_name};
use super::{Denial, denial};
use crate::contract::{Place, Shape};
use crate::credentials::spelling;
use crate::limits;
use crate::network::OutgoingRequest;
use crate::text;

/// Denies a request whose credential the plugin may have written itself. `places` are those where the host put one.
pub(super) fn refuse_own_credentials(
    request: &OutgoingRequest,
    shape: &Shape,
    places: &BTreeSet<String>,
) -> Result<(), Denial> {
    refuse_declared_places(request, shape, places)?;
    refuse_headers(request, places)?;
    if let Some(name) = own_parameter(request, places) {
        let name = shown(&name);
        return Err(denial(format!("its parameter `{name}` looks like a credential that the plugin wrote itself")));
    }
    refuse_body(request)?;
    refuse_unsigned(request, shape, places)
}

/// Denies a request with a value of the plugin's own where a credential was declared.
fn refuse_declared_places(request: &OutgoingRequest, shape: &Shape, places: &BTreeSet<String>) -> Result<(), Denial> {
    let is_own = |place: &&Place| !places.contains(&place_name(place)) && !is_empty(request, place);
    let Some(place) = shape.credentials.iter().map(|used| &used.place).find(is_own) else { return Ok(()) };
    let where_to = match place {
        Place::FormField(field) if !is_form(request) => format!("its body is not a form with the field {field}"),
        place => format!("its {} has a value that the plugin wrote itself", place_words(place)),
    };
    Err(denial(format!("{where_to}, where a credential was declared")))
}

/// Headers in which no service looks for a credential.
const PLAIN_HEADERS: &[&str] = &[
    "accept",
    "accept-language",
    "cache-control",
    "consistencylevel",
    "content-language",
    "content-type",
    "date",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "idempotency-key",
    "pragma",
    "prefer",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-requested-with",
];

/// How the names of other such headers end: versions, ids of requests, places where a list continues.
const PLAIN_ENDINGS: &[&str] =
    &["-continuation", "-continuation-token", "-correlation-id", "-date", "-item-count", "-request-id", "-version"];

fn refuse_headers(request: &OutgoingRequest, places: &BTreeSet<String>) -> Result<(), Denial> {
    let is_plain =
        |name: &str| PLAIN_HEADERS.contains(&name) || PLAIN_ENDINGS.iter().any(|ending| name.ends_with(ending));
    let is_own =
        |(name, value): &&(String, String)| !value.trim().is_empty() && !places.contains(name) && !is_plain(name);
    let Some((name, _)) = request.headers.iter().find(is_own) else { return Ok(()) };
    let name = shown(name);
    Err(denial(match spelling::names_credential(&name) {
        true => format!(
            "its header `{name}` looks like a credential that the plugin wrote itself: one has to be declared for it"
        ),
        false => format!(
            "its header `{name}` may be a credential that the plugin wrote itself: expected a header that is known to \
             be none, such as `accept`, or one that is declared for a credential"
        ),
    }))
}

/// Denies a request without a credential of the host that does more than read.
fn refuse_unsigned(request: &OutgoingRequest, shape: &Shape, places: &BTreeSet<String>) -> Result<(), Denial> {
    let what = match &shape.captures {
        _ if !places.is_empty() => return Ok(()),
        _ if !request.body.is_empty() => "has a body",
        _ if !is_reading(request) => "does more than read",
        Some(_) => "asks for a token",
        None => return Ok(()),
    };
    Err(denial(format!("it {what}, and carries no credential of this call")))
}

fn is_reading(request: &OutgoingRequest) -> bool {
    matches!(request.method.as_str(), "GET" | "HEAD" | "OPTIONS")
}

/// Denies a body in which the host would not see a credential.
fn refuse_body(request: &OutgoingRequest) -> Result<(), Denial> {
    let mut types = request.headers.iter().filter(|(name, _)| name == "content-type").map(|(_, value)| value);
    let (kind, another) = (types.next(), types.next());
    if another.is_some() {
        return Err(denial("its header `content-type` stands twice".to_owned()));
    }
    if request.body.is_empty() {
        return Ok(());
    }
    if is_reading(request) {
        return Err(denial(format!("it is a {} with a body", request.method)));
    }
    if is_form(request) {
        return Ok(());
    }
    let kind = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    if !kind.is_some_and(|kind| kind == "application/json" || kind.ends_with("+json")) {
        return Err(denial("its body is neither a form nor JSON, and the host cannot look into it".to_owned()));
    }
    let mut reader = serde_json::Deserializer::from_slice(&request.body);
    let read = Member { name: "" }.deserialize(&mut reader).and_then(|()| reader.end());
    read.map_err(|error| denial(format!("its body as JSON: {error}")))
}

/// One value of a JSON body, with the name that counts for it. Each member counts, also one whose name stands twice.
#[derive(Clone, Copy)]
struct Member<'a> {
    name: &'a str,
}

impl Member<'_> {
    fn judge<E: Error>(self, bytes: usize) -> Result<(), E> {
        match may_be_own(self.name, bytes) {
            true => {
                let name = shown(self.name);
                Err(E::custom(format!("`{name}` looks like a credential that the plugin wrote itself")))
            }
            false => Ok(()),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value of JSON")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.judge(number.to_string().len())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.judge(number.to_string().len())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.judge(number.to_string().len())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.judge(text.len())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<String>()? {
            // A service may read the members of a `credentials`, or of a `key`, under any name.
            let outer = names_own(self.name) || may_name_own(self.name) && !names_own(&name);
            let name = if outer { self.name } else { &name };
            members.next_value_seed(Member { name })?;
        }
        Ok(())
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

/// Names of credentials that other parameters have, too. The values of those are shorter than credentials are.
const SHARED_NAMES: &[&str] = &["apiuser", "code", "key", "pass", "pat", "sas", "session", "sid", "ticket", "webhook"];

/// Length in bytes of the shortest value under such a name that may be a credential.
const SHORTEST_CREDENTIAL: usize = 12;

/// The name of a parameter of the address or of a form that looks like a credential, and that the host did not put there.
/// Some servers read a `;` like a `&` and others do not, so that both readings count. Some read the parameters of a
/// segment of the path like those of the query.
fn own_parameter(request: &OutgoingRequest, places: &BTreeSet<String>) -> Option<String> {
    let query = request.url.query().unwrap_or_default();
    let query = query.split(['&', ';']).chain([query]);
    let of_segments = request.url.path().split('/').flat_map(|segment| segment.split(';').skip(1));
    let in_address = query.chain(of_segments).flat_map(|one| form_urlencoded::parse(one.as_bytes()));
    let in_form =
        is_form(request).then(|| request.body.split(|byte| matches!(byte, b'&' | b';')).chain([&*request.body]));
    let in_form = in_form.into_iter().flatten().flat_map(form_urlencoded::parse);
    let is_declared = |name: &str| places.contains(&place_name(&Place::FormField(name.to_owned())));
    let in_form = in_form.filter(|(name, _)| !is_declared(name));
    let mut parameters = in_address.chain(in_form);
    parameters.find(|(name, value)| may_be_own(name, value.len())).map(|(name, _)| name.into_owned())
}

/// Says whether a value of this length may be a credential under this name.
fn may_be_own(name: &str, bytes: usize) -> bool {
    bytes > 0 && names_own(name) || bytes >= SHORTEST_CREDENTIAL && may_name_own(name)
}

fn names_own(name: &str) -> bool {
    let name = alphanumeric(name);
    CREDENTIAL_NAMES.contains(&&*name) || CREDENTIAL_ENDINGS.iter().any(|end| name.ends_with(end))
}

fn may_name_own(name: &str) -> bool {
    SHARED_NAMES.contains(&&*alphanumeric(name))
}

/// Returns the name as a message shows it: the name of a member may be as long as the body.
fn shown(name: &str) -> String {
    text::plain(text::cut(name, limits::NAME_BYTES))
}

fn alphanumeric(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|one| one.to_ascii_lowercase()).collect()
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
