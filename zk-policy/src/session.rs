//! A session: who acts, with which claims. No IO.

use crate::declared::{Declared, DeclaredRole};
use crate::document::ClaimType;
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
    declared: Declared,
    /// The role's place among the declared ones.
    role: usize,
    /// By the claim's place among the declared ones.
    values: Vec<Option<Claimed>>,
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
    /// Starts a session of `role`, one of the declared roles, without claims.
    ///
    /// What is declared comes from a checked [`Policy`](crate::Policy), with which all sessions share it, or from a
    /// [`Document`](crate::Document), of which it is worked out again: keep a [`Declared`] instead.
    ///
    /// # Errors
    /// [`SessionError::UnknownRole`].
    pub fn new(declared: impl Into<Declared>, role: &str) -> Result<Self, SessionError> {
        let declared = declared.into();
        let place = declared.roles().position(|name| name == role);
        let role = place.ok_or_else(|| SessionError::UnknownRole(role.to_owned()))?;
        let values = declared.claims().map(|_| None).collect();
        Ok(Self { declared, role, values })
    }

    /// Adds a claim, or replaces it.
    ///
    /// # Errors
    /// [`SessionError::UnknownClaim`], [`SessionError::Mistyped`] and [`SessionError::Empty`].
    pub fn claim(mut self, name: &str, value: impl Into<ClaimValue>) -> Result<Self, SessionError> {
        let Some((place, ty)) = self.declared.claim(name) else {
            return Err(SessionError::UnknownClaim(name.to_owned()));
        };
        let value = value.into();
        if value == ClaimValue::One(String::new()) {
            return Err(SessionError::Empty(name.to_owned()));
        }
        let (ClaimType::One(scalar) | ClaimType::Many { array: scalar }) = ty;
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
        if let Some(value) = self.values.get_mut(place) {
            *value = Some(claimed);
        }
        Ok(self)
    }

    /// The policy's role that the session acts as.
    #[must_use]
    pub fn role(&self) -> &str {
        self.declared_role().map(|role| role.name.as_str()).unwrap_or_default()
    }

    /// The PostgreSQL role that stands for it.
    #[must_use]
    pub fn database_role(&self) -> &str {
        self.declared_role().map(|role| role.database.as_str()).unwrap_or_default()
    }

    /// What the policy declares of the session's role. Never None: `new` found the place.
    pub(crate) fn declared_role(&self) -> Option<&DeclaredRole> {
        self.declared.role(self.role)
    }

    /// The role's place, when the session was made for a policy that declares the same.
    pub(crate) fn role_in(&self, declared: &Declared) -> Option<usize> {
        self.declared.is_same(declared).then_some(self.role)
    }

    /// The declared claims with their values as PostgreSQL reads them; None for those that the session lacks.
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "only a database needs every claim"))]
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let texts = self.values.iter().map(|value| value.as_ref().map(|claimed| claimed.text.as_str()));
        self.declared.claims().map(|(name, _)| name).zip(texts)
    }

    /// A claim's value as PostgreSQL reads it; None when the session lacks it.
    pub(crate) fn text(&self, claim: &str) -> Option<&str> {
        let (place, _) = self.declared.claim(claim)?;
        self.values.get(place)?.as_ref().map(|claimed| claimed.text.as_str())
    }

    /// The value of the claim in a place; None when the session lacks it.
    pub(crate) fn data(&self, place: usize) -> Option<&ClaimData> {
        self.values.get(place)?.as_ref().map(|claimed| &claimed.data)
    }
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
