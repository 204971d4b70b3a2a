//! Published vectors, and what opens and what does not.

use std::sync::Arc;

use data_encoding::HEXLOWER;

use super::*;
use crate::ErrorKind;

mod kms;

#[derive(serde::Deserialize)]
struct Vector {
    name: String,
    kem_id: u16,
    private: String,
    public: String,
    enc: String,
    info: String,
    aad: String,
    plaintext: String,
    ciphertext: String,
}

#[test]
fn published_vectors_open() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("../../tests/vectors/hpke.json")).unwrap();
    assert_eq!(vectors.len(), 2);
    for vector in vectors {
        let hex = |text: &str| HEXLOWER.decode(text.as_bytes()).unwrap();
        let kem = if vector.kem_id == 0x20 { Kem::X25519 } else { Kem::XWing };
        let secret = hex(&vector.private);
        assert_eq!(kem.public_of(&secret).unwrap(), hex(&vector.public), "{}", vector.name);
        let sealed = [hex(&vector.enc), hex(&vector.ciphertext)].concat();
        let (info, aad) = (hex(&vector.info), hex(&vector.aad));
        let opened = kem.open_with(&secret, &info, &aad, &sealed).unwrap();
        assert_eq!(*opened, hex(&vector.plaintext), "{}", vector.name);
        assert!(kem.open_with(&secret, b"other", &aad, &sealed).is_none());
    }
}

/// The vectors of X-Wing, draft-connolly-cfrg-xwing-kem, with HPKE's key schedule (RFC 9180, section 5.1) written a second
/// time: the shared secret that a vector gives must be what our opening finds in its ciphertext.
#[test]
fn x_wing_vectors_of_the_draft() {
    #[derive(serde::Deserialize)]
    struct Vector {
        name: String,
        private: String,
        enc: String,
        shared: String,
    }
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("../../tests/vectors/x-wing.json")).unwrap();
    assert_eq!(vectors.len(), 3);
    for vector in vectors {
        let hex = |text: &str| HEXLOWER.decode(text.as_bytes()).unwrap();
        let (secret, enc) = (hex(&vector.private), hex(&vector.enc));
        let sealed = [enc, hpke_seal(&hex(&vector.shared), b"info", b"aad", b"text")].concat();
        let opened = Kem::XWing.open_with(&secret, b"info", b"aad", &sealed).unwrap();
        assert_eq!(opened.as_slice(), b"text", "{}", vector.name);
        // ML-KEM rejects implicitly: another ciphertext is another secret, and the tag is what fails.
        for at in [0, 1087, 1088, 1119, 1120] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(Kem::XWing.open_with(&secret, b"info", b"aad", &changed).is_none(), "byte {at}");
        }
    }
}

/// Seals with what a KEM shared: base mode, KEM 0x647a, HKDF-SHA256, ChaCha20-Poly1305, sequence number 0.
fn hpke_seal(shared: &[u8], info: &[u8], aad: &[u8], text: &[u8]) -> Vec<u8> {
    use chacha20poly1305::{ChaCha20Poly1305, KeyInit, aead::Aead, aead::Payload};
    use hkdf::Hkdf;
    use sha2::Sha256;

    const SUITE: &[u8] = b"HPKE\x64\x7a\x00\x01\x00\x03";
    let extract = |salt: &[u8], label: &[u8], key: &[u8]| {
        Hkdf::<Sha256>::extract(Some(salt), &[b"HPKE-v1", SUITE, label, key].concat())
    };
    let context =
        [&[0], &*extract(b"", b"psk_id_hash", b"").0, &*extract(b"", b"info_hash", info).0].concat();
    let (_, secret) = extract(shared, b"secret", b"");
    let expand = |label: &[u8], out: &mut [u8]| {
        let len = u16::try_from(out.len()).unwrap().to_be_bytes();
        secret.expand(&[len.as_slice(), b"HPKE-v1", SUITE, label, &context].concat(), out).unwrap();
    };
    let (mut key, mut nonce) = ([0; 32], [0; 12]);
    expand(b"key", &mut key);
    expand(b"base_nonce", &mut nonce);
    let cipher = ChaCha20Poly1305::new((&key).into());
    cipher.encrypt((&nonce).into(), Payload { msg: text, aad }).unwrap()
}

fn scope() -> Scope {
    Scope::new("s").unwrap()
}

fn place() -> Context {
    Context::column("t", "c").row("1")
}

fn refused(key: &RecipientKey, scope: &Scope, context: &Context, bytes: &[u8]) -> bool {
    match Portable::parse(bytes).and_then(|sealed| key.open(scope, context, &sealed)) {
        Ok(_) => false,
        Err(error) => error.kind() == ErrorKind::Open && error.to_string() == Error::open().to_string(),
    }
}

#[test]
fn every_recipient_opens_and_nobody_else() {
    let keys: Vec<RecipientKey> = (0..8)
        .map(|i| RecipientKey::generate(if i % 2 == 0 { Kem::X25519 } else { Kem::XWing }).unwrap())
        .collect();
    let recipients = || keys.iter().map(|key| key.recipient().clone());
    let sealed = WriteOnly::new(scope(), recipients()).unwrap().seal(&place(), b"text").unwrap();
    for key in &keys {
        let again = RecipientKey::from_bytes(key.kem, &key.to_bytes()).unwrap();
        assert_eq!(again.open(&scope(), &place(), &sealed).unwrap().as_slice(), b"text");
        assert!(refused(key, &Scope::new("t").unwrap(), &place(), sealed.as_bytes()));
        assert!(refused(key, &scope(), &place().row("2"), sealed.as_bytes()));
    }
    let stranger = RecipientKey::generate(Kem::XWing).unwrap();
    assert!(refused(&stranger, &scope(), &place(), sealed.as_bytes()));
    let ninth = WriteOnly::new(scope(), recipients().chain([stranger.recipient().clone()]));
    for bad in [
        ninth,
        WriteOnly::new(scope(), []),
        WriteOnly::new(scope(), recipients().take(1).chain(recipients().take(1))),
    ] {
        assert_eq!(bad.unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(format!("{sealed:?}"), format!("Portable(8 recipients, {} bytes)", sealed.as_bytes().len()));
    assert!(format!("{:?}", keys[0]).contains("[redacted]"));
}

#[test]
fn the_overhead_is_as_documented() {
    for (kem, overhead) in [(Kem::X25519, 99), (Kem::XWing, 1187)] {
        let key = RecipientKey::generate(kem).unwrap();
        let sealed = WriteOnly::new(scope(), [key.recipient().clone()]).unwrap().seal(&place(), b"").unwrap();
        assert_eq!(sealed.as_bytes().len(), 62 + overhead);
    }
}

/// Also the parts that belong to the other recipient: who stores a value cannot take a recipient away, or exchange one.
#[test]
fn every_byte_counts_for_every_recipient() {
    let keys = [RecipientKey::generate(Kem::X25519).unwrap(), RecipientKey::generate(Kem::X25519).unwrap()];
    let writer = WriteOnly::new(scope(), keys.iter().map(|key| key.recipient().clone())).unwrap();
    let sealed = writer.seal(&place(), b"text").unwrap();
    let good = sealed.as_bytes();
    for key in &keys {
        for at in 0..good.len() {
            let mut bytes = good.to_vec();
            bytes[at] ^= 0x10;
            assert!(refused(key, &scope(), &place(), &bytes), "byte {at}");
            assert!(refused(key, &scope(), &place(), &good[..at]), "cut at {at}");
        }
        assert!(refused(key, &scope(), &place(), &[good, &[0]].concat()));
        // The first recipient alone, with everything else as it was.
        let first_only = [b"ZKP\x01\x01".as_slice(), &good[5..5 + 99], &good[5 + 198..]].concat();
        assert!(Portable::parse(&first_only).is_ok());
        assert!(refused(key, &scope(), &place(), &first_only));
    }
    // Two values of one writer have no key in common.
    let other = writer.seal(&place(), b"text").unwrap();
    let mixed = [&good[..203], &other.as_bytes()[203..]].concat();
    assert!(Portable::parse(&mixed).is_ok() && refused(&keys[0], &scope(), &place(), &mixed));
}

#[test]
fn lengths_are_refused_before_they_are_believed() {
    let long = |count: u8, len: u16, has: usize| {
        let mut bytes = vec![b'Z', b'K', b'P', 1, count];
        for entry in 0..count {
            bytes.push(1);
            bytes.extend_from_slice(&[entry; 16]);
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(&vec![0; has]);
        }
        bytes.extend_from_slice(&[1; crate::OVERHEAD]);
        bytes
    };
    assert!(Portable::parse(&long(8, 4096, 4096)).is_ok());
    for (count, len, has) in [(9, 80, 80), (0, 80, 80), (1, 4097, 4097), (8, u16::MAX, 0)] {
        assert!(Portable::parse(&long(count, len, has)).is_err(), "{count} entries of {len}");
    }
    let mut twice = long(2, 80, 80);
    twice[5 + 99 + 1..5 + 99 + 17].fill(0);
    assert!(Portable::parse(&twice).is_err(), "one recipient twice");
}
