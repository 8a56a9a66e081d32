//! The description of the API. What it says of each route is checked from outside.

use super::openapi::{document, line, shape};
use super::routes::ROUTES;
use crate::wire::json::{JsonWriter, Value, parse};

#[test]
fn every_route_says_what_it_is() {
    for route in ROUTES {
        let (first, others) = route.docs.split_once('\n').expect(route.path);
        let (id, summary) = first.split_once(": ").expect(route.path);
        assert!(!id.is_empty() && !summary.is_empty(), "{first}");
        let same = ROUTES.iter().filter(|other| other.docs.starts_with(&format!("{id}:")));
        assert_eq!(same.count(), 1, "{id}");
        assert!(line(route, "means").is_some() && line(route, "answer").is_some(), "{id}");
        for other in others.lines() {
            let word = other.split(' ').next().unwrap();
            assert!(["also", "note", "query", "means", "answer", "media"].contains(&word), "{other}");
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(value: &Value, document: &Value) -> usize {
        match value {
            Value::Object(members) => members
                .iter()
                .map(|(name, value)| match (name.as_str(), value) {
                    ("$ref", Value::String(target)) => {
                        let mut steps = target.split('/');
                        assert_eq!(steps.next(), Some("#"));
                        let found = steps.try_fold(document, |at, step| at.get(step));
                        assert!(found.is_some(), "{target}");
                        1
                    }
                    ("type", Value::String(name)) => {
                        let types =
                            ["object", "array", "string", "integer", "number", "boolean", "null", "http"];
                        assert!(types.contains(&name.as_str()), "{name}");
                        0
                    }
                    _ => check(value, document),
                })
                .sum(),
            Value::Array(items) => items.iter().map(|item| check(item, document)).sum(),
            _ => 0,
        }
    }
    let document = parse(document().as_bytes()).unwrap();
    assert!(check(&document, &document) > 100);
}

#[test]
fn shapes_are_schemas() {
    let schema = |text: &str| {
        let mut json = JsonWriter::default();
        shape(&mut json, text);
        json.finish()
    };
    for (text, expected) in [
        ("string", r#"{"type":"string"}"#),
        ("any", "{}"),
        ("Peer", r##"{"$ref":"#/components/schemas/Peer"}"##),
        ("\"a {b}, c\"", r#"{"const":"a {b}, c"}"#),
        ("\"a\" | \"b\"", r#"{"enum":["a","b"]}"#),
        ("[[integer]]", r#"{"type":"array","items":{"type":"array","items":{"type":"integer"}}}"#),
        ("{}", r#"{"type":"object","required":[],"properties":{}}"#),
        (
            "exactly {a: {b: any}, c?: [string]}",
            r#"{"type":"object","required":["a"],"properties":{"a":{"type":"object","required":["b"],"properties":{"b":{}}},"c":{"type":"array","items":{"type":"string"}}},"additionalProperties":false}"#,
        ),
        (
            "{Id: string}",
            r##"{"type":"object","propertyNames":{"$ref":"#/components/schemas/Id"},"additionalProperties":{"type":"string"}}"##,
        ),
        ("any & {}", r#"{"allOf":[{},{"type":"object","required":[],"properties":{}}]}"#),
        (r#"{"minimum":1}"#, r#"{"minimum":1}"#),
    ] {
        assert_eq!(schema(text), expected, "{text}");
    }
}

#[test]
fn it_is_small_enough_to_carry_around() {
    // A quarter of it is made of the tables of figures, whose texts `/metrics` has, too.
    let length = document().len();
    assert!(length <= 76 * 1024, "{length} bytes");
}
