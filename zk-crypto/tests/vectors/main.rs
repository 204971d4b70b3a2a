//! The formats of SPEC.md, byte for byte, through what applications call. Each file of this folder says of each of its
//! vectors how it ends, and the number of vectors is counted, so that an empty file fails.
//!
//! What is under the formats cannot be called from outside; its vectors are beside the code, with `vectors` in the name too:
//!
//! | published vectors | where |
//! |---|---|
//! | XAES-256-GCM of C2SP with both accumulated hashes, RFC 8439, XChaCha | `src/suite/tests.rs` |
//! | Wycheproof: AES-GCM, ChaCha20-Poly1305, XChaCha20-Poly1305 | `src/suite/tests/wycheproof.rs` |
//! | Wycheproof: HKDF-SHA256 | `src/sealed.rs` |
//! | Wycheproof: HMAC-SHA256 | `src/index/tests.rs` |
//! | Wycheproof: chunked encryption | `src/stream/tests.rs` |
//! | HPKE of RFC 9180 and with X-Wing, X-Wing's own | `src/recipient/tests.rs`, and the keys here |
//!
//! Ciphers run there in both implementations, in Rust and AWS-LC's; streams and this file in the one that the features
//! choose, and CI runs them with each.
#![cfg(all(feature = "index", feature = "recipient"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod index;
mod portable;
mod python;
mod recorded;
mod sealed;
mod world;

use data_encoding::HEXLOWER;

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap()
}
