//! What a service asks of its issuer, and what it is answered.

use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

#[cfg(feature = "authority")]
use super::certificate::Certified;
use crate::clock::{from_utc, utc};
use crate::credential::{Credential, Term};

/// What is asked for a lease: `POST /<verb>/<lease>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Renew,
    Rotate,
    /// With a request for a certificate, PEM, as the body; so is the next.
    #[cfg(feature = "authority")]
    RenewCertificate,
    #[cfg(feature = "authority")]
    RotateCertificate,
}

impl Verb {
    const ALL: &[Self] = &[
        Self::Renew,
        Self::Rotate,
        #[cfg(feature = "authority")]
        Self::RenewCertificate,
        #[cfg(feature = "authority")]
        Self::RotateCertificate,
    ];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Renew => "renew",
            Self::Rotate => "rotate",
            #[cfg(feature = "authority")]
            Self::RenewCertificate => "renew-certificate",
            #[cfg(feature = "authority")]
            Self::RotateCertificate => "rotate-certificate",
        }
    }

    /// Whether a request for a certificate comes with it.
    #[cfg(feature = "authority")]
    pub(super) fn brings_a_request(self) -> bool {
        matches!(self, Self::RenewCertificate | Self::RotateCertificate)
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|verb| verb.word() == word)
    }
}

/// What is answered: a lease, and what was issued under it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    lease: String,
    expires_at: String,
    max_expires_at: String,
    /// After a rotation, the login.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) password: Option<Password>,
    /// The certificate, whom to trust now, and whom not any more: PEM.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) roots: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) refused: Option<String>,
}

/// Wiped when it is dropped.
pub(super) struct Password(pub(super) Zeroizing<String>);

impl Serialize for Password {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl Answer {
    pub(super) fn of(term: Term) -> Self {
        let [expires_at, max_expires_at] = [term.expires_at, term.max_expires_at].map(utc);
        Self {
            lease: term.lease.to_string(),
            expires_at,
            max_expires_at,
            user: None,
            password: None,
            certificate: None,
            roots: None,
            refused: None,
        }
    }

    pub(super) fn rotated(credential: &Credential) -> Self {
        let password = Password(Zeroizing::new(credential.password().expose_secret().to_owned()));
        let user = Some(credential.lease().login.clone());
        Self { user, password: Some(password), ..Self::of(Term::from(credential.lease())) }
    }

    #[cfg(feature = "authority")]
    pub(super) fn certified(certified: Certified) -> Self {
        let Certified { term, certificate, roots, refused } = certified;
        Self { certificate: Some(certificate), roots: Some(roots), refused: Some(refused), ..Self::of(term) }
    }

    pub(super) fn term(&self) -> Option<Term> {
        let (expires_at, max_expires_at) = (from_utc(&self.expires_at)?, from_utc(&self.max_expires_at)?);
        Some(Term { lease: Uuid::try_parse(&self.lease).ok()?, expires_at, max_expires_at })
    }
}
