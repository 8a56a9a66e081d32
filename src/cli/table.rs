//! Text for terminals: aligned, and free of characters that would do something to them.

use super::output::Style;
use std::fmt::Write as _;

/// Between two columns.
const GAP: usize = 2;

/// `text` with every character that moves the cursor, changes colours, reorders or hides others spelled out.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() || is_invisible(letter) {
            out.extend(letter.escape_unicode());
        } else {
            out.push(letter);
        }
    }
    out
}

/// Like [`escape`], but line breaks stay.
pub fn escape_lines(text: &str) -> String {
    text.split('\n').map(escape).collect::<Vec<_>>().join("\n")
}

/// Marks that change the direction of what follows, break lines, or can't be seen.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// How many cells of a terminal `text` takes, near enough for columns.
fn width(text: &str) -> usize {
    let cells = |letter| match letter {
        '\u{300}'..='\u{36f}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' => 2,
        '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' => 2,
        '\u{1f300}'..='\u{1faff}' | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    };
    text.chars().map(cells).sum()
}

/// Rows under headings.
pub struct TextTable {
    headings: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// With no rows yet.
    pub fn new(headings: &'static [&'static str]) -> Self {
        TextTable { headings, rows: Vec::new() }
    }

    /// Adds a row; what is empty is shown as `-`.
    pub fn row(&mut self, cells: Vec<String>) {
        let shown = |cell: &String| if cell.is_empty() { "-".to_owned() } else { escape(cell) };
        self.rows.push(cells.iter().map(shown).collect());
    }

    /// The lines of the table.
    pub fn text(&self, style: Style) -> String {
        let columns = 0..self.headings.len();
        let widths: Vec<usize> = columns
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| width(cell)).max().unwrap_or(0).max(width(self.headings[column]))
            })
            .collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::new();
            for (cell, width_here) in cells.zip(&widths) {
                let _ = write!(line, "{cell}{:1$}", "", width_here - width(cell) + GAP);
            }
            line.trim_end().to_owned()
        };
        let mut out = style.bold(&line(&mut self.headings.iter().copied())) + "\n";
        for row in &self.rows {
            out += &line(&mut row.iter().map(String::as_str));
            out.push('\n');
        }
        out
    }
}

/// Lines of a name and a value each.
#[derive(Default)]
pub struct Facts {
    lines: Vec<(&'static str, String)>,
}

impl Facts {
    /// Adds a line; the value may be styled, so it has to be escaped already if it comes from outside.
    pub fn styled(&mut self, name: &'static str, value: String) {
        self.lines.push((name, value));
    }

    /// Adds a line.
    pub fn add(&mut self, name: &'static str, value: &str) {
        self.styled(name, escape(value));
    }

    /// The lines.
    pub fn text(&self, style: Style) -> String {
        let widest = self.lines.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
        let mut out = String::new();
        for (name, value) in &self.lines {
            let _ = writeln!(out, "{}{:2$}{value}", style.bold(name), "", widest - width(name) + GAP);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_acts_on_a_terminal_gets_through() {
        assert_eq!(escape("a\u{1b}[31mb\r\n\u{9b}c\u{7f}"), "a\\u{1b}[31mb\\u{d}\\u{a}\\u{9b}c\\u{7f}");
        assert_eq!(escape("x\u{202e}y\u{200b}"), "x\\u{202e}y\\u{200b}");
        assert_eq!(escape("Zoë 日本 😀"), "Zoë 日本 😀");
        assert_eq!(escape_lines("a\nb\tc"), "a\nb\\u{9}c");
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let mut table = TextTable::new(&["NAME", "B"]);
        table.row(vec!["日本".into(), "1".into()]);
        table.row(vec!["longer".into(), String::new()]);
        assert_eq!(table.text(Style::PLAIN), "NAME    B\n日本    1\nlonger  -\n");
        let mut facts = Facts::default();
        facts.add("a", "1\n2");
        facts.add("long", "3");
        assert_eq!(facts.text(Style::PLAIN), "a     1\\u{a}2\nlong  3\n");
    }

    #[test]
    fn headings_alone_are_a_table_too() {
        assert_eq!(TextTable::new(&["A", "B"]).text(Style::PLAIN), "A  B\n");
    }
}
