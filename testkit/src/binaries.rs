use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::account::{Account, is_traversable};

/// The major versions that the workspace supports, newest last.
pub const SUPPORTED: std::ops::RangeInclusive<u16> = 15..=18;

/// An installed PostgreSQL server.
///
/// Searched in this order: the folders named by `ZK_PG_BIN` (separated like `PATH`), `PATH`, the folders where
/// distributions put servers (newest version first), and the packages that `./dev` unpacked, in the folder named by
/// `ZK_PG_PACKAGED` or in `postgresql/` of the target directory that this program was built into.
#[derive(Clone, Debug)]
pub struct Binaries {
    bin: PathBuf,
    major: u16,
    version: String,
}

impl Binaries {
    /// Finds the server to use when any supported version will do.
    ///
    /// # Errors
    ///
    /// [`Error::NoServer`], which says what to do.
    pub fn find() -> Result<Self, Error> {
        candidates().iter().find_map(|bin| Self::at(bin)).ok_or_else(|| Error::no_server(None))
    }

    /// Finds a server of one major version.
    ///
    /// # Errors
    ///
    /// [`Error::NoServer`], which says what to do.
    pub fn find_version(major: u16) -> Result<Self, Error> {
        let fits = |found: &Self| found.major == major;
        candidates()
            .iter()
            .filter_map(|bin| Self::at(bin))
            .find(fits)
            .ok_or_else(|| Error::no_server(Some(major)))
    }

    /// Finds one server of every major version that is installed, oldest first: the version matrix.
    ///
    /// # Errors
    ///
    /// [`Error::NoServer`] when there is none at all.
    pub fn find_all() -> Result<Vec<Self>, Error> {
        let mut found = BTreeMap::new();
        for binaries in candidates().iter().filter_map(|bin| Self::at(bin)) {
            found.entry(binaries.major).or_insert(binaries);
        }
        if found.is_empty() { Err(Error::no_server(None)) } else { Ok(found.into_values().collect()) }
    }

    /// The server in one bin folder, if there is a supported one.
    pub fn at(bin: &Path) -> Option<Self> {
        // Links are resolved, because only the folder at their end holds the other programs and `../share`.
        let postgres = fs::canonicalize(bin.join("postgres")).ok()?;
        let bin = postgres.parent()?.to_owned();
        bin.join("initdb").is_file().then_some(())?;
        let output = Command::new(&postgres).arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let version = text.split_whitespace().nth(2)?.to_owned();
        let major = major_of(&version)?;
        SUPPORTED.contains(&major).then_some(Self { bin, major, version })
    }

    /// The major version, such as 17.
    pub fn major(&self) -> u16 {
        self.major
    }

    /// The full version, such as `17.10`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The path of one of the server's programs, such as `initdb`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// The folder of the programs.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// The same server where `account` can run it: below the home of root, another user cannot, so it is copied once.
    pub(crate) fn reachable_by(self, account: &Account) -> Result<Self, Error> {
        let caller = Account::caller()?;
        if account.uid == caller.uid || is_traversable(&self.bin) {
            return Ok(self);
        }
        let installed = self.bin.parent().unwrap_or(&self.bin);
        let copies = caller_folder(&caller)?;
        let copy = copies.join(format!("{}-{}", self.version, crate::fingerprint(installed)));
        if !copy.exists() {
            let fresh = copies.join(format!("tmp-{}", crate::random_name()));
            copy_installation(installed, &fresh)?;
            // Several processes may copy at the same time: the first one to finish wins, the others use its copy.
            if fs::rename(&fresh, &copy).is_err() {
                fs::remove_dir_all(&fresh).map_err(Error::path("removing", &fresh))?;
            }
        }
        let Self { bin: _, major, version } = self;
        Ok(Self { bin: copy.join("bin"), major, version })
    }
}

impl Error {
    fn no_server(version: Option<u16>) -> Self {
        let searched: Vec<_> = candidates().iter().map(|p| p.display().to_string()).collect();
        Self::NoServer { version, searched: searched.join(", ") }
    }
}

fn candidates() -> Vec<PathBuf> {
    let listed = |name| std::env::var_os(name).map(|v| std::env::split_paths(&v).collect::<Vec<_>>());
    let mut found = listed("ZK_PG_BIN").unwrap_or_default();
    if std::env::var_os("ZK_PG_SOURCE").is_none_or(|source| source != "packaged") {
        found.extend(listed("PATH").unwrap_or_default());
        for major in SUPPORTED.rev() {
            found.push(format!("/usr/lib/postgresql/{major}/bin").into());
            found.push(format!("/usr/pgsql-{major}/bin").into());
            found.push(format!("/usr/libexec/postgresql{major}").into());
            found.push(format!("/opt/homebrew/opt/postgresql@{major}/bin").into());
            found.push(format!("/usr/local/opt/postgresql@{major}/bin").into());
            found.push(format!("/Library/PostgreSQL/{major}/bin").into());
        }
        found.push("/usr/local/pgsql/bin".into());
    }
    for packages in packaged() {
        found.extend(SUPPORTED.rev().map(|major| packages.join(major.to_string()).join("bin")));
    }
    found
}

/// Folders that hold unpacked packages, as `MAJOR/bin`.
fn packaged() -> Vec<PathBuf> {
    if let Some(folder) = std::env::var_os("ZK_PG_PACKAGED") {
        return vec![folder.into()];
    }
    // target/debug/deps/test, target/debug/example or target/TRIPLE/debug/deps/test
    let program = std::env::current_exe().unwrap_or_default();
    program.ancestors().skip(2).take(4).map(|p| p.join("postgresql")).filter(|p| p.is_dir()).collect()
}

fn major_of(version: &str) -> Option<u16> {
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// A folder for copied servers, which everybody may read and only the caller may write.
fn caller_folder(caller: &Account) -> Result<PathBuf, Error> {
    let path = caller.temp_root_for_servers().join(format!("zk-testkit-servers-{}", caller.uid));
    let made = fs::DirBuilder::new().mode(0o755).create(&path).is_ok();
    if made {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(Error::path("opening", &path))?;
    }
    // SECURITY: the server's programs are about to be run from here.
    let found = fs::symlink_metadata(&path).map_err(Error::path("reading", &path))?;
    if !found.is_dir() || found.uid() != caller.uid || found.permissions().mode() & 0o022 != 0 {
        return Err(Error::NotPrivate { path, owner: caller.uid });
    }
    Ok(path)
}

fn copy_installation(from: &Path, to: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().mode(0o755).create(to).map_err(Error::path("making", to))?;
    for part in ["bin", "lib", "lib64", "share"].iter().map(|part| from.join(part)).filter(|p| p.is_dir()) {
        let output = Command::new("cp").arg("-RPp").arg(&part).arg(to).output();
        let output = output.map_err(Error::io("copying a PostgreSQL server"))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::failed("copying a PostgreSQL server", words));
        }
    }
    let opened = Command::new("chmod").args(["-R", "a+rX,go-w"]).arg(to).status();
    opened.map_err(Error::io("opening a copy of a PostgreSQL server")).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_major_version() {
        assert_eq!(major_of("15.16"), Some(15));
        assert_eq!(major_of("18beta1"), Some(18));
        assert_eq!(major_of("devel"), None);
    }

    #[test]
    fn the_error_says_what_to_do() {
        let text = Error::no_server(Some(17)).to_string();
        assert!(text.contains("of version 17") && text.contains("./dev test") && text.contains("ZK_PG_BIN"));
    }
}
