//! How many handshakes a second the hub can answer, beside other programs. Many members begin at once, all
//! together slower than any limit on handshakes, and the CPU time for each answer says how many there could be.

use super::Stand;
use super::harness::player::{Player, now};
use super::network::PLAYERS;
use super::players::member;
use super::process::process_cpu;
use super::rivals::{Rival, WIREGUARDS};
use super::table::Samples;
use super::volley::{LOST, micros};
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use lanrage::wireguard::cookie::Signer;
use lanrage::wireguard::message::{INITIATION_LENGTH, Message};
use lanrage::wireguard::noise::{Initiator, LocalIdentity, PresharedKey, RemoteIdentity};
use lanrage::wireguard::timestamp::StampClock;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// What one may cost beside boringtun's.
const BUDGET: f64 = 0.9;
/// Who begins them.
const MEMBERS: usize = PLAYERS / 2;
/// Between two volleys of them: boringtun wants cookies from 100 handshake messages a second on.
const PAUSE: Duration = Duration::from_millis(200);
/// Handshakes cost much and come seldom: a measurement takes so many times as long as others.
const LONGER: u32 = 4;

/// A member that begins a handshake whenever it is told to, which no real one does.
struct Member {
    socket: UdpSocket,
    local: LocalIdentity,
    remote: RemoteIdentity,
    stamps: StampClock,
    signer: Signer,
    server: SocketAddr,
}

impl Member {
    fn new(player: Player, hub: PublicKey, server: SocketAddr) -> Self {
        Member {
            socket: player.socket,
            local: LocalIdentity::new(player.key),
            remote: RemoteIdentity::new(hub, PresharedKey::default()).expect("a good key"),
            stamps: StampClock::new(0),
            signer: Signer::default(),
            server,
        }
    }

    /// Begins a handshake.
    fn begin(&mut self, index: u32) -> Initiator {
        let mut message = [0; INITIATION_LENGTH];
        let stamp = self.stamps.stamp(now().unix);
        let ephemeral = PrivateKey::generate();
        let initiator = Initiator::begin(&self.local, &self.remote, index, stamp, ephemeral, &mut message);
        self.signer.sign(self.remote.public_key(), &mut message, now().instant);
        self.socket.send_to(&message, self.server).expect("sending");
        initiator.expect("good keys")
    }

    /// Whether it is answered, and well. A cookie is kept for the next one.
    fn is_answered(&mut self, handshake: &Initiator) -> bool {
        let sent = Instant::now();
        let mut answer = [0; 2048];
        while sent.elapsed() < LOST {
            let Ok(length) = self.socket.recv(&mut answer) else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            match Message::parse(&answer[..length]) {
                Some(Message::Response(response))
                    if handshake.finish(&self.local, &self.remote, response).is_some() =>
                {
                    return true;
                }
                Some(Message::CookieReply(reply)) => {
                    self.signer.take_cookie(self.remote.public_key(), reply, now().instant);
                    return false;
                }
                _ => {}
            }
        }
        false
    }
}

/// CPU time for each handshake that was answered, in nanoseconds, and how many were not.
fn measure(members: &mut [Member], span: Duration, cpu: impl Fn() -> u64) -> (f64, usize) {
    let (mut answered, mut begun) = (0, 0);
    let (before, start) = (cpu(), Instant::now());
    while start.elapsed() < span {
        let due = Instant::now() + PAUSE;
        begun += members.len();
        let handshakes: Vec<_> = members.iter_mut().map(|member| member.begin(begun as u32)).collect();
        let pairs = members.iter_mut().zip(&handshakes);
        answered +=
            pairs.map(|(member, handshake)| usize::from(member.is_answered(handshake))).sum::<usize>();
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    ((cpu() - before) as f64 / answered.max(1) as f64, begun - answered)
}

/// Members of the hub beside peers of others.
pub fn run(stand: &mut Stand) {
    let (span, daemon) = (stand.scale.span * LONGER, stand.daemon.pid());
    for program in WIREGUARDS {
        let what = format!("hub: CPU for a handshake against {program}");
        let theirs: Vec<Player> = (0..MEMBERS)
            .map(|number| member(MEMBERS + number, Ipv4Addr::new(10, 66, 1, number as u8 + 1)))
            .collect();
        let key = PrivateKey::generate();
        let peers: Vec<_> = theirs.iter().map(|player| (player.key.public_key(), player.ip)).collect();
        let rival = stand.network.among_servers(|| Rival::hub(program, &key, &peers, stand.cores));
        let Some(rival) = rival else {
            stand.table.missing(&what, program);
            continue;
        };
        let mut theirs: Vec<Member> =
            theirs.into_iter().map(|player| Member::new(player, key.public_key(), rival.address)).collect();
        let mut ours: Vec<Player> =
            (0..MEMBERS).map(|number| member(number, Ipv4Addr::UNSPECIFIED)).collect();
        let hub = stand.make_parties(&format!("handshakes-{program}"), &mut ours);
        let mut ours: Vec<Member> =
            ours.into_iter().map(|player| Member::new(player, hub, stand.daemon.relay)).collect();
        let [mut own, mut other, mut ratio] = [const { Samples::new() }; 3];
        let mut unanswered = [0; 2];
        for _ in 0..stand.scale.rounds {
            let (mine, none) = measure(&mut ours, span, || process_cpu(daemon));
            unanswered[0] += none;
            let (yours, none) = measure(&mut theirs, span, || rival.cpu());
            unanswered[1] += none;
            own.push(mine);
            other.push(yours);
            ratio.push(mine / yours);
        }
        let per_second = |samples: &Samples| 1e9 / samples.median();
        let mut text = format!(
            "{:.2} x ({} to {}; {:.0} to {:.0} a second)",
            ratio.median(),
            micros(&own),
            micros(&other),
            per_second(&own),
            per_second(&other)
        );
        if unanswered != [0; 2] {
            text += &format!("; {} and {} had no answer", unanswered[0], unanswered[1]);
        }
        match program {
            "boringtun-cli" => stand.table.budget(&what, text, ratio.median(), BUDGET, " x"),
            _ => stand.table.note(&what, text),
        }
    }
}
