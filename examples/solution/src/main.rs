//! A multi-tenant clinic as a platform generates it, driven, attacked and rotated: `cargo run -p solution`.
//!
//! Without a word it is the drive: it deploys the clinic, starts `solution rest`, `solution graphql` and `solution worker` as
//! processes of their own with nothing but an environment, and asserts what has to hold.

mod caller;
mod driver;
mod fault;
mod followed;
mod graphql;
mod http;
mod plain;
mod records;
mod rest;
mod service;
mod worker;

use std::process::ExitCode;

use lexopt::Arg;

use crate::driver::What;

/// Any error, shown with everything behind it.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const HELP: &str = "\
usage: solution             deploy the clinic, drive it, attack it, rotate everything, and stop it
       solution --serve     the same, and leave it running with commands to try
       solution --measure   requests a second beside the same endpoint without policy and sealing (with --release)
";

enum Role {
    Drive(What),
    Service(String),
    Help,
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match arguments() {
        Ok(Role::Drive(what)) => driver::run(what).await,
        Ok(Role::Service(name)) => match name.as_str() {
            "rest" => rest::run().await,
            "graphql" => graphql::run().await,
            "worker" => worker::run().await,
            "plain" => plain::run().await,
            _ => {
                Err(format!("there is no service `{name}`; there are rest, graphql, worker and plain").into())
            }
        },
        Ok(Role::Help) => {
            print!("{HELP}");
            Ok(())
        }
        Err(error) => Err(format!("{error}; try --help").into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", fault::chain(&*error));
            ExitCode::from(1)
        }
    }
}

fn arguments() -> std::result::Result<Role, lexopt::Error> {
    let mut parser = lexopt::Parser::from_env();
    let mut role = Role::Drive(What::Story);
    while let Some(argument) = parser.next()? {
        role = match argument {
            Arg::Long("serve") => Role::Drive(What::Serve),
            Arg::Long("measure") => Role::Drive(What::Measure),
            Arg::Long("help") | Arg::Short('h') => Role::Help,
            Arg::Value(name) => Role::Service(name.to_string_lossy().into_owned()),
            other => return Err(other.unexpected()),
        };
    }
    Ok(role)
}
