//! PASETO version 4, purpose `public`: what is signed is bytes and a footer, with Ed25519 and nothing else. There is no
//! field that chooses an algorithm (PASETO specification, `Version4.md`, sections Sign and Verify).

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use data_encoding::BASE64URL_NOPAD;

const HEADER: &str = "v4.public.";
const SIGNATURE: usize = 64;

/// Signs a message with its footer.
pub(super) fn sign(pair: &Ed25519KeyPair, message: &[u8], footer: &[u8], implicit: &[u8]) -> String {
    let signature = pair.sign(&authenticated(message, footer, implicit));
    let body = [message, signature.as_ref()].concat();
    let mut token = format!("{HEADER}{}", BASE64URL_NOPAD.encode(&body));
    if !footer.is_empty() {
        token.push('.');
        token.push_str(&BASE64URL_NOPAD.encode(footer));
    }
    token
}

/// A token taken apart. Nothing in it is to be believed before [`verified`](Self::verified).
pub(super) struct Parts {
    body: Vec<u8>,
    pub(super) footer: Vec<u8>,
}

impl Parts {
    /// None for what is no token of this version and purpose.
    pub(super) fn of(token: &str) -> Option<Self> {
        let rest = token.strip_prefix(HEADER)?;
        let (body, footer) = rest.split_once('.').unwrap_or((rest, ""));
        // The decoder takes no padding, no other alphabet and no stray bits: one token has one spelling.
        let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).ok();
        Some(Self { body: decode(body)?, footer: decode(footer)? })
            .filter(|parts| parts.body.len() >= SIGNATURE)
    }

    /// The message, if `key` signed it together with the footer.
    pub(super) fn verified(&self, key: &[u8; 32], implicit: &[u8]) -> Option<&[u8]> {
        let (message, signature) = self.body.split_at_checked(self.body.len().checked_sub(SIGNATURE)?)?;
        let key = UnparsedPublicKey::new(&ED25519, key);
        key.verify(&authenticated(message, &self.footer, implicit), signature).ok()?;
        Some(message)
    }
}

/// What is signed: the parts with their number and lengths before them, so that none can be moved into another
/// (pre-authentication encoding, `Common.md`).
fn authenticated(message: &[u8], footer: &[u8], implicit: &[u8]) -> Vec<u8> {
    let parts = [HEADER.as_bytes(), message, footer, implicit];
    let length = |of: usize| u64::try_from(of).unwrap_or(u64::MAX).to_le_bytes();
    let mut all = length(parts.len()).to_vec();
    for part in parts {
        all.extend_from_slice(&length(part.len()));
        all.extend_from_slice(part);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "b4cbfb43df4ce210727d953e4a713307fa19bb7d9f85041438d9e11b942a3774\
                          1eb9dbbbbc047c03fd70604e0071f0987e16b28b757225c11f00415d0e20b1a2";
    const MESSAGE: &str = r#"{"data":"this is a signed message","exp":"2022-01-01T00:00:00+00:00"}"#;
    const BODY: &str =
        "eyJkYXRhIjoidGhpcyBpcyBhIHNpZ25lZCBtZXNzYWdlIiwiZXhwIjoiMjAyMi0wMS0wMVQwMDowMDowMCswMDowMCJ9";
    const FOOTER: &str = r#"{"kid":"zVhMiPBP9fRf2snEcT7gFTioeA9COcNy9DfgL1W60haN"}"#;
    const FOOTER_TEXT: &str = "eyJraWQiOiJ6VmhNaVBCUDlmUmYyc25FY1Q3Z0ZUaW9lQTlDT2NOeTlEZmdMMVc2MGhhTiJ9";

    /// The published vectors 4-S-1 to 4-S-3, in both directions.
    #[test]
    fn the_published_vectors_are_signed_and_verified() {
        let secret = data_encoding::HEXLOWER.decode(SECRET.as_bytes()).unwrap();
        let (seed, public) = secret.split_at(32);
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).unwrap();
        let public: [u8; 32] = public.try_into().unwrap();
        let first = "bg_XBBzds8lTZShVlwwKSgeKpLT3yukTw6JUz3W4h_ExsQV-P0V54zemZDcAxFaSeef1QlXEFtkqxT1ciiQEDA";
        let second = "v3Jt8mx_TdM2ceTGoqwrh4yDFn0XsHvvV_D0DtwQxVrJEBMl0F2caAdgnpKlt4p7xBnx1HcO-SPo8FPp214HDw";
        let third = "NPWciuD3d0o5eXJXG5pJy-DiVEoyPYWs1YSTwWHNJq6DZD3je5gf-0M4JR9ipdUSJbIovzmBECeaWmaqcaP0DQ";
        for (token, footer, implicit) in [
            (format!("v4.public.{BODY}{first}"), "", ""),
            (format!("v4.public.{BODY}{second}.{FOOTER_TEXT}"), FOOTER, ""),
            (format!("v4.public.{BODY}{third}.{FOOTER_TEXT}"), FOOTER, r#"{"test-vector":"4-S-3"}"#),
        ] {
            let [message, footer, implicit] = [MESSAGE, footer, implicit].map(str::as_bytes);
            assert_eq!(sign(&pair, message, footer, implicit), token);
            let parts = Parts::of(&token).unwrap();
            assert_eq!((parts.verified(&public, implicit), parts.footer.as_slice()), (Some(message), footer));
            assert!(parts.verified(&public, b"another").is_none());
            assert!(parts.verified(&[7; 32], implicit).is_none());
        }
    }
}
