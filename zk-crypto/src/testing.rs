//! The laws of key stores, and a clock that tests move.

mod clock;

pub use clock::ManualClock;
