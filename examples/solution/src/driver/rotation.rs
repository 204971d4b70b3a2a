//! While users work: certificates, the authority behind them, the key-encryption key, a data key, and the logins.

use std::time::{Duration, Instant};

use zk_creds::tls::{Material, Tls};
use zk_crypto::{Column, Encryptor, Reseal, Scope, retire_key};

use super::identities::{Identities, new_authority};
use super::processes::{SERVICES, Solution};
use super::table::{Table, ensure};
use super::users::{Clinic, TENANTS};
use super::world::World;
use crate::Result;
use crate::http::Http;
use crate::records::{DIAGNOSIS, DRUG, EMAIL, RECIPIENT};
use crate::service::{KEY_AGE, LOOK};

/// Until every service has looked at its certificate, and every connection from before has ended.
pub const SEEN: Duration = LOOK.saturating_mul(3);
/// The sealed columns, with what names a row of theirs.
const SEALED: [(&str, &str, Column<String>); 4] = [
    ("patients", "id", EMAIL),
    ("patients", "id", DIAGNOSIS),
    ("prescriptions", "token", DRUG),
    ("invoices", "visit_id", RECIPIENT),
];
/// Everybody who has a certificate.
const HOLDERS: [&str; 4] = ["issuer", "worker", "rest", "graphql"];

pub async fn rotate_everything(solution: &mut Solution, clinic: &Clinic, table: &mut Table) -> Result<()> {
    rotate_authority(solution, table).await?;
    rotate_key_encryption_key(&solution.world, table).await?;
    rotate_data_key(&solution.world, clinic, table).await?;
    logins_rotated(solution, table).await
}

/// In the order of the runbook: at every step each side trusts what the other shows.
async fn rotate_authority(solution: &mut Solution, table: &mut Table) -> Result<()> {
    let next = new_authority()?;
    let Solution { world, identities, browser, .. } = solution;
    let (old_root, new_root) = (identities.roots.clone(), next.certificate().to_owned());
    trust(identities, browser, format!("{old_root}{new_root}")).await?;
    identities.replace_authority(next);
    identities.issue(&world.issuer, &mut world.deployer, &HOLDERS).await?;
    identities.publish()?;
    tokio::time::sleep(SEEN).await;
    trust(identities, browser, new_root.clone()).await?;
    for service in SERVICES {
        ensure(
            shows(solution, service, &new_root).await?,
            format!("{service} does not show its new certificate"),
        )?;
        ensure(!shows(solution, service, &old_root).await?, format!("{service} shows its old certificate"))?;
    }
    table.holds("a certificate authority was replaced", "with every certificate, and no restart");
    Ok(())
}

async fn trust(identities: &mut Identities, browser: &Tls, roots: String) -> Result<()> {
    browser.reload(Material::trusting(roots.as_str()))?;
    identities.roots = roots;
    identities.publish()?;
    tokio::time::sleep(SEEN).await;
    Ok(())
}

/// Whether a service's certificate is of this authority. What it answers is another matter.
async fn shows(solution: &Solution, service: &str, root: &str) -> Result<bool> {
    let http = Http::new(&identified(solution, root)?)?;
    let url = solution.url(service)?;
    Ok(http.send(axum::http::Request::get(url), None).await.is_ok())
}

/// A client that trusts `root`, with a certificate that every service lets in.
fn identified(solution: &Solution, root: &str) -> Result<Tls> {
    let Ok(tls) = Tls::new(solution.identities.of("rest")?.material(root)) else {
        // Our own certificate is not of that authority, so neither is what we can show.
        return Ok(Tls::new(Material::trusting(root))?);
    };
    Ok(tls)
}

/// No row is touched: data keys are wrapped again.
async fn rotate_key_encryption_key(world: &World, table: &mut Table) -> Result<()> {
    let version = world.kms.rotate()?;
    let done = world.encryptor.rewrap_keys(|_| ()).await?;
    ensure(
        done.rewrapped == done.total && done.total == 6,
        format!("not every key was wrapped again: {done:?}"),
    )?;
    let how = format!("version {}, {} data keys wrapped again", version.as_str(), done.rewrapped);
    table.holds("the key-encryption key was rotated", how);
    Ok(())
}

/// Every row of one clinic is sealed again under its next key, while it is read and written.
async fn rotate_data_key(world: &World, clinic: &Clinic, table: &mut Table) -> Result<()> {
    let encryptor: &Encryptor = &world.encryptor;
    let [tenant, ..] = TENANTS;
    let scope = Scope::tenant(&tenant.to_string())?;
    let old = encryptor.active_key(&scope).await?;
    encryptor.rotate_key(&scope).await?;
    // Services go on sealing under the old key for as long as they keep it.
    tokio::time::sleep(KEY_AGE + LOOK).await;
    // The administrator's connection: the job knows nothing of signed claims.
    let mut client = world.database.connect().await?;
    let jobs = SEALED.map(|(table, key, column)| {
        let named = scope.clone();
        let job = Reseal::new(("public", table), key, column.name(), scope.clone());
        job.context(move |row| column.context(&named, row)).batch_size(50)
    });
    let mut resealed = 0;
    for job in &jobs {
        resealed += job.run(&mut client, encryptor).await?;
    }
    let known = clinic.patients.iter().filter(|patient| patient.tenant == tenant).count();
    ensure(
        resealed >= 2 * known as u64,
        format!("{resealed} values were resealed, of {known} patients and more"),
    )?;
    // Requests that have read a row as it was open it first. From then on, a value left behind would be a failed request.
    tokio::time::sleep(LOOK).await;
    retire_key(&mut client, encryptor, old, &jobs.each_ref()).await?;
    table.holds(
        "the data key of a clinic was rotated",
        format!("{resealed} values sealed again, and the old key destroyed"),
    );
    Ok(())
}

/// Each service has replaced its own login meanwhile, more than once.
async fn logins_rotated(solution: &mut Solution, table: &mut Table) -> Result<()> {
    let start = Instant::now();
    let sql = "SELECT service, max(generation) FROM zk.leases GROUP BY service ORDER BY service";
    loop {
        let rows = solution.world.deployer.query(sql, &[]).await?;
        let generations: Vec<(String, i32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let rotated = |service: &str| generations.iter().any(|(name, count)| name == service && *count >= 3);
        if SERVICES.iter().all(|service| rotated(service)) {
            let ours = generations.iter().filter(|(name, _)| SERVICES.contains(&name.as_str()));
            let counts: Vec<String> = ours.map(|(name, count)| format!("{name} {count}")).collect();
            table.holds("logins of services, each replacing itself", counts.join(", "));
            return Ok(());
        }
        ensure(start.elapsed() < Duration::from_secs(40), format!("logins do not rotate: {generations:?}"))?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
