//! The associated data of a wrapped key.

use std::collections::BTreeMap;

use crate::Error;

const MAX_PAIRS: usize = 16;
const MAX_NAME: usize = 64;
const MAX_VALUE: usize = 1024;

/// Named values that a wrapped key is bound to: the same ones must be given to unwrap it.
///
/// A context is not secret. Services write it to their logs, so put identifiers here and no personal data.
/// The order in which pairs are added does not matter.
///
/// # Examples
///
/// ```
/// use zk_kms::Context;
///
/// let a = Context::new().with("scope", "tenant-7")?.with("generation", "1")?;
/// let b = Context::new().with("generation", "1")?.with("scope", "tenant-7")?;
/// assert_eq!(a.encode(), b.encode());
/// assert_ne!(a.encode(), Context::new().with("scope", "tenant-7")?.encode());
/// # Ok::<(), zk_kms::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Context {
    pairs: BTreeMap<String, Vec<u8>>,
}

impl Context {
    /// Makes an empty context.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one pair.
    ///
    /// A name is 1 to 64 bytes of `a-z A-Z 0-9 _ - . :`; a value is at most 1024 bytes; there are at most 16 pairs.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) beyond these limits, or when the name is already there: a
    /// value that silently replaces another would unbind the first.
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Result<Self, Error> {
        let value = value.as_ref();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-.:".contains(&b);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(allowed) {
            return Err(Error::invalid("a context name is 1 to 64 letters, digits, `_`, `-`, `.` or `:`"));
        }
        if value.len() > MAX_VALUE {
            return Err(Error::invalid(format!(
                "the value of context `{name}` is longer than {MAX_VALUE} bytes"
            )));
        }
        if self.pairs.len() >= MAX_PAIRS {
            return Err(Error::invalid(format!("a context holds at most {MAX_PAIRS} pairs")));
        }
        if self.pairs.insert(name.to_owned(), value.to_vec()).is_some() {
            return Err(Error::invalid(format!("context `{name}` is given twice")));
        }
        Ok(self)
    }

    /// Returns the pairs in the order of their names.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// Writes the canonical bytes: every name and value in name order, each after its length as 8 bytes big-endian.
    ///
    /// Two different contexts never have the same bytes, because the lengths say where each part ends.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in &self.pairs {
            put(&mut out, name.as_bytes());
            put(&mut out, value);
        }
        out
    }
}

/// Appends `part` after its length, so that a sequence of parts can be read back in only one way.
pub(crate) fn put(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&(part.len() as u64).to_be_bytes());
    out.extend_from_slice(part);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn made(pairs: &BTreeMap<String, Vec<u8>>) -> Context {
        pairs.iter().fold(Context::new(), |c, (n, v)| c.with(n, v).unwrap())
    }

    proptest! {
        #[test]
        fn different_contexts_have_different_bytes(
            a in prop::collection::btree_map("[ab]{1,3}", prop::collection::vec(0u8..3, 0..4), 0..4),
            b in prop::collection::btree_map("[ab]{1,3}", prop::collection::vec(0u8..3, 0..4), 0..4),
        ) {
            prop_assert_eq!(a == b, made(&a).encode() == made(&b).encode());
        }
    }

    #[test]
    fn limits_are_kept() {
        assert!(Context::new().with("", "x").is_err());
        assert!(Context::new().with("a b", "x").is_err());
        assert!(Context::new().with("é", "x").is_err());
        assert!(Context::new().with(&"n".repeat(65), "x").is_err());
        assert!(Context::new().with("n", vec![0; 1025]).is_err());
        assert!(Context::new().with("n", "1").unwrap().with("n", "1").is_err());
        let full = (0..16).fold(Context::new(), |c, i| c.with(&format!("n{i}"), "").unwrap());
        assert!(full.with("more", "").is_err());
    }
}
