//! Numbers as Redis reads and writes them.
//!
//! **Integers** are strict: the one spelling that the number would be written with, and no other. So `007`, `+7` and
//! ` 7` are no integers, and a stored value that parses can be kept as an integer and given back byte for byte.
//!
//! **Floats** are the hard part. Redis computes INCRBYFLOAT in the 80-bit `long double` of x86 and prints 17 decimals
//! without trailing zeros, so that 0.1 + 0.2 is 0.3 there: the error is too small to be printed. Rust has no such
//! type, and in 64 bits the same sum is 0.30000000000000004. So [`Float`] keeps what it can as a decimal fixed-point
//! number, 17 decimals in an `i128`, in which such sums are exact. That prints what Redis prints, and what the user
//! meant where Redis prints the error of its own type (985 - 81.696 is 903.30399999999999999 there). From 10^20 on it
//! falls back to `f64` and the fewest digits that read back as the same number. Replicas and other regions never
//! repeat the sum: they get its result as bytes.
//!
//! Left out: hexadecimal floats, which `strtold` and hence Redis accept, and magnitudes between the greatest `f64`
//! and the greatest `long double`.

use std::fmt::{self, Write as _};

/// Decimals that INCRBYFLOAT keeps, as Redis's `%.17Lf`.
const DECIMALS: i32 = 17;
/// One, in fixed point.
const ONE: i128 = 10_i128.pow(DECIMALS as u32);
/// Fixed-point values stay below this in magnitude, 10^20: far enough from `i128`'s end that no sum overflows.
const FIXED_MAX: i128 = ONE * 10_i128.pow(20);
/// Digits of a number that are told apart in fixed point: 20 before the point and 17 behind it.
const FIXED_DIGITS_MAX: usize = 37;
/// Longest number that is looked at, in bytes; Redis's own bound is of this order. Policy: not a number.
const FLOAT_BYTES_MAX: usize = 512;
/// Longest decimal spelling of an `i64`, in bytes: a sign and 19 digits.
const INTEGER_BYTES_MAX: usize = 20;

/// Reads an integer in its one canonical spelling: no blanks, no `+`, no leading zeros, no `-0`.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (digits, negative) = match text {
        [b'-', digits @ ..] => (digits, true),
        digits => (digits, false),
    };
    match digits {
        b"0" => return (!negative).then_some(0),
        [b'1'..=b'9', ..] if text.len() <= INTEGER_BYTES_MAX => {}
        _ => return None,
    }
    let mut magnitude = 0_u64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // 19 digits always fit; only a 20th (no sign, or it would be too long) can overflow.
        magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    if negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// Reads a double as RESP3 spells it: decimal, with or without an exponent, or `inf`, `-inf`, `nan`.
pub fn parse_double(text: &[u8]) -> Option<f64> {
    if text.len() > FLOAT_BYTES_MAX {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Writes a double with the fewest digits that read back as the same double; whole ones without a point.
pub fn format_double(value: f64, buffer: &mut zmij::Buffer) -> &str {
    if value.is_nan() {
        return "nan";
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" };
    }
    let text = buffer.format_finite(value);
    text.strip_suffix(".0").unwrap_or(text)
}

/// A number of INCRBYFLOAT.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Float(Form);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    /// Below 10^20, in units of 10^-17.
    Fixed(i128),
    /// Anything else, infinities included, NaN not.
    Wide(f64),
}

impl Float {
    /// Reads a decimal number, with or without an exponent, or an infinity.
    ///
    /// `None` is Redis's "value is not a valid float": blanks, NaN, anything after the number, a magnitude that is
    /// too great to be represented.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let value = parse_double(text)?;
        let named_infinity = text.last().is_some_and(|byte| !byte.is_ascii_digit() && *byte != b'.');
        if value.is_nan() || (value.is_infinite() && !named_infinity) {
            return None;
        }
        let form = fixed(text).map_or(Form::Wide(value), Form::Fixed);
        Some(Self(form))
    }

    /// The sum, unless it is no finite number: Redis's "increment would produce NaN or Infinity".
    pub fn checked_add(self, other: Self) -> Option<Self> {
        if let (Form::Fixed(a), Form::Fixed(b)) = (self.0, other.0)
            && (a + b).abs() < FIXED_MAX
        {
            return Some(Self(Form::Fixed(a + b)));
        }
        let sum = self.to_f64() + other.to_f64();
        sum.is_finite().then_some(Self(Form::Wide(sum)))
    }

    /// The nearest double.
    pub fn to_f64(self) -> f64 {
        match self.0 {
            Form::Fixed(units) => units as f64 / ONE as f64,
            Form::Wide(value) => value,
        }
    }
}

/// Without an exponent and without trailing zeros.
impl fmt::Display for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = match self.0 {
            Form::Fixed(units) => units,
            Form::Wide(value) => return value.fmt(f),
        };
        if units < 0 {
            f.write_char('-')?;
        }
        let (whole, mut fraction) = (units.unsigned_abs() / ONE as u128, units.unsigned_abs() % ONE as u128);
        whole.fmt(f)?;
        if fraction == 0 {
            return Ok(());
        }
        let mut width = DECIMALS as usize;
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            width -= 1;
        }
        write!(f, ".{fraction:0width$}")
    }
}

/// Reads a decimal number into fixed point, rounding half away from zero behind the 17th decimal. `None` if it is too
/// great. The text is known to be a number or the name of an infinity.
fn fixed(text: &[u8]) -> Option<i128> {
    let (text, negative) = match text {
        [b'-', rest @ ..] => (rest, true),
        [b'+', rest @ ..] => (rest, false),
        _ => (text, false),
    };
    let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&text[..at], exponent(&text[at + 1..])),
        None => (text, 0),
    };
    let point = mantissa.iter().position(|&byte| byte == b'.').unwrap_or(mantissa.len());
    let fraction = mantissa.get(point + 1..).unwrap_or_default();
    let digits = || mantissa[..point].iter().chain(fraction).skip_while(|&&byte| byte == b'0');
    if !digits().all(u8::is_ascii_digit) {
        return None;
    }
    // The value is `digits * 10^scale` units.
    let scale = DECIMALS.saturating_add(exponent).saturating_sub(fraction.len() as i32);
    let count = digits().count() as i32;
    if count == 0 {
        return Some(0);
    }
    let kept = count.saturating_add(scale.min(0));
    if kept < 0 {
        return Some(0);
    }
    if kept.saturating_add(scale.max(0)) > FIXED_DIGITS_MAX as i32 {
        return None;
    }
    let digit = |byte: &u8| i128::from(byte - b'0');
    let mut units = digits().take(kept as usize).fold(0, |units, byte| units * 10 + digit(byte));
    if digits().nth(kept as usize).is_some_and(|&next| next >= b'5') {
        units += 1;
    }
    units *= 10_i128.pow(scale.max(0) as u32);
    (units < FIXED_MAX).then_some(if negative { -units } else { units })
}

/// The exponent, saturating: what does not fit is zero or too great in any case.
fn exponent(text: &[u8]) -> i32 {
    let (digits, negative) = match text {
        [b'-', rest @ ..] => (rest, true),
        [b'+', rest @ ..] => (rest, false),
        _ => (text, false),
    };
    let magnitude = digits
        .iter()
        .fold(0_i32, |value, byte| value.saturating_mul(10).saturating_add(i32::from(byte.wrapping_sub(b'0'))));
    if negative { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Float, format_double, parse_i64};

    #[test]
    fn integers_have_one_spelling() {
        for (text, value) in
            [("0", 0), ("7", 7), ("-7", -7), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN)]
        {
            assert_eq!(parse_i64(text.as_bytes()), Some(value));
        }
        let none = "- -0 00 07 -07 +7 1a a 1. 1e3 9223372036854775808 -9223372036854775809 18446744073709551616 \
                    99999999999999999999 -99999999999999999999 0000000000000000000001";
        for text in none.split(' ').chain(["", " 7", "7 ", "7\n"]) {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text:?}");
        }
    }

    #[track_caller]
    fn adds(a: &str, b: &str, sum: &str) {
        let [a, b] = [a, b].map(|text| Float::parse(text.as_bytes()).unwrap());
        assert_eq!(a.checked_add(b).unwrap().to_string(), sum);
    }

    #[test]
    fn sums_are_what_redis_prints() {
        adds("10.50", "0.1", "10.6");
        adds("10.6", "-5", "5.6");
        adds("5.0e3", "2.0e2", "5200");
        adds("3.0e3", "0", "3000");
        adds("0.1", "0.2", "0.3");
        adds("1", "-1", "0");
        adds("-0.5", "0.25", "-0.25");
        adds("0.00000000000000001", "0", "0.00000000000000001");
        adds("1e-18", "0", "0");
        adds("-1e-30", "0", "0");
        adds("5e-18", "0", "0.00000000000000001");
        adds("1.5", "1.5", "3");
        adds("+1.", ".5", "1.5");
        adds("3.141592653589793", "1", "4.141592653589793");
        adds("99999999999999999999", "1", "100000000000000000000");
        adds("1e20", "1e20", "200000000000000000000");
        adds("9007199254740993", "0", "9007199254740993");
    }

    #[test]
    fn what_is_no_float_is_refused() {
        for text in ["", " 1", "1 ", "1a", "a", "nan", "NaN", "-nan", "--1", "1e", ".", "e5", "1e400", "1_0", "0x10"] {
            assert_eq!(Float::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn infinities_parse_but_never_add_up() {
        let one = Float::parse(b"1").unwrap();
        for text in ["inf", "-inf", "Infinity", "+INF"] {
            assert_eq!(Float::parse(text.as_bytes()).unwrap().checked_add(one), None);
        }
        let huge = Float::parse(b"1.7e308").unwrap();
        assert_eq!(huge.checked_add(huge), None);
    }

    #[test]
    fn doubles_are_as_short_as_can_be() {
        for (value, text) in [(0.1, "0.1"), (3.0, "3"), (-0.0, "-0"), (1e21, "1e+21"), (f64::NAN, "nan")] {
            assert_eq!(format_double(value, &mut zmij::Buffer::new()), text);
        }
    }

    proptest! {
        #[test]
        fn integers_survive_a_round_trip(value in any::<i64>()) {
            assert_eq!(parse_i64(value.to_string().as_bytes()), Some(value));
        }

        #[test]
        fn only_canonical_text_is_an_integer(text in "-?[0-9]{1,21}") {
            let canonical = text.parse::<i64>().ok().filter(|value| value.to_string() == text);
            assert_eq!(parse_i64(text.as_bytes()), canonical);
        }

        #[test]
        fn floats_agree_with_doubles(whole in -1_000_000_i64..1_000_000, decimals in "[0-9]{0,9}", power in -4..4_i32) {
            let text = format!("{whole}.{decimals}e{power}");
            let float = Float::parse(text.as_bytes()).unwrap();
            assert_eq!(float.to_string().parse::<f64>().unwrap(), text.parse::<f64>().unwrap(), "{text}");
        }

        #[test]
        fn any_text_is_read_without_panic(text in "[-+0-9.eEinfa]{0,40}") {
            if let Some(float) = Float::parse(text.as_bytes()) {
                let _ = float.to_string();
            }
        }
    }
}
