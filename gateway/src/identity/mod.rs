//! The gateway's own certificate and key: read so that a power cut at any moment leaves one that works, and renewed.
//!
//! A new pair is put in place in four steps, each whole or not at all: the key is written aside, the certificate is
//! written aside, the certificate takes its place, the key takes its place. Whoever reads takes the key that fits the
//! certificate, also from where it was written aside.

pub(crate) mod clock;
mod disk;
pub(crate) mod key;
pub(crate) mod renew;

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linkspan_protocol::certificate;
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub(crate) use self::disk::replace;
use self::key::NewKey;

/// Where certificate and key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate in PEM.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// For TLS.
    pub certified: Arc<CertifiedKey>,
    /// From the first to the last second in which it holds, by the server's clock.
    pub validity: RangeInclusive<u64>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{} {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Files {
    /// Certificate and key as they are now.
    pub fn load(&self) -> Result<Pair, PairError> {
        let pem = read(&self.certificate)?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().unwrap_or_default();
        let wrong = |what| PairError::Content { path: self.certificate.clone(), what };
        let first = chain.first().ok_or_else(|| wrong("holds no certificate in PEM"))?;
        let validity =
            certificate::parts(first).ok_or_else(|| wrong("holds no certificate that can be read"))?.validity;
        let mut problem = None;
        for file in [self.key.clone(), aside(&self.key)] {
            match fitting(&file, &chain) {
                Ok(certified) => return Ok(Pair { certified: Arc::new(certified), validity }),
                // What is wrong with the key in its own place is what counts.
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        Err(problem.unwrap_or_else(|| wrong("has no key")))
    }

    /// Whether either file is there.
    pub fn exist(&self) -> bool {
        self.certificate.exists() || self.key.exists()
    }

    /// The key of a request that is under way: the one written aside earlier, if its answer was lost, or a new one.
    pub(crate) fn key_under_way(&self) -> io::Result<NewKey> {
        let file = aside(&self.key);
        let current = self.load().ok();
        if let Some(key) = std::fs::read(&file).ok().and_then(|pem| NewKey::from_pem(&pem))
            && current.is_none_or(|pair| !key.is_of(&pair))
        {
            return Ok(key);
        }
        // Finishes a replacement that was cut short, before its key is overwritten.
        if let Ok(pair) = self.load()
            && let Ok(pem) = std::fs::read(&file)
            && NewKey::from_pem(&pem).is_some_and(|key| key.is_of(&pair))
        {
            std::fs::rename(&file, &self.key)?;
            disk::sync_folder(&self.key)?;
        }
        let key = NewKey::generate().map_err(|_| io::Error::other("the system has no source of randomness"))?;
        disk::write(&file, key.pem().as_bytes(), 0o600)?;
        disk::sync_folder(&file)?;
        Ok(key)
    }

    /// Puts a certificate for the key under way in place, together with that key.
    pub(crate) fn install(&self, certificate: &str) -> io::Result<()> {
        disk::replace(&self.certificate, certificate.as_bytes(), 0o644)?;
        std::fs::rename(aside(&self.key), &self.key)?;
        disk::sync_folder(&self.key)
    }

    /// Forgets the key under way: nobody certifies it.
    pub(crate) fn abandon(&self) {
        // Whatever stays is overwritten by the next request.
        let _ = std::fs::remove_file(aside(&self.key));
    }
}

fn fitting(file: &Path, chain: &[CertificateDer<'static>]) -> Result<CertifiedKey, PairError> {
    let wrong = |what| PairError::Content { path: file.to_owned(), what };
    let key = PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|_| wrong("holds no private key in PEM"))?;
    let key = any_ecdsa_type(&key).map_err(|_| wrong("holds a private key of another kind than ECDSA"))?;
    let certified = CertifiedKey::new(chain.to_vec(), key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(_) => Err(wrong("holds another key than that of the certificate")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PairError> {
    const MAX: u64 = 64 * 1024;
    let failed = |source| PairError::Read { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() || metadata.len() > MAX {
        return Err(PairError::Content { path: path.to_owned(), what: "is no file of a certificate or a key" });
    }
    std::fs::read(path).map_err(failed)
}

/// Where a file is written before it takes its place.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

#[cfg(test)]
mod tests;
