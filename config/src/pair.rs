//! The gateway's certificate and key, as they are on disk: whichever key fits, also one that is on its way to its place.

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linkspan_protocol::certificate;
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

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
pub fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}
