//! rumqttc's codec as a second opinion on PUBLISH and CONNECT; any bytes, cut anywhere, without a panic.

use std::{collections::HashSet, mem::discriminant};

use bytes::Bytes;
use proptest::prelude::*;
use rumqttc::{
    mqttbytes::{QoS as QosV4, v4},
    v5::mqttbytes::{QoS as QosV5, v5},
};

use super::*;

fn properties() -> impl Strategy<Value = v5::PublishProperties> {
    let text = || proptest::option::of("[a-zü]{0,9}");
    let pairs = proptest::collection::vec(("[a-z]{0,5}", "[a-zü]{0,200}"), 0..4);
    (
        proptest::option::of(0..2_u8),
        proptest::option::of(any::<u32>()),
        text(),
        text(),
        proptest::option::of(any::<Vec<u8>>()),
        pairs,
    )
        .prop_map(|(format, expiry, content_type, response_topic, correlation, user_properties)| {
            v5::PublishProperties {
                payload_format_indicator: format,
                message_expiry_interval: expiry,
                topic_alias: None,
                response_topic,
                correlation_data: correlation.map(Bytes::from),
                user_properties,
                // The codec cannot read its own: it counts the identifier's byte twice.
                subscription_identifiers: Vec::new(),
                content_type,
            }
        })
}

fn one_reading(version: Version, bytes: &[u8]) -> Reading {
    let mut wire = Wire::open(version, Qos::ExactlyOnce);
    let events = wire.hear(bytes).unwrap();
    match &events[..] {
        [Event::Reading(reading)] => reading.clone(),
        other => panic!("{other:?}"),
    }
}

fn assert_properties(ours: &Properties, theirs: &v5::PublishProperties) {
    assert_eq!(ours.content_type(), theirs.content_type.as_deref().map(str::as_bytes));
    let response_topic = theirs.response_topic.as_deref().map(|topic| Property::ResponseTopic(topic.as_bytes()));
    assert_eq!(ours.iter().find(|property| matches!(property, Property::ResponseTopic(_))), response_topic);
    assert_eq!(ours.correlation_data(), theirs.correlation_data.as_deref());
    let expiry = theirs.message_expiry_interval.map(Property::MessageExpirySecs);
    assert_eq!(ours.iter().find(|property| matches!(property, Property::MessageExpirySecs(_))), expiry);
    let format = theirs.payload_format_indicator.map(Property::PayloadFormat);
    assert_eq!(ours.iter().find(|property| matches!(property, Property::PayloadFormat(_))), format);
    let user: Vec<_> = ours.user().collect();
    let theirs: Vec<_> =
        theirs.user_properties.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    assert_eq!(user, theirs);
}

/// A property came twice that may come once [MQTT-3.3.2.3]: the codec goes by the last, we by the first, and neither refuses.
fn has_repeats(properties: &Properties) -> bool {
    let may_repeat = |property: &Property<'_>| matches!(property, Property::User(..) | Property::SubscriptionId(_));
    let mut seen = HashSet::new();
    properties.iter().filter(|property| !may_repeat(property)).any(|property| !seen.insert(discriminant(&property)))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_publish_reads_as_the_codec_wrote_it_v5(
        topic in "[a-zü/$ ]{1,300}",
        payload in any::<Vec<u8>>(),
        qos in 0..3_u8,
        packet_id in 1..=u16::MAX,
        (is_retained, is_duplicate) in any::<(bool, bool)>(),
        properties in proptest::option::of(properties()),
    ) {
        let theirs = v5::Publish {
            dup: is_duplicate,
            qos: [QosV5::AtMostOnce, QosV5::AtLeastOnce, QosV5::ExactlyOnce][usize::from(qos)],
            retain: is_retained,
            topic: topic.clone().into(),
            pkid: if qos == 0 { 0 } else { packet_id },
            payload: payload.clone().into(),
            properties: properties.clone(),
        };
        let mut bytes = BytesMut::new();
        theirs.write(&mut bytes).unwrap();
        let ours = one_reading(Version::V5, &bytes);
        prop_assert_eq!((&ours.topic[..], &ours.payload[..]), (topic.as_bytes(), &payload[..]));
        prop_assert_eq!((ours.qos.number(), ours.is_retained, ours.is_duplicate), (qos, is_retained, is_duplicate));
        assert_properties(&ours.properties, &properties.unwrap_or_default());
    }

    #[test]
    fn a_publish_reads_as_the_codec_wrote_it_v311(
        topic in "[a-zü/$ ]{1,300}",
        payload in any::<Vec<u8>>(),
        qos in 0..3_u8,
        packet_id in 1..=u16::MAX,
        (is_retained, is_duplicate) in any::<(bool, bool)>(),
    ) {
        let qos_v4 = [QosV4::AtMostOnce, QosV4::AtLeastOnce, QosV4::ExactlyOnce][usize::from(qos)];
        let mut theirs = v4::Publish::new(&topic[..], qos_v4, payload.clone());
        (theirs.dup, theirs.retain, theirs.pkid) = (is_duplicate, is_retained, if qos == 0 { 0 } else { packet_id });
        let mut bytes = BytesMut::new();
        theirs.write(&mut bytes).unwrap();
        let ours = one_reading(Version::V311, &bytes);
        prop_assert_eq!((&ours.topic[..], &ours.payload[..]), (topic.as_bytes(), &payload[..]));
        prop_assert_eq!((ours.qos.number(), ours.is_retained, ours.is_duplicate), (qos, is_retained, is_duplicate));
        prop_assert!(ours.properties.is_empty());
    }

    /// What both can read, they read alike; what only one refuses is refused for a rule that the other does not know.
    #[test]
    fn any_publish_body_is_read_alike_or_refused(flags in 0..16_u8, body in publish_bodies(), is_v5 in any::<bool>()) {
        let mut bytes = BytesMut::from(&[0x30 | flags, u8::try_from(body.len()).unwrap()][..]);
        bytes.extend_from_slice(&body);
        let version = if is_v5 { Version::V5 } else { Version::V311 };
        let ours = Wire::open(version, Qos::ExactlyOnce).hear(&bytes);
        if is_v5 {
            let theirs = v5::Packet::read(&mut bytes, None);
            match (ours.as_deref(), theirs) {
                (Ok([Event::Reading(ours)]), Ok(v5::Packet::Publish(theirs))) => {
                    prop_assert_eq!((&ours.topic, &ours.payload), (&theirs.topic, &theirs.payload));
                    if !has_repeats(&ours.properties) {
                        assert_properties(&ours.properties, &theirs.properties.unwrap_or_default());
                    }
                }
                (Ok([Event::Reading(ours)]), Err(_)) => prop_assert!(!ours.properties.is_empty()),
                (Ok(other), _) => panic!("{other:?}"),
                (Err(SessionError::Protocol(_)), _) => {}
                (Err(other), _) => panic!("{other:?}"),
            }
        } else {
            match (ours.as_deref(), v4::Packet::read(&mut bytes, usize::MAX)) {
                (Ok([Event::Reading(ours)]), Ok(v4::Packet::Publish(theirs))) => {
                    prop_assert_eq!((&ours.topic[..], &ours.payload), (theirs.topic.as_bytes(), &theirs.payload));
                }
                (Err(SessionError::Protocol(_)), _) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        version in prop::sample::select(&VERSIONS[..]),
        is_open in any::<bool>(),
        packets in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..8),
        noise in any::<Vec<u8>>(),
    ) {
        let mut wire = Wire::new(settings(version, Qos::ExactlyOnce));
        if is_open {
            wire.reconnect(false);
        } else {
            wire.session.connect(wire.now, &mut wire.out).unwrap();
        }
        for (first, body) in packets {
            let bytes = [&[first, u8::try_from(body.len()).unwrap()], &body[..]].concat();
            if wire.hear(&bytes).is_err() {
                break;
            }
        }
        let _ = wire.hear(&noise);
        wire.session.ack_up_to(Seq(u64::MAX), &mut wire.out);
        let _ = wire.session.tick(wire.now + Duration::from_secs(3_600), &mut wire.out, true);
    }

    #[test]
    fn a_stream_reads_alike_however_it_is_cut(
        version in prop::sample::select(&VERSIONS[..]),
        sizes in proptest::collection::vec(1..30_usize, 1..40),
    ) {
        let stream: Vec<u8> =
            (1..40).flat_map(|id| publish(version, u8::try_from(id % 3).unwrap(), id, false, &id.to_string())).collect();
        let whole = Wire::open(version, Qos::ExactlyOnce).hear(&stream).unwrap();
        let mut wire = Wire::open(version, Qos::ExactlyOnce);
        let (mut input, mut events, mut rest) = (BytesMut::new(), Vec::new(), &stream[..]);
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (head, tail) = rest.split_at((*size).min(rest.len()));
            rest = tail;
            input.extend_from_slice(head);
            while let Some(event) = wire.session.next(&mut input, wire.now, &mut wire.out).unwrap() {
                events.push(event);
            }
        }
        prop_assert_eq!(events, whole);
    }

    #[test]
    fn connect_reads_as_it_was_meant(
        username in proptest::option::of("[a-zü]{0,20}"),
        password in proptest::option::of("[a-zü]{0,200}"),
        keep_alive in 0..70_000_u64,
    ) {
        let mut settings = settings(Version::V5, Qos::AtLeastOnce);
        settings.username.clone_from(&username);
        settings.password = password.clone().map(String::into_bytes);
        settings.keep_alive = Duration::from_secs(keep_alive);
        let mut wire = Wire::new(settings);
        wire.session.connect(wire.now, &mut wire.out).unwrap();
        let v5::Packet::Connect(connect, will, login) = v5::Packet::read(&mut wire.out, None).unwrap() else {
            panic!("not a CONNECT");
        };
        prop_assert!(wire.out.is_empty() && will.is_none() && !connect.clean_start);
        prop_assert_eq!(connect.client_id, "sluice-readings-0");
        prop_assert_eq!(u64::from(connect.keep_alive), keep_alive.min(65_535));
        let login = login.unwrap_or(v5::Login { username: String::new(), password: String::new() });
        prop_assert_eq!((login.username, login.password), (username.unwrap_or_default(), password.unwrap_or_default()));
        let properties = connect.properties.unwrap();
        prop_assert_eq!(properties.session_expiry_interval, Some(u32::MAX));
        prop_assert_eq!(properties.receive_maximum, Some(100));
        prop_assert_eq!(properties.topic_alias_max, Some(0));
        prop_assert_eq!(properties.max_packet_size, None);
    }
}

/// Bodies near enough to a PUBLISH that many get past the topic.
fn publish_bodies() -> impl Strategy<Value = Vec<u8>> {
    let tail = proptest::collection::vec(prop_oneof![0..5_u8, any::<u8>()], 0..40);
    ("[a-z/+#\0]{0,6}", tail, any::<bool>()).prop_map(|(topic, tail, is_cut)| {
        let length = u8::try_from(topic.len()).unwrap() + if is_cut { 9 } else { 0 };
        [&[0, length], topic.as_bytes(), &tail[..]].concat()
    })
}
