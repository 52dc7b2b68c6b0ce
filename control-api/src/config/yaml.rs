//! YAML (and so JSON) text becomes trees that remember their lines, one a document, and trees become plain values.
//!
//! Bounded: nesting is limited, an alias shares its anchor's tree, and what aliases expand to has a budget, so a small
//! text cannot become a large value. A syntax error costs its own document only.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::ops::ControlFlow;
use std::rc::Rc;

use granit_parser::{Event, Options, Parser, ScalarStyle, Span, Tag};
use serde_json::{Map, Value};

use super::scalar;

/// Nested mappings and sequences, those behind aliases included.
const DEEPEST: usize = 100;
/// Nodes and scalar bytes that the aliases of one document may expand to.
const EXPANDED_NODES: usize = 100_000;
const EXPANDED_BYTES: usize = 4 << 20;
/// Nodes of one document: some hundred megabytes of memory.
const MOST_NODES: usize = 1_000_000;
/// After this many faults a text is not worth reading on.
const MOST_FAULTS: usize = 100;

/// One document of a text.
pub(super) struct Tree {
    /// Of its first node.
    pub line: u32,
    /// `None`: not readable as YAML, see `faults`.
    pub root: Option<Rc<Node>>,
    pub faults: Vec<Fault>,
}

/// What is wrong with the text itself.
pub(super) struct Fault {
    pub line: u32,
    pub reason: String,
}

pub(super) struct Node {
    line: u32,
    depth: usize,
    content: Content,
}

enum Content {
    Scalar(Value),
    /// A number or a truth value, with how it is written.
    Plain(Value, Box<str>),
    Sequence(Vec<Rc<Node>>),
    Mapping(Vec<Entry>),
    Alias(Rc<Node>),
}

struct Entry {
    key: String,
    line: u32,
    value: Rc<Node>,
    /// `<<`: the entries of the value stand here unless they are written out.
    merge: bool,
}

/// One step on the way from a document's root to a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// Hands on the documents of `text` one by one, empty ones left out, until `take` breaks.
pub(super) fn each_tree(text: &str, mut take: impl FnMut(Tree) -> ControlFlow<()>) {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = DEEPEST;
    options.block_nesting_limit = DEEPEST;
    options.simple_key_max_lookahead = 4096;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder::default();
    let mut faults = 0;
    while let Some(event) = parser.next_event() {
        let fault = match event {
            Ok((event, span)) => builder.take(event, span).err(),
            Err(error) => Some(Fault {
                line: line_number(error.marker().line()),
                reason: format!("not YAML: {}", error.info()),
            }),
        };
        let mut ended = false;
        if let Some(fault) = fault {
            builder.abandon(fault);
            faults += 1;
            ended = faults == MOST_FAULTS || !matches!(parser.proceed_next_document(), Ok(true));
        }
        if builder.tree.take().is_some_and(|tree| take(tree).is_break()) || ended {
            return;
        }
    }
}

fn line_number(line: usize) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

/// A collection that is still open.
enum Frame {
    Sequence {
        line: u32,
        anchor: usize,
        items: Vec<Rc<Node>>,
    },
    Mapping {
        line: u32,
        anchor: usize,
        entries: Vec<Entry>,
        key: Option<(String, u32, bool)>,
    },
}

#[derive(Default)]
struct Builder {
    /// Finished and not handed on yet.
    tree: Option<Tree>,
    /// Of the document under way.
    nodes: usize,
    open: Vec<Frame>,
    anchors: HashMap<usize, Rc<Node>>,
    faults: Vec<Fault>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let line = line_number(span.start.line());
        let refused = |reason: String| Fault { line, reason };
        match event {
            Event::Scalar(text, style, anchor, tag) => self.scalar(text, style, anchor, tag.as_deref(), line),
            Event::SequenceStart(_, anchor, tag) => {
                scalar::check_collection_tag(tag.as_deref(), "seq").map_err(refused)?;
                self.open(Frame::Sequence {
                    line,
                    anchor,
                    items: Vec::new(),
                })
            }
            Event::MappingStart(_, anchor, tag) => {
                scalar::check_collection_tag(tag.as_deref(), "map").map_err(refused)?;
                self.open(Frame::Mapping {
                    line,
                    anchor,
                    entries: Vec::new(),
                    key: None,
                })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => {
                let Some(target) = self.anchors.get(&id).cloned() else {
                    return Err(refused("an alias inside its own anchor".to_owned()));
                };
                let depth = target.depth;
                self.place(
                    Node {
                        line,
                        depth,
                        content: Content::Alias(target),
                    },
                    0,
                )
            }
            Event::DocumentStart(..) => {
                self.nodes = 0;
                self.anchors.clear();
                self.open.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        text: Cow<'_, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        line: u32,
    ) -> Result<(), Fault> {
        if let Some(Frame::Mapping { key: key @ None, .. }) = self.open.last_mut() {
            let merge = text == "<<" && style == ScalarStyle::Plain && tag.is_none();
            *key = Some((text.clone().into_owned(), line, merge));
            if anchor != 0 {
                let value = Value::String(text.into_owned());
                self.anchors.insert(
                    anchor,
                    Rc::new(Node {
                        line,
                        depth: 1,
                        content: Content::Scalar(value),
                    }),
                );
            }
            return Ok(());
        }
        let written = text.clone();
        let value = scalar::resolve(text, style, tag).map_err(|reason| Fault { line, reason })?;
        let content = if value.is_number() || value.is_boolean() {
            Content::Plain(value, written.into())
        } else {
            Content::Scalar(value)
        };
        self.place(
            Node {
                line,
                depth: 1,
                content,
            },
            anchor,
        )
    }

    fn open(&mut self, frame: Frame) -> Result<(), Fault> {
        if let Some(Frame::Mapping { key: None, .. }) = self.open.last() {
            let (Frame::Sequence { line, .. } | Frame::Mapping { line, .. }) = frame;
            return Err(Fault {
                line,
                reason: "a key must be text".to_owned(),
            });
        }
        self.open.push(frame);
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        let (line, anchor, content, below) = match self.open.pop() {
            Some(Frame::Sequence { line, anchor, items }) => {
                let below = items.iter().map(|item| item.depth).max();
                (line, anchor, Content::Sequence(items), below)
            }
            Some(Frame::Mapping {
                line, anchor, entries, ..
            }) => {
                self.find_duplicates(&entries);
                let below = entries.iter().map(|entry| entry.value.depth).max();
                match address_with_colons(&entries) {
                    Some(address) => (line, anchor, Content::Scalar(Value::String(address)), None),
                    None => (line, anchor, Content::Mapping(entries), below),
                }
            }
            None => return Ok(()),
        };
        self.place(
            Node {
                line,
                depth: 1 + below.unwrap_or(0),
                content,
            },
            anchor,
        )
    }

    fn find_duplicates(&mut self, entries: &[Entry]) {
        let mut seen = HashMap::with_capacity(entries.len());
        for Entry { key, line, .. } in entries {
            if self.faults.len() >= MOST_FAULTS {
                return;
            }
            if let Some(first) = seen.insert(key.as_str(), line) {
                let key = scalar::shown(key);
                let reason = format!("the key {key} is there already, on line {first}");
                self.faults.push(Fault { line: *line, reason });
            }
        }
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if node.depth > DEEPEST {
            return Err(Fault {
                line: node.line,
                reason: format!("nested more than {DEEPEST} deep"),
            });
        }
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return Err(Fault {
                line: node.line,
                reason: format!("a document of more than {MOST_NODES} values: split it"),
            });
        }
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        match self.open.last_mut() {
            None => {
                let faults = std::mem::take(&mut self.faults);
                let empty = matches!(node.content, Content::Scalar(Value::Null));
                if !empty || !faults.is_empty() {
                    self.tree = Some(Tree {
                        line: node.line,
                        root: Some(node),
                        faults,
                    });
                }
            }
            Some(Frame::Sequence { items, .. }) => items.push(node),
            Some(Frame::Mapping { entries, key, .. }) => match key.take() {
                Some((key, line, merge)) => entries.push(Entry {
                    key,
                    line,
                    value: node,
                    merge,
                }),
                // An alias as a key.
                None => match &node.target().content {
                    Content::Scalar(Value::String(text)) => *key = Some((text.clone(), node.line, false)),
                    _ => {
                        return Err(Fault {
                            line: node.line,
                            reason: "a key must be text".to_owned(),
                        });
                    }
                },
            },
        }
        Ok(())
    }

    /// Gives up the document under way.
    fn abandon(&mut self, fault: Fault) {
        self.open.clear();
        self.anchors.clear();
        let line = fault.line;
        let mut faults = std::mem::take(&mut self.faults);
        faults.push(fault);
        self.tree = Some(Tree {
            line,
            root: None,
            faults,
        });
    }
}

/// `[2001:db8::]` and `- 2001:db8::` are mappings to YAML, and addresses to whoever writes them.
fn address_with_colons(entries: &[Entry]) -> Option<String> {
    let [entry] = entries else { return None };
    let is_empty = matches!(entry.value.content, Content::Scalar(Value::Null));
    let address = format!("{}:", entry.key);
    (is_empty && !entry.merge && address.parse::<Ipv6Addr>().is_ok()).then_some(address)
}

/// What is left of the budget for aliases.
struct Budget {
    nodes: usize,
    bytes: usize,
}

impl Budget {
    fn spend(&mut self, bytes: usize) -> Option<()> {
        self.nodes = self.nodes.checked_sub(1)?;
        self.bytes = self.bytes.checked_sub(bytes)?;
        Some(())
    }
}

impl Node {
    /// Without line numbers, aliases and merges; refused when the aliases expand to too much.
    pub(super) fn to_value(&self) -> Result<Value, Fault> {
        let mut budget = Budget {
            nodes: EXPANDED_NODES,
            bytes: EXPANDED_BYTES,
        };
        self.expand(&mut budget, false).ok_or_else(|| Fault {
            line: self.line,
            reason: "its aliases expand to too much".to_owned(),
        })
    }

    fn expand(&self, budget: &mut Budget, aliased: bool) -> Option<Value> {
        if aliased {
            budget.spend(if let Content::Scalar(Value::String(text)) = &self.content {
                text.len()
            } else {
                0
            })?;
        }
        match &self.content {
            Content::Scalar(value) | Content::Plain(value, _) => Some(value.clone()),
            Content::Alias(target) => target.expand(budget, true),
            Content::Sequence(items) => items
                .iter()
                .map(|item| item.expand(budget, aliased))
                .collect::<Option<_>>()
                .map(Value::Array),
            Content::Mapping(entries) => {
                let mut map = Map::new();
                for entry in entries.iter().filter(|entry| !entry.merge) {
                    if aliased {
                        budget.spend(entry.key.len())?;
                    }
                    map.insert(entry.key.clone(), entry.value.expand(budget, aliased)?);
                }
                for entry in entries.iter().filter(|entry| entry.merge) {
                    entry.value.merge_into(&mut map, budget)?;
                }
                Some(Value::Object(map))
            }
        }
    }

    /// `<<: *anchor` or `<<: [*one, *other]`: keys that are there already stay.
    fn merge_into(&self, map: &mut Map<String, Value>, budget: &mut Budget) -> Option<()> {
        match self.expand(budget, true)? {
            Value::Object(merged) => merged.into_iter().for_each(|(key, value)| {
                map.entry(key).or_insert(value);
            }),
            Value::Array(several) => {
                let mappings = several.into_iter().filter_map(|item| match item {
                    Value::Object(merged) => Some(merged),
                    _ => None,
                });
                mappings.flatten().for_each(|(key, value)| {
                    map.entry(key).or_insert(value);
                });
            }
            // Shown as an unknown field.
            other => {
                map.insert("<<".to_owned(), other);
            }
        }
        Some(())
    }

    fn target(&self) -> &Node {
        match &self.content {
            Content::Alias(target) => target.target(),
            _ => self,
        }
    }

    /// Line of the field at the end of `path`; where there is none, of the last step that there is.
    pub(super) fn line_of(&self, path: &[Step]) -> u32 {
        self.find(path).0
    }

    /// How the number or the truth value at the end of `path` is written.
    pub(super) fn written(&self, path: &[Step]) -> Option<&str> {
        match &self.find(path).1?.target().content {
            Content::Plain(_, written) => Some(written),
            _ => None,
        }
    }

    /// The line, and the node itself where there is one.
    fn find(&self, path: &[Step]) -> (u32, Option<&Node>) {
        let mut node = self;
        let mut line = self.line;
        for step in path {
            let found = match (&node.target().content, step) {
                (Content::Sequence(items), Step::Index(index)) => items.get(*index).map(|item| (item, item.line)),
                (Content::Mapping(_), Step::Key(key)) => {
                    node.entry(key, DEEPEST).map(|entry| (&entry.value, entry.line))
                }
                _ => None,
            };
            let Some((next, at)) = found else { return (line, None) };
            line = at;
            node = next;
        }
        (line, Some(node))
    }

    fn entry(&self, key: &str, merges_left: usize) -> Option<&Entry> {
        let Content::Mapping(entries) = &self.target().content else {
            return None;
        };
        entries
            .iter()
            .find(|entry| !entry.merge && entry.key == key)
            .or_else(|| {
                let left = merges_left.checked_sub(1)?;
                entries
                    .iter()
                    .filter(|entry| entry.merge)
                    .find_map(|entry| match &entry.value.target().content {
                        Content::Sequence(several) => {
                            several.iter().take(DEEPEST).find_map(|item| item.entry(key, left))
                        }
                        _ => entry.value.entry(key, left),
                    })
            })
    }
}

#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;
