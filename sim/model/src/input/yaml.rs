//! A YAML document as a tree in which every key and value has its place.
//!
//! The parser is `saphyr-parser`. The loaders built on it silently keep the last of two equal keys;
//! this tree reports a repeated key as an error.

use deserr::{IntoValue, Map, Value, ValueKind};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span as ParserSpan};

use super::place::{Place, Text};
use super::problem::{AtPath, Problem, Step};

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// None for what an option added, and for a value that is left out.
    place: Option<Place>,
    /// The option (`--set …`) or field path that it came from; none for what the file has.
    origin: Option<String>,
    data: Data,
}

#[derive(Clone, Debug)]
enum Data {
    Null,
    Boolean(bool),
    Integer(u64),
    Negative(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Mapping(Mapping),
}

/// A mapping's entries in their order: key, the key's place, value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mapping(Vec<(String, Option<Place>, Node)>);

impl Node {
    /// Reads a document; syntax errors and repeated keys are problems of `source`.
    pub(crate) fn parse(text: &str, source: &str) -> Result<Self, Vec<Problem>> {
        let text = Text::new(text);
        let mut events = Parser::new_from_str(text.as_str());
        let mut builder = Builder { text, source, problems: Vec::new() };
        let mut root = None;
        loop {
            match events.next() {
                None => break,
                Some(Err(error)) => {
                    builder.not_yaml(&error);
                    break;
                }
                Some(Ok((Event::DocumentStart(_), span))) if root.is_some() => {
                    let help = Some("keep one document a file".to_owned());
                    let place = builder.text.place_of_characters(characters(span));
                    builder.problem(place, "a second document begins".into(), help);
                    break;
                }
                Some(Ok((event, span))) => match builder.node(event, span, &mut events) {
                    Ok(Some(node)) => root = root.or(Some(node)),
                    Ok(None) => {}
                    Err(()) => break,
                },
            }
        }
        match root {
            Some(root) if builder.problems.is_empty() => Ok(root),
            _ => {
                if builder.problems.is_empty() {
                    builder.problem(builder.text.place(0..0), "the file is empty".into(), None);
                }
                Err(builder.problems)
            }
        }
    }

    /// The tree of a value that was made in the program; each node's origin is the path of its field.
    pub(crate) fn of_fields(value: &serde_json::Value, path: &str) -> Self {
        use serde_json::Value as Json;
        let data = match value {
            Json::Null => Data::Null,
            Json::Bool(b) => Data::Boolean(*b),
            Json::Number(n) => match (n.as_u64(), n.as_i64(), n.as_f64()) {
                (Some(n), ..) => Data::Integer(n),
                (_, Some(n), _) => Data::Negative(n),
                (.., n) => n.map_or(Data::Null, Data::Float),
            },
            Json::String(text) => Data::Text(text.clone()),
            Json::Array(items) => {
                let items = items.iter().enumerate();
                Data::List(items.map(|(n, item)| Self::of_fields(item, &below(path, &n))).collect())
            }
            Json::Object(fields) => {
                let entry = |(name, value): (&String, &Json)| {
                    (name.clone(), None, Self::of_fields(value, &below(path, name)))
                };
                Data::Mapping(Mapping(fields.iter().map(entry).collect()))
            }
        };
        let origin = (!path.is_empty()).then(|| path.to_owned());
        Self { place: None, origin, data }
    }

    /// Makes a mapping of a shorthand: `controller: direct` means `controller: {admission: direct}`.
    pub(crate) fn expand(&mut self, field: &str, into: &str) {
        let Data::Mapping(Mapping(entries)) = &mut self.data else {
            return;
        };
        for (.., value) in entries.iter_mut().filter(|(key, ..)| key == field) {
            if matches!(value.data, Data::Text(_)) {
                let (place, word) = (value.place, value.clone());
                let mapping = Mapping(vec![(into.to_owned(), place, word)]);
                *value = Self { place, origin: None, data: Data::Mapping(mapping) };
            }
        }
    }

    /// Replaces or adds the value at a dotted path (`controller.concurrency`, `alerts.0.flood`).
    pub(crate) fn set(
        &mut self,
        path: &str,
        value: &str,
        origin: &str,
    ) -> Result<(), Vec<Problem>> {
        let mut new = Self::parse(value, origin)?;
        new.originate(origin);
        let wrong = |message: String| {
            let source = origin.to_owned();
            vec![Problem { source, place: None, message, help: None }]
        };
        let mut at = self;
        for step in path.split('.') {
            if matches!(at.data, Data::Null) {
                at.data = Data::Mapping(Mapping::default());
            }
            at = match &mut at.data {
                Data::List(items) => {
                    let n = items.len();
                    let index = step.parse::<usize>().ok();
                    index.and_then(|i| items.get_mut(i)).ok_or_else(|| {
                        wrong(format!("`{step}` in `{path}`: expected an index below {n}"))
                    })?
                }
                Data::Mapping(Mapping(entries)) => {
                    let known = entries.iter().position(|(key, ..)| key == step);
                    let index = known.unwrap_or_else(|| {
                        let blank =
                            Self { place: None, origin: Some(origin.to_owned()), data: Data::Null };
                        entries.push((step.to_owned(), None, blank));
                        entries.len() - 1
                    });
                    &mut entries[index].2
                }
                // A shorthand (`controller: direct`) gives way to the mapping that is asked for.
                _ => {
                    let message = format!("`{path}` goes into a plain value; set that as a whole");
                    return Err(wrong(message));
                }
            };
        }
        *at = new;
        Ok(())
    }

    /// Removes the value at a path. Returns the path below which the tree differs from the file. An
    /// item is removed with its whole list, since removing it alone would renumber those after it.
    pub(crate) fn leave_out(&mut self, path: &[Step]) -> Vec<Step> {
        let Some((first, rest)) = path.split_first() else {
            return Vec::new();
        };
        let mut out = vec![first.clone()];
        match (&mut self.data, first) {
            (Data::List(items), Step::Index(index)) => match items.get_mut(*index) {
                Some(item) if !rest.is_empty() => out.extend(item.leave_out(rest)),
                _ => {
                    items.clear();
                    out.clear();
                }
            },
            (Data::Mapping(Mapping(entries)), Step::Key(key)) => {
                match entries.iter().position(|(name, ..)| name == key) {
                    Some(at) if !rest.is_empty() => out.extend(entries[at].2.leave_out(rest)),
                    Some(at) => drop(entries.remove(at)),
                    None => {}
                }
            }
            _ => {}
        }
        out
    }

    fn originate(&mut self, origin: &str) {
        self.origin = Some(origin.to_owned());
        match &mut self.data {
            Data::List(items) => items.iter_mut().for_each(|item| item.originate(origin)),
            Data::Mapping(Mapping(entries)) => {
                entries.iter_mut().for_each(|(.., item)| item.originate(origin));
            }
            _ => {}
        }
    }

    /// The problem with the place of its path, or of the deepest part of its path that exists.
    pub(crate) fn locate(&self, source: &str, problem: AtPath) -> Problem {
        let mut at = self;
        let mut place = self.place;
        let last = problem.path.len().saturating_sub(1);
        let mut whole = problem.path.is_empty();
        for (i, step) in problem.path.iter().enumerate() {
            let next = match (&at.data, step) {
                (Data::List(items), Step::Index(i)) => items.get(*i).map(|n| (n.place, n)),
                (Data::Mapping(Mapping(entries)), Step::Key(key)) => {
                    entries.iter().find(|(name, ..)| name == key).map(|(_, key_place, n)| {
                        let own = if i == last && problem.key { None } else { n.place };
                        (own.or(*key_place), n)
                    })
                }
                _ => None,
            };
            let Some((found, node)) = next else { break };
            (place, at) = (found, node);
            whole = false;
        }
        let source = at.origin.clone().unwrap_or_else(|| source.to_owned());
        // A field that is missing from the whole file has no place but the file's first.
        let place = match whole {
            true => place.map(|place| Place { end: place.start, ..place }),
            false => place,
        };
        let place = place.filter(|_| at.origin.is_none());
        Problem { source, place, message: problem.message, help: problem.help }
    }
}

struct Builder<'a> {
    text: Text<'a>,
    source: &'a str,
    problems: Vec<Problem>,
}

type Events<'a> = Parser<'a, saphyr_parser::StrInput<'a>>;

impl<'a> Builder<'a> {
    fn problem(&mut self, place: Place, message: String, help: Option<String>) {
        let source = self.source.to_owned();
        self.problems.push(Problem { source, place: Some(place), message, help });
    }

    fn not_yaml(&mut self, error: &ScanError) {
        let at = error.marker().index();
        let place = self.text.place_of_characters(at..at);
        self.problem(place, format!("not YAML: {}", error.info()), None);
    }

    /// The node that starts with `event`. `Err` after a syntax error, which is in `problems` then.
    fn node(
        &mut self,
        event: Event<'a>,
        span: ParserSpan,
        events: &mut Events<'a>,
    ) -> Result<Option<Node>, ()> {
        let mut place = self.text.place_of_characters(characters(span));
        let data = match event {
            Event::Scalar(text, style, ..) => scalar(&text, style),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                while let Some(item) = self.next(events)? {
                    items.push(item);
                }
                Data::List(items)
            }
            Event::MappingStart(..) => Data::Mapping(self.mapping(events, &mut place)?),
            Event::Alias(_) => {
                let help = Some("write the value out".to_owned());
                self.problem(place, "anchors and aliases are not supported".into(), help);
                Data::Null
            }
            _ => return Ok(None),
        };
        // The parser counts lines from 1 and gives line 0 to a value that is missing.
        let place = (span.start.line() > 0).then_some(place);
        Ok(Some(Node { place, origin: None, data }))
    }

    fn next(&mut self, events: &mut Events<'a>) -> Result<Option<Node>, ()> {
        match events.next() {
            Some(Ok((event, span))) => self.node(event, span, events),
            Some(Err(error)) => {
                self.not_yaml(&error);
                Err(())
            }
            None => Ok(None),
        }
    }

    fn mapping(&mut self, events: &mut Events<'a>, place: &mut Place) -> Result<Mapping, ()> {
        let mut entries: Vec<(String, Option<Place>, Node)> = Vec::new();
        while let Some(key) = self.next(events)? {
            let at = key.place.unwrap_or(*place);
            let name = match &key.data {
                Data::Text(name) => name.clone(),
                Data::Integer(n) => n.to_string(),
                Data::Boolean(b) => b.to_string(),
                Data::Float(n) => n.to_string(),
                _ => {
                    self.problem(at, "expected a field's name".into(), None);
                    String::new()
                }
            };
            let Some(value) = self.next(events)? else {
                break;
            };
            if let Some((_, first, _)) = entries.iter().find(|(known, ..)| *known == name) {
                let line = first.unwrap_or(*place).line;
                let message = format!("the field `{name}` is written twice, first in line {line}");
                self.problem(at, message, Some("keep one of them".to_owned()));
            }
            if entries.is_empty() {
                *place = at;
            }
            entries.push((name, key.place, value));
        }
        Ok(Mapping(entries))
    }
}

/// The path of a step below `path`; the document itself has an empty one.
fn below(path: &str, step: &dyn std::fmt::Display) -> String {
    if path.is_empty() { step.to_string() } else { format!("{path}.{step}") }
}

/// What an event of the parser covers, in characters of the text.
fn characters(span: ParserSpan) -> std::ops::Range<usize> {
    span.start.index()..span.end.index()
}

/// YAML 1.2's core schema.
fn scalar(text: &str, style: ScalarStyle) -> Data {
    if style != ScalarStyle::Plain {
        return Data::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" => Data::Null,
        "true" => Data::Boolean(true),
        "false" => Data::Boolean(false),
        _ => {
            let digits = text.trim_start_matches(['-', '+']);
            let float = || text.parse::<f64>().ok().filter(|n| n.is_finite()).map(Data::Float);
            if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
                return Data::Text(text.to_owned());
            }
            let whole = text.parse().map(Data::Integer).ok();
            whole
                .or_else(|| text.parse().map(Data::Negative).ok())
                .or_else(float)
                .unwrap_or_else(|| Data::Text(text.to_owned()))
        }
    }
}

impl IntoValue for Node {
    type Sequence = Vec<Self>;
    type Map = Mapping;

    fn kind(&self) -> ValueKind {
        match self.data {
            Data::Null => ValueKind::Null,
            Data::Boolean(_) => ValueKind::Boolean,
            Data::Integer(_) => ValueKind::Integer,
            Data::Negative(_) => ValueKind::NegativeInteger,
            Data::Float(_) => ValueKind::Float,
            Data::Text(_) => ValueKind::String,
            Data::List(_) => ValueKind::Sequence,
            Data::Mapping(_) => ValueKind::Map,
        }
    }

    fn into_value(self) -> Value<Self> {
        match self.data {
            Data::Null => Value::Null,
            Data::Boolean(b) => Value::Boolean(b),
            Data::Integer(n) => Value::Integer(n),
            Data::Negative(n) => Value::NegativeInteger(n),
            Data::Float(n) => Value::Float(n),
            Data::Text(s) => Value::String(s),
            Data::List(items) => Value::Sequence(items),
            Data::Mapping(mapping) => Value::Map(mapping),
        }
    }
}

impl Map for Mapping {
    type Value = Node;
    type Iter = std::vec::IntoIter<(String, Node)>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn remove(&mut self, key: &str) -> Option<Node> {
        let index = self.0.iter().position(|(name, ..)| name == key)?;
        Some(self.0.remove(index).2)
    }

    fn into_iter(self) -> Self::Iter {
        self.0.into_iter().map(|(key, _, node)| (key, node)).collect::<Vec<_>>().into_iter()
    }
}
