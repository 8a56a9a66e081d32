//! SIGHUP: the settings that can change meanwhile are read again, and the network is looked at again.

use super::config::{Config, Reloaded};
use super::forwarder::Forwarder;
use super::machine::Totals;
use super::service::Service;
use super::supervisor::Supervisor;
use super::{Addresses, api_settings, members_per_party};
use crate::net::http::Door;
use smol::Timer;
use smol::channel::{Receiver, Sender};
use std::rc::Rc;
use std::time::Duration;

/// How long nothing is read again after it was. A router's network comes and goes many times a minute.
const PAUSE: Duration = Duration::from_secs(1);

/// Rung for every SIGHUP. Rings that nobody has answered yet are one.
#[derive(Clone, Debug)]
pub struct Bell(Sender<()>, Receiver<()>);

impl Default for Bell {
    fn default() -> Self {
        let (sender, receiver) = smol::channel::bounded(1);
        Bell(sender, receiver)
    }
}

impl Bell {
    /// Asks for a reload.
    pub fn ring(&self) {
        // A full channel is a ring that will be answered.
        let _ = self.0.try_send(());
    }
}

/// Reads all settings from where they came from; the error is for people.
pub type Source = Box<dyn Fn() -> Result<Config, String>>;

/// What a reload needs and changes.
pub(super) struct Reloader {
    pub bell: Bell,
    pub source: Source,
    pub config: Config,
    pub addresses: Addresses,
    pub service: Rc<Service>,
    pub door: Door<Service>,
    pub forwarder: Rc<Forwarder>,
    pub supervisor: Rc<Supervisor>,
    /// What was said last about settings that can't be used or have to wait: it is said once.
    pub said: String,
}

impl Reloader {
    /// Answers the bell, for ever.
    pub async fn keep_listening(mut self) {
        while self.bell.1.recv().await.is_ok() {
            self.supervisor.reloading();
            self.reload();
            self.supervisor.reloaded();
            Timer::after(PAUSE).await;
        }
    }

    fn reload(&mut self) {
        self.forwarder.look_again();
        let complaint = match (self.source)() {
            Ok(new) => {
                let before = self.config.clone();
                let Reloaded { changed, at_restart } = self.config.reload(new);
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

    fn apply(&self, before: &Config) {
        let config = &self.config;
        log::set_max_level(config.log);
        self.service
            .reconfigure(|hub| api_settings(config, hub, self.addresses), Totals::by(config).control(config));
        self.forwarder.set_members_per_party(members_per_party(config));
        let limits = Totals::by(config).door(config);
        // Only then: it may have something to say about open files.
        if limits != Totals::by(before).door(before) {
            self.door.set_limits(limits);
        }
    }
}
