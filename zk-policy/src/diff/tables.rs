//! One table: its row-level security, policies, checks and privileges.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Difference};
use crate::catalog::{Drift, Grant, PolicyObject, Privilege, State, TableObject};
use crate::compile::{PREFIX, check_name, floor_name};
use crate::schema::QualifiedName;
use crate::sql;

/// One table as it should be and as it is.
pub(super) struct Table<'a> {
    pub(super) policy: &'a str,
    pub(super) name: &'a QualifiedName,
    pub(super) wanted: &'a TableObject,
    pub(super) held: &'a TableObject,
    pub(super) catalog: &'a State,
}

impl Table<'_> {
    pub(super) fn changes(&self, found: &mut Difference) {
        let Self { name, held, .. } = self;
        if !(held.row_security && held.forced) {
            let (enable, force) = (!held.row_security, !held.forced);
            found.changes.push(Change::RowSecurity { table: (*name).clone(), enable, force });
        }
        self.policies(found);
        self.other_floors(found);
        self.checks(&mut found.changes);
        self.grants(&mut found.changes);
        self.foreign_grants(found);
    }

    /// The floor of a policy that stands alongside, where it names its roles, is laid under the roles of this one as well.
    fn other_floors(&self, found: &mut Difference) {
        let Self { name, wanted, held, catalog, .. } = self;
        let roles: BTreeSet<&String> = wanted.policies.values().flat_map(|policy| &policy.roles).collect();
        for floor in catalog.alongside.iter().map(|other| floor_name(other)) {
            let Some(before) = held.policies.get(&floor).filter(|p| !p.permissive && p.command.is_none())
            else {
                continue;
            };
            let mut after = before.clone();
            after.roles.extend(roles.iter().filter(|role| **role != sql::PUBLIC).map(|role| (*role).clone()));
            if !before.roles.contains(sql::PUBLIC) && after != *before {
                let (table, before) = ((*name).clone(), before.clone());
                found.changes.push(Change::AlterPolicy { table, name: floor, before, after });
            }
        }
    }

    fn policies(&self, found: &mut Difference) {
        let Self { name, wanted, held, .. } = self;
        for (policy_name, policy) in &wanted.policies {
            let (table, name, policy) = ((*name).clone(), policy_name.clone(), policy.clone());
            match held.policies.get(policy_name) {
                None => found.changes.push(Change::CreatePolicy { table, name, policy }),
                Some(before) if *before == policy => {}
                // ALTER POLICY can change neither the kind nor the command, nor take a clause away.
                Some(before)
                    if before.permissive == policy.permissive
                        && before.command == policy.command
                        && before.using.is_some() == policy.using.is_some()
                        && before.check.is_some() == policy.check.is_some() =>
                {
                    let before = before.clone();
                    found.changes.push(Change::AlterPolicy { table, name, before, after: policy });
                }
                Some(before) => {
                    let before = before.clone();
                    found.changes.push(Change::ReplacePolicy { table, name, before, after: policy });
                }
            }
        }
        let made = self.obsolete_policies(found);
        let others =
            held.policies.iter().filter(|(n, _)| !wanted.policies.contains_key(*n) && !made.contains(*n));
        for (policy_name, before) in others {
            if before.permissive && !before.roles.is_subset(&self.catalog.others) {
                let what = format!("policy {policy_name} on {name} is not ours and may admit rows");
                let remedy = sql::drop_policy(&sql::table(name), policy_name);
                found.drift(Drift::new(what, remedy), &before.roles.iter().collect::<Vec<_>>(), Some(name));
            }
        }
    }

    /// Drops what this policy made and no longer wants, and returns their names.
    pub(super) fn obsolete_policies(&self, found: &mut Difference) -> BTreeSet<String> {
        let obsolete = self
            .held
            .policies
            .iter()
            .filter(|(name, held)| !self.wanted.policies.contains_key(*name) && self.made(name, held));
        let mut names = BTreeSet::new();
        for (name, before) in obsolete {
            names.insert(name.clone());
            let (table, name, before) = (self.name.clone(), name.clone(), before.clone());
            found.changes.push(Change::DropPolicy { table, name, before });
        }
        names
    }

    /// Whether an object of that name is one that this policy made: its floor, or rows for its roles and no other.
    fn made(&self, name: &str, policy: &PolicyObject) -> bool {
        name == floor_name(self.policy)
            || name.starts_with(PREFIX)
                && !policy.roles.is_empty()
                && policy.roles.iter().all(|role| is_ours(role, self.catalog))
    }

    pub(super) fn checks(&self, changes: &mut Vec<Change>) {
        let Self { name, wanted, held, .. } = self;
        for (check_name, check) in &wanted.checks {
            let (table, name, check) = ((*name).clone(), check_name.clone(), check.clone());
            match held.checks.get(check_name) {
                None => changes.push(Change::AddCheck { table, name, check }),
                Some(before) if *before == check => {}
                Some(_) => changes.push(Change::ReplaceCheck { table, name, check }),
            }
        }
        // By the whole name: another policy's may begin like it.
        let made = |check: &str| held.columns.iter().any(|column| check_name(self.policy, column) == check);
        for check in held.checks.keys().filter(|check| !wanted.checks.contains_key(*check) && made(check)) {
            changes.push(Change::DropCheck { table: (*name).clone(), name: check.clone() });
        }
    }

    fn grants(&self, changes: &mut Vec<Change>) {
        let Self { name, wanted, held, .. } = self;
        let missing: BTreeSet<Grant> = wanted.grants.difference(&held.grants).cloned().collect();
        let revoked = revoke_managed(name, &wanted.grants, &held.grants, self.catalog, changes);
        // Revoking for the whole table takes the plain privilege on the column as well, and what could be passed on is
        // taken from everybody who has it from there.
        let lost = |g: &&Grant| {
            revoked.iter().any(|r| {
                (r.grantable || r.role == g.role)
                    && r.privilege == g.privilege
                    && (r.column.is_none() || r.column == g.column)
            })
        };
        let same =
            |a: &Grant, b: &Grant| (&a.role, a.privilege, &a.column) == (&b.role, b.privilege, &b.column);
        let had = |g: &&Grant| held.grants.iter().any(|h| same(h, g));
        let restored: BTreeSet<Grant> = wanted.grants.iter().filter(had).filter(lost).cloned().collect();
        for grants in grouped(&restored) {
            changes.push(Change::Restore { table: (*name).clone(), grants });
        }
        for grants in grouped(&missing.difference(&restored).cloned().collect()) {
            changes.push(Change::Grant { table: (*name).clone(), grants });
        }
    }

    /// What roles of nobody's policy hold.
    fn foreign_grants(&self, found: &mut Difference) {
        let Self { name, catalog, .. } = self;
        let foreign = self
            .held
            .grants
            .iter()
            .filter(|g| !is_ours(&g.role, catalog) && !catalog.others.contains(&g.role));
        for (role, privilege) in foreign.map(|g| (&g.role, g.privilege)).collect::<BTreeSet<_>>() {
            let keyword = privilege.keyword();
            let passed_on =
                self.held.grants.iter().any(|g| g.grantable && (&g.role, g.privilege) == (role, privilege));
            let cascade = if passed_on { " CASCADE" } else { "" };
            let what = format!("{role} has {keyword} on {name} outside the policy");
            let remedy =
                format!("REVOKE {keyword} ON {} FROM {}{cascade}", sql::table(name), sql::role(role));
            found.drift(Drift::new(what, remedy), &[role], Some(name));
        }
    }
}

/// Takes away every privilege of the policy's roles on `name` that is not in `wanted`, and returns them.
pub(super) fn revoke_managed(
    name: &QualifiedName,
    wanted: &BTreeSet<Grant>,
    held: &BTreeSet<Grant>,
    catalog: &State,
    changes: &mut Vec<Change>,
) -> BTreeSet<Grant> {
    let excess: BTreeSet<Grant> =
        held.difference(wanted).filter(|g| is_ours(&g.role, catalog)).cloned().collect();
    for grants in grouped(&excess) {
        changes.push(Change::Revoke { table: name.clone(), grants });
    }
    excess
}

fn is_ours(role: &str, catalog: &State) -> bool {
    catalog.roles.contains_key(role)
}

/// Grants that one statement can carry: same role and privilege, all on columns or all on the table.
pub(super) fn grouped(grants: &BTreeSet<Grant>) -> Vec<Vec<Grant>> {
    let mut groups: BTreeMap<(&str, Privilege, bool), Vec<Grant>> = BTreeMap::new();
    for grant in grants {
        groups.entry((&grant.role, grant.privilege, grant.column.is_some())).or_default().push(grant.clone());
    }
    groups.into_values().collect()
}
