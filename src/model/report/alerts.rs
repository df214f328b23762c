//! The alerts that are open, as a part of the report.

use std::cmp::Reverse;

use jiff::Timestamp;
use serde::Serialize;

use super::Report;
use crate::model::alert::{Alert, Level, Memory};

/// An alert that is open.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AlertReport {
    /// What `alert ack` takes.
    pub id: String,
    /// How bad it is, whoever has taken it on.
    pub level: Level,
    /// The code of what is so, as `served.expires`.
    pub condition: String,
    /// Since when.
    pub since: Timestamp,
    /// All of it in one line.
    pub title: String,
    /// Who has taken it on.
    pub acknowledged: Option<Acknowledged>,
}

/// That somebody has taken an alert on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Acknowledged {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

impl Report {
    /// The same report with the alerts that are open, the worst first, of two alike the older.
    #[must_use]
    pub fn with_alerts(self, memory: &Memory) -> Self {
        let mut alerts: Vec<AlertReport> = memory.open().map(AlertReport::of).collect();
        alerts.sort_by_key(|alert| (Reverse(alert.level), alert.since));
        Self { alerts: Some(alerts), ..self }
    }
}

impl AlertReport {
    fn of((id, alert): (&String, &Alert)) -> Self {
        let acknowledged = alert.ack.as_ref().map(|ack| Acknowledged { by: ack.by.clone(), at: ack.at });
        Self {
            id: id.clone(),
            level: alert.worst(),
            condition: alert.code.clone(),
            since: alert.since,
            title: alert.title.clone(),
            acknowledged,
        }
    }
}
