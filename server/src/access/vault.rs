//! Seals secrets that must be kept readable (those that make codes) with a key beside the database, so that a copy of
//! the database alone gives none of them away.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::token::random_bytes;

/// The file's name in the state directory.
const FILE: &str = "secrets.key";

/// Seals and opens; clones share the key.
#[derive(Clone)]
pub struct Vault {
    key: Arc<LessSafeKey>,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the key {}", path.display())]
pub struct VaultError {
    path: PathBuf,
    source: io::Error,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(…)")
    }
}

impl Vault {
    /// With the key in this directory, which is made at the first start.
    ///
    /// # Errors
    /// The file cannot be read or made, or is no key.
    pub fn open(state_dir: &Path) -> Result<Self, VaultError> {
        let path = state_dir.join(FILE);
        let bytes = match read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(&path),
            other => other,
        };
        bytes.map(|bytes| Self::with(&bytes)).map_err(|source| VaultError { path, source })
    }

    /// With a key that is forgotten when the process ends.
    pub fn forgetful() -> Self {
        Self::with(&random_bytes())
    }

    /// Seals a secret for one place: it opens nowhere else.
    #[expect(clippy::expect_used, reason = "AES-GCM fails only beyond 64 GiB")]
    pub(super) fn seal(&self, secret: &[u8], place: &str) -> String {
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(random_bytes().split_at(NONCE_LEN).0);
        let mut text = secret.to_vec();
        let (once, aad) = (Nonce::assume_unique_for_key(nonce), Aad::from(place.as_bytes()));
        self.key.seal_in_place_append_tag(once, aad, &mut text).expect("a secret is short");
        BASE64.encode(&[&nonce[..], &text].concat())
    }

    /// Opens what was sealed for this place; none if it was not, or with another key.
    pub(super) fn open_sealed(&self, sealed: &str, place: &str) -> Option<Vec<u8>> {
        let mut bytes = BASE64.decode(sealed.as_bytes()).ok()?;
        let (nonce, text) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        self.key.open_in_place(nonce, Aad::from(place.as_bytes()), text).ok().map(|opened| opened.to_vec())
    }

    #[expect(clippy::expect_used, reason = "a key of AES-256 has 32 bytes")]
    fn with(bytes: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, bytes).expect("32 bytes");
        Self { key: Arc::new(LessSafeKey::new(key)) }
    }
}

fn read(path: &Path) -> io::Result<[u8; 32]> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(1024).read_to_string(&mut text)?;
    let bytes = BASE64.decode(text.trim().as_bytes()).ok();
    let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is no key: 32 bytes in base64"))
}

/// Of several that make it at once, one wins; the others read its key.
fn make(path: &Path) -> io::Result<[u8; 32]> {
    let bytes = random_bytes();
    let aside = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    writeln!(file, "{}", BASE64.encode(&bytes))?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&aside, path);
    std::fs::remove_file(&aside)?;
    match linked {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_sealed_opens_with_the_same_key_in_the_same_place() {
        let dir = tempfile::tempdir().unwrap();
        let sealed = Vault::open(dir.path()).unwrap().seal(b"secret", "user 1");
        assert_ne!(sealed, Vault::open(dir.path()).unwrap().seal(b"secret", "user 1"), "never the same twice");
        let again = Vault::open(dir.path()).unwrap();
        assert_eq!(again.open_sealed(&sealed, "user 1").unwrap(), b"secret");
        assert_eq!(again.open_sealed(&sealed, "user 2"), None);
        assert_eq!(Vault::forgetful().open_sealed(&sealed, "user 1"), None);
        for bad in ["", "x", "AAAA", &sealed[..sealed.len() - 4]] {
            assert_eq!(again.open_sealed(bad, "user 1"), None, "{bad}");
        }
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_no_key_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "hello").unwrap();
        let told = Vault::open(dir.path()).unwrap_err().to_string();
        assert!(told.contains(FILE), "{told}");
    }
}
