//! Certificates of our authority at PostgreSQL's door, and what psql says to the same server.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use testkit::{Authority as Foreign, Cluster, ClusterConfig};
use zk_creds::postgres::Login;
use zk_creds::tls::{Authority, AuthorityConfig, KeyRequest, Names, Tls};
use zk_creds::{Environment, ErrorKind};

use super::shop::{Shop, StoppedClock, assert_kind};

const HOUR: Duration = Duration::from_secs(3600);

/// A server that wants a certificate of ours for the login, and its password as well, bound to the channel.
#[tokio::test]
async fn a_login_shows_a_certificate_as_well() {
    let authority = Authority::create(AuthorityConfig::new("shop.example")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // The server may run as another user.
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let root = folder.path().join("authority.pem");
    std::fs::write(&root, authority.certificate()).unwrap();
    let cluster = Cluster::start(ClusterConfig {
        hba: vec!["hostssl all +certified 127.0.0.1/32 scram-sha-256 clientcert=verify-full".to_owned()],
        settings: vec![("ssl_ca_file".to_owned(), root.to_str().unwrap().to_owned())],
        ..ClusterConfig::default()
    })
    .unwrap();
    let mut shop = Shop::create_on(cluster.database().await.unwrap()).await;
    shop.database.execute(&format!("CREATE ROLE certified; GRANT certified TO {}", shop.role)).await.unwrap();
    let credential = shop.issue().await;
    let login = credential.lease().login.clone();
    let roots = format!("{}{}", cluster.ca_pem(), authority.certificate());
    let shown = |authority: &Authority, common: &str| {
        let request = KeyRequest::generate().unwrap();
        let leaf = authority.sign(request.pem(), &Names::service("orders").login(common), HOUR).unwrap();
        request.into_material(&leaf, format!("{roots}{}", authority.certificate()))
    };
    let with = |tls: Tls| Login::of(shop.endpoint(), &credential).with_tls(tls);

    let client = with(Tls::new(shown(&authority, &login)).unwrap()).connect().await.unwrap();
    let row = client
        .query_one("SELECT client_dn, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[])
        .await
        .unwrap();
    assert_eq!((row.get(0), row.get(1)), (format!("/CN={login}"), "TLSv1.3".to_owned()));

    assert_kind(shop.connect(&credential).await, ErrorKind::Denied);
    assert_kind(with(Tls::new(shown(&authority, "another")).unwrap()).connect().await, ErrorKind::Denied);
    let wrong = Login::new(shop.endpoint(), &login, SecretString::from("wrong"));
    let tls = Tls::new(shown(&authority, &login)).unwrap();
    assert_kind(wrong.with_tls(tls).connect().await, ErrorKind::Denied);

    let foreign = Authority::create(AuthorityConfig::new("shop.example")).unwrap();
    let refused = with(Tls::new(shown(&foreign, &login)).unwrap()).connect().await.unwrap_err();
    assert!(reasons(&refused).contains("UnknownCA"), "{}", reasons(&refused));

    // One that was good two hours ago.
    let clock = StoppedClock::at_present();
    clock.turn_back(2 * HOUR);
    let mut config = AuthorityConfig::new("shop.example");
    config.clock = clock.clone();
    let early = Authority::create(config).unwrap();
    std::fs::write(&root, format!("{}{}", authority.certificate(), early.certificate())).unwrap();
    shop.database.execute("SELECT pg_reload_conf()").await.unwrap();
    let tls = Tls::with_clock(shown(&early, &login), clock).unwrap();
    let refused = with(tls).connect().await.unwrap_err();
    let text = reasons(&refused);
    assert!(text.contains("CertificateExpired") || text.contains("UnknownCA"), "{text}");
}

fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text += &format!(": {error}");
        next = error.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs psql"]
async fn psql_is_let_in_and_refused_as_we_are() {
    let mut shop = Shop::create().await;
    // libpq takes a password that was hashed once.
    shop.manifest.services[0].scram_iterations = 1;
    let credential = shop.issue().await;
    let mut environment = Environment::default();
    shop.endpoint().declare(&credential, &mut environment).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("foreign.pem");
    std::fs::write(&foreign, Foreign::new("another").unwrap().pem()).unwrap();
    let query = "select current_user, version from pg_stat_ssl where ssl and pid = pg_backend_pid()";
    let psql = async |changes: &[(&str, &str)]| {
        let mut command = Command::new("psql");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).args(["-XAt", "-c", query]);
        for name in environment.names() {
            command.env(name, environment.get(name).unwrap().expose_secret());
        }
        command.envs(changes.iter().copied());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    assert_eq!(psql(&[]).await.trim_end(), format!("{}|TLSv1.3", credential.lease().login));
    for (changes, reason) in [
        (&[("PGSSLROOTCERT", foreign.to_str().unwrap())][..], "certificate verify failed"),
        (&[("PGHOST", "127.0.0.2"), ("PGHOSTADDR", "127.0.0.1")], "does not match host name"),
        (&[("PGSSLMODE", "disable"), ("PGCHANNELBINDING", "disable")], "no encryption"),
        (&[("PGSSLMINPROTOCOLVERSION", "TLSv1"), ("PGSSLMAXPROTOCOLVERSION", "TLSv1.1")], "SSL error"),
        (&[("PGPASSWORD", "wrong")], "password authentication failed"),
    ] {
        let told = psql(changes).await;
        assert!(told.contains(reason), "{changes:?}: {told}");
    }
    shop.revoke(&credential).await.unwrap();
    assert!(psql(&[]).await.contains("password authentication failed"));
}
