//! `linkspan-server provisioning-key …` and `linkspan-server enrolment …`: many routers with one key, and who decides.

use std::time::Duration;

use clap::Subcommand;
use jiff::Timestamp;
use linkspan_protocol::id::GatewayName;
use linkspan_server::enrol::word::provisioning_key;
use linkspan_server::store::{Decided, Enrolment, EnrolmentId, ProvisioningKey, Store, TenantName};

use super::{DATA, Exit, ListForm, NO_USER, json_line, note, out, time_span};

/// What can be done about keys for many routers.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Adds a key and prints it. Routers that show it wait in a queue until somebody accepts them.
    Add {
        /// What people call it.
        name: GatewayName,
        /// How many routers it may bring.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        uses: u32,
        /// How long it is good: `24h`, `30d`.
        #[arg(long, default_value = "30d", value_parser = time_span, value_name = "TIME")]
        expires: Duration,
        /// The organisation whose routers it brings.
        #[arg(long, default_value = "default")]
        tenant: TenantName,
    },
    /// All keys.
    List {
        #[command(flatten)]
        form: ListForm,
    },
    /// Removes a key, and with it what waits in the queue for it. Gateways that were accepted stay.
    Remove {
        /// The name.
        name: GatewayName,
        /// The organisation it belongs to.
        #[arg(long, default_value = "default")]
        tenant: TenantName,
    },
}

/// What can be done about routers that wait.
#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// All routers that wait for a decision.
    List {
        #[command(flatten)]
        form: ListForm,
    },
    /// Makes a router a gateway.
    Accept {
        /// Its number in the list.
        number: i64,
        /// The gateway's name, in place of the one that the router proposes.
        #[arg(long)]
        name: Option<GatewayName>,
    },
    /// Turns a router away.
    Refuse {
        /// Its number in the list.
        number: i64,
    },
}

pub(super) async fn answer_key(store: &Store, command: KeyCommand) -> Result<(), Exit> {
    match command {
        KeyCommand::Add { name, uses, expires, tenant } => {
            let tenant = super::tenant::find(store, &tenant).await?.id;
            let (word, created) = (provisioning_key(), Timestamp::now());
            let expires = created.saturating_add(expires).unwrap_or(Timestamp::MAX);
            let key = ProvisioningKey { tenant, name: name.clone(), uses, used: 0, created, expires };
            if !store.add_provisioning_key(&key, &word).await? {
                return Err(Exit::says(DATA, format_args!("there is a provisioning key {name} already")));
            }
            note(format_args!("this is provisioning key {name}, shown this once; on each router:"));
            note(format_args!("    linkspan-gateway enroll URL - --name NAME     (and the key on standard input)"));
            out(&format!("{}\n", word.expose()))
        }
        KeyCommand::List { form } => list_keys(store, form).await,
        KeyCommand::Remove { name, tenant } => {
            let tenant = super::tenant::find(store, &tenant).await?.id;
            if !store.remove_provisioning_key(tenant, &name).await? {
                return Err(Exit::says(NO_USER, format_args!("there is no provisioning key {name}")));
            }
            note(format_args!("provisioning key {name} is removed"));
            Ok(())
        }
    }
}

async fn list_keys(store: &Store, form: ListForm) -> Result<(), Exit> {
    let keys = store.provisioning_keys().await?;
    if form.json {
        let in_json = |key: &ProvisioningKey| {
            serde_json::json!({
                "name": key.name, "uses": key.uses, "used": key.used,
                "created": key.created.to_string(), "expires": key.expires.to_string(),
            })
        };
        return out(&json_line(&keys.iter().map(in_json).collect()));
    }
    let line = |key: &ProvisioningKey| {
        format!("{:<32} {} of {} used, until {}\n", key.name.as_str(), key.used, key.uses, key.expires)
    };
    out(&keys.iter().map(line).collect::<String>())
}

pub(super) async fn answer_queue(store: &Store, command: QueueCommand) -> Result<(), Exit> {
    match command {
        QueueCommand::List { form } => list_queue(store, form).await,
        QueueCommand::Accept { number, name } => {
            let id = EnrolmentId::from_number(number);
            decided(store.accept_enrolment(id, name.as_ref(), Timestamp::now()).await?, number)?;
            note(format_args!("router {number} is accepted; it hears so when it next asks"));
            Ok(())
        }
        QueueCommand::Refuse { number } => {
            decided(store.refuse_enrolment(EnrolmentId::from_number(number)).await?, number)?;
            note(format_args!("router {number} is refused"));
            Ok(())
        }
    }
}

fn decided(decided: Decided, number: i64) -> Result<(), Exit> {
    match decided {
        Decided::Done => Ok(()),
        Decided::Nobody => Err(Exit::says(NO_USER, format_args!("no router waits under number {number}"))),
        Decided::NameTaken => {
            Err(Exit::says(DATA, "there is a gateway of that name already; give another with --name"))
        }
        Decided::NoName => Err(Exit::says(DATA, "the router proposes no name; give it one with --name")),
    }
}

async fn list_queue(store: &Store, form: ListForm) -> Result<(), Exit> {
    let waiting = store.enrolments().await?;
    if form.json {
        let in_json = |one: &Enrolment| {
            serde_json::json!({
                "id": one.id.number(), "name": one.label, "provisioning_key": one.key, "public_key": one.public_key,
                "address": one.address, "agent": one.agent,
                "created": one.created.to_string(), "seen": one.seen.to_string(),
            })
        };
        return out(&json_line(&waiting.iter().map(in_json).collect()));
    }
    let line = |one: &Enrolment| {
        let name = one.label.as_ref().map_or("(no name)", GatewayName::as_str);
        let key = one.public_key.get(..16).unwrap_or_default();
        format!("{:<12} {name:<32} key {key}… from {} since {}\n", one.id.number(), one.address, one.created)
    };
    out(&waiting.iter().map(line).collect::<String>())
}
