//! Typed values: of literals, of claims, of rows; compared exactly as PostgreSQL compares them.

use std::cmp::Ordering;

use crate::document::{Op, Scalar};

/// A value of a row, borrowed.
///
/// A `timestamptz` counts microseconds since 1970-01-01 00:00:00 UTC, a `date` days since 1970-01-01; `infinity` is the
/// greatest number and `-infinity` the least. A column of another type than the six that rules compare is
/// [`Other`](Self::Other): rules only ask whether it is NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "rows must be able to hold every value")]
pub enum Value<'a> {
    /// NULL
    Null,
    /// `uuid`
    Uuid([u8; 16]),
    /// `text`, `varchar`
    Text(&'a str),
    /// `int2`, `int4`, `int8`
    Int8(i64),
    /// `bool`
    Bool(bool),
    /// `timestamptz`
    Timestamptz(i64),
    /// `date`
    Date(i32),
    /// A value of a type that rules do not compare.
    Other,
}

/// A value of a literal or a claim, owned; never NULL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Datum {
    Uuid([u8; 16]),
    Text(Box<str>),
    Int8(i64),
    Bool(bool),
    Timestamptz(i64),
    Date(i32),
}

impl Datum {
    pub(crate) fn value(&self) -> Value<'_> {
        match self {
            Self::Uuid(bytes) => Value::Uuid(*bytes),
            Self::Text(text) => Value::Text(text),
            Self::Int8(number) => Value::Int8(*number),
            Self::Bool(truth) => Value::Bool(*truth),
            Self::Timestamptz(at) => Value::Timestamptz(*at),
            Self::Date(day) => Value::Date(*day),
        }
    }
}

/// The outcome of a comparison: None when a side is NULL.
pub(crate) fn compare(left: Value<'_>, op: Op, right: Value<'_>) -> Option<bool> {
    Some(op.holds(order(left, right)?))
}

/// The order of two values: None when a side is NULL. Values of different types never meet after the check; should a row
/// hold another type than its schema says, the comparison is NULL and so admits nothing.
pub(crate) fn order(left: Value<'_>, right: Value<'_>) -> Option<Ordering> {
    Some(match (left, right) {
        (Value::Uuid(l), Value::Uuid(r)) => l.cmp(&r),
        // The order of the C collation, which the generated SQL names: bytes.
        (Value::Text(l), Value::Text(r)) => l.as_bytes().cmp(r.as_bytes()),
        (Value::Int8(l), Value::Int8(r)) | (Value::Timestamptz(l), Value::Timestamptz(r)) => l.cmp(&r),
        (Value::Bool(l), Value::Bool(r)) => l.cmp(&r),
        (Value::Date(l), Value::Date(r)) => l.cmp(&r),
        _ => return None,
    })
}

impl Scalar {
    /// Reads a value of this type, in the one spelling that no server setting gives another meaning.
    pub(crate) fn read(self, text: &str) -> Option<Datum> {
        match self {
            Self::Uuid => read_uuid(text).map(Datum::Uuid),
            Self::Text => (!text.contains('\0')).then(|| Datum::Text(text.into())),
            // `+1` and `-0` are numbers to Rust and to PostgreSQL alike.
            Self::Int8 => text.parse().ok().map(Datum::Int8),
            Self::Bool => match text {
                "true" => Some(Datum::Bool(true)),
                "false" => Some(Datum::Bool(false)),
                _ => None,
            },
            Self::Timestamptz => read_timestamp(text).map(Datum::Timestamptz),
            Self::Date => read_date(text).map(Datum::Date),
        }
    }

    /// What [`read`](Self::read) accepts, in words.
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

/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`
fn read_uuid(text: &str) -> Option<[u8; 16]> {
    if !matches_shape(text, "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh") {
        return None;
    }
    let mut digits = text.chars().filter_map(|c| c.to_digit(16));
    let mut bytes = [0; 16];
    for byte in &mut bytes {
        *byte = u8::try_from(digits.next()? * 16 + digits.next()?).ok()?;
    }
    Some(bytes)
}

/// A UUID as PostgreSQL writes it.
pub(crate) fn uuid_text(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        text.push_str(if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" });
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// `YYYY-MM-DD`, a day that exists in the years 1 to 9999; in days since 1970-01-01.
fn read_date(text: &str) -> Option<i32> {
    if !matches_shape(text, "dddd-dd-dd") {
        return None;
    }
    let (year, month, day) = (number(text, 0..4)?, number(text, 5..7)?, number(text, 8..10)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i32::from(leap),
        _ => return None,
    };
    if year < 1 || !(1..=length).contains(&day) {
        return None;
    }
    // Days in a calendar whose years begin in March, so that a leap day is a year's last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    Some(days - 719_469)
}

/// `YYYY-MM-DDTHH:MM:SSZ`: one spelling, in UTC; in microseconds since 1970.
fn read_timestamp(text: &str) -> Option<i64> {
    let days = read_date(text.get(..10)?)?;
    if !matches_shape(text.get(10..)?, "Tdd:dd:ddZ") {
        return None;
    }
    let (hour, minute, second) = (number(text, 11..13)?, number(text, 14..16)?, number(text, 17..19)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = i64::from(days) * 86_400 + i64::from(hour * 3600 + minute * 60 + second);
    Some(seconds * 1_000_000)
}

fn number(text: &str, range: std::ops::Range<usize>) -> Option<i32> {
    text.get(range)?.parse().ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_counted_as_postgresql_counts_them() {
        for (text, days) in [
            ("1970-01-01", 0),
            ("1969-12-31", -1),
            ("2000-02-29", 11_016),
            ("2000-03-01", 11_017),
            ("0001-01-01", -719_162),
            ("9999-12-31", 2_932_896),
        ] {
            assert_eq!(read_date(text), Some(days), "{text}");
        }
        for text in
            ["1900-02-29", "2026-13-01", "2026-00-01", "2026-01-32", "0000-01-01", "2026-1-01", "2026-01-01 "]
        {
            assert_eq!(read_date(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_read_in_utc_only() {
        assert_eq!(read_timestamp("1970-01-01T00:00:01Z"), Some(1_000_000));
        for text in
            ["1970-01-01T24:00:00Z", "1970-01-01T00:60:00Z", "1970-01-01T00:00:00", "1970-01-01 00:00:00Z"]
        {
            assert_eq!(read_timestamp(text), None, "{text}");
        }
    }
}
