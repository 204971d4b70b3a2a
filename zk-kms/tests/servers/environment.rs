//! No backend sends its token where the environment says, or trusts whom it names beside the given authorities.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::{
    credentials::{AccessToken, TokenCredential, TokenRequestOptions},
    error::ErrorKind as AzureKind,
};
use testkit::{Authority, surroundings::Surroundings};
use zk_kms::{AsymmetricKms, AzureKeyPair, Error, ErrorKind, GcpKeyPair, OpenConfig, open};

#[tokio::test]
async fn only_given_authorities_count_and_no_proxy() {
    let test = "environment::only_given_authorities_count_and_no_proxy";
    let Some(surroundings) = Surroundings::inside(test).unwrap() else { return };
    let server = surroundings.server();
    let (theirs, other) = (server.authority().pem(), Authority::new("another").unwrap());
    let config = || {
        let config = OpenConfig::new().endpoint(server.url()).bearer_token("wrong".into());
        config.access_key("id", "wrong".into())
    };
    // Whoever sets the environment does not make AWS' client send keys in clear to another machine.
    let nowhere = OpenConfig::new().access_key("id", "wrong".into());
    let error = ask("aws-kms://arn:aws:kms:eu-west-1:111122223333:key/1234abcd", nowhere).await;
    assert_eq!((error.kind(), surroundings.proxied()), (ErrorKind::Invalid, 0), "{error}");
    assert!(error.to_string().contains("loopback"), "{error}");
    for uri in [
        "vault-transit://vault/transit/k",
        "gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k",
        "azure-kv://shop.vault.azure.net/k",
        "aws-kms://arn:aws:kms:eu-west-1:111122223333:key/1234abcd",
    ] {
        // Who is answered with a refusal was let through TLS.
        assert_eq!(ask(uri, config()).await.kind(), ErrorKind::Denied, "{uri}: the system's authorities");
        if uri.starts_with("aws") {
            continue; // It has no authorities of its own: the manual says so.
        }
        assert_eq!(
            ask(uri, config().certificate_authorities(theirs)).await.kind(),
            ErrorKind::Denied,
            "{uri}"
        );
        let error = ask(uri, config().certificate_authorities(other.pem())).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{uri}: {error}");
        assert!(format!("{error:?}").contains("UnknownIssuer"), "{uri}: {error:?}");
    }
    assert_eq!(surroundings.proxied(), 0, "a request went to the proxy");
}

/// What becomes of a credential.
#[derive(Clone, Copy, Debug)]
enum Credential {
    Stalls,
    Away,
    Refuses,
}

#[async_trait]
impl TokenCredential for Credential {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        match self {
            Self::Stalls => std::future::pending().await,
            // As the credentials of Azure hand it on.
            Self::Away => Err(azure_core::Error::new(
                AzureKind::Credential,
                azure_core::Error::with_message(AzureKind::Io, "MARKED"),
            )),
            Self::Refuses => Err(azure_core::Error::with_message(AzureKind::Credential, "MARKED")),
        }
    }
}

/// An issuer of tokens that does not answer is an outage, which others are asked in; one that refuses is obeyed.
#[tokio::test]
async fn an_issuer_that_is_away_is_no_refusal() {
    for (credential, kind) in [
        (Credential::Stalls, ErrorKind::Unavailable),
        (Credential::Away, ErrorKind::Unavailable),
        (Credential::Refuses, ErrorKind::Denied),
    ] {
        let uri = "azure-kv://shop.vault.azure.net/k".parse().unwrap();
        let config = OpenConfig::new().timeout(Duration::from_millis(200));
        let pair = AzureKeyPair::new(&uri, Arc::new(credential), &config).unwrap();
        let asked = tokio::time::timeout(Duration::from_secs(10), pair.public_key()).await;
        let error = asked.expect("it has a limit").unwrap_err();
        assert_eq!(error.kind(), kind, "{credential:?}: {error}");
        assert!(!format!("{error:?}").contains("MARKED"), "{error:?}");
    }
}

/// What a backend that cannot log in says.
async fn ask(uri: &str, config: OpenConfig) -> Error {
    let uri: zk_kms::KeyUri = uri.parse().unwrap();
    let pair: Option<Arc<dyn AsymmetricKms>> = match &uri {
        uri if uri.service() == zk_kms::Service::AzureKeyVault => {
            Some(Arc::new(AzureKeyPair::open(uri, &config).unwrap()))
        }
        uri if uri.service() == zk_kms::Service::GcpKms => {
            Some(Arc::new(GcpKeyPair::open(uri, &config).unwrap()))
        }
        _ => None,
    };
    match pair {
        Some(pair) => pair.public_key().await.map(drop).unwrap_err(),
        None => open(&uri, &config).await.unwrap().status().await.map(drop).unwrap_err(),
    }
}
