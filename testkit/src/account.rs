use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, fchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;

/// The user that server processes run as: the caller, or an unprivileged user when the caller is root,
/// because PostgreSQL refuses to run as root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    gid: u32,
    switches: bool,
}

impl Account {
    /// Finds the account for servers that refuse to run as root.
    pub(crate) fn for_servers() -> Result<Self, Error> {
        let caller = Self::caller()?;
        if caller.uid != 0 {
            return Ok(caller);
        }
        let passwd = fs::read_to_string("/etc/passwd").map_err(Error::io("reading `/etc/passwd`"))?;
        ["postgres", "nobody"].iter().find_map(|name| lookup(&passwd, name)).ok_or_else(|| {
            Error::failed("PostgreSQL does not run as root", "there is no user `postgres` or `nobody`")
        })
    }

    /// The account of this process.
    pub(crate) fn caller() -> Result<Self, Error> {
        // std has no safe `geteuid`; the owner of something that this process made tells the same.
        let probe = Self::make_folder(&temp_root(false), 0o700)?;
        let owner = fs::metadata(&probe).map_err(Error::path("reading", &probe))?;
        fs::remove_dir(&probe).map_err(Error::path("removing", &probe))?;
        Ok(Self { uid: owner.uid(), gid: owner.gid(), switches: false })
    }

    /// A command that runs as this account, with nothing of the caller's environment but the search path.
    ///
    /// The environment is cleared because variables such as `PGDATA` or `PGPORT` would redirect the server.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").stdin(Stdio::null()).current_dir(folder);
        for name in ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if self.switches {
            // SECURITY: std also drops the supplementary groups when root sets a uid.
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Gives an open file to the account.
    pub(crate) fn own_file(&self, file: &fs::File, path: &Path) -> Result<(), Error> {
        if self.switches {
            fchown(file, Some(self.uid), Some(self.gid)).map_err(Error::path("giving away", path))?;
        }
        Ok(())
    }

    /// Gives a folder to the account.
    pub(crate) fn own(&self, path: &Path) -> Result<(), Error> {
        if self.switches {
            chown(path, Some(self.uid), Some(self.gid)).map_err(Error::path("giving away", path))?;
        }
        Ok(())
    }

    /// Makes a new folder with an unguessable name, still owned by the caller.
    pub(crate) fn private_folder(&self) -> Result<PathBuf, Error> {
        Self::make_folder(&self.temp_root(), 0o700)
    }

    /// The folder that is kept between test runs, private to the account.
    ///
    /// # Errors
    ///
    /// When something is there already that is not a folder which only the account can write.
    pub(crate) fn cache_folder(&self) -> Result<PathBuf, Error> {
        let path = self.temp_root().join(format!("zk-testkit-{}", self.uid));
        if DirBuilder::new().mode(0o700).create(&path).is_ok() {
            self.own(&path)?;
        }
        self.check_private(&path)?;
        Ok(path)
    }

    /// Checks that nobody but the account can have written a folder.
    pub(crate) fn check_private(&self, path: &Path) -> Result<(), Error> {
        // SECURITY: not `metadata`, which would follow a symbolic link that somebody else made.
        let found = fs::symlink_metadata(path).map_err(Error::path("reading", path))?;
        // A process that runs beside us may be between making the folder and giving it away.
        let owned = found.uid() == self.uid || (self.switches && found.uid() == 0);
        if !found.is_dir() || !owned || found.permissions().mode() & 0o077 != 0 {
            return Err(Error::NotPrivate { path: path.to_owned(), owner: self.uid });
        }
        Ok(())
    }

    fn temp_root(&self) -> PathBuf {
        temp_root(self.switches)
    }

    /// A temporary folder that every user can reach.
    pub(crate) fn temp_root_for_servers(&self) -> PathBuf {
        temp_root(self.uid == 0)
    }

    fn make_folder(root: &Path, mode: u32) -> Result<PathBuf, Error> {
        let path = root.join(format!("zk-{}", crate::random_name()));
        DirBuilder::new().mode(mode).create(&path).map_err(Error::path("making", &path))?;
        Ok(path)
    }
}

/// Whether every user may pass through all folders above and at `path`.
pub(crate) fn is_traversable(path: &Path) -> bool {
    path.ancestors().all(|p| fs::metadata(p).is_ok_and(|m| m.permissions().mode() & 0o001 != 0))
}

/// The temporary folder, unless the server's account could not reach it or it is too long for a socket's path.
fn temp_root(switches: bool) -> PathBuf {
    let named = std::env::temp_dir();
    let reachable = !switches || is_traversable(&named);
    if named.is_absolute() && reachable && named.as_os_str().len() <= 60 { named } else { "/tmp".into() }
}

fn lookup(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0).then_some(Account { uid, gid, switches: true })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_user_by_its_exact_name() {
        let passwd = "root:x:0:0::/:/bin/sh\npostgres2:x:7:8::/:/bin/sh\npostgres:x:101:104:a,b:/:/bin/sh\n";
        let found = lookup(passwd, "postgres").unwrap();
        assert_eq!((found.uid, found.gid), (101, 104));
        assert!(lookup(passwd, "nobody").is_none());
        assert!(lookup(passwd, "root").is_none(), "a server never runs as root");
    }

    #[test]
    fn a_shared_or_linked_folder_is_not_trusted() {
        let caller = Account::caller().unwrap();
        let folder = Account::make_folder(&std::env::temp_dir(), 0o700).unwrap();
        caller.check_private(&folder).unwrap();
        let link = folder.join("link");
        std::os::unix::fs::symlink("/", &link).unwrap();
        assert!(matches!(caller.check_private(&link), Err(Error::NotPrivate { .. })));
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(caller.check_private(&folder), Err(Error::NotPrivate { .. })));
        let stranger = Account { uid: caller.uid + 1, ..caller };
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(matches!(stranger.check_private(&folder), Err(Error::NotPrivate { .. })));
        fs::remove_dir_all(&folder).unwrap();
    }
}
