//! A data key as it is stored.

use std::fmt;

use crate::{Error, KeyUri, Service};

/// The first bytes of an encoded wrapped key: name and version of the encoding.
const MAGIC: &[u8; 4] = b"ZKW1";
const MAX_BYTES: usize = 4096;
/// Eight wrapped keys, each with the longest URI and version, and what `AnyOf` puts around them.
const MAX_ANY_OF: usize = 39 * 1024;
const MAX_VERSION: usize = 128;

/// A data key under a key-encryption key (KEK): which KEK, which version of it, and what the service returned.
///
/// It is not secret. It names its KEK so that a reader can refuse keys it did not choose, and its version so that a
/// rotation job can tell which keys still need to be wrapped again.
///
/// # Examples
///
/// ```
/// use zk_kms::{KeyUri, KeyVersion, WrappedKey};
///
/// let wrapped = WrappedKey::new(KeyUri::local("demo")?, KeyVersion::new("3")?, vec![1, 2, 3])?;
/// assert_eq!(WrappedKey::from_bytes(&wrapped.to_bytes())?, wrapped);
/// # Ok::<(), zk_kms::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct WrappedKey {
    uri: KeyUri,
    version: KeyVersion,
    bytes: Vec<u8>,
}

/// The version of a key-encryption key, as its service writes it.
///
/// Text, because services disagree: numbers, hexadecimal, or `-` where the service keeps versions to itself.
///
/// ```
/// assert_eq!(zk_kms::KeyVersion::new("7")?.as_str(), "7");
/// assert!(zk_kms::KeyVersion::new("7\n").is_err());
/// # Ok::<(), zk_kms::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyVersion(String);

impl WrappedKey {
    /// Puts a wrapped key together, for those who implement [`Kms`](crate::Kms).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when there are no bytes or more than 4096; for
    /// `any-of:`, which holds up to 8 of others, more than 39 936.
    pub fn new(uri: KeyUri, version: KeyVersion, bytes: Vec<u8>) -> Result<Self, Error> {
        let max = if uri.service() == Service::AnyOf { MAX_ANY_OF } else { MAX_BYTES };
        if bytes.is_empty() || bytes.len() > max {
            return Err(Error::invalid(format!("a wrapped key has 1 to {max} bytes")));
        }
        Ok(Self { uri, version, bytes })
    }

    /// Returns the key-encryption key that wrapped it.
    #[must_use]
    pub fn uri(&self) -> &KeyUri {
        &self.uri
    }

    /// Returns the version of the key-encryption key that wrapped it.
    #[must_use]
    pub fn version(&self) -> &KeyVersion {
        &self.version
    }

    /// Returns what the service returned.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes the canonical bytes: `ZKW1`, then URI, version and bytes, each after its length as 2 bytes big-endian.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        write_record(MAGIC, [self.uri.as_str().as_bytes(), self.version.as_str().as_bytes(), &self.bytes])
    }

    /// Reads what [`WrappedKey::to_bytes`] wrote, and nothing else: there is one encoding of each wrapped key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for any other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let malformed = || Error::invalid("these bytes are not a wrapped key");
        let (text, version, wrapped) = read_record(MAGIC, bytes).ok_or_else(malformed)?;
        let uri = KeyUri::parse(text)?;
        // Other spellings of a URI are for people and configuration.
        if uri.as_str() != text {
            return Err(malformed());
        }
        Self::new(uri, KeyVersion::new(version)?, wrapped.to_vec())
    }
}

impl fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uri, version, bytes } = self;
        write!(f, "WrappedKey({uri} version {version}, {} bytes)", bytes.len())
    }
}

impl KeyVersion {
    /// Checks and keeps a version.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when it is not 1 to 128 printable ASCII characters.
    pub fn new(version: impl Into<String>) -> Result<Self, Error> {
        let version = version.into();
        if version.is_empty() || version.len() > MAX_VERSION || !version.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(Error::invalid("a key version is 1 to 128 printable ASCII characters"));
        }
        Ok(Self(version))
    }

    /// Returns the version as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Writes a part of a hash, of which there are never more than 64 bytes.
    #[cfg(feature = "layers")]
    pub(crate) fn hexadecimal(bytes: &[u8]) -> Self {
        Self(data_encoding::HEXLOWER.encode(bytes))
    }
}

impl From<u32> for KeyVersion {
    fn from(version: u32) -> Self {
        Self(version.to_string())
    }
}

impl fmt::Display for KeyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Writes `magic`, then each part after its length as 2 bytes big-endian.
pub(crate) fn write_record(magic: &[u8; 4], parts: [&[u8]; 3]) -> Vec<u8> {
    let mut out = magic.to_vec();
    for part in parts {
        // The constructors bound every part far below 65536 bytes.
        out.extend_from_slice(&u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// Reads what [`write_record`] wrote, and nothing else: URI, version and bytes.
pub(crate) fn read_record<'a>(magic: &[u8; 4], bytes: &'a [u8]) -> Option<(&'a str, &'a str, &'a [u8])> {
    let mut rest = bytes.strip_prefix(magic)?;
    let mut part = || {
        let (len, tail) = rest.split_first_chunk::<2>()?;
        let (part, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        rest = tail;
        Some(part)
    };
    let (uri, version, last) = (part()?, part()?, part()?);
    let whole = rest.is_empty();
    whole.then_some((std::str::from_utf8(uri).ok()?, std::str::from_utf8(version).ok()?, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn written_bytes_read_back(name in "[a-z]{1,20}", version in 1u32.., bytes in prop::collection::vec(any::<u8>(), 1..200)) {
            let wrapped = WrappedKey::new(KeyUri::local(&name).unwrap(), version.into(), bytes).unwrap();
            prop_assert_eq!(WrappedKey::from_bytes(&wrapped.to_bytes()).unwrap(), wrapped);
        }

        #[test]
        fn only_canonical_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..60), at in 0usize..30, flip in 1u8..) {
            prop_assert!(WrappedKey::from_bytes(&bytes).is_err());
            let mut bytes = WrappedKey::new(KeyUri::local("name").unwrap(), 1.into(), vec![9; 20]).unwrap().to_bytes();
            bytes[at] ^= flip;
            if let Ok(read) = WrappedKey::from_bytes(&bytes) {
                prop_assert_eq!(read.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn other_spellings_of_the_key_are_refused() {
        let uri = KeyUri::parse("gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k").unwrap();
        let bytes = WrappedKey::new(uri, 1.into(), vec![9; 20]).unwrap().to_bytes();
        let theirs = "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k";
        let respelled = [
            &b"ZKW1"[..],
            &[0, u8::try_from(theirs.len()).unwrap()],
            theirs.as_bytes(),
            &bytes[6 + theirs.len() + 1..],
        ];
        assert!(WrappedKey::from_bytes(&bytes).is_ok());
        assert!(WrappedKey::from_bytes(&respelled.concat()).is_err());
    }

    #[test]
    fn truncation_and_extension_are_refused() {
        let bytes =
            WrappedKey::new(KeyUri::local("name").unwrap(), 1.into(), vec![9; 20]).unwrap().to_bytes();
        for len in 0..bytes.len() {
            assert!(WrappedKey::from_bytes(&bytes[..len]).is_err());
        }
        assert!(WrappedKey::from_bytes(&[bytes.as_slice(), &[0]].concat()).is_err());
        assert!(WrappedKey::new(KeyUri::local("n").unwrap(), 1.into(), vec![0; 4097]).is_err());
        assert!(WrappedKey::new(KeyUri::local("n").unwrap(), 1.into(), vec![]).is_err());
        let several: KeyUri = "any-of:n".parse().unwrap();
        let longest = WrappedKey::new(several.clone(), 1.into(), vec![0; MAX_ANY_OF]).unwrap();
        assert_eq!(WrappedKey::from_bytes(&longest.to_bytes()).unwrap(), longest);
        assert!(WrappedKey::new(several, 1.into(), vec![0; MAX_ANY_OF + 1]).is_err());
    }
}
