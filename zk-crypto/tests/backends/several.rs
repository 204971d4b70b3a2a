//! Sealing while the KEK is several keys at once, one of which is away, lost, rotated, or back.

use std::{path::PathBuf, sync::Arc};

use testkit::{Passage, kms};
use zk_crypto::{ErrorKind, Scope};
use zk_kms::{AnyOf, Kms};

use crate::{
    place::{KeyKind, Place},
    process::{Failure, Process},
};

/// Two services and a ring, any of which may be a member.
struct Members {
    places: [Place; 2],
    kms: [Arc<dyn Kms>; 3],
    store: PathBuf,
    scope: Scope,
}

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

impl Members {
    async fn start() -> Self {
        let google = |name| Place::start(name, kms::Place::FakeGoogle, KeyKind::Secret);
        let (places, ring) = ([google("A"), google("B")], Place::local());
        // The first key of each has the same name, and the two services the same project.
        places[B].make_kek().await.unwrap();
        let [a, b, c] = [&places[A], &places[B], &ring]
            .map(async |place| place.open(&place.make_kek().await.unwrap()).await.unwrap());
        let kms = [a.await, b.await, c.await];
        let store = places[A].path();
        Self { places, kms, store, scope: Scope::tenant("7").unwrap() }
    }

    /// A process that starts with these members, of which so many have to wrap.
    fn process(&self, members: &[usize], required: usize) -> Process {
        let members = members.iter().map(|which| Arc::clone(&self.kms[*which]));
        let several = AnyOf::new("orders", members).unwrap().require(required).unwrap();
        Process::with(Arc::new(several), &self.store).unwrap()
    }

    /// What was sealed opens in a process that has nothing in memory.
    async fn opens(&self, members: &[usize], sealed: &zk_crypto::Sealed) -> Result<String, Failure> {
        self.process(members, 1).open(&self.scope, sealed).await
    }

    fn network(&self, which: usize, passage: Passage) {
        self.places[which].network(passage).unwrap();
    }
}

#[tokio::test]
async fn several_keks_lose_nothing_while_one_is_away_lost_or_back() {
    let members = Members::start().await;
    let scope = &members.scope;

    // B is away when the data key is made: A alone wraps it.
    members.network(B, Passage::Cut);
    let first = members.process(&[A, B], 1);
    first.encryptor.create_key(scope).await.unwrap();
    let sealed = first.seal(scope, "text").await.unwrap();
    assert_eq!(members.opens(&[A, B], &sealed).await.unwrap(), "text");
    let failed = first.encryptor.rewrap_keys(|_| {}).await.map_err(Failure::from);
    assert_eq!(failed.unwrap_err().kind, ErrorKind::Unavailable, "B is not there to be repaired");

    // B is back: the job sees that its wrap is missing, and then A can be away.
    members.network(B, Passage::Open);
    let done = first.encryptor.rewrap_keys(|_| {}).await.unwrap();
    assert_eq!((done.total, done.rewrapped), (1, 1), "{done:?}");
    members.network(A, Passage::Cut);
    assert_eq!(members.opens(&[A, B], &sealed).await.unwrap(), "text");
    let failed = members.process(&[A, B], 1).encryptor.rewrap_keys(|_| {}).await.map_err(Failure::from);
    assert_eq!(failed.unwrap_err().kind, ErrorKind::Unavailable, "rewrapping needs every member");
    assert_eq!(members.opens(&[A, B], &sealed).await.unwrap(), "text", "and changed nothing");

    // A is lost for good and C takes its place. A's wrap goes.
    let without = members.process(&[B, C], 2);
    let done = without.encryptor.rewrap_keys(|_| {}).await.unwrap();
    assert_eq!((done.total, done.rewrapped), (1, 1), "{done:?}");
    assert_eq!(members.opens(&[C], &sealed).await.unwrap(), "text");
    members.network(A, Passage::Open);
    let alone = members.opens(&[A], &sealed).await;
    assert_eq!(alone.unwrap_err().kind, ErrorKind::Corrupt, "A has no wrap any more");

    // A comes back, and was rotated meanwhile.
    members.places[A].rotate(members.kms[A].uri()).unwrap();
    let all = members.process(&[A, B, C], 3);
    let done = all.encryptor.rewrap_keys(|_| {}).await.unwrap();
    assert_eq!((done.total, done.rewrapped), (1, 1), "{done:?}");
    let again = all.encryptor.rewrap_keys(|_| {}).await.unwrap();
    assert_eq!((again.current, again.rewrapped), (1, 0), "{again:?}");
    for alone in [A, B, C] {
        assert_eq!(members.opens(&[alone], &sealed).await.unwrap(), "text");
    }
    // A rotation of one member shows, and the older version can go once the job is done.
    members.places[B].rotate(members.kms[B].uri()).unwrap();
    assert_eq!(all.encryptor.rewrap_keys(|_| {}).await.unwrap().rewrapped, 1);
    members.places[B].retire_older(members.kms[B].uri()).unwrap();
    assert_eq!(members.opens(&[B], &sealed).await.unwrap(), "text");
    let later = all.seal(scope, "later").await.unwrap();
    assert_eq!(later.key_id(), sealed.key_id(), "the data key stayed the same all along");
}
