//! What both clients promise, as one list of scenarios that each of them goes through: gap, drain,
//! resume, once, silence and save.
//!
//! The gateway is played, so that it can say exactly what a scenario is about. The Rust client runs
//! in this process; the JavaScript client is the bundle that pages load, in node. What only one of them
//! has is tested beside it: in `src/client`, `tests/gateway/rust_client*.rs` and `web-demo/client/tests`.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![cfg(feature = "client")]

mod gateway;
mod player;

use std::time::Duration;

use gateway::Gateway;
use player::{Kind, Player};
use serde_json::{Value, json};

/// Longer than anything here takes: the JavaScript client gives a silent WebSocket ten seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// A client, and the gateway that a scenario plays.
struct Stage {
    gateway: Gateway,
    client: Player,
}

impl Stage {
    async fn of(kind: Kind) -> Self {
        Self { gateway: Gateway::open().await, client: Player::begin(kind) }
    }

    /// Has the client come for the first time, and seats it.
    async fn seated(kind: Kind) -> (Self, gateway::Link) {
        let mut stage = Self::of(kind).await;
        stage.client.tell(json!({ "do": "connect", "url": stage.gateway.url() }));
        let mut link = stage.gateway.next().await;
        link.welcome(json!({})).await;
        link.live(0).await;
        stage.client.until("live").await;
        (stage, link)
    }

    /// What the client says until it is live.
    async fn until_live(&mut self) -> Vec<Value> {
        let mut told = Vec::new();
        loop {
            let event = self.client.next().await;
            if event["is"] == "live" {
                return told;
            }
            told.push(event);
        }
    }
}

/// Each scenario is a test of each client: `scenarios!` has a line for every [`Kind`].
macro_rules! scenarios {
    ($($(#[$doc:meta])* async fn $name:ident($kind:ident) $body:block)*) => {
        $(mod $name {
            use super::*;

            async fn scenario($kind: Kind) $body

            $(#[$doc])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn rust() {
                scenario(Kind::Rust).await;
            }

            $(#[$doc])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn javascript() {
                scenario(Kind::JavaScript).await;
            }
        })*
    };
}

scenarios! {
    async fn another_log_is_told_before_its_messages(kind) {
        let (mut stage, mut link) = Stage::seated(kind).await;
        link.message(1).await;
        stage.client.until("message").await;
        drop(link);
        let mut link = stage.gateway.next().await;
        assert_eq!(link.hello["since"], json!({ "epoch": "e", "seq": 1 }));
        link.welcome(json!({
            "resumed": false, "why": "epoch", "oldest": 1, "position": { "epoch": "f", "seq": 2 },
        }))
        .await;
        link.message(1).await;
        link.message(2).await;
        link.live(2).await;
        let told = stage.until_live().await;
        let told: Vec<_> = told.into_iter().filter(|it| it["is"] != "lost").collect();
        let expected = [
            json!({ "is": "gap", "why": "epoch" }),
            json!({ "is": "message", "seq": 1 }),
            json!({ "is": "message", "seq": 2 }),
        ];
        assert_eq!(told, expected);
    }

    async fn a_position_behind_retention_is_told_before_what_is_left(kind) {
        let (mut stage, mut link) = Stage::seated(kind).await;
        link.message(1).await;
        stage.client.until("message").await;
        drop(link);
        let mut link = stage.gateway.next().await;
        let position = json!({ "epoch": "e", "seq": 9 });
        let welcome = json!({ "resumed": false, "why": "retention", "oldest": 8, "position": position });
        link.welcome(welcome).await;
        link.message(8).await;
        link.message(9).await;
        link.live(9).await;
        let told = stage.until_live().await;
        let told: Vec<_> = told.into_iter().filter(|it| it["is"] != "lost").collect();
        let expected = [
            json!({ "is": "gap", "why": "retention" }),
            json!({ "is": "message", "seq": 8 }),
            json!({ "is": "message", "seq": 9 }),
        ];
        assert_eq!(told, expected);
    }

    async fn a_resume_is_whole_and_nothing_is_told_twice(kind) {
        let (mut stage, mut link) = Stage::seated(kind).await;
        link.message(1).await;
        link.message(2).await;
        stage.client.until("message").await;
        assert_eq!(stage.client.until("message").await["seq"], 2);
        drop(link);
        let mut link = stage.gateway.next().await;
        assert_eq!(link.hello["since"], json!({ "epoch": "e", "seq": 2 }));
        assert_eq!(link.hello["session"], "secret");
        link.welcome(json!({ "resumed": true, "seat": "kept" })).await;
        for seq in [2, 3, 4] {
            link.message(seq).await; // the first of them it has
        }
        link.live(4).await;
        let told = stage.until_live().await;
        let seqs: Vec<_> = told.iter().filter_map(|it| it["seq"].as_u64()).collect();
        assert_eq!((seqs, told.iter().any(|it| it["is"] == "gap")), (vec![3, 4], false));
    }

    /// All clients of a gateway that was deployed came back in the same moment.
    async fn the_moment_of_a_drain_and_of_a_close_is_obeyed(kind) {
        // A gateway that names none, or says "at once", which it may say a thousand times in a row.
        let by_itself = match kind {
            Kind::Rust => 0..=10,
            Kind::JavaScript => 0..=500,
        };
        let said = [
            (4000, Some(60_000), None, 55_000..=60_000),
            (4000, None, Some(45_000), 45_000..=45_000),
            (4007, None, Some(45_000), 45_000..=45_000),
            // The drain's word is this client's own; the close's is everybody's.
            (4000, Some(60_000), Some(45_000), 55_000..=60_000),
            (4000, None, None, by_itself.clone()),
            (4000, None, Some(0), by_itself),
        ];
        for (code, drain, retry_after, expected) in said {
            let (mut stage, mut link) = Stage::seated(kind).await;
            if let Some(ms) = drain {
                link.say(json!({ "type": "drain", "reconnect_after": ms })).await;
            }
            let mut close = json!({ "type": "close", "code": code, "reason": "as its code says" });
            if let Some(ms) = retry_after {
                close["retry_after"] = ms.into();
            }
            link.say(close).await;
            link.close(code).await;
            let told = stage.client.until("lost").await["retry_ms"].as_u64().unwrap();
            assert!(expected.contains(&told), "{code}, {drain:?}, {retry_after:?}: {told} ms");
        }
    }

    async fn a_close_that_is_final_is_the_end(kind) {
        for (code, reason) in [(4509, "room_deleted"), (4508, "taken_over")] {
            let (mut stage, mut link) = Stage::seated(kind).await;
            link.say(json!({ "type": "close", "code": code, "reason": reason })).await;
            link.close(code).await;
            let ended = stage.client.next().await;
            assert_eq!((&ended["is"], &ended["code"]), (&"ended".into(), &code.into()), "{ended}");
        }
    }

    async fn a_publish_without_an_answer_is_said_again_the_same_and_settles_once(kind) {
        let (mut stage, mut link) = Stage::seated(kind).await;
        for id in [1, 2] {
            stage.client.tell(json!({ "do": "publish", "id": id, "data": { "n": id } }));
        }
        let first = [link.heard("publish").await, link.heard("publish").await];
        assert!(first.iter().all(|frame| frame["key"].is_string()), "{first:?}");
        assert_ne!(first[0]["key"], first[1]["key"]);
        link.say(json!({ "type": "ok", "id": first[0]["id"], "seq": 1 })).await;
        assert_eq!(stage.client.until("published").await["id"], 1);
        drop(link);
        let mut link = stage.gateway.next().await;
        link.welcome(json!({ "resumed": true, "seat": "kept" })).await;
        link.live(0).await;
        let again = link.heard("publish").await;
        assert_eq!(again, first[1], "the same, and what was answered is not said again");
        link.say(json!({ "type": "ok", "id": again["id"], "seq": 2, "dup": true })).await;
        let told = stage.client.until("published").await;
        assert_eq!(told, json!({ "is": "published", "id": 2, "seq": 2, "dup": true }));
    }

    async fn a_refusal_with_retry_after_is_said_again_then(kind) {
        let (mut stage, mut link) = Stage::seated(kind).await;
        stage.client.tell(json!({ "do": "publish", "id": 1, "data": 1 }));
        let first = link.heard("publish").await;
        let refusal = json!({ "type": "error", "id": first["id"], "code": "rate_limited", "reason": "later" });
        let mut later = refusal.clone();
        later["retry_after"] = 300.into();
        let refused = std::time::Instant::now();
        link.say(later).await;
        assert_eq!(link.heard("publish").await, first);
        assert!(refused.elapsed() >= Duration::from_millis(290), "{:?}", refused.elapsed());
        link.say(json!({ "type": "ok", "id": first["id"], "seq": 1 })).await;
        assert_eq!(stage.client.until("published").await["seq"], 1);

        // One that names no time is for good, and is told to who said it.
        stage.client.tell(json!({ "do": "publish", "id": 2, "data": 2 }));
        let second = link.heard("publish").await;
        let refusal = json!({ "type": "error", "id": second["id"], "code": "forbidden", "reason": "no" });
        link.say(refusal).await;
        assert_eq!(stage.client.until("refused").await["id"], 2);
    }

    /// A whisper came twice.
    async fn a_direct_message_is_not_said_again(kind) {
        let (mut stage, mut link) = Stage::seated(kind).await;
        stage.client.tell(json!({ "do": "direct", "id": 1, "data": "psst" }));
        let direct = link.heard("publish").await;
        assert_eq!(direct["to"], json!({ "sid": "s2" }));
        drop(link);
        assert_eq!(stage.client.until("refused").await["id"], 1, "nobody knows whether it arrived");
        let mut link = stage.gateway.next().await;
        link.welcome(json!({ "resumed": true, "seat": "kept" })).await;
        link.live(0).await;
        stage.client.until("live").await;
        stage.client.tell(json!({ "do": "publish", "id": 2, "data": "after" }));
        assert_eq!(link.heard("publish").await["data"], "after", "nothing before it");
    }

    /// Dead for longer than anybody waits, and without a word from the system.
    async fn a_gateway_that_falls_silent_is_given_up_and_another_is_found(kind) {
        let (mut stage, mut silent) = Stage::seated(kind).await;
        stage.client.tell(json!({ "do": "publish", "id": 1, "data": "is anybody there?" }));
        let said = silent.heard("publish").await;
        silent.heard("ping").await;
        let lost = stage.client.until("lost");
        let ((), _) = tokio::join!(silent.swallow(), lost);
        let mut link = stage.gateway.next().await;
        link.welcome(json!({ "resumed": true, "seat": "kept" })).await;
        link.live(0).await;
        assert_eq!(link.heard("publish").await, said);
    }

    async fn what_is_saved_leads_the_next_program_to_the_seat_and_the_place(kind) {
        let (mut stage, mut link) = Stage::seated(kind).await;
        link.message(1).await;
        link.message(2).await;
        stage.client.until("message").await;
        stage.client.until("message").await;
        stage.client.tell(json!({ "do": "save" }));
        let saved = stage.client.until("saved").await;
        assert_eq!(saved["session"], "secret");
        assert_eq!(saved["since"], json!({ "epoch": "e", "seq": 2 }), "what was taken, and no more");
        drop(link);

        let next = Player::begin(kind);
        let (url, session, since) = (stage.gateway.url(), &saved["session"], &saved["since"]);
        let gateway = Gateway::open().await;
        assert_ne!(url, gateway.url());
        next.tell(json!({ "do": "connect", "url": gateway.url(), "session": session, "since": since }));
        let link = gateway.next().await;
        assert_eq!((&link.hello["session"], &link.hello["since"]), (session, since));
    }
}
