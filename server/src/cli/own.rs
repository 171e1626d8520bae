//! `linkspan-server config own …`: what a gateway has for itself beside its template.

use std::path::PathBuf;

use clap::Subcommand;
use linkspan_protocol::id::GatewayName;
use linkspan_server::fleet::{self, Value, Values};
use linkspan_server::store::{Gateway, OwnPart, Store};
use serde_json::json;

use super::config::{find, read};
use super::{DATA, Exit, ListForm, json_line, note, out};

/// What can be done about it.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Tags, values and overrides of a gateway, and the template that it follows.
    Show {
        /// The gateway.
        gateway: GatewayName,
        #[command(flatten)]
        form: ListForm,
    },
    /// Changes the tags of a gateway: it follows the template whose tags it carries all.
    Tags {
        /// The gateway.
        gateway: GatewayName,
        /// Tags that it carries from now on.
        #[arg(long, value_delimiter = ',', value_name = "TAG,TAG", required_unless_present = "remove")]
        add: Vec<String>,
        /// Tags that it carries no more.
        #[arg(long, value_delimiter = ',', value_name = "TAG,TAG")]
        remove: Vec<String>,
    },
    /// Changes the values of a gateway's variables.
    Values {
        /// The gateway.
        gateway: GatewayName,
        /// A variable and its value; may be given several times. A whole number, true and false are what they are, but in
        /// double quotes.
        #[arg(long, value_name = "NAME=VALUE", value_parser = assignment, required_unless_present = "unset")]
        set: Vec<(String, Value)>,
        /// A variable that has no value any more; may be given several times.
        #[arg(long, value_name = "NAME")]
        unset: Vec<String>,
    },
    /// Replaces what is laid over the gateway's template: tables key by key, devices as wholes by their names;
    /// `without = ["camera"]` leaves devices out.
    Overrides {
        /// The gateway.
        gateway: GatewayName,
        /// The document, `-` for standard input.
        file: PathBuf,
    },
}

impl Command {
    /// The gateway that it is about.
    pub(super) fn gateway(&self) -> &GatewayName {
        match self {
            Self::Show { gateway, .. }
            | Self::Tags { gateway, .. }
            | Self::Values { gateway, .. }
            | Self::Overrides { gateway, .. } => gateway,
        }
    }

    /// Whether it changes something.
    pub(super) fn changes(&self) -> bool {
        !matches!(self, Self::Show { .. })
    }
}

pub(super) async fn answer(store: &Store, command: Command) -> Result<(), Exit> {
    let gateway = find(store, command.gateway()).await?;
    let part = store.own_part(gateway.id).await?;
    let mut values = fleet::values_of(&part)?;
    let (mut tags, mut overrides) = (part.tags.clone(), part.overrides.clone());
    match command {
        Command::Show { form, .. } => return show(store, &gateway, (part, values), form).await,
        Command::Tags { add, remove, .. } => {
            tags.retain(|tag| !remove.contains(tag));
            tags.extend(add);
        }
        Command::Values { set, unset, .. } => {
            values.retain(|name, _| !unset.contains(name));
            values.extend(set);
        }
        Command::Overrides { file, .. } => overrides = read(&file)?,
    }
    let part = fleet::own_part(part.version, tags, &values, overrides).map_err(|error| Exit::says(DATA, error))?;
    if !store.set_own_part(gateway.id, &part).await? {
        return Err(Exit::says(DATA, "somebody has changed it meanwhile; try again"));
    }
    let templates = fleet::templates_of(store, gateway.tenant, gateway.id).await?;
    note(format_args!("{} {}", gateway.name, following(&templates)));
    Ok(())
}

async fn show(store: &Store, gateway: &Gateway, (part, values): (OwnPart, Values), form: ListForm) -> Result<(), Exit> {
    let templates = fleet::templates_of(store, gateway.tenant, gateway.id).await?;
    if form.json {
        let shown = json!({ "tags": part.tags, "values": values, "overrides": part.overrides, "templates": templates });
        return out(&json_line(&shown));
    }
    let mut text = format!("{}\ntags: {}\n", following(&templates), part.tags.join(", "));
    for (name, value) in values {
        text += &format!("{name} = {}\n", json!(value));
    }
    if !part.overrides.is_empty() {
        text += &format!("\n{}", part.overrides);
    }
    out(&text)
}

fn following(templates: &[String]) -> String {
    match templates {
        [] => "follows no template".to_owned(),
        [one] => format!("follows the template {one}; `config template preview {one}` shows what that changes"),
        all => format!("carries the tags of more than one template, and so gets none: {}", all.join(", ")),
    }
}

fn assignment(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let value = match (quoted, value) {
        (Some(text), _) => Value::Text(text.to_owned()),
        (None, "true") => Value::Flag(true),
        (None, "false") => Value::Flag(false),
        (None, text) => text.parse().map_or_else(|_| Value::Text(text.to_owned()), Value::Number),
    };
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_it_looks_like() {
        for (text, value) in [
            ("a.b=502", Value::Number(502)),
            ("a.b=true", Value::Flag(true)),
            ("a.b=\"502\"", Value::Text("502".into())),
            ("a.b=x = y", Value::Text("x = y".into())),
            ("a.b=", Value::Text(String::new())),
        ] {
            assert_eq!(assignment(text), Ok(("a.b".into(), value)), "{text}");
        }
        assert!(assignment("a.b").is_err());
    }
}
