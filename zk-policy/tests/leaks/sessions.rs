//! What stays on a connection between transactions, roles and claims.

use tokio_postgres::error::SqlState;

use crate::office::{Office, answer, ask};

const IDS: &str = "SELECT tenant, id FROM notes ORDER BY id";

/// A plan that was made for one tenant or role serves the next one with that one's rows.
#[tokio::test]
async fn plans_are_kept_and_rows_are_not() {
    let office = Office::open().await;
    for mode in ["auto", "force_generic_plan", "force_custom_plan"] {
        let mut client = office.connect(&["clerk", "admin"]).await;
        let clerk = office.session("clerk", 1);
        clerk.enter(&client).await.unwrap();
        client.batch_execute(&format!("SET plan_cache_mode = {mode}; PREPARE ids AS {IDS}")).await.unwrap();
        let statement = client.prepare(IDS).await.unwrap();
        for _ in 0..8 {
            assert_eq!(ask(&mut client, &clerk, "EXECUTE ids").await, "1|1;1|2");
        }
        assert_eq!(ask(&mut client, &office.session("clerk", 2), "EXECUTE ids").await, "2|1;2|9");
        assert_eq!(answer(client.simple_query("EXECUTE ids").await), "", "without claims there is nothing");
        let admin = office.session("admin", 1);
        admin.enter(&client).await.unwrap();
        assert_eq!(ask(&mut client, &admin, "EXECUTE ids").await, "1|1;1|2;1|3", "{mode}");
        let transaction = admin.begin(&mut client).await.unwrap();
        assert_eq!(transaction.query(&statement, &[]).await.unwrap().len(), 3);
        transaction.rollback().await.unwrap();
        clerk.enter(&client).await.unwrap();
        assert_eq!(ask(&mut client, &clerk, "EXECUTE ids").await, "1|1;1|2", "{mode}");
        client.batch_execute("RESET ROLE").await.unwrap();
        assert_eq!(
            answer(client.simple_query("EXECUTE ids").await),
            "42501",
            "the login has no rights of its own"
        );
    }
}

/// A role is not left for a greater one, whatever is tried.
#[tokio::test]
async fn nobody_becomes_somebody_else() {
    let office = Office::open().await;
    let session = office.session("clerk", 1);
    let mut client = office.connect(&["clerk"]).await;
    session.enter(&client).await.unwrap();
    let (name, owner) = (&office.name, &office.lab.owner_name);
    for statement in [
        format!("SET ROLE {name}_admin"),
        format!("SET LOCAL ROLE {name}_auditor_view"),
        format!("SELECT set_config('role', '{name}_admin', true)"),
        format!("SET ROLE {owner}"),
        format!("SET SESSION AUTHORIZATION {owner}"),
        format!("SET SESSION AUTHORIZATION {name}_admin"),
        format!("GRANT {name}_admin TO {name}_clerk"),
        format!("GRANT SELECT ON notes TO {name}_clerk; SELECT secret FROM notes"),
        format!("ALTER ROLE {name}_clerk BYPASSRLS"),
        "CREATE FUNCTION pg_temp.f() RETURNS int8 LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM public.copies'; SELECT pg_temp.f()".to_owned(),
        "RESET ROLE; SELECT id FROM notes".to_owned(),
        "RESET SESSION AUTHORIZATION; SELECT secret FROM notes".to_owned(),
    ] {
        assert_eq!(ask(&mut client, &session, &statement).await, "42501", "{statement}");
    }
}

/// Names that a user puts in the way of those that policies speak of.
#[tokio::test]
async fn nothing_is_put_in_the_way_of_a_policy() {
    let office = Office::open().await;
    let session = office.session("clerk", 1);
    let mut client = office.connect(&["clerk"]).await;
    session.enter(&client).await.unwrap();
    for shadow in [
        "CREATE FUNCTION pg_temp.current_setting(text, bool) RETURNS text LANGUAGE sql AS 'SELECT ''2'''",
        "CREATE OPERATOR pg_temp.= (LEFTARG = int8, RIGHTARG = int8, FUNCTION = int8ne)",
        "CREATE TEMP TABLE pg_class (oid oid)",
        "SET LOCAL session_replication_role = replica",
        "SET LOCAL default_transaction_read_only = on",
    ] {
        let shadowed = format!("{shadow}; SET LOCAL search_path = pg_temp, public, pg_catalog; {IDS}");
        let answer = ask(&mut client, &session, &shadowed).await;
        assert!(["1|1;1|2", "42501"].contains(&answer.as_str()), "{shadow}: {answer}");
    }
}

/// Claims that nobody signed are settings: who runs SQL of their own can set them, in any way that settings are set. So
/// says the manual, and so policies can ask for signatures.
#[tokio::test]
async fn unsigned_claims_are_settings() {
    let office = Office::open().await;
    let session = office.session("clerk", 1);
    let mut client = office.connect(&["clerk"]).await;
    session.enter(&client).await.unwrap();
    for (statement, sees) in [
        ("SELECT set_config('zk.tenant', '2', true)", "2|1;2|9"),
        ("SET LOCAL zk.tenant = '2'", "2|1;2|9"),
        ("RESET zk.tenant", ""),
        ("RESET ALL", ""),
        ("SET LOCAL zk.tenant = ''", ""),
        ("SET LOCAL zk.tenant = '1 OR true'", "22P02"),
        ("SET LOCAL zk.tenant TO DEFAULT", ""),
    ] {
        assert_eq!(ask(&mut client, &session, &format!("{statement}; {IDS}")).await, sees, "{statement}");
    }
}

/// A cursor that outlives its transaction, and a temporary table, keep rows on the connection: a pool that hands
/// connections on has to discard them.
#[tokio::test]
async fn what_is_kept_on_a_connection_is_discarded_by_the_pool() {
    let office = Office::open().await;
    let mut client = office.connect(&["clerk"]).await;
    let (one, two) = (office.session("clerk", 1), office.session("clerk", 2));
    one.enter(&client).await.unwrap();
    let keep = format!("DECLARE kept CURSOR WITH HOLD FOR {IDS}; CREATE TEMP TABLE kept AS {IDS}");
    for discarded in [false, true] {
        let transaction = one.begin(&mut client).await.unwrap();
        transaction.batch_execute(&keep).await.unwrap();
        transaction.commit().await.unwrap();
        if discarded {
            client.batch_execute("DISCARD ALL").await.unwrap();
            two.enter(&client).await.unwrap();
        }
        let (fetched, read) = if discarded { ("34000", "42P01") } else { ("1|1;1|2", "1|1;1|2") };
        assert_eq!(ask(&mut client, &two, "FETCH ALL FROM kept").await, fetched);
        assert_eq!(ask(&mut client, &two, "SELECT * FROM kept").await, read);
        if !discarded {
            client.batch_execute("CLOSE kept; DROP TABLE kept").await.unwrap();
        }
    }
    // A cursor within a transaction holds the rows of its beginning.
    let moved = format!("DECLARE c CURSOR FOR {IDS}; SET LOCAL zk.tenant = '2'; FETCH ALL FROM c");
    assert!(["1|1;1|2", "2|1;2|9"].contains(&ask(&mut client, &one, &moved).await.as_str()));
}

/// What comes later is closed until the policy is planned again.
#[tokio::test]
async fn later_columns_and_tables_are_closed() {
    let office = Office::open().await;
    office
        .lab
        .owner
        .batch_execute("ALTER TABLE notes ADD later text DEFAULT 'x'; CREATE TABLE later (n int)")
        .await
        .unwrap();
    for role in ["clerk", "admin", "auditor"] {
        let session = office.session(role, 1);
        let mut client = office.connect(&[role]).await;
        session.enter(&client).await.unwrap();
        for statement in
            ["SELECT later FROM public.notes", "SELECT n FROM later", "UPDATE public.notes SET later = 'y'"]
        {
            assert_eq!(
                ask(&mut client, &session, statement).await,
                SqlState::INSUFFICIENT_PRIVILEGE.code(),
                "{role}: {statement}"
            );
        }
    }
}

/// `COPY` gives what a query would.
#[tokio::test]
async fn a_copy_holds_the_rows_of_the_role() {
    use futures_util::TryStreamExt as _;
    let office = Office::open().await;
    let session = office.session("clerk", 1);
    let mut client = office.connect(&["clerk"]).await;
    session.enter(&client).await.unwrap();
    for statement in ["COPY notes (id, body) TO STDOUT", "COPY (SELECT id, body FROM notes) TO STDOUT"] {
        let transaction = session.begin(&mut client).await.unwrap();
        let copied = transaction.copy_out(statement).await.unwrap();
        let mut bytes = Vec::new();
        let mut copied = std::pin::pin!(copied);
        while let Some(part) = copied.try_next().await.unwrap() {
            bytes.extend_from_slice(&part);
        }
        assert_eq!(String::from_utf8(bytes).unwrap(), "1\thello\n2\tworld\n", "{statement}");
    }
    let code = |error: tokio_postgres::Error| error.code().unwrap().code().to_owned();
    let transaction = session.begin(&mut client).await.unwrap();
    assert_eq!(transaction.copy_out("COPY notes (secret) TO STDOUT").await.err().map(code).unwrap(), "42501");
    transaction.rollback().await.unwrap();
    // Rows that are copied in would not be checked, so PostgreSQL takes none.
    let transaction = session.begin(&mut client).await.unwrap();
    let copied = transaction.copy_in::<_, &[u8]>("COPY notes (tenant, id, author) FROM STDIN").await;
    assert_eq!(copied.err().map(code).unwrap(), "0A000");
}
