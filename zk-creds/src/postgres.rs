//! PostgreSQL logins: issued, renewed, rotated, revoked; and connections with them.

pub mod audit;
mod begin;
#[cfg(feature = "authority")]
mod certificates;
mod databases;
mod deploy;
mod estate;
mod grantable;
mod grants;
mod issuer;
mod loans;
mod login;
mod pool;
mod question;
mod reconcile;
mod renewal;
mod revoke;
mod roles;
mod scram;
mod sessions;
mod source;
pub(crate) mod tables;
mod tokens;
pub(crate) mod transaction;

#[cfg(all(feature = "authority", feature = "https"))]
pub use certificates::Authorities;
#[cfg(feature = "authority")]
pub use certificates::CertificateRequest;
pub use deploy::{Change, Deployed, Deployment, Step};
pub use grants::{GrantKind, Held, Lifetimes};
pub use issuer::{Issuer, IssuerConfig};
pub use loans::Exposed;
pub use login::{Endpoint, Login};
pub use pool::{acting_as, pool, pool_builder};
pub use reconcile::Reconciled;
#[cfg(all(feature = "authority", feature = "https"))]
pub use renewal::{CertificateRenewer, Certified, DirectCertifier, HttpsCertifier};
pub use renewal::{DirectRenewer, Keeper, KeeperConfig, Kept, Renewer};
#[cfg(feature = "https")]
pub use renewal::{HttpsRenewer, RenewalService};
pub use revoke::Reaped;
pub use source::{CredentialSource, Handover, Watched};
pub use tokens::{Grant, TokenKey, TokenRequest};

use tokio_postgres::error::SqlState;

use crate::error::{Error, ErrorKind};

impl From<tokio_postgres::Error> for Error {
    fn from(source: tokio_postgres::Error) -> Self {
        let (kind, message) = match source.code() {
            Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => (
                ErrorKind::Denied,
                "the database refused the login; it may have been rotated, revoked or expired",
            ),
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                (ErrorKind::Denied, "the connected role may not do this")
            }
            Some(&SqlState::DISK_FULL) => {
                (ErrorKind::Unavailable, "the database's disk is full; nothing was done")
            }
            Some(&SqlState::UNIQUE_VIOLATION | &SqlState::DUPLICATE_OBJECT) => {
                (ErrorKind::Conflict, "somebody else is issuing for the same service; try again")
            }
            Some(&SqlState::LOCK_NOT_AVAILABLE) => (
                ErrorKind::Conflict,
                "another session holds a lock that is needed here; try again, and if that does not help, find the \
                 session with pg_blocking_pids and end it",
            ),
            Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => (
                ErrorKind::Blocked,
                "the login still owns something or was granted something, which the source lists; drop or revoke it, \
                 then revoke the lease again",
            ),
            Some(_) => (ErrorKind::Database, "the database refused a statement"),
            None if is_tls(&source) => {
                (ErrorKind::Untrusted, "the server's certificate or name could not be verified")
            }
            None => (ErrorKind::Unavailable, "the connection to the database failed"),
        };
        Self::new(kind, message).because(source)
    }
}

/// Whether a failure to connect is a refusal by our side of the TLS handshake.
fn is_tls(error: &tokio_postgres::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if inner.is::<rustls::Error>() {
            return true;
        }
        // An `io::Error` that wraps another error reports the wrapped error's source, so look inside.
        let wrapped = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if wrapped.is_some_and(|e| e.is::<rustls::Error>()) {
            return true;
        }
        source = inner.source();
    }
    false
}
