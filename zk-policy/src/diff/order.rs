//! The order of changes: no state between two of them lets anybody do what neither end does.

use std::collections::{BTreeMap, BTreeSet};

use super::tables::grouped;
use super::{Change, Direction};
use crate::catalog::{Grant, PolicyObject, Privilege, State};
use crate::document::Command;
use crate::schema::QualifiedName;
use crate::sql;

/// Puts the changes in order, and adds what keeps rows closed while the policies that decide about them change.
pub(super) fn arrange(changes: &mut Vec<Change>, desired: &State, catalog: &State) {
    close(changes, desired, catalog);
    changes.sort_by_key(stage);
}

/// Narrowing before widening, and everything after what it needs.
fn stage(change: &Change) -> u8 {
    match change {
        Change::CreateRole { .. } | Change::StripRole { .. } => 0,
        Change::Revoke { .. } | Change::RevokeUsage { .. } | Change::RevokeCreate { .. } => 1,
        Change::DropView { .. } | Change::Close { .. } | Change::Remove { .. } => 1,
        Change::RowSecurity { .. } | Change::CreateSchema { .. } => 2,
        Change::CreatePolicy { policy, .. } if !policy.permissive => 3,
        Change::DropPolicy { before, .. } if before.permissive => 4,
        Change::AddCheck { .. } | Change::ReplaceCheck { .. } => 5,
        Change::AlterPolicy { .. } | Change::ReplacePolicy { .. } => 6,
        Change::DropPolicy { .. } | Change::DropCheck { .. } => 7,
        Change::CreatePolicy { .. } => 8,
        Change::CreateView { .. } => 9,
        Change::GrantUsage { .. } | Change::Grant { .. } | Change::Restore { .. } => 10,
    }
}

/// Takes privileges away first and gives them back last, where more than one changed policy decides about the rows: some
/// of them old and some new may together admit a row that they do not admit all old or all new.
///
/// Policies that decide are those of the table itself, and through an `exists` those for reading other tables. Several that
/// all narrow, or all widen, need no care on one table; through an `exists` there is no telling, because it may be negated.
fn close(changes: &mut Vec<Change>, desired: &State, catalog: &State) {
    let moves: Vec<Move<'_>> = changes.iter().filter_map(Move::of).collect();
    if moves.len() < 2 {
        return;
    }
    let questions = Questions::of(desired, catalog);
    let mut closing = Vec::new();
    for (table, wanted) in &desired.tables {
        let Some(found) = catalog.tables.get(table) else { continue };
        let kept: BTreeSet<Grant> = wanted.grants.intersection(&found.grants).cloned().collect();
        for grants in grouped(&kept) {
            let Some(Grant { role, privilege, .. }) = grants.first() else { continue };
            let Some(command) = command(*privilege) else { continue };
            if mixes(&moves, &questions, (role, table, command)) {
                closing.push((table.clone(), grants));
            }
        }
    }
    for (table, grants) in closing {
        changes.push(Change::Close { table: table.clone(), grants: grants.clone() });
        let restored = Change::Restore { table, grants };
        if !changes.contains(&restored) {
            changes.push(restored);
        }
    }
}

/// Whether the rows that a role reaches with a command depend on several changed policies that may disagree.
fn mixes(moves: &[Move<'_>], questions: &Questions<'_>, right: (&String, &QualifiedName, Command)) -> bool {
    let (role, table, command) = right;
    let deciding = |table: &QualifiedName, command| {
        let binds = move |m: &&Move<'_>| m.binds(role) && m.command.is_none_or(|c| c == command);
        let table = table.clone();
        moves.iter().filter(move |m| *m.table == table).filter(binds)
    };
    let own: BTreeSet<Direction> = deciding(table, command).map(|m| m.direction).collect();
    let asked: usize =
        questions.asked(right).into_iter().map(|other| deciding(other, Command::Select).count()).sum();
    let count = deciding(table, command).count() + asked;
    let uniform = own.len() == 1 && !own.contains(&Direction::Unclear);
    count > 1 && (asked > 0 || !uniform)
}

/// A change of a policy, or of whether there are any.
struct Move<'a> {
    table: &'a QualifiedName,
    /// None for all.
    command: Option<Command>,
    roles: BTreeSet<String>,
    direction: Direction,
}

impl<'a> Move<'a> {
    fn of(change: &'a Change) -> Option<Self> {
        let (direction, roles, _) = change.access();
        let (table, command) = match change {
            Change::CreatePolicy { table, policy, .. } => (table, policy.command),
            Change::AlterPolicy { table, after, .. } => (table, after.command),
            Change::DropPolicy { table, before, .. } => (table, before.command),
            Change::ReplacePolicy { table, before, after, .. } => {
                (table, before.command.filter(|command| after.command == Some(*command)))
            }
            Change::RowSecurity { table, .. } => (table, None),
            _ => return None,
        };
        Some(Self { table, command, roles, direction })
    }

    fn binds(&self, role: &str) -> bool {
        self.roles.contains(role) || self.roles.contains(sql::PUBLIC)
    }
}

/// Which tables the policies of a table ask.
struct Questions<'a> {
    policies: BTreeMap<&'a QualifiedName, Vec<(&'a PolicyObject, Vec<&'a QualifiedName>)>>,
}

impl<'a> Questions<'a> {
    fn of(desired: &'a State, catalog: &'a State) -> Self {
        let mut by_name: BTreeMap<&str, Vec<&QualifiedName>> = BTreeMap::new();
        for name in desired.tables.keys() {
            by_name.entry(&name.table).or_default().push(name);
        }
        let mut policies: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, table) in desired.tables.iter().chain(&catalog.tables) {
            for policy in table.policies.values() {
                let texts = [&policy.using, &policy.check].into_iter().flatten();
                let tables = texts.flat_map(|text| tables_asked(text));
                let asked: Vec<&QualifiedName> =
                    tables.filter_map(|table| by_name.get(table.as_str())).flatten().copied().collect();
                if !asked.is_empty() {
                    policies.entry(name).or_default().push((policy, asked));
                }
            }
        }
        Self { policies }
    }

    /// The tables that decide about a right, beside its own.
    fn asked(
        &self,
        (role, table, command): (&String, &'a QualifiedName, Command),
    ) -> BTreeSet<&'a QualifiedName> {
        let mut found = BTreeSet::new();
        let mut open = vec![(table, command)];
        while let Some((table, command)) = open.pop() {
            for (policy, asked) in self.policies.get(table).into_iter().flatten() {
                let binds = policy.roles.contains(role) || policy.roles.contains(sql::PUBLIC);
                if binds && policy.command.is_none_or(|c| c == command) {
                    let fresh = asked.iter().filter(|other| found.insert(**other));
                    open.extend(fresh.map(|other| (*other, Command::Select)));
                }
            }
        }
        found
    }
}

/// The names that follow a `FROM`, without their schemas: a few too many where a text has that word in it, never too few in
/// what we compile.
fn tables_asked(expr: &str) -> Vec<String> {
    let mut parts = expr.split("FROM ");
    parts.next();
    parts.map(last_name).collect()
}

/// The last part of the qualified name that a text begins with: `t` of `s.t` and of `"s"."t" WHERE …`.
fn last_name(text: &str) -> String {
    let mut name = String::new();
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => name.extend(chars.next()),
            '"' => quoted = !quoted,
            '.' if !quoted => name.clear(),
            c if quoted || c.is_alphanumeric() || c == '_' || c == '$' => name.push(c),
            _ => break,
        }
    }
    name
}

fn command(privilege: Privilege) -> Option<Command> {
    Command::ALL.into_iter().find(|command| Privilege::of(*command) == privilege)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_we_write_them_and_as_the_server_does() {
        let ours = r#"("a" = ANY (ARRAY(SELECT "id" FROM "My Schema"."Ta""b.le" WHERE ("x" = 'FROM y'))))"#;
        assert_eq!(tables_asked(ours), ["Ta\"b.le", "y"]);
        let servers =
            "(a = ANY (ARRAY( SELECT customers.id\n   FROM public.customers\n  WHERE (customers.b > 3))))";
        assert_eq!(tables_asked(servers), ["customers"]);
        assert!(
            tables_asked("(t = ( SELECT (NULLIF(current_setting('zk.t'::text, true), ''::text))::bigint))")
                .is_empty()
        );
    }
}
