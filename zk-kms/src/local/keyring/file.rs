//! The format of a key ring file.
//!
//! ```text
//! {"format":"zk-keyring","version":1,"name":"orders","kdf":{"name":"argon2id","memory_kib":65536,...,"salt":"<base64>"}}
//! <base64 of: nonce 24 ‖ XChaCha20-Poly1305(JSON list of {version, key}) ‖ tag 16>
//! ```
//!
//! A key is hexadecimal: 32 bytes, or in a `zk-key-pairs` file a private key in PKCS#8.
//!
//! The first line, byte for byte, is the associated data of the second.

use std::{
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::Arc,
};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use data_encoding::{BASE64, HEXLOWER};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::PassphraseCost;
use crate::local::{
    ring::{KeyRing, Secret},
    stored::{Change, Place},
};
use crate::{Error, ErrorKind, KeyUri, key::random, private_file};

/// Far above what a [`KeyRing`] can write.
const MAX_FILE: u64 = 1024 * 1024;
const FORMAT_VERSION: u32 = 1;
const KDF: &str = "argon2id";
const SALT: usize = 16;
const NONCE: usize = 24;

/// A key ring file that this process has opened: where it is and the key its passphrase gave.
pub(super) struct RingFile<S> {
    path: PathBuf,
    /// The first line: the salt, and so the key, stay until the passphrase is changed.
    header: String,
    file_key: FileKey,
    holds: PhantomData<fn() -> S>,
}

type FileKey = SecretBox<[u8; 32]>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    version: u32,
    name: String,
    kdf: Kdf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kdf {
    name: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
}

/// One version as it stands in the sealed list.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct Entry {
    version: u32,
    key: String,
}

/// A secret as it stands in a file.
pub(super) trait Written: Secret {
    /// What a file of such keys calls itself.
    const FORMAT: &str;

    fn read(bytes: &[u8]) -> Option<Self>;
}

impl<S: Written> RingFile<S> {
    /// Writes a new file; an existing one is never replaced.
    pub(super) fn create(
        path: &Path,
        uri: &KeyUri,
        passphrase: &SecretString,
        cost: PassphraseCost,
        ring: &KeyRing<S>,
    ) -> Result<Self, Error> {
        let file = Self::new(path, uri, passphrase, cost)?;
        private_file::create(path, file.seal(ring)?.as_bytes())?;
        Ok(file)
    }

    /// Chooses a salt and derives the key of a file that is not written yet.
    fn new(
        path: &Path,
        uri: &KeyUri,
        passphrase: &SecretString,
        cost: PassphraseCost,
    ) -> Result<Self, Error> {
        if passphrase.expose_secret().is_empty() {
            return Err(Error::invalid("the passphrase of a key ring must not be empty"));
        }
        let mut salt = [0; SALT];
        random(&mut salt)?;
        let header = Header::new(S::FORMAT, uri, cost, &salt).to_line()?;
        let file_key = derive(passphrase, &salt, cost)?;
        Ok(Self { path: path.to_owned(), header, file_key, holds: PhantomData })
    }

    /// Seals the same versions under another passphrase, while nobody else can change the file.
    pub(super) fn change_passphrase(
        path: &Path,
        from: &SecretString,
        to: &SecretString,
        cost: PassphraseCost,
    ) -> Result<(), Error> {
        // A lock is a file of its own, which is not to be left beside a ring that is not there.
        private_file::read(path, MAX_FILE)?;
        let _lock = private_file::lock(path)?;
        let (_, uri, ring) = Self::open(path, from)?;
        let file = Self::new(path, &uri, to, cost)?;
        private_file::replace(path, file.seal(&ring)?.as_bytes())
    }

    /// Reads a file and derives its key from the passphrase.
    pub(super) fn open(path: &Path, passphrase: &SecretString) -> Result<(Self, KeyUri, KeyRing<S>), Error> {
        let text = private_file::read(path, MAX_FILE)?;
        let (line, body) = split(&text).ok_or_else(|| damaged(path))?;
        let (uri, cost, salt) = Header::parse(S::FORMAT, path, line)?;
        let file = Self {
            path: path.to_owned(),
            header: line.to_owned(),
            file_key: derive(passphrase, &salt, cost)?,
            holds: PhantomData,
        };
        let ring = file.unseal(body)?;
        Ok((file, uri, ring))
    }

    fn seal(&self, ring: &KeyRing<S>) -> Result<String, Error> {
        let entries: Vec<Entry> = ring
            .versions()
            .map(|(version, key)| Entry { version, key: HEXLOWER.encode(key.expose()) })
            .collect();
        // Reserved up front: a buffer that grows leaves unwiped copies of the keys behind.
        let length = entries.iter().map(|entry| entry.key.len() + 64).sum::<usize>() + 64;
        let mut list = Zeroizing::new(Vec::with_capacity(length));
        serde_json::to_writer(&mut *list, &entries).map_err(|e| cannot_write(&e))?;
        let mut nonce = [0; NONCE];
        random(&mut nonce)?;
        let sealed = self
            .cipher()
            .encrypt(&XNonce::from(nonce), Payload { msg: &list, aad: self.header.as_bytes() })
            .map_err(|_| Error::new(ErrorKind::Unsupported, "the key ring is too long"))?;
        Ok(format!("{}\n{}\n", self.header, BASE64.encode(&[nonce.as_slice(), &sealed].concat())))
    }

    fn unseal(&self, body: &str) -> Result<KeyRing<S>, Error> {
        let damaged = || damaged(&self.path);
        let bytes = BASE64.decode(body.as_bytes()).map_err(|_| damaged())?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE>().ok_or_else(damaged)?;
        let list = self
            .cipher()
            .decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: self.header.as_bytes() })
            .map_err(|_| damaged())?;
        let list = Zeroizing::new(list);
        let entries: Vec<Entry> = serde_json::from_slice(&list).map_err(|_| damaged())?;
        let versions: Option<Vec<(u32, S)>> =
            entries.iter().map(|e| Some((e.version, e.secret()?))).collect();
        versions.and_then(ring_of).ok_or_else(damaged)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.file_key.expose_secret().into())
    }
}

impl<S: Written> Place<S> for RingFile<S> {
    /// Reads the file again with the key from its first opening.
    fn read(&self) -> Result<KeyRing<S>, Error> {
        let text = private_file::read(&self.path, MAX_FILE)?;
        match split(&text) {
            Some((line, body)) if line == self.header => self.unseal(body),
            Some((line, _)) if Header::parse(S::FORMAT, &self.path, line).is_ok() => {
                let path = self.path.display();
                let text = format!("{path} was sealed anew, under another passphrase perhaps: open it again");
                Err(Error::new(ErrorKind::Conflict, text))
            }
            _ => Err(damaged(&self.path)),
        }
    }

    fn update(&self, change: &Change<'_, S>) -> Result<KeyRing<S>, Error> {
        let _lock = private_file::lock(&self.path)?;
        let ring = change(&self.read()?)?;
        private_file::replace(&self.path, self.seal(&ring)?.as_bytes())?;
        Ok(ring)
    }
}

impl Header {
    fn new(format: &str, uri: &KeyUri, cost: PassphraseCost, salt: &[u8; SALT]) -> Self {
        let PassphraseCost { memory_kib, passes, lanes } = cost;
        let kdf = Kdf { name: KDF.to_owned(), memory_kib, passes, lanes, salt: BASE64.encode(salt) };
        Self { format: format.to_owned(), version: FORMAT_VERSION, name: uri.name().to_owned(), kdf }
    }

    fn to_line(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|e| cannot_write(&e))
    }

    /// Reads the first line. It is not authenticated yet, so every value in it is bounded here.
    fn parse(expected: &str, path: &Path, line: &str) -> Result<(KeyUri, PassphraseCost, [u8; SALT]), Error> {
        let Self { format, version, name, kdf } = serde_json::from_str(line).map_err(|_| damaged(path))?;
        if format != expected {
            return Err(Error::invalid(format!("{} does not say that it is a `{expected}`", path.display())));
        }
        if kdf.name != KDF {
            return Err(damaged(path));
        }
        if version != FORMAT_VERSION {
            let text =
                format!("{} is a key ring of version {version}; this build reads version 1", path.display());
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let uri = KeyUri::local(&name).map_err(|_| damaged(path))?;
        let cost = PassphraseCost::new(kdf.memory_kib, kdf.passes, kdf.lanes)?;
        let salt = BASE64.decode(kdf.salt.as_bytes()).ok().and_then(|salt| salt.try_into().ok());
        Ok((uri, cost, salt.ok_or_else(|| damaged(path))?))
    }
}

impl Entry {
    fn secret<S: Written>(&self) -> Option<S> {
        S::read(&Zeroizing::new(HEXLOWER.decode(self.key.as_bytes()).ok()?))
    }
}

impl<S> fmt::Debug for RingFile<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, header: _, file_key: _, holds: _ } = self;
        f.debug_struct("RingFile").field("path", path).finish_non_exhaustive()
    }
}

/// The ring of versions read from a file, which must be distinct and not 0.
fn ring_of<S: Secret>(versions: Vec<(u32, S)>) -> Option<KeyRing<S>> {
    let count = versions.len();
    let mut older: BTreeMap<_, _> = versions.into_iter().map(|(v, key)| (v, Arc::new(key))).collect();
    if older.len() != count || count > S::MAX_VERSIONS || older.contains_key(&0) {
        return None;
    }
    let newest = older.pop_last()?;
    Some(KeyRing { newest, older })
}

/// Exactly two lines, each ended.
fn split(text: &str) -> Option<(&str, &str)> {
    let (header, body) = text.strip_suffix('\n')?.split_once('\n')?;
    Some((header, body))
}

/// Argon2id version 1.3, RFC 9106 section 3.
fn derive(passphrase: &SecretString, salt: &[u8; SALT], cost: PassphraseCost) -> Result<FileKey, Error> {
    let PassphraseCost { memory_kib, passes, lanes } = cost;
    let cannot =
        |e: argon2::Error| Error::invalid("Argon2id refuses these parameters").with_source(e.to_string());
    let params = Params::new(memory_kib, passes, lanes, Some(32)).map_err(cannot)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut derived = Ok(());
    let key = SecretBox::init_with_mut(|key: &mut [u8; 32]| {
        derived = argon2.hash_password_into(passphrase.expose_secret().as_bytes(), salt, key);
    });
    derived.map_err(cannot)?;
    Ok(key)
}

fn damaged(path: &Path) -> Error {
    Error::invalid(format!(
        "{} does not open: the passphrase is wrong, or the file is damaged; restore the file from a backup if the \
         passphrase is right",
        path.display()
    ))
}

fn cannot_write(error: &serde_json::Error) -> Error {
    // The category only: a serialiser's text could quote what it was writing.
    Error::unavailable("the key ring cannot be written").with_source(format!("{:?}", error.classify()))
}
