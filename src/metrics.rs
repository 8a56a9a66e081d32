//! Figures for Prometheus: a histogram, and the text format (version 0.0.4).

use std::fmt::{Display, Write as _};
use std::time::Duration;

/// Upper bounds of a latency histogram's buckets, in microseconds.
const BOUNDS: [u64; 12] = [50, 100, 250, 500, 1000, 2500, 5000, 10_000, 50_000, 100_000, 500_000, 1_000_000];

/// How long things took.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// By bucket; the last is for what took longer than all bounds.
    counts: [u64; BOUNDS.len() + 1],
    micros: u64,
}

impl Histogram {
    /// Counts something that took `span`.
    pub fn observe(&mut self, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
        self.counts[bucket] += 1;
        self.micros = self.micros.saturating_add(micros);
    }
}

/// Writes the text format.
#[derive(Default)]
pub struct Exposition {
    out: String,
}

impl Exposition {
    /// The text.
    pub fn finish(self) -> String {
        self.out
    }

    /// Starts a metric: its name, kind (`counter`, `gauge` or `histogram`) and what it counts.
    pub fn metric(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// Writes one figure. `labels` is `name="value",..`, or empty.
    pub fn sample(&mut self, name: &str, labels: impl Display, value: impl Display) {
        let labels = labels.to_string();
        if labels.is_empty() {
            self.line(format_args!("{name} {value}"));
        } else {
            self.line(format_args!("{name}{{{labels}}} {value}"));
        }
    }

    /// Writes a metric that has only one figure.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.metric(name, kind, help);
        self.sample(name, "", value);
    }

    /// Writes a histogram, in seconds.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.metric(name, "histogram", help);
        let mut total = 0;
        for (bound, count) in BOUNDS.iter().zip(histogram.counts) {
            total += count;
            self.line(format_args!("{name}_bucket{{le=\"{}\"}} {total}", *bound as f64 / 1e6));
        }
        total += histogram.counts[BOUNDS.len()];
        self.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {total}"));
        self.line(format_args!("{name}_sum {}", histogram.micros as f64 / 1e6));
        self.line(format_args!("{name}_count {total}"));
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        writeln!(self.out, "{text}").expect("writing to a String cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_s_buckets_are_cumulative() {
        let mut histogram = Histogram::default();
        for micros in [10, 50, 51, 400, 2_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let mut text = Exposition::default();
        text.histogram("h_seconds", "Help.", &histogram);
        let text = text.finish();
        for line in [
            "# TYPE h_seconds histogram",
            "h_seconds_bucket{le=\"0.00005\"} 2",
            "h_seconds_bucket{le=\"0.0001\"} 3",
            "h_seconds_bucket{le=\"0.0005\"} 4",
            "h_seconds_bucket{le=\"1\"} 4",
            "h_seconds_bucket{le=\"+Inf\"} 5",
            "h_seconds_sum 2.000511",
            "h_seconds_count 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
