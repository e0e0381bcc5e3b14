//! What to do about each error that Kafka can give a record. PURE.
//!
//! librdkafka retries by itself, for ever (`message.timeout.ms` 0), whatever may pass: a broker that is away, a leader
//! that moves. What it reports as failed is final for the request, and the whole request failed: a batch of thousands
//! for the one record in it that Kafka refuses.

use rdkafka::error::RDKafkaErrorCode as Code;

/// What a failed record calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may pass: hand the record over again.
    Retry,
    /// Kafka refuses some record of the request for good: find out which, by sending each alone.
    Refused,
    /// Every record of this kind would fail until an operator mends something: stop the shard.
    Stop,
    /// The producer is finished: make a new one, let MQTT send everything unacknowledged again.
    Fatal,
}

/// The table.
pub(crate) fn verdict(code: Code) -> Verdict {
    match code {
        // The record itself.
        Code::MessageSizeTooLarge
        | Code::InvalidMessage
        | Code::InvalidMessageSize
        | Code::MessageBatchTooLarge
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::UnsupportedForMessageFormat
        | Code::PolicyViolation
        | Code::InvalidTopic
        | Code::BadMessage
        | Code::InvalidArgument => Verdict::Refused,

        // The topic, the rights, the configuration.
        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SecurityDisabled
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::UnsupportedCompressionType
        | Code::InvalidRequiredAcks
        | Code::InvalidConfig
        | Code::InvalidRequest => Verdict::Stop,

        // The producer's identity or sequence.
        Code::Fatal
        | Code::Fenced
        | Code::InvalidProducerEpoch
        | Code::InvalidProducerIdMapping
        | Code::OutOfOrderSequenceNumber
        | Code::DuplicateSequenceNumber
        | Code::UnknownProducerId
        | Code::GaplessGuarantee
        | Code::ProducerFenced
        | Code::BrokerDestroy
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::CriticalSystemResource => Verdict::Fatal,

        // Everything else passes, or may: a reading is never given up because of an error that nobody knew.
        _ => Verdict::Retry,
    }
}

/// What an operator should do about an error that stops a shard.
pub(crate) fn advice(code: Code) -> &'static str {
    match code {
        Code::UnknownTopicOrPartition | Code::UnknownTopic => "create the topic, or change the mapping",
        Code::TopicAuthorizationFailed => "allow this user to Write to and Describe the topic",
        Code::ClusterAuthorizationFailed => "allow this user IdempotentWrite on the cluster",
        Code::Authentication | Code::SaslAuthenticationFailed => "check sasl.username and sasl.password",
        Code::UnsupportedSASLMechanism | Code::IllegalSASLState | Code::SecurityDisabled => {
            "check security.protocol and sasl.mechanism against the broker's listener"
        }
        Code::MessageSizeTooLarge => {
            "raise max.message.bytes of the topic and message.max.bytes of the pipeline's sink"
        }
        _ => "see Kafka's own log for the reason",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_never_a_reason_to_give_a_reading_up() {
        for code in [
            Code::BrokerTransportFailure,
            Code::AllBrokersDown,
            Code::MessageTimedOut,
            Code::OperationTimedOut,
            Code::RequestTimedOut,
            Code::NotEnoughReplicas,
            Code::NotEnoughReplicasAfterAppend,
            Code::LeaderNotAvailable,
            Code::NotLeaderForPartition,
            Code::NetworkException,
            Code::QueueFull,
            Code::Unknown,
        ] {
            assert_eq!(verdict(code), Verdict::Retry, "{code:?}");
        }
    }

    #[test]
    fn a_missing_topic_or_right_stops_and_a_large_record_is_refused() {
        assert_eq!(verdict(Code::UnknownTopic), Verdict::Stop);
        assert_eq!(verdict(Code::TopicAuthorizationFailed), Verdict::Stop);
        assert_eq!(verdict(Code::MessageSizeTooLarge), Verdict::Refused);
    }
}
