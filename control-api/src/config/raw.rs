//! Documents of any kind, as they stand, for whoever passes on what is not ours. Called by `tsunagi inject`.

use std::ops::ControlFlow;
use std::rc::Rc;

use serde_json::Value;

use super::Problem;
use super::yaml::{self, Node, Step};

/// One document with the lines of its fields.
pub struct Raw {
    pub value: Value,
    /// Of its first node.
    pub line: u32,
    root: Rc<Node>,
}

impl Raw {
    /// Of a field written as in a problem (`spec.containers[0].name`, `metadata.annotations[a.b/c]`), or of the last step
    /// on the way to it that there is.
    pub fn line_of(&self, field: &str) -> u32 {
        self.root.line_of(&steps(field))
    }
}

fn steps(mut field: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    while !field.is_empty() {
        if let Some(rest) = field.strip_prefix('[') {
            let (inner, rest) = rest.split_once(']').unwrap_or((rest, ""));
            steps.push(inner.parse().map_or_else(|_| Step::Key(inner.to_owned()), Step::Index));
            field = rest;
        } else {
            let end = field.find(['.', '[']).unwrap_or(field.len());
            if end > 0 {
                steps.push(Step::Key(field[..end].to_owned()));
            }
            field = field[end..].strip_prefix('.').unwrap_or(&field[end..]);
        }
    }
    steps
}

/// All documents of `text` in their order, or what is no YAML.
pub fn parse_raw(file: &str, text: &str) -> Result<Vec<Raw>, Vec<Problem>> {
    let (mut documents, mut problems) = (Vec::new(), Vec::new());
    yaml::each_tree(text, |tree| {
        let mut faults = tree.faults;
        if let Some(root) = tree.root {
            match root.to_value() {
                Ok(value) => documents.push(Raw {
                    value,
                    line: tree.line,
                    root,
                }),
                Err(fault) => faults.push(fault),
            }
        }
        problems.extend(faults.into_iter().map(|fault| Problem {
            file: file.to_owned(),
            line: fault.line,
            reason: fault.reason,
            ..Problem::default()
        }));
        ControlFlow::Continue(())
    });
    if problems.is_empty() {
        Ok(documents)
    } else {
        Err(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_the_path_that_a_problem_shows() {
        let text = "a: 1\n---\nmetadata:\n  annotations:\n    x.y/z: 1\nspec:\n  list:\n  - name: a\n  - name: b\n";
        let documents = parse_raw("f", text).expect("YAML");
        assert_eq!((documents.len(), documents[1].line), (2, 3));
        for (field, line) in [
            ("metadata.annotations[x.y/z]", 5),
            ("metadata.annotations[x.y/z].deeper", 5),
            ("spec.list[1].name", 9),
            ("spec.gone", 6),
            ("", 3),
        ] {
            assert_eq!(documents[1].line_of(field), line, "{field}");
        }
        let problems = parse_raw("f", "a: [").map(drop).expect_err("no YAML");
        assert_eq!((problems[0].file.as_str(), problems[0].line), ("f", 1));
    }
}
