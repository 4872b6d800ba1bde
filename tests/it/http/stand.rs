//! A small app behind the real gate and the real bounds, for what needs no services.

use std::{
    net::{SocketAddr, TcpListener},
    sync::mpsc,
    thread::JoinHandle,
    time::Duration,
};

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use rollcall::http::{
    body::{JsonBody, Pace},
    routes::unmatched,
    server,
};

pub struct Stand {
    pub addr: SocketAddr,
    handle: actix_web::dev::ServerHandle,
    thread: Option<JoinHandle<()>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Small {
    pub name: String,
    #[serde(default)]
    pub count: u32,
    #[serde(default)]
    pub scopes: Vec<rollcall::model::Scope>,
}

/// Short, so that slow clients are cut within a test.
pub const PACE: Pace =
    Pace { idle: Duration::from_millis(700), rate: 64, grace: Duration::from_millis(1500), total: Some(Duration::from_secs(8)) };

impl Stand {
    pub fn start(public_host: Option<&'static str>) -> Self {
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
                let addr = listener.local_addr().unwrap();
                let server = server::run(listener, None, 1, public_host.map(str::to_owned), routes).unwrap();
                tell.send((addr, server.handle())).unwrap();
                server.await.unwrap();
            });
        });
        let (addr, handle) = told.recv_timeout(Duration::from_secs(20)).unwrap();
        Self { addr, handle, thread: Some(thread) }
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .app_data(PACE)
        .route("/echo", web::to(echo))
        .route("/deaf", web::to(|| async { HttpResponse::Ok().body("deaf") }))
        .route("/panic", web::get().to(panics))
        .route("/json", web::post().to(json))
        .route("/twice", web::get().to(twice))
        .route("/query", web::get().to(|_: web::Query<Small>| async { HttpResponse::Ok().finish() }))
        .route("/healthz", web::get().to(|| async { HttpResponse::Ok().body("ok") }))
        .route("/passthrough/{rest:.*}", web::to(raw))
        .default_service(web::to(unmatched::answer));
}

async fn echo(request: HttpRequest, mut payload: web::Payload) -> HttpResponse {
    let mut body = Vec::new();
    while let Some(Ok(chunk)) = payload.next().await {
        body.extend_from_slice(&chunk);
    }
    HttpResponse::Ok().insert_header(("x-path", request.uri().to_string())).body(body)
}

async fn panics() -> HttpResponse {
    panic!("a canary of the handler")
}

async fn json(body: JsonBody<Small>) -> HttpResponse {
    HttpResponse::Ok().body(format!("{} {} {}", body.0.name, body.0.count, body.0.scopes.len()))
}

/// Two writes: with Nagle the second waits for the client's delayed acknowledgement.
async fn twice() -> HttpResponse {
    let first = stream::once(async { Ok::<_, actix_web::Error>(Bytes::from_static(b"one")) });
    let second = stream::once(async {
        actix_web::rt::time::sleep(Duration::from_millis(1)).await;
        Ok(Bytes::from_static(b"two"))
    });
    HttpResponse::Ok().streaming(first.chain(second))
}

async fn raw(request: HttpRequest) -> HttpResponse {
    HttpResponse::Ok().insert_header(("x-request-id", "the-vendors-own")).body(request.uri().to_string())
}
