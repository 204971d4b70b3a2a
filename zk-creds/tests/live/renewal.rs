//! A running service renews and rotates its own login, and nobody else's.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio::net::TcpListener;
use zk_creds::postgres::{
    DirectRenewer, Handover, HttpsRenewer, Issuer, IssuerConfig, Keeper, KeeperConfig, Login, RenewalService,
    Renewer, pool,
};
use zk_creds::tls::https::{self, ServerOptions};
use zk_creds::tls::{Authority, AuthorityConfig, Clients, KeyRequest, Material, Names, Tls};
use zk_creds::{ErrorKind, Term};

use super::shop::{Shop, assert_kind};

pub(crate) const DOMAIN: &str = "shop.example";

pub(crate) fn tls(authority: &Authority, service: &str) -> Tls {
    let request = KeyRequest::generate().unwrap();
    let names = Names::service(service).dns("localhost");
    let leaf = authority.sign(request.pem(), &names, Duration::from_secs(3600)).unwrap();
    Tls::new(request.into_material(&leaf, authority.certificate())).unwrap()
}

/// The issuer's own login.
async fn admin(shop: &Shop) -> Login {
    let name: String = shop.admin.query_one("SELECT current_user::text", &[]).await.unwrap().get(0);
    Login::new(shop.endpoint(), name, SecretString::from("admin"))
}

/// The address of an issuer that answers whoever `clients` says.
pub(crate) async fn serve(
    shop: &Shop,
    config: IssuerConfig,
    authority: &Authority,
    clients: Clients,
) -> String {
    let issuer = Issuer::new(&shop.manifest, config).unwrap();
    let grace = Duration::from_secs(5);
    let answers =
        Arc::new(RenewalService::new(issuer, admin(shop).await, shop.manifest.clone(), DOMAIN, grace));
    let service = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let answers = answers.clone();
        async move { Ok::<_, Infallible>(answers.answer(request).await) }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = tls(authority, "issuer");
    let mut options = ServerOptions::default();
    options.clients = clients;
    tokio::spawn(async move {
        let service = hyper_util::service::TowerToHyperService::new(service);
        https::serve(listener, &tls, options, service, std::future::pending()).await
    });
    format!("https://localhost:{port}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_renews_and_rotates_its_own_login_and_nobody_elses() {
    let mut shop = Shop::create().await;
    let deployed = shop.issuer.deploy(&mut shop.admin, &shop.manifest).await.unwrap().issued;
    let (orders, billing) = (&deployed[0], &deployed[1]);
    let authority = Authority::create(AuthorityConfig::new(DOMAIN)).unwrap();
    let mut config = IssuerConfig::default();
    config.clock = shop.clock.clone();
    config.max_clock_skew = Duration::MAX;
    let url = serve(&shop, config.clone(), &authority, Clients::Known).await;
    let endpoint = shop.endpoint();
    let renewer =
        |service: &str| HttpsRenewer::new(&url, &tls(&authority, service), endpoint.clone()).unwrap();
    let ours = renewer("orders");

    shop.clock.advance(Duration::from_secs(30));
    let term = ours.renew(orders.lease().id).await.unwrap();
    assert_eq!(term.expires_at, orders.lease().issued_at + Duration::from_secs(90));
    // Another service of the solution, with the lease of this one; and a certificate of no service.
    let before = shop.issuer.leases(&mut shop.admin).await.unwrap();
    for lease in [orders.lease().id, Default::default()] {
        assert_kind(renewer("billing").renew(lease).await, ErrorKind::Expired);
        assert_kind(renewer("billing").rotate(lease).await, ErrorKind::Expired);
        assert_kind(renewer("reports").renew(lease).await, ErrorKind::Denied);
        assert_kind(renewer("reports").rotate(lease).await, ErrorKind::Denied);
    }
    assert_kind(ours.renew(billing.lease().id).await, ErrorKind::Expired);
    assert_kind(ours.rotate(billing.lease().id).await, ErrorKind::Expired);
    assert_eq!(shop.issuer.leases(&mut shop.admin).await.unwrap(), before, "nothing was done");
    // Without a certificate, where the server would let everybody in.
    let open = serve(&shop, config.clone(), &authority, Clients::Anybody).await;
    let nobody = Tls::new(Material::trusting(authority.certificate())).unwrap();
    let nobody = HttpsRenewer::new(&open, &nobody, shop.endpoint()).unwrap();
    assert_kind(nobody.renew(orders.lease().id).await, ErrorKind::Denied);
    // An issuer that another authority vouches for is not asked.
    let foreign = Authority::create(AuthorityConfig::new(DOMAIN)).unwrap();
    let fooled = HttpsRenewer::new(&url, &tls(&foreign, "orders"), shop.endpoint()).unwrap();
    assert_kind(fooled.renew(orders.lease().id).await, ErrorKind::Unavailable);
    for wrong in ["http://localhost:1", "localhost", "https://localhost/?a=b"] {
        let refused = HttpsRenewer::new(wrong, &tls(&authority, "orders"), shop.endpoint());
        assert_kind(refused, ErrorKind::Invalid);
    }

    let (next, login) = ours.rotate(orders.lease().id).await.unwrap();
    assert!(login.term() == Some(next) && login.user() != orders.lease().login);
    drop((login.connect().await.unwrap(), shop.connect(orders).await.unwrap()));
    assert!(
        !format!("{login:?} {ours:?}").contains("password: \"") && format!("{login:?}").contains("REDACTED")
    );
    assert_kind(ours.rotate(orders.lease().id).await, ErrorKind::Conflict);
    // Past the grace, the old lease is nobody's any more, and cannot take the new login away.
    shop.clock.advance(Duration::from_secs(5));
    assert_kind(ours.rotate(orders.lease().id).await, ErrorKind::Expired);
    assert_kind(ours.renew(orders.lease().id).await, ErrorKind::Expired);
    let of = shop.issuer.leases(&mut shop.admin).await.unwrap();
    let newest = of.iter().find(|lease| lease.id == next.lease).unwrap().clone();
    shop.issuer.revoke(&mut shop.admin, &newest).await.unwrap();
    assert_kind(ours.renew(next.lease).await, ErrorKind::Expired);

    // Who asked for what is in the audit, with refusals.
    let entries = shop.issuer.audit(&mut shop.admin, 0).await.unwrap();
    let refused = |service: &str| {
        let of = |entry: &zk_creds::postgres::audit::Entry| {
            entry.service.as_deref() == Some(service) && entry.refused.as_deref() == Some("Expired")
        };
        entries.iter().filter(|(_, entry)| of(entry)).count()
    };
    assert_eq!((refused("billing"), refused("orders")), (4, 5));
}

/// With a real clock: lives of seconds, a pool under load, and a login that is renewed, then replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_service_rotates_without_a_restart() {
    let mut shop = Shop::create().await;
    let service = &mut shop.manifest.services[0];
    (service.lifetime_seconds, service.max_lifetime_seconds, service.connections) = (4, 6, 20);
    shop.issuer = Issuer::new(&shop.manifest, IssuerConfig::default()).unwrap();
    let first = shop.issue().await;
    let authority = Authority::create(AuthorityConfig::new(DOMAIN)).unwrap();
    let url = serve(&shop, IssuerConfig::default(), &authority, Clients::Known).await;
    let renewer = HttpsRenewer::new(&url, &tls(&authority, "orders"), shop.endpoint()).unwrap();

    let handover = Arc::new(Handover::new(Login::of(shop.endpoint(), &first)));
    let pool = pool(handover.clone(), 4).unwrap();
    let term = Term::from(first.lease());
    let keeper = Keeper::start(handover, term, Arc::new(renewer), KeeperConfig::default());
    let (start, mut queries, mut users) = (Instant::now(), 0, std::collections::BTreeSet::new());
    while keeper.kept().rotations < 1 || users.len() < 2 {
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", keeper.kept());
        let client = pool.get().await.unwrap();
        users.insert(client.query_one("SELECT session_user::text", &[]).await.unwrap().get::<_, String>(0));
        queries += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("{queries} queries over {:?}, {users:?}", keeper.kept());
    assert!(keeper.kept().renewals >= 1 && keeper.kept().failure.is_none(), "{:?}", keeper.kept());
    assert!(users.contains(&first.lease().login));
}

/// In the issuer's own process, without a network between.
#[tokio::test]
async fn an_issuer_in_the_same_process_renews_directly() {
    let mut shop = Shop::create().await;
    let credential = shop.issue().await;
    let mut config = IssuerConfig::default();
    config.clock = shop.clock.clone();
    config.max_clock_skew = Duration::MAX;
    let issuer = Issuer::new(&shop.manifest, config).unwrap();
    let service = shop.manifest.services[0].clone();
    let renewer =
        DirectRenewer::new(issuer, admin(&shop).await, shop.endpoint(), service, Duration::from_secs(5));
    shop.clock.advance(Duration::from_secs(30));
    let term = renewer.renew(credential.lease().id).await.unwrap();
    assert_eq!(term.expires_at, credential.lease().issued_at + Duration::from_secs(90));
    let (_, login) = renewer.rotate(credential.lease().id).await.unwrap();
    drop(login.connect().await.unwrap());
    assert!(!format!("{renewer:?}").contains("\"admin\""));
}
