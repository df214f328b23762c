//! Whom alerts reach. Nothing is sent: `certfleet alert test` does that.

use super::Finding;
use crate::config::Config;
use crate::store::Store;

/// One finding for each channel that is told, in their order; then who watches us, and what could not be delivered.
/// That their secrets can be read is found elsewhere.
pub(super) fn alerting(config: &Config, store: Option<&Store>) -> Vec<Finding> {
    let memory = match store.map(Store::alerts).transpose() {
        Ok(memory) => memory.unwrap_or_default(),
        Err(error) => return vec![Finding::failed("alerts", &error)],
    };
    let mut findings = Vec::new();
    for (place, channel) in config.alert_order.iter().enumerate() {
        let subject = format!("alert {channel}");
        findings.push(match memory.troubles.get(channel.as_str()) {
            Some(trouble) => Finding::warn(
                subject,
                format!("delivers nothing: {}", trouble.problem.one_line()),
                format!("run `certfleet alert test {channel}`"),
            ),
            None => match memory.partly.get(channel.as_str()) {
                Some(trouble) => Finding::of(super::Standing::Warn, subject, trouble.problem.clone()),
                None if place == 0 => Finding::ok(subject, "is told first"),
                None => Finding::ok(subject, format!("is told as number {}", place + 1)),
            },
        });
    }
    findings.push(match (&config.heartbeat, &memory.heartbeat) {
        (None, _) => {
            Finding::ok("heartbeat", "there is none: nobody outside notices when certfleet is silent")
        }
        (Some(_), None) => Finding::ok("heartbeat", "is called after each complete pass"),
        (Some(_), Some(trouble)) => Finding::of(super::Standing::Warn, "heartbeat", trouble.problem.clone()),
    });
    findings
}
