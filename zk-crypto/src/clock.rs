//! The only place that reads the time, so that tests can move it.

use std::{
    fmt,
    time::{Duration, Instant, SystemTime},
};

/// A source of time.
///
/// ```
/// use zk_crypto::clock::{Clock, SystemClock};
///
/// let clock = SystemClock::new();
/// assert!(clock.elapsed() <= clock.elapsed());
/// ```
pub trait Clock: fmt::Debug + Send + Sync {
    /// Returns the time of day, for what is written down.
    fn now(&self) -> SystemTime;

    /// Returns the time since some fixed moment, which never goes back: for ages.
    fn elapsed(&self) -> Duration;
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// Starts a clock.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock module")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }
}
