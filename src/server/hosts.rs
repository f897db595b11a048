//! Hosts as browsers write them, and the hosts that a loopback listener answers to.
//!
//! A page can have its own name point at 127.0.0.1 (DNS rebinding): its requests then reach a
//! gateway on the visitor's machine, and are of the same origin to the browser. The `Host` of such a
//! request is still the page's name. So a loopback listener takes a `Host` that is a loopback
//! address, `localhost` or a name below it, and those that the operator lists ([`Hosts`]).
//!
//! What is listed and what a request says are read by the same function ([`normal`]), so that the
//! same host cannot be written in two ways that do not match.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use url::Host;

/// Entries that one list of origins or hosts may have: each is compared before an upgrade.
pub const ENTRIES: usize = 1_024;

/// Bytes of a name and of one label (RFC 1035, 2.3.4): a longer one has no address.
const NAME_BYTES: usize = 253;
const LABEL_BYTES: usize = 63;

/// A host in the form that browsers send: in lower case, an internationalised name in ASCII, an
/// IPv6 address in brackets and as short as it can be, no dot at the end.
///
/// `None` when no browser sends such a host.
pub fn normal(text: &str) -> Option<String> {
    let host = match Host::parse(text).ok()? {
        Host::Domain(name) => name.strip_suffix('.').unwrap_or(&name).to_owned(),
        Host::Ipv4(address) => return Some(address.to_string()),
        Host::Ipv6(address) => return Some(format!("[{address}]")),
    };
    let is_label = |label: &str| {
        (1..=LABEL_BYTES).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    (host.len() <= NAME_BYTES && host.split('.').all(is_label)).then_some(host)
}

/// A `Host` header's or `:authority`'s host, in its normal form, and the port if it names one.
pub fn authority(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = split_port(text);
    let port = port.map(|digits| self::port(digits).ok_or(())).transpose().ok()?;
    Some((normal(host)?, port))
}

/// Parts a host from what stands behind its colon; the colons of an IPv6 address are its own.
pub(super) fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    }
}

/// A port from 1 to 65535, in digits alone.
pub(super) fn port(digits: &str) -> Option<u16> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| is_number && *port > 0)
}

/// Whether a host in its normal form can only be the visitor's own machine.
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// One host, or all names below one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HostPattern {
    /// This host alone.
    Exactly(String),
    /// Names with at least one label before this one: `*.example.org`.
    Below(String),
}

impl HostPattern {
    /// Reads `example.org`, `192.0.2.1`, `[2001:db8::1]` or `*.example.org`.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let Some(name) = text.strip_prefix("*.") else {
            return match text.contains('*') {
                true => Err(Fault::Star),
                false => normal(text).map(Self::Exactly).ok_or(Fault::Host),
            };
        };
        match normal(name) {
            _ if name.contains('*') => Err(Fault::Star),
            // An address has no names below it.
            Some(host) if is_name(&host) => Ok(Self::Below(host)),
            _ => Err(Fault::Host),
        }
    }

    pub(super) fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exactly(own) => own == host,
            Self::Below(parent) => host
                .strip_suffix(parent.as_str())
                .and_then(|labels| labels.strip_suffix('.'))
                .is_some_and(|labels| !labels.is_empty()),
        }
    }
}

/// Whether a host in its normal form is a name and no address.
fn is_name(host: &str) -> bool {
    !host.starts_with('[') && host.parse::<IpAddr>().is_err()
}

/// The hosts that a loopback listener answers to beside its own: `gateway.hosts`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts {
    all: bool,
    listed: Vec<HostPattern>,
}

impl Hosts {
    /// Whether a host in its normal form is listed.
    pub fn has(&self, host: &str) -> bool {
        self.all || self.listed.iter().any(|pattern| pattern.matches(host))
    }
}

/// Reads entries with commas between them.
impl FromStr for Hosts {
    type Err = BadEntry;

    fn from_str(text: &str) -> Result<Self, BadEntry> {
        let mut hosts = Self::default();
        for entry in entries(text) {
            match entry? {
                "*" => hosts.all = true,
                entry => hosts.listed.push(read_host(entry).map_err(|fault| fault.of(entry))?),
            }
        }
        Ok(hosts)
    }
}

fn read_host(entry: &str) -> Result<HostPattern, Fault> {
    if entry.contains("://") {
        return Err(Fault::SchemeOfHost);
    }
    match HostPattern::parse(entry) {
        Err(Fault::Host) if authority(entry).is_some() => Err(Fault::PortOfHost),
        read => read,
    }
}

/// The entries of a list, at most [`ENTRIES`].
pub(super) fn entries(text: &str) -> impl Iterator<Item = Result<&str, BadEntry>> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries.enumerate().map(|(at, entry)| match at < ENTRIES {
        true => Ok(entry),
        false => Err(Fault::TooMany.of(entry)),
    })
}

/// An entry of a list of origins or hosts that nothing could ever match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadEntry {
    /// The entry as it was written.
    pub entry: String,
    /// What is wrong with it.
    pub fault: Fault,
}

impl fmt::Display for BadEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.entry, self.fault)
    }
}

impl std::error::Error for BadEntry {}

/// What can be wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// `app.example` as an origin.
    #[error("an origin begins with its scheme, as in \"https://app.example\"")]
    NoScheme,
    /// `1http://app.example`
    #[error("that is no scheme")]
    Scheme,
    /// `wss://app.example`
    #[error("an origin is the page's, which has http or https, not the WebSocket's")]
    WebSocket,
    /// `file://`
    #[error("such a page has the origin \"null\": list that")]
    Opaque,
    /// `https://user@app.example`
    #[error("an origin has no user and no password")]
    User,
    /// `https://app.example/`
    #[error("an origin ends behind the host or its port, without \"/\", path and query")]
    Path,
    /// `https://app.example:port`
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// `https://a b`
    #[error("that is no name and no address of a host")]
    Host,
    /// `https://app*.example`
    #[error("\"*\" stands alone, or for the first labels of a name as in \"*.example.org\"")]
    Star,
    /// `https://app.example` as a host.
    #[error("a host is listed without a scheme, as in \"app.example\"")]
    SchemeOfHost,
    /// `app.example:8443` as a host.
    #[error("a host is listed without its port, and fits with any")]
    PortOfHost,
    /// One more than [`ENTRIES`].
    #[error("there are more than {ENTRIES} entries")]
    TooMany,
}

impl Fault {
    pub(super) fn of(self, entry: &str) -> BadEntry {
        BadEntry { entry: entry.to_owned(), fault: self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_normal_form() {
        for (written, expected) in [
            ("Example.ORG", "example.org"),
            ("example.org.", "example.org"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
            ("my_host", "my_host"),
            ("127.1", "127.0.0.1"),
            ("0x7f.0.0.1", "127.0.0.1"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
            ("[2001:DB8::0:1]", "[2001:db8::1]"),
        ] {
            assert_eq!(normal(written).as_deref(), Some(expected), "{written}");
        }
        let long = "a.".repeat(128);
        for none in [
            "",
            ".",
            "a..b",
            "a b",
            "a/b",
            "a\"b",
            "a'b",
            "a@b",
            "a,b",
            "a:b",
            "*",
            "a*b",
            "[::1",
            "::1",
            "[fe80::1%eth0]",
            "1.2.3.256",
            "a\tb",
            "a\u{0}b",
            &long,
            &"x".repeat(64),
        ] {
            assert_eq!(normal(none), None, "{none:?}");
        }
    }

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        let of = |text| authority(text);
        assert_eq!(of("A.example:4433"), Some(("a.example".into(), Some(4433))));
        assert_eq!(of("[::1]"), Some(("[::1]".into(), None)));
        assert_eq!(of("[::1]:80"), Some(("[::1]".into(), Some(80))));
        for none in ["", ":80", "a:", "a:x", "a:0", "a:65536", "a:+80", "a:80:80", "u@a:80", "::1"]
        {
            assert_eq!(of(none), None, "{none:?}");
        }
    }

    #[test]
    fn loopback_is_its_addresses_and_localhost_and_the_names_below() {
        for own in [
            "localhost",
            "app.localhost",
            "a.b.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
            "[::ffff:7f00:1]",
        ] {
            assert!(is_loopback(own), "{own}");
        }
        for other in [
            "evil.example",
            "localhost.evil.example",
            "notlocalhost",
            "128.0.0.1",
            "0.0.0.0",
            "[::]",
            "127.0.0.1.evil.example",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
    }

    fn hosts(text: &str) -> Hosts {
        text.parse().unwrap()
    }

    #[test]
    fn listed_hosts_are_had_and_no_others() {
        let listed =
            hosts("App.example, *.rooms.example,192.0.2.7 , [2001:DB8:0::1],bücher.example");
        for own in [
            "app.example",
            "a.rooms.example",
            "a.b.rooms.example",
            "192.0.2.7",
            "[2001:db8::1]",
            "xn--bcher-kva.example",
        ] {
            assert!(listed.has(own), "{own}");
        }
        for other in ["evil.example", "rooms.example", "evilrooms.example", "x.app.example"] {
            assert!(!listed.has(other), "{other}");
        }
        assert!(hosts("*").has("evil.example"));
        assert!(!hosts("").has("localhost"), "loopback is not the list's affair");
    }

    #[test]
    fn a_host_that_no_request_can_have_is_refused_when_read() {
        for (entry, fault) in [
            ("https://app.example", Fault::SchemeOfHost),
            ("app.example:8443", Fault::PortOfHost),
            ("[::1]:80", Fault::PortOfHost),
            ("a b", Fault::Host),
            ("app.example/", Fault::Host),
            ("user@app.example", Fault::Host),
            ("\"app.example\"", Fault::Host),
            ("::1", Fault::Host),
            ("app*.example", Fault::Star),
            ("*.*.example", Fault::Star),
            ("*.", Fault::Host),
            ("*.127.0.0.1", Fault::Host),
            ("*.[::1]", Fault::Host),
        ] {
            let bad = format!("good.example, {entry}").parse::<Hosts>().unwrap_err();
            assert_eq!((bad.entry.as_str(), bad.fault), (entry, fault));
        }
    }

    #[test]
    fn a_name_has_so_many_bytes_and_not_one_more() {
        let label = |bytes: usize| "a".repeat(bytes);
        assert!([62, 63].iter().all(|bytes| normal(&label(*bytes)).is_some()));
        assert_eq!(normal(&label(64)), None);
        // Three labels of 63 with their dots are 192 bytes.
        let name = |bytes: usize| format!("{0}.{0}.{0}.{1}", label(63), label(bytes - 192));
        assert!([252, 253].iter().all(|bytes| normal(&name(*bytes)).is_some()));
        assert_eq!(normal(&name(254)), None);
    }

    #[test]
    fn a_list_has_so_many_entries_and_not_one_more() {
        let list = |count: usize| vec!["a.example"; count].join(",");
        assert_eq!(hosts(&list(ENTRIES)).listed.len(), ENTRIES);
        assert_eq!(list(ENTRIES + 1).parse::<Hosts>().unwrap_err().fault, Fault::TooMany);
    }
}
