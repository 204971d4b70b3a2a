//! Nothing secret is on the wire in clear, in what the server shows and logs, in any process' arguments, or in errors.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use testkit::{Cluster, ClusterConfig};
use zk_creds::postgres::{Endpoint, Login};
use zk_creds::{Credential, Environment, ErrorKind};

use super::proxy::Proxy;
use super::shop::{Shop, assert_kind};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_leaks() {
    let set = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let mut settings: Vec<_> = [
        ("log_statement", "all"),
        ("log_connections", "on"),
        ("log_min_messages", "debug1"),
        ("log_min_duration_statement", "0"),
        ("track_activity_query_size", "65536"),
    ]
    .map(set)
    .to_vec();
    settings.push(set(("shared_preload_libraries", "pg_stat_statements")));
    let with_statistics =
        Cluster::start(ClusterConfig { settings: settings.clone(), ..ClusterConfig::default() });
    let statements = with_statistics.is_ok();
    settings.pop();
    // Not every package of PostgreSQL brings the extension.
    let cluster =
        with_statistics.or_else(|_| Cluster::start(ClusterConfig { settings, ..ClusterConfig::default() }));
    let cluster = cluster.unwrap();
    let mut shop = Shop::create_on(cluster.database().await.unwrap()).await;
    let superuser = shop.database.connect().await.unwrap();
    if statements {
        superuser.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    }

    // An eavesdropper sits between the issuer, the service and the server.
    let proxy = Proxy::before(cluster.port()).await;
    shop.admin = shop.admin_through(proxy.port()).await;
    let tapped = Endpoint { port: proxy.port(), ..shop.endpoint() };
    let mut seen = Vec::new();
    let mut activity = String::new();
    let old = shop.issue().await;
    activity += &text(&superuser, "SELECT a::text FROM pg_stat_activity a").await;
    shop.issuer.renew(&mut shop.admin, old.lease()).await.unwrap();
    let new = shop.rotate(Duration::ZERO).await.unwrap();
    activity += &text(&superuser, "SELECT a::text FROM pg_stat_activity a").await;
    let client = Login::of(tapped.clone(), &new).connect().await.unwrap();
    activity += &text(&superuser, "SELECT a::text FROM pg_stat_activity a").await;
    client.query_one("SELECT current_user::text", &[]).await.unwrap();

    // A child with the credential in its environment.
    let mut environment = Environment::default();
    tapped.declare(&new, &mut environment).unwrap();
    let mut command = environment.command("sleep");
    let mut child = command.arg("5").spawn().unwrap();
    let arguments = command_lines_with("sleep\u{0}5").await;
    child.kill().unwrap();
    child.wait().unwrap();

    let refused = assert_kind(Login::of(tapped, &old).connect().await, ErrorKind::Denied);
    let wrong = SecretString::from("a wrong password of ours");
    let denied = Login::new(shop.endpoint(), &new.lease().login, wrong.clone()).connect().await.unwrap_err();
    shop.revoke(&new).await.unwrap();
    seen.extend(proxy.seen());

    let mut server = cluster.log();
    assert!(
        server.contains("CREATE ROLE") && server.contains(&new.lease().login),
        "this is the log we mean to search"
    );
    if statements {
        server += &text(&superuser, "SELECT s::text FROM pg_stat_statements s").await;
    }
    server += &text(&superuser, "SELECT a::text FROM zk.audit a").await;
    server += &text(&superuser, "SELECT l::text FROM zk.leases l").await;
    server += &text(&superuser, "SELECT r::text FROM pg_roles r").await;
    server += &text(&superuser, "SELECT d::text FROM pg_shdescription d").await;
    let printed = format!(
        "{refused} {refused:?} {denied} {denied:?} {old:?} {new:#?} {:?} {environment:?} {command:?} {:?}",
        shop.issuer,
        Login::of(shop.endpoint(), &new)
    );
    assert!(arguments.contains("sleep\u{0}5"), "these are the arguments we mean to search");
    let seen = String::from_utf8_lossy(&seen);
    assert!(seen.len() > 10_000, "this is the traffic we mean to search");
    for (place, text) in [
        ("the server", &server),
        ("pg_stat_activity", &activity),
        ("the wire", &seen.into_owned()),
        ("arguments", &arguments),
        ("what is printed", &printed),
    ] {
        for secret in [secret_of(&old), secret_of(&new), wrong.expose_secret()] {
            assert!(!text.contains(secret), "a password is in {place}");
        }
        if place == "the wire" {
            assert!(!text.contains(&new.lease().login), "the login is on the wire in clear");
            assert!(!text.contains("SCRAM-SHA-256"), "the wire is not encrypted");
        }
    }
}

fn secret_of(credential: &Credential) -> &str {
    credential.password().expose_secret()
}

async fn text(client: &tokio_postgres::Client, query: &str) -> String {
    let rows = client.query(query, &[]).await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect()
}

/// The same once a process with these arguments is among them: one that was just started may not have them yet.
async fn command_lines_with(arguments: &str) -> String {
    for _ in 0..500 {
        let all = command_lines();
        if all.contains(arguments) {
            return all;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    command_lines()
}

/// The arguments of every process of this machine that we may read.
fn command_lines() -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        if let Ok(line) = std::fs::read(entry.path().join("cmdline")) {
            all.push_str(&String::from_utf8_lossy(&line));
        }
    }
    all
}
