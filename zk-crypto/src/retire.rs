//! A key is given up only after a proof that it seals nothing.

use tokio_postgres::Client;

use crate::{Encryptor, Error, ErrorKind, KeyId, KeyState, Reseal};

/// Destroys a data key after counting that no row of these columns is under it.
///
/// While rows are left the key stays as it is, and everything opens. When none are, the key is disabled, so that no process that
/// asks for it from then on seals with it, and the rows are counted once more before it is destroyed. Name every column that the scope seals, and use a
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
    // A key that rows need must not be disabled even for a moment: they are being read.
    refuse_if_left(id, count(client, id, columns).await?)?;
    encryptor.disable_key(id).await?;
    let counted = count(client, id, columns).await.and_then(|left| refuse_if_left(id, left));
    if let Err(error) = counted {
        encryptor.enable_key(id).await?;
        return Err(error);
    }
    encryptor.destroy_key(id).await
}

/// Raises the minimum generation of a scope after counting that no row of these columns is under an older key.
///
/// Name every column that the scope seals, and use a session that sees every row. As with [`retire_key`], call it no earlier
/// than [`EncryptorConfig::max_age`](crate::EncryptorConfig::max_age) after the rotation.
///
/// # Errors
///
/// [`ErrorKind::Conflict`] when rows are left under an older key, saying how many, and as [`Encryptor::raise_minimum`];
/// [`ErrorKind::Invalid`] without a column, or with columns of several scopes.
pub async fn retire_below(
    client: &mut Client,
    encryptor: &Encryptor,
    generation: u32,
    columns: &[&Reseal],
) -> Result<(), Error> {
    let Some(first) = columns.first() else {
        return Err(Error::invalid("name every column that the scope seals; without one nothing is proved"));
    };
    if columns.iter().any(|column| column.scope() != first.scope()) {
        return Err(Error::invalid("the columns must be of one scope"));
    }
    let keys = encryptor.keys(first.scope()).await?;
    for key in keys.iter().filter(|key| key.generation < generation) {
        refuse_if_left(key.id, count(client, key.id, columns).await?)?;
    }
    encryptor.raise_minimum(first.scope(), generation).await
}

async fn count(client: &mut Client, id: KeyId, columns: &[&Reseal]) -> Result<u64, Error> {
    let mut left = 0;
    for column in columns {
        left += column.count_under(client, id).await?;
    }
    Ok(left)
}

fn refuse_if_left(id: KeyId, left: u64) -> Result<(), Error> {
    if left > 0 {
        return Err(Error::new(ErrorKind::Conflict, format!("{left} rows are sealed under data key {id}")));
    }
    Ok(())
}
