//! Numbers of the service: their exact spelling, their value for judgements, and decimals whose sums and differences
//! are either exact or not given at all.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;

/// Bytes of the longest accepted number: an event repeats each number a few times and must stay within its limit.
pub const MAX_NUMBER_BYTES: usize = 512;

/// The largest length, in bytes, of a number without an exponent that is within the range of double precision, whatever
/// its digits are.
pub const MAX_PLAIN_DIGITS: usize = 308;

/// A number with its spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number<'a>(&'a str);

impl<'a> Number<'a> {
    /// Takes a JSON value as a number; `None` if its first character is not that of a number.
    pub fn read(text: &'a str) -> Option<Number<'a>> {
        text.starts_with(|first: char| first == '-' || first.is_ascii_digit()).then_some(Number(text))
    }

    /// Takes the spelling of a number from a state.
    pub fn spelled(text: &'a str) -> Number<'a> {
        Number(text)
    }

    /// The exact spelling.
    pub fn text(self) -> &'a str {
        self.0
    }

    /// The value for judgements and figures, rounded to 28 digits; `None` if it is too large.
    pub fn decimal(self) -> Option<Decimal> {
        if !self.0.contains(['e', 'E']) {
            return Decimal::from_str(self.0).ok();
        }
        let CanonicalNumber { negative, digits, exponent } = self.canonical()?;
        // The place of the first digit before the point decides whether rounding is needed.
        let place = exponent.checked_add(i64::try_from(digits.len()).ok()?)?;
        if place < -i64::from(Decimal::MAX_SCALE) {
            return Some(Decimal::ZERO);
        }
        if place > i64::from(Decimal::MAX_SCALE) + 1 {
            return None;
        }
        let sign = if negative { "-" } else { "" };
        let plain = match usize::try_from(exponent) {
            Ok(zeros) => format!("{sign}{digits}{}", "0".repeat(zeros)),
            Err(_) => {
                let scale = usize::try_from(exponent.checked_neg()?).ok()?;
                let padded = format!("{digits:0>width$}", width = scale + 1);
                let (whole, fraction) = padded.split_at(padded.len() - scale);
                format!("{sign}{whole}.{fraction}")
            }
        };
        Decimal::from_str(&plain).ok()
    }

    /// Returns sign, digits and power of ten; `None` if the power has more than 18 digits.
    pub fn canonical(self) -> Option<CanonicalNumber> {
        let (mantissa, exponent) = self.0.split_once(['e', 'E']).unwrap_or((self.0, "0"));
        let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = format!("{whole}{fraction}");
        let written = digits.len();
        digits.truncate(digits.trim_end_matches('0').len());
        let zeros = i64::try_from(written - digits.len()).ok()?;
        let exponent =
            exponent.parse::<i64>().ok()?.checked_add(zeros)?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        let digits = digits.trim_start_matches('0').to_owned();
        if digits.is_empty() {
            return Some(CanonicalNumber { negative: false, digits: "0".to_owned(), exponent: 0 });
        }
        Some(CanonicalNumber { negative, digits, exponent })
    }

    /// Says whether the number is within the range of double precision; a number too near to zero counts as zero.
    pub fn is_within_range(self) -> bool {
        let is_plain = self.0.len() <= MAX_PLAIN_DIGITS && !self.0.contains(['e', 'E']);
        is_plain || self.float().is_finite()
    }

    /// The nearest floating-point value, for figures.
    pub fn float(self) -> f64 {
        self.0.parse().unwrap_or(f64::NAN)
    }

    /// Says whether two spellings mean the same number.
    pub fn equals(self, other: Number<'_>) -> bool {
        if self.0 == other.0 {
            return true;
        }
        self.canonical().is_some_and(|parts| Some(parts) == other.canonical())
    }
}

/// The parts of a number, equal for all its spellings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanonicalNumber {
    /// Whether the number is below zero.
    pub negative: bool,
    /// The digits as a whole number, without zeros at either end; `0` for zero.
    pub digits: String,
    /// The power of ten of the last digit.
    pub exponent: i64,
}

/// Says whether a text is a JSON number of an accepted length.
pub fn is_number(text: &str) -> bool {
    text.len() <= MAX_NUMBER_BYTES && length(text.as_bytes()) == Some(text.len())
}

/// Returns the length of the JSON number at the start of a text, in bytes; `None` if the text begins with something
/// else.
pub fn length(text: &[u8]) -> Option<usize> {
    let digits = |at: usize| {
        let count = text.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0).then_some(at + count)
    };
    let mut at = usize::from(text.first() == Some(&b'-'));
    at = if text.get(at) == Some(&b'0') { at + 1 } else { digits(at)? };
    if text.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        let signed = matches!(text.get(at + 1), Some(b'+' | b'-'));
        at = digits(at + 1 + usize::from(signed))?;
    }
    Some(at)
}

/// Number of digits that always fit into 128 bits: the service's own numbers have at most 17 digits, and their powers
/// of ten differ little.
const MAX_DIGITS: u32 = 38;

/// A decimal of up to 38 digits, before and after the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exact {
    /// All digits as a whole number.
    digits: i128,
    /// Number of digits after the point; the last of them is not zero.
    scale: u32,
}

impl Exact {
    /// Zero.
    pub const ZERO: Exact = Exact { digits: 0, scale: 0 };

    /// Returns the value of a number; `None` if it has too many digits.
    pub fn of(number: Number<'_>) -> Option<Exact> {
        let parts = number.canonical()?;
        let digits = parts.digits.parse::<i128>().ok()?;
        let digits = if parts.negative { digits.checked_neg()? } else { digits };
        match u32::try_from(parts.exponent) {
            Ok(exponent) => Exact { digits: digits.checked_mul(10_i128.checked_pow(exponent)?)?, scale: 0 }.bounded(),
            Err(_) => Exact { digits, scale: u32::try_from(parts.exponent.checked_neg()?).ok()? }.bounded(),
        }
    }

    /// Returns the sum; `None` if it has too many digits.
    pub fn plus(self, other: Exact) -> Option<Exact> {
        let scale = self.scale.max(other.scale);
        let aligned = |number: Exact| number.digits.checked_mul(10_i128.checked_pow(scale - number.scale)?);
        Exact { digits: aligned(self)?.checked_add(aligned(other)?)?, scale }.normalized().bounded()
    }

    /// Returns the difference; `None` if it has too many digits.
    pub fn minus(self, other: Exact) -> Option<Exact> {
        self.plus(Exact { digits: other.digits.checked_neg()?, ..other })
    }

    /// Returns the distance from zero.
    pub fn magnitude(self) -> Magnitude {
        let digits = self.digits.unsigned_abs().to_string();
        let place = digits.len() as i64 - i64::from(self.scale);
        Magnitude { place: (self.digits != 0).then_some(place), digits }
    }

    fn bounded(self) -> Option<Exact> {
        (self.digits.unsigned_abs() < 10_u128.pow(MAX_DIGITS) && self.scale <= MAX_DIGITS).then_some(self)
    }

    fn normalized(mut self) -> Exact {
        while self.scale > 0 && self.digits % 10 == 0 {
            self.digits /= 10;
            self.scale -= 1;
        }
        self
    }
}

/// A distance from zero, for comparisons: the place of the first digit decides, then the digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Magnitude {
    /// Number of digits before the point, negative where the first digits are zeros; `None` for zero itself.
    place: Option<i64>,
    digits: String,
}

/// Writes the number as in JSON.
impl fmt::Display for Exact {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = self.scale as usize;
        let digits = format!("{:0>1$}", self.digits.unsigned_abs(), scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let sign = if self.digits < 0 { "-" } else { "" };
        let point = if scale > 0 { "." } else { "" };
        write!(formatter, "{sign}{whole}{point}{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_by_value() {
        let long = format!("1.{}", "0".repeat(40));
        for (left, right, equal) in [
            ("1", "1.00", true),
            ("1", "1e0", true),
            ("1e2", "100", true),
            ("120", "1.2E+2", true),
            ("0", "-0.0e7", true),
            ("1", &long, true),
            ("1e400", "10e399", true),
            ("1e400", "1e401", false),
            ("1", "-1", false),
            ("0.1", "0.10001", false),
            ("1.00000000000000000000000000000000000001e1", "10", false),
            ("1e99999999999999999999", "1e99999999999999999998", false),
        ] {
            assert_eq!(Number(left).equals(Number(right)), equal, "{left} {right}");
        }
    }

    #[test]
    fn a_number_is_told_from_what_is_none() {
        for text in ["0", "-1.50e+3", &"1".repeat(MAX_NUMBER_BYTES)] {
            assert!(is_number(text), "{text}");
        }
        for text in
            ["", " 1", "1 ", "é1e-1", "1é", "-", "01", "1,2", "\"1\"", "null", &"1".repeat(MAX_NUMBER_BYTES + 1)]
        {
            assert!(!is_number(text), "{text}");
        }
    }

    #[test]
    fn a_value_for_judgements_is_rounded_where_it_must_be() {
        for (text, expected) in [
            ("23.53", Some("23.53")),
            ("1.5E+3", Some("1500")),
            ("12.5e-1", Some("1.25")),
            ("1.1102230246251565e-16", Some("0.0000000000000001110223024625")),
            ("-1e-400", Some("0")),
            ("1e28", Some("10000000000000000000000000000")),
            ("1e400", None),
        ] {
            let decimal = Number(text).decimal().map(|decimal| decimal.normalize().to_string());
            assert_eq!(decimal.as_deref(), expected, "{text}");
        }
    }

    fn exact(text: &str) -> Option<Exact> {
        Exact::of(Number::spelled(text))
    }

    fn difference(left: &str, right: &str) -> Option<String> {
        let difference = exact(left)?.minus(exact(right)?)?;
        Some(difference.to_string())
    }

    #[test]
    fn a_difference_holds_to_the_last_digit() {
        for (left, right, expected) in [
            ("23.53", "23.53", "0"),
            ("23.530", "2.353e1", "0"),
            ("-0", "0", "0"),
            ("3", "2.9", "0.1"),
            ("2.9", "3", "-0.1"),
            ("1200", "2e2", "1000"),
            ("1.5E+3", "0.5", "1499.5"),
            ("23.53", "1.1102230246251565e-16", "23.52999999999999988897769753748435"),
            ("79228162514264337593543950335", "0.25", "79228162514264337593543950334.75"),
        ] {
            assert_eq!(difference(left, right).as_deref(), Some(expected), "{left} - {right}");
        }
    }

    #[test]
    fn a_number_beyond_38_digits_has_no_difference() {
        let digits = "12345678901234567890123456789012345678";
        assert!(exact(digits).is_some());
        assert!(exact(&format!("{digits}9")).is_none());
        for (left, right) in [("1e38", "0.1"), ("1e39", "1"), ("1e-39", "1"), ("1e99999999999999999999", "1")] {
            assert_eq!(difference(left, right), None, "{left} - {right}");
        }
    }

    #[test]
    fn magnitudes_order_by_distance_from_zero() {
        let ordered = ["0", "0.04", "-0.3", "0.35", "3", "-3.1", "12", "-100"];
        for pair in ordered.windows(2) {
            let [small, large] = [pair[0], pair[1]].map(|text| exact(text).unwrap().magnitude());
            assert!(small < large, "{pair:?}");
        }
    }
}
