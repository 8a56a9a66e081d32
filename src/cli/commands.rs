//! The table of commands.

use super::command::{Command, Invocation, Opt};
use super::{
    CommandFailure, agent, backup, bench, db, device, doctor, events, invite, keys, overview, party, peer,
    peers, relay, restore, serve, status, ui,
};

const JSON: Opt = Opt { name: "json", value: None, help: "print JSON, for scripts" };
const STATE_DIR: Opt =
    Opt { name: "state-dir", value: Some("DIR"), help: "where the daemon keeps its state" };
const CONFIG: Opt =
    Opt { name: "config", value: Some("FILE"), help: "the settings file [/etc/lanrage/lanrage.toml]" };
const KEY: Opt = Opt { name: "key", value: Some("KEY"), help: "the WireGuard public key that is meant" };
#[cfg(feature = "cluster")]
const STORE: Opt = Opt { name: "store", value: Some("URL"), help: "the database [the setting store]" };
#[cfg(feature = "cluster")]
const REALM: Opt = Opt { name: "realm", value: Some("NAME"), help: "whose state [the setting realm]" };
const FORCE: Opt = Opt { name: "force", value: None, help: "replace FILE if it exists" };
const OPEN: Opt = Opt { name: "open", value: None, help: "who knows the party's id gets in" };
const PUBLIC: Opt =
    Opt { name: "public", value: None, help: "listed for everybody, who gets in without a secret" };
const PASSWORD: Opt = Opt {
    name: "password",
    value: None,
    help: "who knows the password gets in: a new one is made and shown",
};
const INVITE_ONLY: Opt = Opt { name: "invite-only", value: None, help: "who has an invite gets in" };
const ENDS: Opt =
    Opt { name: "ends", value: Some("SPAN"), help: "the party ends after so long, such as 6h or 2d" };
const EXPIRES: Opt =
    Opt { name: "expires", value: Some("SPAN"), help: "until when it is good, such as 6h or 2d" };
const AT_RELAY: Opt = Opt {
    name: "relay",
    value: Some("RELAY"),
    help: "its members' files lead to that relay in another place, for good",
};
const PRINT_CONFIG: Opt =
    Opt { name: "print-config", value: None, help: "print all settings as a settings file, and end" };

const NAME: Opt =
    Opt { name: "name", value: Some("NAME"), help: "what the others see [this machine's name]" };
const INTERFACE: Opt =
    Opt { name: "interface", value: Some("NAME"), help: "the network interface to make [lanrage0]" };
const NO_OFFLOAD: Opt =
    Opt { name: "no-offload", value: None, help: "hand the kernel one packet at a time, never many as one" };
const VERBOSE: Opt = Opt { name: "verbose", value: None, help: "log more" };
const WATCH: Opt = Opt { name: "watch", value: None, help: "show it anew every second" };

const ASK_PASSWORD: Opt = Opt {
    name: "password",
    value: None,
    help: "ask for the party's password, or read it from standard input",
};
const PARTY_FILE: Opt =
    Opt { name: "party-file", value: Some("FILE"), help: "URL and PARTY are this file's first line" };
const PASSWORD_FILE: Opt = Opt {
    name: "password-file",
    value: Some("FILE"),
    help: "the party's password is this file's first line",
};

const TO_DAEMON: &[Opt] = &[JSON, STATE_DIR, CONFIG];

/// A command that talks to the daemon.
const fn command(
    name: &'static str,
    arguments: &'static [&'static str],
    about: &'static str,
    run: fn(&Invocation) -> Result<(), CommandFailure>,
) -> Command {
    Command { name, arguments, about, details: "", options: TO_DAEMON, takes_settings: false, run }
}

/// Every command, in the order of the help.
pub const COMMANDS: &[Command] = &[
    Command {
        details: "It prints one line, `listening http=ADDRESS relay=ADDRESS`, when it is ready, and logs to\n\
                  standard error. SIGTERM or SIGINT stop it.",
        options: &[CONFIG, PRINT_CONFIG],
        takes_settings: true,
        ..command("serve", &[], "run the daemon", serve::run)
    },
    command("status", &[], "show how the daemon is doing", status::run),
    command("overview", &[], "show all parties, who plays, and what is wrong", overview::run),
    Command {
        details: "It asks the daemon, DNS, and the firewall if this is OpenWrt. Exit code 1 says that something is wrong.\n\
                  What can't be told from here is no error.",
        ..command("doctor", &[], "find out why friends can't connect", doctor::run)
    },
    Command {
        details: "PARTY is its id, or an invite's code; an invite's link stands for both. It takes part until it is\n\
                  stopped, and needs root for the network interface. It goes on with the same party and address when\n\
                  it is started again; without URL and PARTY it is the party of before.",
        options: &[
            NAME,
            PARTY_FILE,
            ASK_PASSWORD,
            PASSWORD_FILE,
            INTERFACE,
            NO_OFFLOAD,
            VERBOSE,
            STATE_DIR,
            CONFIG,
        ],
        ..command("join", &["[URL]", "[PARTY]"], "take part in a party with this machine", agent::join)
    },
    Command {
        details: "It prints what friends need, and goes on like `lanrage join`. The party ends when its host leaves.",
        options: &[NAME, PASSWORD, INTERFACE, NO_OFFLOAD, VERBOSE, STATE_DIR, CONFIG],
        ..command("host", &["URL", "NAME"], "make a party on a server and take part in it", agent::host)
    },
    command("leave", &[], "leave the party that this machine takes part in", agent::leave),
    Command {
        options: &[WATCH, JSON, STATE_DIR, CONFIG],
        ..command("peers", &[], "show who is in the party, and how they are reached", peers::run)
    },
    Command {
        details: "It asks the agent that runs here. With URL, or if none runs, it asks the relay of that server (of the\n\
                  party of before), and the router, from a port of its own; that takes up to 12 seconds.",
        ..command("nat", &["[URL]"], "show what NAT this machine is behind", peers::nat)
    },
    command("party list", &[], "list all parties", party::list),
    Command {
        details: "It belongs to this machine, and stays until you end it: nobody has to be in it. Without any of the\n\
                  switches whoever knows its id gets in.",
        options: &[OPEN, PUBLIC, PASSWORD, INVITE_ONLY, ENDS, AT_RELAY, JSON, STATE_DIR, CONFIG],
        ..command("party create", &["NAME"], "make a party", party::create)
    },
    Command {
        details: "PARTY is an id or a name. What is not named stays as it is. `--ends never` takes an end back.",
        options: &[
            Opt { name: "name", value: Some("NAME"), help: "its new name" },
            OPEN,
            PUBLIC,
            PASSWORD,
            INVITE_ONLY,
            ENDS,
            Opt { name: "permanent", value: None, help: "it stays when nobody is in it" },
            Opt { name: "temporary", value: None, help: "it ends when its host, or its last member, leaves" },
            JSON,
            STATE_DIR,
            CONFIG,
        ],
        ..command("party set", &["PARTY"], "change a party", party::set)
    },
    command("party rename", &["PARTY", "NAME"], "give a party another name", party::rename),
    command("party show", &["PARTY"], "show a party and who is in it", party::show),
    command("party delete", &["PARTY"], "end a party", party::delete),
    Command {
        details: "The peer can join again: `lanrage peer ban` keeps it out. A party whose host, or whose\n\
                  last peer, is removed ends.",
        ..command("peer kick", &["PARTY", "PEER"], "remove a peer from a party", peer::kick)
    },
    Command {
        details: "Ban a peer by its id (and by the key it has now), or by a key, however that is spelled.",
        options: &[KEY, JSON, STATE_DIR, CONFIG],
        ..command("peer ban", &["PARTY", "[PEER]"], "remove a peer and keep it out", peer::ban)
    },
    Command {
        details: "Say the same id or key as `lanrage peer bans` shows.",
        options: &[KEY, JSON, STATE_DIR, CONFIG],
        ..command("peer unban", &["PARTY", "[PEER]"], "let a banned peer in again", peer::unban)
    },
    command("peer bans", &["PARTY"], "list who is banned from a party", peer::bans),
    Command {
        details: "A device is a player with nothing but the WireGuard app. On a terminal the command shows a QR code\n\
                  for a phone; for a PC, write a file. The private key is made here, shown once and kept nowhere.\n\
                  With --key the app has made one already, and the file is without it.",
        options: &[
            Opt { name: "qr", value: None, help: "show a QR code, on no terminal either" },
            Opt { name: "conf", value: Some("FILE"), help: "write a file for the app, such as bob.conf" },
            Opt { name: "key", value: Some("KEY"), help: "the public key that the app shows" },
            EXPIRES,
            FORCE,
            JSON,
            STATE_DIR,
            CONFIG,
        ],
        ..command("device add", &["PARTY", "NAME"], "let somebody with a WireGuard app in", device::add)
    },
    command("device list", &["PARTY"], "list the devices of a party", device::list),
    command("device remove", &["PARTY", "DEVICE"], "take a device out of a party", device::remove),
    Command {
        details: "Who opens the link makes a file for the app. With --code it is short enough to be read out, and a\n\
                  LANrage client takes it in place of a party's id; it is good for 24 hours at most.",
        options: &[
            Opt { name: "uses", value: Some("NUMBER"), help: "how many friends may come by it [1]" },
            EXPIRES,
            Opt { name: "code", value: None, help: "a code to be typed, instead of a link" },
            JSON,
            STATE_DIR,
            CONFIG,
        ],
        ..command("invite create", &["PARTY"], "make a link or code by which friends get in", invite::create)
    },
    command("invite list", &["PARTY"], "list the invites of a party", invite::list),
    command("invite revoke", &["PARTY", "INVITE"], "end an invite", invite::revoke),
    command("ui", &[], "print a link to the pages in the browser", ui::run),
    Command {
        details: "The daemon remembers the last 200. With --json each is a line.",
        options: &[Opt { name: "follow", value: None, help: "go on until Ctrl-C" }, JSON, STATE_DIR, CONFIG],
        ..command("events", &[], "show what happened lately", events::run)
    },
    Command {
        details: "It serves the parties of the server at URL, once the owner there has approved it: `lanrage relay list`\n\
                  there shows its key. It prints one line, `listening relay=ADDRESS`, and logs to standard error.\n\
                  Whatever else is a setting comes from the environment or the settings file, as for `lanrage serve`.\n\
                  SIGTERM or SIGINT stop it.",
        options: &[
            Opt { name: "control", value: Some("URL"), help: "the server, as in http://router.lan:8667" },
            Opt {
                name: "control-key",
                value: Some("KEY"),
                help: "the server's public key, if it has another one than before [the first one seen]",
            },
            Opt { name: "region", value: Some("NAME"), help: "where it is, for players to see" },
            Opt { name: "relay", value: Some("ADDR:PORT"), help: "where it listens (UDP) [0.0.0.0:51820]" },
            Opt {
                name: "public-endpoint",
                value: Some("HOST:PORT"),
                help: "where players reach it, if that is not where it speaks from",
            },
            Opt { name: "subnet", value: Some("CIDR"), help: "the virtual LAN, as the server has it" },
            Opt { name: "log", value: Some("LEVEL"), help: "off, error, warn, info, debug or trace [info]" },
            STATE_DIR,
            CONFIG,
        ],
        ..command("relay", &[], "run a relay alone, in another place", relay::run)
    },
    command("relay list", &[], "list all relays, and those that wait", relay::list),
    Command {
        details: "KEY is its key, or the first 12 or more characters: compare them with what the relay has logged.\n\
                  From then on it is told of all parties, and players are told of it.",
        ..command("relay approve", &["RELAY", "KEY"], "let a relay in another place serve", relay::approve)
    },
    command("relay revoke", &["RELAY"], "take that back", relay::revoke),
    Command {
        details: "The copy is consistent, whether the daemon is running or not, and appears only when it is\n\
                  complete. It holds the hub's private key, says so in its first line, and is readable by you\n\
                  alone. `lanrage restore` goes back to it. The owner's page (`lanrage ui`) does both, too.",
        options: &[FORCE, JSON, STATE_DIR, CONFIG],
        ..command("backup", &["FILE"], "copy the daemon's state to a file", backup::run)
    },
    Command {
        details: "FILE is a backup, of this machine or of another one: what players have stays good, because the\n\
                  hub's key and all addresses come along. Stop the daemon before, and start it afterwards. What\n\
                  was there is kept under another name.",
        ..command("restore", &["FILE"], "go back to a backup", restore::run)
    },
    Command {
        details: "Without FILE it is the one in the state directory. Nothing is changed. Exit code 1 says that\n\
                  something is wrong with it.",
        ..command("db check", &["[FILE]"], "verify a state file or a backup", db::check)
    },
    Command {
        details: "Without FILE it is the state of the daemon, running or not. One JSON object a line, in any\n\
                  case; secrets are left out, so that this is no backup.",
        ..command("db dump", &["[FILE]"], "print everything in a state file or a backup", db::dump)
    },
    #[cfg(feature = "cluster")]
    Command {
        details: "Nobody may have either open, and the realm has to be empty. The file is not changed. What players\n\
                  have stays good, because the hub's key and all addresses come along.",
        options: &[STORE, REALM, JSON, CONFIG],
        ..command("db import", &["FILE"], "copy a state file into PostgreSQL", db::import)
    },
    #[cfg(feature = "cluster")]
    Command {
        details: "Nobody may have it open, and FILE may not exist yet. The database is not changed. For a copy while\n\
                  lanrage runs there is `lanrage backup`.",
        options: &[STORE, REALM, JSON, CONFIG],
        ..command("db export", &["FILE"], "copy the state in PostgreSQL to a new file", db::export)
    },
    Command {
        details: "It takes about five seconds, needs no daemon and no rights, and uses loopback alone.",
        options: &[JSON],
        ..command("bench", &[], "measure what this machine can carry", bench::run)
    },
    Command { options: &[JSON], ..command("genkey", &[], "make a WireGuard private key", keys::genkey) },
    Command {
        details: "The private key is read from standard input: `lanrage genkey | lanrage pubkey`.",
        options: &[JSON],
        ..command("pubkey", &[], "print the public key of a private key", keys::pubkey)
    },
];

/// The command called `name`.
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

/// Whether `name` is the first word of several commands.
pub fn is_group(name: &str) -> bool {
    COMMANDS.iter().any(|command| command.name.split_once(' ').is_some_and(|(group, _)| group == name))
}
