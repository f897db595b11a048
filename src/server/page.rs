//! The client library, the demo page and the examples, embedded in the binary so that one file
//! is all there is to install.
//!
//! The client is for pages of every origin and always there; the rest is the demo.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Request;

use super::{Response, door, header, hosts, text, with};

/// A file that is served, with its content's hash.
#[derive(Clone, Copy)]
pub struct File {
    body: &'static Body,
    tag: &'static str,
}

/// A file of the page.
struct Body {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    /// Whether it is the client, and not part of the demo.
    is_client: bool,
}

macro_rules! file {
    ($name:literal, $content_type:expr) => {
        Body {
            path: concat!("/", $name),
            content_type: $content_type,
            bytes: include_bytes!(concat!("../../web-demo/", $name)),
            is_client: false,
        }
    };
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";
const TYPES: &str = "application/typescript; charset=utf-8";

/// Every file there is; a test compares this with the folder.
const FILES: &[Body] = &[
    Body { path: "/dormouse.js", is_client: true, ..file!("client/dormouse.js", SCRIPT) },
    Body { path: "/dormouse.d.ts", is_client: true, ..file!("client/dormouse.d.ts", TYPES) },
    Body { path: "/", ..file!("index.html", HTML) },
    file!("app.js", SCRIPT),
    file!("close-reasons.js", SCRIPT),
    file!("colours.js", SCRIPT),
    file!("cursors.js", SCRIPT),
    file!("earlier.js", SCRIPT),
    file!("examples/example.css", STYLE),
    file!("examples/plain.html", HTML),
    file!("examples/seed.html", HTML),
    file!("favicon.svg", PICTURE),
    file!("messages.js", SCRIPT),
    file!("names.js", SCRIPT),
    file!("people.js", SCRIPT),
    file!("place.js", SCRIPT),
    file!("rooms.js", SCRIPT),
    file!("slumber.js", SCRIPT),
    file!("style.css", STYLE),
    file!("typing.js", SCRIPT),
];

/// One per file, in the same order: its content, hashed.
static TAGS: LazyLock<Vec<String>> =
    LazyLock::new(|| FILES.iter().map(|file| tag(file.bytes)).collect());

/// The file of that path. Without the `demo` there is only the client.
pub fn find(path: &str, demo: bool) -> Option<File> {
    let index = FILES.iter().position(|file| file.path == path)?;
    let file = File { body: &FILES[index], tag: &TAGS[index] };
    (demo || file.body.is_client).then_some(file)
}

impl File {
    /// The file, or 304 for a client that has it already.
    pub fn answer<T>(self, request: &Request<T>) -> Response {
        let Self { body: file, tag } = self;
        let known = header(request, "if-none-match").is_some_and(|tags| tags.contains(tag));
        let response = match known {
            true => super::answer(304, file.content_type, ""),
            false => super::answer(200, file.content_type, file.bytes),
        };
        // Asked for each time, sent only when it changed: a new binary is a new page at once.
        let response = with(with(response, "cache-control", "no-cache"), "etag", tag);
        if file.is_client {
            // Wherever a page comes from, even one that isolates itself.
            let response = with(response, "access-control-allow-origin", "*");
            return with(response, "cross-origin-resource-policy", "cross-origin");
        }
        let response = with(response, "referrer-policy", "no-referrer");
        let policy = content_security_policy(request, file.bytes);
        with(response, "content-security-policy", &policy)
    }
}

/// Sends a browser to the page at `{base}/`, where relative links are right. What was asked for
/// besides, as `?room=lobby`, goes along.
pub fn redirect<T>(base: &str, request: &Request<T>) -> Response {
    let query = request.uri().query().filter(|query| query.bytes().all(|b| b.is_ascii_graphic()));
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    with(text(308, "the page is one slash further"), "location", &format!("{base}/{query}"))
}

/// Nothing but our own files and what is written in the page itself; connections to this host on
/// any port, because WebTransport and a second gateway are other origins.
fn content_security_policy<T>(request: &Request<T>, body: &[u8]) -> String {
    let own = door::host(request).and_then(|host| hosts::authority(&host)).map(|(host, _)| host);
    let connect = match own.as_deref() {
        // There WebTransport is at 127.0.0.1, as `well_known` says.
        Some(host) if host == "localhost" || host.ends_with(".localhost") => {
            format!("{} {}", sources(host), sources("127.0.0.1"))
        }
        Some(host)
            if host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-')) =>
        {
            sources(host)
        }
        // A policy cannot name an IPv6 address.
        _ => "ws: wss: https:".to_owned(),
    };
    let script = inline_scripts(body);
    format!(
        "default-src 'none'; script-src 'self'{script}; style-src 'self'; img-src 'self' data:; \
         connect-src 'self' {connect}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// The scripts that stand in an example's page, as a policy names them: by their hashes.
fn inline_scripts(body: &[u8]) -> String {
    let page = str::from_utf8(body).unwrap_or_default();
    let scripts = page.split("<script type=\"module\">").skip(1);
    let scripts = scripts.filter_map(|rest| rest.split_once("</script>"));
    let hash =
        |text: &str| STANDARD.encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()));
    scripts.map(|(script, _)| format!(" 'sha256-{}'", hash(script))).collect()
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
        let request = request.header(header.0, header.1).body(()).unwrap();
        Some(find(request.uri().path(), true)?.answer(&request))
    }

    /// The files below a folder that are served under the path they have there.
    fn files(folder: &str) -> Vec<String> {
        let listed = std::fs::read_dir(format!("web-demo{folder}")).unwrap();
        let listed =
            listed.map(|entry| entry.unwrap()).filter(|it| it.file_type().unwrap().is_file());
        let names = listed.map(|entry| entry.file_name().into_string().unwrap());
        // What npm needs is nobody else's.
        let names = names.filter(|name| !name.ends_with(".json") && !name.starts_with('.'));
        names.map(|name| format!("{folder}/{name}")).collect()
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
        for path in [files(""), files("/examples")].concat() {
            let served = if path == "/index.html" { "/" } else { &path };
            let response = get(served, ("accept", "*/*")).unwrap_or_else(|| panic!("{path}"));
            let content_type = response.headers()["content-type"].to_str().unwrap();
            let expected = match path.rsplit_once('.').unwrap().1 {
                "html" => HTML,
                "js" => SCRIPT,
                "css" => STYLE,
                "svg" => PICTURE,
                other => panic!("what is a .{other} file?"),
            };
            assert_eq!(content_type, expected, "{path}");
        }
    }

    #[test]
    fn the_client_is_for_every_page_and_there_without_the_demo() {
        for path in ["/dormouse.js", "/dormouse.d.ts"] {
            let request = Request::builder().uri(path).header("host", "rooms.example");
            let response = find(path, false).unwrap().answer(&request.body(()).unwrap());
            assert_eq!(response.headers()["access-control-allow-origin"], "*");
            assert_eq!(response.headers()["cross-origin-resource-policy"], "cross-origin");
        }
        assert!(find("/", false).is_none());
    }

    #[test]
    fn an_example_may_run_the_script_that_stands_in_it() {
        let policy = get("/examples/plain.html", ("accept", "*/*")).unwrap();
        let policy = policy.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("script-src 'self' 'sha256-"), "{policy}");
        let of = inline_scripts(b"<script type=\"module\">let a</script><script>let b</script>");
        assert_eq!(of, " 'sha256-IfEXP/8HLuXoAiy0hZVrCAcjcLsZqYFpLOHDGj8enqE='");
    }

    #[test]
    fn the_policy_allows_our_own_files_and_connections_to_this_host_only() {
        let policy = |host: &str| {
            content_security_policy(&Request::builder().header("host", host).body(()).unwrap(), b"")
        };
        let local = policy("localhost:4433");
        assert!(local.contains("default-src 'none'; script-src 'self'"), "{local}");
        assert!(local.contains("https://127.0.0.1:*"), "WebTransport is there: {local}");
        let below = policy("app.localhost:4433");
        assert!(below.contains("wss://app.localhost:* ") && below.contains("https://127.0.0.1:*"));
        assert!(policy("rooms.example").contains("wss://rooms.example:* https://rooms.example:*;"));
        assert!(policy("[::1]:4433").contains("connect-src 'self' ws: wss: https:;"));
        let odd = policy("a;script-src'*':1");
        assert!(!odd.contains("script-src'*'"), "{odd}");
    }

    #[test]
    fn a_base_path_without_its_slash_leads_to_the_page() {
        let to = |uri: &str| {
            let request = Request::builder().uri(uri).body(()).unwrap();
            let response = redirect("/realtime", &request);
            assert_eq!(response.status(), 308);
            response.headers()["location"].to_str().unwrap().to_owned()
        };
        assert_eq!(to("/realtime"), "/realtime/");
        assert_eq!(to("/realtime?room=den&name=a"), "/realtime/?room=den&name=a");
        assert_eq!(to("/realtime?name=\u{e4}"), "/realtime/", "no header can say that");
    }
}
