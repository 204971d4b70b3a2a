//! Envelope encryption of critical columns and files: sealed values bound to their place, rotated online.
//!
//! ```
//! use std::sync::Arc;
//! use zk_crypto::{Context, Encryptor, EncryptorConfig, MemoryKeyStore, Scope};
//! use zk_kms::LocalKms;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let kms = Arc::new(LocalKms::ephemeral("demo")?);
//! let encryptor = Encryptor::new(kms, Arc::new(MemoryKeyStore::new()), EncryptorConfig::default())?;
//!
//! let scope = Scope::tenant("7f9c")?;
//! encryptor.ensure_key(&scope).await?;
//!
//! let place = Context::column("public.customers", "ssn").row("42");
//! let sealed = encryptor.seal(&scope, &place, b"078-05-1120").await?;
//! assert_eq!(encryptor.open(&scope, &place, &sealed).await?.as_slice(), b"078-05-1120");
//!
//! // The same bytes in another row do not open.
//! let elsewhere = Context::column("public.customers", "ssn").row("43");
//! assert!(encryptor.open(&scope, &elsewhere, &sealed).await.is_err());
//! # Ok(()) }
//! ```
//!
//! # Flow
//!
//! ```text
//! plaintext ─Encryptor▶ data key of the scope (cache | key store + KMS) ─Sealer▶ Sealed ─▶ bytea column
//! bytea ─▶ Sealed ─▶ key id ─▶ data key (cache | key store + KMS) ─▶ open ─▶ plaintext
//! ```
//!
//! With the key cached, sealing and opening do not touch the network. The bytes are described in `SPEC.md`.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `aws-lc` | nothing: the same bytes come several times faster from AWS-LC, a C library |
//! | `index` | `BlindIndex`: tokens by which a database searches a sealed column |
//! | `postgres` | `PostgresKeyStore`, [`Sealed`] as a query parameter, and jobs: `Migration`, `Reseal`, `Reindex` |
//! | `recipient` | values that carry their key: `WriteOnly` and `RecipientKey` (HPKE with X25519 and X-Wing), `KmsWriter` |
//! | `rsa` | `Recipient::key_pair`: the same for key pairs in a KMS (RSA-OAEP-256); links AWS-LC |
//! | `serde` | [`Sealed`] in serde formats, and `Json` values |
//! | `tokio` | `AsyncStreamReader` and `AsyncStreamWriter` in [`stream`] |
//! | `testing` | `testing`: the laws of key stores, and a clock that tests move |
//!
//! # Limits
//!
//! - Sealing hides neither the length of a value, nor which key sealed it, nor that it is NULL.
//! - Who may call [`Encryptor::open`] sees the data: sealing protects dumps, backups, replicas and the database's
//!   operators, not a service that is taken over.
//! - Who may write the column can put back an older sealed value of the same place. Where that matters, put a version
//!   into the [`Context`].
//! - Sealed columns cannot be ordered by the database, and searched only through a `BlindIndex`, which reveals what its
//!   `leakage_report` says.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cache;
pub mod clock;
mod column;
mod context;
mod encryptor;
mod error;
mod fork;
#[cfg(feature = "index")]
mod index;
#[cfg(feature = "postgres")]
mod job;
mod keystore;
#[cfg(feature = "postgres")]
mod migrate;
mod nonce;
mod open;
mod opened;
#[cfg(feature = "postgres")]
mod ours;
#[cfg(feature = "recipient")]
mod recipient;
#[cfg(all(feature = "postgres", feature = "index"))]
mod reindex;
#[cfg(feature = "postgres")]
mod reseal;
#[cfg(feature = "postgres")]
mod retire;
#[cfg(feature = "postgres")]
mod rows;
mod seal;
mod sealed;
mod shard;
#[cfg(feature = "postgres")]
mod sql;
pub mod stream;
mod suite;
#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "serde")]
pub use column::Json;
pub use column::{Column, Value};
pub use context::{Context, Scope};
pub use encryptor::{Encryptor, EncryptorConfig, Rewrapped};
pub use error::{Error, ErrorKind};
#[cfg(feature = "index")]
pub use index::{
    BlindIndex, Hazard, IndexSpec, Indexer, Leakage, MAX_TOKEN, Normalizer, SlowHash, Token, TokenPair,
};
#[cfg(feature = "postgres")]
pub use job::{AfterFailure, JobControl, JobSession, JobStatus, Progress};
#[cfg(unix)]
pub use keystore::FileKeyStore;
#[cfg(feature = "postgres")]
pub use keystore::{Access, PostgresKeyStore};
pub use keystore::{KeyRecord, KeyState, KeyStore, MemoryKeyStore, ScopedKeyStore};
#[cfg(feature = "postgres")]
pub use migrate::Migration;
pub use open::Plaintext;
#[cfg(feature = "recipient")]
pub use recipient::{Kem, KmsWriter, MAX_RECIPIENTS, Portable, Recipient, RecipientKey, WriteOnly};
#[cfg(all(feature = "postgres", feature = "index"))]
pub use reindex::Reindex;
#[cfg(feature = "postgres")]
pub use reseal::Reseal;
#[cfg(feature = "postgres")]
pub use retire::{retire_below, retire_key};
pub use seal::Sealer;
pub use sealed::{KeyId, MAX_PLAINTEXT, OVERHEAD, SUITE_BYTES, Sealed};
pub use suite::Suite;
pub use zk_kms::{Kms, WrappedKey};

/// The examples of the README are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
