//! What the server sent, on disk: one file that is whole the old or whole the new one, also after a power cut.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use linkspan_protocol::encoding::hex;
use ring::digest::{SHA256, digest};

use crate::identity::{replace, sync_folder};

/// Largest file that is read.
const MAX: u64 = 1024 * 1024;
/// The lines in front of the document.
const REVISION: &str = "# linkspan revision ";
const ORDER: &str = "# linkspan order ";
const OWN: &str = "# linkspan own ";
const DOCUMENT: &str = "# linkspan document ";
const REMARK: &str =
    "# The server wrote this. To change something on this router, edit its own file: from then on that one counts.\n";

/// A document of the server's, and what it is in place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// Its number at the server.
    pub(super) revision: u64,
    /// The order by which it came.
    pub(super) order: String,
    /// SHA-256 of the router's own file as it was then.
    pub(super) own: String,
    /// The document.
    pub(super) text: String,
    /// Whether it is as the server wrote it.
    pub(super) intact: bool,
}

/// Where the document is that counts.
pub(super) fn place(own_file: &Path) -> PathBuf {
    crate::config::home(own_file).with_extension("central.toml")
}

/// Where a document is while it is tried.
pub(super) fn trial(own_file: &Path) -> PathBuf {
    crate::config::home(own_file).with_extension("central.trial")
}

pub(super) fn sha256(text: &str) -> String {
    hex(digest(&SHA256, text.as_bytes()).as_ref())
}

/// What a file holds; nothing, if it is not there or was not written by this program.
pub(super) fn read(path: &Path) -> Option<Kept> {
    let size = fs::metadata(path).ok()?.len();
    let content = if size <= MAX { fs::read_to_string(path).ok()? } else { return None };
    let (revision, rest) = line(&content, REVISION)?;
    let (order, rest) = line(rest, ORDER)?;
    let (own, rest) = line(rest, OWN)?;
    let (document, rest) = line(rest, DOCUMENT)?;
    let text = rest.strip_prefix(REMARK).unwrap_or(rest);
    Some(Kept {
        revision: revision.parse().ok()?,
        order: order.to_owned(),
        own: own.to_owned(),
        text: text.to_owned(),
        intact: sha256(text) == document,
    })
}

fn line<'a>(text: &'a str, key: &str) -> Option<(&'a str, &'a str)> {
    text.strip_prefix(key)?.split_once('\n')
}

/// Writes a document aside, to be tried.
pub(super) fn write_trial(own_file: &Path, kept: &Kept) -> io::Result<()> {
    let Kept { revision, order, own, text, .. } = kept;
    let document = sha256(text);
    let content = format!("{REVISION}{revision}\n{ORDER}{order}\n{OWN}{own}\n{DOCUMENT}{document}\n{REMARK}{text}");
    replace(&trial(own_file), content.as_bytes(), 0o600)
}

/// The document that was tried counts from now on.
pub(super) fn keep_trial(own_file: &Path) -> io::Result<()> {
    fs::rename(trial(own_file), place(own_file))?;
    sync_folder(own_file)
}

/// The document that was tried is forgotten.
pub(super) fn drop_trial(own_file: &Path) {
    // One that stays is found at the next start.
    if let Err(e) = fs::remove_file(trial(own_file))
        && e.kind() != io::ErrorKind::NotFound
    {
        log::warn!("{} cannot be removed: {e}", trial(own_file).display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Kept {
        let (order, own) = ("abc-0-1".into(), "0".repeat(64));
        Kept { revision: 7, order, own, text: "# Site 12\n[log]\nlevel = \"info\"\n".into(), intact: true }
    }

    #[test]
    fn of_a_file_of_uci_it_lies_where_the_gateway_may_write() {
        assert_eq!(place(Path::new("/etc/config/linkspan")), Path::new("/etc/linkspan/gateway.central.toml"));
        assert_eq!(trial(Path::new("/etc/linkspan/gateway.toml")), Path::new("/etc/linkspan/gateway.central.trial"));
    }

    #[test]
    fn what_is_written_is_read_and_what_was_edited_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gateway.toml");
        assert_eq!(read(&place(&file)), None);
        write_trial(&file, &some()).unwrap();
        assert_eq!((read(&place(&file)), read(&trial(&file))), (None, Some(some())));
        keep_trial(&file).unwrap();
        assert_eq!((read(&place(&file)), read(&trial(&file))), (Some(some()), None));
        let text = fs::read_to_string(place(&file)).unwrap();
        fs::write(place(&file), text.replace("info", "debug")).unwrap();
        assert!(!read(&place(&file)).unwrap().intact);
        fs::write(place(&file), "[log]\n").unwrap();
        assert_eq!(read(&place(&file)), None);
        drop_trial(&file);
    }
}
