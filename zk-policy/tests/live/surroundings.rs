//! What a server brings with it that a plan has to hold against: settings, default privileges, locks, objects of others.

use std::time::Duration;

use tokio_postgres::Client;
use zk_policy::pg::{self, ApplyConfig, ErrorKind};
use zk_policy::{AccessEffect, Consent, Document, Plan, Policy, check};

use super::{ANN, Crm, RULES, T1, run};

const MASKED: &str = "
  role agent
  claim tenant: uuid
  table customers {
    tenant tenant_id = claim.tenant
    allow agent select
    mask region for agent as partial(1, '*', 1)
  }";

async fn other_policy(crm: &mut Crm, text: &str) -> Policy {
    let schema = pg::read_schema(&mut crm.owner).await.unwrap();
    check(&Document::parse(text).unwrap(), &schema).unwrap()
}

async fn accept(client: &mut Client, policy: &Policy) -> Plan {
    let plan = pg::plan(client, policy).await.unwrap();
    let accepted = plan.clone().accept(Consent::Widening).unwrap();
    pg::apply(client, accepted, &ApplyConfig::default()).await.unwrap();
    plan
}

/// New relations are not born with what default privileges give to others, and those that give it are named.
#[tokio::test]
async fn default_privileges_open_no_view_and_are_drift() {
    let mut crm = Crm::create().await;
    let p = crm.name.clone();
    let script = format!(
        "CREATE ROLE {p}_x; CREATE ROLE {p}_y; CREATE ROLE {p}_z;
         SET ROLE {p}_owner;
         ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {p}_x;
         ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO PUBLIC;
         ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO {p}_y;
         CREATE SCHEMA elsewhere; ALTER DEFAULT PRIVILEGES IN SCHEMA elsewhere GRANT ALL ON TABLES TO {p}_z"
    );
    crm.database.execute(&script).await.unwrap();
    let plan = crm.apply(MASKED).await;
    let drift: Vec<String> = plan.drift.iter().map(ToString::to_string).collect();
    let expected = [
        format!(
            "PUBLIC gets INSERT, SELECT, UPDATE, DELETE on whatever {p}_owner creates in schema public, by default privileges: \
             ALTER DEFAULT PRIVILEGES FOR ROLE {p}_owner IN SCHEMA public REVOKE ALL ON TABLES FROM PUBLIC"
        ),
        format!(
            "{p}_x gets SELECT on whatever {p}_owner creates, by default privileges: \
             ALTER DEFAULT PRIVILEGES FOR ROLE {p}_owner REVOKE ALL ON TABLES FROM {p}_x"
        ),
    ];
    assert_eq!(drift, expected);
    let held = "SELECT has_table_privilege($1, $2, 'SELECT'), has_schema_privilege($3, $4, 'CREATE')";
    let (view, schema) = (format!("{p}_agent.customers"), format!("{p}_agent"));
    let root = crm.database.connect().await.unwrap();
    let row = root.query_one(held, &[&format!("{p}_x"), &view, &format!("{p}_y"), &schema]).await.unwrap();
    assert_eq!((row.get::<_, bool>(0), row.get::<_, bool>(1)), (false, false));

    let told = crm.plan(&MASKED.replace("partial(1", "partial(0")).await.removing_drift();
    pg::apply(&mut crm.owner, told.accept(Consent::Widening).unwrap(), &ApplyConfig::default())
        .await
        .unwrap();
    let after = crm.plan(&MASKED.replace("partial(1", "partial(0")).await;
    assert!(after.is_empty() && after.drift.is_empty(), "{after}");
}

/// The script of a plan means the server's own functions, whoever put others on the search path.
#[tokio::test]
async fn a_script_holds_on_any_search_path() {
    let mut crm = Crm::create().await;
    crm.owner
        .batch_execute(
            "ALTER TABLE customers ALTER region TYPE varchar;
             CREATE FUNCTION public.left(varchar, int) RETURNS text LANGUAGE sql AS 'SELECT $1::text';
             CREATE FUNCTION public.right(varchar, int) RETURNS text LANGUAGE sql AS 'SELECT $1::text';
             CREATE FUNCTION public.substr(bytea, int, int) RETURNS bytea LANGUAGE sql AS $$ SELECT '\\x01'::bytea $$;
             CREATE FUNCTION public.evil(uuid, uuid) RETURNS bool LANGUAGE sql AS 'SELECT true';
             CREATE OPERATOR public.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = public.evil)",
        )
        .await
        .unwrap();
    let rules = MASKED.replace("allow agent", "critical ssn\n allow agent");
    let script = crm.plan(&rules).await.to_sql();
    crm.owner
        .batch_execute(&format!("SET search_path = public, pg_catalog; {script} RESET search_path"))
        .await
        .unwrap();
    let after = crm.plan(&rules).await;
    assert!(after.is_empty(), "{after}");
    let mut agent = crm.act("agent").await;
    let session = crm.of("agent", T1, ANN);
    let clear = "SELECT id FROM customers WHERE region IN ('north', 'south')";
    assert_eq!(run(&mut agent, &session, clear).await, Ok(vec![]), "the mask stands");
    assert_eq!(run(&mut agent, &session, "SELECT id FROM customers ORDER BY id").await, Ok(vec![1, 2, 3]));
    let shown = crm.owner.query_one("SHOW search_path", &[]).await.unwrap();
    assert!(!shown.get::<_, String>(0).contains("pg_temp"), "the script leaves no setting behind");
}

/// A script waits no longer for a lock than an apply does.
#[tokio::test]
async fn a_script_does_not_queue_behind_long_transactions() {
    let mut crm = Crm::create().await;
    let script = crm.plan(RULES).await.to_sql();
    let mut other = crm.database.connect().await.unwrap();
    let reader = other.transaction().await.unwrap();
    reader.execute("SELECT FROM customers", &[]).await.unwrap();
    let stopped =
        tokio::time::timeout(Duration::from_secs(20), crm.owner.batch_execute(&script)).await.unwrap();
    assert_eq!(stopped.unwrap_err().code().unwrap().code(), "55P03");
}

/// What a role could pass on, and passed on, is taken back with everything that came of it.
#[tokio::test]
async fn privileges_that_were_handed_on_are_taken_back() {
    let mut crm = Crm::create().await;
    crm.apply(RULES).await;
    let p = crm.name.clone();
    let script = format!(
        "CREATE ROLE {p}_x; GRANT {p}_agent TO {p}_owner;
         SET ROLE {p}_owner; GRANT SELECT (id), UPDATE (phone), DELETE ON customers TO {p}_agent WITH GRANT OPTION;
         GRANT SELECT ON countries TO {p}_x WITH GRANT OPTION;
         SET ROLE {p}_agent; GRANT SELECT (id), UPDATE (phone) ON customers TO PUBLIC, {p}_manager; GRANT DELETE ON customers TO {p}_x;
         SET ROLE {p}_x; GRANT SELECT ON countries TO PUBLIC"
    );
    crm.database.execute(&script).await.unwrap();
    let plan = crm.apply(RULES).await;
    assert_eq!(plan.widening().count(), 0, "{plan}");
    let told = crm.plan(RULES).await;
    assert!(told.is_empty() && told.drift.len() == 2, "what others hold stays for those to decide\n{told}");
    let accepted = told.removing_drift().accept(Consent::NarrowingOnly).unwrap();
    pg::apply(&mut crm.owner, accepted, &ApplyConfig::default()).await.unwrap();
    let after = crm.plan(RULES).await;
    assert!(after.is_empty() && after.drift.is_empty(), "{after}");
}

/// Another policy's persona ends nobody's floor.
#[tokio::test]
async fn a_persona_leaves_the_floor_under_policies_that_stand_alongside() {
    let mut crm = Crm::create().await;
    let (p, q) = (crm.name.clone(), testkit::unique_name("q"));
    let second = |roles: &str| {
        format!(
            "policy {q}  role clerk {roles}  table customers {{ shared  allow clerk select  {} }}",
            if roles.is_empty() { "" } else { "allow temp select" }
        )
    };
    let q_policy = other_policy(&mut crm, &second("")).await.alongside(&p);
    let p_policy = |crm: &Policy| crm.clone().alongside(&q);
    let plain = p_policy(&crm.policy(RULES).await);
    accept(&mut crm.owner, &plain).await;
    accept(&mut crm.owner, &q_policy).await;

    let across = format!("{RULES} persona analyst {{ select on customers across tenants }}");
    let with_persona = p_policy(&crm.policy(&across).await);
    let plan = accept(&mut crm.owner, &with_persona).await;
    let floor = plan.steps.iter().find(|s| s.summary.contains("_floor")).unwrap();
    assert_eq!(floor.access.as_ref().unwrap().effect, AccessEffect::Widens, "{plan}");
    let ids = "SELECT id FROM customers ORDER BY id";
    let clerk = |role: &str| format!("{q}_{role}");
    let root = crm.database.connect().await.unwrap();
    let sees = async |role: String| -> Vec<i64> {
        root.batch_execute(&format!("BEGIN; SET LOCAL ROLE {role}; SET LOCAL zk.tenant = '{T1}'"))
            .await
            .unwrap();
        let rows = root.query(ids, &[]).await.unwrap();
        root.batch_execute("ROLLBACK").await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(sees(clerk("clerk")).await, [1, 2, 3], "the other policy's role keeps the floor");
    assert_eq!(sees(format!("{p}_analyst")).await, [1, 2, 3, 4, 5, 6]);

    // A role that the other policy gains comes under the floor before it may read.
    let q_policy = other_policy(&mut crm, &second("role temp")).await.alongside(&p);
    let plan = accept(&mut crm.owner, &q_policy).await;
    assert!(plan.steps.iter().any(|s| s.summary.contains(&format!("zk_{p}_floor"))), "{plan}");
    assert_eq!(sees(clerk("temp")).await, [1, 2, 3]);
    for policy in [&with_persona, &q_policy] {
        let again = pg::plan(&mut crm.owner, policy).await.unwrap();
        assert!(again.is_empty() && again.drift.is_empty(), "{again}");
    }
    // Who is not said to stand alongside would lose the floor, and the plan says so.
    let forgotten = crm.policy(&across).await;
    let plan = pg::plan(&mut crm.owner, &forgotten).await.unwrap();
    let step = plan.widening().next().unwrap();
    let roles: Vec<&String> = step.access.as_ref().unwrap().roles.iter().collect();
    assert_eq!(roles, [&clerk("clerk"), &clerk("temp")], "{plan}");
}

/// A check belongs to the policy that made it, however alike the names of policies are.
#[tokio::test]
async fn checks_of_a_policy_with_a_similar_name_stay() {
    let mut crm = Crm::create().await;
    let p = crm.name.clone();
    crm.owner.batch_execute("ALTER TABLE customers ADD sealed_a bytea, ADD a bytea").await.unwrap();
    let long = "a_name_that_is_as_long_as_it_may_be_";
    let names = [p.clone(), format!("{p}_sealed"), format!("{long}{p}"), format!("{long}{p}_2")];
    let mut policies = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let critical = ["critical sealed_a", "critical a"][number % 2];
        let text = format!(
            "policy {name}  role r{number}  claim tenant: uuid
             table customers {{ tenant tenant_id = claim.tenant  {critical}  allow r{number} select }}"
        );
        let policy =
            names.iter().fold(other_policy(&mut crm, &text).await, |policy, other| policy.alongside(other));
        accept(&mut crm.owner, &policy).await;
        policies.push(policy);
    }
    for policy in &policies {
        let again = pg::plan(&mut crm.owner, policy).await.unwrap();
        assert!(again.is_empty(), "{again}");
    }
    // Each takes away its own and no other.
    for (number, name) in names.iter().enumerate() {
        let text = format!(
            "policy {name}  role r{number}  claim tenant: uuid
             table customers {{ tenant tenant_id = claim.tenant  allow r{number} select }}"
        );
        let policy =
            names.iter().fold(other_policy(&mut crm, &text).await, |policy, other| policy.alongside(other));
        accept(&mut crm.owner, &policy).await;
        let left = "SELECT count(*) FROM pg_constraint WHERE contype = 'c' AND conname LIKE 'zk%'";
        let row = crm.owner.query_one(left, &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 3 - i64::try_from(number).unwrap(), "after {name}");
    }
}

/// An application that takes locks in the other order is not the one that fails, and the apply comes through.
#[tokio::test]
async fn an_apply_gives_way_to_an_application_in_a_deadlock() {
    for lock_timeout in [ApplyConfig::default().lock_timeout, Duration::from_secs(20)] {
        let mut crm = Crm::create().await;
        let plan = crm.plan(RULES).await;
        let mut other = crm.database.connect().await.unwrap();
        let watch = crm.database.connect().await.unwrap();
        let application = other.transaction().await.unwrap();
        // The tables are changed in the order of their names.
        application.execute("SELECT FROM customers", &[]).await.unwrap();
        let meanwhile = async {
            let waits =
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database
                         WHERE datname = current_database())";
            while watch.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            application.query("SELECT FROM countries", &[]).await.expect("the application is not the victim");
            application.commit().await.unwrap();
        };
        let mut config = ApplyConfig::default();
        config.lock_timeout = lock_timeout;
        let accepted = plan.accept(Consent::Widening).unwrap();
        let (applied, ()) = tokio::join!(pg::apply(&mut crm.owner, accepted, &config), meanwhile);
        applied.unwrap();
    }
}

/// The defaults of a database or role do not change what an apply sees.
#[tokio::test]
async fn an_apply_does_not_trust_default_settings() {
    let mut crm = Crm::create().await;
    let p = crm.name.clone();
    crm.owner
        .batch_execute(
            "SET default_transaction_isolation = 'repeatable read'; SET default_transaction_read_only = on;
             SET default_transaction_deferrable = on",
        )
        .await
        .unwrap();
    let plan = crm.plan(RULES).await;
    let mut other = crm.database.connect_as(&format!("{p}_owner"), "owner").await.unwrap();
    let watch = crm.database.connect().await.unwrap();
    let granting = other.transaction().await.unwrap();
    granting.batch_execute("LOCK customers IN SHARE UPDATE EXCLUSIVE MODE").await.unwrap();
    let meanwhile = async {
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'customers'::regclass";
        while watch.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        granting.batch_execute("GRANT SELECT ON customers TO PUBLIC").await.unwrap();
        granting.commit().await.unwrap();
    };
    let mut config = ApplyConfig::default();
    config.lock_timeout = Duration::from_secs(20);
    let accepted = plan.accept(Consent::Widening).unwrap();
    let (applied, ()) = tokio::join!(pg::apply(&mut crm.owner, accepted, &config), meanwhile);
    assert_eq!(applied.unwrap_err().kind(), ErrorKind::Changed);
    crm.apply(RULES).await;
}

/// What somebody built on a masked view is named before anything is changed.
#[tokio::test]
async fn what_depends_on_a_masked_view_is_named() {
    let mut crm = Crm::create().await;
    crm.apply(MASKED).await;
    let p = crm.name.clone();
    let script = format!(
        "CREATE VIEW report AS SELECT id, region FROM {p}_agent.customers;
         CREATE FUNCTION counted() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM {p}_agent.customers; END;
         CREATE FUNCTION typed({p}_agent.customers) RETURNS int LANGUAGE sql AS 'SELECT 1'"
    );
    crm.database.execute(&script).await.unwrap();
    let other = MASKED.replace("partial(1", "partial(0");
    let plan = crm.plan(&other).await;
    let accepted = plan.clone().accept(Consent::Widening).unwrap();
    let error = pg::apply(&mut crm.owner, accepted, &ApplyConfig::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DependedOn, "{error}");
    for name in [
        "view public.report",
        "function public.counted()",
        &format!("typed({p}_agent.customers)"),
        &format!("{p}_agent.customers"),
    ] {
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
    assert_eq!(crm.plan(&other).await.against, plan.against);
    crm.database
        .execute(&format!(
            "DROP VIEW report; DROP FUNCTION counted(); DROP FUNCTION typed({p}_agent.customers)"
        ))
        .await
        .unwrap();
    crm.apply(&other).await;
}

/// However a table is called, what the server stores of an `exists` is what the plan compares with.
#[tokio::test]
async fn tables_called_like_our_aliases_settle() {
    let mut crm = Crm::create().await;
    for name in ["zk_asked", "zk_asked_1", "zk_other"] {
        crm.owner
            .batch_execute(&format!(
                "CREATE TABLE {name} (id int8 PRIMARY KEY, tenant_id uuid NOT NULL, customer int8 REFERENCES customers);
                 CREATE TABLE {name}_in (id int8 PRIMARY KEY, tenant_id uuid NOT NULL, up int8 REFERENCES {name})"
            ))
            .await
            .unwrap();
        let rules = format!(
            "role agent  claim tenant: uuid
             table customers {{ tenant tenant_id = claim.tenant  allow agent select where region = 'north' }}
             table {name} {{ tenant tenant_id = claim.tenant  allow agent select where exists customers via customer }}
             table {name}_in {{ tenant tenant_id = claim.tenant
               allow agent select where exists {name} via up where exists customers via customer where region = 'north' }}"
        );
        crm.apply(&rules).await;
        let again = crm.plan(&rules).await;
        assert!(again.is_empty(), "{name}: {again}");
    }
}

/// What a catalog says of a column, and what a check makes of it.
#[tokio::test]
async fn whether_an_index_leads_with_a_column_is_read() {
    let mut crm = Crm::create().await;
    crm.owner
        .batch_execute(
            "CREATE TABLE slow (tenant_id uuid NOT NULL, a int8, b int8, c int8, PRIMARY KEY (a, tenant_id));
             CREATE INDEX ON slow (b) WHERE b > 0; CREATE INDEX ON slow USING hash (c)",
        )
        .await
        .unwrap();
    let schema = pg::read_schema(&mut crm.owner).await.unwrap();
    let shape = schema.find("public", "slow").unwrap();
    let indexed: Vec<_> = shape.columns().map(|column| column.indexed).collect();
    assert_eq!(indexed, [Some(false), Some(true), Some(false), Some(true)], "a partial index is none");
    let text = "policy p role r claim t: uuid table slow { tenant tenant_id = claim.t allow r select }";
    let of = |schema| check(&Document::parse(text).unwrap(), schema).unwrap().warnings().to_string();
    assert!(of(&schema).contains("W507"), "{}", of(&schema));
    crm.owner.batch_execute("CREATE INDEX ON slow (tenant_id)").await.unwrap();
    assert_eq!(of(&pg::read_schema(&mut crm.owner).await.unwrap()), "");
}
