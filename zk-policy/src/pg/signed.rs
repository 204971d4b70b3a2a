//! Signed claims: injected SQL on a service's connection cannot choose another tenant.

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Client;

use super::{Error, ErrorKind, owner};
use crate::secret::{HmacKey, hex, unhex};

const SCRIPT: &str = include_str!("signed.sql");

/// The table of keys and the functions, in the schema `zk`.
pub(super) const KEYS: &str = "claim_keys";
pub(super) const FUNCTIONS: [&str; 2] = ["claim", "signed"];

/// Whether this is the body of a function that [`install_signing`] makes, by its signature.
pub(super) fn is_installed_body(function: &str, body: &str) -> bool {
    let mut quoted = SCRIPT.split("$$").skip(1).step_by(2);
    match function {
        "zk.claim(text)" => quoted.next() == Some(body),
        "zk.signed()" => quoted.nth(1) == Some(body),
        _ => false,
    }
}

/// A key that signs claims: known to a service and to the database, and to nobody who only runs SQL.
///
/// ```
/// use zk_policy::pg::ClaimKey;
///
/// let key = ClaimKey::generate()?;
/// let same = ClaimKey::from_text(&key.to_text())?;
/// assert_eq!(same.id(), key.id());
/// assert!(!format!("{key:?}").contains(secrecy::ExposeSecret::expose_secret(&key.to_text())));
/// # Ok::<(), zk_policy::pg::Error>(())
/// ```
#[derive(Debug)]
pub struct ClaimKey {
    id: String,
    secret: HmacKey,
}

impl ClaimKey {
    /// Makes a random key.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the operating system gives no random bytes.
    pub fn generate() -> Result<Self, Error> {
        let mut id = [0; 8];
        let missing = || Error::new(ErrorKind::Unavailable, "the operating system gave no random bytes");
        getrandom::fill(&mut id).map_err(|_| missing())?;
        Ok(Self { id: hex(&id), secret: HmacKey::generate().ok_or_else(missing)? })
    }

    /// Reads what [`to_text`](Self::to_text) wrote.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`].
    pub fn from_text(text: &SecretString) -> Result<Self, Error> {
        let invalid =
            || Error::new(ErrorKind::Invalid, "this is not a claim key: give the text that made it");
        let (id, secret) = text.expose_secret().split_once(':').ok_or_else(invalid)?;
        let secret = HmacKey::from_hex(secret).ok_or_else(invalid)?;
        if unhex(id).is_none_or(|id| id.len() != 8) {
            return Err(invalid());
        }
        Ok(Self { id: id.to_owned(), secret })
    }

    /// The key as text, for a secret store or a service's environment.
    #[must_use]
    pub fn to_text(&self) -> SecretString {
        SecretString::from(format!("{}:{}", self.id, self.secret.to_hex().expose_secret()))
    }

    /// The key's name, which is not secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `<key id>.<MAC>.<payload>`, as `zk.claim` reads it.
    pub(super) fn sign(&self, payload: &str) -> String {
        format!("{}.{}.{payload}", self.id, hex(&self.secret.mac(&[payload.as_bytes()])))
    }
}

/// Creates what signed claims need in the database: the schema `zk`, the table of keys and the functions that verify.
/// Idempotent. Run it as the role that applies policies, before the first plan of a policy that says `claims signed`.
///
/// # Errors
/// [`ErrorKind::Denied`] without CREATE on the database, or when some of it is there and somebody else's; those of the
/// connection.
pub async fn install_signing(client: &Client) -> Result<(), Error> {
    // Before, so that nothing is made in somebody else's schema; after, because it may have come in between.
    owner::check_owner(client, KEYS, &FUNCTIONS, &[]).await?;
    client.batch_execute(SCRIPT).await?;
    check_owner(client).await
}

async fn check_owner(client: &Client) -> Result<(), Error> {
    if owner::check_owner(client, KEYS, &FUNCTIONS, &[]).await? {
        return Ok(());
    }
    let message = "this database has no place for the keys of claims; call install_signing first";
    Err(Error::new(ErrorKind::MissingSigning, message))
}

/// Lets sessions that are signed with `key` in. The key travels as a parameter, so that no statement text holds it.
///
/// # Errors
/// [`ErrorKind::Denied`] when the table of keys, its schema or the functions are somebody else's, or the table has triggers or
/// rules; [`ErrorKind::MissingSigning`]; those of the connection.
pub async fn add_claim_key(client: &Client, key: &ClaimKey) -> Result<(), Error> {
    check_owner(client).await?;
    let (inner, outer) = key.secret.pads();
    client
        .execute(
            "INSERT INTO zk.claim_keys (id, inner_pad, outer_pad) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING",
            &[&key.id, &inner.as_slice(), &outer.as_slice()],
        )
        .await?;
    Ok(())
}

/// Shuts sessions that are signed with the key of that name out, at once. To rotate: add the next key, give it to the
/// services, then remove this one.
///
/// # Errors
/// [`ErrorKind::Denied`] when the table of keys, its schema or the functions are somebody else's, or the table has triggers or
/// rules; [`ErrorKind::MissingSigning`]; those of the connection.
pub async fn remove_claim_key(client: &Client, id: &str) -> Result<(), Error> {
    check_owner(client).await?;
    client.execute("DELETE FROM zk.claim_keys WHERE id = $1", &[&id]).await?;
    Ok(())
}
