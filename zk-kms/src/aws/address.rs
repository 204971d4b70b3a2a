//! Where AWS' SDK may send requests. The other services are reached through zk-http, which has the same rule.

use crate::{Error, key::is_host};

/// Checks the address of a service: `https://host[:port]`, or `http://` and the loopback address.
pub(super) fn check_address(address: &str) -> Result<(), Error> {
    let host = |scheme| address.strip_prefix(scheme).filter(|host| is_host(host));
    let name = |host: &str| host.split(':').next().map(str::to_owned);
    if host("https://").is_some() {
        return Ok(());
    }
    match host("http://").and_then(name).as_deref() {
        Some("127.0.0.1" | "localhost") => Ok(()),
        _ => Err(Error::invalid(
            "the address of a service is `https://host[:port]`; `http://` is for the loopback address only",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_or_the_loopback_address() {
        for good in ["https://vault.internal:8200", "https://h", "http://127.0.0.1:1", "http://localhost:1"] {
            check_address(good).unwrap();
        }
        for bad in [
            "http://vault.internal",
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example",
            "https://u@h",
            "https://u:p@h",
            "https://h/path",
            "https://h?q",
            "https://h#f",
            "ftp://h",
            "file:///etc/passwd",
            "https://",
            "https://h:0",
            "https://h\r\nx: y",
            "https://[::1]",
            "h",
            "",
        ] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
