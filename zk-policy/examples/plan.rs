//! Checks, plans, applies and lints a policy against a database, from a terminal or in continuous integration.

use std::error::Error as StdError;
use std::ffi::OsString;
#[cfg(feature = "render")]
use std::io::IsTerminal;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::{env, fs};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
#[cfg(feature = "render")]
use zk_policy::Colour;
use zk_policy::{Consent, Diagnostics, Document, Policy, Schema, Severity, check, pg};

const HELP: &str = "\
Guards a PostgreSQL database by a policy: who may do what with which rows and columns.

usage: plan COMMAND POLICY_FILE [OPTION...]

commands
  check     says what is wrong with the policy, all of it at once
  fmt       writes the policy in its canonical form, with its comments, back into the file
  prepare   makes in the database what claims that are signed and masks that hash need, if the policy has any: the places
            for their keys, and the functions that verify
  plan      says what would change in the database, and whose access that widens or narrows
  apply     plans, carries the plan out in one transaction, verifies the result
  lint      says what in the database weakens or slows the policy from outside
  matrix    says who may do what, column by column

options
  --database URL      postgres://user@host/database, without a password (see below)
  --root-cert FILE    the certificate, PEM, of the authority that signed the server's: TLS is verified, always
  --plaintext         connects without TLS: whoever listens on the way reads everything. Only for a database on this
                      machine; a Unix socket does not need it
  --schema FILE       for check and matrix: tables and columns as JSON, instead of a database
  --format FORMAT     text (the default) or json; for plan and apply also sql, for matrix also html
  --check             for fmt: leaves the file as it is
  --remove-drift      makes steps of what weakens the policy without being part of it, instead of reporting it
  --alongside POLICY  names another policy that may guard the same tables; may be given several times
  --allow-widening    lets apply give somebody more access than before; without it such a plan is refused

environment
  PGPASSWORD          the password. It is no option, because others on the machine can read a program's options
  DATABASE_URL        the database, when --database is not given; may hold a password

exit status
  0  there is nothing to do: the policy is right, is in force, nothing weakens it (notes of lint do not count)
  1  it could not be done; why is said on standard error
  2  there is something to do: the plan has steps or reports drift, lint has findings, fmt --check would change the file
";

type Result<T> = std::result::Result<T, Box<dyn StdError + Send + Sync>>;

enum Outcome {
    Done,
    Todo,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let error = match run().await {
        Ok(Outcome::Done) => return ExitCode::SUCCESS,
        Ok(Outcome::Todo) => return ExitCode::from(2),
        Err(error) => error,
    };
    let mut message = format!("error: {error}\n");
    let mut source = error.source();
    while let Some(cause) = source {
        message.push_str(&format!("  because: {cause}\n"));
        source = cause.source();
    }
    // Nobody is left to tell if standard error is closed.
    drop(io::stderr().write_all(message.as_bytes()));
    ExitCode::FAILURE
}

async fn run() -> Result<Outcome> {
    let Some(arguments) = Arguments::parse()? else {
        say(HELP)?;
        return Ok(Outcome::Done);
    };
    match arguments.command.as_str() {
        "check" => {
            let policy = arguments.policy().await?;
            let (tables, roles) = (policy.tables().count(), policy.roles().count());
            say(&format!("policy {} is right; tables: {tables}, roles: {roles}\n", policy.name()))?;
            Ok(Outcome::Done)
        }
        "fmt" => arguments.reformat(),
        "matrix" => {
            let matrix = arguments.policy().await?.access_matrix();
            match arguments.format.as_str() {
                "json" => say(&json(&matrix)?)?,
                "html" => say(&matrix.to_html())?,
                _ => say(&format!("{matrix}\n"))?,
            }
            Ok(Outcome::Done)
        }
        "lint" => lint(&arguments).await,
        "prepare" => prepare(&arguments).await,
        _ => plan(&arguments).await,
    }
}

async fn lint(arguments: &Arguments) -> Result<Outcome> {
    let (mut client, policy) = arguments.connected().await?;
    let findings = pg::lint(&mut client, &policy).await?;
    match arguments.format.as_str() {
        "json" => say(&json(&findings)?)?,
        _ if findings.is_empty() => say("nothing weakens the policy\n")?,
        _ => findings.iter().try_for_each(|finding| say(&format!("{finding}\n")))?,
    }
    let counts = findings.iter().any(|finding| finding.severity > Severity::Note);
    Ok(if counts { Outcome::Todo } else { Outcome::Done })
}

/// A plan says what is missing; nothing is made for a policy that does not need it.
async fn prepare(arguments: &Arguments) -> Result<Outcome> {
    let (mut client, policy) = arguments.connected().await?;
    loop {
        let Err(missing) = pg::plan(&mut client, &policy).await else {
            say(&format!("the database has what policy {} needs before its first plan\n", policy.name()))?;
            return Ok(Outcome::Done);
        };
        match missing.kind() {
            pg::ErrorKind::MissingSigning => pg::install_signing(&client).await?,
            pg::ErrorKind::MissingMaskKeys => pg::install_mask_keys(&client).await?,
            _ => return Err(missing.into()),
        }
    }
}

async fn plan(arguments: &Arguments) -> Result<Outcome> {
    let (mut client, policy) = arguments.connected().await?;
    let mut plan = pg::plan(&mut client, &policy).await.map_err(|error| match error.kind() {
        pg::ErrorKind::MissingSigning | pg::ErrorKind::MissingMaskKeys => {
            format!("{error}; the command `prepare` does that").into()
        }
        _ => Box::<dyn StdError + Send + Sync>::from(error),
    })?;
    if arguments.remove_drift {
        plan = plan.removing_drift();
    }
    match arguments.format.as_str() {
        "json" => say(&json(&plan)?)?,
        "sql" => say(&plan.to_sql())?,
        _ => say(&plan.to_string())?,
    }
    if arguments.command == "plan" {
        return Ok(if plan.is_empty() && plan.drift.is_empty() { Outcome::Done } else { Outcome::Todo });
    }
    let consent = if arguments.widening { Consent::Widening } else { Consent::NarrowingOnly };
    let accepted = plan.accept(consent).map_err(|refused| {
        let steps = refused.plan.widening().count();
        format!("steps that widen access: {steps}; review them above, then apply with --allow-widening")
    })?;
    let applied = pg::apply(&mut client, accepted, &pg::ApplyConfig::default()).await?;
    writeln!(io::stderr(), "applied and verified; steps: {}", applied.steps)?;
    Ok(Outcome::Done)
}

struct Arguments {
    command: String,
    file: PathBuf,
    database: Option<String>,
    root_cert: Option<PathBuf>,
    plaintext: bool,
    schema: Option<PathBuf>,
    format: String,
    check: bool,
    widening: bool,
    remove_drift: bool,
    alongside: Vec<String>,
}

impl Arguments {
    /// None when help was asked for.
    fn parse() -> Result<Option<Self>> {
        use lexopt::prelude::{Long, Short, Value};

        let (mut database, mut root_cert, mut schema) = (None, None, None);
        let (mut plaintext, mut check, mut widening) = (false, false, false);
        let mut format = "text".to_owned();
        let (mut remove_drift, mut alongside) = (false, Vec::new());
        let mut words = Vec::new();
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Short('h') | Long("help") => return Ok(None),
                Long("database") => database = Some(unicode(parser.value()?)?),
                Long("root-cert") => root_cert = Some(parser.value()?.into()),
                Long("schema") => schema = Some(parser.value()?.into()),
                Long("format") => format = unicode(parser.value()?)?,
                Long("plaintext") => plaintext = true,
                Long("check") => check = true,
                Long("remove-drift") => remove_drift = true,
                Long("alongside") => alongside.push(unicode(parser.value()?)?),
                Long("allow-widening") => widening = true,
                Value(word) => words.push(word),
                other => return Err(format!("{}; --help lists what there is", other.unexpected()).into()),
            }
        }
        let [command, file] = <[OsString; 2]>::try_from(words).map_err(
            |_| "give a command and the file of a policy, as in `plan check crm.policy`; --help explains",
        )?;
        let command = unicode(command)?;
        let formats: &[&str] = match command.as_str() {
            "check" | "fmt" | "prepare" => &["text"],
            "lint" => &["text", "json"],
            "plan" | "apply" => &["text", "json", "sql"],
            "matrix" => &["text", "json", "html"],
            other => return Err(format!("there is no command `{other}`; --help lists them").into()),
        };
        if !formats.contains(&format.as_str()) {
            return Err(format!("{command} has no format `{format}`, only {}", formats.join(", ")).into());
        }
        let file = file.into();
        Ok(Some(Self {
            command,
            file,
            database,
            root_cert,
            plaintext,
            schema,
            format,
            check,
            widening,
            remove_drift,
            alongside,
        }))
    }

    /// The policy, checked against the file of a schema, or against the database.
    async fn policy(&self) -> Result<Policy> {
        match &self.schema {
            Some(path) => {
                let unreadable =
                    |e: &dyn StdError| format!("the schema {} cannot be read: {e}", path.display());
                let text = fs::read_to_string(path).map_err(|e| unreadable(&e))?;
                let schema: Schema = serde_json::from_str(&text).map_err(|e| unreadable(&e))?;
                self.checked(&schema)
            }
            None => Ok(self.connected().await?.1),
        }
    }

    /// A connection, and the policy checked against its database.
    async fn connected(&self) -> Result<(Client, Policy)> {
        let mut client = self.connect().await?;
        let schema = pg::read_schema(&mut client).await?;
        let policy = self.checked(&schema)?;
        Ok((client, policy))
    }

    fn checked(&self, schema: &Schema) -> Result<Policy> {
        let text = self.text()?;
        let checked = Document::parse(&text).and_then(|document| check(&document, schema));
        let policy = checked.map_err(|mistakes| self.refused(&mistakes, &text))?;
        if !policy.warnings().is_empty() {
            writeln!(io::stderr(), "{}\n", self.drawn(policy.warnings(), &text))?;
        }
        Ok(self.alongside.iter().fold(policy, |policy, other| policy.alongside(other)))
    }

    fn reformat(&self) -> Result<Outcome> {
        let text = self.text()?;
        let formatted = Document::format(&text).map_err(|mistakes| self.refused(&mistakes, &text))?;
        if formatted == text {
            return Ok(Outcome::Done);
        }
        let name = self.file.display();
        if self.check {
            say(&format!("{name} is not in its canonical form; fmt writes it\n"))?;
            return Ok(Outcome::Todo);
        }
        fs::write(&self.file, formatted).map_err(|e| format!("the policy {name} cannot be written: {e}"))?;
        Ok(Outcome::Done)
    }

    fn text(&self) -> Result<String> {
        let unreadable = |e| format!("the policy {} cannot be read: {e}", self.file.display()).into();
        fs::read_to_string(&self.file).map_err(unreadable)
    }

    fn refused(&self, mistakes: &Diagnostics, text: &str) -> String {
        format!("the policy has mistakes\n\n{}", self.drawn(mistakes, text))
    }

    /// Over the source.
    #[cfg(feature = "render")]
    fn drawn(&self, diagnostics: &Diagnostics, text: &str) -> String {
        let colour = if io::stderr().is_terminal() { Colour::Always } else { Colour::Never };
        diagnostics.render(&self.file.display().to_string(), text, colour).trim_end().to_owned()
    }

    /// By the line.
    #[cfg(not(feature = "render"))]
    fn drawn(&self, diagnostics: &Diagnostics, text: &str) -> String {
        let line = |diagnostic: &zk_policy::Diagnostic| {
            let before = text.get(..diagnostic.span.range().start).unwrap_or(text);
            let number = before.matches('\n').count() + 1;
            format!("{}:{number}: [{}] {}", self.file.display(), diagnostic.code, diagnostic.message)
        };
        diagnostics.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    async fn connect(&self) -> Result<Client> {
        let mut config = self.config()?;
        let local = config.get_hosts().iter().all(|host| !matches!(host, Host::Tcp(_)))
            && config.get_hostaddrs().is_empty();
        if self.plaintext || local {
            config.ssl_mode(SslMode::Disable);
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(connection);
            return Ok(client);
        }
        let root = self.root_cert.as_ref().ok_or(
            "name the authority that signed the server's certificate with --root-cert: there is no connection over a \
             network without verified TLS, unless --plaintext asks for it",
        )?;
        config.ssl_mode(SslMode::Require);
        let (client, connection) = config.connect(tls(root)?).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    fn config(&self) -> Result<Config> {
        let from_environment = env::var("DATABASE_URL").ok();
        let url = self.database.as_ref().or(from_environment.as_ref());
        let url = url.ok_or("name the database with --database, or in DATABASE_URL")?;
        // The parser's own message could repeat a part of the URL.
        let mut config: Config = url.parse().map_err(|_| "this is no URL of a PostgreSQL database")?;
        if self.database.is_some() && config.get_password().is_some() {
            return Err(
                "--database holds a password, and others on this machine can read a program's options: \
                        set PGPASSWORD"
                    .into(),
            );
        }
        if let Ok(password) = env::var("PGPASSWORD") {
            config.password(password);
        }
        Ok(config)
    }
}

/// TLS that trusts this authority and no other.
fn tls(root: &Path) -> Result<MakeRustlsConnect> {
    let unreadable = |e: &dyn StdError| format!("the certificate {} cannot be read: {e}", root.display());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(root).map_err(|e| unreadable(&e))? {
        roots.add(certificate.map_err(|e| unreadable(&e))?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn unicode(argument: OsString) -> Result<String> {
    argument.into_string().map_err(|raw| format!("`{}` is not UTF-8", raw.display()).into())
}

fn json(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Writes to standard output; whoever reads it may have gone, which is an error and no panic.
fn say(text: &str) -> Result<()> {
    Ok(io::stdout().write_all(text.as_bytes())?)
}
