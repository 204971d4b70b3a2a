//! Masks on a real server: what a role sees, filters and joins by is the mask, and in process it is the same.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use testkit::Database;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use zk_policy::pg::{self, ApplyConfig};
use zk_policy::{Consent, Document, Plan, Policy, Session, Value, check};

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
  }
  table visits {
    tenant tenant = claim.tenant
    allow auditor select where exists people via person
  }";

/// Texts whose characters, bytes and lengths differ.
const EMAILS: [Option<&str>; 7] =
    [Some("ann@example.com"), Some(""), None, Some("12345"), Some("123456"), Some("äöü€𝄞é"), Some("'\\''")];

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
                   phone varchar(20), born date, score int2, photo bytea);
                 CREATE TABLE visits (id int8 PRIMARY KEY, tenant int8 NOT NULL, person int8 REFERENCES people);",
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
                 INSERT INTO visits VALUES (1, 1, 1), (2, 1, 9), (3, 2, 8)",
            )
            .await
            .unwrap();
        let document = Document::parse(&format!("policy {name} {RULES}")).unwrap();
        let policy = check(&document, &pg::read_schema(&mut owner).await.unwrap()).unwrap();
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
