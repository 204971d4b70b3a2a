//! One fetch for however many ask at the same time, and what came of fetches that failed.

use std::{
    collections::{BTreeMap, HashMap},
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use super::Wanted;
use crate::{Error, ErrorKind};

/// What is being fetched, and what was not found shortly before.
pub(super) struct Flights {
    under_way: Mutex<HashMap<Wanted, Arc<Flight>>>,
    failed: Mutex<HashMap<Wanted, (Duration, Error)>>,
    max_failures: usize,
    failure_age: Duration,
}

/// One fetch that several wait for. Whoever has the [`Turn`] fetches.
#[derive(Default)]
struct Flight(Mutex<Boarding>);

#[derive(Default)]
struct Boarding {
    taken: bool,
    /// What those who waited share.
    failure: Option<Error>,
    /// Whom to wake when the turn ends. Each has a number of its own, so that nobody takes another's place.
    waiting: BTreeMap<u64, Waker>,
    numbers: u64,
}

/// The right to fetch. Its end, also by giving up, wakes those who wait.
struct Turn<'a>(&'a Flight);

/// Takes a flight off the list, also when its caller gave up.
struct Landing<'a>(&'a Flights, &'a Wanted, Arc<Flight>);

impl Flights {
    pub(super) fn new(max_failures: usize, failure_age: Duration) -> Self {
        Self { under_way: Mutex::default(), failed: Mutex::default(), max_failures, failure_age }
    }

    /// Calls `fetch` unless `found` has something, and at most once at a time for what is wanted. Those who wait meanwhile
    /// share its failure: asking again one after the other, each would wait as long.
    pub(super) async fn board<T>(
        &self,
        wanted: &Wanted,
        now: Duration,
        found: impl Fn() -> Option<T>,
        fetch: impl AsyncFnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        if let Some((end, error)) = lock(&self.failed).get(wanted)
            && now < *end
        {
            return Err(error.again());
        }
        let landing = Landing(self, wanted, self.flight(wanted));
        let turn = landing.2.turn().await;
        // Whoever was first has fetched it for us.
        if let Some(found) = found() {
            return Ok(found);
        }
        if let Some(error) = turn.failure() {
            return Err(error);
        }
        let result = fetch().await;
        if let Err(error) = &result {
            turn.fail(error.again());
            self.remember(wanted, now, error);
        }
        result
    }

    /// Forgets what was not found: it may be there now.
    pub(super) fn forget_failures(&self) {
        lock(&self.failed).clear();
    }

    pub(super) fn failures(&self) -> usize {
        lock(&self.failed).len()
    }

    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        lock(&self.under_way).len()
    }

    /// Only what stays true for a while: that a service does not answer is asked again at once.
    fn remember(&self, wanted: &Wanted, now: Duration, error: &Error) {
        let lasting = matches!(
            error.kind(),
            ErrorKind::Open | ErrorKind::NoKey | ErrorKind::Disabled | ErrorKind::Destroyed
        );
        let mut failed = lock(&self.failed);
        if failed.len() >= self.max_failures {
            failed.retain(|_, (end, _)| now < *end);
        }
        // Whoever makes up key ids fills the list, and costs others nothing but this.
        if lasting && failed.len() < self.max_failures {
            failed.insert(wanted.clone(), (now.saturating_add(self.failure_age), error.again()));
        }
    }

    fn flight(&self, wanted: &Wanted) -> Arc<Flight> {
        Arc::clone(lock(&self.under_way).entry(wanted.clone()).or_default())
    }
}

impl Flight {
    /// Waits until nobody fetches.
    async fn turn(&self) -> Turn<'_> {
        let mut number = None;
        poll_fn(|cx| {
            let mut boarding = lock(&self.0);
            if !boarding.taken {
                boarding.taken = true;
                return Poll::Ready(Turn(self));
            }
            let number = *number.get_or_insert_with(|| {
                boarding.numbers += 1;
                boarding.numbers
            });
            boarding.waiting.insert(number, cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Turn<'_> {
    fn failure(&self) -> Option<Error> {
        lock(&self.0.0).failure.as_ref().map(Error::again)
    }

    fn fail(&self, error: Error) {
        lock(&self.0.0).failure = Some(error);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let waiting = {
            let mut boarding = lock(&self.0.0);
            boarding.taken = false;
            mem::take(&mut boarding.waiting)
        };
        // After the lock: a waker may run what it wakes. All of them, because one that gave up would wake nobody.
        waiting.into_values().for_each(Waker::wake);
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let Self(flights, wanted, flight) = self;
        let mut under_way = lock(&flights.under_way);
        // Not one that others have begun since.
        if under_way.get(*wanted).is_some_and(|other| Arc::ptr_eq(other, flight)) {
            under_way.remove(*wanted);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
