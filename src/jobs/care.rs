//! Looks at accounts whose time has come: whether the vendor still accepts them, and whether their credential ends soon.

use std::{sync::Arc, time::Duration};

use super::Job;
use crate::{error::Result, service::Care};

/// The loop that looks at accounts, a few at a time.
pub struct Visits(pub Arc<Care>);

impl Job for Visits {
    const NAME: &'static str = "care";
    const PAUSE: Duration = Duration::from_secs(2);

    async fn run_once(&self) -> Result<bool> {
        let mut visited = 0;
        for environment in self.0.environments().await? {
            visited += self.0.visit(environment).await?;
        }
        Ok(visited > 0)
    }
}
