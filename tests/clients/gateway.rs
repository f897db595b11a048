//! A gateway that a scenario plays, over WebSockets.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::DEADLINE;

pub struct Gateway(TcpListener);

impl Gateway {
    pub async fn open() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }

    /// The next client that comes, having said hello.
    pub async fn next(&self) -> Link {
        let coming = async {
            loop {
                let (stream, _) = self.0.accept().await.unwrap();
                // A question about discovery is no WebSocket, and finds nobody.
                if let Some(link) = Link::over(stream).await {
                    return link;
                }
            }
        };
        timeout(DEADLINE, coming).await.expect("a client comes in time")
    }
}

/// A client's connection. Dropped, it is gone without a word.
pub struct Link {
    socket: WebSocketStream<TcpStream>,
    pub hello: Value,
}

impl Link {
    async fn over(stream: TcpStream) -> Option<Self> {
        #[allow(clippy::result_large_err, reason = "as the library has it")]
        let chooses = |_: &Request, mut response: Response| {
            let protocol = "dormouse.v1".parse().unwrap();
            response.headers_mut().insert("sec-websocket-protocol", protocol);
            Ok(response)
        };
        let socket = tokio_tungstenite::accept_hdr_async(stream, chooses).await.ok()?;
        let mut link = Self { socket, hello: Value::Null };
        link.hello = link.heard("hello").await;
        Some(link)
    }

    pub async fn say(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    pub async fn welcome(&mut self, more: Value) {
        let mut welcome = json!({
            "type": "welcome", "session": "secret", "sid": "s1", "heartbeat": 25_000,
            "position": { "epoch": "e", "seq": 0 }, "resumed": false, "seat": "new",
            "limits": { "message": 65_536 }, "members": [], "count": 0, "presence_version": 0,
        });
        for (name, value) in more.as_object().unwrap() {
            welcome[name] = value.clone();
        }
        self.say(welcome).await;
    }

    pub async fn live(&mut self, seq: u64) {
        self.say(json!({ "type": "live", "seq": seq })).await;
    }

    pub async fn message(&mut self, seq: u64) {
        let from = json!({ "sid": "s2", "user": null, "name": "bob" });
        let data = json!({ "text": "hi" });
        self.say(json!({ "type": "message", "seq": seq, "time": seq, "from": from, "data": data }))
            .await;
    }

    /// The next frame of that type; others are let go.
    pub async fn heard(&mut self, kind: &str) -> Value {
        let heard = async {
            loop {
                let next = self.socket.next().await.expect("it is there").unwrap();
                let Message::Text(text) = next else { continue };
                let frame: Value = serde_json::from_str(&text).unwrap();
                if frame["type"] == kind {
                    return frame;
                }
            }
        };
        timeout(DEADLINE, heard).await.unwrap_or_else(|_| panic!("no {kind} came"))
    }

    /// Takes what comes and says nothing, until the client is gone.
    pub async fn swallow(&mut self) {
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    pub async fn close(mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        let _ = self.socket.close(Some(frame)).await; // it may have closed already
    }
}
