//! What others make of the same value: each with the call that its documentation shows first, and a key that is there.

use std::{
    hint::black_box,
    io::{Read, Write},
    rc::Rc,
};

use benches::Table;
use dryoc::dryocsecretbox::{DryocSecretBox, Key, Nonce};
use dryoc::types::NewByteArray;
use tink_core::{TinkError, keyset::Handle};
use vitaminc_encrypt::Aes256Cipher;

/// Sealing and opening, as both sides of one peer.
struct Peer {
    name: &'static str,
    seal: Box<dyn Fn(&str) -> Sealed>,
}

/// What opens a value that was sealed before.
type Sealed = Box<dyn Fn() -> usize>;

/// Adds a row for each peer that seals `text`.
pub(super) fn sealing<'a>(table: &mut Table<'a>, text: &'a str) {
    for peer in peers() {
        table.row(peer.name, move || (peer.seal)(text));
    }
}

/// Adds a row for each peer that opens what it sealed of `text`.
pub(super) fn opening(table: &mut Table<'_>, text: &str) {
    for peer in peers() {
        let open = (peer.seal)(text);
        assert_eq!(open(), text.len(), "{}", peer.name);
        table.row(peer.name, open);
    }
}

/// What pgcrypto costs in the server, for each of many values in one statement, so that the way there is not measured.
pub(super) fn pgcrypto() {
    const VALUES: u32 = 2000;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = runtime.block_on(testkit::Database::create()).unwrap();
    let client = runtime.block_on(database.connect()).unwrap();
    if let Err(error) = runtime.block_on(client.batch_execute("CREATE EXTENSION pgcrypto")) {
        println!("\nThis server has no pgcrypto: {error}");
        return;
    }
    println!("\n### 64 bytes in the server, by pgcrypto\n\n| | for one value |\n|---|---:|");
    for (name, call) in [
        ("pgp_sym_encrypt, as it comes", "pgp_sym_encrypt(repeat('x', 64) || i % 10, 'a passphrase')"),
        (
            "encrypt, AES in CBC, not authenticated",
            "encrypt(convert_to(repeat('x', 64) || i % 10, 'UTF8'), '\\x00112233445566778899aabbccddeeff'::bytea, 'aes')",
        ),
    ] {
        let query = |call: &str| format!("SELECT count({call}) FROM generate_series(1, {VALUES}) i");
        let (query, nothing) = (query(call), query("repeat('x', 64) || i % 10"));
        let time = |query: &str| {
            let start = std::time::Instant::now();
            runtime.block_on(client.simple_query(query)).unwrap();
            start.elapsed().as_secs_f64()
        };
        let mut micros: Vec<f64> =
            (0..21).map(|_| (time(&query) - time(&nothing)) * 1e6 / f64::from(VALUES)).collect();
        micros.sort_by(f64::total_cmp);
        println!("| {name} | {:.1} µs |", micros[micros.len() / 2]);
    }
}

fn peers() -> Vec<Peer> {
    tink_aead::init();
    let keyset = Handle::new(&tink_aead::aes256_gcm_key_template()).unwrap();
    let envelope = tink_aead::KmsEnvelopeAead::new(
        tink_aead::aes256_gcm_key_template(),
        tink_aead::new(&keyset).unwrap(),
    );
    vec![
        tink("tink-aead, AES-256-GCM keyset", tink_aead::new(&keyset).unwrap()),
        tink("tink-aead, envelope with a KMS in memory", Box::new(envelope)),
        vitaminc(),
        orion(),
        dryoc(),
        age(),
    ]
}

fn tink(name: &'static str, aead: Box<dyn tink_core::Aead>) -> Peer {
    let seal = move |text: &str| -> Sealed {
        let (aead, sealed) = (aead.box_clone(), aead.encrypt(text.as_bytes(), &super::AAD).unwrap());
        Box::new(move || -> usize {
            aead.decrypt(&sealed, &super::AAD).map_err(|e: TinkError| e.to_string()).unwrap().len()
        })
    };
    Peer { name, seal: Box::new(seal) }
}

/// Opening takes the sealed value away, so a new one is sealed each time.
fn vitaminc() -> Peer {
    let cipher = Rc::new(Aes256Cipher::new(&vitaminc_encrypt::Key::from(super::KEY)).unwrap());
    let seal = move |text: &str| -> Sealed {
        let (cipher, text) = (cipher.clone(), text.to_owned());
        let seal = move || {
            vitaminc_encrypt::encrypt(text.as_str(), &*cipher, "customers").map(|s| (s, cipher.clone()))
        };
        let first = black_box(seal().unwrap());
        drop(first);
        Box::new(move || {
            let (sealed, cipher) = seal().unwrap();
            let opened: String = vitaminc_encrypt::decrypt(&*cipher, sealed, "customers").unwrap();
            opened.len()
        })
    };
    Peer { name: "vitaminc-encrypt, AES-256-GCM (opening: sealed and opened)", seal: Box::new(seal) }
}

fn orion() -> Peer {
    let key = Rc::new(orion::aead::SecretKey::generate().unwrap());
    let seal = move |text: &str| -> Sealed {
        let (key, sealed) = (key.clone(), orion::aead::seal(&key, text.as_bytes()).unwrap());
        Box::new(move || orion::aead::open(&key, &sealed).unwrap().len())
    };
    Peer { name: "orion, XChaCha20-Poly1305", seal: Box::new(seal) }
}

fn dryoc() -> Peer {
    let key = Key::from(super::KEY);
    let seal = move |text: &str| -> Sealed {
        let nonce = Nonce::generate();
        let sealed = DryocSecretBox::encrypt_to_vecbox(text.as_bytes(), &nonce, &key).unwrap();
        let key = key.clone();
        Box::new(move || sealed.decrypt_to_vec(&nonce, &key).unwrap().len())
    };
    Peer { name: "dryoc, XSalsa20-Poly1305", seal: Box::new(seal) }
}

fn age() -> Peer {
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public();
    let seal = move |text: &str| -> Sealed {
        let encryptor =
            age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient)).unwrap();
        let mut sealed = Vec::new();
        let mut writer = encryptor.wrap_output(&mut sealed).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        writer.finish().unwrap();
        let identity = identity.clone();
        Box::new(move || {
            let decryptor = age::Decryptor::new(sealed.as_slice()).unwrap();
            let mut opened = Vec::new();
            let identities = std::iter::once(&identity as &dyn age::Identity);
            decryptor.decrypt(identities).unwrap().read_to_end(&mut opened).unwrap()
        })
    };
    Peer { name: "age, one X25519 recipient", seal: Box::new(seal) }
}
