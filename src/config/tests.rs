use std::fmt::Write as _;
use std::time::Duration;

use super::said::Origin;
use super::settings::{Kind, Setting};
use super::*;
use crate::protocol::RoomName;

const EXAMPLE: &str = "docs/dormouse.example.toml";

fn file(text: &str) -> Result<Config, Error> {
    let mut said = Said::default();
    said.add_file(Path::new("dormouse.toml"), text)?;
    Config::new(&said)
}

fn complaint(text: &str) -> String {
    file(text).unwrap_err().to_string()
}

/// What flags and environment say; the file is one that does not exist unless named.
fn load(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Config, Error> {
    let command = clap::Command::new("dormouse").args(flags());
    let arguments = std::iter::once(&"dormouse").chain(arguments);
    let matches = command.try_get_matches_from(arguments).unwrap();
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    Config::load(&matches, environment.iter().map(owned))
}

#[test]
fn nothing_said_is_what_the_design_says() {
    let config = Config::default();
    assert_eq!(config.listen, ["127.0.0.1:4433".parse().unwrap(), "[::1]:4433".parse().unwrap()]);
    assert_eq!(config.operator_listen, Some("127.0.0.1:4434".parse().unwrap()));
    assert_eq!(config.keeper.sleep_after, Duration::from_secs(10));
    assert_eq!(config.keeper.outbox.ring_bytes, 1 << 20);
    assert_eq!(config.session.message_bytes, 65_536);
    assert_eq!(config.store.retention.age, Duration::from_secs(7 * 86_400));
    assert_eq!(config.quic.idle_timeout, Duration::from_secs(20));
    assert_eq!((config.server.connections, config.rooms_awake), (100_000, 100_000));
    assert_eq!(config.rooms_hibernating, 32);
    let connects = config.server.addresses.connects;
    assert_eq!((connects.per_second, connects.burst), (30, 60));
    assert_eq!(config.server.addresses.connections, 1_000);
    assert!(config.server.addresses.loopback_is_exempt && config.kinds.is_empty());
    assert!(config.server.demo && config.server.origins.is_empty());
    assert_eq!(config.certificate, None);
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("some.toml");
    std::fs::write(&path, "[room]\nsleep_after = '1s'\nmembers = 7\nhistory_age = 'off'").unwrap();
    let path = path.to_str().unwrap();

    let environment = [("DORMOUSE_ROOM_SLEEP_AFTER", "2s"), ("DORMOUSE_ROOM_HISTORY_AGE", "3d")];
    let flags = [
        "--config",
        path,
        "--room-sleep-after",
        "3s",
        "--listen",
        "127.0.0.1:1",
        "--listen=[::1]:2",
    ];
    let config = load(&flags, &environment).unwrap();
    assert_eq!(config.keeper.sleep_after, Duration::from_secs(3), "flag");
    assert_eq!(config.store.retention.age, Duration::from_secs(3 * 86_400), "environment");
    assert_eq!(config.keeper.limits.members, 7, "file");
    assert_eq!(config.session.ping_every, Duration::from_secs(20), "default");
    assert_eq!(config.listen.len(), 2, "a flag may be repeated");
}

#[test]
fn a_complaint_names_the_value_where_it_was_said_and_what_would_do() {
    assert_eq!(
        complaint("# a comment\n[room]\nmembers = 5\n\nsleep_after = \"5x\""),
        "room.sleep_after is \"5x\", expected a duration like \"30s\" (dormouse.toml, line 5)"
    );
    assert_eq!(
        load(&[], &[("DORMOUSE_SESSION_MESSAGE_BYTES", "2MiB")]).unwrap_err().to_string(),
        "session.message_bytes is \"2MiB\", expected 1KiB to 1MiB \
         (environment variable DORMOUSE_SESSION_MESSAGE_BYTES)"
    );
    assert_eq!(
        load(&["--operator-listen", "4434"], &[]).unwrap_err().to_string(),
        "operator_listen is \"4434\", expected an address with a port like \"127.0.0.1:4434\" \
         or \"off\" (flag --operator-listen)"
    );
    assert_eq!(
        complaint("demo = [1]"),
        "demo is \"array\", expected \"true\" or \"false\" (dormouse.toml, line 1)"
    );
}

#[test]
fn an_unknown_name_is_an_error_that_guesses_what_was_meant() {
    assert_eq!(
        complaint("listen = '127.0.0.1:1'\nsleep_after = '5s'"),
        "there is no setting sleep_after, did you mean room.sleep_after? (dormouse.toml, line 2)"
    );
    assert_eq!(
        complaint("[session]\nping-every = '5s'"),
        "there is no setting session.ping-every, did you mean session.ping_every? (dormouse.toml, line 2)"
    );
    assert_eq!(complaint("[attic]\nx = 1"), "there is no setting [attic] (dormouse.toml, line 1)");
    let variable = load(&[], &[("DORMOUSE_SLEEP_AFTER", "5s")]).unwrap_err().to_string();
    assert!(variable.contains("did you mean DORMOUSE_ROOM_SLEEP_AFTER?"), "{variable}");
}

#[test]
fn what_others_put_into_the_environment_is_not_taken_for_settings() {
    let injected = [
        ("DORMOUSE_SERVICE_HOST", "10.0.0.1"),
        ("DORMOUSE_GATEWAY_SERVICE_PORT_HTTP", "4433"),
        ("DORMOUSE_PORT", "tcp://10.0.0.1:4433"),
        ("DORMOUSE_PORT_4433_TCP_ADDR", "10.0.0.1"),
        ("DORMOUSE_BIN", "a harness's"),
        ("DORMOUSEQUE", "not ours"),
    ];
    assert!(load(&[], &injected).is_ok());
    assert!(load(&[], &[("DORMOUSE_SESSION_PONGTIMEOUT", "5s")]).is_err());
    assert!(load(&[], &[("DORMOUSE_QUIC_PORTS", "5")]).is_err());
}

fn room(text: &str) -> RoomName {
    text.parse().unwrap()
}

#[test]
fn a_kind_of_rooms_may_change_whatever_room_may_and_nothing_else() {
    let config = file(
        "[room]\nsleep_after = '20s'\nmembers = 7\n\
         [rooms.'game-*']\nsleep_after = '1m'\nhistory_messages = 50\njournal_bytes = '8KiB'\n\
         auto_responses = [['ping', 'pong']]\n\
         [rooms.lobby]\nhistory_age = 'off'",
    )
    .unwrap();
    assert_eq!(config.keeper.sleep_after, Duration::from_secs(20));
    let kinds = Kinds::new(config.keeper, config.kinds);
    let seconds = |name| kinds.of(&room(name)).sleep_after.as_secs();
    assert_eq!((seconds("game-1"), seconds("lobby"), seconds("attic")), (60, 20, 20));
    assert_eq!(kinds.of(&room("game-1")).limits.members, 7, "what it does not say is as for all");
    let kept = |name| config.store.retention_of(&room(name)).clone();
    assert_eq!((kept("game-1").messages, kept("lobby").messages), (50, 10_000));
    assert_eq!((kept("game-1").age, kept("lobby").age), (kept("attic").age, units::NO_AGE));
    assert_eq!(config.store.journal_bytes_of(&room("game-1")), 8_192);
    assert_eq!(config.store.journal_bytes_of(&room("attic")), 4 << 20);
    let answer = |name| config.session.auto_responses.of(&room(name)).to(b"ping").is_some();
    assert!(answer("game-1") && !answer("lobby"));
}

#[test]
fn a_kind_wins_over_whatever_is_said_of_all_rooms() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("some.toml");
    std::fs::write(&path, "[rooms.'game-*']\nsleep_after = '1m'").unwrap();
    let flags = ["--config", path.to_str().unwrap(), "--room-sleep-after", "3s"];
    let config = load(&flags, &[]).unwrap();
    assert_eq!(config.keeper.sleep_after, Duration::from_secs(3));
    assert_eq!(config.kinds[0].1.sleep_after, Duration::from_secs(60));
}

#[test]
fn what_is_wrong_with_a_kind_is_said_with_its_section() {
    let kind = |text: &str| complaint(&format!("[rooms.'game-*']\n{text}"));
    assert_eq!(
        kind("\nsleep_after = '5x'"),
        "room.sleep_after is \"5x\", expected a duration like \"30s\" \
         ([rooms.\"game-*\"], dormouse.toml, line 3)"
    );
    assert_eq!(
        kind("sleepafter = '5s'"),
        "there is no setting room.sleepafter, did you mean room.sleep_after? \
         ([rooms.\"game-*\"], dormouse.toml, line 2)"
    );
    assert!(kind("grace = '5s'").contains("did you mean session.grace?"));
    assert_eq!(
        kind("ring_bytes = '128KiB'"),
        "room.ring_bytes is \"128KiB\" ([rooms.\"game-*\"], dormouse.toml, line 2), but must hold \
         4 times session.message_bytes, which is \"64KiB\" (the default)"
    );
    assert_eq!(
        complaint("[rooms.'a b']"),
        "[rooms.\"a b\"] is for no room (dormouse.toml, line 1)"
    );
    assert_eq!(complaint("[rooms]\nx = 1"), "there is no setting rooms.x (dormouse.toml, line 2)");
    assert_eq!(complaint("rooms = 1"), "there is no setting rooms (dormouse.toml, line 1)");
}

#[test]
fn there_are_only_so_many_kinds() {
    let kinds = |count: usize| (0..count).map(|n| format!("[rooms.'{n}-*']\n")).collect::<String>();
    assert_eq!(file(&kinds(said::PATTERNS)).unwrap().kinds.len(), said::PATTERNS);
    let complaint = complaint(&kinds(said::PATTERNS + 1));
    assert!(complaint.starts_with("there are more than 64 sections [rooms.…] ("), "{complaint}");
}

#[test]
fn auto_responses_are_pairs_in_the_file_and_json_elsewhere() {
    let flag = load(&["--room-auto-responses", "[[\"ping\",\"pong\"]]"], &[]).unwrap();
    assert_eq!(flag.session.auto_responses.usual().to(b"ping"), Some("pong"));
    let of = |pairs: &str| format!("[room]\nauto_responses = {pairs}");
    let config = file(&of("[['a', 'b,\"'], ['{\"type\":\"x\"}', 'c']]")).unwrap();
    let responses = config.session.auto_responses.usual();
    assert_eq!(responses.to(b"a"), Some("b,\""));
    assert_eq!(responses.to(b"{\"type\":\"x\"}"), Some("c"));
    for bad in ["'ping'", "['a', 'b']", "[['a']]", "[['a', 'b', 'c']]", "[['a', '']]", "7"] {
        assert!(complaint(&of(bad)).contains("expected at most 8 pairs like"), "{bad}");
    }
    let long = "x".repeat(1_025);
    let text = format!(
        "[session]\nmessage_bytes = '1KiB'\nattachment_bytes = 0\n{}",
        of(&format!("[['{long}', 'b']]"))
    );
    assert!(complaint(&text).contains("each request must fit into session.message_bytes"));
}

#[test]
fn limits_that_need_each_other_are_checked() {
    assert_eq!(
        complaint("[session]\nping_every = '5s'"),
        "session.pong_timeout is \"10s\" (the default), but must be shorter than \
         session.ping_every, which is \"5s\" (dormouse.toml, line 2)"
    );
    for (text, fragment) in [
        ("operator_listen = '127.0.0.1:4433'", "must not be an address of listen"),
        ("operator_listen = '0.0.0.0:4433'", "must not be an address of listen"),
        ("listen = ['[::]:80', '[::1]:80']", "[::]:80 and [::1]:80 cannot both be listened to"),
        ("[room]\nring_bytes = '128KiB'", "must hold 4 times session.message_bytes"),
        ("[room]\nwaking_bytes = '4KiB'", "must be at least session.message_bytes"),
        ("[quic]\nstream_window = '4KiB'", "must be at least session.message_bytes"),
        ("[quic]\nkeep_alive = '30s'", "must be shorter than quic.idle_timeout"),
        ("[session]\noutbox_bytes = '4KiB'", "must be at least session.message_bytes"),
        ("[session]\nresume_window = '1s'", "must be at least session.grace"),
        ("[session]\nauthor_window = '1m'", "must be at least session.resume_window"),
        ("[session]\nmessage_bytes = '8KiB'", "must be less than session.message_bytes"),
        ("[room]\njournal_bytes = '1GiB'", "must be at most store.journal_total_bytes"),
        ("tls_cert = 'a.pem'", "without tls_key"),
        ("tls_key = 'a.pem'", "without tls_cert"),
    ] {
        assert!(complaint(text).contains(fragment), "{text}: {}", complaint(text));
    }
}

#[test]
fn a_file_that_is_no_toml_or_not_there_is_said() {
    let broken = complaint("[room]\nmembers = = 5");
    assert!(broken.ends_with("(dormouse.toml, line 2)"), "{broken}");
    let missing = load(&["--config", "nowhere.toml"], &[]).unwrap_err().to_string();
    assert_eq!(missing, "cannot read the configuration file nowhere.toml");
}

#[test]
fn lists_are_read_with_commas_or_as_arrays() {
    let config = file(
        "listen = ['0.0.0.0:80', '[::]:80']\n\
         [gateway]\norigins = 'https://A.example, https://b.example:8443'\n\
         hosts = ['rooms.example', '*.rooms.example']\nbase_path = '/realtime/'",
    )
    .unwrap();
    assert_eq!(config.listen.len(), 2);
    for origin in ["https://a.example", "https://b.example:8443"] {
        assert!(config.server.origins.have(origin), "{origin}");
    }
    assert!(config.server.hosts.has("a.rooms.example"));
    assert_eq!(config.server.base_path.as_str(), "/realtime");
    let flags = ["--gateway-origins=https://a.example", "--gateway-origins=null"];
    let config = load(&flags, &[("DORMOUSE_GATEWAY_HOSTS", "a.example, b.example")]).unwrap();
    assert!(config.server.origins.have("https://a.example") && config.server.origins.have("null"));
    assert!(config.server.hosts.has("a.example") && config.server.hosts.has("b.example"));
}

/// Such an entry would be taken in silence, and pages would be refused.
#[test]
fn an_entry_that_could_never_match_is_an_error_wherever_it_is_said() {
    let expected = "expected web origins like \"https://example.org\", \
                    \"https://*.example.org\", \"null\" or \"*\"";
    assert_eq!(
        complaint("[gateway]\norigins = ['https://a.example', 'https://user@h']"),
        format!(
            "gateway.origins has \"https://user@h\": an origin has no user and no password; \
             {expected} (dormouse.toml, line 2)"
        )
    );
    assert_eq!(
        load(&[], &[("DORMOUSE_GATEWAY_ORIGINS", "https://a b")]).unwrap_err().to_string(),
        format!(
            "gateway.origins has \"https://a b\": that is no name and no address of a host; \
             {expected} (environment variable DORMOUSE_GATEWAY_ORIGINS)"
        )
    );
    assert_eq!(
        load(&["--gateway-origins", "https://a*.example"], &[]).unwrap_err().to_string(),
        format!(
            "gateway.origins has \"https://a*.example\": \"*\" stands alone, or for the first \
             labels of a name as in \"*.example.org\"; {expected} (flag --gateway-origins)"
        )
    );
    assert_eq!(
        complaint("[gateway]\nhosts = 'https://app.example'"),
        "gateway.hosts has \"https://app.example\": a host is listed without a scheme, as in \
         \"app.example\"; expected hosts without ports like \"app.example\", \"*.example.org\" or \
         \"*\" (dormouse.toml, line 2)"
    );
    let base_path = complaint("[gateway]\nbase_path = 'realtime'");
    assert!(
        base_path.starts_with("gateway.base_path is \"realtime\", expected a path of at most 256"),
        "{base_path}"
    );
}

/// A setting that stands in the table but is read nowhere would be a promise not kept: what is
/// no value for any kind must be noticed.
#[test]
fn every_setting_is_read_and_keeps_its_bounds() {
    for setting in SETTINGS.iter().filter(|setting| setting.kind != Kind::Path) {
        // A sleeping face alone could be a host's name.
        let error = load(&[&format!("--{}=\u{1f634} ?", setting.flag())], &[]).unwrap_err();
        let said_of = match error {
            Error::Invalid { key, .. } | Error::Entry { key, .. } => key,
            other => panic!("{other}"),
        };
        assert_eq!(said_of, setting.key);
        let (least, most) = setting.bounds;
        if setting.default == "off" {
            assert!(setting.off, "{}", setting.key);
        } else if setting.kind == Kind::Duration {
            let [least, most, default] =
                [least, most, setting.default].map(|t| units::duration(t).unwrap());
            assert!(least <= default && default <= most, "{}", setting.key);
        }
        if matches!(setting.kind, Kind::Size | Kind::Count) {
            let [least, most, default] =
                [least, most, setting.default].map(|t| units::size(t).unwrap());
            assert!(least <= default && default <= most, "{}", setting.key);
        }
    }
}

/// How an amount is read.
type Read = fn(&str) -> Option<u64>;

/// The settings that are amounts, with how one is read and the unit in which one more is the least.
fn amounts() -> impl Iterator<Item = (&'static Setting, Read, &'static str)> {
    let ms: Read = |text| Some(units::duration(text)?.as_millis() as u64);
    SETTINGS.iter().filter_map(move |setting| match setting.kind {
        Kind::Duration => Some((setting, ms, "ms")),
        Kind::Size => Some((setting, units::size as _, "")),
        Kind::Count => Some((setting, units::count as _, "")),
        Kind::Rate => Some((setting, units::rate as _, "/s")),
        _ => None,
    })
}

#[test]
fn the_least_and_the_most_of_a_setting_are_taken_and_nothing_beyond_them() {
    for (setting, read, unit) in amounts() {
        let is_out = |amount: u64| {
            let error = load(&[&format!("--{}={amount}{unit}", setting.flag())], &[]).err();
            match error {
                Some(Error::OutOfBounds { key, .. }) => key == setting.key,
                Some(Error::Invalid { .. }) => panic!("{} cannot be {amount}", setting.key),
                _ => false, // it may conflict with another
            }
        };
        let (least, most) = setting.bounds;
        let (least, most) = (read(least).unwrap(), read(most).unwrap());
        assert!(!is_out(least) && !is_out(most), "{}", setting.key);
        assert!(is_out(most + 1), "{}: one beyond", setting.key);
        assert!(least == 0 || is_out(least - 1), "{}: one below", setting.key);
    }
}

/// Where values stand in a configuration, as `keeper.rates.room.per_second: 500`.
fn places(config: &Config) -> Vec<String> {
    let (mut path, mut found) = (Vec::<&str>::new(), Vec::new());
    let text = format!("{config:#?}");
    for line in text.lines() {
        let (depth, line) = ((line.len() - line.trim_start().len()) / 4, line.trim());
        path.truncate(depth);
        let (name, value) = line.split_once(": ").unwrap_or(("", line));
        path.push(name);
        if !value.ends_with(['{', '(', '[']) {
            let names: Vec<_> = path.iter().copied().filter(|name| !name.is_empty()).collect();
            found.push(format!("{} {}", names.join("."), value.trim_end_matches(',')));
        }
    }
    found
}

/// The places that a change of one setting reaches, by the least that it can grow.
fn changed(
    setting: &Setting,
    read: fn(&str) -> Option<u64>,
    said: impl Fn(u64) -> [Config; 2],
) -> Vec<String> {
    const OFF: u64 = 59_999; // one more is a minute, the least that such a setting may be
    let [before, now] = said(read(setting.default).unwrap_or(OFF) + 1);
    let before = places(&before);
    let is_new = |place: &String| !before.contains(place) && place.ends_with(char::is_alphanumeric);
    places(&now).into_iter().filter(is_new).collect()
}

/// Where each amount ends that an operator says, one more than its default each time: a limit that
/// is read into another's place, or reaches one of two only, would be kept all the same.
#[rustfmt::skip] // a table is read down its columns
const PLACES: &[(&str, &[&str])] = &[
    ("room.sleep_after", &["keeper.sleep_after 10.001s"]),
    ("room.members", &["keeper.limits.members 10001", "session.limits.members 10001"]),
    ("room.mailbox_events", &["keeper.mailbox_events 1025"]),
    ("room.waking_bytes", &["keeper.waking_bytes 1048577"]),
    ("room.history_messages", &["store.retention.messages 10001"]),
    ("room.history_age", &["store.retention.age 604800.001s"]),
    ("room.history_bytes", &["store.retention.bytes 67108865"]),
    ("room.idle_delete", &["store.retention.idle_delete 60s"]),
    ("room.journal_bytes", &["store.journal_bytes 4194305"]),
    ("room.ring_bytes", &["keeper.outbox.ring_bytes 1048577"]),
    ("room.ring_age", &["keeper.outbox.ring_age 1.001s"]),
    ("room.publish_rate", &["keeper.rates.room.per_second 501", "keeper.rates.room.burst 501"]),
    ("room.presence_every", &["keeper.presence_every 101ms"]),
    ("room.presence_bytes", &["keeper.outbox.presence_bytes 65537"]),
    ("room.page_bytes", &["keeper.outbox.page_bytes 262145"]),
    ("session.message_bytes", &["keeper.message_bytes 65537", "session.message_bytes 65537"]),
    ("session.attachment_bytes", &["keeper.limits.attachment_bytes 16385", "session.limits.attachment_bytes 16385"]),
    ("session.tags", &["keeper.limits.tags 11", "session.limits.tags 11"]),
    ("session.name_chars", &["keeper.limits.name_chars 65", "session.limits.name_chars 65"]),
    ("session.key_bytes", &["keeper.limits.key_bytes 65", "session.limits.key_bytes 65"]),
    ("session.publish_rate", &["keeper.rates.publishes.per_second 21"]),
    ("session.publish_burst", &["keeper.rates.publishes.burst 41"]),
    ("session.ephemeral_rate", &["keeper.ephemeral_rate.per_second 61", "keeper.ephemeral_rate.burst 61", "session.ephemeral_rate.per_second 61", "session.ephemeral_rate.burst 61"]),
    ("session.ephemeral_keys", &["keeper.ephemeral_keys 9", "session.ephemeral_keys 9"]),
    ("session.requests_rate", &["keeper.rates.requests.per_second 21", "keeper.rates.requests.burst 42"]),
    ("session.publishes_in_flight", &["keeper.publishes_in_flight 65", "session.publishes_in_flight 65"]),
    ("session.outbox_bytes", &["keeper.outbox.outbox_bytes 262145"]),
    ("session.send_buffer", &["server.send_buffer 262145"]),
    ("session.stalled_after", &["session.stalled_after 30.001s"]),
    ("session.hello_timeout", &["session.hello_timeout 10.001s"]),
    ("session.heartbeat", &["keeper.heartbeat 25.001s", "session.heartbeat 25.001s"]),
    ("session.ping_every", &["session.ping_every 20.001s"]),
    ("session.pong_timeout", &["session.pong_timeout 10.001s"]),
    ("session.close_linger", &["session.close_linger 2.001s"]),
    ("session.grace", &["keeper.grace 15.001s"]),
    ("session.resume_window", &["keeper.resume_window 120.001s"]),
    ("session.author_window", &["session.author_window 604800.001s"]),
    ("store.journal_total_bytes", &["store.journal_total_bytes 268435457"]),
    ("store.journal_age", &["store.journal_age 60.001s"]),
    ("store.journal_cache", &["store.journal_cache 16777217"]),
    ("store.rooms_cache", &["store.rooms_cache 67108865"]),
    ("store.reserve", &["store.reserve 16777217"]),
    ("quic.keep_alive", &["quic.keep_alive 12.001s"]),
    ("quic.idle_timeout", &["quic.idle_timeout 20.001s"]),
    ("quic.stream_window", &["quic.stream_window 131073"]),
    ("quic.send_window", &["quic.send_window 1048577"]),
    ("gateway.connections", &["server.connections 100001"]),
    ("gateway.rooms_awake", &["rooms_awake 100001"]),
    ("gateway.rooms_hibernating", &["rooms_hibernating 33"]),
    ("gateway.connects_per_address", &["server.addresses.connects.per_second 31"]),
    ("gateway.connects_burst", &["server.addresses.connects.burst 61"]),
    ("gateway.connections_per_address", &["server.addresses.connections 1001"]),
    ("gateway.drain_spread", &["drain_spread 30.001s"]),
];

#[test]
fn every_amount_ends_where_its_name_says_and_nowhere_else() {
    let mut found = Vec::new();
    for (setting, read, unit) in amounts() {
        let said = |amount: u64| {
            let flag = format!("--{}={amount}{unit}", setting.flag());
            [Config::default(), load(&[&flag], &[]).unwrap()]
        };
        found.push((setting.key, changed(setting, read, said)));
    }
    let expected: Vec<_> = PLACES.iter().map(|(key, to)| (*key, to.to_vec())).collect();
    assert_eq!(found.len(), expected.len(), "say in PLACES where a new setting ends");
    for ((key, to), expected) in found.iter().zip(expected) {
        assert_eq!((*key, to.iter().map(String::as_str).collect::<Vec<_>>()), expected);
    }
}

#[test]
fn every_amount_of_a_room_can_be_said_for_a_kind_and_is_that_kinds_alone() {
    let of_rooms = amounts().filter(|(setting, ..)| setting.section() == Some("room"));
    for (setting, read, unit) in of_rooms {
        let kind = "[rooms.'game-*']\n";
        let said = |amount: u64| {
            let value = match setting.kind {
                Kind::Count => amount.to_string(),
                _ => format!("'{amount}{unit}'"),
            };
            let text = format!("{kind}{} = {value}", setting.name());
            [file(kind).unwrap(), file(&text).unwrap()]
        };
        let reached = changed(setting, read, said);
        let usual = PLACES.iter().find(|(key, _)| *key == setting.key).unwrap().1;
        // What sessions go by is the same in every room.
        let usual = usual.iter().filter(|place| !place.starts_with("session."));
        let usual: Vec<_> = usual.map(|place| place.split_once('.').unwrap().1).collect();
        assert_eq!(reached.len(), usual.len(), "{}: {reached:?}", setting.key);
        for (reached, usual) in reached.iter().zip(usual) {
            let is_of_kinds = reached.starts_with("kinds.") || reached.starts_with("store.kinds.");
            assert!(is_of_kinds && reached.ends_with(usual), "{}: {reached}", setting.key);
        }
    }
}

#[test]
fn the_example_file_has_every_setting_with_its_default() {
    let kept = std::fs::read_to_string(EXAMPLE).unwrap();
    assert_eq!(kept, example(), "write it anew: cargo test write_the_example -- --ignored");

    let mut said = Said::default();
    let uncommented: String = kept
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    said.add_file(Path::new(EXAMPLE), &uncommented).unwrap();
    for setting in SETTINGS {
        let value = said.of(setting);
        assert_ne!(value.origin, Origin::Default, "{} is missing", setting.key);
        assert_eq!(value.text, setting.default, "{}", setting.key);
    }
}

#[test]
#[ignore = "writes the file that the test above compares"]
fn write_the_example() {
    std::fs::write(EXAMPLE, example()).unwrap();
}

/// The example file, made from the table.
fn example() -> String {
    let mut text = String::from(
        "# Everything that may be said, with what holds when nothing is said. Take the `#` off a\n\
         # line to change it. The same name is a flag (--room-sleep-after) and an environment\n\
         # variable (DORMOUSE_ROOM_SLEEP_AFTER); a flag wins over the environment, that over this.\n\
         # Durations: 250ms, 10s, 2m, 1h, 7d. Sizes: 512, 64KiB, 1MiB, 2GiB.\n",
    );
    let mut section = None;
    for setting in SETTINGS {
        if setting.section() != section {
            section = setting.section();
            write!(text, "\n[{}]\n", section.expect("top settings come first")).unwrap();
        }
        text.push('\n');
        let off = if setting.off { " `off`: no limit." } else { "" };
        let off = if setting.kind == Kind::Address { " `off`: none." } else { off };
        for line in wrapped(&format!("{}{off}", setting.help), 95) {
            writeln!(text, "# {line}").unwrap();
        }
        writeln!(text, "#{} = {}", setting.name(), toml(setting)).unwrap();
    }
    text + ROOMS_EXAMPLE
}

const ROOMS_EXAMPLE: &str = r#"
# Rooms of some names may be otherwise: whatever [room] may say, such a section may say for the
# rooms whose names match. `*` stands for any number of characters, none included; everything
# else for itself. One section holds for a room: the one with the most characters that are no
# `*`; of two as specific, the first in the alphabet. What it does not say is as for all rooms;
# what it says wins over [room], whoever said that, a flag too. At most 64 sections; they stand in
# this file only, and are read once: a room keeps its settings for as long as somebody is in it.
#[rooms."game-*"]
#sleep_after = "1m"
#history_messages = 100
#auto_responses = [["ping", "pong"]]
"#;

fn toml(setting: &Setting) -> String {
    let default = setting.default;
    match setting.kind {
        Kind::Count | Kind::Flag | Kind::Pairs => default.to_owned(),
        Kind::Addresses | Kind::Origins | Kind::Hosts => {
            let items: Vec<_> = default.split(',').filter(|item| !item.is_empty()).collect();
            format!("{items:?}")
        }
        _ => format!("{default:?}"),
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().unwrap();
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
