//! When and how the Rust client comes back, and what it says of what it missed: what its transports have
//! to do with. The rest is in `tests/clients`, for both clients.

use dormouse::client::{Event, Options, Position, Saved, Transport as Over};
use tokio::time::timeout;

use crate::rust_client::{connected, enter, impatient, options, until};
use crate::support::{DEADLINE, Front, Transport, both, house};

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

/// A WebTransport that opens and then falls silent was tried again and again, and stalled each time.
#[tokio::test]
async fn a_webtransport_that_fell_silent_twice_is_left_alone() {
    let house = house(|_| {}).await;
    let front = Front::of(house.address()).await;
    let any = Options { limits: impatient(), ..Options::named("ada") };
    let (room, mut events) = enter(&front.room("lobby"), any).await;
    let mut transport = connected(&mut events).await.transport;
    let mut silences = 0;
    while transport == Over::WebTransport {
        silences += 1;
        assert!(silences <= 2, "it is tried once more");
        front.lose_udp(true);
        let publishing = room.publish("is anybody there?"); // an answer is owed
        until(&mut events, |event| matches!(event, Event::Disconnected { .. }).then_some(())).await;
        front.lose_udp(false);
        transport = connected(&mut events).await.transport;
        timeout(DEADLINE, publishing).await.expect("in time").unwrap();
    }
    // A busy machine may have lost the race with the head start as well, which counts alike.
    assert_eq!((transport, room.transport()), (Over::WebSocket, Some(Over::WebSocket)));
}
