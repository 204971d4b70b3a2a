//! Who calls.

use std::{env, sync::Arc};

use azure_core::credentials::{Secret, TokenCredential};
use azure_identity::{
    ClientSecretCredential, DeveloperToolsCredential, ManagedIdentityCredential, WorkloadIdentityCredential,
};
use secrecy::SecretString;

use crate::{Error, ErrorKind};

/// Where vaults and HSMs live: the public cloud, China, the US government.
const PLACES: [&str; 6] = [
    "vault.azure.net",
    "vault.azure.cn",
    "vault.usgovcloudapi.net",
    "managedhsm.azure.net",
    "managedhsm.azure.cn",
    "managedhsm.usgovcloudapi.net",
];

pub(super) enum Access {
    Token(SecretString),
    /// The first that gives a token. They keep their tokens and renew them.
    Credential(Vec<Arc<dyn TokenCredential>>),
}

impl Access {
    /// What Azure's own libraries take, in their order: workload identity, a secret in the environment, managed identity,
    /// the tools of a developer.
    pub(super) fn standard() -> Result<Self, Error> {
        let mut chain: Vec<Arc<dyn TokenCredential>> = Vec::new();
        if let Ok(credential) = WorkloadIdentityCredential::new(None) {
            chain.push(credential);
        }
        let text = |name| env::var(name).ok().filter(|value| !value.is_empty());
        if let (Some(tenant), Some(client), Some(secret)) =
            (text("AZURE_TENANT_ID"), text("AZURE_CLIENT_ID"), text("AZURE_CLIENT_SECRET"))
            && let Ok(credential) = ClientSecretCredential::new(&tenant, client, Secret::new(secret), None)
        {
            chain.push(credential);
        }
        if let Ok(credential) = ManagedIdentityCredential::new(None) {
            chain.push(credential);
        }
        if let Ok(credential) = DeveloperToolsCredential::new(None) {
            chain.push(credential);
        }
        if chain.is_empty() {
            return Err(Error::new(ErrorKind::Denied, "nothing says to Azure who calls"));
        }
        Ok(Self::Credential(chain))
    }

    /// A token for the vault that the URI names.
    pub(super) async fn token(&self, key: &str) -> Result<SecretString, Error> {
        let chain = match self {
            Self::Token(token) => return Ok(token.clone()),
            Self::Credential(chain) => chain,
        };
        let scope = format!("https://{}/.default", resource(key.split('/').next().unwrap_or_default())?);
        let mut is_outage = false;
        for credential in chain {
            match credential.get_token(&[&scope], None).await {
                Ok(token) => return Ok(token.token.secret().into()),
                Err(error) => is_outage |= could_not_ask(&error),
            }
        }
        // SECURITY: the causes quote what the issuers of tokens were sent.
        Err(if is_outage {
            Error::unavailable(
                "no credential of Azure gives a token for its vaults, and not every issuer was reached",
            )
        } else {
            Error::new(ErrorKind::Denied, "no credential of Azure gives a token for its vaults")
        })
    }
}

/// Whether an issuer of tokens was away or busy, which is no refusal: `AnyOf` would obey one.
fn could_not_ask(error: &azure_core::Error) -> bool {
    let causes = std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |e| e.source());
    causes.filter_map(|cause| cause.downcast_ref::<azure_core::Error>()).any(|cause| match cause.kind() {
        azure_core::error::ErrorKind::Connection | azure_core::error::ErrorKind::Io => true,
        azure_core::error::ErrorKind::HttpResponse { status, .. } => {
            status.is_server_error() || u16::from(*status) == 429
        }
        _ => false,
    })
}

/// What tokens for a vault are for.
pub(super) fn resource(host: &str) -> Result<&'static str, Error> {
    let below =
        |place: &&str| host.strip_suffix(*place).is_some_and(|vault| vault.ends_with('.') && vault.len() > 1);
    PLACES.iter().copied().find(|place| below(place)).ok_or_else(|| {
        Error::invalid(
            "the host of this key is no vault of Azure; a private one is given with OpenConfig::endpoint",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_for_vaults_of_azure_only() {
        assert_eq!(resource("shop.vault.azure.net").unwrap(), "vault.azure.net");
        assert_eq!(resource("shop.managedhsm.azure.net").unwrap(), "managedhsm.azure.net");
        for host in
            ["vault.azure.net", ".vault.azure.net", "evilvault.azure.net", "shop.vault.azure.net.evil", "h"]
        {
            assert!(resource(host).is_err(), "{host}");
        }
    }
}
