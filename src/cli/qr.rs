//! QR codes (ISO/IEC 18004) on a terminal.

use super::output::Style;
use qrcodegen::{QrCode, QrCodeEcc};

/// Modules of light around a code: the standard wants four.
const QUIET: i32 = 4;

/// The code of `text`, or `None` if it is too long for one. Two modules lie one above the other in each cell. With colours it is
/// black on white whatever the terminal looks like; without, light modules are drawn, so it is readable on a dark terminal.
pub fn draw(text: &str, style: Style) -> Option<String> {
    let code = QrCode::encode_text(text, QrCodeEcc::Low).ok()?;
    let is_light = |x, y| !code.get_module(x, y);
    let mut out = String::new();
    for y in (-QUIET..code.size() + QUIET).step_by(2) {
        let cells = (-QUIET..code.size() + QUIET).map(|x| match (is_light(x, y), is_light(x, y + 1)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        });
        out += &style.white_on_black(&cells.collect::<String>());
        out.push('\n');
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_is_there() {
        let code = QrCode::encode_text("lanrage", QrCodeEcc::Low).unwrap();
        let shown = draw("lanrage", Style::PLAIN).unwrap();
        let lines: Vec<Vec<char>> = shown.lines().map(|line| line.chars().collect()).collect();
        assert!(lines.iter().all(|line| line.len() as i32 == code.size() + 2 * QUIET));
        for y in 0..code.size() {
            for x in 0..code.size() {
                let cell = lines[((y + QUIET) / 2) as usize][(x + QUIET) as usize];
                let upper = (y + QUIET) % 2 == 0;
                let is_light = cell == '█' || cell == if upper { '▀' } else { '▄' };
                assert_eq!(is_light, !code.get_module(x, y), "{x} {y}");
            }
        }
        // Four rows of light are around it.
        for line in [&lines[0], &lines[1]] {
            assert!(line.iter().all(|cell| *cell == '█'));
        }
        assert!(draw(&"x".repeat(3000), Style::PLAIN).is_none());
    }
}
