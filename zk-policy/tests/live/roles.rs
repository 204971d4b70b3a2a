//! Roles around the policy: who is a member of whom, who owns what, and who still holds a role that the policy has left.

use zk_policy::pg::{self, ApplyConfig, ErrorKind};
use zk_policy::{Consent, Plan};

use super::{Crm, RULES};

/// One role that sees all, and one that sees masks.
pub(crate) const MASKED: &str = "
  role agent
  role auditor
  claim tenant: uuid
  table customers {
    tenant tenant_id = claim.tenant
    allow agent select
    allow auditor select
    mask region for auditor as null
  }";

/// Plans as the superuser, who may take away what others granted.
async fn plan_as_root(crm: &mut Crm, rules: &str) -> Plan {
    let policy = crm.policy(rules).await;
    pg::plan(&mut crm.database.connect().await.unwrap(), &policy).await.unwrap()
}

/// Removes all drift that a plan can remove, as the superuser; what is left stands in the plan that follows.
pub(crate) async fn remove_drift(crm: &mut Crm, rules: &str) -> Plan {
    let told = plan_as_root(crm, rules).await.removing_drift();
    let mut root = crm.database.connect().await.unwrap();
    let accepted = told.accept(Consent::NarrowingOnly).unwrap();
    pg::apply(&mut root, accepted, &ApplyConfig::default()).await.unwrap();
    let after = plan_as_root(crm, rules).await;
    assert!(after.is_empty(), "{after}");
    after
}

/// Nobody is to become a role behind masks. Where memberships have grantors, each is taken away from its own.
#[tokio::test]
async fn members_of_roles_behind_masks_are_drift_for_each_grantor() {
    let mut crm = Crm::create().await;
    crm.apply(MASKED).await;
    let p = crm.name.clone();
    let grants = format!("GRANT {p}_auditor_view TO {p}_svc; GRANT {p}_auditor TO {p}_agent");
    crm.database.execute(&format!("CREATE ROLE {p}_svc; CREATE ROLE {p}_deputy; {grants}")).await.unwrap();
    let grantors = if crm.database.cluster().server_version() < 16 {
        vec![String::new()]
    } else {
        crm.owner.batch_execute(&grants).await.unwrap();
        // Who may merely hand it on does not act as it.
        let handing =
            format!("GRANT {p}_auditor_view TO {p}_deputy WITH ADMIN TRUE, INHERIT FALSE, SET FALSE");
        crm.owner.batch_execute(&handing).await.unwrap();
        vec![format!(" GRANTED BY \"{p}_owner\""), " GRANTED BY \"postgres\"".to_owned()]
    };
    let plan = plan_as_root(&mut crm, MASKED).await;
    assert!(plan.is_empty(), "{plan}");
    let drift: Vec<String> = plan.drift.iter().map(ToString::to_string).collect();
    let member = |by: &String| {
        format!(
            "role {p}_agent is a member of {p}_auditor and so has its rights: REVOKE \"{p}_auditor\" FROM \"{p}_agent\"{by}"
        )
    };
    let behind = |by: &String| {
        format!(
            "{p}_svc is a member of {p}_auditor_view and so sees what masks hide: REVOKE \"{p}_auditor_view\" FROM \"{p}_svc\"{by}"
        )
    };
    let expected: Vec<String> = grantors.iter().map(member).chain(grantors.iter().map(behind)).collect();
    assert_eq!(drift, expected);
    assert!(remove_drift(&mut crm, MASKED).await.drift.is_empty());
}

/// What a member of a role behind masks passed on goes with its own membership.
#[tokio::test]
async fn memberships_that_were_handed_on_are_taken_back() {
    let mut crm = Crm::create().await;
    crm.apply(MASKED).await;
    let p = crm.name.clone();
    let script = format!(
        "CREATE ROLE {p}_one; CREATE ROLE {p}_two; GRANT {p}_auditor_view TO {p}_one WITH ADMIN OPTION;
         SET ROLE {p}_one; GRANT {p}_auditor_view TO {p}_two"
    );
    crm.database.execute(&script).await.unwrap();
    assert_eq!(plan_as_root(&mut crm, MASKED).await.drift.len(), 2);
    assert!(remove_drift(&mut crm, MASKED).await.drift.is_empty());
}

/// An owner can switch row-level security off: none of the policy's roles may be one.
#[tokio::test]
async fn tables_of_the_policys_own_roles_are_refused() {
    let mut crm = Crm::create().await;
    crm.apply(MASKED).await;
    let p = crm.name.clone();
    crm.owner.batch_execute("CREATE TABLE old_customers () INHERITS (customers)").await.unwrap();
    crm.apply(MASKED).await;
    let policy = crm.policy(MASKED).await;
    for (table, role) in [("customers", "agent"), ("old_customers", "auditor_view")] {
        let plan = crm.plan(&MASKED.replace("allow agent select", "allow agent select, insert")).await;
        crm.database.execute(&format!("ALTER TABLE {table} OWNER TO {p}_{role}")).await.unwrap();
        let error = pg::plan(&mut crm.owner, &policy).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OwnedByRole, "{error}");
        let remedy = format!("ALTER TABLE \"public\".\"{table}\" OWNER TO");
        assert!(
            error.to_string().contains(&format!("{p}_{role}")) && error.to_string().contains(&remedy),
            "{error}"
        );
        let accepted = plan.accept(Consent::Widening).unwrap();
        let mut root = crm.database.connect().await.unwrap();
        let error = pg::apply(&mut root, accepted, &ApplyConfig::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OwnedByRole, "{error}");
        crm.database.execute(&format!("ALTER TABLE {table} OWNER TO {p}_owner")).await.unwrap();
    }
}

/// Another owner between a plan and its application is a change.
#[tokio::test]
async fn another_owner_is_another_state() {
    let mut crm = Crm::create().await;
    let stale = crm.plan(RULES).await.accept(Consent::Widening).unwrap();
    let p = crm.name.clone();
    let script = format!("CREATE ROLE {p}_other; ALTER TABLE countries OWNER TO {p}_other");
    crm.database.execute(&script).await.unwrap();
    let mut root = crm.database.connect().await.unwrap();
    let error = pg::apply(&mut root, stale, &ApplyConfig::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
}

/// What is in a schema for masked views comes before the tables: it is nobody's but the policy's.
#[tokio::test]
async fn schemas_of_others_are_not_taken_over() {
    let mut crm = Crm::create().await;
    let p = crm.name.clone();
    let schema = format!("{p}_auditor");
    let script = format!("CREATE ROLE {p}_thief; CREATE SCHEMA {schema} AUTHORIZATION {p}_thief");
    crm.database.execute(&script).await.unwrap();
    let policy = crm.policy(MASKED).await;
    let error = pg::plan(&mut crm.owner, &policy).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignSchema, "{error}");
    assert!(error.to_string().contains(&format!("{p}_thief")), "{error}");
    let root = pg::plan(&mut crm.database.connect().await.unwrap(), &policy).await.unwrap_err();
    assert_eq!(root.kind(), ErrorKind::ForeignSchema, "to a superuser it is somebody else's too: {root}");

    crm.database.execute(&format!("ALTER SCHEMA {schema} OWNER TO {p}_owner")).await.unwrap();
    crm.apply(MASKED).await;
    let script = format!(
        "CREATE SCHEMA zk AUTHORIZATION {p}_owner; GRANT ALL ON SCHEMA {schema}, zk TO {p}_thief; GRANT CREATE ON SCHEMA zk TO PUBLIC;
         SET ROLE {p}_thief; CREATE TABLE {schema}.countries (code text);
         CREATE FUNCTION {schema}.lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1'"
    );
    crm.database.execute(&script).await.unwrap();
    let plan = crm.plan(MASKED).await;
    let drift: Vec<&str> = plan.drift.iter().map(|drift| drift.summary.as_str()).collect();
    let expected = [
        "PUBLIC may create objects in schema zk, which is the policy's own".to_owned(),
        format!("{p}_thief may create objects in schema {schema}, which is the policy's own"),
        format!("{p}_thief may create objects in schema zk, which is the policy's own"),
        format!(
            "function {schema}.lower(pg_catalog.text) is not ours, and sessions that look first into schema {schema} may take it for another"
        ),
        format!(
            "table {schema}.countries is not ours, and sessions that look first into schema {schema} may take it for another"
        ),
    ];
    assert_eq!(drift, expected);
    let left: Vec<String> =
        remove_drift(&mut crm, MASKED).await.drift.into_iter().map(|drift| drift.remedy).collect();
    assert_eq!(
        left,
        [format!("DROP FUNCTION {schema}.lower(pg_catalog.text)"), format!("DROP TABLE {schema}.countries")]
    );
    crm.database.execute(&left.join("; ")).await.unwrap();
    assert!(remove_drift(&mut crm, MASKED).await.drift.is_empty());
    crm.database.execute(&format!("ALTER SCHEMA {schema} OWNER TO {schema}")).await.unwrap();
    let error = pg::plan(&mut crm.owner, &policy).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::ForeignSchema,
        "the role that looks through the views is not trusted: {error}"
    );
}

/// Roles belong to the server. One that something else holds stays, and the rest of the plan is carried out.
#[tokio::test]
async fn a_role_that_another_database_holds_stays() {
    let mut crm = Crm::create().await;
    let p = crm.name.clone();
    let guests = RULES.replace(
        "allow agent select }",
        "allow agent select  allow guest select  allow host select  allow heir select }",
    );
    crm.apply(&format!("role guest role host role heir\n{guests}")).await;
    let other = crm.database.cluster().database().await.unwrap();
    other
        .execute(&format!("CREATE TABLE things (id int); GRANT SELECT ON things TO {p}_guest"))
        .await
        .unwrap();
    let script = format!(
        "CREATE FUNCTION kept() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION kept OWNER TO {p}_host"
    );
    crm.database.execute(&script).await.unwrap();
    crm.apply(RULES).await;

    let told = plan_as_root(&mut crm, RULES).await.removing_drift();
    let kept: Vec<String> = told.drift.iter().map(ToString::to_string).collect();
    let stays = |role: &str, because: &str| {
        format!(
            "role {p}_{role} is no longer in the policy, and stays because of {because}: plan and apply the policy in those \
             databases too, or look at what it has there and take it away: DROP OWNED BY \"{p}_{role}\""
        )
    };
    let expected =
        [stays("guest", &format!("database {}", other.name())), stays("host", "function public.kept()")];
    assert_eq!(kept, expected);
    assert_eq!(remove_drift(&mut crm, RULES).await.drift.len(), 2, "the third role is gone");
    other.execute("DROP TABLE things").await.unwrap();
    crm.database.execute("DROP FUNCTION kept").await.unwrap();
    assert!(remove_drift(&mut crm, RULES).await.drift.is_empty());
}
