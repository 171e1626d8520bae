//! `linkspan-server gateway …`

use clap::Subcommand;
use linkspan_protocol::id::GatewayName;
use linkspan_server::access::gateway_secret;
use linkspan_server::store::{Store, TenantName};

use super::{DATA, Exit, ListForm, NO_USER, Place, USAGE, json_line, note, out};

/// What can be done about gateways.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Adds a gateway and prints the secret it proves itself with.
    Add {
        /// The name, as in the gateway's own configuration.
        name: GatewayName,
        /// Prove identity with a shared secret.
        #[arg(long)]
        secret: bool,
        /// The organisation it belongs to.
        #[arg(long, default_value = "default")]
        tenant: TenantName,
    },
    /// All gateways that may connect.
    List {
        #[command(flatten)]
        form: ListForm,
    },
    /// Removes a gateway and its devices.
    Remove {
        /// The name.
        name: GatewayName,
    },
}

pub(super) async fn answer(place: &Place, command: Command) -> Result<(), Exit> {
    if let Command::Add { secret: false, name, .. } = &command {
        let told =
            format_args!("claim codes come with enrolment, in a later version; use `gateway add {name} --secret`");
        return Err(Exit::says(USAGE, told));
    }
    let store = place.store().await?;
    match command {
        Command::Add { name, tenant, .. } => add(&store, &name, &tenant).await,
        Command::List { form } => list(&store, form).await,
        Command::Remove { name } => {
            if !store.remove_gateway(&name).await? {
                return Err(Exit::says(NO_USER, format_args!("there is no gateway {name}")));
            }
            note(format_args!("gateway {name} is removed with its devices"));
            Ok(())
        }
    }
}

async fn add(store: &Store, name: &GatewayName, tenant: &TenantName) -> Result<(), Exit> {
    let tenant = super::tenant::find(store, tenant).await?;
    let secret = gateway_secret();
    if store.add_gateway_to(tenant.id, name, &secret).await?.is_none() {
        return Err(Exit::says(DATA, format_args!("there is a gateway {name} already; remove it first")));
    }
    note(format_args!("gateway {name} is added; this is its secret, shown this once:"));
    out(&format!("{}\n", secret.expose()))
}

async fn list(store: &Store, form: ListForm) -> Result<(), Exit> {
    let gateways = store.gateways().await?;
    if form.json {
        let gateways = gateways.iter().map(|gateway| {
            serde_json::json!({
                "name": gateway.name,
                "agent": gateway.agent,
                "last_seen": gateway.last_seen.map(|time| time.to_string()),
                "created": gateway.created.to_string(),
            })
        });
        return out(&json_line(&gateways.collect()));
    }
    let line = |gateway: &linkspan_server::store::Gateway| {
        let seen = gateway.last_seen.map_or_else(|| "never seen".to_owned(), |time| format!("last seen {time}"));
        format!("{:<32} {seen}\n", gateway.name.as_str())
    };
    out(&gateways.iter().map(line).collect::<String>())
}
