//! What does a credential cost? `./dev test -p testkit` once for OpenBao, then `cargo bench -p benches --bench creds`
//!
//! One PostgreSQL serves three issuers in turns: plain statements over one connection, which do the least that can be called
//! a credential; ours; and OpenBao's database engine over its HTTP API. Rates are the medians of rounds.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use testkit::emulator::{Emulator, Service as Emulated};
use testkit::{Cluster, ClusterConfig, Database};
use tokio::runtime::Runtime;
use tokio_postgres::Client;
use zk_creds::postgres::{Endpoint, Issuer, IssuerConfig, Login};
use zk_creds::{Credential, Manifest, Service};

const ROUNDS: usize = 15;
const EACH: usize = 20;
const SERVICES: usize = 100;

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    let cluster = Cluster::start(ClusterConfig::for_benchmarks()).expect("a server");
    let database = runtime.block_on(cluster.database()).expect("a database");
    let mut ours = runtime.block_on(Ours::create(&database));
    let raw = runtime.block_on(database.connect()).expect("the superuser");
    let mut bao = match Bao::start(&database) {
        Ok(bao) => Some(bao),
        Err(error) => {
            println!("OpenBao is not measured: {error}");
            None
        }
    };

    let [mut raw_issue, mut our_issue, mut once_issue, mut bao_issue] = [const { Vec::new() }; 4];
    let [mut deployed, mut deployed_once] = [const { Vec::new() }; 2];
    let [mut raw_login, mut our_login, mut bao_login] = [const { Vec::new() }; 3];
    let [mut renewed, mut bao_renewed, mut rotated] = [const { Vec::new() }; 3];
    let [mut raw_revoke, mut our_revoke, mut with_session, mut bao_revoke] = [const { Vec::new() }; 4];
    for round in 0..ROUNDS {
        let names: Vec<String> = (0..EACH).map(|n| format!("raw_{round}_{n}")).collect();
        raw_issue.push(rate(EACH, |n| runtime.block_on(create_raw(&raw, &names[n]))));
        let mut issued = Vec::new();
        our_issue.push(rate(EACH, |_| issued.push(runtime.block_on(ours.issue()))));
        let mut leases = Vec::new();
        if let Some(bao) = &mut bao {
            bao_issue.push(rate(EACH, |_| leases.push(bao.issue())));
        }

        raw_login.push(rate(EACH, |n| {
            runtime
                .block_on(database.connect_as(&names[n], "0123456789abcdef0123456789abcdef"))
                .map(drop)
                .expect("a login");
        }));
        our_login.push(rate(EACH, |n| runtime.block_on(ours.login(&issued[n])).map(drop).expect("a login")));
        if bao.is_some() {
            bao_login.push(rate(EACH, |n| {
                let lease: &Lease = &leases[n];
                runtime
                    .block_on(database.connect_as(&lease.user, &lease.password))
                    .map(drop)
                    .expect("a login");
            }));
        }
        renewed.push(rate(EACH, |n| runtime.block_on(ours.renew(&issued[n]))));
        if let Some(bao) = &mut bao {
            bao_renewed.push(rate(EACH, |n| bao.renew(&leases[n])));
        }

        raw_revoke.push(rate(EACH, |n| runtime.block_on(drop_raw(&raw, &names[n]))));
        let half = issued.split_off(EACH / 2);
        our_revoke.push(rate(EACH / 2, |n| runtime.block_on(ours.revoke(&issued[n]))));
        let sessions: Vec<Client> =
            half.iter().map(|c| runtime.block_on(ours.login(c)).expect("a login")).collect();
        with_session.push(rate(EACH / 2, |n| runtime.block_on(ours.revoke(&half[n]))));
        assert!(
            sessions.iter().all(|s| runtime.block_on(s.simple_query("SELECT 1")).is_err()),
            "the sessions ended"
        );
        if let Some(bao) = &mut bao {
            bao_revoke.push(rate(EACH, |n| bao.revoke(&leases[n])));
        }
        let mut hashed_once = Vec::new();
        once_issue.push(rate(EACH, |_| {
            let issued = runtime.block_on(ours.issuer.issue(&mut ours.client, &ours.once));
            hashed_once.push(issued.expect("issued"));
        }));
        hashed_once.iter().for_each(|credential| runtime.block_on(ours.revoke(credential)));
        if round % 3 == 0 {
            for (iterations, rates) in [(4096, &mut deployed), (1, &mut deployed_once)] {
                let (manifest, issuer) = ours.deployment(round, iterations);
                let start = Instant::now();
                let issued = runtime.block_on(issuer.deploy(&mut ours.client, &manifest));
                rates.push(SERVICES as f64 / start.elapsed().as_secs_f64());
                assert_eq!(issued.expect("deployed").issued.len(), SERVICES);
            }
            let credential = runtime.block_on(ours.issue());
            let service = ours.service.clone();
            rotated.push(rate(1, |_| {
                let grace = std::time::Duration::ZERO;
                drop(
                    runtime.block_on(ours.issuer.rotate(&mut ours.client, &service, grace)).expect("rotated"),
                );
            }));
            drop(credential);
            for lease in runtime.block_on(ours.issuer.leases(&mut ours.client)).expect("leases") {
                runtime.block_on(ours.issuer.revoke(&mut ours.client, &lease)).expect("revoked");
            }
        }
    }

    println!("\n| | a second | ÷ raw | ÷ OpenBao |\n|---|---:|---:|---:|");
    let raw_median = median(&raw_issue);
    let bao_median = median(&bao_issue);
    row("issue: plain CREATE ROLE and GRANT", &raw_issue, None, None);
    row("issue: zk-creds", &our_issue, raw_median, bao_median);
    row("issue: zk-creds, a deployment of 100 services", &deployed, raw_median, bao_median);
    row("issue: zk-creds, password hashed once", &once_issue, raw_median, bao_median);
    row("issue: zk-creds, 100 services, passwords hashed once", &deployed_once, raw_median, bao_median);
    row("issue: OpenBao", &bao_issue, raw_median, None);
    row("login: plain role", &raw_login, None, None);
    row("login: zk-creds", &our_login, median(&raw_login), median(&bao_login));
    row("login: OpenBao's role", &bao_login, median(&raw_login), None);
    row("renew: zk-creds", &renewed, None, median(&bao_renewed));
    row("renew: OpenBao", &bao_renewed, None, None);
    row("rotate: zk-creds", &rotated, None, None);
    row("revoke: plain DROP OWNED and DROP ROLE", &raw_revoke, None, None);
    row("revoke: zk-creds, no session open", &our_revoke, median(&raw_revoke), median(&bao_revoke));
    row("revoke: zk-creds, ending a session", &with_session, median(&raw_revoke), median(&bao_revoke));
    row("revoke: OpenBao, which ends no session", &bao_revoke, median(&raw_revoke), None);
}

fn rate(times: usize, mut operation: impl FnMut(usize)) -> f64 {
    let start = Instant::now();
    (0..times).for_each(&mut operation);
    times as f64 / start.elapsed().as_secs_f64()
}

fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

fn row(name: &str, samples: &[f64], raw: Option<f64>, bao: Option<f64>) {
    let Some(rate) = median(samples) else { return };
    let ratio = |of: Option<f64>| of.map_or(String::new(), |of| format!("{:.2}", rate / of));
    println!("| {name} | {rate:.0} | {} | {} |", ratio(raw), ratio(bao));
}

// --- Plain statements -----------------------------------------------------------------------------------------------

async fn create_raw(client: &Client, name: &str) {
    let statement = format!(
        "BEGIN; CREATE ROLE {name} LOGIN PASSWORD '0123456789abcdef0123456789abcdef' VALID UNTIL '2099-01-01'; \
         GRANT clerk TO {name}; COMMIT"
    );
    client.batch_execute(&statement).await.expect("created");
}

async fn drop_raw(client: &Client, name: &str) {
    client.batch_execute(&format!("DROP OWNED BY {name}; DROP ROLE {name}")).await.expect("dropped");
}

// --- Ours -----------------------------------------------------------------------------------------------------------

struct Ours {
    client: Client,
    issuer: Issuer,
    service: Service,
    /// The same, whose password is hashed once and not 4096 times.
    once: Service,
    endpoint: Endpoint,
}

impl Ours {
    async fn create(database: &Database) -> Self {
        database
            .execute("CREATE ROLE deployer LOGIN CREATEROLE PASSWORD 'deployer'; CREATE ROLE clerk; GRANT clerk TO deployer WITH ADMIN OPTION")
            .await
            .expect("roles");
        database
            .execute(&format!("GRANT CREATE ON DATABASE {} TO deployer", database.name()))
            .await
            .expect("a grant");
        let mut client = database.connect_as("deployer", "deployer").await.expect("the deployer");
        Issuer::install(&mut client).await.expect("installed");
        let text = r#"{"solution": "bench", "services": [{"name": "orders", "roles": ["clerk"]}]}"#;
        let manifest = Manifest::from_json(text).expect("a manifest");
        let issuer = Issuer::new(&manifest, IssuerConfig::default()).expect("an issuer");
        let service = manifest.services[0].clone();
        let once = Service { scram_iterations: 1, ..service.clone() };
        let endpoint = Endpoint {
            host: "localhost".to_owned(),
            port: database.port(),
            database: database.name().to_owned(),
            root_certificate: database.cluster().ca_file(),
        };
        Self { client, issuer, service, once, endpoint }
    }

    fn deployment(&self, round: usize, iterations: u32) -> (Manifest, Issuer) {
        let service =
            |n| Service { name: format!("service{n}"), scram_iterations: iterations, ..self.service.clone() };
        let services = (0..SERVICES).map(service);
        let manifest =
            Manifest { solution: format!("bench{round}_{iterations}"), services: services.collect() };
        let issuer = Issuer::new(&manifest, IssuerConfig::default()).expect("an issuer");
        (manifest, issuer)
    }

    async fn issue(&mut self) -> Credential {
        self.issuer.issue(&mut self.client, &self.service).await.expect("issued")
    }

    async fn renew(&mut self, credential: &Credential) {
        self.issuer.renew(&mut self.client, credential.lease()).await.expect("renewed");
    }

    async fn revoke(&mut self, credential: &Credential) {
        self.issuer.revoke(&mut self.client, credential.lease()).await.expect("revoked");
    }

    async fn login(&self, credential: &Credential) -> Result<Client, zk_creds::Error> {
        Login::of(self.endpoint.clone(), credential).connect().await
    }
}

// --- OpenBao --------------------------------------------------------------------------------------------------------

struct Lease {
    id: String,
    user: String,
    password: String,
}

struct Bao {
    stream: BufReader<TcpStream>,
    server: Emulator,
}

impl Bao {
    fn start(database: &Database) -> Result<Self, testkit::Error> {
        let server = Emulator::start(Emulated::OpenBao)?;
        let stream = TcpStream::connect(("127.0.0.1", server.port())).expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let mut bao = Self { stream: BufReader::new(stream), server };
        bao.call("POST", "/v1/sys/mounts/database", r#"{"type":"database"}"#);
        let url = format!(
            "postgresql://{{{{username}}}}:{{{{password}}}}@localhost:{}/{}?sslmode=verify-full&sslrootcert={}",
            database.port(),
            database.name(),
            database.cluster().ca_file().display()
        );
        let password = database.cluster().superuser_password();
        bao.call(
            "POST",
            "/v1/database/config/pg",
            &format!(
                r#"{{"plugin_name":"postgresql-database-plugin","allowed_roles":"*","connection_url":"{url}",
                    "username":"postgres","password":"{password}","password_authentication":"scram-sha-256"}}"#
            ),
        );
        bao.call(
            "POST",
            "/v1/database/roles/clerk",
            r#"{"db_name":"pg","default_ttl":"1h","max_ttl":"24h","creation_statements":
                ["CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'; GRANT clerk TO \"{{name}}\";"]}"#,
        );
        Ok(bao)
    }

    fn issue(&mut self) -> Lease {
        let answer = self.call("GET", "/v1/database/creds/clerk", "");
        let field = |name: &str| {
            let start = answer.find(&format!("\"{name}\":\"")).expect("a field") + name.len() + 4;
            answer[start..].split('"').next().unwrap_or_default().to_owned()
        };
        Lease { id: field("lease_id"), user: field("username"), password: field("password") }
    }

    fn renew(&mut self, lease: &Lease) {
        self.call("PUT", "/v1/sys/leases/renew", &format!(r#"{{"lease_id":"{}"}}"#, lease.id));
    }

    fn revoke(&mut self, lease: &Lease) {
        self.call("PUT", "/v1/sys/leases/revoke", &format!(r#"{{"lease_id":"{}","sync":true}}"#, lease.id));
    }

    /// One request over the connection that is kept. The body of the answer, which must be a success.
    fn call(&mut self, method: &str, path: &str, body: &str) -> String {
        let (token, length) = (self.server.token(), body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Vault-Token: {token}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes()).expect("sent");
        let (mut status, mut length) = (String::new(), 0);
        self.stream.read_line(&mut status).expect("answered");
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("answered");
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("answered");
        let body = String::from_utf8(body).expect("text");
        assert!(status.contains(" 20"), "{method} {path}: {status} {body}");
        body
    }
}
