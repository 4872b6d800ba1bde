//! The guard as reqwest asks it; in the suite the unified client does.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use reqwest::dns::Resolve;
use rollcall::upstream::{Allow, EgressProxy, Guard, resolver, told};

use crate::upstream::dialling::{Names, Recorder};

async fn found(guard: &Arc<Guard>, named: Option<bool>, name: &str) -> Result<Vec<SocketAddr>, String> {
    let found = resolver(guard.clone(), named).resolve(name.parse().unwrap()).await;
    found.map(Iterator::collect).map_err(|error| error.to_string())
}

/// Admits everything but one address.
struct Picky(IpAddr);

#[async_trait::async_trait]
impl rollcall::upstream::egress::Dial for Picky {
    fn admits(&self, address: SocketAddr) -> bool {
        address.ip() != self.0
    }

    async fn dial(&self, _: SocketAddr) -> std::io::Result<tokio::net::TcpStream> {
        Err(std::io::ErrorKind::ConnectionRefused.into())
    }
}

#[tokio::test]
async fn names_are_looked_up_for_whom_they_may_be() {
    let names = Arc::new(Names::default());
    names.add("public.example", &[&["93.184.216.34", "93.184.216.35"]]);
    names.add("inside.example", &[&["10.1.2.3"]]);
    names.add("proxy.internal", &[&["10.0.0.9"]]);
    let allow = Allow::parse("inside.example:8443,10.0.0.0/8").unwrap();
    let guard = Guard::over(allow, names.clone(), Arc::new(Picky("93.184.216.35".parse().unwrap())));
    let guard = Arc::new(guard.through(Some(EgressProxy::parse("http://proxy.internal:3128").unwrap()), Allow::default()));
    let public = vec!["93.184.216.34:0".parse().unwrap()];
    assert_eq!(found(&guard, Some(false), "public.example").await, Ok(public.clone()));
    assert_eq!(found(&guard, Some(true), "public.example").await, Ok(public));
    assert_eq!(found(&guard, Some(true), "inside.example").await, Ok(vec!["10.1.2.3:0".parse().unwrap()]));
    assert!(found(&guard, Some(false), "inside.example").await.unwrap_err().contains("private"));
    assert_eq!(found(&guard, None, "proxy.internal").await, Ok(vec!["10.0.0.9:3128".parse().unwrap()]));
    assert!(found(&guard, None, "public.example").await.unwrap_err().contains("only be called through the egress proxy"));

    let (recorder, without) = (Arc::new(Recorder::default()), Allow::default());
    let guard = Arc::new(Guard::over(without, names, recorder.clone()));
    assert!(found(&guard, Some(false), "public.example").await.unwrap_err().contains("opens none"));
    assert_eq!(recorder.take().len(), 2);
    assert!(found(&guard, None, "proxy.internal").await.is_err());
}

#[test]
fn the_bookkeeping_hears_of_its_limit() {
    let guard = Guard::new(Allow::default());
    guard.pass_at_most(7);
    assert_eq!(told(&guard), 7);
}
