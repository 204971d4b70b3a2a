//! A key that leaves the cache leaves the memory: the ciphers wipe themselves when their last owner drops them.

use std::{
    pin::pin,
    sync::Weak,
    task::{Context, Poll, Waker},
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
