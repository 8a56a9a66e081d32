//! Several instances of one realm: taking a place among them.

use super::settings::Settings;
use super::supervisor::Supervisor;
use super::{Daemon, DaemonError, clock};
use crate::store::postgres::{Joined, Replica, Target};
use crate::store::{self, Store};
use smol::future::FutureExt;
use std::cell::RefCell;
use std::future::pending;

/// An instance's place in its realm.
pub(super) struct InstanceSeat {
    /// Which realm, and as whom.
    pub target: Target,
    /// What it has if it follows.
    pub replica: Option<Replica>,
}

impl Daemon {
    /// As [`Daemon::open`]; as an instance of a realm as soon as that has a state, or nobody else to make one. `None` if
    /// `stop` was ready before.
    pub fn open_in_turn(
        settings: Settings,
        supervisor: &Supervisor,
        stop: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<Option<Self>, DaemonError> {
        let Some(target) = settings.cluster.target(settings.http).map_err(DaemonError::Setting)? else {
            return Self::open(settings).map(Some);
        };
        let own = settings.http.ip();
        if settings.cluster.url.is_none() && (own.is_loopback() || own.is_unspecified()) {
            log::warn!(
                "instance_url is not set, and {} is no address at which instances on other machines reach this one: set \
                 it, as in --instance-url http://10.0.0.1:8667",
                settings.http
            );
        }
        store::make_directory(&settings.state_dir)?;
        let status = RefCell::new(String::new());
        let tell = |says: &str| {
            log::info!("{says}");
            status.replace(says.to_owned());
            supervisor.ready(says.to_owned());
        };
        let joined = async { Store::join(&target, clock::now, tell).await.map(Some) };
        let stopped = async {
            stop.await;
            Ok(None)
        };
        let company = async {
            supervisor.keep_company(|| status.borrow().clone()).await;
            pending().await
        };
        let Some(joined) = smol::block_on(joined.or(stopped).or(company))? else { return Ok(None) };
        let Joined { store, rows, replica } = joined;
        let daemon = Self::with_store(settings, store, rows)?;
        Ok(Some(Daemon { seat: Some(InstanceSeat { target, replica }), ..daemon }))
    }
}
