//! Certificates and keys in PEM files: read with errors that say what to do, written so that half a file never stays.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// Reads a chain and its key; they must belong together.
pub(super) fn load(
    certificate_file: &Path,
    key_file: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain = chain(certificate_file, &read(certificate_file)?)?;
    let key = key(key_file, &read(key_file)?)?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        let what = format!(
            "this key does not fit the certificate in {} ({error}); both must come from the same request",
            certificate_file.display()
        );
        content(key_file, what)
    })
}

/// The certificates in a PEM text.
pub(super) fn chain(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(content(path, "no certificate in it; expected `-----BEGIN CERTIFICATE-----`")),
        Err(error) => Err(content(path, format!("not readable as PEM: {error}"))),
    }
}

/// The private key in a PEM text.
pub(super) fn key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        let what = format!("no private key in it ({error}); expected PKCS#8, PKCS#1 or SEC1 in PEM, not encrypted");
        content(path, what)
    })
}

/// The whole file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

/// Writes a file so that after a crash either the old or the new one is there, whole.
pub(super) fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    replace(path, text, mode).map_err(|source| TlsError::Write { path: path.to_owned(), source })
}

/// A complaint about what is in a file.
pub(super) fn content(path: &Path, what: impl Into<String>) -> TlsError {
    TlsError::Content { path: path.to_owned(), what: what.into() }
}

fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let aside: PathBuf = path.with_extension("new");
    // One left by a crash may have another mode.
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    File::open(folder)?.sync_all()
}
