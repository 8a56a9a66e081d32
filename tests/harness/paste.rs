//! What our pages tell people to paste into a terminal, pasted into one.

use super::directory::Directory;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

const PAGES: [&str; 2] = [include_str!("../../README.md"), include_str!("../../src/api/README.md")];

/// The shell block of our pages that has this in it.
#[track_caller]
pub fn block(part: &str) -> &'static str {
    let blocks = PAGES.into_iter().flat_map(|page| page.split("\n```sh\n").skip(1));
    let blocks = blocks.map(|rest| rest.split_once("\n```\n").unwrap().0);
    let mut found = blocks.filter(|block| block.contains(part));
    let block = found.next().unwrap_or_else(|| panic!("no block has {part:?}"));
    assert!(found.next().is_none(), "several blocks have {part:?}");
    block
}

/// Somebody's home directory, with the program in its `bin`.
pub struct Home(Directory);

impl Home {
    pub fn new(program: &Path) -> Self {
        let home = Home(Directory::new());
        std::fs::create_dir_all(home.path("bin")).unwrap();
        symlink(program, home.path("bin/lanrage")).unwrap();
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// A terminal here, where only these programs are found, and those in `bin`.
    pub fn terminal(&self, mut shell: Command, path: &str) -> Terminal {
        let mut child = shell
            .env_clear()
            .env("HOME", &*self.0)
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .current_dir(&*self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut terminal = Terminal { child, output };
        terminal.paste("exec 2>&1");
        terminal
    }
}

/// A shell that reads what is pasted.
pub struct Terminal {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Terminal {
    pub fn paste(&mut self, text: &str) {
        writeln!(self.child.stdin.as_ref().unwrap(), "{text}").unwrap();
    }

    /// What it prints until it has done all that was pasted.
    pub fn end(mut self) -> String {
        self.paste("exit");
        let mut printed = String::new();
        while self.output.read_line(&mut printed).unwrap() > 0 {}
        printed
    }
}

/// The window is closed.
impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}
