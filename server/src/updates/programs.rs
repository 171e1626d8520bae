//! The programs that the server keeps: a row for each, and a file under the name of its hash.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use linkspan_config::release::{self, Head, ReleaseError, ReleaseKey};
use ring::digest::{SHA256, digest};

use crate::store::{Program, Store, StoreError};

/// Programs that are kept: some versions for each kind of router.
pub const PROGRAMS_MAX: usize = 100;

/// Where the programs are kept, and the key that they must be signed with.
#[derive(Clone, Debug)]
pub struct Programs {
    store: Store,
    state_dir: PathBuf,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It holds no key.
    #[error("{}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ReleaseError,
    },
}

/// Why a program is not kept.
#[derive(Debug, thiserror::Error)]
pub enum NotAdded {
    /// The server has no key to check it with.
    #[error("the server has no key to check programs with: put the public key at {}", .0.display())]
    NoKey(PathBuf),
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It is no bundle.
    #[error("this is no signed program: signature, head, an empty line and the program are expected")]
    Form,
    /// The signature or the head.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The program is not the one that was signed.
    #[error("the program is not the one that was signed: it was changed, or cut short")]
    Other,
    /// There is one of this version for this target.
    #[error("there is a program of version {0} for {1} already; remove it first")]
    Exists(String, String),
    /// Too many.
    #[error("{PROGRAMS_MAX} programs are kept already: remove those that no gateway needs")]
    TooMany,
    /// The file cannot be written.
    #[error("the program cannot be kept: {0}")]
    Write(#[from] io::Error),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Programs {
    /// Those of a server with this state directory.
    pub fn new(store: Store, state_dir: &Path) -> Self {
        Self { store, state_dir: state_dir.to_owned() }
    }

    /// The file of the public key.
    pub fn key_file(&self) -> PathBuf {
        self.state_dir.join("release.pub")
    }

    /// The key that programs must be signed with, and that gateways are given when they enrol; none, if the file is not there.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn key(&self) -> Result<Option<ReleaseKey>, KeyError> {
        let path = self.key_file();
        match fs::read_to_string(&path) {
            Ok(text) => text.parse().map(Some).map_err(|source| KeyError::Parse { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(KeyError::Read { path, source }),
        }
    }

    /// Keeps a program, if it is signed.
    ///
    /// # Errors
    /// [`NotAdded`].
    pub async fn add(&self, bundle: &[u8], author: &str) -> Result<Program, NotAdded> {
        let key = self.key()?.ok_or_else(|| NotAdded::NoKey(self.key_file()))?;
        let (text, begin) = release::split(bundle).ok_or(NotAdded::Form)?;
        let Head { version, target, size, sha256, .. } = release::open(text, &key)?;
        let bytes = bundle.get(begin..).unwrap_or_default();
        if bytes.len() as u64 != size || digest(&SHA256, bytes).as_ref() != sha256 {
            return Err(NotAdded::Other);
        }
        if self.store.programs().await?.len() >= PROGRAMS_MAX {
            return Err(NotAdded::TooMany);
        }
        let (version, sha256, author) = (version.to_string(), HEXLOWER.encode(&sha256), author.to_owned());
        let (head, at) = (text.to_owned(), Timestamp::now());
        let new = Program { id: 0, version, target, size, sha256, head, author, at };
        self.keep(&new, bytes)?;
        match self.store.add_program(&new).await? {
            Some(id) => Ok(Program { id, ..new }),
            None => Err(NotAdded::Exists(new.version, new.target)),
        }
    }

    /// Removes a program, and its file if no other one is the same; false if it was not there.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove(&self, program: &Program) -> Result<bool, StoreError> {
        let removed = self.store.remove_program(program.id).await?;
        let needed = self.store.programs().await?.iter().any(|other| other.sha256 == program.sha256);
        if removed
            && !needed
            && let Err(error) = fs::remove_file(self.file(program))
        {
            tracing::warn!(%error, "the file of a program cannot be removed");
        }
        Ok(removed)
    }

    /// The file of a program.
    pub fn file(&self, program: &Program) -> PathBuf {
        self.folder().join(&program.sha256)
    }

    fn folder(&self) -> PathBuf {
        self.state_dir.join("updates")
    }

    /// Under the name of its hash, a file is whole or not there.
    fn keep(&self, program: &Program, bytes: &[u8]) -> io::Result<()> {
        let (file, folder) = (self.file(program), self.folder());
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let mut word = [0; 8];
        getrandom::fill(&mut word).map_err(io::Error::other)?;
        let new = file.with_extension(HEXLOWER.encode(&word));
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).and_then(|mut opened| {
            opened.write_all(bytes)?;
            opened.sync_all()
        });
        written.and_then(|()| fs::rename(&new, &file)).inspect_err(|_| {
            // On a full disk, what came of it goes.
            let _gone = fs::remove_file(&new);
        })?;
        fs::File::open(&folder)?.sync_all()
    }
}
