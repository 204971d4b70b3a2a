//! What a solution's services are and what each needs.

mod check;
mod diagnostic;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::error::{Error, ErrorKind};

/// The longest life of a credential, in seconds: 30 days. Short lives are the point of a lease.
pub(crate) const MAX_LIFETIME: u64 = 30 * 24 * 3600;

/// A solution: its name and its services.
///
/// The manual keeps its JSON Schema, `manifest.schema.json`, for editors and for programs that write manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[expect(clippy::exhaustive_structs, reason = "a manifest is plain data that deployments build")]
pub struct Manifest {
    /// The solution's name: 1 to 16 lower-case letters, digits and underscores.
    #[cfg_attr(test, schemars(regex(pattern = r"^[a-z][a-z0-9_]{0,15}$")))]
    pub solution: String,
    /// Its services: at most 1000.
    #[cfg_attr(test, schemars(length(max = 1000)))]
    pub services: Vec<Service>,
}

/// One service, generated or custom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[expect(clippy::exhaustive_structs, reason = "a manifest is plain data that deployments build")]
pub struct Service {
    /// The service's name: 1 to 20 lower-case letters, digits and underscores.
    #[cfg_attr(test, schemars(regex(pattern = r"^[a-z][a-z0-9_]{0,19}$")))]
    pub name: String,
    /// The database roles that it may act as, at least one.
    #[cfg_attr(test, schemars(length(min = 1, max = 1000), inner(length(min = 1, max = 63))))]
    pub roles: Vec<String>,
    /// The services of this solution that it calls; each lets it in. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(length(max = 1000)))]
    pub peers: Vec<String>,
    /// The secrets that it needs: the environment variable under which each arrives, and its name in the secret store.
    /// Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// The databases that it connects to beside the one it is deployed in: the environment variable under which each one's
    /// connection URI arrives, and its name on the same server. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub databases: BTreeMap<String, String>,
    /// The schemas in which its statements find what they do not name in full, in this order. Default: as the database says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(length(max = 1000), inner(length(min = 1, max = 63))))]
    pub search_path: Vec<String>,
    /// The scopes of zk-crypto whose values it seals and opens, each in full or as a beginning followed by `*`, such as
    /// `tenant:*`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        test,
        schemars(length(max = 1000), inner(regex(pattern = r"^[!-)+-~]{0,199}([!-)+-~]|\*)$")))
    )]
    pub scopes: Vec<String>,
    /// How long a credential lives before it must be renewed, in seconds. Default: 3600.
    #[serde(default = "default_lifetime")]
    #[cfg_attr(test, schemars(range(min = 1, max = 2_592_000)))]
    pub lifetime_seconds: u64,
    /// How long renewals may stretch one credential, in seconds from its issue. Default: 86400.
    #[serde(default = "default_max_lifetime")]
    #[cfg_attr(test, schemars(range(min = 1, max = 2_592_000)))]
    pub max_lifetime_seconds: u64,
    /// How many connections it may hold at once. Default: 10.
    #[serde(default = "default_connections")]
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub connections: u16,
    /// How long one of its statements may run, in milliseconds. Default: 30000.
    #[serde(default = "default_statement_timeout")]
    pub statement_timeout_ms: u32,
    /// How often its password is hashed for the server's verifier. Default: 4096, which RFC 7677 asks for and every
    /// driver takes.
    ///
    /// Hashing often makes guesses slow. A password of ours has 256 random bits and cannot be guessed, so 1 is as safe,
    /// and issuing and every login are faster; the manual lists the drivers that take it.
    #[serde(default = "default_iterations")]
    #[cfg_attr(test, schemars(range(min = 1, max = 100_000)))]
    pub scram_iterations: u32,
}

fn default_lifetime() -> u64 {
    3600
}

fn default_max_lifetime() -> u64 {
    86_400
}

fn default_connections() -> u16 {
    10
}

fn default_statement_timeout() -> u32 {
    30_000
}

fn default_iterations() -> u32 {
    4096
}

impl Manifest {
    /// Reads a manifest from JSON (RFC 8259) of at most a megabyte, and validates it.
    ///
    /// # Errors
    /// All that is wrong with it, each with its place in the text.
    ///
    /// # Examples
    /// ```
    /// use zk_creds::Manifest;
    ///
    /// let text = r#"{ "solution": "crm", "services": [{ "name": "orders", "role": ["crm_agent"], "connections": 0 }] }"#;
    /// let mistakes = Manifest::from_json(text).unwrap_err();
    /// assert_eq!(
    ///     mistakes.to_lines("manifest.json", text),
    ///     "manifest.json:1:35: error[M104]: `services[0]` does not say its `roles`
    ///   help: add `\"roles\": …`
    /// manifest.json:1:55: error[M103]: there is no field `role` here
    ///   help: did you mean `roles`?
    /// manifest.json:1:93: error[M303]: connections must be at least 1: a login without any is of no use
    /// "
    /// );
    /// ```
    pub fn from_json(text: &str) -> Result<Self, Diagnostics> {
        let read::Read { manifest, places, mut mistakes } = read::read(text)?;
        let mut about_values = Diagnostics::default();
        check::manifest(&manifest, &mut about_values);
        for mistake in about_values.iter() {
            mistakes.push(mistake.clone().at(read::place_of(&mistake.path, &places)));
        }
        mistakes.or(manifest)
    }

    /// Checks a manifest that was made otherwise, as [`from_json`](Self::from_json) does.
    ///
    /// # Errors
    /// All that is wrong with it, each with the path of its field.
    pub fn validate(&self) -> Result<(), Diagnostics> {
        let mut mistakes = Diagnostics::default();
        check::manifest(self, &mut mistakes);
        mistakes.or(())
    }

    /// The service of that name.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`].
    pub fn service(&self, name: &str) -> Result<&Service, Error> {
        self.services.iter().find(|s| s.name == name).ok_or_else(|| {
            let mut message = format!("the manifest has no service `{}`", read::shown(name));
            let help = diagnostic::suggest(name, self.services.iter().map(|s| s.name.as_str()));
            if !help.is_empty() {
                message.push_str(&format!("; {help}"));
            }
            Error::new(ErrorKind::Missing, message)
        })
    }

    /// The services that call `service`: those that name it among their peers.
    ///
    /// # Examples
    /// ```
    /// use zk_creds::Manifest;
    ///
    /// let manifest = Manifest::from_json(r#"{ "solution": "crm", "services": [
    ///     { "name": "orders", "roles": ["crm_agent"], "peers": ["billing"] },
    ///     { "name": "billing", "roles": ["crm_manager"] }
    /// ] }"#)?;
    /// assert_eq!(manifest.callers("billing").collect::<Vec<_>>(), ["orders"]);
    /// assert_eq!(manifest.callers("orders").count(), 0);
    /// # Ok::<(), zk_creds::Diagnostics>(())
    /// ```
    pub fn callers(&self, service: &str) -> impl Iterator<Item = &str> {
        let calls = move |caller: &&Service| caller.peers.iter().any(|peer| peer == service);
        self.services.iter().filter(calls).map(|caller| caller.name.as_str())
    }
}

impl Service {
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "only issuers take single services"))]
    pub(crate) fn validate(&self) -> Result<(), Diagnostics> {
        let mut mistakes = Diagnostics::default();
        check::service("", self, &mut mistakes);
        mistakes.or(())
    }
}
