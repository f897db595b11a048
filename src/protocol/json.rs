//! What JSON must be before anything else is asked of it.

/// How deep objects and arrays may nest.
pub const DEPTH: usize = 32;

/// The greatest integer that every client can read (2^53 − 1).
pub const INTEGER: u64 = (1 << 53) - 1;

/// Whether a text nests at most [`DEPTH`] deep and has no lone surrogate among its escapes.
///
/// A parser that keeps payloads as they came looks at neither; the receivers' parsers would.
/// Everything else about the text's syntax is the parser's affair.
pub fn is_decent(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (mut depth, mut in_string, mut at) = (0usize, false, 0usize);
    while let Some(&byte) = bytes.get(at) {
        match (in_string, byte) {
            (_, b'"') => in_string = !in_string,
            (true, b'\\') => match escape(&bytes[at..]) {
                Some(length) => at += length - 1,
                None => return false,
            },
            (false, b'{' | b'[') => {
                depth += 1;
                if depth > DEPTH {
                    return false;
                }
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    true
}

/// Whether a text is an object, if it is JSON at all.
///
/// To be asked before a text is read into fields: the parser would take a list for them, too,
/// by position.
pub fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// The length of the escape at the front, or `None` if it is half of a surrogate pair.
fn escape(bytes: &[u8]) -> Option<usize> {
    match unit(bytes) {
        None => Some(2),
        Some(0xd800..=0xdbff) => match unit(bytes.get(6..)?) {
            Some(0xdc00..=0xdfff) => Some(12),
            _ => None,
        },
        Some(0xdc00..=0xdfff) => None,
        Some(_) => Some(6),
    }
}

/// The UTF-16 unit of a `\uXXXX` at the front.
fn unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Reads a field in which `null` is a value like any other, not an absent one.
pub fn present<'de: 'a, 'a, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<&'a serde_json::value::RawValue>, D::Error> {
    serde::Deserialize::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_has_a_limit() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(is_decent(&nested(DEPTH)));
        assert!(!is_decent(&nested(DEPTH + 1)));
        assert!(is_decent(&format!("[\"{}\"]", "[".repeat(100))), "text is not nesting");
        assert!(is_decent(&"[],".repeat(100)));
    }

    #[test]
    fn half_a_surrogate_pair_is_refused() {
        for good in [r#""\ud83d\ude00""#, r#""\\ud800""#, r#""é \u00e9 \n \" \\""#, "\"\\\\\""] {
            assert!(is_decent(good), "{good}");
        }
        for bad in [r#""\ud83d""#, r#""\ude00""#, r#""\ud83d\n""#, r#""\ud83dude00""#] {
            assert!(!is_decent(bad), "{bad}");
        }
    }
}
