//! The Makefiles, and the packages made of them.

use crate::harness::directory::Directory;
use crate::shipped;
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const MAKEFILES: [&str; 2] = ["lanrage/Makefile", "luci-app-lanrage/Makefile"];

fn makefile(name: &str) -> String {
    fs::read_to_string(shipped(name)).unwrap()
}

/// The value of `NAME:=value`, which is there once.
fn value<'a>(makefile: &'a str, name: &str) -> &'a str {
    let lines =
        || makefile.lines().filter_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(":="));
    assert_eq!(lines().count(), 1, "{name}");
    lines().next().unwrap()
}

/// The lines between `define NAME` and `endef`.
fn definition<'a>(makefile: &'a str, name: &str) -> Vec<&'a str> {
    let mut lines = makefile.lines().skip_while(|line| line.trim() != format!("define {name}"));
    assert!(lines.next().is_some(), "{name}");
    lines.take_while(|line| line.trim() != "endef").collect()
}

#[test]
fn versions_are_that_of_the_program() {
    let output = Command::new(env!("CARGO_BIN_EXE_lanrage")).arg("--version").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    for name in MAKEFILES {
        let makefile = makefile(name);
        let version = value(&makefile, "PKG_VERSION");
        assert_eq!(version, env!("CARGO_PKG_VERSION"), "{name}");
        assert!(printed.contains(version), "{printed}");
    }
}

#[test]
fn the_makefile_says_what_the_feed_asks_for() {
    let text = makefile("lanrage/Makefile");
    for (name, expected) in [
        ("PKG_NAME", "lanrage"),
        ("PKG_RELEASE", "1"),
        ("PKG_LICENSE", "MIT"),
        ("PKG_LICENSE_FILES", "LICENSE"),
        ("PKG_BUILD_DEPENDS", "rust/host"),
        ("PKG_BUILD_PARALLEL", "1"),
        ("PKG_SOURCE", "$(PKG_NAME)-$(PKG_VERSION).tar.gz"),
        ("USERID", "lanrage=466:lanrage=466"),
        ("DEPENDS", "$(RUST_ARCH_DEPENDS)"),
    ] {
        assert_eq!(value(&text, name), expected, "{name}");
    }
    for name in ["PKG_MAINTAINER", "PKG_SOURCE_URL", "PKG_HASH", "TITLE", "SECTION", "CATEGORY"] {
        assert!(!value(&text, name).is_empty());
    }
    assert!(text.starts_with("# SPDX-License-Identifier: MIT\n"));
    // What is included reads what was set before it, and sets what is added to behind it.
    let order = [
        "include $(TOPDIR)/rules.mk",
        "PKG_NAME:=",
        "PKG_BUILD_PARALLEL:=",
        "include $(INCLUDE_DIR)/package.mk",
        "include $(TOPDIR)/feeds/packages/lang/rust/rust-package.mk",
        "CARGO_PKG_VARS +=",
        "$(eval $(call RustBinPackage,lanrage))",
        "$(eval $(call BuildPackage,lanrage))",
    ];
    let places: Vec<usize> =
        order.iter().map(|line| text.find(line).unwrap_or_else(|| panic!("{line}"))).collect();
    assert!(places.is_sorted(), "{places:?}");

    assert_eq!(
        definition(&text, "Package/lanrage/conffiles"),
        ["/etc/config/lanrage", "/etc/config/lanrage_secret", "/etc/lanrage/"]
    );
    for name in ["Build/Prepare", "Package/lanrage/install"] {
        assert!(definition(&text, name).iter().all(|line| line.starts_with('\t')), "{name}");
    }
    for name in ["Package/lanrage", "Package/lanrage/description"] {
        for line in definition(&text, name) {
            assert!(line.starts_with("  ") && !line.contains('\t'), "{line}");
        }
    }
    // cargo install reads Cargo.toml, which names all of these.
    let prepare = definition(&text, "Build/Prepare").join("\n");
    for needed in ["Cargo.toml", "Cargo.lock", "LICENSE", "README.md", "src", "tests"] {
        assert!(prepare.contains(&format!(" ../../{needed} ")), "{needed}");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(needed).exists());
    }
}

/// The feed would build it for size alone.
#[test]
fn it_is_optimised_as_the_project_says() {
    let cargo = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let profile = cargo.split("[profile.release]").nth(1).unwrap().split("\n[").next().unwrap();
    let level = profile.lines().find_map(|line| line.strip_prefix("opt-level = ")).unwrap().trim_matches('"');
    let expected = format!("CARGO_PKG_VARS += CARGO_PROFILE_RELEASE_OPT_LEVEL={level}");
    assert!(makefile("lanrage/Makefile").lines().any(|line| line == expected), "it has to say: {expected}");
}

fn done(output: Output) -> String {
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

fn unpack(archive: &Path, into: &Path) {
    fs::create_dir_all(into).unwrap();
    done(Command::new("tar").arg("-xpzf").arg(archive).arg("-C").arg(into).output().unwrap());
}

/// Files below a directory, and their modes.
fn listing(folder: &Path) -> BTreeMap<String, u32> {
    let mut out = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
                out.insert(path.strip_prefix(folder).unwrap().display().to_string(), mode);
            }
        }
    }
    out
}

/// A static program, in place of ours, which only `.ci/cross` makes static.
fn static_program(directory: &Directory, version: &str) -> PathBuf {
    let (source, program) = (directory.join("program.rs"), directory.join(format!("program-{version}")));
    fs::write(&source, format!("fn main() {{ println!(\"lanrage {version}\") }}\n")).unwrap();
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or("rustc".into()));
    rustc.args(["-Ctarget-feature=+crt-static", "-Cstrip=symbols", "-o"]).arg(&program).arg(&source);
    done(rustc.output().unwrap());
    program
}

#[test]
#[ignore = "needs make"]
fn what_a_router_could_not_start_is_not_packed() {
    let directory = Directory::new();
    let refused = |program: &Path, architecture: &str| {
        let mut command = Command::new(shipped("make-ipk"));
        let output = command.arg(program).arg(architecture).arg(directory.join("none")).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(fs::read_dir(directory.join("none")).unwrap().next().is_none());
        String::from_utf8(output.stderr).unwrap()
    };
    let program = static_program(&directory, env!("CARGO_PKG_VERSION"));
    assert!(refused(&program, "aarch64_generic").contains("was built for another machine"));
    assert!(refused(&program, "arm_fa526").contains("openwrt/targets"));
    // Passes numbers with fractions where this router's builds do not look for them.
    let mut head = fs::read(&program).unwrap();
    head[4] = 1;
    head[18..20].copy_from_slice(&[0x28, 0]);
    head[36..40].copy_from_slice(&0x0500_0200_u32.to_le_bytes());
    let soft = directory.join("soft");
    fs::write(&soft, &head).unwrap();
    assert!(refused(&soft, "arm_cortex-a9_neon").contains("was built for another machine"));
    head[37] = 4;
    let hard = directory.join("hard");
    fs::write(&hard, &head).unwrap();
    assert!(refused(&hard, "arm_cortex-a9").contains("was built for another machine"));
    assert!(refused(Path::new(env!("CARGO_BIN_EXE_lanrage")), "x86_64").contains("is not static"));
    assert!(refused(&static_program(&directory, "9.9.9"), "x86_64").contains("is not of version"));
    assert!(refused(&shipped("make-ipk"), "x86_64").contains("is no program"));
}

/// Each architecture of OpenWrt has a build that `.ci/cross` makes and `make-ipk` packs, or a reason why not.
#[test]
fn every_router_has_a_build_or_a_reason() {
    let text = fs::read_to_string(shipped("targets")).unwrap();
    let cross = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/cross");
    let cross = fs::read_to_string(cross).unwrap();
    let builds: Vec<_> = cross
        .lines()
        .skip_while(|line| !line.starts_with("readonly TARGETS="))
        .skip(1)
        .take_while(|line| *line != "'")
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    let rows: Vec<Vec<_>> = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_whitespace().collect())
        .collect();
    for row in &rows {
        let (architecture, build) = (row[0], row[1]);
        let expected = match architecture.split('_').next().unwrap() {
            "x86" => "x86_64",
            "arm" => "arm",
            "i386" => "i586",
            family => family,
        };
        assert!(build == "none" || build.starts_with(expected), "{row:?}");
        assert!(build == "none" || builds.contains(&build), "{row:?}: .ci/cross does not make it");
        assert_eq!(build == "none", row.len() > 2, "{row:?}");
    }
    assert!(rows.is_sorted_by(|one, other| one[0] < other[0]), "in order, each once");
    // What is built for a router is for one of them.
    for build in builds {
        assert!(rows.iter().any(|row| row[1] == build), "{build}");
    }
}

#[test]
#[ignore = "needs make"]
fn packages_for_opkg_hold_what_they_should_and_it_runs() {
    let directory = Directory::new();
    let program = static_program(&directory, env!("CARGO_PKG_VERSION"));
    let make = |folder: &str| -> Vec<PathBuf> {
        let mut command = Command::new(shipped("make-ipk"));
        command.arg(&program).arg("x86_64").arg(directory.join(folder));
        done(command.output().unwrap()).lines().map(PathBuf::from).collect()
    };
    let packages = make("packages");
    let version = format!("{}-r1", env!("CARGO_PKG_VERSION"));
    let names: Vec<_> = packages.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    let expected = [
        format!("lanrage_{version}_x86_64.ipk"),
        format!("luci-app-lanrage_{version}_all.ipk"),
        format!("luci-i18n-lanrage-de_{version}_all.ipk"),
    ];
    assert_eq!(names, expected);
    for (one, other) in packages.iter().zip(make("again")) {
        assert!(fs::read(one).unwrap() == fs::read(other).unwrap(), "the same input made another package");
    }

    let open = |index: usize| {
        let folder = directory.join(format!("open-{index}"));
        unpack(&packages[index], &folder);
        assert_eq!(
            listing(&folder).keys().collect::<Vec<_>>(),
            ["control.tar.gz", "data.tar.gz", "debian-binary"]
        );
        assert_eq!(fs::read_to_string(folder.join("debian-binary")).unwrap(), "2.0\n");
        for name in ["control", "data"] {
            unpack(&folder.join(format!("{name}.tar.gz")), &folder.join(name));
        }
        folder
    };
    let daemon = open(0);
    let files = listing(&daemon.join("data"));
    let expected = [
        ("etc/capabilities/lanrage-tun.json", 0o644),
        ("etc/capabilities/lanrage.json", 0o644),
        ("etc/config/lanrage", 0o600),
        ("etc/config/lanrage_secret", 0o600),
        ("etc/init.d/lanrage", 0o755),
        ("etc/init.d/lanrage-agent", 0o755),
        ("etc/uci-defaults/lanrage", 0o755),
        ("lib/upgrade/keep.d/lanrage", 0o644),
        ("usr/bin/lanrage", 0o755),
    ];
    assert_eq!(files.iter().map(|(name, mode)| (name.as_str(), *mode)).collect::<Vec<_>>(), expected);
    assert_eq!(
        fs::read_to_string(daemon.join("data/lib/upgrade/keep.d/lanrage")).unwrap(),
        "/etc/lanrage/\n"
    );
    assert_eq!(
        fs::read_to_string(daemon.join("control/conffiles")).unwrap(),
        "/etc/config/lanrage\n/etc/config/lanrage_secret\n"
    );
    let control = fs::read_to_string(daemon.join("control/control")).unwrap();
    for line in [
        "Package: lanrage",
        "LicenseFiles: LICENSE",
        "Depends: libc",
        "Require-User: lanrage=466:lanrage=466",
        "Architecture: x86_64",
    ] {
        assert!(control.lines().any(|found| found == line), "{line}: {control}");
    }
    assert!(!control.contains("URL: ") && control.contains("\n  Play LAN games with friends"), "{control}");
    // What there is to unpack, as opkg asks before it installs.
    let unpacked = done(
        Command::new("sh")
            .arg("-c")
            .arg("gzip -dc data.tar.gz | wc -c")
            .current_dir(&daemon)
            .output()
            .unwrap(),
    );
    assert!(control.contains(&format!("\nInstalled-Size: {}\n", unpacked.trim())), "{control}");
    let printed = done(Command::new(daemon.join("data/usr/bin/lanrage")).arg("--version").output().unwrap());
    assert_eq!(printed, format!("lanrage {}\n", env!("CARGO_PKG_VERSION")));
    for (installed, source) in [
        ("init.d/lanrage", "init"),
        ("config/lanrage", "config"),
        ("config/lanrage_secret", "secret"),
        ("uci-defaults/lanrage", "defaults"),
    ] {
        let installed = fs::read(daemon.join("data/etc").join(installed)).unwrap();
        assert!(installed == fs::read(shipped(&format!("lanrage/files/lanrage.{source}"))).unwrap());
    }

    // OpenWrt's own functions do the rest: the user, and the start of a service that is off.
    let root = directory.join("root");
    fs::create_dir_all(root.join("lib")).unwrap();
    fs::write(
        root.join("lib/functions.sh"),
        "default_postinst() { echo in $1; }\ndefault_prerm() { echo out $1; }\n",
    )
    .unwrap();
    for (script, word) in [("postinst", "in"), ("prerm", "out")] {
        let script = daemon.join("control").join(script);
        let said = done(Command::new(&script).env("IPKG_INSTROOT", &root).output().unwrap());
        assert_eq!(said, format!("{word} {}\n", script.display()));
    }

    let removed = fs::read_to_string(daemon.join("control/prerm-pkg")).unwrap();
    assert!(
        removed.contains("[ -z \"${IPKG_INSTROOT}\" ]") && removed.contains("firewall.lanrage_agent\n"),
        "{removed}"
    );

    let pages = open(1);
    let files = listing(&pages.join("data"));
    for name in [
        "usr/share/luci/menu.d/luci-app-lanrage.json",
        "usr/share/rpcd/acl.d/luci-app-lanrage.json",
        "www/luci-static/resources/lanrage/daemon.js",
        "www/luci-static/resources/lanrage/dialogs.js",
        "www/luci-static/resources/lanrage/drops.js",
        "www/luci-static/resources/lanrage/options.js",
        "www/luci-static/resources/lanrage/wireguard.js",
        "www/luci-static/resources/view/lanrage/overview.js",
        "www/luci-static/resources/view/lanrage/settings.js",
        "www/luci-static/resources/view/lanrage/diagnosis.js",
    ] {
        assert_eq!(files.get(name), Some(&0o644), "{name}");
    }
    assert_eq!(files.len(), 10, "{files:?}");
    let control = fs::read_to_string(pages.join("control/control")).unwrap();
    assert!(
        control.contains("Depends: libc, luci-base, lanrage\n") && control.contains("Architecture: all\n")
    );
    assert!(
        fs::read_to_string(pages.join("control/postinst-pkg")).unwrap().contains("/etc/init.d/rpcd reload")
    );

    let german = open(2);
    let control = fs::read_to_string(german.join("control/control")).unwrap();
    assert!(control.contains("Package: luci-i18n-lanrage-de\n"), "{control}");
    assert!(control.contains("Depends: libc, luci-app-lanrage\n"), "{control}");
    let files: Vec<_> = listing(&german.join("data")).into_keys().collect();
    assert_eq!(files, ["etc/uci-defaults/luci-i18n-lanrage-de", "usr/lib/lua/luci/i18n/lanrage.de.lmo"]);
    assert_eq!(
        fs::read_to_string(german.join("data").join(&files[0])).unwrap(),
        "uci set luci.languages.de='Deutsch (German)'; uci commit luci\n"
    );
    let said = crate::words::read_translation(&fs::read(german.join("data").join(&files[1])).unwrap());
    for (english, german) in
        [("LAN parties", "LAN-Partys"), ("Ban", "Sperren"), ("no", "nein"), ("{n} h", "")]
    {
        let found = said.get(&crate::words::hash(english)).map_or("", String::as_str);
        assert_eq!(found, german, "{english}");
    }
}

/// What a reviewer of OpenWrt's feeds looks at.
#[test]
fn packages_are_written_as_the_feeds_want_them() {
    let directory = Directory::new();
    let release = directory.join(format!("lanrage-{}.tar.gz", env!("CARGO_PKG_VERSION")));
    fs::write(&release, "abc").unwrap();
    let feed = directory.join("feed");
    let (maintainer, homepage) = ("Zoë Example <zoe@example.org>", "https://lanrage.example.org");
    let command = |release: &Path, maintainer: &str, homepage: &str, url: &str| {
        let mut command = Command::new(shipped("for-feed"));
        command.env("MAINTAINER", maintainer).env("HOMEPAGE", homepage).arg(release).arg(url).arg(&feed);
        command.output().unwrap()
    };
    let downloads = "https://downloads.example.org/releases/0.1.0";
    done(command(&release, maintainer, homepage, downloads));
    let text = fs::read_to_string(feed.join("net/lanrage/Makefile")).unwrap();
    for (name, expected) in [
        ("PKG_MAINTAINER", maintainer),
        ("URL", homepage),
        ("PKG_SOURCE", "$(PKG_NAME)-$(PKG_VERSION).tar.gz"),
        ("PKG_SOURCE_URL", "https://downloads.example.org/releases/0.1.0/"),
        // FIPS 180-2, appendix B.1.
        ("PKG_HASH", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ] {
        assert_eq!(value(&text, name), expected, "{name}");
    }
    assert!(text.lines().any(|line| line == "include ../../lang/rust/rust-package.mk"), "{text}");
    let pages = fs::read_to_string(feed.join("applications/luci-app-lanrage/Makefile")).unwrap();
    assert_eq!(value(&pages, "PKG_MAINTAINER"), maintainer);
    assert!(pages.lines().any(|line| line == "include ../../luci.mk"), "{pages}");
    assert!(pages.ends_with("# call BuildPackage - OpenWrt buildroot signature\n"));
    for text in [&text, &pages] {
        // Nothing of where it comes from is left.
        for word in ["unset", "$(TOPDIR)/feeds", "../../Cargo", "Build/Prepare", "for-feed", "PKG_SOURCE="] {
            assert!(!text.contains(word), "{word}: {text}");
        }
        assert!(text.starts_with("# SPDX-License-Identifier: MIT\n#\n# Copyright (C) "), "{text}");
    }
    for file in ["net/lanrage/files/lanrage.init", "applications/luci-app-lanrage/po/templates/lanrage.pot"] {
        assert!(feed.join(file).exists(), "{file}");
    }

    let other = directory.join("lanrage-9.9.9.tar.gz");
    fs::write(&other, "abc").unwrap();
    for output in [
        command(&other, maintainer, homepage, downloads),
        command(&release, "Zoë", homepage, downloads),
        command(&release, maintainer, "", downloads),
        command(&release, maintainer, homepage, "downloads"),
        command(&release, "$(shell id) <a@b>", homepage, downloads),
    ] {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
}
