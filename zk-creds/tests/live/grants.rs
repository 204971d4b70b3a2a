//! Certificates and stored secrets live under leases as logins do: renewed within a maximum, ended, and gone with their service.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::Connection;
use rustls::pki_types::ServerName;
use secrecy::ExposeSecret;
use zk_creds::postgres::{CertificateRequest, GrantKind, Lifetimes};
use zk_creds::secret::{MemorySecrets, SecretName, Secrets};
use zk_creds::tls::{Authority, AuthorityConfig, Clients, KeyRequest, Leaf, Material, Names, Tls};
use zk_creds::{Clock, Environment, ErrorKind, Lease};

use super::shop::{Shop, assert_kind};

const MINUTE: Duration = Duration::from_secs(60);
const VALID: Duration = Duration::from_secs(3600);

fn authority(clock: Arc<dyn Clock>) -> Authority {
    let mut config = AuthorityConfig::new("shop.example");
    config.clock = clock;
    Authority::create(config).unwrap()
}

async fn certify(shop: &mut Shop, authority: &Authority, key: &KeyRequest) -> (Lease, Leaf) {
    let request = CertificateRequest {
        pem: key.pem().to_owned(),
        names: Names::service("orders").dns("localhost"),
        lifetimes: Lifetimes { lifetime: 60 * MINUTE, max_lifetime: 100 * MINUTE },
    };
    shop.issuer.issue_certificate(&mut shop.admin, authority, &request).await.unwrap()
}

/// The database keeps microseconds.
#[track_caller]
fn assert_same(one: SystemTime, other: SystemTime) {
    let apart = one.duration_since(other).unwrap_or_else(|e| e.duration());
    assert!(apart < Duration::from_millis(1), "{one:?} {other:?}");
}

/// Why a handshake between two sides fails; nothing when it does not.
fn handshake(client: &Tls, server: &Tls) -> Option<String> {
    let name = ServerName::try_from("localhost").unwrap();
    let client = rustls::ClientConnection::new(Arc::new(client.client().unwrap()), name).unwrap();
    let server = rustls::ServerConnection::new(Arc::new(server.server(Clients::Known).unwrap())).unwrap();
    let (mut client, mut server) = (Connection::from(client), Connection::from(server));
    while client.is_handshaking() || server.is_handshaking() {
        let passed = pass(&mut client, &mut server).and_then(|()| pass(&mut server, &mut client));
        if let Err(error) = passed {
            return Some(error.to_string());
        }
    }
    None
}

/// Hands on all that one side has to say, and has the other take it in.
fn pass(from: &mut Connection, to: &mut Connection) -> Result<(), rustls::Error> {
    let mut wire = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut wire).unwrap();
    }
    let mut wire = wire.as_slice();
    while !wire.is_empty() {
        assert_ne!(to.read_tls(&mut wire).unwrap(), 0);
    }
    to.process_new_packets().map(drop)
}

#[tokio::test]
async fn a_certificate_is_renewed_within_its_maximum_and_refused_once_it_is_called_back() {
    let mut shop = Shop::create().await;
    let authority = self::authority(shop.clock.clone());
    let key = KeyRequest::generate().unwrap();
    let (lease, first) = certify(&mut shop, &authority, &key).await;
    assert_eq!((lease.login.as_str(), lease.generation), ("spiffe://shop.example/orders", 1));
    assert_eq!(lease.service, "orders");
    assert_same(lease.expires_at, first.expires_at);

    // Renewed for another key, and no further than the maximum; the names are those of the lease.
    shop.clock.advance(50 * MINUTE);
    let other = KeyRequest::generate().unwrap();
    let renewed = shop.issuer.renew_certificate(&mut shop.admin, &authority, &lease, other.pem()).await;
    let (renewed, second) = renewed.unwrap();
    assert_eq!(renewed.id, lease.id);
    for end in [second.expires_at, renewed.expires_at] {
        assert_same(end, lease.issued_at + 100 * MINUTE);
    }
    assert!(second.identity == first.identity && second.serial != first.serial);
    assert_kind(shop.issuer.renew_grant(&mut shop.admin, &lease).await, ErrorKind::Expired);

    let roots = authority.certificate().to_owned();
    let tls = |material: Material| Tls::with_clock(material, shop.clock.clone()).unwrap();
    let shown =
        [tls(key.into_material(&first, roots.clone())), tls(other.into_material(&second, roots.clone()))];
    let of = |service: &str| {
        let key = KeyRequest::generate().unwrap();
        let leaf = authority.sign(key.pem(), &Names::service(service).dns("localhost"), VALID).unwrap();
        key.into_material(&leaf, roots.clone())
    };
    let bystander = tls(of("billing"));
    let none = shop.issuer.revocations(&mut shop.admin, &authority, VALID).await.unwrap();
    shop.issuer.revoke_grant(&mut shop.admin, &lease).await.unwrap();
    shop.issuer.revoke_grant(&mut shop.admin, &lease).await.unwrap();
    let list = shop.issuer.revocations(&mut shop.admin, &authority, VALID).await.unwrap();
    for (list, refused) in [(&none, false), (&list, true)] {
        let careful = tls(of("store").refusing(list.as_bytes()));
        assert_eq!(handshake(&bystander, &careful), None);
        assert_eq!(handshake(&careful, &bystander), None);
        for revoked in &shown {
            for reason in [handshake(revoked, &careful), handshake(&careful, revoked)] {
                assert_eq!(reason.is_some_and(|reason| reason.contains("Revoked")), refused);
            }
        }
    }
    let again = KeyRequest::generate().unwrap();
    let renewed = shop.issuer.renew_certificate(&mut shop.admin, &authority, &lease, again.pem()).await;
    assert_kind(renewed, ErrorKind::Expired);

    // Another authority lists its own only, and nothing that has ended is listed.
    let next = self::authority(shop.clock.clone());
    let theirs = shop.issuer.revocations(&mut shop.admin, &next, VALID).await.unwrap();
    assert!(openssl_list(&theirs).contains("No Revoked Certificates"));
    let listed = openssl_list(&list);
    for serial in [&first.serial, &second.serial] {
        assert!(listed.contains(&serial.to_uppercase()), "{listed}");
    }
    shop.clock.advance(VALID);
    let later = shop.issuer.revocations(&mut shop.admin, &authority, VALID).await.unwrap();
    assert!(openssl_list(&later).contains("No Revoked Certificates"));
}

/// The list as another program reads it.
fn openssl_list(pem: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list.pem");
    std::fs::write(&file, pem).unwrap();
    let output =
        std::process::Command::new("openssl").args(["crl", "-noout", "-text", "-in"]).arg(&file).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_removed_service_leaves_nothing_valid_and_says_which_secrets_it_has_seen() {
    let mut shop = Shop::create().await;
    let secrets = Secrets::new(Arc::new(MemorySecrets::default()));
    let [payment, mail] = ["payment-key", "mail-key"].map(|name| SecretName::new(name).unwrap());
    let version = secrets.create(&payment, &"pay".into()).await.unwrap();
    let mut wanted = shop.manifest.clone();
    wanted.services[0].secrets.insert("PAYMENT_KEY".to_owned(), "payment-key".to_owned());
    wanted.services[0].secrets.insert("MAIL_KEY".to_owned(), "mail-key".to_owned());
    shop.issuer.deploy(&mut shop.admin, &wanted).await.unwrap();

    // All of them or none: one is not in the store yet.
    let mut environment = Environment::default();
    let lent =
        shop.issuer.lend_secrets(&mut shop.admin, &secrets, &wanted.services[0], &mut environment).await;
    assert_kind(lent, ErrorKind::Missing);
    assert_eq!(environment.names().count(), 0);
    assert!(shop.issuer.grants(&mut shop.admin).await.unwrap().is_empty());

    secrets.create(&mail, &"mail".into()).await.unwrap();
    let lent =
        shop.issuer.lend_secrets(&mut shop.admin, &secrets, &wanted.services[0], &mut environment).await;
    let lent = lent.unwrap();
    assert_eq!(environment.get("PAYMENT_KEY").unwrap().expose_secret(), "pay");
    let (names, ends): (Vec<_>, Vec<SystemTime>) =
        lent.iter().map(|lease| (lease.login.as_str(), lease.expires_at)).unzip();
    assert_eq!(names, ["mail-key", "payment-key"]);
    assert_eq!(ends, [lent[0].issued_at + MINUTE; 2]);
    shop.clock.advance(MINUTE / 2);
    let renewed = shop.issuer.renew_grant(&mut shop.admin, &lent[0]).await.unwrap();
    assert_eq!(renewed.expires_at, lent[0].issued_at + 3 * MINUTE / 2);
    let authority = self::authority(shop.clock.clone());
    let key = KeyRequest::generate().unwrap();
    certify(&mut shop, &authority, &key).await;
    let held = shop.issuer.grants(&mut shop.admin).await.unwrap();
    let kinds: Vec<_> = held.iter().map(|held| held.kind).collect();
    assert_eq!(kinds, [GrantKind::Certificate, GrantKind::Secret, GrantKind::Secret]);
    assert!(shop.issuer.secrets_to_rotate(&mut shop.admin, &secrets).await.unwrap().is_empty());

    // The service goes. What it held is said before, and gone after.
    let mut without = wanted.clone();
    without.services.remove(0);
    let plan = shop.issuer.plan(&mut shop.admin, &without).await.unwrap();
    let text = plan.to_string();
    assert!(text.ends_with("- orders: revoke secret payment-key, generation 1\n"), "{text}");
    assert!(text.contains("- orders: revoke certificate spiffe://shop.example/orders, generation 1\n"));
    let done = shop.issuer.deploy(&mut shop.admin, &without).await.unwrap();
    assert_eq!(done.withdrawn, plan.withdrawn);
    assert!(shop.issuer.grants(&mut shop.admin).await.unwrap().is_empty());
    assert!(shop.issuer.plan(&mut shop.admin, &without).await.unwrap().is_empty());
    assert_kind(shop.issuer.renew_grant(&mut shop.admin, &lent[0]).await, ErrorKind::Expired);

    let exposed = shop.issuer.secrets_to_rotate(&mut shop.admin, &secrets).await.unwrap();
    let names: Vec<_> = exposed.iter().map(|exposed| exposed.name.as_str()).collect();
    assert_eq!(names, ["mail-key", "payment-key"]);
    assert_eq!((&exposed[1].version, exposed[1].loans[0].id), (&version, lent[1].id));
    secrets.put(&payment, &"another".into(), &version).await.unwrap();
    let exposed = shop.issuer.secrets_to_rotate(&mut shop.admin, &secrets).await.unwrap();
    assert_eq!(exposed.len(), 1);
    // The table has what they are called, and not what they are.
    let stored: String =
        shop.admin.query_one("SELECT string_agg(g::text, '') FROM zk.grants g", &[]).await.unwrap().get(0);
    assert!(!stored.contains("pay,") && !stored.contains("\"pay\""), "{stored}");
}
