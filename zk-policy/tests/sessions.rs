//! Sessions on pooled connections: one round trip to begin, and nothing left behind however they end.
#![cfg(feature = "deadpool")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use deadpool_postgres::{Manager, ManagerConfig, Pool, PoolBuilder, RecyclingMethod};
use testkit::Database;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::Client;
use tokio_postgres::tls::MakeTlsConnect;
use zk_policy::pg::{self, ApplyConfig, ClaimKey, Connection, Error, ErrorKind, SessionTransaction};
use zk_policy::{Consent, Document, Policy, Session, check};

const RULES: &str = "
  role clerk
  role boss
  role guest
  claim tenant: int8
  claim regions: text[]
  table notes {
    tenant tenant = claim.tenant
    allow clerk select where region in claim.regions or region is null
    allow boss select, update
    allow guest select
    mask region for guest as 'masked'
  }";

struct Lab {
    database: Database,
    policy: Policy,
    /// Signs the claims of a policy that wants them signed.
    key: Option<ClaimKey>,
    login: String,
}

impl Lab {
    async fn create(signed: bool) -> Self {
        let database = Database::create().await.unwrap();
        let name = testkit::unique_name("s");
        let (admin, login) = (format!("{name}_owner"), format!("{name}_login"));
        let setup = format!(
            "CREATE ROLE {admin} LOGIN CREATEROLE PASSWORD 'x'; ALTER DATABASE {} OWNER TO {admin};
             CREATE ROLE {login} LOGIN NOINHERIT PASSWORD 'x'",
            database.name()
        );
        database.execute(&setup).await.unwrap();
        let mut owner = database.connect_as(&admin, "x").await.unwrap();
        let table = "CREATE TABLE notes (id int8 PRIMARY KEY, tenant int8 NOT NULL, region text);
                     INSERT INTO notes VALUES (1, 1, NULL), (2, 2, NULL), (3, 1, 'a.b')";
        owner.batch_execute(table).await.unwrap();
        let text = format!("policy {name} {RULES} {}", if signed { "claims signed" } else { "" });
        let schema = pg::read_schema(&mut owner).await.unwrap();
        let policy = check(&Document::parse(&text).unwrap(), &schema).unwrap();
        let key = signed.then(|| ClaimKey::generate().unwrap());
        if let Some(key) = &key {
            pg::install_signing(&owner).await.unwrap();
            pg::add_claim_key(&owner, key).await.unwrap();
        }
        let plan = pg::plan(&mut owner, &policy).await.unwrap().accept(Consent::Widening).unwrap();
        pg::apply(&mut owner, plan, &ApplyConfig::default()).await.unwrap();
        database.execute(&format!("GRANT {name}_clerk, {name}_boss, {name}_guest TO {login}")).await.unwrap();
        Self { database, policy, key, login }
    }

    fn session(&self, role: &str, tenant: i64) -> Session {
        let session = Session::new(&self.policy, role).unwrap().claim("tenant", tenant).unwrap();
        session.claim("regions", ["x", "a.b"].as_slice()).unwrap()
    }

    /// Begins as the policy wants it: plain or signed.
    async fn begin<'c, C: Connection>(
        &self,
        session: &Session,
        connection: &'c mut C,
    ) -> Result<SessionTransaction<'c, C>, Error> {
        match &self.key {
            Some(key) => session.signed(key).begin(connection).await,
            None => session.begin(connection).await,
        }
    }

    fn pool(&self, role: &str) -> Pool {
        self.builder(role).build().unwrap()
    }

    /// One connection, so that whoever comes next gets what was left behind.
    fn builder(&self, role: &str) -> PoolBuilder {
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let config =
            Manager::from_config(self.database.config(&self.login, "x"), self.database.tls(), config);
        let entered = pg::enters(&self.policy, role).unwrap();
        Pool::builder(config).max_size(1).post_create(entered)
    }
}

/// SQL that somebody got to run on a connection lies in wait for whoever has it next, whose claims are signed.
#[tokio::test]
async fn what_lies_in_wait_on_a_connection_is_gone_before_it_is_lent_again() {
    let lab = Lab::create(true).await;
    const ASKED: &str = "SELECT id FROM notes ORDER BY id";
    let traps = [
        "CREATE TEMP TABLE notes AS SELECT 666::int8 AS id",
        "CREATE TEMP VIEW notes AS SELECT 666::int8 AS id",
        "DO $$ DECLARE s text; BEGIN
           SELECT name INTO STRICT s FROM pg_prepared_statements WHERE statement LIKE '%ORDER BY id' AND NOT from_sql;
           EXECUTE format('DEALLOCATE %I', s); EXECUTE format('PREPARE %I AS SELECT 666::int8 AS id', s); END $$",
        "SET search_path = pg_temp; CREATE TEMP TABLE notes AS SELECT 666::int8 AS id",
        "SET standard_conforming_strings = off",
    ];
    for cleans in [false, true] {
        for trap in traps {
            let mut builder = lab.builder("clerk");
            if cleans {
                builder = builder.post_recycle(pg::cleans(&lab.policy, "clerk").unwrap());
            }
            let pool = builder.build().unwrap();
            let (one, two) = (lab.session("clerk", 1), lab.session("clerk", 2));
            let mut connection = pool.get().await.unwrap();
            let transaction = lab.begin(&one, &mut connection).await.unwrap();
            let statement = transaction.prepare_cached(ASKED).await.unwrap();
            transaction.query(&statement, &[]).await.unwrap();
            // What is injected ends with a COMMIT of its own.
            transaction.batch_execute(trap).await.unwrap_or_else(|error| panic!("{trap}: {error:?}"));
            transaction.commit().await.unwrap();
            drop(connection);

            let mut connection = pool.get().await.unwrap();
            let transaction = lab.begin(&two, &mut connection).await.unwrap();
            let strings: String =
                transaction.query_one("SHOW standard_conforming_strings", &[]).await.unwrap().get(0);
            let statement = transaction.prepare_cached(ASKED).await.unwrap();
            let seen: Vec<i64> =
                transaction.query(&statement, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
            let is_caught = seen == [666] || strings == "off";
            assert_eq!(is_caught, !cleans, "{trap}: {seen:?}, {strings}");
        }
    }
}

/// Cleaning resets the search path, on which the views of masked columns come first.
#[tokio::test]
async fn a_role_with_masks_has_them_after_its_connection_was_cleaned() {
    const ASKED: &str = "SELECT DISTINCT region FROM notes";
    let lab = Lab::create(true).await;
    // By default a schema of the role's own name is on the path in any case.
    lab.database.execute(&format!("ALTER ROLE {} SET search_path = public", lab.login)).await.unwrap();
    let cleaned = lab.builder("guest").post_recycle(pg::cleans(&lab.policy, "guest").unwrap());
    let (pool, guest) = (cleaned.build().unwrap(), lab.session("guest", 1));
    for trap in ["", "SET search_path = public", "CREATE TEMP TABLE notes AS SELECT 'seen'::text AS region"] {
        for turn in 0..2 {
            let mut connection = pool.get().await.unwrap();
            let transaction = lab.begin(&guest, &mut connection).await.unwrap();
            let rows = transaction.query(ASKED, &[]).await.unwrap();
            let seen: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            assert_eq!(seen, ["masked"], "{trap}, turn {turn}");
            transaction.batch_execute(trap).await.unwrap();
            transaction.commit().await.unwrap();
        }
    }
}

async fn notes(client: &Client) -> Vec<i64> {
    let rows = client.query("SELECT id FROM notes ORDER BY id", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// That the connection is in no transaction, holds no claims, and acts as the role of its pool.
async fn assert_clean(pool: &Pool, role: &str, told: &str) {
    let client = pool.get().await.unwrap();
    // Refused within a transaction; else it does nothing, with a warning.
    client.batch_execute("VACUUM notes").await.unwrap_or_else(|error| panic!("{told}: {error:?}"));
    let left = "SELECT concat_ws('|', current_user, nullif(current_setting('zk.tenant', true), ''),
                       nullif(current_setting('zk.regions', true), ''), nullif(current_setting('zk.signed', true), ''))";
    let left: String = client.query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(left, role, "{told}");
    assert!(notes(&client).await.is_empty(), "{told}");
}

/// Runs a future until it waits for the `stop`th time, and then drops it.
async fn until_it_waits<F: Future>(future: F, stop: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut waited = 0;
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if waited == stop => Poll::Ready(None),
        Poll::Pending => {
            waited += 1;
            Poll::Pending
        }
    })
    .await
}

async fn given_up_at_every_await(signed: bool) {
    let lab = Lab::create(signed).await;
    let session = lab.session("clerk", 1);
    let pool = lab.pool("clerk");
    let work = || async {
        let mut client = pool.get().await.unwrap();
        let transaction = lab.begin(&session, &mut client).await.unwrap();
        let seen = notes(&transaction).await;
        transaction.commit().await.unwrap();
        seen
    };
    let mut stop = 0;
    loop {
        let done = until_it_waits(work(), stop).await;
        assert_clean(&pool, session.database_role(), &format!("given up at {stop}")).await;
        if let Some(seen) = done {
            assert_eq!(seen, [1, 3]);
            break;
        }
        stop += 1;
    }
    assert!(stop >= 3, "beginning, asking and committing wait: {stop}");
}

#[tokio::test]
async fn a_session_given_up_at_any_await_leaves_nothing_behind() {
    given_up_at_every_await(false).await;
}

#[tokio::test]
async fn a_signed_session_given_up_at_any_await_leaves_nothing_behind() {
    given_up_at_every_await(true).await;
}

#[tokio::test]
async fn a_session_that_is_dropped_or_fails_leaves_nothing_behind() {
    for signed in [false, true] {
        let lab = Lab::create(signed).await;
        let session = lab.session("boss", 2);
        let pool = lab.pool("boss");
        for statement in ["SELECT 1", "SELECT 1/0", "ROLLBACK", "SET LOCAL statement_timeout = 1"] {
            let mut client = pool.get().await.unwrap();
            let transaction = lab.begin(&session, &mut client).await.unwrap();
            assert_eq!(notes(&transaction).await, [2]);
            let _refused = transaction.batch_execute(statement).await;
            drop(transaction);
            drop(client);
            assert_clean(&pool, session.database_role(), statement).await;
        }
        let mut client = pool.get().await.unwrap();
        let cached = lab.begin(&session, &mut client).await.unwrap();
        let statement = cached.prepare_cached("SELECT id FROM notes").await.unwrap();
        assert_eq!(cached.query(&statement, &[]).await.unwrap().len(), 1);
        cached.rollback().await.unwrap();
    }
}

/// The last statement commits with it what was done before. One that fails commits nothing, whether the server refuses it or
/// this side, before it is sent.
#[tokio::test]
async fn the_last_statement_commits_unless_it_fails() {
    for signed in [false, true] {
        let lab = Lab::create(signed).await;
        let session = lab.session("boss", 2);
        let pool = lab.pool("boss");
        let region = async || {
            let mut client = pool.get().await.unwrap();
            let statement = client.prepare_cached("SELECT region FROM notes").await.unwrap();
            let transaction = lab.begin(&session, &mut client).await.unwrap();
            let rows = transaction.query_and_commit(&statement, &[]).await.unwrap();
            assert_clean_soon(client, &pool, &session).await;
            rows[0].get::<_, Option<String>>(0)
        };
        let set = "UPDATE notes SET region = $1 WHERE id = 2";
        let divide = "SELECT 1 / $1::int4";
        let (zero, text) = (0_i32, "1");
        for (statement, parameter, code) in [
            (divide, &zero as &(dyn tokio_postgres::types::ToSql + Sync), Some("22012")),
            (divide, &text, None),
        ] {
            let mut client = pool.get().await.unwrap();
            let (set, last) =
                (client.prepare_cached(set).await.unwrap(), client.prepare_cached(statement).await.unwrap());
            let transaction = lab.begin(&session, &mut client).await.unwrap();
            assert_eq!(transaction.execute(&set, &[&"lost"]).await.unwrap(), 1);
            let error = transaction.query_and_commit(&last, &[parameter]).await.unwrap_err();
            assert_eq!(error.code().map(|code| code.code()), code, "{error}");
            assert_clean_soon(client, &pool, &session).await;
            assert_eq!(region().await, None);
        }
        let mut client = pool.get().await.unwrap();
        let statement = client.prepare_cached(set).await.unwrap();
        let transaction = lab.begin(&session, &mut client).await.unwrap();
        assert_eq!(transaction.execute_and_commit(&statement, &[&"kept"]).await.unwrap(), 1);
        assert_clean_soon(client, &pool, &session).await;
        assert_eq!(region().await.as_deref(), Some("kept"));
    }
}

async fn assert_clean_soon(client: deadpool_postgres::Client, pool: &Pool, session: &Session) {
    drop(client);
    assert_clean(pool, session.database_role(), "after the last statement").await;
}

#[tokio::test]
async fn a_session_begins_in_its_own_role_only() {
    let lab = Lab::create(false).await;
    let pool = lab.pool("clerk");
    let boss = lab.session("boss", 1);
    let mut client = pool.get().await.unwrap();
    let error = boss.begin(&mut client).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::WrongRole, "{error}");
    drop(client);
    assert_clean(&pool, lab.session("clerk", 1).database_role(), "refused").await;
    assert!(pg::enters(&lab.policy, "root").is_err());
}

/// A stream that counts how often the client speaks after the server did: a round trip each.
struct Counting {
    stream: TcpStream,
    trips: Arc<AtomicUsize>,
    /// Whether the server spoke last.
    answered: AtomicBool,
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.answered.fetch_or(read.is_ready(), Ordering::SeqCst);
        read
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.answered.swap(false, Ordering::SeqCst) {
            self.trips.fetch_add(1, Ordering::SeqCst);
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[tokio::test]
async fn beginning_takes_one_round_trip() {
    for signed in [false, true] {
        let lab = Lab::create(signed).await;
        let session = lab.session("clerk", 1);
        let trips = Arc::new(AtomicUsize::new(0));
        let stream = TcpStream::connect(("127.0.0.1", lab.database.port())).await.unwrap();
        let stream = Counting { stream, trips: Arc::clone(&trips), answered: AtomicBool::new(false) };
        let tls = MakeTlsConnect::<Counting>::make_tls_connect(&mut lab.database.tls(), "localhost").unwrap();
        let config = lab.database.config(&lab.login, "x");
        let (mut client, connection) = config.connect_raw(stream, tls).await.unwrap();
        tokio::spawn(connection);
        session.enter(&client).await.unwrap();
        let statement = client.prepare("SELECT id FROM notes").await.unwrap();

        let before = trips.load(Ordering::SeqCst);
        let transaction = lab.begin(&session, &mut client).await.unwrap();
        assert_eq!(trips.load(Ordering::SeqCst) - before, 1, "signed: {signed}");
        let rows = transaction.query(&statement, &[]).await.unwrap();
        assert_eq!(trips.load(Ordering::SeqCst) - before, 2, "signed: {signed}");
        assert_eq!(rows.len(), 2);
        transaction.commit().await.unwrap();
        assert_eq!(trips.load(Ordering::SeqCst) - before, 3, "signed: {signed}");

        let transaction = lab.begin(&session, &mut client).await.unwrap();
        assert_eq!(transaction.query_and_commit(&statement, &[]).await.unwrap().len(), 2);
        assert_eq!(trips.load(Ordering::SeqCst) - before, 5, "begin, and everything else: signed: {signed}");
    }
}
