//! Each law of key pairs catches a backend that breaks it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use async_trait::async_trait;
use zk_kms::{
    AsymmetricKms, DataKey, Error, ErrorKind, KeyUri, KeyVersion, LocalKeyPair, PublicKey,
    testing::{self, Broken},
};

/// What a backend does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    NamesAnotherPair,
    ShowsANewKeyEachTime,
    DecryptsToAnotherKey,
    AnswersDamageWithAKey,
    IgnoresWhatFollows,
    MistakesVersionsForOutages,
    ForgetsOldPairs,
    KeepsVersion,
    KeepsPair,
}

fn caught(result: Result<(), Broken>, law: &str) {
    assert_eq!(result.expect_err("the law did not catch it").law(), law);
}

#[tokio::test]
async fn public_key_alone_wraps() {
    for fault in [Fault::NamesAnotherPair, Fault::ShowsANewKeyEachTime, Fault::DecryptsToAnotherKey] {
        caught(testing::public_key_alone_wraps(broken(fault)).await, "public_key_alone_wraps");
    }
}

#[tokio::test]
async fn only_its_blocks_decrypt() {
    for fault in [Fault::AnswersDamageWithAKey, Fault::IgnoresWhatFollows] {
        let result = testing::only_its_blocks_decrypt(broken(fault), broken(Fault::None)).await;
        caught(result, "only_its_blocks_decrypt");
    }
}

#[tokio::test]
async fn version_is_bound() {
    caught(testing::version_is_bound(broken(Fault::MistakesVersionsForOutages)).await, "version_is_bound");
}

#[tokio::test]
async fn old_pairs_still_unwrap() {
    for fault in [Fault::ForgetsOldPairs, Fault::KeepsVersion, Fault::KeepsPair] {
        let service = broken(fault);
        let rotate = || async { service.rotate() };
        caught(testing::old_pairs_still_unwrap(service.clone(), rotate).await, "old_pairs_still_unwrap");
    }
}

/// The broken backends are good ones apart from their fault.
#[tokio::test]
async fn the_fault_is_what_is_caught() {
    let service = broken(Fault::None);
    testing::public_key_alone_wraps(service.clone()).await.unwrap();
    testing::only_its_blocks_decrypt(service.clone(), broken(Fault::None)).await.unwrap();
    testing::version_is_bound(service.clone()).await.unwrap();
    testing::old_pairs_still_unwrap(service.clone(), || async { service.rotate() }).await.unwrap();
}

/// Key pairs around the local ones that do one thing wrong.
#[derive(Debug)]
struct Faulty {
    inner: LocalKeyPair,
    fault: Fault,
    /// What the outside calls the current version.
    version: AtomicU32,
}

fn broken(fault: Fault) -> Arc<Faulty> {
    let inner = LocalKeyPair::ephemeral("faulty").unwrap();
    Arc::new(Faulty { inner, fault, version: AtomicU32::new(1) })
}

impl Faulty {
    fn rotate(&self) -> Result<(), Error> {
        if self.fault != Fault::KeepsPair {
            self.inner.rotate()?;
        }
        if self.fault != Fault::KeepsVersion {
            self.version.fetch_add(1, SeqCst);
        }
        Ok(())
    }

    fn current(&self) -> KeyVersion {
        self.version.load(SeqCst).into()
    }
}

#[async_trait]
impl AsymmetricKms for Faulty {
    fn uri(&self) -> &KeyUri {
        self.inner.uri()
    }

    async fn public_key(&self) -> Result<PublicKey, Error> {
        if self.fault == Fault::ShowsANewKeyEachTime {
            self.inner.rotate()?;
        }
        let shown = self.inner.public_key().await?;
        let uri = match self.fault {
            Fault::NamesAnotherPair => KeyUri::local("another")?,
            _ => self.uri().clone(),
        };
        PublicKey::rsa_oaep_256(uri, self.current(), shown.der())
    }

    async fn decrypt(&self, version: &KeyVersion, ciphertext: &[u8]) -> Result<DataKey, Error> {
        if self.fault == Fault::ForgetsOldPairs && *version != self.current() {
            return Err(Error::new(ErrorKind::NotFound, "gone"));
        }
        let inner = match self.fault {
            Fault::KeepsPair => KeyVersion::from(1),
            Fault::KeepsVersion => self.inner.public_key().await?.version().clone(),
            _ => version.clone(),
        };
        let len = if self.fault == Fault::IgnoresWhatFollows { 384 } else { ciphertext.len() };
        let block = ciphertext.get(..len).unwrap_or(ciphertext);
        match (self.fault, self.inner.decrypt(&inner, block).await) {
            (Fault::DecryptsToAnotherKey, Ok(_)) => DataKey::generate(),
            (Fault::AnswersDamageWithAKey, Err(_)) => DataKey::generate(),
            (Fault::MistakesVersionsForOutages, Err(_)) => Err(Error::new(ErrorKind::Unavailable, "away")),
            (_, decrypted) => decrypted,
        }
    }
}
