//! Takes checked values out of a YAML tree and reports everything that is wrong on the way.
//!
//! A [`Table`] knows which keys were asked for; [`Table::finish`] reports the others, with the key that was probably meant.
//! A value that cannot be read is reported and becomes `None`, so that reading goes on and all errors are told at once.

use std::{cell::RefCell, fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use super::{
    error::{At, Report},
    suggest, units,
    yaml::{Entry, Node, Place, Value},
};

/// A place to read from: one document, and where its errors go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) origin: &'a str,
    pub(super) report: &'a Report,
}

impl<'a> Reader<'a> {
    /// The whole document.
    pub(super) fn root(self, node: &'a Node) -> Field<'a> {
        Field { reader: self, at: At { place: self.place(&node.place), key: String::new() }, node }
    }

    fn place(&self, place: &Place) -> String {
        match place {
            Place::Line(line) => format!("{}:{line}", self.origin),
            Place::Named(name) => name.to_string(),
        }
    }
}

/// One value.
#[derive(Debug, Clone)]
pub(super) struct Field<'a> {
    reader: Reader<'a>,
    at: At,
    node: &'a Node,
}

/// A table whose keys are known.
#[derive(Debug)]
pub(super) struct Table<'a> {
    reader: Reader<'a>,
    at: At,
    entries: &'a [Entry],
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Table<'a> {
    /// The value of `key`, if the user gave one.
    pub(super) fn field(&self, key: &'static str) -> Option<Field<'a>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        self.entries.iter().find(|entry| *entry.key == *key).map(|entry| self.below(entry))
    }

    /// The value of `key`; its absence is an error.
    pub(super) fn required(&self, key: &'static str, what: &str) -> Option<Field<'a>> {
        let field = self.field(key);
        if field.is_none() {
            return self.refuse_below(key, format!("is missing: give {what}"));
        }
        field
    }

    /// What `read` makes of `key`, or `default` where the key is absent. `None` is a value that was reported.
    pub(super) fn or<T>(&self, key: &'static str, default: T, read: impl FnOnce(&Field<'a>) -> Option<T>) -> Option<T> {
        self.field(key).map_or(Some(default), |field| read(&field))
    }

    /// What `read` makes of `key`, where it is present. The outer `None` is a value that was reported.
    pub(super) fn maybe<T>(&self, key: &'static str, read: impl FnOnce(&Field<'a>) -> Option<T>) -> Option<Option<T>> {
        self.field(key).map_or(Some(None), |field| read(&field).map(Some))
    }

    /// Reports something about the table as a whole.
    pub(super) fn refuse<T>(&self, message: impl Into<String>) -> Option<T> {
        self.reader.report.add(&self.at, message);
        None
    }

    /// Reports something about a key, which need not be there.
    pub(super) fn refuse_below<T>(&self, key: &str, message: impl Into<String>) -> Option<T> {
        let entry = self.entries.iter().find(|entry| *entry.key == *key);
        let place = entry.map_or_else(|| self.at.place.clone(), |entry| self.reader.place(&entry.place));
        self.reader.report.add(&self.at.below(place, key), message);
        None
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        let known = self.known.into_inner();
        for entry in self.entries.iter().filter(|entry| !known.contains(&&*entry.key)) {
            let at = self.at.below(self.reader.place(&entry.place), &entry.key);
            let hint = suggest::hint(&entry.key, known.iter().copied());
            let hint = if hint.is_empty() { format!("; the keys here are {}", known.join(", ")) } else { hint };
            self.reader.report.add(&at, format!("unknown key{hint}"));
        }
    }

    fn below(&self, entry: &'a Entry) -> Field<'a> {
        let place = self.reader.place(&entry.value.place_or(&entry.place));
        Field { reader: self.reader, at: self.at.below(place, &entry.key), node: &entry.value }
    }
}

impl<'a> Field<'a> {
    /// Reports that the value cannot be used.
    pub(super) fn refuse<T>(&self, message: impl Into<String>) -> Option<T> {
        self.reader.report.add(&self.at, message);
        None
    }

    /// Reports something about a key that this table should have.
    pub(super) fn refuse_below<T>(&self, key: &str, message: impl Into<String>) -> Option<T> {
        self.reader.report.add(&self.at.below(self.at.place.clone(), key), message);
        None
    }

    pub(super) fn table(&self) -> Option<Table<'a>> {
        let entries = self.entries_raw("a table of keys")?;
        Some(Table { reader: self.reader, at: self.at.clone(), entries, known: RefCell::default() })
    }

    /// Keys and values of a table whose keys are the user's.
    pub(super) fn entries(&self, what: &str) -> Option<Vec<(&'a str, Field<'a>)>> {
        let entries = self.entries_raw(what)?;
        let below = |entry: &'a Entry| {
            let at = self.at.below(self.reader.place(&entry.value.place_or(&entry.place)), &entry.key);
            (&*entry.key, Field { reader: self.reader, at, node: &entry.value })
        };
        Some(entries.iter().map(below).collect())
    }

    pub(super) fn list(&self, what: &str) -> Option<Vec<Field<'a>>> {
        let Value::List(items) = &self.node.value else { return self.wrong_type(&format!("a list of {what}")) };
        let item = |(index, node): (usize, &'a Node)| Field {
            reader: self.reader,
            at: At { place: self.reader.place(&node.place), key: format!("{}[{index}]", self.at.key) },
            node,
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// A scalar as it was written.
    pub(super) fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { .. } if self.node.is_null() => {
                self.refuse("has no value; give one or remove the key (an empty text is written \"\")")
            }
            Value::Scalar { text, .. } => Some(text),
            Value::List(_) | Value::Table(_) => self.wrong_type("a text"),
        }
    }

    pub(super) fn bool(&self) -> Option<bool> {
        match self.plain("true or false")? {
            "true" => Some(true),
            "false" => Some(false),
            _ => self.wrong_type("true or false"),
        }
    }

    pub(super) fn number(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let what = format!("a whole number from {} to {}", range.start(), range.end());
        let number = self.plain(&what)?.parse().ok().filter(|number| range.contains(number));
        number.or_else(|| self.wrong_type(&what))
    }

    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let (from, to) = (units::show_duration(*range.start()), units::show_duration(*range.end()));
        let found = units::duration(self.text()?).filter(|duration| range.contains(duration));
        found.or_else(|| self.wrong_type(&format!("a duration from {from} to {to} with its unit (ms, s, m or h)")))
    }

    pub(super) fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let (from, to) = (units::show_size(*range.start()), units::show_size(*range.end()));
        let found = units::size(self.text()?).filter(|size| range.contains(size));
        found.or_else(|| self.wrong_type(&format!("a size from {from} to {to}, in bytes or with KiB, MiB or GiB")))
    }

    /// A text that is one of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let known = || words.iter().map(|(word, _)| *word);
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.or_else(|| {
            let list = known().collect::<Vec<_>>().join(", ");
            self.refuse(format!("expected one of {list}; found {text:?}{}", suggest::hint(text, known())))
        })
    }

    /// A text that a type checks itself.
    pub(super) fn parse<T: FromStr<Err: Display>>(&self) -> Option<T> {
        let text = self.text()?;
        text.parse().map_or_else(|error: T::Err| self.refuse(error.to_string()), Some)
    }

    fn entries_raw(&self, what: &str) -> Option<&'a [Entry]> {
        match &self.node.value {
            Value::Table(entries) => Some(entries),
            _ => self.wrong_type(what),
        }
    }

    fn plain(&self, what: &str) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { is_plain: false, .. } => self.wrong_type(what),
            _ => self.text(),
        }
    }

    fn wrong_type<T>(&self, expected: &str) -> Option<T> {
        let found = match &self.node.value {
            Value::List(_) => "a list".to_owned(),
            Value::Table(_) => "a table".to_owned(),
            Value::Scalar { .. } if self.node.is_null() => "nothing".to_owned(),
            Value::Scalar { text, is_plain: true } => format!("`{text}`"),
            Value::Scalar { text, is_plain: false } => format!("the quoted text {text:?}"),
        };
        self.refuse(format!("expected {expected}; found {found}"))
    }
}

impl Node {
    /// Where an error about this value is looked for: a collection may begin lines below its key.
    fn place_or(&self, key: &Place) -> Place {
        match &self.value {
            Value::Scalar { .. } if !self.is_null() => self.place.clone(),
            _ => key.clone(),
        }
    }
}
