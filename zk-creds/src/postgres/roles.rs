//! The SQL of a login's life. SECURITY: every identifier and literal passes through the escaping of postgres-protocol.

use postgres_protocol::escape::{escape_identifier, escape_literal};
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Transaction;
use zeroize::Zeroizing;

use crate::error::Error;
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
    format!("zk_{solution}_{service}_{generation}_")
}

/// 256 random bits.
pub(super) fn new_password() -> Result<SecretString, Error> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut())?;
    Ok(SecretString::from(data_encoding::BASE64URL_NOPAD.encode(bytes.as_ref())))
}

/// Creates the login. The password itself stays here: the server is given its SCRAM-SHA-256 verifier (RFC 5802, 7677).
pub(super) async fn create(
    transaction: &Transaction<'_>,
    login: &str,
    password: &SecretString,
    service: &Service,
    valid_until: &str,
) -> Result<(), Error> {
    let role = escape_identifier(login);
    let verifier =
        Zeroizing::new(postgres_protocol::password::scram_sha_256(password.expose_secret().as_bytes()));
    let statement = Zeroizing::new(format!(
        "CREATE ROLE {role} LOGIN NOINHERIT CONNECTION LIMIT {} PASSWORD {} VALID UNTIL {}",
        service.connections,
        escape_literal(&verifier),
        escape_literal(valid_until),
    ));
    transaction.batch_execute(&statement).await?;
    let mut rest = format!("ALTER ROLE {role} SET statement_timeout = {};", service.statement_timeout_ms);
    for group in &service.roles {
        rest.push_str(&format!("GRANT {} TO {role};", escape_identifier(group)));
    }
    transaction.batch_execute(&rest).await?;
    Ok(())
}

/// Moves the second fence, which is in the database itself.
pub(super) async fn set_valid_until(
    transaction: &Transaction<'_>,
    login: &str,
    until: &str,
) -> Result<(), Error> {
    let statement = format!("ALTER ROLE {} VALID UNTIL {}", escape_identifier(login), escape_literal(until));
    Ok(transaction.batch_execute(&statement).await?)
}

/// Closes the door: no new login with the old password, nothing to become. Makes the issuer a member of the login, so
/// that it may end its sessions and hand on what it owns.
pub(super) async fn disable(transaction: &Transaction<'_>, login: &str) -> Result<(), Error> {
    let memberships = transaction
        .query(
            "SELECT DISTINCT g.rolname::text FROM pg_catalog.pg_auth_members m
             JOIN pg_catalog.pg_roles g ON g.oid = m.roleid JOIN pg_catalog.pg_roles l ON l.oid = m.member
             WHERE l.rolname = $1::text::name",
            &[&login],
        )
        .await?;
    let role = escape_identifier(login);
    let mut script = format!("ALTER ROLE {role} NOLOGIN PASSWORD NULL VALID UNTIL '-infinity';");
    for row in &memberships {
        script.push_str(&format!("REVOKE {} FROM {role};", escape_identifier(row.try_get(0)?)));
    }
    let options = membership_options(server_major(transaction).await?);
    script.push_str(&format!("GRANT {role} TO CURRENT_USER{options};"));
    Ok(transaction.batch_execute(&script).await?)
}

/// Makes the transaction act as the login, until it ends or is rolled back.
pub(super) fn act_as(login: &str) -> String {
    format!("SET LOCAL ROLE {}", escape_identifier(login))
}

/// Removes the login, which owns nothing any more.
pub(super) async fn remove(transaction: &Transaction<'_>, login: &str) -> Result<(), Error> {
    Ok(transaction.batch_execute(&format!("DROP ROLE {}", escape_identifier(login))).await?)
}

/// From PostgreSQL 16 a membership says itself what it is good for; before, the member's attribute does.
pub(super) fn membership_options(server_major: i32) -> &'static str {
    if server_major >= 16 { " WITH INHERIT TRUE, SET TRUE" } else { "" }
}

pub(super) async fn server_major(transaction: &Transaction<'_>) -> Result<i32, Error> {
    let row = transaction
        .query_one("SELECT pg_catalog.current_setting('server_version_num')::int4 / 10000", &[])
        .await?;
    Ok(row.try_get(0)?)
}
