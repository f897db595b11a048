//! Every limit has a test at its bound: one below, at it, one beyond.
//!
//! Two tables say which: of the settings, and of the numbers in the code that are no settings. Both
//! are held against what there is, so that a limit that is added without such a test fails here, as
//! does a number that is changed without its test in mind. Below them are the tests of bounds that a
//! client meets and that have no better place; they run over every transport.

use std::fs;
use std::path::Path;
use std::time::Duration;

use dormouse::config::Config;
use dormouse::config::settings::SETTINGS;
use dormouse::testkit;
use serde_json::{Value, json};

use crate::support::{
    Client, DEADLINE, House, Takes, Transport, View, house, over_every_transport, speak,
};

/// What is said of a number.
enum Bound {
    /// These tests meet it at its bound.
    Met(&'static [&'static str]),
    /// It is no limit, and what it is instead.
    No(&'static str),
}
use Bound::{Met, No};

/// Every setting, in the order of the example file.
#[rustfmt::skip] // a table is read down its columns
const OF_SETTINGS: &[(&str, Bound)] = &[
    ("listen", No("addresses")),
    ("operator_listen", No("an address")),
    ("data_dir", No("a path")),
    ("tls_cert", No("a path")),
    ("tls_key", No("a path")),
    ("certs_dir", No("a path")),
    ("demo", No("a flag")),
    ("room.sleep_after", Met(&["a_room_sleeps_after_its_time_and_not_before"])),
    ("room.members", Met(&["a_full_room_refuses_who_is_new_and_lets_a_kept_seat_in"])),
    ("room.mailbox_events", Met(&["a_full_mailbox_refuses_and_says_when_there_is_space", "a_room_that_cannot_wake_holds_so_many_events_and_its_senders_wait"])),
    ("room.waking_bytes", Met(&["bytes_fill_a_mailbox_as_letters_do", "a_room_that_cannot_wake_holds_so_many_bytes_and_its_senders_wait"])),
    ("room.history_messages", Met(&["retention_keeps_as_many_messages_as_it_says_and_a_chunk_more_at_most"])),
    ("room.history_age", Met(&["retention_by_age_may_take_everything_but_where_the_room_was"])),
    ("room.history_bytes", Met(&["retention_by_bytes_bounds_what_the_chunks_take"])),
    ("room.idle_delete", Met(&["a_room_that_nobody_uses_goes_by_itself_and_one_with_a_member_stays"])),
    ("room.journal_bytes", Met(&["files_and_recovery_are_bounded_by_limits_and_not_by_history"])),
    ("room.ring_bytes", Met(&["what_a_stalled_reader_holds_does_not_grow_with_the_traffic", "a_full_ring_lets_go_of_the_oldest"])),
    ("room.ring_age", Met(&["nothing_stays_longer_than_ring_age"])),
    ("room.publish_rate", Met(&["a_room_has_a_rate_that_all_its_members_share", "a_burst_at_once_and_then_the_rate"])),
    ("room.presence_every", Met(&["who_leaves_and_returns_within_presence_every_did_not_move"])),
    ("room.presence_bytes", Met(&["a_change_too_large_to_keep_is_told_as_the_whole", "members_come_in_pages"])),
    ("room.page_bytes", Met(&["a_page_ends_early_at_its_bytes_but_never_before_the_first_message"])),
    ("room.auto_responses", Met(&["there_are_only_so_many_and_only_so_long_ones"])),
    ("session.message_bytes", Met(&["a_frame_has_so_many_bytes_by_every_way_it_can_come"])),
    ("session.attachment_bytes", Met(&["a_seat_is_as_large_as_its_limits_and_no_larger"])),
    ("session.tags", Met(&["a_seat_is_as_large_as_its_limits_and_no_larger"])),
    ("session.name_chars", Met(&["a_seat_is_as_large_as_its_limits_and_no_larger", "a_seed_members_name_is_cut_at_its_limit"])),
    ("session.key_bytes", Met(&["a_key_has_so_many_bytes_and_not_one_more"])),
    ("session.publish_rate", Met(&["publishes_beyond_the_burst_are_told_when_and_then_pass"])),
    ("session.publish_burst", Met(&["publishes_beyond_the_burst_are_told_when_and_then_pass"])),
    ("session.ephemeral_rate", Met(&["more_than_the_rate_is_dropped_without_a_word"])),
    ("session.ephemeral_keys", Met(&["so_many_keys_and_so_long_ones_and_no_more"])),
    ("session.requests_rate", Met(&["requests_share_a_rate_and_wake_nothing"])),
    ("session.publishes_in_flight", Met(&["so_many_publishes_may_be_unanswered_and_the_next_is_not_read"])),
    ("session.outbox_bytes", Met(&["what_is_offered_is_taken_up_to_the_queues_bytes_and_never_by_a_session_that_ends", "one_that_asks_for_pages_and_reads_none_is_not_read_from"])),
    ("session.send_buffer", Met(&["a_connection_has_the_send_buffer_that_was_asked_for"])),
    ("session.stalled_after", Met(&["progress_stands_in_for_the_pong", "who_takes_nothing_is_too_slow"])),
    ("session.hello_timeout", Met(&["hello_has_its_time", "who_says_no_hello_in_time_is_sent_away"])),
    ("session.heartbeat", No("what clients are told, and do")),
    ("session.ping_every", Met(&["a_silent_client_is_pinged_and_then_given_up"])),
    ("session.pong_timeout", Met(&["a_silent_client_is_pinged_and_then_given_up"])),
    ("session.close_linger", No("a wait for the client, cut short by its leaving")),
    ("session.grace", Met(&["grace_and_the_window_last_so_long_and_no_longer"])),
    ("session.resume_window", Met(&["grace_and_the_window_last_so_long_and_no_longer"])),
    ("session.author_window", Met(&["an_author_is_known_for_so_long_and_no_longer"])),
    ("store.journal_total_bytes", Met(&["the_journal_stops_growing_under_steady_traffic"])),
    ("store.journal_age", Met(&["old_records_are_moved_unasked"])),
    ("store.journal_cache", No("a cache: what is not in it is read")),
    ("store.rooms_cache", No("a cache: what is not in it is read")),
    ("store.reserve", Met(&["a_disk_with_less_than_the_reserve_is_nearly_full"])),
    ("quic.keep_alive", Met(&["quic_is_held_to_what_is_set"])),
    ("quic.idle_timeout", Met(&["quic_is_held_to_what_is_set", "a_half_open_webtransport_connection_is_noticed_and_leaves"])),
    ("quic.stream_window", Met(&["quic_is_held_to_what_is_set"])),
    ("quic.send_window", Met(&["quic_is_held_to_what_is_set"])),
    ("gateway.connections", Met(&["there_are_so_many_sessions_and_not_one_more"])),
    ("gateway.rooms_awake", Met(&["the_longest_idle_is_told_to_sleep_when_there_is_one_too_many", "beyond_so_many_awake_the_longest_idle_sleeps_early"])),
    ("gateway.rooms_hibernating", Met(&["so_many_fall_asleep_at_once_and_the_next_in_the_order_in_which_they_came"])),
    ("gateway.connects_per_address", Met(&["knocks_are_limited_and_an_address_is_forgotten_only_when_it_has_its_burst_again"])),
    ("gateway.connects_burst", Met(&["knocks_are_limited_and_an_address_is_forgotten_only_when_it_has_its_burst_again", "an_address_begins_so_many_where_its_packets_come_from"])),
    ("gateway.connections_per_address", Met(&["an_address_has_so_many_sessions_where_its_packets_come_from"])),
    ("gateway.drain_spread", Met(&["the_spread_is_a_second_for_a_thousand_and_never_longer_than_its_cap"])),
    ("gateway.origins", No("a list; its length is ENTRIES")),
    ("gateway.hosts", No("a list; its length is ENTRIES")),
    ("gateway.base_path", No("a path; its length is BYTES")),
];

const FORM: Bound = No("how something is written");
const PACE: Bound = No("a pace of our own: how much at once, and nobody is refused for it");
const WAIT: Bound = No("a wait, and no amount");

/// Every whole number of the gateway's code that has a name: where, which, its value.
#[rustfmt::skip]
const OF_CODE: &[(&str, &str, &str, Bound)] = &[
    ("clock.rs", "READ_MS", "1_000", WAIT),
    ("clock.rs", "SEEN_EVERY_MS", "60_000", WAIT),
    ("clock.rs", "UNTOLD", "64", PACE),
    ("clock/jumps.rs", "JUMP_MS", "10_000", WAIT),
    ("clock/jumps.rs", "REMEMBERED", "64", PACE),
    ("config/reader.rs", "TAG_BYTES", "256", Met(&["a_hello_beyond_a_limit_is_told_which_and_may_be_said_again"])),
    ("config/said.rs", "PATTERNS", "64", Met(&["there_are_only_so_many_kinds"])),
    ("dispatcher.rs", "FULL_RETRY_MS", "1_000", WAIT),
    ("dispatcher/clock.rs", "AT_ONCE", "256", PACE),
    ("dispatcher/clock.rs", "IN_HAND", "1_024", Met(&["what_is_in_hand_is_bounded_and_pauses_grow"])),
    ("dispatcher/listing.rs", "LOOKS", "1_000", PACE),
    ("dispatcher/listing.rs", "PAGE_MOST", "1_000", Met(&["a_page_has_so_many_and_not_one_more"])),
    ("gateway/bind.rs", "BACKLOG", "1_024", No("the kernel's own queue")),
    ("gateway/bind.rs", "TRIES", "16", PACE),
    ("keeper/crowd.rs", "AT_ONCE", "64", PACE),
    ("keeper/crowd.rs", "BETWEEN_PAUSES", "32", PACE),
    ("keeper/crowd.rs", "FEW", "AT_ONCE / 2", PACE),
    ("keeper/crowd.rs", "PART", "512", PACE),
    ("keeper/delivery.rs", "BUSY_RETRY_MS", "1_000", WAIT),
    ("keeper/failure.rs", "RETURN_MS", "1_000", WAIT),
    ("keeper/page.rs", "RETRY_MS", "1_000", WAIT),
    ("keeper/page.rs", "STEP", "32", PACE),
    ("keeper/state/presence.rs", "SMALL_MEMBERS", "200", Met(&["above_two_hundred_members_a_room_is_large"])),
    ("keeper/state/recovery.rs", "FIRST_PAUSE_MS", "100", WAIT),
    ("keeper/state/recovery.rs", "LONGEST_PAUSE_MS", "5_000", WAIT),
    ("keeper/state/requests.rs", "MEMBERS", "200", Met(&["a_page_of_members_has_so_many_and_not_one_more"])),
    ("keeper/state/requests.rs", "MEMBERS_MOST", "1_000", Met(&["a_page_of_members_has_so_many_and_not_one_more"])),
    ("keeper/state/requests.rs", "PAGE", "100", Met(&["a_page_of_the_log_has_so_many_and_not_one_more"])),
    ("keeper/state/requests.rs", "PAGE_MOST", "256", Met(&["a_page_of_the_log_has_so_many_and_not_one_more", "a_page_has_what_was_asked_for_and_says_whether_there_is_more"])),
    ("keeper/state/seating.rs", "SEED_HISTORY", "100", Met(&["joining_shows_the_last_hundred_then_the_line_then_the_users"])),
    ("keeper/task.rs", "SLICE_MESSAGES", "256", PACE),
    ("outbox/ephemerals.rs", "SLOTS_BYTES", "256 * 1024", Met(&["a_full_table_lets_go_of_the_oldest_and_a_reader_takes_a_piece_at_a_time"])),
    ("outbox/ephemerals.rs", "TAKE_BYTES", "32 * 1024", PACE),
    ("outbox/lending.rs", "REMEMBERED", "2 * Framing::COUNT", PACE),
    ("outbox/lending.rs", "ROUNDS", "4", PACE),
    ("outbox/presence.rs", "CHANGES", "64", Met(&["only_so_many_changes_are_kept"])),
    ("outbox/reader.rs", "GATHER_BYTES", "64 * 1024", PACE),
    ("outbox/refusals.rs", "REFUSED_IN_A_ROW", "1_000", Met(&["a_thousand_refusals_in_a_row_end_the_session", "a_frame_that_is_taken_ends_a_row_of_refusals"])),
    ("outbox/ring.rs", "CHUNK_BYTES", "64 * 1024", PACE),
    ("outbox/ring.rs", "NEWEST", "8", PACE),
    ("outbox/unsent.rs", "PIECES", "32", PACE),
    ("protocol/claim.rs", "SIGNED", "25", FORM),
    ("protocol/claim.rs", "TAG", "16", FORM),
    ("protocol/framing.rs", "HEADER_BYTES", "10", FORM),
    ("protocol/ids.rs", "ROOM_NAME_BYTES", "128", Met(&["a_room_has_a_good_name", "a_room_name_is_what_the_design_allows_and_nothing_else"])),
    ("protocol/json.rs", "DEPTH", "32", Met(&["nesting_has_a_limit", "the_deepest_that_is_allowed_is_delivered"])),
    ("protocol/json.rs", "INTEGER", "(1 << 53) - 1", Met(&["an_integer_is_as_large_as_every_client_can_read_and_no_larger"])),
    ("protocol/profile.rs", "COUNT", "3", FORM),
    ("protocol/v1/request_id.rs", "LONGEST_NAME", "r#\"\"\\u0069\\u0064\"\"#.len()", FORM),
    ("protocol/v1/request_id.rs", "LONGEST_NUMBER", "16", FORM),
    ("room/keys.rs", "KEPT", "4_096", Met(&["exactly_the_newest_keys_are_kept"])),
    ("room/seats.rs", "MEMBER_BYTES", "120", No("an estimate")),
    ("server/addresses.rs", "REMEMBERED", "32_768", Met(&["only_so_many_addresses_are_remembered"])),
    ("server/base_path.rs", "BYTES", "256", Met(&["a_base_path_has_so_many_bytes_and_not_one_more"])),
    ("server/demo.rs", "ROOMS", "50", No("as many as a page shows")),
    ("server/hosts.rs", "ENTRIES", "1_024", Met(&["a_list_has_so_many_entries_and_not_one_more"])),
    ("server/hosts.rs", "LABEL_BYTES", "63", Met(&["a_name_has_so_many_bytes_and_not_one_more"])),
    ("server/hosts.rs", "NAME_BYTES", "253", Met(&["a_name_has_so_many_bytes_and_not_one_more"])),
    ("server/listener.rs", "HEAD_BYTES", "32 * 1024", Met(&["the_head_of_a_request_has_so_many_bytes"])),
    ("server/listener.rs", "VISITORS", "1_024", No("a limit that no test meets: it may not open so many sockets")),
    ("server/operator/reading.rs", "MESSAGES_MOST", "256", Met(&["a_page_has_so_many_and_not_one_more"])),
    ("server/operator/reading.rs", "PAGE", "100", Met(&["a_page_has_so_many_and_not_one_more"])),
    ("server/refusals.rs", "SHOWN_CHARS", "128", Met(&["a_header_is_shown_without_its_control_characters_and_not_at_any_length"])),
    ("server/websocket.rs", "CODEC_BUFFER", "1024", PACE),
    ("server/websocket.rs", "READ_BUFFER", "8 * 1024", PACE),
    ("server/websocket/boundary.rs", "HEADER_BYTES", "14", FORM),
    ("server/webtransport.rs", "BIDI_STREAMS", "8", Met(&["quic_is_held_to_what_is_set"])),
    ("server/webtransport.rs", "READ_BUFFER", "4 * 1024", PACE),
    ("server/webtransport.rs", "UNI_STREAMS", "3", Met(&["quic_is_held_to_what_is_set"])),
    ("server/webtransport.rs", "VISITORS", "1_024", No("a limit that no test meets: it may not open so many sockets")),
    ("server/webtransport/h3.rs", "CLOSE_SESSION", "0x2843", FORM),
    ("server/webtransport/h3.rs", "CONTROL", "0x00", FORM),
    ("server/webtransport/h3.rs", "DATA", "0x00", FORM),
    ("server/webtransport/h3.rs", "FRAME_BYTES", "4_096", Met(&["the_head_of_a_request_has_so_many_bytes"])),
    ("server/webtransport/h3.rs", "HEADERS", "0x01", FORM),
    ("server/webtransport/h3.rs", "WEBTRANSPORT_STREAM", "0x41", FORM),
    ("server/webtransport/main_stream.rs", "DATAGRAM_BYTES", "1_150", Met(&["bytes_and_what_is_too_large_for_a_datagram_come_as_frames"])),
    ("session/auto.rs", "PAIRS", "8", Met(&["there_are_only_so_many_and_only_so_long_ones"])),
    ("session/auto.rs", "SIDE_BYTES", "2_048", Met(&["there_are_only_so_many_and_only_so_long_ones"])),
    ("session/count.rs", "PER_SECOND", "1_000", Met(&["the_spread_is_a_second_for_a_thousand_and_never_longer_than_its_cap"])),
    ("session/life.rs", "SLICE_MESSAGES", "256", PACE),
    ("session/seed.rs", "BURST_MS", "5_000", Met(&["ten_at_once_and_then_two_a_second"])),
    ("session/seed.rs", "EVERY_MS", "500", Met(&["ten_at_once_and_then_two_a_second"])),
    ("session/v1.rs", "HISTORY", "100", Met(&["a_hello_shows_so_much_history_and_not_one_message_more"])),
    ("session/v1.rs", "HISTORY_MOST", "1_000", Met(&["a_hello_shows_so_much_history_and_not_one_message_more"])),
    ("store/mod.rs", "KEYS_KEPT", "4096", Met(&["exactly_the_newest_keys_are_kept"])),
    ("store/redb/check.rs", "CACHE", "32 << 20", No("a cache: what is not in it is read")),
    ("store/redb/check.rs", "NAMED", "50", No("as many as a command shows")),
    ("store/redb/index.rs", "MOVE_BYTES", "16 << 20", PACE),
    ("store/redb/index.rs", "MOVE_ROOMS", "500", PACE),
    ("store/redb/index.rs", "TRIM_ENTRIES", "10_000", PACE),
    ("store/redb/journal.rs", "MANY", "8", PACE),
    ("store/redb/look.rs", "CACHE", "16 << 20", No("a cache: what is not in it is read")),
    ("store/redb/mover.rs", "BATCH", "500", PACE),
    ("store/redb/mover.rs", "WAITING", "1024", Met(&["the_movers_line_has_a_limit_and_who_comes_then_is_told"])),
    ("store/redb/overlay.rs", "BLOCK", "4096", FORM),
    ("store/redb/queue.rs", "BATCH_BYTES", "8 << 20", Met(&["a_batch_is_bounded_by_its_bytes"])),
    ("store/redb/queue.rs", "WAITING", "16_384", Met(&["what_waits_is_bounded"])),
    ("store/redb/queue.rs", "WAITING_BYTES", "64 << 20", Met(&["what_waits_is_bounded"])),
    ("store/redb/reader.rs", "KEY_BYTES", "17", FORM),
    ("store/redb/rounds.rs", "PASSED_BY", "1_000", PACE),
    ("store/redb/rounds.rs", "ROOMS_AT_ONCE", "200", PACE),
    ("store/row/chunk.rs", "CHUNK_BYTES", "64 << 10", Met(&["a_chunk_is_full_at_its_limits_and_goes_on_where_it_was"])),
    ("store/row/chunk.rs", "CHUNK_MESSAGES", "112", Met(&["a_chunk_is_full_at_its_limits_and_goes_on_where_it_was"])),
    ("store/row/chunk.rs", "UNPACKED_BYTES", "BODY_BYTES + 1024", Met(&["a_chunk_cannot_claim_to_be_huge"])),
    ("store/row/entry.rs", "BODY_BYTES", "4 << 20", Met(&["a_body_too_large_to_read_back_is_refused"])),
    ("store/row/packing.rs", "KEPT", "4", PACE),
    ("store/row/packing.rs", "LEVEL", "1", FORM),
    ("store/row/room.rs", "SEQ_MAX", "(1 << 53) - 1", FORM),
    ("supervision.rs", "FAILURES", "5", Met(&["a_task_is_begun_anew_after_growing_pauses_and_given_up_in_the_end"])),
    ("telemetry/log.rs", "WAITING_BYTES", "1 << 20", Met(&["so_many_bytes_wait_and_the_next_is_lost"])),
];

/// Parts of `src` that are not the gateway.
const BESIDE: [&str; 6] = ["bench", "client", "command", "main", "terminal", "testkit"];

/// All Rust files below a folder, with their paths from there.
fn sources(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let (mut folders, mut found) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

/// The whole numbers that a file's code gives a name: `const NAME: usize = 1;`, tests aside.
fn numbers(code: &str) -> Vec<(&str, &str)> {
    const KINDS: [&str; 6] = ["usize", "u64", "u32", "u16", "i64", "i32"];
    let code = code.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let named = code.lines().filter_map(|line| {
        let (before, rest) = line.trim().split_once("const ")?;
        let (name, rest) = rest.strip_suffix(';')?.split_once(": ")?;
        let (kind, value) = rest.split_once(" = ")?;
        let is_named = before.is_empty() || before.starts_with("pub");
        (is_named && KINDS.contains(&kind)).then_some((name, value))
    });
    named.collect()
}

#[test]
fn every_setting_has_a_test_at_its_bound_or_is_no_limit() {
    let known: Vec<_> = OF_SETTINGS.iter().map(|(key, _)| *key).collect();
    let there: Vec<_> = SETTINGS.iter().map(|setting| setting.key).collect();
    assert_eq!(known, there, "say in OF_SETTINGS which test meets it, or why it is no limit");
}

#[test]
fn every_number_in_the_code_has_a_test_at_its_bound_or_is_no_limit() {
    let mut there = Vec::new();
    let sources = sources("src");
    for (path, code) in &sources {
        let floor = path.split(['/', '.']).next().unwrap();
        if !BESIDE.contains(&floor) && !path.contains("tests") {
            there.extend(
                numbers(code).into_iter().map(|(name, value)| (path.as_str(), name, value)),
            );
        }
    }
    there.sort_unstable();
    let mut known: Vec<_> =
        OF_CODE.iter().map(|(path, name, value, _)| (*path, *name, *value)).collect();
    known.sort_unstable();
    for number in &there {
        assert!(known.contains(number), "say in OF_CODE which test meets {number:?}, or why none");
    }
    assert_eq!(known, there, "OF_CODE has what there is no more");
}

#[test]
fn the_tests_that_meet_a_bound_are_there() {
    let code: String =
        ["src", "tests"].into_iter().flat_map(sources).map(|(_, code)| code).collect();
    let bounds = OF_SETTINGS.iter().map(|(key, bound)| (*key, bound));
    for (what, bound) in bounds.chain(OF_CODE.iter().map(|(_, name, _, bound)| (*name, bound))) {
        match bound {
            Met(tests) => {
                assert!(!tests.is_empty(), "{what}");
                for test in *tests {
                    assert!(code.contains(&format!("fn {test}(")), "no test {test}: {what}");
                }
            }
            No(why) => assert!(!why.is_empty(), "{what}"),
        }
    }
}

/// The limits of a seat in a house of small people.
const NAME_CHARS: usize = 3;
const TAGS: usize = 2;
const TAG_BYTES: usize = 4;
const ATTACHMENT_BYTES: usize = 10;
const KEY_BYTES: usize = 4;

fn small(config: &mut Config) {
    for limits in [&mut config.session.limits, &mut config.keeper.limits] {
        (limits.name_chars, limits.tags, limits.tag_bytes) = (NAME_CHARS, TAGS, TAG_BYTES);
        (limits.attachment_bytes, limits.key_bytes) = (ATTACHMENT_BYTES, KEY_BYTES);
    }
}

/// Sends a request one below its limit, at it, one beyond, and at it again: it is taken, taken,
/// refused as too large, and taken.
async fn is_bounded(
    client: &mut Client,
    limit: usize,
    taken: &str,
    request: impl Fn(usize) -> Value,
) {
    for size in [limit - 1, limit, limit + 1, limit] {
        let request = request(size);
        client.send(request.clone()).await;
        let answer = client.next_of_either(taken, "error").await;
        let expected = if size <= limit { (taken, None) } else { ("error", Some("too_large")) };
        let told = (answer["type"].as_str().unwrap(), answer["code"].as_str());
        assert_eq!(told, expected, "{answer} to {request}");
        assert_eq!(answer["id"], 7, "{answer}");
    }
}

/// As [`is_bounded`], for a hello: each but one that is refused begins a session of its own.
async fn hello_is_bounded(
    house: &House,
    transport: Transport,
    limit: usize,
    hello: impl Fn(usize) -> Value,
) {
    let mut client = house.connect(transport, "den").await;
    let mut beyond = hello(limit + 1);
    beyond["type"] = "hello".into();
    client.send(beyond).await;
    let error = client.next().await;
    assert_eq!((&error["type"], &error["code"]), (&"error".into(), &"too_large".into()), "{error}");
    client.hello(hello(limit)).await;
    client.close(1000).await;
    let mut client = house.connect(transport, "den").await;
    client.hello(hello(limit - 1)).await;
    client.close(1000).await;
}

async fn open(change: impl Fn(&mut Config) + Send + Sync + 'static) -> testkit::House {
    testkit::House::open(change).await.unwrap()
}

async fn connect(house: &testkit::House, transport: Transport) -> Client {
    let (address, hashes) = (house.address(), house.certificate_hashes());
    Client::connect(transport, address, "lobby", &hashes, Takes::Plenty).await
}

async fn join(house: &testkit::House, transport: Transport, hello: Value) -> Client {
    let mut client = connect(house, transport).await;
    client.hello(hello).await;
    client
}

const DAY: Duration = Duration::from_secs(86_400);
/// Far more than passes by itself between two lines of a test.
const HOUR: Duration = Duration::from_secs(3_600);

over_every_transport! {
    async fn a_seat_is_as_large_as_its_limits_and_no_larger(transport) {
        let house = house(small).await;
        let mut ann = house.join(transport, "den", "ann").await;
        let tags = |count: usize, bytes: usize| json!(vec!["t".repeat(bytes); count]);
        let attachment = |bytes: usize| json!("x".repeat(bytes - 2)); // its quotes count
        let set = |what: &str, value: Value| json!({ "type": "set", "id": 7, what: value });
        is_bounded(&mut ann, TAGS, "ok", |count| set("tags", tags(count, 1))).await;
        is_bounded(&mut ann, TAG_BYTES, "ok", |bytes| set("tags", tags(1, bytes))).await;
        is_bounded(&mut ann, ATTACHMENT_BYTES, "ok", |bytes| set("attachment", attachment(bytes))).await;
        let hello = async |limit, hello: &dyn Fn(usize) -> Value| {
            hello_is_bounded(&house, transport, limit, hello).await;
        };
        hello(NAME_CHARS, &|chars| json!({ "name": "é".repeat(chars) })).await;
        hello(TAGS, &|count| json!({ "tags": tags(count, 1) })).await;
        hello(TAG_BYTES, &|bytes| json!({ "tags": tags(1, bytes) })).await;
        hello(ATTACHMENT_BYTES, &|bytes| json!({ "attachment": attachment(bytes) })).await;
    }

    async fn a_key_has_so_many_bytes_and_not_one_more(transport) {
        let house = house(small).await;
        let mut ann = house.join(transport, "den", "ann").await;
        let keyed = |bytes| {
            json!({ "type": "publish", "id": 7, "key": "k".repeat(bytes), "data": 1 })
        };
        is_bounded(&mut ann, KEY_BYTES, "ok", keyed).await;
        for _ in 0..2 {
            ann.message().await; // of three publishes one is a duplicate
        }
        let show = |bytes| json!({ "type": "ephemeral", "key": "k".repeat(bytes), "data": 1 });
        for bytes in [KEY_BYTES - 1, KEY_BYTES] {
            ann.send(show(bytes)).await;
        }
        assert!(ann.hears_nothing().await, "both are taken");
        ann.send(show(KEY_BYTES + 1)).await;
        assert_eq!(ann.next_of("error").await["code"], "too_large");
        ann.send(show(KEY_BYTES)).await;
        assert!(ann.hears_nothing().await);
    }

    async fn an_integer_is_as_large_as_every_client_can_read_and_no_larger(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.join(transport, "den", "ann").await;
        let greatest = (1u64 << 53) - 1;
        for id in [greatest - 1, greatest, greatest + 1, greatest] {
            ann.publish(id, json!(1)).await;
            let answer = ann.next_of_either("ok", "error").await;
            match id <= greatest {
                true => assert_eq!((&answer["type"], &answer["id"]), (&"ok".into(), &id.into())),
                false => assert_eq!(answer["code"], "bad_request"),
            }
        }
    }

    /// Whoever asks for more would have the whole log streamed.
    async fn a_hello_shows_so_much_history_and_not_one_message_more(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.connect(transport, "den").await;
        ann.hello(json!({ "presence": "count" })).await;
        for id in 0..1_001 {
            ann.publish(id, json!(1)).await;
        }
        while ann.position["seq"] != 1_001 {
            ann.next().await;
        }
        for (asked, shown) in [
            (json!({}), 100),
            (json!({ "history": 999 }), 999),
            (json!({ "history": 1_000 }), 1_000),
            (json!({ "history": 1_001 }), 1_000),
            (json!({ "history": (1u64 << 53) - 1 }), 1_000),
        ] {
            let mut bob = house.connect(transport, "den").await;
            let messages = bob.hello(asked.clone()).await;
            assert_eq!(messages.len(), shown, "{asked}");
            assert_eq!(messages[shown - 1]["seq"], 1_001, "the newest");
            bob.close(1000).await;
        }
    }

    async fn a_room_sleeps_after_its_time_and_not_before(transport) {
        let house = open(|config| config.keeper.sleep_after = DAY).await;
        let mut ann = join(&house, transport, json!({})).await;
        for _ in 0..2 {
            ann.say("hello").await;
            house.advance(DAY - HOUR).await;
            assert_eq!(house.room("lobby").await.unwrap().state, "awake");
            house.advance(HOUR).await;
            house.assert_asleep_within("lobby", DEADLINE).await;
        }
    }

    async fn grace_and_the_window_last_so_long_and_no_longer(transport) {
        let house = open(|config| {
            config.keeper.grace = DAY;
            config.keeper.resume_window = 3 * DAY;
        })
        .await;
        let mut bob = join(&house, transport, json!({ "name": "bob" })).await;
        let mut view = View::of(&bob);
        let leaves = async |bob: &mut Client, view: &mut View, ann: Client| {
            ann.drop_connection();
            view.until(bob, |view| view.is_away("ann")).await;
        };
        let ann = join(&house, transport, json!({ "name": "ann" })).await;
        let session = ann.welcome["session"].clone();
        view.until_here(&mut bob, &["ann", "bob"]).await;
        leaves(&mut bob, &mut view, ann).await;
        house.advance(DAY - HOUR).await;
        // What has changed by now would be in the welcome of whoever comes now.
        let cyd = join(&house, transport, json!({ "name": "cyd" })).await;
        assert_eq!(View::of(&cyd).names(), ["ann", "bob", "cyd"], "one below its grace");
        house.advance(HOUR).await;
        view.until_here(&mut bob, &["bob", "cyd"]).await;

        for (waits, seat) in [(2 * DAY - HOUR, "kept"), (3 * DAY - HOUR, "kept"), (3 * DAY, "new")] {
            house.advance(waits).await;
            let hello = json!({ "name": "ann", "session": session });
            let ann = join(&house, transport, hello).await;
            assert_eq!(ann.welcome["seat"], seat, "after {waits:?} more");
            view.until(&mut bob, |view| view.names() == ["ann", "bob", "cyd"] && !view.is_away("ann")).await;
            leaves(&mut bob, &mut view, ann).await;
        }
    }

    async fn an_author_is_known_for_so_long_and_no_longer(transport) {
        let house = open(|config| config.session.author_window = 3 * DAY).await;
        let once = json!({ "type": "publish", "id": 7, "key": "once", "data": 1 });
        let mut ann = join(&house, transport, json!({})).await;
        ann.send(once.clone()).await;
        assert_eq!(ann.next_of("ok").await["dup"], false);
        let session = ann.welcome["session"].clone();
        ann.close(1000).await;
        for (waits, is_known) in [(3 * DAY - HOUR, true), (HOUR, false)] {
            house.advance(waits).await;
            let mut ann = join(&house, transport, json!({ "session": session })).await;
            ann.send(once.clone()).await;
            assert_eq!(ann.next_of("ok").await["dup"], is_known, "after {waits:?} more");
            ann.close(1000).await;
        }
    }

    async fn the_head_of_a_request_has_so_many_bytes(transport) {
        let house = house(|_| {}).await;
        match transport {
            Transport::WebSocket => {
                let address = house.address();
                let head = |bytes: usize| {
                    let start = format!("GET /dormouse.js HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\nx: ");
                    format!("{start}{}\r\n\r\n", "x".repeat(bytes - start.len() - 4))
                };
                for (bytes, status) in [(32_767, 200), (32_768, 200), (32_769, 431)] {
                    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                    assert_eq!(speak(stream, &head(bytes)).await.status, status, "{bytes}");
                }
            }
            Transport::WebTransport => {
                let http3 = house.http3().await;
                for (bytes, status) in [(4_095, 200), (4_096, 200), (4_097, 431)] {
                    // A letter takes a byte or, by its coding, less; a kind and a length of two
                    // stand in front.
                    let mut long = "x".repeat(3_000);
                    while http3.head(&longer_by(&long)).len() < bytes + 3 {
                        long.push('x');
                    }
                    assert_eq!(http3.head(&longer_by(&long)).len(), bytes + 3);
                    assert_eq!(http3.ask(&longer_by(&long)).await.status, status, "{bytes}");
                }
            }
        }
    }
}

/// A request for a document, with a field that means nothing.
fn longer_by(long: &str) -> [(&str, &str); 3] {
    [(":method", "GET"), (":path", "/dormouse.js"), ("x", long)]
}

/// The seed profile has no errors: what is too long is cut, whenever it is said.
#[tokio::test]
async fn a_seed_members_name_is_cut_at_its_limit() {
    let house = house(small).await;
    for (room, name, shown) in [("a", "ab", "ab"), ("b", "äbc", "äbc"), ("c", "äbcd", "äbc")] {
        let mut ada = house.seed(room).await;
        ada.send(json!({ "type": "join", "name": name })).await;
        assert_eq!(ada.roster().await, [shown]);
        ada.send(json!({ "type": "update-name", "name": "x" })).await;
        assert_eq!(ada.roster().await, ["x"]);
        ada.send(json!({ "type": "update-name", "name": name })).await;
        assert_eq!(ada.roster().await, [shown]);
        drop(ada);
    }
}
