//! What a gateway says of itself: the few words of HTTP that asking it takes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Error;

/// The most an answer may have.
const LONGEST: u64 = 4 << 20;

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks for a path, as in `GET /readyz`: the status of the answer, and its body.
pub async fn ask(operator: SocketAddr, request: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(operator).await?;
    let request = format!("{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    let mut read = stream.take(LONGEST);
    timeout(PATIENCE, read.read_to_string(&mut answer)).await??;
    parse(&answer).ok_or_else(|| io::Error::other("the operator's listener does not speak HTTP"))
}

/// How many rooms are in this state, `awake` or `asleep`, of those that have a keeper.
pub async fn rooms(operator: SocketAddr, state: &str) -> Result<u64, Error> {
    let (_, metrics) = ask(operator, "GET /metrics").await?;
    let name = format!("dormouse_rooms{{state=\"{state}\"}} ");
    let count = metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok());
    count.ok_or_else(|| Error::NotOpen("it does not count its rooms".to_owned()))
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_status_and_a_body() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nlate";
        assert_eq!(parse(answer), Some((503, "late".to_owned())));
        assert_eq!(parse("HTTP/1.1 200 OK"), None);
        assert_eq!(parse(""), None);
    }
}
