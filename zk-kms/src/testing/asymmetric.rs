//! What holds for a key pair beside the laws of a KMS.

use std::sync::Arc;

use super::{Broken, laws::Law};
use crate::{AsymmetricKms, DataKey, Error, ErrorKind, Kms, PinnedKms, PublicKey, WrappedKey};

/// Makes a [`Kms`] of a key pair, for the laws of the symmetric backends: they all hold for it too, apart from
/// [`old_versions_still_unwrap`](super::old_versions_still_unwrap), which [`old_pairs_still_unwrap`] replaces.
///
/// # Errors
///
/// What the service answers.
pub async fn pinned(service: Arc<dyn AsymmetricKms>) -> Result<PinnedKms, Error> {
    let public_key = service.public_key().await?;
    PinnedKms::new(service, public_key)
}

/// The public key alone wraps, also after it was stored, and names the service's key pair.
///
/// # Errors
///
/// [`Broken`] when the service does not unwrap it, or the public key names another pair.
pub async fn public_key_alone_wraps(service: Arc<dyn AsymmetricKms>) -> Result<(), Broken> {
    let law = Law("public_key_alone_wraps");
    let public_key = law.ok("fetch", service.public_key().await)?;
    law.holds(public_key.uri() == service.uri(), "the public key names another pair")?;
    let again = law.ok("fetch", service.public_key().await)?;
    law.holds(public_key == again, "the public key differs from call to call")?;
    let stored = law.ok("read", PublicKey::from_bytes(&public_key.to_bytes()))?;
    let (key, context) = (law.key()?, law.context("a")?);
    let wrapped = law.ok("wrap", stored.wrap_key(&key, &context))?;
    let kms = law.ok("pin", PinnedKms::fetch(service, &stored.fingerprint()).await)?;
    let back = law.ok("unwrap", kms.unwrap_key(&wrapped, &context).await)?;
    law.holds(back == key, "another key came back")
}

/// The service decrypts 32 bytes that were encrypted for it, and nothing else: no changed, cut or foreign block.
///
/// # Errors
///
/// [`Broken`] when it does, or fails with another kind than [`ErrorKind::Invalid`].
pub async fn only_its_blocks_decrypt(
    service: Arc<dyn AsymmetricKms>,
    other: Arc<dyn AsymmetricKms>,
) -> Result<(), Broken> {
    let law = Law("only_its_blocks_decrypt");
    let public_key = law.ok("fetch", service.public_key().await)?;
    let version = public_key.version();
    let block = block_for(&law, &public_key)?;
    law.ok("decrypt", service.decrypt(version, &block).await)?;
    for at in [0, block.len() / 2, block.len().saturating_sub(1)] {
        let mut changed = block.clone();
        if let Some(byte) = changed.get_mut(at) {
            *byte ^= 1;
        }
        law.invalid(&format!("a change in byte {at}"), service.decrypt(version, &changed).await)?;
    }
    let cut = block.split_last().map_or(&[][..], |(_, cut)| cut);
    law.invalid("a cut", service.decrypt(version, cut).await)?;
    law.invalid("a byte more", service.decrypt(version, &[&block[..], &[0]].concat()).await)?;
    let foreign = block_for(&law, &law.ok("fetch", other.public_key().await)?)?;
    law.invalid("a block for another pair", service.decrypt(version, &foreign).await)
}

/// A wrapped key that claims another version does not unwrap, even where the service ignores versions.
///
/// # Errors
///
/// [`Broken`] when it does, or fails with another kind than [`ErrorKind::Invalid`] or [`ErrorKind::NotFound`].
pub async fn version_is_bound(service: Arc<dyn AsymmetricKms>) -> Result<(), Broken> {
    let law = Law("version_is_bound");
    let kms = law.ok("pin", pinned(service).await)?;
    let context = law.context("a")?;
    let wrapped = law.ok("wrap", kms.wrap_key(&law.key()?, &context).await)?;
    for version in [0x7fff_ffff_u32.into(), law.ok("version", crate::KeyVersion::new("another"))?] {
        let renamed = WrappedKey::new(wrapped.uri().clone(), version, wrapped.bytes().to_vec());
        match kms.unwrap_key(&law.ok("rename", renamed)?, &context).await {
            Ok(_) => return Err(law.broken("another version was accepted")),
            Err(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound) => {}
            Err(error) => return Err(law.broken(format!("another version gave {:?}", error.kind()))),
        }
    }
    Ok(())
}

/// After `rotate`, the service shows a new public key with a new version, and keys wrapped for the old one still unwrap.
///
/// # Errors
///
/// [`Broken`] when the version or the key stays, or the old key is lost.
pub async fn old_pairs_still_unwrap<F, R>(service: Arc<dyn AsymmetricKms>, rotate: F) -> Result<(), Broken>
where
    F: FnOnce() -> R,
    R: Future<Output = Result<(), Error>>,
{
    let law = Law("old_pairs_still_unwrap");
    let (key, context) = (law.key()?, law.context("a")?);
    let before = law.ok("pin", pinned(Arc::clone(&service)).await)?;
    let old = law.ok("wrap", before.wrap_key(&key, &context).await)?;
    law.ok("rotate", rotate().await)?;
    let after = law.ok("pin", pinned(service).await)?;
    let new = law.ok("wrap", after.wrap_key(&key, &context).await)?;
    law.holds(new.version() != old.version(), "the version stayed the same")?;
    let (old_print, new_print) = (before.public_key().fingerprint(), after.public_key().fingerprint());
    law.holds(old_print != new_print, "the public key stayed the same")?;
    for (kms, wrapped) in [(&before, &old), (&before, &new), (&after, &old), (&after, &new)] {
        let back: DataKey = law.ok("unwrap", kms.unwrap_key(wrapped, &context).await)?;
        law.holds(back == key, "another key came back")?;
    }
    Ok(())
}

/// One RSA block with a key in it, as [`PublicKey::wrap_key`] makes them.
fn block_for(law: &Law, public_key: &PublicKey) -> Result<Vec<u8>, Broken> {
    let wrapped = law.ok("wrap", public_key.wrap_key(&law.key()?, &law.context("a")?))?;
    let envelope = law.ok("read", crate::asymmetric::Envelope::parse(&wrapped))?;
    Ok(envelope.encrypted.to_vec())
}
