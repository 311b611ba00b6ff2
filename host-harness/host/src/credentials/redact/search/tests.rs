use super::*;
use crate::credentials::redact::{redact, take_steps};
use crate::text::is_plain;

const SECRET: &str = "pa~ss \"word\"&möre/+%25";

/// Encodes a text in base64, without a library.
fn base64(text: &str, alphabet: &[u8; 64]) -> String {
    let mut padded = text.as_bytes().to_vec();
    padded.resize(text.len().next_multiple_of(3), 0);
    String::from_utf8(base64_after(0, &padded, alphabet)).unwrap()
}

fn spellings() -> Vec<String> {
    let form: String = form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    let twice: String = form_urlencoded::byte_serialize(form.as_bytes()).collect();
    let json = |text: &str| serde_json::Value::from(text).to_string().trim_matches('"').to_owned();
    let every = SECRET.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let units = SECRET.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
    let html = SECRET.replace('&', "&amp;").replace('"', "&#34;").replace('ö', "&#xf6;");
    let json_of_json = json(&json(SECRET));
    vec![SECRET.to_owned(), form.replace('+', "%20"), form, twice, json(SECRET), json_of_json, every, units, html]
}

#[test]
fn a_secret_is_taken_out_in_every_spelling() {
    let secret = Secret::new(SECRET);
    for text in spellings() {
        assert_eq!(redact(&format!("<{text}>"), [&secret]), "<[redacted]>", "{text}");
    }
}

#[test]
fn base64_is_known_wherever_it_began_and_however_it_is_escaped() {
    let secret = Secret::new(SECRET);
    for alphabet in [STANDARD, URL] {
        for before in ["", "a", "ab", "abc"] {
            let text = base64(&format!("{before}{SECRET}, and more"), alphabet);
            for text in [text.replace('/', "\\/"), text.replace('/', "%2F").replace('+', "%2B"), text] {
                let clean = redact(&format!("\"{text}\""), [&secret]);
                assert!(clean.contains(REDACTED) && clean.len() < 20, "{before}: {clean}");
            }
        }
    }
}

#[test]
fn a_name_of_a_header_is_known_in_lower_case() {
    let search = Search::new(&[Secret::new("A-Secret-Of-Tests")]);
    assert!(search.is_in_name("x-a-secret-of-tests") && !search.is_in_name("x-a-secret"));
}

#[test]
fn base64_of_utf16_is_known_as_in_utf7() {
    let secret = Secret::new("a-secret-of-tests");
    for bytes in [u16::to_le_bytes as fn(u16) -> [u8; 2], u16::to_be_bytes] {
        let wide: Vec<u8> = "Bearer a-secret-of-tests!".encode_utf16().flat_map(bytes).collect();
        let encoded = String::from_utf8(base64_after(0, &wide, STANDARD)).unwrap();
        let clean = redact(&format!("+{encoded}-"), [&secret]);
        assert!(clean.contains(REDACTED) && clean.len() < 35, "{clean}");
    }
}

#[test]
fn hexadecimal_is_known() {
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    for text in [hex.to_uppercase(), hex] {
        assert_eq!(redact(&format!("({text})"), [&Secret::new(SECRET)]), "([redacted])");
    }
}

#[test]
fn white_space_and_zeros_between_the_characters_hide_nothing() {
    let secret = Secret::new(SECRET);
    let filled = |text: &str, columns: usize, filling: &str| {
        let lines: Vec<String> =
            text.as_bytes().chunks(columns).map(|line| String::from_utf8_lossy(line).into()).collect();
        lines.join(filling)
    };
    let (plain, hex) = ("a-secret-of-tests", SECRET.bytes().map(|byte| format!("{byte:02X}")).collect::<String>());
    for filling in
        ["\0", "\0\0\0", " ", "\n", "\r\n  ", "\\n", "\\r\\n", "\\u0000", "\\\\n", "%0D%0A", "%2500", "&#10;"]
    {
        let text = filled(plain, 1, filling);
        assert_eq!(redact(&format!("<{text}>"), [&Secret::new(plain)]), "<[redacted]>", "{filling:?}");
        let text = filled(&hex, 20, filling);
        let clean = redact(&format!("<{text}>"), [&secret]);
        assert!(clean.contains(REDACTED), "{filling:?}: {clean}");
    }
    let long = Secret::new("0123456789abcdefghij".repeat(20));
    for columns in [64, 76] {
        for before in ["", "a", "ab"] {
            for filling in ["\n", "\r\n", "\\n", "\\r\\n", "\n    "] {
                let text = filled(&base64(&format!("{before}{}", long.expose()), STANDARD), columns, filling);
                let clean = redact(&format!("\"{text}\""), [&long]);
                assert!(clean.contains(REDACTED) && clean.len() < 20, "{columns} {before} {filling:?}: {clean}");
            }
        }
    }
    // The end of a long secret is removed with it; text that only spaces separate from it stays.
    let text = filled(long.expose(), 1, "\0");
    assert_eq!(redact(&format!("<{text}> \0"), [&long]), "<[redacted]> \0");
    let hexadecimal = format!("{hex} and more");
    assert_eq!(redact(&hexadecimal, [&secret]), "[redacted] and more");
}

#[test]
fn a_text_that_can_be_read_in_many_ways_takes_no_longer_for_it() {
    let secret = Secret::new("%25".repeat(20) + "x");
    let text = "%25".repeat(4_000);
    assert_eq!(redact(&text, [&secret]), text);
}

#[test]
fn a_long_secret_is_known_by_its_beginning_and_goes_with_all_that_follows() {
    let secret = Secret::new(format!("{}{}", "0123456789".repeat(10), "end"));
    assert_eq!(redact(&format!("<{}>", secret.expose()), [&secret]), "<[redacted]>");
    assert_eq!(redact(&format!("<{}…", &secret.expose()[..80]), [&secret]), "<[redacted]…");
    let escaped: String = secret.expose().bytes().map(|byte| format!("%{byte:02x}")).collect();
    assert_eq!(redact(&format!("<{escaped}>"), [&secret]), "<[redacted]>");
}

#[test]
fn a_service_that_knows_the_secret_cannot_make_the_search_long() {
    let secret = Secret::new("a".repeat(50_000) + "b");
    let text = format!("{}c", "a".repeat(KNOWN_BY - 1)).repeat(1_000);
    assert_eq!(redact(&text, [&secret]), text);
    assert!(redact(&"a".repeat(200_000), [&secret]).len() < 100);
}

#[test]
fn what_joined_the_end_of_a_secret_does_not_join_the_stand_in() {
    for joiner in ['\u{fe0f}', '\u{e0100}'] {
        let text = format!("<12345678{joiner}>");
        assert!(is_plain(&text));
        assert_eq!(redact(&text, [&Secret::new("12345678")]), "<[redacted] >", "{joiner:?}");
    }
    let text = "<कखगघङचछज\u{200d}ष>";
    assert!(is_plain(text));
    assert_eq!(redact(text, [&Secret::new("कखगघङचछज")]), "<[redacted] ष>");
    // A text of several lines keeps them.
    assert_eq!(redact("<12345678>\n", [&Secret::new("12345678")]), "<[redacted]>\n");
}

#[test]
fn what_only_looks_alike_stays() {
    let secrets = [Secret::new("a-secret-of-tests"), Secret::new("short")];
    for text in ["a-secret-of-test", "a-secret-of tests", "short", "%", "\\", "\\u12", "&", "&amp", "%61", ""] {
        assert_eq!(redact(text, &secrets), text);
    }
}

#[test]
fn every_place_and_every_secret_is_found_the_longest_first() {
    let secrets = [Secret::new("12345678"), Secret::new("1234567890")];
    assert_eq!(redact("1234567890 12345678, 123456789", &secrets), "[redacted] [redacted], [redacted]9");
}

#[test]
fn bytes_that_are_no_text_stay_as_they_are() {
    let search = Search::new(&[Secret::new("12345678")]);
    assert_eq!(search.clean(b"\xff12345678\xfe").unwrap(), b"\xff[redacted]\xfe");
    assert_eq!(search.clean(b"\xff1234567\xfe"), None);
}

/// Pseudorandom numbers, the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap_or_default()
    }

    fn pieces(&mut self, pieces: &[&str], least: usize) -> String {
        let mut text = String::new();
        while text.len() < least {
            text += pieces[self.below(pieces.len())];
        }
        text
    }

    /// Writes a text in a random spelling.
    fn spelled(&mut self, text: &str, layers: usize) -> String {
        let one = |character: char, choice: usize| match (choice, character) {
            (0, _) => character.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect(),
            (1, _) => character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04X}")).collect(),
            (2, _) => format!("&#{};", u32::from(character)),
            (3, _) => format!("&#x{:x};", u32::from(character)),
            (_, '\\') => "\\\\".to_owned(),
            (_, '&') => "&amp;".to_owned(),
            (_, '%') => "%25".to_owned(),
            (_, ' ') => "+".to_owned(),
            _ => character.to_string(),
        };
        let mut text = text.to_owned();
        for _ in 0..layers {
            text = text.chars().map(|character| one(character, self.below(8))).collect();
        }
        text
    }
}

#[test]
fn all_is_found_that_a_search_without_haste_finds_and_no_more() {
    const PIECES: [&str; 24] = [
        "%",
        "\\",
        "&",
        "+",
        "25",
        "5c",
        "amp;",
        "\\\\",
        "\\u0025",
        "&#x25;",
        "%5C",
        "%25",
        "a",
        "b",
        ";",
        " ",
        "ö",
        "%c3%b6",
        "&#xf6;",
        "\\ud83d\\ude00",
        "\\n",
        "\0",
        "%00",
        "\r\n",
    ];
    let (mut chance, mut hits) = (Chance(0x9e37_79b9_7f4a_7c15), 0);
    for _ in 0..4_000 {
        let pieces: Vec<&str> = (0..1 + chance.below(5)).map(|_| PIECES[chance.below(PIECES.len())]).collect();
        let secrets: Vec<String> = (0..1 + chance.below(2)).map(|_| chance.pieces(&pieces, 8)).collect();
        let mut text = String::new();
        for secret in &secrets {
            let (before, layers) = (chance.below(12), chance.below(3));
            text += &chance.pieces(&pieces, before);
            let spelled = chance.spelled(secret, layers);
            // Some secrets are cut; the rest is not a secret.
            let bytes = spelled.len() - chance.below(8) / 7;
            text += cut(&spelled, bytes);
        }
        let secrets: Vec<Secret> = secrets.into_iter().map(Secret::new).collect();
        let search = Search::new(&secrets);
        let found: Vec<_> = search.all(text.as_bytes()).collect();
        assert_eq!(found, search.plainly(text.as_bytes()), "{text:?}");
        hits += found.len();
    }
    assert!(hits > 4_000, "{hits}");
}

/// Texts that can be read in many ways, each with secrets that look like it.
fn traps(bytes: usize) -> Vec<(&'static str, Vec<Secret>, String)> {
    let filled = |piece: &str| piece.repeat(bytes / piece.len());
    let almost = |piece: &str| Secret::new(piece.repeat(KNOWN_BY / piece.len() - 1) + "!");
    let entity: String = "&#x0000005c;".bytes().map(|byte| format!("&#x{byte:08x};")).collect();
    let jwt = |number: usize| Secret::new(format!("{}{number:08}", "eyJ0eXAiOiJKV1QifQ.".repeat(60)));
    let numbered = |number: usize| Secret::new(format!("{number:08}{}", "\\".repeat(1_000)));
    let long = || Secret::new("a".repeat(50_000) + "b");
    vec![
        ("backslashes", vec![almost("\\")], filled("\\")),
        ("percents", vec![almost("%")], filled("%")),
        ("ampersands", vec![almost("&")], filled("&")),
        ("pluses", vec![almost("+")], filled("+")),
        ("spaces", vec![almost(" ")], filled("+")),
        ("percents within percents", vec![almost("%25")], filled("%25")),
        ("and once more", vec![almost("%25")], filled("%2525")),
        ("entities within entities", vec![almost("&amp;")], filled("&amp;amp;")),
        ("entities for entities", vec![almost("&")], filled("&amp;")),
        ("backslashes by number", vec![almost("\\")], filled("\\u005c")),
        ("numbers by number", vec![almost("\\u005c")], filled("\\u005cu005c")),
        ("entities by number", vec![almost("\\"), almost("&")], filled(&entity)),
        ("all at once", vec![almost("\\%&+"), almost("%5c")], filled("\\%26&#92;%255c+&amp;")),
        ("what is found", vec![Secret::new("\\".repeat(SHORTEST)), almost("\\")], filled("\\")),
        ("what is found over and over", vec![Secret::new("a".repeat(SHORTEST)), almost("a")], filled("a")),
        ("the beginning of a long one", vec![long()], filled(&("a".repeat(KNOWN_BY - 1) + "c"))),
        ("a long one", vec![long()], filled("a")),
        ("many that begin alike", (0..100).map(jwt).collect(), filled(&jwt(0).expose()[..100])),
        ("many that do not", (0..20).map(numbered).collect(), filled("\\")),
        ("nothing but spaces", vec![almost(" "), almost("a")], filled(" ")),
        ("zeros between", vec![almost("a")], filled("a\0")),
        ("a run of zeros behind one", vec![almost("a")], "a".repeat(60) + &filled("\0")),
        (
            "runs behind what is found",
            vec![Secret::new("a".repeat(SHORTEST)), almost("a")],
            filled(&("a".repeat(63) + &" ".repeat(193))),
        ),
        ("runs behind a long one", vec![long()], filled(&("a".repeat(100) + &"\n".repeat(100)))),
        ("escaped lines", vec![almost("a\n")], filled("a\\n\\\\n")),
        ("base64 of one", vec![almost("\\")], filled("XFxc")),
        ("hexadecimal of one", vec![almost("\\")], filled("5c")),
    ]
}

/// Returns the steps of a search for these secrets in a text.
fn cost(secrets: &[Secret], text: &str) -> usize {
    let search = Search::new(secrets);
    take_steps();
    search.clean(text.as_bytes());
    take_steps()
}

#[test]
fn no_text_and_no_secret_makes_the_search_long() {
    const BYTES: usize = 8 << 10;
    for ((name, secrets, text), (_, _, twice)) in traps(BYTES).into_iter().zip(traps(2 * BYTES)) {
        let (once, twice) = (cost(&secrets, &text), cost(&secrets, &twice));
        assert!(twice <= 2 * once + once / 10, "{name}: {once} steps, and {twice} for twice the text");
        let most = BYTES * (100 + 4 * Search::new(&secrets).needles.len());
        assert!(once <= most, "{name}: {once} steps, which is more than {most}");
    }
}

#[test]
fn the_largest_answer_costs_next_to_nothing_where_it_looks_like_no_secret() {
    let text = r#"{"id":"/subscriptions/20ff7fc3-e762","name":"ascScore"},"#.repeat((8 << 20) / 55);
    let steps = cost(&[Secret::new("kR9wQ~sim.contoso~1eef")], &text);
    assert!(steps < text.len() / 10, "{steps}");
}

#[test]
fn a_long_secret_is_known_wherever_its_beginning_ends() {
    for before in KNOWN_BY - 4..KNOWN_BY {
        let secret = format!("{}ööö", "a".repeat(before));
        let html = secret.replace('ö', "&#xf6;");
        assert_eq!(redact(&format!("<{html}>"), [&Secret::new(secret)]), "<[redacted]>", "{before}");
    }
}
