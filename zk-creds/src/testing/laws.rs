//! One function for each law.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use super::Broken;
use crate::secret::{Secret, SecretName, SecretStore, Stage, Version, Versions};
use crate::{Error, ErrorKind};

/// The names of all laws, for a harness that has to show it runs each or says why not.
pub const LAWS: [&str; 13] = [
    "what_is_written_is_read",
    "what_is_not_there_is_missing",
    "names_are_separate",
    "replacing_keeps_the_previous",
    "a_changed_secret_is_not_changed_again",
    "a_staged_version_waits",
    "one_version_is_pending",
    "promoting_switches",
    "promoting_back_restores",
    "of_two_writers_one_wins",
    "a_deleted_secret_is_gone_until_it_is_recovered",
    "a_purged_secret_is_gone",
    "errors_and_debug_carry_no_secret",
];

/// A value comes back byte by byte, with its version: short, long, and in any script.
///
/// # Errors
/// [`Broken`] when it does not.
pub async fn what_is_written_is_read(store: &dyn SecretStore) -> Result<(), Broken> {
    let law = Law("what_is_written_is_read");
    // 16 380 bytes: what `Secrets` allows, in characters that need escapes and in some that need several bytes.
    let long = "\"\\\n\u{1}é€𝄞x\t".repeat(1_092);
    for value in ["x", " p@ss word\r\n", "null", "7", "{\"a\": [1]}", &long] {
        let name = law.name()?;
        let value = SecretString::from(value);
        let version = law.ok("create", store.create(&name, &value).await)?;
        law.reads(store, &name, Stage::Current, (&version, value.expose_secret())).await?;
        let versions = law.ok("versions", store.versions(&name).await)?;
        let expected = Versions { current: version, pending: None, previous: None };
        law.holds(versions == expected, "a new secret has other versions than its current one")?;
    }
    Ok(())
}

/// What was never written is missing, for every call that needs it.
///
/// # Errors
/// [`Broken`] when it is found, or fails with another kind than [`ErrorKind::Missing`].
pub async fn what_is_not_there_is_missing(store: &dyn SecretStore) -> Result<(), Broken> {
    let law = Law("what_is_not_there_is_missing");
    let (name, value, version) = (law.name()?, SecretString::from("x"), Version::random());
    let missing = ErrorKind::Missing;
    for stage in [Stage::Current, Stage::Pending, Stage::Previous] {
        law.fails("read", missing, store.read(&name, stage).await)?;
    }
    law.fails("versions", missing, store.versions(&name).await)?;
    law.fails("put", missing, store.put(&name, &value, &version).await)?;
    law.fails("stage", missing, store.stage(&name, &value).await)?;
    law.fails("promote", missing, store.promote(&name, &version, &version).await)?;
    law.fails("discard", missing, store.discard(&name, &version).await)?;
    law.fails("delete", missing, store.delete(&name, &version).await)?;
    law.fails("recover", missing, store.recover(&name).await)?;
    law.fails("purge", missing, store.purge(&name).await)?;
    law.ok("create", store.create(&name, &value).await)?;
    for stage in [Stage::Pending, Stage::Previous] {
        law.fails("read", missing, store.read(&name, stage).await)?;
    }
    Ok(())
}

/// Names that begin alike are different secrets.
///
/// # Errors
/// [`Broken`] when a change of one shows in another.
pub async fn names_are_separate(store: &dyn SecretStore) -> Result<(), Broken> {
    let law = Law("names_are_separate");
    let name = law.name()?;
    let longer = law.ok("name", SecretName::new(&format!("{name}-pending")))?;
    let first = law.ok("create", store.create(&name, &"one".into()).await)?;
    let second = law.ok("create", store.create(&longer, &"two".into()).await)?;
    law.ok("stage", store.stage(&name, &"three".into()).await)?;
    law.reads(store, &name, Stage::Current, (&first, "one")).await?;
    law.reads(store, &longer, Stage::Current, (&second, "two")).await?;
    law.ok("delete", store.delete(&name, &first).await)?;
    law.reads(store, &longer, Stage::Current, (&second, "two")).await
}

/// A replaced version stays as the previous one, and the one before that is let go.
///
/// # Errors
/// [`Broken`] when another version is current or previous.
pub async fn replacing_keeps_the_previous(store: &dyn SecretStore) -> Result<(), Broken> {
    let law = Law("replacing_keeps_the_previous");
    let name = law.name()?;
    let first = law.ok("create", store.create(&name, &"one".into()).await)?;
    let second = law.ok("put", store.put(&name, &"two".into(), &first).await)?;
    law.reads(store, &name, Stage::Current, (&second, "two")).await?;
    law.reads(store, &name, Stage::Previous, (&first, "one")).await?;
    let third = law.ok("put", store.put(&name, &"three".into(), &second).await)?;
    law.reads(store, &name, Stage::Current, (&third, "three")).await?;
    law.reads(store, &name, Stage::Previous, (&second, "two")).await
}

/// A change that names a version which is not current any more changes nothing; nor does a second creation.
///
/// # Errors
/// [`Broken`] when it is accepted, fails with another kind than [`ErrorKind::Stale`], or leaves a trace.
pub async fn a_changed_secret_is_not_changed_again(store: &dyn SecretStore) -> Result<(), Broken> {
    let law = Law("a_changed_secret_is_not_changed_again");
    let name = law.name()?;
    let stale = ErrorKind::Stale;
    let first = law.ok("create", store.create(&name, &"one".into()).await)?;
    law.fails("a second creation", stale, store.create(&name, &"other".into()).await)?;
    let second = law.ok("put", store.put(&name, &"two".into(), &first).await)?;
    let pending = law.ok("stage", store.stage(&name, &"three".into()).await)?;
    law.fails("a put over an older version", stale, store.put(&name, &"other".into(), &first).await)?;
    law.fails("a put over no version", stale, store.put(&name, &"other".into(), &Version::random()).await)?;
    law.fails("a promotion over an older version", stale, store.promote(&name, &pending, &first).await)?;
    law.fails("a promotion of nothing", stale, store.promote(&name, &Version::random(), &second).await)?;
    law.fails("a deletion of an older version", stale, store.delete(&name, &first).await)?;
    law.fails("discarding what is current", stale, store.discard(&name, &second).await)?;
    let expected =
        Versions { current: second.clone(), pending: Some(pending.clone()), previous: Some(first.clone()) };
    let versions = law.ok("versions", store.versions(&name).await)?;
    law.holds(versions == expected, "a refused change left a trace")?;
    law.reads(store, &name, Stage::Current, (&second, "two")).await?;
    law.reads(store, &name, Stage::Pending, (&pending, "three")).await?;
    law.reads(store, &name, Stage::Previous, (&first, "one")).await
}

/// A staged version is read as pending only, and services go on with the current one.
///
/// # Errors
/// [`Broken`] when the current version changes, or the staged one is not pending.
pub async fn a_staged_version_waits(store: &dyn SecretStore) -> Result<(), Broken> {
    let law = Law("a_staged_version_waits");
    let name = law.name()?;
    let first = law.ok("create", store.create(&name, &"one".into()).await)?;
    let second = law.ok("stage", store.stage(&name, &"two".into()).await)?;
    law.reads(store, &name, Stage::Current, (&first, "one")).await?;
    law.reads(store, &name, Stage::Pending, (&second, "two")).await?;
    law.ok("discard", store.discard(&name, &second).await)?;
    law.fails("a discarded version", ErrorKind::Missing, store.read(&name, Stage::Pending).await)?;
    law.fails("discarding it again", ErrorKind::Stale, store.discard(&name, &second).await)?;
    law.fails("promoting it", ErrorKind::Stale, store.promote(&name, &second, &first).await)?;
    law.reads(store, &name, Stage::Current, (&first, "one")).await
}

/// While one rotation waits another cannot begin, and a replaced current version does not end it.
///
/// # Errors
/// [`Broken`] when a second version is staged, or the pending one is lost.
pub async fn one_version_is_pending(store: &dyn SecretStore) -> Result<(), Broken> {
    let law = Law("one_version_is_pending");
    let name = law.name()?;
    let first = law.ok("create", store.create(&name, &"one".into()).await)?;
    let pending = law.ok("stage", store.stage(&name, &"two".into()).await)?;
    law.fails("a second rotation", ErrorKind::Stale, store.stage(&name, &"three".into()).await)?;
    law.reads(store, &name, Stage::Pending, (&pending, "two")).await?;
    let other = law.ok("put", store.put(&name, &"four".into(), &first).await)?;
    law.reads(store, &name, Stage::Pending, (&pending, "two")).await?;
    law.ok("promote", store.promote(&name, &pending, &other).await)?;
    law.reads(store, &name, Stage::Current, (&pending, "two")).await?;
    law.ok("stage", store.stage(&name, &"five".into()).await).map(drop)
}

/// Promoting makes the pending version current, under its own name, and the current one previous.
///
/// # Errors
/// [`Broken`] when another version is current, previous or pending afterwards.
pub async fn promoting_switches(store: &dyn SecretStore) -> Result<(), Broken> {
    let law = Law("promoting_switches");
    let name = law.name()?;
    let first = law.ok("create", store.create(&name, &"one".into()).await)?;
    let second = law.ok("stage", store.stage(&name, &"two".into()).await)?;
    law.ok("promote", store.promote(&name, &second, &first).await)?;
    law.reads(store, &name, Stage::Current, (&second, "two")).await?;
    law.reads(store, &name, Stage::Previous, (&first, "one")).await?;
    law.fails("a promoted version", ErrorKind::Missing, store.read(&name, Stage::Pending).await)?;
    let versions = law.ok("versions", store.versions(&name).await)?;
    let expected = Versions { current: second.clone(), pending: None, previous: Some(first.clone()) };
    law.holds(versions == expected, "other versions are there after a promotion")?;
    law.fails("the same promotion again", ErrorKind::Stale, store.promote(&name, &second, &first).await)
}

/// The previous version can be made current again, also while another waits.
///
/// # Errors
/// [`Broken`] when another version is current or previous afterwards, or the pending one is lost.
pub async fn promoting_back_restores(store: &dyn SecretStore) -> Result<(), Broken> {
    let law = Law("promoting_back_restores");
    let name = law.name()?;
    let first = law.ok("create", store.create(&name, &"one".into()).await)?;
    let second = law.ok("put", store.put(&name, &"two".into(), &first).await)?;
    let third = law.ok("stage", store.stage(&name, &"three".into()).await)?;
    law.ok("promote back", store.promote(&name, &first, &second).await)?;
    law.reads(store, &name, Stage::Current, (&first, "one")).await?;
    law.reads(store, &name, Stage::Previous, (&second, "two")).await?;
    law.reads(store, &name, Stage::Pending, (&third, "three")).await?;
    law.ok("promote again", store.promote(&name, &second, &first).await)?;
    law.reads(store, &name, Stage::Current, (&second, "two")).await
}

/// Of writers that have seen the same version, one wins and the others learn of it; nothing is lost without a word.
///
/// # Errors
/// [`Broken`] when more or fewer than one wins, or another value than the winner's is current.
pub async fn of_two_writers_one_wins(store: &dyn SecretStore) -> Result<(), Broken> {
    let law = Law("of_two_writers_one_wins");
    for _ in 0..4 {
        let name = law.name()?;
        let (a, b) = (SecretString::from("a"), SecretString::from("b"));
        let (made_a, made_b) = futures(store.create(&name, &a), store.create(&name, &b)).await;
        let (first, value) = law.winner("create", [(made_a, "a"), (made_b, "b")])?;
        law.reads(store, &name, Stage::Current, (&first, value)).await?;
        let (put_a, put_b) = futures(store.put(&name, &a, &first), store.put(&name, &b, &first)).await;
        let (second, value) = law.winner("put", [(put_a, "a"), (put_b, "b")])?;
        law.reads(store, &name, Stage::Current, (&second, value)).await?;
        let (staged_a, staged_b) = futures(store.stage(&name, &a), store.stage(&name, &b)).await;
        let (third, value) = law.winner("stage", [(staged_a, "a"), (staged_b, "b")])?;
        law.reads(store, &name, Stage::Pending, (&third, value)).await?;
        let (there, back) =
            futures(store.promote(&name, &third, &second), store.promote(&name, &first, &second)).await;
        let promoted = [(there.map(|()| third), "there"), (back.map(|()| first), "back")];
        let (current, _) = law.winner("promote", promoted)?;
        let versions = law.ok("versions", store.versions(&name).await)?;
        law.holds(versions.current == current, "the promotion that won is not current")?;
    }
    Ok(())
}

/// A deleted secret cannot be read, changed or made anew, and comes back whole.
///
/// # Errors
/// [`Broken`] when it can, or another version comes back.
pub async fn a_deleted_secret_is_gone_until_it_is_recovered(store: &dyn SecretStore) -> Result<(), Broken> {
    let law = Law("a_deleted_secret_is_gone_until_it_is_recovered");
    let (name, missing) = (law.name()?, ErrorKind::Missing);
    let first = law.ok("create", store.create(&name, &"one".into()).await)?;
    let second = law.ok("put", store.put(&name, &"two".into(), &first).await)?;
    let third = law.ok("stage", store.stage(&name, &"three".into()).await)?;
    let before = law.ok("versions", store.versions(&name).await)?;
    law.fails("recovering what is there", ErrorKind::Stale, store.recover(&name).await)?;
    law.ok("delete", store.delete(&name, &second).await)?;
    for stage in [Stage::Current, Stage::Pending, Stage::Previous] {
        law.fails("reading a deleted secret", missing, store.read(&name, stage).await)?;
    }
    law.fails("its versions", missing, store.versions(&name).await)?;
    law.fails("putting", missing, store.put(&name, &"x".into(), &second).await)?;
    law.fails("staging", missing, store.stage(&name, &"x".into()).await)?;
    law.fails("promoting", missing, store.promote(&name, &third, &second).await)?;
    law.fails("deleting twice", missing, store.delete(&name, &second).await)?;
    law.fails("creating it anew", ErrorKind::Blocked, store.create(&name, &"x".into()).await)?;
    law.ok("recover", store.recover(&name).await)?;
    let after = law.ok("versions", store.versions(&name).await)?;
    law.holds(after == before, "other versions came back")?;
    law.reads(store, &name, Stage::Current, (&second, "two")).await?;
    law.reads(store, &name, Stage::Previous, (&first, "one")).await?;
    law.reads(store, &name, Stage::Pending, (&third, "three")).await
}

/// Only a deleted secret is purged; then it cannot come back, and its name is free.
///
/// # Errors
/// [`Broken`] when a live secret is purged, a purged one recovered, or its name not free.
pub async fn a_purged_secret_is_gone(store: &dyn SecretStore) -> Result<(), Broken> {
    let law = Law("a_purged_secret_is_gone");
    let name = law.name()?;
    let first = law.ok("create", store.create(&name, &"one".into()).await)?;
    law.ok("stage", store.stage(&name, &"two".into()).await)?;
    law.fails("purging what is there", ErrorKind::Stale, store.purge(&name).await)?;
    law.reads(store, &name, Stage::Current, (&first, "one")).await?;
    law.ok("delete", store.delete(&name, &first).await)?;
    law.ok("purge", store.purge(&name).await)?;
    law.fails("recovering a purged secret", ErrorKind::Missing, store.recover(&name).await)?;
    law.fails("reading it", ErrorKind::Missing, store.read(&name, Stage::Current).await)?;
    let anew = law.ok("create", store.create(&name, &"three".into()).await)?;
    law.reads(store, &name, Stage::Current, (&anew, "three")).await?;
    for stage in [Stage::Pending, Stage::Previous] {
        law.fails("what the purged one had", ErrorKind::Missing, store.read(&name, stage).await)?;
    }
    Ok(())
}

/// Neither the store, nor secrets, nor errors print a value.
///
/// # Errors
/// [`Broken`] when one of them does.
pub async fn errors_and_debug_carry_no_secret(store: &dyn SecretStore) -> Result<(), Broken> {
    let law = Law("errors_and_debug_carry_no_secret");
    let name = law.name()?;
    let marked = |at: u8| format!("marked-{at}-{}", Version::random());
    let (one, two, three) = (marked(1), marked(2), marked(3));
    let first = law.ok("create", store.create(&name, &one.as_str().into()).await)?;
    let mut texts = vec![format!("{store:?}")];
    let read = law.ok("read", store.read(&name, Stage::Current).await)?;
    texts.push(format!("{read:?}"));
    let mut failed = vec![
        store.create(&name, &two.as_str().into()).await.err(),
        store.put(&name, &two.as_str().into(), &Version::random()).await.err(),
        // More than any service takes.
        store.put(&name, &format!("{two}{}", "x".repeat(1 << 20)).into(), &first).await.err(),
        store.stage(&law.name()?, &two.as_str().into()).await.err(),
    ];
    law.ok("stage", store.stage(&name, &three.as_str().into()).await)?;
    failed.push(store.stage(&name, &two.as_str().into()).await.err());
    for error in failed.into_iter().flatten() {
        texts.push(format!("{error:?}"));
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            texts.push(error.to_string());
            cause = error.source();
        }
    }
    law.holds(!texts.iter().any(|text| text.contains("marked-")), "a text shows a secret")
}

/// Two calls side by side. Most stores are slow enough for both to be under way.
async fn futures<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (std::pin::pin!(a), std::pin::pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    std::future::poll_fn(|cx| {
        if of_a.is_none()
            && let std::task::Poll::Ready(output) = a.as_mut().poll(cx)
        {
            of_a = Some(output);
        }
        if of_b.is_none()
            && let std::task::Poll::Ready(output) = b.as_mut().poll(cx)
        {
            of_b = Some(output);
        }
        match (of_a.take(), of_b.take()) {
            (Some(a), Some(b)) => std::task::Poll::Ready((a, b)),
            pending => {
                (of_a, of_b) = pending;
                std::task::Poll::Pending
            }
        }
    })
    .await
}

/// The name of the law being tested, and the ways to say that it does not hold.
struct Law(&'static str);

impl Law {
    fn name(&self) -> Result<SecretName, Broken> {
        let random = Version::random().as_str().replace('-', "");
        self.ok("name", SecretName::new(&format!("law-{random}")))
    }

    fn ok<T>(&self, step: &str, result: Result<T, Error>) -> Result<T, Broken> {
        result.map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})"));
            self.broken(format!(
                "{step} failed with {:?}: {error}{}",
                error.kind(),
                cause.unwrap_or_default()
            ))
        })
    }

    fn fails<T>(&self, what: &str, kind: ErrorKind, result: Result<T, Error>) -> Result<(), Broken> {
        match result {
            Err(error) if error.kind() == kind => Ok(()),
            Err(error) => Err(self.broken(format!("{what} gave {:?}, not {kind:?}: {error}", error.kind()))),
            Ok(_) => Err(self.broken(format!("{what} was accepted"))),
        }
    }

    fn holds(&self, condition: bool, otherwise: &str) -> Result<(), Broken> {
        if condition { Ok(()) } else { Err(self.broken(otherwise)) }
    }

    async fn reads(
        &self,
        store: &dyn SecretStore,
        name: &SecretName,
        stage: Stage,
        (version, value): (&Version, &str),
    ) -> Result<(), Broken> {
        let found: Secret =
            self.ok(&format!("reading the {stage} version"), store.read(name, stage).await)?;
        self.holds(found.version() == version, &format!("another version is {stage}"))?;
        self.holds(found.has_value(&value.into()), &format!("the {stage} version has another value"))
    }

    /// The one call that succeeded; the other failed because it was late.
    fn winner<'a>(
        &self,
        what: &str,
        results: [(Result<Version, Error>, &'a str); 2],
    ) -> Result<(Version, &'a str), Broken> {
        match results {
            [(Ok(version), value), (Err(late), _)] | [(Err(late), _), (Ok(version), value)] => {
                self.fails(&format!("the later {what}"), ErrorKind::Stale, Err::<(), _>(late))?;
                Ok((version, value))
            }
            [(Ok(_), _), (Ok(_), _)] => Err(self.broken(format!("two calls won: {what}"))),
            [(Err(a), _), (Err(b), _)] => {
                Err(self.broken(format!("no call of {what} won: {:?} and {:?}", a.kind(), b.kind())))
            }
        }
    }

    fn broken(&self, how: impl fmt::Display) -> Broken {
        Broken { law: self.0, how: how.to_string() }
    }
}
