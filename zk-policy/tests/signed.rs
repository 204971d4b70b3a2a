//! Signed claims: whoever runs SQL on a service's connection cannot choose another tenant, role or time.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use testkit::Database;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use zk_policy::pg::{self, ApplyConfig, ClaimKey, ErrorKind};
use zk_policy::{Consent, Document, Session, check};

const RULES: &str = "
  role clerk
  role boss
  claim tenant: int8
  claim regions: text[]
  claims signed
  table notes {
    tenant tenant = claim.tenant
    allow clerk select where region in claim.regions or region is null
    allow boss select
  }
  table codes { shared  allow clerk select, insert, update where word = 'open' or word in claim.regions }
  persona analyst { select, delete on notes across tenants }";

struct Lab {
    database: Database,
    owner: Client,
    document: Document,
    name: String,
    login: String,
    key: ClaimKey,
}

impl Lab {
    async fn create() -> Self {
        let database = Database::create().await.unwrap();
        let name = testkit::unique_name("g");
        let (admin, login) = (format!("{name}_owner"), format!("{name}_login"));
        let setup = format!(
            "CREATE ROLE {admin} LOGIN CREATEROLE PASSWORD 'x'; ALTER DATABASE {} OWNER TO {admin};
             CREATE ROLE {login} LOGIN NOINHERIT PASSWORD 'x'",
            database.name()
        );
        database.execute(&setup).await.unwrap();
        let mut owner = database.connect_as(&admin, "x").await.unwrap();
        owner
            .batch_execute(
                "CREATE TABLE notes (id int8 PRIMARY KEY, tenant int8 NOT NULL, region text);
                 INSERT INTO notes VALUES (1, 1, NULL), (2, 2, NULL), (3, 1, 'a.b');
                 CREATE TABLE codes (id int8 PRIMARY KEY, word text);
                 INSERT INTO codes VALUES (1, 'open'), (2, 'a.b'), (3, 'shut')",
            )
            .await
            .unwrap();
        let document = Document::parse(&format!("policy {name} {RULES}")).unwrap();
        let policy = check(&document, &pg::read_schema(&mut owner).await.unwrap()).unwrap();
        let early = pg::plan(&mut owner, &policy).await.unwrap_err();
        assert_eq!(early.kind(), ErrorKind::MissingSigning, "{early}");
        pg::install_signing(&owner).await.unwrap();
        pg::install_signing(&owner).await.unwrap();
        let key = ClaimKey::generate().unwrap();
        pg::add_claim_key(&owner, &key).await.unwrap();
        let plan = pg::plan(&mut owner, &policy).await.unwrap();
        pg::apply(&mut owner, plan.accept(Consent::Widening).unwrap(), &ApplyConfig::default())
            .await
            .unwrap();
        assert!(pg::plan(&mut owner, &policy).await.unwrap().is_empty());
        database
            .execute(&format!("GRANT {name}_clerk, {name}_boss, {name}_analyst TO {login}"))
            .await
            .unwrap();
        Self { database, owner, document, name, login, key }
    }

    fn session(&self, role: &str, tenant: i64) -> Session {
        let session = Session::new(&self.document, role).unwrap().claim("tenant", tenant).unwrap();
        session.claim("regions", ["x", "a.b"].as_slice()).unwrap()
    }

    async fn connect(&self, session: &Session) -> Client {
        let client = self.database.connect_as(&self.login, "x").await.unwrap();
        session.enter(&client).await.unwrap();
        client
    }
}

async fn notes(client: &Client) -> Result<Vec<i64>, SqlState> {
    let rows = client.query("SELECT id FROM notes ORDER BY id", &[]).await;
    rows.map(|rows| rows.iter().map(|row| row.get(0)).collect()).map_err(|e| e.code().unwrap().clone())
}

const REFUSED: Result<Vec<i64>, SqlState> = Err(SqlState::INSUFFICIENT_PRIVILEGE);

#[tokio::test]
async fn signed_claims_hold_for_their_transaction() {
    let lab = Lab::create().await;
    let session = lab.session("clerk", 1);
    let mut client = lab.connect(&session).await;
    let transaction = session.signed(&lab.key).begin(&mut client).await.unwrap();
    assert_eq!(notes(&transaction).await, Ok(vec![1, 3]));
    transaction.commit().await.unwrap();
    assert_eq!(notes(&client).await, Ok(vec![]), "and not after it");
}

/// A job begins its own transactions, and has each signed.
#[tokio::test]
async fn a_transaction_that_somebody_else_began_is_signed() {
    let lab = Lab::create().await;
    let session = lab.session("clerk", 1);
    let mut client = lab.connect(&session).await;
    for _ in 0..2 {
        let transaction = client.transaction().await.unwrap();
        assert_eq!(notes(transaction.client()).await, Ok(vec![]));
        session.signed(&lab.key).sign(transaction.client()).await.unwrap();
        assert_eq!(notes(transaction.client()).await, Ok(vec![1, 3]));
        transaction.commit().await.unwrap();
        assert_eq!(notes(&client).await, Ok(vec![]), "and not after it");
    }
    session.signed(&lab.key).sign(&client).await.unwrap();
    assert_eq!(notes(&client).await, Ok(vec![]), "nothing is signed outside of a transaction");
    let error = lab.session("boss", 1).signed(&lab.key).sign(&client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongRole, "{error}");
}

/// Everything an attacker can do with SQL of their own, in the middle of somebody's transaction or beside it.
#[tokio::test]
async fn injected_sql_cannot_choose_another_tenant() {
    let lab = Lab::create().await;
    let session = lab.session("clerk", 1);
    let mut client = lab.connect(&session).await;

    // The plain settings mean nothing here.
    client.batch_execute("SELECT set_config('zk.tenant', '2', false)").await.unwrap();
    assert_eq!(notes(&client).await, Ok(vec![]));

    let transaction = session.signed(&lab.key).begin(&mut client).await.unwrap();
    let signed: String =
        transaction.query_one("SELECT current_setting('zk.signed')", &[]).await.unwrap().get(0);
    let payload = signed.splitn(3, '.').nth(2).unwrap();
    let tenant = "\"tenant\":\"1\"";
    assert!(payload.contains(tenant), "{payload}");
    let forged = [
        signed.replace(tenant, "\"tenant\":\"2\""),
        format!("{}.{}.{}", lab.key.id(), "0".repeat(64), payload),
        format!("nokey.{}", signed.split_once('.').unwrap().1),
        payload.to_owned(),
        "..".to_owned(),
        format!("{signed} "),
    ];
    let settings = forged.iter().map(|text| format!("SELECT set_config('zk.signed', '{text}', true)"));
    let roles = [format!("SET LOCAL ROLE {}_boss", lab.name), "RESET ROLE".to_owned()];
    for attack in settings.chain(roles) {
        transaction.batch_execute(&format!("SAVEPOINT s; {attack}")).await.unwrap();
        assert_eq!(notes(&transaction).await, REFUSED, "{attack}");
        transaction.batch_execute("ROLLBACK TO SAVEPOINT s").await.unwrap();
        assert_eq!(notes(&transaction).await, Ok(vec![1, 3]), "unchanged, it is good");
    }
    transaction.commit().await.unwrap();

    // Unchanged, in a later transaction of this connection, and on another connection.
    client.execute("SELECT set_config('zk.signed', $1, false)", &[&signed]).await.unwrap();
    assert_eq!(notes(&client).await, REFUSED);
    let other = lab.connect(&session).await;
    other.execute("SELECT set_config('zk.signed', $1, false)", &[&signed]).await.unwrap();
    assert_eq!(notes(&other).await, REFUSED);
    // Nor is the key to be read.
    assert_eq!(
        other.query("SELECT * FROM zk.claim_keys", &[]).await.unwrap_err().code(),
        Some(&SqlState::INSUFFICIENT_PRIVILEGE)
    );
}

/// Rules that ask for no claim ask for the signature: a role that the login may enter shows nothing by being entered.
#[tokio::test]
async fn rules_without_a_claim_want_a_signature_too() {
    let lab = Lab::create().await;
    let clerk = lab.session("clerk", 1);
    let analyst = Session::new(&lab.document, "analyst").unwrap();
    let ids = |statement: &'static str| {
        async move |client: &Client| {
            let rows = client.query(statement, &[]).await;
            rows.map(|rows| rows.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>())
                .map_err(|e| e.code().unwrap().clone())
        }
    };
    let (codes, write) =
        (ids("SELECT id FROM codes ORDER BY id"), ids("INSERT INTO codes VALUES (9, 'open') RETURNING id"));
    let (change, delete) = (
        ids("UPDATE codes SET word = 'a.b' WHERE id = 1 RETURNING id"),
        ids("DELETE FROM notes WHERE id = 2 RETURNING id"),
    );

    let mut client = lab.database.connect_as(&lab.login, "x").await.unwrap();
    for role in ["SET ROLE", "SET SESSION ROLE"] {
        client.batch_execute(&format!("{role} {}_analyst", lab.name)).await.unwrap();
        assert_eq!(notes(&client).await, Ok(vec![]), "{role}");
        assert_eq!(delete(&client).await, Ok(vec![]), "{role}");
        client.batch_execute(&format!("{role} {}_clerk", lab.name)).await.unwrap();
        assert_eq!(codes(&client).await, Ok(vec![]), "{role}");
        assert_eq!(change(&client).await, Ok(vec![]), "{role}");
        assert_eq!(write(&client).await, REFUSED, "{role}");
    }
    clerk.enter(&client).await.unwrap();
    let transaction = clerk.signed(&lab.key).begin(&mut client).await.unwrap();
    assert_eq!(codes(&transaction).await, Ok(vec![1, 2]));
    assert_eq!(change(&transaction).await, Ok(vec![1]));
    assert_eq!(write(&transaction).await, Ok(vec![9]));
    // In the middle of what was signed for one role, the other opens nothing.
    transaction.batch_execute(&format!("SAVEPOINT s; SET LOCAL ROLE {}_analyst", lab.name)).await.unwrap();
    assert_eq!(notes(&transaction).await, REFUSED);
    transaction.rollback().await.unwrap();

    analyst.enter(&client).await.unwrap();
    let transaction = analyst.signed(&lab.key).begin(&mut client).await.unwrap();
    assert_eq!(notes(&transaction).await, Ok(vec![1, 2, 3]));
    assert_eq!(delete(&transaction).await, Ok(vec![2]));
    transaction.rollback().await.unwrap();
    assert_eq!(notes(&client).await, Ok(vec![]));
}

/// Whoever may create in the database can make the schema, the table or the functions first. They get no key.
#[tokio::test]
async fn nobody_else_is_given_the_keys() {
    const TABLE: &str = "CREATE TABLE zk.claim_keys (id text PRIMARY KEY, inner_pad bytea, outer_pad bytea,
                           created_at timestamptz DEFAULT now()); GRANT ALL ON zk.claim_keys TO PUBLIC";
    const FUNCTION: &str =
        "CREATE FUNCTION zk.claim(claim_name text) RETURNS text LANGUAGE sql AS $$ SELECT '1' $$";
    let open = "CREATE SCHEMA zk; GRANT ALL ON SCHEMA zk TO PUBLIC";
    for made in [open.to_owned(), format!("{open}; {TABLE}"), format!("{open}; {TABLE}; {FUNCTION}")] {
        let database = Database::create().await.unwrap();
        let (admin, mal) = (testkit::unique_name("owner"), testkit::unique_name("mal"));
        let setup = format!(
            "CREATE ROLE {admin} LOGIN PASSWORD 'x'; ALTER DATABASE {0} OWNER TO {admin};
             CREATE ROLE {mal} LOGIN PASSWORD 'x'; GRANT CREATE ON DATABASE {0} TO {mal}",
            database.name()
        );
        database.execute(&setup).await.unwrap();
        let mal = database.connect_as(&mal, "x").await.unwrap();
        mal.batch_execute(&made).await.unwrap();
        let key = ClaimKey::generate().unwrap();
        let owner = database.connect_as(&admin, "x").await.unwrap();
        for client in [owner, database.connect().await.unwrap()] {
            let error = pg::install_signing(&client).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied, "{made}: {error}");
            let error = pg::add_claim_key(&client, &key).await.unwrap_err();
            assert!(
                [ErrorKind::Denied, ErrorKind::MissingSigning].contains(&error.kind()),
                "{made}: {error}"
            );
        }
        if made.contains("TABLE") {
            assert!(mal.query("SELECT FROM zk.claim_keys", &[]).await.unwrap().is_empty(), "{made}");
        }
    }
}

/// What verifies claims stays with who installed it: a plan refuses when a part of it became somebody else's.
#[tokio::test]
async fn what_verifies_claims_does_not_change_hands() {
    let mut lab = Lab::create().await;
    let policy = check(&lab.document, &pg::read_schema(&mut lab.owner).await.unwrap()).unwrap();
    let (mal, owner) = (testkit::unique_name("mal"), format!("{}_owner", lab.name));
    lab.database.execute(&format!("CREATE ROLE {mal}")).await.unwrap();
    for object in ["SCHEMA zk", "TABLE zk.claim_keys", "FUNCTION zk.claim(text)", "FUNCTION zk.signed()"] {
        lab.database.execute(&format!("ALTER {object} OWNER TO {mal}")).await.unwrap();
        let error = pg::plan(&mut lab.owner, &policy).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{object}: {error}");
        assert!(error.to_string().contains(&mal), "{error}");
        let root = lab.database.connect().await.unwrap();
        let error = pg::remove_claim_key(&root, lab.key.id()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{object}: {error}");
        if !object.starts_with("FUNCTION") {
            let error = pg::add_claim_key(&lab.owner, &lab.key).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied, "{object}: {error}");
        }
        lab.database.execute(&format!("ALTER {object} OWNER TO {owner}")).await.unwrap();
        assert!(pg::plan(&mut lab.owner, &policy).await.unwrap().is_empty(), "{object}");
    }
    let listening = "CREATE FUNCTION public.listen() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
                     CREATE TRIGGER listen BEFORE INSERT ON zk.claim_keys FOR EACH ROW EXECUTE FUNCTION public.listen()";
    let rule = "DROP TRIGGER listen ON zk.claim_keys; CREATE RULE also AS ON INSERT TO zk.claim_keys DO ALSO NOTIFY key";
    for tampering in [listening, rule] {
        lab.database.execute(tampering).await.unwrap();
        let error = pg::add_claim_key(&lab.owner, &ClaimKey::generate().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{tampering}: {error}");
        assert_eq!(
            pg::plan(&mut lab.owner, &policy).await.unwrap_err().kind(),
            ErrorKind::Denied,
            "{tampering}"
        );
    }
}

/// A database where new functions are nobody's to call has its sessions verified all the same.
#[tokio::test]
async fn everybody_may_have_claims_verified() {
    let database = Database::create().await.unwrap();
    let client = database.connect().await.unwrap();
    client.batch_execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC").await.unwrap();
    pg::install_signing(&client).await.unwrap();
    let query = "SELECT bool_and(has_function_privilege('public', oid, 'EXECUTE')) FROM pg_proc
                 WHERE pronamespace = 'zk'::regnamespace";
    assert!(client.query_one(query, &[]).await.unwrap().get::<_, bool>(0));
}

#[tokio::test]
async fn keys_are_rotated() {
    let lab = Lab::create().await;
    let session = lab.session("boss", 2);
    let mut client = lab.connect(&session).await;
    let next = ClaimKey::from_text(&ClaimKey::generate().unwrap().to_text()).unwrap();
    pg::add_claim_key(&lab.owner, &next).await.unwrap();
    for key in [&lab.key, &next] {
        let transaction = session.signed(key).begin(&mut client).await.unwrap();
        assert_eq!(notes(&transaction).await, Ok(vec![2]));
    }
    pg::remove_claim_key(&lab.owner, lab.key.id()).await.unwrap();
    let transaction = session.signed(&lab.key).begin(&mut client).await.unwrap();
    assert_eq!(notes(&transaction).await, REFUSED);
}
