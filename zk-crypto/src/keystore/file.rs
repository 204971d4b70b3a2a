//! A key store in one file.
//!
//! ```text
//! zk-crypto keys 1
//! <id> <scope> <generation> <minimum generation> <state> <microseconds since 1970> <wrapped key, base64, or ->
//! ```
//!
//! One line for each key, ordered by scope and generation.

use std::{
    collections::HashSet,
    fmt::Write,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use data_encoding::{BASE64, HEXLOWER};
use zk_kms::{WrappedKey, private_file};

use super::{KeyRecord, KeyState, KeyStore, records::Records};
use crate::{Error, ErrorKind, KeyId, Scope};

const HEADER: &str = "zk-crypto keys 1";
/// Some hundred thousand keys; a limit because files are read before they are trusted.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// A key store in a file, for services on one machine: thousands of keys, not millions.
///
/// Each change writes the whole file beside it, syncs it, and renames it over the old one, so that readers and a crash find
/// the old or the new keys. Processes that share the file wait for each other while they change it, with a lock on
/// `<file>.lock`. The file belongs to the service's user, with mode 0600, and is refused otherwise. It holds wrapped keys only.
///
/// Calls read or write a small file and do not yield meanwhile.
///
/// ```
/// use zk_crypto::{FileKeyStore, KeyStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), zk_crypto::Error> {
/// # let path = std::env::temp_dir().join(format!("zk-crypto-example-{}", std::process::id()));
/// let store = FileKeyStore::create(&path)?;
/// assert!(store.list(None).await?.is_empty());
/// assert!(FileKeyStore::create(&path).is_err(), "an existing file is opened, not replaced");
/// let same = FileKeyStore::open(&path)?;
/// # std::fs::remove_file(path).unwrap();
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct FileKeyStore {
    path: PathBuf,
}

impl FileKeyStore {
    /// Makes a new, empty file.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when there is one; [`ErrorKind::Denied`] or [`ErrorKind::Unavailable`] when it cannot be written.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let store = Self { path: path.into() };
        private_file::create(&store.path, to_text(&Records::default()).as_bytes()).map_err(|e| {
            match e.kind() {
                zk_kms::ErrorKind::Invalid => {
                    Error::new(ErrorKind::Conflict, "the key file exists").with_source(e)
                }
                _ => cannot("create", e),
            }
        })?;
        Ok(store)
    }

    /// Opens a file that [`FileKeyStore::create`] made.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when there is none; [`ErrorKind::Denied`] when others can reach it; [`ErrorKind::Corrupt`] when
    /// it is no key file.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let store = Self { path: path.into() };
        read(&store.path).map(|_| store)
    }

    /// Changes the records while nobody else can.
    fn change(&self, change: impl FnOnce(&mut Records) -> Result<(), Error>) -> Result<(), Error> {
        let _lock = private_file::lock(&self.path).map_err(|e| cannot("lock", e))?;
        let mut records = read(&self.path)?;
        change(&mut records)?;
        let text = to_text(&records);
        // What could not be read again must not be written.
        if text.len() as u64 > MAX_FILE {
            return Err(Error::invalid("the key file has no room for more keys"));
        }
        private_file::replace(&self.path, text.as_bytes()).map_err(|e| cannot("replace", e))
    }
}

#[async_trait]
impl KeyStore for FileKeyStore {
    async fn insert(&self, record: &KeyRecord) -> Result<(), Error> {
        self.change(|records| records.insert(record))
    }

    async fn active(&self, scope: &Scope) -> Result<Option<KeyRecord>, Error> {
        Ok(read(&self.path)?.active(scope).cloned())
    }

    async fn by_id(&self, id: KeyId) -> Result<Option<KeyRecord>, Error> {
        Ok(read(&self.path)?.by_id(id).cloned())
    }

    async fn list(&self, scope: Option<&Scope>) -> Result<Vec<KeyRecord>, Error> {
        Ok(read(&self.path)?.list(scope))
    }

    async fn replace_wrapped(&self, id: KeyId, old: &WrappedKey, new: &WrappedKey) -> Result<(), Error> {
        self.change(|records| records.replace_wrapped(id, old, new))
    }

    async fn set_state(&self, id: KeyId, from: KeyState, to: KeyState) -> Result<(), Error> {
        self.change(|records| records.set_state(id, from, to))
    }

    async fn destroy(&self, id: KeyId) -> Result<(), Error> {
        self.change(|records| records.destroy(id))
    }

    async fn set_minimum(&self, scope: &Scope, from: u32, to: u32) -> Result<(), Error> {
        self.change(|records| records.set_minimum(scope, from, to))
    }
}

fn read(path: &Path) -> Result<Records, Error> {
    let text = private_file::read(path, MAX_FILE).map_err(|e| cannot("read", e))?;
    from_text(&text).ok_or_else(|| Error::new(ErrorKind::Corrupt, "the key file is damaged, or is none"))
}

fn to_text(records: &Records) -> String {
    let mut text = format!("{HEADER}\n");
    for KeyRecord { id, scope, generation, wrapped, state, created_at, minimum } in records.iter() {
        let wrapped = wrapped.as_ref().map_or_else(|| "-".to_owned(), |w| BASE64.encode(&w.to_bytes()));
        let age = created_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (state, micros) = (state.as_str(), age.as_micros());
        // Writing to a String does not fail.
        writeln!(text, "{id} {scope} {generation} {minimum} {state} {micros} {wrapped}").ok();
    }
    text
}

/// What [`to_text`] wrote, and nothing else.
fn from_text(text: &str) -> Option<Records> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    if lines.next()? != HEADER {
        return None;
    }
    let (mut records, mut ids) = (Records::default(), HashSet::new());
    let mut last: Option<KeyRecord> = None;
    for line in lines {
        let record = parse(line)?;
        let fits = match &last {
            Some(last) if last.scope == record.scope => {
                last.minimum == record.minimum && last.generation.checked_add(1) == Some(record.generation)
            }
            Some(last) => last.scope < record.scope && record.generation == 1,
            None => record.generation == 1,
        };
        let second = record.state == KeyState::Active && records.active(&record.scope).is_some();
        if !fits || second || !ids.insert(record.id) {
            return None;
        }
        last = Some(record.clone());
        records.restore(record);
    }
    Some(records)
}

fn parse(line: &str) -> Option<KeyRecord> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [id, scope, generation, minimum, state, micros, wrapped] = fields.as_slice() else { return None };
    let wrapped = match *wrapped {
        "-" => None,
        text => Some(WrappedKey::from_bytes(&BASE64.decode(text.as_bytes()).ok()?).ok()?),
    };
    let state = KeyState::parse(state)?;
    if wrapped.is_none() != (state == KeyState::Destroyed) {
        return None;
    }
    Some(KeyRecord {
        id: KeyId::from_slice(&HEXLOWER.decode(id.as_bytes()).ok()?).ok()?,
        scope: Scope::new(scope).ok()?,
        generation: generation.parse().ok()?,
        wrapped,
        state,
        created_at: SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(micros.parse().ok()?))?,
        minimum: minimum.parse().ok().filter(|minimum| *minimum > 0)?,
    })
}

fn cannot(verb: &str, source: zk_kms::Error) -> Error {
    let (kind, what) = match source.kind() {
        zk_kms::ErrorKind::Denied => (ErrorKind::Denied, "not allowed, or open to others"),
        zk_kms::ErrorKind::NotFound => (ErrorKind::Invalid, "there is none; FileKeyStore::create makes it"),
        zk_kms::ErrorKind::Invalid => (ErrorKind::Corrupt, "it is too long, or no text"),
        _ => (ErrorKind::Unavailable, "the file system does not let us now"),
    };
    Error::new(kind, format!("cannot {verb} the key file: {what}")).with_source(source)
}

#[cfg(test)]
mod tests;
