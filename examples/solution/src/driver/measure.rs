//! `rest` beside the same endpoints without policy and sealing, in turns, on one machine and one server.

use std::time::{Duration, Instant};

use axum::http::{Request, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use testkit::ClusterConfig;
use zk_creds::{Environment, Manifest};

use super::processes::{Solution, text};
use super::table::ensure;
use super::users::{Clinic, User};
use super::world::World;
use crate::Result;
use crate::followed::TOKEN_KEYS;
use crate::http::Http;
use crate::plain::ROLE;
use crate::service::Ages;

const PLAIN: &str = "plain";
/// Users at a time, each with a connection of its own.
const USERS: usize = 8;
/// Patients of each clinic: as many as a page has.
const PAGE: usize = 50;
const ROUNDS: usize = 40;
const SLICE: Duration = Duration::from_millis(250);

pub async fn run() -> Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("note: figures are of use with --release only");
    }
    // Logins and keys live as long as they usually do.
    let world = World::create(ClusterConfig::for_benchmarks(), (3600, 86_400), Ages::usual()).await?;
    let mut solution = Solution::start(world).await?;
    let clinic = Clinic::open(&solution, PAGE).await?;
    start_plain(&mut solution, &clinic).await?;
    let user = clinic.visitor(0, "receptionist")?.user;
    let ours = clinic.patients.iter().filter(|patient| patient.tenant == user.tenant);
    let ours: Vec<String> = ours.map(|patient| format!("/patients/{}", patient.id)).collect();
    println!("Over HTTPS with a signed token, {USERS} users, {ROUNDS} slices of {SLICE:?} each, in turns");
    compare(&solution, &user, "GET /patients/{id}", &ours).await?;
    let page = ["/patients/page".to_owned()];
    compare(&solution, &user, &format!("GET /patients/page, {PAGE} patients"), &page).await
}

/// An endpoint with and without policy and sealing.
async fn compare(solution: &Solution, user: &User, name: &str, paths: &[String]) -> Result<()> {
    let side = |service| Side::new(solution, service, user, paths);
    let mut sides = [side(PLAIN)?, side("rest")?];
    for side in &mut sides {
        side.slice().await?;
        (side.micros, side.spent) = (Vec::new(), Duration::ZERO);
    }
    for round in 0..ROUNDS {
        let [plain, rest] = &mut sides;
        // Each goes first as often as the other.
        let turns = if round % 2 == 0 { [plain, rest] } else { [rest, plain] };
        for side in turns {
            side.slice().await?;
        }
    }
    let [plain, rest] = sides.map(Side::figures);
    println!("\n| {name} | requests/s | p50 | p99 |\n|---|---:|---:|---:|");
    println!("| plain SQL, nothing sealed | {:.0} | {} µs | {} µs |", plain.rate, plain.median, plain.slow);
    println!(
        "| signed session of the policy, sealed column | {:.0} | {} µs | {} µs |",
        rest.rate, rest.median, rest.slow
    );
    let ratio = |ours: u64, theirs: u64| ours as f64 / theirs.max(1) as f64;
    println!(
        "| ratio | {:.2} (wanted 0.80 or more) | {:.2} | {:.2} (wanted 1.50 or less) |",
        rest.rate / plain.rate,
        ratio(rest.median, plain.median),
        ratio(rest.slow, plain.slow)
    );
    Ok(())
}

/// A table without policy and without sealed columns, and a service that reads it.
async fn start_plain(solution: &mut Solution, clinic: &Clinic) -> Result<()> {
    solution.world.deployer.batch_execute(&format!("CREATE ROLE {ROLE} NOLOGIN")).await?;
    let administrator = solution.world.database.connect().await?;
    let table = format!(
        "CREATE TABLE plain_patients (tenant_id uuid NOT NULL, id uuid NOT NULL, name text NOT NULL, phone text,
                                      email text NOT NULL, PRIMARY KEY (tenant_id, id));
         INSERT INTO plain_patients (tenant_id, id, name, phone, email)
         SELECT tenant_id, id, name, phone, '' FROM patients;
         GRANT SELECT ON plain_patients TO {ROLE}; ANALYZE"
    );
    administrator.batch_execute(&table).await?;
    for patient in clinic.patients.iter() {
        let set = "UPDATE plain_patients SET email = $2 WHERE id = $1";
        administrator.execute(set, &[&patient.id, &patient.email]).await?;
    }
    let manifest = format!(
        r#"{{ "solution": "clinic", "services": [{{ "name": "{PLAIN}", "roles": ["{ROLE}"], "connections": 24 }}] }}"#
    );
    let manifest = Manifest::from_json(&manifest)?;
    let World { issuer, deployer, .. } = &mut solution.world;
    let credential = issuer.issue(deployer, manifest.service(PLAIN)?).await?;
    solution.identities.issue(issuer, deployer, &[PLAIN]).await?;
    let mut keys = Environment::default();
    keys.set(TOKEN_KEYS, solution.world.token_keys())?;
    solution.identities.replace_keys(PLAIN, keys);
    solution.identities.publish()?;
    let mut environment = Environment::default();
    solution.world.endpoint().declare(&credential, &mut environment)?;
    let directory = solution.identities.directory(PLAIN);
    environment.set("CLINIC_FOLLOWED", SecretString::from(text(&directory)?))?;
    environment.set("CLINIC_AGES", SecretString::from(solution.world.ages.name))?;
    solution.start_process(PLAIN, &environment)
}

struct Side {
    users: Vec<Http>,
    urls: Vec<String>,
    token: SecretString,
    micros: Vec<u64>,
    spent: Duration,
}

struct Figures {
    rate: f64,
    median: u64,
    slow: u64,
}

impl Side {
    fn new(solution: &Solution, service: &str, user: &User, paths: &[String]) -> Result<Self> {
        let url = solution.url(service)?;
        let users = (0..USERS).map(|_| Http::new(&solution.browser)).collect::<Result<_>>()?;
        let urls = paths.iter().map(|path| format!("{url}{path}")).collect();
        let token = solution.world.sign_in.token(user, service)?;
        Ok(Self { users, urls, token, micros: Vec::new(), spent: Duration::ZERO })
    }

    /// All users ask for a while.
    async fn slice(&mut self) -> Result<()> {
        let start = Instant::now();
        let mut asking = Vec::new();
        for http in &self.users {
            let (http, urls, token) = (http.clone(), self.urls.clone(), self.token.clone());
            asking.push(tokio::spawn(async move { ask(&http, &urls, &token, start).await }));
        }
        for asked in asking {
            self.micros.append(&mut asked.await??);
        }
        self.spent += start.elapsed();
        Ok(())
    }

    fn figures(mut self) -> Figures {
        self.micros.sort_unstable();
        let at = |share: f64| {
            let place = (self.micros.len() as f64 * share) as usize;
            self.micros.get(place).copied().unwrap_or_default()
        };
        let rate = self.micros.len() as f64 / self.spent.as_secs_f64();
        Figures { rate, median: at(0.5), slow: at(0.99) }
    }
}

async fn ask(http: &Http, urls: &[String], token: &SecretString, start: Instant) -> Result<Vec<u64>> {
    let mut micros = Vec::new();
    for url in urls.iter().cycle() {
        if start.elapsed() >= SLICE {
            break;
        }
        let began = Instant::now();
        let request = Request::get(url).header("authorization", format!("Bearer {}", token.expose_secret()));
        let (status, answer) = http.send(request, None).await?;
        ensure(status == StatusCode::OK, format!("{url}: {status} {answer}"))?;
        micros.push(u64::try_from(began.elapsed().as_micros())?);
    }
    Ok(micros)
}
