//! A key that leaves the cache leaves the memory: the ciphers wipe themselves when their last owner drops them.

use std::{
    pin::{Pin, pin},
    sync::{Weak, atomic::AtomicUsize},
    task::{Context, Poll, Wake, Waker},
};

use zk_kms::DataKey;

use super::*;

const AGE: Duration = Duration::from_secs(60);

fn cache(max_entries: usize) -> (Cache, EncryptorConfig) {
    let config = EncryptorConfig::default().max_age(AGE).max_entries(max_entries);
    (Cache::new(&config), config)
}

/// Puts a key of a scope into the cache, and keeps nothing but its address.
fn put(cache: &Cache, config: &EncryptorConfig, scope: &str, now: Duration) -> Weak<Entry> {
    let scope = Scope::new(scope).unwrap();
    let key = OpenedKey::new(scope.clone(), &DataKey::generate().unwrap()).unwrap();
    let fetched = cache.fetch(Wanted::Active(scope), now, async || Ok(Entry::new(key, now, config)));
    match pin!(fetched).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(entry) => Arc::downgrade(&entry.unwrap()),
        Poll::Pending => panic!("there is nothing to wait for"),
    }
}

#[test]
fn a_key_is_wiped_when_it_is_forgotten() {
    let (cache, config) = cache(8);
    let (a, b) = (put(&cache, &config, "a", Duration::ZERO), put(&cache, &config, "b", Duration::ZERO));
    assert!(a.upgrade().is_some() && b.upgrade().is_some());
    cache.forget(|_, key| key.scope.as_str() == "a");
    assert!(a.upgrade().is_none() && b.upgrade().is_some());
}

#[test]
fn a_key_is_wiped_when_others_need_its_place() {
    let (cache, config) = cache(4);
    let keys: Vec<_> = ["a", "b", "c"].map(|scope| put(&cache, &config, scope, Duration::ZERO)).into();
    let here: Vec<bool> = keys.iter().map(|key| key.upgrade().is_some()).collect();
    assert_eq!(here, [false, true, true], "two places each, by scope and by id");
}

#[test]
fn a_key_is_wiped_after_its_age_though_nobody_asks_for_it() {
    let (cache, config) = cache(8);
    let (a, b) = (put(&cache, &config, "a", Duration::ZERO), put(&cache, &config, "b", Duration::ZERO));
    let c = put(&cache, &config, "c", AGE);
    assert!(a.upgrade().is_none() && b.upgrade().is_none() && c.upgrade().is_some());
    // A timer that refreshes is enough.
    assert!(cache.ending(AGE * 2, AGE * 2).is_empty());
    assert!(c.upgrade().is_none());
}

#[test]
fn nothing_is_left_of_a_fetch_that_was_given_up() {
    let (cache, _) = cache(8);
    let wanted = Wanted::Active(Scope::new("a").unwrap());
    {
        let mut never =
            pin!(cache.fetch(wanted.clone(), Duration::ZERO, async || std::future::pending().await));
        assert!(never.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(cache.flights.under_way(), 1);
    }
    assert_eq!(cache.flights.under_way(), 0);
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn whoever_waits_is_woken_and_takes_over_from_one_that_gave_up() {
    let (cache, config) = cache(8);
    let scope = Scope::new("a").unwrap();
    let wanted = Wanted::Active(scope.clone());
    let waiting: [Arc<Woken>; 3] = Default::default();
    let wakers = waiting.clone().map(Waker::from);
    let poll = |future: Pin<&mut dyn Future<Output = Result<Arc<Entry>, Error>>>, i: usize| {
        future.poll(&mut Context::from_waker(&wakers[i]))
    };
    let woken = || [0, 1, 2].map(|i| waiting[i].0.load(Ordering::SeqCst));
    let fetch = || {
        let key = OpenedKey::new(scope.clone(), &DataKey::generate().unwrap());
        cache.fetch(wanted.clone(), Duration::ZERO, async || Ok(Entry::new(key?, Duration::ZERO, &config)))
    };
    let mut second = Box::pin(fetch());
    let mut third = Box::pin(fetch());
    {
        let mut first =
            pin!(cache.fetch(wanted.clone(), Duration::ZERO, async || std::future::pending().await));
        assert!(poll(first.as_mut(), 0).is_pending());
        // Asking twice takes one place.
        assert!(poll(second.as_mut(), 1).is_pending() && poll(second.as_mut(), 1).is_pending());
        assert!(poll(third.as_mut(), 2).is_pending());
        assert_eq!(woken(), [0, 0, 0]);
    }
    assert_eq!(woken(), [0, 1, 1], "the first gave up");
    let Poll::Ready(Ok(fetched)) = poll(third.as_mut(), 2) else { panic!("it is the third's turn") };
    let Poll::Ready(Ok(found)) = poll(second.as_mut(), 1) else { panic!("it was fetched for the second") };
    assert!(Arc::ptr_eq(&fetched, &found));
    assert_eq!(cache.flights.under_way(), 0);
}
