//! What other crates make of the same value: each with the call that its documentation shows first, and a key that is there.

use std::{
    hint::black_box,
    io::{Read, Write},
    rc::Rc,
};

use benches::seal::{AAD, KEY, Peer, Sealed};
use dryoc::dryocsecretbox::{DryocSecretBox, Key, Nonce};
use dryoc::types::NewByteArray;
use tink_core::{TinkError, keyset::Handle};
use vitaminc_encrypt::Aes256Cipher;

pub fn peers() -> Vec<Peer> {
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
        let (aead, sealed) = (aead.box_clone(), aead.encrypt(text.as_bytes(), &AAD).unwrap());
        Box::new(move || -> usize {
            aead.decrypt(&sealed, &AAD).map_err(|e: TinkError| e.to_string()).unwrap().len()
        })
    };
    Peer { name, seal: Box::new(seal) }
}

/// Opening takes the sealed value away, so a new one is sealed each time.
fn vitaminc() -> Peer {
    let cipher = Rc::new(Aes256Cipher::new(&vitaminc_encrypt::Key::from(KEY)).unwrap());
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
    let key = Key::from(KEY);
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
