//! What holds for the ladder whatever happens: weeks of trouble, dead channels, people who acknowledge, restarts,
//! and clocks that jump.

use std::collections::BTreeMap;

use certfleet::model::alert::{
    Affected, Condition, Level, Memory, Occasion, Subject, delivered, due_letters, failed, step,
};
use certfleet::model::problem::Retry;
use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::facts;

const CHANNELS: [&str; 3] = ["chat", "mail", "pager"];
const LEVELS: [Level; 3] = [Level::Warning, Level::Critical, Level::Emergency];
/// The longest time between two looks of a simulation.
const LOOK: i64 = 60;
/// The longest pause of the outbox.
const PAUSE: i64 = 15;

/// Something that happens; then it is looked at.
#[derive(Debug, Clone)]
enum Event {
    /// Nothing but time.
    Time,
    /// Of this cause, that subject is this bad; or not at all.
    Is(usize, usize, Option<usize>),
    /// A channel works, or does not.
    Channel(usize, bool),
    /// Somebody takes on the alert of this cause.
    Ack(usize),
    /// The clock is set by so many minutes.
    Clock(i64),
}

fn event(jumps: bool) -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Time),
        4 => (0..2_usize, 0..3_usize, prop::option::of(0..3_usize)).prop_map(|(a, b, c)| Event::Is(a, b, c)),
        2 => (0..3_usize, any::<bool>()).prop_map(|(channel, works)| Event::Channel(channel, works)),
        1 => (0..2_usize).prop_map(Event::Ack),
        u32::from(jumps) => (-100_000..100_000_i64).prop_map(Event::Clock),
    ]
}

/// A notice that has arrived.
#[derive(Debug, Clone)]
struct Arrived {
    alert: String,
    channel: String,
    occasion: Occasion,
    level: Level,
    /// Minutes since the beginning, whatever the clock says.
    at: i64,
}

#[derive(Debug)]
struct Simulation {
    memory: Memory,
    order: Vec<String>,
    works: [bool; 3],
    facts: BTreeMap<(usize, usize), Level>,
    /// Minutes since the beginning, and how far the clock is off.
    time: i64,
    off: i64,
    /// When the clock was set forward, and when it was last set back.
    forward: Vec<i64>,
    back: i64,
    arrived: Vec<Arrived>,
}

impl Simulation {
    fn new() -> Self {
        Self {
            memory: Memory::default(),
            order: CHANNELS.map(str::to_owned).to_vec(),
            works: [true; 3],
            facts: BTreeMap::new(),
            time: 0,
            off: 0,
            forward: Vec::new(),
            back: i64::MIN,
            arrived: Vec::new(),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_780_315_200 + (self.time + self.off) * 60).unwrap()
    }

    fn take(&mut self, event: &Event) {
        match *event {
            Event::Time => {}
            Event::Is(cause, key, level) => match level {
                Some(level) => drop(self.facts.insert((cause, key), LEVELS[level])),
                None => drop(self.facts.remove(&(cause, key))),
            },
            Event::Channel(channel, works) => self.works[channel] = works,
            Event::Ack(cause) => {
                let cause = format!("cause {cause}");
                let found =
                    self.memory.open().find(|(_, alert)| alert.cause == cause).map(|(id, _)| id.clone());
                let now = self.now();
                found.into_iter().for_each(|id| self.memory.acknowledge(&id, "eva", now).unwrap());
            }
            Event::Clock(minutes) => {
                self.off += minutes;
                match minutes < 0 {
                    true => self.back = self.time,
                    false => self.forward.push(self.time),
                }
            }
        }
    }

    fn conditions(&self) -> Vec<Condition> {
        let causes: std::collections::BTreeSet<usize> = self.facts.keys().map(|(cause, _)| *cause).collect();
        let affected = |cause: usize| {
            let of = self.facts.iter().filter(|((of, _), _)| *of == cause);
            let of = of.map(|((_, key), level)| Affected {
                key: key.to_string(),
                level: *level,
                subject: Subject { certificate: None, host: None, text: format!("subject {key}") },
                muted: false,
                round: 0,
            });
            of.collect()
        };
        let condition = |cause: usize| Condition {
            cause: format!("cause {cause}"),
            code: "certificate.expires".to_owned(),
            since: self.now(),
            title: format!("cause {cause}"),
            affected: affected(cause),
            reason: None,
            next: None,
            remedy: None,
        };
        causes.into_iter().map(condition).collect()
    }

    /// A pass of another process than before, as the engine does it.
    fn look(&mut self) {
        let text = serde_json::to_string(&self.memory).unwrap();
        self.memory = serde_json::from_str(&text).unwrap();
        for _ in 0..2 {
            let (conditions, now) = (self.conditions(), self.now());
            step(&mut self.memory, conditions, &self.order, true, now);
            for letter in due_letters(&self.memory, self.now()) {
                let (channel, alert, now) = (&letter.channel, &letter.notice.alert, self.now());
                let place = CHANNELS.iter().position(|name| name == channel);
                if place.is_some_and(|place| !self.works[place]) {
                    let problem = facts::problem("notify.refused", Retry::Backoff);
                    failed(&mut self.memory, channel, alert, Some(&problem), now);
                    continue;
                }
                delivered(&mut self.memory, channel, alert, now);
                self.arrived.push(Arrived {
                    alert: alert.clone(),
                    channel: channel.clone(),
                    occasion: letter.notice.occasion,
                    level: letter.notice.level,
                    at: self.time,
                });
            }
        }
    }

    /// Nobody is left alone with what goes on, and nobody is told too often.
    fn check(&self) -> Result<(), TestCaseError> {
        // With a clock that was set back it is not said to be over what is not there any more.
        let is_so = |cause: &str| self.facts.keys().any(|(of, _)| format!("cause {of}") == cause);
        for (id, alert) in self.memory.open().filter(|(_, alert)| is_so(&alert.cause)) {
            let Some(level) = alert.level() else { continue };
            let period = level.period().as_secs() / 60;
            let last = self.arrived.iter().rev().find(|arrived| arrived.alert == *id);
            let Some(last) = last else {
                prop_assert!(false, "{id} is open, and nobody was told: {alert:?}");
                continue;
            };
            // A clock that was set back lets a period begin anew.
            let silence = self.time - last.at.max(self.back);
            prop_assert!(silence <= period + LOOK + PAUSE, "{silence} minutes of silence about {alert:?}");
            if self.works.iter().all(|works| *works) && self.memory.outbox.is_empty() {
                let first = alert.told.get(CHANNELS[0]);
                let knows = first.is_some_and(|told| told.level >= level);
                prop_assert!(knows, "the first channel does not know that it is {level:?}: {alert:?}");
            }
            let count = match (level, alert.critical_since) {
                (Level::Emergency, _) => 3,
                (Level::Critical, Some(since)) => 1 + since.duration_until(self.now()).as_hours(),
                _ => 1,
            };
            let told = i64::try_from(alert.told.len()).unwrap();
            prop_assert!(told >= count.min(3), "only {told} of {count} channels know of {alert:?}");
        }
        for (at, arrived) in
            self.arrived.iter().enumerate().filter(|(_, it)| it.occasion == Occasion::Repeated)
        {
            let same = |other: &&Arrived| other.alert == arrived.alert && other.channel == arrived.channel;
            let Some(before) = self.arrived[..at].iter().rev().find(same) else {
                prop_assert!(false, "repeated, and never said before: {arrived:?}");
                continue;
            };
            let pause = arrived.at - before.at;
            // It may have been put into the outbox when it was worse.
            let period = arrived.level.max(before.level).period().as_secs() / 60;
            let jumped = self.forward.iter().any(|at| (before.at..=arrived.at).contains(at));
            prop_assert!(jumped || pause >= period, "{arrived:?} {pause} minutes after {before:?}");
        }
        Ok(())
    }

    /// All is well again, and stays so.
    fn heal(&mut self) {
        self.facts.clear();
        self.works = [true; 3];
        for _ in 0..60 {
            self.time += LOOK;
            self.look();
        }
    }

    fn check_over(&self) -> Result<(), TestCaseError> {
        prop_assert!(self.memory.outbox.is_empty(), "left in the outbox: {:?}", self.memory.outbox);
        prop_assert!(self.memory.open().next().is_none(), "still open: {:?}", self.memory.alerts);
        let mut last: BTreeMap<(&str, &str), Occasion> = BTreeMap::new();
        for arrived in &self.arrived {
            last.insert((&arrived.alert, &arrived.channel), arrived.occasion);
        }
        for (who, occasion) in last {
            prop_assert_eq!(occasion, Occasion::Over, "{:?} was not told that it is over", who);
        }
        Ok(())
    }
}

fn simulate(events: &[(i64, Event)]) -> Result<(), TestCaseError> {
    let mut simulation = Simulation::new();
    for (minutes, event) in events {
        simulation.time += minutes;
        simulation.take(event);
        simulation.look();
        simulation.check()?;
    }
    simulation.heal();
    simulation.check_over()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn people_are_told_in_time_and_not_too_often_and_of_the_end(
        events in vec((1..=LOOK, event(false)), 1..150)
    ) {
        simulate(&events)?;
    }

    #[test]
    fn clocks_that_jump_bring_neither_storm_nor_silence(events in vec((1..=LOOK, event(true)), 1..150)) {
        simulate(&events)?;
    }
}

#[test]
fn a_month_of_an_emergency_is_told_once_an_hour() {
    let mut simulation = Simulation::new();
    simulation.take(&Event::Is(0, 0, Some(2)));
    for _ in 0..30 * 24 * 4 {
        simulation.look();
        simulation.time += 15;
    }
    assert_eq!(simulation.arrived.len(), 30 * 24 * CHANNELS.len());
    let gap = SignedDuration::from_hours(1);
    assert_eq!(Level::Emergency.period(), gap);
}
