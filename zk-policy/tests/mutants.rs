//! Removing any one clause that was generated is noticed: for every policy of the corpus, each statement of its SQL is
//! weakened in every way that its clauses allow, on a live database. A plan must see it and repair it. Of every kind of
//! clause that guards rows or columns, asking each role for what it can do must notice at least one as well.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(
    clippy::print_stdout,
    clippy::string_slice,
    reason = "figures; SQL that was generated a moment before"
)]

#[path = "shared/corpus.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod corpus;
#[path = "shared/data.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod data;
#[path = "shared/lab.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod lab;
#[path = "shared/rights.rs"]
mod rights;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use data::Dice;
use lab::Lab;
use rights::{Caller, Rights};
use zk_policy::pg::{self, ClaimKey};
use zk_policy::{Document, Plan, Policy};

/// Rows of each table, so many that each condition has some to decide about.
const ROWS: usize = 12;

/// One weakened clause.
struct Mutant {
    /// The statements that bring it about.
    statements: Vec<String>,
    /// The kind of clause, of which somebody must be able to do more for at least one; none where it only keeps what others
    /// guard.
    felt: Option<&'static str>,
}

fn felt(kind: &'static str, statement: impl Into<String>) -> Mutant {
    Mutant { statements: vec![statement.into()], felt: Some(kind) }
}

/// One that a plan notices, and that need not change what anybody can do: it may be doubled by another clause.
fn quiet(statement: impl Into<String>) -> Mutant {
    Mutant { statements: vec![statement.into()], felt: None }
}

/// The mutants of one statement, by what it begins with. A statement of no known kind fails the test: a new clause is to
/// be mutated too.
fn mutants(statement: &str, tables: &dyn Fn(&str) -> Vec<String>) -> Vec<Mutant> {
    let words: Vec<&str> = statement.split_whitespace().collect();
    match words.as_slice() {
        ["CREATE", "POLICY", ..] => of_policy(statement),
        ["ALTER", "TABLE", .., "ENABLE", "ROW", "LEVEL", "SECURITY"] => {
            vec![felt("row security on", statement.replace("ENABLE ROW", "DISABLE ROW"))]
        }
        ["ALTER", "TABLE", .., "FORCE", "ROW", "LEVEL", "SECURITY"] => {
            vec![felt("row security forced", statement.replace("FORCE ROW", "NO FORCE ROW"))]
        }
        ["ALTER", "TABLE", ..] if statement.contains(" ADD CONSTRAINT ") => of_check(statement),
        ["CREATE", "ROLE", ..] => of_role(statement),
        ["COMMENT", "ON", "ROLE", ..] => Vec::new(), // without its mark, a plan refuses to touch the role: seen in `live`
        ["CREATE", "SCHEMA", ..] => Vec::new(), // nothing can be made in it without: seen in the mutants of its view
        ["GRANT", "USAGE", "ON", "SCHEMA", ..] => {
            vec![
                quiet(statement.replace("GRANT ", "REVOKE ").replace(" TO ", " FROM ")),
                quiet(statement.replace("GRANT USAGE", "GRANT CREATE")),
            ]
        }
        ["GRANT", .., "TO", "CURRENT_USER"] | ["REVOKE", .., "FROM", "CURRENT_USER"] => Vec::new(), // the deployer's own
        ["GRANT", "CREATE", "ON", "SCHEMA", ..] => vec![quiet(statement)],
        ["REVOKE", "CREATE", "ON", "SCHEMA", ..] => {
            vec![quiet(statement.replace("REVOKE", "GRANT").replace(" FROM ", " TO "))]
        }
        ["GRANT", ..] => of_grant(statement, tables),
        ["CREATE", "VIEW", ..] => of_view(statement),
        ["ALTER", "VIEW", _, "OWNER", ..] => {
            vec![felt("owner of a view", format!("{} postgres", &statement[..statement.rfind(' ').unwrap()]))]
        }
        _ => panic!("a statement that nobody mutates: {statement}"),
    }
}

/// `CREATE POLICY n ON t AS kind FOR command TO roles USING (…) WITH CHECK (…)`
fn of_policy(statement: &str) -> Vec<Mutant> {
    let head = statement.split(" AS ").next().unwrap();
    let (name, table) = head.trim_start_matches("CREATE POLICY ").split_once(" ON ").unwrap();
    let drop = format!("DROP POLICY {name} ON {table}");
    let again = |felt, text: String| Mutant { statements: vec![drop.clone(), text], felt };
    let restrictive = statement.contains(" AS RESTRICTIVE ");
    let mut found =
        vec![Mutant { statements: vec![drop.clone()], felt: restrictive.then_some("restrictive policy") }];
    if restrictive {
        found.push(again(Some("restriction"), statement.replace(" AS RESTRICTIVE ", " AS PERMISSIVE ")));
    }
    let to = statement.find(" TO ").unwrap();
    let clauses = to + statement[to..].find(" USING (").or(statement[to..].find(" WITH CHECK (")).unwrap();
    let roles = &statement[to + 4..clauses];
    if roles != "PUBLIC" {
        // A policy for everybody reaches everybody who holds a privilege; a restrictive one then takes from others.
        let everybody = format!("{} TO PUBLIC{}", &statement[..to], &statement[clauses..]);
        found.push(again((!restrictive).then_some("roles of a policy"), everybody));
    }
    for (start, end) in conditions(statement) {
        let condition = &statement[start..end];
        let with = |other: &str| format!("{}{other}{}", &statement[..start], &statement[end..]);
        if condition != "(true)" {
            let kind = if statement[..start].ends_with("CHECK ") {
                "condition on new rows"
            } else {
                "condition on rows"
            };
            found.push(again(Some(kind), with("(true)")));
        }
        for part in conjuncts(condition) {
            // Taken for true where nothing above negates: it may be implied by others for the rows that there are.
            let weaker = condition.replacen(part, "true", 1);
            if weaker != "(true)" {
                found.push(again(None, with(&weaker)));
            }
        }
    }
    found
}

/// Where the conditions of a policy stand, with their parentheses.
fn conditions(statement: &str) -> Vec<(usize, usize)> {
    let after = statement.find(" TO ").unwrap();
    let mut found = Vec::new();
    for word in [" USING (", " WITH CHECK ("] {
        if let Some(at) = statement[after..].find(word) {
            let start = after + at + word.len() - 1;
            found.push((start, start + closing(&statement[start..])));
        }
    }
    found
}

/// The members of every chain of ANDs within a condition that no NOT stands above.
fn conjuncts(condition: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, _) in condition.match_indices('(').filter(|(at, _)| !condition[..*at].contains("NOT ")) {
        let group = &condition[at + 1..at + closing(&condition[at..]) - 1];
        let parts = split(group, " AND ");
        if parts.len() > 1 {
            found.extend(parts);
        }
    }
    found
}

/// Splits where no parenthesis and no quote is open.
fn split<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let (mut depth, mut quote, mut start) = (0, None, 0);
    let mut parts = Vec::new();
    for (at, c) in text.char_indices() {
        if depth == 0 && quote.is_none() && text[at..].starts_with(word) && at >= start {
            parts.push(&text[start..at]);
            start = at + word.len();
        }
        (depth, quote) = step(c, depth, quote);
    }
    parts.push(&text[start..]);
    parts
}

/// The length of what the parenthesis that a text begins with encloses, with both.
fn closing(text: &str) -> usize {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        (depth, quote) = step(c, depth, quote);
        if depth == 0 {
            return at + 1;
        }
    }
    panic!("not closed: {text}")
}

fn step(c: char, depth: i32, quote: Option<char>) -> (i32, Option<char>) {
    match (c, quote) {
        (c, Some(open)) => (depth, (c != open).then_some(open)),
        ('\'' | '"', None) => (depth, Some(c)),
        ('(', None) => (depth + 1, None),
        (')', None) => (depth - 1, None),
        _ => (depth, None),
    }
}

/// `ALTER TABLE t ADD CONSTRAINT n CHECK ((a) AND (b))`
fn of_check(statement: &str) -> Vec<Mutant> {
    let (head, check) = statement.split_once(" CHECK ").unwrap();
    let drop = head.replace(" ADD CONSTRAINT ", " DROP CONSTRAINT ");
    let again = |text: String, felt| Mutant { statements: vec![drop.clone(), text], felt };
    let mut found = vec![
        felt("check of a critical column", drop.clone()),
        again(format!("{head} CHECK (true)"), Some("condition of a check")),
        again(format!("{statement} NOT VALID"), None),
    ];
    found.extend(
        conjuncts(check)
            .iter()
            .map(|part| again(format!("{head} CHECK {}", check.replacen(part, "true", 1)), None)),
    );
    found
}

/// `CREATE ROLE r NOLOGIN NOINHERIT`
fn of_role(statement: &str) -> Vec<Mutant> {
    let role = statement.trim_start_matches("CREATE ROLE ").split(" NOLOGIN").next().unwrap();
    let attributes = ["LOGIN", "SUPERUSER", "BYPASSRLS", "CREATEROLE", "CREATEDB", "REPLICATION"];
    let kind = |attribute: &str| match attribute {
        "SUPERUSER" => Some("no superuser"),
        "BYPASSRLS" => Some("no way past row security"),
        _ => None,
    };
    let with = |attribute: &&str| Mutant {
        felt: kind(attribute),
        ..quiet(format!("ALTER ROLE {role} {attribute}"))
    };
    attributes.iter().map(with).collect()
}

/// `GRANT SELECT ("a", "b") ON t TO "r"` and `GRANT DELETE ON t TO "r"`
fn of_grant(statement: &str, tables: &dyn Fn(&str) -> Vec<String>) -> Vec<Mutant> {
    let (head, role) = statement.rsplit_once(" TO ").unwrap();
    let (privilege, table) = head.trim_start_matches("GRANT ").split_once(" ON ").unwrap();
    let word = privilege.split_whitespace().next().unwrap();
    let mut found = vec![
        quiet(format!("REVOKE {privilege} ON {table} FROM {role}")),
        quiet(format!("{statement} WITH GRANT OPTION")),
    ];
    for beyond in ["TRUNCATE", "REFERENCES", "TRIGGER"] {
        found.push(quiet(format!("GRANT {beyond} ON {table} TO {role}")));
    }
    if privilege.contains('(') {
        let granted = split(privilege[privilege.find('(').unwrap() + 1..].trim_end_matches(')'), ", ");
        for column in tables(table).iter().filter(|column| !granted.contains(&column.as_str())) {
            found.push(felt("columns of a grant", format!("GRANT {word} ({column}) ON {table} TO {role}")));
        }
        for column in granted {
            found.push(quiet(format!("REVOKE {word} ({column}) ON {table} FROM {role}")));
        }
        // Opens columns that are added later.
        found.push(quiet(format!("GRANT {word} ON {table} TO {role}")));
    }
    found
}

/// `CREATE VIEW v AS SELECT "a", CASE … END AS "b" FROM t`
fn of_view(statement: &str) -> Vec<Mutant> {
    let (head, query) = statement.split_once(" AS SELECT ").unwrap();
    let view = head.trim_start_matches("CREATE VIEW ");
    let (columns, table) = query.rsplit_once(" FROM ").unwrap();
    let columns = split(columns, ", ");
    let mut found = vec![quiet(format!("DROP VIEW {view}"))];
    for option in ["security_invoker", "security_barrier"] {
        found.push(quiet(format!("ALTER VIEW {view} SET ({option} = true)")));
    }
    for (at, column) in columns.iter().enumerate() {
        let Some((_, name)) = column.rsplit_once(" AS ") else { continue };
        // The mask gone. Owner and grants stay as they were.
        let mut clear = columns.clone();
        clear[at] = name;
        found.push(Mutant {
            statements: vec![format!(
                "CREATE OR REPLACE VIEW {view} AS SELECT {} FROM {table}",
                clear.join(", ")
            )],
            felt: Some("mask"),
        });
    }
    found
}

/// What the database does to verify claims.
fn of_signing(role: &str) -> Vec<String> {
    let body = "SELECT nullif(current_setting('zk.' || claim_name, true), '')";
    let function = "CREATE OR REPLACE FUNCTION zk.claim(claim_name text) RETURNS text LANGUAGE";
    vec![
        format!("GRANT SELECT ON zk.claim_keys TO {role}"),
        format!("GRANT INSERT ON zk.claim_keys TO {role}"),
        "GRANT SELECT ON zk.claim_keys TO PUBLIC".to_owned(),
        "GRANT SELECT (inner_pad) ON zk.claim_keys TO PUBLIC".to_owned(),
        "ALTER FUNCTION zk.signed() SECURITY INVOKER".to_owned(),
        "ALTER FUNCTION zk.claim(text) RESET search_path".to_owned(),
        "ALTER FUNCTION zk.claim(text) SECURITY INVOKER".to_owned(),
        "ALTER FUNCTION zk.claim(text) IMMUTABLE".to_owned(),
        format!(
            "{function} sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ {body} $$"
        ),
    ]
}

/// A policy in force on filled tables, with everybody who could notice that it is weaker.
struct Bench {
    lab: Lab,
    policy: Policy,
    plan: Plan,
    callers: Vec<Caller>,
    /// What the callers can do.
    rights: Vec<Rights>,
    drift: usize,
}

impl Bench {
    async fn of(text: &str) -> Self {
        let mut lab = Lab::create(corpus::TABLES).await;
        let mut dice = Dice(7);
        let rows = data::rows(&lab.schema().await, &lab.tables().await, ROWS, &mut dice);
        rights::install(&lab.database, &rows).await;
        pg::install_signing(&lab.owner).await.unwrap();
        pg::install_mask_keys(&lab.owner).await.unwrap();
        let key = Arc::new(ClaimKey::generate().unwrap());
        pg::add_claim_key(&lab.owner, &key).await.unwrap();
        let (document, policy) = lab.check(text).await;
        let plan = lab.apply(&policy).await;
        // Somebody who holds every privilege and is in no policy sees nothing, as long as there is no policy for them.
        let guest = testkit::unique_name("guest");
        let mut script = format!("CREATE ROLE {guest};");
        rows.iter().for_each(|r| script.push_str(&format!("GRANT ALL ON {} TO {guest};", r.table)));
        lab.root.batch_execute(&script).await.unwrap();
        let callers = callers(&document, &policy, &plan, [&guest, &lab.owner_name], &key, &mut dice);
        let mut rights = Vec::new();
        for caller in &callers {
            rights.push(caller.rights(&mut lab.root).await);
        }
        let drift = lab.plan(&policy).await.drift.len();
        Self { lab, policy, plan, callers, rights, drift }
    }

    async fn plan(&mut self) -> Plan {
        pg::plan(&mut self.lab.root, &self.policy).await.unwrap()
    }

    /// Whether a plan notices: with steps, or with more drift.
    fn notices(&self, plan: &Plan) -> bool {
        !plan.is_empty() || plan.drift.len() != self.drift
    }

    /// The same, where a plan may also refuse.
    async fn planned(&mut self) -> bool {
        match pg::plan(&mut self.lab.root, &self.policy).await {
            Ok(plan) => self.notices(&plan),
            Err(_) => true,
        }
    }

    /// Whether somebody can do more than before.
    async fn noticed(&mut self) -> bool {
        for (caller, before) in self.callers.iter().zip(&self.rights) {
            if !caller.rights(&mut self.lab.root).await.is_subset(before) {
                return true;
            }
        }
        false
    }

    /// Does what the plan says, by hand: that an apply verifies is seen elsewhere, and takes three times as long.
    async fn repair(&mut self, plan: &Plan) {
        self.lab.root.batch_execute(&plan.to_sql()).await.unwrap_or_else(|e| panic!("{plan}\n{e:?}"));
    }
}

fn callers(
    document: &Document,
    policy: &Policy,
    plan: &Plan,
    outsiders: [&String; 2],
    key: &Arc<ClaimKey>,
    dice: &mut Dice,
) -> Vec<Caller> {
    let mut callers = Vec::new();
    for role in policy.roles() {
        for _ in 0..4 {
            callers.push(Caller::new(document, role, data::claims(document, dice), key));
        }
    }
    let named = |s: &String| {
        Some(s.strip_prefix("CREATE ROLE \"")?.split("\" NOLOGIN").next()?.replace("\"\"", "\""))
    };
    let owners = plan.steps.iter().flat_map(|s| &s.sql).filter_map(named);
    let owners = owners.filter(|role| !policy.roles().any(|r| policy.database_role(r) == *role));
    for role in owners.chain(outsiders.into_iter().cloned()) {
        for _ in 0..2 {
            callers.push(Caller { role: role.clone(), claims: data::claims(document, dice), signed: None });
        }
    }
    callers
}

#[tokio::test]
async fn no_clause_is_removed_unnoticed() {
    let mut count = 0;
    let mut survivors = Vec::new();
    // By kind of clause, whether somebody could do more without one.
    let mut kinds: BTreeMap<&str, bool> = BTreeMap::new();
    for file in corpus::files() {
        let text = fs::read_to_string(&file).unwrap();
        let mut bench = Bench::of(&text).await;
        let schema = bench.lab.schema().await;
        let tables = bench.lab.tables().await;
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let columns = |table: &str| -> Vec<String> {
            let is = |t: &&zk_policy::QualifiedName| {
                format!("{}.{}", quoted(&t.schema), quoted(&t.table)) == table
            };
            let columns = tables.iter().find(is).and_then(|t| schema.find(&t.schema, &t.table));
            columns.into_iter().flat_map(|shape| shape.columns()).map(|c| quoted(&c.name)).collect()
        };
        let statements: Vec<String> = bench.plan.steps.iter().flat_map(|s| s.sql.clone()).collect();
        for mutant in statements.iter().flat_map(|statement| mutants(statement, &columns)) {
            let told = format!("{}: {}", file.display(), mutant.statements.join("; "));
            for statement in &mutant.statements {
                let done = bench.lab.root.batch_execute(statement).await;
                done.unwrap_or_else(|e| panic!("{told}: {e:?}"));
            }
            count += 1;
            let plan = bench.plan().await;
            if !bench.notices(&plan) {
                survivors.push(format!("not planned: {told}"));
            }
            if let Some(felt) = mutant.felt.map(|kind| kinds.entry(kind).or_default()) {
                *felt = *felt || bench.noticed().await;
            }
            // That all is as it was is seen at the end.
            bench.repair(&plan).await;
        }
        assert!(!bench.planned().await, "{}: not repaired", file.display());
        assert!(!bench.noticed().await, "{}: what was repaired is as it was", file.display());
    }
    println!("{count} mutants; {} survived; kinds: {kinds:?}", survivors.len());
    survivors.extend(kinds.iter().filter(|(_, felt)| !**felt).map(|(kind, _)| format!("never felt: {kind}")));
    assert!(survivors.is_empty(), "{}", survivors.join("\n"));
}

#[tokio::test]
async fn nothing_that_verifies_claims_is_changed_unnoticed() {
    let name = testkit::unique_name("seals");
    let text = format!(
        "policy {name}\nrole clerk  claim tenant: uuid  claims signed
         table customers {{ tenant tenant_id = claim.tenant  allow clerk select }}"
    );
    let mut bench = Bench::of(&text).await;
    for statement in of_signing(&format!("{name}_clerk")) {
        bench.lab.root.batch_execute(&statement).await.unwrap();
        assert!(bench.planned().await, "not planned: {statement}");
        let repair = format!("REVOKE ALL ON zk.claim_keys FROM {name}_clerk, PUBLIC");
        bench.lab.root.batch_execute(&repair).await.unwrap();
        pg::install_signing(&bench.lab.owner).await.unwrap();
        assert!(!bench.planned().await, "not repaired: {statement}");
    }
}
