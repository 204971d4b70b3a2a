//! Benches beside others.
