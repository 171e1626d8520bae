//! Which certificate authorities vouch for a server: the system's, and the one the person names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject};

/// Why it cannot be told which servers to trust.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// The file of the given authority cannot be read as certificates.
    #[error("cannot read the certificate authority {}: {cause}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        cause: String,
    },
    /// No authority at all: every server would be refused.
    #[error("this system lists no certificate authorities (package ca-certificates); name one with --ca-file")]
    NoAuthorities,
    /// The TLS library refused the settings.
    #[error("cannot set TLS up: {0}")]
    Tls(#[from] rustls::Error),
}

/// TLS as a client of servers that the system's authorities or those in `ca_file` vouch for.
pub(crate) fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TrustError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        add_ca_file(&mut roots, path)?;
    }
    // A broken file among the system's does not matter as long as something is left.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TrustError::NoAuthorities);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn add_ca_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TrustError> {
    let fail = |cause: String| TrustError::CaFile { path: path.to_owned(), cause };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| fail(pem_error(error)))?;
    if certificates.is_empty() {
        return Err(fail("there is no certificate in PEM form in it".to_owned()));
    }
    for certificate in certificates {
        roots.add(certificate).map_err(|error| fail(error.to_string()))?;
    }
    Ok(())
}

fn pem_error(error: pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        other => format!("not PEM: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_must_exist_and_hold_a_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let missing = client_config(Some(&dir.path().join("none.pem"))).unwrap_err().to_string();
        assert!(missing.contains("none.pem") && missing.contains("No such file"), "{missing}");

        let empty = dir.path().join("empty.pem");
        std::fs::write(&empty, "nothing here\n").unwrap();
        let text = client_config(Some(&empty)).unwrap_err().to_string();
        assert!(text.contains("no certificate"), "{text}");

        let broken = dir.path().join("broken.pem");
        std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n").unwrap();
        assert!(matches!(client_config(Some(&broken)), Err(TrustError::CaFile { .. })));
    }
}
