//! What an agent keeps in its state directory: who it is, its party, and how that was when it was last heard of. A crash
//! resumes the same membership by it. Files are written anew beside the old ones and then take their places (0600, in a
//! directory that is created with 0700).

use super::whole_file::{self, Persistence};
use crate::agent::session::PartyGoal;
use crate::crypto::x25519::PrivateKey;
use crate::ids::{PartyId, PeerId};
use crate::wire::control::{PartyAnswer, PartyBody};
use crate::wire::json::{self, object};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A longer file is not one of ours, in bytes.
const MAX_FILE: u64 = 4 << 20;
const STATE: &str = "agent.json";
/// What LANrage's clients keep while they have no server (REFERENCE 4).
const CONTROL_STATE: &str = "control_state.json";
const DISCOVERY: &str = "discovery.json";

/// What is kept.
#[derive(Clone)]
pub struct AgentState {
    /// Our WireGuard key.
    pub key: PrivateKey,
    /// Our id.
    pub peer_id: PeerId,
    /// What people call us.
    pub name: String,
    /// The UDP port, 0 if it is not chosen yet: two machines behind one NAT should not have the same.
    pub port: u16,
    /// The mark for TAI64N.
    pub stamp_mark: u64,
    /// The membership, if there is one.
    pub membership: Option<Membership>,
}

/// A membership that goes on.
#[derive(Clone)]
pub struct Membership {
    /// The server, as a URL.
    pub server: String,
    /// The party, or the one that is to be made.
    pub goal: PartyGoal,
    /// The name that the party was made by, if we made it.
    pub hosts: Option<String>,
    /// The token.
    pub token: Option<String>,
    /// The party's password: who is away for long needs it again.
    pub password: Option<String>,
    /// Whether the party is still to be given that.
    pub protects: bool,
    /// The party when it was last heard of.
    pub last: Option<PartyAnswer>,
}

/// The files of one agent.
#[derive(Clone, Debug)]
pub struct AgentFiles {
    directory: PathBuf,
}

impl AgentFiles {
    /// In this directory, which is made if it is not there.
    pub fn new(directory: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        Ok(AgentFiles { directory: directory.to_owned() })
    }

    /// What was kept; `None` if nothing was.
    pub fn read(&self) -> io::Result<Option<AgentState>> {
        let mut text = Zeroizing::new(Vec::new());
        match File::open(self.directory.join(STATE)) {
            Ok(file) => file.take(MAX_FILE).read_to_end(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let path = self.directory.join(STATE);
        let unusable = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} is unusable: move it away", path.display()),
            )
        };
        parse(&text).map(Some).ok_or_else(unusable)
    }

    /// Keeps this from now on.
    pub fn write(&self, state: &AgentState) -> io::Result<()> {
        self.replace(STATE, &Zeroizing::new(render(state)))
    }

    /// Writes what LANrage's clients keep while they have no server.
    pub fn write_local(&self, peer: &PeerId, party: &PartyBody) -> io::Result<()> {
        let id = party.head.party_id.as_str();
        let state = object(|json| {
            json.key("parties").object(|json| party.write(json.key(id)));
            json.key("my_peer_id").string(peer.as_str());
            json.key("my_party_id").string(id);
        });
        self.replace(CONTROL_STATE, &state)?;
        self.replace(DISCOVERY, &object(|json| party.write(json.key(id))))
    }

    /// Removes that, as there is a server.
    pub fn remove_local(&self) {
        for name in [CONTROL_STATE, DISCOVERY] {
            // There is none, most often.
            let _ = fs::remove_file(self.directory.join(name));
        }
    }

    fn replace(&self, name: &str, content: &str) -> io::Result<()> {
        whole_file::replace(&self.directory.join(name), content.as_bytes(), Persistence::OnDisk)
    }
}

fn render(state: &AgentState) -> String {
    object(|json| {
        json.key("private_key").string(&state.key.encode());
        json.key("peer_id").string(state.peer_id.as_str());
        json.key("name").string(&state.name);
        json.key("port").int(state.port);
        json.key("stamp_mark").int(state.stamp_mark);
        let Some(membership) = &state.membership else { return };
        json.key("server").string(&membership.server);
        match &membership.goal {
            PartyGoal::Join(party) => json.key("party_id").string(party.as_str()),
            PartyGoal::Host(name) => json.key("party_name").string(name),
        }
        if let Some(name) = &membership.hosts {
            json.key("hosts").string(name);
        }
        if let Some(token) = &membership.token {
            json.key("token").string(token);
        }
        if let Some(password) = &membership.password {
            json.key("password").string(password);
            json.key("protects").bool(membership.protects);
        }
        if let Some(last) = &membership.last {
            json.key("last").raw(&last.text());
        }
    })
}

fn parse(text: &[u8]) -> Option<AgentState> {
    let names = [
        "private_key",
        "peer_id",
        "name",
        "port",
        "stamp_mark",
        "server",
        "party_id",
        "party_name",
        "hosts",
        "token",
        "password",
        "protects",
        "last",
    ];
    let [key, peer_id, name, port, mark, server, party, party_name, hosts, token, password, protects, last] =
        json::members(text, names).ok()?;
    let goal = match (party.read::<Option<String>>()?, party_name.read::<Option<String>>()?) {
        (Some(party), _) => Some(PartyGoal::Join(PartyId::stored(&party)?)),
        (None, Some(name)) => Some(PartyGoal::Host(name)),
        (None, None) => None,
    };
    let last = match last {
        // An older or newer version's is no loss: the server says it anew.
        json::Part::Nested(text) => PartyAnswer::read(text.as_bytes()).ok(),
        _ => None,
    };
    let (hosts, token) = (hosts.read::<Option<String>>()?, token.read::<Option<String>>()?);
    let (password, protects) = (password.read::<Option<String>>()?, protects.read::<Option<bool>>()?);
    let membership = server.read::<Option<String>>()?.zip(goal).map(|(server, goal)| Membership {
        server,
        goal,
        hosts,
        token,
        password,
        protects: protects.unwrap_or_default(),
        last,
    });
    Some(AgentState {
        key: PrivateKey::decode(&Zeroizing::new(key.read::<String>()?))?,
        peer_id: PeerId::new(&peer_id.read::<String>()?)?,
        name: name.read()?,
        port: port.read()?,
        stamp_mark: mark.read()?,
        membership,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn state() -> AgentState {
        AgentState {
            key: PrivateKey::from_bytes([7; 32]),
            peer_id: PeerId::new("alice").unwrap(),
            name: "Alice".into(),
            port: 40_000,
            stamp_mark: u64::MAX,
            membership: Some(Membership {
                server: "http://192.0.2.1:8667".into(),
                goal: PartyGoal::Join(PartyId::new("abc").unwrap()),
                hosts: Some("Friday".into()),
                token: Some("secret".into()),
                password: Some("sesame".into()),
                protects: true,
                last: None,
            }),
        }
    }

    #[test]
    fn what_is_kept_reads_back_and_is_nobody_elses() {
        let directory = std::env::temp_dir().join(format!("lanrage-agent-{}", std::process::id()));
        let files = AgentFiles::new(&directory).unwrap();
        assert!(files.read().unwrap().is_none());
        files.write(&state()).unwrap();
        // A write that was broken off.
        fs::write(directory.join("agent.new"), "{").unwrap();
        files.write(&state()).unwrap();
        let read = files.read().unwrap().unwrap();
        assert_eq!(render(&read), render(&state()));
        assert_eq!(fs::metadata(directory.join(STATE)).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o7777, 0o700);
        let without = AgentState { membership: None, ..state() };
        files.write(&without).unwrap();
        assert!(files.read().unwrap().unwrap().membership.is_none());
        fs::write(directory.join(STATE), "{}").unwrap();
        assert!(files.read().err().unwrap().to_string().contains("move it away"));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::remove_dir_all(&directory).unwrap();
    }
}
