//! Certificates under leases: renewed within a maximum, under the names they were issued for, and called back.

#[cfg(feature = "https")]
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::audit::Action;
#[cfg(feature = "https")]
use super::audit::Entry;
use super::grants::{Draft, GrantKind, LEASE, Lifetimes, Stored, ended, left, written};
use super::issuer::{Issuer, later};
use super::transaction::Transaction;
use crate::clock::whole_seconds;
use crate::credential::Lease;
use crate::error::Error;
use crate::tls::{Authority, Leaf, Names, Revoked};

/// What a certificate is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a request is plain data that callers build")]
pub struct CertificateRequest {
    /// The request of the service's key, PEM, as `KeyRequest::pem` shows it.
    pub pem: String,
    /// Whom it is for, as the caller knows.
    pub names: Names,
    /// How long it lives. Each certificate is at most as long as the authority allows; the maximum holds for all that follow
    /// it by renewal.
    pub lifetimes: Lifetimes,
}

/// Who asks for the next certificate.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) owner: &'a str,
    pub(super) lease: Uuid,
    /// PEM.
    pub(super) request: &'a str,
}

/// The authorities that services trust, one of which signs.
#[cfg(feature = "https")]
#[derive(Debug)]
pub struct Authorities {
    signing: Arc<Authority>,
    others: Vec<Arc<Authority>>,
}

#[cfg(feature = "https")]
impl Authorities {
    /// One that signs and is trusted.
    #[must_use]
    pub fn new(signing: Arc<Authority>) -> Self {
        Self { signing, others: Vec::new() }
    }

    /// Another that is trusted: the next one, before it signs, or the one before, while its certificates live.
    #[must_use]
    pub fn trusting(mut self, other: Arc<Authority>) -> Self {
        self.others.push(other);
        self
    }

    pub(super) fn signing(&self) -> &Authority {
        &self.signing
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Authority> {
        std::iter::once(&self.signing).chain(&self.others).map(Arc::as_ref)
    }

    pub(super) fn roots(&self) -> String {
        self.all().map(Authority::certificate).collect()
    }
}

/// What the table says of a certificate.
#[derive(Serialize, Deserialize)]
struct Detail {
    names: Names,
    /// All that were signed under the lease, oldest first: an earlier one may still be valid when a later one is.
    signed: Vec<Signed>,
}

#[derive(Serialize, Deserialize)]
struct Signed {
    authority: String,
    serial: String,
}

impl Signed {
    fn of(authority: &Authority, leaf: &Leaf) -> Self {
        Self { authority: authority.id(), serial: leaf.serial.clone() }
    }
}

impl Issuer {
    /// Signs a certificate and records it under a lease, which ends with it.
    ///
    /// # Errors
    /// As [`Authority::sign`]; [`ErrorKind::Denied`](crate::ErrorKind::Denied) when the tables are not the issuer's; those of
    /// the connection.
    pub async fn issue_certificate(
        &self,
        client: &mut Client,
        authority: &Authority,
        request: &CertificateRequest,
    ) -> Result<(Lease, Leaf), Error> {
        let CertificateRequest { pem, names, lifetimes } = request;
        let leaf = authority.sign(pem, names, lifetimes.lifetime)?;
        let detail = Detail { names: names.clone(), signed: vec![Signed::of(authority, &leaf)] };
        let (transaction, _) = self.begin_to_issue(client).await?;
        self.begin_lease(transaction, Action::Issue, names.service_name(), &detail, leaf, *lifetimes).await
    }

    /// Signs the next certificate of a lease, for the same key or another, under the same names; not beyond the lease's
    /// maximum. The present one stays valid until its own end.
    ///
    /// # Errors
    /// [`ErrorKind::Expired`](crate::ErrorKind::Expired) when the lease has ended or was revoked; as
    /// [`issue_certificate`](Self::issue_certificate).
    pub async fn renew_certificate(
        &self,
        client: &mut Client,
        authority: &Authority,
        lease: &Lease,
        pem: &str,
    ) -> Result<(Lease, Leaf), Error> {
        let asked = Asked { owner: &lease.service, lease: lease.id, request: pem };
        self.try_renew_certificate(client, authority, &asked).await
    }

    /// The same for whoever has proved to be the service. The lease of another is answered as one that has ended.
    #[cfg(feature = "https")]
    pub(super) async fn renew_own_certificate(
        &self,
        client: &mut Client,
        authority: &Authority,
        asked: Asked<'_>,
    ) -> Result<(Lease, Leaf), Error> {
        let outcome = self.try_renew_certificate(client, authority, &asked).await;
        self.record_refusal(client, self.refusal(Action::Renew, &asked), outcome).await
    }

    async fn try_renew_certificate(
        &self,
        client: &mut Client,
        authority: &Authority,
        asked: &Asked<'_>,
    ) -> Result<(Lease, Leaf), Error> {
        let (transaction, _) = self.begin_to_issue(client).await?;
        let (Stored { lease, mut detail }, lifetime) = self.certified(&transaction, asked).await?;
        let leaf = authority.sign(asked.request, &detail.names, left(&lease, lifetime, self.now()))?;
        detail.signed.push(Signed::of(authority, &leaf));
        let lease =
            Lease { expires_at: leaf.expires_at.max(lease.expires_at).min(lease.max_expires_at), ..lease };
        transaction
            .execute_typed(
                "UPDATE zk.grants SET expires_at = $2, detail = $3 WHERE id = $1",
                &[
                    (&lease.id, Type::UUID),
                    (&lease.expires_at, Type::TIMESTAMPTZ),
                    (&written(&detail)?, Type::TEXT),
                ],
            )
            .await?;
        self.record_grant(&transaction, Action::Renew, &lease).await?;
        transaction.commit().await?;
        Ok((lease, leaf))
    }

    /// Signs a certificate under another lease of the same names and lifetimes, for whoever has proved to be the service. The
    /// old lease ends by itself: when the answer is lost, this is asked again.
    #[cfg(feature = "https")]
    pub(super) async fn rotate_own_certificate(
        &self,
        client: &mut Client,
        authority: &Authority,
        asked: Asked<'_>,
    ) -> Result<(Lease, Leaf), Error> {
        let outcome = self.try_rotate_certificate(client, authority, &asked).await;
        self.record_refusal(client, self.refusal(Action::Rotate, &asked), outcome).await
    }

    #[cfg(feature = "https")]
    async fn try_rotate_certificate(
        &self,
        client: &mut Client,
        authority: &Authority,
        asked: &Asked<'_>,
    ) -> Result<(Lease, Leaf), Error> {
        let (transaction, _) = self.begin_to_issue(client).await?;
        let (Stored { lease: old, detail: Detail { names, .. } }, lifetime) =
            self.certified(&transaction, asked).await?;
        let max_lifetime = old.max_expires_at.duration_since(old.issued_at).unwrap_or_default();
        let lifetime = Duration::try_from_secs_f64(lifetime).unwrap_or(max_lifetime).min(max_lifetime);
        let leaf = authority.sign(asked.request, &names, lifetime)?;
        let detail = Detail { names, signed: vec![Signed::of(authority, &leaf)] };
        let lifetimes = Lifetimes { lifetime, max_lifetime };
        self.begin_lease(transaction, Action::Rotate, asked.owner, &detail, leaf, lifetimes).await
    }

    /// Records a certificate under a lease of its own. It counts from, and ends, in whole seconds, as it says itself, so that
    /// the last one of a lease ends with it.
    async fn begin_lease(
        &self,
        transaction: Transaction<'_>,
        action: Action,
        service: &str,
        detail: &Detail,
        leaf: Leaf,
        lifetimes: Lifetimes,
    ) -> Result<(Lease, Leaf), Error> {
        let issued_at = whole_seconds(self.now());
        let expires_at = leaf.expires_at.min(later(issued_at, lifetimes.max_lifetime)?);
        let draft = Draft {
            kind: GrantKind::Certificate,
            service,
            name: &leaf.identity,
            hash: None,
            detail,
            lifetimes,
            fixed: Some((issued_at, expires_at)),
        };
        let lease = self.grant(&transaction, draft, action).await?;
        transaction.commit().await?;
        Ok((lease, leaf))
    }

    #[cfg(feature = "https")]
    fn refusal(&self, action: Action, asked: &Asked<'_>) -> Entry {
        Entry { lease: Some(asked.lease.to_string()), ..self.entry(action, asked.owner) }
    }

    /// The certificate of a live lease of its owner, locked, and its lifetime in seconds.
    async fn certified(
        &self,
        transaction: &Transaction<'_>,
        asked: &Asked<'_>,
    ) -> Result<(Stored<Detail>, f64), Error> {
        let row = transaction
            .query_typed_opt(
                &format!(
                    "SELECT {LEASE}, detail, lifetime_seconds FROM zk.grants
                     WHERE id = $1 AND solution = $2 AND service = $3 AND kind = 'certificate' AND revoked_at IS NULL
                       AND expires_at > $4
                     FOR UPDATE"
                ),
                &[
                    (&asked.lease, Type::UUID),
                    (&self.solution, Type::TEXT),
                    (&asked.owner, Type::TEXT),
                    (&self.now(), Type::TIMESTAMPTZ),
                ],
            )
            .await?;
        let row = row.ok_or_else(|| ended(asked.lease))?;
        Ok((Stored::from_row(&row)?, row.try_get(8)?))
    }

    /// The authority's list of certificates that were called back before their end, PEM (RFC 5280, section 5), good for
    /// `valid`: for `Material::refusing`, nginx, or PostgreSQL's `ssl_crl_file`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when it cannot be signed;
    /// [`ErrorKind::Denied`](crate::ErrorKind::Denied) when the tables are not the issuer's; those of the connection.
    pub async fn revocations(
        &self,
        client: &mut Client,
        authority: &Authority,
        valid: Duration,
    ) -> Result<String, Error> {
        let now = self.now();
        let (transaction, _) = self.begin(client).await?;
        let rows = transaction
            .query_typed(
                &format!(
                    "SELECT {LEASE}, detail, revoked_at FROM zk.grants
                     WHERE solution = $1 AND kind = 'certificate' AND revoked_at IS NOT NULL AND expires_at > $2"
                ),
                &[(&self.solution, Type::TEXT), (&now, Type::TIMESTAMPTZ)],
            )
            .await?;
        let mut revoked = Vec::new();
        let id = authority.id();
        for row in &rows {
            let at = row.try_get(8)?;
            let Stored { detail, .. } = Stored::<Detail>::from_row(row)?;
            let ours = detail.signed.into_iter().filter(|signed| signed.authority == id);
            revoked.extend(ours.map(|signed| Revoked { serial: signed.serial, at }));
        }
        authority.revocation_list(&revoked, valid)
    }
}
