//! The deployment's side of the services: credentials issued, children started with their environment, one revoked.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};

use secrecy::SecretString;
use zk_creds::postgres::{Endpoint, Issuer, IssuerConfig, Login};
use zk_creds::{Credential, Environment, Manifest};

use crate::keys::Keys;
use crate::service::READY;
use crate::world::{ANN, MEI, TENANT_1, TENANT_2, World};
use crate::{Result, narrate};

pub struct Deployment {
    pub manifest: Manifest,
    pub issuer: Issuer,
    pub endpoint: Endpoint,
    pub orders: Credential,
    pub billing: Credential,
    pub keeper: Credential,
    environments: [Environment; 2],
}

impl Deployment {
    pub async fn issue(world: &mut World, keys: &Keys) -> Result<Self> {
        narrate::step("Issue credentials, one for each service, all in one transaction");
        let manifest = Manifest::from_json(include_str!("../manifest.json"))?;
        let issuer = Issuer::new(&manifest, IssuerConfig::default())?;
        Issuer::install(&mut world.deployer).await?;
        let credentials = issuer.deploy(&mut world.deployer, &manifest).await?.issued;
        for credential in &credentials {
            narrate::say(&credential.lease().login);
        }
        let [orders, billing, keeper]: [Credential; 3] =
            credentials.try_into().map_err(|_| "the manifest lists three services")?;
        let endpoint = world.endpoint();
        let environments = [
            environment(&endpoint, &orders, keys, TENANT_1, ANN)?,
            environment(&endpoint, &billing, keys, TENANT_2, MEI)?,
        ];
        Ok(Self { manifest, issuer, endpoint, orders, billing, keeper, environments })
    }

    /// Starts both services. `orders` does its work and ends; `billing` is left at work and returned.
    pub async fn start_services(&mut self) -> Result<Running> {
        narrate::step("Start each service as a child process, with nothing but its environment");
        let [for_orders, for_billing] = &self.environments;
        let orders = Running::start("orders", for_orders)?;
        let billing = Running::start("billing", for_billing)?;
        orders.wait()?;
        billing.until_ready()
    }

    pub fn login(&self, credential: &Credential) -> Login {
        Login::of(self.endpoint.clone(), credential)
    }
}

fn environment(
    endpoint: &Endpoint,
    credential: &Credential,
    keys: &Keys,
    tenant: &str,
    user: &str,
) -> Result<Environment> {
    let mut environment = Environment::default();
    endpoint.declare(credential, &mut environment)?;
    environment.set("ZK_KEY_RING_PASSPHRASE", keys.passphrase.clone())?;
    let ring = keys.ring.to_str().ok_or("the path of the key ring is not UTF-8")?;
    for (name, value) in
        [("ZK_KMS_URI", "local:crm"), ("ZK_KEY_RING", ring), ("CRM_TENANT", tenant), ("CRM_USER", user)]
    {
        environment.set(name, SecretString::from(value))?;
    }
    Ok(environment)
}

/// A service at work. What it prints is retold.
pub struct Running {
    name: &'static str,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(name: &'static str, environment: &Environment) -> Result<Self> {
        let mut command = environment.command(std::env::current_exe()?);
        let mut child =
            command.args(["service", name]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or("the child has no output")?;
        Ok(Self { name, child, lines: BufReader::new(output).lines() })
    }

    /// Retells the child until it says that it is ready, and leaves it at work.
    fn until_ready(mut self) -> Result<Self> {
        for line in self.lines.by_ref() {
            let line = line?;
            if line == READY {
                return Ok(self);
            }
            narrate::holds(format!("{}: {line}", self.name));
        }
        Err(format!("{} ended before it was ready", self.name).into())
    }

    /// Retells the child to its end.
    fn wait(mut self) -> Result<()> {
        for line in self.lines.by_ref() {
            narrate::holds(format!("{}: {}", self.name, line?));
        }
        let status = self.child.wait()?;
        narrate::ensure(status.success(), format!("{} failed: {status}", self.name))
    }
}

impl Drop for Running {
    /// No child outlives the story, however it ends.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop((self.child.kill(), self.child.wait()));
        }
    }
}

pub async fn revoke_while_it_works(
    world: &mut World,
    deployment: &Deployment,
    billing: Running,
) -> Result<()> {
    narrate::step("Revoke billing while its session is open");
    let lease = deployment.billing.lease();
    deployment.issuer.revoke(&mut world.deployer, lease).await?;
    billing.wait()?;
    let again = deployment.login(&deployment.billing).connect().await;
    narrate::refused(
        "the revoked credential logs in again",
        again.map(|_| "a connection".to_owned()).map_err(|e| format!("{:?}", e.kind())),
        "Denied",
    )?;
    let row = world
        .deployer
        .query_one("SELECT count(*) FROM pg_roles WHERE rolname = $1::text::name", &[&lease.login])
        .await?;
    narrate::ensure(row.get::<_, i64>(0) == 0, "the role of the revoked service is still there")?;
    narrate::holds("its session ended, and its role is gone");
    Ok(())
}
