//! The snapshot in words for a terminal.

use std::fmt::{self, Write};

use linkspan_protocol::text::size;

use crate::central::ConfigurationStatus;

use super::snapshot::{
    DataStatus, DeviceStatus, DiscoveryStatus, FailureStatus, KeepaliveStatus, LinkState, LinkStatus, ServerStatus,
    ServiceStatus, Snapshot, UpdateStatus,
};

/// A page about the gateway, for people.
pub(super) fn text(snapshot: &Snapshot) -> String {
    let mut page = String::new();
    // Writing into a String does not fail.
    let _: fmt::Result = write_all(&mut page, snapshot);
    page
}

fn write_all(page: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let Snapshot { name, version, config_file, .. } = snapshot;
    writeln!(page, "{name}, linkspan-gateway {version}, up {}, {config_file}", span(snapshot.uptime_s))?;
    write_configuration(page, &snapshot.configuration)?;
    write_link(page, &snapshot.link)?;
    let streams = &snapshot.streams;
    let (up, down) = (size(streams.bytes_up), size(streams.bytes_down));
    writeln!(page, "Connections: {} of {} open; {up} up, {down} down since the start", streams.open, streams.max)?;
    write_data(page, &snapshot.data)?;
    write_discovery(page, &snapshot.discovery)?;
    write_update(page, &snapshot.update)?;
    for problem in &snapshot.config_problems {
        writeln!(page, "Configuration: {problem}")?;
    }
    for worker in snapshot.workers.iter().filter(|worker| worker.restarts > 0) {
        let error = worker.last_error.as_deref().unwrap_or("unknown");
        writeln!(page, "Worker {}: started again {} times, last because: {error}", worker.name, worker.restarts)?;
    }
    writeln!(page, "{}", if snapshot.devices.is_empty() { "No devices" } else { "Devices:" })?;
    snapshot.devices.iter().try_for_each(|device| write_device(page, device))
}

fn write_configuration(page: &mut String, configuration: &ConfigurationStatus) -> fmt::Result {
    match configuration {
        ConfigurationStatus { own_only: true, .. } => {
            write!(page, "Configuration: this router's own file alone ([policy])")?
        }
        ConfigurationStatus { edited: true, revision: Some(number), .. } => {
            write!(page, "Configuration: edited on this router since the server's revision {number}")?;
        }
        ConfigurationStatus { revision: Some(number), .. } => {
            write!(page, "Configuration: the server's revision {number}")?
        }
        ConfigurationStatus { revision: None, .. } => write!(page, "Configuration: this router's own file")?,
    }
    match configuration.trying {
        Some(number) => writeln!(page, "; revision {number} is on trial")?,
        None => writeln!(page)?,
    }
    configuration.not_kept.iter().try_for_each(|why| {
        let why = why.replace('\n', "\n    ");
        writeln!(page, "  what the server sent last was not kept: {why}")
    })
}

fn write_link(page: &mut String, link: &LinkStatus) -> fmt::Result {
    let server = &link.server;
    match link.state {
        LinkState::Waiting => write!(page, "Not connected to {server}")?,
        LinkState::Dialing => write!(page, "Connecting to {server}")?,
        LinkState::Connected => write!(page, "Connected to {server}")?,
        LinkState::Superseded => write!(page, "Another gateway with this name and secret is connected to {server}")?,
        LinkState::Draining => write!(page, "Stopping; disconnected from {server}")?,
    }
    if let Some(proxy) = &link.proxy {
        write!(page, " through the proxy {proxy}")?;
    }
    write!(page, " for {}", span(link.for_s))?;
    if let Some(step) = link.step {
        write!(page, " (step: {step})")?;
    }
    if let Some(next) = link.next_attempt_in_s {
        write!(page, ", next attempt in {}", span(next))?;
    }
    writeln!(page, "; {} reconnects", link.reconnects)?;
    if let Some(keepalive) = &link.keepalive {
        write_keepalive(page, keepalive)?;
    }
    if let Some(error) = &link.last_error {
        write!(page, "Last error ")?;
        write_failure(page, error)?;
    }
    link.servers.iter().try_for_each(|server| write_server(page, server))
}

fn write_keepalive(page: &mut String, keepalive: &KeepaliveStatus) -> fmt::Result {
    // In tenths of a megabyte: the exact number is in the JSON.
    let tenths = (keepalive.idle_bytes_per_month + 50_000) / 100_000;
    write!(page, "Idle: ≈ {}.{} MB/month; asks after ", tenths / 10, tenths % 10)?;
    write!(page, "{} of silence", span(keepalive.ping_after_s))?;
    if let Some(uplink) = &keepalive.uplink {
        write!(page, " on {uplink}")?;
    }
    writeln!(page, "{}", if keepalive.learning { ", and learns how long the line may be silent" } else { "" })
}

fn write_server(page: &mut String, server: &ServerStatus) -> fmt::Result {
    write!(page, "Server {}: ", server.server)?;
    if let Some(wait) = server.not_before_s {
        write!(page, "not tried for {}; ", span(wait))?;
    }
    match &server.last_error {
        Some(error) => {
            write!(page, "failed ")?;
            write_failure(page, error)
        }
        None => writeln!(page, "no failure"),
    }
}

fn write_failure(page: &mut String, error: &FailureStatus) -> fmt::Result {
    writeln!(page, "{} ago: {}: {}\n    {}", span(error.ago_s), error.step, error.what, error.advice)
}

fn write_data(page: &mut String, data: &DataStatus) -> fmt::Result {
    if !data.month.is_empty() {
        let (sent, received) = (size(data.sent), size(data.received));
        writeln!(page, "Data in {}: {sent} sent, {received} received, headers counted", data.month)?;
    }
    let caps = [("cap", Some(&data.cap)), ("server's cap", data.server_cap.as_ref())];
    for (whose, cap) in caps.into_iter().filter_map(|(whose, cap)| Some((whose, cap?))) {
        if let Some(hard) = cap.hard {
            writeln!(page, "  {whose}: {} a month", size(hard))?;
        }
        if let Some(warn) = cap.warn {
            writeln!(page, "  {whose}: a warning at {}", size(warn))?;
        }
    }
    data.services.iter().try_for_each(|service| {
        writeln!(page, "  {}: {} up, {} down", service.name, size(service.up), size(service.down))
    })
}

fn write_update(page: &mut String, update: &UpdateStatus) -> fmt::Result {
    let UpdateStatus { installed, closed, version, loaded, size: whole, failed, .. } = update;
    if let Some(installed) = installed {
        writeln!(page, "Update: runs in place of the installed version {installed}")?;
    }
    match (version, loaded, whole) {
        (Some(version), Some(loaded), Some(whole)) => {
            writeln!(page, "Update: version {version} is fetched, {} of {} are here", size(*loaded), size(*whole))?;
        }
        (Some(version), ..) => writeln!(page, "Update: version {version} is on trial")?,
        _ => {}
    }
    if let Some(failed) = failed {
        writeln!(page, "Update: the last one came to nothing: {failed}")?;
    }
    closed.iter().try_for_each(|closed| writeln!(page, "Update: none is taken: {closed}"))
}

fn write_discovery(page: &mut String, discovery: &DiscoveryStatus) -> fmt::Result {
    match (discovery.enabled, &*discovery.interfaces.join(", ")) {
        (false, _) => return writeln!(page, "LAN: no devices are looked for"),
        (true, "") => return writeln!(page, "LAN: no interface leads to one; name it in [discovery] interfaces"),
        (true, interfaces) => write!(page, "LAN: {} devices found on {interfaces}", discovery.devices)?,
    }
    write!(page, ", {} are there now", discovery.present)?;
    if discovery.dropped > 0 {
        write!(page, "; too many were found: {} times one was left out", discovery.dropped)?;
    }
    writeln!(page)
}

fn write_device(page: &mut String, device: &DeviceStatus) -> fmt::Result {
    write!(page, "  {} at {}", device.name, device.host)?;
    match &device.refused {
        Some(reason) => writeln!(page, " (not published by the server: {reason})")?,
        None => writeln!(page)?,
    }
    device.services.iter().try_for_each(|service| write_service(page, service))
}

fn write_service(page: &mut String, service: &ServiceStatus) -> fmt::Result {
    write!(page, "    {} ({}, port {}): {} open", service.name, service.kind, service.port, service.open)?;
    match (service.last_ago_s, &service.last_error) {
        (None, _) => writeln!(page, ", not used yet"),
        (Some(ago), None) => writeln!(page, ", reached {} ago", span(ago)),
        (Some(ago), Some(error)) => writeln!(page, ", failed {} ago: {error}", span(ago)),
    }
}

/// The two largest units of a time span.
fn span(seconds: u64) -> String {
    let (days, hours, minutes, rest) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, _) => format!("{minutes} min {rest} s"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Step;
    use crate::status::{CapStatus, ServiceData, StreamStatus};
    use crate::supervisor::WorkerReport;

    #[test]
    fn spans_read_well() {
        let spans: Vec<_> = [0, 59, 61, 3600, 90_061].into_iter().map(span).collect();
        assert_eq!(spans, ["0 s", "59 s", "1 min 1 s", "1 h 0 min", "1 d 1 h"]);
    }

    fn link() -> LinkStatus {
        let what = FailureStatus { ago_s: 3, step: Step::Tls, what: "expired".into(), advice: "set the clock".into() };
        LinkStatus {
            server: "remote.example.com:443".into(),
            proxy: Some("proxy:3128".into()),
            state: LinkState::Waiting,
            for_s: 2,
            step: None,
            next_attempt_in_s: Some(5),
            reconnects: 7,
            keepalive: Some(KeepaliveStatus {
                ping_after_s: 400,
                learning: true,
                uplink: Some("wwan0 10.64".into()),
                idle_bytes_per_month: 1_393_200,
            }),
            servers: vec![
                ServerStatus { server: "a:443".into(), last_error: None, not_before_s: None },
                ServerStatus { server: "b:443".into(), last_error: Some(what.clone()), not_before_s: Some(9) },
            ],
            last_error: Some(what),
        }
    }

    fn data() -> DataStatus {
        DataStatus {
            month: "2026-11".into(),
            sent: 12_000_000,
            received: 3_000_000,
            cap: CapStatus { warn: Some(400_000_000), hard: Some(500_000_000), lifted_until: None },
            server_cap: Some(CapStatus { hard: Some(450_000_000), ..CapStatus::default() }),
            services: vec![ServiceData { name: "plc1:web".into(), up: 11_000_000, down: 2000 }],
        }
    }

    fn device() -> DeviceStatus {
        let service = |last_ago_s, last_error: Option<&str>| ServiceStatus {
            name: "web".into(),
            kind: "http".into(),
            port: 80,
            open: 1,
            last_ago_s,
            last_error: last_error.map(Into::into),
        };
        let services = vec![service(None, None), service(Some(3), None), service(Some(3), Some("refused"))];
        DeviceStatus { name: "plc1".into(), host: "10.0.0.1".into(), refused: Some("taken".into()), services }
    }

    fn configuration() -> ConfigurationStatus {
        ConfigurationStatus {
            revision: Some(7),
            trying: Some(9),
            not_kept: Some("devices: reachable before and not any more: plc1".into()),
            ..ConfigurationStatus::default()
        }
    }

    #[test]
    fn the_page_tells_what_is_wrong_and_what_to_do() {
        let worker = WorkerReport { name: "link".into(), done: false, restarts: 1, last_error: Some("bug".into()) };
        let snapshot = Snapshot {
            version: "1.2.3".into(),
            name: "site12".into(),
            config_file: "/etc/gw.toml".into(),
            config_problems: vec!["gw.toml:1:1: bad".into()],
            configuration: configuration(),
            uptime_s: 61,
            link: link(),
            streams: StreamStatus { open: 1, max: 256, bytes_up: 2000, bytes_down: 10 },
            data: data(),
            devices: vec![device()],
            discovery: DiscoveryStatus {
                enabled: true,
                interfaces: vec!["br-lan".into()],
                devices: 12,
                present: 10,
                ..DiscoveryStatus::default()
            },
            update: UpdateStatus::default(),
            workers: vec![worker],
        };
        let expected = "\
site12, linkspan-gateway 1.2.3, up 1 min 1 s, /etc/gw.toml
Configuration: the server's revision 7; revision 9 is on trial
  what the server sent last was not kept: devices: reachable before and not any more: plc1
Not connected to remote.example.com:443 through the proxy proxy:3128 for 2 s, next attempt in 5 s; 7 reconnects
Idle: ≈ 1.4 MB/month; asks after 6 min 40 s of silence on wwan0 10.64, and learns how long the line may be silent
Last error 3 s ago: TLS: expired
    set the clock
Server a:443: no failure
Server b:443: not tried for 9 s; failed 3 s ago: TLS: expired
    set the clock
Connections: 1 of 256 open; 2.0 kB up, 10 B down since the start
Data in 2026-11: 12.0 MB sent, 3.0 MB received, headers counted
  cap: 500.0 MB a month
  cap: a warning at 400.0 MB
  server's cap: 450.0 MB a month
  plc1:web: 11.0 MB up, 2.0 kB down
LAN: 12 devices found on br-lan, 10 are there now
Configuration: gw.toml:1:1: bad
Worker link: started again 1 times, last because: bug
Devices:
  plc1 at 10.0.0.1 (not published by the server: taken)
    web (http, port 80): 1 open, not used yet
    web (http, port 80): 1 open, reached 3 s ago
    web (http, port 80): 1 open, failed 3 s ago: refused
";
        assert_eq!(text(&snapshot), expected);
    }

    #[test]
    fn an_update_is_told_step_by_step() {
        let told = |update: &UpdateStatus| {
            let mut page = String::new();
            write_update(&mut page, update).unwrap();
            page
        };
        assert_eq!(told(&UpdateStatus::default()), "");
        let version = Some("1.2.4".into());
        let loading =
            UpdateStatus { version, loaded: Some(1_000_000), size: Some(2_200_000), ..UpdateStatus::default() };
        assert_eq!(told(&loading), "Update: version 1.2.4 is fetched, 1.0 MB of 2.2 MB are here\n");
        let (installed, failed) = (Some("1.2.0".into()), Some("disk: full".into()));
        let trial = UpdateStatus { loaded: None, installed, failed, closed: Some("no key".into()), ..loading };
        let expected = "Update: runs in place of the installed version 1.2.0\nUpdate: version 1.2.4 is on trial\n\
                        Update: the last one came to nothing: disk: full\nUpdate: none is taken: no key\n";
        assert_eq!(told(&trial), expected);
    }
}
