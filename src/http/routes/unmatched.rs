//! What no route takes: 405 where another method would be answered, else 404.

use std::collections::BTreeSet;

use actix_web::HttpRequest;

use crate::{
    error::{Code, Error},
    http::{Answer, openapi, routes::connect},
};

/// The default service.
pub async fn answer(request: HttpRequest) -> Answer {
    // A name of ours is not an id, although it stands where one could.
    let named = methods_where(|template| template == request.path());
    let methods = if named.is_empty() { methods_of(request.path()) } else { named };
    if methods.is_empty() {
        return Err(no_route().into());
    }
    let detail = format!("This route does not answer {}.", request.method());
    let allow: Vec<_> = methods.into_iter().collect();
    Err(Error::new(Code::MethodNotAllowed, detail).allow(allow.join(", ")).into())
}

/// The answer where there is nothing for any method.
pub fn no_route() -> Error {
    Error::new(Code::RouteNotFound, "There is no such route; `/docs` shows every one.")
}

/// The methods of every documented route this path fits.
pub fn methods_of(path: &str) -> BTreeSet<&'static str> {
    methods_where(|template| {
        let (mut wanted, mut given) = (template.split('/'), path.split('/'));
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some(w), Some(g)) if w == g || (w.starts_with('{') && !g.is_empty()) => {}
                _ => return false,
            }
        }
    })
}

fn methods_where(fits: impl Fn(&str) -> bool) -> BTreeSet<&'static str> {
    let fits = |(template, _): &&(String, Vec<&'static str>)| fits(template);
    let documents = ["/", "/docs", "/docs/", "/docs/{file}"].map(|path| (path.to_owned(), vec!["GET"]));
    let mut methods: BTreeSet<_> = openapi::ROUTES.iter().filter(fits).flat_map(|(_, m)| m.iter().copied()).collect();
    let pages = connect::ROUTES.iter().map(|(path, methods)| ((*path).to_owned(), methods.to_vec()));
    let shown: Vec<_> = documents.into_iter().chain(pages).collect();
    methods.extend(shown.iter().filter(fits).flat_map(|(_, m)| m.iter().copied()));
    if methods.contains("GET") {
        methods.insert("HEAD");
    }
    methods
}
