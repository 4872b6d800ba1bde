//! The routes once more, for calls that come out of a batch: the same handlers, rights and refusals, without a connection.

use std::{future::Future, rc::Rc, sync::Arc};

use actix_http::{Request, h1};
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::{
    App, HttpMessage, HttpRequest, HttpResponse, ResponseError, body,
    dev::{AppConfig, ServiceResponse},
    http::{
        Method, StatusCode, Uri,
        header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue},
    },
    web::Data,
};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::sync::{OnceCell, mpsc, oneshot};
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    error::{Code, Error, Result},
    http::{
        Problem, State,
        extract::state,
        gate::{self, RequestId},
        problem, routes,
        watch::Concerned,
    },
    service::{COMPANY_HEADER, KEY_HEADER},
};

type Routes = Rc<dyn Fn(Request) -> LocalBoxFuture<'static, Result<ServiceResponse, actix_web::Error>>>;

/// The routes of one worker, made when the first batch comes.
#[derive(Clone, Default)]
pub struct Inner(Rc<OnceCell<Routes>>);

impl Inner {
    async fn routes(&self, state: &Data<State>) -> Result<Routes> {
        let make = async {
            let app = App::new().app_data(state.clone());
            let app = app.configure(|config| routes::configure(&mut ServiceConfig::new(config)));
            let service = app.into_factory().new_service(AppConfig::default()).await;
            let service = service.map_err(|()| Error::internal("the routes of batches cannot be made"))?;
            let routes: Routes = Rc::new(move |request| Box::pin(service.call(request)));
            Ok(routes)
        };
        self.0.get_or_try_init(|| make).await.cloned()
    }
}

/// One call of a batch.
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// JSON.
    pub body: Option<Bytes>,
    /// Under which it is made once.
    pub key: Option<String>,
}

/// What it was answered.
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// Whether it is a problem of this code.
    pub fn is(&self, code: Code) -> bool {
        let problem = serde_json::from_slice::<serde_json::Value>(&self.body).unwrap_or_default();
        problem["code"] == code.row().name
    }
}

type Asked = (Call, oneshot::Sender<Reply>);

/// The way from a batch, which may run anywhere, to the routes of the worker that it came to.
pub struct Calls {
    asked: mpsc::UnboundedSender<Asked>,
    /// The id of the batch's own request.
    id: Option<Arc<str>>,
}

impl Calls {
    /// Makes a call.
    pub async fn ask(&self, call: Call) -> Result<Reply> {
        let (tell, told) = oneshot::channel();
        let gone = || Error::internal("the worker of a batch is gone");
        self.asked.send((call, tell)).map_err(|_| gone())?;
        told.await.map_err(|_| gone())
    }

    /// Names the batch's own request, for what is refused before a call is made.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

/// The way, and what must run on this worker for it to lead somewhere; that ends with the last user of the way.
pub fn open(request: HttpRequest) -> (Calls, impl Future<Output = ()> + 'static) {
    let (send, mut asked) = mpsc::unbounded_channel::<Asked>();
    let id = request.extensions().get::<RequestId>().map(|id| Arc::from(&*id.0));
    let serve = async move {
        while let Some((call, tell)) = asked.recv().await {
            let reply = match answer(&request, call).await {
                Ok(reply) => reply,
                Err(error) => refused(&request, error).await,
            };
            let _ = tell.send(reply);
        }
    };
    (Calls { asked: send, id }, serve)
}

async fn answer(outer: &HttpRequest, call: Call) -> Result<Reply> {
    let inner = outer.app_data::<Inner>().ok_or_else(|| Error::internal("the worker has no routes for batches"))?;
    let routes = inner.routes(state(outer)?).await?;
    let answer = routes(request(outer, call)?).await.map_err(|error| Error::internal(error.to_string()))?;
    if let Some(concerned) = answer.request().extensions_mut().remove::<Concerned>() {
        Concerned::note(outer, |whole| whole.about = concerned.about);
    }
    let status = answer.status();
    let failure = answer.response().error().map(|error| match error.as_error::<Problem>() {
        Some(problem) => problem.error().clone(),
        None => problem::foreign(error, status),
    });
    match failure {
        Some(error) => Ok(refused(outer, error).await),
        None => whole(answer.into_parts().1).await,
    }
}

fn request(outer: &HttpRequest, call: Call) -> Result<Request> {
    let Call { method, target, body, key } = call;
    let mut request = Request::new();
    // Whatever is noted of the call is of the batch's own request.
    if let Some(id) = outer.extensions().get::<RequestId>() {
        request.extensions_mut().insert(id.clone());
    }
    let head = request.head_mut();
    head.method = method;
    head.uri = target.parse::<Uri>().map_err(Error::internal)?;
    head.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(token) = outer.headers().get(AUTHORIZATION) {
        head.headers.insert(AUTHORIZATION, token.clone());
    }
    if let Some(company) = outer.headers().get(COMPANY_HEADER) {
        head.headers.insert(HeaderName::from_static(COMPANY_HEADER), company.clone());
    }
    if let Some(key) = key {
        let name = HeaderName::from_bytes(KEY_HEADER.as_bytes()).map_err(Error::internal)?;
        head.headers.insert(name, HeaderValue::try_from(key).map_err(Error::internal)?);
    }
    if let Some(body) = body {
        head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        let (_, mut payload) = h1::Payload::create(true);
        payload.unread_data(body);
        *request.payload() = payload.into();
    }
    Ok(request)
}

/// An error as the caller would have met it, with the id of the whole, under which it is logged.
async fn refused(outer: &HttpRequest, error: Error) -> Reply {
    let id = outer.extensions().get::<RequestId>().map(|id| Rc::clone(&id.0)).unwrap_or_else(|| Rc::from(""));
    gate::log(&error, &id);
    let status = error.http_status();
    let problem = Problem::from(error).for_request(id).error_response();
    whole(problem).await.unwrap_or(Reply { status, headers: Vec::new(), body: Bytes::from_static(b"{}") })
}

async fn whole(response: HttpResponse) -> Result<Reply> {
    let status = response.status();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let body = body::to_bytes(response.into_body()).await.map_err(|error| Error::internal(error.to_string()))?;
    let status = if status == StatusCode::NO_CONTENT { 200 } else { status.as_u16() };
    Ok(Reply { status, headers, body })
}
