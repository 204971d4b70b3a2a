//! One narrow async trait over key-management services: wrap and unwrap a data key bound to a context.
//!
//! Services disagree about sizes, associated data and data-key calls. They all can keep one promise: wrap 32 bytes
//! under a key-encryption key (KEK) so that they come back only with the same [`Context`]. [`Kms`] is that promise and
//! nothing more; what only some services can do is declared in [`Capabilities`].
//!
//! ```
//! use zk_kms::{Context, DataKey, Kms, LocalKms};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), zk_kms::Error> {
//! let kms = LocalKms::ephemeral("demo")?;
//! let key = DataKey::generate()?;
//! let context = Context::new().with("scope", "tenant-7")?;
//!
//! let wrapped = kms.wrap_key(&key, &context).await?;
//! assert_eq!(kms.unwrap_key(&wrapped, &context).await?, key);
//!
//! let other = Context::new().with("scope", "tenant-8")?;
//! assert_eq!(kms.unwrap_key(&wrapped, &other).await.unwrap_err().kind(), zk_kms::ErrorKind::Invalid);
//! # Ok(()) }
//! ```
//!
//! # Flow
//!
//! ```text
//! DataKey + Context ─wrap_key▶ WrappedKey {KEK URI, KEK version, bytes} ─▶ stored beside the data
//! WrappedKey + the same Context ─unwrap_key▶ DataKey
//! ```
//!
//! With the feature `rsa` the KEK may be a key pair: `AsymmetricKms` is what its service can do, `PublicKey` wraps without
//! the service, and `PinnedKms` makes a [`Kms`] of both.
//!
//! # Backends
//!
//! | URI | backend | feature |
//! |---|---|---|
//! | `local:` | [`LocalKms`], a key ring in memory, or in a file that a passphrase seals; `LocalKeyPair` | –, `keyring`; with `rsa` |
//! | `aws-kms://` | `AwsKms`, `AwsKeyPair` | `aws`; with `rsa` |
//! | `gcp-kms://` | `GcpKms`, `GcpKeyPair` | `gcp`; with `rsa` |
//! | `azure-kv://` | `AzureKeyPair` | `azure` |
//! | `vault-transit://` | `VaultKms` | `vault` |
//! | `any-of:` | `AnyOf`, several of the above at once | `layers` |
//!
//! [`open()`] goes from a URI to a backend, [`ensure_key`] makes the key. A key pair is no secret key: see
//! [`Capabilities::wraps_with_public_key`] for what that means to a store.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `aws`, `azure`, `gcp`, `vault` | the backends of these services |
//! | `keyring` | key rings in files: Argon2id and JSON |
//! | `layers` | `layers`: deadline, retry with a budget, circuit breaker, concurrency limit, single flight, tracing, audit; `AnyOf` |
//! | `rsa` | key pairs: `AsymmetricKms`, `PinnedKms`, `PublicKey`, `LocalKeyPair`; links AWS-LC |
//! | `testing` | `testing`: the laws every backend passes |
//!
//! # Limits
//!
//! - A process that may call [`Kms::unwrap_key`] holds the data key in its memory; a KMS does not protect against that
//!   process. What it adds is one place to refuse, to audit and to rotate.
//! - A [`LocalKms`] is as safe as the machine that holds the file and its passphrase. It has no audit log.
//! - The context is not secret: services write it to their logs.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "layers")]
mod any_of;
#[cfg(feature = "rsa")]
mod asymmetric;
#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "azure")]
mod azure;
mod error;
#[cfg(feature = "gcp")]
mod gcp;
#[cfg(feature = "_http")]
mod http;
mod key;
mod kms;
#[cfg(feature = "layers")]
pub mod layers;
mod local;
mod open;
#[cfg(unix)]
#[doc(hidden)]
pub mod private_file;
mod service;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "vault")]
mod vault;

#[cfg(feature = "layers")]
pub use any_of::AnyOf;
#[cfg(feature = "rsa")]
pub use asymmetric::{AsymmetricKms, Fingerprint, PinnedKms, PublicKey};
#[cfg(all(feature = "aws", feature = "rsa"))]
pub use aws::AwsKeyPair;
#[cfg(feature = "aws")]
pub use aws::AwsKms;
#[cfg(feature = "azure")]
pub use azure::AzureKeyPair;
pub use error::{Error, ErrorKind};
#[cfg(all(feature = "gcp", feature = "rsa"))]
pub use gcp::GcpKeyPair;
#[cfg(feature = "gcp")]
pub use gcp::GcpKms;
pub use key::{Context, DataKey, KeyUri, KeyVersion, Service, WrappedKey};
pub use kms::{Capabilities, KeyStatus, Kms};
#[cfg(feature = "rsa")]
pub use local::LocalKeyPair;
pub use local::LocalKms;
#[cfg(all(unix, feature = "keyring"))]
pub use local::PassphraseCost;
pub use open::{OpenConfig, ensure_key, open};
pub use service::{KeySpec, Provisioned};
#[cfg(feature = "vault")]
pub use vault::{VaultKms, VaultToken};

/// The examples of the README are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
