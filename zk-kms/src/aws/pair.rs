//! RSA key pairs in AWS KMS.

use std::fmt;

use async_trait::async_trait;
use aws_sdk_kms::{
    primitives::Blob,
    types::{EncryptionAlgorithmSpec, KeyUsageType},
};
use zeroize::Zeroizing;

use super::{
    AwsKms, error,
    error::{failure, unwrapping_failure},
};
use crate::{
    AsymmetricKms, Capabilities, DataKey, Error, ErrorKind, KeyUri, KeyVersion, OpenConfig, PublicKey,
};

/// An RSA key pair of AWS KMS, of usage `ENCRYPT_DECRYPT`: hold it in a [`PinnedKms`](crate::PinnedKms).
///
/// # Examples
///
/// ```no_run
/// use std::sync::Arc;
/// use zk_kms::{AsymmetricKms, AwsKeyPair, OpenConfig, PinnedKms};
///
/// # async fn start() -> Result<(), zk_kms::Error> {
/// let uri = "aws-kms://arn:aws:kms:eu-west-1:111122223333:alias/escrow".parse()?;
/// let pair = Arc::new(AwsKeyPair::open(&uri, &OpenConfig::new()).await?);
/// println!("{}", pair.public_key().await?.fingerprint());
/// # Ok(()) }
/// ```
pub struct AwsKeyPair(AwsKms);

impl AwsKeyPair {
    /// Opens a key pair.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when the URI is not one of AWS.
    pub async fn open(uri: &KeyUri, config: &OpenConfig) -> Result<Self, Error> {
        AwsKms::open(uri, config).await.map(Self)
    }
}

#[async_trait]
impl AsymmetricKms for AwsKeyPair {
    fn uri(&self) -> &KeyUri {
        &self.0.uri
    }

    async fn public_key(&self) -> Result<PublicKey, Error> {
        let request = self.0.client.get_public_key().key_id(self.0.arn());
        let answer = request.send().await.map_err(|e| failure(&e))?;
        if answer.key_usage != Some(KeyUsageType::EncryptDecrypt) {
            let text = format!("`{}` is no key pair for encryption", self.0.uri);
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let version = self.0.version(answer.key_id.as_deref())?;
        let der = answer.public_key.ok_or_else(error::malformed)?.into_inner();
        PublicKey::rsa_oaep_256(self.0.uri.clone(), version, &der)
            .map_err(|_| PublicKey::unusable(&self.0.uri))
    }

    async fn decrypt(&self, version: &KeyVersion, ciphertext: &[u8]) -> Result<DataKey, Error> {
        let request = self
            .0
            .client
            .decrypt()
            .key_id(self.0.key_of(version)?)
            .encryption_algorithm(EncryptionAlgorithmSpec::RsaesOaepSha256)
            .ciphertext_blob(Blob::new(ciphertext));
        let answer = request.send().await.map_err(|e| unwrapping_failure(&e))?;
        let key = Zeroizing::new(answer.plaintext.ok_or_else(error::malformed)?.into_inner());
        DataKey::from_slice(&key).map_err(|_| Error::cannot_unwrap())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default().with_hardware()
    }
}

impl fmt::Debug for AwsKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsKeyPair").field("uri", &self.0.uri).finish_non_exhaustive()
    }
}
