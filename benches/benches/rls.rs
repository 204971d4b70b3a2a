//! What does a policy cost on top of a hand-written WHERE? `cargo bench -p benches --bench rls`
//!
//! 1,000,000 rows of 1,000 tenants on a private server. The hand-written side is a role with BYPASSRLS that puts the
//! tenant into every statement; the other side says nothing of tenants and is held by the generated policy. Both run
//! prepared statements in a transaction with the claims set, in turns. What is measured is the time that the server's
//! process has spent on a processor (Linux: `/proc/<pid>/schedstat`), which neither the network nor TLS on the client's
//! side is part of. A write is rolled back to a savepoint; the savepoint is measured with it, on both sides.

use std::time::Duration;

use benches::Table;
use testkit::{Cluster, ClusterConfig, Database};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Statement};
use zk_policy::pg::{self, ApplyConfig, ClaimKey};
use zk_policy::{Consent, Document, Policy, Session, check};

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
                "SELECT id, note FROM orders WHERE tenant_id = 500 AND id = 500500 AND (owner = 7 OR state IN ('open', 'sent'))",
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
                "UPDATE orders SET note = 'y' WHERE tenant_id = 500 AND id = 500500 AND (owner = 7 OR state IN ('open', 'sent'))",
                "UPDATE orders SET note = 'y' WHERE id = 500500",
            ),
        ] {
            let mut table = Table::new(format!("{title}, {claims}"), 0);
            table.timed("hand-written WHERE, no row-level security", lab.runner(&runtime, "by_hand", hand));
            table.timed("generated policy", lab.runner(&runtime, "agent", ours));
            table.print();
        }
        let mut table = Table::new(format!("masked page of 50, {claims}"), 0);
        let hand = "SELECT id, note FROM orders WHERE tenant_id = 500 ORDER BY id LIMIT 50";
        table.timed("hand-written WHERE, no mask", lab.runner(&runtime, "by_hand", hand));
        table.timed(
            "generated mask",
            lab.runner(&runtime, "auditor", "SELECT id, note FROM orders ORDER BY id LIMIT 50"),
        );
        table.print();
    }
}

struct Lab {
    database: Database,
    policy: Policy,
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
        Self { database, policy, key }
    }

    /// Runs `statement` as `role`, in a transaction that holds for all runs.
    fn runner<'r>(
        &self,
        runtime: &'r Runtime,
        role: &str,
        statement: &str,
    ) -> impl FnMut(u32) -> Duration + use<'r> {
        let writes = !statement.starts_with("SELECT");
        let (client, statement, pid) = runtime.block_on(self.prepare(role, statement));
        move |times| {
            let before = on_processor(pid);
            runtime.block_on(async {
                for _ in 0..times {
                    if writes {
                        client.batch_execute("SAVEPOINT s").await.expect("a savepoint");
                    }
                    client.query(&statement, &[]).await.expect("the statement");
                    if writes {
                        client.batch_execute("ROLLBACK TO SAVEPOINT s").await.expect("a rollback");
                    }
                }
            });
            on_processor(pid) - before
        }
    }

    /// A connection in a transaction that never ends, its statement, and the process of the server behind it.
    async fn prepare(&self, role: &str, statement: &str) -> (&'static Client, Statement, i32) {
        let client: &'static mut Client =
            Box::leak(Box::new(self.database.connect().await.expect("the superuser")));
        let pid = client.query_one("SELECT pg_backend_pid()", &[]).await.expect("a process").get(0);
        if role == "by_hand" {
            client.batch_execute("SET ROLE by_hand; BEGIN").await.expect("a role");
            let statement = client.prepare(statement).await.expect("prepared");
            return (client, statement, pid);
        }
        let session = Session::new(&self.policy, role).expect("declared");
        let session =
            session.claim("tenant", TENANT).expect("a claim").claim("user", 7_i64).expect("a claim");
        session.enter(client).await.expect("a role");
        let transaction = match &self.key {
            Some(key) => session.signed(key).begin(client).await.expect("begun"),
            None => session.begin(client).await.expect("begun"),
        };
        let transaction = Box::leak(Box::new(transaction));
        let statement = transaction.prepare(statement).await.expect("prepared");
        (transaction, statement, pid)
    }
}

/// How long a process has been on a processor.
fn on_processor(pid: i32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("Linux");
    let nanos = text.split_ascii_whitespace().next().and_then(|text| text.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}
