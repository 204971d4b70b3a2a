//! A running service renews its own certificate, and nobody else's.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::routing::get;
use http_body_util::{BodyExt, Full};
use hyper_util::service::TowerToHyperService;
use secrecy::SecretString;
use tokio::net::TcpListener;
use zk_creds::postgres::{
    Authorities, CertificateRenewer, CertificateRequest, DirectCertifier, HttpsCertifier, HttpsRenewer,
    Issuer, IssuerConfig, Keeper, KeeperConfig, Lifetimes, Login, RenewalService, Renewer,
};
use zk_creds::tls::https::{self, HttpsClient, PeerSerial, ServerOptions};
use zk_creds::tls::{Authority, AuthorityConfig, Clients, KeyRequest, Material, Names, Servers, Tls};
use zk_creds::{ErrorKind, Lease, Term};

use super::renewal::DOMAIN;
use super::shop::{Shop, assert_kind};

fn authority() -> Arc<Authority> {
    Arc::new(Authority::create(AuthorityConfig::new(DOMAIN)).unwrap())
}

fn identity(service: &str) -> String {
    format!("spiffe://{DOMAIN}/{service}")
}

/// An issuer's endpoint, which certifies itself as well.
struct Endpoint {
    answers: Arc<RenewalService>,
    url: String,
}

impl Endpoint {
    async fn start(shop: &Shop, config: IssuerConfig, tls: &Tls) -> Self {
        let name: String = shop.admin.query_one("SELECT current_user::text", &[]).await.unwrap().get(0);
        let login = Login::new(shop.endpoint(), name, SecretString::from("admin"));
        let issuer = Issuer::new(&shop.manifest, config).unwrap();
        let grace = Duration::from_secs(5);
        let answers = Arc::new(RenewalService::new(issuer, login, shop.manifest.clone(), DOMAIN, grace));
        let of = answers.clone();
        let router = axum::Router::new().fallback(move |request: axum::extract::Request| {
            let answers = of.clone();
            async move { Ok::<_, Infallible>(answers.answer(request).await) }
        });
        let mut options = ServerOptions::default();
        options.clients = Clients::Known;
        Self { answers, url: serve(tls, options, router).await }
    }
}

async fn serve(tls: &Tls, options: ServerOptions, router: axum::Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = tls.clone();
    tokio::spawn(async move {
        let service = TowerToHyperService::new(router);
        https::serve(listener, &tls, options, service, std::future::pending()).await
    });
    format!("https://localhost:{port}")
}

/// A service's first certificate, as its deployment gives it to it.
async fn first(
    shop: &mut Shop,
    issuer: &Issuer,
    authority: &Authority,
    (service, lifetimes): (&str, Lifetimes),
) -> (Tls, Lease) {
    let key = KeyRequest::generate().unwrap();
    let names = Names::service(service).dns("localhost");
    let request = CertificateRequest { pem: key.pem().to_owned(), names, lifetimes };
    let (lease, leaf) = issuer.issue_certificate(&mut shop.admin, authority, &request).await.unwrap();
    (Tls::new(key.into_material(&leaf, authority.certificate())).unwrap(), lease)
}

/// Certificates of three seconds under leases of eight, an authority that is replaced in the order of the runbook, and
/// requests all the while.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_their_authority_are_replaced_without_a_failed_request() {
    const LIFE: Duration = Duration::from_secs(3);
    let lifetimes = Lifetimes { lifetime: LIFE, max_lifetime: Duration::from_secs(8) };
    let mut shop = Shop::create().await;
    let issuer = Issuer::new(&shop.manifest, IssuerConfig::default()).unwrap();
    let (old, new) = (authority(), authority());
    let mut services = Vec::new();
    for name in ["issuer", "billing", "orders"] {
        services.push(first(&mut shop, &issuer, &old, (name, lifetimes)).await);
    }
    let [(its, lease), (billing, billings), (orders, orderss)] = services.try_into().unwrap();
    let endpoint = Endpoint::start(&shop, IssuerConfig::default(), &its).await;
    let (answers, others) = (&endpoint.answers, testkit::Authority::new("another").unwrap());
    answers.sign_with(Authorities::new(old.clone())).unwrap();
    let direct = Arc::new(DirectCertifier::new(answers.clone(), "issuer"));
    let mut keepers =
        vec![Keeper::start_certificate(its, Term::from(&lease), direct, "", KeeperConfig::default())];
    for (tls, lease) in [(&billing, &billings), (&orders, &orderss)] {
        let certifier = HttpsCertifier::new(&endpoint.url, tls).unwrap();
        let certifier = Arc::new(certifier.only(Servers::service(DOMAIN, "issuer")).unwrap());
        let (term, roots) = (Term::from(lease), others.pem());
        keepers.push(Keeper::start_certificate(tls.clone(), term, certifier, roots, KeeperConfig::default()));
    }

    let mut options = ServerOptions::default();
    options.clients = Clients::These(BTreeSet::from([identity("orders")]));
    options.max_age = Duration::from_millis(700);
    let serial = async |serial: Extension<PeerSerial>| serial.0.0;
    let url = serve(&billing, options, axum::Router::new().route("/", get(serial))).await;
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let serials = Arc::new(Mutex::new(BTreeSet::new()));
    let mut clients = Vec::new();
    for number in 0..4 {
        let (stop, asked, serials) = (stop.clone(), asked.clone(), serials.clone());
        let (url, tls) = (url.clone(), orders.clone());
        clients.push(tokio::spawn(async move {
            let connect =
                || https::client_to::<Full<Bytes>>(&tls, Servers::service(DOMAIN, "billing")).unwrap();
            let (mut client, mut failures) = (connect(), Vec::new());
            while !stop.load(Ordering::Relaxed) {
                // One shakes hands each time, the others when the server ends their connection.
                if number == 0 {
                    client = connect();
                }
                match ask(&client, &url).await {
                    Ok(serial) => drop(serials.lock().unwrap().insert(serial)),
                    Err(error) => failures.push(error),
                }
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            failures
        }));
    }
    for authorities in [
        Authorities::new(old.clone()).trusting(new.clone()),
        Authorities::new(new.clone()).trusting(old.clone()),
        Authorities::new(new.clone()),
    ] {
        answers.sign_with(authorities).unwrap();
        // Whatever was signed before has ended, so everybody has what was signed since.
        tokio::time::sleep(LIFE + Duration::from_millis(300)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut failures = Vec::new();
    for client in clients {
        failures.extend(client.await.unwrap());
    }
    let asked = asked.load(Ordering::Relaxed);
    let kept: Vec<_> = keepers.iter().map(Keeper::kept).collect();
    println!(
        "{asked} requests, {} failed; {} certificates of one client; {kept:?}",
        failures.len(),
        serials.lock().unwrap().len()
    );
    assert!(failures.is_empty(), "{} of {asked} failed, such as {}", failures.len(), failures[0]);
    assert!(asked >= 1000 && serials.lock().unwrap().len() >= 4, "{asked}");
    for kept in kept {
        assert!(
            kept.failure.is_none() && !kept.ended && kept.renewals >= 2 && kept.rotations >= 1,
            "{kept:?}"
        );
    }
    // Another authority, which the service trusts besides, such as a database's, is still trusted.
    let leaf = others.server_certificate(&["localhost"]).unwrap();
    let leaf = Material::trusting(others.pem()).proving(leaf.certificate_pem, leaf.key_pem.into());
    let router = axum::Router::new().route("/", get(async || "here"));
    let theirs = serve(&Tls::new(leaf).unwrap(), ServerOptions::default(), router).await;
    assert_eq!(ask(&https::client(&orders).unwrap(), &theirs).await.unwrap(), "here");
    // The old authority is forgotten, on both sides.
    let late = first(&mut shop, &issuer, &old, ("orders", lifetimes)).await.0;
    let refused = ask(&https::client(&late).unwrap(), &url).await;
    assert!(refused.is_err(), "{refused:?}");
}

async fn ask(client: &HttpsClient<Full<Bytes>>, url: &str) -> Result<String, String> {
    let answer = client.get(url.parse().unwrap()).await.map_err(|e| format!("{e:?}"))?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(|e| format!("{e:?}"))?.to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    if status.is_success() { Ok(text) } else { Err(format!("{status}: {text}")) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_certifies_itself_and_nobody_else() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let lifetimes = Lifetimes { lifetime: minutes(10), max_lifetime: minutes(15) };
    let mut shop = Shop::create().await;
    let deployed = shop.issuer.deploy(&mut shop.admin, &shop.manifest).await.unwrap().issued;
    let mut config = IssuerConfig::default();
    (config.clock, config.max_clock_skew) = (shop.clock.clone(), Duration::MAX);
    let issuer = Issuer::new(&shop.manifest, config.clone()).unwrap();
    let mut moved = AuthorityConfig::new(DOMAIN);
    moved.clock = shop.clock.clone();
    let authority = Arc::new(Authority::create(moved).unwrap());
    let (its, _) = first(&mut shop, &issuer, &authority, ("issuer", lifetimes)).await;
    let (orders, lease) = first(&mut shop, &issuer, &authority, ("orders", lifetimes)).await;
    let (billing, billings) = first(&mut shop, &issuer, &authority, ("billing", lifetimes)).await;
    let (stranger, _) = first(&mut shop, &issuer, &authority, ("reports", lifetimes)).await;
    let endpoint = Endpoint::start(&shop, config, &its).await;
    let certifier = |tls: &Tls| HttpsCertifier::new(&endpoint.url, tls).unwrap();
    let (ours, key) = (certifier(&orders), KeyRequest::generate().unwrap());
    let unsigned = ours.renew(lease.id, key.pem()).await.unwrap_err();
    assert!(unsigned.to_string().contains("no certificates are signed here"), "{unsigned}");
    let elsewhere = Authority::create(AuthorityConfig::new("elsewhere.example")).unwrap();
    let elsewhere = endpoint.answers.sign_with(Authorities::new(Arc::new(elsewhere)));
    assert_kind(elsewhere, ErrorKind::Invalid);
    endpoint.answers.sign_with(Authorities::new(authority.clone())).unwrap();

    // Under the same names, whatever the request asks for; not beyond the maximum; and then under another lease.
    shop.clock.advance(minutes(7));
    let renewed = ours.renew(lease.id, key.pem()).await.unwrap();
    assert_eq!(renewed.term.lease, lease.id);
    assert!(renewed.term.expires_at <= lease.max_expires_at && renewed.term.expires_at > lease.expires_at);
    assert_eq!(renewed.roots, authority.certificate());
    shop.clock.advance(minutes(7));
    let rotated = ours.rotate(lease.id, key.pem()).await.unwrap();
    assert!(rotated.term.lease != lease.id && rotated.term.max_expires_at > lease.max_expires_at);
    // The answer may be lost: again, until the lease has ended.
    let again = ours.rotate(lease.id, key.pem()).await.unwrap();
    assert_ne!(again.term.lease, rotated.term.lease);

    // The leases of others, and certificates of nobody here.
    let before = shop.issuer.grants(&mut shop.admin).await.unwrap();
    for lease in [lease.id, again.term.lease, Default::default()] {
        assert_kind(certifier(&billing).renew(lease, key.pem()).await, ErrorKind::Expired);
        assert_kind(certifier(&billing).rotate(lease, key.pem()).await, ErrorKind::Expired);
        assert_kind(certifier(&stranger).renew(lease, key.pem()).await, ErrorKind::Denied);
    }
    // A login's lease is no certificate's, nor the other way round.
    let login = deployed[0].lease().id;
    assert_kind(ours.renew(login, key.pem()).await, ErrorKind::Expired);
    let logins = HttpsRenewer::new(&endpoint.url, &orders, shop.endpoint()).unwrap();
    assert_kind(logins.renew(again.term.lease).await, ErrorKind::Expired);
    // What is no request, or is too long.
    for wrong in ["", "nothing", &"x".repeat(17 * 1024)] {
        let refused = ours.renew(again.term.lease, wrong).await.unwrap_err();
        assert!(refused.to_string().contains("400"), "{refused}");
    }
    assert_eq!(shop.issuer.grants(&mut shop.admin).await.unwrap(), before, "nothing was done");
    let nobody = certifier(&orders).only(Servers::service(DOMAIN, "another")).unwrap();
    assert_kind(nobody.renew(again.term.lease, key.pem()).await, ErrorKind::Unavailable);

    // One that was called back renews nothing, at once: not itself, not its successor, not its service's login.
    issuer.revoke_grant(&mut shop.admin, &billings).await.unwrap();
    let theirs = certifier(&billing);
    for lease in [billings.id, deployed[1].lease().id] {
        assert_kind(theirs.renew(lease, key.pem()).await, ErrorKind::Denied);
        assert_kind(theirs.rotate(lease, key.pem()).await, ErrorKind::Denied);
    }
    let logins = HttpsRenewer::new(&endpoint.url, &billing, shop.endpoint()).unwrap();
    assert_kind(logins.renew(deployed[1].lease().id).await, ErrorKind::Denied);
    assert_kind(logins.rotate(deployed[1].lease().id).await, ErrorKind::Denied);
    // And everybody else hears of it with the next certificate.
    let told = ours.renew(again.term.lease, key.pem()).await.unwrap();
    assert!(told.refused.contains("BEGIN X509 CRL"), "{told:?}");

    let entries = shop.issuer.audit(&mut shop.admin, 0).await.unwrap();
    let refused = entries.iter().filter(|(_, entry)| entry.refused.as_deref() == Some("Expired")).count();
    assert!(refused >= 8, "{refused}");
}

/// What the issuer cannot do for its own reasons is no word about the service's lease.
#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_cannot_log_in_ends_nobodys_lease() {
    let mut shop = Shop::create().await;
    let hour = Duration::from_secs(3600);
    let lifetimes = Lifetimes { lifetime: hour, max_lifetime: hour };
    let issuer = Issuer::new(&shop.manifest, IssuerConfig::default()).unwrap();
    let authority = authority();
    let (its, _) = first(&mut shop, &issuer, &authority, ("issuer", lifetimes)).await;
    let (orders, lease) = first(&mut shop, &issuer, &authority, ("orders", lifetimes)).await;
    let login = shop.issue().await;
    let endpoint = Endpoint::start(&shop, IssuerConfig::default(), &its).await;
    endpoint.answers.sign_with(Authorities::new(authority)).unwrap();
    let name: String = shop.admin.query_one("SELECT current_user::text", &[]).await.unwrap().get(0);
    shop.database.execute(&format!("ALTER ROLE {name} VALID UNTIL '2000-01-01'")).await.unwrap();
    let key = KeyRequest::generate().unwrap();
    let certifier = HttpsCertifier::new(&endpoint.url, &orders).unwrap();
    assert_kind(certifier.renew(lease.id, key.pem()).await, ErrorKind::Unavailable);
    let renewer = HttpsRenewer::new(&endpoint.url, &orders, shop.endpoint()).unwrap();
    assert_kind(renewer.renew(login.lease().id).await, ErrorKind::Unavailable);
}
