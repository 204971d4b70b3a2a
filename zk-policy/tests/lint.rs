//! Every lint on a live database: the bad thing is made, exactly its finding is seen, its fix removes it.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use testkit::{Binaries, Cluster, ClusterConfig};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use zk_policy::pg::{self, ApplyConfig};
use zk_policy::{Consent, Document, Finding, Fix, LintCode, Plan, Policy, Schema, check};

const TABLES: &str = "
  CREATE TABLE customers (tenant_id uuid NOT NULL, id int8 GENERATED ALWAYS AS IDENTITY, owner_id uuid, name text,
    phone text, archived bool, PRIMARY KEY (tenant_id, id));
  CREATE TABLE invoices (tenant_id uuid NOT NULL, id int8 GENERATED ALWAYS AS IDENTITY, customer_id int8, cents int8,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT of_customer FOREIGN KEY (tenant_id, customer_id) REFERENCES customers (tenant_id, id));
  CREATE TABLE notes (tenant_id uuid NOT NULL, author uuid NOT NULL, body text, archived bool);
  CREATE INDEX notes_tenant ON notes (tenant_id);
  CREATE TABLE labels (org text NOT NULL, word text);
  CREATE INDEX ON labels (org);
  CREATE TABLE countries (code text PRIMARY KEY);";

const POLICY: &str = "
  policy crm
  role agent
  role manager
  claim tenant: uuid
  claim user: uuid
  claim org: text
  table customers {
    tenant tenant_id = claim.tenant
    allow agent select, update where owner_id = claim.user
    allow manager select, insert, delete
    columns agent select all except archived
    columns agent update only phone
    columns manager insert all except id
    mask name for agent as null
  }
  table invoices {
    tenant tenant_id = claim.tenant
    allow agent select, insert
    columns agent insert all except id
  }
  table notes { tenant tenant_id = claim.tenant  allow agent select, update  columns agent update only body, archived }
  table labels { tenant org = claim.org  allow agent select }
  table countries { shared  allow agent select }";

/// What is done to a database that the policy was applied to, and where the one finding about it is seen.
#[derive(Clone, Copy)]
struct Case {
    code: LintCode,
    /// Before applying: what a policy in force would not let anybody do.
    before: &'static str,
    after: &'static str,
    object: &'static str,
    /// The first server version that has it, and the last.
    servers: (u16, u16),
}

const fn case(code: LintCode, after: &'static str, object: &'static str) -> Case {
    Case { code, before: "", after, object, servers: (15, 18) }
}

const fn before(code: LintCode, before: &'static str, object: &'static str) -> Case {
    Case { code, before, after: "", object, servers: (15, 18) }
}

const fn on(first: u16, last: u16, case: Case) -> Case {
    Case { servers: (first, last), ..case }
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    case(LintCode::RowSecurityOff, "ALTER TABLE notes DISABLE ROW LEVEL SECURITY", "table public.notes"),
    case(LintCode::RowSecurityOff, "ALTER TABLE notes DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY", "table public.notes"),
    case(LintCode::NotForced, "ALTER TABLE notes NO FORCE ROW LEVEL SECURITY", "table public.notes"),
    case(LintCode::ForeignPermissive, "CREATE POLICY guests ON notes FOR SELECT TO PUBLIC USING (true)", "policy guests on public.notes"),
    case(LintCode::RestrictiveOnly, "DROP POLICY zk_crm_agent_select ON labels", "table public.labels"),
    case(LintCode::VolatilePolicy,
        "CREATE FUNCTION open_now() RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN true; END';
         CREATE POLICY hours ON notes AS RESTRICTIVE USING (open_now())", "policy hours on public.notes"),
    case(LintCode::VolatilePolicy, "CREATE POLICY luck ON notes AS RESTRICTIVE USING (random() < 0.5)", "policy luck on public.notes"),
    case(LintCode::CastOnTenant, "CREATE POLICY odd ON notes AS RESTRICTIVE USING (tenant_id::text <> '')", "policy odd on public.notes"),
    case(LintCode::CastOnTenant, "CREATE POLICY odd ON labels AS RESTRICTIVE USING (lower(org) <> '')", "policy odd on public.labels"),
    case(LintCode::SubqueryOnly,
        "CREATE TABLE vips (author uuid);
         CREATE POLICY vip ON notes AS RESTRICTIVE USING (EXISTS (SELECT FROM vips v WHERE v.author = notes.author))",
        "policy vip on public.notes"),
    case(LintCode::SubqueryOnly,
        "CREATE TABLE vips (author uuid);
         CREATE POLICY vip ON notes AS RESTRICTIVE USING (author IN (SELECT v.author FROM vips v))", "policy vip on public.notes"),
    case(LintCode::RoleBranch,
        "CREATE POLICY branch ON notes AS RESTRICTIVE USING (pg_has_role('crm_manager', 'USAGE') OR body IS NOT NULL)",
        "policy branch on public.notes"),
    case(LintCode::BareSetting,
        "CREATE POLICY bare ON notes AS RESTRICTIVE USING (body <> (SELECT current_setting('app.word', true)))",
        "policy bare on public.notes"),
    case(LintCode::SelfReference,
        "CREATE POLICY again ON notes AS RESTRICTIVE USING (body <> '' OR EXISTS (SELECT FROM notes n WHERE n.body = 'x'))",
        "policy again on public.notes"),
    case(LintCode::WritableLookup,
        "CREATE TABLE members (author uuid); GRANT INSERT, DELETE ON members TO crm_agent;
         CREATE POLICY membership ON notes AS RESTRICTIVE USING (body <> '' OR EXISTS (SELECT FROM members))",
        "table public.members"),
    case(LintCode::SoftDelete,
        "CREATE POLICY live ON notes AS RESTRICTIVE FOR SELECT TO crm_agent USING (NOT archived)", "column public.notes.archived"),
    case(LintCode::SoftDelete,
        "CREATE POLICY live ON notes AS RESTRICTIVE FOR SELECT USING (body <> '' AND archived IS NULL)",
        "column public.notes.archived"),
    case(LintCode::SoftDelete, "CREATE POLICY live ON notes AS RESTRICTIVE FOR SELECT TO crm_agent USING (archived)", "column public.notes.archived"),
    case(LintCode::SoftDelete, "CREATE POLICY live ON notes AS RESTRICTIVE FOR SELECT USING (body <> '' AND archived)", "column public.notes.archived"),
    // What the rule for update asks of another table is not about the row.
    case(LintCode::SoftDelete,
        "CREATE TABLE vips (a int, b int, gone timestamptz, author uuid);
         CREATE POLICY live ON notes AS RESTRICTIVE FOR SELECT TO crm_agent USING (NOT archived);
         CREATE POLICY busy ON notes AS RESTRICTIVE FOR UPDATE TO crm_agent
           USING (body <> '' OR author IN (SELECT v.author FROM vips v WHERE v.author IS NOT NULL))",
        "column public.notes.archived"),

    case(LintCode::ServiceBypasses, "CREATE ROLE a1 LOGIN NOINHERIT BYPASSRLS; GRANT crm_agent TO a1", "role a1"),
    case(LintCode::ServiceBypasses, "CREATE ROLE a2 LOGIN NOINHERIT SUPERUSER; GRANT crm_agent TO a2", "role a2"),
    case(LintCode::ServiceBypasses, "CREATE ROLE a3 LOGIN NOINHERIT; GRANT crm_agent, crm_owner TO a3", "role a3"),
    case(LintCode::ServiceBypasses, "CREATE ROLE a4 LOGIN NOINHERIT; GRANT crm_agent, pg_read_all_data TO a4", "role a4"),
    case(LintCode::ServiceBypasses, "CREATE ROLE a5 LOGIN NOINHERIT; GRANT crm_agent, pg_read_server_files TO a5", "role a5"),
    case(LintCode::ServiceBypasses,
        "CREATE ROLE far BYPASSRLS; CREATE ROLE near; CREATE ROLE a6 LOGIN NOINHERIT;
         GRANT far TO near; GRANT near, crm_agent TO a6", "role a6"),
    case(LintCode::ServiceBypasses, "GRANT crm_manager TO crm_agent", "role crm_agent"),
    case(LintCode::ServiceBypasses, "CREATE ROLE a9 LOGIN NOINHERIT; GRANT crm_agent_view TO a9", "role a9"),
    on(15, 15, case(LintCode::ServiceBypasses, "CREATE ROLE a7 LOGIN NOINHERIT CREATEROLE; GRANT crm_agent TO a7", "role a7")),
    on(16, 18, case(LintCode::ServiceBypasses,
        "CREATE ROLE a8 LOGIN NOINHERIT; GRANT crm_agent TO a8; GRANT crm_owner TO a8 WITH ADMIN TRUE, SET FALSE, INHERIT FALSE", "role a8")),
    case(LintCode::LoginBypasses, "CREATE ROLE b1 LOGIN BYPASSRLS", "role b1"),
    case(LintCode::LoginBypasses, "CREATE ROLE b2 LOGIN; GRANT crm_owner TO b2", "role b2"),
    case(LintCode::ServiceInherits, "CREATE ROLE c1 LOGIN INHERIT; GRANT crm_agent TO c1", "role c1"),

    case(LintCode::PublicGrant, "GRANT SELECT ON notes TO PUBLIC", "table public.notes"),
    case(LintCode::PublicGrant, "GRANT SELECT (body), UPDATE (body) ON notes TO PUBLIC", "table public.notes"),
    case(LintCode::ForeignGrant, "CREATE ROLE reports; GRANT SELECT ON notes TO reports", "table public.notes"),
    case(LintCode::BeyondRows, "GRANT TRUNCATE, TRIGGER ON notes TO crm_agent", "table public.notes"),
    case(LintCode::BeyondRows, "GRANT REFERENCES (body) ON notes TO PUBLIC", "table public.notes"),
    on(17, 18, case(LintCode::BeyondRows, "GRANT MAINTAIN ON notes TO crm_agent", "table public.notes")),
    case(LintCode::TableGrant, "GRANT SELECT ON customers TO crm_agent", "table public.customers"),
    case(LintCode::TableGrant, "GRANT INSERT ON notes TO crm_manager", "table public.notes"),
    case(LintCode::DefaultPrivilege,
        "ALTER DEFAULT PRIVILEGES FOR ROLE crm_owner IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC",
        "default privileges of crm_owner"),
    case(LintCode::DefaultPrivilege, "ALTER DEFAULT PRIVILEGES FOR ROLE crm_owner GRANT INSERT ON TABLES TO crm_agent",
        "default privileges of crm_owner"),
    case(LintCode::GrantOption, "GRANT SELECT (body) ON notes TO crm_agent WITH GRANT OPTION", "table public.notes"),
    case(LintCode::SchemaCreate, "GRANT CREATE ON SCHEMA public TO PUBLIC", "schema public"),
    case(LintCode::SchemaCreate, "CREATE ROLE d0; GRANT CREATE ON SCHEMA crm_agent TO d0", "schema crm_agent"),
    case(LintCode::SequenceGrant, "GRANT SELECT, UPDATE ON SEQUENCE invoices_id_seq TO crm_agent", "sequence public.invoices_id_seq"),
    case(LintCode::MaskKeyOpen,
        "DROP SCHEMA IF EXISTS zk CASCADE; CREATE SCHEMA zk; CREATE TABLE zk.mask_keys (policy text, inner_pad bytea);
         GRANT SELECT ON zk.mask_keys TO PUBLIC", "table zk.mask_keys"),
    case(LintCode::MaskKeyOpen,
        "DROP SCHEMA IF EXISTS zk CASCADE; CREATE SCHEMA zk; CREATE TABLE zk.mask_keys (policy text, inner_pad bytea);
         CREATE ROLE curious_view; GRANT SELECT (inner_pad) ON zk.mask_keys TO curious_view", "table zk.mask_keys"),

    case(LintCode::MaskKeyOpen,
        "DROP SCHEMA IF EXISTS zk CASCADE; CREATE SCHEMA zk; CREATE TABLE zk.claim_keys (id text, inner_pad bytea);
         GRANT SELECT (inner_pad) ON zk.claim_keys TO PUBLIC", "table zk.claim_keys"),

    before(LintCode::ComputedFromHidden, "ALTER TABLE customers ADD shout text GENERATED ALWAYS AS (upper(name)) STORED",
        "column public.customers.shout"),
    before(LintCode::ComputedFromHidden,
        "ALTER TABLE customers ADD known bool GENERATED ALWAYS AS (coalesce(archived, phone IS NULL)) STORED", "column public.customers.known"),

    case(LintCode::ViewBypasses, "CREATE VIEW totals AS SELECT count(*) FROM customers", "view public.totals"),
    case(LintCode::ViewBypasses,
        "CREATE VIEW inner_view WITH (security_invoker) AS SELECT id FROM customers; CREATE VIEW outer_view AS SELECT * FROM inner_view",
        "view public.outer_view"),
    case(LintCode::ViewOwnerRights,
        "CREATE VIEW totals AS SELECT count(*) FROM customers; ALTER VIEW totals OWNER TO crm_owner", "view public.totals"),
    case(LintCode::MaterialisedView,
        "CREATE MATERIALIZED VIEW copy AS SELECT * FROM customers; GRANT SELECT ON copy TO crm_agent", "materialised view public.copy"),
    case(LintCode::MaterialisedView,
        "CREATE MATERIALIZED VIEW copy AS SELECT * FROM customers; GRANT SELECT (name) ON copy TO PUBLIC", "materialised view public.copy"),
    case(LintCode::UncoveredChild, "CREATE TABLE notes_old () INHERITS (notes)", "table public.notes_old"),
    Case {
        before: "DROP TABLE notes;
                 CREATE TABLE notes (tenant_id uuid NOT NULL, author uuid NOT NULL, body text, archived bool) PARTITION BY LIST (archived);
                 CREATE INDEX ON notes (tenant_id); CREATE TABLE notes_old PARTITION OF notes FOR VALUES IN (true)",
        ..case(LintCode::UncoveredChild, "CREATE TABLE notes_rest PARTITION OF notes DEFAULT", "table public.notes_rest")
    },
    case(LintCode::UncoveredParent, "CREATE TABLE texts (body text); ALTER TABLE notes INHERIT texts", "table public.texts"),
    case(LintCode::DefinerBypasses,
        "CREATE FUNCTION peek() RETURNS int8 LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
           AS 'SELECT count(*) FROM public.notes';
         REVOKE EXECUTE ON FUNCTION peek FROM PUBLIC; GRANT EXECUTE ON FUNCTION peek TO crm_agent", "function public.peek()"),
    case(LintCode::DefinerSearchPath,
        "CREATE PROCEDURE tidy(int) LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN END'; ALTER PROCEDURE tidy OWNER TO crm_owner;
         REVOKE EXECUTE ON PROCEDURE tidy FROM PUBLIC", "procedure public.tidy(integer)"),
    case(LintCode::DefinerPublic,
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT 1';
         ALTER FUNCTION one OWNER TO crm_owner", "function public.one()"),
    case(LintCode::FalseLeakproof, "CREATE FUNCTION seen(text) RETURNS bool LANGUAGE sql LEAKPROOF AS 'SELECT true'", "function public.seen(text)"),

    case(LintCode::UniqueAcrossTenants, "CREATE UNIQUE INDEX one_phone ON customers (phone) WHERE archived", "key one_phone on public.customers"),
    case(LintCode::UniqueAcrossTenants, "ALTER TABLE customers ADD CONSTRAINT one_phone UNIQUE (phone)", "key one_phone on public.customers"),
    case(LintCode::UniqueAcrossTenants,
        "ALTER TABLE customers ADD CONSTRAINT one_phone UNIQUE (phone); CREATE TABLE calls (phone text REFERENCES customers (phone))",
        "key one_phone on public.customers"),
    case(LintCode::ExclusionAcrossTenants,
        "ALTER TABLE customers ADD CONSTRAINT one_phone EXCLUDE USING btree (phone WITH =)", "key one_phone on public.customers"),
    case(LintCode::ReferenceAcrossTenants,
        "ALTER TABLE customers ADD UNIQUE (id);
         ALTER TABLE invoices DROP CONSTRAINT of_customer,
           ADD CONSTRAINT of_customer FOREIGN KEY (customer_id) REFERENCES customers (id) ON DELETE SET NULL",
        "foreign key of_customer on public.invoices"),
    case(LintCode::ReferenceAcrossTenants,
        "ALTER TABLE customers ADD UNIQUE (id);
         CREATE TABLE calls (customer int8 CONSTRAINT caller REFERENCES customers (id)); GRANT INSERT ON calls TO crm_agent",
        "foreign key caller on public.calls"),
    case(LintCode::CascadeBypasses,
        "ALTER TABLE invoices DROP CONSTRAINT of_customer, ADD CONSTRAINT of_customer
           FOREIGN KEY (tenant_id, customer_id) REFERENCES customers (tenant_id, id) ON DELETE CASCADE",
        "foreign key of_customer on public.invoices"),
    case(LintCode::TriggerWritesTenant,
        "CREATE FUNCTION adopt() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.tenant_id := NEW.author; RETURN NEW; END';
         CREATE TRIGGER adopt BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION adopt()", "trigger adopt on public.notes"),
    case(LintCode::TriggerWritesTenant,
        "CREATE FUNCTION adopt() RETURNS trigger LANGUAGE plpgsql
           AS 'BEGIN SELECT author INTO NEW.tenant_id FROM notes LIMIT 1; RETURN NEW; END';
         CREATE TRIGGER adopt BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION adopt()", "trigger adopt on public.notes"),
    case(LintCode::RewriteRule, "CREATE RULE also AS ON DELETE TO notes DO ALSO NOTIFY gone", "rule also on public.notes"),
    before(LintCode::GeneratedTenant,
        "ALTER TABLE notes DROP COLUMN tenant_id;
         ALTER TABLE notes ADD COLUMN tenant_id uuid NOT NULL GENERATED ALWAYS AS (author) STORED;
         CREATE INDEX ON notes (tenant_id)", "column public.notes.tenant_id"),
    case(LintCode::NullableTenant, "ALTER TABLE notes ALTER COLUMN tenant_id DROP NOT NULL", "column public.notes.tenant_id"),
    case(LintCode::TenantUnindexed, "DROP INDEX notes_tenant", "column public.notes.tenant_id"),
    case(LintCode::TenantUnindexed, "DROP INDEX notes_tenant; CREATE INDEX ON notes (tenant_id) WHERE archived",
        "column public.notes.tenant_id"),
    case(LintCode::TenantCollation,
        "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         DROP POLICY zk_crm_floor ON labels; ALTER TABLE labels ALTER COLUMN org TYPE text COLLATE blind;
         CREATE POLICY zk_crm_floor ON labels AS RESTRICTIVE USING (org = (SELECT nullif(current_setting('zk.org', true), '')))",
        "column public.labels.org"),

    case(LintCode::LeakyOperator, "ALTER TABLE notes ADD amount numeric; CREATE INDEX i ON notes (amount)", "index i on public.notes, amount"),
    case(LintCode::LeakyOperator, "ALTER TABLE notes ADD amount numeric; CREATE INDEX i ON notes (tenant_id, amount)", "index i on public.notes, amount"),
    case(LintCode::LeakyOperator,
        "CREATE TYPE mood AS ENUM ('good', 'bad'); ALTER TABLE notes ADD mood mood; CREATE INDEX i ON notes (mood)", "index i on public.notes, mood"),
    case(LintCode::LeakyOperator, "ALTER TABLE notes ADD tags text[]; CREATE INDEX i ON notes USING gin (tags)", "index i on public.notes, tags"),
    case(LintCode::LeakyOperator, "ALTER TABLE notes ADD data jsonb; CREATE INDEX i ON notes USING gin (data)", "index i on public.notes, data"),
    case(LintCode::LeakyOperator, "CREATE INDEX i ON notes USING gin (to_tsvector('simple', body))", "index i on public.notes, to_tsvector"),
    case(LintCode::LeakyExpression, "CREATE INDEX i ON notes (lower(body))", "index i on public.notes, lower(body)"),
    case(LintCode::PatternIndex, "CREATE INDEX i ON notes (body text_pattern_ops)", "index i on public.notes, body"),
    case(LintCode::CrossTypeOperator, "ALTER TABLE notes ADD at timestamptz; CREATE INDEX ON notes (at)", "column public.notes.at"),
    case(LintCode::CrossTypeOperator, "ALTER TABLE notes ADD at date; CREATE INDEX ON notes (at)", "column public.notes.at"),

    case(LintCode::ClaimPreset, r#"ALTER ROLE crm_agent SET "ZK".tenant = 'x'"#, "role crm_agent"),
    case(LintCode::ClaimPreset, "ALTER ROLE crm_agent SET zk.tenant = 'x'", "role crm_agent"),
    case(LintCode::ClaimPreset, r#"ALTER ROLE ALL SET zk."user" = 'x'"#, "all roles"),
];

/// What looks like one of those and is none.
#[rustfmt::skip]
const HARMLESS: &[(u16, &str)] = &[
    (15, "CREATE ROLE d1 LOGIN NOINHERIT; GRANT crm_agent, crm_manager TO d1"),
    (15, "CREATE ROLE d2 BYPASSRLS"),
    (16, "CREATE ROLE d3 LOGIN NOINHERIT; GRANT crm_agent TO d3; GRANT crm_owner TO d3 WITH SET FALSE, INHERIT FALSE"),
    (16, "CREATE ROLE d4 LOGIN; GRANT crm_agent TO d4 WITH ADMIN TRUE, SET FALSE, INHERIT FALSE"),
    (15, "CREATE VIEW mine WITH (security_invoker = true) AS SELECT id FROM customers"),
    (15, "CREATE MATERIALIZED VIEW copy AS SELECT * FROM customers"),
    (15, "CREATE POLICY hours ON notes AS RESTRICTIVE USING (body <> (SELECT nullif(current_setting('app.word', true), '')))"),
    (15, "CREATE TABLE notes_old () INHERITS (notes); ALTER TABLE notes_old ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"),
    (15, "CREATE POLICY odd ON invoices AS RESTRICTIVE FOR SELECT TO crm_agent USING ((customer_id > 0) = true)"),
    (15, "CREATE TABLE vips (a int, b int, gone timestamptz, live bool, author uuid);
          CREATE POLICY vip ON notes AS RESTRICTIVE FOR SELECT TO crm_agent
            USING (body <> '' OR author IN (SELECT v.author FROM vips v WHERE v.gone IS NULL AND v.live))"),
    (15, "ALTER TABLE customers ADD UNIQUE (id)"),
    (15, "ALTER TABLE customers ADD UNIQUE (phone, tenant_id)"),
    (15, "CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN IF NEW.tenant_id <> NEW.author THEN RAISE EXCEPTION ''no''; END IF; RETURN NEW; END';
          CREATE TRIGGER guard BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION guard()"),
    (15, "CREATE INDEX ON notes (body); CREATE INDEX ON notes (author, archived)"),
];

/// A database with the policy applied, made anew for each case in the same place: creating databases takes longer.
struct Crm {
    cluster: Cluster,
    client: Client,
    policy: Policy,
}

impl Crm {
    async fn on(binaries: Binaries) -> Self {
        let cluster =
            Cluster::start(ClusterConfig { binaries: Some(binaries), ..ClusterConfig::default() }).unwrap();
        let client = cluster.database().await.unwrap().connect().await.unwrap();
        client.batch_execute("CREATE ROLE crm_owner").await.unwrap();
        let policy = check(&Document::parse("policy crm").unwrap(), &Schema::default()).unwrap();
        Self { cluster, client, policy }
    }

    async fn reset(&mut self, before: &str) {
        let reset = format!(
            "DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION crm_owner; GRANT USAGE ON SCHEMA public TO PUBLIC;
             {TABLES} {before};
             ALTER TABLE customers OWNER TO crm_owner; ALTER TABLE invoices OWNER TO crm_owner; ALTER TABLE notes OWNER TO crm_owner;
             ALTER TABLE labels OWNER TO crm_owner; ALTER TABLE countries OWNER TO crm_owner"
        );
        self.client.batch_execute(&reset).await.unwrap();
        let schema = pg::read_schema(&mut self.client).await.unwrap();
        self.policy = check(&Document::parse(POLICY).unwrap(), &schema).unwrap();
        let plan = self.plan().await.accept(Consent::Widening).unwrap();
        pg::apply(&mut self.client, plan, &ApplyConfig::default()).await.unwrap();
    }

    async fn plan(&mut self) -> Plan {
        pg::plan(&mut self.client, &self.policy).await.unwrap()
    }

    async fn lint(&mut self) -> Vec<Finding> {
        pg::lint(&mut self.client, &self.policy).await.unwrap()
    }
}

fn print(findings: &[Finding]) -> String {
    findings.iter().map(|f| format!("{f}\n")).collect()
}

/// Does the same on every version that is installed, on all at once.
async fn on_every_version<F: Future<Output = ()> + Send + 'static>(test: impl Fn(Binaries) -> F) {
    let mut tests = JoinSet::new();
    for binaries in Binaries::find_all().unwrap() {
        tests.spawn(test(binaries));
    }
    tests.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_thing_has_its_finding_and_its_fix() {
    on_every_version(|binaries| async {
        let version = binaries.major();
        let mut crm = Crm::on(binaries).await;
        for case in CASES.iter().filter(|c| (c.servers.0..=c.servers.1).contains(&version)) {
            crm.reset(case.before).await;
            crm.client.batch_execute(case.after).await.unwrap_or_else(|e| panic!("{}: {e:?}", case.after));
            let found = crm.lint().await;
            let [finding] = found.as_slice() else {
                panic!("{version}: {}{}\n{}", case.before, case.after, print(&found))
            };
            assert_eq!((finding.code, finding.severity), (case.code, case.code.severity()), "{finding}");
            assert!(finding.object.starts_with(case.object), "{finding}");
            let Fix::Sql(fix) = &finding.fix else { continue };
            crm.client.batch_execute(fix).await.unwrap_or_else(|e| panic!("{finding}\n{e:?}"));
            let found = crm.lint().await;
            assert!(found.is_empty(), "{version}: after {fix}\n{}", print(&found));
            let plan = crm.plan().await;
            assert!(plan.is_empty(), "{finding}\n{plan}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_database_has_no_finding() {
    on_every_version(|binaries| async {
        let mut crm = Crm::on(binaries).await;
        let version = crm.cluster.server_version();
        for (_, harmless) in [(15, "")].iter().chain(HARMLESS).filter(|(first, _)| *first <= version) {
            crm.reset("").await;
            crm.client.batch_execute(harmless).await.unwrap();
            let found = crm.lint().await;
            assert!(found.is_empty(), "{version}: {harmless}\n{}", print(&found));
        }
    })
    .await;
}

#[tokio::test]
async fn the_function_that_verifies_claims_is_no_finding_until_somebody_changes_it() {
    let mut crm = Crm::on(Binaries::find().unwrap()).await;
    crm.reset("").await;
    pg::install_signing(&crm.client).await.unwrap();
    let found = crm.lint().await;
    assert!(found.is_empty(), "{}", print(&found));
    let changed = "CREATE OR REPLACE FUNCTION zk.claim(claim_name text) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
                   SET search_path = pg_catalog, pg_temp AS $$ SELECT current_setting('zk.' || claim_name, true) $$";
    crm.client.batch_execute(changed).await.unwrap();
    let codes: Vec<LintCode> = crm.lint().await.iter().map(|f| f.code).collect();
    assert_eq!(codes, [LintCode::DefinerBypasses, LintCode::DefinerPublic]);
}

#[test]
fn every_lint_has_a_case() {
    let covered: BTreeSet<LintCode> = CASES.iter().map(|c| c.code).collect();
    for code in LintCode::ALL {
        // Versions with holes are not packaged any more: that one is tested without a server.
        assert!(covered.contains(code) || *code == LintCode::ServerVulnerable, "{code}");
    }
}

#[tokio::test]
async fn findings_read_well_as_text_and_as_json() {
    let mut crm = Crm::on(Binaries::find().unwrap()).await;
    crm.reset("").await;
    crm.client.batch_execute("GRANT SELECT ON notes TO PUBLIC").await.unwrap();
    let found = crm.lint().await;
    insta::assert_snapshot!(print(&found).trim_end(), @r#"
    error[L301] table public.notes: everybody holds a privilege on a table
      every role of the server holds SELECT
      fix: REVOKE SELECT ON "public"."notes" FROM PUBLIC;
    "#);
    let expected = serde_json::json!([{
        "code": "L301", "severity": "error", "object": "table public.notes",
        "reason": "every role of the server holds SELECT",
        "fix": { "sql": "REVOKE SELECT ON \"public\".\"notes\" FROM PUBLIC;" },
    }]);
    assert_eq!(serde_json::to_value(&found).unwrap(), expected);
}

#[test]
fn the_manual_lists_every_lint() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/lint.md");
    let manual = fs::read_to_string(manual).unwrap();
    for code in LintCode::ALL {
        let row = format!("| {code} | {} | {} |", code.severity(), code.title());
        assert!(manual.contains(&row), "docs/src/lint.md lacks a row that starts with {row}");
    }
}
