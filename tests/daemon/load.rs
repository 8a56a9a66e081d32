//! Clients that change things and remember what was acknowledged, to compare with what is there after the
//! daemon was ended and started again.

use crate::Random;
use crate::client::{Answer, Client, create_body, join_body, key_of, members};
use crate::test_daemon::TestDaemon;
use lanrage::wire::json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

const PEERS: usize = 10;
const PARTIES: usize = 6;

/// A party as the daemon has it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Party {
    name: String,
    host: String,
    members: BTreeSet<String>,
    /// Peer ids and keys.
    bans: BTreeSet<String>,
}

/// A request that was sent and not answered: it may have been done or not.
#[derive(Clone, Debug)]
enum Doubt {
    /// The name and host of a party whose id never came.
    Created(String, String),
    /// What a party is if it was done; `None` if it is gone then.
    Changed(String, Option<Party>),
    /// Nothing that could be told apart.
    Nothing,
}

/// One client and all that it knows to be so. Worlds share nothing with each other.
pub struct World {
    name: String,
    random: Random,
    created: usize,
    tokens: BTreeMap<String, String>,
    addresses: BTreeMap<String, String>,
    parties: BTreeMap<String, Party>,
    doubt: Doubt,
    /// How many changes were acknowledged.
    pub acknowledged: usize,
}

impl World {
    pub fn new(number: u64) -> Self {
        World {
            name: format!("w{number}"),
            random: Random::new(number),
            created: 0,
            tokens: BTreeMap::new(),
            addresses: BTreeMap::new(),
            parties: BTreeMap::new(),
            doubt: Doubt::Nothing,
            acknowledged: 0,
        }
    }

    fn some<'a, T>(random: &mut Random, of: impl ExactSizeIterator<Item = &'a T>) -> Option<&'a T> {
        let count = of.len();
        let mut of = of;
        if count == 0 { None } else { of.nth(random.below(count)) }
    }

    fn ask(
        &mut self,
        client: &mut Client,
        by: &str,
        method: &str,
        path: &str,
        body: &str,
    ) -> io::Result<Answer> {
        client.token = self.tokens.get(by).cloned();
        let answer = client.try_ask(method, path, body)?;
        // A daemon that is about to end may say so instead.
        if answer.status == 503 {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.acknowledged += 1;
        Ok(answer.is(200))
    }

    fn register(&mut self, client: &mut Client, peer: &str) -> io::Result<()> {
        let answer = self.ask(client, peer, "POST", &format!("/auth/register?peer_id={peer}"), "")?;
        self.tokens.insert(peer.to_owned(), answer.text(&["token"]));
        Ok(())
    }

    /// An address stays with its peer for good.
    fn learn(&mut self, peer: &str, address: String) {
        let known = self.addresses.entry(peer.to_owned()).or_insert(address.clone());
        assert_eq!(*known, address, "{peer} got another address");
    }

    /// Makes one change.
    fn step(&mut self, client: &mut Client) -> io::Result<()> {
        let peer = format!("{}-p{}", self.name, self.random.below(PEERS));
        self.doubt = Doubt::Nothing;
        if !self.tokens.contains_key(&peer) || self.random.below(20) == 0 {
            return self.register(client, &peer);
        }
        if self.parties.len() < PARTIES && self.random.below(4) == 0 {
            return self.create(client, peer);
        }
        let Some(id) = Self::some(&mut self.random, self.parties.keys()).cloned() else { return Ok(()) };
        self.change(client, &id, peer)
    }

    fn create(&mut self, client: &mut Client, host: String) -> io::Result<()> {
        self.created += 1;
        let name = format!("{} party {}", self.name, self.created);
        self.doubt = Doubt::Created(name.clone(), host.clone());
        let answer = self.ask(client, &host, "POST", "/parties", &create_body(&name, &host))?;
        self.learn(&host, answer.text(&["network", "virtual_ip"]));
        let members = BTreeSet::from([host.clone()]);
        self.parties.insert(answer.text(&["party_id"]), Party { name, host, members, bans: BTreeSet::new() });
        self.doubt = Doubt::Nothing;
        Ok(())
    }

    fn change(&mut self, client: &mut Client, id: &str, peer: String) -> io::Result<()> {
        let path = format!("/parties/{id}");
        let before = self.parties[id].clone();
        let mut after = Some(before.clone());
        let party = after.as_mut().expect("it is there");
        let is_member = party.members.contains(&peer);
        let (is_banned, is_host) = (party.bans.contains(&peer), party.host == peer);
        let (by, method, path, body) = match self.random.below(10) {
            0 if self.parties.len() == PARTIES => {
                after = None;
                (before.host, "DELETE", path, String::new())
            }
            1 if is_host => {
                after = None;
                (peer.clone(), "DELETE", format!("{path}/peers/{peer}"), String::new())
            }
            2 if is_member && !is_host => {
                party.members.remove(&peer);
                (before.host, "DELETE", format!("{path}/peers/{peer}"), String::new())
            }
            3 | 4 if is_member && !is_host => {
                party.members.remove(&peer);
                (peer.clone(), "DELETE", format!("{path}/peers/{peer}"), String::new())
            }
            5 if !is_host && !is_banned => {
                party.bans.extend(is_member.then(|| key_of(&peer)));
                party.bans.insert(peer.clone());
                party.members.remove(&peer);
                (before.host, "POST", format!("{path}/bans"), format!("{{\"peer_id\":\"{peer}\"}}"))
            }
            6 | 7 if is_banned => {
                party.bans.remove(&peer);
                party.bans.remove(&key_of(&peer));
                let key = key_of(&peer).replace('+', "%2B");
                (before.host, "DELETE", format!("{path}/bans?peer_id={peer}&public_key={key}"), String::new())
            }
            _ if !is_member && !is_banned => {
                party.members.insert(peer.clone());
                (peer.clone(), "POST", format!("{path}/join"), join_body(id, &peer))
            }
            _ => return Ok(()),
        };
        self.doubt = Doubt::Changed(id.to_owned(), after.clone());
        let answer = self.ask(client, &by, method, &path, &body)?;
        if path.ends_with("/join") {
            self.learn(&peer, answer.text(&["network", "virtual_ip"]));
        }
        match after {
            Some(party) => self.parties.insert(id.to_owned(), party),
            None => self.parties.remove(id),
        };
        self.doubt = Doubt::Nothing;
        Ok(())
    }

    fn doubts(&self, id: &str) -> Option<Option<&Party>> {
        match &self.doubt {
            Doubt::Changed(changed, after) if changed == id => Some(after.as_ref()),
            _ => None,
        }
    }

    /// Compares with what the daemon has of one party, and goes on from that.
    fn compare(&mut self, id: &str, found: Option<(Party, BTreeMap<String, String>)>) {
        let before = &self.parties[id];
        let is_known = found.as_ref().map(|(party, _)| party) == Some(before);
        let is_doubtful =
            self.doubts(id).is_some_and(|after| after == found.as_ref().map(|(party, _)| party));
        assert!(is_known || is_doubtful, "{id} was {before:?}, in doubt {:?}, is {found:?}", self.doubt);
        match found {
            Some((party, addresses)) => {
                self.parties.insert(id.to_owned(), party);
                addresses.into_iter().for_each(|(peer, address)| self.learn(&peer, address));
            }
            None => {
                self.parties.remove(id);
            }
        }
    }
}

/// Has every world change things until the daemon does not answer any more; `end` ends it.
pub fn run(worlds: Vec<World>, daemon: &mut TestDaemon, end: impl FnOnce(&mut TestDaemon)) -> Vec<World> {
    let running = Running::start(worlds, &[daemon.http]);
    end(daemon);
    running.join()
}

/// Worlds that change things.
pub struct Running {
    threads: Vec<JoinHandle<World>>,
    is_over: Arc<AtomicBool>,
}

impl Running {
    /// Has every world ask the next of several instances each time, until one of them does not answer.
    pub fn start(worlds: Vec<World>, addresses: &[SocketAddr]) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let threads = worlds.into_iter().map(|mut world| {
            // Here and not in the thread, which may come too late for a daemon that soon ends.
            let mut clients: Vec<Client> = addresses.iter().copied().map(Client::connect).collect();
            let is_over = is_over.clone();
            std::thread::spawn(move || {
                for turn in 0.. {
                    let next = turn % clients.len();
                    if is_over.load(Ordering::Relaxed) || world.step(&mut clients[next]).is_err() {
                        break;
                    }
                }
                world
            })
        });
        Running { threads: threads.collect(), is_over }
    }

    /// Waits until every world has had its last answer.
    pub fn join(self) -> Vec<World> {
        self.threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }

    /// Lets every world do what it is at, and no more.
    #[allow(dead_code, reason = "where one daemon is tested, that is ended")]
    pub fn stop(self) -> Vec<World> {
        self.is_over.store(true, Ordering::Relaxed);
        self.join()
    }
}

fn party(owner: &mut Client, id: &str) -> Option<(Party, BTreeMap<String, String>)> {
    let answer = owner.get(&format!("/parties/{id}"));
    if answer.status == 404 {
        return None;
    }
    let answer = answer.is(200);
    let body = answer.json();
    let addresses = body.get("network").and_then(|network| network.get("peers")).unwrap();
    let addresses = members(addresses)
        .iter()
        .map(|(peer, address)| (peer.clone(), address.as_str().unwrap().to_owned()))
        .collect();
    let peers = body.get("party").and_then(|party| party.get("peers")).unwrap();
    let bans = owner.get(&format!("/parties/{id}/bans")).is(200).json();
    let Some(Value::Array(bans)) = bans.get("bans") else { panic!("no list of bans") };
    let parts = bans.iter().flat_map(|ban| members(ban).iter());
    let bans = parts.map(|(_, part)| part.as_str().unwrap().to_owned()).collect();
    Some((
        Party {
            name: answer.text(&["party", "name"]),
            host: answer.text(&["party", "host_id"]),
            members: members(peers).iter().map(|(peer, _)| peer.clone()).collect(),
            bans,
        },
        addresses,
    ))
}

/// Everything acknowledged is there, nothing acknowledged as removed is back, and every token is good.
pub fn verify(worlds: &mut [World], daemon: &TestDaemon) {
    let mut owner = daemon.owner();
    let listed = owner.get("/parties").is(200).json();
    let Some(Value::Array(listed)) = listed.get("parties") else { panic!("no list of parties") };
    for party in listed {
        let text = |name: &str| party.get(name).unwrap().as_str().unwrap().to_owned();
        let id = text("party_id");
        if worlds.iter().any(|world| world.parties.contains_key(&id)) {
            continue;
        }
        let (name, host) = (text("name"), text("host_id"));
        let is_doubtful = worlds.iter().any(
            |world| matches!(&world.doubt, Doubt::Created(wanted, by) if *wanted == name && *by == host),
        );
        assert!(is_doubtful, "{name} of {host} was never made, or is back");
        owner.ask("DELETE", &format!("/parties/{id}"), "").is(200);
    }
    let mut client = daemon.client();
    for world in worlds {
        for id in world.parties.keys().cloned().collect::<Vec<_>>() {
            let found = party(&mut owner, &id);
            world.compare(&id, found);
        }
        for (peer, token) in &world.tokens {
            client.token = Some(token.clone());
            client.get("/relays").is(200);
            for (id, party) in &world.parties {
                let status = client.heartbeat(id, peer).status;
                assert_eq!(status, if party.members.contains(peer) { 200 } else { 404 }, "{peer} in {id}");
            }
        }
        world.doubt = Doubt::Nothing;
    }
}
