//! Web origins, and the pages of other origins that may connect: `gateway.origins`.
//!
//! A browser says in `Origin` which page a request is from, and a page cannot change that: scheme,
//! host and port, the usual port left out, in lower case and ASCII (RFC 6454, 6.2), or `null` for a
//! page without an address of its own. What is listed is brought into that form when the
//! configuration is read; what no browser would ever send is an error then.

use std::str::FromStr;

use super::hosts::{self, BadEntry, Fault, HostPattern};

/// What browsers send for a page from a file, in a sandbox, or of a `data:` address.
const NULL: &str = "null";

/// Schemes whose pages have no origin of their own.
const OPAQUE: [&str; 6] = ["about", "blob", "data", "file", "filesystem", "javascript"];

/// The origin of a page that has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    /// In its normal form.
    host: String,
    /// `http` and `https` always have one.
    port: Option<u16>,
}

impl Origin {
    /// Reads what a browser sent; `None` for `null` and for what is no origin.
    pub fn read(text: &str) -> Option<Self> {
        let (scheme, host, port) = split(text).ok()?;
        Some(Self { host: normal(&scheme, host)?, port, scheme })
    }

    /// Whether a request to this `Host` is one to the page's own origin.
    pub fn is_of(&self, host: &str, port: Option<u16>) -> bool {
        // A `Host` without a port means the scheme's, and a proxy in front may have changed the
        // scheme: the page's is the one that counts.
        self.is_of_the_web() && self.host == host && port.is_none_or(|port| self.port == Some(port))
    }

    /// Whether it is a page of the visitor's own machine.
    pub fn is_loopback(&self) -> bool {
        self.is_of_the_web() && hosts::is_loopback(&self.host)
    }

    fn is_of_the_web(&self) -> bool {
        usual_port(&self.scheme).is_some()
    }
}

/// The pages that may connect, beside those of the gateway's own origin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    all: bool,
    null: bool,
    listed: Vec<Listed>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    scheme: String,
    host: HostPattern,
    port: Option<u16>,
}

impl Origins {
    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the pages of an `Origin` header are listed.
    pub fn have(&self, origin: &str) -> bool {
        self.all || (self.null && origin == NULL) || self.have_listed(origin)
    }

    fn have_listed(&self, origin: &str) -> bool {
        !self.listed.is_empty()
            && Origin::read(origin).is_some_and(|page| {
                let is = |listed: &Listed| {
                    listed.scheme == page.scheme
                        && listed.port == page.port
                        && listed.host.matches(&page.host)
                };
                self.listed.iter().any(is)
            })
    }
}

/// Reads entries with commas between them.
impl FromStr for Origins {
    type Err = BadEntry;

    fn from_str(text: &str) -> Result<Self, BadEntry> {
        let mut origins = Self::default();
        for entry in hosts::entries(text) {
            match entry? {
                "*" => origins.all = true,
                entry if entry.eq_ignore_ascii_case(NULL) => origins.null = true,
                entry => origins.listed.push(read(entry).map_err(|fault| fault.of(entry))?),
            }
        }
        Ok(origins)
    }
}

fn read(entry: &str) -> Result<Listed, Fault> {
    let (scheme, host, port) = split(entry)?;
    // A scheme of an application's own has hosts of its own: no foreign letters, no addresses.
    if usual_port(&scheme).is_none() && !host.contains('*') && normal(&scheme, host).is_none() {
        return Err(Fault::Host);
    }
    Ok(Listed { host: HostPattern::parse(host)?, port, scheme })
}

/// The host of an origin in its normal form.
fn normal(scheme: &str, host: &str) -> Option<String> {
    let normal = hosts::normal(host)?;
    // Only in addresses of the web do browsers rewrite a host beyond its capitals.
    (usual_port(scheme).is_some() || normal.eq_ignore_ascii_case(host)).then_some(normal)
}

/// The scheme in lower case, the host as it was written, and the port, the usual one included.
fn split(text: &str) -> Result<(String, &str, Option<u16>), Fault> {
    let scheme = |scheme: &str| scheme.to_ascii_lowercase();
    let Some((before, rest)) = text.split_once("://") else {
        // `data:text/html,…` has a scheme and no host.
        let is_opaque = text.split_once(':').is_some_and(|(s, _)| OPAQUE.contains(&&*scheme(s)));
        return Err(if is_opaque { Fault::Opaque } else { Fault::NoScheme });
    };
    let scheme = scheme(before);
    match scheme.as_str() {
        "ws" | "wss" => return Err(Fault::WebSocket),
        opaque if OPAQUE.contains(&opaque) => return Err(Fault::Opaque),
        other if !is_scheme(other) => return Err(Fault::Scheme),
        _ => {}
    }
    if rest.contains(['/', '\\', '?', '#']) {
        return Err(Fault::Path);
    }
    if rest.contains('@') {
        return Err(Fault::User);
    }
    let (host, port) = hosts::split_port(rest);
    let port = port.map(|digits| hosts::port(digits).ok_or(Fault::Port)).transpose()?;
    let port = port.or_else(|| usual_port(&scheme));
    Ok((scheme, host, port))
}

fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// RFC 3986, 3.1. Pages of extensions and of applications' own web views have other schemes than
/// the web's: `chrome-extension://…`, `capacitor://localhost`.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn have(listed: &str, origin: &str) -> bool {
        listed.parse::<Origins>().unwrap().have(origin)
    }

    #[test]
    fn what_is_listed_is_compared_as_browsers_send_it() {
        for (listed, sent) in [
            ("https://app.example", "https://app.example"),
            ("HTTPS://App.Example", "https://app.example"),
            ("https://app.example:443", "https://app.example"),
            ("https://app.example", "https://app.example:443"),
            ("http://app.example:80", "http://app.example"),
            ("https://app.example:08443", "https://app.example:8443"),
            ("https://app.example.", "https://app.example"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
            ("https://[2001:DB8:0:0::1]:8443", "https://[2001:db8::1]:8443"),
            ("http://127.1:3000", "http://127.0.0.1:3000"),
            ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("null", "null"),
            ("*", "https://any.example"),
            ("*", "null"),
            ("https://a.example, https://b.example", "https://b.example"),
        ] {
            assert!(have(listed, sent), "{listed}: {sent}");
        }
        for (listed, sent) in [
            ("https://app.example", "http://app.example"),
            ("https://app.example", "https://app.example:8443"),
            ("https://app.example:8443", "https://app.example"),
            ("https://app.example", "https://app.example.evil.example"),
            ("https://app.example", "https://user@app.example"),
            ("https://app.example", "null"),
            ("https://app.example", ""),
            ("https://app.example", "garbage"),
            ("null", "file://"),
            ("", "https://app.example"),
        ] {
            assert!(!have(listed, sent), "{listed}: {sent}");
        }
    }

    #[test]
    fn a_star_stands_for_one_label_or_more() {
        let listed = "https://*.example.org, http://*.dev.example:8080, https://*.bücher.example";
        for sent in [
            "https://a.example.org",
            "https://a.b.c.example.org",
            "http://x.dev.example:8080",
            "https://x.xn--bcher-kva.example",
        ] {
            assert!(have(listed, sent), "{sent}");
        }
        for sent in [
            "https://example.org",
            "https://evilexample.org",
            "https://.example.org",
            "https://a.example.org.evil.example",
            "https://a.example.org:8443",
            "http://a.example.org",
            "http://x.dev.example",
        ] {
            assert!(!have(listed, sent), "{sent}");
        }
    }

    #[test]
    fn what_no_page_can_have_is_refused_when_read() {
        for (entry, fault) in [
            ("app.example", Fault::NoScheme),
            ("localhost:3000", Fault::NoScheme),
            ("https:app.example", Fault::NoScheme),
            ("//app.example", Fault::NoScheme),
            ("://app.example", Fault::Scheme),
            ("ht tp://app.example", Fault::Scheme),
            ("*://app.example", Fault::Scheme),
            ("'https://app.example'", Fault::Scheme),
            ("wss://app.example", Fault::WebSocket),
            ("file://", Fault::Opaque),
            ("file:///home/page.html", Fault::Opaque),
            ("data:text/html", Fault::Opaque),
            ("https://user@h", Fault::User),
            ("https://user:word@h", Fault::User),
            ("https://app.example/", Fault::Path),
            ("https://app.example/room", Fault::Path),
            ("https://app.example?a=1", Fault::Path),
            ("https://app.example#a", Fault::Path),
            ("https://app.example\\a", Fault::Path),
            ("https://app.example:", Fault::Port),
            ("https://app.example:0", Fault::Port),
            ("https://app.example:65536", Fault::Port),
            ("https://app.example:https", Fault::Port),
            ("https://app.example:+443", Fault::Port),
            ("https://", Fault::Host),
            ("https://:443", Fault::Host),
            ("https://a b", Fault::Host),
            ("https://a\"b", Fault::Host),
            ("https://\"app.example\"", Fault::Host),
            ("https://a'b", Fault::Host),
            ("https://a..b", Fault::Host),
            ("https://1.2.3.256", Fault::Host),
            ("https://[::1", Fault::Host),
            ("https://[fe80::1%eth0]", Fault::Host),
            ("https://xn--a", Fault::Host),
            ("capacitor://bücher", Fault::Host),
            ("https://*", Fault::Star),
            ("https://app*.example", Fault::Star),
            ("https://*app.example", Fault::Star),
            ("https://app.*", Fault::Star),
            ("https://*.*.example", Fault::Star),
            ("https://*.127.0.0.1", Fault::Host),
            ("**", Fault::NoScheme),
        ] {
            let bad = format!("https://good.example, {entry}").parse::<Origins>().unwrap_err();
            assert_eq!((bad.entry.as_str(), bad.fault), (entry, fault));
        }
    }

    #[test]
    fn a_list_has_so_many_entries_and_not_one_more() {
        let list = |count: usize| vec!["https://a.example"; count].join(",");
        assert!(list(hosts::ENTRIES).parse::<Origins>().is_ok());
        let bad = list(hosts::ENTRIES + 1).parse::<Origins>().unwrap_err();
        assert_eq!(bad.fault, Fault::TooMany);
    }
}
