//! How typed values become bytes: SPEC.md, section 8.

use zeroize::{Zeroize, Zeroizing};

use crate::Error;

/// A type that a sealed column can hold.
///
/// Text, bytes, integers and booleans are values; with the feature `serde`, so is everything in a [`Json`]. Take
/// `Zeroizing<String>` or `Zeroizing<Vec<u8>>` as the type where the opened value must be wiped.
///
/// ```
/// use zk_crypto::Value;
/// use zeroize::Zeroizing;
///
/// assert_eq!(**(-2i32).encode()?, (-2i64).to_be_bytes());
/// assert_eq!(i64::decode((-2i32).encode()?)?, -2);
/// assert!(i16::decode(70_000i64.encode()?).is_err(), "out of range");
/// assert!(bool::decode(Zeroizing::new(vec![2])).is_err());
/// # Ok::<(), zk_crypto::Error>(())
/// ```
pub trait Value: Sized + Send + Sync {
    /// Returns the bytes to seal.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when the value has no bytes; the message must not hold it.
    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Error>;

    /// Reads what [`Value::encode`] wrote.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for other bytes; the message must not hold them.
    fn decode(bytes: Zeroizing<Vec<u8>>) -> Result<Self, Error>;
}

/// A value that is sealed as JSON (feature `serde`).
///
/// ```
/// use zk_crypto::{Json, Value};
///
/// let tags = Json(vec!["vip".to_owned()]);
/// assert_eq!(**tags.encode()?, *br#"["vip"]"#);
/// assert_eq!(Json::<Vec<String>>::decode(tags.encode()?)?, tags);
/// # Ok::<(), zk_crypto::Error>(())
/// ```
#[cfg(feature = "serde")]
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a wrapper of one value, made and taken apart by callers")]
pub struct Json<T>(pub T);

impl Value for Vec<u8> {
    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        Ok(Zeroizing::new(self.clone()))
    }

    fn decode(mut bytes: Zeroizing<Vec<u8>>) -> Result<Self, Error> {
        Ok(std::mem::take(&mut *bytes))
    }
}

impl Value for String {
    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        Ok(Zeroizing::new(self.as_bytes().to_vec()))
    }

    fn decode(mut bytes: Zeroizing<Vec<u8>>) -> Result<Self, Error> {
        Self::from_utf8(std::mem::take(&mut *bytes)).map_err(|error| {
            // SECURITY: the error holds the bytes.
            error.into_bytes().zeroize();
            other("text")
        })
    }
}

impl<T: Value + Zeroize> Value for Zeroizing<T> {
    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        T::encode(self)
    }

    fn decode(bytes: Zeroizing<Vec<u8>>) -> Result<Self, Error> {
        T::decode(bytes).map(Self::new)
    }
}

impl Value for bool {
    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        Ok(Zeroizing::new(vec![u8::from(*self)]))
    }

    fn decode(bytes: Zeroizing<Vec<u8>>) -> Result<Self, Error> {
        match bytes.as_slice() {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(other("boolean")),
        }
    }
}

/// All integers have one form, so that a column may grow from `int4` to `int8`.
macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl Value for $integer {
            fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
                Ok(Zeroizing::new(i64::from(*self).to_be_bytes().to_vec()))
            }

            fn decode(bytes: Zeroizing<Vec<u8>>) -> Result<Self, Error> {
                let bytes = bytes.as_slice().try_into().map_err(|_| other("integer"))?;
                Self::try_from(i64::from_be_bytes(bytes)).map_err(|_| other(stringify!($integer)))
            }
        }
    )*};
}

integers!(i16, i32, i64, u16, u32);

#[cfg(feature = "serde")]
impl<T: serde::Serialize + serde::de::DeserializeOwned + Send + Sync> Value for Json<T> {
    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut written = Wiping::default();
        // The serializer's own message may quote the value.
        let cannot = |_| Error::invalid("the value cannot be written as JSON");
        serde_json::to_writer(&mut written, &self.0).map_err(cannot).map(|()| written.0)
    }

    fn decode(bytes: Zeroizing<Vec<u8>>) -> Result<Self, Error> {
        serde_json::from_slice(&bytes).map(Self).map_err(|_| other("JSON of this type"))
    }
}

/// Bytes that are wiped where they were when there are too many of them.
#[cfg(feature = "serde")]
#[derive(Default)]
struct Wiping(Zeroizing<Vec<u8>>);

#[cfg(feature = "serde")]
impl std::io::Write for Wiping {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let len = self.0.len() + bytes.len();
        if len > self.0.capacity() {
            // SECURITY: a vector that grows by itself leaves its text in memory.
            let mut larger = Zeroizing::new(Vec::with_capacity(len.next_power_of_two().max(128)));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(feature = "serde")]
impl<T> std::fmt::Debug for Json<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Json([redacted])")
    }
}

/// The value opened, so it is genuine, and it was sealed as another type.
fn other(expected: &str) -> Error {
    Error::invalid(format!("what was opened is not {expected}, the type of the column"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip<T: Value + PartialEq>(value: &T) -> bool {
        T::decode(value.encode().unwrap()).unwrap() == *value
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(
            text: String, bytes: Vec<u8>, a: i16, b: i32, c: i64, d: u16, e: u32, f: bool,
        ) {
            prop_assert!(round_trip(&text) && round_trip(&bytes) && round_trip(&f));
            prop_assert!(round_trip(&Zeroizing::new(text)) && round_trip(&Zeroizing::new(bytes)));
            prop_assert!(round_trip(&a) && round_trip(&b) && round_trip(&c) && round_trip(&d) && round_trip(&e));
        }

        #[test]
        fn other_bytes_decode_or_fail_quietly(bytes: Vec<u8>) {
            let bytes = || Zeroizing::new(bytes.clone());
            prop_assert_eq!(String::decode(bytes()).is_ok(), std::str::from_utf8(&bytes()).is_ok());
            prop_assert_eq!(i64::decode(bytes()).is_ok(), bytes().len() == 8);
            prop_assert_eq!(bool::decode(bytes()).is_ok(), matches!(bytes().as_slice(), [0 | 1]));
        }
    }

    #[test]
    fn no_message_holds_a_value() {
        let secret = Zeroizing::new(b"\xff secret".to_vec());
        let error = String::decode(secret.clone()).unwrap_err();
        assert!(!format!("{error:?}").contains("secret"));
        #[cfg(feature = "serde")]
        {
            let error = Json::<String>::decode(Zeroizing::new(b"\"secret".to_vec())).unwrap_err();
            assert!(!format!("{error:?}").contains("secret"));
            assert!(!format!("{:?}", Json("secret")).contains("secret"));
        }
    }
}
