//! What must change so that the catalog holds what the policy wants, in an order that never passes through a wider state.

mod order;

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::{
    Drift, Grant, Membership, PolicyObject, Privilege, RoleObject, State, TableObject, ViewObject,
};
use crate::compile::{PREFIX, check_name, floor_name};
use crate::schema::QualifiedName;
use crate::sql;

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

/// What stands between a database and what `policy` wants.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// Narrowing ones first.
    pub(crate) changes: Vec<Change>,
    /// What the policy does not manage but is weakened by, each as the change that would remove it.
    pub(crate) drift: Vec<Change>,
    /// The same, where nothing that is done in this database would remove it.
    pub(crate) kept: Vec<Drift>,
}

/// How many of the things that hold a role are named.
const NAMED: usize = 3;

impl Difference {
    fn drift(&mut self, drift: Drift, roles: &[&String], table: Option<&QualifiedName>) {
        let roles = roles.iter().map(|role| (*role).clone()).collect();
        self.drift.push(Change::Remove { drift, roles, table: table.cloned(), ends_role: false });
    }
}

pub(crate) fn diff(policy: &str, desired: &State, catalog: &State) -> Difference {
    let mut found = Difference::default();
    for (role, wanted) in &desired.roles {
        match catalog.roles.get(role) {
            None => found.changes.push(Change::CreateRole { role: role.clone() }),
            Some(held) => role_changes(role, wanted, held, &mut found),
        }
    }
    for (role, held) in catalog.roles.iter().filter(|(role, _)| !desired.roles.contains_key(*role)) {
        obsolete_role(role, held, &mut found);
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
    for drift in &catalog.exposed {
        found.drift(drift.clone(), &[&sql::PUBLIC.to_owned()], None);
    }
    view_changes(desired, catalog, &mut found.changes);
    let nothing = TableObject::default();
    for (name, wanted) in &desired.tables {
        let table =
            Table { policy, name, wanted, held: catalog.tables.get(name).unwrap_or(&nothing), catalog };
        table.changes(&mut found);
    }
    for (name, wanted) in &desired.lent {
        let held = &catalog.tables.get(name).unwrap_or(&nothing).grants;
        for grants in grouped(&wanted.difference(held).cloned().collect()) {
            found.changes.push(Change::Grant { table: name.clone(), grants });
        }
    }
    for (name, held) in catalog.tables.iter().filter(|(n, _)| !desired.tables.contains_key(*n)) {
        // Our roles' privileges are ours wherever they are; the table itself is not in the policy.
        let lent = desired.lent.get(name).unwrap_or(&nothing.grants);
        revoke_managed(name, lent, &held.grants, catalog, &mut found.changes);
        // What it made there goes too. Row-level security stays: whoever else has privileges would see every row.
        let left = Table { policy, name, wanted: &nothing, held, catalog };
        left.obsolete_policies(&mut found);
        left.checks(&mut found.changes);
    }
    order::arrange(&mut found.changes, desired, catalog);
    found
}

/// A view that differs in anything is made again: it holds nothing, and belongs to a role that nobody acts as.
fn view_changes(desired: &State, catalog: &State, changes: &mut Vec<Change>) {
    for schema in desired.schemas.difference(&catalog.schemas) {
        changes.push(Change::CreateSchema { schema: schema.clone() });
    }
    for (name, before) in
        catalog.views.iter().filter(|(name, before)| desired.views.get(*name) != Some(*before))
    {
        changes.push(Change::DropView { name: name.clone(), before: before.clone() });
    }
    for (name, view) in desired.views.iter().filter(|(name, view)| catalog.views.get(*name) != Some(*view)) {
        changes.push(Change::CreateView { name: name.clone(), view: view.clone() });
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

/// One table as it should be and as it is.
struct Table<'a> {
    policy: &'a str,
    name: &'a QualifiedName,
    wanted: &'a TableObject,
    held: &'a TableObject,
    catalog: &'a State,
}

impl Table<'_> {
    fn changes(&self, found: &mut Difference) {
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
    fn obsolete_policies(&self, found: &mut Difference) -> BTreeSet<String> {
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

    fn checks(&self, changes: &mut Vec<Change>) {
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
fn revoke_managed(
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
fn grouped(grants: &BTreeSet<Grant>) -> Vec<Vec<Grant>> {
    let mut groups: BTreeMap<(&str, Privilege, bool), Vec<Grant>> = BTreeMap::new();
    for grant in grants {
        groups.entry((&grant.role, grant.privilege, grant.column.is_some())).or_default().push(grant.clone());
    }
    groups.into_values().collect()
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

/// Which way a changed policy moves, and whom. Where only its roles changed, those whom a permissive one gained or a
/// restrictive one lost may do more, unless it holds for everybody.
fn altered(before: &PolicyObject, after: &PolicyObject) -> (Direction, BTreeSet<String>) {
    let all: BTreeSet<String> = before.roles.union(&after.roles).cloned().collect();
    if before.roles == after.roles {
        return (moved_clauses(before, after), all);
    }
    let gained: BTreeSet<String> = after.roles.difference(&before.roles).cloned().collect();
    let lost: BTreeSet<String> = before.roles.difference(&after.roles).cloned().collect();
    let everybody = all.contains(sql::PUBLIC);
    let same = (&before.using, &before.check) == (&after.using, &after.check);
    let (wider, narrower) = if before.permissive { (gained, lost) } else { (lost, gained) };
    match (wider.is_empty(), narrower.is_empty()) {
        (false, true) if same && !everybody => (Direction::Widens, wider),
        (true, false) if same && !everybody => (Direction::Narrows, narrower),
        _ => (Direction::Unclear, all),
    }
}

/// Which way changed conditions move. Both are the server's own spelling, so equal parts spell the same: a disjunction that
/// only gained members admits more, a conjunction that only gained members admits less.
fn moved_clauses(before: &PolicyObject, after: &PolicyObject) -> Direction {
    let clauses = [(&before.using, &after.using), (&before.check, &after.check)];
    let directions: BTreeSet<Direction> = clauses
        .into_iter()
        .filter_map(|(b, a)| Some(moved(b.as_deref()?, a.as_deref()?)))
        .filter(|d| *d != Direction::Neither)
        .collect();
    match (directions.first(), directions.len()) {
        (None, _) => Direction::Neither,
        (Some(one), 1) => *one,
        _ => Direction::Unclear,
    }
}

fn moved(before: &str, after: &str) -> Direction {
    if before == after {
        return Direction::Neither;
    }
    if before == "true" {
        return Direction::Narrows;
    }
    if after == "true" {
        return Direction::Widens;
    }
    let either = |word| (top_level(before, word), top_level(after, word));
    let (before_or, after_or) = either(" OR ");
    if before_or.is_subset(&after_or) {
        return Direction::Widens;
    }
    if after_or.is_subset(&before_or) {
        return Direction::Narrows;
    }
    let (before_and, after_and) = either(" AND ");
    if before_and.is_subset(&after_and) {
        return Direction::Narrows;
    }
    if after_and.is_subset(&before_and) {
        return Direction::Widens;
    }
    Direction::Unclear
}

/// The members of the outermost chain of `word` (` OR `, ` AND `); the whole expression when there is none.
/// Relies on the server's deparser putting parentheses around every nested chain.
fn top_level<'a>(expr: &'a str, word: &str) -> BTreeSet<&'a str> {
    let inner = strip_parentheses(expr);
    let parts = split_top_level(inner, word);
    let other = if word == " OR " { " AND " } else { " OR " };
    if parts.len() > 1 && split_top_level(inner, other).len() > 1 {
        // A mixed chain would mean that the assumption above is wrong: compare as a whole.
        return BTreeSet::from([expr]);
    }
    parts.into_iter().map(strip_parentheses).collect()
}

fn strip_parentheses(expr: &str) -> &str {
    let mut expr = expr.trim();
    while let Some(inner) = expr.strip_prefix('(').and_then(|e| e.strip_suffix(')')) {
        // `(a) OR (b)` starts and ends with parentheses that do not belong together.
        if depth_stays_positive(inner) { expr = inner.trim() } else { break }
    }
    expr
}

fn depth_stays_positive(inner: &str) -> bool {
    let mut scan = Scan::default();
    inner.chars().all(|c| {
        scan.step(c);
        scan.depth >= 0
    }) && scan.depth == 0
}

fn split_top_level<'a>(expr: &'a str, word: &str) -> Vec<&'a str> {
    let mut scan = Scan::default();
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, c) in expr.char_indices() {
        if scan.depth == 0
            && scan.quote.is_none()
            && expr.get(at..).is_some_and(|rest| rest.starts_with(word))
        {
            parts.extend(expr.get(start..at));
            start = at + word.len();
        }
        scan.step(c);
    }
    parts.extend(expr.get(start..));
    parts
}

/// Depth of parentheses, outside quotes. A doubled quote closes and opens again, which comes to the same.
#[derive(Default)]
struct Scan {
    depth: i32,
    quote: Option<char>,
}

impl Scan {
    fn step(&mut self, c: char) {
        match self.quote {
            Some(quote) if c == quote => self.quote = None,
            Some(_) => {}
            None => match c {
                '\'' | '"' => self.quote = Some(c),
                '(' => self.depth += 1,
                ')' => self.depth -= 1,
                _ => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disjunction_that_gains_a_member_widens() {
        let (one, two) = ("(a = 1)", "((a = 1) OR (b = 2))");
        assert_eq!(moved(one, two), Direction::Widens);
        assert_eq!(moved(two, one), Direction::Narrows);
    }

    #[test]
    fn a_conjunction_that_gains_a_member_narrows() {
        let (one, two) = ("(NOT hold)", "((NOT hold) AND (b = 2))");
        assert_eq!(moved(one, two), Direction::Narrows);
        assert_eq!(moved(two, one), Direction::Widens);
    }

    #[test]
    fn an_unrelated_condition_is_unclear() {
        assert_eq!(moved("(a = 1)", "(a = 2)"), Direction::Unclear);
    }

    #[test]
    fn words_inside_quotes_and_parentheses_do_not_split() {
        let before = "(a = 'x OR y'::text)";
        assert_eq!(top_level(before, " OR ").len(), 1);
        assert_eq!(top_level("((a = ')'::text) OR (\"b OR\" = 1))", " OR ").len(), 2);
        assert_eq!(top_level("((a AND (b OR c)) OR d)", " OR ").len(), 2);
    }
}
