//! UPnP's Internet Gateway Device: the search (SSDP), what the description says, and the three actions by which a port is
//! forwarded (SOAP). XML is looked through for the few elements that are needed, once and in one pass.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// Where devices listen for searches.
pub const SEARCH_PORT: u16 = 1900;
/// The group that hears searches.
pub const SEARCH_GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
/// Longest path that is taken, in bytes.
const MAX_PATH: usize = 256;
/// Longest text of an element that is looked at, in bytes.
const MAX_TEXT: usize = 512;
/// Services by which a device forwards ports. A device of version 2 has those of version 1 as well.
const SERVICES: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];

/// Looks for routers.
pub const SEARCH: &[u8] =
    b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n";

/// Where something can be asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceUrl {
    /// The address.
    pub address: SocketAddrV4,
    /// The path, which may go into a request as it is.
    pub path: String,
}

/// A service that forwards ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForwardingService {
    kind: &'static str,
    target: DeviceUrl,
}

impl DeviceUrl {
    /// Reads a URL; a relative one stands beside `base`.
    fn parse(url: &str, base: Option<&DeviceUrl>) -> Option<Self> {
        let url = url.trim();
        let (address, path) = match url.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://")) {
            Some(_) => {
                let rest = &url[7..];
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                let bare = || authority.parse().ok().map(|ip| SocketAddrV4::new(ip, 80));
                (authority.parse().ok().or_else(bare)?, path)
            }
            None => (base?.address, url),
        };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let is_plain = path.len() <= MAX_PATH && path.bytes().all(|byte| byte.is_ascii_graphic());
        (is_plain && address.port() != 0).then_some(DeviceUrl { address, path })
    }

    /// Asks for what is there.
    pub fn get(&self) -> Vec<u8> {
        format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.path, self.address)
            .into_bytes()
    }
}

/// Where the description of a device is, in its answer to a search.
pub fn location(datagram: &[u8]) -> Option<DeviceUrl> {
    let text = str::from_utf8(datagram).ok()?;
    let mut lines = text.split("\r\n");
    let is_found = lines.next()?.strip_prefix("HTTP/1.")?.get(1..)?.starts_with(" 200");
    let value = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("location").then_some(value)
    });
    DeviceUrl::parse(value.filter(|_| is_found)?, None)
}

/// The elements of a document, in their order: the name without its prefix, whether it is an end, and the text behind it.
struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = (&'a [u8], bool, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.0.iter().position(|byte| *byte == b'<')? + 1;
        let tag = &self.0[start..];
        let end = tag.iter().position(|byte| *byte == b'>')?;
        let (tag, rest) = (&tag[..end], &tag[end + 1..]);
        let text = &rest[..rest.iter().position(|byte| *byte == b'<').unwrap_or(rest.len())];
        self.0 = rest;
        let (is_end, tag) = tag.strip_prefix(b"/").map_or((false, tag), |tag| (true, tag));
        let name = tag.split(|byte| byte.is_ascii_whitespace() || *byte == b'/').next().unwrap_or_default();
        let name = name.rsplit(|byte| *byte == b':').next().unwrap_or_default();
        Some((name, is_end, text))
    }
}

fn text_of(bytes: &[u8]) -> Option<&str> {
    str::from_utf8(bytes).ok().map(str::trim).filter(|text| text.len() <= MAX_TEXT)
}

/// The text of the first element of this name.
fn element<'a>(document: &'a [u8], name: &str) -> Option<&'a str> {
    let found = Elements(document).find(|(found, is_end, _)| *found == name.as_bytes() && !is_end);
    text_of(found?.2)
}

/// The first service of a device that forwards ports, in its description that was found at `base`: with the router
/// itself, whatever the description says.
pub fn service(description: &[u8], base: &DeviceUrl) -> Option<ForwardingService> {
    let (mut kind, mut url) = (None, None);
    for (name, is_end, text) in Elements(description) {
        match (name, is_end) {
            (b"service", false) => (kind, url) = (None, None),
            (b"serviceType", false) => {
                kind = text_of(text).and_then(|text| SERVICES.into_iter().find(|known| *known == text));
            }
            (b"controlURL", false) => url = text_of(text).map(|text| text.replace("&amp;", "&")),
            (b"service", true) => {
                let target = url.take().and_then(|url| DeviceUrl::parse(&url, Some(base)));
                let target = target.filter(|target| target.address.ip() == base.address.ip());
                if let (Some(kind), Some(target)) = (kind.take(), target) {
                    return Some(ForwardingService { kind, target });
                }
            }
            _ => (),
        }
    }
    None
}

impl ForwardingService {
    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.target.address.into()
    }

    fn act(&self, action: &str, arguments: &str) -> Vec<u8> {
        let ForwardingService { kind, target } = self;
        let body = format!(
            "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{action} xmlns:u=\"{kind}\">\
             {arguments}</u:{action}></s:Body></s:Envelope>\r\n"
        );
        let mut request = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: text/xml; charset=\"utf-8\"\r\n\
             SOAPAction: \"{kind}#{action}\"\r\nContent-Length: {}\r\n\r\n",
            target.path,
            target.address,
            body.len()
        );
        request.push_str(&body);
        request.into_bytes()
    }

    /// Asks for the address outside.
    pub fn ask_address(&self) -> Vec<u8> {
        self.act("GetExternalIPAddress", "")
    }

    /// Has the UDP port `outside` forwarded to `port` at `own`, for `lifetime` seconds; 0 for as long as the router runs.
    pub fn map(&self, outside: u16, own: Ipv4Addr, port: u16, lifetime: u32) -> Vec<u8> {
        let mut arguments = mapped_port(outside);
        let _ = write!(
            arguments,
            "<NewInternalPort>{port}</NewInternalPort><NewInternalClient>{own}</NewInternalClient>\
             <NewEnabled>1</NewEnabled><NewPortMappingDescription>lanrage</NewPortMappingDescription>\
             <NewLeaseDuration>{lifetime}</NewLeaseDuration>"
        );
        self.act("AddPortMapping", &arguments)
    }

    /// Gives that up.
    pub fn unmap(&self, outside: u16) -> Vec<u8> {
        self.act("DeletePortMapping", &mapped_port(outside))
    }
}

fn mapped_port(outside: u16) -> String {
    format!(
        "<NewRemoteHost></NewRemoteHost><NewExternalPort>{outside}</NewExternalPort><NewProtocol>UDP</NewProtocol>"
    )
}

/// The address outside, in the answer to [`ForwardingService::ask_address`].
pub fn outside_address(answer: &[u8]) -> Option<Ipv4Addr> {
    element(answer, "NewExternalIPAddress")?.parse().ok()
}

/// Why an action failed, by UPnP's numbers.
pub fn fault(answer: &[u8]) -> Option<u16> {
    element(answer, "errorCode")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    fn base() -> DeviceUrl {
        DeviceUrl { address: SocketAddrV4::new(ROUTER, 5000), path: "/rootDesc.xml".into() }
    }

    const FOUND: &str = "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\
                         Location: http://192.168.1.1:5000/rootDesc.xml\r\nEXT:\r\n\r\n";
    const DESCRIPTION: &str = "<?xml version=\"1.0\"?>\n<root xmlns=\"urn:schemas-upnp-org:device-1-0\"><device><serviceList>\
        <service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType><controlURL>/ctl/L3F</controlURL></service>\
        </serviceList><deviceList><device><serviceList><service>\n<serviceType> urn:schemas-upnp-org:service:WANIPConnection:1\n\
        </serviceType><serviceId>x</serviceId><controlURL>/ctl/IPConn?a=1&amp;b</controlURL></service></serviceList></device>\
        </deviceList></device></root>";

    #[test]
    fn a_router_is_found_and_described() {
        assert_eq!(location(FOUND.as_bytes()), Some(base()));
        assert_eq!(location(FOUND.replace(":5000", "").as_bytes()).unwrap().address.port(), 80);
        for other in ["HTTP/1.1 404 Not", "NOTIFY * HTTP/1.1"] {
            assert_eq!(location(FOUND.replace("HTTP/1.1 200 OK", other).as_bytes()), None);
        }
        for target in [
            "http://router.lan/x",
            "https://192.168.1.1/x",
            "http://192.168.1.1:0/x",
            "http://[::1]/x",
            "/x",
            "http://192.168.1.1/a b",
        ] {
            let said = FOUND.replace("http://192.168.1.1:5000/rootDesc.xml", target);
            assert_eq!(location(said.as_bytes()), None, "{target}");
        }
        let found = service(DESCRIPTION.as_bytes(), &base()).unwrap();
        assert_eq!((found.kind, found.target.path.as_str()), (SERVICES[0], "/ctl/IPConn?a=1&b"));
        let absolute = |url: &str| service(DESCRIPTION.replace("/ctl/IPConn", url).as_bytes(), &base());
        assert_eq!(
            absolute("http://192.168.1.1:49000/c").unwrap().address(),
            "192.168.1.1:49000".parse().unwrap()
        );
        // It is the router that is asked, and no third party that it points at.
        assert_eq!(absolute("http://203.0.113.7/c"), None);
        assert_eq!(absolute("/c\r\nX: y"), None);
        let mapped =
            String::from_utf8(found.map(40_000, Ipv4Addr::new(192, 168, 1, 2), 50_000, 7200)).unwrap();
        for part in [
            "POST /ctl/IPConn?a=1&b HTTP/1.1\r\nHost: 192.168.1.1:5000\r\n",
            "SOAPAction: \"urn:schemas-upnp-org:service:WANIPConnection:1#AddPortMapping\"",
            "<NewExternalPort>40000<",
            "<NewInternalPort>50000<",
            "<NewInternalClient>192.168.1.2<",
            "<NewLeaseDuration>7200<",
        ] {
            assert!(mapped.contains(part), "{part}: {mapped}");
        }
        let body = mapped.split_once("\r\n\r\n").unwrap().1;
        assert!(mapped.contains(&format!("Content-Length: {}\r\n", body.len())));
        let answer = b"<s:Body><u:R xmlns:u=\"x\"><NewExternalIPAddress>203.0.113.7</NewExternalIPAddress></u:R></s:Body>";
        assert_eq!(outside_address(answer), Some(Ipv4Addr::new(203, 0, 113, 7)));
        assert_eq!(fault(b"<UPnPError><e:errorCode>725</e:errorCode></UPnPError>"), Some(725));
    }

    #[test]
    fn whatever_a_router_sends_ends_in_a_verdict() {
        let mut random = Seeded::new(7);
        let pieces = [
            "<",
            ">",
            "</",
            "service",
            "<service>",
            "controlURL",
            "http://",
            ":",
            "&amp;",
            "\0",
            "é",
            "\r\n",
            "<!--",
            "]]>",
        ];
        for whole in [FOUND, DESCRIPTION, "<a><NewExternalIPAddress>203.0.113.7</a><errorCode>1</errorCode>"]
        {
            for _ in 0..3000 {
                let mut bytes = whole.as_bytes().to_vec();
                for _ in 0..1 + random.below(4) {
                    let at = random.below(bytes.len() as u64 + 1) as usize;
                    match random.below(4) {
                        0 => bytes.truncate(at),
                        1 => bytes
                            .splice(at..at, pieces[random.below(pieces.len() as u64) as usize].bytes())
                            .for_each(drop),
                        2 => drop(bytes.drain(at..(at + random.below(40) as usize).min(bytes.len()))),
                        _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (at % 8)),
                    }
                }
                if let Some(target) = location(&bytes) {
                    assert!(target.get().iter().filter(|byte| **byte == b'\n').count() == 4);
                }
                if let Some(service) = service(&bytes, &base()) {
                    assert_eq!(service.address().ip(), ROUTER);
                    let head = service.ask_address();
                    assert!(str::from_utf8(&head).unwrap().starts_with("POST /"));
                }
                let _ = (outside_address(&bytes), fault(&bytes));
            }
        }
        // Deep and long documents cost one pass.
        let deep = "<service>".repeat(100_000);
        assert_eq!(service(deep.as_bytes(), &base()), None);
    }
}
