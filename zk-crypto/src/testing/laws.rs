//! One function for each law of key stores.

use std::time::{Duration, SystemTime};

use zk_kms::{DataKey, KeyUri, WrappedKey};

use super::Broken;
use crate::{Error, ErrorKind, KeyId, KeyRecord, KeyState, KeyStore, Scope};

/// What is inserted comes back: by id, as the active key, and in the lists, which are in order.
///
/// # Errors
///
/// [`Broken`] when it does not.
pub async fn records_come_back(store: &dyn KeyStore) -> Result<(), Broken> {
    let law = Law("records_come_back");
    let (b1, b2, a1) = (law.record("B", 1)?, law.record("B", 2)?, law.record("a", 1)?);
    for record in [&b1, &b2, &a1] {
        law.ok("insert", store.insert(record).await)?;
    }
    let found = law.ok("by_id", store.by_id(b2.id).await)?;
    law.holds(found.as_ref() == Some(&b2), "by_id gave another record")?;
    let active = law.ok("active", store.active(&b2.scope).await)?;
    law.holds(active.as_ref() == Some(&b2), "active gave another record")?;
    let all = law.ok("list", store.list(None).await)?;
    law.holds(ids(&all) == [b1.id, b2.id, a1.id], "the list is not by scope (as bytes) and generation")?;
    let each: Vec<KeyRecord> = law.ok("list_each", store.list_each().await)?.into_iter().flatten().collect();
    law.holds(each == all, "the list with broken records is another list")?;
    let of_a = law.ok("list", store.list(Some(&a1.scope)).await)?;
    law.holds(of_a == [a1], "the list of one scope holds others")?;
    let nothing = law.record("nobody", 1)?;
    law.holds(law.ok("by_id", store.by_id(nothing.id).await)?.is_none(), "an unknown id was found")?;
    law.holds(law.ok("active", store.active(&nothing.scope).await)?.is_none(), "an unknown scope has a key")
}

/// A new generation seals, and the former one only opens.
///
/// # Errors
///
/// [`Broken`] when another state is stored.
pub async fn rotation_retires_the_former_key(store: &dyn KeyStore) -> Result<(), Broken> {
    let law = Law("rotation_retires_the_former_key");
    let (first, second, other) = (law.record("s", 1)?, law.record("s", 2)?, law.record("t", 1)?);
    for record in [&first, &other, &second] {
        law.ok("insert", store.insert(record).await)?;
    }
    law.state(store, first.id, KeyState::Retiring).await?;
    law.state(store, second.id, KeyState::Active).await?;
    law.state(store, other.id, KeyState::Active).await
}

/// A generation that is taken or too far is a conflict, and leaves everything as it was.
///
/// # Errors
///
/// [`Broken`] when it is accepted, or the former key is not active any more.
pub async fn generations_are_consecutive(store: &dyn KeyStore) -> Result<(), Broken> {
    let law = Law("generations_are_consecutive");
    law.conflict("generation 2 first", store.insert(&law.record("s", 2)?).await)?;
    let first = law.record("s", 1)?;
    law.ok("insert", store.insert(&first).await)?;
    law.conflict("generation 1 twice", store.insert(&law.record("s", 1)?).await)?;
    law.conflict("generation 3 after 1", store.insert(&law.record("s", 3)?).await)?;
    let mut same_id = law.record("s", 2)?;
    same_id.id = first.id;
    law.conflict("an id twice", store.insert(&same_id).await)?;
    law.state(store, first.id, KeyState::Active).await?;
    let mut retiring = law.record("t", 1)?;
    retiring.state = KeyState::Retiring;
    law.fails("a new key that is not active", ErrorKind::Invalid, store.insert(&retiring).await)
}

/// Wrapped bytes are replaced only by who has seen the ones that are there.
///
/// # Errors
///
/// [`Broken`] when a stale replacement is accepted.
pub async fn rewrapping_compares(store: &dyn KeyStore) -> Result<(), Broken> {
    let law = Law("rewrapping_compares");
    let record = law.record("s", 1)?;
    law.ok("insert", store.insert(&record).await)?;
    let (old, new, newer) = (law.wrapped(1)?, law.wrapped(2)?, law.wrapped(3)?);
    law.ok("replace", store.replace_wrapped(record.id, &old, &new).await)?;
    law.conflict("a stale replacement", store.replace_wrapped(record.id, &old, &newer).await)?;
    let stored = law.ok("by_id", store.by_id(record.id).await)?.and_then(|r| r.wrapped);
    law.holds(stored == Some(new.clone()), "other bytes are stored")?;
    law.conflict("an unknown key", store.replace_wrapped(law.record("s", 2)?.id, &new, &newer).await)
}

/// A state changes only for who has seen the one that is there.
///
/// # Errors
///
/// [`Broken`] when a stale change is accepted.
pub async fn states_compare(store: &dyn KeyStore) -> Result<(), Broken> {
    use KeyState::{Active, Destroyed, Disabled, Retiring};
    let law = Law("states_compare");
    let record = law.record("s", 1)?;
    law.ok("insert", store.insert(&record).await)?;
    law.conflict("a stale change", store.set_state(record.id, Retiring, Disabled).await)?;
    law.ok("disable", store.set_state(record.id, Active, Disabled).await)?;
    law.state(store, record.id, Disabled).await?;
    let active = law.ok("active", store.active(&record.scope).await)?;
    law.holds(active.is_none(), "a disabled key is active")?;
    law.ok("enable", store.set_state(record.id, Disabled, Active).await)?;
    law.fails("to destroyed", ErrorKind::Invalid, store.set_state(record.id, Active, Destroyed).await)?;
    law.conflict("an unknown key", store.set_state(law.record("s", 2)?.id, Active, Disabled).await)
}

/// A scope never has two active keys.
///
/// # Errors
///
/// [`Broken`] when it does.
pub async fn one_key_is_active(store: &dyn KeyStore) -> Result<(), Broken> {
    let law = Law("one_key_is_active");
    let (first, second) = (law.record("s", 1)?, law.record("s", 2)?);
    law.ok("insert", store.insert(&first).await)?;
    law.ok("insert", store.insert(&second).await)?;
    let again = store.set_state(first.id, KeyState::Retiring, KeyState::Active).await;
    law.conflict("a second active key", again)?;
    law.state(store, first.id, KeyState::Retiring).await
}

/// A destroyed key keeps no bytes and never comes back.
///
/// # Errors
///
/// [`Broken`] when it does.
pub async fn destroying_wipes(store: &dyn KeyStore) -> Result<(), Broken> {
    let law = Law("destroying_wipes");
    let record = law.record("s", 1)?;
    law.ok("insert", store.insert(&record).await)?;
    for _ in 0..2 {
        law.ok("destroy", store.destroy(record.id).await)?;
    }
    let found = law.ok("by_id", store.by_id(record.id).await)?;
    let gone = found.is_some_and(|r| r.wrapped.is_none() && r.state == KeyState::Destroyed);
    law.holds(gone, "the record still has bytes, or is gone itself")?;
    let back = store.set_state(record.id, KeyState::Destroyed, KeyState::Active).await;
    law.fails("to bring it back", ErrorKind::Invalid, back)?;
    let again = store.replace_wrapped(record.id, &law.wrapped(1)?, &law.wrapped(2)?).await;
    law.conflict("to give it bytes", again)?;
    law.conflict("its generation again", store.insert(&law.record("s", 1)?).await)?;
    law.conflict("to destroy an unknown key", store.destroy(law.record("s", 2)?.id).await)?;
    law.ok("the next generation", store.insert(&law.record("s", 2)?).await)
}

/// A minimum generation holds for every key of its scope, those made later included, and moves only for who has seen it.
///
/// # Errors
///
/// [`Broken`] when a record says another one, or a stale move is accepted.
pub async fn a_minimum_holds_for_its_scope(store: &dyn KeyStore) -> Result<(), Broken> {
    let law = Law("a_minimum_holds_for_its_scope");
    let (first, second, other) = (law.record("s", 1)?, law.record("s", 2)?, law.record("t", 1)?);
    for record in [&first, &other] {
        law.ok("insert", store.insert(record).await)?;
    }
    law.conflict("a minimum above the active key", store.set_minimum(&first.scope, 1, 2).await)?;
    law.ok("insert", store.insert(&second).await)?;
    law.fails("a minimum of 0", ErrorKind::Invalid, store.set_minimum(&first.scope, 1, 0).await)?;
    law.conflict("a scope without keys", store.set_minimum(&law.record("nobody", 1)?.scope, 1, 1).await)?;
    law.conflict("a minimum that nobody set", store.set_minimum(&first.scope, 2, 2).await)?;
    law.ok("raise", store.set_minimum(&first.scope, 1, 2).await)?;
    law.conflict("a stale move", store.set_minimum(&first.scope, 1, 1).await)?;
    law.ok("insert", store.insert(&law.record("s", 3)?).await)?;
    let of_s = law.ok("list", store.list(Some(&first.scope)).await)?;
    law.holds(
        of_s.len() == 3 && of_s.iter().all(|r| r.minimum == 2),
        "a key of the scope has another minimum",
    )?;
    let found =
        [law.ok("by_id", store.by_id(first.id).await)?, law.ok("active", store.active(&first.scope).await)?];
    law.holds(
        found.iter().flatten().all(|r| r.minimum == 2),
        "one record says another minimum than the list",
    )?;
    let found = law.ok("by_id", store.by_id(other.id).await)?;
    law.holds(found.is_some_and(|r| r.minimum == 1), "another scope has the minimum too")?;
    law.ok("move back", store.set_minimum(&first.scope, 2, 1).await)?;
    let found = law.ok("by_id", store.by_id(first.id).await)?;
    law.holds(found.is_some_and(|r| r.minimum == 1), "the minimum did not move back")
}

fn ids(records: &[KeyRecord]) -> Vec<KeyId> {
    records.iter().map(|r| r.id).collect()
}

/// The name of the law being tested, and the ways to say that it does not hold.
struct Law(&'static str);

impl Law {
    /// A record with wrapped bytes 1, made at a moment that microseconds can hold.
    fn record(&self, scope: &str, generation: u32) -> Result<KeyRecord, Broken> {
        let key = DataKey::generate().map_err(|e| self.broken(&e.to_string()))?;
        let (id, scope) = (self.ok("id", KeyId::of(&key))?, self.ok("scope", Scope::new(scope))?);
        let created_at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
        Ok(KeyRecord::new(id, scope, generation, self.wrapped(1)?, created_at))
    }

    fn wrapped(&self, number: u8) -> Result<WrappedKey, Broken> {
        let uri = KeyUri::local("law").map_err(|e| self.broken(&e.to_string()))?;
        WrappedKey::new(uri, u32::from(number).into(), vec![number; 60])
            .map_err(|e| self.broken(&e.to_string()))
    }

    async fn state(&self, store: &dyn KeyStore, id: KeyId, expected: KeyState) -> Result<(), Broken> {
        let found = self.ok("by_id", store.by_id(id).await)?.map(|r| r.state);
        self.holds(found == Some(expected), &format!("a key is {found:?}, not {expected:?}"))
    }

    fn ok<T>(&self, step: &str, result: Result<T, Error>) -> Result<T, Broken> {
        result.map_err(|error| self.broken(&format!("{step} failed with {:?}: {error}", error.kind())))
    }

    fn conflict(&self, what: &str, result: Result<(), Error>) -> Result<(), Broken> {
        self.fails(what, ErrorKind::Conflict, result)
    }

    fn fails(&self, what: &str, kind: ErrorKind, result: Result<(), Error>) -> Result<(), Broken> {
        match result {
            Err(error) if error.kind() == kind => Ok(()),
            Err(error) => Err(self.broken(&format!("{what} gave {:?}, not {kind:?}", error.kind()))),
            Ok(()) => Err(self.broken(&format!("{what} was accepted"))),
        }
    }

    fn holds(&self, condition: bool, otherwise: &str) -> Result<(), Broken> {
        if condition { Ok(()) } else { Err(self.broken(otherwise)) }
    }

    fn broken(&self, how: &str) -> Broken {
        Broken { law: self.0, how: how.to_owned() }
    }
}
