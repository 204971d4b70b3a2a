//! What does sealing one value cost beside the AWS Encryption SDK? `cargo bench --manifest-path benches/vendors/Cargo.toml --bench esdk`
//!
//! Each with a key that is there: ours with a data key in its cache, the SDK with a raw AES keyring, since it has no cache of
//! data keys in Rust. Both commit to their key. The SDK's own default also signs each message.

use std::collections::HashMap;
use std::hint::black_box;

use aws_esdk::client::Client;
use aws_esdk::material_providers::client::Client as Materials;
use aws_esdk::material_providers::types::keyring::KeyringRef;
use aws_esdk::material_providers::types::material_providers_config::MaterialProvidersConfig;
use aws_esdk::material_providers::types::{AesWrappingAlg, EsdkAlgorithmSuiteId};
use aws_esdk::types::aws_encryption_sdk_config::AwsEncryptionSdkConfig;
use benches::Table;
use benches::sealing::{KEY, Ours, aws_lc, by_hand, now};
use tokio::runtime::Runtime;
use zk_crypto::Suite;

fn main() {
    let (ours, key, peer) = (Ours::new(Suite::Xaes256Gcm), aws_lc(), Peer::new());
    let suites = [
        ("committing", EsdkAlgorithmSuiteId::AlgAes256GcmHkdfSha512CommitKey),
        ("committing and signed, its default", EsdkAlgorithmSuiteId::AlgAes256GcmHkdfSha512CommitKeyEcdsaP384),
    ];
    for len in [64, 1 << 20] {
        let text = vec![b'x'; len];
        let mut table = Table::new(format!("Seal {len} bytes"), len);
        table.row("zk-crypto, Encryptor::seal", || {
            now(ours.encryptor.seal(&ours.scope, &ours.context, &text)).expect("sealed")
        });
        table.row("zk-crypto, Sealer::seal", || ours.sealer.seal(&ours.context, &text).expect("sealed"));
        table.row("AES-256-GCM of aws-lc-rs by hand", || by_hand(&key, &text));
        for (name, suite) in &suites {
            table.row(format!("aws-esdk, {name}"), || peer.seal(suite, &text));
        }
        table.print();

        let sealed = ours.sealer.seal(&ours.context, &text).expect("sealed");
        let mut table = Table::new(format!("Open {len} bytes"), len);
        table.row("zk-crypto, Encryptor::open", || {
            now(ours.encryptor.open(&ours.scope, &ours.context, &sealed)).expect("opened")
        });
        for (name, suite) in &suites {
            let message = peer.seal(suite, &text);
            assert_eq!(peer.open(&message), text);
            println!("aws-esdk, {name}: {} bytes more than the text", message.len() - len);
            table.row(format!("aws-esdk, {name}"), move || black_box(peer.open(&message)));
        }
        table.print();
    }
}

/// The SDK, with a key that it wraps its data keys under.
#[derive(Clone, Copy)]
struct Peer {
    inner: &'static Inner,
}

struct Inner {
    runtime: Runtime,
    client: Client,
    keyring: KeyringRef,
    /// As much as our context says.
    context: HashMap<String, String>,
}

impl Peer {
    fn new() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let client = AwsEncryptionSdkConfig::builder().build().expect("a configuration");
        let client = Client::from_conf(client).expect("a client");
        let materials = MaterialProvidersConfig::builder().build().expect("a configuration");
        let materials = Materials::from_conf(materials).expect("materials");
        let keyring = materials
            .create_raw_aes_keyring()
            .key_namespace("bench")
            .key_name("one")
            .wrapping_key(KEY.to_vec())
            .wrapping_alg(AesWrappingAlg::AlgAes256GcmIv12Tag16);
        let keyring = runtime.block_on(keyring.send()).expect("a keyring");
        let context = [("table", "public.customers"), ("column", "ssn"), ("row", "42"), ("tenant", "7f9c")];
        let context = context.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        // For the length of the process, so that rows can keep it.
        Self { inner: Box::leak(Box::new(Inner { runtime, client, keyring, context })) }
    }

    fn seal(&self, suite: &EsdkAlgorithmSuiteId, text: &[u8]) -> Vec<u8> {
        let Inner { runtime, client, keyring, context } = self.inner;
        let call = client
            .encrypt()
            .plaintext(text)
            .keyring(keyring.clone())
            .algorithm_suite_id(suite.clone())
            .encryption_context(context.clone());
        let answer = runtime.block_on(call.send()).expect("encrypted");
        answer.ciphertext.expect("a ciphertext").into_inner()
    }

    fn open(&self, message: &[u8]) -> Vec<u8> {
        let Inner { runtime, client, keyring, context } = self.inner;
        let call = client
            .decrypt()
            .ciphertext(message.to_vec())
            .keyring(keyring.clone())
            .encryption_context(context.clone());
        runtime.block_on(call.send()).expect("decrypted").plaintext.expect("a plaintext").into_inner()
    }
}
