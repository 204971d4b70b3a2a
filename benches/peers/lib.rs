//! Benches beside the SDKs of vendors.
