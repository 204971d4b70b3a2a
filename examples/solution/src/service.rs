//! What every service starts with. All that it knows is in its environment; nothing here is about clinics.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, stdin};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use deadpool_postgres::Pool;
use hyper_util::service::TowerToHyperService;
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use uuid::Uuid;
use zk_creds::postgres::{Handover, HttpsRenewer, Keeper, KeeperConfig, Login, acting_as, pool_builder};
use zk_creds::signed::TokenVerifier;
use zk_creds::tls::https::{self, ServerOptions};
use zk_creds::tls::{Clients, Tls};
use zk_creds::{Environment, Manifest};
use zk_crypto::{BlindIndex, Encryptor, EncryptorConfig, KeyStore, PostgresKeyStore, ScopedKeyStore};
use zk_kms::{KeyUri, OpenConfig};
use zk_policy::pg;
use zk_policy::{Declared, Document, Session};

use crate::fault::chain;
use crate::followed::{self, Claims};
use crate::http::Http;
use crate::{Result, records};

pub const POLICY: &str = include_str!("../clinic.policy");
pub const MANIFEST: &str = include_str!("../manifest.json");
/// What identities begin with: `spiffe://clinic.example/rest`.
pub const TRUST_DOMAIN: &str = "clinic.example";
/// The role with which services read wrapped data keys.
pub const KEY_READER: &str = "clinic_keys";
/// What opens the key ring.
const PASSPHRASE: &str = "CLINIC_KEY_RING_PASSPHRASE";
/// Connections of each role of a service.
const CONNECTIONS: usize = 8;

/// How old a service lets things become, and so how soon it notices what was replaced.
#[derive(Clone)]
pub struct Ages {
    pub name: &'static str,
    /// Certificates and keys in its directory.
    pub look: Duration,
    /// Data keys in memory.
    pub key: Duration,
    /// Connections of its clients.
    pub connections: ServerOptions,
    /// How often the worker looks for rows under older keys.
    pub tend: Duration,
}

impl Ages {
    /// Those of a deployment: what the crates choose where they choose.
    pub fn usual() -> Self {
        let seconds = Duration::from_secs;
        let connections = ServerOptions::default();
        Self { name: "usual", look: seconds(30), key: seconds(300), connections, tend: seconds(3600) }
    }

    /// Seconds, so that whoever looks on need not wait for what is replaced.
    pub fn short() -> Self {
        let seconds = Duration::from_secs;
        let mut connections = ServerOptions::default();
        (connections.max_age, connections.drain) = (seconds(2), seconds(1));
        Self { name: "short", look: seconds(1), key: seconds(3), connections, tend: seconds(2) }
    }

    pub fn named(name: &str) -> Result<Self> {
        let found = [Self::usual(), Self::short()].into_iter().find(|ages| ages.name == name);
        found.ok_or_else(|| format!("CLINIC_AGES is usual or short, and not {name}").into())
    }

    /// Until every service has looked at its directory, and every connection from before has ended.
    pub fn seen(&self) -> Duration {
        self.look + self.connections.max_age
    }
}

pub struct Service {
    pub declared: Declared,
    pub claims: Claims,
    pub tokens: Arc<TokenVerifier>,
    pub encryptor: Encryptor,
    pub ages: Ages,
    pub emails: BlindIndex,
    /// Asks other services, with our certificate.
    pub peers: Http,
    keys: Arc<ScopedKeyStore>,
    addresses: BTreeMap<String, String>,
    pools: BTreeMap<String, Pool>,
    tls: Tls,
}

impl Service {
    pub async fn start(name: &str) -> Result<Arc<Self>> {
        let environment = Environment::take(&[
            "CLINIC_AGES",
            "CLINIC_FOLLOWED",
            "CLINIC_KEY_RING",
            "ZK_KMS_URI",
            "ZK_SCOPES",
        ])?;
        let text = |name| environment.get(name).map(ExposeSecret::expose_secret);
        let ages = Ages::named(text("CLINIC_AGES")?)?;
        let directory = Path::new(text("CLINIC_FOLLOWED")?);
        let tls = followed::tls(directory, ages.look)?;

        // The database: a login that renews and replaces itself, and a pool for each role that the service may act as.
        let login = Login::from_environment()?;
        let term = login.term().ok_or("the login has no lease")?;
        let renewer = Arc::new(HttpsRenewer::from_environment(&tls, &login)?);
        let logins = Arc::new(Handover::new(login));
        tokio::spawn(tell(Keeper::start(logins.clone(), term, renewer, KeeperConfig::default())));
        let declared = Declared::from(&Document::parse(POLICY)?);
        let manifest = Manifest::from_json(MANIFEST)?;
        let ours = manifest.service(name)?;
        let mut pools = BTreeMap::new();
        for role in declared.roles() {
            let database_role = Session::new(&declared, role)?.database_role().to_owned();
            if ours.roles.contains(&database_role) {
                let pool = pool_builder(logins.clone()).max_size(CONNECTIONS);
                pools.insert(role.to_owned(), pool.post_create(pg::enters(&declared, role)?).build()?);
            }
        }

        // Sealing: wrapped data keys from the database, unwrapped by the KMS, of the scopes in the manifest only.
        let passphrase = Environment::read_directory(directory, &[PASSPHRASE])?.get(PASSPHRASE)?.clone();
        let ring = OpenConfig::new().key_ring(text("CLINIC_KEY_RING")?, passphrase);
        let kms = zk_kms::open(&KeyUri::parse(text("ZK_KMS_URI")?)?, &ring).await?;
        let keys = pool_builder(logins).max_size(2).post_create(acting_as(KEY_READER)).build()?;
        let keys = ScopedKeyStore::new(Arc::new(PostgresKeyStore::new(keys)), text("ZK_SCOPES")?.split(' '))?;
        let keys = Arc::new(keys);
        let aged = EncryptorConfig::default().max_age(ages.key);

        let mut addresses = BTreeMap::new();
        for peer in &ours.peers {
            let variable = address_of(peer);
            let address = Environment::take(&[&variable])?.get(&variable)?.expose_secret().to_owned();
            addresses.insert(peer.clone(), address);
        }
        Ok(Arc::new(Self {
            declared,
            claims: Claims::follow(directory, ages.look)?,
            tokens: followed::tokens(directory, ages.look, name)?,
            encryptor: Encryptor::new(kms, keys.clone(), aged)?,
            emails: records::emails()?,
            peers: Http::new(&tls)?,
            keys,
            addresses,
            pools,
            tls,
            ages,
        }))
    }

    /// Serves until whoever started the service closes its standard input, or ends. Says on which port.
    pub async fn serve(self: Arc<Self>, routes: Router<Arc<Self>>, clients: Clients) -> Result<()> {
        serve(&self.tls, routes.with_state(self.clone()), clients, &self.ages).await
    }

    /// The tenants that have keys.
    pub async fn tenants(&self) -> std::result::Result<BTreeSet<Uuid>, zk_crypto::Error> {
        let keys = self.keys.list(None).await?;
        Ok(keys.iter().filter_map(|key| key.scope.as_str().strip_prefix("tenant:")?.parse().ok()).collect())
    }

    /// The connections that act as a role of the policy; none for a role that is not in the service's manifest.
    pub fn pool(&self, role: &str) -> Option<&Pool> {
        self.pools.get(role)
    }

    /// Where a service is that the manifest lists among our peers.
    pub fn address(&self, peer: &str) -> Option<&str> {
        self.addresses.get(peer).map(String::as_str)
    }
}

/// The variable in which the address of a service arrives.
pub fn address_of(service: &str) -> String {
    format!("CLINIC_{}_URL", service.to_ascii_uppercase())
}

/// Serves on a free port of the loopback address and says which, in one line.
pub async fn serve(tls: &Tls, routes: Router, clients: Clients, ages: &Ages) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let mut options = ages.connections.clone();
    options.clients = clients;
    Ok(https::serve(listener, tls, options, TowerToHyperService::new(routes), stopped()).await?)
}

/// Keeps the login, and logs what keeps it from being renewed.
async fn tell(mut keeper: Keeper) {
    loop {
        let kept = keeper.next().await;
        if let Some(failure) = kept.failure {
            eprintln!("the login is not renewed: {}", chain(&failure));
        }
        if kept.ended {
            return;
        }
    }
}

/// Completes when standard input ends. A thread of its own: the runtime would wait for one of its own when it ends.
async fn stopped() {
    let (tell, told) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        while matches!(stdin().read(&mut [0; 64]), Ok(1..)) {}
        drop(tell);
    });
    drop(told.await);
}
