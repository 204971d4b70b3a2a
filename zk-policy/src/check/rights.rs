//! What the rules of one table say of each role, and what that comes to with inclusion.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::roles::{RoleSet, Roles};
use crate::document::{Command, Effect};
use crate::ir::{Predicate, Right};
use crate::mask::Mask;

/// How large the conditions of all roles may be together: a role that includes another has a copy of its rules, in the
/// database too.
const MAX_CONDITIONS: usize = 500_000;
/// How many columns all roles together may name in all commands.
const MAX_COLUMNS: usize = 2_000_000;

/// What there is room for, in all tables.
#[derive(Debug)]
pub(super) struct Room {
    conditions: Option<usize>,
    columns: Option<usize>,
}

impl Default for Room {
    fn default() -> Self {
        Self { conditions: Some(MAX_CONDITIONS), columns: Some(MAX_COLUMNS) }
    }
}

impl Room {
    /// Makes room for the rights of one table, before they are worked out; else says what is too much.
    pub(super) fn take(
        &mut self,
        own: &Own,
        masks: &BTreeMap<String, BTreeMap<String, Mask>>,
        roles: &Roles<'_>,
    ) -> Option<String> {
        let masked: usize = masks.values().map(BTreeMap::len).sum();
        let copies = |role: &usize| roles.with(*role).len();
        let (mut conditions, mut columns) = (masked, 0_usize);
        for ((role, _), ids) in own.allow.iter().chain(&own.deny) {
            let size: usize = ids.iter().filter_map(|id| own.sizes.get(*id)).sum();
            conditions = conditions.saturating_add(size.saturating_mul(copies(role)));
        }
        for (role, command) in own.allow.keys().chain(own.columns.keys()).collect::<BTreeSet<_>>() {
            columns =
                columns.saturating_add(own.columns_of(*role, *command).len().saturating_mul(copies(role)));
        }
        self.conditions = self.conditions.and_then(|left| left.checked_sub(conditions));
        self.columns = self.columns.and_then(|left| left.checked_sub(columns));
        let too_many = |what, most| format!("with inclusion, the roles have more than {most} {what}");
        match (self.conditions, self.columns) {
            (None, _) => Some(too_many("conditions", MAX_CONDITIONS)),
            (_, None) => Some(too_many("columns that they may name", MAX_COLUMNS)),
            _ => None,
        }
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.conditions.is_none() || self.columns.is_none()
    }
}

/// What the rules say of each role alone, before inclusion. Roles are named by their places, conditions by their numbers.
#[derive(Debug)]
pub(super) struct Own {
    /// For whom an `allow` is written, also where its condition is mistaken.
    allowed: BTreeMap<Command, RoleSet>,
    allow: BTreeMap<(usize, Command), Vec<usize>>,
    deny: BTreeMap<(usize, Command), Vec<usize>>,
    pub(super) columns: BTreeMap<(usize, Command), Arc<BTreeSet<String>>>,
    /// Each condition once, by its number.
    conditions: Vec<Arc<Predicate>>,
    sizes: Vec<usize>,
    numbers: HashMap<Arc<Predicate>, usize>,
    /// All columns that can be read, and all that can be written.
    read: Arc<BTreeSet<String>>,
    written: Arc<BTreeSet<String>>,
    none: Arc<BTreeSet<String>>,
}

impl Own {
    pub(super) fn new(read: Arc<BTreeSet<String>>, written: Arc<BTreeSet<String>>) -> Self {
        Self {
            allowed: BTreeMap::new(),
            allow: BTreeMap::new(),
            deny: BTreeMap::new(),
            columns: BTreeMap::new(),
            conditions: Vec::new(),
            sizes: Vec::new(),
            numbers: HashMap::new(),
            read,
            written,
            none: Arc::default(),
        }
    }

    pub(super) fn admit(&mut self, role: usize, commands: &BTreeSet<Command>) {
        commands.iter().for_each(|command| self.allowed.entry(*command).or_default().insert(role));
    }

    /// Whether an `allow` for one of the roles has the command.
    pub(super) fn admits(&self, roles: RoleSet, command: Command) -> bool {
        self.allowed.get(&command).is_some_and(|allowed| !allowed.and(roles).is_empty())
    }

    /// Adds a rule, and answers with its condition, which equal conditions share.
    pub(super) fn push(
        &mut self,
        effect: Effect,
        role: usize,
        commands: &BTreeSet<Command>,
        predicate: Predicate,
    ) -> Arc<Predicate> {
        let number = self.numbers.get(&predicate).copied().unwrap_or_else(|| {
            let (number, size) = (self.conditions.len(), predicate.size());
            let predicate = Arc::new(predicate);
            self.numbers.insert(Arc::clone(&predicate), number);
            self.conditions.push(predicate);
            self.sizes.push(size);
            number
        });
        let map = if effect == Effect::Allow { &mut self.allow } else { &mut self.deny };
        for command in commands {
            map.entry((role, *command)).or_default().push(number);
        }
        self.conditions.get(number).map_or_else(|| Arc::new(Predicate::Always), Arc::clone)
    }

    /// The columns that `role` itself brings for `command`: those of its rule, else all if it has its own `allow`.
    pub(super) fn columns_of(&self, role: usize, command: Command) -> &Arc<BTreeSet<String>> {
        let key = (role, command);
        match self.columns.get(&key) {
            _ if command == Command::Delete => &self.none,
            Some(columns) => columns,
            None if !self.allow.contains_key(&key) => &self.none,
            None if command == Command::Select => &self.read,
            None => &self.written,
        }
    }

    /// The roles that bring the right to read the column.
    pub(super) fn readers(&self, column: &str) -> RoleSet {
        let mut readers = RoleSet::default();
        let brought = self.allow.keys().chain(self.columns.keys());
        for (role, _) in brought.filter(|(_, command)| *command == Command::Select) {
            if self.columns_of(*role, Command::Select).contains(column) {
                readers.insert(*role);
            }
        }
        readers
    }

    /// What each role may do, with all that the roles bring that it includes.
    pub(super) fn rights(&self, roles: &Roles<'_>) -> BTreeMap<String, BTreeMap<Command, Right>> {
        let mut rights: BTreeMap<(usize, Command), Right> = BTreeMap::new();
        for (key, conditions) in self.with_inclusion(&self.allow, roles) {
            let mut allow = self.predicates(&conditions);
            if let Some(all) = allow.iter().find(|rule| ***rule == Predicate::Always) {
                allow = vec![Arc::clone(all)];
            }
            rights.insert(key, Right { allow, deny: Vec::new(), columns: Arc::clone(&self.none) });
        }
        for (key, conditions) in self.with_inclusion(&self.deny, roles) {
            if let Some(right) = rights.get_mut(&key) {
                right.deny = self.predicates(&conditions);
            }
        }
        let mut brought: BTreeMap<(usize, Command), Vec<&Arc<BTreeSet<String>>>> = BTreeMap::new();
        for (owner, command) in self.allow.keys().chain(self.columns.keys()).collect::<BTreeSet<_>>() {
            let columns = self.columns_of(*owner, *command);
            for role in roles.with(*owner).iter() {
                let sets = brought.entry((role, *command)).or_default();
                if !sets.last().is_some_and(|last| Arc::ptr_eq(last, columns)) {
                    sets.push(columns);
                }
            }
        }
        for (key, sets) in brought {
            if let (Some(right), Some((first, rest))) = (rights.get_mut(&key), sets.split_first()) {
                right.columns = Arc::clone(first);
                if !rest.is_empty() {
                    let columns = Arc::make_mut(&mut right.columns);
                    rest.iter().for_each(|more| columns.extend(more.iter().cloned()));
                }
            }
        }
        let mut named: BTreeMap<String, BTreeMap<Command, Right>> = BTreeMap::new();
        for ((role, command), right) in rights {
            let name = roles.name(role);
            match named.get_mut(name) {
                Some(rights) => drop(rights.insert(command, right)),
                None => drop(named.insert(name.to_owned(), BTreeMap::from([(command, right)]))),
            }
        }
        named
    }

    /// The conditions of each role with those of the roles that it includes, in the order of these, each once.
    fn with_inclusion(
        &self,
        own: &BTreeMap<(usize, Command), Vec<usize>>,
        roles: &Roles<'_>,
    ) -> BTreeMap<(usize, Command), Vec<usize>> {
        let mut all: BTreeMap<(usize, Command), (BTreeSet<usize>, Vec<usize>)> = BTreeMap::new();
        for ((owner, command), conditions) in own {
            for role in roles.with(*owner).iter() {
                let (seen, list) = all.entry((role, *command)).or_default();
                list.extend(conditions.iter().filter(|number| seen.insert(**number)));
            }
        }
        all.into_iter().map(|(key, (_, list))| (key, list)).collect()
    }

    fn predicates(&self, numbers: &[usize]) -> Vec<Arc<Predicate>> {
        numbers.iter().filter_map(|number| self.conditions.get(*number).cloned()).collect()
    }
}
