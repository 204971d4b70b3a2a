//! What does a key in Google Cloud KMS cost through zk-kms beside Google's own SDK?
//! `ZK_PYTHON_ENV=… cargo bench --manifest-path benches/peers/Cargo.toml --bench google`
//!
//! Both speak REST to testkit's fake, in clear, over connections that stay open. The sums that Google recommends are sent and
//! checked by us alone: the SDK leaves them to its caller.

use std::time::{Duration, Instant};

use google_cloud_auth::credentials::{CacheableResource, Credentials, CredentialsProvider, EntityTag};
use google_cloud_auth::errors::CredentialsError;
use google_cloud_kms_v1::client::KeyManagementService;
use http::{Extensions, HeaderMap, HeaderValue};
use testkit::kms::{KeyService, Login, Place};
use zk_kms::layers::Guard;
use zk_kms::{Context, DataKey, KeySpec, KeyUri, OpenConfig};

const ROUNDS: usize = 3000;
/// What the service binds: as long as what our backend sends.
const BOUND: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let service = KeyService::start(Place::FakeGoogle).expect("a server");
    let Login::Token(token) = service.login() else { panic!("the fake takes tokens") };
    let uri: KeyUri = service.uri("orders").parse().expect("a URI");
    let config = OpenConfig::new().endpoint(service.direct_endpoint()).bearer_token(token.clone().into());
    zk_kms::ensure_key(&uri, &config, &KeySpec::new()).await.expect("a key");
    let kms = zk_kms::open(&uri, &config).await.expect("a key");
    let guarded = Guard::default().around(kms.clone());
    let (key, context) =
        (DataKey::generate().expect("a key"), Context::new().with("scope", "tenant-7").expect("a context"));
    let wrapped = kms.wrap_key(&key, &context).await.expect("wrapped");

    let sdk = KeyManagementService::builder()
        .with_endpoint(service.direct_endpoint())
        .with_credentials(Credentials::from(Fixed::new(&token)))
        .build()
        .await
        .expect("a client");
    let bytes: Vec<u8> = (0..32).collect();
    let encrypt = async || {
        let call = sdk.encrypt().set_name(uri.name()).set_plaintext(bytes.clone());
        call.set_additional_authenticated_data(BOUND).send().await.expect("encrypted").ciphertext
    };
    let ciphertext = encrypt().await;
    let decrypt = async || {
        let call = sdk.decrypt().set_name(uri.name()).set_ciphertext(ciphertext.clone());
        call.set_additional_authenticated_data(BOUND).send().await.expect("decrypted").plaintext
    };
    assert_eq!(decrypt().await, bytes);

    let mut times: [Vec<Duration>; 6] = Default::default();
    for round in 0..ROUNDS + ROUNDS / 10 {
        for turn in 0..times.len() {
            let which = (round + turn) % times.len();
            let start = Instant::now();
            match which {
                0 => drop(encrypt().await),
                1 => drop(kms.wrap_key(&key, &context).await.expect("wrapped")),
                2 => drop(guarded.wrap_key(&key, &context).await.expect("wrapped")),
                3 => drop(decrypt().await),
                4 => drop(kms.unwrap_key(&wrapped, &context).await.expect("unwrapped")),
                _ => drop(guarded.unwrap_key(&wrapped, &context).await.expect("unwrapped")),
            }
            // The first tenth warms up.
            if round >= ROUNDS / 10 {
                times[which].push(start.elapsed());
            }
        }
    }
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e6
    };
    let [encrypt, wrap, guarded_wrap, decrypt, unwrap, guarded_unwrap] = times.map(median);
    println!("| p50 of {ROUNDS} | google-cloud-kms-v1 | zk-kms | with Guard |\n|---|---:|---:|---:|");
    for (name, [sdk, ours, guarded]) in
        [("wrap", [encrypt, wrap, guarded_wrap]), ("unwrap", [decrypt, unwrap, guarded_unwrap])]
    {
        let more = |time: f64| (time / sdk - 1.0) * 100.0;
        println!("| {name} | {sdk:.0} µs | {:+.1} % | {:+.1} % |", more(ours), more(guarded));
    }
}

/// A token that never ends.
#[derive(Debug)]
struct Fixed {
    headers: HeaderMap,
    tag: EntityTag,
}

impl Fixed {
    fn new(token: &str) -> Self {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).expect("a header");
        value.set_sensitive(true);
        Self { headers: HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]), tag: EntityTag::new() }
    }
}

impl CredentialsProvider for Fixed {
    async fn headers(&self, _: Extensions) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        Ok(CacheableResource::New { entity_tag: self.tag.clone(), data: self.headers.clone() })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}
