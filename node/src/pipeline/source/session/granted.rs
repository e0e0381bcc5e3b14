//! What CONNACK says [MQTT-3.2.2]: refused, unusable, or granted with notes on what is less than asked for.

use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::ConnAckProperties;

use super::{
    error::{Refused, SessionError},
    event::Granted,
    packet::Connack,
    settings::{Qos, Settings, unshared},
};

/// Checks CONNACK. `expects_session`: the broker has had the session before.
pub(super) fn check(
    connack: Connack,
    settings: &Settings,
    filters: &[String],
    expects_session: bool,
) -> Result<Granted, SessionError> {
    let properties = connack.properties;
    if connack.code != 0 {
        let (reason, server_reference) =
            properties.map(|properties| (properties.reason_string, properties.server_reference)).unwrap_or_default();
        return Err(SessionError::Refused(Box::new(Refused { code: connack.code, reason, server_reference })));
    }
    let mut granted = Granted {
        is_session_present: connack.is_session_present,
        is_session_lost: expects_session && !connack.is_session_present,
        maximum_qos: Qos::ExactlyOnce,
        keep_alive: Duration::from_secs(u64::from(settings.keep_alive_secs())),
        session_expiry: None,
        is_shared_subscription_available: true,
        is_wildcard_subscription_available: true,
        assigned_client_id: None,
        notes: Vec::new(),
    };
    if let Some(properties) = properties {
        take_properties(&mut granted, properties, settings);
    }
    if !settings.ends_session {
        check_filters(&granted, filters)?;
    }
    if granted.is_session_lost {
        granted.notes.insert(
            0,
            "the MQTT broker had lost the session, and perhaps readings that it had acknowledged: let it keep sessions on disk".into(),
        );
    }
    Ok(granted)
}

fn take_properties(granted: &mut Granted, properties: ConnAckProperties, settings: &Settings) {
    granted.is_shared_subscription_available = properties.shared_subscription_available != Some(0);
    granted.is_wildcard_subscription_available = properties.wildcard_subscription_available != Some(0);
    if let Some(qos) = properties.max_qos.and_then(Qos::from_number) {
        granted.maximum_qos = qos;
        if qos < settings.qos {
            granted.notes.push(format!(
                "the MQTT broker takes at most QoS {qos}, QoS {} is asked for: devices cannot hand it anything more surely",
                settings.qos
            ));
        }
    }
    // The broker ends a connection that is silent for longer than its own [MQTT-3.2.2-21]; ours, where it is shorter or the broker wants
    // none, stays: by it we notice that the broker has gone.
    if let Some(secs) = properties.server_keep_alive.filter(|secs| *secs != 0) {
        let theirs = Duration::from_secs(u64::from(secs));
        granted.keep_alive = if granted.keep_alive.is_zero() { theirs } else { granted.keep_alive.min(theirs) };
    }
    granted.session_expiry = expiry(properties.session_expiry_interval, settings);
    if let Some(expiry) = granted.session_expiry {
        granted.notes.push(format!(
            "the MQTT broker keeps the session for {} s only: what it queues is lost if no node connects for that long; raise its session expiry limit",
            expiry.as_secs()
        ));
    }
    if let Some(id) = properties.assigned_client_identifier.filter(|id| *id != settings.client_id) {
        granted.notes.push(format!(
            "the MQTT broker put the client id {id:?} in place of {:?}: the session will not be found again",
            settings.client_id
        ));
        granted.assigned_client_id = Some(id);
    }
}

/// Absent: as asked [MQTT-3.2.2.3.2].
fn expiry(secs: Option<u32>, settings: &Settings) -> Option<Duration> {
    secs.filter(|secs| *secs != u32::MAX && !settings.ends_session).map(|secs| Duration::from_secs(u64::from(secs)))
}

fn check_filters(granted: &Granted, filters: &[String]) -> Result<(), SessionError> {
    if !granted.is_shared_subscription_available && filters.iter().any(|filter| unshared(filter).is_some()) {
        return Err(SessionError::NotOffered {
            what: "shared subscriptions",
            remedy: "switch them on at the broker, or leave the share group out and use one shard",
        });
    }
    let has_wildcard = |filter: &String| unshared(filter).unwrap_or(filter).contains(['+', '#']);
    if !granted.is_wildcard_subscription_available && filters.iter().any(has_wildcard) {
        return Err(SessionError::NotOffered {
            what: "wildcards in filters",
            remedy: "switch them on at the broker, or name every topic",
        });
    }
    Ok(())
}
