//! The name of a key-encryption key.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use crate::Error;

const MAX_LEN: usize = 512;
const MAX_LOCAL_NAME: usize = 64;

/// The URI of a key-encryption key.
///
/// Parsing is strict, because a URI comes from configuration and from stored rows and ends up in requests: ASCII only, at
/// most 512 bytes, no empty part, no `.` or `..` part, no percent signs, queries, fragments or user names. A name that its
/// service would refuse is refused here, before anybody is asked.
///
/// ```text
/// local:<name>
/// any-of:<name>
/// aws-kms://<ARN of a key or an alias>
/// gcp-kms://projects/<p>/locations/<l>/keyRings/<r>/cryptoKeys/<k>
/// azure-kv://<vault host>/<key>[/<version>]
/// vault-transit://<host[:port]>/<mount>/<key>
/// ```
///
/// The spellings of Go CDK (`awskms:///<ARN>`, `gcpkms://..`, `azurekeyvault://<host>/keys/<key>[/<version>]`) and of Tink
/// (`hcvault://<host[:port]>/<mount>/keys/<key>`; its others are ours) are accepted and rewritten: there is one text for
/// each key. Spellings that leave out where the key is, such as Go CDK's `hashivault://<key>`, are refused.
///
/// # Examples
///
/// ```
/// use zk_kms::{KeyUri, Service};
///
/// let uri: KeyUri = "local:orders".parse()?;
/// assert_eq!((uri.service(), uri.name()), (Service::Local, "orders"));
/// assert!("local:../orders".parse::<KeyUri>().is_err());
///
/// let go: KeyUri = "azurekeyvault://v.vault.azure.net/keys/orders".parse()?;
/// assert_eq!(go.as_str(), "azure-kv://v.vault.azure.net/orders");
/// # Ok::<(), zk_kms::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyUri {
    service: Service,
    text: String,
}

/// The service that a [`KeyUri`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Service {
    /// A key ring of this machine, `local:`.
    Local,
    /// AWS Key Management Service, `aws-kms://`.
    AwsKms,
    /// Google Cloud Key Management Service, `gcp-kms://`.
    GcpKms,
    /// Azure Key Vault and Managed HSM, `azure-kv://`.
    AzureKeyVault,
    /// The Transit engine of Vault or OpenBao, `vault-transit://`.
    VaultTransit,
    /// Several keys of other services at once, `any-of:`.
    AnyOf,
}

impl KeyUri {
    /// Parses a URI.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when the text is not one of the documented shapes.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_LEN {
            return Err(Error::invalid(format!("a key URI is at most {MAX_LEN} bytes")));
        }
        let rewritten = ours(text);
        let text = rewritten.as_deref().unwrap_or(text);
        let Some((service, rest)) =
            Service::ALL.iter().find_map(|s| text.strip_prefix(s.prefix()).map(|rest| (*s, rest)))
        else {
            return Err(Error::invalid(
                "a key URI starts with `local:`, `any-of:`, `aws-kms://`, `gcp-kms://`, `azure-kv://` or \
                 `vault-transit://`",
            ));
        };
        if !service.accepts(rest) {
            return Err(Error::invalid(format!(
                "a key URI of this service looks like `{}`",
                service.shape()
            )));
        }
        Ok(Self { service, text: text.to_owned() })
    }

    /// Makes the URI of a local key ring: `local:` and the name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when the name is not 1 to 64 letters, digits, `_`, `-` or `.`.
    pub fn local(name: &str) -> Result<Self, Error> {
        Self::parse(&format!("{}{name}", Service::Local.prefix()))
    }

    #[cfg(feature = "layers")]
    pub(crate) fn any_of(name: &str) -> Result<Self, Error> {
        Self::parse(&format!("{}{name}", Service::AnyOf.prefix()))
    }

    /// Returns the service that holds the key.
    #[must_use]
    pub fn service(&self) -> Service {
        self.service
    }

    /// Returns what stands after the scheme: the name the service knows the key by.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text.strip_prefix(self.service.prefix()).unwrap_or(&self.text)
    }

    /// Returns the parts of the name, between slashes.
    #[cfg(feature = "_http")]
    pub(crate) fn parts(&self) -> Vec<&str> {
        self.name().split('/').collect()
    }

    /// Checks that a backend was given a URI of its service.
    #[cfg(feature = "_remote")]
    pub(crate) fn require(&self, service: Service) -> Result<(), Error> {
        if self.service == service {
            return Ok(());
        }
        Err(Error::invalid(format!("`{self}` does not look like `{}`", service.shape())))
    }

    /// Returns the URI as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Service {
    const ALL: [Self; 6] =
        [Self::Local, Self::AwsKms, Self::GcpKms, Self::AzureKeyVault, Self::VaultTransit, Self::AnyOf];

    const fn prefix(self) -> &'static str {
        match self {
            Self::Local => "local:",
            Self::AwsKms => "aws-kms://",
            Self::GcpKms => "gcp-kms://",
            Self::AzureKeyVault => "azure-kv://",
            Self::VaultTransit => "vault-transit://",
            Self::AnyOf => "any-of:",
        }
    }

    const fn shape(self) -> &'static str {
        match self {
            Self::Local => "local:<name>",
            Self::AwsKms => "aws-kms://arn:aws:kms:<region>:<account>:(key|alias)/<id>",
            Self::GcpKms => "gcp-kms://projects/<p>/locations/<l>/keyRings/<r>/cryptoKeys/<k>",
            Self::AzureKeyVault => "azure-kv://<vault host>/<key>[/<version>]",
            Self::VaultTransit => "vault-transit://<host[:port]>/<mount>/<key>",
            Self::AnyOf => "any-of:<name>",
        }
    }

    fn accepts(self, rest: &str) -> bool {
        let parts: Vec<&str> = rest.split('/').collect();
        match (self, parts.as_slice()) {
            (Self::Local | Self::AnyOf, [name]) => name.len() <= MAX_LOCAL_NAME && is_part(name),
            (Self::AwsKms, [arn, id]) => is_kms_arn(arn, id),
            (Self::GcpKms, ["projects", p, "locations", l, "keyRings", r, "cryptoKeys", k]) => {
                // https://cloud.google.com/kms/docs/reference/rest: `[a-zA-Z0-9_-]{1,63}`
                is_name(p, 30, "-")
                    && is_name(l, 63, "-")
                    && [r, k].iter().all(|part| is_name(part, 63, "_-"))
            }
            // https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates: `[0-9a-zA-Z-]{1,127}`
            (Self::AzureKeyVault, [host, key]) => is_host(host) && is_name(key, 127, "-"),
            (Self::AzureKeyVault, [host, key, version]) => {
                is_host(host) && is_name(key, 127, "-") && is_name(version, 32, "")
            }
            // Vault's framework.GenericNameRegex ends names with a word character.
            (Self::VaultTransit, [host, mount, key]) => {
                is_host(host) && is_part(mount) && is_part(key) && !key.ends_with(['-', '.'])
            }
            _ => false,
        }
    }
}

/// Rewrites what Go CDK and Tink write; what comes out is checked like everything else.
fn ours(text: &str) -> Option<String> {
    let rewritten = |prefix: &str, service: Service| {
        text.strip_prefix(prefix).map(|rest| format!("{}{rest}", service.prefix()))
    };
    // `<host>/<..>/keys/<key>`: ours leaves `keys` out, because every key has it.
    let without_keys = |prefix: &str, service: Service| {
        let (place, key) = text.strip_prefix(prefix)?.split_once("/keys/")?;
        Some(format!("{}{place}/{key}", service.prefix()))
    };
    rewritten("awskms:///", Service::AwsKms)
        .or_else(|| rewritten("gcpkms://", Service::GcpKms))
        .or_else(|| without_keys("azurekeyvault://", Service::AzureKeyVault))
        .or_else(|| without_keys("hcvault://", Service::VaultTransit))
}

/// One name: it starts with a letter or digit, so that it is neither `.` nor `..` nor an option of a command.
fn is_part(part: &str) -> bool {
    part.len() <= 255
        && part.starts_with(|c: char| c.is_ascii_alphanumeric())
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

/// A part with no other characters than letters, digits and these.
fn is_name(part: &str, longest: usize, others: &str) -> bool {
    is_part(part)
        && part.len() <= longest
        && part.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

/// `host` or `host:port`
pub(crate) fn is_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').unwrap_or((host, "443"));
    let digits = (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
    is_host_name(name) && digits && port.parse::<u16>().is_ok_and(|p| p != 0)
}

/// Labels as DNS has them, with `_` besides, or an address of IPv4 in its one usual spelling.
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| is_name(label, 63, "_-") && !label.ends_with('-');
    if name.len() > 253 || !name.split('.').all(label) {
        return false;
    }
    // SECURITY: parsers of URLs take `127.1`, `0x7f.1` and `2130706433` for addresses, so they would go where nobody reads.
    let last = name.rsplit('.').next().unwrap_or(name);
    !last.starts_with(|c: char| c.is_ascii_digit())
        || name.parse::<Ipv4Addr>().is_ok_and(|address| address.to_string() == name)
}

/// `arn:<partition>:kms:<region>:<account>:key` or `..:alias`; the id stands after the slash. Partition and region end up in
/// the name of AWS' host. <https://docs.aws.amazon.com/kms/latest/APIReference/API_CreateAlias.html> has the names.
fn is_kms_arn(arn: &str, id: &str) -> bool {
    let plain = |part: &str| is_name(part, 32, "-") && !part.contains(|c: char| c.is_ascii_uppercase());
    match arn.split(':').collect::<Vec<_>>().as_slice() {
        ["arn", partition, "kms", region, account, kind @ ("key" | "alias")] => {
            plain(partition)
                && partition.starts_with("aws")
                && plain(region)
                && account.len() == 12
                && account.bytes().all(|b| b.is_ascii_digit())
                && if *kind == "key" { is_name(id, 128, "-") } else { is_name(id, 250, "_-") }
        }
        _ => false,
    }
}

impl FromStr for KeyUri {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl fmt::Display for KeyUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for KeyUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyUri({})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn documented_shapes_parse() {
        for (text, service) in [
            ("local:orders", Service::Local),
            ("local:a.b-c_9", Service::Local),
            ("aws-kms://arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab", Service::AwsKms),
            ("gcp-kms://projects/p/locations/europe/keyRings/r/cryptoKeys/k", Service::GcpKms),
            ("azure-kv://v.vault.azure.net/key", Service::AzureKeyVault),
            ("azure-kv://v.vault.azure.net/key/0123456789abcdef", Service::AzureKeyVault),
            ("azure-kv://v.vault.azure.net/Key-1/0123456789abcdef0123456789abcdef", Service::AzureKeyVault),
            ("aws-kms://arn:aws-us-gov:kms:us-gov-east-1:111122223333:key/mrk-0a1b", Service::AwsKms),
            ("aws-kms://arn:aws:kms:eu-west-1:111122223333:alias/team_orders-1", Service::AwsKms),
            (
                "gcp-kms://projects/my-shop-1/locations/europe-west1/keyRings/r_1/cryptoKeys/K-1",
                Service::GcpKms,
            ),
            ("vault-transit://vault.internal:8200/transit/orders", Service::VaultTransit),
            ("vault-transit://vault_1:8200/transit/orders.v2", Service::VaultTransit),
            ("vault-transit://10.0.0.7:8200/transit/orders", Service::VaultTransit),
        ] {
            let uri = KeyUri::parse(text).unwrap();
            assert_eq!((uri.service(), uri.to_string()), (service, text.to_owned()));
        }
    }

    #[test]
    fn spellings_of_others_become_ours() {
        for (theirs, ours) in [
            (
                "awskms:///arn:aws:kms:eu-west-1:111122223333:alias/orders",
                "aws-kms://arn:aws:kms:eu-west-1:111122223333:alias/orders",
            ),
            (
                "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k",
                "gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k",
            ),
            ("azurekeyvault://v.vault.azure.net/keys/k/0123", "azure-kv://v.vault.azure.net/k/0123"),
            ("hcvault://vault:8200/transit/keys/k", "vault-transit://vault:8200/transit/k"),
        ] {
            assert_eq!(KeyUri::parse(theirs).unwrap().as_str(), ours);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let long = format!("local:{}", "a".repeat(65));
        let very_long = format!("vault-transit://h/{}/k", "a".repeat(600));
        for text in [
            "",
            "local",
            "local:",
            "LOCAL:a",
            "local:.",
            "local:..",
            "local:../a",
            "local:a/b",
            "local:a/../b",
            "local:a\r\nb",
            "local:a b",
            "local:a%2e",
            "local:é",
            "local:a\0",
            "local:-a",
            " local:a",
            "local:a\n",
            "aws-kms://",
            "aws-kms://arn:aws:kms:eu:1:key/a",
            "aws-kms://arn:aws:s3:eu:111122223333:key/a",
            "aws-kms://arn:aws:kms:eu:111122223333:key/..",
            "aws-kms://arn:aws:kms:eu:111122223333:grant/a",
            "awskms:///alias/orders",
            "awskms:///arn:aws:kms:eu:111122223333:key/a?region=eu",
            "awskms://arn:aws:kms:eu:111122223333:key/a",
            "gcpkms://projects/p",
            "azurekeyvault://v.vault.azure.net/secrets/k",
            "azurekeyvault://v.vault.azure.net/keys/../k",
            "hashivault://k",
            "hcvault://vault/transit/keys/keys/k",
            "any-of:",
            "any-of:a/b",
            "gcp-kms://projects/p",
            "gcp-kms://projects/../locations/l/keyRings/r/cryptoKeys/k",
            "azure-kv://host",
            "azure-kv:///key",
            "azure-kv://host/key/v/more",
            "vault-transit://u@h/m/k",
            "vault-transit://h:0/m/k",
            "vault-transit://h:99999/m/k",
            "vault-transit://h:+80/m/k",
            "vault-transit://h/m/k?x",
            "http://h/m/k",
            // What the services would refuse.
            "aws-kms://arn:aws:kms:eu.evil.example:111122223333:key/a",
            "aws-kms://arn:evil:kms:eu:111122223333:key/a",
            "aws-kms://arn:aws:kms:EU:111122223333:key/a",
            "aws-kms://arn:aws:kms:eu:111122223333:alias/a.b",
            "aws-kms://arn:aws:kms:eu:111122223333:key/a_b",
            "gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k.k",
            "gcp-kms://projects/p.q/locations/l/keyRings/r/cryptoKeys/k",
            "azure-kv://v.vault.azure.net/k_k",
            "azure-kv://v.vault.azure.net/k/0-1",
            "azure-kv://v.vault.azure.net/k/012345678901234567890123456789012",
            "vault-transit://h/m/k-",
            "vault-transit://h/m/k.",
            // Hosts that are none, or are read as another.
            "vault-transit://h./m/k",
            "vault-transit://h..g/m/k",
            "vault-transit://h-/m/k",
            "vault-transit://127.1/m/k",
            "vault-transit://0x7f.0.0.1/m/k",
            "vault-transit://2130706433/m/k",
            "vault-transit://127.0.0.01/m/k",
            "vault-transit://1.2.3.4.5/m/k",
            &long,
            &very_long,
        ] {
            assert!(KeyUri::parse(text).is_err(), "{text:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn what_parses_is_plain(text in "(local:|azure-kv://|vault-transit://)[a-z./:%\r\n é@?#]{0,20}") {
            if let Ok(uri) = KeyUri::parse(&text) {
                prop_assert_eq!(uri.as_str(), text.as_str());
                prop_assert!(text.bytes().all(|b| b.is_ascii_graphic()));
                prop_assert!(!text.contains("/.") && !text.contains(":."));
            }
        }
    }
}
