//! Writes files so that after a power cut either the old or the new one is there, whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use super::aside;

/// Replaces a file, or makes it.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let new = aside(path);
    write(&new, content, mode)?;
    fs::rename(&new, path)?;
    sync_folder(path)
}

/// Writes a file to the disk; one of that name that a power cut left is removed first, since it may have another mode.
pub(super) fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    give_to_owner_of_folder(&file, path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// What root writes (`enroll`) is for the daemon, which runs as whoever owns the folder.
fn give_to_owner_of_folder(file: &File, path: &Path) -> io::Result<()> {
    let owner = fs::metadata(folder(path))?;
    if file.metadata()?.uid() == 0 && owner.uid() != 0 {
        fchown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// Makes the names in the folder of a file last.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
