//! What is noted down of the command line: every command that changes something, by whoever gave it, and how it went.

use linkspan_protocol::id::GatewayName;
use linkspan_server::audit::{Action, Actor, Audit, Entry, Target};
use linkspan_server::store::{Concerned, TenantName};

use super::{
    Command, Exit, Place, UNAVAILABLE, config, discovered, enrolment, gateway, rights, template, tenant, token, update,
    user, visit,
};

/// The entry of a command; none for those that only look.
pub(super) fn of(command: &Command) -> Option<Entry> {
    let (action, target) = match command {
        Command::User { command } => user(command)?,
        Command::Gateway { command } => gateway(command)?,
        Command::Config { command } => config(command)?,
        Command::Discovered { command } => discovered(command)?,
        Command::Update { command } => update(command)?,
        Command::ProvisioningKey { command } => key(command)?,
        Command::Enrolment { command } => enrolment(command)?,
        Command::Tenant { command } => tenant(command)?,
        Command::Role { command } => role(command)?,
        Command::Group { command } => group(command)?,
        Command::Grant { command } => grant(command)?,
        Command::Token { command } => token(command)?,
        Command::Visit { command } => visit(command)?,
        Command::ServiceAccount { command } => account(command)?,
        // An export notes itself down.
        Command::Run | Command::Check | Command::Ldap { .. } | Command::Audit { .. } | Command::Completion { .. } => {
            return None;
        }
    };
    let entry = Entry::new(action, Actor::shell()).on(target);
    Some(match command {
        Command::User { command: user::Command::Add { role, .. } | user::Command::Role { role, .. } } => {
            entry.with("role", role.as_str())
        }
        Command::User { command: user::Command::Reset { second_factor: true, .. } } => {
            entry.with("second_factor", "taken away")
        }
        Command::Group {
            command: rights::GroupCommand::Join { member, .. } | rights::GroupCommand::Leave { member, .. },
        } => entry.with("member", member.as_str()),
        Command::Grant { command: rights::GrantCommand::Add(new) } => {
            let (to, tenant) = new.to();
            entry.with("to", to).with("role", new.role()).with("tenant", tenant.as_str())
        }
        Command::Token { command: token::Command::Add { owner, .. } } => entry.with("owner", owner.as_str()),
        _ => entry,
    })
}

/// The entry, of the organisation that the command is about, where that is known before it is done.
pub(super) async fn settled(place: &Place, command: &Command, entry: Entry) -> Entry {
    // What keeps the database from being opened is told by the command itself.
    let Ok(store) = place.store().await else { return entry };
    if let Command::Discovered { command } = command {
        let found = match command.decides() {
            Some(id) => store.found_one(id).await.ok().flatten(),
            None => None,
        };
        store.close().await;
        return match found {
            Some(found) => {
                entry.on(Target::gateway(&found.gateway_name)).within(found.tenant).with("key", found.report.key)
            }
            None => entry,
        };
    }
    let tenant = match organisation(command) {
        Some(name) => store.tenant_named(name).await.map(|found| found.map(|tenant| tenant.id)),
        None => store.tenant_concerned(concerned(command)).await,
    };
    store.close().await;
    match tenant {
        Ok(Some(tenant)) => entry.within(tenant),
        _ => entry,
    }
}

/// The organisation that a command names.
fn organisation(command: &Command) -> Option<&TenantName> {
    use gateway::Command as OfGateway;
    use rights::{GrantCommand, GroupCommand, RoleCommand};
    use token::{AccountCommand, Command as OfToken};
    match command {
        Command::User { command: user::Command::Add { tenant, .. } }
        | Command::Gateway { command: OfGateway::Add { tenant, .. } }
        | Command::ProvisioningKey {
            command: enrolment::KeyCommand::Add { tenant, .. } | enrolment::KeyCommand::Remove { tenant, .. },
        }
        | Command::Tenant {
            command: tenant::Command::SecondFactor { name: tenant, .. } | tenant::Command::Brand { name: tenant, .. },
        } => Some(tenant),
        Command::Role {
            command: RoleCommand::Add { of, .. } | RoleCommand::Change { of, .. } | RoleCommand::Remove { of, .. },
        }
        | Command::Visit { command: visit::Command::Revoke { of, .. } }
        | Command::Group {
            command:
                GroupCommand::Add { of, .. }
                | GroupCommand::Join { of, .. }
                | GroupCommand::Leave { of, .. }
                | GroupCommand::Remove { of, .. },
        }
        | Command::Grant { command: GrantCommand::Remove { of, .. } }
        | Command::Token { command: OfToken::Add { of, .. } | OfToken::Revoke { of, .. } }
        | Command::ServiceAccount { command: AccountCommand::Add { of, .. } | AccountCommand::Remove { of, .. } } => {
            Some(of.name())
        }
        Command::Grant { command: GrantCommand::Add(new) } => Some(new.to().1),
        Command::Config { command: config::Command::Template { command } } => {
            command.changes().map(|(_, tenant)| tenant)
        }
        _ => None,
    }
}

/// Names that are unique on the server, in a command that names no organisation.
fn concerned(command: &Command) -> Concerned<'_> {
    use gateway::Command as OfGateway;
    use user::Command as OfUser;
    match command {
        Command::User {
            command:
                OfUser::Remove { name }
                | OfUser::Role { name, .. }
                | OfUser::Reset { name, .. }
                | OfUser::Passwd { name, .. }
                | OfUser::Logout { name },
        } => Concerned { user: Some(name.as_str()), gateway: None },
        Command::Gateway {
            command: OfGateway::Revoke { name } | OfGateway::Replace { name, .. } | OfGateway::Remove { name },
        } => Concerned { gateway: Some(name.as_str()), user: None },
        Command::Gateway { command: OfGateway::Cap(asked) } => {
            Concerned { gateway: Some(asked.gateway().as_str()), user: None }
        }
        Command::Config { command: of } => Concerned { gateway: of.gateway().map(GatewayName::as_str), user: None },
        _ => Concerned::default(),
    }
}

/// Writes it down, with what came of it.
pub(super) async fn note(place: &Place, entry: Entry, done: &Result<(), Exit>) -> Result<(), Exit> {
    let entry = match done {
        Ok(()) => entry,
        Err(exit) => entry.failed(format!("{:#}", exit.error)),
    };
    // What failed before there was a database, or because of it, is told by its own error.
    let Ok(store) = place.store().await else { return Ok(()) };
    let audit = Audit::start(store);
    let noted = audit.note(entry).await;
    audit.close().await;
    match (noted, done) {
        (Err(_), Ok(())) => Err(Exit::says(UNAVAILABLE, "it was done, but could not be written into the audit")),
        _ => Ok(()),
    }
}

fn user(command: &user::Command) -> Option<(Action, Target)> {
    use user::Command::{Add, List, Logout, Passwd, Remove, Reset, Role, Sessions, SetUp};
    let (action, name) = match command {
        Add { name, .. } => (Action::PERSON_ADD, name.as_str()),
        Remove { name } => (Action::PERSON_REMOVE, name.as_str()),
        Role { name, .. } => (Action::PERSON_CHANGE, name.as_str()),
        Reset { name, .. } => (Action::PERSON_LINK, name.as_str()),
        SetUp => (Action::PERSON_LINK, "the first account"),
        Passwd { name, .. } => (Action::PERSON_PASSWORD, name.as_str()),
        Logout { name } => (Action::SESSION_REVOKE, name.as_str()),
        List { .. } | Sessions { .. } => return None,
    };
    Some((action, Target::new("person", name)))
}

fn config(command: &config::Command) -> Option<(Action, Target)> {
    use config::Command::{Adopt, Apply, Diff, Get, Own, Set, Status, Template};
    let (action, name) = match command {
        Template { command } => {
            let action = match command {
                template::Command::Apply(_) => Action::CONFIG_APPLY,
                template::Command::Remove { .. } => Action::TEMPLATE_REMOVE,
                _ => Action::TEMPLATE_EDIT,
            };
            return command.changes().map(|(name, _)| (action, Target::new("template", name)));
        }
        Own { command } if !command.changes() => return None,
        Own { command } => (Action::CONFIG_OWN, command.gateway()),
        Set { gateway, .. } | Adopt { gateway } => (Action::CONFIG_EDIT, gateway),
        Apply(args) => (Action::CONFIG_APPLY, &args.gateway),
        Get { .. } | Diff { .. } | Status { .. } => return None,
    };
    Some((action, Target::gateway(name)))
}

fn discovered(command: &discovered::Command) -> Option<(Action, Target)> {
    use discovered::Command::{Approve, Ignore, List, Merge, Reset};
    let action = match command {
        Approve { .. } => Action::DISCOVERED_APPROVE,
        Ignore { .. } => Action::DISCOVERED_IGNORE,
        Reset { .. } => Action::DISCOVERED_RESET,
        Merge { .. } => Action::DISCOVERED_MERGE,
        List { .. } => return None,
    };
    command.decides().map(|id| (action, Target::new("discovered", id)))
}

fn update(command: &update::Command) -> Option<(Action, Target)> {
    use update::Command::{Add, Begin, Head, List, Remove, Status, Stop};
    Some(match command {
        Add { bundle } => (Action::UPDATE_ADD, Target::new("program", bundle.display())),
        Remove { release, target } => {
            (Action::UPDATE_REMOVE, Target::new("program", format_args!("{release} {target}")))
        }
        Begin(args) => (Action::UPDATE_BEGIN, Target::new("version", &args.release)),
        Stop { update } => (Action::UPDATE_STOP, Target::new("update", update)),
        Head { .. } | List { .. } | Status { .. } => return None,
    })
}

fn gateway(command: &gateway::Command) -> Option<(Action, Target)> {
    use gateway::Command::{Add, Cap, List, Remove, Replace, Revoke, Show, Traffic};
    let (action, name) = match command {
        Add { name, .. } => (Action::GATEWAY_ADD, name),
        Revoke { name } => (Action::GATEWAY_REVOKE, name),
        Replace { name, .. } => (Action::GATEWAY_REPLACE, name),
        Remove { name } => (Action::GATEWAY_REMOVE, name),
        Cap(asked) => (Action::TRAFFIC_CAP, asked.gateway()),
        List { .. } | Show { .. } | Traffic(_) => return None,
    };
    Some((action, Target::gateway(name)))
}

fn key(command: &enrolment::KeyCommand) -> Option<(Action, Target)> {
    use enrolment::KeyCommand::{Add, List, Remove};
    let (action, name) = match command {
        Add { name, .. } => (Action::KEY_ADD, name),
        Remove { name, .. } => (Action::KEY_REMOVE, name),
        List { .. } => return None,
    };
    Some((action, Target::new("provisioning-key", name)))
}

fn enrolment(command: &enrolment::QueueCommand) -> Option<(Action, Target)> {
    use enrolment::QueueCommand::{Accept, List, Refuse};
    let (action, number) = match command {
        Accept { number, .. } => (Action::ENROLMENT_ACCEPT, number),
        Refuse { number } => (Action::ENROLMENT_REFUSE, number),
        List { .. } => return None,
    };
    Some((action, Target::new("enrolment", number)))
}

fn tenant(command: &tenant::Command) -> Option<(Action, Target)> {
    use tenant::Command::{Add, Brand, List, Remove, SecondFactor};
    let (action, name) = match command {
        Add { name, .. } => (Action::TENANT_ADD, name),
        Brand { name, .. } | SecondFactor { name, .. } => (Action::TENANT_CHANGE, name),
        Remove { name } => (Action::TENANT_REMOVE, name),
        List { .. } => return None,
    };
    Some((action, Target::new("tenant", name)))
}

fn role(command: &rights::RoleCommand) -> Option<(Action, Target)> {
    use rights::RoleCommand::{Add, Change, List, Remove};
    let (action, name) = match command {
        Add { name, .. } => (Action::ROLE_ADD, name),
        Change { name, .. } => (Action::ROLE_CHANGE, name),
        Remove { name, .. } => (Action::ROLE_REMOVE, name),
        List { .. } => return None,
    };
    Some((action, Target::new("role", name)))
}

fn group(command: &rights::GroupCommand) -> Option<(Action, Target)> {
    use rights::GroupCommand::{Add, Join, Leave, List, Remove};
    let (action, name) = match command {
        Add { name, .. } => (Action::GROUP_ADD, name),
        Remove { name, .. } => (Action::GROUP_REMOVE, name),
        Join { name, .. } => (Action::GROUP_JOIN, name),
        Leave { name, .. } => (Action::GROUP_LEAVE, name),
        List { .. } => return None,
    };
    Some((action, Target::new("group", name)))
}

fn grant(command: &rights::GrantCommand) -> Option<(Action, Target)> {
    use rights::GrantCommand::{Add, List, Remove};
    match command {
        Add(new) => Some((Action::GRANT_ADD, Target::new("grant", new.role()))),
        Remove { id, .. } => Some((Action::GRANT_REMOVE, Target::new("grant", id))),
        List { .. } => None,
    }
}

fn token(command: &token::Command) -> Option<(Action, Target)> {
    use token::Command::{Add, List, Revoke};
    match command {
        Add { name, .. } => Some((Action::TOKEN_ADD, Target::new("token", name))),
        Revoke { id, .. } => Some((Action::TOKEN_REMOVE, Target::new("token", id))),
        List { .. } => None,
    }
}

fn visit(command: &visit::Command) -> Option<(Action, Target)> {
    match command {
        visit::Command::Revoke { id, .. } => Some((Action::VISIT_REVOKE, Target::new("visit", id))),
        visit::Command::List { .. } => None,
    }
}

fn account(command: &token::AccountCommand) -> Option<(Action, Target)> {
    use token::AccountCommand::{Add, List, Remove};
    let (action, name) = match command {
        Add { name, .. } => (Action::ACCOUNT_ADD, name),
        Remove { name, .. } => (Action::ACCOUNT_REMOVE, name),
        List { .. } => return None,
    };
    Some((action, Target::new("service-account", name)))
}
