//! `sluice demo`: an embedded MQTT broker, an embedded Kafka, sensors and a node in one process.
