//! What PostgreSQL tells or lets happen whatever the policies say, as it is: the threat model says so, and the lint where
//! something can be done.

use zk_policy::{LintCode, pg};

use crate::office::{Office, ask};

/// Keys without the tenant tell that a value exists, and references without it reach into another tenant's rows.
#[tokio::test]
async fn keys_without_the_tenant_tell_and_are_reported() {
    let mut office = Office::open().await;
    let session = office.session("admin", 1);
    let mut admin = office.connect(&["admin"]).await;
    session.enter(&admin).await.unwrap();
    for (statement, tells) in [
        // `beta` is the other tenant's, `gamma` is nobody's.
        ("INSERT INTO codes VALUES (7, 1, 'beta')", "23505"),
        ("INSERT INTO codes VALUES (7, 1, 'gamma')", "(1)"),
        ("INSERT INTO codes VALUES (7, 1, 'beta') ON CONFLICT DO NOTHING", "(0)"),
        ("INSERT INTO codes VALUES (7, 1, 'beta') ON CONFLICT (code) DO UPDATE SET code = 'delta'", "42501"),
        ("UPDATE codes SET code = 'beta'", "23505"),
        // A row of the other tenant is referred to, and is then held.
        ("INSERT INTO calls VALUES (1, 1, 2)", "(1)"),
        ("INSERT INTO calls VALUES (1, 1, 3)", "23503"),
        // With the tenant in the key both answers are the same, whether another tenant has the row or nobody.
        ("INSERT INTO notes (tenant, id) VALUES (1, 9)", "(1)"),
        ("INSERT INTO notes (tenant, id) VALUES (1, 8)", "(1)"),
        ("INSERT INTO replies VALUES (1, 7, 9); SET CONSTRAINTS ALL IMMEDIATE", "23503"),
        ("INSERT INTO replies VALUES (1, 7, 8); SET CONSTRAINTS ALL IMMEDIATE", "23503"),
    ] {
        assert_eq!(ask(&mut admin, &session, statement).await, tells, "{statement}");
    }
    let found = pg::lint(&mut office.lab.root, &office.policy).await.unwrap();
    let reported = |code, object: &str| found.iter().any(|f| f.code == code && f.object.starts_with(object));
    assert!(reported(LintCode::UniqueAcrossTenants, "key codes_code_key on public.codes"), "{found:?}");
    assert!(
        reported(LintCode::ReferenceAcrossTenants, "foreign key calls_code on public.calls"),
        "{found:?}"
    );
    assert!(
        !found.iter().any(|f| f.object.contains("replies") || f.object.contains("key notes")),
        "{found:?}"
    );
}

/// Which row a message is about stays hidden, even if that there is one does not.
#[tokio::test]
async fn messages_carry_no_values_of_rows() {
    let office = Office::open().await;
    let session = office.session("admin", 1);
    let mut admin = office.connect(&["admin"]).await;
    session.enter(&admin).await.unwrap();
    let detail = async |admin: &mut tokio_postgres::Client, statement: &str| {
        let transaction = session.begin(admin).await.unwrap();
        let error = transaction.batch_execute(statement).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        (error.code().code().to_owned(), error.detail().map(str::to_owned))
    };
    let statements = [
        ("23505", "INSERT INTO codes VALUES (7, 1, 'beta')"),
        ("23505", "UPDATE notes SET id = 1 WHERE id = 2"),
        ("23502", "UPDATE notes SET dead = NULL WHERE id = 1"),
        ("42501", "UPDATE notes SET tenant = 2 WHERE id = 1"),
    ];
    for (code, statement) in statements {
        assert_eq!(detail(&mut admin, statement).await, (code.to_owned(), None), "{statement}");
    }
    office.unprotect().await;
    for (code, statement) in statements.into_iter().filter(|(code, _)| *code != "42501") {
        let (found, detail) = detail(&mut admin, statement).await;
        assert!(
            found == code && detail.is_some(),
            "{statement}: without row-level security there is a detail"
        );
    }
}

/// Sizes and counts of whole tables, and how many rows a filter removed, are no secret from who can connect.
#[tokio::test]
async fn sizes_and_counts_are_told() {
    let office = Office::open().await;
    let session = office.session("clerk", 1);
    let mut clerk = office.connect(&["clerk"]).await;
    session.enter(&clerk).await.unwrap();
    for (statement, tells) in [
        ("SELECT reltuples FROM pg_class WHERE oid = 'notes'::regclass", "5"),
        ("SELECT pg_relation_size('notes') > 0", "t"),
        ("SELECT count(*) > 0 FROM pg_policies WHERE tablename = 'notes'", "t"),
        ("SELECT count(*) FROM pg_stat_user_tables WHERE relname = 'notes'", "1"),
    ] {
        assert_eq!(ask(&mut clerk, &session, statement).await, tells, "{statement}");
    }
    // Three rows are not shown: one that is dead, two of the other tenant.
    let explain = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT id FROM notes";
    let explained = ask(&mut clerk, &session, explain).await;
    assert!(explained.contains("Rows Removed by Filter: 3"), "{explained}");
    // As an index condition the tenant's floor removes nothing that a count could tell.
    let indexed = format!("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; {explain}");
    let explained = ask(&mut clerk, &session, &indexed).await;
    assert!(
        explained.contains("Rows Removed by Filter: 1") && explained.contains("Index Cond"),
        "{explained}"
    );
    // Who may delete can lock the table against everybody.
    assert_eq!(ask(&mut clerk, &session, "LOCK TABLE notes IN ACCESS EXCLUSIVE MODE").await, "(0)");
    // Channels belong to nobody.
    assert_eq!(ask(&mut clerk, &session, "LISTEN tenant_2; NOTIFY tenant_2, 'x'").await, "(0)");
}

/// Rules for updating decide alone where a statement reads nothing: rows that the role does not see can be changed, and a
/// row cannot be made invisible by a statement that reads.
#[tokio::test]
async fn blind_writes_reach_what_their_own_rules_admit() {
    let mut office = Office::open().await;
    let session = office.session("clerk", 1);
    let mut clerk = office.connect(&["clerk"]).await;
    session.enter(&clerk).await.unwrap();
    for (statement, does) in [
        ("UPDATE notes SET body = 'x'", "(2)"),
        ("UPDATE notes SET body = 'x' WHERE id > 0", "(1)"),
        ("UPDATE notes SET dead = true", "(2)"),
        ("UPDATE notes SET dead = true WHERE id = 1", "42501"),
        ("DELETE FROM notes", "(2)"),
        ("DELETE FROM notes WHERE id = 3", "(0)"),
    ] {
        assert_eq!(ask(&mut clerk, &session, statement).await, does, "{statement}");
    }
    let found = pg::lint(&mut office.lab.root, &office.policy).await.unwrap();
    assert!(
        found.iter().any(|f| f.code == LintCode::SoftDelete && f.object.contains("notes.dead")),
        "{found:?}"
    );
}

/// Views and functions with greater rights, as somebody might make them: open, and reported.
#[tokio::test]
async fn what_bypasses_is_reported() {
    let mut office = Office::open().await;
    let session = office.session("clerk", 1);
    let mut clerk = office.connect(&["clerk"]).await;
    session.enter(&clerk).await.unwrap();
    let role = format!("{}_clerk", office.name);
    for (made, asked, tells, code) in [
        (
            format!("CREATE VIEW wide AS SELECT * FROM notes; GRANT SELECT ON wide TO {role}"),
            "SELECT count(*) FROM wide",
            "5",
            LintCode::ViewBypasses,
        ),
        (
            format!("GRANT SELECT ON copies TO {role}"),
            "SELECT count(*) FROM copies",
            "5",
            LintCode::MaterialisedView,
        ),
        (
            "CREATE FUNCTION peek() RETURNS int8 LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
               AS 'SELECT count(*) FROM public.notes'"
                .to_owned(),
            "SELECT peek()",
            "5",
            LintCode::DefinerBypasses,
        ),
        (
            format!("ALTER TABLE logs_1 DISABLE ROW LEVEL SECURITY; GRANT SELECT ON logs_1 TO {role}"),
            "SELECT count(*) FROM logs_1",
            "2",
            LintCode::UncoveredChild,
        ),
        (
            "CREATE TABLE heirs (more text) INHERITS (replies); INSERT INTO heirs VALUES (2, 2, 9); GRANT SELECT ON heirs TO PUBLIC"
                .to_owned(),
            "SELECT count(*) FROM heirs",
            "1",
            LintCode::UncoveredChild,
        ),
    ] {
        office.lab.root.batch_execute(&made).await.unwrap();
        assert_eq!(ask(&mut clerk, &session, asked).await, tells, "{made}");
        let found = pg::lint(&mut office.lab.root, &office.policy).await.unwrap();
        assert!(found.iter().any(|f| f.code == code), "{made}\n{found:?}");
    }
}
