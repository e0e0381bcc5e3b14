//! Where a reading goes: MQTT topic → Kafka topic, key and headers. Pure.
