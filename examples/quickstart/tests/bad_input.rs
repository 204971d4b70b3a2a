//! Bad input to the program: a clear error that says what to do, exit status 1, nothing changed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use secrecy::SecretString;
use testkit::Database;
use zk_kms::{LocalKms, PassphraseCost};

const GOOD: &str = "policy p\nrole r\ntable things { shared  allow r select }\n";

/// A database, a folder, and the variables with which the program works on them.
struct Bench {
    database: Database,
    folder: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Bench {
    async fn create() -> Self {
        let database = Database::create().await.unwrap();
        database.execute("CREATE TABLE things (id int8)").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let cluster = database.cluster();
        let ring = folder.path().join("ring");
        LocalKms::create(&ring, "crm", &SecretString::from("right"), PassphraseCost::new(64, 1, 1).unwrap())
            .unwrap();
        let variables = vec![
            ("PGHOST", "localhost".to_owned()),
            ("PGPORT", database.port().to_string()),
            ("PGDATABASE", database.name().to_owned()),
            ("PGUSER", "postgres".to_owned()),
            ("PGPASSWORD", cluster.superuser_password().to_owned()),
            ("PGSSLMODE", "verify-full".to_owned()),
            ("PGSSLROOTCERT", cluster.ca_file().display().to_string()),
            ("CRM_TENANT", "00000001-0000-4000-8000-000000000000".to_owned()),
            ("CRM_USER", "aaaaaaa1-0000-4000-8000-000000000000".to_owned()),
            ("ZK_KMS_URI", "local:crm".to_owned()),
            ("ZK_KEY_RING", ring.display().to_string()),
            ("ZK_KEY_RING_PASSPHRASE", "right".to_owned()),
        ];
        Self { database, folder, variables }
    }

    /// The same variables with one changed, or taken away.
    fn with(&self, name: &str, value: Option<&str>) -> Vec<(&'static str, String)> {
        let mut variables = self.variables.clone();
        match value {
            Some(value) => {
                variables.iter_mut().filter(|(n, _)| *n == name).for_each(|(_, v)| *v = value.to_owned())
            }
            None => variables.retain(|(n, _)| *n != name),
        }
        variables
    }

    fn policy(&self, text: &str) -> String {
        let path = self.folder.path().join("policy");
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Runs the program and asserts that it fails with status 1, says `told`, and leaves the catalog as it was.
    async fn refuses(&self, arguments: &[&str], variables: &[(&'static str, String)], told: &[&str]) {
        let before = self.catalog().await;
        let (status, output) = run(arguments, variables);
        assert_eq!(status, Some(1), "{output}");
        for words in told {
            assert!(output.contains(words), "`{words}` is not in:\n{output}");
        }
        assert!(
            !output.contains("panicked") && !output.contains(self.database.cluster().superuser_password())
        );
        assert_eq!(self.catalog().await, before);
    }

    async fn catalog(&self) -> Vec<i64> {
        let client = self.database.connect().await.unwrap();
        let counts = "SELECT (SELECT count(*) FROM pg_roles), (SELECT count(*) FROM pg_policy), (SELECT count(*) FROM pg_class)";
        let row = client.query_one(counts, &[]).await.unwrap();
        (0..3).map(|i| row.get(i)).collect()
    }
}

fn run(arguments: &[&str], variables: &[(&'static str, String)]) -> (Option<i32>, String) {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_quickstart")));
    let output = command.args(arguments).env_clear().envs(variables.iter().cloned()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn policies() {
    let bench = Bench::create().await;
    let (status, plan) = run(&["plan", &bench.policy(GOOD)], &bench.variables);
    assert_eq!(status, Some(0), "{plan}");
    assert!(plan.contains("create role p_r"), "{plan}");

    let plan = |text| vec!["plan".to_owned(), bench.policy(text)];
    for (text, told) in [
        (
            "policy p role r table thing { shared allow r select }",
            ["did you mean `things`?", "nothing was planned"],
        ),
        ("policy p role r table things { allow q select", ["expected `}`", "nothing was planned"]),
        (
            "policy p role r table things { allow q select }",
            ["there is no role `q`", "neither `tenant` nor `shared`"],
        ),
        ("\u{0}\u{ff}", ["has no meaning here", "nothing was planned"]),
    ] {
        let arguments = plan(text);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        bench.refuses(&arguments, &bench.variables, &told).await;
    }
    bench.refuses(&["plan", "/no/such/file"], &bench.variables, &["/no/such/file cannot be read"]).await;
    bench.refuses(&["teach"], &bench.variables, &["usage: quickstart"]).await;
}

#[tokio::test]
async fn servers_and_environments() {
    let bench = Bench::create().await;
    let good = bench.policy(GOOD);
    let plan = ["plan", good.as_str()];
    for (name, value, told) in [
        ("PGPORT", Some("1"), "the connection to the database failed"),
        ("PGPORT", Some("many"), "PGPORT is not a number"),
        ("PGPASSWORD", Some("wrong"), "the database refused the login"),
        ("PGPASSWORD", None, "the environment variable PGPASSWORD is missing"),
        ("PGSSLMODE", Some("prefer"), "PGSSLMODE must be verify-full"),
        ("PGSSLROOTCERT", Some("/no/such/file"), "the root certificates in /no/such/file cannot be read"),
        ("PGSSLROOTCERT", Some("/etc/passwd"), "no certificate in PEM form"),
    ] {
        bench.refuses(&plan, &bench.with(name, value), &[told]).await;
    }
    let mut expired = bench.variables.clone();
    expired.push(("ZK_LEASE_EXPIRES_AT", "1700000000".to_owned()));
    bench
        .refuses(&plan, &expired, &["the lease of postgres has ended", "rotate the service's credential"])
        .await;
}

#[tokio::test]
async fn key_rings() {
    let bench = Bench::create().await;
    let service = ["service", "orders"];
    bench.refuses(&service, &bench.with("ZK_KEY_RING_PASSPHRASE", Some("wrong")), &["passphrase"]).await;
    bench.refuses(&service, &bench.with("ZK_KEY_RING", Some("/no/such/ring")), &["/no/such/ring"]).await;
    bench.refuses(&service, &bench.with("ZK_KMS_URI", Some("aws-kms://x")), &["key URI"]).await;
    let ring = bench.folder.path().join("ring");
    fs::set_permissions(&ring, Permissions::from_mode(0o644)).unwrap();
    bench.refuses(&service, &bench.variables, &["chmod 600"]).await;
    fs::set_permissions(&ring, Permissions::from_mode(0o600)).unwrap();
    let mut bytes = fs::read(&ring).unwrap();
    bytes.truncate(bytes.len() / 2);
    fs::write(&ring, bytes).unwrap();
    bench.refuses(&service, &bench.variables, &["damaged", "restore the file from a backup"]).await;
}
