//! Whatever is sealed opens in its place; nothing else opens, and every failure is the one error.
//!
//! Properties of what cannot be called from outside are beside the code: the bytes of contexts in `src/context.rs`, pieces
//! and changes of streams in `src/stream/tests.rs`, ciphers against each other in `src/suite/tests/implementations.rs`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::sync::{Arc, LazyLock};

use proptest::{prelude::*, sample::Index};
use zk_crypto::{
    Context, Encryptor, EncryptorConfig, Error, ErrorKind, KeyId, MemoryKeyStore, OVERHEAD, Scope, Sealed,
    Suite, stream::StreamHeader,
};
use zk_kms::LocalKms;

/// What a context is made of: table and column, tenant, row, purpose, version.
type Fields = (Option<(String, String)>, [Option<String>; 3], Option<u64>);

fn fields() -> impl Strategy<Value = Fields> {
    let text = || prop::option::of("[a\0\u{1}\u{e9}]{0,3}");
    let column = prop::option::of(("[a.\0]{0,3}", "[a\0]{0,3}"));
    (column, [text(), text(), text()], prop::option::of(0u64..3))
}

fn texts() -> impl Strategy<Value = Vec<u8>> {
    // Around the sizes of blocks and of the buffers on the stack, and some long ones.
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..300),
        1 => prop::collection::vec(any::<u8>(), 0..70_000),
    ]
}

fn suites() -> impl Strategy<Value = Suite> {
    prop_oneof![Just(Suite::Xaes256Gcm), Just(Suite::XChaCha20Poly1305)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_sealed_opens(suite in suites(), fields in fields(), text in texts()) {
        let context = context(&fields);
        let sealed = seal(suite, &context, &text);
        prop_assert_eq!(sealed.as_bytes().len(), text.len() + OVERHEAD);
        prop_assert_eq!((sealed.suite(), sealed.key_id()), (suite, WORLD.key));
        prop_assert_eq!(open(&WORLD.scope, &context, sealed.as_bytes()).unwrap(), text.clone());
        if text.len() >= 16 {
            prop_assert!(!sealed.as_bytes().windows(16).any(|window| window == &text[..16]), "it is not sealed");
        }
        // The same again is other bytes, and both open.
        let again = seal(suite, &context, &text);
        prop_assert!(again != sealed);
        prop_assert_eq!(open(&WORLD.scope, &context, again.as_bytes()).unwrap(), text);
    }

    #[test]
    fn nothing_else_opens(
        suite in suites(), fields in fields(), text in texts(),
        at in any::<Index>(), flip in 1u8.., cut in any::<Index>(), more in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let context = context(&fields);
        let sealed = seal(suite, &context, &text).into_vec();
        let refused = |bytes: &[u8]| is_the_one_error(open(&WORLD.scope, &context, bytes));
        let mut changed = sealed.clone();
        changed[at.index(sealed.len())] ^= flip;
        prop_assert!(refused(&changed), "a changed byte");
        prop_assert!(refused(&sealed[..cut.index(sealed.len())]), "a cut");
        prop_assert!(refused(&[sealed.as_slice(), &more].concat()), "an extension");
        prop_assert!(refused(&[&more, sealed.as_slice()].concat()), "something before it");
        // Every other value of the suite's byte, the other suite's among them.
        let mut other_suite = sealed.clone();
        other_suite[0] = flip ^ sealed[0];
        prop_assert!(refused(&other_suite), "another suite");
        other_suite[0] = 3 - sealed[0];
        prop_assert!(refused(&other_suite), "the other suite");
        // The key of another generation of the scope, which is there and active, and one that nobody knows.
        let mut other_key = sealed.clone();
        for id in [WORLD.former_key, WORLD.other_scopes_key, KeyId::from_slice(&[flip; 16]).unwrap()] {
            other_key[1..17].copy_from_slice(id.as_bytes());
            prop_assert!(refused(&other_key), "another key");
        }
        prop_assert!(is_the_one_error(open(&WORLD.other_scope, &context, &sealed)), "another scope");
        prop_assert!(is_the_one_error(open(&Scope::new("nobody").unwrap(), &context, &sealed)), "no scope");
    }

    /// The one place and no other: the encoding of contexts is injective.
    #[test]
    fn only_the_same_place_opens(suite in suites(), a in fields(), b in fields()) {
        let (x, y) = (context(&a), context(&b));
        prop_assert_eq!(a == b, x == y);
        let sealed = seal(suite, &x, b"text");
        let opened = open(&WORLD.scope, &y, sealed.as_bytes());
        if a == b {
            prop_assert_eq!(opened.unwrap(), b"text");
        } else {
            prop_assert!(is_the_one_error(opened));
        }
        // The same characters in other fields, which a bare concatenation would not tell apart.
        let ([tenant, row, purpose], version) = (a.1.clone(), a.2);
        let moved = (a.0.clone(), [row, purpose, tenant], version);
        prop_assert_eq!(moved == a, open(&WORLD.scope, &context(&moved), sealed.as_bytes()).is_ok());
        // A row that looks as if the purpose began within it, with its own length and without one.
        let ([tenant, Some(row), Some(purpose)], version) = (a.1.clone(), a.2) else { return Ok(()) };
        for len in [0, u8::try_from(purpose.len()).unwrap()] {
            let row = format!("{row}\u{5}\0\0\0\0\0\0\0{}{purpose}", char::from(len));
            let swallowed = context(&(a.0.clone(), [tenant.clone(), Some(row), None], version));
            prop_assert!(is_the_one_error(open(&WORLD.scope, &swallowed, sealed.as_bytes())));
        }
    }

    #[test]
    fn what_parses_writes_back(bytes in prop::collection::vec(any::<u8>(), 0..200), suite in 0u8..4) {
        let framed = [&[suite], bytes.as_slice()].concat();
        match Sealed::parse(&framed) {
            Ok(sealed) => {
                prop_assert!((1..=2).contains(&suite) && framed.len() >= OVERHEAD);
                prop_assert_eq!(sealed.as_bytes(), &framed);
                prop_assert_eq!(sealed.suite() as u8, suite);
                prop_assert_eq!(sealed.key_id(), KeyId::from_slice(&framed[1..17]).unwrap());
                prop_assert_eq!(Sealed::from_vec(framed.clone()).unwrap().into_vec(), framed.clone());
                // It was not sealed with any key.
                prop_assert!(is_the_one_error(open(&WORLD.scope, &Context::default(), &framed)));
            }
            Err(error) => {
                prop_assert!(is_the_one_error::<()>(Err(error)));
                prop_assert!(!(1..=2).contains(&suite) || framed.len() < OVERHEAD);
            }
        }
    }

    #[test]
    fn a_stream_header_that_parses_writes_back(bytes in any::<[u8; 32]>(), kind in 0x10u8..0x13) {
        let mut header = [0; StreamHeader::LEN];
        header.iter_mut().zip(bytes.iter().cycle()).for_each(|(place, byte)| *place = *byte);
        header[0] = kind;
        match StreamHeader::parse(&header) {
            Ok(parsed) => prop_assert_eq!((kind, parsed.to_bytes()), (0x11, header)),
            Err(error) => prop_assert!(kind != 0x11 && is_the_one_error::<()>(Err(error))),
        }
    }
}

/// Not a sample: each bit of a value.
#[test]
fn every_bit_counts() {
    let context = Context::column("t", "c");
    for suite in [Suite::Xaes256Gcm, Suite::XChaCha20Poly1305] {
        let sealed = seal(suite, &context, b"seventeen bytes..").into_vec();
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                assert!(is_the_one_error(open(&WORLD.scope, &context, &changed)), "bit {bit} of byte {at}");
            }
        }
    }
}

#[cfg(feature = "recipient")]
mod portable {
    use zk_crypto::{Kem, Portable, Recipient, RecipientKey, WriteOnly};

    use super::*;

    static KEYS: LazyLock<[RecipientKey; 3]> = LazyLock::new(|| {
        [Kem::X25519, Kem::XWing, Kem::X25519].map(|kem| RecipientKey::generate(kem).unwrap())
    });

    fn write(recipients: &[&RecipientKey], context: &Context, text: &[u8]) -> Portable {
        let recipients = recipients.iter().map(|key| key.recipient().clone());
        WriteOnly::new(WORLD.scope.clone(), recipients).unwrap().seal(context, text).unwrap()
    }

    fn read(key: &RecipientKey, scope: &Scope, context: &Context, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        key.open(scope, context, &Portable::parse(bytes)?).map(|text| text.to_vec())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn recipients_open_and_nobody_else(
            a in fields(), b in fields(), text in texts(),
            at in any::<Index>(), flip in 1u8.., more in any::<u8>(),
        ) {
            let [one, two, stranger] = &*KEYS;
            let (context, other) = (context(&a), context(&b));
            let sealed = write(&[one, two], &context, &text);
            let good = sealed.as_bytes();
            prop_assert_eq!(Portable::parse(good).unwrap(), sealed.clone());
            for key in [one, two] {
                prop_assert_eq!(read(key, &WORLD.scope, &context, good).unwrap(), text.clone());
                let refused = |bytes: &[u8]| is_the_one_error(read(key, &WORLD.scope, &context, bytes));
                let mut changed = good.to_vec();
                changed[at.index(good.len())] ^= flip;
                prop_assert!(refused(&changed), "a changed byte");
                prop_assert!(refused(&good[..at.index(good.len())]), "a cut");
                prop_assert!(refused(&[good, &[more]].concat()), "an extension");
                prop_assert!(a == b || is_the_one_error(read(key, &WORLD.scope, &other, good)), "another place");
                prop_assert!(is_the_one_error(read(key, &WORLD.other_scope, &context, good)), "another scope");
            }
            prop_assert!(is_the_one_error(read(stranger, &WORLD.scope, &context, good)), "not a recipient");
        }

        #[test]
        fn what_parses_writes_back(
            entries in prop::collection::vec((0u8..6, any::<[u8; 16]>(), prop::collection::vec(any::<u8>(), 0..40)), 0..10),
            body in prop::collection::vec(any::<u8>(), 0..100), suite in 0u8..4, cut in any::<Index>(),
        ) {
            let mut bytes = [b"ZKP\x01".as_slice(), &[u8::try_from(entries.len()).unwrap()]].concat();
            for (kind, id, wrapped) in &entries {
                bytes.push(*kind);
                bytes.extend_from_slice(id);
                bytes.extend_from_slice(&u16::try_from(wrapped.len()).unwrap().to_be_bytes());
                bytes.extend_from_slice(wrapped);
            }
            let body = [&[suite], body.as_slice()].concat();
            let well = (1..=8).contains(&entries.len())
                && entries.iter().all(|(kind, ..)| (1..=4).contains(kind))
                && Sealed::parse(&body).is_ok();
            bytes.extend_from_slice(&body);
            let parsed = Portable::parse(&bytes);
            prop_assert_eq!(parsed.is_ok(), well);
            if let Ok(parsed) = parsed {
                prop_assert_eq!(parsed.as_bytes(), &bytes);
            }
            // Whatever comes of a part of it, it is not a panic, and writes back.
            let part = &bytes[..cut.index(bytes.len())];
            if let Ok(parsed) = Portable::parse(part) {
                prop_assert_eq!(parsed.as_bytes(), part);
            }
        }

        #[test]
        fn a_recipient_that_parses_writes_back(bytes in prop::collection::vec(any::<u8>(), 0..60), key in any::<[u8; 32]>()) {
            for bytes in [bytes, [&[1], key.as_slice()].concat()] {
                if let Ok(recipient) = Recipient::parse(&bytes) {
                    prop_assert_eq!(recipient.to_bytes(), bytes);
                }
            }
            let secret = RecipientKey::from_bytes(Kem::X25519, &key).unwrap();
            let recipient = secret.recipient();
            prop_assert_eq!(&Recipient::parse(&recipient.to_bytes()).unwrap(), recipient);
        }
    }
}

/// A scope with a key and a former one, and another scope, over both suites.
struct World {
    runtime: tokio::runtime::Runtime,
    encryptors: [Encryptor; 2],
    scope: Scope,
    key: KeyId,
    former_key: KeyId,
    other_scope: Scope,
    other_scopes_key: KeyId,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (kms, store) =
        (Arc::new(LocalKms::ephemeral("properties").unwrap()), Arc::new(MemoryKeyStore::new()));
    let encryptors = [Suite::Xaes256Gcm, Suite::XChaCha20Poly1305].map(|suite| {
        Encryptor::new(kms.clone(), store.clone(), EncryptorConfig::default().suite(suite)).unwrap()
    });
    let [scope, other_scope] = ["a", "b"].map(|scope| Scope::new(scope).unwrap());
    let (former_key, key, other_scopes_key) = runtime.block_on(async {
        let former = encryptors[0].create_key(&scope).await.unwrap();
        let key = encryptors[0].rotate_key(&scope).await.unwrap();
        (former, key, encryptors[0].create_key(&other_scope).await.unwrap())
    });
    World { runtime, encryptors, scope, key, former_key, other_scope, other_scopes_key }
});

fn context(fields: &Fields) -> Context {
    let (column, [tenant, row, purpose], version) = fields.clone();
    let context = column.map_or_else(Context::default, |(table, column)| Context::column(table, column));
    let context = version.into_iter().fold(context, Context::version);
    let context = purpose.into_iter().fold(context, Context::with_purpose);
    let context = row.into_iter().fold(context, Context::row);
    tenant.into_iter().fold(context, Context::tenant)
}

fn seal(suite: Suite, context: &Context, text: &[u8]) -> Sealed {
    let [xaes, xchacha] = &WORLD.encryptors;
    let encryptor = if suite == Suite::Xaes256Gcm { xaes } else { xchacha };
    WORLD.runtime.block_on(encryptor.seal(&WORLD.scope, context, text)).unwrap()
}

fn open(scope: &Scope, context: &Context, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let sealed = Sealed::parse(bytes)?;
    // Whichever suite it seals with, an encryptor opens both.
    WORLD.runtime.block_on(WORLD.encryptors[0].open(scope, context, &sealed)).map(|text| text.to_vec())
}

/// SECURITY: one kind and one text, whatever the reason, and nothing behind it.
fn is_the_one_error<T>(result: Result<T, Error>) -> bool {
    result.is_err_and(|error| {
        error.kind() == ErrorKind::Open
            && error.to_string() == "the value does not open with this scope, context and key"
            && std::error::Error::source(&error).is_none()
    })
}
