//! Two tenants that share tables, and a service that acts for the first.

use tokio_postgres::{Client, SimpleQueryMessage};
use zk_policy::{Document, Policy, Session};

#[path = "../shared/lab.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
pub(crate) mod lab;

use lab::Lab;

const TABLES: &str = "
  CREATE TABLE notes (tenant int8 NOT NULL, id int8 NOT NULL, author text, body text, secret text, pay int8, email text,
    dead bool NOT NULL DEFAULT false, PRIMARY KEY (tenant, id));
  INSERT INTO notes (tenant, id, author, body, secret, pay, email) VALUES (1, 1, 'ann', 'hello', 's1', 100, 'ann@x.org'), (1, 2, 'bob', 'world', 's2', 200, 'bob@x.org'),
    (1, 3, 'ann', 'gone', 's3', 300, 'cid@x.org'), (2, 1, 'ann', 'foreign-a', 's4', 400, 'dan@y.org'),
    (2, 9, 'eve', 'foreign-b', 's5', 500, 'eve@y.org');
  UPDATE notes SET dead = true WHERE tenant = 1 AND id = 3;
  CREATE TABLE replies (tenant int8 NOT NULL, id int8 NOT NULL, note int8, PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, note) REFERENCES notes (tenant, id) DEFERRABLE INITIALLY DEFERRED);
  INSERT INTO replies VALUES (1, 1, 1), (2, 1, 9);
  CREATE TABLE codes (id int8 PRIMARY KEY, tenant int8 NOT NULL, code text UNIQUE);
  CREATE INDEX ON codes (tenant);
  INSERT INTO codes VALUES (1, 1, 'alpha'), (2, 2, 'beta');
  CREATE TABLE calls (id int8, tenant int8 NOT NULL, code int8 CONSTRAINT calls_code REFERENCES codes (id), PRIMARY KEY (tenant, id));
  CREATE TABLE logs (tenant int8 NOT NULL, id int8 NOT NULL, line text, PRIMARY KEY (tenant, id)) PARTITION BY RANGE (id);
  CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM (1) TO (100);
  INSERT INTO logs VALUES (1, 1, 'ours'), (2, 2, 'theirs');
  CREATE SEQUENCE tickets;
  CREATE MATERIALIZED VIEW copies AS SELECT * FROM notes;
  CREATE VIEW owned AS SELECT id, body FROM notes;
  CREATE VIEW asked WITH (security_invoker) AS SELECT id, body FROM notes;
  CREATE STATISTICS pairs (mcv) ON author, dead FROM notes;";

const RULES: &str = "
  role clerk
  role admin
  role auditor
  claim tenant: int8
  claim user: text
  table notes {
    tenant tenant = claim.tenant
    allow clerk select where not dead
    allow clerk insert, update, delete where author = claim.user
    columns clerk select, insert all except secret
    columns clerk update only body, dead
    allow admin select, insert, update, delete
    allow auditor select where not dead
    mask email for auditor as partial(1, '*', 4)
    mask pay for auditor as 0
  }
  table replies { tenant tenant = claim.tenant  allow admin select, insert }
  table codes { tenant tenant = claim.tenant  allow clerk select  allow admin select, insert, update }
  table calls { tenant tenant = claim.tenant  allow admin select, insert }
  table logs { tenant tenant = claim.tenant  allow clerk select }";

pub(crate) struct Office {
    pub(crate) lab: Lab,
    pub(crate) document: Document,
    pub(crate) policy: Policy,
    pub(crate) name: String,
}

impl Office {
    pub(crate) async fn open() -> Self {
        let mut lab = Lab::create(TABLES).await;
        let name = testkit::unique_name("l");
        let (document, policy) = lab.check(&format!("policy {name} {RULES}")).await;
        lab.apply(&policy).await;
        lab.root.batch_execute("ANALYZE").await.unwrap();
        // What somebody granted for the views to be of use.
        lab.root.batch_execute(&format!("GRANT SELECT ON owned, asked TO {name}_clerk")).await.unwrap();
        Self { lab, document, policy, name }
    }

    /// The role, for Ann of the tenant.
    pub(crate) fn session(&self, role: &str, tenant: i64) -> Session {
        let session = Session::new(&self.document, role).unwrap().claim("tenant", tenant).unwrap();
        session.claim("user", "ann").unwrap()
    }

    /// A connection of a service that may act as these roles.
    pub(crate) async fn connect(&self, roles: &[&str]) -> Client {
        let login = testkit::unique_name("svc");
        let mut script = format!("CREATE ROLE {login} LOGIN NOINHERIT PASSWORD 'x';");
        roles.iter().for_each(|role| script.push_str(&format!("GRANT {}_{role} TO {login};", self.name)));
        self.lab.database.execute(&script).await.unwrap();
        self.lab.database.connect_as(&login, "x").await.unwrap()
    }

    /// Takes the policy away that stands between the roles and the rows, and leaves the roles as they are: what they can do
    /// then is what the policy kept from them.
    pub(crate) async fn unprotect(&self) {
        let mut script = String::new();
        for table in ["notes", "replies", "codes", "calls", "logs"] {
            script.push_str(&format!(
                "ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY;"
            ));
        }
        for role in ["clerk", "admin", "auditor"] {
            let role = format!("{}_{role}", self.name);
            script.push_str(&format!(
                "GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; GRANT ALL ON SEQUENCE tickets TO {role};
                 GRANT CREATE ON SCHEMA public TO {role};"
            ));
        }
        let auditor = format!("{}_auditor", self.name);
        script.push_str(&format!(
            "DROP VIEW {auditor}.notes; CREATE VIEW {auditor}.notes AS SELECT * FROM public.notes;
             GRANT CREATE ON SCHEMA {auditor} TO {auditor}; ALTER VIEW {auditor}.notes OWNER TO {auditor}"
        ));
        self.lab.root.batch_execute(&script).await.unwrap();
    }
}

/// What came of statements within the session, all of which is rolled back: of the last one the rows (`1|a;2|b`) or how
/// many it touched (`(2)`), or the SQLSTATE.
pub(crate) async fn ask(client: &mut Client, session: &Session, statements: &str) -> String {
    let transaction = session.begin(client).await.unwrap();
    let answer = answer(transaction.simple_query(statements).await);
    transaction.rollback().await.unwrap();
    answer
}

pub(crate) fn answer(result: Result<Vec<SimpleQueryMessage>, tokio_postgres::Error>) -> String {
    let messages = match result {
        Ok(messages) => messages,
        Err(error) => return error.code().unwrap_or_else(|| panic!("{error:?}")).code().to_owned(),
    };
    let mut rows: Option<Vec<String>> = None;
    let mut answer = String::new();
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(_) => rows = Some(Vec::new()),
            SimpleQueryMessage::Row(row) => {
                let cells: Vec<&str> = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect();
                rows.as_mut().unwrap().push(cells.join("|"));
            }
            SimpleQueryMessage::CommandComplete(count) => {
                answer = rows.take().map_or_else(|| format!("({count})"), |rows| rows.join(";"));
            }
            _ => {}
        }
    }
    answer
}
