//! Moves events from their accounts to the log of their environment.

use std::{sync::Arc, time::Duration};

use super::{Job, Turn};
use crate::{error::Result, service::Care};

/// The loop that tells events.
pub struct Outbox(pub Arc<Care>);

impl Job for Outbox {
    const NAME: &'static str = "outbox";
    const PAUSE: Duration = Duration::from_secs(1);

    async fn run_once(&self) -> Result<bool> {
        let mut turn = Turn::default();
        for environment in self.0.environments().await? {
            turn.add(self.0.tell(environment).await);
        }
        turn.end(Self::NAME)
    }
}
