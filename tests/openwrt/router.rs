//! A router in a directory: the init script run by a shell, with files of its own.

use crate::harness::daemon::binary;
use crate::harness::directory::Directory;
use crate::{shipped, uci};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// OpenWrt's own shell if it is here, else the system's.
pub fn shell() -> Command {
    let busybox = Path::new("/bin/busybox");
    match busybox.exists() {
        true => {
            let mut command = Command::new(busybox);
            command.arg("ash");
            command
        }
        false => Command::new("/bin/sh"),
    }
}

/// Settings by section, option and value, of a service that is enabled.
pub fn enabled(settings: &[(&str, &str, &str)]) -> String {
    let mut text = "config service 'service'\n\toption enabled '1'\n".to_owned();
    for (section, name, value) in settings {
        let kind = if *section == "service" { "service" } else { "settings" };
        text += &format!("config {kind} '{section}'\n{}", uci::option(name, value));
    }
    text
}

/// What the init script runs with.
pub struct Router {
    directory: Directory,
    /// The program that is to be the service.
    pub program: PathBuf,
    /// The init script.
    pub script: PathBuf,
    /// Whether the package's user exists.
    pub has_user: bool,
    /// Whether procd-ujail is installed.
    pub has_jail: bool,
    /// The TUN device.
    pub tun: PathBuf,
}

/// What an action of the init script did.
#[derive(Debug)]
pub struct Run {
    /// Every call to procd and alike: name and arguments.
    pub calls: Vec<Vec<String>>,
    /// What was said to whoever ran it.
    pub said: String,
    pub succeeded: bool,
}

impl Router {
    pub fn new() -> Self {
        let directory = Directory::new();
        for name in ["uci", "sbin", "etc", "var/run", "var/lib"] {
            fs::create_dir_all(directory.join(name)).unwrap();
        }
        let ujail = directory.join("sbin/ujail");
        fs::write(&ujail, "").unwrap();
        fs::set_permissions(&ujail, fs::Permissions::from_mode(0o755)).unwrap();
        Router {
            directory,
            program: binary(),
            script: shipped("lanrage/files/lanrage.init"),
            has_user: true,
            has_jail: true,
            tun: "/dev/null".into(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn text_path(&self, name: &str) -> String {
        self.directory.text_path(name)
    }

    /// The settings file that the service is given.
    pub fn settings(&self) -> Option<String> {
        fs::read_to_string(self.path("var/run/lanrage.toml")).ok()
    }

    /// Who the service is: somebody else than root, if that is who runs this.
    pub fn uid(&self) -> u32 {
        match fs::metadata(&*self.directory).unwrap().uid() {
            0 => 466,
            own => own,
        }
    }

    /// Runs an action with a file /etc/config/lanrage.
    pub fn run(&self, action: &str, config: &str) -> Run {
        fs::write(self.path("uci/lanrage"), uci::export("lanrage", config)).unwrap();
        self.act(action)
    }

    /// Writes the file /etc/config/lanrage_secret.
    pub fn write_secrets(&self, config: &str) {
        fs::write(self.path("uci/lanrage_secret"), uci::export("lanrage_secret", config)).unwrap();
    }

    /// Runs an action with the settings there are.
    pub fn act(&self, action: &str) -> Run {
        let places = [
            ("PROG", self.program.display().to_string()),
            ("SETTINGS", self.text_path("var/run/lanrage.toml")),
            ("SECRETS", self.text_path("uci/lanrage_secret")),
            ("STATE_DIR", self.text_path("etc/lanrage")),
            ("RUNTIME_DIR", self.text_path("var/run/lanrage")),
            ("USUAL_STATE_DIR", self.text_path("var/lib/lanrage")),
            ("PARTY_FILE", self.text_path("var/run/party")),
            ("PASSWORD_FILE", self.text_path("var/run/password")),
            ("UJAIL", self.text_path(if self.has_jail { "sbin/ujail" } else { "sbin/none" })),
            ("TUN_DEVICE", self.tun.display().to_string()),
        ];
        let places: String = places.iter().map(|(name, path)| format!("{name}='{path}'\n")).collect();
        fs::write(self.path("places"), places).unwrap();
        let _ = fs::remove_file(self.path("calls"));
        let output = shell()
            .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/openwrt/rc.common"))
            .arg(&self.script)
            .arg(action)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CALLS", self.path("calls"))
            .env("UCI", self.path("uci"))
            .env("PLACES", self.path("places"))
            .env("SERVICE_UID", if self.has_user { self.uid().to_string() } else { String::new() })
            .current_dir(&*self.directory)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let words = |call: &str| call.split_terminator('\u{1f}').map(str::to_owned).collect();
        Run {
            calls: calls.split_terminator('\u{1e}').map(words).collect(),
            said: String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap(),
            succeeded: output.status.success(),
        }
    }

    /// What the daemon has for `key` when it is started as procd would.
    pub fn daemon_has(&self, run: &Run, key: &str) -> Option<String> {
        let output = Command::new(&run.param("command").unwrap()[0])
            .args(&run.param("command").unwrap()[1..])
            .arg("--print-config")
            .env_clear()
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut config = lanrage::daemon::settings::Settings::default();
        config.read_file(&String::from_utf8(output.stdout).unwrap(), "printed").unwrap();
        let setting = lanrage::daemon::settings::SETTINGS.iter().find(|setting| setting.key == key)?;
        Some(setting.show(&config))
    }
}

impl Run {
    /// The calls of one function: their arguments.
    pub fn of(&self, name: &str) -> Vec<&[String]> {
        self.calls.iter().filter(|call| call[0] == name).map(|call| &call[1..]).collect()
    }

    /// A parameter of the instance, which may be set once.
    pub fn param(&self, name: &str) -> Option<&[String]> {
        let all = self.of("procd_set_param");
        let mut found = all.into_iter().filter(|call| call[0] == name);
        let value = found.next().map(|call| &call[1..]);
        assert!(found.next().is_none(), "{name} is set twice");
        value
    }

    /// Where a call is in the order of calls.
    pub fn place(&self, start: &[&str]) -> usize {
        let found = self
            .calls
            .iter()
            .position(|call| call.iter().zip(start).all(|(a, b)| a == b) && call.len() >= start.len());
        found.unwrap_or_else(|| panic!("no {start:?} in {:?}", self.calls))
    }

    /// Whether procd was told to start or keep an instance.
    pub fn has_instance(&self) -> bool {
        !self.of("procd_open_instance").is_empty()
    }

    /// What the firewall and others are told.
    pub fn data(&self) -> &[Vec<String>] {
        &self.calls[self.place(&["procd_open_data"]) + 1..self.place(&["procd_close_data"])]
    }

    /// Asserts that procd heard of no change: what runs goes on.
    pub fn assert_left_alone(&self, because: &[&str]) {
        assert!(!self.succeeded, "{self:?}");
        for name in ["procd_close_service", "procd_kill", "procd_send_signal", "procd_set_config_changed"] {
            assert!(self.of(name).is_empty(), "{name}: {self:?}");
        }
        for word in because {
            assert!(self.said.contains(word), "{word} is not in: {}", self.said);
        }
        assert!(!self.of("logger").is_empty());
    }
}
