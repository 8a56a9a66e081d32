//! UCI's files: what `uci export` makes of them.

/// What `uci export` prints for the file `text` of the package `name`.
pub fn export(name: &str, text: &str) -> String {
    let mut out = format!("package {name}\n");
    let mut rest = text.chars().peekable();
    while let Some(words) = line(&mut rest) {
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] | ["package", _] => {}
            ["config", kind] => out += &format!("\nconfig {kind}\n"),
            ["config", kind, name] => out += &format!("\nconfig {kind} {}\n", quote(name)),
            [word @ ("option" | "list"), name, value] => {
                out += &format!("\t{word} {name} {}\n", quote(value));
            }
            _ => panic!("not UCI: {words:?}"),
        }
    }
    out
}

/// One option as a line of a file.
pub fn option(name: &str, value: &str) -> String {
    format!("\toption {name} {}\n", quote(value))
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The words of the next line; quotes may hold line breaks.
fn line(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Vec<String>> {
    rest.peek()?;
    let (mut words, mut word) = (Vec::new(), None::<String>);
    while let Some(letter) = rest.next() {
        match letter {
            '\n' => break,
            '#' if word.is_none() => while rest.next_if(|letter| *letter != '\n').is_some() {},
            ' ' | '\t' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                word.extend(std::iter::from_fn(|| rest.next().filter(|letter| *letter != '\'')));
            }
            '"' => {
                let word = word.get_or_insert_default();
                while let Some(letter) = rest.next().filter(|letter| *letter != '"') {
                    word.extend(if letter == '\\' { rest.next() } else { Some(letter) });
                }
            }
            '\\' => word.get_or_insert_default().extend(rest.next()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Some(words)
}

#[test]
fn files_are_read_as_uci_reads_them() {
    let text = "config a 'b' # c\n\n  option d \"e 'f' \\\"g\"\n\toption h i'j'\\ k\n#option no 1\n\tlist l 'x\ny'\nconfig m";
    assert_eq!(
        export("p", text),
        "package p\n\nconfig a 'b'\n\toption d 'e '\\''f'\\'' \"g'\n\toption h 'ij k'\n\tlist l 'x\ny'\n\nconfig m\n"
    );
}
