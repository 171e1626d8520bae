//! Where other versions of the program lie: one that comes in, one on trial, and the one that counts. Whatever moment the power
//! fails at, each is whole or counts for nothing.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use linkspan_protocol::update::UpdateFailed;
use nix::sys::statvfs::statvfs;
use ring::digest::{Context, SHA256};

use crate::config::home;
use crate::config::release::{self, Head};
use crate::identity::{replace, sync_folder};

/// What has come in is put on the disk in steps of this; after a power cut it goes on from a step.
const STEP: u64 = 64 * 1024;
/// Flash that is left to others.
const SPARE: u64 = 512 * 1024;
/// Largest text that is read.
const TEXT_MAX: u64 = 16 * 1024;

/// The folder.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

/// What a program is to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// It comes in.
    Loading,
    /// It is on trial.
    Next,
    /// It counts, in place of the installed one.
    Adopted,
}

/// By which order a program came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// The server's word for it.
    pub(super) order: String,
    /// Within which it must have a link.
    pub(super) deadline: Duration,
    /// How often it was started on trial.
    pub(super) tries: u32,
    /// The version of the installed program at the time.
    pub(super) installed: String,
    /// Signature and head.
    pub(super) head: String,
}

impl Slot {
    fn name(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Next => "next",
            Self::Adopted => "adopted",
        }
    }
}

impl Folder {
    /// That of the gateway with this configuration: in the folder that systemd, or an init script, names for what lasts, else
    /// beside the configuration.
    pub(super) fn of(config: &Path) -> Self {
        let state = std::env::var_os("STATE_DIRECTORY").filter(|state| !state.is_empty());
        // Of several, systemd names the first one first (systemd.exec(5)).
        let state = state.as_deref().and_then(|state| std::env::split_paths(state).next());
        Self(state.map_or_else(|| home(config).with_extension("updates"), |state| state.join("updates")))
    }

    pub(super) fn at(path: OsString) -> Self {
        Self(path.into())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn program(&self, slot: Slot) -> PathBuf {
        self.0.join(slot.name())
    }

    fn order_file(&self, slot: Slot) -> PathBuf {
        self.0.join(format!("{}.order", slot.name()))
    }

    /// What lies there, with its head. A program without its order counts for nothing, and the other way round.
    pub(super) fn order(&self, slot: Slot) -> Option<(Order, Head)> {
        let order = Order::parse(&text(&self.order_file(slot))?)?;
        let head = release::unchecked(&order.head)?;
        (slot == Slot::Loading || self.program(slot).exists()).then_some((order, head))
    }

    /// Since an order was written. Nothing, where the clock has gone back since.
    pub(super) fn age(&self, slot: Slot) -> Duration {
        let written = fs::metadata(self.order_file(slot)).and_then(|metadata| metadata.modified());
        written.ok().and_then(|written| written.elapsed().ok()).unwrap_or_default()
    }

    pub(super) fn write(&self, slot: Slot, order: &Order) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        replace(&self.order_file(slot), order.text().as_bytes(), 0o600)
    }

    /// Moves a program on, whole with its order.
    pub(super) fn promote(&self, from: Slot, to: Slot, order: &Order) -> io::Result<()> {
        let program = self.program(from);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700))?;
        File::open(&program)?.sync_all()?;
        // The order of another program beside the old one, if the power fails between the two: its hash does not fit then.
        self.write(to, order)?;
        fs::rename(program, self.program(to))?;
        let _gone = fs::remove_file(self.order_file(from));
        sync_folder(&self.program(to))
    }

    /// Forgets what lies there.
    pub(super) fn drop(&self, slot: Slot) {
        for file in [self.order_file(slot), self.program(slot)] {
            if let Err(e) = fs::remove_file(&file)
                && e.kind() != io::ErrorKind::NotFound
            {
                log::warn!("{} cannot be removed: {e}", file.display());
            }
        }
    }

    /// Bytes that have come in.
    pub(super) fn loaded(&self) -> u64 {
        fs::metadata(self.program(Slot::Loading)).map_or(0, |metadata| metadata.len())
    }

    /// After a start: what came in last may not have reached the disk.
    pub(super) fn step_back(&self) -> io::Result<()> {
        let safe = self.loaded().saturating_sub(1) / STEP * STEP;
        match OpenOptions::new().write(true).open(self.program(Slot::Loading)) {
            Ok(file) => file.set_len(safe),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// What comes in, to be written on.
    pub(super) fn append(&self) -> io::Result<Incoming> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.program(Slot::Loading))?;
        let length = file.seek(SeekFrom::End(0))?;
        Ok(Incoming { file, length })
    }

    /// Whether there is room for what is still to come; if not, how much is lacking.
    pub(super) fn room_for(&self, bytes: u64) -> Result<(), String> {
        let place = self.0.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"));
        let Ok(disk) = statvfs(place) else { return Ok(()) };
        #[allow(clippy::useless_conversion, reason = "on some targets it is narrower")]
        let free = u64::from(disk.blocks_available()).saturating_mul(u64::from(disk.fragment_size()));
        let needs = bytes.saturating_add(SPARE);
        if free >= needs {
            return Ok(());
        }
        Err(format!("{} needs {} kB and has {} kB", place.display(), needs.div_ceil(1000), free / 1000))
    }

    /// Whether a program is what its head says.
    pub(super) fn is_whole(&self, slot: Slot, head: &Head) -> io::Result<bool> {
        let mut file = File::open(self.program(slot))?;
        let (mut hash, mut length, mut piece) = (Context::new(&SHA256), 0, vec![0; 64 * 1024]);
        loop {
            match file.read(&mut piece)? {
                0 => break,
                read => {
                    hash.update(piece.get(..read).unwrap_or_default());
                    length += read as u64;
                }
            }
        }
        Ok(length == head.size && hash.finish().as_ref() == head.sha256)
    }

    /// An order has come to nothing: kept to be told to the server, over a restart too.
    pub(super) fn note_failed(&self, failed: &UpdateFailed) {
        let UpdateFailed { order, check, text } = failed;
        let note = format!("{order}\n{check}\n{text}");
        // On a full disk it is told as long as this process lives.
        if let Err(e) = replace(&self.0.join("failed"), note.as_bytes(), 0o600) {
            log::debug!("the failed update is not noted: {e}");
        }
    }

    /// The last order that came to nothing.
    pub(super) fn failed(&self) -> Option<UpdateFailed> {
        let note = text(&self.0.join("failed"))?;
        let (order, rest) = note.split_once('\n')?;
        let (check, text) = rest.split_once('\n')?;
        Some(UpdateFailed { order: order.to_owned(), check: check.to_owned(), text: text.to_owned() })
    }
}

fn text(file: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(file).ok()?.take(TEXT_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

impl Order {
    fn text(&self) -> String {
        let Self { order, deadline, tries, installed, head } = self;
        format!("{order}\n{}\n{tries}\n{installed}\n{head}", deadline.as_secs())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.splitn(5, '\n');
        let mut next = || lines.next();
        Some(Self {
            order: next()?.to_owned(),
            deadline: Duration::from_secs(next()?.parse().ok()?),
            tries: next()?.parse().ok()?,
            installed: next()?.to_owned(),
            head: next()?.to_owned(),
        })
    }
}

/// A program that comes in.
pub(super) struct Incoming {
    file: File,
    length: u64,
}

impl Incoming {
    /// Bytes that are there.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Writes what came next.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let step = usize::try_from(STEP - self.length % STEP).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(step.min(bytes.len()));
            io::Write::write_all(&mut self.file, now)?;
            self.length += now.len() as u64;
            if self.length.is_multiple_of(STEP) {
                self.file.sync_data()?;
            }
            bytes = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> (tempfile::TempDir, Folder, Order, Head) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder(dir.path().join("updates"));
        let version = "0.2.0".parse().unwrap();
        let sha256 = ring::digest::digest(&SHA256, b"program").as_ref().try_into().unwrap();
        let head = Head { version, target: "t".into(), size: 7, sha256, older: false };
        let signature =
            format!("untrusted comment: x\n{}\n", data_encoding::BASE64.encode(&[b"Ed", &[0; 72][..]].concat()));
        let order = Order {
            order: "a-1".into(),
            deadline: Duration::from_secs(120),
            tries: 0,
            installed: "0.1.0".into(),
            head: signature + &head.text(),
        };
        (dir, folder, order, head)
    }

    #[test]
    fn a_program_goes_from_slot_to_slot_with_its_order() {
        let (_dir, folder, order, head) = some();
        assert_eq!(folder.order(Slot::Loading), None);
        folder.write(Slot::Loading, &order).unwrap();
        folder.append().unwrap().write(b"prog").unwrap();
        let mut more = folder.append().unwrap();
        assert_eq!(more.length(), 4);
        assert!(!folder.is_whole(Slot::Loading, &head).unwrap());
        more.write(b"ram").unwrap();
        assert!(folder.is_whole(Slot::Loading, &head).unwrap());
        folder.promote(Slot::Loading, Slot::Next, &order).unwrap();
        assert_eq!((folder.order(Slot::Loading), folder.order(Slot::Next)), (None, Some((order.clone(), head))));
        let mode = fs::metadata(folder.program(Slot::Next)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        folder.drop(Slot::Next);
        assert_eq!(folder.order(Slot::Next), None);
    }

    #[test]
    fn after_a_start_it_goes_on_from_what_is_on_the_disk_for_sure() {
        let (_dir, folder, order, _) = some();
        folder.step_back().unwrap();
        folder.write(Slot::Loading, &order).unwrap();
        for (length, safe) in [(0, 0), (1, 0), (65_536, 0), (65_537, 65_536), (150_000, 131_072)] {
            let _gone = fs::remove_file(folder.program(Slot::Loading));
            folder.append().unwrap().write(&vec![7; length]).unwrap();
            folder.step_back().unwrap();
            assert_eq!(folder.loaded(), safe, "{length}");
        }
    }

    #[test]
    fn a_power_cut_between_order_and_program_leaves_what_does_not_fit() {
        let (_dir, folder, order, head) = some();
        folder.write(Slot::Adopted, &order).unwrap();
        assert_eq!(folder.order(Slot::Adopted), None, "no program");
        fs::write(folder.program(Slot::Adopted), b"another").unwrap();
        assert!(!folder.is_whole(Slot::Adopted, &head).unwrap());
        let failed = UpdateFailed { order: "a-1".into(), check: "disk".into(), text: "one\ntwo".into() };
        folder.note_failed(&failed);
        assert_eq!(folder.failed(), Some(failed));
        assert!(folder.room_for(1).is_ok() && folder.room_for(u64::MAX).is_err());
    }
}
