//! Tokens live under leases as logins do, and are refused at once when they are revoked.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretSlice};
use zk_creds::ErrorKind;
use zk_creds::postgres::{Lifetimes, TokenKey, TokenRequest};

use super::shop::{Shop, assert_kind};

fn key(byte: u8) -> TokenKey {
    TokenKey::new(SecretSlice::from(vec![byte; 32])).unwrap()
}

fn lasting(lifetime: u64, max_lifetime: u64) -> Lifetimes {
    let [lifetime, max_lifetime] = [lifetime, max_lifetime].map(Duration::from_secs);
    Lifetimes { lifetime, max_lifetime }
}

fn request() -> TokenRequest {
    TokenRequest {
        kind: "api".to_owned(),
        service: "partner \"x\"; DROP TABLE zk.grants".to_owned(),
        scopes: vec!["orders:read".to_owned()],
        lifetimes: lasting(60, 100),
    }
}

#[tokio::test]
async fn a_token_is_good_for_its_scopes_until_it_ends() {
    let mut shop = Shop::create().await;
    let key = key(7);
    let (lease, token) = shop.issuer.issue_token(&mut shop.admin, &key, &request()).await.unwrap();
    let text = token.expose().expose_secret();
    let grant = shop.issuer.verify_token(&mut shop.admin, &key, text).await.unwrap();
    assert!(grant.lease == lease && grant.allows("orders:read") && !grant.allows("orders"));
    let stored: String = shop.admin.query_one("SELECT t::text FROM zk.grants t", &[]).await.unwrap().get(0);
    assert!(!stored.contains(text) && !format!("{token:?} {key:?} {grant:?}").contains(text));

    // It is renewed up to its maximum and no further, and then refused.
    shop.clock.advance(Duration::from_secs(55));
    let renewed = shop.issuer.renew_grant(&mut shop.admin, &lease).await.unwrap();
    assert_eq!(renewed.expires_at, lease.issued_at + Duration::from_secs(100));
    shop.clock.advance(Duration::from_secs(44));
    assert!(shop.issuer.verify_token(&mut shop.admin, &key, text).await.is_ok());
    shop.clock.advance(Duration::from_secs(1));
    assert_kind(shop.issuer.verify_token(&mut shop.admin, &key, text).await, ErrorKind::Denied);
    assert_kind(shop.issuer.renew_grant(&mut shop.admin, &lease).await, ErrorKind::Expired);
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_once_and_a_rotated_one_after_its_grace() {
    let mut shop = Shop::create().await;
    let key = key(7);
    let (old, old_token) = shop.issuer.issue_token(&mut shop.admin, &key, &request()).await.unwrap();
    let grace = Duration::from_secs(5);
    let (new, new_token) =
        shop.issuer.rotate_token(&mut shop.admin, &key, &old, &request(), grace).await.unwrap();
    assert_eq!((old.generation, new.generation), (1, 2));
    let [old_text, new_text] = [&old_token, &new_token].map(|t| t.expose().expose_secret().to_owned());
    for text in [&old_text, &new_text] {
        shop.issuer.verify_token(&mut shop.admin, &key, text).await.unwrap();
    }
    shop.issuer.renew_grant(&mut shop.admin, &old).await.unwrap();
    shop.clock.advance(grace);
    assert_kind(shop.issuer.verify_token(&mut shop.admin, &key, &old_text).await, ErrorKind::Denied);
    shop.issuer.revoke_grant(&mut shop.admin, &new).await.unwrap();
    assert_kind(shop.issuer.verify_token(&mut shop.admin, &key, &new_text).await, ErrorKind::Denied);
    shop.issuer.revoke_grant(&mut shop.admin, &new).await.unwrap();
    let rotated = shop.issuer.rotate_token(&mut shop.admin, &key, &new, &request(), grace).await;
    assert_kind(rotated, ErrorKind::Expired);
}

#[tokio::test]
async fn what_is_no_token_of_ours_is_refused() {
    let mut shop = Shop::create().await;
    let (_, token) = shop.issuer.issue_token(&mut shop.admin, &key(7), &request()).await.unwrap();
    let text = token.expose().expose_secret().to_owned();
    assert_kind(shop.issuer.verify_token(&mut shop.admin, &key(8), &text).await, ErrorKind::Denied);
    let other = zk_creds::Token::generate("api").unwrap();
    let unknown = shop.issuer.verify_token(&mut shop.admin, &key(7), other.expose().expose_secret()).await;
    assert_kind(unknown, ErrorKind::Denied);
    assert_kind(shop.issuer.verify_token(&mut shop.admin, &key(7), "zk_api_x").await, ErrorKind::Invalid);
    for wrong in [
        TokenRequest { kind: "A".to_owned(), ..request() },
        TokenRequest { scopes: vec![String::new()], ..request() },
        TokenRequest { lifetimes: lasting(0, 100), ..request() },
        TokenRequest { lifetimes: lasting(101, 100), ..request() },
        TokenRequest { lifetimes: lasting(60, u64::MAX), ..request() },
        TokenRequest { service: "\0".to_owned(), ..request() },
    ] {
        let refused = shop.issuer.issue_token(&mut shop.admin, &key(7), &wrong).await;
        assert_kind(refused, ErrorKind::Invalid);
    }
    assert!(TokenKey::new(SecretSlice::from(vec![0; 31])).is_err());
}
