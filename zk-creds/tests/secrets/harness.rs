//! Runs every law against one store, and holds a server to the gaps that were declared for it.

use zk_creds::Error;
use zk_creds::secret::{SecretName, SecretStore, Stage, Version};
use zk_creds::testing::{self, Broken, LAWS};
use zk_kms::testing::{Ended, Gap, Report};

/// Runs all laws, writes a line for each where `./dev test` finds it, and fails unless each is kept, or fails as declared.
pub(crate) async fn run(server: &str, store: &dyn SecretStore, gaps: &[Gap]) {
    let mut ended = Vec::new();
    for law in LAWS {
        ended.push((
            law,
            match check(law, store).await {
                Ok(()) => Ended::Kept,
                Err(broken) => Ended::Broken(zk_kms::testing::Broken::new(law, broken.how())),
            },
        ));
    }
    let server = format!("secrets in {server}");
    let report = Report::new(&server, gaps.to_vec(), ended);
    testkit::note_laws(env!("CARGO_TARGET_TMPDIR"), &server, &report).unwrap();
    assert!(report.is_good(), "\n{report}");
}

/// Everything that a store can be asked for, once.
#[cfg(any(feature = "aws", feature = "vault"))]
pub(crate) async fn does_everything(store: &dyn SecretStore) -> Result<(), Error> {
    let name = SecretName::new(&format!("key-{}", Version::random()))?;
    let first = store.create(&name, &"one".into()).await?;
    let second = store.put(&name, &"two".into(), &first).await?;
    let third = store.stage(&name, &"three".into()).await?;
    store.promote(&name, &third, &second).await?;
    let fourth = store.stage(&name, &"four".into()).await?;
    store.discard(&name, &fourth).await?;
    assert!(store.read(&name, Stage::Current).await?.has_value(&"three".into()));
    store.delete(&name, &third).await?;
    store.recover(&name).await?;
    store.delete(&name, &third).await?;
    store.purge(&name).await
}

/// The policy that the manual gives, as it stands there.
#[cfg(any(feature = "aws", feature = "vault"))]
pub(crate) fn in_the_manual(mark: &str) -> &'static str {
    let manual = include_str!("../../../docs/src/secrets.md");
    let (_, after) = manual.split_once(mark).unwrap();
    let (_, code) = after.split_once("```").unwrap();
    code.split_once('\n').unwrap().1.split_once("```").unwrap().0
}

pub(crate) async fn check(law: &str, store: &dyn SecretStore) -> Result<(), Broken> {
    match law {
        "what_is_written_is_read" => testing::what_is_written_is_read(store).await,
        "what_is_not_there_is_missing" => testing::what_is_not_there_is_missing(store).await,
        "names_are_separate" => testing::names_are_separate(store).await,
        "replacing_keeps_the_previous" => testing::replacing_keeps_the_previous(store).await,
        "a_changed_secret_is_not_changed_again" => {
            testing::a_changed_secret_is_not_changed_again(store).await
        }
        "a_staged_version_waits" => testing::a_staged_version_waits(store).await,
        "one_version_is_pending" => testing::one_version_is_pending(store).await,
        "promoting_switches" => testing::promoting_switches(store).await,
        "promoting_back_restores" => testing::promoting_back_restores(store).await,
        "of_two_writers_one_wins" => testing::of_two_writers_one_wins(store).await,
        "a_deleted_secret_is_gone_until_it_is_recovered" => {
            testing::a_deleted_secret_is_gone_until_it_is_recovered(store).await
        }
        "a_purged_secret_is_gone" => testing::a_purged_secret_is_gone(store).await,
        "errors_and_debug_carry_no_secret" => testing::errors_and_debug_carry_no_secret(store).await,
        law => panic!("the harness does not know the law {law}"),
    }
}
