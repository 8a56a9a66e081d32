//! `/openapi.json` against the table of routes. What it says of each is checked from outside.

use super::openapi::document;
use super::routes::Place;
use crate::wire::json::{Value, parse};
use std::collections::BTreeSet;

fn members(value: &Value) -> &[(String, Value)] {
    match value {
        Value::Object(members) => members,
        other => panic!("not an object: {other:?}"),
    }
}

#[test]
fn the_document_has_every_route_and_method_and_no_other() {
    let document = parse(document().as_bytes()).unwrap();
    let described: BTreeSet<(String, String)> = members(document.get("paths").unwrap())
        .iter()
        .flat_map(|(path, item)| {
            let methods = members(item).iter().filter(|(name, _)| name != "parameters");
            methods.map(|(method, _)| (path.clone(), method.to_uppercase()))
        })
        .collect();
    let served: BTreeSet<(String, String)> = Place::all()
        .flat_map(|(_, path, methods)| {
            methods.iter().map(move |method| (path.to_owned(), method.as_str().to_owned()))
        })
        .collect();
    assert_eq!(described, served);
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
fn its_version_is_the_program_s() {
    let document = parse(document().as_bytes()).unwrap();
    let version = document.get("info").and_then(|info| info.get("version")).and_then(Value::as_str);
    assert_eq!(version, Some(env!("CARGO_PKG_VERSION")));
}

#[test]
fn it_is_small_enough_to_carry_around() {
    let length = include_str!("openapi.json").len();
    assert!(length <= 34 * 1024, "{length} bytes");
}
