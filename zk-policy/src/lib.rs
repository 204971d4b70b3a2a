//! Table-, row- and column-level security for PostgreSQL, from one policy that people can read.
//!
//! A policy names roles, typed claims and, for each table, a tenant's floor, row rules, column rules and critical
//! columns. It is checked against the tables it speaks of, compiled to roles, grants, row-level security and CHECK
//! constraints, and compared with a live catalog; the difference is a plan that somebody reads, accepts and applies.
//!
//! ```text
//! text ─parse▶ Document ─check(+Schema)▶ Policy ─compile▶ ┐
//! JSON ─serde▶ Document                                    ├─diff▶ Plan ─accept▶ Accepted ─apply▶ Applied
//!                                      PostgreSQL ─read▶ ┘
//! ```
//!
//! # Example
//! ```
//! use zk_policy::{Column, ColumnType, Document, Scalar, Schema, check};
//!
//! let schema = Schema::default().table("public", "customers", [
//!     Column::new("id", ColumnType::Scalar(Scalar::Uuid)).not_null(),
//!     Column::new("tenant_id", ColumnType::Scalar(Scalar::Uuid)).not_null(),
//!     Column::new("owner_id", ColumnType::Scalar(Scalar::Uuid)),
//!     Column::new("ssn", ColumnType::Bytea),
//! ]);
//! let document = Document::parse("
//!     policy crm
//!     role agent
//!     claim tenant: uuid
//!     claim user:   uuid
//!     table customers {
//!       tenant tenant_id = claim.tenant
//!       critical ssn
//!       allow agent select where owner_id = claim.user
//!       columns agent select all except ssn
//!     }
//! ")?;
//! let policy = check(&document, &schema)?;
//! assert_eq!(policy.database_role("agent"), "crm_agent");
//! assert!(policy.access_matrix().to_string().contains("ssn (sealed)"));
//! # Ok::<(), zk_policy::Diagnostics>(())
//! ```
//!
//! # Features
//! - `postgres`: [`pg`] reads a catalog, plans against it, applies and lints; [`Session`] enters a role and sets claims on a connection.
//! - `deadpool`: sessions on the connections of a pool ([`pg::enters`]).
//! - `render`: `Diagnostics::render` draws mistakes over the source text.
//!
//! # Limits
//! Row-level security does not bind superusers and roles with BYPASSRLS, and unique or foreign keys tell whether a
//! hidden row exists. Rows and columns are granted independently: a role that may see some columns of some rows by one
//! rule and others by another sees both kinds of columns on both kinds of rows. Claims are settings of a transaction:
//! whoever can run SQL of their own on a connection can set them, unless the policy says `claims signed`.
//!
//! `zk` is the platform's prefix; nothing here has to do with zero-knowledge proofs.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod analyse;
mod catalog;
mod check;
mod compile;
mod declared;
mod diagnostic;
mod diff;
mod document;
mod eval;
mod filter;
mod ir;
mod lint;
mod mask;
#[cfg(feature = "postgres")]
pub mod pg;
mod plan;
mod schema;
mod secret;
mod session;
mod source;
mod sql;
mod value;

pub use analyse::{AccessMatrix, Cell, MatrixRow, Permission, Reach};
pub use catalog::{Digest, Drift};
pub use check::check;
pub use declared::Declared;
#[cfg(feature = "render")]
pub use diagnostic::Colour;
pub use diagnostic::{Code, Diagnostic, Diagnostics};
pub use document::{
    Claim, ClaimType, ColumnRule, ColumnSet, Command, Document, Effect, Expr, Literal, MaskKind, MaskRule,
    Name, Op, Persona, PersonaRight, Role, Rule, Scalar, Table, TableName, Tenancy, Term,
};
pub use eval::{Clause, ColumnDecision, Decision, Denial, Explanation, Guard, Reason, Related, Row};
pub use filter::Filter;
pub use ir::{Policy, Step as ForeignStep};
pub use lint::{Finding, Fix, LintCode, Severity};
pub use mask::{Mask, MaskKey, MaskKeyError};
pub use plan::{Accepted, Access, Consent, Effect as AccessEffect, NotAccepted, Plan, Step};
pub use schema::{Collation, Column, ColumnType, ForeignKey, QualifiedName, Schema, TableShape};
pub use session::{ClaimValue, Session, SessionError};
pub use source::Span;
pub use value::Value;
