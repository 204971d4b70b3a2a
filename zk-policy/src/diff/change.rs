//! Changes, and whose access each of them moves.

use std::collections::BTreeSet;

use super::direction::altered;
use crate::catalog::{Drift, Grant, PolicyObject, ViewObject};
use crate::schema::QualifiedName;

/// One change, as small as a reviewer would want to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    CreateRole {
        role: String,
    },
    StripRole {
        role: String,
        excess: BTreeSet<String>,
    },
    RowSecurity {
        table: QualifiedName,
        enable: bool,
        force: bool,
    },
    CreatePolicy {
        table: QualifiedName,
        name: String,
        policy: PolicyObject,
    },
    AlterPolicy {
        table: QualifiedName,
        name: String,
        before: PolicyObject,
        after: PolicyObject,
    },
    DropPolicy {
        table: QualifiedName,
        name: String,
        before: PolicyObject,
    },
    /// Puts another policy in the place of one that cannot be altered to it.
    ReplacePolicy {
        table: QualifiedName,
        name: String,
        before: PolicyObject,
        after: PolicyObject,
    },
    Grant {
        table: QualifiedName,
        grants: Vec<Grant>,
    },
    /// Takes away what is granted again when the policies that decide about it have changed.
    Close {
        table: QualifiedName,
        grants: Vec<Grant>,
    },
    /// Grants again what a revoke for the whole table takes from the columns as well, or what was closed.
    Restore {
        table: QualifiedName,
        grants: Vec<Grant>,
    },
    Revoke {
        table: QualifiedName,
        grants: Vec<Grant>,
    },
    GrantUsage {
        schema: String,
        role: String,
    },
    RevokeUsage {
        schema: String,
        role: String,
    },
    RevokeCreate {
        schema: String,
        role: String,
    },
    CreateSchema {
        schema: String,
    },
    CreateView {
        name: QualifiedName,
        view: ViewObject,
    },
    DropView {
        name: QualifiedName,
        before: ViewObject,
    },
    AddCheck {
        table: QualifiedName,
        name: String,
        check: String,
    },
    ReplaceCheck {
        table: QualifiedName,
        name: String,
        check: String,
    },
    DropCheck {
        table: QualifiedName,
        name: String,
    },
    /// Removes what weakens the policy without being part of it. Planned only when asked for.
    Remove {
        drift: Drift,
        roles: BTreeSet<String>,
        table: Option<QualifiedName>,
        /// Whether it is the end of a role, on which nothing may depend any more.
        ends_role: bool,
    },
}

/// What the changes do to one role's access to one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    Neither,
    Narrows,
    Widens,
    /// Cannot be told from the two conditions; to be reviewed as widening.
    Unclear,
}

impl Change {
    pub(crate) fn into_drift(self) -> Option<Drift> {
        match self {
            Self::Remove { drift, .. } => Some(drift),
            _ => None,
        }
    }

    /// Whether it removes a role, on which nothing may depend any more.
    pub(crate) fn ends_role(&self) -> bool {
        matches!(self, Self::Remove { ends_role: true, .. })
    }

    /// Whose access to which table this change moves, and which way.
    pub(crate) fn access(&self) -> (Direction, BTreeSet<String>, Option<&QualifiedName>) {
        match self {
            Self::CreateRole { .. }
            | Self::AddCheck { .. }
            | Self::ReplaceCheck { .. }
            | Self::Close { .. }
            | Self::Restore { .. } => (Direction::Neither, BTreeSet::new(), None),
            Self::CreateSchema { .. } => (Direction::Neither, BTreeSet::new(), None),
            Self::CreateView { name, view } => (Direction::Widens, grantees(view), Some(name)),
            Self::DropView { name, before } => (Direction::Narrows, grantees(before), Some(name)),
            Self::StripRole { role, .. } => (Direction::Narrows, BTreeSet::from([role.clone()]), None),
            Self::RowSecurity { table, .. } => {
                (Direction::Narrows, BTreeSet::from([crate::sql::PUBLIC.to_owned()]), Some(table))
            }
            Self::CreatePolicy { table, policy, .. } => {
                let direction = if policy.permissive { Direction::Widens } else { Direction::Narrows };
                (direction, policy.roles.clone(), Some(table))
            }
            Self::DropPolicy { table, before, .. } => {
                let direction = if before.permissive { Direction::Narrows } else { Direction::Widens };
                (direction, before.roles.clone(), Some(table))
            }
            Self::AlterPolicy { table, before, after, .. } => {
                let (direction, roles) = altered(before, after);
                (direction, roles, Some(table))
            }
            Self::ReplacePolicy { table, before, after, .. } => {
                let roles = before.roles.union(&after.roles).cloned().collect();
                let narrows = before.permissive && !after.permissive;
                (if narrows { Direction::Narrows } else { Direction::Unclear }, roles, Some(table))
            }
            Self::Remove { roles, table, .. } => (Direction::Narrows, roles.clone(), table.as_ref()),
            Self::Grant { table, grants } => (Direction::Widens, roles_of(grants), Some(table)),
            Self::Revoke { table, grants } => (Direction::Narrows, roles_of(grants), Some(table)),
            Self::GrantUsage { role, .. } => (Direction::Widens, BTreeSet::from([role.clone()]), None),
            Self::DropCheck { table, .. } => {
                (Direction::Widens, BTreeSet::from([crate::sql::PUBLIC.to_owned()]), Some(table))
            }
            Self::RevokeUsage { role, .. } | Self::RevokeCreate { role, .. } => {
                (Direction::Narrows, BTreeSet::from([role.clone()]), None)
            }
        }
    }
}

fn grantees(view: &ViewObject) -> BTreeSet<String> {
    view.grants.iter().map(|g| g.role.clone()).collect()
}

fn roles_of(grants: &[Grant]) -> BTreeSet<String> {
    grants.iter().map(|g| g.role.clone()).collect()
}
