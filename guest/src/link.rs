//! The links of the service: one rule for all lists. A link is data; it must stay on the service's origin and at the
//! list that it continues, however a reader parses addresses.

use crate::http;

/// Bytes of the longest address that servers and hosts accept.
const MAX_LINK_BYTES: usize = 16 << 10;

/// The list that a link continues.
#[derive(Debug, Clone, Copy)]
pub struct List<'a> {
    /// Scheme, host and, unless it is the default, port.
    pub origin: &'a str,
    /// The path of the list.
    pub path: &'a str,
}

impl List<'_> {
    /// Returns the address of the next page, with the list's own spelling, or the fault of the link.
    pub fn follow(&self, link: &str) -> Result<String, String> {
        if let Some(odd) = link.chars().find(|character| !is_possible(*character)) {
            return Err(format!("has a character that an address cannot have, {}", shown(odd)));
        }
        let goes_to = |found: &str| Err(format!("goes to {found}, expected {}{}", self.origin, self.path));
        let Some(origin) = http::origin(link) else { return goes_to("an address without scheme and host") };
        if !is_same(origin, self.origin) {
            return goes_to(origin);
        }
        let rest = encoded(&link[origin.len()..]);
        let path = rest.split('?').next().unwrap_or_default();
        // Azure ignores letter case in paths. A path that readers understand differently counts as another one.
        if !path.eq_ignore_ascii_case(self.path) {
            return goes_to(&format!("{origin}{path}"));
        }
        let address = format!("{}{}{}", self.origin, self.path, &rest[self.path.len()..]);
        if address.len() > MAX_LINK_BYTES {
            return Err(format!("has {} bytes, expected at most {MAX_LINK_BYTES}", address.len()));
        }
        Ok(address)
    }
}

/// Says whether a character may be in a link: unchanged, or encoded here because the service forgot to.
fn is_possible(character: char) -> bool {
    matches!(character, ' '..='~') && !matches!(character, '#' | '\\')
}

fn shown(character: char) -> String {
    if character.is_ascii_graphic() { format!("`{character}`") } else { format!("U+{:04X}", u32::from(character)) }
}

/// Encodes the characters that an address may contain only in encoded form (RFC 3986). Brackets stay, because all
/// readers understand them in the same way.
fn encoded(rest: &str) -> String {
    let mut encoded = String::with_capacity(rest.len());
    for character in rest.chars() {
        match character {
            ' ' | '"' | '<' | '>' | '^' | '`' | '{' | '|' | '}' => {
                encoded.push_str(&format!("%{:02X}", u32::from(character)));
            }
            other => encoded.push(other),
        }
    }
    encoded
}

/// Says whether two origins are the same: letter case and an explicit default port do not matter.
fn is_same(origin: &str, other: &str) -> bool {
    let plain = |origin: &str| {
        let origin = origin.to_ascii_lowercase();
        let default = if origin.starts_with("https:") { ":443" } else { ":80" };
        origin.strip_suffix(default).map(str::to_owned).unwrap_or(origin)
    };
    plain(origin) == plain(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: List<'_> = List { origin: "https://arm.example", path: "/subscriptions/S/providers/P/scores" };
    const SHORT: List<'_> = List { origin: "https://arm.example:8443", path: "/subscriptions" };

    #[test]
    fn a_link_goes_on_where_the_list_is() {
        for (link, expected) in [
            ("", ""),
            ("?", "?"),
            ("?$skipToken=2", "?$skipToken=2"),
            ("?d=../e%2f&f='1'", "?d=../e%2f&f='1'"),
            ("?b=%zz%", "?b=%zz%"),
            ("?b[0]=[x]", "?b[0]=[x]"),
            ("?b=c d\"e\"", "?b=c%20d%22e%22"),
            ("?c=<d>^`{|}", "?c=%3Cd%3E%5E%60%7B%7C%7D"),
            ("?b=?c", "?b=?c"),
        ] {
            for origin in
                ["https://arm.example", "https://arm.example:443", "HTTPS://ARM.example:443", "https://Arm.Example"]
            {
                for begin in ["/subscriptions/S/providers/P/scores", "/SUBSCRIPTIONS/s/Providers/p/Scores"] {
                    let expected = format!("https://arm.example/subscriptions/S/providers/P/scores{expected}");
                    let link = format!("{origin}{begin}{link}");
                    assert_eq!(LIST.follow(&link), Ok(expected), "{link}");
                }
            }
        }
        for link in ["https://arm.example:8443/subscriptions", "https://ARM.example:8443/Subscriptions"] {
            assert_eq!(SHORT.follow(link).unwrap(), "https://arm.example:8443/subscriptions");
            assert_eq!(
                SHORT.follow(&format!("{link}?a[]= ")).unwrap(),
                "https://arm.example:8443/subscriptions?a[]=%20"
            );
        }
        let plain = List { origin: "http://arm.example", path: "/l" };
        assert_eq!(plain.follow("http://arm.example:80/l?a").unwrap(), "http://arm.example/l?a");
    }

    #[test]
    fn another_place_is_named() {
        for (link, found) in [
            ("", "an address without scheme and host"),
            ("/subscriptions/S/providers/P/a", "an address without scheme and host"),
            ("//arm.example/subscriptions/S/providers/P/a", "an address without scheme and host"),
            ("http://arm.example/subscriptions/S/providers/P/a", "http://arm.example"),
            ("http://arm.example:443/subscriptions/S/providers/P/a", "http://arm.example:443"),
            ("https://arm.example:8443/subscriptions/S/providers/P/a", "https://arm.example:8443"),
            ("https://arm.example:0443/subscriptions/S/providers/P/a", "https://arm.example:0443"),
            ("https://arm.example./subscriptions/S/providers/P/a", "https://arm.example."),
            ("https://u:p@arm.example/subscriptions/S/providers/P/a", "https://u:p@arm.example"),
            ("https://arm.example@evil.example/a", "https://arm.example@evil.example"),
            ("https://arm.example.evil.example/a", "https://arm.example.evil.example"),
            ("https://arm.example", "https://arm.example"),
            ("https://arm.example?a", "https://arm.example"),
            ("https://arm.example/subscriptions/S/providers/P/", "https://arm.example/subscriptions/S/providers/P/"),
            ("https://arm.example/subscriptions/S/providers/P/?a", "https://arm.example/subscriptions/S/providers/P/"),
            (
                "https://arm.example/subscriptions/S/providers/P/controls?a",
                "https://arm.example/subscriptions/S/providers/P/controls",
            ),
            ("https://arm.example/subscriptions/T/providers/P/a", "https://arm.example/subscriptions/T/providers/P/a"),
            (
                "https://arm.example/subscriptions%2fS/providers/P/a",
                "https://arm.example/subscriptions%2fS/providers/P/a",
            ),
        ] {
            let expected = format!("goes to {found}, expected https://arm.example/subscriptions/S/providers/P/scores");
            assert_eq!(LIST.follow(link), Err(expected), "{link}");
        }
        for link in ["https://arm.example:8443/subscriptions/", "https://arm.example:8443/subscriptions/S"] {
            assert!(SHORT.follow(link).unwrap_err().starts_with("goes to https://arm.example:8443/subscriptions/"));
        }
    }

    #[test]
    fn a_character_that_no_address_has_is_named() {
        for (character, shown) in
            [("#", "`#`"), ("\\", "`\\`"), ("\t", "U+0009"), ("\n", "U+000A"), ("\u{7f}", "U+007F"), ("é", "U+00E9")]
        {
            for rest in ["a", "a?b"] {
                let link = format!("https://arm.example/subscriptions/S/providers/P/{rest}{character}c");
                let expected = format!("has a character that an address cannot have, {shown}");
                assert_eq!(LIST.follow(&link), Err(expected), "{link:?}");
            }
        }
    }

    #[test]
    fn what_readers_take_in_different_ways_is_refused() {
        for rest in [
            "../b",
            "/.",
            "/%2E%2e/scores",
            "/..;x/scores",
            "/..%3Bx",
            "%2Fb",
            "%5cb",
            "%252fb",
            "%00",
            "%1F",
            "%3b",
            "/",
        ] {
            let link = format!("https://arm.example/subscriptions/S/providers/P/scores{rest}");
            assert!(LIST.follow(&link).unwrap_err().starts_with("goes to https://arm.example/"), "{link}");
        }
    }

    #[test]
    fn a_link_has_a_length_that_servers_take() {
        let link = |bytes: usize| format!("https://arm.example:8443/subscriptions?{}", "x".repeat(bytes - 39));
        assert!(SHORT.follow(&link(MAX_LINK_BYTES)).is_ok());
        let refused = SHORT.follow(&link(MAX_LINK_BYTES + 1)).unwrap_err();
        assert_eq!(refused, "has 16385 bytes, expected at most 16384");
    }
}
