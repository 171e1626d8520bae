//! The text of a template: TOML whose texts may hold variables. A value takes the place of a whole TOML text, written anew,
//! so that nothing in it can ever be read as TOML (pure).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use linkspan_config::central::{DOCUMENT_MAX, LOCAL_ONLY};
use linkspan_config::nearest::nearest;
use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use utoipa::ToSchema;

/// What stands for a variable at one gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a value is a text, a whole number, true or false")]
pub enum Value {
    /// true or false.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// A text.
    Text(String),
}

/// The values of one gateway, by the names of the variables.
pub type Values = BTreeMap<String, Value>;

/// Values of one gateway.
pub(super) const VALUES_MAX: usize = 200;
/// Bytes of a variable's name.
const NAME_MAX: usize = 64;
/// Characters of a value.
const TEXT_MAX: usize = 1000;
/// What begins the names that the server itself gives values to.
pub(super) const BUILT_IN: &str = "gateway.";
/// Those names.
const BUILT_INS: [&str; 2] = ["gateway.name", "gateway.tenant"];

/// One thing that is wrong with a text, by its place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// In bytes.
    pub(super) offset: usize,
    /// What is wrong.
    pub(super) what: String,
    /// What to do instead.
    pub(super) instead: String,
}

impl Fault {
    pub(super) fn new(offset: usize, what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self { offset, what: what.into(), instead: instead.into() }
    }
}

/// Whether a gateway can have this value; what is wrong, if not.
pub(super) fn check_value(name: &str, value: &Value) -> Result<(), String> {
    if !is_name(name) {
        return Err(format!(
            "`{}` cannot be the name of a variable: write letters, digits, - and _, parted by dots, at most {NAME_MAX}",
            name.chars().take(NAME_MAX).collect::<String>()
        ));
    }
    if name.starts_with(BUILT_IN) {
        return Err(format!("`{name}` is given by the server: names that begin with `{BUILT_IN}` are its own"));
    }
    match value {
        Value::Text(text) if text.chars().count() > TEXT_MAX => {
            Err(format!("the value of `{name}` has more than {TEXT_MAX} characters"))
        }
        _ => Ok(()),
    }
}

fn is_name(text: &str) -> bool {
    let fits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    text.len() <= NAME_MAX && text.split('.').all(fits)
}

/// What can be said of a template before a gateway is named: it is TOML, its variables are well formed, and it holds nothing
/// that belongs to the router alone.
pub(super) fn check(text: &str) -> Vec<Fault> {
    if text.len() > DOCUMENT_MAX {
        let what = format!("this has {} bytes, and at most {DOCUMENT_MAX} can be kept", text.len());
        return vec![Fault::new(0, what, "list fewer devices, or shorten comments")];
    }
    let mut reading = Reading::default();
    let known = |name: &str| match name.starts_with(BUILT_IN) && !BUILT_INS.contains(&name) {
        true => Err(unknown_built_in(name)),
        false => Ok(Value::Number(0)),
    };
    reading.all(text, &known);
    let (table, _) = DeTable::parse_recoverable(text);
    for (key, _) in table.get_ref() {
        let name = key.get_ref().as_ref();
        if LOCAL_ONLY.contains(&name) {
            let what = format!("[{name}] belongs to the router alone and is not sent to it");
            reading.faults.push(Fault::new(
                key.span().start,
                what,
                "remove it; it is written in the router's own file",
            ));
        }
    }
    reading.faults.sort_by_key(|fault| fault.offset);
    reading.faults
}

/// Whether the name of one of its devices has no variable in it: then only one gateway can have it.
pub(super) fn fixed_device(text: &str) -> Option<(usize, String)> {
    let (table, _) = DeTable::parse_recoverable(text);
    let DeValue::Array(devices) = table.get_ref().get("device")?.get_ref() else { return None };
    devices.iter().find_map(|device| {
        let name = device.get_ref().as_table()?.get("name")?;
        let text = name.get_ref().as_str().filter(|text| !text.contains("{{"))?;
        Some((name.span().start, text.to_owned()))
    })
}

/// The text with a value for each variable; or what is wrong with it.
pub(super) fn filled(text: &str, gateway: &str, values: &Values) -> Result<String, Vec<Fault>> {
    let known = |name: &str| values.get(name).cloned().ok_or_else(|| missing(name, gateway, values));
    let mut reading = Reading::default();
    reading.all(text, &known);
    if !reading.faults.is_empty() {
        return Err(reading.faults);
    }
    reading.places.sort_by_key(|(span, _)| span.start);
    let (mut filled, mut done) = (String::with_capacity(text.len()), 0);
    for (span, value) in reading.places {
        filled.push_str(text.get(done..span.start).unwrap_or_default());
        filled.push_str(&value);
        done = span.end;
    }
    filled.push_str(text.get(done..).unwrap_or_default());
    Ok(filled)
}

fn unknown_built_in(name: &str) -> (String, String) {
    (format!("there is no `{name}`"), format!("the server gives {}", BUILT_INS.join(" and ")))
}

fn missing(name: &str, gateway: &str, values: &Values) -> (String, String) {
    if name.starts_with(BUILT_IN) {
        return unknown_built_in(name);
    }
    let near = nearest(name, values.keys().map(String::as_str)).map(|near| format!("did you mean `{near}`? Or "));
    let instead =
        format!("{}give it one: linkspan-server config own values {gateway} --set {name}=…", near.unwrap_or_default());
    (format!("{gateway} has no value for `{name}`"), instead)
}

/// Finds the value of a variable, or says what is wrong and what to do.
type Known<'a> = dyn Fn(&str) -> Result<Value, (String, String)> + 'a;

/// What was found on the way through a text.
#[derive(Default)]
struct Reading {
    faults: Vec<Fault>,
    /// What is written in place of which texts.
    places: Vec<(Range<usize>, String)>,
    /// Bytes of that.
    length: usize,
}

impl Reading {
    fn all(&mut self, text: &str, known: &Known<'_>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let offset = error.span().unwrap_or(0..0).start;
            let what = format!("this is not TOML: {}", error.message());
            self.faults.push(Fault::new(offset, what, "see https://toml.io for the form; variables stand in quotes"));
        }
        self.table(text, table.get_ref(), known);
    }

    fn table(&mut self, text: &str, table: &DeTable<'_>, known: &Known<'_>) {
        for (key, value) in table {
            if key.get_ref().contains("{{") {
                let what = "a variable cannot be the name of a key";
                self.faults.push(Fault::new(key.span().start, what, "write it in the value"));
            }
            self.value(text, value, known);
        }
    }

    fn value(&mut self, text: &str, value: &Spanned<DeValue<'_>>, known: &Known<'_>) {
        match value.get_ref() {
            DeValue::Table(table) => self.table(text, table, known),
            DeValue::Array(items) => items.iter().for_each(|item| self.value(text, item, known)),
            DeValue::String(content) if content.contains("{{") => self.fill(text, value.span(), content, known),
            _ => {}
        }
    }

    /// One text with variables in it.
    fn fill(&mut self, text: &str, span: Range<usize>, content: &str, known: &Known<'_>) {
        let raw = text.get(span.clone()).unwrap_or_default();
        let mut opened = raw.match_indices("{{").map(|(at, _)| span.start + at);
        let (mut parts, mut rest) = (Vec::new(), content);
        while let Some((before, after)) = rest.split_once("{{") {
            let offset = opened.next().unwrap_or(span.start);
            let Some((name, after)) = after.split_once("}}") else {
                self.faults.push(Fault::new(offset, "a variable is not closed", "write {{ site.name }}"));
                return;
            };
            let name = name.trim();
            if !is_name(name) {
                let what = format!("`{}` is not a variable", name.chars().take(NAME_MAX).collect::<String>());
                let instead = "write {{ site.name }}: letters, digits, - and _, parted by dots, and nothing else";
                self.faults.push(Fault::new(offset, what, instead));
                return;
            }
            parts.push(Value::Text(before.to_owned()));
            match known(name) {
                Ok(value) => parts.push(value),
                Err((what, instead)) => self.faults.push(Fault::new(offset, what, instead)),
            }
            rest = after;
        }
        parts.push(Value::Text(rest.to_owned()));
        let written = written(&parts);
        self.length = self.length.saturating_add(written.len());
        if self.length > DOCUMENT_MAX {
            if self.length - written.len() <= DOCUMENT_MAX {
                let what = format!("with its values the document has more than {DOCUMENT_MAX} bytes");
                self.faults.push(Fault::new(span.start, what, "list fewer devices, or shorten the values"));
            }
            return;
        }
        self.places.push((span, written));
    }
}

/// One value alone keeps its type; whatever stands together is a text.
fn written(parts: &[Value]) -> String {
    let mut some = parts.iter().filter(|part| !matches!(part, Value::Text(text) if text.is_empty()));
    match (some.next(), some.next()) {
        (Some(Value::Flag(flag)), None) => flag.to_string(),
        (Some(Value::Number(number)), None) => number.to_string(),
        _ => quoted(&parts.iter().map(in_text).collect::<String>()),
    }
}

fn in_text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Flag(flag) => flag.to_string().into(),
        Value::Number(number) => number.to_string().into(),
        Value::Text(text) => text.into(),
    }
}

/// A basic string of TOML, on one line whatever is in it.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\U{:08X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(all: &[(&str, Value)]) -> Values {
        all.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn a_value_alone_keeps_its_type_and_the_rest_stays_as_it_is() {
        let template = "# {{ not.this }}\n[[device]] # the press\nname = \"plc-{{gateway.name}}\"\nhost = '{{ plc.host }}'\n\
                        port = \"{{ plc.port }}\"\non = \"\"\"{{ on }}\"\"\"\nboth = \"{{ plc.port }}{{ on }}\"\n";
        let all = values(&[
            ("gateway.name", text("site12")),
            ("plc.host", text("10.0.0.1")),
            ("plc.port", Value::Number(502)),
            ("on", Value::Flag(true)),
        ]);
        assert_eq!(
            filled(template, "site12", &all).unwrap(),
            "# {{ not.this }}\n[[device]] # the press\nname = \"plc-site12\"\nhost = \"10.0.0.1\"\nport = 502\non = true\n\
             both = \"502true\"\n"
        );
    }

    #[test]
    fn no_value_can_become_toml() {
        let hostile = [
            "\"\nhost = \"evil",
            "'''",
            "\"\"\"",
            "\\",
            "\\\"",
            "a\r\n[policy]\ncentral = false",
            "{{ gateway.name }}",
            "}}\u{0}\u{7f}\u{85}\u{2028}\u{feff}",
            "# no comment",
        ];
        for template in ["x = \"{{ v }}\"\ny = 1\n", "x = '{{ v }}'\ny = 1\n", "x = \"\"\"\n{{ v }}\"\"\"\ny = 1\n"] {
            for value in hostile {
                let document = filled(template, "g", &values(&[("v", text(value))])).unwrap();
                let read: toml::Table = toml::from_str(&document).unwrap();
                assert_eq!((read.len(), read["x"].as_str(), read["y"].as_integer()), (2, Some(value), Some(1)));
                assert_eq!(document.lines().count(), 2, "{document}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_what_to_do() {
        let told = |template: &str| {
            let faults = filled(template, "site12", &values(&[("site.name", text("x"))])).unwrap_err();
            faults.into_iter().map(|f| format!("{}: {}; {}", f.offset, f.what, f.instead)).collect::<Vec<_>>()
        };
        let all = told("a = \"x {{ site.name }} {{ site.nmae }}\"\nb = \"{{ gateway.nmae }}\"\n");
        assert_eq!(
            all,
            [
                "23: site12 has no value for `site.nmae`; did you mean `site.name`? Or give it one: linkspan-server config \
                 own values site12 --set site.nmae=…",
                "45: there is no `gateway.nmae`; the server gives gateway.name and gateway.tenant",
            ]
        );
        assert!(told("a = \"{{ a | b }}\"")[0].contains("5: `a | b` is not a variable"));
        assert!(told("a = \"{{ a\"")[0].contains("not closed"));
        assert!(told("\"{{ a }}\" = 1")[0].contains("name of a key"));
        assert!(told("port = {{ a }}")[0].contains("variables stand in quotes"));
    }

    #[test]
    fn a_template_is_checked_before_a_gateway_is_named() {
        assert_eq!(check("[[device]]\nname = \"{{ a.b }}\"\nport = \"{{ gateway.name }}\"\n"), []);
        let faults = check("[identity]\nname = \"x\"\n[log]\nlevel = \"{{ gateway.level }}\"\n");
        let told: Vec<_> = faults.iter().map(|fault| fault.what.as_str()).collect();
        assert_eq!(
            told,
            ["[identity] belongs to the router alone and is not sent to it", "there is no `gateway.level`"]
        );
        assert_eq!(check(&"#\n".repeat(DOCUMENT_MAX)).len(), 1);
        let all = "[[device]]\nname = \"a-{{ gateway.name }}\"\n[[device]]\nname = \"b\"\n";
        assert_eq!(fixed_device(all).unwrap().1, "b");
        assert_eq!(fixed_device("[[device]]\nname = \"a-{{ gateway.name }}\"\n"), None);
    }

    #[test]
    fn what_grows_too_long_is_refused_before_it_is_made() {
        let template = format!("x = [{}]", "\"{{ v }}\", ".repeat(10_000));
        let faults = filled(&template, "g", &values(&[("v", text(&"x".repeat(1000)))])).unwrap_err();
        assert_eq!(faults.len(), 1);
        assert!(faults[0].what.contains("with its values"));
    }

    #[test]
    fn names_and_values_are_bounded() {
        check_value("site.name", &text("Pump house")).unwrap();
        for (name, value) in [
            ("", text("x")),
            ("a..b", text("x")),
            ("a b", text("x")),
            ("gateway.name", text("x")),
            ("ä", text("x")),
            (&"a".repeat(65), text("x")),
            ("long", text(&"x".repeat(1001))),
        ] {
            assert!(check_value(name, &value).is_err(), "{name}");
        }
    }
}
