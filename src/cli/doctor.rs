//! `lanrage doctor`: what keeps friends from getting in, and what to do about it. What the daemon knows it tells; what
//! this machine and its network say is looked at here, in a process of its own that may wait.

use super::ask::{DaemonClient, list, number, text};
use super::command::Invocation;
use super::measures::{date_of, size};
use super::output::Style;
use super::table::{Facts, escape};
use super::{CommandFailure, output};
use lanrage::net::way_out;
use lanrage::wire::endpoint;
use lanrage::wire::json::{self, Value};
use std::fs;
use std::net::{IpAddr, ToSocketAddrs};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long DNS, and another program, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// What WireGuard's own tools make of a tunnel, and what it costs outside by IPv4, in bytes.
const TUNNEL_MTU: u64 = 1420;
const OVERHEAD: u64 = 60;
/// The chain of OpenWrt's firewall in which what comes from outside is let in or not.
const FROM_WAN: [&str; 5] = ["list", "chain", "inet", "fw4", "input_wan"];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Judgement {
    Well,
    Wrong,
    /// It can't be told from here, or need not be a mistake.
    Unknown,
}

/// What was found in one place, and what to do about it, if anything.
struct Finding {
    topic: &'static str,
    verdict: Judgement,
    text: String,
    advice: String,
}

impl Finding {
    fn new(
        topic: &'static str,
        verdict: Judgement,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Finding { topic, verdict, text: text.into(), advice: advice.into() }
    }
}

/// Where each thing that a daemon may find belongs.
fn topic_of(what: &str) -> &'static str {
    match what {
        "endpoint_unset" | "endpoint_private" => "address",
        "not_reached" => "reached",
        "clock_unset" | "clock_set_back" => "clock",
        "storage" | "space_low" => "disk",
        // A newer daemon knows more.
        _ => "daemon",
    }
}

/// `lanrage doctor`.
pub fn run(invocation: &Invocation) -> Result<(), CommandFailure> {
    let daemon = DaemonClient::of(invocation)?;
    let (status, overview) = (daemon.ask("GET", "/status", &[])?, daemon.ask("GET", "/overview", &[])?);
    let mut found = of_daemon(&status.value, &overview.value);
    let relay = status.value.get("relay").unwrap_or(&Value::Null);
    // Of an address that nobody outside reaches enough is said already.
    let endpoint = endpoint::parse(text(relay, "endpoint")).filter(|(host, _)| !endpoint::is_private(host));
    if let Some((host, port)) = endpoint {
        found.push(match resolve(&host, port) {
            Ok(addresses) => name(&host, &addresses, &way_out::addresses().collect::<Vec<_>>()),
            Err(finding) => finding,
        });
    }
    let port = number(relay, "port");
    let chain = said_by("nft", &FROM_WAN);
    found.push(firewall(chain.as_deref(), port));
    found.push(mtu(uplink_mtu()));
    let is_well = found.iter().all(|finding| finding.verdict != Judgement::Wrong);
    match invocation.has("json") {
        true => output::write(&(as_json(is_well, &found) + "\n"))?,
        false => output::write(&human(&found, Style::of_stdout()))?,
    }
    // What is wrong has been said.
    if is_well { Ok(()) } else { Err(CommandFailure::failed("")) }
}

/// What the daemon knows.
fn of_daemon(status: &Value, overview: &Value) -> Vec<Finding> {
    let endpoint = status.get("relay").map_or("", |relay| text(relay, "endpoint"));
    let reached = number(overview, "reached_from_outside");
    let free = status.get("store").map_or(0, |store| number(store, "free_bytes"));
    let well = |topic, text| Finding::new(topic, Judgement::Well, text, "");
    let reached = match reached {
        0 => Finding::new("reached", Judgement::Unknown, "nobody came from the internet since the start", ""),
        last => well("reached", format!("somebody came from the internet, last on {}", date_of(last))),
    };
    let mut found = vec![
        well("address", format!("friends use {endpoint}")),
        reached,
        well("clock", "it is set".to_owned()),
        well("disk", format!("everything is kept; {} free", size(free))),
    ];
    for trouble in list(status, "trouble") {
        let topic = topic_of(text(trouble, "what"));
        // That nobody came yet need not be a mistake.
        let verdict = if topic == "reached" { Judgement::Unknown } else { Judgement::Wrong };
        found.retain(|finding| finding.topic != topic || finding.verdict == Judgement::Wrong);
        found.push(Finding::new(topic, verdict, text(trouble, "text"), text(trouble, "do")));
    }
    let gso = status.get("traffic").and_then(|traffic| traffic.get("gso"));
    found.push(match gso {
        Some(Value::Bool(true)) => Finding::new("offloads", Judgement::Well, "bursts leave as one (GSO)", ""),
        _ => Finding::new(
            "offloads",
            Judgement::Unknown,
            "every datagram is sent by itself (no GSO)",
            "It costs CPU and nothing else. `gso` is off in the settings, or this kernel or network card can't.",
        ),
    });
    found
}

/// The addresses of a name, as this machine sees them.
fn resolve(host: &str, port: u16) -> Result<Vec<IpAddr>, Finding> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let asked = (host.to_owned(), port);
    let found = in_time(move || asked.to_socket_addrs().map(|found| found.map(|one| one.ip()).collect()));
    match found {
        Some(Ok(found)) => Ok(found),
        Some(Err(_)) => Err(Finding::new(
            "name",
            Judgement::Wrong,
            format!("DNS knows no address of {host}"),
            "Correct the name, or see to what keeps it up to date (dynamic DNS).",
        )),
        None => Err(Finding::new(
            "name",
            Judgement::Unknown,
            format!("DNS did not say in time where {host} is"),
            "Look whether this machine's DNS server answers.",
        )),
    }
}

/// Whether what friends use leads to this machine, which goes out by the addresses `own`.
fn name(host: &str, found: &[IpAddr], own: &[IpAddr]) -> Finding {
    let finding = |verdict, text: String, advice: &str| Finding::new("name", verdict, text, advice);
    let listed = found.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
    let means = if host == listed { listed.clone() } else { format!("{host} ({listed})") };
    let outside = |address: &&IpAddr| !endpoint::is_private_address(**address);
    let same_family = |one: &IpAddr| found.iter().any(|other| other.is_ipv4() == one.is_ipv4());
    if found.iter().any(|address| own.contains(address)) {
        return finding(Judgement::Well, format!("{means} is this machine"), "");
    }
    if let Some(own) = own.iter().find(|own| outside(own) && same_family(own)) {
        return finding(
            Judgement::Wrong,
            format!("{means} is not this machine, which goes out by {own}"),
            "See to what keeps the name up to date (dynamic DNS), or enter the address that this machine has.",
        );
    }
    if let Some(own) = own.iter().find(|own| endpoint::is_provider_address(**own)) {
        return finding(
            Judgement::Wrong,
            format!(
                "this machine goes out by {own}: the provider shares one address among customers (CGNAT)"
            ),
            "Ask the provider for your own IPv4 address, or rent a small server: nobody can reach this one.",
        );
    }
    finding(
        Judgement::Unknown,
        format!("whether {means} is your router can't be told from behind it"),
        "Compare it with the address that your router's own page shows for the internet, and with https://ifconfig.me: \
         all have to be the same.",
    )
}

/// Whether OpenWrt's firewall lets the port in, by its chain for what comes from outside.
fn firewall(chain: Option<&str>, port: u64) -> Finding {
    let finding = |verdict, text: String, advice: &str| Finding::new("firewall", verdict, text, advice);
    match chain {
        None => finding(
            Judgement::Unknown,
            "not checked: there is no OpenWrt firewall to be read".to_owned(),
            &format!("If this machine has a firewall, let UDP port {port} in (`sudo ufw allow {port}/udp`)."),
        ),
        Some(chain) if lets_in(chain, port) => {
            finding(Judgement::Well, format!("UDP port {port} is let in from outside"), "")
        }
        Some(_) => finding(
            Judgement::Wrong,
            format!("UDP port {port} is not let in from outside"),
            "Set lanrage.service.firewall to 1 and run /etc/init.d/lanrage reload, or add a rule of your own.",
        ),
    }
}

/// Whether a rule of a chain, as nft prints it, accepts a UDP port.
fn lets_in(chain: &str, port: u64) -> bool {
    let covers = |part: &str| {
        let part = part.trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        matches!((first.trim().parse::<u64>(), last.trim().parse::<u64>()), (Ok(first), Ok(last)) if (first..=last).contains(&port))
    };
    chain.lines().filter(|rule| rule.contains("udp") && rule.contains("accept")).any(|rule| {
        let Some((_, ports)) = rule.split_once("dport ") else { return false };
        match ports.strip_prefix('{') {
            Some(set) => set.split('}').next().is_some_and(|set| set.split(',').any(covers)),
            None => ports.split(' ').next().is_some_and(covers),
        }
    })
}

/// Whether packets of tunnels fit the way out.
fn mtu(uplink: Option<u64>) -> Finding {
    let finding = |verdict, text: String, advice: String| Finding::new("MTU", verdict, text, advice);
    match uplink {
        None => {
            finding(Judgement::Unknown, "not checked: there is no IPv4 route out".to_owned(), String::new())
        }
        Some(mtu) if mtu >= TUNNEL_MTU + OVERHEAD => finding(
            Judgement::Well,
            format!("{mtu} on the way out: tunnels of {TUNNEL_MTU} fit"),
            String::new(),
        ),
        Some(mtu) => finding(
            Judgement::Unknown,
            format!("{mtu} on the way out: large packets of players go in pieces, which may get lost"),
            format!(
                "If games stall, have everybody write MTU = {} below Address in the file.",
                mtu.saturating_sub(OVERHEAD)
            ),
        ),
    }
}

/// The MTU of the interface that the default route is by.
fn uplink_mtu() -> Option<u64> {
    let routes = fs::read_to_string("/proc/net/route").ok()?;
    let interface = default_interface(&routes)?;
    fs::read_to_string(format!("/sys/class/net/{interface}/mtu")).ok()?.trim().parse().ok()
}

/// Of the kernel's list of routes: interface, destination, gateway, flags, three counts, mask.
fn default_interface(routes: &str) -> Option<&str> {
    routes.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (interface, destination, mask) = (words.next()?, words.next()?, words.nth(5)?);
        (destination == "00000000" && mask == "00000000").then_some(interface)
    })
}

/// What another program prints, if it can be run, succeeds, and does not take too long.
fn said_by(program: &'static str, arguments: &'static [&str]) -> Option<String> {
    let output = in_time(move || {
        Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output()
    });
    let output = output?.ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// What comes of something that can't be told how long it may take, if it does not take too long. Its thread ends with the
/// process.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(PATIENCE).ok()
}

fn human(found: &[Finding], style: Style) -> String {
    let mut facts = Facts::default();
    for finding in found {
        let text = escape(&finding.text);
        facts.styled(
            finding.topic,
            match finding.verdict {
                Judgement::Well => format!("{}: {text}", style.good("ok")),
                Judgement::Wrong => format!("{}: {text}", style.bad("wrong")),
                Judgement::Unknown => text,
            },
        );
        if !finding.advice.is_empty() {
            facts.add("", &finding.advice);
        }
    }
    facts.text(style)
}

fn as_json(is_well: bool, found: &[Finding]) -> String {
    json::object(|json| {
        json.key("is_well").bool(is_well);
        json.key("findings").array(|json| {
            for finding in found {
                json.object(|json| {
                    json.key("topic").string(finding.topic);
                    json.key("verdict").string(match finding.verdict {
                        Judgement::Well => "ok",
                        Judgement::Wrong => "wrong",
                        Judgement::Unknown => "unknown",
                    });
                    json.key("text").string(&finding.text);
                    json.key("do").string(&finding.advice);
                });
            }
        });
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(host: &str, found: &[&str], own: &[&str]) -> (Judgement, String) {
        let read = |all: &[&str]| all.iter().map(|one| one.parse().unwrap()).collect::<Vec<_>>();
        let Finding { verdict, text, .. } = name(host, &read(found), &read(own));
        (verdict, text)
    }

    #[test]
    fn a_name_has_to_lead_here() {
        let (home, here) = ("home.example.org", "203.0.113.7");
        assert_eq!(judged(home, &[here], &[here]).0, Judgement::Well);
        assert_eq!(judged(here, &[here], &["192.0.2.9", here]).1, "203.0.113.7 is this machine");
        let (verdict, said) = judged(home, &["198.51.100.1"], &[here]);
        assert!(verdict == Judgement::Wrong && said.contains("goes out by 203.0.113.7"), "{said}");
        // An address of the other family says nothing.
        assert_eq!(judged(home, &[here], &["192.168.1.2", "2001:db9::2"]).0, Judgement::Unknown);
        let (verdict, said) = judged(home, &[here], &["100.64.3.4"]);
        assert!(verdict == Judgement::Wrong && said.contains("CGNAT"), "{said}");
        assert_eq!(judged(home, &[here], &["10.0.0.2"]).0, Judgement::Unknown);
        assert_eq!(judged(home, &[here], &[]).0, Judgement::Unknown);
    }

    #[test]
    fn a_chain_of_the_firewall_is_read() {
        let chain = |rule: &str| format!("table inet fw4 {{\n\tchain input_wan {{\n\t\t{rule}\n\t}}\n}}\n");
        for rule in [
            "udp dport 51820 counter packets 0 bytes 0 accept comment \"!fw4: lanrage\"",
            "meta nfproto ipv4 udp dport { 500, 51820 } counter packets 0 bytes 0 accept",
            "meta l4proto { tcp, udp } th dport 51000-52000 accept",
        ] {
            assert!(lets_in(&chain(rule), 51820), "{rule}");
            assert_eq!(firewall(Some(&chain(rule)), 51820).verdict, Judgement::Well);
        }
        for rule in [
            "udp dport 51821 accept",
            "tcp dport 51820 accept",
            "udp dport 51820 drop",
            "udp sport 51820 accept",
            "udp dport { 5182, 1-51819 } accept",
        ] {
            assert!(!lets_in(&chain(rule), 51820), "{rule}");
        }
        assert_eq!(firewall(Some(""), 51820).verdict, Judgement::Wrong);
        assert_eq!(firewall(None, 51820).verdict, Judgement::Unknown);
    }

    #[test]
    fn the_way_out_is_the_default_route() {
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n\
                      lan\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\n\
                      wan\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\n";
        assert_eq!(default_interface(routes), Some("wan"));
        assert_eq!(default_interface(""), None);
        assert_eq!(mtu(Some(1492)).verdict, Judgement::Well);
        let narrow = mtu(Some(1430));
        assert!(
            narrow.verdict == Judgement::Unknown && narrow.advice.contains("MTU = 1370"),
            "{}",
            narrow.advice
        );
    }

    #[test]
    fn the_daemon_has_the_last_word_about_itself() {
        let status = json::parse(
            br#"{"trouble":[{"what":"clock_unset","text":"No\u001b clock.","do":"See to NTP."},
                 {"what":"from_tomorrow","text":"New.","do":"Wait."}],"relay":{"endpoint":"a.example:1"},
                 "store":{"free_bytes":5000000},"traffic":{"gso":true}}"#,
        )
        .unwrap();
        let overview = json::parse(br#"{"reached_from_outside":1790000000}"#).unwrap();
        let shown = human(&of_daemon(&status, &overview), Style::PLAIN);
        for line in [
            "address   ok: friends use a.example:1",
            "disk      ok: everything is kept; 5.0 MB free",
            "clock     wrong: No\\u{1b} clock.",
            "          See to NTP.",
            "daemon    wrong: New.",
            "offloads  ok: bursts leave as one (GSO)",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
        }
        assert!(!shown.contains("it is set") && shown.contains("last on 2026-"), "{shown}");
    }
}
