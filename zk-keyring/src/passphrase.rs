//! Where passphrases come from: a private file, or somebody who types.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::AsFd,
    path::Path,
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;
use zk_kms::private_file;

use crate::ring::Failure;

/// Longer than anybody's.
const MAX: usize = 4096;

/// The passphrase of a file that exists.
pub(crate) fn existing(file: Option<&Path>) -> Result<SecretString, Failure> {
    match file {
        Some(file) => read(file),
        None => ask("passphrase: "),
    }
}

/// A passphrase for a file that is to be written. Typed twice, because a mistake would lock its owner out.
pub(crate) fn new(file: Option<&Path>) -> Result<SecretString, Failure> {
    if let Some(file) = file {
        return read(file);
    }
    let (first, second) = (ask("new passphrase: ")?, ask("again: ")?);
    if first.expose_secret() != second.expose_secret() {
        return Err("the two passphrases differ".into());
    }
    Ok(first)
}

fn read(file: &Path) -> Result<SecretString, Failure> {
    let text = Zeroizing::new(private_file::read(file, MAX as u64)?);
    Ok(text.strip_suffix('\n').unwrap_or(&text).into())
}

/// Reads a line from the terminal, wherever standard input and output go, without showing it.
fn ask(prompt: &str) -> Result<SecretString, Failure> {
    let no_terminal = |_| {
        Failure::from("there is no terminal to ask for a passphrase on; name a file with --passphrase-file")
    };
    let mut terminal = File::options().read(true).write(true).open("/dev/tty").map_err(no_terminal)?;
    let shown = terminal.try_clone()?;
    let hidden = Hidden::new(&shown)?;
    terminal.write_all(prompt.as_bytes())?;
    // Reserved up front: a buffer that grows leaves copies behind.
    let mut line = Zeroizing::new(Vec::with_capacity(MAX));
    loop {
        let mut byte = Zeroizing::new([0]);
        match (&terminal).read(&mut *byte)? {
            0 => break,
            _ if *byte == *b"\n" => break,
            // Interrupts are characters while nothing is shown, or the terminal would be left like that.
            _ if *byte == [3] => return Err("cancelled".into()),
            _ if line.len() == MAX => return Err("the passphrase is too long".into()),
            _ => line.extend_from_slice(&*byte),
        }
    }
    drop(hidden);
    terminal.write_all(b"\n")?;
    let text = std::str::from_utf8(&line).map_err(|_| "the passphrase is no UTF-8")?;
    Ok(text.into())
}

/// A terminal that does not show what is typed, until this value is dropped.
struct Hidden<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn new(terminal: &'a File) -> Result<Self, Failure> {
        let before = tcgetattr(terminal.as_fd())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(terminal.as_fd(), OptionalActions::Flush, &hidden)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        tcsetattr(self.terminal.as_fd(), OptionalActions::Flush, &self.before).ok();
    }
}
