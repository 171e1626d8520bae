//! The leases of the router's own DHCP servers: dnsmasq's file and odhcpd's, which tell names and addresses.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use linkspan_protocol::discovery::{DEVICES_MAX, TEXT_MAX, bounded};
use linkspan_protocol::encoding::from_hex;
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::claim::{Claim, Mac, Source, Spot};
use super::lan::Interface;
use super::{CALM, Ears, calm};

/// For so long after a change a file is read again: it may change twice within what its time can tell.
const RECENT: Duration = Duration::from_secs(20);
/// Bytes of a file that are read.
const FILE_MAX: u64 = 512 * 1024;

/// A lease, as either server notes it.
#[derive(Debug, PartialEq, Eq)]
struct Lease {
    mac: Option<Mac>,
    addresses: Vec<IpAddr>,
    name: Option<String>,
    /// Seconds since 1970; none for ever.
    until: Option<u64>,
}

/// Never returns.
pub(super) async fn run(mut ears: Ears, told: &watch::Sender<Vec<Claim>>) -> Result<(), String> {
    let mut read: BTreeMap<PathBuf, (Option<SystemTime>, Vec<Lease>)> = BTreeMap::new();
    loop {
        let wish = ears.wish();
        read.retain(|path, _| wish.lease_files.contains(path));
        for path in &wish.lease_files {
            let changed = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
            let known = read.entry(path.clone()).or_default();
            let recent = changed.is_some_and(|at| at.elapsed().is_ok_and(|ago| ago < RECENT));
            if known.0 != changed || recent {
                *known = (changed, load(path));
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let valid =
            read.values().flat_map(|(_, leases)| leases).filter(|lease| lease.until.is_none_or(|until| until > now));
        let claims: Vec<_> = valid.filter_map(|lease| claim(lease, &wish.lan)).take(DEVICES_MAX).collect();
        told.send_if_modified(|before| {
            let news = *before != claims;
            *before = claims;
            news
        });
        tokio::select! {
            () = sleep_until(calm(CALM)) => {}
            () = ears.changed() => {}
        }
    }
}

fn claim(lease: &Lease, lan: &[Interface]) -> Option<Claim> {
    let spot = |ip: &IpAddr| lan.iter().find(|interface| interface.holds(*ip)).map(|on| Spot::new(*ip, &on.name));
    let spots: Vec<_> = lease.addresses.iter().filter_map(spot).collect();
    if spots.is_empty() {
        return None;
    }
    // Whoever got a lease some hours ago may be gone: that it is there, others say.
    let claim = Claim::new(Source::Lease);
    Some(Claim { mac: lease.mac, spots, name: lease.name.clone(), alive: false, ..claim })
}

fn load(path: &Path) -> Vec<Lease> {
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text)) {
        Ok(_) => text.lines().filter_map(lease).collect(),
        Err(e) => {
            if e.kind() != std::io::ErrorKind::NotFound {
                log::debug!("{}: {e}", path.display());
            }
            Vec::new()
        }
    }
}

fn lease(line: &str) -> Option<Lease> {
    match line.strip_prefix('#') {
        Some(rest) => of_odhcpd(rest),
        None => of_dnsmasq(line),
    }
}

/// `EXPIRES MAC ADDRESS NAME CLIENT-ID`, and for IPv6 `EXPIRES IAID ADDRESS NAME DUID`; `*` for what is unknown.
fn of_dnsmasq(line: &str) -> Option<Lease> {
    let [until, mac, address, name, client] = line.split_whitespace().collect::<Vec<_>>()[..] else { return None };
    let until = match until.parse().ok()? {
        0 => None,
        until => Some(until),
    };
    // Another kind of network than Ethernet has its number before a hyphen.
    let mac = mac.parse().ok().or_else(|| of_duid(&client.replace(':', "")));
    Some(Lease { mac, addresses: vec![address.parse().ok()?], name: host_name(name), until })
}

/// `# INTERFACE DUID IAID NAME EXPIRES ASSIGNED LENGTH ADDRESS/BITS…`, and for IPv4 the MAC in place of the DUID and the word
/// `ipv4` in that of the IAID.
fn of_odhcpd(line: &str) -> Option<Lease> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let [_, client, iaid, name, until, _, _, ref addresses @ ..] = fields[..] else { return None };
    let mac = match iaid {
        "ipv4" => from_hex(client).and_then(|bytes| Mac::of(&bytes)),
        _ => of_duid(client),
    };
    let until = match until.parse::<i64>().ok()? {
        ..0 => None,
        until => Some(until.unsigned_abs()),
    };
    // A delegated prefix is nobody's address.
    let whole = |text: &&str| {
        let (address, bits) = text.split_once('/')?;
        matches!(bits, "32" | "128").then(|| address.parse().ok())?
    };
    let addresses: Vec<_> = addresses.iter().filter_map(whole).collect();
    (!addresses.is_empty()).then(|| Lease { mac, addresses, name: host_name(name), until })
}

/// The address within a DUID that is made of one (RFC 8415, section 11): with a time, or without.
fn of_duid(hex: &str) -> Option<Mac> {
    let rest = hex.strip_prefix("00010001").and_then(|rest| rest.get(8..)).or_else(|| hex.strip_prefix("00030001"))?;
    Mac::of(&from_hex(rest)?)
}

fn host_name(text: &str) -> Option<String> {
    // odhcpd marks names that are none so.
    let unknown = matches!(text, "*" | "-") || text.starts_with("broken\\x20");
    (!unknown).then(|| bounded(text, TEXT_MAX)).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_servers_files_are_read() {
        let mac = |text: &str| Some(text.parse::<Mac>().unwrap());
        let lease = |line: &str| super::lease(line).unwrap();
        let v4 = lease("1766000000 b8:27:eb:00:00:01 192.168.1.10 plc-1 01:b8:27:eb:00:00:01");
        assert_eq!(
            (v4.mac, v4.name.as_deref(), v4.until),
            (mac("b8:27:eb:00:00:01"), Some("plc-1"), Some(1_766_000_000))
        );
        let forever = lease("0 b8:27:eb:00:00:01 192.168.1.10 * *");
        assert_eq!((forever.name, forever.until), (None, None));
        let v6 = lease("1766000000 12345678 fd00::10 hmi 00:01:00:01:2c:11:22:33:b8:27:eb:00:00:02");
        assert_eq!((v6.mac, v6.addresses), (mac("b8:27:eb:00:00:02"), vec!["fd00::10".parse().unwrap()]));
        let o4 = lease("# br-lan b827eb000003 ipv4 cam 1766000000 a0001c0 32 192.168.1.20/32 ");
        assert_eq!((o4.mac, o4.addresses), (mac("b8:27:eb:00:00:03"), vec!["192.168.1.20".parse().unwrap()]));
        let o6 = lease("# br-lan 00030001b827eb000004 1 - -1 4 128 fd00::4/128 fd01::4/128 ");
        assert_eq!((o6.mac, o6.addresses.len(), o6.name, o6.until), (mac("b8:27:eb:00:00:04"), 2, None, None));
        for none in
            ["", "duid 00:01:00:01", "# br-lan 00 1 - 0 4 62 fd00:1::/62 ", "x y z", "fd00::4\tcam.lan\tcam", "#"]
        {
            assert_eq!(super::lease(none), None, "{none}");
        }
    }

    #[test]
    fn a_hostile_name_is_kept_short() {
        let line = format!("0 b8:27:eb:00:00:01 192.168.1.10 {}\u{1b}[2J *", "x".repeat(500));
        let lease = lease(&line).unwrap();
        assert_eq!(lease.name.unwrap().len(), TEXT_MAX);
    }
}
