//! What somebody may have meant.

/// The one of `candidates` that is spelled most like `text`, if any is near enough.
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (text.chars().count() / 3).clamp(1, 4);
    let near = candidates.into_iter().map(|candidate| (distance(text, candidate), candidate));
    let (found, candidate) = near.min_by_key(|(distance, _)| *distance)?;
    (found <= allowed).then_some(candidate)
}

/// How many letters have to be inserted, left out, replaced or swapped with the next (optimal string
/// alignment).
fn distance(a: &str, b: &str) -> usize {
    // Longer texts are no spellings of anything here, and the table must not grow with them.
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant_and_nothing_far_away() {
        let words = ["status", "serve", "party list"];
        assert_eq!(nearest("stauts", words), Some("status"));
        assert_eq!(nearest("serv", words), Some("serve"));
        assert_eq!(nearest("party lst", words), Some("party list"));
        assert_eq!(nearest("", words), None);
        assert_eq!(nearest("install", words), None);
    }

    #[test]
    fn counts_each_kind_of_slip() {
        for (a, b, expected) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("abc", "abd", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
    }
}
