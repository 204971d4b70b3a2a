//! The two ways to wrap a key for a public key: HPKE, RFC 9180, in base mode.

use chacha20::{ChaCha20Rng, rand_core::SeedableRng};
use hpke::{
    Deserializable, Kem as _, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256,
    kem::X25519HkdfSha256, kem::XWing, single_shot_open, single_shot_seal_with_rng,
};
use zeroize::Zeroizing;

use super::portable::Kind;
use crate::{Error, nonce::fresh};

/// How a key is wrapped for a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kem {
    /// DHKEM(X25519, HKDF-SHA256) of RFC 9180: 80 bytes for each recipient.
    X25519,
    /// X-Wing, ML-KEM-768 and X25519 together: 1168 bytes for each recipient, and safe from quantum computers as long as
    /// one of the two holds.
    XWing,
}

/// Runs the same code with either KEM.
macro_rules! with_kem {
    ($kem:expr, $name:ident => $body:expr) => {
        match $kem {
            Kem::X25519 => {
                type $name = X25519HkdfSha256;
                $body
            }
            Kem::XWing => {
                type $name = XWing;
                $body
            }
        }
    };
}

type Public<K> = <K as hpke::Kem>::PublicKey;
type Private<K> = <K as hpke::Kem>::PrivateKey;
type Encapped<K> = <K as hpke::Kem>::EncappedKey;

impl Kem {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::X25519 => Kind::X25519,
            Self::XWing => Kind::XWing,
        }
    }

    pub(super) fn generate(self) -> Result<Zeroizing<Vec<u8>>, Error> {
        // From random bytes that were drawn before: the library's own generation panics when there are none.
        let seed = Zeroizing::new(fresh::<64>()?);
        Ok(with_kem!(self, K => Zeroizing::new(K::derive_keypair(&*seed).0.to_bytes().to_vec())))
    }

    pub(super) fn public_of(self, secret: &[u8]) -> Option<Vec<u8>> {
        with_kem!(self, K => {
            let secret = Private::<K>::from_bytes(secret).ok()?;
            Some(K::sk_to_pk(&secret).to_bytes().to_vec())
        })
    }

    pub(super) fn is_public(self, public: &[u8]) -> bool {
        with_kem!(self, K => Public::<K>::from_bytes(public).is_ok())
    }

    /// Returns the encapsulated key and the sealed text. `seed` must be fresh for every call.
    pub(super) fn seal(self, public: &[u8], info: &[u8], text: &[u8], seed: &[u8; 32]) -> Option<Vec<u8>> {
        let mut rng = ChaCha20Rng::from_seed(*seed);
        with_kem!(self, K => {
            let public = Public::<K>::from_bytes(public).ok()?;
            let (encapped, sealed) = single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, K>(
                &OpModeS::Base, &public, info, text, b"", &mut rng,
            ).ok()?;
            let mut out = encapped.to_bytes().to_vec();
            out.extend_from_slice(&sealed);
            Some(out)
        })
    }

    pub(super) fn open(self, secret: &[u8], info: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.open_with(secret, info, b"", sealed)
    }

    pub(super) fn open_with(
        self,
        secret: &[u8],
        info: &[u8],
        aad: &[u8],
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        with_kem!(self, K => {
            let (encapped, sealed) = sealed.split_at_checked(Encapped::<K>::size())?;
            let encapped = Encapped::<K>::from_bytes(encapped).ok()?;
            let secret = Private::<K>::from_bytes(secret).ok()?;
            let text = single_shot_open::<ChaCha20Poly1305, HkdfSha256, K>(
                &OpModeR::Base, &secret, &encapped, info, sealed, aad,
            );
            text.ok().map(Zeroizing::new)
        })
    }
}
