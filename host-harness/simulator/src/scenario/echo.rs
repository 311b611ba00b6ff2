//! Answers that contain the secret or the token of the request, in many spellings.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::answer::Answer;

/// Makes a refusal with all values that a plugin must not see.
pub(super) fn token_echo(secret: &str) -> Answer {
    let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let body = json!({
        "error": format!("no {secret}"),
        "error_description": format!("AADSTS7000215: '{percent}' is not {secret}"),
        "error_codes": [7_000_215, secret],
        "trace_id": secret,
        "access_token": secret,
        "innererror": { "body": secret },
    });
    Answer::json(401, &body).with("location", secret).with("x-ms-request-id", secret).with("set-cookie", secret)
}

/// Makes the good page with the token in it, broken into pieces.
pub(super) fn echo_in_lines(good: &Value, bearer: &str) -> Answer {
    let base64 = BASE64_STANDARD.encode(format!("Bearer {bearer}"));
    let mut page = good.clone();
    page["value"][0]["properties"]["displayName"] = Value::from(format!("control of {}", broken(bearer, 1, "\0")));
    page["value"][0]["echo"] = Value::from(broken(bearer, 8, "\r\n"));
    page["echo"] = json!([broken(&base64, 64, "\n"), broken(&base64, 76, "\r\n")]);
    Answer::json(200, &page)
}

/// Breaks a text into pieces of this many characters, joined by `filling`.
fn broken(text: &str, columns: usize, filling: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(columns).map(String::from_iter).collect::<Vec<_>>().join(filling)
}

/// Makes the good page with sixteen bytes of the token in it, at the place and in the spelling of a scenario.
pub(super) fn echo_of_a_piece(good: &Value, bearer: &str, scenario: &str) -> Answer {
    const BYTES: usize = 16;
    let mut page = good.clone();
    let (last, middle) = (&bearer[bearer.len() - BYTES..], &bearer[bearer.len() - BYTES - 8..bearer.len() - 8]);
    match scenario {
        "echo-piece" => page["echo"] = Value::from(format!("…{last}")),
        "echo-piece-base64" => {
            page["echo"] = Value::from(broken(&BASE64_STANDARD.encode(format!("?{middle}?")), 8, "\r\n"));
        }
        _ => {}
    }
    let answer = Answer::json(200, &page);
    let percent: String = middle.bytes().map(|byte| format!("%{byte:02X}")).collect();
    if scenario == "echo-piece-header" { answer.with("x-ms-request-id", &percent) } else { answer }
}

/// Makes the good page with the token in it, in the charset of a scenario.
pub(super) fn echo_in_charset(good: &Value, bearer: &str, scenario: &str) -> Answer {
    let mut page = good.clone();
    page["value"][0]["properties"]["displayName"] = Value::from(format!("control of {bearer}"));
    let text = page.to_string();
    let utf16 = || text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (charset, body): (_, Vec<u8>) = match scenario {
        "echo-utf16" => ("; charset=utf-16", utf16()),
        "echo-utf16-bare" => ("", utf16()),
        "echo-utf32" => ("; charset=utf-32", text.chars().flat_map(|one| u32::from(one).to_be_bytes()).collect()),
        _ => ("; charset=utf-7", text.replace('+', "+-").replace('~', "+AH4-").into_bytes()),
    };
    Answer::text(200, &format!("application/json{charset}"), body)
}

/// Makes the good page with the token in every place where a service could put it.
pub(super) fn echo(good: &Value, bearer: &str) -> Answer {
    let percent: String = bearer.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let unicode: String = bearer.bytes().map(|byte| format!("\\u{:04x}", u32::from(byte))).collect();
    let hex: String = bearer.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut page = good.clone();
    page["echo"] = json!({ "plain": bearer, "percent": percent, "hex": hex, bearer: true });
    page["value"][0]["properties"]["displayName"] = Value::from(format!("control of {bearer}"));
    page["value"][0]["echo"] = Value::from(format!("Bearer {bearer}"));
    let text = page.to_string().replacen("\"echo\":", &format!("\"unicode\":\"{unicode}\",\"echo\":"), 1);
    Answer::text(200, "application/json", text).with("x-echo", bearer).with(&format!("x-{bearer}"), "1")
}
