//! Values of header operations: text with Envoy's formatters (`%REQ(x-a)%`), parsed when a rule is checked.
//!
//! The control plane admits with `HeaderTemplate::parse`, the very code that a proxy would refuse with.

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTemplate {
    pub parts: Vec<TemplatePart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    Literal(String),
}

impl HeaderTemplate {
    /// `%%` is a percent sign. The error says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.replace("%%", "").contains('%') {
            return Err("`%` begins a formatter that is not known; write `%%` for a percent sign".to_owned());
        }
        let literal = text.replace("%%", "%");
        Ok(Self {
            parts: vec![TemplatePart::Literal(literal)],
        })
    }
}
