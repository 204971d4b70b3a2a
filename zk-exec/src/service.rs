//! The service's life: a login before it starts, renewed and rotated while it runs, revoked when it ends.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use secrecy::SecretString;
use zk_creds::postgres::{Endpoint, Issuer, IssuerConfig, Login};
use zk_creds::{Clock, Credential, Due, Environment, Lease, Manifest, Service, SystemClock, Term};

use crate::child::{Child, Signals};
use crate::options::{OnRotation, Options};
use crate::{Failure, say};

/// How long to wait after a failure of the issuer, which is tried again while the lease lives.
const RETRY: Duration = Duration::from_secs(2);

pub(crate) async fn run(options: &Options) -> Result<u8, Failure> {
    let text = std::fs::read_to_string(&options.manifest)
        .map_err(|e| format!("the manifest {} cannot be read: {e}", options.manifest.display()))?;
    let manifest = Manifest::from_json(&text).map_err(|mistakes| {
        let drawn = mistakes.render(&options.manifest.display().to_string(), &text);
        format!("the manifest is not valid\n{}", drawn.trim_end())
    })?;
    let service = manifest.service(&options.service)?;
    let issuing = Issuing {
        issuer: Issuer::new(&manifest, IssuerConfig::default())?,
        login: Login::from_environment()?,
        service,
        options,
    };
    // Before the program starts, so that no signal is missed.
    let mut signals = Signals::listen()?;
    let credential = issuing.issue().await?;
    let mut lease = credential.lease().clone();
    let started = issuing.environment(&credential).and_then(|environment| issuing.start(&environment));
    let outcome = match started {
        Ok(child) => supervise(&issuing, &mut signals, child, &mut lease).await,
        Err(error) => Err(error),
    };
    issuing.revoke(&lease).await;
    if let Some(directory) = &options.credentials {
        drop(Environment::remove_directory(directory));
    }
    outcome
}

struct Issuing<'a> {
    issuer: Issuer,
    login: Login,
    service: &'a Service,
    options: &'a Options,
}

impl Issuing<'_> {
    async fn issue(&self) -> Result<Credential, Failure> {
        let mut client = self.login.connect().await?;
        Issuer::install(&mut client).await?;
        Ok(self.issuer.issue(&mut client, self.service).await?)
    }

    async fn renew(&self, lease: &Lease) -> Result<Lease, zk_creds::Error> {
        self.issuer.renew(&mut self.login.connect().await?, lease).await
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

    fn environment(&self, credential: &Credential) -> Result<Environment, Failure> {
        let mut environment = Environment::default();
        let endpoint: &Endpoint = self.login.endpoint();
        endpoint.declare(credential, &mut environment)?;
        endpoint.declare_databases(self.service, credential, &mut environment)?;
        environment.add_scopes(self.service)?;
        for (name, value) in &self.options.variables {
            environment.set(name, SecretString::from(value.as_str()))?;
        }
        if let Some(directory) = &self.options.credentials {
            environment.write_directory(directory)?;
            let path = directory.to_str().ok_or("the path of the credentials is not UTF-8")?;
            environment.set("CREDENTIALS_DIRECTORY", SecretString::from(path))?;
        }
        Ok(environment)
    }

    fn start(&self, environment: &Environment) -> Result<Child, Failure> {
        let mut command = environment.command(&self.options.program);
        command.args(&self.options.arguments);
        Ok(Child::start(&mut command)?)
    }
}

async fn supervise(
    issuing: &Issuing<'_>,
    signals: &mut Signals,
    mut child: Child,
    lease: &mut Lease,
) -> Result<u8, Failure> {
    let mut rotated = Instant::now();
    let mut old: Option<(Lease, Instant)> = None;
    let mut not_before = Instant::now();
    loop {
        let due = Term::from(&*lease).next_due(SystemClock::default().now());
        let wait = match due {
            Due::Renewal(wait) => wait,
            // Debounced: whatever else is wrong, a program is not restarted all the time.
            Due::Rotation(wait) => wait.max(issuing.options.debounce.saturating_sub(rotated.elapsed())),
        };
        let at = (Instant::now() + wait).max(not_before);
        let ends = old.as_ref().map_or(at, |(_, ends)| at.min(*ends));
        tokio::select! {
            signal = signals.next() => {
                match signal {
                    Some(signal) => child.signal(signal),
                    None => if let Some(code) = child.reap()? { return Ok(finish(issuing, old, code).await) },
                }
                continue;
            }
            () = tokio::time::sleep_until(ends.into()) => {}
        }
        if let Some((lease, _)) = old.take_if(|(_, ends)| *ends <= Instant::now()) {
            issuing.revoke(&lease).await;
            continue;
        }
        let outcome: Result<(), Failure> = async {
            match due {
                Due::Renewal(_) => *lease = issuing.renew(lease).await?,
                Due::Rotation(_) => {
                    let credential = issuing.issue().await?;
                    let before = std::mem::replace(lease, credential.lease().clone());
                    rotated = Instant::now();
                    let environment = issuing.environment(&credential)?;
                    match issuing.options.on_rotation {
                        OnRotation::Restart => {
                            if let Some(code) = end(signals, &child, issuing.options.grace).await? {
                                say(&format!("restarting with {}; it had ended with {code}", lease.login));
                            }
                            child = issuing.start(&environment)?;
                            issuing.revoke(&before).await;
                        }
                        OnRotation::Signal(signal) => {
                            child.signal(signal);
                            old = Some((before, Instant::now() + issuing.options.grace));
                        }
                    }
                }
            }
            Ok(())
        }
        .await;
        if let Err(error) = outcome {
            say(&format!("the credential of {} could not be kept: {error}; trying again", lease.login));
            not_before = Instant::now() + RETRY;
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
