//! The files whose mutants are counted, with what they need and nothing more: a mutant costs seconds instead of a minute. `run` lays
//! this beside a copy of `src`, as its `lib.rs`.

pub mod error;
pub mod model;

/// The guard, the targets of the transparent proxy, and doors to what only its own room sees.
pub mod upstream {
    pub mod egress;
    pub mod egress_proxy;
    pub mod passthrough_target;
    pub mod query;
    mod ranges;

    use std::sync::Arc;

    pub use egress::{Allow, Guard};
    pub use egress_proxy::EgressProxy;

    /// Stands for why nothing was sent.
    #[derive(Debug)]
    pub enum Failure {
        /// A parameter cannot be.
        Unsendable {
            /// Its name.
            field: String,
            /// Why.
            reason: String,
        },
    }

    /// Stands for the bookkeeping that hangs on a guard.
    pub mod load {
        use std::sync::atomic::{AtomicUsize, Ordering};

        /// What it was told last.
        #[derive(Default)]
        pub struct Load(AtomicUsize);

        impl Load {
            /// Keeps it.
            pub fn pass_at_most(&self, in_flight: usize) {
                self.0.store(in_flight, Ordering::SeqCst);
            }

            /// What was kept.
            pub fn told(&self) -> usize {
                self.0.load(Ordering::SeqCst)
            }
        }
    }

    /// What the guard's bookkeeping was told.
    pub fn told(guard: &Guard) -> usize {
        guard.load.told()
    }

    /// The guard as a client's resolver, for hosts that are named or not, or for the proxy alone.
    pub fn resolver(guard: Arc<Guard>, named: Option<bool>) -> impl reqwest::dns::Resolve {
        let way = named.map_or(egress::Way::Proxied, |named| egress::Way::Direct { named });
        egress::Names { guard, way }
    }
}

/// What command lines are read for.
pub mod connector {
    /// An option of a command line.
    pub enum Argument {
        /// `--name`, without the dashes.
        Long(String),
        /// `-n`.
        Short(char),
    }
}

/// The reading of command lines.
pub mod service {
    /// The transparent proxy.
    pub mod passthrough {
        pub mod arguments;
    }
}
