//! The Unix socket of the status: one gateway holds it, whoever connects reads one snapshot as one line of JSON, and then
//! in words. The words are the running gateway's, so that `status` need not understand the JSON: 50 KB of a router's flash.

use std::fs::{File, Permissions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use super::snapshot::Sources;
use super::text::text;

/// Time for one reader to take its snapshot, and for an answer.
const READER_DEADLINE: Duration = Duration::from_secs(5);

/// Pause after a failed accept: there are no file descriptors, and trying at once would not find any.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Longest snapshot that is read, in bytes.
const SNAPSHOT_MAX: u64 = 16 * 1024 * 1024;

/// The right to serve at a path. It is a lock on a file beside the socket, which the kernel takes back whatever way the
/// process ends: so a socket that was left behind is told from one that is in use.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    _lock: File,
}

/// Why a socket was not claimed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    #[error("another linkspan-gateway runs with this configuration already; its status socket is {}", .0.display())]
    InUse(PathBuf),
    #[error("there is no status socket at {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Socket {
    pub(crate) fn claim(path: &Path) -> Result<Self, ClaimError> {
        let failed = |source| ClaimError::Io { path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let mut lock_path = path.to_owned().into_os_string();
        lock_path.push(".lock");
        let lock = File::options().create(true).truncate(false).write(true).open(lock_path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(ClaimError::InUse(path.to_owned())),
            Err(TryLockError::Error(e)) => Err(failed(e)),
        }
    }

    /// Listens. The socket appears at its path only once nobody else may use it, and replaces one left behind.
    pub(crate) fn bind(&self) -> io::Result<UnixListener> {
        match std::fs::symlink_metadata(&self.path) {
            Ok(found) if !found.file_type().is_socket() => {
                let text = format!("{} is there and is no socket; it is left alone", self.path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            Ok(_) | Err(_) => {}
        }
        let mut new = self.path.clone().into_os_string();
        new.push(".new");
        match std::fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&new)?;
        std::fs::set_permissions(&new, Permissions::from_mode(0o600))?;
        std::fs::rename(&new, &self.path)?;
        Ok(listener)
    }

    /// Answers for ever, one reader after the other: they are few, and each has a deadline.
    pub(crate) async fn serve(listener: UnixListener, sources: Sources) {
        loop {
            match listener.accept().await {
                Ok((mut reader, _)) => {
                    let told = timeout(READER_DEADLINE, tell(&mut reader, &sources)).await;
                    if !matches!(told, Ok(Ok(()))) {
                        log::debug!("status: a reader went away: {told:?}");
                    }
                }
                Err(e) => {
                    log::warn!("status: {e}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let is_socket = std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.file_type().is_socket());
        if is_socket && let Err(e) = std::fs::remove_file(&self.path) {
            log::debug!("status: {}: {e}", self.path.display());
        }
    }
}

async fn tell(reader: &mut UnixStream, sources: &Sources) -> io::Result<()> {
    let snapshot = sources.snapshot();
    let mut told = serde_json::to_vec(&snapshot)?;
    told.push(b'\n');
    told.extend_from_slice(text(&snapshot).as_bytes());
    reader.write_all(&told).await?;
    reader.shutdown().await
}

/// Why a gateway did not tell its status.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens at the socket.
    #[error("no linkspan-gateway answers at {}: {source}", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else listens there, or another version.
    #[error("what answers at {} tells no status: is it a linkspan-gateway of this version?", .0.display())]
    Strange(PathBuf),
}

/// How a gateway is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// A [`Snapshot`](super::Snapshot) as one line of JSON.
    pub json: String,
    /// The same in words.
    pub text: String,
}

/// Asks the gateway that serves at a path.
pub fn ask(path: &Path) -> Result<Told, AskError> {
    let told = read(path).map_err(|source| AskError::NotRunning { path: path.to_owned(), source })?;
    match told.split_once('\n') {
        Some((json, text)) if json.starts_with('{') => Ok(Told { json: format!("{json}\n"), text: text.to_owned() }),
        _ => Err(AskError::Strange(path.to_owned())),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let stream = StdUnixStream::connect(path)?;
    stream.set_read_timeout(Some(READER_DEADLINE))?;
    let mut told = String::new();
    stream.take(SNAPSHOT_MAX).read_to_string(&mut told)?;
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_one_may_serve_and_what_a_dead_one_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/gateway.sock");
        let socket = Socket::claim(&path).unwrap();
        let listener = socket.bind().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Socket::claim(&path), Err(ClaimError::InUse(_))));
        drop(listener);
        drop(socket);
        assert!(!path.exists(), "an orderly end leaves nothing");
        // As after kill -9: the socket stays, the lock does not.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(ask(&path), Err(AskError::NotRunning { .. })));
        let socket = Socket::claim(&path).unwrap();
        let _listener = socket.bind().unwrap();
        assert!(UnixStream::connect(&path).await.is_ok());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.sock");
        std::fs::write(&path, "precious").unwrap();
        let socket = Socket::claim(&path).unwrap();
        assert_eq!(socket.bind().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        drop(socket);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
