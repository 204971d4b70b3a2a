//! Secrets that a deployment keeps: API keys, passwords of systems that issue none, signing keys.
//!
//! ```text
//!            create, put                  stage            promote            promote (back)
//!   nothing ────────────▶ current         current          current ─ was pending   current ─ was previous
//!                         (previous)      pending          previous ─ was current  previous ─ was current
//! ```
//!
//! [`Secrets`] is what applications hold; a [`SecretStore`] is what a backend implements. Every change names the version
//! that its caller has seen, and fails with [`ErrorKind::Stale`] when another is there: of two that rotate a secret at
//! the same time, one wins and the other learns of it.
//!
//! | store | feature | where the versions are |
//! |---|---|---|
//! | [`MemorySecrets`] | – | this process; for tests |
//! | `PostgresSecrets` | `sealed` | one row, sealed by zk-crypto: the embedded default |
//! | `VaultSecrets` | `vault` | one entry of a KV v2 engine, written with `cas` |
//! | `AwsSecrets` | `aws` | AWS Secrets Manager: `AWSCURRENT`, `AWSPENDING`, `AWSPREVIOUS` |
//! | `GoogleSecrets` | `gcp` | Google Secret Manager: aliases, moved under the secret's etag |
//! | `AzureSecrets` | `azure` | Azure Key Vault: the newest version, and a second secret for what is pending |
//!
//! ```
//! use std::sync::Arc;
//! use secrecy::ExposeSecret;
//! use zk_creds::secret::{MemorySecrets, SecretName, Secrets, Stage};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), zk_creds::Error> {
//! let secrets = Secrets::new(Arc::new(MemorySecrets::default()));
//! let name = SecretName::new("payment-api-key")?;
//! let first = secrets.create(&name, &"old".into()).await?;
//!
//! // Rotate: bring the new key next to the old one, try it, then switch.
//! let second = secrets.stage(&name, &"new".into()).await?;
//! assert_eq!(secrets.read(&name, Stage::Current).await?.value().expose_secret(), "old");
//! secrets.promote(&name, &second, &first).await?;
//! assert_eq!(secrets.read(&name, Stage::Current).await?.value().expose_secret(), "new");
//! # Ok(()) }
//! ```
//!
//! # Limits
//! Whoever may read a store reads the secrets in it; sealing protects those in PostgreSQL from the database's operators
//! and backups, who can still delete a secret or put back an older row. A call that fails with
//! [`ErrorKind::Unavailable`] may have been carried out: [`Secrets::versions`] tells.

#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "azure")]
mod azure;
mod document;
#[cfg(feature = "gcp")]
mod google;
mod handle;
#[cfg(feature = "_http")]
mod http;
mod memory;
mod name;
#[cfg(feature = "sealed")]
mod postgres;
mod store;
#[cfg(feature = "vault")]
mod vault;

#[cfg(feature = "aws")]
pub use aws::AwsSecrets;
#[cfg(feature = "azure")]
pub use azure::AzureSecrets;
pub use document::{Document, Documents, Revision};
#[cfg(feature = "gcp")]
pub use google::GoogleSecrets;
pub use handle::Secrets;
#[cfg(feature = "_http")]
pub use http::TokenSource;
pub use memory::MemorySecrets;
pub use name::SecretName;
#[cfg(feature = "sealed")]
pub use postgres::PostgresSecrets;
pub use store::{Secret, SecretStore, Stage, Version, Versions};
#[cfg(feature = "vault")]
pub use vault::VaultSecrets;
#[cfg(feature = "_http")]
pub use zk_http::Endpoint;

#[cfg(doc)]
use crate::ErrorKind;
