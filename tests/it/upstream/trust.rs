//! Connections are shared by what their server was trusted by, never beyond.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderMap, Method, uri::PathAndQuery};
use http_body_util::{BodyExt, Empty};
use rollcall::upstream::{Access, Allow, Failure, Guard, Trust, passthrough::Pool};

use super::support::{Server, access, answer, http_request};
use crate::support::{redis::Certificates, tls_front::TlsFront};

fn trusting(base: &str, field: &str, value: String) -> Access {
    let trust = Trust::of(&BTreeMap::from([(field.to_owned(), value)])).unwrap();
    assert!(trust.is_some());
    Access { trust, ..access(base) }
}

async fn status(pool: &Pool, access: &Access) -> Result<u16, Failure> {
    let request = http_request(Method::GET, PathAndQuery::from_static("/x"), HeaderMap::new(), Empty::new());
    let response = pool.send(access, request).await?;
    let status = response.status().as_u16();
    response.into_body().collect().await.unwrap();
    Ok(status)
}

#[tokio::test]
async fn no_connection_is_shared_beyond_its_trust() {
    let certificates = Certificates::self_signed("IP:127.0.0.1");
    let server = Server::start(|_, _| answer(200, &[], b"ok"));
    let front = TlsFront::before(server.base.trim_start_matches("http://").parse().unwrap(), &certificates);
    let base = format!("https://127.0.0.1:{}", front.port);
    let guard = Arc::new(Guard::new(Allow::parse(&format!("127.0.0.1:{}", front.port)).unwrap()));
    let by_ca = || trusting(&base, "ca_certificate", certificates.ca_pem());
    let printed = certificates.fingerprint();
    let pin = printed.split_once('=').unwrap().1.trim().to_owned();
    let by_pin = trusting(&base, "certificate_sha256", pin);
    let by_other = trusting(&base, "certificate_sha256", vec!["AB"; 32].join(":"));
    tokio::task::LocalSet::new()
        .run_until(async {
            let pool = Pool::new(guard);
            for (account, connections) in [(&by_ca(), 1), (&by_ca(), 1), (&by_pin, 2), (&by_pin, 2)] {
                assert_eq!(status(&pool, account).await.unwrap(), 200);
                assert_eq!(server.accepted(), connections);
            }
            let refused = status(&pool, &by_other).await;
            assert!(matches!(refused, Err(Failure::Distrusted { field: "certificate_sha256", .. })), "{refused:?}");
            let refused = status(&pool, &access(&base)).await;
            assert!(matches!(refused, Err(Failure::Unreachable(_))), "{refused:?}");
            assert_eq!(server.accepted(), 2, "a connection that others trust was used");
        })
        .await;
    assert_eq!(server.seen().len(), 4);
}
