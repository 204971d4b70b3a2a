//! What the other program used for a KMS: an answer that it wrote down, and an RSA key.

use async_trait::async_trait;
use serde_json::Value;
use zk_kms::{Capabilities, Context, DataKey, Error, ErrorKind, KeyStatus, KeyUri, Kms, WrappedKey};

/// A KMS that knows one wrapped key, and the context it was wrapped with.
#[derive(Debug)]
pub(crate) struct Recorded {
    uri: KeyUri,
    context: Vec<u8>,
    bytes: Vec<u8>,
    key: Vec<u8>,
}

impl Recorded {
    pub(crate) fn new(vector: &Value) -> Self {
        Self {
            uri: vector["uri"].as_str().unwrap().parse().unwrap(),
            context: hex(&vector["context"]),
            bytes: hex(&vector["bytes"]),
            key: hex(&vector["key"]),
        }
    }
}

#[async_trait]
impl Kms for Recorded {
    fn uri(&self) -> &KeyUri {
        &self.uri
    }

    async fn wrap_key(&self, _: &DataKey, _: &Context) -> Result<WrappedKey, Error> {
        Err(Error::new(ErrorKind::Unsupported, "it only remembers"))
    }

    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, Error> {
        assert_eq!((wrapped.bytes(), context.encode()), (&*self.bytes, self.context.clone()));
        DataKey::from_slice(&self.key)
    }

    async fn status(&self) -> Result<KeyStatus, Error> {
        Ok(KeyStatus::enabled(1.into()))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
}

pub(crate) fn hex(value: &Value) -> Vec<u8> {
    crate::hex(value.as_str().unwrap())
}

#[cfg(feature = "rsa")]
pub(crate) use rsa::key_pair;

#[cfg(feature = "rsa")]
mod rsa {
    use std::sync::Arc;

    use aws_lc_rs::{
        encoding::{AsDer, PublicKeyX509Der},
        rsa::{OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey},
    };
    use zk_kms::{AsymmetricKms, KeyVersion, PinnedKms, PublicKey};

    use super::*;

    /// The service of a key pair whose private key the vectors show.
    #[derive(Debug)]
    struct Service {
        uri: KeyUri,
        private: PrivateDecryptingKey,
    }

    pub(crate) async fn key_pair(vector: &Value) -> PinnedKms {
        let uri = vector["uri"].as_str().unwrap().parse().unwrap();
        let private = PrivateDecryptingKey::from_pkcs8(&hex(&vector["private"])).unwrap();
        let service = Arc::new(Service { uri, private });
        let public_key = service.public_key().await.unwrap();
        PinnedKms::new(service, public_key).unwrap()
    }

    #[async_trait]
    impl AsymmetricKms for Service {
        fn uri(&self) -> &KeyUri {
            &self.uri
        }

        async fn public_key(&self) -> Result<PublicKey, Error> {
            let der: PublicKeyX509Der<'_> = self.private.public_key().as_der().unwrap();
            PublicKey::rsa_oaep_256(self.uri.clone(), KeyVersion::from(1), der.as_ref())
        }

        async fn decrypt(&self, _: &KeyVersion, ciphertext: &[u8]) -> Result<DataKey, Error> {
            let rsa = OaepPrivateDecryptingKey::new(self.private.clone()).unwrap();
            let mut out = vec![0; rsa.min_output_size()];
            let key = rsa.decrypt(&OAEP_SHA256_MGF1SHA256, ciphertext, &mut out, None);
            DataKey::from_slice(key.map_err(|_| Error::new(ErrorKind::Invalid, "no"))?)
        }
    }
}
