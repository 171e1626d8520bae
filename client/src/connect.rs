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
    /// The device, and the service where it has several
    #[arg(value_name = "DEVICE[:SERVICE]")]
    target: Target,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    device: DeviceName,
    service: Option<ServiceName>,
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
        let service =
            service.map(str::parse).transpose().map_err(|error| format!("not the name of a service: {error}"))?;
        Ok(Self { device, service })
    }
}

/// Carries bytes until both ends are done.
pub(crate) async fn connect(args: Connect, environment: Environment) -> anyhow::Result<()> {
    let account = Account::choose(args.server, environment)?;
    let api = account.api()?;
    let Target { device, service } = args.target;
    let service = match service {
        Some(service) => service,
        None => {
            let (_, devices) = api.devices().await.map_err(|error| account.explain(error))?;
            only_service(&device, &devices)?
        }
    };
    let what = format!("{device}:{service}");
    let stream = api.open(&device, &service).await.map_err(|error| account.explain(error)).context(what.clone())?;
    carry(stream).await.context(what)
}

/// The service that is meant when none is named: the only one, or the only one for ssh.
fn only_service(device: &DeviceName, devices: &[Device]) -> anyhow::Result<ServiceName> {
    let Some(found) = devices.iter().find(|listed| listed.name == device.as_str()) else {
        return Err(NoService("no such device; see: linkspan devices")).context(device.to_string());
    };
    let ssh: Vec<&Service> = found.services.iter().filter(|service| service.kind == "ssh").collect();
    let only = match (found.services.as_slice(), ssh.as_slice()) {
        ([], _) => return Err(NoService("has no service")).context(device.to_string()),
        ([only], _) => only,
        (_, [only]) => *only,
        _ => {
            let names = found.services.iter().map(|service| format!("{device}:{}", plain(&service.name)));
            bail!(Usage(format!("{device} has several services; name one: {}", names.collect::<Vec<_>>().join(", "))));
        }
    };
    only.name
        .parse()
        .map_err(|_| NoService("its service has a name that cannot be asked for"))
        .context(device.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(services: serde_json::Value) -> Vec<Device> {
        serde_json::from_value(serde_json::json!([{ "name": "plc1", "services": services }])).unwrap()
    }

    fn chosen(services: serde_json::Value) -> Result<String, (u8, String)> {
        only_service(&"plc1".parse().unwrap(), &device(services))
            .map(|service| service.to_string())
            .map_err(|error| (crate::exit::code(&error), format!("{error:#}")))
    }

    #[test]
    fn the_service_that_is_meant() {
        let (web, cam) =
            (serde_json::json!({"name": "web", "kind": "http"}), serde_json::json!({"name": "tls", "kind": "https"}));
        let (ssh, ssh2) =
            (serde_json::json!({"name": "shell", "kind": "ssh"}), serde_json::json!({"name": "ssh2", "kind": "ssh"}));
        assert_eq!(chosen(serde_json::json!([web])).as_deref(), Ok("web"));
        assert_eq!(chosen(serde_json::json!([web, ssh, cam])).as_deref(), Ok("shell"));
        let several = chosen(serde_json::json!([ssh, ssh2])).unwrap_err();
        assert_eq!(several, (64, "plc1 has several services; name one: plc1:shell, plc1:ssh2".to_owned()));
        assert_eq!(chosen(serde_json::json!([])).unwrap_err(), (69, "plc1: has no service".to_owned()));
        let unknown = only_service(&"plc2".parse().unwrap(), &device(serde_json::json!([web]))).unwrap_err();
        assert_eq!(format!("{unknown:#}"), "plc2: no such device; see: linkspan devices");
    }

    #[test]
    fn targets_are_names() {
        let target: Target = "plc1:ssh".parse().unwrap();
        assert_eq!((target.device.as_str(), target.service.unwrap().as_str()), ("plc1", "ssh"));
        assert_eq!("plc1".parse::<Target>().unwrap().service, None);
        for wrong in ["", "PLC1", "plc1:", "plc1:ssh:22", "../x", "-oProxyCommand", "plc1/ssh"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
