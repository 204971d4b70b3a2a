//! Diagnostics: what is wrong is reported where it is wrong, every code has a case, and no bytes give more than that.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

#[path = "shared/corpus.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod corpus;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use zk_policy::{
    Code, Collation, Column, ColumnType, Diagnostics, Document, Expr, ForeignKey, MaskKind, Plan, Policy,
    Scalar, Schema, Term, check,
};

fn mistakes() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn compile(source: &str) -> Result<Policy, Diagnostics> {
    check(&Document::parse(source)?, &corpus::schema())
}

/// The mistakes of a policy, or its warnings.
fn diagnostics_of(source: &str) -> Diagnostics {
    compile(source).map_or_else(|mistakes| mistakes, |policy| policy.warnings().clone())
}

/// Each line of a file in `mistakes` ends with `#~` and the codes of the mistakes on it, or of the warnings
/// if there is no mistake in the file: these and no others.
#[test]
fn diagnostics_stand_where_the_mistakes_are() {
    for file in mistakes() {
        let source = fs::read_to_string(&file).unwrap();
        let mut expected: Vec<(usize, String)> = Vec::new();
        for (index, line) in source.lines().enumerate() {
            for code in line.split_once("#~").map_or("", |(_, codes)| codes).split_whitespace() {
                expected.push((index + 1, code.to_owned()));
            }
        }
        let mistakes = diagnostics_of(&source);
        let mut found: Vec<(usize, String)> = mistakes
            .iter()
            .map(|d| (source[..d.span.range().start].matches('\n').count() + 1, d.code.to_string()))
            .collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{}\n{}", file.display(), mistakes.to_lines("policy", &source));
    }
}

#[cfg(feature = "render")]
#[test]
fn a_mistake_is_drawn_over_the_source() {
    let source = "policy crm\nrole agent\nclaim tenant: uuid\ntable customers {\n  tenant tenant_id = claim.tenent\n  \
                  allow agent select\n}\n";
    let drawn = compile(source).unwrap_err().render("crm.policy", source, zk_policy::Colour::Never);
    insta::assert_snapshot!(drawn);
}

/// What no file in `mistakes` can show: limits, JSON, and what depends on the schema.
fn elsewhere() -> [(Code, Diagnostics); 5] {
    let deep = format!("policy p table t {{ allow r select where {} a", "(".repeat(100));
    let json = Document::from_json(b"[]").unwrap_err();
    let many = compare_many(3).unwrap().warnings().clone();
    let slow = of_tenants(Some(false));
    [
        (Code::Limit, Document::parse(&deep).unwrap_err()),
        (Code::Json, json),
        (Code::NotCompared, many),
        (Code::TenantUnindexed, slow),
        (Code::KeyComparison, along_key(|_| (), |key| key.compared_otherwise = true).unwrap_err()),
    ]
}

/// A policy with an `exists` along a key between two texts.
fn along_key(
    columns: impl Fn(&mut [Column; 2]),
    key: impl Fn(&mut ForeignKey),
) -> Result<Policy, Diagnostics> {
    let text = |name: &str| Column::new(name, ColumnType::Scalar(Scalar::Text));
    let mut pair = [text("here"), text("there")];
    columns(&mut pair);
    let mut referring = ForeignKey {
        columns: vec!["here".to_owned()],
        schema: "public".to_owned(),
        table: "b".to_owned(),
        referenced: vec!["there".to_owned()],
        compared_otherwise: false,
    };
    key(&mut referring);
    let [here, there] = pair;
    let schema = Schema::default()
        .table("public", "a", [here])
        .table("public", "b", [there])
        .foreign_key("public", "a", referring);
    let text = "policy p role r
        table a { shared allow r select where exists b via here }
        table b { shared allow r select }";
    check(&Document::parse(text)?, &schema)
}

/// PostgreSQL does not choose between two collations; under any that is deterministic, texts are equal when their bytes are.
#[test]
fn a_key_between_two_collations_is_compared_under_one() {
    let sql = |columns: &dyn Fn(&mut [Column; 2])| {
        let sql = Plan::fresh(&along_key(columns, |_| ()).unwrap()).to_sql();
        let (_, rest) = sql.split_once("SELECT zk_asked.\"there\"").unwrap();
        rest.split_once(" FROM").unwrap().0.to_owned()
    };
    let (c, german) = (Collation::new("pg_catalog", "C"), Collation::new("my", "de"));
    assert_eq!(sql(&|_| ()), "");
    assert_eq!(sql(&|columns| columns.iter_mut().for_each(|column| column.collation = Some(c.clone()))), "");
    let two = |[here, there]: &mut [Column; 2]| {
        (here.collation, there.collation) = (Some(german.clone()), Some(c.clone()));
    };
    assert_eq!(sql(&two), " COLLATE \"my\".\"de\"");
    assert_eq!(sql(&|[_, there]| there.collation = Some(c.clone())), " COLLATE \"pg_catalog\".\"default\"");
    let blind = c.clone().nondeterministic();
    let mistaken = along_key(|[_, there]| there.collation = Some(blind.clone()), |_| ());
    assert_eq!(codes(&mistaken), BTreeSet::from([Code::KeyComparison]));
}

/// A document that a program built is held to what a text or JSON could say.
#[test]
fn documents_that_no_text_says_are_refused() {
    let built = |change: &dyn Fn(&mut Document)| {
        let text = "policy p role r role s table t0 { shared allow r select where n = 1 allow s select mask n for s as 0 }";
        let mut document = Document::parse(text).unwrap();
        change(&mut document);
        codes(&check(&document, &ring(1)))
    };
    assert_eq!(built(&|_| ()), BTreeSet::new());
    let nul = |document: &mut Document| document.roles[1].name = "r\0".into();
    assert!(built(&nul).contains(&Code::Lexical), "PostgreSQL would take it for the role `r`");
    for empty in [Expr::And(Vec::new()), Expr::Or(Vec::new())] {
        let of_nothing =
            |document: &mut Document| document.tables[0].rules[0].condition = Some(empty.clone());
        assert_eq!(built(&of_nothing), BTreeSet::from([Code::Syntax]));
    }
    let in_nothing = |document: &mut Document| {
        let (term, list) = (Term::Column("n".into()), Vec::new());
        document.tables[0].rules[0].condition = Some(Expr::InList { term, list });
    };
    assert_eq!(built(&in_nothing), BTreeSet::from([Code::Syntax]));
    let label = |document: &mut Document| {
        document.tables[0].masks[0].kind = MaskKind::Hash { label: Some("a\0".to_owned()) };
    };
    assert_eq!(built(&label), BTreeSet::from([Code::BadLiteral]));
}

/// The warnings about a table of tenants, by what is known of its index.
fn of_tenants(indexed: Option<bool>) -> Diagnostics {
    let mut column = Column::new("tenant", ColumnType::Scalar(Scalar::Uuid)).not_null();
    column.indexed = indexed;
    let text = "policy p role r claim t: uuid table a { tenant tenant = claim.t allow r select }";
    let schema = Schema::default().table("public", "a", [column]);
    check(&Document::parse(text).unwrap(), &schema).unwrap().warnings().clone()
}

#[test]
fn a_tenant_column_without_an_index_is_told_where_that_is_known() {
    assert!(of_tenants(None).is_empty() && of_tenants(Some(true)).is_empty());
    let told: Vec<String> = of_tenants(Some(false)).iter().map(|d| d.message.clone()).collect();
    assert_eq!(told, ["no index leads with `tenant`: each statement reads the rows of all tenants"]);
}

/// Tables `t0`, `t1` and so on, each with a foreign key to the next and one from `back` to the one before.
fn ring(tables: usize) -> Schema {
    let number = |name: &str| Column::new(name, ColumnType::Scalar(Scalar::Int8));
    (0..tables).fold(Schema::default(), |schema, at| {
        let key = |column: &str, to: usize| ForeignKey {
            columns: vec![column.to_owned()],
            schema: "public".to_owned(),
            table: format!("t{}", to % tables),
            referenced: vec!["id".to_owned()],
            compared_otherwise: false,
        };
        let name = format!("t{at}");
        schema
            .table("public", &name, ["id", "next", "back", "n"].map(number))
            .foreign_key("public", &name, key("next", at + 1))
            .foreign_key("public", &name, key("back", at + tables - 1))
    })
}

fn in_ring(tables: usize, text: &str) -> Result<Policy, Diagnostics> {
    check(&Document::parse(text)?, &ring(tables))
}

/// Tables with many rules each, all for one role.
fn compare_many(tables: usize) -> Result<Policy, Diagnostics> {
    let mut text = "policy p role r ".to_owned();
    for table in 0..tables {
        let rule = |n| format!("allow r select, insert, update, delete where n = {n} and id > {n} ");
        text.push_str(&format!("table t{table} {{ shared {} }} ", (0..500).map(rule).collect::<String>()));
    }
    in_ring(tables, &text)
}

fn codes(found: &Result<Policy, Diagnostics>) -> BTreeSet<Code> {
    found.as_ref().err().into_iter().flat_map(Diagnostics::iter).map(|d| d.code).collect()
}

/// Rules that are not compared say so once, and from where on.
#[test]
fn rules_that_are_too_many_to_compare_are_said() {
    let policy = compare_many(3).unwrap();
    let told: Vec<&str> = policy.warnings().iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(told, ["from `public.t1` on, rules are too many to be compared with each other"]);
}

/// A circle is one of rules that some role has together, those that it includes among them.
#[test]
fn circles_are_those_of_one_role() {
    let policy = |roles: &str, one: &str, other: &str| {
        in_ring(
            2,
            &format!(
                "policy p {roles}
             table t0 {{ shared  allow r select  allow s select  {one} }}
             table t1 {{ shared  allow r select  allow s select  {other} }}"
            ),
        )
    };
    let asks_t1 = |who: &str| format!("deny {who} where exists t1 via next");
    let asks_t0 = |who: &str| format!("deny {who} where exists t0 via next");
    let two = "role r role s";
    let circle = BTreeSet::from([Code::ExistsCycle]);
    assert_eq!(codes(&policy(two, &asks_t1("r select"), &asks_t0("r select"))), circle);
    assert_eq!(codes(&policy(two, &asks_t1("r select"), &asks_t0("s select"))), BTreeSet::new());
    let both = "role r role s role both includes r, s";
    assert_eq!(codes(&policy(both, &asks_t1("r select"), &asks_t0("s select"))), circle);
    // Writing asks the other table, and reading that asks this one again; two that only write do not meet.
    let insert = "allow r insert where exists t1 via next";
    assert_eq!(codes(&policy(two, insert, &asks_t0("r select"))), circle);
    assert_eq!(codes(&policy(two, insert, &asks_t0("s select"))), BTreeSet::new());
    assert_eq!(codes(&policy(two, insert, "allow r insert where exists t0 via next")), BTreeSet::new());
    // Beside an `allow` for all rows, another one asks nothing.
    assert_eq!(
        codes(&policy(two, &asks_t1("r select"), "allow r select where exists t0 via next")),
        BTreeSet::new()
    );
}

/// What inclusion, or rules that ask tables whose rules ask others, make of a short text is bounded.
#[test]
fn short_texts_that_come_to_much_are_refused() {
    let limit = BTreeSet::from([Code::Limit]);
    let chain =
        |roles: usize| (1..roles).map(|n| format!("role r{n} includes r{} ", n - 1)).collect::<String>();
    let rules: String = (0..1000).map(|n| format!("allow r0 select, update where n = {n} ")).collect();
    let of = |roles| format!("policy p role r0 {}table t0 {{ shared {rules} }}", chain(roles));
    assert_eq!(codes(&in_ring(1, &of(200))), BTreeSet::new());
    assert_eq!(codes(&in_ring(1, &of(300))), limit, "conditions of all roles");
    // Each role brings all columns of every table, to itself and to all after it.
    let own: String = (0..400).map(|n| format!("allow r{n} select ")).collect();
    let wide = |tables: usize| {
        let columns = (0..10).map(|n| Column::new(format!("c{n}"), ColumnType::Scalar(Scalar::Int8)));
        let names = || (0..tables).map(|n| format!("w{n}"));
        let schema = names().fold(Schema::default(), |s, name| s.table("public", &name, columns.clone()));
        let blocks: String = names().map(|name| format!("table {name} {{ shared {own} }} ")).collect();
        check(&Document::parse(&format!("policy p role r0 {}{blocks}", chain(400)))?, &schema)
    };
    assert_eq!(codes(&wide(2)), BTreeSet::new());
    assert_eq!(codes(&wide(3)), limit, "columns of all roles");
    assert_eq!(codes(&in_ring(1, &format!("policy p role r0 {}", chain(501)))), limit, "roles");
    let more = format!("policy p role r0 table t0 {{ shared {rules} allow r0 delete }}");
    assert_eq!(codes(&in_ring(1, &more)), limit, "rules of a table");

    let asking = |tables: usize, rule: &dyn Fn(usize) -> String| {
        let block = |n| {
            let condition = if n + 1 == tables { String::new() } else { format!(" where {}", rule(n + 1)) };
            format!("table t{n} {{ shared allow r select{condition} }} ")
        };
        in_ring(tables, &format!("policy p role r {}", (0..tables).map(block).collect::<String>()))
    };
    let once = |to: usize| format!("exists t{to} via next");
    let twice = |to: usize| format!("(exists t{to} via next) or not (exists t{to} via next)");
    assert_eq!(codes(&asking(100, &once)), BTreeSet::new());
    assert_eq!(codes(&asking(200, &once)), limit, "deep");
    let by_roles = |roles: usize| {
        let block = |n: usize| {
            let condition =
                if n == 99 { String::new() } else { format!(" where exists t{} via next", n + 1) };
            format!("table t{n} {{ shared allow r0 select{condition} }} ")
        };
        let blocks: String = (0..100).map(block).collect();
        in_ring(100, &format!("policy p role r0 {}{blocks}", chain(roles)))
    };
    assert_eq!(codes(&by_roles(100)), BTreeSet::new());
    assert_eq!(codes(&by_roles(102)), limit, "asked by all roles");
    assert_eq!(codes(&asking(12, &twice)), BTreeSet::new());
    assert_eq!(codes(&asking(40, &twice)), limit, "doubled by each table");
}

#[test]
fn diagnostics_have_a_case_for_every_code() {
    let mut shown: BTreeSet<Code> = BTreeSet::new();
    for file in mistakes() {
        shown.extend(diagnostics_of(&fs::read_to_string(file).unwrap()).iter().map(|d| d.code));
    }
    for (code, diagnostics) in elsewhere() {
        assert!(diagnostics.iter().any(|d| d.code == code), "{code}: {diagnostics}");
        shown.insert(code);
    }
    let missing: Vec<&Code> = Code::ALL.iter().filter(|code| !shown.contains(code)).collect();
    assert!(missing.is_empty(), "no case shows {missing:?}");
}

/// What is wrong says what to do. Not for E102, whose message says what could stand there.
#[test]
fn diagnostics_have_help() {
    let of_files = mistakes().into_iter().map(|file| diagnostics_of(&fs::read_to_string(file).unwrap()));
    let elsewhere = elsewhere().into_iter().map(|(_, found)| found);
    let limits =
        ["policy p ~ claim k: int8 table t { shared allow r select where 1 = 99999999999999999999 }"];
    let limits = limits.into_iter().map(|text| Document::parse(text).unwrap_err());
    for found in of_files.chain(elsewhere).chain(limits) {
        for d in found.iter().filter(|d| d.code != Code::Syntax) {
            assert!(!d.help.is_empty(), "{}: {}", d.code, d.message);
        }
    }
}

/// However long a line is and however many mistakes it has, what is drawn is near each, under its true place.
#[cfg(feature = "render")]
#[test]
fn what_is_far_from_a_mistake_is_not_drawn() {
    let text =
        format!("policy p role r table customers {{ shared\n {} }}", "allow rß select ".repeat(50_000));
    let drawn = compile(&text).unwrap_err().render("p", &text, zk_policy::Colour::Never);
    let far = format!(" --> p:2:{}\n", 9 + 16 * 199);
    let last = drawn.find(&far).unwrap_or_else(|| panic!("{drawn}"));
    assert!(drawn.contains(" --> p:2:9\n") && drawn[last..].contains("2 |"), "{}", &drawn[last..]);
    assert!(drawn.len() < 200 * 2000, "{}", drawn.len());
}

/// A key that has just the named columns is meant, and not a longer one that has them too.
#[test]
fn the_key_with_just_these_columns_is_meant() {
    let number = |name: &str| Column::new(name, ColumnType::Scalar(Scalar::Int8)).not_null();
    let key = |columns: &[&str], referenced: &[&str]| ForeignKey {
        columns: columns.iter().map(|c| (*c).to_owned()).collect(),
        schema: "public".to_owned(),
        table: "a".to_owned(),
        referenced: referenced.iter().map(|c| (*c).to_owned()).collect(),
        compared_otherwise: false,
    };
    let checked = |keys: &[ForeignKey], via: &str| {
        let tables = Schema::default().table("public", "a", ["id", "tn"].map(number)).table(
            "public",
            "b",
            ["id", "tn", "c"].map(number),
        );
        let schema = keys.iter().cloned().fold(tables, |schema, key| schema.foreign_key("public", "b", key));
        let text = format!(
            "policy p role r table a {{ shared allow r select }}
             table b {{ shared allow r select where exists a via {via} }}"
        );
        let policy = check(&Document::parse(&text).unwrap(), &schema)?;
        Ok::<_, Diagnostics>(
            policy.access_matrix().rows().last().unwrap().cells[0].commands[0].condition.clone(),
        )
    };
    let (short, long) = (key(&["c"], &["id"]), key(&["tn", "c"], &["tn", "id"]));
    let both = [short.clone(), long.clone()];
    let meant = |found: Result<Option<std::sync::Arc<str>>, Diagnostics>| found.unwrap().unwrap().to_string();
    assert_eq!(meant(checked(&both, "c")), "exists public.a via c");
    assert_eq!(meant(checked(&both, "(c, tn)")), "exists public.a via (tn, c)");
    assert_eq!(meant(checked(&[long], "c")), "exists public.a via (tn, c)");
    for (keys, via) in [(&[short.clone(), short][..], "c"), (&[key(&["c"], &["id", "tn"])], "c")] {
        let mistakes = checked(keys, via).unwrap_err();
        assert_eq!(mistakes.iter().map(|d| d.code).collect::<Vec<_>>(), [Code::NoForeignKey]);
    }
}

#[test]
fn diagnostics_are_listed_in_the_manual() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/policy-language.md");
    let manual = fs::read_to_string(manual).unwrap();
    for code in Code::ALL {
        let row = format!("| {code} | {} |", code.title());
        assert!(manual.contains(&row), "docs/src/policy-language.md lacks the row {row}");
    }
}

#[test]
fn diagnostics_have_numbers_that_ascend() {
    assert!(Code::ALL.is_sorted_by(|a, b| a.number() < b.number()));
}

#[test]
fn a_policy_that_means_what_it_says_has_no_warnings() {
    for name in ["masks", "personas"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/corpus/{name}.policy"));
        let source = fs::read_to_string(&file).unwrap();
        let warnings = diagnostics_of(&source);
        assert!(warnings.is_empty(), "{}\n{}", file.display(), warnings.to_lines(name, &source));
    }
}

#[test]
fn deep_nesting_is_refused() {
    for open in ["(", "not ", "not ("] {
        let source = format!("policy p table t {{ allow r select where {} a", open.repeat(100_000));
        let codes: BTreeSet<String> =
            Document::parse(&source).unwrap_err().iter().map(|d| d.code.to_string()).collect();
        assert!(codes.contains("E104"), "{codes:?}");
    }
}

/// Texts that are long in the worst ways are refused or checked in the time of a long text, and not in its square.
#[test]
fn mistakes_in_great_number_are_cut_short() {
    let many = |f: &dyn Fn(usize) -> String| (0..20_000).map(f).collect::<String>();
    let texts = [
        format!("policy p {}", many(&|n| format!("role r{n} includes q{n} "))),
        format!(
            "policy p role r table customers {{ shared {} }}",
            many(&|n| format!("allow x{n} select where y{n} = 1 "))
        ),
        format!("policy p {}", "~".repeat(1_000_000)),
        format!("policy p role {} includes {}", "a".repeat(500_000), "b".repeat(500_000)),
    ];
    for text in texts {
        let mistakes = compile(&text).unwrap_err();
        assert!((1..=200).contains(&mistakes.len()), "{}", mistakes.len());
    }
}

/// What is long or deep in JSON is refused as it is in text; what no text says is refused at all.
#[test]
fn json_has_the_bounds_of_the_text() {
    let rule = |condition: &str| {
        format!(
            r#"{{ "name": "p", "tables": [{{ "name": {{ "schema": "public", "table": "t" }}, "tenancy": "shared",
                "rules": [{{ "effect": "allow", "role": "r", "commands": ["select"], "where": {condition} }}] }}] }}"#
        )
    };
    let term = r#"{ "term": { "bool": true } }"#;
    let nested = |depth: usize| format!("{}{term}{}", r#"{ "not": "#.repeat(depth), "}".repeat(depth));
    let code = |json: &str| Document::from_json(json.as_bytes()).map_err(|d| d.iter().next().unwrap().code);
    assert!(code(&rule(&nested(60))).is_ok());
    assert_eq!(code(&rule(&nested(80))), Err(Code::Limit));
    assert_eq!(code(&rule(&nested(100_000))), Err(Code::Json));
    assert_eq!(code(&" ".repeat(5 << 20)), Err(Code::Limit));
    assert_eq!(code(&rule(r#"{ "and": [] }"#)), Err(Code::Syntax));
    assert_eq!(code(&rule(&format!(r#"{{ "or": [{term}] }}"#))), Err(Code::Json));
    for name in ["a\\nrole b", "a\\u0000"] {
        assert_eq!(code(&format!(r#"{{ "name": "{name}" }}"#)), Err(Code::Lexical), "{name}");
    }
}

/// Bytes that are near enough to a policy to get far: pieces of a good one, in another order, with others between.
fn bytes(of: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => proptest::sample::select(of).prop_map(|word| word.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..100).prop_map(|pieces| pieces.join(&b' '))
}

/// At most as many as somebody reads, each with a place within the text.
fn check_bounds(diagnostics: &Diagnostics, length: usize) -> Result<(), TestCaseError> {
    prop_assert!((1..=200).contains(&diagnostics.len()));
    for d in diagnostics.iter() {
        prop_assert!(d.span.range().end <= length && !d.message.is_empty());
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_as_text_give_a_document_or_diagnostics(bytes in bytes(WORDS)) {
        let text = String::from_utf8_lossy(&bytes);
        match Document::parse(&text) {
            Ok(document) => {
                prop_assert_eq!(Document::parse(&document.to_string()).unwrap(), document.clone());
                if let Err(mistakes) = check(&document, &corpus::schema()) {
                    check_bounds(&mistakes, text.len())?;
                }
            }
            Err(mistakes) => check_bounds(&mistakes, text.len())?,
        }
    }

    #[test]
    fn any_bytes_as_json_give_a_document_or_diagnostics(bytes in bytes(JSON)) {
        match Document::from_json(&bytes) {
            Ok(document) => prop_assert_eq!(Document::parse(&document.to_string()).unwrap(), document),
            Err(mistakes) => check_bounds(&mistakes, 0)?,
        }
    }

    /// JSON of the right form with names and texts of any characters, and any nesting.
    #[test]
    fn any_document_as_json_has_a_text_or_diagnostics(
        name in any::<String>(), value in any::<String>(), depth in 0..100_usize, form in 0..4_usize,
    ) {
        let mut condition = serde_json::json!({ "term": { "text": value } });
        for _ in 0..depth {
            condition = match form {
                0 => serde_json::json!({ "not": condition }),
                1 => serde_json::json!({ "and": [condition, { "is_null": { "column": name } }] }),
                2 => serde_json::json!({ "or": [condition] }),
                _ => serde_json::json!({ "exists": { "table": { "schema": "s", "table": name }, "via": ["c"], "where": condition } }),
            };
        }
        let json = serde_json::json!({
            "name": name,
            "tables": [{
                "name": { "schema": "public", "table": "customers" }, "tenancy": "shared",
                "rules": [{ "effect": "allow", "role": name, "commands": ["select"], "where": condition }],
            }],
        });
        match Document::from_json(json.to_string().as_bytes()) {
            Ok(document) => {
                prop_assert_eq!(Document::parse(&document.to_string()).unwrap(), document.clone());
                check_bounds(&check(&document, &corpus::schema()).unwrap_err(), 0)?;
            }
            Err(mistakes) => check_bounds(&mistakes, 0)?,
        }
    }
}

const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"name\"",
    "\"roles\"",
    "\"tables\"",
    "\"p\"",
    "null",
    "true",
    "1",
    "\"tenancy\"",
    "\"shared\"",
    "{ \"name\": \"p\" }",
    "{ \"name\": \"p\", \"roles\": [",
    "{ \"name\": \"a\" }",
];

const WORDS: &[&str] = &[
    "policy",
    "role",
    "includes",
    "claim",
    "table",
    "tenant",
    "shared",
    "critical",
    "allow",
    "deny",
    "columns",
    "where",
    "select",
    "insert",
    "update",
    "delete",
    "only",
    "all",
    "except",
    "and",
    "or",
    "not",
    "in",
    "is",
    "null",
    "true",
    "a",
    "b",
    "\"q\"",
    "'t'",
    "7",
    "-3",
    "claim.a",
    "uuid",
    "text[]",
    "{",
    "}",
    "(",
    ")",
    "=",
    "<>",
    "<=",
    ",",
    ".",
    ":",
    "policy p",
    "role a",
    "claim a: uuid",
    "table t { shared",
    "allow a select where a = 1",
    "table customers { tenant tenant_id = claim.tenant",
    "table invoices { tenant tenant_id = claim.tenant allow a select }",
    "claim tenant: uuid",
    "allow a select",
    "deny a update where region in ('north') or score > 3",
    "allow a insert, update where exists customers via customer_id where legal_hold",
    "columns a select all except ssn",
    "mask email for a as hash('e')",
    "critical ssn",
    "}",
];
