//! The seed profile beside v1: both meet in one room, and each sees the other in its own words.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::support::{Client, Transport, both, config, house};

both! {
    async fn what_v1_says_is_shown_if_it_has_a_text(transport) {
        let house = house(|_| {}).await;
        let mut ada = house.seed_join("den", "ada").await;
        let mut bob = house.join(transport, "den", "bob").await;
        assert_eq!(ada.users().await, ["ada", "bob"]);
        let shown = [json!("plain"), json!({ "text": "a text" }), json!({ "message": "a message", "n": 1 })];
        let not_shown = [json!(1), json!(null), json!([]), json!(["x", null, null]), json!({ "text": 5 }), json!({})];
        let mut times = Vec::new();
        for (n, data) in not_shown.iter().chain(&shown).enumerate() {
            bob.publish(n as u64, data.clone()).await;
            times.push(bob.message().await["time"].clone());
        }
        bob.send_binary(json!({ "type": "publish", "id": 99 }), b"bytes").await;
        bob.publish(100, json!("last")).await;
        for (text, time) in ["plain", "a text", "a message"].iter().zip(&times[not_shown.len()..]) {
            let chat = json!({ "type": "chat", "message": text, "from": "bob", "timestamp": time });
            assert_eq!(ada.next().await, chat, "with the gateway's time");
        }
        assert_eq!(ada.next().await["message"], "last");
        house.hibernate("den").await;
        let history = house.seed("den").await.seed_join("cyd").await;
        assert_eq!(history.len(), 4, "from disk as well");
    }

    async fn a_seed_chat_arrives_as_data_from_somebody_with_a_name(transport) {
        let house = house(|_| {}).await;
        let mut bob = house.join(transport, "den", "bob").await;
        let mut ada = house.seed_join("den", "ada").await;
        ada.send(json!({ "type": "chat", "message": "h\"i", "timestamp": "noon" })).await;
        let message = bob.message().await;
        assert_eq!(message["data"], json!({ "text": "h\"i", "timestamp": "noon" }));
        assert_eq!((&message["seq"], &message["from"]["name"]), (&1.into(), &"ada".into()));
        assert!(message["from"]["user"].is_null() && message["from"]["sid"].is_string());
        assert!(bob.hears_nothing().await, "lines about who is here are not messages");
    }

    async fn members_of_v1_join_and_leave_the_users(transport) {
        let house = house(|config| config.keeper.grace = Duration::from_millis(50)).await;
        let mut ada = house.seed_join("den", "ada").await;
        let mut bob = house.join(transport, "den", "bob").await;
        let line = ada.next().await;
        assert_eq!((&line["type"], &line["message"]), (&"system".into(), &"bob joined the room".into()));
        assert_eq!(ada.users().await, ["ada", "bob"]);
        bob.send(json!({ "type": "bye" })).await;
        assert_eq!(ada.users().await, ["ada"]);
        let cyd = house.join(transport, "den", "cyd").await;
        assert_eq!(ada.users().await, ["ada", "cyd"]);
        cyd.close(1000).await;
        assert_eq!(ada.users().await, ["ada"]);
        let dan = house.join(transport, "den", "dan").await;
        assert_eq!(ada.users().await, ["ada", "dan"]);
        let session = dan.welcome["session"].clone();
        dan.drop_connection();
        assert_eq!(ada.users().await, ["ada"], "when its grace is over");
        // The seat can still be taken back; the room was told it left, so it joins anew.
        let mut dan = house.connect(transport, "den").await;
        dan.hello(json!({ "session": session })).await;
        assert_eq!(dan.welcome["seat"], "kept");
        assert_eq!(ada.next().await["message"], "dan joined the room");
        assert_eq!(ada.only_users().await, ["ada", "dan"]);
    }

    async fn who_returns_within_grace_was_never_away(transport) {
        let house = house(|_| {}).await;
        let mut ada = house.seed_join("den", "ada").await;
        let bob = house.join(transport, "den", "bob").await;
        assert_eq!(ada.users().await, ["ada", "bob"]);
        let session = bob.welcome["session"].clone();
        bob.drop_connection();
        let mut bob = house.connect(transport.other(), "den").await;
        bob.hello(json!({ "session": session })).await;
        assert_eq!(bob.welcome["seat"], "kept");
        bob.say("back").await;
        assert_eq!(ada.next().await["message"], "back", "nothing was said of it");
        bob.send(json!({ "type": "bye" })).await;
        assert_eq!(ada.users().await, ["ada"]);
    }

    /// In `hello` on a kept seat the fields present replace: so does the name, and the users
    /// are who is here by the names they have.
    async fn who_returns_under_another_name_is_listed_by_it(transport) {
        let house = house(|_| {}).await;
        let mut ada = house.seed_join("den", "ada").await;
        let bob = house.join(transport, "den", "bob").await;
        assert_eq!(ada.users().await, ["ada", "bob"]);
        let session = bob.welcome["session"].clone();
        bob.drop_connection();
        let mut bob = house.connect(transport.other(), "den").await;
        bob.hello(json!({ "session": session, "name": "rob" })).await;
        assert_eq!(ada.only_users().await, ["ada", "rob"]);
    }
}

/// A chat is on disk before anybody hears it: whoever heard it can be shown it again by the
/// process after the one that was killed at that moment.
#[tokio::test]
async fn what_was_heard_survives_the_death_of_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut said = 0;
    for _ in 0..3 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_dormouse"))
            .current_dir(&dir)
            .args(["--listen", "127.0.0.1:0", "--operator-listen", "off", "--data-dir"])
            .arg(dir.path().join("data"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit_once(':').unwrap().1;
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        let mut ada = Client::seed(address, "den").await;
        assert_eq!(ada.seed_join("ada").await.len(), said);
        for _ in 0..5 {
            said += 1;
            ada.chat(&said.to_string()).await;
            assert_eq!(ada.next().await["message"], said.to_string());
        }
        child.kill().unwrap(); // SIGKILL: no goodbye
        child.wait().unwrap();
    }
    let gateway = dormouse::gateway::Gateway::start(config(&dir)).await.unwrap();
    let mut late = Client::seed(gateway.addresses()[0], "den").await;
    let history = late.seed_join("late").await;
    let numbers: Vec<_> = history.iter().map(|c| c["message"].as_str().unwrap()).collect();
    assert_eq!(numbers, (1..=said).map(|n| n.to_string()).collect::<Vec<_>>());
    gateway.shutdown().await;
}
