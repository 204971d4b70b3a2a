//! What an applied policy shows and refuses.

use tokio_postgres::error::SqlState;
use zk_policy::pg::{self, ApplyConfig, ErrorKind};
use zk_policy::{Consent, Document, Session};

use super::{ANN, BOB, Crm, DENIED, RULES, T1, T2, run};

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
