//! For every law, one store that breaks it, and the suite catches it by that law.

use std::fmt;
use std::sync::Mutex;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use zk_creds::secret::{MemorySecrets, Secret, SecretName, SecretStore, Stage, Version, Versions};
use zk_creds::testing::LAWS;
use zk_creds::{Error, ErrorKind};

use crate::harness::check;

/// What the store gets wrong; the law that must notice has the same place in [`CAUGHT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    TrimsValues,
    FindsNothingEmpty,
    CutsNames,
    ForgetsThePrevious,
    IgnoresWhatIsExpected,
    StagesAsCurrent,
    StagesTwice,
    PromotesUnderANewName,
    DoesNotGoBack,
    ChecksThenWrites,
    ReadsWhatIsDeleted,
    PurgesWhatIsThere,
    PrintsValues,
}

const CAUGHT: [(Fault, &str); 13] = [
    (Fault::TrimsValues, "what_is_written_is_read"),
    (Fault::FindsNothingEmpty, "what_is_not_there_is_missing"),
    (Fault::CutsNames, "names_are_separate"),
    (Fault::ForgetsThePrevious, "replacing_keeps_the_previous"),
    (Fault::IgnoresWhatIsExpected, "a_changed_secret_is_not_changed_again"),
    (Fault::StagesAsCurrent, "a_staged_version_waits"),
    (Fault::StagesTwice, "one_version_is_pending"),
    (Fault::PromotesUnderANewName, "promoting_switches"),
    (Fault::DoesNotGoBack, "promoting_back_restores"),
    (Fault::ChecksThenWrites, "of_two_writers_one_wins"),
    (Fault::ReadsWhatIsDeleted, "a_deleted_secret_is_gone_until_it_is_recovered"),
    (Fault::PurgesWhatIsThere, "a_purged_secret_is_gone"),
    (Fault::PrintsValues, "errors_and_debug_carry_no_secret"),
];

#[tokio::test]
async fn every_broken_store_is_caught_by_its_law() {
    assert_eq!(CAUGHT.map(|(_, law)| law), LAWS, "one broken store for each law");
    for (fault, law) in CAUGHT {
        let broken = check(law, &Faulty::new(fault)).await.expect_err(law);
        assert_eq!(broken.law(), law, "{fault:?}");
        check(law, &Faulty::new(Fault::None)).await.unwrap_or_else(|e| panic!("a sound store: {e}"));
    }
}

/// A store in memory with one fault.
struct Faulty {
    memory: MemorySecrets,
    fault: Fault,
    written: Mutex<Vec<String>>,
    deleted: Mutex<Option<(SecretName, Secret)>>,
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        Self { memory: MemorySecrets::default(), fault, written: Mutex::default(), deleted: Mutex::default() }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn value(&self, value: &SecretString) -> SecretString {
        self.written.lock().unwrap().push(value.expose_secret().to_owned());
        if self.has(Fault::TrimsValues) { value.expose_secret().trim().into() } else { value.clone() }
    }

    /// The first 36 characters: the random part.
    fn name(&self, name: &SecretName) -> SecretName {
        let cut = name.as_str().chars().take(36).collect::<String>();
        if self.has(Fault::CutsNames) { SecretName::new(&cut).unwrap() } else { name.clone() }
    }

    /// What is current now, in place of what the caller expects.
    async fn expected(&self, name: &SecretName, expected: &Version) -> Result<Version, Error> {
        if self.has(Fault::ChecksThenWrites) {
            // Looks, lets others run, and then writes whatever is there by then.
            let seen = self.memory.versions(name).await?.current;
            tokio::task::yield_now().await;
            if seen == *expected {
                return Ok(self.memory.versions(name).await?.current);
            }
        }
        if self.has(Fault::IgnoresWhatIsExpected) {
            return Ok(self.memory.versions(name).await?.current);
        }
        Ok(expected.clone())
    }
}

#[async_trait]
impl SecretStore for Faulty {
    async fn create(&self, name: &SecretName, value: &SecretString) -> Result<Version, Error> {
        self.memory.create(&self.name(name), &self.value(value)).await
    }

    async fn put(
        &self,
        name: &SecretName,
        value: &SecretString,
        current: &Version,
    ) -> Result<Version, Error> {
        let (name, value) = (self.name(name), self.value(value));
        let current = self.expected(&name, current).await?;
        let version = self.memory.put(&name, &value, &current).await?;
        if self.has(Fault::ForgetsThePrevious) {
            return self.memory.put(&name, &value, &version).await;
        }
        Ok(version)
    }

    async fn stage(&self, name: &SecretName, value: &SecretString) -> Result<Version, Error> {
        let (name, value) = (self.name(name), self.value(value));
        let versions = self.memory.versions(&name).await;
        match (self.fault, versions) {
            (Fault::StagesAsCurrent, Ok(versions)) => self.memory.put(&name, &value, &versions.current).await,
            (Fault::StagesTwice, Ok(Versions { pending: Some(pending), .. })) => {
                self.memory.discard(&name, &pending).await?;
                self.memory.stage(&name, &value).await
            }
            _ => self.memory.stage(&name, &value).await,
        }
    }

    async fn promote(&self, name: &SecretName, to: &Version, current: &Version) -> Result<(), Error> {
        let name = self.name(name);
        let current = self.expected(&name, current).await?;
        if self.has(Fault::PromotesUnderANewName) {
            let pending = self.memory.read(&name, Stage::Pending).await?;
            self.memory.discard(&name, to).await?;
            return self.memory.put(&name, pending.value(), &current).await.map(drop);
        }
        let is_back = self.memory.versions(&name).await?.previous.as_ref() == Some(to);
        if self.has(Fault::DoesNotGoBack) && is_back {
            Ok(())
        } else {
            self.memory.promote(&name, to, &current).await
        }
    }

    async fn discard(&self, name: &SecretName, pending: &Version) -> Result<(), Error> {
        self.memory.discard(&self.name(name), pending).await
    }

    async fn versions(&self, name: &SecretName) -> Result<Versions, Error> {
        self.memory.versions(&self.name(name)).await
    }

    async fn read(&self, name: &SecretName, stage: Stage) -> Result<Secret, Error> {
        let read = self.memory.read(&self.name(name), stage).await;
        match (self.fault, read) {
            (Fault::FindsNothingEmpty, Err(error)) if error.kind() == ErrorKind::Missing => {
                Ok(Secret::new(Version::random(), SecretString::default()))
            }
            (Fault::ReadsWhatIsDeleted, Err(error)) => match self.deleted.lock().unwrap().take() {
                Some((deleted, secret)) if deleted == *name => Ok(secret),
                _ => Err(error),
            },
            (_, read) => read,
        }
    }

    async fn delete(&self, name: &SecretName, current: &Version) -> Result<(), Error> {
        let name = self.name(name);
        let secret = self.memory.read(&name, Stage::Current).await?;
        self.memory.delete(&name, current).await?;
        *self.deleted.lock().unwrap() = Some((name, secret));
        Ok(())
    }

    async fn recover(&self, name: &SecretName) -> Result<(), Error> {
        self.memory.recover(&self.name(name)).await
    }

    async fn purge(&self, name: &SecretName) -> Result<(), Error> {
        let name = self.name(name);
        if self.has(Fault::PurgesWhatIsThere)
            && let Ok(versions) = self.memory.versions(&name).await
        {
            self.memory.delete(&name, &versions.current).await?;
        }
        self.memory.purge(&name).await
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Faulty");
        shown.field("fault", &self.fault);
        if self.has(Fault::PrintsValues) {
            shown.field("written", &self.written);
        }
        shown.finish_non_exhaustive()
    }
}
