//! Signed claims: injected SQL on a service's connection cannot choose another tenant.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use sha2::Sha256;
use tokio_postgres::Client;
use zeroize::Zeroizing;

use super::{Error, ErrorKind};

/// The block of SHA-256, in bytes.
const BLOCK: usize = 64;

const SCRIPT: &str = include_str!("signed.sql");

/// Whether this is the body of the function that [`install_signing`] makes.
pub(super) fn is_installed_body(body: &str) -> bool {
    SCRIPT.split("$$").nth(1) == Some(body)
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
    secret: SecretBox<[u8; 32]>,
}

impl ClaimKey {
    /// Makes a random key.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the operating system gives no random bytes.
    pub fn generate() -> Result<Self, Error> {
        let mut id = [0; 8];
        let mut secret = Box::new([0; 32]);
        getrandom::fill(&mut id)
            .and_then(|()| getrandom::fill(secret.as_mut()))
            .map_err(|_| Error::new(ErrorKind::Unavailable, "the operating system gave no random bytes"))?;
        Ok(Self { id: hex(&id), secret: SecretBox::new(secret) })
    }

    /// Reads what [`to_text`](Self::to_text) wrote.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`].
    pub fn from_text(text: &SecretString) -> Result<Self, Error> {
        let invalid =
            || Error::new(ErrorKind::Invalid, "this is not a claim key: give the text that made it");
        let (id, secret) = text.expose_secret().split_once(':').ok_or_else(invalid)?;
        let bytes = Zeroizing::new(unhex(secret).ok_or_else(invalid)?);
        let secret: [u8; 32] = bytes.as_slice().try_into().map_err(|_| invalid())?;
        if unhex(id).is_none_or(|id| id.len() != 8) {
            return Err(invalid());
        }
        Ok(Self { id: id.to_owned(), secret: SecretBox::new(Box::new(secret)) })
    }

    /// The key as text, for a secret store or a service's environment.
    #[must_use]
    pub fn to_text(&self) -> SecretString {
        SecretString::from(format!("{}:{}", self.id, hex(self.secret.expose_secret())))
    }

    /// The key's name, which is not secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `<key id>.<MAC>.<payload>`, as `zk.claim` reads it.
    pub(super) fn sign(&self, payload: &str) -> Result<String, Error> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.expose_secret())
            .map_err(|_| Error::new(ErrorKind::Invalid, "the claim key cannot sign"))?;
        mac.update(payload.as_bytes());
        Ok(format!("{}.{}.{payload}", self.id, hex(&mac.finalize().into_bytes())))
    }

    /// The key combined with one of HMAC's pads.
    fn pad(&self, with: u8) -> Zeroizing<Vec<u8>> {
        let mut block = Zeroizing::new(vec![with; BLOCK]);
        block.iter_mut().zip(self.secret.expose_secret()).for_each(|(b, k)| *b ^= k);
        block
    }
}

/// Creates what signed claims need in the database: the schema `zk`, the table of keys and the function that verifies.
/// Idempotent. Run it as the role that applies policies, before the first plan of a policy that says `claims signed`.
///
/// # Errors
/// [`ErrorKind::Denied`] without CREATE on the database; those of the connection.
pub async fn install_signing(client: &Client) -> Result<(), Error> {
    Ok(client.batch_execute(SCRIPT).await?)
}

/// Lets sessions that are signed with `key` in. The key travels as a parameter, so that no statement text holds it.
///
/// # Errors
/// [`ErrorKind::Denied`] when the connected role does not own the table of keys; those of the connection.
pub async fn add_claim_key(client: &Client, key: &ClaimKey) -> Result<(), Error> {
    let (inner, outer) = (key.pad(0x36), key.pad(0x5c));
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
/// Those of the connection.
pub async fn remove_claim_key(client: &Client, id: &str) -> Result<(), Error> {
    client.execute("DELETE FROM zk.claim_keys WHERE id = $1", &[&id]).await?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = Zeroizing::new(digits?);
    if digits.len() % 2 != 0 {
        return None;
    }
    digits
        .chunks_exact(2)
        .map(|pair| pair.iter().try_fold(0_u32, |n, d| Some(n * 16 + d)).and_then(|n| u8::try_from(n).ok()))
        .collect()
}
