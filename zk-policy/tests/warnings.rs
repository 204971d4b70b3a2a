//! Warnings claim something about every row: a small world of rows and sessions shows whether they are right.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;
use zk_policy::{Code, Column, ColumnType, Command, Document, Policy, Scalar, Schema, Session, Value, check};

fn schema() -> Schema {
    let column = |name: &str, ty| Column::new(name, ColumnType::Scalar(ty));
    let columns =
        [column("a", Scalar::Int8), column("b", Scalar::Int8).not_null(), column("c", Scalar::Bool)];
    Schema::default().table("public", "t", columns)
}

type Row = [Value<'static>; 3];

/// Every row of small values.
fn rows() -> Vec<Row> {
    let numbers = [Value::Int8(0), Value::Int8(1), Value::Int8(2)];
    let nullable = [Value::Null].into_iter().chain(numbers);
    let truths = [Value::Null, Value::Bool(true), Value::Bool(false)];
    nullable.flat_map(|a| numbers.map(|b| truths.map(|c| [a, b, c]))).flatten().collect()
}

fn condition() -> impl Strategy<Value = String> {
    let number = select(vec!["a", "b", "0", "1", "2", "claim.k"]);
    let leaf = prop_oneof![
        4 => (number.clone(), select(vec!["=", "<>", "<", "<=", ">", ">="]), number.clone())
            .prop_map(|(l, op, r)| format!("{l} {op} {r}")),
        1 => select(vec!["a", "b", "c", "claim.k"]).prop_map(|term| format!("{term} is null")),
        1 => (select(vec!["a", "b"]), number.clone(), number).prop_map(|(t, x, y)| format!("{t} in ({x}, {y})")),
        1 => select(vec!["c", "true", "false"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let joined = |word: &'static str| move |parts: Vec<String>| format!("({})", parts.join(word));
        prop_oneof![
            inner.clone().prop_map(|c| format!("not ({c})")),
            proptest::collection::vec(inner.clone(), 2..4)
                .prop_map(joined(") and ("))
                .prop_map(|c| format!("({c})")),
            proptest::collection::vec(inner, 2..4).prop_map(joined(") or (")).prop_map(|c| format!("({c})")),
        ]
    })
}

fn policy(rules: &str) -> (Document, Policy) {
    let text = format!("policy p role r claim k: int8 table t {{ shared {rules} }}");
    let document = Document::parse(&text).unwrap_or_else(|e| panic!("{}", e.to_lines("policy", &text)));
    let policy = check(&document, &schema()).unwrap_or_else(|e| panic!("{}", e.to_lines("policy", &text)));
    (document, policy)
}

fn codes((_, policy): &(Document, Policy)) -> BTreeSet<Code> {
    policy.warnings().iter().map(|warning| warning.code).collect()
}

/// For a session without the claim and for one with it, which rows a command may touch.
fn admitted((document, policy): &(Document, Policy), command: Command) -> Vec<Vec<Row>> {
    let session = Session::new(document, "r").unwrap();
    let sessions = [session.clone(), session.claim("k", 1).unwrap()];
    let guard = policy.guard("public", "t").unwrap();
    let of = |session: &Session| {
        rows().into_iter().filter(|row| guard.decide(session, command, row).is_admitted()).collect()
    };
    sessions.iter().map(of).collect()
}

fn count(admitted: &[Vec<Row>]) -> usize {
    admitted.iter().map(Vec::len).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_rule_that_changes_nothing_can_be_left_out(c in condition()) {
        let (all, found) = (2 * rows().len(), policy(&format!("allow r select where {c}")));
        if codes(&found).contains(&Code::IdleRule) {
            prop_assert_eq!(count(&admitted(&found, Command::Select)), 0);
        }
        let found = policy(&format!("allow r select deny r select where {c}"));
        if codes(&found).contains(&Code::IdleRule) && !codes(&found).contains(&Code::AlwaysTrue) {
            prop_assert_eq!(count(&admitted(&found, Command::Select)), all);
        }
    }

    #[test]
    fn a_condition_that_always_holds_does(c in condition()) {
        let found = policy(&format!("allow r select where {c}"));
        let certain = |w: &zk_policy::Diagnostic| w.code == Code::AlwaysTrue && w.message.contains("always true");
        if found.1.warnings().iter().any(certain) {
            prop_assert_eq!(count(&admitted(&found, Command::Select)), 2 * rows().len());
        }
        let found = policy(&format!("allow r select deny r select where {c}"));
        if codes(&found).contains(&Code::AlwaysTrue) {
            prop_assert_eq!(count(&admitted(&found, Command::Select)), 0);
        }
    }

    #[test]
    fn a_rule_that_another_covers_can_be_left_out(one in condition(), other in condition(), both in any::<bool>()) {
        // Half of the time a pair that has something to do with each other.
        let second = if both { format!("({one}) or ({other})") } else { other };
        let found = policy(&format!("allow r select where {one} allow r select where {second}"));
        let covered = |w: &&zk_policy::Diagnostic| w.message.starts_with("another rule says so");
        prop_assert!(!both || found.1.warnings().iter().next().is_some(), "the second says what the first does");
        for warning in found.1.warnings().iter().filter(covered) {
            let first = warning.span.range().start < 60 + one.len() && {
                // The first rule stands before the second in the text.
                let text_of_second = format!("policy p role r claim k: int8 table t {{ shared allow r select where {one} allow");
                warning.span.range().start < text_of_second.len()
            };
            let left = policy(&format!("allow r select where {}", if first { &second } else { &one }));
            prop_assert_eq!(admitted(&left, Command::Select), admitted(&found, Command::Select));
        }
    }

    /// Where there is no warning, nothing is changed unseen and nothing vanishes.
    #[test]
    fn what_is_not_warned_of_does_not_happen(read in condition(), write in condition(), deny in condition(), form in 0..4) {
        let rules = match form {
            0 => format!("allow r select where {read} allow r update where {write}"),
            1 => format!("allow r select, update where {read} deny r select where {deny}"),
            2 => format!("allow r select, update where {read} deny r select, update where {deny}"),
            _ => format!("allow r select where ({read}) or ({write}) allow r update where {read} columns r update only b"),
        };
        let found = policy(&rules);
        let (seen, changed) = (admitted(&found, Command::Select), admitted(&found, Command::Update));
        for (seen, changed) in seen.iter().zip(&changed) {
            if !codes(&found).contains(&Code::BlindWrite) {
                prop_assert!(changed.iter().all(|row| seen.contains(row)), "{rules}");
            }
            if !codes(&found).contains(&Code::VanishingRow) {
                let only_b = form == 3;
                for before in changed.iter().filter(|row| seen.contains(row)) {
                    let reachable = |row: &&Row| !only_b || (row.first(), row.last()) == (before.first(), before.last());
                    prop_assert!(changed.iter().filter(reachable).all(|after| seen.contains(after)), "{rules}");
                }
            }
        }
    }
}
