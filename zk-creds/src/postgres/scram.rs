//! What the server keeps in place of a password: a SCRAM-SHA-256 verifier (RFC 5802 section 3, RFC 7677).

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use data_encoding::BASE64;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::error::Error;

/// A new password, and what the server is given in its place.
pub(super) struct Password {
    pub(super) plain: SecretString,
    pub(super) verifier: Zeroizing<String>,
}

/// Makes a password of 256 random bits. Slow on purpose, unless there are few iterations.
pub(super) fn password(iterations: NonZeroU32) -> Result<Password, Error> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut())?;
    let plain = SecretString::from(data_encoding::BASE64URL_NOPAD.encode(bytes.as_ref()));
    let verifier = verifier(&plain, iterations)?;
    Ok(Password { plain, verifier })
}

/// Derives the verifier of a password under a fresh salt, in the form that PostgreSQL stores (manual, section 53.10).
///
/// The password must be ASCII, as all that we make are: others would have to be normalized first (RFC 4013).
fn verifier(password: &SecretString, iterations: NonZeroU32) -> Result<Zeroizing<String>, Error> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt)?;
    Ok(verifier_with(password, iterations, &salt))
}

fn verifier_with(password: &SecretString, iterations: NonZeroU32, salt: &[u8]) -> Zeroizing<String> {
    let mut salted = Zeroizing::new([0; 32]);
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        salt,
        password.expose_secret().as_bytes(),
        salted.as_mut(),
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, salted.as_ref());
    let stored = digest::digest(&digest::SHA256, hmac::sign(&key, b"Client Key").as_ref());
    let server = hmac::sign(&key, b"Server Key");
    Zeroizing::new(format!(
        "SCRAM-SHA-256${iterations}:{}${}:{}",
        BASE64.encode(salt),
        BASE64.encode(stored.as_ref()),
        BASE64.encode(server.as_ref())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Python's `hashlib` and `hmac` compute it from RFC 5802, with the salt of RFC 7677's example.
    #[test]
    fn a_verifier_is_as_another_program_computes_it() {
        let salt = BASE64.decode(b"W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let text = verifier_with(&SecretString::from("pencil"), NonZeroU32::new(4096).unwrap(), &salt);
        assert_eq!(
            text.as_str(),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
             wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }
}
