//! One call for all who ask for the same key at the same time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use async_trait::async_trait;
use tokio::sync::OnceCell;

use crate::{Capabilities, Context, DataKey, Error, KeyStatus, KeyUri, Kms, WrappedKey};

/// Unwraps a key once for everybody who asks for it while the call is on its way.
///
/// After a restart, or when a cache has just forgotten a key, many tasks want the same one at once. Each gets a copy of its
/// own. When the task that makes the call goes away, the next one makes it; a failure is everybody's.
///
/// Only calls with the same wrapped key *and* the same context are one call: who has the wrong context must not receive
/// what somebody else asked for with the right one. Nothing is kept after the call; caching is the caller's decision.
///
/// ```
/// use zk_kms::{Kms, LocalKms, layers::SingleFlight};
///
/// let kms = SingleFlight::new(LocalKms::ephemeral("demo")?);
/// assert_eq!(kms.uri().as_str(), "local:demo");
/// # Ok::<(), zk_kms::Error>(())
/// ```
#[derive(Debug)]
pub struct SingleFlight<K> {
    inner: K,
    flights: Flights,
}

/// What is unwrapped: the encoded wrapped key and the encoded context.
type Subject = (Vec<u8>, Vec<u8>);
type Landing = OnceCell<Result<DataKey, Error>>;
type Flights = Mutex<HashMap<Subject, Weak<Landing>>>;

impl<K: Kms> SingleFlight<K> {
    /// Puts single flight around `inner`.
    pub fn new(inner: K) -> Self {
        Self { inner, flights: Flights::default() }
    }
}

#[async_trait]
impl<K: Kms> Kms for SingleFlight<K> {
    fn uri(&self) -> &KeyUri {
        self.inner.uri()
    }

    async fn wrap_key(&self, key: &DataKey, context: &Context) -> Result<WrappedKey, Error> {
        self.inner.wrap_key(key, context).await
    }

    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, Error> {
        let seat = Seat::take(&self.flights, (wrapped.to_bytes(), context.encode()));
        let landed = seat
            .landing
            .get_or_init(|| async {
                let result = self.inner.unwrap_key(wrapped, context).await;
                // Who asks from now on asks again: this result is for those who asked already.
                seat.close();
                result
            })
            .await;
        match landed {
            Ok(key) => DataKey::from_slice(key.expose()),
            Err(error) => Err(error.without_source()),
        }
    }

    async fn rewrap_key(
        &self,
        wrapped: &WrappedKey,
        from: &Context,
        to: &Context,
    ) -> Result<WrappedKey, Error> {
        self.inner.rewrap_key(wrapped, from, to).await
    }

    async fn status(&self) -> Result<KeyStatus, Error> {
        self.inner.status().await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

/// One asker's part in a call. The key goes with the last of them.
struct Seat<'a> {
    flights: &'a Flights,
    subject: Subject,
    landing: Arc<Landing>,
}

impl<'a> Seat<'a> {
    fn take(flights: &'a Flights, subject: Subject) -> Self {
        let mut map = flights.lock().unwrap_or_else(PoisonError::into_inner);
        let landing = map.get(&subject).and_then(Weak::upgrade).unwrap_or_else(|| {
            let landing = Arc::new(Landing::new());
            map.insert(subject.clone(), Arc::downgrade(&landing));
            landing
        });
        Self { flights, subject, landing }
    }

    fn close(&self) {
        let mut map = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if map.get(&self.subject).is_some_and(|w| std::ptr::eq(w.as_ptr(), Arc::as_ptr(&self.landing))) {
            map.remove(&self.subject);
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        // The last one turns off the light, in case nobody stayed until the answer came.
        if Arc::strong_count(&self.landing) == 1 {
            self.close();
        }
    }
}
