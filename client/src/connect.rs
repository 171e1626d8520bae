//! `linkspan connect`: a service of a device on standard input and output, for ProxyCommand and pipes.

use std::str::FromStr;

use anyhow::{Context as _, bail};
use linkspan_protocol::id::{DeviceName, ServiceName};

use crate::account::{Account, Environment, ServerOptions};
use crate::carry::carry;
use crate::exit::Usage;
use crate::server::{Device, Service};
use crate::text::plain;

/// `linkspan connect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Connect {
    /// The device, and the service or its port where it has several
    #[arg(value_name = "DEVICE[:SERVICE|:PORT]")]
    target: Target,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    device: DeviceName,
    wanted: Wanted,
}

/// Which service of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// The one that goes without saying.
    Only,
    /// The one of this name.
    Named(ServiceName),
    /// The one at this port; or of this name, which may be a number too.
    Port(u16),
}

/// A device without a service to connect to.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoService(&'static str);

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (device, service) = match text.split_once(':') {
            Some((device, service)) => (device, Some(service)),
            None => (text, None),
        };
        let device = device.parse().map_err(|error| format!("not the name of a device: {error}"))?;
        let wanted = match service {
            None => Wanted::Only,
            Some(port) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Wanted::Port(port.parse().map_err(|_| format!("{port} is not a port: they go up to 65535"))?)
            }
            Some(name) => Wanted::Named(name.parse().map_err(|error| format!("not the name of a service: {error}"))?),
        };
        Ok(Self { device, wanted })
    }
}

/// Carries bytes until both ends are done.
pub(crate) async fn connect(args: Connect, environment: Environment) -> anyhow::Result<()> {
    let account = Account::choose(args.server, environment)?;
    let api = account.api()?;
    let Target { device, wanted } = args.target;
    let service = match wanted {
        Wanted::Named(service) => service,
        Wanted::Only | Wanted::Port(_) => {
            let (_, devices) = api.devices().await.map_err(|error| account.explain(error))?;
            chosen(&device, &devices, &wanted)?
        }
    };
    let what = format!("{device}:{service}");
    let stream = api.open(&device, &service).await.map_err(|error| account.explain(error)).context(what.clone())?;
    carry(stream).await.context(what)
}

/// The service that is meant where it is not named: the one at the port, the only one, or the only one for ssh.
fn chosen(device: &DeviceName, devices: &[Device], wanted: &Wanted) -> anyhow::Result<ServiceName> {
    let Some(found) = devices.iter().find(|listed| listed.name == device.as_str()) else {
        return Err(NoService("no such device; see: linkspan devices")).context(device.to_string());
    };
    let service = match wanted {
        Wanted::Port(port) => at_port(found, *port)?,
        Wanted::Only | Wanted::Named(_) => only(found)?,
    };
    service
        .name
        .parse()
        .map_err(|_| NoService("its service has a name that cannot be asked for"))
        .context(device.to_string())
}

fn only(device: &Device) -> anyhow::Result<&Service> {
    let ssh: Vec<&Service> = device.services.iter().filter(|service| service.kind == "ssh").collect();
    match (device.services.as_slice(), ssh.as_slice()) {
        ([], _) => Err(NoService("has no service")).context(plain(&device.name)),
        ([only], _) => Ok(only),
        (_, [only]) => Ok(*only),
        _ => bail!(Usage(format!("{} has several services; name one: {}", plain(&device.name), names(device)))),
    }
}

fn at_port(device: &Device, port: u16) -> anyhow::Result<&Service> {
    let number = port.to_string();
    let named = device.services.iter().find(|service| service.name == number);
    let mut there = device.services.iter().filter(|service| service.port == Some(port));
    match (named, there.next(), there.next()) {
        (Some(service), ..) | (None, Some(service), None) => Ok(service),
        (None, None, _) if device.services.is_empty() => Err(NoService("has no service")).context(plain(&device.name)),
        (None, first, _) => {
            let how_many = if first.is_some() { "several services" } else { "no service" };
            bail!(Usage(format!("{} has {how_many} at port {port}; name one: {}", plain(&device.name), names(device))))
        }
    }
}

fn names(device: &Device) -> String {
    let names = device.services.iter().map(|service| format!("{}:{}", plain(&device.name), plain(&service.name)));
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(services: serde_json::Value) -> Vec<Device> {
        serde_json::from_value(serde_json::json!([{ "name": "plc1", "services": services }])).unwrap()
    }

    fn chosen_as(services: serde_json::Value, wanted: &Wanted) -> Result<String, (u8, String)> {
        chosen(&"plc1".parse().unwrap(), &device(services), wanted)
            .map(|service| service.to_string())
            .map_err(|error| (crate::exit::code(&error), format!("{error:#}")))
    }

    #[test]
    fn a_port_leads_to_its_service() {
        let service = |name: &str, port| serde_json::json!({"name": name, "kind": "tcp", "port": port});
        let services = serde_json::json!([service("a", 22), service("b", 80), service("c", 80), service("102", 9)]);
        let at = |port| chosen_as(services.clone(), &Wanted::Port(port));
        assert_eq!(at(22).as_deref(), Ok("a"));
        assert_eq!(at(102).as_deref(), Ok("102"), "a name that is a number");
        assert_eq!(at(9).as_deref(), Ok("102"));
        let listed = "name one: plc1:a, plc1:b, plc1:c, plc1:102";
        assert_eq!(at(80).unwrap_err(), (64, format!("plc1 has several services at port 80; {listed}")));
        assert_eq!(at(23).unwrap_err(), (64, format!("plc1 has no service at port 23; {listed}")));
        let none = chosen_as(serde_json::json!([]), &Wanted::Port(22)).unwrap_err();
        assert_eq!(none, (69, "plc1: has no service".to_owned()));
    }

    #[test]
    fn the_service_that_is_meant() {
        let chosen = |services| chosen_as(services, &Wanted::Only);
        let (web, cam) =
            (serde_json::json!({"name": "web", "kind": "http"}), serde_json::json!({"name": "tls", "kind": "https"}));
        let (ssh, ssh2) =
            (serde_json::json!({"name": "shell", "kind": "ssh"}), serde_json::json!({"name": "ssh2", "kind": "ssh"}));
        assert_eq!(chosen(serde_json::json!([web])).as_deref(), Ok("web"));
        assert_eq!(chosen(serde_json::json!([web, ssh, cam])).as_deref(), Ok("shell"));
        let several = chosen(serde_json::json!([ssh, ssh2])).unwrap_err();
        assert_eq!(several, (64, "plc1 has several services; name one: plc1:shell, plc1:ssh2".to_owned()));
        assert_eq!(chosen(serde_json::json!([])).unwrap_err(), (69, "plc1: has no service".to_owned()));
        let unknown =
            super::chosen(&"plc2".parse().unwrap(), &device(serde_json::json!([web])), &Wanted::Only).unwrap_err();
        assert_eq!(format!("{unknown:#}"), "plc2: no such device; see: linkspan devices");
    }

    #[test]
    fn targets_are_names() {
        let target: Target = "plc1:ssh".parse().unwrap();
        assert_eq!((target.device.as_str(), target.wanted), ("plc1", Wanted::Named("ssh".parse().unwrap())));
        assert_eq!("plc1".parse::<Target>().unwrap().wanted, Wanted::Only);
        assert_eq!("plc1:22".parse::<Target>().unwrap().wanted, Wanted::Port(22));
        assert_eq!("plc1:65536".parse::<Target>().unwrap_err(), "65536 is not a port: they go up to 65535");
        for wrong in ["", "PLC1", "plc1:", "plc1:ssh:22", "../x", "-oProxyCommand", "plc1/ssh"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
