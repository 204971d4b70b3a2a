//! What a plan says of a changed rule, of what somebody else did, and of what it leaves behind.

use zk_policy::pg::{self, ApplyConfig, ErrorKind};
use zk_policy::{AccessEffect, Consent, Document, check};

use super::{ANN, Crm, DENIED, RULES, T1, run};

#[tokio::test]
async fn plan_is_empty_after_apply() {
    let mut crm = Crm::create().await;
    assert!(!crm.apply(RULES).await.is_empty());
    let again = crm.plan(RULES).await;
    assert!(again.is_empty() && again.drift.is_empty(), "{again}");
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

#[tokio::test]
async fn a_table_that_is_gone_is_named() {
    let mut crm = Crm::create().await;
    let policy = crm.policy(RULES).await;
    crm.owner.batch_execute("DROP TABLE countries").await.unwrap();
    let error = pg::plan(&mut crm.owner, &policy).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MissingTable);
    assert!(error.to_string().contains("public.countries"), "{error}");
}
