//! `lanrage join`, `lanrage host` and `lanrage leave`.

use super::ask::DaemonClient;
use super::command::Invocation;
use super::table::escape;
use super::{CommandFailure, output, secret, serve, settings};
use lanrage::agent::session::PartyGoal;
use lanrage::daemon::agent::{AgentArrival, AgentDaemon, AgentWish, leave_at_rest};
use lanrage::daemon::{Bell, SignalWatch, Supervisor, log_output, now};
use lanrage::ids::PartyId;
use lanrage::sys::interface::NAME_LENGTH;
use lanrage::wire::server_url::ServerUrl;
use std::rc::Rc;
use std::time::Duration;

/// Longest name, in characters.
const MAX_NAME: usize = 100;
/// How long a goodbye may take: the server may be away.
const GOODBYE: Duration = Duration::from_secs(30);

/// `lanrage join [URL] [PARTY]`, of which URL may be an invite's link.
pub fn join(invocation: &Invocation) -> Result<(), CommandFailure> {
    let told = invocation.option("party-file").map(secret::of_file).transpose()?;
    let (first, second) = match &told {
        None => (invocation.argument(0), invocation.argument(1)),
        Some(line) => {
            let mut words = line.split_whitespace();
            (words.next(), words.next())
        }
    };
    let party = match (first, second) {
        (None, _) => None,
        (Some(link), None) => Some(of_link(invocation, link)?),
        (Some(url), Some(party)) => {
            let party = PartyId::new(party);
            let party = party.ok_or_else(|| invocation.wrong("PARTY is no party's id"))?;
            Some((server(url)?, PartyGoal::Join(party)))
        }
    };
    run(invocation, party, secret::given(invocation)?)
}

/// The server and the invite of a link, which looks like `http://HOST:PORT/join#SECRET`.
fn of_link(invocation: &Invocation, link: &str) -> Result<(ServerUrl, PartyGoal), CommandFailure> {
    let Some((url, secret)) = link.split_once("/join#") else {
        return Err(
            invocation.wrong("PARTY is missing: the id or the code that the host has been shown, or a link")
        );
    };
    // It stands where a party's id does until the server has said which party it is to.
    let secret = PartyId::stored(secret).ok_or_else(|| invocation.wrong("the link is incomplete"))?;
    Ok((server(url)?, PartyGoal::Join(secret)))
}

/// `lanrage host URL NAME`.
pub fn host(invocation: &Invocation) -> Result<(), CommandFailure> {
    let (url, name) =
        (invocation.argument(0).unwrap_or_default(), invocation.argument(1).unwrap_or_default());
    check_name(invocation, "NAME", name)?;
    let password = invocation.has("password").then(secret::passphrase);
    run(invocation, Some((server(url)?, PartyGoal::Host(name.to_owned()))), password)
}

fn server(url: &str) -> Result<ServerUrl, CommandFailure> {
    ServerUrl::parse(url).map_err(CommandFailure::usage)
}

fn check_name(invocation: &Invocation, what: &str, name: &str) -> Result<(), CommandFailure> {
    match (1..=MAX_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(invocation
            .wrong(&format!("{what} has 1 to {MAX_NAME} characters, none of them a control character"))),
    }
}

fn run(
    invocation: &Invocation,
    party: Option<(ServerUrl, PartyGoal)>,
    password: Option<String>,
) -> Result<(), CommandFailure> {
    // SIGHUP means nothing here, and is no reason to end: a terminal that is closed sends it.
    lanrage::sys::ignore_hangups();
    let name = invocation.option("name");
    if let Some(name) = name {
        check_name(invocation, "--name", name)?;
    }
    let level = if invocation.has("verbose") { log::LevelFilter::Debug } else { log::LevelFilter::Info };
    let interface = invocation.option("interface").unwrap_or("lanrage0").to_owned();
    if interface.is_empty() || interface.len() > NAME_LENGTH || interface.contains(['/', ' ']) {
        return Err(invocation.wrong("--interface is no name of an interface"));
    }
    let signals = SignalWatch::new().map_err(CommandFailure::failed)?;
    serve::start_log(level);
    let stop = signals.stop(Bell::default()).map_err(CommandFailure::failed)?;
    let wish = AgentWish {
        party,
        password,
        name: name.map(str::to_owned),
        state_dir: settings::state_dir(invocation)?,
        interface: interface.clone(),
        offload: !invocation.has("no-offload"),
    };
    let supervisor = Rc::new(Supervisor::from_environment());
    let agent = AgentDaemon::open(wish).map_err(CommandFailure::failed)?.supervised(supervisor);
    let result = agent.run(stop, |arrival| {
        if !log_output::print(&welcome(&arrival, &interface)) {
            log::debug!("the welcome was not printed");
        }
    });
    result.map_err(|error| CommandFailure::failed(error).said_at_once())
}

fn welcome(arrival: &AgentArrival, interface: &str) -> String {
    let AgentArrival { party, server, ip, is_host, password } = arrival;
    let head = &party.party.head;
    let others = party.party.peers.len().saturating_sub(1);
    let mut text = format!(
        "joined party={} ip={ip} interface={interface} name=\"{}\" others={others}\n",
        head.party_id,
        escape(&head.name)
    );
    if *is_host {
        let option = if password.is_some() { " --password" } else { "" };
        text += &format!(
            "\nFriends on Linux join with\n\n    sudo lanrage join {server} {}{option}\n\n{}The address of the server has to be \
             one that they reach, too. The party ends with `lanrage leave`.\n",
            head.party_id,
            password
                .as_ref()
                .map_or_else(String::new, |password| format!("The password is {}\n\n", escape(password)))
        );
    }
    text
}

/// `lanrage leave`.
pub fn leave(invocation: &Invocation) -> Result<(), CommandFailure> {
    let client = DaemonClient::of_agent(invocation)?;
    let party = match std::fs::symlink_metadata(&client.socket) {
        Ok(_) => client.ask("POST", "/leave", &[]).map(|_| {
            // It says goodbye, and ends.
            let start = now().instant;
            while client.ask("GET", "/peers", &[]).is_ok() && now().instant.since(start) < GOODBYE {
                std::thread::sleep(Duration::from_millis(20));
            }
            true
        }),
        Err(_) => leave_at_rest(&client.state_dir).map_err(CommandFailure::failed),
    };
    // What is left of one that was killed.
    let party = party.or_else(|failure| match leave_at_rest(&client.state_dir) {
        Ok(true) => Ok(true),
        _ => Err(failure),
    })?;
    match (party, invocation.has("json")) {
        (true, true) => output::write("{\"status\":\"left\"}\n"),
        (true, false) => output::write("This machine has left the party.\n"),
        (false, _) => Err(CommandFailure::failed("this machine takes part in no party")),
    }
}
