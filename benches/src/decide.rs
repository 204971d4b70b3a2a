//! How long is one decision in process? `cargo bench -p benches --bench decide`, with `--features peers` beside Cedar.
//!
//! The row is admitted by the last of 1, 10 or 50 rules. Rules of a kind ask the same question first and then want a value
//! of their own, as rules of one table usually do; rules of the other kind have nothing in common, so that every one of
//! them is asked: the worst case.

use benches::Table;
use zk_policy::{Column, ColumnType, Command, Document, Policy, Scalar, Schema, Session, Value, check};

const TENANT: &str = "6c1e7d0e-8f4b-4a52-9d0e-2f4c3f0a1b2c";

/// What the rules have in common.
#[derive(Clone, Copy)]
enum Rules {
    /// `owner = claim.user and score = n`
    OfAKind,
    /// `owner < … and score >= …`, with other numbers in every rule
    Apart,
}

fn main() {
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
            #[cfg(feature = "peers")]
            {
                let cedar = cedar::Peer::new(rules, count);
                assert!(cedar.decide());
                table.row("cedar-policy `is_authorized`", move || cedar.decide());
            }
            table.print();
        }
    }
}

impl Rules {
    /// The condition of rule `n` of `count`: false for the row in its second half, but for the last rule.
    fn condition(self, n: i64, count: i64, [column, claim, equal, and]: [&str; 4]) -> String {
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

#[cfg(feature = "peers")]
mod cedar {
    //! The same rules in Cedar, with policies, entities and request prepared outside of what is measured.

    use std::str::FromStr;

    use cedar_policy::{Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request};

    use super::{Rules, TENANT};

    pub struct Peer {
        policies: PolicySet,
        entities: Entities,
        request: Request,
        authorizer: Authorizer,
    }

    impl Peer {
        pub fn new(rules: Rules, count: i64) -> Self {
            let text: String = (0..count)
                .map(|n| {
                    let condition = rules.condition(n, count, ["resource.", "principal.user", "==", "&&"]);
                    format!(
                        "permit(principal, action == Action::\"select\", resource) when {{
                           resource.tenant == principal.tenant && {condition} }};"
                    )
                })
                .collect();
            let entities = format!(
                r#"[{{"uid": {{"type": "User", "id": "7"}}, "attrs": {{"tenant": "{TENANT}", "user": 7}}, "parents": []}},
                    {{"uid": {{"type": "Row", "id": "1"}}, "parents": [], "attrs":
                      {{"tenant": "{TENANT}", "owner": 7, "region": "north", "score": {}}}}}]"#,
                count - 1
            );
            let uid = |text: &str| EntityUid::from_str(text).expect("an entity");
            Self {
                policies: PolicySet::from_str(&text).expect("policies"),
                entities: Entities::from_json_str(&entities, None).expect("entities"),
                request: Request::new(
                    uid("User::\"7\""),
                    uid("Action::\"select\""),
                    uid("Row::\"1\""),
                    Context::empty(),
                    None,
                )
                .expect("a request"),
                authorizer: Authorizer::new(),
            }
        }

        pub fn decide(&self) -> bool {
            self.authorizer.is_authorized(&self.request, &self.policies, &self.entities).decision()
                == Decision::Allow
        }
    }
}
