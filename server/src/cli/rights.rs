//! `linkspan-server role|group|grant …`

use clap::{Args, Subcommand};
use jiff::Timestamp;
use linkspan_protocol::id::{DeviceName, GatewayName, ServiceName};
use linkspan_server::rights::{GrantId, Permission, PermissionSet, Role, Scope, Weekly, When};
use linkspan_server::store::{
    Grant, GrantTo, Group, NewGrant, OwnRole, Removal, Store, Tenant, TenantName, UserName, is_label,
};

use super::user::{BY, gone};
use super::{DATA, Exit, ListForm, NO_USER, USAGE, json_line, note, out, tenant};

/// Which organisation is meant.
#[derive(Debug, Args)]
pub(crate) struct Of {
    /// The organisation.
    #[arg(long, default_value = "default")]
    tenant: TenantName,
}

impl Of {
    /// Its name.
    pub(super) fn name(&self) -> &TenantName {
        &self.tenant
    }
}

/// What can be done about roles.
#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// Makes a role out of single permissions; docs/access.md lists them.
    Add {
        /// The name.
        name: String,
        /// Permissions, parted by commas: `device.see,page.open`.
        #[arg(long, value_delimiter = ',', required = true)]
        permissions: Vec<Permission>,
        #[command(flatten)]
        of: Of,
    },
    /// Replaces what a role allows, for all who have it; streams that it does not allow any more end.
    Change {
        /// The name.
        name: String,
        /// Permissions, parted by commas: all that it is to allow.
        #[arg(long, value_delimiter = ',', required = true)]
        permissions: Vec<Permission>,
        #[command(flatten)]
        of: Of,
    },
    /// The roles that come with the server, and the organisation's own.
    List {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        form: ListForm,
    },
    /// Removes a role that no grant names.
    Remove {
        /// The name.
        name: String,
        #[command(flatten)]
        of: Of,
    },
}

/// What can be done about groups.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Makes a group.
    Add {
        /// The name.
        name: String,
        #[command(flatten)]
        of: Of,
    },
    /// All groups with their members.
    List {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        form: ListForm,
    },
    /// Makes somebody a member.
    Join {
        /// The group.
        name: String,
        /// The person or service account.
        member: UserName,
        #[command(flatten)]
        of: Of,
    },
    /// Ends a membership.
    Leave {
        /// The group.
        name: String,
        /// The person or service account.
        member: UserName,
        #[command(flatten)]
        of: Of,
    },
    /// Removes a group to which nothing is granted.
    Remove {
        /// The name.
        name: String,
        #[command(flatten)]
        of: Of,
    },
}

/// What can be done about grants.
#[derive(Debug, Subcommand)]
pub(crate) enum GrantCommand {
    /// Grants a role to somebody, and prints the grant's identity.
    Add(Box<NewGrantArgs>),
    /// All grants.
    List {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        form: ListForm,
    },
    /// Takes a grant away; what was opened with it ends within two seconds.
    Remove {
        /// Its identity, as `grant list` shows it.
        id: GrantId,
        #[command(flatten)]
        of: Of,
    },
}

/// A grant to be made.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("to").required(true).args(["user", "group"]))]
pub(crate) struct NewGrantArgs {
    /// To this person or service account.
    #[arg(long)]
    user: Option<UserName>,
    /// To all members of this group.
    #[arg(long)]
    group: Option<String>,
    /// The role.
    #[arg(long)]
    role: String,
    /// On devices that carry all of these tags, parted by commas. Without this, --gateway and --device: on everything.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["gateway", "device"])]
    tags: Vec<String>,
    /// On this gateway and all that stands behind it.
    #[arg(long, conflicts_with = "device")]
    gateway: Option<GatewayName>,
    /// On this device.
    #[arg(long)]
    device: Option<DeviceName>,
    /// On this service of the device alone.
    #[arg(long, requires = "device")]
    service: Option<ServiceName>,
    /// Not from this moment on: `2026-12-31T16:00:00Z`.
    #[arg(long)]
    until: Option<Timestamp>,
    /// Only within these hours: `Mon-Fri 07:00-17:30, Sat 08:00-12:00 Europe/Berlin`.
    #[arg(long)]
    hours: Option<Weekly>,
    /// What for, for people.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    of: Of,
}

pub(super) async fn roles(store: &Store, command: RoleCommand) -> Result<(), Exit> {
    match command {
        RoleCommand::Add { name, permissions, of } => {
            let of = tenant::find(store, &of.tenant).await?;
            check_name(&name)?;
            let permissions = within_tenant(permissions)?;
            if store.add_role(of.id, &name, permissions).await?.is_none() {
                return Err(Exit::says(DATA, format_args!("there is a role {name} already")));
            }
            note(format_args!("role {name} is made"));
            Ok(())
        }
        RoleCommand::Change { name, permissions, of } => {
            let of = tenant::find(store, &of.tenant).await?;
            if name.parse::<Role>().is_ok() {
                return Err(Exit::says(USAGE, "the roles that come with the server cannot be changed"));
            }
            if !store.edit_role(of.id, &name, within_tenant(permissions)?).await? {
                return Err(Exit::says(NO_USER, format_args!("there is no role {name}")));
            }
            note(format_args!("role {name} is changed for all who have it"));
            Ok(())
        }
        RoleCommand::List { of, form } => {
            let of = tenant::find(store, &of.tenant).await?;
            list_roles(&store.roles(of.id).await?, form)
        }
        RoleCommand::Remove { name, of } => {
            let of = tenant::find(store, &of.tenant).await?;
            removed(store.remove_role(of.id, &name).await?, "role", &name)?;
            Ok(())
        }
    }
}

/// These, if a role of an organisation's own may allow them.
fn within_tenant(permissions: Vec<Permission>) -> Result<PermissionSet, Exit> {
    let permissions: PermissionSet = permissions.into_iter().collect();
    if permissions.and(Permission::ABOVE_TENANTS).is_empty() {
        return Ok(permissions);
    }
    Err(Exit::says(USAGE, "what concerns the server as a whole is in the role system-admin alone"))
}

pub(super) async fn groups(store: &Store, command: GroupCommand) -> Result<(), Exit> {
    match command {
        GroupCommand::Add { name, of } => {
            let of = tenant::find(store, &of.tenant).await?;
            check_name(&name)?;
            if store.add_group(of.id, &name).await?.is_none() {
                return Err(Exit::says(DATA, format_args!("there is a group {name} already")));
            }
            note(format_args!("group {name} is made"));
            Ok(())
        }
        GroupCommand::List { of, form } => {
            let of = tenant::find(store, &of.tenant).await?;
            list_groups(&store.groups(of.id).await?, form)
        }
        GroupCommand::Join { name, member, of } => {
            let of = tenant::find(store, &of.tenant).await?;
            let user = member_of(store, &of, &member).await?;
            if !store.add_to_group(of.id, &name, user).await? {
                return Err(Exit::says(NO_USER, format_args!("there is no group {name}")));
            }
            note(format_args!("{member} is in the group {name}"));
            Ok(())
        }
        GroupCommand::Leave { name, member, of } => {
            let of = tenant::find(store, &of.tenant).await?;
            let user = member_of(store, &of, &member).await?;
            let nothing = || Exit::says(NO_USER, format_args!("{member} is not in a group {name}"));
            gone(store.remove_from_group(of.id, &name, user).await?, nothing)?;
            note(format_args!("{member} is not in the group {name} any more"));
            Ok(())
        }
        GroupCommand::Remove { name, of } => {
            let of = tenant::find(store, &of.tenant).await?;
            removed(store.remove_group(of.id, &name).await?, "group", &name)?;
            Ok(())
        }
    }
}

pub(super) async fn grants(store: &Store, command: GrantCommand) -> Result<(), Exit> {
    match command {
        GrantCommand::Add(new) => add_grant(store, *new).await,
        GrantCommand::List { of, form } => {
            let of = tenant::find(store, &of.tenant).await?;
            let gateways = store.gateways().await?;
            let name = |scope: &Scope| match scope {
                Scope::Gateway { gateway } => {
                    gateways.iter().find(|one| one.id == *gateway).map(|one| one.name.to_string())
                }
                _ => None,
            };
            list_grants(&store.grants(of.id).await?, name, form)
        }
        GrantCommand::Remove { id, of } => {
            let of = tenant::find(store, &of.tenant).await?;
            let nothing = || Exit::says(NO_USER, format_args!("there is no grant {id}"));
            gone(store.remove_grant(of.id, id).await?, nothing)?;
            note(format_args!("grant {id} is taken away"));
            Ok(())
        }
    }
}

impl NewGrantArgs {
    /// Who gets it, a group behind an `@`; and the organisation.
    pub(super) fn to(&self) -> (String, &TenantName) {
        let group = || format!("@{}", self.group.as_deref().unwrap_or_default());
        (self.user.as_ref().map_or_else(group, ToString::to_string), self.of.name())
    }

    /// The role.
    pub(super) fn role(&self) -> &str {
        &self.role
    }
}

async fn add_grant(store: &Store, new: NewGrantArgs) -> Result<(), Exit> {
    let of = tenant::find(store, &new.of.tenant).await?;
    let to = match (&new.user, &new.group) {
        (Some(user), _) => GrantTo::User(member_of(store, &of, user).await?),
        (None, Some(group)) => {
            let found = store.group_named(of.id, group).await?;
            GrantTo::Group(found.ok_or_else(|| Exit::says(NO_USER, format_args!("there is no group {group}")))?)
        }
        (None, None) => return Err(Exit::says(USAGE, "a grant is made to --user or to --group")),
    };
    let found = super::user::role_named(store, &of, &new.role).await?;
    let role = found.ok_or_else(|| Exit::says(USAGE, "`none` is nothing to grant"))?;
    let scope = scope(store, &of, &new).await?;
    let when = When { from: None, until: new.until, weekly: new.hours };
    let reason = new.reason.as_str();
    let grant = NewGrant { tenant: of.id, to, role, scope: &scope, when: &when, standing: false, by: BY, reason };
    let id = store.add_grant(&grant).await?;
    let id = id.ok_or_else(|| Exit::says(DATA, "the organisation has as many grants as it can; use groups"))?;
    out(&format!("{id}\n"))
}

async fn scope(store: &Store, of: &Tenant, new: &NewGrantArgs) -> Result<Scope, Exit> {
    if let Some(name) = &new.gateway {
        let all = store.gateways().await?;
        let found = all.into_iter().find(|gateway| gateway.tenant == of.id && gateway.name == *name);
        let found = found.ok_or_else(|| Exit::says(NO_USER, format_args!("there is no gateway {name}")))?;
        return Ok(Scope::Gateway { gateway: found.id });
    }
    Ok(match (&new.device, &new.service) {
        (Some(device), Some(service)) => Scope::Service { device: device.clone(), service: service.clone() },
        (Some(device), None) => Scope::Device { device: device.clone() },
        (None, _) if new.tags.is_empty() => Scope::Everything,
        (None, _) => Scope::Tags { tags: new.tags.clone() },
    })
}

async fn member_of(store: &Store, of: &Tenant, name: &UserName) -> Result<linkspan_server::rights::UserId, Exit> {
    let found = store.member(of.id, name).await?;
    Ok(found.ok_or_else(|| Exit::says(NO_USER, format_args!("there is nobody {name} in {}", of.name)))?.id)
}

fn check_name(name: &str) -> Result<(), Exit> {
    if is_label(name) && name.parse::<Role>().is_err() && name != "none" {
        return Ok(());
    }
    Err(Exit::says(
        USAGE,
        format_args!("`{name}` cannot be a name: a word of the server's own, too long, or with odd characters"),
    ))
}

fn removed(removal: Removal, what: &str, name: &str) -> Result<(), Exit> {
    match removal {
        Removal::Removed => {
            note(format_args!("{what} {name} is removed"));
            Ok(())
        }
        Removal::InUse => Err(Exit::says(DATA, format_args!("grants name the {what} {name}; take them away first"))),
        Removal::Unknown => Err(Exit::says(NO_USER, format_args!("there is no {what} {name} that can be removed"))),
    }
}

fn list_roles(own: &[OwnRole], form: ListForm) -> Result<(), Exit> {
    let built_in = Role::ALL.iter().map(|role| (role.to_string(), true, role.permissions()));
    let all: Vec<_> = built_in.chain(own.iter().map(|role| (role.name.clone(), false, role.permissions))).collect();
    if form.json {
        let all = all.iter().map(|(name, built_in, permissions)| {
            serde_json::json!({"name": name, "built_in": built_in, "permissions": permissions})
        });
        return out(&json_line(&all.collect()));
    }
    let words = |set: PermissionSet| set.iter().map(Permission::as_str).collect::<Vec<_>>().join(",");
    out(&all.iter().map(|(name, _, set)| format!("{name:<20} {}\n", words(*set))).collect::<String>())
}

fn list_groups(groups: &[Group], form: ListForm) -> Result<(), Exit> {
    if form.json {
        let all = groups.iter().map(|group| serde_json::json!({"name": group.name, "members": group.members}));
        return out(&json_line(&all.collect()));
    }
    out(&groups.iter().map(|group| format!("{:<32} {}\n", group.name, group.members.join(","))).collect::<String>())
}

fn list_grants(grants: &[Grant], gateway: impl Fn(&Scope) -> Option<String>, form: ListForm) -> Result<(), Exit> {
    let whom = |grant: &Grant| match grant.to {
        GrantTo::User(_) => grant.to_name.clone(),
        GrantTo::Group(_) => format!("@{}", grant.to_name),
    };
    if form.json {
        let all = grants.iter().map(|grant| {
            serde_json::json!({
                "id": grant.id,
                "to": whom(grant),
                "role": grant.role,
                "on": on(&grant.scope, &gateway),
                "until": grant.when.until.map(|time| time.to_string()),
                "hours": grant.when.weekly.as_ref().map(|weekly| format!("{} {}", weekly.hours(), weekly.zone())),
                "reason": grant.reason,
                "by": grant.by,
            })
        });
        return out(&json_line(&all.collect()));
    }
    let line = |grant: &Grant| {
        let until = grant.when.until.map(|time| format!(" until {time}")).unwrap_or_default();
        let hours = grant.when.weekly.as_ref().map(|weekly| format!(" in {} {}", weekly.hours(), weekly.zone()));
        let (whom, on) = (whom(grant), on(&grant.scope, &gateway));
        format!("{} {whom:<24} {:<14} on {on}{until}{}\n", grant.id, grant.role, hours.unwrap_or_default())
    };
    out(&grants.iter().map(line).collect::<String>())
}

/// A scope in words.
fn on(scope: &Scope, gateway: impl Fn(&Scope) -> Option<String>) -> String {
    match scope {
        Scope::Everything => "everything".to_owned(),
        Scope::Tags { tags } => format!("tags {}", tags.join(",")),
        Scope::Gateway { .. } => format!("gateway {}", gateway(scope).unwrap_or_default()),
        Scope::Device { device } => format!("device {device}"),
        Scope::Service { device, service } => format!("service {device}:{service}"),
        Scope::Services { device, speaks } => format!("{} of {device}", speaks.as_str()),
    }
}
