//! The same lines of application code over a key in every key-management service.

mod app;
mod missing;
mod options;
mod places;
mod story;

use std::process::ExitCode;

use crate::options::Options;

/// Any error, shown as it is.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Options::parse(lexopt::Parser::from_env()) {
        Ok(Options { help: true, .. }) => {
            print!("{}", options::USAGE);
            Ok(())
        }
        Ok(Options { kms: Some(uri), .. }) if uri.is_empty() => Err("`--kms` names no key".into()),
        Ok(options) => match options.kms.clone() {
            Some(uri) => story::over_yours(&uri, &options).await,
            None => story::over_everything_here().await,
        },
        Err(error) => Err(error),
    };
    let Err(error) = done else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprintln!("  because: {cause}");
        source = cause.source();
    }
    ExitCode::from(1)
}
