//! Unique, short-lived credentials for every service: issued, renewed, rotated, revoked, and injected at run time.
//!
//! ```text
//! Manifest ─▶ Issuer::deploy ─▶ Credential (secret, redacted) ─▶ Environment ─▶ child process ─▶ Login ─▶ connection
//!                                   └▶ Lease (expiry; renew, rotate, revoke)                    (verified TLS only)
//! ```
//!
//! - A login belongs to one service of one deployment. It inherits nothing: it may become the roles of its manifest.
//! - Its password has 256 random bits and never leaves the client: the server is given a SCRAM-SHA-256 verifier.
//! - It ends. `VALID UNTIL` in the database is the second fence behind the lease, and revoking ends open sessions.
//! - Every connection is encrypted and the server's certificate and name are verified. There is no other mode.
//!
//! # Example
//! ```
//! use secrecy::SecretString;
//! use zk_creds::{Environment, Manifest};
//!
//! let manifest = Manifest::from_json(r#"{
//!     "solution": "crm",
//!     "services": [{ "name": "orders", "roles": ["crm_agent"], "lifetime_seconds": 3600 }]
//! }"#)?;
//! assert_eq!(manifest.services[0].name, "orders");
//!
//! let mut environment = Environment::default();
//! environment.set("API_KEY", SecretString::from("s3cret"))?;
//! assert!(!format!("{environment:?}").contains("s3cret"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//! - `postgres`: the issuer of PostgreSQL logins and of tokens, with its audit; connections and pools with its logins.
//! - `tls`: verified TLS that follows its certificates and roots while it runs.
//! - `sealed`: secrets in PostgreSQL, sealed by zk-crypto.
//! - `aws`, `azure`, `gcp`, `vault`: secrets in the services of these names.
//! - `testing`: the laws of secret stores, for the tests of stores written elsewhere.
//! - `render`: `Diagnostics::render` draws the mistakes of a manifest over its text.
//! - `authority`: an authority that signs short-lived certificates for services, and rests sealed.
//! - `https`: servers and clients between services; with `postgres`, where a running service renews its login.
//! - `signed`: short-lived signed tokens between services, for where mutual TLS cannot be.
//!
//! # Limits
//! `VALID UNTIL` stops new logins, not open sessions: those end when a lease is revoked, which `Issuer::reap`
//! does for leases that ran out. A login that owns code when it is revoked is closed and stays until somebody has
//! read that code. Whoever runs as the same operating-system user as a service, or as root, can read its
//! environment in `/proc/<pid>/environ`.
//! A certificate that was called back is taken until its end by whoever reads no list of revocations, so it lives for hours.
//!
//! `zk` is the platform's prefix; nothing here has to do with zero-knowledge proofs.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
mod command;
mod credential;
mod environment;
mod error;
mod file;
mod manifest;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod secret;
#[cfg(feature = "signed")]
pub mod signed;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tls")]
pub mod tls;
mod token;

pub use clock::{Clock, SystemClock};
pub use command::Command;
pub use credential::{Credential, Due, Lease, Term};
pub use environment::Environment;
pub use error::{Error, ErrorKind};
pub use manifest::{Code, Diagnostic, Diagnostics, Manifest, Service};
pub use token::{TOKEN_PATTERN, Token};
