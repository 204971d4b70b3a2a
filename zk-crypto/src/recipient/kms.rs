//! Values whose key a KMS wrapped, or a key pair in one.

use std::sync::Arc;

use zk_kms::{ErrorKind, Kms, WrappedKey};

use super::{
    Entry, INFO, Kind, MAX_RECIPIENTS, Portable, Recipient, RecipientId, fresh_key, open_with,
    portable::Parts, seal_for, too_many,
};
use crate::{Context, Error, Plaintext, Scope};

/// Seals values that carry their key, wrapped by KMSs: for what leaves the database, such as files and messages.
///
/// Each value has a key of its own, and each KMS is asked once for each value, so this is not for the columns of a table:
/// those are an [`Encryptor`](crate::Encryptor)'s. With more than one KMS, any of them opens.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use zk_crypto::{Context, Kem, KmsWriter, RecipientKey, Scope};
/// use zk_kms::LocalKms;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let kms = Arc::new(LocalKms::ephemeral("exports")?);
/// let escrow = RecipientKey::generate(Kem::XWing)?;
/// let scope = Scope::tenant("7f9c")?;
/// let writer = KmsWriter::new(scope.clone(), [kms.clone() as _])?.escrow(escrow.recipient().clone())?;
///
/// let place = Context::purpose("export");
/// let value = writer.seal(&place, b"confidential").await?;
/// assert_eq!(value.open_by(&*kms, &scope, &place).await?.as_slice(), b"confidential");
/// assert_eq!(escrow.open(&scope, &place, &value)?.as_slice(), b"confidential");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct KmsWriter {
    scope: Scope,
    services: Vec<Arc<dyn Kms>>,
    recipients: Vec<Recipient>,
}

impl KmsWriter {
    /// Chooses which KMSs will be able to open: 1 to 8 different keys.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for none, more, or one twice.
    pub fn new(scope: Scope, services: impl IntoIterator<Item = Arc<dyn Kms>>) -> Result<Self, Error> {
        let services: Vec<_> = services.into_iter().collect();
        let twice = services
            .iter()
            .enumerate()
            .any(|(i, kms)| services.iter().skip(i + 1).any(|k| k.uri() == kms.uri()));
        if services.is_empty() || services.len() > MAX_RECIPIENTS || twice {
            return Err(too_many());
        }
        Ok(Self { scope, services, recipients: Vec::new() })
    }

    /// Adds a public key that can open everything sealed from now on. See [`WriteOnly::escrow`](super::WriteOnly::escrow).
    ///
    /// # Errors
    ///
    /// As [`KmsWriter::new`].
    pub fn escrow(mut self, recipient: Recipient) -> Result<Self, Error> {
        let id = recipient.id();
        let twice = self.recipients.iter().any(|known| known.id() == id)
            || self.services.iter().any(|kms| kind_and_id(&**kms).1 == id);
        if self.services.len() + self.recipients.len() >= MAX_RECIPIENTS || twice {
            return Err(too_many());
        }
        self.recipients.push(recipient);
        Ok(self)
    }

    /// Seals one value for a place. Every KMS has to answer.
    ///
    /// # Errors
    ///
    /// What the KMS answers; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a value that is too long, and for a
    /// wrapped key of more than 4096 bytes.
    pub async fn seal(&self, context: &Context, plaintext: &[u8]) -> Result<Portable, Error> {
        let file_key = fresh_key()?;
        let kms_context = self::context(&self.scope)?;
        let mut entries = Vec::new();
        for kms in &self.services {
            let wrapped = kms
                .wrap_key(&file_key, &kms_context)
                .await
                .map_err(|e| Error::kms("cannot wrap the key of a value", e))?;
            let (kind, id) = kind_and_id(&**kms);
            entries.push(Entry { kind, id, wrapped: wrapped.to_bytes() });
        }
        for recipient in &self.recipients {
            entries.push(recipient.entry(&file_key, &self.scope)?);
        }
        seal_for(&self.scope, &entries, &file_key, context, plaintext)
    }
}

impl Portable {
    /// Opens a value that was sealed for this KMS, or for the public key of this key pair, and for this scope and place.
    ///
    /// SECURITY: only the given KMS is asked, and only for an entry that names its key. Nothing in the value chooses one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Open`](crate::ErrorKind::Open) when it does not open, for whatever reason in the value;
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable), [`ErrorKind::Denied`](crate::ErrorKind::Denied) and
    /// [`ErrorKind::Disabled`](crate::ErrorKind::Disabled) when the KMS says so.
    pub async fn open_by(&self, kms: &dyn Kms, scope: &Scope, context: &Context) -> Result<Plaintext, Error> {
        let parts = self.parts()?;
        let wrapped = wrapped_by(&parts, kms).ok_or_else(Error::open)?;
        let file_key = match kms.unwrap_key(&wrapped, &self::context(scope)?).await {
            Ok(file_key) => file_key,
            Err(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound) => {
                return Err(Error::open());
            }
            Err(error) => return Err(Error::kms("cannot unwrap the key of a value", error)),
        };
        open_with(&parts, &file_key, scope, context)
    }
}

fn wrapped_by(parts: &Parts<'_>, kms: &dyn Kms) -> Option<WrappedKey> {
    let (kind, id) = kind_and_id(kms);
    let entry = parts.entries.iter().find(|entry| entry.kind == kind && entry.id == id)?;
    let wrapped = WrappedKey::from_bytes(&entry.wrapped).ok()?;
    (wrapped.uri() == kms.uri()).then_some(wrapped)
}

fn kind_and_id(kms: &dyn Kms) -> (Kind, RecipientId) {
    let kind = if kms.capabilities().wraps_with_public_key() { Kind::RsaOaep256 } else { Kind::Kms };
    (kind, kind.id_of(kms.uri().as_str().as_bytes()))
}

/// What the key of a value is bound to in a KMS.
pub(super) fn context(scope: &Scope) -> Result<zk_kms::Context, Error> {
    zk_kms::Context::new()
        .with("for", INFO)
        .and_then(|context| context.with("scope", scope.as_str()))
        .map_err(|e| Error::invalid("this scope cannot stand in a context of a KMS").with_source(e))
}
