//! Reads the files that a configuration names: bounded, regular files only, and with a word for each way it can fail.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use linkspan_protocol::encoding::base64;
use linkspan_protocol::id::{SECRET_MAX, Secret};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::problem::Wrong;

/// Largest gateway.toml, in bytes: some thousands of services.
pub(super) const CONFIG_MAX: u64 = 1024 * 1024;

/// Largest bundle of CA certificates, in bytes: the usual bundle of all public ones has about 250 KB.
const BUNDLE_MAX: u64 = 1024 * 1024;

/// Largest file of CA certificates of one device, in bytes: it travels to the server in the list of devices.
const DEVICE_CA_MAX: u64 = 16 * 1024;

/// The content of a regular file of at most `max` bytes.
pub(super) fn read(path: &Path, max: u64) -> Result<(Vec<u8>, Metadata), Wrong> {
    let failed = |e: io::Error| {
        let instead = match e.kind() {
            io::ErrorKind::NotFound => "create it or name another one",
            io::ErrorKind::PermissionDenied => "let the user that runs linkspan-gateway read it",
            _ => "look at the file and its disk",
        };
        Wrong::new(format!("{} cannot be read: {e}", path.display()), instead)
    };
    // Looked at before it is opened: opening a pipe would wait for somebody to write into it.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(Wrong::new(format!("{} is not a regular file", path.display()), "name a file"));
    }
    let mut content = Vec::new();
    File::open(path).and_then(|file| file.take(max + 1).read_to_end(&mut content)).map_err(failed)?;
    if content.len() as u64 > max {
        return Err(Wrong::new(format!("{} is larger than {max} bytes", path.display()), "name a smaller file"));
    }
    Ok((content, metadata))
}

/// Whether users that are neither the owner nor of the group can read or change the file.
pub(super) fn open_to_others(metadata: &Metadata) -> bool {
    metadata.mode() & 0o006 != 0
}

/// A shared secret, without the white space around it.
pub(super) fn secret(path: &Path) -> Result<(Secret, Metadata), Wrong> {
    let (content, metadata) = read(path, 4 * SECRET_MAX as u64)?;
    let instead = "write into it the secret that `linkspan-server gateway add --secret NAME` printed, and nothing else";
    let wrong = |what: &str| Wrong::new(format!("{} {what}", path.display()), instead);
    let text = std::str::from_utf8(&content).map_err(|_| wrong("does not hold text"))?.trim();
    if text.is_empty() {
        return Err(wrong("is empty"));
    }
    if text.len() > SECRET_MAX {
        return Err(wrong(&format!("holds more than {SECRET_MAX} characters")));
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(wrong("holds more than one word"));
    }
    Ok((Secret::new(text), metadata))
}

/// The CA certificates of a bundle in PEM.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let (content, _) = read(path, BUNDLE_MAX)?;
    parse_certificates(path, &content)
}

/// The CA certificates of a device as PEM text, once it is sure that there are some.
pub(super) fn device_ca(path: &Path) -> Result<String, Wrong> {
    let (content, _) = read(path, DEVICE_CA_MAX)?;
    let certificates = parse_certificates(path, &content)?;
    // Written anew: a private key or a secret that sits in the same file must not travel.
    Ok(certificates.iter().map(|certificate| pem(certificate)).collect())
}

fn parse_certificates(path: &Path, content: &[u8]) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let instead = "write certificates in PEM, beginning with -----BEGIN CERTIFICATE-----";
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
    match parsed {
        Ok(certificates) if !certificates.is_empty() => {
            let unusable =
                |certificate: &CertificateDer<'static>| RootCertStore::empty().add(certificate.clone()).is_err();
            if certificates.iter().any(unusable) {
                return Err(Wrong::new(format!("a certificate in {} is no CA certificate", path.display()), instead));
            }
            Ok(certificates)
        }
        Ok(_) => Err(Wrong::new(format!("{} holds no certificate", path.display()), instead)),
        Err(_) => Err(Wrong::new(format!("{} is not proper PEM", path.display()), instead)),
    }
}

fn pem(certificate: &[u8]) -> String {
    let base64 = base64(certificate);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for (n, c) in base64.chars().enumerate() {
        if n > 0 && n % 64 == 0 {
            text.push('\n');
        }
        text.push(c);
    }
    text.push_str("\n-----END CERTIFICATE-----\n");
    text
}
