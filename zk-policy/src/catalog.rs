//! The one vocabulary for what a database holds and for what a policy wants it to hold: plain, ordered data.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::document::Command;
use crate::schema::QualifiedName;
use crate::secret::hex;

/// Roles, grants, policies, flags and checks: those that the catalog has, or those that the policy wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// Roles that belong to the policy, by PostgreSQL name.
    pub(crate) roles: BTreeMap<String, RoleObject>,
    /// Of the policy's roles in whatever role, and of others in the roles behind its masks. Never wanted.
    pub(crate) memberships: BTreeSet<Membership>,
    /// `(schema, role)` pairs with USAGE.
    pub(crate) usage: BTreeSet<(String, String)>,
    /// Schemas for the views of roles that see masked columns.
    pub(crate) schemas: BTreeSet<String>,
    /// The views through which roles see masked columns.
    pub(crate) views: BTreeMap<QualifiedName, ViewObject>,
    /// `(schema, role)` pairs with CREATE. Never wanted.
    pub(crate) creating: BTreeSet<(String, String)>,
    /// What others granted or made that opens the tables. Never wanted.
    pub(crate) exposed: BTreeSet<Drift>,
    /// What others left in the schemas for masked views, where it comes before what sessions name. Never wanted, and not the
    /// plan's to drop.
    pub(crate) strangers: BTreeSet<Drift>,
    /// Whom default privileges give something on what the applying role creates. Known of a catalog only.
    pub(crate) born_with: BTreeSet<String>,
    /// The policies that may guard the same tables.
    pub(crate) alongside: BTreeSet<String>,
    /// The roles of those policies: what they hold is for those to say. Known of a catalog only.
    pub(crate) others: BTreeSet<String>,
    /// By role and table asked, the tables that ask: narrowing what the role sees there may widen what it may do to these,
    /// because a rule of theirs refuses by what it finds. Known of what is wanted only.
    pub(crate) refusing: BTreeMap<String, Refusing>,
    pub(crate) tables: BTreeMap<QualifiedName, TableObject>,
    /// What the policy's roles need of relations that are not the policy's: keys of masks, sequences of defaults. Known
    /// of what is wanted only.
    pub(crate) lent: BTreeMap<QualifiedName, BTreeSet<Grant>>,
}

/// By table asked, the tables whose rules refuse by what they find there.
pub(crate) type Refusing = BTreeMap<QualifiedName, BTreeSet<QualifiedName>>;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RoleObject {
    /// What it may that a policy's role must not: `LOGIN`, `SUPERUSER`, `BYPASSRLS` and the like.
    pub(crate) excess: BTreeSet<String>,
    /// What keeps a role that is no longer wanted from being dropped, and is not the plan's to take away.
    pub(crate) held_by: BTreeSet<String>,
}

/// One role's membership in another, as one grantor gave it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Membership {
    pub(crate) role: String,
    pub(crate) member: String,
    /// Whom revoking it has to name: from PostgreSQL 16 on, each grantor's is another.
    pub(crate) grantor: Option<String>,
    /// Whether it may have been handed on.
    pub(crate) admin: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TableObject {
    /// Known of a catalog only.
    pub(crate) owner: String,
    pub(crate) row_security: bool,
    pub(crate) forced: bool,
    pub(crate) policies: BTreeMap<String, PolicyObject>,
    pub(crate) grants: BTreeSet<Grant>,
    /// Columns with a CHECK constraint. Known of a catalog only.
    pub(crate) columns: BTreeSet<String>,
    /// CHECK constraints of critical columns, by name.
    pub(crate) checks: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ViewObject {
    pub(crate) owner: String,
    pub(crate) definition: String,
    pub(crate) grants: BTreeSet<Grant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PolicyObject {
    pub(crate) permissive: bool,
    /// None for ALL.
    pub(crate) command: Option<Command>,
    pub(crate) roles: BTreeSet<String>,
    pub(crate) using: Option<String>,
    pub(crate) check: Option<String>,
}

/// One privilege on a table, or on one of its columns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Grant {
    pub(crate) role: String,
    pub(crate) privilege: Privilege,
    pub(crate) column: Option<String>,
    /// Whether it may be passed on. Never wanted.
    pub(crate) grantable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Privilege {
    Select,
    Insert,
    Update,
    Delete,
    Truncate,
    References,
    Trigger,
    Maintain,
    /// Of a sequence: drawing numbers from it.
    Usage,
}

impl Privilege {
    pub(crate) fn of(command: Command) -> Self {
        match command {
            Command::Select => Self::Select,
            Command::Insert => Self::Insert,
            Command::Update => Self::Update,
            Command::Delete => Self::Delete,
        }
    }
}

/// Something that weakens a policy and is no part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct Drift {
    /// What it is and what it does, in words.
    pub summary: String,
    /// The statement that removes it.
    pub remedy: String,
}

impl Drift {
    pub(crate) fn new(summary: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { summary: summary.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Drift {
    /// Writes what it is, then the statement that removes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.summary, self.remedy)
    }
}

/// A digest of what a plan reads of a database: equal digests mean that none of it has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// The digest in hexadecimal, 64 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl State {
    pub(crate) fn policy(&self, table: &QualifiedName, name: &str) -> Option<&PolicyObject> {
        self.tables.get(table)?.policies.get(name)
    }

    pub(crate) fn check(&self, table: &QualifiedName, name: &str) -> Option<&str> {
        self.tables.get(table)?.checks.get(name).map(String::as_str)
    }

    /// SHA-256 over the ordered data. The `Debug` form of ordered data is deterministic and tells every field apart;
    /// it is compared within one build of this crate only, never stored.
    pub(crate) fn digest(&self) -> Digest {
        let mut hasher = Hasher(Sha256::new());
        // A hasher takes whatever it is given.
        let _infallible = write!(hasher, "{self:?}");
        Digest(hex(&hasher.0.finalize()))
    }
}

/// Hashes what is written to it.
struct Hasher(Sha256);

impl fmt::Write for Hasher {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text);
        Ok(())
    }
}
