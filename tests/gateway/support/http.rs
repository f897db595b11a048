//! The plainest HTTP client there is.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{DEADLINE, House};

impl House {
    pub async fn get(&self, path: &str, headers: &str) -> Answer {
        self.ask("GET", path, headers).await
    }

    /// One request at the front door; `headers` are whole lines, each with its `\r\n`.
    pub async fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        ask(self.address(), method, path, headers).await
    }

    pub async fn operator(&self, method: &str, path: &str, headers: &str) -> Answer {
        ask(self.gateway().operator_address().unwrap(), method, path, headers).await
    }

    /// A WebSocket handshake with more headers.
    pub async fn websocket(&self, room: &str, headers: &str) -> Answer {
        let headers = format!("{HANDSHAKE}{headers}");
        self.get(&format!("/rooms/{room}/ws"), &headers).await
    }
}

/// The headers of a WebSocket handshake.
pub const HANDSHAKE: &str = "connection: upgrade\r\nupgrade: websocket\r\n\
     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// A header's value, empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

pub async fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> Answer {
    let mut lines = headers.to_owned();
    for (name, line) in
        [("host:", format!("host: {address}\r\n")), ("connection:", "connection: close\r\n".into())]
    {
        if !headers.contains(name) {
            lines += &line;
        }
    }
    let stream = TcpStream::connect(address).await.unwrap();
    speak(stream, &format!("{method} {path} HTTP/1.1\r\n{lines}\r\n")).await
}

/// Writes a request as it is and reads the answer to it.
pub async fn speak(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Answer {
    let reading = async {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        // To the end of the connection, or of a refused handshake, which keeps it open; and no
        // further than an upgrade, after which comes no HTTP.
        loop {
            let ended = stream.read_buf(&mut bytes).await.unwrap_or(0) == 0;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if ended || (text.contains("\r\n\r\n") && is_whole(&answer(&text))) {
                return answer(&text);
            }
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.expect("an answer in time")
}

fn answer(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn is_whole(answer: &Answer) -> bool {
    let length = answer.header("content-length").parse();
    answer.status == 101 || length.is_ok_and(|length: usize| answer.body.len() == length)
}
