//! The only place that reads the time of day, so that tests can move it.

use std::fmt;
use std::time::SystemTime;

/// Tells the time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> SystemTime;
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock module")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A time in the whole seconds that certificates have (RFC 5280, section 4.1.2.5).
#[cfg(feature = "authority")]
pub(crate) fn whole_seconds(at: SystemTime) -> SystemTime {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    at - std::time::Duration::from_nanos(since.subsec_nanos().into())
}

/// A time from 1970 on in UTC with microseconds, as RFC 3339 and PostgreSQL write it.
#[cfg(any(feature = "postgres", feature = "signed"))]
pub(crate) fn utc(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", since.subsec_micros())
}

/// The date so many days after 1970-01-01, counted in eras of 400 years that begin on a 1 March.
#[cfg(any(feature = "postgres", feature = "signed"))]
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153; // 0 is March
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// The time that [`utc`] wrote. None for any other text: a day that a month does not have, another zone, fewer digits.
#[cfg(any(all(feature = "https", feature = "postgres"), feature = "signed"))]
pub(crate) fn from_utc(text: &str) -> Option<SystemTime> {
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u64>().ok())?
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second, micros) = (number(11, 13)?, number(14, 16)?, number(17, 19)?, number(20, 26)?);
    if year < 1970 || !(1..=12).contains(&month) {
        return None;
    }
    // The inverse of `civil`.
    let (shifted, era_year) = if month > 2 { (month - 3, year) } else { (month + 9, year - 1) };
    let (era, year_of_era) = (era_year / 400, era_year % 400);
    let day_of_year = (153 * shifted + 2) / 5 + day.checked_sub(1)?;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let seconds = days.checked_sub(719_468)? * 86_400 + hour * 3600 + minute * 60 + second;
    let at = SystemTime::UNIX_EPOCH
        .checked_add(std::time::Duration::new(seconds, u32::try_from(micros).ok()? * 1000))?;
    // Whatever was written otherwise is not written back the same.
    (utc(at) == text).then_some(at)
}

#[cfg(all(test, feature = "postgres", feature = "signed"))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_written_as_others_write_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (951_868_800, "2000-03-01T00:00:00.000000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
            (253_402_300_799, "9999-12-31T23:59:59.000000Z"),
        ] {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(utc(at), text);
            assert_eq!(from_utc(text), Some(at));
        }
        assert!(utc(SystemTime::UNIX_EPOCH + Duration::from_micros(7)).ends_with("00.000007Z"));
    }

    #[test]
    fn times_that_are_written_otherwise_are_not_read() {
        for text in [
            "",
            "2000-02-29T00:00:00Z",
            "2000-02-29T00:00:00.000000+00:00",
            "2001-02-29T00:00:00.000000Z",
            "2000-13-01T00:00:00.000000Z",
            "2000-00-01T00:00:00.000000Z",
            "2000-01-00T00:00:00.000000Z",
            "2000-01-01T24:00:00.000000Z",
            "2000-01-01T00:60:00.000000Z",
            "1969-12-31T23:59:59.000000Z",
            "2000-01-01t00:00:00.000000Z",
            "+200-01-01T00:00:00.000000Z",
            "2000-01-01T00:00:00.000000Zx",
            "2000-01-0éT00:00:00.00000Z",
        ] {
            assert_eq!(from_utc(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_time_is_read_as_it_was_written(seconds in 0..253_402_300_799_u64, micros in 0..1_000_000_u32) {
            let at = SystemTime::UNIX_EPOCH + Duration::new(seconds, micros * 1000);
            proptest::prop_assert_eq!(from_utc(&utc(at)), Some(at));
        }

        #[test]
        fn any_text_is_a_time_or_none(text in "[0-9TZ:.+ -]{0,30}|.{0,30}") {
            if let Some(at) = from_utc(&text) {
                proptest::prop_assert_eq!(utc(at), text);
            }
        }
    }
}
