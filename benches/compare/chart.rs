//! The chart for README: processor time of one request in the cases that people ask for first, as bars.

use std::fmt::Write;

use crate::figures::{Figure, Measured};

const CASES: &[(&str, &str)] = &[
    ("h1", "HTTP/1.1, 64 connections"),
    ("paced", "HTTP/1.1, 1,000 requests a second"),
    ("h2", "HTTP/2, 16 x 10 streams"),
    ("grpc", "gRPC unary, 16 x 10 streams"),
];
const WIDTH: f64 = 760.0;
const BARS_FROM: f64 = 100.0;
const LONGEST_BAR: f64 = 560.0;

/// None of the cases was measured: nothing. Colours are readable on white and on black.
pub fn svg(all: &[Measured]) -> Option<String> {
    let (mut body, mut y) = (String::new(), 30.0);
    for (name, title) in CASES {
        if let Some(measured) = all.iter().find(|measured| measured.case == *name) {
            group(&mut body, &mut y, title, measured);
        }
    }
    if body.is_empty() {
        return None;
    }
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" font-family=\"system-ui, sans-serif\" \
         font-size=\"13\" role=\"img\">
<title>Processor time of the proxy for one request, in microseconds</title>
<style>text {{ fill: #6e7781 }} @media (prefers-color-scheme: dark) {{ text {{ fill: #9198a1 }} }}</style>
<text x=\"0\" y=\"16\" font-size=\"15\" font-weight=\"600\">Processor time of the proxy for one request, in microseconds \
         (less is better)</text>
{body}</svg>
"
    ))
}

fn group(body: &mut String, y: &mut f64, title: &str, measured: &Measured) {
    let bars = measured.entrants.iter().filter(|entrant| entrant.peer != "baseline");
    let bars: Vec<(&str, f64)> = bars
        .filter_map(|entrant| Some((entrant.peer, entrant.median(Figure::Cpu)?)))
        .collect();
    let most = bars.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    *y += 18.0;
    let _ = writeln!(body, "<text x=\"0\" y=\"{y}\" font-weight=\"600\">{title}</text>");
    *y += 8.0;
    for (peer, value) in bars {
        let colour = if peer == "tsunagi" { "#2f81f7" } else { "#8b949e" };
        let width = LONGEST_BAR * value / most;
        let (text, label) = (*y + 14.0, BARS_FROM + width + 6.0);
        let _ = writeln!(
            body,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{peer}</text>\
             <rect x=\"{BARS_FROM}\" y=\"{y}\" width=\"{width:.1}\" height=\"18\" rx=\"2\" fill=\"{colour}\"/>\
             <text x=\"{label:.1}\" y=\"{text}\">{value:.1}</text>",
            BARS_FROM - 8.0
        );
        *y += 23.0;
    }
    *y += 8.0;
}
