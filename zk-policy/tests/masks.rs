//! Masks on a real server: what a role sees, filters and joins by is the mask, and in process it is the same.
#![cfg(feature = "postgres")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

use testkit::Database;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use zk_policy::pg::{self, ApplyConfig, ErrorKind};
use zk_policy::{Consent, Document, LintCode, Mask, MaskKey, Plan, Policy, Session, Value, check};

const RULES: &str = "
  role clerk
  role auditor
  role chief includes auditor, clerk
  role trainee includes auditor
  claim tenant: int8
  table people {
    tenant tenant = claim.tenant
    allow clerk select, update
    allow auditor select where not secret
    columns clerk update only email
    mask email for auditor as partial(1, '*''\\*', 4)
    mask phone for auditor as 'none'
    mask born for auditor as null
    mask score for auditor as 0
    mask photo for auditor as null
    mask nick for auditor as hash('nick')
    mask badge for auditor as hash
  }
  table visits {
    tenant tenant = claim.tenant
    allow auditor select where exists people via person
    mask nick for auditor as hash('nick')
    mask guest for auditor as hash
  }";

/// Texts whose characters, bytes and lengths differ.
const EMAILS: [Option<&str>; 7] = [
    Some("ann@example.com"),
    Some(""),
    None,
    Some("12345"),
    Some("ANN@EXAMPLE.COM"),
    Some("äöü€𝄞é"),
    Some("'\\''"),
];

struct Lab {
    database: Database,
    owner: Client,
    document: Document,
    policy: Policy,
    name: String,
}

impl Lab {
    async fn create() -> Self {
        let database = Database::create().await.unwrap();
        let name = testkit::unique_name("m");
        let setup = format!(
            "CREATE ROLE {name}_owner LOGIN CREATEROLE PASSWORD 'x'; ALTER DATABASE {} OWNER TO {name}_owner",
            database.name()
        );
        database.execute(&setup).await.unwrap();
        let mut owner = database.connect_as(&format!("{name}_owner"), "x").await.unwrap();
        owner
            .batch_execute(
                "CREATE TABLE people (id int8 PRIMARY KEY, tenant int8 NOT NULL, secret bool NOT NULL, email text,
                   phone varchar(20), born date, score int2, photo bytea, nick text, badge uuid);
                 CREATE TABLE visits (id int8 PRIMARY KEY, tenant int8 NOT NULL, person int8 REFERENCES people, nick text, guest text);",
            )
            .await
            .unwrap();
        for (email, id) in EMAILS.iter().zip(1_i64..) {
            owner
                .execute(
                    "INSERT INTO people VALUES ($1, 1, false, $2, '030', '2000-02-29', 7, 'x')",
                    &[&id, email],
                )
                .await
                .unwrap();
        }
        owner
            .batch_execute(
                "INSERT INTO people VALUES (8, 2, false, 'other'), (9, 1, true, 'secret');
                 INSERT INTO visits VALUES (1, 1, 1, 'ann@example.com', 'ann@example.com'), (2, 1, 9, NULL, NULL), (3, 2, 8, NULL, NULL);
                 UPDATE people SET nick = email, badge = CASE WHEN id < 3 THEN '6c1e7d0e-8f4b-4a52-9d0e-2f4c3f0a1b2c'::uuid END",
            )
            .await
            .unwrap();
        let document = Document::parse(&format!("policy {name} {RULES}")).unwrap();
        let policy = check(&document, &pg::read_schema(&mut owner).await.unwrap()).unwrap();
        let early = pg::plan(&mut owner, &policy).await.unwrap_err();
        assert_eq!(early.kind(), ErrorKind::MissingMaskKeys, "{early}");
        pg::install_mask_keys(&owner).await.unwrap();
        pg::install_mask_keys(&owner).await.unwrap();
        let mut lab = Self { database, owner, document, policy, name };
        lab.apply().await;
        lab
    }

    async fn plan(&mut self) -> Plan {
        pg::plan(&mut self.owner, &self.policy).await.unwrap()
    }

    async fn apply(&mut self) {
        let accepted = self.plan().await.accept(Consent::Widening).unwrap();
        pg::apply(&mut self.owner, accepted, &ApplyConfig::default()).await.unwrap();
        let again = self.plan().await;
        assert!(again.is_empty() && again.drift.is_empty(), "{again}");
    }

    fn session(&self, role: &str) -> Session {
        Session::new(&self.document, role).unwrap().claim("tenant", 1).unwrap()
    }

    async fn act(&self, session: &Session) -> Client {
        let (login, role) = (testkit::unique_name("svc"), session.database_role());
        let script = format!("CREATE ROLE {login} LOGIN NOINHERIT PASSWORD 'x'; GRANT {role} TO {login}");
        self.database.execute(&script).await.unwrap();
        let client = self.database.connect_as(&login, "x").await.unwrap();
        session.enter(&client).await.unwrap();
        session.enter(&client).await.unwrap();
        client
    }

    /// The first column of every row, as text.
    async fn ask(&self, role: &str, query: &str) -> Result<Vec<Option<String>>, SqlState> {
        let session = self.session(role);
        let mut client = self.act(&session).await;
        let transaction = session.begin(&mut client).await.unwrap();
        let rows = transaction.query(query, &[]).await.map_err(|e| e.code().unwrap().clone())?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

fn texts(values: &[&str]) -> Vec<Option<String>> {
    values.iter().map(|v| Some((*v).to_owned())).collect()
}

#[tokio::test]
async fn the_database_and_the_process_show_the_same() {
    let lab = Lab::create().await;
    let guard = lab.policy.guard("public", "people").unwrap();
    for role in ["auditor", "trainee"] {
        let shown = lab.ask(role, "SELECT email FROM people ORDER BY id").await.unwrap();
        let mask = guard.mask(&lab.session(role), "email").unwrap();
        let value = |email: &Option<&'static str>| email.map_or(Value::Null, Value::Text);
        let expected: Vec<Option<String>> =
            EMAILS.iter().map(|email| mask.apply(value(email)).map(|text| text.into_owned())).collect();
        assert_eq!(shown, expected, "{role}");
        assert_eq!(shown[0].as_deref(), Some("a*'\\*.com"));
        assert_eq!(shown[5].as_deref(), Some("ä*'\\*ü€𝄞é"));
    }
    // A role that may see a column by another right sees it clear.
    assert!(guard.mask(&lab.session("chief"), "email").is_none());
    assert_eq!(
        lab.ask("chief", "SELECT email FROM people WHERE id = 1").await,
        Ok(texts(&["ann@example.com"]))
    );
    let others =
        "SELECT concat_ws('|', phone, coalesce(born::text, 'NULL'), score, coalesce(photo::text, 'NULL'),
                                   pg_typeof(born), pg_typeof(photo)) FROM people WHERE id = 1";
    assert_eq!(lab.ask("auditor", others).await, Ok(texts(&["none|NULL|0|NULL|date|bytea"])));
}

#[tokio::test]
async fn what_is_filtered_sorted_and_grouped_by_is_the_mask() {
    let lab = Lab::create().await;
    assert_eq!(
        lab.ask("auditor", "SELECT email FROM people WHERE email = 'ann@example.com'").await,
        Ok(vec![])
    );
    assert_eq!(
        lab.ask("auditor", "SELECT count(*)::text FROM people GROUP BY phone").await,
        Ok(texts(&["7"]))
    );
    assert_eq!(lab.ask("auditor", "SELECT id::text FROM people WHERE score > 0").await, Ok(vec![]));
    // Rows are those of the role, through the view as well: neither the other tenant's nor the secret one.
    assert_eq!(lab.ask("auditor", "SELECT count(*)::text FROM people").await, Ok(texts(&["7"])));
    assert_eq!(lab.ask("auditor", "SELECT id::text FROM visits").await, Ok(texts(&["1"])));
}

#[tokio::test]
async fn there_is_no_way_around_a_mask() {
    let lab = Lab::create().await;
    let denied = Err(SqlState::INSUFFICIENT_PRIVILEGE);
    for query in [
        "SELECT email FROM public.people",
        "SELECT id::text FROM public.people WHERE email LIKE 'a%'",
        "SELECT people::text FROM public.people",
        "SELECT 'x' FROM public.people ORDER BY score",
        &format!("SELECT set_config('role', '{}_auditor_view', true)", lab.name),
        &format!(
            "WITH x AS (UPDATE {}_auditor.people SET id = id RETURNING id) SELECT id::text FROM x",
            lab.name
        ),
    ] {
        assert_eq!(lab.ask("auditor", query).await, denied, "{query}");
    }
    assert_eq!(
        lab.ask("auditor", "SELECT id::text FROM public.people WHERE id = 1").await,
        Ok(texts(&["1"]))
    );
}

#[tokio::test]
async fn tampering_with_a_view_is_planned_back() {
    let mut lab = Lab::create().await;
    let (view, role) = (format!("{}_auditor.people", lab.name), format!("{}_auditor", lab.name));
    for tampering in [
        format!("DROP VIEW {view}"),
        format!("GRANT SELECT ON {view} TO PUBLIC"),
        format!("ALTER VIEW {view} OWNER TO postgres"),
        format!("ALTER VIEW {view} SET (security_invoker = true)"),
        format!("ALTER VIEW {view} SET (security_barrier = true)"),
        format!(
            "CREATE OR REPLACE VIEW {view} AS SELECT id, tenant, secret, email, phone::text, born, score::int8, photo FROM people"
        ),
        format!("GRANT SELECT (email) ON people TO {role}"),
        format!("GRANT ALL ON people TO {role}_view"),
        format!(
            "CREATE VIEW {role}.more AS SELECT * FROM people; ALTER VIEW {role}.more OWNER TO {role}_view"
        ),
    ] {
        // The text with `phone::text` may not be a replacement that PostgreSQL takes: then there is nothing to undo.
        if lab.database.execute(&tampering).await.is_ok() {
            assert!(!lab.plan().await.is_empty(), "{tampering}");
            lab.apply().await;
        } else {
            assert!(tampering.starts_with("CREATE OR REPLACE"), "{tampering}");
        }
    }
    let document = lab.document.to_string().replace("mask email for auditor", "# mask email for auditor");
    lab.document = Document::parse(&document).unwrap();
    lab.policy = check(&lab.document, &pg::read_schema(&mut lab.owner).await.unwrap()).unwrap();
    let plan = lab.plan().await;
    assert!(plan.clone().accept(Consent::NarrowingOnly).is_err(), "a mask taken away widens: {plan}");
    lab.apply().await;
    assert_eq!(
        lab.ask("auditor", "SELECT email FROM people WHERE id = 1").await,
        Ok(texts(&["ann@example.com"]))
    );
}

/// A uuid of the table, in both of its forms.
const BADGE: [u8; 16] =
    [0x6c, 0x1e, 0x7d, 0x0e, 0x8f, 0x4b, 0x4a, 0x52, 0x9d, 0x0e, 0x2f, 0x4c, 0x3f, 0x0a, 0x1b, 0x2c];

impl Lab {
    fn hidden(&self, table: &str, column: &str) -> Mask {
        self.policy.guard("public", table).unwrap().mask(&self.session("auditor"), column).unwrap().clone()
    }

    async fn auditor(&self, query: &str) -> Vec<Option<String>> {
        self.ask("auditor", query).await.unwrap()
    }
}

fn shown(mask: &Mask, key: &MaskKey, value: Value<'_>) -> Option<String> {
    mask.apply_with(key, value).map(|text| text.into_owned())
}

#[tokio::test]
async fn a_hash_is_the_same_in_the_database_and_in_the_process() {
    let lab = Lab::create().await;
    let (nick, badge) = (lab.hidden("people", "nick"), lab.hidden("people", "badge"));
    for _ in 0..2 {
        let key = MaskKey::generate().unwrap();
        pg::set_mask_key(&lab.owner, &lab.name, &key).await.unwrap();
        let value = |email: &Option<&'static str>| email.map_or(Value::Null, Value::Text);
        let expected: Vec<Option<String>> =
            EMAILS.iter().map(|email| shown(&nick, &key, value(email))).collect();
        assert_eq!(lab.auditor("SELECT nick FROM people ORDER BY id").await, expected);
        assert_eq!(expected[2], None, "NULL stays NULL");
        assert_eq!(expected[0].as_ref().unwrap().len(), 64);
        let badges = lab.auditor("SELECT badge::text FROM people WHERE badge IS NOT NULL").await;
        assert_eq!(badges, vec![shown(&badge, &key, Value::Uuid(BADGE)); 2]);
        // A uuid of version 8, as RFC 9562 has it for whatever is neither time nor chance.
        assert!(badges[0].as_ref().is_some_and(|b| &b[14..15] == "8" && &b[19..20] == "8"), "{badges:?}");
    }
}

#[tokio::test]
async fn hashes_agree_where_the_policy_says_so_and_nowhere_else() {
    let lab = Lab::create().await;
    pg::set_mask_key(&lab.owner, &lab.name, &MaskKey::generate().unwrap()).await.unwrap();
    let joined = "SELECT count(*)::text FROM people p JOIN visits v ON";
    assert_eq!(lab.auditor(&format!("{joined} p.nick = v.nick")).await, texts(&["1"]));
    assert_eq!(
        lab.auditor(&format!("{joined} p.nick = v.guest")).await,
        texts(&["0"]),
        "the text is the same"
    );
}

#[tokio::test]
async fn without_its_key_a_hash_shows_nothing() {
    let lab = Lab::create().await;
    let all = "SELECT concat(nick, badge) FROM people";
    assert_eq!(lab.auditor(all).await, texts(&[""; 7]), "there is no key yet");
    assert_eq!(lab.hidden("people", "nick").apply(Value::Text("ann@example.com")), None);
    pg::set_mask_key(&lab.owner, &lab.name, &MaskKey::generate().unwrap()).await.unwrap();
    assert!(lab.auditor(all).await.iter().flatten().any(|text| !text.is_empty()));
    pg::remove_mask_key(&lab.owner, &lab.name).await.unwrap();
    assert_eq!(lab.auditor(all).await, texts(&[""; 7]), "the key was taken away");
}

/// What a masked role could try, to hash values of its own choice: with that, a guess is as good as the value.
#[tokio::test]
async fn the_masked_role_has_neither_the_key_nor_the_use_of_it() {
    let lab = Lab::create().await;
    let key = MaskKey::generate().unwrap();
    pg::set_mask_key(&lab.owner, &lab.name, &key).await.unwrap();
    for query in [
        "SELECT encode(inner_pad, 'hex') FROM zk.mask_keys",
        "SELECT policy FROM zk.mask_keys",
        "WITH x AS (INSERT INTO zk.mask_keys VALUES ('x', '', '') RETURNING 1) SELECT 'x' FROM x",
        "WITH x AS (UPDATE public.people SET nick = 'guess' RETURNING 1) SELECT 'x' FROM x",
        "SELECT nick FROM public.people",
    ] {
        let refused = lab.ask("auditor", query).await;
        assert_eq!(refused, Err(SqlState::INSUFFICIENT_PRIVILEGE), "{query}");
    }
    let functions =
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                     WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')";
    assert_eq!(lab.auditor(functions).await, vec![], "there is nothing to call");
    let mut seen = lab
        .auditor("SELECT pg_get_viewdef(oid) FROM pg_class WHERE relkind = 'v' AND relname = 'people'")
        .await;
    seen.extend(lab.auditor("EXPLAIN (ANALYZE, VERBOSE) SELECT nick FROM people").await);
    assert!(seen.iter().flatten().all(|line| !line.contains("\\x")), "no bytes are written out: {seen:?}");
}

#[tokio::test]
async fn a_place_for_keys_that_somebody_else_made_is_given_none() {
    let mut lab = Lab::create().await;
    lab.database.execute("CREATE ROLE thief; ALTER TABLE zk.mask_keys OWNER TO thief").await.unwrap();
    let key = MaskKey::generate().unwrap();
    assert_eq!(pg::install_mask_keys(&lab.owner).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(pg::set_mask_key(&lab.owner, &lab.name, &key).await.unwrap_err().kind(), ErrorKind::Denied);
    let root = lab.database.connect().await.unwrap();
    assert_eq!(pg::remove_mask_key(&root, &lab.name).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(pg::plan(&mut lab.owner, &lab.policy).await.unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn the_key_opened_to_a_role_of_the_policy_is_planned_back() {
    let mut lab = Lab::create().await;
    for tampering in [
        "GRANT SELECT ON zk.mask_keys TO {}",
        "GRANT ALL ON zk.mask_keys TO {}_view",
        "REVOKE ALL ON zk.mask_keys FROM {}_view",
    ] {
        let tampering = tampering.replace("{}", &format!("{}_auditor", lab.name));
        lab.database.execute(&tampering).await.unwrap();
        assert!(!lab.plan().await.is_empty(), "{tampering}");
        lab.apply().await;
    }
}

#[tokio::test]
async fn lint_knows_the_keys_and_the_views_that_read_them() {
    let mut lab = Lab::create().await;
    let found = pg::lint(&mut lab.owner, &lab.policy).await.unwrap();
    assert!(
        found.iter().all(|f| !f.object.contains("mask_keys") && !f.object.contains("_auditor")),
        "{found:?}"
    );
    lab.database.execute(&format!("GRANT SELECT ON zk.mask_keys TO {}_clerk", lab.name)).await.unwrap();
    let found = pg::lint(&mut lab.owner, &lab.policy).await.unwrap();
    assert!(
        found.iter().any(|f| f.code == LintCode::MaskKeyOpen && f.reason.contains("_clerk")),
        "{found:?}"
    );
}
