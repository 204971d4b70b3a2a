//! While users work: certificates and the authority behind them, the keys of tokens and of claims, the key-encryption key, a
//! data key, the key of an index, and the logins.

use std::time::{Duration, Instant};

use zk_creds::secret::{SecretName, Stage};
use zk_creds::signed::SigningKey;
use zk_creds::tls::{Material, Tls};
use zk_crypto::{Encryptor, Scope, retire_key};
use zk_policy::pg::{self, ClaimKey};

use super::identities::{Identities, new_authority};
use super::processes::{SERVICES, Solution};
use super::table::{Table, ensure};
use super::users::{Clinic, TENANTS};
use super::world::{CLAIMS, World};
use crate::http::Http;
use crate::{Result, records};

/// Longer than a request takes.
const IN_FLIGHT: Duration = Duration::from_secs(1);
/// How long the worker may take.
const PATIENCE: Duration = Duration::from_secs(40);
/// Everybody who has a certificate.
const HOLDERS: [&str; 4] = ["issuer", "worker", "rest", "graphql"];

pub async fn rotate_everything(solution: &mut Solution, clinic: &Clinic, table: &mut Table) -> Result<()> {
    rotate_authority(solution, table).await?;
    rotate_token_key(solution, table).await?;
    rotate_claim_key(solution, table).await?;
    rotate_key_encryption_key(&solution.world, table).await?;
    rotate_data_key(&solution.world, clinic, table).await?;
    rotate_index_key(&solution.world, clinic, table).await?;
    logins_rotated(solution, table).await
}

/// In the order of the runbook: at every step each side trusts what the other shows.
async fn rotate_authority(solution: &mut Solution, table: &mut Table) -> Result<()> {
    let next = new_authority()?;
    let Solution { world, identities, browser, .. } = solution;
    let (old_root, new_root) = (identities.roots.clone(), next.certificate().to_owned());
    let seen = world.ages.seen();
    trust(identities, browser, format!("{old_root}{new_root}"))?;
    tokio::time::sleep(seen).await;
    identities.replace_authority(next);
    identities.issue(&world.issuer, &mut world.deployer, &HOLDERS).await?;
    identities.publish()?;
    tokio::time::sleep(seen).await;
    trust(identities, browser, new_root.clone())?;
    tokio::time::sleep(seen).await;
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

fn trust(identities: &mut Identities, browser: &Tls, roots: String) -> Result<()> {
    browser.reload(Material::trusting(roots.as_str()))?;
    identities.roots = roots;
    identities.publish()
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

/// Services trust the next key before anything is signed with it, and the old one until nobody has a token of it any more: here
/// everybody signs in again at once.
async fn rotate_token_key(solution: &mut Solution, table: &mut Table) -> Result<()> {
    let next = SigningKey::generate()?;
    solution.world.token_keys.push(next.public());
    solution.hand_keys().await?;
    solution.world.former = Some(solution.world.sign_in.rotate(next)?);
    tokio::time::sleep(IN_FLIGHT).await;
    solution.world.token_keys.remove(0);
    solution.hand_keys().await?;
    table.holds(
        "the key that signs tokens was replaced",
        "everybody signed in again, and the old key is refused",
    );
    Ok(())
}

/// The database takes both keys until every service signs with the next one.
async fn rotate_claim_key(solution: &mut Solution, table: &mut Table) -> Result<()> {
    let next = ClaimKey::generate()?;
    let World { deployer, secrets, .. } = &solution.world;
    pg::add_claim_key(deployer, &next).await?;
    let name = SecretName::new(CLAIMS)?;
    let before = secrets.read(&name, Stage::Current).await?;
    secrets.put(&name, &next.to_text(), before.version()).await?;
    solution.hand_keys().await?;
    let old = std::mem::replace(&mut solution.world.claim_key, next.id().to_owned());
    pg::remove_claim_key(&solution.world.deployer, &old).await?;
    table.holds("the key that signs claims was replaced", "and the database takes the old one no longer");
    Ok(())
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

/// The worker seals every row of one clinic again under its next key, while it is read and written.
async fn rotate_data_key(world: &World, clinic: &Clinic, table: &mut Table) -> Result<()> {
    let encryptor: &Encryptor = &world.encryptor;
    let [tenant, ..] = TENANTS;
    let scope = Scope::tenant(&tenant.to_string())?;
    let old = encryptor.active_key(&scope).await?;
    let jobs = records::reseals(&scope);
    let new = encryptor.rotate_key(&scope).await?;
    // Services go on sealing under the old key for as long as they keep it.
    tokio::time::sleep(world.ages.key).await;
    // The administrator sees every row, and looks on.
    let mut client = world.database.connect().await?;
    let start = Instant::now();
    for job in &jobs {
        while !job.remaining(&mut client, encryptor).await?.is_empty() {
            ensure(start.elapsed() < PATIENCE, "the worker seals nothing again")?;
            tokio::time::sleep(IN_FLIGHT).await;
        }
    }
    // Requests that have read a row as it was open it first. From then on, a value left behind would be a failed request.
    tokio::time::sleep(IN_FLIGHT).await;
    retire_key(&mut client, encryptor, old, &jobs.each_ref()).await?;
    let sql = "SELECT count(*) FROM patients WHERE substr(email, 2, 16) = $1";
    let patients = client.query_one(sql, &[&new.as_bytes().as_slice()]).await?.get(0);
    at_least(clinic, patients)?;
    let how =
        format!("the worker sealed {patients} patients and their papers again, and the old key is destroyed");
    table.holds("the data key of a clinic was rotated", how);
    Ok(())
}

/// Patients are found under both keys until the worker has given each its token under the next one.
async fn rotate_index_key(world: &World, clinic: &Clinic, table: &mut Table) -> Result<()> {
    let encryptor: &Encryptor = &world.encryptor;
    let [tenant, ..] = TENANTS;
    let scope = Scope::tenant(&tenant.to_string())?;
    let keys = records::emails()?.key_scope(&scope)?;
    let old = encryptor.active_key(&keys).await?;
    encryptor.rotate_key(&keys).await?;
    let job = records::reindex(&scope)?.only("tenant_id", &tenant.to_string());
    let mut client = world.database.connect().await?;
    let start = Instant::now();
    while job.remaining(&mut client, encryptor).await? > 0 {
        ensure(start.elapsed() < PATIENCE, "the worker indexes nothing again")?;
        tokio::time::sleep(IN_FLIGHT).await;
    }
    // Whoever asked for the keys before still searches and writes with the old one.
    tokio::time::sleep(IN_FLIGHT).await;
    encryptor.destroy_key(old).await?;
    let sql = "SELECT count(email_even) FROM patients WHERE tenant_id = $1";
    let patients = client.query_one(sql, &[&tenant]).await?.get(0);
    at_least(clinic, patients)?;
    let how = format!(
        "the worker gave {patients} patients tokens under the next one, and the old one is destroyed"
    );
    table.holds("the key of the blind index was rotated", how);
    Ok(())
}

/// That a clinic has as many patients as were registered before the drive, or more.
fn at_least(clinic: &Clinic, patients: i64) -> Result<()> {
    let known = clinic.patients.len() / TENANTS.len();
    ensure(patients >= i64::try_from(known)?, format!("{patients} patients, of {known} and more"))
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
