//! Every row is told everywhere, and once.

use super::prometheus::{Histogram, text};
use super::{
    DropReason, Drops, FAMILIES, Figure, MemberStats, Reach, Readings, Resource, SeenMember, Traffic, Unit,
    Usage, Volume, status,
};
use crate::ids::PeerId;
use crate::owners::{Level, Prefix};
use crate::wire::json::{Value, object, parse};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Figures of which each has a number of its own, with something for every label.
fn readings() -> Readings {
    let mut readings = Readings::default();
    let mut numbers = 1000..;
    let mut next = || numbers.next().unwrap();
    for figure in Figure::ALL {
        readings.set(figure, next());
    }
    for kind in Traffic::ALL {
        readings.stats.add_run(kind, next() as usize, next() as usize);
    }
    let mut drops = Drops::default();
    DropReason::ALL.into_iter().for_each(|reason| drops.add_many(reason, next()));
    readings.stats.drop_all(&drops);
    let network = Prefix::of(IpAddr::from([192, 0, 2, 7]), Level::Network);
    readings.tables = Resource::ALL
        .map(|resource| {
            let [held, limit, most] = [next() as usize, next() as usize, next() as usize];
            Usage { resource, held, limit, largest: Some((network, most)) }
        })
        .into();
    #[cfg(feature = "cluster")]
    {
        let [epoch, commits, asked, unanswered, fenced] = [next(), next(), next(), next(), next()];
        let (follows, lag) = (None, Duration::from_millis(70));
        readings.instance =
            Some(super::InstanceReading { follows, epoch, commits, lag, asked, unanswered, fenced });
    }
    readings.requests.insert(("/status", 200), next());
    readings.latency = Histogram::default();
    readings.latency.observe(Duration::from_micros(70));
    readings.members = Reach::ALL
        .map(|reach| {
            let mut count = || Volume { packets: next(), bytes: next() };
            let stats = MemberStats { from: count(), to: count(), reach, ..MemberStats::NOTHING };
            let mut drops = Drops::default();
            drops.add_many(DropReason::InnerSource, next());
            let handshake_age = Duration::from_secs(next());
            SeenMember { peer: PeerId::new(reach.word()).unwrap(), stats, drops, handshake_age }
        })
        .into();
    readings
}

fn as_json(readings: &Readings) -> Value {
    let text = object(|json| {
        status::write_figures(json, "", readings);
        status::write_traffic(json.key("traffic"), readings);
        status::write_members(json.key("members"), readings);
        status::write_tables(json.key("tables"), readings);
        json.key("store").object(|json| status::write_figures(json, "store", readings));
    });
    parse(text.as_bytes()).unwrap()
}

fn schema() -> Value {
    let text = status::schema(
        "",
        &[
            ("traffic", status::traffic_schema()),
            ("members", status::members_schema()),
            ("tables", status::tables_schema()),
            ("store", status::schema("store", &[])),
        ],
    );
    parse(text.as_bytes()).unwrap()
}

fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, name| {
        value.get(name).unwrap_or_else(|| panic!("{path:?} is missing: {value:?}"))
    })
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        other => panic!("not an array: {other:?}"),
    }
}

fn number(value: u64) -> Value {
    Value::Number(value.to_string().into())
}

/// The value at a path of `/status`.
fn path(row: &super::FigureRow) -> Vec<&'static str> {
    row.status.split('.').collect()
}

#[test]
fn no_row_is_in_two_places() {
    let all = || Figure::ALL.into_iter().map(Figure::row);
    let metrics: Vec<&str> =
        all().map(|row| row.metric).chain(FAMILIES.iter().map(|family| family.metric)).collect();
    // What else is written into the same objects.
    let others = ["version", "http", "state_dir", "subnet", "relay", "traffic", "members", "tables", "store"];
    let words =
        Traffic::ALL.into_iter().map(Traffic::word).chain(["drops"]).map(|word| format!("traffic.{word}"));
    let statuses: Vec<String> = all()
        .map(|row| row.status.to_owned())
        .chain(others.map(str::to_owned))
        .chain(words)
        .chain(["store.status".to_owned()])
        .collect();
    let lines: Vec<&str> =
        all().filter_map(|row| row.line).chain(Traffic::ALL.into_iter().filter_map(Traffic::line)).collect();
    let reasons: Vec<&str> = DropReason::ALL.into_iter().map(DropReason::word).collect();
    let tables: Vec<&str> = Resource::ALL.into_iter().map(Resource::word).collect();
    let statuses: Vec<&str> = statuses.iter().map(String::as_str).collect();
    for names in [metrics, statuses, lines, reasons, tables] {
        let different: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
    }
    for row in all() {
        assert!(["", "store", "traffic"].contains(&row.path().0), "{}: who writes that object?", row.status);
    }
}

#[test]
fn every_row_has_its_own_number() {
    for (index, figure) in Figure::ALL.into_iter().enumerate() {
        assert_eq!(figure as usize, index);
    }
    for (index, reason) in DropReason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, index);
    }
    for (index, kind) in Traffic::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, index);
    }
}

#[test]
fn metrics_have_every_row() {
    let readings = readings();
    let text = text(&readings);
    let lines: BTreeSet<&str> = text.lines().collect();
    let has = |line: String| assert!(lines.contains(line.as_str()), "{line}\n{text}");
    for figure in Figure::ALL {
        let row = figure.row();
        has(format!("# HELP {} {}", row.metric, row.help));
        let value = readings.stats.values.of(figure);
        has(match row.unit {
            Unit::Number => format!("{} {value}", row.metric),
            Unit::Bool => format!("{} 1", row.metric),
            Unit::Micros => format!("{} {}", row.metric, value as f64 / 1e6),
        });
    }
    for family in FAMILIES {
        has(format!("# HELP {} {}", family.metric, family.help));
        let samples = lines.iter().filter(|line| {
            line.strip_prefix(family.metric).is_some_and(|rest| rest.starts_with(['{', '_', ' ']))
        });
        assert!(samples.count() > 0, "{} tells nothing", family.metric);
    }
    for kind in Traffic::ALL {
        let count = readings.stats.traffic(kind);
        has(format!("lanrage_relay_packets_total{{kind=\"{}\"}} {}", kind.word(), count.packets));
        has(format!("lanrage_relay_bytes_total{{kind=\"{}\"}} {}", kind.word(), count.bytes));
    }
    for reason in DropReason::ALL {
        has(format!(
            "lanrage_relay_drops_total{{reason=\"{}\"}} {}",
            reason.word(),
            readings.stats.dropped(reason)
        ));
    }
    for table in &readings.tables {
        let (word, most) = (table.resource.word(), table.largest.unwrap().1);
        has(format!("lanrage_table_used{{table=\"{word}\"}} {}", table.held));
        has(format!("lanrage_table_limit{{table=\"{word}\"}} {}", table.limit));
        has(format!("lanrage_table_largest{{table=\"{word}\",network=\"192.0.2.0/24\"}} {most}"));
    }
    for SeenMember { peer, stats, drops, handshake_age } in &readings.members {
        has(format!("lanrage_relay_member_path{{peer=\"{peer}\",path=\"{}\"}} 1", stats.reach.word()));
        let bytes = "lanrage_relay_member_bytes_total";
        has(format!("{bytes}{{peer=\"{peer}\",direction=\"to\"}} {}", stats.to.bytes));
        let packets = "lanrage_relay_member_packets_total";
        has(format!("{packets}{{peer=\"{peer}\",direction=\"from\"}} {}", stats.from.packets));
        let dropped = drops.of(DropReason::InnerSource);
        has(format!("lanrage_relay_member_drops_total{{peer=\"{peer}\",reason=\"inner_source\"}} {dropped}"));
        let age = handshake_age.as_secs();
        has(format!("lanrage_relay_member_handshake_age_seconds{{peer=\"{peer}\"}} {age}"));
    }
    assert_eq!(
        text.matches("lanrage_relay_member_drops_total{").count(),
        readings.members.len(),
        "none of 0"
    );
    has("lanrage_http_requests_total{route=\"/status\",status=\"200\"} ".to_owned()
        + &readings.requests[&("/status", 200)].to_string());
    has("lanrage_http_request_seconds_count 1".to_owned());
}

#[test]
fn status_and_its_description_have_every_row() {
    let readings = readings();
    let (json, schema) = (as_json(&readings), schema());
    let described = |path: &[&str], help: &str| {
        let mut object = &schema;
        for name in path {
            assert!(
                items(at(object, &["required"])).iter().any(|one| one.as_str() == Some(name)),
                "{path:?}"
            );
            object = at(object, &["properties", name]);
        }
        assert_eq!(at(object, &["description"]).as_str(), Some(help), "{path:?}");
    };
    for figure in Figure::ALL {
        let (row, value) = (figure.row(), readings.stats.values.of(figure));
        let found = at(&json, &path(row));
        match row.unit {
            Unit::Number => assert_eq!(*found, number(value), "{}", row.status),
            Unit::Bool => assert_eq!(*found, Value::Bool(true), "{}", row.status),
            Unit::Micros => assert_eq!(*found, Value::Number((value as f64 / 1e6).to_string().into())),
        }
        described(&path(row), row.help);
    }
    for kind in Traffic::ALL {
        let found = at(&json, &["traffic", kind.word()]);
        let count = readings.stats.traffic(kind);
        assert_eq!(
            (at(found, &["packets"]), at(found, &["bytes"])),
            (&number(count.packets), &number(count.bytes))
        );
        described(&["traffic", kind.word()], kind.help());
    }
    for reason in DropReason::ALL {
        let path = ["traffic", "drops", reason.word()];
        assert_eq!(*at(&json, &path), number(readings.stats.dropped(reason)));
        described(&path, reason.help());
    }
    let choices = |path: &[&str]| -> Vec<&str> {
        let items = items(at(&schema, path)).iter();
        items.filter_map(Value::as_str).collect()
    };
    let paths = ["properties", "members", "items", "properties", "path", "enum"];
    assert_eq!(choices(&paths), Reach::ALL.map(Reach::word));
    let tables = ["properties", "tables", "items", "properties", "table", "enum"];
    assert_eq!(choices(&tables), Resource::ALL.map(Resource::word));
    for (table, shown) in readings.tables.iter().zip(items(at(&json, &["tables"]))) {
        assert_eq!(at(shown, &["table"]).as_str(), Some(table.resource.word()));
        assert_eq!(*at(shown, &["used"]), number(table.held as u64));
        assert_eq!(*at(shown, &["limit"]), number(table.limit as u64));
        assert_eq!(*at(shown, &["largest", "used"]), number(table.largest.unwrap().1 as u64));
    }
    for (member, shown) in readings.members.iter().zip(items(at(&json, &["members"]))) {
        assert_eq!(at(shown, &["path"]).as_str(), Some(member.stats.reach.word()));
        assert_eq!(*at(shown, &["from", "bytes"]), number(member.stats.from.bytes));
        assert_eq!(
            *at(shown, &["drops"]),
            Value::Object(vec![("inner_source".into(), number(member.drops.of(DropReason::InnerSource)))])
        );
        let Value::Object(members) = shown else { panic!("{shown:?}") };
        let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, choices(&["properties", "members", "items", "required"]));
    }
}

/// Whoever writes the name of a metric somewhere else, but in a test, has begun a second list.
#[test]
fn metrics_are_named_here_alone() {
    fn look(directory: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let shown = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string();
            if path.is_dir() {
                look(&path, found);
            } else if !shown.starts_with("src/figures") && !shown.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let names = Figure::ALL
                    .into_iter()
                    .map(|figure| figure.row().metric)
                    .chain(FAMILIES.iter().map(|family| family.metric));
                found
                    .extend(names.filter(|name| text.contains(*name)).map(|name| format!("{shown}: {name}")));
            }
        }
    }
    let mut found = Vec::new();
    look(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.is_empty(), "{found:?}");
}
