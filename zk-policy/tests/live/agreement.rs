//! Values that PostgreSQL compares in ways of its own: what a decision says of a row is what the server shows, or the check
//! refuses the rule.

use std::collections::BTreeMap;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use zk_policy::pg::{self, ApplyConfig, ErrorKind};
use zk_policy::{
    ClaimValue, ColumnType, Command, Consent, Document, ForeignStep, QualifiedName, Related, Row, Scalar,
    Schema, Session, Value, check,
};

use super::Crm;

/// What the server holds, each value as text.
type World = BTreeMap<QualifiedName, Vec<Vec<Option<String>>>>;

/// A row of it. Rows are related when their values have the same text.
struct Known<'a> {
    schema: &'a Schema,
    world: &'a World,
    table: &'a QualifiedName,
    cells: &'a [Option<String>],
}

impl Known<'_> {
    fn cell(&self, column: &str) -> Option<&String> {
        let shape = self.schema.find(&self.table.schema, &self.table.table).unwrap();
        self.cells[shape.position(column).unwrap()].as_ref()
    }
}

impl Row for Known<'_> {
    fn value(&self, place: usize) -> Value<'_> {
        let shape = self.schema.find(&self.table.schema, &self.table.table).unwrap();
        let Some(text) = &self.cells[place] else { return Value::Null };
        match &shape.columns().nth(place).unwrap().ty {
            ColumnType::Scalar(Scalar::Text) => Value::Text(text),
            ColumnType::Scalar(Scalar::Int8) => Value::Int8(text.parse().unwrap()),
            ColumnType::Scalar(Scalar::Bool) => Value::Bool(text == "t"),
            ColumnType::Scalar(Scalar::Timestamptz) => Value::Timestamptz(text.parse().unwrap()),
            ColumnType::Scalar(Scalar::Date) => Value::Date(text.parse().unwrap()),
            ColumnType::Scalar(Scalar::Uuid) => panic!("no case has one"),
            ColumnType::Bytea | ColumnType::Other(_) => Value::Other,
        }
    }

    fn related(&self, step: &ForeignStep, visit: &mut dyn FnMut(&dyn Row) -> bool) -> Related {
        for cells in &self.world[&step.table] {
            let there = Known { table: &step.table, cells, ..*self };
            let same = |(here, other): &(String, String)| {
                self.cell(here).is_some() && self.cell(here) == there.cell(other)
            };
            if step.columns.iter().all(same) && visit(&there) {
                break;
            }
        }
        Related::Shown
    }
}

async fn world(crm: &Crm, schema: &Schema) -> World {
    let root = crm.database.connect().await.unwrap();
    let mut world = World::new();
    for name in ["t", "u"] {
        let Some(shape) = schema.find("public", name) else { continue };
        let column = |column: &zk_policy::Column| {
            let name = &column.name;
            match column.ty {
                ColumnType::Scalar(Scalar::Timestamptz) => format!(
                    "CASE {name} WHEN 'infinity' THEN 9223372036854775807 WHEN '-infinity' THEN -9223372036854775808
                     ELSE (extract(epoch FROM {name}) * 1000000)::int8 END::text"
                ),
                ColumnType::Scalar(Scalar::Date) => format!(
                    "CASE {name} WHEN 'infinity' THEN 2147483647 WHEN '-infinity' THEN -2147483648
                     ELSE {name} - '1970-01-01' END::text"
                ),
                // The text of a char(n) has lost its blanks.
                _ => format!("format('%s', {name})"),
            }
        };
        let guarded = |c: &zk_policy::Column| {
            format!("CASE WHEN {} IS DISTINCT FROM NULL THEN {} END", c.name, column(c))
        };
        let columns: Vec<String> = shape.columns().map(guarded).collect();
        let rows = root.query(&format!("SELECT {} FROM {name}", columns.join(", ")), &[]).await.unwrap();
        let cells = rows.iter().map(|row| (0..row.len()).map(|at| row.get(at)).collect()).collect();
        world.insert(QualifiedName::new("public", name), cells);
    }
    world
}

/// Makes a table `t` with an `id` and perhaps a table `u`. Each of the conditions admits the rows with these ids, by row-level
/// security, by the filter and by decisions; those that are mistaken have a code.
async fn agree(crm: &mut Crm, tables: &str, conditions: &[(&str, &[i64])], mistaken: &[(&str, &str)]) {
    let script = format!("DROP TABLE IF EXISTS t, u CASCADE; {tables}");
    crm.owner.batch_execute(&script).await.unwrap_or_else(|e| panic!("{tables}: {e:?}"));
    let schema = pg::read_schema(&mut crm.owner).await.unwrap();
    let text = |conditions: &[&str]| {
        let (mut roles, mut rules, mut other) = (String::new(), String::new(), String::new());
        for (number, condition) in conditions.iter().enumerate() {
            roles.push_str(&format!("role r{number} "));
            rules.push_str(&format!("allow r{number} select where {condition} "));
            other.push_str(&format!("allow r{number} select "));
        }
        let other =
            schema.find("public", "u").map(|_| format!("table u {{ shared {other} }}")).unwrap_or_default();
        crm.text(&format!(
            "{roles} claim word: text claim none: text claim words: text[] claim empty: int8[]
             table t {{ shared {rules} }} {other}"
        ))
    };
    for (condition, code) in mistaken {
        let mistakes = check(&Document::parse(&text(&[condition])).unwrap(), &schema).unwrap_err();
        let codes: Vec<String> = mistakes.iter().map(|d| d.code.to_string()).collect();
        assert_eq!(codes, [*code], "{tables}\n{condition}");
    }
    if conditions.is_empty() {
        return;
    }
    let text = text(&conditions.iter().map(|(condition, _)| *condition).collect::<Vec<_>>());
    let document = Document::parse(&text).unwrap_or_else(|e| panic!("{}", e.to_lines("policy", &text)));
    let policy = check(&document, &schema).unwrap_or_else(|e| panic!("{}", e.to_lines("policy", &text)));
    let plan = pg::plan(&mut crm.owner, &policy).await.unwrap_or_else(|e| panic!("{text}: {e}: {e:?}"));
    let applied =
        pg::apply(&mut crm.owner, plan.accept(Consent::Widening).unwrap(), &ApplyConfig::default()).await;
    applied.unwrap_or_else(|e| panic!("{text}: {e}: {e:?}"));
    let again = pg::plan(&mut crm.owner, &policy).await.unwrap();
    assert!(again.is_empty(), "{text}: {again}");

    let (world, table) = (world(crm, &schema).await, QualifiedName::new("public", "t"));
    let place = schema.find("public", "t").unwrap().position("id").unwrap();
    let guard = policy.guard("public", "t").unwrap();
    let root = &mut crm.database.connect().await.unwrap();
    let ids = |rows: Vec<tokio_postgres::Row>| rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>();
    for (number, (condition, expected)) in conditions.iter().enumerate() {
        let words = ["a", "NULL", "", "Ä \"\\{},'"];
        let session = Session::new(&policy, &format!("r{number}")).unwrap().claim("word", "a").unwrap();
        let session = session.claim("words", words.as_slice()).unwrap();
        let session = session.claim("empty", ClaimValue::Many(Vec::new())).unwrap();
        session.enter(root).await.unwrap();
        let transaction = session.begin(root).await.unwrap();
        let shown = transaction.query("SELECT id FROM t ORDER BY id", &[]).await;
        transaction.rollback().await.unwrap();
        root.batch_execute("RESET ROLE").await.unwrap();
        let shown = ids(shown.unwrap_or_else(|e| panic!("{condition}: {e:?}")));

        let filter = guard.filter(&session, Command::Select);
        let parameters: Vec<&(dyn ToSql + Sync)> = filter.parameters.iter().map(|p| p as _).collect();
        let query = format!("SELECT id FROM t WHERE {} ORDER BY id", filter.sql);
        let filtered = root.query(&query, &parameters).await.unwrap_or_else(|e| panic!("{query}: {e:?}"));

        let rows =
            world[&table].iter().map(|cells| Known { schema: &schema, world: &world, table: &table, cells });
        let admitted = rows.filter(|row| guard.decide(&session, Command::Select, row).is_admitted());
        let mut decided: Vec<i64> =
            admitted.map(|row| row.cells[place].as_ref().unwrap().parse().unwrap()).collect();
        decided.sort_unstable();
        let expected = expected.to_vec();
        assert_eq!(
            (shown, ids(filtered), decided),
            (expected.clone(), expected.clone(), expected),
            "{condition}"
        );
    }
}

/// Foreign keys between texts of two collations, in both directions: PostgreSQL does not choose between two, and the key
/// itself compares bytes under either.
#[tokio::test]
async fn keys_between_collations_lead_where_they_lead() {
    const FORWARD: &str = "
        CREATE TABLE u (k text COLLATE \"C\" PRIMARY KEY, ok bool);
        CREATE TABLE t (id int8, k text COLLATE \"POSIX\" REFERENCES u);
        INSERT INTO u VALUES ('a', true), ('B', false), ('é', true);
        INSERT INTO t VALUES (1, 'a'), (2, 'B'), (3, 'é'), (4, NULL)";
    const BACKWARD: &str = "
        CREATE TABLE t (id int8, k varchar COLLATE \"und-x-icu\" PRIMARY KEY);
        CREATE TABLE u (k text REFERENCES t, ok bool);
        INSERT INTO t VALUES (1, 'a'), (2, 'B'), (3, 'é');
        INSERT INTO u VALUES ('a', false), ('a', true), ('B', false), (NULL, true)";
    const PAIR: &str = "
        CREATE TABLE u (a text COLLATE \"C\", b int8, ok bool, PRIMARY KEY (a, b));
        CREATE TABLE t (id int8, a text COLLATE \"und-x-icu\", b int8, FOREIGN KEY (a, b) REFERENCES u);
        INSERT INTO u VALUES ('a', 1, true), ('a', 2, false);
        INSERT INTO t VALUES (1, 'a', 1), (2, 'a', 2), (3, NULL, 1), (4, 'a', NULL)";
    let crm = &mut Crm::create().await;
    let (one, none) = ("exists u via k where ok", "not (exists u via k where ok)");
    agree(crm, FORWARD, &[(one, &[1, 3]), (none, &[2, 4])], &[]).await;
    agree(crm, BACKWARD, &[(one, &[1]), (none, &[2, 3])], &[]).await;
    let (one, none) = ("exists u via (a, b) where ok", "not (exists u via (a, b) where ok)");
    agree(crm, PAIR, &[(one, &[1]), (none, &[2, 3, 4])], &[]).await;
}

/// Where values are equal that differ in bytes, a rule is refused: a decision would not agree with the server.
#[tokio::test]
async fn values_that_are_equal_and_differ_are_not_compared() {
    const BLIND: &str = "
        DROP COLLATION IF EXISTS blind;
        CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE u (k text COLLATE blind PRIMARY KEY, ok bool);
        CREATE TABLE t (id int8, k text COLLATE blind REFERENCES u);
        INSERT INTO u VALUES ('a', true); INSERT INTO t VALUES (1, 'A'), (2, 'a'), (3, NULL)";
    const FOLDED: &str = "
        CREATE TABLE u (k citext PRIMARY KEY, ok bool);
        CREATE TABLE t (id int8, k citext REFERENCES u);
        INSERT INTO u VALUES ('a', true); INSERT INTO t VALUES (1, 'A'), (2, 'a'), (3, NULL)";
    const PADDED: &str = "
        CREATE TABLE u (k char(3) PRIMARY KEY, ok bool);
        CREATE TABLE t (id int8, k char(3) REFERENCES u, long char(5) REFERENCES u (k), word text REFERENCES u (k));
        INSERT INTO u VALUES ('a', true), ('b', false);
        INSERT INTO t VALUES (1, 'a', 'a', 'a  '), (2, 'b ', 'b', 'b'), (3, NULL, NULL, NULL)";
    const LISTS: &str = "
        CREATE TABLE u (k int8[] PRIMARY KEY, ok bool); CREATE TABLE t (id int8, k int8[] REFERENCES u)";
    let crm = &mut Crm::create().await;
    crm.database.execute("CREATE EXTENSION citext").await.unwrap();
    let mistaken = [
        ("k = 'a'", "E303"),
        ("k in claim.words", "E303"),
        ("claim.word in ('x', k)", "E303"),
        ("exists u via k where ok", "E412"),
    ];
    agree(crm, BLIND, &[("k is null", &[3])], &mistaken).await;
    agree(crm, FOLDED, &[], &[mistaken[0], mistaken[3]]).await;
    agree(crm, LISTS, &[], &[mistaken[3]]).await;
    let others =
        [mistaken[0], ("exists u via long where ok", "E412"), ("exists u via word where ok", "E412")];
    agree(crm, PADDED, &[("exists u via k where ok", &[1])], &others).await;

    let text = "policy p  role r  claim word: text  table t { tenant k = claim.word  allow r select }";
    crm.owner
        .batch_execute("DROP TABLE t, u; CREATE COLLATION IF NOT EXISTS blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
                  CREATE TABLE t (id int8, k text COLLATE blind NOT NULL)")
        .await
        .unwrap();
    let schema = pg::read_schema(&mut crm.owner).await.unwrap();
    let mistakes = check(&Document::parse(text).unwrap(), &schema).unwrap_err();
    assert_eq!(mistakes.iter().map(|d| d.code.to_string()).collect::<Vec<_>>(), ["E303"], "{mistakes}");
}

/// The ends of each type, and texts that SQL could take for something else.
#[tokio::test]
async fn extreme_values_agree() {
    const TIMES: &str = "
        CREATE TABLE t (id int8, at timestamptz, day date);
        INSERT INTO t VALUES (1, 'infinity', 'infinity'), (2, '-infinity', '-infinity'), (3, '9999-12-31 23:59:59Z', '9999-12-31'),
          (4, '0044-03-15 12:00:00Z BC', '0044-03-15 BC'), (5, '2026-01-31 09:30:00.000001Z', '2026-01-31'), (6, NULL, NULL)";
    const NUMBERS: &str = "
        CREATE TABLE t (id int8, n int8, small int2);
        INSERT INTO t VALUES (1, 9223372036854775807, 32767), (2, -9223372036854775808, -32768), (3, 0, 0), (4, NULL, NULL)";
    const TEXTS: &str = r#"
        CREATE TABLE t (id int8, a text, b varchar(9));
        INSERT INTO t VALUES (1, '', ''), (2, 'a', 'a'), (3, 'a ', 'a '), (4, 'A', 'B'), (5, 'Ä "\{},''', NULL), (6, NULL, 'NULL'),
          (7, E'e\u0301', 'é'), (8, E'\uFFFF', E'\U0001F600')"#;
    const PAIRS: &str = "
        DROP TYPE IF EXISTS pair CASCADE; CREATE TYPE pair AS (a int8, b text);
        CREATE TABLE t (id int8, p pair, list int8[], amount numeric, gone timestamp);
        INSERT INTO t VALUES (1, NULL, NULL, NULL, NULL), (2, (NULL, NULL), '{NULL}', 'NaN', 'infinity'),
          (3, (1, NULL), '{}', 0, '2026-01-01'), (4, (1, 'x'), '{1}', 1, '2026-01-01')";
    let crm = &mut Crm::create().await;
    let conditions: &[(&str, &[i64])] = &[
        ("at > '9999-12-31T23:59:59Z'", &[1]),
        ("at < '0001-01-01T00:00:00Z'", &[2, 4]),
        ("at <> at or day <> day", &[]),
        ("at = at and not at > '2026-01-31T09:30:00Z'", &[2, 4]),
        ("day >= '9999-12-31' or day < '0001-01-01'", &[1, 2, 3, 4]),
    ];
    agree(crm, TIMES, conditions, &[]).await;
    let conditions: &[(&str, &[i64])] = &[
        ("n = 9223372036854775807 or n = -9223372036854775808", &[1, 2]),
        ("small < n", &[1]),
        ("small in (32767, 9223372036854775807)", &[1]),
        ("not n > -9223372036854775808", &[2]),
        ("n in claim.empty", &[]),
        ("n not in claim.empty", &[1, 2, 3, 4]),
    ];
    agree(crm, NUMBERS, conditions, &[]).await;
    let conditions: &[(&str, &[i64])] = &[
        ("a = '' or b = 'NULL'", &[1, 6]),
        ("a = 'a'", &[2]),
        ("a = b", &[1, 2, 3]),
        ("a < 'a'", &[1, 4]),
        ("a > 'z'", &[5, 8]),
        ("a < b", &[4, 7, 8]),
        ("a in claim.words", &[1, 2, 5]),
        ("b in claim.words", &[1, 2, 6]),
        ("b in (claim.word)", &[2]),
        ("not a in (claim.none)", &[]),
        ("not a in claim.words", &[3, 4, 7, 8]),
        ("a = claim.none or a not in (claim.none, 'a')", &[]),
        ("claim.none is null and claim.word = a", &[2]),
        (r#"a = 'Ä "\{},'''"#, &[5]),
    ];
    agree(crm, TEXTS, conditions, &[]).await;
    let conditions: &[(&str, &[i64])] = &[
        ("p is null", &[1]),
        ("p is not null", &[2, 3, 4]),
        ("list is null or amount is null or gone is null", &[1]),
    ];
    agree(crm, PAIRS, conditions, &[]).await;
}

/// A schema that somebody wrote may promise a column that the table asked does not have. The column of that name outside is
/// not taken for it.
#[tokio::test]
async fn a_column_that_a_table_lacks_is_not_looked_for_outside() {
    let mut crm = Crm::create().await;
    let tables =
        "CREATE TABLE u (id int8 PRIMARY KEY); CREATE TABLE t (id int8, up int8 REFERENCES u, ok bool)";
    crm.owner.batch_execute(tables).await.unwrap();
    let schema = pg::read_schema(&mut crm.owner).await.unwrap();
    let mut json = serde_json::to_value(&schema).unwrap();
    json["public"]["u"]["columns"]
        .as_array_mut()
        .unwrap()
        .push(serde_json::json!({ "name": "ok", "type": { "scalar": "bool" } }));
    let schema: Schema = serde_json::from_value(json).unwrap();
    let text = crm.text(
        "role r  table t { shared  allow r select where exists u via up where ok }  table u { shared  allow r select  columns r select only id, ok }",
    );
    let policy = check(&Document::parse(&text).unwrap(), &schema).unwrap();
    let error = pg::plan(&mut crm.owner, &policy).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Database, "{error}");
    let session = Session::new(&policy, "r").unwrap();
    let filter = policy.guard("public", "t").unwrap().filter(&session, Command::Select);
    let error = crm.owner.query(&format!("SELECT id FROM t WHERE {}", filter.sql), &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::UNDEFINED_COLUMN), "{}", filter.sql);
}
