//! Figures for Prometheus: the text format (version 0.0.4).

use super::{FAMILIES, Family, Figure, FigureRow, MetricKind, Readings, Unit};
use crate::wire::decimal::Decimal;
use std::fmt::Write as _;
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

/// The text of all figures.
pub fn text(readings: &Readings) -> String {
    let mut out = String::new();
    for figure in Figure::ALL {
        let FigureRow { metric, kind, unit, help, .. } = *figure.row();
        let value = readings.stats.values.of(figure);
        let mut samples = Samples::of(&mut out, metric, kind, help);
        match unit {
            Unit::Number => samples.line(format_args!("{metric} {value}")),
            Unit::Bool => samples.line(format_args!("{metric} {}", u8::from(value > 0))),
            Unit::Micros => samples.line(format_args!("{metric} {}", Decimal::seconds(value))),
        }
    }
    for Family { metric, kind, help, samples } in FAMILIES {
        samples(readings, &mut Samples::of(&mut out, metric, *kind, help));
    }
    out
}

/// Takes the numbers of one metric.
pub struct Samples<'a> {
    out: &'a mut String,
    metric: &'static str,
}

impl<'a> Samples<'a> {
    fn of(out: &'a mut String, metric: &'static str, kind: MetricKind, help: &str) -> Self {
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let mut samples = Samples { out, metric };
        samples.line(format_args!("# HELP {metric} {help}"));
        samples.line(format_args!("# TYPE {metric} {kind}"));
        samples
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        writeln!(self.out, "{text}").expect("writing to a String cannot fail");
    }

    /// One number without labels.
    #[cfg(feature = "cluster")]
    pub fn plain(&mut self, value: u64) {
        let metric = self.metric;
        self.line(format_args!("{metric} {value}"));
    }

    /// One span without labels.
    #[cfg(feature = "cluster")]
    pub fn seconds(&mut self, span: Duration) {
        let metric = self.metric;
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.line(format_args!("{metric} {}", Decimal::seconds(micros)));
    }

    /// One number; `labels` are `name="value",..`.
    pub fn one(&mut self, labels: std::fmt::Arguments<'_>, value: u64) {
        let metric = self.metric;
        self.line(format_args!("{metric}{{{labels}}} {value}"));
    }

    /// A distribution, in seconds.
    pub fn histogram(&mut self, histogram: &Histogram) {
        let metric = self.metric;
        let mut total = 0;
        for (bound, count) in BOUNDS.iter().zip(histogram.counts) {
            total += count;
            self.line(format_args!("{metric}_bucket{{le=\"{}\"}} {total}", Decimal::seconds(*bound)));
        }
        total += histogram.counts[BOUNDS.len()];
        self.line(format_args!("{metric}_bucket{{le=\"+Inf\"}} {total}"));
        self.line(format_args!("{metric}_sum {}", Decimal::seconds(histogram.micros)));
        self.line(format_args!("{metric}_count {total}"));
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
        let mut text = String::new();
        Samples::of(&mut text, "h_seconds", MetricKind::Histogram, "Help.").histogram(&histogram);
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
