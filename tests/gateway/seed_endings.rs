//! How a seed session ends that broke the rules: WebSocket's own codes, and nobody else notices.

use crate::support::{Client, House, house, masked};

const LIMIT: usize = 64 * 1024;

/// Somebody rude sends frames and is closed with a code; the others are told that it left, and
/// chat on.
async fn rude(house: &House, ada: &mut Client, code: u16, frames: &[&[u8]]) {
    let mut raw = house.raw("den", None).await;
    raw.text(r#"{"type":"join","name":"rude","timestamp":1}"#).await;
    assert_eq!(ada.users().await, ["ada", "rude"]);
    for frame in frames {
        raw.send(frame).await;
    }
    let closed = raw.closed().await;
    assert_eq!(closed.code, Some(code), "{closed:?}");
    assert!(closed.in_band.is_null(), "this profile's clients know no close frame");
    assert_eq!(ada.users().await, ["ada"]);
    let mut bob = house.seed_join("den", "bob").await;
    assert_eq!(ada.users().await, ["ada", "bob"]);
    bob.chat("undisturbed").await;
    assert_eq!(ada.next().await["message"], "undisturbed");
    bob.close(1000).await;
    assert_eq!(ada.users().await, ["ada"]);
}

/// A chat whose whole frame has so many bytes.
fn chat_of(bytes: usize) -> String {
    let (head, tail) = (r#"{"type":"chat","timestamp":1,"message":""#, r#""}"#);
    format!("{head}{}{tail}", "x".repeat(bytes - head.len() - tail.len()))
}

#[tokio::test]
async fn bytes_and_broken_text_have_their_own_codes() {
    let house = house(|_| {}).await;
    let mut ada = house.seed_join("den", "ada").await;
    rude(&house, &mut ada, 1003, &[&masked(0x82, b"bytes")]).await;
    rude(&house, &mut ada, 1003, &[&masked(0x82, b"")]).await;
    rude(&house, &mut ada, 1007, &[&masked(0x81, b"\xff\xfe")]).await;
    // A character may be cut by a fragment's end, but not by the message's.
    let text = r#"{"type":"chat","message":"é","timestamp":1}"#.as_bytes();
    let cut = text.iter().position(|byte| *byte == 0xc3).unwrap() + 1;
    rude(&house, &mut ada, 1007, &[&masked(0x01, &text[..cut]), &masked(0x80, b"")]).await;

    let mut raw = house.raw("den", None).await;
    raw.text(r#"{"type":"join","name":"polite","timestamp":1}"#).await;
    raw.send(&masked(0x01, &text[..cut])).await;
    raw.send(&masked(0x89, b"between fragments")).await;
    raw.send(&masked(0x80, &text[cut..])).await;
    assert_eq!(ada.next_of("chat").await["message"], "é");
}

#[tokio::test]
async fn too_large_is_1009_by_its_announced_length_and_across_fragments() {
    let house = house(|_| {}).await;
    let mut ada = house.seed_join("den", "ada").await;
    let over = chat_of(LIMIT + 1);
    rude(&house, &mut ada, 1009, &[&masked(0x81, over.as_bytes())]).await;
    let head = &masked(0x81, over.as_bytes())[..14];
    rude(&house, &mut ada, 1009, &[head]).await;
    let (one, two) = over.as_bytes().split_at(LIMIT);
    rude(&house, &mut ada, 1009, &[&masked(0x01, one), &masked(0x80, two)]).await;

    let mut polite = house.seed_join("den", "polite").await;
    polite.send_text(&chat_of(LIMIT)).await;
    let chat = ada.next_of("chat").await;
    assert!(chat["message"].as_str().unwrap().len() > LIMIT - 100, "at the limit it is taken");
}

#[tokio::test]
async fn broken_framing_is_1002() {
    let house = house(|_| {}).await;
    let mut ada = house.seed_join("den", "ada").await;
    rude(&house, &mut ada, 1002, &[b"\x81\x02hi"]).await; // no mask
    rude(&house, &mut ada, 1002, &[&masked(0xc1, b"{}")]).await; // a reserved bit
    rude(&house, &mut ada, 1002, &[&masked(0x83, b"{}")]).await; // an unknown opcode
    rude(&house, &mut ada, 1002, &[&masked(0x80, b"{}")]).await; // continues nothing
    // Codes that must not be on the wire, and half a code.
    for body in [&b"\x03\xed"[..], b"\x03\xee", b"\x03\xf7", b"\x00\x01", b"\x03"] {
        rude(&house, &mut ada, 1002, &[&masked(0x88, body)]).await;
    }
}
