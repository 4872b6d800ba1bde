//! A request's head in memory of its own.
//!
//! The server's library reads head and body into one buffer, cuts the head's texts out of it, and keeps the heads of requests that
//! are over for those to come: the whole buffer stays with them, and with it a body that held a credential, for as long as the
//! worker has nothing to do.

use actix_http::RequestHead;
use actix_web::http::{
    Uri,
    header::HeaderValue,
    uri::{Authority, PathAndQuery},
};

/// Parts the head from the buffer it was read into.
pub fn detach(head: &mut RequestHead) {
    head.headers.retain(|_, value| {
        if let Ok(own) = HeaderValue::from_bytes(value.as_bytes()) {
            *value = own;
        }
        true
    });
    if let Some(own) = copied(&head.uri) {
        head.uri = own;
    }
}

fn copied(uri: &Uri) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = match parts.path_and_query {
        Some(path) => Some(path.as_str().parse::<PathAndQuery>().ok()?),
        None => None,
    };
    parts.authority = match parts.authority {
        Some(authority) => Some(authority.as_str().parse::<Authority>().ok()?),
        None => None,
    };
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use actix_http::{Method, Version};
    use actix_web::http::header::HeaderName;
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_head_says_the_same_from_memory_of_its_own() {
        for target in ["/users?q=a%20b&c", "*", "http://host.example:80/a?b", "host.example:443", "/", "/?", "/a?b?c"] {
            let buffer = Bytes::from(format!("{target} value\u{fc}").into_bytes());
            let mut head = RequestHead::default();
            head.uri = Uri::from_maybe_shared(buffer.slice(..target.len())).unwrap();
            let value = HeaderValue::from_maybe_shared(buffer.slice(target.len() + 1..)).unwrap();
            for _ in 0..2 {
                head.headers.append(HeaderName::from_static("x-many"), value.clone());
            }
            drop(value);
            let before = (head.uri.clone(), head.headers.clone());
            detach(&mut head);
            assert_eq!((&head.uri, head.uri.to_string(), head.headers.len()), (&before.0, before.0.to_string(), 2), "{target}");
            assert!(head.headers.get_all("x-many").all(|value| value.as_bytes() == "value\u{fc}".as_bytes()));
            assert_eq!((head.method.clone(), head.version), (Method::GET, Version::HTTP_11));
            drop(before);
            assert!(buffer.is_unique(), "{target}: the head holds on to what it was read into");
        }
    }
}
