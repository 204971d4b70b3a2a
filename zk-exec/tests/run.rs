//! The program as somebody types it, with psql and other programs as its children.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use testkit::Database;
use tokio_postgres::Client;
use zk_creds::postgres::{Endpoint, Handover, Login};
use zk_creds::secret::{PostgresSecrets, SecretName, Secrets};
use zk_crypto::{Encryptor, EncryptorConfig, PostgresKeyStore, Scope};
use zk_kms::{LocalKms, OpenConfig, PassphraseCost};

struct World {
    database: Database,
    superuser: Client,
    folder: tempfile::TempDir,
    issuer: String,
    solution: String,
}

impl World {
    /// `service` is what the manifest says of the service `billing` beside its name and roles.
    async fn create(service: &str) -> Self {
        let database = Database::create().await.unwrap();
        let superuser = database.connect().await.unwrap();
        let [issuer, role, solution] = ["issuer", "clerk", "s"].map(testkit::unique_name);
        superuser
            .batch_execute(&format!(
                "CREATE ROLE {issuer} LOGIN CREATEROLE PASSWORD 'issuer password'; GRANT CREATE ON DATABASE {} TO {issuer};
                 CREATE ROLE {role}; GRANT {role} TO {issuer} WITH ADMIN OPTION",
                database.name()
            ))
            .await
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let manifest = format!(
            r#"{{"solution": "{solution}", "services": [{{"name": "billing", "roles": ["{role}"] {service}}}]}}"#
        );
        std::fs::write(folder.path().join("manifest.json"), manifest).unwrap();
        Self { database, superuser, folder, issuer, solution }
    }

    fn command(&self, options: &[&str], program: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zk-exec"));
        command
            .arg("--manifest")
            .arg(self.folder.path().join("manifest.json"))
            .args(["--service", "billing"]);
        command.args(options).arg("--").args(program).stdin(Stdio::null());
        command
            .env("PGHOST", "localhost")
            .env("PGPORT", self.database.port().to_string())
            .env("PGDATABASE", self.database.name())
            .env("PGUSER", &self.issuer)
            .env("PGPASSWORD", "issuer password")
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", self.database.cluster().ca_file())
            .env("OF_THE_ISSUER", "secret of the issuer");
        command
    }

    async fn run(&self, options: &[&str], program: &[&str]) -> Output {
        let mut command = self.command(options, program);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    async fn logins(&self) -> Vec<String> {
        let rows = self
            .superuser
            .query(
                "SELECT rolname::text FROM pg_roles WHERE starts_with(rolname::text, $1) ORDER BY 1",
                &[&format!("zk_{}", self.solution)],
            )
            .await
            .unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs psql"]
async fn psql_works_unchanged() {
    let world = World::create("").await;
    let query = "select current_user, ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let output = world.run(&[], &["psql", "-XAt", "-c", query]).await;
    assert!(output.status.success(), "{}", text(&output));
    let shown = text(&output);
    assert!(
        shown.starts_with(&format!("zk_{}_billing_1_", world.solution)) && shown.trim_end().ends_with("|t"),
        "{shown}"
    );
    assert!(world.logins().await.is_empty(), "the login is revoked when the program ends");
    // And by the URI alone.
    let output = world
        .run(&[], &["sh", "-c", "env -i PATH=\"$PATH\" psql -XAt \"$DATABASE_URL\" -c 'select 7'"])
        .await;
    assert_eq!(text(&output).trim_end(), "7");
}

/// What the manual says to type is what works: its statements, its manifest, its command.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs psql"]
async fn the_tutorial_is_as_it_says() {
    let manual = include_str!("../../docs/src/credentials.md");
    let block = |language: &str, holds: &str| {
        let blocks = manual.split("```").skip(1).step_by(2);
        let mut blocks = blocks.filter_map(|block| block.strip_prefix(&format!("{language}\n")));
        blocks.find(|block| block.contains(holds)).unwrap().to_owned()
    };
    let cluster = testkit::Cluster::start(testkit::ClusterConfig::default()).unwrap();
    let database = cluster.database().await.unwrap();
    database.execute("CREATE ROLE crm_agent; CREATE ROLE crm_manager").await.unwrap();
    let statements =
        block("sql", "CREATE ROLE issuer").replace("DATABASE crm", &format!("DATABASE {}", database.name()));
    database.execute(&statements).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("manifest.json"), block("json", "billing")).unwrap();

    // Only the server is another than the manual's, and the program is built already.
    let typed = block("sh", "cargo run -p zk-exec")
        .replace("db.example", "localhost")
        .replace("5432", &database.port().to_string())
        .replace("PGDATABASE=crm", &format!("PGDATABASE={}", database.name()))
        .replace("/etc/ssl/crm-root.pem", database.cluster().ca_file().to_str().unwrap())
        .replace("cargo run -p zk-exec --", env!("CARGO_BIN_EXE_zk-exec"));
    let mut shell = Command::new("sh");
    shell.arg("-ec").arg(&typed).current_dir(folder.path()).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || shell.output().unwrap()).await.unwrap();
    let shown = text(&output);
    assert!(output.status.success(), "{typed}\n{shown}");
    // The same table as the manual's, but for the end of the name.
    let told = block("text", "current_user");
    let lines = |text: &str| {
        let line = |line: &str| line.split_whitespace().collect::<String>();
        text.lines().take(3).map(line).collect::<Vec<_>>()
    };
    let (shown, told) = (lines(&shown), lines(&told));
    let login = |line: &str| line.split('|').next().unwrap().rsplit_once('_').unwrap().0.to_owned();
    assert_eq!((&shown[0], login(&shown[2])), (&told[0], login(&told[2])));
    assert!(shown[2].ends_with("|t") && told[2].ends_with("|t"), "{shown:?} {told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_manifest_is_drawn() {
    let world = World::create(r#", "lifetime_second": 7"#).await;
    let output = world.run(&[], &["true"]).await;
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(125), "{shown}");
    assert!(shown.contains("error[M103]") && shown.contains("did you mean `lifetime_seconds`?"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_has_its_own_environment_and_nothing_of_ours() {
    let world = World::create("").await;
    let output = world.run(&["--set", "COLOUR=blue"], &["env"]).await;
    let shown = text(&output);
    assert!(shown.contains("COLOUR=blue") && shown.contains("PGSSLMODE=verify-full"), "{shown}");
    assert!(
        !shown.contains("issuer password")
            && !shown.contains("OF_THE_ISSUER")
            && !shown.contains(&world.issuer),
        "{shown}"
    );
    // Nor can a child of the same user read it from its parent, unless it is root.
    let output = world.run(&[], &["sh", "-c", "stat -c %U /proc/$PPID/environ"]).await;
    assert_eq!(text(&output).trim(), "root");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_signals_are_handed_on() {
    let world = World::create("").await;
    for (program, code) in [
        (&["sh", "-c", "exit 7"][..], 7),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["/no/such/program"], 127),
        (&["/etc"], 126),
    ] {
        let output = world.run(&[], program).await;
        assert_eq!(output.status.code(), Some(code), "{program:?} {}", text(&output));
    }
    assert!(world.logins().await.is_empty());

    let ready: PathBuf = world.folder.path().join("ready");
    let script = format!("trap 'exit 42' TERM; touch {}; while :; do sleep 0.05; done", ready.display());
    let mut child = world.command(&[], &["sh", "-c", &script]).spawn().unwrap();
    while !ready.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.logins().await.len(), 1);
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(42));
    assert!(world.logins().await.is_empty());
}

/// A lease of three seconds that cannot be renewed beyond that rotates every two.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_restarts_the_program() {
    let world = World::create(r#", "lifetime_seconds": 3, "max_lifetime_seconds": 3"#).await;
    let seen = world.folder.path().join("seen");
    let script = format!("echo $PGUSER >> {}; exec sleep 60", seen.display());
    let mut child = world.command(&["--debounce", "0"], &["sh", "-c", &script]).spawn().unwrap();
    let users = until_lines(&seen, 3).await;
    assert!(users.windows(2).all(|pair| pair[0] != pair[1]), "{users:?}");
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(143));
    assert!(world.logins().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_signalled_and_read_from_files() {
    let world = World::create(r#", "lifetime_seconds": 3, "max_lifetime_seconds": 3"#).await;
    let (seen, directory) = (world.folder.path().join("seen"), world.folder.path().join("credentials"));
    let script = format!(
        "trap 'cat $CREDENTIALS_DIRECTORY/PGUSER >> {0}; echo >> {0}' HUP; echo $PGUSER >> {0}; while :; do sleep 0.05; done",
        seen.display()
    );
    let options = [
        "--debounce",
        "0",
        "--grace",
        "1",
        "--on-rotation",
        "HUP",
        "--credentials",
        directory.to_str().unwrap(),
    ];
    let mut child = world.command(&options, &["sh", "-c", &script]).spawn().unwrap();
    let users = until_lines(&seen, 3).await;
    assert!(users.windows(2).all(|pair| pair[0] != pair[1]), "{users:?}");
    assert!(world.logins().await.len() <= 2);
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert!(world.logins().await.is_empty() && !directory.exists());
}

/// A secret of the manifest arrives beside the login, and so does its next version.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_lent_and_their_next_version_is_handed_over() {
    let world = World::create(r#", "secrets": {"PAYMENT_KEY": "payment-key"}"#).await;
    let output = world.run(&[], &["true"]).await;
    let shown = text(&output);
    assert!(output.status.code() == Some(125) && shown.contains("needs secrets (payment-key)"), "{shown}");

    // The store, as whoever keeps secrets makes it.
    let ring = world.folder.path().join("ring");
    let passphrase = SecretString::from("a passphrase of the ring");
    LocalKms::create(&ring, "exec", &passphrase, PassphraseCost::new(64, 1, 1).unwrap()).unwrap();
    let config = OpenConfig::new().key_ring(&ring, passphrase);
    let kms = zk_kms::open(&"local:exec".parse().unwrap(), &config).await.unwrap();
    let database = &world.database;
    let endpoint = Endpoint {
        host: "localhost".to_owned(),
        port: database.port(),
        database: database.name().to_owned(),
        root_certificate: database.cluster().ca_file(),
    };
    let login = || Login::new(endpoint.clone(), &world.issuer, "issuer password".into());
    let mut client = login().connect().await.unwrap();
    PostgresKeyStore::install(&client).await.unwrap();
    PostgresSecrets::install(&mut client).await.unwrap();
    let pool = zk_creds::postgres::pool(Arc::new(Handover::new(login())), 2).unwrap();
    let keys = Arc::new(PostgresKeyStore::new(pool.clone()));
    let encryptor = Arc::new(Encryptor::new(kms, keys, EncryptorConfig::default()).unwrap());
    let scope = Scope::new("secrets").unwrap();
    encryptor.ensure_key(&scope).await.unwrap();
    let secrets = Secrets::new(Arc::new(PostgresSecrets::new(pool, encryptor, scope)));
    let with = |options: &[&str], program: &[&str]| {
        let options = [&["--secrets", "sealed:secrets", "--look", "1", "--debounce", "0"], options].concat();
        let mut command = world.command(&options, program);
        command.env("ZK_KMS_URI", "local:exec").env("ZK_KEY_RING", &ring);
        command.env("ZK_KEY_RING_PASSPHRASE", "a passphrase of the ring");
        command
    };
    let mut missing = with(&[], &["true"]);
    let output = tokio::task::spawn_blocking(move || missing.output().unwrap()).await.unwrap();
    assert!(output.status.code() == Some(125) && text(&output).contains("payment-key"), "{}", text(&output));
    assert!(world.logins().await.is_empty());

    let name = SecretName::new("payment-key").unwrap();
    let first = secrets.create(&name, &"the first key".into()).await.unwrap();
    let (seen, directory) = (world.folder.path().join("seen"), world.folder.path().join("credentials"));
    let restarted = format!("echo $PAYMENT_KEY $PGUSER >> {}; exec sleep 60", seen.display());
    let mut child = with(&[], &["sh", "-c", &restarted]).spawn().unwrap();
    let lines = until_lines(&seen, 1).await;
    assert!(lines[0].starts_with("the first key zk_"), "{lines:?}");
    let second = secrets.put(&name, &"the second key".into(), &first).await.unwrap();
    let lines = until_lines(&seen, 2).await;
    assert!(lines[1].starts_with("the second key zk_"), "{lines:?}");
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(
        until_lines(&seen, 2).await.len(),
        2,
        "it is restarted for another version and for nothing else"
    );
    // It is known who has seen which version.
    let rows = world
        .superuser
        .query("SELECT detail FROM zk.grants WHERE kind = 'secret' ORDER BY generation", &[])
        .await
        .unwrap();
    let lent: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(
        lent.len() == 2 && lent[0].contains(first.as_str()) && lent[1].contains(second.as_str()),
        "{lent:?}"
    );
    interrupt(&mut child).await;
    assert!(world.logins().await.is_empty());

    // By files and a signal.
    std::fs::remove_file(&seen).unwrap();
    let script = format!(
        "show() {{ cat $CREDENTIALS_DIRECTORY/PAYMENT_KEY >> {0}; echo >> {0}; }}; trap show HUP; show; while :; do sleep 0.05; done",
        seen.display()
    );
    let options = ["--on-rotation", "HUP", "--grace", "1", "--credentials", directory.to_str().unwrap()];
    let mut child = with(&options, &["sh", "-c", &script]).spawn().unwrap();
    assert_eq!(until_lines(&seen, 1).await, ["the second key"]);
    secrets.put(&name, &"the third key".into(), &second).await.unwrap();
    assert_eq!(until_lines(&seen, 2).await[1], "the third key");
    interrupt(&mut child).await;
    assert!(world.logins().await.is_empty() && !directory.exists());
}

/// Ends a program of ours, and waits for it.
async fn interrupt(child: &mut std::process::Child) {
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    for _ in 0..400 {
        if child.try_wait().unwrap().is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("it does not end");
}

/// A program that is sent many signals is renewed in time all the same.
#[tokio::test(flavor = "multi_thread")]
async fn signals_do_not_put_a_renewal_off() {
    let world = World::create(r#", "lifetime_seconds": 4, "max_lifetime_seconds": 60"#).await;
    let ready: PathBuf = world.folder.path().join("ready");
    let script = format!("trap : USR1; touch {}; while :; do sleep 0.02; done", ready.display());
    let mut child = world.command(&[], &["sh", "-c", &script]).spawn().unwrap();
    while !ready.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let pid = child.id().to_string();
    let left = "SELECT extract(epoch FROM min(expires_at) - clock_timestamp())::float8 FROM zk.leases WHERE state = 'active'";
    let (mut least, begun) = (f64::MAX, std::time::Instant::now());
    while begun.elapsed() < Duration::from_secs(5) {
        assert!(Command::new("kill").args(["-USR1", &pid]).status().unwrap().success());
        least = least.min(world.superuser.query_one(left, &[]).await.unwrap().get(0));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    interrupt(&mut child).await;
    assert!(least > 0.8, "renewed {least} seconds before its end");
}

async fn until_lines(path: &PathBuf, count: usize) -> Vec<String> {
    for _ in 0..1200 {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.lines().count() >= count {
            return text.lines().map(str::to_owned).collect();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the program was not rotated: {}", std::fs::read_to_string(path).unwrap_or_default());
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told() {
    let world = World::create("").await;
    let mut unknown = world.command(&["--nonsense"], &["true"]);
    let output = unknown.output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output).contains("--nonsense"), "{}", text(&output));
    let mut missing = world.command(&[], &["true"]);
    let output = missing.env_remove("PGPASSWORD").env_remove("PGHOST").output().unwrap();
    assert!(
        output.status.code() == Some(125) && text(&output).contains("PGHOST, PGPASSWORD"),
        "{}",
        text(&output)
    );
    let mut refused = world.command(&[], &["true"]);
    let output = refused.env("PGPASSWORD", "wrong").output().unwrap();
    assert!(
        output.status.code() == Some(125) && text(&output).contains("refused the login"),
        "{}",
        text(&output)
    );
    assert!(!text(&output).contains("wrong password"), "{}", text(&output));
}
