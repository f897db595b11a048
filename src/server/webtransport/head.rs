//! Heads of requests and answers: between HTTP/3's fields and the types that the TCP side uses.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri, Version};
use wtransport_proto::headers::Headers;

use super::h3;
use crate::protocol::framing::put_varint;
use crate::server::Response;

/// The values of `:protocol` that ask for a WebTransport session; the second is that of later
/// drafts.
const WEBTRANSPORT: [&str; 2] = ["webtransport", "webtransport-h3"];

/// The head of a request.
pub(super) struct Head {
    /// Its fields, as if it had come over TCP.
    pub(super) request: Request<()>,
    /// `:protocol`, of an extended CONNECT (RFC 9220).
    protocol: Option<String>,
}

/// Something that is no request (RFC 9114, 4.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl Head {
    pub(super) fn read(headers: &Headers) -> Result<Self, Malformed> {
        let method = headers.get(":method").ok_or(Malformed)?;
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| Malformed)?;
        let protocol = headers.get(":protocol").map(str::to_owned);
        let is_connect = method == Method::CONNECT;
        // A CONNECT without a protocol names nothing but a host (RFC 9114, 4.4).
        let has_target = headers.get(":scheme") == Some("https")
            && headers.get(":path").is_some_and(|path| !path.is_empty());
        if (protocol.is_some() && !is_connect)
            || (!has_target && (protocol.is_some() || !is_connect))
        {
            return Err(Malformed);
        }
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = target(headers)?;
        *request.version_mut() = Version::HTTP_3;
        for (name, value) in headers.as_ref().iter().filter(|(name, _)| !name.starts_with(':')) {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Malformed)?;
            let value = HeaderValue::from_str(value).map_err(|_| Malformed)?;
            request.headers_mut().insert(name, value);
        }
        Ok(Self { request, protocol })
    }

    /// Whether it asks for a WebTransport session.
    pub(super) fn is_for_a_session(&self) -> bool {
        self.protocol.as_deref().is_some_and(|protocol| WEBTRANSPORT.contains(&protocol))
    }

    /// Whether it asks to carry another protocol, as WebSockets (RFC 9220).
    pub(super) fn is_for_another_protocol(&self) -> bool {
        self.protocol.is_some() && !self.is_for_a_session()
    }
}

fn target(headers: &Headers) -> Result<Uri, Malformed> {
    let mut uri = Uri::builder();
    if let (Some(scheme), Some(path)) = (headers.get(":scheme"), headers.get(":path")) {
        uri = match headers.get(":authority") {
            Some(authority) => uri.scheme(scheme).authority(authority).path_and_query(path),
            None => uri.path_and_query(path), // it may have a Host instead
        };
    } else {
        uri = uri.authority(headers.get(":authority").ok_or(Malformed)?);
    }
    uri.build().map_err(|_| Malformed)
}

/// An answer as it goes on a stream. The answer to a `HEAD` has no body, only its length.
pub(super) async fn encoded(response: Response, to_head: bool) -> (Bytes, Bytes) {
    let (head, body) = response.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(never) => match never {},
    };
    let mut fields = vec![(":status", head.status.as_str().to_owned())];
    fields.extend(head.headers.iter().filter_map(|(name, value)| {
        Some((name.as_str(), value.to_str().ok()?.to_owned())) // ours are text
    }));
    if head.status != StatusCode::NOT_MODIFIED {
        fields.push(("content-length", body.len().to_string()));
    }
    let headers = fields.into_iter().collect::<Headers>();
    let mut bytes = BytesMut::from(h3::encoded(&headers.generate_frame()).as_slice());
    if to_head || body.is_empty() {
        return (bytes.freeze(), Bytes::new());
    }
    put_varint(h3::DATA, &mut bytes);
    put_varint(body.len() as u64, &mut bytes);
    (bytes.freeze(), body)
}

/// Whether a list of protocols (structured-field strings, RFC 8941) has ours in it.
pub(super) fn offers(list: &str, protocol: &str) -> bool {
    let name =
        |item: &str| item.split(';').next().map(|name| name.trim().trim_matches('"') == protocol);
    list.split(',').filter_map(name).any(|is_ours| is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::v1;
    use crate::server::text;

    fn head(fields: &[(&str, &str)]) -> Result<Head, Malformed> {
        Head::read(&fields.iter().copied().collect())
    }

    const GET: [(&str, &str); 4] = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "a.example:1"),
        (":path", "/x?y"),
    ];

    #[test]
    fn a_request_is_what_it_would_be_over_tcp() {
        let head = head(&[&GET[..], &[("if-none-match", "\"1\"")]].concat()).unwrap();
        assert!(!head.is_for_a_session() && !head.is_for_another_protocol());
        assert_eq!(head.request.method(), Method::GET);
        assert_eq!((head.request.uri().path(), head.request.uri().query()), ("/x", Some("y")));
        assert_eq!(head.request.uri().authority().unwrap(), "a.example:1");
        assert_eq!(head.request.headers()["if-none-match"], "\"1\"");
    }

    #[test]
    fn a_session_is_asked_for_by_its_protocol() {
        let connect = |protocol| {
            let fields =
                [&[(":method", "CONNECT")], &GET[1..], &[(":protocol", protocol)]].concat();
            let head = head(&fields).unwrap();
            (head.is_for_a_session(), head.is_for_another_protocol())
        };
        assert_eq!(connect("webtransport"), (true, false));
        assert_eq!(connect("webtransport-h3"), (true, false));
        assert_eq!(connect("websocket"), (false, true));
        let plain = head(&[(":method", "CONNECT"), (":authority", "a.example:1")]).unwrap();
        assert!(!plain.is_for_a_session() && !plain.is_for_another_protocol());
    }

    #[test]
    fn what_lacks_a_field_or_has_a_wrong_one_is_no_request() {
        for missing in [0, 1, 3] {
            let mut fields = GET.to_vec();
            fields.remove(missing);
            assert_eq!(head(&fields).err(), Some(Malformed), "{missing}");
        }
        for (at, field) in [
            (0, (":method", "GE T")),
            (1, (":scheme", "http")),
            (2, (":authority", "a b")),
            (3, (":path", "")),
            (3, (":path", "x y")),
        ] {
            let mut fields = GET.to_vec();
            fields[at] = field;
            assert_eq!(head(&fields).err(), Some(Malformed), "{field:?}");
        }
        for more in [(":protocol", "webtransport"), ("a b", "c"), ("a", "b\nc")] {
            assert_eq!(head(&[&GET[..], &[more]].concat()).err(), Some(Malformed), "{more:?}");
        }
        assert_eq!(head(&[(":method", "CONNECT")]).err(), Some(Malformed));
    }

    #[tokio::test]
    async fn an_answer_to_head_has_the_length_of_the_body_and_no_body() {
        let (head, body) = encoded(text(404, "not found"), false).await;
        assert!(head.ends_with(&[0, 9]) && body == "not found", "the frame of the body");
        let (to_head, nothing) = encoded(text(404, "not found"), true).await;
        assert_eq!(to_head, head[..head.len() - 2]);
        assert!(nothing.is_empty());
    }

    #[test]
    fn our_protocol_is_found_among_those_offered() {
        for list in
            ["\"dormouse.v1\"", "\"other\", \"dormouse.v1\"", "\"dormouse.v1\";q=1, \"other\""]
        {
            assert!(offers(list, v1::NAME), "{list}");
        }
        assert!(!offers("\"dormouse.v2\"", v1::NAME));
        assert!(!offers("", v1::NAME));
    }
}
