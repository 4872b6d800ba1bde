//! The transparent client: exact bytes, reuse, retries, closing, pace.

use std::{
    io::{Read, Write},
    net::TcpStream,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, uri::PathAndQuery};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use rollcall::upstream::{
    Access, Failure,
    passthrough::{Pace, PassthroughBody, Pool},
};

use super::support::{Act, Seen, Server, access, answer, change, guard_for, http_request, is_alone, resident};

async fn local<T>(work: impl Future<Output = T>) -> T {
    let tasks = tokio::task::LocalSet::new();
    tokio::time::timeout(Duration::from_secs(60), tasks.run_until(work)).await.expect("the test hangs")
}

fn path(text: &str) -> PathAndQuery {
    PathAndQuery::try_from(text).unwrap()
}

async fn get(pool: &Pool, access: &Access, target: &str) -> Result<Response<PassthroughBody>, Failure> {
    pool.send(access, http_request(Method::GET, path(target), HeaderMap::new(), Empty::new())).await
}

async fn whole(response: Response<PassthroughBody>) -> Vec<u8> {
    response.into_body().collect().await.unwrap().to_bytes().to_vec()
}

/// Waits until something the server's threads do has happened.
async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..200 {
        if happened() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen");
}

fn echo(seen: &Seen, _: usize) -> Vec<Act> {
    answer(200, &[("x-method", seen.method())], &seen.body)
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let server = Server::start(|_, n| answer(200, &[], &vec![b'a'; n * 1000]));
    local(async {
        let (pool, access) = (Pool::new(guard_for(&server.base)), access(&server.base));
        for n in 0..20 {
            let response = get(&pool, &access, "/x?a=%20&b").await.unwrap();
            assert_eq!(response.headers()["content-length"], (n * 1000).to_string());
            assert_eq!(whole(response).await.len(), n * 1000);
        }
    })
    .await;
    assert_eq!(server.accepted(), 1);
    assert!(server.seen().iter().all(|seen| seen.target() == "/x?a=%20&b" && seen.connection == 0));
}

#[tokio::test]
async fn targets_headers_and_framing_arrive_as_given() {
    let server = Server::start(echo);
    local(async {
        let (pool, access) = (Pool::new(guard_for(&server.base)), access(&server.base));
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("x-a", "1"), ("x-a", "2"), ("content-length", "999"), ("transfer-encoding", "chunked"), ("connection", "x-a")]
        {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        for target in ["/a%20b/+/%E2%9C%93?x=1&&y=%zz", "/", "/a//b?", "/x?q=a?b/c"] {
            let body = Full::new(Bytes::from_static(b"hello"));
            let response = pool.send(&access, http_request(Method::POST, path(target), headers.clone(), body)).await.unwrap();
            assert_eq!(whole(response).await, b"hello");
            let seen = server.seen().pop().unwrap();
            assert_eq!(seen.target(), target);
            assert_eq!(seen.values("content-length"), ["5"]);
            assert!(seen.values("transfer-encoding").is_empty() && seen.values("connection").is_empty());
            assert_eq!(seen.values("x-a"), ["1", "2"]);
            assert_eq!(seen.values("host"), [server.base.trim_start_matches("http://")]);
        }
        let frames = ["he", "llo"].map(|part| Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(part.as_bytes()))));
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let response = pool.send(&access, http_request(Method::PUT, path("/s"), HeaderMap::new(), body)).await.unwrap();
        assert_eq!(whole(response).await, b"hello");
        let seen = server.seen().pop().unwrap();
        assert_eq!((seen.values("transfer-encoding"), seen.body.as_slice()), (vec!["chunked".to_owned()], &b"hello"[..]));
    })
    .await;
}

/// Answers of every kind of framing, and what a client without a gateway reads of them.
fn shapes() -> Vec<(&'static str, Vec<u8>, usize)> {
    let sized = |n: usize| {
        let mut bytes = format!("HTTP/1.1 200 OK\r\ncontent-length: {n}\r\netag: \"1\"\r\n\r\n").into_bytes();
        bytes.extend((0..n).map(|i| (i % 251) as u8));
        bytes
    };
    let mut shapes = vec![
        ("GET", b"HTTP/1.1 204 No Content\r\nx-a: 1\r\n\r\n".to_vec(), 0),
        ("GET", b"HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\ncontent-length: 77\r\n\r\n".to_vec(), 0),
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\n".to_vec(), 0),
        ("HEAD", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(), 0),
        ("GET", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n".to_vec(), 11),
        ("GET", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(), 0),
        ("GET", b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec(), 2),
        ("GET", b"HTTP/1.1 429 Slow\r\nretry-after: 3\r\ncontent-length: 4\r\n\r\nwait".to_vec(), 4),
    ];
    shapes.extend([0, 1, 1_000, 10_000, 100_000, 1_000_000].map(|n| ("GET", sized(n), n)));
    shapes
}

#[tokio::test]
async fn every_framing_is_read_to_its_exact_end() {
    for (method, bytes, length) in shapes() {
        let raw = bytes.clone();
        let server = Server::start(move |_, _| vec![Act::Write(raw.clone())]);
        local(async {
            let (pool, access) = (Pool::new(guard_for(&server.base)), access(&server.base));
            for _ in 0..3 {
                let verb = Method::from_bytes(method.as_bytes()).unwrap();
                let response = pool.send(&access, http_request(verb, path("/"), HeaderMap::new(), Empty::new())).await.unwrap();
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let wanted = text.split("content-length: ").nth(1).map(|rest| rest.split("\r\n").next().unwrap().to_owned());
                let given = response.headers().get("content-length").map(|v| v.to_str().unwrap().to_owned());
                assert_eq!(given, wanted, "{method}");
                let body = whole(response).await;
                assert_eq!(body.len(), length, "{method}");
                if length > 1000 {
                    assert_eq!(body, bytes[bytes.len() - length..]);
                }
            }
        })
        .await;
        assert_eq!(server.accepted(), 1, "{method} {length}: the connection was not reused");
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let raw =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 42\r\n\r\n".to_vec();
    let server = Server::start(move |_, _| vec![Act::Write(raw.clone())]);
    local(async {
        let (pool, access) = (Pool::new(guard_for(&server.base)), access(&server.base));
        let body = Full::new(Bytes::from_static(b"x")).with_trailers(async {
            Some(Ok(HeaderMap::from_iter([(HeaderName::from_static("x-up"), HeaderValue::from_static("1"))])))
        });
        let response = pool.send(&access, http_request(Method::POST, path("/"), HeaderMap::new(), body)).await.unwrap();
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["x-sum"], "42");
        assert_eq!(collected.to_bytes(), "ok");
    })
    .await;
    assert_eq!(server.seen()[0].body, b"x");
}

#[tokio::test]
async fn a_stale_connection_is_replaced_once() {
    // The second request of every connection is read and then cut off without an answer.
    let server = Server::start(|seen, _| match seen.parameter("cut") {
        Some(_) if seen.connection == 0 => vec![Act::Close],
        _ => answer(200, &[], b"ok"),
    });
    local(async {
        for (method, again) in
            [(Method::GET, true), (Method::HEAD, true), (Method::DELETE, false), (Method::POST, false), (Method::PATCH, false)]
        {
            let server = Server::start(|seen, _| match seen.parameter("cut") {
                Some(_) if seen.connection == 0 => vec![Act::Close],
                _ => answer(200, &[], b""),
            });
            let (pool, access) = (Pool::new(guard_for(&server.base)), access(&server.base));
            whole(get(&pool, &access, "/").await.unwrap()).await;
            let request = || http_request(method.clone(), path("/?cut=1"), HeaderMap::new(), Empty::new());
            let make = || Some(request().map(|_| ()));
            let second = pool.send_repeatable(&access, request(), make).await;
            assert_eq!(second.is_ok(), again, "{method}");
            assert_eq!(server.seen().len(), if again { 3 } else { 2 }, "{method}");
        }
        // A body that was read is not sent twice, whatever the method.
        let (pool, access) = (Pool::new(guard_for(&server.base)), access(&server.base));
        whole(get(&pool, &access, "/").await.unwrap()).await;
        let body = Full::new(Bytes::from_static(b"once"));
        let again = || Some(http_request(Method::PUT, path("/?cut=1"), HeaderMap::new(), ()));
        let put = pool.send_repeatable(&access, again().unwrap().map(|()| body), again).await;
        assert!(matches!(put, Err(Failure::Broken(_))));
        assert_eq!(server.seen().iter().filter(|seen| seen.method() == "PUT").count(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_connection_the_vendor_closed_while_idle_costs_nothing() {
    let server = Server::start(|_, _| {
        let mut acts = answer(200, &[], b"ok");
        acts.push(Act::Close);
        acts
    });
    local(async {
        let (pool, access) = (Pool::new(guard_for(&server.base)), access(&server.base));
        for n in 0..10 {
            if n % 2 == 1 {
                eventually("the close", || server.closed() == n).await;
            }
            let post = pool
                .send(&access, http_request(Method::POST, path("/"), HeaderMap::new(), Full::new(Bytes::from_static(b"x"))))
                .await;
            if let Ok(response) = post {
                whole(response).await;
            }
            eventually("the close", || server.closed() == server.accepted()).await;
        }
    })
    .await;
    assert_eq!(server.seen().len(), 10, "every POST once");
}

#[tokio::test]
async fn dropping_an_unfinished_answer_closes_its_connection() {
    let server = Server::start(|seen, _| match seen.target() {
        "/big" => vec![Act::Write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n".to_vec()), Act::Fill(1_000_000_000)],
        _ => answer(200, &[], b"ok"),
    });
    local(async {
        let (pool, access) = (Pool::new(guard_for(&server.base)), access(&server.base));
        let mut body = get(&pool, &access, "/big").await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        assert_eq!(server.closed(), 0);
        drop(body);
        eventually("the close", || server.closed() == 1).await;
        assert_eq!(whole(get(&pool, &access, "/").await.unwrap()).await, b"ok");
        assert_eq!(server.accepted(), 2);
    })
    .await;
}

#[tokio::test]
async fn g_09_a_long_answer_streams_in_bounded_memory() {
    if !is_alone("upstream::pool::g_09_a_long_answer_streams_in_bounded_memory") {
        return;
    }
    let size: usize = if crate::support::long() { 1 << 30 } else { 256 << 20 };
    let server = Server::start(move |_, _| {
        vec![Act::Write(format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n").into_bytes()), Act::Fill(size)]
    });
    local(async {
        let (pool, access) = (Pool::new(guard_for(&server.base)), access(&server.base));
        let before = resident();
        let mut body = get(&pool, &access, "/").await.unwrap().into_body();
        let (mut read, mut most) = (0, before);
        while let Some(frame) = body.frame().await {
            read += frame.unwrap().into_data().unwrap().len();
            most = most.max(resident());
        }
        assert_eq!(read, size);
        assert!(most.saturating_sub(before) <= 32 << 20, "grew by {} MiB", (most - before) >> 20);
    })
    .await;
}

/// What a delayed acknowledgement takes on Linux is 40 ms.
const HELD_BACK: Duration = Duration::from_millis(38);

#[tokio::test]
async fn no_forty_millisecond_step_at_any_size() {
    let server = Server::start(echo);
    local(async {
        let (pool, access) = (Pool::new(guard_for(&server.base)), access(&server.base));
        for size in [2, 10, 100, 1_000, 1_448, 1_460, 4_096, 16_384, 65_536, 100_000, 1_000_000] {
            let (mut parted, mut at_once) = (Duration::MAX, Duration::MAX);
            // What is held back is held back every time; a machine that others use too is slow now and then.
            for attempt in 0..60 {
                if attempt >= 9 && parted < at_once + HELD_BACK {
                    break;
                }
                let body = Bytes::from(vec![b'x'; size]);
                let started = Instant::now();
                let response = pool
                    .send(&access, http_request(Method::POST, path("/"), HeaderMap::new(), Full::new(body.clone())))
                    .await
                    .unwrap();
                assert_eq!(whole(response).await.len(), size);
                at_once = at_once.min(started.elapsed());

                // Three writes: what Nagle's algorithm and delayed acknowledgements would hold back.
                let parts = [body.slice(..1), body.slice(1..size / 2), body.slice(size / 2..)];
                let frames = futures_util::stream::unfold(parts.into_iter(), |mut parts| async {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    parts.next().map(|part| (Ok::<_, std::io::Error>(Frame::data(part)), parts))
                });
                let started = Instant::now();
                let response = pool
                    .send(&access, http_request(Method::POST, path("/"), HeaderMap::new(), StreamBody::new(frames)))
                    .await
                    .unwrap();
                assert_eq!(whole(response).await.len(), size);
                parted = parted.min(started.elapsed());
            }
            // The same bytes at once are the measure, because this machine may be busy.
            assert!(parted < at_once + HELD_BACK, "{size} bytes: {parted:?}, at once {at_once:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn answers_that_never_come_or_stop_are_given_up() {
    let server = Server::start(|seen, _| match seen.target() {
        "/never" => vec![Act::Pause(Duration::from_secs(10))],
        "/stops" => {
            vec![Act::Write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec()), Act::Pause(Duration::from_secs(10))]
        }
        "/cut" => vec![Act::Write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec()), Act::Close],
        _ => {
            let mut acts = vec![Act::Write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n".to_vec())];
            acts.extend((0..160).flat_map(|_| [Act::Write(b"x".to_vec()), Act::Pause(Duration::from_millis(50))]));
            acts
        }
    });
    local(async {
        let pace = Pace { idle: Duration::from_secs(1), window: Duration::from_secs(2), least: 100 };
        let pool = Pool::with_pace(guard_for(&server.base), pace);
        let access = change(access(&server.base), |method| method.limits.timeout = Duration::from_secs(1));
        assert!(matches!(get(&pool, &access, "/never").await, Err(Failure::TimedOut(_))));
        for (target, word) in [("/stops", "in time"), ("/cut", "early"), ("/drips", "slowly")] {
            let started = Instant::now();
            let error = get(&pool, &access, target).await.unwrap().into_body().collect().await.unwrap_err();
            assert!(error.to_string().contains(word), "{target}: {error}");
            assert!(started.elapsed() < Duration::from_secs(5), "{target}");
        }
    })
    .await;
}

/// A request body that gives one byte and then nothing for ever.
struct Stalls(bool);

impl Body for Stalls {
    type Data = Bytes;
    type Error = std::io::Error;
    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match std::mem::replace(&mut self.0, true) {
            false => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x"))))),
            true => Poll::Pending,
        }
    }
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(1000)
    }
}

#[tokio::test]
async fn a_request_body_that_stalls_or_breaks_is_the_callers_fault() {
    let server = Server::start(echo);
    local(async {
        let pace = Pace { idle: Duration::from_millis(200), ..Pace::default() };
        let (pool, access) = (Pool::with_pace(guard_for(&server.base), pace), access(&server.base));
        let stalled = pool.send(&access, http_request(Method::POST, path("/"), HeaderMap::new(), Stalls(false))).await;
        assert!(matches!(stalled, Err(Failure::Upload(ref text)) if text.contains("in time")));
        let frames = [Ok(Frame::data(Bytes::from_static(b"x"))), Err(std::io::Error::other("client went away"))];
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let broken = pool.send(&access, http_request(Method::POST, path("/"), HeaderMap::new(), body)).await;
        assert!(matches!(broken, Err(Failure::UploadBroken(ref why)) if why == "client went away"));
    })
    .await;
    assert_eq!(server.seen().iter().filter(|seen| seen.body.len() > 1).count(), 0);
}

#[tokio::test]
async fn an_early_answer_to_a_long_upload_ends_its_connection() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let done = std::thread::spawn(move || {
        let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
        let mut buffer = [0u8; 4096];
        let _ = stream.read(&mut buffer).unwrap();
        stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // The connection must end, not wait for the rest of the body.
        while stream.read(&mut buffer).is_ok_and(|n| n > 0) {}
    });
    local(async {
        let (pool, access) = (Pool::new(guard_for(&base)), access(&base));
        let response = pool.send(&access, http_request(Method::POST, path("/"), HeaderMap::new(), Stalls(false))).await.unwrap();
        assert_eq!(response.status(), 413);
        assert_eq!(whole(response).await, b"no");
    })
    .await;
    done.join().unwrap();
}

#[tokio::test]
async fn tls_is_checked() {
    let server = Server::start(echo);
    let base = server.base.replace("http:", "https:");
    local(async {
        let (pool, access) = (Pool::new(guard_for(&base)), access(&base));
        let failure = get(&pool, &access, "/").await.map(|_| ()).unwrap_err();
        assert!(matches!(failure, Failure::Unreachable(ref text) if text.starts_with("TLS")), "{failure:?}");
    })
    .await;
}
