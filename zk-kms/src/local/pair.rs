//! Key pairs of this machine.

use async_trait::async_trait;
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey},
};
use zeroize::Zeroizing;

use super::{
    ring::{self, Secret},
    stored::Stored,
};
use crate::{AsymmetricKms, DataKey, Error, KeyUri, KeyVersion, PublicKey};

/// RSA key pairs of 3072 bits of this machine, in memory or in a file that a passphrase seals.
///
/// It is to [`PinnedKms`](crate::PinnedKms) what [`LocalKms`](crate::LocalKms) is to [`Kms`](crate::Kms): the embedded
/// backend, and the reference for the laws. The file has the format and the rules of a [`LocalKms`](crate::LocalKms)'s,
/// and at most 128 versions. Decryption is AWS-LC's, which takes the same time whatever it decrypts.
///
/// # Examples
///
/// ```
/// use zk_kms::{AsymmetricKms, LocalKeyPair};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), zk_kms::Error> {
/// let pair = LocalKeyPair::ephemeral("escrow")?;
/// let first = pair.public_key().await?;
/// assert_eq!(pair.rotate()?.as_str(), "2");
/// assert_ne!(pair.public_key().await?.fingerprint(), first.fingerprint());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct LocalKeyPair(pub(super) Stored<Pair>);

/// A private key: as it is written, and ready for use.
pub(super) struct Pair {
    pub(super) pkcs8: Zeroizing<Vec<u8>>,
    pub(super) rsa: PrivateDecryptingKey,
}

impl LocalKeyPair {
    /// Makes key pairs that live in memory and die with this value: for tests and demonstrations.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when `name` cannot stand in a `local:` URI.
    pub fn ephemeral(name: &str) -> Result<Self, Error> {
        Stored::ephemeral(name).map(Self)
    }

    /// Adds a pair, whose public key wraps from now on; the old ones still unwrap. See
    /// [`LocalKms::rotate`](crate::LocalKms::rotate).
    ///
    /// # Errors
    ///
    /// As [`LocalKms::rotate`](crate::LocalKms::rotate).
    pub fn rotate(&self) -> Result<KeyVersion, Error> {
        self.0.rotate()
    }
}

#[async_trait]
impl AsymmetricKms for LocalKeyPair {
    fn uri(&self) -> &KeyUri {
        self.0.uri()
    }

    async fn public_key(&self) -> Result<PublicKey, Error> {
        let ring = self.0.current();
        let (version, pair) = ring.newest();
        let der: PublicKeyX509Der<'_> = pair.rsa.public_key().as_der().map_err(|_| cannot_use())?;
        PublicKey::rsa_oaep_256(self.uri().clone(), version.into(), der.as_ref())
    }

    async fn decrypt(&self, version: &KeyVersion, ciphertext: &[u8]) -> Result<DataKey, Error> {
        let version = ring::parse_version(version).ok_or_else(Error::cannot_unwrap)?;
        let ring = self.0.holding(version)?;
        let pair = ring.version(version).ok_or_else(|| ring::no_version(self.uri(), version))?;
        let rsa = OaepPrivateDecryptingKey::new(pair.rsa.clone()).map_err(|_| cannot_use())?;
        let mut plaintext = Zeroizing::new(vec![0; rsa.min_output_size()]);
        let plaintext = rsa
            .decrypt(&OAEP_SHA256_MGF1SHA256, ciphertext, &mut plaintext, None)
            .map_err(|_| Error::cannot_unwrap())?;
        DataKey::from_slice(plaintext).map_err(|_| Error::cannot_unwrap())
    }
}

impl Secret for Pair {
    const MAX_VERSIONS: usize = 128;

    fn generate() -> Result<Self, Error> {
        let rsa = PrivateDecryptingKey::generate(KeySize::Rsa3072)
            .map_err(|_| Error::unavailable("no key pair could be generated"))?;
        let pkcs8: Pkcs8V1Der<'_> = rsa.as_der().map_err(|_| cannot_use())?;
        Ok(Self { pkcs8: Zeroizing::new(pkcs8.as_ref().to_vec()), rsa })
    }

    fn expose(&self) -> &[u8] {
        &self.pkcs8
    }
}

fn cannot_use() -> Error {
    Error::unavailable("the key pair cannot be used")
}
