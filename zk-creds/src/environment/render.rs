//! The same variables for those that do not inherit an environment: files, a Kubernetes Secret, a file for Docker.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::{Environment, check_name, missing};
use crate::error::{Error, ErrorKind};
use crate::file;

/// The longest value that is read from a file, in bytes.
const MAX_VALUE: u64 = 1 << 20;
/// What the name of a file ends with until it is whole.
const FRESH: &str = ".new";

impl Environment {
    /// Writes each variable into a file of its name, as systemd's `$CREDENTIALS_DIRECTORY` has them. Unlike an environment,
    /// the files can be replaced while a service runs.
    ///
    /// The directory is made for the owner only, and what is in it is replaced one file at a time, each whole; the name of
    /// the user is last, so that who sees a new user finds its password. Put it on a file system in memory.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the directory is readable by others, or a file cannot be written.
    pub fn write_directory(&self, directory: &Path) -> Result<(), Error> {
        make_private(directory).map_err(|e| failed("made", directory, e))?;
        let mut names: Vec<_> = self.values().collect();
        names.sort_by_key(|(name, _)| *name == "PGUSER");
        for (name, value) in names {
            let path = directory.join(name);
            write_private(&path, value).map_err(|e| failed("written", &path, e))?;
        }
        Ok(())
    }

    /// Removes what [`write_directory`](Self::write_directory) wrote, and the directory if nothing else is in it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when it cannot be read or removed, or holds something else, which stays.
    pub fn remove_directory(directory: &Path) -> Result<(), Error> {
        let gone = || -> io::Result<()> {
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                let name = entry.file_name();
                let name = name.to_str().unwrap_or_default();
                // SECURITY: whoever names a directory of his own as the place must not lose it.
                if check_name(name.strip_suffix(FRESH).unwrap_or(name)).is_ok()
                    && entry.file_type()?.is_file()
                {
                    fs::remove_file(entry.path())?;
                }
            }
            fs::remove_dir(directory)
        };
        gone().map_err(|e| failed("removed", directory, e))
    }

    /// Reads the named variables from files of their names, such as those in `$CREDENTIALS_DIRECTORY`.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`], listing all that are missing, longer than a megabyte or not UTF-8.
    pub fn read_directory(directory: &Path, names: &[&str]) -> Result<Self, Error> {
        let mut environment = Self::default();
        let mut absent = Vec::new();
        for name in names {
            let path = directory.join(name);
            match file::read(&path, MAX_VALUE).map(String::from_utf8) {
                Ok(Ok(value)) => environment.set(name, SecretString::from(value))?,
                _ => absent.push(*name),
            }
        }
        if absent.is_empty() { Ok(environment) } else { Err(missing(&absent)) }
    }

    /// A Kubernetes Secret with these variables, as JSON, which `kubectl apply -f -` reads: for `envFrom` or a volume.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when a name is not one of Kubernetes (RFC 1123).
    ///
    /// # Examples
    /// ```
    /// use secrecy::{ExposeSecret, SecretString};
    /// use zk_creds::Environment;
    ///
    /// let mut environment = Environment::default();
    /// environment.set("PGUSER", SecretString::from("zk_shop_orders_1_a"))?;
    /// let secret = environment.kubernetes_secret("orders-login", "shop")?;
    /// assert!(secret.expose_secret().contains("emtfc2hvcF9vcmRlcnNfMV9h")); // base64
    /// # Ok::<(), zk_creds::Error>(())
    /// ```
    pub fn kubernetes_secret(&self, name: &str, namespace: &str) -> Result<SecretString, Error> {
        for name in [name, namespace] {
            let plain =
                name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c));
            if name.is_empty()
                || name.len() > 253
                || !plain
                || name.starts_with(['-', '.'])
                || name.ends_with(['-', '.'])
            {
                let message = format!("`{}` is no name of Kubernetes", name.escape_debug());
                return Err(Error::new(ErrorKind::Invalid, message));
            }
        }
        let data: BTreeMap<&str, String> = self
            .values()
            .map(|(name, value)| {
                (name.as_str(), data_encoding::BASE64.encode(value.expose_secret().as_bytes()))
            })
            .collect();
        let secret = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": name, "namespace": namespace },
            "type": "Opaque",
            "data": data,
        });
        Ok(SecretString::from(secret.to_string()))
    }

    /// The lines of a file for `docker run --env-file`. Prefer a child process or a directory: the file lies on a disk, and
    /// `docker inspect` shows what it holds.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a value with a line break, which such a file cannot hold.
    pub fn docker_env_file(&self) -> Result<SecretString, Error> {
        let mut text = String::new();
        for (name, value) in self.values() {
            if value.expose_secret().contains(['\n', '\r']) {
                let message = format!("the value of {name} has a line break, which an env file cannot hold");
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            text.push_str(&format!("{name}={}\n", value.expose_secret()));
        }
        Ok(SecretString::from(text))
    }
}

#[cfg(unix)]
fn make_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // SECURITY: a directory that somebody else made could hold links to files of theirs, and root may write into anybody's.
    let found = fs::symlink_metadata(directory)?;
    if !found.is_dir() || found.mode() & 0o077 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others may look into it"));
    }
    // A file that we make is ours.
    let probe = directory.join(format!("OWNER{FRESH}"));
    drop(fs::remove_file(&probe));
    let ours =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&probe)?.metadata()?.uid();
    fs::remove_file(&probe)?;
    if found.uid() != ours {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to somebody else"));
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_private(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)
}

/// Writes a new file and puts it in the place of the old one.
fn write_private(path: &Path, value: &SecretString) -> io::Result<()> {
    let mut fresh = PathBuf::from(path).into_os_string();
    fresh.push(FRESH);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // What an interrupted call left is not there any more when the file is made.
    drop(fs::remove_file(&fresh));
    options.open(&fresh)?.write_all(value.expose_secret().as_bytes())?;
    fs::rename(&fresh, path)
}

fn failed(what: &str, path: &Path, source: io::Error) -> Error {
    Error::new(ErrorKind::Invalid, format!("{} cannot be {what}", path.display())).because(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        let mut environment = Environment::default();
        environment.set("PGUSER", SecretString::from("u")).unwrap();
        environment.set("PGPASSWORD", SecretString::from("it's \"odd\" = $x")).unwrap();
        environment
    }

    #[test]
    fn a_directory_holds_what_was_declared_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("credentials");
        environment().write_directory(&directory).unwrap();
        environment().write_directory(&directory).unwrap();
        let read = Environment::read_directory(&directory, &["PGUSER", "PGPASSWORD"]).unwrap();
        assert_eq!(read.get("PGPASSWORD").unwrap().expose_secret(), "it's \"odd\" = $x");
        for entry in fs::read_dir(&directory).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        let error = Environment::read_directory(&directory, &["A", "PGUSER", "B"]).unwrap_err();
        assert!(error.kind() == ErrorKind::Missing && error.to_string().contains("A, B"), "{error}");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(environment().write_directory(&directory).unwrap_err().kind(), ErrorKind::Invalid);
        Environment::remove_directory(&directory).unwrap();
        assert!(!directory.exists());
    }

    #[test]
    fn what_else_is_in_a_directory_stays() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("home");
        environment().write_directory(&directory).unwrap();
        fs::write(directory.join("thesis.tex"), "years of work").unwrap();
        fs::create_dir(directory.join("PICTURES")).unwrap();
        let error = Environment::remove_directory(&directory).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let mut left: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["PICTURES", "thesis.tex"]);
    }

    #[test]
    fn a_directory_of_somebody_else_is_not_written_into() {
        use std::os::unix::fs::chown;
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("theirs");
        environment().write_directory(&directory).unwrap();
        match chown(&directory, Some(65_534), None) {
            Ok(()) => {
                let error = environment().write_directory(&directory).unwrap_err();
                let why = std::error::Error::source(&error).unwrap().to_string();
                assert!(error.kind() == ErrorKind::Invalid && why.contains("somebody else"), "{why}");
            }
            // Only root can give a directory away, and only root could write into another's.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }

    #[test]
    fn values_stay_values_in_every_form() {
        let secret = environment().kubernetes_secret("orders", "shop").unwrap();
        let secret: serde_json::Value = serde_json::from_str(secret.expose_secret()).unwrap();
        let value =
            data_encoding::BASE64.decode(secret["data"]["PGPASSWORD"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(value, b"it's \"odd\" = $x");
        for bad in ["", "A", "a b", "-a", "a\"", "a/../b"] {
            assert_eq!(environment().kubernetes_secret(bad, "shop").unwrap_err().kind(), ErrorKind::Invalid);
        }
        let file = environment().docker_env_file().unwrap();
        assert_eq!(file.expose_secret(), "PGPASSWORD=it's \"odd\" = $x\nPGUSER=u\n");
        let mut two = environment();
        two.set("TWO", SecretString::from("a\nPGUSER=evil")).unwrap();
        assert_eq!(two.docker_env_file().unwrap_err().kind(), ErrorKind::Invalid);
    }
}
