//! SIGHUP: the settings that can change meanwhile are read again, and the network is looked at again.

use super::advice;
use super::bell::Bell;
use super::machine::Totals;
use super::relay_loop::RelayLoop;
use super::service::Service;
use super::settings::{Reloaded, Settings};
use super::supervisor::Supervisor;
use super::{ListenAddresses, api_settings, members_per_party};
use crate::net::http::Door;
use smol::Timer;
use std::rc::Rc;
use std::time::Duration;

/// How long nothing is read again after it was. A router's network comes and goes many times a minute.
const PAUSE: Duration = Duration::from_secs(1);

/// Reads all settings from where they came from; the error is for people.
pub type SettingsSource = Box<dyn Fn() -> Result<Settings, String>>;

/// What a reload needs and changes.
pub(super) struct Reloader {
    /// Rung for every SIGHUP.
    pub bell: Bell,
    pub source: SettingsSource,
    pub settings: Settings,
    pub addresses: ListenAddresses,
    pub service: Rc<Service>,
    pub door: Door<Service>,
    pub relay: Rc<RelayLoop>,
    pub supervisor: Rc<Supervisor>,
    /// What was said last about settings that can't be used or have to wait: it is said once.
    pub said: String,
}

impl Reloader {
    /// Answers the bell, for ever.
    pub async fn keep_listening(mut self) {
        loop {
            self.bell.rung().await;
            self.supervisor.reloading();
            self.reload();
            self.supervisor.reloaded();
            Timer::after(PAUSE).await;
        }
    }

    fn reload(&mut self) {
        self.relay.look_again();
        let complaint = match (self.source)() {
            Ok(new) => {
                let before = self.settings.clone();
                let Reloaded { changed, at_restart } = self.settings.reload(new);
                if changed.is_empty() {
                    log::debug!("SIGHUP: no setting has changed");
                } else {
                    self.apply(&before);
                    log::info!("SIGHUP: changed {}", changed.join(", "));
                }
                match at_restart.is_empty() {
                    true => String::new(),
                    false => format!("restart to change: {}", at_restart.join(", ")),
                }
            }
            Err(error) => format!("the settings stay as they are: {error}"),
        };
        if !complaint.is_empty() && complaint != self.said {
            log::warn!("SIGHUP: {complaint}");
        }
        self.said = complaint;
    }

    fn apply(&self, before: &Settings) {
        let settings = &self.settings;
        log::set_max_level(settings.log);
        let is_new = settings.public_endpoint != before.public_endpoint;
        if let Some(advice) = advice::on_endpoint(settings.public_endpoint.as_ref()).filter(|_| is_new) {
            log::warn!("{advice}");
        }
        self.service.reconfigure(
            |hub| api_settings(settings, hub, self.addresses),
            Totals::by(settings).control(settings),
        );
        self.relay.set_members_per_party(members_per_party(settings));
        let limits = Totals::by(settings).door(settings);
        // Only then: it may have something to say about open files.
        if limits != Totals::by(before).door(before) {
            self.door.set_limits(limits);
        }
    }
}
