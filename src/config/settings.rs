//! The one table of settings: every name, its default, its bounds, and why that number.
//!
//! Flags, environment and file are all made from it, as are `--help` and
//! `docs/dormouse.example.toml`. A setting that is not here does not exist.

/// One thing an operator may say.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// `section.name`, or just the name at the top of the file.
    pub key: &'static str,
    /// How its value is read.
    pub kind: Kind,
    /// Its value when nothing is said; empty when there is none.
    pub default: &'static str,
    /// The least and the most it may be, written as an operator would; empty: anything.
    pub bounds: (&'static str, &'static str),
    /// Whether `off` is a value.
    pub off: bool,
    /// What it is for, and why its default is that number.
    pub help: &'static str,
}

/// How a value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `10s`
    Duration,
    /// `64KiB`
    Size,
    /// `100`
    Count,
    /// `20/s`
    Rate,
    /// `true` or `false`
    Flag,
    /// A file or a folder.
    Path,
    /// One address and port.
    Address,
    /// Several of them.
    Addresses,
    /// Web origins.
    Origins,
    /// Hosts without ports.
    Hosts,
    /// The path of an address.
    UrlPath,
    /// Pairs of texts.
    Pairs,
}

impl Kind {
    /// The end of "expected …".
    pub fn expected(self) -> &'static str {
        match self {
            Self::Duration => "a duration like \"30s\"",
            Self::Size => "a size like \"64KiB\"",
            Self::Rate => "a rate like \"20/s\"",
            Self::Count => "a whole number like \"100\"",
            Self::Flag => "\"true\" or \"false\"",
            Self::Path => "a path like \"./dormouse-data\"",
            Self::Address => "an address with a port like \"127.0.0.1:4434\"",
            Self::Addresses => "addresses with ports like \"127.0.0.1:4433\" or \"[::1]:4433\"",
            Self::Origins => {
                "web origins like \"https://example.org\", \"https://*.example.org\", \"null\" or \"*\""
            }
            Self::Hosts => "hosts without ports like \"app.example\", \"*.example.org\" or \"*\"",
            Self::UrlPath => {
                "a path of at most 256 bytes like \"/realtime\", in which no segment is empty, . or .. \
                 and no letter needs an escape"
            }
            Self::Pairs => {
                "at most 8 pairs like [[\"ping\", \"pong\"]], each text of 1 to 2048 bytes, no two alike"
            }
        }
    }

    /// Whether several values may be given.
    pub fn is_list(self) -> bool {
        matches!(self, Self::Addresses | Self::Origins | Self::Hosts)
    }
}

impl Setting {
    /// The section it stands in; `None` at the top of the file.
    pub fn section(&self) -> Option<&'static str> {
        self.key.split_once('.').map(|(section, _)| section)
    }

    /// Its name within the section.
    pub fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }

    /// Its flag without the dashes: `room-sleep-after`.
    pub fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }

    /// Its environment variable: `DORMOUSE_ROOM_SLEEP_AFTER`.
    pub fn variable(&self) -> String {
        format!("DORMOUSE_{}", self.key.replace('.', "_").to_uppercase())
    }
}

/// The setting of that key.
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

const fn setting(
    key: &'static str,
    kind: Kind,
    default: &'static str,
    bounds: (&'static str, &'static str),
    help: &'static str,
) -> Setting {
    Setting { key, kind, default, bounds, off: false, help }
}

impl Setting {
    const fn or_off(mut self) -> Self {
        self.off = true;
        self
    }
}

const ANY: (&str, &str) = ("", "");
/// What a person or a network may have to wait for: never nothing, never for ever.
const WAIT: (&str, &str) = ("10ms", "1d");
/// What one process may be asked to keep in memory or in flight.
const MEMORY: (&str, &str) = ("1KiB", "16GiB");

use Kind::{
    Address, Addresses, Count, Duration, Flag, Hosts, Origins, Pairs, Path, Rate, Size, UrlPath,
};

/// How often a client may do something: at least now and then.
const RATE: (&str, &str) = ("1/s", "1000000/s");

/// Every setting, in the order of the example file.
#[rustfmt::skip] // one setting, two lines: a table is read down its columns
pub const SETTINGS: &[Setting] = &[
    setting("listen", Addresses, "127.0.0.1:4433,[::1]:4433", ANY,
        "Where browsers come in, TCP and UDP alike. Both loopbacks: nothing is public until you say so."),
    setting("operator_listen", Address, "127.0.0.1:4434", ANY,
        "Health, metrics and the HTTP API. Loopback, because whoever reaches it may do everything.").or_off(),
    setting("data_dir", Path, "dormouse-data", ANY,
        "Where rooms sleep. One process at a time."),
    setting("tls_cert", Path, "", ANY,
        "A PEM certificate chain for both transports. Without it TCP is plain and QUIC uses a development certificate."),
    setting("tls_key", Path, "", ANY,
        "The PEM private key of tls_cert."),
    setting("certs_dir", Path, "", ANY,
        "Where the development certificate is kept: `certs` if that folder exists here, else data_dir."),
    setting("demo", Flag, "true", ANY,
        "Whether the demo page is served at `/`."),

    setting("room.sleep_after", Duration, "10s", WAIT,
        "How long a room stays awake after the last event that needed it. Longer than a pause in a conversation."),
    setting("room.members", Count, "10000", ("1", "32768"),
        "Seats in one room. Beyond it joining is refused with `room full`."),
    setting("room.mailbox_events", Count, "1024", ("1", "1048576"),
        "Events that may wait for one room: about a second of a very busy one. Then its senders wait."),
    setting("room.waking_bytes", Size, "1MiB", MEMORY,
        "Bytes of events kept while a room wakes: many small messages, or a few at the limit."),
    setting("room.history_messages", Count, "10000", ("1", "1000000000"),
        "Messages kept of a room. The first of the three history limits that is reached wins.").or_off(),
    setting("room.history_age", Duration, "7d", ("1m", "36500d"),
        "The age beyond which messages are forgotten. A week away still resumes.").or_off(),
    setting("room.history_bytes", Size, "64MiB", ("64KiB", "1024GiB"),
        "Bytes on disk kept of a room's history.").or_off(),
    setting("room.idle_delete", Duration, "off", ("1m", "36500d"),
        "How long a room without seats and events is kept at all; then it is deleted, its history too. Off: nothing goes that you did not ask for.").or_off(),
    setting("room.journal_bytes", Size, "4MiB", ("4KiB", "16GiB"),
        "Bytes of one room in the journal before they are moved to the room's own rows."),
    setting("room.ring_bytes", Size, "1MiB", MEMORY,
        "Broadcast bytes kept in memory per room. A reader further behind is served from disk. At least 4 messages."),
    setting("room.ring_age", Duration, "1s", ("10ms", "1m"),
        "The age beyond which broadcast bytes are let go: a second covers a hiccup."),
    setting("room.publish_rate", Rate, "500/s", RATE,
        "Publishes in one room, with a second's worth at once: more than people read, less than a loop sends.").or_off(),
    setting("room.presence_every", Duration, "100ms", ("0ms", "1m"),
        "How long changes of who is here are gathered: shorter than anybody notices, long enough for a reload."),
    setting("room.presence_bytes", Size, "64KiB", MEMORY,
        "The most bytes of members told at once, and of changes kept for who is slow. Beyond it a room counts as large."),
    setting("room.page_bytes", Size, "256KiB", MEMORY,
        "The most bytes of one page of history, and of one slice read from disk."),
    setting("room.auto_responses", Pairs, "[]", ANY,
        "Up to eight pairs of a text frame and the one it is answered with, exactly, before anybody reads it: no room wakes. As a flag: '[[\"ping\", \"pong\"]]'."),

    setting("session.message_bytes", Size, "64KiB", ("1KiB", "1MiB"),
        "The largest frame a client may send. Generous for text, small enough to hold thousands."),
    setting("session.attachment_bytes", Size, "16KiB", ("0", "64KiB"),
        "The largest attachment of a seat."),
    setting("session.tags", Count, "10", ("0", "64"),
        "Tags of one seat, each of at most 256 bytes."),
    setting("session.name_chars", Count, "64", ("1", "1024"),
        "Characters of a name. Longer ones are refused."),
    setting("session.key_bytes", Count, "64", ("1", "1024"),
        "Bytes of an idempotency key: a UUID and a counter fit."),
    setting("session.publish_rate", Rate, "20/s", RATE,
        "Publishes of one session after its burst: faster than anybody types.").or_off(),
    setting("session.publish_burst", Count, "40", ("1", "65536"),
        "Publishes of one session at once: a paste, or what was written while offline."),
    setting("session.ephemeral_rate", Rate, "60/s", RATE,
        "Ephemerals of one session: a cursor on every frame of a screen. More are dropped.").or_off(),
    setting("session.ephemeral_keys", Count, "8", ("1", "256"),
        "Different ephemeral keys of one session: each is a slot that all members share."),
    setting("session.requests_rate", Rate, "20/s", RATE,
        "set, history and members of one session, with twice as many at once.").or_off(),
    setting("session.publishes_in_flight", Count, "64", ("1", "65536"),
        "Publishes of one session that wait for the disk. Then its socket is not read until some are answered."),
    setting("session.outbox_bytes", Size, "256KiB", MEMORY,
        "Private bytes owed to one session: answers, direct messages, pages. At least one message."),
    setting("session.send_buffer", Size, "256KiB", ("4KiB", "64MiB"),
        "The kernel's send buffer of a TCP connection (SO_SNDBUF): what a slow reader costs beside its outbox."),
    setting("session.stalled_after", Duration, "30s", WAIT,
        "A reader that takes not one byte for so long is closed with 4002."),
    setting("session.hello_timeout", Duration, "10s", WAIT,
        "How long a client may take for its `hello`, and for a request on a stream of its own. Slow phones need seconds, not tens of them."),
    setting("session.heartbeat", Duration, "25s", WAIT,
        "The silence after which clients are told to ping. Below the 30 s at which the first proxies cut."),
    setting("session.ping_every", Duration, "20s", WAIT,
        "How often a WebSocket is pinged."),
    setting("session.pong_timeout", Duration, "10s", WAIT,
        "How long a pong may take. Shorter than ping_every; together they bound how long a dead socket is shown as present."),
    setting("session.close_linger", Duration, "2s", ("10ms", "1m"),
        "How long a closing connection is given to hear why."),
    setting("session.grace", Duration, "15s", ("0ms", "1h"),
        "How long a lost connection is not yet announced as a leave: a reload, a tunnel, a change of network."),
    setting("session.resume_window", Duration, "2m", ("0ms", "1d"),
        "How long a seat can be taken back. At least grace."),
    setting("session.author_window", Duration, "7d", ("1m", "365d"),
        "How long a `session` names the author of keyed publishes. At least resume_window."),

    setting("store.journal_total_bytes", Size, "256MiB", ("1MiB", "1024GiB"),
        "Bytes of all rooms in the journal before the oldest are moved: what a start reads."),
    setting("store.journal_age", Duration, "60s", ("1s", "1d"),
        "The age at which journal records are moved, whoever is awake."),
    setting("store.journal_cache", Size, "16MiB", ("1MiB", "1024GiB"),
        "Cache of the journal file. It is written once and read little."),
    setting("store.rooms_cache", Size, "64MiB", ("1MiB", "1024GiB"),
        "Cache of the rooms file: the rows of rooms that wake often."),
    setting("store.reserve", Size, "16MiB", ("64KiB", "1024GiB"),
        "A file of that size is kept for when the disk is full. Below as much free space besides, publishes are refused.").or_off(),

    setting("quic.keep_alive", Duration, "12s", ("1s", "5m"),
        "How often a silent WebTransport connection is kept alive. Shorter than idle_timeout."),
    setting("quic.idle_timeout", Duration, "20s", ("2s", "10m"),
        "Silence after which a WebTransport connection is gone. With keep_alive it bounds how long a dead one is shown."),
    setting("quic.stream_window", Size, "128KiB", ("4KiB", "16MiB"),
        "Unread bytes a client may send on one stream. At least one message."),
    setting("quic.send_window", Size, "1MiB", ("16KiB", "64MiB"),
        "Unacknowledged bytes kept per WebTransport connection: what a slow network costs in memory."),

    setting("gateway.connections", Count, "100000", ("1", "10000000"),
        "Sessions of this process. The limit of open files is raised to match, or its smallness said."),
    setting("gateway.rooms_awake", Count, "100000", ("1", "100000000"),
        "Rooms awake at once, those aside that stand in line to sleep. Beyond it the one that is idle the longest sleeps early."),
    setting("gateway.rooms_hibernating", Count, "32", ("1", "1000"),
        "Rooms on their way to disk at once, to sleep. Others that are idle stay awake until it is their turn, so that all of them together are in nobody's way."),
    setting("gateway.connects_per_address", Rate, "30/s", RATE,
        "Connections that one address may begin after its burst; an IPv6 address is its /64. Loopback is exempt, for it is a proxy or a test; a proxy elsewhere counts as one.").or_off(),
    setting("gateway.connects_burst", Count, "60", ("1", "65536"),
        "Connections that one address may begin at once: an office behind one address after an outage."),
    setting("gateway.connections_per_address", Count, "1000", ("1", "10000000"),
        "Sessions of one address. Loopback is exempt here, too.").or_off(),
    setting("gateway.drain_spread", Duration, "30s", ("0ms", "300s"),
        "The longest over which a shutdown spreads its clients' return; 1,000 a second when there are fewer."),
    setting("gateway.origins", Origins, "", ANY,
        "Web pages of other origins that may connect: `https://app.example`, `https://*.example.org` for all names below it, `null` for pages from files, `*` for all. The same origin always may; loopback pages (`localhost` and names below it, 127.0.0.0/8, ::1) may on a loopback listener."),
    setting("gateway.hosts", Hosts, "", ANY,
        "What requests to a loopback listener may call it beside loopback addresses, `localhost` and names below it: the `Host` that a proxy on this machine passes on, as `app.example` or `*.example.org`; `*` for all. Any other is refused, because a web page can have its own name point at this machine."),
    setting("gateway.base_path", UrlPath, "", ANY,
        "A path like `/realtime` under which all that is served at the root is served as well, over both transports: for a proxy that passes requests on with it. Empty: none."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_has_three_spellings() {
        let setting = find("room.sleep_after").unwrap();
        assert_eq!(setting.flag(), "room-sleep-after");
        assert_eq!(setting.variable(), "DORMOUSE_ROOM_SLEEP_AFTER");
        assert_eq!((setting.section(), setting.name()), (Some("room"), "sleep_after"));
    }

    #[test]
    fn no_two_settings_share_a_spelling() {
        let mut flags: Vec<_> = SETTINGS.iter().map(Setting::flag).collect();
        flags.sort();
        flags.dedup();
        assert_eq!(flags.len(), SETTINGS.len());
    }
}
