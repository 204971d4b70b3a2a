//! Whatever text is given as a name, it is refused or stays a name.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use zk_creds::{ErrorKind, Manifest};

use super::shop::{Shop, assert_kind};

/// What has broken quoting elsewhere.
const ODD: [&str; 14] = [
    "select",
    "user",
    "Ümläut",
    "has \"quotes\"",
    "it's",
    "back\\slash",
    "x\"; DROP TABLE zk.leases; --",
    "'); DROP TABLE zk.leases; --",
    "new\nline",
    "表",
    "$$",
    "$1",
    "%s",
    "  ",
];

/// Roles of a manifest may have any name that PostgreSQL takes.
#[tokio::test]
async fn odd_names_of_roles_stay_names() {
    let mut shop = Shop::create().await;
    for odd in ODD {
        let name = testkit::unique_name(odd);
        let quoted = postgres_protocol::escape::escape_identifier(&name);
        shop.admin.batch_execute(&format!("CREATE ROLE {quoted} NOLOGIN")).await.unwrap();
        let mut service = shop.manifest.services[0].clone();
        service.roles = vec![name.clone()];
        let credential = shop.issuer.issue(&mut shop.admin, &service).await.unwrap();
        let client = shop.connect(&credential).await.unwrap();
        client.batch_execute(&format!("SET ROLE {quoted}")).await.unwrap();
        let row = client.query_one("SELECT current_user::text", &[]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), name);
        shop.revoke(&credential).await.unwrap();
        assert_eq!(shop.logins().await, Vec::<String>::new());
    }
    // A name that is too long for PostgreSQL is not cut to the name of another role.
    let name = testkit::unique_name(&"x".repeat(50));
    assert_eq!(name.len(), 63);
    shop.admin.batch_execute(&format!("CREATE ROLE {name} NOLOGIN")).await.unwrap();
    let mut service = shop.manifest.services[0].clone();
    service.roles = vec![name.clone() + "y"];
    assert_kind(shop.issuer.issue(&mut shop.admin, &service).await, ErrorKind::Invalid);
    service.roles = vec![name];
    shop.issuer.issue(&mut shop.admin, &service).await.unwrap();
}

#[test]
fn any_text_as_a_name_is_refused_or_stays_a_name() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let shop = RefCell::new(runtime.block_on(Shop::create()));
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let text = prop_oneof![
        ".{0,70}",
        "[a-z_]{1,20}",
        "[a-z'\"\\\\;-]{1,20}",
        proptest::sample::select(&ODD[..]).prop_map(str::to_owned)
    ];
    runner
        .run(&(text.clone(), text), |(service, role)| {
            runtime.block_on(check(&mut shop.borrow_mut(), &service, &role));
            Ok(())
        })
        .unwrap();
}

async fn check(shop: &mut Shop, service: &str, role: &str) {
    let mut declared = shop.manifest.services[0].clone();
    declared.name = service.to_owned();
    let plain = service.starts_with(|c: char| c.is_ascii_lowercase())
        && service.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && service.len() <= 20;
    let manifest = Manifest { services: vec![declared.clone()], ..shop.manifest.clone() };
    assert_eq!(manifest.validate().is_ok(), plain, "{service:?}");
    let issued = shop.issuer.issue(&mut shop.admin, &declared).await;
    if plain {
        shop.revoke(&issued.unwrap()).await.unwrap();
    } else {
        assert_kind(issued, ErrorKind::Invalid);
    }
    // A role that is not there is missing, whatever its name does to a statement.
    let mut declared = shop.manifest.services[0].clone();
    declared.roles = vec![role.to_owned()];
    match shop.issuer.issue(&mut shop.admin, &declared).await {
        Ok(_) => panic!("{role:?} was granted"),
        Err(error) => assert!(
            matches!(error.kind(), ErrorKind::Missing | ErrorKind::Invalid),
            "{role:?}: {error} {:?}",
            std::error::Error::source(&error)
        ),
    }
    assert!(shop.logins().await.is_empty());
}
