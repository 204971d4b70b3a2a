//! Policies of 100, 300 and 1000 tables with five roles: checked, planned, applied, planned again.

use testkit::Cluster;
use zk_policy::pg::{self, ApplyConfig};
use zk_policy::{Consent, Document, check};

use crate::{ms, timed};

pub async fn measure(cluster: &Cluster) {
    println!("\n### Policies of five roles\n");
    println!("| tables | check | first plan | steps | apply, verified | plan again, empty | a table |");
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    for tables in [100, 300, 1000] {
        one(cluster, tables).await;
    }
}

async fn one(cluster: &Cluster, tables: usize) {
    let database = cluster.database().await.expect("a database");
    let mut owner = database.connect().await.expect("the superuser");
    let (mut schema, mut text) =
        (String::new(), format!("policy big{tables} claim tenant: uuid claim user: uuid\n"));
    (0..5).for_each(|role| text.push_str(&format!("role r{role}\n")));
    for table in 0..tables {
        schema.push_str(&format!(
            "CREATE TABLE t{table} (id int8, tenant_id uuid NOT NULL, owner_id uuid, a text, c int8, ssn bytea,
             PRIMARY KEY (tenant_id, id));"
        ));
        text.push_str(&format!("table t{table} {{ tenant tenant_id = claim.tenant critical ssn\n"));
        for role in 0..5 {
            text.push_str(&format!(
                "allow r{role} select, insert, update where owner_id = claim.user or c > {role}
                 columns r{role} select all except a\n"
            ));
        }
        text.push_str("}\n");
    }
    owner.batch_execute(&schema).await.expect("tables");

    let document = Document::parse(&text).expect("it parses");
    let schema = pg::read_schema(&mut owner).await.expect("a schema");
    let (policy, checked) = timed(async { check(&document, &schema) }).await;
    let policy = policy.expect("it checks");
    let (plan, planned) = timed(pg::plan(&mut owner, &policy)).await;
    let plan = plan.expect("a plan");
    let steps = plan.steps.len();
    let accepted = plan.accept(Consent::Widening).expect("accepted");
    let (applied, apply) = timed(pg::apply(&mut owner, accepted, &ApplyConfig::default())).await;
    applied.expect("applied");
    let (empty, again) = timed(pg::plan(&mut owner, &policy)).await;
    assert!(empty.expect("a plan").is_empty());
    println!(
        "| {tables} | {:.0} ms | {:.0} ms | {steps} | {:.0} ms | {:.0} ms | {:.2} ms |",
        ms(checked),
        ms(planned),
        ms(apply),
        ms(again),
        ms(again) / tables as f64,
    );
}
