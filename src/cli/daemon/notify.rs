//! What the service manager is told, by the protocol of sd_notify(3). Without one all of it is nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// It is up, and again after a reload.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// What `systemctl status` shows.
pub(super) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// It is alive.
pub(super) fn alive() {
    if sd_notify::watchdog_enabled().is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

/// The configuration is being read again; [`ready`] ends that.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// It has begun to end.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("ending: removing challenge records first")]);
}

/// How often it has to say that it is alive: twice as often as it is asked to.
pub(super) fn beat() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn tell(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
