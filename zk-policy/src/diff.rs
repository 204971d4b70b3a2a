//! What must change so that the catalog holds what the policy wants, in an order that never passes through a wider state.

mod change;
mod direction;
mod order;
mod roles;
mod tables;

pub(crate) use self::change::{Change, Direction};
use self::tables::{Table, grouped, revoke_managed};
use crate::catalog::{Drift, State, TableObject};
use crate::schema::QualifiedName;
use crate::sql;

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

impl Difference {
    fn drift(&mut self, drift: Drift, roles: &[&String], table: Option<&QualifiedName>) {
        let roles = roles.iter().map(|role| (*role).clone()).collect();
        self.drift.push(Change::Remove { drift, roles, table: table.cloned(), ends_role: false });
    }
}

pub(crate) fn diff(policy: &str, desired: &State, catalog: &State) -> Difference {
    let mut found = Difference::default();
    roles::compare(desired, catalog, &mut found);
    for drift in &catalog.exposed {
        found.drift(drift.clone(), &[&sql::PUBLIC.to_owned()], None);
    }
    found.kept.extend(catalog.strangers.iter().cloned());
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
