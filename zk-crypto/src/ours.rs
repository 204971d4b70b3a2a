//! What stands in the database is ours only if nobody else made it: the owner of a table or of a trigger's function can run
//! code as whoever writes there.

use tokio_postgres::{
    Client,
    types::{ToSql, Type},
};

use crate::{Error, ErrorKind, keystore::failed, sql};

/// Objects that are looked at, by their quoted names. Those that are not there belong to nobody.
#[derive(Clone, Copy, Default)]
pub(crate) struct Objects<'a> {
    /// With their schemas.
    pub(crate) tables: &'a [&'a str],
    pub(crate) functions: &'a [&'a str],
    /// A table whose owner may own them too.
    pub(crate) of_table: Option<&'a str>,
}

/// Refuses objects of somebody else's. A superuser may own them, and so may a role that cannot log in and that the connected
/// role may be.
pub(crate) async fn refuse_strangers(client: &Client, objects: Objects<'_>) -> Result<(), Error> {
    let Objects { tables, functions, of_table } = objects;
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&tables, Type::TEXT_ARRAY), (&functions, Type::TEXT_ARRAY), (&of_table, Type::TEXT)];
    let rows = client
        .query_typed(sql::STRANGERS, &parameters)
        .await
        .map_err(|e| failed("cannot look whose the tables are", &e))?;
    let strangers: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    if strangers.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{} or its schema belongs to {}, who could run code as whoever writes there: find out who made it, drop it or give \
         it to the connected role, and try again",
        tables.iter().chain(functions).copied().collect::<Vec<_>>().join(", "),
        strangers.join(" and ")
    );
    Err(Error::new(ErrorKind::Denied, message))
}
