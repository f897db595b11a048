//! What is decided at a door is decided at every door.
//!
//! A door is a way into a room: a transport. What each refuses has a test over both transports, which
//! the table below names; a new door, or a new reason to refuse, does not compile before it has one.

use std::path::Path;

use dormouse::server::door::{Door, Refusal};

use crate::origins::enter_at;
use crate::support::{House, Transport, both, house};

/// Whose tests go through a door.
const fn transport_of(door: Door) -> Transport {
    match door {
        Door::WebSocket => Transport::WebSocket,
        Door::WebTransport => Transport::WebTransport,
    }
}

/// The behaviour test that meets a refusal.
const fn test_of(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::BadName => "a_room_has_the_same_names_at_every_door",
        Refusal::Host => "a_page_that_has_its_name_point_at_loopback_is_refused",
        Refusal::Origin => "a_listed_origin_may_connect_however_it_was_written",
        Refusal::NotFound => "what_is_no_door_is_not_found",
        Refusal::TooOften { .. } => "an_address_begins_so_many_and_is_told_when_it_may_again",
        // A connection has one session over TCP by nature: the test is of QUIC alone.
        Refusal::OneSession => "a_second_session_on_a_connection_is_refused_and_the_first_goes_on",
        Refusal::TooMany => "each_address_has_its_own_limits",
        Refusal::Draining => "while_some_are_still_leaving_nobody_comes_in",
        Refusal::Full => "a_process_has_so_many_sessions_and_takes_the_next_when_one_leaves",
    }
}

/// One of each.
const REFUSALS: [Refusal; 9] = [
    Refusal::BadName,
    Refusal::Host,
    Refusal::Origin,
    Refusal::NotFound,
    Refusal::TooOften { retry_after_ms: 1 },
    Refusal::OneSession,
    Refusal::TooMany,
    Refusal::Draining,
    Refusal::Full,
];

/// What else is the same at every door, and the tests that hold it.
const RULES: [&str; 9] = [
    "a_frame_at_the_limit_is_taken_and_one_past_it_ends_the_session",
    "who_says_no_hello_in_time_is_sent_away",
    "hello_comes_first_and_once_and_only_ping_before_it",
    "what_is_no_frame_ends_the_session",
    "a_thousand_refusals_in_a_row_end_the_session",
    "each_address_has_its_own_rate",
    "loopback_is_exempt",
    "everything_is_served_below_the_base_path_as_well",
    "everybody_is_told_when_to_return_and_how_it_ends",
];

#[test]
fn every_door_and_every_refusal_has_its_test_over_both_transports() {
    for door in Door::ALL {
        assert!(Transport::BOTH.contains(&transport_of(door)), "{door:?}");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|it| it == "rs"));
    let code: String = files.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    for refusal in REFUSALS {
        let over = if refusal == Refusal::OneSession { "" } else { "transport" };
        let test = format!("async fn {}({over})", test_of(refusal));
        assert!(code.contains(&test), "{test} for {refusal:?}");
    }
    for rule in RULES {
        assert!(code.contains(&format!("async fn {rule}(transport)")), "{rule}");
    }
}

/// The status over HTTP/1.1 and over HTTP/3, where there are few.
fn status_over(transport: Transport, [tcp, quic]: [u16; 2]) -> u16 {
    match transport {
        Transport::WebSocket => tcp,
        Transport::WebTransport => quic,
    }
}

async fn enters(house: &House, transport: Transport, room: &str) -> u16 {
    enter_at(house, transport, &format!("/rooms/{room}"), "127.0.0.1", None).await
}

both! {
    async fn a_room_has_the_same_names_at_every_door(transport) {
        let house = house(|_| {}).await;
        let longest = "x".repeat(128);
        for name in ["a", "A-z_0.9~", &longest] {
            assert_eq!(enters(&house, transport, name).await, 200, "{name}");
        }
        for name in ["b%C3%BCcher", "a%20b", "a+b", "a:b", &format!("{longest}x")] {
            let status = status_over(transport, [400, 404]);
            assert_eq!(enters(&house, transport, name).await, status, "{name}");
        }
    }

    async fn what_is_no_door_is_not_found(transport) {
        let house = house(|_| {}).await;
        for path in ["/room/den", "/rooms/den/den", "/rooms", ""] {
            assert_eq!(enter_at(&house, transport, path, "127.0.0.1", None).await, 404, "{path}");
        }
    }

    async fn a_process_has_so_many_sessions_and_takes_the_next_when_one_leaves(transport) {
        let house = house(|config| config.server.connections = 2).await;
        let ann = house.join(transport, "den", "ann").await;
        let _bob = house.join(transport.other(), "den", "bob").await;
        let status = status_over(transport, [503, 429]);
        assert_eq!(enters(&house, transport, "den").await, status);
        ann.close(1000).await;
        let freed = async {
            while enters(&house, transport, "den").await != 200 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(crate::support::DEADLINE, freed).await.expect("its place is free");
    }
}
