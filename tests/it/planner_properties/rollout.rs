//! What holds for roll-outs in steps in every world.

use std::num::NonZeroUsize;

use certfleet::model::plan::Waiting;
use certfleet::model::schedule::emergency;

use super::*;

/// A canary or none, some at once or all.
pub(super) fn any_rollout() -> impl Strategy<Value = Rollout> {
    let canary = prop::sample::subsequence(host_names().to_vec(), 0..=2);
    (canary, 0_usize..3).prop_map(|(canary, batch)| Rollout { canary, batch: NonZeroUsize::new(batch) })
}

impl World {
    fn without_rollout(&self) -> Self {
        let mut world = self.clone();
        world.desired.certificates.values_mut().for_each(|certificate| certificate.rollout = None);
        world
    }

    /// The lives of good certificates that visitors of this host would lose to the newest version.
    fn losses(&self, host: &HostName, name: &CertName) -> Vec<(Timestamp, Timestamp)> {
        let Some((_, newest)) = self.newest(name) else { return Vec::new() };
        let looks = self.observed.looks(host, name);
        let is_served = |look: &Look| matches!(look.seen, Seen::Serving(_));
        let served = looks.iter().filter_map(|look| match &look.seen {
            Seen::Serving(served) => Some(served),
            Seen::Unreachable(_) => None,
        });
        let good = served.filter(|served| {
            served.distrust.is_none()
                && served.not_after > self.now
                && served.fingerprint != newest.fingerprint
        });
        let mut lives: Vec<_> = good.map(|served| (served.not_before, served.not_after)).collect();
        let installed = self.state.hosts.get(host).and_then(|of| of.get(name)?.installed.as_ref());
        if let Some(installed) = installed.filter(|_| !looks.iter().any(is_served))
            && let Some(version) = self.state.certificates[name].versions.get(&installed.version)
            && version.fingerprint != newest.fingerprint
            && version.not_after > self.now
        {
            lives.push((version.not_before, version.not_after));
        }
        lives
    }

    fn is_close(&self, host: &HostName, name: &CertName) -> bool {
        self.losses(host, name).iter().any(|(from, until)| emergency(*from, *until) <= self.now)
    }
}

fn installs(plan: &Plan) -> BTreeSet<(CertName, HostName)> {
    let deploys = plan.actions.iter().filter_map(|action| match action {
        Action::Deploy { host, installs } => Some((host, installs)),
        _ => None,
    });
    deploys
        .flat_map(|(host, installs)| installs.iter().map(move |one| (one.certificate.clone(), host.clone())))
        .collect()
}

/// What waits for a roll-out.
fn held(plan: &Plan) -> BTreeSet<(CertName, HostName)> {
    let waiting = plan
        .waiting
        .iter()
        .filter(|waiting| matches!(waiting, Waiting::Canary(..) | Waiting::Batch(..) | Waiting::Stopped(..)));
    waiting
        .map(|waiting| (waiting.certificate().clone(), waiting.host().expect("of a host").clone()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_roll_out_only_delays(world in any_world()) {
        let (plan, all) = (world.plan(), world.without_rollout().plan());
        let (now, later) = (installs(&plan), held(&plan));
        prop_assert!(now.is_disjoint(&later));
        prop_assert_eq!(now.union(&later).cloned().collect::<BTreeSet<_>>(), installs(&all));
        if matches!(world.request.deploying, Deploying::Forced(_)) {
            prop_assert_eq!(later, BTreeSet::new());
        }
    }

    /// In any order of beginnings and ends, of which some are failures.
    #[test]
    fn never_more_than_a_batch_is_on_its_way(mut world in any_world(), ends in vec((any::<u8>(), 0..3_u8), 0..8)) {
        let mut ends = ends.into_iter();
        for _ in 0..8 {
            let plan = world.plan();
            let begun = &mut world.request.begun;
            for this in installs(&plan).into_iter().filter(|this| !begun.over.contains(this)) {
                begun.under_way.insert(this);
            }
            for (name, certificate) in &world.desired.certificates {
                let Some(most) = certificate.rollout.as_ref().and_then(|rollout| rollout.batch) else { continue };
                let at_risk = world.request.begun.under_way.iter().filter(|(of, host)| {
                    of == name && !world.losses(host, name).is_empty()
                });
                let forced = matches!(world.request.deploying, Deploying::Forced(_));
                prop_assert!(forced || at_risk.count() <= most.get(), "{name}: {:?}", world.request.begun);
            }
            let Some((which, how)) = ends.next() else { continue };
            let under_way = world.request.begun.under_way.clone();
            let Some(this) = under_way.iter().nth(usize::from(which) % under_way.len().max(1)).cloned() else {
                continue;
            };
            let (name, host) = this.clone();
            let (version, _) = world.newest(&name).expect("it is on its way");
            world.request.begun.under_way.remove(&this);
            world.request.begun.over.insert(this);
            let install = Install { certificate: name.clone(), version, lacks: Lacks::Never, despite: None };
            let action = Action::Deploy { host: host.clone(), installs: vec![install] };
            match how {
                0 => world.succeed(&action),
                1 => world.fail(&action, Retry::Backoff),
                _ => {
                    world.fail(&action, Retry::Backoff);
                    let of = world.state.hosts.get_mut(&host).and_then(|of| of.get_mut(&name));
                    of.expect("it has failed").rejected = Some(version);
                }
            }
        }
    }

    #[test]
    fn what_is_close_to_its_end_waits_for_no_canary_and_no_mended_host(world in any_world()) {
        for waiting in &world.plan().waiting {
            if let Waiting::Canary(name, host, _) | Waiting::Stopped(name, host, ..) = waiting {
                prop_assert!(!world.is_close(host, name), "{name} on {host}: {waiting}");
            }
        }
    }

    #[test]
    fn nothing_is_held_back_from_a_host_that_has_nothing_to_lose(world in any_world()) {
        for (name, host) in held(&world.plan()) {
            prop_assert!(!world.losses(&host, &name).is_empty(), "{name} on {host}");
        }
    }

    #[test]
    fn others_wait_until_a_canary_is_served_and_nothing_failed(world in any_world()) {
        let forced = matches!(world.request.deploying, Deploying::Forced(_));
        for (name, host) in installs(&world.plan()) {
            let certificate = &world.desired.certificates[&name];
            let Some(rollout) = certificate.rollout.as_ref().filter(|_| !forced) else { continue };
            if world.losses(&host, &name).is_empty() || world.is_close(&host, &name) {
                continue;
            }
            let canaries: Vec<_> = rollout.canary.iter().filter(|host| certificate.hosts.contains(host)).collect();
            let (number, _) = world.newest(&name).expect("it is installed");
            let failed_on = |host: &HostName| {
                let facts = world.state.hosts.get(host).and_then(|of| of.get(&name));
                facts.is_some_and(|facts| facts.rejected == Some(number)) && !world.is_served(host, &name)
            };
            let stopped = certificate.hosts.iter().any(failed_on);
            prop_assert!(!stopped || failed_on(&host), "{name} on {host}, although it failed elsewhere");
            let proven = canaries.iter().any(|canary| {
                let installed = world.state.hosts.get(canary).and_then(|of| of.get(&name)?.installed.as_ref());
                world.is_served(canary, &name)
                    || installed.is_some_and(|installed| installed.version == number && !installed.pending)
            });
            prop_assert!(
                canaries.is_empty() || canaries.contains(&&host) || proven || failed_on(&host),
                "{name} on {host} before its canary"
            );
        }
    }
}
