//! Rotation: credentials with a grace, the key-encryption key without touching a row, a data key with every row.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use zk_crypto::{Encryptor, EncryptorConfig, PostgresKeyStore, Reseal, Scope};
use zk_policy::{Document, Session};

use crate::Result;
use crate::guard::POLICY;
use crate::keys::{KEY_READER, Keys};
use crate::narrate::{ensure, holds, refused, step};
use crate::service::place;
use crate::services::Deployment;
use crate::world::{TENANT_1, World};

pub async fn rotate_credentials(world: &mut World, deployment: &mut Deployment) -> Result<()> {
    step("Rotate the credential of orders");
    let grace = Duration::from_secs(3);
    let service = deployment.manifest.service("orders")?;
    let new = deployment.issuer.rotate(&mut world.deployer, service, grace).await?;
    let old = std::mem::replace(&mut deployment.orders, new);
    drop(deployment.login(&old).connect().await?);
    drop(deployment.login(&deployment.orders).connect().await?);
    holds(format!(
        "within the grace both work: {} and {}",
        old.lease().login,
        deployment.orders.lease().login
    ));
    tokio::time::sleep(grace).await;
    let outcome = deployment.login(&old).connect().await;
    let outcome = outcome.map(|_| "a connection".to_owned()).map_err(|e| format!("{:?}", e.kind()));
    refused("the old credential after its grace", outcome, "Denied")?;
    drop(deployment.login(&deployment.orders).connect().await?);
    let reaped = deployment.issuer.reap(&mut world.deployer).await?;
    ensure(
        reaped.ended.len() == 1 && reaped.failed.is_empty(),
        "reaping did not end the one lease that ended",
    )?;
    holds("the new one works, and the old login is reaped");
    Ok(())
}

pub async fn rotate_key_encryption_key(world: &World, keys: &Keys) -> Result<()> {
    step("Rotate the key-encryption key");
    let checksum =
        "SELECT md5(string_agg(coalesce(ssn, '') || coalesce(card, ''), '' ORDER BY id)) FROM customers";
    let superuser = world.database.connect().await?;
    let before: String = superuser.query_one(checksum, &[]).await?.get(0);
    let version = keys.kms.rotate()?;
    let done = keys.encryptor.rewrap_keys(|_| ()).await?;
    ensure(
        done.rewrapped == done.total && done.total == 2,
        format!("not every key was wrapped again: {done:?}"),
    )?;
    let after: String = superuser.query_one(checksum, &[]).await?.get(0);
    ensure(before == after, "a row changed")?;
    holds(format!(
        "{} data keys wrapped again under version {}; no row touched",
        done.rewrapped,
        version.as_str()
    ));
    Ok(())
}

pub async fn rotate_data_key(keys: &Keys, deployment: &Deployment) -> Result<()> {
    step("Rotate the data key of tenant 1, and reseal its rows");
    let scope = Scope::tenant(TENANT_1)?;
    let old = keys.encryptor.active_key(&scope).await?;
    keys.encryptor.rotate_key(&scope).await?;

    // The job is a service of its own, which may read and write nothing but the sealed columns of one tenant.
    let session = Session::new(&Document::parse(POLICY)?, "keeper")?;
    let login = || deployment.login(&deployment.keeper);
    let store = PostgresKeyStore::new(login().acting_as(KEY_READER).pool(2)?);
    let encryptor = Encryptor::new(keys.kms.clone(), Arc::new(store), EncryptorConfig::default())?;
    let mut client = login().acting_as(session.database_role()).connect().await?;
    let bar = progress_bar();
    let (shown, places) = (bar.clone(), scope.clone());
    let job = Reseal::new(("public", "customers"), "id", "ssn", scope.clone())
        .context(move |row| place("ssn", &places, row.parse().unwrap_or_default()))
        .settings([("zk.tenant", TENANT_1)])
        .batch_size(100)
        .progress(move |progress| {
            shown.set_length(progress.total);
            shown.set_position(progress.done);
        });
    let waiting: u64 = job.remaining(&mut client, &encryptor).await?.values().sum();
    let resealed = job.run(&mut client, &encryptor).await?;
    bar.finish_and_clear();
    ensure(resealed == waiting && resealed == 1000, format!("{resealed} of {waiting} rows were resealed"))?;
    ensure(job.remaining(&mut client, &encryptor).await?.is_empty(), "rows are left under the old key")?;
    holds(format!("{resealed} rows resealed; none is left under the old key"));
    keys.encryptor.destroy_key(old).await?;
    holds("so the old key could be destroyed");
    Ok(())
}

fn progress_bar() -> ProgressBar {
    let style =
        ProgressStyle::with_template("    resealing {bar:40} {pos}/{len} rows, {per_sec}, {eta} left");
    let bar = ProgressBar::new(0);
    style.map_or(bar.clone(), |style| bar.with_style(style))
}
