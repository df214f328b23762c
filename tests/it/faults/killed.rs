//! Transactions whose processes are killed on the host, all at once, at one of its steps: a power cut, as far as
//! files are concerned.

use super::place::both;
use super::{Case, Ends, Fault, Mend, Place, tried};
use crate::transaction::killed::TOOLS;
use crate::world::parts;

/// Kills at this step.
const fn at(host: &'static str, what: &'static str, fault: Fault) -> Case {
    Case::new(host, what, fault, Ends::Cut("deploy.no-answer"), &[])
}

const CASES: &[Case] = &[
    at("step-6", "all processes of the session killed at step 6", |place| killed(place, 6)),
    at("step-10", "all processes of the session killed at step 10", |place| killed(place, 10)),
    at("step-14", "all processes of the session killed at step 14", |place| killed(place, 14)),
    at("step-18", "all processes of the session killed at step 18", |place| killed(place, 18)),
    at("step-22", "all processes of the session killed at step 22", |place| killed(place, 22)),
    at("step-24", "all processes of the session killed at step 24", |place| killed(place, 24)),
    at("step-26", "all processes of the session killed at step 26", |place| killed(place, 26)),
    at("step-30", "all processes of the session killed at step 30", |place| killed(place, 30)),
];

#[test]
fn killed_on_the_host() {
    tried(CASES);
}

/// Tools that count their calls, and of which one kills all that runs in the session.
fn killed<'a>(place: &'a Place<'a>, step: usize) -> Mend<'a> {
    let calls = place.path("calls");
    TOOLS.into_iter().fold(Box::new(|| ()), |mend, tool| {
        let real = parts::find(tool).unwrap();
        let text = format!(
            "echo x >>{calls}; [ $(wc -l <{calls}) -lt {step} ] || kill -9 0; exec {real} \"$@\"",
            calls = calls.display(),
            real = real.display()
        );
        both(mend, place.program(tool, &text))
    })
}
