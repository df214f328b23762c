//! What the daemon says: to the journal with fields to search for, else the lines that people read.

use tracing::Level;

use super::progress::{Progress, line};
use crate::engine::{Event, Listener};
use crate::model::name::{CertName, HostName};
use crate::model::problem::Problem;

/// Where the daemon's words go.
pub enum Log {
    /// To journald, by `tracing`.
    Journal,
    /// To standard error.
    Plain(Progress),
}

/// What the journal can search for.
#[derive(Default)]
struct Fields<'a> {
    certificate: Option<&'a CertName>,
    host: Option<&'a HostName>,
    code: Option<&'a str>,
}

impl Log {
    /// Says something about the daemon itself.
    pub fn say(&self, level: Level, text: &str, code: Option<&str>) {
        match self {
            Self::Journal => tell(level, text, &Fields { code, ..Fields::default() }),
            Self::Plain(progress) => progress.say(text),
        }
    }

    /// Says what is wrong with the daemon itself.
    pub fn complain(&self, problem: &Problem, next: Option<&str>) {
        self.say(Level::ERROR, &super::problem(problem, next), Some(&problem.code));
    }
}

impl Listener for Log {
    fn notice(&self, event: &Event) {
        // Every pass looks at every host: nothing new.
        if matches!(event, Event::Observing(_)) {
            return;
        }
        match self {
            Self::Plain(progress) => progress.notice(event),
            Self::Journal => {
                if let Some(line) = line(event) {
                    tell(level(event), &line.text(), &fields(event));
                }
            }
        }
    }
}

fn tell(level: Level, text: &str, fields: &Fields<'_>) {
    // The macro wants its level, and the names of fields, when it is compiled.
    macro_rules! tell {
        ($level:expr) => {
            tracing::event!(
                $level,
                certfleet_certificate = fields.certificate.map(tracing::field::display),
                certfleet_host = fields.host.map(tracing::field::display),
                certfleet_code = fields.code,
                "{text}"
            )
        };
    }
    match level {
        Level::ERROR => tell!(Level::ERROR),
        Level::WARN => tell!(Level::WARN),
        Level::INFO => tell!(Level::INFO),
        Level::DEBUG => tell!(Level::DEBUG),
        Level::TRACE => tell!(Level::TRACE),
    }
}

/// In the journal: error, warning, notice, info.
fn level(event: &Event) -> Level {
    match event {
        Event::IssueFailed(..)
        | Event::DeployFailed(..)
        | Event::PutBack(..)
        | Event::RehearsalFailed(..)
        | Event::HostFailed(..) => Level::ERROR,
        Event::NextIssuer(..)
        | Event::OtherChain(..)
        | Event::CleanUpFailed(..)
        | Event::Pending(..)
        | Event::Drifted(..)
        | Event::NotSeen(..)
        | Event::NotNoted(_)
        | Event::Oddity(_) => Level::WARN,
        Event::Issued(..)
        | Event::DeployWouldDo(..)
        | Event::Served(..)
        | Event::Revoked(..)
        | Event::OrderOver(_)
        | Event::CleanedUp(..)
        | Event::Registered(_)
        | Event::Ending => Level::INFO,
        Event::Observing(_)
        | Event::Locked(..)
        | Event::Issuing(..)
        | Event::Step(..)
        | Event::Rehearsed(..)
        | Event::HostTested(_)
        | Event::AlreadyIssued(_)
        | Event::Deploying(..) => Level::DEBUG,
    }
}

fn fields(event: &Event) -> Fields<'_> {
    let none = Fields::default();
    match event {
        Event::Locked(name, _)
        | Event::Issuing(name, ..)
        | Event::DeployWouldDo(name, ..)
        | Event::Step(name, _)
        | Event::OtherChain(name, ..)
        | Event::Revoked(name, ..)
        | Event::Rehearsed(name, ..)
        | Event::Issued(name, ..)
        | Event::AlreadyIssued(name)
        | Event::OrderOver(name)
        | Event::CleanedUp(name, _) => Fields { certificate: Some(name), ..none },
        Event::NextIssuer(name, why)
        | Event::RehearsalFailed(name, why)
        | Event::IssueFailed(name, why, _)
        | Event::CleanUpFailed(name, why) => {
            Fields { certificate: Some(name), code: Some(&why.code), ..none }
        }
        Event::Served(name, host, ..) | Event::Drifted(name, host, _) => {
            Fields { certificate: Some(name), host: Some(host), ..none }
        }
        Event::Pending(name, host, _, why)
        | Event::PutBack(name, host, _, why)
        | Event::DeployFailed(name, host, _, why) => {
            Fields { certificate: Some(name), host: Some(host), code: Some(&why.code) }
        }
        Event::HostFailed(host, why) | Event::NotSeen(host, why) => {
            Fields { host: Some(host), code: Some(&why.code), ..none }
        }
        Event::HostTested(host) | Event::Deploying(host, _) => Fields { host: Some(host), ..none },
        Event::NotNoted(why) | Event::Oddity(why) => Fields { code: Some(&why.code), ..none },
        Event::Observing(_) | Event::Registered(_) | Event::Ending => none,
    }
}
