//! The address of a server as people write it, checked: https, a host, a port, nothing else.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

/// Where a server is: always https.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerAddress {
    host: Host<String>,
    port: u16,
}

/// Why a text is not the address of a server.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    /// Nothing was written.
    #[error("the server's address is empty; write it like https://remote.example.com")]
    Empty,
    /// In the clear, passwords and tokens would be for everybody to read.
    #[error("a password is never sent over plain http; write https://{0}")]
    Plain(String),
    /// Another scheme than https.
    #[error("a server's address begins with https://, not {0}://")]
    Scheme(String),
    /// A name or password inside the address ends up in the history and in process lists.
    #[error("leave the name and password out of the address; they are asked for, or see --name and --password-stdin")]
    UserInfo,
    /// A path, a query or a fragment.
    #[error("the server's address ends after the host and port: https://{0}")]
    Path(String),
    /// Not an address at all.
    #[error("`{text}` is not the address of a server ({cause}); write it like https://remote.example.com")]
    Malformed {
        /// What was written.
        text: String,
        /// What the parser found wrong.
        cause: url::ParseError,
    },
}

impl ServerAddress {
    /// The host: a name or an address.
    pub(crate) fn host(&self) -> &Host<String> {
        &self.host
    }

    /// The host as it is written for name look-up and in certificates: an IPv6 address without brackets.
    pub(crate) fn host_text(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        }
    }

    /// The TCP port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Host, and the port where it is not 443: the value of `Host`.
    pub(crate) fn authority(&self) -> String {
        match self.port {
            443 => self.host.to_string(),
            port => format!("{}:{port}", self.host),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

impl FromStr for ServerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        let full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let url = Url::parse(&full).map_err(|cause| AddressError::Malformed { text: text.to_owned(), cause })?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::UserInfo);
        }
        match url.scheme() {
            "https" => {}
            "http" => return Err(AddressError::Plain(url.authority().to_owned())),
            other => return Err(AddressError::Scheme(other.to_owned())),
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(AddressError::Path(url.authority().to_owned()));
        }
        let host = url.host().ok_or(AddressError::Empty)?.to_owned();
        Ok(Self { host, port: url.port_or_known_default().unwrap_or(443) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_is_kept() {
        for (written, kept) in [
            ("https://Remote.Example.com/", "https://remote.example.com"),
            ("https://remote.example.com:443", "https://remote.example.com"),
            ("remote.example.com:8443", "https://remote.example.com:8443"),
            (" remote.example.com ", "https://remote.example.com"),
            ("https://[::1]:8443", "https://[::1]:8443"),
            ("https://127.0.0.1", "https://127.0.0.1"),
        ] {
            assert_eq!(written.parse::<ServerAddress>().map(|a| a.to_string()).as_deref(), Ok(kept), "{written}");
        }
        let six: ServerAddress = "https://[::1]:8443".parse().unwrap();
        assert_eq!((six.host_text().as_str(), six.port(), six.authority().as_str()), ("::1", 8443, "[::1]:8443"));
    }

    #[test]
    fn what_cannot_be_safe_is_refused_with_the_right_spelling() {
        let refuse = |text: &str| text.parse::<ServerAddress>().unwrap_err();
        assert_eq!(refuse("http://a.example:8080/x"), AddressError::Plain("a.example:8080".into()));
        assert_eq!(refuse("ftp://a.example"), AddressError::Scheme("ftp".into()));
        assert_eq!(refuse("https://anna:pw@a.example"), AddressError::UserInfo);
        assert_eq!(refuse("https://a.example/console"), AddressError::Path("a.example".into()));
        assert_eq!(refuse("https://a.example/?x=1"), AddressError::Path("a.example".into()));
        assert_eq!(refuse("  "), AddressError::Empty);
        assert!(matches!(refuse("https://"), AddressError::Malformed { .. }));
        assert!(matches!(refuse("a b"), AddressError::Malformed { .. }));
    }
}
