//! What a route is, and how a path leads to one.

use super::admission::Cost;
use super::{Api, Call, Handling};
use crate::wire::percent;
use std::borrow::Cow;
use tiny_http::Method;

/// Who may ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Everybody.
    Anyone,
    /// Everybody who names this machine as its owner does: not a page that had a name of its own rebound to it.
    KnownHost,
    /// A peer, by its token, or the admin. The handler decides which peer.
    Peer,
    /// A device, by the token that it was given; the handler looks.
    Device,
    /// The owner of the daemon: the Unix socket or the admin token.
    Admin,
    /// The same, or whoever is on this machine.
    LocalOrAdmin,
}

impl Access {
    /// Whether no peer may ask, whoever it is.
    pub fn is_admins(self) -> bool {
        matches!(self, Access::Admin | Access::LocalOrAdmin)
    }

    /// Whether it is only for who names this machine as its owner does.
    pub fn wants_known_host(self) -> bool {
        self.is_admins() || self == Access::KnownHost
    }

    /// Whether nobody is asked who they are.
    pub fn is_open(self) -> bool {
        matches!(self, Access::Anyone | Access::KnownHost)
    }
}

/// What happens to what is kept on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writes {
    /// Nothing.
    Nothing,
    /// It changes: refused while the disk can't be written and to networks that change too much; answered after the
    /// commit.
    Changes,
    /// Something goes away: the same, but never refused because a network changes too much.
    Removes,
}

/// The body of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    /// Ignored.
    None,
    /// JSON of this shape, or none.
    Optional(&'static str),
    /// JSON of this shape.
    Required(&'static str),
    /// A form as browsers send it, of this shape: all its fields are texts.
    Form(&'static str),
}

impl Body {
    /// Its shape, if it is read.
    pub fn shape(self) -> Option<&'static str> {
        match self {
            Body::None => None,
            Body::Optional(shape) | Body::Required(shape) | Body::Form(shape) => Some(shape),
        }
    }
}

/// What answers.
pub(super) type Handler = fn(&mut Api, &Call<'_>) -> Handling;

/// A method of a path, and all there is to say about it.
#[derive(Clone, Copy)]
pub struct Route {
    /// The method. HEAD is served as GET.
    pub method: &'static str,
    /// The path. What varies is in braces; a last part like `{file...}` takes all that follows.
    pub path: &'static str,
    /// Who may ask.
    pub access: Access,
    /// What it takes of the asking source's allowance.
    pub cost: Cost,
    /// Whether its answer has to wait for a commit.
    pub writes: Writes,
    /// Whether of several instances only the one that writes can answer, though nothing is written: it has what is
    /// asked for in memory alone.
    pub by_writer: bool,
    /// What it reads.
    pub body: Body,
    /// Header lines of every answer that the handler gives.
    pub headers: &'static [(&'static str, &'static str)],
    /// What answers.
    pub(super) handler: Handler,
    /// What `/openapi.json` says of it. The first line is `id: summary`; others begin with `note`, `query`, `means`,
    /// `answer` or `media`: what else there is to know, the shape of the query, what 200 means, the shape of that
    /// answer, and its media type if that is not JSON. Shapes are explained in [`super::openapi`].
    pub docs: &'static str,
}

/// Reads something.
pub(super) const fn get(path: &'static str, access: Access, handler: Handler) -> Route {
    Route {
        method: "GET",
        path,
        access,
        cost: Cost::Request,
        writes: Writes::Nothing,
        by_writer: false,
        body: Body::None,
        headers: &[],
        handler,
        docs: "",
    }
}

/// Does something.
pub(super) const fn post(path: &'static str, access: Access, writes: Writes, handler: Handler) -> Route {
    Route { method: "POST", writes, ..get(path, access, handler) }
}

/// Takes something away.
pub(super) const fn delete(path: &'static str, access: Access, handler: Handler) -> Route {
    Route { method: "DELETE", writes: Writes::Removes, ..get(path, access, handler) }
}

/// What a row says beyond the first line.
impl Route {
    /// It makes something that others have to live with, which costs more.
    pub(super) const fn creates(self) -> Self {
        Route { cost: Cost::Creation, ..self }
    }

    /// Only the instance that writes answers it.
    pub(super) const fn by_writer(self) -> Self {
        Route { by_writer: true, ..self }
    }

    /// It reads a body of this shape.
    pub(super) const fn takes(self, shape: &'static str) -> Self {
        Route { body: Body::Required(shape), ..self }
    }

    /// It reads a body of this shape if there is one.
    pub(super) const fn may_take(self, shape: &'static str) -> Self {
        Route { body: Body::Optional(shape), ..self }
    }

    /// It reads a form of this shape.
    pub(super) const fn takes_form(self, shape: &'static str) -> Self {
        Route { body: Body::Form(shape), ..self }
    }

    /// Its answers bear these header lines.
    pub(super) const fn headers(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Route { headers, ..self }
    }

    /// What `/openapi.json` says of it.
    pub(super) const fn docs(self, docs: &'static str) -> Self {
        Route { docs, ..self }
    }
}

/// What varies in a path, decoded: at most two parts.
pub type Parameters<'a> = [Cow<'a, str>; 2];

/// A path that exists.
#[derive(Clone)]
pub struct PathMatch<'a> {
    table: &'static [Route],
    /// Its pattern.
    pub path: &'static str,
    /// What varies in it.
    pub parameters: Parameters<'a>,
}

/// The first path of `table` that `path` fits.
pub fn find<'a>(table: &'static [Route], path: &'a str) -> Option<PathMatch<'a>> {
    table.iter().find_map(|route| {
        Some(PathMatch { table, path: route.path, parameters: parameters(route.path, path)? })
    })
}

impl PathMatch<'_> {
    /// Its routes: one for each method.
    pub fn routes(&self) -> impl Iterator<Item = &'static Route> {
        let path = self.path;
        self.table.iter().filter(move |route| route.path == path)
    }

    /// The route that serves this method: HEAD is a GET whose body the door leaves out.
    pub fn serving(&self, method: &Method) -> Option<&'static Route> {
        let method = if *method == Method::Head { &Method::Get } else { method };
        self.routes().find(|route| route.method == method.as_str())
    }

    /// The methods that it has.
    pub fn methods(&self) -> String {
        self.routes().map(|route| route.method).collect::<Vec<_>>().join(", ")
    }
}

fn parameters<'a>(pattern: &str, path: &'a str) -> Option<Parameters<'a>> {
    let mut found = Parameters::default();
    let mut next = found.iter_mut();
    let most = if pattern.ends_with("...}") { pattern.split('/').count() } else { usize::MAX };
    let (mut wanted, mut given) = (pattern.split('/'), path.splitn(most, '/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(found),
            (Some(name), Some(part)) if name.starts_with('{') && !part.is_empty() => {
                *next.next()? = percent::decode(part)?;
            }
            (Some(name), Some(part)) if name == part => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ok;

    fn page(_: &mut Api, call: &Call<'_>) -> Handling {
        ok(call.parameters[0].as_bytes())
    }

    const TABLE: &[Route] = &[
        post("/ui/sessions", Access::Anyone, Writes::Nothing, page),
        get("/ui/", Access::Anyone, page),
        get("/ui/{file...}", Access::Anyone, page)
            .headers(&[("Content-Security-Policy", "default-src 'none'")]),
        get("/parties/{party_id}", Access::Peer, page),
        delete("/parties/{party_id}", Access::Peer, page),
        get("/parties/{party_id}/files/{file...}", Access::Peer, page),
    ];

    fn found(path: &str) -> Option<(&'static str, String, String)> {
        let found = find(TABLE, path)?;
        let [first, second] = &found.parameters;
        Some((found.path, first.to_string(), second.to_string()))
    }

    #[test]
    fn the_last_part_of_a_pattern_can_take_all_that_follows() {
        let of = |pattern, first: &str, second: &str| Some((pattern, first.to_owned(), second.to_owned()));
        assert_eq!(found("/ui/app.js"), of("/ui/{file...}", "app.js", ""));
        assert_eq!(found("/ui/a/b%20c/"), of("/ui/{file...}", "a/b c/", ""));
        assert_eq!(found("/ui/../x"), of("/ui/{file...}", "../x", ""));
        assert_eq!(found("/ui/"), of("/ui/", "", ""));
        assert_eq!(found("/ui/sessions"), of("/ui/sessions", "", ""), "the first that fits counts");
        assert_eq!(found("/parties/p/files/a/b"), of("/parties/{party_id}/files/{file...}", "p", "a/b"));
        for path in ["/ui", "/uix", "/x/ui/a", "/parties/p/files/", "/parties/p/files", "/ui/%zz"] {
            assert_eq!(found(path), None, "{path}");
        }
    }

    #[test]
    fn a_path_has_the_methods_of_its_rows() {
        let party = find(TABLE, "/parties/p").unwrap();
        assert_eq!(party.methods(), "GET, DELETE");
        assert_eq!(party.serving(&Method::Head).map(|route| route.method), Some("GET"));
        assert_eq!(party.serving(&Method::Delete).map(|route| route.writes), Some(Writes::Removes));
        assert!(party.serving(&Method::Post).is_none());
        assert!(party.serving(&"get".parse().unwrap()).is_none(), "methods are case-sensitive");
        let page = find(TABLE, "/ui/index.html").unwrap();
        assert_eq!(page.serving(&Method::Get).map(|route| route.headers.len()), Some(1));
    }
}
