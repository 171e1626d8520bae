//! `linkspan-gateway discover`: what is on the LAN, on the spot, for who installs the router.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use linkspan_protocol::discovery::{FoundDevice, suggest};
use serde::Serialize;
use tokio::time::sleep;

use super::lan::Lan;
use super::{Discovery, identify};
use crate::config;
#[cfg(feature = "mdns")]
use crate::discovery::mdns::Names;
use crate::inventory::{Inventory, Kept};

/// After a closer look, so that the kernel tells the Ethernet addresses of those who answered.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// What was found.
#[derive(Debug, Serialize)]
pub struct Findings {
    /// The interfaces that were looked at.
    pub interfaces: Vec<String>,
    /// The devices, in the order of their addresses.
    pub devices: Vec<Finding>,
    /// Why it was not looked closer, though that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A device that was found.
#[derive(Debug, Serialize)]
pub struct Finding {
    #[serde(flatten)]
    device: FoundDevice,
    /// In seconds since 1970, by this machine's clock.
    first_seen: u64,
    last_seen: u64,
    /// What could be published.
    suggested: Vec<Suggested>,
}

#[derive(Debug, Serialize)]
struct Suggested {
    name: String,
    kind: &'static str,
    port: u16,
}

/// Looks for so long, and then closer at the targets. What a gateway on this machine has found earlier is part of it; nothing
/// is written.
pub async fn discover(settings: config::Discovery, time: Duration, targets: &[String]) -> Findings {
    let lan = Lan::default().interfaces(&settings.interfaces);
    let inventory = Arc::new(Inventory::look_into(&settings.file));
    let settings = Arc::new(move || config::Discovery { enabled: true, ..settings.clone() });
    let discovery = Discovery {
        settings,
        #[cfg(feature = "mdns")]
        names: Names::default(),
        inventory: inventory.clone(),
        desk: Arc::default(),
    };
    let listen = async {
        if let Err(e) = discovery.run().await {
            log::warn!("{e}");
        }
        std::future::pending().await
    };
    let look = async {
        sleep(time).await;
        if targets.is_empty() {
            return None;
        }
        match identify::targets(targets, &lan, &inventory) {
            Ok(spots) => {
                identify::look(0, spots, &lan, &inventory).await;
                sleep(AFTERWARDS).await;
                None
            }
            Err(why) => Some(why),
        }
    };
    let refused = tokio::select! {
        refused = look => refused,
        () = listen => None,
    };
    let mut devices: Vec<_> = inventory.kept().into_iter().map(finding).collect();
    devices.sort_by_cached_key(|finding| {
        let spots = &finding.device.addresses;
        spots.first().and_then(|text| text.parse::<super::claim::Spot>().ok())
    });
    Findings { interfaces: inventory.interfaces(), devices, refused }
}

fn finding(kept: Kept) -> Finding {
    let suggested = suggest(&kept.device.services).into_iter();
    let suggested =
        suggested.map(|one| Suggested { name: one.name, kind: one.kind.as_str(), port: one.port }).collect();
    Finding { device: kept.device, first_seen: kept.first_seen, last_seen: kept.last_seen, suggested }
}

impl Findings {
    /// One line of JSON.
    pub fn json(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }

    /// A page for people.
    pub fn text(&self) -> String {
        let mut page = String::new();
        // Writing into a String does not fail.
        let _: fmt::Result = self.write(&mut page);
        page
    }

    fn write(&self, page: &mut String) -> fmt::Result {
        if self.interfaces.is_empty() {
            return writeln!(
                page,
                "No interface leads to a LAN: all that are up lead out. Name it: [discovery] interfaces = [\"eth1\"]"
            );
        }
        let there = self.devices.iter().filter(|finding| finding.device.present).count();
        writeln!(page, "{there} devices on {}", self.interfaces.join(", "))?;
        let gone = self.devices.len() - there;
        if gone > 0 {
            writeln!(page, "{gone} that were seen earlier, marked with -")?;
        }
        self.devices.iter().try_for_each(|finding| finding.write(page))
    }
}

impl Finding {
    fn write(&self, page: &mut String) -> fmt::Result {
        let device = &self.device;
        let mark = if device.present { ' ' } else { '-' };
        let name = if device.names.is_empty() { "(no name)".to_owned() } else { device.names.join(", ") };
        writeln!(page, "\n{mark} {}  {name}", device.addresses.first().map_or("(no address)", String::as_str))?;
        if !device.about.is_empty() {
            writeln!(page, "    {}", device.about)?;
        }
        writeln!(page, "    {}, by {}", device.key, device.sources.join(", "))?;
        for address in device.addresses.iter().skip(1) {
            writeln!(page, "    also at {address}")?;
        }
        for service in &device.services {
            let suggested = self.suggested.iter().find(|suggested| suggested.port == service.port);
            write!(page, "    port {} {} {}", service.port, service.kind, service.text)?;
            match suggested {
                Some(suggested) => writeln!(page, " -> {} ({})", suggested.name, suggested.kind)?,
                None => writeln!(page)?,
            }
        }
        Ok(())
    }
}
