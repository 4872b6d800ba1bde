//! A resolver and a dialler that nothing leaves the machine by.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    sync::Mutex,
};

use async_trait::async_trait;
use rollcall::upstream::egress::{Dial, Resolve};

/// Names with a list of answers each; the last one stays.
#[derive(Default)]
pub struct Names(pub Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>);

impl Names {
    /// Adds a name.
    pub fn add(&self, name: &str, answers: &[&[&str]]) {
        let answers = answers.iter().map(|one| one.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
        self.0.lock().unwrap().insert(name.to_owned(), answers);
    }
}

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let mut names = self.0.lock().unwrap();
        let answers = names.get_mut(host).ok_or_else(|| io::Error::other("no such name"))?;
        match answers.len() {
            0 => Ok(Vec::new()),
            1 => Ok(answers[0].clone()),
            _ => Ok(answers.pop_front().unwrap()),
        }
    }
}

/// Writes down what would be dialled and dials nothing.
#[derive(Default)]
pub struct Recorder(pub Mutex<Vec<IpAddr>>);

impl Recorder {
    /// What was dialled since the last look.
    pub fn take(&self) -> Vec<IpAddr> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[async_trait]
impl Dial for Recorder {
    fn admits(&self, address: SocketAddr) -> bool {
        self.0.lock().unwrap().push(address.ip());
        false
    }

    async fn dial(&self, address: SocketAddr) -> io::Result<tokio::net::TcpStream> {
        self.0.lock().unwrap().push(address.ip());
        Err(io::Error::new(io::ErrorKind::ConnectionRefused, "recorded"))
    }
}
