//! Tokens under leases: only their keyed hash is stored.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::audit::Action;
use super::grants::{Draft, GrantKind, LEASE, Lifetimes, Stored, ended};
use super::issuer::{Issuer, later};
use super::transaction::Transaction;
use crate::credential::Lease;
use crate::error::{Error, ErrorKind};
use crate::manifest::MAX_LIFETIME;
use crate::token::Token;

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
    /// How long it lives.
    pub lifetimes: Lifetimes,
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
                    "SELECT {LEASE}, detail FROM zk.grants
                     WHERE hash = $1 AND solution = $2 AND kind = 'token' AND name = $3
                       AND revoked_at IS NULL AND expires_at > $4"
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
        let Stored { lease, detail: Detail { scopes } } = Stored::from_row(&row)?;
        Ok(Grant { lease, scopes })
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
                "UPDATE zk.grants SET expires_at = least(expires_at, $3), max_expires_at = least(max_expires_at, $3)
                 WHERE id = $1 AND solution = $2 AND kind = 'token' AND service = $5 AND revoked_at IS NULL AND expires_at > $4",
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
            return Err(ended(present.id));
        }
        let issued = self.create_token(&transaction, key, request, Action::Rotate).await?;
        transaction.commit().await?;
        Ok(issued)
    }

    async fn create_token(
        &self,
        transaction: &Transaction<'_>,
        key: &TokenKey,
        request: &TokenRequest,
        action: Action,
    ) -> Result<(Lease, Token), Error> {
        let TokenRequest { kind, service, scopes, lifetimes } = request;
        let token = Token::generate(kind)?;
        let draft = Draft {
            kind: GrantKind::Token,
            service,
            name: kind,
            hash: Some(key.hash(&token)),
            detail: &Detail { scopes: scopes.clone() },
            lifetimes: *lifetimes,
            fixed: None,
        };
        Ok((self.grant(transaction, draft, action).await?, token))
    }
}

/// What the table says of a token.
#[derive(Serialize, Deserialize)]
struct Detail {
    scopes: Vec<String>,
}

fn check(request: &TokenRequest) -> Result<(), Error> {
    let scopes = &request.scopes;
    let named = |scope: &String| !scope.is_empty() && scope.len() <= MAX_SCOPE;
    if scopes.len() <= MAX_SCOPES && scopes.iter().all(named) {
        return Ok(());
    }
    let message = format!("a token is for at most {MAX_SCOPES} scopes, each of 1 to {MAX_SCOPE} bytes");
    Err(Error::new(ErrorKind::Invalid, message))
}
