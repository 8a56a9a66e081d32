//! What an owner has of a follower: commands, figures, and a log without secrets.

use super::{Instances, SOON, figure, pairs};
use crate::client::{key_of, text};
use crate::database::Database;
use crate::eventually;
use crate::harness::alone;
use crate::socket::Socket;
use lanrage::crypto::hex;
use lanrage::wire::json::{self, Value};

#[test]
#[ignore = "needs PostgreSQL"]
fn commands_work_at_any_instance() {
    let _alone = alone();
    let instances = Instances::start();
    for at in 0..3 {
        let (daemon, elsewhere) = (&instances.all[at], &instances.all[(at + 1) % 3]);
        let (party, guest) = (format!("Friday{at}"), format!("guest{at}"));
        let status = daemon.say("status");
        assert!(status.contains(&daemon.http.to_string()) && status.contains("tokens"), "{status}");
        daemon.say(&format!("party create {party} --open"));
        // Who was told that it is made sees it there at once, and elsewhere soon.
        assert!(daemon.say("party list").contains(&party));
        eventually("it is listed elsewhere", || elsewhere.say("party list").contains(&party));
        let list = json::parse(elsewhere.say("party list --json").as_bytes()).unwrap();
        let Some(Value::Array(all)) = list.get("parties") else { panic!("{list:?}") };
        let id = all.iter().find(|one| text(one, &["name"]) == party).map(|one| text(one, &["party_id"]));
        let id = id.unwrap();
        let shown = daemon.say(&format!("device add {party} phone --key {}", key_of("phone")));
        assert!(shown.contains("[Interface]"), "{shown}");
        assert!(daemon.say(&format!("device list {party}")).contains("phone"));
        let mut client = elsewhere.client();
        client.register(&guest).join(&id, &guest).is(200);
        instances.settle();
        daemon.say(&format!("peer kick {party} {guest}"));
        assert!(!daemon.say(&format!("party show {party}")).contains(&guest));
        instances.settle();
        client.heartbeat(&id, &guest).is(404);
        daemon.say(&format!("invite create {party} --code"));
        daemon.say(&format!("party set {party} --name Saturday{at}"));
        daemon.say(&format!("party delete Saturday{at}"));
        assert!(!daemon.say("party list").contains("Saturday"));
    }
}

#[test]
#[ignore = "needs PostgreSQL"]
fn figures_say_who_writes_and_how_far_the_others_are() {
    let _alone = alone();
    let instances = Instances::start();
    let of = |name: &str| -> Vec<f64> {
        let all = instances.all.iter();
        all.map(|daemon| figure(daemon, name).unwrap_or_else(|| panic!("no {name}"))).collect()
    };
    let before = of("lanrage_forwarded_total");
    for at in 0..3 {
        for round in 0..5 {
            instances.client(at).register(&format!("p{at}x{round}"));
        }
    }
    instances.settle();
    assert_eq!(of("lanrage_instance_writes"), [1.0, 0.0, 0.0]);
    let epoch: f64 = instances.database.query("select epoch from lanrage.realm").unwrap().parse().unwrap();
    assert_eq!(of("lanrage_realm_epoch"), [epoch; 3]);
    assert_eq!(of("lanrage_realm_commits"), [instances.commits() as f64; 3]);
    let lag = of("lanrage_follower_lag_seconds");
    assert!(lag[0] == 0.0 && lag.iter().all(|lag| *lag < SOON.as_secs_f64()), "{lag:?}");
    let after = of("lanrage_forwarded_total");
    let forwarded: Vec<f64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    println!("lag {lag:?} s, forwarded {forwarded:?}");
    assert!(forwarded[0] == 0.0 && forwarded[1] >= 5.0 && forwarded[2] >= 5.0, "{forwarded:?}");
    assert_eq!(of("lanrage_forward_failures_total"), [0.0; 3]);
    // An answer for a health check, wherever.
    for at in 0..3 {
        instances.client(at).get("/").is(200);
    }
}

#[test]
#[ignore = "needs PostgreSQL"]
fn no_log_has_a_secret() {
    let _alone = alone();
    let database = Database::start();
    let url = database.url().replace("postgres@", "postgres:of-the-database@");
    let instances = Instances::over(&url, &[("admin_token", "of-the-owner-himself")], database);
    let mut secrets = vec!["of-the-database".to_owned(), "of-the-owner-himself".to_owned()];
    let stored = "select value from lanrage.rows where key = 'hub_private_key'";
    let stored = instances.database.query(stored).unwrap();
    let hub = stored.trim_matches('"').to_owned();
    assert!(hub.len() >= 43, "{}", hub.len());
    if let Some(bytes) = lanrage::crypto::x25519::PublicKey::decode(&hub) {
        secrets.push(hex::encode(bytes.as_bytes()));
    }
    secrets.push(hub);
    for (at, elsewhere) in pairs() {
        let (host, guest) = (format!("host{at}{elsewhere}"), format!("guest{at}{elsewhere}"));
        let mut client = instances.client(at);
        let party = client.register(&host).create("LAN", &host);
        secrets.push(client.token.clone().unwrap());
        let path = format!("/parties/{party}");
        let invite = client.ask("POST", &format!("{path}/invites"), "{}").is(200).text(&["token"]);
        let key = lanrage::crypto::x25519::PrivateKey::generate().public_key().encode();
        let wish = format!("{{\"token\":\"{invite}\",\"name\":\"Phone\",\"public_key\":\"{key}\"}}");
        let redeemed = instances.client(elsewhere).ask("POST", "/invites/redeem", &wish).is(200);
        secrets.push(redeemed.text(&["device_token"]));
        let code = client.ask("POST", &format!("{path}/invites"), "{\"code\":true}").is(200).text(&["code"]);
        let mut other = instances.client(elsewhere);
        other.register(&guest).join(&code, &guest).is(200);
        secrets.push(other.token.clone().unwrap());
        let mut session = Socket::of(&other, instances.all[elsewhere].http);
        session.hear("party_update");
        session.say("{\"type\":\"nonsense\"}");
        session.hear_error();
        let signal = format!("{{\"to_peer_id\":\"{guest}\",\"signal_data\":\"between-us\"}}");
        client.ask("POST", &format!("{path}/signals"), &signal).is(200);
        session.hear("signal");
        let password = format!("secret-of-{at}{elsewhere}");
        let body = format!("{{\"access\":\"password\",\"password\":\"{password}\"}}");
        client.ask("POST", &format!("{path}/settings"), &body).is(200);
        secrets.push(password);
        secrets.extend([invite, code, "between-us".to_owned()]);
        client.ask("POST", "/instances", "nonsense");
    }
    instances.all[1].say("party create Own --password");
    let mut admin = instances.client(2).with_token("of-the-owner-himself");
    admin.get("/parties").is(200);
    for (daemon, name) in instances.all.iter().zip(&instances.names) {
        let log = daemon.log();
        assert!(log.contains("realm \"default\""), "{log}");
        for secret in &secrets {
            assert!(!log.contains(secret.as_str()), "{name} says {secret}");
        }
        println!("{name}: {} bytes of log, none of {} secrets in it", log.len(), secrets.len());
    }
}
