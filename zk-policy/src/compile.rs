//! A checked [`Policy`] into the roles, grants, policies and checks that enforce it. Cannot fail.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::{Grant, PolicyObject, Privilege, Refusing, RoleObject, State, TableObject, ViewObject};
use crate::document::Command;
use crate::ir::{Policy, Predicate, Right, TablePolicy, view_role};
use crate::mask::{self, Mask};
use crate::schema::QualifiedName;
use crate::secret::hex;
use crate::sql;
use crate::sql::predicate::{self, Settings};

/// Every object that we make starts with this, so that ours and others' are told apart.
pub(crate) const PREFIX: &str = "zk_";

/// What the database must hold for the policy to be enforced.
///
/// Shapes, with reasons (PostgreSQL manual, sections 5.8 and 5.9):
/// - row-level security is forced, so that the owner of a table is subject to it as well;
/// - the tenant's floor is restrictive and holds for everybody, on reads and on writes: nothing that anyone permits
///   later can pass it;
/// - each command of each role has one permissive policy with all its `allow` rules, and one restrictive policy with
///   its `deny` rules; a `WITH CHECK` is always written out, because the default would be the `USING` expression;
/// - privileges on columns are granted by list, so that a column added later stays closed until the policy is
///   planned again.
pub(crate) fn compile(policy: &Policy) -> State {
    let mut state = State { alongside: policy.alongside.clone(), ..State::default() };
    for role in policy.roles() {
        state.roles.insert(policy.database_role(role), RoleObject::default());
    }
    for (name, table) in &policy.tables {
        for role in table.rights.keys() {
            state.usage.insert((name.schema.clone(), policy.database_role(role)));
            if policy.signed {
                state.usage.insert(("zk".to_owned(), policy.database_role(role)));
            }
        }
        state.tables.insert(name.clone(), table_object(policy, name, table));
    }
    let masked: BTreeSet<&String> = policy.tables.values().flat_map(|table| table.masks.keys()).collect();
    for role in masked {
        masks(policy, role, &mut state);
    }
    state.refusing = refusing(policy);
    state
}

/// A role that sees masked columns reads a view of the table's name in a schema of its own. The view is plain, so that
/// conditions reach the table's indexes, and belongs to a role that nobody becomes, which has the rights of the masked
/// role to read and is bound by the same policies: row-level security asks for the owner of a view. On the table itself
/// the masked role keeps the columns that are not masked.
fn masks(policy: &Policy, role: &str, state: &mut State) {
    let (reader, owner) = (policy.database_role(role), view_role(&policy.name, role));
    state.roles.insert(owner.clone(), RoleObject::default());
    state.schemas.insert(reader.clone());
    state.usage.insert((reader.clone(), reader.clone()));
    for (name, table) in &policy.tables {
        let Some(right) = table.right(role, Command::Select) else { continue };
        state.usage.insert((name.schema.clone(), owner.clone()));
        let Some(object) = state.tables.get_mut(name) else { continue };
        let select = policy_name(&policy.name, role, Command::Select);
        for (name, rows) in &mut object.policies {
            if *name == select || *name == format!("{select}_deny") {
                rows.roles.insert(owner.clone());
            }
            // A floor that names its roles, because a persona passes it, holds for the view's owner as well.
            if rows.command.is_none() && rows.roles.contains(&reader) {
                rows.roles.insert(owner.clone());
            }
        }
        object.grants.extend(columns(&owner, Command::Select, right));
        let masked = |column: &String| table.mask(role, column);
        if !right.columns.iter().any(|column| masked(column).is_some()) {
            continue;
        }
        object.grants.retain(|g| {
            let hidden = g.column.as_ref().is_some_and(|column| masked(column).is_some());
            !(g.role == reader && g.privilege == Privilege::Select && hidden)
        });
        if right.columns.iter().any(|column| masked(column).is_some_and(Mask::is_keyed)) {
            let keys = QualifiedName::new(mask::KEYS.0, mask::KEYS.1);
            let (role, privilege) = (owner.clone(), Privilege::Select);
            state.lent.entry(keys).or_default().insert(Grant {
                role,
                privilege,
                column: None,
                grantable: false,
            });
        }
        let shown: Vec<String> = table
            .columns
            .iter()
            .filter(|column| right.columns.contains(*column))
            .map(|column| match masked(column) {
                Some(mask) => format!("{} AS {}", mask.sql(column), sql::ident(column)),
                None => sql::ident(column),
            })
            .collect();
        let definition = format!("SELECT {} FROM {}", shown.join(", "), sql::table(name));
        let grants = columns(&reader, Command::Select, right).into_iter().collect();
        let view = QualifiedName::new(reader.clone(), name.table.clone());
        state.views.insert(view, ViewObject { owner: owner.clone(), definition, grants });
    }
}

/// Which tables' rules would open when a role saw less of another: those with an `exists` below an odd number of
/// negations, a `deny` being one, also through the rules for reading of the tables between.
fn refusing(policy: &Policy) -> BTreeMap<String, Refusing> {
    let mut refusing = BTreeMap::new();
    for role in policy.roles() {
        // What each table's rules ask, and what those for reading it ask.
        let mut asks: BTreeMap<&QualifiedName, BTreeSet<Asked<'_>>> = BTreeMap::new();
        let mut reading: BTreeMap<&QualifiedName, BTreeSet<Asked<'_>>> = BTreeMap::new();
        for (name, table) in &policy.tables {
            for (command, right) in table.rights.get(role).into_iter().flatten() {
                let mut found = BTreeSet::new();
                right.allow.iter().for_each(|p| asked(p, false, &mut found));
                right.deny.iter().for_each(|p| asked(p, true, &mut found));
                if *command == Command::Select && !found.is_empty() {
                    reading.insert(name, found.clone());
                }
                if !found.is_empty() {
                    asks.entry(name).or_default().append(&mut found);
                }
            }
        }
        if !asks.values().flatten().any(|(_, negated)| *negated) {
            continue;
        }
        let mut of_role = Refusing::new();
        for (asking, direct) in asks {
            let mut seen = direct.clone();
            let mut open: Vec<Asked<'_>> = direct.into_iter().collect();
            while let Some((between, negated)) = open.pop() {
                let further = reading.get(between).into_iter().flatten();
                let further = further.map(|(deeper, again)| (*deeper, negated ^ again));
                open.extend(further.filter(|asked| seen.insert(*asked)));
            }
            for (asked, _) in seen.into_iter().filter(|(_, negated)| *negated) {
                match of_role.get_mut(asked) {
                    Some(asks) => drop(asks.insert(asking.clone())),
                    None => drop(of_role.insert(asked.clone(), BTreeSet::from([asking.clone()]))),
                }
            }
        }
        refusing.insert(policy.database_role(role), of_role);
    }
    refusing
}

/// A table that is asked, and whether below an odd number of negations.
type Asked<'p> = (&'p QualifiedName, bool);

/// The tables that a condition asks, each with whether it stands below an odd number of negations.
fn asked<'p>(predicate: &'p Predicate, negated: bool, found: &mut BTreeSet<Asked<'p>>) {
    match predicate {
        Predicate::Exists { step, condition, .. } => {
            found.insert((&step.table, negated));
            asked(condition, negated, found);
        }
        Predicate::Not(inner) => asked(inner, !negated, found),
        Predicate::And(parts) | Predicate::Or(parts) => {
            parts.iter().for_each(|part| asked(part, negated, found))
        }
        Predicate::Always
        | Predicate::Test(_)
        | Predicate::Compare { .. }
        | Predicate::IsNull(_)
        | Predicate::InList { .. }
        | Predicate::InClaim { .. } => {}
    }
}

fn table_object(policy: &Policy, name: &QualifiedName, table: &TablePolicy) -> TableObject {
    let mut settings = Settings::of(name, policy.signed);
    let mut policies = BTreeMap::new();
    let mut grants = BTreeSet::new();
    if let Some(floor) = &table.floor {
        let condition = Some(predicate::floor(floor, None, &mut settings));
        // Where a persona passes the floor, it is laid under every other role: those without a rule see nothing anyway.
        let roles = if table.across.is_empty() {
            BTreeSet::from([sql::PUBLIC.to_owned()])
        } else {
            policy.roles().filter(|r| !table.across.contains(*r)).map(|r| policy.database_role(r)).collect()
        };
        let object = PolicyObject {
            permissive: false,
            command: None,
            roles,
            using: condition.clone(),
            check: condition,
        };
        if !object.roles.is_empty() {
            policies.insert(floor_name(&policy.name), object);
        }
    }
    for (role, command, right) in table.rights() {
        let grantee = policy.database_role(role);
        let name = policy_name(&policy.name, role, command);
        let mut condition = predicate::any(&right.allow, None, &mut settings);
        // SECURITY: a floor is never true without a signature. Where none lies under the role, a rule that asks for no
        // claim, or for one on one side of an OR, would hold for whoever enters the role.
        if policy.signed && (table.floor.is_none() || table.across.contains(role)) {
            condition = predicate::signed(&condition);
        }
        policies.insert(name.clone(), rows(&grantee, command, true, condition));
        if !right.deny.is_empty() {
            policies.insert(
                format!("{name}_deny"),
                rows(&grantee, command, false, predicate::none(&right.deny, None, &mut settings)),
            );
        }
        grants.extend(columns(&grantee, command, right));
    }
    let checks = table.critical.iter().map(|c| (check_name(&policy.name, c), sql::sealed_check(c))).collect();
    TableObject { row_security: true, forced: true, policies, grants, checks, ..TableObject::default() }
}

/// One policy object for one command of one role, with the clauses that the command has.
fn rows(role: &str, command: Command, permissive: bool, condition: String) -> PolicyObject {
    let (using, check) = match command {
        Command::Select | Command::Delete => (Some(condition), None),
        Command::Insert => (None, Some(condition)),
        Command::Update => (Some(condition.clone()), Some(condition)),
    };
    PolicyObject {
        permissive,
        command: Some(command),
        roles: BTreeSet::from([role.to_owned()]),
        using,
        check,
    }
}

/// Grants by column list; only deleting is a matter of whole rows.
fn columns(role: &str, command: Command, right: &Right) -> Vec<Grant> {
    let privilege = Privilege::of(command);
    if command == Command::Delete {
        return vec![Grant { role: role.to_owned(), privilege, column: None, grantable: false }];
    }
    let of =
        |c: &String| Grant { role: role.to_owned(), privilege, column: Some(c.clone()), grantable: false };
    right.columns.iter().map(of).collect()
}

fn policy_name(policy: &str, role: &str, command: Command) -> String {
    object_name(&format!("{PREFIX}{policy}_{role}_{}", command.name()))
}

/// The name of the floor that a policy puts under a table.
pub(crate) fn floor_name(policy: &str) -> String {
    object_name(&format!("{PREFIX}{policy}_floor"))
}

/// The name of the CHECK on a critical column. Where a policy's name holds the word between it and the column, the two could
/// be read in another way, as those of another policy and column: a digest of both tells them apart.
pub(crate) fn check_name(policy: &str, column: &str) -> String {
    let name = format!("{PREFIX}{policy}_sealed_{column}");
    if policy.contains("_sealed") {
        digested(&name, &format!("{policy}\0{column}"))
    } else {
        object_name(&name)
    }
}

/// The name, or its beginning and a digest where PostgreSQL would truncate it.
fn object_name(name: &str) -> String {
    if name.len() <= ROOM { name.to_owned() } else { digested(name, name) }
}

fn digested(name: &str, content: &str) -> String {
    use sha2::Digest as _;
    let digest = hex(&sha2::Sha256::digest(content));
    format!("{}_{}", beginning(name), digest.get(..16).unwrap_or(&digest))
}

/// What a name keeps before its digest.
fn beginning(name: &str) -> &str {
    let end = name.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= ROOM - 17).last();
    name.get(..end.unwrap_or(0)).unwrap_or(name)
}

/// PostgreSQL keeps 63 bytes of a name.
const ROOM: usize = 63 - "_deny".len();
