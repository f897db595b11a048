//! What a link makes of a stream does not depend on the pieces in which it comes, however long
//! the pauses between them: plain and within TLS.

use std::future::poll_fn;
use std::sync::Arc;

use tokio::io::{DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

impl Stream for DuplexStream {}

const LIMIT: usize = 64 * 1024;

/// A client's frame, masked; `first` is its first byte.
fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    if body.len() < 126 {
        frame.push(0x80 | body.len() as u8);
    } else {
        frame.push(0x80 | 126);
        frame.extend((body.len() as u16).to_be_bytes());
    }
    frame.extend(MASK);
    frame.extend(body.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A text, pings before and within a message in three fragments, a long binary, a close.
fn stream() -> Vec<u8> {
    [
        frame(0x81, br#"{"n":1}"#),
        frame(0x89, b"one"),
        frame(0x01, "gr\u{fc}".as_bytes()),
        frame(0x00, &"\u{df}e".as_bytes()[..1]), // a letter in two fragments
        frame(0x89, b"two"),
        frame(0x80, &"\u{df}e".as_bytes()[1..]),
        frame(0x82, &[7; 300]),
        frame(0x88, &1000_u16.to_be_bytes()),
    ]
    .concat()
}

/// What was received, pongs and the answer to the close included.
type Heard = Vec<(Received, Option<Bytes>)>;

/// Polls until there is nothing to receive, as a session does that then waits.
async fn drain<S>(link: &mut WebSocketLink<S>, heard: &mut Heard)
where
    S: Stream,
{
    loop {
        let next = poll_fn(|cx| {
            let next = link.poll_recv(cx);
            Poll::Ready(if let Poll::Ready(next) = next { Some(next) } else { None })
        });
        let Some(received) = next.await else { return };
        let is_end = matches!(received, Received::End(_));
        heard.push((received, link.take_control()));
        if is_end {
            return;
        }
    }
}

/// Sends the stream in pieces; everything sent has arrived before the link is asked.
async fn hear<S, C>(mut link: WebSocketLink<S>, client: &mut C, piece: usize) -> Heard
where
    S: Stream,
    C: AsyncWrite + Unpin,
{
    let (mut heard, mut boundary) = (Heard::new(), Boundary::default());
    for piece in stream().chunks(piece) {
        client.write_all(piece).await.unwrap();
        client.flush().await.unwrap();
        drain(&mut link, &mut heard).await;
        boundary.pass(piece);
        let is_over = matches!(heard.last(), Some((Received::End(_), _)));
        if !is_over {
            let holds = link.codec.is_some();
            assert_eq!(holds, !boundary.is_between_messages(), "it holds what it needs, no more");
        }
    }
    heard
}

fn expected() -> Heard {
    let text =
        |text: &str| Received::Frame(BodyKind::Json, Bytes::copy_from_slice(text.as_bytes()));
    let pong = |body: &[u8]| {
        let head = [0x8a, body.len() as u8];
        Some(Bytes::from([&head[..], body].concat()))
    };
    vec![
        (text(r#"{"n":1}"#), None),
        (Received::Alive, pong(b"one")),
        (Received::Alive, pong(b"two")),
        (text("gr\u{fc}\u{df}e"), None),
        (Received::Frame(BodyKind::Binary, Bytes::from_static(&[7; 300])), None),
        (Received::End(End::Closed(Some(1000))), Some(Bytes::from_static(&[0x88, 2, 0x03, 0xe8]))),
    ]
}

#[tokio::test]
async fn pieces_and_pauses_change_nothing_and_no_state_stays_between_messages() {
    for piece in [1, 2, 3, 5, 7, 11, 50, 1_000] {
        let (mut client, server) = duplex(LIMIT);
        let heard = hear(WebSocketLink::new(server, &[], LIMIT), &mut client, piece).await;
        assert_eq!(heard, expected(), "in pieces of {piece}");
    }
}

#[tokio::test]
async fn pieces_and_pauses_change_nothing_within_tls() {
    for piece in [1, 3, 7, 50, 1_000] {
        let (mut client, server) = tls().await;
        let server = Tls::from(*server);
        let heard = hear(WebSocketLink::new(server, &[], LIMIT), &mut client, piece).await;
        assert_eq!(heard, expected(), "in pieces of {piece}");
    }
}

/// hyper may have read past the handshake, into the middle of a frame.
#[tokio::test]
async fn what_was_read_with_the_handshake_comes_first() {
    for read in [1, 9, 20, 40] {
        let (mut client, server) = duplex(LIMIT);
        let mut link = WebSocketLink::new(server, &stream()[..read], LIMIT);
        let mut heard = Heard::new();
        drain(&mut link, &mut heard).await;
        client.write_all(&stream()[read..]).await.unwrap();
        drain(&mut link, &mut heard).await;
        assert_eq!(heard, expected(), "after {read} bytes");
    }
}

#[tokio::test]
async fn an_idle_link_is_a_socket_and_no_buffer() {
    let (mut client, server) = duplex(LIMIT);
    let mut link = WebSocketLink::new(server, &[], LIMIT);
    let mut heard = Heard::new();
    for _ in 0..3 {
        client.write_all(&frame(0x82, &[1; 5_000])).await.unwrap();
        drain(&mut link, &mut heard).await;
        assert!(link.codec.is_none());
    }
    assert_eq!(heard.len(), 3);
    let size = size_of::<WebSocketLink<Plain>>();
    assert!(size <= size_of::<Plain>() + 32, "{size} bytes");
}

async fn tls() -> (tokio_rustls::client::TlsStream<DuplexStream>, Box<TlsStream<DuplexStream>>) {
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (near, far) = duplex(LIMIT);
    let (connector, acceptor) =
        (TlsConnector::from(Arc::new(client)), TlsAcceptor::from(Arc::new(server)));
    let name = "localhost".try_into().unwrap();
    let (client, server) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
    (client.unwrap(), Box::new(server.unwrap()))
}
