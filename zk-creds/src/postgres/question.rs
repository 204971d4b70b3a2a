//! What is asked in every transaction: prepared once for a connection, because planning takes longer than answering.
//! [`begin`](super::begin) prepares it.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use postgres_protocol::escape::escape_literal;
use tokio_postgres::Row;

use super::roles::MEMBERSHIPS;
use super::transaction::Transaction;
use crate::error::Error;

/// A statement with the types of its parameters.
///
/// It is prepared by SQL, and not through the client: whose connection it is, only the server knows. The settings of
/// [`opening`](super::transaction::opening) hold when it is prepared and whenever it is asked, so names in it mean the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    label: &'static str,
    types: &'static str,
    parts: &'static [&'static str],
}

/// All of them: what a transaction goes on to ask has been prepared when it begins.
pub(super) const QUESTIONS: [&Question; 7] = [&VERIFY, &REACHED, &NEXT, &CLOSING, &LOCKS, &SHOWN, &RECORD];

/// Says what all of them are, so that two versions of this crate behind one pooler do not take each other's: a connection
/// knows all questions of a version, or none.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut context = digest::Context::new(&digest::SHA256);
    for question in QUESTIONS {
        context.update(question.preparation("").as_bytes());
    }
    // Half of it, since names have 63 bytes.
    let hash = context.finish();
    HEXLOWER.encode(hash.as_ref().get(..16).unwrap_or_default())
});

impl Question {
    /// A name among questions, the types of its parameters, and the statement in parts that belong together.
    pub(super) const fn new(
        label: &'static str,
        types: &'static str,
        parts: &'static [&'static str],
    ) -> Self {
        Self { label, types, parts }
    }

    pub(super) fn sql(&self) -> String {
        self.parts.concat()
    }

    /// Asks in a transaction of [`Issuer::begin`](super::Issuer) and the like, which see to it that it is prepared.
    pub(super) async fn ask(
        &self,
        transaction: &Transaction<'_>,
        values: &[String],
    ) -> Result<Vec<Row>, Error> {
        Ok(transaction.query_typed(&self.statement(values), &[]).await?)
    }

    /// The statement that asks, of values that [`text`] and [`texts`] wrote.
    pub(super) fn statement(&self, values: &[String]) -> String {
        match values {
            [] => format!("EXECUTE {}", self.name()),
            values => format!("EXECUTE {} ({})", self.name(), values.join(", ")),
        }
    }

    pub(super) fn name(&self) -> String {
        format!("zk_creds_{}_{}", *VERSION, self.label)
    }

    pub(super) fn preparation(&self, name: &str) -> String {
        let types = if self.types.is_empty() { String::new() } else { format!(" ({})", self.types) };
        format!("PREPARE {name}{types} AS {};", self.sql())
    }
}

/// A text as SQL.
pub(super) fn text(value: &str) -> String {
    escape_literal(value)
}

/// An array of texts as SQL.
pub(super) fn texts(values: &[&str]) -> String {
    let values: Vec<String> = values.iter().map(|value| escape_literal(value)).collect();
    format!("ARRAY[{}]::text[]", values.join(", "))
}

/// The columns that make a lease, in the order in which they are read.
pub(super) const LEASE: &str = "id, service, generation, login::text, issued_at, expires_at, max_expires_at";

/// What tables of the schema `zk` are, whose, and who asks; at least one row.
pub(super) const VERIFY: Question = Question::new(
    "tables",
    "text[]",
    &["SELECT t.relname, t.relowner, t.nspowner, t.plain, me.oid, me.rolsuper OR me.rolcreaterole,
            pg_catalog.current_setting('server_version_num')::int4 / 10000, pg_catalog.clock_timestamp()
     FROM pg_catalog.pg_roles me LEFT JOIN (
       SELECT c.relname::text, c.relowner, n.nspowner,
              c.relkind = 'r' AND c.relpersistence = 'p'
                AND NOT (c.relrowsecurity OR c.relispartition OR c.relhastriggers OR c.relhasrules OR c.relhassubclass)
                AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid) AS plain
       FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid
       WHERE n.nspname = 'zk' AND c.relname = ANY ($1::text[]::name[])
     ) AS t ON true
     WHERE me.rolname = current_user"],
);

/// The roles of these names, all that they are members of, and what keeps a service from becoming one. A role that owns
/// something passes its row-level security and may change its rules.
pub(super) const REACHED: Question = Question::new(
    "reached",
    "text[], text",
    &["WITH RECURSIVE reached (oid) AS (
       SELECT oid FROM pg_catalog.pg_roles WHERE rolname = ANY ($1::text[]::name[])
       UNION SELECT m.roleid FROM pg_catalog.pg_auth_members m JOIN reached ON m.member = reached.oid
     )
     SELECT r.rolname::text,
            CASE WHEN r.rolsuper THEN 'is a superuser'
                 WHEN r.rolbypassrls THEN 'passes row-level security'
                 WHEN r.rolcreaterole THEN 'may create roles'
                 WHEN r.rolcreatedb THEN 'may create databases'
                 WHEN r.rolreplication THEN 'may replicate'
                 WHEN r.rolcanlogin THEN 'may log in'
                 WHEN starts_with(r.rolname::text, 'pg_') THEN 'is predefined by PostgreSQL'
                 WHEN r.rolname::text = $2 THEN 'keeps what ended logins owned'
                 ELSE (SELECT 'owns ' || CASE WHEN d.dbid IN (0, b.oid)
                                              THEN pg_catalog.pg_describe_object(d.classid, d.objid, 0)
                                              ELSE 'something in another database' END
                       FROM pg_catalog.pg_shdepend d, pg_catalog.pg_database b
                       WHERE b.datname = current_database() AND d.deptype = 'o' AND d.refobjid = r.oid
                         AND d.refclassid = 'pg_catalog.pg_authid'::regclass
                         AND d.classid IN ('pg_catalog.pg_database'::regclass, 'pg_catalog.pg_namespace'::regclass,
                                           'pg_catalog.pg_class'::regclass)
                         -- A session's temporary tables are gone with it.
                         AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c
                                         WHERE d.dbid = b.oid AND c.oid = d.objid AND c.relpersistence = 't'
                                           AND d.classid = 'pg_catalog.pg_class'::regclass)
                       ORDER BY 1 LIMIT 1)
            END,
            ARRAY(SELECT g.rolname::text FROM pg_catalog.pg_auth_members m
                  JOIN pg_catalog.pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid ORDER BY 1),
            pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER WITH ADMIN OPTION'), current_user::text
     -- OFFSET 0: looked up one by one, however many roles the server has.
     FROM reached CROSS JOIN LATERAL (SELECT * FROM pg_catalog.pg_roles r WHERE r.oid = reached.oid OFFSET 0) AS r"],
);

/// The next generation of each service of a solution, and what the present database is and lets in.
pub(super) const NEXT: Question = Question::new(
    "next",
    "text, text[]",
    &["SELECT d.oid, n.name, coalesce((SELECT max(generation) FROM zk.leases WHERE solution = $1 AND service = n.name), 0) + 1,
            d.datname::text, pg_catalog.has_database_privilege('public', d.oid, 'CONNECT')
     FROM pg_catalog.pg_database d, unnest($2::text[]) AS n (name) WHERE d.datname = current_database()"],
);

/// A lease that is about to be closed, its state, and what its login is a member of.
pub(super) const CLOSING: Question = Question::new(
    "closing",
    "uuid, text",
    &[
        "SELECT ",
        LEASE,
        ", state, (SELECT ",
        MEMBERSHIPS,
        " FROM pg_catalog.pg_roles l WHERE l.rolname = login)
         FROM zk.leases WHERE id = $1 AND solution = $2 FOR UPDATE",
    ],
);

/// The processes that hold locks. The picture of sessions that the server shows is made anew after it.
pub(super) const LOCKS: Question = Question::new(
    "locks",
    "",
    &[
        "SELECT DISTINCT pid, pg_catalog.pg_stat_clear_snapshot()::text FROM pg_catalog.pg_locks WHERE pid IS NOT NULL",
    ],
);

/// The processes that are somebody's sessions, and whether they are of a login.
pub(super) const SHOWN: Question = Question::new(
    "shown",
    "text",
    &["SELECT pid, coalesce(usename = $1::text::name, false) FROM pg_catalog.pg_stat_activity
     WHERE usesysid IS NOT NULL"],
);

/// Adds an entry to the chain.
pub(super) const RECORD: Question = Question::new(
    "record",
    "text",
    &["INSERT INTO zk.audit (seq, recorded_by, entry, hash)
     SELECT n.seq, n.who, n.entry, sha256(n.hash || int8send(n.seq) || int4send(octet_length(convert_to(n.who, 'UTF8')))
                                          || convert_to(n.who, 'UTF8') || convert_to(n.entry, 'UTF8'))
     FROM (SELECT coalesce(last.seq, 0) + 1 AS seq, coalesce(last.hash, decode(repeat('00', 32), 'hex')) AS hash,
                  session_user::text AS who, $1 AS entry
           FROM (SELECT) AS one LEFT JOIN
                (SELECT seq, hash FROM zk.audit ORDER BY seq DESC LIMIT 1) AS last ON true) AS n"],
);
