//! From a job to what its session and connections are made with.

use sluice_coordinator::model::Session as Recorded;

use super::{job::Job, recorded};
use crate::pipeline::source::{
    connection::Connector,
    session::{Session, Settings},
};

/// What the connections of a task are made with.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) connector: Connector,
    settings: Settings,
}

/// Checks and makes all of it; an error says what is wrong and what to do.
pub(super) fn make(job: &Job) -> Result<Setup, String> {
    let source = &job.manifest.source;
    let connector = Connector::new(source.servers.clone(), job.ca_file.as_deref(), source.connect_timeout);
    let before = job.recorded.as_ref().map_or_else(|| wanted(job), |recorded| recorded.filters.clone());
    let settings = Settings {
        version: source.version,
        client_id: job.client_id.clone(),
        username: job.resolved.username.clone(),
        password: job.resolved.password.as_ref().map(|password| password.expose().to_vec()),
        connack_within: source.connect_timeout,
        keep_alive: source.keep_alive,
        receive_maximum: source.receive_maximum,
        qos: source.qos,
        filters: before.iter().map(|filter| source.subscription(filter)).collect(),
        packet_bytes_max: source.packet_bytes_max,
        expects_session: job.recorded.as_ref().is_some_and(|recorded| recorded.is_open),
        ends_session: false,
    };
    Ok(Setup { connector: connector.map_err(|error| error.to_string())?, settings })
}

impl Setup {
    /// A session that, when it connects, comes from what the broker may have to what the job wants.
    pub(super) fn session(&self, job: &Job) -> Result<Session, String> {
        let mut session = Session::new(self.settings.clone()).map_err(|error| error.to_string())?;
        let wanted: Vec<_> = wanted(job).iter().map(|filter| job.manifest.source.subscription(filter)).collect();
        session.change_filters(&wanted).map_err(|error| error.to_string())?;
        Ok(session)
    }

    /// What the broker may have once the job has begun: all that it had, and all that the job wants.
    pub(super) fn recorded_before(&self, job: &Job) -> Recorded {
        recorded::before(job.recorded.as_ref(), wanted(job), job.revision)
    }

    /// What the broker has, once it has answered: what it did not unsubscribe is kept, so that the next task asks again.
    pub(super) fn recorded_after(&self, job: &Job, session: &Session) -> Recorded {
        let may_have = |filter: &str| session.may_have(&job.manifest.source.subscription(filter));
        recorded::after(self.recorded_before(job), &wanted(job), may_have)
    }

    /// Settings of a connection that makes an MQTT 3.1.1 broker forget the session.
    pub(super) fn ending_settings(&self) -> Settings {
        Settings { ends_session: true, ..self.settings.clone() }
    }
}

fn wanted(job: &Job) -> Vec<String> {
    recorded::wanted(job.purpose, job.manifest.source.topics.iter().map(ToString::to_string).collect())
}
