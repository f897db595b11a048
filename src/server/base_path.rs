//! A path under which a gateway serves everything once more: `gateway.base_path`.
//!
//! A proxy may show a gateway at `https://app.example/realtime/`. One that takes the path off
//! before it passes a request on needs nothing; for one that does not, the gateway knows the path
//! and takes it off itself. What it serves at the root stays there.

use std::str::FromStr;

/// Bytes that a base path may have: an address has to hold it and a room's name besides.
pub const BYTES: usize = 256;

/// A path such as `/realtime`, or none. Without a slash at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BasePath(String);

/// What is wrong with a base path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no path, or has more than {BYTES} bytes or a letter that would have to be escaped")]
pub struct BadBasePath;

/// Nothing and `/` are the root, hence no base path; a slash at the end is taken off.
impl FromStr for BasePath {
    type Err = BadBasePath;

    fn from_str(text: &str) -> Result<Self, BadBasePath> {
        let path = text.strip_suffix('/').unwrap_or(text);
        if path.is_empty() {
            return Ok(Self::default());
        }
        let segments = path.strip_prefix('/').ok_or(BadBasePath)?;
        let is_whole = path.len() <= BYTES && segments.split('/').all(is_segment);
        is_whole.then(|| Self(path.to_owned())).ok_or(BadBasePath)
    }
}

/// A segment as it stands in a request: what would have to be escaped could be written in several
/// ways, and browsers take `.` and `..` out of a path before they send it.
fn is_segment(segment: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&b);
    !matches!(segment, "" | "." | "..") && segment.bytes().all(is_plain)
}

impl BasePath {
    /// The path, `""` when there is none.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What there is at a path of a request: at that path from the root, else at what stands
    /// behind the base path.
    pub fn find<'a, T>(&self, path: &'a str, at: impl Fn(&'a str) -> Option<T>) -> Option<T> {
        at(path).or_else(|| at(self.behind(path)?))
    }

    /// What stands behind the base path, the slash included.
    fn behind<'a>(&self, path: &'a str) -> Option<&'a str> {
        let behind = path.strip_prefix(self.as_str()).filter(|_| !self.0.is_empty())?;
        behind.starts_with('/').then_some(behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> BasePath {
        text.parse().unwrap()
    }

    #[test]
    fn a_base_path_is_read_and_brought_into_one_form() {
        for (text, path) in [
            ("", ""),
            ("/", ""),
            ("/realtime", "/realtime"),
            ("/realtime/", "/realtime"),
            ("/a/b.c/~d", "/a/b.c/~d"),
            ("/...", "/..."),
        ] {
            assert_eq!(base(text).as_str(), path, "{text}");
        }
        for bad in [
            "realtime",
            "//",
            "/a//b",
            "//a",
            "/.",
            "/..",
            "/a/../b",
            "/a/.",
            "/a?b",
            "/a#b",
            "/a b",
            "/a%20b",
            "/bücher",
            "/a\\b",
            "https://app.example/a",
            "/\"a\"",
            "/a\n",
        ] {
            assert_eq!(bad.parse::<BasePath>(), Err(BadBasePath), "{bad:?}");
        }
    }

    #[test]
    fn a_base_path_has_so_many_bytes_and_not_one_more() {
        let path = |bytes: usize| format!("/{}", "a".repeat(bytes - 1)).parse::<BasePath>();
        assert!(path(BYTES).is_ok());
        assert_eq!(path(BYTES + 1), Err(BadBasePath));
    }

    #[test]
    fn what_is_at_the_root_is_found_behind_the_base_path_too() {
        let known =
            |path: &str| matches!(path, "/" | "/rooms/a/ws" | "/x.js").then(|| path.to_owned());
        let found = |own: &str, path: &str| base(own).find(path, known);
        for own in ["/realtime", "/a/b", "/rooms"] {
            for path in ["/", "/rooms/a/ws", "/x.js"] {
                assert_eq!(found(own, path).as_deref(), Some(path), "at the root");
                assert_eq!(
                    found(own, &format!("{own}{path}")).as_deref(),
                    Some(path),
                    "{own}{path}"
                );
            }
            assert_eq!(found(own, own), None);
            assert_eq!(found(own, &format!("{own}x/x.js")), None);
            assert_eq!(found(own, &format!("{own}/y.js")), None);
        }
        assert_eq!(found("", "/y.js"), None);
    }
}
