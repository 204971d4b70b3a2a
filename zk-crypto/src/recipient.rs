//! Sealing for somebody's public key: the sealer cannot open what it sealed. SPEC.md, section 12.

mod kem;
mod portable;

use std::fmt;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;
use zk_kms::DataKey;

use self::portable::Entry;
pub use self::{kem::Kem, portable::Portable};
use crate::{
    Context, Error, Plaintext, Scope, Suite, nonce::fresh, open::open, opened::OpenedKey, seal::seal,
    sealed::derive,
};

/// How many recipients a value has at most.
pub const MAX_RECIPIENTS: usize = 8;

/// A public key for which values are sealed. It is not secret, but must come from where it cannot be exchanged.
///
/// ```
/// use zk_crypto::{Kem, Recipient, RecipientKey};
///
/// let key = RecipientKey::generate(Kem::XWing)?;
/// let recipient = key.recipient();
/// assert_eq!(Recipient::parse(&recipient.to_bytes())?, *recipient);
/// assert!(Recipient::parse(b"not a key").is_err());
/// # Ok::<(), zk_crypto::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    kem: Kem,
    public: Vec<u8>,
}

/// A private key, which opens what was sealed for its [`Recipient`]. It is wiped when it is dropped.
pub struct RecipientKey {
    secret: Zeroizing<Vec<u8>>,
    recipient: Recipient,
}

/// Seals values of a scope that it cannot open: for services that only write.
///
/// It holds public keys and no secret. Each value is sealed under a key of its own, which is wrapped for every recipient.
/// Whoever holds the public keys can seal, so a value says nothing about who sealed it.
///
/// # Examples
///
/// ```
/// use zk_crypto::{Context, Kem, RecipientKey, Scope, WriteOnly};
///
/// let (service, escrow) = (RecipientKey::generate(Kem::X25519)?, RecipientKey::generate(Kem::XWing)?);
/// let scope = Scope::tenant("7f9c")?;
/// let writer = WriteOnly::new(scope.clone(), [service.recipient().clone()])?.escrow(escrow.recipient().clone())?;
///
/// let place = Context::column("public.claims", "diagnosis").row("42");
/// let sealed = writer.seal(&place, b"confidential")?;
/// for key in [&service, &escrow] {
///     assert_eq!(key.open(&scope, &place, &sealed)?.as_slice(), b"confidential");
/// }
/// assert!(RecipientKey::generate(Kem::X25519)?.open(&scope, &place, &sealed).is_err());
/// # Ok::<(), zk_crypto::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct WriteOnly {
    scope: Scope,
    recipients: Vec<Recipient>,
}

/// What names a public key in a value: SPEC.md, section 12.
pub(crate) type RecipientId = [u8; 16];

impl WriteOnly {
    /// Chooses who will be able to open: 1 to 8 different recipients.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for none, more, or one twice.
    pub fn new(scope: Scope, recipients: impl IntoIterator<Item = Recipient>) -> Result<Self, Error> {
        let mut writer = Self { scope, recipients: Vec::new() };
        for recipient in recipients {
            writer = writer.escrow(recipient)?;
        }
        if writer.recipients.is_empty() {
            return Err(Error::invalid("a value without a recipient could never be opened"));
        }
        Ok(writer)
    }

    /// Adds a recipient that can open everything sealed from now on: a key that is kept offline for the day when the
    /// others are lost.
    ///
    /// # Errors
    ///
    /// As [`WriteOnly::new`].
    pub fn escrow(mut self, recipient: Recipient) -> Result<Self, Error> {
        if self.recipients.len() >= MAX_RECIPIENTS || self.recipients.contains(&recipient) {
            return Err(Error::invalid("a value has 1 to 8 recipients, each once"));
        }
        self.recipients.push(recipient);
        Ok(self)
    }

    /// Seals one value for a place.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a value that is too long;
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) without random bytes.
    pub fn seal(&self, context: &Context, plaintext: &[u8]) -> Result<Portable, Error> {
        let file_key = data_key(&*Zeroizing::new(fresh::<32>()?))?;
        let entries = self.recipients.iter().map(|recipient| {
            Ok(Entry { kem: recipient.kem, id: recipient.id(), wrapped: recipient.wrap(&file_key)? })
        });
        let header = portable::header(&entries.collect::<Result<Vec<_>, Error>>()?)?;
        let key = body_key(&self.scope, &file_key, &header)?;
        // One message under one key: an age and a count of prefixes do not matter.
        let body = seal(&key, Suite::default(), context, plaintext, std::time::Duration::ZERO)?;
        Portable::join(header, body.as_bytes())
    }
}

impl RecipientKey {
    /// Makes a key pair.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) without random bytes.
    pub fn generate(kem: Kem) -> Result<Self, Error> {
        Self::from_bytes(kem, &kem.generate()?)
    }

    /// Reads a private key as [`RecipientKey::to_bytes`] wrote it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for bytes that are no private key.
    pub fn from_bytes(kem: Kem, secret: &[u8]) -> Result<Self, Error> {
        let public = kem.public_of(secret).ok_or_else(|| Error::invalid("these bytes are no private key"))?;
        Ok(Self { secret: Zeroizing::new(secret.to_vec()), recipient: Recipient { kem, public } })
    }

    /// Returns the private key: 32 bytes, which belong under a KMS or offline.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        self.secret.clone()
    }

    /// Returns the public key.
    #[must_use]
    pub fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// Opens a value that was sealed for this key, scope and place.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Open`](crate::ErrorKind::Open) when it does not open, for whatever reason.
    pub fn open(&self, scope: &Scope, context: &Context, sealed: &Portable) -> Result<Plaintext, Error> {
        let id = self.recipient.id();
        let parts = sealed.parts()?;
        let entry = parts.entries.iter().find(|entry| entry.id == id && entry.kem == self.recipient.kem);
        let wrapped = &entry.ok_or_else(Error::open)?.wrapped;
        let file_key = self.recipient.kem.open(&self.secret, INFO, wrapped).ok_or_else(Error::open)?;
        let key = body_key(scope, &data_key(&file_key).map_err(|_| Error::open())?, parts.header)?;
        open(&key, scope, context, &parts.body)
    }
}

impl Recipient {
    /// Reads a public key as [`Recipient::to_bytes`] wrote it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for bytes that are no public key.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let (kem, public) = bytes.split_first().ok_or_else(no_public_key)?;
        let kem = Kem::from_byte(*kem).ok_or_else(no_public_key)?;
        if !kem.is_public(public) {
            return Err(no_public_key());
        }
        Ok(Self { kem, public: public.to_vec() })
    }

    /// Returns the public key as bytes, the first of which says what it is.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![self.kem as u8];
        out.extend_from_slice(&self.public);
        out
    }

    /// Returns what the key is for.
    #[must_use]
    pub fn kem(&self) -> Kem {
        self.kem
    }

    fn id(&self) -> RecipientId {
        let hash: [u8; 32] = Sha256::new_with_prefix(b"zk-crypto v1 recipient")
            .chain_update(self.to_bytes())
            .finalize()
            .into();
        hash.first_chunk().copied().unwrap_or_default()
    }

    fn wrap(&self, file_key: &DataKey) -> Result<Vec<u8>, Error> {
        let seed = Zeroizing::new(fresh::<32>()?);
        self.kem
            .seal(&self.public, INFO, file_key.expose(), &seed)
            .ok_or_else(|| Error::invalid("nothing can be sealed for this public key"))
    }
}

const INFO: &[u8] = b"zk-crypto v1 portable";

/// SECURITY: the header enters the key, so that no entry can be exchanged, added or removed.
fn body_key(scope: &Scope, file_key: &DataKey, header: &[u8]) -> Result<OpenedKey, Error> {
    let mut key = Zeroizing::new([0; 32]);
    derive(file_key, &[b"portable", header], &mut *key)?;
    OpenedKey::new(scope.clone(), &data_key(&*key)?)
}

fn data_key(bytes: &[u8]) -> Result<DataKey, Error> {
    DataKey::from_slice(bytes).map_err(|_| Error::invalid("a key has 32 bytes"))
}

fn no_public_key() -> Error {
    Error::invalid("these bytes are no public key")
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({:?}, {})", self.kem, HEXLOWER.encode(&self.id()))
    }
}

impl fmt::Debug for RecipientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secret: _, recipient } = self;
        f.debug_struct("RecipientKey").field("secret", &"[redacted]").field("recipient", recipient).finish()
    }
}

#[cfg(test)]
mod tests;
