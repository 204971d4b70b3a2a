//! Certificates, keys and roots in files that somebody else replaces.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrecy::SecretString;
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::Tls;
use super::material::{Material, read};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind};

/// So often are files read while they change under the reader.
const ATTEMPTS: usize = 5;
/// How long a change of several files may take before they are read again.
const PAUSE: Duration = Duration::from_millis(20);

/// Where the parts of a [`Material`] are, in PEM.
///
/// # Examples
/// ```
/// use std::path::Path;
/// use zk_creds::tls::MaterialFiles;
///
/// let files = MaterialFiles::mounted("/etc/tls");
/// assert_eq!(files.roots, Path::new("/etc/tls/ca.crt"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "paths are plain data that services build")]
pub struct MaterialFiles {
    /// The roots to trust.
    pub roots: PathBuf,
    /// The certificate with those between it and a root, and its key; none for a client that shows nothing.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Lists of revocations.
    pub refused: Option<PathBuf>,
}

impl MaterialFiles {
    /// The names that a Kubernetes Secret of type `kubernetes.io/tls` has where it is mounted: `ca.crt`, `tls.crt`, `tls.key`.
    #[must_use]
    pub fn mounted(directory: impl AsRef<Path>) -> Self {
        let [roots, chain, key] = ["ca.crt", "tls.crt", "tls.key"].map(|name| directory.as_ref().join(name));
        Self { roots, identity: Some((chain, key)), refused: None }
    }

    /// Reads all of them once.
    fn read(&self) -> Result<Contents, Error> {
        let Self { roots, identity, refused } = self;
        let roots = read(roots)?;
        let identity = match identity {
            None => None,
            Some((chain, key)) => Some((read(chain)?, Zeroizing::new(read(key)?))),
        };
        Ok(Contents {
            roots,
            identity,
            refused: refused.as_deref().map(read).transpose()?.unwrap_or_default(),
        })
    }

    /// Reads all of them, at a time at which none was being replaced.
    fn settled(&self) -> Result<Contents, Error> {
        let mut before = self.read()?;
        for _ in 0..ATTEMPTS {
            let now = self.read()?;
            if now.equals(&before) {
                return Ok(now);
            }
            before = now;
            std::thread::sleep(PAUSE);
        }
        Err(Error::new(ErrorKind::Conflict, "the files change faster than they can be read"))
    }
}

struct Contents {
    roots: Vec<u8>,
    identity: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    refused: Vec<u8>,
}

impl Contents {
    fn equals(&self, other: &Self) -> bool {
        let Self { roots, identity, refused } = self;
        let is_same = match (identity, &other.identity) {
            (Some((chain, key)), Some((other_chain, other_key))) => {
                chain == other_chain && bool::from(key.ct_eq(other_key))
            }
            (None, None) => true,
            _ => false,
        };
        is_same && *roots == other.roots && *refused == other.refused
    }

    fn material(&self) -> Result<Material, Error> {
        let Self { roots, identity, refused } = self;
        let material = Material::trusting(roots.as_slice()).refusing(refused.as_slice());
        let Some((chain, key)) = identity else { return Ok(material) };
        let key = std::str::from_utf8(key)
            .map_err(|_| Error::new(ErrorKind::Invalid, "the private key is not in PEM form"))?;
        Ok(material.proving(chain.as_slice(), SecretString::from(key)))
    }
}

/// How files are followed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FollowConfig {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// How often they are looked at. Default: 5 seconds.
    pub every: Duration,
}

impl Default for FollowConfig {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), every: Duration::from_secs(5) }
    }
}

/// How it is going.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Followed {
    /// How often other files were put in use.
    pub reloads: u64,
    /// When the certificate in use ends, if there is one.
    pub expires_at: Option<SystemTime>,
    /// What is wrong with the files as they are now. Those from before are in use.
    pub failure: Option<Arc<Error>>,
}

/// A task that follows files. Dropping this ends the task; what it loaded last stays in use.
///
/// Files are compared by what they hold, so that it does not matter how they are replaced: by a rename, as `zk-exec` and
/// certbot do, by a link to another directory, as Kubernetes does, or in place. They are taken when two readings agree and the
/// parts fit each other: a key and a certificate of which one is not yet there are a failure until it is.
///
/// Nothing is silent: what is wrong is an event of `tracing`, when it begins, and in [`Followed`], as is a certificate that has
/// ended because nobody replaced it.
#[derive(Debug)]
pub struct Follower {
    task: JoinHandle<()>,
    followed: watch::Receiver<Followed>,
}

impl Tls {
    /// Begins with what the files hold, and uses what they hold later from the next handshake on, on the current tokio
    /// runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] for a file that cannot be read; as [`new`](Self::new). Only at the beginning: later, what was
    /// read before stays in use.
    pub fn follow(files: MaterialFiles, config: FollowConfig) -> Result<(Self, Follower), Error> {
        let contents = files.settled()?;
        let tls = Self::with_clock(contents.material()?, Arc::clone(&config.clock))?;
        let first = Followed { reloads: 0, expires_at: tls.expires_at(), failure: None };
        let (tell, followed) = watch::channel(first);
        let following = Following { files, config, tls: tls.clone(), used: contents };
        Ok((tls, Follower { task: tokio::spawn(following.run(tell)), followed }))
    }
}

impl Follower {
    /// How it is going now.
    #[must_use]
    pub fn followed(&self) -> Followed {
        self.followed.borrow().clone()
    }

    /// Waits until other files are in use, or something is wrong with them, or no longer is, and returns how it is going.
    pub async fn next(&mut self) -> Followed {
        drop(self.followed.changed().await);
        self.followed.borrow_and_update().clone()
    }

    /// How it is going, for as many as want to follow it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Followed> {
        self.followed.clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Following {
    files: MaterialFiles,
    config: FollowConfig,
    tls: Tls,
    used: Contents,
}

impl Following {
    async fn run(mut self, tell: watch::Sender<Followed>) {
        loop {
            tokio::time::sleep(self.config.every).await;
            let outcome = self.look().await;
            let expires_at = self.tls.expires_at();
            let (is_new, failure) = match outcome {
                Ok(is_new) => (is_new, self.overdue(expires_at)),
                Err(error) => (false, Some(error)),
            };
            let text = |error: &Error| error.to_string();
            let known = tell.borrow().failure.as_deref().map(text);
            let has_changed = failure.as_ref().map(text) != known;
            if has_changed && let Some(error) = &failure {
                let kind = error.kind();
                tracing::warn!(?kind, %error, roots = %self.files.roots.display(), "certificates in files are not taken");
            }
            if !is_new && !has_changed {
                continue;
            }
            if is_new {
                tracing::debug!(roots = %self.files.roots.display(), "other certificates are in use");
            }
            tell.send_modify(|followed| {
                followed.reloads += u64::from(is_new);
                followed.expires_at = expires_at;
                followed.failure = failure.map(Arc::new);
            });
        }
    }

    /// Takes what the files hold now, if it is something else. Whether it was.
    async fn look(&mut self) -> Result<bool, Error> {
        let files = self.files.clone();
        let contents = tokio::task::spawn_blocking(move || files.settled()).await;
        let contents = contents
            .map_err(|e| Error::new(ErrorKind::Unavailable, "the files could not be read").because(e))??;
        if contents.equals(&self.used) {
            return Ok(false);
        }
        self.tls.reload(contents.material()?)?;
        self.used = contents;
        Ok(true)
    }

    fn overdue(&self, expires_at: Option<SystemTime>) -> Option<Error> {
        let has_ended = expires_at.is_some_and(|at| at <= self.config.clock.now());
        let message = "the certificate has ended and its files were not replaced; who writes them?";
        has_ended.then(|| Error::new(ErrorKind::Expired, message))
    }
}

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following").field("files", &self.files).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(feature = "authority")] // which makes the certificates
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use secrecy::ExposeSecret;

    use super::*;
    use crate::tls::{Authority, AuthorityConfig, KeyRequest, Names};

    const EVERY: Duration = Duration::from_millis(10);

    fn authority() -> Authority {
        Authority::create(AuthorityConfig::new("shop.example")).unwrap()
    }

    /// Writes a certificate that lives so long.
    fn write(directory: &Path, authority: &Authority, seconds: u64) {
        let request = KeyRequest::generate().unwrap();
        let leaf =
            authority.sign(request.pem(), &Names::service("orders"), Duration::from_secs(seconds)).unwrap();
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("ca.crt"), authority.certificate()).unwrap();
        fs::write(directory.join("tls.crt"), &leaf.certificate).unwrap();
        fs::write(directory.join("tls.key"), request.key().expose_secret()).unwrap();
    }

    fn follow(directory: &Path) -> (Tls, Follower) {
        let config = FollowConfig { every: EVERY, ..FollowConfig::default() };
        Tls::follow(MaterialFiles::mounted(directory), config).unwrap()
    }

    async fn until(follower: &mut Follower, what: impl Fn(&Followed) -> bool + Send + Sync) -> Followed {
        let waited = async {
            loop {
                let followed = follower.followed();
                if what(&followed) {
                    return followed;
                }
                drop(tokio::time::timeout(EVERY, follower.next()).await);
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waited).await.unwrap()
    }

    fn hours(tls: &Tls) -> u64 {
        let left = tls.expires_at().unwrap().duration_since(SystemClock.now()).unwrap();
        (left.as_secs() + 1800) / 3600
    }

    #[tokio::test]
    async fn a_directory_that_a_link_swaps_is_followed() {
        let (folder, authority) = (tempfile::tempdir().unwrap(), authority());
        // As Kubernetes mounts a Secret: files are links through one link, which is replaced by a rename.
        let mount = folder.path().join("mount");
        write(&mount.join("..1"), &authority, 3600);
        symlink("..1", mount.join("..data")).unwrap();
        for name in ["ca.crt", "tls.crt", "tls.key"] {
            symlink(format!("..data/{name}"), mount.join(name)).unwrap();
        }
        let (tls, mut follower) = follow(&mount);
        assert_eq!(hours(&tls), 1);
        write(&mount.join("..2"), &authority, 5 * 3600);
        symlink("..2", mount.join("..next")).unwrap();
        fs::rename(mount.join("..next"), mount.join("..data")).unwrap();
        fs::remove_dir_all(mount.join("..1")).unwrap();
        let followed = until(&mut follower, |followed| followed.reloads == 1).await;
        assert_eq!((hours(&tls), followed.expires_at), (5, tls.expires_at()));
        assert!(followed.failure.is_none());
        tokio::time::sleep(EVERY * 5).await;
        assert_eq!(follower.followed().reloads, 1, "what has not changed is not loaded again");
    }

    #[tokio::test]
    async fn bad_files_are_told_and_the_old_ones_stay() {
        let (folder, authority) = (tempfile::tempdir().unwrap(), authority());
        let directory = folder.path().join("tls");
        write(&directory, &authority, 3600);
        let (tls, mut follower) = follow(&directory);
        let replace = |name: &str, text: &str| {
            fs::write(directory.join("new"), text).unwrap();
            fs::rename(directory.join("new"), directory.join(name)).unwrap();
        };
        let good = fs::read_to_string(directory.join("tls.key")).unwrap();
        let other = KeyRequest::generate().unwrap();
        for (name, text, why) in [
            ("tls.key", "nothing", "private key cannot be read"),
            ("tls.key", other.key().expose_secret(), "do not fit"),
            ("ca.crt", "nothing", "no certificate in PEM form"),
            ("ca.crt", self::authority().certificate(), "not valid now under the roots"),
            ("tls.crt", "nothing", "the certificate"),
        ] {
            let before = fs::read_to_string(directory.join(name)).unwrap();
            replace(name, text);
            let is_told = |followed: &Followed| {
                followed.failure.as_ref().is_some_and(|error| error.to_string().contains(why))
            };
            let followed = until(&mut follower, is_told).await;
            assert_eq!((followed.reloads, hours(&tls)), (0, 1), "{name}");
            replace(name, &before);
            until(&mut follower, |followed| followed.failure.is_none()).await;
        }
        fs::remove_file(directory.join("tls.key")).unwrap();
        let gone = |followed: &Followed| {
            followed.failure.as_ref().is_some_and(|error| error.kind() == ErrorKind::Missing)
        };
        until(&mut follower, gone).await;
        replace("tls.key", &good);
        until(&mut follower, |followed| followed.failure.is_none()).await;

        // One file after the other: a failure in between, if it is seen, and the new ones in the end.
        let next = folder.path().join("next");
        write(&next, &authority, 5 * 3600);
        for name in ["tls.crt", "tls.key"] {
            replace(name, &fs::read_to_string(next.join(name)).unwrap());
            tokio::time::sleep(EVERY * 3).await;
        }
        let is_over = |followed: &Followed| followed.reloads == 1 && followed.failure.is_none();
        until(&mut follower, is_over).await;
        assert_eq!(hours(&tls), 5);
    }

    #[derive(Debug)]
    struct Later(Duration);

    impl Clock for Later {
        fn now(&self) -> SystemTime {
            SystemClock.now() + self.0
        }
    }

    #[tokio::test]
    async fn a_certificate_that_nobody_replaces_is_told() {
        let (folder, authority) = (tempfile::tempdir().unwrap(), authority());
        write(folder.path(), &authority, 2);
        let (_tls, mut follower) = follow(folder.path());
        let ended = |followed: &Followed| {
            followed.failure.as_ref().is_some_and(|error| error.kind() == ErrorKind::Expired)
        };
        until(&mut follower, ended).await;
        // At the beginning, it is an error.
        let late =
            FollowConfig { clock: Arc::new(Later(Duration::from_secs(60))), ..FollowConfig::default() };
        let refused = Tls::follow(MaterialFiles::mounted(folder.path()), late).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        fs::remove_file(folder.path().join("ca.crt")).unwrap();
        let refused =
            Tls::follow(MaterialFiles::mounted(folder.path()), FollowConfig::default()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Missing);
    }

    #[tokio::test]
    async fn what_is_dropped_follows_no_more() {
        let (folder, authority) = (tempfile::tempdir().unwrap(), authority());
        write(folder.path(), &authority, 3600);
        let (tls, follower) = follow(folder.path());
        drop(follower);
        write(folder.path(), &authority, 5 * 3600);
        tokio::time::sleep(EVERY * 10).await;
        assert_eq!(hours(&tls), 1);
    }
}
