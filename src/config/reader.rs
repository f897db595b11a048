//! From text to meaning, setting by setting.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::Error;
use super::said::{Said, Value};
use super::settings::{self, Setting};
use super::units;
use crate::clock::Clock;
use crate::protocol::Kinds;
use crate::server::base_path::BasePath;
use crate::server::hosts::BadEntry;
use crate::session::AutoResponses;
use crate::supervision::Supervisor;
use crate::{keeper, outbox, room, server, session, store};

/// Bytes of one tag: not a setting, the number of tags is.
const TAG_BYTES: usize = 256;

/// Two settings, what must hold between them, in words and in deed.
type Rule<T> = (&'static str, &'static str, &'static str, fn(T, T) -> bool);

const DURATION_RULES: [Rule<Duration>; 4] = [
    ("session.pong_timeout", "must be shorter than", "session.ping_every", |a, b| a < b),
    ("session.resume_window", "must be at least", "session.grace", |a, b| a >= b),
    ("session.author_window", "must be at least", "session.resume_window", |a, b| a >= b),
    ("quic.keep_alive", "must be shorter than", "quic.idle_timeout", |a, b| a < b),
];

const SIZE_RULES: [Rule<usize>; 6] = [
    ("room.ring_bytes", "must hold 4 times", "session.message_bytes", |a, b| a >= b * 4),
    ("room.waking_bytes", "must be at least", "session.message_bytes", |a, b| a >= b),
    ("session.outbox_bytes", "must be at least", "session.message_bytes", |a, b| a >= b),
    ("quic.stream_window", "must be at least", "session.message_bytes", |a, b| a >= b),
    // A hello carries it, and a hello is a frame.
    ("session.attachment_bytes", "must be less than", "session.message_bytes", |a, b| a < b),
    ("room.journal_bytes", "must be at most", "store.journal_total_bytes", |a, b| a <= b),
];

/// Whether both cannot be listened to. An unspecified address is all of its family.
fn overlap(one: &SocketAddr, other: &SocketAddr) -> bool {
    let covers = |all: &SocketAddr, it: &SocketAddr| {
        all.ip() == it.ip() || (all.ip().is_unspecified() && all.is_ipv4() == it.is_ipv4())
    };
    let is_same_port = one.port() == other.port() && one.port() != 0;
    is_same_port && (covers(one, other) || covers(other, one))
}

/// Reads typed values out of what was said.
pub(super) struct Reader<'a> {
    said: &'a Said,
}

impl<'a> Reader<'a> {
    pub(super) fn new(said: &'a Said) -> Self {
        Self { said }
    }

    pub(super) fn keeper(&self) -> Result<keeper::Settings, Error> {
        Ok(keeper::Settings {
            sleep_after: self.duration("room.sleep_after")?,
            mailbox_events: self.count("room.mailbox_events")?,
            waking_bytes: self.size("room.waking_bytes")?,
            grace: self.duration("session.grace")?,
            resume_window: self.duration("session.resume_window")?,
            heartbeat: self.duration("session.heartbeat")?,
            message_bytes: self.size("session.message_bytes")?,
            publishes_in_flight: self.count("session.publishes_in_flight")?,
            ephemeral_keys: self.count("session.ephemeral_keys")?,
            ephemeral_rate: self.ephemeral_rate()?,
            presence_every: self.duration("room.presence_every")?,
            limits: self.limits()?,
            rates: self.rates()?,
            outbox: outbox::Policy {
                ring_bytes: self.size("room.ring_bytes")?,
                ring_age: self.duration("room.ring_age")?,
                outbox_bytes: self.size("session.outbox_bytes")?,
                page_bytes: self.size("room.page_bytes")?,
                presence_bytes: self.size("room.presence_bytes")?,
            },
            behaviour: room::chat,
        })
    }

    pub(super) fn session(&self) -> Result<session::Settings, Error> {
        Ok(session::Settings {
            message_bytes: self.size("session.message_bytes")?,
            publishes_in_flight: self.count("session.publishes_in_flight")?,
            stalled_after: self.duration("session.stalled_after")?,
            hello_timeout: self.duration("session.hello_timeout")?,
            heartbeat: self.duration("session.heartbeat")?,
            ping_every: self.duration("session.ping_every")?,
            pong_timeout: self.duration("session.pong_timeout")?,
            close_linger: self.duration("session.close_linger")?,
            author_window: self.duration("session.author_window")?,
            ephemeral_rate: self.ephemeral_rate()?,
            ephemeral_keys: self.count("session.ephemeral_keys")?,
            limits: self.limits()?,
            auto_responses: Arc::default(), // read with the kinds
        })
    }

    /// What is answered below a room. Who may not send a text can have no answer to it.
    pub(super) fn auto_responses(&self) -> Result<AutoResponses, Error> {
        const KEY: &str = "room.auto_responses";
        let (setting, value) = self.value(KEY);
        let pairs = serde_json::from_str::<Vec<(String, String)>>(&value.text).ok();
        let Some(responses) = pairs.and_then(|pairs| AutoResponses::new(pairs).ok()) else {
            return Err(Error::invalid(setting, value));
        };
        let fits = responses.longest_request() <= self.size("session.message_bytes")?;
        self.conflict(fits, KEY, "each request must fit into", "session.message_bytes")?;
        Ok(responses)
    }

    /// What the doors go by.
    pub(super) fn server(&self) -> Result<server::Settings, Error> {
        let burst = self.count("gateway.connects_burst")? as u32;
        let per_address = self.amount("gateway.connections_per_address", units::count)?;
        Ok(server::Settings {
            send_buffer: self.size("session.send_buffer")?,
            connections: self.count("gateway.connections")?,
            addresses: server::addresses::Settings {
                connects: self.rate("gateway.connects_per_address", |_| burst)?,
                connections: per_address.map_or(usize::MAX, |most| most as usize),
                loopback_is_exempt: true,
            },
            origins: self.entries("gateway.origins")?,
            hosts: self.entries("gateway.hosts")?,
            base_path: self.base_path("gateway.base_path")?,
            demo: self.flag("demo")?,
        })
    }

    fn ephemeral_rate(&self) -> Result<room::Rate, Error> {
        self.rate("session.ephemeral_rate", |per_second| per_second)
    }

    fn rates(&self) -> Result<keeper::Rates, Error> {
        let burst = self.count("session.publish_burst")? as u32;
        Ok(keeper::Rates {
            publishes: self.rate("session.publish_rate", |_| burst)?,
            requests: self.rate("session.requests_rate", |per_second| per_second * 2)?,
            room: self.rate("room.publish_rate", |per_second| per_second)?,
        })
    }

    fn rate(&self, key: &str, burst: impl Fn(u32) -> u32) -> Result<room::Rate, Error> {
        Ok(match self.amount(key, units::rate)? {
            None => room::Rate::OFF,
            Some(rate) => {
                let per_second = rate as u32; // the table's bounds are far below its limit
                room::Rate { per_second, burst: burst(per_second) }
            }
        })
    }

    fn limits(&self) -> Result<room::Limits, Error> {
        Ok(room::Limits {
            members: self.count("room.members")?,
            tags: self.count("session.tags")?,
            tag_bytes: TAG_BYTES,
            name_chars: self.count("session.name_chars")?,
            attachment_bytes: self.size("session.attachment_bytes")?,
            key_bytes: self.count("session.key_bytes")?,
        })
    }

    /// What the store goes by for one kind of rooms.
    pub(super) fn store_of_rooms(&self) -> Result<store::RoomSettings, Error> {
        Ok(store::RoomSettings {
            journal_bytes: self.size("room.journal_bytes")? as u64,
            retention: store::Retention {
                messages: self.amount("room.history_messages", units::count)?.unwrap_or(u64::MAX),
                age: self.amount("room.history_age", units::duration)?.unwrap_or(units::NO_AGE),
                bytes: self.amount("room.history_bytes", units::size)?.unwrap_or(u64::MAX),
                idle_delete: self.amount("room.idle_delete", units::duration)?,
            },
        })
    }

    pub(super) fn store(&self) -> Result<store::Settings, Error> {
        let store::RoomSettings { journal_bytes, retention } = self.store_of_rooms()?;
        Ok(store::Settings {
            journal_bytes,
            journal_total_bytes: self.size("store.journal_total_bytes")? as u64,
            journal_age: self.duration("store.journal_age")?,
            journal_cache: self.size("store.journal_cache")?,
            rooms_cache: self.size("store.rooms_cache")?,
            reserve: self.amount("store.reserve", units::size)?,
            retention,
            kinds: Kinds::default(),
            clock: Clock::default(),
            supervisor: Supervisor::default(),
        })
    }

    /// Limits that are each fine and together are not.
    pub(super) fn check_what_needs_each_other(&self) -> Result<(), Error> {
        for (key, rule, other, holds) in DURATION_RULES {
            self.conflict(holds(self.duration(key)?, self.duration(other)?), key, rule, other)?;
        }
        for (key, rule, other, holds) in SIZE_RULES {
            self.conflict(holds(self.size(key)?, self.size(other)?), key, rule, other)?;
        }
        self.check_addresses()
    }

    /// No two listeners can have the same TCP port of an address. Port 0 is a free one each time.
    fn check_addresses(&self) -> Result<(), Error> {
        let listen = self.addresses("listen")?;
        for (index, address) in listen.iter().enumerate() {
            if let Some(other) = listen[..index].iter().find(|other| overlap(address, other)) {
                let said = self.value("listen").1;
                return Err(Error::Overlap { said, both: Box::new([*other, *address]) });
            }
        }
        let operator = self.address("operator_listen")?;
        let is_free = operator.is_none_or(|it| !listen.iter().any(|other| overlap(&it, other)));
        self.conflict(is_free, "operator_listen", "must not be an address of", "listen")
    }

    fn conflict(
        &self,
        holds: bool,
        key: &'static str,
        rule: &'static str,
        other: &'static str,
    ) -> Result<(), Error> {
        if holds {
            return Ok(());
        }
        let said = Box::new([self.value(key).1, self.value(other).1]);
        Err(Error::Conflict { key, rule, other, said })
    }

    fn value(&self, key: &str) -> (&'static Setting, Value) {
        let setting = settings::find(key).expect("only settings of the table are read");
        let mut value = self.said.of(setting);
        value.text = value.text.trim().to_owned();
        (setting, value)
    }

    pub(super) fn text(&self, key: &str) -> String {
        self.value(key).1.text
    }

    /// An amount within its bounds; `None` for `off`.
    fn amount<T: PartialOrd>(
        &self,
        key: &str,
        parse: fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let (setting, value) = self.value(key);
        if setting.off && value.text == "off" {
            return Ok(None);
        }
        let Some(amount) = parse(&value.text) else { return Err(Error::invalid(setting, value)) };
        let (least, most) = setting.bounds;
        let bound = |text| parse(text).expect("the table's bounds are valid; a test reads them");
        if amount < bound(least) || amount > bound(most) {
            return Err(Error::OutOfBounds { key: setting.key, said: value, least, most });
        }
        Ok(Some(amount))
    }

    pub(super) fn duration(&self, key: &str) -> Result<Duration, Error> {
        let amount = self.amount(key, units::duration)?;
        Ok(amount.expect("settings that may be off are read with amount"))
    }

    pub(super) fn size(&self, key: &str) -> Result<usize, Error> {
        let amount = self.amount(key, units::size)?;
        Ok(amount.expect("settings that may be off are read with amount") as usize)
    }

    pub(super) fn count(&self, key: &str) -> Result<usize, Error> {
        let amount = self.amount(key, units::count)?;
        Ok(amount.expect("settings that may be off are read with amount") as usize)
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, Error> {
        let (setting, value) = self.value(key);
        value.text.parse().map_err(|_| Error::invalid(setting, value))
    }

    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        Some(self.text(key)).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    pub(super) fn address(&self, key: &str) -> Result<Option<SocketAddr>, Error> {
        let (setting, value) = self.value(key);
        match value.text.parse() {
            Ok(address) => Ok(Some(address)),
            Err(_) if setting.off && value.text == "off" => Ok(None),
            Err(_) => Err(Error::invalid(setting, value)),
        }
    }

    pub(super) fn addresses(&self, key: &str) -> Result<Vec<SocketAddr>, Error> {
        let (setting, value) = self.value(key);
        let items = value.text.split(',').map(|item| item.trim().parse());
        items.collect::<Result<_, _>>().map_err(|_| Error::invalid(setting, value))
    }

    /// Entries with commas between them, none of which is one that could never match.
    pub(super) fn entries<T: FromStr<Err = BadEntry>>(&self, key: &str) -> Result<T, Error> {
        let (setting, value) = self.value(key);
        let (key, expected, origin) = (setting.key, setting.kind.expected(), value.origin);
        value.text.parse().map_err(|bad| Error::Entry { key, bad, expected, origin })
    }

    pub(super) fn base_path(&self, key: &str) -> Result<BasePath, Error> {
        let (setting, value) = self.value(key);
        value.text.parse().map_err(|_| Error::invalid(setting, value))
    }

    pub(super) fn certificate(&self) -> Result<Option<server::tls::Files>, Error> {
        let half = |key: &'static str, missing| {
            Err(Error::Half { key, origin: self.value(key).1.origin, missing })
        };
        match (self.path("tls_cert"), self.path("tls_key")) {
            (Some(cert), Some(key)) => Ok(Some(server::tls::Files { cert, key })),
            (Some(_), None) => half("tls_cert", "tls_key"),
            (None, Some(_)) => half("tls_key", "tls_cert"),
            (None, None) => Ok(None),
        }
    }
}
