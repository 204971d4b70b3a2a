//! Decisions in process: every way in which one can end says why, and none allocates.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use zk_policy::{
    Column, ColumnType, Command, Declared, Document, Explanation, ForeignKey, ForeignStep, Policy, Reason,
    Related, Row, Scalar, Schema, Session, Value, check,
};

const RULES: &str = "
  policy crm
  role agent
  role manager includes agent
  role auditor
  role nobody
  claim tenant: int8
  claim user: int8
  claim regions: text[]
  table customers {
    tenant tenant_id = claim.tenant
    critical ssn
    allow agent select where region in claim.regions or owner = claim.user
    allow agent update where owner = claim.user and not frozen
    allow manager select where score > 90
    allow manager delete
    deny manager delete where frozen or score is null
    allow auditor select
    allow nobody insert
    columns agent select all except score
    columns agent update only region
    mask region for auditor as partial(1, '***', 1)
  }
  table visits {
    tenant tenant_id = claim.tenant
    allow agent select where exists customers via customer where owner = claim.user
    allow agent delete where not (exists customers via customer where frozen)
    allow agent update where exists customers via customer where true and id < 5
    deny agent update where id = 4
  }
  table countries { shared allow agent select }
  persona reporting { select on customers across tenants }";

fn policy() -> Policy {
    let column = |name: &str, ty| Column::new(name, ColumnType::Scalar(ty));
    let key = ForeignKey {
        columns: vec!["customer".to_owned()],
        schema: "public".to_owned(),
        table: "customers".to_owned(),
        referenced: vec!["id".to_owned()],
        compared_otherwise: false,
    };
    let schema = Schema::default()
        .table(
            "public",
            "customers",
            [
                column("id", Scalar::Int8).not_null(),
                column("tenant_id", Scalar::Int8).not_null(),
                column("owner", Scalar::Int8),
                column("region", Scalar::Text),
                column("score", Scalar::Int8),
                column("frozen", Scalar::Bool),
                Column::new("ssn", ColumnType::Bytea),
            ],
        )
        .table(
            "public",
            "visits",
            [
                column("id", Scalar::Int8).not_null(),
                column("tenant_id", Scalar::Int8).not_null(),
                column("customer", Scalar::Int8),
            ],
        )
        .table("public", "countries", [column("name", Scalar::Text)])
        .foreign_key("public", "visits", key);
    check(&Document::parse(RULES).unwrap(), &schema)
        .unwrap_or_else(|mistakes| panic!("{}", mistakes.to_lines("policy", RULES)))
}

/// A customer of tenant 1: owner, region, score, whether frozen.
fn customer<'a>(owner: i64, region: &'a str, score: Option<i64>, frozen: Option<bool>) -> [Value<'a>; 7] {
    let (score, frozen) = (score.map_or(Value::Null, Value::Int8), frozen.map_or(Value::Null, Value::Bool));
    [Value::Int8(1), Value::Int8(1), Value::Int8(owner), Value::Text(region), score, frozen, Value::Other]
}

fn session(policy: &Policy, role: &str) -> Session {
    let session = Session::new(policy, role).unwrap().claim("tenant", 1).unwrap().claim("user", 7).unwrap();
    session.claim("regions", ["north", "south"].as_slice()).unwrap()
}

/// A visit whose customer is known.
struct Visit<'a> {
    own: [Value<'a>; 3],
    customer: Option<[Value<'a>; 7]>,
}

impl Row for Visit<'_> {
    fn value(&self, place: usize) -> Value<'_> {
        self.own.value(place)
    }

    fn related(&self, step: &ForeignStep, visit: &mut dyn FnMut(&dyn Row) -> bool) -> Related {
        assert_eq!(step.table.table, "customers");
        if let Some(customer) = &self.customer {
            visit(customer);
        }
        Related::Shown
    }
}

#[test]
fn every_decision_says_why() {
    let policy = policy();
    let customers = policy.guard("public", "customers").unwrap();
    let mut told = String::new();
    let mut tell = |about: &str, decision: &dyn std::fmt::Display| {
        told.push_str(&format!("{about}\n    {decision}\n"));
    };
    let of = |role: &str, command, row: &[Value<'_>]| customers.decide(&session(&policy, role), command, row);
    let other_tenant = [Value::Int8(1), Value::Int8(2), Value::Int8(7)];

    tell("a region of the session's", &of("agent", Command::Select, &customer(1, "south", None, None)));
    tell("the user's own", &of("agent", Command::Select, &customer(7, "west", None, None)));
    tell("neither", &of("agent", Command::Select, &customer(1, "west", Some(99), None)));
    tell(
        "what the role itself is allowed",
        &of("manager", Command::Select, &customer(1, "west", Some(99), None)),
    );
    tell("another tenant", &of("agent", Command::Select, &other_tenant));
    let lacking = Session::new(&policy, "agent").unwrap();
    tell("no tenant", &customers.decide(&lacking, Command::Select, &customer(7, "south", None, None)));
    tell("another tenant, across tenants", &of("reporting", Command::Select, &other_tenant));
    tell("no right", &of("agent", Command::Delete, &customer(7, "south", None, None)));
    tell("not certainly not frozen", &of("agent", Command::Update, &customer(7, "south", None, None)));
    tell("denied", &of("manager", Command::Delete, &customer(7, "south", Some(1), Some(true))));
    tell("not certainly not denied", &of("manager", Command::Delete, &customer(7, "south", Some(1), None)));
    tell("not denied", &of("manager", Command::Delete, &customer(7, "south", Some(1), Some(false))));

    let visits = policy.guard("public", "visits").unwrap();
    let visit = |id, customer| Visit { own: [Value::Int8(id), Value::Int8(1), Value::Int8(1)], customer };
    let agent = session(&policy, "agent");
    let own = customer(7, "west", None, Some(true));
    tell("a customer of the user's", &visits.decide(&agent, Command::Select, &visit(1, Some(own))));
    let of_others = customer(1, "south", None, Some(false));
    tell(
        "a visible customer of another's",
        &visits.decide(&agent, Command::Select, &visit(1, Some(of_others))),
    );
    tell("no customer", &visits.decide(&agent, Command::Select, &visit(1, None)));
    tell("a customer that is frozen", &visits.decide(&agent, Command::Delete, &visit(1, Some(own))));
    tell("a customer that is not", &visits.decide(&agent, Command::Delete, &visit(1, Some(of_others))));
    let alone = |id| [Value::Int8(id), Value::Int8(1), Value::Int8(1)];
    tell("customers are not known", &visits.decide(&agent, Command::Select, &alone(1)));
    tell("nor whether there is none", &visits.decide(&agent, Command::Delete, &alone(1)));
    tell("not known, and does not matter", &visits.decide(&agent, Command::Update, &alone(4)));

    let countries = policy.guard("public", "countries").unwrap();
    tell("a shared table", &countries.decide(&lacking, Command::Select, &[Value::Text("Malta")]));
    let elsewhere = Document::parse("policy other role agent claim tenant: int8").unwrap();
    let stranger = Session::new(&elsewhere, "agent").unwrap().claim("tenant", 1).unwrap();
    tell("a session of another policy", &countries.decide(&stranger, Command::Select, &[Value::Null]));

    tell("a column for such a session", &countries.column(&stranger, Command::Select, "name"));
    assert_eq!(customers.filter(&stranger, Command::Select).sql, "false");

    for (about, role, command, column) in [
        ("a column", "manager", Command::Select, "score"),
        ("a sealed column", "agent", Command::Select, "ssn"),
        ("a masked column", "auditor", Command::Select, "region"),
        ("a column outside of the rule", "agent", Command::Select, "score"),
        ("a column that only others may write", "agent", Command::Update, "owner"),
        ("a column of a command without a right", "agent", Command::Insert, "owner"),
        ("a column that is not there", "agent", Command::Select, "colour"),
        ("deleting", "manager", Command::Delete, "owner"),
    ] {
        tell(about, &customers.column(&session(&policy, role), command, column));
    }
    insta::assert_snapshot!(told);
}

/// Reasons are for programs what words are for people.
#[test]
fn reasons_name_what_they_are_about() {
    let policy = policy();
    let guard = policy.guard("public", "customers").unwrap();
    let agent = session(&policy, "agent");
    let other = guard.decide(&agent, Command::Select, &[Value::Int8(1), Value::Int8(2)]);
    assert_eq!(other.reason(), Some(Reason::OtherTenant { column: "tenant_id", claim: "tenant" }));
    let admitted = guard.decide(&agent, Command::Select, &customer(7, "", None, None));
    assert!(admitted.is_admitted() && admitted.reason().is_none());
    assert_eq!(guard.decide(&agent, Command::Delete, &[]).reason(), Some(Reason::NoRight(Command::Delete)));
}

/// A session says nothing of where its claims stand in another policy, so places are never taken from it.
#[test]
fn a_session_of_another_policy_is_refused() {
    let policy = policy();
    let guard = policy.guard("public", "customers").unwrap();
    let row = customer(7, "south", None, None);
    let swapped =
        RULES.replace("claim tenant: int8\n  claim user: int8", "claim user: int8\n  claim tenant: int8");
    let made_of = |text: &str| {
        let session = Session::new(&Document::parse(text).unwrap(), "agent").unwrap();
        session.claim("tenant", 1).unwrap().claim("user", 7).unwrap()
    };
    assert!(guard.decide(&made_of(RULES), Command::Select, &row).is_admitted(), "the same, read again");
    let decision = guard.decide(&made_of(&swapped), Command::Select, &row);
    assert_eq!(decision.reason(), Some(Reason::OtherPolicy));
}

#[test]
fn deciding_does_not_allocate() {
    let policy = policy();
    let customers = policy.guard("public", "customers").unwrap();
    let visits = policy.guard("public", "visits").unwrap();
    let sessions = ["agent", "manager", "auditor", "nobody", "reporting"].map(|role| session(&policy, role));
    let rows = [customer(7, "west", None, None), customer(1, "south", Some(99), Some(true))];
    let visit = Visit { own: [Value::Int8(1), Value::Int8(1), Value::Int8(1)], customer: Some(rows[0]) };
    let mut admitted = 0;
    let counted = allocation_counter::measure(|| {
        for session in &sessions {
            for command in Command::ALL {
                for row in &rows {
                    admitted += usize::from(customers.decide(session, command, row).is_admitted());
                }
                admitted += usize::from(visits.decide(session, command, &visit).is_admitted());
            }
        }
    });
    assert!(admitted > 5, "{admitted}");
    assert_eq!(counted.count_total, 0);
    let auditor = session(&policy, "auditor");
    let counted = allocation_counter::measure(|| {
        assert!(customers.mask(&auditor, "region").is_some());
        assert!(customers.column(&auditor, Command::Select, "region").is_admitted());
        assert!(!customers.column(&auditor, Command::Delete, "region").is_admitted());
    });
    assert_eq!(counted.count_total, 0, "columns and masks are looked up without allocating");
    let words = allocation_counter::measure(|| {
        let _words = customers.decide(&sessions[0], Command::Select, &rows[0]).to_string();
    });
    assert!(words.count_total > 0, "or nothing is counted");
}

#[test]
fn a_session_shares_what_the_policy_declares() {
    let policy = policy();
    let declared = Declared::from(&policy);
    let counted = allocation_counter::measure(|| {
        let _session = Session::new(&declared, "agent").unwrap();
    });
    assert!(counted.count_total <= 1, "one allocation holds the claims: {}", counted.count_total);
}

/// What refuses a row, clause by clause: the first of each rule that does not hold, and whether NULL is the reason.
#[test]
fn every_refusal_names_the_first_clause_that_failed() {
    let policy = policy();
    let customers = policy.guard("public", "customers").unwrap();
    let visits = policy.guard("public", "visits").unwrap();
    let (agent, manager) = (session(&policy, "agent"), session(&policy, "manager"));
    let mut told = String::new();
    let mut tell = |about: &str, explanation: Explanation<'_>| {
        told.push_str(&format!("{about}\n    {}\n", explanation.to_string().replace('\n', "\n    ")));
    };
    let row = customer(1, "west", Some(1), None);
    tell("no rule admits", customers.explain(&agent, Command::Select, &row));
    tell(
        "the second clause",
        customers.explain(&agent, Command::Update, &customer(7, "south", None, Some(true))),
    );
    tell(
        "a clause about NULL",
        customers.explain(&agent, Command::Update, &customer(7, "south", None, None)),
    );
    tell("denied", customers.explain(&manager, Command::Delete, &customer(7, "south", Some(1), Some(true))));
    tell(
        "perhaps denied",
        customers.explain(&manager, Command::Delete, &customer(7, "south", Some(1), None)),
    );
    tell(
        "admitted",
        customers.explain(&manager, Command::Delete, &customer(7, "south", Some(1), Some(false))),
    );
    let alone = [Value::Int8(1), Value::Int8(1), Value::Int8(1)];
    tell("not known", visits.explain(&agent, Command::Select, &alone));
    let other_tenant = [Value::Int8(1), Value::Int8(2), Value::Int8(7)];
    tell("another tenant", customers.explain(&agent, Command::Select, &other_tenant));
    insta::assert_snapshot!(told);
}
