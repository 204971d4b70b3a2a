//! The rules of a key store over records in memory.

use std::collections::BTreeMap;

use zk_kms::WrappedKey;

use super::{KeyRecord, KeyState, check_minimum, check_new, check_states, conflict};
use crate::{Error, KeyId, Scope};

/// Records by scope and generation. Every record of a scope has the same minimum.
#[derive(Clone, Debug, Default)]
pub(super) struct Records(BTreeMap<(Scope, u32), KeyRecord>);

impl Records {
    pub(super) fn insert(&mut self, record: &KeyRecord) -> Result<(), Error> {
        check_new(record)?;
        let newest = self.of(&record.scope).map(|r| (r.generation, r.minimum)).max();
        let (newest, minimum) = newest.unwrap_or((0, 1));
        if newest.checked_add(1) != Some(record.generation) {
            return Err(conflict("the generation is not the next of its scope"));
        }
        if self.by_id(record.id).is_some() {
            return Err(conflict("the key id exists"));
        }
        let same_scope = self.0.values_mut().filter(|r| r.scope == record.scope);
        for former in same_scope.filter(|r| r.state == KeyState::Active) {
            former.state = KeyState::Retiring;
        }
        self.restore(KeyRecord { minimum, ..record.clone() });
        Ok(())
    }

    /// Puts a record in as it is.
    pub(super) fn restore(&mut self, record: KeyRecord) {
        self.0.insert((record.scope.clone(), record.generation), record);
    }

    pub(super) fn active(&self, scope: &Scope) -> Option<&KeyRecord> {
        self.of(scope).find(|r| r.state == KeyState::Active)
    }

    pub(super) fn by_id(&self, id: KeyId) -> Option<&KeyRecord> {
        self.iter().find(|r| r.id == id)
    }

    /// Ordered by scope and generation.
    pub(super) fn iter(&self) -> impl Iterator<Item = &KeyRecord> {
        self.0.values()
    }

    pub(super) fn list(&self, scope: Option<&Scope>) -> Vec<KeyRecord> {
        self.iter().filter(|r| scope.is_none_or(|scope| *scope == r.scope)).cloned().collect()
    }

    pub(super) fn replace_wrapped(
        &mut self,
        id: KeyId,
        old: &WrappedKey,
        new: &WrappedKey,
    ) -> Result<(), Error> {
        let record = self.find(id)?;
        if record.wrapped.as_ref() != Some(old) {
            return Err(conflict("the key was wrapped again or destroyed by somebody else"));
        }
        record.wrapped = Some(new.clone());
        Ok(())
    }

    pub(super) fn set_state(&mut self, id: KeyId, from: KeyState, to: KeyState) -> Result<(), Error> {
        check_states(from, to)?;
        let scope = self.find(id)?.scope.clone();
        let taken = to == KeyState::Active && self.active(&scope).is_some_and(|r| r.id != id);
        let record = self.find(id)?;
        if record.state != from || taken {
            return Err(conflict("the key is not in the expected state, or another one is active"));
        }
        record.state = to;
        Ok(())
    }

    pub(super) fn destroy(&mut self, id: KeyId) -> Result<(), Error> {
        let record = self.find(id)?;
        (record.state, record.wrapped) = (KeyState::Destroyed, None);
        Ok(())
    }

    pub(super) fn set_minimum(&mut self, scope: &Scope, from: u32, to: u32) -> Result<(), Error> {
        check_minimum(to)?;
        match self.active(scope) {
            Some(active) if active.minimum == from && active.generation >= to => {}
            _ => return Err(conflict("the minimum is another one, or no key of that generation is active")),
        }
        for record in self.0.values_mut().filter(|r| r.scope == *scope) {
            record.minimum = to;
        }
        Ok(())
    }

    fn of(&self, scope: &Scope) -> impl Iterator<Item = &KeyRecord> {
        self.0.range((scope.clone(), 0)..=(scope.clone(), u32::MAX)).map(|(_, record)| record)
    }

    fn find(&mut self, id: KeyId) -> Result<&mut KeyRecord, Error> {
        self.0.values_mut().find(|r| r.id == id).ok_or_else(|| conflict("there is no such key"))
    }
}
