//! Figures in `/status`: their members of its JSON, and how `/openapi.json` describes these.

#[cfg(feature = "cluster")]
use super::InstanceReading;
use super::{
    DropReason, Drops, Figure, FigureRow, Reach, Readings, Resource, SeenMember, Traffic, Unit, Volume,
};
use crate::wire::decimal::Decimal;
use crate::wire::json::{JsonWriter, object};

/// A whole number from 0, in the description.
const COUNT: (&str, &str) = ("$ref", "#/components/schemas/Count");
/// Packets and bytes, in the description.
const TRAFFIC: (&str, &str) = ("$ref", "#/components/schemas/Traffic");

/// The rows of the figures in an object of `/status` (empty: the outermost), each with its key there.
pub fn rows(section: &str) -> impl Iterator<Item = (Figure, &'static str, &'static FigureRow)> {
    Figure::ALL.into_iter().filter_map(move |figure| {
        let row = figure.row();
        let (object, key) = row.path();
        (object == section).then_some((figure, key, row))
    })
}

/// Writes the figures of an object.
pub fn write_figures(json: &mut JsonWriter, section: &str, readings: &Readings) {
    for (figure, key, row) in rows(section) {
        let value = readings.stats.values.of(figure);
        let json = json.key(key);
        match row.unit {
            Unit::Number => json.int(value),
            Unit::Bool => json.bool(value > 0),
            Unit::Micros => json.raw(&Decimal::seconds(value).to_string()),
        }
    }
}

/// Writes `traffic`: what the relay has counted.
pub fn write_traffic(json: &mut JsonWriter, readings: &Readings) {
    json.object(|json| {
        for kind in Traffic::ALL {
            write_count(json.key(kind.word()), readings.stats.traffic(kind));
        }
        write_figures(json, "traffic", readings);
        write_drops(json, readings.stats.drops(), |_| true);
    });
}

/// Writes `instance`: what this one is in its realm.
#[cfg(feature = "cluster")]
pub fn write_instance(json: &mut JsonWriter, instance: &InstanceReading) {
    json.key("writes").bool(instance.follows.is_none());
    if let Some(writer) = &instance.follows {
        json.key("follows").string(writer);
        json.key("lag_seconds").raw(&Decimal::seconds(instance.lag.as_micros() as u64).to_string());
    }
    json.key("epoch").int(instance.epoch);
    json.key("commits").int(instance.commits);
}

/// Writes `members`: whom the relay has seen.
pub fn write_members(json: &mut JsonWriter, readings: &Readings) {
    json.array(|json| {
        for SeenMember { peer, stats, drops, handshake_age } in &readings.members {
            json.object(|json| {
                json.key("peer_id").string(peer.as_str());
                json.key("path").string(stats.reach.word());
                json.key("handshake_seconds").int(handshake_age.as_secs());
                for (direction, count) in stats.directions() {
                    write_count(json.key(direction), count);
                }
                write_drops(json, drops, |count| count > 0);
            });
        }
    });
}

/// Writes `tables`: how full everything is.
pub fn write_tables(json: &mut JsonWriter, readings: &Readings) {
    json.array(|json| {
        for table in &readings.tables {
            json.object(|json| {
                json.key("table").string(table.resource.word());
                json.key("used").int(table.held as u64);
                json.key("limit").int(table.limit as u64);
                if let Some((network, held)) = table.largest {
                    json.key("largest").object(|json| {
                        json.key("network").string(&network.to_string());
                        json.key("used").int(held as u64);
                    });
                }
            });
        }
    });
}

fn write_count(json: &mut JsonWriter, count: Volume) {
    json.object(|json| {
        json.key("packets").int(count.packets);
        json.key("bytes").int(count.bytes);
    });
}

fn write_drops(json: &mut JsonWriter, drops: &Drops, told: impl Fn(u64) -> bool) {
    json.key("drops").object(|json| {
        for (reason, count) in drops.iter().filter(|&(_, count)| told(count)) {
            json.key(reason.word()).int(count);
        }
    });
}

/// Describes an object of `/status`, or `/status` itself (empty): its figures, and what else is in it, by name. All of
/// that is always there.
pub fn schema(section: &str, others: &[(&str, String)]) -> String {
    let figures = rows(section).map(|(_, key, row)| {
        let kind = match row.unit {
            Unit::Number => COUNT,
            Unit::Bool => ("type", "boolean"),
            Unit::Micros => ("type", "number"),
        };
        (key, of_kind(kind, row.help))
    });
    let others = others.iter().map(|(name, schema)| (*name, schema.clone()));
    object_schema(others.chain(figures).collect(), None)
}

/// Describes `traffic`.
pub fn traffic_schema() -> String {
    let mut others: Vec<_> = Traffic::ALL.map(|kind| (kind.word(), of_kind(TRAFFIC, kind.help()))).into();
    let reasons = DropReason::ALL.map(|reason| (reason.word(), of_kind(COUNT, reason.help())));
    others.push(("drops", object_schema(reasons.into(), None)));
    schema("traffic", &others)
}

/// Describes `members`.
pub fn members_schema() -> String {
    array_schema(object_schema(
        vec![
            ("peer_id", of_kind(("$ref", "#/components/schemas/Id"), "Who it is.")),
            ("path", choice(&Reach::ALL.map(|reach| (reach.word(), reach.help())))),
            ("handshake_seconds", of_kind(COUNT, "Since its last session came up.")),
            ("from", of_kind(TRAFFIC, "Data from it.")),
            ("to", of_kind(TRAFFIC, "Data to it.")),
            ("drops", of_kind(("type", "object"), "What came from its address and went nowhere, by reason.")),
        ],
        None,
    ))
}

/// Describes `tables`.
pub fn tables_schema() -> String {
    let largest = vec![
        ("network", of_kind(("type", "string"), "The network that holds most, if any holds something.")),
        ("used", of_kind(COUNT, "How much it holds.")),
    ];
    array_schema(object_schema(
        vec![
            ("table", choice(&Resource::ALL.map(|resource| (resource.word(), resource.help())))),
            ("used", of_kind(COUNT, "What is held.")),
            ("limit", of_kind(COUNT, "How much there may be.")),
        ],
        Some(("largest", object_schema(largest, None))),
    ))
}

/// Describes something of a kind (a keyword and its value) by what it is.
fn of_kind((keyword, value): (&str, &str), help: &str) -> String {
    object(|json| {
        json.key(keyword).string(value);
        json.key("description").string(help);
    })
}

/// Describes one of several words, each with what it means.
fn choice(words: &[(&str, &str)]) -> String {
    let each: Vec<String> = words.iter().map(|(word, help)| format!("`{word}`: {help}")).collect();
    object(|json| {
        json.key("enum").array(|json| words.iter().for_each(|(word, _)| json.string(word)));
        json.key("description").string(&each.join(" "));
    })
}

fn array_schema(items: String) -> String {
    object(|json| {
        json.key("type").string("array");
        json.key("items").raw(&items);
    })
}

/// Describes an object with these members, and one more perhaps.
fn object_schema(members: Vec<(&str, String)>, optional: Option<(&str, String)>) -> String {
    object(|json| {
        json.key("type").string("object");
        json.key("required").array(|json| members.iter().for_each(|(name, _)| json.string(name)));
        json.key("properties").object(|json| {
            members.iter().chain(&optional).for_each(|(name, schema)| json.key(name).raw(schema));
        });
    })
}
