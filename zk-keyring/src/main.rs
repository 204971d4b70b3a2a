//! Makes, rotates and shows local key rings, see `--help`.

mod options;
mod passphrase;
mod ring;

use std::{error::Error, io::Write, process::ExitCode};

use self::options::Parsed;

/// A ring, the disk or a passphrase says no.
const REFUSED: u8 = 1;
/// The command line is wrong; nothing was done.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let parsed = match options::parse(lexopt::Parser::from_env()) {
        Ok(parsed) => parsed,
        Err(error) => {
            say(&format!("{error}; try --help"));
            return ExitCode::from(USAGE);
        }
    };
    let outcome = match parsed {
        Parsed::Help => Ok(options::HELP.to_owned()),
        Parsed::Run(options) => ring::run(&options),
    };
    match outcome.and_then(|text| Ok(std::io::stdout().write_all(text.as_bytes())?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&with_causes(&*error));
            ExitCode::from(REFUSED)
        }
    }
}

fn with_causes(error: &dyn Error) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

/// Standard output is for what was asked for.
fn say(text: &str) {
    drop(writeln!(std::io::stderr(), "zk-keyring: {text}"));
}
