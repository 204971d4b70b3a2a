//! The keys of masks that hash, in the database.

use tokio_postgres::Client;

use super::{Error, ErrorKind, owner};
use crate::mask::MaskKey;

const SCRIPT: &str = include_str!("masks.sql");

/// Creates the place for keys of masks that hash: the schema `zk` and the table of keys. Idempotent. Run it as the role that
/// applies policies, before the first plan of a policy that says `as hash`.
///
/// # Errors
/// [`ErrorKind::Denied`] without CREATE on the database, or when the table is there and somebody else's; those of the
/// connection.
pub async fn install_mask_keys(client: &Client) -> Result<(), Error> {
    // Before, so that nothing is made in somebody else's schema; after, because it may have come in between.
    owner::check_owner(client, "mask_keys", &[], &[]).await?;
    client.batch_execute(SCRIPT).await?;
    check_owner(client).await
}

/// Gives the masks of a policy their key, or another one: every hash that was shown before is then another. Until there is
/// a key, such masks show NULL. The key travels as a parameter, so that no statement text holds it.
///
/// # Errors
/// [`ErrorKind::Denied`] when the connected role does not own the table of keys; those of the connection.
pub async fn set_mask_key(client: &Client, policy: &str, key: &MaskKey) -> Result<(), Error> {
    check_owner(client).await?;
    let (inner, outer) = key.0.pads();
    client
        .execute(
            "INSERT INTO zk.mask_keys AS k (policy, inner_pad, outer_pad) VALUES ($1, $2, $3)
             ON CONFLICT (policy) DO UPDATE SET inner_pad = excluded.inner_pad, outer_pad = excluded.outer_pad,
                                                created_at = excluded.created_at
             WHERE k.inner_pad <> excluded.inner_pad",
            &[&policy, &inner.as_slice(), &outer.as_slice()],
        )
        .await?;
    Ok(())
}

/// Takes the key of a policy's masks away: they show NULL, at once.
///
/// # Errors
/// [`ErrorKind::Denied`] when the table of keys is somebody else's; [`ErrorKind::MissingMaskKeys`]; those of the connection.
pub async fn remove_mask_key(client: &Client, policy: &str) -> Result<(), Error> {
    check_owner(client).await?;
    client.execute("DELETE FROM zk.mask_keys WHERE policy = $1", &[&policy]).await?;
    Ok(())
}

async fn check_owner(client: &Client) -> Result<(), Error> {
    if owner::check_owner(client, "mask_keys", &[], &[]).await? {
        return Ok(());
    }
    let message = "this database has no place for the keys of masks; call install_mask_keys first";
    Err(Error::new(ErrorKind::MissingMaskKeys, message))
}
