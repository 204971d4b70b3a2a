//! Where keys are kept: a key ring, or a service of testkit.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use testkit::{
    Passage,
    kms::{self, KeyService, Login},
};
use zk_kms::{
    AsymmetricKms, AwsKeyPair, AzureKeyPair, Error, GcpKeyPair, KeySpec, KeyUri, Kms, LocalKms, OpenConfig,
    PassphraseCost, PinnedKms, Service,
};

use crate::process::Failure;

/// What kind of KEK.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum KeyKind {
    /// One that wraps and unwraps in the service.
    Secret,
    /// One whose public key wraps here.
    Pair,
}

pub(crate) struct Place {
    name: &'static str,
    service: Option<(KeyService, KeyKind)>,
    folder: tempfile::TempDir,
    last: AtomicU32,
}

impl Place {
    pub(crate) fn local() -> Self {
        Self::with("local in a file", None)
    }

    pub(crate) fn start(name: &'static str, place: kms::Place, kind: KeyKind) -> Self {
        Self::with(name, Some((KeyService::start(place).unwrap(), kind)))
    }

    fn with(name: &'static str, service: Option<(KeyService, KeyKind)>) -> Self {
        Self { name, service, folder: tempfile::tempdir().unwrap(), last: AtomicU32::new(0) }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// A path that nobody else got.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join(self.fresh())
    }

    /// Makes a KEK as whoever provisions does.
    pub(crate) async fn make_kek(&self) -> Result<KeyUri, Error> {
        let name = self.fresh();
        let Some((service, kind)) = &self.service else {
            LocalKms::create(self.ring(&name), &name, &"correct".into(), PassphraseCost::new(64, 1, 1)?)?;
            return KeyUri::local(&name);
        };
        if *kind == KeyKind::Pair && service.place() != kms::Place::FakeAzure {
            return service.make_pair(&name).unwrap().parse();
        }
        let uri = service.uri(&name).parse()?;
        zk_kms::ensure_key(&uri, &self.config(), &KeySpec::new()).await?;
        Ok(uri)
    }

    /// Opens a KEK as a process does when it starts.
    pub(crate) async fn open(&self, uri: &KeyUri) -> Result<Arc<dyn Kms>, Error> {
        self.open_as(uri, &self.config()).await
    }

    /// Opens a KEK as somebody whom the service knows, or does not, and does not let use it.
    pub(crate) async fn open_refused(&self, uri: &KeyUri) -> Result<Arc<dyn Kms>, Error> {
        let login = match &self.service {
            Some((service, _)) if service.place() == kms::Place::OpenBao => {
                service.log_in_with(r#"path "transit/keys/*" { capabilities = ["read"] }"#).unwrap()
            }
            _ => Login::Token("another".to_owned()),
        };
        self.open_as(uri, &as_login(self.config(), login)).await
    }

    async fn open_as(&self, uri: &KeyUri, config: &OpenConfig) -> Result<Arc<dyn Kms>, Error> {
        let pair: Arc<dyn AsymmetricKms> = match (&self.service, uri.service()) {
            (Some((_, KeyKind::Pair)), Service::AwsKms) => Arc::new(AwsKeyPair::open(uri, config).await?),
            (Some((_, KeyKind::Pair)), Service::GcpKms) => Arc::new(GcpKeyPair::open(uri, config)?),
            (Some((_, KeyKind::Pair)), Service::AzureKeyVault) => Arc::new(AzureKeyPair::open(uri, config)?),
            (None, _) => {
                let config = config.clone().key_ring(self.ring(uri.name()), "correct".into());
                return zk_kms::open(uri, &config).await;
            }
            _ => return zk_kms::open(uri, config).await,
        };
        // Stands for the operator who has checked the fingerprint, also after a rotation.
        let fingerprint = pair.public_key().await?.fingerprint();
        Ok(Arc::new(PinnedKms::fetch(pair, &fingerprint).await?))
    }

    pub(crate) fn rotate(&self, uri: &KeyUri) -> Result<(), Failure> {
        match &self.service {
            Some((service, _)) => done(service.rotate(uri.as_str())),
            None => {
                LocalKms::open(self.ring(uri.name()), &"correct".into())?.rotate()?;
                Ok(())
            }
        }
    }

    /// Makes the older versions of a KEK unusable, where that can be done.
    pub(crate) fn retire_older(&self, uri: &KeyUri) -> Result<(), Failure> {
        self.service.as_ref().map_or(Ok(()), |(service, _)| done(service.retire_older(uri.as_str())))
    }

    pub(crate) fn set_enabled(&self, uri: &KeyUri, enabled: bool) -> Result<(), Failure> {
        done(self.service()?.set_enabled(uri.as_str(), enabled))
    }

    pub(crate) fn network(&self, passage: Passage) -> Result<(), Failure> {
        self.service()?.gate().set(passage);
        Ok(())
    }

    /// How many requests the service was sent so far. A fake counts them itself, also those that came through TLS.
    pub(crate) fn calls(&self) -> Result<usize, Failure> {
        let service = self.service()?;
        Ok(service.fake().map_or_else(|| service.gate().requests(), |fake| fake.requests("*")))
    }

    fn service(&self) -> Result<&KeyService, Failure> {
        self.service
            .as_ref()
            .map(|(service, _)| service)
            .ok_or_else(|| Failure::not_run("there is no service"))
    }

    fn config(&self) -> OpenConfig {
        let Some((service, _)) = &self.service else { return OpenConfig::new() };
        // The layers cut attempts short; this is the backend's own limit behind them.
        let config = OpenConfig::new().endpoint(service.endpoint()).timeout(Duration::from_secs(20));
        let config = as_login(config, service.login());
        match service.authority() {
            Some(pem) => config.certificate_authorities(pem),
            None => config,
        }
    }

    fn ring(&self, name: &str) -> PathBuf {
        Path::join(self.folder.path(), format!("{name}.keyring"))
    }

    fn fresh(&self) -> String {
        format!("key{}", self.last.fetch_add(1, SeqCst))
    }
}

fn as_login(config: OpenConfig, login: Login) -> OpenConfig {
    match login {
        Login::Token(token) => config.bearer_token(token.into()),
        Login::AccessKey(id, secret) => config.access_key(id, secret.into()),
    }
}

fn done(done: Result<(), testkit::Error>) -> Result<(), Failure> {
    done.map_err(|e| Failure::not_run(format!("the administrator cannot do that: {e}")))
}
