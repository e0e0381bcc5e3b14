//! Readings out to Kafka: batches per partition in, delivery reports out.
