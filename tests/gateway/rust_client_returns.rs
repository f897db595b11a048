//! When and how the Rust client comes back, and what it says of what it missed.

use dormouse::client::{
    Close, Error, Event, Events, Options, Position, Room, Saved, Transport as Over, connect,
};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::rust_client::{impatient, options};
use crate::support::{DEADLINE, Front, Transport, both, house};

async fn enter(address: &str, options: Options) -> (Room, Events) {
    timeout(DEADLINE, connect(address, options)).await.expect("in time").unwrap()
}

/// The next event that is one of those.
async fn until<T>(events: &mut Events, is: impl Fn(Event) -> Option<T>) -> T {
    loop {
        let event = timeout(DEADLINE, events.next()).await.expect("in time").expect("not over");
        if let Some(found) = is(event) {
            return found;
        }
    }
}

async fn over(events: &mut Events) -> Over {
    until(events, |event| match event {
        Event::Connected(connected) => Some(connected.transport),
        _ => None,
    })
    .await
}

both! {
    /// Messages of another log were told as if they followed, without a word.
    async fn the_gap_of_a_welcome_is_told_before_anything_else(transport) {
        let house = house(|_| {}).await;
        let address = format!("http://{}/rooms/lobby", house.address());
        let (room, events) = enter(&address, options(transport, "ada")).await;
        room.publish("one").await.unwrap();
        let session = events.saved().unwrap().session;
        drop((room, events));
        let position = Some(Position { epoch: "another".into(), seq: 5 });
        let resume = Some(Saved { session, position });
        let (_room, mut events) = enter(&address, Options { resume, ..options(transport, "ada") }).await;
        let mut told = Vec::new();
        while told.last() != Some(&"message") {
            let event = timeout(DEADLINE, events.next()).await.expect("in time").expect("not over");
            match event {
                Event::Connected(_) => told.push("connected"),
                Event::Gap(gap) => {
                    assert_eq!((gap.why.as_str(), gap.oldest), ("epoch", Some(1)));
                    told.push("gap");
                }
                Event::Message(_) => told.push("message"),
                _ => {}
            }
        }
        assert_eq!(told, ["connected", "gap", "message"]);
    }
}

/// A gateway that a test plays itself.
struct Played(TcpListener);

impl Played {
    async fn open() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// A client that is here, and its other end.
    async fn with_a_client(&self) -> ((Room, Events), WebSocketStream<TcpStream>) {
        let address = format!("http://{}/rooms/lobby", self.0.local_addr().unwrap());
        let entering = enter(&address, options(Transport::WebSocket, "ada"));
        tokio::join!(entering, self.seat())
    }

    /// Takes the next client in, and seats it.
    async fn seat(&self) -> WebSocketStream<TcpStream> {
        let (stream, _) = timeout(DEADLINE, self.0.accept()).await.expect("it comes").unwrap();
        #[allow(clippy::result_large_err, reason = "as the library has it")]
        let chooses = |_: &Request, mut response: Response| {
            let protocol = "dormouse.v1".parse().unwrap();
            response.headers_mut().insert("sec-websocket-protocol", protocol);
            Ok(response)
        };
        let mut socket = tokio_tungstenite::accept_hdr_async(stream, chooses).await.unwrap();
        let hello = socket.next().await.unwrap().unwrap();
        assert!(hello.to_text().unwrap().contains("\"hello\""));
        tell(
            &mut socket,
            json!({
                "type": "welcome", "session": "secret", "sid": "s1", "heartbeat": 25_000,
                "position": { "epoch": "e", "seq": 0 }, "resumed": false, "seat": "new",
                "limits": { "message": 65_536 }, "members": [], "count": 0, "presence_version": 0,
            }),
        )
        .await;
        tell(&mut socket, json!({ "type": "live", "seq": 0 })).await;
        socket
    }
}

async fn tell(socket: &mut WebSocketStream<TcpStream>, frame: Value) {
    socket.send(Message::text(frame.to_string())).await.unwrap();
}

/// In how many ms the client says that it will come back.
async fn retry_in(events: &mut Events) -> u128 {
    until(events, |event| match event {
        Event::Disconnected { retry_in, .. } => Some(retry_in.as_millis()),
        _ => None,
    })
    .await
}

/// All clients of a gateway that was deployed came back in the same moment.
#[tokio::test]
async fn the_moment_of_a_drain_and_of_a_close_is_obeyed() {
    let said = [
        (Some(60_000), None, 55_000..=60_000),
        (None, Some(45_000), 45_000..=45_000),
        // The drain's word is this client's own; the close's is everybody's.
        (Some(60_000), Some(45_000), 55_000..=60_000),
        (None, None, 0..=10),
        (None, Some(0), 0..=10), // "at once" may be said a thousand times in a row
    ];
    for (drain, retry_after, expected) in said {
        let gateway = Played::open().await;
        let ((_room, mut events), mut socket) = gateway.with_a_client().await;
        if let Some(ms) = drain {
            tell(&mut socket, json!({ "type": "drain", "reconnect_after": ms })).await;
        }
        let mut close = json!({ "type": "close", "code": 4000, "reason": "drain" });
        if let Some(ms) = retry_after {
            close["retry_after"] = ms.into();
        }
        tell(&mut socket, close).await;
        let _ = socket.close(None).await; // it may have closed already
        let told = retry_in(&mut events).await;
        assert!(expected.contains(&told), "{drain:?}, {retry_after:?}: {told} ms");
    }
}

/// A close that says that it helps nothing to come back is the end.
#[tokio::test]
async fn a_close_that_is_final_is_the_end() {
    let gateway = Played::open().await;
    let ((_room, mut events), mut socket) = gateway.with_a_client().await;
    tell(&mut socket, json!({ "type": "close", "code": 4508, "reason": "taken_over" })).await;
    let ended = until(&mut events, |event| match event {
        Event::Ended(error) => Some(error),
        Event::Disconnected { .. } => panic!("it wants to come back"),
        _ => None,
    })
    .await;
    assert!(matches!(ended, Error::Closed(Close { code: 4508, .. })), "{ended:?}");
}

/// A WebTransport that opens and then falls silent was tried again and again, and stalled each time.
#[tokio::test]
async fn a_webtransport_that_fell_silent_twice_is_left_alone() {
    let house = house(|_| {}).await;
    let front = Front::of(house.address()).await;
    let any = Options { limits: impatient(), ..Options::named("ada") };
    let (room, mut events) = enter(&front.room("lobby"), any).await;
    let mut transport = over(&mut events).await;
    let mut silences = 0;
    while transport == Over::WebTransport {
        silences += 1;
        assert!(silences <= 2, "it is tried once more");
        front.lose_udp(true);
        let publishing = room.publish("is anybody there?"); // an answer is owed
        until(&mut events, |event| matches!(event, Event::Disconnected { .. }).then_some(())).await;
        front.lose_udp(false);
        transport = over(&mut events).await;
        timeout(DEADLINE, publishing).await.expect("in time").unwrap();
    }
    // A busy machine may have lost the race with the head start as well, which counts alike.
    assert_eq!((transport, room.transport()), (Over::WebSocket, Some(Over::WebSocket)));
}
