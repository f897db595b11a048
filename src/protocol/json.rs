//! What JSON must be before anything else is asked of it.

/// How deep objects and arrays may nest.
pub const DEPTH: usize = 32;

/// The greatest integer that every client can read (2^53 − 1).
pub const INTEGER: u64 = (1 << 53) - 1;

/// Why a text may not be passed on, though it may be JSON.
///
/// A parser that keeps payloads as they came looks at neither; the receivers' parsers would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Objects and arrays nest too deep.
    #[error("more than {DEPTH} levels at {0}")]
    TooDeep(Place),
    /// An escape that is half of a surrogate pair.
    #[error("half of a surrogate pair at {0}")]
    LoneSurrogate(Place),
}

/// A place in a text as `serde_json` gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    line: usize,
    /// In bytes.
    column: usize,
}

impl Place {
    fn of(text: &[u8], at: usize) -> Self {
        let before = &text[..at];
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Self { line, column: at - start + 1 }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "line {} column {}", self.line, self.column)
    }
}

/// Checks that a text nests at most [`DEPTH`] deep and has no lone surrogate among its escapes.
/// Everything else about the text's syntax is the parser's affair.
pub fn check(text: &str) -> Result<(), Flaw> {
    let bytes = text.as_bytes();
    let (mut depth, mut in_string, mut at) = (0usize, false, 0usize);
    while let Some(&byte) = bytes.get(at) {
        match (in_string, byte) {
            (_, b'"') => in_string = !in_string,
            (true, b'\\') => match escape(&bytes[at..]) {
                Some(length) => at += length - 1,
                None => return Err(Flaw::LoneSurrogate(Place::of(bytes, at))),
            },
            (false, b'{' | b'[') => {
                depth += 1;
                if depth > DEPTH {
                    return Err(Flaw::TooDeep(Place::of(bytes, at)));
                }
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Whether a text begins like an object, behind JSON's white space (RFC 8259, 2).
///
/// To be asked before a text is read into fields: the parser would take a list for them, too,
/// by position.
pub fn is_object(text: &str) -> bool {
    text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{')
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
        assert_eq!(check(&nested(DEPTH)), Ok(()));
        let too_deep = check(&format!("\n {}", nested(DEPTH + 1))).unwrap_err();
        assert_eq!(too_deep.to_string(), "more than 32 levels at line 2 column 34");
        assert_eq!(check(&format!("[\"{}\"]", "[".repeat(100))), Ok(()), "text is not nesting");
        assert_eq!(check(&"[],".repeat(100)), Ok(()));
    }

    #[test]
    fn half_a_surrogate_pair_is_refused() {
        for good in [r#""\ud83d\ude00""#, r#""\\ud800""#, r#""é \u00e9 \n \" \\""#, "\"\\\\\""] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [r#""\ud83d""#, r#""\ude00""#, r#""\ud83d\n""#, r#""\ud83dude00""#] {
            let flaw = check(bad).unwrap_err().to_string();
            assert_eq!(flaw, "half of a surrogate pair at line 1 column 2", "{bad}");
        }
    }

    #[test]
    fn an_object_begins_behind_the_white_space_of_json_and_no_other() {
        assert!(is_object("{") && is_object(" \t\r\n{}"));
        for other in ["", " ", "[{}]", "\u{feff}{}", "\u{a0}{}", "\u{b}{}", "\"{}\""] {
            assert!(!is_object(other), "{other:?}");
        }
    }
}
