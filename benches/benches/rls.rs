//! What does a policy cost on top of a hand-written WHERE? `cargo bench -p benches --bench rls`
//!
//! 1,000,000 rows of 1,000 tenants on a private server. The hand-written side is a role with BYPASSRLS that puts the
//! tenant into every statement; the other side says nothing of tenants and is held by the generated policy. Both run
//! prepared statements in a transaction with the claims set, in turns. What is measured is the wall time of the client: one
//! round trip over TLS for a read, three for a write, which is rolled back to a savepoint.

use benches::Table;
use testkit::{Cluster, ClusterConfig, Database};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Statement};
use zk_policy::pg::{self, ApplyConfig, ClaimKey};
use zk_policy::{Consent, Document, Session, check};

const TENANT: i64 = 500;

const POLICY: &str = "policy bench
  role agent
  role auditor
  claim tenant: int8
  claim user: int8
  table orders {
    tenant tenant_id = claim.tenant
    allow agent select, insert, update where owner = claim.user or state in ('open', 'sent')
    allow auditor select
    mask note for auditor as partial(1, '***', 1)
  }";

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    let cluster = Cluster::start(ClusterConfig::for_benchmarks()).expect("a server");
    for signed in [false, true] {
        let lab = runtime.block_on(Lab::create(&cluster, signed));
        let claims = if signed { "signed claims" } else { "plain claims" };
        for (title, hand, ours) in [
            (
                "point",
                "SELECT id, note FROM orders WHERE tenant_id = 500 AND id = 500500",
                "SELECT id, note FROM orders WHERE id = 500500",
            ),
            (
                "page of 50",
                "SELECT id, note FROM orders WHERE tenant_id = 500 AND (owner = 7 OR state IN ('open', 'sent')) ORDER BY id LIMIT 50",
                "SELECT id, note FROM orders ORDER BY id LIMIT 50",
            ),
            (
                "count",
                "SELECT count(*) FROM orders WHERE tenant_id = 500 AND (owner = 7 OR state IN ('open', 'sent'))",
                "SELECT count(*) FROM orders",
            ),
            (
                "insert",
                "INSERT INTO orders VALUES (9999999, 500, 7, 'open', 'x')",
                "INSERT INTO orders VALUES (9999999, 500, 7, 'open', 'x')",
            ),
            (
                "update",
                "UPDATE orders SET note = 'y' WHERE tenant_id = 500 AND id = 500500",
                "UPDATE orders SET note = 'y' WHERE id = 500500",
            ),
        ] {
            let mut table = Table::new(format!("{title}, {claims}"), 0);
            table.row("hand-written WHERE, no row-level security", lab.runner(&runtime, "by_hand", hand));
            table.row("generated policy", lab.runner(&runtime, "agent", ours));
            table.print();
        }
        let mut table = Table::new(format!("masked page of 50, {claims}"), 0);
        let hand = "SELECT id, note FROM orders WHERE tenant_id = 500 ORDER BY id LIMIT 50";
        table.row("hand-written WHERE, no mask", lab.runner(&runtime, "by_hand", hand));
        table.row(
            "generated mask",
            lab.runner(&runtime, "auditor", "SELECT id, note FROM orders ORDER BY id LIMIT 50"),
        );
        table.print();
    }
}

struct Lab {
    database: Database,
    document: Document,
    key: Option<ClaimKey>,
}

impl Lab {
    async fn create(cluster: &Cluster, signed: bool) -> Self {
        let database = cluster.database().await.expect("a database");
        let mut owner = database.connect().await.expect("the superuser");
        // Roles belong to the whole server: the second round finds those of the first.
        owner
            .batch_execute(
                "DO $$ BEGIN CREATE ROLE by_hand NOLOGIN BYPASSRLS; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
                 CREATE TABLE orders (id int8 PRIMARY KEY, tenant_id int8 NOT NULL, owner int8 NOT NULL, state text NOT NULL, note text);
                 INSERT INTO orders SELECT n, n % 1000, n % 13, (ARRAY['open', 'sent', 'paid'])[1 + n % 3], 'note of order ' || n
                   FROM generate_series(1, 1000000) AS n;
                 CREATE INDEX ON orders (tenant_id, id);
                 GRANT ALL ON orders TO by_hand",
            )
            .await
            .expect("a table");
        // VACUUM cannot run in the transaction that several statements share.
        owner.batch_execute("VACUUM ANALYZE orders").await.expect("a vacuum");
        let text = if signed { format!("{POLICY}\nclaims signed") } else { POLICY.to_owned() };
        let document = Document::parse(&text).expect("a policy");
        let key = if signed {
            pg::install_signing(&owner).await.expect("signing");
            let key = ClaimKey::generate().expect("a key");
            pg::add_claim_key(&owner, &key).await.expect("a key");
            Some(key)
        } else {
            None
        };
        let policy =
            check(&document, &pg::read_schema(&mut owner).await.expect("a schema")).expect("a policy");
        let plan = pg::plan(&mut owner, &policy).await.expect("a plan");
        pg::apply(&mut owner, plan.accept(Consent::Widening).expect("accepted"), &ApplyConfig::default())
            .await
            .expect("applied");
        Self { database, document, key }
    }

    /// Runs `statement` as `role`, in a transaction that holds for all runs.
    fn runner<'r>(&self, runtime: &'r Runtime, role: &str, statement: &str) -> impl FnMut() + use<'r> {
        let writes = !statement.starts_with("SELECT");
        let (client, statement) = runtime.block_on(self.prepare(role, statement));
        move || {
            runtime.block_on(async {
                if writes {
                    client.batch_execute("SAVEPOINT s").await.expect("a savepoint");
                }
                client.query(&statement, &[]).await.expect("the statement");
                if writes {
                    client.batch_execute("ROLLBACK TO SAVEPOINT s").await.expect("a rollback");
                }
            });
        }
    }

    async fn prepare(&self, role: &str, statement: &str) -> (Client, Statement) {
        let mut client = self.database.connect().await.expect("the superuser");
        if role == "by_hand" {
            client.batch_execute("SET ROLE by_hand; BEGIN").await.expect("a role");
        } else {
            let session = Session::new(&self.document, role).expect("declared");
            let session =
                session.claim("tenant", TENANT).expect("a claim").claim("user", 7_i64).expect("a claim");
            session.enter(&client).await.expect("a role");
            // The transaction must outlive its guard: the settings are made again in one that does.
            let settings = {
                let transaction = match &self.key {
                    Some(key) => session.signed(key).begin(&mut client).await.expect("begun"),
                    None => session.begin(&mut client).await.expect("begun"),
                };
                let names = ["zk.tenant", "zk.user", "zk.signed"];
                let mut settings = Vec::new();
                for name in names {
                    let row = transaction
                        .query_one("SELECT current_setting($1, true)", &[&name])
                        .await
                        .expect("a setting");
                    settings.push((name, row.get::<_, Option<String>>(0).unwrap_or_default()));
                }
                settings
            };
            client.batch_execute("BEGIN").await.expect("begun");
            for (name, value) in settings {
                client.execute("SELECT set_config($1, $2, true)", &[&name, &value]).await.expect("a setting");
            }
        }
        let statement = client.prepare(statement).await.expect("prepared");
        (client, statement)
    }
}
