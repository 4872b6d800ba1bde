//! What a list says about itself beside its records.

use serde::{Deserialize, Serialize};

/// Something a caller should know about a page that is otherwise good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Warning {
    /// A stable name, for example `unknown_status`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// The field or parameter concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// Who evaluated which filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FilterReport {
    /// Filters sent to the vendor.
    pub vendor: Vec<String>,
    /// Filters evaluated by the gateway on mapped records.
    pub gateway: Vec<String>,
}
