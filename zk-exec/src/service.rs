//! The service's life: a login before it starts, renewed and rotated while it runs, revoked when it ends; and the secrets
//! that it was lent.

use std::future::Future;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use secrecy::SecretString;
use zk_creds::postgres::{Endpoint, Issuer, IssuerConfig, Login};
use zk_creds::secret::Secrets;
use zk_creds::{Clock, Credential, Due, Environment, Lease, Manifest, Service, SystemClock, Term};

use crate::child::{Child, Signals};
use crate::options::{OnRotation, Options};
use crate::secrets::{self, Versions};
use crate::{Failure, say};

/// How long to wait after a failure of the issuer, which is tried again while the lease lives.
const RETRY: Duration = Duration::from_secs(2);
/// How long the issuer's database, or the store of secrets, may take for one thing.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn run(options: &Options) -> Result<u8, Failure> {
    let text = std::fs::read_to_string(&options.manifest)
        .map_err(|e| format!("the manifest {} cannot be read: {e}", options.manifest.display()))?;
    let manifest = Manifest::from_json(&text).map_err(|mistakes| {
        let drawn = mistakes.render(&options.manifest.display().to_string(), &text);
        format!("the manifest is not valid\n{}", drawn.trim_end())
    })?;
    let service = manifest.service(&options.service)?;
    let secrets = match &options.secrets {
        Some(place) => Some(secrets::open(place).await?),
        None if service.secrets.is_empty() => None,
        None => {
            let names = service.secrets.values().map(String::as_str).collect::<Vec<_>>().join(", ");
            let message = format!(
                "service `{}` needs secrets ({names}): say with --secrets where they are",
                service.name
            );
            return Err(message.into());
        }
    };
    let issuing = Issuing {
        issuer: Issuer::new(&manifest, IssuerConfig::default())?,
        login: Login::from_environment()?,
        secrets,
        service,
        options,
    };
    // Before the program starts, so that no signal is missed.
    let mut signals = Signals::listen()?;
    let (mut issued, environment) = within(issuing.issue()).await?;
    let outcome = match issuing.start(&environment) {
        Ok(child) => supervise(&issuing, &mut signals, child, &mut issued).await,
        Err(error) => Err(error),
    };
    issuing.revoke(&issued.lease).await;
    if let Some(directory) = &options.credentials {
        drop(Environment::remove_directory(directory));
    }
    outcome
}

struct Issuing<'a> {
    issuer: Issuer,
    login: Login,
    secrets: Option<Secrets>,
    service: &'a Service,
    options: &'a Options,
}

/// What the program has.
struct Issued {
    lease: Lease,
    loans: Vec<Lease>,
    /// The versions of the secrets that it was lent, or of older ones.
    versions: Versions,
}

impl Issuing<'_> {
    /// Issues a login and lends the secrets. What cannot be handed to the program is taken back.
    async fn issue(&self) -> Result<(Issued, Environment), Failure> {
        let mut client = self.login.connect().await?;
        Issuer::install(&mut client).await?;
        let mut environment = Environment::default();
        // Read before they are lent: a version that comes in between is found at the next look, and not missed.
        let (mut loans, mut versions) = (Vec::new(), Versions::new());
        if let Some(secrets) = &self.secrets {
            versions = secrets::current(secrets, self.service).await?;
            loans = self.issuer.lend_secrets(&mut client, secrets, self.service, &mut environment).await?;
        }
        let credential = self.issuer.issue(&mut client, self.service).await?;
        let lease = credential.lease().clone();
        match self.declare(&credential, &mut environment) {
            Ok(()) => Ok((Issued { lease, loans, versions }, environment)),
            Err(error) => {
                self.revoke(&lease).await;
                Err(error)
            }
        }
    }

    async fn renew(&self, issued: &mut Issued) -> Result<(), zk_creds::Error> {
        let mut client = self.login.connect().await?;
        issued.lease = self.issuer.renew(&mut client, &issued.lease).await?;
        for loan in &mut issued.loans {
            *loan = self.issuer.renew_grant(&mut client, loan).await?;
        }
        Ok(())
    }

    /// Revokes, and says so when it does not succeed: the lease then ends by itself.
    async fn revoke(&self, lease: &Lease) {
        let revoked = match self.login.connect().await {
            Ok(mut client) => self.issuer.revoke(&mut client, lease).await,
            Err(error) => Err(error),
        };
        if let Err(error) = revoked {
            say(&format!("{} is not revoked, and ends with its lease: {error}", lease.login));
        }
    }

    /// Whether a secret has another version than the program was lent.
    async fn has_changed(&self, issued: &Issued) -> Result<bool, Failure> {
        let Some(secrets) = &self.secrets else { return Ok(false) };
        Ok(secrets::current(secrets, self.service).await? != issued.versions)
    }

    fn declare(&self, credential: &Credential, environment: &mut Environment) -> Result<(), Failure> {
        let endpoint: &Endpoint = self.login.endpoint();
        endpoint.declare(credential, environment)?;
        endpoint.declare_databases(self.service, credential, environment)?;
        environment.add_scopes(self.service)?;
        for (name, value) in &self.options.variables {
            environment.set(name, SecretString::from(value.as_str()))?;
        }
        if let Some(directory) = &self.options.credentials {
            environment.write_directory(directory)?;
            let path = directory.to_str().ok_or("the path of the credentials is not UTF-8")?;
            environment.set("CREDENTIALS_DIRECTORY", SecretString::from(path))?;
        }
        Ok(())
    }

    fn start(&self, environment: &Environment) -> Result<Child, Failure> {
        let mut command = environment.command(&self.options.program);
        command.args(&self.options.arguments);
        Ok(Child::start(&mut command)?)
    }
}

/// Signals wait for it, so it has an end.
async fn within<T, E: Into<Failure>>(work: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(_) => Err("the database does not answer in time".into()),
    }
}

/// What is done next for the lease, and when.
struct Next {
    rotates: bool,
    at: Instant,
}

impl Next {
    fn of(lease: &Lease, rotated: Instant, debounce: Duration) -> Self {
        match Term::from(lease).next_due(SystemClock::default().now()) {
            Due::Renewal(wait) => Self { rotates: false, at: Instant::now() + wait },
            Due::Rotation(wait) => Self::rotation(wait, rotated + debounce),
        }
    }

    /// Whatever else is wrong, a program is not restarted all the time: not before `not_before`.
    fn rotation(wait: Duration, not_before: Instant) -> Self {
        Self { rotates: true, at: (Instant::now() + wait).max(not_before) }
    }
}

async fn supervise(
    issuing: &Issuing<'_>,
    signals: &mut Signals,
    mut child: Child,
    issued: &mut Issued,
) -> Result<u8, Failure> {
    let Options { debounce, look, grace, .. } = *issuing.options;
    let mut rotated = Instant::now();
    let mut old: Option<(Lease, Instant)> = None;
    let mut next = Next::of(&issued.lease, rotated, debounce);
    let mut look_at = issuing.secrets.as_ref().map(|_| Instant::now() + look);
    loop {
        let ends = old.as_ref().map(|(_, ends)| *ends);
        let wake = [ends, look_at].into_iter().flatten().fold(next.at, Instant::min);
        tokio::select! {
            signal = signals.next() => {
                match signal {
                    Some(signal) => child.signal(signal),
                    None => if let Some(code) = child.reap()? { return Ok(finish(issuing, old, code).await) },
                }
                continue;
            }
            () = tokio::time::sleep_until(wake.into()) => {}
        }
        let now = Instant::now();
        if let Some((lease, _)) = old.take_if(|(_, ends)| *ends <= now) {
            issuing.revoke(&lease).await;
        }
        if look_at.is_some_and(|at| at <= now) {
            look_at = Some(now + look);
            match within(issuing.has_changed(issued)).await {
                Ok(true) => next = Next::rotation(Duration::ZERO, rotated + debounce),
                Ok(false) => {}
                Err(error) => say(&format!(
                    "the secrets could not be looked at: {error}; the program keeps what it has"
                )),
            }
        }
        if Instant::now() < next.at {
            continue;
        }
        let outcome: Result<(), Failure> = async {
            if !next.rotates {
                return within(issuing.renew(issued)).await;
            }
            let (fresh, environment) = within(issuing.issue()).await?;
            let before = std::mem::replace(issued, fresh).lease;
            rotated = Instant::now();
            match issuing.options.on_rotation {
                OnRotation::Restart => {
                    if let Some(code) = end(signals, &child, grace).await? {
                        say(&format!("restarting with {}; it had ended with {code}", issued.lease.login));
                    }
                    child = issuing.start(&environment)?;
                    issuing.revoke(&before).await;
                }
                OnRotation::Signal(signal) => {
                    child.signal(signal);
                    // One that is still in its grace has had its time.
                    if let Some((lease, _)) = old.replace((before, Instant::now() + grace)) {
                        issuing.revoke(&lease).await;
                    }
                }
            }
            Ok(())
        }
        .await;
        match outcome {
            Ok(()) => next = Next::of(&issued.lease, rotated, debounce),
            Err(error) => {
                say(&format!(
                    "the credential of {} could not be kept: {error}; trying again",
                    issued.lease.login
                ));
                next.at = Instant::now() + RETRY;
            }
        }
    }
}

async fn finish(issuing: &Issuing<'_>, old: Option<(Lease, Instant)>, code: u8) -> u8 {
    if let Some((lease, _)) = old {
        issuing.revoke(&lease).await;
    }
    code
}

/// Tells the program to end, and makes it when it does not.
async fn end(signals: &mut Signals, child: &Child, grace: Duration) -> std::io::Result<Option<u8>> {
    child.signal(Signal::TERM);
    let mut kill = std::pin::pin!(tokio::time::sleep(grace));
    let mut killed = false;
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Some(signal) => child.signal(signal),
                None => if let Some(code) = child.reap()? { return Ok(Some(code)) },
            },
            () = &mut kill, if !killed => {
                killed = true;
                child.signal(Signal::KILL);
            }
        }
    }
}
