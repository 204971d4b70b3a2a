//! Values that carry their key, for private keys and for KMSs that open them elsewhere. SPEC.md, section 12.

mod kem;
mod kms;
mod portable;

use std::fmt;

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;
use zk_kms::DataKey;

use self::portable::{Entry, Kind, Parts};
pub use self::{kem::Kem, kms::KmsWriter, portable::Portable};
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
pub struct Recipient(Public);

#[derive(Clone, PartialEq, Eq)]
enum Public {
    Hpke(Kem, Vec<u8>),
    #[cfg(feature = "rsa")]
    KeyPair(zk_kms::PublicKey),
}

/// A private key, which opens what was sealed for its [`Recipient`]. It is wiped when it is dropped.
pub struct RecipientKey {
    kem: Kem,
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
        let twice = self.recipients.iter().any(|known| known.id() == recipient.id());
        if self.recipients.len() >= MAX_RECIPIENTS || twice {
            return Err(too_many());
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
        let file_key = fresh_key()?;
        let entries: Result<Vec<_>, Error> =
            self.recipients.iter().map(|recipient| recipient.entry(&file_key, &self.scope)).collect();
        seal_for(&self.scope, &entries?, &file_key, context, plaintext)
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
        let recipient = Recipient(Public::Hpke(kem, public));
        Ok(Self { kem, secret: Zeroizing::new(secret.to_vec()), recipient })
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
        let parts = sealed.parts()?;
        let (kind, id) = (self.recipient.kind(), self.recipient.id());
        let entry = parts.entries.iter().find(|entry| entry.id == id && entry.kind == kind);
        let wrapped = &entry.ok_or_else(Error::open)?.wrapped;
        let file_key = self.kem.open(&self.secret, INFO, wrapped).ok_or_else(Error::open)?;
        let file_key = data_key(&file_key).map_err(|_| Error::open())?;
        open_with(&parts, &file_key, scope, context)
    }
}

impl Recipient {
    /// Reads a public key as [`Recipient::to_bytes`] wrote it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for bytes that are no public key.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let (kind, public) = bytes.split_first().ok_or_else(no_public_key)?;
        let kind = Kind::from_byte(*kind).ok_or_else(no_public_key)?;
        if let Some(kem) = kind.kem().filter(|kem| kem.is_public(public)) {
            return Ok(Self(Public::Hpke(kem, public.to_vec())));
        }
        #[cfg(feature = "rsa")]
        if kind == Kind::RsaOaep256 {
            return zk_kms::PublicKey::from_bytes(public).map(Self::key_pair).map_err(|_| no_public_key());
        }
        Err(no_public_key())
    }

    /// Takes the public key of a key pair in a KMS, for RSA-OAEP-256: [`Portable::open_by`] opens with a
    /// [`PinnedKms`](zk_kms::PinnedKms).
    #[cfg(feature = "rsa")]
    #[must_use]
    pub fn key_pair(public_key: zk_kms::PublicKey) -> Self {
        Self(Public::KeyPair(public_key))
    }

    /// Returns the public key as bytes, the first of which says what it is.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![self.kind() as u8];
        match &self.0 {
            Public::Hpke(_, public) => out.extend_from_slice(public),
            #[cfg(feature = "rsa")]
            Public::KeyPair(public_key) => out.extend_from_slice(&public_key.to_bytes()),
        }
        out
    }

    fn kind(&self) -> Kind {
        match &self.0 {
            Public::Hpke(kem, _) => kem.kind(),
            #[cfg(feature = "rsa")]
            Public::KeyPair(_) => Kind::RsaOaep256,
        }
    }

    fn id(&self) -> RecipientId {
        match &self.0 {
            Public::Hpke(kem, public) => kem.kind().id_of(public),
            #[cfg(feature = "rsa")]
            Public::KeyPair(public_key) => Kind::RsaOaep256.id_of(public_key.uri().as_str().as_bytes()),
        }
    }

    #[cfg_attr(
        not(feature = "rsa"),
        expect(unused_variables, reason = "HPKE binds the scope through the body")
    )]
    fn entry(&self, file_key: &DataKey, scope: &Scope) -> Result<Entry, Error> {
        let wrapped = match &self.0 {
            Public::Hpke(kem, public) => kem
                .seal(public, INFO, file_key.expose(), &Zeroizing::new(fresh::<32>()?))
                .ok_or_else(|| Error::invalid("nothing can be sealed for this public key"))?,
            #[cfg(feature = "rsa")]
            Public::KeyPair(public_key) => public_key
                .wrap_key(file_key, &kms::context(scope)?)
                .map_err(|e| Error::kms("cannot wrap the key of a value", e))?
                .to_bytes(),
        };
        Ok(Entry { kind: self.kind(), id: self.id(), wrapped })
    }
}

const INFO: &[u8] = b"zk-crypto v1 portable";

fn fresh_key() -> Result<DataKey, Error> {
    data_key(&*Zeroizing::new(fresh::<32>()?))
}

fn seal_for(
    scope: &Scope,
    entries: &[Entry],
    file_key: &DataKey,
    context: &Context,
    plaintext: &[u8],
) -> Result<Portable, Error> {
    let header = portable::header(entries)?;
    let key = body_key(scope, file_key, &header)?;
    // One message under one key: an age and a count of prefixes do not matter.
    let body = seal(&key, Suite::default(), context, plaintext, std::time::Duration::ZERO)?;
    Portable::join(header, body.as_bytes())
}

fn open_with(
    parts: &Parts<'_>,
    file_key: &DataKey,
    scope: &Scope,
    context: &Context,
) -> Result<Plaintext, Error> {
    open(&body_key(scope, file_key, parts.header)?, scope, context, &parts.body)
}

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

fn too_many() -> Error {
    Error::invalid("a value has 1 to 8 recipients, each once")
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({:?}, {})", self.kind(), HEXLOWER.encode(&self.id()))
    }
}

impl fmt::Debug for RecipientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kem: _, secret: _, recipient } = self;
        f.debug_struct("RecipientKey").field("secret", &"[redacted]").field("recipient", recipient).finish()
    }
}

#[cfg(test)]
mod tests;
