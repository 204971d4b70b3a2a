//! Reads, writes and guesses within one transaction of a session.

use testkit::SUPPORTED;

use crate::office::{Office, ask};

/// Something that a service could run, and what it must get.
#[derive(Clone, Copy)]
struct Probe {
    /// The first server version that understands it.
    since: u16,
    role: &'static str,
    statements: &'static str,
    holds: &'static str,
    /// Whether it is the server that refuses it to every role without the attribute or the ownership, whatever the policy
    /// says: then it holds without the policy too.
    by_server: bool,
}

const fn probe(role: &'static str, statements: &'static str, holds: &'static str) -> Probe {
    Probe { since: *SUPPORTED.start(), role, statements, holds, by_server: false }
}

const fn since(since: u16, probe: Probe) -> Probe {
    Probe { since, ..probe }
}

/// What an ordinary role may not do at all.
const fn by_server(probe: Probe) -> Probe {
    Probe { by_server: true, ..probe }
}

const DENIED: &str = "42501";

/// A function that costs nothing, so that the planner would like to call it first, and that fails where it sees a value of
/// the other tenant or one that was deleted.
macro_rules! leaky {
    ($query:literal) => {
        concat!(
            "CREATE FUNCTION pg_temp.leak(text) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN
               IF $1 ~ '^foreign|^gone$|@' THEN RAISE EXCEPTION 'seen: %', $1; END IF; RETURN true; END $$; ",
            $query
        )
    };
}

#[rustfmt::skip]
const PROBES: &[Probe] = &[
    // Rows.
    probe("clerk", "SELECT tenant, id FROM notes ORDER BY id", "1|1;1|2"),
    probe("clerk", "SELECT id FROM notes TABLESAMPLE SYSTEM (100) ORDER BY id", "1;2"),
    probe("clerk", "SELECT count(*) FROM notes a JOIN notes b ON a.tenant <> b.tenant OR b.dead", "0"),
    probe("clerk", "SELECT id FROM ONLY notes WHERE tenant = 2 OR true ORDER BY id", "1;2"),
    probe("clerk", "CREATE TEMP VIEW mine AS SELECT id FROM notes; SELECT id FROM mine ORDER BY id", "1;2"),
    probe("clerk", "CREATE TEMP TABLE mine AS SELECT id FROM notes; SELECT id FROM mine ORDER BY id", "1;2"),
    probe("clerk", "WITH RECURSIVE n AS (SELECT id FROM notes UNION SELECT id + 8 FROM n WHERE id = 1) SELECT max(n.id) FROM n JOIN notes USING (id) WHERE n.id = 9", "NULL"),
    probe("clerk", "SELECT id FROM notes FOR UPDATE", "1"),
    probe("clerk", "SET LOCAL row_security = off; SELECT id FROM notes", DENIED),

    // What a condition of the user's own tells of rows that are not shown.
    probe("clerk", leaky!("SELECT id FROM notes WHERE pg_temp.leak(body) ORDER BY id"), "1;2"),
    probe("clerk", leaky!("PREPARE p AS SELECT id FROM notes WHERE pg_temp.leak(body) ORDER BY id; EXECUTE p"), "1;2"),
    probe("clerk", leaky!("SELECT count(*) FROM notes n JOIN codes c ON c.tenant = n.tenant AND pg_temp.leak(n.body)"), "2"),
    probe("clerk", leaky!("UPDATE notes SET body = 'x' WHERE pg_temp.leak(body)"), "(1)"),
    probe("clerk", leaky!("DELETE FROM notes WHERE pg_temp.leak(body)"), "(1)"),
    probe("clerk", leaky!("SELECT max(id) FROM asked WHERE pg_temp.leak(body)"), "2"),
    probe("clerk", "SELECT id FROM notes WHERE 1 / (length(body) - 9) < 1 ORDER BY id", "1;2"),
    probe("clerk", "SELECT id FROM notes WHERE CASE WHEN tenant = 2 THEN body::int8 ELSE 1 END > 0 ORDER BY id", "1;2"),
    by_server(probe("clerk", "CREATE FUNCTION pg_temp.e(text) RETURNS bool LANGUAGE sql LEAKPROOF AS 'SELECT true'", DENIED)),
    probe("clerk", "CREATE OPERATOR pg_temp.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq, RESTRICT = eqsel);
                    SELECT id FROM notes WHERE body OPERATOR(pg_temp.===) 'foreign-a'", ""),

    // Columns.
    probe("clerk", "SELECT secret FROM notes", DENIED),
    probe("clerk", "SELECT notes FROM notes", DENIED),
    probe("clerk", "SELECT notes.* FROM notes", DENIED),
    probe("clerk", "SELECT row_to_json(notes) FROM notes", DENIED),
    probe("clerk", "SELECT to_jsonb(n) ->> 'secret' FROM notes n", DENIED),
    probe("clerk", "SELECT (n).secret FROM notes n", DENIED),
    probe("clerk", "SELECT n::text FROM notes n", DENIED),
    probe("clerk", "SELECT count(n) FROM notes n", DENIED),
    probe("clerk", "SELECT id FROM notes ORDER BY secret", DENIED),
    probe("clerk", "SELECT count(*) FROM notes GROUP BY secret", DENIED),
    probe("clerk", "SELECT id FROM notes WHERE secret > 's'", DENIED),
    probe("clerk", "SELECT id FROM notes n JOIN (VALUES ('s1')) v (secret) USING (secret)", DENIED),
    probe("clerk", "SELECT xmin, ctid FROM notes", DENIED),
    probe("clerk", "UPDATE notes SET body = secret", DENIED),
    probe("clerk", "UPDATE notes SET body = 'x' RETURNING secret", DENIED),
    probe("clerk", "UPDATE notes SET pay = 1", DENIED),
    probe("clerk", "INSERT INTO notes (tenant, id, author, secret) VALUES (1, 50, 'ann', 'x')", DENIED),

    // Writes.
    probe("admin", "INSERT INTO notes (tenant, id) VALUES (2, 50)", DENIED),
    probe("clerk", "INSERT INTO notes (tenant, id, author) VALUES (1, 50, 'bob')", DENIED),
    probe("admin", "UPDATE notes SET tenant = 2 WHERE id = 1", DENIED),
    probe("admin", "UPDATE notes SET tenant = 2", DENIED),
    probe("admin", "UPDATE notes SET body = 'x' WHERE tenant = 2", "(0)"),
    probe("admin", "UPDATE notes SET body = 'x'", "(3)"),
    probe("admin", "DELETE FROM notes USING replies WHERE replies.note = 9", "(0)"),
    probe("clerk", "DELETE FROM notes WHERE tenant = 2", "(0)"),
    probe("clerk", "DELETE FROM notes RETURNING id", "1"),
    probe("clerk", "UPDATE notes SET body = 'x' RETURNING id", "1"),
    probe("clerk", "DELETE FROM notes WHERE id = 2", "(0)"),
    probe("clerk", "TRUNCATE notes", DENIED),
    probe("admin", "TRUNCATE notes CASCADE", DENIED),
    by_server(probe("admin", "COPY (SELECT * FROM notes) TO PROGRAM 'cat'", DENIED)),

    // Conflicts, where keys begin with the tenant: they tell nothing.
    probe("admin", "INSERT INTO notes (tenant, id) VALUES (2, 9) ON CONFLICT DO NOTHING", DENIED),
    probe("admin", "INSERT INTO notes (tenant, id) VALUES (2, 9) ON CONFLICT (tenant, id) DO UPDATE SET body = excluded.body", DENIED),
    probe("clerk", "INSERT INTO notes (tenant, id, author) VALUES (1, 2, 'ann') ON CONFLICT (tenant, id) DO UPDATE SET body = 'x'", DENIED),
    probe("admin", "MERGE INTO notes n USING (SELECT 2::int8 AS t, 9::int8 AS i) s ON n.tenant = s.t AND n.id = s.i
                    WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN DO NOTHING", "(0)"),
    probe("admin", "MERGE INTO notes n USING (SELECT 1::int8 AS t, 1::int8 AS i) s ON n.tenant = s.t AND n.id = s.i
                    WHEN MATCHED THEN UPDATE SET tenant = 2", DENIED),
    probe("clerk", "MERGE INTO notes n USING (SELECT 2 AS i) s ON n.id = s.i WHEN MATCHED THEN UPDATE SET body = 'x'", DENIED),
    since(17, probe("admin", "MERGE INTO notes n USING codes c ON n.tenant = c.tenant WHEN MATCHED THEN DELETE RETURNING n.tenant, n.id",
        "1|1;1|2;1|3")),
    since(17, probe("clerk", "MERGE INTO notes n USING (SELECT 1 AS i) s ON n.id = s.i WHEN MATCHED THEN DELETE RETURNING n.secret", DENIED)),
    since(18, probe("clerk", "UPDATE notes SET body = 'x' RETURNING old.secret", DENIED)),
    since(18, probe("admin", "UPDATE notes SET body = 'x' RETURNING old.tenant, new.id", "1|1;1|2;1|3")),

    // Around the tables.
    probe("clerk", "SELECT id FROM logs", "1"),
    probe("clerk", "SELECT line FROM logs_1 WHERE tenant = 2", DENIED),
    probe("clerk", "SELECT count(*) FROM copies", DENIED),
    probe("clerk", "SELECT count(*) FROM owned", "0"),
    probe("clerk", "SELECT id, body FROM asked ORDER BY id", "1|hello;2|world"),
    probe("clerk", "SELECT last_value FROM tickets", DENIED),
    probe("clerk", "SELECT nextval('tickets')", DENIED),
    probe("clerk", "CREATE TABLE public.t (n int)", DENIED),
    by_server(probe("clerk", "CREATE TABLE pg_temp.child () INHERITS (notes)", DENIED)),
    probe("clerk", "CREATE TRIGGER t BEFORE INSERT ON notes EXECUTE FUNCTION suppress_redundant_updates_trigger()", DENIED),
    by_server(probe("clerk", "CREATE POLICY p ON notes USING (true)", DENIED)),
    by_server(probe("clerk", "ALTER TABLE notes DISABLE ROW LEVEL SECURITY", DENIED)),
    by_server(probe("clerk", "ANALYZE notes; SELECT lo_import('/etc/hostname')", DENIED)),
    by_server(probe("clerk", "SELECT loid FROM pg_largeobject", DENIED)),

    // Statistics hold values.
    probe("clerk", "SELECT count(*) FROM pg_stats WHERE tablename = 'notes'", "0"),
    by_server(probe("clerk", "SELECT count(*) FROM pg_stats_ext WHERE tablename = 'notes'", "0")),
    by_server(probe("clerk", "SELECT count(*) FROM pg_statistic", DENIED)),
    by_server(probe("clerk", "SELECT count(*) FROM pg_statistic_ext_data", DENIED)),
    probe("clerk", "SELECT count(*) FROM pg_stats WHERE tablename = 'notes' AND attname = 'secret'", "0"),

    // Masks.
    probe("auditor", "SELECT email, pay FROM notes ORDER BY id", "a*.org|0;b*.org|0"),
    probe("auditor", "SELECT id FROM notes WHERE email = 'ann@x.org' OR pay > 0", ""),
    probe("auditor", "SELECT id FROM notes ORDER BY pay DESC, id DESC LIMIT 1", "2"),
    probe("auditor", "SELECT count(*), pay FROM notes GROUP BY pay", "2|0"),
    probe("auditor", "SELECT a.id FROM notes a JOIN (VALUES ('bob@x.org')) v (email) USING (email)", ""),
    probe("auditor", "SELECT notes FROM notes WHERE id = 1", "(1,1,ann,hello,s1,0,a*.org,f)"),
    probe("auditor", leaky!("SELECT count(*) FROM notes WHERE pg_temp.leak(email)"), "2"),
    probe("auditor", leaky!("SELECT count(*) FROM notes WHERE pg_temp.leak(body) AND pg_temp.leak(email)"), "2"),
    probe("auditor", "SELECT email FROM public.notes", DENIED),
    probe("auditor", "SELECT id FROM public.notes ORDER BY pay", DENIED),
    probe("auditor", "SELECT p FROM public.notes p", DENIED),
    probe("auditor", "UPDATE notes SET id = id", DENIED),
    probe("auditor", "SELECT id FROM notes FOR UPDATE", DENIED),
    probe("auditor", "SELECT count(*) FROM pg_stats WHERE attname = 'email' AND tablename = 'notes'", "0"),
    probe("auditor", "CREATE OR REPLACE VIEW notes AS SELECT 1", DENIED),
];

#[tokio::test]
async fn what_a_service_gets_is_what_the_policy_gives() {
    let office = Office::open().await;
    let version = office.lab.database.cluster().server_version();
    let probes: Vec<&Probe> = PROBES.iter().filter(|p| p.since <= version).collect();
    let mut wrong = Vec::new();
    for role in ["clerk", "admin", "auditor"] {
        let session = office.session(role, 1);
        let mut client = office.connect(&[role]).await;
        session.enter(&client).await.unwrap();
        for probe in probes.iter().filter(|p| p.role == role) {
            let answer = ask(&mut client, &session, probe.statements).await;
            if answer != probe.holds {
                wrong.push(format!("{role}: {} gave {answer}, not {}", probe.statements, probe.holds));
            }
        }
    }
    assert!(wrong.is_empty(), "PostgreSQL {version}\n{}", wrong.join("\n"));

    // The same roles without the policy: every probe notices, but for what the server alone refuses.
    office.unprotect().await;
    for role in ["clerk", "admin", "auditor"] {
        let session = office.session(role, 1);
        let mut client = office.connect(&[role]).await;
        session.enter(&client).await.unwrap();
        for probe in probes.iter().filter(|p| p.role == role) {
            let same = ask(&mut client, &session, probe.statements).await == probe.holds;
            if same != probe.by_server {
                let notices = if same { "does not notice" } else { "notices" };
                wrong.push(format!("{role}: {} {notices}", probe.statements));
            }
        }
    }
    assert!(wrong.is_empty(), "PostgreSQL {version}\n{}", wrong.join("\n"));
}
