//! The bytes of a value that carries its wrapped keys: SPEC.md, section 12.

use std::fmt;

use sha2::{Digest, Sha256};

use super::{Kem, MAX_RECIPIENTS, RecipientId};
use crate::{Error, Sealed};

const MAGIC: &[u8; 4] = b"ZKP\x01";
const MAX_WRAPPED: usize = 4096;
/// More than 8 entries of 4096 bytes need; said once more so that a change of either is noticed.
const MAX_HEADER: usize = 64 * 1024;

/// A value that carries its key, wrapped for each recipient. Only opening tells whether it is genuine.
///
/// Beside the plaintext it has 62 bytes, and for each recipient 99 (X25519), 1187 (X-Wing), or 19 and what a KMS makes of
/// a key, at most 4115. Store it as `bytea`.
///
/// ```
/// use zk_crypto::Portable;
///
/// assert!(Portable::parse(b"ZKP\x01\x00").is_err(), "nobody could open it");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Portable {
    bytes: Vec<u8>,
}

/// One wrapped key.
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) id: RecipientId,
    pub(super) wrapped: Vec<u8>,
}

/// Who opens an entry, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    X25519 = 0x01,
    XWing = 0x02,
    Kms = 0x03,
    RsaOaep256 = 0x04,
}

impl Kind {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        [Self::X25519, Self::XWing, Self::Kms, Self::RsaOaep256].into_iter().find(|kind| *kind as u8 == byte)
    }

    pub(super) fn kem(self) -> Option<Kem> {
        match self {
            Self::X25519 => Some(Kem::X25519),
            Self::XWing => Some(Kem::XWing),
            Self::Kms | Self::RsaOaep256 => None,
        }
    }

    /// What names a recipient of this kind in a value: `name` is its public key, or the URI of its key in a KMS.
    pub(super) fn id_of(self, name: &[u8]) -> RecipientId {
        let hash: [u8; 32] = Sha256::new_with_prefix(b"zk-crypto v1 recipient")
            .chain_update([self as u8])
            .chain_update(name)
            .finalize()
            .into();
        hash.first_chunk().copied().unwrap_or_default()
    }
}

/// A value taken apart.
pub(super) struct Parts<'a> {
    /// Everything before the body.
    pub(super) header: &'a [u8],
    pub(super) entries: Vec<Entry>,
    pub(super) body: Sealed,
}

impl Portable {
    /// Reads bytes from storage.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Open`](crate::ErrorKind::Open) when they cannot be such a value: the same as when it does not open.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        parts(bytes).ok_or_else(Error::open)?;
        Ok(Self { bytes: bytes.to_vec() })
    }

    /// Returns the bytes to store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn join(mut header: Vec<u8>, body: &[u8]) -> Result<Self, Error> {
        header.extend_from_slice(body);
        Self::parse(&header)
    }

    pub(super) fn parts(&self) -> Result<Parts<'_>, Error> {
        parts(&self.bytes).ok_or_else(Error::open)
    }
}

pub(super) fn header(entries: &[Entry]) -> Result<Vec<u8>, Error> {
    let too_long = || Error::invalid("a wrapped key is at most 4096 bytes");
    let mut out = MAGIC.to_vec();
    out.push(u8::try_from(entries.len()).map_err(|_| too_long())?);
    for Entry { kind, id, wrapped } in entries {
        if wrapped.len() > MAX_WRAPPED {
            return Err(too_long());
        }
        out.push(*kind as u8);
        out.extend_from_slice(id);
        out.extend_from_slice(&u16::try_from(wrapped.len()).map_err(|_| too_long())?.to_be_bytes());
        out.extend_from_slice(wrapped);
    }
    Ok(out)
}

/// SECURITY: every count and length is checked before anything is allocated by it.
fn parts(bytes: &[u8]) -> Option<Parts<'_>> {
    let (count, mut rest) = bytes.strip_prefix(MAGIC)?.split_first()?;
    let count = usize::from(*count);
    if count == 0 || count > MAX_RECIPIENTS {
        return None;
    }
    let mut entries: Vec<Entry> = Vec::with_capacity(count);
    for _ in 0..count {
        let (kind, after) = rest.split_first()?;
        let (id, after) = after.split_first_chunk::<16>()?;
        let (len, after) = after.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_be_bytes(*len));
        if len > MAX_WRAPPED || entries.iter().any(|entry| entry.id == *id) {
            return None;
        }
        let (wrapped, after) = after.split_at_checked(len)?;
        entries.push(Entry { kind: Kind::from_byte(*kind)?, id: *id, wrapped: wrapped.to_vec() });
        rest = after;
    }
    let header = bytes.get(..bytes.len() - rest.len()).filter(|header| header.len() <= MAX_HEADER)?;
    Some(Parts { header, entries, body: Sealed::parse(rest).ok()? })
}

impl fmt::Debug for Portable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recipients = parts(&self.bytes).map_or(0, |parts| parts.entries.len());
        write!(f, "Portable({recipients} recipients, {} bytes)", self.bytes.len())
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::error::Error as StdError;

    use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, private::BytesMut, to_sql_checked};

    use super::Portable;

    impl ToSql for Portable {
        fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
            self.as_bytes().to_sql(ty, out)
        }

        fn accepts(ty: &Type) -> bool {
            *ty == Type::BYTEA
        }

        to_sql_checked!();
    }

    impl<'a> FromSql<'a> for Portable {
        fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
            Ok(Self::parse(raw)?)
        }

        fn accepts(ty: &Type) -> bool {
            *ty == Type::BYTEA
        }
    }
}
