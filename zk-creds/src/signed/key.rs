//! Keys of signed tokens, in the spelling of PASERK (`k4.secret.…`, `k4.public.…`).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::paseto;
use crate::error::{Error, ErrorKind};

const SECRET: &str = "k4.secret.";
const PUBLIC: &str = "k4.public.";

/// The key that signs tokens. It rests in a secret store, as [`expose`](Self::expose) writes it.
///
/// # Examples
/// ```
/// use zk_creds::signed::SigningKey;
///
/// let key = SigningKey::generate()?;
/// assert_eq!(SigningKey::parse(&key.expose())?.public(), key.public());
/// assert!(key.public().to_string().starts_with("k4.public."));
/// # Ok::<(), zk_creds::Error>(())
/// ```
pub struct SigningKey {
    /// The seed, which makes the key.
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// Makes a key.
    ///
    /// # Errors
    /// [`ErrorKind::Random`] when the operating system gave no random bytes.
    pub fn generate() -> Result<Self, Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut())?;
        Self::of(seed).ok_or_else(|| Error::new(ErrorKind::Random, "a key could not be made"))
    }

    /// Reads a key that [`expose`](Self::expose) wrote.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], which does not repeat the text, unless it is `k4.secret.` and 64 bytes whose two halves fit.
    pub fn parse(text: &SecretString) -> Result<Self, Error> {
        let wrong = || {
            Error::new(ErrorKind::Invalid, "this is no signing key: `k4.secret.` and 64 bytes in base64url")
        };
        let encoded = text.expose_secret().strip_prefix(SECRET).ok_or_else(wrong)?;
        let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| wrong())?);
        let (seed, public) = bytes.split_at_checked(32).ok_or_else(wrong)?;
        let seed = Zeroizing::new(<[u8; 32]>::try_from(seed).map_err(|_| wrong())?);
        Self::of(seed).filter(|key| key.public.0 == public).ok_or_else(wrong)
    }

    /// The key as text, for a secret store and nothing else.
    #[must_use]
    pub fn expose(&self) -> SecretString {
        let bytes = Zeroizing::new([self.seed.as_slice(), &self.public.0].concat());
        let encoded = Zeroizing::new(BASE64URL_NOPAD.encode(&bytes));
        SecretString::from(format!("{SECRET}{}", *encoded))
    }

    /// The key that verifies what this one signs.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    pub(super) fn sign(&self, message: &[u8], footer: &[u8]) -> String {
        paseto::sign(&self.pair, message, footer, b"")
    }

    fn of(seed: Zeroizing<[u8; 32]>) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).ok()?;
        let public = PublicKey(pair.public_key().as_ref().try_into().ok()?);
        Some(Self { seed, pair, public })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed: _, pair: _, public } = self;
        f.debug_struct("SigningKey").field("public", public).field("secret", &"[redacted]").finish()
    }
}

/// The key that verifies tokens. It is no secret, but must come from who signs: whoever chooses it, signs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// What tokens name it by: the first half of its SHA-256, in base64url.
    #[must_use]
    pub fn id(&self) -> String {
        let hash = digest(&SHA256, &self.0);
        BASE64URL_NOPAD.encode(hash.as_ref().get(..16).unwrap_or_default())
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", BASE64URL_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bytes = text.strip_prefix(PUBLIC).and_then(|b| BASE64URL_NOPAD.decode(b.as_bytes()).ok());
        let message = "this is no public key: `k4.public.` and 32 bytes in base64url";
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| Error::new(ErrorKind::Invalid, message))
    }
}
