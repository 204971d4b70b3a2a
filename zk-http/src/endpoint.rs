//! Where a service is.

use std::{net::IpAddr, time::Duration};

use reqwest::Url;

use crate::{Error, ErrorKind};

/// Where a service is reached, and how long is waited for it.
///
/// ```
/// use zk_http::Endpoint;
///
/// assert!(Endpoint::new("https://vault.internal:8200").is_ok());
/// assert!(Endpoint::new("http://127.0.0.1:8200").is_ok());
/// // Without TLS a token would be readable on the way.
/// assert!(Endpoint::new("http://vault.internal:8200").is_err());
/// ```
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub(crate) address: Url,
    pub(crate) timeout: Duration,
    pub(crate) authorities: Option<Vec<u8>>,
}

impl Endpoint {
    /// Takes an address: `https://host[:port]`, or `http://` and `localhost` or a loopback address. Waits 10 seconds for an
    /// answer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for any other text, also for a host in a spelling that parsers of URLs rewrite: what is read
    /// in the configuration is where requests go.
    pub fn new(address: &str) -> Result<Self, Error> {
        let invalid = || {
            let text = "the address of a service is `https://host[:port]`; `http://` is for the loopback address only";
            Error::new(ErrorKind::Invalid, text)
        };
        let url = Url::parse(address).map_err(|_| invalid())?;
        let host = url.host_str().ok_or_else(invalid)?;
        let written = address.strip_prefix(url.scheme()).and_then(|rest| rest.strip_prefix("://"));
        // SECURITY: `127.1`, `0x7f.1`, `ⓔvil` and `a@b` are read as another host than they show.
        let (shown, after) =
            written.and_then(|rest| rest.split_at_checked(host.len())).ok_or_else(invalid)?;
        if !shown.eq_ignore_ascii_case(host) {
            return Err(invalid());
        }
        let port =
            |text: &str| text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|p| p > 0));
        let is_bare = after.is_empty() || after == "/" || port(after.strip_suffix('/').unwrap_or(after));
        match url.scheme() {
            "https" if is_bare => {}
            "http" if is_bare && is_loopback(host) => {}
            _ => return Err(invalid()),
        }
        Ok(Self { address: url, timeout: Duration::from_secs(10), authorities: None })
    }

    /// Waits this long for a connection, and this long for an answer to its end.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Trusts these certificate authorities, PEM, and no others.
    #[must_use]
    pub fn trusting(self, authorities: impl Into<Vec<u8>>) -> Self {
        Self { authorities: Some(authorities.into()), ..self }
    }

    /// Whether requests go without TLS, to this machine.
    pub(crate) fn is_plain(&self) -> bool {
        self.address.scheme() == "http"
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']);
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_or_the_loopback_address() {
        for good in [
            "https://vault.internal:8200",
            "https://vault.internal:443",
            "https://vault.internal/",
            "https://h",
            "https://10.0.0.7:8200",
            "https://[fd00::1]:8200",
            "http://127.0.0.1:1",
            "http://127.0.0.9:1/",
            "http://localhost:1",
            "http://[::1]:1",
            "https://Vault.internal",
        ] {
            let endpoint = Endpoint::new(good).unwrap();
            let host = endpoint.address.host_str().unwrap().to_owned();
            assert!(good.to_ascii_lowercase().split("://").nth(1).unwrap().starts_with(&host), "{good}");
        }
        for bad in [
            "http://vault.internal",
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example",
            "http://[::2]:1",
            "https://u@h",
            "https://u:p@h",
            "https://:p@h",
            "https://@h",
            "https://h@h",
            "https://h/path",
            "https://h//",
            "https://h/.",
            "https://h:1/path",
            "https://h?q",
            "https://h#f",
            "https://h:1?q",
            "https://h\\path",
            "https:h",
            "https:///h",
            "HTTPS://h",
            "https://127.1",
            "https://0x7f.1",
            "https://2130706433",
            "https://ⓔvil.example",
            "https://exam%70le",
            "https://h.:1#",
            "ftp://h",
            "file:///etc/passwd",
            "https://",
            "https://h:0",
            "https://h:",
            "https://h:99999",
            "https://h\r\nx: y",
            " https://h",
            "https://h\n",
            "https://h h",
            "h",
            "",
        ] {
            assert!(Endpoint::new(bad).is_err(), "{bad}");
        }
    }
}
