//! The one spelling in which each type is written, in literals and in claims.

use super::Scalar;

impl Scalar {
    /// Whether `text` is a value of this type, in the one spelling that no server setting gives another meaning.
    pub(crate) fn reads(self, text: &str) -> bool {
        match self {
            Self::Uuid => is_uuid(text),
            Self::Text => !text.contains('\0'),
            Self::Int8 => text.parse::<i64>().is_ok(),
            Self::Bool => matches!(text, "true" | "false"),
            Self::Timestamptz => is_timestamp(text),
            Self::Date => is_date(text),
        }
    }

    /// What [`reads`](Self::reads) accepts, in words.
    pub(crate) fn shape(self) -> &'static str {
        match self {
            Self::Uuid => "a UUID such as `6c1e7d0e-8f4b-4a52-9d0e-2f4c3f0a1b2c`",
            Self::Text => "a text without NUL characters",
            Self::Int8 => "a whole number of 64 bits",
            Self::Bool => "`true` or `false`",
            Self::Timestamptz => "a time such as `2026-01-31T09:30:00Z`",
            Self::Date => "a date such as `2026-01-31`",
        }
    }
}

fn is_uuid(text: &str) -> bool {
    matches_shape(text, "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh")
}

/// `YYYY-MM-DD`, a day that exists.
fn is_date(text: &str) -> bool {
    let number =
        |range: std::ops::Range<usize>| text.get(range).and_then(|t| t.parse::<u32>().ok()).unwrap_or(0);
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        _ => 0,
    };
    matches_shape(text, "dddd-dd-dd") && year >= 1 && (1..=days).contains(&day)
}

/// `YYYY-MM-DDTHH:MM:SSZ`: one spelling, in UTC, so that no server setting changes its meaning.
fn is_timestamp(text: &str) -> bool {
    let number =
        |range: std::ops::Range<usize>| text.get(range).and_then(|t| t.parse::<u32>().ok()).unwrap_or(99);
    text.get(..10).is_some_and(is_date)
        && text.get(10..).is_some_and(|rest| matches_shape(rest, "Tdd:dd:ddZ"))
        && number(11..13) < 24
        && number(14..16) < 60
        && number(17..19) < 60
}

/// `h` stands for a hexadecimal digit, `d` for a decimal one, anything else for itself.
fn matches_shape(text: &str, shape: &str) -> bool {
    text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(|(byte, wanted)| match wanted {
            b'h' => byte.is_ascii_hexdigit(),
            b'd' => byte.is_ascii_digit(),
            exact => byte == exact,
        })
}
