//! The only place that reads the time, so that tests can move it.

use std::{
    fmt,
    time::{Duration, SystemTime},
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
///
/// Ages are exact to some milliseconds: on Linux they come from the coarse clock, which every sealed value can afford to
/// read. Time in which the machine is suspended does not count, so keys in the cache outlive their age by it.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Tick,
}

impl SystemClock {
    /// Starts a clock.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: Tick::now() }
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
        Tick::now().since(self.origin)
    }
}

/// A moment that never goes back.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[derive(Clone, Copy, Debug)]
struct Tick(rustix::time::Timespec);

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Tick {
    #[inline]
    fn now() -> Self {
        Self(rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse))
    }

    #[inline]
    fn since(self, earlier: Self) -> Duration {
        (self.0 - earlier.0).try_into().unwrap_or_default()
    }
}

/// A moment that never goes back.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[derive(Clone, Copy, Debug)]
struct Tick(std::time::Instant);

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Tick {
    fn now() -> Self {
        Self(std::time::Instant::now())
    }

    fn since(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }
}
