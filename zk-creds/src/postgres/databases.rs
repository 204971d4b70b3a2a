//! Which databases a login has to be let into.

use std::collections::BTreeSet;

use postgres_protocol::escape::escape_identifier;
use tokio_postgres::types::Type;

use super::transaction::Transaction;
use crate::error::{Error, ErrorKind};
use crate::manifest::Service;

/// The databases of these services that do not let everybody in, as PostgreSQL's do by default. `here` is the one that
/// they are deployed in, when it is known to be one.
pub(super) async fn closed(
    transaction: &Transaction<'_>,
    services: &[&Service],
    here: Option<&str>,
) -> Result<BTreeSet<String>, Error> {
    let wanted: BTreeSet<&str> = services
        .iter()
        .flat_map(|service| service.databases.values())
        .map(String::as_str)
        .chain(here)
        .collect();
    if wanted.is_empty() {
        return Ok(BTreeSet::new());
    }
    let wanted: Vec<&str> = wanted.into_iter().collect();
    let rows = transaction
        .query_typed(
            "SELECT n.name, d.oid IS NOT NULL AND d.datallowconn AND NOT d.datistemplate,
                    pg_catalog.has_database_privilege('public', d.oid, 'CONNECT'),
                    pg_catalog.has_database_privilege(d.oid, 'CONNECT WITH GRANT OPTION'), current_user::text
             FROM unnest($1::text[]) AS n (name) LEFT JOIN pg_catalog.pg_database d ON d.datname = n.name::name",
            &[(&wanted, Type::TEXT_ARRAY)],
        )
        .await?;
    let mut closed = BTreeSet::new();
    for row in &rows {
        let name: &str = row.try_get(0)?;
        if !row.try_get::<_, bool>(1)? {
            let message = format!("there is no database {name} that takes connections; correct the manifest");
            return Err(Error::new(ErrorKind::Missing, message));
        }
        if row.try_get::<_, bool>(2)? {
            continue;
        }
        if !row.try_get::<_, bool>(3)? {
            let message = format!(
                "the issuer may not let a login into database {name}; as its owner, GRANT CONNECT ON DATABASE {} TO {} \
                 WITH GRANT OPTION",
                escape_identifier(name),
                escape_identifier(row.try_get(4)?),
            );
            return Err(Error::new(ErrorKind::Denied, message));
        }
        closed.insert(name.to_owned());
    }
    Ok(closed)
}

/// The statements that let a login into those of its databases that are `closed`.
pub(super) fn opening(
    login: &str,
    service: &Service,
    here: Option<&str>,
    closed: &BTreeSet<String>,
) -> String {
    let its: BTreeSet<&str> = service.databases.values().map(String::as_str).chain(here).collect();
    let grant = |database: &str| {
        format!("GRANT CONNECT ON DATABASE {} TO {};", escape_identifier(database), escape_identifier(login))
    };
    its.into_iter().filter(|name| closed.contains(*name)).map(grant).collect()
}
