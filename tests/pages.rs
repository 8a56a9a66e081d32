//! The pages for people: their links lead somewhere, and the first one stays short.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A README of more lines is not read.
const README_LINES: usize = 250;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All pages of the repository, from its top.
fn pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                open.push(path);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    found
}

/// How GitHub names a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|sign| sign.is_alphanumeric() || " -_".contains(*sign));
    kept.map(|sign| if sign == ' ' { '-' } else { sign }).collect()
}

/// What is wrong with a page's links.
fn broken(page: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let mut found = Vec::new();
    for target in text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)) {
        if target.contains("://") {
            continue;
        }
        let (file, part) = target.split_once('#').unwrap_or((target, ""));
        let there = if file.is_empty() { page.to_owned() } else { page.parent().unwrap().join(file) };
        if !there.exists() {
            found.push(format!("{}: there is no {target}", page.display()));
        } else if !part.is_empty() {
            let text = std::fs::read_to_string(&there).unwrap();
            if !text.lines().any(|line| line.starts_with('#') && anchor(line) == part) {
                found.push(format!("{}: there is no {target}", page.display()));
            }
        }
    }
    found
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    assert!(pages.len() >= 8, "{pages:?}");
    let broken: Vec<_> = pages.iter().flat_map(|page| broken(page)).collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
    assert_eq!(anchor("## Games on this machine"), "games-on-this-machine");
}

#[test]
fn the_readme_is_short() {
    let lines = std::fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= README_LINES, "{lines}");
}

/// Names of files and functions in a page about the source are those of the source.
fn unknown(page: &str, folders: &[&str]) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let prose = text.split("```").step_by(2).collect::<String>();
    let is_file = |name: &str| folders.iter().any(|folder| root().join(folder).join(name).exists());
    let is_path = |name: &str| {
        name.contains('/')
            && !name.contains(|sign: char| " =<>*()\":".contains(sign))
            && !name.starts_with(['/', '~'])
    };
    let mut found: Vec<_> = prose.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    found.retain(|name| is_path(name) && !is_file(name.trim_end_matches('/')));
    found
}

#[test]
fn files_that_pages_name_exist() {
    assert_eq!(unknown("src/README.md", &["src", ""]), [""; 0]);
    assert_eq!(unknown("CONTRIBUTING.md", &["", "src"]), [""; 0]);
    assert_eq!(unknown("SECURITY.md", &[""]), [""; 0]);
    assert_eq!(unknown("README.md", &[""]), [""; 0]);
}

/// All of `src`.
fn source() -> String {
    let (mut open, mut text) = (vec![root().join("src")], String::new());
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    text
}

#[test]
fn functions_that_the_house_names_exist() {
    let (house, source) = (std::fs::read_to_string(root().join("src/README.md")).unwrap(), source());
    let prose = house.split("```").step_by(2).collect::<String>();
    let names = prose.split('`').skip(1).step_by(2).filter_map(|name| name.split_once("::"));
    let names: Vec<_> =
        names.filter(|(owner, _)| owner.starts_with(|first: char| first.is_uppercase())).collect();
    assert!(names.len() > 5);
    for (owner, name) in names {
        let is_one = |rest: &str| rest.starts_with(|next: char| !next.is_alphanumeric());
        let is_defined = ["struct", "enum", "trait"].iter().any(|kind| {
            let definition = format!("{kind} {owner}");
            source.split(definition.as_str()).skip(1).any(is_one)
        });
        assert!(is_defined, "{owner}::{name}");
        let is_member = [format!("fn {name}("), format!("pub {name}:"), format!("fn {name}<")];
        assert!(is_member.iter().any(|form| source.contains(form)), "{owner}::{name}");
    }
}

#[test]
fn commands_of_the_pages_name_targets_that_exist() {
    let text = std::fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let arguments = ["metadata", "--no-deps", "--format-version=1", "--offline"];
    let metadata = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    let metadata = String::from_utf8(metadata.stdout).unwrap();
    let mut count = 0;
    for flag in ["--test ", "--bench "] {
        for rest in text.split(flag).skip(1) {
            let name: String =
                rest.chars().take_while(|sign| sign.is_alphanumeric() || *sign == '_').collect();
            assert!(metadata.contains(&format!("\"name\":\"{name}\"")), "{flag}{name}");
            count += 1;
        }
    }
    assert!(count > 5);
}
