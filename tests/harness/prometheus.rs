//! Prometheus' text format, read strictly enough to ask for one series. Called by tests that look at `/metrics`.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Debug, Default)]
pub struct Metrics {
    pub text: String,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
    kinds: BTreeMap<String, String>,
}

impl Metrics {
    pub fn parse(text: &str) -> Metrics {
        let mut metrics = Metrics {
            text: text.to_owned(),
            ..Metrics::default()
        };
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.split(' ');
                if let (Some("TYPE"), Some(name), Some(kind)) = (words.next(), words.next(), words.next()) {
                    metrics.kinds.insert(name.to_owned(), kind.to_owned());
                }
            } else {
                let sample = sample(line);
                metrics
                    .samples
                    .push(sample.unwrap_or_else(|| panic!("not a sample: {line}")));
            }
        }
        metrics
    }

    /// Sum of all series of `name` that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.series(name, labels).map(|(_, value)| value).sum()
    }

    pub fn series<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = (&'a BTreeMap<String, String>, f64)> {
        let matches = move |(sample, have, _): &&(String, BTreeMap<String, String>, f64)| {
            sample == name
                && labels
                    .iter()
                    .all(|(key, value)| have.get(*key).is_some_and(|v| v == value))
        };
        self.samples
            .iter()
            .filter(matches)
            .map(|(_, labels, value)| (labels, *value))
    }

    pub fn kind(&self, name: &str) -> Option<&str> {
        self.kinds.get(name).map(String::as_str)
    }

    pub fn series_count(&self) -> usize {
        self.samples.len()
    }
}

fn sample(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(mut inner) = rest.strip_prefix('{') {
        while !inner.starts_with('}') {
            let (key, after) = inner.split_once("=\"")?;
            let (value, after) = label_value(after)?;
            labels.insert(key.trim_start_matches(',').to_owned(), value);
            inner = after;
        }
        rest = inner.strip_prefix('}')?;
    }
    let value = rest.split_whitespace().next()?;
    Some((name.to_owned(), labels, value.replace("+Inf", "inf").parse().ok()?))
}

fn label_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_found_by_their_labels() {
        let text =
            "# HELP a b\n# TYPE a counter\na{x=\"1\",y=\"q\\\"}\"} 2\na{x=\"2\"} 3\nb 1e3\nc{le=\"+Inf\"} +Inf\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.sum("a", &[]), 5.0);
        assert_eq!(metrics.sum("a", &[("y", "q\"}")]), 2.0);
        assert_eq!(metrics.sum("b", &[]), 1000.0);
        assert_eq!((metrics.kind("a"), metrics.series_count()), (Some("counter"), 4));
    }
}
