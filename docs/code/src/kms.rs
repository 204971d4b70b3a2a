//! Pages about zk-kms, and what is below it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use zk_kms::layers::Guard;
use zk_kms::testing::{Gap, Harness};
use zk_kms::{
    AnyOf, Capabilities, Context, DataKey, Error, ErrorKind, KeyStatus, KeyUri, Kms, LocalKms, OpenConfig,
    PassphraseCost, WrappedKey, open,
};

use crate::Run;

async fn readme_of_zk_http() -> Run {
    use zk_http::{Client, ClientConfig, Endpoint, Method, Request};
    block!("zk-http.1");
    Ok(())
}

/// The story of the tutorial, which the test below runs.
async fn tutorial(path: PathBuf, passphrase: SecretString, cost: PassphraseCost) -> Run {
    block!("tutorial-kms.1");
    Ok(())
}

async fn open_and_wrap(uri: &str, context: Context) -> Run {
    block!("kms.1");
    Ok(())
}

fn several(guard: Guard, in_aws: Arc<dyn Kms>, in_google: Arc<dyn Kms>) -> Run {
    block!("kms.2");
    Ok(())
}

fn a_key_ring(passphrase: SecretString) -> Run {
    block!("kms-local.1");
    Ok(())
}

/// Stands for a server of somebody's: rings in memory.
#[derive(Debug, Default)]
struct MyServer {
    rings: Mutex<Vec<Arc<LocalKms>>>,
}

impl MyServer {
    fn start() -> Self {
        Self::default()
    }

    async fn new_key(&self) -> Result<Arc<dyn Kms>, Error> {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = Arc::new(LocalKms::ephemeral(&format!("mine-{}", rings.len()))?);
        rings.push(ring.clone());
        Ok(ring)
    }

    /// This version looks at no permissions.
    async fn key_of_somebody_else(&self) -> Result<Arc<dyn Kms>, Error> {
        self.new_key().await
    }

    async fn key_that_is_not_there(&self) -> Result<Arc<dyn Kms>, Error> {
        Ok(Arc::new(Missing(KeyUri::parse("local:missing")?)))
    }

    async fn rotate_key(&self, uri: &KeyUri) -> Result<(), Error> {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        rings.iter().find(|ring| ring.uri() == uri).ok_or_else(not_found)?.rotate().map(drop)
    }
}

#[derive(Debug)]
struct Missing(KeyUri);

fn not_found() -> Error {
    Error::new(ErrorKind::NotFound, "there is no such key")
}

#[async_trait]
impl Kms for Missing {
    fn uri(&self) -> &KeyUri {
        &self.0
    }

    async fn wrap_key(&self, _: &DataKey, _: &Context) -> Result<WrappedKey, Error> {
        Err(not_found())
    }

    async fn unwrap_key(&self, _: &WrappedKey, _: &Context) -> Result<DataKey, Error> {
        Err(not_found())
    }

    async fn status(&self) -> Result<KeyStatus, Error> {
        Err(not_found())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
}

mod backend {
    use super::*;

    items!("kms-backend.1");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_tutorial_holds() {
        let folder = tempfile::tempdir().unwrap();
        let passphrase = SecretString::from("correct horse battery staple");
        let cost = PassphraseCost::new(64, 1, 1).unwrap();
        tutorial(folder.path().join("orders.keyring"), passphrase, cost).await.unwrap();
    }
}
