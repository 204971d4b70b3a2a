//! A session: who acts, with which claims. It enters a role and sets claims for one transaction at a time.

use std::collections::BTreeMap;

use tokio_postgres::{Client, Transaction};

use crate::document::{ClaimType, Document};
use crate::ir::database_role;
use crate::sql;

/// A role and the claims of one user, checked against what a policy declares.
///
/// ```
/// use zk_policy::{Document, pg::Session};
///
/// let document = Document::parse("policy crm  role agent  claim tenant: uuid").expect("it parses");
/// let session = Session::new(&document, "agent")?
///     .claim("tenant", "6c1e7d0e-8f4b-4a52-9d0e-2f4c3f0a1b2c")?;
/// assert!(Session::new(&document, "root").is_err());
/// assert!(session.claim("tenant", "anything else").is_err());
/// # Ok::<(), zk_policy::pg::SessionError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Session {
    role: String,
    declared: BTreeMap<String, ClaimType>,
    values: BTreeMap<String, String>,
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
        if !document.roles.iter().any(|r| r.name.as_str() == role) {
            return Err(SessionError::UnknownRole(role.to_owned()));
        }
        let declared = document.claims.iter().map(|c| (c.name.as_str().to_owned(), c.ty)).collect();
        Ok(Self { role: database_role(document.name.as_str(), role), declared, values: BTreeMap::new() })
    }

    /// Adds a claim.
    ///
    /// # Errors
    /// [`SessionError::UnknownClaim`] and [`SessionError::Mistyped`].
    pub fn claim(mut self, name: &str, value: impl Into<ClaimValue>) -> Result<Self, SessionError> {
        let Some(ty) = self.declared.get(name) else {
            return Err(SessionError::UnknownClaim(name.to_owned()));
        };
        let (scalar, text) = match (ty, value.into()) {
            (ClaimType::One(scalar), ClaimValue::One(text)) => (scalar, scalar.reads(&text).then_some(text)),
            (ClaimType::Many { array }, ClaimValue::Many(items)) => {
                (array, items.iter().all(|item| array.reads(item)).then(|| array_text(&items)))
            }
            (ClaimType::One(scalar) | ClaimType::Many { array: scalar }, _) => (scalar, None),
        };
        let Some(text) = text else {
            let (claim, wanted, shape) = (name.to_owned(), ty.to_string(), scalar.shape());
            return Err(SessionError::Mistyped { claim, wanted, shape });
        };
        self.values.insert(name.to_owned(), text);
        Ok(self)
    }

    /// The PostgreSQL role that the session acts as.
    #[must_use]
    pub fn database_role(&self) -> &str {
        &self.role
    }

    /// Makes the connection act as the session's role until it is reset. Do it once for each connection: changing
    /// roles on one connection makes the server plan cached statements again.
    ///
    /// # Errors
    /// SQLSTATE 42501 when the login may not act as the role.
    pub async fn enter(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        client.batch_execute(&format!("SET ROLE {}", sql::ident(&self.role))).await
    }

    /// Begins a transaction in which the session's claims hold.
    ///
    /// Every declared claim is set, to nothing when the session lacks it, so that nothing left behind on a pooled
    /// connection is ever taken for a claim.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn begin<'a>(&self, client: &'a mut Client) -> Result<Transaction<'a>, tokio_postgres::Error> {
        let transaction = client.transaction().await?;
        let settings: Vec<String> = self.declared.keys().map(|claim| sql::setting(claim)).collect();
        let values: Vec<&str> =
            self.declared.keys().map(|claim| self.values.get(claim).map_or("", String::as_str)).collect();
        transaction
            .execute(
                "SELECT set_config(s.name, s.value, true) FROM unnest($1::text[], $2::text[]) AS s (name, value)",
                &[&settings, &values],
            )
            .await?;
        Ok(transaction)
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
