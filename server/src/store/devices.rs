//! Devices, as their gateways report them.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use linkspan_protocol::id::{DeviceName, GatewayName};
use linkspan_protocol::message::{DeviceRefused, DeviceReport, ServiceReport};

use super::gateways::gateway_name;
use super::{Store, StoreError, damaged, time_from};
use crate::rights::{DeviceTarget, GatewayId, Target, TenantId};

/// Devices of one gateway; a LAN behind a 4G router is smaller.
const DEVICES_MAX: usize = 1000;
/// Services of one device.
const SERVICES_MAX: usize = 64;
/// Bytes of one device's report, pinned certificates included.
const REPORT_MAX: usize = 64 * 1024;

/// What came of a gateway's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The devices that cannot be taken.
    pub(crate) refused: Vec<DeviceRefused>,
    /// Those that are new, changed or gone.
    pub(crate) changed: Vec<DeviceName>,
}

/// A device, and the gateway it stands behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Whose it is: the tenant of its gateway.
    pub tenant: TenantId,
    /// The gateway.
    pub gateway: GatewayId,
    /// The gateway's name.
    pub gateway_name: GatewayName,
    /// When the gateway's link last began or ended.
    pub last_seen: Option<Timestamp>,
    /// What the gateway's configuration says about the device.
    pub report: DeviceReport,
}

impl Device {
    /// The device as something to be decided about.
    pub fn target(&self) -> Target<'_> {
        Target::Device(self.parts())
    }

    /// One of its services as something to be decided about.
    pub fn service_target<'a>(&'a self, service: &'a ServiceReport) -> Target<'a> {
        Target::Service(self.parts(), service)
    }

    fn parts(&self) -> DeviceTarget<'_> {
        DeviceTarget { tenant: self.tenant, gateway: self.gateway, report: &self.report }
    }
}

/// Columns of a device and its gateway.
pub(super) type Row = (i64, i64, String, Option<i64>, String);
pub(super) const COLUMNS: &str = "g.tenant_id, g.id, g.name, g.last_seen, d.report";

impl Store {
    /// Replaces a gateway's devices. Those that cannot be taken are told with the reason, which does not say whose a
    /// name is that is taken already.
    pub async fn report_devices(
        &self,
        id: GatewayId,
        devices: &[DeviceReport],
    ) -> Result<Vec<DeviceRefused>, StoreError> {
        Ok(self.take_devices(id, devices).await?.refused)
    }

    /// The same, with what is not as it was.
    pub(crate) async fn take_devices(&self, id: GatewayId, devices: &[DeviceReport]) -> Result<Taken, StoreError> {
        let (reports, mut refused) = acceptable(devices);
        // A fleet that comes back says what it said before: that costs no write, and no wait for other writers.
        let mut changed = self.changed_by(id, &reports).await?;
        if changed.is_empty() {
            return Ok(Taken { refused, changed });
        }
        // Tags and services decide who may do what, so this is a change of that too.
        let mut write = self.change().await?;
        sqlx::query("DELETE FROM devices WHERE gateway_id = $1").bind(id.0).execute(&mut *write).await?;
        for (name, report) in reports {
            let sql =
                "INSERT INTO devices (name, gateway_id, report) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING";
            let done = sqlx::query(sql).bind(name.as_str()).bind(id.0).bind(report).execute(&mut *write).await?;
            if done.rows_affected() == 0 {
                let reason = "this name is taken on the server; choose another one".to_owned();
                changed.retain(|changed| changed != name);
                refused.push(DeviceRefused { name: name.clone(), reason });
            }
        }
        write.commit().await?;
        Ok(Taken { refused, changed })
    }

    /// The devices of a gateway that are not kept as they are reported: new, changed or gone.
    async fn changed_by(
        &self,
        id: GatewayId,
        reports: &HashMap<&DeviceName, String>,
    ) -> Result<Vec<DeviceName>, StoreError> {
        let sql = "SELECT name, report FROM devices WHERE gateway_id = $1";
        let kept: Vec<(String, String)> = sqlx::query_as(sql).bind(id.0).fetch_all(&self.pool).await?;
        let kept: HashMap<&str, &str> = kept.iter().map(|(name, report)| (name.as_str(), report.as_str())).collect();
        let other = |(name, report): &(&&DeviceName, &String)| kept.get(name.as_str()) != Some(&report.as_str());
        let new = reports.iter().filter(other).map(|(name, _)| (*name).clone());
        let known: HashSet<&str> = reports.keys().map(|name| name.as_str()).collect();
        let gone = kept.keys().filter(|name| !known.contains(*name)).filter_map(|name| name.parse().ok());
        Ok(new.chain(gone).collect())
    }

    /// The device of this name.
    pub async fn device(&self, name: &DeviceName) -> Result<Option<Device>, StoreError> {
        let sql = "SELECT g.tenant_id, g.id, g.name, g.last_seen, d.report FROM devices d \
                   JOIN gateways g ON g.id = d.gateway_id WHERE d.name = $1";
        let row: Option<Row> = sqlx::query_as(sql).bind(name.as_str()).fetch_optional(&self.pool).await?;
        row.map(device).transpose()
    }

    /// All devices, by name.
    pub async fn devices(&self) -> Result<Vec<Device>, StoreError> {
        let sql = "SELECT g.tenant_id, g.id, g.name, g.last_seen, d.report FROM devices d \
                   JOIN gateways g ON g.id = d.gateway_id ORDER BY d.name";
        let rows: Vec<Row> = sqlx::query_as(sql).fetch_all(&self.pool).await?;
        rows.into_iter().map(device).collect()
    }
}

pub(super) fn device((tenant, gateway, name, last_seen, report): Row) -> Result<Device, StoreError> {
    Ok(Device {
        tenant: TenantId(tenant),
        gateway: GatewayId(gateway),
        gateway_name: gateway_name(&name)?,
        last_seen: last_seen.map(time_from).transpose()?,
        report: serde_json::from_str(&report).map_err(|error| damaged("device")(&error.to_string()))?,
    })
}

/// The devices that a gateway may report, as text, and those that it may not, whatever others have reported.
fn acceptable(devices: &[DeviceReport]) -> (HashMap<&DeviceName, String>, Vec<DeviceRefused>) {
    let (mut reports, mut refused) = (HashMap::new(), Vec::new());
    for (number, device) in devices.iter().enumerate() {
        let report = match writable(device) {
            _ if number >= DEVICES_MAX => Err("the gateway lists too many devices"),
            _ if reports.contains_key(&device.name) => Err("the gateway lists this name twice"),
            report => report,
        };
        match report {
            Ok(report) => drop(reports.insert(&device.name, report)),
            Err(why) => refused.push(DeviceRefused { name: device.name.clone(), reason: why.to_owned() }),
        }
    }
    (reports, refused)
}

/// The report as text, if a gateway may say that much.
fn writable(device: &DeviceReport) -> Result<String, &'static str> {
    if device.services.len() > SERVICES_MAX {
        return Err("it has too many services");
    }
    let names: HashSet<&str> = device.services.iter().map(|service| service.name.as_str()).collect();
    if names.len() != device.services.len() {
        return Err("two of its services have the same name");
    }
    let text = serde_json::to_string(device).map_err(|_| "it cannot be written down")?;
    if text.len() > REPORT_MAX { Err("its description is too long") } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use linkspan_protocol::id::Secret;

    use super::*;
    use crate::store::tests::fresh;

    fn report(name: &str) -> DeviceReport {
        let text = format!(
            r#"{{"name":"{name}","description":"Press 7","services":[{{"name":"web","kind":"http","host":"10.0.0.1","port":80}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[tokio::test]
    async fn a_report_replaces_the_gateways_list_and_takes_no_foreign_name() {
        let (_dir, store) = fresh().await;
        let one = store.add_gateway(&"one".parse().unwrap(), &Secret::new("s")).await.unwrap().unwrap();
        let two = store.add_gateway(&"two".parse().unwrap(), &Secret::new("s")).await.unwrap().unwrap();
        assert_eq!(store.report_devices(one, &[report("plc1"), report("plc2")]).await.unwrap(), []);
        let refused = store.report_devices(two, &[report("plc1"), report("cam1"), report("cam1")]).await.unwrap();
        let refused: Vec<_> = refused.iter().map(|r| format!("{}: {}", r.name, r.reason)).collect();
        assert_eq!(
            refused,
            ["cam1: the gateway lists this name twice", "plc1: this name is taken on the server; choose another one"]
        );
        store.report_devices(one, &[report("plc2")]).await.unwrap();
        let all: Vec<_> =
            store.devices().await.unwrap().iter().map(|d| format!("{}@{}", d.report.name, d.gateway_name)).collect();
        assert_eq!(all, ["cam1@two", "plc2@one"]);
        assert_eq!(store.device(&"plc1".parse().unwrap()).await.unwrap(), None);
        store.remove_gateway(&"two".parse().unwrap()).await.unwrap();
        assert_eq!(store.devices().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn saying_the_same_again_needs_no_write() {
        let (_dir, store) = fresh().await;
        let one = store.add_gateway(&"one".parse().unwrap(), &Secret::new("s")).await.unwrap().unwrap();
        let all = [report("plc1"), report("plc2"), report("plc2")];
        assert_eq!(store.report_devices(one, &all).await.unwrap().len(), 1);
        let held = store.write().await.unwrap();
        assert_eq!(store.report_devices(one, &all).await.unwrap().len(), 1, "although another one writes");
        held.rollback().await.unwrap();
        let changed = DeviceReport { description: "Press 8".into(), ..report("plc2") };
        for list in [vec![report("plc1"), changed], vec![report("plc1")], vec![]] {
            store.report_devices(one, &list).await.unwrap();
            let kept: Vec<_> = store.devices().await.unwrap().into_iter().map(|device| device.report).collect();
            assert_eq!(kept, list);
        }
    }

    #[tokio::test]
    async fn a_gateway_may_not_say_too_much() {
        let (_dir, store) = fresh().await;
        let id = store.add_gateway(&"one".parse().unwrap(), &Secret::new("s")).await.unwrap().unwrap();
        let long = DeviceReport { description: "x".repeat(REPORT_MAX), ..report("long") };
        let mut twin = report("twin");
        twin.services.push(twin.services[0].clone());
        let refused = store.report_devices(id, &[long, twin, report("plc1")]).await.unwrap();
        assert_eq!(refused.len(), 2);
        assert_eq!(store.devices().await.unwrap().len(), 1);
        let many: Vec<_> = (0..DEVICES_MAX + 3).map(|n| report(&format!("d{n}"))).collect();
        assert_eq!(store.report_devices(id, &many).await.unwrap().len(), 3);
    }
}
