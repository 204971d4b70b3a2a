//! Both implementations of the ciphers, whichever the features choose, give the same bytes and refuse the same.

use aws_lc_rs::aead::CHACHA20_POLY1305;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use proptest::prelude::*;

use super::super::{Xaes, aws_lc, rust_crypto};
use crate::sealed::{NONCE, TAG};

type Key = [u8; 32];

type Seal<const NONCE: usize> = fn(&Key, &[u8; NONCE], &[u8], &[u8]) -> Option<Vec<u8>>;
type Open<const NONCE: usize> = fn(&Key, &[u8; NONCE], &[u8], &[u8]) -> Option<Vec<u8>>;

/// What is computed twice: ciphertext and tag from a text, and the text from both.
pub(super) struct Implementation {
    pub(super) name: &'static str,
    pub(super) gcm_seal: Seal<12>,
    pub(super) gcm_open: Open<12>,
    pub(super) chacha_seal: Seal<12>,
    pub(super) chacha_open: Open<12>,
    pub(super) xaes_seal: Seal<NONCE>,
    pub(super) xaes_open: Open<NONCE>,
    pub(super) xchacha_seal: Seal<NONCE>,
    pub(super) xchacha_open: Open<NONCE>,
}

macro_rules! implementation {
    // `$chacha` takes the key to the ChaCha20-Poly1305 that XChaCha20-Poly1305 ends in, `$nonce` the nonce to its type.
    ($module:ident, $chacha:expr, $nonce:expr) => {
        Implementation {
            name: stringify!($module),
            gcm_seal: |key, nonce, aad, text| {
                let mut out = vec![0; text.len() + TAG];
                $module::Gcm::new(key)?.seal(nonce, aad, text, &mut out).map(|()| out)
            },
            gcm_open: |key, nonce, aad, sealed| {
                let mut out = vec![0; sealed.len().checked_sub(TAG)?];
                $module::Gcm::new(key)?.open(nonce, aad, sealed, &mut out).map(|()| out)
            },
            chacha_seal: |key, nonce, aad, text| {
                let mut out = vec![0; text.len() + TAG];
                $module::seal(&$chacha(key)?, $nonce(nonce), aad, text, &mut out).map(|()| out)
            },
            chacha_open: |key, nonce, aad, sealed| {
                let mut out = vec![0; sealed.len().checked_sub(TAG)?];
                $module::open(&$chacha(key)?, $nonce(nonce), aad, sealed, &mut out).map(|()| out)
            },
            xaes_seal: |key, nonce, aad, text| {
                let (prefix, suffix) = halves(nonce)?;
                let mut out = vec![0; text.len() + TAG];
                let subkey = $module::Gcm::new(&Xaes::new(key).derive(prefix))?;
                subkey.seal(suffix, aad, text, &mut out).map(|()| out)
            },
            xaes_open: |key, nonce, aad, sealed| {
                let (prefix, suffix) = halves(nonce)?;
                let mut out = vec![0; sealed.len().checked_sub(TAG)?];
                let subkey = $module::Gcm::new(&Xaes::new(key).derive(prefix))?;
                subkey.open(suffix, aad, sealed, &mut out).map(|()| out)
            },
            xchacha_seal: |key, nonce, aad, text| {
                let mut out = vec![0; text.len() + TAG];
                $module::XChaCha::new(key).seal(nonce, aad, text, &mut out).map(|()| out)
            },
            xchacha_open: |key, nonce, aad, sealed| {
                let mut out = vec![0; sealed.len().checked_sub(TAG)?];
                $module::XChaCha::new(key).open(nonce, aad, sealed, &mut out).map(|()| out)
            },
        }
    };
}

pub(super) const IMPLEMENTATIONS: [Implementation; 2] = [
    implementation!(
        rust_crypto,
        |key: &Key| Some(ChaCha20Poly1305::new(key.into())),
        <&chacha20poly1305::Nonce>::from
    ),
    implementation!(aws_lc, |key: &Key| aws_lc::cipher(&CHACHA20_POLY1305, key), |nonce: &[u8; 12]| *nonce),
];

fn halves(nonce: &[u8; NONCE]) -> Option<(&[u8; 12], &[u8; 12])> {
    let ([first, last], _) = nonce.as_chunks::<12>() else { return None };
    Some((first, last))
}

proptest! {
    #[test]
    fn both_implementations_agree(
        key in any::<Key>(), nonce in any::<[u8; NONCE]>(),
        aad in prop::collection::vec(any::<u8>(), 0..300),
        text in prop::collection::vec(any::<u8>(), 0..5000),
        flip in any::<prop::sample::Index>(),
    ) {
        let [rust, c] = IMPLEMENTATIONS;
        let short = nonce.first_chunk().unwrap();
        let mut sealed = (rust.gcm_seal)(&key, short, &aad, &text).unwrap();
        prop_assert_eq!(Some(sealed.clone()), (c.gcm_seal)(&key, short, &aad, &text));
        prop_assert_eq!(Some(text.clone()), (c.gcm_open)(&key, short, &aad, &sealed));
        prop_assert_eq!(Some(text.clone()), (rust.gcm_open)(&key, short, &aad, &sealed));
        sealed[flip.index(text.len() + TAG)] ^= 1;
        prop_assert!((c.gcm_open)(&key, short, &aad, &sealed).is_none());
        prop_assert!((rust.gcm_open)(&key, short, &aad, &sealed).is_none());

        let mut sealed = (rust.xchacha_seal)(&key, &nonce, &aad, &text).unwrap();
        prop_assert_eq!(Some(sealed.clone()), (c.xchacha_seal)(&key, &nonce, &aad, &text));
        prop_assert_eq!(Some(text.clone()), (c.xchacha_open)(&key, &nonce, &aad, &sealed));
        prop_assert_eq!(Some(text.clone()), (rust.xchacha_open)(&key, &nonce, &aad, &sealed));
        sealed[flip.index(text.len() + TAG)] ^= 1;
        prop_assert!((c.xchacha_open)(&key, &nonce, &aad, &sealed).is_none());
        prop_assert!((rust.xchacha_open)(&key, &nonce, &aad, &sealed).is_none());
    }
}
