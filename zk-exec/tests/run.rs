//! The program as somebody types it, with psql and other programs as its children.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use testkit::Database;
use tokio_postgres::Client;

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
