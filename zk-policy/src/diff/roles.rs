//! Roles: which there are, what they may beside the policy, whose members they are, and which schemas they may use.

use std::collections::BTreeSet;

use super::{Change, Difference};
use crate::catalog::{Drift, Membership, RoleObject, State};
use crate::sql;

/// How many of the things that hold a role are named.
const NAMED: usize = 3;

pub(super) fn compare(desired: &State, catalog: &State, found: &mut Difference) {
    for (role, wanted) in &desired.roles {
        match catalog.roles.get(role) {
            None => found.changes.push(Change::CreateRole { role: role.clone() }),
            Some(held) => role_changes(role, wanted, held, found),
        }
    }
    for (role, held) in catalog.roles.iter().filter(|(role, _)| !desired.roles.contains_key(*role)) {
        obsolete_role(role, held, found);
    }
    for membership in &catalog.memberships {
        let Membership { role, member, .. } = membership;
        let what = if catalog.roles.contains_key(member) {
            format!("role {member} is a member of {role} and so has its rights")
        } else {
            format!("{member} is a member of {role} and so sees what masks hide")
        };
        found.drift(Drift::new(what, sql::revoke_membership(membership)), &[member], None);
    }
    for (schema, role) in desired.usage.difference(&catalog.usage).cloned() {
        found.changes.push(Change::GrantUsage { schema, role });
    }
    for (schema, role) in catalog.usage.difference(&desired.usage).cloned() {
        found.changes.push(Change::RevokeUsage { schema, role });
    }
    for (schema, role) in catalog.creating.iter().cloned() {
        found.changes.push(Change::RevokeCreate { schema, role });
    }
}

fn role_changes(role: &str, wanted: &RoleObject, held: &RoleObject, found: &mut Difference) {
    let excess: BTreeSet<String> = held.excess.difference(&wanted.excess).cloned().collect();
    if !excess.is_empty() {
        found.changes.push(Change::StripRole { role: role.to_owned(), excess });
    }
}

/// A role is dropped where nothing else holds it: roles belong to the server, and other databases may give it rights.
fn obsolete_role(role: &str, held: &RoleObject, found: &mut Difference) {
    let mut what = format!("role {role} is no longer in the policy");
    if held.held_by.is_empty() {
        let drift = Drift::new(what, format!("DROP ROLE {}", sql::ident(role)));
        let roles = BTreeSet::from([role.to_owned()]);
        found.drift.push(Change::Remove { drift, roles, table: None, ends_role: true });
        return;
    }
    let holders: Vec<&str> = held.held_by.iter().map(String::as_str).take(NAMED).collect();
    let more = if held.held_by.len() > NAMED { " and more" } else { "" };
    what.push_str(&format!(
        ", and stays because of {}{more}: plan and apply the policy in those databases too, or look at what it has there \
         and take it away",
        holders.join(", ")
    ));
    found.kept.push(Drift::new(what, format!("DROP OWNED BY {}", sql::ident(role))));
}
