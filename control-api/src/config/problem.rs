//! One thing that is wrong with a document: where it is and what to do about it.

use std::fmt;

/// Shown as `FILE:LINE: Kind/name: field.path: what is wrong`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Empty: the document did not come from a file.
    pub file: String,
    /// From 1; 0: not known.
    pub line: u32,
    /// As written; empty where the document does not get that far.
    pub kind: String,
    pub name: String,
    /// Path from the document's root, as in `spec.http[0].route`; empty: the document as a whole.
    pub field: String,
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.as_str(), self.line) {
            ("", _) => {}
            (file, 0) => write!(f, "{file}: ")?,
            (file, line) => write!(f, "{file}:{line}: ")?,
        }
        match (self.kind.as_str(), self.name.as_str()) {
            ("", "") => {}
            ("", name) => write!(f, "?/{name}: ")?,
            (kind, "") => write!(f, "{kind}/?: ")?,
            (kind, name) => write!(f, "{kind}/{name}: ")?,
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_that_an_editor_can_jump_to() {
        let mut problem = Problem {
            file: "a.yaml".into(),
            line: 7,
            kind: "VirtualService".into(),
            name: "user".into(),
            field: "spec.http[0].route".into(),
            reason: "is empty".into(),
        };
        assert_eq!(
            problem.to_string(),
            "a.yaml:7: VirtualService/user: spec.http[0].route: is empty"
        );
        problem.name.clear();
        problem.field.clear();
        assert_eq!(problem.to_string(), "a.yaml:7: VirtualService/?: is empty");
        assert_eq!(
            Problem {
                reason: "no".into(),
                ..Problem::default()
            }
            .to_string(),
            "no"
        );
    }
}
