//! How long is one decision in process? `cargo bench -p benches --bench decide`, with `--features peers` beside Cedar.
//!
//! The row is admitted by the last of 1, 10 or 50 rules, so that all of them are asked: the worst case.

use benches::Table;
use zk_policy::{Column, ColumnType, Command, Document, Policy, Scalar, Schema, Session, Value, check};

const TENANT: &str = "6c1e7d0e-8f4b-4a52-9d0e-2f4c3f0a1b2c";

fn main() {
    for rules in [1, 10, 50] {
        let (document, policy) = policy(rules);
        let session = Session::new(&document, "agent").expect("declared");
        let session =
            session.claim("tenant", TENANT).expect("a uuid").claim("user", 7_i64).expect("a number");
        let tenant = session_tenant();
        let row =
            [Value::Int8(1), tenant, Value::Int8(7), Value::Text("north"), Value::Int8(i64::from(rules) - 1)];
        let guard = policy.guard("public", "customers").expect("it is there");
        assert!(guard.decide(&session, Command::Select, &row).is_admitted());
        let mut table = Table::new(format!("One decision, {rules} rules, all asked"), 0);
        table.row("zk-policy `decide`", move || guard.decide(&session, Command::Select, &row).is_admitted());
        #[cfg(feature = "peers")]
        {
            let cedar = cedar::Peer::new(rules);
            assert!(cedar.decide());
            table.row("cedar-policy `is_authorized`", move || cedar.decide());
        }
        table.print();
    }
}

/// Rule `n` admits rows of the user whose `score` is `n`.
fn policy(rules: u32) -> (Document, Policy) {
    let scalar = |name: &str, ty| Column::new(name, ColumnType::Scalar(ty));
    let schema = Schema::default().table(
        "public",
        "customers",
        [
            scalar("id", Scalar::Int8).not_null(),
            scalar("tenant_id", Scalar::Uuid).not_null(),
            scalar("owner", Scalar::Int8),
            scalar("region", Scalar::Text),
            scalar("score", Scalar::Int8),
        ],
    );
    let mut text = String::from(
        "policy crm role agent claim tenant: uuid claim user: int8 table customers { tenant tenant_id = claim.tenant\n",
    );
    for n in 0..rules {
        text.push_str(&format!("allow agent select where owner = claim.user and score = {n}\n"));
    }
    text.push('}');
    let document = Document::parse(&text).expect("it parses");
    let policy = check(&document, &schema).expect("it checks");
    (document, policy)
}

fn session_tenant() -> Value<'static> {
    let mut bytes = [0; 16];
    let digits: Vec<u8> = TENANT.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    bytes.iter_mut().zip(digits.chunks(2)).for_each(|(byte, pair)| *byte = pair[0] * 16 + pair[1]);
    Value::Uuid(bytes)
}

#[cfg(feature = "peers")]
mod cedar {
    //! The same rules in Cedar, with policies, entities and request prepared outside of what is measured.

    use std::str::FromStr;

    use cedar_policy::{Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request};

    use super::TENANT;

    pub struct Peer {
        policies: PolicySet,
        entities: Entities,
        request: Request,
        authorizer: Authorizer,
    }

    impl Peer {
        pub fn new(rules: u32) -> Self {
            let text: String = (0..rules)
                .map(|n| {
                    format!(
                        "permit(principal, action == Action::\"select\", resource) when {{
                           resource.tenant == principal.tenant && resource.owner == principal.user && resource.score == {n} }};"
                    )
                })
                .collect();
            let entities = format!(
                r#"[{{"uid": {{"type": "User", "id": "7"}}, "attrs": {{"tenant": "{TENANT}", "user": 7}}, "parents": []}},
                    {{"uid": {{"type": "Row", "id": "1"}}, "parents": [], "attrs":
                      {{"tenant": "{TENANT}", "owner": 7, "region": "north", "score": {}}}}}]"#,
                rules - 1
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
