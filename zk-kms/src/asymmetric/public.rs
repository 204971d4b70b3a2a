//! The public half of a key pair.

use std::{fmt, str::FromStr};

#[cfg(feature = "azure")]
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::{
    digest,
    encoding::{AsDer, PublicKeyX509Der},
    rsa::{OaepPublicEncryptingKey, PublicEncryptingKey},
};
use data_encoding::HEXLOWER;

use super::envelope;
use crate::{
    Context, DataKey, Error, KeyUri, KeyVersion, WrappedKey,
    key::{read_record, write_record},
};

/// The first bytes of an encoded public key: name and version of the encoding.
const MAGIC: &[u8; 4] = b"ZKK1";
/// An RSA key of 8192 bits needs less.
const MAX_DER: usize = 2048;

/// The public key of one version of a key pair, for RSA-OAEP with SHA-256: wraps without asking the service.
///
/// It is not secret, but whoever can exchange it reads what is wrapped from then on: keep it with the configuration, or
/// compare its [`PublicKey::fingerprint`] with one that is kept there.
///
/// # Examples
///
/// ```
/// use zk_kms::{AsymmetricKms, LocalKeyPair, PublicKey};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), zk_kms::Error> {
/// let public_key = LocalKeyPair::ephemeral("escrow")?.public_key().await?;
/// assert_eq!(PublicKey::from_bytes(&public_key.to_bytes())?, public_key);
///
/// let (uri, version) = (public_key.uri().clone(), public_key.version().clone());
/// assert_eq!(PublicKey::rsa_oaep_256(uri, version, public_key.der())?, public_key);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PublicKey {
    uri: KeyUri,
    version: KeyVersion,
    der: Vec<u8>,
    rsa: PublicEncryptingKey,
}

/// What identifies a public key: SHA-256 of its DER encoding, written as 64 hexadecimal digits.
///
/// `openssl pkey -pubin -in key.pem -outform der | sha256sum` prints the same.
///
/// ```
/// use zk_kms::Fingerprint;
///
/// let text = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
/// assert_eq!(text.parse::<Fingerprint>()?.to_string(), text);
/// assert!("9f86".parse::<Fingerprint>().is_err());
/// # Ok::<(), zk_kms::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl PublicKey {
    /// Reads an RSA public key of 2048 to 8192 bits, for those who implement [`AsymmetricKms`](crate::AsymmetricKms).
    ///
    /// `der` is a `SubjectPublicKeyInfo` ([RFC 5280](https://www.rfc-editor.org/rfc/rfc5280), section 4.1), which is what
    /// the services return, inside PEM or as it is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for anything else.
    pub fn rsa_oaep_256(uri: KeyUri, version: KeyVersion, der: &[u8]) -> Result<Self, Error> {
        let no_key = || Error::invalid("these bytes are no RSA public key of 2048 to 8192 bits");
        if der.len() > MAX_DER {
            return Err(no_key());
        }
        let rsa = PublicEncryptingKey::from_der(der).map_err(|_| no_key())?;
        // One encoding for each key, whatever the service adds.
        let canonical: PublicKeyX509Der<'_> = rsa.as_der().map_err(|_| no_key())?;
        Ok(Self { uri, version, der: canonical.as_ref().to_vec(), rsa })
    }

    /// The error for what a service shows in place of such a key: not the caller's mistake.
    #[cfg(feature = "_remote")]
    pub(crate) fn unusable(uri: &KeyUri) -> Error {
        let text = format!("`{uri}` exists and is no RSA key pair of 2048 to 8192 bits");
        Error::new(crate::ErrorKind::Unsupported, text)
    }

    /// Reads the two numbers of a public key, as JSON Web Keys have them
    /// ([RFC 7518](https://www.rfc-editor.org/rfc/rfc7518), section 6.3.1).
    #[cfg(feature = "azure")]
    pub(crate) fn of_numbers(uri: KeyUri, version: KeyVersion, n: &[u8], e: &[u8]) -> Result<Self, Error> {
        let no_key = || Error::invalid("these numbers are no RSA public key");
        if n.len() > MAX_DER || e.len() > 8 {
            return Err(no_key());
        }
        let der: PublicKeyX509Der<'_> = PublicKeyComponents { n, e }.as_der().map_err(|_| no_key())?;
        Self::rsa_oaep_256(uri, version, der.as_ref())
    }

    /// Returns the key pair.
    #[must_use]
    pub fn uri(&self) -> &KeyUri {
        &self.uri
    }

    /// Returns the version of the key pair.
    #[must_use]
    pub fn version(&self) -> &KeyVersion {
        &self.version
    }

    /// Returns the `SubjectPublicKeyInfo`, in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Returns what to compare with a configured fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let hash = digest::digest(&digest::SHA256, &self.der);
        Fingerprint(hash.as_ref().try_into().unwrap_or_default())
    }

    /// Wraps a data key, bound to `context`. Only the service can unwrap it, through [`PinnedKms`](crate::PinnedKms).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) without random bytes.
    pub fn wrap_key(&self, key: &DataKey, context: &Context) -> Result<WrappedKey, Error> {
        let rsa = OaepPublicEncryptingKey::new(self.rsa.clone())
            .map_err(|_| Error::invalid("nothing can be encrypted for this public key"))?;
        envelope::wrap(self, &rsa, key, context)
    }

    /// Writes `ZKK1`, then URI, version and DER, each after its length as 2 bytes big-endian: to be kept with the
    /// configuration.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        write_record(MAGIC, [self.uri.as_str().as_bytes(), self.version.as_str().as_bytes(), &self.der])
    }

    /// Reads what [`PublicKey::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for any other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let no_key = || Error::invalid("these bytes are not a public key");
        let (uri, version, der) = read_record(MAGIC, bytes).ok_or_else(no_key)?;
        let read = Self::rsa_oaep_256(KeyUri::parse(uri)?, KeyVersion::new(version)?, der)?;
        // The parsers of URIs and keys take some spellings that they would not write.
        if read.der == der && read.uri.as_str() == uri { Ok(read) } else { Err(no_key()) }
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        let Self { uri, version, der, rsa: _ } = self;
        *uri == other.uri && *version == other.version && *der == other.der
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} version {}, {})", self.uri, self.version, self.fingerprint())
    }
}

impl FromStr for Fingerprint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| Error::invalid("a fingerprint is 64 lower-case hexadecimal digits"))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}
