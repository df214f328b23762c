//! What is wrong with us: clock, configuration, channels, heartbeat, and that nobody makes passes.

use jiff::{SignedDuration, Timestamp};

use super::expiry::counted;
use super::finding::{Circumstances, Finding};
use super::{Level, Memory, Runner, Trouble};
use crate::model::history::How;
use crate::model::plan::minute;

/// The channel that is always there.
pub const JOURNAL: &str = "journal";

/// A daemon or a timer that makes no passes any more.
pub(super) const SILENT: &str = "pass.silent";
/// A channel that delivers nothing.
pub(super) const FAILING: &str = "channel.failing";
pub(super) const DAEMON: &str = "daemon";
pub(super) const TIMER: &str = "timer";

/// What nobody has said to be gone is forgotten after this time.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A complete pass has ended: who made it is known to be alive.
pub fn passed(memory: &mut Memory, how: How, now: Timestamp) {
    let runner = match how {
        How::Daemon => &mut memory.daemon,
        How::Timer => &mut memory.timer,
        How::Cli => return,
    };
    let gap = runner.as_ref().map(|last| last.at.duration_until(now).as_secs().max(0));
    *runner = Some(Runner { at: now, gap });
}

/// The machine we run on.
pub(super) fn machine(facts: &Circumstances<'_>, found: &mut Vec<Finding>) {
    if let Some(problem) = facts.clock {
        found.push(Finding {
            level: Level::Critical,
            next: Some("certificates may be renewed too late until it is set".to_owned()),
            ..Finding::new("clock.behind", "", "clock", "the clock of this machine is wrong".to_owned())
                .because(problem)
        });
    }
    if let Some(problem) = facts.unusable {
        let text = format!("certfleet cannot work: {}", problem.message);
        found.push(Finding {
            level: Level::Critical,
            next: Some("every pass tries again; until then nothing is renewed".to_owned()),
            ..Finding::new("pass.impossible", "", "store", text).because(problem)
        });
    }
    if let Some(problem) = facts.refused {
        let text = "certs.toml was changed and cannot be used".to_owned();
        found.push(Finding {
            next: Some("the one from before goes on; a restart would fail".to_owned()),
            ..Finding::new("config.refused", "", "certs.toml", text).because(problem)
        });
    }
}

/// Those who should tell people, and those who should look.
pub(super) fn watchers(memory: &Memory, now: Timestamp, found: &mut Vec<Finding>) {
    for (channel, trouble) in memory.troubles.iter().filter(|(_, trouble)| trouble.lasts(now)) {
        found.push(Finding {
            since: Some(trouble.since),
            next: Some("what waits for it is tried again; the next channel is told in its place".to_owned()),
            ..Finding::new(
                FAILING,
                "",
                channel.clone(),
                format!("the channel `{channel}` delivers nothing since {}", minute(trouble.since)),
            )
            .because(&trouble.problem)
        });
        if let Some(last) = found.last_mut().filter(|last| last.remedy.is_none()) {
            last.remedy = Some(format!("run `certfleet alert test {channel}`"));
        }
    }
    if let Some(trouble) = &memory.heartbeat {
        let text = format!("the heartbeat is not answered since {}", minute(trouble.since));
        found.push(Finding {
            since: Some(trouble.since),
            patience: SignedDuration::from_mins(90),
            next: Some("called again after every pass; the watcher outside will alarm".to_owned()),
            ..Finding::new("heartbeat.failing", "", "heartbeat", text).because(&trouble.problem)
        });
    }
    for (who, unit, runner) in
        [(DAEMON, "certfleet.service", &memory.daemon), (TIMER, "certfleet-renew.timer", &memory.timer)]
    {
        let Some(runner) = runner.as_ref().filter(|runner| runner.is_late(now)) else { continue };
        let text = format!("no complete pass by the {who} since {}", minute(runner.at));
        let usual = runner.gap.map_or_else(String::new, |gap| {
            format!(
                "; before that there was one every {}",
                counted((gap + 1800) / 3600, "hour").replace("0 hours", "few minutes")
            )
        });
        found.push(Finding {
            // Both may have been away, and the other comes next.
            patience: SignedDuration::from_hours(1),
            reason: Some(format!("the {who} does not run, or its passes are cut short{usual}")),
            next: Some("nothing by itself".to_owned()),
            remedy: Some(format!(
                "see `systemctl status {unit}`; if it was removed for good, say so with `certfleet alert ack ID`"
            )),
            ..Finding::new(SILENT, "", who, text)
        });
    }
}

impl Runner {
    /// Whether it has missed three passes, as often as it used to make them.
    fn is_late(&self, now: Timestamp) -> bool {
        let silence = self.at.duration_until(now);
        let gap = self.gap.map_or(SignedDuration::from_hours(24), SignedDuration::from_secs);
        // Passes can be far apart or close together.
        let gap = gap.clamp(SignedDuration::from_hours(1), SignedDuration::from_hours(48));
        silence > gap * 3 && silence < FORGOTTEN
    }
}

impl Trouble {
    /// Whether it is more than a hiccup.
    pub(super) fn lasts(&self, now: Timestamp) -> bool {
        self.failures >= 2 && self.since.duration_until(now) >= SignedDuration::from_mins(10)
    }
}
