//! What a cluster lets in, what it refuses, and what it survives.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use testkit::{Authority, Binaries, Cluster, ClusterConfig, Database, unique_name};
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;

#[tokio::test]
async fn logs_in_over_tls_with_scram_bound_to_the_channel() {
    let database = Database::create().await.unwrap();
    let role = role(&database).await;
    let client = database.connect_as(&role, "pw").await.unwrap();
    let row = client
        .query_one(
            "SELECT ssl, version, current_user::text, current_database()::text, current_setting('is_superuser')
             FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
            &[],
        )
        .await
        .unwrap();
    assert!(row.get::<_, bool>(0));
    assert!(["TLSv1.2", "TLSv1.3"].contains(&row.get(1)));
    assert_eq!(row.get::<_, String>(2), role);
    assert_eq!(row.get::<_, String>(3), database.name());
    assert_eq!(row.get::<_, String>(4), "off");
}

#[tokio::test]
async fn databases_are_separate() {
    let (one, two) = (Database::create().await.unwrap(), Database::create().await.unwrap());
    one.execute("CREATE TABLE t ()").await.unwrap();
    two.execute("CREATE TABLE t ()").await.unwrap();
    assert_eq!(one.port(), two.port(), "the tests of a process share a cluster");
}

#[tokio::test]
async fn refuses_a_wrong_password() {
    let database = Database::create().await.unwrap();
    let role = role(&database).await;
    let refused = database.connect_as(&role, "other").await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD));
}

#[tokio::test]
async fn refuses_plaintext() {
    let database = Database::create().await.unwrap();
    let mut config = database.superuser();
    config.ssl_mode(SslMode::Disable).channel_binding(ChannelBinding::Disable);
    let refused = config.connect(tokio_postgres::NoTls).await.err().unwrap();
    assert_eq!(refused.code(), Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION));
}

#[tokio::test]
async fn a_client_certificate_is_for_its_role_and_for_members_only() {
    let database = Database::create().await.unwrap();
    let (member, other) = (role(&database).await, role(&database).await);
    database.execute(&format!("GRANT cert_login TO {member}")).await.unwrap();
    let issue = |role: &str| database.cluster().client_certificate(role).unwrap();

    assert!(database.connect_with(&member, &issue(&member)).await.is_ok());
    assert!(database.connect_with(&member, &issue(&other)).await.is_err(), "another role's certificate");
    assert!(database.connect_with(&other, &issue(&other)).await.is_err(), "not a member");
    assert!(
        database.connect_with("postgres", &issue("postgres")).await.is_err(),
        "the superuser is no member"
    );
    assert!(database.connect_as(&member, "pw").await.is_err(), "a member has to show a certificate");
    let foreign = Authority::new("foreign").unwrap().client_certificate(&member).unwrap();
    assert!(database.connect_with(&member, &foreign).await.is_err(), "a foreign authority");
}

#[tokio::test]
async fn a_client_of_another_authority_does_not_connect() {
    let database = Database::create().await.unwrap();
    let foreign = Authority::new("foreign").unwrap().client_config(None).unwrap();
    let refused = database.superuser().connect(MakeRustlsConnect::new(foreign)).await;
    assert!(format!("{:?}", refused.err().unwrap()).contains("UnknownIssuer"));
}

#[tokio::test]
async fn an_impostor_takes_the_place_of_a_stopped_server() {
    let real = Cluster::start(ClusterConfig::default()).unwrap();
    let database = real.database().await.unwrap();
    real.stop().unwrap();
    assert!(database.connect().await.is_err());
    let impostor = Cluster::start(ClusterConfig {
        authority: Some(real.authority().clone()),
        server_names: vec!["elsewhere".into()],
        port: Some(real.port()),
        ..Default::default()
    })
    .unwrap();
    let refused = database.superuser().connect(database.tls()).await;
    assert!(format!("{:?}", refused.err().unwrap()).contains("NotValidForName"));
    drop(impostor);
    real.start_again().unwrap();
    database.connect().await.unwrap();
}

#[tokio::test]
async fn keeps_port_and_data_over_stop_and_crash() {
    let cluster = Cluster::start(ClusterConfig::default()).unwrap();
    let database = cluster.database().await.unwrap();
    let client = database.connect().await.unwrap();
    database.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7); CHECKPOINT").await.unwrap();
    for stop in [Cluster::stop, Cluster::crash] {
        stop(&cluster).unwrap();
        assert!(client.simple_query("SELECT 1").await.is_err(), "connections are cut");
        assert!(database.connect().await.is_err());
        cluster.start_again().unwrap();
        let row = database.connect().await.unwrap().query_one("SELECT n FROM kept", &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 7);
    }
}

#[tokio::test]
async fn the_log_tells_what_reached_the_server_and_never_the_superuser_password() {
    let database = Database::create().await.unwrap();
    database.execute("SELECT 'needle in the log'").await.unwrap();
    let log = database.cluster().log();
    assert!(log.contains("needle in the log"));
    assert!(!log.contains(database.cluster().superuser_password()));
    let debug = format!("{database:?}");
    assert!(!debug.contains(database.cluster().superuser_password()));
}

#[tokio::test]
async fn settings_and_hba_lines_of_the_caller_win() {
    let cluster = Cluster::start(ClusterConfig {
        settings: vec![("work_mem".into(), "5MB".into()), ("application_name".into(), "it's".into())],
        hba: vec!["hostssl all barred all reject".into()],
        ..Default::default()
    })
    .unwrap();
    let database = cluster.database().await.unwrap();
    database.execute("CREATE ROLE barred LOGIN PASSWORD 'pw'").await.unwrap();
    assert!(database.connect_as("barred", "pw").await.is_err());
    let client = database.connect().await.unwrap();
    let row =
        client.query_one("SELECT current_setting('work_mem'), current_setting('application_name')", &[]);
    let row = row.await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("5MB", "it's"));
}

#[tokio::test]
async fn a_pool_and_both_urls_connect() {
    let database = Database::create().await.unwrap();
    let role = role(&database).await;
    let client = database.pool(&role, "pw").get().await.unwrap();
    client.simple_query("SELECT 1").await.unwrap();

    let config: tokio_postgres::Config = database.url().parse().unwrap();
    for config in [&config, &database.superuser()] {
        assert_eq!(config.get_ssl_mode(), SslMode::Require);
        // The server does not tell afterwards, but with this a client refuses a login that was not bound.
        assert_eq!(config.get_channel_binding(), ChannelBinding::Require);
    }
    drop(config.connect(database.tls()).await.unwrap());
}

#[tokio::test]
#[ignore = "needs the Python environment: ./dev test"]
async fn libpq_verifies_the_server_and_logs_in() {
    let database = Database::create().await.unwrap();
    let role = role(&database).await;
    let python = Path::new(&std::env::var_os("ZK_PYTHON_ENV").unwrap()).join("bin/python");
    let script = "import psycopg, sys\n\
        print(psycopg.connect(sys.argv[1]).execute('SELECT current_user').fetchone()[0])";
    let url = database.libpq_url(&role, "pw");
    assert!(url.contains("sslmode=verify-full"));
    let output = Command::new(python).args(["-c", script, &url]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), role, "{output:?}");
}

#[test]
fn only_the_server_user_enters_the_folder() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = Cluster::shared().unwrap();
    let mode = std::fs::metadata(cluster.socket_folder()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let key = cluster.socket_folder().join("server.key");
    assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn every_installed_version_starts_and_says_how_fast() {
    for binaries in Binaries::find_all().unwrap() {
        let major = binaries.major();
        let start =
            |binaries| Cluster::start(ClusterConfig { binaries: Some(binaries), ..Default::default() });
        drop(start(binaries.clone()).unwrap()); // the template exists from here on
        let started = Instant::now();
        let cluster = start(binaries).unwrap();
        let ready = started.elapsed();
        let database = cluster.database().await.unwrap();
        let with_database = started.elapsed();
        let client = database.connect().await.unwrap();
        let row = client.query_one("SELECT current_setting('server_version_num')::int", &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0) / 10_000, i32::from(major));
        println!("PostgreSQL {major}: ready after {ready:?}, with a database after {with_database:?}");
    }
}

async fn role(database: &Database) -> String {
    let name = unique_name("role");
    database.execute(&format!("CREATE ROLE {name} LOGIN PASSWORD 'pw'")).await.unwrap();
    name
}
