//! The versions of a key, and how those of a key-encryption key wrap.

use std::{collections::BTreeMap, fmt, sync::Arc};

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use secrecy::{ExposeSecret, SecretBox};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    Context, DataKey, Error, ErrorKind, KeyUri, KeyVersion, WrappedKey,
    key::{put, random},
};

const LABEL: &[u8] = b"zk-kms local wrap v1";
const NONCE: usize = 24;

/// What one version of a key is.
pub(super) trait Secret: Sized + Send + Sync + 'static {
    /// A limit because files are read before they are trusted.
    const MAX_VERSIONS: usize;

    fn generate() -> Result<Self, Error>;
    fn expose(&self) -> &[u8];
}

/// The bytes of one version of a key-encryption key.
pub(super) struct Kek(pub(super) SecretBox<[u8; 32]>);

impl Secret for Kek {
    /// More versions than a century of monthly rotations.
    const MAX_VERSIONS: usize = 2048;

    fn generate() -> Result<Self, Error> {
        let mut drawn = Ok(());
        let kek = SecretBox::init_with_mut(|kek: &mut [u8; 32]| drawn = random(kek));
        drawn.map(|()| Self(kek))
    }

    fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

/// Every version of one key, never empty.
pub(super) struct KeyRing<S> {
    pub(super) newest: (u32, Arc<S>),
    pub(super) older: BTreeMap<u32, Arc<S>>,
}

impl<S: Secret> KeyRing<S> {
    /// Makes a ring with version 1.
    pub(super) fn generate() -> Result<Self, Error> {
        Ok(Self { newest: (1, Arc::new(S::generate()?)), older: BTreeMap::new() })
    }

    /// Returns every version, oldest first.
    pub(super) fn versions(&self) -> impl Iterator<Item = (u32, &S)> {
        let (newest, key) = &self.newest;
        self.older.iter().map(|(v, key)| (*v, &**key)).chain([(*newest, &**key)])
    }

    /// Returns this ring with one version more.
    pub(super) fn rotated(&self) -> Result<Self, Error> {
        let (newest, key) = &self.newest;
        let next = newest.checked_add(1).filter(|_| self.older.len() + 1 < S::MAX_VERSIONS);
        let next =
            next.ok_or_else(|| Error::new(ErrorKind::Unsupported, "the key ring holds no more versions"))?;
        let mut older = self.older.clone();
        older.insert(*newest, Arc::clone(key));
        Ok(Self { newest: (next, Arc::new(S::generate()?)), older })
    }

    /// Tells whether this ring unwraps all that the other does.
    pub(super) fn holds_all_of(&self, other: &Self) -> bool {
        other.versions().all(|(version, key)| {
            self.version(version).is_some_and(|own| own.expose().ct_eq(key.expose()).into())
        })
    }

    pub(super) fn newest(&self) -> (u32, &S) {
        (self.newest.0, &self.newest.1)
    }

    pub(super) fn version(&self, version: u32) -> Option<&S> {
        let (newest, key) = &self.newest;
        if version == *newest { Some(key) } else { self.older.get(&version).map(|key| &**key) }
    }
}

impl KeyRing<Kek> {
    pub(super) fn wrap(&self, uri: &KeyUri, key: &DataKey, context: &Context) -> Result<WrappedKey, Error> {
        let (version, kek) = &self.newest;
        let version = KeyVersion::from(*version);
        let mut nonce = [0; NONCE];
        random(&mut nonce)?;
        let aad = associated_data(uri, &version, context);
        let sealed = cipher(kek)
            .encrypt(&XNonce::from(nonce), Payload { msg: key.expose(), aad: &aad })
            .map_err(|_| Error::invalid("the key and its context are too long to wrap"))?;
        WrappedKey::new(uri.clone(), version, [nonce.as_slice(), &sealed].concat())
    }

    pub(super) fn unwrap(
        &self,
        version: u32,
        wrapped: &WrappedKey,
        context: &Context,
    ) -> Result<DataKey, Error> {
        let kek = self.version(version).ok_or_else(|| no_version(wrapped.uri(), version))?;
        let (nonce, sealed) =
            wrapped.bytes().split_first_chunk::<NONCE>().ok_or_else(Error::cannot_unwrap)?;
        let aad = associated_data(wrapped.uri(), wrapped.version(), context);
        let key = cipher(kek)
            .decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &aad })
            .map_err(|_| Error::cannot_unwrap())?;
        DataKey::from_slice(&Zeroizing::new(key)).map_err(|_| Error::cannot_unwrap())
    }
}

impl<S> fmt::Debug for KeyRing<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({} versions, newest {})", self.older.len() + 1, self.newest.0)
    }
}

pub(super) fn no_version(uri: &KeyUri, version: u32) -> Error {
    Error::new(ErrorKind::NotFound, format!("`{uri}` has no version {version}"))
}

/// Reads the version of a local key; only the spelling that we write, so that there is one for each version.
pub(super) fn parse_version(version: &KeyVersion) -> Option<u32> {
    let number = version.as_str().parse().ok()?;
    (KeyVersion::from(number) == *version).then_some(number)
}

fn associated_data(uri: &KeyUri, version: &KeyVersion, context: &Context) -> Vec<u8> {
    let mut aad = Vec::new();
    put(&mut aad, LABEL);
    put(&mut aad, uri.as_str().as_bytes());
    put(&mut aad, version.as_str().as_bytes());
    put(&mut aad, &context.encode());
    aad
}

fn cipher(kek: &Kek) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(kek.0.expose_secret().into())
}
