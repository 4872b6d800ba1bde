//! What every handler can reach, and what the probes tell.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwapOption;
use metrics_exporter_prometheus::PrometheusHandle;

use super::flow::Flows;
use crate::{connector::Problem, service::Services, upstream::Guard};

/// Shared by all workers.
pub struct State {
    /// The product.
    pub services: Arc<Services>,
    /// Every socket of the passthrough passes it.
    pub guard: Arc<Guard>,
    /// Scheme, host and port of the public address, when the operator named one: what links of ours begin with.
    pub public_origin: Option<Arc<str>>,
    /// The same, or where this node listens when the operator named none: where people open our pages.
    pub own_origin: Arc<str>,
    /// `host[:port]` of the public address; any other `Host` is refused then.
    pub public_host: Option<String>,
    /// Renders `/metrics`; none when no recorder is installed.
    pub metrics: Option<PrometheusHandle>,
    /// `/metrics` asks for no token, because only this machine can call.
    pub metrics_open: bool,
    /// What `/readyz` tells beyond the store.
    pub readiness: Arc<Readiness>,
    /// What is under way.
    pub flows: Arc<Flows>,
}

/// Set by whoever watches keys and signals, read by `/readyz`.
#[derive(Debug, Default)]
pub struct Readiness {
    draining: AtomicBool,
    keys: ArcSwapOption<String>,
    connectors: ArcSwapOption<Vec<Problem>>,
}

impl Readiness {
    /// From now on load balancers shall send nothing more.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the process is about to end.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Notes what is wrong with the key ring, or that nothing is.
    pub fn set_keys(&self, problem: Option<String>) {
        self.keys.store(problem.map(Arc::new));
    }

    /// What is wrong with the key ring.
    pub fn keys_problem(&self) -> Option<Arc<String>> {
        self.keys.load_full()
    }

    /// Notes the mistakes for which a change of the connectors was not taken, or that the last one was.
    pub fn set_connectors(&self, refused: Option<Vec<Problem>>) {
        self.connectors.store(refused.map(Arc::new));
    }

    /// Why the last change of the connectors was not taken.
    pub fn connectors_refused(&self) -> Option<Arc<Vec<Problem>>> {
        self.connectors.load_full()
    }
}
