//! Where in a template, or in the overrides of a gateway, that stands which is wrong in the document made of them (pure).

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// The value of a key.
    Key(String),
    /// One of a list.
    Nth(usize),
}

/// A key or a value of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Path {
    steps: Vec<Step>,
    /// The key itself is meant, not its value.
    key: bool,
}

/// What a document was made of: each text as it was written, and with its values.
pub(super) struct Origins<'a> {
    pub(super) template: (&'a str, &'a str),
    pub(super) overrides: (&'a str, &'a str),
}

/// Which text it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Template,
    Overrides,
}

impl Origins<'_> {
    /// Where that stands which is at this line and column of the document made of both.
    pub(super) fn of(&self, document: &str, line: u32, column: u32) -> Option<(Origin, usize)> {
        let offset = offset(document, line, column)?;
        let (whole, _) = DeTable::parse_recoverable(document);
        let whole = whole.get_ref();
        let path = find(whole, offset)?;
        let both = [(Origin::Overrides, self.overrides), (Origin::Template, self.template)];
        both.into_iter().find_map(|(origin, (written, filled))| {
            let (filled, _) = DeTable::parse_recoverable(filled);
            let path = like(whole, &path, filled.get_ref())?;
            start(filled.get_ref(), &path)?;
            // The values took the places of texts: everything else is where it was.
            let (written, _) = DeTable::parse_recoverable(written);
            Some((origin, start(written.get_ref(), &path)?))
        })
    }
}

/// In bytes; the column counts characters.
fn offset(text: &str, line: u32, column: u32) -> Option<usize> {
    let (line, column) = (usize::try_from(line).ok()?.checked_sub(1)?, usize::try_from(column).ok()?.checked_sub(1)?);
    let before: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = text.get(before..)?;
    let within = rest.char_indices().map(|(at, _)| at).nth(column).unwrap_or(rest.len());
    Some(before + within)
}

/// The key or value that begins here.
fn find(table: &DeTable<'_>, offset: usize) -> Option<Path> {
    table.iter().find_map(|(key, value)| {
        let step = || Step::Key(key.get_ref().to_string());
        if key.span().start == offset {
            return Some(Path { steps: vec![step()], key: true });
        }
        find_in(value, offset).map(|mut path| {
            path.steps.insert(0, step());
            path
        })
    })
}

fn find_in(value: &Spanned<DeValue<'_>>, offset: usize) -> Option<Path> {
    let below = match value.get_ref() {
        DeValue::Table(table) => find(table, offset),
        DeValue::Array(items) => items.iter().enumerate().find_map(|(n, item)| {
            let mut path = find_in(item, offset)?;
            path.steps.insert(0, Step::Nth(n));
            Some(path)
        }),
        _ => None,
    };
    below.or_else(|| (value.span().start == offset).then_some(Path { steps: Vec::new(), key: false }))
}

/// The same path in another document, where a device may be another one of the list: it is known by its name.
fn like(whole: &DeTable<'_>, path: &Path, other: &DeTable<'_>) -> Option<Path> {
    let mut path = path.clone();
    if let [Step::Key(key), Step::Nth(n), ..] = path.steps.as_mut_slice()
        && key == "device"
    {
        let name = device_name(devices(whole)?.get(*n)?);
        *n = devices(other)?.iter().position(|device| device_name(device) == name)?;
    }
    Some(path)
}

fn devices<'a>(table: &'a DeTable<'a>) -> Option<&'a [Spanned<DeValue<'a>>]> {
    match table.get("device")?.get_ref() {
        DeValue::Array(items) => Some(items),
        _ => None,
    }
}

fn device_name<'a>(device: &'a Spanned<DeValue<'_>>) -> Option<&'a str> {
    device.get_ref().as_table()?.get("name")?.get_ref().as_str()
}

/// Where the key or value begins.
fn start(table: &DeTable<'_>, path: &Path) -> Option<usize> {
    let (first, rest) = path.steps.split_first()?;
    let Step::Key(name) = first else { return None };
    let (key, value) = table.get_key_value(name.as_str())?;
    if rest.is_empty() && path.key {
        return Some(key.span().start);
    }
    start_in(value, rest, path.key)
}

fn start_in(value: &Spanned<DeValue<'_>>, steps: &[Step], key: bool) -> Option<usize> {
    match (steps.split_first(), value.get_ref()) {
        (None, _) => Some(value.span().start),
        (Some((Step::Key(_), _)), DeValue::Table(table)) => start(table, &Path { steps: steps.to_vec(), key }),
        (Some((Step::Nth(n), rest)), DeValue::Array(items)) => start_in(items.get(*n)?, rest, key),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_found_where_it_was_written() {
        let template =
            "# ä\n[log]\nlevel = \"{{ level }}\"\n[[device]]\nname = \"plc\"\nport = 7\n[[device]]\nname = \"cam\"\n";
        let filled = template.replace("{{ level }}", "loud");
        let overrides = "[[device]]\nname = \"hmi\"\nbogus = 1\n[[device]]\nname = \"plc\"\nhots = \"x\"\n";
        let document = super::super::merge::merged(&filled, overrides).unwrap();
        let origins = Origins { template: (template, &filled), overrides: (overrides, overrides) };
        let at = |what: &str| {
            let before = document.split(what).next().unwrap();
            let line = u32::try_from(before.lines().count() + usize::from(before.ends_with('\n'))).unwrap();
            let column = u32::try_from(before.rsplit('\n').next().unwrap().chars().count() + 1).unwrap();
            let (origin, offset) = origins.of(&document, line, column)?;
            let text = if origin == Origin::Template { template } else { overrides };
            Some((origin, text.get(offset..)?.chars().take(8).collect::<String>()))
        };
        assert_eq!(at("\"loud\""), Some((Origin::Template, "\"{{ leve".into())), "{document}");
        assert_eq!(at("level"), Some((Origin::Template, "level = ".into())));
        assert_eq!(at("\"cam\""), Some((Origin::Template, "\"cam\"\n".into())));
        assert_eq!(at("bogus"), Some((Origin::Overrides, "bogus = ".into())));
        assert_eq!(at("hots"), Some((Origin::Overrides, "hots = \"".into())));
        assert_eq!(at("# ä"), None);
    }
}
