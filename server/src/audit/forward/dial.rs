//! Connections to where the audit is sent: TCP, and TLS that is verified against the system's authorities or a file's.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// For a connection, TLS included.
const DIAL: Duration = Duration::from_secs(10);

/// What a connection is read from and written to.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Io for T {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answers there.
    #[error("cannot connect to {host}:{port}")]
    Connect {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The authorities cannot be read.
    #[error("cannot read the certificate authorities in {}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// There are no authorities.
    #[error("there are no certificate authorities to trust; install ca-certificates, or name a `ca_file`")]
    NoAuthorities,
    /// It cannot be a host's name.
    #[error("`{0}` cannot be the name of a host")]
    Name(String),
    /// TLS cannot be set up at all.
    #[error("TLS cannot be used")]
    Tls(#[from] rustls::Error),
}

/// A host, its port, and whether it is spoken to over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name or the address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Over TLS.
    pub tls: bool,
}

/// Connects, within a deadline.
pub(super) async fn dial(place: &Place, tls: Option<&TlsConnector>) -> Result<Box<dyn Io>, DialError> {
    let Place { host, port, .. } = place;
    let failed = |source| DialError::Connect { host: host.clone(), port: *port, source };
    let connect = async {
        let socket = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
        let Some(tls) = tls else { return Ok(Box::new(socket) as Box<dyn Io>) };
        let name = ServerName::try_from(host.clone()).map_err(|_| DialError::Name(host.clone()))?;
        let secured = tls.connect(name, socket).await.map_err(failed)?;
        Ok(Box::new(secured) as Box<dyn Io>)
    };
    let late = |_| failed(io::ErrorKind::TimedOut.into());
    tokio::time::timeout(DIAL, connect).await.map_err(late)?
}

/// Trusts the authorities in the file, or the system's.
pub(super) fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, DialError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let wrong = |source| DialError::Authorities { path: path.to_owned(), source };
            for certificate in CertificateDer::pem_file_iter(path).map_err(wrong)? {
                roots.add(certificate.map_err(wrong)?)?;
            }
        }
        None => {
            // Some certificates of a system may be unreadable; the others count.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(DialError::NoAuthorities);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}
