//! Moves events from their accounts to the log of their environment.

use std::{sync::Arc, time::Duration};

use super::Job;
use crate::{error::Result, service::Care};

/// The loop that tells events.
pub struct Outbox(pub Arc<Care>);

impl Job for Outbox {
    const NAME: &'static str = "outbox";
    const PAUSE: Duration = Duration::from_secs(1);

    async fn run_once(&self) -> Result<bool> {
        let (mut told, mut failed) = (0, None);
        for environment in self.0.environments().await? {
            match self.0.tell(environment).await {
                Ok(some) => told += some,
                // One environment's trouble is not the others'.
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(told > 0), Err)
    }
}
