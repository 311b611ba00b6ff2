//! The token: client credentials of Entra ID, version 2 of its token endpoint.

use std::borrow::Cow;

use crate::contract::collector::source::credentials::Refusal;
use crate::contract::{Failure, Token};
use crate::diagnoses::{ASSERTION_UNAVAILABLE, CREDENTIAL_MISSING, TOKEN_UNUSABLE};
use crate::http::{Request, Response};
use crate::json::{Document, Fault, JsonValue, Object, ValuePath};
use crate::service_error::{self, Call};
use crate::settings::{Credential, Settings};

/// Path of the token endpoint.
pub fn path(settings: &Settings) -> String {
    format!("/{}/oauth2/v2.0/token", settings.tenant)
}

/// The type of a client assertion (RFC 7523).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Makes the request for a token. `assertion` asks the host for a signed assertion; its arguments are the setting with
/// the credential, the application and the audience.
pub fn request(
    settings: &Settings,
    assertion: impl FnOnce(&str, &str, &str) -> Result<String, Refusal>,
) -> Result<Request, Failure> {
    let url = format!("{}{}", settings.authority, path(settings));
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials").append_pair("client_id", &settings.client_id);
    match &settings.credential {
        None => return Err(CREDENTIAL_MISSING.failure("the credential was withheld")),
        Some(Credential::Secret(secret)) => form.append_pair("client_secret", secret),
        Some(Credential::Assertion(setting)) => {
            let assertion = assertion(setting, &settings.client_id, &url);
            let assertion = assertion.map_err(|refusal| ASSERTION_UNAVAILABLE.failure(&refused(setting, refusal)))?;
            form.append_pair("client_assertion_type", ASSERTION_TYPE).append_pair("client_assertion", &assertion)
        }
    };
    let form = form.append_pair("scope", &format!("{}/.default", settings.audience)).finish();
    Ok(Request { url, bearer: None, form: Some(form) })
}

fn refused(setting: &str, refusal: Refusal) -> String {
    let why = match refusal {
        Refusal::NotConfigured => "the host does not have it",
        Refusal::NotDeclared => "the host does not know this setting as a credential",
        Refusal::Unreadable => "it cannot be read",
        Refusal::Unusable => "its content is not what belongs there",
    };
    format!("`{setting}`: {why}")
}

/// Reads the token in an answer.
pub fn answer(settings: &Settings, response: &Response) -> Result<Token, Failure> {
    let call = Call::to_entra(settings, "the token endpoint");
    if response.status != 200 {
        return Err(service_error::entra(call, response));
    }
    let not_understood = |fault: Fault| service_error::not_understood(call, response, &fault);
    let document = Document::read(&response.body).map_err(not_understood)?;
    let granted = Granted::read(&document).map_err(not_understood)?;
    if let Some(flaw) = granted.flaw() {
        return Err(service_error::unusable(&TOKEN_UNUSABLE, call, response, &flaw));
    }
    Ok(Token { value: granted.value.into_owned(), expires_in_seconds: granted.seconds })
}

/// The members of a good answer (RFC 6749, section 5.1).
struct Granted<'a> {
    value: Cow<'a, str>,
    kind: Option<Cow<'a, str>>,
    seconds: u32,
}

/// Lifetime assumed for a token whose answer states none: Entra ID's tokens are valid at least this long, and a 401
/// renews a token in any case.
const LIFE_SECONDS: u32 = 3_599;

impl<'a> Granted<'a> {
    fn read(document: &'a Document<'a>) -> Result<Granted<'a>, Fault> {
        let answer = Object::read(document.root(), &ValuePath::Root)?;
        let value = answer.required_text(&ValuePath::Root, "access_token")?;
        let kind = answer.text(&ValuePath::Root, "token_type")?.filter(|kind| !kind.is_empty());
        let seconds = match answer.get("expires_in") {
            None => LIFE_SECONDS,
            Some(life) => {
                seconds(life).ok_or_else(|| Fault::unfit(&ValuePath::Root.key("expires_in"), Some(life), "seconds"))?
            }
        };
        Ok(Granted { value, kind, seconds })
    }

    /// Returns the flaw of a token that no request can carry.
    fn flaw(&self) -> Option<String> {
        if let Some(odd) = self.value.chars().find(|character| !character.is_ascii_graphic()) {
            return Some(format!("`access_token`: found the character U+{:04X}, which no token has", u32::from(odd)));
        }
        match &self.kind {
            _ if self.value.is_empty() => Some("`access_token`: found an empty text, expected a token".to_owned()),
            Some(kind) if !kind.eq_ignore_ascii_case("bearer") => {
                Some(format!("`token_type`: found {}, expected Bearer", service_error::shown(kind)))
            }
            _ if self.seconds == 0 => Some("`expires_in`: found a time in the past, expected at least 1 s".to_owned()),
            _ => None,
        }
    }
}

/// Returns whole seconds of a number, or of a number in a string, as in version 1 of the endpoint. A lifetime beyond
/// the range of `u32` becomes the largest one, and a negative one becomes 0.
fn seconds(value: JsonValue<'_>) -> Option<u32> {
    let text = value.get();
    let number = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).trim();
    // Only the parser takes the words `inf` and `nan` for numbers.
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let seconds: f64 = number.parse().ok().filter(|_| is_number)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast stops at both ends")]
    Some(seconds as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Reaction;

    #[test]
    fn the_form_is_encoded() {
        let secret = Credential::Secret("a~b&c=d e".to_owned());
        let settings = Settings { credential: Some(secret), ..Settings::sample() };
        let request = request(&settings, |_, _, _| Err(Refusal::NotDeclared)).unwrap();
        assert_eq!(
            request.url,
            "https://login.microsoftonline.com/aaaabbbb-0000-cccc-1111-dddd2222eeee/oauth2/v2.0/token"
        );
        assert_eq!(
            request.form.as_deref(),
            Some(
                "grant_type=client_credentials&client_id=11111111-2222-3333-4444-555555555555\
                 &client_secret=a%7Eb%26c%3Dd+e&scope=https%3A%2F%2Fmanagement.azure.com%2F.default"
            )
        );
    }

    #[test]
    fn an_assertion_is_asked_for_the_application_and_the_token_endpoint() {
        let settings = Settings { credential: Some(Credential::Assertion("client_certificate")), ..Settings::sample() };
        let endpoint = "https://login.microsoftonline.com/aaaabbbb-0000-cccc-1111-dddd2222eeee/oauth2/v2.0/token";
        let request = request(&settings, |setting, client_id, audience| {
            assert_eq!((setting, client_id), ("client_certificate", "11111111-2222-3333-4444-555555555555"));
            assert_eq!(audience, endpoint);
            Ok("sealed".to_owned())
        });
        assert_eq!(
            request.unwrap().form.as_deref(),
            Some(
                "grant_type=client_credentials&client_id=11111111-2222-3333-4444-555555555555\
                 &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
                 &client_assertion=sealed&scope=https%3A%2F%2Fmanagement.azure.com%2F.default"
            )
        );
    }

    #[test]
    fn without_an_assertion_the_setting_is_named() {
        let settings =
            Settings { credential: Some(Credential::Assertion("federated_token_file")), ..Settings::sample() };
        let failure = request(&settings, |_, _, _| Err(Refusal::Unreadable)).unwrap_err();
        assert_eq!(failure.code, "assertion-unavailable");
        assert!(failure.cause.ends_with("`federated_token_file`: it cannot be read"), "{}", failure.cause);
    }

    fn answered(body: &str) -> Result<Token, Failure> {
        answer(&Settings::sample(), &Response { status: 200, headers: Vec::new(), body: body.as_bytes().to_vec() })
    }

    #[test]
    fn lifetimes_are_numbers_or_strings() {
        for (life, expected) in [
            ("3599", 3_599),
            ("\"3599\"", 3_599),
            ("\" 3599 \"", 3_599),
            ("3599.0", 3_599),
            ("\"3599.0\"", 3_599),
            ("3.599e3", 3_599),
            ("3599.9", 3_599),
            ("1", 1),
            ("4294967296", u32::MAX),
            ("99999999999999999999999", u32::MAX),
            ("1e400", u32::MAX),
            ("null", 3_599),
        ] {
            let token = answered(&format!(r#"{{"access_token":"t","expires_in":{life}}}"#));
            assert_eq!(
                token.map(|token| token.expires_in_seconds).map_err(|failure| failure.cause),
                Ok(expected),
                "{life}"
            );
        }
        assert_eq!(answered(r#"{"access_token":"t"}"#).unwrap().expires_in_seconds, 3_599);
    }

    #[test]
    fn a_type_of_token_is_bearer_in_any_letter_case() {
        for kind in ["\"Bearer\"", "\"bearer\"", "\"BEARER\"", "\"\"", "null"] {
            let body = format!(r#"{{"access_token":"t","expires_in":1,"token_type":{kind}}}"#);
            assert_eq!(answered(&body).unwrap().value, "t", "{kind}");
        }
    }

    #[test]
    fn an_answer_without_a_token_is_not_understood() {
        for (body, code, words) in [
            (r#"{"token_type":"Bearer"}"#, "answer-incomplete", "`access_token`: found nothing, expected a string"),
            (r#"{"access_token":7}"#, "answer-wrong-type", "`access_token`: found a number, expected a string"),
            (
                r#"{"access_token":"t","expires_in":"soon"}"#,
                "answer-wrong-type",
                "`expires_in`: found a string, expected seconds",
            ),
            (
                r#"{"access_token":"t","expires_in":"inf"}"#,
                "answer-wrong-type",
                "`expires_in`: found a string, expected seconds",
            ),
            (
                r#"{"access_token":"t","expires_in":true}"#,
                "answer-wrong-type",
                "`expires_in`: found a boolean, expected seconds",
            ),
            (
                r#"{"access_token":"t","token_type":7}"#,
                "answer-wrong-type",
                "`token_type`: found a number, expected a string",
            ),
        ] {
            let failure = answered(body).unwrap_err();
            assert_eq!(failure.code, code, "{body}");
            assert!(failure.cause.ends_with(words), "{}", failure.cause);
        }
        assert_eq!(answered("{}").unwrap_err().code, "not-the-service");
    }

    #[test]
    fn a_token_that_no_request_can_carry_is_the_services_fault() {
        for (members, words) in [
            (r#""access_token":"""#, "`access_token`: found an empty text, expected a token"),
            (r#""access_token":"a\nb""#, "`access_token`: found the character U+000A, which no token has"),
            (r#""access_token":"a b""#, "`access_token`: found the character U+0020, which no token has"),
            (r#""access_token":"aé""#, "`access_token`: found the character U+00E9, which no token has"),
            (r#""access_token":"t","token_type":"pop""#, "`token_type`: found pop, expected Bearer"),
            (r#""access_token":"t","expires_in":0"#, "`expires_in`: found a time in the past, expected at least 1 s"),
            (r#""access_token":"t","expires_in":-5"#, "`expires_in`: found a time in the past, expected at least 1 s"),
            (
                r#""access_token":"t","expires_in":"0.9""#,
                "`expires_in`: found a time in the past, expected at least 1 s",
            ),
        ] {
            let failure = answered(&format!("{{{members}}}")).unwrap_err();
            assert_eq!((failure.code.as_str(), failure.reaction), ("token-unusable", Reaction::TryLater), "{members}");
            assert!(failure.cause.ends_with(&format!("the token endpoint: {words}")), "{}", failure.cause);
            assert!(failure.fix.is_some_and(|fix| fix.contains("https://login.microsoftonline.com")));
        }
    }
}
