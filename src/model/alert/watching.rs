//! What is wrong with us: clock, configuration, channels, heartbeat, and that nobody makes passes.

use jiff::{SignedDuration, Timestamp};

use super::expiry::counted;
use super::finding::{Circumstances, Finding};
use super::{Alert, Level, Memory, OffClock, Trouble};
use crate::model::clock::{self, Reading};
use crate::model::history::How;
use crate::model::name::IssuerName;
use crate::model::plan::minute;

/// The channel that is always there.
pub const JOURNAL: &str = "journal";

/// A daemon or a timer that makes no passes any more.
const SILENT: &str = "pass.silent";
/// A channel that delivers nothing.
pub(super) const FAILING: &str = "channel.failing";
/// A channel that does not reach all whom it should.
pub(super) const PARTLY: &str = "channel.partly";
const DAEMON: &str = "daemon";
const TIMER: &str = "timer";

/// What nobody has said to be gone is forgotten after this time.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(30 * 24);

impl Alert {
    /// Those who made passes and were removed for good: that is what somebody says who takes on that they are silent.
    pub fn removed(&self) -> impl Iterator<Item = How> {
        let affected = self.affected.iter().filter(|_| self.code == SILENT);
        affected.map(|of| if of.key == DAEMON { How::Daemon } else { How::Timer })
    }
}

/// A CA has said what time it is.
pub fn compared(memory: &mut Memory, issuer: &IssuerName, reading: Reading) {
    let off = reading.apart() > clock::OFF;
    memory.clock = off.then(|| OffClock { issuer: issuer.clone(), reading });
}

/// The machine we run on.
pub(super) fn machine(facts: &Circumstances<'_>, memory: &Memory, found: &mut Vec<Finding>) {
    let off = memory.clock.as_ref().filter(|clock| clock.reading.holds(facts.now));
    if let Some(OffClock { issuer, reading }) = off {
        let way = if reading.ahead().is_negative() { "behind" } else { "ahead of" };
        let (minutes, far) = (reading.apart().as_mins(), reading.apart() > clock::FAR_OFF);
        let text = format!(
            "the clock of this machine is {} {way} that of {issuer}: {:.0} here was {:.0} there",
            counted(minutes, "minute"),
            reading.here,
            reading.there
        );
        found.push(Finding {
            level: if far { Level::Critical } else { Level::Warning },
            reason: Some("one of the two is wrong, most likely this one".to_owned()),
            next: Some(
                "compared again when a CA is asked next; every time that is told may be wrong until then"
                    .to_owned(),
            ),
            remedy: Some(
                "set it: `timedatectl set-ntp true`; `certfleet check` compares it at once".to_owned(),
            ),
            ..Finding::new("clock.differs", "", "clock", text)
        });
    }
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
    for (channel, trouble) in &memory.partly {
        found.push(Finding {
            since: Some(trouble.since),
            next: Some("the others were told; this ends when a message has reached all".to_owned()),
            ..Finding::new(
                PARTLY,
                "",
                channel.clone(),
                format!("the channel `{channel}` does not reach everybody since {}", minute(trouble.since)),
            )
            .because(&trouble.problem)
        });
        if let Some(last) = found.last_mut() {
            let test = format!("then run `certfleet alert test {channel}`");
            last.remedy =
                Some(last.remedy.take().map_or_else(|| test.clone(), |hint| format!("{hint}; {test}")));
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
}

/// Those who make passes: the one notices that the other does not.
pub(super) fn silent(facts: &Circumstances<'_>, found: &mut Vec<Finding>) {
    let (passes, now) = (&facts.state.passes, facts.now);
    for (how, at) in passes.dead(facts.desired.interval, now) {
        if at.duration_until(now) >= FORGOTTEN {
            continue;
        }
        let (who, unit) = match how {
            How::Timer => (TIMER, "certfleet-renew.timer"),
            How::Daemon | How::Cli => (DAEMON, "certfleet.service"),
        };
        let text = format!("no complete pass by the {who} since {}", minute(at));
        let usual = passes.by(how).and_then(|ended| ended.gap).map_or_else(String::new, |gap| {
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

impl Trouble {
    /// Whether it is more than a hiccup.
    pub(super) fn lasts(&self, now: Timestamp) -> bool {
        self.failures >= 2 && self.since.duration_until(now) >= SignedDuration::from_mins(10)
    }
}
