//! Finds what was forgotten when a node ended between two steps, and what was made before there were queues: at the start and
//! once a day. Ended events go with it, and what ended environments have left.

use std::{sync::Arc, time::Duration};

use super::Job;
use crate::{error::Result, service::Care};

/// The loop that reads the whole list of accounts.
pub struct Sweep(pub Arc<Care>);

impl Job for Sweep {
    const NAME: &'static str = "sweep";
    const PAUSE: Duration = Duration::from_secs(24 * 3600);

    async fn run_once(&self) -> Result<bool> {
        for environment in self.0.environments().await? {
            // Where another node is at it, it is done. One environment's trouble is not the others'.
            if let Err(error) = self.0.find_forgotten(environment).await {
                tracing::error!(%environment, %error, "what was forgotten in an environment stays for now");
            }
        }
        self.0.clear_ended().await?;
        Ok(false)
    }
}
