//! Writing of the two exposition formats, Prometheus text 0.0.4 and OpenMetrics 1.0, line by line.
//!
//! Uses the formatting functions of `metrics-exporter-prometheus`; what differs between the formats is decided here:
//! a counter's family is named without `_total` in OpenMetrics, `info` is a type only there, and `# EOF` ends it.

use metrics::{Key, Label};
use metrics_exporter_prometheus::LabelSet;
use metrics_exporter_prometheus::formatting::{write_help_line, write_metric_line, write_type_line};

use super::histogram::{BOUNDS, Reading};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
    /// A constant 1 whose labels are the content; its name ends in `_info`.
    Info,
}

/// A page of metrics that is being written.
pub(crate) struct Exposition {
    text: String,
    openmetrics: bool,
}

impl Exposition {
    pub(crate) fn new(openmetrics: bool) -> Exposition {
        Exposition {
            text: String::new(),
            openmetrics,
        }
    }

    /// The head of a family; all its samples must follow before the next head.
    pub(crate) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let (name, kind) = match (self.openmetrics, kind) {
            (true, Kind::Counter) => (name.trim_end_matches("_total"), "counter"),
            (true, Kind::Info) => (name.trim_end_matches("_info"), "info"),
            (false, Kind::Counter) => (name, "counter"),
            (false, Kind::Info) | (_, Kind::Gauge) => (name, "gauge"),
            (_, Kind::Histogram) => (name, "histogram"),
        };
        write_help_line(&mut self.text, name, None, None, help);
        write_type_line(&mut self.text, name, None, None, kind);
    }

    pub(crate) fn sample(&mut self, name: &str, labels: &LabelSet, value: impl std::fmt::Display) {
        write_metric_line::<&str, _>(&mut self.text, name, None, labels, None, value, None);
    }

    pub(crate) fn histogram(&mut self, name: &str, labels: &LabelSet, reading: &Reading) {
        for (index, (_, text, openmetrics)) in BOUNDS.iter().enumerate() {
            let bound = if self.openmetrics { openmetrics } else { text };
            self.bucket(name, labels, bound, reading.cumulative[index]);
        }
        self.bucket(name, labels, "+Inf", reading.count());
        let text = &mut self.text;
        write_metric_line::<&str, _>(text, name, Some("sum"), labels, None, reading.sum_seconds, None);
        write_metric_line::<&str, _>(text, name, Some("count"), labels, None, reading.count(), None);
    }

    fn bucket(&mut self, name: &str, labels: &LabelSet, bound: &str, count: u64) {
        write_metric_line(
            &mut self.text,
            name,
            Some("bucket"),
            labels,
            Some(("le", bound)),
            count,
            None,
        );
    }

    pub(crate) fn finish(mut self) -> String {
        if self.openmetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// Labels in the order given.
///
/// The formatter takes a backslash before a quote or another backslash for an escape that is already there, which would
/// make two different values one and a scrape with a duplicate series; doubling them first keeps values apart.
pub(crate) fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> LabelSet {
    let label = |(key, value): (&'static str, &str)| Label::new(key, value.replace('\\', "\\\\"));
    let key = Key::from_parts("", pairs.map(label).to_vec());
    LabelSet::from_key_and_global(&key, &Default::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_loses_its_suffix_only_in_the_head_and_only_in_openmetrics() {
        let page = |openmetrics| {
            let mut page = Exposition::new(openmetrics);
            page.family("things_total", Kind::Counter, "Things.");
            page.sample("things_total", &labels([("a", "b")]), 3);
            page.finish()
        };
        assert_eq!(
            page(false),
            "# HELP things_total Things.\n# TYPE things_total counter\nthings_total{a=\"b\"} 3\n"
        );
        assert_eq!(
            page(true),
            "# HELP things Things.\n# TYPE things counter\nthings_total{a=\"b\"} 3\n# EOF\n"
        );
    }

    #[test]
    fn hostile_label_values_are_escaped_and_stay_apart() {
        let line = |value: &str| {
            let mut page = Exposition::new(false);
            page.sample("x", &labels([("v", value)]), 1);
            page.finish()
        };
        assert_eq!(line("a\"b\nc"), "x{v=\"a\\\"b\\nc\"} 1\n");
        assert_eq!(line("\\"), "x{v=\"\\\\\"} 1\n");
        assert_eq!(line("\\\""), "x{v=\"\\\\\\\"\"} 1\n");
        assert_ne!(line("\\"), line("\\\\"));
    }
}
