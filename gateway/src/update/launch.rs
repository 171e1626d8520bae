//! The start of the program: the installed one looks whether it is to be another version, and becomes that. What decides is
//! always the installed one, which is known to work.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use linkspan_protocol::update::UpdateFailed;
use nix::unistd::alarm;

use super::folder::{Folder, Order, Slot};
use crate::version;

/// Starts of a program on trial.
const TRIES: u32 = 3;
/// Beyond its deadline a program on trial that does not even know that is ended by the kernel.
const GRACE: Duration = Duration::from_secs(30);
/// The installed program, version and path, for the one that it becomes.
const INSTALLED: &str = "LINKSPAN_INSTALLED";
/// The folder, for one that is on trial.
const TRIAL: &str = "LINKSPAN_TRIAL";

/// How this process came to be this version.
#[derive(Clone, Debug)]
pub struct Launch {
    pub(super) folder: Folder,
    /// Version and path of the installed program.
    pub(super) installed: (String, PathBuf),
    /// It is on trial.
    pub(super) trial: Option<Order>,
}

impl Launch {
    /// Becomes the version that counts; returns in the one that it is.
    pub fn begin(config: &Path) -> Self {
        let folder = Folder::of(config);
        if let Some(installed) = told() {
            let on_trial = std::env::var_os(TRIAL).is_some();
            let trial = folder.order(Slot::Next).filter(|_| on_trial).map(|(order, _)| order);
            return Self { folder, installed, trial };
        }
        // Known before a package manager replaces the file.
        let me = std::env::current_exe().unwrap_or_else(|_| std::env::args_os().next().unwrap_or_default().into());
        let launch = Self { folder, installed: (version().to_owned(), me), trial: None };
        launch.try_next();
        launch.go_on_with_adopted();
        launch
    }

    /// A program on trial that cannot even run ends here: the installed one goes on. Supervisors do not start again what ends
    /// with some codes. Returns in every other program.
    pub fn rescue(code: u8) {
        let (Some(folder), Some(installed)) = (std::env::var_os(TRIAL), told()) else { return };
        let launch = Self { folder: Folder::at(folder), installed, trial: None };
        let Some((order, _)) = launch.folder.order(Slot::Next) else { return };
        launch.fail(&order, "start", format!("version {} ended with status {code}", version()));
        log::error!("{}", launch.again());
    }

    /// Becomes what decides at the start; returns only if that cannot be.
    pub fn again(&self) -> io::Error {
        alarm::cancel();
        let mut command = Command::new(&self.installed.1);
        command.env_remove(INSTALLED).env_remove(TRIAL);
        run(command)
    }

    /// Becomes the program on trial, if there is one.
    fn try_next(&self) {
        let Some((order, head)) = self.folder.order(Slot::Next) else { return };
        if order.tries >= TRIES {
            let text = format!("version {} ended {TRIES} times before it was confirmed", head.version);
            return self.fail(&order, "start", text);
        }
        if order.tries > 0 && self.folder.age(Slot::Next) >= order.deadline {
            let text = format!("version {} had its time and was not confirmed", head.version);
            return self.fail(&order, "start", text);
        }
        if !self.folder.is_whole(Slot::Next, &head).unwrap_or(false) {
            return self.fail(&order, "hash", format!("version {} is damaged on the disk", head.version));
        }
        let order = Order { tries: order.tries + 1, ..order };
        if let Err(e) = self.folder.write(Slot::Next, &order) {
            // What cannot be counted is not tried.
            return self.fail(&order, "disk", format!("the trial cannot be noted: {e}"));
        }
        log::info!("version {} is tried, start {} of {TRIES}", head.version, order.tries);
        alarm::set(u32::try_from((order.deadline + GRACE).as_secs()).unwrap_or(u32::MAX));
        let error = self.launch(Slot::Next, Some(&order));
        alarm::cancel();
        self.fail(&order, "start", format!("version {} cannot be started: {error}", head.version));
    }

    /// Becomes the program that counts, if it is not the installed one.
    fn go_on_with_adopted(&self) {
        let Some((order, head)) = self.folder.order(Slot::Adopted) else { return };
        if order.installed != self.installed.0 {
            log::info!("version {} was installed: the update to {} no longer counts", self.installed.0, head.version);
            return self.folder.drop(Slot::Adopted);
        }
        if !self.folder.is_whole(Slot::Adopted, &head).unwrap_or(false) {
            log::error!("version {} is damaged on the disk: the installed one runs", head.version);
            return self.folder.drop(Slot::Adopted);
        }
        let error = self.launch(Slot::Adopted, None);
        log::error!("version {} cannot be started, the installed one runs: {error}", head.version);
    }

    fn launch(&self, slot: Slot, trial: Option<&Order>) -> io::Error {
        let mut command = Command::new(self.folder.program(slot));
        let mut installed = OsString::from(format!("{} ", self.installed.0));
        installed.push(&self.installed.1);
        command.env(INSTALLED, installed);
        if trial.is_some() {
            command.env(TRIAL, self.folder.path());
        }
        run(command)
    }

    fn fail(&self, order: &Order, check: &str, text: String) {
        log::error!("the update is given up ({check}): {text}");
        self.folder.note_failed(&UpdateFailed { order: order.order.clone(), check: check.to_owned(), text });
        self.folder.drop(Slot::Next);
    }
}

/// The same words under the same name, in this very process: whoever watches over it sees no end.
fn run(mut command: Command) -> io::Error {
    let mut words = std::env::args_os();
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    command.args(words).exec()
}

/// What the installed program said of itself.
fn told() -> Option<(String, PathBuf)> {
    let told = std::env::var(INSTALLED).ok()?;
    let (version, path) = told.split_once(' ')?;
    Some((version.to_owned(), path.into()))
}
