//! The manual's chapter on how each construct compiles: its policies give its SQL.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "shared/corpus.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod corpus;

use std::fs;
use std::path::Path;

use zk_policy::{Column, ColumnType, Document, Plan, Scalar, Schema, check};

/// The SQL of a whole policy, or of statements about customers within the policy that the chapter names.
fn sql(kind: &str, text: &str) -> String {
    let text = match kind {
        "policy in customers" => format!(
            "policy crm role agent role manager includes agent claim tenant: uuid claim user: uuid claim regions: text[]
             table customers {{ tenant tenant_id = claim.tenant {text} }}"
        ),
        _ => text.to_owned(),
    };
    let document = Document::parse(&text).unwrap_or_else(|e| panic!("{}", e.to_lines("policy", &text)));
    let policy =
        check(&document, &corpus::schema()).unwrap_or_else(|e| panic!("{}", e.to_lines("policy", &text)));
    Plan::fresh(&policy).to_sql()
}

/// Whether one line of the SQL has what `shown` shows, `…` standing for anything.
fn has(sql: &str, shown: &str) -> bool {
    sql.lines().any(|line| {
        shown.split('…').map(str::trim).try_fold(line, |rest, part| Some(rest.split_once(part)?.1)).is_some()
    })
}

#[test]
fn each_construct_compiles_as_the_manual_says() {
    let chapter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/policy-compiled.md");
    let chapter = fs::read_to_string(chapter).unwrap();
    let (mut compiled, mut lines) = (None, 0);
    for block in chapter.split("```").skip(1).step_by(2) {
        let (kind, text) = block.split_once('\n').unwrap();
        if kind.starts_with("policy") {
            compiled = Some(sql(kind, text));
        } else if kind == "sql" {
            let compiled = compiled.take().expect("a policy comes before its SQL");
            for shown in text.lines() {
                lines += 1;
                assert!(has(&compiled, shown), "`{shown}` is not in\n{compiled}");
            }
        }
    }
    assert!(lines > 25, "{lines}");
}

/// The server ends a comment at a carriage return as well, and tables are called what somebody called them.
#[test]
fn names_do_not_leave_the_comments_of_a_script() {
    let column = |name: &str| Column::new(name, ColumnType::Scalar(Scalar::Bool));
    let schema = Schema::default().table(
        "public",
        "t\rDROP TABLE a",
        [column("c\rDROP TABLE b"), column("d\u{b}\u{85}")],
    );
    let text = "policy p role \"r\rDROP TABLE c\" table \"t\rDROP TABLE a\" { shared allow \"r\rDROP TABLE c\" select }";
    let sql = Plan::fresh(&check(&Document::parse(text).unwrap(), &schema).unwrap()).to_sql();
    let comments: Vec<&str> = sql.split('\n').filter(|line| line.starts_with("--")).collect();
    assert!(
        comments.len() > 3 && comments.iter().all(|comment| !comment.contains(char::is_control)),
        "{sql:?}"
    );
}

/// In a list of one, a claim would be a sub-query and no longer the value of one, which an index serves.
#[test]
fn a_list_of_one_is_an_equation() {
    let sql = sql("policy in customers", "allow agent select where owner_id in (claim.user)");
    assert!(has(&sql, "USING ((\"owner_id\" = (SELECT nullif(…"), "{sql}");
}
