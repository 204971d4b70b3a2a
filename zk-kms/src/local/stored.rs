//! A key ring where it is kept: in memory, or in a file that others may change too.

#[cfg(unix)]
use std::path::Path;
use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

#[cfg(unix)]
use secrecy::SecretString;

use super::ring::{KeyRing, Secret};
#[cfg(unix)]
use super::{PassphraseCost, file::RingFile};
use crate::{Error, KeyUri, KeyVersion};

/// The newest key ring that this process has seen.
pub(super) struct Stored<S> {
    uri: KeyUri,
    ring: RwLock<Arc<KeyRing<S>>>,
    #[cfg(unix)]
    file: Option<RingFile<S>>,
}

impl<S: Secret> Stored<S> {
    pub(super) fn ephemeral(name: &str) -> Result<Self, Error> {
        Ok(Self {
            uri: KeyUri::local(name)?,
            ring: RwLock::new(Arc::new(KeyRing::generate()?)),
            #[cfg(unix)]
            file: None,
        })
    }

    #[cfg(unix)]
    pub(super) fn create(
        path: &Path,
        name: &str,
        passphrase: &SecretString,
        cost: PassphraseCost,
    ) -> Result<Self, Error> {
        let uri = KeyUri::local(name)?;
        let ring = KeyRing::generate()?;
        let file = RingFile::create(path, &uri, passphrase, cost, &ring)?;
        Ok(Self { uri, ring: RwLock::new(Arc::new(ring)), file: Some(file) })
    }

    #[cfg(unix)]
    pub(super) fn open(path: &Path, passphrase: &SecretString) -> Result<Self, Error> {
        let (file, uri, ring) = RingFile::open(path, passphrase)?;
        Ok(Self { uri, ring: RwLock::new(Arc::new(ring)), file: Some(file) })
    }

    #[cfg(unix)]
    pub(super) fn change_passphrase(
        path: &Path,
        from: &SecretString,
        to: &SecretString,
        cost: PassphraseCost,
    ) -> Result<(), Error> {
        RingFile::<S>::change_passphrase(path, from, to, cost)
    }

    pub(super) fn uri(&self) -> &KeyUri {
        &self.uri
    }

    pub(super) fn current(&self) -> Arc<KeyRing<S>> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the ring, read again if it lacks `version`, which another process may have added.
    pub(super) fn holding(&self, version: u32) -> Result<Arc<KeyRing<S>>, Error> {
        let current = self.current();
        if current.version(version).is_some() {
            return Ok(current);
        }
        self.reload()?;
        Ok(self.current())
    }

    pub(super) fn rotate(&self) -> Result<KeyVersion, Error> {
        #[cfg(unix)]
        if let Some(file) = &self.file {
            // A version added to an older copy would take a number that has wrapped keys already.
            let ring = file.update(|stored| match stored.holds_all_of(&self.current()) {
                true => stored.rotated(),
                false => Err(other_ring(&self.uri)),
            })?;
            return Ok(self.adopt(ring)?.into());
        }
        // The write lock is held while the new ring is made, so that two rotations do not make the same version.
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        *ring = Arc::new(ring.rotated()?);
        Ok(ring.newest().0.into())
    }

    pub(super) fn reload(&self) -> Result<(), Error> {
        #[cfg(unix)]
        if let Some(file) = &self.file {
            self.adopt(file.read()?)?;
        }
        Ok(())
    }

    /// Keeps the newer of two rings: a slow reader must not put an old one back. Returns the version it brought.
    ///
    /// INVARIANT: no version is ever lost. A newer ring that lacks one of ours grew from an older copy.
    #[cfg(unix)]
    fn adopt(&self, ring: KeyRing<S>) -> Result<u32, Error> {
        let (brought, _) = ring.newest();
        let mut current = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        if brought > current.newest().0 {
            if !ring.holds_all_of(&current) {
                return Err(other_ring(&self.uri));
            }
            *current = Arc::new(ring);
        }
        Ok(brought)
    }
}

impl<S> fmt::Debug for Stored<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Stored");
        shown.field("uri", &self.uri).field("ring", &self.ring);
        #[cfg(unix)]
        shown.field("file", &self.file);
        shown.finish()
    }
}

#[cfg(unix)]
fn other_ring(uri: &KeyUri) -> Error {
    let message = format!(
        "the file of `{uri}` lacks versions that this process holds: an older copy was put back; put the newest copy \
         in its place before this process ends, or what they wrapped is lost"
    );
    Error::new(crate::ErrorKind::Conflict, message)
}
