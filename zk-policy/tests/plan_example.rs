//! The example `plan`, as a program against a database: what it says, and the statuses it ends with.
#![cfg(all(feature = "postgres", feature = "render"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use testkit::Database;

const POLICY: &str = "
policy shop
role clerk
claim tenant: uuid
table orders {
  tenant tenant_id = claim.tenant
  allow clerk select
}
";

/// Builds the example, or finds it built: whichever tests were chosen, it is the one of these sources.
fn example() -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--all-features", "--example", "plan", "--message-format", "json"]);
    build.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let built = build.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let messages = String::from_utf8(built.stdout).unwrap();
    let executable = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == "plan" && message["target"]["kind"][0] == "example";
        message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
    };
    messages.lines().find_map(executable).unwrap()
}

struct Shop {
    program: PathBuf,
    database: Database,
    folder: tempfile::TempDir,
}

impl Shop {
    async fn open() -> Self {
        let database = Database::create().await.unwrap();
        let tables = "CREATE TABLE orders (tenant_id uuid NOT NULL, id int8, PRIMARY KEY (tenant_id, id))";
        database.execute(tables).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("shop.policy"), POLICY).unwrap();
        Self { program: example(), database, folder }
    }

    fn policy(&self) -> PathBuf {
        self.folder.path().join("shop.policy")
    }

    fn run(&self, command: &str, options: &[&str]) -> Output {
        let mut program = self.program(command);
        program
            .arg("--root-cert")
            .arg(self.database.cluster().ca_file())
            .env("DATABASE_URL", self.database.url());
        program.args(options).output().unwrap()
    }

    fn program(&self, command: &str) -> Command {
        let mut program = Command::new(&self.program);
        program.env_remove("DATABASE_URL").env_remove("PGPASSWORD").arg(command).arg(self.policy());
        program
    }

    #[track_caller]
    fn check(&self, command: &str, options: &[&str], status: i32, said: &str) {
        let output = self.run(command, options);
        let all = all(&output);
        assert_eq!(output.status.code(), Some(status), "{command} {options:?}\n{all}");
        assert!(all.contains(said), "{command} {options:?}: `{said}` is missing from\n{all}");
    }
}

fn all(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn the_program_prepares_a_database_for_signed_claims_and_masks() {
    let shop = Shop::open().await;
    shop.database.execute("ALTER TABLE orders ADD note text").await.unwrap();
    shop.check("prepare", &[], 0, "the database has what policy shop needs");
    let schema = "SELECT count(*) FROM pg_namespace WHERE nspname = 'zk'";
    let made = async || {
        shop.database.connect().await.unwrap().query_one(schema, &[]).await.unwrap().get::<_, i64>(0)
    };
    assert_eq!(made().await, 0, "something was made for a policy that needs nothing");

    let text = POLICY
        .replace("claim tenant: uuid", "claim tenant: uuid\nclaims signed")
        .replace("allow clerk select", "allow clerk select\n  mask note for clerk as hash");
    std::fs::write(shop.policy(), text).unwrap();
    shop.check("plan", &[], 1, "the command `prepare` does that");
    shop.check("prepare", &[], 0, "the database has what policy shop needs");
    shop.check("prepare", &[], 0, "the database has what policy shop needs");
    assert_eq!(made().await, 1);
    shop.check("plan", &[], 2, "WIDENS");
}

#[tokio::test]
async fn the_program_takes_a_policy_from_text_to_a_guarded_database() {
    let shop = Shop::open().await;
    shop.check("check", &[], 0, "policy shop is right; tables: 1, roles: 1");
    shop.check("lint", &[], 2, "error[L101] table public.orders");
    shop.check("plan", &[], 2, "WIDENS");
    shop.check("plan", &["--format", "sql"], 2, "CREATE ROLE \"shop_clerk\"");
    shop.check("plan", &["--format", "json"], 2, "\"steps\": [");
    shop.check("apply", &[], 1, "--allow-widening");
    shop.check("plan", &[], 2, "WIDENS");
    shop.check("apply", &["--allow-widening"], 0, "applied and verified");
    shop.check("plan", &[], 0, "nothing to do");
    shop.check("apply", &[], 0, "applied and verified; steps: 0");
    shop.check("lint", &[], 0, "nothing weakens the policy");
    shop.database.execute("GRANT SELECT ON orders TO PUBLIC").await.unwrap();
    shop.check(
        "plan",
        &[],
        2,
        "drift: public has SELECT on public.orders outside the policy: REVOKE SELECT ON",
    );
    shop.check("plan", &["--remove-drift"], 2, "remove drift: public has SELECT");
    shop.check("apply", &["--remove-drift"], 0, "applied and verified; steps: 1");
    shop.check("plan", &["--alongside", "billing"], 0, "nothing to do");
    shop.check("matrix", &[], 0, "public.orders");
    shop.check("matrix", &["--format", "json"], 0, "\"condition\"");
    shop.check("matrix", &["--format", "html"], 0, "<!doctype html>");
    // A note is worth saying and no reason to stop.
    shop.database.execute("ALTER TABLE orders ADD at date; CREATE INDEX ON orders (at)").await.unwrap();
    shop.check("lint", &[], 0, "note[L604]");
    shop.check("lint", &["--format", "json"], 0, "\"code\": \"L604\"");
}

#[tokio::test]
async fn mistakes_are_said_and_end_with_status_1() {
    let shop = Shop::open().await;
    shop.check("plan", &["--format", "html"], 1, "plan has no format `html`, only text, json, sql");
    shop.check("paint", &[], 1, "there is no command `paint`");
    shop.check("plan", &["--colour"], 1, "--help lists what there is");
    shop.check("plan", &["--database", "postgres://u:secret@localhost/x"], 1, "set PGPASSWORD");
    shop.check("plan", &["--root-cert", "/nowhere/ca.pem"], 1, "/nowhere/ca.pem cannot be read");
    std::fs::write(shop.policy(), POLICY.replace("tenant tenant_id", "tenant tenant")).unwrap();
    shop.check("check", &[], 1, "did you mean `tenant_id`?");

    let help = Command::new(&shop.program).arg("--help").output().unwrap();
    assert_eq!(help.status.code(), Some(0));
    for said in ["check", "plan", "apply", "lint", "matrix", "exit status", "--plaintext"] {
        assert!(all(&help).contains(said), "{said}");
    }
}

#[tokio::test]
async fn no_connection_is_made_that_is_not_verified_unless_asked_for() {
    let shop = Shop::open().await;
    let url = shop.database.url();
    let refused = shop.program("plan").env("DATABASE_URL", &url).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(all(&refused).contains("--root-cert"), "{}", all(&refused));

    // Another authority than the server's.
    let other = testkit::Authority::new("somebody else").unwrap();
    let path = shop.folder.path().join("other.pem");
    std::fs::write(&path, other.pem()).unwrap();
    let refused = shop.run("plan", &["--root-cert", path.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1), "{}", all(&refused));

    // Asked for; this server refuses it, which shows that no TLS was spoken.
    let plain = url.replace("sslmode=require&channel_binding=require", "channel_binding=prefer");
    let refused = shop.program("plan").env("DATABASE_URL", plain).arg("--plaintext").output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(all(&refused).contains("pg_hba.conf"), "{}", all(&refused));
    assert!(!all(&refused).contains(shop.database.cluster().superuser_password()), "a password was printed");
}

#[test]
fn a_schema_file_stands_in_for_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path: PathBuf = Path::new(folder.path()).join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let policy = write("shop.policy", POLICY);
    let schema = write(
        "schema.json",
        r#"{ "public": { "orders": { "columns":
             [{ "name": "tenant_id", "type": { "scalar": "uuid" }, "nullable": false }] } } }"#,
    );
    let run = |command: &str| {
        Command::new(example()).arg(command).arg(&policy).arg("--schema").arg(&schema).output().unwrap()
    };
    assert_eq!(run("check").status.code(), Some(0), "{}", all(&run("check")));
    assert!(all(&run("matrix")).contains("tenant_id"));
}

#[test]
fn fmt_writes_the_canonical_form_and_keeps_comments() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.policy");
    std::fs::write(&file, "policy shop   # of toys\nROLE clerk").unwrap();
    let program = example();
    let run = |options: &[&str]| Command::new(&program).arg("fmt").arg(&file).args(options).output().unwrap();
    let written = || std::fs::read_to_string(&file).unwrap();

    let checked = run(&["--check"]);
    assert_eq!(checked.status.code(), Some(2), "{}", all(&checked));
    assert!(written().contains("ROLE"), "--check leaves the file as it is");
    assert_eq!(run(&[]).status.code(), Some(0));
    assert_eq!(written(), "policy shop  # of toys\n\nrole clerk\n");
    assert_eq!(run(&["--check"]).status.code(), Some(0));

    std::fs::write(&file, "policy").unwrap();
    assert!(all(&run(&[])).contains("error[E102]"), "{}", all(&run(&[])));
    assert_eq!(written(), "policy", "a text with mistakes is left as it is");
}
