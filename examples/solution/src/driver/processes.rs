//! The services as processes of their own, and the issuer that they renew their logins at.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use hyper_util::service::TowerToHyperService;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use zk_creds::postgres::audit::Chain;
use zk_creds::postgres::{Endpoint, Issuer, IssuerConfig, RenewalService};
use zk_creds::tls::https::{self, ServerOptions};
use zk_creds::tls::{Clients, Material, Tls};
use zk_creds::{Credential, Environment};
use zk_policy::pg;

use super::identities::Identities;
use super::table::{Table, ensure};
use super::users::{Clinic, TENANTS, User, Visitor};
use super::world::{GRACE, World};
use crate::Result;
use crate::followed::{self, TOKEN_KEYS};
use crate::service::{TRUST_DOMAIN, address_of};

/// The services that stay, in the order in which they need each other.
pub const SERVICES: [&str; 3] = ["worker", "rest", "graphql"];
const ISSUER: &str = "issuer";

/// All that runs. Dropping it stops it.
pub struct Solution {
    pub world: World,
    pub identities: Identities,
    /// What browsers trust.
    pub browser: Tls,
    pub renew_url: String,
    /// What was issued first, by service.
    pub credentials: BTreeMap<String, Credential>,
    processes: Vec<Process>,
    issuer: JoinHandle<()>,
}

impl Solution {
    pub async fn start(mut world: World) -> Result<Self> {
        let mut identities = Identities::new(world.folder.path().join("identities"))?;
        std::fs::create_dir(world.folder.path().join("identities"))?;
        let mut named: Vec<&str> = SERVICES.to_vec();
        named.push(ISSUER);
        identities.issue(&world.issuer, &mut world.deployer, &named).await?;
        hand_keys(&mut world, &mut identities).await?;
        let browser = Tls::new(Material::trusting(identities.roots.as_str()))?;
        let (renew_url, issuer) = start_issuer(&world, &identities).await?;
        let deployed = world.issuer.deploy(&mut world.deployer, &world.manifest).await?;
        let credentials = deployed.issued.into_iter().map(|c| (c.lease().service.clone(), c)).collect();
        let processes = Vec::new();
        let mut solution = Self { world, identities, browser, renew_url, credentials, processes, issuer };
        for service in SERVICES {
            let environment = solution.environment(service)?;
            solution.start_process(service, &environment)?;
        }
        Ok(solution)
    }

    pub fn start_process(&mut self, service: &str, environment: &Environment) -> Result<()> {
        self.processes.push(Process::start(service, environment, self.world.folder.path())?);
        Ok(())
    }

    /// What a program is told that ends soon: its login and its secrets.
    pub async fn short_environment(&mut self, service: &str) -> Result<Environment> {
        let mut environment = self.world.lend(service).await?;
        self.declare_login(service, &mut environment)?;
        Ok(environment)
    }

    fn declare_login(&self, service: &str, environment: &mut Environment) -> Result<()> {
        let credential = self.credentials.get(service).ok_or("the service was not deployed")?;
        Ok(self.world.endpoint().declare(credential, environment)?)
    }

    /// Hands the services the present keys of tokens and claims, and waits until they have seen them.
    pub async fn hand_keys(&mut self) -> Result<()> {
        hand_keys(&mut self.world, &mut self.identities).await?;
        tokio::time::sleep(self.world.ages.seen()).await;
        Ok(())
    }

    /// All that a service is told when it starts. What is replaced while it runs is in the directory that it follows.
    fn environment(&self, service: &str) -> Result<Environment> {
        let mut environment = Environment::default();
        self.declare_login(service, &mut environment)?;
        let declared = self.world.manifest.service(service)?;
        environment.add_scopes(declared)?;
        Endpoint::declare_renewal(&self.renew_url, &mut environment)?;
        let folder = self.world.folder.path();
        for (name, value) in [
            ("ZK_KMS_URI", "local:clinic"),
            ("CLINIC_KEY_RING", text(&folder.join("clinic.keyring"))?),
            ("CLINIC_FOLLOWED", text(&self.identities.directory(service))?),
            ("CLINIC_AGES", self.world.ages.name),
        ] {
            environment.set(name, SecretString::from(value))?;
        }
        for peer in &declared.peers {
            environment.set(&address_of(peer), SecretString::from(self.url(peer)?))?;
        }
        Ok(environment)
    }

    /// Where a service is.
    pub fn url(&self, service: &str) -> Result<String> {
        Ok(format!("https://localhost:{}", self.port(service)?))
    }

    pub fn port(&self, service: &str) -> Result<u16> {
        let found = self.processes.iter().find(|process| process.name == service);
        Ok(found.ok_or_else(|| format!("{service} does not run"))?.port)
    }

    /// What holds after all of it.
    pub async fn at_the_end(&mut self, table: &mut Table) -> Result<()> {
        let World { issuer, deployer, policy, .. } = &mut self.world;
        for process in &mut self.processes {
            ensure(process.child.try_wait()?.is_none(), format!("{} has ended", process.name))?;
        }
        let reconciled = issuer.reconcile(deployer).await?;
        let unfinished = reconciled.failed.is_empty() && reconciled.reaped.failed.is_empty();
        let agree =
            reconciled.lost.is_empty() && reconciled.orphans.is_empty() && reconciled.fenced.is_empty();
        ensure(unfinished && agree, format!("leases and logins do not agree: {reconciled:?}"))?;
        match issuer.verify_audit(deployer, None).await? {
            Chain::Whole(anchor) => {
                let entries = anchor.to_string();
                let entries = entries.split(':').next().unwrap_or_default();
                table.holds("leases, logins and the audit agree", format!("{entries} entries in one chain"));
            }
            broken => return Err(format!("the audit was changed: {broken:?}").into()),
        }
        let plan = pg::plan(deployer, policy).await?;
        ensure(plan.is_empty() && plan.drift.is_empty(), format!("the database has drifted: {plan}"))?;
        table.holds("the database is what the policy says", "nothing has drifted");
        Ok(())
    }

    /// Says how to ask, and waits until somebody interrupts.
    pub async fn leave_running(&mut self, clinic: &Clinic) -> Result<()> {
        let roots = self.world.folder.path().join("roots.pem");
        std::fs::write(&roots, &self.identities.roots)?;
        let Visitor { user, .. } = *clinic.visitor(0, "receptionist")?;
        println!("\nIt runs. The tokens below are good for 15 minutes; end with Ctrl-C.\n");
        self.print_commands(clinic, user, text(&roots)?)?;
        loop {
            tokio::time::sleep(Duration::from_secs(30)).await;
            self.world.issuer.reconcile(&mut self.world.deployer).await?;
        }
    }

    fn print_commands(&self, clinic: &Clinic, user: User, roots: &str) -> Result<()> {
        use secrecy::ExposeSecret;
        let patient = clinic.patient_of(&user)?;
        let token = |service| -> Result<String> {
            Ok(self.world.sign_in.token(&user, service)?.expose_secret().to_owned())
        };
        let (rest, graphql) = (self.url("rest")?, self.url("graphql")?);
        println!("REST={}\nGRAPHQL={}", token("rest")?, token("graphql")?);
        println!("ask() {{ curl -sS --cacert {roots} -H \"Authorization: Bearer $REST\" \"$@\"; echo; }}");
        println!("ask {rest}/patients/{}", patient.id);
        println!("ask '{rest}/patients?email={}'", patient.email);
        println!("ask {rest}/patients/{}/diagnosis    # not for the front desk", patient.id);
        let other =
            TENANTS.iter().find(|tenant| **tenant != user.tenant).ok_or("there is one clinic only")?;
        println!("ask -H 'X-Tenant-Id: {other}' '{rest}/careless?name=Patient%200'");
        println!(
            "curl -sS --cacert {roots} -H \"Authorization: Bearer $GRAPHQL\" -H 'Content-Type: application/json' \\\n  \
             -d '{{\"query\": \"{{ patients {{ name email visits {{ id }} }} invoices }}\"}}' {graphql}/graphql"
        );
        Ok(())
    }

    /// What the services wrote, each line once, for whoever has to find out what went wrong.
    pub fn print_logs(&self) {
        for process in &self.processes {
            let log = std::fs::read_to_string(&process.log).unwrap_or_default();
            let mut seen = BTreeSet::new();
            for line in log.lines().filter(|line| seen.insert(*line)).take(20) {
                eprintln!("{}: {line}", process.name);
            }
        }
    }
}

impl Drop for Solution {
    fn drop(&mut self) {
        self.issuer.abort();
    }
}

pub fn text(path: &Path) -> Result<&str> {
    Ok(path.to_str().ok_or("a path is not UTF-8")?)
}

/// Writes what the services follow: certificates, the secrets of their manifest, and the keys of tokens.
async fn hand_keys(world: &mut World, identities: &mut Identities) -> Result<()> {
    for service in SERVICES {
        let mut keys = world.lend(service).await?;
        keys.set(TOKEN_KEYS, world.token_keys())?;
        identities.replace_keys(service, keys);
    }
    identities.publish()
}

/// Where services renew their logins, known by their certificates.
async fn start_issuer(world: &World, identities: &Identities) -> Result<(String, JoinHandle<()>)> {
    let issuer = Issuer::new(&world.manifest, IssuerConfig::default())?;
    let login = world.deployer_login();
    let renewals = RenewalService::new(issuer, login, world.manifest.clone(), TRUST_DOMAIN, GRACE);
    let renewals = Arc::new(renewals);
    let router = Router::new().fallback(move |request: Request| {
        let renewals = renewals.clone();
        async move { Ok::<_, Infallible>(renewals.answer(request).await) }
    });
    let tls = followed::tls(&identities.directory(ISSUER), world.ages.look)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("https://localhost:{}", listener.local_addr()?.port());
    let mut options = ServerOptions::default();
    options.clients = Clients::Known;
    let service = TowerToHyperService::new(router);
    let serving = tokio::spawn(async move {
        if let Err(error) = https::serve(listener, &tls, options, service, std::future::pending()).await {
            eprintln!("the issuer has ended: {error}");
        }
    });
    Ok((url, serving))
}

/// A service at work. It stops when its standard input is closed: also when this process is killed.
struct Process {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    port: u16,
    log: PathBuf,
}

impl Process {
    fn start(name: &str, environment: &Environment, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let mut command = environment.command(std::env::current_exe()?);
        let mut child = command
            .arg(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take().ok_or("the child has no output")?);
        let mut process = Self { name: name.to_owned(), child, input, port: 0, log };
        let first = BufReader::new(output).lines().next();
        process.port = match first {
            Some(line) => line?.parse()?,
            None => {
                let log = std::fs::read_to_string(&process.log).unwrap_or_default();
                return Err(format!("{name} did not start: {}", log.trim()).into());
            }
        };
        Ok(process)
    }
}

impl Drop for Process {
    /// No child outlives the drive, however it ends.
    fn drop(&mut self) {
        drop(self.input.take());
        let patience = Instant::now() + Duration::from_secs(2);
        while Instant::now() < patience {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        drop((self.child.kill(), self.child.wait()));
    }
}
