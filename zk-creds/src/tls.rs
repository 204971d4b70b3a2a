//! TLS configurations that verify.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::error::{Error, ErrorKind};

/// A client configuration that trusts the certificates in `roots`, in PEM, and nothing else: chain and server name are
/// verified, TLS 1.2 is the floor. The provider is named here and not taken from the process (RFC 9325).
///
/// # Errors
/// [`ErrorKind::Invalid`] when `roots` holds no certificate, or one that cannot be read.
///
/// # Examples
/// ```
/// assert!(zk_creds::tls::client_config(b"not a certificate").is_err());
/// ```
pub fn client_config(roots: &[u8]) -> Result<ClientConfig, Error> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(roots) {
        let certificate = certificate.map_err(|e| unreadable().because(e))?;
        store.add(certificate).map_err(|e| unreadable().because(e))?;
    }
    if store.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "the root certificates hold no certificate in PEM form"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| unreadable().because(e))?
        .with_root_certificates(store)
        .with_no_client_auth())
}

fn unreadable() -> Error {
    Error::new(ErrorKind::Invalid, "the root certificates cannot be read")
}
