//! The challenges of `WWW-Authenticate` (RFC 9110, section 11.6.1): several on one line, or on several lines.

use crate::http::Response;

/// A challenge to present another token.
#[derive(Debug, PartialEq, Eq)]
pub struct Bearer {
    /// Whether the service asks for a token with further claims, as continuous access evaluation does.
    pub wants_claims: bool,
}

/// Merges the `Bearer` challenges of an answer; `None` if there are none.
pub fn bearer(response: &Response) -> Option<Bearer> {
    let lines = response.headers.iter().filter(|(name, _)| name == "www-authenticate");
    let mut found: Option<Bearer> = None;
    for (_, line) in lines {
        let mut in_bearer = false;
        for part in parts(line) {
            let parameter = match scheme(part) {
                Some((scheme, parameter)) => {
                    in_bearer = scheme.eq_ignore_ascii_case("Bearer");
                    parameter
                }
                None => part,
            };
            if in_bearer {
                let found = found.get_or_insert(Bearer { wants_claims: false });
                found.wants_claims |= is_error(parameter, "insufficient_claims");
            }
        }
    }
    found
}

/// Splits a line at its commas, except for commas within quotes.
fn parts(line: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = line.split(move |character| {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' => return !quoted,
            _ => {}
        }
        false
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

/// Returns the scheme at the beginning of a part, and its first parameter; `None` if the part is a parameter.
fn scheme(part: &str) -> Option<(&str, &str)> {
    let end = part.find(|character: char| character.is_ascii_whitespace() || character == '=').unwrap_or(part.len());
    let rest = part[end..].trim_start();
    (!rest.starts_with('=')).then_some((&part[..end], rest))
}

/// Says whether a parameter is `error` with this value, in quotes or without.
fn is_error(parameter: &str, value: &str) -> bool {
    parameter.split_once('=').is_some_and(|(name, found)| {
        name.trim().eq_ignore_ascii_case("error") && found.trim().trim_matches('"').eq_ignore_ascii_case(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &[&str]) -> Option<bool> {
        let headers = lines.iter().map(|line| ("www-authenticate".to_owned(), (*line).to_owned())).collect();
        bearer(&Response { status: 401, headers, body: Vec::new() }).map(|bearer| bearer.wants_claims)
    }

    #[test]
    fn a_bearer_challenge_is_found_wherever_it_stands() {
        for lines in [
            &["Bearer"][..],
            &["bearer realm=\"\""],
            &["BEARER\trealm=x"],
            &["Basic realm=\"x\"", "Bearer authorization_uri=\"https://login.windows.net/t\", error=\"invalid_token\""],
            &["Negotiate, Basic realm=\"a, b\", charset=\"UTF-8\",Bearer realm = \"x\""],
            &[" , ,Bearer"],
        ] {
            assert_eq!(found(lines), Some(false), "{lines:?}");
        }
    }

    #[test]
    fn another_challenge_is_none() {
        for lines in [
            &[][..],
            &[""],
            &["Basic realm=\"Bearer\""],
            &["Basic realm=\"x, Bearer y\""],
            &["Basic realm=\"\\\", Bearer\""],
            &["Negotiate YWJj=="],
            &["Basic bearer=\"x\""],
            &["BearerX realm=\"\""],
        ] {
            assert_eq!(found(lines), None, "{lines:?}");
        }
    }

    #[test]
    fn a_challenge_for_claims_is_told_from_others() {
        for lines in [
            &["Bearer realm=\"\", error=\"insufficient_claims\", claims=\"eyJhIjoxfQ==\""][..],
            &["Bearer error=insufficient_claims"],
            &["Bearer realm=\"a, b\", Error = \"Insufficient_Claims\""],
            &["Bearer realm=\"\", error=\"invalid_token\"", "Bearer error=\"insufficient_claims\""],
        ] {
            assert_eq!(found(lines), Some(true), "{lines:?}");
        }
        assert_eq!(found(&["Bearer realm=\"\", Basic error=\"insufficient_claims\""]), Some(false));
        assert_eq!(found(&["Bearer error_description=\"insufficient_claims\""]), Some(false));
    }
}
