//! What a solution's services are and what each needs.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// The longest manifest that is read, in bytes.
const MAX_TEXT: usize = 1 << 20;
/// A login's name is `zk_<solution>_<service>_<generation>_<8 characters>` and must fit in 63 bytes.
const MAX_SOLUTION: usize = 16;
const MAX_SERVICE: usize = 20;
/// The longest name that PostgreSQL keeps; it cuts longer ones, which may then be another's.
const MAX_ROLE: usize = 63;
/// The longest life of a credential, in seconds: 30 days. Short lives are the point of a lease.
pub(crate) const MAX_LIFETIME: u64 = 30 * 24 * 3600;

/// A solution: its name and its services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a manifest is plain data that deployments build")]
pub struct Manifest {
    /// The solution's name: 1 to 16 lower-case letters, digits and underscores.
    pub solution: String,
    /// Its services.
    pub services: Vec<Service>,
}

/// One service, generated or custom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a manifest is plain data that deployments build")]
pub struct Service {
    /// The service's name: 1 to 20 lower-case letters, digits and underscores.
    pub name: String,
    /// The database roles that it may act as.
    pub roles: Vec<String>,
    /// How long a credential lives before it must be renewed, in seconds. Default: 3600.
    #[serde(default = "default_lifetime")]
    pub lifetime_seconds: u64,
    /// How long renewals may stretch one credential, in seconds from its issue. Default: 86400.
    #[serde(default = "default_max_lifetime")]
    pub max_lifetime_seconds: u64,
    /// How many connections it may hold at once. Default: 10.
    #[serde(default = "default_connections")]
    pub connections: u16,
    /// How long one of its statements may run, in milliseconds. Default: 30000.
    #[serde(default = "default_statement_timeout")]
    pub statement_timeout_ms: u32,
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

impl Manifest {
    /// Reads a manifest from JSON and validates it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], saying which field and why.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_TEXT {
            return Err(invalid(format!("the manifest is longer than {MAX_TEXT} bytes")));
        }
        let manifest: Self = serde_json::from_str(text)
            .map_err(|e| invalid("the manifest is not as it should be").because(e))?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// Checks names, lifetimes and uniqueness.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], saying which field and why.
    pub fn validate(&self) -> Result<(), Error> {
        check_name("solution", &self.solution, MAX_SOLUTION)?;
        let mut seen = BTreeSet::new();
        for service in &self.services {
            service.validate()?;
            if !seen.insert(&service.name) {
                return Err(invalid(format!("service `{}` is listed twice", service.name)));
            }
        }
        Ok(())
    }

    /// The service of that name.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`].
    pub fn service(&self, name: &str) -> Result<&Service, Error> {
        self.services
            .iter()
            .find(|s| s.name == name)
            .ok_or_else(|| Error::new(ErrorKind::Missing, format!("the manifest has no service `{name}`")))
    }
}

impl Service {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        check_name("service", &self.name, MAX_SERVICE)?;
        let (name, lifetime, max) = (&self.name, self.lifetime_seconds, self.max_lifetime_seconds);
        if self.roles.is_empty() {
            return Err(invalid(format!("service `{name}` has no roles; list those it may act as")));
        }
        for role in &self.roles {
            if role.is_empty() || role.len() > MAX_ROLE || role.contains('\0') {
                let role = role.escape_debug();
                return Err(invalid(format!(
                    "service `{name}`: `{role}` cannot name a role: use 1 to {MAX_ROLE} bytes without NUL"
                )));
            }
        }
        if lifetime == 0 || max < lifetime || max > MAX_LIFETIME {
            return Err(invalid(format!(
                "service `{name}`: lifetime_seconds must be at least 1 and at most max_lifetime_seconds, \
                 which must be at most {MAX_LIFETIME}"
            )));
        }
        if self.connections == 0 {
            return Err(invalid(format!("service `{name}`: connections must be at least 1")));
        }
        Ok(())
    }
}

fn check_name(what: &str, name: &str, longest: usize) -> Result<(), Error> {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && name.len() <= longest;
    if plain {
        return Ok(());
    }
    Err(invalid(format!(
        "`{}` cannot name a {what}: use 1 to {longest} lower-case letters, digits and underscores, a letter first",
        name.escape_debug()
    )))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: &str) {
        let error = Manifest::from_json(json).expect_err("must be refused");
        let mut text = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            text.push_str(&format!(": {source}"));
        }
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn mistakes_are_named() {
        check(r#"{"solution": "a b", "services": []}"#, "cannot name a solution");
        check(
            r#"{"solution": "a", "services": [{"name": "x\"; DROP", "roles": ["r"]}]}"#,
            "cannot name a service",
        );
        check(r#"{"solution": "a", "services": [{"name": "x", "roles": []}]}"#, "has no roles");
        check(
            r#"{"solution": "a", "services": [{"name": "x", "roles": ["r"], "tls": false}]}"#,
            "unknown field `tls`",
        );
        check(
            r#"{"solution": "a", "services": [{"name": "x", "roles": ["r"], "lifetime_seconds": 0}]}"#,
            "lifetime",
        );
        let twice = r#"{"solution": "a", "services": [{"name": "x", "roles": ["r"]}, {"name": "x", "roles": ["r"]}]}"#;
        check(twice, "listed twice");
    }
}
