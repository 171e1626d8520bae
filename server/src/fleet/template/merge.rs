//! What a gateway says for itself, laid over what its template says: devices as wholes by their names, tables key by key
//! (pure).

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, TableLike};

use super::text::Fault;

/// The key of the overrides that names devices of the template to be left out.
pub(super) const WITHOUT: &str = "without";

/// The document of a template with the overrides of a gateway laid over it. Comments stay.
pub(super) fn merged(document: &str, overrides: &str) -> Result<String, Fault> {
    let not_toml = |error: toml_edit::TomlError| {
        let offset = error.span().unwrap_or(0..0).start;
        Fault::new(offset, format!("this is not TOML: {}", error.message()), "see https://toml.io for the form")
    };
    let over: DocumentMut = overrides.parse().map_err(not_toml)?;
    if over.is_empty() {
        return Ok(document.to_owned());
    }
    let mut base: DocumentMut = document.parse().map_err(not_toml)?;
    for (key, item) in over.iter() {
        match key {
            WITHOUT => leave_out(&mut base, item)?,
            "device" => {}
            key => lay_over(base.as_table_mut(), key, item),
        }
    }
    if let Some(devices) = over.get("device") {
        lay_over_devices(&mut base, devices)?;
    }
    Ok(base.to_string())
}

fn leave_out(base: &mut DocumentMut, names: &Item) -> Result<(), Fault> {
    let form =
        || Fault::new(0, "`without` is a list of names of devices", "write without = [\"camera\"] as the first line");
    let names = names.as_array().ok_or_else(form)?;
    for name in names {
        let name = name.as_str().ok_or_else(form)?;
        let devices = base.get_mut("device").and_then(Item::as_array_of_tables_mut);
        let found = devices.and_then(|devices| place(devices, name).map(|place| (devices, place)));
        let Some((devices, place)) = found else {
            let what = format!("the template has no [[device]] `{name}` that could be left out");
            return Err(Fault::new(0, what, "take it out of `without`"));
        };
        devices.remove(place);
    }
    Ok(())
}

/// A device takes the place of the one of its name, as a whole; others come after those of the template.
fn lay_over_devices(base: &mut DocumentMut, devices: &Item) -> Result<(), Fault> {
    let form = || {
        let what = "the devices are written in another form than [[device]]";
        Fault::new(0, what, "write each as [[device]], in the template and in the overrides")
    };
    let own = devices.as_array_of_tables().ok_or_else(form)?;
    let all = base.entry("device").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    let all = all.as_array_of_tables_mut().ok_or_else(form)?;
    for device in own {
        let mut device = device.clone();
        unplaced(&mut device);
        let name = device.get("name").and_then(Item::as_str).map(str::to_owned);
        let known = name.and_then(|name| place(all, &name)).and_then(|place| all.get_mut(place));
        match known {
            Some(known) => *known = device,
            None => all.push(device),
        }
    }
    Ok(())
}

fn place(devices: &ArrayOfTables, name: &str) -> Option<usize> {
    devices.iter().position(|device| device.get("name").and_then(Item::as_str) == Some(name))
}

fn lay_over(base: &mut dyn TableLike, key: &str, item: &Item) {
    let known = base.get_mut(key);
    if let (Some(known), Some(over)) = (known.and_then(Item::as_table_like_mut), item.as_table_like()) {
        for (key, item) in over.iter() {
            lay_over(known, key, item);
        }
        return;
    }
    let mut item = item.clone();
    if let Item::Table(table) = &mut item {
        unplaced(table);
    }
    if let Some(known) = base.get_mut(key) {
        *known = item;
    } else {
        base.insert(key, item);
    }
}

/// Tables remember where they stood in their text: in another text they come after what is before them.
fn unplaced(table: &mut Table) {
    table.set_position(None);
    for (_, item) in table.iter_mut() {
        match item {
            Item::Table(table) => unplaced(table),
            Item::ArrayOfTables(all) => all.iter_mut().for_each(unplaced),
            Item::Value(_) | Item::None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "# All sites.\n[log]\nlevel = \"info\" # usual\n\n[limits]\nmax_streams = 10\nidle_timeout = \"1h\"\n\n\
        # The press.\n[[device]]\nname = \"plc\"\nhost = \"10.0.0.1\"\n[[device.service]]\nname = \"web\"\nkind = \"http\"\n\n\
        # The gate.\n[[device]]\nname = \"cam\"\nhost = \"10.0.0.2\"\n[[device.service]]\nname = \"ssh\"\nkind = \"ssh\"\n\n\
        [traffic]\nwarn = \"1 GB\"\n";

    fn read(text: &str) -> toml::Table {
        toml::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn nothing_of_its_own_changes_nothing() {
        assert_eq!(merged(BASE, "").unwrap(), BASE);
        assert_eq!(merged(BASE, "# nothing yet\n").unwrap(), BASE);
    }

    #[test]
    fn tables_are_laid_over_key_by_key_and_devices_as_wholes() {
        let over = "[limits]\nmax_streams = 20\nresume = \"1m\"\n\n[server]\nurl = \"https://b.example\"\n\n\
                    # Another one.\n[[device]]\nname = \"plc\"\nhost = \"10.0.0.9\"\n\n[[device]]\nname = \"hmi\"\n\
                    host = \"10.0.0.7\"\n[[device.service]]\nname = \"screen\"\nkind = \"vnc\"\n";
        let text = merged(BASE, over).unwrap();
        let all = read(&text);
        assert_eq!(all["limits"], toml::Value::Table(read("max_streams = 20\nidle_timeout = \"1h\"\nresume = \"1m\"")));
        assert_eq!(all["server"]["url"].as_str(), Some("https://b.example"));
        let devices = all["device"].as_array().unwrap();
        let named = |n: usize| (devices[n]["name"].as_str().unwrap(), devices[n]["host"].as_str().unwrap());
        assert_eq!([named(0), named(1), named(2)], [("plc", "10.0.0.9"), ("cam", "10.0.0.2"), ("hmi", "10.0.0.7")]);
        assert!(devices[0].get("service").is_none(), "as a whole: {text}");
        assert_eq!(devices[1]["service"][0]["name"].as_str(), Some("ssh"));
        assert_eq!(devices[2]["service"][0]["name"].as_str(), Some("screen"));
        assert_eq!(all["traffic"]["warn"].as_str(), Some("1 GB"));
        for comment in ["# All sites.", "# usual", "# The gate.", "# Another one."] {
            assert!(text.contains(comment), "{comment}: {text}");
        }
    }

    #[test]
    fn other_forms_of_the_same_tables_mean_the_same() {
        let inline = merged("limits = { max_streams = 1, resume = \"1m\" }\n", "limits.max_streams = 2\n").unwrap();
        assert_eq!(read(&inline), read("[limits]\nmax_streams = 2\nresume = \"1m\"\n"));
        let dotted = merged("[limits]\nmax_streams = 1\n", "limits = { resume = \"1m\" }\n").unwrap();
        assert_eq!(read(&dotted), read("[limits]\nmax_streams = 1\nresume = \"1m\"\n"));
        let first = merged("", "[[device]]\nname = \"a\"\nhost = \"h\"\n").unwrap();
        assert_eq!(read(&first)["device"][0]["name"].as_str(), Some("a"));
        let end =
            merged("[[device]]\nname = \"a\"\n[[device.service]]\nname = \"s\"\n", "log.level = \"debug\"\n").unwrap();
        assert_eq!(read(&end)["log"]["level"].as_str(), Some("debug"), "{end}");
    }

    #[test]
    fn devices_of_the_template_are_left_out_by_name() {
        let text = merged(BASE, "without = [\"cam\"]\n[[device]]\nname = \"hmi\"\nhost = \"10.0.0.7\"\n").unwrap();
        let all = read(&text);
        let names: Vec<_> = all["device"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["plc", "hmi"]);
        assert!(merged(BASE, "without = [\"cma\"]").unwrap_err().what.contains("`cma`"));
        assert!(merged(BASE, "without = \"cam\"").is_err());
        let inline = "device = [{ name = \"a\", host = \"h\" }]\n";
        assert!(merged(inline, "[[device]]\nname = \"b\"\n").unwrap_err().what.contains("another form"));
        assert!(merged(BASE, inline).is_err());
    }
}
