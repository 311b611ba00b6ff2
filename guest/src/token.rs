//! The token: client credentials of Entra ID, version 2 of its token endpoint.

use serde_json::value::RawValue;

use crate::contract::collector::source::credentials::Refusal;
use crate::contract::{Failure, Token};
use crate::diagnoses::{ASSERTION_UNAVAILABLE, CREDENTIAL_MISSING};
use crate::http::{Request, Response};
use crate::json::{self, Fault, Object};
use crate::service_error::{self, Call};
use crate::settings::{Credential, Settings};

/// Path of the token endpoint.
pub fn path(settings: &Settings) -> String {
    format!("/{}/oauth2/v2.0/token", settings.tenant)
}

/// What an assertion is (RFC 7523).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The request for a token. `assertion` asks the host for a signed assertion: of the credential in which setting, for
/// which application, to which audience.
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
        Refusal::NotDeclared => "the host does not know it for a credential",
        Refusal::Unreadable => "it cannot be read",
        Refusal::Unusable => "it is not what belongs there",
    };
    format!("`{setting}`: {why}")
}

/// The token of an answer.
pub fn answer(settings: &Settings, response: &Response) -> Result<Token, Failure> {
    let call = Call::to_entra(settings, "the token endpoint");
    if response.status != 200 {
        return Err(service_error::entra(call, response));
    }
    token(&response.body).map_err(|fault| service_error::not_understood(call, response, &fault))
}

fn token(body: &[u8]) -> Result<Token, Fault> {
    let answer = Object::read(json::document(body)?, "")?;
    let value = answer.required_text("", "access_token")?.into_owned();
    let expires_in = answer.get("expires_in").ok_or_else(|| Fault::unfit("expires_in", None, "seconds"))?;
    let expires_in_seconds =
        seconds(expires_in).ok_or_else(|| Fault::unfit("expires_in", Some(expires_in), "seconds"))?;
    Ok(Token { value, expires_in_seconds })
}

/// A number, or a number in a string, as version 1 of the endpoint gives it.
fn seconds(value: &RawValue) -> Option<u32> {
    value.get().trim_matches('"').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn lifetimes_are_numbers_or_strings() {
        for body in [r#"{"access_token":"t","expires_in":3599}"#, r#"{"access_token":"t","expires_in":"3599"}"#] {
            assert_eq!(token(body.as_bytes()).unwrap().expires_in_seconds, 3_599);
        }
    }

    #[test]
    fn an_answer_without_a_token_is_not_understood() {
        for (body, path) in [
            ("{}", "access_token"),
            (r#"{"access_token":"t"}"#, "expires_in"),
            (r#"{"access_token":"t","expires_in":-1}"#, "expires_in"),
        ] {
            assert_eq!(token(body.as_bytes()).unwrap_err().path, path);
        }
    }
}
