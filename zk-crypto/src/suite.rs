//! The two ciphers: SPEC.md, section 2.

#[cfg(any(feature = "aws-lc", test))]
mod aws_lc;
#[cfg(any(not(feature = "aws-lc"), test))]
mod rust_crypto;
mod xaes;

#[cfg(test)]
mod tests;

use zeroize::Zeroizing;
use zk_kms::DataKey;

#[cfg(feature = "aws-lc")]
pub(crate) use self::aws_lc::{Gcm, XChaCha};
#[cfg(not(feature = "aws-lc"))]
pub(crate) use self::rust_crypto::{Gcm, XChaCha};
pub(crate) use self::xaes::{PREFIX, SUFFIX, Xaes};
use crate::{
    Error, ErrorKind,
    sealed::{NONCE, TAG, derive},
};

/// The cipher that sealed a value; the writer chooses it and the bytes name it.
///
/// ```
/// use zk_crypto::Suite;
///
/// assert_eq!(Suite::default() as u8, 0x01);
/// assert_eq!(Suite::XChaCha20Poly1305 as u8, 0x02);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Suite {
    /// XAES-256-GCM, <https://c2sp.org/XAES-256-GCM>: the fast choice where the processor has AES instructions.
    #[default]
    Xaes256Gcm = 0x01,
    /// XChaCha20-Poly1305, draft-irtf-cfrg-xchacha-03: for processors without AES instructions.
    XChaCha20Poly1305 = 0x02,
}

impl Suite {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Xaes256Gcm, Self::XChaCha20Poly1305].into_iter().find(|suite| *suite as u8 == byte)
    }
}

/// Both ciphers, keyed from one data key. Wiped on drop by the ciphers themselves.
pub(crate) struct Ciphers {
    pub(crate) xaes: Xaes,
    pub(crate) xchacha: XChaCha,
}

impl Ciphers {
    pub(crate) fn new(key: &DataKey) -> Result<Self, Error> {
        Ok(Self {
            xaes: Xaes::new(&*sealing_key(key, Suite::Xaes256Gcm)?),
            xchacha: XChaCha::new(&*sealing_key(key, Suite::XChaCha20Poly1305)?),
        })
    }
}

/// Checks both ciphers against a published vector each, so that a miscompiled or patched cipher never seals data.
pub(crate) fn known_answers() -> Result<(), Error> {
    let xaes = known_xaes();
    let xchacha = known_xchacha();
    if xaes == Some(true) && xchacha == Some(true) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Corrupt, "the ciphers of this build fail their known answers; do not use it"))
}

/// The first vector of <https://c2sp.org/XAES-256-GCM>.
fn known_xaes() -> Option<bool> {
    const TEXT: &[u8] = b"XAES-256-GCM";
    const SEALED: &[u8] = b"\xce\x54\x6e\xf6\x3c\x9c\xc6\x07\x65\x92\x36\x09\
        \xb3\x3a\x9a\x19\x74\xe9\x6e\x52\xda\xf2\xfc\xf7\x07\x5e\x22\x71";
    let subkey = Xaes::new(&[1; 32]).subkey(b"ABCDEFGHIJKL")?;
    let (mut sealed, mut opened) = ([0; SEALED.len()], [0; TEXT.len()]);
    subkey.seal(b"MNOPQRSTUVWX", b"", TEXT, &mut sealed)?;
    subkey.open(b"MNOPQRSTUVWX", b"", &sealed, &mut opened)?;
    let refused = subkey.open(b"MNOPQRSTUVWX", b"x", &sealed, &mut [0; TEXT.len()]).is_none();
    Some(sealed == SEALED && opened == TEXT && refused)
}

/// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
fn known_xchacha() -> Option<bool> {
    const TEXT: &[u8] =
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
        sunscreen would be it.";
    const AAD: &[u8] = b"\x50\x51\x52\x53\xc0\xc1\xc2\xc3\xc4\xc5\xc6\xc7";
    const START: &[u8] = b"\xbd\x6d\x17\x9d\x3e\x83\xd4\x3b\x95\x76\x57\x94\x93\xc0\xe9\x39";
    const END: &[u8] = b"\xc0\x87\x59\x24\xc1\xc7\x98\x79\x47\xde\xaf\xd8\x78\x0a\xcf\x49";
    let key: [u8; 32] = std::array::from_fn(|i| 0x80 + u8::try_from(i).unwrap_or(0));
    let nonce: [u8; NONCE] = std::array::from_fn(|i| 0x40 + u8::try_from(i).unwrap_or(0));
    let cipher = XChaCha::new(&key);
    let (mut sealed, mut opened) = ([0; TEXT.len() + TAG], [0; TEXT.len()]);
    cipher.seal(&nonce, AAD, TEXT, &mut sealed)?;
    cipher.open(&nonce, AAD, &sealed, &mut opened)?;
    let known = sealed.starts_with(START) && sealed.ends_with(END);
    let refused = cipher.open(&nonce, b"x", &sealed, &mut [0; TEXT.len()]).is_none();
    Some(known && opened == TEXT && refused)
}

/// SPEC.md, section 3: each suite has a key of its own, so that no key is ever used with two ciphers.
fn sealing_key(key: &DataKey, suite: Suite) -> Result<Zeroizing<[u8; 32]>, Error> {
    let mut out = Zeroizing::new([0; 32]);
    derive(key, &[b"seal", &[suite as u8]], &mut *out)?;
    Ok(out)
}
