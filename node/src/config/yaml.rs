//! YAML text → a tree that knows the line of every key and value.
//!
//! Deserializing straight into structs would stop at the first error and could not say which key was meant instead of an unknown one.
//! So the tree is built from serde-saphyr's parser events, and [`super::read`] takes values out of it. No schema is applied
//! here: `no` and `1e3` stay the text that was written.

use std::{collections::HashMap, rc::Rc};

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span};

/// Most values in one document, aliases included: far more than any pipeline has, and an end to aliases that multiply.
const NODES_MAX: usize = 100_000;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Scalar { text: Rc<str>, is_plain: bool },
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key of a table with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) key: Rc<str>,
    pub(super) value: Node,
}

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A line of the file that is read, from 1.
    Line(usize),
    /// An environment variable or a flag.
    Named(Rc<str>),
}

/// One document of a YAML stream.
#[derive(Debug)]
pub(super) struct Document<'t> {
    pub(super) root: Node,
    /// Its own part of the stream, from which the same document can be read again.
    pub(super) text: &'t str,
}

/// Text that is not YAML as it is understood here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) line: usize,
    pub(super) message: String,
}

/// Reads all documents of a stream; those that are empty are left out.
pub(super) fn parse(text: &str) -> Result<Vec<Document<'_>>, SyntaxError> {
    let mut options = Options::default();
    options.disallow_directives = true;
    options.emit_comments = false;
    let mut builder = Builder::default();
    let mut documents: Vec<(usize, Option<Node>)> = Vec::new();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| SyntaxError {
            line: error.marker().line(),
            message: format!("not YAML: {}", error.info()),
        })?;
        match event {
            Event::DocumentStart(..) => {
                let start =
                    if documents.is_empty() { 0 } else { span.byte_range().map_or(text.len(), |range| range.start) };
                builder = Builder::default();
                documents.push((start, None));
            }
            Event::DocumentEnd => {
                if let Some(document) = documents.last_mut() {
                    document.1 = builder.root.take();
                }
            }
            event => builder.take(event, &span)?,
        }
    }
    let ends: Vec<usize> = documents.iter().skip(1).map(|(start, _)| *start).chain([text.len()]).collect();
    let whole = documents.into_iter().zip(ends).filter_map(|((start, root), end)| Some((start, root?, end)));
    Ok(whole
        .filter(|(_, root, _)| !root.is_null())
        .map(|(start, root, end)| Document { root, text: text.get(start..end).unwrap_or_default() })
        .collect())
}

/// Puts events together; collections that are not yet complete wait on a stack.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

struct Open {
    node: Node,
    anchor: usize,
    key: Option<(Place, Rc<str>)>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), SyntaxError> {
        let line = span.start.line();
        let place = Place::Line(line);
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let value = Value::Scalar { text: text.into(), is_plain: style == ScalarStyle::Plain };
                self.put(Node { place, value }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open.push(Open { node: Node { place, value: Value::List(Vec::new()) }, anchor, key: None });
                Ok(())
            }
            Event::MappingStart(_, anchor, _) => {
                self.open.push(Open { node: Node { place, value: Value::Table(Vec::new()) }, anchor, key: None });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.put(open.node, open.anchor),
                None => Ok(()),
            },
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => {
                    self.nodes += node.count();
                    self.put(Node { place, ..node }, 0)
                }
                None => Err(SyntaxError { line, message: "an alias cannot stand inside what it repeats".to_owned() }),
            },
            _ => Ok(()),
        }
    }

    /// Puts a complete node where it belongs: into the collection that is open, or at the root.
    fn put(&mut self, node: Node, anchor: usize) -> Result<(), SyntaxError> {
        let Place::Line(line) = node.place else { return Ok(()) };
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(SyntaxError { line, message: format!("the document has more than {NODES_MAX} values") });
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.node.value {
            Value::List(items) => items.push(node),
            Value::Table(entries) => match open.key.take() {
                Some((place, key)) => entries.push(Entry { place, key, value: node }),
                None => {
                    let Value::Scalar { text, .. } = node.value else {
                        return Err(SyntaxError { line, message: "a key must be a text".to_owned() });
                    };
                    if entries.iter().any(|entry| entry.key == text) {
                        return Err(SyntaxError { line, message: format!("the key `{text}` appears twice; keep one") });
                    }
                    open.key = Some((node.place, text));
                }
            },
            Value::Scalar { .. } => {}
        }
        Ok(())
    }
}

impl Node {
    fn count(&self) -> usize {
        match &self.value {
            Value::Scalar { .. } => 1,
            Value::List(items) => 1 + items.iter().map(Self::count).sum::<usize>(),
            Value::Table(entries) => 1 + entries.iter().map(|entry| entry.value.count()).sum::<usize>(),
        }
    }

    /// Whether nothing was written, or what YAML writes for nothing.
    pub(super) fn is_null(&self) -> bool {
        let nothing = |text: &str| matches!(text, "" | "~" | "null" | "Null" | "NULL");
        matches!(&self.value, Value::Scalar { text, is_plain: true } if nothing(text))
    }

    /// A scalar that comes from outside a file.
    pub(super) fn named(place: &str, text: &str) -> Self {
        Self { place: Place::Named(place.into()), value: Value::Scalar { text: text.into(), is_plain: true } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_can_be_read_again_alone() -> Result<(), SyntaxError> {
        let text = "# first\na: 1\n---\n# second\nb: [x, y]\n---\n\n---\nc: {d: e}\n";
        let documents = parse(text)?;
        let texts: Vec<_> = documents.iter().map(|document| document.text).collect();
        assert_eq!(texts, ["# first\na: 1\n", "---\n# second\nb: [x, y]\n", "---\nc: {d: e}\n"]);
        for document in &documents {
            assert_eq!(parse(document.text)?.len(), 1, "{}", document.text);
        }
        Ok(())
    }

    #[test]
    fn bad_text_names_the_line() {
        let error = |text| parse(text).map(drop).map_err(|error| (error.line, error.message));
        assert_eq!(error("a: 1\nb: 2\na: 3\n"), Err((3, "the key `a` appears twice; keep one".to_owned())));
        assert_eq!(error("a: 1\n[b]: 2\n"), Err((2, "a key must be a text".to_owned())));
        assert_eq!(error("a: b\n c: [\n").map_err(|(line, _)| line), Err(2));
        assert_eq!(error("a: *b\n").map_err(|(line, _)| line), Err(1));
    }

    #[test]
    fn aliases_cannot_multiply_without_end() {
        let mut text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (from, to) in [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "f"), ("f", "g"), ("g", "h")] {
            text.push_str(&format!("{to}: &{to} [{}]\n", vec![format!("*{from}"); 10].join(", ")));
        }
        assert!(parse(&text).is_err_and(|error| error.message == "the document has more than 100000 values"));
    }
}
