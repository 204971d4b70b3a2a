//! The bytes that stand in an indexed column: SPEC.md, section 9.

use std::fmt;

use data_encoding::HEXLOWER;

use crate::{Error, ErrorKind};

/// The longest token, in bytes: the version and 256 bits.
pub const MAX_TOKEN: usize = VERSION + 32;

const VERSION: usize = 4;

/// The token of a value: a key version, and so many bits of a keyed hash as the index has.
///
/// Equal values have equal tokens under one version of the key of one index. Store it as `bytea`, under a B-tree index;
/// with the feature `postgres` it goes into queries as it is, and a list of them as `bytea[]`.
///
/// ```
/// use zk_crypto::Token;
///
/// let token = Token::parse(&[0, 0, 0, 2, 0xab])?;
/// assert_eq!((token.version(), token.as_bytes().len()), (2, 5));
/// assert!(Token::parse(&[0, 0, 0, 0, 0xab]).is_err(), "versions begin with 1");
/// assert!(Token::parse(&[0, 0, 0, 2]).is_err());
/// # Ok::<(), zk_crypto::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(Vec<u8>);

impl Token {
    /// Reads a token from storage.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for other than 5 to 36 bytes, and for version 0.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let token = Self(bytes.to_vec());
        if bytes.len() <= VERSION || bytes.len() > MAX_TOKEN || token.version() == 0 {
            return Err(Error::new(ErrorKind::Invalid, "these bytes are not a token of a blind index"));
        }
        Ok(token)
    }

    /// Cuts a hash to `bits` and sets the other bits of the last byte to 0.
    pub(super) fn cut(version: u32, hash: &[u8; 32], bits: u16) -> Self {
        let mut bytes = version.to_be_bytes().to_vec();
        let len = usize::from(bits).div_ceil(8);
        bytes.extend(hash.iter().take(len));
        let unused = len * 8 - usize::from(bits);
        if let Some(last) = bytes.last_mut() {
            *last &= 0xffu8 << unused;
        }
        Self(bytes)
    }

    /// Returns the generation of the key that made the token.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.0.first_chunk().copied().map_or(0, u32::from_be_bytes)
    }

    /// Returns the bytes to store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Token {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Token {
    /// The version only: the rest tells equal values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(version {}, {} bytes)", self.version(), self.0.len())
    }
}

impl fmt::LowerHex for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::error::Error as StdError;

    use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, private::BytesMut, to_sql_checked};

    use super::Token;

    impl ToSql for Token {
        fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
            self.as_bytes().to_sql(ty, out)
        }

        fn accepts(ty: &Type) -> bool {
            *ty == Type::BYTEA
        }

        to_sql_checked!();
    }

    impl<'a> FromSql<'a> for Token {
        fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
            Ok(Self::parse(raw)?)
        }

        fn accepts(ty: &Type) -> bool {
            *ty == Type::BYTEA
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cut_keeps_the_first_bits() {
        let check = |bits, expected: &[u8]| {
            assert_eq!(Token::cut(1, &[0xff; 32], bits).as_bytes(), [&[0, 0, 0, 1], expected].concat());
        };
        check(1, &[0x80]);
        check(7, &[0xfe]);
        check(8, &[0xff]);
        check(9, &[0xff, 0x80]);
        check(256, &[0xff; 32]);
    }

    proptest! {
        #[test]
        fn what_parses_writes_back(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            match Token::parse(&bytes) {
                Ok(token) => prop_assert_eq!(token.as_bytes(), &bytes),
                Err(_) => prop_assert!(!(5..=36).contains(&bytes.len()) || bytes.starts_with(&[0; 4])),
            }
        }
    }
}
