//! The SQL of a login's life. SECURITY: every identifier and literal passes through the escaping of postgres-protocol.

use postgres_protocol::escape::{escape_identifier, escape_literal};
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Transaction;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind};
use crate::manifest::Service;

/// A new login's name: unique by its random end, readable by the rest.
pub(super) fn login_name(solution: &str, service: &str, generation: i32) -> Result<String, Error> {
    let mut random = [0; 5];
    getrandom::fill(&mut random)?;
    let random = data_encoding::BASE32_NOPAD.encode(&random).to_ascii_lowercase();
    Ok(format!("zk_{solution}_{service}_{generation}_{random}"))
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

/// Refuses roles that do not exist, and roles that no service should be able to become.
pub(super) async fn check_grantable(transaction: &Transaction<'_>, roles: &[String]) -> Result<(), Error> {
    let rows = transaction
        .query(
            "SELECT wanted.name, r.oid IS NOT NULL, coalesce(r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolcanlogin, false)
             FROM unnest($1::text[]) AS wanted (name) LEFT JOIN pg_catalog.pg_roles r ON r.rolname = wanted.name",
            &[&roles],
        )
        .await?;
    for row in &rows {
        let (name, exists, powerful): (String, bool, bool) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if !exists {
            let message = format!("there is no role {name}; apply the policy first, or correct the manifest");
            return Err(Error::new(ErrorKind::Missing, message));
        }
        if powerful {
            let message = format!(
                "role {name} may log in, create roles or pass row-level security: a service must not become it"
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
    }
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
/// that it may end its sessions and take over what it owns.
pub(super) fn disable(login: &str, memberships: &[String], major_version: i32) -> String {
    let role = escape_identifier(login);
    let mut script = format!("ALTER ROLE {role} NOLOGIN PASSWORD NULL VALID UNTIL '-infinity';");
    for group in memberships {
        script.push_str(&format!("REVOKE {} FROM {role};", escape_identifier(group)));
    }
    // From PostgreSQL 16 a membership says itself whether it inherits; before, the member's attribute does.
    let options = if major_version >= 16 { " WITH INHERIT TRUE" } else { "" };
    script.push_str(&format!("GRANT {role} TO CURRENT_USER{options};"));
    script
}

/// Removes the login and what it owned in this database; what it created is handed to the issuer.
pub(super) fn remove(login: &str) -> String {
    let role = escape_identifier(login);
    format!("REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role};")
}
