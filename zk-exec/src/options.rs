//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

pub(crate) const HELP: &str = "\
usage: zk-exec --manifest FILE --service NAME [OPTION...] -- PROGRAM [ARGUMENT...]

Issues a PostgreSQL login for the service, lends it the secrets of the manifest, starts the program with it in the standard variables of libpq and nothing else of
this environment but PATH, HOME, TZ and LANG, renews it, hands signals on, and revokes it when the program ends.

Connects as the issuer named by PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD, PGSSLROOTCERT and PGSSLMODE=verify-full.

  --manifest FILE          the manifest of the solution, JSON
  --service NAME           the service of it to run
  --secrets sealed:SCOPE   where the secrets of the manifest are: in the issuer's database, sealed for that scope under the key
                           of ZK_KMS_URI, a key ring in the file ZK_KEY_RING under ZK_KEY_RING_PASSPHRASE
  --look SECONDS           how often to look for another version of a secret, which is handed over like a rotated login
                           (default 60)
  --set NAME=VALUE         another variable for the program; not for secrets, which every user could read here
  --pass NAME              another variable for the program, with the value that it has here
  --credentials DIRECTORY  keep the variables also as files there, replaced at a rotation; for a file system in memory
  --on-rotation restart    end the program and start it with the new login (default)
  --on-rotation SIGNAL     with --credentials: send it HUP, USR1 or USR2, and leave it the old login for the grace
  --grace SECONDS          how long the old login lives after a rotation, and a program that is told to end (default 10)
  --debounce SECONDS       how far rotations are apart at least (default 30)
  --help                   print this

status: the program's; 128 and the signal's number if a signal ended it; 127 not found, 126 cannot be started, 125 ours
";

pub(crate) enum Parsed {
    Run(Box<Options>),
    Help,
}

pub(crate) struct Options {
    pub(crate) manifest: PathBuf,
    pub(crate) service: String,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) credentials: Option<PathBuf>,
    pub(crate) on_rotation: OnRotation,
    pub(crate) secrets: Option<String>,
    pub(crate) look: Duration,
    pub(crate) grace: Duration,
    pub(crate) debounce: Duration,
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnRotation {
    Restart,
    Signal(rustix::process::Signal),
}

pub(crate) fn parse(mut parser: Parser) -> Result<Parsed, lexopt::Error> {
    use rustix::process::Signal;
    let (mut manifest, mut service, mut credentials) = (None, None, None);
    let (mut secrets, mut look) = (None, Duration::from_secs(60));
    let (mut on_rotation, mut variables) = (OnRotation::Restart, Vec::new());
    let (mut grace, mut debounce) = (Duration::from_secs(10), Duration::from_secs(30));
    let seconds = |parser: &mut Parser| parser.value()?.parse().map(Duration::from_secs);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("manifest") => manifest = Some(parser.value()?.into()),
            Arg::Long("service") => service = Some(parser.value()?.string()?),
            Arg::Long("secrets") => secrets = Some(parser.value()?.string()?),
            Arg::Long("look") => look = seconds(&mut parser)?.max(Duration::from_secs(1)),
            Arg::Long("credentials") => credentials = Some(parser.value()?.into()),
            Arg::Long("grace") => grace = seconds(&mut parser)?,
            Arg::Long("debounce") => debounce = seconds(&mut parser)?,
            Arg::Long("set") => {
                let text = parser.value()?.string()?;
                let (name, value) = text.split_once('=').ok_or("--set needs NAME=VALUE")?;
                variables.push((name.to_owned(), value.to_owned()));
            }
            Arg::Long("pass") => {
                let name = parser.value()?.string()?;
                let value =
                    std::env::var(&name).map_err(|_| format!("there is no variable {name} to pass"))?;
                variables.push((name, value));
            }
            Arg::Long("on-rotation") => {
                on_rotation = match parser.value()?.string()?.as_str() {
                    "restart" => OnRotation::Restart,
                    "HUP" => OnRotation::Signal(Signal::HUP),
                    "USR1" => OnRotation::Signal(Signal::USR1),
                    "USR2" => OnRotation::Signal(Signal::USR2),
                    _ => return Err("--on-rotation takes restart, HUP, USR1 or USR2".into()),
                }
            }
            Arg::Long("help") | Arg::Short('h') => return Ok(Parsed::Help),
            Arg::Value(program) => {
                let arguments = parser.raw_args()?.collect();
                if credentials.is_none() && on_rotation != OnRotation::Restart {
                    return Err(
                        "a program that is sent a signal needs --credentials to read the new login from"
                            .into(),
                    );
                }
                return Ok(Parsed::Run(Box::new(Options {
                    manifest: manifest.ok_or("--manifest is missing")?,
                    service: service.ok_or("--service is missing")?,
                    variables,
                    credentials,
                    on_rotation,
                    secrets,
                    look,
                    grace,
                    debounce,
                    program,
                    arguments,
                })));
            }
            other => return Err(other.unexpected()),
        }
    }
    Err("there is no program to run".into())
}
