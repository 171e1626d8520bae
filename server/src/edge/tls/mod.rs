//! The server's side of TLS: its settings, and a certificate that can be replaced while the server runs.

mod clients;
mod files;
mod gateway_ca;
mod own_ca;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use linkspan_protocol::certificate::parts;
use linkspan_protocol::message::ALPN;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ConfigBuilder, ServerConfig, WantsVerifier};
use rustls_pki_types::ServerName;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::clients::GatewayVerifier;
pub use self::clients::TlsSettings;
pub use self::gateway_ca::{GatewayCa, PublicKey, pem};

/// How often a running server looks whether its certificate has changed or must be renewed.
const LOOK: Duration = Duration::from_secs(3600);
/// A certificate from files is complained about when less than this is left.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 24 * 3600);

/// Where the certificate comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Files that somebody else renews.
    Files {
        /// The chain in PEM, the server's own certificate first.
        certificate_file: PathBuf,
        /// Its private key in PEM.
        key_file: PathBuf,
    },
    /// A certificate authority of our own, kept in this folder.
    OwnCa {
        /// The folder.
        state_dir: PathBuf,
        /// Host of the console.
        console: String,
        /// The zone of the devices.
        zone: String,
    },
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}; check the path in [tls] and who may read it")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}; check that state_dir exists, has room, and belongs to the server's user")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A file holds something else than it should.
    #[error("{path}: {what}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what should stand there.
        what: String,
    },
    /// The cryptography refused.
    #[error("cannot make a certificate: {0}")]
    Make(String),
}

/// The server's certificate; clones share it.
#[derive(Clone, Debug)]
pub struct Certificates {
    source: Source,
    provider: Arc<CryptoProvider>,
    current: Arc<Mutex<Arc<CertifiedKey>>>,
    public_keys: Arc<watch::Sender<Vec<String>>>,
}

impl Certificates {
    /// Loads the certificate, or makes it.
    pub fn load(source: Source) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let current = load(&source, &provider)?;
        let public_keys = Arc::new(watch::Sender::new(public_keys(&current)));
        Ok(Self { source, provider, current: Arc::new(Mutex::new(Arc::new(current))), public_keys })
    }

    /// The TLS settings of all secure ports. Only gateways are asked for a certificate, one of this authority.
    pub fn settings(&self, authority: &GatewayCa) -> Result<TlsSettings, TlsError> {
        let verifier = GatewayVerifier::new(authority.roots(), Arc::clone(&self.provider)).map_err(TlsError::Make)?;
        let builder = self.builder()?.with_client_cert_verifier(Arc::new(verifier));
        let mut gateways = builder.with_cert_resolver(Arc::new(self.clone()));
        gateways.alpn_protocols = vec![ALPN.to_vec(), b"http/1.1".to_vec()];
        let mut people = self.builder()?.with_no_client_auth().with_cert_resolver(Arc::new(self.clone()));
        people.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Each with keys of its own: what was agreed on under one of them cannot be gone on with under the other.
        for config in [&mut gateways, &mut people] {
            // Gateways and browsers open one connection and use a ticket once; each costs some 250 bytes of a SIM's.
            config.send_tls13_tickets = 1;
            config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(made)?;
        }
        Ok(TlsSettings { people: Arc::new(people), gateways: Arc::new(gateways) })
    }

    fn builder(&self) -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, TlsError> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        builder.with_safe_default_protocol_versions().map_err(made)
    }

    /// The public keys by which a gateway can know this server again: that of the certificate, and those of the
    /// authorities that are sent with it. As `sha256:` and 64 digits, of the whole SubjectPublicKeyInfo.
    pub fn public_keys_watched(&self) -> watch::Receiver<Vec<String>> {
        self.public_keys.subscribe()
    }

    /// The authority that has to be given to those who should trust this server; none if everybody knows it.
    pub fn own_authority(&self) -> Option<String> {
        let Source::OwnCa { state_dir, .. } = &self.source else { return None };
        std::fs::read_to_string(own_ca::certificate_file(state_dir)).ok()
    }

    /// Loads the certificate again, or renews it; true if new connections get another one from now on.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let new = load(&self.source, &self.provider)?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = current.cert != new.cert;
        if changed {
            self.public_keys.send_replace(public_keys(&new));
            *current = Arc::new(new);
        }
        Ok(changed)
    }

    /// Looks after the certificate while the server runs.
    pub async fn keep(&self, stop: &CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let certificates = self.clone();
            match tokio::task::spawn_blocking(move || certificates.refresh()).await {
                Ok(Ok(true)) => tracing::info!("the certificate was replaced"),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "the certificate stays as it was");
                }
                Err(error) => tracing::error!(%error, "looking after the certificate failed"),
            }
            self.warn_if_ending();
        }
    }

    /// Those of these hosts that the certificate does not name: browsers will refuse them.
    pub fn unnamed<'h>(&self, hosts: &[&'h str]) -> Vec<&'h str> {
        let current = Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner));
        let parsed =
            current.end_entity_cert().ok().and_then(|certificate| ParsedCertificate::try_from(certificate).ok());
        let names = |host: &str| match (&parsed, ServerName::try_from(host)) {
            (Some(certificate), Ok(name)) => verify_server_name(certificate, &name).is_ok(),
            _ => false,
        };
        hosts.iter().copied().filter(|host| !names(host)).collect()
    }

    /// When the certificate ends.
    pub fn not_after(&self) -> Option<Timestamp> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.end_entity_cert().ok().and_then(|certificate| not_after(certificate))
    }

    /// Says so, loudly, if the certificate ends soon.
    pub fn warn_if_ending(&self) {
        let soon = Timestamp::now().saturating_add(WARN_BEFORE).unwrap_or(Timestamp::MAX);
        if let Some(end) = self.not_after().filter(|end| *end < soon) {
            tracing::warn!(%end, "the server's certificate ends soon, or has ended; put a new one in its place");
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The SHA-256 of the certificate that a server with an authority of its own shows, if it was made already.
pub fn own_fingerprint(state_dir: &Path) -> Option<String> {
    let leaf = own_ca::leaf_made(state_dir)?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &leaf);
    Some(format!("sha256:{}", data_encoding::HEXLOWER.encode(digest.as_ref())))
}

/// When a certificate ends; none if it is not a certificate.
pub fn not_after(der: &[u8]) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(*parts(der)?.validity.end()).ok()?).ok()
}

fn public_keys(current: &CertifiedKey) -> Vec<String> {
    let sha256 = |bytes| ring::digest::digest(&ring::digest::SHA256, bytes);
    let key = |certificate| parts(certificate).map(|parts| sha256(parts.public_key));
    let digits = |key: ring::digest::Digest| format!("sha256:{}", data_encoding::HEXLOWER.encode(key.as_ref()));
    current.cert.iter().filter_map(|certificate| key(certificate)).map(digits).collect()
}

fn made(error: impl std::fmt::Display) -> TlsError {
    TlsError::Make(error.to_string())
}

fn load(source: &Source, provider: &Arc<CryptoProvider>) -> Result<CertifiedKey, TlsError> {
    match source {
        Source::Files { certificate_file, key_file } => files::load(certificate_file, key_file, provider),
        Source::OwnCa { state_dir, console, zone } => {
            own_ca::load(state_dir, &own_ca::names(console, zone), provider, Timestamp::now())
        }
    }
}

#[cfg(test)]
mod tests;
