//! How much the door takes in, and what that costs.

use crate::owners::Quota;
use crate::wire::proxies;
use rustix::process::{Resource, Rlimit};
use std::net::IpAddr;
use std::time::Duration;

/// Descriptors left to the rest of the daemon: store, relay, TUN, listeners, epoll, the standard streams.
const RESERVED_DESCRIPTORS: usize = 24;

/// Every bound of the door, with what it costs when it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// HTTP connections over TCP. An idle one costs a descriptor and about 2 KB, besides the kernel's
    /// share; one that is sending a request up to 8 KiB of head and 64 KiB of body more.
    pub connections: usize,
    /// HTTP connections from one source: an IPv4 address or an IPv6 /64.
    pub connections_per_source: usize,
    /// HTTP connections over the Unix socket, beside `connections`.
    pub unix_connections: usize,
    /// Sources that the two limits per source are not for: proxies, which speak for many.
    pub proxies: Vec<IpAddr>,
    /// WebSocket sessions, beside `connections`. An idle one costs a descriptor and about 3 KB; one that is
    /// sending a message up to `message_length` more, one that reads slowly up to `outbox_bytes` more,
    /// less what it shares with others.
    pub sessions: usize,
    /// WebSocket sessions from one source.
    pub sessions_per_source: usize,
    /// The longest WebSocket message taken, in bytes.
    pub message_length: usize,
    /// Messages that may wait for one session to read them.
    pub outbox_messages: usize,
    /// Bytes that may wait for one session to read them.
    pub outbox_bytes: usize,
    /// Bytes that all together may have sent to us that are of no use yet, or that nobody reads, beyond 2 KiB each. A
    /// text that many wait for counts for each of them.
    pub buffers: usize,
    /// What the kernel may keep of what each connection sends, and as much of what it is sent, in bytes. It takes twice
    /// that of memory (`__sock_set_rcvbuf` in <https://github.com/torvalds/linux/blob/v6.12/net/core/sock.c>).
    pub socket_buffer: usize,
    /// From the first byte of a head (or the connection) to the end of the head.
    pub head_timeout: Duration,
    /// From the end of the head to the end of the body; also from the first byte of a WebSocket message to
    /// its last.
    pub body_timeout: Duration,
    /// How long a connection may be kept between two requests.
    pub idle_timeout: Duration,
    /// How long an answer may take to be read, on top of what it takes at 16 KiB/s.
    pub write_timeout: Duration,
    /// How long a refused client may go on sending before the connection is closed under it. Closing at
    /// once, with bytes unread, would reset the connection and make its kernel throw the refusal away (`__tcp_close` in
    /// <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/tcp.c>).
    pub linger_timeout: Duration,
    /// How often a WebSocket session is sent a ping, whatever else is said: a proxy between may count only what
    /// comes from us, and nginx ends a connection after 60 s of silence.
    pub ping_interval: Duration,
    /// A WebSocket session from which nothing came for so long is cut.
    pub silence_timeout: Duration,
    /// How often time-outs are looked for, and so how late one may be. Costs a wake-up each time while
    /// anybody is connected, and nothing otherwise.
    pub sweep_interval: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        HttpLimits {
            connections: 256,
            connections_per_source: 32,
            proxies: Vec::new(),
            unix_connections: 16,
            sessions: 1024,
            sessions_per_source: 64,
            message_length: 64 * 1024,
            outbox_messages: 256,
            outbox_bytes: 512 * 1024,
            buffers: 32 * 1024 * 1024,
            socket_buffer: 64 * 1024,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(10),
            linger_timeout: Duration::from_secs(2),
            ping_interval: Duration::from_secs(25),
            silence_timeout: Duration::from_secs(150),
            sweep_interval: Duration::from_secs(1),
        }
    }
}

impl HttpLimits {
    /// Whether the limits per source are not for `source`.
    pub(super) fn speaks_for_many(&self, source: IpAddr) -> bool {
        proxies::trusts(&self.proxies, source)
    }

    /// Whether what `source` is sent counts: not on this machine, and not where it can't be told for whom it is.
    pub(super) fn is_metered(&self, source: IpAddr) -> bool {
        !source.is_loopback() && !self.speaks_for_many(source)
    }

    /// What one owner may have of [`HttpLimits::buffers`].
    pub(super) fn buffers_quota(&self) -> Quota {
        Quota { network: self.buffers / 2, site: self.buffers / 4, subscriber: self.buffers / 4 }
    }

    /// Held to what the process may open, after raising its soft limit to the hard one.
    pub(super) fn within_descriptors(self) -> Self {
        let limit = rustix::process::getrlimit(Resource::Nofile);
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        let current = match rustix::process::setrlimit(Resource::Nofile, raised) {
            Ok(()) => raised.current,
            Err(_) => limit.current,
        };
        let descriptors = current.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
        let limits = self.clone().within(descriptors);
        if limits != self {
            log::warn!(
                "only {descriptors} open files are allowed: taking {} connections and {} WebSocket sessions \
                 (raise the limit with ulimit -n or LimitNOFILE= for more)",
                limits.connections,
                limits.sessions
            );
        }
        limits
    }

    /// Held to `descriptors` open files: connections and sessions get half of them each if both want more.
    fn within(mut self, descriptors: usize) -> Self {
        let free = descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(3);
        self.unix_connections = self.unix_connections.min(free / 8).max(1);
        let free = free - self.unix_connections;
        let half = free / 2;
        let connections = self.connections.min(half.max(free.saturating_sub(self.sessions)));
        self.sessions = self.sessions.min(free - connections);
        self.connections = connections;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_descriptors_change_nothing() {
        let all = 256 + 1024 + 16 + RESERVED_DESCRIPTORS;
        assert_eq!(HttpLimits::default().within(all), HttpLimits::default());
        assert_eq!(HttpLimits::default().within(usize::MAX), HttpLimits::default());
    }

    #[test]
    fn few_descriptors_are_shared_out() {
        for descriptors in 0..all_of_them() {
            let limits = HttpLimits::default().within(descriptors);
            let sum = limits.connections + limits.sessions + limits.unix_connections;
            assert!(sum <= descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(3), "{descriptors}");
            assert!(limits.connections > 0 && limits.sessions > 0 && limits.unix_connections > 0);
        }
        let limits = HttpLimits::default().within(64);
        assert_eq!((limits.connections, limits.sessions, limits.unix_connections), (17, 18, 5));
        let limits = HttpLimits::default().within(1024);
        assert_eq!((limits.connections, limits.sessions, limits.unix_connections), (256, 728, 16));
    }

    fn all_of_them() -> usize {
        let limits = HttpLimits::default();
        limits.connections + limits.sessions + limits.unix_connections + RESERVED_DESCRIPTORS
    }
}
