//! The local key ring, which needs no server.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use zk_kms::{
    Error, Kms, LocalKms, PassphraseCost,
    testing::{Gap, Harness},
};

use crate::admin::name;

const GAPS: [Gap; 4] = [
    Gap::not_applicable(
        "missing_key_is_not_found",
        "a key ring is opened before it is used; opening says NotFound",
    ),
    Gap::not_applicable("disabled_key_is_refused", "a key ring has no states"),
    Gap::not_applicable("refusal_is_denied", "who can read the file may use it; opening says Denied"),
    Gap::not_applicable("stalled_service_meets_the_deadline", "there is no service"),
];

/// Rings in memory; kept, because a rotation needs the ring itself.
#[derive(Debug, Default)]
pub(crate) struct Memory(Rings);

/// Rings in files.
#[derive(Debug)]
pub(crate) struct File {
    rings: Rings,
    folder: tempfile::TempDir,
}

type Rings = std::sync::Mutex<Vec<Arc<LocalKms>>>;

impl File {
    pub(crate) fn new() -> Self {
        Self { rings: Rings::default(), folder: tempfile::tempdir().unwrap() }
    }
}

fn keep(rings: &Rings, ring: LocalKms) -> Arc<dyn Kms> {
    let ring = Arc::new(ring);
    rings.lock().unwrap().push(Arc::clone(&ring));
    ring
}

fn rotate(rings: &Rings, kms: &dyn Kms) -> Result<(), Error> {
    let rings = rings.lock().unwrap();
    rings.iter().find(|ring| ring.uri() == kms.uri()).unwrap().rotate().map(drop)
}

#[async_trait]
impl Harness for Memory {
    fn name(&self) -> &str {
        "local in memory"
    }

    fn gaps(&self) -> Vec<Gap> {
        GAPS.to_vec()
    }

    async fn key(&self) -> Result<Arc<dyn Kms>, Error> {
        Ok(keep(&self.0, LocalKms::ephemeral(&name())?))
    }

    async fn rotate(&self, kms: &dyn Kms) -> Result<(), Error> {
        rotate(&self.0, kms)
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

#[async_trait]
impl Harness for File {
    fn name(&self) -> &str {
        "local in a file"
    }

    fn gaps(&self) -> Vec<Gap> {
        GAPS.to_vec()
    }

    async fn key(&self) -> Result<Arc<dyn Kms>, Error> {
        let name = name();
        let cheap = PassphraseCost::new(64, 1, 1)?;
        Ok(keep(
            &self.rings,
            LocalKms::create(self.folder.path().join(&name), &name, &"correct".into(), cheap)?,
        ))
    }

    async fn rotate(&self, kms: &dyn Kms) -> Result<(), Error> {
        rotate(&self.rings, kms)
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
