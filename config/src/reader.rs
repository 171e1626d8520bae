//! Reads the tables of a TOML file key by key, remembers which keys are known, and notes every problem with its place.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, Severity, Wrong};
use super::{uci, value};
use crate::nearest::nearest;

/// A place in the file.
pub(super) type Span = Range<usize>;

/// A text with its place.
pub(super) type Text<'a> = Spanned<&'a str>;

/// More problems than this are not told at once: whoever has a hundred will look again.
const PROBLEMS_MAX: usize = 100;

/// One file being read, with the problems found so far.
pub(super) struct Reader<'a> {
    pub(super) file: &'a Path,
    /// Every value is a text, as UCI has it.
    uci: bool,
    text: &'a str,
    place: Place,
    central: bool,
    problems: RefCell<Vec<(usize, Severity, Wrong)>>,
}

/// Where the machine is that a configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is this one: files that are named must be there.
    Here,
    /// It is another one, of which nothing is known.
    Elsewhere,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, uci: uci::is_uci(file), text, place: Place::Here, central: false, problems: RefCell::default() }
    }

    /// For a document that comes from the server, which is TOML whatever the router's own file is.
    pub(super) fn central(file: &'a Path, text: &'a str, place: Place) -> Self {
        Self { place, central: true, uci: false, ..Self::new(file, text) }
    }

    /// Whether files that are named can be looked at.
    pub(super) fn is_here(&self) -> bool {
        self.place == Place::Here
    }

    /// Whether this comes from the server.
    pub(super) fn is_central(&self) -> bool {
        self.central
    }

    /// Warns of a key that the router's own file has, and that counts for nothing in a document of the server's.
    pub(super) fn stays(&self, section: &Section<'_>, key: &str) {
        if self.central && section.has(key) {
            let what = format!("`{key}` counts only in the router's own file");
            self.warning(&section.span_of(key), what, "remove it here");
        }
    }

    pub(super) fn not_toml(&self, errors: &[toml::de::Error]) {
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            self.error(&span, format!("this is not TOML: {}", error.message()), "see https://toml.io for the form");
        }
    }

    pub(super) fn error(&self, span: &Span, what: impl Into<String>, instead: impl Into<String>) {
        self.note(Severity::Error, span, Wrong::new(what, instead));
    }

    pub(super) fn warning(&self, span: &Span, what: impl Into<String>, instead: impl Into<String>) {
        self.note(Severity::Warning, span, Wrong::new(what, instead));
    }

    /// The value, or nothing and a note of what is wrong with it.
    pub(super) fn check<T>(&self, span: &Span, result: Result<T, Wrong>) -> Option<T> {
        result.map_err(|wrong| self.note(Severity::Error, span, wrong)).ok()
    }

    /// The whole text.
    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// The file's tables; what is wrong with its form is noted.
    pub(super) fn tables(&self) -> DeTable<'a> {
        if self.uci {
            return uci::tables(self, self.text);
        }
        let (table, errors) = DeTable::parse_recoverable(self.text);
        self.not_toml(&errors);
        table.into_inner()
    }

    /// A path as written in the file: a relative one counts from the file's own directory.
    pub(super) fn beside(&self, path: &str) -> PathBuf {
        uci::home(self.file).parent().unwrap_or(Path::new("")).join(path)
    }

    /// Line and column of a place.
    pub(super) fn place(&self, span: &Span) -> (u32, u32) {
        place(self.text, span.start)
    }

    /// There are more problems already than are told.
    pub(super) fn is_full(&self) -> bool {
        self.problems.borrow().len() > PROBLEMS_MAX
    }

    /// The problems in the order of the file; at most [`PROBLEMS_MAX`] of them, errors first to stay.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut found = self.problems.take();
        found.sort_by_key(|(offset, severity, _)| (*severity == Severity::Warning, *offset));
        found.truncate(PROBLEMS_MAX);
        found.sort_by_key(|(offset, ..)| *offset);
        let problem = |(offset, severity, Wrong { mut what, mut instead })| {
            if self.uci {
                (what, instead) = (uci::words(&what), uci::words(&instead));
            }
            let place = Some(place(self.text, offset));
            Problem { severity, file: self.file.to_owned(), place, what, instead }
        };
        found.into_iter().map(problem).collect()
    }

    pub(super) fn note(&self, severity: Severity, span: &Span, wrong: Wrong) {
        self.problems.borrow_mut().push((span.start, severity, wrong));
    }
}

/// Line and column, from 1, of a byte offset; the column counts characters.
pub fn place(text: &str, offset: usize) -> (u32, u32) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    let column = before[line_start..].chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// One table. Each key that is asked for is known from then on; [`Section::finish`] notes the others.
pub(super) struct Section<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) title: &'static str,
    pub(super) span: Span,
    table: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub(super) fn new(reader: &'a Reader<'a>, title: &'static str, table: &'a DeTable<'a>, span: Span) -> Self {
        Self { reader, title, span, table: Some(table), known: Vec::new() }
    }

    /// Without its problems, where that is so: what is not there need not be complete.
    pub(super) fn unless(self, absent: bool) -> Option<Self> {
        (!absent).then_some(self)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    pub(super) fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.push(key);
        self.table?.get(key)
    }

    /// The place of a key's value, or of the table where it is absent.
    pub(super) fn span_of(&self, key: &str) -> Span {
        self.table.and_then(|table| table.get(key)).map_or(self.span.clone(), Spanned::span)
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<Text<'a>> {
        let value = self.value(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(key, value, "a text in quotes");
            return None;
        };
        Some(Spanned::new(value.span(), text))
    }

    /// A text that must be there; `example` is what to write.
    pub(super) fn required(&mut self, key: &'static str, example: &str) -> Option<Text<'a>> {
        if !self.has(key) {
            let title = self.title;
            self.reader.error(&self.span, format!("`{key}` is missing in {title}"), format!("write {key} = {example}"));
        }
        self.text(key)
    }

    /// A text and what it means.
    pub(super) fn parsed<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, Wrong>) -> Option<T> {
        let text = self.text(key)?;
        self.reader.check(&text.span(), parse(text.get_ref()))
    }

    pub(super) fn integer(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        let value = self.value(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(integer) => i64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok(),
            DeValue::String(digits) if self.reader.uci => digits.parse().ok(),
            _ => {
                self.wrong_type(key, value, "a whole number without quotes");
                return None;
            }
        };
        if let Some(number) = number.filter(|number| range.contains(number)) {
            return Some(number);
        }
        let instead = format!("write a number from {} to {}", range.start(), range.end());
        self.reader.error(&value.span(), format!("`{key}` is out of range"), instead);
        None
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        let (flag, wanted) = match value.get_ref() {
            DeValue::String(text) if self.reader.uci => (uci::flag(text), "'1' or '0'"),
            value => (value.as_bool(), "true or false, without quotes"),
        };
        if flag.is_none() {
            self.wrong_type(key, value, wanted);
        }
        flag
    }

    pub(super) fn duration(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let text = self.text(key)?;
        self.reader.check(&text.span(), value::duration(text.get_ref(), &range))
    }

    pub(super) fn list(&mut self, key: &'static str) -> Vec<Text<'a>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let items = match value.get_ref() {
            DeValue::Array(items) => items,
            DeValue::String(text) if self.reader.uci => return vec![Spanned::new(value.span(), text)],
            _ => {
                self.wrong_type(key, value, "a list of texts, [\"one\", \"two\"]");
                return Vec::new();
            }
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push(Spanned::new(item.span(), text)),
                None => self.wrong_type(key, item, "a text in quotes"),
            }
        }
        texts
    }

    /// A table within this one; an empty one where it is absent.
    pub(super) fn section(&mut self, key: &'static str, title: &'static str) -> Section<'a> {
        let value = self.value(key);
        let table = value.and_then(|value| match value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => {
                self.wrong_type(key, value, title);
                None
            }
        });
        let span = value.map_or(self.span.clone(), Spanned::span);
        Section { reader: self.reader, title, span, table, known: Vec::new() }
    }

    /// The tables of an array (`[[title]]`).
    pub(super) fn sections(&mut self, key: &'static str, title: &'static str) -> Vec<Section<'a>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(key, value, title);
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(items.len());
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(table) => sections.push(Section::new(self.reader, title, table, item.span())),
                _ => self.wrong_type(key, item, title),
            }
        }
        sections
    }

    /// Notes each key that nobody asked for; the keys that are known here.
    pub(super) fn finish(self) -> Vec<&'static str> {
        for key in self.table.into_iter().flat_map(|table| table.keys()) {
            let word = key.get_ref().as_ref();
            if self.known.contains(&word) {
                continue;
            }
            let instead = match nearest(word, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the keys of {} are {}", self.title, self.known.join(", ")),
            };
            self.reader.error(&key.span(), format!("unknown key `{word}` in {}", self.title), instead);
        }
        self.known
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let found = value.get_ref().type_str();
        self.reader.error(&value.span(), format!("`{key}` is of the wrong type ({found})"), format!("write {wanted}"));
    }
}
