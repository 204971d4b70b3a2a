//! Nothing secret is on the wire in clear, in what the server shows and logs, in any process' arguments, or in errors.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::Request;
use http_body_util::{BodyExt, Full};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use testkit::{Cluster, ClusterConfig};
use zk_creds::postgres::{
    CertificateRequest, Endpoint, HttpsRenewer, IssuerConfig, Lifetimes, Login, Renewer, TokenKey,
    TokenRequest,
};
use zk_creds::secret::{MemorySecrets, SecretName, Secrets};
use zk_creds::signed::{SignedClaims, SigningKey, TokenSigner};
use zk_creds::tls::{Authority, AuthorityConfig, Clients, KeyRequest, Names, https};
use zk_creds::{Credential, Environment, ErrorKind};

use super::proxy::Proxy;
use super::renewal;
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

/// The same for what is issued beside logins, and for a login that its service rotates over HTTPS.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_leaks_from_grants_and_renewals() {
    let settings =
        [("log_statement", "all"), ("log_min_messages", "debug1"), ("log_min_duration_statement", "0")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
    let cluster = Cluster::start(ClusterConfig { settings, ..ClusterConfig::default() }).unwrap();
    let mut shop = Shop::create_on(cluster.database().await.unwrap()).await;
    let proxy = Proxy::before(cluster.port()).await;
    shop.admin = shop.admin_through(proxy.port()).await;
    let mut secrets: Vec<(&str, String)> = Vec::new();

    let hashing = SecretSlice::from(vec![b'Q'; 40]);
    let key = TokenKey::new(hashing).unwrap();
    let lasting = Lifetimes { lifetime: Duration::from_secs(60), max_lifetime: Duration::from_secs(60) };
    let request = TokenRequest {
        kind: "api".to_owned(),
        service: "orders".to_owned(),
        scopes: vec!["read".to_owned()],
        lifetimes: lasting,
    };
    let (_, token) = shop.issuer.issue_token(&mut shop.admin, &key, &request).await.unwrap();
    let shown = token.expose().expose_secret().to_owned();
    let grant = shop.issuer.verify_token(&mut shop.admin, &key, &shown).await.unwrap();
    secrets.extend([("the token", shown), ("the key of tokens", "Q".repeat(40))]);

    let store = Secrets::new(Arc::new(MemorySecrets::default()));
    let lent = "a-secret-that-was-lent";
    store.create(&SecretName::new("payment-key").unwrap(), &lent.into()).await.unwrap();
    let mut service = shop.manifest.services[0].clone();
    service.secrets.insert("PAYMENT_KEY".to_owned(), "payment-key".to_owned());
    let mut environment = Environment::default();
    let loans = shop.issuer.lend_secrets(&mut shop.admin, &store, &service, &mut environment).await.unwrap();
    secrets.push(("the lent secret", lent.to_owned()));

    let authority = Authority::create(AuthorityConfig::new(renewal::DOMAIN)).unwrap();
    let certified = KeyRequest::generate().unwrap();
    let request = CertificateRequest {
        pem: certified.pem().to_owned(),
        names: Names::service("orders"),
        lifetimes: lasting,
    };
    let issued = shop.issuer.issue_certificate(&mut shop.admin, &authority, &request).await.unwrap();
    let pem = certified.key().expose_secret();
    secrets.push(("a private key", pem.lines().nth(1).unwrap().to_owned()));

    let signing = SigningKey::generate().unwrap();
    let stored = signing.expose();
    let public = signing.public();
    let signer = TokenSigner::new("crm", signing).unwrap();
    let signed = signer.sign(&SignedClaims::new("orders", "billing"), Duration::from_secs(60)).unwrap();
    secrets.push(("the signing key", stored.expose_secret().to_owned()));
    secrets.push(("the signed token", signed.expose_secret().to_owned()));

    let first = shop.issue().await;
    let url = renewal::serve(&shop, IssuerConfig::default(), &authority, Clients::Known).await;
    let tapped = Proxy::before(url.rsplit_once(':').unwrap().1.parse().unwrap()).await;
    let url = format!("https://localhost:{}", tapped.port());
    let client = https::client::<Full<Bytes>>(&renewal::tls(&authority, "orders")).unwrap();
    let request = Request::post(format!("{url}/rotate/{}", first.lease().id)).body(Full::default()).unwrap();
    let answer = client.request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    let renewer = HttpsRenewer::new(&url, &renewal::tls(&authority, "orders"), shop.endpoint()).unwrap();
    let refused = renewer.rotate(first.lease().id).await.unwrap_err();
    secrets.push(("the first password", secret_of(&first).to_owned()));
    secrets.push(("the rotated password", answer["password"].as_str().unwrap().to_owned()));

    let tables = text(
        &shop.admin,
        "SELECT g::text FROM zk.grants g UNION ALL SELECT a::text FROM zk.audit a UNION ALL SELECT l::text FROM zk.leases l",
    )
    .await;
    let log = cluster.log();
    assert!(log.contains("zk.grants") && tables.contains("payment-key"), "this is what we mean to search");
    let wire = String::from_utf8_lossy(&[proxy.seen(), tapped.seen()].concat()).into_owned();
    assert!(wire.len() > 10_000, "this is the traffic we mean to search");
    let printed = format!(
        "{token:?} {key:?} {grant:?} {environment:?} {loans:?} {certified:?} {issued:?} {authority:?} {public:?} \
         {signer:?} {signed:?} {renewer:?} {refused} {refused:?} {store:?} {stored:?}"
    );
    for (name, secret) in &secrets {
        assert!(secret.len() >= 16, "{name}");
        for (place, text) in
            [("tables", &tables), ("the log", &log), ("the wire", &wire), ("print", &printed)]
        {
            assert!(!text.contains(secret), "{name} is in {place}");
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
