//! `dormouse::client` against the gateway: a second reader of the protocol's page, with promises of its own.

use std::time::Duration;

use dormouse::client::{
    Choice, Close, Connected, Data, Error, Event, Events, Limits, Message, Options, Pages,
    Presence, Published, Room, To, Transport as Over, connect,
};
use rustix::process::Signal;
use serde_json::json;
use tokio::time::timeout;

use crate::support::process::{ANYWHERE, dormouse, find, open};
use crate::support::{DEADLINE, Front, House, Transport, both, certificate, house};

/// Impatient, so that a connection that leads nowhere is noticed while somebody watches.
pub fn impatient() -> Limits {
    Limits {
        retry_first: Duration::from_millis(10),
        retry_most: Duration::from_millis(100),
        owed: Duration::from_millis(300),
        answer: Duration::from_secs(1),
        ..Limits::default()
    }
}

pub fn options(transport: Transport, name: &str) -> Options {
    let transport = match transport {
        Transport::WebSocket => Choice::WebSocket,
        Transport::WebTransport => Choice::WebTransport,
    };
    Options { transport, limits: impatient(), ..Options::named(name) }
}

pub async fn enter(address: &str, options: Options) -> (Room, Events) {
    timeout(DEADLINE, connect(address, options)).await.expect("in time").unwrap()
}

async fn refused(address: &str, options: Options) -> Error {
    timeout(DEADLINE, connect(address, options)).await.expect("in time").unwrap_err()
}

fn room_of(house: &House, room: &str) -> String {
    format!("http://{}/rooms/{room}", house.address())
}

async fn next(events: &mut Events) -> Event {
    timeout(DEADLINE, events.next()).await.expect("in time").expect("it is not over")
}

/// The next event that is one of those.
pub async fn until<T>(events: &mut Events, is: impl Fn(Event) -> Option<T>) -> T {
    loop {
        if let Some(found) = is(next(events).await) {
            return found;
        }
    }
}

async fn message(events: &mut Events) -> Message {
    until(events, |event| match event {
        Event::Message(message) => Some(message),
        Event::Gap(gap) => panic!("{gap:?}"),
        _ => None,
    })
    .await
}

pub async fn connected(events: &mut Events) -> Connected {
    until(events, |event| match event {
        Event::Connected(connected) => Some(connected),
        _ => None,
    })
    .await
}

async fn live(events: &mut Events) {
    until(events, |event| matches!(event, Event::Live).then_some(())).await;
}

async fn ended(events: &mut Events) -> Error {
    until(events, |event| match event {
        Event::Ended(error) => Some(error),
        _ => None,
    })
    .await
}

async fn said(room: &Room, data: impl Into<Data>) -> Published {
    timeout(DEADLINE, room.publish(data)).await.expect("in time").unwrap()
}

both! {
    async fn a_program_joins_publishes_and_hears_history_and_what_follows(transport) {
        let house = house(|_| {}).await;
        let mut bob = house.join(transport.other(), "lobby", "bob").await;
        bob.say("before").await;
        let (room, mut events) = enter(&room_of(&house, "lobby"), options(transport, "ada")).await;
        let here = connected(&mut events).await;
        assert_eq!((here.is_resumed, here.is_seat_kept, here.count), (false, false, 2));
        let first = message(&mut events).await;
        assert_eq!((first.seq, first.data.text()), (Some(1), Some("before")));
        live(&mut events).await;
        assert_eq!(said(&room, json!({"text": "hi"})).await, Published { seq: 2, dup: false });
        let bytes = bytes::Bytes::from_static(b"\x00\xff");
        assert_eq!(said(&room, bytes.clone()).await.seq, 3);
        let second = message(&mut events).await;
        assert_eq!((second.data.text(), second.from.sid), (Some("hi"), room.sid()));
        assert_eq!(message(&mut events).await.data, Data::Bytes(bytes.clone()));
        assert_eq!(bob.message().await["from"]["name"], "bob");
        assert_eq!(bob.message().await["from"]["name"], "ada");

        let page = room.history(Pages::Before(4), 2).await.unwrap();
        assert_eq!(page.messages.iter().map(|it| it.seq).collect::<Vec<_>>(), [Some(2), Some(3)]);
        assert_eq!((page.more, &page.messages[1].data), (true, &Data::Bytes(bytes)));
        assert!(!room.history(Pages::After(1), 9).await.unwrap().more);
        let names = |members: Vec<dormouse::client::Member>| -> Vec<_> {
            members.into_iter().filter_map(|it| it.name).collect()
        };
        let mut here = names(room.members().await.unwrap());
        here.sort();
        assert_eq!(here, ["ada", "bob"]);
        room.set(Some(json!({"color": "red"})), Some(vec!["mod".to_owned()])).await.unwrap();
        assert_eq!(room.direct(To::Tag("mod".into()), "psst").await.unwrap(), 1);
        let direct = until(&mut events, |event| match event {
            Event::Direct(message) => Some(message),
            _ => None,
        }).await;
        assert_eq!((direct.seq, direct.data.text()), (None, Some("psst")));

        // Who comes and goes within a moment was not here, as far as others are told.
        bob.next_that(|it| it["join"].to_string().contains("ada")).await;
        room.ephemeral("cursor", json!([1, 2])).unwrap();
        assert_eq!(bob.next_of("ephemeral").await["data"], json!([1, 2]));
        room.close().await;
        assert!(matches!(room.publish("late").await, Err(Error::Ended)));
        while let Some(event) = timeout(DEADLINE, events.next()).await.unwrap() {
            assert!(!matches!(event, Event::Ended(_) | Event::Disconnected { .. }), "{event:?}");
        }
        // Goodbye, and not grace: others see the leave at once.
        let left = bob.next_that(|it| it["type"] == "presence" && it["leave"] != json!(null)).await;
        assert_eq!(left["leave"], json!([room.sid()]));
    }

    async fn who_comes_and_goes_is_told_and_ephemerals_are_heard(transport) {
        let house = house(|_| {}).await;
        let (room, mut events) = enter(&room_of(&house, "lobby"), options(transport, "ada")).await;
        let mut bob = house.join(transport, "lobby", "bob").await;
        let joined = until(&mut events, |event| match event {
            Event::Presence(Presence::Changed { joined, .. }) => {
                joined.into_iter().find(|it| it.name.as_deref() == Some("bob"))
            }
            _ => None,
        }).await;
        assert_ne!(joined.sid, room.sid());
        bob.send(json!({"type": "ephemeral", "key": "cursor", "data": 7})).await;
        let heard = until(&mut events, |event| match event {
            Event::Ephemeral { from, data, .. } => Some((from, data)),
            _ => None,
        }).await;
        assert_eq!(heard, (joined.sid.clone(), json!(7).into()));
        bob.close(1000).await;
        until(&mut events, |event| match event {
            Event::Presence(Presence::Changed { left, .. }) => left.contains(&joined.sid).then_some(()),
            _ => None,
        }).await;
    }

    /// The promise of the whole: kill -9, and neither a hole nor an echo.
    async fn killed_and_started_again_nothing_is_lost_or_said_twice(transport) {
        let dir = tempfile::tempdir().unwrap();
        let start = || async {
            let (running, line) = open(dormouse(dir.path(), &ANYWHERE));
            (running, find(&line).await.0)
        };
        let (mut running, gateway) = start().await;
        let front = Front::of(gateway).await;
        let quick = Limits { publishes_in_flight: 8, ..impatient() };
        let ada = Options { limits: quick, ..options(transport, "ada") };
        let (ada, mut heard_by_ada) = enter(&front.room("lobby"), ada).await;
        let (_bob, mut heard_by_bob) = enter(&front.room("lobby"), options(transport, "bob")).await;
        let mut publishing = Vec::new();
        for n in 0..30 {
            publishing.push(ada.publish(json!(n)));
            if n % 10 == 4 {
                // At least one has settled, others are under way.
                timeout(DEADLINE, publishing.last_mut().unwrap()).await.unwrap().unwrap();
                publishing.pop();
            }
            if n % 10 == 9 {
                running.told(Signal::KILL);
                let gateway;
                (running, gateway) = start().await;
                front.lead_to(gateway);
            }
        }
        let mut seqs = Vec::new();
        for settled in publishing {
            seqs.push(timeout(DEADLINE, settled).await.expect("it settles").unwrap().seq);
        }
        assert!(seqs.is_sorted_by(|a, b| a < b), "in order: {seqs:?}");
        for events in [&mut heard_by_ada, &mut heard_by_bob] {
            for n in 0..30 {
                let message = message(events).await;
                assert_eq!((message.seq, message.data), (Some(n + 1), json!(n).into()));
            }
        }
        assert_eq!(ada.history(Pages::Newest, 256).await.unwrap().messages.len(), 30);
    }

    async fn a_drain_is_obeyed_and_the_seat_is_there_afterwards(transport) {
        let mut house = house(|_| {}).await;
        let front = Front::of(house.address()).await;
        let (room, mut events) = enter(&front.room("lobby"), options(transport, "ada")).await;
        let sid = connected(&mut events).await.sid;
        live(&mut events).await;
        house.restart().await;
        let lost = until(&mut events, |event| match event {
            Event::Disconnected { error, .. } => Some(error),
            _ => None,
        }).await;
        assert!(matches!(lost, Error::Closed(Close { code: 4000, .. })), "{lost:?}");
        front.lead_to(house.address());
        let back = connected(&mut events).await;
        assert_eq!((back.sid, back.is_seat_kept, back.is_resumed), (sid, true, true));
        assert_eq!(said(&room, "back").await.seq, 1);
    }

    async fn who_is_taken_over_does_not_fight_for_the_seat(transport) {
        let house = house(|_| {}).await;
        let address = room_of(&house, "lobby");
        let (first, mut events) = enter(&address, options(transport, "ada")).await;
        said(&first, "one").await;
        message(&mut events).await;
        let resume = events.saved();
        assert_eq!(resume.clone().unwrap().position.unwrap().seq, 1);
        said(&first, "two").await;
        let second = Options { resume, ..options(transport.other(), "ada") };
        let (second, mut more) = enter(&address, second).await;
        let here = connected(&mut more).await;
        assert!(here.is_seat_kept && here.is_resumed);
        assert_eq!(message(&mut more).await.data.text(), Some("two"), "from where it was saved");
        let why = ended(&mut events).await;
        assert!(matches!(why, Error::Closed(Close { code: 4508, .. })), "{why:?}");
        assert!(events.next().await.is_none());
        assert_eq!(first.sid(), second.sid());
        assert!(matches!(first.publish("three").await, Err(Error::Closed(_))));
    }

    async fn what_is_too_large_is_told_before_it_ends_the_session(transport) {
        let house = house(|_| {}).await;
        let (room, _events) = enter(&room_of(&house, "lobby"), options(transport, "ada")).await;
        let large = bytes::Bytes::from(vec![0; 65_536]);
        let told = room.publish(large.clone()).await;
        assert!(matches!(told, Err(Error::TooLarge { limit: 65_536, .. })), "{told:?}");
        let told = room.direct(To::Sid(room.sid()), large.clone()).await;
        assert!(matches!(told, Err(Error::TooLarge { .. })));
        assert!(matches!(room.ephemeral("k", large), Err(Error::TooLarge { .. })));
        let told = room.set(Some(json!("x".repeat(20_000))), None).await;
        let is_told = matches!(told, Err(Error::OverLimit { limit: 16_384, .. }));
        assert!(is_told, "{told:?}");
        let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        assert!(matches!(room.publish(nested(32)).await, Err(Error::TooDeep)));
        assert_eq!(said(&room, nested(31)).await.seq, 1);
        // The limit counts the whole frame; the last byte that fits does.
        let mut bytes = bytes::Bytes::from(vec![0; 65_536]);
        let published = loop {
            match timeout(DEADLINE, room.publish(bytes.clone())).await.unwrap() {
                Err(Error::TooLarge { size, limit }) => drop(bytes.split_off(bytes.len() - (size - limit))),
                settled => break settled.unwrap(),
            }
        };
        assert_eq!(published.seq, 2);
        let name = Some("x".repeat(100));
        let why = refused(&room_of(&house, "lobby"), Options { name, ..options(transport, "") }).await;
        assert!(matches!(&why, Error::Rejected { code, .. } if code == "too_large"), "{why:?}");
    }

    async fn a_full_outbox_says_so_and_the_rest_arrives(transport) {
        let house = house(|_| {}).await;
        let front = Front::of(house.address()).await;
        let limits = Limits { outbox: 2, ..impatient() };
        let options = Options { limits, ..options(transport, "ada") };
        let (room, mut events) = enter(&front.room("lobby"), options).await;
        live(&mut events).await;
        front.cut();
        let (one, two) = (room.publish("one"), room.publish("two"));
        assert!(matches!(room.publish("three").await, Err(Error::OutboxFull { waiting: 2 })));
        front.lead_to(house.address());
        for (publishing, seq) in [(one, 1), (two, 2)] {
            assert_eq!(timeout(DEADLINE, publishing).await.unwrap().unwrap().seq, seq);
        }
        room.flush().await;
        assert_eq!(said(&room, "four").await.seq, 3);
    }

    /// A program that waits for its publishes in the loop that takes its events would wait for ever, if
    /// the answers stood behind events that nobody takes.
    async fn who_takes_no_events_publishes_all_the_same_and_misses_nothing(transport) {
        let house = house(|_| {}).await;
        let limits = Limits { events: 16, ..impatient() };
        let options = Options { limits, ..options(transport, "ada") };
        let (room, mut events) = enter(&room_of(&house, "lobby"), options).await;
        for n in 1..=400 {
            assert_eq!(said(&room, json!(n)).await.seq, n);
        }
        for n in 1..=400 {
            let message = message(&mut events).await;
            assert_eq!((message.seq, message.data), (Some(n), json!(n).into()));
        }
        assert_eq!(said(&room, json!("on it goes")).await.seq, 401);
        assert_eq!(message(&mut events).await.seq, Some(401));
    }

    async fn publishes_beyond_the_rate_wait_and_keep_their_order(transport) {
        let house = house(|config| {
            config.keeper.rates.publishes = dormouse::room::Rate { per_second: 100, burst: 2 };
        }).await;
        let (room, _events) = enter(&room_of(&house, "lobby"), options(transport, "ada")).await;
        let all: Vec<_> = (0..20).map(|n| room.publish(json!(n))).collect();
        for (publishing, seq) in all.into_iter().zip(1..) {
            let settled = timeout(DEADLINE, publishing).await.unwrap().unwrap();
            assert_eq!(settled, Published { seq, dup: false });
        }
    }

    async fn a_full_room_is_told_and_not_tried_again(transport) {
        let house = house(|config| {
            config.keeper.limits.members = 1;
            config.session.limits.members = 1;
        }).await;
        let _ada = enter(&room_of(&house, "lobby"), options(transport, "ada")).await;
        let why = refused(&room_of(&house, "lobby"), options(transport, "bob")).await;
        assert!(matches!(why, Error::Closed(Close { code: 4506, .. })), "{why:?}");
        assert!(why.to_string().contains("somebody has to leave first"));
    }
}

#[tokio::test]
async fn webtransport_is_taken_where_it_comes_about_and_a_websocket_where_udp_is_not_answered() {
    let house = house(|_| {}).await;
    let front = Front::of(house.address()).await;
    let any = || Options { limits: impatient(), ..Options::named("ada") };
    // Which of the two wins is a race with a head start, but one of them does.
    let (room, _events) = enter(&front.room("lobby"), any()).await;
    assert!(room.transport().is_some());

    let walled = Front::without_udp(house.address()).await;
    let (room, _events) = enter(&walled.room("lobby"), any()).await;
    assert_eq!(room.transport(), Some(Over::WebSocket));
    let limits = Limits { connect: Duration::from_millis(300), ..impatient() };
    let only = Options { limits, ..options(Transport::WebTransport, "ada") };
    let why = refused(&walled.room("lobby"), only).await;
    assert!(matches!(why, Error::Unreachable { .. } | Error::WebTransport { .. }), "{why:?}");
}

#[tokio::test]
async fn with_a_certificate_both_transports_ask_whether_it_is_trusted() {
    use dormouse::client::Trust;
    let (_certs, files, own) = certificate(&["localhost", "127.0.0.1"]);
    let house = house(move |config| config.certificate = Some(files.clone())).await;
    let address = format!("https://{}/rooms/lobby", house.address());
    for transport in [Transport::WebSocket, Transport::WebTransport] {
        let trust = Trust::Only(vec![own.clone()]);
        let trusting = Options { trust, ..options(transport, "ada") };
        let (room, _events) = enter(&address, trusting.clone()).await;
        assert!(!said(&room, "hi").await.dup);
        let why = refused(&address, options(transport, "bob")).await;
        assert!(matches!(why, Error::Untrusted { .. }), "{why:?}");
        // The door itself, without asking the gateway where it is.
        let direct = match transport {
            Transport::WebSocket => format!("wss://{}/rooms/lobby/ws", house.address()),
            Transport::WebTransport => format!("{address}/wt"),
        };
        enter(&direct, Options { transport: Choice::Any, ..trusting }).await;
        let why =
            refused(&direct, Options { transport: Choice::Any, ..options(transport, "bob") }).await;
        assert!(matches!(why, Error::Untrusted { .. }), "{why:?}");
    }
    let why = refused(&room_of(&house, "lobby"), options(Transport::WebSocket, "ada")).await;
    assert!(!matches!(why, Error::Untrusted { .. }), "plain, where TLS is spoken: {why:?}");
}

#[tokio::test]
async fn what_is_no_gateway_is_told_from_one_that_is_not_there() {
    let house = house(|_| {}).await;
    let operators = house.gateway().operator_address().unwrap();
    let address = format!("http://{operators}/rooms/lobby");
    let why = refused(&address, options(Transport::WebSocket, "ada")).await;
    assert!(matches!(why, Error::Refused { status: 404, .. }), "{why:?}");
    let secure = format!("https://{}/rooms/lobby", house.address());
    let why = refused(&secure, options(Transport::WebSocket, "ada")).await;
    assert!(matches!(why, Error::Plain { .. }), "{why:?}");
    let front = Front::of(house.address()).await;
    front.cut();
    let why = refused(&front.room("lobby"), options(Transport::WebSocket, "ada")).await;
    assert!(matches!(why, Error::Unreachable { .. } | Error::Stranger { .. }), "{why:?}");
}
