//! A session: who acts, with which claims. No IO.

use std::collections::BTreeMap;

use crate::document::{ClaimType, Document, Name};
use crate::ir::database_role;
use crate::value::Datum;

/// A role and the claims of one user, checked against what a policy declares.
///
/// ```
/// use zk_policy::{Document, Session};
///
/// let document = Document::parse("policy crm  role agent  claim tenant: uuid").expect("it parses");
/// let session = Session::new(&document, "agent")?
///     .claim("tenant", "6c1e7d0e-8f4b-4a52-9d0e-2f4c3f0a1b2c")?;
/// assert!(Session::new(&document, "root").is_err());
/// assert!(session.claim("tenant", "anything else").is_err());
/// # Ok::<(), zk_policy::SessionError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Session {
    pub(crate) role: String,
    database_role: String,
    declared: BTreeMap<String, ClaimType>,
    /// By name. Few, so that looking one up is a short walk.
    values: Vec<(String, Claimed)>,
    /// Whether the role sees some columns through masks, in a schema of its own.
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "only a connection has a search path"))]
    pub(crate) masked: bool,
}

/// The value of a claim, in both of its forms.
#[derive(Debug, Clone)]
struct Claimed {
    /// As PostgreSQL reads it.
    text: String,
    data: ClaimData,
}

#[derive(Debug, Clone)]
pub(crate) enum ClaimData {
    One(Datum),
    Many(Vec<Datum>),
}

/// The value of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a claim is one value or an array")]
pub enum ClaimValue {
    /// One value, spelt as a literal of the policy language without quotes.
    One(String),
    /// The elements of an array.
    Many(Vec<String>),
}

/// A role or claim that the policy does not declare, or a value of another type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The policy has no such role.
    #[error("the policy declares no role `{0}`")]
    UnknownRole(String),
    /// The policy has no such claim.
    #[error("the policy declares no claim `{0}`")]
    UnknownClaim(String),
    /// The value is the empty text, which PostgreSQL cannot tell from a claim that is absent.
    #[error("the value of claim `{0}` is empty, which is the same as absent: leave the claim out")]
    Empty(String),
    /// The value is not of the claim's type. The value itself is not repeated.
    #[error("the value of claim `{claim}` is not of type `{wanted}`: give {shape}")]
    Mistyped {
        /// The claim.
        claim: String,
        /// Its declared type.
        wanted: String,
        /// What a value looks like.
        shape: &'static str,
    },
}

impl Session {
    /// Starts a session of `role`, one of the document's roles, without claims.
    ///
    /// # Errors
    /// [`SessionError::UnknownRole`].
    pub fn new(document: &Document, role: &str) -> Result<Self, SessionError> {
        let mut names =
            document.roles.iter().map(|r| &r.name).chain(document.personas.iter().map(|p| &p.name));
        if !names.any(|name| name.as_str() == role) {
            return Err(SessionError::UnknownRole(role.to_owned()));
        }
        let declared = document.claims.iter().map(|c| (c.name.as_str().to_owned(), c.ty)).collect();
        let database_role = database_role(document.name.as_str(), role);
        let masked = included(document, role)
            .any(|r| document.tables.iter().flat_map(|t| &t.masks).any(|m| m.role == *r));
        Ok(Self { role: role.to_owned(), database_role, declared, values: Vec::new(), masked })
    }

    /// Adds a claim, or replaces it.
    ///
    /// # Errors
    /// [`SessionError::UnknownClaim`], [`SessionError::Mistyped`] and [`SessionError::Empty`].
    pub fn claim(mut self, name: &str, value: impl Into<ClaimValue>) -> Result<Self, SessionError> {
        let Some(ty) = self.declared.get(name) else {
            return Err(SessionError::UnknownClaim(name.to_owned()));
        };
        let value = value.into();
        if value == ClaimValue::One(String::new()) {
            return Err(SessionError::Empty(name.to_owned()));
        }
        let (ClaimType::One(scalar) | ClaimType::Many { array: scalar }) = *ty;
        let claimed = match (ty, value) {
            (ClaimType::One(_), ClaimValue::One(text)) => {
                scalar.read(&text).map(|datum| Claimed { text, data: ClaimData::One(datum) })
            }
            (ClaimType::Many { .. }, ClaimValue::Many(items)) => {
                let data: Option<Vec<Datum>> = items.iter().map(|item| scalar.read(item)).collect();
                data.map(|data| Claimed { text: array_text(&items), data: ClaimData::Many(data) })
            }
            _ => None,
        };
        let Some(claimed) = claimed else {
            let (claim, wanted) = (name.to_owned(), ty.to_string());
            return Err(SessionError::Mistyped { claim, wanted, shape: scalar.shape() });
        };
        self.values.retain(|(claim, _)| claim != name);
        self.values.push((name.to_owned(), claimed));
        Ok(self)
    }

    /// The policy's role that the session acts as.
    #[must_use]
    pub fn role(&self) -> &str {
        &self.role
    }

    /// The PostgreSQL role that stands for it.
    #[must_use]
    pub fn database_role(&self) -> &str {
        &self.database_role
    }

    /// The declared claims.
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "only a database needs every name"))]
    pub(crate) fn declared(&self) -> impl Iterator<Item = &str> {
        self.declared.keys().map(String::as_str)
    }

    /// A claim's value as PostgreSQL reads it; None when the session lacks it.
    pub(crate) fn text(&self, claim: &str) -> Option<&str> {
        self.find(claim).map(|claimed| claimed.text.as_str())
    }

    /// A claim's value; None when the session lacks it.
    pub(crate) fn data(&self, claim: &str) -> Option<&ClaimData> {
        self.find(claim).map(|claimed| &claimed.data)
    }

    fn find(&self, claim: &str) -> Option<&Claimed> {
        self.values.iter().find(|(name, _)| name == claim).map(|(_, claimed)| claimed)
    }
}

/// A role's name and those that it includes, directly or not; each once, so that a circle ends.
fn included<'d>(document: &'d Document, role: &str) -> impl Iterator<Item = &'d Name> + use<'d> {
    let find = |name: &str| document.roles.iter().find(|r| r.name.as_str() == name);
    let mut found: Vec<&Name> = Vec::new();
    let mut open: Vec<&crate::document::Role> = find(role).into_iter().collect();
    while let Some(next) = open.pop() {
        if !found.contains(&&next.name) {
            found.push(&next.name);
            open.extend(next.includes.iter().filter_map(|name| find(name.as_str())));
        }
    }
    let persona = document.personas.iter().map(|p| &p.name).find(|name| name.as_str() == role);
    found.into_iter().chain(persona)
}

/// An array in PostgreSQL's text form, every element quoted (manual, section 8.15.2).
fn array_text(items: &[String]) -> String {
    let quoted: Vec<String> =
        items.iter().map(|i| format!("\"{}\"", i.replace('\\', "\\\\").replace('"', "\\\""))).collect();
    format!("{{{}}}", quoted.join(","))
}

impl From<&str> for ClaimValue {
    fn from(value: &str) -> Self {
        Self::One(value.to_owned())
    }
}

impl From<String> for ClaimValue {
    fn from(value: String) -> Self {
        Self::One(value)
    }
}

impl From<i64> for ClaimValue {
    fn from(value: i64) -> Self {
        Self::One(value.to_string())
    }
}

impl From<bool> for ClaimValue {
    fn from(value: bool) -> Self {
        Self::One(value.to_string())
    }
}

impl<T: ToString> From<&[T]> for ClaimValue {
    fn from(items: &[T]) -> Self {
        Self::Many(items.iter().map(ToString::to_string).collect())
    }
}
