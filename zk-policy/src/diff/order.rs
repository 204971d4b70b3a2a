//! The order of changes: no state between two of them lets anybody do what neither end does.

use std::collections::{BTreeMap, BTreeSet};

use super::tables::grouped;
use super::{Change, Direction};
use crate::catalog::{Grant, Privilege, State};
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
    let moves = Moves::of(changes);
    if moves.count < 2 {
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
    let restored: BTreeSet<(QualifiedName, Vec<Grant>)> = changes
        .iter()
        .filter_map(|change| match change {
            Change::Restore { table, grants } => Some((table.clone(), grants.clone())),
            _ => None,
        })
        .collect();
    for (table, grants) in closing {
        changes.push(Change::Close { table: table.clone(), grants: grants.clone() });
        if !restored.contains(&(table.clone(), grants.clone())) {
            changes.push(Change::Restore { table, grants });
        }
    }
}

/// Whether the rows that a role reaches with a command depend on several changed policies that may disagree.
fn mixes(moves: &Moves<'_>, questions: &Questions<'_>, right: (&str, &QualifiedName, Command)) -> bool {
    let (role, table, command) = right;
    let own: Vec<Direction> = moves.deciding(role, table, command).collect();
    let asked: usize = questions
        .asked(right)
        .into_iter()
        .map(|other| moves.deciding(role, other, Command::Select).count())
        .sum();
    let uniform = own
        .first()
        .is_some_and(|first| *first != Direction::Unclear && own.iter().all(|direction| direction == first));
    own.len() + asked > 1 && (asked > 0 || !uniform)
}

/// Changes of policies, or of whether there are any: by table, and then by role, everybody being one.
struct Moves<'a> {
    by_table: BTreeMap<&'a QualifiedName, BTreeMap<String, Vec<Move>>>,
    count: usize,
}

#[derive(Clone, Copy)]
struct Move {
    /// None for all.
    command: Option<Command>,
    direction: Direction,
    /// Its place among the changes.
    place: usize,
}

impl<'a> Moves<'a> {
    fn of(changes: &'a [Change]) -> Self {
        let mut moves = Self { by_table: BTreeMap::new(), count: 0 };
        for (place, change) in changes.iter().enumerate() {
            let (table, command) = match change {
                Change::CreatePolicy { table, policy, .. } => (table, policy.command),
                Change::AlterPolicy { table, after, .. } => (table, after.command),
                Change::DropPolicy { table, before, .. } => (table, before.command),
                Change::ReplacePolicy { table, before, after, .. } => {
                    (table, before.command.filter(|command| after.command == Some(*command)))
                }
                Change::RowSecurity { table, .. } => (table, None),
                _ => continue,
            };
            let (direction, roles, _) = change.access();
            moves.count += 1;
            for role in roles {
                let of_role = moves.by_table.entry(table).or_default().entry(role).or_default();
                of_role.push(Move { command, direction, place });
            }
        }
        moves
    }

    /// Which way those go that decide about a right, each once.
    fn deciding(
        &self,
        role: &str,
        table: &QualifiedName,
        command: Command,
    ) -> impl Iterator<Item = Direction> {
        let of =
            |role: &str| self.by_table.get(table).and_then(|roles| roles.get(role)).into_iter().flatten();
        let decides = move |found: &&Move| found.command.is_none_or(|c| c == command);
        let own: BTreeMap<usize, Direction> = of(role)
            .chain(of(sql::PUBLIC))
            .filter(decides)
            .map(|found| (found.place, found.direction))
            .collect();
        own.into_values()
    }
}

/// The command that a policy is for, None for all, and the tables that it asks.
type Question<'a> = (Option<Command>, Vec<&'a QualifiedName>);

/// Which tables the policies of a table ask: by table, and then by role, everybody being one.
struct Questions<'a> {
    asked: BTreeMap<&'a QualifiedName, BTreeMap<&'a str, Vec<Question<'a>>>>,
}

impl<'a> Questions<'a> {
    fn of(desired: &'a State, catalog: &'a State) -> Self {
        let mut by_name: BTreeMap<&str, Vec<&QualifiedName>> = BTreeMap::new();
        for name in desired.tables.keys() {
            by_name.entry(&name.table).or_default().push(name);
        }
        let mut questions = Self { asked: BTreeMap::new() };
        for (name, table) in desired.tables.iter().chain(&catalog.tables) {
            for policy in table.policies.values() {
                let texts = [&policy.using, &policy.check].into_iter().flatten();
                let tables = texts.flat_map(|text| tables_asked(text));
                let asked: BTreeSet<&QualifiedName> =
                    tables.filter_map(|table| by_name.get(table.as_str())).flatten().copied().collect();
                if asked.is_empty() {
                    continue;
                }
                let asked: Vec<&QualifiedName> = asked.into_iter().collect();
                for role in &policy.roles {
                    let of_role = questions.asked.entry(name).or_default().entry(role.as_str()).or_default();
                    of_role.push((policy.command, asked.clone()));
                }
            }
        }
        questions
    }

    /// The tables that decide about a right, beside its own.
    fn asked(
        &self,
        (role, table, command): (&str, &'a QualifiedName, Command),
    ) -> BTreeSet<&'a QualifiedName> {
        let mut found = BTreeSet::new();
        let mut open = vec![(table, command)];
        while let Some((table, command)) = open.pop() {
            let Some(of_table) = self.asked.get(table) else { continue };
            let binding = [role, sql::PUBLIC].into_iter().filter_map(|role| of_table.get(role)).flatten();
            for (_, asked) in binding.filter(|(only, _)| only.is_none_or(|c| c == command)) {
                let fresh = asked.iter().filter(|other| found.insert(**other));
                open.extend(fresh.map(|other| (*other, Command::Select)));
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
