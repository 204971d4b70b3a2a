//! No store sends its token where the environment says, or trusts whom it names beside the given authorities.

use std::sync::Arc;

use secrecy::SecretString;
use testkit::{Authority, surroundings::Surroundings};
use zk_creds::ErrorKind;
use zk_creds::secret::{AzureSecrets, Endpoint, GoogleSecrets, SecretName, SecretStore, Stage, VaultSecrets};

#[tokio::test]
async fn only_given_authorities_count_and_no_proxy() {
    let test = "environment::only_given_authorities_count_and_no_proxy";
    let Some(surroundings) = Surroundings::inside(test).unwrap() else { return };
    let server = surroundings.server();
    let (name, other) = (SecretName::new("key").unwrap(), Authority::new("another").unwrap());
    let url = server.url();
    let usual = || Endpoint::new(&url).unwrap();
    for (endpoint, kind) in [
        // Who is answered with a refusal was let through TLS.
        (usual(), ErrorKind::Denied),
        (usual().trusting(server.authority().pem()), ErrorKind::Denied),
        (usual().trusting(other.pem()), ErrorKind::Unavailable),
    ] {
        for store in stores(&endpoint) {
            let error = store.read(&name, Stage::Current).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{store:?}: {error}");
            let refused = format!("{error:?}").contains("UnknownIssuer");
            assert_eq!(refused, kind == ErrorKind::Unavailable, "{store:?}: {error:?}");
        }
    }
    assert_eq!(surroundings.proxied(), 0, "a request went to the proxy");
}

fn stores(endpoint: &Endpoint) -> [Box<dyn SecretStore>; 3] {
    let token = || Arc::new(SecretString::from("wrong"));
    [
        Box::new(GoogleSecrets::new(endpoint, "project", token()).unwrap()),
        Box::new(AzureSecrets::new(endpoint, token()).unwrap()),
        Box::new(VaultSecrets::new(endpoint, "secret", "crm", token()).unwrap()),
    ]
}
