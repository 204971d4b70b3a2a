//! What the AWS Encryption SDK makes of the same value.
//!
//! With a raw AES keyring, which asks no KMS: the SDK has no cache of data keys in Rust, so each message has one of its own. Both suites commit
//! to their key; its default also signs each message.

use std::collections::HashMap;
use std::rc::Rc;

use aws_esdk::client::Client;
use aws_esdk::material_providers::client::Client as Materials;
use aws_esdk::material_providers::types::keyring::KeyringRef;
use aws_esdk::material_providers::types::material_providers_config::MaterialProvidersConfig;
use aws_esdk::material_providers::types::{AesWrappingAlg, EsdkAlgorithmSuiteId};
use aws_esdk::types::aws_encryption_sdk_config::AwsEncryptionSdkConfig;
use benches::seal::{KEY, Peer, Sealed};
use tokio::runtime::Runtime;

pub fn peers() -> Vec<Peer> {
    let sdk = Rc::new(Sdk::new());
    [
        ("aws-esdk, committing", EsdkAlgorithmSuiteId::AlgAes256GcmHkdfSha512CommitKey),
        (
            "aws-esdk, committing and signed, its default",
            EsdkAlgorithmSuiteId::AlgAes256GcmHkdfSha512CommitKeyEcdsaP384,
        ),
    ]
    .map(|(name, suite)| {
        println!("{name}: {} bytes more than a text of 64", sdk.seal(&suite, &[0; 64]).len() - 64);
        let sdk = sdk.clone();
        let seal = move |text: &str| -> Sealed {
            let (sdk, sealed) = (sdk.clone(), sdk.seal(&suite, text.as_bytes()));
            Box::new(move || sdk.open(&sealed).len())
        };
        Peer { name, seal: Box::new(seal) }
    })
    .into()
}

/// The SDK, with a key that it wraps its data keys under.
struct Sdk {
    runtime: Runtime,
    client: Client,
    keyring: KeyringRef,
    /// As much as our context says.
    context: HashMap<String, String>,
}

impl Sdk {
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
        Self { runtime, client, keyring, context }
    }

    fn seal(&self, suite: &EsdkAlgorithmSuiteId, text: &[u8]) -> Vec<u8> {
        let Self { runtime, client, keyring, context } = self;
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
        let Self { runtime, client, keyring, context } = self;
        let call = client
            .decrypt()
            .ciphertext(message.to_vec())
            .keyring(keyring.clone())
            .encryption_context(context.clone());
        runtime.block_on(call.send()).expect("decrypted").plaintext.expect("a plaintext").into_inner()
    }
}
