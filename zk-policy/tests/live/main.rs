//! The policy on a real server: what it shows, what it refuses, and what planning and applying promise.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod agreement;
mod applying;
mod guarding;
mod outside;
mod planning;
mod roles;
mod surroundings;

use testkit::Database;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use zk_policy::pg::{self, ApplyConfig};
use zk_policy::{Consent, Document, Plan, Policy, Session, check};

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
