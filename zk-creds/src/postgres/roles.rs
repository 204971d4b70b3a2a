//! The SQL of a login's life. SECURITY: every identifier and literal passes through the escaping of postgres-protocol.

use std::time::SystemTime;

use postgres_protocol::escape::{escape_identifier, escape_literal};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::scram::Password;
use super::transaction::Server;
use crate::clock::utc;
use crate::credential::Lease;
use crate::error::{Error, ErrorKind};
use crate::manifest::Service;

/// A new login's name: unique by its random end, readable by the rest.
pub(super) fn login_name(solution: &str, service: &str, generation: i32) -> Result<String, Error> {
    let mut random = [0; 5];
    getrandom::fill(&mut random)?;
    let random = data_encoding::BASE32_NOPAD.encode(&random).to_ascii_lowercase();
    Ok(format!("{}{random}", login_prefix(solution, service, generation)))
}

/// How the name of every login of this generation begins.
pub(super) fn login_prefix(solution: &str, service: &str, generation: i32) -> String {
    format!("{}{service}_{generation}_", solution_prefix(solution))
}

/// How the name of every login of the solution begins. Those of others may begin so too.
pub(super) fn solution_prefix(solution: &str) -> String {
    format!("zk_{solution}_")
}

/// The statement with which a session acts as a role.
pub(super) fn act_as(role: &str) -> String {
    format!("SET ROLE {}", escape_identifier(role))
}

/// A login and its lease, about to be created.
pub(super) struct Draft {
    pub(super) lease: Lease,
    pub(super) password: Password,
}

/// The statements that create a login and its lease.
///
/// The password itself stays here: the server is given its SCRAM-SHA-256 verifier.
pub(super) fn creation(
    solution: &str,
    service: &Service,
    draft: &Draft,
    database: u32,
) -> Result<Zeroizing<String>, Error> {
    let Draft { lease, password } = draft;
    let role = escape_identifier(&lease.login);
    let declared = serde_json::to_string(service)
        .map_err(|e| Error::new(ErrorKind::Invalid, "the service cannot be written").because(e))?;
    let groups: Vec<String> = service.roles.iter().map(|group| escape_identifier(group)).collect();
    let times = [lease.issued_at, lease.expires_at, lease.max_expires_at].map(|at| escape_literal(&utc(at)));
    let [issued, expires, max] = times;
    Ok(Zeroizing::new(format!(
        "CREATE ROLE {role} LOGIN NOINHERIT CONNECTION LIMIT {} PASSWORD {} VALID UNTIL {expires};
         ALTER ROLE {role} SET statement_timeout = {};{}
         GRANT {} TO {role};
         COMMENT ON ROLE {role} IS {};
         INSERT INTO zk.leases (id, solution, service, generation, login, lifetime_seconds, declared, state,
                                issued_at, expires_at, max_expires_at)
         VALUES ({}, {}, {}, {}, {}, {}, {}, 'active', {issued}, {expires}, {max});",
        service.connections,
        escape_literal(&password.verifier),
        service.statement_timeout_ms,
        search_path(&role, &service.search_path),
        groups.join(", "),
        escape_literal(&mark(solution, lease.id, database)),
        literal(lease.id),
        escape_literal(solution),
        escape_literal(&lease.service),
        lease.generation,
        escape_literal(&lease.login),
        service.lifetime_seconds,
        escape_literal(&declared),
    )))
}

fn search_path(role: &str, schemas: &[String]) -> String {
    if schemas.is_empty() {
        return String::new();
    }
    let schemas: Vec<String> = schemas.iter().map(|schema| escape_identifier(schema)).collect();
    format!(" ALTER ROLE {role} SET search_path = {};", schemas.join(", "))
}

/// The comment on a login: whose it is. Roles belong to the whole server, and leases to one database of it; only who may
/// create roles may change a comment on one.
fn mark(solution: &str, lease: Uuid, database: u32) -> String {
    format!("{}{lease}", mark_prefix(solution, database))
}

/// How the comment on every login of the solution that was issued from this database begins.
pub(super) fn mark_prefix(solution: &str, database: u32) -> String {
    format!("login of {solution}, issued by zk-creds in database {database}, lease ")
}

/// Whether the comment on a login says that it is of this solution and lease, whichever database it was issued from.
pub(super) fn is_marked(comment: &str, solution: &str, lease: Uuid) -> bool {
    comment.starts_with(&format!("login of {solution}, issued by zk-creds in database "))
        && comment.ends_with(&format!(", lease {lease}"))
}

/// The statement that moves the second fence, which is in the database itself.
pub(super) fn valid_until(login: &str, until: SystemTime) -> String {
    format!("ALTER ROLE {} VALID UNTIL {};", escape_identifier(login), escape_literal(&utc(until)))
}

/// The statements that bring a lease's end forward, in both fences.
pub(super) fn end_at(lease: &Lease, ends: SystemTime) -> String {
    let at = escape_literal(&utc(ends));
    let id = literal(lease.id);
    let update = format!("UPDATE zk.leases SET expires_at = {at}, max_expires_at = {at} WHERE id = {id};");
    update + &valid_until(&lease.login, ends)
}

/// The statement that says that a lease is over.
pub(super) fn set_revoked(lease: Uuid, at: SystemTime) -> String {
    let (id, at) = (literal(lease), escape_literal(&utc(at)));
    format!("UPDATE zk.leases SET state = 'revoked', revoked_at = {at} WHERE id = {id};")
}

/// An identifier of a lease as SQL.
pub(super) fn literal(lease: Uuid) -> String {
    escape_literal(&lease.to_string())
}

/// The roles that the login `l` is a member of, as an array; as SQL.
pub(super) const MEMBERSHIPS: &str = "ARRAY(SELECT DISTINCT g.rolname::text FROM pg_catalog.pg_auth_members m
    JOIN pg_catalog.pg_roles g ON g.oid = m.roleid WHERE m.member = l.oid)";

/// The statements that close the door: no new login with the old password, nothing to become. They make the issuer a member
/// of the login, so that it may end its sessions and hand on what it owns.
pub(super) fn disabling(server: &Server, login: &str, memberships: &[&str]) -> String {
    let role = escape_identifier(login);
    let mut script = format!("ALTER ROLE {role} NOLOGIN PASSWORD NULL VALID UNTIL '-infinity';");
    for membership in memberships {
        script.push_str(&format!("REVOKE {} FROM {role};", escape_identifier(membership)));
    }
    script.push_str(&format!("GRANT {role} TO CURRENT_USER{};", membership_options(server)));
    script
}

/// The statements that tell a process to end, as the login. They are rolled back, which ends acting as it; when one fails,
/// [`TERMINATED`] rolls them back.
pub(super) fn terminating(login: &str, pid: i32) -> String {
    format!(
        "SAVEPOINT zk; SET LOCAL ROLE {}; SELECT pg_catalog.pg_terminate_backend({pid}); {TERMINATED}",
        escape_identifier(login)
    )
}

pub(super) const TERMINATED: &str = "ROLLBACK TO SAVEPOINT zk; RELEASE SAVEPOINT zk";

/// The statement that removes the login, which owns nothing any more.
pub(super) fn removal(login: &str) -> String {
    format!("DROP ROLE {};", escape_identifier(login))
}

/// From PostgreSQL 16 a membership says itself what it is good for; before, the member's attribute does.
pub(super) fn membership_options(server: &Server) -> &'static str {
    if server.major >= 16 { " WITH INHERIT TRUE, SET TRUE" } else { "" }
}
