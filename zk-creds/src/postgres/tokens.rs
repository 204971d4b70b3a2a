//! Tokens under leases: only their keyed hash is stored.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use secrecy::{ExposeSecret, SecretSlice};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

use super::audit::{self, Action, Entry};
use super::issuer::{Issuer, later};
use super::tables::lease;
use crate::credential::Lease;
use crate::error::{Error, ErrorKind};
use crate::manifest::MAX_LIFETIME;
use crate::token::Token;

/// The columns of a token that make a lease; where a login has its name, a token has its kind.
const LEASE: &str = "id, service, generation, kind, issued_at, expires_at, max_expires_at";
const MAX_SCOPES: usize = 64;
const MAX_SCOPE: usize = 128;

/// The key under which tokens are hashed: whoever reads the table without it cannot test a guess, nor add a token.
pub struct TokenKey(SecretSlice<u8>);

impl TokenKey {
    /// A key of at least 32 random bytes, kept in a secret store or sealed.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a shorter one.
    pub fn new(bytes: SecretSlice<u8>) -> Result<Self, Error> {
        if bytes.expose_secret().len() < 32 {
            return Err(Error::new(ErrorKind::Invalid, "the key of tokens has at least 32 bytes"));
        }
        Ok(Self(bytes))
    }

    fn hash(&self, token: &Token) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.expose_secret());
        hmac::sign(&key, token.bytes()).as_ref().to_vec()
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey([redacted])")
    }
}

/// What a token is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a request is plain data that callers build")]
pub struct TokenRequest {
    /// Its kind, which it shows: 1 to 16 lower-case letters and digits.
    pub kind: String,
    /// Whom it is for.
    pub service: String,
    /// What it is good for, in the caller's words: at most 64 of 128 bytes.
    pub scopes: Vec<String>,
    /// How long it lives before it must be renewed.
    pub lifetime: Duration,
    /// How long renewals may stretch it.
    pub max_lifetime: Duration,
}

/// What a token that was shown is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grant {
    /// The lease it lives under.
    pub lease: Lease,
    /// What it is good for.
    pub scopes: Vec<String>,
}

impl Grant {
    /// Whether it is good for `scope`.
    #[must_use]
    pub fn allows(&self, scope: &str) -> bool {
        self.scopes.iter().any(|granted| granted == scope)
    }
}

impl Issuer {
    /// Issues a token, which is handed out once.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a request that is none; [`ErrorKind::Denied`] when the tables are not the issuer's;
    /// [`ErrorKind::Blocked`] when the clocks are too far apart; those of the connection.
    pub async fn issue_token(
        &self,
        client: &mut Client,
        key: &TokenKey,
        request: &TokenRequest,
    ) -> Result<(Lease, Token), Error> {
        check(request)?;
        let (transaction, _) = self.begin_to_issue(client).await?;
        let issued = self.create_token(&transaction, key, request, Action::Issue).await?;
        transaction.commit().await?;
        Ok(issued)
    }

    /// Says what a token is good for. One that was revoked is refused from the moment that the revocation returned.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a text that is no token; [`ErrorKind::Denied`] for one that is unknown, has ended or was
    /// revoked, which look the same; those of the connection.
    pub async fn verify_token(
        &self,
        client: &mut Client,
        key: &TokenKey,
        text: &str,
    ) -> Result<Grant, Error> {
        let token = Token::parse(text)?;
        let (hash, now) = (key.hash(&token), self.now());
        let (transaction, _) = self.begin(client).await?;
        let row = transaction
            .query_typed_opt(
                &format!(
                    "SELECT {LEASE}, scopes FROM zk.tokens
                     WHERE hash = $1 AND solution = $2 AND kind = $3 AND NOT revoked AND expires_at > $4"
                ),
                &[
                    (&hash, Type::BYTEA),
                    (&self.solution, Type::TEXT),
                    (&token.kind(), Type::TEXT),
                    (&now, Type::TIMESTAMPTZ),
                ],
            )
            .await?;
        let Some(row) = row else {
            return Err(Error::new(ErrorKind::Denied, "the token is not valid, or no longer"));
        };
        Ok(Grant { lease: lease(&row)?, scopes: row.try_get(7)? })
    }

    /// Extends a token's lease by its lifetime from now, never beyond its maximum and never to an earlier time.
    ///
    /// # Errors
    /// [`ErrorKind::Expired`] when it has ended or was revoked; those of the connection.
    pub async fn renew_token(&self, client: &mut Client, token: &Lease) -> Result<Lease, Error> {
        let now = self.now();
        let (transaction, _) = self.begin(client).await?;
        let row = transaction
            .query_typed_opt(
                &format!(
                    "UPDATE zk.tokens
                     SET expires_at = greatest(expires_at, least($3 + make_interval(secs => lifetime_seconds), max_expires_at))
                     WHERE id = $1 AND solution = $2 AND NOT revoked AND expires_at > $3 RETURNING {LEASE}"
                ),
                &[(&token.id, Type::UUID), (&self.solution, Type::TEXT), (&now, Type::TIMESTAMPTZ)],
            )
            .await?;
        let row = row.ok_or_else(|| Error::new(ErrorKind::Expired, "the token has ended; issue another"))?;
        let renewed = lease(&row)?;
        self.record_token(&transaction, Action::Renew, &renewed).await?;
        transaction.commit().await?;
        Ok(renewed)
    }

    /// Issues a token beside a present one, which ends after `grace`.
    ///
    /// # Errors
    /// [`ErrorKind::Expired`] when the present one has ended or was revoked; as [`issue_token`](Self::issue_token).
    pub async fn rotate_token(
        &self,
        client: &mut Client,
        key: &TokenKey,
        present: &Lease,
        request: &TokenRequest,
        grace: Duration,
    ) -> Result<(Lease, Token), Error> {
        check(request)?;
        let now = self.now();
        let ends = later(now, grace.min(Duration::from_secs(MAX_LIFETIME)))?;
        let (transaction, _) = self.begin_to_issue(client).await?;
        let changed = transaction
            .execute_typed(
                "UPDATE zk.tokens SET expires_at = least(expires_at, $3), max_expires_at = least(max_expires_at, $3)
                 WHERE id = $1 AND solution = $2 AND service = $5 AND NOT revoked AND expires_at > $4",
                &[
                    (&present.id, Type::UUID),
                    (&self.solution, Type::TEXT),
                    (&ends, Type::TIMESTAMPTZ),
                    (&now, Type::TIMESTAMPTZ),
                    (&request.service, Type::TEXT),
                ],
            )
            .await?;
        if changed == 0 {
            return Err(Error::new(ErrorKind::Expired, "the token to rotate has ended; issue another"));
        }
        let issued = self.create_token(&transaction, key, request, Action::Rotate).await?;
        transaction.commit().await?;
        Ok(issued)
    }

    /// Ends a token now. Revoking what is revoked does nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] for an unknown lease; those of the connection.
    pub async fn revoke_token(&self, client: &mut Client, token: &Lease) -> Result<(), Error> {
        let (transaction, _) = self.begin(client).await?;
        let changed = transaction
            .execute_typed(
                "UPDATE zk.tokens SET revoked = true WHERE id = $1 AND solution = $2",
                &[(&token.id, Type::UUID), (&self.solution, Type::TEXT)],
            )
            .await?;
        if changed == 0 {
            let message = format!("there is no token {} in this solution", token.id);
            return Err(Error::new(ErrorKind::Missing, message));
        }
        self.record_token(&transaction, Action::Revoke, token).await?;
        Ok(transaction.commit().await?)
    }

    async fn create_token(
        &self,
        transaction: &Transaction<'_>,
        key: &TokenKey,
        request: &TokenRequest,
        action: Action,
    ) -> Result<(Lease, Token), Error> {
        let token = Token::generate(&request.kind)?;
        let issued_at = self.now();
        let row = transaction
            .query_typed_one(
                &format!(
                    "INSERT INTO zk.tokens (id, solution, service, generation, kind, hash, scopes, lifetime_seconds,
                                            issued_at, expires_at, max_expires_at)
                     SELECT $1, $2, $3, coalesce(max(generation), 0) + 1, $4, $5, $6, $7, $8, $9, $10
                     FROM zk.tokens WHERE solution = $2 AND service = $3 AND kind = $4
                     RETURNING {LEASE}"
                ),
                &[
                    (&Uuid::new_v4(), Type::UUID),
                    (&self.solution, Type::TEXT),
                    (&request.service, Type::TEXT),
                    (&request.kind, Type::TEXT),
                    (&key.hash(&token), Type::BYTEA),
                    (&request.scopes, Type::TEXT_ARRAY),
                    (&request.lifetime.as_secs_f64(), Type::FLOAT8),
                    (&issued_at, Type::TIMESTAMPTZ),
                    (&later(issued_at, request.lifetime)?, Type::TIMESTAMPTZ),
                    (&later(issued_at, request.max_lifetime)?, Type::TIMESTAMPTZ),
                ],
            )
            .await?;
        let lease = lease(&row)?;
        self.record_token(transaction, action, &lease).await?;
        Ok((lease, token))
    }

    async fn record_token(
        &self,
        transaction: &Transaction<'_>,
        action: Action,
        lease: &Lease,
    ) -> Result<(), Error> {
        audit::record(transaction, &[Entry::new(&self.solution, self.now(), action).of(lease)]).await
    }
}

fn check(request: &TokenRequest) -> Result<(), Error> {
    let TokenRequest { kind: _, service, scopes, lifetime, max_lifetime } = request;
    let named = !service.is_empty() && service.len() <= MAX_SCOPE && !service.contains('\0');
    let scoped = scopes.len() <= MAX_SCOPES
        && scopes.iter().all(|s| !s.is_empty() && s.len() <= MAX_SCOPE && !s.contains('\0'));
    let lives =
        !lifetime.is_zero() && lifetime <= max_lifetime && *max_lifetime <= Duration::from_secs(MAX_LIFETIME);
    if named && scoped && lives {
        return Ok(());
    }
    let message = format!(
        "a token is for a service and at most {MAX_SCOPES} scopes, each named by 1 to {MAX_SCOPE} bytes, and its lifetime \
         is not zero, not longer than its maximum, and that not than {MAX_LIFETIME} seconds"
    );
    Err(Error::new(ErrorKind::Invalid, message))
}
