//! How long does it take to check, plan and apply a policy of 1,000 tables and 5 roles? `cargo bench -p benches --bench plan`

use std::time::Instant;

use testkit::{Cluster, ClusterConfig};
use tokio::runtime::Runtime;
use zk_policy::pg::{self, ApplyConfig};
use zk_policy::{Consent, Document, Schema, check};

const TABLES: usize = 1000;

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(measure());
}

async fn measure() {
    // A transaction that changes a thousand tables locks each of them.
    let mut config = ClusterConfig::for_benchmarks();
    config.settings.push(("max_locks_per_transaction".to_owned(), "4096".to_owned()));
    let cluster = Cluster::start(config).expect("a server");
    document(&cluster, false).await;
    document(&cluster, true).await;
    let resident = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = resident.lines().find(|l| l.starts_with("VmHWM")).unwrap_or("VmHWM: unknown");
    println!("\nPeak resident memory: {}", resident.trim_start_matches("VmHWM:").trim());
}

/// `asking`: whether two tables of three also ask the one before, by `exists`.
async fn document(cluster: &Cluster, asking: bool) {
    let database = cluster.database().await.expect("a database");
    let mut owner = database.connect().await.expect("the superuser");
    let mut tables = String::new();
    let mut text = String::from("policy big\nclaim tenant: uuid\nclaim user: uuid\n");
    for role in 0..5 {
        text.push_str(&format!("role r{role}\n"));
    }
    for table in 0..TABLES {
        tables.push_str(&format!(
            "CREATE TABLE t{table} (id int8 PRIMARY KEY, tenant_id uuid NOT NULL, owner_id uuid, a text, b text, c int8, ssn bytea, \
             before int8 REFERENCES t{});",
            table.saturating_sub(1)
        ));
        text.push_str(&format!("table t{table} {{ tenant tenant_id = claim.tenant critical ssn\n"));
        let asked = if !asking || table % 3 == 0 {
            String::new()
        } else {
            format!(" or exists t{} via before where c > 0", table - 1)
        };
        for role in 0..5 {
            text.push_str(&format!(
                "allow r{role} select, insert, update where owner_id = claim.user or c > {role}{asked}\n\
                 columns r{role} select all except a\n"
            ));
        }
        text.push_str("}\n");
    }
    owner.batch_execute(&tables).await.expect("tables");

    let told = if asking { ", two tables of three ask another" } else { "" };
    println!("\n### {TABLES} tables, 5 roles{told}\n\n| | time |\n|---|---:|");
    let document = timed("parse", || Document::parse(&text).expect("it parses"));
    let start = Instant::now();
    let schema = pg::read_schema(&mut owner).await.expect("a schema");
    print("read the schema", start);
    let policy = timed("check", || check(&document, &schema).expect("it checks"));
    if asking {
        hostile(&schema);
    }
    let start = Instant::now();
    let plan = pg::plan(&mut owner, &policy).await.expect("a plan");
    print(&format!("first plan ({} steps)", plan.steps.len()), start);
    let start = Instant::now();
    pg::apply(&mut owner, plan.accept(Consent::Widening).expect("accepted"), &ApplyConfig::default())
        .await
        .expect("applied");
    print("apply, verified", start);
    let start = Instant::now();
    assert!(pg::plan(&mut owner, &policy).await.expect("a plan").is_empty());
    print("plan again, empty", start);
}

/// Short texts that come to much: roles that include each other in a chain, and tables that ask each other in one.
fn hostile(schema: &Schema) {
    let mut roles = String::from("policy hostile\nrole r0\n");
    (1..200).for_each(|role| roles.push_str(&format!("role r{role} includes r{}\n", role - 1)));
    let chain = |length: usize| {
        let block = |table: usize| {
            let asked =
                if table == 0 { String::new() } else { format!(" where exists t{} via before", table - 1) };
            format!("table t{table} {{ shared allow r0 select{asked} }}\n")
        };
        roles.clone() + &(0..length).map(block).collect::<String>()
    };
    let rule = |n: usize| {
        format!("allow r{n} select, insert, update, delete where exists t0 via before where c > {n}\n")
    };
    let wide = (0..200).map(rule).collect::<String>();
    let wide = format!("{roles}table t0 {{ shared allow r0 select }}\ntable t1 {{ shared {wide} }}\n");
    for (what, text) in
        [("a chain of 100", chain(100)), ("a chain of 200", chain(200)), ("one rule for each of 200", wide)]
    {
        let document = Document::parse(&text).expect("it parses");
        let start = Instant::now();
        let told = if check(&document, schema).is_ok() { "checked" } else { "refused" };
        print(&format!("{what} `exists`, 200 roles, {} KiB: {told}", text.len() / 1024), start);
    }
}

fn timed<R>(what: &str, run: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = run();
    print(what, start);
    result
}

fn print(what: &str, start: Instant) {
    println!("| {what} | {:.0} ms |", start.elapsed().as_secs_f64() * 1e3);
}
