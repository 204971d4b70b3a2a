//! What does a key-management service cost through zk-kms, beside the bare call? `cargo bench -p benches --bench kms --features kms`
//!
//! One server for each service, on this machine, in clear apart from Azure's. Each round makes every call once, in turns
//! that begin with another one each time, over connections that stay open: the bare call (AWS' SDK; for the others an HTTP
//! client that sends the same JSON and reads the key out of the answer), the same once more, which shows how well two
//! equal rows agree, our backend, and our backend with all layers around. Then 10 000 values are opened by a process that
//! has nothing in memory, and the server's requests are counted.

use std::{
    env,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_sdk_kms::{
    Client as Aws,
    config::{BehaviorVersion, Credentials, Region},
    primitives::Blob,
};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use reqwest::{Certificate, Client as Http, RequestBuilder};
use serde_json::{Value, json};
use testkit::kms::{KeyService, Login, Place};
use tokio::task::JoinSet;
use zk_crypto::{Encryptor, EncryptorConfig, MemoryKeyStore, Scope};
use zk_kms::{
    AsymmetricKms, AzureKeyPair, Context, DataKey, KeySpec, KeyUri, Kms, LocalKms, OpenConfig, PinnedKms,
    layers::Guard,
};

const ROUNDS: usize = 2000;
const KEYS: usize = 100;
const OPENS: usize = 10_000;
/// What the service binds: as long as what our backends send.
const BOUND: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

type Call<'a> = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + 'a>> + 'a>;

fn main() {
    // One thread, so that nothing but the call and the server's answer takes time.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let wanted: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    println!("### p50 of {ROUNDS} rounds\n");
    println!("| | bare | bare again | zk-kms | with Guard |\n|---|---:|---:|---:|---:|");
    runtime.block_on(measure_layers());
    let places = [
        ("Vault", Place::OpenBao),
        ("AWS on moto", Place::Moto),
        ("AWS on ministack", Place::Ministack),
        ("Google, our fake", Place::FakeGoogle),
        ("Azure, our fake", Place::FakeAzure),
    ];
    let mut counts = Vec::new();
    for (name, place) in places {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let lab = runtime.block_on(Lab::start(name, place));
        runtime.block_on(lab.measure());
        counts.push((name, runtime.block_on(lab.count())));
    }
    println!("\n### {OPENS} values under {KEYS} keys, opened by a process that has none of them\n");
    println!("| | requests to the server | time |\n|---|---:|---:|");
    for (name, (requests, time)) in counts {
        println!("| {name} | {requests} | {} ms |", time.as_millis());
    }
}

struct Lab {
    name: &'static str,
    service: KeyService,
    uri: KeyUri,
    config: OpenConfig,
}

impl Lab {
    async fn start(name: &'static str, place: Place) -> Self {
        let service = KeyService::start(place).expect("a server");
        let uri: KeyUri = service.uri("orders").parse().expect("a URI");
        let config = OpenConfig::new().endpoint(service.direct_endpoint());
        let config = match service.login() {
            Login::Token(token) => config.bearer_token(token.into()),
            Login::AccessKey(id, secret) => config.access_key(id, secret.into()),
        };
        let config = match service.authority() {
            Some(pem) => config.certificate_authorities(pem),
            None => config,
        };
        zk_kms::ensure_key(&uri, &config, &KeySpec::new()).await.expect("a key");
        Self { name, service, uri, config }
    }

    async fn measure(&self) {
        let (kms, context) =
            (self.open(&self.config).await, Context::new().with("scope", "tenant-7").expect("a context"));
        let guarded = Guard::default().around(Arc::clone(&kms));
        let key = DataKey::generate().expect("a key");
        let wrapped = kms.wrap_key(&key, &context).await.expect("wrapped");
        let (key, wrapped, context) = (&key, &wrapped, &context);
        let wrap = |kms: &Arc<dyn Kms>| -> Call<'_> {
            let kms = Arc::clone(kms);
            Box::new(move || {
                let kms = Arc::clone(&kms);
                Box::pin(async move { drop(kms.wrap_key(key, context).await.expect("wrapped")) })
            })
        };
        let unwrap = |kms: &Arc<dyn Kms>| -> Call<'_> {
            let kms = Arc::clone(kms);
            Box::new(move || {
                let kms = Arc::clone(&kms);
                Box::pin(async move { drop(kms.unwrap_key(wrapped, context).await.expect("unwrapped")) })
            })
        };
        let bare = Bare::new(self, &*kms, key).await;
        if bare.wraps() {
            let rows = [bare.wrap(), bare.wrap(), wrap(&kms), wrap(&guarded)];
            print_row(&format!("{}: wrap", self.name), rows).await;
        }
        let rows = [bare.unwrap(), bare.unwrap(), unwrap(&kms), unwrap(&guarded)];
        print_row(&format!("{}: unwrap", self.name), rows).await;
    }

    /// Requests that the server was sent by a process that opens many values after its start.
    async fn count(&self) -> (usize, Duration) {
        // Through the gate, which counts.
        let config = self.config.clone().endpoint(self.service.endpoint());
        let store = Arc::new(MemoryKeyStore::new());
        let process =
            |kms| Encryptor::new(kms, store.clone(), EncryptorConfig::default()).expect("an encryptor");
        let place = zk_crypto::Context::purpose("bench");
        let first = process(self.open(&config).await);
        let mut sealed = Vec::new();
        for i in 0..KEYS {
            let scope = Scope::tenant(&format!("tenant-{i}")).expect("a scope");
            first.create_key(&scope).await.expect("a key");
            sealed.push((first.seal(&scope, &place, b"text").await.expect("sealed"), scope));
        }
        let (cold, sealed) = (Arc::new(process(self.open(&config).await)), Arc::new(sealed));
        let (before, start) = (self.requests(), Instant::now());
        let mut tasks = JoinSet::new();
        for task in 0..16 {
            let (cold, sealed, place) = (Arc::clone(&cold), Arc::clone(&sealed), place.clone());
            tasks.spawn(async move {
                for i in 0..OPENS / 16 {
                    let (sealed, scope) = &sealed[(task + i) % KEYS];
                    drop(cold.open(scope, &place, sealed).await.expect("opened"));
                }
            });
        }
        tasks.join_all().await;
        (self.requests() - before, start.elapsed())
    }

    fn requests(&self) -> usize {
        self.service.fake().map_or_else(|| self.service.gate().requests(), |fake| fake.requests("*"))
    }

    async fn open(&self, config: &OpenConfig) -> Arc<dyn Kms> {
        if self.service.place() != Place::FakeAzure {
            return zk_kms::open(&self.uri, config).await.expect("a key");
        }
        let pair = Arc::new(AzureKeyPair::open(&self.uri, config).expect("a key pair"));
        let public = pair.public_key().await.expect("a public key");
        Arc::new(PinnedKms::new(pair, public).expect("its own public key"))
    }
}

/// What the layers take by themselves: around a ring in memory, which answers at once.
async fn measure_layers() {
    let ring: Arc<dyn Kms> = Arc::new(LocalKms::ephemeral("bench").expect("a ring"));
    let guarded = Guard::default().around(Arc::clone(&ring));
    let (key, context) =
        (DataKey::generate().expect("a key"), Context::new().with("scope", "tenant-7").expect("a context"));
    let wrapped = ring.wrap_key(&key, &context).await.expect("wrapped");
    let unwrap = |kms: &Arc<dyn Kms>| -> Call<'_> {
        let (kms, wrapped, context) = (Arc::clone(kms), &wrapped, &context);
        Box::new(move || {
            let kms = Arc::clone(&kms);
            Box::pin(async move { drop(kms.unwrap_key(wrapped, context).await.expect("unwrapped")) })
        })
    };
    print_row("a ring in memory: unwrap", [unwrap(&ring), unwrap(&ring), unwrap(&ring), unwrap(&guarded)])
        .await;
}

/// What an application would write by hand.
enum Bare {
    Aws {
        client: Aws,
        arn: String,
        ciphertext: Vec<u8>,
        key: Vec<u8>,
    },
    Http {
        client: Http,
        wrap: Option<(String, Value)>,
        unwrap: (String, Value),
        token: (&'static str, String),
        pointer: &'static str,
    },
}

impl Bare {
    async fn new(lab: &Lab, kms: &dyn Kms, key: &DataKey) -> Self {
        let (service, endpoint) = (&lab.service, lab.service.direct_endpoint());
        let bytes: Vec<u8> = (0..32).collect();
        let token = match service.login() {
            Login::Token(token) => token,
            Login::AccessKey(id, secret) => {
                let credentials = Credentials::new(id, secret, None, None, "bench");
                let config = aws_sdk_kms::Config::builder()
                    .behavior_version(BehaviorVersion::v2026_01_12())
                    .region(Region::new("eu-west-1"))
                    .credentials_provider(credentials)
                    .endpoint_url(endpoint);
                let (client, arn) = (Aws::from_conf(config.build()), lab.uri.name().to_owned());
                let request = client.encrypt().key_id(&arn).plaintext(Blob::new(bytes.clone()));
                let answer = request.encryption_context("zk-context", BOUND).send().await.expect("wrapped");
                let ciphertext = answer.ciphertext_blob.expect("a ciphertext").into_inner();
                return Self::Aws { client, arn, ciphertext, key: bytes };
            }
        };
        let mut client = Http::builder().timeout(Duration::from_secs(5));
        if let Some(pem) = service.authority() {
            client = client.tls_certs_merge([Certificate::from_pem(pem.as_bytes()).expect("an authority")]);
        }
        let client = client.build().expect("a client");
        let (plaintext, bound) = (BASE64.encode(&bytes), BASE64.encode(BOUND.as_bytes()));
        let bearer = ("authorization", format!("Bearer {token}"));
        match service.place() {
            Place::OpenBao => {
                let url = |verb| format!("{endpoint}/v1/transit/{verb}/orders");
                let wrap = (url("encrypt"), json!({ "plaintext": plaintext, "context": bound }));
                let token = ("x-vault-token", token);
                let made = answer(post(&client, &wrap, &token)).await;
                let unwrap =
                    (url("decrypt"), json!({ "ciphertext": made["data"]["ciphertext"], "context": bound }));
                Self::Http { client, wrap: Some(wrap), unwrap, token, pointer: "/data/plaintext" }
            }
            Place::FakeGoogle => {
                let url = |verb| format!("{endpoint}/v1/{}:{verb}", lab.uri.name());
                let crc = |bytes: &[u8]| crc32c::crc32c(bytes).to_string();
                let body = |name: &str, base64: &str, bytes: &[u8]| {
                    json!({
                        name: base64,
                        format!("{name}Crc32c"): crc(bytes),
                        "additionalAuthenticatedData": bound,
                        "additionalAuthenticatedDataCrc32c": crc(BOUND.as_bytes()),
                    })
                };
                let wrap = (url("encrypt"), body("plaintext", &plaintext, &bytes));
                let made = answer(post(&client, &wrap, &bearer)).await;
                let ciphertext = made["ciphertext"].as_str().expect("a ciphertext");
                let raw = BASE64.decode(ciphertext.as_bytes()).expect("base64");
                let unwrap = (url("decrypt"), body("ciphertext", ciphertext, &raw));
                Self::Http { client, wrap: Some(wrap), unwrap, token: bearer, pointer: "/plaintext" }
            }
            _ => {
                // Format, RSA block, sealed key of 48 bytes: see the format of wrapped keys for key pairs.
                let wrapped = kms.wrap_key(key, &Context::new()).await.expect("wrapped");
                let block = &wrapped.bytes()[1..wrapped.bytes().len() - 48];
                let version = wrapped.version();
                let url = format!("{endpoint}/keys/orders/{}/unwrapkey?api-version=7.4", version.as_str());
                let unwrap = (url, json!({ "alg": "RSA-OAEP-256", "value": BASE64URL_NOPAD.encode(block) }));
                Self::Http { client, wrap: None, unwrap, token: bearer, pointer: "/value" }
            }
        }
    }

    /// Key pairs wrap without the service.
    fn wraps(&self) -> bool {
        !matches!(self, Self::Http { wrap: None, .. })
    }

    fn wrap(&self) -> Call<'_> {
        Box::new(move || match self {
            Self::Aws { client, arn, key, .. } => Box::pin(async move {
                let request = client.encrypt().key_id(arn).plaintext(Blob::new(key.as_slice()));
                let answer = request.encryption_context("zk-context", BOUND).send().await.expect("wrapped");
                drop(answer.ciphertext_blob.expect("a ciphertext"));
            }),
            Self::Http { client, wrap, token, .. } => Box::pin(async move {
                let wrap = wrap.as_ref().expect("it wraps in the service");
                drop(answer(post(client, wrap, token)).await);
            }),
        })
    }

    fn unwrap(&self) -> Call<'_> {
        Box::new(move || match self {
            Self::Aws { client, arn, ciphertext, .. } => Box::pin(async move {
                let request = client.decrypt().key_id(arn).ciphertext_blob(Blob::new(ciphertext.as_slice()));
                let answer = request.encryption_context("zk-context", BOUND).send().await.expect("unwrapped");
                assert_eq!(answer.plaintext.expect("a key").as_ref().len(), 32);
            }),
            Self::Http { client, unwrap, token, pointer, .. } => Box::pin(async move {
                let answer = answer(post(client, unwrap, token)).await;
                let key = answer.pointer(pointer).and_then(Value::as_str).expect("a key");
                let key = BASE64.decode(key.as_bytes()).or_else(|_| BASE64URL_NOPAD.decode(key.as_bytes()));
                assert_eq!(key.expect("base64").len(), 32);
            }),
        })
    }
}

fn post(
    client: &Http,
    (url, body): &(String, Value),
    (name, token): &(&'static str, String),
) -> RequestBuilder {
    client.post(url).header(*name, token).header("content-type", "application/json").body(body.to_string())
}

async fn answer(request: RequestBuilder) -> Value {
    let answer = request.send().await.expect("an answer").error_for_status().expect("a success");
    serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("JSON")
}

/// Makes every call once in each round, in turns, and prints the medians beside the first.
async fn print_row(name: &str, calls: [Call<'_>; 4]) {
    let mut times: [Vec<Duration>; 4] = Default::default();
    for round in 0..ROUNDS + ROUNDS / 10 {
        for turn in 0..calls.len() {
            let which = (round + turn) % calls.len();
            let start = Instant::now();
            calls[which]().await;
            // The first tenth warms up connections and servers.
            if round >= ROUNDS / 10 {
                times[which].push(start.elapsed());
            }
        }
    }
    let medians = times.map(|mut times| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e6
    });
    let [bare, ..] = medians;
    print!("| {name} | {bare:.1} µs |");
    for median in &medians[1..] {
        print!(" {:+.1} % |", (median / bare - 1.0) * 100.0);
    }
    println!();
}
