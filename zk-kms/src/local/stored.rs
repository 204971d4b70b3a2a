//! A key ring where it is kept: in memory, or in a place that others may change too.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use super::ring::{KeyRing, Secret};
use crate::{Error, KeyUri, KeyVersion};

/// The newest key ring that this process has seen.
pub(super) struct Stored<S> {
    uri: KeyUri,
    ring: RwLock<Arc<KeyRing<S>>>,
    /// Without one the ring is in memory only.
    place: Option<Box<dyn Place<S>>>,
}

/// Where a ring stands that other processes read and rotate.
pub(super) trait Place<S>: fmt::Debug + Send + Sync {
    /// Reads the ring.
    fn read(&self) -> Result<KeyRing<S>, Error>;

    /// Replaces the ring by what `change` makes of the one that is there, while nobody else can.
    fn update(&self, change: &Change<'_, S>) -> Result<KeyRing<S>, Error>;
}

pub(super) type Change<'a, S> = dyn Fn(&KeyRing<S>) -> Result<KeyRing<S>, Error> + 'a;

impl<S: Secret> Stored<S> {
    pub(super) fn new(uri: KeyUri, ring: KeyRing<S>, place: Option<Box<dyn Place<S>>>) -> Self {
        Self { uri, ring: RwLock::new(Arc::new(ring)), place }
    }

    pub(super) fn ephemeral(name: &str) -> Result<Self, Error> {
        Ok(Self::new(KeyUri::local(name)?, KeyRing::generate()?, None))
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
        if let Some(place) = &self.place {
            // A version added to an older copy would take a number that has wrapped keys already.
            let ring = place.update(&|stored| match stored.holds_all_of(&self.current()) {
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
        if let Some(place) = &self.place {
            self.adopt(place.read()?)?;
        }
        Ok(())
    }

    /// Keeps the newer of two rings: a slow reader must not put an old one back. Returns the version it brought.
    ///
    /// INVARIANT: no version is ever lost. A newer ring that lacks one of ours grew from an older copy.
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
        let Self { uri, ring, place } = self;
        f.debug_struct("Stored").field("uri", uri).field("ring", ring).field("place", place).finish()
    }
}

fn other_ring(uri: &KeyUri) -> Error {
    let message = format!(
        "the file of `{uri}` lacks versions that this process holds: an older copy was put back; put the newest copy \
         in its place before this process ends, or what they wrapped is lost"
    );
    Error::new(crate::ErrorKind::Conflict, message)
}
