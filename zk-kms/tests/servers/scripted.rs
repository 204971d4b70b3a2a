//! A service that answers from a script what no server here can be brought to answer.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use data_encoding::BASE64;
use serde_json::{Value, json};
use zk_kms::{AsymmetricKms, Context, DataKey, ErrorKind, GcpKeyPair, Kms, LocalKeyPair, OpenConfig, open};

const KEY: &str = "projects/p/locations/l/keyRings/r/cryptoKeys/k";

/// Answers each request with what the script says to its first line, until the process ends.
fn start(script: impl Fn(&str) -> Value + Send + 'static) -> OpenConfig {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that goes away is none of the test's business.
            answer(stream.unwrap(), &script).ok();
        }
    });
    OpenConfig::new().endpoint(url).bearer_token("token".into())
}

fn answer(mut stream: TcpStream, script: &impl Fn(&str) -> Value) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let body = script(&first).to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn versions(states: &[(u32, &str)], next: &str) -> Value {
    let shown = states.iter().map(
        |(number, state)| json!({ "name": format!("{KEY}/cryptoKeyVersions/{number}"), "state": state }),
    );
    json!({ "cryptoKeyVersions": shown.collect::<Vec<_>>(), "nextPageToken": next })
}

fn pair(config: &OpenConfig) -> GcpKeyPair {
    GcpKeyPair::open(&format!("gcp-kms://{KEY}").parse().unwrap(), config).unwrap()
}

#[tokio::test]
async fn the_newest_version_is_found_on_the_last_page() {
    let der = LocalKeyPair::ephemeral("any").unwrap().public_key().await.unwrap().der().to_vec();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64.encode(&der));
    let config = start(move |first| {
        if first.contains("/cryptoKeyVersions/3/publicKey") {
            let crc = crc32c(pem.as_bytes()).to_string();
            json!({ "pem": pem, "pemCrc32c": crc, "algorithm": "RSA_DECRYPT_OAEP_3072_SHA256" })
        } else if first.contains("pageToken=second") {
            versions(&[(3, "ENABLED"), (4, "PENDING_GENERATION")], "")
        } else {
            versions(&[(1, "ENABLED"), (2, "DISABLED")], "second")
        }
    });
    assert_eq!(pair(&config).public_key().await.unwrap().version().as_str(), "3");
}

/// An answer that cannot be is an outage of the service, not a mistake in the wrapped key: nobody gives up a key for it.
#[tokio::test]
async fn an_answer_that_cannot_be_is_no_invalid_key() {
    let (name, crc) = (format!("{KEY}/cryptoKeyVersions/"), crc32c(b"").to_string());
    let good = json!({
        "name": format!("{name}1"), "ciphertext": "AAAA", "ciphertextCrc32c": crc32c(&[0; 3]).to_string(),
        "verifiedPlaintextCrc32c": true, "verifiedAdditionalAuthenticatedDataCrc32c": true,
    });
    let wrap = async |change: &dyn Fn(&mut Value)| {
        let mut answer = good.clone();
        change(&mut answer);
        let config = start(move |_| answer.clone());
        let kms = open(&format!("gcp-kms://{KEY}").parse().unwrap(), &config).await.unwrap();
        kms.wrap_key(&DataKey::generate().unwrap(), &Context::new()).await.map_err(|error| error.kind())
    };
    assert_eq!(wrap(&|_| {}).await.unwrap().bytes(), [0; 3], "the script is one of a good answer");
    let long = BASE64.encode(&[0; 5000]);
    type Change<'a> = (&'a str, &'a dyn Fn(&mut Value));
    let changes: [Change<'_>; 6] = [
        ("a sum that was not checked", &|a| a["verifiedPlaintextCrc32c"] = false.into()),
        ("another", &|a| a["verifiedAdditionalAuthenticatedDataCrc32c"] = false.into()),
        ("no version", &|a| a["name"] = name.clone().into()),
        ("a version too long", &|a| a["name"] = format!("{name}{}", "1".repeat(129)).into()),
        ("no ciphertext", &|a| (a["ciphertext"], a["ciphertextCrc32c"]) = ("".into(), crc.clone().into())),
        ("one too long", &|a| {
            (a["ciphertext"], a["ciphertextCrc32c"]) =
                (long.clone().into(), crc32c(&[0; 5000]).to_string().into());
        }),
    ];
    for (what, change) in changes {
        assert_eq!(wrap(change).await.unwrap_err(), ErrorKind::Unavailable, "{what}");
    }
    let key = json!({ "pem": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "algorithm": "RSA_DECRYPT_OAEP_3072_SHA256" });
    let config = start(move |first| {
        let mut key = key.clone();
        key["pemCrc32c"] = crc32c(key["pem"].as_str().unwrap().as_bytes()).to_string().into();
        if first.contains("publicKey") { key } else { versions(&[(1, "ENABLED")], "") }
    });
    assert_eq!(pair(&config).public_key().await.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn pages_without_end_are_no_service() {
    let config = start(|_| versions(&[(1, "ENABLED")], "again"));
    let error = pair(&config).public_key().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn a_version_that_is_being_generated_is_waited_for() {
    let config = start(|_| versions(&[(1, "PENDING_GENERATION")], ""));
    let error = pair(&config).public_key().await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("being generated"), "{error}");

    let primary = json!({ "name": format!("{KEY}/cryptoKeyVersions/1"), "state": "PENDING_GENERATION" });
    let config = start(move |_| json!({ "purpose": "ENCRYPT_DECRYPT", "primary": primary }));
    let kms = open(&format!("gcp-kms://{KEY}").parse().unwrap(), &config).await.unwrap();
    assert!(kms.status().await.unwrap_err().is_transient());

    let config = start(|_| versions(&[(1, "DISABLED"), (2, "DESTROYED")], ""));
    assert_eq!(pair(&config).public_key().await.unwrap_err().kind(), ErrorKind::Disabled);
}

/// CRC-32C (RFC 9260, appendix A), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    let all =
        bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)));
    !all
}
