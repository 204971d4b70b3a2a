//! A credential and the lease it lives under.

use std::fmt;
use std::time::SystemTime;

use secrecy::SecretString;
use uuid::Uuid;

/// How long a credential lives, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// Names the lease in renew, rotate and revoke.
    pub id: Uuid,
    /// The service.
    pub service: String,
    /// Counts the credentials that the service has had, from 1.
    pub generation: i32,
    /// The database login.
    pub login: String,
    /// When it was issued.
    pub issued_at: SystemTime,
    /// When it ends unless renewed.
    pub expires_at: SystemTime,
    /// When it ends however often it is renewed.
    pub max_expires_at: SystemTime,
}

impl Lease {
    /// Whether the lease has ended at `now`.
    #[must_use]
    pub fn is_expired(&self, now: SystemTime) -> bool {
        now >= self.expires_at
    }
}

/// A login with its password, handed out once.
pub struct Credential {
    /// What it is and how long it lives.
    lease: Lease,
    password: SecretString,
}

impl Credential {
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "only issuers make credentials"))]
    pub(crate) fn new(lease: Lease, password: SecretString) -> Self {
        Self { lease, password }
    }

    /// The lease it lives under.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The password. Expose it only to what needs it.
    #[must_use]
    pub fn password(&self) -> &SecretString {
        &self.password
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lease, password: _ } = self;
        f.debug_struct("Credential").field("lease", lease).field("password", &"[redacted]").finish()
    }
}
