//! The `id` of a frame that cannot be read, so that its client learns which request failed.
//!
//! The text begins like an object and may be anything behind that. One pass over its bytes, with
//! a number for the depth and no recursion: what is a string, and how deep it stands, is known
//! without a parser.
//!
//! - In a text that is JSON it is the `id` that a parser finds.
//! - Of several, it is the first that is a number a client may use.
//! - A number at the very end is none: the rest of it may be missing.

use crate::protocol::json::INTEGER;

/// The longest spelling of `"id"`, each letter as an escape.
const LONGEST_NAME: usize = r#""\u0069\u0064""#.len();

/// The longest number up to 2^53−1, in digits.
const LONGEST_NUMBER: usize = 16;

/// The first top-level `id` that is a whole number up to 2^53−1.
pub(super) fn find_id(text: &[u8]) -> Option<u64> {
    let (mut depth, mut at) = (0usize, 0usize);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => {
                let end = end_of_string(text, at);
                if depth == 1
                    && is_id(&text[at..end])
                    && let Some(id) = number_behind_colon(&text[end..])
                {
                    return Some(id);
                }
                at = end;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return None, // what follows is no part of the frame
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where the string that begins at `start` is over.
fn end_of_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// Whether a string, its quotes included, is `id`, however it is spelled.
fn is_id(string: &[u8]) -> bool {
    let is_spelled_out = || {
        let is_short = string.len() <= LONGEST_NAME && string.contains(&b'\\');
        is_short && serde_json::from_slice::<String>(string).is_ok_and(|name| name == "id")
    };
    string == b"\"id\"" || is_spelled_out()
}

/// The whole number behind a colon at the front. Something has to follow it.
fn number_behind_colon(text: &[u8]) -> Option<u64> {
    let value = trim_start(trim_start(text).strip_prefix(b":")?);
    let length = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let goes_on = |next: &u8| next.is_ascii_alphanumeric() || matches!(next, b'.' | b'+' | b'-');
    let is_over = value.get(length).is_some_and(|next| !goes_on(next));
    let has_no_zero_in_front = length == 1 || value.first() != Some(&b'0');
    if !is_over || !has_no_zero_in_front || length > LONGEST_NUMBER {
        return None;
    }
    let number = std::str::from_utf8(&value[..length]).ok()?.parse().ok()?;
    (number <= INTEGER).then_some(number)
}

/// What stands behind the white space of JSON (RFC 8259, 2).
fn trim_start(text: &[u8]) -> &[u8] {
    let is_white = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let white = text.iter().take_while(|byte| is_white(byte)).count();
    &text[white..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn id(text: &str) -> Option<u64> {
        find_id(text.as_bytes())
    }

    #[test]
    fn the_id_is_found_in_what_is_no_json() {
        for broken in [
            r#"{"type":"publish","id":17,"data":NaN}"#,
            r#"{"type":"publish","data":-Infinity,"id":17}"#,
            r#"{"type":"publish","data":"\ud800","id":17}"#,
            r#"{"id" : 17 ,}"#,
            "{\n\t\"\\u0069\\u0064\"\r:\n17}",
            r#"{'type':'publish',"id":17}"#,
            r#"{"data":[{"id":1},{"id":2}],"x":{"id":3},"id":17,"#,
            r#"{"text":"\"id\":1","id":17"data":"#,
            r#"{"id":17} and more"#,
            r#"{"id":17,"data":"cut of"#,
            "{\"data\":\"a\nline\",\"id\":17}",
        ] {
            assert_eq!(id(broken), Some(17), "{broken}");
        }
        let deep = format!(r#"{{"data":{}{},"id":17}}"#, "[".repeat(20_000), "]".repeat(20_000));
        assert_eq!(id(&deep), Some(17));
    }

    #[test]
    fn of_several_ids_the_first_that_can_be_one_counts() {
        assert_eq!(id(r#"{"id":1,"id":2}"#), Some(1));
        assert_eq!(id(r#"{"id":"1","id":-1,"id":1.5,"id":2}"#), Some(2));
    }

    #[test]
    fn what_is_no_number_of_a_request_is_no_id() {
        for none in [
            "{",
            "{}",
            r#"{"id"#,
            r#"{"id""#,
            r#"{"id":"#,
            r#"{"id":1"#,
            r#"{"id":-1}"#,
            r#"{"id":1.5}"#,
            r#"{"id":1e2}"#,
            r#"{"id":01}"#,
            r#"{"id":"1"}"#,
            r#"{"id":null}"#,
            r#"{"id":9007199254740992}"#,
            r#"{"id":99999999999999999999999}"#,
            r#"{"ID":1}"#,
            r#"{"data":{"id":1}}"#,
            r#"{"data":[1,"id":1}"#,
            r#"{}{"id":1}"#,
            r#"{"\":1,"id":1}"#,
        ] {
            assert_eq!(id(none), None, "{none}");
        }
        assert_eq!(id(r#"{"id":9007199254740991}"#), Some(INTEGER));
        assert_eq!(id(r#"{"id":0}"#), Some(0));
    }

    /// Objects as clients write them, with `id` at every level and in texts.
    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<u64>().prop_map(Value::from),
            (0..1u64 << 54).prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            Just(Value::Null),
            any::<String>().prop_map(Value::from),
            Just(Value::from(r#"","id":1,"#)),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                objects(inner),
            ]
        })
    }

    fn objects(values: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
        let names = prop_oneof![Just("id".to_owned()), Just("data".to_owned()), any::<String>()];
        proptest::collection::btree_map(names, values, 0..6)
            .prop_map(|fields| fields.into_iter().collect::<serde_json::Map<_, _>>().into())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn in_json_it_is_the_id_that_a_parser_finds(object in objects(values()), pretty: bool) {
            let text = match pretty {
                true => serde_json::to_string_pretty(&object).unwrap(),
                false => object.to_string(),
            };
            let expected = object["id"].as_u64().filter(|id| *id <= INTEGER);
            prop_assert_eq!(id(&text), expected, "{}", text);
        }

        /// Bytes of those that mean something to it.
        #[test]
        fn no_text_makes_it_panic(text in r#"\{["\\id:0-9{}\[\], u\n\u{e9}]{0,80}"#) {
            let _ = id(&text);
        }
    }
}
