//! The token: client credentials of Entra ID, version 2 of its token endpoint.

use serde_json::value::RawValue;

use crate::contract::{Failure, Token};
use crate::diagnoses::CREDENTIAL_MISSING;
use crate::http::{Request, Response};
use crate::json::{self, Fault, Object};
use crate::service_error;
use crate::settings::Settings;

/// Path of the token endpoint.
pub fn path(settings: &Settings) -> String {
    format!("/{}/oauth2/v2.0/token", settings.tenant)
}

/// The request for a token.
pub fn request(settings: &Settings) -> Result<Request, Failure> {
    let secret =
        settings.client_secret.as_ref().ok_or_else(|| CREDENTIAL_MISSING.failure("`client_secret` was withheld"))?;
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_id", &settings.client_id)
        .append_pair("client_secret", secret)
        .append_pair("scope", &format!("{}/.default", settings.audience))
        .finish();
    Ok(Request { url: format!("{}{}", settings.authority, path(settings)), bearer: None, form: Some(form) })
}

/// The token of an answer.
pub fn answer(settings: &Settings, response: &Response) -> Result<Token, Failure> {
    if response.status != 200 {
        return Err(service_error::entra(settings, response));
    }
    token(&response.body)
        .map_err(|fault| service_error::not_understood(settings, response, "the token endpoint", &fault))
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
        let settings = Settings { client_secret: Some("a~b&c=d e".to_owned()), ..Settings::sample() };
        let request = request(&settings).unwrap();
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
