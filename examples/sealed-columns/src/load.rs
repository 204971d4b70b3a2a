//! An application at work: one that searches and reads, one that writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinHandle;

use crate::world::{PER_TENANT, World, ssn};
use crate::{Result, ensure};

pub struct Load {
    stop: Arc<AtomicBool>,
    reader: JoinHandle<Result<u64>>,
    writer: JoinHandle<Result<u64>>,
}

impl Load {
    pub fn start(world: &Arc<World>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let reader = tokio::spawn(work(world.clone(), stop.clone(), false));
        let writer = tokio::spawn(work(world.clone(), stop.clone(), true));
        Self { stop, reader, writer }
    }

    /// Ends the load and returns how much was read and written; an error of either is an error.
    pub async fn stop(self) -> Result<(u64, u64)> {
        self.stop.store(true, Ordering::SeqCst);
        Ok((self.reader.await??, self.writer.await??))
    }
}

async fn work(world: Arc<World>, stop: Arc<AtomicBool>, writes: bool) -> Result<u64> {
    let client = world.client().await?;
    let scope = &world.scopes[0];
    let mut done = 0;
    while !stop.load(Ordering::SeqCst) {
        let id = i64::try_from(done * 7 % PER_TENANT)? + 1;
        if writes {
            world.write(&client, scope, id, &ssn(id), false).await?;
        } else {
            let found = world.find(&client, scope, &ssn(id)).await?;
            ensure(
                found == [id],
                format!("a search during the rotation found {found:?} instead of customer {id}"),
            )?;
        }
        done += 1;
    }
    Ok(done)
}
