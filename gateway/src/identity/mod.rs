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

pub(crate) use self::disk::{replace, sync_folder};
use self::key::NewKey;

use crate::config::aside;
pub(crate) use crate::config::{Files, Pair};

/// How a pair is replaced.
pub(crate) trait Replace {
    /// The key of a request that is under way: the one written aside earlier, if its answer was lost, or a new one.
    fn key_under_way(&self) -> io::Result<NewKey>;

    /// Puts a certificate for the key under way in place, together with that key.
    fn install(&self, certificate: &str) -> io::Result<()>;

    /// Forgets the key under way: nobody certifies it.
    fn abandon(&self);
}

impl Replace for Files {
    fn key_under_way(&self) -> io::Result<NewKey> {
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

    fn install(&self, certificate: &str) -> io::Result<()> {
        disk::replace(&self.certificate, certificate.as_bytes(), 0o644)?;
        std::fs::rename(aside(&self.key), &self.key)?;
        disk::sync_folder(&self.key)
    }

    fn abandon(&self) {
        // Whatever stays is overwritten by the next request.
        let _ = std::fs::remove_file(aside(&self.key));
    }
}

#[cfg(test)]
mod tests;
