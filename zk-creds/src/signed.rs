//! Short-lived signed tokens, with which one service proves itself to another where mutual TLS cannot be: behind a proxy
//! that ends TLS, or in a message.
//!
//! ```text
//! TokenSigner (one per solution, holds the signing key) ─▶ token ─▶ service ─▶ "authorization: Bearer …" ─▶ TokenVerifier
//! ```
//!
//! A token is a PASETO `v4.public`: signed with Ed25519, which nothing in the token chooses. It says who it is for (`aud`),
//! whom it speaks for (`sub`), what for (`scope`), and it ends after minutes. Nobody can call it back before: prefer mutual
//! TLS, and tokens that the database knows (`Issuer::issue_token`) for what must end at once. Whoever has it can use it, so
//! it travels over TLS only.
//!
//! ```
//! use std::time::Duration;
//! use zk_creds::signed::{SignedClaims, SigningKey, TokenSigner, TokenVerifier};
//!
//! let key = SigningKey::generate()?;
//! let verifier = TokenVerifier::new("crm", "billing", [key.public()]);
//! let signer = TokenSigner::new("crm", key)?;
//!
//! let claims = SignedClaims::new("orders", "billing").scope("invoices:create");
//! let token = signer.sign(&claims, Duration::from_secs(60))?;
//! let grant = verifier.verify(&token)?;
//! assert_eq!(grant.subject(), "orders");
//! assert!(grant.require("invoices:create").is_ok() && grant.require("invoices:delete").is_err());
//! assert_eq!(grant.scopes().collect::<Vec<_>>(), ["invoices:create"]);
//! # Ok::<(), zk_creds::Error>(())
//! ```

mod key;
mod paseto;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::key::{PublicKey, SigningKey};
use crate::clock::{Clock, SystemClock, from_utc, utc};
use crate::error::{Error, ErrorKind};

/// The longest life of a signed token: it cannot be called back.
const MAX_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// How far the clocks of signer and verifier may be apart.
const LEEWAY: Duration = Duration::from_secs(30);
/// The longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 4096;
const MAX_NAME: usize = 128;
const MAX_SCOPES: usize = 32;

/// Whom a token is to speak for, to whom, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedClaims {
    subject: String,
    audience: String,
    scopes: Vec<String>,
}

impl SignedClaims {
    /// A token of the service `subject` for the service `audience`, good for nothing yet.
    #[must_use]
    pub fn new(subject: impl Into<String>, audience: impl Into<String>) -> Self {
        Self { subject: subject.into(), audience: audience.into(), scopes: Vec::new() }
    }

    /// Adds what it is good for, in the audience's words: printable ASCII without blanks.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scopes.push(scope.into());
        self
    }

    fn check(&self) -> Result<(), Error> {
        let Self { subject, audience, scopes } = self;
        let named = [subject, audience].iter().all(|name| !name.is_empty() && name.len() <= MAX_NAME);
        let scope = |scope: &String| {
            (1..=MAX_NAME).contains(&scope.len()) && scope.bytes().all(|b| b.is_ascii_graphic())
        };
        if named && scopes.len() <= MAX_SCOPES && scopes.iter().all(scope) {
            return Ok(());
        }
        let message = format!(
            "a signed token is of a service for another, each named by 1 to {MAX_NAME} bytes, with at most {MAX_SCOPES} \
             scopes of as many printable characters without blanks"
        );
        Err(Error::new(ErrorKind::Invalid, message))
    }
}

/// What is signed, by the names of PASETO's registered claims.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    iss: String,
    sub: String,
    aud: String,
    scope: String,
    iat: String,
    exp: String,
    jti: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Footer {
    kid: String,
}

/// Signs tokens. It decides itself who is asking: call it for a service that has proved who it is.
#[derive(Debug)]
pub struct TokenSigner {
    issuer: String,
    key: RwLock<SigningKey>,
    clock: Arc<dyn Clock>,
}

impl TokenSigner {
    /// Signs as `issuer`, the solution's name, say.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] unless the name has 1 to 128 bytes.
    pub fn new(issuer: impl Into<String>, key: SigningKey) -> Result<Self, Error> {
        let issuer = issuer.into();
        SignedClaims::new(&issuer, &issuer).check()?;
        Ok(Self { issuer, key: RwLock::new(key), clock: Arc::new(SystemClock) })
    }

    /// The same with another clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Signs a token that ends after `lifetime`: at most 15 minutes.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for claims that are none, and for a longer lifetime or none.
    pub fn sign(&self, claims: &SignedClaims, lifetime: Duration) -> Result<SecretString, Error> {
        claims.check()?;
        let now = self.clock.now();
        if lifetime < Duration::from_secs(1) || lifetime > MAX_LIFETIME {
            let message = format!("a signed token lives from 1 to {} seconds", MAX_LIFETIME.as_secs());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let body = Body {
            iss: self.issuer.clone(),
            sub: claims.subject.clone(),
            aud: claims.audience.clone(),
            scope: claims.scopes.join(" "),
            iat: utc(now),
            exp: utc(now + lifetime),
            jti: Uuid::new_v4().to_string(),
        };
        let key = self.key.read().unwrap_or_else(PoisonError::into_inner);
        let write = |e| Error::new(ErrorKind::Invalid, "the token cannot be written").because(e);
        let footer = serde_json::to_vec(&Footer { kid: key.public().id() }).map_err(write)?;
        let body = serde_json::to_vec(&body).map_err(write)?;
        let token = key.sign(&body, &footer);
        if token.len() > MAX_TOKEN {
            let message =
                format!("the token would be longer than {MAX_TOKEN} bytes: use fewer or shorter scopes");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(SecretString::from(token))
    }

    /// Signs with another key from now on. Every verifier must trust it already ([`TokenVerifier::trust`]).
    pub fn rotate(&self, key: SigningKey) {
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = key;
    }
}

/// Verifies tokens for one service, with the keys that it trusts at the time.
#[derive(Debug)]
pub struct TokenVerifier {
    issuer: String,
    audience: String,
    keys: RwLock<BTreeMap<String, PublicKey>>,
    clock: Arc<dyn Clock>,
}

impl TokenVerifier {
    /// Verifies tokens of `issuer` for the service `audience`.
    #[must_use]
    pub fn new(
        issuer: impl Into<String>,
        audience: impl Into<String>,
        keys: impl IntoIterator<Item = PublicKey>,
    ) -> Self {
        let keys = keys.into_iter().map(|key| (key.id(), key)).collect();
        let (issuer, audience) = (issuer.into(), audience.into());
        Self { issuer, audience, keys: RwLock::new(keys), clock: Arc::new(SystemClock) }
    }

    /// The same with another clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Trusts another key as well, from now on.
    pub fn trust(&self, key: PublicKey) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(key.id(), key);
    }

    /// Trusts these keys and no others, from now on: for a verifier that follows a list which somebody else keeps.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// use zk_creds::signed::{SignedClaims, SigningKey, TokenSigner, TokenVerifier};
    ///
    /// let [old, new] = [SigningKey::generate()?, SigningKey::generate()?];
    /// let (first, second) = (old.public(), new.public());
    /// let verifier = TokenVerifier::new("crm", "billing", [first]);
    /// let signer = TokenSigner::new("crm", old)?;
    /// let sign = || signer.sign(&SignedClaims::new("orders", "billing"), Duration::from_secs(60));
    /// let before = sign()?;
    ///
    /// verifier.trust_only([first, second]);
    /// signer.rotate(new);
    /// assert!(verifier.verify(&before).is_ok() && verifier.verify(&sign()?).is_ok());
    ///
    /// verifier.trust_only([second]);
    /// assert!(verifier.verify(&before).is_err() && verifier.verify(&sign()?).is_ok());
    /// # Ok::<(), zk_creds::Error>(())
    /// ```
    pub fn trust_only(&self, keys: impl IntoIterator<Item = PublicKey>) {
        let keys = keys.into_iter().map(|key| (key.id(), key)).collect();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Trusts a key no longer. After a rotation: once the last token that it signed has ended, 16 minutes later at most; at
    /// once when the key has leaked.
    pub fn distrust(&self, key: &PublicKey) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).remove(&key.id());
    }

    /// Says whom a token speaks for and what for. Clocks may be apart by 30 seconds.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a text that is no such token; [`ErrorKind::Denied`] when it was signed with a key that is
    /// not trusted or was changed, is of another issuer or for another audience, lives longer than tokens may, or is of
    /// the future; [`ErrorKind::Expired`] when it has ended. None repeats any of the token.
    pub fn verify(&self, token: &SecretString) -> Result<SignedGrant, Error> {
        let token = token.expose_secret();
        let none = || Error::new(ErrorKind::Invalid, "this is no signed token, or it is cut short");
        if token.len() > MAX_TOKEN {
            return Err(none());
        }
        let parts = paseto::Parts::of(token).ok_or_else(none)?;
        let Footer { kid } = serde_json::from_slice(&parts.footer).map_err(|_| none())?;
        // The footer only chooses among the keys that are trusted; it is signed as well.
        let key = self.keys.read().unwrap_or_else(PoisonError::into_inner).get(&kid).copied();
        let key = key.ok_or_else(|| denied("the token was signed with a key that is not trusted"))?;
        let message = parts.verified(key.bytes(), b"");
        let message = message.ok_or_else(|| denied("the token's signature does not hold: it was changed"))?;
        // From here on, what is read was signed.
        let body: Body = serde_json::from_slice(message).map_err(|_| none())?;
        self.judge(body)
    }

    fn judge(&self, body: Body) -> Result<SignedGrant, Error> {
        let Body { iss, sub, aud, scope, iat, exp, jti } = body;
        if iss != self.issuer {
            return Err(denied("the token is of another issuer"));
        }
        if aud != self.audience {
            return Err(denied("the token is for another service"));
        }
        let (Some(issued_at), Some(expires_at)) = (from_utc(&iat), from_utc(&exp)) else {
            return Err(denied("the token's times cannot be read"));
        };
        let (now, after) = (self.clock.now(), |at: SystemTime| at.checked_add(LEEWAY));
        if after(expires_at).is_none_or(|ends| now >= ends) {
            return Err(Error::new(ErrorKind::Expired, "the token has ended; ask for another"));
        }
        if after(now).is_none_or(|latest| issued_at > latest) {
            return Err(denied("the token is of the future; compare the clocks of both sides"));
        }
        // SECURITY: whatever its signer thought, no token is good for longer than this.
        if expires_at.duration_since(issued_at).map_or(true, |lives| lives > MAX_LIFETIME) {
            return Err(denied("the token lives longer than signed tokens may"));
        }
        let scopes = scope.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
        let id = Uuid::try_parse(&jti).map_err(|_| denied("the token's number cannot be read"))?;
        Ok(SignedGrant { id, subject: sub, scopes, expires_at })
    }
}

/// What a verified token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedGrant {
    id: Uuid,
    subject: String,
    scopes: Vec<String>,
    expires_at: SystemTime,
}

impl SignedGrant {
    /// The token's own number, for a log, or for who takes each token once.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The service that it speaks for.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// When it ends.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// What it is good for, in its signer's order, such as `tenant:7f9c` where a scope carries a fact about its subject.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().map(String::as_str)
    }

    /// Fails unless the token is good for `scope`.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`].
    pub fn require(&self, scope: &str) -> Result<(), Error> {
        if self.scopes.iter().any(|granted| granted == scope) {
            return Ok(());
        }
        Err(denied(&format!("the token of {} is not good for `{}`", self.subject, scope.escape_debug())))
    }
}

impl fmt::Display for SignedGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.subject, self.scopes.join(" "))
    }
}

fn denied(message: &str) -> Error {
    Error::new(ErrorKind::Denied, message)
}
