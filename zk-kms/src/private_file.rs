//! Files that only their owner reads and that change in one step: for key rings, and for zk-crypto's key store.
//!
//! It is public for the crates of this workspace only, and changes without notice.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use rustix::{fs::OFlags, io::Errno, process::geteuid};
#[cfg(feature = "vault")]
use zeroize::Zeroizing;

use crate::{Error, ErrorKind, key::random};

/// What nobody but the owner may do.
const CLOSED: u32 = 0o077;
#[cfg(feature = "vault")]
const READABLE_BY_GROUP: u32 = 0o037;

/// Reads a file after checking, on the open file itself, that it belongs to us, is closed to others, and has at most so many
/// bytes.
///
/// # Errors
///
/// [`ErrorKind::NotFound`], [`ErrorKind::Denied`] for a file that others reach, [`ErrorKind::Invalid`] for one that is too
/// long or no text.
pub fn read(path: &Path, max: u64) -> Result<String, Error> {
    read_if(path, max, CLOSED)
}

/// Reads a file as [`read`] does, which may be readable by its group: how one user's program hands a token to another's.
///
/// # Errors
///
/// As [`read`].
#[cfg(feature = "vault")]
pub(crate) fn read_shared(path: &Path, max: u64) -> Result<Zeroizing<String>, Error> {
    read_if(path, max, READABLE_BY_GROUP).map(Zeroizing::new)
}

fn read_if(path: &Path, max: u64, closed_to: u32) -> Result<String, Error> {
    // NOFOLLOW: a link could point anywhere and be changed by whoever owns its directory, and replacing the file would
    // replace the link. NONBLOCK: opening a pipe must not wait for a writer.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(|e| cannot(path, "opened", e))?;
    let length = check(path, &file, closed_to)?;
    // Reserved up front: a buffer that grows leaves copies behind.
    let mut text = String::with_capacity(usize::try_from(length.min(max)).unwrap_or(0).saturating_add(1));
    file.take(max.saturating_add(1)).read_to_string(&mut text).map_err(|e| cannot(path, "read", e))?;
    if text.len() as u64 > max {
        return Err(Error::invalid(format!("{} has more than {max} bytes", path.display())));
    }
    Ok(text)
}

/// Writes a new file; fails when there is one.
///
/// # Errors
///
/// [`ErrorKind::Invalid`] when there is one, [`ErrorKind::Denied`] or [`ErrorKind::Unavailable`] when it cannot be written.
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = Temporary::write(path, bytes)?;
    // Linking, unlike renaming, fails when the name is taken.
    fs::hard_link(&temporary.path, path).map_err(|e| cannot(path, "created", e))?;
    sync_directory(path)
}

/// Replaces a file: readers see the old or the new one, and so does the disk after a crash.
///
/// # Errors
///
/// [`ErrorKind::Denied`] or [`ErrorKind::Unavailable`] when it cannot be written.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = Temporary::write(path, bytes)?;
    fs::rename(&temporary.path, path).map_err(|e| cannot(path, "replaced", e))?;
    sync_directory(path)
}

/// Waits until nobody else changes the file; dropping the returned file lets the next one in.
///
/// The lock is a file of its own beside it, because the file is replaced while the lock is held.
///
/// # Errors
///
/// [`ErrorKind::Denied`] when others reach the lock, [`ErrorKind::Denied`] or [`ErrorKind::Unavailable`] when it cannot be
/// opened.
pub fn lock(path: &Path) -> Result<File, Error> {
    let lock = beside(path, "lock")?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(&lock)
        .map_err(|e| cannot(&lock, "opened", e))?;
    // Who else could open it could hold it for ever.
    check(&lock, &file, CLOSED)?;
    file.lock().map_err(|e| cannot(&lock, "locked", e))?;
    Ok(file)
}

/// Returns the length of a file that is one and belongs to us.
fn check(path: &Path, file: &File, closed_to: u32) -> Result<u64, Error> {
    let metadata = file.metadata().map_err(|e| cannot(path, "examined", e))?;
    let path = path.display();
    let denied = |message| Err(Error::new(ErrorKind::Denied, message));
    if !metadata.is_file() {
        return denied(format!("{path} is not a regular file"));
    }
    let (owner, us) = (metadata.uid(), geteuid().as_raw());
    if owner != us && owner != 0 {
        return denied(format!("{path} belongs to user {owner}; run `chown {us} {path}`"));
    }
    if metadata.mode() & closed_to != 0 {
        let mode = 0o640 & !closed_to;
        return denied(format!("{path} is open to other users; run `chmod {mode:o} {path}`"));
    }
    Ok(metadata.len())
}

/// A finished file under another name, removed on drop unless it was renamed away.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn write(target: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let mut suffix = [0; 8];
        random(&mut suffix)?;
        let path = beside(target, &format!("{}.tmp", HEXLOWER.encode(&suffix)))?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| cannot(target, "written", e))?;
        let temporary = Self { path };
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| cannot(target, "written", e))?;
        Ok(temporary)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Nothing is left to remove after a rename, and nothing can be done about a failure.
        fs::remove_file(&self.path).ok();
    }
}

/// `<file name>.<suffix>` in the same directory, so that a rename stays within one file system.
fn beside(path: &Path, suffix: &str) -> Result<PathBuf, Error> {
    let name = path.file_name().ok_or_else(|| Error::invalid("the path must name a file"))?;
    let mut name = name.to_owned();
    name.push(format!(".{suffix}"));
    Ok(path.with_file_name(name))
}

fn sync_directory(path: &Path) -> Result<(), Error> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(|e| cannot(path, "made durable", e))
}

fn cannot(path: &Path, verb: &str, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        io::ErrorKind::AlreadyExists | io::ErrorKind::InvalidData => ErrorKind::Invalid,
        // What NOFOLLOW says about a link.
        _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => ErrorKind::Denied,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("{} cannot be {verb}", path.display())).with_source(error)
}
