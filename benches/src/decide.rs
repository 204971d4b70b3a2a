//! How long is one decision in process, alone and beside others?
//!
//! The row is admitted by the last of 1, 10 or 50 rules. Rules of a kind ask the same question first and then want a value
//! of their own, as rules of one table usually do; rules of the other kind have nothing in common, so that every one of
//! them is asked: the worst case.

use zk_policy::{Column, ColumnType, Command, Document, Policy, Scalar, Schema, Session, Value, check};

use crate::Table;

/// The tenant of the session and of the row.
pub const TENANT: &str = "6c1e7d0e-8f4b-4a52-9d0e-2f4c3f0a1b2c";

/// What the rules have in common.
#[derive(Clone, Copy)]
pub enum Rules {
    /// `owner = claim.user and score = n`
    OfAKind,
    /// `owner < … and score >= …`, with other numbers in every rule
    Apart,
}

/// What makes the same decision by the same rules, so many of them.
pub type Peer = fn(Rules, i64) -> Box<dyn Fn() -> bool>;

/// Prints the tables, with a row for each peer.
pub fn run(peers: &[(&str, Peer)]) {
    for (rules, title) in
        [(Rules::OfAKind, "rules of a kind"), (Rules::Apart, "rules that have nothing in common")]
    {
        for count in [1, 10, 50] {
            let policy = policy(rules, count);
            let session = Session::new(&policy, "agent").expect("declared");
            let session =
                session.claim("tenant", TENANT).expect("a uuid").claim("user", 7_i64).expect("a number");
            let row = row(count);
            let guard = policy.guard("public", "customers").expect("it is there");
            assert!(guard.decide(&session, Command::Select, &row).is_admitted());
            let mut table = Table::new(format!("One decision, {count} {title}"), 0);
            table.row("zk-policy `decide`", move || {
                guard.decide(&session, Command::Select, &row).is_admitted()
            });
            for (name, peer) in peers {
                let decide = peer(rules, count);
                assert!(decide(), "{name}");
                table.row(*name, decide);
            }
            table.print();
        }
    }
}

impl Rules {
    /// The condition of rule `n` of `count`: false for the row in its second half, but for the last rule.
    pub fn condition(self, n: i64, count: i64, [column, claim, equal, and]: [&str; 4]) -> String {
        match self {
            Self::OfAKind => format!("{column}owner {equal} {claim} {and} {column}score {equal} {n}"),
            Self::Apart => {
                format!("{column}owner < {} {and} {column}score >= {}", 8 + n, 2 * (count - 1) - n)
            }
        }
    }
}

fn row(count: i64) -> [Value<'static>; 5] {
    let mut tenant = [0; 16];
    let digits: Vec<u8> = TENANT.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    tenant.iter_mut().zip(digits.chunks(2)).for_each(|(byte, pair)| *byte = pair[0] * 16 + pair[1]);
    [Value::Int8(1), Value::Uuid(tenant), Value::Int8(7), Value::Text("north"), Value::Int8(count - 1)]
}

fn policy(rules: Rules, count: i64) -> Policy {
    let scalar = |name: &str, ty| Column::new(name, ColumnType::Scalar(ty));
    let columns = [
        scalar("id", Scalar::Int8).not_null(),
        scalar("tenant_id", Scalar::Uuid).not_null(),
        scalar("owner", Scalar::Int8),
        scalar("region", Scalar::Text),
        scalar("score", Scalar::Int8),
    ];
    let schema = Schema::default().table("public", "customers", columns);
    let mut text = String::from(
        "policy crm role agent claim tenant: uuid claim user: int8 table customers { tenant tenant_id = claim.tenant\n",
    );
    for n in 0..count {
        let condition = rules.condition(n, count, ["", "claim.user", "=", "and"]);
        text.push_str(&format!("allow agent select where {condition}\n"));
    }
    text.push('}');
    check(&Document::parse(&text).expect("it parses"), &schema).expect("it checks")
}
