//! The limits of `[session]`, `[room]` and `[gateway]`, each at its limit and one past it: the answer, and
//! that nobody else is disturbed.
//!
//! Which test meets which limit is said in `bounds.rs`.
//!
//! Rates are slow ones, and what passed is held against the time that it took: a busy machine
//! lets more pass, and never makes a test fail.

use std::ops::RangeInclusive;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use dormouse::config::Config;
use dormouse::keeper::{Rates, Settings};
use dormouse::outbox::REFUSED_IN_A_ROW;
use dormouse::room::Rate;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::{Client, House, Transport, both, house};

/// Each once in so many ms after the burst.
const EACH_MS: u64 = 500;

fn rate(burst: u32) -> Rate {
    Rate { per_second: 2, burst }
}

/// What may have passed of a rate since `started`.
fn most(burst: u32, started: Instant) -> usize {
    burst as usize + (started.elapsed().as_millis() as u64 / EACH_MS) as usize
}

/// The answers to so many requests, by their ids.
async fn answers(client: &mut Client, count: usize) -> Vec<Value> {
    let mut answers = Vec::new();
    while answers.len() < count {
        let frame = client.next().await;
        if frame.get("id").is_some() {
            answers.push(frame);
        }
    }
    answers.sort_by_key(|answer| answer["id"].as_u64());
    answers
}

fn is_refused(answer: &Value) -> bool {
    answer["type"] == "error"
}

/// Checks a refusal and waits as long as it says.
async fn waits(refusal: &Value) {
    assert_eq!(refusal["code"], "rate_limited", "{refusal}");
    let retry_after = refusal["retry_after"].as_u64().unwrap();
    assert!((1..=EACH_MS).contains(&retry_after), "{refusal}");
    sleep(Duration::from_millis(retry_after)).await;
}

/// Publishes so many at once; the answers.
async fn publishes(client: &mut Client, count: usize) -> Vec<Value> {
    for id in 0..count as u64 {
        client.publish(id, json!("much")).await;
    }
    answers(client, count).await
}

/// Sends so many frames of all kinds that are refused, and reads as many errors: a session that
/// ended sooner would not answer the last.
async fn refused(client: &mut Client, count: u32) {
    let key = "k".repeat(65);
    let wrong = [
        r#"{"type":"dance"}"#.to_owned(),
        r#"{"type":"hello","name":7}"#.to_owned(),
        r#"{"type":"publish","data":NaN}"#.to_owned(),
        r#"{"type":5}"#.to_owned(),
        format!(r#"{{"type":"publish","key":"{key}","data":1}}"#),
    ];
    // Before its hello a client may say nothing but that, right or wrong.
    let wrong = if client.welcome.is_null() { &wrong[1..4] } else { &wrong[..] };
    let mut left = count as usize;
    while left > 0 {
        let now = left.min(50);
        for n in 0..now {
            client.send_text(&wrong[n % wrong.len()]).await;
        }
        for _ in 0..now {
            let mut answer = client.next().await;
            while answer["type"] == "message" {
                answer = client.next().await;
            }
            assert!(is_refused(&answer), "{left} before the last: {answer}");
        }
        left -= now;
    }
}

async fn takes_back(house: &House, transport: Transport, session: &Value) -> Client {
    let mut client = house.connect(transport, "lobby").await;
    client.hello(json!({ "session": session })).await;
    assert_eq!(client.welcome["seat"], "kept");
    client
}

/// The frames that were read from clients of a transport.
fn frames(transport: Transport) -> &'static str {
    match transport {
        Transport::WebSocket => "dormouse_frames_received_total{transport=\"websocket\"}",
        Transport::WebTransport => "dormouse_frames_received_total{transport=\"webtransport\"}",
    }
}

both! {
    async fn publishes_beyond_the_burst_are_told_when_and_then_pass(transport) {
        const BURST: u32 = 5;
        let house = house(|config| config.keeper.rates.publishes = rate(BURST)).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        let mut bob = house.join(transport.other(), "lobby", "bob").await;
        let started = Instant::now();
        let mut passed = 0;
        let refusal = loop {
            let answers = publishes(&mut ann, BURST as usize + 1).await;
            if passed == 0 {
                assert!(!answers[..BURST as usize].iter().any(is_refused), "{answers:?}");
            }
            passed += answers.iter().filter(|answer| !is_refused(answer)).count();
            if let Some(refusal) = answers.into_iter().find(is_refused) {
                break refusal;
            }
        };
        assert!(passed <= most(BURST, started), "{passed}");
        waits(&refusal).await;
        let keyed = json!({ "type": "publish", "id": 50, "key": "k", "data": "keyed" });
        ann.send(keyed.clone()).await;
        let ok = ann.next_of("ok").await;
        assert_eq!((&ok["seq"], &ok["dup"]), (&(passed + 1).into(), &false.into()), "it waited");

        assert_eq!(bob.say("I have a rate of my own").await, passed as u64 + 2);
        for seq in 1..=passed + 2 {
            assert_eq!(bob.message().await["seq"], seq, "what was refused was heard by nobody");
        }
        // Refused is not done: the same key is new when it passes, and a duplicate costs as much.
        let mut refused = false;
        for n in 0.. {
            let key = format!("r{n}");
            let frame = json!({ "type": "publish", "id": 51, "key": key, "data": 1 });
            ann.send(frame.clone()).await;
            let answer = answers(&mut ann, 1).await.remove(0);
            if is_refused(&answer) {
                refused = true;
                waits(&answer).await;
                ann.send(frame).await;
                let ok = ann.next_of("ok").await;
                assert_eq!(ok["dup"], false);
                break;
            }
        }
        assert!(refused);
    }

    async fn neither_a_nap_nor_a_new_connection_refills_a_rate(transport) {
        const BURST: u32 = 30;
        let house = house(|config| config.keeper.rates.publishes = rate(BURST)).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        let started = Instant::now();
        let mut passed = 0;
        let mut count = |answers: Vec<Value>| {
            passed += answers.iter().filter(|answer| !is_refused(answer)).count();
            passed
        };
        assert_eq!(count(publishes(&mut ann, BURST as usize).await), BURST as usize);
        house.hibernate("lobby").await;
        count(publishes(&mut ann, BURST as usize).await);
        let session = ann.welcome["session"].clone();
        ann.drop_connection();
        let mut ann = takes_back(&house, transport.other(), &session).await;
        count(publishes(&mut ann, BURST as usize).await);
        // Taken over, without a moment away.
        let mut again = takes_back(&house, transport, &session).await;
        let passed = count(publishes(&mut again, BURST as usize).await);
        assert!(passed <= most(BURST, started), "{passed}");
        let mut bob = house.join(transport, "lobby", "bob").await;
        assert!(!publishes(&mut bob, BURST as usize).await.iter().any(is_refused), "his own");
    }

    async fn a_room_has_a_rate_that_all_its_members_share(transport) {
        const BURST: u32 = 6;
        let house = house(|config| {
            config.keeper.rates.room = rate(BURST);
            config.keeper.rates.publishes = Rate { per_second: 1, burst: 60 };
        })
        .await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        let mut bob = house.join(transport.other(), "lobby", "bob").await;
        let started = Instant::now();
        // Far more than the room takes, and no more than her own rate: what the room refuses
        // costs her nothing.
        let mut passed = 0;
        let mut last = Value::Null;
        for _ in 0..8 {
            for answer in publishes(&mut ann, 15).await {
                match is_refused(&answer) {
                    false => passed += 1,
                    true => {
                        assert_eq!(answer["code"], "rate_limited");
                        let retry_after = answer["retry_after"].as_u64().unwrap();
                        assert!((1..=EACH_MS).contains(&retry_after), "the room's: {answer}");
                        last = answer;
                    }
                }
            }
        }
        assert!((BURST as usize..=most(BURST, started)).contains(&passed), "{passed}");
        waits(&last).await;
        assert_eq!(ann.say("now").await, passed as u64 + 1);

        assert!(is_refused(&publishes(&mut bob, 20).await[19]), "the room is full of ann");
        let mut other = house.join(transport, "attic", "ann").await;
        assert!(!is_refused(&publishes(&mut other, BURST as usize).await[5]), "of its own rate");
    }

    async fn a_seed_member_hears_of_the_rooms_rate_in_its_own_words(transport) {
        let house = house(|config| {
            config.keeper.rates.room = rate(3);
            config.keeper.rates.publishes = rate(1); // of v1 alone: seed has one of its own
        })
        .await;
        let mut ada = house.seed_join("lobby", "ada").await;
        let mut bob = house.join(transport, "lobby", "bob").await;
        for n in 0..3 {
            ada.chat(&n.to_string()).await;
            assert_eq!(bob.message().await["data"]["text"], n.to_string());
        }
        let line = loop {
            ada.chat("more").await;
            let frame = loop {
                let frame = ada.next().await;
                if frame["type"] == "rate-limit" || frame["message"] == "more" {
                    break frame;
                }
            };
            if frame["type"] == "rate-limit" {
                break frame;
            }
        };
        let retry_after = line["retryAfter"].as_f64().unwrap();
        assert!(retry_after > 0.0 && retry_after * 1_000.0 <= EACH_MS as f64, "{line}");
        sleep(Duration::from_secs_f64(retry_after)).await;
        ada.chat("at last").await;
        assert_eq!(ada.next().await["message"], "at last");
        while bob.message().await["data"]["text"] != "at last" {}
        assert!(bob.hears_nothing().await, "what was refused was heard by nobody");
    }

    async fn requests_share_a_rate_and_wake_nothing(transport) {
        const BURST: u32 = 6;
        let house = house(|config| config.keeper.rates.requests = rate(BURST)).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        let mut bob = house.join(transport.other(), "lobby", "bob").await;
        let started = Instant::now();
        let mut passed = 0;
        let refused = loop {
            for n in 0..3u64 {
                ann.send(json!({ "type": "set", "id": 3 * n, "attachment": n })).await;
                ann.send(json!({ "type": "history", "id": 3 * n + 1 })).await;
                ann.send(json!({ "type": "members", "id": 3 * n + 2 })).await;
            }
            let answers = answers(&mut ann, 9).await;
            if passed == 0 {
                assert!(!answers[..BURST as usize].iter().any(is_refused), "{answers:?}");
            }
            let refused: Vec<_> = answers.into_iter().filter(is_refused).collect();
            passed += 9 - refused.len();
            if refused.len() == 3 {
                break refused; // one of each kind
            }
        };
        assert!(passed <= most(BURST, started), "{passed}");
        if transport == Transport::WebTransport {
            let mut answer = Value::Null;
            while !is_refused(&answer) {
                answer = ann.ask_aside(json!({ "type": "history", "id": 9 })).await;
            }
            assert_eq!((&answer["id"], &answer["code"]), (&9.into(), &"rate_limited".into()));
        }
        for refusal in &refused {
            assert_eq!(refusal["code"], "rate_limited");
        }
        bob.send(json!({ "type": "members", "id": 1 })).await;
        assert_eq!(bob.next_of("members").await["members"].as_array().unwrap().len(), 2);
        assert_eq!(house.inspect("lobby").await["state"], "asleep");
        assert_eq!(ann.say("publishing is another rate").await, 1);
        waits(&refused[0]).await;
        sleep(Duration::from_millis(EACH_MS)).await; // those asked aside may have taken the first
        ann.send(json!({ "type": "set", "id": 10, "attachment": "at last" })).await;
        assert_eq!(ann.next_of("ok").await["id"], 10);
    }

    /// What is refused a thousand times in a row is no mistake any more, whatever it is.
    async fn a_thousand_refusals_in_a_row_end_the_session(transport) {
        let house = house(|config| config.keeper.rates.publishes = rate(1)).await;
        let mut bob = house.join(transport.other(), "lobby", "bob").await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        // The row begins behind the last publish that passed, with one that came too soon.
        while !is_refused(&publishes(&mut ann, 1).await[0]) {}
        let mut in_a_row = 1;
        if transport == Transport::WebTransport {
            for wrong in [json!({ "type": "history", "limit": "all" }), json!({ "type": "bye" })] {
                assert!(is_refused(&ann.ask_aside(wrong).await));
                in_a_row += 1;
            }
        }
        refused(&mut ann, REFUSED_IN_A_ROW - in_a_row).await;
        let close = ann.closed_with(4005, "rate_limit_abuse").await;
        assert_eq!(close["retry_after"], 10_000);
        let heard = bob.say("peace").await;
        while bob.message().await["seq"] != heard {}
        let mut ann = takes_back(&house, transport, &ann.welcome["session"].clone()).await;
        sleep(Duration::from_millis(EACH_MS)).await;
        let answer = publishes(&mut ann, 1).await.remove(0);
        assert_eq!(answer["type"], "ok", "she may go on, slower");
    }

    async fn a_frame_that_is_taken_ends_a_row_of_refusals(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.connect(transport, "lobby").await;
        refused(&mut ann, REFUSED_IN_A_ROW - 1).await;
        ann.hello(json!({ "name": "ann" })).await;
        for taken in [
            json!({ "type": "ping" }),
            json!({ "type": "publish", "data": 1 }),
            json!({ "type": "set", "tags": [] }),
            json!({ "type": "history" }),
            json!({ "type": "ephemeral", "key": "cursor", "data": 1 }),
        ] {
            refused(&mut ann, REFUSED_IN_A_ROW - 1).await;
            let answer = match taken["type"].as_str() {
                Some("ping") => Some("pong"),
                Some("history") => Some("page"),
                Some("ephemeral") => None,
                _ => Some("ok"),
            };
            ann.send(taken).await;
            if let Some(answer) = answer {
                ann.next_of(answer).await;
            }
        }
        assert_eq!(ann.say("still here").await, 2);
    }

    async fn before_hello_a_thousand_refusals_end_the_session_too(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.connect(transport, "lobby").await;
        refused(&mut ann, REFUSED_IN_A_ROW).await;
        ann.closed_with(4005, "rate_limit_abuse").await;
    }

    /// A client that knows its limits can refuse before it sends.
    async fn the_welcome_tells_every_limit_that_a_client_can_meet(transport) {
        let rates = Config::default().keeper.rates;
        let house = house(move |config| {
            config.keeper.rates = rates;
            let rates = Rates { publishes: Rate::OFF, requests: Rate::OFF, room: rate(3) };
            let games = Settings { rates, ephemeral_rate: Rate::OFF, ..config.keeper.clone() };
            config.kinds = vec![("game-*".parse().unwrap(), games)];
        })
        .await;
        let told = async |room: &str| {
            let ann = house.join(transport, room, "ann").await;
            ann.welcome["limits"].clone()
        };
        assert_eq!(told("lobby").await, json!({
            "message": 65_536, "attachment": 16_384, "name": 64, "tags": 10, "tag": 256, "key": 64,
            "ephemeral_keys": 8, "in_flight": 64, "publish_rate": 20, "publish_burst": 40,
            "room_publish_rate": 500, "requests_rate": 20, "requests_burst": 40,
            "ephemeral_rate": 60,
        }));
        assert_eq!(told("game-1").await, json!({
            "message": 65_536, "attachment": 16_384, "name": 64, "tags": 10, "tag": 256, "key": 64,
            "ephemeral_keys": 8, "in_flight": 64, "room_publish_rate": 2,
        }));
    }

    async fn a_key_at_its_limit_is_taken_and_one_past_it_is_not(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        let keyed = |key: String| json!({ "type": "publish", "id": 1, "key": key, "data": 1 });
        ann.send(keyed("ä".repeat(32))).await;
        assert_eq!(ann.next_of("ok").await["seq"], 1);
        ann.send(keyed("ä".repeat(32) + "x")).await;
        let error = ann.next_of("error").await;
        assert_eq!((&error["id"], &error["code"]), (&1.into(), &"too_large".into()));
        ann.send(keyed(String::new())).await;
        assert_eq!(ann.next_of("ok").await["seq"], 2, "an empty key is a key");
    }

    /// A page is owed whole: whoever reads none is not given the next.
    async fn one_that_asks_for_pages_and_reads_none_is_not_read_from(transport) {
        let house = house(|config| {
            config.keeper.outbox.outbox_bytes = 16 * 1024;
            config.server.send_buffer = 4 * 1024;
            config.quic.send_window = 16 * 1024;
            config.session.close_linger = Duration::from_millis(50);
        })
        .await;
        let mut ann = house.join(transport.other(), "lobby", "ann").await;
        for n in 0..25 {
            ann.publish(n, json!("x".repeat(10_000))).await;
            ann.next_of("ok").await;
        }
        let mut slow = house.connect_slow(transport, "lobby").await;
        slow.hello(json!({ "history": 0 })).await;
        let before = house.metric(frames(transport)).await;
        for id in 0..40u64 {
            slow.send(json!({ "type": "history", "id": id })).await;
        }
        let read = house.until_still(frames(transport), before).await - before;
        assert!(read <= 4.0, "{read} pages of 250 kB");
        assert_eq!(ann.say("nobody is held up").await, 26);
        for id in 0..40u64 {
            let page = slow.next_of("page").await;
            assert_eq!(page["id"], id);
            assert!(page["messages"].as_array().unwrap().len() >= 25, "in the end each is answered");
        }
    }
}

/// Holds up everything that waits for the store's reader while it lives: the runtime has one.
pub struct StoreIsBusy(
    #[allow(dead_code, reason = "dropping it is the point")] mpsc::SyncSender<()>,
);

impl StoreIsBusy {
    pub async fn of(house: &House) -> Self {
        let (busy, free) = mpsc::sync_channel::<()>(1);
        let (begins, began) = tokio::sync::oneshot::channel();
        let store = house.gateway().context().store.clone();
        tokio::spawn(async move {
            let waits = move |_: &dyn dormouse::store::Engine| {
                let _ = begins.send(());
                let _ = free.recv();
                Ok(())
            };
            store.run(waits).await.unwrap();
        });
        began.await.unwrap();
        Self(busy)
    }
}

/// Runs a scenario over both transports on a runtime with one thread for what waits.
pub fn with_one_reader(scenario: impl AsyncFn(Transport)) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).max_blocking_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        for transport in Transport::BOTH {
            scenario(transport).await;
        }
    });
}

/// A room asleep in which 40 messages of so many bytes are said while it cannot wake, of which so
/// many are read and not more. Afterwards all of them are heard.
async fn said_to_one_that_cannot_wake(
    transport: Transport,
    bytes: usize,
    change: impl Fn(&mut Config) + Send + Sync + 'static,
    is_full: bool,
    expected: RangeInclusive<u64>,
) {
    let house = house(change).await;
    let mut ann = house.join(transport, "lobby", "ann").await;
    let mut bob = house.join(transport.other(), "lobby", "bob").await;
    let busy = StoreIsBusy::of(&house).await;
    let before = house.metric(frames(transport)).await;
    let padding = "x".repeat(bytes);
    let (read, mut ann) = {
        let says = tokio::spawn(async move {
            for n in 0..40u64 {
                ann.publish(n, json!([n, padding])).await;
            }
            ann
        });
        // On a slow machine her frames may take their time: stillness alone says nothing.
        house.until_metric(frames(transport), before + *expected.start() as f64).await;
        let read = house.until_still(frames(transport), before).await - before;
        assert!(bob.hears_nothing().await, "and is not held up himself");
        if is_full {
            let answer = house.operator("GET", "/v1/rooms/lobby", "").await;
            assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{answer:?}");
            let busy = house.operator("GET", "/v1/rooms?state=busy", "").await.json();
            assert_eq!(busy["rooms"], json!([{ "room": "lobby", "state": "busy" }]));
        }
        drop(busy);
        (read as u64, says.await.unwrap())
    };
    assert!(expected.contains(&read), "{read}");
    for n in 0..40u64 {
        let ok = ann.next_of("ok").await;
        assert_eq!((&ok["id"], &ok["seq"]), (&n.into(), &(n + 1).into()));
        assert_eq!(bob.message().await["data"][0], n, "nothing is lost, and all of it in order");
    }
    assert_eq!(house.inspect("lobby").await["state"], "awake");
}

#[test]
fn a_room_that_cannot_wake_holds_so_many_events_and_its_senders_wait() {
    with_one_reader(async |transport| {
        let few = |config: &mut Config| config.keeper.mailbox_events = 4;
        // Those with the keeper, taken by it, in the mailbox, and the one its sender holds.
        said_to_one_that_cannot_wake(transport, 1, few, true, 9..=13).await;
    });
}

#[test]
fn a_room_that_cannot_wake_holds_so_many_bytes_and_its_senders_wait() {
    with_one_reader(async |transport| {
        let few = |config: &mut Config| config.keeper.waking_bytes = 10_000;
        said_to_one_that_cannot_wake(transport, 4_000, few, true, 7..=10).await; // three each
    });
}

#[test]
fn so_many_publishes_may_be_unanswered_and_the_next_is_not_read() {
    with_one_reader(async |transport| {
        let few = |config: &mut Config| config.session.publishes_in_flight = 4;
        said_to_one_that_cannot_wake(transport, 1, few, false, 4..=4).await;
    });
}

both! {
    /// A client that may have one request unanswered is never read from again if one of its requests
    /// does not count as answered, or if its answer frees nothing.
    async fn every_request_gives_its_place_back(transport) {
        // One: it is answered by its session. Two: by its room as well, in its session's stead.
        for places in [1, 2] {
            let house = house(move |config| {
                config.keeper.publishes_in_flight = places;
                config.session.publishes_in_flight = places;
            })
            .await;
            ask_for_everything(&house, transport).await;
        }
    }
}

async fn ask_for_everything(house: &House, transport: Transport) {
    let mut ann = house.join(transport, "lobby", "ann").await;
    let own = ann.welcome["sid"].clone();
    let requests = [
        json!({ "type": "publish", "data": 1 }),
        json!({ "type": "publish", "data": 2, "key": "key" }),
        json!({ "type": "publish", "data": 2, "key": "key" }),
        json!({ "type": "publish", "data": 3, "to": { "sid": own } }),
        json!({ "type": "publish", "data": 3, "to": { "tag": "nobody" } }),
        json!({ "type": "publish", "data": 3, "key": "k".repeat(1_000) }),
        json!({ "type": "set", "tags": ["tag"] }),
        json!({ "type": "set", "tags": vec!["tag"; 100] }),
        json!({ "type": "history", "limit": 2 }),
        json!({ "type": "history", "limit": 0, "before": 1 }),
        json!({ "type": "members" }),
        json!({ "type": "members", "after": own, "limit": 1 }),
    ];
    for (id, mut request) in (0..).zip(requests.iter().chain(&requests).cloned()) {
        request["id"] = id.into();
        ann.send(request.clone()).await;
        let is_answer = |frame: &Value| frame["id"] == id && frame["type"] != "message";
        ann.next_that(is_answer).await;
    }
    ann.send(json!({ "type": "ping", "id": 99 })).await;
    ann.next_that(|frame| frame["type"] == "pong").await;
}
