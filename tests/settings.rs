//! What is said of settings before anything is sent.

use serde_json::json;

use crate::support::feed;

#[tokio::test]
async fn what_is_odd_about_a_credential_is_told_by_name_and_never_by_value() {
    for (value, words) in [
        (" s~ecret ", "white space around it was removed"),
        ("\"s~ecret\"", "is written in quotes"),
        ("s~ecret in two", "has white space inside"),
        ("s~ecre7", "less than 8 characters"),
        ("11111111-2222-3333-4444-555555555555", "is a GUID"),
        ("eyJhbGciOi.eyJpc3Mi.c2lnbmVk", "is a token, which the host fetches by itself"),
        ("\u{feff}s~ecret8\r\n", "a byte order mark at its beginning and white space at its end were removed"),
        ("s~ecret8\u{200b}\0", "a zero-width space and a NUL at its end were removed"),
        ("“s~ecret”", "has a typographic quotation mark as characters 1, 9"),
        ("s~ec\0ret8", "has a NUL as character 5"),
        ("s~ecret8\nof-two", "has 2 lines"),
        ("${CONTOSO_SECRET}", "looks like a reference"),
        ("export CONTOSO_SECRET=s~ecret8", "looks like `NAME=value`"),
        ("Bearer s~ecret8", "begins as a header of HTTP does"),
        ("{\"password\": \"s~ecret8\"}", "looks like JSON"),
        ("OHl+OFF+YXp1cmUtc2VjcmV0LXZhbHVl", "looks like a text in base64"),
        ("8y%7E8Q%7Eazure-secret", "looks percent-encoded"),
        ("/run/secrets/contoso", "looks like the path of a file"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", "looks like PEM"),
        ("<client secret>", "looks like a placeholder"),
    ] {
        let oddities = feed(json!({ "client_secret": value })).await.oddities();
        let told = oddities.iter().any(|(setting, said)| setting == "client_secret" && said.contains(words));
        assert!(told, "expected {words:?} in {oddities:?}");
        let alone = oddities.len() == 1 || value.trim().len() < 8;
        assert!(alone, "what follows from another is told, too: {oddities:?}");
        assert!(oddities.iter().all(|(_, said)| !said.contains(value.trim())), "{oddities:?}");
    }
    assert_eq!(feed(json!({ "client_secret": "s~ecret8" })).await.oddities(), []);
}

#[tokio::test]
async fn the_declared_requests_are_one_post_and_gets() {
    let shapes = feed(json!({})).await.plan().shapes.clone();
    let methods: Vec<_> = shapes.iter().map(|shape| shape.method.as_str()).collect();
    assert_eq!(methods.iter().filter(|method| **method == "POST").count(), 1);
    assert!(methods.iter().all(|method| ["GET", "POST"].contains(method)));
}
