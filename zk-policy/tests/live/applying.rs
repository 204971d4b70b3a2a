//! An apply is whole or changes nothing, whoever is in its way.

use std::time::Duration;

use tokio_postgres::error::SqlState;
use zk_policy::Consent;
use zk_policy::pg::{self, ApplyConfig, ErrorKind};

use super::{Crm, RULES};

#[tokio::test]
async fn a_plan_for_another_state_is_refused() {
    let mut crm = Crm::create().await;
    let stale = crm.plan(RULES).await.accept(Consent::Widening).unwrap();
    crm.apply(RULES).await;
    let error = pg::apply(&mut crm.owner, stale, &ApplyConfig::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
}

#[tokio::test]
async fn of_two_applies_one_wins_and_one_is_told() {
    let mut crm = Crm::create().await;
    let plan = crm.plan(RULES).await;
    let mut other = crm.database.connect_as(&format!("{}_owner", crm.name), "owner").await.unwrap();
    let accepted = || plan.clone().accept(Consent::Widening).unwrap();
    let config = ApplyConfig::default();
    let (one, two) = tokio::join!(
        pg::apply(&mut crm.owner, accepted(), &config),
        pg::apply(&mut other, accepted(), &config)
    );
    let (won, told) = if one.is_ok() { (one, two) } else { (two, one) };
    assert_eq!(won.unwrap().steps, plan.steps.len());
    assert_eq!(told.unwrap_err().kind(), ErrorKind::Changed);
    assert!(crm.plan(RULES).await.is_empty());
}

/// A service that holds every advisory lock there is stops nobody from applying.
#[tokio::test]
async fn services_cannot_block_an_apply() {
    let mut crm = Crm::create().await;
    crm.apply(RULES).await;
    let agent = crm.act("agent").await;
    agent.execute("SELECT pg_advisory_lock(8821267918997775225)", &[]).await.unwrap();
    let locked =
        agent.batch_execute("BEGIN; LOCK TABLE customers IN SHARE UPDATE EXCLUSIVE MODE").await.unwrap_err();
    assert_eq!(locked.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    crm.apply(&RULES.replace("phone, ssn", "phone")).await;
}

/// Whoever may create objects in a schema on the search path could have better-matching operators run as the deployer.
#[tokio::test]
async fn objects_on_the_search_path_do_not_run_as_the_deployer() {
    let mut crm = Crm::create().await;
    let attacker = testkit::unique_name("attacker");
    let setup =
        format!("CREATE ROLE {attacker} LOGIN PASSWORD 'x'; GRANT CREATE ON SCHEMA public TO {attacker}");
    crm.database.execute(&setup).await.unwrap();
    let attacker = crm.database.connect_as(&attacker, "x").await.unwrap();
    attacker
        .batch_execute(
            "CREATE TABLE loot (who text); GRANT ALL ON loot TO PUBLIC;
             CREATE FUNCTION f(name, name) RETURNS bool LANGUAGE plpgsql AS
               $$ BEGIN INSERT INTO public.loot VALUES (current_user); RETURN true; END $$;
             CREATE OPERATOR !~ (LEFTARG = name, RIGHTARG = name, FUNCTION = f);",
        )
        .await
        .unwrap();
    crm.apply(RULES).await;
    let loot = attacker.query("SELECT DISTINCT who FROM loot", &[]).await.unwrap();
    assert!(loot.is_empty(), "{:?}", loot[0].get::<_, String>(0));
}

#[tokio::test]
async fn a_locked_table_is_waited_for_and_then_given_up() {
    let mut crm = Crm::create().await;
    let plan = crm.plan(RULES).await;
    let mut other = crm.database.connect().await.unwrap();
    let reader = other.transaction().await.unwrap();
    reader.execute("SELECT FROM customers", &[]).await.unwrap();
    let mut config = ApplyConfig::default();
    (config.lock_timeout, config.attempts) = (Duration::from_millis(50), 2);
    let accepted = plan.accept(Consent::Widening).unwrap();
    let error = pg::apply(&mut crm.owner, accepted, &config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    reader.rollback().await.unwrap();
    assert!(!crm.apply(RULES).await.is_empty(), "nothing was changed before");
}

/// Values that were there before the column became critical stop the apply, and nothing of it stays.
#[tokio::test]
async fn an_apply_that_cannot_finish_changes_nothing() {
    let mut crm = Crm::create().await;
    crm.owner.batch_execute("UPDATE customers SET ssn = 'plain' WHERE id = 1").await.unwrap();
    let before = crm.plan(RULES).await;
    let accepted = before.clone().accept(Consent::Widening).unwrap();
    let error = pg::apply(&mut crm.owner, accepted, &ApplyConfig::default()).await.unwrap_err();
    assert!(error.to_string().contains("not sealed"), "{error}");
    assert_eq!(crm.plan(RULES).await.against, before.against);
}

#[tokio::test]
async fn who_may_not_apply_is_told_and_changes_nothing() {
    let mut crm = Crm::create().await;
    let plan = crm.plan(RULES).await;
    let login = testkit::unique_name("weak");
    let script =
        format!("CREATE ROLE {login} LOGIN PASSWORD 'x'; GRANT SELECT ON customers, countries TO {login}");
    crm.database.execute(&script).await.unwrap();
    let mut weak = crm.database.connect_as(&login, "x").await.unwrap();
    let policy = crm.policy(RULES).await;
    let plan_of_weak = pg::plan(&mut weak, &policy).await.unwrap();
    let accepted = plan_of_weak.accept(Consent::Widening).unwrap();
    let error = pg::apply(&mut weak, accepted, &ApplyConfig::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert_eq!(crm.plan(RULES).await.steps.len(), plan.steps.len());
}
