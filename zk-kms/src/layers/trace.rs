//! What an operator sees of a call.

use std::future::Future;

use tokio::time::Instant;
use tracing::Instrument;

use super::{Call, Layer};
use crate::Error;

/// Reports each call to [`tracing`]: a span `kms` with operation and key, and one event with outcome and time.
///
/// Neither keys, nor wrapped keys, nor contexts are reported, nor the cause of an error, which is another crate's text.
/// Success is `debug`, a transient failure `warn`, any other failure `error`.
///
/// ```
/// use zk_kms::layers::Trace;
///
/// assert_eq!(Trace, Trace::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to configure")]
pub struct Trace;

impl Layer for Trace {
    async fn around<T, F, A>(&self, call: Call<'_>, attempt: F) -> Result<T, Error>
    where
        T: Send,
        F: Fn() -> A + Send + Sync,
        A: Future<Output = Result<T, Error>> + Send,
    {
        let started = Instant::now();
        let span = tracing::debug_span!("kms", operation = call.operation.name(), key = %call.uri);
        let result = attempt().instrument(span.clone()).await;
        let _inside = span.enter();
        let milliseconds = started.elapsed().as_secs_f64() * 1000.0;
        match &result {
            Ok(_) => tracing::debug!(milliseconds, "the key-management service answered"),
            Err(error) if error.is_transient() => {
                tracing::warn!(milliseconds, kind = ?error.kind(), %error, "a call failed and may succeed later");
            }
            Err(error) => tracing::error!(milliseconds, kind = ?error.kind(), %error, "a call failed"),
        }
        result
    }
}
