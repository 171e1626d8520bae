//! `linkspan-server discovered …`: what gateways have found on their LANs, and what is decided about it.

use clap::Subcommand;
use linkspan_protocol::id::{DeviceName, GatewayName};
use linkspan_protocol::message::ServiceKind;
use linkspan_protocol::text::tame;
use linkspan_server::fleet::{self, NewDevice, NewService, NotStaged};
use linkspan_server::store::{Found, FoundSearch, FoundState, Store, TenantName};
use serde_json::{Value, json};

use super::config::{AUTHOR, find};
use super::{DATA, Exit, ListForm, NO_USER, json_line, note, out};

/// What can be done about devices that were found.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What gateways have found.
    List {
        /// Of this gateway alone.
        #[arg(long)]
        gateway: Option<GatewayName>,
        /// In this state alone: `new`, `ignored` or `approved`.
        #[arg(long, value_parser = state)]
        state: Option<FoundState>,
        /// With this in names, addresses, vendor or key.
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// The organisation whose gateways are meant.
        #[arg(long, default_value = "default")]
        tenant: TenantName,
        #[command(flatten)]
        form: ListForm,
    },
    /// Publishes a device: it becomes part of the gateway's configuration, which a running server sends.
    Approve {
        /// Its number in the list.
        id: i64,
        /// Its name on the server.
        name: DeviceName,
        /// For people.
        #[arg(long, default_value = "")]
        description: String,
        /// Words to group devices by.
        #[arg(long, value_delimiter = ',', value_name = "TAG,TAG")]
        tags: Vec<String>,
        /// What can be reached on it, in place of what is suggested: `web=http:80`; may be given several times.
        #[arg(long, value_name = "NAME=KIND:PORT", value_parser = service)]
        service: Vec<NewService>,
    },
    /// Notes that a device is not to be published.
    Ignore {
        /// Its number in the list.
        id: i64,
    },
    /// Takes back what was decided about a device: it is new again. What is published of it stays.
    Reset {
        /// Its number in the list.
        id: i64,
    },
    /// Makes a device a part of another one of the same gateway: two ports of one machine.
    Merge {
        /// Its number in the list.
        id: i64,
        /// The number of the other one; without it, it is a device of its own again.
        into: Option<i64>,
    },
}

impl Command {
    /// The number of the device that is decided about.
    pub(super) fn decides(&self) -> Option<i64> {
        match self {
            Self::List { .. } => None,
            Self::Approve { id, .. } | Self::Ignore { id } | Self::Reset { id } | Self::Merge { id, .. } => Some(*id),
        }
    }
}

pub(super) async fn answer(store: &Store, command: Command) -> Result<(), Exit> {
    match command {
        Command::List { gateway, state, search, tenant, form } => {
            let tenant = super::tenant::find(store, &tenant).await?;
            let gateway = match gateway {
                Some(name) => Some(find(store, &name).await?.id),
                None => None,
            };
            let search = FoundSearch { gateway, state, text: search };
            let (mut all, mut after, mut more) = (Vec::new(), -1, true);
            while more {
                let (rows, further) = store.found(tenant.id, &search, after).await?;
                after = rows.last().map_or(after, |row| row.id);
                more = further && !rows.is_empty();
                all.extend(rows);
            }
            if form.json {
                return out(&json_line(&all.iter().map(in_json).collect()));
            }
            out(&all.iter().map(in_words).collect::<String>())
        }
        Command::Approve { id, name, description, tags, service } => {
            let found = one(store, id).await?;
            let services = if service.is_empty() { fleet::suggested(&found) } else { service };
            if services.is_empty() {
                return Err(Exit::says(
                    DATA,
                    "nothing is suggested: say what can be reached, with --service web=http:80",
                ));
            }
            let none = || Exit::says(DATA, "the device has no address now");
            let host = fleet::host_of(&found).ok_or_else(none)?;
            let device = NewDevice { name, description, tags, host, services };
            let (revision, _) = fleet::approve(store, &found, &device, AUTHOR).await.map_err(refused)?;
            note(format_args!("{} is part of revision {revision} of {}", device.name, found.gateway_name));
            out(&format!("{revision}\n"))
        }
        Command::Ignore { id } => decide(store, id, FoundState::Ignored).await,
        Command::Reset { id } => decide(store, id, FoundState::New).await,
        Command::Merge { id, into } => {
            one(store, id).await?;
            if store.merge_found(id, into).await? {
                return Ok(());
            }
            Err(Exit::says(DATA, "it can be a part only of another device of the same gateway that is no part itself"))
        }
    }
}

async fn one(store: &Store, id: i64) -> Result<Found, Exit> {
    let found = store.found_one(id).await?;
    found
        .ok_or_else(|| Exit::says(NO_USER, format_args!("nothing of the number {id} was found; see `discovered list`")))
}

async fn decide(store: &Store, id: i64, state: FoundState) -> Result<(), Exit> {
    let found = one(store, id).await?;
    store.decide_found(id, state, None).await?;
    note(format_args!("{} is {}", title(&found), state.as_str()));
    Ok(())
}

/// Names come from strangers.
fn title(found: &Found) -> String {
    let report = &found.report;
    tame(report.names.first().or(report.addresses.first()).unwrap_or(&report.key))
}

fn in_words(found: &Found) -> String {
    let addresses = found.report.addresses.join(", ");
    let gone = if found.report.present { "" } else { ", not there now" };
    let device = found.device.as_ref().map_or_else(String::new, |name| format!(" as {name}"));
    format!(
        "{:<20} {:<16} {}{device}: {} ({}{gone})\n",
        found.id,
        found.gateway_name.as_str(),
        found.state.as_str(),
        title(found),
        tame(&addresses)
    )
}

fn in_json(found: &Found) -> Value {
    let service = |one: NewService| json!({ "name": one.name, "kind": one.kind.as_str(), "port": one.port });
    let suggested: Vec<_> = fleet::suggested(found).into_iter().map(service).collect();
    json!({ "id": found.id.to_string(), "gateway": found.gateway_name, "key": found.report.key, "state": found.state.as_str(),
        "device": found.device, "names": found.report.names, "addresses": found.report.addresses,
        "about": found.report.about, "present": found.report.present, "suggested": suggested,
        "first_seen": found.first_seen.to_string(), "last_seen": found.last_seen.to_string() })
}

fn state(word: &str) -> Result<FoundState, String> {
    FoundState::named(word).ok_or_else(|| "write new, ignored or approved".to_owned())
}

fn service(text: &str) -> Result<NewService, String> {
    let wrong = || "write NAME=KIND:PORT, as in web=http:80; kinds are http, https, ssh, vnc, rdp and tcp".to_owned();
    let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
    let (kind, port) = rest.split_once(':').ok_or_else(wrong)?;
    let kinds =
        [ServiceKind::Http, ServiceKind::Https, ServiceKind::Ssh, ServiceKind::Vnc, ServiceKind::Rdp, ServiceKind::Tcp];
    let kind = kinds.into_iter().find(|known| known.as_str() == kind).ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    Ok(NewService { name: name.parse().map_err(|_| wrong())?, kind, port })
}

fn refused(error: NotStaged) -> Exit {
    match error {
        NotStaged::Store(error) => error.into(),
        error => Exit::new(DATA, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_written_in_one_word() {
        let web = service("web=http:8080").unwrap();
        assert_eq!((web.name.to_string().as_str(), web.kind, web.port), ("web", ServiceKind::Http, 8080));
        for bad in ["web", "web=http", "web=ftp:21", "web=http:0", "web=http:x", "=http:80"] {
            assert!(service(bad).is_err(), "{bad}");
        }
    }
}
