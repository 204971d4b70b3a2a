//! What is done to a file.

use std::path::Path;

use data_encoding::BASE64;
use zk_kms::{AsymmetricKms, Kms, LocalKeyPair, LocalKms, PassphraseCost, PublicKey, private_file};

use crate::{
    options::{Command, Options},
    passphrase,
};

/// Why we cannot go on.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A file with more is none of ours.
const MAX_FILE: u64 = 1024 * 1024;

/// Does what is asked for and returns what is to be printed.
pub(crate) fn run(options: &Options) -> Result<String, Failure> {
    let Options { command, file, passphrase_file, new_passphrase_file, cost } = options;
    let cost = PassphraseCost::new(cost.0, cost.1, cost.2)?;
    let existing = || passphrase::existing(passphrase_file.as_deref());
    match command {
        Command::Create { name, pair: false } => {
            let passphrase = passphrase::new(passphrase_file.as_deref())?;
            show_ring(&LocalKms::create(file, name, &passphrase, cost)?)
        }
        Command::Create { name, pair: true } => {
            let passphrase = passphrase::new(passphrase_file.as_deref())?;
            show_pair(&LocalKeyPair::create(file, name, &passphrase, cost)?)
        }
        Command::Passphrase if is_pair(file)? => {
            let (from, to) = (existing()?, passphrase::new(new_passphrase_file.as_deref())?);
            LocalKeyPair::change_passphrase(file, &from, &to, cost)?;
            Ok(String::new())
        }
        Command::Passphrase => {
            let (from, to) = (existing()?, passphrase::new(new_passphrase_file.as_deref())?);
            LocalKms::change_passphrase(file, &from, &to, cost)?;
            Ok(String::new())
        }
        Command::Show | Command::Rotate | Command::Public if is_pair(file)? => {
            let pair = LocalKeyPair::open(file, &existing()?)?;
            match command {
                Command::Public => Ok(pem(&public_key(&pair)?)),
                Command::Rotate => {
                    pair.rotate()?;
                    show_pair(&pair)
                }
                _ => show_pair(&pair),
            }
        }
        Command::Public => Err(format!("{} holds no key pair: its key is secret", file.display()).into()),
        Command::Show | Command::Rotate => {
            let ring = LocalKms::open(file, &existing()?)?;
            if *command == Command::Rotate {
                ring.rotate()?;
            }
            show_ring(&ring)
        }
    }
}

/// Whether the first line says that it is a file of key pairs. The line is not authentic before the file is opened; what it
/// says wrongly is then refused.
fn is_pair(file: &Path) -> Result<bool, Failure> {
    Ok(private_file::read(file, MAX_FILE)?.starts_with(r#"{"format":"zk-key-pairs","#))
}

fn show_ring(ring: &LocalKms) -> Result<String, Failure> {
    let status = wait(ring.status())??;
    Ok(format!("{} version {}\n", ring.uri(), status.version()))
}

fn show_pair(pair: &LocalKeyPair) -> Result<String, Failure> {
    let key = public_key(pair)?;
    Ok(format!("{} version {}, key pair, fingerprint {}\n", key.uri(), key.version(), key.fingerprint()))
}

fn public_key(pair: &LocalKeyPair) -> Result<PublicKey, Failure> {
    Ok(wait(pair.public_key())??)
}

/// RFC 7468, section 13.
fn pem(key: &PublicKey) -> String {
    let text = BASE64.encode(key.der());
    let (mut lines, mut rest) = (String::new(), text.as_str());
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        lines.push_str(line);
        lines.push('\n');
        rest = tail;
    }
    format!("-----BEGIN PUBLIC KEY-----\n{lines}-----END PUBLIC KEY-----\n")
}

/// A local ring never waits, but its trait could.
fn wait<T>(call: impl Future<Output = T>) -> Result<T, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().build()?.block_on(call))
}
