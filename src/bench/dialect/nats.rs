//! NATS over WebSocket: a stream of lines in binary frames, which a message may straddle.

use bytes::BytesMut;

use super::{Dialect, Heard, Hello};
use crate::bench::wire::{Opcode, Transport};

/// The client protocol of nats-server.
pub struct Nats;

impl Dialect for Nats {
    fn path(&self, _room: &str, _over: Transport) -> String {
        "/".to_owned()
    }

    fn opcode(&self) -> Opcode {
        Opcode::Binary
    }

    fn hello(&self, room: &str, _hello: &Hello) -> Option<String> {
        // The answer to the ping says that the subscription before it holds.
        let connect = r#"CONNECT {"verbose":false,"pedantic":false,"echo":true}"#;
        Some(format!("{connect}\r\nSUB r.{room} 1\r\nPING\r\n"))
    }

    fn publish(&self, room: &str, message: &[u8], out: &mut BytesMut) {
        out.extend_from_slice(format!("PUB r.{room} {}\r\n", message.len()).as_bytes());
        out.extend_from_slice(message);
        out.extend_from_slice(b"\r\n");
    }

    fn hear<'a>(&self, body: &'a [u8], heard: &mut dyn FnMut(Heard<'a>)) -> usize {
        let mut at = 0;
        while let Some(end) = body[at..].windows(2).position(|pair| pair == b"\r\n") {
            let line = &body[at..at + end];
            let behind = at + end + 2;
            match line {
                [b'M', b'S', b'G', ..] => {
                    let length = line.rsplit(|byte| *byte == b' ').next();
                    let length = length.and_then(|digits| std::str::from_utf8(digits).ok());
                    let length: usize = length.and_then(|text| text.parse().ok()).unwrap_or(0);
                    let Some(message) = body.get(behind..behind + length + 2) else { return at };
                    heard(Heard::Message(message));
                    at = behind + length + 2;
                    continue;
                }
                b"PONG" => heard(Heard::Joined),
                b"PING" => heard(Heard::Wants("PONG\r\n")),
                [b'-', ..] => heard(Heard::Ends(line)),
                _ => heard(Heard::Else),
            }
            at = behind;
        }
        at
    }

    fn is_stream(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_straddles_frames_is_heard_once() {
        let said = b"INFO {}\r\nPONG\r\nMSG r.a 1 5\r\nhello\r\nPING\r\nMSG r.a 1 2\r\nhi\r\n";
        for piece in [1, 2, 5, 13, said.len()] {
            let (mut kept, mut found) = (Vec::new(), Vec::new());
            for piece in said.chunks(piece) {
                kept.extend_from_slice(piece);
                let used = Nats.hear(&kept, &mut |heard| match heard {
                    Heard::Message(body) => found.push(body.to_vec()),
                    Heard::Else => {}
                    other => found.push(format!("{other:?}").into_bytes()),
                });
                kept.drain(..used);
            }
            let found: Vec<_> = found.iter().map(|one| String::from_utf8_lossy(one)).collect();
            let expected = ["Joined", "hello\r\n", "Wants(\"PONG\\r\\n\")", "hi\r\n"];
            assert_eq!(found, expected, "in pieces of {piece}");
        }
    }
}
