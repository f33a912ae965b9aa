//! Amounts as whole minor units, read from and written to decimal digits. No float is ever made:
//! a price that passes through one is a cent off sooner or later, and the ledger is the judge.

/// Why a text is no amount of a currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAmount {
    /// Not `digits` or `digits.digits`; exponents and signs other than one `-` in front are no digits.
    NotDecimal,
    /// More decimals than the currency has.
    TooFine,
    /// Does not fit in 64 bits.
    TooLarge,
}

/// Decimals of a currency (ISO 4217); two unless listed.
pub(super) fn exponent(currency: &str) -> u32 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "VND" | "VUV"
        | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

/// `"12.3"` of a currency with two decimals is 1230.
pub(super) fn minor_from_decimal(text: &str, exponent: u32) -> Result<i64, NoAmount> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match digits.split_once('.') {
        Some((_, "")) => return Err(NoAmount::NotDecimal),
        Some(parts) => parts,
        None => (digits, ""),
    };
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return Err(NoAmount::NotDecimal);
    }
    let places = exponent as usize;
    if fraction.len() > places {
        return Err(NoAmount::TooFine);
    }
    let padded = format!("{whole}{fraction:0<places$}");
    let minor: i64 = padded.parse().map_err(|_| NoAmount::TooLarge)?;
    Ok(if negative { -minor } else { minor })
}

/// 1230 of a currency with two decimals is `"12.30"`.
pub(super) fn decimal_from_minor(minor: i64, exponent: u32) -> String {
    let sign = if minor < 0 { "-" } else { "" };
    let digits = minor.unsigned_abs().to_string();
    if exponent == 0 {
        return format!("{sign}{digits}");
    }
    let places = exponent as usize;
    let padded = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = padded.split_at(padded.len() - places);
    format!("{sign}{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_and_minor_units_say_the_same() {
        for (text, exponent, minor) in [
            ("10.00", 2, 1000),
            ("0.05", 2, 5),
            ("7", 2, 700),
            ("7.5", 2, 750),
            ("1.234", 3, 1234),
            ("500", 0, 500),
            ("-3.10", 2, -310),
        ] {
            assert_eq!(minor_from_decimal(text, exponent), Ok(minor), "{text}");
        }
        assert_eq!(decimal_from_minor(5, 2), "0.05");
        assert_eq!(decimal_from_minor(1000, 2), "10.00");
        assert_eq!(decimal_from_minor(-310, 2), "-3.10");
        assert_eq!(decimal_from_minor(1234, 3), "1.234");
        assert_eq!(decimal_from_minor(500, 0), "500");
    }

    #[test]
    fn what_is_no_plain_decimal_is_refused() {
        for text in ["", ".5", "5.", "1e3", "+1", "1,00", "NaN", "0x10", "1.0.0"] {
            assert_eq!(minor_from_decimal(text, 2), Err(NoAmount::NotDecimal), "{text}");
        }
        assert_eq!(minor_from_decimal("1.001", 2), Err(NoAmount::TooFine));
        assert_eq!(minor_from_decimal("99999999999999999999", 2), Err(NoAmount::TooLarge));
    }
}
