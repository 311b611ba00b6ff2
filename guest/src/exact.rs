//! Decimals whose sums and differences hold to the last digit, or are not given at all.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::json::Number;

/// What 128 bits hold in any case: the service's own numbers have at most 17 digits, and differ by few powers of ten.
const MAX_DIGITS: u32 = 38;

/// A decimal of up to 38 digits, before and after the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exact {
    /// All digits as a whole number.
    digits: i128,
    /// How many of the digits stand after the point; no zero ends them there.
    scale: u32,
}

impl Exact {
    /// Nothing.
    pub const ZERO: Exact = Exact { digits: 0, scale: 0 };

    /// The value of a number; none if it has too many digits.
    pub fn of(number: Number<'_>) -> Option<Exact> {
        let parts = number.parts()?;
        let digits = parts.digits.parse::<i128>().ok()?;
        let digits = if parts.negative { digits.checked_neg()? } else { digits };
        match u32::try_from(parts.exponent) {
            Ok(exponent) => Exact { digits: digits.checked_mul(10_i128.checked_pow(exponent)?)?, scale: 0 }.bounded(),
            Err(_) => Exact { digits, scale: u32::try_from(parts.exponent.checked_neg()?).ok()? }.bounded(),
        }
    }

    /// The sum; none if it has too many digits.
    pub fn plus(self, other: Exact) -> Option<Exact> {
        let scale = self.scale.max(other.scale);
        let aligned = |number: Exact| number.digits.checked_mul(10_i128.checked_pow(scale - number.scale)?);
        Exact { digits: aligned(self)?.checked_add(aligned(other)?)?, scale }.normalized().bounded()
    }

    /// The difference; none if it has too many digits.
    pub fn minus(self, other: Exact) -> Option<Exact> {
        self.plus(Exact { digits: other.digits.checked_neg()?, ..other })
    }

    /// Orders by distance from zero: the place of the first digit, then the digits.
    pub fn magnitude(self) -> (Option<i64>, String) {
        let digits = self.digits.unsigned_abs().to_string();
        let place = digits.len() as i64 - i64::from(self.scale);
        ((self.digits != 0).then_some(place), digits)
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

impl Serialize for Exact {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let scale = self.scale as usize;
        let mut text = format!("{:0>1$}", self.digits.unsigned_abs(), scale + 1);
        if scale > 0 {
            text.insert(text.len() - scale, '.');
        }
        if self.digits < 0 {
            text.insert(0, '-');
        }
        RawValue::from_string(text).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(text: &str) -> Option<Exact> {
        Exact::of(Number::spelled(text))
    }

    fn difference(left: &str, right: &str) -> Option<String> {
        let difference = exact(left)?.minus(exact(right)?)?;
        Some(serde_json::to_string(&difference).unwrap())
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
