//! HTTP: what a running process tells machines (`telemetry`), and the API and console of `capture serve` (`serve`).
//!
//! No SQL stands here, and no decision about money: a request is read strictly, its caller's right is checked, the
//! outbox or `operations` is asked, and the answer is written. What is wrong is told as a [`Problem`] whose code is the
//! name that SQL and the command line use too.

mod api;
mod body;
mod caller;
mod connections;
mod console;
mod failures;
mod headers;
mod inquiry;
mod news;
mod openapi;
mod pause;
mod problem;
mod query;
mod request_counts;
mod serve;
mod telemetry;

pub use body::Document;
pub use caller::{Allowed, Caller, ToCancel, ToEnqueue, ToOperate, ToRead, ToRelease, ToWorkLanes};
pub use console::ProxySettings;
pub use openapi::written as openapi_document;
pub use problem::Problem;
pub use query::Parameters;
pub use serve::{ApiServer, Office, OfficeSettings, PATIENCE};
pub use telemetry::{Probe, Readiness, TelemetryServer};
