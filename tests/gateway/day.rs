//! A day in a room with members of every kind: what each of them must have seen of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, House, Seen, Transport, house};

/// A v1 member and everything it was told.
struct Member {
    client: Client,
    view: Seen,
    /// Stored messages, each with the bytes behind its header.
    log: Vec<(Value, Vec<u8>)>,
    directs: Vec<Value>,
    ephemerals: Vec<Value>,
    states: Vec<String>,
    answers: Vec<Value>,
}

impl Member {
    async fn join(house: &House, transport: Transport, hello: Value) -> Self {
        let mut client = house.connect(transport, "common").await;
        let shown = client.hello(hello).await;
        let view = Seen::of(&client.welcome);
        client.hears_presence = true;
        let log = shown.into_iter().map(|message| (message, Vec::new())).collect();
        let (directs, ephemerals, states, answers) = Default::default();
        Self { client, view, log, directs, ephemerals, states, answers }
    }

    fn sid(&self) -> Value {
        self.client.welcome["sid"].clone()
    }

    /// Reads until it has been told enough.
    async fn until(&mut self, is_told: impl Fn(&Self) -> bool) {
        while !is_told(self) {
            let frame = self.client.next().await;
            match frame["type"].as_str() {
                Some("message") if frame["direct"] == true => self.directs.push(frame),
                Some("message") => self.log.push((frame, self.client.bytes.clone())),
                Some("presence") => self.view.see(&frame),
                Some("ephemeral") => self.ephemerals.push(frame),
                Some("room") => self.states.push(frame["state"].as_str().unwrap().to_owned()),
                Some("ok" | "page") => self.answers.push(frame),
                other => panic!("{other:?}: {frame}"),
            }
        }
    }

    async fn until_heard(&mut self, seq: usize) {
        self.until(|member| member.log.len() == seq).await;
        assert!(self.log.iter().zip(1u64..).all(|((message, _), seq)| message["seq"] == seq));
    }

    /// Asks and waits for the answer.
    async fn ask(&mut self, mut request: Value) -> Value {
        request["id"] = 1.into();
        self.client.send(request).await;
        self.until(|member| !member.answers.is_empty()).await;
        self.answers.remove(0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_in_a_room_of_all_kinds() {
    let house = house(|config| config.keeper.presence_every = Duration::from_millis(10)).await;

    // Everybody arrives.
    let mut ada = house.seed_join("common", "ada").await;
    let hello = json!({ "name": "wes", "watch": true, "tags": ["crew"] });
    let mut wes = Member::join(&house, Transport::WebSocket, hello).await;
    assert_eq!(ada.next().await["message"], "wes joined the room");
    assert_eq!(ada.only_users().await, ["ada", "wes"]);
    let hello = json!({ "name": "tim", "attachment": { "colour": "red" } });
    let mut tim = Member::join(&house, Transport::WebTransport, hello).await;
    assert_eq!(ada.next().await["message"], "tim joined the room");
    assert_eq!(ada.only_users().await, ["ada", "tim", "wes"]);
    for member in [&mut wes, &mut tim] {
        member.until(|member| member.view.names() == ["ada", "tim", "wes"]).await;
        assert_eq!(member.view.named("tim")["attachment"], json!({ "colour": "red" }));
    }
    wes.until(|wes| wes.states == ["asleep"]).await;

    // They chat. What is no text is nothing to ada.
    ada.chat("good morning").await;
    wes.until_heard(1).await;
    let ok = tim.ask(json!({ "type": "publish", "data": { "text": "from far" } })).await;
    assert_eq!(ok["seq"], 2);
    wes.client.send_binary(json!({ "type": "publish" }), b"\x00\xff").await;
    wes.until(|wes| !wes.answers.is_empty()).await;
    assert_eq!(wes.answers.remove(0)["seq"], 3);
    wes.until_heard(3).await;
    tim.until_heard(3).await;
    assert_eq!(wes.states, ["asleep", "awake"]);
    assert_eq!(tim.log[0].0["data"], json!({ "text": "good morning", "timestamp": 7 }));
    assert_eq!(tim.log[2].1, b"\x00\xff");

    // A change of a seat, words to a few, and what may be dropped.
    wes.ask(json!({ "type": "set", "attachment": "a hat" })).await;
    tim.until(|tim| tim.view.named("wes")["attachment"] == "a hat").await;
    assert_eq!(tim.view.named("wes")["tags"], json!(["crew"]), "what is absent stays");
    let to = json!({ "tag": "crew" });
    let ok = tim.ask(json!({ "type": "publish", "to": to, "data": "all hands" })).await;
    assert_eq!(ok["reached"], 1);
    wes.until(|wes| wes.directs.len() == 1).await;
    assert_eq!(
        (&wes.directs[0]["data"], &wes.directs[0]["from"]["sid"]),
        (&json!("all hands"), &tim.sid())
    );
    let to = json!({ "sid": wes.view.named("ada")["sid"] });
    for (data, reached) in [(json!("for ada alone"), 1), (json!(["no chat"]), 0)] {
        let ok = wes.ask(json!({ "type": "publish", "to": to, "data": data })).await;
        assert_eq!((&ok["type"], &ok["reached"]), (&"ok".into(), &reached.into()));
    }
    for _ in 0..2 {
        let cursor = json!({ "type": "ephemeral", "key": "cursor", "data": [3, 4] });
        tim.client.send_loose(cursor).await;
        wes.until(|wes| !wes.ephemerals.is_empty()).await;
        assert_eq!(wes.ephemerals[0]["from"], tim.sid());
        std::mem::swap(&mut tim, &mut wes); // and the other way round
    }

    // A nap. A seat changes and a page is read, and nobody is woken.
    house.hibernate("common").await;
    wes.until(|wes| wes.states.len() == 3).await;
    tim.ask(json!({ "type": "set", "attachment": "a scarf" })).await;
    wes.until(|wes| wes.view.named("tim")["attachment"] == "a scarf").await;
    let page = wes.ask(json!({ "type": "history" })).await;
    assert_eq!(page["messages"].as_array().unwrap().len(), 3);
    assert_eq!(page["messages"][1], tim.log[1].0, "as it was heard");
    assert_eq!(page["messages"][2]["data64"], "AP8=");
    assert_eq!(house.inspect("common").await["state"], "asleep");

    // Tim loses his connection, something is said, and he returns the other way.
    let (session, since) = (tim.client.welcome["session"].clone(), tim.client.position.clone());
    let (sid, heard) = (tim.sid(), tim.log);
    tim.client.drop_connection();
    wes.until(|wes| wes.view.named("tim")["away"] == true).await;
    ada.chat("where is tim?").await;
    wes.until_heard(4).await;
    house.hibernate("common").await;
    let hello = json!({ "session": session, "since": since });
    let mut tim = Member::join(&house, Transport::WebSocket, hello).await;
    assert_eq!(
        (&tim.client.welcome["resumed"], &tim.client.welcome["seat"]),
        (&true.into(), &"kept".into())
    );
    assert_eq!((tim.sid(), tim.log.len()), (sid, 1), "what was missed, and no more");
    tim.log.splice(0..0, heard);
    wes.until(|wes| wes.view.named("tim")["away"].is_null()).await;
    assert_eq!(tim.view.named("tim")["attachment"], "a scarf");
    tim.client.publish(1, json!("here again")).await;
    for member in [&mut wes, &mut tim] {
        member.until_heard(5).await;
    }

    // Ada has seen the texts, in order, and nothing of all the rest.
    let mut chats = Vec::new();
    while chats.last().is_none_or(|last| last != "here again") {
        let chat = ada.next().await;
        assert_eq!(chat["type"], "chat", "nobody came or went: {chat}");
        chats.push(chat["message"].as_str().unwrap().to_owned());
    }
    assert_eq!(chats, ["good morning", "from far", "for ada alone", "where is tim?", "here again"]);
    ada.drop_connection();
    for member in [&mut wes, &mut tim] {
        member.until(|member| member.view.names() == ["tim", "wes"]).await;
        assert_eq!(member.view.resets, 0);
    }

    // The log is one.
    assert_eq!(wes.log, tim.log);
    assert_eq!((wes.directs.len(), wes.ephemerals.len()), (1, 1));
    assert_eq!(wes.states, ["asleep", "awake", "asleep", "awake", "asleep", "awake"]);
    assert!(tim.states.is_empty(), "who does not watch is told nothing");
}
