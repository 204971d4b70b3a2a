//! One meaning: decisions in process, filters, and row-level security agree on a live server.
//!
//! Policies, sessions and rows are generated, with NULLs, empty arrays, every type, reversed operands, nested negation,
//! foreign keys in both directions, columns, masks and a persona, over tables of which two have one name. PostgreSQL is the oracle. `ZK_TRIPLES` asks for
//! more (policy, session, row) triples.
#![cfg(feature = "postgres")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "tests"
)]

#[path = "shared/generator.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod generator;
#[path = "shared/lab.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod lab;

use std::collections::{BTreeMap, BTreeSet};

use generator::{ARRAYS, TYPES};
use lab::Lab;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};
use zk_policy::pg;
use zk_policy::{
    AccessMatrix, ClaimValue, Command, ForeignStep, Guard, MaskKey, MatrixRow, Policy, Related, Row, Session,
    Value,
};

/// Rows of each table.
const ROWS: usize = 24;
/// Sessions for each policy.
const SESSIONS: usize = 9;
/// The tables, each after those that it refers to.
const TABLES: [&str; 3] = ["public.parent", "twin.parent", "public.child"];

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

/// A row: id, tenant, the six values (or NULL), and the parent of a child or tag (or none).
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

/// All rows, by table.
type World = BTreeMap<&'static str, Vec<Data>>;

/// A row with the rows around it, as the evaluator asks for them.
struct Known<'a> {
    data: &'a Data,
    world: &'a World,
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
        let [(here, there)] = step.columns.as_slice() else { panic!("keys have one column") };
        let value = |row: &Data, column: &str| if column == "id" { Some(row.id) } else { row.parent };
        let wanted = value(self.data, here);
        let found = self.world[step.table.to_string().as_str()].iter();
        for data in found.filter(|row| wanted.is_some() && value(row, there) == wanted) {
            if visit(&Known { data, world: self.world }) {
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

fn insert(table: &str, row: &Data, hidden: &BTreeSet<String>) -> String {
    let mut columns = vec!["id".to_owned(), "t".to_owned()];
    let mut values = vec![row.id.to_string(), row.tenant.to_string()];
    for (ty, value) in row.values.iter().enumerate().filter(|(ty, _)| !hidden.contains(&format!("c{ty}"))) {
        columns.push(format!("c{ty}"));
        values.push(sql_value(ty, *value));
    }
    if table != "public.parent" {
        columns.push("parent_id".to_owned());
        values.push(row.parent.map_or("NULL".to_owned(), |p| p.to_string()));
    }
    format!("INSERT INTO {table} ({}) VALUES ({});", columns.join(", "), values.join(", "))
}

/// A lab with a plain connection that acts.
struct Readers {
    lab: Lab,
    actor: Client,
    name: String,
    /// With which masks hash.
    key: MaskKey,
}

/// What one session is asked about one table.
struct Case<'a> {
    policy: &'a Policy,
    matrix: &'a AccessMatrix,
    session: &'a Session,
    table: &'static str,
    world: &'a World,
    told: String,
}

impl Case<'_> {
    fn guard(&self) -> Guard<'_> {
        let (schema, table) = self.table.split_once('.').unwrap();
        self.policy.guard(schema, table).unwrap()
    }

    fn data(&self) -> &[Data] {
        &self.world[self.table]
    }

    fn admits(&self, command: Command, data: &Data) -> bool {
        self.guard().decide(self.session, command, &Known { data, world: self.world }).is_admitted()
    }

    fn admitted(&self, command: Command) -> BTreeSet<i64> {
        self.data().iter().filter(|row| self.admits(command, row)).map(|row| row.id).collect()
    }

    fn may(&self, command: Command) -> bool {
        self.guard().filter(self.session, command).sql != "false"
    }

    /// The columns that the command may name, from the access matrix.
    fn columns(&self, command: Command) -> BTreeSet<String> {
        let may = |row: &&MatrixRow| {
            let mut cells = row.cells.iter().filter(|cell| cell.role == self.session.role());
            row.table == self.table && cells.any(|cell| cell.commands.iter().any(|p| p.command == command))
        };
        self.matrix.rows().filter(may).map(|row| row.column.clone()).collect()
    }
}

impl Readers {
    async fn create() -> Self {
        let lab = Lab::create(generator::TABLES).await;
        let name = testkit::unique_name("f");
        let login = format!("CREATE ROLE {name}_login LOGIN NOINHERIT PASSWORD 'x'");
        lab.database.execute(&login).await.unwrap();
        let actor = lab.database.connect_as(&format!("{name}_login"), "x").await.unwrap();
        let key = MaskKey::generate().unwrap();
        pg::install_mask_keys(&lab.owner).await.unwrap();
        pg::set_mask_key(&lab.owner, &name, &key).await.unwrap();
        Self { lab, actor, name, key }
    }

    async fn apply(&mut self, rules: &str) -> Policy {
        let (_, policy) = self.lab.check(&format!("policy {}\n{rules}", self.name)).await;
        self.lab.apply(&policy).await;
        let grant = format!("GRANT {0}_r, {0}_s, {0}_z TO {0}_login", self.name);
        self.lab.root.batch_execute(&grant).await.unwrap();
        policy
    }

    async fn fill(&self, world: &World) {
        let mut script =
            String::from("BEGIN; DELETE FROM child; DELETE FROM twin.parent; DELETE FROM parent;");
        for table in TABLES {
            world[table].iter().for_each(|row| script.push_str(&insert(table, row, &BTreeSet::new())));
        }
        self.lab.root.batch_execute(&format!("{script} COMMIT")).await.unwrap();
    }

    async fn filtered(&self, case: &Case<'_>, command: Command) -> BTreeSet<i64> {
        let filter = case.guard().filter(case.session, command);
        let parameters: Vec<&(dyn ToSql + Sync)> = filter.parameters.iter().map(|p| p as _).collect();
        let query = format!("SELECT id FROM {} WHERE {}", case.table, filter.sql);
        let rows = self.lab.root.query(&query, &parameters).await;
        rows.unwrap_or_else(|e| panic!("{query}: {e:?}")).iter().map(|row| row.get(0)).collect()
    }

    /// What statements return in the session, each in its turn; all of it is rolled back.
    async fn under_rls(&mut self, session: &Session, statements: &[String]) -> Vec<Result<Shown, String>> {
        session.enter(&self.actor).await.unwrap();
        let transaction = session.begin(&mut self.actor).await.unwrap();
        let mut answers = Vec::new();
        for statement in statements {
            let answer = transaction.simple_query(&format!("SAVEPOINT s; {statement}")).await;
            transaction.batch_execute("ROLLBACK TO SAVEPOINT s").await.unwrap();
            answers.push(answer.map(|messages| shown(&messages)).map_err(|e| code(&e)));
        }
        transaction.rollback().await.unwrap();
        answers
    }
}

/// Rows by their first column, with their second, if they have one.
type Shown = BTreeMap<i64, Option<String>>;

fn shown(messages: &[SimpleQueryMessage]) -> Shown {
    let cell = |row: &SimpleQueryRow| {
        (row.get(0).unwrap().parse().unwrap(), row.try_get(1).ok().flatten().map(str::to_owned))
    };
    messages
        .iter()
        .filter_map(|m| if let SimpleQueryMessage::Row(row) = m { Some(cell(row)) } else { None })
        .collect()
}

fn ids(ids: BTreeSet<i64>) -> Shown {
    ids.into_iter().map(|id| (id, None)).collect()
}

fn code(error: &tokio_postgres::Error) -> String {
    error.code().map_or_else(|| error.to_string(), |c| c.code().to_owned())
}

fn denied() -> Result<Shown, String> {
    Err("42501".to_owned())
}

#[tokio::test]
async fn four_readers() {
    let triples: usize = std::env::var("ZK_TRIPLES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let mut readers = Readers::create().await;
    let mut runner =
        TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed()));
    let (mut done, mut seen, mut masked, mut policies) = (0, 0, 0, 0);
    let mut updates = Updates::default();
    while done < triples {
        let rules = generator::policy().new_tree(&mut runner).unwrap().current();
        let policy = readers.apply(&rules).await;
        policies += 1;
        let matrix = policy.access_matrix();
        let mut world = World::new();
        for table in TABLES {
            world.insert(table, rows().new_tree(&mut runner).unwrap().current());
        }
        readers.fill(&world).await;
        for round in 0..SESSIONS {
            let mut session = Session::new(&policy, ["r", "s", "z"][round % 3]).unwrap();
            for (name, value) in claims().new_tree(&mut runner).unwrap().current() {
                session = session.claim(&name, value).unwrap();
            }
            for table in TABLES {
                let told = format!("{rules}\nas {session:?}\nabout {table}\n{world:?}");
                let case =
                    Case { policy: &policy, matrix: &matrix, session: &session, table, world: &world, told };
                for command in Command::ALL {
                    let filtered = readers.filtered(&case, command).await;
                    assert_eq!(filtered, case.admitted(command), "filter {command:?}\n{}", case.told);
                }
                done += case.data().len();
                seen += case.admitted(Command::Select).len();
                masked += check_columns(&mut readers, &case).await;
                check_writes(&mut readers, &case).await;
                updates.add(check_updates(&mut readers, &case).await);
            }
        }
    }
    println!(
        "{done} (policy, session, row) triples, each with every command, over {policies} policies; {seen} rows seen, {masked} \
         values masked, {updates:?}"
    );
    assert!(seen > 0 && masked > 0, "some rows must be seen, and some values masked, or nothing was tested");
    let Updates { written, refused, unreached } = updates;
    assert!(written > 0 && refused > 0 && unreached > 0, "an update must come out in each way");
}

/// Rows and columns that are read: which, and with which values, masks included. Returns how many values were masked.
async fn check_columns(readers: &mut Readers, case: &Case<'_>) -> usize {
    let Case { table, session, .. } = case;
    let rows = case.admitted(Command::Select);
    let all = if case.may(Command::Select) { Ok(ids(rows)) } else { denied() };
    // As an application writes it: a masked table of `public` is found through its view.
    let shown = table.strip_prefix("public.").unwrap_or(table);
    let mut asked = vec![(format!("SELECT id FROM {shown}"), all)];
    let readable = case.columns(Command::Select);
    let mut masked = 0;
    for ty in 0..TYPES.len() {
        let column = format!("c{ty}");
        let mask = case.guard().mask(session, &column);
        let text = |row: &Data| match mask {
            Some(mask) => mask
                .apply_with(&readers.key, row.values[ty].map_or(Value::Null, |v| typed(ty, v)))
                .map(|text| if ty == 3 { text[..1].to_owned() } else { text.into_owned() }),
            None => row.values[ty].map(|v| printed(ty, v).to_owned()),
        };
        let rows = case.data().iter().filter(|row| case.admits(Command::Select, row));
        let expected: Shown = rows.map(|row| (row.id, text(row))).collect();
        let expected = if readable.contains(&column) { Ok(expected) } else { denied() };
        masked += if mask.is_some() { expected.as_ref().map_or(0, BTreeMap::len) } else { 0 };
        // Through the view, if there is one, are the columns that the role may read; the table itself has no more.
        if mask.is_some() || expected.is_err() {
            asked.push((format!("SELECT id, {column} FROM {table}"), denied()));
        }
        if expected.is_ok() {
            asked.push((format!("SELECT id, {column} FROM {shown}"), expected));
        }
    }
    check_answers(readers, case, asked).await;
    masked
}

/// How PostgreSQL prints a value.
fn printed(ty: usize, value: usize) -> &'static str {
    match ty {
        3 => ["t", "f", "t"][value],
        4 => ["2026-01-31 09:30:00+00", "1969-12-31 23:59:59+00", "9999-12-31 23:59:59+00"][value],
        ty => TYPES[ty].1[value],
    }
}

/// DELETE and UPDATE reach what both their own rules and those for reading admit; INSERT is row by row.
async fn check_writes(readers: &mut Readers, case: &Case<'_>) {
    let Case { table, .. } = case;
    let readable = case.may(Command::Select);
    let both = |command| {
        if !(readable && case.may(command)) {
            return denied();
        }
        Ok(ids(case.admitted(command).intersection(&case.admitted(Command::Select)).copied().collect()))
    };
    // An update that changes nothing: which rows it reaches. Foreign keys are deferred, so that a parent can go for a moment.
    let mut asked = vec![
        (format!("DELETE FROM {table} WHERE id >= 0 RETURNING id"), both(Command::Delete)),
        (format!("UPDATE {table} SET t = t WHERE id >= 0 RETURNING id"), both(Command::Update)),
    ];
    let updatable = case.columns(Command::Update);
    for column in (0..TYPES.len()).map(|ty| format!("c{ty}")) {
        let none = if updatable.contains(&column) { Ok(Shown::new()) } else { denied() };
        asked.push((
            format!("WITH u AS (UPDATE {table} SET {column} = NULL WHERE false) SELECT 1 LIMIT 0"),
            none,
        ));
    }
    let insertable = case.columns(Command::Insert);
    let hidden: BTreeSet<String> =
        (0..TYPES.len()).map(|ty| format!("c{ty}")).filter(|c| !insertable.contains(c)).collect();
    for row in case.data().iter().take(3) {
        let mut fresh = Data { id: row.id + 1000, ..row.clone() };
        if !hidden.is_empty() {
            asked.push((insert(table, &fresh, &BTreeSet::new()), denied()));
        }
        // What cannot be written is NULL.
        for (ty, value) in fresh.values.iter_mut().enumerate() {
            *value = value.filter(|_| !hidden.contains(&format!("c{ty}")));
        }
        let expected = if case.admits(Command::Insert, &fresh) { Ok(Shown::new()) } else { denied() };
        asked.push((insert(table, &fresh, &hidden), expected));
    }
    check_answers(readers, case, asked).await;
}

/// How often an update put one row over another, was refused for what the row became, and did not reach it.
#[derive(Debug, Default)]
struct Updates {
    written: usize,
    refused: usize,
    unreached: usize,
}

impl Updates {
    fn add(&mut self, Self { written, refused, unreached }: Self) {
        self.written += written;
        self.refused += refused;
        self.unreached += unreached;
    }
}

/// UPDATE writes one row over another, in the columns that it may: the old row has to be admitted for reading and updating,
/// or it is not there; the new one as well, or the statement fails.
async fn check_updates(readers: &mut Readers, case: &Case<'_>) -> Updates {
    let Case { table, world, .. } = case;
    let mut updates = Updates::default();
    let updatable = case.columns(Command::Update);
    if updatable.is_empty() || !case.may(Command::Select) {
        return updates;
    }
    let both = |row: &Data| case.admits(Command::Update, row) && case.admits(Command::Select, row);
    let (reached, others): (Vec<&Data>, Vec<&Data>) = case.data().iter().partition(|row| both(row));
    let mut asked = Vec::new();
    for (number, old) in reached.iter().take(4).chain(others.iter().take(1)).enumerate() {
        let from = &world["public.child"][(number * 5 + 3) % ROWS];
        let mut new = (*old).clone();
        let mut sets = Vec::new();
        for column in &updatable {
            let value = match column.as_str() {
                "t" => {
                    new.tenant = if number % 4 == 3 { 3 - old.tenant } else { old.tenant };
                    new.tenant.to_string()
                }
                "parent_id" => {
                    new.parent = from.parent;
                    from.parent.map_or("NULL".to_owned(), |p| p.to_string())
                }
                column => {
                    let Some(ty) = column.strip_prefix('c').and_then(|ty| ty.parse::<usize>().ok()) else {
                        continue;
                    };
                    new.values[ty] = from.values[ty];
                    sql_value(ty, from.values[ty])
                }
            };
            sets.push(format!("{column} = {value}"));
        }
        let expected = if !both(old) {
            updates.unreached += 1;
            Ok(Shown::new())
        } else if both(&new) {
            updates.written += 1;
            Ok(ids(BTreeSet::from([old.id])))
        } else {
            updates.refused += 1;
            denied()
        };
        let sets = sets.join(", ");
        asked.push((format!("UPDATE {table} SET {sets} WHERE id = {} RETURNING id", old.id), expected));
    }
    check_answers(readers, case, asked).await;
    updates
}

fn sql_value(ty: usize, value: Option<usize>) -> String {
    value.map_or("NULL".to_owned(), |v| format!("'{}'::{}", TYPES[ty].1[v].replace('\'', "''"), TYPES[ty].0))
}

async fn check_answers(readers: &mut Readers, case: &Case<'_>, asked: Vec<(String, Result<Shown, String>)>) {
    let statements: Vec<String> = asked.iter().map(|(statement, _)| statement.clone()).collect();
    let answers = readers.under_rls(case.session, &statements).await;
    for ((statement, expected), answer) in asked.into_iter().zip(answers) {
        assert_eq!(answer, expected, "{statement}\n{}", case.told);
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

/// PostgreSQL refuses to compare two columns of two collations: rules compare texts by their bytes.
#[tokio::test]
async fn texts_of_two_collations_are_compared_by_their_bytes() {
    let tables = "CREATE TABLE t (id int8 PRIMARY KEY, a text COLLATE \"C\", b text COLLATE \"POSIX\", c varchar);
         INSERT INTO t VALUES (1, 'x', 'x', 'x'), (2, 'x', 'y', 'x'), (3, 'y', 'x', 'x'), (4, NULL, 'x', 'x');";
    let mut lab = Lab::create(tables).await;
    let name = testkit::unique_name("f");
    let conditions = ["a = b", "a <> b", "a < b", "a in ('y', b)", "'x' in (a, b)", "b in (a, c)"];
    let expected: [&[i64]; 6] = [&[1], &[2, 3], &[2], &[1, 3], &[1, 2, 3, 4], &[1, 3, 4]];
    for (condition, expected) in conditions.into_iter().zip(expected) {
        let text = format!("policy {name}\nrole r table t {{ shared allow r select where {condition} }}");
        let (_, policy) = lab.check(&text).await;
        lab.apply(&policy).await;
        let session = Session::new(&policy, "r").unwrap();
        let filter = policy.guard("public", "t").unwrap().filter(&session, Command::Select);
        let ids = |rows: Vec<tokio_postgres::Row>| rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>();
        let query = format!("SELECT id FROM t WHERE {} ORDER BY id", filter.sql);
        assert_eq!(ids(lab.root.query(&query, &[]).await.unwrap()), expected, "filter {condition}");
        lab.root.batch_execute(&format!("SET ROLE {name}_r")).await.unwrap();
        let seen = lab.root.query("SELECT id FROM t ORDER BY id", &[]).await;
        lab.root.batch_execute("RESET ROLE").await.unwrap();
        assert_eq!(ids(seen.unwrap()), expected, "{condition}");
    }
}
