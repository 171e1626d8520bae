//! Reads TOML with its positions, so that every mistake is found at once and each is shown where it stands.

use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One mistake in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What is wrong, and what to write instead.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.text)
    }
}

/// The mistakes found so far in one text.
pub(super) struct Problems<'a> {
    source: &'a str,
    found: Vec<Problem>,
}

impl<'a> Problems<'a> {
    pub(super) fn of(source: &'a str) -> Self {
        Self { source, found: Vec::new() }
    }

    /// Notes a mistake at a place in the text.
    pub(super) fn add(&mut self, at: Range<usize>, text: impl Into<String>) {
        let before = self.source.get(..at.start).unwrap_or(self.source);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        self.found.push(Problem { line, column, text: text.into() });
    }

    /// All mistakes in the order of the text.
    pub(super) fn into_sorted(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|problem| (problem.line, problem.column));
        self.found
    }
}

/// One table of the file, of which all permitted keys are known.
pub(super) struct Section<'a> {
    name: &'static str,
    at: Range<usize>,
    table: Option<&'a DeTable<'a>>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn root(table: &'a Spanned<DeTable<'a>>, keys: &[&str], problems: &mut Problems<'_>) -> Self {
        let section = Self { name: "", at: 0..0, table: Some(table.get_ref()) };
        section.refuse_unknown(keys, problems);
        section
    }

    /// A table within this one; an absent one reads as empty.
    pub(super) fn section(&self, name: &'static str, keys: &[&str], problems: &mut Problems<'_>) -> Section<'a> {
        let mut inner = Section { name, at: 0..0, table: None };
        let Some((value, at)) = self.value(name) else { return inner };
        inner.at = at.clone();
        match value {
            DeValue::Table(table) => {
                inner.table = Some(table);
                inner.refuse_unknown(keys, problems);
            }
            other => problems.add(at, format!("`{name}` is a section: write `[{name}]`, not {}", kind_of(other))),
        }
        inner
    }

    /// A list of tables, `[[section.name]]`; an absent one is empty.
    pub(super) fn tables(&self, name: &'static str, keys: &[&str], problems: &mut Problems<'_>) -> Vec<Section<'a>> {
        let Some((value, at)) = self.value(name) else { return Vec::new() };
        let DeValue::Array(items) = value else {
            problems.add(at, format!("`{name}` is a list of sections: write `[[{}.{name}]]`", self.name));
            return Vec::new();
        };
        let mut all = Vec::new();
        for item in items.iter() {
            let DeValue::Table(table) = item.get_ref() else {
                problems.add(item.span(), format!("`{name}` is a list of sections: write `[[{}.{name}]]`", self.name));
                continue;
            };
            let section = Section { name, at: item.span(), table: Some(table) };
            section.refuse_unknown(keys, problems);
            all.push(section);
        }
        all
    }

    /// Where the section stands; the top of the file if it is absent.
    pub(super) fn at(&self) -> Range<usize> {
        self.at.clone()
    }

    /// Where a key's value stands, if it is there.
    pub(super) fn at_key(&self, key: &str) -> Option<Range<usize>> {
        self.value(key).map(|(_, at)| at)
    }

    /// A text, put through `parse`; what `parse` has against it is noted where it stands.
    pub(super) fn text<T>(
        &self,
        key: &str,
        problems: &mut Problems<'_>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (value, at) = self.value(key)?;
        let DeValue::String(text) = value else {
            problems.add(at, format!("`{key}` is a text: write `{key} = \"…\"`, not {}", kind_of(value)));
            return None;
        };
        parse(text).map_err(|why| problems.add(at, why)).ok()
    }

    /// One text or a list of them, each put through `parse`.
    pub(super) fn texts<T>(
        &self,
        key: &str,
        problems: &mut Problems<'_>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let (value, at) = self.value(key)?;
        let DeValue::Array(items) = value else { return self.text(key, problems, parse).map(|one| vec![one]) };
        let mut all = Vec::new();
        for item in items.iter() {
            let DeValue::String(text) = item.get_ref() else {
                problems.add(item.span(), format!("`{key}` is a list of texts: write `{key} = [\"…\"]`"));
                continue;
            };
            match parse(text) {
                Ok(one) => all.push(one),
                Err(why) => problems.add(item.span(), why),
            }
        }
        if items.is_empty() {
            problems.add(at, format!("`{key}` is an empty list: leave the key out or write at least one entry"));
        }
        Some(all)
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str, problems: &mut Problems<'_>) -> Option<bool> {
        let (value, at) = self.value(key)?;
        let DeValue::Boolean(flag) = value else {
            problems.add(at, format!("`{key}` is `true` or `false`, without quotes; not {}", kind_of(value)));
            return None;
        };
        Some(*flag)
    }

    /// A whole number within bounds.
    pub(super) fn number(&self, key: &str, bounds: Range<u64>, problems: &mut Problems<'_>) -> Option<u64> {
        let (value, at) = self.value(key)?;
        let wish = format!("a whole number from {} to {}, without quotes", bounds.start, bounds.end - 1);
        let DeValue::Integer(digits) = value else {
            problems.add(at, format!("`{key}` is {wish}; not {}", kind_of(value)));
            return None;
        };
        match u64::from_str_radix(digits.as_str(), digits.radix()).ok().filter(|number| bounds.contains(number)) {
            Some(number) => Some(number),
            None => {
                problems.add(at, format!("`{key}` is {wish}"));
                None
            }
        }
    }

    fn value(&self, key: &str) -> Option<(&'a DeValue<'a>, Range<usize>)> {
        self.table?.get(key).map(|value| (value.get_ref(), value.span()))
    }

    fn refuse_unknown(&self, keys: &[&str], problems: &mut Problems<'_>) {
        for key in self.table.into_iter().flat_map(|table| table.keys()) {
            if keys.contains(&key.get_ref().as_ref()) {
                continue;
            }
            let place = if self.name.is_empty() { String::new() } else { format!(" in [{}]", self.name) };
            let hint = match nearest(key.get_ref(), keys) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", keys.join(", ")),
            };
            problems.add(key.span(), format!("unknown key `{}`{place}; {hint}", key.get_ref()));
        }
    }
}

/// The file as a table, or what the TOML grammar has against it.
pub(super) fn parse_table<'a>(source: &'a str, problems: &mut Problems<'_>) -> Spanned<DeTable<'a>> {
    let (table, errors) = DeTable::parse_recoverable(source);
    for error in errors {
        problems.add(error.span().unwrap_or(0..0), format!("not TOML: {}", error.message()));
    }
    table
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

/// The known key that is spelled most alike, if one is near enough to be meant.
fn nearest<'k>(key: &str, keys: &[&'k str]) -> Option<&'k str> {
    let near = keys.iter().map(|known| (distance(key, known), *known)).min()?;
    (near.0 <= 1 + key.len() / 4).then_some(near.1)
}

/// Levenshtein distance; keys are short, so the square of their length does not matter.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(64).enumerate() {
        let mut next = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let swap = row.get(j).copied().unwrap_or(0) + usize::from(from != *to);
            let drop = row.get(j + 1).copied().unwrap_or(0) + 1;
            let add = next.last().copied().unwrap_or(0) + 1;
            next.push(swap.min(drop).min(add));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_recognised_and_a_strange_one_is_not() {
        assert_eq!(nearest("consle", &["console", "zone"]), Some("console"));
        assert_eq!(nearest("certificate", &["certificate_file", "key_file"]), None);
        assert_eq!(nearest("wholly-other", &["console", "zone"]), None);
    }

    #[test]
    fn a_place_is_counted_in_characters() {
        let source = "a = 1\nöö = x";
        let mut problems = Problems::of(source);
        problems.add(6 + 5..source.len(), "here");
        assert_eq!(problems.into_sorted()[0].to_string(), "line 2, column 4: here");
    }
}
