//! Each law catches a key store that breaks it: one deliberately broken store for each.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use async_trait::async_trait;
use zk_crypto::{
    Error, ErrorKind, KeyId, KeyRecord, KeyState, KeyStore, MemoryKeyStore, Scope, WrappedKey,
    testing::{self, Broken},
};

/// What a store does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    ListsBackwards,
    ListsAllScopes,
    ForgetsTheTime,
    FormerKeyStaysActive,
    TakesAnyGeneration,
    TakesNewKeysInAnyState,
    WrapsWithoutComparing,
    SetsStatesWithoutComparing,
    RevivesDestroyedKeys,
    HasTwoActiveKeys,
    KeepsBytesOfDestroyedKeys,
    ForgetsDestroyedKeys,
    ForgetsTheMinimum,
    MovesTheMinimumWithoutComparing,
    MinimumForOldKeysOnly,
    MinimumForEveryScope,
}

macro_rules! caught {
    ($($law:ident: $($fault:ident),+;)*) => {
        $(#[tokio::test]
        async fn $law() {
            // A store without a fault keeps the law, so that it is the fault that is caught.
            testing::$law(&MemoryKeyStore::new()).await.unwrap();
            for fault in [$(Fault::$fault),+] {
                let result: Result<(), Broken> = testing::$law(&Faulty::new(fault)).await;
                assert_eq!(result.expect_err(&format!("{fault:?} is not caught")).law(), stringify!($law));
            }
        })*
    };
}

caught! {
    records_come_back: ListsBackwards, ListsAllScopes, ForgetsTheTime;
    rotation_retires_the_former_key: FormerKeyStaysActive;
    generations_are_consecutive: TakesAnyGeneration, TakesNewKeysInAnyState;
    rewrapping_compares: WrapsWithoutComparing;
    states_compare: SetsStatesWithoutComparing;
    one_key_is_active: HasTwoActiveKeys;
    destroying_wipes: KeepsBytesOfDestroyedKeys, ForgetsDestroyedKeys, RevivesDestroyedKeys;
    a_minimum_holds_for_its_scope:
        ForgetsTheMinimum, MovesTheMinimumWithoutComparing, MinimumForOldKeysOnly, MinimumForEveryScope;
}

/// A store in memory that does one thing wrong.
#[derive(Debug)]
struct Faulty {
    store: MemoryKeyStore,
    fault: Fault,
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        Self { store: MemoryKeyStore::new(), fault }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// A failure that this fault turns into a success.
    fn unless(&self, fault: Fault, kind: ErrorKind, result: Result<(), Error>) -> Result<(), Error> {
        match result {
            Err(error) if self.has(fault) && error.kind() == kind => Ok(()),
            result => result,
        }
    }

    /// A record as this fault shows it.
    async fn shown(&self, mut record: KeyRecord) -> Option<KeyRecord> {
        let all = self.store.list(None).await.unwrap();
        match self.fault {
            Fault::ForgetsTheTime => record.created_at = std::time::SystemTime::UNIX_EPOCH,
            Fault::FormerKeyStaysActive if record.state == KeyState::Retiring => {
                record.state = KeyState::Active
            }
            Fault::KeepsBytesOfDestroyedKeys if record.wrapped.is_none() => {
                record.wrapped = all.iter().find_map(|r| r.wrapped.clone()).or_else(some_wrapped);
            }
            Fault::ForgetsDestroyedKeys if record.wrapped.is_none() => return None,
            Fault::MinimumForOldKeysOnly if record.generation > record.minimum => record.minimum = 1,
            Fault::MinimumForEveryScope => record.minimum = all.iter().map(|r| r.minimum).max().unwrap_or(1),
            _ => {}
        }
        Some(record)
    }
}

#[async_trait]
impl KeyStore for Faulty {
    async fn insert(&self, record: &KeyRecord) -> Result<(), Error> {
        let result = self.store.insert(record).await;
        let result = self.unless(Fault::TakesAnyGeneration, ErrorKind::Conflict, result);
        self.unless(Fault::TakesNewKeysInAnyState, ErrorKind::Invalid, result)
    }

    async fn active(&self, scope: &Scope) -> Result<Option<KeyRecord>, Error> {
        Ok(match self.store.active(scope).await? {
            Some(record) => self.shown(record).await,
            None => None,
        })
    }

    async fn by_id(&self, id: KeyId) -> Result<Option<KeyRecord>, Error> {
        Ok(match self.store.by_id(id).await? {
            Some(record) => self.shown(record).await,
            None => None,
        })
    }

    async fn list(&self, scope: Option<&Scope>) -> Result<Vec<KeyRecord>, Error> {
        let scope = scope.filter(|_| !self.has(Fault::ListsAllScopes));
        let mut shown = Vec::new();
        for record in self.store.list(scope).await? {
            shown.extend(self.shown(record).await);
        }
        if self.has(Fault::ListsBackwards) {
            shown.reverse();
        }
        Ok(shown)
    }

    async fn replace_wrapped(&self, id: KeyId, old: &WrappedKey, new: &WrappedKey) -> Result<(), Error> {
        let stored = self.store.by_id(id).await?.and_then(|r| r.wrapped);
        let old = stored.as_ref().filter(|_| self.has(Fault::WrapsWithoutComparing)).unwrap_or(old);
        self.store.replace_wrapped(id, old, new).await
    }

    async fn set_state(&self, id: KeyId, from: KeyState, to: KeyState) -> Result<(), Error> {
        let stored = self.store.by_id(id).await?.map(|r| r.state);
        let from = stored.filter(|_| self.has(Fault::SetsStatesWithoutComparing)).unwrap_or(from);
        let result = self.store.set_state(id, from, to).await;
        let result = self.unless(Fault::HasTwoActiveKeys, ErrorKind::Conflict, result);
        self.unless(Fault::RevivesDestroyedKeys, ErrorKind::Invalid, result)
    }

    async fn destroy(&self, id: KeyId) -> Result<(), Error> {
        self.store.destroy(id).await
    }

    async fn set_minimum(&self, scope: &Scope, from: u32, to: u32) -> Result<(), Error> {
        let stored = self.store.active(scope).await?.map(|r| r.minimum);
        let from = stored.filter(|_| self.has(Fault::MovesTheMinimumWithoutComparing)).unwrap_or(from);
        let result = self.store.set_minimum(scope, from, to).await;
        if self.has(Fault::ForgetsTheMinimum) && result.is_ok() {
            self.store.set_minimum(scope, to, 1).await?;
        }
        result
    }
}

fn some_wrapped() -> Option<WrappedKey> {
    WrappedKey::new(zk_kms::KeyUri::local("law").unwrap(), 1.into(), vec![1; 60]).ok()
}
