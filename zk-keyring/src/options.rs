//! The command line.

use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

pub(crate) const HELP: &str = "\
usage: zk-keyring create FILE --name NAME [--pair] [OPTION...]
       zk-keyring show FILE [OPTION...]         what it is, which version wraps; of a key pair also the fingerprint
       zk-keyring rotate FILE [OPTION...]       add a version, which wraps from now on; the old ones still unwrap
       zk-keyring public FILE [OPTION...]       write the newest public key of a key pair, PEM
       zk-keyring passphrase FILE [OPTION...]   seal it under another passphrase

The passphrase is asked for on the terminal. It is never an argument or a variable, which others could read.

  --name NAME                 the key is local:NAME
  --pair                      RSA key pairs, whose public key wraps, instead of a symmetric key
  --passphrase-file FILE      read it from a file that only its owner reads; one newline at its end is not part of it
  --new-passphrase-file FILE  of `passphrase`: the new one
  --memory-kib NUMBER         of `create` and `passphrase`: Argon2id's memory (default 65536)
  --passes NUMBER             and its passes (default 3)
  --lanes NUMBER              and its lanes (default 4)
  --help                      print this

status: 0 done, 1 refused (wrong passphrase, file open to others, no such file, ..), 2 wrong command line
";

pub(crate) enum Parsed {
    Run(Options),
    Help,
}

pub(crate) struct Options {
    pub(crate) command: Command,
    pub(crate) file: PathBuf,
    pub(crate) passphrase_file: Option<PathBuf>,
    pub(crate) new_passphrase_file: Option<PathBuf>,
    pub(crate) cost: (u32, u32, u32),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Create { name: String, pair: bool },
    Show,
    Rotate,
    Public,
    Passphrase,
}

pub(crate) fn parse(mut parser: Parser) -> Result<Parsed, lexopt::Error> {
    let (mut words, mut name, mut pair) = (Vec::new(), None, false);
    let (mut passphrase_file, mut new_passphrase_file) = (None, None);
    let (mut cost, mut cost_given) = ((64 * 1024, 3, 4), false);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(Parsed::Help),
            Arg::Long("name") => name = Some(parser.value()?.string()?),
            Arg::Long("pair") => pair = true,
            Arg::Long("passphrase-file") => passphrase_file = Some(parser.value()?.into()),
            Arg::Long("new-passphrase-file") => new_passphrase_file = Some(parser.value()?.into()),
            Arg::Long("memory-kib") => (cost.0, cost_given) = (parser.value()?.parse()?, true),
            Arg::Long("passes") => (cost.1, cost_given) = (parser.value()?.parse()?, true),
            Arg::Long("lanes") => (cost.2, cost_given) = (parser.value()?.parse()?, true),
            Arg::Value(word) => words.push(word),
            other => return Err(other.unexpected()),
        }
    }
    let [command, file] = words.as_slice() else { return Err("a command and a file are needed".into()) };
    let command = match (command.to_str(), name, pair) {
        (Some("create"), Some(name), pair) => Command::Create { name, pair },
        (Some("create"), None, _) => return Err("--name is missing".into()),
        (_, Some(_), _) | (_, _, true) => return Err("--name and --pair are for `create`".into()),
        (Some("show"), ..) => Command::Show,
        (Some("rotate"), ..) => Command::Rotate,
        (Some("public"), ..) => Command::Public,
        (Some("passphrase"), ..) => Command::Passphrase,
        _ => return Err("the command is create, show, rotate, public or passphrase".into()),
    };
    if new_passphrase_file.is_some() && command != Command::Passphrase {
        return Err("--new-passphrase-file is for `passphrase`".into());
    }
    if cost_given && !matches!(command, Command::Create { .. } | Command::Passphrase) {
        return Err("the file says what its passphrase costs".into());
    }
    Ok(Parsed::Run(Options { command, file: file.into(), passphrase_file, new_passphrase_file, cost }))
}
