//! Where a sealed value belongs.

use std::{
    fmt,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::{Arc, LazyLock},
};

use crate::Error;

const MAX_SCOPE: usize = 200;

const SCOPE: u8 = 0x00;
const TABLE: u8 = 0x01;
const COLUMN: u8 = 0x02;
const TENANT: u8 = 0x03;
const ROW: u8 = 0x04;
const PURPOSE: u8 = 0x05;
const VERSION: u8 = 0x06;

/// The set of values that share data keys: usually a tenant.
///
/// Destroying the keys of a scope destroys its data, so make a scope as wide as what is destroyed at once.
///
/// # Examples
///
/// ```
/// use zk_crypto::Scope;
///
/// assert_eq!(Scope::tenant("7f9c")?, Scope::new("tenant:7f9c")?);
/// assert!(Scope::new("").is_err() && Scope::new("line\nbreak").is_err());
/// # Ok::<(), zk_crypto::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    text: Arc<str>,
    /// Hashed once, because every message looks its scope up.
    hash: u64,
}

/// The place a sealed value belongs to: it opens nowhere else.
///
/// Fields that are not set and fields that are empty differ. Text is taken as it is: `A` and `a` are two rows.
///
/// # Examples
///
/// ```
/// use zk_crypto::Context;
///
/// let ssn = Context::column("public.customers", "ssn").row("42");
/// assert_ne!(ssn, Context::column("public.customers", "ssn").row("43"));
/// assert_ne!(ssn, Context::column("public.customers", "iban").row("42"));
/// let token = Context::purpose("session token").version(2);
/// assert_ne!(token, Context::purpose("session token").version(1));
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Context {
    /// INVARIANT: the canonical bytes of SPEC.md, section 4: each field once, in the order of their tags. Kept in this
    /// form because every message binds it.
    bytes: Vec<u8>,
}

impl Scope {
    /// Checks and keeps a scope: 1 to 200 printable ASCII characters, spaces excluded.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for any other text.
    pub fn new(scope: &str) -> Result<Self, Error> {
        if scope.is_empty() || scope.len() > MAX_SCOPE || !scope.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::invalid("a scope is 1 to 200 printable ASCII characters without spaces"));
        }
        static KEYED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Ok(Self { text: scope.into(), hash: KEYED.hash_one(scope) })
    }

    /// Makes the scope of a tenant: `tenant:` and its id.
    ///
    /// # Errors
    ///
    /// As [`Scope::new`]; the id must not be empty.
    pub fn tenant(id: &str) -> Result<Self, Error> {
        if id.is_empty() {
            return Err(Error::invalid("the id of a tenant must not be empty"));
        }
        Self::new(&format!("tenant:{id}"))
    }

    /// Returns the scope as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Appends the canonical bytes of the scope: SPEC.md, section 4.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put(out, SCOPE, self.text.as_bytes());
    }
}

impl Hash for Scope {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({})", self.text)
    }
}

impl Context {
    /// Starts with a column of a table. Write the table with its schema, always in one spelling.
    #[must_use]
    pub fn column(table: impl Into<String>, column: impl Into<String>) -> Self {
        let (table, column): (String, String) = (table.into(), column.into());
        // With room for a row: one allocation for most contexts.
        let bytes = Vec::with_capacity(2 * HEAD + table.len() + column.len() + HEAD + 24);
        Self { bytes }.with(TABLE, table.as_bytes()).with(COLUMN, column.as_bytes())
    }

    /// Starts with a purpose, for values that are in no table.
    #[must_use]
    pub fn purpose(purpose: impl Into<String>) -> Self {
        Self::default().with_purpose(purpose)
    }

    /// Binds the value to a tenant.
    #[must_use]
    pub fn tenant(self, tenant: impl Into<String>) -> Self {
        self.with(TENANT, tenant.into().as_bytes())
    }

    /// Binds the value to a row: its primary key as the database prints it.
    #[must_use]
    pub fn row(self, row: impl Into<String>) -> Self {
        self.with(ROW, row.into().as_bytes())
    }

    /// Binds the value to a purpose, besides its place.
    #[must_use]
    pub fn with_purpose(self, purpose: impl Into<String>) -> Self {
        self.with(PURPOSE, purpose.into().as_bytes())
    }

    /// Binds the value to a version of the row, so that an older sealed value cannot be put back.
    #[must_use]
    pub fn version(self, version: u64) -> Self {
        self.with(VERSION, &version.to_be_bytes())
    }

    /// The canonical bytes of the context, to stand after those of a scope: SPEC.md, section 4.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Sets a field, in its place.
    fn with(mut self, tag: u8, value: &[u8]) -> Self {
        let place = self.fields().take_while(|(t, _)| *t < tag).map(|(_, value)| HEAD + value.len()).sum();
        let tail = self.bytes.split_off(place);
        put(&mut self.bytes, tag, value);
        let rest = match split_field(&tail) {
            Some((same, _, rest)) if same == tag => rest,
            _ => &tail,
        };
        self.bytes.extend_from_slice(rest);
        self
    }

    fn fields(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (tag, value, after) = split_field(rest)?;
            rest = after;
            Some((tag, value))
        })
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Context");
        for (tag, value) in self.fields() {
            match (tag, <[u8; 8]>::try_from(value)) {
                (VERSION, Ok(version)) => shown.field("version", &u64::from_be_bytes(version)),
                _ => shown.field(name(tag), &String::from_utf8_lossy(value)),
            };
        }
        shown.finish()
    }
}

fn name(tag: u8) -> &'static str {
    match tag {
        TABLE => "table",
        COLUMN => "column",
        TENANT => "tenant",
        ROW => "row",
        _ => "purpose",
    }
}

/// The bytes before the value of a field: its tag and its length.
const HEAD: usize = 9;

fn put(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&(value.len() as u64).to_be_bytes());
    out.extend_from_slice(value);
}

/// Takes the first field off: tag, value, and what follows.
fn split_field(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(usize::try_from(u64::from_be_bytes(*len)).ok()?)?;
    Some((*tag, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Fields = [Option<String>; 5];

    fn fields() -> impl Strategy<Value = (Fields, Option<u64>)> {
        let text = || prop::option::of("[a\0\u{1}]{0,3}");
        ([text(), text(), text(), text(), text()], prop::option::of(0u64..3))
    }

    /// Sets the fields in the order that `order` gives, some of them twice.
    fn context((texts, version): &(Fields, Option<u64>), order: &[usize]) -> Context {
        let mut context = Context::default();
        for i in order.iter().copied().chain(0..6) {
            context = match i {
                5 => version.iter().fold(context, |context, version| context.version(*version)),
                _ => {
                    let tag = [TABLE, COLUMN, TENANT, ROW, PURPOSE][i];
                    texts[i].iter().fold(context, |context, text| context.with(tag, text.as_bytes()))
                }
            };
        }
        context
    }

    fn bytes(scope: &str, context: &Context) -> Vec<u8> {
        let mut out = Vec::new();
        Scope::new(scope).unwrap().encode(&mut out);
        out.extend_from_slice(context.as_bytes());
        out
    }

    proptest! {
        #[test]
        fn different_places_have_different_bytes(
            a in fields(), b in fields(), s in "[ab]{1,2}", t in "[ab]{1,2}",
            first in prop::collection::vec(0usize..6, 0..8), second in prop::collection::vec(0usize..6, 0..8),
        ) {
            let (x, y) = (context(&a, &first), context(&b, &second));
            prop_assert_eq!((&s, &a) == (&t, &b), bytes(&s, &x) == bytes(&t, &y));
            prop_assert_eq!(a == b, x == y);
            // However often and in whatever order they were set: the fields once, by their tags.
            let tags: Vec<u8> = x.fields().map(|(tag, _)| tag).collect();
            prop_assert!(tags.is_sorted_by(|a, b| a < b));
            let set = a.0.iter().flatten().count() + usize::from(a.1.is_some());
            prop_assert_eq!(tags.len(), set);
        }
    }

    #[test]
    fn the_last_value_of_a_field_counts() {
        let context = Context::purpose("p").row("1").tenant("a").version(1).row("22").version(2);
        assert_eq!(context, Context::default().tenant("a").row("22").with_purpose("p").version(2));
        assert_eq!(format!("{context:?}"), r#"Context { tenant: "a", row: "22", purpose: "p", version: 2 }"#);
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let place = Context::column("t", "c").version(1);
        let expected = b"\0\0\0\0\0\0\0\0\x01s\x01\0\0\0\0\0\0\0\x01t\x02\0\0\0\0\0\0\0\x01c\x06\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x01";
        assert_eq!(bytes("s", &place), expected);
    }

    #[test]
    fn scopes_are_short_and_printable() {
        for bad in ["", "a b", "é", "a\n", "\0"] {
            assert!(Scope::new(bad).is_err());
        }
        assert!(Scope::new(&"a".repeat(201)).is_err());
        assert!(Scope::new(&"a".repeat(200)).is_ok());
        assert!(Scope::tenant("").is_err());
    }
}
