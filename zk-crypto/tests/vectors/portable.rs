//! Values that carry their key, SPEC.md section 12, and the key pairs that open them.

use serde::Deserialize;
use serde_json::Value;
use zk_crypto::{Context, ErrorKind, Kem, Portable, Recipient, RecipientKey, Scope};

#[cfg(feature = "rsa")]
use crate::recorded;
use crate::recorded::{Recorded, hex};

/// Sealed by another program in another language: see `tests/python/cross_check.py`. Every recipient opens.
#[tokio::test]
async fn portable_value() {
    let vector: Value = serde_json::from_str(include_str!("portable-v1.json")).unwrap();
    let (portable, text) = (hex(&vector["portable"]), hex(&vector["plaintext"]));
    let sealed = Portable::parse(&portable).unwrap();
    let place = Context::column("public.customers", "ssn").row("42");
    let scope = Scope::new(vector["scope"].as_str().unwrap()).unwrap();
    let keys: Vec<RecipientKey> = vector["private"]
        .as_array()
        .unwrap()
        .iter()
        .map(|private| RecipientKey::from_bytes(Kem::X25519, &hex(private)).unwrap())
        .collect();
    assert_eq!(keys.len(), 2);
    for key in &keys {
        assert_eq!(*key.open(&scope, &place, &sealed).unwrap(), text);
        let error = key.open(&scope, &Context::default(), &sealed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Open, "another place");
    }
    let recorded = Recorded::new(&vector["kms"]);
    assert_eq!(*sealed.open_by(&recorded, &scope, &place).await.unwrap(), text);
    #[cfg(feature = "rsa")]
    {
        let pair = recorded::key_pair(&vector["rsa"]).await;
        assert_eq!(*sealed.open_by(&pair, &scope, &place).await.unwrap(), text);
    }
    // What precedes the body: the stage that fails is parsing, in all of it.
    for (what, changed) in [
        ("another magic", [b"ZKQ", &portable[3..]].concat()),
        ("another version", [b"ZKP\x02", &portable[4..]].concat()),
        ("no entry", [b"ZKP\x01\x00", &portable[5..]].concat()),
        ("nine entries", [b"ZKP\x01\x09", &portable[5..]].concat()),
        ("an unknown kind", [b"ZKP\x01\x04\x05", &portable[6..]].concat()),
        ("cut in an entry", portable[..30].to_vec()),
        ("without its body", portable[..portable.len() - 57 - text.len()].to_vec()),
    ] {
        assert_eq!(Portable::parse(&changed).unwrap_err().kind(), ErrorKind::Open, "{what}");
    }
}

#[derive(Deserialize)]
struct Pair {
    name: String,
    private: String,
    public: String,
}

/// The public keys of the published private ones: those of X-Wing, and those of the vectors of HPKE.
#[test]
fn public_keys() {
    let x_wing: Vec<Pair> = serde_json::from_str(include_str!("x-wing.json")).unwrap();
    let hpke: Vec<Pair> = serde_json::from_str(include_str!("hpke.json")).unwrap();
    assert_eq!((x_wing.len(), hpke.len()), (3, 2));
    for pair in x_wing.into_iter().chain(hpke) {
        let (private, public) = (crate::hex(&pair.private), crate::hex(&pair.public));
        let (kem, kind) = if public.len() == 32 { (Kem::X25519, 1) } else { (Kem::XWing, 2) };
        let key = RecipientKey::from_bytes(kem, &private).unwrap();
        let recipient = key.recipient();
        assert_eq!(recipient.to_bytes(), [&[kind], public.as_slice()].concat(), "{}", pair.name);
        assert_eq!(Recipient::parse(&recipient.to_bytes()).unwrap(), *recipient, "{}", pair.name);
        assert_eq!(*key.to_bytes(), private, "{}", pair.name);
    }
}
