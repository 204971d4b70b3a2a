//! What whoever deploys may replace while a service runs: certificates and keys, as files in the service's directory.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use secrecy::ExposeSecret;
use zk_creds::Environment;
use zk_creds::signed::{PublicKey, TokenVerifier};
use zk_creds::tls::{Material, Tls};
use zk_policy::pg::ClaimKey;

use crate::Result;

/// The public keys of tokens that are good at the time, each on a line.
pub const TOKEN_KEYS: &str = "CLINIC_TOKEN_KEYS";
/// The key that signs the claims of sessions.
pub const CLAIM_KEY: &str = "CLINIC_CLAIM_KEY";

/// TLS with the certificate, the key and the authorities that are in the directory.
pub fn tls(directory: &Path, look: Duration) -> Result<Tls> {
    let directory = directory.to_owned();
    let read = move || -> Result<Material> {
        let [roots, chain, key, refused] =
            ["ZK_TLS_ROOTS", "ZK_TLS_CHAIN", "ZK_TLS_KEY", "ZK_TLS_REFUSED"].map(|name| directory.join(name));
        Ok(Material::from_files(&roots, &chain, &key)?.refusing(std::fs::read(refused)?))
    };
    let tls = Tls::new(read()?)?;
    let following = tls.clone();
    again_and_again(look, move || Ok(following.reload(read()?)?));
    Ok(tls)
}

/// The keys of tokens that are in the directory.
pub fn tokens(directory: &Path, look: Duration, audience: &str) -> Result<Arc<TokenVerifier>> {
    let directory = directory.to_owned();
    let read = move || -> Result<Vec<PublicKey>> {
        let files = Environment::read_directory(&directory, &[TOKEN_KEYS])?;
        files.get(TOKEN_KEYS)?.expose_secret().lines().map(|key| Ok(key.parse()?)).collect()
    };
    let verifier = Arc::new(TokenVerifier::new("clinic", audience, read()?));
    let following = verifier.clone();
    again_and_again(look, move || {
        following.trust_only(read()?);
        Ok(())
    });
    Ok(verifier)
}

/// The claim key that is in the directory.
#[derive(Clone)]
pub struct Claims(Arc<RwLock<Arc<ClaimKey>>>);

impl Claims {
    pub fn follow(directory: &Path, look: Duration) -> Result<Self> {
        let directory = directory.to_owned();
        let read = move || -> Result<Arc<ClaimKey>> {
            let files = Environment::read_directory(&directory, &[CLAIM_KEY])?;
            Ok(Arc::new(ClaimKey::from_text(files.get(CLAIM_KEY)?)?))
        };
        let claims = Self(Arc::new(RwLock::new(read()?)));
        let following = claims.clone();
        again_and_again(look, move || {
            let key = read()?;
            *following.0.write().unwrap_or_else(PoisonError::into_inner) = key;
            Ok(())
        });
        Ok(claims)
    }

    pub fn key(&self) -> Arc<ClaimKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// In the middle of a change the files do not fit: the last good stays, and the next look finds the rest.
fn again_and_again(look: Duration, mut reload: impl FnMut() -> Result<()> + Send + 'static) {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(look).await;
            drop(reload());
        }
    });
}
