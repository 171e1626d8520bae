//! `[discovery]`: whether devices are looked for, where, and what may be sent for it.

use std::path::{Path, PathBuf};

use super::reader::Section;
use super::{DEFAULT_FILE, home};

/// Where the DHCP servers of routers keep their leases: dnsmasq on OpenWrt and on Debian, odhcpd.
const LEASE_FILES: [&str; 4] =
    ["/tmp/dhcp.leases", "/var/lib/misc/dnsmasq.leases", "/tmp/hosts/odhcpd", "/tmp/odhcpd.leases"];
/// Interfaces, and lease files.
const LIST_MAX: usize = 16;

/// `[discovery]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// Whether devices are looked for at all.
    pub enabled: bool,
    /// The interfaces that lead to a LAN; all but the way out where none is named.
    pub interfaces: Vec<Box<str>>,
    /// Whether anything is sent for it. Else it is only listened.
    pub probe: bool,
    /// Whether devices are looked at from close by when the server asks for it.
    pub identify: bool,
    /// Where DHCP servers keep their leases.
    pub lease_files: Vec<PathBuf>,
    /// Where it is kept what was found.
    pub file: PathBuf,
}

impl Discovery {
    /// As it is where the configuration says nothing.
    pub(crate) fn beside(file: &Path) -> Self {
        let kept = match file == Path::new(DEFAULT_FILE) {
            true => PathBuf::from("/var/lib/linkspan/inventory.json"),
            false => home(file).with_extension("inventory.json"),
        };
        let lease_files = LEASE_FILES.map(PathBuf::from).into();
        Self { enabled: true, interfaces: Vec::new(), probe: true, identify: true, lease_files, file: kept }
    }
}

pub(super) fn discovery(mut section: Section<'_>) -> Discovery {
    let reader = section.reader;
    let default = Discovery::beside(reader.file);
    let enabled = section.flag("enabled").unwrap_or(default.enabled);
    let probe = section.flag("probe").unwrap_or(default.probe);
    let identify = section.flag("identify").unwrap_or(default.identify);
    let mut interfaces: Vec<Box<str>> = Vec::new();
    for name in bounded_list(&mut section, "interfaces") {
        let word = *name.get_ref();
        if word.is_empty() || word.len() > 15 || word.bytes().any(|b| !b.is_ascii_graphic() || b == b'/') {
            reader.error(&name.span(), "this is not the name of an interface", "write \"br-lan\"");
        } else {
            interfaces.push(word.into());
        }
    }
    let files = section.has("lease_files").then(|| bounded_list(&mut section, "lease_files"));
    let files = files.map(|files| files.iter().map(|file| reader.beside(file.get_ref())).collect());
    let _known = section.value("lease_files");
    let file = section.text("file").map_or(default.file, |file| reader.beside(file.get_ref()));
    section.finish();
    Discovery { enabled, interfaces, probe, identify, lease_files: files.unwrap_or(default.lease_files), file }
}

fn bounded_list<'a>(section: &mut Section<'a>, key: &'static str) -> Vec<super::reader::Text<'a>> {
    let mut list = section.list(key);
    if list.len() > LIST_MAX {
        let what = format!("`{key}` lists more than {LIST_MAX}");
        section.reader.error(&section.span_of(key), what, "list fewer");
        list.truncate(LIST_MAX);
    }
    list
}
