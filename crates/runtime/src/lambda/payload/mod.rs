//! What handlers get and give, shaped exactly as AWS shapes it: API Gateway's payloads 2.0 and 1.0, a load balancer's,
//! EventBridge's envelope, plain JSON, and Lambda's error objects. Pure: no I/O, no clock.

pub mod alb_event;
pub mod eventbridge;
pub mod failure;
pub mod http_event;
pub mod http_reply;
#[cfg(test)]
mod law;
#[cfg(test)]
mod law_lists;
pub mod request;
pub mod rest_event;

use model::{AppName, WorkloadName};

/// The account that ARNs and envelopes name: Tangelo has none, so the one that local clouds use.
pub const ACCOUNT: &str = "000000000000";
/// The region that ARNs and envelopes name when the environment names no other.
pub const REGION: &str = "us-east-1";

/// What AWS's clients call a workload: `shop_orders`. No Tangelo name has a `_`, so it can be taken apart again.
#[must_use]
pub fn function_name(app: &AppName, workload: &WorkloadName) -> String {
    format!("{app}_{workload}")
}

/// The ARN of a function.
#[must_use]
pub fn function_arn(app: &AppName, workload: &WorkloadName) -> String {
    let name = function_name(app, workload);
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}")
}
