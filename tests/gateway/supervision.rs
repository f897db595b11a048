//! Each task that lives as long as the gateway is made to panic: it is noticed, and either the task
//! is begun anew or the process ends with a word and a code of its own.

use std::process::Stdio;
use std::time::{Duration, Instant};

use dormouse::supervision::{FAILURES, Task};
use serde_json::json;

use crate::support::process::{ANYWHERE, Running, dormouse};
use crate::support::{Client, DEADLINE, House, Transport, house};

/// The exit code of a gateway that failed.
const SOFTWARE: i32 = 70;

/// Publishes until it is taken: a failed commit is said to be tried again, with the same key.
async fn publish(client: &mut Client, key: &str) {
    let begun = Instant::now();
    loop {
        client.send(json!({ "type": "publish", "id": 1, "key": key, "data": key })).await;
        let answer = client.answer().await;
        if answer["type"] == "ok" {
            return;
        }
        assert_eq!(answer["code"], "room_unavailable", "{answer}");
        assert!(begun.elapsed() < DEADLINE, "{key} is never taken");
        tokio::time::sleep(Duration::from_millis(answer["retry_after"].as_u64().unwrap())).await;
    }
}

/// Waits until a task has failed so often, and is there again.
async fn until_begun_anew(house: &House, task: Task, failures: u64) {
    let cx = house.gateway().context();
    let failed = cx.metrics.task_failures.of(task.label());
    let waiting = async {
        while failed.get() < failures || cx.supervisor.trouble().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(DEADLINE, waiting).await;
    assert!(in_time.is_ok(), "{task:?}: {} failures", failed.get());
}

/// Whatever fails, members stay, nothing is lost, and the gateway does all it did before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_panics_is_begun_anew_and_the_gateway_does_all_it_did() {
    for task in Task::ALL {
        let house = house(|_| {}).await;
        let mut ann = house.join(Transport::WebSocket, "meadow", "ann").await;
        let mut bob = house.join(Transport::WebTransport, "meadow", "bob").await;
        let mut dan = house.join(Transport::WebSocket, "meadow", "dan").await;
        let mut eve = house.join(Transport::WebTransport, "meadow", "eve").await;
        house.gateway().context().supervisor.plant(task, 1);
        publish(&mut ann, "one").await;
        let moved = async {
            let hibernate =
                || house.operator("POST", "/v1/rooms/meadow/hibernate", "content-length: 0\r\n");
            while hibernate().await.status != 200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(DEADLINE, moved).await.expect("it is moved in time");
        until_begun_anew(&house, task, 1).await;

        house.until_ready(200).await;
        publish(&mut bob, "two").await;
        for client in [&mut dan, &mut eve] {
            for (seq, said) in [(1, "one"), (2, "two")] {
                let message = client.message().await;
                assert_eq!((&message["seq"], &message["data"]), (&seq.into(), &said.into()));
            }
        }
        for transport in [Transport::WebSocket, Transport::WebTransport] {
            let mut cyd = house.join(transport, "meadow", "cyd").await;
            publish(&mut cyd, "three").await;
            cyd.close(1000).await;
        }
    }
}

/// What fails again and again ends the process: in order, with a last word, and not with success.
#[test]
fn a_task_that_goes_on_failing_ends_the_process_with_a_word_and_a_code() {
    let started: Vec<_> = Task::ALL
        .into_iter()
        .map(|task| {
            let dir = tempfile::tempdir().unwrap();
            let mut command = dormouse(dir.path(), &ANYWHERE);
            command.env("PLANTED_PANICS", format!("{} {FAILURES}", task.label()));
            let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            (task, Running(child), dir)
        })
        .collect();
    for (task, mut child, _dir) in started {
        let mut said = String::new();
        let mut stderr = child.0.stderr.take().unwrap();
        std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
        assert_eq!(child.0.wait().unwrap().code(), Some(SOFTWARE), "{task:?}: {said}");
        let word = format!(
            "dormouse: {}, again and again; the gateway has drained and ends",
            task.trouble()
        );
        assert_eq!(said.lines().last(), Some(&*word), "{said}");
        assert!(said.contains("INFO dormouse::gateway: closed"), "{task:?}: {said}");
        assert!(!said.contains("RUST_BACKTRACE"), "{task:?}: {said}");
    }
}
