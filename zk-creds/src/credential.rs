//! A credential and the lease it lives under.

use std::fmt;
use std::time::{Duration, SystemTime};

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

/// What whoever keeps a lease alive has to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "it is what it holds")]
pub struct Term {
    /// The lease.
    pub lease: Uuid,
    /// When it ends unless renewed.
    pub expires_at: SystemTime,
    /// When it ends however often it is renewed.
    pub max_expires_at: SystemTime,
}

impl From<&Lease> for Term {
    fn from(lease: &Lease) -> Self {
        Self { lease: lease.id, expires_at: lease.expires_at, max_expires_at: lease.max_expires_at }
    }
}

/// What is to be done for a lease, and in how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a lease that can be lengthened is, and another is replaced")]
pub enum Due {
    /// To renew it.
    Renewal(Duration),
    /// To issue another login: no renewal can lengthen this lease.
    Rotation(Duration),
}

impl Term {
    /// What is to be done next: when two thirds of what is left are over, less up to a tenth of that by chance, so that
    /// many do not come at once.
    ///
    /// # Examples
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    /// use zk_creds::{Due, Term};
    ///
    /// let [now, end, max] = [0, 90, 200].map(|s| UNIX_EPOCH + Duration::from_secs(s));
    /// let mut term = Term { lease: Default::default(), expires_at: end, max_expires_at: max };
    /// let Due::Renewal(wait) = term.next_due(now) else { panic!() };
    /// assert!((54.0..=60.0).contains(&wait.as_secs_f64()));
    /// term.expires_at = max;
    /// assert!(matches!(term.next_due(now), Due::Rotation(_)));
    /// ```
    #[must_use]
    pub fn next_due(&self, now: SystemTime) -> Due {
        let left = self.expires_at.duration_since(now).unwrap_or_default();
        let mut byte = [0];
        let chance = if getrandom::fill(&mut byte).is_ok() { f64::from(byte[0]) / 2560.0 } else { 0.0 };
        let wait = left.mul_f64(2.0 / 3.0 * (1.0 - chance));
        if self.expires_at >= self.max_expires_at { Due::Rotation(wait) } else { Due::Renewal(wait) }
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
