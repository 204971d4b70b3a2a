//! A service's own side: all it knows is in its environment. This is what application code looks like.

use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::ExposeSecret;
use tokio_postgres::Client;
use zk_creds::Environment;
use zk_creds::postgres::Login;
use zk_crypto::{Context, Encryptor, EncryptorConfig, PostgresKeyStore, Scope, Sealed};
use zk_kms::{KeyUri, OpenConfig};
use zk_policy::{Document, Session};

use crate::Result;
use crate::guard::POLICY;
use crate::keys::KEY_READER;
use crate::narrate::ensure;

/// The line by which a service says that its work is done and that it stays.
pub const READY: &str = "ready";

pub async fn run(name: &str) -> Result<()> {
    let environment = Environment::take(&[
        "CRM_TENANT",
        "CRM_USER",
        "ZK_KMS_URI",
        "ZK_KEY_RING",
        "ZK_KEY_RING_PASSPHRASE",
    ])?;
    let tenant = environment.get("CRM_TENANT")?.expose_secret();
    let user = environment.get("CRM_USER")?.expose_secret();
    let encryptor = encryptor(&environment).await?;
    let mut client = Login::from_environment()?.connect().await?;
    introduce(&client).await?;
    let document = Document::parse(POLICY)?;
    let session = |role: &str| Session::new(&document, role)?.claim("tenant", tenant)?.claim("user", user);
    let scope = Scope::tenant(tenant)?;
    match name {
        "orders" => {
            let session = session("agent")?;
            session.enter(&client).await?;
            let sealed = seal_column(&mut client, &session, &encryptor, &scope, "ssn").await?;
            println!(
                "as {} sealed the ssn of {sealed} customers of its own, read one back",
                session.database_role()
            );
            Ok(())
        }
        "billing" => {
            let session = session("manager")?;
            session.enter(&client).await?;
            let sealed = seal_column(&mut client, &session, &encryptor, &scope, "card").await?;
            println!(
                "as {} sealed the card of all {sealed} customers of its tenant, read one back",
                session.database_role()
            );
            println!("{READY}");
            until_session_ends(&client).await
        }
        _ => Err(format!("there is no service `{name}`; there are orders and billing").into()),
    }
}

async fn encryptor(environment: &Environment) -> Result<Encryptor> {
    let ring = environment.get("ZK_KEY_RING")?.expose_secret();
    let config = OpenConfig::new().key_ring(ring, environment.get("ZK_KEY_RING_PASSPHRASE")?.clone());
    let kms = zk_kms::open(&KeyUri::parse(environment.get("ZK_KMS_URI")?.expose_secret())?, &config).await?;
    let store = PostgresKeyStore::new(Login::from_environment()?.acting_as(KEY_READER).pool(2)?);
    Ok(Encryptor::new(kms, Arc::new(store), EncryptorConfig::default())?)
}

/// Seals a value for every row that the session may see, writes them in one statement, and reads one back.
async fn seal_column(
    client: &mut Client,
    session: &Session,
    encryptor: &Encryptor,
    scope: &Scope,
    column: &str,
) -> Result<usize> {
    let transaction = session.begin(client).await?;
    let rows = transaction.query("SELECT id FROM customers", &[]).await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let plaintexts: Vec<String> = ids.iter().map(|id| format!("{column} of customer {id}")).collect();
    let values: Vec<(Context, &[u8])> =
        ids.iter().zip(&plaintexts).map(|(id, text)| (place(column, scope, *id), text.as_bytes())).collect();
    let sealed = encryptor.seal_many(scope, &values).await?;
    let update = format!(
        "UPDATE customers SET {column} = s.value FROM unnest($1::int8[], $2::bytea[]) AS s (id, value) WHERE customers.id = s.id"
    );
    let written = transaction.execute(&update, &[&ids, &sealed]).await?;
    ensure(written == ids.len() as u64, "not every row was written")?;
    transaction.commit().await?;

    let transaction = session.begin(client).await?;
    let one = ids.first().ok_or("the session sees no rows")?;
    let row = transaction.query_one(&format!("SELECT {column} FROM customers WHERE id = $1"), &[one]).await?;
    let sealed: Sealed = row.get(0);
    let opened = encryptor.open(scope, &place(column, scope, *one), &sealed).await?;
    ensure(
        opened.as_slice() == format!("{column} of customer {one}").as_bytes(),
        "what was read is not what was written",
    )?;
    Ok(ids.len())
}

/// The place of a customer's column: what its sealed value is bound to.
pub fn place(column: &str, scope: &Scope, id: i64) -> Context {
    Context::column("public.customers", column).tenant(scope.as_str()).row(id.to_string())
}

/// Says who this connection is to the server, and asks the server whether it is encrypted.
async fn introduce(client: &Client) -> Result<()> {
    let row = client
        .query_one("SELECT session_user::text, version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl", &[])
        .await?;
    println!("{} over {} {}", row.get::<_, String>(0), row.get::<_, String>(1), row.get::<_, String>(2));
    Ok(())
}

/// Works on until the server ends the session; that it does not is an error.
async fn until_session_ends(client: &Client) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(30) {
        if client.simple_query("SELECT 1").await.is_err() {
            println!("its session was ended by the server");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err("the session was never ended".into())
}
