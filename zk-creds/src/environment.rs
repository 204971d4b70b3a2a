//! Declared environment variables: rendered for a child process, read back once inside it.

mod render;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use crate::command::Command;
use crate::error::{Error, ErrorKind};
use crate::manifest::Service;
use crate::secret::{SecretName, Secrets, Stage};

/// What a child keeps of its parent's environment: nothing that could carry a secret or change what code is loaded.
pub(crate) const INHERITED: [&str; 4] = ["PATH", "HOME", "TZ", "LANG"];

/// Declared names with their values, all treated as secrets.
///
/// Setting variables of the running process is unsafe in Rust (other threads may read them) and is never done: values
/// reach a child through [`command`](Self::command), and a service reads them with [`take`](Self::take).
#[derive(Default)]
pub struct Environment {
    values: BTreeMap<String, SecretString>,
}

impl Environment {
    /// Declares a variable, or replaces it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the name is not `[A-Z_][A-Z0-9_]*` or the value has a NUL character.
    pub fn set(&mut self, name: &str, value: SecretString) -> Result<(), Error> {
        check_name(name).map_err(|why| Error::new(ErrorKind::Invalid, why))?;
        if value.expose_secret().contains('\0') {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("the value of {name} contains a NUL character"),
            ));
        }
        self.values.insert(name.to_owned(), value);
        Ok(())
    }

    /// Declares the variables that the manifest wants of a service, with the current values of its secrets.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a name that is none; what the store says, such as [`ErrorKind::Missing`].
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use secrecy::ExposeSecret;
    /// use zk_creds::secret::{MemorySecrets, SecretName, Secrets};
    /// use zk_creds::{Environment, Manifest};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let manifest = Manifest::from_json(r#"{ "solution": "crm", "services": [
    ///     { "name": "orders", "roles": ["crm_agent"], "secrets": { "PAYMENT_KEY": "payment-api-key" } }
    /// ] }"#)?;
    /// let secrets = Secrets::new(Arc::new(MemorySecrets::default()));
    /// secrets.create(&SecretName::new("payment-api-key")?, &"s3cret".into()).await?;
    ///
    /// let mut environment = Environment::default();
    /// environment.add_secrets(manifest.service("orders")?, &secrets).await?;
    /// assert_eq!(environment.get("PAYMENT_KEY")?.expose_secret(), "s3cret");
    /// # Ok(()) }
    /// ```
    pub async fn add_secrets(&mut self, service: &Service, secrets: &Secrets) -> Result<(), Error> {
        for (variable, name) in &service.secrets {
            let secret = secrets.read(&SecretName::new(name)?, Stage::Current).await?;
            self.set(variable, secret.value().clone())?;
        }
        Ok(())
    }

    /// Declares `ZK_SCOPES`: the scopes that the manifest lets the service seal and open, with a blank between them. The
    /// service hands them to zk-crypto's `ScopedKeyStore`.
    ///
    /// # Errors
    /// None for the scopes of a manifest that is valid; [`ErrorKind::Invalid`] for one with a NUL character.
    ///
    /// # Examples
    /// ```
    /// use secrecy::ExposeSecret;
    /// use zk_creds::{Environment, Manifest};
    ///
    /// let manifest = Manifest::from_json(r#"{ "solution": "crm", "services": [
    ///     { "name": "orders", "roles": ["crm_agent"], "scopes": ["payments", "tenant:*"] }
    /// ] }"#)?;
    /// let mut environment = Environment::default();
    /// environment.add_scopes(manifest.service("orders")?)?;
    /// let scopes: Vec<&str> = environment.get("ZK_SCOPES")?.expose_secret().split(' ').collect();
    /// assert_eq!(scopes, ["payments", "tenant:*"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn add_scopes(&mut self, service: &Service) -> Result<(), Error> {
        self.set("ZK_SCOPES", SecretString::from(service.scopes.join(" ")))
    }

    /// The value of a declared variable.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] when it is not declared.
    pub fn get(&self, name: &str) -> Result<&SecretString, Error> {
        self.values.get(name).ok_or_else(|| missing(&[name]))
    }

    /// The declared names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Prepares a program to run with these variables and nothing else but `PATH`, `HOME`, `TZ` and `LANG`.
    ///
    /// Values never appear among the arguments, which every user of a machine can read.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Command::new(program.as_ref(), self)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = (&String, &SecretString)> {
        self.values.iter()
    }

    /// Reads the named variables of this process, once, at its start.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`], listing all that are missing or not UTF-8.
    pub fn take(names: &[&str]) -> Result<Self, Error> {
        let mut values = BTreeMap::new();
        for name in names {
            if let Ok(value) = std::env::var(name) {
                values.insert((*name).to_owned(), SecretString::from(value));
            }
        }
        let absent: Vec<&str> = names.iter().copied().filter(|name| !values.contains_key(*name)).collect();
        if absent.is_empty() { Ok(Self { values }) } else { Err(missing(&absent)) }
    }
}

/// Says why a text cannot name a variable that is declared.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let plain = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    if plain && !INHERITED.contains(&name) {
        return Ok(());
    }
    let shown: String = name.chars().take(40).flat_map(char::escape_debug).collect();
    Err(format!("`{shown}` cannot name a variable: use A-Z, 0-9 and _, and none of {}", INHERITED.join(", ")))
}

/// Whether a variable is one of those that a login arrives in, or that libpq reads.
pub(crate) fn is_ours(name: &str) -> bool {
    name == "DATABASE_URL"
        || name == "CREDENTIALS_DIRECTORY"
        || name.starts_with("PG")
        || name.starts_with("ZK_")
}

/// Whether a variable decides what code a program loads, or what a shell or an interpreter runs before it: who may write a
/// stored secret must not be who chooses that.
pub(crate) fn loads_code(name: &str) -> bool {
    const EXACTLY: [&str; 17] = [
        "BASH_ENV",
        "CLASSPATH",
        "ENV",
        "GCONV_PATH",
        "GIT_SSH_COMMAND",
        "GLIBC_TUNABLES",
        "IFS",
        "JAVA_TOOL_OPTIONS",
        "JDK_JAVA_OPTIONS",
        "NODE_OPTIONS",
        "NODE_PATH",
        "OPENSSL_CONF",
        "PERL5LIB",
        "PERL5OPT",
        "PHPRC",
        "RUBYLIB",
        "RUBYOPT",
    ];
    ["LD_", "DYLD_", "PYTHON"].iter().any(|prefix| name.starts_with(prefix)) || EXACTLY.contains(&name)
}

fn missing(names: &[&str]) -> Error {
    let (noun, verb) = if names.len() == 1 { ("variable", "is") } else { ("variables", "are") };
    let message = format!(
        "the environment {noun} {} {verb} missing; start the service with the environment that its deployment issued",
        names.join(", ")
    );
    Error::new(ErrorKind::Missing, message)
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.values.keys().map(|name| (name, "[redacted]"))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_change_what_a_child_loads_can_not_be_smuggled_in_by_case_or_sign() {
        let mut environment = Environment::default();
        for name in ["", "1A", "lower", "A=B", "A\0", "PATH", "A B", "É"] {
            assert_eq!(
                environment.set(name, SecretString::from("x")).unwrap_err().kind(),
                ErrorKind::Invalid,
                "{name}"
            );
        }
        assert!(environment.set("NUL_INSIDE", SecretString::from("a\0b")).is_err());
    }

    #[test]
    fn all_missing_names_are_told_at_once() {
        let error = Environment::take(&["ZK_NOT_SET_1", "ZK_NOT_SET_2"]).unwrap_err();
        assert!(error.to_string().contains("ZK_NOT_SET_1, ZK_NOT_SET_2"), "{error}");
    }
}
