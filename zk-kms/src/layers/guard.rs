//! All layers, in the order that makes sense.

use std::{sync::Arc, time::Duration};

use super::{
    Around, Audit, Auditor, Breaker, BreakerConfig, Deadline, Limit, LimitConfig, Retry, RetryConfig,
    SingleFlight, Trace,
};
use crate::Kms;

/// Everything a service in production wants around a backend. See [the module](super) for the order.
///
/// Budget, breaker and limit are per value of [`Guard::around`]. To share them between the keys of one service, put the
/// layers around by hand with [`Around`], giving each key a clone.
///
/// ```
/// use zk_kms::{Kms, LocalKms, layers::Guard};
///
/// let kms = Guard::default().around(LocalKms::ephemeral("demo")?);
/// assert_eq!(kms.uri().as_str(), "local:demo");
/// # Ok::<(), zk_kms::Error>(())
/// ```
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "callers name the fields that they change")]
pub struct Guard {
    /// How long a call lasts at most, waiting and retries included. 10 s by default.
    pub deadline: Duration,
    /// How long one attempt lasts at most. 3 s by default.
    pub attempt: Duration,
    /// When and how often failed attempts are repeated.
    pub retry: RetryConfig,
    /// When a service that does not answer is left alone.
    pub breaker: BreakerConfig,
    /// How many calls run and wait at once.
    pub limit: LimitConfig,
    /// Who is told of every call. Nobody by default.
    pub auditor: Option<Arc<dyn Auditor>>,
}

impl Guard {
    /// Puts the layers around a backend.
    pub fn around(&self, kms: impl Kms + 'static) -> Arc<dyn Kms> {
        let Self { deadline, attempt, retry, breaker, limit, auditor } = self;
        let kms = Around::new(kms, Deadline::new(*attempt));
        let kms = Around::new(kms, Breaker::new(*breaker));
        let kms = Around::new(kms, Retry::new(*retry));
        let kms = Around::new(kms, Limit::new(*limit));
        let kms = SingleFlight::new(kms);
        let kms = Around::new(kms, Deadline::new(*deadline));
        let kms = Around::new(kms, Trace);
        match auditor {
            Some(auditor) => Arc::new(Around::new(kms, Audit::new(Arc::clone(auditor)))),
            None => Arc::new(kms),
        }
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            attempt: Duration::from_secs(3),
            retry: RetryConfig::default(),
            breaker: BreakerConfig::default(),
            limit: LimitConfig::default(),
            auditor: None,
        }
    }
}
