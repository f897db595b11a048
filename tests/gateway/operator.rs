//! What the operator listener answers.

use crate::support::house;

#[tokio::test]
async fn health_readiness_and_metrics_are_there() {
    let house = house(|_| {}).await;
    assert_eq!(house.operator("GET", "/healthz", "").await.status, 200);
    assert_eq!(house.operator("GET", "/readyz", "").await.status, 200);
    let metrics = house.operator("GET", "/metrics", "").await;
    assert!(metrics.body.contains("dormouse_sessions{transport=\"websocket\"} 0"));
    assert_eq!(house.get("/metrics", "").await.status, 404, "not at the front door");
}

#[tokio::test]
async fn an_unwell_store_is_not_ready_but_alive() {
    // No disk has as much to keep back: the store opens, and takes nothing.
    let house = house(|config| config.store.reserve = Some(1 << 60)).await;
    let answer = house.operator("GET", "/readyz", "").await;
    assert_eq!((answer.status, &answer.json()["reason"]), (503, &"the disk is nearly full".into()));
    assert_eq!(house.operator("GET", "/healthz", "").await.status, 200);
    let metrics = house.operator("GET", "/metrics", "").await;
    assert!(metrics.body.contains("dormouse_store_unwell 1"), "{}", metrics.body);
}

#[tokio::test]
async fn errors_are_problem_details() {
    let house = house(|_| {}).await;
    for (method, path, status) in [
        ("GET", "/v1/rooms/nowhere", 404),
        ("POST", "/v1/rooms/a%2Fb/hibernate", 400),
        ("GET", "/v1/attic", 404),
        ("GET", "/v1/rooms/lobby/wake", 405),
        ("DELETE", "/healthz", 405),
    ] {
        let answer = house.operator(method, path, "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let problem = answer.json();
        assert_eq!((&problem["status"], &problem["type"]), (&status.into(), &"about:blank".into()));
        assert!(problem["title"].is_string() && problem["detail"].is_string());
    }
    assert_eq!(house.operator("GET", "/v1/rooms/lobby/wake", "").await.header("allow"), "POST");
}

/// A page in the operator's own browser can send requests to loopback, and one whose name was
/// pointed at 127.0.0.1 can even read the answers.
#[tokio::test]
async fn web_pages_are_not_answered() {
    let house = house(|_| {}).await;
    let post = "origin: http://localhost:3000\r\ncontent-length: 0\r\n";
    assert_eq!(house.operator("POST", "/v1/rooms/lobby/hibernate", post).await.status, 403);
    assert_eq!(house.operator("GET", "/readyz", "host: evil.example:4434\r\n").await.status, 403);
    assert_eq!(house.operator("GET", "/readyz", "host: localhost:4434\r\n").await.status, 200);
}
