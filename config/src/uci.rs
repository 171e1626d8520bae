//! The same configuration as OpenWrt writes it: UCI's sections and options become the tables that gateway.toml has, each
//! with its place, and are read by the same readers.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::nearest::nearest;
use super::reader::Reader;

/// More words than this has no line.
const WORDS_MAX: usize = 4;

/// The device that was meant is looked for among so many.
const NEAREST_OF: usize = 100;

type Word<'a> = Spanned<Cow<'a, str>>;
type Table<'a> = Spanned<DeTable<'a>>;

/// Whether this is a file of UCI: `…/config/NAME` without an ending, as in /etc/config/linkspan.
pub(super) fn is_uci(file: &Path) -> bool {
    let folder = file.parent().and_then(Path::file_name);
    file.extension().is_none() && folder.is_some_and(|folder| folder == "config")
}

/// The gateway.toml that a file of UCI stands for: what it names by a relative path lies in /etc/linkspan too.
pub(super) fn home(file: &Path) -> Cow<'_, Path> {
    match file.parent().and_then(Path::parent) {
        Some(root) if is_uci(file) => Cow::Owned(root.join("linkspan/gateway.toml")),
        _ => Cow::Borrowed(file),
    }
}

/// The tables of the file. What is no UCI is noted, and the rest is read.
pub(super) fn tables<'a>(reader: &Reader<'_>, text: &'a str) -> DeTable<'a> {
    let mut file = File { sections: Vec::new(), named: HashMap::new(), current: 0 };
    let mut lines = Lines { reader, text, at: 0 };
    while let Some((start, words)) = lines.next() {
        let mut words = words.into_iter();
        let Some(verb) = words.next() else { continue };
        match (verb.get_ref().as_ref(), words.next(), words.next(), words.next()) {
            ("config" | "c", Some(kind), name, None) => file.open(start, kind, name),
            ("option" | "o", Some(key), Some(value), None) => set(reader, file.current(), key, value, false),
            ("list" | "l", Some(key), Some(value), None) => set(reader, file.current(), key, value, true),
            ("package" | "p", _, None, None) => {}
            _ => reader.error(
                &verb.span(),
                "this is no line of UCI",
                "write config TYPE 'NAME', option NAME 'VALUE' or list NAME 'VALUE'",
            ),
        }
    }
    assemble(reader, file.sections)
}

/// A hint for gateway.toml in the words of UCI.
pub(super) fn words(text: &str) -> String {
    let text = text.replace("[[device.service]]", "`config service`").replace("[[device]]", "`config device`");
    let mut told = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('[') {
        told += before;
        match after.split_once(']') {
            Some((name, after)) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase()) => {
                told += &format!("`config {name}`");
                rest = after;
            }
            _ => {
                told.push('[');
                rest = after;
            }
        }
    }
    told += rest;
    let assignment = told.strip_prefix("write ").and_then(|words| words.split_once(" = "));
    match assignment {
        Some((key, value)) if !key.contains(' ') => format!("write option {key} {}", value.replace('"', "'")),
        _ => told,
    }
}

/// Yes or no as UCI writes it.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "yes" | "on" | "true" | "enabled" => Some(true),
        "0" | "no" | "off" | "false" | "disabled" => Some(false),
        _ => None,
    }
}

struct Section<'a> {
    kind: Word<'a>,
    name: Option<Word<'a>>,
    table: Table<'a>,
}

/// The sections so far, and the one that options belong to.
struct File<'a> {
    sections: Vec<Section<'a>>,
    named: HashMap<(String, String), usize>,
    current: usize,
}

impl<'a> File<'a> {
    fn open(&mut self, start: usize, kind: Word<'a>, name: Option<Word<'a>>) {
        let end = name.as_ref().unwrap_or(&kind).span().end;
        self.current = self.sections.len();
        if let Some(name) = &name {
            let known = (kind.get_ref().to_string(), name.get_ref().to_string());
            // UCI itself goes on with a section that it knows by type and name.
            self.current = *self.named.entry(known).or_insert(self.current);
        }
        if self.current == self.sections.len() {
            self.sections.push(Section { kind, name, table: Spanned::new(start..end, DeTable::new()) });
        }
    }

    fn current(&mut self) -> Option<&mut Section<'a>> {
        self.sections.get_mut(self.current)
    }
}

fn set<'a>(reader: &Reader<'_>, section: Option<&mut Section<'a>>, key: Word<'a>, value: Word<'a>, list: bool) {
    let Some(section) = section else {
        reader.error(&key.span(), "an option before the first section", "write config TYPE 'NAME' above it");
        return;
    };
    let span = value.span();
    // Emptied in a form, it is not set.
    if value.get_ref().is_empty() {
        return;
    }
    let table = section.table.get_mut();
    let value = Spanned::new(span.clone(), DeValue::String(value.into_inner()));
    match (table.get_mut(key.get_ref().as_ref()).map(Spanned::get_mut), list) {
        (Some(DeValue::Array(items)), true) => items.push(value),
        (Some(_), true) => {
            reader.error(&key.span(), format!("`{}` is an option and a list", key.get_ref()), "write one of the two");
        }
        (Some(old), false) => {
            let what = format!("`{}` stands twice in this section, and the later one counts", key.get_ref());
            reader.warning(&key.span(), what, "remove one of the two");
            *old = value.into_inner();
        }
        (None, true) => drop(table.insert(key, Spanned::new(span, list_of([value]).into_inner()))),
        (None, false) => drop(table.insert(key, value)),
    }
}

/// One table of each kind, but devices as many as there are, each with its services.
fn assemble<'a>(reader: &Reader<'_>, sections: Vec<Section<'a>>) -> DeTable<'a> {
    let mut root = DeTable::new();
    let (mut devices, mut services) = (Vec::new(), Vec::new());
    for section in sections {
        match section.kind.get_ref().as_ref() {
            "device" => devices.push(named(section)),
            "service" => services.push(section.table),
            kind if root.contains_key(kind) => {
                let what = format!("a second section of type {kind}");
                reader.error(&section.kind.span(), what, "put its options into the first one");
            }
            _ => {
                let value = Spanned::new(section.table.span(), DeValue::Table(section.table.into_inner()));
                root.insert(section.kind, value);
            }
        }
    }
    attach(reader, &mut devices, services);
    if !devices.is_empty() {
        let devices =
            devices.into_iter().map(|device| Spanned::new(device.span(), DeValue::Table(device.into_inner())));
        root.insert(Spanned::new(0..0, "device".into()), list_of(devices));
    }
    root
}

/// A device without a name of its own bears its section's; UCI writes no hyphens there.
fn named(section: Section<'_>) -> Table<'_> {
    let mut table = section.table;
    if let Some(name) = section.name.filter(|_| !table.get_ref().contains_key("name")) {
        let span = name.span();
        let name = DeValue::String(name.get_ref().replace('_', "-").into());
        table.get_mut().insert(Spanned::new(span.clone(), "name".into()), Spanned::new(span, name));
    }
    table
}

/// Puts each service into its device.
fn attach<'a>(reader: &Reader<'_>, devices: &mut [Table<'a>], services: Vec<Table<'a>>) {
    let name_of = |device: &Table<'a>| Some(device.get_ref().get("name")?.get_ref().as_str()?.to_owned());
    let names: Vec<_> = devices.iter().map(|device| name_of(device).unwrap_or_default()).collect();
    let places: HashMap<_, _> = names.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
    for mut service in services {
        let span = service.span();
        let Some((_, of)) = service.get_mut().remove_entry("device") else {
            reader.error(&span, "this service does not say whose it is", "write option device 'plc1'");
            continue;
        };
        let wanted = of.get_ref().as_str().unwrap_or_default();
        let Some(device) = places.get(wanted).and_then(|place| devices.get_mut(*place)) else {
            let near = nearest(wanted, names.iter().take(NEAREST_OF).map(String::as_str));
            let instead = near.map(|near| format!("did you mean '{near}'?"));
            let instead = instead.unwrap_or("write the name of a `config device`".to_owned());
            reader.error(&of.span(), "there is no device of this name", instead);
            continue;
        };
        let value = Spanned::new(span.clone(), DeValue::Table(service.into_inner()));
        match device.get_mut().get_mut("service").map(Spanned::get_mut) {
            Some(DeValue::Array(services)) => services.push(value),
            _ => drop(device.get_mut().insert(Spanned::new(span, "service".into()), list_of([value]))),
        }
    }
}

fn list_of<'a>(items: impl IntoIterator<Item = Spanned<DeValue<'a>>>) -> Spanned<DeValue<'a>> {
    let mut list = DeArray::new();
    items.into_iter().for_each(|item| list.push(item));
    Spanned::new(0..0, DeValue::Array(list))
}

/// Cuts the text into lines of words as libuci does: quotes of both kinds, which may hold line ends, a backslash outside
/// of single quotes, comments, and semicolons in place of line ends.
struct Lines<'r, 'a> {
    reader: &'r Reader<'r>,
    text: &'a str,
    at: usize,
}

impl<'a> Lines<'_, 'a> {
    /// The words of the next line, and where it begins.
    fn next(&mut self) -> Option<(usize, Vec<Word<'a>>)> {
        let mut words = Vec::new();
        self.skip(|c| matches!(c, ' ' | '\t' | '\r' | '\n' | ';'));
        let start = self.at;
        self.peek()?;
        loop {
            self.skip(|c| matches!(c, ' ' | '\t' | '\r'));
            match self.peek() {
                None | Some('\n' | ';') => return Some((start, words)),
                Some('#') => self.skip(|c| c != '\n'),
                Some(_) => {
                    let word = self.word();
                    if words.len() <= WORDS_MAX {
                        words.push(word);
                    }
                }
            }
        }
    }

    fn word(&mut self) -> Word<'a> {
        let start = self.at;
        let (mut word, mut quote, mut opened) = (String::new(), None, start);
        while let Some(c) = self.peek() {
            match (quote, c) {
                (None, ' ' | '\t' | '\r' | '\n' | ';' | '#') => break,
                (None, '\'' | '"') => (quote, opened) = (Some(c), self.at),
                (Some(open), _) if open == c => quote = None,
                (None | Some('"'), '\\') => {
                    self.at += 1;
                    match self.peek() {
                        // The line goes on.
                        Some('\n') | None => {}
                        Some(c) => word.push(c),
                    }
                }
                _ => word.push(c),
            }
            self.at += self.peek().map_or(0, char::len_utf8);
        }
        if let Some(quote) = quote {
            self.reader.error(&(opened..self.at), format!("the closing {quote} is missing"), "write it");
        }
        Spanned::new(start..self.at, Cow::Owned(word))
    }

    fn skip(&mut self, what: impl Fn(char) -> bool) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += rest.len() - rest.trim_start_matches(what).len();
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }
}
