//! What a taken-over service, or another login of the server, tries.

use std::time::Duration;

use secrecy::ExposeSecret;
use testkit::Database;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use zk_creds::postgres::{Endpoint, Issuer, Login};
use zk_creds::{Credential, Error, ErrorKind};

use super::shop::{Shop, assert_kind};

// --- Sessions -----------------------------------------------------------------------------------------------------

/// Opens a session that holds its start up for `seconds` after it has authenticated and has become its role.
fn connect_slowly(
    shop: &Shop,
    credential: &Credential,
    seconds: u32,
) -> JoinHandle<Result<Client, tokio_postgres::Error>> {
    let mut config = shop.database.config(&credential.lease().login, credential.password().expose_secret());
    config.options(format!("-c post_auth_delay={seconds} -c role={}", shop.role));
    let tls = shop.database.tls();
    tokio::spawn(async move {
        let (client, connection) = config.connect(tls).await?;
        tokio::spawn(connection);
        Ok(client)
    })
}

/// Waits until so many sessions have authenticated and are not shown as anybody's.
async fn until_starting(shop: &Shop, sessions: i64) {
    let superuser = shop.database.connect().await.unwrap();
    // In the first second after its process started, a session may still be authenticating.
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let row = superuser
            .query_one(
                "SELECT count(DISTINCT l.pid) FROM pg_locks l WHERE l.locktype = 'virtualxid' AND NOT EXISTS
                   (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.usesysid IS NOT NULL)",
                &[],
            )
            .await
            .unwrap();
        if row.get::<_, i64>(0) == sessions {
            // Authentication takes a few milliseconds more, the delay takes seconds.
            return tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    panic!("the sessions did not start");
}

/// A session that was told to end while it starts may still say that it has started.
async fn assert_goes_on(session: JoinHandle<Result<Client, tokio_postgres::Error>>) {
    let client = session.await.unwrap().unwrap();
    assert!(client.batch_execute("SELECT 1").await.is_ok(), "the session of another service goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_still_starting_ends_too() {
    for mut shop in Shop::on_every_version().await {
        let credential = shop.issue().await;
        let other = shop.issuer.issue(&mut shop.admin, &shop.manifest.services[1]).await.unwrap();
        let starting = connect_slowly(&shop, &credential, 8);
        let of_other = connect_slowly(&shop, &other, 8);
        until_starting(&shop, 2).await;
        shop.revoke(&credential).await.unwrap();
        let version = shop.database.cluster().server_version();
        assert!(shop.logins().await.iter().all(|login| *login == other.lease().login));
        match starting.await.unwrap() {
            Err(_) => {}
            Ok(client) => {
                let read = client.query("SELECT v FROM stock", &[]).await;
                assert!(read.is_err(), "on PostgreSQL {version} the session outlived its login");
            }
        }
        assert_goes_on(of_other).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_powerful_issuer_ends_nobody_elses_starting_session() {
    let mut shop = Shop::create().await;
    let credential = shop.issue().await;
    let other = shop.issuer.issue(&mut shop.admin, &shop.manifest.services[1]).await.unwrap();
    let name: String = shop.admin.query_one("SELECT current_user::text", &[]).await.unwrap().get(0);
    shop.database.execute(&format!("ALTER ROLE {name} SUPERUSER")).await.unwrap();
    let of_other = connect_slowly(&shop, &other, 5);
    until_starting(&shop, 1).await;
    shop.revoke(&credential).await.unwrap();
    assert_goes_on(of_other).await;
}

// --- What a login leaves behind -----------------------------------------------------------------------------------

const RUN: &str = "CREATE FUNCTION public.run(command text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
                   AS $$ BEGIN EXECUTE command; RETURN current_user; END $$";

/// Revoking a login that ran `left_behind` is refused, has ended access, and succeeds after `cleared` by the issuer.
async fn check_blocked(left_behind: &str, named: &str, cleared: &str) {
    let mut shop = Shop::create().await;
    let credential = shop.issue().await;
    let login = credential.lease().login.clone();
    shop.admin.batch_execute(&format!("GRANT CREATE ON SCHEMA public TO {login}")).await.unwrap();
    let session = shop.connect(&credential).await.unwrap();
    session.batch_execute(left_behind).await.unwrap();
    let error = assert_kind(shop.revoke(&credential).await, ErrorKind::Blocked);
    assert!(error.to_string().contains(named), "{error}");
    assert!(session.batch_execute("SELECT 1").await.is_err());
    assert_kind(shop.connect(&credential).await, ErrorKind::Denied);
    assert_eq!(shop.logins().await, [login]);
    shop.admin.batch_execute(cleared).await.unwrap();
    assert_eq!(shop.reap().await.len(), 1);
    assert!(shop.logins().await.is_empty());
}

#[tokio::test]
async fn functions_are_not_handed_on() {
    check_blocked(RUN, "function public.run(text)", "DROP FUNCTION public.run").await;
}

#[tokio::test]
async fn views_are_not_handed_on() {
    check_blocked("CREATE VIEW public.peek AS SELECT 1 AS one", "view public.peek", "DROP VIEW public.peek")
        .await;
}

#[tokio::test]
async fn tables_with_rules_and_policies_are_not_handed_on() {
    let table = "CREATE TABLE public.t (v int)";
    let drop = "DROP TABLE public.t";
    let rule = format!("{table}; CREATE RULE r AS ON INSERT TO public.t DO ALSO SELECT 1");
    check_blocked(&rule, "rule r on table public.t", drop).await;
    let policy = format!("{table}; CREATE POLICY p ON public.t USING (true)");
    check_blocked(&policy, "policy p on table public.t", drop).await;
}

/// A trigger or an expression may call a function of somebody else, so that the login owns no function itself.
#[tokio::test]
async fn tables_that_call_functions_are_not_handed_on() {
    let mut shop = Shop::create().await;
    let stranger = shop.stranger().await;
    stranger
        .batch_execute(
            "CREATE FUNCTION public.trap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE FUNCTION public.idem(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'",
        )
        .await
        .unwrap();
    for (table, named) in [
        (
            "CREATE TABLE t (v int); CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION trap()",
            "trigger x",
        ),
        ("CREATE TABLE t (v int); CREATE INDEX i ON t (idem(v))", "index public.i"),
        ("CREATE TABLE t (v int DEFAULT idem(1))", "default value for column v"),
        ("CREATE TABLE t (v int CONSTRAINT c CHECK (idem(v) > 0))", "constraint c"),
    ] {
        let credential = shop.issue().await;
        let login = &credential.lease().login;
        shop.admin.batch_execute(&format!("GRANT CREATE ON SCHEMA public TO {login}")).await.unwrap();
        shop.connect(&credential).await.unwrap().batch_execute(table).await.unwrap();
        let error = assert_kind(shop.revoke(&credential).await, ErrorKind::Blocked);
        assert!(error.to_string().contains(named), "{error}");
        shop.admin.batch_execute("DROP TABLE public.t").await.unwrap();
        shop.revoke(&credential).await.unwrap();
    }
}

#[tokio::test]
async fn nobody_can_become_the_estate() {
    for mut shop in Shop::on_every_version().await {
        let estate = format!("zk_{}_estate", shop.solution());
        let first = shop.issue().await;
        let second = shop.issuer.issue(&mut shop.admin, &shop.manifest.services[1]).await.unwrap();
        for credential in [&first, &second] {
            let session = shop.connect(credential).await.unwrap();
            session.query_one("SELECT lo_create(0)", &[]).await.unwrap();
        }
        shop.revoke(&first).await.unwrap();
        let row = shop
            .admin
            .query_one(
                "SELECT rolcanlogin OR rolinherit, pg_has_role(current_user, oid, 'USAGE'),
                        (SELECT count(*) FROM pg_largeobject_metadata WHERE lomowner = r.oid)
                 FROM pg_roles r WHERE rolname = $1::text::name",
                &[&estate],
            )
            .await
            .unwrap();
        assert_eq!((row.get(0), row.get(1), row.get(2)), (false, false, 1_i64));

        // With a member, nothing more is handed to it; and no service may ask for it.
        shop.admin.batch_execute(&format!("GRANT {estate} TO {}", shop.role)).await.unwrap();
        assert_kind(shop.revoke(&second).await, ErrorKind::Blocked);
        let refused = shop.issuer.issue(&mut shop.admin, &shop.manifest.services[0]).await;
        assert!(assert_kind(refused, ErrorKind::Invalid).to_string().contains(&estate));
        shop.admin.batch_execute(&format!("REVOKE {estate} FROM {}", shop.role)).await.unwrap();
        shop.revoke(&second).await.unwrap();
    }
}

#[tokio::test]
async fn one_stuck_lease_does_not_keep_the_others() {
    let mut shop = Shop::create().await;
    let stuck = shop.issue().await;
    let other = shop.issuer.issue(&mut shop.admin, &shop.manifest.services[1]).await.unwrap();
    let second = shop.database.cluster().database().await.unwrap();
    let elsewhere = Endpoint { database: second.name().to_owned(), ..shop.endpoint() };
    let session = Login::of(elsewhere, &stuck).connect().await.unwrap();
    session.query_one("SELECT lo_create(0)", &[]).await.unwrap();
    let open = shop.connect(&other).await.unwrap();
    shop.clock.advance(Duration::from_secs(3600));

    let reaped = shop.issuer.reap(&mut shop.admin).await.unwrap();
    assert_eq!(reaped.ended.iter().map(|l| &l.login).collect::<Vec<_>>(), [&other.lease().login]);
    let [(lease, error)] = reaped.failed.as_slice() else { panic!("{:?}", reaped.failed) };
    assert_eq!((lease, error.kind()), (stuck.lease(), ErrorKind::Blocked));
    assert!(error.to_string().contains(&format!("other databases ({})", second.name())), "{error}");
    assert!(open.batch_execute("SELECT 1").await.is_err());
    assert!(session.batch_execute("SELECT 1").await.is_err());
    assert_kind(shop.connect(&stuck).await, ErrorKind::Denied);

    second.execute(&format!("DROP OWNED BY {}", stuck.lease().login)).await.unwrap();
    assert_eq!(shop.reap().await, [stuck.lease().login.clone()]);
}

#[tokio::test]
async fn a_lease_cannot_be_steered_at_another_role() {
    let mut shop = Shop::create().await;
    let credential = shop.issue().await;
    for name in [shop.role.clone(), format!("zk_{}_estate", shop.solution()), "postgres".to_owned()] {
        shop.admin.execute("UPDATE zk.leases SET login = $1::text::name", &[&name]).await.unwrap();
        assert_kind(shop.revoke(&credential).await, ErrorKind::Invalid);
    }
}

// --- Names --------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn nobody_runs_code_as_the_issuer() {
    let mut shop = Shop::create().await;
    let stranger = shop.stranger().await;
    stranger
        .batch_execute("CREATE TABLE caught (what text); GRANT INSERT ON caught TO PUBLIC")
        .await
        .unwrap();
    // Better matches, for some call, than what PostgreSQL itself has.
    for (name, arguments, result) in [
        ("hashtextextended", "text, integer", "bigint"),
        ("pg_advisory_xact_lock", "integer", "void"),
        ("pg_terminate_backend", "integer, bigint", "boolean"),
        ("pg_terminate_backend", "integer", "boolean"),
        ("current_setting", "text", "text"),
        ("to_char", "timestamp, text", "text"),
        ("to_char", "timestamp, unknown", "text"),
        ("make_interval", "double precision", "interval"),
        ("current_database", "", "name"),
        ("starts_with", "text, text", "boolean"),
        ("pg_has_role", "name, oid, text", "boolean"),
        ("max", "integer", "integer"),
    ] {
        let body = format!("INSERT INTO public.caught VALUES ('{name}') RETURNING NULL::{result}");
        let body =
            if result == "void" { "INSERT INTO public.caught VALUES ('void')".to_owned() } else { body };
        let create = format!(
            "CREATE FUNCTION public.{name}({arguments}) RETURNS {result} LANGUAGE sql AS $f${body}$f$"
        );
        // Not every type is allowed in a function's arguments.
        drop(stranger.batch_execute(&create).await);
    }
    stranger
        .batch_execute(
            "CREATE FUNCTION public.same(text, name) RETURNS boolean LANGUAGE sql
               AS $$INSERT INTO public.caught VALUES ('operator') RETURNING true$$;
             CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = name, FUNCTION = public.same);
             CREATE OPERATOR public.<> (LEFTARG = text, RIGHTARG = name, FUNCTION = public.same)",
        )
        .await
        .unwrap();
    shop.admin.batch_execute("SET search_path = public, pg_catalog").await.unwrap();
    let old = shop.issue().await;
    shop.issuer.renew(&mut shop.admin, old.lease()).await.unwrap();
    let new = shop.rotate(Duration::ZERO).await.unwrap();
    let open = shop.connect(&new).await.unwrap();
    shop.reap().await;
    shop.revoke(&new).await.unwrap();
    assert!(open.batch_execute("SELECT 1").await.is_err());
    shop.issuer.leases(&mut shop.admin).await.unwrap();
    let caught = stranger.query("SELECT what FROM caught", &[]).await.unwrap();
    assert!(caught.is_empty(), "{:?}", caught.iter().map(|r| r.get::<_, String>(0)).collect::<Vec<_>>());
}

// --- Roles --------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_role_that_leads_to_power_is_refused_with_its_path() {
    let mut shop = Shop::create().await;
    let admin: String = shop.admin.query_one("SELECT current_user::text", &[]).await.unwrap().get(0);
    let [mid, end] = ["mid", "end"].map(testkit::unique_name);
    shop.database
        .execute(&format!(
            "CREATE ROLE {end} NOLOGIN; CREATE ROLE {mid} NOLOGIN IN ROLE {end};
             GRANT {mid} TO {} ; GRANT {mid} TO {admin} WITH ADMIN OPTION",
            shop.role
        ))
        .await
        .unwrap();
    let path = format!("{} → {mid} → {end}", shop.role);
    let database = shop.database.name().to_owned();
    let elsewhere = shop.database.cluster().database().await.unwrap();
    for (power, told, undo) in [
        ("ALTER ROLE end SUPERUSER", "is a superuser", "ALTER ROLE end NOSUPERUSER"),
        ("ALTER ROLE end BYPASSRLS", "passes row-level security", "ALTER ROLE end NOBYPASSRLS"),
        ("ALTER ROLE end CREATEROLE", "may create roles", "ALTER ROLE end NOCREATEROLE"),
        ("ALTER ROLE end CREATEDB", "may create databases", "ALTER ROLE end NOCREATEDB"),
        ("ALTER ROLE end REPLICATION", "may replicate", "ALTER ROLE end NOREPLICATION"),
        ("ALTER ROLE end LOGIN", "may log in", "ALTER ROLE end NOLOGIN"),
        ("ALTER TABLE stock OWNER TO end", "owns table public.stock", "ALTER TABLE stock OWNER TO postgres"),
        ("CREATE SCHEMA s AUTHORIZATION end", "owns schema s", "DROP SCHEMA s"),
        ("ALTER DATABASE db OWNER TO end", "owns database", "ALTER DATABASE db OWNER TO postgres"),
    ] {
        let with_names =
            |sql: &str| sql.replace(" end", &format!(" {end}")).replace(" db ", &format!(" {database} "));
        let undo = undo.replace("postgres", &superuser(&shop.database).await);
        shop.database.execute(&with_names(power)).await.unwrap();
        let refused = shop.issuer.issue(&mut shop.admin, &shop.manifest.services[0]).await;
        let text = assert_kind(refused, ErrorKind::Invalid).to_string();
        assert!(text.contains(told) && text.contains(&path), "{text}");
        shop.database.execute(&with_names(&undo)).await.unwrap();
    }
    elsewhere.execute(&format!("CREATE TABLE t (v int); ALTER TABLE t OWNER TO {end}")).await.unwrap();
    let refused = shop.issuer.issue(&mut shop.admin, &shop.manifest.services[0]).await;
    assert!(assert_kind(refused, ErrorKind::Invalid).to_string().contains("in another database"));
    elsewhere.execute("DROP TABLE t").await.unwrap();

    shop.database.execute(&format!("GRANT pg_execute_server_program TO {end}")).await.unwrap();
    let refused = shop.issuer.issue(&mut shop.admin, &shop.manifest.services[0]).await;
    let text = assert_kind(refused, ErrorKind::Invalid).to_string();
    assert!(text.contains(&format!("{path} → pg_execute_server_program")), "{text}");
    shop.database.execute(&format!("REVOKE pg_execute_server_program FROM {end}")).await.unwrap();

    // A temporary table is nothing to guard, and must not let a service stop all issuing.
    let credential = shop.issue().await;
    let session = shop.connect(&credential).await.unwrap();
    session.batch_execute(&format!("SET ROLE {}; CREATE TEMP TABLE x (v int)", shop.role)).await.unwrap();
    shop.issue().await;
}

async fn superuser(database: &Database) -> String {
    database.connect().await.unwrap().query_one("SELECT current_user::text", &[]).await.unwrap().get(0)
}

// --- Locks and squatters ------------------------------------------------------------------------------------------

#[tokio::test]
async fn no_login_can_hold_up_issuing() {
    let mut shop = Shop::create().await;
    let credential = shop.issue().await;
    let session = shop.connect(&credential).await.unwrap();
    session
        .batch_execute(&format!(
            "SELECT pg_advisory_lock(hashtextextended('zk:{0}:orders', 0)),
                    pg_advisory_lock(hashtextextended('zk:{0}:billing', 0))",
            shop.solution()
        ))
        .await
        .unwrap();
    for mode in ["ACCESS SHARE", "ROW SHARE", "ACCESS EXCLUSIVE"] {
        let locked = session.batch_execute(&format!("BEGIN; LOCK TABLE zk.leases IN {mode} MODE")).await;
        assert_eq!(locked.unwrap_err().code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
        session.batch_execute("ROLLBACK").await.unwrap();
    }
    let issued = shop.issuer.issue(&mut shop.admin, &shop.manifest.services[1]);
    tokio::time::timeout(Duration::from_secs(10), issued).await.expect("it does not wait").unwrap();
}

#[tokio::test]
async fn waiting_for_another_issuer_ends() {
    let mut shop = Shop::create().await;
    let superuser = shop.database.connect().await.unwrap();
    superuser.batch_execute("BEGIN; LOCK TABLE zk.leases IN SHARE ROW EXCLUSIVE MODE").await.unwrap();
    let issued = shop.issuer.issue(&mut shop.admin, &shop.manifest.services[0]).await;
    let error: Error = assert_kind(issued, ErrorKind::Conflict);
    assert!(error.is_transient() && error.to_string().contains("pg_blocking_pids"), "{error}");
    superuser.batch_execute("ROLLBACK").await.unwrap();
    shop.issue().await;
}

#[tokio::test]
async fn a_table_of_leases_that_somebody_else_made_is_refused() {
    let database = Database::create().await.unwrap();
    let [squatter, admin] = ["squatter", "admin"].map(testkit::unique_name);
    database
        .execute(&format!(
            "CREATE ROLE {squatter} LOGIN PASSWORD 'x'; CREATE ROLE {admin} LOGIN CREATEROLE PASSWORD 'x';
             GRANT CREATE ON DATABASE {0} TO {squatter}, {admin}",
            database.name()
        ))
        .await
        .unwrap();
    let squatter_client = database.connect_as(&squatter, "x").await.unwrap();
    squatter_client.batch_execute("CREATE SCHEMA zk; GRANT ALL ON SCHEMA zk TO PUBLIC").await.unwrap();
    let mut client = database.connect_as(&admin, "x").await.unwrap();
    let error = assert_kind(Issuer::install(&mut client).await, ErrorKind::Denied);
    assert!(error.to_string().contains(&squatter), "{error}");

    squatter_client.batch_execute(include_str!("../../src/postgres/tables.sql")).await.unwrap();
    squatter_client.batch_execute("GRANT ALL ON zk.leases, zk.audit, zk.grants TO PUBLIC").await.unwrap();
    assert_kind(Issuer::install(&mut client).await, ErrorKind::Denied);
    // Before PostgreSQL 16 a login may make the issuer a member of itself; that does not make its table ours.
    drop(squatter_client.batch_execute(&format!("GRANT {squatter} TO {admin}")).await);
    assert_kind(Issuer::install(&mut client).await, ErrorKind::Denied);
    database.execute(&format!("ALTER ROLE {admin} SUPERUSER")).await.unwrap();
    assert_kind(Issuer::install(&mut client).await, ErrorKind::Denied);
}

#[tokio::test]
async fn a_trigger_on_the_leases_stops_every_call() {
    let mut shop = Shop::create().await;
    let credential = shop.issue().await;
    shop.admin
        .batch_execute(
            "CREATE FUNCTION public.t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER t BEFORE UPDATE ON zk.leases FOR EACH ROW EXECUTE FUNCTION public.t()",
        )
        .await
        .unwrap();
    assert_kind(Issuer::install(&mut shop.admin).await, ErrorKind::Denied);
    assert_kind(shop.rotate(Duration::ZERO).await, ErrorKind::Denied);
    assert_kind(shop.issuer.renew(&mut shop.admin, credential.lease()).await, ErrorKind::Denied);
    assert_kind(shop.revoke(&credential).await, ErrorKind::Denied);
    assert_kind(shop.issuer.reap(&mut shop.admin).await, ErrorKind::Denied);
}

// --- Time ---------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_renewal_does_not_undo_a_rotation() {
    let mut shop = Shop::create().await;
    let old = shop.issue().await;
    shop.rotate(Duration::from_secs(5)).await.unwrap();
    let renewed = shop.issuer.renew(&mut shop.admin, old.lease()).await.unwrap();
    assert_eq!(renewed.expires_at, old.lease().issued_at + Duration::from_secs(5));
    shop.clock.advance(Duration::from_secs(5));
    assert_eq!(shop.reap().await, [old.lease().login.clone()]);
    shop.rotate(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn no_number_is_too_large_to_be_refused_or_kept() {
    let mut shop = Shop::create().await;
    for (lifetime, max) in [(u64::MAX, u64::MAX), (1, u64::MAX), (0, 1), (2, 1)] {
        let mut service = shop.manifest.services[0].clone();
        (service.lifetime_seconds, service.max_lifetime_seconds) = (lifetime, max);
        assert_kind(shop.issuer.issue(&mut shop.admin, &service).await, ErrorKind::Invalid);
        assert_kind(shop.issuer.rotate(&mut shop.admin, &service, Duration::ZERO).await, ErrorKind::Invalid);
    }
    let mut service = shop.manifest.services[0].clone();
    service.name = "x".repeat(80);
    assert_kind(shop.issuer.issue(&mut shop.admin, &service).await, ErrorKind::Invalid);

    let old = shop.issue().await;
    shop.rotate(Duration::MAX).await.unwrap();
    let leases = shop.issuer.leases(&mut shop.admin).await.unwrap();
    assert_eq!(leases[0].expires_at, old.lease().expires_at, "a rotation never lengthens a lease");
}
