//! Bodies that stay the same for as long as the program runs, so that clients can keep them.

use crate::wire::http::{Answer, Request};
use std::borrow::Cow;

/// Such a body.
pub struct StaticBody {
    content_type: &'static str,
    body: Cow<'static, [u8]>,
    etag: String,
}

impl StaticBody {
    /// Of this media type.
    pub fn new(content_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        let body = body.into();
        let etag = format!("\"{:016x}\"", hash(&body));
        StaticBody { content_type, body, etag }
    }

    /// The answer to a GET: without the body for a client that has it already (RFC 9110, section 13.1.2).
    pub fn answer(&self, request: &Request) -> Answer {
        let known = request.if_none_match.as_deref().is_some_and(|list| names(list, &self.etag));
        let (status, content_type, body) =
            if known { (304, "", Vec::new()) } else { (200, self.content_type, self.body.to_vec()) };
        Answer { status, content_type, headers: vec![("ETag", self.etag.clone())], body }
    }
}

/// The answer with a body made for this request, or without it for a client that has one in which `same` was the same.
pub fn tagged(request: &Request, content_type: &'static str, body: Vec<u8>, same: &[u8]) -> Answer {
    let etag = format!("\"{:016x}\"", hash(same));
    let known = request.if_none_match.as_deref().is_some_and(|list| names(list, &etag));
    let (status, content_type, body) = if known { (304, "", Vec::new()) } else { (200, content_type, body) };
    Answer { status, content_type, headers: vec![("ETag", etag)], body }
}

/// Whether an `If-None-Match` has this tag in it. Weak and strong tags are alike here.
fn names(list: &str, etag: &str) -> bool {
    let mut tags = list.split(',').map(str::trim);
    list.trim() == "*" || tags.any(|one| one.strip_prefix("W/").unwrap_or(one) == etag)
}

/// FNV-1a. Both versions are ours: nobody makes them collide.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_names_what_it_has() {
        let etag = "\"1f\"";
        for list in ["\"1f\"", "W/\"1f\"", "\"0\", \"1f\"", "\"0\",W/\"1f\" ,\"2\"", "*"] {
            assert!(names(list, etag), "{list}");
        }
        for list in ["", "1f", "\"1\"", "\"1f", "\"1F\"", "\"0\", \"2\"", "W/1f", "\"a,*,b\""] {
            assert!(!names(list, etag), "{list}");
        }
    }

    #[test]
    fn different_bodies_have_different_tags() {
        let tag = |body: &'static str| StaticBody::new("text/html", body.as_bytes()).etag;
        assert_eq!(tag(""), "\"cbf29ce484222325\"");
        assert_eq!(tag("a"), "\"af63dc4c8601ec8c\"");
        assert_ne!(tag("ab"), tag("ba"));
    }
}
