//! No call lasts longer than its caller is willing to wait.

use std::{future::Future, time::Duration};

use super::{Call, Layer};
use crate::Error;

/// Ends a call that takes too long, with [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable).
///
/// The call is dropped: a request that is on its way may still arrive, which wraps a key that nobody keeps, or unwraps one
/// that nobody receives.
///
/// ```
/// use std::time::Duration;
/// use zk_kms::layers::Deadline;
///
/// assert_eq!(Deadline::new(Duration::from_secs(5)), Deadline::new(Duration::from_millis(5000)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    limit: Duration,
}

impl Deadline {
    /// Allows a call to take `limit`.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { limit }
    }
}

impl Layer for Deadline {
    async fn around<T, F, A>(&self, _: Call<'_>, attempt: F) -> Result<T, Error>
    where
        T: Send,
        F: Fn() -> A + Send + Sync,
        A: Future<Output = Result<T, Error>> + Send,
    {
        let limit = self.limit;
        tokio::time::timeout(limit, attempt()).await.unwrap_or_else(|_| {
            Err(Error::unavailable(format!(
                "the key-management service did not answer within {} ms",
                limit.as_millis()
            )))
        })
    }
}
