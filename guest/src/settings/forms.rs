//! The forms of settings' values.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::Number;
use uuid::Uuid;

pub const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Says whether a text is a GUID with its four hyphens.
pub fn is_guid(text: &str) -> bool {
    // The length excludes the forms in braces, without hyphens and as a URN, which `uuid` reads as well.
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

/// Says whether a text is labels with dots between them.
pub fn is_domain(text: &str) -> bool {
    text.len() <= 253 && text.contains('.') && text.split('.').all(is_label)
}

/// Says whether a text is a label of DNS.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Says whether a text is scheme, host and perhaps a port, and nothing else. The host decides whether plain http may
/// leave.
pub fn is_origin(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let Some(authority) = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://")) else {
        return false;
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_is_good = match bracketed {
        // An IPv6 address has one spelling only, too; IPv4 inside it must be written as IPv4.
        Some(address) => address
            .parse()
            .is_ok_and(|parsed: Ipv6Addr| parsed.to_ipv4_mapped().is_none() && parsed.to_string() == address),
        None => is_host(host),
    };
    let port_is_good = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0 && port.to_string() == text);
    host_is_good && port.is_none_or(port_is_good)
}

/// Says whether a text is a name or an address. A text that ends in a number is an address for every reader, and has
/// one spelling only.
fn is_host(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    host.len() <= 253 && host.split('.').all(is_label)
}

/// Says whether a text is an existing day, such as 2028-02-29.
pub fn is_date(text: &str) -> bool {
    // The parser of numbers accepts a sign, too.
    let number = |part: &str| part.parse::<u32>().ok().filter(|_| !part.starts_with('+'));
    let numbers: Vec<_> = text.split('-').map(|part| (part.len(), number(part))).collect();
    let [(4, Some(year)), (2, Some(month)), (2, Some(day))] = numbers[..] else { return false };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day)
}

/// The largest number in a duration, with any unit: nine digits, which overflow no calculation with times.
const MAX_DURATION_NUMBER: u64 = 999_999_999;

/// Parses a duration such as `30m` to seconds: `[1-9][0-9]{0,8}[smhd]`. The collector parses its own durations by the
/// same grammar.
pub fn duration_seconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => DAY_SECONDS,
        _ => return None,
    };
    let is_plain = !number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|number| is_plain && *number <= MAX_DURATION_NUMBER)?;
    Some(number * unit)
}

/// Returns seconds from a whole number; as in JSON Schema, `90.0` is 90.
pub fn whole_seconds(number: &Number) -> Option<u64> {
    let seconds = number.as_u64().or_else(|| {
        let seconds = number.as_f64()?;
        format!("{seconds}").parse().ok()
    });
    seconds.filter(|seconds| (1..=MAX_DURATION_NUMBER).contains(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_has_four_hyphens_and_nothing_around_it() {
        for (text, expected) in [
            ("20ff7fc3-e762-44dd-bd96-b71116dcdc23", true),
            ("20FF7FC3-E762-44dd-bd96-b71116dcdc23", true),
            ("00000000-0000-0000-0000-000000000000", true),
            ("20ff7fc3e76244ddbd96b71116dcdc23", false),
            ("{20ff7fc3-e762-44dd-bd96-b71116dcdc23}", false),
            ("urn:uuid:20ff7fc3-e762-44dd-bd96-b71116dcdc23", false),
            ("20ff7fc3-e762-44dd-bd96-b71116dcdc2", false),
            ("20ff7fc3-e762-44dd-bd96-b71116dcdc2g", false),
            ("20ff7fc3-e762-44dd-bd96-b71116dcdc\u{e9}", false),
            ("20ff7fc-3e762-44dd-bd96-b71116dcdc23", false),
            ("20ff7fc3-e762-44dd-bd96-b71116dcdc23 ", false),
            (" 20ff7fc3-e762-44dd-bd96-b71116dcdc2", false),
            ("20ff7fc3_e762_44dd_bd96_b71116dcdc23", false),
            ("{20ff7fc3e76244ddbd96b71116dcdc23  }", false),
            ("", false),
        ] {
            assert_eq!(is_guid(text), expected, "{text}");
        }
    }

    #[test]
    fn a_date_is_a_day_that_there_is_in_digits() {
        for (text, expected) in [
            ("2027-06-30", true),
            ("2028-02-29", true),
            ("2000-02-29", true),
            ("2027-02-29", false),
            ("2100-02-29", false),
            ("2027-06-31", false),
            ("2027-13-01", false),
            ("2027-00-01", false),
            ("2027-06-00", false),
            ("2027-6-30", false),
            ("2027-+6-30", false),
            ("2027-06-+3", false),
            ("+027-06-30", false),
            ("2027-06-30-", false),
            ("2027/06/30", false),
            ("", false),
        ] {
            assert_eq!(is_date(text), expected, "{text}");
        }
    }
}
