//! How long is one decision beside Cedar's? `cargo bench --manifest-path benches/peers/Cargo.toml --bench decide`
//!
//! The same rules in Cedar, with policies, entities and request prepared outside of what is measured.

use std::str::FromStr;

use benches::decide::{Rules, TENANT};
use cedar_policy::{Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request};

fn main() {
    benches::decide::run(&[("cedar-policy `is_authorized`", |rules, count| {
        let cedar = Cedar::new(rules, count);
        Box::new(move || cedar.decide())
    })]);
}

struct Cedar {
    policies: PolicySet,
    entities: Entities,
    request: Request,
    authorizer: Authorizer,
}

impl Cedar {
    fn new(rules: Rules, count: i64) -> Self {
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

    fn decide(&self) -> bool {
        self.authorizer.is_authorized(&self.request, &self.policies, &self.entities).decision()
            == Decision::Allow
    }
}
