//! The demo page, embedded in the binary so that one file is all there is to install.

use std::sync::LazyLock;

use hyper::Request;

use super::{Response, door, header, with};

/// A file of the page.
struct File {
    path: &'static str,
    content_type: &'static str,
    body: &'static [u8],
}

macro_rules! file {
    ($name:literal, $content_type:expr) => {
        File {
            path: concat!("/", $name),
            content_type: $content_type,
            body: include_bytes!(concat!("../../web-demo/", $name)),
        }
    };
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// Every file there is; a test compares this with the folder.
const FILES: &[File] = &[
    File { path: "/", ..file!("index.html", HTML) },
    file!("app.js", SCRIPT),
    file!("close-reasons.js", SCRIPT),
    file!("colours.js", SCRIPT),
    file!("connection.js", SCRIPT),
    file!("cursors.js", SCRIPT),
    file!("doors.js", SCRIPT),
    file!("earlier.js", SCRIPT),
    file!("favicon.svg", PICTURE),
    file!("framing.js", SCRIPT),
    file!("messages.js", SCRIPT),
    file!("names.js", SCRIPT),
    file!("people.js", SCRIPT),
    file!("race.js", SCRIPT),
    file!("rooms.js", SCRIPT),
    file!("roster.js", SCRIPT),
    file!("slumber.js", SCRIPT),
    file!("style.css", STYLE),
    file!("typing.js", SCRIPT),
    file!("websocket.js", SCRIPT),
    file!("webtransport.js", SCRIPT),
];

/// One per file, in the same order: its content, hashed.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| FILES.iter().map(|f| tag(f.body)).collect());

/// The file of that path, or 304 for who has it already; `None` when there is no such file.
pub fn answer<T>(request: &Request<T>) -> Option<Response> {
    let index = FILES.iter().position(|file| file.path == request.uri().path())?;
    let (file, tag) = (&FILES[index], &TAGS[index]);
    let known = header(request, "if-none-match").is_some_and(|tags| tags.contains(tag.as_str()));
    let response = match known {
        true => super::answer(304, file.content_type, ""),
        false => super::answer(200, file.content_type, file.body),
    };
    // Asked for each time, sent only when it changed: a new binary is a new page at once.
    let response = with(with(response, "cache-control", "no-cache"), "etag", tag);
    let response = with(response, "referrer-policy", "no-referrer");
    Some(with(response, "content-security-policy", &content_security_policy(request)))
}

/// Nothing but our own files; connections to this host on any port, because WebTransport and
/// a second gateway are other origins.
fn content_security_policy<T>(request: &Request<T>) -> String {
    let connect = header(request, "host").and_then(door::parse_authority).map(|(host, _)| host);
    let connect = match connect.as_deref() {
        Some("localhost") => format!("{} {}", sources("localhost"), sources("127.0.0.1")),
        Some(host)
            if host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-')) =>
        {
            sources(host)
        }
        // A policy cannot name an IPv6 address.
        _ => "ws: wss: https:".to_owned(),
    };
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self' {connect}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

fn sources(host: &str) -> String {
    format!("ws://{host}:* wss://{host}:* https://{host}:*")
}

fn tag(body: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, body);
    let hex: String = digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str, header: (&str, &str)) -> Option<Response> {
        let request = Request::builder().uri(path).header("host", "localhost:4433");
        answer(&request.header(header.0, header.1).body(()).unwrap())
    }

    #[test]
    fn a_file_that_is_known_is_not_sent_again() {
        let first = get("/app.js?x=1", ("accept", "*/*")).unwrap();
        assert_eq!(first.status(), 200);
        assert_eq!(first.headers()["content-type"], "text/javascript; charset=utf-8");
        let tag = first.headers()["etag"].to_str().unwrap();
        assert_eq!(get("/app.js", ("if-none-match", tag)).unwrap().status(), 304);
        assert_eq!(get("/app.js", ("if-none-match", "\"other\"")).unwrap().status(), 200);
        assert!(get("/../Cargo.toml", ("accept", "*/*")).is_none());
    }

    #[test]
    fn every_file_of_the_folder_is_served() {
        for file in std::fs::read_dir("web-demo").unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            let path = format!("/{}", if name == "index.html" { "" } else { &name });
            let response = get(&path, ("accept", "*/*")).unwrap_or_else(|| panic!("{name}"));
            let content_type = response.headers()["content-type"].to_str().unwrap();
            let expected = match name.rsplit_once('.').unwrap().1 {
                "html" => HTML,
                "js" => SCRIPT,
                "css" => STYLE,
                "svg" => PICTURE,
                other => panic!("what is a .{other} file?"),
            };
            assert_eq!(content_type, expected, "{name}");
        }
    }

    #[test]
    fn the_policy_allows_our_own_files_and_connections_to_this_host_only() {
        let policy = |host: &str| {
            content_security_policy(&Request::builder().header("host", host).body(()).unwrap())
        };
        let local = policy("localhost:4433");
        assert!(local.contains("default-src 'none'; script-src 'self'"), "{local}");
        assert!(local.contains("https://127.0.0.1:*"), "WebTransport is there: {local}");
        assert!(policy("rooms.example").contains("wss://rooms.example:* https://rooms.example:*;"));
        assert!(policy("[::1]:4433").contains("connect-src 'self' ws: wss: https:;"));
        let odd = policy("a;script-src'*':1");
        assert!(!odd.contains("script-src'*'"), "{odd}");
    }
}
