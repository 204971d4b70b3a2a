//! One meaning: decisions in process, filters, and row-level security agree on a live server.
//!
//! Schemas, policies, sessions and rows are generated, with NULLs, empty arrays, every type, reversed operands, nested
//! negation and foreign keys. PostgreSQL is the oracle. `ZK_TRIPLES` asks for more (policy, session, row) triples.
#![cfg(feature = "postgres")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "tests"
)]

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use testkit::Database;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use zk_policy::pg::{self, ApplyConfig};
use zk_policy::{
    ClaimValue, Command, Consent, Document, ForeignStep, Policy, Related, Row, Session, Value, check,
};

/// The six types with a few values each, in the policy's spelling; the last is the first again in another role: NULL.
const TYPES: [(&str, [&str; 3]); 6] = [
    (
        "uuid",
        [
            "00000000-0000-4000-8000-00000000000a",
            "00000000-0000-4000-8000-00000000000b",
            "f0000000-0000-4000-8000-000000000000",
        ],
    ),
    ("text", ["a", "", "Ä it's \\ \""]),
    ("int8", ["-1", "0", "7"]),
    ("bool", ["true", "false", "true"]),
    ("timestamptz", ["2026-01-31T09:30:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z"]),
    ("date", ["2026-01-31", "0001-01-01", "2000-02-29"]),
];
/// Types that claims can be arrays of.
const ARRAYS: [usize; 3] = [0, 1, 2];
/// Rows of each table.
const ROWS: usize = 16;

/// A condition over `c0`…`c5` (one column of each type), `p` (the tenant) and, in `child`, the foreign key to `parent`.
fn condition(depth: u32, child: bool) -> BoxedStrategy<String> {
    let leaf = (
        0..TYPES.len(),
        0..8_usize,
        select(vec!["=", "<>", "<", "<=", ">", ">="]),
        0..3_usize,
        any::<bool>(),
    )
        .prop_map(|(ty, shape, op, value, flip)| {
            let (name, values) = TYPES[ty];
            let literal = match name {
                "int8" | "bool" => values[value].to_owned(),
                _ => format!("'{}'", values[value].replace('\'', "''")),
            };
            let pair =
                |l: String, r: String| if flip { format!("{r} {op} {l}") } else { format!("{l} {op} {r}") };
            match shape {
                0 => pair(format!("c{ty}"), literal),
                1 => pair(format!("c{ty}"), format!("claim.k{ty}")),
                2 => format!("c{ty} is {}null", if flip { "not " } else { "" }),
                3 => format!("c{ty} {}in ({literal}, claim.k{ty}, c{ty})", if flip { "not " } else { "" }),
                4 => format!("c{ty} {}in ({literal})", if flip { "not " } else { "" }),
                5 if ARRAYS.contains(&ty) => {
                    format!("c{ty} {}in claim.a{ty}", if flip { "not " } else { "" })
                }
                5 | 6 => format!("claim.k{ty} is {}null", if flip { "not " } else { "" }),
                _ => {
                    if flip {
                        "c3".to_owned()
                    } else {
                        "true".to_owned()
                    }
                }
            }
        });
    if depth == 0 {
        return leaf.boxed();
    }
    let inner = condition(depth - 1, child);
    let mut forms = vec![
        leaf.boxed(),
        inner.clone().prop_map(|c| format!("not ({c})")).boxed(),
        vec(inner.clone(), 2..4).prop_map(|cs| format!("({})", cs.join(") and ("))).boxed(),
        vec(inner, 2..4).prop_map(|cs| format!("({})", cs.join(") or ("))).boxed(),
    ];
    if child {
        let there = condition(depth - 1, false);
        forms.push(there.clone().prop_map(|c| format!("(exists parent via parent_id where {c})")).boxed());
        forms.push(there.prop_map(|c| format!("not (exists parent via (parent_id) where {c})")).boxed());
        forms.push(Just("(exists parent via parent_id)".to_owned()).boxed());
    } else {
        forms.push(Just("true".to_owned()).boxed());
    }
    proptest::strategy::Union::new(forms).boxed()
}

/// The rules of one table for the roles `r` and `s`, where `s` includes `r`.
fn rules(child: bool) -> impl Strategy<Value = String> {
    let rule = (
        select(vec!["r", "s"]),
        select(vec!["allow", "allow", "deny"]),
        1..16_u8,
        condition(3, child),
        any::<bool>(),
    );
    vec(rule, 1..5).prop_map(|rules| {
        let mut text = String::new();
        for (role, effect, commands, condition, always) in rules {
            let commands: Vec<&str> = Command::ALL
                .iter()
                .zip(0..)
                .filter(|(_, bit)| commands >> bit & 1 == 1)
                .map(|(c, _)| c.name())
                .collect();
            let condition =
                if always && effect == "allow" { String::new() } else { format!(" where {condition}") };
            text.push_str(&format!("  {effect} {role} {}{condition}\n", commands.join(", ")));
        }
        text
    })
}

/// A whole policy. Everybody may read `parent`, as an `exists` in `child` needs; the persona `z` across tenants.
fn policy() -> impl Strategy<Value = String> {
    (rules(false), rules(true), any::<bool>(), condition(2, true)).prop_map(|(parent, child, shared, persona)| {
        let mut text = String::from("role r role s includes r claim tenant: int8\n");
        for (ty, (name, _)) in TYPES.iter().enumerate() {
            text.push_str(&format!("claim k{ty}: {name}\n"));
        }
        for ty in ARRAYS {
            text.push_str(&format!("claim a{ty}: {}[]\n", TYPES[ty].0));
        }
        let tenancy = if shared { "shared" } else { "tenant t = claim.tenant" };
        text.push_str(&format!(
            "table parent {{ {tenancy}\n  allow r select where c2 is null or c2 < 7\n{parent}}}\n"
        ));
        text.push_str(&format!("table child {{ tenant t = claim.tenant\n{child}}}\n"));
        text.push_str(&format!(
            "persona z {{ select on parent across tenants\n select, insert, delete on child across tenants where {persona} }}\n"
        ));
        text
    })
}

/// A claim for each declared name, or none.
fn claims() -> impl Strategy<Value = Vec<(String, ClaimValue)>> {
    let tenant = proptest::option::weighted(0.9, select(vec!["1", "2"]));
    let ones = vec(proptest::option::weighted(0.8, 0..3_usize), TYPES.len());
    let many = vec(proptest::option::weighted(0.8, vec(0..3_usize, 0..3)), ARRAYS.len());
    (tenant, ones, many).prop_map(|(tenant, ones, many)| {
        let mut claims: Vec<(String, ClaimValue)> = Vec::new();
        claims.extend(tenant.map(|t| ("tenant".to_owned(), t.into())));
        for (ty, value) in ones.into_iter().enumerate() {
            // An empty text is no claim: sessions refuse it.
            let value = value.map(|v| TYPES[ty].1[v]).filter(|v| !v.is_empty());
            claims.extend(value.map(|v| (format!("k{ty}"), v.into())));
        }
        for (ty, values) in ARRAYS.into_iter().zip(many) {
            let items = values.map(|vs| vs.into_iter().map(|v| TYPES[ty].1[v].to_owned()).collect());
            claims.extend(items.map(|items| (format!("a{ty}"), ClaimValue::Many(items))));
        }
        claims
    })
}

/// A row: id, tenant, the six values (or NULL), and the parent of a child (or none).
#[derive(Debug, Clone)]
struct Data {
    id: i64,
    tenant: i64,
    values: Vec<Option<usize>>,
    parent: Option<i64>,
}

fn rows() -> impl Strategy<Value = Vec<Data>> {
    let row = (
        1..3_i64,
        vec(proptest::option::weighted(0.75, 0..3_usize), TYPES.len()),
        proptest::option::weighted(0.8, 0..ROWS),
    );
    vec(row, ROWS).prop_map(|rows| {
        let rows = rows.into_iter().zip(0_i64..);
        rows.map(|((tenant, values, parent), id)| Data {
            id,
            tenant,
            values,
            parent: parent.map(|p| i64::try_from(p).unwrap()),
        })
        .collect()
    })
}

/// A row with the rows of `parent`, as the evaluator asks for it.
struct Known<'a> {
    data: &'a Data,
    parents: &'a [Data],
}

impl Row for Known<'_> {
    fn value(&self, place: usize) -> Value<'_> {
        match place {
            0 => Value::Int8(self.data.id),
            1 => Value::Int8(self.data.tenant),
            8 => self.data.parent.map_or(Value::Null, Value::Int8),
            place => self.data.values[place - 2].map_or(Value::Null, |v| typed(place - 2, v)),
        }
    }

    fn related(&self, step: &ForeignStep, visit: &mut dyn FnMut(&dyn Row) -> bool) -> Related {
        assert_eq!(step.columns, [("parent_id".to_owned(), "id".to_owned())]);
        for parent in self.parents.iter().filter(|p| Some(p.id) == self.data.parent) {
            if visit(&Known { data: parent, parents: &[] }) {
                break;
            }
        }
        Related::Shown
    }
}

/// The same values in the units of [`Value`], written out by hand and not by the code under test.
fn typed(ty: usize, value: usize) -> Value<'static> {
    match ty {
        0 => {
            let last = [10, 11, 0][value];
            let first = [0, 0, 0xf0][value];
            Value::Uuid([first, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, last])
        }
        1 => Value::Text(TYPES[1].1[value]),
        2 => Value::Int8([-1, 0, 7][value]),
        3 => Value::Bool([true, false, true][value]),
        4 => Value::Timestamptz([1_769_851_800, -1, 253_402_300_799][value] * 1_000_000),
        _ => Value::Date([20_484, -719_162, 11_016][value]),
    }
}

const TABLES: &str = "
    CREATE TABLE parent (id int8 PRIMARY KEY, t int8 NOT NULL, c0 uuid, c1 text, c2 int8, c3 bool, c4 timestamptz, c5 date);
    CREATE TABLE child (id int8 PRIMARY KEY, t int8 NOT NULL, c0 uuid, c1 text, c2 int8, c3 bool, c4 timestamptz, c5 date,
                        parent_id int8 REFERENCES parent);";

fn insert(table: &str, row: &Data) -> String {
    let mut values = vec![row.id.to_string(), row.tenant.to_string()];
    for (ty, value) in row.values.iter().enumerate() {
        values.push(value.map_or("NULL".to_owned(), |v| {
            format!("'{}'::{}", TYPES[ty].1[v].replace('\'', "''"), TYPES[ty].0)
        }));
    }
    if table == "child" {
        values.push(row.parent.map_or("NULL".to_owned(), |p| p.to_string()));
    }
    format!("INSERT INTO {table} VALUES ({});", values.join(", "))
}

/// One server, an owner that applies, and a plain connection that acts.
struct Lab {
    owner: Client,
    reader: Client,
    superuser: Client,
    actor: Client,
    name: String,
}

impl Lab {
    async fn create() -> Self {
        let database = Database::create().await.unwrap();
        let name = testkit::unique_name("f");
        let setup = format!(
            "CREATE ROLE {name}_owner LOGIN CREATEROLE PASSWORD 'x'; ALTER DATABASE {} OWNER TO {name}_owner;
             CREATE ROLE {name}_login LOGIN NOINHERIT PASSWORD 'x'",
            database.name()
        );
        database.execute(&setup).await.unwrap();
        let owner = database.connect_as(&format!("{name}_owner"), "x").await.unwrap();
        owner.batch_execute(TABLES).await.unwrap();
        Self {
            owner,
            reader: database.connect().await.unwrap(),
            superuser: database.connect().await.unwrap(),
            actor: database.connect_as(&format!("{name}_login"), "x").await.unwrap(),
            name,
        }
    }

    async fn apply(&mut self, rules: &str) -> (Document, Policy) {
        let text = format!("policy {}\n{rules}", self.name);
        let document = Document::parse(&text).unwrap_or_else(|e| panic!("{}", e.to_lines("policy", &text)));
        let schema = pg::read_schema(&mut self.owner).await.unwrap();
        let policy = check(&document, &schema).unwrap_or_else(|e| panic!("{}", e.to_lines("policy", &text)));
        let plan = pg::plan(&mut self.owner, &policy).await.unwrap();
        let accepted = plan.accept(Consent::Widening).unwrap();
        pg::apply(&mut self.owner, accepted, &ApplyConfig::default()).await.unwrap();
        let again = pg::plan(&mut self.owner, &policy).await.unwrap();
        assert!(again.is_empty(), "{text}\n{again}");
        let login = format!("{}_login", self.name);
        let grant = format!("GRANT {0}_r, {0}_s, {0}_z TO {login}", self.name);
        self.superuser.batch_execute(&grant).await.unwrap();
        (document, policy)
    }

    async fn fill(&self, parents: &[Data], children: &[Data]) {
        let mut script = String::from("DELETE FROM child; DELETE FROM parent;");
        parents.iter().for_each(|row| script.push_str(&insert("parent", row)));
        children.iter().for_each(|row| script.push_str(&insert("child", row)));
        self.superuser.batch_execute(&script).await.unwrap();
    }

    /// The ids that `statement` returns under row-level security; all of it is rolled back.
    async fn under_rls(&mut self, session: &Session, statement: &str) -> Result<BTreeSet<i64>, String> {
        session.enter(&self.actor).await.unwrap();
        let transaction = session.begin(&mut self.actor).await.unwrap();
        let result = transaction.query(statement, &[]).await;
        let ids = match result {
            Ok(rows) => Ok(rows.iter().map(|row| row.get(0)).collect()),
            Err(error) => Err(error.code().map_or_else(|| error.to_string(), |c| c.code().to_owned())),
        };
        transaction.rollback().await.unwrap();
        ids
    }

    async fn filtered(
        &self,
        policy: &Policy,
        session: &Session,
        table: &str,
        command: Command,
    ) -> BTreeSet<i64> {
        let filter = policy.guard("public", table).unwrap().filter(session, command);
        let parameters: Vec<&(dyn ToSql + Sync)> = filter.parameters.iter().map(|p| p as _).collect();
        let query = format!("SELECT id FROM {table} WHERE {}", filter.sql);
        let rows = self.reader.query(&query, &parameters).await.unwrap_or_else(|e| panic!("{query}: {e:?}"));
        rows.iter().map(|row| row.get(0)).collect()
    }
}

fn admitted(
    policy: &Policy,
    session: &Session,
    table: &str,
    command: Command,
    rows: &[Data],
    parents: &[Data],
) -> BTreeSet<i64> {
    let guard = policy.guard("public", table).unwrap();
    let decide = |row: &&Data| guard.decide(session, command, &Known { data: row, parents }).is_admitted();
    rows.iter().filter(decide).map(|row| row.id).collect()
}

#[tokio::test]
async fn four_readers() {
    let triples: usize = std::env::var("ZK_TRIPLES").ok().and_then(|n| n.parse().ok()).unwrap_or(12_000);
    let mut lab = Lab::create().await;
    let mut runner =
        TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed()));
    let (mut done, mut seen) = (0, 0);
    while done < triples {
        let rules = policy().new_tree(&mut runner).unwrap().current();
        let (document, policy) = lab.apply(&rules).await;
        let parents = rows().new_tree(&mut runner).unwrap().current();
        let children = rows().new_tree(&mut runner).unwrap().current();
        lab.fill(&parents, &children).await;
        for round in 0..6 {
            let role = ["r", "s", "z"][round % 3];
            let mut session = Session::new(&document, role).unwrap();
            for (name, value) in claims().new_tree(&mut runner).unwrap().current() {
                session = session.claim(&name, value).unwrap();
            }
            for (table, data) in [("parent", &parents), ("child", &children)] {
                let said = |command| admitted(&policy, &session, table, command, data, &parents);
                let told = format!("{rules}\nas {session:?}\nabout {table}: {data:?}\nparents {parents:?}");
                for command in Command::ALL {
                    let filtered = lab.filtered(&policy, &session, table, command).await;
                    assert_eq!(filtered, said(command), "filter {command:?}\n{told}");
                    done += data.len();
                }
                seen += said(Command::Select).len();
                let visible = lab.under_rls(&session, &format!("SELECT id FROM {table}")).await;
                let may =
                    |command| policy.guard("public", table).unwrap().filter(&session, command).sql != "false";
                let expected =
                    if may(Command::Select) { Ok(said(Command::Select)) } else { Err("42501".to_owned()) };
                assert_eq!(visible, expected, "select\n{told}");
                check_writes(&mut lab, &policy, &session, table, data, &parents, &told).await;
            }
        }
    }
    assert!(seen > 0, "some rows must be seen, or nothing was tested");
}

/// DELETE and UPDATE reach what both their own rules and those for reading admit; INSERT is row by row.
async fn check_writes(
    lab: &mut Lab,
    policy: &Policy,
    session: &Session,
    table: &str,
    data: &[Data],
    parents: &[Data],
    told: &str,
) {
    let said = |command| admitted(policy, session, table, command, data, parents);
    let may = |command| policy.guard("public", table).unwrap().filter(session, command).sql != "false";
    let both =
        |command| said(command).intersection(&said(Command::Select)).copied().collect::<BTreeSet<i64>>();
    let readable = may(Command::Select);
    // A deleted parent would take its children's reference with it, which the foreign key refuses: only children.
    if table == "child" {
        let deleted = lab.under_rls(session, "DELETE FROM child WHERE id >= 0 RETURNING id").await;
        let expected = if readable && may(Command::Delete) {
            Ok(both(Command::Delete))
        } else {
            Err("42501".to_owned())
        };
        assert_eq!(deleted, expected, "delete\n{told}");
    }
    // An update that changes nothing a rule reads: the row stays what it was, so the check after it holds as before.
    let updated =
        lab.under_rls(session, &format!("UPDATE {table} SET c1 = c1 WHERE id >= 0 RETURNING id")).await;
    let expected =
        if readable && may(Command::Update) { Ok(both(Command::Update)) } else { Err("42501".to_owned()) };
    assert_eq!(updated, expected, "update\n{told}");
    for row in data.iter().take(3) {
        let fresh = Data { id: row.id + 1000, ..row.clone() };
        let decision =
            admitted(policy, session, table, Command::Insert, std::slice::from_ref(&fresh), parents);
        let inserted = lab
            .under_rls(
                session,
                &format!("WITH i AS ({} ) SELECT 1::int8", insert(table, &fresh).trim_end_matches(';')),
            )
            .await;
        let expected = if decision.is_empty() { Err("42501".to_owned()) } else { Ok(BTreeSet::from([1])) };
        assert_eq!(inserted, expected, "insert {fresh:?}\n{told}");
    }
}

/// Fresh for each run, printed so that a failure can be seen again with `ZK_SEED`.
fn seed() -> [u8; 32] {
    let text = std::env::var("ZK_SEED").unwrap_or_else(|_| testkit::unique_name("seed"));
    println!("ZK_SEED={text}");
    let mut seed = [0; 32];
    seed.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    seed
}
