use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::account::Account;
use crate::{Binaries, Error};

/// Raised whenever a template of an earlier testkit could not be used any more.
const FORMAT: u32 = 1;

/// Returns a data folder that `initdb` made, kept between runs: `initdb` takes a second, a copy a few hundredths.
///
/// Templates lie in a folder that only the server's account can write, and carry no password.
pub(crate) fn template(binaries: &Binaries, account: &Account) -> Result<PathBuf, Error> {
    let cache = account.cache_folder()?;
    let key = format!("{}-{}-{FORMAT}", binaries.version(), crate::fingerprint(binaries.bin()));
    let ready = cache.join(&key);
    if !ready.exists() {
        // One process makes it, the others wait; the lock ends with its process.
        let path = cache.join("lock");
        let lock = OpenOptions::new().create(true).append(true).open(&path);
        let lock = lock.map_err(Error::path("opening", &path))?;
        account.own_file(&lock, &path)?;
        lock.lock().map_err(Error::path("locking", &path))?;
        if !ready.exists() {
            make(binaries, account, &cache, &ready)?;
        }
    }
    account.check_private(&ready)?;
    Ok(ready)
}

/// Runs SQL without a server, so that there is no moment in which somebody could connect.
pub(crate) fn single_user(
    binaries: &Binaries,
    account: &Account,
    data: &Path,
    statements: &[String],
) -> Result<(), Error> {
    let mut command = account.command(binaries.program("postgres"), data);
    command.args(["--single", "-c", "fsync=off", "-c", "exit_on_error=on", "-D"]).arg(data).arg("postgres");
    let what = || Error::io("starting `postgres --single`");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(what())?;
    if let Some(mut input) = child.stdin.take() {
        for statement in statements {
            writeln!(input, "{statement}").map_err(what())?;
        }
    }
    let output = child.wait_with_output().map_err(what())?;
    let words = String::from_utf8_lossy(&output.stderr);
    if output.status.success() && !words.contains("ERROR:") {
        return Ok(());
    }
    Err(Error::failed("preparing a PostgreSQL cluster", words))
}

/// Runs a program of the server to its end.
pub(crate) fn run(mut command: Command, what: &str) -> Result<(), Error> {
    let output = command.output().map_err(Error::io(what))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::failed(what, String::from_utf8_lossy(&output.stderr)))
}

fn make(binaries: &Binaries, account: &Account, cache: &Path, ready: &Path) -> Result<(), Error> {
    remove_leftovers(cache);
    let fresh = cache.join(format!("tmp-{}", crate::random_name()));
    let mut initdb = account.command(binaries.program("initdb"), cache);
    // Small log segments: a copy has 1 MB of them in place of 16. Nobody logs in by what initdb would configure.
    initdb.args(["--no-sync", "--auth=reject", "--encoding=UTF8", "--locale=C", "--wal-segsize=1"]);
    initdb.args(["--username=postgres", "--no-instructions", "-D"]).arg(&fresh);
    run(initdb, "running initdb")?;
    single_user(binaries, account, &fresh, &["CREATE ROLE cert_login NOLOGIN".into()])?;
    fs::rename(&fresh, ready).map_err(Error::path("keeping", ready))
}

/// Removes what an `initdb` that was killed left behind. The caller holds the lock, so nobody is writing there.
fn remove_leftovers(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("tmp-") {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}
