//! Readings in from MQTT: connection, session, subscription.
