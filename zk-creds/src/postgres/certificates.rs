//! Certificates under leases: renewed within a maximum, under the names they were issued for, and called back.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::audit::Action;
use super::grants::{Draft, GrantKind, LEASE, Lifetimes, Stored, ended, left, written};
use super::issuer::Issuer;
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
        let draft = Draft {
            kind: GrantKind::Certificate,
            service: names.service_name(),
            name: &leaf.identity,
            hash: None,
            detail: &detail,
            lifetimes: *lifetimes,
        };
        let lease = self.grant(&transaction, draft, Action::Issue).await?;
        transaction.commit().await?;
        Ok((lease, leaf))
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
        let now = self.now();
        let (transaction, _) = self.begin_to_issue(client).await?;
        let row = transaction
            .query_typed_opt(
                &format!(
                    "SELECT {LEASE}, detail, lifetime_seconds FROM zk.grants
                     WHERE id = $1 AND solution = $2 AND kind = 'certificate' AND revoked_at IS NULL AND expires_at > $3
                     FOR UPDATE"
                ),
                &[(&lease.id, Type::UUID), (&self.solution, Type::TEXT), (&now, Type::TIMESTAMPTZ)],
            )
            .await?;
        let row = row.ok_or_else(|| ended(lease.id))?;
        let Stored { lease, mut detail } = Stored::<Detail>::from_row(&row)?;
        let lifetime = left(&lease, row.try_get(8)?, now);
        let leaf = authority.sign(pem, &detail.names, lifetime)?;
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
