//! The seed profile alone: joining, chatting, names, the rate limit, leaving, and what is kept.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Client, House, Last, Transport, house};

const IGNORED: &str = "dormouse_frames_ignored_total";

fn texts(chats: &[Value]) -> Vec<&str> {
    chats.iter().map(|chat| chat["message"].as_str().unwrap()).collect()
}

fn numbered(range: std::ops::RangeInclusive<u64>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// Says numbers as a v1 member, who has no limit of ten, hears them and is gone again.
async fn say_numbers(house: &House, room: &str, range: std::ops::RangeInclusive<u64>) {
    let mut member = house.connect(Transport::WebSocket, room).await;
    member.hello(json!({ "name": "v1", "history": 0 })).await;
    let last = json!(range.end().to_string());
    for n in range {
        member.publish(n, json!(n.to_string())).await;
    }
    while member.message().await["data"] != last {}
    member.close(1000).await;
    house.until(room, |room| room["seats"] == 0).await;
}

#[tokio::test]
async fn joining_shows_the_last_hundred_then_the_line_then_the_users() {
    let house = house(|_| {}).await;
    say_numbers(&house, "den", 1..=130).await;
    let mut ada = house.seed("den").await;
    let history = ada.seed_join("ada").await; // checks that the line and the users come behind
    assert_eq!(texts(&history), numbered(31..=130));
    let mut bob = house.seed_join("den", "bob").await;
    let line = ada.next().await;
    assert_eq!(
        (&line["type"], &line["message"]),
        (&"system".into(), &"bob joined the room".into())
    );
    assert_eq!(ada.only_users().await, ["ada", "bob"]);

    bob.chat("hi").await;
    let hi = json!({ "type": "chat", "message": "hi", "from": "bob", "timestamp": 7 });
    for client in [&mut ada, &mut bob] {
        assert_eq!(client.next().await, hi, "nothing more, nothing less");
    }
}

#[tokio::test]
async fn only_who_has_joined_hears_and_on_joining_hears_everything_since_it_came() {
    let house = house(|_| {}).await;
    say_numbers(&house, "den", 1..=120).await;
    let mut late = house.seed("den").await;
    late.is_heard().await; // its place in the log is taken
    say_numbers(&house, "den", 121..=200).await;
    house.hibernate("den").await;
    say_numbers(&house, "den", 201..=270).await;
    let mut ada = house.seed_join("den", "ada").await;
    ada.chat("271").await;
    assert_eq!(ada.next().await["message"], "271");
    // Its place and a hundred before it; lines about others are not stored.
    assert_eq!(texts(&late.seed_join("late").await), numbered(21..=271));
    let mut newcomer = house.seed("den").await;
    assert_eq!(texts(&newcomer.seed_join("new").await), numbered(172..=271));
}

/// The original kept messages under the client's clock: two of one millisecond became one,
/// clients chose their place in the history, and a bad date threw.
#[tokio::test]
async fn timestamps_are_data_and_decide_nothing() {
    let mut house = house(|_| {}).await;
    let mut ada = house.seed_join("den", "ada").await;
    let mut v1 = house.join(Transport::WebSocket, "den", "v1").await;
    let odd = [
        json!(1_760_000_000_000u64),
        json!(1_760_000_000_000u64),
        json!(-62_135_596_800_000i64),
        json!(0),
        json!(9e99),
        json!("yesterday"),
        json!("2026-09-01T12:00:00Z"),
        json!({ "seconds": [1, 2] }),
    ];
    let mut said = Vec::new();
    for (n, timestamp) in odd.iter().enumerate() {
        // The alias means the same.
        let kind = if n % 2 == 0 { "chat" } else { "message" };
        let text = format!("n{n}");
        ada.send(json!({ "type": kind, "message": text, "timestamp": timestamp })).await;
        said.push(
            json!({ "type": "chat", "message": text, "from": "ada", "timestamp": timestamp }),
        );
    }
    assert_eq!(ada.users().await, ["ada", "v1"]);
    for (n, chat) in said.iter().enumerate() {
        assert_eq!(&ada.next().await, chat);
        let message = v1.message().await;
        assert_eq!(message["seq"], n + 1);
        assert_eq!(message["data"], json!({ "text": format!("n{n}"), "timestamp": odd[n] }));
        assert_eq!(message["from"]["name"], "ada");
    }
    assert_eq!(house.seed("den").await.seed_join("bob").await, said);
    house.hibernate("den").await;
    assert_eq!(house.seed("den").await.seed_join("cyd").await, said, "waking erases nothing");
    house.restart().await;
    assert_eq!(house.seed("den").await.seed_join("dan").await, said, "nor does a restart");
}

#[tokio::test]
async fn a_chat_before_joining_ends_the_session() {
    let house = house(|_| {}).await;
    let mut ada = house.seed_join("den", "ada").await;
    for kind in ["chat", "message"] {
        let mut rude = house.seed("den").await;
        rude.send(json!({ "type": kind, "message": "hi", "timestamp": 1 })).await;
        let last = Last::Closed(Some(1011), "Session without name".into());
        assert_eq!(rude.closed().await, (Value::Null, last));
    }
    // What follows a join at once is behind it, whatever is slow.
    for _ in 0..20 {
        let mut quick = house.seed("other").await;
        quick.send(json!({ "type": "join", "name": "quick", "timestamp": 1 })).await;
        quick.chat("at once").await;
        quick.next_of("chat").await;
    }
    ada.chat("undisturbed").await;
    assert_eq!(ada.next().await["message"], "undisturbed");
}

#[tokio::test]
async fn a_new_name_is_told_to_everybody() {
    let house = house(|_| {}).await;
    let mut ada = house.seed_join("den", "ada").await;
    let mut bob = house.seed_join("den", "bob").await;
    assert_eq!(ada.users().await, ["ada", "bob"]);
    ada.send(json!({ "type": "update-name", "name": "ann" })).await;
    for client in [&mut ada, &mut bob] {
        assert_eq!(client.only_users().await, ["ann", "bob"]);
    }
    ada.chat("hi").await;
    assert_eq!(bob.next().await["from"], "ann");
    assert_eq!(ada.next().await["from"], "ann");
    // Names may repeat, a longer one is cut, joining again is a new name: no new line.
    ada.send(json!({ "type": "update-name", "name": "bob" })).await;
    assert_eq!(bob.users().await, ["bob", "bob"]);
    ada.send(json!({ "type": "update-name", "name": "é".repeat(80) })).await;
    assert_eq!(bob.users().await, ["bob".into(), "é".repeat(64)]);
    ada.send(json!({ "type": "join", "name": "eve", "timestamp": 1 })).await;
    assert_eq!(bob.only_users().await, ["bob", "eve"]);
}

/// One attempt; what is refused comes back as its `retryAfter`.
async fn attempt(client: &mut Client) -> Option<f64> {
    client.chat("again").await;
    let frame = client.next().await;
    match frame["type"].as_str() {
        Some("chat") => None,
        Some("rate-limit") => Some(frame["retryAfter"].as_f64().unwrap()),
        other => panic!("{other:?}: {frame}"),
    }
}

#[tokio::test]
async fn ten_at_once_then_two_a_second_also_through_a_nap() {
    let house = house(|_| {}).await;
    let mut ada = house.seed("den").await;
    let started = Instant::now();
    ada.seed_join("ada").await;
    // However slow this machine is, it refills two a second and no more.
    let allowed = || 10 + (started.elapsed().as_secs_f64() * 2.0) as usize + 1;
    let mut taken = 0;
    for n in 0..40 {
        match attempt(&mut ada).await {
            None => taken += 1,
            Some(wait) => {
                assert!(n >= 10, "joining is not counted");
                assert!(wait > 0.0 && wait <= 0.5, "in seconds, and never longer: {wait}");
            }
        }
    }
    assert!((10..=allowed()).contains(&taken), "{taken}");
    house.hibernate("den").await;
    for _ in 0..20 {
        taken += usize::from(attempt(&mut ada).await.is_none());
    }
    assert!(taken <= allowed(), "a nap refills nothing: {taken}");
    // Who keeps trying all the while is let through all the same; a thousand refusals in a row would end it.
    while attempt(&mut ada).await.is_some() {
        assert!(taken <= allowed() && started.elapsed().as_secs() < 20);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Everybody has a limit of their own.
    let mut bob = house.seed_join("den", "bob").await;
    assert_eq!(attempt(&mut bob).await, None);
}

#[tokio::test]
async fn new_names_are_counted_like_chats() {
    let house = house(|_| {}).await;
    for again in ["update-name", "join"] {
        let mut ada = house.seed_join("den", "ada").await;
        for n in 0..40 {
            ada.send(json!({ "type": again, "name": format!("ada{n}"), "timestamp": 1 })).await;
        }
        assert!(ada.next_of("rate-limit").await["retryAfter"].as_f64().unwrap() <= 0.5);
        ada.close(1000).await;
    }
}

/// The original threw while it answered odd close codes and left ghosts behind.
#[tokio::test]
async fn however_somebody_leaves_the_users_are_told() {
    let house = house(|_| {}).await;
    let mut ada = house.seed_join("den", "ada").await;
    for code in [Some(1000), Some(1001), Some(1011), Some(3000), Some(4999), None] {
        let bob = house.seed_join("den", "bob").await;
        assert_eq!(ada.users().await, ["ada", "bob"]);
        match code {
            Some(code) => bob.close(code).await,
            None => bob.close_without_a_code().await,
        }
        assert_eq!(ada.users().await, ["ada"], "{code:?}");
    }
    let bob = house.seed_join("den", "bob").await;
    assert_eq!(ada.users().await, ["ada", "bob"]);
    bob.drop_connection();
    assert_eq!(ada.users().await, ["ada"]);
    house.hibernate("den").await;
    let bob = house.seed_join("den", "bob").await;
    assert_eq!(ada.users().await, ["ada", "bob"]);
    bob.drop_connection();
    assert_eq!(ada.users().await, ["ada"], "asleep as well");
    // Who never joined was never here.
    house.seed("den").await.close(1000).await;
    ada.chat("quiet").await;
    assert_eq!(ada.next().await["message"], "quiet");
}

#[tokio::test]
async fn without_a_subprotocol_it_is_this_one_and_with_only_others_none() {
    let house = house(|_| {}).await;
    for (offer, status) in
        [("", 101), ("other", 400), ("other, dormouse.v2", 400), ("other, dormouse.v1", 101)]
    {
        let headers = match offer {
            "" => String::new(),
            offer => format!("sec-websocket-protocol: {offer}\r\n"),
        };
        assert_eq!(house.websocket("den", &headers).await.status, status, "{offer:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_ignored_and_counted() {
    let house = house(|_| {}).await;
    let mut ada = house.seed_join("den", "ada").await;
    let deep = format!(
        r#"{{"type":"chat","message":"x","timestamp":{}1{}}}"#,
        "[".repeat(32),
        "]".repeat(32)
    );
    let unreadable = [
        "",
        "hello?",
        "null",
        "[]",
        "{}",
        r#"["chat",null,"positional",1]"#,
        r#"["join","positional",null,null]"#,
        r#"{"type":"dance"}"#,
        r#"{"type":5}"#,
        r#"{"type":"join"}"#,
        r#"{"type":"chat","message":"no time"}"#,
        r#"{"type":"chat","timestamp":1}"#,
        r#"{"type":"chat","message":7,"timestamp":1}"#,
        r#"{"type":"chat","message":"\ud800","timestamp":1}"#,
        r#"{"type":"update-name"}"#,
        r#"{"type":"chat","message":"x","timestamp":1} trailing"#,
        &deep,
    ];
    for text in unreadable {
        ada.send_text(text).await;
    }
    ada.chat("still here").await;
    assert_eq!(ada.next().await["message"], "still here");
    assert_eq!(house.metric(IGNORED).await, unreadable.len() as f64);
    // Before joining as well, and a name without a join is none.
    let mut early = house.seed("den").await;
    early.send_text("?").await;
    early.send(json!({ "type": "update-name", "name": "early" })).await;
    early.seed_join("early bird").await;
    assert_eq!(house.metric(IGNORED).await, unreadable.len() as f64 + 2.0);
}

#[tokio::test]
async fn a_drain_says_1012() {
    let mut house = house(|_| {}).await;
    let mut joined = house.seed_join("den", "ada").await;
    let mut silent = house.seed("den").await;
    let closed = async { (joined.closed().await.1, silent.closed().await.1) };
    let ((), lasts) = tokio::join!(house.shutdown(), closed);
    let restarting = Last::Closed(Some(1012), "the gateway is restarting".into());
    assert_eq!(lasts, (restarting.clone(), restarting));
}
