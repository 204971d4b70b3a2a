//! Where a sealed value belongs.

use std::{fmt, sync::Arc};

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
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(Arc<str>);

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
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Context {
    table: Option<String>,
    column: Option<String>,
    tenant: Option<String>,
    row: Option<String>,
    purpose: Option<String>,
    version: Option<u64>,
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
        Ok(Self(scope.into()))
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
        &self.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({})", self.0)
    }
}

impl Context {
    /// Starts with a column of a table. Write the table with its schema, always in one spelling.
    #[must_use]
    pub fn column(table: impl Into<String>, column: impl Into<String>) -> Self {
        Self { table: Some(table.into()), column: Some(column.into()), ..Self::default() }
    }

    /// Starts with a purpose, for values that are in no table.
    #[must_use]
    pub fn purpose(purpose: impl Into<String>) -> Self {
        Self::default().with_purpose(purpose)
    }

    /// Binds the value to a tenant.
    #[must_use]
    pub fn tenant(self, tenant: impl Into<String>) -> Self {
        Self { tenant: Some(tenant.into()), ..self }
    }

    /// Binds the value to a row: its primary key as the database prints it.
    #[must_use]
    pub fn row(self, row: impl Into<String>) -> Self {
        Self { row: Some(row.into()), ..self }
    }

    /// Binds the value to a purpose, besides its place.
    #[must_use]
    pub fn with_purpose(self, purpose: impl Into<String>) -> Self {
        Self { purpose: Some(purpose.into()), ..self }
    }

    /// Binds the value to a version of the row, so that an older sealed value cannot be put back.
    #[must_use]
    pub fn version(self, version: u64) -> Self {
        Self { version: Some(version), ..self }
    }

    /// Appends the canonical bytes of scope and context: SPEC.md, section 4.
    pub(crate) fn encode(&self, scope: &Scope, out: &mut Vec<u8>) {
        // INVARIANT: every field is named here; one that is forgotten would not be bound.
        let Self { table, column, tenant, row, purpose, version } = self;
        put(out, SCOPE, scope.as_str().as_bytes());
        let texts = [(TABLE, table), (COLUMN, column), (TENANT, tenant), (ROW, row), (PURPOSE, purpose)];
        for (tag, text) in texts {
            if let Some(text) = text {
                put(out, tag, text.as_bytes());
            }
        }
        if let Some(version) = version {
            put(out, VERSION, &version.to_be_bytes());
        }
    }
}

fn put(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&(value.len() as u64).to_be_bytes());
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn context() -> impl Strategy<Value = Context> {
        let text = || prop::option::of("[a\0\u{1}]{0,3}");
        (text(), text(), text(), text(), text(), prop::option::of(0u64..3)).prop_map(
            |(table, column, tenant, row, purpose, version)| Context {
                table,
                column,
                tenant,
                row,
                purpose,
                version,
            },
        )
    }

    fn bytes(scope: &str, context: &Context) -> Vec<u8> {
        let mut out = Vec::new();
        context.encode(&Scope::new(scope).unwrap(), &mut out);
        out
    }

    proptest! {
        #[test]
        fn different_places_have_different_bytes(
            a in context(), b in context(), s in "[ab]{1,2}", t in "[ab]{1,2}",
        ) {
            prop_assert_eq!((&s, &a) == (&t, &b), bytes(&s, &a) == bytes(&t, &b));
        }
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
