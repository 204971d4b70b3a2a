//! Which role includes which, as rows of bits: a policy of 500 roles may have every one include every other.

use std::collections::BTreeSet;

use crate::document::{Document, Name};

/// The most roles of one policy. Every role may include every other, so the work grows with the square.
pub(super) const MAX_ROLES: usize = 500;

const WORDS: usize = MAX_ROLES.div_ceil(64);

/// Roles by their places among the names, which are in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RoleSet([u64; WORDS]);

impl RoleSet {
    pub(super) fn insert(&mut self, place: usize) {
        if let Some(word) = self.0.get_mut(place / 64) {
            *word |= 1 << (place % 64);
        }
    }

    pub(super) fn contains(&self, place: usize) -> bool {
        self.0.get(place / 64).is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(super) fn and(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
        self
    }

    pub(super) fn or(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
        self
    }

    /// The places, in order.
    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        let bits = |(at, word): (usize, u64)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit)
        };
        self.0.into_iter().enumerate().filter(|(_, word)| *word != 0).flat_map(bits)
    }
}

/// The declared roles, personas among them, each with all that it includes.
#[derive(Debug, Default)]
pub(super) struct Roles<'d> {
    names: Vec<&'d str>,
    /// For each role, itself and all that it includes, directly or through others.
    included: Vec<RoleSet>,
    /// For each role, itself and all that include it.
    includers: Vec<RoleSet>,
}

impl<'d> Roles<'d> {
    /// Of a document with at most [`MAX_ROLES`] of them.
    pub(super) fn new(document: &'d Document) -> Self {
        let own = document.roles.iter().map(|role| role.name.as_str());
        let names: BTreeSet<&str> =
            own.chain(document.personas.iter().map(|persona| persona.name.as_str())).collect();
        let mut roles = Self { names: names.into_iter().collect(), ..Self::default() };
        let alone = |place| {
            let mut set = RoleSet::default();
            set.insert(place);
            set
        };
        roles.included = (0..roles.names.len()).map(alone).collect();
        roles.includers = roles.included.clone();
        let plain: BTreeSet<&str> = document.roles.iter().map(|role| role.name.as_str()).collect();
        for role in &document.roles {
            let Some(place) = roles.place(role.name.as_str()) else { continue };
            let known = role.includes.iter().map(Name::as_str).filter(|name| plain.contains(name));
            let known: Vec<usize> = known.filter_map(|name| roles.place(name)).collect();
            if let Some(row) = roles.included.get_mut(place) {
                known.into_iter().for_each(|included| row.insert(included));
            }
        }
        // Warshall's closure: what leads to `through` leads to all that it leads to.
        for through in 0..roles.names.len() {
            let beyond = roles.of(through);
            for row in roles.included.iter_mut().filter(|row| row.contains(through)) {
                *row = row.or(beyond);
            }
        }
        for (place, row) in roles.included.iter().enumerate() {
            for included in row.iter() {
                if let Some(includers) = roles.includers.get_mut(included) {
                    includers.insert(place);
                }
            }
        }
        roles
    }

    /// The role's place among the names.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.names.binary_search(&name).ok()
    }

    /// In their order.
    pub(super) fn names(&self) -> impl Iterator<Item = &'d str> {
        self.names.iter().copied()
    }

    pub(super) fn name(&self, place: usize) -> &'d str {
        self.names.get(place).copied().unwrap_or_default()
    }

    /// The role itself with all that it includes.
    pub(super) fn of(&self, place: usize) -> RoleSet {
        self.included.get(place).copied().unwrap_or_default()
    }

    /// The role itself with all that include it: who has its rules.
    pub(super) fn with(&self, place: usize) -> RoleSet {
        self.includers.get(place).copied().unwrap_or_default()
    }

    /// Whether one role is the other, or includes it.
    pub(super) fn includes(&self, role: &str, other: &str) -> bool {
        let places = self.place(role).zip(self.place(other));
        places.is_some_and(|(role, other)| self.of(role).contains(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every role includes every other: the closure is looked for once, not once for each pair.
    #[test]
    fn inclusion_is_closed() {
        let document = Document::parse(
            "policy p role d role c includes b role b includes a role a role e includes c, d, nobody persona z {}",
        )
        .unwrap();
        let roles = Roles::new(&document);
        let of =
            |name| roles.of(roles.place(name).unwrap()).iter().map(|p| roles.name(p)).collect::<String>();
        let with =
            |name| roles.with(roles.place(name).unwrap()).iter().map(|p| roles.name(p)).collect::<String>();
        assert_eq!(
            (of("e"), of("c"), of("a"), of("z")),
            ("abcde".into(), "abc".into(), "a".into(), "z".into())
        );
        assert_eq!((with("a"), with("d"), with("e")), ("abce".into(), "de".into(), "e".into()));
        assert!(roles.includes("e", "a") && !roles.includes("a", "e") && !roles.includes("e", "nobody"));
    }

    #[test]
    fn a_set_holds_the_last_role() {
        let mut set = RoleSet::default();
        [0, 63, 64, MAX_ROLES - 1].into_iter().for_each(|place| set.insert(place));
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, MAX_ROLES - 1]);
        assert!(set.len() == 4 && !set.contains(MAX_ROLES - 2) && !set.is_empty());
    }
}
