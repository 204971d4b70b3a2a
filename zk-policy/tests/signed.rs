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
  }";

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
                 INSERT INTO notes VALUES (1, 1, NULL), (2, 2, NULL), (3, 1, 'a.b')",
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
        database.execute(&format!("GRANT {name}_clerk, {name}_boss TO {login}")).await.unwrap();
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
