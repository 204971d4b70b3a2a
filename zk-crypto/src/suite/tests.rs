//! The published vectors.

mod implementations;
mod wycheproof;

use data_encoding::HEXLOWER;
use shake::{ExtendableOutput, Shake128, Update, XofReader};

use self::implementations::{IMPLEMENTATIONS, Implementation};
use super::*;

#[test]
fn known_answers_hold() {
    known_answers().unwrap();
}

/// <https://c2sp.org/XAES-256-GCM>, "Test vectors": the first bit of L is 0, then 1.
#[test]
fn xaes_256_gcm_vectors_of_c2sp() {
    const TEXT: &[u8] = b"XAES-256-GCM";
    let nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX";
    for implementation in IMPLEMENTATIONS {
        for (key, aad, expected) in [
            (1, &b""[..], "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
            (3, b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
        ] {
            let sealed = (implementation.xaes_seal)(&[key; 32], nonce, aad, TEXT).unwrap();
            assert_eq!(HEXLOWER.encode(&sealed), expected, "{}", implementation.name);
            let open = |sealed: &[u8]| (implementation.xaes_open)(&[key; 32], nonce, aad, sealed);
            assert_eq!(open(&sealed).as_deref(), Some(TEXT));
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert_eq!(open(&changed), None, "{}: byte {at}", implementation.name);
            }
        }
        // What sealers and openers call, whichever implementation it is.
        let subkey = Xaes::new(&[1; 32]).subkey(b"ABCDEFGHIJKL").unwrap();
        let mut sealed = vec![0; TEXT.len() + TAG];
        subkey.seal(b"MNOPQRSTUVWX", b"", TEXT, &mut sealed).unwrap();
        assert_eq!((implementation.xaes_seal)(&[1; 32], nonce, b"", TEXT), Some(sealed));
    }
}

/// <https://c2sp.org/XAES-256-GCM>, "Accumulated randomized tests": 10 000 iterations.
#[test]
fn accumulated_xaes_256_gcm_vectors_of_c2sp() {
    let expected = "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939";
    for implementation in IMPLEMENTATIONS {
        assert_eq!(accumulated(&implementation, 10_000), expected, "{}", implementation.name);
    }
}

/// The longer one, of one implementation; `both_implementations_agree` is about the other.
#[test]
fn a_million_accumulated_xaes_256_gcm_vectors_of_c2sp() {
    let [_, c] = IMPLEMENTATIONS;
    let expected = "2163ae1445985a30b60585ee67daa55674df06901b890593e824b8a7c885ab15";
    assert_eq!(accumulated(&c, 1_000_000), expected);
}

fn accumulated(implementation: &Implementation, iterations: u32) -> String {
    let mut random = Random { reader: Shake128::default().finalize_xof(), bytes: Vec::new(), used: 0 };
    let (mut hash, mut sealed) = (Shake128::default(), Vec::new());
    for _ in 0..iterations {
        let (key, nonce) = (random.take(32), random.take(24));
        let len = random.take(1)[0].into();
        let plaintext = random.take(len);
        let len = random.take(1)[0].into();
        let aad = random.take(len);
        let (key, nonce) = (key[..].try_into().unwrap(), nonce[..].try_into().unwrap());
        sealed.extend((implementation.xaes_seal)(key, nonce, &aad, &plaintext).unwrap());
        if sealed.len() > 1 << 16 {
            hash.update(&sealed);
            sealed.clear();
        }
    }
    hash.update(&sealed);
    let mut sum = [0; 32];
    hash.finalize_xof().read(&mut sum);
    HEXLOWER.encode(&sum)
}

/// The generator of the accumulated tests, in large pieces: without optimisation a call takes longer than what it does.
struct Random<R> {
    reader: R,
    bytes: Vec<u8>,
    used: usize,
}

impl<R: XofReader> Random<R> {
    fn take(&mut self, len: usize) -> Vec<u8> {
        if self.bytes.len() - self.used < len {
            self.bytes.drain(..self.used);
            let mut more = [0; 1 << 16];
            self.reader.read(&mut more);
            self.bytes.extend_from_slice(&more);
            self.used = 0;
        }
        self.used += len;
        self.bytes[self.used - len..self.used].to_vec()
    }
}

/// RFC 8439, section 2.8.2, and draft-irtf-cfrg-xchacha-03, appendix A.3.1: one text under both ciphers.
#[test]
fn chacha20_poly1305_vectors_of_the_standards() {
    const TEXT: &[u8] =
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
        sunscreen would be it.";
    let aad = b"\x50\x51\x52\x53\xc0\xc1\xc2\xc3\xc4\xc5\xc6\xc7";
    let key = std::array::from_fn(|i| 0x80 + u8::try_from(i).unwrap());
    let short = b"\x07\0\0\0\x40\x41\x42\x43\x44\x45\x46\x47";
    let long = std::array::from_fn(|i| 0x40 + u8::try_from(i).unwrap());
    for implementation in IMPLEMENTATIONS {
        let sealed = (implementation.chacha_seal)(&key, short, aad, TEXT).unwrap();
        assert_eq!(
            HEXLOWER.encode(&sealed),
            "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6\
             3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36\
             92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
             3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691"
        );
        assert_eq!((implementation.chacha_open)(&key, short, aad, &sealed).as_deref(), Some(TEXT));
        let sealed = (implementation.xchacha_seal)(&key, &long, aad, TEXT).unwrap();
        assert_eq!(
            HEXLOWER.encode(&sealed),
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb\
             731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452\
             2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9\
             21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49"
        );
        assert_eq!((implementation.xchacha_open)(&key, &long, aad, &sealed).as_deref(), Some(TEXT));
    }
}

/// What holds a key, or a state that is as good as one, wipes itself: by features of the libraries, which are easily lost.
#[test]
fn what_holds_keys_wipes_itself() {
    fn wiped<T: zeroize::ZeroizeOnDrop>() {}
    wiped::<aes::Aes256>();
    wiped::<aes_gcm::Aes256Gcm>();
    wiped::<chacha20poly1305::XChaCha20Poly1305>();
    wiped::<sha2::Sha256>();
    wiped::<sha2::Sha512>();
    wiped::<Zeroizing<[u8; 32]>>();
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
