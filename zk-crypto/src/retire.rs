//! A key is destroyed only after a proof that it seals nothing.

use tokio_postgres::Client;

use crate::{Encryptor, Error, ErrorKind, KeyId, KeyState, Reseal};

/// Destroys a data key after counting that no row of these columns is under it.
///
/// The key is disabled first, so that no process that asks for it from now on seals or opens with it, and then the rows are
/// counted. When some are left the key is enabled again, and nothing is lost. Name every column that the scope seals, and use a
/// session that sees every row. Processes that still hold the key in their cache may seal with it after the count: call it
/// no earlier than [`EncryptorConfig::max_age`](crate::EncryptorConfig::max_age) after the rotation.
///
/// ```no_run
/// use zk_crypto::{Encryptor, Reseal, Scope, retire_key};
///
/// # async fn f(client: &mut tokio_postgres::Client, encryptor: &Encryptor) -> Result<(), zk_crypto::Error> {
/// let scope = Scope::tenant("7f9c")?;
/// let old = encryptor.active_key(&scope).await?;
/// encryptor.rotate_key(&scope).await?;
/// let ssn = Reseal::new(("public", "customers"), "id", "ssn", scope);
/// ssn.run(client, encryptor).await?;
/// retire_key(client, encryptor, old, &[&ssn]).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// [`ErrorKind::Conflict`] when rows are left under the key, saying how many, or when it is the active key of its scope;
/// [`ErrorKind::Invalid`] without a column, or with one of another scope.
pub async fn retire_key(
    client: &mut Client,
    encryptor: &Encryptor,
    id: KeyId,
    columns: &[&Reseal],
) -> Result<(), Error> {
    let Some(first) = columns.first() else {
        return Err(Error::invalid("name every column that the scope seals; without one nothing is proved"));
    };
    let keys = encryptor.keys(first.scope()).await?;
    if columns.iter().any(|column| column.scope() != first.scope()) || !keys.iter().any(|key| key.id == id) {
        return Err(Error::invalid("the columns and the key must be of one scope"));
    }
    if keys.iter().any(|key| key.id == id && key.state == KeyState::Active) {
        return Err(Error::new(ErrorKind::Conflict, "the key is the active one; rotate first"));
    }
    encryptor.disable_key(id).await?;
    let mut left = 0;
    for column in columns {
        match column.count_under(client, id).await {
            Ok(rows) => left += rows,
            Err(error) => {
                encryptor.enable_key(id).await?;
                return Err(error);
            }
        }
    }
    if left > 0 {
        encryptor.enable_key(id).await?;
        return Err(Error::new(ErrorKind::Conflict, format!("{left} rows are sealed under data key {id}")));
    }
    encryptor.destroy_key(id).await
}
