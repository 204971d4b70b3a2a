//! An accepted plan into the database: one transaction, verified before it commits.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio_postgres::{Client, IsolationLevel, SimpleQueryMessage, Transaction};

use super::{Error, ErrorKind, check_version, read};
use crate::catalog::State;
use crate::plan::{Accepted, LOCK_TIMEOUT, Plan, Step};
use crate::sql;

/// How many steps an error names.
const NAMED: usize = 3;

/// How many statements travel together.
const TOGETHER: usize = 100;

/// How patiently a plan is applied.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ApplyConfig {
    /// How long one attempt waits for a table that others have locked. While it waits, queries on that table queue
    /// up behind it, so keep it short. Default: half a second, less than the server's `deadlock_timeout`: where an
    /// application takes the same locks in another order, the apply gives up first and not the application.
    pub lock_timeout: Duration,
    /// How long it stands back after the first attempt; twice as long after the second, and so on. Default: 200
    /// milliseconds.
    pub pause: Duration,
    /// How many attempts are made before giving up. Default: 5.
    pub attempts: u32,
}

impl Default for ApplyConfig {
    fn default() -> Self {
        Self { lock_timeout: LOCK_TIMEOUT, pause: Duration::from_millis(200), attempts: 5 }
    }
}

/// What an apply did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// How many steps of the plan were carried out.
    pub steps: usize,
}

/// Applies a plan in one transaction: locks out other applies, re-reads the catalog and compares it with what the plan
/// was made for, carries out the steps, re-reads, and commits only if the result is what the policy wants.
///
/// Dropping the future rolls back.
///
/// # Errors
/// [`ErrorKind::Changed`] (also when another apply came first), [`ErrorKind::Locked`], [`ErrorKind::Denied`],
/// [`ErrorKind::Unverified`] and others; after any of them the database is as it was.
pub async fn apply(client: &mut Client, accepted: Accepted, config: &ApplyConfig) -> Result<Applied, Error> {
    let Accepted(plan) = accepted;
    check_version(client).await?;
    let mut attempt = 1;
    loop {
        match attempt_apply(client, &plan, config).await {
            Err(error) if error.kind() == ErrorKind::Locked && attempt < config.attempts => {
                stand_back(client, config.pause.saturating_mul(attempt)).await?;
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// Lets those through that wait for the same tables. The server's clock does, so that no runtime is asked for a timer.
async fn stand_back(client: &Client, pause: Duration) -> Result<(), Error> {
    client.query("SELECT pg_catalog.pg_sleep($1)", &[&pause.as_secs_f64()]).await?;
    Ok(())
}

async fn attempt_apply(client: &mut Client, plan: &Plan, config: &ApplyConfig) -> Result<Applied, Error> {
    // SECURITY: what the lock waited for must be seen after it, whatever the default isolation: each statement reads anew.
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .read_only(false)
        .start()
        .await?;
    read::pin_search_path(&transaction).await?;
    let timeout = format!("{}ms", config.lock_timeout.as_millis().max(1));
    transaction.query("SELECT set_config('lock_timeout', $1, true)", &[&timeout]).await?;
    lock_out_others(&transaction, plan).await?;
    let before = read::catalog(&transaction, &plan.policy, &plan.desired).await?;
    if before.digest() != plan.against {
        let message = "the database changed since the plan was made; plan again and review what is different";
        return Err(Error::new(ErrorKind::Changed, message));
    }
    refuse_dependents(&transaction, plan, &before).await?;
    carry_out(&transaction, plan).await?;
    let after = read::catalog(&transaction, &plan.policy, &plan.desired).await?;
    let mut left = Plan::new(&plan.policy, &plan.desired, plan.desired.clone(), &after);
    if plan.removes_drift {
        left = left.removing_drift();
    }
    if !left.is_empty() {
        let left: Vec<&str> = left.steps.iter().map(|step| step.summary.as_str()).take(NAMED).collect();
        let message = format!(
            "the server accepted the plan but did not carry all of it out, so nothing was kept; the connected role \
             may not own what these concern: {}",
            left.join("; ")
        );
        return Err(Error::new(ErrorKind::Unverified, message));
    }
    transaction.commit().await?;
    Ok(Applied { steps: plan.steps.len() })
}

/// Refuses to drop a view that something else is built on, before anything is changed: it would go with it, or keep it.
async fn refuse_dependents(transaction: &Transaction<'_>, plan: &Plan, before: &State) -> Result<(), Error> {
    let (schemas, views): (Vec<&str>, Vec<&str>) = before
        .views
        .iter()
        .filter(|(name, view)| plan.desired.views.get(*name) != Some(*view))
        .map(|(name, _)| (name.schema.as_str(), name.table.as_str()))
        .unzip();
    let rows = transaction
        .query(
            "WITH gone AS (
               SELECT c.oid, c.reltype FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
               JOIN pg_namespace n ON n.nspname = wanted.schema
               JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name)
             SELECT DISTINCT format('%s is built on view %s',
                      CASE WHEN r.oid IS NULL THEN pg_describe_object(d.classid, d.objid, d.objsubid)
                           ELSE pg_describe_object('pg_class'::regclass, r.ev_class, 0) END, g.oid::regclass)
             FROM gone g JOIN pg_depend d ON d.deptype = 'n'
               AND (d.refclassid = 'pg_class'::regclass AND d.refobjid = g.oid
                    OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (g.reltype,
                         (SELECT t.typarray FROM pg_type t WHERE t.oid = g.reltype)))
             LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
             WHERE r.ev_class IS DISTINCT FROM g.oid
               AND (r.ev_class IS NULL OR r.ev_class NOT IN (SELECT oid FROM gone)) ORDER BY 1",
            &[&schemas, &views],
        )
        .await?;
    if rows.is_empty() {
        return Ok(());
    }
    let found: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let message = format!(
        "a view with masked columns has to be made anew, and nothing was changed: {}; drop what is built on it, and make \
         it again when the plan is applied",
        found.join("; ")
    );
    Err(Error::new(ErrorKind::DependedOn, message))
}

/// Sends many statements together: over a network, a plan of thousands would else wait for each.
async fn carry_out(transaction: &Transaction<'_>, plan: &Plan) -> Result<(), Error> {
    let statements: Vec<(&Step, &str)> =
        plan.steps.iter().flat_map(|step| step.sql.iter().map(move |sql| (step, sql.as_str()))).collect();
    for together in statements.chunks(TOGETHER) {
        let script: Vec<&str> = together.iter().map(|(_, sql)| *sql).collect();
        let mut answers = pin!(transaction.client().simple_query_raw(&script.join(";\n")).await?);
        let mut waiting = together.iter();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(SimpleQueryMessage::CommandComplete(_)) => drop(waiting.next()),
                Ok(_) => {}
                Err(error) => {
                    let step = waiting.next().map_or("", |(step, _)| &step.summary);
                    return Err(Error::from(error).during(step));
                }
            }
        }
    }
    Ok(())
}

/// Makes applies to the same tables wait for each other. The lock lets reads and writes through; unlike an advisory lock,
/// only those who may change the tables can hold it.
async fn lock_out_others(transaction: &Transaction<'_>, plan: &Plan) -> Result<(), Error> {
    let tables: Vec<String> = plan.desired.tables.keys().map(sql::table).collect();
    if !tables.is_empty() {
        let lock = format!("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE", tables.join(", "));
        transaction.batch_execute(&lock).await?;
    }
    Ok(())
}
