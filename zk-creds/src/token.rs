//! API tokens that scanners find, people recognize and typing errors do not survive.

use std::fmt;

#[cfg(any(feature = "postgres", test))]
use secrecy::ExposeSecret;
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind};

/// What a scanner for leaked secrets searches for, as a regular expression. The last six digits are a checksum, so that a
/// scanner with [`Token::parse`] has no false alarms.
pub const TOKEN_PATTERN: &str = r"\bzk_[a-z][a-z0-9]{0,15}_[0-9A-Za-z]{49}\b";

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 256 bits in base 62.
const SECRET_DIGITS: usize = 43;
/// 32 bits in base 62.
const CHECK_DIGITS: usize = 6;

/// A token: `zk_<kind>_<43 digits><6 digits>`, in base 62. The first are 256 random bits, the last the CRC-32 of all before.
///
/// # Examples
/// ```
/// use secrecy::ExposeSecret;
/// use zk_creds::Token;
///
/// let token = Token::generate("api")?;
/// assert!(token.expose().expose_secret().starts_with("zk_api_"));
/// assert_eq!(Token::parse(token.expose().expose_secret())?.kind(), "api");
/// assert_eq!(format!("{token:?}"), "zk_api_[redacted]");
/// assert!(Token::parse("zk_api_0000000000000000000000000000000000000000000000000").is_err());
/// # Ok::<(), zk_creds::Error>(())
/// ```
pub struct Token {
    kind: String,
    text: SecretString,
}

impl Token {
    /// Makes a token of a kind: 1 to 16 lower-case letters and digits, a letter first.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for another kind; [`ErrorKind::Random`].
    pub fn generate(kind: &str) -> Result<Self, Error> {
        if !is_kind(kind) {
            let message = format!(
                "`{}` is no kind of token: use 1 to 16 of a-z and 0-9, a letter first",
                kind.escape_debug()
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut())?;
        let secret = Zeroizing::new(base62(bytes.as_ref(), SECRET_DIGITS));
        let body = Zeroizing::new(format!("zk_{kind}_{}", *secret));
        let check = base62(&crc32(body.as_bytes()).to_be_bytes(), CHECK_DIGITS);
        Ok(Self { kind: kind.to_owned(), text: SecretString::from(format!("{}{check}", *body)) })
    }

    /// Reads a token, whose form and checksum it verifies. Whether it is valid only its issuer knows.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], which does not repeat the text.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::new(ErrorKind::Invalid, "this is no token: it is cut short, mistyped or something else")
        };
        let (kind, digits) =
            text.strip_prefix("zk_").and_then(|rest| rest.split_once('_')).ok_or_else(wrong)?;
        let plain =
            digits.len() == SECRET_DIGITS + CHECK_DIGITS && digits.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_kind(kind) || !plain {
            return Err(wrong());
        }
        let (body, check) = text.split_at_checked(text.len() - CHECK_DIGITS).ok_or_else(wrong)?;
        if base62(&crc32(body.as_bytes()).to_be_bytes(), CHECK_DIGITS) != check {
            return Err(wrong());
        }
        Ok(Self { kind: kind.to_owned(), text: SecretString::from(text) })
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The token itself. Expose it only to who is to use it.
    #[must_use]
    pub fn expose(&self) -> &SecretString {
        &self.text
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.text.expose_secret().as_bytes()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, text: _ } = self;
        write!(f, "zk_{kind}_[redacted]")
    }
}

fn is_kind(kind: &str) -> bool {
    kind.len() <= 16
        && kind.starts_with(|c: char| c.is_ascii_lowercase())
        && kind.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

/// A number of big-endian bytes in base 62, with leading zeros.
fn base62(bytes: &[u8], digits: usize) -> String {
    let mut number = Zeroizing::new(bytes.to_vec());
    let mut text = Zeroizing::new(vec![b'0'; digits]);
    for digit in text.iter_mut().rev() {
        let mut rest = 0_u32;
        for byte in number.iter_mut() {
            let value = rest * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or_default(); // below 256, because the rest is below 62
            rest = value % 62;
        }
        *digit = usize::try_from(rest).ok().and_then(|rest| DIGITS.get(rest)).copied().unwrap_or(b'0');
    }
    text.iter().map(|digit| char::from(*digit)).collect()
}

/// CRC-32 as in IEEE 802.3 and zip.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 },
        )
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn checksums_and_numbers_are_as_others_compute_them() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(base62(&[0; 32], 43), "0".repeat(43));
        assert_eq!(base62(&u32::MAX.to_be_bytes(), 6), "4gfFC3");
        assert_eq!(base62(&61_u32.to_be_bytes(), 2), "0z");
    }

    proptest! {
        #[test]
        fn any_changed_character_is_noticed(at in 0..56_usize, to in "[0-9A-Za-z_]") {
            let token = Token::generate("api").unwrap();
            let text = token.expose().expose_secret();
            let mut changed = text.to_owned();
            changed.replace_range(at..=at, &to);
            prop_assert_eq!(Token::parse(&changed).is_ok(), changed == text);
        }

        #[test]
        fn any_text_is_a_token_or_an_error(text in "(zk_)?[a-z0-9_]{0,20}.{0,60}") {
            prop_assert!(Token::parse(&text).is_err());
        }
    }
}
