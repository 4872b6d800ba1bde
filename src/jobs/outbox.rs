//! Moves events from their accounts to the log of their environment.

use std::{sync::Arc, time::Duration};

use super::Job;
use crate::{
    error::{Error, Result},
    service::Care,
};

/// The loop that tells events.
pub struct Outbox(pub Arc<Care>);

impl Job for Outbox {
    const NAME: &'static str = "outbox";
    const PAUSE: Duration = Duration::from_secs(1);

    async fn run_once(&self) -> Result<bool> {
        let (mut told, mut failed) = (0, None::<Error>);
        for environment in self.0.environments().await? {
            match self.0.tell(environment).await {
                Ok(some) => told += some,
                // One environment's trouble is not the others'.
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if told == 0 => Err(error),
            Some(error) => {
                tracing::warn!(%error, "events of one environment are told later");
                Ok(true)
            }
            None => Ok(told > 0),
        }
    }
}
