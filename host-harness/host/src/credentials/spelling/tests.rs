use super::*;

#[test]
fn what_surrounds_a_secret_is_taken_off_and_named() {
    for (text, inner, remark) in [
        ("s~ecret", "s~ecret", None),
        (" s~ecret\t", "s~ecret", Some("white space around it was removed")),
        ("s~ecret\r\n", "s~ecret", Some("white space at its end was removed")),
        ("\u{feff}s~ecret", "s~ecret", Some("a byte order mark at its beginning was removed")),
        ("s~ecret\u{a0}\u{3000}", "s~ecret", Some("white space at its end was removed")),
        (
            "\u{feff}s~ecret\r\n",
            "s~ecret",
            Some("a byte order mark at its beginning and white space at its end were removed"),
        ),
        ("\u{200b}s~ecret\u{200b}", "s~ecret", Some("a zero-width space around it was removed")),
        ("s~ecret\0\0", "s~ecret", Some("a NUL at its end was removed")),
        ("\u{202a}s~ecret\u{202c}", "s~ecret", Some("a mark of writing direction around it was removed")),
        (
            "s~ecret\u{ad}\u{7f}",
            "s~ecret",
            Some("a soft hyphen and a control character (U+007F) at its end were removed"),
        ),
        ("\u{e0001}s~ecret", "s~ecret", Some("a format character (U+E0001) at its beginning was removed")),
        (" \u{feff}\0", "", Some("white space and a byte order mark and a NUL at its beginning were removed")),
        ("s~e cr\0et", "s~e cr\0et", None),
    ] {
        let found = trimmed(text);
        assert_eq!((found.text, found.remark.as_deref()), (inner, remark), "{text:?}");
    }
    for (text, line) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("\r", "")] {
        assert_eq!(without_line_end(text), line, "{text:?}");
    }
}

#[test]
fn what_is_no_printable_ascii_is_named_by_kind_and_place() {
    for (secret, expected) in [
        ("“s~ecret”", "has a typographic quotation mark as characters 1, 9, where"),
        ("s~e\0cret", "has a NUL as character 4, where"),
        ("s~e\tcret", "has a tab as character 4, where"),
        ("s~e\rcret", "has a carriage return as character 4, where"),
        ("s~e\u{a0}cret", "has a non-breaking space as character 4, where"),
        ("s~e\u{200b}cret", "has a zero-width space as character 4, where"),
        ("s～ecret", "has something like a tilde as character 2, where"),
        ("s~ecret–of", "has a typographic dash as character 8, where"),
        ("ｓ~ｅｃｒｅｔ", "has a full-width character as characters 1, 3, 4, 5 and 2 more, where"),
        ("s~есret", "has a letter outside ASCII as characters 3, 4, where"),
        ("s~\u{fffd}cret", "has a replacement character, which replaces"),
        ("s~e\u{1b}cret", "has a control character (U+001B) as character 4, where"),
        ("s~ecret\nof two", "has 2 lines, where a secret has one"),
        ("s~ecret\r\nof\r\nthree", "has 3 lines, where a secret has one"),
    ] {
        let found = oddities(secret);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{secret:?}: {found:?}");
    }
    assert_eq!(oddities("\"s~e\0cret\"").len(), 2);
}

#[test]
fn what_is_no_secret_is_named_as_what_it_looks_like() {
    for (texts, expected) in [
        (
            &[
                "${CONTOSO_SECRET}",
                "$CONTOSO_SECRET",
                "%CONTOSO_SECRET%",
                "$(cat secret.txt)",
                "{{ vault.secret }}",
                "$env:CONTOSO_SECRET",
                "`cat secret.txt`",
                "@Microsoft.KeyVault(SecretUri=https://v/s)",
                "#{secret}#",
                "${{ secrets.CONTOSO }}",
                "__CONTOSO_SECRET__",
                "env:CONTOSO_SECRET",
                "env.SECRET",
                "env(SECRET)",
            ][..],
            "looks like a reference",
        ),
        (
            &[
                "{\"password\": \"s~ecret\"}",
                "[\"s~ecret\"]",
                "{\n  \"password\": \"s~ecret\"\n}",
                "{password: s~ecret}",
            ],
            "looks like JSON",
        ),
        (&["<!DOCTYPE html>\n<html><body>Sign in</body></html>"], "looks like a web page"),
        (
            &["https://contoso.vault.azure.net/secrets/a/b", "op://vault/item/field", "vault:secret/data/a#b"],
            "looks like an address",
        ),
        (&["Bearer s~ecret", "bearer s~ecret", "Basic dXNlcjpwYXNz", "Splunk 1-2-3"], "begins as a header"),
        (
            &[
                "CONTOSO_SECRET=s~ecret",
                "export CONTOSO_SECRET=s~ecret",
                "client_secret=s~ecret",
                "set A_B=s~ecret",
                "clientSecret = s~ecret",
                "password: s~ecret",
                "Authorization: Bearer s~ecret",
                "--client-secret=s~ecret",
                "$env:CONTOSO_SECRET = \"s~ecret\"",
                "\"password\": \"s~ecret\",",
                "grant_type=a&client_secret=s~ecret",
            ],
            "looks like `NAME=value`",
        ),
        (&["\"s~ecret\"", "'s~ecret'", "`s~ecret`", "b's~ecret'"], "is written in quotes"),
        (&["ENC[AES256_GCM,data:Zm9v,iv:YmFy,tag:eA==,type:str]", "$ANSIBLE_VAULT;1.1;AES256\n3132"], "is encrypted"),
        (&["abc*****************", "••••••••"], "is masked"),
        (
            &[
                "changeme",
                "CHANGE_ME",
                "<secret>",
                "<your client secret>",
                "your-client-secret",
                "YOUR_SECRET_HERE",
                "xxxxxxxx",
                "[redacted]",
                "SECRET-1",
                "TODO",
                "null",
                "MY_CLIENT_SECRET",
                "REPLACE_ME",
                "s~ecret…",
                "8Q~xxxxxxxxxxxxxxxx",
            ],
            "looks like a placeholder",
        ),
        (
            &[
                "/run/secrets/contoso",
                "@/run/secrets/contoso",
                "@secret.txt",
                "./secret.txt",
                "~/secret",
                "C:\\secrets\\x",
                "secrets/contoso.txt",
                "app.pem",
                "\\\\host\\share",
            ],
            "looks like the path",
        ),
        (&["CONTOSO_PROD_CREDENTIAL", "AZURE_SECRET2"], "looks like the name of a variable"),
        (
            &[
                "OHl+OFF+YXp1cmUtc2VjcmV0LXZhbHVl",
                "OHl-OFF-YXp1cmUtc2VjcmV0LXZhbHVlCg==",
                "OAB5AH4AOABRAH4AYQB6AHUAcgBlAA==",
            ],
            "looks like base64",
        ),
        (&["38797e38517e617a7572652d736563726574"], "looks like hexadecimal"),
        (&["8y%7E8Q%7Eazure-secret", "abc%2Bdef%3D"], "looks percent-encoded"),
        (&["8y&amp;8Q", "8y\\u007e8Q", "8y~8Q\\n", "8y&#126;8Q"], "has escapes"),
        (&["-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----"], "looks like PEM"),
    ] {
        for text in texts {
            let found = oddities(text);
            assert!(found.first().is_some_and(|words| words.starts_with(expected)), "{text:?}: {found:?}");
            assert_eq!(found.len() - usize::from(text.contains(['…', '•'])), 1, "{text:?}: {found:?}");
        }
    }
}

#[test]
fn secrets_as_services_make_them_are_not_odd() {
    // The alphabet of client secrets of Entra ID, at their lengths; the same in every run.
    let mut seed = 7_u64;
    let mut roll = |sides: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % sides
    };
    let entra: Vec<char> = ('a'..='z').chain('A'..='Z').chain('0'..='9').chain("_~.-".chars()).collect();
    for length in [34, 37, 40] {
        for _ in 0..20_000 {
            let secret: String = (0..length).map(|_| entra[roll(entra.len())]).collect();
            assert_eq!(oddities(&secret), Vec::<String>::new(), "{secret}");
        }
    }
    for secret in [
        "Zz8Q~an-older-secret.of-this-app",
        "nBr1Lm7XJz3fG9kQ2wVt5yPd8sHc0aUe+/4oIiRbKl=",
        "7Zk?]dH[Pq@v:Y*w-4s+Qm_.=R8xT/2n",
        "5f0c2a8e-3f51-4f4c-9a3d-2f1f0b7d9c11",
        "glpat-x7Vq2pLmN4tR8sWz",
        "correct horse battery staple",
    ] {
        assert_eq!(oddities(secret), Vec::<String>::new(), "{secret}");
    }
}
