//! The policy on a real server: what it shows, what it refuses, and what planning and applying promise.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod outside;
mod roles;
mod surroundings;

use std::time::Duration;

use testkit::Database;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use zk_policy::pg::{self, ApplyConfig, ErrorKind};
use zk_policy::{AccessEffect, Consent, Document, Plan, Policy, Session, check};

const T1: &str = "11111111-1111-4111-8111-111111111111";
const T2: &str = "22222222-2222-4222-8222-222222222222";
const ANN: &str = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa";
const BOB: &str = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb";

const RULES: &str = "
  role agent
  role manager includes agent
  claim tenant: uuid
  claim user: uuid
  claim regions: text[]
  table customers {
    tenant tenant_id = claim.tenant
    critical ssn
    allow agent select where owner_id = claim.user or region in claim.regions
    allow agent insert, update where owner_id = claim.user
    allow manager select, insert, update, delete
    deny manager delete where legal_hold
    columns agent select, insert all except credit_limit
    columns agent update only phone, ssn
  }
  table countries { shared  allow agent select }
";

/// A database with an owner that is not a superuser, two tenants and six customers.
struct Crm {
    database: Database,
    owner: Client,
    name: String,
}

impl Crm {
    async fn create() -> Self {
        let database = Database::create().await.unwrap();
        let name = testkit::unique_name("p");
        let owner = format!("{name}_owner");
        database
            .execute(&format!(
                "CREATE ROLE {owner} LOGIN CREATEROLE PASSWORD 'owner'; ALTER DATABASE {} OWNER TO {owner}",
                database.name()
            ))
            .await
            .unwrap();
        let owner = database.connect_as(&owner, "owner").await.unwrap();
        owner
            .batch_execute(&format!(
                "CREATE TABLE countries (code text PRIMARY KEY);
                 INSERT INTO countries VALUES ('de'), ('eg');
                 CREATE TABLE customers (id int8 PRIMARY KEY, tenant_id uuid NOT NULL, owner_id uuid, region text,
                   phone text, credit_limit numeric, legal_hold bool, ssn bytea);
                 INSERT INTO customers VALUES
                   (1, '{T1}', '{ANN}', 'north', '1', 10, false), (2, '{T1}', '{BOB}', 'south', '2', 20, true),
                   (3, '{T1}', NULL, NULL, '3', 30, NULL), (4, '{T2}', '{ANN}', 'north', '4', 40, false),
                   (5, '{T2}', '{BOB}', 'south', '5', 50, false), (6, '{T2}', NULL, 'north', '6', 60, true)"
            ))
            .await
            .unwrap();
        Self { database, owner, name }
    }

    fn text(&self, rules: &str) -> String {
        format!("policy {}\n{rules}", self.name)
    }

    async fn policy(&mut self, rules: &str) -> Policy {
        let document = Document::parse(&self.text(rules)).unwrap();
        check(&document, &pg::read_schema(&mut self.owner).await.unwrap()).unwrap()
    }

    async fn plan(&mut self, rules: &str) -> Plan {
        let policy = self.policy(rules).await;
        pg::plan(&mut self.owner, &policy).await.unwrap()
    }

    async fn apply(&mut self, rules: &str) -> Plan {
        let plan = self.plan(rules).await;
        let accepted = plan.clone().accept(Consent::Widening).unwrap();
        pg::apply(&mut self.owner, accepted, &ApplyConfig::default()).await.unwrap();
        plan
    }

    /// A connection of a login that may act as `role`, and has done so.
    async fn act(&self, role: &str) -> Client {
        self.act_as(&self.session(role)).await
    }

    async fn act_as(&self, session: &Session) -> Client {
        let (login, role) = (testkit::unique_name("svc"), session.database_role());
        let script = format!("CREATE ROLE {login} LOGIN NOINHERIT PASSWORD 'x'; GRANT {role} TO {login}");
        self.database.execute(&script).await.unwrap();
        let client = self.database.connect_as(&login, "x").await.unwrap();
        session.enter(&client).await.unwrap();
        client
    }

    fn session(&self, role: &str) -> Session {
        let document = Document::parse(&self.text(RULES)).unwrap();
        Session::new(&document, role).unwrap()
    }

    fn of(&self, role: &str, tenant: &str, user: &str) -> Session {
        self.session(role).claim("tenant", tenant).unwrap().claim("user", user).unwrap()
    }
}

/// Runs one statement in the session and says what came of it: the ids it returned, or the SQLSTATE.
async fn run(client: &mut Client, session: &Session, statement: &str) -> Result<Vec<i64>, SqlState> {
    let transaction = session.begin(client).await.unwrap();
    match transaction.query(statement, &[]).await {
        Ok(rows) => {
            transaction.commit().await.unwrap();
            Ok(rows.iter().map(|row| row.get(0)).collect())
        }
        Err(error) => Err(error.code().unwrap().clone()),
    }
}

const DENIED: Result<Vec<i64>, SqlState> = Err(SqlState::INSUFFICIENT_PRIVILEGE);

#[tokio::test]
async fn plan_is_empty_after_apply() {
    let mut crm = Crm::create().await;
    assert!(!crm.apply(RULES).await.is_empty());
    let again = crm.plan(RULES).await;
    assert!(again.is_empty() && again.drift.is_empty(), "{again}");
}

#[tokio::test]
async fn rows_and_columns_are_guarded() {
    let mut crm = Crm::create().await;
    crm.apply(RULES).await;
    let mut agent = crm.act("agent").await;
    let ann = crm.of("agent", T1, ANN);
    let ids = "SELECT id FROM customers ORDER BY id";
    assert_eq!(run(&mut agent, &ann, ids).await, Ok(vec![1]));
    let regional = ann.clone().claim("regions", ["south", "x"].as_slice()).unwrap();
    assert_eq!(run(&mut agent, &regional, ids).await, Ok(vec![1, 2]));
    assert_eq!(
        run(&mut agent, &crm.session("agent"), ids).await,
        Ok(vec![]),
        "without claims there is nothing"
    );
    assert_eq!(run(&mut agent, &ann, ids).await, Ok(vec![1]), "claims end with their transaction");

    assert_eq!(run(&mut agent, &ann, "SELECT id FROM customers WHERE credit_limit > 0").await, DENIED);
    assert_eq!(run(&mut agent, &ann, "SELECT * FROM customers").await, DENIED);
    assert_eq!(run(&mut agent, &ann, "UPDATE customers SET region = 'x' RETURNING id").await, DENIED);
    assert_eq!(run(&mut agent, &ann, "DELETE FROM customers RETURNING id").await, DENIED);
    assert_eq!(run(&mut agent, &ann, "UPDATE customers SET phone = '0' RETURNING id").await, Ok(vec![1]));
    let foreign =
        format!("INSERT INTO customers (id, tenant_id, owner_id) VALUES (9, '{T2}', '{ANN}') RETURNING id");
    assert_eq!(run(&mut agent, &ann, &foreign).await, DENIED);
    let own =
        format!("INSERT INTO customers (id, tenant_id, owner_id) VALUES (9, '{T1}', '{ANN}') RETURNING id");
    assert_eq!(run(&mut agent, &ann, &own).await, Ok(vec![9]));
    assert_eq!(run(&mut agent, &ann, "SELECT count(*) FROM countries").await, Ok(vec![2]));

    let mut manager = crm.act("manager").await;
    let bob = crm.of("manager", T1, BOB);
    assert_eq!(run(&mut manager, &bob, ids).await, Ok(vec![1, 2, 3, 9]));
    let moved = format!("UPDATE customers SET tenant_id = '{T2}' WHERE id = 1 RETURNING id");
    assert_eq!(run(&mut manager, &bob, &moved).await, DENIED, "a row does not change its tenant");
    let held = "DELETE FROM customers WHERE id IN (2, 3) RETURNING id";
    assert_eq!(run(&mut manager, &bob, held).await, Ok(vec![]), "deny holds unless it is certainly false");
    assert_eq!(run(&mut manager, &bob, "DELETE FROM customers WHERE id = 1 RETURNING id").await, Ok(vec![1]));
}

#[tokio::test]
async fn the_owner_is_bound_as_well() {
    let mut crm = Crm::create().await;
    crm.apply(RULES).await;
    let rows = crm.owner.query("SELECT id FROM customers", &[]).await.unwrap();
    assert!(rows.is_empty(), "row-level security is forced");
}

#[tokio::test]
async fn a_critical_column_takes_sealed_bytes_only() {
    let mut crm = Crm::create().await;
    crm.apply(RULES).await;
    let mut agent = crm.act("agent").await;
    let ann = crm.of("agent", T1, ANN);
    let write = |bytes: &str| format!("UPDATE customers SET ssn = {bytes} RETURNING id");
    let refused = Err(SqlState::CHECK_VIOLATION);
    for bytes in
        ["'123-45-6789'", "''", "decode(repeat('41', 80), 'hex')", "decode('01' || repeat('41', 55), 'hex')"]
    {
        assert_eq!(run(&mut agent, &ann, &write(bytes)).await, refused, "{bytes}");
    }
    for bytes in
        ["NULL", "decode('01' || repeat('41', 56), 'hex')", "decode('02' || repeat('41', 90), 'hex')"]
    {
        assert_eq!(run(&mut agent, &ann, &write(bytes)).await, Ok(vec![1]), "{bytes}");
    }
}

#[tokio::test]
async fn a_malformed_claim_fails_closed() {
    let mut crm = Crm::create().await;
    crm.apply(RULES).await;
    let agent = crm.act("agent").await;
    agent.batch_execute("SELECT set_config('zk.tenant', 'x'' OR true --', false)").await.unwrap();
    let error = agent.query("SELECT id FROM customers", &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INVALID_TEXT_REPRESENTATION));
    assert!(crm.session("agent").claim("tenant", "x' OR true --").is_err());
    assert!(crm.session("agent").claim("colour", "red").is_err());
}

#[tokio::test]
async fn a_changed_rule_is_the_whole_plan_and_says_which_way_it_goes() {
    let mut crm = Crm::create().await;
    crm.apply(RULES).await;
    let role = format!("{}_agent", crm.name);

    let wider =
        RULES.replace("where owner_id = claim.user or", "where owner_id = claim.user or score_less or");
    let wider = wider.replace("score_less", "legal_hold");
    let plan = crm.plan(&wider).await;
    assert_eq!(plan.steps.len(), 1, "{plan}");
    let access = plan.steps[0].access.as_ref().unwrap();
    assert_eq!((access.effect, access.roles.contains(&role)), (AccessEffect::Widens, true));
    assert!(plan.clone().accept(Consent::NarrowingOnly).is_err());

    let narrower = RULES
        .replace("where owner_id = claim.user or region in claim.regions", "where owner_id = claim.user");
    let plan = crm.plan(&narrower).await;
    assert_eq!(plan.steps.len(), 1, "{plan}");
    assert_eq!(plan.steps[0].access.as_ref().unwrap().effect, AccessEffect::Narrows);
    let accepted = plan.accept(Consent::NarrowingOnly).unwrap();
    pg::apply(&mut crm.owner, accepted, &ApplyConfig::default()).await.unwrap();
    assert!(crm.plan(&narrower).await.is_empty());

    let fewer = narrower.replace("columns agent update only phone, ssn", "columns agent update only phone");
    let plan = crm.plan(&fewer).await;
    assert_eq!(plan.steps.len(), 1, "{plan}");
    assert_eq!(plan.steps[0].access.as_ref().unwrap().effect, AccessEffect::Narrows);
}

/// Every way to weaken an applied policy by hand is planned back, or reported when it is not the policy's own.
#[tokio::test]
async fn tampering_is_planned_back_or_reported() {
    let mut crm = Crm::create().await;
    crm.apply(RULES).await;
    let p = crm.name.clone();
    let ours = [
        "ALTER TABLE customers NO FORCE ROW LEVEL SECURITY".to_owned(),
        "ALTER TABLE customers DISABLE ROW LEVEL SECURITY".to_owned(),
        format!("DROP POLICY zk_{p}_floor ON customers"),
        format!("ALTER POLICY zk_{p}_floor ON customers USING (true)"),
        format!("ALTER POLICY zk_{p}_agent_update ON customers WITH CHECK (true)"),
        format!("ALTER POLICY zk_{p}_agent_select ON customers TO PUBLIC"),
        format!("DROP POLICY zk_{p}_manager_delete_deny ON customers"),
        format!("CREATE POLICY zk_more ON customers TO {p}_agent USING (true)"),
        format!("ALTER TABLE customers DROP CONSTRAINT zk_{p}_sealed_ssn"),
        format!("GRANT SELECT (credit_limit) ON customers TO {p}_agent"),
        format!("GRANT ALL ON customers TO {p}_agent"),
        format!("REVOKE SELECT (id) ON customers FROM {p}_manager"),
        format!("ALTER ROLE {p}_agent LOGIN"),
        format!("GRANT SELECT (id) ON customers TO {p}_agent WITH GRANT OPTION"),
        format!("GRANT CREATE ON SCHEMA public TO {p}_agent"),
        format!("REVOKE USAGE ON SCHEMA public FROM {p}_agent"),
        format!("ALTER TABLE customers ADD CONSTRAINT zk_{p}_sealed_phone CHECK (phone <> '{p}')"),
    ];
    for tampering in ours {
        crm.owner.batch_execute(&tampering).await.unwrap_or_else(|e| panic!("{tampering}: {e:?}"));
        assert!(!crm.plan(RULES).await.is_empty(), "{tampering}");
        crm.apply(RULES).await;
        assert!(crm.plan(RULES).await.is_empty(), "{tampering}");
    }
    let others = [
        "CREATE POLICY guests ON customers FOR SELECT TO PUBLIC USING (true)".to_owned(),
        "GRANT SELECT ON customers TO PUBLIC".to_owned(),
        format!("GRANT {p}_manager TO {p}_agent"),
        "CREATE MATERIALIZED VIEW copies AS SELECT id FROM customers; GRANT SELECT ON copies TO PUBLIC"
            .to_owned(),
        "CREATE POLICY zk_more ON customers TO PUBLIC USING (true)".to_owned(),
        "CREATE MATERIALIZED VIEW parts AS SELECT id FROM customers; GRANT SELECT (id) ON parts TO PUBLIC"
            .to_owned(),
    ];
    for (count, tampering) in others.iter().enumerate() {
        crm.owner.batch_execute(tampering).await.unwrap();
        let plan = crm.plan(RULES).await;
        assert_eq!((plan.steps.len(), plan.drift.len()), (0, count + 1), "{tampering}\n{plan}");
    }
}

/// What is reported is removed only when the plan is told to, and then all of it.
#[tokio::test]
async fn drift_is_removed_when_the_plan_is_told_to() {
    let mut crm = Crm::create().await;
    let guests = RULES.replace("allow agent select }", "allow agent select  allow guest select }");
    crm.apply(&format!("role guest\n{guests}")).await;
    crm.apply(RULES).await;
    let p = crm.name.clone();
    let script = format!(
        "CREATE POLICY guests ON customers FOR SELECT TO PUBLIC, {p}_agent USING (true);
         GRANT SELECT (id), UPDATE ON customers TO PUBLIC; GRANT {p}_manager TO {p}_agent;
         CREATE MATERIALIZED VIEW copies AS SELECT id FROM customers; GRANT SELECT ON copies TO PUBLIC"
    );
    crm.owner.batch_execute(&script).await.unwrap();
    // A function of a superuser is the superuser's to close.
    crm.database
        .execute(
            "CREATE FUNCTION everything() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
               AS 'SELECT count(*) FROM PUBLIC.CUSTOMERS';
             CREATE FUNCTION atomic() RETURNS bigint LANGUAGE sql SECURITY DEFINER
               BEGIN ATOMIC SELECT count(*) FROM customers; END;
             CREATE FUNCTION harmless() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT 1 /* customers_old */'",
        )
        .await
        .unwrap();
    let plan = crm.plan(RULES).await;
    assert!(plan.is_empty(), "{plan}");
    let drift: Vec<String> = plan.drift.iter().map(ToString::to_string).collect();
    let by = if crm.database.cluster().server_version() < 16 {
        String::new()
    } else {
        format!(" GRANTED BY \"{p}_owner\"")
    };
    let expected = [
        format!("role {p}_guest is no longer in the policy: DROP ROLE \"{p}_guest\""),
        format!("role {p}_agent is a member of {p}_manager and so has its rights: REVOKE \"{p}_manager\" FROM \"{p}_agent\"{by}"),
        "policy guests on public.customers is not ours and may admit rows: DROP POLICY \"guests\" ON \"public\".\"customers\"".to_owned(),
        "public has SELECT on public.customers outside the policy: REVOKE SELECT ON \"public\".\"customers\" FROM PUBLIC".to_owned(),
        "public has UPDATE on public.customers outside the policy: REVOKE UPDATE ON \"public\".\"customers\" FROM PUBLIC".to_owned(),
        "PUBLIC sees a copy of public.customers without its rules in materialized view public.copies: REVOKE ALL ON \"public\".\"copies\" FROM PUBLIC".to_owned(),
        "PUBLIC may call public.everything(), which names public.customers and runs as postgres, whom no rule binds: REVOKE ALL ON ROUTINE public.everything() FROM PUBLIC".to_owned(),
        "PUBLIC may call public.atomic(), which names public.customers and runs as postgres, whom no rule binds: REVOKE ALL ON ROUTINE public.atomic() FROM PUBLIC".to_owned(),
    ];
    for line in &expected {
        assert!(drift.contains(line), "{line}\n{drift:#?}");
    }
    assert_eq!(drift.len(), expected.len(), "{drift:#?}");

    // The owner may not take a superuser's grant away: the server only warns, and nothing of the plan is kept.
    let told = plan.removing_drift();
    assert!(told.widening().next().is_none() && told.drift.is_empty(), "{told}");
    let accepted = told.accept(Consent::NarrowingOnly).unwrap();
    let refused = pg::apply(&mut crm.owner, accepted, &ApplyConfig::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unverified, "{refused}");
    assert_eq!(crm.plan(RULES).await.drift.len(), expected.len());

    crm.database.execute("DROP FUNCTION everything(); DROP FUNCTION atomic()").await.unwrap();
    let told = crm.plan(RULES).await.removing_drift();
    let accepted = told.accept(Consent::NarrowingOnly).unwrap();
    pg::apply(&mut crm.owner, accepted, &ApplyConfig::default()).await.unwrap();
    let after = crm.plan(RULES).await;
    assert!(after.is_empty() && after.drift.is_empty(), "{after}");
}

/// Partitions and children are closed to whoever asks them directly, also those that come later.
#[tokio::test]
async fn partitions_are_closed() {
    let mut crm = Crm::create().await;
    let rules = "role agent  claim tenant: uuid
      table events { tenant tenant_id = claim.tenant  critical ssn  allow agent select, insert }";
    let create = format!(
        "CREATE TABLE events (id int8, tenant_id uuid NOT NULL, ssn bytea) PARTITION BY LIST (tenant_id);
         CREATE TABLE events_one PARTITION OF events FOR VALUES IN ('{T1}') PARTITION BY RANGE (id);
         CREATE TABLE \"Events, old\" PARTITION OF events_one FOR VALUES FROM (0) TO (10);
         INSERT INTO events VALUES (1, '{T1}')"
    );
    crm.owner.batch_execute(&create).await.unwrap();
    crm.apply(rules).await;
    let more = format!(
        "CREATE TABLE events_two PARTITION OF events FOR VALUES IN ('{T2}'); INSERT INTO events VALUES (2, '{T2}');
         GRANT SELECT ON events_one, events_two, \"Events, old\" TO PUBLIC"
    );
    // The floor binds the owner, so a superuser brings the row.
    crm.database.execute(&more).await.unwrap();
    crm.database.execute(&format!("ALTER TABLE events_two OWNER TO {}_owner", crm.name)).await.unwrap();
    let plan = crm.plan(rules).await;
    let steps: Vec<&str> = plan.steps.iter().map(|s| s.summary.as_str()).collect();
    assert_eq!(steps, ["force row-level security on public.events_two"]);
    assert_eq!(plan.drift.len(), 3, "{plan}");
    crm.apply(rules).await;

    let mut agent = crm.act("agent").await;
    let session = crm.of("agent", T1, ANN);
    assert_eq!(run(&mut agent, &session, "SELECT id FROM events").await, Ok(vec![1]));
    for part in ["events_one", "events_two", "\"Events, old\""] {
        let rows = run(&mut agent, &session, &format!("SELECT id FROM {part}")).await;
        assert_eq!(rows, Ok(vec![]), "{part}: what everybody was granted shows nothing");
    }
    let told = crm.plan(rules).await.removing_drift();
    pg::apply(&mut crm.owner, told.accept(Consent::NarrowingOnly).unwrap(), &ApplyConfig::default())
        .await
        .unwrap();
    assert_eq!(run(&mut agent, &session, "SELECT id FROM events_one").await, DENIED);

    // A partition that comes between a plan and its application is a change.
    let wider = rules.replace("select, insert", "select, insert, delete");
    let stale = crm.plan(&wider).await.accept(Consent::Widening).unwrap();
    let third = "CREATE TABLE events_three PARTITION OF events DEFAULT";
    crm.owner.batch_execute(third).await.unwrap();
    let error = pg::apply(&mut crm.owner, stale, &ApplyConfig::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
}

/// Whoever may insert may draw the numbers that the table's defaults want, and no other.
#[tokio::test]
async fn serial_columns_can_be_inserted_into() {
    let mut crm = Crm::create().await;
    let rules = "role agent  role reader  claim tenant: uuid
      table notes { tenant tenant_id = claim.tenant  allow agent select, insert  allow reader select
                    columns agent insert only tenant_id, body }";
    let p = crm.name.clone();
    let create = "CREATE SCHEMA numbers; CREATE SEQUENCE numbers.shared; CREATE SEQUENCE other;
         CREATE TABLE notes (id bigserial PRIMARY KEY, at int8 GENERATED ALWAYS AS IDENTITY,
           number int8 DEFAULT nextval('numbers.shared'), tenant_id uuid NOT NULL, body text)";
    crm.owner.batch_execute(create).await.unwrap();
    crm.apply(rules).await;
    let tampering = format!(
        "GRANT ALL ON SEQUENCE other, notes_id_seq TO {p}_agent; GRANT USAGE ON SEQUENCE notes_id_seq TO {p}_reader"
    );
    crm.owner.batch_execute(&tampering).await.unwrap();
    let plan = crm.apply(rules).await;
    assert_eq!(plan.widening().count(), 0, "{plan}");
    assert_eq!(plan.steps.len(), 6, "{plan}");

    let mut agent = crm.act("agent").await;
    let session = crm.of("agent", T1, ANN);
    let insert = format!("INSERT INTO notes (tenant_id, body) VALUES ('{T1}', 'x') RETURNING id");
    assert_eq!(run(&mut agent, &session, &insert).await, Ok(vec![1]));
    for refused in
        ["SELECT nextval('other')", "SELECT setval('notes_id_seq', 7)", "SELECT last_value FROM notes_id_seq"]
    {
        assert_eq!(run(&mut agent, &session, refused).await, DENIED, "{refused}");
    }
    let without = rules
        .replace("allow agent select, insert", "allow agent select")
        .replace("columns agent insert only tenant_id, body", "");
    let plan = crm.apply(&without).await;
    assert!(plan.steps.iter().any(|s| s.summary.contains("revoke usage on public.notes_id_seq")), "{plan}");
    assert!(crm.plan(&without).await.is_empty());
}

/// Two policies on one table leave each other's objects alone.
#[tokio::test]
async fn policies_stand_alongside_each_other() {
    let mut crm = Crm::create().await;
    crm.apply(RULES).await;
    let billing = testkit::unique_name("billing");
    let text = format!(
        "policy {billing}  role clerk  claim tenant: uuid
         table customers {{ tenant tenant_id = claim.tenant  critical ssn  allow clerk select where legal_hold }}"
    );
    let schema = pg::read_schema(&mut crm.owner).await.unwrap();
    let alone = check(&Document::parse(&text).unwrap(), &schema).unwrap();
    let drift = pg::plan(&mut crm.owner, &alone).await.unwrap().drift;
    assert!(!drift.is_empty(), "what another policy made is drift until it is said to belong there");
    let second = alone.alongside(&crm.name);
    let plan = pg::plan(&mut crm.owner, &second).await.unwrap();
    assert!(plan.drift.is_empty(), "{plan}");
    let accepted = plan.accept(Consent::Widening).unwrap();
    pg::apply(&mut crm.owner, accepted, &ApplyConfig::default()).await.unwrap();

    let first = crm.policy(RULES).await.alongside(&billing);
    for policy in [&first, &second] {
        let again = pg::plan(&mut crm.owner, policy).await.unwrap();
        assert!(again.is_empty() && again.drift.is_empty(), "{again}");
    }
    // The one that no longer calls the column critical takes its own check away, and the other's stays.
    crm.apply(&RULES.replace("critical ssn", "")).await;
    let again = pg::plan(&mut crm.owner, &second).await.unwrap();
    assert!(again.is_empty(), "{again}");
}

#[tokio::test]
async fn a_table_taken_out_of_the_policy_keeps_no_grant() {
    let mut crm = Crm::create().await;
    crm.apply(RULES).await;
    let without = RULES.split_once("table countries").unwrap().0.to_owned();
    let plan = crm.apply(&without).await;
    assert!(
        plan.steps.iter().all(|s| s.access.as_ref().is_some_and(|a| a.effect == AccessEffect::Narrows)),
        "{plan}"
    );
    let mut agent = crm.act("agent").await;
    let session = crm.of("agent", T1, ANN);
    assert_eq!(run(&mut agent, &session, "SELECT count(*) FROM countries").await, DENIED);
}

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

/// A role that somebody made for something else is neither taken over nor lent, whichever way its name comes about.
#[tokio::test]
async fn roles_of_others_are_not_taken_over() {
    let mut crm = Crm::create().await;
    let name = crm.name.clone();
    crm.owner.batch_execute(&format!("CREATE ROLE {name}_agent LOGIN PASSWORD 'y'")).await.unwrap();
    let policy = crm.policy(RULES).await;
    let error = pg::plan(&mut crm.owner, &policy).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignRole);
    assert!(error.to_string().contains(&format!("COMMENT ON ROLE \"{name}_agent\"")), "{error}");
    crm.owner.batch_execute(&format!("DROP ROLE {name}_agent")).await.unwrap();

    // Policy `p` with role `b_c`, and policy `p_b` with role `c`.
    crm.apply(
        "role b_c  claim tenant: uuid  table customers { tenant tenant_id = claim.tenant  allow b_c select }",
    )
    .await;
    let other = format!("policy {name}_b  role c  table countries {{ shared  allow c select }}");
    let schema = pg::read_schema(&mut crm.owner).await.unwrap();
    let other = check(&Document::parse(&other).unwrap(), &schema).unwrap();
    assert_eq!(pg::plan(&mut crm.owner, &other).await.unwrap_err().kind(), ErrorKind::ForeignRole);
    let predefined = Document::parse(
        "policy pg  role read_all_data  table countries { shared  allow read_all_data select }",
    );
    assert_eq!(
        check(&predefined.unwrap(), &schema).unwrap_err().iter().next().unwrap().code.to_string(),
        "E205"
    );
}

/// Seeing less of one table can mean doing more to another: the plan says so.
#[tokio::test]
async fn narrowing_what_a_refusal_looks_at_is_called_widening() {
    let mut crm = Crm::create().await;
    crm.owner
        .batch_execute("CREATE TABLE holds (id int8 PRIMARY KEY, tenant_id uuid NOT NULL, customer_id int8 REFERENCES customers)")
        .await
        .unwrap();
    let rules = |holds: &str| {
        format!(
            "role agent  claim tenant: uuid
             table customers {{ tenant tenant_id = claim.tenant
               allow agent select  deny agent select where exists holds via customer_id }}
             table holds {{ tenant tenant_id = claim.tenant  allow agent select {holds} }}"
        )
    };
    crm.apply(&rules("")).await;
    let plan = crm.plan(&rules("where id > 5")).await;
    assert_eq!(plan.steps.len(), 1, "{plan}");
    assert_eq!(plan.steps[0].access.as_ref().unwrap().effect, AccessEffect::Widens, "{plan}");
    assert!(plan.steps[0].summary.contains("public.customers"), "{plan}");
}

#[tokio::test]
async fn a_persona_acts_across_tenants_where_it_is_named_and_nowhere_else() {
    let mut crm = Crm::create().await;
    let rules = format!(
        "{RULES} table notes {{ tenant tenant_id = claim.tenant  allow agent select }}
         persona analyst {{ select on customers across tenants where region = 'north' }}"
    );
    crm.owner.batch_execute("CREATE TABLE notes (id int8, tenant_id uuid NOT NULL)").await.unwrap();
    crm.apply(&rules).await;
    assert!(crm.plan(&rules).await.is_empty());
    let document = Document::parse(&crm.text(&rules)).unwrap();
    let analyst = Session::new(&document, "analyst").unwrap();
    let mut client = crm.act_as(&analyst).await;
    assert_eq!(run(&mut client, &analyst, "SELECT id FROM customers ORDER BY id").await, Ok(vec![1, 4, 6]));
    assert_eq!(run(&mut client, &analyst, "SELECT id FROM notes").await, DENIED);
    assert_eq!(run(&mut client, &analyst, "DELETE FROM customers RETURNING id").await, DENIED);
    let mut manager = crm.act("manager").await;
    let ids = "SELECT id FROM customers ORDER BY id";
    assert_eq!(
        run(&mut manager, &crm.of("manager", T1, ANN), ids).await,
        Ok(vec![1, 2, 3]),
        "others keep the floor"
    );
}

#[tokio::test]
async fn a_session_on_a_connection_with_another_role_is_refused() {
    let mut crm = Crm::create().await;
    crm.apply(RULES).await;
    let mut manager = crm.act("manager").await;
    let error = crm.of("agent", T1, ANN).begin(&mut manager).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::WrongRole, "{error}");
    assert!(crm.of("manager", T1, ANN).begin(&mut manager).await.is_ok());
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

#[tokio::test]
async fn a_table_that_is_gone_is_named() {
    let mut crm = Crm::create().await;
    let policy = crm.policy(RULES).await;
    crm.owner.batch_execute("DROP TABLE countries").await.unwrap();
    let error = pg::plan(&mut crm.owner, &policy).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MissingTable);
    assert!(error.to_string().contains("public.countries"), "{error}");
}

/// Names that try to leave their quotes, through every statement that carries them.
#[tokio::test]
async fn odd_names_stay_names() {
    let mut crm = Crm::create().await;
    crm.owner
        .batch_execute(
            r#"CREATE SCHEMA "s"; DROP SCHEMA s; CREATE SCHEMA "x""; DROP TABLE customers; --";
               CREATE TABLE "x""; DROP TABLE customers; --"."T'able" ("Ten""ant" uuid NOT NULL, "select" text, "c""c" bytea)"#,
        )
        .await
        .unwrap();
    let rules = r#"
        role "A""; --" role b
        claim tenant: uuid
        table "x""; DROP TABLE customers; --"."T'able" {
          tenant "Ten""ant" = claim.tenant
          critical "c""c"
          allow "A""; --" select, insert, update, delete where "select" in ('it''s', '\', '"')
          deny b update where "select" = 'a\'' OR true --'
          allow b update
        }"#;
    crm.apply(rules).await;
    let again = crm.plan(rules).await;
    assert!(again.is_empty(), "{again}");
    let rows = crm.owner.query("SELECT count(*) FROM customers", &[]).await.unwrap();
    assert_eq!(rows[0].get::<_, i64>(0), 6, "the table that names tried to drop is there");
}
