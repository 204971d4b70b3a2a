//! The store in memory.

use zk_creds::secret::MemorySecrets;

use crate::harness;

#[tokio::test]
async fn memory_keeps_the_laws() {
    harness::run("memory", &MemorySecrets::default(), &[]).await;
}
