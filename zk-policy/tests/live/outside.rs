//! Ways around the policy's tables that are no part of them: functions and views with greater rights, tables above.

use zk_policy::LintCode;
use zk_policy::pg;

use super::roles::{MASKED, remove_drift};
use super::{Crm, RULES};

async fn drift(crm: &mut Crm, rules: &str) -> Vec<String> {
    let plan = crm.plan(rules).await;
    assert!(plan.is_empty(), "{plan}");
    plan.drift.iter().map(|drift| drift.summary.clone()).collect()
}

/// A function with the rights of somebody to whom the policy gives rows, or who can switch it off, is a way around it.
#[tokio::test]
async fn functions_of_those_with_rights_are_drift_and_findings() {
    let mut crm = Crm::create().await;
    crm.apply(MASKED).await;
    let p = crm.name.clone();
    let function = |name: &str, owner: &str, body: &str| {
        format!(
            "CREATE FUNCTION {name}() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
               AS $$ {body} $$;
             REVOKE EXECUTE ON FUNCTION {name}() FROM PUBLIC; GRANT EXECUTE ON FUNCTION {name}() TO {p}_asks;
             ALTER FUNCTION {name}() OWNER TO {owner};"
        )
    };
    let body = "SELECT count(region) FROM public.customers";
    let mut script = format!(
        "CREATE ROLE {p}_asks; CREATE ROLE {p}_member; GRANT {p}_agent TO {p}_member; CREATE ROLE {p}_deputy;
         GRANT {p}_owner TO {p}_deputy; CREATE ROLE {p}_nobody; CREATE ROLE {p}_enters NOINHERIT; GRANT {p}_agent TO {p}_enters;"
    );
    for (name, owner) in [
        ("unmask", "auditor_view"),
        ("as_agent", "agent"),
        ("as_member", "member"),
        ("as_owner", "owner"),
        ("as_deputy", "deputy"),
        ("as_nobody", "nobody"),
        ("as_enters", "enters"),
    ] {
        script.push_str(&function(name, &format!("{p}_{owner}"), body));
    }
    script.push_str(&function("apart", &format!("{p}_agent"), "SELECT 1 /* customers_old */"));
    crm.database.execute(&script).await.unwrap();
    let expected = [
        format!(
            "{p}_asks may call public.as_agent(), which names public.customers and runs as {p}_agent, a role of the policy"
        ),
        format!(
            "{p}_asks may call public.as_deputy(), which names public.customers and runs as {p}_deputy, who has the rights of {p}_owner, an owner of the policy's tables"
        ),
        format!(
            "{p}_asks may call public.as_member(), which names public.customers and runs as {p}_member, who has the rights of {p}_agent, a role of the policy"
        ),
        format!(
            "{p}_asks may call public.as_owner(), which names public.customers and runs as {p}_owner, an owner of the policy's tables"
        ),
        format!(
            "{p}_asks may call public.unmask(), which names public.customers and runs as {p}_auditor_view, a role of the policy"
        ),
    ];
    assert_eq!(drift(&mut crm, MASKED).await, expected);

    let policy = crm.policy(MASKED).await;
    let found = pg::lint(&mut crm.owner, &policy).await.unwrap();
    let found: Vec<&str> =
        found.iter().filter(|f| f.code == LintCode::DefinerBypasses).map(|f| f.object.as_str()).collect();
    let functions = ["as_agent", "as_deputy", "as_member", "as_owner", "unmask"];
    assert_eq!(found, functions.map(|name| format!("function public.{name}()")));
    assert!(remove_drift(&mut crm, MASKED).await.drift.is_empty());
}

/// A view shows what the one below it shows, with the rights of the lowest that does not ask with its reader's.
#[tokio::test]
async fn views_over_views_are_drift() {
    let mut crm = Crm::create().await;
    crm.apply(MASKED).await;
    let p = crm.name.clone();
    let script = format!(
        "CREATE ROLE {p}_nobody; CREATE ROLE {p}_inherits; GRANT {p}_agent TO {p}_inherits;
         CREATE VIEW low WITH (security_invoker) AS SELECT id FROM customers;
         CREATE VIEW middle AS SELECT id FROM low; CREATE VIEW high AS SELECT id FROM middle; ALTER VIEW high OWNER TO {p}_nobody;
         GRANT SELECT ON low, high TO PUBLIC;
         CREATE VIEW asked WITH (security_invoker) AS SELECT id FROM middle; GRANT SELECT ON asked TO PUBLIC;
         CREATE VIEW bound AS SELECT id FROM customers; ALTER VIEW bound OWNER TO {p}_nobody;
         CREATE VIEW above_bound AS SELECT id FROM bound; GRANT SELECT ON above_bound TO PUBLIC;
         CREATE VIEW lent AS SELECT id FROM customers; ALTER VIEW lent OWNER TO {p}_inherits; GRANT SELECT (id) ON lent TO PUBLIC;
         CREATE VIEW unmasking AS SELECT id FROM {p}_auditor.customers; GRANT SELECT ON unmasking TO PUBLIC;
         CREATE MATERIALIZED VIEW copy AS SELECT id FROM low; CREATE VIEW copied AS SELECT id FROM copy; GRANT SELECT ON copied TO PUBLIC"
    );
    crm.database.execute(&script).await.unwrap();
    let expected = [
        "PUBLIC sees a copy of public.customers without its rules in view public.copied".to_owned(),
        "PUBLIC sees public.customers through view public.high with the rights of postgres, past its rules"
            .to_owned(),
        format!(
            "PUBLIC sees public.customers through view public.lent with the rights of {p}_inherits, past its rules"
        ),
        format!(
            "PUBLIC sees public.customers through view public.unmasking with the rights of {p}_auditor_view, past its rules"
        ),
    ];
    assert_eq!(drift(&mut crm, MASKED).await, expected);
    assert!(remove_drift(&mut crm, MASKED).await.drift.is_empty());
}

/// Asked through a table above, rows show under the rules of that table.
#[tokio::test]
async fn tables_above_that_are_open_are_drift() {
    let mut crm = Crm::create().await;
    let p = crm.name.clone();
    crm.owner
        .batch_execute(
            "CREATE TABLE things (id int8); CREATE TABLE persons () INHERITS (things); ALTER TABLE customers INHERIT persons;
             CREATE TABLE closed (phone text); ALTER TABLE customers INHERIT closed;
             ALTER TABLE closed ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; GRANT SELECT ON closed TO PUBLIC",
        )
        .await
        .unwrap();
    crm.apply(RULES).await;
    assert_eq!(drift(&mut crm, RULES).await, [""; 0], "nobody may ask them");
    let script = format!(
        "CREATE ROLE {p}_reports; GRANT SELECT ON things TO PUBLIC; GRANT SELECT (id) ON persons TO {p}_reports;
         CREATE POLICY opened ON closed USING (true)"
    );
    crm.database.execute(&script).await.unwrap();
    let expected = [
        "PUBLIC may use public.closed, a table above public.customers, whose rules do not hold when it is asked".to_owned(),
        "PUBLIC may use public.things, a table above public.customers, whose rules do not hold when it is asked".to_owned(),
        format!("{p}_reports may use public.persons, a table above public.customers, whose rules do not hold when it is asked"),
    ];
    assert_eq!(drift(&mut crm, RULES).await, expected);
    assert!(remove_drift(&mut crm, RULES).await.drift.is_empty());
    // What a role of the policy holds there is the plan's to take.
    crm.owner.batch_execute(&format!("GRANT SELECT ON persons TO {p}_agent")).await.unwrap();
    assert!(!crm.apply(RULES).await.is_empty());
    assert_eq!(drift(&mut crm, RULES).await, [""; 0]);
}
