//! The figures beside their budgets, as a Markdown table.

/// Figures of repeated measurements.
#[derive(Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub const fn new() -> Self {
        Samples(Vec::new())
    }

    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// In the order in which they were taken.
    pub fn iter(&self) -> impl Iterator<Item = f64> {
        self.0.iter().copied()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The value that `part` of all are not above; 0.5 is the median.
    pub fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let index = ((sorted.len() as f64 * part).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
        sorted.get(index).copied().unwrap_or(f64::NAN)
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// One line for each thing that was measured.
#[derive(Default)]
pub struct Table {
    lines: Vec<[String; 4]>,
    /// What has a budget, for a script: what, how much, at most how much, and of what.
    budgets: Vec<String>,
}

impl Table {
    /// A figure that nothing was promised about.
    pub fn note(&mut self, what: &str, measured: impl Into<String>) {
        self.lines.push([what.to_owned(), measured.into(), String::new(), String::new()]);
    }

    /// A figure that is at most `budget`, or else missed it.
    pub fn budget(&mut self, what: &str, measured: impl Into<String>, value: f64, budget: f64, unit: &str) {
        let verdict = if value <= budget { "ok" } else { "**MISSED**" };
        self.lines.push([
            what.to_owned(),
            measured.into(),
            format!("<= {}{unit}", shown(budget)),
            verdict.to_owned(),
        ]);
        self.budgets.push(format!("{what}\t{value:.3}\t{budget}\t{}", unit.trim()));
    }

    /// Something that could not be measured, for want of something else.
    pub fn missing(&mut self, what: &str, lack: &str) {
        self.note(what, format!("not measured: there is no {lack}"));
    }

    /// The budgets, a line each with tabs, for `.ci/budgets`.
    pub fn print_budgets(&self) {
        self.budgets.iter().for_each(|line| println!("{line}"));
    }

    pub fn print(&self) {
        let header = ["what", "measured", "budget", ""].map(str::to_owned);
        let mut widths = [0; 4];
        for line in self.lines.iter().chain([&header]) {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let rule = widths.map(|width| "-".repeat(width));
        for line in [&header, &rule].into_iter().chain(&self.lines) {
            let cells: Vec<String> =
                line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            println!("| {} |", cells.join(" | "));
        }
    }
}

/// With two digits after the point at the most.
fn shown(number: f64) -> String {
    format!("{}", (number * 100.0).round() / 100.0)
}
