//! The published vectors.

mod implementations;
mod wycheproof;

use data_encoding::HEXLOWER;
use shake::{ExtendableOutput, Shake128, Update, XofReader};

use super::*;

fn seal(key: &[u8; 32], nonce: &[u8; 24], aad: &[u8], text: &[u8]) -> Vec<u8> {
    let (prefix, suffix) = nonce.split_at(PREFIX);
    let mut out = vec![0; text.len() + TAG];
    let subkey = Xaes::new(key).subkey(prefix.try_into().unwrap()).unwrap();
    subkey.seal(suffix.try_into().unwrap(), aad, text, &mut out).unwrap();
    out
}

#[test]
fn known_answers_hold() {
    known_answers().unwrap();
}

/// <https://c2sp.org/XAES-256-GCM>, "Test vectors": the first bit of L is 0, then 1.
#[test]
fn vectors_of_xaes() {
    let nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX";
    for (key, aad, expected) in [
        (1, &b""[..], "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        (3, b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
    ] {
        assert_eq!(HEXLOWER.encode(&seal(&[key; 32], nonce, aad, b"XAES-256-GCM")), expected);
    }
}

/// <https://c2sp.org/XAES-256-GCM>, "Accumulated randomized tests": 10 000 iterations.
#[test]
fn accumulated_vectors_of_xaes() {
    let mut random = Shake128::default().finalize_xof();
    let mut hash = Shake128::default();
    for _ in 0..10_000 {
        let (mut key, mut nonce) = ([0; 32], [0; 24]);
        random.read(&mut key);
        random.read(&mut nonce);
        let mut text = || {
            let mut len = [0];
            random.read(&mut len);
            let mut text = vec![0; usize::from(len[0])];
            random.read(&mut text);
            text
        };
        let (plaintext, aad) = (text(), text());
        hash.update(&seal(&key, &nonce, &aad, &plaintext));
    }
    let mut sum = [0; 32];
    hash.finalize_xof().read(&mut sum);
    assert_eq!(HEXLOWER.encode(&sum), "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939");
}

/// SPEC.md, section 3: these bytes must never change, or stored data is lost.
#[test]
fn derived_keys_stay_the_same() {
    let key = DataKey::from_slice(&[7; 32]).unwrap();
    let id = crate::KeyId::of(&key).unwrap().to_string();
    let first = HEXLOWER.encode(&*sealing_key(&key, Suite::Xaes256Gcm).unwrap());
    let second = HEXLOWER.encode(&*sealing_key(&key, Suite::XChaCha20Poly1305).unwrap());
    assert_eq!(
        [id, first, second],
        [
            "9374c5fd623939e31bffadd84741c9d3",
            "66b6af9efb1e3d285bd85e3fc16715397e2d1ae24d2f381b423ce6b0a7593699",
            "db6efcea7ff5e9c9021ac896e4493fbb9aa0515f06d4f2b8ea17409ef47c5713"
        ]
    );
}
