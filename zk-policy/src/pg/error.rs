//! What can go wrong between a plan and a database.

use std::fmt;

use tokio_postgres::error::SqlState;

use crate::plan::role_mark;
use crate::schema::QualifiedName;
use crate::sql;

/// An error of planning or applying. Whatever it is, the database is as it was before.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<tokio_postgres::Error>,
}

/// What a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server is older than PostgreSQL 15.
    TooOld,
    /// A table of the policy is gone: read the schema and check again.
    MissingTable,
    /// The policy says `claims signed`, and the database has no function that verifies: call
    /// [`install_signing`](super::install_signing) first.
    MissingSigning,
    /// The policy masks with a hash, and the database has no table for its key: call
    /// [`install_mask_keys`](super::install_mask_keys) first.
    MissingMaskKeys,
    /// A value that is not what it should be.
    Invalid,
    /// The connected role lacks a privilege.
    Denied,
    /// A role of the server has the name that the policy needs, and is not the policy's.
    ForeignRole,
    /// A schema has the name of one for views with masked columns, and belongs to somebody who is not trusted.
    ForeignSchema,
    /// A role of the policy owns a table of the policy, and so could switch its row-level security off.
    OwnedByRole,
    /// The session is on a connection that acts as another role.
    WrongRole,
    /// A table stayed locked by others for longer than allowed, or they waited for each other.
    Locked,
    /// The database is not as it was when the plan was made: plan again.
    Changed,
    /// Something is built on a view that the plan has to make anew, or on another object that it drops.
    DependedOn,
    /// The result was not what the policy wants, and was rolled back.
    Unverified,
    /// The connection failed.
    Unavailable,
    /// The server refused a statement.
    Database,
}

impl Error {
    /// What a caller can act on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later without anything else being changed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Locked | ErrorKind::Unavailable)
    }

    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Says which step of a plan it was.
    pub(super) fn during(mut self, step: &str) -> Self {
        self.message = format!("{step}: {}", self.message);
        self
    }

    pub(super) fn too_old(version: i32) -> Self {
        let message =
            format!("the server is PostgreSQL {}; 15 or newer is needed: upgrade it", version / 10_000);
        Self::new(ErrorKind::TooOld, message)
    }

    pub(super) fn foreign_role(role: &str, policy: &str) -> Self {
        let message = format!(
            "role {role} exists and does not belong to policy {policy}; rename the policy or its role, or, if it is meant, \
             mark it: COMMENT ON ROLE {} IS {}",
            sql::ident(role),
            sql::literal(&role_mark(policy))
        );
        Self::new(ErrorKind::ForeignRole, message)
    }

    pub(super) fn foreign_schema(schema: &str, owner: &str) -> Self {
        let message = format!(
            "schema {schema} belongs to {owner}, and not to the connected role, the database's owner or an owner of the \
             tables: what is in it would stand before the tables; rename the policy or its role, or look at what is in the \
             schema and drop it or give it another owner: ALTER SCHEMA {} OWNER TO CURRENT_USER",
            sql::ident(schema)
        );
        Self::new(ErrorKind::ForeignSchema, message)
    }

    pub(super) fn owned_by_role(table: &QualifiedName, role: &str) -> Self {
        let message = format!(
            "table {table} belongs to {role}, a role of the policy, and an owner can switch row-level security off; give it \
             an owner that no service acts as: ALTER TABLE {} OWNER TO CURRENT_USER",
            sql::table(table)
        );
        Self::new(ErrorKind::OwnedByRole, message)
    }

    pub(super) fn missing_table(name: &QualifiedName) -> Self {
        let message = format!("table {name} is gone; read the schema and check the policy again");
        Self::new(ErrorKind::MissingTable, message)
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(source: tokio_postgres::Error) -> Self {
        let (kind, message) = match source.code() {
            None => (ErrorKind::Unavailable, "the connection to the database failed"),
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => (
                ErrorKind::Denied,
                "the connected role may not do this; connect as the owner of the tables, with CREATEROLE",
            ),
            Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED) => {
                (ErrorKind::Locked, "a table stayed locked; try again when long transactions have ended")
            }
            Some(&SqlState::CHECK_VIOLATION) => (
                ErrorKind::Database,
                "a critical column holds values that are not sealed; seal or clear them first",
            ),
            Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => (
                ErrorKind::DependedOn,
                "something depends on what the plan has to drop; look at what the server says and drop that first",
            ),
            Some(_) => (ErrorKind::Database, "the server refused a statement"),
        };
        Self { kind, message: message.to_owned(), source: Some(source) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e as _)
    }
}
