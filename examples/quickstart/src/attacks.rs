//! Every wrong thing, tried for real: with the services' own credentials, against the server that runs.

use secrecy::{ExposeSecret, SecretString};
use testkit::{Cluster, ClusterConfig};
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::{Client, NoTls};
use zk_creds::postgres::{Endpoint, Login};
use zk_crypto::{Scope, Sealed};
use zk_policy::{Document, Session};

use crate::Result;
use crate::guard::POLICY;
use crate::keys::Keys;
use crate::narrate::{ensure, holds, refused, step};
use crate::service::place;
use crate::services::Deployment;
use crate::world::{ANN, MEI, TENANT_1, TENANT_2, World};

pub async fn try_everything(world: &World, keys: &Keys, deployment: &Deployment) -> Result<()> {
    step("Try every wrong thing");
    other_tenants_and_columns(deployment).await?;
    sealed_values(keys, deployment).await?;
    connections(world, deployment).await
}

/// A session of a service, with the claims of one user.
struct Actor {
    client: Client,
    session: Session,
}

impl Actor {
    async fn new(login: Login, role: &str, tenant: &str, user: &str) -> Result<Self> {
        let session =
            Session::new(&Document::parse(POLICY)?, role)?.claim("tenant", tenant)?.claim("user", user)?;
        let client = login.connect().await?;
        session.enter(&client).await?;
        Ok(Self { client, session })
    }

    /// Runs a statement in a transaction that is never committed; gives the rows affected, or the SQLSTATE.
    async fn attempt(&mut self, statement: &str) -> Result<std::result::Result<u64, String>> {
        let transaction = self.session.begin(&mut self.client).await?;
        match transaction.execute(statement, &[]).await {
            Ok(rows) => Ok(Ok(rows)),
            Err(error) => Ok(Err(sqlstate(&error))),
        }
    }
}

fn sqlstate(error: &tokio_postgres::Error) -> String {
    error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned())
}

async fn other_tenants_and_columns(deployment: &Deployment) -> Result<()> {
    let mut agent = Actor::new(deployment.login(&deployment.orders), "agent", TENANT_1, ANN).await?;
    let mut manager = Actor::new(deployment.login(&deployment.billing), "manager", TENANT_2, MEI).await?;

    let own = agent.attempt("SELECT id FROM customers").await?;
    ensure(own == Ok(1000), format!("the agent sees {own:?} rows, not the 1000 that are its own"))?;
    let all = manager.attempt("SELECT id FROM customers").await?;
    ensure(all == Ok(2000), format!("the manager sees {all:?} rows, not the 2000 of its tenant"))?;
    holds("an agent sees its 1000 customers, a manager the 2000 of its tenant");

    // Rows that are hidden are not there: reading and updating them does nothing, and tells nothing.
    for (attempt, sql) in [
        (
            "an agent reads another tenant's customers",
            format!("SELECT id FROM customers WHERE tenant_id = '{TENANT_2}'"),
        ),
        ("an agent updates them", format!("UPDATE customers SET phone = '0' WHERE tenant_id = '{TENANT_2}'")),
        (
            "an agent reads a colleague's customers",
            format!("SELECT id FROM customers WHERE owner_id <> '{ANN}'"),
        ),
    ] {
        let outcome = agent.attempt(&sql).await?;
        let outcome = outcome.and_then(|rows| if rows == 0 { Err("0 rows".to_owned()) } else { Ok(rows) });
        refused(attempt, outcome.map(affected), "0 rows")?;
    }
    let row = format!("(9001, '{TENANT_2}', '{ANN}', 'x', 'DE')");
    let insert = format!("INSERT INTO customers (id, tenant_id, owner_id, name, country) VALUES {row}");
    for (attempt, sql) in [
        ("an agent inserts a row for another tenant", insert.as_str()),
        ("an agent reads a hidden column", "SELECT credit_limit FROM customers"),
        ("an agent reads all columns", "SELECT * FROM customers"),
        ("an agent filters by a hidden column", "SELECT id FROM customers WHERE credit_limit > 5000"),
        ("an agent updates a read-only column", "UPDATE customers SET name = 'x'"),
        ("an agent deletes", "DELETE FROM customers"),
        ("an agent truncates", "TRUNCATE customers"),
        ("an agent becomes manager", "SET ROLE crm_manager"),
        ("an agent becomes keeper", "SET ROLE crm_keeper"),
        ("an agent switches row-level security off", "ALTER TABLE customers DISABLE ROW LEVEL SECURITY"),
        ("an agent reads the leases", "SELECT * FROM zk.leases"),
        ("the role of agents reads the wrapped keys", "SELECT * FROM zk.data_keys"),
    ] {
        refused(attempt, agent.attempt(sql).await?.map(affected), "42501")?;
    }
    let moved = format!("UPDATE customers SET tenant_id = '{TENANT_1}'");
    for (attempt, sql) in [
        ("a manager moves a row to another tenant", moved.as_str()),
        ("a manager changes the total of an invoice", "UPDATE invoices SET total_cents = 0"),
    ] {
        refused(attempt, manager.attempt(sql).await?.map(affected), "42501")?;
    }
    Ok(())
}

fn affected(rows: u64) -> String {
    format!("{rows} rows")
}

async fn sealed_values(keys: &Keys, deployment: &Deployment) -> Result<()> {
    let mut agent = Actor::new(deployment.login(&deployment.orders), "agent", TENANT_1, ANN).await?;
    for (attempt, sql) in [
        ("an agent stores plaintext in a critical column", "UPDATE customers SET ssn = '078-05-1120'"),
        ("… and a long one", "UPDATE customers SET ssn = convert_to(repeat('plaintext ', 9), 'UTF8')"),
    ] {
        refused(attempt, agent.attempt(sql).await?.map(affected), "23514")?;
    }
    let scope = Scope::tenant(TENANT_1)?;
    let transaction = agent.session.begin(&mut agent.client).await?;
    let row = transaction
        .query_one("SELECT id, ssn FROM customers WHERE ssn IS NOT NULL ORDER BY id LIMIT 1", &[])
        .await?;
    let (id, sealed): (i64, Sealed) = (row.get(0), row.get(1));
    let mut changed = sealed.as_bytes().to_vec();
    changed.iter_mut().last().into_iter().for_each(|byte| *byte ^= 1);
    let changed = Sealed::parse(&changed)?;
    let other_tenant = Scope::tenant(TENANT_2)?;
    for (attempt, scope, place, sealed) in [
        ("a sealed ssn is moved to another row", &scope, place("ssn", &scope, id + 1), &sealed),
        ("a sealed ssn is moved to the column card", &scope, place("card", &scope, id), &sealed),
        ("a sealed ssn is moved to another tenant", &other_tenant, place("ssn", &other_tenant, id), &sealed),
        ("one bit of a sealed ssn is flipped", &scope, place("ssn", &scope, id), &changed),
    ] {
        let outcome = keys.encryptor.open(scope, &place, sealed).await;
        refused(
            attempt,
            outcome.map(|_| "it opened".to_owned()).map_err(|e| format!("{:?}", e.kind())),
            "Open",
        )?;
    }
    keys.encryptor.open(&scope, &place("ssn", &scope, id), &sealed).await?;
    holds("in its own place it opens");
    Ok(())
}

async fn connections(world: &World, deployment: &Deployment) -> Result<()> {
    let orders = &deployment.orders;
    let (login, password) = (orders.lease().login.as_str(), orders.password());

    let mut plaintext = world.database.config(login, password.expose_secret());
    plaintext.ssl_mode(SslMode::Disable).channel_binding(ChannelBinding::Disable);
    let outcome = plaintext.connect(NoTls).await;
    refused(
        "a connection without TLS",
        outcome.map(|_| "a connection".to_owned()).map_err(|e| sqlstate(&e)),
        "28000",
    )?;

    // A server that is not ours: it runs, it speaks TLS, another authority signed its certificate.
    let impostor = tokio::task::spawn_blocking(|| Cluster::start(ClusterConfig::default())).await??;
    let at_impostor = Endpoint { port: impostor.port(), ..deployment.endpoint.clone() };
    let outcome = Login::of(at_impostor, orders).connect().await;
    refused("a server with the wrong certificate", kind(outcome), "Untrusted")?;
    let wrong = Login::new(deployment.endpoint.clone(), login, SecretString::from("wrong"));
    refused("a wrong password", kind(wrong.connect().await), "Denied")?;
    let manager = deployment.login(orders).acting_as("crm_manager");
    refused("orders connects as a role that is not its own", kind(manager.connect().await), "Denied")
}

fn kind(outcome: std::result::Result<Client, zk_creds::Error>) -> std::result::Result<String, String> {
    outcome.map(|_| "a connection".to_owned()).map_err(|e| format!("{:?}", e.kind()))
}
