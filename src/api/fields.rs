//! Checking what a request says, field by field, and saying what is wrong in the words of the stock API
//! (FastAPI's 422 items; tools match on `type` and `loc`).

use crate::ids::{MAX_ID_LENGTH, is_valid_id};
use crate::wire::decimal::whole;
use crate::wire::http::Answer;
use crate::wire::json::{JsonError, JsonWriter, Value, object};
use std::borrow::Cow;

/// Longest name of a party or peer, in characters.
pub const MAX_NAME_LENGTH: usize = 100;
/// Longest public key, in characters. Keys are opaque here; WireGuard's have 44.
pub const MAX_KEY_LENGTH: usize = 128;
/// Longest address or region, in characters.
pub const MAX_WORD_LENGTH: usize = 64;

/// How ids are spelled, for people and for `/openapi.json`.
const ID_PATTERN: &str = "^[A-Za-z0-9][A-Za-z0-9._-]*$";
/// How names are spelled: anything but control characters.
const NAME_PATTERN: &str = "^[^\\x00-\\x1f\\x7f-\\x9f]*$";

/// One thing that is wrong with a request.
#[derive(Debug)]
struct Problem {
    kind: &'static str,
    loc: String,
    message: Cow<'static, str>,
    input: Value,
    context: Option<(&'static str, Value)>,
}

/// Everything that is wrong with a request, in the order of its fields.
#[derive(Default, Debug)]
pub struct Problems {
    items: Vec<Problem>,
}

impl Problems {
    /// `Ok` if nothing is wrong.
    pub fn check(self) -> Result<(), Problems> {
        if self.items.is_empty() { Ok(()) } else { Err(self) }
    }

    /// The 422 answer.
    pub fn answer(self) -> Answer {
        let body = object(|json| {
            json.key("detail").array(|json| self.items.iter().for_each(|item| item.write(json)));
        });
        Answer::json(422, body)
    }

    /// A body that is no JSON.
    pub fn of_json(error: JsonError) -> Self {
        let loc = format!("[\"body\",{}]", error.offset);
        let context = Some(("error", Value::String(error.reason.to_owned())));
        let input = Value::Object(Vec::new());
        Problems {
            items: vec![Problem {
                kind: "json_invalid",
                loc,
                message: "JSON decode error".into(),
                input,
                context,
            }],
        }
    }

    /// All of it in one line, for those who get no list.
    pub fn summary(&self) -> String {
        let lines: Vec<String> =
            self.items.iter().map(|item| format!("{}: {}", item.loc, item.message)).collect();
        lines.join("; ")
    }

    fn add(
        &mut self,
        kind: &'static str,
        at: &At<'_>,
        message: impl Into<Cow<'static, str>>,
        input: &Value,
        context: Option<(&'static str, Value)>,
    ) {
        self.items.push(Problem {
            kind,
            loc: at.to_json(),
            message: message.into(),
            input: input.clone(),
            context,
        });
    }

    /// A value that is of the right type and still not usable.
    pub fn refuse(&mut self, at: &At<'_>, why: &'static str, input: &str) {
        let context = Some(("error", Value::String(why.to_owned())));
        self.add("value_error", at, format!("Value error, {why}"), &Value::String(input.to_owned()), context);
    }
}

impl Problem {
    fn write(&self, json: &mut JsonWriter) {
        json.object(|json| {
            json.key("type").string(self.kind);
            json.key("loc").raw(&self.loc);
            json.key("msg").string(&self.message);
            json.key("input").value(&self.input);
            if let Some((name, value)) = &self.context {
                json.key("ctx").object(|json| json.key(name).value(value));
            }
        });
    }
}

/// Where a field is, as in `["body", "host_peer_info", "name"]`.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    parent: Option<&'a At<'a>>,
    name: &'a str,
}

impl<'a> At<'a> {
    /// The body itself.
    pub const BODY: At<'static> = At { parent: None, name: "body" };
    /// The query itself.
    pub const QUERY: At<'static> = At { parent: None, name: "query" };

    /// The field `name` in here.
    pub const fn field(&'a self, name: &'a str) -> At<'a> {
        At { parent: Some(self), name }
    }

    fn to_json(self) -> String {
        let mut names = vec![self.name];
        let mut next = self.parent;
        while let Some(at) = next {
            names.push(at.name);
            next = at.parent;
        }
        let mut json = JsonWriter::default();
        json.array(|json| names.iter().rev().for_each(|name| json.string(name)));
        json.finish()
    }
}

/// What a text may be.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    min: usize,
    max: usize,
    pattern: &'static str,
    fits: fn(&str) -> bool,
}

fn has_no_controls(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

impl Text {
    /// An id.
    pub const ID: Text = Text { min: 1, max: MAX_ID_LENGTH, pattern: ID_PATTERN, fits: is_valid_id };
    /// A name.
    pub const NAME: Text =
        Text { min: 1, max: MAX_NAME_LENGTH, pattern: NAME_PATTERN, fits: has_no_controls };
    /// A public key.
    pub const KEY: Text = Text { min: 0, max: MAX_KEY_LENGTH, pattern: NAME_PATTERN, fits: has_no_controls };
    /// A host and a port.
    pub const WHERE: Text = Text { min: 1, max: 300, pattern: NAME_PATTERN, fits: has_no_controls };
    /// A password.
    pub const PASSWORD: Text =
        Text { min: 1, max: MAX_KEY_LENGTH, pattern: NAME_PATTERN, fits: has_no_controls };
    /// A text that nobody looks at.
    pub const ANY: Text = Text { min: 1, max: usize::MAX, pattern: "", fits: |_| true };
    /// An address or a region.
    pub const WORD: Text =
        Text { min: 1, max: MAX_WORD_LENGTH, pattern: NAME_PATTERN, fits: has_no_controls };
}

/// The members of an object, or nothing if it was none.
#[derive(Clone, Copy)]
pub struct ObjectFields<'a> {
    object: Option<&'a Value>,
    at: At<'a>,
}

impl<'a> ObjectFields<'a> {
    /// A whole body. `None` stands for an empty one.
    pub fn of_body(body: Option<&'a Value>, problems: &mut Problems) -> Self {
        let object = match body {
            Some(value @ Value::Object(_)) => Some(value),
            None | Some(Value::Null) => {
                problems.add("missing", &At::BODY, "Field required", &Value::Null, None);
                None
            }
            Some(other) => {
                let message = "Input should be a valid dictionary or object to extract fields from";
                problems.add("model_attributes_type", &At::BODY, message, other, None);
                None
            }
        };
        ObjectFields { object, at: At::BODY }
    }

    /// The query's parameters, as an object.
    pub fn of_query(query: &'a Value) -> Self {
        ObjectFields { object: Some(query), at: At::QUERY }
    }

    /// Where the field `name` is.
    pub fn at(&'a self, name: &'a str) -> At<'a> {
        self.at.field(name)
    }

    /// The value of an optional field; `null` counts as absent.
    pub fn optional(&self, name: &str) -> Option<&'a Value> {
        self.object?.get(name).filter(|value| **value != Value::Null)
    }

    /// The value of a field as it stands, also if that is `null`.
    pub fn given(&self, name: &str) -> Option<&'a Value> {
        self.object?.get(name)
    }

    /// The value of a field that has to be there.
    pub fn required(&self, name: &str, problems: &mut Problems) -> Option<&'a Value> {
        let object = self.object?;
        let found = object.get(name);
        if found.is_none() {
            problems.add("missing", &self.at.field(name), "Field required", object, None);
        }
        found
    }

    /// An object that has to be there.
    pub fn object(&'a self, name: &'a str, problems: &mut Problems) -> ObjectFields<'a> {
        let object = self.required(name, problems).and_then(|value| match value {
            Value::Object(_) => Some(value),
            other => {
                problems.add("dict_type", &self.at(name), "Input should be a valid dictionary", other, None);
                None
            }
        });
        ObjectFields { object, at: self.at(name) }
    }

    /// A text that has to be there.
    pub fn text(&self, name: &str, rule: Text, problems: &mut Problems) -> Option<&'a str> {
        let value = self.required(name, problems)?;
        check_text(value, rule, &self.at.field(name), problems)
    }

    /// A text that may be absent.
    pub fn optional_text(&self, name: &str, rule: Text, problems: &mut Problems) -> Option<&'a str> {
        check_text(self.optional(name)?, rule, &self.at.field(name), problems)
    }

    /// A whole number that has to be there.
    pub fn int(&self, name: &str, min: i64, max: i64, problems: &mut Problems) -> Option<i64> {
        let value = self.required(name, problems)?;
        check_int(value, min, max, &self.at.field(name), problems)
    }

    /// A whole number that may be absent.
    pub fn optional_int(&self, name: &str, min: i64, max: i64, problems: &mut Problems) -> Option<i64> {
        check_int(self.optional(name)?, min, max, &self.at.field(name), problems)
    }

    /// A whole number that may be absent, and is no text.
    pub fn optional_number(&self, name: &str, min: i64, max: i64, problems: &mut Problems) -> Option<i64> {
        let value = self.optional(name)?;
        let at = self.at.field(name);
        if matches!(value, Value::String(_)) {
            problems.add("int_type", &at, "Input should be a valid integer", value, None);
            return None;
        }
        check_int(value, min, max, &at, problems)
    }

    /// Yes or no, which may be absent.
    pub fn optional_bool(&self, name: &str, problems: &mut Problems) -> Option<bool> {
        match self.optional(name)? {
            Value::Bool(value) => Some(*value),
            other => {
                problems.add(
                    "bool_type",
                    &self.at.field(name),
                    "Input should be a valid boolean",
                    other,
                    None,
                );
                None
            }
        }
    }

    /// One of a few words, which may be absent.
    pub fn optional_word<T>(
        &self,
        name: &str,
        parse: fn(&str) -> Option<T>,
        expected: &'static str,
        problems: &mut Problems,
    ) -> Option<T> {
        let value = self.optional(name)?;
        let parsed = value.as_str().and_then(parse);
        if parsed.is_none() {
            let context = Some(("expected", Value::String(expected.to_owned())));
            problems.add("enum", &self.at.field(name), format!("Input should be {expected}"), value, context);
        }
        parsed
    }
}

fn check_text<'a>(value: &'a Value, rule: Text, at: &At<'_>, problems: &mut Problems) -> Option<&'a str> {
    let Some(text) = value.as_str() else {
        problems.add("string_type", at, "Input should be a valid string", value, None);
        return None;
    };
    let length = text.chars().count();
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let number = |count: usize| Value::Number(count.to_string().into());
    if length < rule.min {
        let message = format!("String should have at least {} character{}", rule.min, plural(rule.min));
        problems.add("string_too_short", at, message, value, Some(("min_length", number(rule.min))));
    } else if length > rule.max {
        let message = format!("String should have at most {} character{}", rule.max, plural(rule.max));
        problems.add("string_too_long", at, message, value, Some(("max_length", number(rule.max))));
    } else if !(rule.fits)(text) {
        let message = format!("String should match pattern '{}'", rule.pattern);
        let context = Some(("pattern", Value::String(rule.pattern.to_owned())));
        problems.add("string_pattern_mismatch", at, message, value, context);
    } else {
        return Some(text);
    }
    None
}

/// A whole number as pydantic takes it: 5, 5.0 and "5" are all five.
fn check_int(value: &Value, min: i64, max: i64, at: &At<'_>, problems: &mut Problems) -> Option<i64> {
    let (kind, message) = match value {
        Value::Number(text) => match whole(text) {
            Some(number) => return check_range(number, min, max, value, at, problems),
            None => {
                ("int_from_float", "Input should be a valid integer, got a number with a fractional part")
            }
        },
        Value::String(text) => match text.trim().parse::<i128>() {
            Ok(number) => return check_range(number, min, max, value, at, problems),
            Err(_) => {
                ("int_parsing", "Input should be a valid integer, unable to parse string as an integer")
            }
        },
        _ => ("int_type", "Input should be a valid integer"),
    };
    problems.add(kind, at, message, value, None);
    None
}

fn check_range(
    number: i128,
    min: i64,
    max: i64,
    input: &Value,
    at: &At<'_>,
    problems: &mut Problems,
) -> Option<i64> {
    let bound = |bound: i64| Value::Number(bound.to_string().into());
    if number < i128::from(min) {
        let message = format!("Input should be greater than or equal to {min}");
        problems.add("greater_than_equal", at, message, input, Some(("ge", bound(min))));
        None
    } else if number > i128::from(max) {
        let message = format!("Input should be less than or equal to {max}");
        problems.add("less_than_equal", at, message, input, Some(("le", bound(max))));
        None
    } else {
        i64::try_from(number).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::parse;

    /// `type`, `loc` of every problem that `check` finds with `body`.
    fn problems(body: &str, check: impl Fn(&ObjectFields<'_>, &mut Problems)) -> Vec<(&'static str, String)> {
        let body = parse(body.as_bytes()).unwrap();
        let mut problems = Problems::default();
        let fields = ObjectFields::of_body(Some(&body), &mut problems);
        check(&fields, &mut problems);
        problems.items.iter().map(|item| (item.kind, item.loc.clone())).collect()
    }

    fn text(body: &str) -> Vec<(&'static str, String)> {
        problems(body, |fields, problems| {
            fields.text("x", Text::NAME, problems);
        })
    }

    fn int(value: &str) -> Result<i64, &'static str> {
        let value = parse(value.as_bytes()).unwrap();
        let mut problems = Problems::default();
        check_int(&value, 1, 65_535, &At::BODY.field("port"), &mut problems)
            .ok_or_else(|| problems.items[0].kind)
    }

    #[test]
    fn texts() {
        let at = || "[\"body\",\"x\"]".to_owned();
        assert_eq!(text("{\"x\":\"ok\"}"), []);
        assert_eq!(text("{}"), [("missing", at())]);
        assert_eq!(text("{\"x\":1}"), [("string_type", at())]);
        assert_eq!(text("{\"x\":null}"), [("string_type", at())]);
        assert_eq!(text("{\"x\":\"\"}"), [("string_too_short", at())]);
        assert_eq!(text(&format!("{{\"x\":\"{}\"}}", "é".repeat(100))), []);
        assert_eq!(text(&format!("{{\"x\":\"{}\"}}", "é".repeat(101))), [("string_too_long", at())]);
        assert_eq!(text("{\"x\":\"a\\u0000\"}"), [("string_pattern_mismatch", at())]);
        assert_eq!(text("{\"x\":\"a\\u0085\"}"), [("string_pattern_mismatch", at())]);
        assert_eq!(text("[]"), [("model_attributes_type", "[\"body\"]".into())]);
        assert_eq!(text("null"), [("missing", "[\"body\"]".into())]);
    }

    #[test]
    fn whole_numbers_are_never_wrapped() {
        assert_eq!(int("51820"), Ok(51_820));
        assert_eq!(int("\" 51820 \""), Ok(51_820));
        assert_eq!(int("1.0"), Ok(1));
        assert_eq!(int("1e2"), Ok(100));
        assert_eq!(int("1.5"), Err("int_from_float"));
        assert_eq!(int("\"x\""), Err("int_parsing"));
        assert_eq!(int("true"), Err("int_type"));
        assert_eq!(int("[]"), Err("int_type"));
        assert_eq!(int("0"), Err("greater_than_equal"));
        assert_eq!(int("-999999"), Err("greater_than_equal"));
        for huge in ["65536", "18446744073709551615", "1e400", "99999999999999999999999999999999999999999999"]
        {
            assert_eq!(int(huge), Err("less_than_equal"), "{huge}");
        }
    }

    #[test]
    fn an_item_reads_as_the_stock_api_words_it() {
        let mut problems = Problems::default();
        let body = parse(b"{\"name\":\"\"}").unwrap();
        let fields = ObjectFields::of_body(Some(&body), &mut problems);
        fields.text("name", Text::NAME, &mut problems);
        fields.object("host_peer_info", &mut problems);
        let text = String::from_utf8(problems.answer().body).unwrap();
        assert_eq!(
            text,
            "{\"detail\":[{\"type\":\"string_too_short\",\"loc\":[\"body\",\"name\"],\
             \"msg\":\"String should have at least 1 character\",\"input\":\"\",\"ctx\":{\"min_length\":1}},\
             {\"type\":\"missing\",\"loc\":[\"body\",\"host_peer_info\"],\"msg\":\"Field required\",\
             \"input\":{\"name\":\"\"}}]}"
        );
    }
}
