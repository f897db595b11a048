//! What must hold of a room's log, whatever happened to the gateway: a pure function over what
//! its clients saw and what is there in the end.
//!
//! Every message's `data` has a `key` of its own, the idempotency key it was published with.

use std::collections::HashMap;

use serde_json::Value;

/// What one client saw, over all its connections.
#[derive(Debug, Default)]
pub struct Witness {
    /// Every `ok`: the key and where it stands in the log.
    pub answered: Vec<(String, u64)>,
    /// Every message, in the order in which it came.
    pub heard: Vec<Value>,
}

/// Says what is wrong with a whole log, if anything is.
pub fn check(log: &[Value], witnesses: &[Witness]) -> Result<(), String> {
    let by_key = check_log(log)?;
    for (who, witness) in witnesses.iter().enumerate() {
        for (key, seq) in &witness.answered {
            match by_key.get(key.as_str()) {
                Some(at) if at == seq => {}
                Some(at) => {
                    return Err(format!("{key} was answered {seq} to {who} and stands at {at}"));
                }
                None => return Err(format!("{key} was answered {seq} to {who} and is lost")),
            }
        }
        check_heard(log, &witness.heard).map_err(|wrong| format!("{who} heard {wrong}"))?;
    }
    Ok(())
}

/// No hole, no time that runs back, no key twice.
fn check_log(log: &[Value]) -> Result<HashMap<&str, u64>, String> {
    let mut by_key = HashMap::new();
    let mut time = 0;
    for (message, expected) in log.iter().zip(1..) {
        let seq = seq(message);
        if seq != expected {
            return Err(format!("the log has {seq} where {expected} belongs"));
        }
        let now = message["time"].as_u64().unwrap_or(0);
        if now < time {
            return Err(format!("time runs back at {seq}"));
        }
        time = now;
        let key = message["data"]["key"].as_str().unwrap_or("");
        if let Some(first) = by_key.insert(key, seq) {
            return Err(format!("{key} took effect twice, at {first} and {seq}"));
        }
    }
    Ok(by_key)
}

/// One after the other, and all of it as the log has it.
fn check_heard(log: &[Value], heard: &[Value]) -> Result<(), String> {
    let first = heard.first().map_or(1, seq);
    for (message, expected) in heard.iter().zip(first..) {
        let seq = seq(message);
        if seq != expected {
            return Err(format!("{seq} where {expected} belongs"));
        }
        match log.get(seq as usize - 1) {
            Some(stored) if stored == message => {}
            Some(stored) => return Err(format!("{message} and the log has {stored}")),
            None => return Err(format!("{seq}, which is lost")),
        }
    }
    Ok(())
}

fn seq(message: &Value) -> u64 {
    message["seq"].as_u64().unwrap_or(0)
}

/// The checker finds what it is there to find.
#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(seq: u64, key: &str) -> Value {
        json!({ "seq": seq, "time": 10 + seq, "data": { "key": key } })
    }

    #[test]
    fn every_kind_of_loss_is_found() {
        let log = [message(1, "a"), message(2, "b"), message(3, "c")];
        let seen = |answered: &[(&str, u64)], heard: &[Value]| Witness {
            answered: answered.iter().map(|(key, seq)| ((*key).to_owned(), *seq)).collect(),
            heard: heard.to_vec(),
        };
        let complaint = |log: &[Value], witness| check(log, &[witness]).unwrap_err();
        let all = seen(&[("b", 2), ("b", 2)], &log[1..]);
        assert_eq!(check(&log, &[all, Witness::default()]), Ok(()));
        assert!(complaint(&log[..2], seen(&[("c", 3)], &[])).contains("is lost"));
        assert!(complaint(&log, seen(&[("c", 2)], &[])).contains("stands at 3"));
        assert!(complaint(&log[..2], seen(&[], &log)).contains("which is lost"));
        assert!(complaint(&log, seen(&[], &[log[0].clone(), log[2].clone()])).contains("belongs"));
        assert!(complaint(&log, seen(&[], &[log[0].clone(), log[0].clone()])).contains("belongs"));
        assert!(complaint(&log, seen(&[], &[message(1, "x")])).contains("the log has"));
        assert!(complaint(&log[1..], Witness::default()).contains("belongs"));
        let twice = [message(1, "a"), message(2, "a")];
        assert!(complaint(&twice, Witness::default()).contains("twice"));
        let mut back = [message(1, "a"), message(2, "b")];
        back[1]["time"] = 9.into();
        assert!(complaint(&back, Witness::default()).contains("time runs back"));
    }
}
