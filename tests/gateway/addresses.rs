//! What one address may: at the limit, and one past it, over both transports. Loopback is exempt
//! but here, where there is no other.

use std::time::{Duration, Instant};

use dormouse::config::Config;
use dormouse::room::Rate;

use crate::support::{Client, House, Transport, both, house};

/// Everybody comes from one address, and it counts.
fn strict(config: &mut Config) {
    config.server.addresses.loopback_is_exempt = false;
    config.server.addresses.connects = Rate::OFF;
}

/// Knocks; `None` if refused.
async fn knock(house: &House, transport: Transport) -> Option<Client> {
    Client::try_connect(transport, house.address(), "lobby", &house.hashes()).await
}

async fn refusals(house: &House) -> f64 {
    house.metric("dormouse_refusals_total{status=\"429\"}").await
}

both! {
    async fn an_address_has_so_many_sessions_over_both_transports_together(transport) {
        let house = house(|config| {
            strict(config);
            config.server.addresses.connections = 2;
        })
        .await;
        let ann = knock(&house, transport).await.unwrap();
        let _bob = knock(&house, transport.other()).await.unwrap();
        for transport in Transport::BOTH {
            assert!(knock(&house, transport).await.is_none(), "{transport:?}");
        }
        let answer = house.websocket("lobby", "").await;
        assert_eq!((answer.status, answer.header("retry-after")), (429, "5"), "{answer:?}");
        assert_eq!(refusals(&house).await, 3.0);
        assert_eq!(house.get("/.well-known/dormouse", "").await.status, 200, "sessions only");
        ann.drop_connection();
        let begun = Instant::now();
        while knock(&house, transport).await.is_none() {
            assert!(begun.elapsed() < crate::support::DEADLINE, "its place is free again");
        }
    }

    async fn an_address_begins_so_many_and_is_told_when_it_may_again(transport) {
        let house = house(|config| {
            strict(config);
            config.server.addresses.connects = Rate { per_second: 1, burst: 3 };
        })
        .await;
        let (begun, mut passed) = (Instant::now(), 0);
        // A slow machine takes longer, and more may pass; never fewer.
        while knock(&house, transport).await.is_some() {
            passed += 1;
            let most = 3 + begun.elapsed().as_secs();
            assert!(passed <= most, "{passed} of at most {most}");
        }
        assert!(passed >= 3, "{passed}");
        assert_eq!(refusals(&house).await, 1.0);
        let refused = house.websocket("lobby", "").await;
        if refused.status == 429 {
            assert_eq!(refused.header("retry-after"), "1");
        }
        tokio::time::sleep(Duration::from_secs(1)).await; // as long as it says
        assert!(knock(&house, transport).await.is_some());
    }

    async fn loopback_is_exempt(transport) {
        let house = house(|config| {
            config.server.addresses.connects = Rate { per_second: 1, burst: 1 };
            config.server.addresses.connections = 1;
        })
        .await;
        let mut people = Vec::new();
        for _ in 0..5 {
            people.push(knock(&house, transport).await.unwrap());
        }
        assert_eq!(refusals(&house).await, 0.0);
    }

    async fn what_is_refused_for_another_reason_takes_no_place(transport) {
        let house = house(|config| {
            strict(config);
            config.server.addresses.connections = 2;
            config.server.connections = 1;
        })
        .await;
        let _ann = knock(&house, transport).await.unwrap();
        for _ in 0..3 {
            assert!(knock(&house, transport).await.is_none(), "all places are taken");
        }
        assert_eq!(house.websocket("lobby", "").await.status, 503);
        assert_eq!(refusals(&house).await, 0.0);
    }
}
