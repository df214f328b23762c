//! Roll-outs in steps that have gone on although the new version was no good somewhere.

use super::finding::{Circumstances, Finding};
use crate::model::desired::Certificate;
use crate::model::name::HostName;
use crate::model::plan::minute;
use crate::model::report::{CertReport, HostReport, HostStanding};
use crate::model::state::{CertState, HostFacts};

/// The new version failed on one host and came to others later, because theirs was close to its end or a person
/// would not wait.
pub(super) fn gone_on(
    facts: &Circumstances<'_>,
    certificate: &Certificate,
    known: &CertState,
    report: &CertReport,
) -> Option<Finding> {
    let canaries = &certificate.rollout.as_ref()?.canary;
    let (newest, _) = known.newest()?;
    let of = |host: &HostName| facts.state.hosts.get(host)?.get(&certificate.name);
    let (at, failure) = report.hosts.iter().find_map(|host| {
        let HostFacts { rejected, failure, .. } = of(&host.host)?;
        let failed = *rejected == Some(newest) && host.standing != HostStanding::Serving;
        Some((&host.host, failure.as_ref().filter(|_| failed)?))
    })?;
    let is_led = |host: &HostReport| host.standing == HostStanding::Serving && canaries.contains(&host.host);
    let led = canaries.is_empty() || report.hosts.iter().any(is_led);
    let out_of_turn = |host: &&HostName| {
        let installed = of(host).and_then(|facts| facts.installed.as_ref());
        let installed = installed.filter(|installed| installed.version == newest);
        installed.is_some_and(|installed| installed.at > failure.first || (!led && !canaries.contains(host)))
    };
    let others: Vec<&HostName> = certificate.hosts.iter().filter(out_of_turn).collect();
    let (first, more) = (others.first()?, others.len() - 1);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let name = &certificate.name;
    let text = format!(
        "version {newest} of `{name}` went to `{first}`{more} although it failed on `{at}`, since what was served \
         there was close to its end"
    );
    Some(Finding {
        since: Some(failure.first),
        next: Some(format!("`{at}` is tried again in every pass, last at {}", minute(failure.last))),
        remedy: Some(format!("see whether `{first}` serves its visitors well, and mend `{at}`")),
        ..Finding::new("rollout.out-of-turn", "", name.as_str(), text)
            .because(&failure.problem)
            .of(name)
            .on(at)
    })
}
