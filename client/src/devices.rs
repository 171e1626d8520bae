//! `linkspan devices`: the devices that the person may reach, as a table for people or as JSON for programs.

use anyhow::Context as _;

use crate::account::{Account, Environment, ServerOptions};
use crate::server::Device;
use crate::stdio::{note, print};
use crate::text::{plain, plain_json};
use crate::time;

/// `linkspan devices`.
#[derive(Debug, clap::Args)]
pub(crate) struct Devices {
    /// Print the list as the server sent it, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerOptions,
}

/// Prints the list.
pub(crate) async fn devices(args: Devices, environment: Environment) -> anyhow::Result<()> {
    let account = Account::choose(args.server, environment)?;
    let (json, devices) = account.api()?.devices().await.map_err(|error| account.explain(error))?;
    let text = if args.json {
        format!("{}\n", plain_json(json.trim_end()))
    } else if devices.is_empty() {
        note("No devices: no gateway has reported one yet, or none is open to you.");
        return Ok(());
    } else {
        table(&devices)
    };
    print(&text).context("cannot write the list")
}

fn table(devices: &[Device]) -> String {
    let head = ["NAME", "STATE", "GATEWAY", "SERVICES", "DESCRIPTION"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(devices.iter().map(row)).collect();
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn row(device: &Device) -> [String; 5] {
    let state = match (&device.since, device.online) {
        (_, true) => "online".to_owned(),
        (Some(since), false) => format!("offline since {}", time::local(since)),
        (None, false) => "offline".to_owned(),
    };
    let services = device.services.iter().map(|service| match service.kind == service.name {
        true => plain(&service.name),
        false => plain(&format!("{} ({})", service.name, service.kind)),
    });
    let services = services.collect::<Vec<_>>().join(", ");
    [plain(&device.name), state, plain(&device.gateway), services, plain(&device.description)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_hostile_text_is_harmless() {
        let devices: Vec<Device> = serde_json::from_value(serde_json::json!([
            { "name": "plc1", "online": true, "since": "2026-11-23T03:00:00Z", "gateway": "site12", "tags": [],
              "description": "Pumpe Süd\u{1b}[2J", "services": [
                { "name": "web", "kind": "http", "url": "https://plc1.x/" }, { "name": "ssh", "kind": "ssh" }] },
            { "name": "camera-north", "online": false, "since": null, "gateway": "s1", "description": "",
              "services": [] },
        ]))
        .unwrap();
        let expected = "\
NAME          STATE    GATEWAY  SERVICES         DESCRIPTION
plc1          online   site12   web (http), ssh  Pumpe Süd\\u{1b}[2J
camera-north  offline  s1
";
        assert_eq!(table(&devices), expected);
    }
}
