//! What the command line says.

use std::{env, fs, path::PathBuf};

use secrecy::SecretString;
use zk_kms::OpenConfig;

use crate::Result;

pub const USAGE: &str = "\
usage: any-cloud                           over every service that runs here
       any-cloud --kms <URI> [option]...   over this key

  --create               make the key first, unless it is there
  --endpoint <URL>       send requests there: a private endpoint, an emulator
  --ca <file>            trust the authorities in this PEM file too
  --fingerprint <digits> the public key of a key pair
  --key-ring <file>      where a local key ring is

ANY_CLOUD_PASSPHRASE opens a key ring; ANY_CLOUD_TOKEN is a token for Vault, Google or Azure.
";

#[derive(Default)]
pub struct Options {
    pub kms: Option<String>,
    pub create: bool,
    pub help: bool,
    pub key_ring: Option<PathBuf>,
    endpoint: Option<String>,
    fingerprint: Option<String>,
    authorities: Option<PathBuf>,
}

impl Options {
    pub fn parse(mut parser: lexopt::Parser) -> Result<Self> {
        use lexopt::prelude::*;
        let mut options = Self::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("kms") => options.kms = Some(parser.value()?.string()?),
                Long("endpoint") => options.endpoint = Some(parser.value()?.string()?),
                Long("ca") => options.authorities = Some(parser.value()?.into()),
                Long("fingerprint") => options.fingerprint = Some(parser.value()?.string()?),
                Long("key-ring") => options.key_ring = Some(parser.value()?.into()),
                Long("create") => options.create = true,
                Short('h') | Long("help") => options.help = true,
                other => return Err(other.unexpected().into()),
            }
        }
        let Self { kms, create, help, key_ring, endpoint, fingerprint, authorities } = &options;
        let others = *create
            || endpoint.is_some()
            || fingerprint.is_some()
            || authorities.is_some()
            || key_ring.is_some();
        if kms.is_none() && others && !help {
            return Err("these options belong to a key: name it with `--kms`".into());
        }
        Ok(options)
    }

    /// What zk-kms is told.
    pub fn config(&self) -> Result<OpenConfig> {
        let mut config = OpenConfig::new();
        if let Some(endpoint) = &self.endpoint {
            config = config.endpoint(endpoint);
        }
        if let Some(path) = &self.authorities {
            let pem = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
            config = config.certificate_authorities(pem);
        }
        if let Some(fingerprint) = &self.fingerprint {
            config = config.fingerprint(fingerprint);
        }
        if let Some(token) = from_environment("ANY_CLOUD_TOKEN") {
            config = config.bearer_token(token);
        }
        if let Some(path) = &self.key_ring {
            config = config.key_ring(path, passphrase()?);
        }
        Ok(config)
    }

    pub fn has_fingerprint(&self) -> bool {
        self.fingerprint.is_some()
    }
}

pub fn passphrase() -> Result<SecretString> {
    from_environment("ANY_CLOUD_PASSPHRASE")
        .ok_or_else(|| "a key ring needs its passphrase: set ANY_CLOUD_PASSPHRASE".into())
}

fn from_environment(name: &str) -> Option<SecretString> {
    env::var(name).ok().filter(|value| !value.is_empty()).map(SecretString::from)
}
