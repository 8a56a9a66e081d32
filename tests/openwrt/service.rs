//! The service as procd would run it.

use crate::harness::daemon::Daemon;
use crate::router::{Router, Run};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// A router with a copy of the program that the service's user may run, wherever the sources are.
pub fn router() -> Router {
    let mut router = Router::new();
    let place = router.path("lanrage");
    let built = std::mem::replace(&mut router.program, place);
    install(&router, &built);
    router
}

/// Puts a program where the service's is.
pub fn install(router: &Router, program: &Path) {
    let _ = fs::remove_file(&router.program);
    fs::copy(program, &router.program).unwrap();
    fs::set_permissions(&router.program, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs the command that procd was given, as the user that it was given, and with no other environment.
pub fn start(router: &Router, run: &Run) -> Daemon {
    assert!(run.succeeded, "{}", run.said);
    let words = run.param("command").unwrap();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env_clear().current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.uid(router.uid()).gid(router.uid());
    }
    Daemon::start(&mut command, &router.path("log"))
}
