//! `linkspan-server tenant …`

use clap::Subcommand;
use linkspan_server::store::{Store, Tenant, TenantName, TenantRemoval};
use linkspan_server::ui::Brand;

use super::{DATA, Exit, ListForm, NO_USER, json_line, note, out};

/// What can be done about tenants.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Adds an organisation; then `user add --tenant NAME` and `gateway add --tenant NAME`.
    Add {
        /// A short name, for command lines and addresses.
        name: TenantName,
        /// What stands on its pages in place of the product's name.
        #[arg(long, default_value = "")]
        title: String,
    },
    /// All organisations.
    List {
        #[command(flatten)]
        form: ListForm,
    },
    /// How an organisation's pages look.
    Brand {
        /// The name.
        name: TenantName,
        /// What stands on its pages in place of the product's name; empty for that.
        #[arg(long)]
        title: Option<String>,
        /// The colour of its pages, `#rrggbb`, dark enough for white letters on it; empty for the usual one.
        #[arg(long)]
        colour: Option<String>,
    },
    /// Has everybody of an organisation sign in with a second factor, or no longer.
    SecondFactor {
        /// The name.
        name: TenantName,
        /// `required` or `optional`; what the configuration requires is required in any case.
        #[arg(value_parser = ["required", "optional"])]
        want: String,
    },
    /// Removes an organisation that has no people, service accounts and gateways any more.
    Remove {
        /// The name.
        name: TenantName,
    },
}

pub(super) async fn answer(store: &Store, command: Command) -> Result<(), Exit> {
    match command {
        Command::Add { name, title } => {
            if store.add_tenant(&name, &title).await?.is_none() {
                return Err(Exit::says(DATA, format_args!("there is a tenant {name} already")));
            }
            note(format_args!("tenant {name} is added"));
            Ok(())
        }
        Command::List { form } => list(store, form).await,
        Command::Brand { name, title, colour } => brand(store, &name, (title, colour)).await,
        Command::SecondFactor { name, want } => {
            store.require_second_factor(find(store, &name).await?.id, want == "required").await?;
            note(format_args!("the second factor is {want} for everybody of {name}, from the next sign-in on"));
            Ok(())
        }
        Command::Remove { name } => {
            let tenant = find(store, &name).await?;
            match store.remove_tenant(tenant.id).await? {
                TenantRemoval::Removed => {
                    note(format_args!("tenant {name} is removed"));
                    Ok(())
                }
                TenantRemoval::Unknown => Err(nothing(&name)),
                TenantRemoval::InUse => Err(Exit::says(
                    DATA,
                    format_args!(
                        "tenant {name} has people, service accounts or gateways, or is the one that stays; \
                         remove them first"
                    ),
                )),
            }
        }
    }
}

/// The tenant of this name.
pub(super) async fn find(store: &Store, name: &TenantName) -> Result<Tenant, Exit> {
    store.tenant_named(name).await?.ok_or_else(|| nothing(name))
}

async fn brand(
    store: &Store,
    name: &TenantName,
    (title, colour): (Option<String>, Option<String>),
) -> Result<(), Exit> {
    let tenant = find(store, name).await?;
    let (title, colour) = (title.unwrap_or(tenant.title), colour.unwrap_or(tenant.colour));
    Brand::parse(&title, &colour).map_err(|error| Exit::new(DATA, error))?;
    store.brand_tenant(tenant.id, &title, &colour).await?;
    let said = |text: &str| if text.is_empty() { "the usual one".to_owned() } else { text.to_owned() };
    note(format_args!("the pages of {name}: title {}, colour {}", said(&title), said(&colour)));
    Ok(())
}

async fn list(store: &Store, form: ListForm) -> Result<(), Exit> {
    let tenants = store.tenants().await?;
    if form.json {
        let tenants = tenants.iter().map(|tenant| {
            serde_json::json!({
                "name": tenant.name,
                "title": tenant.title,
                "colour": tenant.colour,
                "second_factor": tenant.second_factor,
                "created": tenant.created.to_string(),
            })
        });
        return out(&json_line(&tenants.collect()));
    }
    let line = |tenant: &Tenant| {
        let line = format!("{:<32} {}", tenant.name.as_str(), tenant.title);
        format!("{}\n", line.trim_end())
    };
    out(&tenants.iter().map(line).collect::<String>())
}

fn nothing(name: &TenantName) -> Exit {
    Exit::says(NO_USER, format_args!("there is no tenant {name}"))
}
