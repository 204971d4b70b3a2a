use std::sync::Mutex;
use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;

#[derive(Debug)]
struct At(Mutex<SystemTime>);

impl At {
    fn start() -> Arc<Self> {
        Arc::new(Self(Mutex::new(UNIX_EPOCH + Duration::from_secs(1_800_000_000))))
    }

    fn advance(&self, seconds: u64) {
        *self.0.lock().unwrap() += Duration::from_secs(seconds);
    }

    fn turn_back(&self, seconds: u64) {
        *self.0.lock().unwrap() -= Duration::from_secs(seconds);
    }
}

impl Clock for At {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

struct Two {
    clock: Arc<At>,
    signer: TokenSigner,
    verifier: TokenVerifier,
}

fn two() -> Two {
    let (clock, key) = (At::start(), SigningKey::generate().unwrap());
    let verifier = TokenVerifier::new("crm", "billing", [key.public()]).with_clock(clock.clone());
    Two { signer: TokenSigner::new("crm", key).unwrap().with_clock(clock.clone()), verifier, clock }
}

fn claims() -> SignedClaims {
    SignedClaims::new("orders", "billing").scope("invoices:create")
}

const MINUTE: Duration = Duration::from_secs(60);

#[track_caller]
fn refused(verifier: &TokenVerifier, token: &SecretString, kind: ErrorKind, why: &str) {
    let error = verifier.verify(token).unwrap_err();
    assert!(error.kind() == kind && error.to_string().contains(why), "{error:?}");
    assert!(!format!("{error} {error:?}").contains(token.expose_secret()));
}

/// A token that says whatever it likes, signed with a key.
fn forged(key: &SigningKey, body: &serde_json::Value) -> SecretString {
    let footer = format!(r#"{{"kid":"{}"}}"#, key.public().id());
    SecretString::from(key.sign(body.to_string().as_bytes(), footer.as_bytes()))
}

#[test]
fn a_token_is_good_for_its_audience_and_scopes_until_it_ends() {
    let Two { clock, signer, verifier } = two();
    let token = signer.sign(&claims(), MINUTE).unwrap();
    let grant = verifier.verify(&token).unwrap();
    assert_eq!((grant.subject(), grant.expires_at()), ("orders", clock.now() + MINUTE));
    grant.require("invoices:create").unwrap();
    for other in ["invoices", "invoices:create ", "", "INVOICES:CREATE"] {
        assert_eq!(grant.require(other).unwrap_err().kind(), ErrorKind::Denied);
    }
    assert_ne!(grant.id(), verifier.verify(&signer.sign(&claims(), MINUTE).unwrap()).unwrap().id());

    let elsewhere = TokenVerifier::new("crm", "reports", verifier.keys.read().unwrap().values().copied());
    refused(&elsewhere.with_clock(clock.clone()), &token, ErrorKind::Denied, "another service");
    let foreign = TokenVerifier::new("shop", "billing", verifier.keys.read().unwrap().values().copied());
    refused(&foreign.with_clock(clock.clone()), &token, ErrorKind::Denied, "another issuer");

    // The clocks of both sides may be apart by half a minute, and no more.
    clock.advance(60 + 29);
    assert!(verifier.verify(&token).is_ok());
    clock.advance(1);
    refused(&verifier, &token, ErrorKind::Expired, "ended");
    let late = signer.sign(&claims(), MINUTE).unwrap();
    clock.turn_back(30);
    assert!(verifier.verify(&late).is_ok());
    clock.turn_back(1);
    refused(&verifier, &late, ErrorKind::Denied, "future");
}

#[test]
fn keys_overlap_while_they_rotate() {
    let Two { signer, verifier, .. } = two();
    let old = *verifier.keys.read().unwrap().values().next().unwrap();
    let before = signer.sign(&claims(), MINUTE).unwrap();
    let next = SigningKey::generate().unwrap();
    let next_public = next.public();
    verifier.trust(next_public.to_string().parse().unwrap());
    signer.rotate(next);
    let after = signer.sign(&claims(), MINUTE).unwrap();
    assert!(verifier.verify(&before).is_ok() && verifier.verify(&after).is_ok());
    verifier.distrust(&old);
    refused(&verifier, &before, ErrorKind::Denied, "not trusted");
    assert!(verifier.verify(&after).is_ok());
    verifier.distrust(&next_public);
    refused(&verifier, &after, ErrorKind::Denied, "not trusted");
}

/// Who has a trusted key and is wrong, or no key and lies.
#[test]
fn what_a_signer_may_not_say_is_refused() {
    let Two { clock, verifier, .. } = two();
    let (key, stranger) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    verifier.trust(key.public());
    let body = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut body = serde_json::json!({
            "iss": "crm", "sub": "orders", "aud": "billing", "scope": "a b",
            "iat": utc(clock.now()), "exp": utc(clock.now() + MINUTE), "jti": Uuid::new_v4().to_string(),
        });
        change(&mut body);
        body
    };
    let good = body(&|_| ());
    assert_eq!(verifier.verify(&forged(&key, &good)).unwrap().to_string(), "orders for a b");
    let forever = utc(clock.now() + MAX_LIFETIME + Duration::from_secs(1));
    refused(
        &verifier,
        &forged(&key, &body(&|b| b["exp"] = forever.clone().into())),
        ErrorKind::Denied,
        "longer",
    );
    let backwards = utc(clock.now() - Duration::from_secs(1));
    refused(
        &verifier,
        &forged(&key, &body(&|b| b["exp"] = backwards.clone().into())),
        ErrorKind::Denied,
        "longer",
    );
    for bad in ["2027-01-15T08:00:00+02:00", "1800000000", "", "9999-99-99T99:99:99.000000Z"] {
        refused(
            &verifier,
            &forged(&key, &body(&|b| b["exp"] = bad.into())),
            ErrorKind::Denied,
            "cannot be read",
        );
    }
    refused(
        &verifier,
        &forged(&key, &body(&|b| b["admin"] = true.into())),
        ErrorKind::Invalid,
        "no signed token",
    );
    refused(
        &verifier,
        &forged(&key, &body(&|b| b["aud"] = serde_json::json!(["billing", "x"]))),
        ErrorKind::Invalid,
        "no",
    );
    refused(&verifier, &forged(&key, &serde_json::json!([])), ErrorKind::Invalid, "no signed token");

    refused(&verifier, &forged(&stranger, &good), ErrorKind::Denied, "not trusted");
    // A stranger's signature under the name of a trusted key.
    let footer = format!(r#"{{"kid":"{}"}}"#, key.public().id());
    let named = SecretString::from(stranger.sign(good.to_string().as_bytes(), footer.as_bytes()));
    refused(&verifier, &named, ErrorKind::Denied, "signature");
    // A footer that was exchanged, is missing, or says more.
    let text = forged(&key, &good).expose_secret().to_owned();
    let (body_text, _) = text.rsplit_once('.').unwrap();
    refused(&verifier, &SecretString::from(body_text), ErrorKind::Invalid, "no signed token");
    let more = data_encoding::BASE64URL_NOPAD
        .encode(format!(r#"{{"kid":"{}","x":1}}"#, key.public().id()).as_bytes());
    refused(
        &verifier,
        &SecretString::from(format!("{body_text}.{more}")),
        ErrorKind::Invalid,
        "no signed token",
    );
    // Other versions and purposes, and the tricks that are played on tokens which choose their algorithm.
    for header in ["v4.local.", "v2.public.", "v3.public.", "V4.public.", "v4.public"] {
        let other = text.replacen("v4.public.", header, 1);
        refused(&verifier, &SecretString::from(other), ErrorKind::Invalid, "no signed token");
    }
    for jwt in ["eyJhbGciOiJub25lIn0.e30.", "eyJhbGciOiJIUzI1NiJ9.e30.AAAA"] {
        refused(&verifier, &SecretString::from(jwt), ErrorKind::Invalid, "no signed token");
    }
    refused(&verifier, &SecretString::from(format!("{text}=")), ErrorKind::Invalid, "no signed token");
    refused(
        &verifier,
        &SecretString::from("v4.public.".to_owned() + &"A".repeat(MAX_TOKEN)),
        ErrorKind::Invalid,
        "no",
    );
}

#[test]
fn what_a_token_may_say_has_bounds() {
    let Two { signer, .. } = two();
    for lifetime in
        [Duration::ZERO, Duration::from_millis(999), MAX_LIFETIME + Duration::from_nanos(1), Duration::MAX]
    {
        assert_eq!(signer.sign(&claims(), lifetime).unwrap_err().kind(), ErrorKind::Invalid);
    }
    for wrong in [
        SignedClaims::new("", "billing"),
        SignedClaims::new("orders", ""),
        SignedClaims::new("x".repeat(129), "billing"),
        claims().scope("a b"),
        claims().scope(""),
        claims().scope("é"),
        (0..32).fold(claims(), |claims, n| claims.scope(n.to_string())),
        (0..31).fold(claims(), |claims, _| claims.scope("x".repeat(128))),
    ] {
        assert_eq!(signer.sign(&wrong, MINUTE).unwrap_err().kind(), ErrorKind::Invalid, "{wrong:?}");
    }
    assert!(TokenSigner::new("", SigningKey::generate().unwrap()).is_err());
    let largest =
        (0..31).fold(SignedClaims::new("x".repeat(128), "x".repeat(128)), |c, n| c.scope(n.to_string()));
    assert!(signer.sign(&largest, MINUTE).unwrap().expose_secret().len() <= MAX_TOKEN);
}

#[test]
fn keys_are_read_whole_or_not_at_all() {
    let key = SigningKey::generate().unwrap();
    let text = key.expose();
    assert!(!format!("{key:?}").contains(text.expose_secret().get(10..40).unwrap()));
    let other = SigningKey::generate().unwrap().expose().expose_secret().to_owned();
    let halves = format!("{}{}", text.expose_secret().get(..52).unwrap(), other.get(52..).unwrap());
    for wrong in ["", "k4.secret.", "k4.public.AA", &halves, &format!("{}A", text.expose_secret())] {
        assert_eq!(SigningKey::parse(&SecretString::from(wrong)).unwrap_err().kind(), ErrorKind::Invalid);
    }
    for wrong in ["", "k4.public.", "k4.public.AA", &key.public().to_string().replace("public", "secret")] {
        assert_eq!(wrong.parse::<PublicKey>().unwrap_err().kind(), ErrorKind::Invalid);
    }
}

proptest! {
    #[test]
    fn any_changed_character_is_noticed(at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_.-]") {
        let Two { signer, verifier, .. } = two();
        let token = signer.sign(&claims(), MINUTE).unwrap();
        let mut changed = token.expose_secret().to_owned();
        let at = at.index(changed.len());
        changed.replace_range(at..=at, &to);
        let is_same = changed == token.expose_secret();
        prop_assert_eq!(verifier.verify(&SecretString::from(changed)).is_ok(), is_same);
    }

    #[test]
    fn any_text_is_refused(text in "(v4\\.public\\.)?[A-Za-z0-9_-]{0,120}(\\.[A-Za-z0-9_-]{0,60})?.{0,5}") {
        let Two { verifier, .. } = two();
        prop_assert!(verifier.verify(&SecretString::from(text)).is_err());
    }
}
