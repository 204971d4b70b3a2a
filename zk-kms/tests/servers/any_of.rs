//! A key in OpenBao and one in a local ring, together.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use zk_kms::{
    AnyOf, Error, Kms, LocalKms, VaultKms,
    testing::{Gap, Harness},
};

use crate::{admin::number, vault::OpenBao};

/// OpenBao is asked first, so what an administrator does there decides.
#[derive(Debug)]
pub(crate) struct Both(OpenBao);

impl Both {
    pub(crate) fn start() -> Self {
        Self(OpenBao::start())
    }

    fn together(name: &str, first: Arc<dyn Kms>) -> Result<Arc<dyn Kms>, Error> {
        let ring = Arc::new(LocalKms::ephemeral(name)?);
        Ok(Arc::new(AnyOf::new(name, [first, ring])?))
    }

    /// The member of the same name.
    fn member(&self, kms: &dyn Kms) -> VaultKms {
        self.0.kms(kms.uri().name())
    }
}

#[async_trait]
impl Harness for Both {
    fn name(&self) -> &str {
        "any-of OpenBao 2.7.2 and a local ring"
    }

    fn gaps(&self) -> Vec<Gap> {
        Vec::new()
    }

    async fn key(&self) -> Result<Arc<dyn Kms>, Error> {
        let member = self.0.key().await?;
        let name = member.uri().name().rsplit('/').next().unwrap().to_owned();
        Self::together(&name, member)
    }

    async fn rotate(&self, kms: &dyn Kms) -> Result<(), Error> {
        self.0.rotate(&self.member(kms)).await
    }

    async fn disable(&self, kms: &dyn Kms) -> Result<(), Error> {
        self.0.disable(&self.member(kms)).await
    }

    async fn enable(&self, kms: &dyn Kms) -> Result<(), Error> {
        self.0.enable(&self.member(kms)).await
    }

    async fn missing(&self) -> Result<Arc<dyn Kms>, Error> {
        Self::together(&format!("missing{}", number()), self.0.missing().await?)
    }

    async fn refused(&self) -> Result<Arc<dyn Kms>, Error> {
        Self::together(&format!("refused{}", number()), self.0.refused().await?)
    }

    async fn stalled(&self) -> Result<Arc<dyn Kms>, Error> {
        Self::together(&format!("stalled{}", number()), self.0.stalled().await?)
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
