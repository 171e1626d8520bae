//! The standard streams: bytes in and out on threads of their own, and lines for people that never fail a command.
//!
//! Whatever stdin is (file, pipe, terminal, socket), a blocking read on a thread works, and a thread that still waits for
//! a key does not keep the process from ending. The queues are short: a slow reader slows the sender, not the memory.

use std::io::{self, Write as _};
use std::thread;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// Bytes asked for at once: what a pipe holds on Linux.
const READ_SIZE: usize = 64 << 10;
/// Pieces between a thread and the network, each way: enough to keep both busy.
const QUEUE: usize = 16;

/// What arrives on stdin, piece by piece; the end of the queue is the end of the input.
pub(crate) fn read_input() -> io::Result<mpsc::Receiver<io::Result<Bytes>>> {
    let (pieces, queue) = mpsc::channel(QUEUE);
    thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut buffer = vec![0; READ_SIZE];
        loop {
            let piece = match raw::read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => Ok(Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default())),
                Err(error) => Err(error),
            };
            let failed = piece.is_err();
            if pieces.blocking_send(piece).is_err() || failed {
                break;
            }
        }
    })?;
    Ok(queue)
}

/// A way to stdout: what is sent is written at once; when the sender is dropped, stdout is closed.
/// The second value tells how it went, after the last byte or at the first error.
pub(crate) fn write_output() -> io::Result<(mpsc::Sender<Bytes>, oneshot::Receiver<io::Result<()>>)> {
    let (sender, mut pieces) = mpsc::channel::<Bytes>(QUEUE);
    let (tell, told) = oneshot::channel();
    thread::Builder::new().name("stdout".to_owned()).spawn(move || {
        let mut result = Ok(());
        while let Some(piece) = pieces.blocking_recv() {
            result = raw::write_all(&piece);
            if result.is_err() {
                break;
            }
        }
        raw::close_output();
        // `pieces` first: whoever sees the result finds the queue closed.
        drop(pieces);
        let _ = tell.send(result);
    })?;
    Ok((sender, told))
}

/// Writes to stdout what was asked for. A reader that went away (`| head`) has what it wanted.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Says something to the person, on stderr. If nobody listens, so be it.
pub(crate) fn note(text: &str) {
    note_part(&format!("{text}\n"));
}

/// As [`note`], without an end of line.
pub(crate) fn note_part(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(unix)]
mod raw {
    use std::io;

    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::fd::BorrowedFd;
    use rustix::io::Errno;
    use rustix::net::Shutdown;
    use rustix::stdio::{dup2_stdout, stderr, stdin, stdout};

    pub(super) fn read(buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::read(stdin(), &mut *buffer) {
                Ok(count) => return Ok(count),
                Err(error) => retry(error, stdin(), PollFlags::IN)?,
            }
        }
    }

    pub(super) fn write_all(mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(stdout(), bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) => retry(error, stdout(), PollFlags::OUT)?,
            }
        }
        Ok(())
    }

    /// The reader sees the end although this process goes on. A socket that is stdin as well (inetd, socat) has its
    /// sending side shut. Closing descriptor 1 would let the next open file take its number, so stderr takes its place.
    pub(super) fn close_output() {
        let _ = rustix::net::shutdown(stdout(), Shutdown::Write);
        let _ = dup2_stdout(stderr());
    }

    /// Waits where another process made the shared descriptor non-blocking; any other error is an error.
    fn retry(error: Errno, fd: BorrowedFd<'_>, ready: PollFlags) -> io::Result<()> {
        match error {
            Errno::INTR => Ok(()),
            Errno::AGAIN => match poll(&mut [PollFd::new(&fd, ready)], None) {
                Ok(_) | Err(Errno::INTR) => Ok(()),
                Err(error) => Err(error.into()),
            },
            error => Err(error.into()),
        }
    }
}

#[cfg(not(unix))]
mod raw {
    use std::io::{self, Read as _, Write as _};

    pub(super) fn read(buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match io::stdin().lock().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    pub(super) fn write_all(bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// Without unsafe code there is no way here; the reader sees the end when the process ends.
    pub(super) fn close_output() {}
}
