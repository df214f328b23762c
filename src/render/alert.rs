//! Alerts and channels as text and JSON.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::model::alert::{Alert, Level, Memory, next_step, over_at};
use crate::model::plan::minute;
use crate::model::problem::Problem;

/// What came of trying a channel.
#[derive(Debug)]
pub struct TriedChannel {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// What the other side called the message; or what went wrong.
    pub result: Result<Option<String>, Problem>,
}

/// A line for each channel, and the remedy below it.
pub fn tried_channels(tried: &[TriedChannel]) -> String {
    let mut text = String::new();
    for channel in tried {
        let (name, took) = (&channel.name, channel.took.as_millis());
        let _ = match &channel.result {
            Ok(None) => writeln!(text, "ok    {name}: delivered in {took} ms"),
            Ok(Some(answer)) => writeln!(text, "ok    {name}: delivered in {took} ms, answered {answer}"),
            Err(problem) => writeln!(text, "fail  {name}: {} (after {took} ms)", problem.one_line()),
        };
        if let Err(Problem { hint: Some(hint), .. }) = &channel.result {
            let _ = writeln!(text, "      {hint}");
        }
    }
    if text.is_empty() {
        text.push_str("no channel is told of alerts: `[alerting] order` is empty\n");
    }
    text
}

/// The same as JSON.
pub fn tried_channels_json(tried: &[TriedChannel]) -> Value {
    let one = |channel: &TriedChannel| {
        let problem = channel.result.as_ref().err();
        json!({
            "channel": channel.name,
            "delivered": channel.result.is_ok(),
            "milliseconds": u64::try_from(channel.took.as_millis()).unwrap_or(u64::MAX),
            "answer": channel.result.as_ref().ok().cloned().flatten(),
            "problem": problem.map(|problem| json!({
                "code": problem.code,
                "message": problem.one_line(),
                "hint": problem.hint,
            })),
        })
    };
    json!({ "channels": tried.iter().map(one).collect::<Vec<_>>() })
}

/// What is wrong, the worst first, and who was told.
pub fn alerts_text(memory: &Memory, order: &[String], now: Timestamp) -> String {
    let mut text = String::new();
    for (id, alert) in sorted(memory) {
        let _ = writeln!(text, "{id}  {}  {}", level(alert.worst()), alert.title);
        let _ = writeln!(text, "        {} since {}", alert.code, minute(alert.since));
        if let (Some(gone), Some(over)) = (alert.gone, over_at(alert)) {
            let (gone, over) = (minute(gone), minute(over));
            let _ = writeln!(
                text,
                "        gone since {gone}; it came back before: over if it stays away until {over}"
            );
            continue;
        }
        for affected in alert.affected.iter().skip(usize::from(alert.affected.len() == 1)).take(NAMED) {
            let _ = writeln!(text, "        - {}", affected.subject.text);
        }
        if alert.affected.len() > NAMED {
            let _ =
                writeln!(text, "        - and {} more, see `certfleet report`", alert.affected.len() - NAMED);
        }
        for (name, line) in [("why", &alert.reason), ("next", &alert.next), ("do", &alert.remedy)] {
            if let Some(line) = line {
                let _ = writeln!(
                    text,
                    "        {name}: {}",
                    line.replace("alert ack ID", &format!("alert ack {id}"))
                );
            }
        }
        for (channel, told) in &alert.told {
            let waits = memory.outbox.iter().find(|it| it.channel == *channel && it.notice.alert == *id);
            let _ = match waits {
                Some(letter) => {
                    let why =
                        letter.problem.as_ref().map_or_else(String::new, |it| format!(": {}", it.one_line()));
                    writeln!(text, "        NOT told: {channel}, {} attempts{why}", letter.attempts)
                }
                None => {
                    writeln!(text, "        told: {channel}, {} at {}", level(told.level), minute(told.at))
                }
            };
        }
        let _ = match &alert.ack {
            Some(ack) => writeln!(text, "        taken on by {} at {}", ack.by, minute(ack.at)),
            None => writeln!(text, "        `certfleet alert ack {id}` takes it on"),
        };
    }
    if text.is_empty() {
        text.push_str("nothing is wrong\n");
    }
    let so = memory.open().any(|(_, alert)| alert.gone.is_none());
    if let Some(next) = next_step(memory, order, now).filter(|next| so && *next > now) {
        let _ = writeln!(text, "told again from {} on, if it is still so", minute(next));
    }
    let over = memory
        .outbox
        .iter()
        .filter(|letter| memory.alerts.get(&letter.notice.alert).is_none_or(|it| it.over));
    let over = over.count();
    if over > 0 {
        let _ = writeln!(text, "{over} notices of what is over wait to be delivered");
    }
    text
}

/// The same as JSON.
pub fn alerts_json(memory: &Memory, order: &[String], now: Timestamp) -> Value {
    let one = |(id, alert): (&String, &Alert)| {
        let told = alert.told.iter().map(|(channel, told)| {
            let waits = memory.outbox.iter().find(|it| it.channel == *channel && it.notice.alert == *id);
            json!({
                "channel": channel,
                "level": told.level,
                "at": told.at,
                "first": told.first,
                "delivered": waits.is_none(),
                "attempts": waits.map(|letter| letter.attempts),
                "problem": waits.and_then(|letter| letter.problem.as_ref()).map(Problem::one_line),
            })
        });
        json!({
            "id": id,
            "code": alert.code,
            "level": alert.worst(),
            "since": alert.since,
            "gone-since": alert.gone,
            "title": alert.title,
            "subjects": alert.affected.iter().map(|affected| json!({
                "certificate": affected.subject.certificate,
                "host": affected.subject.host,
                "level": affected.level,
                "text": affected.subject.text,
            })).collect::<Vec<_>>(),
            "reason": alert.reason,
            "next": alert.next,
            "remedy": alert.remedy,
            "told": told.collect::<Vec<_>>(),
            "acknowledged": alert.ack.as_ref().map(|ack| json!({ "by": ack.by, "at": ack.at })),
        })
    };
    json!({
        "generated-at": now,
        "alerts": sorted(memory).into_iter().map(one).collect::<Vec<_>>(),
        "undelivered": memory.outbox.len(),
        "next": next_step(memory, order, now),
    })
}

fn sorted(memory: &Memory) -> Vec<(&String, &Alert)> {
    let mut open: Vec<(&String, &Alert)> = memory.open().collect();
    open.sort_by_key(|(_, alert)| (std::cmp::Reverse(alert.worst()), alert.since));
    open
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Warning => "WARNING",
        Level::Critical => "CRITICAL",
        Level::Emergency => "EMERGENCY",
    }
}

/// How many of the things that an alert is about are named.
const NAMED: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_not_listed_as_something_to_do() {
        let memory: Memory = serde_json::from_value(json!({ "alerts": { "a1b2c3": {
            "cause": "host.foreign",
            "code": "host.foreign",
            "since": "2026-11-23T18:12:20Z",
            "title": "`web1` serves a certificate for `shop` that is not ours",
            "affected": [],
            "remedy": "run `certfleet deploy shop --host web1 --force` to replace it",
            "told": {},
            "gone": "2026-11-23T18:12:55Z",
            "over": false,
            "returns": 1,
        } } }))
        .unwrap();
        let text = alerts_text(&memory, &["chat".to_owned()], "2026-11-23T18:30:00Z".parse().unwrap());
        assert!(
            text.contains(
                "gone since 2026-11-23 18:12 UTC; it came back before: over if it stays away until 2026-11-23 20:12 UTC"
            ),
            "{text}"
        );
        assert!(
            !text.contains("do: ") && !text.contains("takes it on") && !text.contains("still so"),
            "{text}"
        );
    }
}
