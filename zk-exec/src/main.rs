//! Runs a program with a database login of its own, see `--help`.

mod child;
mod options;
mod secrets;
mod service;

use std::process::ExitCode;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use self::options::{Options, Parsed};

/// Why we cannot go on.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong on our side, as `env` and `timeout` say it: 125. 126 and 127 are for programs that cannot start.
const OUR_FAULT: u8 = 125;

fn main() -> ExitCode {
    // SECURITY: our environment holds the issuer's password, and the child may run as the same user. A process that is not
    // dumpable shows its environment and memory in /proc to root alone.
    if set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err() {
        say("this process could not be hidden from others of the same user");
    }
    match options::parse(lexopt::Parser::from_env()) {
        Ok(Parsed::Run(options)) => run(&options),
        Ok(Parsed::Help) => {
            use std::io::Write;
            drop(std::io::stdout().write_all(options::HELP.as_bytes()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("{error}; try --help"));
            ExitCode::from(OUR_FAULT)
        }
    }
}

fn run(options: &Options) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(service::run(options)));
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let code = match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
                Some(std::io::ErrorKind::NotFound) => 127,
                Some(std::io::ErrorKind::PermissionDenied) => 126,
                _ => OUR_FAULT,
            };
            let mut text = error.to_string();
            let mut next = error.source();
            while let Some(source) = next {
                text.push_str(&format!(": {source}"));
                next = source.source();
            }
            say(&text);
            ExitCode::from(code)
        }
    }
}

/// Tells whoever watches. Standard output is the program's alone.
fn say(text: &str) {
    use std::io::Write;
    drop(writeln!(std::io::stderr(), "zk-exec: {text}"));
}
