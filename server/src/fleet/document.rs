//! Documents: a device more in one, with its comments kept; and what differs between two (pure).

use std::time::Duration;

use linkspan_protocol::id::{DeviceName, ServiceName};
use linkspan_protocol::message::ServiceKind;
use similar::TextDiff;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, value};

/// After so long the shortest difference is not looked for any more, and a longer one told.
const DIFF_TIME: Duration = Duration::from_millis(500);

/// A device that is to be reachable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDevice {
    /// Unique on the server.
    pub name: DeviceName,
    /// For people.
    pub description: String,
    /// Words to group devices by.
    pub tags: Vec<String>,
    /// Address or name on the LAN.
    pub host: String,
    /// What can be reached on it.
    pub services: Vec<NewService>,
}

/// A service of a [`NewDevice`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewService {
    /// Unique within the device.
    pub name: ServiceName,
    /// What is spoken there.
    pub kind: ServiceKind,
    /// The TCP port.
    pub port: u16,
}

/// Why a device is not put into a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdded {
    /// The document cannot be read.
    #[error("the document is not TOML: {0}")]
    NotToml(String),
    /// The list of devices has another form.
    #[error("the document writes its devices in another form than [[device]]; add this one by hand")]
    OtherForm,
}

/// The document with a device more; one of that name is replaced. Everything else stays as it is, comments too.
///
/// # Errors
/// [`NotAdded`].
pub fn with_device(document: &str, device: &NewDevice) -> Result<String, NotAdded> {
    let mut document: DocumentMut =
        document.parse().map_err(|error: toml_edit::TomlError| NotAdded::NotToml(error.message().to_owned()))?;
    let devices = document.entry("device").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    let devices = devices.as_array_of_tables_mut().ok_or(NotAdded::OtherForm)?;
    let named = |table: &Table| table.get("name").and_then(Item::as_str) == Some(device.name.as_str());
    let known = devices.iter().position(named);
    match known.and_then(|place| devices.get_mut(place)) {
        Some(known) => fill(known, device),
        None => {
            let mut table = Table::new();
            table.decor_mut().set_prefix("\n");
            fill(&mut table, device);
            devices.push(table);
        }
    }
    Ok(document.to_string())
}

fn fill(table: &mut Table, device: &NewDevice) {
    set(table, "name", value(device.name.as_str()));
    match device.description.as_str() {
        "" => {}
        text => set(table, "description", value(text)),
    }
    if !device.tags.is_empty() {
        set(table, "tags", value(device.tags.iter().collect::<Array>()));
    }
    set(table, "host", value(device.host.as_str()));
    let mut services = ArrayOfTables::new();
    for service in &device.services {
        let mut table = Table::new();
        set(&mut table, "name", value(service.name.as_str()));
        set(&mut table, "kind", value(service.kind.as_str()));
        set(&mut table, "port", value(i64::from(service.port)));
        services.push(table);
    }
    table.insert("service", Item::ArrayOfTables(services));
}

/// Sets a key where it is, or at the end: what is written around it stays.
fn set(table: &mut Table, key: &str, item: Item) {
    let Some(known) = table.get_mut(key) else {
        table.insert(key, item);
        return;
    };
    let decor = known.as_value().map(|value| value.decor().clone());
    *known = item;
    if let (Some(decor), Some(value)) = (decor, known.as_value_mut()) {
        *value.decor_mut() = decor;
    }
}

/// What differs between two documents, as a unified diff; empty if nothing does.
pub fn diff(one: &str, other: &str, names: (&str, &str)) -> String {
    if one == other {
        return String::new();
    }
    let texts = TextDiff::configure().timeout(DIFF_TIME).diff_lines(one, other);
    texts.unified_diff().context_radius(3).header(names.0, names.1).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera() -> NewDevice {
        NewDevice {
            name: "camera".parse().unwrap(),
            description: "Gate".into(),
            tags: vec!["gate".into()],
            host: "192.168.1.20".into(),
            services: vec![NewService { name: "web".parse().unwrap(), kind: ServiceKind::Http, port: 80 }],
        }
    }

    #[test]
    fn a_device_more_leaves_the_rest_as_it_is() {
        let before = "# Site 12\n[log]\nlevel = \"debug\" # for now\n\n# The press.\n[[device]]\nname = \"plc1\"\n\
                      host = \"192.168.1.10\"\n";
        let after = with_device(before, &camera()).unwrap();
        assert!(after.starts_with(before), "{after}");
        let read = linkspan_config::central::check(&after).unwrap();
        assert_eq!(read.devices.len(), 2);
        assert_eq!(read.devices[1].services[0].port, 80);
        let again = with_device(&after, &NewDevice { host: "192.168.1.21".into(), ..camera() }).unwrap();
        let changes = diff(&after, &again, ("a", "b"));
        let changes: Vec<_> = changes.lines().filter(|line| line.starts_with(['+', '-'])).collect();
        assert_eq!(changes, ["--- a", "+++ b", "-host = \"192.168.1.20\"", "+host = \"192.168.1.21\""]);
        let first = with_device("", &camera()).unwrap();
        assert_eq!(linkspan_config::central::check(&first).unwrap().devices.len(), 1);
    }

    #[test]
    fn a_document_of_another_form_is_left_alone() {
        let inline = "device = [{ name = \"plc1\", host = \"10.0.0.1\" }]\n";
        assert_eq!(with_device(inline, &camera()), Err(NotAdded::OtherForm));
        assert!(matches!(with_device("= 7", &camera()), Err(NotAdded::NotToml(_))));
        assert_eq!(diff("a\n", "a\n", ("1", "2")), "");
    }
}
