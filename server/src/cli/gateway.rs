//! `linkspan-server gateway …`

use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use linkspan_protocol::code::ClaimCode;
use linkspan_protocol::id::GatewayName;
use linkspan_server::access::gateway_secret;
use linkspan_server::config::{Config, Tls};
use linkspan_server::edge::tls::own_fingerprint;
use linkspan_server::enrol::word::claim_code;
use linkspan_server::store::{Claim, Gateway, IdentityView, Store, TenantName};

use super::{DATA, Exit, ListForm, NO_USER, Place, UNAVAILABLE, data, json_line, note, out, qr, time_span};

/// What can be done about gateways.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Adds a gateway and prints a claim code, with which its router enrols: `linkspan-gateway enroll URL CODE`.
    Add {
        /// The name.
        name: GatewayName,
        /// Print a shared secret instead, to be written into the gateway's `secret_file`.
        #[arg(long, conflicts_with_all = ["expires", "qr"])]
        secret: bool,
        #[command(flatten)]
        code: CodeForm,
        /// The organisation it belongs to.
        #[arg(long, default_value = "default")]
        tenant: TenantName,
    },
    /// All gateways that may connect.
    List {
        #[command(flatten)]
        form: ListForm,
    },
    /// How a gateway proves itself, and when it was last here.
    Show {
        /// The name.
        name: GatewayName,
        #[command(flatten)]
        form: ListForm,
    },
    /// Accepts nothing that the gateway has any more, and ends its link. Name, devices and history stay.
    Revoke {
        /// The name.
        name: GatewayName,
    },
    /// Prints a claim code for another router that takes the gateway's place: name, devices and history stay.
    Replace {
        /// The name.
        name: GatewayName,
        /// End the link of the router that is there now at once, not only when the new one has enrolled.
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        code: CodeForm,
    },
    /// Removes a gateway and its devices.
    Remove {
        /// The name.
        name: GatewayName,
    },
    /// What gateways used in a month.
    Traffic(data::TrafficOf),
    /// Sets how much data a gateway may use in a month, or lifts that for a time. A running server notices within 10 s.
    Cap(data::CapOf),
}

/// How long a code is good, and how it is shown.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct CodeForm {
    /// How long the code is good: `30m`, `24h`, `7d`.
    #[arg(long, default_value = "24h", value_parser = time_span, value_name = "TIME")]
    expires: Duration,
    /// Also as a QR code, on standard error.
    #[arg(long)]
    qr: bool,
}

pub(super) async fn answer(place: &Place, command: Command) -> Result<(), Exit> {
    let store = place.store().await?;
    match command {
        Command::Add { name, secret: true, tenant, .. } => add_with_secret(&store, &name, &tenant).await,
        Command::Add { name, code, tenant, .. } => {
            let tenant = super::tenant::find(&store, &tenant).await?;
            let claim = new_code()?;
            if store.add_gateway_to_claim(tenant.id, &name, code.claim(&claim)).await?.is_none() {
                let told = format_args!(
                    "there is a gateway {name} already; `gateway replace {name}` prints a code for another router"
                );
                return Err(Exit::says(DATA, told));
            }
            note(format_args!("gateway {name} is added"));
            show_code(&place.config()?, code, &claim)
        }
        Command::List { form } => list(&store, form).await,
        Command::Traffic(asked) => data::traffic(&store, &place.config()?, asked).await,
        Command::Cap(asked) => data::cap(&store, &place.config()?, asked).await,
        Command::Show { name, form } => show(&store, &name, form).await,
        Command::Revoke { name } => {
            found(store.revoke_gateway(&name, Timestamp::now()).await?, &name)?;
            note(format_args!("gateway {name} is revoked; `gateway replace {name}` prints a code to bring it back"));
            Ok(())
        }
        Command::Replace { name, now, code } => {
            let claim = new_code()?;
            found(store.claim_again(&name, code.claim(&claim), now).await?, &name)?;
            let until = if now { "from now on" } else { "as soon as another one has enrolled" };
            note(format_args!("the router that is gateway {name} now is no longer accepted {until}"));
            show_code(&place.config()?, code, &claim)
        }
        Command::Remove { name } => {
            found(store.remove_gateway(&name).await?, &name)?;
            note(format_args!("gateway {name} is removed with its devices"));
            Ok(())
        }
    }
}

impl CodeForm {
    fn claim(self, code: &ClaimCode) -> Claim<'_> {
        let created = Timestamp::now();
        Claim { code, created, expires: created.saturating_add(self.expires).unwrap_or(Timestamp::MAX) }
    }
}

fn new_code() -> Result<ClaimCode, Exit> {
    claim_code().map_err(|error| Exit::new(UNAVAILABLE, error))
}

fn found(found: bool, name: &GatewayName) -> Result<(), Exit> {
    if found { Ok(()) } else { Err(Exit::says(NO_USER, format_args!("there is no gateway {name}"))) }
}

/// The code alone on standard output; beside it, what to do with it.
fn show_code(config: &Config, form: CodeForm, code: &ClaimCode) -> Result<(), Exit> {
    let code = code.expose();
    let url = config.site.console_origin();
    let trust = match config.tls {
        Tls::SelfSigned => own_fingerprint(&config.state_dir).map(|own| format!(" --fingerprint {own}")),
        Tls::Files { .. } => None,
    };
    note(format_args!("on the router, once and within {}:", in_words(form.expires)));
    note(format_args!("    linkspan-gateway enroll {url} {code}{}", trust.unwrap_or_default()));
    if form.qr {
        note(format_args!("{}", qr(&code)?));
    }
    out(&format!("{code}\n"))
}

fn in_words(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds % 86_400 == 0 => format!("{} d", seconds / 86_400),
        seconds if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

async fn add_with_secret(store: &Store, name: &GatewayName, tenant: &TenantName) -> Result<(), Exit> {
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
        return out(&json_line(&gateways.iter().map(|gateway| in_json(gateway, None)).collect()));
    }
    let line = |gateway: &Gateway| {
        let seen = gateway.last_seen.map_or_else(|| "never seen".to_owned(), |time| format!("last seen {time}"));
        format!("{:<32} {seen}\n", gateway.name.as_str())
    };
    out(&gateways.iter().map(line).collect::<String>())
}

async fn show(store: &Store, name: &GatewayName, form: ListForm) -> Result<(), Exit> {
    let gateway = store.gateway(name).await?;
    let (Some(gateway), Some(identity)) = (gateway, store.identity(name).await?) else { return found(false, name) };
    if form.json {
        return out(&json_line(&in_json(&gateway, Some(&identity))));
    }
    let mut text = format!("{name}\n  added {}\n", gateway.created);
    match gateway.last_seen {
        Some(time) => text += &format!("  last seen {time}\n"),
        None => text += "  never seen\n",
    }
    if let Some(time) = identity.revoked {
        text += &format!("  revoked {time}\n");
    }
    if let Some(time) = identity.claim_expires {
        text += &format!("  a claim code waits for its router until {time}\n");
    }
    if identity.secret {
        text += "  proves itself with a shared secret\n";
    }
    for certificate in &identity.certificates {
        let state = match (certificate.retired, certificate.used) {
            (Some(time), _) => format!("no longer counts since {time}"),
            (None, Some(time)) => format!("in use since {time}"),
            (None, None) => "not used yet".to_owned(),
        };
        let short = certificate.fingerprint.get(..16).unwrap_or_default();
        text += &format!("  certificate {short}…: until {}, {state}\n", certificate.expires);
    }
    out(&text)
}

fn in_json(gateway: &Gateway, identity: Option<&IdentityView>) -> serde_json::Value {
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let mut all = serde_json::json!({
        "name": gateway.name,
        "agent": gateway.agent,
        "last_seen": time(gateway.last_seen),
        "created": gateway.created.to_string(),
    });
    if let (Some(identity), Some(fields)) = (identity, all.as_object_mut()) {
        let certificates = identity.certificates.iter().map(|certificate| {
            serde_json::json!({
                "sha256": certificate.fingerprint,
                "issued": certificate.issued.to_string(),
                "expires": certificate.expires.to_string(),
                "used": time(certificate.used),
                "retired": time(certificate.retired),
            })
        });
        fields.insert("secret".into(), identity.secret.into());
        fields.insert("revoked".into(), time(identity.revoked).into());
        fields.insert("claim_expires".into(), time(identity.claim_expires).into());
        fields.insert("certificates".into(), certificates.collect());
    }
    all
}
