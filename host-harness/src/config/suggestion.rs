//! Suggestions: the right spelling of keys, ids, durations and sizes that are written as in other programs.

use super::near;
pub use super::near::name;

/// Other words for keys.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("environment", "env"),
    ("var", "env"),
    ("variable", "env"),
    ("filename", "file"),
    ("path", "file"),
    ("filename", "path"),
    ("file", "path"),
    ("name", "id"),
    ("kind", "type"),
    ("location", "path"),
    ("address", "url"),
    ("endpoint", "url"),
    ("uri", "url"),
];

/// Returns the key that another means: a few letters off, or a synonym.
pub fn key<'a>(written: &str, keys: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let other = |key: &str| OTHER_WORDS.contains(&(written.to_lowercase().as_str(), key));
    name(written, keys.clone()).or_else(|| keys.into_iter().find(|key| other(key)))
}

/// Returns the name that another may mean: a key that it means, or the nearest name.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    key(name, names.clone()).or_else(|| near::nearest(name, names))
}

/// Returns a valid id that is as near as possible to an invalid one.
pub fn id(text: &str) -> Option<String> {
    let mut id = String::new();
    for character in text.trim().to_lowercase().chars() {
        match character {
            'a'..='z' | '0'..='9' | '.' | '_' => id.push(character),
            _ if id.ends_with('-') => {}
            _ => id.push('-'),
        }
    }
    let id: String = id.trim_start_matches(['.', '_', '-']).chars().take(64).collect();
    let id = id.trim_end_matches(['.', '_', '-']);
    (!id.is_empty()).then(|| id.to_owned())
}

/// Converts a duration of another notation to that of this configuration: `60`, `1 hour`, `1h30m`, `1.5h`, `PT1H`.
pub fn duration(text: &str) -> Option<String> {
    let text = text.trim().trim_start_matches('+').to_lowercase();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<u64>().ok().filter(|seconds| *seconds > 0).map(|seconds| format!("{seconds}s"));
    }
    let text = text.strip_prefix("pt").or_else(|| text.strip_prefix('p')).unwrap_or(&text);
    let mut seconds = 0.0;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let word = after.find(|character: char| !character.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(word);
        let unit = match unit {
            "" | "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3_600.0,
            "d" | "day" | "days" => 86_400.0,
            "w" | "week" | "weeks" => 604_800.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        rest = after.trim_start_matches([' ', ',']).trim_start();
    }
    let seconds = whole(seconds)?;
    let (number, unit) = [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')]
        .into_iter()
        .find(|(size, _)| seconds % size == 0)
        .map(|(size, unit)| (seconds / size, unit))?;
    Some(format!("{number}{unit}"))
}

/// Converts a number in quotes or with a unit of bytes: `256MB`, `1 GiB`, `64`.
pub fn number(text: &str) -> Option<u64> {
    let text = text.trim().to_lowercase().replace(['_', ','], "");
    let digits = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "b" | "byte" | "bytes" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "ki" | "kib" => 1024.0,
        "mi" | "mib" => 1_048_576.0,
        "gi" | "gib" => 1_073_741_824.0,
        "ti" | "tib" => 1_099_511_627_776.0,
        _ => return None,
    };
    whole(number.parse::<f64>().ok()? * factor)
}

/// Returns a number if it is whole, at least 1, and small enough to be exact.
fn whole(number: f64) -> Option<u64> {
    let is_whole = (1.0..9e15).contains(&number) && number.fract() == 0.0;
    // Exact: the number is within the integers of a double.
    is_whole.then(|| format!("{number:.0}").parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_meant_by_what_is_a_few_letters_off() {
        let meant =
            |name: &str| super::name(name, ["env", "file", "plain", "sinks", "ca_file", "interval", "id"].into_iter());
        for (name, expected) in [
            ("evn", Some("env")),
            ("Env", Some("env")),
            ("sink", Some("sinks")),
            ("ca-file", Some("ca_file")),
            ("cafile", Some("ca_file")),
            ("intervall", Some("interval")),
            ("intreval", Some("interval")),
            ("ID", Some("id")),
            ("tenant", None),
            ("en", Some("env")),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(meant(name), expected, "{name}");
        }
        let other = |word: &str| key(word, ["env", "file", "id"].into_iter());
        assert_eq!((other("Name"), other("path"), other("variable")), (Some("id"), Some("file"), Some("env")));
        let near =
            |name: &str| nearest(name, ["tenant", "id", "interval", "ca_file", "contoso-prod-scores"].into_iter());
        for (name, expected) in [
            ("tenant_id", Some("tenant")),
            ("intreavl", Some("interval")),
            ("name", Some("id")),
            ("file", Some("ca_file")),
            ("contoso", Some("contoso-prod-scores")),
            ("Prod-Contoso", Some("contoso-prod-scores")),
            ("colour", None),
            ("in", None),
            ("retries", None),
            ("", None),
        ] {
            assert_eq!(near(name), expected, "{name}");
        }
    }

    #[test]
    fn an_id_is_corrected() {
        for (text, expected) in [
            ("Contoso Prod", Some("contoso-prod")),
            ("  Contoso / EU (1) ", Some("contoso-eu-1")),
            ("_x.y_z", Some("x.y_z")),
            ("Zürich", Some("z-rich")),
            ("…", None),
        ] {
            assert_eq!(id(text).as_deref(), expected, "{text}");
        }
        assert_eq!(id(&"A".repeat(70)), Some("a".repeat(64)));
    }

    #[test]
    fn durations_and_numbers_of_other_programs_are_understood() {
        for (text, expected) in [
            ("60", Some("60s")),
            ("+5s", Some("5s")),
            ("05s", Some("5s")),
            ("3600", Some("3600s")),
            ("120 seconds", Some("2m")),
            ("1 hour", Some("1h")),
            ("1h30m", Some("90m")),
            ("1h 30m", Some("90m")),
            ("1.5h", Some("90m")),
            ("2 days, 3 hours", Some("51h")),
            ("PT1H", Some("1h")),
            ("P1D", Some("1d")),
            ("1W", Some("7d")),
            ("-1h", None),
            ("0s", None),
            ("1 fortnight", None),
            ("0 * * * *", None),
            ("h", None),
            ("", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(duration(text).as_deref(), expected, "{text}");
        }
        for (text, expected) in [
            ("256MB", Some(256_000_000)),
            ("256 MiB", Some(268_435_456)),
            ("1.5G", Some(1_500_000_000)),
            ("64", Some(64)),
            ("1_000", Some(1_000)),
            ("-1", None),
            ("0", None),
            ("0.5", None),
            ("many", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }
}
